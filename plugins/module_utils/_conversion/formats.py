# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which migration tool a file is of, and where in it the change and what undoes it are. Controller only."""

from __future__ import annotations

import os
import re
from typing import Callable, Dict, List, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.change import (
    Change,
    Script,
    beside,
    marked,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.liquibase import HEAD, read_changelog
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import SourceText, whole
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem

_DBMATE_UP = re.compile(rb"^--[ \t]*migrate:up(?:[ \t][^\n]*)?$\n?", re.MULTILINE)
_DBMATE_DOWN = re.compile(rb"^--[ \t]*migrate:down(?:[ \t][^\n]*)?$\n?", re.MULTILINE)
_NODE_UP = re.compile(rb"^[ \t]*--[ \t-]*up\s+migration[^\n]*$\n?", re.MULTILINE | re.IGNORECASE)
_NODE_DOWN = re.compile(rb"^[ \t]*--[ \t-]*down\s+migration[^\n]*$\n?", re.MULTILINE | re.IGNORECASE)


def _dbmate(path: str, text: SourceText) -> Change:
    return marked(path, text, _DBMATE_UP, _DBMATE_DOWN)


def _node_pg_migrate(path: str, text: SourceText) -> Change:
    return marked(path, text, _NODE_UP, _NODE_DOWN)


def _golang_migrate(path: str, text: SourceText) -> Change:
    return beside(path, text, re.sub(r"\.up\.sql$", ".down.sql", path))


def _diesel(path: str, text: SourceText) -> Change:
    return beside(path, text, os.path.join(os.path.dirname(path), "down.sql"))


_FLYWAY = re.compile(r"V(?P<version>[0-9][0-9._]*)__[^/]*\.sql")


def _flyway(path: str, text: SourceText) -> Change:
    folder, name = os.path.split(path)
    return beside(path, text, os.path.join(folder, f"U{name[1:]}") if _FLYWAY.fullmatch(name) else path)


_SQITCH_HEAD = re.compile(rb"\A\s*-- Deploy ")
_SQITCH_REQUIRES = re.compile(rb"^-- requires:[ \t]*(\S[^\n]*)$", re.MULTILINE)


def _of_sqitch(path: str, data: bytes) -> bool:
    folder, name = os.path.split(path)
    reverted = os.path.exists(os.path.join(os.path.dirname(folder), "revert", name))
    return os.path.basename(folder) == "deploy" and (reverted or bool(_SQITCH_HEAD.match(data)))


def _sqitch(path: str, text: SourceText) -> Change:
    folder, name = os.path.split(path)
    project = os.path.dirname(folder)
    change = beside(path, text, os.path.join(project, "revert", name))
    for found in _SQITCH_REQUIRES.finditer(text.data):
        needed = found[1].decode("utf-8", "replace").strip()
        line = text.line(found.start())
        change.notes.append(f"{path}:{line}: it requires {needed}: name the phases that were made of it under requires")
    verify = os.path.join(project, "verify", name)
    if os.path.exists(verify):
        change.notes.append(f"{verify} is not converted: write what it checks under verify")
    return change


_DUMPED = re.compile(rb"^-- PostgreSQL database (?:cluster )?dump$|^SET statement_timeout = 0;$", re.MULTILINE)


def _of_dump(path: str, data: bytes) -> bool:
    return os.path.basename(path) == "structure.sql" or bool(_DUMPED.search(data))


def _dump(path: str, text: SourceText) -> Change:
    return Change(Script(path, text), notes=["no down script: a dump has none; the rollback is drafted"])


#: A format by its name: what tells a file of it, in words and as a test of its path and bytes, and what reads it.
_Format = Tuple[str, Callable[[str, bytes], bool], Callable[[str, SourceText], Change]]

FORMATS: Dict[str, _Format] = {
    "liquibase": (
        "-- liquibase formatted sql in its first line",
        lambda _path, data: bool(HEAD.match(data)),
        lambda path, text: read_changelog(path, text, ""),
    ),
    "sqitch": ("a file in deploy/ with its like in revert/", _of_sqitch, _sqitch),
    "flyway": (
        "a name such as V1__orders.sql",
        lambda path, _data: bool(_FLYWAY.fullmatch(os.path.basename(path))),
        _flyway,
    ),
    "dbmate": ("a line -- migrate:up", lambda _path, data: bool(_DBMATE_UP.search(data)), _dbmate),
    "node-pg-migrate": ("a line -- Up Migration", lambda _path, data: bool(_NODE_UP.search(data)), _node_pg_migrate),
    "golang-migrate": ("a name that ends in .up.sql", lambda path, _data: path.endswith(".up.sql"), _golang_migrate),
    "diesel": ("the name up.sql", lambda path, _data: os.path.basename(path) == "up.sql", _diesel),
    "dump": ("the head of a dump of pg_dump, or the name structure.sql", _of_dump, _dump),
}


#: What Flyway and Liquibase put a value in the place of, also inside of texts.
_PLACEHOLDER = re.compile(rb"\$\{[A-Za-z_][A-Za-z0-9_.:-]*\}")

_WITH_PLACEHOLDERS = ("flyway", "liquibase")


def _placeholders(script: Script) -> List[Problem]:
    step = "write the value that the tool puts there, into a copy of the file"
    return [
        Problem(script.path, script.text.line(one.start()), "", "a placeholder", found=one[0].decode(), next_step=step)
        for one in _PLACEHOLDER.finditer(script.text.data)
    ]


def read_change(path: str, data: bytes, name: str, changeset: str) -> Change:
    """Return the change of a file; ``name`` is its format, or '' for one that is recognised. Raises ``PhaseGateError``.

    ``changeset`` is the one of a changelog that has several.
    """
    format_of = name or _recognised(path, data)
    if changeset and format_of != "liquibase":
        raise PhaseGateError(
            "Only a changelog of Liquibase has changesets.",
            expected="phasegate_from_changeset with a changelog of Liquibase",
            found=f"the format {format_of}",
            next_step="leave phasegate_from_changeset out",
        )
    text = whole(data)
    change = read_changelog(path, text, changeset) if changeset else FORMATS[format_of][2](path, text)
    if change.down is not None and not _has_sql(change.down.text.data):
        change.down = None
        change.notes.append("no down script: it has no statement; the rollback is drafted")
    if format_of in _WITH_PLACEHOLDERS:
        for script in (change.up, change.down):
            change.problems += _placeholders(script) if script else []
    return change


def _recognised(path: str, data: bytes) -> str:
    for name, (_words, is_of, _read) in FORMATS.items():
        if is_of(path, data):
            return name
    raise PhaseGateError(
        "The tool that this migration is of is not recognised.",
        expected="; ".join(f"{name}: {words}" for name, (words, _is_of, _read) in FORMATS.items()),
        found=f"none of these in {path}",
        next_step=f"name it: -e phasegate_from_format= with one of {', '.join(FORMATS)}",
    )


_NOTHING = re.compile(rb"(?:\s+|--[^\n]*|/\*.*?\*/|;)*", re.DOTALL)


def _has_sql(data: bytes) -> bool:
    found = _NOTHING.match(data)
    return found is None or found.end() < len(data)
