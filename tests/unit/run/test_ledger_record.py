# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger beside the run directories: rows in the phase's own transaction, and what is refused when the two differ."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.ledger import Ledger
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import fetch_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import History, runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._run.ledger_record import (
    approvals_were_required,
    judge_ledger,
    ledger_relation,
    opened_ledger,
    require_by_ledger,
    require_newest_by_ledger,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

LEDGER = Ledger("phasegate", "ledger")


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a schema ``app`` and a ledger."""
    client = client_of(cluster, empty_database)
    with client.session() as session:
        session.execute("CREATE SCHEMA app")
        LEDGER.create(session)
    return client


def planned(client: Client, tmp_path: Path, *sql: str, **phase: Any) -> Run:
    """Return a run of phase ``alpha`` with a ledger, not yet prepared."""
    directory = tmp_path / f"phase_{len(list(tmp_path.iterdir()))}"
    directory.mkdir()
    run = Run.of(client, tmp_path / "runs", PhaseFiles(directory).write({"phase": "alpha", **phase}).path)
    run.ledger = LEDGER.relation
    run.plan["phase"]["diff"]["allow"] = [{"object": "*"}]
    return run.force(*(sql or ("CREATE TABLE app.t (id int)",)))


def executed(client: Client, tmp_path: Path, *sql: str) -> Run:
    """Return a sealed run that committed ``sql``."""
    run = planned(client, tmp_path, *sql).prepare()
    assert run.migrate().message == ""
    seal_run(run.artefacts, "")
    run.sessions.close()
    return run


def history_of(run: Run) -> History:
    """Return what the run directories say."""
    return runs_of(str(run.root), "alpha", fetch_identity(run.client), run.client)


def judged(run: Run, *, rehearsed: bool = True, relation: str = LEDGER.relation) -> History:
    """Judge the run's plan by the ledger, as an opening does, and return the history with what the ledger adds."""
    history = history_of(run)
    (plan_sha256,) = {one.start.plan_sha256 for one in history.executions.values()} or {run.plan["sha256"]}
    plan = {**run.plan, "rehearsal": {}} if rehearsed else run.plan
    with run.client.session() as session:
        live = take_snapshot(session)
        ledger, rows = opened_ledger(session, relation, plan)
        assert ledger
        judge_ledger(session, ledger, rows, history, fetch_identity(run.client), lambda: live)
        require_by_ledger(ledger, rows, history, plan, plan_sha256)
    return history


def test_an_execution_adds_its_row_in_its_own_transaction(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path)
    assert ledger_relation(run.artefacts) == "phasegate.ledger"
    with app.session() as session:
        (row,) = LEDGER.rows(session)
        xmin = session.value("SELECT xmin FROM phasegate.ledger")
    (done,) = run.events("done")
    assert done["ledger"] == row.as_dict()
    assert row.xid == xmin == done["transaction"]["xid"]
    assert (row.run, row.bundle) == (Path(run.artefacts.path).name, run.artefacts.path)
    assert (row.kind, row.phase, row.undoes, row.approvals_required) == ("execution", "alpha", "", "false")
    # it is no change of the phase
    assert [change["name"] for change in done["transaction"]["diff"]["changes"]] == ["app.t"]
    judged(run)


def test_a_transaction_that_is_rolled_back_leaves_no_row(app: Client, tmp_path: Path) -> None:
    run = planned(app, tmp_path, verify=[{"id": "VA-1", "title": "two", "sql": "SELECT 1", "expect": 2}]).prepare()
    assert run.migrate().data["outcome"] == "ROLLED_BACK"
    with app.session() as session:
        assert LEDGER.rows(session) == []


@pytest.mark.fault("ledger-replay")
def test_the_same_plan_again_without_its_run_directory(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "COMMENT ON SCHEMA app IS 'x'")
    (opened,) = (one.data for one in run.artefacts.journal.entries() if one.event == "open")
    shutil.rmtree(run.artefacts.path)
    run.plan["sha256"] = opened["plan_sha256"]
    for rehearsed in (True, False):
        with pytest.raises(
            PhaseGateError, match="an execution of this plan that no run directory accounts for"
        ) as stopped:
            judged(run, rehearsed=rehearsed)
        assert run.artefacts.path in stopped.value.found
    del run.plan["sha256"]
    # whatever the opening finds, the table itself lets no second one through
    run.prepare()
    outcome = run.migrate()
    assert "The ledger phasegate.ledger has this already" in outcome.message
    assert outcome.data["outcome"] == "ROLLED_BACK"


@pytest.mark.fault("ledger-forged")
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM phasegate.ledger",
        "UPDATE phasegate.ledger SET plan_sha256 = repeat('0', 64) WHERE n = 1",
        "UPDATE phasegate.ledger SET approvals_required = true",
        "INSERT INTO phasegate.ledger SELECT 3, 'rollback', 'x', phase, revision, environment, plan_sha256, 0, run, false,"
        " system_identifier, xid, executor, at, bundle FROM phasegate.ledger LIMIT 1",
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_statements_that_change_the_ledger(app: Client, tmp_path: Path, sql: str, *, hidden: bool) -> None:
    executed(app, tmp_path)
    made = f"CREATE FUNCTION app.f() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN {sql}; RETURN 1; END $f$"
    with app.session() as session:
        session.execute(made if hidden else "SELECT 1")
    run = planned(app, tmp_path, "CREATE TABLE app.u AS SELECT app.f()" if hidden else sql).prepare()
    outcome = run.migrate()
    assert "The statements changed the ledger phasegate.ledger; rolled back before COMMIT." in outcome.message
    assert outcome.data["outcome"] == "ROLLED_BACK"


@pytest.mark.fault("ledger-forged")
def test_a_plan_that_names_the_ledger(app: Client, tmp_path: Path) -> None:
    run = planned(app, tmp_path)
    run.plan["ddl"]["statements"][0]["relations"] = ["phasegate.ledger"]
    with app.session() as session, pytest.raises(PhaseGateError, match="The phase touches the ledger") as stopped:
        opened_ledger(session, LEDGER.relation, run.plan)
    assert stopped.value.found == "migrate.sql line 1"


@pytest.mark.fault("ledger-forged")
@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM phasegate.ledger",
        "UPDATE phasegate.ledger SET plan_sha256 = repeat('0', 64)",
        "UPDATE phasegate.ledger SET approvals_required = true",
    ],
)
def test_a_row_that_was_removed_or_changed(app: Client, tmp_path: Path, sql: str) -> None:
    run = executed(app, tmp_path)
    with app.session() as session:
        session.execute(sql)
    with pytest.raises(PhaseGateError, match="differs from the evidence of alpha_test_") as stopped:
        judged(run)
    with app.session() as session:
        session.execute("DELETE FROM phasegate.ledger")
        # what is told leads on
        session.execute(stopped.value.next_step.partition(": ")[2])
    judged(run)


