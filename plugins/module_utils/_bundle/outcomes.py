# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said about a run: one table, by the kind of run and how it ended. Pure.

Reports, SUMMARY.txt, JUnit documents, the last lines of a playbook and the messages of modules take their words from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    DONE,
    EXECUTE,
    FAILED,
    REHEARSAL,
    ROLLBACK,
    VERIFICATION,
    CopyMigrated,
    CopyMigratedAgain,
    CopyRolledBack,
    CopyVerified,
    DraftObserved,
    RunNotOpened,
    TransactionBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    last_outcome,
    opening_of,
    records_of,
    statements_left,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import (
    RunOutcome,
    State,
    TransactionOutcome,
)

# A comparison of a schema with its baseline; it has no journal.
DRIFT = "drift"


class Ending(State):
    """How a run ended, in the terms of its own kind."""

    #: It failed before it had a directory.
    NOT_OPENED = "not opened"
    #: It stopped before the first statement that changes anything.
    STOPPED = "stopped"
    #: Statements ran and were rolled back before COMMIT.
    ROLLED_BACK = "rolled back"
    #: Committed; what runs after COMMIT is not complete.
    INCOMPLETE = "incomplete"
    #: Committed; what is checked afterwards did not pass, or was not checked.
    NOT_VERIFIED = "not verified"
    UNKNOWN = "unknown"
    #: A rehearsal: the rollback of its copy did not restore the schema, or was not completed.
    NOT_UNDONE = "not undone"
    #: A rehearsal: the copy could not be migrated again after the rollback.
    NOT_REPEATED = "not repeated"
    #: Every step was completed, and the run failed after them.
    FAILED = "failed"
    SUCCESS = "success"
    #: A rehearsal of a draft: its SQL was run on the copy and observed.
    DRAFTED = "drafted"
    #: An execution that an earlier run had left incomplete is complete now.
    COMPLETED = "completed"
    #: An execution that committed and was interrupted is verified and sealed now.
    ADOPTED = "adopted"
    #: Check mode: everything that can be evaluated without a run was; of drift, nothing was stored.
    CHECKED = "checked"
    #: Check mode: the run would stop.
    CHECK_STOPPED = "check stopped"
    #: Drift: the baseline was stored, there was nothing to compare.
    STORED = "stored"
    #: Drift: only what the policy permits.
    PERMITTED = "permitted"
    DRIFTED = "drifted"


@dataclass(frozen=True)
class Verdict:
    """One row of the table: the outcome as one word, the sentence about it, and what to do next."""

    outcome: RunOutcome
    sentence: str
    next_step: str


_AGAIN = "Follow the next step of the reason above, then start again."
_KEEP = "Keep everything as it is. Decide whether to roll back; nothing does it automatically."
_ASK = "Ask the server for the status of the transaction named above before anything else runs."
_REVIEW = "Review this report. No further phase starts by itself."
_UNCHANGED = "Nothing was changed."
_READ = "No plan was written; production was only read."
_REHEARSE = "Resolve the reason above, then rehearse again."
_CORRECT = "Correct the phase's SQL or what its phase.yml declares, then rehearse again."

