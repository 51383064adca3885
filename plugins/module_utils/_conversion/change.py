# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One change of a migration tool: its script, what undoes it, and what there is to know of both. Controller only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Pattern

from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import SMALL, read_file
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import SourceText, whole
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem


@dataclass
class Script:
    """One direction of a change: the file that it is in, and its SQL."""

    path: str
    text: SourceText


@dataclass
class Change:
    """What was found for one change; its notes are to be read, its problems to be solved."""

    up: Script
    down: Optional[Script] = None
    notes: List[str] = field(default_factory=list)
    problems: List[Problem] = field(default_factory=list)


def marked(path: str, text: SourceText, up: Pattern[bytes], down: Pattern[bytes]) -> Change:
    """Return the two sections of a file in which a comment begins each."""
    begin, other = up.search(text.data), down.search(text.data)
    first = begin.end() if begin else 0
    until = other.start() if other and other.start() >= first else len(text.data)
    change = Change(Script(path, text.part(first, until)))
    if other:
        stop = begin.start() if begin and begin.start() > other.start() else len(text.data)
        change.down = Script(path, text.part(other.end(), stop))
    return change


def beside(path: str, text: SourceText, undo: str) -> Change:
    """Return the change of a file that another one undoes."""
    change = Change(Script(path, text))
    data = read_file(undo, SMALL) if undo != path else None
    if data is None:
        change.notes.append(f"no down script{f': there is no {undo}' if undo != path else ''}; the rollback is drafted")
    else:
        change.down = Script(undo, whole(data))
    return change
