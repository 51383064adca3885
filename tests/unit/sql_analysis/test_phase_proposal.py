# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a draft showed fills what phase.yml leaves open; what it declares stays, and a note says where they differ."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile, load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import draft_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_proposal import propose_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.row_proposal import propose_rows, shortest

if TYPE_CHECKING:
    from pathlib import Path

SQL = """BEGIN;
ALTER TABLE shop.crates ADD COLUMN note text;
UPDATE shop.crates SET note = 'a', "Size" = 2;
UPDATE shop.crates SET note = 'b';
COMMIT;
"""
TABLES = {"shop.crates": {"rows": 1000, "keys": [["id"]]}}
UNDONE = {
    "rows": {},
    "tables": TABLES,
    "rewrites": [],
    "restored": True,
    "reason": "",
    "missing": [],
    "changed": [],
    "kept": [],
}
NOTHING: dict[str, Any] = {
    "rows": {},
    "tables": TABLES,
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
    phase.write_text(propose_phase(str(phase), NOTHING).after, encoding="utf-8")
    found = propose_phase(str(phase), NOTHING)
    assert (found.after, found.notes) == (found.before, [])


def comments(text: str) -> list[str]:
    return [line.partition("#")[2].strip() for line in text.splitlines() if "#" in line]


def test_a_comment_goes_with_what_it_asks_for(phase: Path) -> None:
    title, undo, lines, restore, rows, diff = comments(phase.read_text(encoding="utf-8"))
    assert lines == "line 3"
    assert (title.split()[0], undo.split()[0], restore.split()[0]) == ("say", "what", "what")
    assert (rows.split()[0], diff.split()[0]) == ("how", "a")
    rolled_back = {**UNDONE, "restored": False}
    assert comments(propose_phase(str(phase), {**NOTHING, "rollback": rolled_back}).after) == [
        title,
        undo,
        lines,
        restore,
        rows,
    ]
    counted = {**NOTHING, "rows": {"UPDATE": [1, 2]}}
    assert comments(propose_phase(str(phase), counted).after) == [title, undo, lines]
    # with nothing left to write, only what is the author's
    rollback = b"ALTER TABLE shop.crates DROP COLUMN note;\n"
    phase.with_name("rollback.sql").write_bytes(rollback)
    text = re.sub(
        r"(rollback.sql\n  sha256: )\w+", rf"\g<1>{hashlib.sha256(rollback).hexdigest()}", phase.read_text("utf-8")
    )
    phase.write_text(text, encoding="utf-8")
    assert comments(propose_phase(str(phase), counted).after) == [title]


def test_a_check_that_was_asked_for_is_there(phase: Path) -> None:
    text = phase.read_text(encoding="utf-8").replace(
        "verify:\n", "verify:  # checks that would notice a wrong change\n"
    )
    phase.write_text(text, encoding="utf-8")
    assert "would notice" not in propose_phase(str(phase), NOTHING).after


@pytest.mark.parametrize(
    ("declared", "observed", "expected"),
    [
        ("{each: {min: 0}}", [4, 7], [4, 7]),
        ("{each: {min: 0}}", [4, 4], {"each": 4}),
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


def test_a_count_grows_with_its_table(phase: Path) -> None:
    value, _notes = proposed(
        phase,
        rows={"UPDATE": [499, 500]},
        moved=[moved("touched"), moved("touched", "old.crates")],
        data={"shop.log": {"INSERT": 999}, "shop.crates": {"UPDATE": 999}, "shop.log_id_seq": {"MOVE": "any"}},
        row_counts=[{"relation": "shop.crates", "change": 0}, {"relation": "shop.log", "change": 999}],
    )
    assert value["expect"]["rows"]["UPDATE"] == [499, {"min": 500}]
    assert ["expect" in one for one in value["measure"]] == [False, True]
    assert value["data"] == {
        "shop.log": {"INSERT": {"min": 999}},
        "shop.crates": {"UPDATE": {"min": 999}},
        "shop.log_id_seq": {"MOVE": "any"},
    }
    assert value["row_counts"] == ["shop.crates"]


@pytest.mark.parametrize(
    ("counts", "in_batches", "expected"),
    [
        ([*range(21)], False, {"total": 210}),
        ([*range(20), {"min": 5}], False, {"total": {"min": 195}}),
        ([*range(20), {"min": 0}], True, [*range(20), {"min": 0}]),
        ([{"min": 5}, {"min": 5}], False, {"each": {"min": 5}}),
        ([{"min": 0}], True, [{"min": 0}]),
    ],
)
def test_counts_have_their_shortest_form(counts: list[Any], in_batches: bool, expected: Any) -> None:
    assert shortest(counts, in_batches=in_batches) == expected


LARGE = {"rows": 10, "keys": [["id"], ["a", "b"]]}


@pytest.mark.parametrize(
    ("sql", "rows", "expected"),
    [
        ("UPDATE app.t SET x = 1", 10, {"min": 10}),
        ("UPDATE app.t SET x = 1", 4, 4),
        ("UPDATE app.t SET x = 1 WHERE y = 3", 5, {"min": 5}),
        ("UPDATE app.t SET x = 1 WHERE y = 3", 4, 4),
        ("UPDATE app.t SET x = 1 WHERE id IN (1, 2, 3, 4, 5)", 5, 5),
        ("UPDATE app.t SET x = 1 WHERE t.id = ANY (ARRAY[1, 2, 3, 4, 5]) AND y > 3", 5, 5),
        ("UPDATE app.t SET x = 1 WHERE id IN (1, 2, 3, 4, 5) OR y > 3", 5, {"min": 5}),
        ("UPDATE app.t SET x = 1 WHERE id > 2", 5, {"min": 5}),
        ("UPDATE app.t SET x = 1 WHERE id = y", 5, {"min": 5}),
        ("UPDATE app.t SET x = 1 WHERE id IN (SELECT id FROM app.small)", 5, {"min": 5}),
        ("DELETE FROM app.t WHERE a = 1 AND b IN (1, 2, 3, 4, 5)", 5, 5),
        ("DELETE FROM app.t WHERE a = 1", 5, {"min": 5}),
        ("UPDATE t SET x = 1", 5, {"min": 5}),
        ("UPDATE t SET x = 1 WHERE id IN (1, 2, 3, 4, 5)", 5, 5),
        ("INSERT INTO app.t SELECT * FROM app.small", 3, {"min": 3}),
        ("INSERT INTO app.t SELECT * FROM app.small WHERE id = 1", 1, {"min": 1}),
        ("INSERT INTO app.t SELECT * FROM app.t o WHERE id IN (11, 12, 13, 14, 15)", 5, 5),
        ("INSERT INTO app.t SELECT pg_catalog.generate_series(1, 20)", 20, 20),
        ("INSERT INTO app.t VALUES (1), (2)", 2, 2),
        ("INSERT INTO app.t WITH c AS (SELECT 1) SELECT * FROM c", 1, 1),
        ("INSERT INTO app.t SELECT * FROM app.view", 1, {"min": 1}),
        ("UPDATE app.empty SET x = 1", 0, {"min": 0}),
    ],
)
def test_a_count_is_exact_where_the_rows_are_few_or_named(phase: Path, sql: str, rows: int, expected: Any) -> None:
    tables = {"app.t": LARGE, "app.small": {"rows": 2, "keys": []}, "app.empty": {"rows": 0, "keys": []}}
    read = load_phase(str(phase))
    read.definition["settings"]["search_path"] = ["other", "app"]
    source = SourceFile("migrate.sql", "migrate.sql", sql.encode())
    found = propose_rows(read, source, {sql.split(maxsplit=1)[0]: [rows]}, tables)
    assert found.counts == {sql.split(maxsplit=1)[0]: [expected]}


def test_after_commit_any_number_may_be_left(phase: Path) -> None:
    read = load_phase(str(phase))
    sql = "BEGIN; UPDATE app.t SET x = 1 WHERE id = 1; COMMIT; UPDATE app.t SET y = 1 WHERE y IS NULL;"
    source = SourceFile("migrate.sql", "migrate.sql", sql.encode())
    found = propose_rows(read, source, {"UPDATE": [1, 9]}, {"app.t": LARGE})
    assert (found.counts, found.growing) == ({"UPDATE": [1, {"min": 0}]}, set())


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


@pytest.mark.parametrize(
    ("more", "columns", "rows", "expected"),
    [
        (1, [], 4, ["1 row inserted into shop.crates stays"]),
        (7, [], 4, ["7 rows inserted into shop.crates stay"]),
        (7, [], 500, ["rows inserted into shop.crates stay"]),
        (-1, [], 4, ["1 row deleted from shop.crates does not come back"]),
        (-2, [], 4, ["2 rows deleted from shop.crates do not come back"]),
        (-2, [], 500, ["rows deleted from shop.crates do not come back"]),
        (0, ["touched"], 4, ["touched of shop.crates keeps its new values"]),
        (0, ["a", "touched"], 4, ["a, touched of shop.crates keep their new values"]),
        (3, ["a"], 4, ["3 rows inserted into shop.crates stay", "a of shop.crates keeps its new values"]),
        (0, [], 4, ["the rows of shop.crates that the migration changed keep their new values"]),
    ],
)
def test_what_stays_changed_is_told_in_sentences(
    phase: Path, more: int, columns: list[str], rows: int, expected: list[str]
) -> None:
    kept = [{"relation": "shop.crates", "column": one} for one in columns] + [{"relation": "shop.x", "column": "y"}]
    rollback = {**UNDONE, "changed": [{"relation": "shop.crates", "more": more}], "kept": kept}
    value, _notes = proposed(phase, rows={"UPDATE": [1, rows]}, rollback=rollback)
    assert value["rollback"]["cannot_restore"] == expected
    text = phase.read_text(encoding="utf-8").replace("cannot_restore: []", "cannot_restore: [all of shop.crates]")
    phase.write_text(text, encoding="utf-8")
    assert proposed(phase, rollback=rollback)[0]["rollback"]["cannot_restore"] == ["all of shop.crates"]


def test_what_is_allowed_says_what_was_seen(phase: Path) -> None:
    column = {"class": "destructive", "kind": "column", "object": "shop.crates.n"}
    allow = [{**column, "seen": "not null: none -> yes"}, {**column, "class": "narrowing", "seen": "it's: {a} # b"}]
    found = propose_phase(str(phase), {**NOTHING, "allow": allow})
    lines = [
        "  allow:",
        "    # not null: none -> yes",
        "    - {class: destructive, kind: column, object: shop.crates.n}",
        "    # it's: {a} # b",
        "    - {class: narrowing, kind: column, object: shop.crates.n}",
    ]
    assert "\n".join(lines) in found.after
    # in a list that is there, too
    phase.write_text(found.after, encoding="utf-8")
    more = propose_phase(str(phase), {**NOTHING, "allow": [{**allow[0], "object": "shop.x", "seen": "gone"}]})
    last = ["    # gone", "    - {class: destructive, kind: column, object: shop.x}"]
    assert "\n".join([*lines, *last]) in more.after


def test_an_exact_policy_allows_nothing_in_addition(phase: Path) -> None:
    text = phase.read_text(encoding="utf-8")
    phase.write_text(text.replace("policy: additions_only", "policy: exact"), encoding="utf-8")
    assert proposed(phase, allow=[{"kind": "table", "object": "shop.crates", "seen": "x"}])[0]["diff"] == {
        "policy": "exact"
    }
