# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens between rehearsals, executions and rollbacks, in any order: outcome and history are true, and what is said leads on.

Sequences are drawn by Hypothesis, with the modules themselves on two real servers. SEQUENCES in the environment is how many, each
time others; without it, ten that are always the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import ROLLBACK_NAMESPACE
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import fetch_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import runs_of
from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.conductor import Conductor, conducting, descendants, gone
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister
from ansible_collections.incomex.phasegate.tests.support.runs import client_of, wait_for
from ansible_collections.incomex.phasegate.tests.support.target import Target
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductors

BEFORE = """
CREATE SCHEMA depot;
CREATE TABLE depot.parcels (id serial PRIMARY KEY, weight int);
INSERT INTO depot.parcels (weight) VALUES (1), (2);
"""
DDL = b"CREATE TABLE depot.sizes (size text);\nALTER TABLE depot.parcels ADD COLUMN size text;\n"
ROLLBACK = b"ALTER TABLE depot.parcels DROP COLUMN size;\nDROP TABLE depot.sizes;\n"
PHASE: dict[str, Any] = {
    "phase": "sizes",
    "scope": {"schemas": ["depot"], "statements": ["CREATE TABLE", "ALTER TABLE ADD COLUMN"]},
    "expect": {"tags": {"CREATE TABLE": 1, "ALTER TABLE": 1}},
    "verify": [
        {"id": "VA-1", "title": "the table", "sql": "SELECT to_regclass('depot.sizes') IS NOT NULL", "expect": True}
    ],
    "row_counts": ["depot.parcels"],
    "rollback": {
        "file": "rollback.sql",
        "sha256": hashlib.sha256(ROLLBACK).hexdigest(),
        "statements": ["ALTER TABLE DROP COLUMN", "DROP TABLE"],
        "cannot_restore": [],
    },
}
#: How many parts of the phase are in the catalog.
PARTS = """
SELECT (to_regclass('depot.sizes') IS NOT NULL)::int
  + (SELECT count(*) FROM pg_attribute WHERE attrelid = 'depot.parcels'::regclass AND attname = 'size')::int
"""
#: Longer than any of these runs takes on a busy machine, in seconds.
LONG = 2.5
DONE = 120.0
#: For how long a failing sequence is made shorter, in seconds.
SHRINKING = 60


@dataclass
class Plan:
    """A frozen plan: of a database with this name and drift, ``approved``, or ``expired``, and whether it was executed."""

    path: Path
    name: str
    drift: bool
    expired: bool
    approved: bool = False
    executed: bool = False


@dataclass
class Execution:
    """An execution that committed: on a database with this name and OID, with this drift; with which plan, and whether it was undone."""

    path: str
    name: str
    oid: int
    drift: bool
    plan: Plan | None
    undone: bool = False


