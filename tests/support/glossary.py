# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of docs/glossary.md that come from the code: commands, gates, rollback triggers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import GATE_TITLES
from ansible_collections.incomex.phasegate.plugins.module_utils._report.vocabulary import COMMANDS, TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"
TABLES: dict[str, Mapping[str, str]] = {
    "commands": {name: title for name, title in COMMANDS.items() if name.startswith("C-")},
    "rehearsal": {name: title for name, title in COMMANDS.items() if name.startswith("R-")},
    "gates": GATE_TITLES,
    "triggers": TRIGGERS,
}


def table(name: str) -> str:
    """Return one table in Markdown."""
    rows = (f"| {key} | {title} |" for key, title in TABLES[name].items())
    return "\n".join(["| id | meaning |", "|---|---|", *rows]) + "\n"


def updated(page: str) -> str:
    """Return the page with every table as the code has it.

    :raises ValueError: when the page has no place for one of the tables.
    """
    for name in TABLES:
        places = re.findall(rf"<!-- generated: {name} -->\n.*?<!-- end -->", page, re.DOTALL)
        if len(places) != 1:
            raise ValueError(f"the glossary has {len(places)} places for the table {name}, expected 1")
        page = page.replace(places[0], f"<!-- generated: {name} -->\n{table(name)}<!-- end -->")
    return page
