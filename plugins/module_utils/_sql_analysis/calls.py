# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Functions that a statement calls: those with effects beyond the transaction need the scope's permission."""

from __future__ import annotations

from typing import Any, Callable, FrozenSet, Iterable, Iterator, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Repair
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import (
    far_reaching,
    may_be_set,
    setting_advice,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import StatementNames
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    name_pair,
    string_list,
    walk,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True


#: What CREATE OPERATOR, CREATE AGGREGATE, CREATE TYPE and CREATE TEXT SEARCH call the functions that they take.
_CALLED = frozenset(
    [
        *("function", "procedure", "restrict", "join"),
        *("sfunc", "finalfunc", "combinefunc", "serialfunc", "deserialfunc", "msfunc", "minvfunc", "mfinalfunc"),
        *("canonical", "subtype_diff", "analyze", "subscript"),
        *("input", "output", "receive", "send", "typmod_in", "typmod_out"),
        *("init", "lexize", "start", "gettoken", "end", "lextypes", "headline"),
    ]
)

#: What CREATE FOREIGN DATA WRAPPER calls the functions that it takes, and the attributes of other statements that hold one.
_HANDLERS = ("handler", "validator")
_HANDLING = ("func_name", "handler_name", "plhandler", "plinline", "plvalidator")
_HANDLING_OBJECTS = ("func", "fromsql", "tosql")


def check_calls(
    calls: Sequence[Any], declared: FrozenSet[str], search_path: Sequence[str], report: Callable[..., None]
) -> None:
    """Report calls of functions with effects that the scope does not permit."""
    for call in calls:
        schema, name = name_pair(string_list(call.funcname) or ("",))
        full = f"{schema or 'pg_catalog'}.{name}"
        if full in declared:
            continue
        if not schema and search_path:
            # of no argument at all there is no better match than the built-in one
            if name == "count" and call.agg_star:
                continue
            report(f"the function {name} without a schema", next_step=f"write pg_catalog.{name}, or its own schema")
        elif schema not in ("", "pg_catalog"):
            report(
                f"the function {full} has effects that cannot be analysed",
                next_step=f"add {full} to scope.functions if it is intended",
                repair=_in_scope(full),
            )
        elif name == "set_config":
            problem, advice = _set_config_problem(call)
            if problem:
                report(problem, next_step=advice)
        elif far_reaching(name):
            _report_far_reaching(name, report)


def check_attributes(names: Sequence[StatementNames], declared: FrozenSet[str], report: Callable[..., None]) -> None:
    """Report far-reaching functions in attribute notation: ``(x).f`` and ``x.f`` are ``f(x)`` where x has no column f.

    No column is called like one. Whether a name is a function of the search path, only the catalog tells: ``searched_names``.
    """
    for name in sorted(name for name in _dotted(names) if far_reaching(name)):
        if not any(full.rpartition(".")[2] == name for full in declared):
            _report_far_reaching(name, report)


def _dotted(names: Sequence[StatementNames]) -> Set[str]:
    return {name for one in names for name in one.attributes | one.columns}


def searched_names(names: Sequence[StatementNames], parts: Iterable[Any]) -> Set[str]:
    """Return the names by which statements may call functions of the search path without the form of a call.

    They are those after a dot, and of operators without a schema: also of those that the grammar writes with a word.
    """
    operators = {name for part in parts for _, child in walk(part) for name in _operators_alone(child)}
    return _dotted(names) | operators


def _operators_alone(node: Any) -> Iterator[str]:
    """Yield the operators without a schema that a node stands for."""
    if is_node(node, ast.A_Expr) and "BETWEEN" in node.kind.name:
        yield from ("<", "<=", ">", ">=")
    elif _compares(node):
        yield "="
    operators = list(operators_of(node))
    if is_node(node, ast.CreateOpClassItem) and node.name and node.itemtype == _OPERATOR_ITEM:
        operators.append(string_list(node.name.objname) or ())
    yield from (parts[0] for parts in operators if len(parts) == 1)


def _compares(node: Any) -> bool:
    """Return whether a node compares with ``=`` and does not say so: CASE x WHEN, USING, NATURAL JOIN, IN (SELECT …)."""
    if is_node(node, ast.CaseExpr):
        return node.arg is not None
    if is_node(node, ast.JoinExpr):
        return bool(node.usingClause or node.isNatural)
    return is_node(node, ast.SubLink) and node.testexpr is not None and not node.operName


def check_handed(node: Any, declared: FrozenSet[str], search_path: Sequence[str], report: Callable[..., None]) -> None:
    """Report a function that becomes part of an operator, an aggregate, a type or a cast, which then calls it, and operators by schema.

    A function of pg_catalog counts when it is far-reaching, one of another schema always, like an operator of one. With a
    search path a function without a schema may be one of another schema.
    """

    def check_own(parts: Sequence[str], what: str) -> None:
        if what == "function" and search_path and len(parts) == 1:
            report(
                f"the function {parts[0]} without a schema",
                next_step=f"write pg_catalog.{parts[0]}, or its own schema",
            )
        _check_own(parts, what, declared, report)

    for _, child in walk(node):
        if is_node(child, ast.TypeName, ast.ObjectWithArgs):
            schema, name = name_pair(
                string_list(child.names if is_node(child, ast.TypeName) else child.objname) or ("",)
            )
            if schema in ("", "pg_catalog") and f"pg_catalog.{name}" not in declared and far_reaching(name):
                _report_far_reaching(name, report)
        elif is_node(child, ast.DefElem) and child.defname in _CALLED and is_node(child.arg, ast.TypeName):
            check_own(string_list(child.arg.names) or ("",), "function")
        elif is_node(child, ast.CreateOpClassItem) and child.name:
            what = "operator" if child.itemtype == _OPERATOR_ITEM else "function"
            check_own(string_list(child.name.objname) or ("",), what)
        for parts in operators_of(child):
            check_own(parts, "operator")
    for parts in _handlers(node):
        check_own(parts, "function")


def _handlers(node: Any) -> Iterator[Tuple[str, ...]]:
    """Yield the functions that a statement itself hands over: those of a cast, a transform, a language and the like."""
    names = [getattr(node, attribute, None) for attribute in _HANDLING]
    if is_node(node, ast.CreateCastStmt, ast.CreateTransformStmt):
        names += [one.objname for one in (getattr(node, name, None) for name in _HANDLING_OBJECTS) if one]
    options = getattr(node, "func_options", None) or ()
    names += [option.arg for option in options if option.defname in _HANDLERS]
    for name in names:
        parts = string_list(name)
        if parts:
            yield parts


#: What CREATE OPERATOR CLASS lists as an operator (opclasscmds.h).
_OPERATOR_ITEM = 1


def operators_of(node: Any) -> Iterator[Tuple[str, ...]]:
    """Yield the names of operators that a node itself has, wherever the grammar lets one stand."""
    for name in ("name" if is_node(node, ast.A_Expr) else "", "operName", "useOp"):
        parts = string_list(getattr(node, name, None)) if name else None
        if parts:
            yield parts
    if is_node(node, ast.Constraint):
        # EXCLUDE (column WITH operator, …)
        for pair in node.exclusions or ():
            yield string_list(pair[-1]) or ("",)


def _check_own(parts: Sequence[str], what: str, declared: FrozenSet[str], report: Callable[..., None]) -> None:
    """Report a function, or the function behind an operator, of another schema than pg_catalog that is not declared."""
    schema, name = name_pair(parts)
    full = f"{schema}.{name}"
    if schema not in ("", "pg_catalog") and full not in declared:
        report(
            f"the {what} {full} has effects that cannot be analysed",
            next_step=f"add {full} to scope.functions if it is intended",
            repair=_in_scope(full),
        )


def _report_far_reaching(name: str, report: Callable[..., None]) -> None:
    report(
        f"the function {name} reaches beyond this transaction",
        next_step=f"add pg_catalog.{name} to scope.functions if it is intended",
        repair=_in_scope(f"pg_catalog.{name}"),
    )


def _in_scope(function: str) -> Repair:
    return Repair(("scope", "functions"), function, add=True)


def _set_config_problem(call: Any) -> Tuple[str, str]:
    """Return what is wrong with a call of set_config, '' when nothing is, and what to do."""
    arguments = [getattr(getattr(arg, "val", None), "sval", None) for arg in call.args or ()]
    local = call.args[-1] if call.args else None
    name = ((arguments or [None])[0] or "").lower()
    if getattr(getattr(local, "val", None), "boolval", None) is not True:
        return (
            "set_config whose last argument is not true: the setting would outlive the transaction",
            setting_advice(name),
        )
    if not may_be_set(name):
        return f"set_config of {name or 'a computed name'}: not a setting that a phase may change", setting_advice(name)
    return "", ""
