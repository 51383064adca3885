# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between controller and server: an engine's client, SSH, clocks, names, and another operator."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import journaled_outcome
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, running_cluster
from ansible_collections.incomex.phasegate.tests.support.conductor import children, conducting, descendants, gone, kill
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for
from ansible_collections.incomex.phasegate.tests.support.ssh_server import SSHD, running_sshd
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductor, Conductors

FIXTURE = ROOT / "tests" / "fixtures" / "phase_alpha.sql"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'phasegate:%' AND wait_event_type = 'Lock'"
    " AND datname = current_database()"
)
LOCK = "BEGIN; LOCK TABLE public.tac_logical_unit IN ACCESS SHARE MODE;"


def outcomes(root: Path) -> list[str | None]:
    """Return the outcomes of all runs by their journals, oldest first."""
    return [journaled_outcome(RunDirectory(str(run)).journal.entries(), "C-07") for run in sorted(root.iterdir())]


def succeed(start: Callable[[], Conductor], settled: Callable[[], bool]) -> tuple[dict[str, Any], list[str]]:
    """Execute until it succeeds, and return the answer and why it stopped before."""
    stops: list[str] = []
    while True:
        answer = start().wait()
        assert answer
        if answer["msg"] == "":
            return answer, stops
        stops.append(answer["msg"].partition("\n")[0])
        assert len(stops) < 4, stops
        wait_for("the end of what was killed", settled)


# --- a container -----------------------------------------------------------------------------------------------


