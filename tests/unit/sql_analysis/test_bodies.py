# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a body runs is judged like the file's own statements; what nobody can see in it has to be in the scope as such."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import far_reaching
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_file

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

HEADS = ("DO", "CREATE FUNCTION", "CREATE PROCEDURE", "CREATE TRIGGER", "CALL", "SELECT")


def judged(sql: str, *kinds: str, functions: tuple[str, ...] = ()) -> tuple[list[str], list[Problem]]:
    """Return the kinds of the last statement, and what is wrong with a file whose scope has these kinds and the heads."""
    rules = SqlRules(
        schemas=frozenset({"app"}),
        kinds=frozenset({*HEADS, *kinds}),
        functions=frozenset(functions),
        search_path=(),
        rows={},
        kinds_at="scope.statements",
        rows_at="expect.rows",
    )
    problems: list[Problem] = []
    statements = analyse_file(SourceFile("x.sql", "x.sql", sql.encode()), rules, problems)
    return (statements[-1]["kinds"] if statements else []), problems


def do(body: str) -> str:
    return f"DO $body$ {body} $body$"


def plpgsql(body: str, head: str = "FUNCTION app.f() RETURNS trigger") -> str:
    return f"CREATE {head} LANGUAGE plpgsql AS $body$ {body} $body$"


