# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a phase author's SQL on the server through plpgsql's EXECUTE.

The author's text is one dollar-quoted literal, so it can reach neither psql nor the surrounding transaction:
an embedded COMMIT, VACUUM, COPY FROM STDIN or a second statement in a check is an error of the server.
"""

from __future__ import annotations

import contextlib
import decimal
import json
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import DIGITS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import FIXED_SETTINGS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import (
    ALSO,
    ConnectionLost,
    Session,
    SqlError,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    copy_field,
    identifier,
    literal,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major, varying

# More rows than this of a check or a trailing SELECT are counted, not kept: results go into a report.
ROWS_KEPT = 200

# So are rows from where they have more bytes than these together.
BYTES_KEPT = 1 << 20

# The author's search_path holds for the author's text alone. What reads its answer names every operator's schema: rows may be
# fetched while that path is in force, and an operator of one of its schemas that fits better would be taken.
_MILLISECONDS = (
    "1000::pg_catalog.numeric OPERATOR(pg_catalog.*)"
    " extract(epoch FROM (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) started))"
)

# Seconds by the server's clock.
_BEGUN = "extract(epoch FROM started)"

_EXECUTE = f"""
DECLARE
  started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  n pg_catalog.int8;
BEGIN
  PERFORM pg_catalog.set_config('search_path', {{path}}, true);
  EXECUTE {{sql}};
  GET DIAGNOSTICS n = ROW_COUNT;
  {{own}}
  PERFORM pg_catalog.set_config('phasegate.answer', pg_catalog.json_build_object('rows', n, 'milliseconds',
    {_MILLISECONDS}, 'begun', {_BEGUN})::pg_catalog.text, true);
END
"""

# Casts to json that initdb did not make.
_LATER_CASTS = """
pg_catalog.pg_cast c WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  AND c.casttarget OPERATOR(pg_catalog.=) 'pg_catalog.json'::pg_catalog.regtype::pg_catalog.oid
"""

# Those of extensions are a superuser's. Planning this takes longer than all else of a check, and there mostly is no such cast.
_NO_MEMBER = """
NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid OPERATOR(pg_catalog.=) c.oid
    AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_cast'::pg_catalog.regclass::pg_catalog.oid
    AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char")
"""

# The types of an answer's columns, and what arrays, domains and composite types among them hold.
_ANSWER_TYPES = """
WITH RECURSIVE held (oid) AS (
  SELECT t::pg_catalog.oid FROM pg_catalog.pg_prepared_statements p CROSS JOIN LATERAL pg_catalog.unnest(@answer_types(p)) t
  WHERE p.name OPERATOR(pg_catalog.=) 'phasegate_answer'
  UNION
  SELECT part.oid FROM held h JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) h.oid CROSS JOIN LATERAL (
    SELECT y.typelem UNION ALL SELECT y.typbasetype
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) y.typrelid
      AND y.typrelid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2) part (oid)
) SELECT h.oid FROM held h
"""

# The rows of a query. row_to_json() calls a cast to json that a user made for a type: what a check found would be what its
# function says. Where there is such a cast, the server tells the types of the answer; of an anonymous record it cannot.
_ROWS = f"""
  IF EXISTS (SELECT FROM {_LATER_CASTS}) THEN
    SELECT pg_catalog.array_agg(c.castsource) INTO sources FROM {_LATER_CASTS} AND {_NO_MEMBER};
  END IF;
  IF sources IS NOT NULL THEN
    EXECUTE pg_catalog.concat('PREPARE phasegate_answer AS ', {{sql}});
    SELECT pg_catalog.array_agg(h.oid) INTO types FROM ({_ANSWER_TYPES}) h;
    DEALLOCATE phasegate_answer;
    SELECT pg_catalog.format_type(c.oid, NULL) INTO lying FROM pg_catalog.unnest(sources) c (oid), pg_catalog.unnest(types) t (oid)
    WHERE t.oid OPERATOR(pg_catalog.=) ANY (ARRAY[c.oid, 'pg_catalog.record'::pg_catalog.regtype::pg_catalog.oid]) LIMIT 1;
    IF lying IS NOT NULL THEN
      RAISE EXCEPTION 'a cast from % to json exists, which would decide what this answer says', lying
        USING HINT = 'Drop the cast, or call its function by name where it is needed.';
    END IF;
  END IF;
  FOR r IN EXECUTE {{sql}} LOOP
    n := n OPERATOR(pg_catalog.+) 1::pg_catalog.int8;
    IF n OPERATOR(pg_catalog.<=) {{rows_kept}}::pg_catalog.int8 AND size OPERATOR(pg_catalog.<=) {{bytes_kept}}::pg_catalog.int8 THEN
      one := pg_catalog.row_to_json(r);
      size := size OPERATOR(pg_catalog.+) pg_catalog.octet_length(one::pg_catalog.text)::pg_catalog.int8;
      IF size OPERATOR(pg_catalog.<=) {{bytes_kept}}::pg_catalog.int8 THEN
        kept := pg_catalog.array_append(kept, one);
      END IF;
    END IF;
  END LOOP;
