# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decide whether two texts are one expression, printed at two moments: the server parses and prints them again.

PostgreSQL keeps an expression as a tree and prints it. What it prints after it has parsed its own text may be written
otherwise: ``((a AND b) AND (c AND d))`` becomes ``(a AND b AND (c AND d))``, and ``(ARRAY['x'::varchar])::text[]`` becomes
``ARRAY[('x'::varchar)::text]``. So a restored database, or one in which the same SQL ran again, may show another text of the
same object. Printed once more, such texts end at one fixed point. A changed expression never does.

Each text is given to a temporary object of the same shape in a transaction, or below a savepoint, that is rolled back.
Nothing of the object itself is touched, nothing is evaluated for a row, and no privilege but TEMPORARY on the database and
USAGE on the schemas that a text names is needed.
"""

from __future__ import annotations

import re
from typing import Callable, Mapping, NamedTuple, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal, qualified
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import (
    run_statement,
    search_path,
)

#: A text was stable after one pass in all corpora; more passes than these are not worth waiting for.
_PASSES = 4

_SAVEPOINT = "phasegate_reprint"

#: The name of a temporary object that has no name to keep.
_NAME = "phasegate_reprint"

_COLUMNS = (
    "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attcollation <> y.typcollation"
    " THEN ' COLLATE ' || a.attcollation::pg_catalog.regcollation::text ELSE '' END"
    " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid"
    " WHERE a.attrelid = {relation} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
)

_ROUTINE = (
    "SELECT pg_catalog.pg_get_function_arguments(f.oid), pg_catalog.pg_get_function_result(f.oid)"
    " FROM pg_catalog.pg_proc f WHERE f.oid = pg_catalog.to_regprocedure({signature})"
)

_BASE_TYPE = (
    "SELECT pg_catalog.format_type(y.typbasetype, y.typtypmod) FROM pg_catalog.pg_type y"
    " JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace WHERE n.nspname = {schema} AND y.typname = {name}"
)


class _NotPrintable(Exception):
    """This text cannot be given to a temporary object; the message says why."""


class _Trial(NamedTuple):
    """How to print one text again: statements that make a temporary object, and the query for its text.

    ``around`` turns the answer into a text as it was given.
    """

    make: Sequence[str]
    read: str
    around: Callable[[str], str] = str


class Reprinter:
    """Compares texts of the database that a session is connected to.

    ``inside``: a transaction is open. ``refused`` has the server's words where it could not print a text again.
    """

    def __init__(self, session: Session, *, inside: bool) -> None:
        self._session = session
        self._begin, self._undo = (
            (f"SAVEPOINT {_SAVEPOINT}", f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}")
            if inside
            else ("BEGIN", "ROLLBACK")
        )
        self._inside = inside
        self._printed: dict[tuple[str, tuple[str, ...], str, str], str | None] = {}
        self.refused: dict[str, None] = {}

    @property
    def wrote(self) -> bool:
        """Whether temporary objects were made."""
        return bool(self._printed)

    def same(
        self, kind: str, identity: Sequence[str], attribute: str | None, one: str | None, other: str | None
    ) -> bool:
        """Return whether two texts of one attribute of one object are the same expression.

        False where the server cannot tell; ``refused`` then says why. Raises ``ConnectionLost``.
        """
        if one == other:
            return True
        if one is None or other is None or not printable(kind, attribute):
            return False
        place = (kind, tuple(identity), attribute or "")
        first = self._print(*place, one)
        if first == other or first is None:
            return first == other
        return self._print(*place, other) == one or self._fixed(*place, first) == self._fixed(*place, other)

    def _fixed(self, kind: str, identity: tuple[str, ...], attribute: str, text: str) -> str:
        for _pass in range(_PASSES):
            printed = self._print(kind, identity, attribute, text)
            if printed is None or printed == text:
                break
            text = printed
        return text

    def _print(self, kind: str, identity: tuple[str, ...], attribute: str, text: str) -> str | None:
        """Return a text as the server prints it after it has parsed it, None when it does not."""
        key = (kind, identity, attribute, text)
        if key not in self._printed:
            self._session.execute(self._begin)
            try:
                # a run's own role may have none of the privileges; the settings end with the savepoint
                self._session.set("role", "none", local=True)
                self._session.set("search_path", search_path(()), local=True)
                self._session.set("check_function_bodies", "off", local=True)
                if not self._inside:
                    self._session.set("lock_timeout", "5s", local=True)
                trial = _TRIALS[kind, attribute](self, identity, text)
                for statement in trial.make:
                    run_statement(self._session, statement, returns_rows=False)
                printed = self._session.value(trial.read)
                self._printed[key] = None if printed is None else trial.around(printed)
            except SqlError as error:
                self._printed[key] = None
                self.refused[f"{kind.replace('_', ' ')} {'.'.join(identity)}: {error.words()}"] = None
            except (LookupError, _NotPrintable):
                self._printed[key] = None
            finally:
                self._session.execute(self._undo)
        return self._printed[key]

    def explain(self) -> str:
        """Return for people why texts could not be printed again, '' when none was refused."""
        if not self.refused:
            return ""
        shown = list(self.refused)[:3]
        more = f"; and {len(self.refused) - len(shown)} more" if len(self.refused) > len(shown) else ""
        return f"The server could not print these texts again, so they count as different: {'; '.join(shown)}{more}"

    # -- what a temporary object needs to know of the real one --------------------------------------------------------

    def names(self, schema: str, name: str) -> tuple[str, str]:
        """Return a relation's name as the server prints it, and that of its temporary twin."""
        row = self._session.rows(
            f"SELECT pg_catalog.quote_ident({literal(schema)}), pg_catalog.quote_ident({literal(name)})"
        )[0]
        return f"{row[0]}.{row[1]}", f"pg_temp.{row[1]}"

    def columns(self, relation: str) -> dict[str, str]:
        """Return the columns of a relation (SQL of type regclass) with their types."""
        rows = self._session.rows(_COLUMNS.format(relation=relation))
        if not rows:
            raise _NotPrintable("the relation is not there, or has no column")
        return {name or "": kind or "" for name, kind in rows}

    def twin(self, schema: str, name: str, relation: str = "", tail: str = "") -> str:
        """Return the statement that makes an empty temporary table of a relation's shape and name."""
        relation = relation or f"pg_catalog.to_regclass({literal(qualified(schema, name))})"
        columns = ", ".join(f"{identifier(column)} {kind}" for column, kind in self.columns(relation).items())
        return f"CREATE TEMPORARY TABLE {identifier(name)} ({columns}){tail}"

    def base_type(self, schema: str, name: str) -> str:
        """Return the type that a domain is made of."""
        rows = self._session.rows(_BASE_TYPE.format(schema=literal(schema), name=literal(name)))
        if not rows:
            raise _NotPrintable("the domain is not there")
        return rows[0][0] or ""

    def routine(self, schema: str, signature: str) -> tuple[str, str | None]:
        """Return the arguments and the result of a routine; a procedure has no result."""
        name = literal(f"{identifier(schema)}.{signature}")
        rows = self._session.rows(_ROUTINE.format(signature=name))
        if not rows:
            raise _NotPrintable("the routine is not there")
        return rows[0][0] or "", rows[0][1]


