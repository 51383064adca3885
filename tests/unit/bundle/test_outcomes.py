# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of what is said about a run: each row is reached, by a journal where the kind has one, and is true."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import (
    DRIFT,
    TABLE,
    Ending,
    drift_sentence,
    ending_of,
    title_of,
    verdict_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import RunOutcome

LATER = {"n": 2, "after_commit": "public.i"}
PLAN = {part: {"statements": [{"n": 1, "after_commit": ""}, LATER]} for part in ("ddl", "rollback")}

Events = list[tuple[str, str, dict[str, Any]]]


def journal(kind: str, *events: tuple[str, str, dict[str, Any]]) -> Events:
    return [("run", "open", {"kind": kind}), *events]


def refused(kind: str) -> Events:
    return [("run", "not opened", {"kind": kind}), ("run", "failed", {"reason": "x"})]


def command(name: str, outcome: str | None, *more: tuple[str, str, dict[str, Any]], begun: bool = True) -> Events:
    """The entries of a command that changes the database."""
    ended: Events = [(name, "done" if outcome == "COMMITTED" else "failed", {"outcome": outcome})] if outcome else []
    transaction: Events = [(name, "transaction", {"xid": "7"})] if begun else []
    return [(name, "intent", {}), *transaction, *ended, *more]


def later(name: str) -> tuple[str, str, dict[str, Any]]:
    return name, "statement done", {"n": 2}


def rehearsal(*done: str, failed: str = "") -> Events:
    events = journal("rehearsal", ("R-1", "done", {}), *[(step, "done", {}) for step in done])
    return [*events, (failed, "failed", {})] if failed else events


def of(kind: str, *entries: tuple[str, str, dict[str, Any]]) -> Events:
    return journal(kind, *entries)


#: kind, ending, outcome, journal, whether what follows COMMIT passed; the ones without a journal have None
ROWS: list[tuple[str, Ending, str, Events | None, bool]] = [
    ("execute", Ending.NOT_OPENED, "STOPPED", refused("execute"), False),
    ("execute", Ending.STOPPED, "STOPPED", of("execute"), False),
    ("execute", Ending.STOPPED, "STOPPED", of("execute", *command("C-07", "NOT_STARTED", begun=False)), False),
    ("execute", Ending.STOPPED, "STOPPED", of("execute", *command("C-07", "ROLLED_BACK", begun=False)), False),
    ("execute", Ending.ROLLED_BACK, "ROLLED_BACK", of("execute", *command("C-07", "ROLLED_BACK")), False),
    ("execute", Ending.UNKNOWN, "UNKNOWN", of("execute", *command("C-07", None)), False),
    ("execute", Ending.UNKNOWN, "UNKNOWN", of("execute", *command("C-07", "UNKNOWN")), False),
    ("execute", Ending.INCOMPLETE, "COMMITTED_INCOMPLETE", of("execute", *command("C-07", "COMMITTED")), True),
    ("execute", Ending.NOT_VERIFIED, "COMMITTED_NOT_VERIFIED", of("execute", *command("C-07", "COMMITTED", later("C-07"))), False),
    ("execute", Ending.SUCCESS, "SUCCESS", of("execute", *command("C-07", "COMMITTED", later("C-07"))), True),
    ("execute", Ending.CHECKED, "CHECKED", None, False),
    ("execute", Ending.CHECK_STOPPED, "STOPPED", None, False),
    ("verification", Ending.NOT_OPENED, "NOT_VERIFIED", refused("verification"), False),
    ("verification", Ending.SUCCESS, "SUCCESS", None, False),
    ("verification", Ending.COMPLETED, "SUCCESS", None, False),
    ("verification", Ending.ADOPTED, "SUCCESS", None, False),
    ("verification", Ending.CHECK_STOPPED, "NOT_VERIFIED", None, False),
    ("rollback", Ending.NOT_OPENED, "STOPPED", refused("rollback"), False),
    ("rollback", Ending.STOPPED, "STOPPED", of("rollback"), False),
    ("rollback", Ending.STOPPED, "STOPPED", of("rollback", *command("C-09", "ROLLED_BACK", begun=False)), False),
    ("rollback", Ending.ROLLED_BACK, "ABORTED", of("rollback", *command("C-09", "ROLLED_BACK")), False),
    ("rollback", Ending.UNKNOWN, "UNKNOWN", of("rollback", *command("C-09", None)), False),
    ("rollback", Ending.INCOMPLETE, "COMMITTED_INCOMPLETE", of("rollback", *command("C-09", "COMMITTED")), True),
    ("rollback", Ending.NOT_VERIFIED, "COMMITTED_NOT_VERIFIED", of("rollback", *command("C-09", "COMMITTED", later("C-09"))), False),
    ("rollback", Ending.SUCCESS, "SUCCESS", of("rollback", *command("C-09", "COMMITTED", later("C-09"))), True),
    ("rollback", Ending.CHECKED, "CHECKED", None, False),
    ("rollback", Ending.CHECK_STOPPED, "STOPPED", None, False),
    ("rehearsal", Ending.NOT_OPENED, "STOPPED", refused("rehearsal"), False),
    ("rehearsal", Ending.STOPPED, "STOPPED", rehearsal(failed="R-1"), False),
    ("rehearsal", Ending.STOPPED, "STOPPED", rehearsal(failed="R-2"), False),
    ("rehearsal", Ending.ROLLED_BACK, "ROLLED_BACK", [*rehearsal(), *command("R-2", "ROLLED_BACK")], False),
    ("rehearsal", Ending.UNKNOWN, "UNKNOWN", [*rehearsal(), *command("R-2", None)], False),
    ("rehearsal", Ending.INCOMPLETE, "COMMITTED_INCOMPLETE",
     [*rehearsal(), *command("R-2", None), ("R-2", "failed", {"outcome": "COMMITTED"})], False),
    ("rehearsal", Ending.NOT_VERIFIED, "COMMITTED_NOT_VERIFIED", rehearsal("R-2", failed="R-3"), False),
    ("rehearsal", Ending.NOT_UNDONE, "ROLLBACK_FAILED", rehearsal("R-2", "R-3", failed="R-4"), False),
    ("rehearsal", Ending.NOT_REPEATED, "REPEAT_FAILED", rehearsal("R-2", "R-3", "R-4", failed="R-5"), False),
    ("rehearsal", Ending.FAILED, "FAILED", rehearsal("R-2", "R-3", "R-4", "R-5", failed="run"), False),
    ("rehearsal", Ending.SUCCESS, "SUCCESS", rehearsal("R-2", "R-3", "R-4", "R-5"), False),
    ("rehearsal", Ending.DRAFTED, "DRAFTED",
     [*rehearsal("R-2", "R-4", failed="R-3"), ("run", "observed", {"sha256": "0" * 64})], False),
    ("rehearsal", Ending.CHECKED, "CHECKED", None, False),
    ("rehearsal", Ending.CHECK_STOPPED, "STOPPED", None, False),
    (DRIFT, Ending.SUCCESS, "SUCCESS", None, False),
    (DRIFT, Ending.PERMITTED, "SUCCESS", None, False),
    (DRIFT, Ending.STORED, "SUCCESS", None, False),
    (DRIFT, Ending.CHECKED, "CHECKED", None, False),
    (DRIFT, Ending.DRIFTED, "DRIFTED", None, False),
    (DRIFT, Ending.FAILED, "STOPPED", None, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "ending", "outcome", "events", "verified"), ROWS)
