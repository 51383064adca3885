# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts for people and terminals: one line of JSON, and no character that would steer a terminal."""

from __future__ import annotations

import json
import re
from typing import Any, List, Match

# Characters that steer a terminal or a page: C0 and C1 controls, line and paragraph separators, bidirectional
# controls and marks (Unicode Standard Annex 9), lone surrogates, the deprecated format characters.
_STEERING = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff"

# Characters that cannot be seen, or cannot be told from a space: the rest of Default_Ignorable_Code_Point with the
# zero-width characters, variation selectors and tags, then format characters, spaces of other widths, fillers,
# noncharacters and private use. Ranges, and not the categories of `unicodedata`, so that every Python agrees.
_INVISIBLE = (
    r"\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u3164\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    r"\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\xa0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000"
    r"\ufdd0-\ufdef\ufffe\uffff\ue000-\uf8ff\U000f0000-\U0010ffff"
)

_UNSAFE = re.compile(f"[{_STEERING}{_INVISIBLE}]")

_STEERS = re.compile(f"[{_STEERING}]")

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# The characters that lay out a text of several lines.
LAYOUT = "\n\t"


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def visible(text: str, keep: str = "") -> str:
    """Return the text for a document: each unsafe character as ``⟨U+202E⟩``, except those in ``keep``."""
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else f"⟨{_code(found[0])}⟩", text)


def escaped(text: str, keep: str = "") -> str:
    r"""Return the text for a terminal or a log: each unsafe character as ``\u202e`` or ``\n``, except those in ``keep``."""

    def escape(found: Match[str]) -> str:
        number = ord(found[0])
        return _SHORT.get(found[0]) or (f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}")  # noqa: PLR2004

    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else escape(found), text)


def indented(text: str, indent: str) -> List[str]:
    """Return the lines of a message for a log, each behind ``indent`` and without unsafe characters; empty ones are left out.

    Only a line feed ends a line here, and no line begins where the log's own lines do.
    """
    return [indent + escaped(line, keep="\t") for line in text.split("\n") if line.strip()]


def count_unsafe(text: str) -> int:
    """Return how many characters of a text of several lines are unsafe; line feeds and tabs are not."""
    return sum(found[0] not in LAYOUT for found in _UNSAFE.finditer(text))


def steering_character(text: str) -> str:
    """Return the code point of the first character that steers a terminal or a page, like ``U+202E``; '' without one.

    Line feeds and tabs are allowed: what has several lines may have them.
    """
    found = next((found[0] for found in _STEERS.finditer(text) if found[0] not in LAYOUT), None)
    return _code(found) if found else ""


#: How many characters of a text from a database are shown.
LONGEST = 10_000


def shortened(text: str) -> str:
    """Return a text, of one that is longer than ``LONGEST`` the beginning, and how long it is."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def json_line(value: Any) -> str:
    """Return a string as it is and any other value as JSON in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def short_json(value: Any, limit: int = 120) -> str:
    """Return a value as JSON in one line of at most ``limit`` characters, for a message."""
    return cut_short(escaped(json.dumps(value, ensure_ascii=False, default=str)), limit)


def cut_short(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
