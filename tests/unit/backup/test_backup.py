# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a real server: what is in them, and every damage to one is noticed and named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.backup import back_up, remove_leftovers
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import BackupOptions
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.made_databases import MadeDatabases
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.progress import TablesRead, backup_progress
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import (
    NAMES,
    BackupRecord,
    unchanged_since,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.rehearsal_cluster import CopyRules
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.restore import restore_backup, restored_source
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.steps import make_backup
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle import progress
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Progress, RunOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.tests.support.cluster import (
    MAJOR,
    Cluster,
    bin_directory,
    running_cluster,
    unprivileged_user,
)
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client

METHODS = ("custom", "directory", "basebackup")


@pytest.fixture
def artefacts(tmp_path: Path) -> RunDirectory:
    """A plain artefact directory."""
    made = RunDirectory(str(tmp_path / "manual"))
    made.create()
    return made


def make(client: Client, artefacts: RunDirectory, **wanted: Any) -> BackupRecord:
    return back_up(client, artefacts, BackupOptions(**wanted))[0]


def program(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(bin_directory() / name), *arguments], capture_output=True, text=True, check=False)


def files(directory: str) -> list[str]:
    """Return the names of everything that a backup left, the empty folders of a run aside."""
    return sorted({path.name for path in Path(directory).iterdir()} - {"logs", "schema", "sql"})


# --- what is made ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["auto", "gzip", "none"])
@pytest.mark.parametrize("method", ["custom", "directory"])
def test_a_dump_restores_to_the_same_database(
    cluster: Cluster, client: Client, empty_database: str, artefacts: RunDirectory, *, method: str, compression: str
) -> None:
    record = make(client, artefacts, method=method, compression=compression, jobs=2)
    path = artefacts.file(record.file)
    # this pg_dump of 16 has no zstd, and no older one has
    assert record.compression == {"auto": "gzip" if MAJOR <= 16 else "zstd"}.get(compression, compression)
    assert record.not_dumped == ["passwords of roles"]
    restored = program("pg_restore", "--exit-on-error", "--dbname", cluster.dsn(empty_database), path)
    assert restored.returncode == 0, restored.stderr
    dumps = [
        program("pg_dump", "--restrict-key=x", "--dbname", cluster.dsn(name)).stdout
        for name in (client.database, empty_database)
    ]
    assert dumps[0] == dumps[1] != ""
    listed = program("pg_restore", "--list", path).stdout
    assert f"TOC Entries: {record.toc_entries}\n" in listed
    assert unchanged_since(record, artefacts.path) is None