def test_each_row_is_what_a_run_of_its_kind_ends_as(
    kind: str, ending: Ending, outcome: str, events: Events | None, verified: bool
) -> None:
    if events is not None:
        entries = [Entry(n, "", step, event, data) for n, (step, event, data) in enumerate(events, start=1)]
        assert ending_of(PLAN, entries, verified=verified) == ending
    assert verdict_of(kind, ending).outcome == outcome


def test_no_row_is_left_out() -> None:
    assert {(kind, ending) for kind, ending, *_rest in ROWS} == set(TABLE)


def test_a_sentence_is_about_one_kind_of_run_and_one_ending() -> None:
    assert len({verdict.sentence for verdict in TABLE.values()}) == len(TABLE)


# what a word means for the database: whether the row's sentence has to say that something is, or may be, committed there
CHANGED = (RunOutcome.COMMITTED_INCOMPLETE, RunOutcome.COMMITTED_NOT_VERIFIED, RunOutcome.UNKNOWN)


@pytest.mark.parametrize(("kind", "ending"), TABLE)
def test_what_a_row_says_fits_its_word(kind: str, ending: Ending) -> None:
    row = verdict_of(kind, ending)
    assert row.sentence[0].isupper()
    assert row.next_step.endswith(".")
    if kind == DRIFT:
        return
    said = row.sentence
    assert said.endswith(".")
    if kind == "rehearsal":
        # production is never touched by it, and there is a plan only after a success
        assert ("No plan was written" in said) == (row.outcome != RunOutcome.SUCCESS)
        assert "review" not in row.next_step or row.outcome == RunOutcome.SUCCESS
    elif row.outcome in CHANGED:
        assert "COMMIT" in said or "UNKNOWN" in said
    elif row.outcome not in (RunOutcome.SUCCESS, RunOutcome.ABORTED):
        assert "changed nothing" in said or "othing was changed" in said
    # the phase was rolled back only where a rollback succeeded
    assert ("phase was rolled back" in said) == ((kind, row.outcome) == ("rollback", RunOutcome.SUCCESS))
    assert not (kind == "rollback" and row.outcome == RunOutcome.ROLLED_BACK)


def test_titles_and_their_warnings() -> None:
    assert title_of("execute", "alpha r2", "prod", "SUCCESS") == "Execution of phase alpha r2 on prod: SUCCESS"
    assert title_of("rollback", "alpha r2", "prod", "ABORTED", ["not rehearsed"]) == (
        "Rollback of phase alpha r2 on prod: ABORTED (not rehearsed)"
    )


def test_the_baseline_of_a_comparison_is_named() -> None:
    assert drift_sentence(Ending.SUCCESS, "d{x}", "/b{y}") == "The schema of database d{x} matches /b{y}"
