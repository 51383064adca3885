# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a statement costs the tables that are there, and the known form that costs less. From the parse tree. Controller only.

Sources: PostgreSQL's manual, 13.3.1 (table-level locks), and the notes of ALTER TABLE, CREATE INDEX and REFRESH MATERIALIZED VIEW.
A rehearsal observes locks and rewrites; this is what can be said before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.node_tags import ALTER_WORDS
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import AFTER_COMMIT_KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.classification import classify
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.made_objects import states
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import (
    outer_pieces,
    split_file,
    transaction_pieces,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    relation_pair,
    string_list,
    walk,
)

try:
    from pglast import ast, enums
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

_EXCLUSIVE = "AccessExclusiveLock"
_OWN = "ShareUpdateExclusiveLock"

# Locks that neither reads nor writes of an application wait for.
_UNNOTICED = ("", "RowExclusiveLock", _OWN)

# Kind of statement → the lock on the tables that it names. What is not here takes none that an application notices, or is unknown.
_LOCKS: Mapping[str, str] = {
    **AFTER_COMMIT_KINDS,
    **dict.fromkeys(("INSERT", "UPDATE", "DELETE", "MERGE", "COPY FROM"), "RowExclusiveLock"),
    "CREATE INDEX": "ShareLock",
    "CREATE TRIGGER": "ShareRowExclusiveLock",
    **dict.fromkeys(("COMMENT", "CREATE STATISTICS", "ANALYZE"), _OWN),
    **dict.fromkeys(
        ("TRUNCATE TABLE", "CREATE RULE", "CREATE POLICY", "ALTER POLICY", "DROP POLICY", "DROP TRIGGER", "DROP RULE"),
        _EXCLUSIVE,
    ),
    **dict.fromkeys(("DROP TABLE", "DROP VIEW", "DROP MATERIALIZED VIEW", "DROP INDEX", "CLUSTER"), _EXCLUSIVE),
    "REFRESH MATERIALIZED VIEW": _EXCLUSIVE,
    "REINDEX": "ShareLock",
}

# Subcommands of ALTER TABLE that take less than ACCESS EXCLUSIVE.
_WEAKER: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "VALIDATE CONSTRAINT",
            "SET STATISTICS",
            "SET COLUMN OPTIONS",
            "RESET COLUMN OPTIONS",
            "SET PARAMETERS",
            "RESET PARAMETERS",
            "CLUSTER ON",
            "SET WITHOUT CLUSTER",
            "ATTACH PARTITION",
        ),
        _OWN,
    ),
    **dict.fromkeys(
        [
            *(f"{verb} TRIGGER{what}" for verb in ("ENABLE", "DISABLE") for what in ("", " ALL", " USER")),
            *("ENABLE ALWAYS TRIGGER", "ENABLE REPLICA TRIGGER"),
        ],
        "ShareRowExclusiveLock",
    ),
}

_NOT_VALID = "add it NOT VALID, and VALIDATE CONSTRAINT in a later phase: that reads the table while writes go on"
_BY_INDEX = "CREATE UNIQUE INDEX CONCURRENTLY in an earlier phase, then ADD CONSTRAINT … USING INDEX: the index is built while writes go on"

# Subcommand of ALTER TABLE → what is done while its lock is held, and the form that costs less.
_WORK: Mapping[str, Tuple[str, str]] = {
    "ATTACH PARTITION": (
        "reads the whole partition",
        "first a valid CHECK on it that implies the bounds: then it is not read",
    ),
    "SET NOT NULL": (
        "reads the whole table",
        "first a valid CHECK (column IS NOT NULL), made NOT VALID and validated: then the table is not read",
    ),
    "ALTER COLUMN TYPE": (
        "rewrites the table unless the types are stored alike",
        "a new column of the new type, filled in parts, in place of the old one; a longer varchar, or text, rewrites nothing",
    ),
    **dict.fromkeys(("SET LOGGED", "SET UNLOGGED", "SET TABLESPACE", "SET ACCESS METHOD"), ("rewrites the table", "")),
    "VALIDATE CONSTRAINT": ("reads the whole table", ""),
    **dict.fromkeys(
        ("DROP COLUMN", "DROP CONSTRAINT"), ("", "an application that still uses it fails: take it out of use first")
    ),
}

# Functions whose value differs from row to row; most others of pg_catalog that a default calls are stable.
_VOLATILE = frozenset(
    {"clock_timestamp", "gen_random_uuid", "random", "timeofday", "uuidv4", "uuidv7", "uuid_generate_v4", "nextval"}
)


@dataclass(frozen=True)
class Advice:
    """What one statement, or one subcommand of it, does to an existing table.

    ``lock``: the mode as ``pg_locks`` has it, '' if none is known. ``work``: what is done while it is held, '' for nothing that
    grows with the table. ``safer``: the form that costs less, '' if none is known. ``kind`` is the kind as ``scope.statements`` has it.
    """

    lock: str
    work: str = ""
    safer: str = ""
    kind: str = ""

    @property
    def unsafe(self) -> bool:
        """Return whether a phase needs a reason for it.

        Reads or writes wait for what grows with the table, and a form is known in which they do not.
        """
        return bool(self.work and self.safer) and self.lock not in _UNNOTICED


def advise(node: Any, kinds: List[str], made: Set[Tuple[str, str]]) -> List[Advice]:
    """Return what a statement costs; nothing where it is about tables of ``made``, which the same file creates."""
    relation = getattr(node, "relation", None)
    if is_node(relation, ast.RangeVar) and relation_pair(relation) in made:
        return []
    if is_node(node, ast.AlterTableStmt) and node.objtype == enums.ObjectType.OBJECT_TABLE:
        found = [_subcommand(command) for command in node.cmds]
        words = [ALTER_WORDS.get(command.subtype.name, "") for command in node.cmds]
        return [replace(one, kind=f"ALTER TABLE {word}") for one, word in zip(found, words)]
    return [replace(one, kind=kinds[0]) for one in _statement(node, kinds)]