def sql(body: str) -> str:
    return f"CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS $body$ {body} $body$"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        # whatever the way to a shell, a file or the server's configuration
        (do("BEGIN COPY app.t TO PROGRAM 'id'; END"), "COPY TO PROGRAM is not in scope.statements"),
        (
            do("BEGIN IF true THEN LOOP COPY app.t FROM '/etc/passwd'; END LOOP; END IF; END"),
            "COPY FROM FILE is not in",
        ),
        (plpgsql("BEGIN COPY app.t TO PROGRAM 'id'; RETURN NEW; END"), "COPY TO PROGRAM is not in scope.statements"),
        (plpgsql("BEGIN NULL; EXCEPTION WHEN others THEN DROP TABLE app.t; END"), "DROP TABLE is not in"),
        (sql("COPY app.t TO PROGRAM 'id'; SELECT 1"), "COPY TO PROGRAM is not in scope.statements"),
        (
            "CREATE FUNCTION app.f() RETURNS void BEGIN ATOMIC DELETE FROM app.t; END",
            "DELETE is not in scope.statements",
        ),
        (do("BEGIN ALTER SYSTEM SET archive_command = 'id'; END"), "in the body: ALTER SYSTEM cannot be in a phase"),
        (do("BEGIN SET ROLE postgres; END"), "in the body: a setting changed outside SET LOCAL"),
        (do("BEGIN SET LOCAL session_replication_role = replica; END"), "SET LOCAL session_replication_role"),
        (do("BEGIN VACUUM app.t; END"), "in the body: VACUUM cannot be in a phase"),
        # the transaction
        (do("BEGIN COMMIT; END"), "COMMIT in DO"),
        (do("BEGIN FOR i IN 1..2 LOOP ROLLBACK AND CHAIN; END LOOP; END"), "ROLLBACK in DO"),
        # what a body inside a body does
        (do("BEGIN DO $x$BEGIN COMMIT; END$x$; END"), "COMMIT in DO"),
        (do("BEGIN DO $x$BEGIN PERFORM pg_read_file('/etc/passwd'); END$x$; END"), "pg_read_file reaches beyond"),
        (do("BEGIN DO $x$BEGIN DO $y$BEGIN PERFORM app.g(); END$y$; END$x$; END"), "the function app.g has effects"),
        (sql("DO $x$BEGIN ALTER SYSTEM SET work_mem = 1; END$x$; SELECT 1"), "in the body: ALTER SYSTEM cannot be"),
        # other schemas, and the system's own
        (do("BEGIN UPDATE other.t SET x = 1; END"), "UPDATE is not in scope.statements"),
        (do("DECLARE n int; BEGIN SELECT count(*) INTO n FROM other.t; END"), "other.t is outside of scope.schemas"),
        (do("BEGIN ASSERT (SELECT count(*) FROM other.t) = 0; END"), "other.t is outside of scope.schemas"),
        # functions, in whatever place a body has one
        (do("BEGIN PERFORM pg_read_file('/etc/passwd'); END"), "pg_read_file reaches beyond"),
        (do("DECLARE x text := pg_read_file('/etc/passwd'); BEGIN NULL; END"), "pg_read_file reaches beyond"),
        (do("DECLARE x text; BEGIN x := lo_import('/etc/passwd'); END"), "lo_import reaches beyond"),
        (do("DECLARE x int[]; BEGIN x[lo_import('/etc/passwd')] := 1; END"), "lo_import reaches beyond"),
        (do("DECLARE x text; BEGIN x = pg_reload_conf(); END"), "pg_reload_conf reaches beyond"),
        (do("BEGIN RAISE NOTICE '%', pg_terminate_backend(1); END"), "pg_terminate_backend reaches beyond"),
        (do("BEGIN IF pg_promote() THEN NULL; END IF; END"), "pg_promote reaches beyond"),
        (do("BEGIN WHILE pg_try_advisory_lock(1) LOOP NULL; END LOOP; END"), "pg_try_advisory_lock reaches beyond"),
        (do("DECLARE c CURSOR FOR SELECT pg_switch_wal(); BEGIN OPEN c; END"), "pg_switch_wal reaches beyond"),
        (do("BEGIN PERFORM query_to_xml('DELETE', true, true, ''); END"), "query_to_xml reaches beyond"),
        (do("BEGIN PERFORM set_config('role', 'x', true); END"), "set_config of role"),
        (do("BEGIN PERFORM app.g(); END"), "the function app.g has effects"),
        (do("BEGIN CALL app.p(); END"), "the function app.p has effects"),
        (sql("SELECT pg_read_file('/etc/passwd')"), "pg_read_file reaches beyond"),
        ("CREATE FUNCTION app.f() RETURNS text RETURN pg_read_file('/etc/passwd')", "pg_read_file reaches beyond"),
        # what is computed
        (
            do("BEGIN EXECUTE 'COPY app.t TO PROGRAM ''id'''; END"),
            "DO EXECUTE is not in scope.statements: its body cannot be analysed",
        ),
        (do("DECLARE r record; BEGIN FOR r IN EXECUTE 'SELECT 1' LOOP NULL; END LOOP; END"), "DO EXECUTE is not in"),
        (do("DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE 'SELECT 1'; END"), "DO EXECUTE is not in"),
        (plpgsql("BEGIN EXECUTE 'x'; END"), "CREATE FUNCTION EXECUTE is not in scope.statements"),
        (
            plpgsql("BEGIN RETURN QUERY EXECUTE 'x'; END", "FUNCTION app.f() RETURNS SETOF int"),
            "CREATE FUNCTION EXECUTE",
        ),
        (plpgsql("BEGIN EXECUTE 'x'; END", "PROCEDURE app.p()"), "CREATE PROCEDURE EXECUTE is not in scope.statements"),
        ("DO LANGUAGE plpython3u 'import os'", "(written in plpython3u)"),
        ("CREATE FUNCTION app.f() RETURNS int LANGUAGE c AS '/tmp/x.so', 'f'", "(written in c)"),
        ("CREATE FUNCTION app.f(int) RETURNS bool LANGUAGE internal AS 'pg_terminate_backend'", "written in internal"),
        (do("DECLARE x app.kind; BEGIN NULL; END"), "PL/pgSQL syntax error"),
        (sql("SELEC 1"), "syntax error in 'SELEC 1'"),
        # a function under another name
        (
            "CREATE AGGREGATE app.a (int) (sfunc = pg_catalog.pg_cancel_backend, stype = bool)",
            "CREATE AGGREGATE is not in",
        ),
    ],
)
@pytest.mark.fault("server-side", "transaction-control")
def test_refused(text: str, what: str) -> None:
    assert what in judged(text)[1][0].what


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (do("BEGIN UPDATE app.t SET x = 1; DELETE FROM app.t; PERFORM 1; END"), ["DO", "UPDATE", "DELETE"]),
        (
            do("BEGIN WITH d AS (DELETE FROM app.t RETURNING 1) INSERT INTO app.u SELECT * FROM d; END"),
            ["DO", "INSERT", "DELETE"],
        ),
        (
            do("DECLARE n int; BEGIN WITH d AS (DELETE FROM app.t RETURNING 1) SELECT count(*) INTO n FROM d; END"),
            ["DO", "DELETE"],
        ),
        (
            do(
                "DECLARE r record; BEGIN FOR r IN WITH d AS (UPDATE app.t SET x = 1 RETURNING 1) TABLE d LOOP END LOOP; END"
            ),
            ["DO", "UPDATE"],
        ),
        (sql("WITH d AS (DELETE FROM app.t RETURNING 1) SELECT count(*)::int FROM d"), ["CREATE FUNCTION", "DELETE"]),
        (do("BEGIN COPY (DELETE FROM app.t RETURNING 1) TO '/x'; END"), ["DO", "COPY TO FILE", "DELETE"]),
        (
            do("BEGIN CREATE RULE r AS ON INSERT TO app.t DO ALSO DELETE FROM app.u; END"),
            ["DO", "CREATE RULE", "DELETE"],
        ),
        ("CREATE RULE r AS ON INSERT TO app.t DO ALSO DELETE FROM app.u", ["CREATE RULE", "DELETE"]),
        (
            do("BEGIN ALTER TABLE app.t ADD x int, DROP y; END"),
            ["DO", "ALTER TABLE ADD COLUMN", "ALTER TABLE DROP COLUMN"],
        ),
        (do("BEGIN EXECUTE format('UPDATE app.t SET x = %s', lower('A')); END"), ["DO", "DO EXECUTE"]),
        ("DO LANGUAGE plperl '1'", ["DO", "DO EXECUTE"]),
        (
            plpgsql("BEGIN NEW.x := now(); IF TG_OP = 'INSERT' THEN NEW.y[1] = 2; END IF; RETURN NEW; END"),
            ["CREATE FUNCTION"],
        ),
        # a transition table has no schema, and a row's type may be of any
        (
            plpgsql("DECLARE n int; BEGIN SELECT count(*) INTO STRICT n FROM new_rows; RETURN NULL; END"),
            ["CREATE FUNCTION"],
        ),
        (
            plpgsql(
                "BEGIN a.x := 1; RETURN QUERY SELECT a; END", "FUNCTION app.f(a app.t, b app.t[]) RETURNS SETOF app.t"
            ),
            ["CREATE FUNCTION"],
        ),
        (plpgsql("BEGIN COMMIT; UPDATE app.t SET x = 1; END", "PROCEDURE app.p()"), ["CREATE PROCEDURE", "UPDATE"]),
        (sql("INSERT INTO app.t VALUES ($1) RETURNING 1"), ["CREATE FUNCTION", "INSERT"]),
        # a body inside a body, however deep
        (do("BEGIN DO $x$BEGIN DELETE FROM app.t; END$x$; END"), ["DO", "DELETE"]),
        (do("BEGIN DO 'BEGIN DO $y$BEGIN EXECUTE a; END$y$; END'; END"), ["DO", "DO EXECUTE"]),
        (sql("DO $x$BEGIN TRUNCATE app.t; END$x$; SELECT 1"), ["CREATE FUNCTION", "DO", "TRUNCATE TABLE"]),
        ("CREATE FUNCTION app.f(a int) RETURNS int RETURN a + 1", ["CREATE FUNCTION"]),
        ("CREATE FUNCTION app.f() RETURNS void BEGIN ATOMIC DELETE FROM app.t; END", ["CREATE FUNCTION", "DELETE"]),
    ],
)
def test_what_it_runs_is_in_its_kinds(text: str, kinds: list[str]) -> None:
    found, problems = judged(text, *kinds)
    assert (found, problems) == (kinds, [])
    for kind in (one for one in kinds if one not in HEADS):
        (problem,) = judged(text, *(one for one in kinds if one != kind))[1]
        assert problem.what.startswith(f"{kind} is not in scope.statements")


