# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draft the rollback of a migration from its parse tree. Controller only.

Only what has one certain inverse is inverted; a person writes the rest, and the draft says where and what. An inverse may be
certain because of what a check of preflight finds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    identifier,
    qualified,
    readable_literal,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.check_query import query_problem
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.made_objects import (
    RELATION_TYPES,
    Key,
    Made,
    dropped,
    made_relation,
    moved,
    object_key,
    routine_key,
    states,
    uncertain,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import collect_names
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.parsing import parse_sql
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import (
    SqlPiece,
    outer_pieces,
    transaction_pieces,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    name_pair,
    relation_pair,
    string_list,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.undo_notes import what_is_needed

try:
    import pglast
    from pglast import ast, enums
    from pglast.stream import RawStream
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: What begins the comment of each statement that a person must undo.
BY_HAND = "-- WRITE BY HAND:"

#: A check of preflight: title, SQL, answer.
Assumption = Tuple[str, str, object]


@dataclass(frozen=True)
class RollbackDraft:
    """The text of rollback.sql, the lines of the migration whose statements have no certain inverse, and what the others assume."""

    text: str
    by_hand: List[int]
    assumed: List[Assumption] = field(default_factory=list)


def draft_rollback(pieces: Sequence[SqlPiece]) -> RollbackDraft:
    """Return the rollback of a migration's statements, the last one first.

    Statements that change nothing that lasts (BEGIN, COMMIT, SET LOCAL) need no inverse, nor does what the migration itself drops again.
    """
    outer = outer_pieces(transaction_pieces(pieces))
    undone: Dict[int, Optional[List[str]]] = {}
    assumed: List[Assumption] = []
    # what a name means at the beginning is something else than what it means later
    renamed: Set[Key] = set()
    switched: Set[Key] = set()
    several = {
        number for number, piece in enumerate(pieces, start=1) if len(getattr(piece.node, "cmds", None) or ()) > 1
    }
    for number, (piece, made) in enumerate(states(pieces), start=1):
        if number in outer or _leaves_nothing(piece):
            continue
        makers = _makers_of_gone(piece.node, made)
        if makers and not makers & several:
            # made and dropped: the rollback finds neither
            undone.update({one: [] for one in makers})
        elif not _goes_with(piece.node, made):
            undone[number] = _inverse(piece.node, made, renamed, switched, assumed)
        switched |= _switched(piece.node)
        renamed |= {*dropped(piece.node), *(moved(piece.node) or ())}
    lines = [line for number in sorted(undone, reverse=True) for line in _lines(pieces[number - 1], undone[number])]
    by_hand = sorted(pieces[number - 1].line for number, inverse in undone.items() if inverse is None)
    return RollbackDraft("\n".join(["BEGIN;", "", *lines, "", "COMMIT;", ""]), by_hand, list(dict.fromkeys(assumed)))


def _lines(piece: SqlPiece, inverse: Optional[List[str]]) -> List[str]:
    if inverse is not None:
        return inverse
    needed = what_is_needed(piece.node)
    told = [f"{BY_HAND} line {piece.line}: {' '.join(piece.text.split())[:120]}"]
    return [*told, *([f"--   needed: {needed}"] if needed else [])]


def _leaves_nothing(piece: SqlPiece) -> bool:
    """Return whether a statement changes nothing that lasts: SET LOCAL ends with the transaction, like what is temporary."""
    node = piece.node
    if is_node(node, ast.SelectStmt):
        return query_problem(piece.text.strip(), frozenset()) is None
    if is_node(node, ast.VariableSetStmt):
        return bool(node.is_local)
    relation = made_relation(node)
    if relation is not None and (relation.relpersistence == "t" or relation.schemaname == "pg_temp"):
        return not _calls_others(node)
    return is_node(node, ast.LockStmt, ast.ReindexStmt, ast.CheckPointStmt) or (
        is_node(node, ast.VacuumStmt) and not node.is_vacuumcmd
    )


def _makers_of_gone(node: Any, made: Made) -> Set[int]:
    """Return the statements that made what a statement drops, or gives to a table of the migration; none where others are with it."""
    if is_node(node, ast.AlterSeqStmt):
        (option, *more) = node.options or (None,)
        *table, _column = (string_list(option.arg) if option and option.defname == "owned_by" else None) or ("",)
        owned = not more and made.has(("relation", *name_pair(table or ("",))))
        return _makers(made, [("relation", *relation_pair(node.sequence))]) if owned else set()
    if is_node(node, ast.AlterTableStmt) and _has(made, node.relation):
        taken = [one.def_.name for one in node.cmds if one.subtype == enums.AlterTableType.AT_AttachPartition]
        if taken:
            return _makers(made, [("relation", *relation_pair(one)) for one in taken])
    parts = node.cmds if is_node(node, ast.AlterTableStmt) else node.objects if is_node(node, ast.DropStmt) else ()
    behaviours = {getattr(one, "behavior", None) for one in (node, *parts)}
    keys = dropped(node)
    if enums.DropBehavior.DROP_CASCADE in behaviours or len(keys) != len(parts):
        return set()
    return _makers(made, keys)


def _makers(made: Made, keys: Sequence[Key]) -> Set[int]:
    makers = [made.maker(key) for key in keys]
    return {one for one in makers if one is not None} if None not in makers else set()


def _calls_others(node: Any) -> bool:
    """Return whether a statement calls a function that may write elsewhere."""
    names = [name_pair(string_list(call.funcname) or ("",)) for call in collect_names(node).calls]
    return any(schema not in ("", "pg_catalog") for schema, _name in names)


_ROWS = ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CopyStmt")


def _goes_with(node: Any, made: Made) -> bool:
    """Return whether what a statement does is gone with objects that the migration has made before it."""
    kind = type(node).__name__
    if kind in _ROWS and (_calls_others(node) or (is_node(node, ast.CopyStmt) and not node.is_from)):
        return False
    if is_node(node, ast.TruncateStmt) and node.behavior.name == "DROP_CASCADE":
        return False
    if is_node(node, ast.AlterTableStmt) and any(_takes_partition(one, made) for one in node.cmds):
        return False
    keys = _SUBJECTS[kind](node) if kind in _SUBJECTS else []
    return bool(keys) and all(key is not None and made.has(key) for key in keys)


def _of_relation(node: Any) -> List[Optional[Key]]:
    return [("relation", *relation_pair(node.relation))] if node.relation is not None else []


def _of_part(node: Any) -> List[Optional[Key]]:
    return [] if node.renameType.name in RELATION_TYPES else _of_relation(node)


def _of_objects(node: Any) -> List[Optional[Key]]:
    named = node.targtype.name == "ACL_TARGET_OBJECT"
    return [object_key(node.objtype.name, one) for one in node.objects or ()] if named else []


#: Statement → the objects that it changes.
_SUBJECTS: Dict[str, Callable[[Any], List[Optional[Key]]]] = {
    **dict.fromkeys(
        (*_ROWS, "IndexStmt", "AlterTableStmt", "CreateTrigStmt", "RuleStmt", "RefreshMatViewStmt", "ClusterStmt"),
        _of_relation,
    ),
    **dict.fromkeys(("CreatePolicyStmt", "AlterPolicyStmt"), lambda node: [("relation", *relation_pair(node.table))]),
    "AlterEnumStmt": lambda node: [("type", *name_pair(string_list(node.typeName) or ("",)))],
    "AlterSeqStmt": lambda node: [("relation", *relation_pair(node.sequence))],
    "CommentStmt": lambda node: [object_key(node.objtype.name, node.object)],
    "GrantStmt": _of_objects,
    "RenameStmt": _of_part,
    "TruncateStmt": lambda node: [("relation", *relation_pair(one)) for one in node.relations],
    # a backfill goes with its columns
    "UpdateStmt": lambda node: [("column", *relation_pair(node.relation), one.name) for one in node.targetList],
}


def _has(made: Made, relation: Any) -> bool:
    return made.has(("relation", *relation_pair(relation)))


def _takes_partition(command: Any, made: Made) -> bool:
    """Return whether a subcommand attaches a table that was there before, which would be dropped with its parent, or detaches one."""
    if not is_node(command.def_, ast.PartitionCmd):
        return False
    return command.subtype != enums.AlterTableType.AT_AttachPartition or not _has(made, command.def_.name)


def _inverse(
    node: Any, made: Made, renamed: Set[Key], switched: Set[Key], assumed: List[Assumption]
) -> Optional[List[str]]:
    """Return the statements that undo a statement, or None when no inverse is certain.

    IF NOT EXISTS and OR REPLACE have none: what was there before must stay. ``assumed`` receives what the inverse depends on, but
    for what an earlier statement has ``switched``: that is known.
    """
    undo = _UNDO.get(type(node).__name__)
    if undo:
        return undo(node)
    if is_node(node, ast.AlterTableStmt):
        states_before: Dict[Key, Assumption] = {}
        back = _altered_back(node, made, states_before)
        needs = [one for key, one in states_before.items() if key not in switched]
        # preflight looks at what has the name before
        elsewhere = any(key[0] == "schema" or key[1:3] == relation_pair(node.relation) for key in renamed)
        if back is None or (needs and elsewhere):
            return None
        assumed += needs
        return back
    if is_node(node, ast.RenameStmt, ast.AlterObjectSchemaStmt, ast.AlterEnumStmt):
        return _named_back(node)
    return None


def _index_dropped(node: Any) -> Optional[List[str]]:
    # an index is in the schema of its table
    certain = node.idxname and node.relation.schemaname and not node.if_not_exists
    # one that is built after COMMIT may be missing
    missing = "IF EXISTS " if node.concurrent else ""
    return [f"DROP INDEX {missing}{qualified(node.relation.schemaname, node.idxname)};"] if certain else None


def _schema_dropped(node: Any) -> Optional[List[str]]:
    certain = node.schemaname and not node.if_not_exists and not node.schemaElts
    return [f"DROP SCHEMA {identifier(node.schemaname)};"] if certain else None


def _type_dropped(node: Any) -> Optional[List[str]]:
    domain = is_node(node, ast.CreateDomainStmt)
    schema, name = name_pair(string_list(node.domainname if domain else node.typeName) or ("",))
    return [f"DROP {'DOMAIN' if domain else 'TYPE'} {qualified(schema, name)};"] if schema else None


def _function_dropped(node: Any) -> Optional[List[str]]:
    _kind, schema, name, types = routine_key(node)
    if node.replace or not schema:
        return None
    kind = "PROCEDURE" if node.is_procedure else "FUNCTION"
    return [f"DROP {kind} {qualified(schema, name)}({types});"]


def _trigger_dropped(node: Any) -> Optional[List[str]]:
    if node.replace or node.isconstraint or not node.relation.schemaname:
        return None
    return [f"DROP TRIGGER {identifier(node.trigname)} ON {qualified(*relation_pair(node.relation))};"]


def _policy_dropped(node: Any) -> Optional[List[str]]:
    if not node.table.schemaname:
        return None
    return [f"DROP POLICY {identifier(node.policy_name)} ON {qualified(*relation_pair(node.table))};"]


def _relation_dropped(node: Any) -> Optional[List[str]]:
    relation = made_relation(node)
    if uncertain(node) or not relation.schemaname:
        return None
    kind = _RELATION_WORDS[type(node).__name__]
    if is_node(node, ast.CreateTableAsStmt):
        if _calls_others(node):
            return None
        kind = "MATERIALIZED VIEW" if node.objtype.name == "OBJECT_MATVIEW" else kind
    return [f"DROP {kind} {qualified(relation.schemaname, relation.relname)};"]


_RELATION_WORDS = {
    "CompositeTypeStmt": "TYPE",
    "CreateForeignTableStmt": "FOREIGN TABLE",
    "CreateSeqStmt": "SEQUENCE",
    "CreateStmt": "TABLE",
    "CreateTableAsStmt": "TABLE",
    "ViewStmt": "VIEW",
}

_UNDO = {
    **dict.fromkeys(_RELATION_WORDS, _relation_dropped),
    **dict.fromkeys(("CreateEnumStmt", "CreateRangeStmt", "CreateDomainStmt"), _type_dropped),
    "CreateFunctionStmt": _function_dropped,
    "CreatePolicyStmt": _policy_dropped,
    "CreateSchemaStmt": _schema_dropped,
    "CreateTrigStmt": _trigger_dropped,
    "IndexStmt": _index_dropped,
}

#: Subcommand of ALTER TABLE → its inverse, and the column of pg_class that tells whether it was so before, with the value then.
_SWITCHES: Dict[str, Tuple[str, str, bool]] = {
    "AT_EnableRowSecurity": ("DISABLE ROW LEVEL SECURITY", "relrowsecurity", False),
    "AT_DisableRowSecurity": ("ENABLE ROW LEVEL SECURITY", "relrowsecurity", True),
    "AT_ForceRowSecurity": ("NO FORCE ROW LEVEL SECURITY", "relforcerowsecurity", False),
    "AT_NoForceRowSecurity": ("FORCE ROW LEVEL SECURITY", "relforcerowsecurity", True),
}

_NULL_SWITCHES = ("AT_SetNotNull", "AT_DropNotNull")

#: Subcommands about one column or constraint, which go with one that the migration has added.
_OF_COLUMN = (
    "AT_ColumnDefault",
    "AT_SetNotNull",
    "AT_DropNotNull",
    "AT_AlterColumnType",
    "AT_SetStatistics",
    "AT_SetStorage",
)
_OF_CONSTRAINT = ("AT_ValidateConstraint", "AT_AlterConstraint")


def _switched(node: Any) -> Set[Key]:
    """Return which states a statement sets, so that they are known after it."""
    if not is_node(node, ast.AlterTableStmt):
        return set()
    table = relation_pair(node.relation)
    return {_state(one, table) for one in node.cmds if one.subtype.name in (*_SWITCHES, *_NULL_SWITCHES)}


def _state(command: Any, table: Tuple[str, str]) -> Key:
    """Return the name of the state that a subcommand sets."""
    kind = command.subtype.name
    return (_SWITCHES[kind][1], *table) if kind in _SWITCHES else ("attnotnull", *table, command.name)


def _altered_back(node: Any, made: Made, needs: Dict[Key, Assumption]) -> Optional[List[str]]:
    """Return the inverse of an ALTER TABLE, or None where one of its subcommands has no certain one; ``needs`` receives what it depends on."""
    if node.objtype != enums.ObjectType.OBJECT_TABLE or node.missing_ok or not node.relation.schemaname:
        return None
    table = relation_pair(node.relation)
    added: Set[Key] = set()
    found: List[str] = []
    for command in node.cmds:
        part = "constraint" if command.subtype.name in _OF_CONSTRAINT else "column"
        key = (part, *table, command.name or "")
        if command.subtype.name in (*_OF_COLUMN, *_OF_CONSTRAINT) and (key in added or made.has(key)):
            continue
        if command.subtype.name == "AT_AttachPartition" and _has(made, command.def_.name):
            # dropped, it is no partition any more
            continue
        back = _subcommand_back(command, table, needs)
        if back is None:
            return None
        if command.subtype.name == "AT_AddColumn":
            added.add(("column", *table, command.def_.colname))
        found.insert(0, back)
    only = "" if node.relation.inh else "ONLY "
    return [f"ALTER TABLE {only}{qualified(*table)} {', '.join(found)};"] if found else []


def _subcommand_back(command: Any, table: Tuple[str, str], needs: Dict[Key, Assumption]) -> Optional[str]:
    kind = command.subtype.name
    if command.missing_ok:
        return None
    if kind == "AT_AddColumn":
        return f"DROP COLUMN {identifier(command.def_.colname)}"
    if kind == "AT_AddConstraint":
        own = _leaves_with_its_constraint(command.def_)
        return f"DROP CONSTRAINT {identifier(command.def_.conname)}" if own else None
    text = quoted_name(*table)
    if kind in _SWITCHES:
        back, column, before = _SWITCHES[kind]
        sql = f"SELECT {column} FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({readable_literal(text)})"
        needs.setdefault(_state(command, table), (f"{text} has {column} {'on' if before else 'off'}", sql, before))
        return back
    if kind in _NULL_SWITCHES:
        before = kind == "AT_DropNotNull"
        fold = "bool_and" if before else "bool_or"
        sql = _NOT_NULL.format(fold=fold, relation=readable_literal(text), column=readable_literal(command.name))
        title = f"{text}.{command.name} is {'NOT NULL' if before else 'nullable'}"
        needs.setdefault(_state(command, table), (title, sql, before))
        return f"ALTER COLUMN {identifier(command.name)} {'SET' if before else 'DROP'} NOT NULL"
    return None


# Also of the partitions, to which it comes down.
_NOT_NULL = (
    "SELECT pg_catalog.{fold}(attnotnull) FROM pg_catalog.pg_attribute WHERE attname = {column} AND (attrelid = pg_catalog.to_regclass({relation})"
    " OR attrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass({relation}))))"
)


def _leaves_with_its_constraint(constraint: Any) -> bool:
    """Return whether DROP CONSTRAINT undoes it: a primary key leaves NOT NULL behind, USING INDEX took an index that was there."""
    primary = constraint.contype == enums.ConstrType.CONSTR_PRIMARY
    return bool(constraint.conname) and not primary and not constraint.indexname


def _copy_of(node: Any) -> Any:
    """Return a copy of a statement's tree; None for one that pglast does not write as the parser reads it."""
    try:
        (raw,) = parse_sql(RawStream()(node))
    except pglast.parser.ParseError:
        return None
    return raw.stmt


def _named_back(node: Any) -> Optional[List[str]]:
    """Return the statement that takes back a name, a schema or the name of an enum's value."""
    back = _copy_of(node)
    if back is None or getattr(node, "missing_ok", False):
        return None
    if is_node(node, ast.AlterEnumStmt):
        if not node.oldVal or not node.typeName[1:]:
            return None
        back.oldVal, back.newVal = node.newVal, node.oldVal
    elif is_node(node, ast.AlterObjectSchemaStmt):
        if not _swap(back, "newschema", schema=True):
            return None
    elif back.subname:
        if not (back.relation is None or back.relation.schemaname) or not _certain_part(node):
            return None
        back.subname, back.newname = node.newname, node.subname
    elif not _swap(back, "newname", schema=False):
        return None
    return [f"{RawStream()(back)};"]


def _certain_part(node: Any) -> bool:
    return node.relation is not None or node.renameType.name == "OBJECT_SCHEMA"


def _swap(back: Any, attribute: str, *, schema: bool) -> bool:
    """Exchange the new name, or schema, with that of the object; return False where the object has no schema."""
    new = getattr(back, attribute)
    if back.relation is not None:
        if not back.relation.schemaname:
            return False
        old = back.relation.schemaname if schema else back.relation.relname
        setattr(back.relation, "schemaname" if schema else "relname", new)
    else:
        item = back.object
        names = (
            item.objname if is_node(item, ast.ObjectWithArgs) else item.names if is_node(item, ast.TypeName) else item
        )
        if not isinstance(names, tuple) or not names[1:]:
            return False
        part = names[-2 if schema else -1]
        old, part.sval = part.sval, new
    setattr(back, attribute, old)
    return True
