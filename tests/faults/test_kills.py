# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kill whatever takes part in an execution, at a random instant, and execute again.

The schema is all or nothing, a report says COMMITTED exactly when it is all, and the next runs end with the phase
applied once. What is killed and when is drawn from the seed; an instant is a state that was observed (an entry of the
journal, a statement that waits for a lock, a COMMIT that waits for a standby) and a drawn delay after it.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import TransactionBegun
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import journaled_outcome, records_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.conductor import Conductor, children, kill
from ansible_collections.incomex.phasegate.tests.support.runs import PATIENCE, wait_for
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductors

FIXTURE = Path(__file__).parents[1] / "fixtures" / "phase_alpha.sql"

EARLY = [("run", "open"), ("C-01", "intent"), ("C-02", "done")]
BEFORE = [("C-03", "done"), ("C-05", "done"), ("C-06", "done")]
DURING = [("C-07", "intent"), ("C-07", "transaction"), ("C-07", "transaction"), ("C-07", "commit")]
#: Tables that a statement of Phase Alpha waits for when somebody reads them in a transaction.
WAITED_FOR = [("waits", "public.tac_logical_unit"), ("waits", "sandbox_tac.logical_unit")]
GHOST = [("COMMIT", "waits")]
AFTER = [("C-07", "done"), ("C-08", "intent"), ("C-08", "done")]
SEALING = [("run", "seal")]

#: What the server's log says at the end of its recovery.
READY = b"database system is ready to accept connections"

#: What it says of a backend that was killed.
KILLED = b"was terminated by signal 9"

#: Who can be killed when, and how often one is drawn.
VICTIMS: dict[str, tuple[int, list[tuple[str, str]]]] = {
    "controller": (5, EARLY + BEFORE + 2 * DURING + 2 * WAITED_FOR + 2 * GHOST + AFTER + SEALING),
    "module": (4, EARLY + BEFORE + 2 * DURING + 2 * WAITED_FOR + 2 * GHOST + AFTER[1:] + SEALING),
    "client": (3, DURING + WAITED_FOR + GHOST + AFTER[1:2]),
    "backend, terminated": (3, DURING + WAITED_FOR + GHOST + AFTER[1:2]),
    "backend, killed": (3, DURING + WAITED_FOR + GHOST + AFTER[1:2]),
    "postmaster": (4, EARLY + BEFORE + 2 * DURING + 2 * WAITED_FOR + 2 * GHOST + AFTER),
}


@dataclass(frozen=True)
class Kill:
    """One drawn kill: ``delay`` in seconds after ``moment``; ``release``: whether what waits goes on before it."""

    number: int
    victim: str
    moment: tuple[str, str]
    delay: float
    release: bool

    @classmethod
    def draw(cls, seed: int, number: int) -> Kill:
        """Draw the kill of this number, always the same of a seed."""
        dice = random.Random(f"{seed}:{number}")  # noqa: S311 - it has to be repeatable
        victim = dice.choices(list(VICTIMS), [weight for weight, _moments in VICTIMS.values()])[0]
        moment = dice.choice(VICTIMS[victim][1])
        delay = dice.choice([0.0, dice.uniform(0, 0.02), dice.uniform(0, 0.4)])
        return cls(number, victim, moment, delay, dice.random() < 0.5)

    def __str__(self) -> str:
        return f"{self.number}-{self.victim}-{'-'.join(self.moment)}".replace(" ", "").replace(",", "-")

    @property
    def fault(self) -> str:
        """The line of the table that this kill belongs to."""
        if self.victim == "controller":
            groups = {
                "controller-backup": EARLY,
                "controller-before": BEFORE,
                "controller-after": AFTER,
                "controller-sealing": SEALING,
            }
            return next((name for name, moments in groups.items() if self.moment in moments), "controller-c07")
        return {"module": "module-killed", "client": "client-killed"}.get(self.victim, "server-killed")


#: COMMIT is to wait for a standby that does not exist.
CONDITIONS = {"synchronous_standby": "warn"}

#: When ansible-playbook is killed.
PLAYBOOK = EARLY[:1] + BEFORE[1:] + DURING[1:] + AFTER + SEALING


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "playbook_kill" in metafunc.fixturenames:
        option = metafunc.config.option
        kills = []
        for number in range(option.playbook_kills):
            dice = random.Random(f"{option.seed}:playbook:{number}")  # noqa: S311 - it has to be repeatable
            kills.append(Kill(number, "ansible-playbook", dice.choice(PLAYBOOK), dice.uniform(0, 0.4), release=False))
        metafunc.parametrize("playbook_kill", [pytest.param(one, id=str(one)) for one in kills])
    if "drawn" in metafunc.fixturenames:
        option = metafunc.config.option
        kills = [Kill.draw(option.seed, number) for number in range(option.kills)]
        metafunc.parametrize(
            "drawn", [pytest.param(one, id=str(one), marks=pytest.mark.fault(one.fault)) for one in kills]
        )


# --- the target ------------------------------------------------------------------------------------------------


