# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split and classify a phase's SQL with PostgreSQL's own parser. Controller only.

What has no name here is rejected: an unknown node, object type or subcommand is a problem, not a guess.
"""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
)

try:
    import pglast
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

from ansible_collections.incomex.phasegate.plugins.module_utils import _kinds
from ansible_collections.incomex.phasegate.plugins.module_utils._bodies import Body, body_of
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._needs import READ_PLACES, needs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._problems import PhaseFileError, Problem

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._phase import Phase, SourceFile
    from ansible_collections.incomex.phasegate.plugins.module_utils._plan import Statement
    from ansible_collections.incomex.phasegate.plugins.module_utils._strict_yaml import Path

#: Why a byte or character is not accepted, in the order in which it is looked for.
_CHARACTERS: Tuple[Tuple[str, str, str], ...] = (
    ("\ufeff", "a byte order mark", "save the file as UTF-8 without one"),
    ("\x00", "a NUL byte", "save the file as UTF-8 text"),
    ("\r", "a carriage return", "save the file with LF line ends"),
)
_CONTROL = re.compile("[\x01-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COPY_STDIN = re.compile(r"\bcopy\b[^;]*\bfrom\s+stdin\b", re.IGNORECASE)
_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})
#: Attributes that hold the name of an object which the statement makes or changes, as a list of texts.
_OBJECT_NAMES = frozenset(
    {
        "cfgname",
        "conversion_name",
        "defnames",
        "dictname",
        "domainname",
        "func_name",
        "opclassname",
        "opfamilyname",
        "typeName",
    }
)
#: Attributes that hold a name which is looked up; without a schema only pg_catalog and the search path are searched.
_LOOKED_UP = frozenset({"collation", "collname", "names", "name", "objname", "opclass", "operName", "useOp"})
#: Object types whose name is a list of texts with something before or after the relation's or object's own name.
_NAME_PARTS: Dict[str, slice] = {
    **dict.fromkeys(("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT"), slice(None, -1)),
    **dict.fromkeys(("OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"), slice(None, -1)),
    **dict.fromkeys(("OBJECT_OPCLASS", "OBJECT_OPFAMILY"), slice(1, None)),
}
#: Object types whose name is that of a relation, once cut as above.
_RELATIONS = frozenset(
    {
        "OBJECT_COLUMN",
        "OBJECT_FOREIGN_TABLE",
        "OBJECT_INDEX",
        "OBJECT_MATVIEW",
        "OBJECT_POLICY",
        "OBJECT_RULE",
        "OBJECT_SEQUENCE",
        "OBJECT_TABCONSTRAINT",
        "OBJECT_TABLE",
        "OBJECT_TRIGGER",
        "OBJECT_VIEW",
    }
)
_BARE_IDENTIFIER = re.compile(r"[a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*")


class _RefusedError(Exception):
    """A statement that no scope can allow."""

    def __init__(self, what: str, next_step: str = "") -> None:
        self.what = what
        self.next_step = next_step
        super().__init__(what)


@dataclass(frozen=True)
class Rules:
    """What a file's statements may be. ``rows`` are the declared counts per tag, in file order."""

    schemas: FrozenSet[str]
    kinds: FrozenSet[str]
    functions: FrozenSet[str]
    search_path: Tuple[str, ...]
    rows: Mapping[str, Sequence[Any]]
    #: where the kinds and rows are declared, for messages
    kinds_at: str
    rows_at: str


@dataclass
class _Piece:
    """A statement of a file: its byte range, its line and text, and its parse tree."""

    start: int
    end: int
    line: int
    text: str
    node: Any


@dataclass
class _Names:
    """The names in a statement."""

    #: (schema or "", name, only read)
    relations: Set[Tuple[str, str, bool]] = field(default_factory=set)
    #: (schema or "", name): made or changed
    objects: Set[Tuple[str, str]] = field(default_factory=set)
    #: (schema, name): looked up, with a schema
    references: Set[Tuple[str, str]] = field(default_factory=set)
    schemas: Set[str] = field(default_factory=set)
    calls: List[Any] = field(default_factory=list)
    ctes: Set[str] = field(default_factory=set)


def _is(node: Any, *types: Any) -> bool:
    """Return whether ``node`` is of one of the types; unlike ``isinstance`` it does not narrow.

    pglast declares every attribute as optional, also those that the grammar always sets.
    """
    return isinstance(node, types)


# --- a phase ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhaseStatements:
    """The statements of a phase's two files, as in the plan."""

    migrate: List[Statement]
    rollback: List[Statement]


