# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job adds and drops partitions between a rehearsal, its execution and the rollback, as the phase declares it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play

SETUP = """
CREATE SCHEMA app;
CREATE FUNCTION app.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE app.visit (id bigint, day date NOT NULL, page text DEFAULT '/', PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE app.visit_1 PARTITION OF app.visit FOR VALUES FROM ('2026-11-01') TO ('2026-11-02');
CREATE TABLE app.visit_2 PARTITION OF app.visit FOR VALUES FROM ('2026-11-02') TO ('2026-11-03');
INSERT INTO app.visit SELECT n, '2026-11-01'::date + n % 2 FROM generate_series(1, 60) n;
"""
DDL = b"ALTER TABLE app.visit ADD COLUMN agent text NOT NULL DEFAULT '';\nCREATE INDEX visit_agent ON app.visit (agent);\n"
ROLLBACK = b"DROP INDEX app.visit_agent;\nALTER TABLE app.visit DROP COLUMN agent;\n"
SCOPE = {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN", "CREATE INDEX"]}
UNDO = "[DROP INDEX, ALTER TABLE DROP COLUMN]"


CONCURRENTLY = b"""BEGIN;
CREATE INDEX visit_page ON ONLY app.visit (page);
COMMIT;
CREATE INDEX CONCURRENTLY visit_1_page ON app.visit_1 (page);
ALTER INDEX app.visit_page ATTACH PARTITION app.visit_1_page;
CREATE INDEX CONCURRENTLY visit_2_page ON app.visit_2 (page);
ALTER INDEX app.visit_page ATTACH PARTITION app.visit_2_page;
"""


def night(number: int) -> str:
    """Return the SQL of a job that adds the partition of one more day."""
    return f"CREATE TABLE app.visit_{number} PARTITION OF app.visit FOR VALUES FROM ('2026-11-0{number}') TO ('2026-11-0{number + 1}')"


def rehearsed(target: Target, directory: Path, *, declared: bool, policy: str) -> Path:
    """Return the plan of a phase that adds a column and an index to the partitioned table."""
    target.cluster.psql(SETUP, target.database)
    directory.mkdir()
    drift = {"drift": {"partitions_of": ["app.visit"]}} if declared else {}
    changes = {
        "scope": SCOPE,
        "expect": {"tags": {"ALTER TABLE": 1, "CREATE INDEX": 1}},
        "diff": {"policy": policy},
        **drift,
    }
    files = PhaseFiles(directory).write(changes, ddl=DDL, rollback=ROLLBACK)
    phase = directory / "phase.yml"
    phase.write_text(phase.read_text(encoding="utf-8").replace("statements:\n  - DROP TABLE", f"statements: {UNDO}"))
    with running_cluster(rehearsal=True) as other:
        played = target.rehearse(other, files.path)
    assert played.rc == 0, played.stdout
    (plan,) = (target.directory / "plans").glob("*/plan.json")
    return plan


def execute(target: Target, directory: Path, plan: Path) -> Play:
    return target.play_phase(directory, extra_vars={"phasegate_plan": str(plan)})


def roll_back(target: Target, run: Bundle, lost: int) -> Play:
    extra = {"phasegate_execution": str(run.path), "phasegate_confirm": run.path.name, "phasegate_accept_loss": lost}
    return target.play("playbooks/rollback.yml", extra_vars=extra)


@pytest.mark.fault("partitions-declared")
@pytest.mark.parametrize("policy", ["additions_only", "exact"])
def test_partitions_come_and_go_as_declared(cluster: Cluster, empty_database: str, tmp_path: Path, policy: str) -> None:
    target = Target(cluster, empty_database, tmp_path)
    plan = rehearsed(target, tmp_path / "visits", declared=True, policy=policy)
    review = (plan.parent / "review.md").read_text(encoding="utf-8")
    assert "its partitions may be added and dropped between the rehearsal and the execution" in review
    assert "app.visit_1, app.visit_2" in review

    # a table beside them, and a partition with something of its own
    cluster.psql("CREATE TABLE app.beside (id int)", empty_database)
    refused = execute(target, tmp_path / "visits", plan)
    assert refused.rc != 0
    assert "table app.beside added" in refused.messages
    cluster.psql(
        f"DROP TABLE app.beside; {night(3)};"
        "CREATE TRIGGER own BEFORE INSERT ON app.visit_3 FOR EACH ROW EXECUTE FUNCTION app.own();"
        "ALTER TABLE app.visit_3 ALTER page SET DEFAULT 'x'",
        empty_database,
    )
    refused = execute(target, tmp_path / "visits", plan)
    assert refused.rc != 0
    assert "trigger app.visit_3.own: neither from app.visit nor on another partition" in refused.messages
    assert "column app.visit_3.page: default 'x'::text, expected '/'::text" in refused.messages
    assert target.value("SELECT to_regclass('app.visit_agent') IS NULL")

    # a plain one came, another one went
    cluster.psql(f"DROP TABLE app.visit_3; DROP TABLE app.visit_1; {night(4)}", empty_database)
    executed = execute(target, tmp_path / "visits", plan)
    assert executed.rc == 0, executed.stdout
    run = next(one for one in reversed(target.bundles()) if "rehearsal" not in one.path.name)
    assert "partitions that came, as declared: app.visit_4; partitions that went, as declared: app.visit_1" in run.text(
        "report.md"
    )
    assert (
        target.value(
            "SELECT count(*) FROM pg_attribute WHERE attname = 'agent' AND attrelid::regclass::text LIKE 'app.visit%'"
        )
        == 6
    )

    # the next night: what was written there is lost with the rollback, and what is there of its own stops it
    cluster.psql(
        f"DROP TABLE app.visit_2; {night(5)}; {night(6)}; CREATE INDEX own ON app.visit_6 (page);"
        "INSERT INTO app.visit (id, day, agent) VALUES (1, '2026-11-05', 'x'), (2, '2026-11-05', 'y')",
        empty_database,
    )
    refused = roll_back(target, run, 0)
    assert refused.rc != 0
    assert "column app.visit_5.agent: 2 rows" in refused.messages
    refused = roll_back(target, run, 2)
    assert refused.rc != 0
    assert "index app.visit_6.own: neither from app.visit nor on another partition" in refused.messages
    cluster.psql("DROP INDEX app.own", empty_database)
    undone = roll_back(target, run, 2)
    assert undone.rc == 0, undone.stdout
    text = target.bundles()[-1].text("report.md")
    assert (
        "partitions that came, as declared: app.visit_5, app.visit_6; partitions that went, as declared: app.visit_2"
        in text
    )
    assert target.value("SELECT to_regclass('app.visit_agent') IS NULL")


def test_an_index_is_built_on_each_partition_concurrently_in_one_phase(
    cluster: Cluster, empty_database: str, tmp_path: Path
) -> None:
    target, directory = Target(cluster, empty_database, tmp_path), tmp_path / "pages"
    target.cluster.psql(SETUP, target.database)
    directory.mkdir()
    kinds = ["CREATE INDEX", "CREATE INDEX CONCURRENTLY", "ALTER INDEX ATTACH PARTITION"]
    changes = {
        "scope": {"schemas": ["app"], "statements": kinds},
        "expect": {"tags": {"BEGIN": 1, "COMMIT": 1, "CREATE INDEX": 3, "ALTER INDEX": 2}},
        # at COMMIT it waits for its partitions
        "diff": {"allow": [{"kind": "index", "object": "app.visit.visit_page"}]},
    }
    files = PhaseFiles(directory).write(changes, ddl=CONCURRENTLY, rollback=b"DROP INDEX IF EXISTS app.visit_page;\n")
    phase = directory / "phase.yml"
    phase.write_text(
        phase.read_text(encoding="utf-8").replace("statements:\n  - DROP TABLE", "statements: [DROP INDEX]")
    )
    with running_cluster(rehearsal=True) as other:
        played = target.rehearse(other, files.path)
    assert played.rc == 0, played.stdout
    (plan,) = (target.directory / "plans").glob("*/plan.json")
    review = (plan.parent / "review.md").read_text(encoding="utf-8")
    assert review.count("after COMMIT, outside the transaction") >= 4
    executed = execute(target, directory, plan)
    assert executed.rc == 0, executed.stdout
    valid = "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid::regclass::text LIKE 'app.visit%page'"
    assert target.value(valid) == 3
    run = next(one for one in reversed(target.bundles()) if "rehearsal" not in one.path.name)
    assert [one["tag"] for one in run.json("report.json")["migration"]["statements"]].count("ALTER INDEX") == 2
    undone = roll_back(target, run, 0)
    assert undone.rc == 0, undone.stdout
    assert target.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'visit%page'") == 0


@pytest.mark.fault("drift")
def test_undeclared_partitions_are_drift(cluster: Cluster, empty_database: str, tmp_path: Path) -> None:
    target = Target(cluster, empty_database, tmp_path)
    plan = rehearsed(target, tmp_path / "visits", declared=False, policy="additions_only")
    cluster.psql(night(3), empty_database)
    refused = execute(target, tmp_path / "visits", plan)
    assert refused.rc != 0
    assert "table app.visit_3 added" in refused.messages
