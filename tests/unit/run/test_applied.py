# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a phase is applied: databases that were dropped, renamed, restored, reverted or copied, and records that are gone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.applied import (
    Applied,
    applied_execution,
    require_to_undo,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    fetch_identity,
    plan_of_execution,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

NAME = "standing"


@pytest.fixture
def app(cluster: Cluster) -> Iterator[Client]:
    """A client of a database of a name of its own, with a schema ``app``, that a test may drop and rename."""
    cluster.create_database(NAME)
    cluster.psql("CREATE SCHEMA app", NAME)
    yield client_of(cluster, NAME)
    for name in (NAME, f"{NAME}_later"):
        cluster.drop_database(name)


def executed(
    client: Client, tmp_path: Path, *sql: str, environment: str = "test", data: dict[str, dict[str, int]] | None = None
) -> Run:
    """Return a sealed run that committed ``sql``, a table of one column unless it is given."""
    directory = tmp_path / f"phase_{len(list(tmp_path.iterdir()))}"
    directory.mkdir()
    run = Run.of(client, tmp_path / "runs", PhaseFiles(directory).write({"phase": "alpha"}).path)
    run.environment = environment
    run.plan["phase"]["diff"]["allow"] = [{"object": "*"}]
    run.plan["phase"]["data"] = data or {}
    run.force(*(sql or ("CREATE TABLE app.t (id int)",))).prepare()
    assert run.migrate().message == ""
    seal_run(run.artefacts, "")
    run.sessions.close()
    return run


def found(run: Run, client: Client | None = None, *, plan_sha256: str = "", rehearsed: bool = True) -> Applied | None:
    """Return what the opening finds for the run's own plan, or with ``plan_sha256`` for that of a later rehearsal."""
    at = client or run.client
    identity = fetch_identity(at)
    history = runs_of(str(run.root), "alpha", identity, at)
    executions = runs_of(str(run.root), "alpha", fetch_identity(at)).executions
    own = next((one.start.plan_sha256 for one in executions.values()), "0" * 64)
    plan: dict[str, Any] = {**run.plan, "target": identity.as_dict()}
    if rehearsed:
        plan["rehearsal"] = {"changes_before_commit": changes_of(run)}
    with at.session() as session:
        live = take_snapshot(session)
        return applied_execution(session, history, plan, plan_sha256 or own, identity, lambda: live)


def changes_of(run: Run) -> list[dict[str, Any]]:
    """Return the changes that the run's C-07 recorded."""
    known: list[dict[str, Any]] = run.plan.setdefault("known", [])
    if not known:
        (ended,) = run.events("done")
        known += ended["transaction"]["diff"]["changes"]
    return known


def refused(run: Run, client: Client | None = None, **options: Any) -> PhaseGateError:
    """Require that the opening refuses the plan, with a next step, and return why."""
    with pytest.raises(PhaseGateError) as stopped:
        found(run, client, **options)
    assert stopped.value.next_step
    return stopped.value


def undo(run: Run, client: Client | None = None) -> None:
    """Require that the execution's changes are there to be rolled back."""
    at = client or run.client
    identity = fetch_identity(at)
    history = runs_of(str(run.root), "alpha", identity, at)
    with at.session() as session:
        live = take_snapshot(session)
        require_to_undo(session, history, Path(run.artefacts.path).name, identity, lambda: live)


def dumped(cluster: Cluster, path: Path) -> None:
    """Dump the database to a file."""
    argv = [str(bin_directory() / "pg_dump"), "-Fc", "-f", str(path), "-d", cluster.dsn(NAME)]
    subprocess.run(argv, check=True)


def restored(cluster: Cluster, path: Path, *options: str) -> None:
    """Restore the database from a dump."""
    argv = [str(bin_directory() / "pg_restore"), *options, "-d", cluster.dsn(NAME), str(path)]
    subprocess.run(argv, check=True)


def made_anew(cluster: Cluster) -> None:
    """Drop the database and create an empty one of its name."""
    cluster.drop_database(NAME)
    cluster.create_database(NAME)


@pytest.mark.fault("other-environment")
def test_an_execution_under_another_environments_name_is_adopted(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, environment="elsewhere")
    applied = found(run, rehearsed=False)
    assert applied
    assert (applied.run.path, applied.remarks) == (run.artefacts.path, ())


@pytest.mark.fault("other-environment")
def test_a_renamed_directory_is_found_by_its_journal(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path)
    changes_of(run)
    Path(run.artefacts.path).rename(run.root / "old_20200101T000000Z")
    applied = found(run, plan_sha256="0" * 64)
    assert applied
    assert applied.run.path.endswith("old_20200101T000000Z")


