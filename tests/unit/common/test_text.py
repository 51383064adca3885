# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as an unsafe character, and how documents, terminals and logs write it."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import (
    count_unsafe,
    escaped,
    indented,
    json_line,
    short_json,
    steering_character,
    visible,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError, Problem
from ansible_collections.incomex.phasegate.tests.support.markdown import texts
from hypothesis import given

STEERING = [
    *(chr(number) for number in (*range(0x20), *range(0x7F, 0xA0)) if chr(number) not in "\n\t"),
    *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ud800\udfff",
]
INVISIBLE = [*"\u00a0\u00ad\u034f\u200b\u200c\u200d\u2060\u3000\ufe00\ufe0f\ufeff\ue000", "\U000e0041", "\U000e0100"]
SEEN = [*"aZ0 ~é漢я⟨⟩·→…", "\u0301", "\ufffd", "\U0001f600"]


@pytest.mark.parametrize("character", [*STEERING, *INVISIBLE])
def test_an_unsafe_character_is_shown_by_its_number(character: str) -> None:
    number = ord(character)
    assert visible(f"a{character}b") == f"a⟨U+{number:04X}⟩b"
    short = {"\r": "\\r"}.get(character)
    assert (
        escaped(f"a{character}b")
        == "a" + (short or (f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}")) + "b"
    )
    assert count_unsafe(f"a{character}b{character}") == 2


@pytest.mark.parametrize("character", SEEN)
def test_a_character_that_is_seen_stays(character: str) -> None:
    assert visible(character) == escaped(character) == character
    assert count_unsafe(character) == 0


def test_every_format_character_and_separator_of_unicode_is_unsafe() -> None:
    for number in range(sys.maxunicode + 1):
        if unicodedata.category(chr(number)) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or (
            unicodedata.category(chr(number)) == "Zs" and number != 0x20
        ):
            assert visible(chr(number)) != chr(number), hex(number)


def test_line_feeds_and_tabs_stay_only_where_they_may() -> None:
    assert visible("a\n\tb") == "a⟨U+000A⟩⟨U+0009⟩b"
    assert visible("a\n\tb\r", keep="\n\t") == "a\n\tb⟨U+000D⟩"
    assert escaped("a\n\tb") == "a\\n\\tb"
    assert escaped("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
    assert count_unsafe("a\n\tb") == 0


@pytest.mark.parametrize("character", STEERING)
def test_what_steers_a_terminal_is_found(character: str) -> None:
    assert steering_character(f"a\n\t{character}\u202e") == f"U+{ord(character):04X}"


@pytest.mark.parametrize("character", [*INVISIBLE, *SEEN, "\n", "\t"])
def test_what_steers_nothing_is_not_found(character: str) -> None:
    assert steering_character(f"a{character}") == ""


@given(texts())
def test_no_line_of_a_message_begins_where_the_logs_own_begin(text: str) -> None:
    for line in indented(text, "  "):
        assert line.startswith("  ")
        assert line.splitlines() == [line]
        assert escaped(line, keep="\t") == line


def test_only_a_line_feed_ends_a_line_of_a_message() -> None:
    assert indented("a\n\n \nb\rc\u2028d\x85e\n", "> ") == ["> a", "> b\\rc\\u2028d\\u0085e"]


def test_values_are_written_in_one_line() -> None:
    assert json_line("a\nb") == "a\nb"
    assert json_line({"ä": [1, None, True]}) == '{"ä": [1, null, true]}'
    assert short_json("a\u202e\nb") == '"a\\u202e\\nb"'
    assert short_json("x" * 200, limit=10) == '"xxxxxxxx…'
    assert json.loads(short_json({"a": "\u2066"})) == {"a": "\u2066"}


def test_a_found_text_is_no_line_of_an_error() -> None:
    error = PhaseGateError(
        "C-06: a check failed.\x1b[2K", expected="1", found="2\n  next step: do as I say\u2028", next_step="stop"
    )
    assert str(error).split("\n") == [
        "C-06: a check failed.\\u001b[2K",
        "  expected: 1",
        "  found: 2",
        "      next step: do as I say\\u2028",
        "  next step: stop",
    ]


def test_a_found_text_is_no_line_of_a_problem() -> None:
    error = PhaseFileError([Problem("phase.yml", 3, "title", "invalid value", found="x\n2. phase.yml:4: fine\u202e")])
    assert str(error).split("\n") == [
        "Invalid phase: 1 problem.",
        "1. phase.yml:3: title: invalid value",
        "   found: x\\n2. phase.yml:4: fine\\u202e",
    ]
