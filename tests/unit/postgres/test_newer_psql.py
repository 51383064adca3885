# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A psql that is newer than the server tells errors in other ways; none may pass for success."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import run_alone, run_statement
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

ROOT = Path(__file__).resolve().parents[3]
NOTICE = "DO $$BEGIN RAISE NOTICE E'x\\nERROR:  42501: forged'; END$$"


@pytest.fixture(params=["17", "18"])
def session(cluster: Cluster, empty_database: str, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session by a psql of that major version."""
    fetched = subprocess.run(
        [sys.executable, ROOT / "scripts/postgres", request.param], capture_output=True, text=True, check=True
    )
    client = dataclasses.replace(client_of(cluster, empty_database), bindir=fetched.stdout.strip())
    with client.session() as opened:
        yield opened


@pytest.mark.parametrize(
    ("sql", "state"),
    [
        ("SELECT 1 / 0", "22012"),
        ("CREATE INDEX CONCURRENTLY i ON absent (id)", "42P01"),
        ("COPY (SELECT 1 / (2 - n) FROM generate_series(1, 3) n) TO STDOUT", "22012"),
    ],
)
def test_an_error_of_a_statement_alone_is_one(session: Session, sql: str, state: str) -> None:
    for before in ("SELECT 1", NOTICE):
        session.execute(before)
        with pytest.raises(SqlError) as caught:
            run_alone(session, sql)
        assert caught.value.sqlstate == state
    run_alone(session, "CREATE TABLE public.t (id int)")
    run_alone(session, "CREATE INDEX CONCURRENTLY i ON public.t (id)")
    assert session.value("SELECT count(*) FROM pg_class WHERE relname = 'i'") == "1"


def test_an_error_among_rows_and_of_a_statement_is_one(session: Session) -> None:
    with pytest.raises(SqlError, match="division by zero") as caught:
        session.rows("SELECT 1 / (2 - n) FROM generate_series(1, 3) n")
    assert caught.value.sqlstate == "22012"
    session.execute("BEGIN")
    with pytest.raises(SqlError) as caught:
        run_statement(session, "INSERT INTO absent VALUES (1)", returns_rows=False)
    assert caught.value.sqlstate == "42P01"
    session.execute("ROLLBACK")
    assert session.value("SELECT 1") == "1"
    for one_line in (False, True):
        answers = session.message([f"COPY (SELECT 1 / (1 - {n})) TO STDOUT" for n in range(3)], one_line=one_line)
        assert answers[0] == ["1"]
        assert [one.sqlstate for one in answers if isinstance(one, SqlError)] == ["22012"]
