# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator reads at the end of a role."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.filter.outcome_lines import outcome_lines
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import Ending, verdict_of

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
    adopted = verdict_of("verification", Ending.ADOPTED).sentence
    completed = verdict_of("verification", Ending.COMPLETED).sentence
    assert outcome_lines(SEALED, run={**first, "applied": True})[:2] == [adopted, "Done."]
    assert outcome_lines(SEALED, run={"applied": True, "incomplete": True})[:2] == [completed, "Done."]


def test_an_execution_that_finds_its_phase_applied_shows_what_ran_now() -> None:
    run = {"applied": True, "incomplete": False, "sealed": True}
    about: dict[str, Any] = {
        "phase": {"phase": "alpha", "revision": "r2"},
        "environment": "prod",
        "verification": "17/17",
    }
    assert outcome_lines({**SEALED, "run_directory": "/r/alpha_prod_1"}, run=run, **about) == [
        "Verification of the applied phase alpha r2 on prod: SUCCESS",
        "This phase was applied before; it was verified read-only. This run changed nothing.",
        "",
        "outcome       SUCCESS",
        "phase         alpha r2",
        "environment   prod",
        "verification  17/17, of this run",
        "",
        "applied by    alpha_prod_1",
        *PATHS,
    ]


def test_a_phase_found_applied_keeps_what_nobody_vouched_for() -> None:
    sealed = {**SEALED, "run_directory": "/r/a", "remarks": ["approvals were not enforced"]}
    lines = outcome_lines(sealed, run={"applied": True, "incomplete": False, "sealed": True}, phase={"phase": "alpha"})
    assert lines[0].endswith(": SUCCESS (approvals were not enforced)")
    assert "outcome       SUCCESS (approvals were not enforced)" in lines


@pytest.mark.parametrize("kind", ["execute", "rollback", "rehearsal"])
def test_check_mode_shows_what_it_evaluated(kind: str) -> None:
    said = verdict_of(kind, Ending.CHECKED).sentence
    assert outcome_lines({}, kind=kind, gates=["G-1   PASS"]) == [said, "G-1   PASS"]
    # what sealing returns in check mode for a run that was not sealed
    assert outcome_lines({"summary": [], "report": "", "signature": ""}, kind=kind) == [said]


def test_a_rehearsal_shows_the_plan_and_what_is_kept() -> None:
    lines = outcome_lines(SEALED, plan=PLAN, review={"html": "/p/review.html"}, kept="pg-dry-run")
    more = ["to review     /p/review.html", "to approve    ab", "kept          container pg-dry-run"]
    assert lines == [*SEALED["summary"], *FROZEN, *more]
    assert outcome_lines(SEALED, plan=PLAN) == [*SEALED["summary"], *FROZEN, "to approve    ab"]