@pytest.mark.fault("made-anew")
def test_a_database_that_was_dropped_and_created_again(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = executed(app, tmp_path)
    made_anew(cluster)
    cluster.psql("CREATE SCHEMA app", NAME)
    error = refused(run)
    assert error.what == "The phase was executed on this database, and the database no longer has its changes."
    assert f"database {NAME} was dropped and created again since" in error.found
    assert "none of its changes is there: table app.t" in error.found
    assert "rehearse the phase again" in error.next_step
    assert "rehearse it, and execute the plan of that rehearsal" in refused(run, rehearsed=False).next_step
    # what was rehearsed on the database of now is about it
    assert found(run, plan_sha256="0" * 64) is None
    with pytest.raises(PhaseGateError, match="there is nothing to roll back") as stopped:
        undo(run)
    assert "was dropped and created again since" in stopped.value.found


@pytest.mark.fault("made-anew")
def test_data_alone_proves_nothing_of_a_database_that_was_made_anew(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.psql("CREATE TABLE app.t AS SELECT 1 AS id", NAME)
    dump = tmp_path / "before.dump"
    dumped(cluster, dump)
    run = executed(app, tmp_path, "UPDATE app.t SET id = 2", data={"app.t": {"UPDATE": 1}})
    assert found(run)
    made_anew(cluster)
    restored(cluster, dump)
    assert "the catalog does not show whether its changes are there" in refused(run).found


@pytest.mark.fault("made-anew")
def test_a_database_that_was_restored_with_the_changes_is_applied_and_said(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = executed(app, tmp_path)
    dump = tmp_path / "after.dump"
    dumped(cluster, dump)
    made_anew(cluster)
    restored(cluster, dump)
    applied = found(run)
    assert applied
    assert "was dropped and created again since" in applied.remarks[0]
    undo(run)


@pytest.mark.fault("restored-older")
def test_an_older_dump_restored_in_place(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql("CREATE TABLE app.t (id int)", NAME)
    dump = tmp_path / "before.dump"
    dumped(cluster, dump)
    run = executed(app, tmp_path, "ALTER TABLE app.t ADD COLUMN note text")
    cluster.psql("DROP SCHEMA app CASCADE", NAME)
    restored(cluster, dump)
    error = refused(run)
    assert "none of its changes is there: column app.t.note" in error.found
    assert "restored from an older backup" in error.found
    assert found(run, plan_sha256="0" * 64) is None


@pytest.mark.fault("not-the-recorded")
@pytest.mark.parametrize(
    ("made", "reverted", "told"),
    [
        ("CREATE TABLE app.t (id int)", "DROP TABLE app.t", "table app.t"),
        ("DROP VIEW app.v", "CREATE VIEW app.v AS SELECT 1 AS one", "view app.v"),
        ("COMMENT ON SCHEMA app IS 'new'", "COMMENT ON SCHEMA app IS NULL", "schema app"),
        (
            "GRANT USAGE ON SCHEMA app TO pg_monitor",
            "REVOKE USAGE ON SCHEMA app FROM pg_monitor",
            "acl app to pg_monitor",
        ),
        ("ALTER VIEW app.v RENAME TO w", "ALTER VIEW app.w RENAME TO v", "view app.w"),
    ],
)
def test_changes_that_were_reverted_by_hand(app: Client, tmp_path: Path, made: str, reverted: str, told: str) -> None:
    with app.session() as session:
        session.execute("CREATE VIEW app.v AS SELECT 1 AS one")
    run = executed(app, tmp_path, made)
    applied = found(run)
    assert applied
    assert applied.remarks == ()
    with app.session() as session:
        session.execute(reverted)
    assert f"none of its changes is there: {told}" in refused(run).found


@pytest.mark.fault("not-the-recorded")
def test_one_change_that_is_missing_is_named(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int);", "CREATE TABLE app.u (id int)")
    cluster.psql("DROP TABLE app.u", NAME)
    applied = found(run)
    assert applied
    assert applied.remarks == ("no longer there: table app.u",)
    undo(run)


@pytest.mark.fault("not-the-recorded")
def test_a_database_that_was_renamed_is_the_same_and_said(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = executed(app, tmp_path)
    cluster.psql(f"ALTER DATABASE {NAME} RENAME TO {NAME}_later")
    applied = found(run, client_of(cluster, f"{NAME}_later"))
    assert applied
    assert applied.remarks == (f"the database was renamed since, from {NAME} to {NAME}_later",)
    with pytest.raises(PhaseGateError, match="does not belong to an execution") as stopped:
        plan_of_execution(run.artefacts, fetch_identity(client_of(cluster, f"{NAME}_later")))
    assert f"the database was renamed since, from {NAME}" in stopped.value.found
    assert "RENAME TO" in stopped.value.next_step
    # the one that has its name now is another one
    cluster.create_database(NAME)
    cluster.psql("CREATE SCHEMA app", NAME)
    assert f"database {NAME} was dropped and created again since, or another one got its name" in refused(run).found


@pytest.mark.fault("record-gone")
@pytest.mark.parametrize("how", ["deleted", "another root"])
def test_changes_that_no_run_accounts_for(app: Client, tmp_path: Path, how: str) -> None:
    run = executed(app, tmp_path)
    changes_of(run)
    if how == "deleted":
        shutil.rmtree(run.artefacts.path)
    else:
        run.root = tmp_path / "another"
    error = refused(run)
    assert error.what == "The changes of this plan are in the database already, although no run here has them in place."
    assert "in the database: table app.t" in error.found
    assert "phasegate_root" in error.next_step


@pytest.mark.fault("restored-older")
def test_a_copy_of_the_cluster_from_before(tmp_path: Path) -> None:
    with running_cluster() as primary:
        primary.create_database(NAME)
        primary.psql("CREATE SCHEMA app", NAME)
        with running_cluster(primary=primary) as copy:
            copy.psql("SELECT pg_promote()")
            run = executed(client_of(primary, NAME), tmp_path)
            error = refused(run, client_of(copy, NAME))
    assert "none of its changes is there: table app.t" in error.found
    assert "it was restored to an earlier moment, or is a copy from before" in error.found
    assert "restored to an earlier moment or failed over since (timeline 1, now 2)" in error.found
