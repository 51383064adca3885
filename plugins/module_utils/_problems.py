# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Problems found in a phase's files: where, what, and what to do. Private to this collection."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError

#: How many problems one message spells out.
SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. ``line`` counts from 1 (0: the file as a whole); ``path`` is like ``verify[2].expect``."""

    file: str
    line: int
    path: str
    what: str
    expected: str = ""
    found: str = ""
    next_step: str = ""

    def text(self) -> str:
        """Return the problem as an operator reads it: place and sentence, then one indented line per part."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        lines = [": ".join(part for part in (place, self.path, self.what) if part)]
        for label, text in (("expected", self.expected), ("found", self.found), ("next step", self.next_step)):
            if text:
                lines.append(f"   {label}: {text}")
        return "\n".join(lines)

    def as_dict(self) -> Dict[str, Any]:
        """Return the fields as a mapping, for a module's return value."""
        return dict(vars(self))


class PhaseFileError(PhaseGateError):
    """A phase's files cannot be used. ``problems`` holds every one that was found, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: List[Problem] = sorted(problems, key=lambda one: (one.file, one.line))
        count = len(self.problems)
        head = "The phase cannot be used: " + ("1 problem." if count == 1 else f"{count} problems.")
        lines = [f"{n}. {one.text()}" for n, one in enumerate(self.problems[:SHOWN], start=1)]
        if count > SHOWN:
            lines.append(f"… and {count - SHOWN} more.")
        super().__init__("\n".join([head, *lines]))


def shown(value: Any, limit: int = 120) -> str:
    """Return ``value`` as short one-line JSON for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"
