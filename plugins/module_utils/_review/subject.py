# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a review package is about, and how it writes figures. Pure; controller only; private."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, List, Mapping, Optional, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import Block, Bullets, Heading
from ansible_collections.incomex.phasegate.plugins.module_utils._review.squawk import LintFinding
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.accepted_forms import UnsafeForm

# The tags of statements that change rows.
ROW_TAGS = ("INSERT", "UPDATE", "DELETE", "MERGE", "COPY")

_MILLISECOND, _SECOND = 1_000, 1_000_000


@dataclass(frozen=True)
class Subject:
    """What is reviewed. ``path`` is the path of plan.json, as a reviewer types it.

    ``findings`` are those of the linter, None without a linter; ``linter`` is its name and version. ``unsafe`` are the forms of each
    statement that reads or writes wait for, by its number.
    """

    plan: Mapping[str, Any]
    sha256: str
    ddl: bytes
    rollback: bytes
    path: str
    findings: Optional[Sequence[LintFinding]]
    linter: str
    unsafe: Mapping[int, Sequence[UnsafeForm]] = field(default_factory=dict)

    @property
    def phase(self) -> Mapping[str, Any]:
        """Return phase.yml as the plan has it."""
        phase: Mapping[str, Any] = self.plan["phase"]
        return phase

    @property
    def rehearsal(self) -> Mapping[str, Any]:
        """Return what the rehearsal proved and measured."""
        rehearsal: Mapping[str, Any] = self.plan["rehearsal"]
        return rehearsal


def target_place(target: Mapping[str, Any]) -> str:
    """Return host, container and database of the target."""
    container = f", container {target['container']}" if target["container"] else ""
    return f"{target['inventory_name']}{container}, database {target['database']}"


def utc_minute(moment: str) -> str:
    """Return an ISO 8601 time in UTC to the minute, for people."""
    return f"{moment[:10]} {moment[11:16]} UTC"


def counted(items: Iterable[Any], noun: str) -> str:
    """Return '1 statement', '2 statements' for the number of items."""
    count = len(list(items))
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def row_count(count: int) -> str:
    """Return '1 row', '2 rows'."""
    return "1 row" if count == 1 else f"{count} rows"


def duration(microseconds: int) -> str:
    """Return a time in µs, ms or s."""
    if microseconds < _MILLISECOND:
        return f"{microseconds} µs"
    if microseconds < _SECOND:
        return f"{microseconds / _MILLISECOND:.1f} ms"
    return f"{microseconds / _SECOND:.1f} s"


def byte_size(count: int) -> str:
    """Return a size in bytes, kB, MB or GB."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def in_transaction(part: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """Return the statements of the DDL or the rollback that are sent inside the transaction."""
    return [statement for statement in part["statements"] if statement["run"] and not statement["after_commit"]]


def after_commit(part: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    """Return the statements of the DDL or the rollback that run after COMMIT."""
    return [statement for statement in part["statements"] if statement["after_commit"]]


def in_batches(statement: Mapping[str, Any]) -> str:
    """Return in words how a statement runs in batches; '' for one that does not."""
    batch = statement.get("batch")
    return f", in batches of {batch['rows']} rows that each commit," if batch else ""


def unquoted(relation: str) -> str:
    """Return a relation's name without its quotation marks."""
    return relation.replace('"', "")


def bullet_list(heading: str, sentences: Sequence[str]) -> List[Block]:
    """Return a list under a heading, or no blocks when there is nothing to list."""
    blocks: List[Block] = [Heading(3, heading)] if heading else []
    return [*blocks, Bullets(tuple((sentence,) for sentence in sentences))] if sentences else []
