# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Problems found in a phase's files: where they are, what is wrong, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped

#: How many problems one message spells out.
SHOWN = 20


@dataclass(frozen=True)
class Repair:
    """What removes a problem: a value in phase.yml, at its path of keys.

    With ``add`` the value is added to the list that is there; else it takes the place of what is there, and None removes the key.
    """

    path: Tuple[Any, ...]
    value: Any
    add: bool = False


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. ``line`` counts from 1 (0: the file as a whole); ``path`` is like ``verify[2].expect``.

    ``repair``, if there is one, makes phase.yml declare what the SQL is.
    """

    file: str
    line: int
    path: str
    what: str
    expected: str = ""
    found: str = ""
    next_step: str = ""
    repair: Optional[Repair] = None

    def text(self) -> str:
        """Return the problem for an operator: place and sentence, then one indented line per part."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        lines = [": ".join(part for part in (place, self.path, self.what) if part)]
        for label, text in (("expected", self.expected), ("found", self.found), ("next step", self.next_step)):
            if text:
                lines.append(f"   {label}: {text}")
        return "\n".join(map(escaped, lines))

    def as_dict(self) -> Dict[str, Any]:
        """Return the texts as a mapping, for a module's return value."""
        return {name: value for name, value in vars(self).items() if name != "repair"}


class PhaseFileError(PhaseGateError):
    """The files of a phase are invalid. ``problems`` holds every problem found, in file order."""

    def __init__(self, problems: Sequence[Problem], shown: int = SHOWN) -> None:
        self.problems: List[Problem] = sorted(problems, key=lambda one: (one.file, one.line))
        count = len(self.problems)
        head = "Invalid phase: " + ("1 problem." if count == 1 else f"{count} problems.")
        lines = [f"{n}. {one.text()}" for n, one in enumerate(self.problems[:shown], start=1)]
        if count > shown:
            lines.append(f"… and {count - shown} more.")
        repaired = [str(n) for n, one in enumerate(self.problems[:shown], start=1) if one.repair]
        if repaired:
            which = f"problem {repaired[0]}" if len(repaired) == 1 else f"problems {', '.join(repaired)}"
            lines.append(
                f"If the SQL is as intended, check_phase.yml with -e phasegate_write=true corrects phase.yml for {which}."
            )
        super().__init__("\n".join([head, *lines]))
