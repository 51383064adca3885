# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other roles have put into a database decides neither how a statement's answer is read nor what runs after it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.table_digests import (
    read_table_digests,
    table_differences,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres import untrusted_sql
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import (
    kept_settings,
    look,
    run_alone,
    run_queries,
    run_statement,
)
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from ansible_collections.incomex.phasegate.tests.support.versions import since

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

SETUP = """
CREATE SCHEMA app; CREATE SCHEMA evil;
CREATE TABLE app.orders (id int, note text); INSERT INTO app.orders SELECT n, 'n' || n FROM generate_series(1, 3) n;
CREATE TABLE app.audit (id int); INSERT INTO app.audit VALUES (1), (2);
CREATE TABLE app.other (note text); INSERT INTO app.other VALUES ('A');
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'forged'$$;
CREATE FUNCTION app.change() RETURNS int LANGUAGE plpgsql AS $$BEGIN
  DELETE FROM app.audit;
  PERFORM set_config('search_path', 'evil, pg_catalog', true), set_config('role', 'pg_monitor', true);
  PERFORM set_config('standard_conforming_strings', 'off', true), set_config('TimeZone', 'Asia/Tokyo', true);
  RETURN 1; END$$;
CREATE VIEW app.seen AS SELECT app.change() AS one;
CREATE FUNCTION app.on_update() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM app.change(); RETURN NULL; END$$;
CREATE TRIGGER t BEFORE UPDATE ON app.orders FOR EACH STATEMENT EXECUTE FUNCTION app.on_update();
"""

FIXED = "SELECT current_setting('search_path'), current_setting('role'), current_setting('TimeZone')"


@pytest.fixture
def session(cluster: Cluster, empty_database: str) -> Iterator[Session]:
    """A session in a transaction, in a database that others have prepared."""
    cluster.psql(SETUP, empty_database)
    with client_of(cluster, empty_database).session() as opened:
        opened.execute("BEGIN")
        yield opened
        opened.execute("ROLLBACK")


@pytest.mark.fault("lying-object")
@pytest.mark.parametrize(
    "forged",
    [
        "CREATE FUNCTION app.forge(json[], json) RETURNS json[] LANGUAGE sql AS"
        " $$SELECT ARRAY['{\"n\": 10}'::json]$$;"
        " CREATE OPERATOR app.|| (LEFTARG = json[], RIGHTARG = json, FUNCTION = app.forge)",
        "CREATE FUNCTION app.forge(int8, int4) RETURNS bool LANGUAGE sql AS 'SELECT false';"
        " CREATE OPERATOR app.<= (LEFTARG = int8, RIGHTARG = int4, FUNCTION = app.forge)",
        "CREATE FUNCTION app.forge(int4, numeric) RETURNS numeric LANGUAGE sql AS 'SELECT 1 / 0.0';"
        " CREATE OPERATOR app.* (LEFTARG = int4, RIGHTARG = numeric, FUNCTION = app.forge)",
    ],
)
def test_an_operator_of_the_path_does_not_write_the_answer(session: Session, forged: str) -> None:
    session.execute(forged)
    for answer in (
        run_queries(session, ["SELECT count(*) AS n FROM orders"], ["app"])[0],
        run_statement(session, "SELECT count(*) AS n FROM orders", ["app"], returns_rows=True),
    ):
        assert (answer.rows, answer.result, answer.error) == (1, [{"n": 3}], "")
    assert run_statement(session, "DELETE FROM orders", ["app"], returns_rows=False).rows == 3


def test_no_bare_operator_is_in_what_reads_an_answer() -> None:
    for template in (untrusted_sql._EXECUTE, untrusted_sql._QUERY, untrusted_sql._CHECK):
        text = re.sub(
            r"OPERATOR\(pg_catalog\.[-+*/<>=]+\)|:=|n = ROW_COUNT|FOR r IN EXECUTE|HINT =|\w+ = \w+(?=,|;)|'[^']*'|\"\w+\"|count\(\*\)",
            "",
            for_major(template, MAJOR),
        )
        assert re.findall(r"[^\s\w;:,.(){}\[\]]+", text) == []
        assert not re.search(r"\b(LIKE|IN|BETWEEN|SIMILAR|~)\b", text)


@pytest.mark.fault("lying-object")
def test_what_is_looked_at_changes_nothing_and_cannot_pose_as_another_answer(session: Session) -> None:
    session.execute(
        "CREATE OR REPLACE FUNCTION public.told() RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN"
        " PERFORM set_config('lock_timeout', '7s', true);"
        " RETURN QUERY SELECT unnest(string_to_array(current_query(), E'\n')); END$$"
    )
    *rows, last = look(session, "SELECT * FROM public.told()", "SELECT count(*) FROM pg_catalog.pg_am WHERE false")
    assert len(rows) > 3
    assert last == ("0",)
    assert session.value("SELECT current_setting('lock_timeout')") != "7s"
    with pytest.raises(SqlError):
        look(session, "SELECT 1", "SELECT 1 / 0")
    with pytest.raises(SqlError):
        look(session, "SELECT pg_catalog.pg_current_xact_id()", "SELECT nextval('absent')")
    assert look(session, "SELECT 5") == [("5",)]
    session.execute("INSERT INTO app.audit VALUES (3)")


