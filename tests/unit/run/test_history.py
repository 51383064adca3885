# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ran on a database is not permitted a second time by the same signatures: spent plans, rollbacks of what is undone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    ROLLBACK,
    RolledBack,
    RunOpened,
    TransactionBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import fetch_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import History, runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import open_run
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a schema ``app``."""
    cluster.psql("CREATE SCHEMA app", empty_database)
    return client_of(cluster, empty_database)


def executed(client: Client, tmp_path: Path, sql: str, environment: str = "test") -> Run:
    """Return a sealed run that committed ``sql``."""
    directory = tmp_path / f"phase_{len(list(tmp_path.iterdir()))}"
    directory.mkdir()
    run = Run.of(client, tmp_path / "runs", PhaseFiles(directory).write({"phase": "alpha"}).path)
    run.environment = environment
    run.force(sql).prepare()
    assert run.migrate().message == ""
    seal_run(run.artefacts, "")
    run.sessions.close()
    return run


def rolled_back(run: Run, outcome: TransactionOutcome | None = TransactionOutcome.COMMITTED) -> RunDirectory:
    """Return the directory of a rollback of ``run`` with this outcome; None for one that was killed in its transaction."""
    about = RunOpened(
        kind=ROLLBACK,
        environment=run.environment,
        identity=fetch_identity(run.client).as_dict(),
        execution=Path(run.artefacts.path).name,
    )
    files = {part: str(run.files() / run.plan[part]["file"]) for part in ("ddl", "rollback")}
    artefacts = open_run(str(run.root), run.plan, about, run.declared, files)
    if outcome is None:
        with run.client.session() as session:
            session.execute("BEGIN")
            xid = session.value("SELECT pg_current_xact_id()")
            begun = TransactionBegun(xid=str(xid))
            artefacts.journal.append("C-09", begun.event, begun.to_entry())
            session.execute("COMMIT")
    else:
        with Step(artefacts, RolledBack).running() as step:
            step.update(outcome=outcome, restored=True)
    return artefacts


def history_of(run: Run) -> History:
    """Return what the next run of the phase finds."""
    return runs_of(str(run.root), "alpha", fetch_identity(run.client), run.client)


def unspent(run: Run) -> None:
    """Require that the plan of ``run``, as if it was rehearsed, is not spent."""
    history = history_of(run)
    spent = next(iter(history.executions.values())).start.plan_sha256
    history.require_unspent({"rehearsal": {}}, spent)


def newest(run: Run) -> None:
    """Require that ``run`` may be rolled back."""
    history_of(run).require_newest(run.artefacts)


@pytest.mark.fault("plan-spent")
def test_a_plan_is_spent_once_its_execution_was_rolled_back(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int)", environment="elsewhere")
    unspent(run)
    undone = rolled_back(run)
    with pytest.raises(PhaseGateError, match="The plan is spent") as stopped:
        unspent(run)
    assert Path(undone.path).name in stopped.value.found
    # another plan is none of this
    history_of(run).require_unspent({"rehearsal": {}}, "0" * 64)


@pytest.mark.fault("plan-spent")
def test_a_rollback_that_did_not_commit_spends_nothing(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int)")
    rolled_back(run, TransactionOutcome.ROLLED_BACK)
    unspent(run)
    newest(run)


@pytest.mark.fault("plan-spent", "rollback-again")
def test_a_rollback_that_was_killed_is_resolved_on_the_server(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int)")
    rolled_back(run, None)
    with pytest.raises(PhaseGateError, match="The plan is spent"):
        unspent(run)
    with pytest.raises(PhaseGateError, match="was rolled back already"):
        newest(run)


@pytest.mark.fault("plan-spent")
def test_a_renamed_bundle_is_still_the_execution_that_was_rolled_back(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int)")
    rolled_back(run)
    Path(run.artefacts.path).rename(run.root / "alpha_test_19990101T000000Z")
    with pytest.raises(PhaseGateError, match="The plan is spent"):
        unspent(run)


@pytest.mark.fault("rollback-again")
def test_only_the_newest_execution_is_rolled_back_and_once(app: Client, tmp_path: Path) -> None:
    first = executed(app, tmp_path, "CREATE TABLE app.t (id int)", environment="a")
    newest(first)
    second = executed(app, tmp_path, "CREATE TABLE app.u (id int)", environment="b")
    with pytest.raises(PhaseGateError, match="a later execution of alpha follows") as stopped:
        newest(first)
    assert Path(second.artefacts.path).name in stopped.value.expected
    newest(second)
    rolled_back(second)
    with pytest.raises(PhaseGateError, match="was rolled back already"):
        newest(second)
    # what is left in place is the first one
    newest(first)


@pytest.mark.fault("rollback-again")
def test_a_copy_beside_an_execution_is_not_a_later_one(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int)")
    shutil.copytree(run.artefacts.path, f"{run.artefacts.path}.copy")
    newest(run)


def test_a_journal_that_cannot_be_read_stops_both(app: Client, tmp_path: Path) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int)")
    other = run.root / "alpha_test_19990101T000000Z"
    shutil.copytree(run.artefacts.path, other)
    journal = other / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"COMMITTED"', b'"NOT_STARTED"', 1))
    for check in (unspent, newest):
        with pytest.raises(PhaseGateError, match="not known what an earlier run of this phase did"):
            check(run)


@pytest.mark.parametrize(
    "odd", [{"identity": []}, {"identity": {"databases": 1}}, {"kind": ["execute"]}, {"key_of_a_later_release": 1}]
)
def test_a_journal_of_another_form_is_unclear(app: Client, tmp_path: Path, odd: dict[str, Any]) -> None:
    run = executed(app, tmp_path, "CREATE TABLE app.t (id int)")
    other = RunDirectory(str(run.root / "alpha_test_29990101T000000Z"))
    other.create()
    other.journal.append("run", "open", {**run.artefacts.journal.entries()[0].data, **odd})
    for check in (unspent, newest):
        with pytest.raises(PhaseGateError, match="not known what an earlier run of this phase did"):
            check(run)
