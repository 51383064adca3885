# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table that the server writes anew was declared, or nothing commits: C-07 on a real server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import CopyRolledBack
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rehearsal import MeasuredRollback
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import rollback_script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import run_script
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Outcome, Run, client_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE SCHEMA app;
CREATE TABLE app.old (id int PRIMARY KEY, code varchar(10));
INSERT INTO app.old SELECT n, n FROM generate_series(1, 100) n;
CREATE TABLE app."Odd Name" (id int);
CREATE TABLE app.heir () INHERITS (app."Odd Name");
CREATE TABLE app.parts (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE app.parts_2026 PARTITION OF app.parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE MATERIALIZED VIEW app.seen AS SELECT count(*) FROM app.parts;
"""
WIDER = "ALTER TABLE app.old ALTER id TYPE bigint;\n"


@dataclass(frozen=True)
class Change:
    """DDL, the tables that it rewrites, and what the phase declares."""

    ddl: str
    tags: dict[str, int]
    rewrites: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    data: dict[str, dict[str, str]] = field(default_factory=dict)

    def run(self, cluster: Cluster, database: str, directory: Path) -> Outcome:
        """Run it as a phase to which every other change is permitted."""
        cluster.psql(BEFORE, database)
        files = PhaseFiles(directory).write(
            {
                "scope": {"schemas": ["app"], "statements": ["ALTER TABLE", *self.tags], "rewrites": self.declared},
                "expect": {"tags": self.tags},
                "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
                "diff": {"allow": [{"object": "*"}]},
                "data": self.data,
            },
            ddl=self.ddl.encode(),
        )
        return Run.of(client_of(cluster, database), directory / "runs", files.path).prepare().migrate()


ALTER = {"ALTER TABLE": 1}
UNDECLARED = {
    "type": Change(WIDER, ALTER, ["app.old"]),
    "volatile default": Change("ALTER TABLE app.old ADD u uuid DEFAULT gen_random_uuid();\n", ALTER, ["app.old"]),
    "stored column": Change("ALTER TABLE app.old ADD s int GENERATED ALWAYS AS (id) STORED;\n", ALTER, ["app.old"]),
    "unlogged": Change("ALTER TABLE app.old SET UNLOGGED;\n", ALTER, ["app.old"]),
    "another one declared": Change(WIDER, ALTER, ["app.old"], ["app.parts"]),
    "not on the server": Change(WIDER, ALTER, ["app.old"], ["app.gone"]),
    "heirs": Change('ALTER TABLE app."Odd Name" ALTER id TYPE bigint;\n', ALTER, ['app."Odd Name"', "app.heir"]),
    "partitions": Change("ALTER TABLE app.parts ALTER id TYPE bigint;\n", ALTER, ["app.parts_2026"]),
    "in a block that caught an error": Change(
        "DO $$BEGIN ALTER TABLE app.old ALTER id TYPE bigint; EXCEPTION WHEN division_by_zero THEN NULL; END$$;\n",
        {"DO": 1},
        ["app.old"],
    ),
}
PERMITTED = {
    "declared": Change(WIDER, ALTER, ["app.old"], ["app.old"]),
    "heirs of a declared one": Change(
        'ALTER TABLE app."Odd Name" ALTER id TYPE bigint;\n',
        ALTER,
        ['app."Odd Name"', "app.heir"],
        ['app."Odd Name"'],
    ),
    "partitions of a declared one": Change(
        "ALTER TABLE app.parts ALTER id TYPE bigint;\n", ALTER, ["app.parts_2026"], ["app.parts"]
    ),
    "emptied": Change("TRUNCATE app.old;\n", {"TRUNCATE TABLE": 1}, ["app.old"], data={"app.old": {"TRUNCATE": "any"}}),
    "not a rewrite": Change("ALTER TABLE app.old ALTER code TYPE varchar(20), ADD n int DEFAULT 5;\n", ALTER),
    "declared in vain": Change("ALTER TABLE app.old ADD n int;\n", ALTER, [], ["app.old"]),
    "a new table": Change(
        "CREATE TABLE app.t (id int);\nALTER TABLE app.t ALTER id TYPE bigint;\n", {**ALTER, "CREATE TABLE": 1}
    ),
    "no table": Change(
        "REFRESH MATERIALIZED VIEW app.seen;\n",
        {"REFRESH MATERIALIZED VIEW": 1},
        data={"app.seen": {"REFRESH": "any"}},
    ),
}


@pytest.mark.parametrize("change", UNDECLARED.values(), ids=UNDECLARED.keys())
@pytest.mark.fault("rewrite")
def test_an_undeclared_rewrite_does_not_commit(
    cluster: Cluster, empty_database: str, tmp_path: Path, change: Change
) -> None:
    outcome = change.run(cluster, empty_database, tmp_path)
    assert outcome.data["outcome"] == "ROLLED_BACK", outcome.message
    assert f"tables that are rewritten (scope.rewrites): {', '.join(change.declared) or 'none'}" in outcome.message
    assert f"rewritten: {', '.join(change.rewrites)}\n" in outcome.message
    assert outcome.data["unchanged"] is True


@pytest.mark.parametrize("change", PERMITTED.values(), ids=PERMITTED.keys())
def test_a_permitted_one_does(cluster: Cluster, empty_database: str, tmp_path: Path, change: Change) -> None:
    outcome = change.run(cluster, empty_database, tmp_path)
    assert (outcome.data["outcome"], outcome.message) == ("COMMITTED", "")
    assert outcome.data["transaction"]["rewrites"] == change.rewrites


@dataclass(frozen=True)
class Undo:
    """A phase, its rollback, the kinds of its statements, and the tables that the rollback rewrites."""

    ddl: str
    tags: dict[str, int]
    rollback: str
    kinds: list[str]
    rewrites: list[str]

    def roll_back(self, cluster: Cluster, database: str, directory: Path, declared: Sequence[str]) -> CopyRolledBack:
        """Run it, and roll it back as a rehearsal does; return how that ended."""
        cluster.psql(BEFORE + "CREATE TYPE app.kind AS ENUM ('a', 'b'); CREATE TABLE app.item (k app.kind);", database)
        undo = self.rollback.encode()
        pins = {"file": "rollback.sql", "sha256": sha256_bytes(undo), "statements": self.kinds}
        files = PhaseFiles(directory).write(
            {
                "scope": {"schemas": ["app"], "statements": ["ALTER TABLE", *self.tags], "rewrites": ["app.parts"]},
                "rollback": {**pins, "rewrites": list(declared), "cannot_restore": []},
                "expect": {"tags": self.tags},
                "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
                "diff": {"allow": [{"object": "*"}]},
            },
            ddl=self.ddl.encode(),
            rollback=undo,
        )
        client = client_of(cluster, database)
        run = Run.of(client, directory / "runs", files.path).prepare()
        outcome = run.migrate()
        assert outcome.message == ""
        original = Snapshot.load(run.artefacts.file("schema/before.jsonl.gz"))
        script, step = rollback_script(run.plan, run.rollback), Step(run.artefacts, CopyRolledBack)
        with client.session() as session:
            base = take_snapshot(session)
            checks = MeasuredRollback(client, original, "the phase", script, step, base, outcome.data["baseline"])
            with step.running():
                run_script(session, client, script, checks, base, step)
        return step.end


UNDOS = {
    "a label less": Undo(
        "ALTER TYPE app.kind ADD VALUE 'c';\n",
        {"ALTER TYPE": 1},
        "ALTER TYPE app.kind RENAME TO kind_old;\nCREATE TYPE app.kind AS ENUM ('a', 'b');\n"
        "ALTER TABLE app.item ALTER COLUMN k TYPE app.kind USING k::text::app.kind;\nDROP TYPE app.kind_old;\n",
        ["ALTER TYPE RENAME", "CREATE TYPE", "ALTER TABLE ALTER COLUMN TYPE", "DROP TYPE"],
        ["app.item"],
    ),
    "a narrower column": Undo(
        "ALTER TABLE app.old ALTER COLUMN code TYPE varchar(20);\n",
        ALTER,
        "ALTER TABLE app.old ALTER COLUMN code TYPE varchar(10);\n",
        ["ALTER TABLE ALTER COLUMN TYPE"],
        ["app.old"],
    ),
    "a logged table": Undo(
        "CREATE TABLE app.t (id int);\n",
        {"CREATE TABLE": 1},
        "DROP TABLE app.t;\nALTER TABLE app.old SET UNLOGGED;\nALTER TABLE app.old SET LOGGED;\n",
        ["DROP TABLE", "ALTER TABLE SET UNLOGGED", "ALTER TABLE SET LOGGED"],
        ["app.old"],
    ),
    "none": Undo("CREATE TABLE app.t (id int);\n", {"CREATE TABLE": 1}, "DROP TABLE app.t;\n", ["DROP TABLE"], []),
}


@pytest.mark.parametrize("undo", UNDOS.values(), ids=UNDOS.keys())
@pytest.mark.fault("rollback-rewrites")
def test_what_a_rollback_rewrites_is_measured(
    cluster: Cluster, empty_database: str, tmp_path: Path, undo: Undo
) -> None:
    end = undo.roll_back(cluster, empty_database, tmp_path, undo.rewrites)
    assert end.outcome == "COMMITTED"
    assert (end.transaction or {})["rewrites"] == undo.rewrites


@pytest.mark.fault("rewrite")
@pytest.mark.parametrize("undo", [UNDOS["a label less"], UNDOS["a narrower column"]], ids=["enum", "column"])
def test_an_undeclared_one_stops_its_rehearsal(
    cluster: Cluster, empty_database: str, tmp_path: Path, undo: Undo
) -> None:
    with pytest.raises(PhaseGateError) as caught:
        undo.roll_back(cluster, empty_database, tmp_path, ["app.parts"])
    assert caught.value.expected == "tables that are rewritten (scope.rewrites, rollback.rewrites): app.parts"
    assert caught.value.found == f"rewritten: {undo.rewrites[0]}"
