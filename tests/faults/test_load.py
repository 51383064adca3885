# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase from rehearsal to rollback while an application writes to its tables all the time: no false verdict."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

#: Transactions of the application in a second; each writes to a table of the phase, and a trigger to another.
RATE = 50

BEFORE = """
CREATE SCHEMA depot;
CREATE TABLE depot.parcels (id bigserial PRIMARY KEY, weight int NOT NULL, state varchar(10) NOT NULL DEFAULT 'new');
CREATE TABLE depot.events (id bigserial PRIMARY KEY, parcel bigint, at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION depot.log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO depot.events (parcel) VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER logged AFTER INSERT OR UPDATE ON depot.parcels FOR EACH ROW EXECUTE FUNCTION depot.log();
INSERT INTO depot.parcels (weight) SELECT n FROM generate_series(1, 200) n;
"""
APPLICATION = """\\set id random(1, 200)
\\if :id > 100
INSERT INTO depot.parcels (weight) VALUES (:id);
\\else
UPDATE depot.parcels SET weight = weight + 1 WHERE id = :id;
\\endif
"""
DDL = b"""BEGIN;
CREATE TABLE depot.regions (code text PRIMARY KEY);
INSERT INTO depot.regions VALUES ('north'), ('south');
ALTER TABLE depot.parcels ADD COLUMN region text REFERENCES depot.regions;
UPDATE depot.parcels SET region = 'north' WHERE id <= 50;
ALTER TABLE depot.parcels ADD CONSTRAINT parcels_state CHECK (state IN ('new', 'sent'));
COMMIT;
CREATE INDEX CONCURRENTLY parcels_region ON depot.parcels (region);
"""
ROLLBACK = b"""DROP INDEX depot.parcels_region;
ALTER TABLE depot.parcels DROP CONSTRAINT parcels_state;
ALTER TABLE depot.parcels DROP COLUMN region;
DROP TABLE depot.regions;
"""
PHASE: dict[str, Any] = {
    "scope": {
        "schemas": ["depot"],
        "statements": [
            "CREATE TABLE",
            "INSERT",
            "UPDATE",
            "ALTER TABLE ADD COLUMN",
            "ALTER TABLE ADD CONSTRAINT",
            "CREATE INDEX CONCURRENTLY",
        ],
    },
    "expect": {
        "tags": {
            "BEGIN": 1,
            "CREATE TABLE": 1,
            "INSERT": 1,
            "ALTER TABLE": 2,
            "UPDATE": 1,
            "COMMIT": 1,
            "CREATE INDEX": 1,
        },
        "rows": {"INSERT": [2], "UPDATE": [50]},
    },
    "data": {
        "depot.regions": {"INSERT": 2},
        "depot.parcels": {"UPDATE": 50},
        "depot.events": {"INSERT": 50},
        "depot.events_id_seq": {"MOVE": "any"},
    },
    "diff": {"policy": "additions_only", "allow": [{"kind": "constraint", "object": "depot.parcels.*"}]},
    "row_counts": ["depot.parcels", {"relation": "depot.events", "change": 50}],
    "measure": [
        {"id": "weight", "relation": "depot.parcels", "key": "id", "column": "weight", "expect": {"changed": 0}}
    ],
    "rollback": {
        "file": "rollback.sql",
        "sha256": hashlib.sha256(ROLLBACK).hexdigest(),
        "statements": ["DROP INDEX", "ALTER TABLE DROP CONSTRAINT", "ALTER TABLE DROP COLUMN", "DROP TABLE"],
        "cannot_restore": ["events that the backfill has logged"],
    },
}


@contextlib.contextmanager
def written_to(target: Target) -> Iterator[None]:
    """Let the application write within the block; each of its transactions has to succeed."""
    script = target.directory / "application.pgbench"
    script.write_text(APPLICATION, encoding="utf-8")
    options = ["--no-vacuum", "--client=4", f"--rate={RATE}", "--time=600", f"--file={script}", target.database]
    process = subprocess.Popen(
        [bin_directory() / "pgbench", *options],
        env={**target.cluster.environment(target.database), "PGAPPNAME": "application"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for("the application writes", lambda: target.value("SELECT count(*) FROM depot.parcels") > 200)
        yield
        process.send_signal(signal.SIGALRM)
        _output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    finally:
        process.kill()
        process.wait()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.fixturenames.append("number")
    metafunc.parametrize("number", range(metafunc.config.option.loads))


@pytest.mark.fault("under-load")
def test_from_rehearsal_to_rollback_under_load(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster, seen: Seen
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(BEFORE, target.database)
    schema = target.dump("--schema-only")
    (tmp_path / "depot").mkdir()
    files = PhaseFiles(tmp_path / "depot").write(PHASE, ddl=DDL, rollback=ROLLBACK)
    with written_to(target):
        rehearsed = target.rehearse(rehearsal_cluster, files.path)
        assert rehearsed.rc == 0, rehearsed.stdout
        (plan,) = (tmp_path / "plans").glob("*/plan.json")
        executed = target.play(
            "playbooks/execute.yml", extra_vars={"phasegate_phase_file": files.path, "phasegate_plan": str(plan)}
        )
        assert executed.rc == 0, executed.stdout
        execution = next(one for one in target.bundles() if "rehearsal" not in one.path.name)
        assert "SUCCESS" in execution.text("SUMMARY.txt"), executed.stdout
        # verified again, read-only
        again = target.play(
            "playbooks/execute.yml", extra_vars={"phasegate_phase_file": files.path, "phasegate_plan": str(plan)}
        )
        assert again.rc == 0, again.stdout
        # the rows of the new table; the application does not know the new column, so nothing of its own is lost
        confirmed = {
            "phasegate_execution": str(execution.path),
            "phasegate_confirm": execution.path.name,
            "phasegate_accept_loss": 2,
        }
        undone = target.play("playbooks/rollback.yml", extra_vars=confirmed)
        assert undone.rc == 0, undone.stdout
    assert target.dump("--schema-only") == schema
    written = target.value("SELECT count(*) FROM depot.events") - 250
    assert written > RATE
    seen(
        f"rehearsed, executed, verified again and rolled back, each SUCCESS, while {written} transactions wrote to the tables"
    )
