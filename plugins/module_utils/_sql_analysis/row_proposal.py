# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which row counts of a draft are exact, and which are those of tables that may have grown until the migration runs. Controller only.

A statement grows with its tables if it changes, or an INSERT … SELECT reads, at least half of one of them, and its WHERE does not
name the rows by the values of a key. Then its count is the least one. After COMMIT, in batches, any number may be left to do.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import Phase, SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError, Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.batches import (
    declared_batches,
    is_declared,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import collect_names
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import (
    SqlPiece,
    split_file,
    transaction_pieces,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_concurrent,
    is_node,
    relation_pair,
    walk,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: The count that stands for one that nobody knows yet.
OPEN_COUNT = {"min": 0}

#: What the rows of a tag are while nobody has looked.
OPEN_EACH = {"each": OPEN_COUNT}

#: Counts of more statements than these are declared as their sum.
_MOST_COUNTS = 20

#: Tables by name, each with its number of ``rows`` and its ``keys``, as ``_checks/table_sizes.py`` returns them.
Tables = Mapping[str, Mapping[str, Any]]

_TAGS = {
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
    "CopyStmt": "COPY",
}


@dataclass(frozen=True)
class RowProposal:
    """The counts of a file's statements.

    ``counts`` by tag in file order; ``growing`` are the tables, by name, that a statement changes which grows with its tables, and
    ``exact`` the rows of the others by table and tag.
    """

    counts: Mapping[str, Sequence[Any]]
    growing: Set[str]
    exact: Mapping[Tuple[str, str], int]

    def data_count(self, relation: str, kind: str, rows: Any) -> Any:
        """Return the count of a change of data: exact where nothing grows, or where exact statements alone have made it."""
        is_exact = not self.growing or not isinstance(rows, int) or self.exact.get((relation, kind), 0) == rows
        return rows if is_exact else {"min": rows}

    def is_exact_change(self, relation: str, change: int) -> bool:
        """Return whether the number of rows of a table changes by so many wherever the migration runs."""
        known = self.exact.get((relation, "INSERT"), 0) - self.exact.get((relation, "DELETE"), 0)
        return not change or not self.growing or (relation not in self.growing and known == change)


def propose_rows(phase: Phase, source: SourceFile, rows: Mapping[str, Sequence[int]], tables: Tables) -> RowProposal:
    """Return the counts to declare for a file of a phase. ``rows`` are those that its statements reported, by tag in file order."""
    problems: List[Problem] = []
    pieces = split_file(source, problems)
    if problems:
        raise PhaseFileError(problems)
    batches, path = declared_batches(phase.definition), phase.definition["settings"]["search_path"]
    committed = len(transaction_pieces(pieces, lambda node: is_concurrent(node) or is_declared(node, batches)))
    counts: Dict[str, List[Any]] = {}
    growing: Set[str] = set()
    exact: Dict[Tuple[str, str], int] = collections.Counter()
    for number, (piece, tag, found) in _reported(pieces, rows):
        name = _found_name(relation_pair(piece.node.relation), tables, path) if piece.node.relation is not None else ""
        if number > committed:
            count: Any = OPEN_COUNT
        elif _grows(piece.node, found, tables, path):
            count = {"min": found}
            growing.add(name)
        else:
            count = found
            exact[name, tag] += found
        counts.setdefault(tag, []).append(count)
    return RowProposal(counts, growing, exact)


def _reported(
    pieces: Sequence[SqlPiece], rows: Mapping[str, Sequence[int]]
) -> Iterator[Tuple[int, Tuple[SqlPiece, str, int]]]:
    """Yield the number of each statement that has reported rows, with its piece, its tag and the rows."""
    left = {tag: list(found) for tag, found in rows.items()}
    for number, piece in enumerate(pieces, start=1):
        tag = _TAGS.get(type(piece.node).__name__, "")
        if left.get(tag):
            yield number, (piece, tag, left[tag].pop(0))


def _found_name(pair: Tuple[str, str], tables: Tables, path: Sequence[str]) -> str:
    """Return the name of a relation as the plan has it; without a schema it is in the first one that has it."""
    schema, name = pair
    names = [quoted_name(one, name) for one in ([schema] if schema else path)]
    return next((one for one in names if one in tables), quoted_name(schema, name))


def _grows(node: Any, rows: int, tables: Tables, path: Sequence[str]) -> bool:
    if is_node(node, ast.CopyStmt):
        return False
    if is_node(node, ast.InsertStmt):
        query = node.selectStmt
        # VALUES, or DEFAULT VALUES
        if query is None or query.valuesLists:
            return False
        names = collect_names(query)
        pairs = {(schema, name) for schema, name, _read in names.relations if schema or name not in names.ctes}
        condition = query.whereClause
    else:
        pairs = {relation_pair(node.relation)}
        condition = getattr(node, "whereClause", None)
    read = [tables.get(_found_name(pair, tables, path)) for pair in pairs]
    if len(read) == 1 and read[0] and _names_rows(condition, read[0]["keys"]):
        return False
    return any(one is None or 2 * rows >= one["rows"] for one in read)


def _names_rows(condition: Any, keys: Sequence[Sequence[str]]) -> bool:
    """Return whether a WHERE compares each column of a key with values."""
    named = set(_named_columns(condition))
    return any(key and named.issuperset(key) for key in keys)


def _named_columns(condition: Any) -> Iterator[str]:
    """Yield the columns that a WHERE compares with values, by = or IN; each row has to meet all of these conditions."""
    if is_node(condition, ast.BoolExpr) and condition.boolop.name == "AND_EXPR":
        for one in condition.args:
            yield from _named_columns(one)
    if not is_node(condition, ast.A_Expr) or condition.kind.name not in ("AEXPR_OP", "AEXPR_IN", "AEXPR_OP_ANY"):
        return
    if condition.name[-1].sval == "=":
        for column, value in ((condition.lexpr, condition.rexpr), (condition.rexpr, condition.lexpr)):
            if is_node(column, ast.ColumnRef) and is_node(column.fields[-1], ast.String) and _is_value(value):
                yield column.fields[-1].sval


def _is_value(node: Any) -> bool:
    return not any(is_node(part, ast.ColumnRef, ast.SubLink, ast.FuncCall) for _place, part in walk(node))


def shortest(counts: Sequence[Any], *, in_batches: bool) -> Any:
    """Return the counts of a tag's statements as ``expect.rows`` has them: a sum of many, where none of them runs in batches."""
    if len(counts) > 1 and all(one == counts[0] for one in counts):
        return {"each": counts[0]}
    if len(counts) <= _MOST_COUNTS or in_batches:
        return list(counts)
    least = [one["min"] if isinstance(one, Mapping) else one for one in counts]
    return {"total": sum(least) if least == list(counts) else {"min": sum(least)}}
