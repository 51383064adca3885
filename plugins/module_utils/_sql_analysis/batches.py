# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an UPDATE or DELETE can run in batches, by PostgreSQL's own parser. Controller only.

It is one statement on one table. With a range of keys in its WHERE it must be the same statement with one condition more: what
``_plan.batch_form`` composes from its bytes is parsed again, and compared.
"""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import total_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import (
    quoted_name,
    split_relation,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import Phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.batch_form import BatchSql, batch_sql
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import Batch, Statement
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.parsing import parse_sql
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import StatementReporter
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    relation_pair,
    walk,
)

try:
    import pglast
    from pglast import ast
    from pglast.keywords import RESERVED_KEYWORDS
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: ``batches`` of phase.yml, by schema and name of the relation.
Declared = Mapping[Tuple[str, str], Mapping[str, Any]]

_ONE_TABLE = (
    ("withClause", "a WITH clause"),
    ("fromClause", "FROM"),
    ("usingClause", "USING"),
    # by the version of the parser
    ("returningClause", "RETURNING"),
    ("returningList", "RETURNING"),
)


def declared_batches(definition: Mapping[str, Any]) -> Declared:
    """Return the declared batches by schema and name of their relation."""
    found = {split_relation(name): entry for name, entry in definition["batches"].items()}
    return {relation: entry for relation, entry in found.items() if relation}


def is_batchable(node: Any) -> bool:
    """Return whether a statement is an UPDATE or a DELETE."""
    return is_node(node, ast.UpdateStmt, ast.DeleteStmt)


def is_declared(node: Any, declared: Declared) -> bool:
    """Return whether a statement is an UPDATE or DELETE of a relation with declared batches."""
    return is_batchable(node) and relation_pair(node.relation) in declared


def batch_of(node: Any, data: bytes, declared: Declared, report: StatementReporter) -> Optional[Batch]:
    """Return how an UPDATE or DELETE after COMMIT runs in batches; None after a report."""
    relation = quoted_name(*relation_pair(node.relation))
    entry = declared.get(relation_pair(node.relation))
    if entry is None:
        report(
            f"{relation} has no entry in batches: an UPDATE or DELETE after COMMIT runs in batches",
            expected=f"batches: {{{relation}: {{by: <key column>, rows: <rows of a batch>}}}}",
            next_step="declare it, or move the statement before COMMIT",
        )
        return None
    problem = _form_problem(node, entry["by"])
    key = f"{_quoted(_name_of(node))}.{quoted_name('', entry['by'])}"
    sql = None
    try:
        sql = None if problem else batch_sql(data, key)
        problem = problem or _differs(node, sql, entry["by"])
    except ValueError as error:
        problem = str(error)
    if problem or sql is None:
        report(
            f"{problem}: it cannot run in batches",
            expected="an UPDATE or DELETE of one table with a WHERE, and nothing else; WHERE true for all rows",
            next_step="write it so, or move it before COMMIT",
        )
        return None
    select, change = sql.as_planned()
    leaves = _leaves(node)
    return {
        "by": entry["by"],
        "rows": entry["rows"],
        "key": key,
        "leaves": leaves,
        "select": select,
        "change": change,
    }


def _quoted(name: str) -> str:
    """Return a name as SQL text: a reserved word only in quotes."""
    return f'"{name}"' if name in RESERVED_KEYWORDS else quoted_name("", name)


def _name_of(node: Any) -> str:
    """Return the name that the statement has for its table."""
    alias = node.relation.alias
    return str(alias.aliasname if alias is not None else node.relation.relname)


def _assigned(node: Any) -> List[str]:
    """Return the columns that an UPDATE sets; none of a DELETE."""
    return [one.name for one in node.targetList] if is_node(node, ast.UpdateStmt) else []


def _form_problem(node: Any, key: str) -> str:
    """Return in words what keeps a statement from running in batches; '' when nothing does, as far as its tree tells."""
    problems = {
        f"{node.relation.relname} without its schema": not node.relation.schemaname,
        **{words: True for name, words in _ONE_TABLE if getattr(node, name, None)},
        "no WHERE": node.whereClause is None,
        "WHERE CURRENT OF": is_node(node.whereClause, ast.CurrentOfExpr),
        f"SET {key}, which is its key": key in _assigned(node),
        "a parameter such as $1": any(is_node(part, ast.ParamRef) for _place, part in walk(node)),
    }
    return next((words for words, there in problems.items() if there), "")


def _leaves(node: Any) -> bool:
    """Return whether a row that is done is to match the WHERE no more: a deleted one, or one whose WHERE reads what SET writes."""
    assigned = _assigned(node)
    return is_node(node, ast.DeleteStmt) or any(
        is_node(part, ast.ColumnRef) and is_node(part.fields[-1], ast.String) and part.fields[-1].sval in assigned
        for _place, part in walk(node.whereClause)
    )


def _differs(node: Any, sql: Optional[BatchSql], by: str) -> str:
    """Return why the composed statements are not the author's with a range; '' when they are."""
    select, change = sql.as_planned() if sql else ("", "")
    try:
        (changed,), (selected,) = parse_sql(change), parse_sql(select)
    except (pglast.parser.ParseError, ValueError):
        return "its text cannot be composed with a range of keys"
    fields = (_name_of(node), by)
    others = [name for name in node if name != "whereClause"]
    same = (
        type(changed.stmt) is type(node)
        and all(getattr(changed.stmt, name) == getattr(node, name) for name in others)
        and _is_ranged(changed.stmt.whereClause, node.whereClause, fields)
        and is_node(selected.stmt, ast.SelectStmt)
        and selected.stmt.fromClause == (node.relation,)
        and _is_ranged(selected.stmt.whereClause, node.whereClause, fields)
    )
    return "" if same else "its text is another statement once a range of keys is in it"


