# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line difference of two ``pg_dump --schema-only`` texts, for people and for the record. Pure.

Advisory: a column that is added to a table shows as no DDL line at all, because pg_dump writes it into the table's
``CREATE TABLE``. The structural diff decides.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Iterator

_DDL = re.compile(r"^(?:CREATE|ALTER|DROP)\b")

_NOISE = re.compile(r"^(?:--|SET |SELECT pg_catalog\.set_config\(|\\(?:un)?restrict\b|$)")

# What opens a quote, or a comment that ends the line; $1 is a parameter and a$b$c an identifier.
_OPENING = re.compile(r"--|'|\"|(?<![\w$])\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$")


@dataclass(frozen=True)
class LineDiff:
    """Numbers of removed and added lines, compared as multisets; ``removed_lines`` and ``added_lines`` are the DDL lines.

    ``removed`` and ``added`` count lines that begin a statement with CREATE, ALTER or DROP; ``raw`` and ``normalised`` count
    all lines as (removed, added), the latter without trailing commas.
    """

    removed: int
    added: int
    removed_lines: tuple[str, ...]
    added_lines: tuple[str, ...]
    raw: tuple[int, int]
    normalised: tuple[int, int]

    def as_dict(self) -> dict[str, object]:
        """Return the counts and lines as JSON types."""
        return {
            "removed": self.removed,
            "added": self.added,
            "removed_lines": list(self.removed_lines),
            "added_lines": list(self.added_lines),
            "raw": {"removed": self.raw[0], "added": self.raw[1]},
            "normalised": {"removed": self.normalised[0], "added": self.normalised[1]},
        }

    def text(self) -> str:
        """Return the DDL lines as a diff without context, and the counts."""
        lines = [f"removed {self.removed}, added {self.added} DDL lines"]
        lines += [f"- {line}" for line in self.removed_lines]
        lines += [f"+ {line}" for line in self.added_lines]
        lines.append(
            f"all lines: raw -{self.raw[0]} +{self.raw[1]}, normalised -{self.normalised[0]} +{self.normalised[1]}"
        )
        return "\n".join(lines)


def diff_dumps(before: str, after: str) -> LineDiff:
    """Compare two texts of ``pg_dump --schema-only --no-owner --no-privileges --no-comments``."""
    old, new = list(_lines(before)), list(_lines(after))
    removed, added = _difference([line for line, leads in old if leads], [line for line, leads in new if leads])
    raw = _difference([line for line, _leads in old], [line for line, _leads in new])
    normalised = _difference([line.rstrip(",") for line, _leads in old], [line.rstrip(",") for line, _leads in new])
    return LineDiff(
        removed=len(removed),
        added=len(added),
        removed_lines=tuple(removed),
        added_lines=tuple(added),
        raw=(len(raw[0]), len(raw[1])),
        normalised=(len(normalised[0]), len(normalised[1])),
    )


def _difference(old: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    before, after = Counter(old), Counter(new)
    return sorted((before - after).elements()), sorted((after - before).elements())


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each significant line, and whether it begins a DDL statement.

    Lines inside a quoted text are kept as they are: in a function's body ``CREATE`` begins no statement of the dump, and a
    comment or blank line is part of the function.
    """
    quote = ""
    for line in text.split("\n"):
        inside = bool(quote)
        quote = _open_quote(line, quote)
        if inside:
            yield line, False
        elif not _NOISE.match(line):
            yield line, bool(_DDL.match(line))


def _open_quote(line: str, quote: str) -> str:
    """Return the quote (``'``, ``"`` or a dollar quote) that is open after ``line``, given the one open before it.

    A doubled quote closes and opens again; the server writes no other escape for one.
    """
    position = 0
    while True:
        if quote:
            end = line.find(quote, position)
            if end < 0:
                return quote
            position, quote = end + len(quote), ""
        start = _OPENING.search(line, position)
        if not start or start.group() == "--":
            return ""
        quote, position = start.group(), start.end()