@pytest.mark.fault("ledger-forged", "made-anew")
def test_rows_that_a_database_lost_with_the_changes_are_no_forgery(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = executed(app, tmp_path)
    cluster.psql("DROP TABLE app.t; DELETE FROM phasegate.ledger", app.database)
    judged(run)


@pytest.mark.fault("ledger-forged")
def test_a_rollback_that_only_the_ledger_knows(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path)
    name = Path(run.artefacts.path).name
    with app.session() as session:
        own = LEDGER.rows(session)[0]
        row = {**own.as_dict(), "kind": "rollback", "run": "alpha_test_rollback_1", "undoes": name}
        for key in ("n", "xid", "executor", "at"):
            del row[key]
        LEDGER.add(session, row)
    history = history_of(run)
    with app.session() as session:
        live = take_snapshot(session)
        judge_ledger(session, LEDGER, LEDGER.rows(session), history, fetch_identity(app), lambda: live)
    with pytest.raises(PhaseGateError, match="was rolled back already") as stopped:
        history.require_newest(run.artefacts)
    assert "alpha_test_rollback_1" in stopped.value.found
    for rehearsed in (True, False):
        with pytest.raises(PhaseGateError, match="that no run directory accounts for"):
            judged(run, rehearsed=rehearsed)


@pytest.mark.fault("rollback-again")
def test_a_later_execution_that_only_the_ledger_knows(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path)
    later = executed(app, tmp_path, "CREATE TABLE app.u (id int)")
    shutil.rmtree(later.artefacts.path)
    with (
        app.session() as session,
        pytest.raises(PhaseGateError, match="by the ledger a later execution of alpha") as stopped,
    ):
        require_newest_by_ledger(LEDGER, LEDGER.rows(session), history_of(run), Path(run.artefacts.path).name)
    assert Path(later.artefacts.path).name in stopped.value.expected


@pytest.mark.fault("ledger-not-named")
@pytest.mark.parametrize("named", ["", "app.other"])
def test_a_ledger_that_is_not_named(app: Client, cluster: Cluster, tmp_path: Path, named: str) -> None:
    run = executed(app, tmp_path)
    # as by somebody who edits the inventory and deletes the run directories
    shutil.rmtree(run.artefacts.path)
    cluster.psql('ALTER TABLE phasegate.ledger RENAME TO "Old ledger"', app.database)
    with app.session() as session:
        if named:
            Ledger.of(named).create(session)
        with pytest.raises(PhaseGateError, match="a ledger that the inventory does not name") as stopped:
            opened_ledger(session, named, run.plan)
        assert "and rows in phasegate.Old ledger" in stopped.value.found
    # one without rows blocks nothing
    cluster.psql('DELETE FROM phasegate."Old ledger"', app.database)
    with app.session() as session:
        assert opened_ledger(session, named, run.plan)[1] == []


def test_a_ledger_that_is_not_there(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = executed(app, tmp_path)
    cluster.psql("DROP SCHEMA phasegate CASCADE", app.database)
    with app.session() as session:
        assert opened_ledger(session, "", run.plan) == (None, [])
        with pytest.raises(PhaseGateError, match="The ledger does not exist in this database"):
            opened_ledger(session, LEDGER.relation, run.plan)


@pytest.mark.fault("register-removed")
def test_approvals_that_were_required_once_are_remembered(app: Client, tmp_path: Path) -> None:
    executed(app, tmp_path)
    identity = fetch_identity(app)
    with app.session() as session:
        assert not approvals_were_required(LEDGER.rows(session), identity)
        session.execute("UPDATE phasegate.ledger SET approvals_required = true")
        assert approvals_were_required(LEDGER.rows(session), identity)
        # on another cluster, such as a copy for tests, they are not
        session.execute("UPDATE phasegate.ledger SET system_identifier = '7'")
        assert not approvals_were_required(LEDGER.rows(session), identity)
