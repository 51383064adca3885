# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What COMMIT would do after the last check, on a real server: it is done before the checks, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

LOG = "CREATE TABLE app.log (line text)"


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with one schema ``app`` and one table in it."""
    cluster.psql("CREATE SCHEMA app; CREATE TABLE app.old (id int PRIMARY KEY)", empty_database)
    return client_of(cluster, empty_database)


def forced(client: Client, tmp_path: Path, *statements: str, policy: str = "unchanged", **check: Any) -> Run:
    """Return a prepared run of these statements, whose only check is ``check``."""
    directory = tmp_path / "phase"
    directory.mkdir(exist_ok=True)
    files = PhaseFiles(directory)
    files.write({"preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}]})
    run = Run.of(client, tmp_path / "runs", files.path)
    run.plan["phase"]["verify"] = [{"id": "VA-1", "title": "one", "sql": "SELECT 1", "expect": 1, **check}]
    run.plan["phase"]["diff"] = {"policy": policy, "changes": []}
    run.plan["phase"]["expect"].update(tags={}, rows={})
    return run.force(*statements).prepare()


def assert_refused(run: Run, message: str, *parts: str) -> None:
    """Check that the run rolled back before COMMIT was sent, for this reason."""
    before = fingerprint(run.client)
    outcome = run.migrate()
    assert outcome.message.startswith(message), outcome.message
    for part in parts:
        assert part in outcome.message
    assert (outcome.data["outcome"], run.events("commit")) == ("ROLLED_BACK", [])
    assert before == fingerprint(run.client)


def assert_committed(run: Run) -> None:
    """Check that the run committed, and that the schema stays as the checks saw it when its session has ended."""
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    assert outcome.data["transaction"]["diff"]["ok"] is True


FUNCTION = "CREATE FUNCTION pg_temp.f(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';\n"
TABLE = "CREATE TEMP TABLE x (id int) ON COMMIT DROP;\n"
TYPE = "CREATE TYPE pg_temp.kind AS ENUM ('a');\n"


@pytest.mark.parametrize(
    ("temporary", "permanent", "check"),
    [
        (
            FUNCTION,
            "ALTER TABLE app.old ADD CONSTRAINT c CHECK (pg_temp.f(id))",
            "SELECT count(*) FROM pg_constraint WHERE conname = 'c'",
        ),
        (
            TABLE,
            "CREATE POLICY p ON app.old USING (EXISTS (SELECT FROM pg_temp.x))",
            "SELECT count(*) FROM pg_policy WHERE polname = 'p'",
        ),
        (
            TYPE,
            "ALTER TABLE app.old ADD COLUMN k pg_temp.kind",
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.old'::regclass AND attname = 'k'",
        ),
        (
            FUNCTION,
            "CREATE INDEX i ON app.old (pg_temp.f(id))",
            "SELECT count(*) FROM pg_class WHERE relname = 'i'",
        ),
        (
            FUNCTION,
            "CREATE FUNCTION app.g() RETURNS bool BEGIN ATOMIC SELECT pg_temp.f(1); END",
            "SELECT count(*) FROM pg_proc WHERE proname = 'g'",
        ),
    ],
    ids=["check", "policy", "column", "index", "function"],
)
@pytest.mark.fault("temporary-objects")
def test_what_a_temporary_object_takes_with_it_is_gone_before_the_checks(
    app: Client, tmp_path: Path, temporary: str, permanent: str, check: str
) -> None:
    run = forced(app, tmp_path, temporary, permanent, policy="additions_only", sql=check, expect=1)
    assert_refused(run, "C-07: verification failed inside the transaction", "VA-1", "0")


@pytest.mark.fault("temporary-objects")
def test_an_extension_survives_its_temporary_member(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = forced(
        app,
        tmp_path,
        TABLE,
        "DO $$ BEGIN EXECUTE format('ALTER EXTENSION plpgsql ADD TABLE %s', 'x'::regclass); END $$",
    )
    assert_committed(run)
    assert cluster.psql("SELECT count(*) FROM pg_extension WHERE extname = 'plpgsql'", app.database) == "1"


@pytest.mark.fault("temporary-objects")
def test_rows_that_commit_would_delete_are_gone_before_the_checks(app: Client, tmp_path: Path) -> None:
    run = forced(
        app, tmp_path, "CREATE TEMP TABLE y ON COMMIT DELETE ROWS AS SELECT 1 AS id;\n",
        sql="SELECT count(*) FROM pg_class WHERE relname = 'y'", expect=0,
    )  # fmt: skip
    assert_committed(run)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "ALTER TABLE app.old ADD CONSTRAINT c CHECK ({}.f(id))",
            "constraint c on table app.old depends on function {}.f",
        ),
        ("ALTER TABLE app.old ADD COLUMN k {}.kind", "column k of table app.old depends on type {}.kind"),
        ("CREATE CAST ({}.kind AS text) WITH INOUT", "depends on type {}.kind"),
        ("ALTER EXTENSION plpgsql ADD FUNCTION {}.f(int)", "extension plpgsql has the member function {}.f(integer)"),
    ],
    ids=["check", "column", "cast", "member"],
)
@pytest.mark.fault("temporary-foreign")
def test_an_object_of_another_session_that_vanishes_with_it_is_a_finding(
    app: Client, tmp_path: Path, statement: str, found: str
) -> None:
    with app.session("other") as other:
        other.execute(FUNCTION + TYPE)
        schema = other.value("SELECT pg_my_temp_schema()::regnamespace") or ""
        run = forced(app, tmp_path, statement.format(schema), policy="additions_only")
        assert_refused(run, "C-07: a permanent object depends on a temporary one; rolled back", found.format(schema))


@pytest.mark.fault("temporary-foreign")
def test_temporary_objects_of_other_sessions_are_no_obstacle(app: Client, tmp_path: Path) -> None:
    with app.session("other") as other:
        other.execute(
            "CREATE TEMP TABLE busy (id serial PRIMARY KEY, t text CHECK (t <> ''));"
            "CREATE TEMP VIEW seen AS SELECT * FROM busy; CREATE INDEX ON busy (t);" + FUNCTION + TYPE
        )
        run = forced(app, tmp_path, "CREATE TABLE app.t (id int)", policy="additions_only")
        assert_committed(run)


AGAIN = """
CREATE FUNCTION app.again() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
  SET CONSTRAINTS ALL DEFERRED;
  IF NEW.id < 9 THEN INSERT INTO app.old VALUES (NEW.id + 1); END IF;
  RETURN NULL;