def _is_ranged(found: Any, condition: Any, fields: Sequence[str]) -> bool:
    """Return whether a WHERE is this condition and the range of the key."""
    conjuncts: Tuple[Any, ...] = (condition,)
    if is_node(condition, ast.BoolExpr) and condition.boolop.name == "AND_EXPR":
        conjuncts = condition.args
    if not is_node(found, ast.BoolExpr) or found.boolop.name != "AND_EXPR" or len(found.args) != len(conjuncts) + 2:
        return False
    ends = found.args[len(conjuncts) :]
    return found.args[: len(conjuncts)] == conjuncts and all(
        is_node(end, ast.A_Expr)
        and [one.sval for one in end.name] == ["pg_catalog", sign]
        and [getattr(one, "sval", "") for one in end.lexpr.fields] == list(fields)
        and is_node(end.rexpr, ast.ParamRef)
        and end.rexpr.number == number
        for end, sign, number in zip(ends, (">", "<="), (1, 2))
    )


def batch_problems(phase: Phase, statements: Sequence[Statement]) -> Iterator[Problem]:
    """Yield what ``batches`` declares and no statement has, and what nobody could judge of it before COMMIT."""
    batched = {split_relation(one["after_commit"]) for one in statements if one.get("batch")}
    definition = phase.definition
    for name in definition["batches"]:
        if split_relation(name) not in batched:
            yield phase.at.problem(
                ("batches", name),
                f"no UPDATE or DELETE after COMMIT in {phase.migrate.name} is about it",
                next_step="remove it, or move the statement behind COMMIT",
            )
    for tag in sorted({one["tag"] for one in statements if one.get("batch")}):
        if total_of(definition["expect"]["rows"].get(tag)) is not None:
            yield phase.at.problem(
                ("expect", "rows", tag),
                "a total of statements some of which run in batches: it could not be judged before COMMIT",
                expected="a list of counts, one for each statement",
                next_step="declare the rows of each",
            )
    for section in ("measure", "row_counts"):
        for index, entry in enumerate(definition[section]):
            if split_relation(entry["relation"]) in batched:
                yield phase.at.problem(
                    (section, index),
                    "a table with batches: they change it only after what is compared here was judged",
                    next_step="remove it: expect.rows has the rows of all batches together",
                )
