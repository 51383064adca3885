# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches after COMMIT against a real server: each row once, whatever interrupts them, and nothing left."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import batches_of, statements_left
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_file
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of, wait_for

if TYPE_CHECKING:
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
#: A trigger that notes each write of a row, and makes a batch take its time.
SLOW = """
CREATE TABLE app.writes (id bigint, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO app.writes (id) VALUES (NEW.id); IF NEW.id % 20 = 0 THEN PERFORM pg_sleep(0.005); END IF; RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.note();
"""
NOTED = {"app.orders": {"by": "id", "rows": 100, "data": {"app.writes": {"INSERT": ROWS}}}}


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a table of many rows whose keys have gaps."""
    cluster.psql(
        "CREATE SCHEMA app; CREATE TABLE app.orders (id bigint PRIMARY KEY, price int NOT NULL, note text);"
        f" INSERT INTO app.orders SELECT 3 * n, n FROM generate_series(1, {ROWS}) n",
        empty_database,
    )
    return client_of(cluster, empty_database)


def planned(client: Client, tmp_path: Path, ddl: str = DDL, **changes: Any) -> Run:
    """Return a run of the phase above."""
    directory = tmp_path / "phase"
    directory.mkdir(exist_ok=True)
    PhaseFiles(directory).write({**DEFINITION, **changes}, ddl=ddl.encode())
    return Run.of(client, tmp_path / "runs", str(directory / "phase.yml"))


def go_on(run: Run, *, finish: bool) -> None:
    """Run C-07, or what an interrupted one left of it, in a process of its own."""
    (run.finish if finish else run.migrate)()


def kill_after(run: Run, batches: int, *, finish: bool) -> None:
    """Run C-07, or what is left of it, in a process that is killed once so many batches more are journaled."""
    before = len(run.events("batch"))
    # the session that holds the lock stays here
    there = dataclasses.replace(run, sessions=contextlib.ExitStack())
    process = multiprocessing.get_context("spawn").Process(target=go_on, args=(there,), kwargs={"finish": finish})
    process.start()
    try:
        wait_for("the batches", lambda: len(run.events("batch")) >= before + batches)
    finally:
        process.kill()
        process.join()


def once(cluster: Cluster, client: Client) -> str:
    """Return how many rows were written once, and how many more often."""
    return cluster.psql(
        "SELECT count(*) FILTER (WHERE n = 1) || ' ' || count(*) FILTER (WHERE n > 1)"
        " FROM (SELECT count(*) AS n FROM app.writes GROUP BY id) w",
        client.database,
    )


def done(cluster: Cluster, client: Client) -> str:
    return cluster.psql("SELECT count(*) FROM app.orders WHERE cents = price * 100", client.database)


# --- the plan --------------------------------------------------------------------------------------------------


def analysed(sql: str, batches: dict[tuple[str, str], dict[str, Any]] | None = None) -> tuple[Any, list[str]]:
    """Return the batch of an SQL text's last statement, None without one, and what is wrong with it."""
    problems: list[Any] = []
    tag = "UPDATE" if "UPDATE" in sql else "DELETE"
    known = {("app", "orders"): {"by": "id", "rows": 5}} if batches is None else batches
    rules = SqlRules(frozenset({"app"}), frozenset({tag}), frozenset(), (), {tag: [{"min": 0}]}, "k", "r", known)
    found = analyse_file(SourceFile("x.sql", "x.sql", sql.encode()), rules, problems)
    return found[-1].get("batch") if found else None, [one.what for one in problems]


@pytest.mark.parametrize(
    ("sql", "change", "leaves"),
    [
        (
            "UPDATE app.orders SET cents = 1 WHERE cents IS NULL",
            "UPDATE app.orders SET cents = 1 WHERE (cents IS NULL\n) AND orders.id > $1 AND orders.id <= $2",
            True,
        ),
        (
            '/* all */ UPDATE ONLY app.orders AS "O" SET price = price + 1 WHERE true OR false -- every one\n; -- the end',
            'UPDATE ONLY app.orders AS "O" SET price = price + 1 WHERE (true OR false -- every one\n)'
            ' AND "O".id > $1 AND "O".id <= $2',
            False,
        ),
        (
            "DELETE FROM app.orders o WHERE o.note = 'WHERE é' AND (o.price > 1 AND o.id IN (SELECT 1 WHERE true))",
            "DELETE FROM app.orders o WHERE (o.note = 'WHERE é' AND (o.price > 1 AND o.id IN (SELECT 1 WHERE true))\n)"
            " AND o.id > $1 AND o.id <= $2",
            True,
        ),
    ],
)
def test_a_batch_is_the_statement_with_a_range_of_keys(sql: str, change: str, leaves: bool) -> None:
    batch, problems = analysed(sql)
    assert problems == []
    assert (batch["change"], batch["leaves"]) == (change, leaves)
    assert batch["select"].endswith(change[change.index("WHERE (") :])


