# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of a phase against a real server, prepared step by step as the modules do it, up to the moment of C-07."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.plugins.action.phase_plan import plan_of
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.backup import back_up
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import BackupOptions
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    EXECUTE,
    BackupMade,
    Migrated,
    RunOpened,
    SchemaRecorded,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import (
    Capture,
    DataExpectations,
    save_capture,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.sql_lexer import commands
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import fetch_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import MigrationRequest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock import acquire_lock
from ansible_collections.incomex.phasegate.plugins.module_utils._run.migration import finish_migration, run_migration
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import open_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import read_frozen
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import sections_for_plan
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR, SUPERUSER, bin_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import MigrationResult
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

#: How long a test waits for a state that must come, in seconds; it is only ever reached by a failure.
PATIENCE = 30.0


def client_of(cluster: Cluster, database: str, user: str = SUPERUSER) -> Client:
    """Return a client of one database of a throw-away cluster."""
    return Client(
        database=database,
        bindir=str(bin_directory()),
        host=str(cluster.socket_directory),
        port=cluster.port,
        user=user,
    )


def wait_for(what: str, state: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return the first true value of ``state``; fail when none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = state()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come about within {seconds:.0f} s")


def fingerprint(client: Client) -> str:
    """Return the fingerprint of the schema now."""
    with client.session() as session:
        return take_snapshot(session).fingerprint


@dataclass
class Outcome:
    """How C-07 ended: the error that stopped it, if any, and what it left for the journal."""

    error: PhaseGateError | None
    data: dict[str, Any]

    @property
    def message(self) -> str:
        """Return the operator's message; '' after a COMMIT."""
        return str(self.error) if self.error else ""

    def gate(self, name: str) -> dict[str, Any]:
        """Return one judged gate."""
        (gate,) = (gate for gate in self.data["gates"] if gate["id"] == name)
        return dict(gate)


@dataclass
class Run:
    """One run. ``plan`` may be changed until ``prepare``, the artefacts after it."""

    client: Client
    root: Path
    plan: dict[str, Any]
    ddl: bytes
    rollback: bytes
    declared: Mapping[str, Any] = field(default_factory=lambda: {"server_version": str(MAJOR)})
    environment: str = "test"
    max_backup_age: int = 3600
    lock_attempts: int = 1
    ledger: str | None = None
    artefacts: RunDirectory = field(default_factory=lambda: RunDirectory(""))
    sessions: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @classmethod
    def of(cls, client: Client, root: Path, phase_file: str) -> Run:
        """Plan a phase of files."""
        phase = load_phase(phase_file)
        return cls(client, root, copy.deepcopy(plan_of(phase)), phase.migrate.data, phase.rollback.data)

    def files(self) -> Path:
        """Write the SQL where a run is opened from, as the action copies it to the target."""
        directory = self.root.parent / f"{self.root.name}.files"
        directory.mkdir(exist_ok=True)
        for part, data in (("ddl", self.ddl), ("rollback", self.rollback)):
            (directory / self.plan[part]["file"]).write_bytes(data)
        return directory

    def force(self, *statements: str, returns_rows: bool = False, label: str = "") -> Run:
        """Put other statements into the plan than the planner would let through, labelled alike or by their first keywords."""
        pieces = [text.encode() for text in statements]
        self.ddl = b"".join(pieces)
        planned, position, tag = [], 0, label or "CREATE TABLE"
        for number, piece in enumerate(pieces, start=1):
            if not label:
                tag = next((one.tag for one in commands(piece) if one.tag), tag)
            self.plan["phase"]["scope"]["statements"] = sorted({*self.plan["phase"]["scope"]["statements"], tag})
            planned.append(
                {
                    "n": number,
                    "start": position,
                    "end": position + len(piece),
                    "line": 1,
                    "tag": tag,
                    "kinds": [tag],
                    "relations": [],
                    "needs": [],
                    "returns_rows": returns_rows,
                    "run": True,
                    "after_commit": "",
                }
            )
            position += len(piece)
        digest = hashlib.sha256(self.ddl).hexdigest()
        self.plan["ddl"] = {"file": "migrate.sql", "sha256": digest, "bytes": position, "statements": planned}
        return self

    def prepare(self, *, locked: bool = True) -> Run:
        """Open the run, under this database's lock when ``locked``, and do C-01, C-03, C-04 and C-05."""
        identity = fetch_identity(self.client)
        about = RunOpened(
            kind=EXECUTE,
            environment=self.environment,
            identity=identity.as_dict(),
            host="test01",
            plan_sha256=sha256_bytes(canonical_json(self.plan)),
            ledger=self.ledger,
        )
        files = {part: str(self.files() / self.plan[part]["file"]) for part in ("ddl", "rollback")}
        lock = self.take_lock() if locked else None
        self.artefacts = open_run(str(self.root), self.plan, about, self.declared, files, lock)
        with Step(self.artefacts, BackupMade).running() as step:
            made, _ = back_up(self.client, self.artefacts, BackupOptions(compression="none"))
            step.update(backup=made.as_dict())
        phase = self.plan["phase"]
        declared = DataExpectations.from_definition(phase["measure"], phase["row_counts"])
        with self.client.session() as session, Step(self.artefacts, SchemaRecorded).running() as step:
            captured: list[Capture] = []
            facts = take_snapshot(
                session,
                sections=sections_for_plan(self.plan),
                beside=lambda reading: captured.append(declared.take(reading)),
            )
            facts.write(self.artefacts.file("schema/before.jsonl.gz"))
            step.update(fingerprint=facts.fingerprint)
            save_capture(self.artefacts, "before", declared.measures, captured[-1])
        return self

    def take_lock(self) -> Any:
        """Take this database's lock, in place of the process that evidence leaves behind; the session ends with the test's database."""
        self.sessions.close()
        # the server ends a session after its client has
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'phasegate:hold:this'"
        with self.client.session("test") as session:
            wait_for(
                "the end of the last holder", lambda: session.value(f"{gone} AND datname = current_database()") == "t"
            )
        holder = self.sessions.enter_context(self.client.session("phasegate:hold:this"))
        return acquire_lock(holder, str(self.root), 0)

    def freeze(self) -> None:
        """Write the plan and its files; again after ``force``, as somebody does who can write to the directory."""
        self.artefacts.write("plan.json", canonical_json(self.plan))
        self.artefacts.write("sql/" + self.plan["ddl"]["file"], self.ddl)
        self.artefacts.write("sql/" + self.plan["rollback"]["file"], self.rollback)

    def recorded(self, change: Callable[[dict[str, Any]], None]) -> Run:
        """Journal another record of the backup than C-01's."""
        backup = next(e.data["backup"] for e in self.artefacts.journal.entries() if "backup" in e.data)
        change(backup)
        self.artefacts.journal.append("C-01", "done", {"backup": backup})
        return self

    def request(self) -> MigrationRequest:
        """Return what C-07 is asked to do, with the DDL that is frozen now."""
        return MigrationRequest(
            plan=self.plan,
            ddl=read_frozen(self.artefacts, self.plan["ddl"]["file"]),
            artefacts=self.artefacts,
            declared=self.declared,
            max_backup_age=self.max_backup_age,
            lock_attempts=self.lock_attempts,
        )

    def migrate(self) -> Outcome:
        """Do C-07 with what is in the artefact directory now."""
        return self._c07(run_migration)

    def finish(self) -> Outcome:
        """Do what a committed C-07 left."""
        return self._c07(finish_migration)

    def _c07(self, command: Callable[[Client, MigrationRequest, Step[Migrated]], MigrationResult]) -> Outcome:
        error: PhaseGateError | None = None
        step = Step(self.artefacts, Migrated)
        try:
            with step.running():
                command(self.client, self.request(), step)
        except PhaseGateError as stopped:
            error = stopped
        return Outcome(error, step.end.to_entry())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the data of every event of C-07 with this name."""
        return [entry.data for entry in self.artefacts.journal.entries() if (entry.step, entry.event) == ("C-07", name)]


class InBackground:
    """C-07 in a thread of its own, for tests that act on the server meanwhile."""

    def __init__(self, run: Run) -> None:
        self._outcome: Outcome | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(run,), daemon=True)
        self._thread.start()

    def _work(self, run: Run) -> None:
        try:
            self._outcome = run.migrate()
        except BaseException as failure:  # noqa: BLE001 - raised again in the test's own thread
            self._failure = failure

    def join(self) -> Outcome:
        """Wait for the end and return the outcome."""
        self._thread.join(PATIENCE)
        if self._failure:
            raise self._failure
        assert self._outcome, f"C-07 still runs after {PATIENCE:.0f} s"
        return self._outcome
