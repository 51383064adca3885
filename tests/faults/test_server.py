# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server can do to an execution: forget a transaction, run out of space, be a standby."""

from __future__ import annotations

import pwd
import random
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import (
    bin_directory,
    running_cluster,
    unprivileged_user,
)
from ansible_collections.incomex.phasegate.tests.support.others import BEFORE
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import InBackground, Run, client_of, wait_for
from ansible_collections.incomex.phasegate.tests.support.small_disk import mounted
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductors


@pytest.mark.fault("xid-taken-back")
def test_a_crash_does_not_take_a_transaction_id_back(tmp_path: Path, seen: Seen) -> None:
    # the server's own writer would put the id on disk within 0.2 s
    with running_cluster({"wal_writer_delay": "10s"}) as cluster:
        cluster.psql("CREATE SCHEMA app; CREATE TABLE app.old (id int)")
        ddl = b"ALTER TABLE app.old ADD COLUMN new int;\n"
        scope = {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN"]}
        files = PhaseFiles(tmp_path).write({"scope": scope, "expect": {"tags": {"ALTER TABLE": 1}}}, ddl=ddl)
        run = Run.of(client_of(cluster, "postgres"), tmp_path / "runs", files.path).prepare()
        with run.client.session() as reader:
            reader.execute("BEGIN; SELECT FROM app.old")
            migration = InBackground(run)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_for("the statement waits", lambda: cluster.psql(waiting) == "1")
            cluster.crash()
        cluster.start()
        outcome = migration.join()
        xid = int(run.events("transaction")[0]["xid"])
        assert outcome.data["outcome"] == "ROLLED_BACK", outcome.message
        # as other sessions do in the meantime
        while int(cluster.psql("SELECT pg_current_xact_id()")) <= xid:
            pass
        assert cluster.psql(f"SELECT pg_xact_status('{xid}')") == "aborted"
        seen("ROLLED_BACK, and the id stays with this transaction")


@pytest.mark.fault("commit-unknown")
def test_the_postmaster_is_killed_while_commit_waits(tmp_path: Path, seen: Seen) -> None:
    """The server ends the waiting session with an error, and the transaction is committed all the same."""
    with running_cluster({"synchronous_commit": "local"}) as cluster:
        cluster.psql("CREATE SCHEMA app; ALTER DATABASE postgres SET synchronous_commit = on")
        changes = {"preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}]}
        files = PhaseFiles(tmp_path).write(changes)
        run = Run.of(client_of(cluster, "postgres"), tmp_path / "runs", files.path).prepare()
        cluster.create_database("other")
        cluster.psql("ALTER SYSTEM SET synchronous_standby_names = 'ghost'", "other")
        cluster.psql("SELECT pg_reload_conf()", "other")
        migration = InBackground(run)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_for("COMMIT waits", lambda: cluster.psql(waiting, "other") == "1")
        cluster.crash()
        cluster.start()
        outcome = migration.join()
        assert (outcome.data["outcome"], outcome.message) == ("COMMITTED", "")
        assert cluster.psql("SELECT to_regclass('app.t') IS NOT NULL") == "t"
        seen("the postmaster killed meanwhile: COMMITTED")


@pytest.mark.fault("standby")
def test_a_standby_is_no_target(target: Target, conductors: Conductors, seen: Seen) -> None:
    with running_cluster(primary=target.cluster) as standby:
        wait_for("the database on the standby", lambda: has(standby, target.database))
        answer = conductors.execute(Target(standby, target.database, target.directory)).wait()
        assert answer
        first, _newline, rest = answer["msg"].partition("\n")
        assert first.startswith("Stopped at G-4"), answer
        assert "found: G-4 cluster a standby (in recovery)" in rest
    assert not target.migrated
    seen("Stopped at G-4: expected a primary, found a standby (in recovery)")


def has(cluster: Cluster, database: str) -> bool:
    return cluster.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{database}'") == "1"


@pytest.fixture
def small_disk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tablespace with little room."""
    place = Path(tempfile.mkdtemp(prefix="phasegate-disk-", dir="/tmp"))
    owner = unprivileged_user()
    options = "size=1m,mode=0700" + (f",uid={pwd.getpwnam(owner).pw_uid}" if owner else "")
    try:
        with mounted(place, options):
            cluster.psql(f"CREATE TABLESPACE small LOCATION '{place}'")
            yield "small"
            cluster.psql("DROP TABLESPACE small")
    finally:
        place.rmdir()


@pytest.mark.fault("disk-full-server")
def test_a_full_disk_of_the_server_rolls_back(
    cluster: Cluster, empty_database: str, small_disk: str, tmp_path: Path, seen: Seen
) -> None:
    cluster.psql("CREATE SCHEMA app", empty_database)
    ddl = (
        f"CREATE TABLE app.t (id int) TABLESPACE {small_disk};\n"
        "INSERT INTO app.t SELECT pg_catalog.generate_series(1, 100000);\n"
    )
    changes = {
        "scope": {"schemas": ["app"], "statements": ["CREATE TABLE", "INSERT"]},
        "expect": {"tags": {"CREATE TABLE": 1, "INSERT": 1}, "rows": {"INSERT": [100000]}},
        "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
    }
    files = PhaseFiles(tmp_path).write(changes, ddl=ddl.encode())
    outcome = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare().migrate()
    assert (outcome.data["outcome"], outcome.data["unchanged"]) == ("ROLLED_BACK", True)
    assert "statement 2 (INSERT, line 2) failed; rolled back" in outcome.message
    assert "No space left on device" in outcome.message
    seen("ROLLED_BACK: statement 2 (INSERT, line 2): No space left on device")


@pytest.mark.fault("dump-damaged")
def test_a_damaged_dump_is_noticed(cluster: Cluster, empty_database: str, tmp_path: Path, seen: Seen) -> None:
    cluster.psql(f"{BEFORE}; INSERT INTO app.old SELECT generate_series(4, 2000)", empty_database)
    changes = {"preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}]}
    files = PhaseFiles(tmp_path).write(changes)
    run = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare()
    (dump,) = Path(run.artefacts.path).glob("backup.dump*")
    whole = dump.read_bytes()
    dice = random.Random(1)  # noqa: S311 - it has to be repeatable
    damaged = [whole[: dice.randrange(len(whole))] for _time in range(6)]
    for _time in range(6):
        bits = bytearray(whole)
        # from the middle on: where the data is
        bits[dice.randrange(len(whole) // 2, len(whole))] ^= 1 << dice.randrange(8)
        damaged.append(bytes(bits))
    listed = 0
    for content in damaged:
        dump.write_bytes(content)
        outcome = run.migrate()
        assert outcome.gate("G-5")["status"] == "FAIL"
        assert dump.name in outcome.gate("G-5")["expected"]
        assert outcome.data["outcome"] == "NOT_STARTED"
        argv = [str(bin_directory() / "pg_restore"), "--list", str(dump)]
        listed += subprocess.run(argv, capture_output=True, check=False).returncode == 0
    seen(f"stopped at G-5 {len(damaged)} of {len(damaged)} times, {dump.name} named")
    seen(f"pg_restore --list accepts {listed} of the {len(damaged)}", "psql")
