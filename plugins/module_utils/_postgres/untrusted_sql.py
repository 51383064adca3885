# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a phase author's SQL on the server through plpgsql's EXECUTE.

The author's text is one dollar-quoted literal, so it can reach neither psql nor the surrounding transaction:
an embedded COMMIT, VACUUM, COPY FROM STDIN or a second statement in a check is an error of the server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import DIGITS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal

# More rows than this of a check or a trailing SELECT are counted, not kept: results go into a report.
ROWS_KEPT = 200

_EXECUTE = """
DECLARE
  started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  n pg_catalog.int8;
BEGIN
  EXECUTE {sql};
  GET DIAGNOSTICS n = ROW_COUNT;
  PERFORM pg_catalog.set_config('phasegate.answer', pg_catalog.json_build_object('rows', n, 'milliseconds',
    1000 * extract(epoch FROM pg_catalog.clock_timestamp() - started))::text, true);
END
"""

_QUERY = """
DECLARE
  started pg_catalog.timestamptz := pg_catalog.clock_timestamp();
  n pg_catalog.int8 := 0;
  r pg_catalog.record;
  kept pg_catalog.json[] := '{{}}';
BEGIN
  FOR r IN EXECUTE {sql} LOOP
    n := n + 1;
    IF n <= {rows_kept} THEN kept := kept || pg_catalog.row_to_json(r); END IF;
  END LOOP;
  PERFORM pg_catalog.set_config('phasegate.answer', pg_catalog.json_build_object('rows', n, 'milliseconds',
    1000 * extract(epoch FROM pg_catalog.clock_timestamp() - started), 'result', kept)::text, true);
END
"""

_CONTAINED = """
DECLARE
  state pg_catalog.text; message pg_catalog.text; detail pg_catalog.text; hint pg_catalog.text;
BEGIN
  {query};
EXCEPTION WHEN OTHERS OR query_canceled THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
    hint = PG_EXCEPTION_HINT;
  PERFORM pg_catalog.set_config('phasegate.answer', pg_catalog.json_build_object('error',
    pg_catalog.concat_ws(' ', state || ':', message, nullif(detail, ''), nullif(hint, '')))::text, true);
END
"""


@dataclass(frozen=True)
class Answer:
    """The server's answer to one statement.

    ``rows`` affected or returned; ``milliseconds`` on the server; ``result`` the first ``ROWS_KEPT`` rows as
    mappings in column order, for a query; ``error`` is '' or SQLSTATE and message.
    """

    rows: int = 0
    milliseconds: float = 0.0
    result: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""


def search_path(schemas: Sequence[str]) -> str:
    """Return the ``search_path`` for an author's SQL: pg_catalog first, pg_temp last, the named schemas between.

    pg_temp is searched first for tables when it is not named, and a schema before pg_catalog could replace any
    built-in function.
    """
    return ", ".join(["pg_catalog", *(identifier(schema) for schema in schemas), "pg_temp"])


def _answer(session: Session) -> Answer:
    text = session.value("SELECT pg_catalog.current_setting('phasegate.answer')") or "{}"
    try:
        return Answer(**json.loads(text, parse_int=_integer))
    except RecursionError:
        return Answer(error="the answer has values nested too deeply to be compared")


def _integer(text: str) -> int | str:
    """Return an integer; one that takes long to read stays a text, which equals no number."""
    return int(text) if len(text) <= DIGITS else text


def run_statement(session: Session, sql: str, *, returns_rows: bool) -> Answer:
    """Run one statement in the open transaction; an error of the server is raised as ``SqlError``."""
    template = _QUERY if returns_rows else _EXECUTE
    session.execute("DO " + literal(template.format(sql=literal(sql), rows_kept=ROWS_KEPT)))
    return _answer(session)


def run_alone(session: Session, sql: str) -> None:
    r"""Run one statement outside a transaction; an error of the server is raised as ``SqlError``.

    The server returns the literal as a row, and psql's ``\gexec`` sends the row's text unchanged: it interprets neither
    backslash commands nor variables in it (PostgreSQL manual, psql). A text of several statements is one implicit
    transaction, in which a statement with CONCURRENTLY fails.
    """
    session.execute(f"SELECT {literal(sql)} \\gexec")


def run_query(session: Session, sql: str) -> Answer:
    """Run one query in the open transaction; an error of the server is the answer's ``error``.

    The transaction stays usable: the query runs in a subtransaction that is rolled back when it fails.
    """
    block = "<<guarded>>" + _QUERY.format(sql=literal(sql), rows_kept=ROWS_KEPT)
    session.execute("DO " + literal(_CONTAINED.format(query=block)))
    return _answer(session)
