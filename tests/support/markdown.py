# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read Markdown as GitHub does, with a parser of its own, and texts that try to be more than a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.token import Token

#: What a document of ours may have within a line; everything else would come from a text.
INLINE = {"text", "code_inline", "strong_open", "strong_close"}

#: Each tries one thing: a cell, HTML, an entity, a link, an image, a block, a line, an unseen character.
HOSTILE = [
    "a|b <img src=x onerror=1>",
    "| x | y |",
    "a \\| b",
    "`code` ``` ~~~",
    "``` \n# heading",
    "&lt;script&gt; &#x202e; &amp;",
    "[a](http://b) ![c](http://d) [e]: http://f <http://g>",
    "http://example.org/ https://example.org www.example.org ftp://x.org",
    "*em* **strong** __strong__ _em_ ~~gone~~ $x$",
    "# heading #",
    "heading #",
    "- item",
    "+ item",
    "* item",
    "1. item",
    "1) item",
    "> quote",
    "===",
    "---",
    "    code",
    "\tcode",
    "- [ ] task",
    "one\n\n# two\n\n- three\n| a | b |\n| --- | --- |",
    "one\r\ntwo\x0bthree\x0cfour\x85five\u2028six\u2029seven",
    "\nG-1   PASS          enough reviewers approved this exact plan",
    "\x1b[2K\x1b]0;title\x07",
    "\u202etext\u202c \u2066x\u2069 \u200e\u200f\u061c",
    "zero\u200bwidth\ufeff\u2060 \ufe0f \U000e0041 \ud800",
    "ends in \\",
    "`",
    "` `",
    "\\",
    "|",
    "<!-- x",
    "</td></table>",
]


def texts() -> st.SearchStrategy[str]:
    """Give texts that are pieces of hostile ones, and any other texts; none is only space."""
    pieces = st.sampled_from([*HOSTILE, *"|`\\*_[]()<>&~$#-+.:!=\n\t \"'", "a", "1", " x ", "ä", "\u00a0", "\u202e"])
    return (st.lists(pieces, max_size=8).map("".join) | st.text(max_size=20)).filter(lambda text: text.strip() != "")


def parse(markdown: str) -> list[Token]:
    """Return the tokens: CommonMark with GitHub's tables, strike-through and links of bare addresses."""
    parser = MarkdownIt("gfm-like", {"html": True})
    assert parser.linkify is not None
    parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    for schema in ("mailto:", "//"):
        parser.linkify.add(schema, None)
    return parser.parse(markdown)


def structure(tokens: list[Token]) -> list[tuple[str, str]]:
    """Return the blocks of a document with their tags."""
    return [(token.type, token.tag) for token in tokens]


def inline_types(tokens: list[Token]) -> set[str]:
    """Return the types of everything within lines."""
    return {child.type for token in tokens for child in token.children or ()}


def inline_texts(tokens: list[Token]) -> list[str]:
    """Return what a reader sees of each paragraph, heading, item and cell."""
    return ["".join(child.content for child in token.children or ()) for token in tokens if token.type == "inline"]
