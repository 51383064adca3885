# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which privileges a statement needs, by its parse tree. Controller only.

A need is a text: the privilege, a blank, and the name (``_postgres.privileges`` lists them all). A name without a schema is one that the
server searches for. What a phase needs only on objects that it creates itself is left out. Source of the rules: the page of each
command in the PostgreSQL manual, and its chapter 5.7.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import is_node

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: The attributes whose relations are only read.
READ_PLACES = frozenset({"fromClause", "usingClause", "sourceRelation", "larg", "rarg"})

#: A relation: schema ('' when there is none), name, whether it is only read.
Relation = Tuple[str, str, bool]

#: Statements that only the owner of their relation may run.
_OF_OWNERS = frozenset(
    {
        "AlterPolicyStmt",
        "AlterSeqStmt",
        "AlterTableStmt",
        "ClusterStmt",
        "CommentStmt",
        "CreatePolicyStmt",
        "CreateStatsStmt",
        "IndexStmt",
        "RefreshMatViewStmt",
        "ReindexStmt",
        "RenameStmt",
        "RuleStmt",
    }
)

#: Statements that create something → the attribute with its name.
_MAKING: Dict[str, str] = {
    "CompositeTypeStmt": "typevar",
    "CreateDomainStmt": "domainname",
    "CreateEnumStmt": "typeName",
    "CreateForeignTableStmt": "base",
    "CreateFunctionStmt": "funcname",
    "CreateRangeStmt": "typeName",
    "CreateSeqStmt": "sequence",
    "CreateStmt": "relation",
    "CreateTableAsStmt": "into",
    "DefineStmt": "defnames",
    "IndexStmt": "relation",
    "ViewStmt": "view",
}


def needs_of(
    node: Any,
    parts: Sequence[Tuple[str, Any]],
    relations: Set[Relation],
    quoted: Callable[[str, str], str],
) -> Set[str]:
    """Return what a statement needs. ``parts`` are its nodes, each with its place; ``relations`` the names among them."""
    needs = {f"SELECT {quoted(schema, name)}" for schema, name, read in relations if read}
    written = {quoted(schema, name) for schema, name, read in relations if not read}
    for _, part in parts:
        if is_node(part, ast.Constraint) and part.pktable is not None:
            other = quoted(part.pktable.schemaname or "", part.pktable.relname)
            needs.add(f"REFERENCES {other}")
            written.discard(other)
        elif is_node(part, ast.FuncCall) and len(part.funcname) > 1 and part.funcname[0].sval != "pg_catalog":
            needs.add(f"EXECUTE {quoted(part.funcname[-2].sval, part.funcname[-1].sval)}")
    own = _own(node, quoted) or written
    kind = type(node).__name__
    if kind in _OF_OWNERS:
        needs |= {f"OWNER {name}" for name in own}
    elif kind == "DropStmt":
        needs |= {f"DROP {name}" for name in own}
    elif kind in _TABLE_PRIVILEGES:
        needs |= {f"{privilege} {name}" for name in own for privilege in _TABLE_PRIVILEGES[kind](node, parts)}
    if kind in _MAKING and not _temporary(node):
        needs |= {f"CREATE {quoted('', schema)}" for schema in _schema(getattr(node, _MAKING[kind]))}
    return needs | set(_others(node, quoted))


def _own(node: Any, quoted: Callable[[str, str], str]) -> Set[str]:
    """Return the name of the one relation that a statement is about; empty when it cannot be found this way."""
    relation: Any = getattr(node, "relation", None)
    if not is_node(relation, ast.RangeVar):
        return set()
    return {quoted(relation.schemaname or "", relation.relname)}


def _temporary(node: Any) -> bool:
    into: Any = getattr(node, "into", None)
    relation = into.rel if is_node(into, ast.IntoClause) else getattr(node, "relation", None)
    return getattr(relation, "relpersistence", "") == "t"


def _schema(name: Any) -> Iterator[str]:
    """Yield the schema of a name in one of the forms that the grammar has for it."""
    if is_node(name, ast.IntoClause):
        name = name.rel
    elif is_node(name, ast.CreateStmt):
        name = name.relation
    if is_node(name, ast.RangeVar):
        if name.schemaname:
            yield name.schemaname
    elif is_node(name, tuple) and len(name) > 1:
        yield name[-2].sval


def _others(node: Any, quoted: Callable[[str, str], str]) -> Iterator[str]:
    """Yield what only one kind of statement needs."""
    if is_node(node, ast.CreateSchemaStmt):
        yield "DATABASE"
    elif is_node(node, ast.CreateTrigStmt) and len(node.funcname) > 1:
        yield f"EXECUTE {quoted(node.funcname[-2].sval, node.funcname[-1].sval)}"
    elif is_node(node, ast.AlterTableStmt):
        for command in node.cmds:
            if command.subtype.name == "AT_ChangeOwner" and command.newowner.rolename:
                yield f"ROLE {quoted('', command.newowner.rolename)}"
    elif is_node(node, ast.LockStmt) and node.mode == _ROW_EXCLUSIVE:
        for relation in node.relations:
            yield f"LOCK {quoted(relation.schemaname or '', relation.relname)}"


#: The mode of LOCK TABLE that a statement takes which writes (lockdefs.h).
_ROW_EXCLUSIVE = 3


def _reads_itself(parts: Iterable[Tuple[str, Any]]) -> bool:
    return any(is_node(part, ast.ColumnRef) for _, part in parts)


def _insert(node: Any, _parts: Sequence[Tuple[str, Any]]) -> List[str]:
    conflict: Optional[Any] = node.onConflictClause
    updates = conflict is not None and conflict.action.name == "ONCONFLICT_UPDATE"
    reads = node.returningClause is not None or (conflict is not None and conflict.infer is not None)
    return ["INSERT", *(["UPDATE"] if updates else []), *(["SELECT"] if reads else [])]


def _update(_node: Any, parts: Sequence[Tuple[str, Any]]) -> List[str]:
    return ["UPDATE", *(["SELECT"] if _reads_itself(parts) else [])]


def _delete(_node: Any, parts: Sequence[Tuple[str, Any]]) -> List[str]:
    return ["DELETE", *(["SELECT"] if _reads_itself(parts) else [])]


def _merge(node: Any, _parts: Sequence[Tuple[str, Any]]) -> List[str]:
    known: FrozenSet[str] = frozenset({"INSERT", "UPDATE", "DELETE"})
    done = {clause.commandType.name[len("CMD_") :] for clause in node.mergeWhenClauses}
    return ["SELECT", *sorted(done & known)]


#: Statements that a privilege on their relation allows → those privileges.
_TABLE_PRIVILEGES: Dict[str, Callable[[Any, Sequence[Tuple[str, Any]]], List[str]]] = {
    "CopyStmt": lambda node, _parts: ["INSERT" if node.is_from else "SELECT"],
    "CreateTrigStmt": lambda _node, _parts: ["TRIGGER"],
    "DeleteStmt": _delete,
    "InsertStmt": _insert,
    "MergeStmt": _merge,
    "TruncateStmt": lambda _node, _parts: ["TRUNCATE"],
    "UpdateStmt": _update,
}
