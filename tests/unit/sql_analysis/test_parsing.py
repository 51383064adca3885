# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that would end the parser, or keep it busy: refused within seconds, and the interpreter lives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.check_query import query_problem
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.parsing import parse_sql
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from pglast.parser import ParseError

if TYPE_CHECKING:
    from pathlib import Path

MANY = 60_000
BOMBS = {
    "plus": "SELECT " + "1+" * MANY + "1",
    "union": "SELECT 1" + " UNION SELECT 1" * MANY,
    "casts": "SELECT 1" + "::int" * MANY,
    "joins": "SELECT 1 FROM a" + " JOIN a ON true" * MANY,
    "collations": "SELECT 'a'" + ' COLLATE "C"' * MANY,
    "is null": "SELECT 1" + " IS NULL" * MANY,
    "brackets": "SELECT ARRAY" + "[" * 10_000,
    "parentheses": "SELECT " + "(" * MANY + "1" + ")" * MANY,
    "nots": "SELECT " + "NOT " * MANY + "true",
    "shorter than what is measured": "SELECT " + "1+" * 3990 + "1",
}


def problems_of(directory: Path, sql: str) -> str:
    scope = {
        "schemas": ["app"],
        "statements": ["SELECT", "DO", "CREATE TABLE", "CREATE FUNCTION", "ALTER TRIGGER DEPENDS ON EXTENSION"],
    }
    files = PhaseFiles(directory).write({"scope": scope}, ddl=sql.encode() + b";\n")
    with pytest.raises(PhaseFileError) as refused:
        analyse_phase(load_phase(files.path))
    return str(refused.value)


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.fault("input-bombs")
def test_sql_that_would_end_the_parser(tmp_path: Path, name: str) -> None:
    began = time.monotonic()
    said = problems_of(tmp_path, BOMBS[name])
    assert "migrate.sql" in said
    assert query_problem(BOMBS[name], frozenset()) is not None or name.startswith("shorter")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "body",
    ["BEGIN " * 3000 + "NULL; " + "END; " * 3000, "DECLARE x int; BEGIN x := " + "1+" * MANY + "1; END"],
    ids=["blocks", "expression"],
)
@pytest.mark.fault("input-bombs")
def test_bodies_that_would_end_the_parser(tmp_path: Path, body: str) -> None:
    began = time.monotonic()
    assert "migrate.sql" in problems_of(tmp_path, f"DO $x${body}$x$")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TRIGGER t ON app.a DEPENDS ON EXTENSION citext",
        "ALTER TRIGGER t ON app.a NO DEPENDS ON EXTENSION citext",
        "ALTER FUNCTION app.f(int) DEPENDS ON EXTENSION citext",
        "ALTER INDEX app.i DEPENDS ON EXTENSION citext",
        "ALTER MATERIALIZED VIEW app.v DEPENDS ON EXTENSION citext",
        "SELECT " + "9" * 5000,
        "DO $$BEGIN PERFORM " + "9" * 5000 + "; END$$",
    ],
    ids=lambda sql: sql[:40],
)
@pytest.mark.fault("input-bombs")
def test_statements_that_no_walker_stumbles_over(tmp_path: Path, sql: str) -> None:
    assert "migrate.sql" in problems_of(tmp_path, sql)


def test_long_sql_of_ordinary_depth_is_parsed() -> None:
    rows = ", ".join(f"({number}, 'text')" for number in range(20_000))
    assert len(parse_sql(f"INSERT INTO app.t VALUES {rows}; SELECT {' || '.join(['x'] * 500)}")) == 2
    assert len(parse_sql("SELECT " + " AND ".join(["true"] * 20_000))) == 1
    with pytest.raises(ParseError, match="syntax error"):
        parse_sql("SELECT 1; " * 2000 + "SELEC")


@pytest.mark.fault("attribute-call")
@pytest.mark.parametrize("function", ["pg_read_file", "pg_terminate_backend", "lo_unlink"])
def test_a_check_calls_no_far_reaching_function_in_attribute_notation(function: str) -> None:
    problem = query_problem(f"SELECT (x.y).{function} FROM app.x", frozenset())
    assert problem is not None
    assert problem.what == f"the function {function} reaches beyond this transaction"
    assert query_problem(f"SELECT (x.y).{function} FROM app.x", frozenset({f"pg_catalog.{function}"})) is None
    assert query_problem("SELECT (x.y).city FROM app.x", frozenset()) is None
    assert query_problem(f"SELECT x.{function} FROM pg_catalog.abs(7) x", frozenset()) == problem
    assert query_problem("SELECT x.city, a.b.c FROM pg_catalog.abs(7) x", frozenset()) is None
