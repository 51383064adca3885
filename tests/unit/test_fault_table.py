# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of faults, its page, and the tests that carry their marks."""

from __future__ import annotations

import re

from ansible_collections.incomex.phasegate.tests.faults.rows import ROWS, line, page
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT

MARK = re.compile(r"mark\.(?:fault|compared)\(([^)]*)\)")
NAMES = re.compile(r"\"([a-z0-9-]+)\"")


def test_every_fault_has_tests_and_every_mark_a_fault() -> None:
    files = [file for suite in ("unit", "e2e", "faults") for file in (ROOT / "tests" / suite).rglob("test_*.py")]
    marked = {name for file in files for names in MARK.findall(file.read_text()) for name in NAMES.findall(names)}
    kills = {
        "controller-backup",
        "controller-before",
        "controller-c07",
        "controller-sealing",
        "module-killed",
        "client-killed",
    }
    assert marked | kills == set(ROWS)


def test_the_page_shows_the_list() -> None:
    assert page() in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")


def test_a_line_passes_only_when_something_ran_and_nothing_failed() -> None:
    nothing: dict[str, list[str]] = {"phasegate": [], "psql": [], "Sqitch": []}
    verdicts = [
        line("standby", outcomes, nothing).verdict
        for outcomes in ({}, {"a": "skipped"}, {"a": "passed", "b": "skipped"}, {"a": "passed", "b": "failed"})
    ]
    assert verdicts == ["-", "-", "PASS", "FAIL"]
    told = {**nothing, "phasegate": ["ROLLED_BACK", "COMMITTED", "ROLLED_BACK"], "psql": ["exit 0"]}
    assert line("standby", {"a": "passed"}, told).text() == (
        "PASS  the target is a standby | COMMITTED; 2 x ROLLED_BACK | psql: exit 0"
    )
