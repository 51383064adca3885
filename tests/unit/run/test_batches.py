# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches after COMMIT against a real server: each row once, whatever interrupts them, and nothing left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import batches_of, statements_left
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_file
from ansible_collections.incomex.phasegate.tests.support.batches import (
    DDL,
    DEFINITION,
    ROWS,
    SLOW,
    TABLE,
    done,
    planned,
)
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.runs import InBackground, Run, client_of, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a table of many rows whose keys have gaps."""
    cluster.psql(TABLE, empty_database)
    return client_of(cluster, empty_database)


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
            "UPDATE app.orders SET cents = 1 WHERE (cents IS NULL\n) AND orders.id OPERATOR(pg_catalog.>) $1 AND orders.id OPERATOR(pg_catalog.<=) $2",
            True,
        ),
        (
            '/* all */ UPDATE ONLY app.orders AS "O" SET price = price + 1 WHERE true OR false -- every one\n; -- the end',
            'UPDATE ONLY app.orders AS "O" SET price = price + 1 WHERE (true OR false -- every one\n)'
            ' AND "O".id OPERATOR(pg_catalog.>) $1 AND "O".id OPERATOR(pg_catalog.<=) $2',
            False,
        ),
        (
            "DELETE FROM app.orders o WHERE o.note = 'WHERE é' AND (o.price > 1 AND o.id IN (SELECT 1 WHERE true))",
            "DELETE FROM app.orders o WHERE (o.note = 'WHERE é' AND (o.price > 1 AND o.id IN (SELECT 1 WHERE true))\n)"
            " AND o.id OPERATOR(pg_catalog.>) $1 AND o.id OPERATOR(pg_catalog.<=) $2",
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
    with pytest.raises(PhaseFileError, match=r"a total of statements some of which run in batches"):
        planned(app, tmp_path, expect={**DEFINITION["expect"], "rows": {"UPDATE": {"total": 10}}})


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


# From PostgreSQL 18 on NOT NULL is a constraint: a child cannot drop it, and it can be for new rows only.
NULL_IN_A_CHILD = (
    "ADD note2 text; CREATE TABLE app.child () INHERITS (app.orders); ALTER TABLE app.child ALTER id DROP NOT NULL",
    "it may be NULL",
)
NOT_NULL_FOR_NEW_ROWS = (
    "DROP CONSTRAINT orders_pkey, ALTER id DROP NOT NULL, ADD UNIQUE (id); INSERT INTO app.orders VALUES (NULL, 1);"
    " ALTER TABLE app.orders ADD NOT NULL id NOT VALID",
    "it may be NULL",
)


@pytest.mark.fault("batch-leaves-rows-out")
@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("DROP CONSTRAINT orders_pkey", "it has no unique index of its own"),
        ("DROP CONSTRAINT orders_pkey, ALTER id DROP NOT NULL", "it may be NULL; it has no unique index of its own"),
        ("ALTER id TYPE real", "its type is real"),
        NULL_IN_A_CHILD if MAJOR < 18 else NOT_NULL_FOR_NEW_ROWS,
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


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("uuid", "pg_catalog.gen_random_uuid()"),
        ('text COLLATE "C"', "chr(33 + n % 90) || chr(39) || n || '$1\\ü'"),
        ("varchar(60)", "'No. ' || n || CASE WHEN n % 2 = 0 THEN 'é''x' ELSE 'E' END"),
        ("timestamptz", "timestamptz '1970-01-01' + n * interval '0.000001 s'"),
        ("numeric", "n * 1e20 + 0.000000001"),
    ],
)
def test_keys_of_other_types(app: Client, cluster: Cluster, tmp_path: Path, kind: str, value: str) -> None:
    cluster.psql(
        f"CREATE TABLE app.other (key {kind} PRIMARY KEY, price int);"
        f" INSERT INTO app.other SELECT {value}, n FROM generate_series(1, 1000) n",
        app.database,
    )
    expect = {"tags": {"BEGIN": 1, "ALTER TABLE": 1, "COMMIT": 1, "UPDATE": 1}, "rows": {"UPDATE": [1000]}}
    run = planned(
        app,
        tmp_path,
        DDL.replace("cents = price * 100 WHERE cents IS NULL", "price = price + 1 WHERE true").replace(
            "app.orders SET", "app.other SET"
        ),
        batches={"app.other": {"by": "key", "rows": 70}},
        expect=expect,
    ).prepare()
    assert run.migrate().message == ""
    assert cluster.psql("SELECT count(*), sum(price) FROM app.other", app.database) == f"1000|{500 * 1001 + 1000}"
    assert [one["rows"] for one in run.events("batch")] == [70] * 14 + [20]


@pytest.mark.fault("batch-leaves-rows-out")
def test_an_operator_that_fits_the_key_better_leaves_no_row_out(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(
        f"CREATE TABLE app.other (id varchar PRIMARY KEY, cents bigint, done int);"
        f" INSERT INTO app.other (id) SELECT lpad(n::text, 6, '0') FROM generate_series(1, {ROWS}) n;"
        " CREATE FUNCTION app.lies(varchar, varchar) RETURNS bool LANGUAGE sql AS"
        " $$ SELECT $1::text > $2::text AND $1::text NOT LIKE '%7' $$;"
        " CREATE OPERATOR app.> (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.lies)",
        app.database,
    )
    run = planned(
        app,
        tmp_path,
        DDL.replace("cents = price * 100 WHERE cents IS NULL", "done = 1 WHERE true").replace(
            "UPDATE app.orders", "UPDATE app.other"
        ),
        batches={"app.other": {"by": "id", "rows": 100}},
        expect={**DEFINITION["expect"], "rows": {"UPDATE": [{"min": 0}]}},
        settings={"search_path": ["app"]},
    ).prepare()
    assert run.migrate().message == ""
    assert cluster.psql("SELECT count(*) FROM app.other WHERE done IS NULL", app.database) == "0"


@pytest.mark.fault("late-operator")
def test_an_operator_that_came_after_commit_is_not_called(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(
        "ALTER TABLE app.orders ALTER note TYPE varchar; ALTER TABLE app.orders ADD CHECK (note IS NULL OR price < 250)",
        app.database,
    )
    ddl = DDL.replace("WHERE cents IS NULL", "WHERE note <> 'x' OR cents IS NULL").replace("* 100", "* 100, note = 'x'")
    run = planned(app, tmp_path, ddl, settings={"search_path": ["app"]}).prepare()
    assert "batch 3 of statement 4" in run.migrate().message
    cluster.psql(
        "ALTER TABLE app.orders DROP CONSTRAINT orders_check; CREATE TABLE app.seen (id int);"
        " CREATE FUNCTION app.differs(varchar, varchar) RETURNS bool LANGUAGE plpgsql AS $$BEGIN"
        " IF current_setting('transaction_read_only') = 'off' THEN ALTER TABLE app.seen ADD COLUMN IF NOT EXISTS called int; END IF;"
        " RETURN $1::text OPERATOR(pg_catalog.<>) $2::text; END$$;"
        " CREATE OPERATOR app.<> (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.differs)",
        app.database,
    )
    stopped = run.finish()
    assert "statement 4 (UPDATE, line 5) may call a function that came after the first statement" in stopped.message
    assert "found: app.<> (line 5)" in stopped.message
    assert done(cluster, app) == "200"
    assert cluster.psql("SELECT count(*) FROM pg_attribute WHERE attname = 'called'", app.database) == "0"
    cluster.psql("DROP OPERATOR app.<> (varchar, varchar)", app.database)
    assert run.finish().message == ""
    assert done(cluster, app) == str(ROWS)


@pytest.mark.fault("late-operator")
def test_nor_by_an_index_that_is_built_after_it(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(
        "ALTER TABLE app.orders ALTER note TYPE varchar; INSERT INTO app.orders VALUES (3001, 1)", app.database
    )
    ddl = "BEGIN;\nALTER TABLE app.orders ADD COLUMN cents int;\nCOMMIT;\nCREATE UNIQUE INDEX CONCURRENTLY by_note ON app.orders (price, (note = 'x'));\n"
    run = planned(
        app,
        tmp_path,
        ddl,
        scope={"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN", "CREATE INDEX CONCURRENTLY"]},
        expect={"tags": {"BEGIN": 1, "ALTER TABLE": 1, "COMMIT": 1, "CREATE INDEX": 1}},
        settings={"search_path": ["app"]},
        batches=None,
    ).prepare()
    cluster.psql("UPDATE app.orders SET note = 'y' WHERE price = 1", app.database)
    assert "did not complete" in run.migrate().message
    cluster.psql(
        "DROP INDEX app.by_note; DELETE FROM app.orders WHERE id = 3001;"
        " CREATE FUNCTION app.same(varchar, varchar) RETURNS bool LANGUAGE sql IMMUTABLE RETURN true;"
        " CREATE OPERATOR app.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = app.same)",
        app.database,
    )
    assert "(CREATE INDEX CONCURRENTLY, line 4) may call a function" in run.finish().message
    assert cluster.psql("SELECT to_regclass('app.by_note') IS NULL", app.database) == "t"


def test_rows_are_deleted_in_batches(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(
        "CREATE TABLE app.lines (order_id bigint REFERENCES app.orders ON DELETE CASCADE);"
        " INSERT INTO app.lines SELECT id FROM app.orders; CREATE INDEX ON app.lines (order_id)",
        app.database,
    )
    ddl = "DELETE FROM app.orders o WHERE o.price % 3 = 0"
    expect = {"tags": {"DELETE": 1}, "rows": {"DELETE": [333]}}
    data = {"app.lines": {"DELETE": 333}}
    batches = {"app.orders": {"by": "id", "rows": 50, "data": data}}
    verify = [{"id": "VA-1", "title": "one", "sql": "SELECT 1", "expect": 1}]
    run = planned(app, tmp_path, ddl, expect=expect, batches=batches, verify=verify).prepare()
    assert run.migrate().message == ""
    assert [one["rows"] for one in run.events("batch")] == [50] * 6 + [33]
    assert cluster.psql("SELECT count(*), min(price % 3) FROM app.orders", app.database) == "667|1"


def test_what_follows_in_the_file_runs_after_the_last_batch(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    ddl = (
        DDL
        + "CREATE UNIQUE INDEX CONCURRENTLY by_cents ON app.orders (cents);\nDELETE FROM app.orders WHERE cents > 99000;\n"
    )
    scope = {**DEFINITION["scope"], "statements": [*DEFINITION["scope"]["statements"], "CREATE INDEX CONCURRENTLY"]}
    expect = {
        "tags": {**DEFINITION["expect"]["tags"], "CREATE INDEX": 1, "DELETE": 1},
        "rows": {"UPDATE": [ROWS], "DELETE": [10]},
    }
    run = planned(app, tmp_path, ddl, scope=scope, expect=expect, diff={"allow": [{"class": "narrowing"}]}).prepare()
    assert run.migrate().message == ""
    assert [(one["n"], one["rows"]) for one in run.events("statement done")] == [(4, ROWS), (5, 0), (6, 10)]


FILLED = """BEGIN;
ALTER TABLE app.orders ADD COLUMN cents bigint;
ALTER TABLE app.orders ADD CONSTRAINT filled CHECK (cents IS NOT NULL) NOT VALID;
COMMIT;
UPDATE app.orders SET cents = price * 100 WHERE cents IS NULL;
ALTER TABLE app.orders VALIDATE CONSTRAINT filled;
ALTER TABLE app.orders ALTER COLUMN cents SET NOT NULL;
REINDEX INDEX CONCURRENTLY app.orders_pkey;
"""
KINDS = [
    "ALTER TABLE ADD COLUMN",
    "ALTER TABLE ADD CONSTRAINT",
    "ALTER TABLE VALIDATE CONSTRAINT",
    "ALTER TABLE SET NOT NULL",
]


def filled(client: Client, tmp_path: Path, ddl: str) -> Run:
    """Return a run of a phase whose column is NOT NULL at its end."""
    tags = {"BEGIN": 1, "COMMIT": 1, "UPDATE": 1, "ALTER TABLE": ddl.count("ALTER TABLE"), "REINDEX": 1}
    scope = {"schemas": ["app"], "statements": [*KINDS, "UPDATE", "REINDEX CONCURRENTLY"]}
    expect = {"tags": tags, "rows": DEFINITION["expect"]["rows"]}
    return planned(client, tmp_path, ddl, scope=scope, expect=expect, diff={"allow": [{"class": "*"}]}).prepare()


def test_a_column_is_filled_and_then_not_null(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = filled(app, tmp_path, FILLED)
    assert [one["after_commit"] for one in run.plan["ddl"]["statements"][4:]] == [
        "app.orders",
        "app.orders.filled",
        "app.orders.cents",
        "app.orders_pkey",
    ]
    assert run.migrate().message == ""
    assert [one["n"] for one in run.events("statement done")] == [5, 6, 7, 8]
    found = "SELECT attnotnull, convalidated FROM pg_attribute, pg_constraint WHERE attname = 'cents' AND conname = 'filled'"
    assert cluster.psql(found, app.database) == "t|t"


def test_not_null_after_commit_needs_its_proof(app: Client, tmp_path: Path) -> None:
    run = filled(app, tmp_path, FILLED.replace("ALTER TABLE app.orders VALIDATE CONSTRAINT filled;\n", ""))
    stopped = run.migrate()
    assert "statement 6 (ALTER TABLE SET NOT NULL, line 6) would read the whole table under a lock" in stopped.message
    assert "a validated CHECK (… IS NOT NULL) of app.orders.cents" in stopped.message


@pytest.mark.parametrize("more", [", DROP COLUMN note", "; DROP TABLE app.orders"])
def test_a_forged_plan_validates_and_does_nothing_else(
    app: Client, cluster: Cluster, tmp_path: Path, more: str
) -> None:
    run = planned(app, tmp_path).force("SELECT 1;", f"ALTER TABLE app.orders VALIDATE CONSTRAINT filled{more}")
    run.plan["ddl"]["statements"][1].update(after_commit="app.orders.filled", kinds=["ALTER TABLE VALIDATE CONSTRAINT"])
    assert (
        "VALIDATE CONSTRAINT, SET NOT NULL or ATTACH PARTITION of an index alone after COMMIT"
        in run.prepare().migrate().message
    )


@pytest.mark.fault("rows-behind-the-last-batch")
def test_rows_written_behind_the_last_key_are_found(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(SLOW, app.database)
    batches = {"app.orders": {"by": "id", "rows": 100, "data": {"app.writes": {"INSERT": ROWS + 2}}}}
    expect = {**DEFINITION["expect"], "rows": {"UPDATE": [ROWS + 2]}}
    run = planned(app, tmp_path, expect=expect, batches=batches).prepare()
    migration = InBackground(run)
    wait_for("two batches", lambda: len(run.events("batch")) >= 2)
    cluster.psql("INSERT INTO app.orders VALUES (1, 7), (4, 8)", app.database)
    assert migration.join().message == ""
    assert done(cluster, app) == str(ROWS + 2)
    assert [(one["turn"], one["rows"]) for one in run.events("batch")] == [(1, 100)] * 10 + [(2, 2)]


@pytest.mark.fault("rows-behind-the-last-batch")
def test_rows_that_a_trigger_keeps_are_no_success(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(
        "CREATE FUNCTION app.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        " CREATE TRIGGER keep BEFORE UPDATE ON app.orders FOR EACH ROW WHEN (OLD.id = 30) EXECUTE FUNCTION app.keep()",
        app.database,
    )
    expect = {**DEFINITION["expect"], "rows": {"UPDATE": [{"min": 0}]}}
    run = planned(app, tmp_path, expect=expect).prepare()
    stopped = run.migrate()
    assert "rows are left after 2 passes over app.orders; the batches are COMMITTED" in stopped.message
    assert "found: 1 rows" in stopped.message
    assert run.events("statement done") == []