def analyse_phase(phase: Phase) -> PhaseStatements:
    """Split and classify both files of ``phase`` and check them, and the SQL of its checks, against the definition.

    Raises ``PhaseFileError`` with every problem.
    """
    definition = phase.definition
    problems: List[Problem] = []
    migrate = analyse_file(phase.migrate, _rules(definition, "expect"), problems)
    rollback = analyse_file(phase.rollback, _rules(definition, "rollback"), problems)
    if any(statement["run"] for statement in migrate):
        problems.extend(_expectation_problems(phase, migrate))
        problems.extend(_after_commit_problems(phase, migrate))
    functions = frozenset(definition["scope"]["functions"])
    for section in ("preflight", "verify", "non_scope"):
        for index, check in enumerate(definition[section]):
            if "sql" in check:
                problem = query_problem(check["sql"], functions)
                if problem:
                    problems.append(
                        phase.at.problem((section, index, "sql"), problem.what, next_step=problem.next_step)
                    )
    if problems:
        raise PhaseFileError(problems)
    return PhaseStatements(migrate, rollback)


def _rules(definition: Mapping[str, Any], section: str) -> Rules:
    scope = definition["scope"]
    ours = section == "expect"
    return Rules(
        schemas=frozenset(scope["schemas"]),
        kinds=frozenset(scope["statements"] if ours else definition["rollback"]["statements"]),
        functions=frozenset(scope["functions"]),
        search_path=tuple(definition["settings"]["search_path"]),
        rows=definition[section]["rows"],
        kinds_at="scope.statements" if ours else "rollback.statements",
        rows_at=f"{section}.rows",
    )


def _expectation_problems(phase: Phase, statements: Sequence[Statement]) -> Iterator[Problem]:
    expect = phase.definition["expect"]
    found = dict(collections.Counter(statement["tag"] for statement in statements))
    path: Path = ("expect", "tags")
    if found != expect["tags"]:
        yield phase.at.problem(
            path,
            f"the statements of {phase.migrate.name} differ from the declared ones",
            expected=_counted(expect["tags"]),
            found=_counted(found),
            next_step="declare what was found if it is intended, or correct the file",
        )
    last = [statement for statement in statements if statement["run"] and not statement["after_commit"]][-1:]
    if "result" in expect and not any(statement["returns_rows"] for statement in last):
        yield phase.at.problem(
            ("expect", "result"),
            f"the last statement of {phase.migrate.name} in its transaction returns no rows",
            expected="a SELECT at the end of the transaction",
            found="".join(f"{statement['tag']} on line {statement['line']}" for statement in last) or "no statement",
            next_step="add the SELECT, or remove expect.result",
        )


def _after_commit_problems(phase: Phase, statements: Sequence[Statement]) -> Iterator[Problem]:
    """Reject checks with after_commit when no statement runs after COMMIT."""
    if any(statement["after_commit"] for statement in statements):
        return
    for index, check in enumerate(phase.definition["verify"]):
        if check.get("after_commit"):
            yield phase.at.problem(
                ("verify", index, "after_commit"),
                f"no statement of {phase.migrate.name} runs after COMMIT",
                expected="a check that is evaluated before COMMIT",
                next_step="remove after_commit",
            )


def _counted(tags: Mapping[str, int]) -> str:
    return ", ".join(f"{tag}: {count}" for tag, count in sorted(tags.items()))


# --- a file ----------------------------------------------------------------------------------------------------


def analyse_file(source: SourceFile, rules: Rules, problems: List[Problem]) -> List[Statement]:
    """Return the statements of an SQL file; adds to ``problems``."""
    pieces = split_file(source, problems)
    if not pieces:
        return []
    body = _body(pieces)
    outer = _outer(body)
    temporary: Set[str] = set()
    seen: Dict[str, int] = collections.Counter()
    statements: List[Statement] = []
    for number, piece in enumerate(pieces, start=1):
        report = _Reporter(source.path, piece, problems)
        inner = body_of(piece.node)
        try:
            tag, kinds = classify(piece.node, outer=number in outer)
            kinds += _kinds_inside(tag, inner)
            after_commit = _subject(piece.node) if _concurrently(piece.node) else ""
        except _RefusedError as error:
            report(error.what, next_step=error.next_step)
            continue
        run = number not in outer
        if after_commit and number <= len(body):
            report(
                f"{kinds[0]} before the end of the file: it cannot run in a transaction",
                next_step="move it to the end of the file, after COMMIT; it runs there on its own",
            )
        names = _names(piece.node)
        temporary |= _temporary(piece.node)
        inside = _names_inside(inner)
        if run:
            _check_kinds(kinds, rules, report, inner.computed)
            _check_names(names, rules, temporary, report)
            _check_names(inside, rules, temporary, report)
            _check_calls([*names.calls, *inside.calls], rules.functions, rules.search_path, report)
            _check_handed(piece.node, rules.functions, report)
        seen[tag] += 1
        statements.append(
            {
                "n": number,
                "start": piece.start,
                "end": piece.end,
                "line": piece.line,
                "tag": tag,
                "kinds": kinds,
                "relations": sorted(
                    {
                        quoted(schema, name)
                        for schema, name, read in names.relations | (inside.relations if tag == "DO" else set())
                        if schema or not read or name not in names.ctes
                    }
                ),
                "needs": sorted(_needs(piece.node, inner if tag == "DO" else Body())),
                "returns_rows": _returns_rows(piece.node),
                "run": run,
                "after_commit": after_commit,
            }
        )
    _check_rows(source, seen, rules, problems)
    if not any(statement["run"] for statement in statements) and not problems:
        problems.append(Problem(source.path, 1, "", "no statement besides BEGIN and COMMIT"))
    try:
        if not problems:
            check_cover(statements, source.data, source.sha256, source.name)
    except PhaseGateError as error:
        problems.append(Problem(source.path, 1, "", error.what, expected=error.expected, found=error.found))
    return statements


