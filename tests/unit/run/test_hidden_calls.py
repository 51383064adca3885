# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a search_path, a name after a dot may be a function of its schemas: the parser cannot tell, the catalog can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import ALL_KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import search_path
from ansible_collections.incomex.phasegate.plugins.module_utils._run.hidden_calls import require_no_hidden_call
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import Script
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_file
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

SETUP = """
CREATE SCHEMA app; CREATE TABLE app.orders (id int, state text);
CREATE FUNCTION app.wipe(app.orders, int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.two(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app."Odd Name"(app.orders) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app."wi""pe"(app.orders) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.same(app.orders, int) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR app.=== (LEFTARG = app.orders, RIGHTARG = int, FUNCTION = app.same);
CREATE OPERATOR app.>= (LEFTARG = app.orders, RIGHTARG = int, FUNCTION = app.same);
CREATE OPERATOR app.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl);
ALTER EXTENSION plpgsql ADD OPERATOR app.@@@ (int, int);
CREATE OPERATOR app.|| (LEFTARG = int, RIGHTARG = text, FUNCTION = pg_catalog.to_char);
"""


@pytest.fixture
def session(cluster: Cluster, empty_database: str) -> Iterator[Session]:
    """A session in a database with functions of one row."""
    cluster.psql(SETUP, empty_database)
    with client_of(cluster, empty_database).session() as opened:
        yield opened


def script(sql: str, schemas: Sequence[str] = ("app",), functions: Sequence[str] = ()) -> Script:
    problems: list[Problem] = []
    rules = SqlRules(frozenset({"app"}), ALL_KINDS, frozenset({"app.wipe"}), tuple(schemas), {"UPDATE": [1]}, "k", "r")
    statements = analyse_file(SourceFile("x.sql", "x.sql", sql.encode()), rules, problems)
    assert [problem.what for problem in problems if "does not match" not in problem.what] == []
    found = [dict(one) for one in statements]
    return Script("C-07", sql.encode(), found, {}, None, {"search_path": list(schemas)}, functions=functions)


def do(body: str) -> str:
    return f"DO $body$ DECLARE x int; BEGIN {body}; END $body$"