@dataclass
class Fragile:
    """A cluster that is killed again and again, and what its database looks like before and after the phase."""

    cluster: Cluster
    conductors: Conductors
    before: bytes
    after: bytes
    serial: int = 0

    def target(self, directory: Path) -> Target:
        """Return a database in the state before."""
        self.serial += 1
        name = f"fragile{self.serial}"
        self.cluster.create_database(name, "template")
        self.cluster.psql(f"ALTER DATABASE {name} SET synchronous_commit = on")
        return Target(self.cluster, name, directory, {"phasegate_conditions": CONDITIONS})

    def start(self, target: Target) -> Conductor:
        """Execute Phase Alpha."""
        return self.conductors.execute(target, conditions=CONDITIONS)

    def state(self, target: Target) -> str:
        """Return ``all``, ``nothing``, or what else the database holds."""
        schema = target.dump("--schema-only")
        filled = 0
        if schema != self.before:
            filled = target.value("SELECT count(authority) FROM public.tac_logical_unit")
        return {(self.before, 0): "nothing", (self.after, 86): "all"}.get((schema, filled), f"PART, {filled} rows")


@pytest.fixture(scope="module")
def fragile(conductors: Conductors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    # a COMMIT has to be in the write-ahead log when it returns (the page cache survives what is done here), and only
    # those of the run are to wait for a standby that does not exist
    with running_cluster({"synchronous_commit": "local"}) as cluster:
        cluster.create_database("template")
        cluster.load(FIXTURE, "template")
        made = Fragile(cluster, conductors, b"", b"")
        target = made.target(tmp_path_factory.mktemp("reference"))
        made.before = target.dump("--schema-only")
        answer = made.start(target).wait()
        assert answer
        assert answer["msg"] == ""
        made.after = target.dump("--schema-only")
        yield made


# --- the moment and the kill -----------------------------------------------------------------------------------


def backends(target: Target, where: str = "true") -> list[int]:
    """Return the server processes of phasegate in this database."""
    with psycopg.connect(target.cluster.dsn()) as connection:
        query = (
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'phasegate:%%' AND datname = %s"
            f" AND {where} ORDER BY backend_start DESC"
        )
        return [row[0] for row in connection.execute(query.encode(), [target.database])]


def entered(target: Target, step: str, event: str) -> bool:
    """Tell whether the journal of a run has such an entry."""
    wanted = f'"step":"{step}","event":"{event}"'.encode()
    return any(wanted in journal.read_bytes() for journal in target.root.glob("*/journal.jsonl"))


@contextlib.contextmanager
def at(kill: Kill, target: Target) -> Iterator[Callable[[], bool]]:
    """Make the drawn moment possible, and yield what tells that it has come; at the end everything can go on."""
    where, what = kill.moment
    if where == "waits":
        # the server may be killed under the reader
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(target.cluster.dsn(target.database)) as reader,
        ):
            reader.execute(f"LOCK TABLE {what} IN ACCESS SHARE MODE".encode())

            def waits() -> bool:
                found = bool(backends(target, "wait_event_type = 'Lock'"))
                if found and kill.release:
                    reader.rollback()
                return found

            yield waits
            reader.rollback()
    elif where == "COMMIT":
        ghost(target.cluster, "ghost")

        def commits() -> bool:
            found = bool(backends(target, "wait_event = 'SyncRep' AND application_name LIKE 'phasegate:run:%%'"))
            if found and kill.release:
                ghost(target.cluster, "")
            return found

        try:
            yield commits
        finally:
            if target.cluster.pid is None:
                target.cluster.start()
            ghost(target.cluster, "")
    else:
        yield lambda: entered(target, where, what)


def ghost(cluster: Cluster, name: str) -> None:
    """Let every COMMIT wait for a standby that does not exist, or for none."""
    cluster.psql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    cluster.psql("SELECT pg_reload_conf()")


def strike(kill_: Kill, run: Conductor, target: Target) -> bool:
    """Kill the victim; False when it does not exist just now."""
    victim = kill_.victim
    pid: int | None
    if victim == "postmaster":
        target.cluster.crash()
        return True
    if victim == "controller":
        pid = run.pid if children(run.pid) else None
    elif victim in ("module", "client"):
        pid = run.module if victim == "module" else run.client
    else:
        pid = next(iter(backends(target)), None)
    if pid is None:
        return False
    if victim == "backend, terminated":
        return target.cluster.psql(f"SELECT pg_terminate_backend({pid})") == "t"
    log = target.cluster.log.stat().st_size
    kill(pid)
    if victim != "backend, killed":
        return True
    # one that had just ended by itself takes nothing with it
    try:
        wait_for("the end of the backend", lambda: KILLED in target.cluster.log.read_bytes()[log:], 5.0)
    except AssertionError:
        return False
    return True


def ended(run: Conductor) -> bool:
    """Tell whether the conductor has ended by itself."""
    return run.file.exists()


