# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a draft showed fills what phase.yml leaves open; what it declares stays, and a note says where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import draft_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_proposal import propose_phase

if TYPE_CHECKING:
    from pathlib import Path

SQL = """BEGIN;
ALTER TABLE shop.crates ADD COLUMN note text;
UPDATE shop.crates SET note = 'a', "Size" = 2;
UPDATE shop.crates SET note = 'b';
COMMIT;
"""
UNDONE = {"rows": {}, "rewrites": [], "restored": True, "reason": "", "missing": [], "changed": []}
NOTHING: dict[str, Any] = {
    "rows": {},
    "result": None,
    "rewrites": [],
    "data": {},
    "row_counts": [],
    "allow": [],
    "moved": [],
    "checks": [],
    "rollback": UNDONE,
    "differs": [],
}


@pytest.fixture
def phase(tmp_path: Path) -> Path:
    draft = draft_phase("crates", SourceFile("migrate.sql", "migrate.sql", SQL.encode()))
    (tmp_path / "migrate.sql").write_text(SQL, encoding="utf-8")
    (tmp_path / "rollback.sql").write_text(draft.rollback, encoding="utf-8")
    (tmp_path / "phase.yml").write_text(draft.definition, encoding="utf-8")
    return tmp_path / "phase.yml"


def proposed(phase: Path, **observed: Any) -> tuple[dict[str, Any], list[str]]:
    found = propose_phase(str(phase), {**NOTHING, **observed})
    assert found.before == phase.read_text(encoding="utf-8")
    value: dict[str, Any] = yaml.safe_load(found.after)
    return value, found.notes


def test_nothing_observed_changes_nothing(phase: Path) -> None:
    found = propose_phase(str(phase), NOTHING)
    assert (found.after, found.notes) == (found.before, [])


@pytest.mark.parametrize(
    ("declared", "observed", "expected"),
    [
        ("{each: {min: 0}}", [4, 7], [4, 7]),
        ("{each: {min: 0}}", [4, 4], {"each": 4}),
        ("{each: {min: 0}}", [*range(21)], {"total": 210}),
        ("{total: 5}", [4, 7], {"total": 5}),
        ("[{min: 0}, 3]", [4, 7], [4, 3]),
        ("{each: 9}", [4, 7], {"each": 9}),
        ("[{min: 1, max: 5}, {min: 0}]", [4, 7], [{"min": 1, "max": 5}, 7]),
    ],
)
def test_only_open_counts_are_filled(phase: Path, declared: str, observed: list[int], expected: Any) -> None:
    text = phase.read_text(encoding="utf-8")
    assert "UPDATE: {each: {min: 0}}" in text
    phase.write_text(text.replace("UPDATE: {each: {min: 0}}", f"UPDATE: {declared}"), encoding="utf-8")
    assert proposed(phase, rows={"UPDATE": observed})[0]["expect"]["rows"]["UPDATE"] == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"n": 3}], 3),
        ([{"n": 3, "said": "yes"}], {"n": 3, "said": "yes"}),
        ([{"n": 1}, {"n": None}], [1, None]),
        ([{"n": 1, "m": True}, {"n": 2, "m": False}], [{"n": 1, "m": True}, {"n": 2, "m": False}]),
        ([], []),
    ],
)
def test_a_result_has_its_shortest_form(phase: Path, rows: list[dict[str, Any]], expected: Any) -> None:
    assert proposed(phase, result=rows)[0]["expect"]["result"] == expected


@pytest.mark.parametrize(
    "rows", [[{"n": 0.5}], [{"n": {"a": 1}}], [{"n": n} for n in range(51)], [{"n": "\x1b[2J"}], "1 rows"]
)
def test_a_result_that_cannot_be_declared_is_a_note(phase: Path, rows: Any) -> None:
    value, notes = proposed(phase, result=rows)
    assert "result" not in value["expect"]
    assert notes == [
        "expect.result: the trailing SELECT returned what phase.yml cannot declare; select fewer rows, and texts for other values"
    ]


def moved(column: str, relation: str = "shop.crates") -> dict[str, Any]:
    return {"relation": relation, "key": "id", "column": column, "changed": 2}


def test_measured_is_what_no_update_sets(phase: Path) -> None:
    value, _notes = proposed(
        phase, moved=[moved("note"), moved("Size"), moved("touched"), moved("touched", "old.crates")]
    )
    assert [(one["id"], one["relation"], one["column"]) for one in value["measure"]] == [
        ("crates.touched", "shop.crates", "touched"),
        ("crates.touched-2", "old.crates", "touched"),
    ]


def test_what_runs_in_batches_is_neither_measured_nor_counted(phase: Path) -> None:
    text = phase.read_text(encoding="utf-8")
    phase.write_text(text + "\nbatches: {shop.crates: {by: id, rows: 5}}\n", encoding="utf-8")
    counted = [{"relation": "shop.crates", "change": -1}, {"relation": "shop.log", "change": 0}]
    value, _notes = proposed(phase, moved=[moved("touched")], row_counts=counted)
    assert "measure" not in value
    assert value["row_counts"] == ["shop.log"]


def test_a_check_takes_the_place_of_the_drafted_one_of_its_object_alone(phase: Path) -> None:
    (drafted,) = yaml.safe_load(phase.read_text(encoding="utf-8"))["verify"]
    check = {"title": "as defined", "sql": "SELECT 'text'", "expect": "text"}
    value, _notes = proposed(
        phase,
        checks=[
            {**check, "names": ["'shop.crates'", "'note'"]},
            {**check, "sql": "SELECT 2", "names": ["'shop.crates'", "'other'"]},
        ],
    )
    assert value["verify"] == [{"id": drafted["id"], **check}, {"id": "VA-2", **check, "sql": "SELECT 2"}]
    # once they are there, nothing is added
    phase.write_text(
        propose_phase(str(phase), {**NOTHING, "checks": [{**check, "names": ["'x'"]}]}).after, encoding="utf-8"
    )
    assert len(proposed(phase, checks=[{**check, "names": ["'x'"]}])[0]["verify"]) == 2


def test_what_contradicts_the_definition_and_the_rollback_is_told(phase: Path) -> None:
    value, notes = proposed(
        phase,
        differs=[["VA-1 5", "VA-1 4"]],
        rollback={
            **UNDONE,
            "restored": False,
            "reason": "C-09: no",
            "rewrites": ["shop.crates"],
            "missing": ["CREATE VIEW shop.v AS\n SELECT 1;", "-- WRITE BY HAND: x"],
        },
    )
    assert notes == [
        "declared: VA-1 5; the copy showed: VA-1 4",
        "the rollback does not restore the schema: C-09: no",
        "what would restore it, to be read and put into rollback.sql:",
        "CREATE VIEW shop.v AS",
        " SELECT 1;",
        "-- WRITE BY HAND: x",
    ]
    assert value["rollback"]["rewrites"] == ["shop.crates"]


def test_an_exact_policy_allows_nothing_in_addition(phase: Path) -> None:
    text = phase.read_text(encoding="utf-8")
    phase.write_text(text.replace("policy: additions_only", "policy: exact"), encoding="utf-8")
    assert proposed(phase, allow=[{"kind": "table", "object": "shop.crates"}])[0]["diff"] == {"policy": "exact"}
