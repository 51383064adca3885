# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict YAML: what means the same in every version of YAML is read; everything else is a problem with its line."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import (
    dotted,
    line_of,
    load_strict_yaml,
)


def problems(text: str | bytes) -> list[tuple[int, str, str, str]]:
    """Return line, path, what and found of each problem."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return [(one.line, one.path, one.what, one.found) for one in load_strict_yaml("phase.yml", data)[2]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: text", "text"),
        ("a: 'yes'", "yes"),
        ('a: "1:30"', "1:30"),
        ("a: 12", 12),
        ("a: -7", -7),
        ("a: 0", 0),
        ("a: true", True),
        ("a: false", False),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: [1, [x, {b: 2}]]", [1, ["x", {"b": 2}]]),
        ("a: |\n  one\n  two\n", "one\ntwo\n"),
        ('a: "tab\\there"', "tab\there"),
        ("a: '1e3'", "1e3"),
        ("a: 1e3x", "1e3x"),
        ("a: ä漢😀", "ä漢😀"),
        # as names and texts of several languages are written
        ("a: क्\u200dष", "क्\u200dष"),
        ("a: ✔\ufe0f", "✔\ufe0f"),
    ],
)
def test_a_plain_value_is_read(text: str, value: Any) -> None:
    read, _lines, found = load_strict_yaml("phase.yml", text.encode())
    assert found == []
    assert read == {"a": value}
    assert type(read["a"]) is type(value)


AMBIGUOUS = "an ambiguous plain value"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        *((value, AMBIGUOUS) for value in ("yes", "No", "on", "OFF", "True", "TRUE", "Null", "010", "0x1f", "0b1")),
        *(
            (value, AMBIGUOUS)
            for value in (
                "1_000",
                "+1",
                "1:30",
                "2026-05-16",
                "2026-05-16T01:02:03Z",
                "=",
                "1e3",
                "1.5e3",
                ".5e3",
                "0o17",
            )
        ),
        *((value, "a floating-point number") for value in ("1.5", "1.5e+3", "-0.1", ".inf", ".nan", "1.0")),
    ],
)
def test_a_value_that_versions_of_yaml_read_differently(value: str, what: str) -> None:
    (problem,) = load_strict_yaml("phase.yml", f"b: 1\na: {value}".encode())[2]
    assert (problem.line, problem.path, problem.what, problem.found) == (2, "a", what, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2", (2, "a", "a duplicate key", "first on line 1")),
        ("a:\n  b: 1\n  b: 2", (3, "a.b", "a duplicate key", "first on line 2")),
        ("5: a", (1, "", "a key that is not a string", "5")),
        ("yes: a", (1, "", "a key that is not a string", "yes")),
        ("? [a]\n: b", (1, "", "a key that is not a string", "a list or mapping as key")),
        ("null: a", (1, "null", "a key that YAML reads as null", "")),
        ("a: !!binary eA==", (1, "a", "a YAML tag", "tag:yaml.org,2002:binary")),
        ("a: !secret x", (1, "a", "a YAML tag", "!secret")),
        ("a: !!set {x: }", (1, "a", "a YAML tag", "tag:yaml.org,2002:set")),
        ("a: &x 1", (1, "", "a YAML anchor or alias", "")),
        ("a:\n- &x 1\n- *x", (2, "", "a YAML anchor or alias", "")),
        ("<<: {a: 1}", (1, "", "a key that is not a string", "<<")),
        ('a: "\\e[2K"', (1, "a", "a disallowed invisible character", "U+001B")),
        ('a: "\\u202e"', (1, "a", "a disallowed invisible character", "U+202E")),
        ('a: "\\u200f"', (1, "a", "a disallowed invisible character", "U+200F")),
        ('a: "\\L"', (1, "a", "a disallowed invisible character", "U+2028")),
        ('a: "\\ud800"', (1, "a", "a disallowed invisible character", "U+D800")),
        ('a:\n- b\n- "\\0"', (3, "a[1]", "a disallowed invisible character", "U+0000")),
        ("", (0, "", "an empty file", "")),
        ("# only a comment\n", (0, "", "an empty file", "")),
        (b"a: \xff", (0, "", "not UTF-8", "byte 0xff at offset 3")),
        ("- " * 1000 + "x", (1, "", "values nested more than 50 deep", "")),
        ("a: 1\nb: " + "[" * 10_000, (2, "", "values nested more than 50 deep", "")),
        ("a: " + "9" * 5000, (1, "a", "a number that is too long", "5000 digits")),
        ("a: '" + "x" * (1 << 20) + "'", (0, "", "the file is too large", "1048581 bytes")),
    ],
)
@pytest.mark.fault("input-bombs")
def test_what_is_refused_is_named_with_its_line(text: str | bytes, expected: tuple[int, str, str, str]) -> None:
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    ("text", "line"), [("a: b: c", 1), ("a:\n  - b\n c", 3), ("a: 1\n---\nb: 2", 2), ("a: [1", 1), ("a: \x01", 0)]
)
def test_what_is_no_yaml_is_refused(text: str, line: int) -> None:
    ((found_line, _path, what, _found),) = problems(text)
    assert what.startswith("not valid YAML")
    assert found_line == line


def test_every_problem_is_reported_at_once() -> None:
    assert [(line, path) for line, path, _what, _found in problems("a: yes\nb: [1.5, x]\nc: 1\nc: 2")] == [
        (1, "a"), (2, "b[0]"), (4, "c")
    ]  # fmt: skip


def test_every_value_has_its_line() -> None:
    _value, lines, _problems = load_strict_yaml("phase.yml", b"a:\n  b:\n  - 1\n  - c: 2\n")
    assert lines[("a", "b", 1, "c")] == 4
    assert line_of(lines, ("a", "b", 0)) == 3
    assert line_of(lines, ("a", "b", 0, "unknown", 7)) == 3
    assert line_of({}, ("a",)) == 0


@pytest.mark.parametrize(
    ("path", "text"), [((), ""), (("a",), "a"), (("verify", 2, "expect"), "verify[2].expect"), ((0, "a"), "[0].a")]
)
def test_a_path_is_written_as_people_do(path: tuple[Any, ...], text: str) -> None:
    assert dotted(path) == text
