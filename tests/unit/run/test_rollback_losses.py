# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollback would lose: stored values that somebody wrote since the phase, and nothing that the server derives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import DataBaseline
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback_losses import (
    DataLoss,
    data_baseline,
    data_holders,
    data_losses,
    recorded_holders,
    require_counted,
    written_content,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import read_changed, take_snapshot
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

OLD = "CREATE SCHEMA shop; CREATE TABLE shop.cart (id int PRIMARY KEY, net int); INSERT INTO shop.cart VALUES (1, 5), (2, 0);"
PAIR = "CREATE TYPE shop.pair AS (lo int, hi int);"
WIDER = "ALTER TYPE shop.pair ADD ATTRIBUTE mid int"


def lost(  # noqa: PLR0917
    cluster: Cluster, database: str, setup: str, phase: str, since: str, at_commit: str = "SELECT 1"
) -> dict[str, int]:
    """Return the rows that a rollback would lose, by what, after a phase and what an application did since."""
    cluster.psql(OLD + setup, database)
    with client_of(cluster, database).session() as session:
        before = take_snapshot(session)
        # as C-07 does: read in the transaction what it wrote, and the rest after COMMIT
        session.execute("BEGIN")
        counted = DataBaseline.read(session)
        for statement in phase.split("; "):
            session.execute(statement)
        tables, changes = counted.observe(session).tables, diff(before, read_changed(session, before)).as_list()
        content = written_content(session, changes, tables)
        session.execute("COMMIT")
        cluster.psql(at_commit, database)
        known = data_baseline(session, changes, content, tables)
        cluster.psql(since, database)
        session.execute("BEGIN")
        found = data_losses(session, [one for one in recorded_holders(known) if one.exists(session)], known)
        session.execute("ROLLBACK")
    require_counted(found)
    return {loss.what: loss.rows for loss in found}


@pytest.mark.fault("derived-data")
@pytest.mark.parametrize(
    ("setup", "phase"),
    [
        (
            "CREATE VIEW shop.v AS SELECT id FROM shop.cart",
            "CREATE OR REPLACE VIEW shop.v AS SELECT id, 10 / net AS part FROM shop.cart",
        ),
        ("", "CREATE VIEW shop.v AS SELECT 10 / net AS part FROM shop.cart"),
        ("", "CREATE MATERIALIZED VIEW shop.m AS SELECT id FROM shop.cart"),
        ("", "ALTER TABLE shop.cart ADD COLUMN gross int GENERATED ALWAYS AS (net * 2) STORED"),
        (
            "CREATE FOREIGN DATA WRAPPER afar; CREATE SERVER there FOREIGN DATA WRAPPER afar;",
            "CREATE FOREIGN TABLE shop.far (x int) SERVER there",
        ),
        (
            "CREATE FOREIGN DATA WRAPPER afar; CREATE SERVER there FOREIGN DATA WRAPPER afar;"
            "CREATE FOREIGN TABLE shop.far (x int) SERVER there",
            "ALTER FOREIGN TABLE shop.far ADD COLUMN y int",
        ),
        (PAIR, WIDER),
        (PAIR + "CREATE TABLE shop.uses (p shop.pair); INSERT INTO shop.uses VALUES (ROW(1, 2)), (NULL)", WIDER),
        ("ALTER TABLE shop.cart RENAME COLUMN net TO amount", "ALTER TABLE shop.cart RENAME COLUMN amount TO net"),
    ],
)
def test_what_is_derived_or_was_there_is_no_data(cluster: Cluster, empty_database: str, setup: str, phase: str) -> None:
    assert lost(cluster, empty_database, setup, phase, "INSERT INTO shop.cart VALUES (3, 7)") == {}


@pytest.mark.fault("derived-data", "values-exchanged")
@pytest.mark.parametrize(
    ("setup", "phase", "since", "expected"),
    [
        ("", "CREATE TABLE shop.new (id int)", "INSERT INTO shop.new VALUES (1), (2)", {"table shop.new": 2}),
        (
            "",
            "ALTER TABLE shop.cart ADD COLUMN c int",
            "UPDATE shop.cart SET c = 1 WHERE id = 1",
            {"column shop.cart.c": 1},
        ),
        ("", "ALTER TABLE shop.cart ADD COLUMN c int DEFAULT 4", "SELECT 1", {}),
        # the same values, but not in the same rows
        (
            "",
            "ALTER TABLE shop.cart ADD COLUMN c int; UPDATE shop.cart SET c = id",
            "UPDATE shop.cart SET c = 3 - c",
            {"column shop.cart.c": 2},
        ),
        ("", "ALTER TABLE shop.cart ADD COLUMN c int; UPDATE shop.cart SET c = id", "UPDATE shop.cart SET net = 8", {}),
        (
            "CREATE TABLE shop.bare (t text); INSERT INTO shop.bare VALUES ('north'), ('south')",
            "ALTER TABLE shop.bare ADD COLUMN c text; UPDATE shop.bare SET c = t",
            "UPDATE shop.bare SET c = CASE c WHEN 'north' THEN 'south' ELSE 'north' END",
            {"column shop.bare.c": 2},
        ),
        (
            PAIR + "CREATE TABLE shop.uses (a int, b int, p shop.pair, PRIMARY KEY (b, a));"
            " INSERT INTO shop.uses VALUES (1, 1, (0, 0)), (1, 2, (0, 0))",
            WIDER + "; UPDATE shop.uses SET p.mid = b",
            "UPDATE shop.uses SET p.mid = 3 - b",
            {"attribute shop.pair.mid in column shop.uses.p": 2},
        ),
        # each row counts once, where it is stored
        (
            "",
            "CREATE TABLE shop.part (d int) PARTITION BY LIST (d); CREATE TABLE shop.part_1 PARTITION OF shop.part FOR VALUES IN (1)",
            "INSERT INTO shop.part VALUES (1), (1)",
            {"table shop.part_1": 2},
        ),
        (
            "CREATE TABLE shop.part (d int) PARTITION BY LIST (d); CREATE TABLE shop.part_1 PARTITION OF shop.part FOR VALUES IN (1);"
            "INSERT INTO shop.part VALUES (1)",
            "ALTER TABLE shop.part ADD COLUMN c int",
            "UPDATE shop.part SET c = 1",
            {"column shop.part_1.c": 1},
        ),
        (
            "CREATE TABLE shop.child () INHERITS (shop.cart); INSERT INTO shop.child VALUES (9, 9)",
            "ALTER TABLE shop.cart ADD COLUMN c int",
            "UPDATE shop.cart SET c = 1",
            {"column shop.cart.c": 2, "column shop.child.c": 1},
        ),
        (
            PAIR
            + "CREATE TABLE shop.uses (p shop.pair); INSERT INTO shop.uses VALUES (ROW(1, 2)), (ROW(3, 4)), (NULL)",
            WIDER,
            "UPDATE shop.uses SET p.mid = 2 WHERE (p).lo = 1",
            {"attribute shop.pair.mid in column shop.uses.p": 1},
        ),
        (
            PAIR + "CREATE DOMAIN shop.sound AS shop.pair; CREATE TYPE shop.box AS (name text, pairs shop.sound[]);"
            "CREATE TABLE shop.uses (b shop.box[])",
            WIDER,
            "INSERT INTO shop.uses VALUES (ARRAY[ROW('x', ARRAY[ROW(1, 2, NULL)]::shop.pair[]::shop.sound[])]::shop.box[]), (NULL),"
            " (ARRAY[ROW('y', NULL), ROW('z', ARRAY[ROW(1, 2, NULL), ROW(1, 2, 3)]::shop.pair[]::shop.sound[])]::shop.box[])",
            {"attribute shop.pair.mid in column shop.uses.b": 1},
        ),
        (
            PAIR
            + "CREATE TYPE shop.span AS RANGE (subtype = shop.pair); CREATE TABLE shop.uses (s shop.span, m shop.span_multirange)",
            WIDER,
            "INSERT INTO shop.uses VALUES ('[\"(1,1,)\",\"(2,2,2)\")', NULL), (NULL, '{[\"(1,1,1)\",\"(2,2,)\")}'), ('empty', '{}')",
            {"attribute shop.pair.mid in column shop.uses.s": 1, "attribute shop.pair.mid in column shop.uses.m": 1},
        ),
        # the row type of a table
        (
            "CREATE TABLE shop.log (entry shop.cart)",
            "ALTER TABLE shop.cart ADD COLUMN c int",
            "INSERT INTO shop.log VALUES (ROW(1, 2, 3)), (ROW(1, 2, NULL))",
            {"attribute shop.cart.c in column shop.log.entry": 1},
        ),
    ],
)
def test_stored_values_that_were_written_since_are_data(  # noqa: PLR0917
    cluster: Cluster, empty_database: str, setup: str, phase: str, since: str, expected: dict[str, int]
) -> None:
    assert lost(cluster, empty_database, setup, phase, since) == expected


@pytest.mark.fault("written-at-commit")
@pytest.mark.parametrize(
    ("phase", "at_commit", "expected"),
    [
        ("ALTER TABLE shop.cart ADD COLUMN c text", "UPDATE shop.cart SET c = 'kept' WHERE id = 1", 1),
        ("ALTER TABLE shop.cart ADD COLUMN c int DEFAULT 4", "UPDATE shop.cart SET c = 5 WHERE id = 1", 1),
        ("ALTER TABLE shop.cart ADD COLUMN c int[] DEFAULT '{1,2}'", "INSERT INTO shop.cart (id) VALUES (7)", 0),
        ("ALTER TABLE shop.cart ADD COLUMN c text DEFAULT 'a \"{,}'", "UPDATE shop.cart SET c = 'b' WHERE id = 2", 1),
        # a backfill: all values of the column count once its content differs
        (
            "ALTER TABLE shop.cart ADD COLUMN c int; UPDATE shop.cart SET c = id",
            "UPDATE shop.cart SET c = 9 WHERE id = 1",
            2,
        ),
        ("ALTER TABLE shop.cart ADD COLUMN c int; UPDATE shop.cart SET c = id", "UPDATE shop.cart SET net = 9", 0),
        ("ALTER TABLE shop.cart ADD COLUMN c serial", "UPDATE shop.cart SET c = 9 WHERE id = 1", 2),
        ("ALTER TABLE shop.cart ADD COLUMN c serial", "SELECT 1", 0),
    ],
)
def test_what_others_write_at_the_moment_of_commit_is_theirs(
    cluster: Cluster, empty_database: str, phase: str, at_commit: str, expected: int
) -> None:
    found = lost(cluster, empty_database, "", phase, "SELECT 1", at_commit)
    assert found == ({"column shop.cart.c": expected} if expected else {})


def test_a_renamed_table_keeps_its_data(cluster: Cluster, empty_database: str) -> None:
    assert (
        lost(cluster, empty_database, "", "ALTER TABLE shop.cart RENAME TO basket", "UPDATE shop.basket SET net = 1")
        == {}
    )


@pytest.mark.fault("derived-data")
def test_what_cannot_be_read_is_named(cluster: Cluster, empty_database: str) -> None:
    cluster.psql(
        OLD
        + "DROP ROLE IF EXISTS loss_reader; CREATE ROLE loss_reader LOGIN; GRANT USAGE ON SCHEMA shop TO loss_reader;"
        "GRANT SELECT ON shop.cart TO loss_reader; CREATE TABLE shop.closed (id int)",
        empty_database,
    )
    with client_of(cluster, empty_database, "loss_reader").session() as session:
        before = take_snapshot(session)
        cluster.psql(
            "ALTER TABLE shop.cart ADD COLUMN c int; ALTER TABLE shop.closed ADD COLUMN c int; ALTER TABLE shop.cart ENABLE ROW LEVEL SECURITY",
            empty_database,
        )
        changes = diff(before, take_snapshot(session)).as_list()
        known = data_baseline(session, changes, {}, ())
        session.execute("BEGIN")
        found = data_losses(session, data_holders(session, changes), known)
        assert session.value("SELECT 1") == "1"  # the transaction goes on
        session.execute("ROLLBACK")
    assert len(known) == 2
    assert [(loss.what, loss.rows) for loss in found] == [("column shop.cart.c", 0), ("column shop.closed.c", 0)]
    with pytest.raises(
        PhaseGateError, match=r"column shop\.cart\.c: 42501: query would be affected by row-level security"
    ):
        require_counted(found)


def test_what_was_dropped_since_is_not_looked_for(cluster: Cluster, empty_database: str) -> None:
    since = "INSERT INTO shop.new VALUES (1); DROP TABLE shop.new"
    assert lost(cluster, empty_database, "", "CREATE TABLE shop.new (id int)", since) == {}


def test_a_loss_as_it_is_journaled() -> None:
    assert DataLoss("table a.b", 3).as_dict() == {"what": "table a.b", "rows": 3}
    assert DataLoss("table a.b", 0, "no").as_dict() == {"what": "table a.b", "rows": 0, "unread": "no"}
