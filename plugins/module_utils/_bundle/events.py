# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events of a run's journal, and what they say about the run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._common.outcome import COMMITTED, NOT_STARTED, UNKNOWN

# Events of the journal, each with the number ``n`` of the statement.
STATEMENT_BEGUN = "statement"

STATEMENT_DONE = "statement done"

STATEMENT_FAILED = "statement failed"


def statement_events(entries: Sequence[Entry], command: str) -> dict[int, str]:
    """Return the last journaled event of each statement after COMMIT."""
    return {
        int(entry.data["n"]): entry.event
        for entry in entries
        if entry.step == command and entry.event in (STATEMENT_BEGUN, STATEMENT_DONE, STATEMENT_FAILED)
    }


def statements_left(
    statements: Sequence[Mapping[str, Any]], entries: Sequence[Entry], command: str
) -> list[Mapping[str, Any]]:
    """Return the statements after COMMIT that the journal does not record as done."""
    known = statement_events(entries, command)
    return [one for one in statements if one["after_commit"] and known.get(one["n"]) != STATEMENT_DONE]


def last_recorded(artefacts: RunDirectory, step: str, key: str) -> Any:
    """Return ``key`` of the last completed ``step`` of this run that has it, or None."""
    done = [entry.data for entry in artefacts.journal.entries() if (entry.step, entry.event) == (step, "done")]
    return next((data[key] for data in reversed(done) if key in data), None)


# The last line of a run that its controller cannot seal and leaves to the next run.
LOCK_LEFT = "left"


@dataclass(frozen=True)
class RunLock:
    """The session that holds the run's lock: its backend's process id, and when that began by the server's clock."""

    pid: int
    since: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return asdict(self)


def since_continued(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries of the run itself, without those of a run that it continues."""
    last = max((n for n, entry in enumerate(entries) if (entry.step, entry.event) == ("run", CONTINUE)), default=0)
    return entries[last:]


# The event of a run that continues an earlier one.
CONTINUE = "continue"


def events(entries: list[Entry], step: str, event: str) -> list[dict[str, Any]]:
    """Return the data of every such entry, oldest first."""
    return [entry.data for entry in entries if (entry.step, entry.event) == (step, event)]


# The kinds of runs, each with the command in which it changes the database.
EXECUTE = "execute"

ROLLBACK = "rollback"

REHEARSAL = "rehearsal"

COMMAND = {EXECUTE: "C-07", ROLLBACK: "C-09"}


def opening_of_run(entries: list[Entry]) -> Mapping[str, Any]:
    """Return the facts of the run's opening; empty for a run that failed before it could be opened."""
    return next(iter(events(entries, "run", "open")), {})


def journaled_outcome(entries: list[Entry], command: str) -> str | None:
    """Return a command's outcome by the journal: COMMITTED once it is, NOT_STARTED without a transaction.

    None when the outcome of the last transaction is not recorded: it never reported, or reported UNKNOWN. A later
    attempt that stopped before its own transaction has no information about the earlier one.
    """
    outcome: str | None = NOT_STARTED
    for entry in entries:
        if entry.step != command:
            continue
        if entry.event == "transaction":
            outcome = None
        elif entry.event in ("done", "failed", "resolved"):
            told = str(entry.data.get("outcome", NOT_STARTED))
            if told != NOT_STARTED:
                outcome = None if told == UNKNOWN else told
        if outcome == COMMITTED:
            break
    return outcome


def continued_runs(entries: list[Entry]) -> set[str]:
    """Return the names of the runs that a run continues: they are the same execution."""
    return {str(data["bundle"]) for data in events(entries, "run", CONTINUE)}