TABLE: Mapping[Tuple[str, Ending], Verdict] = {
    (EXECUTE, Ending.NOT_OPENED): Verdict(
        RunOutcome.STOPPED, f"The execution stopped before it was opened. {_UNCHANGED}", _AGAIN
    ),
    (EXECUTE, Ending.STOPPED): Verdict(
        RunOutcome.STOPPED,
        f"The execution stopped before the migration began. {_UNCHANGED}",
        "Resolve the reason above, then start the phase again; it begins with a new backup.",
    ),
    (EXECUTE, Ending.ROLLED_BACK): Verdict(
        RunOutcome.ROLLED_BACK,
        f"The migration was rolled back before COMMIT. {_UNCHANGED}",
        "Resolve the reason above. A change of the DDL is a new revision.",
    ),
    (EXECUTE, Ending.INCOMPLETE): Verdict(
        RunOutcome.COMMITTED_INCOMPLETE,
        "The transaction was COMMITTED, but a statement that runs after it did not complete.",
        "Follow the reason above, then run the same command again, or roll back.",
    ),
    (EXECUTE, Ending.NOT_VERIFIED): Verdict(
        RunOutcome.COMMITTED_NOT_VERIFIED,
        "The phase was COMMITTED, but its verification did not pass. Nothing is rolled back automatically.",
        _KEEP,
    ),
    (EXECUTE, Ending.UNKNOWN): Verdict(
        RunOutcome.UNKNOWN,
        "UNKNOWN outcome (T-1): the migration may or may not have committed. Resolve this before doing anything else.",
        _ASK,
    ),
    (EXECUTE, Ending.SUCCESS): Verdict(RunOutcome.SUCCESS, "The phase was committed and verified.", _REVIEW),
    (EXECUTE, Ending.CHECKED): Verdict(
        RunOutcome.CHECKED,
        "Check mode: nothing was changed, and C-07 and C-08 did not run.",
        "Run the same command without --check.",
    ),
    (EXECUTE, Ending.CHECK_STOPPED): Verdict(
        RunOutcome.STOPPED, f"Check mode: the execution would stop. {_UNCHANGED}", _AGAIN
    ),
    (VERIFICATION, Ending.NOT_OPENED): Verdict(
        RunOutcome.NOT_VERIFIED,
        "This phase was applied before; verifying it again, read-only, did not succeed. This run changed nothing.",
        "Find out what changed since the phase was applied; decide whether to roll back, which nothing does automatically.",
    ),
    (VERIFICATION, Ending.SUCCESS): Verdict(
        RunOutcome.SUCCESS,
        "This phase was applied before; it was verified read-only. This run changed nothing.",
        "Nothing is left to do.",
    ),
    (VERIFICATION, Ending.COMPLETED): Verdict(
        RunOutcome.SUCCESS,
        "This phase was committed before; what it had left to run after COMMIT ran now.",
        _REVIEW,
    ),
    (VERIFICATION, Ending.ADOPTED): Verdict(
        RunOutcome.SUCCESS,
        "This phase was committed by an earlier run, which was interrupted; its verification and its evidence were completed now.",
        _REVIEW,
    ),
    (VERIFICATION, Ending.CHECK_STOPPED): Verdict(
        RunOutcome.NOT_VERIFIED,
        "Check mode: this phase was applied before; verifying it again, read-only, did not succeed. This run changed nothing.",
        "Find out what changed since the phase was applied.",
    ),
    (ROLLBACK, Ending.NOT_OPENED): Verdict(
        RunOutcome.STOPPED, f"The rollback stopped before it was opened. {_UNCHANGED}", _AGAIN
    ),
    (ROLLBACK, Ending.STOPPED): Verdict(
        RunOutcome.STOPPED, f"The rollback stopped before its first statement. {_UNCHANGED}", _AGAIN
    ),
    (ROLLBACK, Ending.ROLLED_BACK): Verdict(
        RunOutcome.ABORTED,
        "The rollback was aborted before COMMIT. The phase is still applied.",
        _AGAIN,
    ),
    (ROLLBACK, Ending.INCOMPLETE): Verdict(
        RunOutcome.COMMITTED_INCOMPLETE,
        "The rollback was COMMITTED, but a statement that runs after it did not complete.",
        "Follow the reason above and complete what is left by hand.",
    ),
    (ROLLBACK, Ending.NOT_VERIFIED): Verdict(
        RunOutcome.COMMITTED_NOT_VERIFIED,
        "The rollback was COMMITTED, but the schema differs from the one before the phase.",
        "Keep everything as it is and find out what differs; no further step starts by itself.",
    ),
    (ROLLBACK, Ending.UNKNOWN): Verdict(
        RunOutcome.UNKNOWN,
        "UNKNOWN outcome (T-1): the rollback may or may not have committed. Resolve this before doing anything else.",
        _ASK,
    ),
    (ROLLBACK, Ending.SUCCESS): Verdict(
        RunOutcome.SUCCESS,
        "The phase was rolled back; the schema is the one from before the phase.",
        "Review this report. See above for what a rollback cannot restore.",
    ),
    (ROLLBACK, Ending.CHECKED): Verdict(
        RunOutcome.CHECKED,
        "Check mode: nothing was changed, and C-09 did not run.",
        "Run the same command without --check.",
    ),
    (ROLLBACK, Ending.CHECK_STOPPED): Verdict(
        RunOutcome.STOPPED, f"Check mode: the rollback would stop. {_UNCHANGED}", _AGAIN
    ),
    (REHEARSAL, Ending.NOT_OPENED): Verdict(
        RunOutcome.STOPPED, f"The rehearsal stopped before it was opened. {_READ}", _REHEARSE
    ),
    (REHEARSAL, Ending.STOPPED): Verdict(
        RunOutcome.STOPPED, f"The rehearsal stopped before the copy was migrated. {_READ}", _REHEARSE
    ),
    (REHEARSAL, Ending.ROLLED_BACK): Verdict(
        RunOutcome.ROLLED_BACK, f"The migration of the copy was rolled back before COMMIT. {_READ}", _CORRECT
    ),
    (REHEARSAL, Ending.INCOMPLETE): Verdict(
        RunOutcome.COMMITTED_INCOMPLETE,
        f"The migration was committed on the copy, but a statement that runs after it did not complete. {_READ}",
        _CORRECT,
    ),
    (REHEARSAL, Ending.NOT_VERIFIED): Verdict(
        RunOutcome.COMMITTED_NOT_VERIFIED,
        f"The migration was committed on the copy, but its verification did not pass. {_READ}",
        _CORRECT,
    ),
    (REHEARSAL, Ending.UNKNOWN): Verdict(
        RunOutcome.UNKNOWN, f"Whether the migration of the copy committed is unknown. {_READ}", _REHEARSE
    ),
    (REHEARSAL, Ending.NOT_UNDONE): Verdict(
        RunOutcome.ROLLBACK_FAILED,
        f"The copy was migrated and verified, but its rollback did not restore the schema. {_READ}",
        _CORRECT,
    ),
    (REHEARSAL, Ending.NOT_REPEATED): Verdict(
        RunOutcome.REPEAT_FAILED,
        f"The copy was migrated, verified and rolled back, but migrating it again did not succeed. {_READ}",
        _CORRECT,
    ),
    (REHEARSAL, Ending.FAILED): Verdict(
        RunOutcome.FAILED, f"Every step of the rehearsal was completed, and the run failed after them. {_READ}", _REHEARSE
    ),
    (REHEARSAL, Ending.SUCCESS): Verdict(
        RunOutcome.SUCCESS,
        "The rehearsal succeeded: migrated, verified, rolled back to the previous schema, and migrated again.",
        "Have the plan reviewed and approved; then execute it.",
    ),
    (REHEARSAL, Ending.DRAFTED): Verdict(
        RunOutcome.DRAFTED,
        f"The draft was run on the copy and observed; nothing was proved. {_READ}",
        "Read what was observed, complete phase.yml and the rollback, then rehearse the phase.",
    ),
    (REHEARSAL, Ending.CHECKED): Verdict(
        RunOutcome.CHECKED,
        "Check mode: no copy was made, and R-1 ... R-5 did not run. No plan was written.",
        "Run the same command without --check.",
    ),
    (REHEARSAL, Ending.CHECK_STOPPED): Verdict(
        RunOutcome.STOPPED, "Check mode: the rehearsal would stop. No plan was written.", _REHEARSE
    ),
    (DRIFT, Ending.SUCCESS): Verdict(
        RunOutcome.SUCCESS, "The schema of database {database} matches {baseline}", "Nothing is left to do."
    ),
    (DRIFT, Ending.PERMITTED): Verdict(
        RunOutcome.SUCCESS,
        "The schema of database {database} has only permitted changes since {baseline}",
        "Nothing is left to do.",
    ),
    (DRIFT, Ending.STORED): Verdict(
        RunOutcome.SUCCESS,
        "The schema of database {database} was stored as the baseline {baseline}",
        "Note the fingerprint elsewhere.",
    ),
    (DRIFT, Ending.CHECKED): Verdict(
        RunOutcome.CHECKED,
        "Check mode: the schema of database {database} would be stored as the baseline {baseline}",
        "Run the same command without --check.",
    ),
    (DRIFT, Ending.DRIFTED): Verdict(
        RunOutcome.DRIFTED,
        "The schema of database {database} drifted",
        "Find out who made the changes.",
    ),
    (DRIFT, Ending.FAILED): Verdict(
        RunOutcome.STOPPED, "The schema of database {database} was not compared", "Resolve the reason, then run again."
    ),
}  # fmt: skip