@pytest.mark.fault("attribute-call")
@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT o.wipe FROM app.orders o", "app.wipe"),
        ("SELECT o . wipe FROM app.orders o", "app.wipe"),
        ('SELECT o."wipe" FROM app.orders o', "app.wipe"),
        ("SELECT o.WIPE FROM app.orders o", "app.wipe"),
        ('SELECT o."Odd Name" FROM app.orders o', "app.Odd Name"),
        ("SELECT o./* x */wipe FROM app.orders o", "app.wipe"),
        ("SELECT '/*', o./* a /* b */ c */ wipe FROM app.orders o", "app.wipe"),
        ("SELECT o.-- x\nwipe FROM app.orders o", "app.wipe"),
        ("SELECT (o).wipe FROM app.orders o", "app.wipe"),
        # quotes and escapes
        ('SELECT o."wi""pe" FROM app.orders o', 'app.wi"pe'),
        ('SELECT o.U&"wip\\0065" FROM app.orders o', "app.wipe"),
        ("SELECT o.U&\"wip!0065\" UESCAPE '!' FROM app.orders o", "app.wipe"),
        # bodies, however their text is written
        (do('SELECT o."wi""pe" INTO x FROM app.orders o'), 'app.wi"pe'),
        ('DO \'BEGIN PERFORM o."wi""pe" FROM app.orders o; END\'', 'app.wi"pe'),
        ("DO E'BEGIN PERFORM o.wi\\x70e FROM app.orders o; END'", "app.wipe"),
        ("DO E'BEGIN PERFORM o.wi\\u0070e FROM app.orders o; END'", "app.wipe"),
        ("DO U&'BEGIN PERFORM o.wi\\0070e FROM app.orders o; END'", "app.wipe"),
        ("CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS E'SELECT o.w\\151pe FROM app.orders o'", "app.wipe"),
        ("CREATE FUNCTION app.f() RETURNS int RETURN (SELECT o.wipe FROM app.orders o)", "app.wipe"),
        # operators, with and without a sign
        ("SELECT 1 FROM app.orders o WHERE o === 1", "app.==="),
        (do("x := (SELECT 1 FROM app.orders o WHERE o === 1)"), "app.==="),
        ("SELECT 1 FROM app.orders o WHERE o === ANY ('{1}')", "app.==="),
        ("SELECT 1 FROM app.orders o WHERE o BETWEEN 1 AND 2", "app.>="),
        ("CREATE TABLE app.t (o app.orders, CHECK (o === 1))", "app.==="),
        ("UPDATE orders o SET id = 1 WHERE NOT o === 1", "app.==="),
        # of a built-in function that means something else
        ("SELECT o.id || o.state FROM app.orders o", "app.||"),
    ],
)
def test_a_call_in_another_form_is_refused(session: Session, sql: str, name: str) -> None:
    with pytest.raises(Stopped, match="may call a function that its scope does not permit") as caught:
        require_no_hidden_call(session, script(sql))
    assert caught.value.found == f"{name} (line 1)"
    require_no_hidden_call(session, script(sql, functions=[name]))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT o.state, o.two FROM app.orders o",
        "SELECT app.wipe(o) FROM orders o",
        "SELECT o.wiped FROM app.orders o",
        "SELECT count(*) FROM orders o",
        # a mere mention
        "SELECT 1 /* of o.wipe */ -- o.wipe\n FROM app.orders o",
        "SELECT 'o.wipe' FROM app.orders o",
        do("/* o.wipe */ -- o.wipe\n PERFORM 'o.wipe', 'a === b' FROM app.orders o"),
        "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1 -- not o.wipe'",
        "COMMENT ON TABLE app.orders IS 'see o.wipe, o === 1'",
        # built-in operators, and those of extensions in C
        "SELECT 1 FROM app.orders o WHERE o.id = 1 AND o.state IN ('a') AND o.id @@@ 1 < 3",
    ],
)
def test_what_calls_nothing_is_not(session: Session, sql: str) -> None:
    require_no_hidden_call(session, script(sql))


@pytest.mark.fault("attribute-call")
@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("SELECT CASE o WHEN 1 THEN 2 END FROM app.orders o", "="),
        ("SELECT 1 FROM app.orders o JOIN app.t USING (id)", "="),
        ("SELECT 1 FROM app.orders o NATURAL JOIN app.t", "="),
        ("SELECT 1 FROM app.orders o WHERE o IN (SELECT 1)", "="),
        ("SELECT 1 FROM app.orders o WHERE o IS DISTINCT FROM 1", "="),
        ("SELECT NULLIF(o, 1) FROM app.orders o", "="),
        ("SELECT 1 FROM app.orders o WHERE o NOT LIKE 'x'", "!~~"),
        ("SELECT 1 FROM app.orders o ORDER BY o USING <", "<"),
        ("CREATE TABLE app.t (a int, EXCLUDE USING gist (a WITH &&))", "&&"),
        ("CREATE OPERATOR CLASS app.c FOR TYPE int USING btree AS OPERATOR 1 <", "<"),
    ],
)
def test_operators_that_the_grammar_writes_otherwise(sql: str, name: str) -> None:
    assert name in script(sql).statements[0]["searched"]


def test_without_a_search_path_nothing_is_looked_for(session: Session) -> None:
    without = script("SELECT o.wipe FROM app.orders o WHERE o.id = 1", schemas=())
    assert "searched" not in without.statements[0]
    require_no_hidden_call(session, without)


@pytest.mark.fault("pg-catalog-by-name")
def test_what_a_superuser_makes_without_a_schema_would_be_one_of_pg_catalog(session: Session) -> None:
    session.set("search_path", search_path(["app"]))
    session.execute("CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    session.execute("DO $$BEGIN GRANT EXECUTE ON FUNCTION lower(text) TO pg_monitor; END$$")
    made = "SELECT pronamespace::regnamespace FROM pg_proc WHERE proname = 'made' OR proacl::text ~ 'pg_monitor' AND proname = 'lower'"
    assert session.rows(made) == [("pg_catalog",), ("pg_catalog",)]
