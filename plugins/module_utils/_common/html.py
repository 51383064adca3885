# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A document as one HTML page that needs nothing else: no network, no other file, no script to be read. Pure.

Every text goes through ``_h`` or ``_h_code``. The page's policy allows the one style sheet and the one script of
``_common.html_assets``, by their digests, and nothing else: a text that got past both functions would still not run.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import re
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Board,
    Bullets,
    Card,
    Check,
    Document,
    Facts,
    Heading,
    Inline,
    Listing,
    Node,
    Notice,
    Paragraph,
    Span,
    Table,
    Timeline,
    Tree,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html_assets import SCRIPT, STYLE
from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import LexError, spans
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, visible

# How tokens of SQL are marked.
_MARKS = {
    "comment": "comment", "string": "string", "bits": "string", "escape": "string", "dollar": "string", "quoted": "name",
}  # fmt: skip

_KEYWORDS = frozenset(
    (
        b" ADD ALL ALTER ALWAYS AND AS ASC BEGIN BETWEEN BY CASCADE CASE CHECK COLLATE COLUMN COMMENT COMMIT"
        b" CONCURRENTLY CONSTRAINT CREATE CROSS DEFAULT DELETE DESC DISTINCT DO DOMAIN DROP ELSE END EXCEPT"
        b" EXECUTE EXISTS EXTENSION FALSE FILTER FOR FOREIGN FROM FULL FUNCTION GENERATED GRANT GROUP HAVING"
        b" IDENTITY IF IN INCLUDE INDEX INNER INSERT INTERSECT INTO IS JOIN KEY LANGUAGE LATERAL LEFT LIKE"
        b" LIMIT LOCAL LOCK MATERIALIZED NOT NULL OF ON OR ORDER OUTER OVER PARTITION POLICY PRIMARY REFERENCES"
        b" RENAME REPLACE RESTRICT RETURNING RETURNS REVOKE RIGHT ROLLBACK ROW ROWS SCHEMA SELECT SEQUENCE SET"
        b" START TABLE THEN TO TRANSACTION TRIGGER TRUE TYPE UNION UNIQUE UPDATE USING VALID VALIDATE VALUES"
        b" VIEW WHEN WHERE WITH "
    ).split()
)

# A table with more rows than this is folded, and so is a tree at its second level.
_LONG = 40


def _h(text: str, keep: str = LAYOUT) -> str:
    return html.escape(visible(text, keep), quote=True)


def _h_code(text: str, keep: str = LAYOUT) -> str:
    """Return the text with the code points that ``visible`` shows marked."""
    return re.sub(r"⟨U\+[0-9A-F]+⟩", lambda found: f'<b class="hidden">{found[0]}</b>', _h(text, keep))


def _breaking(written: str) -> str:
    """Let a long name break behind a dot or an underscore before it breaks anywhere; ``written`` is HTML of one text."""
    return re.sub(r"(?<=\w)(?:_|\.(?!\d))(?=\w)", r"\g<0><wbr>", written)


def _sql(text: str) -> str:
    """Return SQL with its strings, quoted names, comments and keywords marked; nothing is marked behind what is not closed."""
    data = text.encode("utf-8", "surrogatepass")
    out, plain = [], 0

    def shown(start: int, end: int) -> str:
        return _h_code(data[start:end].decode("utf-8", "surrogatepass"))

    with contextlib.suppress(LexError):
        for start, end, kind, opening in spans(data):
            mark = _MARKS.get(kind)
            if mark or (kind == "word" and opening.upper() in _KEYWORDS):
                out.append(shown(plain, start))
                out.append(
                    f'<span class="{mark}">{shown(start, end)}</span>' if mark else f"<b>{shown(start, end)}</b>"
                )
                plain = end
    return "".join(out) + shown(plain, len(data))


def _inline(value: Inline) -> str:
    if isinstance(value, str):
        return _h(value)
    if not value.text:
        return ""
    if isinstance(value, Badge):
        return _badges([value])
    return f"<code{' class=copy' if value.copy else ''}>{_breaking(_h_code(value.text, keep=''))}</code>"


def _parts(parts: Sequence[Inline]) -> str:
    return "".join(_inline(part) for part in parts)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _badges(badges: Iterable[Badge]) -> str:
    return "".join(f'<span class="badge {badge.tone}">{_h(badge.text)}</span>' for badge in badges)


