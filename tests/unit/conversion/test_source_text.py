# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A text that is cut and edited still tells where its lines are from."""

from __future__ import annotations

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import joined, whole, written


def numbered(data: bytes, lines: tuple[int, ...]) -> list[tuple[int, bytes]]:
    return list(zip(lines, data.split(b"\n"), strict=True))


@pytest.mark.parametrize("data", [b"", b"a", b"a\n", b"a\nb\n\nc"])
def test_a_whole_file_has_its_own_lines(data: bytes) -> None:
    text = whole(data)
    assert [line for line, _text in numbered(text.data, text.lines)] == list(range(1, data.count(b"\n") + 2))


def test_lines_stay_those_of_the_file() -> None:
    text = whole(b"one\ntwo\nthree\nfour\n").part(4, 18)
    assert numbered(text.data, text.lines) == [(2, b"two"), (3, b"three"), (4, b"four")]
    without = text.edited([(0, 4, b""), (10, 10, b"new\nlines ")])
    assert numbered(without.data, without.lines) == [(3, b"three"), (4, b"new"), (4, b"lines four")]
    both = joined([written(b"BEGIN;\n\n", 2), without, written(b"\nCOMMIT;\n", 9)])
    assert numbered(both.data, both.lines) == [
        (2, b"BEGIN;"),
        (2, b""),
        (3, b"three"),
        (4, b"new"),
        (4, b"lines four"),
        (9, b"COMMIT;"),
        (9, b""),
    ]
    assert both.line(both.data.index(b"lines")) == 4
