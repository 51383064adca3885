# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL on a page: its text is the input, and what is marked as string, name or comment is one for PostgreSQL's scanner."""

from __future__ import annotations

import html.parser
import time

import pglast
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import Document, Listing
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, visible
from hypothesis import example, given
from hypothesis import strategies as st

STRINGS = {"SCONST", "USCONST", "BCONST", "XCONST"}
COMMENTS = {"SQL_COMMENT", "C_COMMENT"}

PIECES = [
    "'a'", "'a''b'", r"E'\' -- x'", r"e'\\'", r"E'a\'b' 'c'", "U&'d\\0061'", "'a'\n  'b'", "'a' -- c\n 'b'", "B'01'", "X'1F'", "N'a'",
    "$$ -- $$", "$a$ $$'$$ $a$", "$é$ ' $é$", "$a1$ $a$ $a1$", "$_1$ $ $_ $_1$", '"a"', '"a""b"', 'U&"\\0061 -- "', 'u&"x"', '"--"',
    "/* a */", "/* a /* ' */ b */", "/**/", "/* -- */", "-- '\n", "-- /*\n", "--", "a$b$", "$1", "SELECT", "é", "\u202e", "{}", "=", "e", "\\",
    " ", "\n", "\t", "1", "a", "'", '"', "$$", "$a$", "$a", "/*", "*/", "u&", "<b>", "&amp;", "\0", "\u0301",
]  # fmt: skip


class Marked(html.parser.HTMLParser):
    """The text of one listing, and the places in it that are marked, by kind."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text = ""
        self.places: list[tuple[int, int, str]] = []
        self._open: list[tuple[int, str]] = []
        self.feed(source.partition('tabindex="0"><code>')[2].partition("</code></pre>")[0])
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append((len(self.text), str(dict(attrs).get("class") or tag)))

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        start, kind = self._open.pop()
        if kind in ("string", "comment", "name"):
            self.places.append((start, len(self.text), kind))

    def handle_data(self, data: str) -> None:
        self.text += data


def marked(text: str) -> Marked:
    return Marked(render_page(Document("", "", "", "", [Listing(text, "sql")])))


def scanned(text: str) -> list[tuple[int, int, str]] | None:
    """Return what PostgreSQL's scanner says is a string, a quoted name or a comment; None for what it does not take."""
    try:
        tokens = pglast.parser.scan(text)
    except pglast.parser.ParseError:
        return None
    places = []
    for token in tokens:
        kind = "string" if token.name in STRINGS else "comment" if token.name in COMMENTS else ""
        if token.name in ("IDENT", "UIDENT") and '"' in text[token.start : token.end + 1]:
            kind = "name"
        if kind:
            places.append((token.start, token.end + 1, kind))
    return places


def require_true_marks(text: str) -> bool:
    """Compare what is marked with the scanner, where it takes the text; the page's text is always the input."""
    shown = marked(text)
    text = text.strip("\n")
    assert shown.text == visible(text, LAYOUT)
    places = scanned(text) if shown.text == text and "\0" not in text else None
    assert places is None or shown.places == places, text
    return places is not None


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (r"SELECT E'\' -- no comment'", ["E'\\' -- no comment'"]),
        (r"SELECT e'a\\', 'b'", [r"e'a\\'", "'b'"]),
        ("SELECT $a1$ DROP $a1$", ["$a1$ DROP $a1$"]),
        ("SELECT $é$ ' $é$, a", ["$é$ ' $é$"]),
        ("SELECT a$b$c, 'x'", ["'x'"]),
        ("/* a /* b */ DROP TABLE t */ SELECT 1", ["/* a /* b */ DROP TABLE t */"]),
        ('SELECT U&"\\0061 -- " FROM t', ['U&"\\0061 -- "']),
        ("SELECT 'a' -- c\n  'DROP'", ["'a' -- c\n  'DROP'"]),
        ("SELECT B'01', X'1F'", ["B'01'", "X'1F'"]),
        ("SELECT B'01''a' 'b''c'", ["B'01'", "'a'", "'b''c'"]),
        ("SELECT x'0'\n  '1'", ["x'0'\n  '1'"]),
        ("SELECT 'a', 1 -- b", ["'a'", "-- b"]),
    ],
)
def test_what_is_marked(text: str, places: list[str]) -> None:
    assert require_true_marks(text)
    assert [text[start:end] for start, end, _kind in marked(text).places] == places


@pytest.mark.parametrize(
    "text", ["SELECT 'a', 'b", "SELECT 'a', E'b\\'", "SELECT 'a' /* /* */", "SELECT 'a', $a$ $b$", "SELECT 'a', \"b"]
)
def test_nothing_is_marked_behind_what_is_not_closed(text: str) -> None:
    shown = marked(text)
    assert shown.text == text
    assert shown.places == [(7, 10, "string")]


@given(st.lists(st.sampled_from(PIECES), max_size=14))
@example(["E'a\\'b' 'c'", "a$b$", "'a'\n  'b'"])
@example(["'", "\u0301", "'"])
def test_generated_texts_are_marked_as_the_scanner_reads_them(pieces: list[str]) -> None:
    require_true_marks("".join(pieces))
    require_true_marks(" ".join(pieces))


@given(st.text(st.sampled_from(";'\"$aE&u\\/*-(\n1_. eé\u202e\ud800"), max_size=40))
def test_soups_of_characters_are_marked_as_the_scanner_reads_them(text: str) -> None:
    require_true_marks(text)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"$a{number}$ " for number in range(20000)),
        "$a" * 60000,
        "/*" * 60000,
        "E'\\" * 40000,
        "'a'\n--\n" * 20000,
        '"' * 100001,
        "'a' " + "\n" * 100000,
        "'a'" + " --" * 50000,
    ],
    ids=["dollar-quotes", "dollars", "comments", "escapes", "continued", "names", "lines", "dashes"],
)
def test_a_long_text_takes_linear_time(text: str) -> None:
    begun = time.monotonic()
    marked(text)
    assert time.monotonic() - begun < 5
