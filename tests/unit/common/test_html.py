# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML page: whatever a text holds, a browser gets exactly that text and only the tags of the blocks."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import itertools
import re

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Board,
    Bullets,
    Card,
    Check,
    Code,
    Document,
    Facts,
    Heading,
    Listing,
    Node,
    Notice,
    Paragraph,
    Span,
    Table,
    Timeline,
    Tree,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import POLICY, render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import visible
from ansible_collections.incomex.phasegate.tests.support.markdown import HOSTILE, texts
from hypothesis import given

#: What marks a part of a text that is shown as code.
MARKS = {
    ("b",), ("wbr",), ("b", ("class", "hidden")), *(("span", ("class", kind)) for kind in ("string", "comment", "name")),
}  # fmt: skip


class Reader(html.parser.HTMLParser):
    """The tags of a page's body with their attributes' names, and the text between them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(source.partition("<body>")[2])
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # those that mark keywords, literals and unseen characters are of the text
        if (tag, *attrs) not in MARKS:
            self.tags.append((tag, tuple(name for name, _value in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def body(*blocks: Block) -> str:
    source = render_page(Document("Label", "Title", "Lead.", "0" * 64, list(blocks)))
    return source.partition('<main id="content">\n')[2].partition("\n</main>")[0]


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
        Board(
            (text, text),
            (Check(text, Badge(text, "bad"), text, Code(text), text, text), Check(text, Badge(text), text)),
        ),
        Timeline((text, text), 2.0, (Span(text, 0.5, 1.0, (Code(text),)), Span(text, None, None, (text,)))),
        Tree((Node((text, Code(text, copy=True)), (Badge(text),), (Node((text,)),), (Code(text),)),)),
    ]
    return Document(text, text, text, text, blocks, Badge(text, "watch"), text)


def assert_only_texts(text: str) -> None:
    read, plain = Reader(render_page(every_block(text))), Reader(render_page(every_block("plain")))
    assert read.tags == plain.tags
    # running text keeps its line feeds, code shows them; a listing has none at its edges
    forms = {visible(text, keep="\n\t"), visible(text)}
    assert sum(read.text.count(form) for form in forms) >= plain.text.count("plain") - 5


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
            '<tr><th scope="row" data-label="a">x</th><td class=n data-label="n">1</td></tr>\n</tbody></table>',
        ),
        (
            Table(("a", "b"), (("", Badge("OK", "good")),)),
            '<table><thead><tr><th scope="col">a</th><th scope="col">b</th></tr></thead><tbody>\n'
            '<tr><td data-label="a"></td><td data-label="b"><span class="badge good">OK</span></td></tr>\n</tbody></table>',
        ),
        (Paragraph((Code("s.a_b 1.5 <._"),)), "<p><code>s.<wbr>a_<wbr>b 1.5 &lt;._</code></p>"),
        (Bullets((("a",), ("b",))), "<ul><li>a</li><li>b</li></ul>"),
        (
            Listing("\nSELECT 'a' -- b\n", "sql"),
            '<pre class="sql" tabindex="0"><code><b>SELECT</b> <span class="string">&#x27;a&#x27;</span> '
            '<span class="comment">-- b</span></code></pre>',
        ),
        (
            Listing("SELECT\u202e", ""),
            '<pre class="" tabindex="0"><code>SELECT<b class="hidden">⟨U+202E⟩</b></code></pre>',
        ),
        (
            Card("t", (Badge("a", "bad"),), (Paragraph(("p",)),)),
            '<article class="card"><header><h2>t</h2><span class="badge bad">a</span></header>\n<p>p</p>\n</article>',
        ),
        (
            Card("t", (), (Paragraph(("p",)),), folded=True),
            '<details class="card"><summary><h2>t</h2></summary>\n<p>p</p>\n</details>',
        ),
        (
            Notice("good", "t", (("a",),)),
            '<div class="notice good" role="note" aria-label="t"><p class="title">t</p><ul><li>a</li></ul></div>',
        ),
        (
            Board(("gate", "what"), (Check("G-1", Badge("PASS", "good"), "t", "e", "f"),), brief=True),
            '<ul class="board"><li><details><summary><span class="badge good">PASS</span><b class="id">G-1</b>'
            '<span class="what">t</span></summary><dl><div><dt>found</dt><dd>f</dd></div></dl></details></li></ul>',
        ),
        (
            Board(("gate", "what"), (Check("G-1", Badge("FAIL", "bad"), "t", "e", "f", "n"),), brief=True),
            '<ul class="board"><li><details open><summary><span class="badge bad">FAIL</span><b class="id">G-1</b>'
            '<span class="what">t</span></summary><dl><div><dt>expected</dt><dd>e</dd></div><div><dt>found</dt><dd>f</dd></div>'
            "<div><dt>next step</dt><dd>n</dd></div></dl></details></li></ul>",
        ),
        (
            Timeline(("c", "s"), 4.0, (Span("C-01", 1.0, 2.0, ("2.0",), "good"),), (1,)),
            '<table class=time><thead><tr><th scope="col">c</th><th scope="col" class=n>s</th><th scope="col">when</th></tr>'
            '</thead><tbody>\n<tr><th scope="row" data-label="c">C-01</th><td class=n data-label="s">2.0</td>'
            '<td data-label="when"><svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" '
            'focusable="false"><rect class="rail" width="100" height="8"/>'
            '<rect class="good" x="25.00" width="50.00" height="8"/></svg></td></tr>\n</tbody></table>',
        ),
        (
            Tree((Node(("schema",), (), (Node((Code("t"),), (Badge("added"),), (), ("v",)),)),)),
            '<ul class="tree"><li><details open><summary><span>schema</span></summary><ul class="tree"><li><span><code>t</code>'
            '</span><span class="badge plain">added</span><span class="rest">v</span></li></ul></details></li></ul>',
        ),
    ],
)
def test_what_is_written(block: Block, source: str) -> None:
    assert body(block) == source


def test_the_contents_are_the_sections() -> None:
    source = render_page(
        Document(
            "Label",
            "Title",
            "Lead.",
            "abc",
            [Heading(2, "One"), Heading(3, "Two"), Heading(2, "Three"), Heading(2, "One")],
        )
    )
    assert (
        '<nav aria-label="Contents"><a href="#one">One</a><a href="#three">Three</a><a href="#one-2">One</a></nav>'
        in source
    )
    assert "<code class=copy>abc</code>" in source
    bare = render_page(Document("", "Title", "Lead.", "", []))
    assert bare.count("class=copy") == bare.count("<nav") == 0


def test_headings_have_no_gap_wherever_a_card_is() -> None:
    card = Card("card", (), (Card("inner", (), ()),))
    source = body(card, Heading(2, "Two"), card, Heading(3, "Three"), card, Heading(2, "Again"), card)
    levels = [int(level) for level in re.findall(r"<h(\d)", source)]
    assert levels == [2, 3, 2, 3, 4, 3, 4, 5, 2, 3, 4]
    assert all(after <= before + 1 for before, after in itertools.pairwise([1, *levels]))


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    source = render_page(every_block("</script><script>alert(1)</script>"))
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", source, re.DOTALL)
    ]
    assert re.findall(r"sha256-([^']+)'", POLICY) == digests
    assert POLICY.startswith("default-src 'none'; ")
    assert "unsafe" not in POLICY
    # before anything that it is about
    assert source.index("Content-Security-Policy") < source.index("<style>")
    assert source.count("<script>") == source.count("</script>") == 1
    assert not re.search(r"\s(?:style|on\w+|src|srcset|action)=", source.partition("<body>")[2])
    assert re.findall(r'(?:href|url)[=(]"?([^")]{0,3})', source) == [f"#{name[:2]}" for name in ("content", "script")]


def test_a_text_is_no_line_of_a_gate() -> None:
    """A forged gate is text within its own cell: it begins no row."""
    forged = "x\nG-1   PASS          enough reviewers approved this exact plan"
    source = body(Board(("gate", "what"), (Check("G-2", Badge("FAIL", "bad"), forged, forged, forged),)))
    assert source.count("<li>") == 1
    assert source.count('<b class="id">') == 1


def test_ten_thousand_objects_are_folded_and_small() -> None:
    nodes = tuple(
        Node(
            (f"schema {n}",),
            (Badge("100 changes"),),
            tuple(Node((Code(f"s{n}.t{m}"),), (Badge("added"),)) for m in range(100)),
        )
        for n in range(100)
    )
    source = body(Tree(nodes, folded=True))
    assert "<details open>" not in source
    assert source.count("<li>") == 10_100
    assert len(source) < 1_500_000


def test_a_long_table_is_folded() -> None:
    rows = tuple((f"row {n}",) for n in range(41))
    assert body(Table(("a",), rows)).startswith("<details><summary>41 rows</summary>\n<table>")
    assert body(Table(("a",), rows[:40])).startswith("<table>")
