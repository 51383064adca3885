# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens between executions and rollbacks, in any order: outcome and history are true, and a documented command leads on.

Sequences are drawn by Hypothesis, with the modules themselves on a real server. SEQUENCES in the environment is how many, each time
others; without it, ten that are always the same.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.tests.support.conductor import Conductor, conducting, descendants, gone
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.target import Target
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

if TYPE_CHECKING:
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


class States(RuleBasedStateMachine):
    """One database: ``execution`` is the one in place, ``lost`` one whose changes are gone, ``undone`` those that were rolled back."""

    cluster: Cluster
    conductors: Conductors

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="states-"))
        self.target = Target(self.cluster, f"states_{self.directory.name[7:].lower()}", self.directory)
        self.revision = 0
        self.execution = self.lost = ""
        self.undone: list[str] = []
        self.create()
        self.revise()

    def create(self) -> None:
        self.cluster.create_database(self.target.database)
        self.cluster.psql(BEFORE, self.target.database)

    def teardown(self) -> None:
        self.cluster.drop_database(self.target.database)
        shutil.rmtree(self.directory)

    # -- the commands -------------------------------------------------------------------------------------------------

    def start(self, **order: Any) -> Conductor:
        """Start an execution, or a rollback."""
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
        for pid in (conductor.pid, *descendants(conductor.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        assert gone(conductor.pid, DONE)

    def undo(self, execution: str) -> dict[str, Any]:
        return {"undo": execution, "accept_loss_at_most": 1000}

    def newest(self) -> str:
        """Return the newest execution that says COMMITTED."""
        found = [
            one.path
            for one in self.target.bundles()
            if "_rollback_" not in one.path.name and '"COMMITTED"' in one.text("journal.jsonl")
        ]
        return str(max(found, key=lambda path: path.name))

    # -- what can happen ----------------------------------------------------------------------------------------------

    @rule()
    def revise(self) -> None:
        """Write a new revision of the phase; its SQL is the same."""
        self.revision += 1
        files = self.directory / "phase"
        files.mkdir(exist_ok=True)
        self.phase = PhaseFiles(files).write({**PHASE, "revision": f"r{self.revision}"}, ddl=DDL, rollback=ROLLBACK)

    @rule()
    def execute(self) -> None:
        """Run it; where it is applied, it is verified."""
        answer = self.run()
        if self.lost:
            assert "the database no longer has its changes" in answer["msg"], answer
            return
        assert answer["msg"] == "", answer
        assert answer["applied"] == bool(self.execution), answer
        assert answer["result"]["outcome"] == "SUCCESS"
        self.execution = self.execution or answer["result"]["run_directory"]

    @precondition(lambda self: not self.lost)
    @rule(after=st.floats(0, LONG))
    def kill_an_execution(self, after: float) -> None:
        """The same command leads on."""
        self.killed(after)
        answer = self.run()
        assert answer["msg"] == "", answer
        self.execution = self.execution or self.newest()

    @precondition(lambda self: self.execution)
    @rule()
    def roll_back(self) -> None:
        """Undo what is in place."""
        answer = self.run(**self.undo(self.execution))
        assert answer["msg"] == "", answer
        assert answer["result"]["outcome"] == "SUCCESS"
        self.undone.append(self.execution)
        self.execution = ""

    @precondition(lambda self: self.execution)
    @rule(after=st.floats(0, LONG))
    def kill_a_rollback(self, after: float) -> None:
        """The same command leads on: it rolls back, or says that this was done."""
        self.killed(after, **self.undo(self.execution))
        answer = self.run(**self.undo(self.execution))
        assert answer["msg"] == "" or "was rolled back already" in answer["msg"], answer
        self.undone.append(self.execution)
        self.execution = ""

    @precondition(lambda self: self.undone or self.lost)
    @rule()
    def roll_back_what_is_not_in_place(self) -> None:
        """Nothing is undone twice, and nothing that is not there."""
        answer = self.run(**self.undo(self.lost or self.undone[-1]))
        assert ("nothing to roll back" if self.lost else "was rolled back already") in answer["msg"], answer

    @precondition(lambda self: self.execution)
    @rule()
    def revert_by_hand(self) -> None:
        """Take the changes away without a run."""
        self.cluster.psql(ROLLBACK.decode(), self.target.database)
        self.lost, self.execution = self.execution, ""

    @rule()
    def create_anew(self) -> None:
        """Drop the database and create it again, as it was before."""
        self.cluster.drop_database(self.target.database)
        self.create()
        self.lost, self.execution = self.execution or self.lost, ""

    @precondition(lambda self: self.lost)
    @rule()
    def archive(self) -> None:
        """Do what the refusal says: the run directory goes elsewhere."""
        Path(self.lost).rename(self.directory / Path(self.lost).name)
        self.lost = ""

    @rule()
    def write(self) -> None:
        """Write to the table, as an application does."""
        self.cluster.psql("INSERT INTO depot.parcels (weight) VALUES (3)", self.target.database)
        if self.execution:
            self.cluster.psql("UPDATE depot.parcels SET size = 'l'", self.target.database)

    @rule()
    def wait(self) -> None:
        """Let time pass."""
        time.sleep(1)

    # -- what holds always --------------------------------------------------------------------------------------------

    @invariant()
    def the_catalog_is_what_was_said(self) -> None:
        assert self.target.value(PARTS) == (2 if self.execution else 0)


def test_any_order_of_events(cluster: Cluster) -> None:
    count = int(os.environ.get("SEQUENCES", "0"))
    with conducting() as conductors:
        States.cluster, States.conductors = cluster, conductors
        run_state_machine_as_test(
            States,
            settings=settings(
                max_examples=count or 10,
                derandomize=not count,
                stateful_step_count=8,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
