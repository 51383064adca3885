# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a journal says about its run: questions over its entries, each answered in one place."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Iterator, Mapping, Sequence, Type, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.batch_events import BatchBegun, BatchResolved
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    DONE,
    FAILED,
    LockTaken,
    OutcomeResolved,
    RunContinued,
    RunOpened,
    SealBegun,
    StatementBegun,
    StatementDone,
    StatementFailed,
    StepEnd,
    Transacted,
    TransactionBegun,
    record_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Record
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_lock import RunLock
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome

R = TypeVar("R", bound=Record)
E = TypeVar("E", bound=StepEnd)

#: What reading raises for a journal whose chain holds and whose nested values are of other types than a release writes.
UNREADABLE = (TypeError, ValueError, KeyError, AttributeError)


def records_of(entries: Sequence[Entry], kind: Type[R], step: str | None = None) -> list[R]:
    """Return every record of a kind, oldest first; of one command, when ``step`` names it."""
    chosen = (entry for entry in entries if step is None or entry.step == step)
    return [record for record in map(record_of, chosen) if isinstance(record, kind)]


def newest_end(entries: Sequence[Entry], kind: Type[E], *, done: bool = False) -> E:
    """Return a command's outcome, each field as its newest entry has it; all are None when it never ended.

    A command that was tried again, or that several modules make up, ends more than once. ``done`` leaves failures out.
    """
    result = kind()
    for entry in entries:
        if entry.step == kind.step and (entry.event == DONE or (entry.event == FAILED and not done)):
            record = kind.from_entry(entry)
            known = {one.name: getattr(record, one.name) for one in fields(record)}
            result = replace(result, **{name: value for name, value in known.items() if value is not None})
    return result


def gates_of(entries: Sequence[Entry]) -> Iterator[Mapping[str, Any]]:
    """Give the gates that were evaluated, oldest first."""
    for record in map(record_of, entries):
        yield from getattr(record, "gates", None) or ()


def opening_of(entries: Sequence[Entry]) -> RunOpened | None:
    """Return what the run was opened with; None for a run that failed before it could be opened."""
    return next(iter(records_of(entries, RunOpened)), None)


def continued_runs(entries: Sequence[Entry]) -> set[str]:
    """Return the names of the runs that a run goes on with: it is the same one as they are."""
    return {record.bundle for record in records_of(entries, RunContinued)}


def since_continued(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries of the run itself, without those of a run that it goes on with."""
    last = max((n for n, entry in enumerate(entries) if isinstance(record_of(entry), RunContinued)), default=0)
    return entries[last:]


def recorded_lock(entries: Sequence[Entry]) -> RunLock | None:
    """Return the session that holds the run's lock by the newest entry that names one."""
    named = [one for one in map(record_of, entries) if isinstance(one, (RunOpened, LockTaken)) and one.lock]
    return RunLock(**(named[-1].lock or {})) if named else None


def journaled_outcome(entries: Sequence[Entry], command: str) -> str | None:
    """Return a command's outcome by the journal: COMMITTED once it is, NOT_STARTED without a transaction.

    None when the journal does not record how the last transaction ended: it never reported, or reported UNKNOWN. A
    later attempt that stopped before a transaction of its own says nothing about the one before.
    """
    outcome: str | None = TransactionOutcome.NOT_STARTED
    for record in records_of(entries, Record, command):
        if isinstance(record, TransactionBegun):
            outcome = None
        elif isinstance(record, (Transacted, OutcomeResolved)):
            ended = record.outcome or TransactionOutcome.NOT_STARTED
            if ended != TransactionOutcome.NOT_STARTED:
                outcome = None if ended == TransactionOutcome.UNKNOWN else ended
        if outcome == TransactionOutcome.COMMITTED:
            break
    return outcome


def last_outcome(entries: Sequence[Entry], command: str) -> str | None:
    """Return the newest outcome that the journal has of a command, None when it has none."""
    found = records_of(entries, Record, command)
    outcomes = [one.outcome for one in found if isinstance(one, (Transacted, OutcomeResolved)) and one.outcome]
    return outcomes[-1] if outcomes else None


def recorded_name(entries: Sequence[Entry]) -> str:
    """Return the name that a run was sealed with, '' without a seal: a directory may be a copy of another one, or renamed."""
    seal = record_of(entries[-1]) if entries else None
    return (seal.name if isinstance(seal, SealBegun) else None) or ""


def statement_events(
    entries: Sequence[Entry], command: str
) -> dict[int, StatementBegun | StatementDone | StatementFailed]:
    """Return the last event of each statement after COMMIT, by its number."""
    found = records_of(entries, Record, command)
    return {one.n: one for one in found if isinstance(one, (StatementBegun, StatementDone, StatementFailed))}


def batches_of(entries: Sequence[Entry], command: str, n: int) -> list[BatchBegun]:
    """Return the batches of a statement in order, the newest attempt of each: all but the last one have committed, and maybe that one."""
    found = (one for one in records_of(entries, BatchBegun, command) if one.n == n)
    return list({one.number: one for one in found}.values())


def committed_batches(entries: Sequence[Entry], command: str, n: int) -> list[BatchBegun]:
    """Return the batches of a statement that have committed, as far as the journal tells: the last one where nothing says otherwise."""
    found = batches_of(entries, command, n)
    lost = {
        one.xid for one in records_of(entries, BatchResolved, command) if one.outcome != TransactionOutcome.COMMITTED
    }
    return found[:-1] if found and found[-1].xid in lost else found


def statements_left(
    statements: Sequence[Mapping[str, Any]], entries: Sequence[Entry], command: str
) -> list[Mapping[str, Any]]:
    """Return the statements after COMMIT of which the journal does not say that they are done."""
    known = statement_events(entries, command)
    return [one for one in statements if one["after_commit"] and not isinstance(known.get(one["n"]), StatementDone)]