class _Page:
    """The blocks of one page: heading levels follow from where a block is, and the ids of headings are distinct."""

    def __init__(self) -> None:
        self._level = 1
        self._ids: Dict[str, int] = {}
        self._write: Dict[type, Callable[[Any], str]] = {
            Heading: self._heading,
            Paragraph: lambda block: f"<p>{_parts(block.parts)}</p>",
            Facts: _facts,
            Table: _table,
            Bullets: lambda block: _items(block.items),
            Listing: _listing,
            Card: self._card,
            Notice: _notice,
            Board: _board,
            Timeline: _timeline,
            Tree: lambda block: _tree(block.nodes, 0, folded=block.folded),
        }

    def id_of(self, text: str) -> str:
        """Return an id for a heading that no other one has."""
        slug = _slug(text) or "section"
        number = self._ids[slug] = self._ids.get(slug, 0) + 1
        return slug if number == 1 else f"{slug}-{number}"

    def block(self, block: Block) -> str:
        """Return the HTML of a block."""
        return self._write[type(block)](block)

    def _heading(self, block: Heading) -> str:
        self._level = block.level
        return f'<h{block.level} id="{self.id_of(block.text)}">{_h(block.text)}</h{block.level}>'

    def _card(self, block: Card) -> str:
        level = self._level = self._level + 1
        head = f"<h{level}>{_h(block.title)}</h{level}>{_badges(block.badges)}"
        body = "\n".join(self.block(inner) for inner in block.blocks)
        self._level = level - 1
        if block.folded:
            return f'<details class="card"><summary>{head}</summary>\n{body}\n</details>'
        return f'<article class="card"><header>{head}</header>\n{body}\n</article>'


def _cells(head: Sequence[str], cells: Sequence[str], numeric: Sequence[int]) -> str:
    """Return a row; ``cells`` are HTML. The first cell names it, if there is something in it."""
    marked = []
    for index, cell in enumerate(cells):
        of = f'{" class=n" if index in numeric else ""} data-label="{_h(head[index])}"'
        marked.append(f'<th scope="row"{of}>{cell}</th>' if index == 0 and cell else f"<td{of}>{cell}</td>")
    return f"<tr>{''.join(marked)}</tr>"


def _grid(head: Sequence[str], rows: Sequence[str], numeric: Sequence[int] = (), kind: str = "") -> str:
    """Return a table of rows that are HTML; a long one is folded."""
    titles = "".join(
        f'<th scope="col"{" class=n" if index in numeric else ""}>{_h(cell)}</th>' if cell else "<td></td>"
        for index, cell in enumerate(head)
    )
    body = "\n".join(rows)
    table = (
        f"<table{f' class={kind}' if kind else ''}><thead><tr>{titles}</tr></thead><tbody>\n{body}\n</tbody></table>"
    )
    if len(rows) <= _LONG:
        return table
    return f"<details><summary>{len(rows)} rows</summary>\n{table}\n</details>"


def _cell(value: Inline) -> str:
    return _breaking(_h(value)) if isinstance(value, str) else _inline(value)


def _table(block: Table) -> str:
    rows = [_cells(block.head, [_cell(cell) for cell in cells], block.numeric) for cells in block.rows]
    return _grid(block.head, rows, block.numeric)


def _facts(block: Facts) -> str:
    rows = (f"<div><dt>{_h(label)}</dt><dd>{_inline(value)}</dd></div>" for label, value in block.rows)
    return f"<dl>{''.join(rows)}</dl>"


def _items(items: Iterable[Sequence[Inline]]) -> str:
    return "<ul>" + "".join(f"<li>{_parts(item)}</li>" for item in items) + "</ul>"


def _listing(block: Listing) -> str:
    text = block.text.strip("\n")
    copied = " copy" if block.language in ("sh", "console") else ""
    shown = _sql(text) if block.language == "sql" else _h_code(text)
    return f'<pre class="{_h(block.language)}{copied}" tabindex="0"><code>{shown}</code></pre>'


def _notice(block: Notice) -> str:
    title = _h(block.title)
    return f'<div class="notice {block.tone}" role="note" aria-label="{title}"><p class="title">{title}</p>{_items(block.items)}</div>'