#: With one setting the second line is in a text, with the other it runs.
TWO_MEANINGS = """BEGIN PERFORM 'x\\', 'y;
  DELETE FROM app.t; --';
  END"""


@pytest.mark.fault("server-side")
def test_no_function_has_its_text_read_otherwise(cluster: Cluster, empty_database: str) -> None:
    head = "FUNCTION app.f() RETURNS void SET standard_conforming_strings = off"
    cluster.psql("CREATE SCHEMA app; CREATE TABLE app.t AS SELECT 1 AS id", empty_database)
    cluster.psql(f"{plpgsql(TWO_MEANINGS, 'FUNCTION app.f() RETURNS void')}; SELECT app.f()", empty_database)
    assert cluster.psql("SELECT count(*) FROM app.t", empty_database) == "1"
    cluster.psql(f"DROP FUNCTION app.f; {plpgsql(TWO_MEANINGS, head)}; SELECT app.f()", empty_database)
    assert cluster.psql("SELECT count(*) FROM app.t", empty_database) == "0"
    assert judged(plpgsql(TWO_MEANINGS)) == (["CREATE FUNCTION"], [])
    assert "SET standard_conforming_strings: not a setting" in judged(plpgsql(TWO_MEANINGS, head))[1][0].what


def test_a_procedure_inside_a_body_may_end_transactions() -> None:
    text = do("BEGIN CREATE PROCEDURE app.p() AS 'BEGIN COMMIT; DELETE FROM app.t; END' LANGUAGE plpgsql; END")
    assert judged(text, "DELETE") == (["DO", "CREATE PROCEDURE", "DELETE"], [])


