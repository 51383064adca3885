# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the earlier runs of a phase did to a database, in every environment below the root; what may not be done twice.

An approval is a signature over bytes, and the same bytes signed again give the same signature. So a plan whose execution was
rolled back is spent, and an execution is rolled back once, the newest one only: else old signatures would permit a new change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    EXECUTE,
    REHEARSAL,
    ROLLBACK,
    SealBegun,
    record_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    continued_runs,
    journaled_outcome,
    opening_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    ran_on,
    resolved_outcome,
    runs_below,
)


@dataclass(frozen=True)
class Execution:
    """An execution that committed: when it was opened, its directory, its plan's digest, and the runs that it continues."""

    at: str
    run: RunDirectory
    plan_sha256: str
    origins: frozenset[str]


@dataclass
class History:
    """The runs of one phase: ``executions`` that committed on this database, by name; ``undone`` by which rollback.

    ``elsewhere`` are names of runs on other databases, ``unclear`` why the outcome of a run is unknown.
    """

    executions: dict[str, Execution] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def add(self, run: RunDirectory, phase: str, identity: Identity, client: Client | None) -> None:
        """Classify one artefact directory."""
        try:
            entries = run.journal.entries()
        except PhaseGateError as error:
            self.unclear.append(f"{name_of(run)}: {error.what}")
            return
        start = opening_of(entries)
        if start is None or start.phase != phase or start.kind == REHEARSAL:
            return
        if not ran_on(start, identity):
            there = start.identity
            self.elsewhere.append(f"{name_of(run)} on {there['database']} of cluster {there['system_identifier']}")
            return
        outcome = journaled_outcome(entries, COMMAND[start.kind])
        if outcome is None and client is not None:
            outcome = resolved_outcome(client, run, entries, COMMAND[start.kind])
        name = _recorded_name(run, entries)
        if outcome is None:
            self.unclear.append(f"{name_of(run)}: its outcome is unknown")
        elif outcome == TransactionOutcome.COMMITTED and start.kind == ROLLBACK:
            self.undone[start.execution or ""] = name
        elif (
            outcome == TransactionOutcome.COMMITTED
            and start.kind == EXECUTE
            and (name == name_of(run) or name not in self.executions)
        ):
            origins = frozenset(continued_runs(entries))
            self.executions[name] = Execution(entries[0].at, run, start.plan_sha256, origins)

    def newest(self) -> str:
        """Return the name of the newest execution, whether it was rolled back or not; there has to be one."""
        continued = {origin for execution in self.executions.values() for origin in execution.origins}
        return max(self.executions.keys() - continued, key=lambda name: (self.executions[name].at, name))

    def same(self, name: str) -> set[str]:
        """Return the names of an execution: its run's, those that it continues, and those that continue it."""
        families = [{other, *execution.origins} for other, execution in self.executions.items()]
        return {name}.union(*(family for family in families if name in family))

    def rollback_of(self, name: str) -> str:
        """Return the name of the run that rolled an execution back, or ''."""
        return next((self.undone[one] for one in sorted(self.same(name)) if one in self.undone), "")


def _recorded_name(run: RunDirectory, entries: Sequence[Entry]) -> str:
    """Return the name that a run was sealed with: a directory may be a copy of another one, or renamed."""
    seal = record_of(entries[-1])
    return (seal.name if isinstance(seal, SealBegun) else None) or name_of(run)


def runs_of(root: str, phase: str, identity: Identity, client: Client | None = None) -> History:
    """Return what the runs of ``phase`` below ``root`` did to this database.

    With a ``client``, an outcome that a run never reported is resolved on the server; raises ``PhaseGateError`` when that is
    impossible.
    """
    history = History()
    for artefacts in runs_below(root, f"{phase}_"):
        history.add(artefacts, phase, identity, client)
    return history


def require_unspent(client: Client, root: str, plan: Mapping[str, Any], plan_sha256: str, identity: Identity) -> None:
    """Raise ``PhaseGateError`` when an execution of exactly this rehearsed plan was rolled back.

    A plan without a rehearsal cannot be approved, and has nothing in it that would tell it from the next one.
    """
    if "rehearsal" not in plan:
        return
    history = _known(runs_of(root, plan["phase"]["phase"], identity, client))
    for name, execution in sorted(history.executions.items()):
        rollback = history.rollback_of(name)
        if rollback and execution.plan_sha256 == plan_sha256:
            raise PhaseGateError(
                "The plan is spent: it was executed on this database, and rolled back.",
                expected="a plan that was not executed here yet",
                found=f"{name} executed the plan with SHA-256 {plan_sha256}; {rollback} rolled it back",
                next_step="rehearse the phase again, and have the new plan approved: the old approvals permit nothing more",
            )


def require_newest(client: Client, root: str, execution: RunDirectory, phase: str, identity: Identity) -> None:
    """Raise ``PhaseGateError`` unless an execution is the newest one of its phase here, and was not rolled back."""
    history = _known(runs_of(root, phase, identity, client))
    name = name_of(execution)
    rollback = history.rollback_of(name)
    in_place = {one: what.at for one, what in history.executions.items() if not history.rollback_of(one)}
    newest = max(in_place, key=lambda one: (in_place[one], one), default=name)
    if rollback:
        raise PhaseGateError(
            "C-09: the execution was rolled back already.",
            expected=f"an execution of {phase} that is still in place",
            found=f"{rollback} rolled {name} back",
            next_step=f"read the report of {rollback}"
            + (f"; to undo a later execution, give its own bundle: {newest}" if newest != name else ""),
        )
    if newest not in history.same(name):
        raise PhaseGateError(
            f"C-09: a later execution of {phase} follows the one to undo.",
            expected=f"the newest execution of {phase} on this database: {newest}",
            found=name,
            next_step=f"roll {newest} back first, or give its bundle",
        )


def _known(history: History) -> History:
    """Return ``history``. Raises ``PhaseGateError`` when it is not known how a run in it ended."""
    if history.unclear:
        raise PhaseGateError(
            "It is not known what an earlier run of this phase did to this database.",
            expected="a journal that can be read, and an outcome, of each run",
            found="; ".join(history.unclear),
            next_step="find out by hand whether that run committed, and put its directory in order, before you run anything else",
        )
    return history