def test_names_that_are_reserved_words_are_quoted() -> None:
    batch, problems = analysed(
        'UPDATE app."user" SET note = NULL WHERE true', {("app", "user"): {"by": "order", "rows": 1}}
    )
    assert (problems, batch["key"]) == ([], '"user".order')


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE app.orders SET cents = 1", "no WHERE"),
        ("UPDATE app.orders SET id = id + 1 WHERE true", "SET id, which is its key"),
        ("UPDATE app.orders SET (cents, id) = (1, 2) WHERE true", "SET id, which is its key"),
        ("UPDATE app.orders SET cents = 1 WHERE true RETURNING id", "RETURNING"),
        ("UPDATE app.orders SET cents = 1 FROM app.orders o WHERE true", "FROM"),
        ("DELETE FROM app.orders USING app.orders o WHERE true", "USING"),
        ("WITH x AS (SELECT 1) UPDATE app.orders SET cents = 1 WHERE true", "a WITH clause"),
        ("UPDATE app.orders SET cents = 1 WHERE id = $1", "a parameter such as $1"),
        ("UPDATE app.orders SET cents = orders.where WHERE true", "its text cannot be composed with a range of keys"),
    ],
)
def test_any_other_form_is_refused(sql: str, problem: str) -> None:
    batch, problems = analysed(sql)
    assert (batch, problems) == (None, [f"{problem}: it cannot run in batches"])


def test_a_change_after_commit_needs_its_batches(app: Client, tmp_path: Path) -> None:
    with pytest.raises(PhaseFileError, match=r"app\.orders has no entry in batches"):
        planned(app, tmp_path, batches={})
    with pytest.raises(PhaseFileError, match=r"no UPDATE or DELETE after COMMIT in migrate\.sql is about it"):
        planned(app, tmp_path, batches={**DEFINITION["batches"], "app.other": {"by": "id", "rows": 1}})
    with pytest.raises(PhaseFileError, match=r"a table with batches"):
        planned(app, tmp_path, row_counts=["app.orders"])


@pytest.mark.parametrize("part", ["change", "select", "key"])
def test_a_forged_plan_runs_no_other_batches(app: Client, cluster: Cluster, tmp_path: Path, part: str) -> None:
    run = planned(app, tmp_path)
    batch = run.plan["ddl"]["statements"][3]["batch"]
    batch[part] = batch[part].replace("id", "price").replace("cents IS NULL", "true")
    outcome = run.prepare().migrate()
    assert "The plan does not describe the batches of statement 4" in outcome.message
    assert run.events("transaction") == []


# --- running ---------------------------------------------------------------------------------------------------


def test_a_backfill_runs_in_batches_after_commit(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path).prepare()
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    assert done(cluster, app) == str(ROWS)
    batches = batches_of(run.artefacts.journal.entries(), "C-07", 4)
    assert [(one.number, one.low, one.high, one.rows, one.done) for one in batches[:2]] == [
        (1, None, "300", 100, 0),
        (2, "300", "600", 100, 100),
    ]
    assert [one.rows for one in batches] == [100] * 10
    assert len({one.xid for one in batches}) == 10
    (ended,) = run.events("statement done")
    assert (ended["n"], ended["rows"]) == (4, ROWS)
    assert outcome.data["transaction"]["statements"][-1]["rows"] == ROWS
    assert statements_left(run.plan["ddl"]["statements"], run.artefacts.journal.entries(), "C-07") == []


