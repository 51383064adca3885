# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML page: whatever a text holds, a browser gets exactly that text and only the tags of the blocks."""

from __future__ import annotations

import html.parser

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
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import visible
from ansible_collections.incomex.phasegate.plugins.module_utils._review.html import render_page
from ansible_collections.incomex.phasegate.tests.support.markdown import HOSTILE, texts
from hypothesis import given


class Reader(html.parser.HTMLParser):
    """The tags of a page's body with their attributes' names, and the text between them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(source.partition("<main>")[2])
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # those that mark keywords, literals and unseen characters are of the text
        if tag not in ("b", "span") or ("class", "badge plain") in attrs:
            self.tags.append((tag, tuple(name for name, _value in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def body(*blocks: Block) -> str:
    source = render_page(Document("Label", "Title", "Lead.", "0" * 64, list(blocks)))
    return source.partition("</nav>\n")[2].partition("\n</main>")[0]


def every_block(text: str) -> Document:
    blocks: list[Block] = [
        Heading(2, text),
        Paragraph((text, Code(text))),
        Facts(((text, Code(text)),)),
        Table((text, "b"), ((text, Code(text)),), (1,)),
        Bullets(((text,),)),
        Listing(text, "sql"),
        Card(text, (Badge(text),), (Listing(text),), folded=True),
        Notice("bad", text, ((text,),)),
    ]
    return Document(text, text, text, text, blocks)


def assert_only_texts(text: str) -> None:
    read, plain = Reader(render_page(every_block(text))), Reader(render_page(every_block("plain")))
    assert read.tags == plain.tags
    # the label, title, lead, digest, contents; then the blocks
    assert read.text.count(visible(text, keep="\n\t")) >= plain.text.count("plain") - 5


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_no_markup_in_any_block(text: str) -> None:
    assert_only_texts(text)


@given(texts())
def test_no_text_is_markup_in_any_block(text: str) -> None:
    assert Reader(render_page(every_block(text))).tags == Reader(render_page(every_block("plain"))).tags


@pytest.mark.parametrize(
    ("block", "source"),
    [
        (Heading(2, "What it's about"), '<h2 id="what-it-s-about">What it&#x27;s about</h2>'),
        (Paragraph(("a ", Code("b\nc"), Code(""))), '<p>a <code>b<b class="hidden">⟨U+000A⟩</b>c</code></p>'),
        (Facts((("a", "b"),)), "<dl><div><dt>a</dt><dd>b</dd></div></dl>"),
        (
            Table(("a", "n"), (("x", "1"),), (1,)),
            '<table><thead><tr><th scope="col">a</th><th scope="col" class=n>n</th></tr></thead><tbody>\n'
            '<tr><td data-label="a">x</td><td class=n data-label="n">1</td></tr>\n</tbody></table>',
        ),
        (Bullets((("a",), ("b",))), "<ul><li>a</li><li>b</li></ul>"),
        (
            Listing("\nSELECT 'a' -- b\n", "sql"),
            '<pre class="sql"><code><b>SELECT</b> <span class="string">&#x27;a&#x27;</span> '
            '<span class="comment">-- b</span></code></pre>',
        ),
        (Listing("SELECT\u202e", ""), '<pre class=""><code>SELECT<b class="hidden">⟨U+202E⟩</b></code></pre>'),
        (
            Card("t", (Badge("a", "bad"),), (Paragraph(("p",)),)),
            '<article class="card"><header><h4>t</h4><span class="badge bad">a</span></header>\n<p>p</p>\n</article>',
        ),
        (
            Card("t", (), (Paragraph(("p",)),), folded=True),
            '<details class="card"><summary><h4>t</h4></summary>\n<p>p</p>\n</details>',
        ),
        (Notice("good", "t", (("a",),)), '<aside class="notice good"><h3>t</h3><ul><li>a</li></ul></aside>'),
    ],
)
def test_what_is_written(block: Block, source: str) -> None:
    assert body(block) == source


def test_the_contents_are_the_sections() -> None:
    source = render_page(
        Document("Label", "Title", "Lead.", "abc", [Heading(2, "One"), Heading(3, "Two"), Heading(2, "Three")])
    )
    assert '<nav aria-label="Contents"><a href="#one">One</a><a href="#three">Three</a></nav>' in source
    assert "<code>abc</code>" in source
