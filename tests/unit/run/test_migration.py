# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C-07 against a real server: what commits, what rolls back and why, and that the outcome is always known."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated, Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import server_facts
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run import migration
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    committed_outcome,
    fetch_identity,
    not_sealed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._run.migration import migration_script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import NotOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import MigrationResult, TransactionChecks
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import run_script
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import normalise
from ansible_collections.incomex.phasegate.plugins.modules.run_seal import sealed
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA, PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import (
    InBackground,
    Outcome,
    Run,
    client_of,
    fingerprint,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import MigrationResult
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

PHASES = Path(__file__).parents[2] / "fixtures" / "phases"

#: What a small phase of these tests may be changed in.
SCOPE = ["CREATE TABLE", "INSERT", "SELECT", "ALTER TABLE ADD COLUMN", "DO", "UPDATE"]


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with one schema ``app`` and one table in it."""
    cluster.psql("CREATE SCHEMA app; CREATE TABLE app.old (id int PRIMARY KEY)", empty_database)
    return client_of(cluster, empty_database)


def small(client: Client, tmp_path: Path, ddl: str = "", **changes: Any) -> Run:
    """Return a run of a small phase; without ``ddl`` it creates ``app.t``."""
    directory = tmp_path / "phase"
    directory.mkdir(exist_ok=True)
    definition: dict[str, Any] = {
        "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
        **changes,
    }
    files = PhaseFiles(directory)
    files.write(definition, **({"ddl": ddl.encode()} if ddl else {}))
    return Run.of(client, tmp_path / "runs", files.path)


def tables(cluster: Cluster, client: Client) -> str:
    return cluster.psql(
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class"
        " WHERE relnamespace = 'app'::regnamespace AND relkind = 'r'",
        client.database,
    )


def assert_rolled_back(run: Run, outcome: Outcome, before: str) -> None:
    assert outcome.data["outcome"] == "ROLLED_BACK"
    assert outcome.data["unchanged"] is True
    assert outcome.data["fingerprint"] == before == fingerprint(run.client)
    (failed,) = run.events("failed")
    assert failed["outcome"] == "ROLLED_BACK"
    assert failed["reason"] == outcome.message


# --- what commits ----------------------------------------------------------------------------------------------


def test_phase_alpha_commits_after_its_checks(client: Client, tmp_path: Path) -> None:
    run = Run.of(client, tmp_path, str(ALPHA)).prepare()
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    applied = outcome.data["transaction"]
    assert [s["rows"] for s in applied["statements"] if s["tag"] == "UPDATE"] == [86]
    assert applied["result"][0]["tac_authority_draft"] == 86
    assert {check["status"] for check in applied["preflight"]} == {"PASS"}
    # VA-16 needs two pg_dump texts; everything else ran before COMMIT
    assert len([c for c in applied["checks"] if c["id"].startswith("VA-") and c["status"] == "PASS"]) == 16
    assert applied["diff"]["ok"] is True
    assert applied["measured"][0] | {"minimum_after": "", "maximum_after": ""} == {
        "id": "updated_at",
        "relation": "public.tac_logical_unit",
        "column": "updated_at",
        "rows": 86,
        "changed": 86,
        "distinct_before": 3,
        "distinct_after": 1,
        "minimum_before": "2026-04-29 05:27:37.951703+00",
        "maximum_before": "2026-04-30 03:12:19.569465+00",
        "minimum_after": "",
        "maximum_after": "",
    }
    with client.session() as session:
        assert session.value(f"SELECT pg_xact_status('{applied['xid']}')") == "committed"
    # the transaction's number and the intent to commit were on disk before COMMIT was sent
    events = [entry.event for entry in run.artefacts.journal.entries() if entry.step == "C-07"]
    assert events == ["intent", "transaction", "commit", "done"]


def test_the_checks_see_the_uncommitted_state_and_run_before_commit(client: Client, tmp_path: Path) -> None:
    run = Run.of(client, tmp_path, str(ALPHA))
    run.plan["phase"]["verify"].append(
        {"id": "VA-99", "title": "the transaction is still open", "expect": [True, "in progress"], "sql":
         "SELECT to_jsonb(to_regclass('cutter_governance.canonical_address_alias') IS NOT NULL) UNION ALL"
         " SELECT to_jsonb(pg_xact_status(pg_current_xact_id_if_assigned()))"}
    )  # fmt: skip
    outcome = run.prepare().migrate()
    assert outcome.message == ""
    (check,) = (c for c in outcome.data["transaction"]["checks"] if c["id"] == "VA-99")
    assert (check["status"], check["found"]) == ("PASS", '[true, "in progress"]')


def test_a_second_migration_of_a_committed_run_finds_the_outcome(client: Client, tmp_path: Path) -> None:
    run = Run.of(client, tmp_path, str(ALPHA)).prepare()
    done = run.migrate()
    known = committed_outcome(run.client, run.artefacts, Migrated)
    assert known
    assert known.to_entry() == json.loads(json.dumps(done.data))
    # and if it is run all the same, preflight stops it
    again = run.migrate()
    assert again.message.startswith("The schema differs from the snapshot before the migration")


# --- what does not hold before COMMIT --------------------------------------------------------------------------


@pytest.mark.fault("counts-missed")
def test_r1_updates_no_row_and_is_rolled_back(client: Client, tmp_path: Path) -> None:
    before = fingerprint(client)
    run = Run.of(client, tmp_path, str(PHASES / "r1" / "phase.yml")).prepare()
    outcome = run.migrate()
    assert outcome.error
    assert "86 rows" in outcome.error.expected
    assert "0 rows" in outcome.error.found
    assert "a count or result differs from the declared one; rolled back before COMMIT" in outcome.message
    assert_rolled_back(run, outcome, before)


@pytest.mark.fault("diff-undeclared")
def test_a_hidden_drop_column_is_rolled_back(client: Client, tmp_path: Path) -> None:
    before = fingerprint(client)
    run = Run.of(client, tmp_path, str(PHASES / "hidden_drop_column" / "phase.yml")).prepare()
    outcome = run.migrate()
    assert "identity_profile" in outcome.message
    assert "additions_only" in outcome.message
    assert {check["status"] for check in outcome.data["transaction"]["checks"]} <= {"PASS"}
    assert_rolled_back(run, outcome, before)


VERIFY_TWO = [{"id": "VA-1", "title": "two rows", "sql": "SELECT count(*) FROM app.t", "expect": 2}]


@pytest.mark.parametrize(
    ("ddl", "changes", "said"),
    [
        (
            "CREATE TABLE app.t (id int);\n",
            {"verify": VERIFY_TWO},
            ("verification failed inside the transaction", "VA-1 (two rows) 2", "VA-1 0"),
        ),
        (
            "CREATE TABLE app.t AS SELECT 1 AS id;\n",
            {"verify": [*VERIFY_TWO, {"id": "VA-2", "title": "x", "sql": "SELECT * FROM app.none", "expect": 1}],
             "scope": {"schemas": ["app"], "statements": ["CREATE TABLE AS"]},
             "expect": {"tags": {"CREATE TABLE AS": 1}}},
            ("VA-1 1", 'VA-2 error 42P01: relation "app.none" does not exist'),
        ),
        (
            "CREATE TABLE app.t (id int);\n",
            {"preflight": [{"id": "P-7", "title": "x", "sql": "SELECT 85", "expect": 86}]},
            ("Stopped at G-6", "P-7 (x) found 85, expected 86"),
        ),
        (
            "CREATE TABLE app.t (id int);\n",
            {"non_scope": [{"id": "NS-1", "title": "x", "sql": "SELECT to_regclass('app.t') IS NULL", "expect": True}]},
            ("NS-1 (x) true", "NS-1 false"),
        ),
        (
            "CREATE TABLE app.t (id int);\nINSERT INTO app.old VALUES (1);\n",
            {"scope": {"schemas": ["app"], "statements": ["CREATE TABLE", "INSERT"]},
             "expect": {"tags": {"CREATE TABLE": 1, "INSERT": 1}, "rows": {"INSERT": [1]}},
             "row_counts": ["app.old"]},
            ("app.old: this transaction changed its number of rows by +1, declared change +0",),
        ),
        (
            "CREATE TABLE app.t (id int);\n",
            {"row_counts": ["app.old", "app.misspelt"]},
            ("app.misspelt: no such relation before or after",),
        ),
        (
            "CREATE TABLE app.t (id int);\nSELECT 85 AS n;\n",
            {"scope": {"schemas": ["app"], "statements": ["CREATE TABLE", "SELECT"]},
             "expect": {"tags": {"CREATE TABLE": 1, "SELECT": 1}, "result": {"n": 86}}},
            ('trailing SELECT {"n": 86}', 'trailing SELECT {"n": 85}'),
        ),
        pytest.param(
            "CREATE TABLE app.t (id int);\nSELECT n FROM pg_catalog.generate_series(1, 300) n;\n",
            {"scope": {"schemas": ["app"], "statements": ["CREATE TABLE", "SELECT"]},
             "expect": {"tags": {"CREATE TABLE": 1, "SELECT": 1}, "result": list(range(1, 201))}},
            ("trailing SELECT 300 rows, more than are compared; the first: [1, 2,",),
            marks=pytest.mark.fault("answer-in-part"),
        ),
        (
            "CREATE TABLE app.t (id int);\nALTER TABLE app.old ADD COLUMN id int;\n",
            {"scope": {"schemas": ["app"], "statements": ["CREATE TABLE", "ALTER TABLE ADD COLUMN"]},
             "expect": {"tags": {"CREATE TABLE": 1, "ALTER TABLE": 1}}},
            ("statement 2 (ALTER TABLE, line 2) failed; rolled back", '42701: column "id" of relation "old"'),
        ),
    ],
    ids=["check", "check error", "preflight", "non-scope", "row count", "no relation", "result", "more rows", "refused"],
)  # fmt: skip
def test_any_miss_rolls_back_and_is_named(  # noqa: PLR0917 - pytest passes by name
    app: Client, cluster: Cluster, tmp_path: Path, ddl: str, changes: dict[str, Any], said: tuple[str, ...]
) -> None:
    before = fingerprint(app)
    run = small(app, tmp_path, ddl, **changes).prepare()
    outcome = run.migrate()
    for words in said:
        assert words in outcome.message
    assert_rolled_back(run, outcome, before)
    assert tables(cluster, app) == "old"
    assert cluster.psql("SELECT count(*) FROM app.old", app.database) == "0"


def test_a_check_cannot_change_what_is_going_to_commit(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = small(app, tmp_path)
    run.plan["phase"]["verify"][0].update(sql="INSERT INTO app.old VALUES (7) RETURNING id", expect=7)
    outcome = run.prepare().migrate()
    assert "VA-1 error 25006: cannot execute INSERT in a read-only transaction" in outcome.message
    assert (tables(cluster, app), cluster.psql("SELECT count(*) FROM app.old", app.database)) == ("old", "0")


def test_a_deferred_constraint_is_checked_before_commit(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql("CREATE TABLE app.child (old_id int REFERENCES app.old DEFERRABLE INITIALLY DEFERRED)", app.database)
    before = fingerprint(app)
    run = small(
        app,
        tmp_path,
        "CREATE TABLE app.t (id int);\nINSERT INTO app.child VALUES (99);\n",
        scope={"schemas": ["app"], "statements": ["CREATE TABLE", "INSERT"]},
        expect={"tags": {"CREATE TABLE": 1, "INSERT": 1}, "rows": {"INSERT": [1]}},
    ).prepare()
    outcome = run.migrate()
    assert outcome.message.startswith("C-07: a deferred constraint is violated; rolled back before COMMIT.")
    assert "23503" in outcome.message
    assert "Key (old_id)=(99) is not present" in outcome.message
    assert run.events("commit") == []
    assert_rolled_back(run, outcome, before)


# --- SQL that wants to escape ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "CREATE TABLE app.x (); COMMIT; CREATE TABLE app.y ()",
        "ROLLBACK",
        "ROLLBACK; CREATE TABLE app.x ()",
        "BEGIN",
        "END",
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'x'",
        "DO $$ BEGIN CREATE TABLE app.x (); COMMIT; END $$",
        "CREATE PROCEDURE app.p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$; CALL app.p()",
        "VACUUM",
        "CREATE DATABASE escaped",
        "CREATE INDEX CONCURRENTLY ON app.old (id)",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "COPY app.old FROM STDIN",
        "COPY app.old FROM STDIN;\n1\n2\n\\.\n",
        "COPY app.old TO STDOUT",
        "\\! touch {escaped}",
        "\\copy app.old to {escaped}",
        "\\o {escaped}\nSELECT 1",
        "SELECT 1 \\g {escaped}",
        "\\c postgres",
        "`touch {escaped}`",
        "\\i {escaped}",
        ":x",
        "SELECT 'unterminated",
        "/* unterminated",
        "SELECT $$ unterminated",
        "CREATE TABLE app.x (); SELECT 1/0",
        "$pg$; COMMIT; CREATE TABLE app.x (); --",
    ],
)
@pytest.mark.fault("transaction-control", "meta-commands")
def test_nothing_that_an_author_writes_leaves_the_transaction(
    cluster: Cluster, escaping: Escape, tmp_path: Path, statement: str
) -> None:
    escaped = tmp_path / "escaped"
    outcome = escaping.run(statement.replace("{escaped}", str(escaped)))
    assert outcome.data["outcome"] == "ROLLED_BACK", outcome.message
    assert outcome.data["unchanged"] is True
    assert "statement 2 (CREATE TABLE, line 1) failed; rolled back" in outcome.message
    assert not escaped.exists()
    assert tables(cluster, escaping.prepared.client) == "old"


class Escape:
    """Forced statements in one prepared run: its plan and frozen DDL are replaced for every one."""

    def __init__(self, client: Client, root: Path) -> None:
        self.prepared = small(client, root).prepare()

    def run(self, statement: str) -> Outcome:
        several = ("CREATE TABLE app.first ();\n", statement, "\n;CREATE TABLE app.last ()")
        run = self.prepared.force(*several, label="CREATE TABLE")
        run.freeze()
        with pytest.MonkeyPatch.context() as patch:
            # as if it had got past the target's lexer, too
            patch.setattr(migration, "check_statements", lambda *_arguments: None)
            return run.migrate()


@pytest.fixture(scope="module")
def escaping(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Escape]:
    cluster.create_database("escaping")
    cluster.psql("CREATE SCHEMA app; CREATE TABLE app.old (id int PRIMARY KEY)", "escaping")
    yield Escape(client_of(cluster, "escaping"), tmp_path_factory.mktemp("escaping"))
    cluster.drop_database("escaping")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("COMMENT ON TABLE app.old IS 'x'; DELETE FROM app.old", "found: 2 statements: COMMENT; DELETE"),
        ("DELETE FROM app.old", "found: DELETE"),
        ("COPY app.old TO PROGRAM 'touch {escaped}'", "found: COPY"),
        ("COMMENT ON TABLE app.old IS 'x' /* ; */; COPY app.old TO PROGRAM 'touch {escaped}' --", "COMMENT; COPY"),
    ],
)
@pytest.mark.fault("range-smuggles")
def test_a_forged_range_does_not_begin_to_run(
    app: Client, cluster: Cluster, tmp_path: Path, statement: str, words: str
) -> None:
    escaped = tmp_path / "escaped"
    cluster.psql("INSERT INTO app.old VALUES (1)", app.database)
    run = small(app, tmp_path).prepare()
    run.force(statement.replace("{escaped}", str(escaped)), label="COMMENT").freeze()
    outcome = run.migrate()
    assert "does not describe statement 1 of migrate.sql (line 1)" in outcome.message
    assert words in outcome.message
    assert run.events("transaction") == []
    assert not escaped.exists()
    assert cluster.psql("SELECT count(*) FROM app.old", app.database) == "1"


@pytest.mark.fault("file-changed")
def test_a_file_that_was_cut_is_not_the_plans(client: Client, tmp_path: Path) -> None:
    run = Run.of(client, tmp_path, str(ALPHA)).prepare()
    frozen = Path(run.artefacts.path) / "sql" / "migrate.sql"
    for length in (0, 1, len(run.ddl) // 2, len(run.ddl) - 1):
        frozen.write_bytes(run.ddl[:length])
        outcome = run.migrate()
        assert "migrate.sql differs from the file of the plan" in outcome.message
        assert run.events("transaction") == []


# --- files of the run ------------------------------------------------------------------------------------------


def flip_a_bit(run: Run) -> None:
    path = Path(run.artefacts.path) / "backup.dump"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(run: Run) -> None:
    path = Path(run.artefacts.path) / "backup.dump"
    path.write_bytes(path.read_bytes()[:-1])


def remove(run: Run) -> None:
    (Path(run.artefacts.path) / "backup.dump").unlink()


def replace_by_another(run: Run) -> None:
    path = Path(run.artefacts.path) / "backup.dump"
    path.write_bytes(path.read_bytes().replace(b"app", b"apq"))


def older(run: Run) -> None:
    run.recorded(lambda backup: backup.update(started_epoch=backup["started_epoch"] - 3601))


def from_the_future(run: Run) -> None:
    run.recorded(lambda backup: backup.update(started_epoch=backup["started_epoch"] + 3600))


def of_another_cluster(run: Run) -> None:
    run.recorded(lambda backup: backup.update(system_identifier="1"))


def change_rollback(run: Run) -> None:
    (Path(run.artefacts.path) / "sql" / "rollback.sql").write_bytes(b"SELECT 1;\n")


def remove_rollback(run: Run) -> None:
    (Path(run.artefacts.path) / "sql" / "rollback.sql").unlink()


def widen_the_plan(run: Run) -> None:
    run.plan["ddl"]["statements"][0]["kinds"] = ["CREATE TABLE", "DROP TABLE"]
    run.freeze()


def another_step(run: Run) -> None:
    run.artefacts.journal.append("C-10", "done")


def another_target(run: Run) -> None:
    run.declared = {"system_identifier": "1", "database": "elsewhere"}


def rehearsal_target(run: Run) -> None:
    run.declared = {"rehearsal_system_identifiers": [fetch_identity(run.client).system_identifier]}


@pytest.mark.parametrize(
    ("damage", "gate", "found"),
    [
        (flip_a_bit, "G-5", "SHA-256"),
        (truncate, "G-5", "bytes"),
        (remove, "G-5", "no file"),
        (replace_by_another, "G-5", "SHA-256"),
        (older, "G-2", "s old"),
        (from_the_future, "G-2", "in the future"),
        (of_another_cluster, "G-4", "cluster of the backup 1"),
        (change_rollback, "G-9", "SHA-256"),
        (remove_rollback, "G-9", "no rollback SQL"),
        (widen_the_plan, "G-8", "DROP TABLE"),
        (another_step, "G-11", "C-10"),
        (another_target, "G-4", "system_identifier"),
        (rehearsal_target, "G-4", "a rehearsal cluster, system identifier"),
    ],
)
@pytest.mark.fault("dump-damaged", "backup-foreign")
def test_a_gate_stops_before_the_transaction(
    app: Client, tmp_path: Path, damage: Callable[[Run], None], gate: str, found: str
) -> None:
    run = small(app, tmp_path).prepare()
    damage(run)
    outcome = run.migrate()
    assert outcome.message.startswith(f"Stopped at {gate} (")
    assert (outcome.data["outcome"], outcome.gate(gate)["status"]) == ("NOT_STARTED", "FAIL")
    assert found in outcome.gate(gate)["found"]
    assert f"{gate} {outcome.gate(gate)['next_step']}" in outcome.message
    assert run.events("transaction") == []


def test_a_run_without_a_backup_stops_at_both_gates(app: Client, tmp_path: Path) -> None:
    run = small(app, tmp_path).prepare()
    journal = Path(run.artefacts.journal.path)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:1]))
    outcome = run.migrate()
    assert {gate["id"] for gate in outcome.data["gates"] if gate["status"] == "FAIL"} == {"G-2", "G-5"}


def test_a_schema_that_changed_since_the_snapshot_stops(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = small(app, tmp_path).prepare()
    cluster.psql("ALTER TABLE app.old ADD COLUMN meanwhile int", app.database)
    outcome = run.migrate()
    assert "the schema was changed during this run" in outcome.message
    assert outcome.data["outcome"] == "NOT_STARTED"


def rehearsed(run: Run) -> Run:
    """Put into the plan what a rehearsal on this very database would have found."""
    with run.client.session() as session:
        run.plan["rehearsal"] = {
            "bundle": "alpha_rehearsal",
            "base_fingerprint": normalise(take_snapshot(session)).fingerprint,
            "server": server_facts(session),
            "changes": [],
            "changes_before_commit": [],
        }
    run.plan["not_after"] = "2999-01-01T00:00:00Z"
    return run


@pytest.mark.parametrize(
    ("change", "expected", "found"),
    [
        ("ALTER DATABASE {} SET DateStyle TO 'German'", "DateStyle 'ISO, MDY'", "DateStyle 'German, DMY'"),
        ("ALTER DATABASE {} SET TimeZone TO 'Asia/Tokyo'", "TimeZone ", "TimeZone Asia/Tokyo"),
        ("ALTER TABLE app.old ADD COLUMN later int", "normalised fingerprint ", "normalised fingerprint "),
    ],
)
def test_what_was_not_so_at_the_rehearsal_stops(  # noqa: PLR0917 - pytest passes by name
    app: Client, cluster: Cluster, tmp_path: Path, change: str, expected: str, found: str
) -> None:
    run = rehearsed(small(app, tmp_path))
    cluster.psql(change.format(app.database), app.database)
    outcome = run.prepare().migrate()
    assert outcome.message.startswith("Stopped at G-10 (")
    gate = outcome.gate("G-10")
    assert (gate["status"], outcome.data["outcome"]) == ("FAIL", "NOT_STARTED")
    assert expected in gate["expected"]
    assert found in gate["found"]
    assert "rehearse again" in gate["next_step"]


def test_another_minor_version_is_told(app: Client, tmp_path: Path) -> None:
    run = rehearsed(small(app, tmp_path))
    run.plan["rehearsal"]["server"]["server_version"] = f"{MAJOR}.0"
    gate = run.prepare().migrate().gate("G-10")
    # there is no bundle of this rehearsal, and nobody has to approve here
    assert gate["status"] == "NOT ENFORCED"
    assert f"rehearsed on PostgreSQL {MAJOR}.0, this is {MAJOR}." in gate["found"]


def test_an_inventory_that_declares_nothing_is_refused_by_the_opening_and_by_c07(app: Client, tmp_path: Path) -> None:
    run = small(app, tmp_path)
    run.declared = {}
    with pytest.raises(PhaseGateError, match="an identity declared in the inventory"):
        run.prepare()
    run.declared = {"database": app.database}
    run.prepare().declared = {}
    assert "Stopped at G-4" in run.migrate().message


#: A check that needs a lock on ``app.old``.
WAIT = {"id": "P-1", "title": "wait", "sql": "SELECT count(*) FROM app.old", "expect": 0}


@pytest.mark.fault("file-swapped")
def test_the_frozen_buffer_runs_whatever_happens_to_the_file(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = small(app, tmp_path, preflight=[WAIT]).prepare()
    frozen = Path(run.artefacts.path) / "sql" / "migrate.sql"
    with app.session() as other:
        # C-07 has read the file and waits for this lock when the file is exchanged
        other.execute("BEGIN")
        other.execute("LOCK TABLE app.old")
        migration = InBackground(run)
        wait_for("C-07 waits", lambda: waiting(cluster, app))
        frozen.write_bytes(b"CREATE TABLE app.evil ();\n")
        other.execute("ROLLBACK")
    assert migration.join().message == ""
    assert tables(cluster, app) == "old t"


# --- locks -----------------------------------------------------------------------------------------------------


def waiting(cluster: Cluster, client: Client) -> str:
    """Return the pid of C-07's backend once it waits for a lock."""
    return cluster.psql(
        "SELECT max(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'phasegate:run:%' AND wait_event_type = 'Lock'",
        client.database,
    )


LOCKING = {
    "scope": {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN"]},
    "expect": {"tags": {"ALTER TABLE": 1}},
    "settings": {"lock_timeout": "200ms"},
}


@pytest.mark.fault("lock-held")
def test_a_lock_timeout_names_the_blocker_and_is_tried_again(app: Client, tmp_path: Path) -> None:
    before = fingerprint(app)
    run = small(app, tmp_path, "ALTER TABLE app.old ADD COLUMN note text;\n", **LOCKING).prepare()
    run.lock_attempts = 2
    with app.session("reporting") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT count(*) FROM app.old")
        pid = blocker.value("SELECT pg_backend_pid()")
        outcome = run.migrate()
    assert outcome.error
    assert f"pid {pid}, user workflow_admin, application reporting, idle in transaction" in outcome.error.found
    assert "query: SELECT pg_backend_pid()" not in outcome.error.expected
    assert "200ms" in outcome.error.expected
    assert [event["attempt"] for event in run.events("lock timeout")] == [1, 2]
    assert outcome.data["transaction"]["attempts"] == 2
    assert_rolled_back(run, outcome, before)


@pytest.mark.fault("lock-held")
def test_a_lock_that_is_released_between_two_attempts_is_got(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = small(app, tmp_path, "ALTER TABLE app.old ADD COLUMN note text;\n", **LOCKING).prepare()
    run.lock_attempts = 3
    with app.session() as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT count(*) FROM app.old")
        migration = InBackground(run)
        wait_for("the first timeout", lambda: run.events("lock timeout"))
        blocker.execute("ROLLBACK")
    outcome = migration.join()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    assert outcome.data["transaction"]["attempts"] > 1
    assert "note" in cluster.psql("SELECT string_agg(attname, ' ') FROM pg_attribute"
                                  " WHERE attrelid = 'app.old'::regclass AND attnum > 0", app.database)  # fmt: skip


@pytest.mark.fault("lock-held")
def test_who_holds_a_lock_is_written_before_the_wait_has_timed_out(app: Client, tmp_path: Path) -> None:
    settings = {"lock_timeout": "3s"}
    run = small(
        app, tmp_path, "ALTER TABLE app.old ADD COLUMN note text;\n", **{**LOCKING, "settings": settings}
    ).prepare()
    with app.session("evil\x1b[2J") as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT count(*) FROM app.old")
        pid, user = blocker.rows("SELECT pg_backend_pid(), session_user")[0]
        migration = InBackground(run)
        wait_for("the wait", lambda: run.events("lock wait"))
        assert not run.events("lock timeout")
        blocker.execute("ROLLBACK")
    outcome = migration.join()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    (waited,) = run.events("lock wait")
    assert (waited["what"], waited["mode"]) == ("app.old", "AccessExclusiveLock")
    (holder,) = waited["holders"]
    assert (holder["pid"], holder["role"], "\x1b" in holder["application"]) == (int(pid or 0), user, False)
    assert holder["application"].startswith("evil")
    assert holder["since"].startswith("2")
    assert run.events("commit")


def test_no_other_error_is_tried_again(app: Client, tmp_path: Path) -> None:
    settings = {"lock_timeout": "5s", "statement_timeout": "200ms"}
    run = small(
        app, tmp_path, "ALTER TABLE app.old ADD COLUMN note text;\n", **{**LOCKING, "settings": settings}
    ).prepare()
    run.lock_attempts = 5
    with app.session() as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT count(*) FROM app.old")
        outcome = run.migrate()
    assert "57014: canceling statement due to statement timeout" in outcome.message
    assert (len(run.events("transaction")), outcome.data["outcome"]) == (1, "ROLLED_BACK")


# --- two operators ---------------------------------------------------------------------------------------------


@pytest.mark.fault("two-operators")
def test_the_second_operator_is_told_who_runs(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    first = small(app, tmp_path, preflight=[WAIT]).prepare()
    second = small(app, tmp_path).prepare(locked=False)
    with app.session() as blocker:
        blocker.execute("BEGIN")
        blocker.execute("LOCK TABLE app.old")
        migration = InBackground(first)
        pid = wait_for("C-07 waits", lambda: waiting(cluster, app))
        outcome = second.migrate()
        blocker.execute("ROLLBACK")
    assert outcome.message.startswith("Stopped at G-7 (")
    assert f"pid {pid}, role workflow_admin, since 2" in outcome.message
    assert f'it claims application_name "phasegate:run:{Path(first.artefacts.path).name}", unproved' in outcome.message
    assert outcome.data["outcome"] == "NOT_STARTED"
    assert migration.join().message == ""
    assert tables(cluster, app) == "old t"


def test_who_holds_the_lock_is_not_stopped_by_who_waits_for_it(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    # Both connect, one gets the lock: it must win, or both would stop.
    run = small(app, tmp_path).prepare()
    with app.session("phasegate:run:small_test_of_somebody_else"):
        outcome = run.migrate()
    assert outcome.message == ""
    assert tables(cluster, app) == "old t"


def test_another_database_of_the_cluster_is_no_obstacle(
    app: Client, cluster: Cluster, database: str, tmp_path: Path
) -> None:
    run = small(app, tmp_path).prepare()
    with client_of(cluster, database).session("phasegate:run:alpha_test") as other:
        other.execute("SELECT pg_advisory_lock(1885888883, 1701274996)")
        assert run.migrate().message == ""


# --- connections that end --------------------------------------------------------------------------------------


@pytest.mark.fault("server-killed")
def test_a_backend_killed_in_a_statement_is_proved_rolled_back(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    before = fingerprint(app)
    run = small(app, tmp_path, settings={"statement_timeout": "1h"})
    run.force("CREATE TABLE app.t (id int);\n", "SELECT pg_sleep(600)").prepare()
    migration = InBackground(run)
    pid = wait_for(
        "the sleep",
        lambda: cluster.psql("SELECT max(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", app.database),
    )
    cluster.psql(f"SELECT pg_terminate_backend({pid})")
    outcome = migration.join()
    xid = run.events("transaction")[0]["xid"]
    assert outcome.data["outcome"] == "ROLLED_BACK"
    assert "the connection was lost before COMMIT was sent: ROLLED_BACK.\n" in outcome.message
    assert f"transaction {xid}" in outcome.message
    assert cluster.psql(f"SELECT pg_xact_status('{xid}')") == "aborted"
    assert fingerprint(app) == before
    assert run.events("failed")[0]["outcome"] == "ROLLED_BACK"


@pytest.fixture
def ghost_standby(cluster: Cluster) -> Iterator[None]:
    """Every COMMIT waits for a standby that does not exist, in sessions that ask for it."""
    cluster.psql("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
    cluster.psql("SELECT pg_reload_conf()")
    yield
    cluster.psql("ALTER SYSTEM RESET synchronous_standby_names")
    cluster.psql("SELECT pg_reload_conf()")


@pytest.mark.usefixtures("ghost_standby")
@pytest.mark.fault("commit-unknown")
def test_a_commit_whose_answer_is_lost_is_resolved_to_committed(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    # the throw-away cluster turns it off for every database; a database's own setting comes before that
    cluster.psql(f'ALTER DATABASE "{app.database}" SET synchronous_commit = on')
    run = small(app, tmp_path).prepare()
    migration = InBackground(run)
    pid = wait_for(
        "COMMIT waits for the ghost",
        lambda: cluster.psql("SELECT max(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
    )
    cluster.psql(f"SELECT pg_terminate_backend({pid})")
    outcome = migration.join()
    assert (outcome.data["outcome"], outcome.message) == ("COMMITTED", "")
    assert tables(cluster, app) == "old t"


@pytest.mark.usefixtures("ghost_standby")
@pytest.mark.fault("disk-full-after")
def test_a_disk_that_is_full_after_the_commit_does_not_hide_it(app: Client, cluster: Cluster, small_disk: Path) -> None:
    cluster.psql(f'ALTER DATABASE "{app.database}" SET synchronous_commit = on')
    run = small(app, small_disk).prepare()
    migration = InBackground(run)
    pid = wait_for(
        "COMMIT waits for the ghost",
        lambda: cluster.psql("SELECT max(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
    )
    filler = small_disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    journal = Path(run.artefacts.journal.path)
    with journal.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        # also what is left of the journal's own last page: a torn line, which nobody takes for one
        file.write(bytes(4096))
    cluster.psql(f"SELECT pg_terminate_backend({pid})")
    outcome = migration.join()
    assert outcome.data["outcome"] == "COMMITTED"
    assert outcome.message.startswith("C-07 is COMMITTED: EVIDENCE_INCOMPLETE (T-8).\n")
    assert "No space left on device" in outcome.message
    told = not_sealed(run.artefacts.path, OSError(28, "No space left on device"))
    assert str(told).startswith("the journal does not record how C-07 ended: EVIDENCE_INCOMPLETE (T-8).\n")
    # the module that saw the COMMIT gives one answer, in its message and in its result
    told = not_sealed(run.artefacts.path, OSError(28, "No space left on device"), {"C-07": outcome.data["outcome"]})
    assert str(told).startswith("C-07 is COMMITTED: EVIDENCE_INCOMPLETE (T-8).\n")
    told = not_sealed(
        run.artefacts.path, OSError(28, "No space left on device"), {"C-07": TransactionOutcome.ROLLED_BACK}
    )
    assert "COMMITTED" not in str(told)
    filler.unlink()
    found = applied(run)
    assert found == run.artefacts
    assert tables(cluster, app) == "old t"


def applied(run: Run) -> RunDirectory | None:
    """Return what the next run of the phase finds."""
    history = runs_of(str(run.root), run.plan["phase"]["phase"], fetch_identity(run.client), run.client)
    found = history.in_place(run.plan["ddl"]["sha256"])
    return found.run if found else None


def killed_after(run: Run, event: str) -> None:
    """Leave the journal as a controller leaves it that is killed right after this event."""
    journal = Path(run.artefacts.journal.path)
    lines = journal.read_bytes().splitlines(keepends=True)
    while f'"event":"{event}"'.encode() not in lines[-1]:
        lines.pop()
    journal.write_bytes(b"".join(lines))


@pytest.mark.parametrize("event", ["commit", "transaction"])
@pytest.mark.fault("controller-after")
def test_a_run_that_died_after_its_commit_is_found_by_the_next(app: Client, tmp_path: Path, event: str) -> None:
    run = small(app, tmp_path).prepare()
    assert run.migrate().message == ""
    killed_after(run, event)
    found = applied(run)
    assert found == run.artefacts
    assert run.events("resolved")[0]["outcome"] == "COMMITTED"


def test_a_run_that_died_before_its_commit_is_not_applied(app: Client, tmp_path: Path) -> None:
    run = small(app, tmp_path, verify=VERIFY_TWO).prepare()
    assert run.migrate().data["outcome"] == "ROLLED_BACK"
    killed_after(run, "transaction")
    assert applied(run) is None
    assert run.events("resolved")[0]["outcome"] == "ROLLED_BACK"


def test_a_commit_that_cannot_be_looked_up_is_not_called_a_rollback(
    cluster: Cluster, empty_database: str, tmp_path: Path
) -> None:
    cluster.psql(
        f'CREATE ROLE owner_of_app LOGIN; GRANT CREATE ON DATABASE "{empty_database}" TO owner_of_app;'
        " REVOKE EXECUTE ON FUNCTION pg_xact_status(xid8) FROM PUBLIC;"
        " GRANT EXECUTE ON FUNCTION pg_control_system() TO owner_of_app;"
        " CREATE SCHEMA app AUTHORIZATION owner_of_app",
        empty_database,
    )
    client = client_of(cluster, empty_database, "owner_of_app")
    try:
        outcome = small(client, tmp_path).prepare().migrate()
        assert tables(cluster, client) == "t"
        assert outcome.data["outcome"] == "UNKNOWN"
        assert "T-1: query the server" in outcome.message
    finally:
        cluster.psql(f'DROP DATABASE "{empty_database}" WITH (FORCE)')
        cluster.psql("DROP ROLE owner_of_app")


@pytest.mark.parametrize(("statement", "outcome"), [("SELECT 1", "ROLLED_BACK"), ("COMMIT", "COMMITTED")])
def test_after_a_defect_of_our_own_the_server_is_asked(
    app: Client, cluster: Cluster, tmp_path: Path, statement: str, outcome: str
) -> None:
    class Failing(TransactionChecks):
        def before_commit(self, session: Session, applied: MigrationResult) -> None:
            session.execute(statement)
            raise ZeroDivisionError(applied.xid)

    run = small(app, tmp_path).prepare()
    with app.session() as session, Step(run.artefacts, Migrated).running() as step:
        base = take_snapshot(session)
        with pytest.raises(ZeroDivisionError):
            run_script(session, app, migration_script(run.request()), Failing(), base, step)
    assert step.end.outcome == outcome
    assert tables(cluster, app) == ("old t" if outcome == "COMMITTED" else "old")


# --- a seal for every end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["alpha", "r1"])
def test_every_end_can_be_sealed_and_its_bundle_verifies(client: Client, tmp_path: Path, phase: str) -> None:
    files = ALPHA if phase == "alpha" else PHASES / phase / "phase.yml"
    run = Run.of(client, tmp_path, str(files)).prepare()
    outcome = run.migrate()
    report = seal_run(run.artefacts, "")
    assert verify_bundle(run.artefacts.path) == []
    assert report["outcome"] == ("COMMITTED_NOT_VERIFIED" if phase == "alpha" else "ROLLED_BACK")
    assert report["reason"] == outcome.message
    # the report can be built again from the bundle alone
    copy = shutil.copytree(run.artefacts.path, tmp_path / "copy" / Path(run.artefacts.path).name)
    assert seal_run(type(run.artefacts)(str(copy)), "") == report


def test_a_commit_that_was_not_verified_is_not_sealed_as_a_failure(app: Client, tmp_path: Path) -> None:
    run = small(app, tmp_path).prepare()
    assert run.migrate().message == ""
    with pytest.raises(PhaseGateError, match="C-07 is COMMITTED, but was not verified") as stopped:
        sealed({"run_directory": run.artefacts.path, "reason": "the controller lost the server"}, check_mode=False)
    assert "run the same command again" in stopped.value.next_step
    assert not run.artefacts.sealed
    with Step(run.artefacts, Verified).running() as step:
        step.update(checks=[])
    assert sealed({"run_directory": run.artefacts.path, "reason": "VA-1 failed"}, check_mode=False)["changed"]


def test_a_commit_is_on_disk_whatever_the_database_says(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    cluster.psql(f'ALTER DATABASE "{app.database}" SET synchronous_commit = off')
    sql = "SELECT pg_catalog.current_setting('synchronous_commit')"
    run = small(app, tmp_path, preflight=[{"id": "P-1", "title": "commit", "sql": sql, "expect": "on"}]).prepare()
    assert run.migrate().message == ""


def test_a_wrong_target_is_refused_at_the_opening(app: Client, tmp_path: Path) -> None:
    run = small(app, tmp_path)
    run.declared = {"database": "another"}
    with pytest.raises(PhaseGateError, match="Stopped at G-4") as caught:
        run.prepare()
    assert isinstance(caught.value, NotOpened)
    assert verify_bundle(caught.value.artefacts.path) == []