class Container:
    """A throw-away container with PostgreSQL and the state before Phase Alpha."""

    def __init__(self, name: str, image: str) -> None:
        self.name = name
        given = [
            "-e",
            f"POSTGRES_USER={SUPERUSER}",
            "-e",
            "POSTGRES_DB=directus",
            "-e",
            "POSTGRES_HOST_AUTH_METHOD=trust",
        ]
        self.docker("run", "--detach", "--pull=never", "--name", name, *given, image)

    def docker(self, *words: str, given: str | None = None) -> str:
        done = subprocess.run(["docker", *words], input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def answers(self) -> bool:
        argv = ["docker", "exec", self.name, "pg_isready", "-q", "-h", "127.0.0.1", "-U", SUPERUSER, "-d", "directus"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def psql(self, sql: str) -> str:
        return self.docker("exec", "-i", self.name, "psql", "-XAtq", "-U", SUPERUSER, "-d", "directus", given=sql)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold a lock that C-07 has to wait for."""
        argv = ["docker", "exec", "-i", self.name, "psql", "-XAtq", "-U", SUPERUSER, "-d", "directus"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdin
            assert holder.stdout
            holder.stdin.write(f"{LOCK} SELECT 'held';\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "held\n"
            yield
            holder.stdin.close()


@pytest.fixture
def container() -> Iterator[Container]:
    image = os.environ.get("PHASEGATE_IMAGE", "phasegate/postgres:16")
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"no container engine with the image {image} here")
    made = Container(f"phasegate-faults-{os.getpid()}", image)
    try:
        wait_for("the server in the container", made.answers)
        made.psql(FIXTURE.read_text(encoding="utf-8"))
        yield made
    finally:
        made.docker("rm", "--force", "--volumes", made.name)


@pytest.mark.fault("docker-client-killed")
def test_the_client_of_docker_exec_is_killed(
    container: Container, conductors: Conductors, tmp_path: Path, seen: Seen
) -> None:
    order = {
        "connection": {"container": container.name, "database": "directus", "user": SUPERUSER},
        "identity": {"container": container.name, "database": "directus", "user": SUPERUSER},
        "phase": str(ROOT / "playbooks/phases/alpha/phase.yml"),
        "root": str(tmp_path / "artefacts"),
    }
    with container.locked():
        run = conductors.start(tmp_path, **order)
        wait_for("C-07 waits", lambda: container.psql(WAITING) == "1")
        client = next(pid for pid in reversed(descendants(run.pid)) if b"docker" in command(pid))
        kill(client)
        # the server's process is still there: nothing but the server can tell how this ends
        assert container.psql(WAITING) == "1"
    answer = run.wait()
    assert answer
    outcome = outcomes(tmp_path / "artefacts")[0]
    there = container.psql("SELECT to_regclass('cutter_governance.canonical_address_alias') IS NOT NULL") == "t"
    assert outcome == ("COMMITTED" if there else "ROLLED_BACK"), answer
    idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'phasegate:%'"
    _again, stops = succeed(lambda: conductors.start(tmp_path, **order), lambda: container.psql(idle) == "0")
    assert outcomes(tmp_path / "artefacts").count("COMMITTED") == 1
    seen(f"the backend goes on; resolved to {outcome}; the next run succeeds" + (f" after: {stops}" if stops else ""))


def command(pid: int) -> bytes:
    """Return the program that a process runs."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    return b""


# --- SSH -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A server of its own on the loopback; yields what an inventory says to reach it, and ``pid``."""
    if not SSHD.exists():
        pytest.skip("no sshd is installed here")
    with running_sshd(tmp_path) as found:
        yield found


@pytest.mark.fault("ssh-dropped")
def test_the_ssh_connection_is_dropped(target: Target, sshd: dict[str, Any], seen: Seen) -> None:
    server = sshd.pop("pid")
    target.hostvars = sshd
    with psycopg.connect(target.cluster.dsn(target.database)) as reader:
        reader.execute(LOCK.encode())
        run = target.start("playbooks/phase_alpha.yml")
        wait_for("C-07 waits", lambda: target.value(WAITING), 180.0)
        for connection in children(server):
            # the process of the connection and the one that it made for the user; not the module
            for pid in [connection, *children(connection)]:
                if b"sshd" in command(pid):
                    kill(pid)
        assert run.wait(timeout=120) != 0
        said = (target.directory / "started.log").read_text(encoding="utf-8")
        assert "UNREACHABLE" in said, said
    # the module goes on there, and nobody hears of it
    quiet = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'phasegate:%'"
    wait_for("the end of the module", lambda: target.value(f"{quiet} AND datname = current_database()"))
    state = "all" if target.migrated else "nothing"
    again = target.play()
    assert again.rc == 0, again.stdout
    assert outcomes(target.root).count("COMMITTED") == 1
    adopted = not again.reached("C-07")
    assert adopted == (state == "all")
    seen(f"UNREACHABLE; {state}; the next run {'adopted it' if adopted else 'started anew'}")


# --- clocks ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("clock-off")
@pytest.mark.parametrize("age", [3600, 0], ids=["fresh", "stale"])
def test_the_clock_of_the_controller_decides_nothing(
    phase_alpha_template: str, target: Target, conductors: Conductors, seen: Seen, age: int
) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed here")
    verdicts: list[tuple[str, dict[str, str], bool]] = []
    for skew in ("", "+1d", "-1d"):
        name = f"{target.database}{len(verdicts)}"
        target.cluster.create_database(name, phase_alpha_template)
        directory = target.directory / f"skew{len(verdicts)}"
        directory.mkdir()
        moved = Target(target.cluster, name, directory)
        prefix = ["faketime", "-f", skew] if skew else []
        with conducting(prefix, {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}) as shifted:
            answer = (shifted if skew else conductors).execute(moved, migrate={"max_backup_age": age}).wait()
        assert answer
        gates = {gate["id"]: gate["status"] for gate in moved.bundle().json("report.json")["gates"]}
        verdicts.append((answer["msg"].partition("\n")[0], gates, moved.migrated))
        target.cluster.drop_database(name)
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert verdicts[0][1]["G-2"] == ("PASS" if age else "FAIL")
    assert verdicts[0][2] == bool(age)
    seen(f"a day before, right, a day after: the same verdicts ({verdicts[0][0] or 'SUCCESS'})")


# --- two operators, names --------------------------------------------------------------------------------------


@pytest.mark.fault("two-operators")
def test_two_whole_runs_at_once(target: Target, conductors: Conductors, seen: Seen) -> None:
    runs = [conductors.execute(target) for _operator in range(2)]
    answers = [run.wait() for run in runs]
    assert all(answers)
    stopped = [answer["msg"] for answer in answers if answer and answer["msg"]]
    assert len(stopped) < 2, answers
    assert target.migrated
    assert outcomes(target.root).count("COMMITTED") == 1
    for message in stopped:
        assert re.match(r"Stopped at G-[67] |C-0[67]|The schema differs from the snapshot", message), message
    seen("one COMMITTED; the other: " + (stopped[0].partition("\n")[0] if stopped else "already applied"))


HOSTILE = [
    "a b; $(touch pwned) `touch pwned` {{ 7*7 }} \"d\" 's' b\\s %s ~",
    "UPPER\nline\ttab -- /* $$ :x",
    "x" * 63,
]


@pytest.mark.fault("hostile-names")
@pytest.mark.parametrize("name", HOSTILE, ids=["shell", "lines", "long"])
def test_a_hostile_name_is_one_name(
    name: str, phase_alpha_template: str, target: Target, conductors: Conductors, seen: Seen
) -> None:
    """As the name of database, role and directory at once."""
    place = target.cluster.dsn()
    quoted = '"' + name.replace('"', '""') + '"'
    with psycopg.connect(place, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {quoted} LOGIN SUPERUSER".encode())
        admin.execute(f"CREATE DATABASE {quoted} TEMPLATE {phase_alpha_template}".encode())
    root = target.directory / name.replace("/", "")
    try:
        where = {"database": name, "user": name}
        connection = {
            **where,
            "host": str(target.cluster.socket_directory),
            "bindir": target.entry()["phasegate_bindir"],
        }
        answer = conductors.start(
            target.directory,
            connection=connection,
            identity=where,
            phase=str(ROOT / "playbooks/phases/alpha/phase.yml"),
            root=str(root),
        ).wait()
        assert answer
        assert answer["msg"] == "", answer
        assert verify_bundle(answer["result"]["run_directory"]) == []
        assert Path(answer["result"]["run_directory"]).parent == root
        with psycopg.connect(psycopg.conninfo.make_conninfo(target.cluster.dsn(), dbname=name)) as inside:
            there = inside.execute("SELECT to_regclass('cutter_governance.canonical_address_alias') IS NOT NULL")
            assert there.fetchone() == (True,)
        assert not list(target.directory.rglob("pwned"))
        assert not (ROOT / "pwned").exists()
    finally:
        with psycopg.connect(place, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {quoted} WITH (FORCE)".encode())
            admin.execute(f"DROP ROLE {quoted}".encode())
    seen("one name for database, role and directory")


# --- whole playbooks -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def rehearsing(target: Target) -> Iterator[tuple[Cluster, dict[str, Any]]]:
    """Yield a cluster to rehearse in, and what the playbook is told of it."""
    with running_cluster(rehearsal=True) as other:
        yield (
            other,
            {
                "phasegate_author": "anna",
                "phasegate_plans": str(target.directory / "plans"),
                "phasegate_rehearsal": {
                    "bindir": target.entry()["phasegate_bindir"],
                    "host": str(other.socket_directory),
                    "port": other.port,
                    "user": SUPERUSER,
                    "database": "scratch",
                },
            },
        )


@pytest.mark.fault("controller-restore")
def test_a_rehearsal_is_killed_during_its_restore(target: Target, seen: Seen) -> None:
    with rehearsing(target) as (other, extra):
        run = target.start("playbooks/phase_alpha_rehearse.yml", extra)
        has_scratch = "SELECT count(*) FROM pg_database WHERE datname = 'scratch'"
        wait_for("the scratch database", lambda: other.psql(has_scratch) == "1", 180.0)
        below = descendants(run.pid)
        for pid in [run.pid, *below]:
            kill(pid)
        run.wait()
        assert all(gone(pid, 60) for pid in below)
        assert not list(target.directory.glob("plans/*/plan.json"))
        assert not list(target.root.glob("*/rehearsal.json"))
        left = other.psql("SELECT oid FROM pg_database WHERE datname = 'scratch'")
        again = target.play("playbooks/phase_alpha_rehearse.yml", extra_vars=extra)
        assert again.rc == 0, again.stdout
        assert len(list(target.directory.glob("plans/*/plan.json"))) == 1
        assert other.psql("SELECT oid FROM pg_database WHERE datname = 'scratch'") != left
    seen("no plan, no proof; the next rehearsal dropped the database that was left, and succeeded")


@pytest.mark.fault("drift")
def test_a_schema_that_changed_since_the_rehearsal(target: Target, seen: Seen) -> None:
    with rehearsing(target) as (_other, extra):
        rehearsed = target.play("playbooks/phase_alpha_rehearse.yml", extra_vars=extra)
        assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = target.directory.glob("plans/*/plan.json")
    target.cluster.psql("ALTER TABLE public.tac_logical_unit ADD COLUMN surprise int", target.database)
    state = target.state()
    run = target.play(extra_vars={"phasegate_plan": str(plan)})
    assert run.rc != 0
    assert target.state() == state
    assert "Stopped at G-10" in run.messages
    assert "column public.tac_logical_unit.surprise added" in run.messages
    seen("Stopped at G-10: column public.tac_logical_unit.surprise added")