@pytest.mark.fault("killed-between-batches")
def test_killed_ten_times_each_row_is_written_once(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(SLOW, app.database)
    batches = {"app.orders": {"by": "id", "rows": 20, "data": {"app.writes": {"INSERT": ROWS}}}}
    run = planned(app, tmp_path, batches=batches).prepare()
    for kill in range(10):
        kill_after(run, 3, finish=kill > 0)
    outcome = run.finish()
    assert outcome.message == ""
    assert done(cluster, app) == str(ROWS)
    assert once(cluster, app) == f"{ROWS} 0"
    (ended,) = run.events("statement done")
    assert ended["rows"] == ROWS
    assert len(run.events("batch resolved")) == 10


@pytest.mark.parametrize("declared", [ROWS - 1, {"max": ROWS - 50}, {"min": ROWS + 1}])
def test_the_sum_of_all_batches_is_judged(app: Client, cluster: Cluster, tmp_path: Path, declared: Any) -> None:
    expect = {**DEFINITION["expect"], "rows": {"UPDATE": [declared]}}
    run = planned(app, tmp_path, expect=expect).prepare()
    outcome = run.migrate()
    assert outcome.data["outcome"] == "COMMITTED"
    if "min" in str(declared):
        assert f"UPDATE: at least {ROWS + 1} rows" in outcome.message
        assert "all of them are COMMITTED" in outcome.message
    else:
        # the batch that would exceed it does not commit
        assert f"{ROWS} rows with this one" in outcome.message
        assert done(cluster, app) == str(ROWS - 100)
    assert run.events("statement done") == []


def test_what_a_trigger_changes_is_declared_or_does_not_commit(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(SLOW, app.database)
    outcome = planned(app, tmp_path).prepare().migrate()
    assert "C-07: batch 1 of statement 4 (UPDATE, line 5) changes other data than declared" in outcome.message
    assert "INSERT in app.writes: 100 rows" in outcome.message
    assert done(cluster, app) == "0"


def test_rows_that_still_match_are_no_end(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path, DDL.replace("= price * 100", "= nullif(price, 150)")).prepare()
    outcome = run.migrate()
    assert "batch 2 of statement 4 (UPDATE, line 5): rows that it has changed still match its WHERE" in outcome.message
    assert "found: 1 rows" in outcome.message
    assert cluster.psql("SELECT count(cents) FROM app.orders", app.database) == "100"


def test_each_row_is_changed_once_where_the_where_does_not_tell(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path, DDL.replace("cents = price * 100 WHERE cents IS NULL", "price = price + 1 WHERE true"))
    for kill in range(2):
        kill_after(run.prepare() if not kill else run, 2, finish=kill > 0)
    assert run.finish().message == ""
    assert cluster.psql("SELECT count(*) FROM app.orders WHERE price = id / 3 + 1", app.database) == str(ROWS)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("DROP CONSTRAINT orders_pkey", "it has no unique index of its own"),
        ("DROP CONSTRAINT orders_pkey, ALTER id DROP NOT NULL", "it may be NULL; it has no unique index of its own"),
        ("ALTER id TYPE real", "its type is real"),
    ],
)
def test_a_key_that_does_not_find_each_row_once_is_refused(
    app: Client, cluster: Cluster, tmp_path: Path, key: str, found: str
) -> None:
    cluster.psql(f"ALTER TABLE app.orders {key}", app.database)
    outcome = planned(app, tmp_path).prepare().migrate()
    assert "C-07: app.orders cannot be changed in batches by id" in outcome.message
    assert f"found: {found}\n" in outcome.message
    assert done(cluster, app) == "0"


def test_a_batch_that_fails_is_named_and_the_next_run_goes_on(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql("ALTER TABLE app.orders ADD CHECK (note IS NULL OR price < 250)", app.database)
    ddl = DDL.replace("cents = price * 100 WHERE cents IS NULL", "cents = price * 100, note = 'x' WHERE cents IS NULL")
    run = planned(app, tmp_path, ddl).prepare()
    stopped = run.migrate()
    assert "C-07: batch 3 of statement 4 (UPDATE, line 5) failed and was rolled back" in stopped.message
    assert "23514" in stopped.message
    assert done(cluster, app) == "200"
    cluster.psql("ALTER TABLE app.orders DROP CONSTRAINT orders_check", app.database)
    assert run.finish().message == ""
    assert done(cluster, app) == str(ROWS)
    # the transaction ran once, and no batch twice
    assert [one["number"] for one in run.events("batch")] == list(range(1, 11))