_TITLES: Mapping[str, str] = {
    EXECUTE: "Execution of phase {phase} on {environment}",
    VERIFICATION: "Verification of the applied phase {phase} on {environment}",
    ROLLBACK: "Rollback of phase {phase} on {environment}",
    REHEARSAL: "Rehearsal of phase {phase} for {environment}",
}


def verdict_of(kind: str, ending: Ending) -> Verdict:
    """Return the row of the table. Raises ``KeyError`` for an ending that this kind of run does not have."""
    return TABLE[kind, ending]


def qualified(outcome: str, warnings: Sequence[str]) -> str:
    """Return an outcome as it is shown: with what nobody vouched for behind it."""
    return f"{outcome} ({'; '.join(warnings)})" if warnings else str(outcome)


def title_of(kind: str, phase: str, environment: str, outcome: str, warnings: Sequence[str] = ()) -> str:
    """Return the title of a run's report; ``phase`` is its name and revision, ``warnings`` as for ``qualified``."""
    return f"{_TITLES[kind].format(phase=phase, environment=environment)}: {qualified(outcome, warnings)}"


def drift_sentence(ending: Ending, database: str, baseline: str) -> str:
    """Return the sentence about a comparison of a schema with its baseline, without its full stop."""
    return verdict_of(DRIFT, ending).sentence.format(database=database, baseline=baseline)


