# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The changesets of a changelog of Liquibase in formatted SQL. Controller only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Iterator, List, Match, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.change import Change, Script
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import SourceText, joined
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem

#: The first line of a changelog in formatted SQL.
HEAD = re.compile(rb"\A\s*--\s*liquibase\s*formatted", re.IGNORECASE)

_CHANGESET = re.compile(
    rb'\s*--\s*changeset\s+(?P<author>"[^"]+"|[^:\n]+):\s*(?P<id>"[^"]+"|\S+)(?P<attributes>.*)', re.IGNORECASE
)
_ROLLBACK = re.compile(rb"\s*--\s*rollback[ \t]+(?P<sql>.*)", re.IGNORECASE)
_ROLLBACK_BEGINS = re.compile(rb"\s*/\*\s*liquibase\s*rollback\s*$", re.IGNORECASE)
_ROLLBACK_ENDS = re.compile(rb"(?P<sql>.*)\*/\s*$")
_NONE_NEEDED = re.compile(rb"\s*(?:not required|empty)\b[^\n]*\s*", re.IGNORECASE)
_OTHER_CHANGESET = re.compile(rb"\s*changeset", re.IGNORECASE)
_PRECONDITION = re.compile(rb"\s*--\s*precondition", re.IGNORECASE)
_IGNORED = re.compile(rb"\s*--\s*ignoreLines:(?P<lines>\w+)", re.IGNORECASE)
_ATTRIBUTE = re.compile(r'(?P<name>\w+):(?P<value>"[^"]*"|\S*)')

#: Attributes of a changeset that a phase has nothing for.
_ONLY_THERE = ("context", "contextfilter", "labels", "runalways", "runonchange", "failonerror", "ignore", "runwith")


@dataclass
class _Changeset:
    """A changeset: who wrote it and its id, its attributes in lower case, its lines of SQL and of its rollback."""

    author: str
    id: str
    line: int
    attributes: List[Tuple[str, str]]
    up: List[SourceText] = field(default_factory=list)
    down: List[SourceText] = field(default_factory=list)
    preconditions: List[int] = field(default_factory=list)


def read_changelog(path: str, text: SourceText, wanted: str) -> Change:
    """Return the one changeset of a changelog, or the one with the id ``wanted``, or ``author:id``. Raises ``PhaseGateError``."""
    found = list(_changesets(text))
    chosen = [one for one in found if wanted in ("", one.id, f"{one.author}:{one.id}")]
    if len(chosen) != 1:
        raise PhaseGateError(
            "The changeset is not the only one." if chosen else "There is no such changeset.",
            expected=f"one changeset {wanted or 'in the file'}",
            found=", ".join(f"{one.author}:{one.id}" for one in chosen or found) or f"none in {path}",
            next_step="name one: -e phasegate_from_changeset= with its author:id",
        )
    return _change(path, chosen[0])


def _changesets(text: SourceText) -> Iterator[_Changeset]:
    here = None
    in_rollback = False
    ignored: object = 0
    for start, end in _line_ranges(text.data):
        line = text.data[start:end]
        ignoring, begun = _IGNORED.match(line), _CHANGESET.match(line)
        if ignored:
            ignored = (
                ignored - 1 if isinstance(ignored, int) else not (ignoring and ignoring["lines"].lower() == b"end")
            )
        elif ignoring:
            lines = ignoring["lines"]
            ignored = int(lines) if lines.isdigit() else lines.lower() == b"start" and "start"
        elif begun:
            if here:
                yield here
            here, in_rollback = _begun(begun, text.line(start)), False
        elif here:
            in_rollback = _take(here, text, start, end, in_rollback=in_rollback)
    if here:
        yield here


def _line_ranges(data: bytes) -> Iterator[Tuple[int, int]]:
    start = 0
    for line in data.splitlines(keepends=True):
        yield start, start + len(line)
        start += len(line)


def _begun(found: Match[bytes], line: int) -> _Changeset:
    author, name, rest = (found[part].decode("utf-8", "replace").strip() for part in ("author", "id", "attributes"))
    attributes = [(one["name"].lower(), one["value"].strip('"')) for one in _ATTRIBUTE.finditer(rest)]
    return _Changeset(author.strip('"'), name.strip('"'), line, attributes)


def _take(here: _Changeset, text: SourceText, start: int, end: int, *, in_rollback: bool) -> bool:
    """Take a line into a changeset, and return whether a rollback of several lines goes on after it."""
    line = text.data[start:end]
    one, ends = _ROLLBACK.match(line), _ROLLBACK_ENDS.match(line)
    if in_rollback:
        here.down.append(text.part(start, start + ends.end("sql")) if ends else text.part(start, end))
        return not ends
    if _ROLLBACK_BEGINS.match(line):
        return True
    if one:
        here.down.append(text.part(start + one.start("sql"), end))
    elif _PRECONDITION.match(line):
        here.preconditions.append(text.line(start))
    else:
        here.up.append(text.part(start, end))
    return False


def _change(path: str, chosen: _Changeset) -> Change:
    change = Change(Script(path, joined(chosen.up)))
    down = joined(chosen.down)
    if not down.data.strip():
        change.notes.append("no down script: the changeset has no rollback; the rollback is drafted")
    elif _NONE_NEEDED.fullmatch(down.data):
        change.notes.append(
            f"{path}:{down.lines[0]}: the changeset says that it needs no rollback; the rollback is drafted"
        )
    elif _OTHER_CHANGESET.match(down.data):
        step = "write the SQL of that changeset there, into a copy of the file"
        found = down.data.strip().decode("utf-8", "replace")
        change.problems.append(
            Problem(path, down.lines[0], "", "a rollback by another changeset", found=found, next_step=step)
        )
    else:
        change.down = Script(path, down)
    for line in chosen.preconditions:
        change.notes.append(f"{path}:{line}: a precondition is not converted: write what it checks under preflight")
    for name, value in chosen.attributes:
        told = f"{name}:{value}"
        if name in ("enddelimiter", "rollbackenddelimiter") and value != ";":
            step = "end each statement with a semicolon, in a copy of the file"
            change.problems.append(
                Problem(path, chosen.line, "", "statements that do not end with ;", found=told, next_step=step)
            )
        elif name == "dbms" and not {"postgresql", "all"} & set(value.lower().split(",")):
            step = "choose the changeset for PostgreSQL"
            change.problems.append(
                Problem(path, chosen.line, "", "a changeset of another database", found=told, next_step=step)
            )
        elif name in _ONLY_THERE:
            change.notes.append(
                f"{path}:{chosen.line}: {told} is not converted: a phase runs when it is executed, once"
            )
    return change
