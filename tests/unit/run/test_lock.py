# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run's lock, held by a real process and a real session: who gets it, how long it lasts, what ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import RunOpened, SchemaRecorded
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock import lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock_holders import (
    HOLDER,
    RUN_LOCK,
    TRANSACTION_LOCK,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import NotOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._run.opening import (
    open_or_adopt,
    stop_at_held_lock,
    warnings,
)
from ansible_collections.incomex.phasegate.plugins.modules import run_seal
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

#: Longer than what a test waits for: whatever ends the lock before, it is not this.
LONG = 90


def opened(run: RunDirectory) -> RunOpened:
    """What a run was opened with."""
    start = opening_of(run.journal.entries())
    assert start
    return start


class Controller:
    """What a controller does of a run: it opens it, and later seals it or not."""

    def __init__(self, cluster: Cluster, client: Client, directory: Path) -> None:
        (directory / "phase").mkdir()
        files = PhaseFiles(directory / "phase")
        files.write({"preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}]})
        self.cluster = cluster
        self.client = client
        self.run = Run.of(client, directory / "runs", files.path)

    def check(self) -> dict[str, Any]:
        """Do what the module does in check mode, and return its result."""
        return open_or_adopt(self.client, self.params(), check_mode=True)

    def open(self, idle: int = LONG, operator: str = "anna@ctl1", **changes: Any) -> RunDirectory:
        """Open a run as the module does."""
        params = self.params(lock_idle=idle, operator=operator, **changes)
        result = open_or_adopt(self.client, params, check_mode=False)
        self.run.artefacts = RunDirectory(result["run_directory"])
        return self.run.artefacts

    def params(self, **changes: Any) -> dict[str, Any]:
        """Return the module's options."""
        return {
            "plan": self.run.plan,
            "plan_sha256": "",
            "kind": "execute",
            "execution": None,
            "environment": "test",
            "inventory_name": "db1",
            "inventory_sources": [],
            "confirm": "",
            "operator": "anna@ctl1",
            "lock_idle": LONG,
            "conditions": {},
            "ledger": None,
            "limits": {},
            "format": "custom",
            "identity": {"database": self.client.database},
            "root": str(self.run.root),
            "files": str(self.run.files()),
            **changes,
        }

    def holders(self) -> str:
        """Return the sessions that hold the run's lock of this database, by the server."""
        return self.cluster.psql(
            "SELECT string_agg(application_name, ' ') FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND granted AND datname = current_database()"
            f" AND classid = {RUN_LOCK[0]} AND objid = {RUN_LOCK[1]}",
            self.client.database,
        )

    def spoke(self) -> str:
        """Return when the holder spoke last, by the server; '' without one."""
        return self.cluster.psql(
            f"SELECT max(query_start) FROM pg_stat_activity WHERE application_name LIKE '{HOLDER}%'"
            " AND datname = current_database()",
            self.client.database,
        )

    def process(self) -> int:
        """Return the process that keeps the session: it alone has the other end of psql's input."""
        ends = {}
        for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
            try:
                ends[descriptor] = (descriptor.readlink().name, (descriptor.parents[1] / "cmdline").read_bytes())
            except OSError:
                continue
        inputs = {
            pipe
            for descriptor, (pipe, command) in ends.items()
            if descriptor.name == "0" and self.client.connection_string("phasegate:open").encode() in command
        }
        pids = {
            int(descriptor.parts[2])
            for descriptor, (pipe, _command) in ends.items()
            if pipe in inputs and descriptor.name != "0"
        }
        (pid,) = pids - {os.getpid()}
        return pid


@pytest.fixture
def controller(cluster: Cluster, empty_database: str, tmp_path: Path) -> Controller:
    cluster.psql("CREATE SCHEMA app", empty_database)
    return Controller(cluster, client_of(cluster, empty_database), tmp_path)


def assert_gone(controller: Controller) -> None:
    wait_for("the lock ends", lambda: not controller.holders())


def judged(controller: Controller, run: RunDirectory) -> str:
    """Return what G-7 finds in C-07 of a run."""
    with controller.client.session("phasegate:run:this") as session:
        found = lock_gate(session, run.journal.entries(), str(controller.run.root)).found
    still = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'phasegate:run:this'"
    wait_for("the session ends", lambda: controller.cluster.psql(still) == "0")
    return found


def test_the_second_operator_is_told_who_has_the_database(controller: Controller) -> None:
    first = controller.open()
    assert controller.holders() == f"phasegate:hold:{name_of(first)}"
    with first.at_work(), pytest.raises(NotOpened) as stopped:
        controller.open(operator="ben@ctl2")
    assert stopped.value.what.startswith("Stopped at G-7 (")
    known = f"run {name_of(first)} of anna@ctl1, recorded in {first.path}: pid "
    assert known in stopped.value.found
    assert ", role workflow_admin, since 2" in stopped.value.found
    assert "never end its session during C-07" in stopped.value.next_step
    assert verify_bundle(stopped.value.artefacts.path) == []
    # and the first one is none the worse for it
    assert controller.holders() == f"phasegate:hold:{name_of(first)}"


def test_a_run_that_is_between_two_steps_is_not_taken_for_a_dead_one(controller: Controller) -> None:
    first = controller.open()
    looking = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'phasegate:open' AND state = 'idle'"
        " AND query LIKE '%advisory%' AND datname = current_database()"
    )

    def next_step() -> None:
        wait_for("the second one looks", lambda: controller.cluster.psql(looking, controller.client.database) == "1")
        first.journal.append("C-03", "done")

    step = threading.Thread(target=next_step)
    step.start()
    with pytest.raises(NotOpened, match="Stopped at G-7"):
        controller.open()
    step.join()


def test_the_seal_ends_the_lock(controller: Controller) -> None:
    first = controller.open()
    seal_run(first, "the operator went home")
    # at once, without any wait: who comes right after the seal gets it
    second = controller.open()
    assert second != first
    assert controller.holders() == f"phasegate:hold:{name_of(second)}"
    seal_run(second, "again")
    assert_gone(controller)


def test_a_run_whose_directory_is_gone_ends_the_lock(controller: Controller) -> None:
    shutil.rmtree(controller.open().path)
    assert_gone(controller)


def test_a_run_without_a_sign_of_life_is_closed_by_the_next(controller: Controller) -> None:
    first = controller.open(idle=1)
    second = controller.open(idle=1)
    assert controller.holders() == f"phasegate:hold:{name_of(second)}"
    assert verify_bundle(first.path) == []
    reason = next(entry.data["reason"] for entry in first.journal.entries() if entry.event == "failed")
    assert reason.startswith("The run was interrupted")
    assert "run conditions at " in reason
    assert opened(second).closed == [name_of(first)]
    # and if its controller was only slow, it finds that out before it does anything
    with pytest.raises(PhaseGateError, match="This run is sealed"), Step(first, SchemaRecorded).running():
        pass


def test_a_step_at_work_keeps_the_lock_however_long_it_takes(controller: Controller) -> None:
    first = controller.open(idle=1)
    seen: set[str] = set()

    def beats() -> bool:
        # the holder speaks once a second here, so four different moments are more than its limit
        seen.add(controller.spoke())
        return len(seen) > 4

    with Step(first, SchemaRecorded).running():
        wait_for("four seconds of the server's clock", beats)
        assert controller.holders() == f"phasegate:hold:{name_of(first)}"
    assert_gone(controller)


def killed_in(run: RunDirectory, step: str) -> None:
    """Let a process begin a step of a run and kill it."""
    program = (
        "import sys, time\n"
        "from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory\n"
        "from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import _ENDS\n"
        "from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step\n"
        "with Step(RunDirectory(sys.argv[1]), _ENDS[sys.argv[2]]).running(): time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".collections")}
    with subprocess.Popen([sys.executable, "-c", program, run.path, step], env=environment) as process:
        wait_for("the intent", lambda: run.journal.entries()[-1].step == step)
        process.kill()


def test_a_step_that_was_killed_ends_the_lock_at_once(controller: Controller) -> None:
    first = controller.open()
    killed_in(first, "C-03")
    assert_gone(controller)
    second = controller.open()
    assert controller.holders() == f"phasegate:hold:{name_of(second)}"
    assert opened(second).closed == [name_of(first)]


def test_a_run_that_committed_is_adopted_at_once_when_its_verification_was_killed(controller: Controller) -> None:
    first = controller.open()
    first.journal.append("C-07", "done", {"outcome": "COMMITTED"})
    killed_in(first, "C-08")
    assert_gone(controller)
    assert controller.open() == first
    # what broke off before does not count against whoever goes on: the holder looks ten times between two words
    assert controller.holders() == f"phasegate:hold:{name_of(first)}"
    since = controller.spoke()
    wait_for("the holder speaks again", lambda: controller.spoke() not in ("", since))
    assert controller.holders() == f"phasegate:hold:{name_of(first)}"


def test_a_run_that_its_controller_cannot_seal_is_adopted_at_once(controller: Controller) -> None:
    first = controller.open()
    first.journal.append("C-07", "done", {"outcome": "COMMITTED"})
    params = {"run_directory": first.path, "reason": "the connection was lost"}
    with pytest.raises(PhaseGateError, match="C-07 is COMMITTED, but was not verified"):
        run_seal.sealed(params, check_mode=False)
    assert_gone(controller)
    assert controller.open() == first


def test_a_seal_that_was_interrupted_ends_the_lock_at_once(controller: Controller) -> None:
    first = controller.open()
    first.journal.append("run", "seal")
    assert_gone(controller)


def test_a_killed_holder_leaves_nothing_and_stops_its_own_run(controller: Controller) -> None:
    first = controller.open()
    os.kill(controller.process(), signal.SIGKILL)
    assert_gone(controller)
    assert "the lock is not held" in judged(controller, first)


def test_a_killed_backend_ends_the_holder_and_stops_its_own_run(controller: Controller) -> None:
    first = controller.open()
    process = controller.process()
    held = opened(first).lock
    assert held
    controller.cluster.psql(f"SELECT pg_terminate_backend({held['pid']})")
    wait_for("the holder ends", lambda: not Path(f"/proc/{process}").exists())
    assert "the lock is not held" in judged(controller, first)


def test_the_lock_of_another_run_is_not_taken_for_the_own(controller: Controller) -> None:
    first = controller.open()
    os.kill(controller.process(), signal.SIGKILL)
    assert_gone(controller)
    second = controller.open()
    assert f"run {name_of(second)} of anna@ctl1, recorded in" in judged(controller, first)
    assert judged(controller, second).endswith("no other session")


def test_a_stopped_holder_is_ended_by_the_server(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    # in place of a target host that lost its power: nothing comes any more, and nobody says so
    monkeypatch.setattr("ansible_collections.incomex.phasegate.plugins.module_utils._run.lock.SILENCE", 1)
    controller.open(idle=1)
    process = controller.process()
    os.kill(process, signal.SIGSTOP)
    try:
        assert_gone(controller)
    finally:
        os.kill(process, signal.SIGCONT)


@pytest.fixture
def stranger(controller: Controller) -> Iterator[Client]:
    """A client of a role that may connect and nothing else."""
    name = "stranger\x1b[31m"
    controller.cluster.psql(f'CREATE ROLE "{name}" LOGIN')
    yield replace(controller.client, user=name)
    controller.cluster.psql(f'DROP ROLE "{name}"')


def squat(session: Session, name: str, lock: tuple[int, int] = RUN_LOCK, how: str = "pg_advisory_lock") -> None:
    """Hold a lock of the database as somebody who wants to pass for a run."""
    session.value(f"SELECT {how}({lock[0]}, {lock[1]})")
    session.execute(f"SET application_name = '{HOLDER}{name}'")
    session.execute("SELECT 'run by root@prod through db1'")


@pytest.mark.fault("lock-squatted")
@pytest.mark.parametrize("how", ["pg_advisory_lock", "pg_advisory_lock_shared"])
def test_who_holds_the_lock_without_a_run_is_named_by_its_role_not_by_its_words(
    controller: Controller, stranger: Client, how: str
) -> None:
    with stranger.session() as squatting:
        squat(squatting, "alpha_prod_20260516T031200Z", how=how)
        begin = time.monotonic()
        with pytest.raises(NotOpened) as stopped:
            controller.open()
        # what no run confirms is not waited for
        assert time.monotonic() - begin < LONG / 3
    told = stopped.value
    assert "role stranger\\u001b[31m, since 2" in told.found
    assert "(not the role of this run, workflow_admin)" in told.found
    claims = 'it claims application_name "phasegate:hold:alpha_prod_20260516T031200Z", "run by root@prod through db1", '
    assert f"{claims}unproved: no run of that name below {controller.run.root} on this host" in told.found
    assert "SELECT pg_terminate_backend(" in told.next_step
    assert "never end its session" not in told.next_step


@pytest.mark.fault("lock-squatted")
def test_the_name_of_a_run_that_is_there_proves_nothing(controller: Controller, stranger: Client) -> None:
    first = controller.open()
    seal_run(first, "done")
    assert_gone(controller)
    with stranger.session() as squatting:
        squat(squatting, name_of(first))
        with pytest.raises(NotOpened) as stopped:
            controller.open()
    assert (
        f"unproved: the run of that name below {controller.run.root} did not record this session" in stopped.value.found
    )
    assert "anna@ctl1" not in stopped.value.found


@pytest.mark.fault("lock-squatted")
def test_the_lock_of_the_transaction_is_judged_at_the_opening(
    controller: Controller, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible_collections.incomex.phasegate.plugins.module_utils._run.lock.PATIENCE", 0.2)
    with stranger.session() as squatting:
        squat(squatting, "x", TRANSACTION_LOCK)
        with pytest.raises(NotOpened, match=r"Stopped at G-7 \(") as stopped:
            controller.open()
        assert "role stranger" in stopped.value.found
        assert not controller.holders()
    assert verify_bundle(stopped.value.artefacts.path) == []
    controller.open()


@pytest.mark.fault("lock-squatted")
@pytest.mark.parametrize("lock", [RUN_LOCK, TRANSACTION_LOCK], ids=["run", "transaction"])
def test_check_mode_reports_a_held_lock_after_it_judged_the_rest(
    controller: Controller, stranger: Client, lock: tuple[int, int]
) -> None:
    free = controller.check()
    assert free["lock"] == {}
    stop_at_held_lock(free)
    with stranger.session() as squatting:
        squat(squatting, "x", lock)
        found = controller.check()
    assert len(found["conditions"]) == len(free["conditions"]) > 0
    assert any(line.startswith("G-7: pid ") and "role stranger" in line for line in warnings(found))
    with pytest.raises(PhaseGateError, match=r"Stopped at G-7 \("):
        stop_at_held_lock(found)
    # it took none itself
    assert not controller.holders()
    assert not list(controller.run.root.glob("*"))


@pytest.mark.fault("lock-squatted")
def test_a_prepared_transaction_that_holds_the_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.incomex.phasegate.plugins.module_utils._run.lock.PATIENCE", 0.2)
    with running_cluster({"max_prepared_transactions": "2"}) as cluster:
        cluster.create_database("target")
        cluster.psql("CREATE SCHEMA app", "target")
        controller = Controller(cluster, client_of(cluster, "target"), tmp_path)
        taking = f"SELECT pg_advisory_xact_lock({RUN_LOCK[0]}, {RUN_LOCK[1]})"
        cluster.psql(f"BEGIN; {taking}; PREPARE TRANSACTION 'run by root'", "target")
        with pytest.raises(NotOpened) as stopped:
            controller.open()
        assert 'prepared transaction "run by root" of role workflow_admin, since 2' in stopped.value.found
        assert "ROLLBACK PREPARED" in stopped.value.next_step
        assert "prepared transaction" in controller.check()["lock"]["found"]
        cluster.psql("ROLLBACK PREPARED 'run by root'", "target")
        first = controller.open()
        seal_run(first, "done")
        assert_gone(controller)


@pytest.mark.fault("lock-squatted")
def test_where_the_servers_lock_is_lost_that_of_the_host_is_left(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of the first run is stopped, and its session ended by somebody who may."""
    monkeypatch.setattr("ansible_collections.incomex.phasegate.plugins.module_utils._run.host_lock.PATIENCE", 0.2)
    first = controller.open()
    process = controller.process()
    held = opened(first).lock
    assert held
    os.kill(process, signal.SIGSTOP)
    try:
        controller.cluster.psql(f"SELECT pg_terminate_backend({held['pid']})")
        assert_gone(controller)
        with pytest.raises(NotOpened, match=r"Stopped at G-7 \(") as stopped:
            controller.open()
        place = controller.run.root / "locks"
        (file,) = place.iterdir()
        assert f"a process on this host holds {file} (run {name_of(first)})" in stopped.value.found
        assert controller.check()["lock"]["found"] == stopped.value.found.removeprefix("G-7 ")
        assert (place.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    finally:
        os.kill(process, signal.SIGCONT)
    wait_for("the process ends", lambda: not Path(f"/proc/{process}").exists())
    controller.open()


def test_a_rehearsal_takes_no_lock(controller: Controller) -> None:
    controller.open(kind="rehearsal")
    assert not controller.holders()
