# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the ledger: its form, who may write to it, and its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.ledger import Ledger, LedgerRow
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

LEDGER = Ledger("phasegate", "ledger")

ROW: dict[str, Any] = {
    "kind": "execution",
    "run": "alpha_test_1",
    "phase": "alpha",
    "revision": "r1",
    "environment": "test",
    "plan_sha256": "a" * 64,
    "repetition": 0,
    "undoes": None,
    "approvals_required": True,
    "system_identifier": "7",
    "bundle": "/var/lib/phasegate/alpha_test_1",
}


@pytest.fixture
def client(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a ledger."""
    client = client_of(cluster, empty_database)
    with client.session() as session:
        assert LEDGER.create(session)
        assert not LEDGER.create(session)
    return client


@pytest.fixture
def stranger(cluster: Cluster) -> Iterator[str]:
    """A role that has nothing to do with the ledger."""
    cluster.psql("CREATE ROLE stranger")
    yield "stranger"
    cluster.psql("DROP ROLE stranger")


def added(client: Client, **changes: Any) -> LedgerRow:
    with client.session() as session:
        return LEDGER.add(session, {**ROW, **changes})


def test_rows_are_numbered_and_read_as_they_were_added(client: Client) -> None:
    rows = [added(client, run=f"alpha_test_{n}", plan_sha256=f"{n:064}") for n in range(1, 12)]
    assert [row.n for row in rows] == [str(n) for n in range(1, 12)]
    with client.session() as session:
        assert LEDGER.rows(session) == rows
    assert rows[0].approvals_required == "true"
    assert rows[0].executor == "workflow_admin"
    assert rows[0].at.endswith("Z")


@pytest.mark.fault("ledger-replay")
def test_a_plan_has_one_execution_and_an_execution_one_rollback(client: Client) -> None:
    added(client)
    with pytest.raises(Stopped, match=r"The ledger phasegate.ledger has this already"):
        added(client, run="alpha_test_2")
    undoing = {"kind": "rollback", "undoes": "alpha_test_1"}
    added(client, run="alpha_test_rollback_1", **undoing)
    with pytest.raises(Stopped, match="has this already"):
        added(client, run="alpha_test_rollback_2", **undoing)
    # that it was rolled back changes nothing for the same plan; a plan without a rehearsal counts on
    with pytest.raises(Stopped, match="has this already"):
        added(client, run="alpha_test_2")
    added(client, run="alpha_test_2", repetition=1)


@pytest.mark.fault("ledger-forged")
def test_a_row_that_was_deleted_leaves_a_gap(client: Client) -> None:
    for n in (1, 2, 3):
        added(client, run=f"alpha_test_{n}", plan_sha256=f"{n:064}")
    with client.session() as session:
        session.execute("DELETE FROM phasegate.ledger WHERE n = 2")
        with pytest.raises(PhaseGateError, match="Rows are missing in the ledger"):
            LEDGER.rows(session)


def test_a_row_is_restored_by_the_statement_that_is_told(client: Client) -> None:
    row = added(client, environment="o'test")
    with client.session() as session:
        session.execute("DELETE FROM phasegate.ledger")
        session.execute(LEDGER.restoring(row))
        assert LEDGER.rows(session) == [row]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE phasegate.ledger ADD COLUMN more text", "another form"),
        ("ALTER TABLE phasegate.ledger ALTER COLUMN run SET DEFAULT 'x'", "another form"),
        ("ALTER TABLE phasegate.ledger DROP CONSTRAINT ledger_run_key", "another form"),
        ("ALTER TABLE phasegate.ledger ENABLE ROW LEVEL SECURITY", "another form"),
        ("CREATE RULE no AS ON INSERT TO phasegate.ledger DO INSTEAD NOTHING", "another form"),
        ("CREATE TABLE phasegate.more () INHERITS (phasegate.ledger)", "another form"),
        (
            "CREATE TRIGGER no BEFORE INSERT ON phasegate.ledger FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "another form",
        ),
        ("GRANT INSERT ON phasegate.ledger TO PUBLIC", "PUBLIC INSERT"),
        ("GRANT UPDATE (bundle) ON phasegate.ledger TO stranger", "stranger UPDATE"),
        ("ALTER SCHEMA phasegate OWNER TO stranger", "could drop the table"),
        ("DROP TABLE phasegate.ledger", "The ledger does not exist"),
        ("DROP TABLE phasegate.ledger; CREATE VIEW phasegate.ledger AS SELECT 1", "another form"),
    ],
)
@pytest.mark.fault("ledger-forged")
def test_a_table_that_cannot_be_trusted(
    client: Client, stranger: str, cluster: Cluster, change: str, told: str
) -> None:
    cluster.psql(f"GRANT SELECT ON phasegate.ledger TO {stranger}", client.database)
    with client.session() as session:
        LEDGER.require(session)
        session.execute(change)
        with pytest.raises(PhaseGateError) as stopped:
            LEDGER.require(session)
        session.execute("DROP SCHEMA phasegate CASCADE")
    assert told in str(stopped.value)
    assert stopped.value.next_step


def test_a_ledger_of_another_role(client: Client, stranger: str, cluster: Cluster) -> None:
    cluster.psql(f"ALTER ROLE {stranger} LOGIN; GRANT USAGE ON SCHEMA phasegate TO {stranger}", client.database)
    try:
        with (
            client_of(cluster, client.database, stranger).session() as session,
            pytest.raises(PhaseGateError, match="which this role is not a member of"),
        ):
            LEDGER.require(session)
    finally:
        cluster.psql(f"DROP OWNED BY {stranger}", client.database)


@pytest.mark.parametrize(
    "name", ["ledger", "a.b.c", "A.b", "pg_catalog.ledger", 'a."b"', "a.b c", "information_schema.t", ""]
)
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(PhaseGateError, match="phasegate_ledger is invalid"):
        Ledger.of(name)