def kill_once(kill_: Kill, run: Conductor, target: Target) -> bool:
    """Wait for the moment and the delay, and kill; False when the run ended before."""
    with at(kill_, target) as come:
        deadline = time.monotonic() + 4 * PATIENCE
        while not come():
            assert time.monotonic() < deadline, f"{kill_.moment} did not come"
            if ended(run):
                return False
        time.sleep(kill_.delay)  # the drawn part of the instant: nothing is expected to happen in it
        log = target.cluster.log.stat().st_size
        while not strike(kill_, run, target):
            if ended(run):
                return False
        if kill_.victim == "postmaster":
            target.cluster.start()
        elif kill_.victim == "backend, killed":
            wait_for("the end of the recovery", lambda: READY in target.cluster.log.read_bytes()[log:])
    return True


# --- what has to hold ------------------------------------------------------------------------------------------


def claims_commit(answer: dict[str, Any]) -> bool | None:
    """Tell whether a run says that it committed; None when it says that it does not know."""
    text = f"{answer['msg']}\n{answer.get('told', '')}\n{answer.get('result', {}).get('outcome', '')}"
    if "UNKNOWN" in text or "unknown outcome" in text:
        return None
    return answer["msg"] == "" or "COMMITTED" in text or "SUCCESS" in text


def test_a_kill_leaves_all_or_nothing(drawn: Kill, fragile: Fragile, tmp_path: Path, seen: Seen) -> None:
    for attempt in range(3):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        target = fragile.target(directory)
        run = fragile.start(target)
        # the second time without the delay, in case that the run was over too early
        if kill_once(
            drawn if attempt == 0 else Kill(drawn.number, drawn.victim, drawn.moment, 0.0, False), run, target
        ):
            break
    else:
        raise AssertionError(f"{drawn} found nothing to kill")
    answer = run.wait()
    state = fragile.state(target)
    assert state in ("all", "nothing")
    if answer is not None and claims_commit(answer) is not None:
        assert claims_commit(answer) == (state == "all"), answer

    stops: list[str] = []
    while True:
        again = fragile.start(target).wait()
        assert again
        if again["msg"] == "":
            break
        stops.append(again["msg"].splitlines()[0])
        assert len(stops) < 5, stops
        assert fragile.state(target) in ("all", "nothing")
        wait_for("the end of what the killed run left", lambda: not backends(target))

    assert fragile.state(target) == "all"
    applied = again["result"]["run_directory"]
    assert_applied_once(target, applied)
    if stops:
        decision = "stopped, then " + ("adopted" if again["applied"] else "started anew")
    else:
        decision = "adopted" if again["applied"] else "started anew"
    seen(f"{state}; next run {decision}")
    target.cluster.drop_database(target.database)


def assert_applied_once(target: Target, applied: str) -> None:
    """One run has committed, says so, and is sealed; no other one says so."""
    assert verify_bundle(applied) == []
    for bundle in target.bundles():
        artefacts = RunDirectory(str(bundle.path))
        entries = artefacts.journal.entries()
        is_it = str(bundle.path) == applied
        assert (journaled_outcome(entries, "C-07") == "COMMITTED") == is_it, bundle.path
        if artefacts.sealed:
            assert verify_bundle(artefacts.path) == []
            outcome = bundle.json("report.json")["outcome"]
            assert (outcome == "SUCCESS") == is_it, outcome
            assert is_it or "COMMITTED" not in outcome
            assert not [name for name in bundle.files if name.endswith(".partial")]
    committed = [
        begun.xid
        for bundle in target.bundles()
        for begun in records_of(RunDirectory(str(bundle.path)).journal.entries(), TransactionBegun, "C-07")
        if str(bundle.path) == applied
    ]
    assert [target.value(f"SELECT pg_xact_status('{xid}')") for xid in committed].count("committed") == 1


@pytest.mark.fault("playbook-killed")
def test_a_killed_playbook_leaves_all_or_nothing(
    playbook_kill: Kill, fragile: Fragile, tmp_path: Path, seen: Seen
) -> None:
    target = fragile.target(tmp_path)
    run = target.start("playbooks/phase_alpha.yml")
    with at(playbook_kill, target) as come:
        wait_for(f"{playbook_kill.moment}", lambda: come() or run.poll() is not None, 180.0)
    time.sleep(playbook_kill.delay)  # the drawn part of the instant
    kill(run.pid)
    assert run.wait() == -signal.SIGKILL, "it ended before it was killed"
    state = fragile.state(target)
    assert state in ("all", "nothing")
    stops = []
    while True:
        again = target.play()
        if again.rc == 0:
            break
        stops.append(again.messages.partition("\n")[0])
        assert len(stops) < 5, stops
        wait_for("the end of what the killed run left", lambda: not backends(target))
    assert fragile.state(target) == "all"
    applied = [bundle for bundle in target.bundles() if '"outcome":"COMMITTED"' in bundle.text("journal.jsonl")]
    assert len(applied) == 1
    assert_applied_once(target, str(applied[0].path))
    adopted = not again.reached("C-07")
    seen(f"{state}; next run {'stopped, then ' if stops else ''}{'adopted' if adopted else 'started anew'}")
    target.cluster.drop_database(target.database)
