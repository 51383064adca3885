# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The form of an UPDATE or DELETE that runs in batches: the author's statement, with a range of keys in its WHERE.

It is composed from the statement's own bytes, by the controller, which proves with PostgreSQL's parser that it is the same
statement with one condition more, and again by the target, which has no parser.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import LexError, placed_tokens


@dataclass(frozen=True)
class BatchSql:
    """A statement without the range of a batch: ``change`` is it, ``source`` what a SELECT of the same rows has after FROM.

    ``key`` is the key column as SQL text, with the name that the statement has for its table before it.
    """

    change: str
    source: str
    key: str

    def ranged(self, text: str, low: Optional[str], high: Optional[str]) -> str:
        """Return ``change`` or ``source`` with a range; an end that is None is left out. The ends are SQL text.

        The operators are named with their schema: one of a searched schema that fits the key better would leave rows out.
        """
        signs = ((">", low), ("<=", high))
        ends = [f" AND {self.key} OPERATOR(pg_catalog.{sign}) {end}" for sign, end in signs if end is not None]
        return text + "".join(ends)

    def as_planned(self) -> Tuple[str, str]:
        """Return the two statements of a batch as the plan has them: the rows of a range, and their change."""
        rows = f"SELECT {self.key} FROM {self.source}"
        return self.ranged(rows, "$1", "$2"), self.ranged(self.change, "$1", "$2")


def batch_sql(statement: bytes, key: str) -> BatchSql:
    """Return the form of a statement. Raises ``ValueError`` with the reason for one that has it not, as far as a lexer sees."""
    try:
        words = _outer_words(statement)
    except LexError as error:
        raise ValueError(str(error)) from None
    names = [word for _start, _end, word in words]
    begins = 1 if names[:1] == ["UPDATE"] else 2
    if names[:begins] not in (["UPDATE"], ["DELETE", "FROM"]) or "WHERE" not in names:
        raise ValueError("not an UPDATE or a DELETE FROM with a WHERE")
    where = names.index("WHERE")
    until = names.index("SET") if begins == 1 and "SET" in names else where
    end = next((start for start, _end, word in words if word == ";"), len(statement))
    first = words[0][0]
    table = _text(statement, words[begins - 1][1], words[until][0])
    # a comment at its end must not take what follows with it
    condition = f"WHERE ({_text(statement, words[where][1], end)}\n)"
    return BatchSql(f"{_text(statement, first, words[where][0])} {condition}", f"{table} {condition}", key)


def _outer_words(statement: bytes) -> List[Tuple[int, int, str]]:
    """Return start, end and upper case of the words outside of parentheses, and of the semicolon."""
    depth, found = 0, []
    for start, kind, text in placed_tokens(statement):
        depth += {"open": 1, "close": -1}.get(kind, 0)
        if depth == 0 and kind in ("word", "end"):
            found.append((start, start + len(text), text.decode("utf-8", "replace").upper()))
    return found


def _text(statement: bytes, start: int, end: int) -> str:
    return statement[start:end].decode("utf-8").strip()


def planned_batches(statement: Mapping[str, Any], data: bytes, name: str) -> BatchSql:
    """Return the form of a plan's statement. Raises ``PhaseGateError`` where the plan has other SQL for it than its bytes."""
    batch = statement["batch"]
    try:
        found = batch_sql(data[statement["start"] : statement["end"]], batch["key"])
    except ValueError as error:
        raise _differs(statement, name, str(error)) from None
    for planned, composed in zip((batch["select"], batch["change"]), found.as_planned()):
        if planned != composed:
            raise _differs(statement, name, planned)
    return found


def _differs(statement: Mapping[str, Any], name: str, found: str) -> PhaseGateError:
    return PhaseGateError(
        f"The plan does not describe the batches of statement {statement['n']} of {name} (line {statement['line']}).",
        expected="the statement itself, with a range of keys in its WHERE",
        found=" ".join(found.split())[:200],
        next_step="find out who changed the plan; do not execute it. Plan, rehearse and review the phase again",
    )