@pytest.mark.fault("lying-object")
def test_what_a_check_changes_ends_with_it(session: Session) -> None:
    before = session.rows(FIXED)
    answer = run_queries(session, ["SELECT one FROM app.seen"])[0]
    assert answer.error.startswith("25006: cannot execute DELETE in a read-only transaction")
    assert session.rows(FIXED) == before
    session.execute(
        "CREATE OR REPLACE VIEW app.seen AS SELECT length(set_config('search_path', 'evil, pg_catalog', true)) AS one"
    )
    assert run_queries(session, ["SELECT one FROM app.seen"])[0].error == ""
    assert run_queries(session, ["SELECT lower('A') AS low"])[0].result == [{"low": "a"}]
    assert session.rows(FIXED) == before
    assert session.value("SELECT count(*) FROM app.audit") == "2"
    # and the transaction still writes
    session.execute("INSERT INTO app.audit VALUES (3)")


LIE = (
    "CREATE FUNCTION app.lie(app.state) RETURNS json LANGUAGE sql AS $$SELECT '\"paid\"'::json$$;"
    " CREATE CAST (app.state AS json) WITH FUNCTION app.lie(app.state)"
)


@pytest.mark.fault("lying-object")
@pytest.mark.parametrize("role", ["", "pg_read_all_data"])
def test_what_a_trigger_changes_ends_with_its_statement(session: Session, role: str) -> None:
    before = session.rows(FIXED)
    run_statement(session, "UPDATE app.orders SET note = note", returns_rows=False, role=role)
    (path, now, zone), (was_path, _none, was_zone) = session.rows(FIXED)[0], before[0]
    assert (path, now, zone) == (was_path, role or "none", was_zone)
    session.execute("RESET ROLE")
    run_statement(session, "UPDATE app.other SET note = lower(note)", returns_rows=False)
    assert session.value("SELECT note FROM app.other") == "a"


@pytest.mark.fault("lying-object")
def test_a_trigger_turns_off_neither_constraints_nor_limits(session: Session) -> None:
    session.execute(
        "SET LOCAL lock_timeout = '7s'; ALTER TABLE app.other ADD id int UNIQUE; CREATE TABLE app.child (id int REFERENCES app.other (id));"
        "CREATE OR REPLACE FUNCTION app.change() RETURNS int LANGUAGE plpgsql AS $$BEGIN"
        " PERFORM set_config('session_replication_role', 'replica', true), set_config('lock_timeout', '0', true);"
        " PERFORM set_config('row_security', 'off', true); RETURN 1; END$$"
    )
    kept = kept_settings(session)
    run_statement(session, "UPDATE app.orders SET note = note", returns_rows=False, kept=kept)
    assert kept_settings(session) == kept
    assert (kept["lock_timeout"], kept["session_replication_role"]) == ("7s", "origin")
    with pytest.raises(SqlError, match="violates foreign key"):
        run_statement(session, "INSERT INTO app.child VALUES (99)", returns_rows=False, kept=kept)


def test_the_path_of_a_statement_alone_ends_with_it(session: Session) -> None:
    session.execute("COMMIT")
    before = session.rows(FIXED)
    run_alone(session, "CREATE INDEX CONCURRENTLY by_id ON orders (id)", ["app"])
    assert session.rows(FIXED) == before


@pytest.mark.fault("lying-object")
@pytest.mark.parametrize(
    ("made", "query"),
    [
        ("CREATE TYPE app.state AS ENUM ('new')", "SELECT 'new'::app.state AS s"),
        ("CREATE TYPE app.state AS (v text)", "SELECT row('new')::app.state AS s"),
        ("CREATE TYPE app.state AS (v text)", "SELECT ARRAY[row('new')::app.state] AS s"),
        (
            "CREATE TYPE app.state AS (v text); CREATE DOMAIN app.strict AS app.state; CREATE TYPE app.pair AS (a int, b app.strict[])",
            "SELECT NULL::app.pair AS s",
        ),
        ("CREATE TYPE app.state AS ENUM ('new')", "SELECT row('new'::app.state) AS s"),
        (
            "CREATE TYPE app.state AS ENUM ('new'); CREATE TABLE app.bill (s app.state); INSERT INTO app.bill VALUES ('new')",
            "SELECT b FROM app.bill b",
        ),
    ],
)
def test_a_cast_to_json_does_not_say_what_a_check_finds(session: Session, made: str, query: str) -> None:
    session.execute(made)
    session.execute(LIE)
    assert "a cast from app.state to json exists" in run_queries(session, [query])[0].error


