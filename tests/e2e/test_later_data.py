# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollback loses nothing silently: rows of what came after the execution, and what an application wrote at the moment of COMMIT."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play


class Yard:
    """A target, and a phase of two statements on it."""

    def __init__(self, cluster: Cluster, database: str, directory: Path) -> None:
        self.target = Target(cluster, database, directory)
        self.directory = directory / "small"
        self.directory.mkdir()

    def write(self, ddl: bytes, undo: bytes, kinds: list[str], undo_kinds: list[str], tags: dict[str, int]) -> None:
        files = PhaseFiles(self.directory)
        definition: dict[str, Any] = {"scope": {"schemas": ["depot"], "statements": kinds}, "expect": {"tags": tags}}
        files.write(definition, ddl=ddl, rollback=undo)
        text = (self.directory / "phase.yml").read_text(encoding="utf-8")
        text = text.replace("  - DROP TABLE\n", "".join(f"  - {kind}\n" for kind in undo_kinds))
        (self.directory / "phase.yml").write_text(text, encoding="utf-8")

    def sql(self, text: str) -> str:
        return self.target.cluster.psql(text, self.target.database)

    def execute(self) -> Play:
        return self.target.play_phase(self.directory)

    def roll_back(self, **inputs: Any) -> Play:
        bundle = next(one for one in self.target.bundles() if "rollback" not in one.path.name)
        extra = {"phasegate_execution": str(bundle.path), "phasegate_confirm": bundle.path.name, **inputs}
        return self.target.play("playbooks/rollback.yml", extra_vars=extra)


@pytest.fixture
def yard(cluster: Cluster, empty_database: str, tmp_path: Path) -> Yard:
    return Yard(cluster, empty_database, tmp_path)


@pytest.mark.fault("loss-new-partition")
def test_rows_of_partitions_that_were_made_since_are_lost_rows(yard: Yard) -> None:
    yard.write(
        b"CREATE TABLE depot.flow (at date) PARTITION BY RANGE (at);\nCREATE TABLE depot.flow_1 PARTITION OF depot.flow DEFAULT;\n",
        b"DROP TABLE depot.flow;\n",
        ["CREATE TABLE"],
        ["DROP TABLE"],
        {"CREATE TABLE": 2},
    )
    yard.sql("CREATE SCHEMA depot")
    assert yard.execute().rc == 0
    yard.sql(
        "CREATE TABLE depot.flow_2 PARTITION OF depot.flow FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');"
        "INSERT INTO depot.flow VALUES ('2026-02-01'), ('2026-02-02'), ('1999-01-01')"
    )
    refused = yard.roll_back()
    assert refused.rc != 0
    assert "the rollback would lose 3 rows" in refused.messages
    assert "table depot.flow_2: 2 rows" in refused.messages
    assert yard.roll_back(phasegate_accept_loss=3).rc == 0


@pytest.mark.fault("loss-new-partition")
def test_a_table_beside_the_phase_that_the_rollback_drops_stops_it(yard: Yard) -> None:
    yard.write(
        b"CREATE TABLE depot.flow (at date);\n",
        b"DO $$DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'depot'::regnamespace AND relkind = 'r'"
        b" LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END$$;\n",
        ["CREATE TABLE"],
        ["DO", "DO EXECUTE"],
        {"CREATE TABLE": 1},
    )
    yard.sql("CREATE SCHEMA depot")
    assert yard.execute().rc == 0
    yard.sql("CREATE TABLE depot.other (id int); INSERT INTO depot.other VALUES (1)")
    refused = yard.roll_back()
    assert refused.rc != 0
    assert "the rollback would drop tables that were made since" in refused.messages
    assert "table depot.other" in refused.messages
    assert yard.sql("SELECT count(*) FROM depot.other") == "1"
    yard.sql("DELETE FROM depot.other")
    # an empty one is no loss
    assert yard.roll_back().rc == 0


@pytest.mark.fault("written-at-commit")
def test_a_write_that_waited_for_the_migration_is_the_applications(yard: Yard) -> None:
    yard.write(
        b"ALTER TABLE depot.parcels ADD COLUMN note text;\nSELECT pg_catalog.pg_sleep(4);\n",
        b"ALTER TABLE depot.parcels DROP COLUMN note;\n",
        ["ALTER TABLE ADD COLUMN", "SELECT"],
        ["ALTER TABLE DROP COLUMN"],
        {"ALTER TABLE": 1, "SELECT": 1},
    )
    yard.sql("CREATE SCHEMA depot; CREATE TABLE depot.parcels (id int); INSERT INTO depot.parcels VALUES (1), (2)")
    done = threading.Event()

    def write() -> None:
        """Wait until the migration holds its lock, then queue behind it."""
        with psycopg.connect(yard.target.cluster.dsn(yard.target.database), autocommit=True) as connection:
            locked = "SELECT count(*) FROM pg_locks WHERE relation = 'depot.parcels'::regclass AND mode = 'AccessExclusiveLock' AND granted"
            while not done.is_set():
                row = connection.execute(locked).fetchone()
                if row and row[0]:
                    # its text names a column that exists once the lock is granted
                    connection.execute(
                        "DO $$BEGIN LOCK TABLE depot.parcels; UPDATE depot.parcels SET note = 'kept' WHERE id = 1; END$$"
                    )
                    return

    writer = threading.Thread(target=write)
    writer.start()
    executed = yard.execute()
    done.set()
    writer.join(timeout=30)
    assert executed.rc == 0, executed.stdout
    assert yard.sql("SELECT note FROM depot.parcels WHERE id = 1") == "kept"
    refused = yard.roll_back()
    assert refused.rc != 0
    assert "the rollback would lose 1 rows" in refused.messages
    assert "column depot.parcels.note: 1 rows" in refused.messages


