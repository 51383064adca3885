# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which objects a file has made when a statement of it runs: a name may be an older object's before, and again after. Controller only."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import SqlPiece
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    added_columns,
    is_node,
    name_pair,
    relation_pair,
    string_list,
)

try:
    from pglast import ast, enums
    from pglast.stream import RawStream
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: An object: what it is, and its names from the schema on. What belongs to a table begins with the names of that table.
Key = Tuple[str, ...]

#: Object types whose statements name a relation.
RELATION_TYPES = frozenset(
    f"OBJECT_{kind}" for kind in ("TABLE", "VIEW", "MATVIEW", "SEQUENCE", "INDEX", "FOREIGN_TABLE")
)

_PARTS = {
    "OBJECT_COLUMN": "column",
    "OBJECT_TABCONSTRAINT": "constraint",
    "OBJECT_TRIGGER": "trigger",
    "OBJECT_POLICY": "policy",
    "OBJECT_RULE": "rule",
}
_ROUTINES = ("OBJECT_FUNCTION", "OBJECT_PROCEDURE", "OBJECT_ROUTINE", "OBJECT_AGGREGATE")


class Made:
    """What the statements before one have made for certain, and is still there; each with the number of the statement that made it."""

    def __init__(self) -> None:
        self._by_key: Dict[Key, int] = {}

    def has(self, key: Key) -> bool:
        """Return whether an object, or the table that it belongs to, was made."""
        return key in self._by_key or (key[0] in _PARTS.values() and ("relation", *key[1:3]) in self._by_key)

    def maker(self, key: Key) -> Optional[int]:
        """Return the number of the statement that made the object itself."""
        return self._by_key.get(key)

    def relations(self) -> Set[Tuple[str, str]]:
        """Return schema and name of each relation."""
        return {(key[1], key[2]) for key in self._by_key if key[0] == "relation"}

    def pass_over(self, node: Any, number: int) -> None:
        """Take in what a statement makes, drops and renames."""
        for gone in dropped(node):
            self._remove(gone)
        old_and_new = moved(node)
        if old_and_new:
            self._move(*old_and_new)
        self._by_key.update(dict.fromkeys(made_by(node), number))

    def _under(self, key: Key) -> List[Key]:
        inside = [*_PARTS.values()] if key[0] == "relation" else [*_PARTS.values(), "relation", "type", "routine"]
        holds = key[0] in ("relation", "schema")
        return [
            one for one in self._by_key if one == key or (holds and one[0] in inside and one[1 : len(key)] == key[1:])
        ]

    def _remove(self, key: Key) -> None:
        for one in self._under(key):
            del self._by_key[one]

    def _move(self, old: Key, new: Key) -> None:
        for one in self._under(old):
            moved = new if one == old else (one[0], *new[1:], *one[len(old) :])
            self._by_key[moved] = self._by_key.pop(one)


def states(pieces: Sequence[SqlPiece]) -> Iterator[Tuple[SqlPiece, Made]]:
    """Yield each statement with what is made before it; the same object, taken on from one to the next."""
    made = Made()
    for number, piece in enumerate(pieces, start=1):
        yield piece, made
        made.pass_over(piece.node, number)


def made_by(node: Any) -> List[Key]:  # noqa: PLR0911 - one for each kind of statement
    """Return what a statement makes for certain: not what IF NOT EXISTS or OR REPLACE may have left as it was."""
    if uncertain(node):
        return []
    if is_node(node, ast.CreateSchemaStmt):
        return [("schema", node.schemaname)] if node.schemaname else []
    if is_node(node, ast.IndexStmt):
        # an index is in the schema of its table
        return [("relation", node.relation.schemaname or "", node.idxname)] if node.idxname else []
    if is_node(node, ast.CreateFunctionStmt):
        return [routine_key(node)]
    if is_node(node, ast.CreateTrigStmt):
        return [("trigger", *relation_pair(node.relation), node.trigname)]
    if is_node(node, ast.CreatePolicyStmt):
        return [("policy", *relation_pair(node.table), node.policy_name)]
    if is_node(node, ast.AlterTableStmt):
        return [*_added(node)]
    if is_node(node, ast.CreateEnumStmt, ast.CreateRangeStmt, ast.CreateDomainStmt):
        names = string_list(node.domainname if is_node(node, ast.CreateDomainStmt) else node.typeName) or ("",)
        return [("type", *name_pair(names))]
    relation = made_relation(node)
    kind = "type" if is_node(node, ast.CompositeTypeStmt) else "relation"
    return [(kind, *relation_pair(relation))] if relation is not None else []


