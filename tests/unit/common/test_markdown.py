# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Markdown writer: whatever a text holds, a parser reads exactly that text, in exactly that block."""

from __future__ import annotations

import re

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Bullets,
    Card,
    Code,
    Document,
    Facts,
    Heading,
    Listing,
    Notice,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.markdown import render_markdown
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import visible
from ansible_collections.incomex.phasegate.tests.support.markdown import (
    HOSTILE,
    INLINE,
    inline_texts,
    inline_types,
    parse,
    structure,
    texts,
)
from hypothesis import given


def every_block(text: str) -> Document:
    """Return a document that has the text in every place that a text can have."""
    blocks: list[Block] = [
        Heading(2, text),
        Heading(3, text),
        Paragraph((text,)),
        Paragraph((Code(text), text, Code(text))),
        Facts(((text, text), ("label", Code(text)))),
        Table((text, "head"), ((text, Code(text)), (Code(text), text)), (1,)),
        Bullets(((text,), (Code(text), text))),
        Listing(text, "sql"),
        Card(text, (Badge(text), Badge(text, "bad")), (Paragraph((text,)), Listing(text)), folded=True),
        Notice("watch", text, ((text,), (Code(text),))),
    ]
    return Document(text, text, text, "0" * 64, blocks)


def assert_only_texts(text: str) -> None:
    tokens = parse(render_markdown(every_block(text)))
    assert structure(tokens) == structure(parse(render_markdown(every_block("plain"))))
    assert inline_types(tokens) <= INLINE


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_no_markup_in_any_block(text: str) -> None:
    assert_only_texts(text)


@given(texts())
def test_no_text_is_markup_in_any_block(text: str) -> None:
    assert_only_texts(text)


def shown(text: str) -> str:
    """Return how running text is to be read: in one line, the ends without space."""
    return visible(re.sub(r"[ \t\r\n]+", " ", text)).strip()


def assert_read(text: str) -> None:
    blocks: list[Block] = [
        Paragraph((text,)),
        Table(("a", "b"), ((text, Code(text)),)),
        Bullets(((text,),)),
        Heading(2, text),
    ]
    document = Document("", "title", "lead", "", blocks)
    code = visible(text)
    # a code span with nothing but a backslash before a bar is running text in a cell
    code = code.strip() if "\\|" in code or not code.strip(" ") else code
    read = inline_texts(parse(render_markdown(document)))
    assert [" ".join(one.split(" ")) for one in read] == [
        "title",
        "lead",
        shown(text),
        "a",
        "b",
        shown(text),
        re.sub(" +", " ", code).strip() if "\\|" in visible(text) else code,
        shown(text),
        shown(text),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_reader_sees_the_hostile_text_itself(text: str) -> None:
    assert_read(text)


@given(texts())
def test_a_reader_sees_any_text_itself(text: str) -> None:
    assert_read(text)


@given(texts())
def test_a_listing_is_verbatim(text: str) -> None:
    (fence,) = [
        one for one in parse(render_markdown(Document("", "t", "l", "", [Listing(text, "sql")]))) if one.type == "fence"
    ]
    assert fence.info == "sql"
    assert fence.content == visible(text, keep="\n\t").strip("\n") + "\n"


@pytest.mark.parametrize(
    ("block", "lines"),
    [
        (Heading(2, "server_space #1"), ["## server_space \\#1"]),
        # what GitHub has beyond the parser of these tests: formulas, links of addresses without a scheme
        (Paragraph(("$x$ www.example.org 3 -> 1 a_b _c",)), ["\\$x\\$ www\\.example.org 3 -> 1 a_b \\_c"]),
        (Paragraph(("Bundle ", Code("a|b"), ".")), ["Bundle `a|b`."]),
        (Paragraph((Code("a"), Code("b"))), ["`a` `b`"]),
        (Paragraph((Code(" a "),)), ["`  a  `"]),
        (Paragraph((Code("`a"),)), ["`` `a ``"]),
        (Bullets((("1. x",), ("- x",), ("-1 x",))), ["- 1\\. x", "- \\- x", "- \\-1 x"]),
        (
            Table(("id", "n"), (("long_transactions", "1"), (Code("a|b"), "")), (1,)),
            ["| id | n |", "| --- | ---: |", "| long_transactions | 1 |", "| `a\\|b` |  |"],
        ),
        (Table(("", "x"), ((Code("a\\|b"), ""),)), ["|  | x |", "| --- | --- |", "| a\\\\\\|b |  |"]),
        (Listing("a ``` b"), ["````", "a ``` b", "````"]),
        (
            Card("t", (Badge("a"), Badge("b", "watch"), Badge("c", "good")), (Paragraph(("x",)),)),
            ["#### t", "", "a · **b** · c", "", "x"],
        ),
        (Card("t", (), (Paragraph(("x",)),)), ["#### t", "", "x"]),
        (Notice("good", "t", (("x",),)), ["**t**", "", "- x"]),
    ],
)
def test_what_is_written(block: Block, lines: list[str]) -> None:
    assert render_markdown(Document("", "t", "l", "", [block])).split("\n")[4:-1] == lines


def test_a_document_begins_with_its_title() -> None:
    assert (
        render_markdown(Document("Kind", "Title", "Lead.", "abc", [])) == "# Title\n\nKind · SHA-256 `abc`\n\nLead.\n"
    )
    assert render_markdown(Document("", "Title", "Lead.", "", [])) == "# Title\n\nLead.\n"