def test_declared_functions_may_be_called() -> None:
    text = do("BEGIN PERFORM app.f(), pg_notify('a', 'b'); END")
    assert judged(text, functions=("app.f", "pg_catalog.pg_notify"))[1] == []


@pytest.mark.parametrize(
    "text",
    [
        "CREATE OPERATOR app.!! (rightarg = int, function = pg_terminate_backend)",
        "CREATE OPERATOR app.!! (rightarg = int, procedure = pg_catalog.pg_terminate_backend)",
        "CREATE AGGREGATE app.a (int) (sfunc = pg_terminate_backend, stype = bool)",
        "CREATE CAST (int AS bool) WITH FUNCTION pg_catalog.pg_terminate_backend(int)",
    ],
)
def test_no_other_name_hides_a_function(text: str) -> None:
    found = judged(text, "CREATE OPERATOR", "CREATE AGGREGATE", "CREATE CAST")[1]
    assert "the function pg_terminate_backend reaches beyond this transaction" in [one.what for one in found]


# Functions of PostgreSQL 16 that the catalog calls volatile and that leave nothing behind, each for a reason.
HARMLESS = {
    "tells": r"amvalidate|clock_timestamp|timeofday|timezone|current_query|currtid2|currval|lastval|plpgsql_validator|pg_lock_status"
    r"|pg_(stat_get|control|get|is|last|database|collation|show|current_wal|xact)_\w+|pg_\w*size|pg_stat_have_stats|txid_status"
    r"|pg_(hba_file_rules|ident_file_mappings|partition_(ancestors|tree)|prepared_xact|jit_available|notification_queue_usage)"
    r"|pg_(isolation_test_session_is_blocked|(safe_snapshot_)?blocking_pids|sequence_last_value)"
    r"|pg_replication_origin_(progress|session_is_setup|session_progress)|lo_(get|close|lseek|lseek64|tell|tell64)",
    "draws": r"random|random_normal|setseed|gen_random_uuid|uuidv[47]|array_(sample|shuffle)",
    "waits": r"pg_sleep(_for|_until)?",
    "skips a number": r"nextval",
    "ends with the transaction": r"pg_(try_)?advisory_xact_lock(_shared)?|pg_stat_clear_snapshot",
    "is judged by its arguments": r"set_config",
}
VOLATILE = """
SELECT DISTINCT proname FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 'v'
AND prokind IN ('f', 'p') AND NOT EXISTS (
  SELECT FROM pg_type t WHERE (t.oid = p.prorettype OR t.oid = ANY (p.proargtypes)) AND typtype = 'p'
  AND typname NOT IN ('void', 'record', 'anyelement', 'anyarray', 'any'))
"""
ONLY_A_TEXT = r"(table|schema|database|query|cursor)_to_xml(schema|_and_xmlschema)?|ts_stat|ts_rewrite"


@pytest.mark.fault("server-side")
def test_every_function_of_postgresql_is_known_to_reach_beyond_or_not_to(cluster: Cluster) -> None:
    volatile = set(cluster.psql(VOLATILE).split())
    assert len(volatile) > 150
    harmless = {name for name in volatile if re.fullmatch("|".join(HARMLESS.values()), name)}
    assert {name for name in volatile if not far_reaching(name)} == harmless
    # SQL in a text, whatever the catalog calls them
    named = cluster.psql("SELECT DISTINCT proname FROM pg_proc").split()
    texts = {name for name in named if re.fullmatch(ONLY_A_TEXT, name)}
    assert len(texts) == 16
    assert all(map(far_reaching, texts))


@pytest.mark.fault("sql-no-draft")
def test_do_in_sql_is_no_body_that_can_be_analysed() -> None:
    kinds, problems = judged("DO LANGUAGE sql $body$ SELECT 1 $body$")
    assert kinds == ["DO", "DO EXECUTE"]
    assert "written in sql" in problems[0].what
