# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run is judged by before its backup: gates, the loss of a rollback; in check mode all of it, without a run."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import (
    collect_approvals,
    write_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import registered
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    GatesEvaluated,
    RunOpened,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import (
    PhaseGateError,
    noted,
    raise_noted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    GATE_TITLES,
    Gate,
    digest_gate,
    failed_gates,
    gate_order,
    gates_without_meaning_for_rollback,
    make_gate,
    not_reached_gates,
    stop_at_gates,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import require_privileges
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.evaluation import (
    ConditionRules,
    evaluate_conditions,
    stop_at_conditions,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.facts import (
    PlanNeeds,
    Surroundings,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.applied import Live
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import (
    MigrationRequest,
    plan_gates,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.host_lock import observed_host_lock
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock_holders import observed_lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import (
    open_run,
    opening_target_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.required_phases import (
    reviews_below,
    write_reviews,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import (
    RollbackRequest,
    gates_before_backup,
    loss_before_backup,
    require_accepted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import read_frozen


@dataclass(frozen=True)
class Case:
    """What is judged before a run's backup. C-07 and C-09 judge it again.

    ``files`` are the paths of the plan's SQL on this host; ``undo`` is the rollback, None for an execution; ``live`` reads the
    schema; ``root`` is the directory of all runs, ``declared`` the target's identity by the inventory.
    """

    plan: Mapping[str, Any]
    about: RunOpened
    identity: Identity
    files: Mapping[str, str]
    undo: RollbackRequest | None
    live: Live
    root: str
    declared: Mapping[str, Any]

    @property
    def need(self) -> PlanNeeds:
        """Return what the SQL to run needs."""
        return PlanNeeds.of_plan(self.plan, rollback=self.undo is not None)

    @property
    def part(self) -> str:
        """Return the part of the plan that would run."""
        return "rollback" if self.undo else "ddl"

    @property
    def statements(self) -> list[dict[str, Any]]:
        """Return the statements of the SQL to run."""
        found: list[dict[str, Any]] = self.plan[self.part]["statements"]
        return found

    def gates(self, session: Session, artefacts: RunDirectory, *, keep: bool = True) -> list[Gate]:
        """Evaluate the gates that need neither a backup nor the transaction. ``artefacts`` has the frozen SQL."""
        request = MigrationRequest(
            plan=self.plan,
            ddl=read_frozen(artefacts, self.plan[self.part]["file"]),
            artefacts=artefacts,
            declared=self.declared,
            max_backup_age=0,
            lock_attempts=1,
            root=self.root,
            keep=keep,
        )
        if self.undo:
            gates = gates_before_backup(session, request, self.undo, self.identity)
        else:
            gates = plan_gates(session, request, self.identity, self.live())
            gates.append(digest_gate(self.plan[self.part]["sha256"], request.ddl_sha256))
        return sorted(gates, key=gate_order)

    def require_accepted_loss(self, session: Session) -> None:
        """Raise ``PhaseGateError`` unless what a rollback would lose now is accepted."""
        if self.undo:
            require_accepted(self.undo, loss_before_backup(session, self.undo, self.live))


def _demanding(case: Case) -> bool:
    """Return whether a gate can fail: not for a plan that was not rehearsed and need not be, requires no phase, no approval."""
    phase = case.plan["phase"]
    if "rehearsal" in case.plan or phase["requires"] or phase["diff"]["policy"] == "exact":
        return True
    approvals = registered(case.identity.system_identifier, required=case.about.approvals_required)
    return not isinstance(approvals, Gate) or bool(failed_gates([approvals]))


def stop_before_backup(session: Session, case: Case, artefacts: RunDirectory) -> None:
    """Raise ``PhaseGateError`` where a gate fails that needs no backup, or the loss of a rollback is not accepted.

    Both are told at once: what reviewers sign for a rollback names the accepted loss.
    """
    reasons: list[PhaseGateError] = []
    if case.undo or _demanding(case):
        gates = case.gates(session, artefacts)
        if failed_gates(gates):
            GatesEvaluated([gate.as_dict() for gate in gates]).write(artefacts.journal)
        with noted(reasons):
            stop_at_gates(gates)
    with noted(reasons):
        case.require_accepted_loss(session)
    raise_noted(reasons)


def judge_without_run(
    session: Session,
    case: Case,
    files: str,
    around: Surroundings,
    rules: ConditionRules,
    problems: list[PhaseGateError],
) -> dict[str, Any]:
    """Evaluate all that the run would stop at before its backup, in a directory that is removed (check mode).

    Returns what differs from a new run's result; ``problems`` receives what would stop the run.
    """
    target = opening_target_gate(case.about.kind, case.plan, case.declared, case.identity)
    if failed_gates([target]):
        with noted(problems):
            stop_at_gates([target])
        return {}
    gates: list[Gate] = []
    with tempfile.TemporaryDirectory(prefix="phasegate-") as scratch, noted(problems):
        artefacts = open_run(scratch, case.plan, case.about, case.declared, case.files)
        if not case.undo:
            keep_approvals(artefacts, files)
        gates = case.gates(session, artefacts, keep=False)
        stop_at_gates(gates)
    with noted(problems):
        case.require_accepted_loss(session)
    judged = evaluate_conditions(around.facts(), case.need, rules)
    with noted(problems):
        stop_at_conditions(judged)
    with noted(problems):
        require_privileges(session, case.statements, case.plan["phase"]["settings"]["search_path"])
    held = observed_lock_gate(session, case.root) or observed_host_lock(case.root, case.identity)
    free = make_gate("G-7", True, "no other run holds this database", "no other session, no lock", "")
    gates += [held or free, *(gates_without_meaning_for_rollback() if case.undo else [])]
    gates += not_reached_gates(set(GATE_TITLES) - {gate.id for gate in gates})
    return {
        "conditions": [one.as_dict() for one in judged],
        "gates": [gate.as_dict() for gate in sorted(gates, key=gate_order)],
        "lock": held.as_dict() if held else {},
    }


def keep_approvals(artefacts: RunDirectory, files: str) -> None:
    """Copy the approvals of the plan and the reviews of the required phases into the run."""
    write_approvals(artefacts.file("plan.json"), *collect_approvals(os.path.join(files, "plan.json")))
    write_reviews(artefacts, reviews_below(files))