def is_free(lock: Path) -> bool:
    """Whether nobody holds the lock of a file."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


class States(RuleBasedStateMachine):
    """One database.

    ``name`` is what it is called, ``present`` whether it has the phase's changes, ``drift`` whether it has a table that is of no
    phase. ``executions`` are those whose directories are below the root, oldest first. ``plan`` is the newest plan.
    """

    cluster: ClassVar[Cluster]
    other: ClassVar[Cluster]
    conductors: ClassVar[Conductors]
    people: ClassVar[list[Reviewer]]
    anchor: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="states-"))
        self.first = self.name = f"states_{self.directory.name[7:].lower()}"
        self.signatures = self.directory / "signatures"
        self.signatures.mkdir()
        self.revision = self.shelf = 0
        self.present = self.drift = False
        self.executions: list[Execution] = []
        self.plan: Plan | None = None
        self.create()
        self.revise()

    def create(self) -> None:
        self.cluster.create_database(self.name)
        self.cluster.psql(BEFORE, self.name)

    def teardown(self) -> None:
        for name in (self.first, f"{self.first}_renamed", f"{self.first}_restored"):
            self.cluster.drop_database(name)
        self.other.drop_database(self.first)
        unregister(self.anchor)
        shutil.rmtree(self.directory)

    # -- the commands -------------------------------------------------------------------------------------------------

    @property
    def target(self) -> Target:
        return Target(self.cluster, self.name, self.directory)

    def start(self, **order: Any) -> Conductor:
        """Start a rehearsal, an execution or a rollback."""
        # others at the same time are what other tests are about
        quiet = {"conditions": {"long_transactions": "ignore", "pg_dump": "ignore", "minor_version": "ignore"}}
        return self.conductors.execute(self.target, phase=self.phase.path, **quiet, **order)

    def run(self, **order: Any) -> dict[str, Any]:
        answer = self.start(**order).wait(DONE)
        assert answer
        return answer

    def killed(self, after: float, **order: Any) -> None:
        """Start, and kill it with everything below it."""
        conductor = self.start(**order)
        gone(conductor.pid, after)
        below = descendants(conductor.pid)
        # the group as well: the conductor may begin its next module meanwhile, which would go on with the run
        for kill, pid in ((os.killpg, conductor.pid), (os.kill, conductor.pid), (os.killpg, conductor.pid)):
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert gone(conductor.pid, DONE)
        # a process that it made in the last moment, and what holds the lock, which is nobody's child: they let it go after a minute
        held = f"FROM pg_stat_activity WHERE application_name LIKE 'phasegate:%' AND datname = '{self.target.database}'"
        self.cluster.psql(f"SELECT pg_terminate_backend(pid) {held}")
        wait_for("the end of its sessions", lambda: self.cluster.psql(f"SELECT count(*) {held}").strip() == "0")
        for lock in (self.target.root / "locks").glob("*"):
            wait_for("the end of what holds its lock", functools.partial(is_free, lock))

    def undo(self, execution: Execution) -> dict[str, Any]:
        return {"undo": execution.path, "accept_loss_at_most": 1000, "signatures": str(self.signatures)}

    def newest(self) -> str:
        """Return the newest execution that says COMMITTED."""
        found = [
            one.path
            for one in self.target.bundles()
            if not re.search("_(rollback|rehearsal)_", one.path.name) and '"COMMITTED"' in one.text("journal.jsonl")
        ]
        return str(max(found, key=lambda path: path.name))

    # -- what is expected ---------------------------------------------------------------------------------------------

    @property
    def oid(self) -> int:
        return int(self.target.value("SELECT oid::int FROM pg_database WHERE datname = current_database()"))

    def known(self) -> list[Execution]:
        """Return the executions that are this database's, by its name or its OID."""
        oid = self.oid
        return [one for one in self.executions if one.name == self.name or one.oid == oid]

    def standing(self) -> Execution | None:
        """Return the newest of them that was not rolled back."""
        return next((one for one in reversed(self.known()) if not one.undone), None)

    @property
    def in_place(self) -> Execution | None:
        """Return the execution whose changes the database has."""
        return self.standing() if self.present else None

    @property
    def needed(self) -> bool:
        """Return whether approvals are required: by a register, or because this host remembers one."""
        return self.anchor.exists() or (self.anchor.parents[1] / "approvals_required" / self.anchor.name).exists()

    def refusals(self, plan: Plan | None) -> set[str]:
        """Return what an execution says that is not to begin; nothing for one that succeeds, or finds the phase applied."""
        standing = self.standing()
        if self.present and standing:
            return set()
        if not self.present and standing and (plan is None or plan.executed):
            return {"the database no longer has its changes"}
        return self.refusals_of_files() if plan is None else self.refusals_of_plan(plan)

    def refusals_of_files(self) -> set[str]:
        if self.needed:
            return {"not rehearsed" if self.anchor.exists() else "restore the register"}
        return {"already exists"} if self.present else set()

    def refusals_of_plan(self, plan: Plan) -> set[str]:
        if any(one.plan is plan and one.undone for one in self.known()):
            return {"The plan is spent"}
        if self.present and plan.name == self.name:
            return {"are in the database already"}
        found = set()
        if plan.name != self.name:
            found.add("database of the plan")
        if self.needed and not self.anchor.exists():
            found.add("restore the register")
        elif self.needed and (not plan.approved or plan.expired):
            found.add("0 of 2")
        elif plan.expired:
            found.add("the plan expired")
        if plan.drift != self.drift or self.present:
            found.add("the schema changed since the rehearsal")
        return found

    def executed(self, answer: dict[str, Any], plan: Plan | None, expected: set[str]) -> None:
        """Compare how an execution ended with what was expected before it."""
        if expected:
            assert [one for one in expected if one not in answer["msg"]] == [], answer
            return
        assert answer["msg"] == "", answer
        assert answer["result"]["outcome"] == "SUCCESS", answer
        if not self.in_place:
            path = self.newest()
            assert path not in [one.path for one in self.executions]
            assert Bundle(Path(path)).gates["G-1"] == ("PASS" if self.needed else "NOT ENFORCED")
            self.executions.append(Execution(path, self.name, self.oid, self.drift, plan))
            self.present = True
            if plan:
                plan.executed = True

    # -- what can happen ----------------------------------------------------------------------------------------------

    @rule()
    def revise(self) -> None:
        """Write a new revision of the phase; its SQL is the same."""
        self.revision += 1
        files = self.directory / "phase"
        files.mkdir(exist_ok=True)
        self.phase = PhaseFiles(files).write({**PHASE, "revision": f"r{self.revision}"}, ddl=DDL, rollback=ROLLBACK)

    def rehearsal(self, *, expired: bool) -> dict[str, Any]:
        connection = {"bindir": str(bin_directory()), "host": str(self.other.socket_directory), "user": SUPERUSER}
        return {
            "rehearsal": {**connection, "port": self.other.port, "database": self.first},
            "plans": str(self.directory / "plans"),
            "valid_days": -1 if expired else 1,
        }

    @precondition(lambda self: not self.present)
    @rule(expired=st.sampled_from([False, False, True]), approved=st.booleans())
    def rehearse(self, *, expired: bool = False, approved: bool = False) -> None:
        """Rehearse; the plan may be one that nobody executed in time."""
        answer = self.run(**self.rehearsal(expired=expired))
        assert answer["msg"] == "", answer
        self.plan = Plan(Path(answer["result"]["plan"]), self.name, self.drift, expired)
        if approved:
            self.approve()

    @precondition(lambda self: not self.present)
    @rule(after=st.floats(0, LONG))
    def kill_a_rehearsal(self, after: float) -> None:
        """The same command leads on."""
        self.killed(after, **self.rehearsal(expired=False))
        self.rehearse()

    @precondition(lambda self: self.plan and not self.plan.approved)
    @rule()
    def approve(self) -> None:
        """Have the plan signed by both reviewers."""
        assert self.plan
        for one in self.people:
            self.plan.path.with_name(f"plan.json.{one.name}.sig").write_bytes(one.sign(self.plan.path.read_bytes()))
        self.plan.approved = True

    @rule()
    def register_reviewers(self) -> None:
        """Register the reviewers of the cluster, or put their register back."""
        register(self.anchor, "".join(one.line() for one in self.people))

    @precondition(lambda self: self.anchor.exists())
    @rule()
    def remove_the_register(self) -> None:
        """Remove the register, and nothing that this host remembers of it."""
        shutil.rmtree(self.anchor)

    @rule()
    def execute_files(self) -> None:
        """Execute the phase's files; where it is applied, it is verified."""
        expected, applied = self.refusals(None), bool(self.in_place)
        answer = self.run()
        assert answer["applied"] == applied, answer
        self.executed(answer, None, expected)

    @precondition(lambda self: self.plan)
    @rule()
    def execute_plan(self) -> None:
        """Execute the plan; where its SQL is applied, it is verified."""
        assert self.plan
        expected, applied = self.refusals(self.plan), bool(self.in_place)
        answer = self.run(plan=str(self.plan.path))
        assert answer["applied"] == applied, answer
        self.executed(answer, self.plan, expected)

    @rule(after=st.floats(0, LONG))
    def kill_an_execution(self, after: float) -> None:
        """The same command leads on."""
        plan = self.plan if self.plan and not self.refusals(self.plan) else None
        order = {"plan": str(plan.path)} if plan else {}
        expected = self.refusals(plan)
        self.killed(after, **order)
        self.executed(self.run(**order), plan, expected)

    @rule()
    def execute_too_late(self) -> None:
        """Execute when the backup is too old."""
        plan = self.plan if self.plan and not self.refusals(self.plan) else None
        expected = self.refusals(plan) or (set() if self.in_place else {"G-2"})
        answer = self.run(**({"plan": str(plan.path)} if plan else {}), migrate={"max_backup_age": 0})
        if "already exists" in expected:
            expected = {"G-2"}
        self.executed(answer, plan, expected)

    @precondition(lambda self: not self.present)
    @rule()
    def begin_again(self) -> None:
        """Do what every refused execution says, until it is executed."""
        answer: dict[str, Any] = {}
        for _ in range(6):
            plan = self.plan
            expected = self.refusals(plan)
            answer = self.run(**({"plan": str(plan.path)} if plan else {}))
            self.executed(answer, plan, expected)
            if not answer["msg"]:
                return
            self.follow(answer["msg"])
        raise AssertionError(answer["msg"])

    def follow(self, told: str) -> None:
        """Do what a refusal says."""
        if "restore the register" in told:
            self.register_reviewers()
        if re.search("rehearse (the phase|it|again)", told):
            self.rehearse(approved=True)
        elif "0 of 2" in told and "printf" not in told:
            self.approve()

    @precondition(lambda self: self.in_place)
    @rule()
    def roll_back(self) -> None:
        """Undo what is in place, and do what every refusal says, until it is undone."""
        execution = self.in_place
        assert execution
        answer: dict[str, Any] = {}
        for _ in range(6):
            expected = self.obstacles(execution)
            answer = self.run(**self.undo(execution))
            assert [one for one in expected if one not in answer["msg"]] == [], answer
            if not answer["msg"]:
                self.undone(execution, answer)
                return
            assert expected, answer
            self.clear(execution, answer["msg"])
        raise AssertionError(answer)

    def obstacles(self, execution: Execution) -> set[str]:
        """Return what a rollback says that is not to happen yet."""
        if execution.name != self.name:
            return {"ALTER DATABASE"}
        if self.needed and not self.anchor.exists():
            return {"restore the register"}
        if self.needed and not self.signed(execution):
            return {"of 2"}
        return {"would differ from the pre-phase snapshot"} if execution.drift != self.drift else set()

    def signed(self, execution: Execution) -> bool:
        """Return whether there are signatures over the rollback; those over its plan were given, or are given with them."""
        return any(one.name.startswith(f"{Path(execution.path).name}.") for one in self.signatures.iterdir())

    def clear(self, execution: Execution, told: str) -> None:
        """Do what the refusal of a rollback says."""
        if "ALTER DATABASE" in told:
            self.rename(execution.name)
        elif "restore the register" in told:
            self.register_reviewers()
        elif "of 2" in told:
            self.sign(execution, told)
        else:
            self.toggle_drift()

    def sign(self, execution: Execution, told: str) -> None:
        """Sign what the refusal of a rollback asks for."""
        request = re.search(r"printf '%s\\n' '(\{[^']*\})'", told)
        name = Path(execution.path).name
        for one in self.people:
            if request:
                signature = one.sign(request[1].encode() + b"\n", ROLLBACK_NAMESPACE)
                (self.signatures / f"{name}.{one.name}.sig").write_bytes(signature)
            if f"sign {execution.path}/plan.json" in told:
                signature = one.sign((Path(execution.path) / "plan.json").read_bytes())
                (self.signatures / f"plan.{name}.{one.name}.sig").write_bytes(signature)

    def undone(self, execution: Execution, answer: dict[str, Any]) -> None:
        assert answer["result"]["outcome"] == "SUCCESS", answer
        execution.undone = True
        self.present = False

    @precondition(lambda self: self.in_place and not self.obstacles(self.in_place))
    @rule(after=st.floats(0, LONG))
    def kill_a_rollback(self, after: float) -> None:
        """The same command leads on: it rolls back, or says that this was done."""
        execution = self.in_place
        assert execution
        self.killed(after, **self.undo(execution))
        answer = self.run(**self.undo(execution))
        assert answer["msg"] == "" or "was rolled back already" in answer["msg"], answer
        execution.undone = True
        self.present = False

    @precondition(lambda self: self.executions and not self.in_place)
    @rule()
    def roll_back_what_is_not_in_place(self) -> None:
        """Nothing is undone twice, and nothing that is not there."""
        known = [one for one in self.known() if one.name == self.name]
        if not known:
            return
        newest = self.standing()
        execution = newest if newest and newest in known else known[-1]
        answer = self.run(**self.undo(execution))
        if execution.undone:
            assert "was rolled back already" in answer["msg"], answer
        elif not self.present:
            assert "nothing to roll back" in answer["msg"], answer

    @precondition(lambda self: self.present)
    @rule()
    def revert_by_hand(self) -> None:
        """Take the changes away without a run."""
        self.cluster.psql(ROLLBACK.decode(), self.name)
        self.present = False

    @rule()
    def create_anew(self) -> None:
        """Drop the database and create it again, as it was before."""
        self.cluster.drop_database(self.name)
        self.create()
        self.present = self.drift = False

    @rule()
    def rename_it(self) -> None:
        """Give the database another name, or its first one."""
        self.rename(f"{self.first}_renamed" if self.name == self.first else self.first)

    def rename(self, name: str) -> None:
        self.cluster.psql(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.name}';"
            f"ALTER DATABASE {self.name} RENAME TO {name}"
        )
        self.name = name

    @rule(number=st.integers(0, 7))
    def restore(self, number: int) -> None:
        """Restore the backup that a run made, as the documentation says."""
        runs = [
            one.path
            for one in self.target.bundles()
            if (one.path / "backup.dump").exists() and (one.path / "SHA256SUMS").exists()
        ]
        if not runs:
            return
        run, restored = runs[number % len(runs)], f"{self.first}_restored"
        self.cluster.psql(f"CREATE DATABASE {restored} TEMPLATE template0")
        argv = [str(bin_directory() / "pg_restore"), "--exit-on-error", "-d", self.cluster.dsn(restored)]
        subprocess.run([*argv, str(run / "backup.dump")], check=True, capture_output=True)
        self.cluster.drop_database(self.name)
        self.cluster.psql(f"ALTER DATABASE {restored} RENAME TO {self.name}")
        self.present = "_rollback_" in run.name or self.target.value(PARTS) == 2
        self.drift = bool(self.target.value("SELECT to_regclass('depot.spare') IS NOT NULL"))

    @rule()
    def toggle_drift(self) -> None:
        """Change the schema outside of any phase, or take that back."""
        self.cluster.psql("DROP TABLE depot.spare" if self.drift else "CREATE TABLE depot.spare (id int)", self.name)
        self.drift = not self.drift

    @precondition(lambda self: not self.present and self.standing())
    @rule()
    def archive(self) -> None:
        """Do what the refusal says: the run directory goes elsewhere."""
        lost = self.standing()
        assert lost
        self.shelf += 1
        Path(lost.path).rename(self.directory / f"{self.shelf}.{Path(lost.path).name}")
        self.executions.remove(lost)
        # nothing here knows any more that its plan was executed
        if lost.plan:
            lost.plan.executed = any(one.plan is lost.plan for one in self.executions)

    @rule()
    def write(self) -> None:
        """Write to the table, as an application does."""
        self.cluster.psql("INSERT INTO depot.parcels (weight) VALUES (3)", self.name)
        if self.present:
            self.cluster.psql("UPDATE depot.parcels SET size = 'l'", self.name)

    @rule()
    def wait(self) -> None:
        """Let time pass."""
        time.sleep(1)

    # -- what holds always --------------------------------------------------------------------------------------------

    @invariant()
    def the_catalog_is_what_was_said(self) -> None:
        assert self.target.value(PARTS) == (2 if self.present else 0)

    @invariant()
    def the_history_is_true(self) -> None:
        client = client_of(self.cluster, self.name)
        history = runs_of(str(self.target.root), "sizes", fetch_identity(client), keep=False)
        found = {one["execution"]: one["undone_by"] != "" for one in history.rows()}
        assert found == {Path(one.path).name: one.undone for one in self.known()}
        newest = max(self.target.bundles(), key=lambda one: one.path.stat().st_mtime, default=None)
        if newest and (newest.path / "SHA256SUMS").exists():
            assert verify_bundle(str(newest.path)) == []


