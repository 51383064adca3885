# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The diff of two snapshots: what it names, how it judges types, what people and machines get to read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import Fact, encode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity import (
    SEVERITY_RULES,
    ChangeCase,
    classify_change,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Header, Snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.type_changes import compare_types

DOCUMENT = Path(__file__).parents[3] / "docs" / "schema-diff.md"


def fact(kind: str, *identity: str, **attributes: str | None) -> str:
    return encode_fact(Fact(kind, identity, dict(attributes)))


def snapshot(*lines: str, database: str = "d", **located: str) -> Snapshot:
    return Snapshot(Header("16.0", database), {**dict.fromkeys(lines, ""), **{v: k for k, v in located.items()}})


TABLE = fact("table", "s", "t", owner="o")
COLUMN = fact("column", "s", "t", "a", type="integer")
KEY = fact("constraint", "s", "t", "t_pkey", type="primary key")
KEY_INDEX = fact("index", "s", "t", "t_pkey", constraint="t_pkey")


def test_a_new_table_is_one_change_with_its_parts() -> None:
    found = diff(snapshot(), snapshot(TABLE, COLUMN, KEY, KEY_INDEX))
    assert [(change.kind, change.action, change.parts) for change in found.changes] == [
        ("table", "added", ("column a", "constraint t_pkey", "index t_pkey")),
    ]
    assert found.counts() == {"removed": 0, "renamed": 0, "changed": 0, "added": 4}


def test_a_dropped_table_is_one_change_with_its_parts() -> None:
    found = diff(snapshot(TABLE, COLUMN, KEY, KEY_INDEX), snapshot())
    assert found.counts()["removed"] == 4
    assert [change.severity.value for change in found.changes] == ["destructive"]


def test_an_index_goes_with_the_constraint_that_made_it() -> None:
    found = diff(snapshot(TABLE), snapshot(TABLE, KEY, KEY_INDEX))
    assert [(change.kind, change.parts) for change in found.changes] == [("constraint", ("index t_pkey",))]


def test_a_rename_is_proved_by_the_row_alone() -> None:
    renamed = fact("column", "s", "t", "b", type="integer")
    row = "pg_class/1 pg_attribute/1"
    proved = diff(
        Snapshot(Header("16.0", "d"), {TABLE: "", COLUMN: row}),
        Snapshot(Header("16.0", "d"), {TABLE: "", renamed: row}),
    )
    assert [(change.action, change.before, change.after) for change in proved.changes] == [
        ("renamed", "s.t.a", "s.t.b")
    ]
    elsewhere = Snapshot(Header("16.0", "another"), {TABLE: "", renamed: row})
    unproved = diff(Snapshot(Header("16.0", "d"), {TABLE: "", COLUMN: row}), elsewhere)
    assert [change.action for change in unproved.changes] == ["removed", "added"]


def test_what_follows_a_renamed_table_is_not_told_again() -> None:
    before = Snapshot(Header("16.0", "d"), {TABLE: "1 1", COLUMN: "1 2", KEY: "1 3"})
    moved = [
        fact("table", "s", "u", owner="o"),
        fact("column", "s", "u", "a", type="integer"),
        fact("constraint", "s", "u", "t_pkey", type="primary key"),
    ]
    after = Snapshot(Header("16.0", "d"), dict(zip(moved, ("1 1", "1 2", "1 3"), strict=True)))
    assert [change.text() for change in diff(before, after).changes] == ["table s.u renamed from s.t to s.u"]


def test_a_privilege_that_is_taken_from_what_an_object_is_born_with_is_a_revoke() -> None:
    revoked = fact("acl", "function", "s", "f()", "", "PUBLIC", privileges="[]", born_with='["EXECUTE"]')
    found = diff(snapshot(TABLE), snapshot(TABLE, revoked)).changes
    assert [(change.before, change.after, change.severity.value) for change in found] == [
        ('["EXECUTE"]', "[]", "destructive")
    ]
    assert [change.severity.value for change in diff(snapshot(TABLE, revoked), snapshot(TABLE)).changes] == ["widening"]


def test_other_defaults_alone_are_a_change() -> None:
    one = fact("acl", "function", "s", "f()", "", "PUBLIC", privileges="[]", born_with='["EXECUTE"]')
    other = fact("acl", "function", "s", "f()", "", "PUBLIC", privileges="[]", born_with='["EXECUTE*"]')
    found = diff(snapshot(one), snapshot(other)).changes
    assert [(change.attribute, change.severity.value) for change in found] == [("born_with", "changing")]


@pytest.fixture
def mixed() -> Diff:
    return diff(
        snapshot(
            TABLE, COLUMN, fact("function", "s", "f()", body="SELECT 1\n"), fact("view", "s", "v", definition="x")
        ),
        snapshot(
            TABLE,
            fact("column", "s", "t", "a", type="bigint"),
            fact("column", "s", "t", "b", type="text"),
            fact("function", "s", "f()", body="SELECT\n1"),
        ),
    )


def test_people_read_the_gravest_first(mixed: Diff) -> None:
    assert mixed.text().splitlines() == [
        "1 removed, 2 changed, 1 added (1 destructive, 1 changing, 1 widening, 1 additive)",
        "destructive:",
        "  view s.v removed: definition=x",
        "changing:",
        '  function s.f() body: "SELECT 1\\n" -> "SELECT\\n1"',
        "widening:",
        "  column s.t.a type: integer -> bigint [rewrites]",
        "additive:",
        "  column s.t.b added: type=text",
    ]
    assert diff(mixed.before, mixed.before).text() == "no difference"


