# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads at the end of a role."""

from __future__ import annotations

from typing import Any

from ansible_collections.incomex.phasegate.plugins.filter.outcome_lines import (
    APPLIED,
    CHECK_MODE,
    INCOMPLETE,
    outcome_lines,
)

SEALED: dict[str, Any] = {
    "summary": ["Done.", "bundle        b"],
    "report": "/b/report.md",
    "seal": "5e",
    "signature": "none",
}
PATHS = ["report        /b/report.md", "seal          5e", "signature     none"]
PLAN = {"path": "/p/plan.json", "plan_sha256": "ab"}
FROZEN = ["report        /b/report.md", "plan          /p/plan.json"]


def test_a_rollback_shows_its_summary_and_the_seal() -> None:
    assert outcome_lines(SEALED) == [*SEALED["summary"], *PATHS]


def test_an_execution_says_first_what_an_earlier_run_did() -> None:
    first = {"applied": False, "incomplete": False}
    assert outcome_lines(SEALED, run=first) == [*SEALED["summary"], *PATHS]
    assert outcome_lines(SEALED, run={**first, "applied": True})[0] == APPLIED
    assert outcome_lines(SEALED, run={"applied": True, "incomplete": True})[:2] == [INCOMPLETE, "Done."]


def test_an_execution_in_check_mode_shows_the_gates() -> None:
    assert outcome_lines({}, run={"applied": False}, gates=["G-1   PASS"]) == [CHECK_MODE, "G-1   PASS"]


def test_a_rehearsal_shows_the_plan_and_what_is_kept() -> None:
    lines = outcome_lines(SEALED, plan=PLAN, review={"html": "/p/review.html"}, kept="pg-dry-run")
    more = ["to review     /p/review.html", "to approve    ab", "kept          container pg-dry-run"]
    assert lines == [*SEALED["summary"], *FROZEN, *more]
    assert outcome_lines(SEALED, plan=PLAN) == [*SEALED["summary"], *FROZEN, "to approve    ab"]
