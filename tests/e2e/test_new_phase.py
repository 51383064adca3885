# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase from its SQL alone: drafted, rehearsed with its drafted rollback, and executed by its drafted playbook."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.playbook import play
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play

BEFORE = """
CREATE SCHEMA depot;
CREATE TABLE depot.parcels (id int PRIMARY KEY, weight int, touched int DEFAULT 0);
INSERT INTO depot.parcels SELECT n, n FROM generate_series(1, 5) n;
"""
CHANGES = {
    "objects of all kinds": """BEGIN;
CREATE TYPE depot.mood AS ENUM ('calm', 'cross');
CREATE TABLE depot.crates (id int PRIMARY KEY, parcel int REFERENCES depot.parcels, mood depot.mood);
CREATE INDEX crates_parcel ON depot.crates (parcel);
COMMENT ON COLUMN depot.crates.mood IS 'it''s a mood';
ALTER TABLE depot.crates ENABLE ROW LEVEL SECURITY;
CREATE POLICY calm ON depot.crates USING (mood = 'calm');
INSERT INTO depot.crates VALUES (1, 1, 'calm'), (2, 2, 'cross');
CREATE VIEW depot.cross AS SELECT id FROM depot.crates WHERE mood = 'cross';
CREATE FUNCTION depot.touch(step int DEFAULT 1) RETURNS int LANGUAGE sql IMMUTABLE RETURN step;
COMMIT;
""",
    "a column with a backfill": """BEGIN;
ALTER TABLE depot.parcels ADD COLUMN state text;
UPDATE depot.parcels SET state = 'new' WHERE state IS NULL;
COMMIT;
CREATE INDEX CONCURRENTLY parcels_state ON depot.parcels (state);
""",
}


def draft(directory: Path, name: str, **inputs: str) -> Play:
    extra = {"phasegate_phase": name, "phasegate_phases": str(directory / "phases"), **inputs}
    return play(directory, "playbooks/new_phase.yml", extra_vars=extra)