class _Reporter:
    """Adds problems of one statement."""

    def __init__(self, file: str, piece: _Piece, problems: List[Problem]) -> None:
        self.file = file
        self.piece = piece
        self.problems = problems

    def __call__(self, what: str, expected: str = "", next_step: str = "") -> None:
        text = " ".join(self.piece.text.split())
        self.problems.append(
            Problem(self.file, self.piece.line, "", what, expected=expected, found=text[:160], next_step=next_step)
        )


def split_file(source: SourceFile, problems: List[Problem]) -> List[_Piece]:
    """Split a file into statements whose byte ranges, put together, are the file.

    Comments before a statement belong to it, what follows the last statement belongs to that. Returns [] if the file
    cannot be split; the reason is then in ``problems``.
    """
    try:
        text = source.data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = source.data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{source.data[error.start]:02x} at offset {error.start}"
        problems.append(Problem(source.path, line, "", "not UTF-8", found=found, next_step="save the file as UTF-8"))
        return []
    problem = _character_problem(source, text)
    if problem:
        problems.append(problem)
        return []
    try:
        raw = pglast.parse_sql(text)
    except pglast.parser.ParseError as error:
        problems.append(_syntax_problem(source, text, error))
        return []
    if not raw:
        problems.append(
            Problem(
                source.path, 1, "", "no statement", found="an empty file, or only comments", next_step="add the SQL"
            )
        )
        return []
    return _pieces(text, raw)


def _pieces(text: str, raw: Sequence[Any]) -> List[_Piece]:
    pieces: List[_Piece] = []
    start = position = scanned = 0
    line = 1
    for statement in raw:
        # pglast counts characters; the plan counts bytes of the UTF-8 file
        first = statement.stmt_location
        last = first + statement.stmt_len if statement.stmt_len else len(text)
        until = len(text) if statement is raw[-1] else last + 1
        end = start + len(text[position:until].encode("utf-8"))
        line += text.count("\n", scanned, first)
        pieces.append(_Piece(start, end, line, text[first:last], statement.stmt))
        start, position, scanned = end, until, first
    return pieces


def _character_problem(source: SourceFile, text: str) -> Optional[Problem]:
    for character, what, step in _CHARACTERS:
        if character in text:
            line = text.count("\n", 0, text.index(character)) + 1
            return Problem(source.path, line, "", what, next_step=step)
    match = _CONTROL.search(text)
    if match:
        line = text.count("\n", 0, match.start()) + 1
        found = f"U+{ord(match.group()):04X}"
        step = "remove it, or write it as an escape such as E'\\u000B'"
        return Problem(source.path, line, "", "disallowed control character", found=found, next_step=step)
    return None


def _syntax_problem(source: SourceFile, text: str, error: Any) -> Problem:
    message = error.args[0]
    location = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else len(text)
    location = min(location, len(text))
    line = text.count("\n", 0, location) + 1
    found = text.splitlines()[line - 1].strip()[:160] if line <= len(text.splitlines()) else ""
    copy = _COPY_STDIN.search(text, 0, location)
    what, step = f"not SQL: {message}", "correct the statement; PostgreSQL's own parser rejects it"
    if text[location : location + 1] == "\\":
        what = "a psql command; a phase is plain SQL, which psql does not interpret"
        step = "remove it"
    elif text[location : location + 1] == ":":
        what, step = f"{what} (a psql variable?)", "write the value itself; psql does not interpret the file"
    elif copy:
        line = text.count("\n", 0, copy.start()) + 1
        found = " ".join(copy.group().split())[:160]
        what, step = "COPY FROM STDIN: a phase cannot carry COPY data", "write INSERT … VALUES"
    return Problem(source.path, line, "", what, found=found, next_step=step)


