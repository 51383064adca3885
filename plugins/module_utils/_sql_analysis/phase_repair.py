# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring digests, tags and scope of a phase.yml up to date with its SQL. Controller only.

What a phase is refused for names its repair (``Problem.repair``); nothing here knows another rule. An entry of the scope that
is not needed is one whose absence is no problem.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_edit import edited
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import Phase, load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import (
    PhaseFileError,
    Problem,
    Repair,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import load_strict_yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import derive_statements

_SCOPE: Sequence[Tuple[str, str]] = (
    ("scope", "schemas"),
    ("scope", "statements"),
    ("scope", "functions"),
    ("rollback", "statements"),
)

# One repair can show what another needs: a statement is judged once its kind is allowed.
_ROUNDS = 5


@dataclass(frozen=True)
class RepairedPhase:
    """The text of phase.yml before and after, and what no repair removes."""

    before: str
    after: str
    problems: List[Problem]


def repair_phase(path: str) -> RepairedPhase:
    """Return the repaired definition. Raises ``PhaseFileError`` for a definition that is not one of a phase."""
    phase = load_phase(path)
    before = phase.source.data.decode("utf-8")
    definition, _lines, _problems = load_strict_yaml(path, phase.source.data)
    text = before
    problems = _problems_of(phase)
    for _round in range(_ROUNDS):
        repairs = [problem.repair for problem in problems if problem.repair]
        if not repairs:
            break
        for repair in repairs:
            _apply(definition, repair)
        text = edited(text, definition, path)
        problems = _problems_of(load_phase(path, text.encode("utf-8")))
    if not problems:
        definition = _needed(path, text, definition)
        text = edited(text, definition, path)
    return RepairedPhase(before, text, problems)


def _problems_of(phase: Phase) -> List[Problem]:
    return [*phase.unpinned, *derive_statements(phase)[1]]


def _apply(definition: Dict[str, Any], repair: Repair) -> None:
    place: Any = definition
    for key in repair.path[:-1]:
        place = place.setdefault(key, {})
    last = repair.path[-1]
    if repair.add:
        there = place.setdefault(last, [])
        if repair.value not in there:
            place[last] = [*there, repair.value]
    elif repair.value is None:
        place.pop(last, None)
    else:
        place[last] = repair.value


def _needed(path: str, text: str, definition: Dict[str, Any]) -> Dict[str, Any]:
    """Return the definition without the entries of its scope that nothing needs."""
    for section, key in _SCOPE:
        for entry in list(definition[section].get(key, ())):
            without = copy.deepcopy(definition)
            without[section][key].remove(entry)
            try:
                left = _problems_of(load_phase(path, edited(text, without, path).encode("utf-8")))
            except PhaseFileError:
                # a scope has one schema at least
                continue
            if not left:
                definition = without
    return definition
