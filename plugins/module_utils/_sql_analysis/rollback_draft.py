# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draft a rollback from a migration's parse tree. Controller only.

Only what has one certain inverse is inverted; a person writes the rest, and the draft says where.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, qualified
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.check_query import query_problem
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import (
    SqlPiece,
    outer_pieces,
    transaction_pieces,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    added_columns,
    is_node,
    name_pair,
    relation_pair,
)

try:
    from pglast import ast, enums
    from pglast.stream import RawStream
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: What begins the comment of each statement that a person must undo.
BY_HAND = "-- WRITE BY HAND:"


@dataclass(frozen=True)
class RollbackDraft:
    """The text of rollback.sql, and the lines of the migration whose statements have no certain inverse."""

    text: str
    by_hand: List[int]


def draft_rollback(pieces: Sequence[SqlPiece]) -> RollbackDraft:
    """Return the rollback of a migration's statements, the last one first.

    Statements that change nothing that lasts (BEGIN, COMMIT, SET LOCAL) need no inverse.
    """
    outer = outer_pieces(transaction_pieces(pieces))
    lines: List[str] = []
    by_hand: List[int] = []
    made, added = created_tables(pieces), _added_columns(pieces)
    for number, piece in reversed(list(enumerate(pieces, start=1))):
        if number in outer or _leaves_nothing(piece) or _goes_with(piece.node, made, added):
            continue
        inverse = _inverse(piece.node)
        if inverse is None:
            by_hand.append(piece.line)
            lines.append(f"{BY_HAND} line {piece.line}: {' '.join(piece.text.split())[:120]}")
        else:
            lines.extend(inverse)
    return RollbackDraft("\n".join(["BEGIN;", "", *lines, "", "COMMIT;", ""]), sorted(by_hand))


def created_tables(pieces: Sequence[SqlPiece]) -> Set[Tuple[str, str]]:
    """Return schema and name of each table that the statements create for certain, and that a rollback drops."""
    return {
        (piece.node.relation.schemaname, piece.node.relation.relname)
        for piece in pieces
        if is_node(piece.node, ast.CreateStmt) and not piece.node.if_not_exists and piece.node.relation.schemaname
    }


def _leaves_nothing(piece: SqlPiece) -> bool:
    """Return whether a statement is SET LOCAL, which ends with the transaction, or only reads."""
    if is_node(piece.node, ast.SelectStmt):
        return query_problem(piece.text.strip(), frozenset()) is None
    return is_node(piece.node, ast.VariableSetStmt) and bool(piece.node.is_local)


def _added_columns(pieces: Sequence[SqlPiece]) -> Set[Tuple[str, str, str]]:
    """Return schema, table and name of each column that the statements add for certain."""
    return {(*relation_pair(piece.node.relation), column) for piece in pieces for column in added_columns(piece.node)}


def _goes_with(node: Any, made: Set[Tuple[str, str]], added: Set[Tuple[str, str, str]]) -> bool:
    """Return whether what a statement does is gone with a table or with columns that the migration makes itself."""
    if (
        is_node(node, ast.UpdateStmt)
        and {(*relation_pair(node.relation), one.name) for one in node.targetList} <= added
    ):
        return True
    if is_node(node, ast.GrantStmt):
        tables = node.objects or ()
        return bool(tables) and all(is_node(one, ast.RangeVar) and relation_pair(one) in made for one in tables)
    if is_node(node, ast.CommentStmt):
        cut = {"OBJECT_TABLE": None, "OBJECT_COLUMN": -1}
        if node.objtype.name not in cut or not isinstance(node.object, tuple):
            return False
        return name_pair([part.sval for part in node.object][: cut[node.objtype.name]]) in made
    if is_node(node, ast.CreatePolicyStmt):
        return relation_pair(node.table) in made
    known = (ast.IndexStmt, ast.AlterTableStmt, ast.CreateTrigStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)
    return is_node(node, *known) and relation_pair(node.relation) in made


