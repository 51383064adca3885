# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runs of several hosts as a page and as JSON."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.incomex.phasegate.plugins.filter.runs_page import runs_page
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import (
    IN_PLACE,
    INTERRUPTED,
    ListedRun,
    run_lines,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import UNSIGNED

RUNS = [
    ListedRun(
        "alpha_prod_20260516T031200Z", "execute", "alpha", "prod", "db1", "workflow", "7", "2026-05-16T03:12:00.000Z", "anna",
        "SUCCESS", committed=True, state=IN_PLACE, sealed=True, signer=UNSIGNED,
    ),
    ListedRun("beta<b>_prod_20260517T031200Z", "execute", "beta", "prod", outcome=INTERRUPTED, committed=True),
    ListedRun("broken", unreadable="The journal is not intact\x1b[2J at line 4."),
]  # fmt: skip


def page(**hosts: Any) -> dict[str, str]:
    results = {name: {} if runs is None else {"status_result": {"runs": runs}} for name, runs in hosts.items()}
    return runs_page(list(hosts), results, "status_result")


def test_each_host_has_its_runs_and_what_to_look_at() -> None:
    made = page(db1=[one.as_dict() for one in RUNS], db2=[], db3=None)
    html = made["html"]
    assert "3 runs on 3 hosts" in html
    assert "3 to look at." in html
    assert "alpha on workflow since 2026-05-16T03:12:00Z (alpha_prod_20260516T031200Z)" in html
    assert "beta&lt;b&gt;_prod_20260517T031200Z: INTERRUPTED, and its transaction is COMMITTED" in html
    assert "<b>_prod" not in html
    assert "\x1b" not in html
    assert "No run." in html
    assert "No answer" in html
    assert "http" not in html.replace("http-equiv", "")
    told = json.loads(made["json"])["hosts"]
    assert told["db1"] == [json.loads(json.dumps(one.as_dict())) for one in RUNS]
    assert (told["db2"], told["db3"]) == ([], None)


def test_the_lines_are_as_before() -> None:
    lines = run_lines(RUNS)
    assert lines[0].split() == [
        "opened", "kind", "phase", "database", "outcome", "state", "seal", "operator", "directory",
    ]  # fmt: skip
    assert "workflow on prod" in lines[1]
    assert lines[-3:] == [
        "in place: alpha on workflow since 2026-05-16T03:12:00Z (alpha_prod_20260516T031200Z)",
        "look at: beta<b>_prod_20260517T031200Z: INTERRUPTED, and its transaction is COMMITTED",
        "look at: broken: The journal is not intact\\u001b[2J at line 4.",
    ]
