# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches that are killed, wait for locks and for replicas, and whose COMMIT is lost: each row once, and nothing waits for long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import unfinished
from ansible_collections.incomex.phasegate.tests.support.batches import (
    DDL,
    NOTED,
    ROWS,
    SLOW,
    TABLE,
    done,
    in_process,
    kill_after,
    once,
    planned,
)
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.runs import InBackground, Run, client_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a table of many rows whose keys have gaps."""
    cluster.psql(TABLE, empty_database)
    return client_of(cluster, empty_database)


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


def test_each_row_is_changed_once_where_the_where_does_not_tell(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path, DDL.replace("cents = price * 100 WHERE cents IS NULL", "price = price + 1 WHERE true"))
    for kill in range(2):
        kill_after(run.prepare() if not kill else run, 2, finish=kill > 0)
    assert run.finish().message == ""
    assert cluster.psql("SELECT count(*) FROM app.orders WHERE price = id / 3 + 1", app.database) == str(ROWS)


def alone(client: Client, cluster: Cluster, tmp_path: Path, settings: dict[str, str]) -> Run:
    """Return a run of a phase that has nothing but the batches."""
    cluster.psql("ALTER TABLE app.orders ADD COLUMN cents bigint", client.database)
    expect = {"tags": {"UPDATE": 1}, "rows": {"UPDATE": [ROWS]}}
    return planned(client, tmp_path, DDL.partition("-- the backfill\n")[2], settings=settings, expect=expect).prepare()


@pytest.mark.fault("batch-waits-for-a-lock")
def test_a_batch_that_gets_no_lock_is_tried_again_and_holds_nobody_up(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = alone(app, cluster, tmp_path, {"lock_timeout": "300ms"})
    with app.session("reporting") as other:
        # a row of the third batch
        other.execute("BEGIN")
        other.execute("UPDATE app.orders SET note = 'mine' WHERE id = 750")
        migration = InBackground(run)
        wait_for("two attempts", lambda: len(run.events("lock timeout")) >= 2)
        assert done(cluster, app) == "200"
        # meanwhile nobody waits for it for longer than the lock timeout
        started = time.monotonic()
        cluster.psql("UPDATE app.orders SET note = 'other' WHERE id = 690", app.database)
        assert time.monotonic() - started < 2
        other.execute("COMMIT")
        outcome = migration.join()
    assert outcome.message == ""
    assert "application reporting" in run.events("lock timeout")[0]["found"]
    assert done(cluster, app) == str(ROWS)
    assert cluster.psql("SELECT count(note) FROM app.orders", app.database) == "2"


@pytest.mark.fault("batch-waits-for-a-lock")
def test_a_lock_that_never_comes_ends_the_run_after_its_timeout(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = alone(app, cluster, tmp_path, {"lock_timeout": "100ms", "after_commit_timeout": "1s"})
    with app.session("reporting") as other:
        other.execute("BEGIN")
        other.execute("UPDATE app.orders SET note = 'mine' WHERE id = 750")
        outcome = run.migrate()
    assert (
        "batch 3 of statement 1 (UPDATE, line 1) failed and was rolled back; the batches before it are COMMITTED"
        in outcome.message
    )
    assert "55P03" in outcome.message
    assert run.finish().message == ""
    assert done(cluster, app) == str(ROWS)


@pytest.mark.fault("batch-waits-for-replicas")
def test_batches_wait_for_a_replica_that_lags(tmp_path: Path) -> None:
    with running_cluster() as server:
        server.psql(TABLE)
        client = client_of(server, "postgres")
        run = planned(client, tmp_path).prepare()
        run.artefacts.journal.append(
            "run", "conditions", {"conditions": [], "limits": {"replica_lag_bytes": 20000, "replica_lag_s": 60}}
        )
        with running_cluster({"cluster_name": "second"}, primary=server) as standby:
            wait_for("the replica", lambda: server.psql("SELECT state FROM pg_stat_replication") == "streaming")
            standby.psql("SELECT pg_wal_replay_pause()")
            wait_for("the pause", lambda: standby.psql("SELECT pg_get_wal_replay_pause_state()") == "paused")
            migration = InBackground(run)
            wait_for("it waits", lambda: run.events("paused"))
            time.sleep(1)
            committed = len(run.events("batch"))
            assert committed < 10
            assert run.events("paused")[0]["found"].startswith("second: streaming, ")
            standby.psql("SELECT pg_wal_replay_resume()")
            assert migration.join().message == ""
        assert done(server, client) == str(ROWS)


@pytest.mark.fault("batch-commit-lost")
def test_a_run_is_killed_while_the_commit_of_a_batch_waits(tmp_path: Path) -> None:
    """The batch is committed although nobody was told: the next run asks the server, and changes no row again."""
    with running_cluster({"synchronous_commit": "local"}) as server:
        server.psql(TABLE + SLOW + "ALTER DATABASE postgres SET synchronous_commit = on; CREATE DATABASE other")
        client = client_of(server, "postgres")
        run = planned(client, tmp_path, batches=NOTED).prepare()
        process = in_process(run, finish=False)
        wait_for("two batches", lambda: len(run.events("batch")) >= 2)
        server.psql("ALTER SYSTEM SET synchronous_standby_names = 'ghost'", "other")
        server.psql("SELECT pg_reload_conf()", "other")
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_for("COMMIT waits", lambda: server.psql(waiting, "other") == "1")
        process.kill()
        process.join()
        journaled = len(run.events("batch"))
        server.psql("ALTER SYSTEM RESET synchronous_standby_names", "other")
        server.psql("SELECT pg_reload_conf()", "other")
        assert run.finish().message == ""
        assert [one["outcome"] for one in run.events("batch resolved")] == ["COMMITTED"]
        assert run.events("batch")[journaled]["number"] == journaled + 1
        assert (done(server, client), once(server, client)) == (str(ROWS), f"{ROWS} 0")


@pytest.mark.fault("batch-commit-lost")
def test_a_batch_whose_commit_was_never_sent_runs_again(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(SLOW, app.database)
    run = planned(app, tmp_path, batches=NOTED).prepare()
    kill_after(run, 2, finish=False)
    # what a process leaves that is killed right before it sends COMMIT; the one that was killed may have left the same
    with app.session() as session:

        def committed(batch: Mapping[str, Any]) -> bool:
            status = f"SELECT pg_xact_status('{batch['xid']}')"
            wait_for("the end of the batch", lambda: session.value(status) != "in progress")
            return session.value(status) == "committed"

        *_earlier, last = (one for one in run.events("batch") if committed(one))
        session.execute("BEGIN")
        xid = session.value("SELECT pg_current_xact_id()::text")
        session.execute("ROLLBACK")
    lost = {
        **last,
        "number": last["number"] + 1,
        "xid": xid,
        "low": last["high"],
        "high": "2900",
        "done": last["done"] + 100,
    }
    run.artefacts.journal.append("C-07", "batch", lost)
    assert run.finish().message == ""
    assert [one["outcome"] for one in run.events("batch resolved")] == ["ROLLED_BACK"]
    assert (done(cluster, app), once(cluster, app)) == (str(ROWS), f"{ROWS} 0")


@pytest.mark.fault("batch-commit-lost")
def test_the_server_crashes_between_batches(tmp_path: Path) -> None:
    with running_cluster() as server:
        server.psql(TABLE + SLOW)
        client = client_of(server, "postgres")
        run = planned(client, tmp_path, batches=NOTED).prepare()
        migration = InBackground(run)
        wait_for("three batches", lambda: len(run.events("batch")) >= 3)
        server.crash()
        server.start()
        stopped = migration.join()
        assert stopped.data["outcome"] == "COMMITTED"
        # the lock of the run went with the server
        lock = run.take_lock()
        run.artefacts.journal.append("run", "lock", {"lock": lock.as_dict()})
        assert run.finish().message == ""
        assert (done(server, client), once(server, client)) == (str(ROWS), f"{ROWS} 0")


@pytest.mark.fault("batch-without-a-record")
@pytest.mark.parametrize("each", [True, False], ids=["the WHERE tells", "nothing tells"])
def test_a_batch_of_which_the_server_has_no_record(app: Client, cluster: Cluster, tmp_path: Path, each: bool) -> None:
    # as after a failover to a standby that lacks the last transactions: no transaction has this id yet
    cluster.psql("ALTER TABLE app.orders ADD CHECK (note IS NULL OR price < 250)", app.database)
    ddl = DDL.replace("cents = price * 100", "cents = price * 100, note = 'x'")
    run = planned(app, tmp_path, ddl if each else ddl.replace("WHERE cents IS NULL", "WHERE true")).prepare()
    assert "batch 3 of statement 4" in run.migrate().message
    cluster.psql("ALTER TABLE app.orders DROP CONSTRAINT orders_check", app.database)
    last = run.events("batch")[-1]
    lost = {**last, "number": 3, "xid": str(1 << 60), "low": last["high"], "high": "900", "done": 200}
    run.artefacts.journal.append("C-07", "batch", lost)
    message = run.finish().message
    if each:
        assert message == ""
        assert done(cluster, app) == str(ROWS)
        return
    assert "a batch of statement 4 has an unknown outcome (T-1)" in message
    assert "do the rest by hand, or roll the phase back" in message
    # it can be sealed, and so rolled back
    assert unfinished(run.artefacts) is None
