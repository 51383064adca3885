# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ledger of the database says about runs, beside their directories; it can refuse a run, and permits none.

``judge_ledger`` compares the two at the opening; ``LedgerEntry`` writes the row of a run in the run's own transaction.
"""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated, RolledBack, Transacted
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end, opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity, is_made_anew
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.ledger import (
    EXECUTION,
    ROLLBACK,
    Ledger,
    LedgerRow,
    same_plan,
    undone,
    written_ledgers,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._run.applied import Live, before_it, is_lost
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import (
    REHEARSE_AGAIN,
    EarlierRun,
    History,
)


def ledger_relation(artefacts: RunDirectory) -> str:
    """Return the ledger that a run writes a row to in its transaction, as ``schema.table``; '' without one."""
    start = opening_of(artefacts.journal.entries())
    return (start.ledger if start else None) or ""


def opened_ledger(session: Session, relation: str, plan: Mapping[str, Any]) -> tuple[Ledger | None, list[LedgerRow]]:
    """Return the ledger that the inventory names, with its rows; None when it names none.

    Raises ``PhaseGateError`` for a table that cannot be trusted, for a plan that touches it, and when the database has a ledger with
    rows that is not named: whoever edits the inventory could hide an execution otherwise.
    """
    ledger = Ledger.of(relation) if relation else None
    if ledger:
        ledger.require(session)
    for other in written_ledgers(session):
        if other.relation != relation:
            raise PhaseGateError(
                "The database has a ledger that the inventory does not name.",
                expected=f"phasegate_ledger: {other.relation}",
                found=f"{f'phasegate_ledger: {relation}' if relation else 'no phasegate_ledger'}, and rows in {other.relation}",
                next_step="set phasegate_ledger in the inventory; to do without this ledger from now on, drop the table"
                f" {other.relation}",
            )
    if ledger is None:
        return None, []
    touching = [
        f"{plan[part]['file']} line {statement['line']}"
        for part in ("ddl", "rollback")
        for statement in plan[part]["statements"]
        if relation in statement["relations"]
    ]
    if touching:
        raise PhaseGateError(
            "The phase touches the ledger.",
            expected=f"no statement about {relation}, which only the collection writes to",
            found="; ".join(touching),
            next_step="correct the SQL as a new revision",
        )
    return ledger, ledger.rows(session)


def approvals_were_required(rows: list[LedgerRow], identity: Identity) -> bool:
    """Return whether the ledger remembers that approvals were required on this cluster."""
    return any(row.approvals_required == "true" and row.system_identifier == identity.system_identifier for row in rows)


def judge_ledger(
    session: Session,
    ledger: Ledger,
    rows: list[LedgerRow],
    history: History,
    identity: Identity,
    live: Live,
) -> None:
    """Compare the ledger with the run directories, and add to ``history`` the rollbacks that only the ledger knows.

    Raises ``PhaseGateError`` when a row that a run wrote is missing or another one, unless the database lost the run's changes, too:
    then it was restored, and the ledger with it.
    """
    by_run = {row.run: row for row in rows}
    for one in [*history.executions.values(), *history.rollbacks.values()]:
        written = _written(one)
        found = by_run.get(one.name)
        if written is None or (found and _facts(found) == _facts(written)):
            continue
        in_place = one.name in history.executions and not history.rollback_of(one.name)
        restored = is_made_anew(one.start.identity, identity) or before_it(session, one)
        if restored or (in_place and is_lost(session, one, identity, live)):
            continue
        raise PhaseGateError(
            f"The ledger {ledger.relation} differs from the evidence of {one.name}.",
            expected=f"the row that {one.name} wrote in its transaction {written.xid}",
            found=f"the row {found.as_dict()}" if found else "no such row",
            next_step="find out who changed the ledger, or restored the database from an older backup; then add the row again"
            + ("" if not found else ", in place of the changed one")
            + f": {ledger.restoring(written)}",
        )
    for execution, rollback in undone(rows).items():
        if execution in history.executions and not history.rollback_of(execution):
            history.undone[execution] = rollback


def require_by_ledger(
    ledger: Ledger, rows: list[LedgerRow], history: History, plan: Mapping[str, Any], plan_sha256: str
) -> None:
    """Raise ``PhaseGateError`` when the ledger has an execution of this plan, or a rollback of it, that no run directory knows."""
    rehearsed, gone = "rehearsal" in plan, undone(rows)
    for row in same_plan(rows, plan_sha256):
        known = history.executions.get(row.run)
        rollback = gone.get(row.run, "")
        if known and (not rollback or rollback in history.rollbacks):
            continue
        if not known and rollback and not rehearsed:
            # executed and rolled back, as often as one likes: the row counts as a repetition
            continue
        missing = f"{row.run} in {row.bundle}" if not known else f"the rollback {rollback}"
        raise PhaseGateError(
            "The ledger of this database has an execution of this plan that no run directory accounts for.",
            expected=f"a plan that is not in {ledger.relation}, or the run directories of what is there",
            found=f"row {row.n}: {row.run}, executed at {row.at} by {row.executor} in transaction {row.xid}"
            + (f", rolled back by {rollback}" if rollback else "")
            + f"; missing is {missing}",
            next_step="bring the run directory back, or correct phasegate_root; to apply the phase again, "
            + REHEARSE_AGAIN,
        )


def require_newest_by_ledger(ledger: Ledger, rows: list[LedgerRow], history: History, name: str) -> None:
    """Raise ``PhaseGateError`` when the ledger has a later execution of the phase than the one to undo, which is still in place."""
    own = next((row for row in rows if row.run in history.same(name) and row.kind == EXECUTION), None)
    gone = undone(rows)
    later = [
        row
        for row in rows
        if row.kind == EXECUTION
        and row.phase == history.phase
        and row.run not in gone
        and row.run not in history.executions
        and (own is None or int(row.n) > int(own.n))
    ]
    if later:
        row = later[-1]
        raise PhaseGateError(
            f"C-09: by the ledger a later execution of {history.phase} follows the one to undo.",
            expected=f"the newest execution of {history.phase} in {ledger.relation}: {row.run}",
            found=name,
            next_step=f"bring the run directory {row.bundle} back, and roll {row.run} back first",
        )


def _written(one: EarlierRun) -> LedgerRow | None:
    end: Transacted = newest_end(one.entries, Migrated if one.start.execution is None else RolledBack)
    return LedgerRow(**end.ledger) if end.ledger else None


def _facts(row: LedgerRow) -> dict[str, str]:
    """Return what has to be equal: all but the number, which is another one when a row was restored."""
    return {name: value for name, value in row.as_dict().items() if name != "n"}


class LedgerEntry:
    """The row of one run, in the run's transaction: added before the first statement, and looked at before COMMIT.

    ``undoes`` is the execution that a rollback undoes, None for an execution. Does nothing for a run without a ledger.
    """

    def __init__(
        self,
        artefacts: RunDirectory,
        plan: Mapping[str, Any],
        plan_sha256: str,
        step: Step[Any],
        undoes: str | None = None,
    ) -> None:
        relation = ledger_relation(artefacts)
        self.ledger = Ledger.of(relation) if relation else None
        self.artefacts = artefacts
        self.plan = plan
        self.plan_sha256 = plan_sha256
        self.step = step
        self.undoes = undoes
        self._rows: list[LedgerRow] = []

    def add(self, session: Session) -> None:
        """Add the row. Raises ``PhaseGateError`` when the ledger forbids the run."""
        if self.ledger is None:
            return
        self.ledger.require(session)
        before = self.ledger.rows(session)
        start = opening_of(self.artefacts.journal.entries())
        gone = undone(before)
        again = sum(1 for row in same_plan(before, self.plan_sha256) if row.run in gone)
        own = self.ledger.add(
            session,
            {
                "kind": EXECUTION if self.undoes is None else ROLLBACK,
                "run": name_of(self.artefacts),
                "phase": self.plan["phase"]["phase"],
                "revision": self.plan["phase"]["revision"],
                "environment": start.environment if start else "",
                "plan_sha256": self.plan_sha256,
                # of a rehearsed plan there is no repetition: it is spent
                "repetition": 0 if "rehearsal" in self.plan or self.undoes is not None else again,
                "undoes": self.undoes,
                "approvals_required": self._approved(),
                "system_identifier": start.identity["system_identifier"] if start else "",
                "bundle": self.artefacts.path,
            },
        )
        self._rows = [*before, own]
        self.step.update(ledger=own.as_dict())

    def _approved(self) -> bool:
        gates = self.step.end.gates or ()
        return any(gate["id"] == "G-1" and gate["status"] == GateStatus.PASS for gate in gates)

    def require_untouched(self, session: Session) -> None:
        """Raise ``Stopped`` when the statements changed the ledger; nothing has committed."""
        if self.ledger is None:
            return
        self.ledger.require(session)
        if self.ledger.rows(session) != self._rows:
            raise Stopped(
                f"The statements changed the ledger {self.ledger.relation}; rolled back before COMMIT.",
                expected=f"its {len(self._rows)} rows as they were, the last one of this run",
                found="other rows",
                next_step="find out which statement, function or trigger writes there; correct it as a new revision",
            )