def _board(block: Board) -> str:
    """Return conditions as rows: what a quiet one expected and found is folded, unless all of them are shown."""
    return f'<ul class="board">{"".join(_condition(check, block) for check in block.checks)}</ul>'


def _condition(check: Check, block: Board) -> str:
    name = f'{_badges([check.status])}<b class="id">{_h(check.id)}</b><span class="what">{_h(check.title)}</span>'
    rows: List[Tuple[str, Inline]] = [] if block.brief and check.quiet else [("expected", check.expected)]
    rows += [("found", check.found), ("next step", check.next_step)]
    shown = [(label, value) for label, value in rows if (value if isinstance(value, str) else value.text)]
    if not shown:
        return f"<li><p>{name}</p></li>"
    state = "" if check.quiet else " open"
    return f"<li><details{state}><summary>{name}</summary>{_facts(Facts(tuple(shown)))}</details></li>"


def _timeline(block: Timeline) -> str:
    head = (*block.head, "when")
    rows = [
        _cells(
            head,
            [_cell(span.label), *(_cell(cell) for cell in span.cells), _bar(span, block.seconds)],
            block.numeric,
        )
        for span in block.spans
    ]
    return _grid(head, rows, block.numeric, "time")


def _bar(span: Span, whole: float) -> str:
    """Return where a span is in the whole, as a bar of at least half a percent."""
    if span.start is None or span.seconds is None or whole <= 0:
        return ""
    start = min(max(100 * span.start / whole, 0), 99.5)
    width = min(max(100 * span.seconds / whole, 0.5), 100 - start)
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f'<rect class="rail" width="100" height="8"/><rect class="{span.tone}" x="{start:.2f}" width="{width:.2f}" height="8"/></svg>'
    )


def _tree(nodes: Sequence[Node], depth: int, *, folded: bool) -> str:
    return f'<ul class="tree">{"".join(_node(node, depth, folded=folded) for node in nodes)}</ul>'


def _node(node: Node, depth: int, *, folded: bool) -> str:
    rest = f'<span class="rest">{_parts(node.rest)}</span>' if node.rest else ""
    text = f"<span>{_parts(node.parts)}</span>{_badges(node.badges)}{rest}"
    if not node.nodes:
        return f"<li>{text}</li>"
    # the parts of a new object are the least that has to be read
    state = "" if folded or depth > 1 else " open"
    return f"<li><details{state}><summary>{text}</summary>{_tree(node.nodes, depth + 1, folded=folded)}</details></li>"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


#: Nothing is loaded, sent or framed; the style sheet and the script are those of this file.
POLICY = f"default-src 'none'; style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'; base-uri 'none'; form-action 'none'"


def render_page(document: Document) -> str:
    """Return the document as one HTML page that needs nothing else."""
    page = _Page()
    links: List[Tuple[str, str]] = []
    body: List[str] = []
    for block in document.blocks:
        written = page.block(block)
        if isinstance(block, Heading) and block.level == 2:  # noqa: PLR2004
            found = re.match(r'<h2 id="([^"]*)"', written)
            links.append((found[1] if found else "", block.text))
        body.append(written)
    anchors = "".join(f'<a href="#{name}">{_h(text)}</a>' for name, text in links)
    nav = f'<nav aria-label="Contents">{anchors}</nav>\n' if links else ""
    verdict = document.verdict
    head = [f'<p class="label">{_h(document.label)}</p>'] if document.label else []
    head.append(f"<h1>{_h(document.title)}</h1>")
    if verdict:
        head.append(f'<p class="verdict {verdict.tone}"><b>{_h(verdict.text)}</b> {_h(document.lead)}</p>')
    else:
        head.append(f'<p class="lead">{_h(document.lead)}</p>')
    if document.digest:
        label = document.digest_label or "SHA-256"
        head.append(f'<div class="digest"><b>{_h(label)}</b>{_inline_digest(document.digest)}</div>')
    joined, written_body = "\n".join(head), "\n".join(body)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{_h(document.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header class="page">
{joined}
</header>
{nav}<main id="content">
{written_body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _inline_digest(digest: str) -> str:
    return f"<code class=copy>{_h_code(digest, keep='')}</code>"
