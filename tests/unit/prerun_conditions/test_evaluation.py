# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds a phase: read from a real server with real sessions, standbys and file systems, and judged."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import ConditionStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.evaluation import (
    Condition,
    ConditionRules,
    evaluate_conditions,
    stop_at_conditions,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.facts import (
    _DF,
    ConditionFacts,
    FreeSpace,
    PlanNeeds,
    Surroundings,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction_ends import lock_holders
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.runs import client_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

#: Of a plan that names one table, and of a rehearsal that measured little.
NEED = PlanNeeds(names=["app.t"], search_path=[], locks=3, measured=True, wal_bytes=1000, rewrites=["app.t"])
PREPARING = {"max_prepared_transactions": "4"}


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server that prepares transactions, with a table in the phase's way and one beside it."""
    with running_cluster(PREPARING) as cluster:
        cluster.psql("CREATE SCHEMA app; CREATE TABLE app.t (id int); CREATE TABLE app.other (id int)")
        cluster.psql("CREATE ROLE weak LOGIN; GRANT USAGE ON SCHEMA app TO weak")
        yield cluster


def look(client: Client, root: Path, *, need: PlanNeeds = NEED, method: str = "custom") -> ConditionFacts:
    """Read what surrounds a phase."""
    with client.session("phasegate:open") as session:
        identity = read_identity(session, client)
        return Surroundings(session, client, need, str(root), method, identity).facts()


def judged(facts: ConditionFacts, name: str, action: str = "", need: PlanNeeds = NEED, **limits: int) -> Condition:
    """Return one judged condition."""
    found = evaluate_conditions(facts, need, ConditionRules.of({name: action} if action else {}, limits))
    assert len(found) == len({one.id for one in found}) == 12
    return next(one for one in found if one.id == name)


def status(facts: ConditionFacts, name: str, action: str = "", need: PlanNeeds = NEED, **limits: int) -> str:
    return judged(facts, name, action, need, **limits).status


def connect(server: Cluster, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(server.dsn(), **options)


# --- sessions ----------------------------------------------------------------------------------------------------


def test_a_quiet_server_has_nothing_in_the_way(server: Cluster, tmp_path: Path) -> None:
    facts = look(client_of(server, "postgres"), tmp_path)
    found = {one.id: one for one in evaluate_conditions(facts, NEED, ConditionRules.of({}, {}))}
    quiet = {one.id for one in found.values() if one.status == ConditionStatus.OK}
    assert set(found) - quiet <= {"minor_version"}
    assert found["server_space"].found.count("MiB free at ") == 2
    assert all(one.expected and one.found for one in found.values())


@pytest.mark.parametrize(
    ("table", "default", "strict"),
    [("app.t", ConditionStatus.WARN, ConditionStatus.STOP), ("app.other", ConditionStatus.WARN, ConditionStatus.WARN)],
    ids=["in the way", "beside it"],
)
def test_a_session_that_idles_in_its_transaction(
    server: Cluster, tmp_path: Path, table: str, default: str, strict: str
) -> None:
    with connect(server, application_name="web") as idle:
        idle.execute(f"SELECT FROM {table}".encode())
        facts = look(client_of(server, "postgres"), tmp_path)
        assert status(facts, "long_transactions") == ConditionStatus.OK  # it is seconds old
        found = judged(facts, "long_transactions", transaction_age_s=0)
        assert found.status == default
        assert f"pid {idle.info.backend_pid}, user workflow_admin, application web, idle in transaction" in found.found
        assert ("holds a lock on app.t (in the way)" in found.found) == (table == "app.t")
        assert status(facts, "long_transactions", "stop", transaction_age_s=0) == strict
        ignored = judged(facts, "long_transactions", "ignore", transaction_age_s=0)
        assert (ignored.status, ignored.found) == (ConditionStatus.IGNORED, found.found)


@pytest.mark.parametrize("restart", [False, True], ids=["live", "after a restart"])
def test_a_prepared_transaction(server: Cluster, tmp_path: Path, restart: bool) -> None:
    server.psql("BEGIN; LOCK TABLE app.t IN ACCESS SHARE MODE; PREPARE TRANSACTION 'it''s mine'")
    try:
        if restart:
            # its locks are another virtual transaction's then
            server.stop()
            server.start()
        facts = look(client_of(server, "postgres"), tmp_path)
        found = judged(facts, "prepared_transactions")
        assert found.status == ConditionStatus.STOP
        assert '"it\'s mine", owner workflow_admin, prepared ' in found.found
        assert "holds a lock on app.t (in the way)" in found.found
        assert "ROLLBACK PREPARED" in found.next_step
        with client_of(server, "postgres").session() as session:
            (blocker,) = lock_holders(session, ["app.t", "app.other"])
        assert blocker.startswith("prepared transaction 'it''s mine', owner workflow_admin, prepared ")
        beside = look(client_of(server, "postgres"), tmp_path, need=replace(NEED, names=["app.other"]))
        assert status(beside, "prepared_transactions") == ConditionStatus.WARN
        # another database's is nobody's business here
        assert status(look(client_of(server, "template1"), tmp_path), "prepared_transactions") == ConditionStatus.OK
    finally:
        server.psql("ROLLBACK PREPARED 'it''s mine'")


def test_a_pg_dump_at_work(server: Cluster, tmp_path: Path) -> None:
    argv = [str(bin_directory() / "pg_dump"), "--dbname", server.dsn(), "--file", str(tmp_path / "dump")]
    with connect(server) as holder:
        holder.execute("LOCK TABLE app.other")
        # it takes its locks table by table, and waits for the second
        with subprocess.Popen(argv) as dump:
            waiting = (
                "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE application_name = 'pg_dump'"
                " AND relation = 'app.t'::regclass AND granted AND wait_event_type = 'Lock'"
            )
            wait_for("pg_dump waits", lambda: server.psql(waiting) == "1")
            facts = look(client_of(server, "postgres"), tmp_path)
            holder.rollback()
        assert dump.returncode == 0
    assert status(facts, "pg_dump") == ConditionStatus.WARN
    found = judged(facts, "pg_dump", "stop")
    assert found.status == ConditionStatus.STOP
    assert "application pg_dump" in found.found
    assert "holds a lock on app.t (in the way)" in found.found
    assert "pg_dump" not in judged(facts, "long_transactions", transaction_age_s=0).found


def test_a_vacuum_that_prevents_wraparound(tmp_path: Path) -> None:
    settings = {
        "autovacuum_freeze_max_age": "100000",
        "autovacuum_naptime": "1s",
        "autovacuum_vacuum_cost_delay": "0",
    }
    with running_cluster(settings) as cluster:
        cluster.psql("CREATE SCHEMA app; CREATE TABLE app.t (id int)")
        # no other vacuum comes before, and this one is still there when it is looked at
        slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
        cluster.psql(f"ALTER TABLE app.t SET (autovacuum_enabled = off, {slow})")
        cluster.psql("INSERT INTO app.t SELECT generate_series(1, 200000)")
        cluster.psql("DO $$ BEGIN FOR i IN 1..100100 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
        at_work = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM%app.t (to prevent wraparound)'"
        )
        wait_for("the vacuum", lambda: cluster.psql(at_work) == "1")
        facts = look(client_of(cluster, "postgres"), tmp_path)
        found = judged(facts, "wraparound_vacuum")
        assert found.status == ConditionStatus.STOP
        assert "holds a lock on app.t (in the way)" in found.found
        assert "autovacuum" not in judged(facts, "long_transactions", transaction_age_s=0).found
        # somebody who only talks of one is none
        talking = [replace(one, kind="client backend") for one in facts.sessions]
        assert status(replace(facts, sessions=talking), "wraparound_vacuum") == ConditionStatus.OK
        cluster.psql("CREATE ROLE weak LOGIN")
        hidden = judged(look(client_of(cluster, "postgres", "weak"), tmp_path), "wraparound_vacuum")
        assert hidden.status == ConditionStatus.UNKNOWN
        assert "holds a lock on app.t (in the way)" in hidden.found


# --- replication -------------------------------------------------------------------------------------------------


def test_a_replica_that_lags(server: Cluster, tmp_path: Path) -> None:
    client = client_of(server, "postgres")
    streaming = (
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = pg_current_wal_lsn()"
    )
    server.psql("SELECT pg_create_physical_replication_slot('left_behind', true)")
    try:
        with running_cluster({"cluster_name": "second", **PREPARING}, primary=server) as standby:
            wait_for("the replica", lambda: server.psql(streaming) == "1")
            assert status(look(client, tmp_path), "replica_lag", replica_lag_bytes=0) == ConditionStatus.OK
            standby.psql("SELECT pg_wal_replay_pause()")
            wait_for("the pause", lambda: standby.psql("SELECT pg_get_wal_replay_pause_state()") == "paused")
            server.psql("INSERT INTO app.other SELECT generate_series(1, 1000)")
            behind = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) > 1000 FROM pg_stat_replication"
            # the server writes its log a moment after an asynchronous COMMIT
            wait_for("the log that the replica lacks", lambda: server.psql(behind) == "t")
            late = look(client, tmp_path)
            assert status(late, "replica_lag") == ConditionStatus.OK
            found = judged(late, "replica_lag", replica_lag_bytes=1000)
            assert found.status == ConditionStatus.STOP
            assert "second: streaming, " in found.found
            hidden = look(client_of(server, "postgres", "weak"), tmp_path)
            assert status(hidden, "replica_lag", replica_lag_bytes=0) == ConditionStatus.UNKNOWN
            assert status(replace(hidden, standby_names="*"), "synchronous_standby") == ConditionStatus.UNKNOWN

            server.psql("ALTER SYSTEM SET synchronous_standby_names = 'second'")
            server.psql("SELECT pg_reload_conf()")
            wait_for("it is synchronous", lambda: server.psql("SELECT sync_state FROM pg_stat_replication") == "sync")
            there = look(client, tmp_path)
            assert status(there, "synchronous_standby") == ConditionStatus.OK
            assert (
                status(replace(there, standby_names="FIRST 2 (second, third)"), "synchronous_standby")
                == ConditionStatus.STOP
            )
            # the slot is nobody's
            found = judged(there, "replication_slots")
            assert (found.status, "left_behind: inactive" in found.found) == (ConditionStatus.WARN, True)
        wait_for("the replica is gone", lambda: server.psql("SELECT count(*) FROM pg_stat_replication") == "0")
        gone = look(client, tmp_path)
        found = judged(gone, "synchronous_standby")
        assert found.status == ConditionStatus.STOP
        assert "synchronous_standby_names 'second': none of 1" in found.found
        # C-07 turns off into on, and waits
        assert gone.synchronous_commit == "off"
        assert status(replace(gone, synchronous_commit="local"), "synchronous_standby") == ConditionStatus.OK
        assert status(gone, "replica_lag") == ConditionStatus.OK
    finally:
        server.psql("ALTER SYSTEM RESET synchronous_standby_names")
        server.psql("SELECT pg_drop_replication_slot('left_behind'), pg_reload_conf()")


# --- what a weak role sees ---------------------------------------------------------------------------------------


def test_a_weak_role_is_told_what_it_cannot_see(server: Cluster, tmp_path: Path) -> None:
    client = client_of(server, "postgres", "weak")
    with connect(server) as idle:
        idle.execute("SELECT FROM app.t")
        found = {one.id: one for one in evaluate_conditions(look(client, tmp_path), NEED, ConditionRules.of({}, {}))}
        assert found["long_transactions"].status == ConditionStatus.UNKNOWN
        assert f"pid {idle.info.backend_pid}, user workflow_admin" in found["long_transactions"].found
        assert "holds a lock on app.t (in the way)" in found["long_transactions"].found
        assert "GRANT pg_monitor" in found["long_transactions"].next_step
    assert found["server_space"].status == ConditionStatus.UNKNOWN
    assert "GRANT pg_read_all_settings" in found["server_space"].found
    told = {"artefact_space", "locks", "pg_dump", "client_version", "prepared_transactions", "replication_slots"}
    assert {found[name].status for name in told} == {ConditionStatus.OK}


def test_a_base_backup_of_databases_that_are_closed(server: Cluster, tmp_path: Path) -> None:
    server.psql("CREATE DATABASE closed")
    server.psql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
    try:
        facts = look(client_of(server, "postgres"), tmp_path, method="basebackup")
        assert (facts.backup_bytes or 0) > int(server.psql("SELECT pg_database_size('closed')"))
        weak = look(client_of(server, "postgres", "weak"), tmp_path, method="basebackup")
        assert (weak.backup_bytes, status(weak, "artefact_space")) == (None, ConditionStatus.UNKNOWN)
    finally:
        server.drop_database("closed")


# --- capacity ----------------------------------------------------------------------------------------------------


def test_the_artefact_directory_has_no_room(server: Cluster, small_disk: Path) -> None:
    client = client_of(server, "postgres")
    root = small_disk / "runs"
    facts = look(client, root)  # the directory is made later
    found = judged(facts, "artefact_space")
    assert found.status == ConditionStatus.STOP
    assert f"free at {small_disk}" in found.found
    with client.session() as session:
        identity = read_identity(session, client)
    known = {"system_identifier": identity.system_identifier, "database": "postgres", "method": "custom"}
    for name, size in (("a_prod_20260101T000000Z", 5 << 20), ("z_prod_20250101T000000Z", 9 << 20)):
        (root / name).mkdir(parents=True)
        (root / name / "backup.json").write_text(json.dumps({**known, "size": size}))
    assert look(client, root).last_backup == 5 << 20  # the newest one
    newest = root / "b_prod_20260201T000000Z"
    newest.mkdir()
    (newest / "backup.json").write_text(json.dumps({**known, "size": 100_000}))
    facts = look(client, root)
    assert (facts.last_backup, status(facts, "artefact_space")) == (100_000, ConditionStatus.OK)
    assert look(client, root, method="directory").last_backup is None


def test_the_server_has_no_room(server: Cluster, tmp_path: Path) -> None:
    server.psql("INSERT INTO app.t SELECT generate_series(1, 10000)")
    server.psql("VACUUM app.t")
    facts = look(client_of(server, "postgres"), tmp_path)
    assert facts.rewritten_bytes == int(server.psql("SELECT pg_relation_size('app.t')"))
    assert status(facts, "server_space") == ConditionStatus.OK
    assert status(facts, "server_space", server_space_mb=10**9) == ConditionStatus.STOP
    assert status(facts, "server_space", need=replace(NEED, wal_bytes=10**15)) == ConditionStatus.STOP
    one_full = replace(facts, server=[facts.server[0], FreeSpace("/elsewhere", 1000)])
    found = judged(one_full, "server_space", server_space_mb=0)
    assert (found.status, "0.0 MiB free at /elsewhere" in found.found) == (ConditionStatus.STOP, True)
    assert status(replace(facts, server=[FreeSpace("", None, "not seen")]), "server_space") == ConditionStatus.UNKNOWN


def test_the_answer_of_df() -> None:
    said = (
        "Filesystem     1024-blocks      Used Available Capacity Mounted on\n"
        "overlay          263174212  33554432  72351744      32% /\n"
        "/dev/my disk     263174212  33554432      -100     100% /var/lib/post gres/pg_wal\n"
    )
    assert _DF.findall(said) == ["72351744", "-100"]
    assert _DF.findall("df: /var/lib/x: No such file or directory") == []


def test_locks_and_versions(server: Cluster, tmp_path: Path) -> None:
    facts = look(client_of(server, "postgres"), tmp_path)
    assert facts.lock_slots == 64 * (100 + 4)
    assert status(facts, "locks", need=replace(NEED, locks=facts.lock_slots // 2)) == ConditionStatus.OK
    assert status(facts, "locks", need=replace(NEED, locks=facts.lock_slots // 2 + 1)) == ConditionStatus.STOP
    assert judged(facts, "client_version").found.startswith(f"psql {MAJOR}.")
    assert status(replace(facts, client_version_num=10000 * MAJOR - 1), "client_version") == ConditionStatus.STOP
    assert status(replace(facts, client_version_num=10000 * MAJOR + 10001), "client_version") == ConditionStatus.OK


def test_a_minor_version_with_known_defects(server: Cluster, tmp_path: Path) -> None:
    facts = replace(look(client_of(server, "postgres"), tmp_path), now=1788000000.0)  # 2026-08-29
    at = {
        minor: replace(facts, server_version=f"16.{minor}", server_version_num=160000 + minor) for minor in (10, 13, 15)
    }
    found = judged(at[13], "minor_version")
    assert found.status == ConditionStatus.WARN
    # 16.12 fixed -2003; a few are named, and where the rest is
    named = "CVE-2026-6472, CVE-2026-6473, CVE-2026-6474 and 31 more"
    assert found.found == f"16.13, which has {named}: https://www.postgresql.org/support/security/16/"
    assert "CVE-2025-12817, CVE-2025-12818, CVE-2026-2003 and 37 more" in judged(at[10], "minor_version").found
    assert found.expected.startswith("16.15 or later")
    assert status(at[13], "minor_version", "stop") == ConditionStatus.STOP
    assert status(at[15], "minor_version") == ConditionStatus.OK
    # nobody knows what was fixed since
    late = judged(replace(at[15], now=facts.now + 100 * 86400), "minor_version")
    assert (late.status, "116 days old" in late.found) == (ConditionStatus.UNKNOWN, True)
    # nothing is said of a version without a table
    other = judged(replace(facts, server_version="17.2", server_version_num=170002), "minor_version")
    assert (other.status, "CVE-" in other.found) == (ConditionStatus.UNKNOWN, False)
    assert "https://www.postgresql.org/support/security/17/" in other.next_step


# --- the operator's choices --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "limits", "found"),
    [
        ({"replica_lagg": "warn"}, {}, "conditions: replica_lagg"),
        ({"replica_lag": "halt"}, {}, "conditions: replica_lag: halt"),
        ({"replica_lag": ["warn"]}, {}, "conditions: replica_lag: ['warn']"),
        ({}, {"transaction_age": 3}, "limits: transaction_age"),
        ({}, {"transaction_age_s": "1h"}, "limits: transaction_age_s: 1h"),
        ({}, {"transaction_age_s": True}, "limits: transaction_age_s: True"),
        ({}, {"transaction_age_s": -1}, "limits: transaction_age_s: -1"),
    ],
)
def test_a_choice_that_cannot_be_meant(conditions: dict[str, Any], limits: dict[str, Any], found: str) -> None:
    with pytest.raises(PhaseGateError) as stopped:
        ConditionRules.of(conditions, limits)
    assert stopped.value.found == found


def test_a_stop_names_every_condition_that_stops(server: Cluster, tmp_path: Path) -> None:
    facts = look(client_of(server, "postgres"), tmp_path)
    bad = replace(facts, client_version_num=10000 * MAJOR - 1, standby_names="ghost", standbys=[])
    with pytest.raises(Stopped) as stopped:
        stop_at_conditions(evaluate_conditions(bad, NEED, ConditionRules.of({}, {"transaction_age_s": "90"})))
    assert stopped.value.what == "Stopped by a pre-run condition: client_version, synchronous_standby."
    for part in (stopped.value.expected, stopped.value.found, stopped.value.next_step):
        assert "client_version: " in part
        assert "synchronous_standby: " in part
    stop_at_conditions(
        evaluate_conditions(
            bad, NEED, ConditionRules.of({"client_version": "warn", "synchronous_standby": "ignore"}, {})
        )
    )


def test_what_a_plan_needs() -> None:
    def statement(*names: str) -> dict[str, Any]:
        return {"relations": list(names)}

    plan = {
        "ddl": {"statements": [statement("app.t", "app.u"), statement("app.t")]},
        "rollback": {"statements": [statement("app.u")]},
        "phase": {"settings": {"search_path": ["app"]}},
    }
    assert PlanNeeds.of_plan(plan, rollback=False) == PlanNeeds(["app.t", "app.u"], ["app"], 2, False, 0, [])
    assert PlanNeeds.of_plan(plan, rollback=True).names == ["app.u"]
    rehearsal = {"locks": [{}, {}, {}], "wal_bytes": 5, "rewrites": ["app.t"]}
    rehearsed = PlanNeeds.of_plan({**plan, "rehearsal": rehearsal}, rollback=False)
    assert rehearsed == PlanNeeds(["app.t", "app.u"], ["app"], 3, True, 5, ["app.t"])


def test_an_unqualified_or_reserved_name_is_found(server: Cluster, tmp_path: Path) -> None:
    server.psql('CREATE TABLE app."user" (id int)')
    with connect(server) as reader, contextlib.closing(reader):
        reader.execute('SELECT FROM app."user"')
        for name, path in (("app.user", []), ("user", ["app"]), ('app."user"', [])):
            facts = look(client_of(server, "postgres"), tmp_path, need=replace(NEED, names=[name], search_path=path))
            assert [one.relations for one in facts.sessions] == [['app."user"']]
        for name, path in (("elsewhere.user", []), ("user", ["elsewhere"])):
            facts = look(client_of(server, "postgres"), tmp_path, need=replace(NEED, names=[name], search_path=path))
            assert [one.relations for one in facts.sessions] == [[]]
