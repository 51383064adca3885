# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a run can end and what its commands and triggers are called."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import RunOutcome

SENTENCES = {
    RunOutcome.SUCCESS: "The phase was committed and verified.",
    RunOutcome.STOPPED: "The run stopped before the migration began. Nothing was changed.",
    RunOutcome.ROLLED_BACK: "The migration was rolled back. Nothing was changed.",
    RunOutcome.COMMITTED_INCOMPLETE: "The transaction was COMMITTED, but a statement that runs after it did not complete.",
    RunOutcome.COMMITTED_NOT_VERIFIED: "The phase was COMMITTED, but its verification did not pass. Nothing is rolled back automatically.",
    RunOutcome.UNKNOWN: "UNKNOWN outcome (T-1): the migration may or may not have committed. Resolve this before doing anything else.",
}

ROLLBACK_SENTENCES = {
    RunOutcome.SUCCESS: "The phase was rolled back; the schema is the one from before the phase.",
    RunOutcome.STOPPED: "The rollback stopped before it began. Nothing was changed.",
    RunOutcome.ROLLED_BACK: "The rollback was aborted before COMMIT. The phase is still applied.",
    RunOutcome.COMMITTED_INCOMPLETE: "The rollback was COMMITTED, but a statement that runs after it did not complete.",
    RunOutcome.COMMITTED_NOT_VERIFIED: "The rollback was COMMITTED, but the schema differs from the one before the phase.",
    RunOutcome.UNKNOWN: "UNKNOWN outcome (T-1): the rollback may or may not have committed. Resolve this before doing anything else.",
}

REHEARSAL_SENTENCES = {
    RunOutcome.SUCCESS: "The rehearsal succeeded: migrated, verified, rolled back to the previous schema, and migrated again.",
    RunOutcome.STOPPED: "The rehearsal failed. No plan was written; production was only read.",
}

OF_KIND = {"execute": SENTENCES, "rollback": ROLLBACK_SENTENCES, "rehearsal": REHEARSAL_SENTENCES}

COMMANDS = {
    "C-01": "fresh backup",
    "C-02": "digest of the backup and freshness marker",
    "C-03": "schema snapshot before",
    "C-04": "row counts and measured columns before",
    "C-05": "DDL and rollback frozen, digests checked",
    "C-06": "preflight",
    "C-07": "migration in one transaction",
    "C-08": "verification",
    "C-09": "rollback, only on an operator's request",
    "R-0": "rehearsal cluster checked",
    "R-1": "restore into the rehearsal cluster, contents compared",
    "R-2": "migration of the copy, measured",
    "R-3": "verification of the copy",
    "R-4": "rollback of the copy, schema compared with the one before",
    "R-5": "migration and verification again",
}


TRIGGERS = {
    "T-1": "the outcome is still unknown after resolution",
    "T-2": "committed, but a verification check failed",
    "T-3": "a row count or measurement changed in a way that the plan does not declare",
    "T-4": "the diff removed or changed something undeclared",
    "T-5": "the diff added something undeclared",
    "T-6": "a constraint or index that must remain is missing or invalid",
    "T-7": "the application's own health check fails",
    "T-8": "the evidence could not be completed after commit",
    "T-9": "an operator requests it",
}


def next_step(outcome: str, *, rollback: bool) -> str:
    """Return what to do after a run that ended with ``outcome``."""
    if rollback and outcome == RunOutcome.SUCCESS:
        return "Review this report. See above for what a rollback cannot restore."
    return {
        RunOutcome.SUCCESS: "Review this report. No further phase starts by itself.",
        RunOutcome.STOPPED: "Resolve the reason above, then start the phase again; it begins with a new backup.",
        RunOutcome.ROLLED_BACK: "Resolve the reason above. A change of the DDL is a new revision.",
        RunOutcome.COMMITTED_INCOMPLETE: "Follow the reason above, then run the same command again, or roll back.",
        RunOutcome.COMMITTED_NOT_VERIFIED: "Keep everything as it is. Decide whether to roll back; nothing does it automatically.",
        RunOutcome.UNKNOWN: "Ask the server for the status of the transaction named above before anything else runs.",
    }[RunOutcome(outcome)]
