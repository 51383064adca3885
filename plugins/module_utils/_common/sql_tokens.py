# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tokens of SQL: where strings, names and comments begin and end.

The rules are those of PostgreSQL 16's src/backend/parser/scan.l with ``standard_conforming_strings`` on, which every session of
phasegate sets. A text that is split here otherwise than the server would is a text that the server rejects as a whole.
Takes linear time. Standard library only, Python 3.8.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, Pattern, Tuple

# Bytes from 0x80 are letters to the server's scanner, too.
_TOKEN = re.compile(
    rb"(?P<space>[ \t\n\r\f\v]+)"
    rb"|(?P<comment>--[^\n\r]*)"
    rb"|(?P<other>[^-/;().'\"$0-9A-Za-z_\x80-\xff \t\n\r\f\v]+)"
    rb"|(?P<number>[0-9][0-9A-Za-z_]*|\$[0-9]+)"
    rb"|(?P<end>;)|(?P<open>\()|(?P<close>\))|(?P<dot>\.)"
    rb"|(?P<block>/\*)"
    rb"|(?P<escape>[eE]')"
    rb"|(?P<bits>[bBxX]')"
    rb"|(?P<string>(?:[uU]&)?')"
    rb'|(?P<quoted>(?:[uU]&)?")'
    rb"|(?P<dollar>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$)"
    rb"|(?P<word>[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)"
    rb"|(?P<sign>.)",
    re.DOTALL,
)

# What closes what a token opens; a doubled quote does not, except in a string of bits.
_REST: Dict[str, Pattern[bytes]] = {
    "escape": re.compile(rb"[^\\']*(?:(?:\\.|'')[^\\']*)*'(?!')", re.DOTALL),
    "bits": re.compile(rb"[^']*'"),
    "string": re.compile(rb"[^']*(?:''[^']*)*'(?!')"),
    "quoted": re.compile(rb'[^"]*(?:""[^"]*)*"(?!")'),
}

# Written so that no text can be matched in two ways: a comment goes on to the end of its line, so a line has one at most.
_CONTINUED = re.compile(rb"[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'")

_COMMENT_ENDS = re.compile(rb"/\*|\*/")

_NAMES = {"escape": "string", "bits": "string", "string": "string", "quoted": "quoted identifier"}


class LexError(Exception):
    """A text that is no SQL: something that it opens is not closed. ``start`` is the offset of what opens it."""

    def __init__(self, what: str, start: int) -> None:
        self.what = what
        self.start = start
        super().__init__(f"{what} from byte {start} on is not closed")


def tokens(data: bytes) -> Iterator[Tuple[str, bytes]]:
    """Yield kind and text of each token; no spaces and comments. Raises ``LexError``.

    A kind is that of ``_TOKEN``; of strings and quoted identifiers only the opening is yielded. The last token of a text that ends
    inside a comment is followed by a ``LexError``.
    """
    return ((kind, text) for _start, kind, text in placed_tokens(data))


def placed_tokens(data: bytes) -> Iterator[Tuple[int, str, bytes]]:
    """Yield the offset, kind and text of each token, as ``tokens`` does. Raises ``LexError``."""
    return ((start, kind, text) for start, _end, kind, text in spans(data) if kind not in ("space", "comment"))


def spans(data: bytes) -> Iterator[Tuple[int, int, str, bytes]]:
    """Yield start, end (offsets of bytes), kind and opening of everything in a text, in order and without a gap. Raises ``LexError``.

    A kind is that of ``_TOKEN``; that of a comment is ``comment``. A string has what continues it on later lines.
    """
    position, size = 0, len(data)
    match_token = _TOKEN.match
    while position < size:
        match = match_token(data, position)
        if match is None:  # pragma: no cover - the last alternative takes any byte
            raise LexError("something", position)
        kind, start = match.lastgroup or "other", position
        position = match.end()
        if kind == "block":
            kind, position = "comment", _after_comment(data, start)
        elif kind in _REST:
            position = _after_quotes(data, kind, start, position)
        elif kind == "dollar":
            tag = match.group()
            closing = data.find(tag, position)
            if closing < 0:
                raise LexError("a dollar-quoted string", start)
            position = closing + len(tag)
        yield start, position, kind, match.group()


def _after_comment(data: bytes, start: int) -> int:
    depth = 0
    for match in _COMMENT_ENDS.finditer(data, start):
        depth += 1 if match.group() == b"/*" else -1
        if depth == 0:
            return match.end()
    raise LexError("a comment", start)


def _after_quotes(data: bytes, kind: str, start: int, position: int) -> int:
    """Return the offset after a quoted token, and after the strings that continue it on later lines."""
    while True:
        match = _REST[kind].match(data, position)
        if match is None:
            raise LexError(f"a {_NAMES[kind]}", start)
        more = None if kind == "quoted" else _CONTINUED.match(data, match.end())
        if more is None:
            return match.end()
        position = more.end()