def uncertain(node: Any) -> bool:
    """Return whether a statement may leave, or replace, what was there before: IF NOT EXISTS, OR REPLACE."""
    base = node.base if is_node(node, ast.CreateForeignTableStmt) else node
    return bool(getattr(base, "if_not_exists", False) or getattr(base, "replace", False))


def made_relation(node: Any) -> Any:
    """Return the RangeVar of what CREATE TABLE, VIEW, SEQUENCE and the like make, or None."""
    if is_node(node, ast.CreateForeignTableStmt):
        return node.base.relation
    if is_node(node, ast.CreateStmt):
        return node.relation
    if is_node(node, ast.CreateTableAsStmt):
        return node.into.rel
    if is_node(node, ast.ViewStmt):
        return node.view
    if is_node(node, ast.CreateSeqStmt):
        return node.sequence
    return node.typevar if is_node(node, ast.CompositeTypeStmt) else None


def _added(node: Any) -> Iterator[Key]:
    table = relation_pair(node.relation)
    if node.missing_ok:
        return
    yield from (("column", *table, column) for column in added_columns(node))
    for command in node.cmds:
        if command.subtype == enums.AlterTableType.AT_AddConstraint and command.def_.conname:
            yield ("constraint", *table, command.def_.conname)


def routine_key(node: Any) -> Key:
    """Return the key of a function or procedure by its CREATE statement, or by a name with the types of its arguments."""
    if is_node(node, ast.ObjectWithArgs):
        return ("routine", *name_pair(string_list(node.objname) or ("",)), _types(node.objargs))
    given = ("FUNC_PARAM_IN", "FUNC_PARAM_INOUT", "FUNC_PARAM_VARIADIC", "FUNC_PARAM_DEFAULT")
    types = [one.argType for one in node.parameters or () if one.mode.name in given]
    return ("routine", *name_pair(string_list(node.funcname) or ("",)), _types(types))


def _types(types: Any) -> str:
    return ", ".join(RawStream()(one) for one in types or ())


def dropped(node: Any) -> List[Key]:
    """Return what a statement drops by name; of a schema everything in it goes as well."""
    if is_node(node, ast.DropStmt):
        return [key for key in (object_key(node.removeType.name, item) for item in node.objects) if key]
    if not is_node(node, ast.AlterTableStmt):
        return []
    gone = {enums.AlterTableType.AT_DropColumn: "column", enums.AlterTableType.AT_DropConstraint: "constraint"}
    table = relation_pair(node.relation)
    return [(gone[one.subtype], *table, one.name) for one in node.cmds if one.subtype in gone]


def object_key(kind: str, item: Any) -> Optional[Key]:  # noqa: PLR0911 - one for each kind of object
    """Return the key of what COMMENT, DROP, GRANT and the like name, None for objects that nothing is known of."""
    if is_node(item, ast.RangeVar):
        return ("relation", *relation_pair(item))
    if kind == "OBJECT_SCHEMA":
        return ("schema", item.sval)
    if kind in _ROUTINES:
        return routine_key(item)
    names = string_list(item.names if is_node(item, ast.TypeName) else item)
    if not names:
        return None
    if kind in ("OBJECT_TYPE", "OBJECT_DOMAIN"):
        return ("type", *name_pair(names))
    if kind in RELATION_TYPES:
        return ("relation", *name_pair(names))
    if kind in _PARTS:
        return (_PARTS[kind], *name_pair(names[:-1] or ("",)), names[-1])
    return None


def moved(node: Any) -> Optional[Tuple[Key, Key]]:
    """Return the keys of what a statement renames, or moves to another schema, before and after."""
    if is_node(node, ast.AlterObjectSchemaStmt):
        item = node.relation if node.relation is not None else node.object
        old = object_key(node.objectType.name, item)
        return (old, (old[0], node.newschema, *old[2:])) if old else None
    if not is_node(node, ast.RenameStmt):
        return None
    kind = node.renameType.name
    if kind == "OBJECT_SCHEMA":
        return ("schema", node.subname), ("schema", node.newname)
    if kind in _PARTS:
        table = relation_pair(node.relation)
        return (_PARTS[kind], *table, node.subname), (_PARTS[kind], *table, node.newname)
    old = object_key(kind, node.relation if node.relation is not None else node.object)
    return (old, (*old[:2], node.newname, *old[3:])) if old else None
