# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that an application writes to meanwhile: a phase answers for its own changes only, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import DataExpectations
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.verification import (
    Verification,
    run_verification,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measured_locks import lock_measured
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measurements import Measurement, held_locks
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE SCHEMA shop;
CREATE TABLE shop.baskets (id int PRIMARY KEY, touched int NOT NULL DEFAULT 0);
INSERT INTO shop.baskets SELECT n, 1 FROM generate_series(1, 50) n;
CREATE TABLE shop.units (code text PRIMARY KEY, rank int);
INSERT INTO shop.units VALUES ('kg', 1), ('g', 2), ('t', 3);
CREATE TABLE shop.visits (day date) PARTITION BY RANGE (day);
CREATE TABLE shop.visits_may PARTITION OF shop.visits FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
INSERT INTO shop.visits VALUES ('2026-05-05'), ('2026-05-06');
"""
#: What the application does, in and beside the tables that the phase changes.
APPLICATION = """
INSERT INTO shop.baskets SELECT max(id) + 1, 7 FROM shop.baskets;
UPDATE shop.baskets SET touched = touched + 1 WHERE id < 10;
INSERT INTO shop.units SELECT 'u' || count(*), 0 FROM shop.units;
UPDATE shop.units SET rank = rank + 10 WHERE code = 'kg';
INSERT INTO shop.visits VALUES ('2026-05-07');
"""
DDL = """
ALTER TABLE shop.baskets ADD COLUMN note text;
INSERT INTO shop.units VALUES ('lb', 4), ('oz', 5);
UPDATE shop.units SET rank = 9 WHERE code = 't';
DELETE FROM shop.visits WHERE day = '2026-05-05';
"""
ROLLBACK = b"DROP TABLE shop.fresh;\n"
PHASE: dict[str, Any] = {
    "scope": {"schemas": ["shop"], "statements": ["ALTER TABLE ADD COLUMN", "INSERT", "UPDATE", "DELETE"]},
    "expect": {
        "tags": {"ALTER TABLE": 1, "INSERT": 1, "UPDATE": 1, "DELETE": 1},
        "rows": {"INSERT": [2], "UPDATE": [1], "DELETE": [1]},
    },
    "data": {"shop.units": {"INSERT": 2, "UPDATE": 1}, "shop.visits": {"DELETE": 1}},
    "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
    "row_counts": [
        "shop.baskets",
        {"relation": "shop.units", "change": 2},
        {"relation": "shop.visits", "change": -1},
        {"relation": "shop.visits_may", "change": -1},
    ],
    "measure": [
        {"id": "touched", "relation": "shop.baskets", "key": "id", "column": "touched", "expect": {"changed": 0}},
        {"id": "rank", "relation": "shop.units", "key": "code", "column": "rank", "expect": {"changed": 3}},
    ],
}


@pytest.fixture
def shop(cluster: Cluster, empty_database: str) -> str:
    """A database of a shop."""
    cluster.psql(BEFORE, empty_database)
    return empty_database


def prepared(cluster: Cluster, database: str, directory: Path, **changes: Any) -> Run:
    """Return the run after C-04."""
    files = PhaseFiles(directory).write({**PHASE, **changes}, ddl=DDL.encode(), rollback=ROLLBACK)
    return Run.of(client_of(cluster, database), directory / "runs", files.path).prepare()


def verified(run: Run) -> Verified:
    """Do C-08 and return its record."""
    # what C-03 writes besides: the text of the schema
    run.artefacts.write("schema/before.sql", b"")
    step = Step(run.artefacts, Verified)
    wanted = Verification.of_plan(run.plan, run.declared, run.plan["ddl"]["sha256"])
    with step.running():
        run_verification(run.client, run.artefacts, wanted, step)
    return step.end


@pytest.mark.fault("live-writes")
def test_others_rows_are_not_the_phases(cluster: Cluster, shop: str, tmp_path: Path) -> None:
    run = prepared(cluster, shop, tmp_path)
    cluster.psql(APPLICATION, shop)
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    measured = {one["id"]: one["changed"] for one in outcome.data["transaction"]["measured"]}
    assert measured == {"touched": 0, "rank": 3}
    cluster.psql(APPLICATION, shop)
    after = verified(run)
    assert after.deviations == []
    assert [one.partition(":")[0] for one in after.elsewhere or ()] == [
        "touched of shop.baskets",
        "rank of shop.units",
        "shop.baskets",
        "shop.units",
        "shop.visits",
        "shop.visits_may",
    ]
    assert "shop.baskets: 50 rows before, 52 after, declared change +0" in (after.elsewhere or ())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            {"row_counts": ["shop.units"]},
            "shop.units: this transaction changed its number of rows by +2, declared change +0",
        ),
        (
            {"row_counts": [{"relation": "shop.visits", "change": 1}]},
            "shop.visits: this transaction changed its number of rows by -1, declared change +1",
        ),
        (
            {"measure": [{**PHASE["measure"][1], "expect": {"changed": 2}}]},
            "rank of shop.units: changed 2 expected, 3 found",
        ),
    ],
    ids=["count", "count of a parent", "measure"],
)
@pytest.mark.fault("live-writes")
def test_the_phases_own_are(cluster: Cluster, shop: str, tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    run = prepared(cluster, shop, tmp_path, **changes)
    # an application that makes up for it is no excuse
    cluster.psql(
        "DELETE FROM shop.units WHERE code IN ('kg', 'g'); INSERT INTO shop.visits VALUES ('2026-05-08')", shop
    )
    outcome = run.migrate()
    assert outcome.data["outcome"] == "ROLLED_BACK"
    assert found in outcome.message


# The phase writes to these rows; `touched` is measured, and the phase leaves it as it is.
MEASURED = {
    "scope": {"schemas": ["shop"], "statements": ["UPDATE"]},
    "expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": [20]}},
    "data": {},
    "row_counts": [],
}


@pytest.mark.fault("live-writes")
@pytest.mark.parametrize(
    "case",
    [
        ("UPDATE shop.baskets SET touched = touched + 1", "id = id", 0),
        ("DELETE FROM shop.baskets WHERE id > 40", "id = id", 0),
        # it has that value already: the phase changes nothing
        ("UPDATE shop.baskets SET touched = 9 WHERE id < 10", "touched = 9", 11),
        ("UPDATE shop.baskets SET touched = 8 WHERE id < 10", "touched = 9", 20),
    ],
    ids=["other values", "rows gone", "the same value", "another value"],
)
def test_what_others_change_in_the_phases_rows_before_it_is_theirs(
    cluster: Cluster, shop: str, tmp_path: Path, case: tuple[str, str, int]
) -> None:
    application, backfill, changed = case
    ddl = f"UPDATE shop.baskets SET {backfill} WHERE id <= 20;\n".encode()
    measure = [{**PHASE["measure"][0], "expect": {"changed": changed}}]
    files = PhaseFiles(tmp_path).write({**PHASE, **MEASURED, "measure": measure}, ddl=ddl, rollback=ROLLBACK)
    run = Run.of(client_of(cluster, shop), tmp_path / "runs", files.path).prepare()
    cluster.psql(application, shop)
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    assert [one["changed"] for one in outcome.data["transaction"]["measured"]] == [changed]
    # nobody else could write between the reading and the statement
    assert {"relation": "shop.baskets", "mode": "ShareRowExclusiveLock"} in outcome.data["transaction"]["locks"]


@pytest.mark.fault("live-writes")
def test_the_lock_of_the_rehearsal_is_taken_at_once(cluster: Cluster, shop: str) -> None:
    with client_of(cluster, shop).session() as session:
        session.execute("BEGIN")
        measures = DataExpectations.from_definition(PHASE["measure"], []).measures
        statement = {"run": True, "relations": ["shop.baskets", "shop.none"]}
        locks = [{"relation": "shop.baskets", "mode": mode} for mode in ("AccessExclusiveLock", "RowExclusiveLock")]
        lock_measured(session, measures, {"ddl": {"statements": [statement]}, "rehearsal": {"locks": locks}})
        # of the table that the phase names, and of no other
        assert {one["relation"]: one["mode"] for one in held_locks(session)} == {"shop.baskets": "AccessExclusiveLock"}


@pytest.mark.fault("live-writes")
def test_reviewers_see_the_lock_that_production_takes_before_the_first_statement(cluster: Cluster, shop: str) -> None:
    with client_of(cluster, shop).session() as session:
        session.execute("BEGIN")
        measures = DataExpectations.from_definition(PHASE["measure"], []).measures
        plan: dict[str, Any] = {"ddl": {"statements": [{"run": True, "relations": ["shop.baskets", "shop.units"]}]}}
        measured = Measurement()
        measured.begin(session)
        locked = lock_measured(session, measures, plan)
        for number, sql in enumerate(
            ("SET LOCAL work_mem = '8MB'", "UPDATE shop.units SET rank = 9", "ALTER TABLE shop.baskets ADD note text"),
            start=1,
        ):
            session.execute(sql)
            measured.observe(session, {"n": number})
        measured.end(session, locked)
        found = {(one["relation"], one["mode"]): one["statement"] for one in measured.locks}
        # the strongest from the first statement on, and what comes later where it came
        assert {key: number for key, number in found.items() if key[0] in locked} == {
            ("shop.baskets", "AccessExclusiveLock"): 1,
            ("shop.units", "ShareRowExclusiveLock"): 1,
            ("shop.units", "RowExclusiveLock"): 2,
        }
        session.execute("ROLLBACK")
        # and this is what production takes
        session.execute("BEGIN")
        lock_measured(session, measures, {**plan, "rehearsal": {"locks": measured.locks}})
        assert {(one["relation"], one["mode"]) for one in held_locks(session)} == {
            ("shop.baskets", "AccessExclusiveLock"),
            ("shop.units", "ShareRowExclusiveLock"),
        }


@pytest.mark.fault("live-writes")
def test_a_role_that_only_inserts_needs_no_lock(cluster: Cluster, shop: str) -> None:
    role = f"{shop}_inserts"
    cluster.psql(
        f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA shop TO {role}; GRANT SELECT, INSERT ON shop.baskets TO {role}",
        shop,
    )
    with client_of(cluster, shop).session() as session:
        session.execute("BEGIN")
        session.set("role", role, local=True)
        measures = DataExpectations.from_definition(PHASE["measure"][:1], []).measures
        lock_measured(session, measures, {"ddl": {"statements": [{"run": True, "relations": ["shop.baskets"]}]}})
        assert held_locks(session) == []
        session.execute("ROLLBACK")
    cluster.psql(f"DROP OWNED BY {role}; DROP ROLE {role}", shop)


@pytest.mark.fault("live-writes")
def test_a_measured_column_that_goes_is_noticed_before_commit(cluster: Cluster, shop: str, tmp_path: Path) -> None:
    ddl = "ALTER TABLE shop.baskets DROP COLUMN touched;\n"
    scope = {"schemas": ["shop"], "statements": ["ALTER TABLE DROP COLUMN"]}
    files = PhaseFiles(tmp_path).write(
        {
            **PHASE,
            "scope": scope,
            "expect": {"tags": {"ALTER TABLE": 1}},
            "data": {},
            "row_counts": [],
            "diff": {"allow": [{"object": "*"}]},
            "measure": PHASE["measure"][:1],
        },
        ddl=ddl.encode(),
        rollback=ROLLBACK,
    )
    outcome = Run.of(client_of(cluster, shop), tmp_path / "runs", files.path).prepare().migrate()
    assert (outcome.data["outcome"], "42703" in outcome.message) == ("ROLLED_BACK", True)


@pytest.mark.fault("live-writes")
def test_values_that_a_rewrite_changes_are_measured(cluster: Cluster, shop: str, tmp_path: Path) -> None:
    ddl = "ALTER TABLE shop.baskets ALTER touched TYPE bigint USING touched + 1;\n"
    files = PhaseFiles(tmp_path).write(
        {
            **PHASE,
            "scope": {"schemas": ["shop"], "statements": ["ALTER TABLE"], "rewrites": ["shop.baskets"]},
            "expect": {"tags": {"ALTER TABLE": 1}},
            "data": {},
            "row_counts": ["shop.baskets"],
            "diff": {"allow": [{"object": "*"}]},
            "measure": [{**PHASE["measure"][0], "expect": {"changed": 50}}],
        },
        ddl=ddl.encode(),
        rollback=ROLLBACK,
    )
    outcome = Run.of(client_of(cluster, shop), tmp_path / "runs", files.path).prepare().migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")


#: What a function behind a measured view tries: settings and role for what follows, and the schemas that are searched.
OWNERS = """
CREATE TABLE shop.parts (id int REFERENCES shop.baskets);
CREATE TABLE shop.dates (d date);
CREATE SCHEMA evil;
CREATE VIEW evil.pg_locks AS SELECT NULL::oid AS relation, NULL::text AS locktype LIMIT 0;
CREATE FUNCTION evil.no(int, int) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR evil.<= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.no);
CREATE FUNCTION shop.turned() RETURNS int LANGUAGE sql AS $$SELECT length({}) * 0$$;
CREATE VIEW shop.seen AS SELECT id, touched + shop.turned() AS touched FROM shop.baskets WHERE id < 4;
"""
SEEN = {"id": "seen", "relation": "shop.seen", "key": "id", "column": "touched"}


@pytest.mark.fault("measured-view")
@pytest.mark.parametrize(
    ("tried", "ddl", "kept"),
    [
        # foreign keys off: the violation would commit
        ("set_config('session_replication_role', 'replica', true)", "INSERT INTO shop.parts VALUES (99)", ""),
        # another meaning of the first statement
        ("set_config('DateStyle', 'ISO, DMY', true)", "INSERT INTO shop.dates VALUES ('03/04/05')", "2003-04-05"),
        ("set_config('datestyle', 'ISO, MDY', false)", "INSERT INTO shop.dates VALUES ('03/04/05')", "2003-04-05"),
        # what the collection reads afterwards
        (
            "set_config('search_path', 'evil, pg_catalog', true)",
            "INSERT INTO shop.dates VALUES ('2003-04-05')",
            "2003-04-05",
        ),
        (
            "set_config('search_path', 'evil, pg_catalog', false)",
            "INSERT INTO shop.dates VALUES ('2003-04-05')",
            "2003-04-05",
        ),
    ],
)
def test_what_a_measured_view_does_to_the_session_ends_with_the_reading(  # noqa: PLR0917
    cluster: Cluster, shop: str, tmp_path: Path, tried: str, ddl: str, kept: str
) -> None:
    cluster.psql(OWNERS.format(tried), shop)
    definition = {
        **PHASE,
        "scope": {"schemas": ["shop"], "statements": ["INSERT"]},
        "expect": {"tags": {"INSERT": 1}, "rows": {"INSERT": [1]}},
        "data": {},
        "row_counts": [],
        "measure": [SEEN],
    }
    files = PhaseFiles(tmp_path).write(definition, ddl=f"{ddl};\n".encode(), rollback=ROLLBACK)
    outcome = Run.of(client_of(cluster, shop), tmp_path / "runs", files.path).prepare().migrate()
    if not kept:
        assert outcome.data["outcome"] == "ROLLED_BACK"
        assert "violates foreign key constraint" in outcome.message
        return
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    assert cluster.psql("SELECT d FROM shop.dates", shop) == kept
    # the locks are the server's
    assert "shop.dates" in [one["relation"] for one in outcome.data["transaction"]["locks"]]


@pytest.mark.fault("measured-view")
def test_a_measured_view_cannot_hide_changes_or_write(cluster: Cluster, shop: str, tmp_path: Path) -> None:
    cluster.psql(OWNERS.format("set_config('search_path', 'evil, pg_catalog', true)"), shop)
    baskets = {**PHASE["measure"][0], "expect": {"changed": 0}}
    definition = {**PHASE, **MEASURED, "measure": [SEEN, baskets]}
    ddl = b"UPDATE shop.baskets SET touched = 5 WHERE id <= 20;\n"
    files = PhaseFiles(tmp_path).write(definition, ddl=ddl, rollback=ROLLBACK)
    outcome = Run.of(client_of(cluster, shop), tmp_path / "runs", files.path).prepare().migrate()
    assert outcome.data["outcome"] == "ROLLED_BACK"
    assert "touched of shop.baskets: changed 0 expected, 20 found" in outcome.message

    cluster.psql(
        "CREATE OR REPLACE FUNCTION shop.turned() RETURNS int LANGUAGE sql AS 'DELETE FROM shop.units RETURNING 0'",
        shop,
    )
    with client_of(cluster, shop).session() as session:
        session.execute("BEGIN")
        with pytest.raises(PhaseGateError, match=r"cannot execute DELETE in a read-only transaction"):
            DataExpectations.from_definition([SEEN], []).take(session)
    assert cluster.psql("SELECT count(*) FROM shop.units", shop) == "3"