@pytest.mark.parametrize("change", CHANGES)
def test_a_draft_is_rehearsed_and_executed_as_it_is(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster, change: str
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(BEFORE, target.database)
    (tmp_path / "change.sql").write_text(CHANGES[change], encoding="utf-8")
    drafted = draft(tmp_path, "depot-change", phasegate_sql=str(tmp_path / "change.sql"))
    assert drafted.rc == 0, drafted.stdout
    assert "to undo by hand" not in drafted.stdout
    phase = tmp_path / "phases" / "depot-change"
    assert sorted(one.name for one in phase.iterdir()) == ["migrate.sql", "phase.yml", "rollback.sql"]

    rehearsed = target.rehearse(rehearsal_cluster, str(phase / "phase.yml"))
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    executed = target.play(str(tmp_path / "depot-change.yml"), extra_vars={"phasegate_plan": str(plan)})
    assert executed.rc == 0, executed.stdout
    assert "outcome       SUCCESS" in executed.stdout


def test_one_refusal_tells_what_a_draft_lacks(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(BEFORE, target.database)
    phase = tmp_path / "phases" / "light"
    phase.mkdir(parents=True)
    (phase / "migrate.sql").write_text(
        "ALTER TABLE depot.parcels ADD CONSTRAINT light CHECK (weight < 99);\n"
        "DO $$BEGIN UPDATE depot.parcels SET touched = 1 WHERE id > 2; END$$;\n",
        encoding="utf-8",
    )
    assert draft(tmp_path, "light").rc == 0
    # what undoes DO is left to a person: here nothing
    rollback = phase / "rollback.sql"
    lines = rollback.read_text(encoding="utf-8").splitlines(keepends=True)
    rollback.write_text("".join(line for line in lines if not line.startswith("--")), encoding="utf-8")
    about = {"phasegate_phase_file": str(phase / "phase.yml"), "phasegate_write": "true"}
    assert play(tmp_path, "playbooks/check_phase.yml", extra_vars=about).rc == 0
    refused = target.rehearse(rehearsal_cluster, str(phase / "phase.yml"))
    assert refused.rc != 0
    text = (phase / "phase.yml").read_text(encoding="utf-8")
    advised = [
        textwrap.dedent("\n".join(block)) + "\n"
        for block in indented(refused.messages)
        if block[0].strip() in ("data:", "diff:")
    ]
    assert sorted(one.partition(":")[0] for one in advised) == ["data", "diff"], refused.messages
    lines = [line for line in text.splitlines() if not line.startswith("diff:")]
    (phase / "phase.yml").write_text("\n".join([*lines, *advised]), encoding="utf-8")
    rehearsed = target.rehearse(rehearsal_cluster, str(phase / "phase.yml"))
    assert rehearsed.rc == 0, rehearsed.stdout


def indented(message: str) -> list[list[str]]:
    """Return the blocks of lines that begin with a key of phase.yml, each with what is indented below it."""
    blocks: list[list[str]] = []
    for line in message.splitlines():
        key = line.strip() in ("data:", "diff:")
        if key:
            blocks.append([line])
        elif blocks and len(line) - len(line.lstrip()) > len(blocks[-1][0]) - len(blocks[-1][0].lstrip()):
            blocks[-1].append(line)
    return blocks


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "change.sql").write_text("CREATE TABLE depot.t (id int);\n", encoding="utf-8")
    given = {"phasegate_sql": str(tmp_path / "change.sql")}
    phase = tmp_path / "phases" / "one"
    phase.mkdir(parents=True)
    (phase / "rollback.sql").write_text("-- mine\n", encoding="utf-8")
    refused = draft(tmp_path, "one", **given)
    assert refused.rc != 0
    assert "A file of this phase is there already; nothing was written." in refused.messages
    assert f"found: {phase / 'rollback.sql'}\n" in refused.messages
    assert [one.name for one in phase.iterdir()] == ["rollback.sql"]
    assert (phase / "rollback.sql").read_text(encoding="utf-8") == "-- mine\n"

    # another SQL than the one that is there
    (tmp_path / "phases" / "two").mkdir()
    (tmp_path / "phases" / "two" / "migrate.sql").write_text("CREATE TABLE depot.u (id int);\n", encoding="utf-8")
    assert "has another migrate.sql" in draft(tmp_path, "two", **given).messages
    # without a path the one that is there
    assert draft(tmp_path, "two").rc == 0


def test_what_a_person_has_to_do_is_said(tmp_path: Path) -> None:
    sql = "ALTER TABLE depot.parcels ADD COLUMN state text;\nDELETE FROM depot.parcels;\nDROP TABLE depot.old;\n"
    (tmp_path / "change.sql").write_text(sql, encoding="utf-8")
    drafted = draft(tmp_path, "three", phasegate_sql=str(tmp_path / "change.sql"))
    assert drafted.rc == 0, drafted.stdout
    assert "to undo by hand, in rollback.sql: lines 2, 3 of migrate.sql" in drafted.stdout
    rollback = (tmp_path / "phases" / "three" / "rollback.sql").read_text(encoding="utf-8")
    assert "-- WRITE BY HAND: line 3: DROP TABLE depot.old\n--   needed: the definition from before" in rollback
    assert "-- WRITE BY HAND: line 2: DELETE FROM depot.parcels\n--   needed: the rows, kept somewhere" in rollback

    # an extension has no table to look for: the check is a person's, and the plan's refusal is shown
    (tmp_path / "extension.sql").write_text("CREATE EXTENSION vector;\n", encoding="utf-8")
    drafted = draft(tmp_path, "extended", phasegate_sql=str(tmp_path / "extension.sql"))
    assert "expected: checks before COMMIT and again after it" in drafted.stdout

    sql = "VACUUM depot.parcels;\n\\d\nDO $$BEGIN COMMIT; END$$;\n"
    (tmp_path / "bad.sql").write_text(sql, encoding="utf-8")
    refused = draft(tmp_path, "four", phasegate_sql=str(tmp_path / "bad.sql"))
    assert "VACUUM cannot be in a phase" in refused.messages
    assert "a psql command" in refused.messages
    assert "COMMIT in DO" in refused.messages
    assert not (tmp_path / "phases" / "four").exists()
    assert "Invalid name of a phase" in draft(tmp_path, "../x", phasegate_sql=str(tmp_path / "change.sql")).messages
