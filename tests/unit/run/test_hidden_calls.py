# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a search_path, a name after a dot may be a function of its schemas: the parser cannot tell, the catalog can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import search_path
from ansible_collections.incomex.phasegate.plugins.module_utils._run.hidden_calls import require_no_hidden_call
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import Script
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

SETUP = """
CREATE SCHEMA app; CREATE TABLE app.orders (id int, state text);
CREATE FUNCTION app.wipe(app.orders, int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.two(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app."Odd Name"(app.orders) RETURNS int LANGUAGE sql AS 'SELECT 1';
"""


@pytest.fixture
def session(cluster: Cluster, empty_database: str) -> Iterator[Session]:
    """A session in a database with functions of one row."""
    cluster.psql(SETUP, empty_database)
    with client_of(cluster, empty_database).session() as opened:
        yield opened


def script(sql: str, schemas: Sequence[str] = ("app",), functions: Sequence[str] = ()) -> Script:
    return Script("C-07", sql.encode(), [], {}, None, {"search_path": list(schemas)}, functions=functions)


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
    ],
)
def test_a_call_in_the_form_of_a_column_is_refused(session: Session, sql: str, name: str) -> None:
    with pytest.raises(Stopped, match="may call a function that its scope does not permit") as caught:
        require_no_hidden_call(session, script(sql))
    assert caught.value.found == name
    require_no_hidden_call(session, script(sql, functions=[name]))
    require_no_hidden_call(session, script(sql, schemas=()))


@pytest.mark.parametrize(
    "sql",
    ["SELECT o.state, o.two FROM app.orders o", "SELECT app.wipe(o) FROM orders o", "SELECT o.wiped FROM app.orders o"],
)
def test_columns_and_calls_in_the_form_of_calls_are_not(session: Session, sql: str) -> None:
    require_no_hidden_call(session, script(sql))


@pytest.mark.fault("attribute-call")
def test_a_name_in_escapes_is_refused(session: Session) -> None:
    with pytest.raises(Stopped) as caught:
        require_no_hidden_call(session, script('SELECT o.U&"wip\\0065" FROM app.orders o', functions=["app.wipe"]))
    assert caught.value.found == 'a name written U&"…"'
    require_no_hidden_call(session, script('SELECT o.U&"wip\\0065" FROM app.orders o', schemas=()))


@pytest.mark.fault("pg-catalog-by-name")
def test_what_a_superuser_makes_without_a_schema_would_be_one_of_pg_catalog(session: Session) -> None:
    session.set("search_path", search_path(["app"]))
    session.execute("CREATE FUNCTION made() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    session.execute("DO $$BEGIN GRANT EXECUTE ON FUNCTION lower(text) TO pg_monitor; END$$")
    made = "SELECT pronamespace::regnamespace FROM pg_proc WHERE proname = 'made' OR proacl::text ~ 'pg_monitor' AND proname = 'lower'"
    assert session.rows(made) == [("pg_catalog",), ("pg_catalog",)]