_Maker = Callable[[Reprinter, Sequence[str], str], _Trial]


def _twin_regclass(name: str) -> str:
    return f"{literal('pg_temp.' + identifier(name))}::pg_catalog.regclass"


def _constraint(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    if not text.startswith(("CHECK ", "EXCLUDE ")):
        raise _NotPrintable("a key's text holds names only")
    schema, relation, _name = identity
    return _Trial(
        (
            server.twin(schema, relation),
            f"ALTER TABLE pg_temp.{identifier(relation)} ADD CONSTRAINT {_NAME} {text}",
        ),
        f"SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k WHERE k.conrelid = {_twin_regclass(relation)}",
    )


def _default(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    schema, relation, column = identity
    return _Trial(
        (
            server.twin(schema, relation),
            f"ALTER TABLE pg_temp.{identifier(relation)} ALTER COLUMN {identifier(column)} SET DEFAULT {text}",
        ),
        f"SELECT pg_catalog.pg_get_expr(d.adbin, 0) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = {_twin_regclass(relation)}",
    )


def _generated(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    schema, relation, column = identity
    how, _space, expression = text.partition(" ")
    kind = server.columns(f"pg_catalog.to_regclass({literal(qualified(schema, relation))})").get(column)
    if kind is None:
        raise _NotPrintable("the column is not there")
    return _Trial(
        (
            server.twin(schema, relation),
            f"ALTER TABLE pg_temp.{identifier(relation)} ADD COLUMN {_NAME} {kind} GENERATED ALWAYS AS ({expression}) {how}",
        ),
        f"SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = {_twin_regclass(relation)}",
        lambda printed: f"{how} {printed}",
    )


def _policy(clause: str, column: str) -> _Maker:
    def maker(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
        schema, relation = identity[:2]
        return _Trial(
            (
                server.twin(schema, relation),
                f"CREATE POLICY {_NAME} ON pg_temp.{identifier(relation)} {clause} ({text})",
            ),
            f"SELECT pg_catalog.pg_get_expr(p.{column}, p.polrelid) FROM pg_catalog.pg_policy p WHERE p.polrelid = {_twin_regclass(relation)}",
        )

    return maker


def _row_filter(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    _publication, schema, relation = identity
    return _policy("USING", "polqual")(server, (schema, relation), text)


def _view(_server: Reprinter, _identity: Sequence[str], text: str) -> _Trial:
    return _Trial(
        (f"CREATE TEMPORARY VIEW {_NAME} AS {text.rstrip(' ;')}",),
        f"SELECT pg_catalog.pg_get_viewdef({_twin_regclass(_NAME)})",
    )


def _on_twin(before: str, catalog: str, relation: str, printed: str) -> _Maker:
    """Return a maker for what is created by its own text: ``CREATE INDEX x ON s.t USING ...``.

    ``before`` stands before the name of the relation in the text (a regular expression).
    """

    def maker(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
        schema, name = identity[:2]
        real, twin = server.names(schema, name)
        found = re.search(f"{before}{re.escape(real)}(?=\\s)", text)
        if not found:
            raise _NotPrintable(f"its text does not name {real}")
        start, end = found.span()
        keep, head = text[start:end], text[:start]
        word = keep[: len(keep) - len(real)].replace("ONLY ", "")
        return _Trial(
            (server.twin(schema, name), f"{head}{word}{twin}{text[end:]}"),
            f"SELECT {printed} FROM pg_catalog.{catalog} x WHERE x.{relation} = {_twin_regclass(name)}",
            lambda answer: answer.replace(f"{word}{twin}", keep, 1),
        )

    return maker


def _statistics(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    schema, name = identity
    real, twin = server.names(schema, name)
    head, _from, relation = text.rpartition(" FROM ")
    if not head.startswith(f"CREATE STATISTICS {real}"):
        raise _NotPrintable(f"its text does not name {real}")
    return _Trial(
        (
            server.twin("pg_temp", _NAME, f"pg_catalog.to_regclass({literal(relation)})"),
            head.replace(real, twin, 1) + f" FROM pg_temp.{_NAME}",
        ),
        f"SELECT pg_catalog.pg_get_statisticsobjdef(x.oid) FROM pg_catalog.pg_statistic_ext x WHERE x.stxrelid = {_twin_regclass(_NAME)}",
        lambda answer: answer.replace(twin, real, 1).rpartition(" FROM ")[0] + f" FROM {relation}",
    )


def _partition_key(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    schema, name = identity
    return _Trial(
        (server.twin(schema, name, tail=f" PARTITION BY {text}"),),
        f"SELECT pg_catalog.pg_get_partkeydef({_twin_regclass(name)})",
    )


def _domain_default(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    return _Trial(
        (f"CREATE DOMAIN pg_temp.{_NAME} AS {server.base_type(*identity)} DEFAULT {text}",),
        "SELECT coalesce(pg_catalog.pg_get_expr(y.typdefaultbin, 'pg_catalog.pg_type'::pg_catalog.regclass), y.typdefault)"
        f" FROM pg_catalog.pg_type y WHERE y.oid = 'pg_temp.{_NAME}'::pg_catalog.regtype",
    )


def _domain_constraint(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
    return _Trial(
        (f"CREATE DOMAIN pg_temp.{_NAME} AS {server.base_type(*identity[:2])} CONSTRAINT {_NAME} {text}",),
        "SELECT pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k"
        f" WHERE k.contypid = 'pg_temp.{_NAME}'::pg_catalog.regtype",
    )


def _routine(read: str, *, of_body: bool) -> _Maker:
    def maker(server: Reprinter, identity: Sequence[str], text: str) -> _Trial:
        arguments, result = server.routine(*identity)
        if of_body and not text.startswith(("BEGIN ATOMIC", "RETURN ")):
            raise _NotPrintable("its body is kept as it was written")
        body = text if of_body else "AS ''"
        arguments = arguments if of_body else text
        returns = "" if result is None else f" RETURNS {result}"
        kind = "PROCEDURE" if result is None else "FUNCTION"
        return _Trial(
            (f"CREATE {kind} pg_temp.{_NAME}({arguments}){returns} LANGUAGE sql {body}",),
            f"SELECT pg_catalog.{read}(f.oid) FROM pg_catalog.pg_proc f WHERE f.proname = {literal(_NAME)}"
            " AND f.pronamespace = pg_catalog.pg_my_temp_schema()",
        )

    return maker


_INDEX = _on_twin(r" ON (?:ONLY )?", "pg_index", "indrelid", "pg_catalog.pg_get_indexdef(x.indexrelid)")

_TRIALS: Mapping[tuple[str, str], _Maker] = {
    ("constraint", "definition"): _constraint,
    ("column", "default"): _default,
    ("column", "generated"): _generated,
    ("policy", "using"): _policy("USING", "polqual"),
    ("policy", "check"): _policy("WITH CHECK", "polwithcheck"),
    ("publication_table", "where"): _row_filter,
    ("view", "definition"): _view,
    ("materialized_view", "definition"): _view,
    ("index", "definition"): _INDEX,
    ("trigger", "definition"): _on_twin(" ON ", "pg_trigger", "tgrelid", "pg_catalog.pg_get_triggerdef(x.oid)"),
    ("rule", "definition"): _on_twin(" TO ", "pg_rewrite", "ev_class", "pg_catalog.pg_get_ruledef(x.oid)"),
    ("statistics", "definition"): _statistics,
    ("table", "partition_key"): _partition_key,
    ("domain", "default"): _domain_default,
    ("domain_constraint", "definition"): _domain_constraint,
    ("function", "body"): _routine("pg_get_function_sqlbody", of_body=True),
    ("procedure", "body"): _routine("pg_get_function_sqlbody", of_body=True),
    ("function", "arguments"): _routine("pg_get_function_arguments", of_body=False),
    ("procedure", "arguments"): _routine("pg_get_function_arguments", of_body=False),
}


def printable(kind: str, attribute: str | None) -> bool:
    """Return whether an attribute of a kind of fact is an expression that the server prints."""
    return (kind, attribute or "") in _TRIALS


def printed_attributes(kind: str) -> tuple[str, ...]:
    """Return the attributes of a kind of fact that are expressions."""
    return tuple(name for of, name in _TRIALS if of == kind)