END $f$;
CREATE CONSTRAINT TRIGGER again AFTER INSERT ON app.old DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.again()
"""


@pytest.mark.fault("deferred-again")
def test_a_trigger_that_defers_its_work_again_is_refused(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(AGAIN, app.database)
    run = forced(app, tmp_path, "INSERT INTO app.old VALUES (1)")
    assert_refused(run, "C-07: a deferred trigger defers its work again", "25006", "INSERT")


@pytest.mark.fault("deferred-again")
def test_a_trigger_that_only_speaks_of_deferring_is_none(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(AGAIN, app.database)
    run = forced(app, tmp_path, "INSERT INTO app.old VALUES (9)", sql="SELECT count(*) FROM app.old", expect=1)
    run.plan["phase"]["data"] = {"app.old": {"INSERT": 1}}
    run.prepare()
    assert_committed(run)


CURSOR = """
CREATE FUNCTION app.late() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION 'this ran at COMMIT'; END $f$;
CREATE FUNCTION app.hold() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
  EXECUTE 'DECLARE later CURSOR WITH HOLD FOR SELECT app.late()'; RETURN 1;
END $f$
"""


@pytest.mark.parametrize("where", ["statement", "check"])
@pytest.mark.fault("cursor-with-hold")
def test_a_cursor_with_hold_does_not_run_at_commit(app: Client, cluster: Cluster, tmp_path: Path, where: str) -> None:
    cluster.psql(CURSOR, app.database)
    ddl, sql = ("SELECT app.hold()", "SELECT 1") if where == "statement" else ("SELECT 1", "SELECT app.hold()")
    assert_committed(forced(app, tmp_path, ddl, sql=sql, expect=1))


@pytest.mark.fault("cursor-with-hold")
def test_a_cursor_does_not_keep_a_temporary_table(app: Client, tmp_path: Path) -> None:
    # the check's own query is the only one left
    body = "DO $$ DECLARE c refcursor; BEGIN OPEN c FOR SELECT * FROM pg_temp.x; END $$"
    run = forced(app, tmp_path, TABLE, body, sql="SELECT count(*) FROM pg_cursors", expect=1)
    assert_committed(run)


@pytest.mark.fault("temporary-objects")
def test_dropping_what_is_temporary_fires_no_event_trigger(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(
        f"{LOG}; CREATE FUNCTION app.seen() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $f$ BEGIN INSERT INTO app.log VALUES (tg_event || ' ' || tg_tag); END $f$;"
        "CREATE EVENT TRIGGER e1 ON sql_drop EXECUTE FUNCTION app.seen();"
        "CREATE EVENT TRIGGER e2 ON ddl_command_end EXECUTE FUNCTION app.seen()",
        app.database,
    )
    run = forced(app, tmp_path, TABLE)
    run.plan["phase"]["data"] = {"app.log": {"INSERT": 1}}
    run.prepare()
    assert_committed(run)
    assert cluster.psql("SELECT string_agg(line, ', ') FROM app.log", app.database) == "ddl_command_end CREATE TABLE"


def after_commit(monkeypatch: pytest.MonkeyPatch, query: str) -> list[str | None]:
    """Return a list that receives the answer to ``query`` in the session of the run, right after COMMIT."""
    seen: list[str | None] = []

    def baseline(session: Session, *_about: object) -> list[object]:
        seen.append(session.value(query))
        return []

    monkeypatch.setattr(
        "ansible_collections.incomex.phasegate.plugins.module_utils._run.migration.data_baseline", baseline
    )
    return seen


@pytest.mark.fault("session-left")
def test_a_session_does_not_listen_after_commit(app: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = after_commit(monkeypatch, "SELECT count(*) FROM pg_listening_channels()")
    run = forced(app, tmp_path, "DO $$ BEGIN EXECUTE 'LISTEN told'; PERFORM pg_catalog.pg_notify('told', 'x'); END $$")
    assert_committed(run)
    assert seen == ["0"]


@pytest.mark.parametrize(
    "setting", ["search_path=app", "role=nobody_else", "DateStyle=German", "work_mem=64kB", "timezone=Asia/Tokyo"]
)
@pytest.mark.fault("session-left")
def test_what_the_script_sets_for_the_session_ends_with_the_transaction(
    app: Client, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    name, value = setting.split("=")
    cluster.psql("DROP ROLE IF EXISTS nobody_else; CREATE ROLE nobody_else", app.database)
    seen = after_commit(monkeypatch, f"SELECT pg_catalog.current_setting('{name}')")
    with app.session() as session:
        ordinary = session.value(f"SELECT pg_catalog.current_setting('{name}')")
    run = forced(
        app,
        tmp_path,
        f"SELECT pg_catalog.set_config('{name}', '{value}', false)",
        sql="SELECT current_user = session_user",
        expect=True,
    )
    assert_committed(run)
    assert seen == [ordinary]


@pytest.mark.parametrize("where", ["statement", "check"])
@pytest.mark.fault("session-left")
def test_a_commit_is_as_durable_as_the_session_was(
    app: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    weaker = "SELECT pg_catalog.set_config('synchronous_commit', 'off', true)"
    ddl, sql = (weaker, "SELECT 'off'") if where == "statement" else ("SELECT 1", weaker)
    seen: list[str | None] = []
    package = "ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction"

    def commit(session: Session, *_others: object) -> None:
        seen.append(session.value("SELECT pg_catalog.current_setting('synchronous_commit')"))
        session.execute("ROLLBACK")

    monkeypatch.setattr(f"{package}._commit", commit)
    run = forced(app, tmp_path, ddl, sql=sql, expect="off")
    run.migrate()
    assert seen == ["on"]