def _body(pieces: Sequence[_Piece]) -> Sequence[_Piece]:
    """Return the statements of the transaction: all but those at the end that cannot run in one."""
    last = max((n for n, piece in enumerate(pieces, start=1) if not _concurrently(piece.node)), default=0)
    return pieces[:last]


def _outer(pieces: Sequence[_Piece]) -> FrozenSet[int]:
    """Return the numbers of the file's own BEGIN and COMMIT, if it has both, first and last."""
    if not pieces:
        return frozenset()
    kinds = [piece.node.kind.name if _is(piece.node, ast.TransactionStmt) else "" for piece in pieces]
    opens = kinds[0] in ("TRANS_STMT_BEGIN", "TRANS_STMT_START") and not pieces[0].node.options
    closes = kinds[-1] == "TRANS_STMT_COMMIT" and not pieces[-1].node.chain
    return frozenset({1, len(pieces)}) if opens and closes else frozenset()


def _check_kinds(kinds: Sequence[str], rules: Rules, report: _Reporter, computed: str) -> None:
    for kind in kinds:
        if not _kinds.allowed(kind, rules.kinds):
            why = f": its body cannot be analysed ({computed})" if kind in _kinds.COMPUTED.values() else ""
            report(
                f"{kind} is not in {rules.kinds_at}{why}",
                expected="one of " + ", ".join(sorted(rules.kinds)),
                next_step=f"add {kind} to {rules.kinds_at} if it is intended, or remove the statement",
            )


def _check_rows(source: SourceFile, seen: Mapping[str, int], rules: Rules, problems: List[Problem]) -> None:
    for tag in sorted(_kinds.ROW_TAGS):
        declared, found = len(rules.rows.get(tag, ())), seen.get(tag, 0)
        if declared != found:
            problems.append(
                Problem(
                    source.path,
                    0,
                    "",
                    f"{rules.rows_at} does not match the {tag} statements",
                    expected=f"{found} row counts, one for each {tag}",
                    found=f"{declared}",
                    next_step=f"declare under {rules.rows_at} how many rows each {tag} must report",
                )
            )


# --- one statement ---------------------------------------------------------------------------------------------


def classify(node: Any, *, outer: bool = False, inside: bool = False) -> Tuple[str, List[str]]:
    """Return (command tag, kinds) of a statement's parse tree.

    ``outer``: it is the file's own BEGIN or COMMIT; ``inside``: it is in the body of another one.

    Raises ``_RefusedError`` for what a phase cannot contain.
    """
    name = type(node).__name__
    special = _SPECIAL.get(name)
    if special:
        tag, kinds = special(node)
    elif name in _kinds.NODE_TAGS:
        tag = _kinds.NODE_TAGS[name]
        kinds = [tag]
    else:
        raise _RefusedError(f"an unknown statement ({name})", "report it; unknown statements never run")
    if not outer:
        _refuse(node, tag, counted=not inside)
    if _concurrently(node):
        kinds = ["ALTER TABLE DETACH PARTITION CONCURRENTLY" if tag == "ALTER TABLE" else f"{tag} CONCURRENTLY"]
    if _behaviour(node) == "DROP_CASCADE" and tag.startswith(("DROP ", "TRUNCATE ", "REVOKE")):
        kinds = [f"{kind} CASCADE" for kind in kinds]
    return tag, list(dict.fromkeys(kinds))


def _kinds_inside(tag: str, body: Body) -> List[str]:
    """Return the kinds of what a body runs; statements that only read have none. Raises ``_RefusedError`` as ``classify`` does."""
    if tag == "DO" and body.ends:
        raise _RefusedError(f"{body.ends[0]} in DO: {_kinds.REFUSED[body.ends[0]]}", "remove it")
    kinds: List[str] = []
    try:
        for node in body.statements:
            kinds += [kind for kind in classify(node, inside=True)[1] if kind != "SELECT"]
    except _RefusedError as error:
        raise _RefusedError(f"in the body: {error.what}", error.next_step) from error
    return list(dict.fromkeys([*kinds, *([_kinds.COMPUTED[tag]] if body.computed else [])]))


def _names_inside(body: Body) -> _Names:
    """Return the names in a body. One without a schema may be a variable, a transition table or a row's own column."""
    names = _Names()
    for node in (*body.statements, *body.expressions):
        here = _names(node)
        names.relations |= {one for one in here.relations if one[0]}
        names.objects |= {one for one in here.objects if one[0]}
        names.references |= here.references
        names.schemas |= here.schemas
        names.calls += here.calls
    return names


def _needs(node: Any, inner: Body) -> Set[str]:
    """Return the privileges that a statement needs, and those of what its body runs."""
    several = (node, *inner.statements, *inner.expressions)
    return {need for one in several for need in needs_of(one, list(walk(one)), _names(one).relations, quoted)}


