# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where psql connects and what it carries: hostile names, errors with their fields, and connections that end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import (
    SESSION_SETTINGS,
    Client,
    conninfo,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import (
    ALSO,
    ConnectionLost,
    Message,
    SqlError,
    parse_messages,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal
from ansible_collections.incomex.phasegate.tests.support.runs import client_of, wait_for
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

HOSTILE_NAMES = [
    "with space",
    "o'clock",
    'quo"ted',
    "back\\slash",
    "\\'",
    # those that could be a connection string are refused: test_secrets.py
    "dbname:postgres",
    "a=b",
    "$(touch x)",
    "`touch x`",
    "semi;colon",
    "{{ 7 * 7 }}",
    "-d",
    "UPPER",
    "new\nline",
    "ünïcode",
    "=",
    "x" * 63,
]


@given(value=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_libpq_reads_a_connection_string_as_it_was_meant(value: str) -> None:
    assert conninfo_to_dict(conninfo({"dbname": value, "user": "u", "application_name": value})) == {
        "dbname": value,
        "user": "u",
        "application_name": value,
    }


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_database_of_any_name_is_reached(cluster: Cluster, session: Session, name: str) -> None:
    session.execute(f"CREATE DATABASE {identifier(name)} TEMPLATE template0")
    try:
        client = client_of(cluster, name)
        with client.session(name) as opened:
            assert opened.rows("SELECT current_database(), current_setting('application_name')")[0][0] == name
        dumped = client.run("pg_dump", "--schema-only", "--dbname", client.connection_string("x"))
        assert (dumped.returncode, dumped.stderr) == (0, b"")
    finally:
        session.execute(f"DROP DATABASE {identifier(name)} WITH (FORCE)")


@pytest.mark.parametrize("name", ["with space", "o'clock", 'quo"ted', "back\\slash", "-U", "ünïcode"])
def test_a_role_of_any_name_connects(cluster: Cluster, session: Session, shared_database: str, name: str) -> None:
    session.execute(f"CREATE ROLE {identifier(name)} LOGIN")
    try:
        with client_of(cluster, shared_database, name).session() as opened:
            assert opened.value("SELECT current_user") == name
    finally:
        session.execute(f"DROP ROLE {identifier(name)}")


def test_a_session_has_the_settings_that_fix_what_the_server_prints(cluster: Cluster, client: Client) -> None:
    cluster.psql(
        f"ALTER DATABASE {identifier(client.database)} SET search_path = public;"
        f" ALTER DATABASE {identifier(client.database)} SET DateStyle = 'SQL, DMY';"
        f" ALTER DATABASE {identifier(client.database)} SET quote_all_identifiers = on"
    )
    with client.session("phasegate:test it") as opened:
        found = {name: opened.value(f"SELECT current_setting({literal(name)})") for name in SESSION_SETTINGS}
        assert opened.value("SELECT current_setting('application_name')") == "phasegate:test it"
    assert found == SESSION_SETTINGS


def test_no_psqlrc_and_no_environment_of_psql_matters(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "psqlrc").write_text("\\echo hello\n\\set ON_ERROR_STOP 1\n\\set AUTOCOMMIT off\n", encoding="utf-8")
    monkeypatch.setenv("PSQLRC", str(tmp_path / "psqlrc"))
    with client.session() as opened:
        opened.execute("CREATE TABLE public.kept ()")
    with client.session() as opened:
        assert opened.value("SELECT to_regclass('public.kept') IS NOT NULL") == "t"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"database": "no_such_database"}, 'database "no_such_database" does not exist'),
        ({"user": "nobody_here"}, 'role "nobody_here" does not exist'),
        ({"port": 1}, "No such file or directory"),
        ({"host": "/nowhere"}, "No such file or directory"),
        ({"service": "no_such_service"}, 'definition of service "no_such_service" not found'),
    ],
)
def test_without_a_connection_the_message_has_the_servers_words(
    cluster: Cluster, change: dict[str, object], found: str
) -> None:
    parameters = {**client_of(cluster, "postgres").__dict__, **change}
    with pytest.raises(PhaseGateError, match="Cannot connect to database") as caught, Client(**parameters).session():
        pass
    assert found in caught.value.found
    assert "check container, host, port" in caught.value.next_step


