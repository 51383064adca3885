# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the earlier runs of a phase did to a database, in every environment below the root; what may not be done twice.

An approval is a signature over bytes, and the same bytes signed again give the same signature. So a plan whose execution was
rolled back is spent, and an execution is rolled back once, the newest one only: else old signatures would permit a new change.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    EXECUTE,
    ROLLBACK,
    RunOpened,
    TransactionBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    UNREADABLE,
    continued_runs,
    journaled_outcome,
    opening_of,
    recorded_name,
    records_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import open_found
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    Identity,
    is_recorded_database,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    UnknownOutcome,
    resolved_outcome,
)


@dataclass(frozen=True)
class EarlierRun:
    """An execution or rollback of a phase on this database.

    ``name`` is the one that it was sealed with, whatever its directory is called; ``outcome`` how its transaction ended, None
    when that is unknown; ``entries`` its journal.
    """

    run: RunDirectory
    name: str
    start: RunOpened
    outcome: str | None
    entries: Sequence[Entry]

    @property
    def at(self) -> str:
        """Return when it was opened."""
        return self.entries[0].at

    @property
    def origins(self) -> frozenset[str]:
        """Return the names of the runs that it continues."""
        return frozenset(continued_runs(self.entries))

    @property
    def xid(self) -> str:
        """Return the id of its newest transaction, '' without one."""
        begun = records_of(self.entries, TransactionBegun, COMMAND[self.start.kind])
        return begun[-1].xid if begun else ""


@dataclass
class History:
    """The runs of one phase: ``executions`` and ``rollbacks`` that committed on this database, by name; ``undone`` by which rollback.

    ``elsewhere`` are names of runs on other databases. ``unclear`` are the runs whose outcome is unknown: when each was opened,
    its name with the reason, and the error. ``unsealed`` are those without a seal.
    """

    phase: str
    executions: dict[str, EarlierRun] = field(default_factory=dict)
    rollbacks: dict[str, EarlierRun] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    unclear: list[tuple[str, str, PhaseGateError | None]] = field(default_factory=list)
    unsealed: list[EarlierRun] = field(default_factory=list)

    def add(self, run: RunDirectory, identity: Identity, client: Client | None, *, keep: bool) -> None:
        """Read and classify one artefact directory."""
        entries: Sequence[Entry] = ()
        try:
            entries = run.journal.entries()
            start = opening_of(entries)
            if start is None or start.phase != self.phase or start.kind not in COMMAND:
                return
            if not is_recorded_database(start.identity, identity):
                there = start.identity
                self.elsewhere.append(f"{name_of(run)} on {there['database']} of cluster {there['system_identifier']}")
                return
            outcome = journaled_outcome(entries, COMMAND[start.kind])
            if outcome is None and client is not None:
                outcome = resolved_outcome(client, run, entries, COMMAND[start.kind], keep=keep)
            self._known(EarlierRun(run, recorded_name(entries) or name_of(run), start, outcome, entries))
        except PhaseGateError as error:
            at = entries[0].at if entries else _time_of(run)
            self.unclear.append((at, f"{name_of(run)}: {error.what}", error))
        except UNREADABLE as error:
            at = entries[0].at if entries else _time_of(run)
            self.unclear.append(
                (at, f"{name_of(run)}: its journal has another form: {type(error).__name__}: {error}", None)
            )

    def _known(self, one: EarlierRun) -> None:
        if not one.run.sealed:
            self.unsealed.append(one)
        if one.outcome is None:
            self.unclear.append((one.at, f"{name_of(one.run)}: its outcome is unknown", None))
        elif one.outcome == TransactionOutcome.COMMITTED and one.start.kind == ROLLBACK:
            self.undone[one.start.execution or ""] = one.name
            self.rollbacks[one.name] = one
        elif (
            one.outcome == TransactionOutcome.COMMITTED
            and one.start.kind == EXECUTE
            and (one.name == name_of(one.run) or one.name not in self.executions)
        ):
            self.executions[one.name] = one

    def newest(self) -> str:
        """Return the name of the newest execution, whether it was rolled back or not; there has to be one."""
        continued = {origin for execution in self.executions.values() for origin in execution.origins}
        return max(self.executions.keys() - continued, key=self._order)

    def _order(self, name: str) -> tuple[str, str]:
        return self.executions[name].at, name

    def same(self, name: str) -> set[str]:
        """Return the names of an execution: its run's, those that it continues, and those that continue it."""
        families = [{other, *execution.origins} for other, execution in self.executions.items()]
        return {name}.union(*(family for family in families if name in family))

    def rollback_of(self, name: str) -> str:
        """Return the name of the run that rolled an execution back, or ''."""
        return next((self.undone[one] for one in sorted(self.same(name)) if one in self.undone), "")

    def rows(self) -> list[dict[str, str]]:
        """Return the executions, oldest first: name, when it was opened, its plan, and the rollback that undid it or ''."""
        return [
            {
                "execution": name,
                "at": self.executions[name].at,
                "plan_sha256": self.executions[name].start.plan_sha256,
                "undone_by": self.rollback_of(name),
            }
            for name in sorted(self.executions, key=self._order)
        ]

    def in_place(self, ddl_sha256: str) -> EarlierRun | None:
        """Return the newest execution of this DDL that was not rolled back.

        Raises ``PhaseGateError`` when it is not known how a run ended that is as new.
        """
        names = [
            name
            for name, one in self.executions.items()
            if one.start.ddl_sha256 == ddl_sha256 and not self.rollback_of(name)
        ]
        found = self.executions[max(names, key=self._order)] if names else None
        self.require_known(since=found.at if found else "")
        return found

    def require_known(self, since: str = "") -> None:
        """Raise ``PhaseGateError`` when it is not known how a run ended that was opened at this time or later."""
        unclear = [one for one in self.unclear if one[0] >= since]
        for _at, _text, error in unclear:
            if isinstance(error, UnknownOutcome):
                raise error
        if unclear:
            raise PhaseGateError(
                "It is not known what an earlier run of this phase did to this database.",
                expected="a journal that can be read, and an outcome, of each run",
                found="; ".join(text for _at, text, _error in unclear),
                next_step="find out by hand whether that run committed, and put its directory in order, before you run anything else",
            )

    def require_unspent(self, plan: Mapping[str, Any], plan_sha256: str) -> None:
        """Raise ``PhaseGateError`` when an execution of exactly this rehearsed plan was rolled back.

        A plan without a rehearsal cannot be approved, and has nothing in it that would tell it from the next one.
        """
        if "rehearsal" not in plan:
            return
        self.require_known()
        for name, execution in sorted(self.executions.items()):
            rollback = self.rollback_of(name)
            if rollback and execution.start.plan_sha256 == plan_sha256:
                raise PhaseGateError(
                    "The plan is spent: it was executed on this database, and rolled back.",
                    expected="a plan that was not executed here yet",
                    found=f"{name} executed the plan with SHA-256 {plan_sha256}; {rollback} rolled it back",
                    next_step=REHEARSE_AGAIN,
                )

    def require_newest(self, execution: RunDirectory) -> None:
        """Raise ``PhaseGateError`` unless an execution is the newest one of its phase here, and was not rolled back."""
        self.require_known()
        name = name_of(execution)
        rollback = self.rollback_of(name)
        if not self.same(name) & set(self.executions) and not rollback:
            raise PhaseGateError(
                f"C-09: no execution of {self.phase} that committed on this database has this name.",
                expected=f"one of {', '.join(sorted(self.executions)) or 'none'}",
                found=name,
                next_step="give the directory of the execution under the name that it was sealed with",
            )
        standing = [one for one in self.executions if not self.rollback_of(one)]
        newest = max(standing, key=self._order, default=name)
        if rollback:
            raise PhaseGateError(
                "C-09: the execution was rolled back already.",
                expected=f"an execution of {self.phase} that is still in place",
                found=f"{rollback} rolled {name} back",
                next_step=f"read the report of {rollback}"
                + (f"; to undo a later execution, give its own bundle: {newest}" if newest != name else ""),
            )
        if newest not in self.same(name):
            raise PhaseGateError(
                f"C-09: a later execution of {self.phase} follows the one to undo.",
                expected=f"the newest execution of {self.phase} on this database: {newest}",
                found=name,
                next_step=f"roll {newest} back first, or give its bundle",
            )

    def close_broken(self) -> list[str]:
        """Seal the interrupted runs, and return their names.

        The caller holds the run's lock: no other run is active on this database. An execution that committed is left for
        adoption; a rollback that committed is not repeated, so nobody else would seal it.
        """
        names = []
        for one in self.unsealed:
            left = one.outcome is None or (one.outcome == TransactionOutcome.COMMITTED and one.start.kind == EXECUTE)
            if not left and not one.run.sealed and not one.run.working:
                last = one.run.journal.entries()[-1]
                seal_run(one.run, str(_broken_off(last, committed=one.outcome == TransactionOutcome.COMMITTED)))
                names.append(name_of(one.run))
        return names