def test_machines_read_every_change(mixed: Diff) -> None:
    read = json.loads(mixed.json())
    assert read["before"] == mixed.before.fingerprint
    assert read["severities"] == {"destructive": 1, "changing": 1, "widening": 1, "additive": 1}
    assert read["changes"] == mixed.as_list()
    assert [(change["kind"], change["attribute"], change["rewrites"]) for change in read["changes"]] == [
        ("view", None, False), ("column", "type", True), ("function", "body", False), ("column", None, False)
    ]  # fmt: skip


def test_ansible_shows_both_sides(mixed: Diff) -> None:
    shown = mixed.ansible()
    assert "column s.t.a type: integer\n" in shown["before"]
    assert "column s.t.a type: bigint\n" in shown["after"]
    assert "view s.v" in shown["before"]
    assert "view s.v" not in shown["after"]


@pytest.mark.parametrize(
    ("before", "after", "severity", "rewrites"),
    [
        ("character varying(10)", "character varying(20)", "widening", False),
        ("character varying(20)", "character varying(10)", "destructive", True),
        ("character varying(20)", "character varying", "widening", False),
        ("character varying(20)", "text", "widening", False),
        ("text", "character varying(20)", "destructive", True),
        ("text", "character varying", "widening", False),
        ("character(3)", "character(5)", "widening", True),
        ("character(3)", "text", "changing", True),
        ("text", "character(3)", "destructive", True),
        ("smallint", "integer", "widening", True),
        ("integer", "bigint", "widening", True),
        ("bigint", "integer", "destructive", True),
        ("integer", "numeric", "widening", True),
        ("integer", "numeric(12,2)", "widening", True),
        ("integer", "numeric(8,2)", "destructive", True),
        ("numeric(10,2)", "numeric(12,2)", "widening", False),
        ("numeric(10,2)", "numeric", "widening", False),
        ("numeric(10,2)", "numeric(10,4)", "destructive", True),
        ("numeric(10,2)", "numeric(12,4)", "widening", True),
        ("numeric(10,2)", "numeric(8,2)", "destructive", True),
        ("numeric", "numeric(10,2)", "destructive", True),
        ("numeric(10,2)", "integer", "destructive", True),
        ("real", "double precision", "widening", True),
        ("double precision", "real", "destructive", True),
        ("timestamp(3) without time zone", "timestamp without time zone", "widening", False),
        ("timestamp without time zone", "timestamp(3) without time zone", "destructive", True),
        ("timestamp without time zone", "timestamp with time zone", "changing", True),
        ("date", "timestamp without time zone", "widening", True),
        ("timestamp with time zone", "date", "destructive", True),
        ("timestamp(0) without time zone", "time without time zone", "destructive", True),
        ("text", "integer", "destructive", True),
        ("text", "s.state", "destructive", True),
        ("character varying(20)[]", "uuid[]", "destructive", True),
        ("bit(3)", "bit(5)", "changing", True),
        ("bit varying(3)", "bit varying(5)", "widening", False),
        ("integer[]", "bigint[]", "widening", True),
        ("s.one", "s.other", "changing", True),
        ("jsonb", "text", "changing", True),
    ],
)
def test_a_change_of_type_is_judged(before: str, after: str, severity: str, *, rewrites: bool) -> None:
    judged = compare_types(before, after)
    assert (judged.severity.value, judged.rewrites) == (severity, rewrites)


@pytest.mark.parametrize(
    ("default", "rewrites"),
    [
        ("now()", False), ("'x(1)'::text", False), ("0", False), ("CURRENT_DATE", False),
        ("gen_random_uuid()", True), ("nextval('s.q'::regclass)", True), ("random() + now()", True),
    ],
)  # fmt: skip
def test_a_volatile_default_rewrites(default: str, *, rewrites: bool) -> None:
    new = fact("column", "s", "t", "b", type="text", default=default)
    assert [change.rewrites for change in diff(snapshot(TABLE), snapshot(TABLE, new)).changes] == [rewrites]


def test_the_document_shows_the_table_of_rules() -> None:
    rows = [
        f"| {rule.kinds} | {rule.action} | {rule.attributes} | {rule.outcome} | {rule.reason} |".replace("*", "any")
        for rule in SEVERITY_RULES
    ]
    shown = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [line for line in shown if line in rows] == rows


def test_an_index_on_only_waits_for_its_partitions() -> None:
    def note(definition: str) -> str:
        attributes = {"definition": definition, "invalid": "yes"}
        return classify_change(ChangeCase("index", "added", "", None, "", attributes, "table")).note

    assert "waits for its partitions" in note("CREATE INDEX i ON ONLY app.t USING btree (a)")
    assert "concurrent build" in note("CREATE INDEX i ON app.t USING btree (a)")


@pytest.mark.fault("answer-in-part")
def test_of_a_very_long_value_the_part_that_differs_is_shown() -> None:
    one, other = (fact("table", "s", "t", comment="x" * 2_000_000 + end + "y" * 2_000_000) for end in ("one", "other"))
    text = diff(snapshot(one), snapshot(other)).text()
    assert len(text) < 30_000
    assert "xone" in text
    assert "xother" in text