def _statement(node: Any, kinds: List[str]) -> Iterator[Advice]:
    kind = kinds[0]
    lock = _LOCKS.get(kind, "")
    if is_node(node, ast.IndexStmt) and not node.relation.inh:
        # ON ONLY a partitioned table: nothing is built
        yield Advice(lock)
    elif is_node(node, ast.IndexStmt) and not node.concurrent:
        yield Advice(lock, "builds the index", "CREATE INDEX CONCURRENTLY at the end of the file, after COMMIT")
    elif is_node(node, ast.RefreshMatViewStmt) and node.concurrent:
        yield Advice("ExclusiveLock", "runs the view's query")
    elif is_node(node, ast.RefreshMatViewStmt):
        safer = "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index"
        yield Advice(lock, "runs the view's query", safer)
    elif is_node(node, ast.RenameStmt, ast.AlterObjectSchemaStmt) and kind.startswith("ALTER TABLE"):
        yield Advice(
            _EXCLUSIVE,
            "",
            "an application that knows the old name fails: add the new one, move, drop the old one later",
        )
    elif is_node(node, ast.CreateStmt) and _references(node):
        yield Advice("ShareRowExclusiveLock", "", "")
    elif is_node(node, ast.UpdateStmt, ast.DeleteStmt) and node.whereClause is None:
        yield Advice(lock, "locks every row until COMMIT", "the rows in batches, after COMMIT")
    elif lock:
        yield Advice(lock)


def _references(node: Any) -> bool:
    return any(
        is_node(child, ast.Constraint) and child.contype == enums.ConstrType.CONSTR_FOREIGN for _, child in walk(node)
    )


def _subcommand(command: Any) -> Advice:
    words = ALTER_WORDS.get(command.subtype.name, "")
    if words == "ADD COLUMN":
        return _added_column(command.def_)
    if words == "ADD CONSTRAINT":
        return _added_constraint(command.def_)
    return Advice(_WEAKER.get(words, _EXCLUSIVE), *_WORK.get(words, ("", "")))


def _added_column(column: Any) -> Advice:
    kinds = enums.ConstrType
    has = {one.contype: one for one in column.constraints or ()}
    default = has.get(kinds.CONSTR_DEFAULT)
    varies = any(
        is_node(child, ast.FuncCall) and (string_list(child.funcname) or ("",))[-1] in _VOLATILE
        for _, child in walk(default)
    )
    indexed = kinds.CONSTR_UNIQUE in has or kinds.CONSTR_PRIMARY in has
    serial = (string_list(column.typeName.names) or ("",))[-1].rstrip("248").endswith("serial")
    cases: List[Tuple[bool, str, str]] = [
        (
            kinds.CONSTR_GENERATED in has,
            "rewrites the table if the column is STORED",
            "a plain column that a trigger fills",
        ),
        (
            serial or kinds.CONSTR_IDENTITY in has,
            "rewrites the table",
            "a plain column, filled in parts, then its default",
        ),
        (
            varies,
            "rewrites the table: the default differs from row to row",
            "the column, then its default, then the rows in parts",
        ),
        (indexed, "builds an index", _BY_INDEX),
        (
            kinds.CONSTR_CHECK in has or kinds.CONSTR_FOREIGN in has,
            "reads the whole table" if default is not None else "",
            f"the column alone, then the constraint: {_NOT_VALID}" if default is not None else "",
        ),
        (
            kinds.CONSTR_NOTNULL in has and default is None,
            "fails if there is a row",
            "a default, or NOT NULL after a backfill",
        ),
    ]
    work, safer = next(((work, safer) for holds, work, safer in cases if holds), ("", ""))
    return Advice(_EXCLUSIVE, work, safer)


def _added_constraint(constraint: Any) -> Advice:
    kinds = enums.ConstrType
    lock = "ShareRowExclusiveLock" if constraint.contype == kinds.CONSTR_FOREIGN else _EXCLUSIVE
    if constraint.contype in (kinds.CONSTR_PRIMARY, kinds.CONSTR_UNIQUE, kinds.CONSTR_EXCLUSION):
        if constraint.indexname:
            return Advice(lock)
        return Advice(lock, "builds an index", _BY_INDEX if constraint.contype != kinds.CONSTR_EXCLUSION else "")
    if constraint.skip_validation:
        return Advice(lock)
    return Advice(lock, "reads the whole table", _NOT_VALID)


def advise_file(source: SourceFile) -> Dict[int, List[Advice]]:
    """Return the costs of each statement of a file that could be analysed, by its number."""
    pieces = split_file(source, [])
    outer = outer_pieces(transaction_pieces(pieces))
    checked: Set[Tuple[str, str]] = set()
    found: Dict[int, List[Advice]] = {}
    for number, (piece, made) in enumerate(states(pieces), start=1):
        if number in outer:
            continue
        several = advise(piece.node, classify(piece.node)[1], made.relations())
        if is_node(piece.node, ast.AlterTableStmt):
            relation = relation_pair(piece.node.relation)
            words = [ALTER_WORDS.get(command.subtype.name) for command in piece.node.cmds]
            if relation in checked and words == ["SET NOT NULL"]:
                # as the file does it already
                several = [Advice(one.lock, kind=one.kind) for one in several]
            checked |= {relation} if "VALIDATE CONSTRAINT" in words else set()
        found[number] = several
    return found
