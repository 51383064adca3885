# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of all hosts of a play."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.filter.rollup import FACT, rollup, rollup_key

SEALED: dict[str, Any] = {"outcome": "SUCCESS", "seconds": 12.34, "run_directory": "/r/alpha_prod_1"}
STOPPED: dict[str, Any] = {
    "outcome": "STOPPED",
    "seconds": 3,
    "run_directory": "/r/alpha_prod_2",
    "msg": "Stopped at G-4 (target matches the declared cluster).\n  expected: 1\n  found: 2",
}


def kept(*results: dict[str, Any], play: str = "p", phase: str = "alpha", **about: Any) -> dict[str, Any]:
    """Return the variables of a host that kept a result."""
    record = {"results": results, "applied": False, "failed": False, "message": "", "database": "app", **about}
    return {FACT: {rollup_key(play, "execute", phase): record}}


def table(hostvars: dict[str, Any], going: list[str]) -> dict[str, Any]:
    return rollup(list(hostvars), hostvars, going, "execute", "alpha", "p")


def row(variables: dict[str, Any], *, failed: bool = False) -> dict[str, Any]:
    (made,) = table({"db1": variables}, [] if failed else ["db1"])["rows"]
    return dict(made)


def test_a_success_and_a_stop() -> None:
    made = table({"db1": kept(SEALED), "database2": kept(STOPPED, failed=True)}, ["db1"])
    assert made["rows"] == [
        {
            "host": "db1",
            "database": "app",
            "outcome": "SUCCESS",
            "reason": "",
            "seconds": 12.34,
            "bundle": "/r/alpha_prod_1",
            "warnings": [],
        },
        {
            "host": "database2",
            "database": "app",
            "outcome": "STOPPED",
            "reason": "Stopped at G-4 (target matches the declared cluster).",
            "seconds": 3.0,
            "bundle": "/r/alpha_prod_2",
            "warnings": [],
        },
    ]
    assert made["lines"] == [
        "host       database  outcome  reason                                                 seconds  bundle",
        "db1        app       SUCCESS                                                            12.3  /r/alpha_prod_1",
        "database2  app       STOPPED  Stopped at G-4 (target matches the declared cluster).      3.0  /r/alpha_prod_2",
    ]
    assert json.loads(made["json"]) == {"run": "execute", "phase": "alpha", "hosts": made["rows"]}
    assert made["markdown"].splitlines() == [
        "# execute alpha",
        "",
        "2 hosts: 1 SUCCESS, 1 STOPPED",
        "",
        "| host | database | outcome | reason | seconds | bundle |",
        "| --- | --- | --- | --- | ---: | --- |",
        "| `db1` | `app` | SUCCESS |  | 12.3 | `/r/alpha_prod_1` |",
        "| `database2` | `app` | STOPPED | Stopped at G-4 (target matches the declared cluster). | 3.0 | `/r/alpha_prod_2` |",
    ]


@pytest.mark.fault("bare-success")
@pytest.mark.parametrize(
    ("warnings", "shown"),
    [
        (["approvals were not enforced"], "SUCCESS (approvals were not enforced)"),
        (["not rehearsed"], "SUCCESS (not rehearsed)"),
        (["approvals were not enforced", "not\nrehearsed"], "SUCCESS (approvals were not enforced; not\\nrehearsed)"),
        ([], "SUCCESS"),
    ],
)
def test_what_nobody_vouched_for_is_behind_the_outcome_in_every_form(warnings: list[str], shown: str) -> None:
    made = table({"db1": kept({**SEALED, "remarks": warnings})}, ["db1"])
    assert made["rows"][0]["outcome"] == "SUCCESS"
    assert f"  {shown}  " in made["lines"][1]
    assert f"1 {shown}\n" in made["markdown"].replace("\\\\", "\\")
    assert f">{shown}<" in made["html"]
    assert f"{shown}\n/r/alpha_prod_1" in (ET.fromstring(made["junit"]).findtext(".//system-out") or "")
    assert len(json.loads(made["json"])["hosts"][0]["warnings"]) == len(warnings)


def test_as_a_page_and_as_junit() -> None:
    hosts = {
        "db1": kept(SEALED),
        "db2": kept(STOPPED, failed=True),
        "db3": {},
        "db4": {},
    }
    made = table(hosts, ["db1", "db3"])
    assert "<code>db2</code></th>" in made["html"]
    assert "<title>execute alpha" in made["html"]
    suite = ET.fromstring(made["junit"])
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    assert [one.get("name") for one in suite.iter("testcase")] == ["db1", "db2", "db3", "db4"]
    (failure,) = suite.iter("failure")
    assert (failure.get("message"), failure.text) == (
        "STOPPED",
        "Stopped at G-4 (target matches the declared cluster).",
    )


