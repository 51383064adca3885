# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A readable document as a list of blocks. ``_common.markdown`` and ``_common.html`` write it. Pure.

Every text in a block is data: no form interprets it, and both show what a reader could not see by its code point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Tuple, Union


@dataclass(frozen=True)
class Code:
    """A piece of text to be read letter by letter: a name, a digest, a value. ``copy``: a reader may want to copy it."""

    text: str
    copy: bool = False


@dataclass(frozen=True)
class Badge:
    """A short mark with a tone: plain, good, watch or bad."""

    text: str
    tone: str = "plain"


Inline = Union[str, Code, Badge]


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    parts: Tuple[Inline, ...]


@dataclass(frozen=True)
class Facts:
    """Labels with their values."""

    rows: Tuple[Tuple[str, Inline], ...]


@dataclass(frozen=True)
class Table:
    """A table. ``numeric`` are the indexes of the columns of figures."""

    head: Tuple[str, ...]
    rows: Tuple[Tuple[Inline, ...], ...]
    numeric: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: Tuple[Tuple[Inline, ...], ...]


@dataclass(frozen=True)
class Listing:
    """Text in lines, verbatim. ``language`` is ``sql``, ``sh``, ``diff``, ``text``, ``console`` or empty."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Card:
    """One thing with a title, marks, and blocks of its own, such as a statement. ``folded``: not the first thing to read."""

    title: str
    badges: Tuple[Badge, ...]
    blocks: Tuple[Block, ...]
    folded: bool = False


@dataclass(frozen=True)
class Notice:
    """Something to look at, with a tone."""

    tone: str
    title: str
    items: Tuple[Tuple[Inline, ...], ...]


@dataclass(frozen=True)
class Check:
    """One condition: its name, its status as a badge, what holds then, what was expected, what was found."""

    id: str
    status: Badge
    title: str
    expected: Inline = ""
    found: Inline = ""
    next_step: str = ""

    @property
    def quiet(self) -> bool:
        """Return whether nobody has to read more than its title."""
        return self.status.tone in ("good", "plain")


@dataclass(frozen=True)
class Board:
    """Conditions with their status. ``head`` names its columns: name, title; ``brief`` leaves out what a quiet one expected."""

    head: Tuple[str, str]
    checks: Tuple[Check, ...]
    brief: bool = False


@dataclass(frozen=True)
class Span:
    """One row of a time line: what, from when to when in seconds after its beginning (None: not known), and its cells."""

    label: Inline
    start: Optional[float]
    seconds: Optional[float]
    cells: Tuple[Inline, ...]
    tone: str = "plain"


@dataclass(frozen=True)
class Timeline:
    """What took place when. ``head`` names the label and the cells; ``seconds`` is the whole length."""

    head: Tuple[str, ...]
    seconds: float
    spans: Tuple[Span, ...]
    numeric: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Node:
    """A node of a tree: its name, its badges, what else is to be said about it, and what is below it."""

    parts: Tuple[Inline, ...]
    badges: Tuple[Badge, ...] = ()
    nodes: Tuple[Node, ...] = ()
    rest: Tuple[Inline, ...] = ()


@dataclass(frozen=True)
class Tree:
    """Nodes with nodes below them. ``folded``: too many to be shown at once."""

    nodes: Tuple[Node, ...]
    folded: bool = False


Block = Union[Heading, Paragraph, Facts, Table, Bullets, Listing, Card, Notice, Board, Timeline, Tree]


@dataclass(frozen=True)
class Document:
    """A document. ``label`` is its kind, ``digest`` the SHA-256 of what it is about; both may be empty.

    ``verdict`` is the result that it reports, None without one. ``digest_label`` says what the digest is.
    """

    label: str
    title: str
    lead: str
    digest: str
    blocks: List[Block] = field(default_factory=list)
    verdict: Optional[Badge] = None
    digest_label: str = ""