def _behaviour(node: Any) -> str:
    return str(getattr(getattr(node, "behavior", None), "name", ""))


def _refuse(node: Any, tag: str, *, counted: bool) -> None:
    reason = _kinds.REFUSED.get(tag)
    if reason:
        raise _RefusedError(f"{tag} cannot be in a phase: {reason}", _OTHER_WAYS.get(tag, ""))
    for condition, what, step in _REFUSALS:
        if condition(node):
            raise _RefusedError(what, step)
    for _, child in walk(node):
        if counted and _is(child, ast.CommonTableExpr) and not _is(child.ctequery, ast.SelectStmt):
            raise _RefusedError(
                "a statement that changes rows inside WITH: the server does not report its row count",
                "write it as a statement of its own and declare its rows",
            )
        if _is(child, ast.IntoClause) and _is(node, ast.SelectStmt):
            raise _RefusedError("SELECT INTO", "write CREATE TABLE … AS SELECT")


_OTHER_WAYS = {
    "BEGIN": "only a plain BEGIN as the first statement, with COMMIT as the last, is the file's own",
    "START TRANSACTION": "only a plain BEGIN as the first statement, with COMMIT as the last, is the file's own",
    "COMMIT": "COMMIT can only be the last statement of a file that begins with BEGIN; one file is one transaction",
    "ROLLBACK": "remove it; phasegate rolls back automatically when anything differs from the declaration",
    "PREPARE": "write the statement itself",
    "EXECUTE": "write the statement itself",
}


def _concurrently(node: Any) -> bool:
    if _is(node, ast.ReindexStmt):
        return any(option.defname == "concurrently" for option in node.params or ())
    if _is(node, ast.AlterTableStmt):
        return any(_is(c.def_, ast.PartitionCmd) and bool(c.def_.concurrent) for c in node.cmds)
    return _is(node, ast.IndexStmt, ast.DropStmt) and bool(node.concurrent)


def _subject(node: Any) -> str:
    """Return the index or partition that a statement with CONCURRENTLY is about, as SQL text with its schema.

    A later run looks it up in the catalog when it is unknown whether the statement completed.
    """
    if _is(node, ast.IndexStmt):
        if node.if_not_exists:
            raise _RefusedError(
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS: it accepts an existing invalid index of that name",
                "remove IF NOT EXISTS; a later run detects an existing index",
            )
        schema, name = node.relation.schemaname, node.idxname
    elif _is(node, ast.DropStmt):
        schema, name = _pair(_strings(node.objects[0]) or ("",))
    else:
        relation = node.cmds[0].def_.name if _is(node, ast.AlterTableStmt) else node.relation
        schema, name = relation.schemaname, relation.relname
    if not schema or not name or (_is(node, ast.DropStmt) and len(node.objects) > 1):
        raise _RefusedError(
            "CONCURRENTLY without one index or partition that has a name and a schema",
            "write one statement for each, with its schema, and CREATE INDEX with the name of the index",
        )
    return quoted(schema, name)


def _whole_reindex(node: Any) -> bool:
    whole = ("REINDEX_OBJECT_SCHEMA", "REINDEX_OBJECT_SYSTEM", "REINDEX_OBJECT_DATABASE")
    return _is(node, ast.ReindexStmt) and node.kind.name in whole


def _moves_database(node: Any) -> bool:
    return _is(node, ast.AlterDatabaseStmt) and any(o.defname == "tablespace" for o in node.options or ())


#: Forms of otherwise allowed statements that a phase cannot contain: condition, sentence, next step.
_REFUSALS: Tuple[Tuple[Callable[[Any], bool], str, str], ...] = (
    (_whole_reindex, "REINDEX of a whole schema or database cannot run in a transaction", "name the tables"),
    (_moves_database, "ALTER DATABASE SET TABLESPACE cannot run in a transaction", ""),
    (
        lambda node: _is(node, ast.ClusterStmt) and node.relation is None,
        "CLUSTER without a table cannot run in a transaction",
        "name the table",
    ),
    (
        lambda node: _is(node, ast.CopyStmt) and node.filename is None and bool(node.is_from),
        "COPY FROM STDIN: a phase cannot carry COPY data",
        "write INSERT … VALUES",
    ),
    (
        lambda node: _is(node, ast.CopyStmt) and node.filename is None,
        "COPY TO STDOUT: no client receives it",
        "write a SELECT at the end of the file, or a check",
    ),
    (
        lambda node: _is(node, ast.CreateSchemaStmt) and bool(node.schemaElts),
        "CREATE SCHEMA with statements inside",
        "write them as statements of their own",
    ),
)


def _words(node_type: Any, found: Mapping[str, str], what: str) -> str:
    if node_type.name not in found:
        raise _RefusedError(f"an unknown {what} ({node_type.name})", "report it; unknown statements never run")
    return found[node_type.name]


