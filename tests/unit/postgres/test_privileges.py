# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role that lacks one privilege: the statement that gives it is told, and after it the phase's statement runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pglast
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.backup import back_up
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import BackupOptions
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import SchemaRecorded
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import run_read_only
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import DataExpectations
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import record_state
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import (
    lacking_privileges,
    named_privileges,
    privilege_advice,
    require_privileges,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import run_statement
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import SECTIONS
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.bodies import body_of
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import (
    analyse_file,
    needs_of_all,
)
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

ROLE = 'the "weak" one'
ME = '"the ""weak"" one"'
OWNER = "app_owner"

#: A schema in which everything belongs to somebody else, and the role may do all but to be them.
PLACE = f"""
CREATE SCHEMA app AUTHORIZATION {OWNER};
SET ROLE {OWNER};
CREATE TABLE app.orders (id serial PRIMARY KEY, note text);
CREATE TABLE app."Old; --" (id int PRIMARY KEY);
CREATE VIEW app.v AS SELECT 1 AS one;
CREATE FUNCTION app.next_code(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION app.touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE DOMAIN app.code AS int;
REVOKE ALL ON ALL ROUTINES IN SCHEMA app FROM PUBLIC;
REVOKE USAGE ON DOMAIN app.code FROM PUBLIC;
RESET ROLE;
"""


@dataclass(frozen=True)
class Weakness:
    """``sql`` needs ``grant``; ``has`` is what the role has already."""

    id: str
    has: str
    sql: str
    grant: str


ORDERS = f"GRANT USAGE ON SCHEMA app TO {ME};"
OWNS = f"to own {{}}, run as role {OWNER}, or: GRANT {OWNER} TO {ME};"
WEAKNESSES = [
    Weakness("usage", f"GRANT ALL ON app.orders TO {ME}", "SELECT note FROM app.orders", f"GRANT USAGE ON SCHEMA app TO {ME};"),
    Weakness("select", ORDERS, "SELECT note FROM app.orders", f"GRANT SELECT ON TABLE app.orders TO {ME};"),
    Weakness("view", ORDERS, "SELECT * FROM app.v", f"GRANT SELECT ON TABLE app.v TO {ME};"),
    Weakness(
        "update",
        ORDERS,
        "UPDATE app.orders SET note = 'x' WHERE id = 1",
        f"GRANT SELECT, UPDATE ON TABLE app.orders TO {ME};",
    ),
    Weakness(
        "update-only",
        ORDERS + f"GRANT SELECT ON app.orders TO {ME}",
        "UPDATE app.orders SET note = 'x' WHERE id = 1",
        f"GRANT UPDATE ON TABLE app.orders TO {ME};",
    ),
    Weakness("insert", ORDERS, "INSERT INTO app.orders (id) VALUES (7)", f"GRANT INSERT ON TABLE app.orders TO {ME};"),
    Weakness(
        "insert-select",
        ORDERS + f"GRANT INSERT ON app.orders TO {ME}; GRANT USAGE ON SEQUENCE app.orders_id_seq TO {ME}",
        'INSERT INTO app.orders (id) SELECT id FROM app."Old; --"',
        f'GRANT SELECT ON TABLE app."Old; --" TO {ME};',
    ),
    Weakness(
        "sequence",
        ORDERS + f"GRANT INSERT ON app.orders TO {ME}",
        "INSERT INTO app.orders (note) VALUES ('x')",
        f"GRANT USAGE ON SEQUENCE app.orders_id_seq TO {ME};",
    ),
    Weakness("delete", ORDERS, "DELETE FROM app.orders", f"GRANT DELETE ON TABLE app.orders TO {ME};"),
    Weakness("truncate", ORDERS, "TRUNCATE app.orders", f"GRANT TRUNCATE ON TABLE app.orders TO {ME};"),
    Weakness("alter", ORDERS, "ALTER TABLE app.orders ADD COLUMN x int", OWNS.format("app.orders")),
    Weakness("comment", ORDERS, "COMMENT ON COLUMN app.orders.note IS 'x'", OWNS.format("app.orders")),
    Weakness("drop", ORDERS, 'DROP TABLE app."Old; --"', OWNS.format('app."Old; --"')),
    Weakness(
        "foreign-key",
        ORDERS + f"GRANT CREATE ON SCHEMA app TO {ME}",
        "CREATE TABLE app.lines (order_id int REFERENCES app.orders)",
        f"GRANT REFERENCES ON TABLE app.orders TO {ME};",
    ),
    Weakness("create", ORDERS, "CREATE TABLE app.more (id int)", f"GRANT CREATE ON SCHEMA app TO {ME};"),
    Weakness("create-schema", "", "CREATE SCHEMA app2", "GRANT CREATE ON DATABASE {database} TO " + f"{ME};"),
    Weakness("execute", ORDERS, "SELECT app.next_code(1)", f"GRANT EXECUTE ON ROUTINE app.next_code(integer) TO {ME};"),
    Weakness(
        "trigger",
        ORDERS + f"GRANT EXECUTE ON FUNCTION app.touched() TO {ME}",
        "CREATE TRIGGER t BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.touched()",
        f"GRANT TRIGGER ON TABLE app.orders TO {ME};",
    ),
    Weakness(
        "do", ORDERS, "DO $$ BEGIN DELETE FROM app.orders; END $$", f"GRANT DELETE ON TABLE app.orders TO {ME};"
    ),
    # only the server's message says what it is about
    Weakness("type", ORDERS, "CREATE TEMP TABLE x (c app.code)", f"GRANT USAGE ON TYPE app.code TO {ME};"),
    Weakness(
        "drop-function", ORDERS, "DROP FUNCTION app.touched()", OWNS.format("ROUTINE app.touched()")
    ),
    Weakness(
        "inside", ORDERS + f"GRANT EXECUTE ON FUNCTION app.reads() TO {ME}", "SELECT app.reads()",
        f"GRANT SELECT ON TABLE app.orders TO {ME};",
    ),
]  # fmt: skip


@pytest.fixture
def place(cluster: Cluster, empty_database: str) -> Iterator[str]:
    """A database with somebody else's schema."""
    cluster.psql(f"CREATE ROLE {ME} LOGIN; CREATE ROLE {OWNER}")
    reads = "CREATE FUNCTION app.reads() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.orders'"
    cluster.psql(PLACE + reads, empty_database)
    cluster.psql("REVOKE TEMPORARY ON DATABASE " + empty_database + " FROM PUBLIC")
    cluster.psql(f"GRANT TEMPORARY ON DATABASE {empty_database} TO {ME}")
    yield empty_database
    for role in (ME, OWNER):
        cluster.psql(f"DROP OWNED BY {role} CASCADE", empty_database)
        cluster.psql(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.fixture
def weak(cluster: Cluster, place: str) -> Client:
    """A client that is this role."""
    return client_of(cluster, place, ROLE)


def needs_of(sql: str) -> list[str]:
    (raw,) = pglast.parse_sql(sql)
    inner = body_of(raw.stmt)
    return sorted(needs_of_all([raw.stmt, *inner.statements, *inner.expressions]))


def refusal(session: Session, sql: str) -> SqlError:
    session.execute("BEGIN")
    with pytest.raises(SqlError) as caught:
        run_statement(session, sql, returns_rows=False)
    session.execute("ROLLBACK")
    assert caught.value.sqlstate == "42501"
    return caught.value


@pytest.mark.parametrize("weakness", [pytest.param(one, id=one.id) for one in WEAKNESSES])
@pytest.mark.fault("weak-role")
def test_the_missing_privilege_is_told_and_it_is_enough(
    cluster: Cluster, place: str, weak: Client, weakness: Weakness
) -> None:
    if weakness.has:
        cluster.psql(weakness.has, place)
    needs, grant = needs_of(weakness.sql), weakness.grant.format(database=place)
    with weak.session() as session:
        error = refusal(session, weakness.sql)
        assert privilege_advice(session, needs, error.text) == grant
        cluster.psql(grant.rpartition("or: ")[2], place)
        session.execute("BEGIN")
        run_statement(session, weakness.sql, returns_rows=False)
        session.execute("ROLLBACK")
        assert lacking_privileges(session, needs, ()) == []


def test_an_owner_by_membership_lacks_nothing_and_neither_does_a_superuser(
    cluster: Cluster, place: str, weak: Client
) -> None:
    needs = {need for one in WEAKNESSES for need in needs_of(one.sql)}
    with client_of(cluster, place).session() as session:
        assert lacking_privileges(session, needs, ()) == []
    cluster.psql(f"GRANT {OWNER} TO {ME}; GRANT CREATE ON DATABASE {place} TO {ME}", place)
    with weak.session() as session:
        assert lacking_privileges(session, needs, ()) == []


def test_a_privilege_on_some_columns_may_be_enough(cluster: Cluster, place: str, weak: Client) -> None:
    cluster.psql(f"{ORDERS} GRANT SELECT (note), UPDATE (note) ON app.orders TO {ME}", place)
    with weak.session() as session:
        assert lacking_privileges(session, needs_of("UPDATE app.orders SET note = note"), ()) == []


def test_what_is_not_there_is_not_judged(weak: Client) -> None:
    with weak.session() as session:
        assert lacking_privileges(
            session, ["OWNER nowhere.t", "SELECT app.none", "CREATE later", "EXECUTE app.none"], ()
        ) == [f"GRANT USAGE ON SCHEMA app TO {ME};"]


@pytest.mark.parametrize(
    ("sql", "path", "grants"),
    [
        # the first schema that has it, as the server searches them
        ("DELETE FROM orders", ["app"], [f"GRANT DELETE ON TABLE app.orders TO {ME};"]),
        ("DELETE FROM orders", ["mine", "app"], []),
        ("DELETE FROM orders", ["app", "mine"], [f"GRANT DELETE ON TABLE app.orders TO {ME};"]),
        ("DO $$BEGIN DELETE FROM orders; END$$", ["app"], [f"GRANT DELETE ON TABLE app.orders TO {ME};"]),
        ("INSERT INTO orders (note) SELECT note FROM old", ["app"], [f"GRANT INSERT ON TABLE app.orders TO {ME};"]),
        ("WITH orders AS (SELECT 1) SELECT * FROM orders", ["app"], []),
        ("DROP TABLE orders", ["app"], [OWNS.format("app.orders")]),
        ("ALTER TABLE orders ADD x int", ["app"], [OWNS.format("app.orders")]),
        ("CREATE TABLE mine.l (o int REFERENCES orders)", ["app"], [f"GRANT REFERENCES ON TABLE app.orders TO {ME};"]),
        # what the role may not look into is not searched
        ("DELETE FROM orders", ["closed", "mine"], []),
        ("DELETE FROM hidden", ["closed", "mine"], [f"GRANT USAGE ON SCHEMA closed TO {ME};"]),
        # pg_catalog is searched first
        ("SELECT rolpassword FROM pg_authid", ["app"], [f"GRANT SELECT ON TABLE pg_catalog.pg_authid TO {ME};"]),
        ("SELECT 1 FROM pg_class, nowhere", ["app"], []),
    ],
)
@pytest.mark.fault("weak-role")
def test_a_name_without_a_schema_is_the_one_that_the_server_finds(  # noqa: PLR0917
    cluster: Cluster, place: str, weak: Client, sql: str, path: list[str], grants: list[str]
) -> None:
    cluster.psql(
        f"GRANT USAGE ON SCHEMA app TO {ME}; GRANT SELECT ON ALL TABLES IN SCHEMA app TO {ME};"
        f"CREATE SCHEMA mine AUTHORIZATION {ME}; CREATE TABLE mine.orders (note text); ALTER TABLE mine.orders OWNER TO {ME};"
        "CREATE SCHEMA closed; CREATE TABLE closed.orders (note text); CREATE TABLE closed.hidden (note text);"
        f"GRANT ALL ON closed.hidden TO {ME}",
        place,
    )
    with weak.session() as session:
        assert [one for one in lacking_privileges(session, needs_of(sql), path) if "SEQUENCE" not in one] == grants


@pytest.mark.fault("weak-role")
def test_a_plan_is_refused_before_anything_is_done(place: str, weak: Client, cluster: Cluster) -> None:
    problems: list[object] = []
    sql = b"ALTER TABLE app.orders ADD x int; UPDATE app.orders SET x = 1; CREATE TABLE app.more (x int);"
    rules = SqlRules(
        frozenset({"app"}),
        frozenset({"ALTER TABLE", "UPDATE", "CREATE TABLE"}),
        frozenset(),
        (),
        {"UPDATE": [0]},
        "k",
        "r",
    )
    statements = analyse_file(SourceFile("x.sql", "x.sql", sql), rules, problems)  # type: ignore[arg-type]
    assert problems == []
    cluster.psql(ORDERS, place)
    with weak.session() as session:
        with pytest.raises(Stopped) as caught:
            require_privileges(session, statements, ())
        assert caught.value.found == f"role {ROLE} lacks some of them"
        assert caught.value.next_step == " ".join(
            [
                OWNS.format("app.orders"),
                f"GRANT CREATE ON SCHEMA app TO {ME};",
                f"GRANT pg_read_all_data TO {ME};",
            ]
        )
        cluster.psql(f"GRANT {OWNER} TO {ME}", place)
        require_privileges(session, statements, ())


@pytest.mark.fault("weak-role")
def test_c07_tells_it(cluster: Cluster, place: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    run = Run.of(client_of(cluster, place, ROLE), tmp_path / "runs", PhaseFiles(tmp_path).write().path)
    cluster.psql(f"GRANT pg_read_all_data TO {ME}", place)
    run.prepare()
    told = run.migrate()
    assert told.data["outcome"] == "ROLLED_BACK"
    assert "found: 42501: permission denied for schema app" in told.message
    assert f"next step: GRANT CREATE ON SCHEMA app TO {ME};" in told.message
    cluster.psql(f"GRANT CREATE ON SCHEMA app TO {ME}", place)
    assert run.prepare().migrate().message == ""


@pytest.mark.fault("weak-role")
def test_a_check_tells_it(cluster: Cluster, place: str, weak: Client) -> None:
    cluster.psql(ORDERS, place)
    check = {"id": "P-1", "title": "orders", "sql": "SELECT count(*) FROM app.orders", "expect": 0}
    with weak.session() as session:
        (result,) = run_read_only(session, [check], {})
        assert (
            result.found == f"error 42501: permission denied for table orders GRANT SELECT ON TABLE app.orders TO {ME};"
        )
        cluster.psql(f"GRANT SELECT ON TABLE app.orders TO {ME};", place)
        (result,) = run_read_only(session, [check], {})
        assert result.status == "PASS"


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("permission denied for table orders", True),
        ("droit refus\u00e9 pour la table \u00ab orders \u00bb", True),
        ("keine Berechtigung f\u00fcr Tabelle \u00bborders\u00ab", True),
        ("permission denied for table reorders", False),
        ("permission denied for table orders_too", False),
        ("orders", False),
    ],
)
def test_a_message_of_another_language_names_it_as_well(
    cluster: Cluster, place: str, weak: Client, message: str, *, named: bool
) -> None:
    cluster.psql(ORDERS, place)
    with weak.session() as session:
        grants = named_privileges(session, message)
    assert grants == ([f"GRANT SELECT ON TABLE app.orders TO {ME};"] if named else [])


@pytest.mark.fault("weak-role")
def test_the_snapshot_tells_it(cluster: Cluster, place: str, weak: Client, tmp_path: Path) -> None:
    cluster.psql(ORDERS, place)
    declared = DataExpectations.from_definition([], [{"relation": "app.orders"}])
    (tmp_path / "schema").mkdir()
    run = RunDirectory(str(tmp_path))
    step = Step(run, SchemaRecorded)
    with pytest.raises(PhaseGateError) as caught:
        record_state(weak, run, "before", declared, SECTIONS, step)
    assert caught.value.next_step == f"GRANT SELECT ON TABLE app.orders TO {ME};"
    cluster.psql(f"GRANT SELECT ON TABLE app.orders TO {ME};", place)
    # pg_dump locks every table
    with pytest.raises(PhaseGateError) as caught:
        record_state(weak, run, "before", declared, SECTIONS, step)
    assert caught.value.next_step == f"GRANT pg_read_all_data TO {ME};"
    cluster.psql(f"GRANT pg_read_all_data TO {ME};", place)
    assert record_state(weak, run, "before", declared, SECTIONS, step).fingerprint


@pytest.mark.fault("weak-role")
def test_the_backup_tells_it(cluster: Cluster, place: str, weak: Client, tmp_path: Path) -> None:
    cluster.psql("CREATE TABLE app.hidden (id int); ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY", place)
    role = f"ALTER ROLE {ME} BYPASSRLS;"
    with pytest.raises(PhaseGateError, match="C-01: pg_dump failed") as caught:
        back_up(weak, RunDirectory(str(tmp_path)), BackupOptions(compression="none"))
    assert caught.value.next_step == f"GRANT pg_read_all_data TO {ME}; {role}"
    cluster.psql(f"GRANT pg_read_all_data TO {ME};", place)
    with pytest.raises(PhaseGateError, match="C-01: pg_dump failed") as caught:
        back_up(weak, RunDirectory(str(tmp_path)), BackupOptions(compression="none"))
    assert caught.value.next_step == role
    cluster.psql(role, place)
    assert back_up(weak, RunDirectory(str(tmp_path)), BackupOptions(compression="none"))[0].read_in_full


@pytest.mark.fault("weak-role")
def test_a_statement_after_commit_tells_it(cluster: Cluster, place: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    changes = {
        "scope": {"schemas": ["app"], "statements": ["CREATE TABLE", "CREATE INDEX CONCURRENTLY"]},
        "expect": {"tags": {"CREATE TABLE": 1, "CREATE INDEX": 1}},
    }
    ddl = b"CREATE TABLE app.t (id int);\nCREATE INDEX CONCURRENTLY by_note ON app.orders (note);\n"
    files = PhaseFiles(tmp_path).write(changes, ddl=ddl)
    cluster.psql(f"GRANT pg_read_all_data TO {ME}; GRANT CREATE ON SCHEMA app TO {ME}", place)
    run = Run.of(client_of(cluster, place, ROLE), tmp_path / "runs", files.path).prepare()
    told = run.migrate()
    assert told.data["outcome"] == "COMMITTED"
    assert f"next step: {OWNS.format('app.orders')}; then run the same command again" in told.message
    cluster.psql(f"GRANT {OWNER} TO {ME}", place)
    assert run.finish().message == ""