"""

_DECLARED = """
  started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  n pg_catalog.int8 := 0;
  r pg_catalog.record;
  size pg_catalog.int8 := 0;
  one pg_catalog.json;
  kept pg_catalog.json[] := '{{}}';
  lying pg_catalog.text;
  sources pg_catalog.oid[];
  types pg_catalog.oid[];
"""

_KEEP_ANSWER = f"""
  PERFORM pg_catalog.set_config('phasegate.answer', pg_catalog.json_build_object('rows', n, 'milliseconds',
    {_MILLISECONDS}, 'begun', {_BEGUN}, 'result', kept)::pg_catalog.text, true);
"""

_QUERY = f"""
DECLARE {_DECLARED}
BEGIN
  PERFORM pg_catalog.set_config('search_path', {{path}}, true);
  {_ROWS}
  {{own}}
  {_KEEP_ANSWER}
END
"""

# A check runs in a read-only subtransaction that is always rolled back: what a function behind it does to data, settings or
# the role ends with it. Only this block can set its own variable, so no error can pose as the end of the query.
_CHECK = f"""
DECLARE {_DECLARED}
  whole pg_catalog.bool := false;
  state pg_catalog.text; message pg_catalog.text; detail pg_catalog.text; hint pg_catalog.text;
BEGIN
  BEGIN
    PERFORM pg_catalog.set_config('search_path', {{path}}, true), pg_catalog.set_config('transaction_read_only', 'on', true);
    {_ROWS}
    whole := true;
    RAISE EXCEPTION 'the query is done';
  EXCEPTION WHEN OTHERS OR query_canceled THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
      hint = PG_EXCEPTION_HINT;
  END;
  IF whole THEN
    {_KEEP_ANSWER}
  ELSE
    PERFORM pg_catalog.set_config('phasegate.answer', pg_catalog.json_build_object('error', pg_catalog.concat_ws(' ',
      pg_catalog.concat(state, ':'), message, nullif(detail, ''), nullif(hint, '')))::pg_catalog.text, true);
  END IF;
