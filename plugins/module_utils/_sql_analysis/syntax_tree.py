# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Helpers over PostgreSQL's parse tree."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional, Sequence, Tuple

try:
    from pglast import ast, enums
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True


def is_node(node: Any, *types: Any) -> bool:
    """Return whether ``node`` is of one of the types; unlike ``isinstance`` it does not narrow.

    pglast declares every attribute as optional, also those that the grammar always sets.
    """
    return isinstance(node, types)


def is_concurrent(node: Any) -> bool:
    """Return whether a statement has CONCURRENTLY, and so refuses a transaction."""
    if is_node(node, ast.ReindexStmt):
        return any(option.defname == "concurrently" for option in node.params or ())
    if is_node(node, ast.AlterTableStmt):
        return any(is_node(c.def_, ast.PartitionCmd) and bool(c.def_.concurrent) for c in node.cmds)
    return is_node(node, ast.IndexStmt, ast.DropStmt) and bool(node.concurrent)


def walk(node: Any, place: str = "") -> Iterator[Tuple[str, Any]]:
    """Yield (its attribute, node) for a parse tree's nodes, and (attribute, tuple) for its lists."""
    stack: List[Tuple[str, Any]] = [(place, node)]
    while stack:
        place, here = stack.pop()
        yield place, here
        if isinstance(here, tuple):
            stack.extend((place, item) for item in here)
        elif is_node(here, ast.Node):
            stack.extend((name, getattr(here, name)) for name in here if getattr(here, name) is not None)


def row_changes(node: Any) -> List[Any]:
    """Return the statements inside another one that change rows: in WITH, in COPY (…) TO, in the actions of a rule.

    What a function does, with BEGIN ATOMIC, is in its body.
    """
    several = (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
    return [child for _, child in walk(node) if child is not node and is_node(child, *several)]


def changes_at_once(node: Any) -> List[Any]:
    """Return those of them that run with the statement: not those of a rule or a function."""
    return [] if is_node(node, ast.RuleStmt, ast.CreateFunctionStmt) else row_changes(node)


def string_list(value: Any) -> Optional[Tuple[str, ...]]:
    """Return the texts of a list of String nodes, or ``None`` if it is anything else."""
    if isinstance(value, tuple) and value and all(is_node(item, ast.String) for item in value):
        return tuple(item.sval for item in value)
    return None


def name_pair(parts: Sequence[str]) -> Tuple[str, str]:
    """Return the schema ('' without one) and the name of a dotted name."""
    return (parts[-2] if len(parts) > 1 else "", parts[-1])


def relation_pair(relation: Any) -> Tuple[str, str]:
    """Return schema and name of a RangeVar; the schema is '' when it has none."""
    return relation.schemaname or "", relation.relname


def added_columns(node: Any) -> Tuple[str, ...]:
    """Return the columns that an ALTER TABLE adds for certain; none for any other statement."""
    if not is_node(node, ast.AlterTableStmt):
        return ()
    added = (one for one in node.cmds if one.subtype == enums.AlterTableType.AT_AddColumn and not one.missing_ok)
    return tuple(one.def_.colname for one in added)