@contextlib.contextmanager
def states(cluster: Cluster) -> Iterator[None]:
    """Give the machine its servers, and reviewers with throw-away keys."""
    identifier = cluster.psql("SELECT system_identifier FROM pg_control_system()")
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers"
    keys = Path(tempfile.mkdtemp(prefix="states-keys-"))
    try:
        with conducting() as conductors, running_cluster(rehearsal=True) as other:
            States.cluster, States.other, States.conductors = cluster, other, conductors
            States.people = [Reviewer.create(keys, name) for name in ("anna", "ben")]
            States.anchor = home / identifier
            yield
    finally:
        shutil.rmtree(keys)


def played(*events: str | tuple[str, dict[str, Any]]) -> None:
    """Play events one after the other; what holds always holds after each."""
    state = States()
    try:
        for event in events:
            name, arguments = (event, {}) if isinstance(event, str) else event
            getattr(state, name)(**arguments)
            state.the_catalog_is_what_was_said()
            state.the_history_is_true()
    finally:
        state.teardown()


def test_a_plan_leads_on_after_the_database_was_renamed(cluster: Cluster) -> None:
    """G-4 says what to do with the plan of the database's former name; with reviewers and without."""
    with states(cluster):
        played("rehearse", "rename_it", "begin_again", "roll_back")
        played("register_reviewers", "rehearse", "approve", "rename_it", "begin_again", "rename_it", "roll_back")