def test_the_table_is_final_after_the_last_host_or_the_first_failure() -> None:
    waiting: dict[str, Any] = {"db1": kept(SEALED), "db2": {"phasegate_database": "other"}}
    assert not table(waiting, ["db1", "db2"])["ended"]
    assert table({**waiting, "db2": kept(SEALED)}, ["db1", "db2"])["ended"]
    stopped = table({**waiting, "db1": kept(STOPPED, failed=True)}, ["db2"])
    assert stopped["ended"]
    last = stopped["rows"][1]
    assert (last["database"], last["outcome"], last["reason"], last["seconds"]) == ("other", "NOT_STARTED", "", None)


def test_a_host_without_a_result_says_so() -> None:
    lost = row({}, failed=True)
    assert (lost["outcome"], lost["database"], lost["bundle"]) == ("NO_RESULT", "", "")
    assert lost["reason"] == "unreachable, or failed outside the role; its message is above"


@pytest.mark.parametrize("other", [{"play": "q"}, {"phase": "beta"}])
def test_the_result_of_another_play_or_phase_is_not_counted(other: dict[str, str]) -> None:
    assert row(kept(SEALED, **other))["outcome"] == "NOT_STARTED"


def test_a_failure_is_never_a_success() -> None:
    # what follows the run failed
    after = row(kept(SEALED, failed=True, message="The plan cannot be written.\n  found: EACCES"), failed=True)
    assert (after["outcome"], after["reason"]) == ("FAILED", "The plan cannot be written.")
    silent = row(kept(SEALED, failed=True), failed=True)
    assert (silent["outcome"], silent["reason"]) == ("FAILED", "failed after the run; its message is above")
    # the host failed in a later task of the play
    assert row(kept(SEALED), failed=True)["outcome"] == "FAILED"
    # the run could not be sealed, so nobody knows how it ended
    assert row(kept({"msg": "No space left.", "failed": True}, failed=True), failed=True)["outcome"] == "FAILED"
    # no step of the role began
    assert row(kept({}, {}, failed=True), failed=True)["outcome"] == "FAILED"


def test_check_mode() -> None:
    skipped = {"changed": False, "skipped": True}
    assert row(kept({}, skipped, {}))["outcome"] == "CHECKED"
    would = row(
        kept({}, {"outcome": "", "run_directory": "", "msg": "Stopped.\n\nCheck mode"}, failed=True), failed=True
    )
    assert (would["outcome"], would["reason"], would["bundle"]) == ("STOPPED", "Stopped.", "")


def test_a_phase_that_was_applied_before() -> None:
    again = row(kept(SEALED, applied=True))
    assert again["reason"].startswith("This phase was applied before; it was verified")


def test_the_first_result_counts() -> None:
    assert row(kept(STOPPED, SEALED, failed=True), failed=True)["outcome"] == "STOPPED"


@pytest.mark.fault("hostile-text")
def test_hostile_texts_steer_nothing_and_stay_in_their_cell() -> None:
    hostile = "x\u202e\x1b[2J | <b>`y`"
    made = table({hostile: kept({**STOPPED, "msg": f"\n {hostile}\nmore"}, failed=True, database=hostile)}, [])
    (only,) = made["rows"]
    assert only["host"] == only["database"] == only["reason"] == "x\\u202e\\u001b[2J | <b>`y`"
    assert len(made["lines"]) == 2
    everything = "".join([*made["lines"], made["markdown"], made["json"], made["html"], made["junit"]])
    assert "\x1b" not in everything
    assert "\u202e" not in everything
    assert "\\<b>" in made["markdown"]
    named = rollup([], {}, [], "execute", "alpha\u202e")
    assert json.loads(named["json"])["phase"] == "alpha\\u202e"
    assert "\u202e" not in named["markdown"]


def test_a_long_reason_is_cut_on_the_terminal_alone() -> None:
    made = table({"db1": kept({**STOPPED, "msg": "x" * 500}, failed=True)}, [])
    assert made["rows"][0]["reason"] == "x" * 500
    assert "x" * 99 + "…" in made["lines"][1]
    assert "x" * 100 not in made["lines"][1]