def _object_words(object_type: Any) -> str:
    return _words(object_type, _kinds.OBJECT_WORDS, "kind of object")


def _alter_table(node: Any) -> Tuple[str, List[str]]:
    tag = f"ALTER {_object_words(node.objtype)}"
    known = {**_kinds.ALTER_WORDS, **_kinds.ALTER_TYPE_WORDS} if tag == "ALTER TYPE" else _kinds.ALTER_WORDS
    kinds = []
    for command in node.cmds:
        words = _words(command.subtype, known, "subcommand of ALTER")
        if command.subtype.name == "AT_ColumnDefault" and command.def_ is None:
            words = "DROP DEFAULT"
        kinds.append(f"{tag} {words}")
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
    words = _kinds.ALTER_DOMAIN_WORDS.get(node.subtype)
    if words is None:
        raise _RefusedError(f"an unknown subcommand of ALTER DOMAIN ({node.subtype})")
    if node.subtype == "T" and node.def_ is None:
        words = "DROP DEFAULT"
    return "ALTER DOMAIN", [f"ALTER DOMAIN {words}"]


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
        raise _RefusedError(
            "a setting changed outside SET LOCAL: it would outlive the transaction",
            "write SET LOCAL, or use settings in phase.yml",
        )
    custom = "." in name and not name.startswith("plpgsql.")
    if name not in _kinds.LOCAL_SETTINGS and not custom:
        raise _RefusedError(
            f"SET LOCAL {name}: not a setting that a phase may change",
            "use settings.search_path in phase.yml" if name == "search_path" else "remove it",
        )
    return "SET", ["SET LOCAL"]


def _transaction(node: Any) -> Tuple[str, List[str]]:
    tag = _words(node.kind, _kinds.TRANSACTION_TAGS, "transaction statement")
    return tag, [tag]


def _by(attribute: str, yes: str, no: str) -> Callable[[Any], Tuple[str, List[str]]]:
    def of(node: Any) -> Tuple[str, List[str]]:
        tag = yes if getattr(node, attribute) else no
        return tag, [tag]

    return of


def _create_as(node: Any) -> Tuple[str, List[str]]:
    tag = "CREATE MATERIALIZED VIEW" if node.objtype.name == "OBJECT_MATVIEW" else "CREATE TABLE AS"
    if _is(node.query, ast.ExecuteStmt):
        raise _RefusedError("CREATE TABLE AS EXECUTE: it hides the statement that runs", "write the SELECT itself")
    return tag, [tag]


def _verb(verb: str, attribute: str) -> Callable[[Any], Tuple[str, List[str]]]:
    def of(node: Any) -> Tuple[str, List[str]]:
        tag = f"{verb} {_object_words(getattr(node, attribute))}"
        return tag, [tag]

    return of


def _alter_enum(node: Any) -> Tuple[str, List[str]]:
    return "ALTER TYPE", ["ALTER TYPE RENAME VALUE" if node.oldVal else "ALTER TYPE ADD VALUE"]


def _alter_extension(node: Any) -> Tuple[str, List[str]]:
    if _is(node, ast.AlterExtensionStmt):
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
    "GrantStmt": _by("is_grant", "GRANT", "REVOKE"),
    "RenameStmt": _rename,
    "TransactionStmt": _transaction,
    "VacuumStmt": _by("is_vacuumcmd", "VACUUM", "ANALYZE"),
    "VariableSetStmt": _set,
}


def _returns_rows(node: Any) -> bool:
    if _is(node, ast.SelectStmt, ast.VariableShowStmt):
        return True
    return bool(getattr(node, "returningClause", None))


def _temporary(node: Any) -> Set[str]:
    """Return the names of temporary relations that a statement makes."""
    return {child.relname for _, child in walk(node) if _is(child, ast.RangeVar) and child.relpersistence == "t"}


# --- names -----------------------------------------------------------------------------------------------------


def walk(node: Any, place: str = "") -> Iterator[Tuple[str, Any]]:
    """Yield (its attribute, node) for a parse tree's nodes, and (attribute, tuple) for its lists."""
    stack: List[Tuple[str, Any]] = [(place, node)]
    while stack:
        place, here = stack.pop()
        yield place, here
        if isinstance(here, tuple):
            stack.extend((place, item) for item in here)
        elif _is(here, ast.Node):
            stack.extend((name, getattr(here, name)) for name in here if getattr(here, name) is not None)


def _strings(value: Any) -> Optional[Tuple[str, ...]]:
    """Return the texts of a list of String nodes, or ``None`` if it is anything else."""
    if isinstance(value, tuple) and value and all(_is(item, ast.String) for item in value):
        return tuple(item.sval for item in value)
    return None