def test_a_server_that_wants_a_password_is_not_asked_twice(cluster: Cluster) -> None:
    # --no-password: psql must end, not wait for a terminal
    hba = cluster.data / "pg_hba.conf"
    before = hba.read_text(encoding="utf-8")
    cluster.psql("CREATE ROLE with_password LOGIN PASSWORD 'canary'")
    hba.write_text(f"local all with_password scram-sha-256\n{before}", encoding="utf-8")
    try:
        cluster.psql("SELECT pg_reload_conf()")
        wait_for("the new pg_hba.conf", lambda: "with_password" in cluster.psql("TABLE pg_hba_file_rules"))
        with (
            pytest.raises(PhaseGateError, match="Cannot connect to database") as caught,
            client_of(cluster, "postgres", "with_password").session(),
        ):
            pass
        assert "no password supplied" in caught.value.found
    finally:
        hba.write_text(before, encoding="utf-8")
        cluster.psql("SELECT pg_reload_conf(); DROP ROLE with_password")


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (Client("x", bindir="/nowhere"), "The PostgreSQL program psql is missing"),
        (Client("x", container="c", container_engine="no_such_engine"), "The container engine's client is missing"),
    ],
)
def test_a_missing_program_is_named(client: Client, message: str) -> None:
    with pytest.raises(PhaseGateError, match=message), client.session():
        pass


def test_a_container_is_one_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engine").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "engine").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    argv = Client("d b", container="a b; c", container_engine="engine").argv("psql", "--dbname", "d b")
    assert argv == [str(tmp_path / "engine"), "exec", "-i", "a b; c", "psql", "--dbname", "d b"]


# --- errors ----------------------------------------------------------------------------------------------------


def test_an_error_has_its_fields(session: Session) -> None:
    session.execute("CREATE TEMP TABLE once (id int PRIMARY KEY, CHECK (id > 0))")
    with pytest.raises(SqlError) as caught:
        session.execute("INSERT INTO once VALUES (1), (1)")
    error = caught.value
    assert (error.sqlstate, error.detail) == ("23505", "Key (id)=(1) already exists.")
    assert error.words() == (
        '23505: duplicate key value violates unique constraint "once_pkey" (Key (id)=(1) already exists.)'
    )
    # and the session goes on
    assert session.value("SELECT count(*) FROM once") == "0"


def test_notices_come_with_the_outcome_and_are_no_errors(session: Session) -> None:
    outcome = session.execute(
        "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING USING MESSAGE = 'two', ERRCODE = '22012', HINT = 'a hint'; END $$"
    )
    assert [(m.severity, m.sqlstate, m.text) for m in outcome.notices] == [
        ("NOTICE", "00000", "one"),
        ("WARNING", "22012", "two"),
    ]
    assert outcome.notices[1].fields["HINT"] == "a hint"


def test_row_counts_and_empty_answers(session: Session) -> None:
    session.execute("CREATE TEMP TABLE counted AS SELECT generate_series(1, 7) AS n")
    assert session.execute("UPDATE counted SET n = n WHERE n > 4").row_count == 3
    assert session.rows("SELECT n FROM counted WHERE false") == []
    with pytest.raises(LookupError, match="one row expected, 0 found"):
        session.value("SELECT n FROM counted WHERE false")
    with pytest.raises(LookupError, match="one row expected, 7 found"):
        session.value("SELECT n FROM counted")


def test_an_error_in_the_middle_of_rows_is_raised_and_the_next_answer_is_its_own(session: Session) -> None:
    with pytest.raises(SqlError, match="22012"):
        session.rows("SELECT 1 / (3 - n) FROM generate_series(1, 5) n")
    assert session.value("SELECT 'next'") == "next"


