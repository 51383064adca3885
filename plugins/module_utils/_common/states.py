# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The states that a gate, a check, a condition, a transaction, a run and a trigger can have.

Their values are what journals, reports and module results contain. ``str()`` of a member is its value on every Python:
that of a plain ``(str, Enum)`` differs between 3.8 and 3.11. What leaves the collection carries ``.value``.
"""

from __future__ import annotations

from enum import Enum


class State(str, Enum):
    """A state whose text is its value."""

    def __str__(self) -> str:
        """Return the value."""
        return str(self.value)


class GateStatus(State):
    """How a gate was evaluated."""

    PASS = "PASS"
    FAIL = "FAIL"
    #: Nothing on the target demands it: it neither passes nor fails, and is reported so.
    NOT_ENFORCED = "NOT ENFORCED"
    #: The run ended, or ran in check mode, before it could be evaluated.
    NOT_REACHED = "NOT REACHED"
    #: It has no meaning for this kind of run.
    NOT_APPLICABLE = "N/A"


class CheckStatus(State):
    """How a check ended."""

    PASS = "PASS"
    FAIL = "FAIL"
    #: Check mode: what it is about does not exist yet.
    NOT_RUN = "NOT RUN"
    #: What it is about does not exist in this database.
    NOT_APPLICABLE = "N/A"


class ConditionStatus(State):
    """How a pre-run condition was evaluated."""

    OK = "OK"
    WARN = "WARN"
    STOP = "STOP"
    #: This role may not see what it is about.
    UNKNOWN = "UNKNOWN"
    #: Found, and by the operator's policy only reported.
    IGNORED = "IGNORED"


class TransactionOutcome(State):
    """How a transaction ended."""

    NOT_STARTED = "NOT_STARTED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"
    #: Neither the session nor ``pg_xact_status`` could tell.
    UNKNOWN = "UNKNOWN"


class RunOutcome(State):
    """How a run ended, as one word; ``_bundle/outcomes.py`` has the sentences. Only SUCCESS, DRAFTED and CHECKED exit with zero."""

    SUCCESS = "SUCCESS"
    STOPPED = "STOPPED"
    ROLLED_BACK = "ROLLED_BACK"
    #: A rollback that did not commit: the phase is still applied.
    ABORTED = "ABORTED"
    COMMITTED_INCOMPLETE = "COMMITTED_INCOMPLETE"
    COMMITTED_NOT_VERIFIED = "COMMITTED_NOT_VERIFIED"
    #: A phase that was applied before does not verify any more.
    NOT_VERIFIED = "NOT_VERIFIED"
    UNKNOWN = "UNKNOWN"
    #: A rehearsal whose rollback did not restore the copy's schema.
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    #: A rehearsal that could not migrate the copy again.
    REPEAT_FAILED = "REPEAT_FAILED"
    #: A rehearsal that failed after all its steps.
    FAILED = "FAILED"
    #: A rehearsal of a draft: observed what its definition would declare.
    DRAFTED = "DRAFTED"
    #: Check mode found nothing that would stop the run.
    CHECKED = "CHECKED"
    #: The schema differs from its baseline in a way that is not permitted.
    DRIFTED = "DRIFTED"


class TriggerStatus(State):
    """Whether a reason to roll back is there."""

    TRIGGERED = "TRIGGERED"
    NOT_TRIGGERED = "not triggered"
    NOT_EVALUATED = "NOT EVALUATED"