def _pair(parts: Sequence[str]) -> Tuple[str, str]:
    return (parts[-2] if len(parts) > 1 else "", parts[-1])


def _names(node: Any) -> _Names:
    names = _Names()
    for place, child in walk(node):
        if isinstance(child, tuple):
            _list_name(names, place, child)
        elif _is(child, ast.RangeVar):
            names.relations.add((child.schemaname or "", child.relname, place in READ_PLACES))
        elif _is(child, ast.FuncCall):
            names.calls.append(child)
        elif _is(child, ast.CommonTableExpr):
            names.ctes.add(child.ctename)
        elif _is(child, ast.DefElem, ast.PublicationObjSpec):
            names.schemas.update(_option_schemas(child))
    _object_names(names, node)
    for attribute in ("newschema", "schemaname", "local_schema"):
        value = getattr(node, attribute, None)
        if isinstance(value, str):
            names.schemas.add(value)
    return names


def _list_name(names: _Names, place: str, parts: Tuple[Any, ...]) -> None:
    texts = _strings(parts)
    if texts is None:
        return
    if place in _OBJECT_NAMES:
        names.objects.add(_pair(texts))
    elif place in _LOOKED_UP and len(texts) > 1:
        names.references.add(_pair(texts))


def _option_schemas(option: Any) -> Set[str]:
    if _is(option, ast.PublicationObjSpec):
        return {option.name} if option.name and "SCHEMA" in option.pubobjtype.name else set()
    if option.defname == "schema" and _is(option.arg, ast.String):
        return {option.arg.sval}
    return set(_strings(option.arg) or ()) if option.defname == "schemas" else set()


def _object_names(names: _Names, node: Any) -> None:
    """Collect names whose kind does not follow from their place: functions, and the object of COMMENT, DROP and the like."""
    if _is(node, ast.CreateFunctionStmt):
        names.objects.add(_pair(_strings(node.funcname) or ("",)))
    elif _is(node, ast.CreateTrigStmt, ast.CreateEventTrigStmt) and len(node.funcname) > 1:
        names.references.add(_pair(_strings(node.funcname) or ("",)))
    kind = ""
    for attribute in ("objtype", "objectType", "removeType", "renameType"):
        kind = kind or str(getattr(getattr(node, attribute, None), "name", ""))
    if _is(node, ast.RenameStmt) and kind == "OBJECT_SCHEMA":
        names.schemas.update({node.subname, node.newname})
    if _is(node, ast.GrantStmt) and node.targtype.name == "ACL_TARGET_ALL_IN_SCHEMA":
        kind = "OBJECT_SCHEMA"
    objects = [getattr(node, attribute, None) for attribute in ("object", "func", "opername")]
    for item in (*objects, *(getattr(node, "objects", None) or ())):
        _object_name(names, kind, item)


def _object_name(names: _Names, kind: str, item: Any) -> None:
    """Collect the name of one object of type ``kind``."""
    if kind == "OBJECT_SCHEMA" and _is(item, ast.String):
        names.schemas.add(item.sval)
    elif _is(item, ast.TypeName, ast.ObjectWithArgs):
        parts = item.names if _is(item, ast.TypeName) else item.objname
        names.objects.add(_pair(_strings(parts) or ("",)))
    else:
        texts = _strings(item)
        if texts:
            pair = _pair(texts[_NAME_PARTS.get(kind, slice(None))])
            if kind in _RELATIONS:
                names.relations.add((*pair, False))
            else:
                names.objects.add(pair)


def _check_names(names: _Names, rules: Rules, temporary: Set[str], report: _Reporter) -> None:
    for schema, name, read in sorted(names.relations):
        if schema or not (name in temporary or (read and name in names.ctes)):
            actual = schema or ("pg_catalog" if name.startswith("pg_") else "")
            _check_name(actual, name, rules, report, read=read)
    for schema, name in sorted(names.objects):
        _check_name(schema, name, rules, report, read=False)
    for schema, name in sorted(names.references):
        _check_name(schema, name, rules, report, read=True)
    for schema in sorted(names.schemas - rules.schemas):
        _report_schema(schema, schema, rules, report)


def _check_name(schema: str, name: str, rules: Rules, report: _Reporter, *, read: bool) -> None:
    if not schema and not rules.search_path:
        report(
            f"{name} without a schema, and settings.search_path is empty",
            expected=f"{min(rules.schemas)}.{name}, for example",
            next_step="write every name with its schema",
        )
    elif schema in _SYSTEM_SCHEMAS and not read:
        report(f"{quoted(schema, name)} is a system object", next_step="a phase cannot change system catalogs")
    elif schema and schema not in rules.schemas and schema not in _SYSTEM_SCHEMAS and schema != "pg_temp":
        _report_schema(schema, quoted(schema, name), rules, report)