def kind_of_run(entries: Sequence[Entry]) -> str:
    """Return what a run is, or was meant to be when it could not be opened."""
    start = opening_of(entries)
    if start:
        return start.kind
    refused = records_of(entries, RunNotOpened)
    return refused[0].kind if refused else EXECUTE


def ending_of(plan: Mapping[str, Any] | None, entries: Sequence[Entry], *, verified: bool) -> Ending:
    """Return how the run of a journal ended.

    :param verified: whether what its kind checks after COMMIT was checked and passed, gates included.
    """
    kind = kind_of_run(entries)
    if opening_of(entries) is None:
        return Ending.NOT_OPENED
    if kind == REHEARSAL:
        return _rehearsed(plan, entries)
    command = COMMAND[kind]
    ended = _transacted(entries, command)
    if ended is not None:
        return ended
    if plan and statements_left(plan["rollback" if kind == ROLLBACK else "ddl"]["statements"], entries, command):
        return Ending.INCOMPLETE
    return Ending.SUCCESS if verified else Ending.NOT_VERIFIED


def _transacted(entries: Sequence[Entry], command: str) -> Ending | None:
    """Return how a command's transaction ended, None when it committed."""
    begun = bool(records_of(entries, TransactionBegun, command))
    outcome = last_outcome(entries, command)
    if outcome == TransactionOutcome.COMMITTED:
        return None
    if outcome in (None, TransactionOutcome.NOT_STARTED):
        return Ending.UNKNOWN if begun and outcome is None else Ending.STOPPED
    if outcome == TransactionOutcome.ROLLED_BACK:
        # what is checked before the first statement refused: no transaction id was ever taken
        return Ending.ROLLED_BACK if begun else Ending.STOPPED
    return Ending.UNKNOWN


def _rehearsed(plan: Mapping[str, Any] | None, entries: Sequence[Entry]) -> Ending:
    ends: Dict[str, str] = {entry.step: entry.event for entry in entries if entry.event in (DONE, FAILED)}
    if records_of(entries, DraftObserved):
        # what verification and rollback of the draft showed is in their records, passed or not
        return Ending.DRAFTED
    if ends.get(CopyMigrated.step) != DONE:
        ended = _transacted(entries, CopyMigrated.step)
        left = plan and statements_left(plan["ddl"]["statements"], entries, CopyMigrated.step)
        return ended or (Ending.INCOMPLETE if left else Ending.NOT_VERIFIED)
    for step, ending in (
        (CopyVerified.step, Ending.NOT_VERIFIED),
        (CopyRolledBack.step, Ending.NOT_UNDONE),
        (CopyMigratedAgain.step, Ending.NOT_REPEATED),
    ):
        if ends.get(step) != DONE:
            return ending
    return Ending.FAILED if FAILED in (entry.event for entry in entries) else Ending.SUCCESS