@since(16)
@pytest.mark.fault("lying-object")
@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("SELECT NULL::int AS n", [{"n": None}]),
        ("SELECT 'new'::app.state::text AS s", [{"s": "new"}]),
        ("SELECT count(*) AS n FROM (SELECT 'new'::app.state) s", [{"n": 1}]),
        ("SELECT ARRAY[1, 2] AS n, now() > '-infinity' AS b", [{"n": [1, 2], "b": True}]),
        ("VALUES (1)", [{"column1": 1}]),
    ],
)
def test_a_cast_to_json_of_another_type_stops_nothing(session: Session, query: str, result: object) -> None:
    session.execute("CREATE TYPE app.state AS ENUM ('new')")
    session.execute(LIE)
    first, again = run_queries(session, [query, query])
    assert (first.error, first.result, again.result) == ("", result, result)
    assert run_statement(session, query, returns_rows=True).result == result


@pytest.mark.parametrize(
    ("sql", "expect"),
    [
        ("SELECT 100000000000000000.01::numeric AS n", "100000000000000000.01"),
        ("SELECT 9007199254740993.0::numeric AS n", "9007199254740993.0"),
        ("SELECT 86.00::numeric AS n", 86),
        ("SELECT 0.1::numeric AS n", 0.1),
        ("SELECT 0.1::float8 AS n", 0.1),
        ("SELECT 1e-7::float8 AS n", 1e-7),
    ],
)
def test_a_number_that_no_float_equals_equals_no_number(session: Session, sql: str, expect: object) -> None:
    assert run_queries(session, [sql])[0].result == [{"n": expect}]


def test_two_columns_of_one_name_are_no_answer(session: Session) -> None:
    assert run_queries(session, ["SELECT 1 AS a, 2 AS a"])[0].error == (
        'the answer has two values under the name "a": give each column a name of its own'
    )


@pytest.mark.fault("lying-object")
@pytest.mark.parametrize(
    ("made", "change"),
    [
        (
            "CREATE FUNCTION app.tx(app.orders) RETURNS text LANGUAGE sql AS $$SELECT 'same'$$;"
            " CREATE CAST (app.orders AS text) WITH FUNCTION app.tx(app.orders)",
            "UPDATE app.orders SET note = 'changed'",
        ),
        (
            "DROP TABLE app.orders; CREATE TABLE app.orders (t int, note text); INSERT INTO app.orders VALUES (1, 'a')",
            "UPDATE app.orders SET note = 'changed'",
        ),
        (
            "CREATE TYPE app.pair AS (t text); DROP TABLE app.orders; CREATE TABLE app.orders (t app.pair, note text);"
            " INSERT INTO app.orders VALUES (row('x'), 'a')",
            "UPDATE app.orders SET note = 'changed'",
        ),
    ],
)
def test_the_digest_of_a_table_covers_every_column(session: Session, made: str, change: str) -> None:
    session.execute("ALTER TABLE app.orders DISABLE TRIGGER ALL")
    session.execute(made)
    before = read_table_digests(session)
    session.execute(change)
    assert table_differences(before, read_table_digests(session)) == [
        '"app"."orders" has the same number of rows but different content'
    ]


@pytest.mark.fault("large-objects-lost")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("SELECT lo_put(4711, 2000000, 'x')", "as many large objects, but another content, owner or privilege of one"),
        (
            "ALTER LARGE OBJECT 4711 OWNER TO pg_monitor",
            "as many large objects, but another content, owner or privilege of one",
        ),
        (
            "GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC",
            "as many large objects, but another content, owner or privilege of one",
        ),
        ("SELECT lo_create(4713)", "3 large objects, the source has 2"),
        ("SELECT lo_unlink(o) FROM unnest(ARRAY[4711, 4712]) o", "0 large objects, the source has 2"),
    ],
)
def test_the_digests_cover_large_objects(session: Session, change: str, expected: str) -> None:
    session.execute("SELECT lo_from_bytea(4711, convert_to(repeat('page', 600000), 'UTF8')), lo_from_bytea(4712, '')")
    session.execute("GRANT SELECT ON LARGE OBJECT 4712 TO pg_monitor")
    before = read_table_digests(session)
    # read-only, as production is read
    session.execute("SAVEPOINT reading; SET LOCAL transaction_read_only = on")
    assert table_differences(before, read_table_digests(session)) == []
    session.execute("ROLLBACK TO SAVEPOINT reading")
    session.execute(change)
    assert table_differences(before, read_table_digests(session)) == [expected]
