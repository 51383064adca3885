# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL of a check: one plain SELECT that only reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, FrozenSet, List, Optional, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Repair
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.calls import (
    check_attributes,
    check_calls,
    check_handed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import collect_names
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.parsing import parse_sql
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import is_node, walk

try:
    import pglast
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True


@dataclass(frozen=True)
class QueryProblem:
    """Why a check's SQL is not accepted."""

    what: str
    next_step: str = ""
    repair: Optional[Repair] = None


def query_problem(sql: str, functions: FrozenSet[str], search_path: Sequence[str] = ()) -> Optional[QueryProblem]:
    """Return why ``sql`` is not one plain SELECT that only reads, or ``None`` if it is one.

    ``functions`` are the functions outside of pg_catalog, and the far-reaching ones in it, that it may call.
    """
    try:
        raw = parse_sql(sql)
    except pglast.parser.ParseError as error:
        return QueryProblem(f"not SQL: {error.args[0]}", "correct the query; PostgreSQL's own parser rejects it")
    if len(raw) != 1 or not is_node(raw[0].stmt, ast.SelectStmt):
        return QueryProblem("not one SELECT", "write one SELECT; several facts can be its columns")
    if raw[0].stmt_len:
        return QueryProblem("a semicolon after the query", "remove it")
    try:
        return _reading_problem(raw[0].stmt, functions, search_path)
    except RecursionError:
        return QueryProblem("expressions nested too deeply", "write a shorter query")


def _reading_problem(select: Any, functions: FrozenSet[str], search_path: Sequence[str]) -> Optional[QueryProblem]:
    found: List[QueryProblem] = []
    names = collect_names(select)
    for _, child in walk(select):
        if is_node(child, ast.LockingClause, ast.IntoClause):
            found.append(QueryProblem("FOR UPDATE, FOR SHARE or INTO in a check", "a check only reads: remove it"))
        elif is_node(child, ast.CommonTableExpr) and not is_node(child.ctequery, ast.SelectStmt):
            found.append(QueryProblem("a statement that changes rows inside WITH", "a check only reads: remove it"))
    for schema, name, _ in sorted(names.relations):
        if not schema and name not in names.ctes and not name.startswith("pg_"):
            found.append(QueryProblem(f"{name} without a schema", "write every relation with its schema"))

    def report(what: str, next_step: str = "", repair: Optional[Repair] = None) -> None:
        found.append(QueryProblem(what, next_step, repair))

    check_calls(names.calls, functions, search_path, report)
    check_attributes((names,), functions, report)
    check_handed(select, functions, search_path, report)
    return found[0] if found else None
