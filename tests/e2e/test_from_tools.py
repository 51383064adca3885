# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration of another tool becomes a phase: converted, observed on a copy, and rehearsed with its own down script."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from ansible_collections.incomex.phasegate.tests.support.playbook import play
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE TABLE parcels (id int PRIMARY KEY, weight int);
INSERT INTO parcels SELECT n, n FROM generate_series(1, 5) n;
"""

MIGRATION = """-- migrate:up transaction:false
SET statement_timeout = 0;
SET lock_timeout = '2s';
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TABLE crates (id serial PRIMARY KEY, parcel int REFERENCES parcels (id), mood mood DEFAULT 'calm');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$;
CREATE TRIGGER touch BEFORE UPDATE ON crates FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE parcels ADD COLUMN state text;
UPDATE parcels SET state = 'new' WHERE id > 2;
INSERT INTO crates (parcel) SELECT id FROM parcels;
CREATE INDEX CONCURRENTLY parcels_state ON parcels (lower(state));

-- migrate:down
DROP INDEX parcels_state;
ALTER TABLE parcels DROP COLUMN state;
DROP TABLE crates;
DROP FUNCTION touch();
DROP TYPE mood;
"""


def test_a_migration_of_dbmate_is_rehearsed(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(BEFORE, target.database)
    source = tmp_path / "db" / "1_crates.sql"
    source.parent.mkdir()
    source.write_text(MIGRATION, encoding="utf-8")
    given = {"phasegate_phase": "crates", "phasegate_phases": str(tmp_path / "phases"), "phasegate_from": str(source)}
    drafted = play(tmp_path, "playbooks/new_phase.yml", extra_vars=given)
    assert drafted.rc == 0, drafted.stdout
    assert "names without a schema are taken as of public" in drafted.stdout
    assert source.read_text(encoding="utf-8") == MIGRATION

    phase = str(tmp_path / "phases" / "crates" / "phase.yml")
    shown = target.rehearse(rehearsal_cluster, phase, phasegate_draft="true", phasegate_write="true")
    assert shown.rc == 0, shown.stdout
    definition = yaml.safe_load((tmp_path / "phases" / "crates" / "phase.yml").read_text(encoding="utf-8"))
    assert definition["expect"]["rows"] == {"UPDATE": [{"min": 3}], "INSERT": [{"min": 5}]}
    rehearsed = target.rehearse(rehearsal_cluster, phase)
    assert rehearsed.rc == 0, rehearsed.stdout
    assert len(list((tmp_path / "plans").glob("*/plan.json"))) == 1


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "V1__a.sql").write_text("VACUUM a;\nCREATE TABLE ${schema}.a (id int);\n", encoding="utf-8")
    given = {"phasegate_phase": "a", "phasegate_phases": str(tmp_path / "phases")}
    refused = play(
        tmp_path, "playbooks/new_phase.yml", extra_vars={**given, "phasegate_from": str(tmp_path / "V1__a.sql")}
    )
    assert refused.rc != 0
    for told in ("V1__a.sql:1: VACUUM cannot be in a phase", "V1__a.sql:2: a placeholder"):
        assert told in refused.messages
    assert not (tmp_path / "phases").exists()
