# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""phase.yml is edited in place: the value is the meant one, and what does not change keeps its bytes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_edit import edited, flow
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import load_strict_yaml
from hypothesis import given
from hypothesis import strategies as st

TEXT = """---
# the name of the phase
phase: crates   # not of the table
title: "A: B"

migrate:
  file: migrate.sql
  sha256: abc  # of the file
expect:
  tags: {BEGIN: 1, COMMIT: 1}
  # in file order
  rows:
    INSERT: [1, 2]
verify:
  - id: VA-1
    sql: >-
      SELECT 1
      FROM shop.crates
    expect: 1

  - {id: VA-2, sql: SELECT 2, expect: 2}
# what may be named
scope:
  schemas:
  - shop
  statements: [CREATE TABLE]
"""


def value(text: str) -> Any:
    found, _lines, problems = load_strict_yaml("phase.yml", text.encode())
    assert not problems, problems
    return found


def changed(path: list[Any], new: Any) -> tuple[Any, str]:
    wanted = copy.deepcopy(value(TEXT))
    place = wanted
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return wanted, edited(TEXT, wanted)


@pytest.mark.parametrize(
    ("path", "new", "line"),
    [
        (["migrate", "sha256"], "def", "  sha256: def  # of the file"),
        (["expect", "tags"], {"BEGIN": 1, "INSERT": 2}, "  tags: {BEGIN: 1, INSERT: 2}"),
        (["expect", "rows", "INSERT"], {"each": {"min": 0}}, "    INSERT: {each: {min: 0}}"),
        (["expect", "result"], {"rows": 3}, "  result: {rows: 3}"),
        (["verify", 0, "sql"], "SELECT 3", "    sql: SELECT 3"),
        (["scope", "schemas"], ["shop", "till"], "  - till"),
        (["scope", "rewrites"], ["shop.crates"], "  rewrites: [shop.crates]"),
        (
            ["verify", 1, "expect"],
            ["a b", "1", "yes", None],
            '  - {id: VA-2, sql: SELECT 2, expect: [a b, "1", "yes", null]}',
        ),
        (["data"], {'shop."Crates"': {"UPDATE": 3}}, 'data: {"shop.\\"Crates\\"": {UPDATE: 3}}'),
    ],
)
def test_one_value_changes_one_line(path: list[Any], new: Any, line: str) -> None:
    wanted, text = changed(path, new)
    assert value(text) == wanted
    assert line in text.splitlines()
    kept = [one for one in TEXT.splitlines() if one in text.splitlines()]
    # its own lines at most are gone
    assert len(TEXT.splitlines()) - len(kept) <= 3
    assert "# in file order" in text
    assert "# what may be named" in text


def test_a_key_is_removed_with_its_comment_only() -> None:
    wanted = value(TEXT)
    del wanted["verify"]
    del wanted["migrate"]
    text = edited(TEXT, wanted)
    assert value(text) == wanted
    assert "# of the file" not in text
    assert "# in file order" in text


def test_two_additions_at_one_place_keep_their_depth() -> None:
    wanted = copy.deepcopy(value(TEXT))
    wanted["expect"]["rows"]["UPDATE"] = [3]
    wanted["expect"]["result"] = {"a": 1}
    text = edited(TEXT, wanted)
    assert "    INSERT: [1, 2]\n    UPDATE: [3]\n  result: {a: 1}\n" in text


def test_a_long_value_is_written_on_lines_of_its_own() -> None:
    entries = [{"kind": "column", "object": f"shop.crates.{'x' * 60}{n}"} for n in range(3)]
    _wanted, text = changed(["diff"], {"policy": "additions_only", "allow": entries})
    assert max(map(len, text.splitlines())) <= 120
    assert f"    - {{kind: column, object: {entries[0]['object']}}}" in text.splitlines()


def test_nothing_changes_where_nothing_is_meant() -> None:
    assert edited(TEXT, value(TEXT)) == TEXT


def test_an_ambiguous_text_is_refused() -> None:
    with pytest.raises(PhaseFileError, match="duplicate key"):
        edited("a: 1\na: 2\n", {"a": 1})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")))
    | st.sampled_from(["yes", "1e3", "0x1", "- a", "a: b", "a #b", "010", "2026-05-16", ""])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab-:1 ", min_size=1, max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(st.sampled_from(["a", "b", "verify", "1", "no"]), VALUES, min_size=1, max_size=4)


@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_every_value_is_reached_from_every_other(
    first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]
) -> None:
    text = f"{flow(first)}\n"
    for wanted in (second, third, first):
        text = edited(text, wanted)
        assert value(text) == wanted
    # and from block style
    text = "z: 1\n"
    for wanted in (first, second, third):
        text = edited(text, {"z": 1, **wanted})
        assert value(text) == {"z": 1, **wanted}


@pytest.mark.fault("draft-odd-objects")
@pytest.mark.parametrize("text", ["\x7f", "\x85", "\u2028", "\x1b[2J", "\u202e"])
def test_a_character_that_yaml_refuses_is_named(text: str) -> None:
    with pytest.raises(PhaseFileError, match="a disallowed invisible character"):
        changed(["verify", 0, "sql"], f"SELECT '{text}'")


@pytest.mark.parametrize("text", ["\xa0", "\u200b", "\ufeff", "\ufffe", "\U000e0041"])
def test_a_character_that_nobody_sees_is_written_by_its_number(text: str) -> None:
    wanted, found = changed(["verify", 0, "sql"], f"SELECT '{text}'")
    assert value(found) == wanted
    assert text not in found