@pytest.mark.fault("rollback-below")
def test_a_phase_that_another_one_requires_is_not_rolled_back_first(
    cluster: Cluster, empty_database: str, tmp_path: Path
) -> None:
    """Both change data only, so the schema would not tell."""
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(
        "CREATE SCHEMA depot; CREATE TABLE depot.parcels (n int); INSERT INTO depot.parcels VALUES (100)",
        target.database,
    )
    for name, change, undo, more in (
        ("first", b"n + 1", b"n - 1", {}),
        ("second", b"n * 2", b"n / 2", {"requires": ["first"]}),
    ):
        (tmp_path / name).mkdir()
        files = PhaseFiles(tmp_path / name)
        definition = {
            "phase": name,
            "scope": {"schemas": ["depot"], "statements": ["UPDATE"]},
            "expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": [1]}},
            **more,
        }
        files.write(
            definition,
            ddl=b"UPDATE depot.parcels SET n = " + change + b";\n",
            rollback=b"UPDATE depot.parcels SET n = " + undo + b";\n",
        )
        text = (tmp_path / name / "phase.yml").read_text(encoding="utf-8")
        text = text.replace("  - DROP TABLE\n", "  - UPDATE\n  rows:\n    UPDATE:\n    - 1\n")
        (tmp_path / name / "phase.yml").write_text(text, encoding="utf-8")
        assert target.play_phase(tmp_path / name).rc == 0

    def roll_back(name: str) -> Play:
        bundle = next(
            one for one in target.bundles() if one.path.name.startswith(f"{name}_") and "rollback" not in one.path.name
        )
        extra = {"phasegate_execution": str(bundle.path), "phasegate_confirm": bundle.path.name}
        return target.play("playbooks/rollback.yml", extra_vars=extra)

    refused = roll_back("first")
    assert refused.rc != 0
    assert "C-09: a later phase that requires first is in place." in refused.messages
    assert "found: second_test_" in refused.messages
    assert roll_back("second").rc == 0
    assert roll_back("first").rc == 0
    assert cluster.psql("SELECT n FROM depot.parcels", target.database) == "100"


@pytest.mark.fault("rollback-again")
def test_another_spelling_of_its_path_is_the_same_execution(yard: Yard, tmp_path: Path) -> None:
    yard.write(
        b"UPDATE depot.parcels SET n = n + 1;\n",
        b"UPDATE depot.parcels SET n = n - 1;\n",
        ["UPDATE"],
        ["UPDATE"],
        {"UPDATE": 1},
    )
    path = yard.directory / "phase.yml"
    text = path.read_text(encoding="utf-8").replace(
        "  - UPDATE\n  cannot", "  - UPDATE\n  rows: {UPDATE: [1]}\n  cannot"
    )
    path.write_text(text.replace("    UPDATE: 1\n", "    UPDATE: 1\n  rows: {UPDATE: [1]}\n"), encoding="utf-8")
    yard.sql("CREATE SCHEMA depot; CREATE TABLE depot.parcels (n int); INSERT INTO depot.parcels VALUES (100)")
    executed = yard.execute()
    assert executed.rc == 0, executed.stdout
    (execution,) = (one.path for one in yard.target.bundles())
    assert yard.roll_back().rc == 0
    (tmp_path / "alias").symlink_to(execution)
    for spelled, confirm in (
        (str(execution), execution.name),
        (f"{execution}/.", "."),
        (f"{execution}/.", execution.name),
        (f"{execution}//", execution.name),
        (f"{execution}/sql/..", ".."),
        (str(tmp_path / "alias"), "alias"),
        (str(tmp_path / "alias"), execution.name),
    ):
        refused = yard.roll_back(phasegate_execution=spelled, phasegate_confirm=confirm)
        assert refused.rc != 0, spelled
        said = "was rolled back already" if confirm == execution.name else "the rollback is not confirmed"
        assert said in refused.messages, (spelled, refused.messages)
    assert yard.sql("SELECT n FROM depot.parcels") == "100"