def test_a_large_answer_and_many_messages_do_not_block_each_other(session: Session) -> None:
    session.execute(
        "CREATE FUNCTION pg_temp.noisy(n int) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE NOTICE '%', repeat('n', 500); RETURN repeat('x', 500); END $$"
    )
    rows = session.rows("SELECT pg_temp.noisy(n) FROM generate_series(1, 3000) n")
    assert rows == [("x" * 500,)] * 3000
    assert session.value("SELECT 1") == "1"


@given(lines=st.lists(st.text(max_size=30), max_size=6))
def test_any_lines_are_messages(lines: list[str]) -> None:
    assert sum(len(message.text) for message in parse_messages(lines)) <= sum(len(line) + 1 for line in lines)


def test_messages_in_another_language_are_told_by_their_sqlstate() -> None:
    messages = parse_messages(
        [
            "FEHLER:  42P01: Relation »x« existiert nicht",
            "ZEILE 1: SELECT * FROM x",
            "HINWEIS:  00000: nur so",
            "psql:<stdin>:7: ERROR:  57014: canceling statement due to statement timeout",
            "CONTEXT:  PL/pgSQL function f() line 3 at PERFORM",
            "SQL statement of two",
            "lines",
        ]
    )
    assert [(message.sqlstate, message.is_error) for message in messages] == [
        ("42P01", True),
        ("00000", False),
        ("57014", True),
    ]
    assert messages[2].fields["CONTEXT"].endswith("at PERFORM\nSQL statement of two\nlines")


@pytest.mark.parametrize("severity", ["DEBUG", "LOG", "INFO", "NOTICE", "WARNING"])
def test_a_harmless_severity_is_no_error_whatever_its_sqlstate(severity: str) -> None:
    assert not Message(severity, "22012", "x").is_error


# --- connections that end --------------------------------------------------------------------------------------


