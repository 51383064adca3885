# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A document as GitHub Flavored Markdown, in which every text is only a text. Pure."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, List, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Board,
    Bullets,
    Card,
    Code,
    Document,
    Facts,
    Heading,
    Inline,
    Listing,
    Node,
    Notice,
    Paragraph,
    Table,
    Timeline,
    Tree,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, visible

# What may begin markup within a line: spans, links, images, HTML, entities, cells, strike-through, GitHub's formulas,
# an underscore that is not behind a letter, a number sign after a space, an address that GitHub makes a link of.
_SPECIAL = re.compile(r"[\\`*\[\]<|&~$]|(?<![^\W_])_|(?<!\S)#|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)

# What may begin a block: a list, a quote, a rule.
_BLOCK = re.compile(r"^([-+>])|^(\d{1,9})([.)])")

_SPACE = re.compile(r"[ \t\r\n]+")


def _escaped(text: str) -> str:
    """Return running text: in one line, with nothing in it that Markdown reads as markup."""
    return _SPECIAL.sub(r"\\\g<0>", visible(_SPACE.sub(" ", text)))


def _code(text: str, *, cell: bool) -> str:
    """Return a code span. In a cell a backslash before ``|`` is read in two ways, so such a text is running text."""
    shown = visible(text)
    if not shown.strip(" ") or (cell and "\\|" in shown):
        return _escaped(shown)
    shown = shown.replace("|", "\\|") if cell else shown
    ticks = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    edge = shown[0] + shown[-1]
    space = " " if "`" in edge or edge == "  " else ""
    return f"{ticks}{space}{shown}{space}{ticks}"


def _inline(parts: Iterable[Inline], *, cell: bool = False) -> str:
    line = ""
    for part in parts:
        plain = part.text if isinstance(part, Badge) else part
        text = _code(plain.text, cell=cell) if isinstance(plain, Code) else _escaped(plain)
        # two code spans side by side would be one
        line += f" {text}" if isinstance(part, Code) and line.endswith("`") else text
    return line


def _line(parts: Iterable[Inline]) -> str:
    """Return what stands at the beginning of a line or of a list's item, and begins no block."""
    return _BLOCK.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}", _inline(parts).strip())


def _table(head: Sequence[str], rows: Iterable[Sequence[Inline]], numeric: Sequence[int] = ()) -> List[str]:
    rules = ["---:" if index in numeric else "---" for index in range(len(head))]
    cells = [[_inline([cell], cell=True).strip() for cell in row] for row in (head, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "| " + " | ".join(rules) + " |", *lines[1:]]


def _listing(block: Listing) -> List[str]:
    text = visible(block.text, keep=LAYOUT).strip("\n")
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return [fence + block.language, text, fence]


def _items(items: Iterable[Sequence[Inline]]) -> List[str]:
    return ["- " + _line(item) for item in items]


def _card(block: Card) -> List[str]:
    badges = [_line([badge.text]) for badge in block.badges]
    marked = [f"**{text}**" if b.tone in ("watch", "bad") else text for b, text in zip(block.badges, badges)]
    lines = [f"#### {_line([block.title])}", ""]
    lines += [" · ".join(marked), ""] if marked else []
    for inner in block.blocks:
        lines += [*_block(inner), ""]
    return lines[:-1]


def _board(block: Board) -> List[str]:
    checks = block.checks
    columns: List[Tuple[str, List[Inline]]] = [
        (block.head[0], [check.id for check in checks]),
        ("status", [check.status.text for check in checks]),
    ]
    columns += [(block.head[1], [check.title for check in checks])] if block.head[1] else []
    columns += [] if block.brief else [("expected", [check.expected for check in checks])]
    columns.append(("found", [check.found for check in checks]))
    if any(check.next_step for check in checks):
        columns.append(("next step", [check.next_step for check in checks]))
    loud = [check for check in checks if block.brief and check.expected and not check.quiet]
    wanted = _items((f"{check.id} expected: ", check.expected) for check in loud)
    table = _table([head for head, _cells in columns], list(zip(*(cells for _head, cells in columns))))
    return [*table, *(["", *wanted] if wanted else [])]


def _timeline(block: Timeline) -> List[str]:
    rows = [(span.label, *span.cells) for span in block.spans]
    return _table(block.head, rows, block.numeric)


def _nodes(nodes: Sequence[Node], indent: str = "") -> List[str]:
    lines: List[str] = []
    for node in nodes:
        marks = [part for badge in node.badges for part in (" · ", badge.text)]
        rest = [": ", *node.rest] if node.rest else []
        lines.append(f"{indent}- {_line([*node.parts, *marks, *rest])}")
        lines += _nodes(node.nodes, indent + "  ")
    return lines


_BLOCKS: Dict[type, Callable[[Any], List[str]]] = {
    Heading: lambda block: [f"{'#' * block.level} {_line([block.text])}"],
    Paragraph: lambda block: [_line(block.parts)],
    Facts: lambda block: _table(("", ""), block.rows),
    Table: lambda block: _table(block.head, block.rows, block.numeric),
    Bullets: lambda block: _items(block.items),
    Listing: _listing,
    Card: _card,
    Board: _board,
    Timeline: _timeline,
    Tree: lambda block: _nodes(block.nodes),
    Notice: lambda block: [f"**{_line([block.title])}**", "", *_items(block.items)],
}


def _block(block: Block) -> List[str]:
    return _BLOCKS[type(block)](block)


def render_markdown(document: Document) -> str:
    """Return the document as Markdown."""
    lines = [f"# {_line([document.title])}", ""]
    if document.digest:
        lines += [f"{_line([document.label])} · SHA-256 {_code(document.digest, cell=False)}", ""]
    lines.append(_line([document.lead]))
    for block in document.blocks:
        lines += ["", *_block(block)]
    return "\n".join(lines) + "\n"