@pytest.mark.parametrize("method", ["custom", "basebackup"])
def test_a_long_backup_journals_the_bytes_of_an_estimated_total(
    client: Client, artefacts: RunDirectory, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    RunOpened().write(artefacts.journal)
    monkeypatch.setattr(progress, "SECONDS", 0.001)
    tables = TablesRead()
    look = backup_progress(client, artefacts.path, method, tables)
    assert look() is None
    # an earlier backup is no part of this one
    Path(artefacts.file(NAMES[method])).write_bytes(bytes(100))
    assert look() is None
    Path(artefacts.file(NAMES[method] + ".partial")).write_bytes(bytes(1000))
    with client.session() as session:
        (own, every) = session.rows(
            "SELECT pg_database_size(current_database()), sum(pg_database_size(oid)) FROM pg_database"
        )[0]
    found = look()
    assert found
    assert (found.done, found.unit) == (1000, "bytes")
    assert abs(found.total / int((own if method == "custom" else every) or 0) - 1) < 0.05
    Path(artefacts.file(NAMES[method])).unlink()
    tables.source(3, 9)
    assert look() == found
    Path(artefacts.file(NAMES[method] + ".partial")).unlink()
    assert look() == Progress("read in the source", "tables", 3, 9)
    with client.session() as session:
        # the dump takes longer than the first look, which asks the server for the size
        session.execute("CREATE TABLE public.long AS SELECT md5(n::text) FROM generate_series(1, 400000) n")
    made = make_backup(client, artefacts, BackupOptions(method=method))
    entries = artefacts.journal.entries()
    told = [entry.data for entry in entries if (entry.step, entry.event) == ("C-01", "progress")]
    told = [one for one in told if one["unit"] == "bytes"]
    assert told
    assert [one["done"] for one in told] == sorted(one["done"] for one in told)
    assert 0 < told[-1]["done"] <= made["backup"]["size"]
    assert [entry.event for entry in entries if entry.event != "progress"] == [
        "open",
        "intent",
        "done",
        "intent",
        "done",
    ]


def test_the_listing_is_one_that_sha256sum_checks(client: Client, artefacts: RunDirectory) -> None:
    record = make(client, artefacts, method="directory")
    check = ["sha256sum", "--check", "--strict", "backup.dir.sha256"]
    subprocess.run(check, cwd=artefacts.path, check=True, stdout=subprocess.DEVNULL)
    listing = Path(artefacts.file("backup.dir.sha256")).read_bytes()
    assert record.sha256 == hashlib.sha256(listing).hexdigest()
    inside = list(Path(artefacts.file("backup.dir")).iterdir())
    assert len(inside) == len(listing.splitlines())
    assert record.size == sum(path.stat().st_size for path in inside)


@pytest.fixture
def empty_cluster() -> Iterator[Cluster]:
    """The directories of a cluster without files."""
    root, sockets = (Path(tempfile.mkdtemp(prefix="phasegate-base-", dir="/tmp")) for _ in range(2))
    for path in (root, sockets):
        path.chmod(0o755)
    made = Cluster(root, sockets)
    yield made
    made.remove()


def test_a_base_backup_is_what_pg_verifybackup_accepts_and_a_server_starts_from(
    cluster: Cluster, client: Client, artefacts: RunDirectory, empty_cluster: Cluster
) -> None:
    record = make(client, artefacts, method="basebackup")
    path = artefacts.file("backup.base")
    verified = program("pg_verifybackup", path)
    assert verified.returncode == 0, verified.stderr
    assert unchanged_since(record, artefacts.path) is None
    assert (record.compression, record.toc_entries, record.not_dumped) == ("none", 0, [])
    assert cluster.psql("SELECT count(*) FROM pg_replication_slots") == "0"
    shutil.copytree(path, empty_cluster.data)
    user = unprivileged_user()
    for place in [empty_cluster.socket_directory, empty_cluster.data, *empty_cluster.data.rglob("*")]:
        if user is not None:
            shutil.chown(place, user)
    empty_cluster.start()
    units = "SELECT count(*), (SELECT system_identifier FROM pg_control_system()) FROM public.tac_logical_unit"
    assert empty_cluster.psql(units, client.database) == f"86|{record.system_identifier}"


def test_a_second_backup_replaces_the_first(client: Client, artefacts: RunDirectory) -> None:
    for method in METHODS:
        first = make(client, artefacts, method=method)
        if method != "custom":
            (Path(artefacts.file(first.file)) / "old").touch()
        second = make(client, artefacts, method=method)
        assert second.started_epoch > first.started_epoch
        assert unchanged_since(second, artefacts.path) is None
        listing = [] if method == "custom" else [f"{second.file}.sha256"]
        assert [name for name in files(artefacts.path) if name != "roles.sql"] == [second.file, *listing]


def test_the_roles_come_without_a_password_hash(cluster: Cluster, client: Client, artefacts: RunDirectory) -> None:
    cluster.psql("CREATE ROLE keeper LOGIN PASSWORD 'canary-7c1f'; GRANT pg_read_all_data TO keeper")
    try:
        make(client, artefacts)
        hashed = cluster.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'keeper'")
        roles = Path(artefacts.file("roles.sql")).read_text(encoding="utf-8")
        assert "CREATE ROLE keeper;" in roles
        assert "GRANT pg_read_all_data TO keeper" in roles
        assert hashed.startswith("SCRAM-SHA-256$")
        for name in files(artefacts.path):
            content = Path(artefacts.file(name)).read_bytes()
            assert b"SCRAM-SHA-256" not in content
            assert b"canary-7c1f" not in content
    finally:
        cluster.psql("DROP ROLE keeper")


@pytest.fixture
def reader(cluster: Cluster) -> Iterator[str]:
    """A role that may read everything, and nothing more."""
    cluster.psql("CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader")
    yield "reader"
    cluster.psql("DROP ROLE reader")


def test_a_role_that_only_reads_dumps_the_roles_too(client: Client, artefacts: RunDirectory, reader: str) -> None:
    record = make(replace(client, user=reader), artefacts)
    assert record.not_dumped == ["passwords of roles"]
    assert "CREATE ROLE reader;" in Path(artefacts.file("roles.sql")).read_text(encoding="utf-8")


def test_roles_that_cannot_be_dumped_are_told(
    cluster: Cluster, client: Client, artefacts: RunDirectory, reader: str
) -> None:
    cluster.psql("REVOKE SELECT ON pg_catalog.pg_auth_members FROM PUBLIC", client.database)
    (Path(artefacts.path) / "roles.sql").write_text("-- of an earlier backup", encoding="utf-8")
    schemas = "public, sandbox_tac, cutter_governance"
    cluster.psql(
        "REVOKE pg_read_all_data FROM reader;"
        f"GRANT USAGE ON SCHEMA {schemas} TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA {schemas} TO reader",
        client.database,
    )
    try:
        record = make(replace(client, user=reader), artefacts)
    finally:
        cluster.psql("DROP OWNED BY reader", client.database)
    assert len(record.not_dumped) == 1
    assert "roles (pg_dumpall: " in record.not_dumped[0]
    assert "permission denied for table pg_auth_members" in record.not_dumped[0]
    assert files(artefacts.path) == ["backup.dump"]


# --- what cannot be made ---------------------------------------------------------------------------------------


def refused(client: Client, artefacts: RunDirectory, **wanted: Any) -> str:
    """Return the message of a backup that does not come about; nothing of it may be left."""
    with pytest.raises(PhaseGateError) as stopped:
        make(client, artefacts, **wanted)
    assert [name for name in files(artefacts.path) if name != "roles.sql"] == []
    for part in ("expected: ", "found: ", "next step: "):
        assert part in str(stopped.value)
    return str(stopped.value)


def test_a_role_without_replication_is_told_so(client: Client, artefacts: RunDirectory, reader: str) -> None:
    message = refused(replace(client, user=reader), artefacts, method="basebackup")
    assert "role reader without REPLICATION" in message


def test_a_table_that_cannot_be_read_is_named(cluster: Cluster, client: Client, artefacts: RunDirectory) -> None:
    cluster.psql("CREATE ROLE weak LOGIN")
    try:
        for method in ("custom", "directory"):
            assert "permission denied for" in refused(replace(client, user="weak"), artefacts, method=method)
    finally:
        cluster.psql("DROP ROLE weak")


@pytest.mark.skipif(MAJOR > 16, reason="the programs of newer versions have both compressions")
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("method", ["custom", "directory"])
def test_a_compression_that_pg_dump_lacks_is_told(
    client: Client, artefacts: RunDirectory, method: str, compression: str
) -> None:
    message = refused(client, artefacts, method=method, compression=compression)
    if MAJOR < 16:
        assert f"C-01: pg_dump of PostgreSQL {MAJOR} does not compress with {compression}." in message
    else:
        assert f"C-01: the backup cannot be compressed with {compression}." in message
        assert "does not support compression" in message
    assert "set phasegate_compression to auto" in message


def test_a_base_backup_is_not_asked_for_what_only_a_dump_has(client: Client, artefacts: RunDirectory) -> None:
    for wanted in ({"contents": True}, {"proof": client}, {"compression": "gzip"}):
        assert "unsupported options for a base backup" in refused(client, artefacts, method="basebackup", **wanted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.fault("dump-damaged")
def test_a_program_that_is_killed_leaves_nothing(
    cluster: Cluster, client: Client, artefacts: RunDirectory, method: str
) -> None:
    """It is held at a lock, or at its first write, so that it is surely in the middle of its work."""
    messages: list[str] = []
    thread = threading.Thread(target=lambda: messages.append(refused(client, artefacts, method=method)))
    if method == "basebackup":
        cluster.psql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 300000)", client.database)
    name = "pg_basebackup" if method == "basebackup" else "pg_dump"
    with client.session() as holder:
        holder.execute("BEGIN; LOCK TABLE public.tac_logical_unit IN ACCESS EXCLUSIVE MODE")
        thread.start()
        os.kill(wait_for(name, lambda: child(name)), signal.SIGKILL)
        thread.join(60)
    assert len(messages) == 1
    assert f"{name} failed" in messages[0]
    assert "status -9" in messages[0]


def child(name: str) -> int:
    """Return the process id of this process's child of that name, 0 without one; not one that only tells its version."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text(encoding="utf-8")
            arguments = status.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"Name:\t{name}\n" in text and f"PPid:\t{os.getpid()}\n" in text and b"--version" not in arguments:
            return int(status.parent.name)
    return 0


@pytest.fixture
def small(small_disk: Path) -> RunDirectory:
    """An artefact directory on a file system of one megabyte."""
    made = RunDirectory(str(small_disk))
    made.create()
    return made


@pytest.mark.parametrize("method", METHODS)
def test_a_full_disk_leaves_nothing_and_names_the_file(
    cluster: Cluster, client: Client, small: RunDirectory, method: str
) -> None:
    cluster.psql("CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 3000)", client.database)
    with pytest.raises((OSError, PhaseGateError), match="No space left on device") as stopped:
        make(client, small, method=method, compression="auto" if method == "basebackup" else "none")
    assert {"custom": "backup.dump", "directory": "backup.dir", "basebackup": "backup.base"}[method] in str(
        stopped.value
    )
    assert [name for name in files(small.path) if name != "roles.sql"] == []


# --- what a killed backup left ---------------------------------------------------------------------------------


def test_what_killed_backups_left_is_removed_and_told(tmp_path: Path) -> None:
    made = {}
    for name in ("mine", "killed", "held", "sealed", "foreign"):
        made[name] = RunDirectory(str(tmp_path / name))
        made[name].create()
        Path(made[name].file("backup.dump.partial")).touch()
        if name != "foreign":
            made[name].journal.append("run", "open")
    Path(made["sealed"].file("SHA256SUMS")).touch()
    Path(made["killed"].file("backup.base.partial/base")).mkdir(parents=True)
    Path(made["killed"].file("backup.dump")).touch()
    with made["held"].busy():
        removed = remove_leftovers(made["mine"])
    assert removed == [
        made["killed"].file("backup.dump.partial"),
        made["killed"].file("backup.base.partial"),
        made["mine"].file("backup.dump.partial"),
    ]
    assert not [path for path in removed if os.path.lexists(path)]
    assert Path(made["killed"].file("backup.dump")).exists()
    assert all(Path(made[name].file("backup.dump.partial")).exists() for name in ("held", "sealed", "foreign"))


# --- damage ----------------------------------------------------------------------------------------------------


def flip(path: Path, place: float) -> None:
    """Flip one bit at a place between 0 (first byte) and 1 (last byte)."""
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)


def cut(path: Path, place: float) -> None:
    os.truncate(path, int(place * (path.stat().st_size - 1)))


@pytest.fixture(scope="module")
def backups(cluster: Cluster, shared_database: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One backup by each method: the record and its directory."""
    made = {}
    for method in METHODS:
        artefacts = RunDirectory(str(tmp_path_factory.mktemp(method)))
        made[method] = (make(client_of(cluster, shared_database), artefacts, method=method), artefacts.path)
    return made


PLACES = [pytest.param(place, id=f"{place}") for place in (0.0, 0.01, 0.3, 0.5, 0.7, 1.0)]
FILES = {"custom": "backup.dump", "directory": "backup.dir/toc.dat", "basebackup": "backup.base/global/pg_control"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.fault("dump-damaged")
def test_a_damaged_file_is_named(
    backups: dict[str, Any], tmp_path: Path, method: str, damage: Callable[[Path, float], None], place: float
) -> None:
    record, made = backups[method]
    copy = shutil.copytree(made, tmp_path / "copy")
    damage(copy / FILES[method], place)
    problem = unchanged_since(record, str(copy))
    assert problem is not None
    assert FILES[method] in problem.expected + problem.found
    assert "start a new run" in problem.next_step


def remove(backup: Path) -> str:
    (backup / "toc.dat").unlink()
    return "backup.dir/toc.dat is listed in backup.dir.sha256 but missing"


def add(backup: Path) -> str:
    (backup / "extra.dat").touch()
    return "backup.dir/extra.dat is not listed in backup.dir.sha256"


def link(backup: Path) -> str:
    (backup / "toc.dat").rename(backup.parent / "toc.dat")
    (backup / "toc.dat").symlink_to(backup.parent / "toc.dat")
    return "backup.dir/toc.dat is not a regular file"


def relist(backup: Path) -> str:
    (backup.parent / "backup.dir.sha256").write_bytes(b"")
    return "no file backup.dir.sha256"


@pytest.mark.parametrize("change", [remove, add, link, relist])
@pytest.mark.fault("dump-damaged")
def test_a_changed_directory_is_named(backups: dict[str, Any], tmp_path: Path, change: Callable[[Path], str]) -> None:
    record, made = backups["directory"]
    copy = shutil.copytree(made, tmp_path / "copy")
    words = change(copy / "backup.dir")
    problem = unchanged_since(record, str(copy))
    assert problem is not None
    assert words in problem.found


@pytest.mark.parametrize("method", METHODS)
def test_a_backup_that_is_gone_is_named(backups: dict[str, Any], tmp_path: Path, method: str) -> None:
    record, _made = backups[method]
    problem = unchanged_since(record, str(tmp_path))
    assert problem is not None
    assert record.file in problem.found


def test_the_list_alone_notices_no_damage_of_the_data(backups: dict[str, Any], tmp_path: Path) -> None:
    """The reason for all of this."""
    _record, made = backups["custom"]
    copy = shutil.copytree(made, tmp_path / "copy") / "backup.dump"
    cut(copy, 0.9)
    assert program("pg_restore", "--list", str(copy)).returncode == 0
    assert program("pg_restore", "--file=/dev/null", str(copy)).returncode != 0


# --- the gates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "gate", "words"),
    [
        (lambda r: r.update(started_epoch=r["started_epoch"] + 100), "G-2", "s in the future"),
        (lambda r: r.update(started_epoch=r["started_epoch"] - 3700), "G-2", "s old"),
        (
            lambda r: r.update(system_identifier="7000000000000000001"),
            "G-4",
            "cluster of the backup 7000000000000000001",
        ),
        (lambda r: r.update(sha256="0" * 64), "G-5", "backup.dump: "),
    ],
)
def test_a_backup_that_is_not_this_runs_stops_it(
    client: Client, tmp_path: Path, change: Callable[[dict[str, Any]], None], gate: str, words: str
) -> None:
    alpha = Path(__file__).parents[3] / "playbooks" / "phases" / "alpha" / "phase.yml"
    outcome = Run.of(client, tmp_path, str(alpha)).prepare().recorded(change).migrate()
    assert outcome.data["outcome"] == "NOT_STARTED"
    judged = outcome.gate(gate)
    assert judged["status"] == "FAIL"
    assert words in judged["expected"] + judged["found"]


# --- the proof -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other() -> Iterator[Cluster]:
    """A cluster to restore into."""
    with running_cluster(rehearsal=True) as running:
        yield running


def databases(cluster: Cluster) -> str:
    return cluster.psql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database")


@pytest.mark.parametrize("method", ["custom", "directory"])
def test_a_proof_compares_every_table_and_leaves_nothing(
    cluster: Cluster, client: Client, other: Cluster, artefacts: RunDirectory, method: str
) -> None:
    record = make(client, artefacts, method=method, proof=client_of(other, "scratch"))
    tables = cluster.psql("SELECT count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|information)'", client.database)
    assert record.proof["tables"] == int(tables)
    assert record.proof["rows"] >= 86 + 76
    assert record.proof["system_identifier"] != record.system_identifier
    assert databases(other) == "postgres template0 template1"


def test_a_scratch_database_of_a_killed_run_is_replaced(
    client: Client, other: Cluster, artefacts: RunDirectory
) -> None:
    identifier = other.psql("SELECT system_identifier FROM pg_control_system()")
    made = MadeDatabases(str(Path(artefacts.path).parent), identifier)
    with client_of(other, "postgres").session() as session:
        made.create(session, "scratch", "")
    make(client, artefacts, proof=client_of(other, "scratch"))
    assert databases(other) == "postgres template0 template1"


def test_a_database_that_is_somebodys_is_never_touched(client: Client, other: Cluster, artefacts: RunDirectory) -> None:
    other.psql("CREATE DATABASE precious")
    try:
        with pytest.raises(PhaseGateError, match="database 'precious' that was not created by a rehearsal"):
            make(client, artefacts, proof=client_of(other, "precious"))
        assert "precious" in databases(other)
    finally:
        other.drop_database("precious")


def test_the_cluster_of_the_backup_proves_nothing(client: Client, artefacts: RunDirectory) -> None:
    with pytest.raises(PhaseGateError, match="is the production cluster"):
        make(client, artefacts, proof=replace(client, database="scratch"))


@pytest.mark.fault("restore-differs")
def test_a_restore_with_errors_is_no_proof(
    cluster: Cluster, client: Client, other: Cluster, artefacts: RunDirectory
) -> None:
    """A check that held when the row came in, and does not hold where the dump is restored."""
    cluster.psql(
        "CREATE FUNCTION public.here() RETURNS boolean LANGUAGE sql AS"
        " $$SELECT count(*) > 0 FROM pg_catalog.pg_settings WHERE name = 'cluster_name' AND setting = ''$$;"
        "CREATE TABLE public.picky (id int CHECK (public.here())); INSERT INTO public.picky VALUES (1);"
        "CREATE OR REPLACE FUNCTION public.here() RETURNS boolean LANGUAGE sql AS $$SELECT false$$",
        client.database,
    )
    with pytest.raises(PhaseGateError, match="the backup cannot be restored") as stopped:
        make(client, artefacts, proof=client_of(other, "scratch"))
    assert "picky" in stopped.value.found
    make(client, artefacts)  # the file alone tells nothing of it
    other.drop_database("scratch")


@pytest.mark.fault("restore-differs")
def test_a_table_that_is_restored_with_other_content_is_named(
    cluster: Cluster, client: Client, other: Cluster, artefacts: RunDirectory
) -> None:
    """A generated column is not in the dump: it is worked out again, by what its function is now."""
    cluster.psql(
        "CREATE FUNCTION public.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';"
        "CREATE TABLE public.moved (id int, twice int GENERATED ALWAYS AS (public.f(id)) STORED);"
        "INSERT INTO public.moved VALUES (1), (2);"
        "CREATE OR REPLACE FUNCTION public.f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2 * $1'",
        client.database,
    )
    with pytest.raises(PhaseGateError, match="differs from the source") as stopped:
        make(client, artefacts, proof=client_of(other, "scratch"))
    assert stopped.value.found == '"public"."moved" has the same number of rows but different content'
    other.drop_database("scratch")


@pytest.mark.fault("restore-differs")
def test_a_table_that_is_restored_with_other_rows_is_named(
    client: Client, other: Cluster, artefacts: RunDirectory
) -> None:
    _record, contents = back_up(client, artefacts, BackupOptions(contents=True))
    contents['"public"."tac_logical_unit"'][0] = "87"
    scratch = client_of(other, "scratch")
    with client.session() as session:
        source = restored_source(session, read_identity(session, client))
    rules = CopyRules(str(Path(artefacts.path).parent))
    with pytest.raises(PhaseGateError, match="differs from the source") as stopped:
        restore_backup(scratch, artefacts.file("backup.dump"), contents=contents, rules=rules, **source)
    assert stopped.value.found == '"public"."tac_logical_unit" has 86 rows, the source 87'
    other.drop_database("scratch")


def test_the_marker_says_what_the_record_says(client: Client, artefacts: RunDirectory) -> None:
    record = make(client, artefacts)
    assert BackupRecord(**json.loads(json.dumps(record.as_dict()))) == record