def test_a_terminated_backend_is_a_lost_connection(cluster: Cluster, client: Client) -> None:
    with client.session() as opened:
        pid = opened.value("SELECT pg_backend_pid()")
        cluster.psql(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(ConnectionLost) as caught:
            opened.rows("SELECT 1")
        assert "terminating connection due to administrator command" in caught.value.found
        with pytest.raises(ConnectionLost):
            opened.execute("ROLLBACK")


def test_a_killed_psql_is_a_lost_connection(client: Client) -> None:
    with client.session() as opened:
        opened._process.kill()
        with pytest.raises(ConnectionLost, match="status -9"):
            opened.execute("SELECT 1")


def test_leaving_a_session_rolls_an_open_transaction_back(client: Client) -> None:
    with client.session() as opened:
        opened.execute("BEGIN")
        opened.execute("CREATE TABLE public.never ()")
    with client.session() as opened:
        assert opened.value("SELECT to_regclass('public.never')") is None


def test_the_module_speaks_of_its_errors_as_operators_do() -> None:
    error = SqlError(Message("ERROR", "42501", "permission denied", {"HINT": "ask"}))
    assert str(error).splitlines()[2] == "  found: 42501: permission denied Hint: ask"


# --- several requests at once ----------------------------------------------------------------------------------


@pytest.mark.fault("input-bombs")
def test_a_cell_of_many_megabytes_is_read_in_the_time_of_its_bytes(session: Session) -> None:
    began = time.monotonic()
    assert len(session.value("SELECT pg_catalog.repeat('x', 80000000)") or "") == 80_000_000
    assert session.value("SELECT 1") == "1"
    assert time.monotonic() - began < 40


def test_a_batch_is_answered_in_order(session: Session) -> None:
    copies = [f"COPY (SELECT n FROM generate_series(1, {count}) n) TO STDOUT" for count in (0, 1, 3)]
    assert session.batch(["SET application_name = 'batched'", *copies]) == [[], [], ["1"], ["1", "2", "3"]]
    assert session.value("SELECT current_setting('application_name')") == "batched"


def test_a_message_is_answered_in_order_whatever_number_of_rows_each_request_has(session: Session) -> None:
    copies = [f"COPY (SELECT generate_series(1, {n})) TO STDOUT" for n in (0, 2, 1)]
    answers = session.message(["SET application_name = 'together'", *copies, "SET application_name = 'later'"])
    assert answers == [[], [], ["1", "2"], ["1"], []]
    assert session.value("SELECT current_setting('application_name')") == "later"
    lines = session.message(["DO 'BEGIN END'" + ALSO + f"COPY (SELECT {n}) TO STDOUT" for n in range(3)], one_line=True)
    assert lines == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize("one_line", [False, True])
def test_a_message_ends_with_the_first_error(session: Session, one_line: bool) -> None:
    session.execute("CREATE TEMP TABLE IF NOT EXISTS reached (n int)")
    requests = [
        f"INSERT INTO reached VALUES ({n}){ALSO}DO $$BEGIN RAISE NOTICE E'x\nERROR:  42501: forged'; END$$"
        f"{ALSO}COPY (SELECT 1 / ({n} - 2)) TO STDOUT"
        for n in range(5)
    ]
    session.execute("BEGIN")
    *good, last = session.message(requests, one_line=one_line)
    assert good == [["0"], ["-1"]]
    assert isinstance(last, SqlError)
    assert last.sqlstate == "22012"
    session.execute("ROLLBACK")
    assert session.value("SELECT count(*) FROM reached") == "0"


def test_a_timeout_holds_for_each_statement_of_a_message(session: Session) -> None:
    session.execute("SET statement_timeout = '1s'")
    assert session.message(["COPY (SELECT pg_sleep(0.4)) TO STDOUT"] * 4) == [[""]] * 4


def test_a_message_on_a_lost_connection_is_lost(client: Client, cluster: Cluster) -> None:
    with client.session() as session:
        pid = session.value("SELECT pg_backend_pid()")
        cluster.psql(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(ConnectionLost):
            session.message(["SET lock_timeout = 0", "SET lock_timeout = 1"])


def test_after_a_failure_the_rest_of_a_batch_is_refused(session: Session) -> None:
    session.execute("BEGIN; CREATE TEMPORARY TABLE seen (n int)")
    good, bad, late, last = session.batch(
        ["INSERT INTO seen VALUES (1)", "SELECT 1 / 0", "INSERT INTO seen VALUES (2)", "COPY seen TO STDOUT"]
    )
    assert good == []
    assert isinstance(bad, SqlError)
    assert (bad.sqlstate, bad.text) == ("22012", "division by zero")
    assert [one.sqlstate for one in (late, last) if isinstance(one, SqlError)] == ["25P02", "25P02"]
    session.execute("ROLLBACK")
    assert session.value("SELECT 7") == "7"


def test_each_failure_of_a_batch_has_its_own_text(session: Session) -> None:
    answers = session.batch(
        ["SELECT nothing", "SELECT 1", "SELECT 1 / 0", "COPY (SELECT 1 / n FROM (VALUES (1), (0)) v(n)) TO STDOUT"]
    )
    assert [one.sqlstate if isinstance(one, SqlError) else "" for one in answers] == ["42703", "", "22012", "22012"]


def test_a_batch_may_be_larger_than_what_pipes_hold(session: Session) -> None:
    text = "x" * 50_000
    answers = session.batch([f"COPY (SELECT {literal(text)} || n FROM generate_series(1, 20) n) TO STDOUT"] * 20)
    assert [len(answer) for answer in answers if isinstance(answer, list)] == [20] * 20
    assert answers[-1][-1] == f"{text}20"  # type: ignore[index]


def test_a_batch_on_a_lost_connection_is_lost(session: Session, cluster: Cluster) -> None:
    pid = session.value("SELECT pg_backend_pid()")
    cluster.psql(f"SELECT pg_terminate_backend({pid})")
    with pytest.raises(ConnectionLost):
        session.batch(["SELECT 1", "SELECT 2"])