REHEARSE_AGAIN = "rehearse the phase again, and have the new plan approved: the old approvals permit nothing more"

# Bytes of a journal's first line that are searched for the phase.
_FIRST_LINE = 2**20

_STAMP = re.compile(r"_([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")


def _time_of(run: RunDirectory) -> str:
    """Return when a run was opened by its directory's name; one without a time counts as the newest."""
    stamp = _STAMP.search(name_of(run))
    return "{}-{}-{}T{}:{}:{}".format(*stamp.groups()) if stamp else "~"


def _broken_off(last: Entry, *, committed: bool) -> PhaseGateError:
    return PhaseGateError(
        "The run was interrupted: nothing followed its last step, and its lock was released.",
        expected="every step up to the seal",
        found=f"{last.step} {last.event} at {last.at} as the last line of the journal",
        next_step="find out what ended the controller; "
        + ("the rollback is done" if committed else "the next run, which sealed this one, starts from the beginning"),
    )


def _runs_below(root: str, phase: str) -> Iterator[RunDirectory]:
    """Yield the runs below ``root`` whose directory is called like one of this phase, or whose journal says that it is one."""
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        run = RunDirectory(os.path.join(root, name))
        if run.has_run and (name.startswith(f"{phase}_") or _opened_for(run, phase)):
            yield run


def _opened_for(run: RunDirectory, phase: str) -> bool:
    """Return whether the first line of a journal names this phase: its directory may have been renamed."""
    try:
        with open_found(run.journal.path) as stream:
            return json.dumps(phase).encode("utf-8") in stream.readline(_FIRST_LINE)
    except (OSError, PhaseGateError):
        return False


def runs_of(root: str, phase: str, identity: Identity, client: Client | None = None, *, keep: bool = True) -> History:
    """Return what the runs of ``phase`` below ``root`` did to this database. Each journal is read once.

    With a ``client``, an outcome that a run never reported is resolved on the server, and journaled with ``keep``.
    """
    history = History(phase)
    for run in _runs_below(root, phase):
        history.add(run, identity, client, keep=keep)
    return history
