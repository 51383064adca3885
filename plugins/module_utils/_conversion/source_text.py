# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SQL that is cut from a file and edited, and still tells of each of its lines which line of the file it is from."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from typing import Iterable, Iterator, List, Sequence, Tuple

#: What replaces the bytes of a text from an offset to another.
Edit = Tuple[int, int, bytes]


@dataclass(frozen=True)
class SourceText:
    """Bytes of SQL; ``lines`` has for each of their lines its number in the file, counted from 1."""

    data: bytes
    lines: Tuple[int, ...]

    def line(self, offset: int) -> int:
        """Return the line of the file that an offset is on."""
        return self.lines[self.data.count(b"\n", 0, offset)]

    def part(self, start: int, end: int) -> SourceText:
        """Return the text between two offsets."""
        first = self.data.count(b"\n", 0, start)
        data = self.data[start:end]
        return SourceText(data, self.lines[first : first + data.count(b"\n") + 1])

    def edited(self, edits: Iterable[Edit]) -> SourceText:
        """Return the text with each edit made; no two of them overlap."""
        return joined(list(_pieces(self, sorted(edits))))


def whole(data: bytes) -> SourceText:
    """Return the text of a whole file."""
    return SourceText(data, tuple(range(1, data.count(b"\n") + 2)))


def written(data: bytes, line: int) -> SourceText:
    """Return a text that takes the place of a line of the file."""
    return SourceText(data, (line,) * (data.count(b"\n") + 1))


def joined(texts: Sequence[SourceText]) -> SourceText:
    """Return texts put together."""
    lines: List[int] = []
    fresh = True
    for text in texts:
        if text.data:
            # a line that two texts share is of the one that begins it
            lines += text.lines if fresh else text.lines[1:]
            fresh = text.data.endswith(b"\n")
            if fresh:
                lines.pop()
    last = texts[-1].lines[-1] if texts else 1
    return SourceText(b"".join(text.data for text in texts), tuple([*lines, last] if fresh else lines))


def _pieces(text: SourceText, edits: Sequence[Edit]) -> Iterator[SourceText]:
    breaks = [place for place, byte in enumerate(text.data) if byte == _NEWLINE]
    position = 0
    for start, end, new in itertools.chain(edits, [(len(text.data), len(text.data), b"")]):
        first = bisect.bisect_left(breaks, position)
        here = bisect.bisect_left(breaks, start)
        yield SourceText(text.data[position:start], text.lines[first : here + 1])
        yield written(new, text.lines[here])
        position = end


_NEWLINE = 10
