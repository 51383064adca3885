# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database whose texts are printed otherwise after a restore: rehearsed, executed and rolled back, however the author writes them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

SETUP = """
CREATE SCHEMA depot;
CREATE TABLE depot.parcel (id int PRIMARY KEY, state varchar(9) NOT NULL, weight numeric, width numeric,
  CONSTRAINT measures CHECK (weight BETWEEN 0 AND 99 AND width BETWEEN 1 AND 50),
  CONSTRAINT states CHECK (state IN ('new', 'sent')));
CREATE VIEW depot.open AS SELECT id, state FROM depot.parcel WHERE state IN ('new', 'kept');
CREATE INDEX fresh ON depot.parcel (id) WHERE state IN ('new', 'sent');
CREATE TABLE depot.log (id int, state varchar(9), parcel int,
  CONSTRAINT of_parcel FOREIGN KEY (parcel) REFERENCES depot.parcel) PARTITION BY LIST (id);
CREATE INDEX log_state ON depot.log (id) WHERE state IN ('new', 'sent');
CREATE TABLE depot.log_1 (id int, state varchar(9), parcel int);
CREATE TABLE depot.log_2 (id int, state varchar(9), parcel int,
  CONSTRAINT own_name FOREIGN KEY (parcel) REFERENCES depot.parcel);
ALTER TABLE depot.log ATTACH PARTITION depot.log_2 FOR VALUES IN (2);
"""
# a name in a check, a check that goes, a view as the server prints it, and what a partition inherits
DDL = b"""\
ALTER TABLE depot.parcel RENAME COLUMN width TO breadth;
ALTER TABLE depot.parcel DROP CONSTRAINT states;
DROP VIEW depot.open;
CREATE VIEW depot.open AS SELECT id, state FROM depot.parcel
  WHERE (state)::text = ANY (ARRAY[('new'::character varying)::text, ('kept'::character varying)::text]);
ALTER TABLE depot.log ATTACH PARTITION depot.log_1 FOR VALUES IN (1);
ALTER TABLE depot.log_2 RENAME CONSTRAINT own_name TO of_log;
"""
# the view as its author wrote it, the check as the server prints it
ROLLBACK = b"""\
ALTER TABLE depot.log_2 RENAME CONSTRAINT of_log TO own_name;
ALTER TABLE depot.log DETACH PARTITION depot.log_1;
ALTER TABLE depot.log_1 DROP CONSTRAINT of_parcel;
DROP INDEX depot.log_1_id_idx;
DROP VIEW depot.open;
CREATE VIEW depot.open AS SELECT id, state FROM depot.parcel WHERE state IN ('new', 'kept');
ALTER TABLE depot.parcel
  ADD CONSTRAINT states CHECK ((state)::text = ANY (ARRAY[('new'::character varying)::text, ('sent'::character varying)::text]));
ALTER TABLE depot.parcel RENAME COLUMN breadth TO width;
"""
DEFINITION = {
    "scope": {
        "schemas": ["depot"],
        "statements": [
            "ALTER TABLE RENAME COLUMN",
            "ALTER TABLE DROP CONSTRAINT",
            "DROP VIEW",
            "CREATE VIEW",
            "ALTER TABLE ATTACH PARTITION",
            "ALTER TABLE RENAME CONSTRAINT",
        ],
    },
    "expect": {"tags": {"ALTER TABLE": 4, "DROP VIEW": 1, "CREATE VIEW": 1}},
    "diff": {"policy": "exact"},
}


@pytest.mark.parametrize("restored", [False, True], ids=["as it was", "restored meanwhile"])
@pytest.mark.fault("text-reprinted")
def test_texts_are_compared_by_what_they_mean(
    cluster: Cluster, empty_database: str, tmp_path: Path, restored: bool
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(SETUP, empty_database)
    (tmp_path / "depot").mkdir()
    files = PhaseFiles(tmp_path / "depot").write(DEFINITION, ddl=DDL, rollback=ROLLBACK)
    text = (tmp_path / "depot" / "phase.yml").read_text(encoding="utf-8")
    kinds = "[ALTER TABLE RENAME CONSTRAINT, ALTER TABLE DETACH PARTITION, ALTER TABLE DROP CONSTRAINT, DROP INDEX, DROP VIEW, CREATE VIEW, ALTER TABLE ADD CONSTRAINT, ALTER TABLE RENAME COLUMN]"
    (tmp_path / "depot" / "phase.yml").write_text(text.replace("statements:\n  - DROP TABLE", f"statements: {kinds}"))
    with running_cluster(rehearsal=True) as other:
        rehearsed = target.rehearse(other, files.path)
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    if restored:
        archive = tmp_path / "dump"
        archive.write_bytes(target.dump("--format=custom"))
        cluster.drop_database(empty_database)
        cluster.create_database(empty_database)
        restore = [str(bin_directory() / "pg_restore"), "--dbname", cluster.dsn(empty_database), str(archive)]
        subprocess.run(restore, check=True)
        # a name is no expression: it is given back
        cluster.psql("ALTER TABLE depot.log_2 RENAME CONSTRAINT of_parcel TO own_name", empty_database)
    executed = target.play_phase(tmp_path / "depot", extra_vars={"phasegate_plan": str(plan)})
    assert "outcome       SUCCESS" in executed.stdout, executed.stdout
    run = next(one.path for one in target.bundles() if "rehearsal" not in one.path.name)
    undone = target.play(
        "playbooks/rollback.yml", extra_vars={"phasegate_execution": str(run), "phasegate_confirm": run.name}
    )
    assert undone.rc == 0, undone.stdout
