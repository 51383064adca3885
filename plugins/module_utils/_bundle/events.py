# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events of a run's journal: one record each, with every key that its entry can have.

Whoever writes an entry builds its record; whoever reads one gets a record back. A field that is None is not in the entry. The nested
mappings are those of ``as_dict`` of the class that the field's comment names.

``StepEnd`` and its subclasses are the outcome of a command (C-01 … C-09, R-0 … R-5): ``done``, or ``failed`` with a reason and what was
known by then. ``RunEvent`` and its subclasses belong to the run as a whole, ``Note`` and its subclasses to the middle of a command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Mapping, Sequence, Type, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.batch_events import (
    BatchBegun,
    BatchPaused,
    BatchResolved,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry, Journal
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Note, Record
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError

INTENT = "intent"
DONE = "done"
FAILED = "failed"

# What a run is for, and the command in which it changes the database.
EXECUTE = "execute"
ROLLBACK = "rollback"
REHEARSAL = "rehearsal"
# A phase that was applied before is verified again, read-only. Only a failed one has a directory of its own.
VERIFICATION = "verification"
COMMAND = {EXECUTE: "C-07", ROLLBACK: "C-09"}

Rows = Sequence[Mapping[str, Any]]
R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class RunEvent(Record):
    """An event of the run as a whole: its step is ``run``."""

    step: ClassVar[str] = "run"
    event: ClassVar[str] = ""

    def write(self, journal: Journal) -> None:
        """Append the event to a journal; on disk when this returns."""
        journal.append(self.step, self.event, self.to_entry())


@dataclass(frozen=True)
class RunOpened(RunEvent):
    """A run was opened: what for, where, by whom, with which plan.

    ``closed`` names the broken runs that the opening sealed; ``execution`` is what a rollback undoes; ``earlier`` are the
    executions of the phase on this database until now (``History.rows``); ``ledger`` is the table of the ledger; ``roles``,
    ``access`` and ``server`` are what a rehearsal's copy needs of the source.
    """

    event: ClassVar[str] = "open"
    kind: str = EXECUTE
    environment: str = ""
    host: str = ""
    inventory: Sequence[str] = ()
    operator: str = ""
    approvals_required: bool = False
    plan_sha256: str = ""
    #: path of plan.json or phase.yml on the controller
    source: str | None = None
    #: the task that opened it, for whoever watches
    task: str | None = None
    #: Identity
    identity: Mapping[str, Any] = field(default_factory=dict)
    execution: str | None = None
    closed: Sequence[str] | None = None
    earlier: Rows | None = None
    ledger: str | None = None
    roles: Sequence[str] | None = None
    access: Mapping[str, Any] | None = None
    server: Mapping[str, Any] | None = None
    #: RunLock
    lock: Mapping[str, Any] | None = None
    path: str = ""
    phase: str = ""
    ddl_sha256: str = ""
    format: str | None = None


@dataclass(frozen=True)
class RunNotOpened(RunEvent):
    """A run failed before it could be opened; its directory holds the reason.

    ``kind`` is what it was meant for, ``execution`` what a rollback or a verification was about.
    """

    event: ClassVar[str] = "not opened"
    kind: str = EXECUTE
    execution: str | None = None
    phase: str | None = ""
    environment: str | None = ""
    host: str = ""
    format: str | None = None


@dataclass(frozen=True)
class RunContinued(RunEvent):
    """The run goes on, in a copy, with the sealed run ``bundle``."""

    event: ClassVar[str] = "continue"
    bundle: str = ""
    seal: str = ""
    path: str = ""


@dataclass(frozen=True)
class LockTaken(RunEvent):
    """Another session took the run's lock, to finish the run."""

    event: ClassVar[str] = "lock"
    #: RunLock
    lock: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ConditionsEvaluated(RunEvent):
    """The pre-run conditions, and the limits that they are evaluated by."""

    event: ClassVar[str] = "conditions"
    #: Condition
    conditions: Rows = ()
    limits: Mapping[str, int] | None = None


@dataclass(frozen=True)
class GatesEvaluated(RunEvent):
    """Gates that failed when the run was opened."""

    event: ClassVar[str] = "judged"
    #: Gate
    gates: Rows = ()


@dataclass(frozen=True)
class RegisterRead(RunEvent):
    """The register of reviewers at ``path`` was read for G-1; ``files`` are its files' SHA-256, which are below ``register/``."""

    event: ClassVar[str] = "register"
    path: str = ""
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFailed(RunEvent):
    """The run failed outside of its commands."""

    event: ClassVar[str] = FAILED
    reason: str = ""
    #: Gate
    gates: Rows | None = None


@dataclass(frozen=True)
class DraftObserved(RunEvent):
    """What a draft did on its copy is in ``observed.json``, of this SHA-256."""

    event: ClassVar[str] = "observed"
    sha256: str = ""


@dataclass(frozen=True)
class RunLeft(RunEvent):
    """The controller could not seal the run and left it to the next one."""

    event: ClassVar[str] = "left"
    reason: str = ""


@dataclass(frozen=True)
class SealBegun(RunEvent):
    """The report of this outcome, title and warnings is being written: in a run directory of this name, with these files (SHA-256)."""

    event: ClassVar[str] = "seal"
    name: str | None = None
    directories: Sequence[str] | None = None
    files: Mapping[str, str] | None = None
    outcome: str | None = None
    title: str | None = None
    warnings: Sequence[str] | None = None


@dataclass(frozen=True)
class TransactionBegun(Note):
    """The transaction has its id; the gates are here too, for a report about a run that is killed next."""

    event: ClassVar[str] = "transaction"
    xid: str = ""
    pid: int = 0
    #: Gate
    gates: Rows = ()


@dataclass(frozen=True)
class CommitSent(Note):
    """COMMIT is sent next."""

    event: ClassVar[str] = "commit"
    xid: str = ""


@dataclass(frozen=True)
class LockTimedOut(Note):
    """An attempt ended because a lock was not granted in time."""

    event: ClassVar[str] = "lock timeout"
    attempt: int = 0
    found: str = ""


@dataclass(frozen=True)
class LockAwaited(Note):
    """A lock has been waited for; the attempt may still get it.

    ``what`` names the relation or says what else is locked, ``mode`` is that of the lock. ``holders`` are the sessions in its way: ``pid``
    (0 for a prepared transaction), ``role`` that the server authenticated, ``application`` by its own word, ``since`` its transaction began.
    """

    event: ClassVar[str] = "lock wait"
    what: str = ""
    mode: str = ""
    holders: Rows = ()


@dataclass(frozen=True)
class Progress(Note):
    """How far a long command is: ``done`` of ``total`` in ``unit``, where ``total`` is 0 if unknown; of bytes it is an estimate."""

    event: ClassVar[str] = "progress"
    what: str = ""
    unit: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class OutcomeResolved(Note):
    """The server was asked how a transaction ended that had not reported."""

    event: ClassVar[str] = "resolved"
    outcome: str = ""
    xid: str = ""


@dataclass(frozen=True)
class StatementBegun(Note):
    """A statement after COMMIT is sent next; ``after_commit`` is the object that it is about."""

    event: ClassVar[str] = "statement"
    n: int = 0
    tag: str = ""
    line: int = 0
    after_commit: str = ""


@dataclass(frozen=True)
class StatementDone(Note):
    """A statement after COMMIT was completed."""

    event: ClassVar[str] = "statement done"
    n: int = 0
    tag: str = ""
    line: int = 0
    rows: int | None = None
    milliseconds: float = 0.0


@dataclass(frozen=True)
class StatementFailed(Note):
    """A statement after COMMIT failed; ``left`` says what it left, '' when nothing."""

    event: ClassVar[str] = "statement failed"
    n: int = 0
    found: str = ""
    left: str = ""


@dataclass(frozen=True)
class StepEnd(Record):
    """How a command ended; ``reason`` is there when it failed."""

    step: ClassVar[str] = ""
    reason: str | None = None


@dataclass(frozen=True)
class BackupMade(StepEnd):
    """C-01. ``removed`` names what a killed backup had left."""

    step: ClassVar[str] = "C-01"
    removed: Sequence[str] | None = None
    #: BackupRecord
    backup: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class BackupMarked(StepEnd):
    """C-02: the backup's digest and when it began, in seconds by the server's clock."""

    step: ClassVar[str] = "C-02"
    sha256: str | None = None
    started_epoch: float | None = None


@dataclass(frozen=True)
class SchemaRecorded(StepEnd):
    """C-03. ``unseen`` is what the role may not read."""

    step: ClassVar[str] = "C-03"
    fingerprint: str | None = None
    objects: int | None = None
    unseen: Sequence[str] | None = None


@dataclass(frozen=True)
class DataRecorded(StepEnd):
    """C-04."""

    step: ClassVar[str] = "C-04"
    row_counts: Mapping[str, int | None] | None = None
    #: ColumnStats by the measure's id
    measures: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SqlFrozen(StepEnd):
    """C-05: name, SHA-256 and size in bytes of each file."""

    step: ClassVar[str] = "C-05"
    files: Rows | None = None


@dataclass(frozen=True)
class PreflightRun(StepEnd):
    """C-06. ``gates`` is G-6 alone."""

    step: ClassVar[str] = "C-06"
    #: CheckResult
    checks: Rows | None = None
    summary: str | None = None
    #: Gate
    gates: Rows | None = None


@dataclass(frozen=True)
class Transacted(StepEnd):
    """A command that changes the database.

    ``unchanged`` says after a rollback whether the schema is as before, ``fingerprint`` what it is; ``ledger`` is the row of
    the ledger that was written in the transaction.
    """

    outcome: str | None = None
    #: Gate
    gates: Rows | None = None
    #: MigrationResult
    transaction: Mapping[str, Any] | None = None
    #: what a rollback would lose of what was there before, as name and digest
    baseline: Rows | None = None
    #: LedgerRow
    ledger: Mapping[str, Any] | None = None
    unchanged: bool | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Migrated(Transacted):
    """C-07."""

    step: ClassVar[str] = "C-07"


@dataclass(frozen=True)
class RolledBack(Transacted):
    """C-09. ``losses`` are the rows lost with it, by what; ``restored`` whether the schema is as before the phase.

    ``changes`` is what it changed in the schema, as text.
    """

    step: ClassVar[str] = "C-09"
    changes: str | None = None
    losses: Rows | None = None
    restored: bool | None = None


@dataclass(frozen=True)
class Verified(StepEnd):
    """C-08. ``deviations`` are undeclared moves of counts and measurements; ``elsewhere`` those after a judged transaction."""

    step: ClassVar[str] = "C-08"
    fingerprint: str | None = None
    objects: int | None = None
    unseen: Sequence[str] | None = None
    row_counts: Mapping[str, int | None] | None = None
    measures: Mapping[str, Any] | None = None
    measured: Rows | None = None
    deviations: Sequence[str] | None = None
    elsewhere: Sequence[str] | None = None
    #: policy, ok, message, offending, lines, text, changes
    diff: Mapping[str, Any] | None = None
    #: CheckResult
    checks: Rows | None = None
    summary: str | None = None
    #: CheckResult
    non_scope: Rows | None = None


@dataclass(frozen=True)
class ClusterChecked(StepEnd):
    """R-0."""

    step: ClassVar[str] = "R-0"
    #: Identity
    cluster: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CopyRestored(StepEnd):
    """R-1."""

    step: ClassVar[str] = "R-1"
    restore: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CopyMigrated(Transacted):
    """R-2."""

    step: ClassVar[str] = "R-2"


@dataclass(frozen=True)
class CopyVerified(Verified):
    """R-3."""

    step: ClassVar[str] = "R-3"


@dataclass(frozen=True)
class CopyRolledBack(RolledBack):
    """R-4."""

    step: ClassVar[str] = "R-4"


@dataclass(frozen=True)
class CopyMigratedAgain(Transacted, Verified):
    """R-5: migrated and verified once more."""

    step: ClassVar[str] = "R-5"


def _subclasses(base: Type[R]) -> list[Type[R]]:
    return [found for one in base.__subclasses__() for found in (one, *_subclasses(one))]


_ENDS: dict[str, Type[StepEnd]] = {one.step: one for one in _subclasses(StepEnd) if one.step}
_RUN_EVENTS: dict[str, Type[RunEvent]] = {one.event: one for one in _subclasses(RunEvent)}
_OF_BATCHES: tuple[Type[Note], ...] = (BatchBegun, BatchPaused, BatchResolved)
_NOTES: dict[str, Type[Note]] = {one.event: one for one in {*_subclasses(Note), *_OF_BATCHES}}


def record_of(entry: Entry) -> Record | None:
    """Return what an entry says; None for an intent, and for a step that no run has, which G-11 is about.

    Raises ``PhaseGateError`` for another event of a run's own steps.
    """
    found: Type[Record] | None
    if entry.event == INTENT or entry.step not in (RunEvent.step, *_ENDS):
        return None
    if entry.step == RunEvent.step:
        found = _RUN_EVENTS.get(entry.event)
    elif entry.event in (DONE, FAILED):
        found = _ENDS.get(entry.step)
    else:
        found = _NOTES.get(entry.event)
    if found is None:
        raise PhaseGateError(
            f"The journal's line {entry.seq} has an unknown event.",
            expected="an event of this release of the collection",
            found=f"{entry.step} {entry.event}",
            next_step="use the release of the collection that wrote this run directory",
        )
    return found.from_entry(entry)
