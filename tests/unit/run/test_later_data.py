# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollback would take along that came after the execution: partitions, tables of new schemas and extensions, narrowed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.later_data import later_columns
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import losses_now
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import RollbackRequest
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

OLD = """
CREATE SCHEMA shop; CREATE TABLE shop.cart (id int PRIMARY KEY, net numeric(12,0), name varchar(5), tags text[]);
INSERT INTO shop.cart VALUES (1, 5, 'a'), (2, 0, 'b');
CREATE TABLE shop.days (d int, n int) PARTITION BY LIST (d);
"""


@dataclass
class Undone:
    """What an execution recorded of itself."""

    changes: list[dict[str, Any]]


def told(cluster: Cluster, database: str, phase: str, since: str) -> tuple[dict[str, int], list[str]]:
    """Return what is lost, and what stands beside, after a phase (of an execution whose baseline is empty) and what came since."""
    cluster.psql(OLD, database)
    with client_of(cluster, database).session() as session:
        original = take_snapshot(session)
        cluster.psql(phase, database)
        undo = cast("RollbackRequest", Undone(diff(original, take_snapshot(session)).as_list()))
        cluster.psql(since, database)
        base = take_snapshot(session)
        session.execute("BEGIN")
        lost, beside = losses_now(session, original, base, [], undo, lock=True)
        session.execute("ROLLBACK")
    assert not [loss for loss in lost if loss.unread]
    return {loss.what: loss.rows for loss in lost}, [table.name for table in beside]


@pytest.mark.fault("loss-new-partition")
@pytest.mark.parametrize(
    ("phase", "since", "expected"),
    [
        (
            "CREATE TABLE shop.flow (at int) PARTITION BY RANGE (at)",
            "CREATE TABLE shop.flow_1 PARTITION OF shop.flow DEFAULT; INSERT INTO shop.flow VALUES (1), (2)",
            {"table shop.flow_1": 2},
        ),
        (
            "CREATE TABLE shop.flow (at int) PARTITION BY RANGE (at)",
            "CREATE TABLE shop.f1 PARTITION OF shop.flow FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (at);"
            "CREATE TABLE shop.f2 PARTITION OF shop.f1 DEFAULT; INSERT INTO shop.flow VALUES (1), (2)",
            {"table shop.f2": 2},
        ),
        (
            "CREATE TABLE shop.day PARTITION OF shop.days DEFAULT PARTITION BY LIST (d)",
            "CREATE TABLE shop.day_2 PARTITION OF shop.day DEFAULT; INSERT INTO shop.days VALUES (1), (2)",
            {"table shop.day_2": 2},
        ),
        (
            "CREATE SCHEMA ext",
            "CREATE TABLE ext.notes (id int); INSERT INTO ext.notes VALUES (1)",
            {"table ext.notes": 1},
        ),
        (
            "CREATE EXTENSION vector",
            "CREATE TABLE shop.words (id int); INSERT INTO shop.words VALUES (1); ALTER EXTENSION vector ADD TABLE shop.words",
            {"table shop.words": 1},
        ),
        (
            "ALTER TABLE shop.cart ALTER net TYPE numeric(12,2)",
            "UPDATE shop.cart SET net = 1.49 WHERE id = 1",
            {"values of column shop.cart.net that type numeric(12,0) does not hold": 1},
        ),
        (
            "ALTER TABLE shop.cart ALTER name TYPE text",
            "UPDATE shop.cart SET name = 'longer than five'",
            {"values of column shop.cart.name that type character varying(5) does not hold": 2},
        ),
        (
            "ALTER TABLE shop.cart ALTER tags TYPE json USING to_json(tags)",
            """UPDATE shop.cart SET tags = '["a"]' WHERE id = 1""",
            {"values of column shop.cart.tags that type text[] does not hold": 1},
        ),
        ("ALTER TABLE shop.cart ALTER name TYPE text", "UPDATE shop.cart SET name = 'five!'", {}),
        (
            "CREATE TABLE shop.flow (at int) PARTITION BY RANGE (at)",
            "CREATE TABLE shop.f1 PARTITION OF shop.flow DEFAULT",
            {},
        ),
    ],
)
def test_what_goes_with_the_phase_is_counted(
    cluster: Cluster, empty_database: str, phase: str, since: str, expected: dict[str, int]
) -> None:
    assert told(cluster, empty_database, phase, since) == (expected, [])


@pytest.mark.fault("loss-new-partition")
def test_what_stands_beside_the_phase_is_no_loss_unless_it_goes(cluster: Cluster, empty_database: str) -> None:
    since = (
        "CREATE TABLE shop.later (id int); INSERT INTO shop.later VALUES (1); CREATE TABLE shop.empty (id int);"
        "CREATE TABLE shop.day PARTITION OF shop.days DEFAULT; INSERT INTO shop.days VALUES (1)"
    )
    lost, beside = told(cluster, empty_database, "CREATE TABLE shop.mine (id int)", since)
    assert lost == {}
    assert sorted(beside) == ["table shop.day", "table shop.later"]


@pytest.mark.fault("partitions-declared")
@pytest.mark.parametrize(
    ("phase", "since", "expected"),
    [
        (
            "ALTER TABLE shop.days ADD COLUMN note text, ADD COLUMN twice int GENERATED ALWAYS AS (d * 2) STORED",
            "INSERT INTO shop.days (d, note) VALUES (1, 'a'), (2, NULL), (3, 'b')",
            {"column shop.day_2.note": 2},
        ),
        (
            "ALTER TABLE shop.days ALTER n TYPE text",
            "INSERT INTO shop.days VALUES (1, '1'), (1, 'one')",
            {"values of column shop.day_2.n that type integer does not hold": 2},
        ),
        ("CREATE TABLE shop.mine (id int)", "INSERT INTO shop.days (d) VALUES (1)", {}),
    ],
)
def test_values_in_a_partition_that_came_are_lost_with_the_phase(
    cluster: Cluster, empty_database: str, phase: str, since: str, expected: dict[str, int]
) -> None:
    came = (
        "CREATE TABLE shop.day PARTITION OF shop.days DEFAULT PARTITION BY LIST (d);"
        "CREATE TABLE shop.day_2 PARTITION OF shop.day DEFAULT;"
    )
    lost, beside = told(cluster, empty_database, phase, came + since)
    assert (lost, "table shop.day_2" in beside) == (expected, True)


@pytest.mark.fault("partitions-declared")
def test_a_renamed_column_is_no_loss(cluster: Cluster, empty_database: str) -> None:
    cluster.psql(OLD, empty_database)
    with client_of(cluster, empty_database).session() as session:
        original = take_snapshot(session)
        session.execute("ALTER TABLE shop.days RENAME d TO day; ALTER TABLE shop.days ADD COLUMN note text")
        changes = diff(original, take_snapshot(session)).as_list()
        session.execute("CREATE TABLE shop.day PARTITION OF shop.days DEFAULT")
        base = take_snapshot(session)
    assert [one.name for one in later_columns(original, base, changes)] == ["column shop.day.note"]
    assert [one.column for one in later_columns(original, base, None)] == ["day", "note"]