def _report_schema(schema: str, name: str, rules: Rules, report: _Reporter) -> None:
    report(
        f"{name} is outside of scope.schemas",
        expected="one of " + ", ".join(sorted(rules.schemas)),
        next_step=f"add {schema} to scope.schemas if it is intended",
    )


def quoted(schema: str, name: str) -> str:
    """Return ``schema.name`` as SQL text, quoted only where it must be."""
    parts = [part for part in (schema, name) if part]
    return ".".join(p if _BARE_IDENTIFIER.fullmatch(p) else '"' + p.replace('"', '""') + '"' for p in parts)


# --- functions -------------------------------------------------------------------------------------------------


def _check_calls(
    calls: Sequence[Any], declared: FrozenSet[str], search_path: Sequence[str], report: Callable[..., None]
) -> None:
    for call in calls:
        schema, name = _pair(_strings(call.funcname) or ("",))
        full = f"{schema or 'pg_catalog'}.{name}"
        if full in declared:
            continue
        if not schema and search_path:
            report(f"the function {name} without a schema", next_step=f"write pg_catalog.{name}, or its own schema")
        elif schema not in ("", "pg_catalog"):
            report(
                f"the function {full} has effects that cannot be analysed",
                next_step=f"add {full} to scope.functions if it is intended",
            )
        elif name == "set_config":
            problem = _set_config_problem(call)
            if problem:
                report(problem, next_step="use SET LOCAL")
        elif _kinds.far_reaching(name):
            _report_far_reaching(name, report)


def _check_handed(node: Any, declared: FrozenSet[str], report: Callable[..., None]) -> None:
    """Report a far-reaching function that becomes part of an operator, an aggregate or a cast, which then calls it."""
    for _, child in walk(node):
        if _is(child, ast.TypeName, ast.ObjectWithArgs):
            schema, name = _pair(_strings(child.names if _is(child, ast.TypeName) else child.objname) or ("",))
            if schema in ("", "pg_catalog") and f"pg_catalog.{name}" not in declared and _kinds.far_reaching(name):
                _report_far_reaching(name, report)


def _report_far_reaching(name: str, report: Callable[..., None]) -> None:
    report(
        f"the function {name} reaches beyond this transaction",
        next_step=f"add pg_catalog.{name} to scope.functions if it is intended",
    )


def _set_config_problem(call: Any) -> str:
    arguments = [getattr(getattr(arg, "val", None), "sval", None) for arg in call.args or ()]
    local = call.args[-1] if call.args else None
    if getattr(getattr(local, "val", None), "boolval", None) is not True:
        return "set_config whose last argument is not true: the setting would outlive the transaction"
    name = (arguments[0] or "").lower()
    if name not in _kinds.LOCAL_SETTINGS and not ("." in name and not name.startswith("plpgsql.")):
        return f"set_config of {name or 'a computed name'}: not a setting that a phase may change"
    return ""


# --- the SQL of a check ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueryProblem:
    """Why a check's SQL is not accepted."""

    what: str
    next_step: str = ""


def query_problem(sql: str, functions: FrozenSet[str]) -> Optional[QueryProblem]:
    """Return why ``sql`` is not one plain SELECT that only reads, or ``None`` if it is one.

    ``functions`` are the functions outside of pg_catalog, and the far-reaching ones in it, that it may call.
    """
    try:
        raw = pglast.parse_sql(sql)
    except pglast.parser.ParseError as error:
        return QueryProblem(f"not SQL: {error.args[0]}", "correct the query; PostgreSQL's own parser rejects it")
    if len(raw) != 1 or not _is(raw[0].stmt, ast.SelectStmt):
        return QueryProblem("not one SELECT", "write one SELECT; several facts can be its columns")
    if raw[0].stmt_len:
        return QueryProblem("a semicolon after the query", "remove it")
    found: List[QueryProblem] = []
    names = _names(raw[0].stmt)
    for _, child in walk(raw[0].stmt):
        if _is(child, ast.LockingClause, ast.IntoClause):
            found.append(QueryProblem("FOR UPDATE, FOR SHARE or INTO in a check", "a check only reads: remove it"))
        elif _is(child, ast.CommonTableExpr) and not _is(child.ctequery, ast.SelectStmt):
            found.append(QueryProblem("a statement that changes rows inside WITH", "a check only reads: remove it"))
    for schema, name, _ in sorted(names.relations):
        if not schema and name not in names.ctes and not name.startswith("pg_"):
            found.append(QueryProblem(f"{name} without a schema", "write every relation with its schema"))

    def report(what: str, next_step: str = "") -> None:
        found.append(QueryProblem(what, next_step))

    _check_calls(names.calls, functions, (), report)
    return found[0] if found else None