END
"""


@dataclass(frozen=True)
class Answer:
    """The server's answer to one statement.

    ``rows`` affected or returned; ``milliseconds`` on the server; ``begun`` in seconds since 1970 by the server's clock;
    ``result`` the first rows, as many as ``ROWS_KEPT`` and ``BYTES_KEPT`` let, as
    mappings in column order, for a query; ``error`` is '' or SQLSTATE and message.
    """

    rows: int = 0
    milliseconds: float = 0.0
    begun: float = 0.0
    result: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


_LOOK = ("SAVEPOINT phasegate_look", "SET LOCAL transaction_read_only = on")
_LOOKED = ("ROLLBACK TO SAVEPOINT phasegate_look", "RELEASE SAVEPOINT phasegate_look")


def look(session: Session, *queries: str, hidden_rows_fail: bool = False) -> list[tuple[str | None, ...]]:
    """Read what others own, in the open transaction, and return the rows of all queries; of several, the last has exactly one.

    A function behind a view, a policy or an operator may run then. What it does to data, settings or the role ends with the reading,
    and it cannot write. ``hidden_rows_fail``: a policy that would hide rows is an error. Raises ``SqlError``; the transaction goes on.
    """
    settings = ("SET LOCAL row_security = off",) if hidden_rows_fail else ()
    reading = (f"COPY ({query}) TO STDOUT" for query in queries)
    try:
        # in one message: locks may be held meanwhile
        return list(session.copied(ALSO.join((*_LOOK, *settings, *reading, *_LOOKED))))
    except SqlError:
        session.execute(ALSO.join(_LOOKED))
        raise


def search_path(schemas: Sequence[str]) -> str:
    """Return the ``search_path`` for an author's SQL: pg_catalog first, pg_temp last, the named schemas between.

    pg_temp is searched first for tables when it is not named, and a schema before pg_catalog could replace any
    built-in function.
    """
    return ", ".join(["pg_catalog", *(identifier(schema) for schema in schemas), "pg_temp"])


_KEPT_ANSWER = "COPY (SELECT pg_catalog.current_setting('phasegate.answer')) TO STDOUT"


def _requests(blocks: Sequence[str]) -> list[str]:
    """Return requests that run blocks, each answered by one line."""
    return [f"DO {literal(block)}{ALSO}{_KEPT_ANSWER}" for block in blocks]


def _answers(found: Sequence[list[str] | SqlError]) -> list[Answer | SqlError]:
    return [one if isinstance(one, SqlError) else _answer(copy_field(one[0]) or "{}") for one in found]


def _answer(text: str) -> Answer:
    try:
        return Answer(**json.loads(text, parse_int=_integer, parse_float=_number, object_pairs_hook=_unique))
    except RecursionError:
        return Answer(error="the answer has values nested too deeply to be compared")
    except _Ambiguous as twice:
        return Answer(error=f"the answer has two values under the name {twice}: give each column a name of its own")


class _Ambiguous(ValueError):
    """Two values of one object have the same name."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        raise _Ambiguous(json.dumps(next(name for name in names if names.count(name) > 1)))
    return found


def _integer(text: str) -> int | str:
    """Return an integer; one that takes long to read stays a text, which equals no number."""
    return int(text) if len(text) <= DIGITS else text


def _number(text: str) -> float | str:
    """Return a number with a fraction; one that no floating-point number equals stays a text, which equals no number."""
    if len(text) > DIGITS:
        return text
    nearest = float(text)
    return nearest if decimal.Decimal(repr(nearest)) == decimal.Decimal(text) else text


# What a phase may set with SET LOCAL and what decides how a statement ends or where its result is stored, what functions mean, and
# whether constraints and row security apply; of the last, what a session began with is kept.
KEPT_SETTINGS = (
    "default_text_search_config",
    "lc_numeric",
    "lc_time",
    "timezone_abbreviations",
    "xmlbinary",
    "xmloption",
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "check_function_bodies",
    "default_table_access_method",
    "default_tablespace",
    "default_toast_compression",
    "row_security",
)

_REPLICATION_ROLE = "session_replication_role"


def kept_settings(session: Session) -> dict[str, str]:
    """Return the settings of the transaction that no statement but a SET LOCAL changes, as they are now."""
    names = (*KEPT_SETTINGS, _REPLICATION_ROLE)
    cells = ", ".join(f"pg_catalog.current_setting('{name}')" for name in names)
    return {name: value or "" for name, value in zip(names, session.rows(f"SELECT {cells}")[0])}


def settable(session: Session, kept: Mapping[str, str]) -> dict[str, str]:
    """Return what the current role may set of ``kept_settings``: nobody who cannot set one changes it, and to set it would be an error."""
    may_set = session.value(for_major(f"SELECT {varying('may_set', _REPLICATION_ROLE)}", session.major)) == "t"
    return {name: value for name, value in kept.items() if may_set or name != _REPLICATION_ROLE}


def own_settings(role: str, kept: Mapping[str, str] | None = None) -> str:
    """Return the SQL expressions that set, for the transaction, what holds for every statement of phasegate.

    They name no operator, so they do the same under any search_path. ``role`` is a role's name, or ``none``; ``kept`` are
    ``kept_settings``.
    """
    return _set(_own(role, kept))


def _own(role: str, kept: Mapping[str, str] | None) -> dict[str, str]:
    # the role first: what a statement made of it may not be able to set the others
    return {"role": role or "none", **FIXED_SETTINGS, **(kept or {})}


