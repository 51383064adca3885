# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal's copy: where it is refused before anything is made, and that it is like its source."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.backup import back_up
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import BackupOptions
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.made_databases import MadeDatabases, role_oids
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.progress import TablesRead
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.rehearsal_cluster import (
    CopyRules,
    DeclaredTarget,
    require_rehearsal_cluster,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.restore import (
    require_ready,
    restore_backup,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Progress
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import (
    Session,
    StatementOutcome,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import (
    diff_server_settings,
    server_facts,
)
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

#: Stands for the system identifier of a source that is another cluster.
ELSEWHERE = "7000000000000000001"

#: No database is recorded, no target is declared.
NOTHING = CopyRules("/nowhere")


@pytest.fixture
def copy(cluster: Cluster) -> Iterator[Client]:
    """A client of a database that does not exist yet, in a cluster that is marked for rehearsals."""
    cluster.mark_for_rehearsals()
    yield client_of(cluster, "copy_of_source")
    cluster.psql("DROP DATABASE IF EXISTS copy_of_source")


@pytest.fixture
def source(cluster: Cluster) -> Iterator[Client]:
    """A database with a collation and settings of its own, which a dump does not carry."""
    cluster.psql("CREATE DATABASE source TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'")
    cluster.psql("ALTER DATABASE source SET DateStyle TO 'German'; ALTER DATABASE source SET TimeZone TO 'Asia/Tokyo'")
    cluster.psql("CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1), (2)", "source")
    yield client_of(cluster, "source")
    cluster.psql("DROP DATABASE source")


def facts(client: Client, **changes: Any) -> dict[str, Any]:
    with client.session() as session:
        return {**server_facts(session), **changes}


def test_a_copy_has_rows_collation_and_settings_of_its_source(source: Client, copy: Client, tmp_path: Path) -> None:
    path = str(tmp_path / "backup.dump")
    rules = CopyRules(str(tmp_path))
    _record, contents = back_up(source, RunDirectory(str(tmp_path)), BackupOptions(compression="none", contents=True))
    tables = TablesRead()
    told = restore_backup(
        copy,
        path,
        source=ELSEWHERE,
        roles=["workflow_admin"],
        server=facts(source),
        contents=contents,
        rules=rules,
        seen=tables.copy,
    )
    assert tables.look() == Progress("compared in the restored copy", "tables", 1, 1)
    assert told["settings_given"] == ["DateStyle", "TimeZone"]
    assert diff_server_settings(facts(source), facts(copy)) == []
    with copy.session() as session:
        assert session.rows("SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()") == [
            ("C", "C.UTF-8")
        ]
        assert session.value("SELECT count(*) FROM public.t") == "2"
    # the record of a rehearsal lets the next one make the database anew
    restore_backup(
        copy, path, source=ELSEWHERE, roles=["workflow_admin"], server=facts(source), contents=contents, rules=rules
    )


def refused(client: Client, source: str = ELSEWHERE, rules: CopyRules = NOTHING, **changes: Any) -> str:
    server = facts(dataclasses.replace(client, database="postgres"), **changes)
    with pytest.raises(PhaseGateError) as caught:
        require_ready(client, source=source, server=server, rules=rules)
    assert caught.value.expected
    assert caught.value.next_step
    return str(caught.value)


def test_the_source_itself_is_refused(cluster: Cluster, copy: Client) -> None:
    identifier = cluster.psql("SELECT system_identifier FROM pg_control_system()")
    assert "The rehearsal cluster is the production cluster." in refused(copy, identifier)


def test_another_major_version_is_refused(copy: Client) -> None:
    assert f"expected: PostgreSQL {MAJOR - 1}\n  found: PostgreSQL {MAJOR}" in refused(
        copy, server_version=f"{MAJOR - 1}.7"
    )


def test_a_missing_extension_is_named(copy: Client) -> None:
    assert "missing: absent_one, absent_two" in refused(
        copy, extensions=[["absent_two", "1"], ["plpgsql", "1"], ["absent_one", "1"]]
    )


def test_a_role_that_is_no_superuser_is_refused(cluster: Cluster, copy: Client) -> None:
    cluster.psql("CREATE ROLE weak LOGIN")
    try:
        assert "role weak without SUPERUSER" in refused(dataclasses.replace(copy, user="weak"))
    finally:
        cluster.psql("DROP ROLE weak")


@pytest.mark.fault("rehearsal-drops")
def test_a_database_that_somebody_else_made_is_left_alone(cluster: Cluster, copy: Client) -> None:
    """Also one with a comment that a phase, or anybody, can write."""
    cluster.psql("CREATE DATABASE copy_of_source")
    cluster.psql("COMMENT ON DATABASE copy_of_source IS 'phasegate rehearsal'")
    found = refused(copy)
    assert "has a database 'copy_of_source' that was not created by a rehearsal" in found
    assert 'drop it yourself: DROP DATABASE "copy_of_source"' in found


@pytest.fixture
def made(cluster: Cluster, tmp_path: Path) -> MadeDatabases:
    """The record of the databases of rehearsals."""
    return MadeDatabases(str(tmp_path), system_identifier(cluster))


def system_identifier(cluster: Cluster) -> str:
    return cluster.psql("SELECT system_identifier FROM pg_control_system()")


@pytest.mark.fault("rehearsal-drops")
def test_a_database_that_took_the_place_of_a_recorded_one_is_left_alone(
    cluster: Cluster, copy: Client, made: MadeDatabases, tmp_path: Path
) -> None:
    with dataclasses.replace(copy, database="postgres").session() as session:
        made.create(session, copy.database, "")
        made.require_free(session, copy.database)
        cluster.psql("DROP DATABASE copy_of_source")
        cluster.psql("CREATE DATABASE copy_of_source")
        oid = cluster.psql("SELECT oid FROM pg_database WHERE datname = 'copy_of_source'")
        assert f"OID {oid}, which is not listed" in refused(copy, rules=CopyRules(str(tmp_path)))
        with pytest.raises(PhaseGateError, match="not created by a rehearsal"):
            made.create(session, copy.database, "")
        made.drop(session, copy.database)
    assert cluster.psql("SELECT oid FROM pg_database WHERE datname = 'copy_of_source'") == oid


@pytest.mark.fault("rehearsal-drops")
@pytest.mark.parametrize("statement", ["CREATE DATABASE", "ALTER DATABASE"])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_whatever_is_killed_the_next_one_drops_what_was_made_and_nothing_else(
    cluster: Cluster, copy: Client, made: MadeDatabases, statement: str, done: bool
) -> None:
    """Killed before and after each statement that makes the database."""
    before = cluster.psql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database")

    class KilledError(Exception):
        pass

    class Dying(Session):
        def execute(self, sql: str) -> StatementOutcome:
            if not sql.startswith(statement):
                return session.execute(sql)
            if done:
                session.execute(sql)
            raise KilledError

    with dataclasses.replace(copy, database="postgres").session() as session:
        dying = Dying.__new__(Dying)
        dying.value = session.value  # type: ignore[method-assign]
        with pytest.raises(KilledError):
            made.create(dying, copy.database, "")
        made.create(session, copy.database, "")
        made.drop(session, copy.database)
    assert cluster.psql("SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database") == before


def test_the_record_is_private_and_one_that_others_can_write_is_refused(
    copy: Client, made: MadeDatabases, tmp_path: Path
) -> None:
    with dataclasses.replace(copy, database="postgres").session() as session:
        made.create(session, copy.database, "")
        record = Path(made.path)
        assert record.parent == tmp_path / "rehearsals"
        assert (record.stat().st_mode & 0o777, record.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        text = record.read_text()
        record.write_text("{")
        with pytest.raises(PhaseGateError, match="record of the databases of rehearsals is invalid"):
            made.require_free(session, copy.database)
        record.write_text(text.replace(record.stem, ELSEWHERE))
        with pytest.raises(PhaseGateError, match="is invalid"):
            made.require_free(session, copy.database)
        record.write_text(text)
        record.chmod(0o666)
        with pytest.raises(PhaseGateError, match="cannot be trusted"):
            made.create(session, copy.database, "")
        record.chmod(0o600)
        made.drop(session, copy.database)


@pytest.mark.fault("rehearsal-target")
def test_a_cluster_with_registered_reviewers_is_refused(cluster: Cluster, copy: Client) -> None:
    below = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers"
    below.mkdir(parents=True, exist_ok=True)
    place = below / system_identifier(cluster)
    # whatever it is: even a broken link is a sign that somebody registered reviewers
    place.symlink_to("/nowhere")
    try:
        assert "The rehearsal cluster has a register of reviewers" in refused(copy)
    finally:
        place.unlink()


@pytest.mark.fault("rehearsal-target")
@pytest.mark.parametrize("by", ["system identifier", "connection", "default port"])
def test_a_target_of_the_inventory_is_refused(cluster: Cluster, copy: Client, by: str) -> None:
    one = DeclaredTarget("prod07", host=copy.host, port=copy.port)
    if by == "system identifier":
        one = DeclaredTarget("prod07", system_identifier(cluster), host="elsewhere")
    if by == "default port":
        copy = dataclasses.replace(copy, port=None)
    other = DeclaredTarget("prod08", ELSEWHERE, host=copy.host, port=copy.port)
    rules = CopyRules("/nowhere", (other, one))
    assert "The rehearsal cluster is the target of inventory host prod07." in refused(copy, rules=rules)
    require_ready(
        copy,
        source=ELSEWHERE,
        server=facts(dataclasses.replace(copy, database="postgres")),
        rules=CopyRules("/nowhere", (other,)),
    )


@pytest.mark.parametrize(
    ("target", "client", "same"),
    [
        ({"container": "pg"}, {"container": "pg"}, True),
        ({"container": "pg"}, {"container": "copy"}, False),
        ({"container": "pg"}, {}, False),
        ({"container": "tools", "host": "db1"}, {"container": "pg", "host": "DB1"}, True),
        ({"host": "db1"}, {"host": "db1", "port": 5432}, True),
        ({"host": "db1"}, {"host": "db1", "port": 5433}, False),
        ({}, {"host": "localhost"}, True),
        ({"host": "127.0.0.1"}, {"host": "::1"}, True),
        ({"service": "prod"}, {"service": "prod"}, True),
        ({"service": "prod"}, {"service": "copy"}, False),
    ],
)
def test_connections_are_compared_where_no_system_identifier_is_declared(
    cluster: Cluster, copy: Client, target: dict[str, Any], client: dict[str, Any], same: bool
) -> None:
    with dataclasses.replace(copy, database="postgres").session() as session:
        found = read_identity(session, copy)
    reached = Client(database="copy", **client)
    assert DeclaredTarget("other", **target).is_cluster(reached, found) is same
    # what the server reports decides alone where it is declared
    declared = {**target, "system_identifier": ELSEWHERE}
    assert not DeclaredTarget("other", **declared).is_cluster(reached, found)
    assert DeclaredTarget("other", system_identifier(cluster)).is_cluster(reached, found)


@pytest.mark.fault("rehearsal-target")
def test_a_cluster_that_nobody_marked_is_refused(cluster: Cluster, copy: Client) -> None:
    mark = cluster.mark_for_rehearsals()
    mark.unlink()
    found = refused(copy)
    assert "The cluster is not marked as a rehearsal cluster." in found
    assert f"install -D -m 0644 /dev/null /etc/phasegate/rehearsal_clusters/{mark.name}" in found
    mark.symlink_to("/dev/null")
    assert "The record of a rehearsal cluster cannot be trusted" in refused(copy)
    mark.unlink()
    mark.touch()
    mark.chmod(0o666)
    assert "writable by its owner only" in refused(copy)
    mark.unlink()


@pytest.fixture
def unmarked(cluster: Cluster, copy: Client) -> None:
    """The test's cluster is not marked by a file."""
    cluster.mark_for_rehearsals().unlink()


@pytest.mark.parametrize(
    ("label", "accepted"), [("true", True), ("", False), ("false", False)], ids=["labelled", "no label", "false"]
)
def test_the_label_of_a_container_marks_the_server_in_it(
    copy: Client, unmarked: None, tmp_path: Path, label: str, accepted: bool
) -> None:
    """A program in place of the engine's client; the session leads to the test's cluster."""
    engine = tmp_path / "engine"
    engine.write_text(f'#!/bin/sh\ntest "$1 $2 $4" = "inspect --type=container pg-dry-run" && echo "{label}"\n')
    engine.chmod(0o755)
    client = Client(database="copy", container="pg-dry-run", container_engine=str(engine))
    with dataclasses.replace(copy, database="postgres").session() as session:
        found = read_identity(session, copy)
        if accepted:
            require_rehearsal_cluster(session, client, found, ())
            # by a network the programs in the container may reach any server
            client = dataclasses.replace(client, host="db1")
            with pytest.raises(PhaseGateError, match="not marked as a rehearsal cluster"):
                require_rehearsal_cluster(session, client, found, ())
        else:
            with pytest.raises(PhaseGateError, match="not marked as a rehearsal cluster"):
                require_rehearsal_cluster(session, client, found, ())


SERVER: dict[str, Any] = {
    "server_version": "16.13 (Debian 16.13-1)",
    "timezone": "UTC",
    "encoding": "UTF8",
    "collation": {"collate": "C", "ctype": "C", "provider": "c", "icu": ""},
    "extensions": [["plpgsql", "1.0"]],
    "settings": {"DateStyle": "ISO, MDY", "bytea_output": "hex"},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_version": "16.99"}, []),
        ({"server_version": "17.1"}, ["PostgreSQL: major version 16 / 17.1"]),
        ({"server_version": "1.16"}, ["PostgreSQL: major version 16 / 1.16"]),
        ({"timezone": "Asia/Tokyo"}, ["TimeZone: UTC / Asia/Tokyo"]),
        ({"encoding": "LATIN1"}, ["encoding: UTF8 / LATIN1"]),
        ({"collation": {**SERVER["collation"], "collate": "de_DE"}}, ["collation collate: 'C' / 'de_DE'"]),
        ({"extensions": [["plpgsql", "1.1"]]}, ["extension plpgsql: '1.0' / '1.1'"]),
        ({"extensions": []}, ["extension plpgsql: '1.0' / 'none'"]),
        ({"extensions": [["a", "1"], ["plpgsql", "1.0"]]}, ["extension a: 'none' / '1'"]),
        (
            {"settings": {"DateStyle": "German", "bytea_output": "escape"}},
            ["DateStyle: 'ISO, MDY' / 'German'", "bytea_output: 'hex' / 'escape'"],
        ),
    ],
)
def test_what_differs_between_servers_is_named(changes: dict[str, Any], words: list[str]) -> None:
    assert [
        f"{one.name}: {one.expected} / {one.found}" for one in diff_server_settings(SERVER, {**SERVER, **changes})
    ] == words


def test_a_role_that_a_phase_left_is_dropped_before_the_next_copy_and_no_other(
    cluster: Cluster, copy: Client, made: MadeDatabases
) -> None:
    cluster.psql("CREATE ROLE kept")
    try:
        with client_of(cluster, "postgres").session() as session:
            made.create(session, copy.database, "")
            before = role_oids(session)
            cluster.psql("CREATE ROLE left_role LOGIN; CREATE ROLE anew; CREATE TABLE t (id int)", copy.database)
            cluster.psql(
                "ALTER TABLE t OWNER TO left_role; GRANT CONNECT ON DATABASE postgres TO left_role", copy.database
            )
            made.note_roles(session, before)
            cluster.psql("DROP ROLE anew; CREATE ROLE anew")
            made.create(session, copy.database, "")
            assert {"kept", "anew"} <= set(role_oids(session))
            assert "left_role" not in role_oids(session)
            made.drop(session, copy.database)
            assert json.loads(Path(made.path).read_text(encoding="utf-8"))["roles"] == []
    finally:
        cluster.psql("DROP ROLE kept; DROP ROLE IF EXISTS anew; DROP ROLE IF EXISTS left_role")
