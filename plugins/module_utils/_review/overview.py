# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a phase does, in lines for its author's terminal, before anything is rehearsed. Pure; controller only; private."""

from __future__ import annotations

import textwrap
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._review.squawk import LintFinding
from ansible_collections.incomex.phasegate.plugins.module_utils._review.statements import (
    BLOCKING,
    LOCKS,
    lock_mode,
    lock_rank,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import counted, in_batches
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.advice import Advice

_WIDTH = 76
_INDENT = " " * 12


def overview(
    definition: Mapping[str, Any],
    migrate: Sequence[Mapping[str, Any]],
    rollback: Sequence[Mapping[str, Any]],
    advice: Mapping[int, Sequence[Advice]],
    findings: Sequence[LintFinding],
) -> List[str]:
    """Return the lines. ``migrate`` and ``rollback`` as in a plan; ``advice`` by the number of a statement of ``migrate``."""
    ran = [one for one in migrate if one["run"]]
    lines = [f"{definition['phase']} {definition['revision']}: {definition['title']}"]
    lines.append(f"{definition['migrate']['file']}: {counted(ran, 'statement')}")
    for index, statement in enumerate(ran):
        last = ran[index + 1]["line"] if index + 1 < len(ran) else float("inf")
        first = statement["line"] if index else 0
        found = [one for one in findings if first <= one.line < last]
        lines += _statement(statement, advice.get(statement["n"], ()), found)
    undone = [one for one in rollback if one["run"]]
    lines.append(f"{definition['rollback']['file']}: {counted(undone, 'statement')}: {_tally(undone)}")
    lines.append(f"checks: {len(definition['preflight'])} before, {len(definition['verify'])} after")
    lines.append(f"difference: {definition['diff']['policy']}, {counted(definition['diff']['allow'], 'exception')}")
    tables = definition["drift"]["partitions_of"]
    lines += [f"expected drift: partitions of {', '.join(tables)}"] if tables else []
    return [escaped(line) for line in lines]


def _tally(statements: Sequence[Mapping[str, Any]]) -> str:
    seen: Dict[str, int] = {}
    for statement in statements:
        for kind in statement["kinds"]:
            seen[kind] = seen.get(kind, 0) + 1
    return ", ".join(f"{count} x {kind}" for kind, count in seen.items())


def _statement(
    statement: Mapping[str, Any], advice: Sequence[Advice], findings: Sequence[LintFinding]
) -> Iterator[str]:
    late = f", after COMMIT{in_batches(statement).rstrip(',')}" if statement["after_commit"] else ""
    names = f": {', '.join(statement['relations'])}" if statement["relations"] else ""
    place = f"  line {statement['line']}"
    yield f"{place:<12}{', '.join(statement['kinds'])}{names}{late}"
    for one in dict.fromkeys(advice):
        waits = f"{lock_mode(one.lock)}, {LOCKS[one.lock]} wait{'' if late else ' until COMMIT'}" if one.lock else ""
        if lock_rank(one.lock) >= BLOCKING or one.work:
            yield from _wrapped("; ".join(filter(None, (waits, one.work))))
        if one.safer:
            yield from _wrapped(f"safer: {one.safer}")
    for finding in findings:
        yield from _wrapped(f"{finding.rule}: {finding.message} {finding.help}".rstrip())


def _wrapped(text: str) -> List[str]:
    return textwrap.wrap(" ".join(text.split()), _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT + "  ")
