# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take the secrets out of the text of pg_dump --schema-only before it is written anywhere.

pg_dump has no option for that: it writes the options of user mappings, and the connection strings of subscriptions, to
whoever may read them. What is replaced is found by the kind of its statement, not by what a password looks like.
"""

from __future__ import annotations

import re
from typing import List

#: What is written in place of a value.
WITHHELD = b"'withheld by phasegate'"

# A statement that may have secrets, at the start of a line; or, first, what is skipped whole: in a body, a string, a quoted
# name or a comment the same words are no statement, and a quote is none that a string begins with.
_STATEMENT = re.compile(
    rb"(?<![\w$\x80-\xff])(?P<tag>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$).*?(?P=tag)"
    rb"|(?<![\w$\x80-\xff])[Ee]'(?:[^'\\]|''|\\.)*'"
    rb"|'(?:[^']|'')*'"
    rb"|\"(?:[^\"]|\"\")*\""
    rb"|--[^\n]*"
    rb"|^(?:CREATE|ALTER) (?P<kind>USER MAPPING|SUBSCRIPTION|SERVER|FOREIGN DATA WRAPPER|FOREIGN TABLE)\b",
    re.MULTILINE | re.DOTALL,
)

# Options may hold backslashes only as E'\\', and quotes only doubled: quote_literal() writes them.
_TOKEN = re.compile(rb"\"(?:[^\"]|\"\")*\"|[Ee]?'(?:[^']|'')*'|;|[A-Za-z_][A-Za-z0-9_$]*|[^\"';A-Za-z_]+")

_SECRET = re.compile(rb"pass|pwd|secret|token|credential|private", re.IGNORECASE)


def without_secrets(text: bytes) -> bytes:
    """Return the text with the values of user mappings, connection strings, and options named like a secret replaced."""
    out: List[bytes] = []
    position = 0
    looked = 0
    while True:
        found = _STATEMENT.search(text, looked)
        if found is None:
            out.append(text[position:])
            return b"".join(out)
        looked = found.end()
        if found["kind"]:
            out.append(text[position:looked])
            position = looked = _statement(text, looked, found["kind"], out)


def _statement(text: bytes, position: int, kind: bytes, out: List[bytes]) -> int:
    """Append the rest of a statement to ``out`` and return where it ends."""
    word = b""
    for token in _TOKEN.finditer(text, position):
        value = token[0]
        position = token.end()
        if value.endswith(b"'") and not value.startswith(b'"'):
            hidden = kind == b"USER MAPPING" or word.upper() == b"CONNECTION" or _SECRET.search(word)
            out.append(WITHHELD if hidden else value)
        else:
            out.append(value)
        if value == b";":
            break
        if value.strip():
            word = value
    return position