def _set(settings: Mapping[str, str]) -> str:
    return ", ".join(f"pg_catalog.set_config('{name}', {literal(value)}, true)" for name, value in settings.items())


def _restoring(settings: dict[str, str]) -> str:
    """Return PL/pgSQL that sets what a statement may have changed; to compare takes a third of the time that setting all does."""
    # the statement's search_path is another one in any case
    names = [name for name in settings if name != "search_path"]
    now = "pg_catalog.json_agg(pg_catalog.current_setting(kept.name))::pg_catalog.text"
    own = json.dumps([settings[name] for name in names], ensure_ascii=False)
    return f"""
  PERFORM {_set({name: value for name, value in settings.items() if name not in names})};
  IF (SELECT {now} FROM pg_catalog.unnest('{{{",".join(names)}}}'::pg_catalog.text[]) kept (name)) OPERATOR(pg_catalog.<>) {literal(own)} THEN
    PERFORM {_set(settings)};
  END IF;
"""


def run_statements(
    session: Session,
    statements: Sequence[tuple[str, bool]],
    schemas: Sequence[str] = (),
    *,
    role: str = "",
    kept: Mapping[str, str] | None = None,
) -> list[Answer | SqlError]:
    """Run statements in the open transaction, sent at once, and return each one's answer or error, in order.

    Each is its text and whether it returns rows; after an error the server refuses the rest. ``schemas`` is their search_path
    between pg_catalog and pg_temp. ``role`` is what SET ROLE has named, '' for none; whatever a statement has made of it, of
    ``FIXED_SETTINGS`` or of ``kept`` is undone. Raises ``ConnectionLost``.
    """
    own = _restoring(_own(role, kept))
    blocks = [
        _block(session, _QUERY if returns_rows else _EXECUTE, sql, schemas, own) for sql, returns_rows in statements
    ]
    # each in a message of its own: statement_timestamp() is the moment of the message
    return _answers(session.batch(_requests(blocks)))


def run_statement(
    session: Session,
    sql: str,
    schemas: Sequence[str] = (),
    *,
    returns_rows: bool,
    role: str = "",
    kept: Mapping[str, str] | None = None,
) -> Answer:
    """Run one statement as ``run_statements`` does; an error of the server is raised as ``SqlError``."""
    answer = run_statements(session, [(sql, returns_rows)], schemas, role=role, kept=kept)[0]
    if isinstance(answer, SqlError):
        raise answer
    return answer


def _block(session: Session, template: str, sql: str, schemas: Sequence[str], own: str = "") -> str:
    # before the author's SQL is in it
    template = for_major(template, session.major)
    return template.format(
        sql=literal(sql), path=literal(search_path(schemas)), rows_kept=ROWS_KEPT, bytes_kept=BYTES_KEPT, own=own
    )


def run_alone(session: Session, sql: str, schemas: Sequence[str] = ()) -> None:
    r"""Run one statement outside a transaction; an error of the server is raised as ``SqlError``.

    ``schemas`` is the statement's search_path between pg_catalog and pg_temp.

    The server returns the literal as a row, and psql's ``\gexec`` sends the row's text unchanged: it interprets neither
    backslash commands nor variables in it (PostgreSQL manual, psql). A text of several statements is one implicit
    transaction, in which a statement with CONCURRENTLY fails.
    """
    session.set("search_path", search_path(schemas))
    try:
        session.execute(f"SELECT {literal(sql)} \\gexec")
    finally:
        with contextlib.suppress(ConnectionLost):
            session.set("search_path", search_path(()))


def run_queries(session: Session, queries: Sequence[str], schemas: Sequence[str] = ()) -> list[Answer]:
    """Run queries in the open transaction, read-only, sent at once; an error of the server is the answer's ``error``.

    The transaction stays as it was: each runs in a subtransaction that is rolled back. ``schemas`` is their search_path
    between pg_catalog and pg_temp. Raises ``SqlError`` only when the transaction had failed before.
    """
    answers = []
    blocks = [_block(session, _CHECK, sql, schemas) for sql in queries]
    for answer in _answers(session.message(_requests(blocks), one_line=True)):
        if isinstance(answer, SqlError):
            raise answer
        answers.append(answer)
    return answers
