# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks have measured, as JSON and as a page."""

from __future__ import annotations

import html
import os
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH, BAR, GAP = 640, 18, 6  # pixels of a plot


@dataclass
class Figure:
    """One comparison in one run: what phasegate takes, and what the yardstick takes for the same.

    ``ours`` and ``theirs`` are the raw values, one a round, in ``unit``; ``ours_cpu`` and ``theirs_cpu`` the CPU seconds of the
    processes on this machine, where they are counted. ``load`` is the machine's before the first round.
    """

    name: str
    yardstick: str
    unit: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    ours_cpu: list[float] = field(default_factory=list)
    theirs_cpu: list[float] = field(default_factory=list)
    note: str = ""
    #: whether the picture has it: not where the yardstick does much less
    plotted: bool = True
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))

    @property
    def ratio(self) -> float:
        """Return the ratio of the medians."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    def as_dict(self) -> dict[str, Any]:
        """Return everything that was measured, and the ratio."""
        return {**asdict(self), "ratio": round(self.ratio, 3)}


def _shown(values: Sequence[float]) -> str:
    if not values:
        return ""
    median = statistics.median(values)
    return f"{median:.1f}" if median >= 10 else f"{median:.2f}"


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as a table in Markdown: medians, their ratio, CPU seconds and the load."""
    lines = [
        "| what | phasegate | compared with | | ratio | CPU seconds | load |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    for one in figures:
        cpu = " / ".join(filter(None, (_shown(one.ours_cpu), _shown(one.theirs_cpu))))
        lines.append(
            f"| {one.name} | {_shown(one.ours)} {one.unit} | {one.yardstick} | {_shown(one.theirs)} {one.unit}"
            f" | {one.ratio:.2f} | {cpu} | {one.load} |"
        )
    notes = [f"* {one.name}: {one.note}" for one in figures if one.note]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def plot(figures: Sequence[Figure]) -> str:
    """Return the ratios as bars, a picture in SVG that follows the reader's colours; the line is the yardstick."""
    figures = [one for one in figures if one.plotted]
    most = max(*(one.ratio for one in figures), 1.0)
    left, room = 300, WIDTH - 300 - 60
    height = len(figures) * (BAR + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12"'
        ' role="img" aria-label="ratios">',
        "<style>text{fill:#222}rect{fill:#3b6ea8}line{stroke:#a33}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}rect{fill:#7aa7d9}line{stroke:#e88}}</style>",
    ]
    for number, one in enumerate(figures):
        y = GAP + number * (BAR + GAP)
        width = one.ratio / most * room
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(one.name)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{BAR}"/>')
        parts.append(f'<text x="{left + width + 6:.1f}" y="{y + 13}">{one.ratio:.2f}</text>')
    one_x = left + room / most
    parts.append(f'<line x1="{one_x:.1f}" y1="0" x2="{one_x:.1f}" y2="{height}" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>", ""])
