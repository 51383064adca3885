# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give each statement its command tag and kinds, and refuse what no phase can contain.

What cannot be named is refused: an unknown node, object type or subcommand is a problem, not a guess.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.node_tags import (
    ALTER_DOMAIN_WORDS,
    ALTER_TYPE_WORDS,
    ALTER_WORDS,
    NODE_TAGS,
    OBJECT_WORDS,
    TRANSACTION_TAGS,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import (
    COMPUTED_KINDS,
    REFUSED_TAGS,
    SHARED_OBJECTS,
    may_be_a_functions,
    may_be_set,
    setting_advice,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.bodies import Body
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_concurrent,
    is_node,
    name_pair,
    row_changes,
    string_list,
    walk,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True


class RefusedError(Exception):
    """A statement that no scope can allow."""

    def __init__(self, what: str, next_step: str = "") -> None:
        self.what = what
        self.next_step = next_step
        super().__init__(what)


def classify(node: Any, *, outer: bool = False, inside: bool = False) -> Tuple[str, List[str]]:
    """Return (command tag, kinds) of a statement's parse tree.

    ``outer``: it is the file's own BEGIN or COMMIT; ``inside``: it is in the body of another one.

    Raises ``_RefusedError`` for what a phase cannot contain.
    """
    name = type(node).__name__
    special = _SPECIAL.get(name)
    if special:
        tag, kinds = special(node)
    elif name in NODE_TAGS:
        tag = NODE_TAGS[name]
        kinds = [tag]
    else:
        raise RefusedError(f"an unknown statement ({name})", "report it; unknown statements never run")
    if not outer:
        _refuse(node, tag, counted=not inside)
    _refuse_settings(node, tag)
    if is_concurrent(node):
        kinds = ["ALTER TABLE DETACH PARTITION CONCURRENTLY" if tag == "ALTER TABLE" else f"{tag} CONCURRENTLY"]
    kinds = [*kinds, *(NODE_TAGS[type(one).__name__] for one in row_changes(node))]
    if _behaviour(node) == "DROP_CASCADE" and tag.startswith(("DROP ", "TRUNCATE ", "REVOKE")):
        kinds = [f"{kind} CASCADE" for kind in kinds]
    return tag, list(dict.fromkeys(kinds))


def kinds_inside(tag: str, body: Body) -> List[str]:
    """Return the kinds of what a body runs; statements that only read have none. Raises ``_RefusedError`` as ``classify`` does."""
    if tag == "DO" and body.ends:
        raise RefusedError(f"{body.ends[0]} in DO: {REFUSED_TAGS[body.ends[0]]}", "remove it")
    kinds: List[str] = []
    try:
        for node in body.statements:
            kinds += [kind for kind in classify(node, inside=True)[1] if kind != "SELECT"]
    except RefusedError as error:
        raise RefusedError(f"in the body: {error.what}", error.next_step) from error
    return list(dict.fromkeys([*kinds, *([COMPUTED_KINDS[tag]] if body.computed else [])]))


#: Settings without which the server does not count the rows that a transaction changes, and does not show what it runs.
_OBSERVING = frozenset({"track_activities", "track_counts"})


def _refuse_settings(node: Any, tag: str) -> None:
    """Refuse a function or procedure with a setting of its own that a phase may not change, or by which nobody observes what it changes."""
    if not is_node(node, ast.CreateFunctionStmt, ast.AlterFunctionStmt):
        return
    for option in (node.options if is_node(node, ast.CreateFunctionStmt) else node.actions) or ():
        setting = option.arg
        if not is_node(setting, ast.VariableSetStmt) or setting.kind.name in ("VAR_RESET", "VAR_RESET_ALL"):
            continue
        # the server compares names of settings without their case
        if (setting.name or "").lower() in _OBSERVING:
            raise RefusedError(f"{tag} SET {setting.name}: what it changes would not be counted", "remove it")
        if not may_be_a_functions(setting.name or ""):
            what = f"{tag} SET {setting.name}: not a setting that a function of a phase may have"
            raise RefusedError(what, "remove it, and have an administrator set it if it is needed")


def _cascade(command: Any, words: str) -> str:
    """Return the end of the kind of a subcommand that also drops what depends on what it drops."""
    return " CASCADE" if words.startswith("DROP ") and _behaviour(command) == "DROP_CASCADE" else ""


def _behaviour(node: Any) -> str:
    return str(getattr(getattr(node, "behavior", None), "name", ""))


def _refuse(node: Any, tag: str, *, counted: bool) -> None:
    reason = REFUSED_TAGS.get(tag)
    if reason:
        raise RefusedError(f"{tag} cannot be in a phase: {reason}", _OTHER_WAYS.get(tag, ""))
    for condition, what, step in _REFUSALS:
        if condition(node):
            raise RefusedError(what, step)
    for _, child in walk(node):
        if counted and is_node(child, ast.CommonTableExpr) and not is_node(child.ctequery, ast.SelectStmt):
            raise RefusedError(
                "a statement that changes rows inside WITH: the server does not report its row count",
                "write it as a statement of its own and declare its rows",
            )
        if counted and is_node(child, ast.CopyStmt) and child.query in row_changes(child):
            raise RefusedError("COPY of a statement that changes rows", "write it as a statement of its own")
        if is_node(child, ast.IntoClause) and is_node(node, ast.SelectStmt):
            raise RefusedError("SELECT INTO", "write CREATE TABLE … AS SELECT")


_OTHER_WAYS = {
    "BEGIN": "only a plain BEGIN as the first statement, with COMMIT as the last, is the file's own",
    "START TRANSACTION": "only a plain BEGIN as the first statement, with COMMIT as the last, is the file's own",
    "COMMIT": "COMMIT can only be the last statement of a file that begins with BEGIN; one file is one transaction",
    "ROLLBACK": "remove it; phasegate rolls back automatically when anything differs from the declaration",
    "PREPARE": "write the statement itself",
    "EXECUTE": "write the statement itself",
}


def concurrent_subject(node: Any) -> str:
    """Return the index or partition that a statement with CONCURRENTLY is about, as SQL text with its schema.

    A later run looks it up in the catalog when it is unknown whether the statement completed.
    """
    if is_node(node, ast.IndexStmt):
        if node.if_not_exists:
            raise RefusedError(
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS: it accepts an existing invalid index of that name",
                "remove IF NOT EXISTS; a later run detects an existing index",
            )
        schema, name = node.relation.schemaname, node.idxname
    elif is_node(node, ast.DropStmt):
        schema, name = name_pair(string_list(node.objects[0]) or ("",))
    else:
        relation = node.cmds[0].def_.name if is_node(node, ast.AlterTableStmt) else node.relation
        schema, name = relation.schemaname, relation.relname
    if not schema or not name or (is_node(node, ast.DropStmt) and len(node.objects) > 1):
        raise RefusedError(
            "CONCURRENTLY without one index or partition that has a name and a schema",
            "write one statement for each, with its schema, and CREATE INDEX with the name of the index",
        )
    return quoted_name(schema, name)


def either_subject(node: Any) -> str:
    """Return the constraint, column or index of a statement that may stand after COMMIT as well as before it, '' for any other.

    It is SQL text: schema, table and name; of an index that is attached, both indexes with their schemas. The statement has this
    one action.
    """
    if not is_node(node, ast.AlterTableStmt) or len(node.cmds) != 1 or node.missing_ok or not node.relation.schemaname:
        return ""
    command = node.cmds[0]
    relation = quoted_name(node.relation.schemaname, node.relation.relname)
    if command.subtype.name == "AT_AttachPartition" and node.objtype.name == "OBJECT_INDEX":
        part = command.def_.name
        return f"{relation}.{quoted_name(part.schemaname, part.relname)}" if part.schemaname else ""
    if command.subtype.name not in ("AT_ValidateConstraint", "AT_SetNotNull"):
        return ""
    return f"{relation}.{quoted_name('', command.name)}"


def _whole_reindex(node: Any) -> bool:
    whole = ("REINDEX_OBJECT_SCHEMA", "REINDEX_OBJECT_SYSTEM", "REINDEX_OBJECT_DATABASE")
    return is_node(node, ast.ReindexStmt) and node.kind.name in whole


def _moves_database(node: Any) -> bool:
    return is_node(node, ast.AlterDatabaseStmt) and any(o.defname == "tablespace" for o in node.options or ())


#: Forms of otherwise allowed statements that a phase cannot contain: condition, sentence, next step.
_REFUSALS: Tuple[Tuple[Callable[[Any], bool], str, str], ...] = (
    (_whole_reindex, "REINDEX of a whole schema or database cannot run in a transaction", "name the tables"),
    (_moves_database, "ALTER DATABASE SET TABLESPACE cannot run in a transaction", ""),
    (
        lambda node: is_node(node, ast.ClusterStmt) and node.relation is None,
        "CLUSTER without a table cannot run in a transaction",
        "name the table",
    ),
    (
        lambda node: is_node(node, ast.CopyStmt) and node.filename is None and bool(node.is_from),
        "COPY FROM STDIN: a phase cannot carry COPY data",
        "write INSERT … VALUES",
    ),
    (
        lambda node: is_node(node, ast.CopyStmt) and node.filename is None,
        "COPY TO STDOUT: no client receives it",
        "write a SELECT at the end of the file, or a check",
    ),
    (
        lambda node: is_node(node, ast.CreateSchemaStmt) and bool(node.schemaElts),
        "CREATE SCHEMA with statements inside",
        "write them as statements of their own",
    ),
)


def _words(node_type: Any, found: Mapping[str, str], what: str) -> str:
    if node_type.name not in found:
        raise RefusedError(f"an unknown {what} ({node_type.name})", "report it; unknown statements never run")
    return found[node_type.name]


def _object_words(object_type: Any) -> str:
    return _words(object_type, OBJECT_WORDS, "kind of object")


def _alter_table(node: Any) -> Tuple[str, List[str]]:
    tag = f"ALTER {_object_words(node.objtype)}"
    known = {**ALTER_WORDS, **ALTER_TYPE_WORDS} if tag == "ALTER TYPE" else ALTER_WORDS
    kinds = []
    for command in node.cmds:
        words = _words(command.subtype, known, "subcommand of ALTER")
        if command.subtype.name == "AT_ColumnDefault" and command.def_ is None:
            words = "DROP DEFAULT"
        kinds.append(f"{tag} {words}{_cascade(command, words)}")
    return tag, kinds


def _rename(node: Any) -> Tuple[str, List[str]]:
    what = node.renameType.name
    tag = f"ALTER {_object_words(node.relationType if what == 'OBJECT_COLUMN' else node.renameType)}"
    part = {
        "OBJECT_COLUMN": " COLUMN",
        "OBJECT_ATTRIBUTE": " ATTRIBUTE",
        "OBJECT_TABCONSTRAINT": " CONSTRAINT",
        "OBJECT_DOMCONSTRAINT": " CONSTRAINT",
    }.get(what, "")
    return tag, [f"{tag} RENAME{part}"]


def _alter_domain(node: Any) -> Tuple[str, List[str]]:
    words = ALTER_DOMAIN_WORDS.get(node.subtype)
    if words is None:
        raise RefusedError(f"an unknown subcommand of ALTER DOMAIN ({node.subtype})")
    if node.subtype == "T" and node.def_ is None:
        words = "DROP DEFAULT"
    return "ALTER DOMAIN", [f"ALTER DOMAIN {words}{_cascade(node, words)}"]


def _alter_with(attribute: str, words: str) -> Callable[[Any], Tuple[str, List[str]]]:
    def of(node: Any) -> Tuple[str, List[str]]:
        tag = f"ALTER {_object_words(getattr(node, attribute))}"
        return tag, [f"{tag} {words}" if words else tag]

    return of


def _copy(node: Any) -> Tuple[str, List[str]]:
    direction = "FROM" if node.is_from else "TO"
    return "COPY", [f"COPY {direction} {'PROGRAM' if node.is_program else 'FILE'}"]


def _set(node: Any) -> Tuple[str, List[str]]:
    name = node.name or ""
    plain = node.kind.name in ("VAR_SET_VALUE", "VAR_SET_DEFAULT")
    if not (plain and node.is_local):
        raise RefusedError(
            "a setting changed outside SET LOCAL: it would outlive the transaction", setting_advice(name)
        )
    if not may_be_set(name):
        raise RefusedError(f"SET LOCAL {name}: not a setting that a phase may change", setting_advice(name))
    return "SET", ["SET LOCAL"]


def _transaction(node: Any) -> Tuple[str, List[str]]:
    tag = _words(node.kind, TRANSACTION_TAGS, "transaction statement")
    return tag, [tag]


def _by(attribute: str, yes: str, no: str) -> Callable[[Any], Tuple[str, List[str]]]:
    def of(node: Any) -> Tuple[str, List[str]]:
        tag = yes if getattr(node, attribute) else no
        return tag, [tag]

    return of


def _on_object(tag: str) -> Callable[[Any], Tuple[str, List[str]]]:
    """Return what finds the kinds of a statement on an object of any kind: one on a shared object has a kind of its own."""

    def of(node: Any) -> Tuple[str, List[str]]:
        words = _object_words(node.objtype)
        return tag, [f"{tag} ON {words}" if words in SHARED_OBJECTS else tag]

    return of


_SHARED_GRANTS = {
    "OBJECT_DATABASE": "DATABASE",
    "OBJECT_TABLESPACE": "TABLESPACE",
    "OBJECT_PARAMETER_ACL": "PARAMETER",
}


def _grant(node: Any) -> Tuple[str, List[str]]:
    tag, words = "GRANT" if node.is_grant else "REVOKE", _SHARED_GRANTS.get(node.objtype.name)
    return tag, [f"{tag} ON {words}" if words else tag]


def _create_as(node: Any) -> Tuple[str, List[str]]:
    tag = "CREATE MATERIALIZED VIEW" if node.objtype.name == "OBJECT_MATVIEW" else "CREATE TABLE AS"
    if is_node(node.query, ast.ExecuteStmt):
        raise RefusedError("CREATE TABLE AS EXECUTE: it hides the statement that runs", "write the SELECT itself")
    return tag, [tag]


def _verb(verb: str, attribute: str) -> Callable[[Any], Tuple[str, List[str]]]:
    def of(node: Any) -> Tuple[str, List[str]]:
        tag = f"{verb} {_object_words(getattr(node, attribute))}"
        return tag, [tag]

    return of


def _alter_enum(node: Any) -> Tuple[str, List[str]]:
    return "ALTER TYPE", ["ALTER TYPE RENAME VALUE" if node.oldVal else "ALTER TYPE ADD VALUE"]


def _alter_extension(node: Any) -> Tuple[str, List[str]]:
    if is_node(node, ast.AlterExtensionStmt):
        return "ALTER EXTENSION", ["ALTER EXTENSION UPDATE"]
    return "ALTER EXTENSION", ["ALTER EXTENSION ADD" if node.action > 0 else "ALTER EXTENSION DROP"]


#: Parse node → what finds its tag and kinds, where the node alone does not decide.
_SPECIAL: Dict[str, Callable[[Any], Tuple[str, List[str]]]] = {
    "AlterDomainStmt": _alter_domain,
    "AlterEnumStmt": _alter_enum,
    "AlterExtensionContentsStmt": _alter_extension,
    "AlterExtensionStmt": _alter_extension,
    "AlterFunctionStmt": _alter_with("objtype", ""),
    "AlterObjectDependsStmt": _alter_with("objectType", "DEPENDS ON EXTENSION"),
    "AlterObjectSchemaStmt": _alter_with("objectType", "SET SCHEMA"),
    "AlterOwnerStmt": _alter_with("objectType", "OWNER TO"),
    "AlterTableMoveAllStmt": _alter_with("objtype", "SET TABLESPACE"),
    "AlterTableStmt": _alter_table,
    "CopyStmt": _copy,
    "CreateFunctionStmt": _by("is_procedure", "CREATE PROCEDURE", "CREATE FUNCTION"),
    "CreateTableAsStmt": _create_as,
    "DefineStmt": _verb("CREATE", "kind"),
    "DropStmt": _verb("DROP", "removeType"),
    "GrantRoleStmt": _by("is_grant", "GRANT ROLE", "REVOKE ROLE"),
    "CommentStmt": _on_object("COMMENT"),
    "GrantStmt": _grant,
    "SecLabelStmt": _on_object("SECURITY LABEL"),
    "RenameStmt": _rename,
    "TransactionStmt": _transaction,
    "VacuumStmt": _by("is_vacuumcmd", "VACUUM", "ANALYZE"),
    "VariableSetStmt": _set,
}


def returns_rows(node: Any) -> bool:
    """Return whether the server answers a statement with rows."""
    if is_node(node, ast.SelectStmt, ast.VariableShowStmt):
        return True
    return bool(getattr(node, "returningClause", None))


def temporary_relations(node: Any) -> Set[str]:
    """Return the names of temporary relations that a statement makes."""
    return {child.relname for _, child in walk(node) if is_node(child, ast.RangeVar) and child.relpersistence == "t"}
