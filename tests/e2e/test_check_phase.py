# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An author's check of a phase: what it does in readable lines, and phase.yml brought up to date. Locks as the server takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.advice import advise_file
from ansible_collections.incomex.phasegate.tests.support.playbook import play

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play

BEFORE = """
CREATE SCHEMA yard;
CREATE TABLE yard.trucks (id int, plate varchar(10), weight int, axle int);
INSERT INTO yard.trucks SELECT n, n, n, n FROM generate_series(1, 100) n;
CREATE TABLE yard.drivers (id int PRIMARY KEY, truck int);
CREATE UNIQUE INDEX trucks_id ON yard.trucks (id);
ALTER TABLE yard.trucks ADD CONSTRAINT light CHECK (weight < 1000) NOT VALID;
CREATE MATERIALIZED VIEW yard.heavy AS SELECT id FROM yard.trucks WHERE weight > 50;
CREATE FUNCTION yard.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER note BEFORE UPDATE ON yard.trucks FOR EACH ROW EXECUTE FUNCTION yard.note();
CREATE TABLE yard.trips (at date NOT NULL, km int) PARTITION BY RANGE (at);
CREATE TABLE yard.trips_new (at date NOT NULL, km int);
"""
# A statement, and whether it rewrites yard.trucks.
STATEMENTS = {
    "ALTER TABLE yard.trucks ADD COLUMN note text": False,
    "ALTER TABLE yard.trucks ADD COLUMN made date DEFAULT current_date": False,
    "ALTER TABLE yard.trucks ADD COLUMN tag uuid DEFAULT gen_random_uuid()": True,
    "ALTER TABLE yard.trucks ADD COLUMN at timestamptz DEFAULT clock_timestamp()": True,
    "ALTER TABLE yard.trucks ADD COLUMN n serial": True,
    "ALTER TABLE yard.trucks ADD COLUMN n int GENERATED ALWAYS AS IDENTITY": True,
    "ALTER TABLE yard.trucks ADD COLUMN n int GENERATED ALWAYS AS (weight * 2) STORED": True,
    "ALTER TABLE yard.trucks ADD COLUMN n int DEFAULT 1 CHECK (n > 0)": False,
    "ALTER TABLE yard.trucks ADD CONSTRAINT heavy CHECK (weight >= 0)": False,
    "ALTER TABLE yard.trucks ADD CONSTRAINT one UNIQUE (plate)": False,
    "ALTER TABLE yard.trucks ADD CONSTRAINT one UNIQUE USING INDEX trucks_id": False,
    "ALTER TABLE yard.trucks ADD CONSTRAINT driver FOREIGN KEY (axle) REFERENCES yard.drivers NOT VALID": False,
    "ALTER TABLE yard.trucks VALIDATE CONSTRAINT light": False,
    "ALTER TABLE yard.trucks ALTER COLUMN id SET NOT NULL": False,
    "ALTER TABLE yard.trucks ALTER COLUMN weight SET DEFAULT 1": False,
    "ALTER TABLE yard.trucks ALTER COLUMN axle TYPE bigint": True,
    "ALTER TABLE yard.trucks ALTER COLUMN weight SET STATISTICS 10": False,
    "ALTER TABLE yard.trucks ALTER COLUMN weight SET (n_distinct = 5)": False,
    "ALTER TABLE yard.trucks SET (fillfactor = 50)": False,
    "ALTER TABLE yard.trucks RESET (fillfactor)": False,
    "ALTER TABLE yard.trucks DROP COLUMN weight CASCADE": False,
    "ALTER TABLE yard.trucks DROP CONSTRAINT light": False,
    "ALTER TABLE yard.trucks DISABLE TRIGGER note": False,
    "ALTER TABLE yard.trucks ENABLE ALWAYS TRIGGER note": False,
    "ALTER TABLE yard.trucks DISABLE TRIGGER USER": False,
    "ALTER TABLE yard.trucks ENABLE ROW LEVEL SECURITY": False,
    "ALTER TABLE yard.trucks CLUSTER ON trucks_id": False,
    "ALTER TABLE yard.trucks SET UNLOGGED": True,
    "ALTER TABLE yard.trucks RENAME COLUMN weight TO mass": False,
    "ALTER TABLE yard.trucks RENAME TO lorries": False,
    "CREATE INDEX trucks_weight ON yard.trucks (weight)": False,
    "CREATE TRIGGER other BEFORE INSERT ON yard.trucks FOR EACH ROW EXECUTE FUNCTION yard.note()": False,
    "CREATE POLICY own ON yard.trucks USING (true)": False,
    "CREATE STATISTICS yard.both ON plate, weight FROM yard.trucks": False,
    "CREATE RULE ignored AS ON DELETE TO yard.trucks DO INSTEAD NOTHING": False,
    "COMMENT ON TABLE yard.trucks IS 'x'": False,
    "COMMENT ON COLUMN yard.trucks.weight IS 'x'": False,
    "INSERT INTO yard.trucks VALUES (101)": False,
    "UPDATE yard.trucks SET weight = 1 WHERE id = 1": False,
    "DELETE FROM yard.trucks WHERE id = 1": False,
    "TRUNCATE yard.trucks": True,
    "ANALYZE yard.trucks": False,
    "DROP TRIGGER note ON yard.trucks": False,
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_lock_and_the_rewrite_that_are_named_are_the_servers(
    cluster: Cluster, empty_database: str, statement: str
) -> None:
    cluster.psql(BEFORE, empty_database)
    observed = cluster.psql(
        "\\t on\n\\a\nSELECT 'yard.trucks'::regclass::oid AS t, pg_relation_filenode('yard.trucks') AS f \\gset\nBEGIN;\n"
        f"{statement};\n"
        "SELECT 'held ' || coalesce(string_agg(mode, ' '), '') FROM pg_locks WHERE pid = pg_backend_pid() AND relation = :t;\n"
        "SELECT 'rewritten ' || (:f IS DISTINCT FROM pg_relation_filenode(:t));\nROLLBACK;\n",
        empty_database,
    )
    held = next(line for line in observed.splitlines() if line.startswith("held ")).split()[1:]
    (advice,) = advise_file(SourceFile("migrate.sql", "migrate.sql", f"{statement};\n".encode()))[1]
    assert advice.lock in held, (advice, held)
    order = ["AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock"]
    order += ["ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]
    assert advice.lock == max(held, key=order.index)
    rewritten = "rewritten true" in observed
    assert rewritten is STATEMENTS[statement]
    if not statement.startswith("TRUNCATE"):
        assert ("rewrites" in advice.work) is rewritten


def test_a_partition_is_attached_under_a_weaker_lock(cluster: Cluster, empty_database: str) -> None:
    cluster.psql(BEFORE, empty_database)
    statement = (
        "ALTER TABLE yard.trips ATTACH PARTITION yard.trips_new FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"
    )
    observed = cluster.psql(
        f"\\t on\n\\a\nBEGIN;\n{statement};\nSELECT mode FROM pg_locks WHERE relation = 'yard.trips'::regclass;\nROLLBACK;\n",
        empty_database,
    )
    (advice,) = advise_file(SourceFile("migrate.sql", "migrate.sql", f"{statement};\n".encode()))[1]
    assert advice.lock in observed.split()
    assert "AccessExclusiveLock" not in observed.split()


def test_what_the_file_itself_creates_costs_nobody_anything() -> None:
    sql = b"CREATE TABLE yard.a (id int);\nCREATE INDEX a_id ON yard.a (id);\nALTER TABLE yard.a ALTER COLUMN id SET NOT NULL;\n"
    assert not any(advise_file(SourceFile("migrate.sql", "migrate.sql", sql)).values())


def checked(directory: Path, phase: Path, arguments: str = "", **inputs: str) -> Play:
    extra = {"phasegate_phase_file": str(phase), **inputs}
    return play(directory, "playbooks/check_phase.yml", extra_vars=extra, arguments=arguments)


def test_an_author_reads_what_a_phase_does_and_repairs_it(tmp_path: Path) -> None:
    (tmp_path / "change.sql").write_text(
        "ALTER TABLE yard.trucks ADD COLUMN tag uuid DEFAULT gen_random_uuid();\n", encoding="utf-8"
    )
    extra = {
        "phasegate_phase": "tags",
        "phasegate_phases": str(tmp_path / "phases"),
        "phasegate_sql": str(tmp_path / "change.sql"),
    }
    assert play(tmp_path, "playbooks/new_phase.yml", extra_vars=extra).rc == 0
    phase = tmp_path / "phases" / "tags" / "phase.yml"
    shown = checked(tmp_path, phase)
    assert shown.rc == 0, shown.stdout
    assert "ALTER TABLE ADD COLUMN: yard.trucks" in shown.stdout
    assert "ACCESS EXCLUSIVE, reads and writes wait until COMMIT" in shown.stdout
    text = " ".join(shown.stdout.replace("- '", "").replace("'", "").split())
    assert "rewrites the table: the default differs from row to row" in text
    assert len(shown.stdout.splitlines()) < 40

    migrate = phase.parent / "migrate.sql"
    migrate.write_text(migrate.read_text(encoding="utf-8") + "INSERT INTO depot.notes VALUES (1);\n", encoding="utf-8")
    before = phase.read_text(encoding="utf-8")
    refused = checked(tmp_path, phase)
    assert refused.rc != 0
    assert "phase.yml is not up to date with its SQL." in refused.messages
    assert "+  schemas: [yard, depot]" in refused.messages
    assert phase.read_text(encoding="utf-8") == before
    # check mode shows it, and writes nothing
    assert checked(tmp_path, phase, phasegate_write="true", arguments="--check").rc == 0
    assert phase.read_text(encoding="utf-8") == before

    written = checked(tmp_path, phase, phasegate_write="true")
    assert written.rc == 0, written.stdout
    assert "+  schemas: [yard, depot]" in written.stdout
    assert "INSERT: depot.notes" in written.stdout
    after = phase.read_text(encoding="utf-8")
    assert "    INSERT: 1\n" in after
    assert checked(tmp_path, phase).rc == 0
    assert phase.read_text(encoding="utf-8") == after

    migrate.write_text("VACUUM yard.trucks;\n", encoding="utf-8")
    refused = checked(tmp_path, phase, phasegate_write="true")
    assert "VACUUM cannot be in a phase" in refused.messages
