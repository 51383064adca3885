# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase that can change what all databases share is compared by that, too: before COMMIT, and after a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import ALL_KINDS, cluster_wide
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import RestoredSchema, rollback_script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import MigrationResult
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import (
    read_changed,
    read_facts,
    take_snapshot,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import normalise
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import (
    COMPUTED,
    sections_for_plan,
    touches_cluster,
    wanted_sections,
    without_cluster,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of
from ansible_collections.incomex.phasegate.tests.support.versions import since

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

WITH_CLUSTER = wanted_sections(cluster=True)


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Iterator[Client]:
    """A client of a database with one table, in a cluster with one role more."""
    cluster.psql("CREATE ROLE clerk; CREATE SCHEMA app; CREATE TABLE app.old (id int)", empty_database)
    yield client_of(cluster, empty_database)
    cluster.psql("DROP OWNED BY clerk; DROP ROLE clerk; DROP ROLE IF EXISTS guest", empty_database)


def phase(client: Client, tmp_path: Path, ddl: str, kind: str, policy: str, **scope: Any) -> Run:
    """Return a run of one statement of this kind, under this policy."""
    directory = tmp_path / "phase"
    directory.mkdir(exist_ok=True)
    files = PhaseFiles(directory)
    changes: dict[str, Any] = {
        "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
        "scope": {"schemas": ["app"], "statements": [kind, kind.replace(" EXECUTE", "")], **scope},
        "expect": {"tags": {kind.partition(" ON ")[0].replace(" EXECUTE", ""): 1}},
        "diff": {"policy": policy},
    }
    files.write(changes, ddl=f"{ddl};\n".encode())
    return Run.of(client, tmp_path / "runs", files.path)


@pytest.mark.parametrize(
    ("ddl", "kind", "policy", "found"),
    [
        ("CREATE ROLE guest SUPERUSER LOGIN", "CREATE ROLE", "unchanged", "widening: role guest added"),
        ("CREATE ROLE guest SUPERUSER", "CREATE ROLE", "additions_only", "bypass what protects the data: superuser"),
        ("CREATE ROLE guest LOGIN", "CREATE ROLE", "additions_only", "widening: role guest added"),
        ("CREATE ROLE guest", "CREATE ROLE", "unchanged", "additive: role guest added"),
        ("ALTER ROLE clerk BYPASSRLS", "ALTER ROLE", "additions_only", "widening: role clerk bypass row security"),
        (
            "ALTER ROLE clerk SET search_path = app",
            "ALTER ROLE",
            "additions_only",
            "role setting cluster.clerk.search_path",
        ),
        ("DROP ROLE clerk", "DROP ROLE", "additions_only", "destructive: role clerk removed"),
        ("GRANT pg_read_all_data TO clerk", "GRANT ROLE", "additions_only", "role membership pg_read_all_data.clerk"),
        (
            "ALTER DATABASE postgres SET search_path = app",
            "ALTER DATABASE",
            "additions_only",
            "setting database postgres.search_path",
        ),
        pytest.param(
            "GRANT SET ON PARAMETER log_statement TO clerk",
            "GRANT ON PARAMETER",
            "unchanged",
            "log_statement to clerk",
            marks=since(15),
        ),
        (
            "ALTER TABLESPACE pg_default SET (random_page_cost = 2)",
            "ALTER TABLESPACE",
            "additions_only",
            "tablespace pg_default",
        ),
        ("GRANT CREATE ON TABLESPACE pg_default TO clerk", "GRANT ON TABLESPACE", "unchanged", "pg_default to clerk"),
        ("DO $$ BEGIN EXECUTE 'CREATE ' || 'ROLE guest LOGIN'; END $$", "DO EXECUTE", "unchanged", "role guest added"),
    ],
    ids=lambda text: text[:40],
)
@pytest.mark.fault("cluster-changed")
def test_what_changes_the_cluster_is_judged_before_commit(  # noqa: PLR0917 - pytest passes by name
    app: Client, tmp_path: Path, ddl: str, kind: str, policy: str, found: str
) -> None:
    run = phase(app, tmp_path, ddl, kind, policy).prepare()
    outcome = run.migrate()
    assert found in outcome.message, outcome.message
    assert (outcome.data["outcome"], outcome.data["unchanged"], run.events("commit")) == ("ROLLED_BACK", True, [])


@pytest.mark.fault("initdb-altered")
@pytest.mark.parametrize(
    ("ddl", "kind", "found"),
    [
        (
            "DO $$ BEGIN EXECUTE 'ALTER ' || 'FUNCTION pg_catalog.lower(text) VOLATILE'; END $$",
            "DO EXECUTE",
            "objects pg_proc",
        ),
        ("COMMENT ON LANGUAGE sql IS 'x'", "COMMENT", "initdb objects pg_description"),
        (
            "DO $$ BEGIN EXECUTE 'DROP TEXT SEARCH ' || 'DICTIONARY danish_stem CASCADE'; END $$",
            "DO EXECUTE",
            "pg_ts_dict",
        ),
    ],
)
def test_what_initdb_made_is_judged_before_commit(app: Client, tmp_path: Path, ddl: str, kind: str, found: str) -> None:
    run = phase(app, tmp_path, ddl, kind, "additions_only").prepare()
    outcome = run.migrate()
    assert found in outcome.message, outcome.message
    assert (outcome.data["outcome"], outcome.data["unchanged"], run.events("commit")) == ("ROLLED_BACK", True, [])


@pytest.mark.fault("cluster-changed")
def test_a_role_without_powers_is_an_addition(app: Client, tmp_path: Path) -> None:
    run = phase(app, tmp_path, "CREATE ROLE guest", "CREATE ROLE", "additions_only").prepare()
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    (change,) = outcome.data["transaction"]["diff"]["changes"]
    assert (change["kind"], change["name"]) == ("role", "guest")
    assert Snapshot.load(run.artefacts.file("schema/before.jsonl.gz")).header.sections == WITH_CLUSTER


@pytest.mark.fault("cluster-changed")
def test_a_rollback_that_leaves_the_role_does_not_restore(app: Client, tmp_path: Path) -> None:
    run = phase(app, tmp_path, "CREATE ROLE guest", "CREATE ROLE", "additions_only").prepare()
    original = Snapshot.load(run.artefacts.file("schema/before.jsonl.gz"))
    run.migrate()
    with app.session() as session:
        base = take_snapshot(session, sections=original.header.sections)
        checks = RestoredSchema(original, "this", rollback_script(run.plan, run.rollback), base)
        checks.before_read_only(session, MigrationResult())
        with pytest.raises(Exception, match="role guest added"):
            checks.before_commit(session, MigrationResult())


def test_a_phase_of_tables_does_not_read_the_cluster(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = phase(app, tmp_path, "CREATE TABLE app.t (id int)", "CREATE TABLE", "additions_only").prepare()
    assert not touches_cluster(run.plan)
    cluster.psql("CREATE ROLE guest", app.database)
    assert run.migrate().message == ""


def test_a_declared_function_and_a_rollback_count(app: Client, tmp_path: Path) -> None:
    ddl = ("CREATE TABLE app.t (id int)", "CREATE TABLE", "additions_only")
    assert touches_cluster(phase(app, tmp_path, *ddl, functions=["app.anything"]).plan)
    run = phase(app, tmp_path, *ddl)
    run.plan["rollback"]["statements"][0]["kinds"] = ["DROP OWNED CASCADE"]
    assert sections_for_plan(run.plan) == WITH_CLUSTER


def test_the_kinds_that_reach_beyond_their_database_are_kinds_of_a_scope() -> None:
    wide = {kind for kind in ALL_KINDS if cluster_wide(kind)}
    assert {"CREATE ROLE", "ALTER DATABASE", "GRANT ON TABLESPACE", "COMMENT ON ROLE", "DROP OWNED CASCADE"} <= wide
    assert not wide & {"GRANT", "CREATE TABLE", "COMMENT", "ALTER TABLE"}
    assert any(kind.endswith(COMPUTED) for kind in ALL_KINDS)


def test_a_delta_of_the_cluster_is_a_full_reading_and_is_no_part_of_a_copy(app: Client) -> None:
    def changed(session: Session, sql: str) -> None:
        session.execute("BEGIN")
        try:
            session.execute(sql)
            delta, full = read_changed(session, base), read_facts(session, sections=WITH_CLUSTER)
        finally:
            session.execute("ROLLBACK")
        assert delta.facts == full.facts
        assert diff(base, delta)
        assert not diff(without_cluster(base), without_cluster(full))
        assert not diff(normalise(base), normalise(full))

    with app.session() as session:
        base = take_snapshot(session, sections=WITH_CLUSTER)
        assert without_cluster(base).facts == take_snapshot(session).facts
        for sql in (
            "CREATE ROLE guest",
            "GRANT clerk TO pg_monitor",
            *(["GRANT SET ON PARAMETER work_mem TO clerk"] if MAJOR >= 15 else []),
            "GRANT CREATE ON TABLESPACE pg_default TO clerk",
            "ALTER ROLE clerk SET work_mem = '1MB'",
            "ALTER ROLE ALL SET work_mem = '1MB'",
            "ALTER DATABASE postgres SET work_mem = '1MB'",
            "ALTER ROLE clerk IN DATABASE postgres SET work_mem = '1MB'",
        ):
            changed(session, sql)
