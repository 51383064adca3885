# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draft the files of a phase from its SQL. Controller only.

What the SQL tells is written down: digests, tags, kinds of statements, schemas, functions, and that objects which it creates or
alters are absent or present before. What only a rehearsal or a person can tell is marked with a comment.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_edit import flow, scalar
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError, Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import ROW_TAGS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import readable_literal
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.bodies import body_of
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.classification import (
    RefusedError,
    classify,
    kinds_inside,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.made_objects import (
    Key,
    Made,
    dropped,
    made_by,
    made_relation,
    moved,
    states,
    uncertain,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import (
    SqlRules,
    collect_names,
    names_inside,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.rollback_draft import (
    RollbackDraft,
    draft_rollback,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import (
    SqlPiece,
    StatementReporter,
    outer_pieces,
    split_file,
    transaction_pieces,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    added_columns,
    is_concurrent,
    is_node,
    name_pair,
    relation_pair,
    string_list,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

_SYSTEM = ("", "pg_catalog", "pg_temp", "information_schema")

#: The comments of a drafted phase.yml that ask for something; what answers one removes it.
ROWS_COMMENT = "  # how many rows each reports: a rehearsal tells; replace the open count"
CANNOT_RESTORE_COMMENT = "  # what a rollback does not bring back, a sentence each"
VERIFY_COMMENT = "  # checks that would notice a wrong change"
DIFF_COMMENT = "# a change that is no addition stops the rehearsal, which names it; allow what is intended\n"
BY_HAND_COMMENT = (
    "  # what undoes these lines of the migration is yours to write; then the digest, kinds and rows here are others\n"
)


@dataclass(frozen=True)
class PhaseDraft:
    """The texts of phase.yml and rollback.sql, and the lines of the migration that a person has to undo."""

    definition: str
    rollback: str
    by_hand: List[int]


@dataclass
class _Found:
    """What the statements of a file are and name."""

    tags: Dict[str, int] = field(default_factory=collections.Counter)
    kinds: Set[str] = field(default_factory=set)
    schemas: Set[str] = field(default_factory=set)
    functions: Set[str] = field(default_factory=set)


def draft_phase(name: str, migrate: SourceFile, given: Optional[SourceFile] = None) -> PhaseDraft:
    """Return the draft of a phase, with the rollback that is ``given``, or else a drafted one.

    Raises ``PhaseFileError`` where the SQL has a statement that no phase may have, with all that is wrong with the SQL.
    """
    refused: List[Problem] = []
    pieces = split_file(migrate, refused)
    found = _found(migrate, pieces, refused)
    if given is None:
        undo = draft_rollback(pieces)
        given = SourceFile("rollback.sql", "rollback.sql", undo.text.encode("utf-8"))
    else:
        undo = RollbackDraft(given.data.decode("utf-8", "replace"), [])
    undone = _found(given, split_file(given, refused), refused)
    if refused:
        raise PhaseFileError(sql_problems(migrate, given))
    definition = "".join(_definition(name, migrate, given, pieces, found, undone, undo))
    return PhaseDraft(definition, undo.text, undo.by_hand)


def sql_problems(migrate: SourceFile, rollback: SourceFile) -> List[Problem]:
    """Return all that a plan would refuse the SQL of two files for, whatever else phase.yml has to declare."""
    found, undone = (_found(one, split_file(one, []), []) for one in (migrate, rollback))
    schemas = found.schemas | undone.schemas
    return [
        *_sql_problems(migrate, found, schemas, "expect"),
        *_sql_problems(rollback, undone, schemas, "rollback"),
    ]


def _sql_problems(source: SourceFile, found: _Found, schemas: Set[str], section: str) -> List[Problem]:
    problems: List[Problem] = []
    open_counts: Mapping[str, Any] = {tag: {"each": {"min": 0}} for tag in found.tags if tag in ROW_TAGS}
    rules = SqlRules(
        schemas=frozenset(schemas),
        kinds=frozenset(found.kinds),
        functions=frozenset(found.functions),
        search_path=(),
        rows=open_counts,
        kinds_at="scope.statements" if section == "expect" else "rollback.statements",
        rows_at=f"{section}.rows",
    )
    analyse_file(source, rules, problems)
    return problems


def drafted_checks(pieces: Sequence[SqlPiece]) -> Set[str]:
    """Return the SQL of the checks of verify that a draft of this migration has."""
    return {sql for _title, sql, _answer, _late in _drafted_after(pieces)}


def _drafted_after(pieces: Sequence[SqlPiece]) -> List[Tuple[str, str, object, bool]]:
    """Return the checks of verify; where nothing is known for certain, that the schemas are still there: a phase has one check at least."""
    return _certain(pieces) or [
        (f"schema {schema} exists", _SCHEMA.format(readable_literal(quoted_name("", schema))), True, False)
        for schema in _schemas(pieces)
    ]


def _certain(pieces: Sequence[SqlPiece]) -> List[Tuple[str, str, object, bool]]:
    return list(dict.fromkeys([*_after(pieces), *_left_so(pieces)]))


def _schemas(pieces: Sequence[SqlPiece]) -> List[str]:
    """Return the schemas that statements name, in themselves or by an object."""
    names = [collect_names(piece.node) for piece in pieces]
    relations = {schema for one in names for schema, _name, _read in one.relations}
    objects = {schema for one in names for schema, _name in one.objects | one.references}
    return sorted((relations | objects).union(*(one.schemas for one in names)) - set(_SYSTEM))


def _found(source: SourceFile, pieces: Sequence[SqlPiece], problems: List[Problem]) -> _Found:
    found = _Found()
    outer = outer_pieces(transaction_pieces(pieces))
    for number, piece in enumerate(pieces, start=1):
        inner = body_of(piece.node)
        try:
            tag, kinds = classify(piece.node, outer=number in outer)
            kinds += kinds_inside(tag, inner)
        except RefusedError as error:
            StatementReporter(source.path, piece, problems)(error.what, next_step=error.next_step)
            continue
        found.tags[tag] += 1
        if number in outer:
            continue
        found.kinds.update(kinds)
        for names in (collect_names(piece.node), names_inside(inner)):
            found.schemas |= {schema for schema, _name, _read in names.relations} | names.schemas
            found.schemas |= {schema for schema, _name in names.objects | names.references}
            for call in names.calls:
                schema, called = name_pair(string_list(call.funcname) or ("",))
                if schema not in _SYSTEM:
                    found.functions.add(f"{schema}.{called}")
    found.schemas -= set(_SYSTEM)
    return found


def _definition(
    name: str,
    migrate: SourceFile,
    rollback: SourceFile,
    pieces: Sequence[SqlPiece],
    found: _Found,
    undone: _Found,
    undo: RollbackDraft,
) -> Iterator[str]:
    yield "---\n"
    yield f"phase: {scalar(name)}\n"
    yield f"title: {scalar(name.replace('-', ' ').replace('_', ' ').capitalize())}  # say what it does, in a line\n"
    yield "revision: r1\n\n"
    yield f"migrate:\n  file: {migrate.name}\n  sha256: {migrate.sha256}\n\n"
    yield f"rollback:\n  file: {rollback.name}\n  sha256: {rollback.sha256}\n"
    if undo.by_hand:
        yield BY_HAND_COMMENT
        yield f"  # {'lines' if undo.by_hand[1:] else 'line'} {', '.join(map(str, undo.by_hand))}\n"
    yield f"  statements: {flow(sorted(undone.kinds))}\n"
    yield from _rows(undone)
    yield f"  cannot_restore: []{CANNOT_RESTORE_COMMENT}\n\n"
    yield "scope:\n"
    # a phase has one at least, also where its statements name none
    yield f"  schemas: {flow(sorted(found.schemas | undone.schemas) or ['public'])}\n"
    yield f"  statements: {flow(sorted(found.kinds))}\n"
    if found.functions | undone.functions:
        yield f"  functions: {flow(sorted(found.functions | undone.functions))}\n"
    yield "\nexpect:\n  tags:\n"
    for tag, count in found.tags.items():
        yield f"    {tag}: {count}\n"
    yield from _rows(found)
    yield "\npreflight:\n"
    yield "  - {id: P-1, title: the target is the declared one, builtin: target_identity}\n"
    yield "  - {id: P-2, title: the DDL is the declared one, builtin: ddl_checksum}\n"
    before = list(dict.fromkeys([*_before(pieces), *undo.assumed]))
    for number, (title, sql, answer) in enumerate(before, start=3):
        yield _check(f"P-{number}", title, sql, answer)
    after = _drafted_after(pieces)
    yield f"\nverify:{'' if after else ' []'}{'' if _certain(pieces) else VERIFY_COMMENT}\n"
    for number, (title, sql, answer, late) in enumerate(after, start=1):
        yield _check(f"VA-{number}", title, sql, answer, late=late)
    yield f"\n{DIFF_COMMENT}diff: {{policy: additions_only}}\n"


def _rows(found: _Found) -> Iterator[str]:
    rows = [tag for tag in found.tags if tag in ROW_TAGS]
    if rows:
        yield f"  rows:{ROWS_COMMENT}\n"
        for tag in rows:
            yield f"    {tag}: {{each: {{min: 0}}}}\n"


def _check(number: str, title: str, sql: str, answer: object, *, late: bool = False) -> str:
    after = "    after_commit: true\n" if late else ""
    return (
        f"  - id: {number}\n    title: {scalar(title)}\n    sql: {scalar(sql)}\n    expect: {scalar(answer)}\n{after}"
    )


_SCHEMA = "SELECT pg_catalog.to_regnamespace({}) IS NOT NULL"
_COLUMN = (
    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute"
    " WHERE attrelid = pg_catalog.to_regclass({relation}) AND attname = {column} AND NOT attisdropped"
)


def _is_there(schema: str, name: str, words: str) -> Tuple[str, str]:
    text = quoted_name(schema, name)
    return f"{text} {words}", f"SELECT pg_catalog.to_regclass({readable_literal(text)}) IS "


def _created(piece: SqlPiece) -> List[Tuple[str, str]]:
    """Return the relations that a statement creates for certain."""
    node = piece.node
    if is_node(node, ast.CreateStmt, ast.CreateSeqStmt, ast.CreateForeignTableStmt):
        relation = getattr(node, "relation", None) or getattr(node, "sequence", None) or node.base.relation
        return [] if getattr(node, "if_not_exists", False) else [relation_pair(relation)]
    if is_node(node, ast.ViewStmt):
        return [] if node.replace else [relation_pair(node.view)]
    if is_node(node, ast.IndexStmt):
        named = node.idxname and not node.if_not_exists
        return [(node.relation.schemaname or "", node.idxname)] if named else []
    return []


def _constraints(node: Any, subcommand: str) -> Dict[Tuple[str, str, str], Any]:
    """Return the definitions of the named constraints that an ALTER TABLE adds or validates, by table and name."""
    if not is_node(node, ast.AlterTableStmt):
        return {}
    named = [(one.name or getattr(one.def_, "conname", ""), one) for one in node.cmds if one.subtype.name == subcommand]
    return {(*relation_pair(node.relation), name): one.def_ for name, one in named if name}


def _before(pieces: Sequence[SqlPiece]) -> Iterator[Tuple[str, str, object]]:
    """Yield the checks of what has to be absent or present before: title, SQL, answer."""
    # relations of which it is known already: an object of the migration has the name, or had it
    known: Set[Tuple[str, str]] = set()
    for piece, made in states(pieces):
        node = piece.node
        known |= made.relations()
        for schema, name in (one for one in _created(piece) if one[0] and one not in known):
            title, sql = _is_there(schema, name, "does not exist")
            yield title, f"{sql}NULL", True
        for schema, name in (one for one in _needed(node) if one[0] and one not in known):
            text = quoted_name(schema, name)
            title, sql = _is_there(schema, name, "exists")
            yield title, f"{sql}NOT NULL", True
            for column in (one for one in added_columns(node) if not made.has(("column", schema, name, one))):
                query = _COLUMN.format(relation=readable_literal(text), column=readable_literal(column))
                yield f"{text} has no column {column}", query, 0
        known |= {(key[1], key[2]) for key in (*dropped(node), *(moved(node) or ())) if key[0] == "relation"}


def _needed(node: Any) -> List[Tuple[str, str]]:
    """Return the relations that a statement changes or drops."""
    if is_node(node, ast.AlterTableStmt, ast.IndexStmt, ast.UpdateStmt, ast.InsertStmt, ast.DeleteStmt):
        return [relation_pair(node.relation)]
    keys = [*([] if getattr(node, "missing_ok", False) else dropped(node)), *(moved(node) or ())[:1]]
    return [(key[1], key[2]) for key in keys if key[0] == "relation"]


def _after(pieces: Sequence[SqlPiece]) -> Iterator[Tuple[str, str, object, bool]]:
    """Yield the checks of what has to be there afterwards: title, SQL, answer, and whether only after COMMIT."""
    made = Made()
    for number, piece in enumerate(pieces, start=1):
        made.pass_over(piece.node, number)
    committed = len(transaction_pieces(pieces))
    validated = {
        place: number
        for number, piece in enumerate(pieces, start=1)
        for place in _constraints(piece.node, "AT_ValidateConstraint")
    }
    for number, piece in enumerate(pieces, start=1):
        late = is_concurrent(piece.node)
        for schema, name in (one for one in _created(piece) if one in made.relations()):
            if is_node(piece.node, ast.IndexStmt):
                text = quoted_name(schema, name)
                query = (
                    "SELECT indisvalid FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass("
                    f"{readable_literal(text)})"
                )
                yield f"{text} is valid", query, True, late
            else:
                title, sql = _is_there(schema, name, "exists")
                yield title, f"{sql}NOT NULL", True, late
        table = relation_pair(piece.node.relation) if is_node(piece.node, ast.AlterTableStmt) else ("", "")
        for column in (one for one in added_columns(piece.node) if made.has(("column", *table, one))):
            text = quoted_name(*table)
            query = _COLUMN.format(relation=readable_literal(text), column=readable_literal(column))
            yield f"{text} has column {column}", query, 1, late
        for place, definition in _constraints(piece.node, "AT_AddConstraint").items():
            if not made.has(("constraint", *place)):
                continue
            later = validated.get(place, 0) > number
            valid = not definition.skip_validation or later
            text, constraint = quoted_name(*place[:2]), place[2]
            query = (
                "SELECT convalidated FROM pg_catalog.pg_constraint"
                f" WHERE conrelid = pg_catalog.to_regclass({readable_literal(text)}) AND conname = {readable_literal(constraint)}"
            )
            title = f"{text} has constraint {constraint}{'' if valid else ', not valid yet'}"
            yield title, query, valid, (later and validated[place] > committed) or late


def _left_so(pieces: Sequence[SqlPiece]) -> Iterator[Tuple[str, str, object, bool]]:
    """Yield the checks of what older objects are afterwards: gone, or there although IF NOT EXISTS may have done nothing."""
    there: Dict[Key, Tuple[bool, bool]] = {}
    committed = len(transaction_pieces(pieces))
    for number, (piece, made) in enumerate(states(pieces), start=1):
        node, late = piece.node, number > committed
        renamed = moved(node) or ()
        for key in (*dropped(node), *renamed, *made_by(node), *_nullable_then(node)):
            for one in [one for one in there if one[1 : len(key)] == key[1:]]:
                del there[one]
        gone = [key for key in dropped(node) if not made.has(key) and key not in made_by(node)]
        there.update({**dict.fromkeys(gone, (False, late)), **dict.fromkeys(_there_then(node), (True, late))})
    for key, (exists, late) in there.items():
        check = _CHECKS_OF.get(key[0])
        if check and key[1]:
            yield (*check(key, exists), late)


def _nullable_then(node: Any) -> List[Key]:
    """Return the columns that a statement allows to be null."""
    commands = node.cmds if is_node(node, ast.AlterTableStmt) else ()
    dropping = (one for one in commands if one.subtype.name == "AT_DropNotNull")
    return [("not null", *relation_pair(node.relation), one.name) for one in dropping]


def _there_then(node: Any) -> Iterator[Key]:
    """Yield what is there after a statement that may have found it there."""
    relation = made_relation(node)
    if relation is not None and uncertain(node) and relation.relpersistence != "t":
        yield ("relation", *relation_pair(relation))
    if is_node(node, ast.IndexStmt) and node.if_not_exists and node.idxname:
        yield ("relation", node.relation.schemaname or "", node.idxname)
    if not is_node(node, ast.AlterTableStmt) or node.missing_ok:
        return
    for command in node.cmds:
        if command.subtype.name == "AT_AddColumn" and command.missing_ok:
            yield ("column", *relation_pair(node.relation), command.def_.colname)
        elif command.subtype.name == "AT_SetNotNull":
            yield ("not null", *relation_pair(node.relation), command.name)


def _relation_check(key: Key, exists: bool) -> Tuple[str, str, object]:
    title, sql = _is_there(key[1], key[2], "exists" if exists else "does not exist")
    return title, f"{sql}{'NOT NULL' if exists else 'NULL'}", True


def _column_check(key: Key, exists: bool) -> Tuple[str, str, object]:
    text = quoted_name(key[1], key[2])
    query = _COLUMN.format(relation=readable_literal(text), column=readable_literal(key[3]))
    return f"{text} has {'' if exists else 'no '}column {key[3]}", query, int(exists)


def _not_null_check(key: Key, _exists: bool) -> Tuple[str, str, object]:
    _title, query, _answer = _column_check(key, exists=True)
    return f"{quoted_name(key[1], key[2])}.{key[3]} is NOT NULL", f"{query} AND attnotnull", 1


def _constraint_check(key: Key, _exists: bool) -> Tuple[str, str, object]:
    text = quoted_name(key[1], key[2])
    query = (
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_constraint"
        f" WHERE conrelid = pg_catalog.to_regclass({readable_literal(text)}) AND conname = {readable_literal(key[3])}"
    )
    return f"{text} has no constraint {key[3]}", query, 0


_CHECKS_OF: Dict[str, Callable[[Key, bool], Tuple[str, str, object]]] = {
    "column": _column_check,
    "constraint": _constraint_check,
    "not null": _not_null_check,
    "relation": _relation_check,
}
