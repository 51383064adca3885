# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A draft on its copy: what it shows is proposed for phase.yml, and with the proposal the phase is rehearsed as it is."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.tests.support.playbook import play
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE SCHEMA depot;
CREATE TABLE depot.parcels (id int PRIMARY KEY, weight int, touched timestamptz NOT NULL DEFAULT '2020-02-02');
CREATE TABLE depot.log (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
CREATE VIEW depot.heavy AS SELECT id FROM depot.parcels WHERE weight > 3;
INSERT INTO depot.parcels SELECT n, n FROM generate_series(1, 5) n;
CREATE FUNCTION depot.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.touched := clock_timestamp();
  INSERT INTO depot.log (note) VALUES (NEW.id);
  RETURN NEW;
END$$;
CREATE TRIGGER touch BEFORE UPDATE ON depot.parcels FOR EACH ROW EXECUTE FUNCTION depot.touch();
"""

CHANGE = """BEGIN;
ALTER TABLE depot.parcels ADD COLUMN state text;
UPDATE depot.parcels SET state = 'new' WHERE id > 2;
UPDATE depot.parcels SET state = 'old' WHERE id <= 2;
INSERT INTO depot.log (note) VALUES ('first'), ('second');
ALTER TABLE depot.parcels ADD COLUMN price numeric NOT NULL DEFAULT pg_catalog.random();
DROP VIEW depot.heavy;
CREATE TABLE depot.crates (id int PRIMARY KEY, parcel int NOT NULL REFERENCES depot.parcels);
GRANT SELECT ON depot.crates TO PUBLIC;
COMMENT ON TABLE depot.parcels IS 'all of them';
SELECT count(*) AS parcels, 'done' AS said FROM depot.parcels WHERE id <= 2;
COMMIT;
CREATE INDEX CONCURRENTLY parcels_state ON depot.parcels (state);
"""

ROLLBACK = """DROP TABLE depot.crates;
COMMENT ON TABLE depot.parcels IS NULL;
CREATE VIEW depot.heavy AS SELECT id FROM depot.parcels WHERE weight > 3;
ALTER TABLE depot.parcels DROP COLUMN price;
DELETE FROM depot.log WHERE note IN ('first', 'second');
ALTER TABLE depot.parcels DROP COLUMN state;
"""


def drafted(cluster: Cluster, database: str, tmp_path: Path, change: str) -> Path:
    """Return the phase.yml that new_phase drafts from a change of the tables of before."""
    cluster.psql(BEFORE, database)
    (tmp_path / "change.sql").write_text(change, encoding="utf-8")
    given = {"phasegate_phase": "depot-change", "phasegate_phases": str(tmp_path / "phases")}
    written = play(
        tmp_path, "playbooks/new_phase.yml", extra_vars={**given, "phasegate_sql": str(tmp_path / "change.sql")}
    )
    assert written.rc == 0, written.stdout
    return tmp_path / "phases" / "depot-change" / "phase.yml"


@pytest.fixture
def phase(cluster: Cluster, empty_database: str, tmp_path: Path) -> Path:
    """Return the drafted phase of the change, with a rollback that a person has completed."""
    phase = drafted(cluster, empty_database, tmp_path, CHANGE)
    # its digest and its kinds are not in phase.yml yet: a draft knows them
    phase.with_name("rollback.sql").write_text(ROLLBACK, encoding="utf-8")
    return phase


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def test_what_a_draft_shows_is_proposed_written_and_then_proved(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster, phase: Path
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    before = phase.read_text(encoding="utf-8")
    shown = target.rehearse(rehearsal_cluster, str(phase), phasegate_draft="true")
    assert shown.rc == 0, shown.stdout
    assert phase.read_text(encoding="utf-8") == before
    assert not (tmp_path / "plans").exists()
    assert "Rehearsal of phase depot-change r1 for test: DRAFTED" in shown.stdout
    (bundle,) = target.bundles()
    assert bundle.path.joinpath("observed.json").is_file()
    report = json.loads(bundle.path.joinpath("report.json").read_text(encoding="utf-8"))
    assert report["outcome"] == "DRAFTED"

    assert "next: read it, then write it:" in shown.stdout
    next_one = f"incomex.phasegate.rehearse -l HOST -e phasegate_phase_file={phase} -e phasegate_draft=true -e phasegate_write=true"
    assert next_one in shown.stdout

    written = target.rehearse(rehearsal_cluster, str(phase), phasegate_draft="true", phasegate_write="true")
    assert written.rc == 0, written.stdout
    assert "next: read phase.yml, then rehearse:" in written.stdout
    # as it is in the file: neither in quotes nor in pieces
    longest = max(set(phase.read_text(encoding="utf-8").splitlines()) - set(before.splitlines()), key=len)
    assert f" +{longest}\n" in shown.stdout
    definition, text = loaded(phase), phase.read_text(encoding="utf-8")
    assert definition["expect"]["rows"] == {"UPDATE": [{"min": 3}, 2], "INSERT": [2]}
    assert definition["expect"]["result"] == {"parcels": 2, "said": "done"}
    assert definition["scope"]["rewrites"] == ["depot.parcels"]
    assert definition["data"]["depot.log"] == {"INSERT": {"min": 7}}
    assert {"class": "destructive", "kind": "view", "object": "depot.heavy"} in definition["diff"]["allow"]
    assert re.search(r"# removed: .* -> none\n +- \{class: destructive, kind: view, object: depot.heavy\}", text)
    assert definition["row_counts"] == ["depot.parcels"]
    assert definition["measure"] == [
        {"id": "parcels.touched", "relation": "depot.parcels", "key": "id", "column": "touched"}
    ]
    assert definition["rollback"]["rows"] == {"DELETE": [2]}
    checks = {one["title"]: one for one in definition["verify"]}
    assert checks["depot.crates has its columns"]["expect"] == [
        {"column": "id", "type": "integer", "required": True},
        {"column": "parcel", "type": "integer", "required": True},
    ]
    state = {"type": "text", "required": False, "default": None, "comment": None}
    assert checks["depot.parcels has column state as defined"]["expect"] == state
    assert checks["depot.parcels_state is as defined"]["after_commit"] is True
    assert checks["PUBLIC has these privileges on depot.crates"]["expect"] == "SELECT"
    assert checks["depot.parcels has its comment"]["expect"] == "all of them"
    assert checks["depot.heavy does not exist"]["expect"] is True
    assert definition["rollback"]["cannot_restore"] == [
        "rows inserted into depot.log stay",
        "touched of depot.parcels keeps its new values",
    ]

    rollback = phase.with_name("rollback.sql")
    rollback.write_text(f"{ROLLBACK}-- WRITE BY HAND: line 5: INSERT INTO depot.log", encoding="utf-8")
    refused = target.rehearse(rehearsal_cluster, str(phase))
    assert refused.rc != 0
    assert f"{rollback}:7: a statement of the rollback is not written yet" in refused.stdout
    rollback.write_text(ROLLBACK, encoding="utf-8")
    rehearsed = target.rehearse(rehearsal_cluster, str(phase))
    assert rehearsed.rc == 0, rehearsed.stdout
    # a table grows between rehearsal and execution
    cluster.psql("INSERT INTO depot.parcels VALUES (6, 1)", empty_database)
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    executed = target.play(str(tmp_path / "depot-change.yml"), extra_vars={"phasegate_plan": str(plan)})
    assert executed.rc == 0, executed.stdout


def test_what_is_declared_stays_and_the_difference_is_told(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster, phase: Path
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    text = phase.read_text(encoding="utf-8").replace("UPDATE: {each: {min: 0}}", "UPDATE: [3, 9]")
    phase.write_text(text, encoding="utf-8")
    (phase.parent / "rollback.sql").write_text(ROLLBACK.replace("CREATE VIEW", "--"), encoding="utf-8")
    written = target.rehearse(rehearsal_cluster, str(phase), phasegate_draft="true", phasegate_write="true")
    assert written.rc == 0, written.stdout
    assert loaded(phase)["expect"]["rows"]["UPDATE"] == [3, 9]
    line = CHANGE[: CHANGE.index("UPDATE depot.parcels SET state = 'old'")].count("\n") + 1
    assert f"declared: UPDATE of line {line}: 9 rows; the copy showed: UPDATE of line {line}: 2 rows" in written.stdout
    assert "the rollback does not restore the schema: C-09: the schema would differ" in written.stdout
    assert "what would restore it, to be read and put into rollback.sql:" in written.stdout
    assert 'CREATE VIEW "depot"."heavy" AS' in written.stdout
    assert "next: complete rollback.sql, then draft again:" in written.stdout
    # what no definition permits stops a draft, as it stops a rehearsal
    cluster.psql("ALTER TABLE depot.parcels ADD COLUMN price int", target.database)
    stopped = target.rehearse(rehearsal_cluster, str(phase), phasegate_draft="true", phasegate_write="true")
    assert stopped.rc != 0
    assert target.bundles()[-1].path.joinpath("observed.json").exists() is False


TENANTS = """BEGIN;
ALTER TABLE depot.parcels ADD COLUMN tenant text;
UPDATE depot.parcels SET tenant = 'a';
ALTER TABLE depot.parcels ALTER COLUMN tenant SET NOT NULL;
ALTER TABLE depot.parcels ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON depot.parcels USING (tenant = pg_catalog.current_setting('depot.tenant', true));
ALTER TABLE depot.parcels ADD CONSTRAINT weighed CHECK (weight >= 0) NOT VALID;
ALTER TABLE depot.parcels VALIDATE CONSTRAINT weighed;
ALTER TABLE depot.log ADD COLUMN kind text;
COMMIT;
UPDATE depot.log SET kind = 'old' WHERE kind IS NULL;
"""


def test_a_draft_of_live_tables_holds_when_they_have_grown(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster
) -> None:
    phase = drafted(cluster, empty_database, tmp_path, TENANTS)
    text = phase.read_text(encoding="utf-8")
    phase.write_text(f"{text}\nbatches: {{depot.log: {{by: id, rows: 2}}}}\n", encoding="utf-8")
    target = Target(cluster, empty_database, tmp_path)
    written = target.rehearse(rehearsal_cluster, str(phase), phasegate_draft="true", phasegate_write="true")
    assert written.rc == 0, written.stdout
    definition = loaded(phase)
    assert definition["expect"]["rows"] == {"UPDATE": [{"min": 5}, {"min": 0}]}
    assert definition["data"]["depot.log"] == {"INSERT": {"min": 5}}
    checks = {one["title"]: one for one in definition["verify"]}
    assert checks["depot.parcels has row level security as defined"]["expect"] == {"enabled": True, "forced": False}
    assert checks["depot.parcels has policy own as defined"]["expect"]["command"] == "ALL"
    assert checks["no row of depot.log has NULL in kind"]["after_commit"] is True
    # what is NOT NULL needs none
    assert "no row of depot.parcels has NULL in tenant" not in checks

    rehearsed = target.rehearse(rehearsal_cluster, str(phase))
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    cluster.psql(
        "INSERT INTO depot.parcels VALUES (6, 6); INSERT INTO depot.log (note) VALUES ('live')", empty_database
    )
    executed = target.play(str(tmp_path / "depot-change.yml"), extra_vars={"phasegate_plan": str(plan)})
    assert executed.rc == 0, executed.stdout
