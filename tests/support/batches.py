# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase with a backfill in batches, and a process that runs it and can be killed."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, wait_for

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

ROWS = 1000
DDL = """BEGIN;
ALTER TABLE app.orders ADD COLUMN cents bigint;
COMMIT;
-- the backfill
UPDATE app.orders SET cents = price * 100 WHERE cents IS NULL;
"""
DEFINITION: dict[str, Any] = {
    "scope": {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN", "UPDATE", "DELETE"]},
    "expect": {"tags": {"BEGIN": 1, "ALTER TABLE": 1, "COMMIT": 1, "UPDATE": 1}, "rows": {"UPDATE": [ROWS]}},
    "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
    "verify": [{"id": "VA-1", "title": "the column", "sql": "SELECT count(*) FROM app.orders WHERE cents < 0", "expect": 0}],
    "batches": {"app.orders": {"by": "id", "rows": 100}},
}  # fmt: skip
TABLE = f"""
CREATE SCHEMA app;
CREATE TABLE app.orders (id bigint PRIMARY KEY, price int NOT NULL, note text);
INSERT INTO app.orders SELECT 3 * n, n FROM generate_series(1, {ROWS}) n;
"""
#: A trigger that notes each write of a row, and makes a batch take its time.
SLOW = """
CREATE TABLE app.writes (id bigint, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO app.writes (id) VALUES (NEW.id); IF NEW.id % 20 = 0 THEN PERFORM pg_sleep(0.005); END IF; RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.note();
"""
NOTED = {"app.orders": {"by": "id", "rows": 100, "data": {"app.writes": {"INSERT": ROWS}}}}


def planned(client: Client, tmp_path: Path, ddl: str = DDL, **changes: Any) -> Run:
    """Return a run of the phase above."""
    directory = tmp_path / "phase"
    directory.mkdir(exist_ok=True)
    PhaseFiles(directory).write({**DEFINITION, **changes}, ddl=ddl.encode())
    return Run.of(client, tmp_path / "runs", str(directory / "phase.yml"))


def once(cluster: Cluster, client: Client) -> str:
    """Return how many rows were written once, and how many more often."""
    return cluster.psql(
        "SELECT count(*) FILTER (WHERE n = 1) || ' ' || count(*) FILTER (WHERE n > 1)"
        " FROM (SELECT count(*) AS n FROM app.writes GROUP BY id) w",
        client.database,
    )


def done(cluster: Cluster, client: Client) -> str:
    """Return how many rows have their new value."""
    return cluster.psql("SELECT count(*) FROM app.orders WHERE cents = price * 100", client.database)


def go_on(run: Run, *, finish: bool) -> None:
    """Run C-07, or what an interrupted one left of it, in a process of its own."""
    (run.finish if finish else run.migrate)()


def in_process(run: Run, *, finish: bool) -> BaseProcess:
    """Start C-07, or what is left of it, in a process."""
    # the session that holds the lock stays here
    there = dataclasses.replace(run, sessions=contextlib.ExitStack())
    process = multiprocessing.get_context("spawn").Process(target=go_on, args=(there,), kwargs={"finish": finish})
    process.start()
    return process


def kill_after(run: Run, batches: int, *, finish: bool) -> None:
    """Run C-07, or what is left of it, in a process that is killed once so many batches more are journaled."""
    before = len(run.events("batch"))
    process = in_process(run, finish=finish)
    try:
        wait_for("the batches", lambda: len(run.events("batch")) >= before + batches)
    finally:
        process.kill()
        process.join()