def test_a_register_that_was_removed_leads_on(cluster: Cluster) -> None:
    """What this host remembers stops both, and putting the register back is enough."""
    with states(cluster):
        played(
            *("register_reviewers", "execute_files", "remove_the_register", "execute_files", "begin_again"),
            *("remove_the_register", "execute_plan", "roll_back", "execute_plan"),
        )


def test_an_expired_plan_leads_on(cluster: Cluster) -> None:
    """It is not executed, whether there are reviewers or not; the next rehearsal is."""
    late = ("rehearse", {"expired": True})
    with states(cluster):
        played(late, "execute_plan", "begin_again", "roll_back")
        played("register_reviewers", late, "approve", "execute_plan", "begin_again", "roll_back")


def test_a_plan_whose_execution_was_archived_leads_on(cluster: Cluster) -> None:
    """An older execution of the phase is left: it is the database's by its name only, and does not know the plan."""
    with states(cluster):
        played("begin_again", "create_anew", "begin_again", "create_anew", "archive", "begin_again")


def test_any_order_of_events(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    count = int(os.environ.get("SEQUENCES", "0"))
    # a failure is shown with what led to it: a little shorter is not worth minutes
    monkeypatch.setattr("hypothesis.internal.conjecture.engine.MAX_SHRINKING_SECONDS", SHRINKING)
    with states(cluster):
        run_state_machine_as_test(
            States,
            settings=settings(
                max_examples=count or 10,
                derandomize=not count,
                stateful_step_count=8,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