def _inverse(node: Any) -> Optional[List[str]]:  # noqa: PLR0911 - one for each kind of statement
    """Return the statements that undo a statement, or None when no inverse is certain.

    IF NOT EXISTS and OR REPLACE have none: what was there before must stay.
    """
    if is_node(node, ast.CreateStmt):
        return None if node.if_not_exists or not node.relation.schemaname else [_drop("TABLE", node.relation)]
    if is_node(node, ast.IndexStmt):
        # an index is in the schema of its table
        certain = node.idxname and node.relation.schemaname and not node.if_not_exists
        # one that is built after COMMIT may be missing
        missing = "IF EXISTS " if node.concurrent else ""
        return [f"DROP INDEX {missing}{qualified(node.relation.schemaname, node.idxname)};"] if certain else None
    if is_node(node, ast.ViewStmt):
        return None if node.replace or not node.view.schemaname else [_drop("VIEW", node.view)]
    if is_node(node, ast.CreateSchemaStmt):
        certain = node.schemaname and not node.if_not_exists and not node.schemaElts
        return [f"DROP SCHEMA {identifier(node.schemaname)};"] if certain else None
    if is_node(node, ast.CreateEnumStmt):
        schema, name = name_pair([part.sval for part in node.typeName])
        return [f"DROP TYPE {qualified(schema, name)};"] if schema else None
    if is_node(node, ast.AlterTableStmt):
        return _altered_back(node)
    if is_node(node, ast.CreateFunctionStmt):
        return _function_dropped(node)
    if is_node(node, ast.CreateTrigStmt):
        certain = not node.replace and not node.isconstraint and node.relation.schemaname
        return (
            [f"DROP TRIGGER {identifier(node.trigname)} ON {qualified(*relation_pair(node.relation))};"]
            if certain
            else None
        )
    if is_node(node, ast.CreatePolicyStmt):
        certain = bool(node.table.schemaname)
        return (
            [f"DROP POLICY {identifier(node.policy_name)} ON {qualified(*relation_pair(node.table))};"]
            if certain
            else None
        )
    return None


def _function_dropped(node: Any) -> Optional[List[str]]:
    schema, name = name_pair([part.sval for part in node.funcname])
    if node.replace or not schema:
        return None
    given = ("FUNC_PARAM_IN", "FUNC_PARAM_INOUT", "FUNC_PARAM_VARIADIC", "FUNC_PARAM_DEFAULT")
    types = [RawStream()(one.argType) for one in node.parameters or () if one.mode.name in given]
    kind = "PROCEDURE" if node.is_procedure else "FUNCTION"
    return [f"DROP {kind} {qualified(schema, name)}({', '.join(types)});"]


def _altered_back(node: Any) -> Optional[List[str]]:
    """Return the inverse of an ALTER TABLE that only adds columns and named constraints."""
    if node.objtype != enums.ObjectType.OBJECT_TABLE or node.missing_ok or not node.relation.schemaname:
        return None
    found: List[str] = []
    for command in reversed(node.cmds):
        if command.missing_ok:
            return None
        if command.subtype == enums.AlterTableType.AT_AddColumn:
            found.append(f"DROP COLUMN {identifier(command.def_.colname)}")
        elif command.subtype == enums.AlterTableType.AT_AddConstraint and _leaves_with_its_constraint(command.def_):
            found.append(f"DROP CONSTRAINT {identifier(command.def_.conname)}")
        else:
            return None
    only = "" if node.relation.inh else "ONLY "
    table = qualified(node.relation.schemaname, node.relation.relname)
    return [f"ALTER TABLE {only}{table} {', '.join(found)};"]


def _leaves_with_its_constraint(constraint: Any) -> bool:
    """Return whether DROP CONSTRAINT undoes it: a primary key leaves NOT NULL behind, USING INDEX took an index that was there."""
    primary = constraint.contype == enums.ConstrType.CONSTR_PRIMARY
    return bool(constraint.conname) and not primary and not constraint.indexname


def _drop(kind: str, relation: Any) -> str:
    return f"DROP {kind} {qualified(relation.schemaname, relation.relname)};"
