# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that refuse a transaction, against a real server: what runs after COMMIT, and what an interruption leaves."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import ROLLBACK, RunOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import statements_left
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import run_alone
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.after_commit import (
    StatementState,
    fetch_statement_state,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    fetch_identity,
    is_incomplete,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import early_gates
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._run.migration import run_migration
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import open_run, reopen_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.waiting import index_build
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_file
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import InBackground, Run, client_of, wait_for

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
    from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

DDL = """BEGIN;
ALTER TABLE app.old ADD COLUMN note text;
COMMIT;
CREATE INDEX CONCURRENTLY by_note ON app.old (note);
-- the last one
CREATE UNIQUE INDEX CONCURRENTLY by_both ON app.old (id, note)
"""
DEFINITION: dict[str, Any] = {
    "scope": {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN", "CREATE INDEX CONCURRENTLY"]},
    "expect": {"tags": {"BEGIN": 1, "ALTER TABLE": 1, "COMMIT": 1, "CREATE INDEX": 2}},
    "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
    "verify": [
        {"id": "VA-1", "title": "the column", "sql": "SELECT count(note) FROM app.old", "expect": 2},
        {"id": "VA-2", "title": "both indexes, valid", "after_commit": True, "expect": 2, "sql":
         "SELECT count(*) FROM pg_index WHERE indrelid = 'app.old'::regclass AND indisvalid AND NOT indisprimary"},
    ],
    "diff": {"allow": [{"class": "narrowing", "kind": "index", "object": "app.old.by_both"}]},
}  # fmt: skip


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a table of two rows."""
    cluster.psql(
        "CREATE SCHEMA app; CREATE TABLE app.old (id int PRIMARY KEY); INSERT INTO app.old VALUES (1), (2)",
        empty_database,
    )
    return client_of(cluster, empty_database)


def planned(client: Client, tmp_path: Path, ddl: str = DDL, **changes: Any) -> Run:
    """Return a run of the phase above."""
    directory = tmp_path / "phase"
    directory.mkdir(exist_ok=True)
    definition = {**DEFINITION, "verify": DEFINITION["verify"][1:], **changes}
    PhaseFiles(directory).write(definition, ddl=ddl.encode())
    return Run.of(client, tmp_path / "runs", str(directory / "phase.yml"))


def indexes(cluster: Cluster, client: Client) -> str:
    """Return the indexes of the table, each with whether it is valid."""
    return cluster.psql(
        "SELECT string_agg(relname || ' ' || indisvalid, ', ' ORDER BY relname) FROM pg_index"
        " JOIN pg_class ON oid = indexrelid WHERE indrelid = 'app.old'::regclass AND NOT indisprimary",
        client.database,
    )


# --- the plan --------------------------------------------------------------------------------------------------


def test_the_plan_says_what_runs_after_commit(app: Client, tmp_path: Path) -> None:
    statements = planned(app, tmp_path).plan["ddl"]["statements"]
    assert [(s["tag"], s["run"], s["after_commit"]) for s in statements] == [
        ("BEGIN", False, ""),
        ("ALTER TABLE", True, ""),
        ("COMMIT", False, ""),
        ("CREATE INDEX", True, "app.by_note"),
        ("CREATE INDEX", True, "app.by_both"),
    ]
    assert statements[-1]["kinds"] == ["CREATE INDEX CONCURRENTLY"]


@pytest.mark.parametrize(
    ("sql", "kind", "about"),
    [
        ("CREATE INDEX CONCURRENTLY i ON app.t (id)", "CREATE INDEX CONCURRENTLY", "app.i"),
        ('create unique index concurrently "I.1" on app.t (id)', "CREATE INDEX CONCURRENTLY", 'app."I.1"'),
        ("DROP INDEX CONCURRENTLY IF EXISTS app.i", "DROP INDEX CONCURRENTLY", "app.i"),
        ("REINDEX TABLE CONCURRENTLY app.t", "REINDEX CONCURRENTLY", "app.t"),
        ("REINDEX (VERBOSE) INDEX CONCURRENTLY app.i", "REINDEX CONCURRENTLY", "app.i"),
        (
            'ALTER TABLE app.t DETACH PARTITION app . "U" CONCURRENTLY',
            "ALTER TABLE DETACH PARTITION CONCURRENTLY",
            'app."U"',
        ),
    ],
)
def test_every_kind_is_recognised(sql: str, kind: str, about: str) -> None:
    problems: list[Any] = []
    rules = SqlRules(frozenset({"app"}), frozenset({kind}), frozenset(), (), {}, "k", "r")
    (one,) = analyse_file(SourceFile("x.sql", "x.sql", sql.encode()), rules, problems)
    assert problems == []
    assert (one["kinds"], one["after_commit"]) == ([kind], about)


@pytest.mark.parametrize("wider", ["CREATE INDEX", "ALTER TABLE", "REINDEX"])
def test_no_wider_kind_allows_it(app: Client, tmp_path: Path, wider: str) -> None:
    scope = {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN", wider]}
    with pytest.raises(PhaseFileError, match=r"CREATE INDEX CONCURRENTLY is not in scope\.statements"):
        planned(app, tmp_path, scope=scope)


def test_only_statements_after_commit_excuse_a_check_from_being_judged_before(app: Client, tmp_path: Path) -> None:
    ddl = "BEGIN;\nALTER TABLE app.old ADD COLUMN note text;\nCOMMIT;\n"
    with pytest.raises(PhaseFileError, match=r"no statement of migrate\.sql runs after COMMIT"):
        planned(app, tmp_path, ddl, expect={"tags": {"BEGIN": 1, "ALTER TABLE": 1, "COMMIT": 1}})


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE app.old;",
        "VACUUM app.old;",
        "REINDEX TABLE app.old; DROP TABLE app.old;",
        "ALTER TABLE app.old DROP COLUMN id; -- DETACH PARTITION app.u CONCURRENTLY",
        "-- CREATE INDEX CONCURRENTLY\nDROP TABLE app.old;",
        "COMMIT; CREATE INDEX CONCURRENTLY i ON app.old (id);",
    ],
)
def test_a_forged_plan_runs_nothing_else_after_commit(app: Client, cluster: Cluster, tmp_path: Path, text: str) -> None:
    run = planned(app, tmp_path).force("SELECT 1;", text)
    run.plan["ddl"]["statements"][1].update(after_commit="app.i", kinds=["CREATE INDEX CONCURRENTLY"])
    outcome = run.prepare().migrate()
    assert "a statement with CONCURRENTLY after COMMIT" in outcome.message
    assert run.events("transaction") == []
    assert cluster.psql("SELECT count(*) FROM app.old", app.database) == "2"


def test_what_runs_after_commit_stands_at_the_end(app: Client, tmp_path: Path) -> None:
    plan = planned(app, tmp_path).plan["ddl"]
    plan["statements"][3]["after_commit"], plan["statements"][4]["after_commit"] = "app.by_note", ""
    with pytest.raises(PhaseGateError, match="statements after COMMIT at the end only"):
        check_cover(plan["statements"], DDL.encode(), plan["sha256"])


# --- transport -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX CONCURRENTLY i ON app.old (id); DROP TABLE app.old",
        "CREATE INDEX CONCURRENTLY i ON app.old (id); COMMIT; DROP TABLE app.old",
        "CREATE INDEX CONCURRENTLY i ON app.old (id) \\! touch {escaped}",
        "CREATE INDEX CONCURRENTLY i ON app.old (id) \\g {escaped}",
        "CREATE INDEX CONCURRENTLY i ON app.old (id) WHERE id > :x",
        "CREATE INDEX CONCURRENTLY i ON app.old (id) WHERE 'unterminated",
        "CREATE INDEX CONCURRENTLY i ON app.old (id) /* unterminated",
        "REINDEX TABLE CONCURRENTLY app.old; DROP TABLE app.old",
        "ALTER TABLE app.old DETACH PARTITION app.u CONCURRENTLY; DROP TABLE app.old",
        "DROP INDEX CONCURRENTLY app.old_pkey; DROP TABLE app.old",
    ],
)
def test_psql_carries_one_statement_and_reads_nothing(app: Client, cluster: Cluster, tmp_path: Path, text: str) -> None:
    escaped = tmp_path / "escaped"
    with app.session() as session:
        session.execute("\\set x 1")
        with pytest.raises(SqlError):
            run_alone(session, text.replace("{escaped}", str(escaped)))
        assert session.value("SELECT 1") == "1"
    assert not escaped.exists()
    assert (indexes(cluster, app), cluster.psql("SELECT count(*) FROM app.old", app.database)) == ("", "2")


# --- running ---------------------------------------------------------------------------------------------------


def test_the_transaction_commits_and_each_statement_after_it_is_journaled(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = planned(app, tmp_path).prepare()
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    assert indexes(cluster, app) == "by_both true, by_note true"
    events = [entry.event for entry in run.artefacts.journal.entries() if entry.step == "C-07"]
    assert events == ["intent", "transaction", "commit", *(["statement", "statement done"] * 2), "done"]
    assert [(s["n"], s["tag"]) for s in outcome.data["transaction"]["statements"]] == [
        (2, "ALTER TABLE"),
        (4, "CREATE INDEX"),
        (5, "CREATE INDEX"),
    ]
    # before COMMIT the indexes were neither there nor asked for
    assert outcome.data["transaction"]["checks"] == []
    assert "by_note" not in outcome.data["transaction"]["diff"]["text"]
    assert statements_left(run.plan["ddl"]["statements"], run.artefacts.journal.entries(), "C-07") == []


def test_nothing_runs_after_a_transaction_that_is_rolled_back(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path, verify=DEFINITION["verify"]).prepare()
    outcome = run.migrate()
    assert outcome.data["outcome"] == "ROLLED_BACK"
    assert "VA-1 (the column) 2" in outcome.message
    assert (indexes(cluster, app), run.events("statement")) == ("", [])


def test_a_phase_may_have_nothing_else(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    ddl = "CREATE INDEX CONCURRENTLY by_id ON app.old (id)"
    scope = {"schemas": ["app"], "statements": ["CREATE INDEX CONCURRENTLY"]}
    run = planned(app, tmp_path, ddl, scope=scope, expect={"tags": {"CREATE INDEX": 1}}).prepare()
    assert run.migrate().message == ""
    assert indexes(cluster, app) == "by_id true"


@pytest.mark.fault("build-cancelled")
def test_rows_that_break_a_unique_index_leave_it_invalid_and_named(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    ddl = DDL.replace("(id, note)", "((id > 0))")
    run = planned(app, tmp_path, ddl).prepare()
    outcome = run.migrate()
    assert outcome.data["outcome"] == "COMMITTED"
    assert "statement 5 (CREATE INDEX CONCURRENTLY, line 6) did not complete" in outcome.message
    assert "the transaction before it is COMMITTED" in outcome.message
    assert "23505" in outcome.message
    assert "invalid index app.by_both" in outcome.message
    assert "DROP INDEX CONCURRENTLY app.by_both;" in outcome.message
    assert indexes(cluster, app) == "by_both false, by_note true"
    (failed,) = run.events("statement failed")
    assert (failed["n"], failed["left"]) == (5, "invalid index app.by_both")


def running(cluster: Cluster, client: Client) -> str:
    """Return the pid of the backend that builds an index."""
    return cluster.psql(
        "SELECT max(a.pid) FROM pg_stat_activity a JOIN pg_stat_progress_create_index p USING (pid)"
        f" WHERE a.datname = '{client.database}' AND a.wait_event_type = 'Lock'"
    )


@pytest.mark.fault("build-cancelled")
@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_build_that_is_ended_is_never_a_success(app: Client, cluster: Cluster, tmp_path: Path, end: str) -> None:
    run = planned(app, tmp_path).prepare()
    with app.session("reporting") as other:
        # an index build waits for transactions that are older than it
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT pg_current_xact_id()")
        migration = InBackground(run)
        pid = wait_for("the build waits", lambda: running(cluster, app))
        cluster.psql(f"SELECT {end}({pid})")
        outcome = migration.join()
    assert outcome.data["outcome"] == "COMMITTED"
    assert "statement 4 (CREATE INDEX CONCURRENTLY, line 4) did not complete" in outcome.message
    assert "invalid index app.by_note" in outcome.message
    assert "DROP INDEX CONCURRENTLY app.by_note;" in outcome.message
    assert indexes(cluster, app) == "by_note false"
    assert [
        s["n"] for s in statements_left(run.plan["ddl"]["statements"], run.artefacts.journal.entries(), "C-07")
    ] == [4, 5]


def test_a_build_may_take_as_long_as_declared_whatever_the_lock_timeout(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    settings = {"lock_timeout": "100ms", "statement_timeout": "100ms", "after_commit_timeout": "700ms"}
    run = planned(app, tmp_path, settings=settings).prepare()
    with app.session("reporting") as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT pg_current_xact_id()")
        outcome = run.migrate()
    assert "57014: canceling statement due to statement timeout" in outcome.message
    assert indexes(cluster, app) == "by_note false"


def test_who_a_build_waits_for_is_journaled_while_it_waits(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path).prepare()
    with app.session("reporting") as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        pid = other.rows("SELECT pg_backend_pid(), pg_current_xact_id()")[0][0]
        migration = InBackground(run)
        wait_for("the wait", lambda: run.events("lock wait"))
        other.execute("ROLLBACK")
    assert migration.join().message == ""
    waited = run.events("lock wait")[0]
    assert waited["what"].startswith("another transaction (virtualxid")
    assert [(one["pid"], one["application"]) for one in waited["holders"]] == [(int(pid or 0), "reporting")]


def test_the_phase_of_a_build_is_seen(app: Client, cluster: Cluster) -> None:
    slow = "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(1.5); RETURN n; END'"
    cluster.psql(f"CREATE FUNCTION app.slow(n int) RETURNS int {slow}", app.database)
    with app.session() as building, app.session() as looking:
        pid = int(building.value("SELECT pg_backend_pid()") or 0)
        assert index_build(looking, pid) is None
        worker = threading.Thread(target=building.execute, args=("CREATE INDEX ON app.old (app.slow(id::int))",))
        worker.start()

        def builds() -> bool:
            found = index_build(looking, pid)
            return found is not None and found.what.startswith("building index")

        wait_for("the build", builds)
        worker.join()


# --- going on after an interruption ----------------------------------------------------------------------------


def applied(run: Run) -> RunDirectory | None:
    """Return what the next run of the phase finds."""
    history = runs_of(str(run.root), run.plan["phase"]["phase"], fetch_identity(run.client), run.client)
    found = history.in_place(run.plan["ddl"]["sha256"])
    return found.run if found else None


def test_a_sealed_run_is_continued_in_a_copy_once_the_invalid_index_is_gone(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = planned(app, tmp_path, DDL.replace("(id, note)", "((id > 0))")).prepare()
    assert run.migrate().data["outcome"] == "COMMITTED"
    report = seal_run(run.artefacts, "")
    assert report["outcome"] == "COMMITTED_INCOMPLETE"
    assert [row["found"] for row in report["triggers"] if row["status"] == "TRIGGERED"] == ["invalid index app.by_both"]
    first = run.artefacts
    assert applied(run) == first
    assert is_incomplete(first)

    run.artefacts = reopen_run(first, str(run.root))
    assert applied(run) == run.artefacts
    stopped = run.finish()
    assert "invalid index app.by_both, left by an earlier attempt" in stopped.message
    assert stopped.data["outcome"] == "COMMITTED"

    cluster.psql("DELETE FROM app.old WHERE id = 2; DROP INDEX app.by_both", app.database)
    outcome = run.finish()
    assert outcome.message == ""
    assert [s["n"] for s in outcome.data["transaction"]["statements"]] == [2, 4, 5]
    # the first index was not built again, and the transaction was not run again
    assert [event["n"] for event in run.events("statement")] == [4, 5, 5]
    assert len(run.events("transaction")) == 1
    assert indexes(cluster, app) == "by_both true, by_note true"
    assert not is_incomplete(run.artefacts)
    # C-08 is not part of this test
    assert seal_run(run.artefacts, "")["outcome"] == "COMMITTED_NOT_VERIFIED"
    assert (verify_bundle(first.path), verify_bundle(run.artefacts.path)) == ([], [])


def test_the_reason_of_a_continued_run_is_its_own(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path, DDL.replace("(id, note)", "((id > 0))")).prepare()
    run.migrate()
    seal_run(run.artefacts, "")
    run.artefacts = reopen_run(run.artefacts, str(run.root))
    cluster.psql("DROP INDEX app.by_both; DROP TABLE app.old", app.database)
    stopped = run.finish()
    assert '42P01: relation "app.old" does not exist' in stopped.message
    assert seal_run(run.artefacts, "")["reason"] == stopped.message


def test_a_damaged_bundle_is_not_continued(app: Client, tmp_path: Path) -> None:
    run = planned(app, tmp_path, DDL.replace("(id, note)", "((id > 0))")).prepare()
    run.migrate()
    seal_run(run.artefacts, "")
    run.artefacts.write("sql/migrate.sql", b"SELECT 1")
    with pytest.raises(PhaseGateError, match=r"sql/migrate\.sql was changed"):
        reopen_run(run.artefacts, str(run.root))


@pytest.mark.parametrize("undo", [0, 1], ids=["the first", "the copy"])
def test_a_rollback_of_either_undoes_the_continued_run(app: Client, tmp_path: Path, undo: int) -> None:
    run = planned(app, tmp_path, DDL.replace("(id, note)", "((id > 0))")).prepare()
    run.migrate()
    seal_run(run.artefacts, "")
    both = [run.artefacts, reopen_run(run.artefacts, str(run.root))]
    about = RunOpened(
        kind=ROLLBACK,
        environment=run.environment,
        identity=fetch_identity(app).as_dict(),
        execution=name_of(both[undo]),
    )
    rollback = open_run(
        str(run.root), run.plan, about, {}, {"rollback": str(run.files() / run.plan["rollback"]["file"])}
    )
    rollback.journal.append("C-09", "done", {"outcome": "COMMITTED"})
    assert applied(run) is None


def cut_after(run: Run, event: str) -> None:
    """Leave the journal as a process leaves it that is killed right after the first such event."""
    journal = Path(run.artefacts.journal.path)
    lines = journal.read_bytes().splitlines(keepends=True)
    last = next(n for n, line in enumerate(lines) if f'"event":"{event}"'.encode() in line)
    journal.write_bytes(b"".join(lines[: last + 1]))


def test_a_run_that_died_between_commit_and_the_first_statement_goes_on(
    app: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = planned(app, tmp_path).prepare()
    assert run.migrate().message == ""
    cut_after(run, "commit")
    cluster.psql("DROP INDEX app.by_note, app.by_both", app.database)
    assert applied(run) == run.artefacts
    assert run.finish().message == ""
    assert indexes(cluster, app) == "by_both true, by_note true"


@pytest.mark.parametrize("completed", [True, False])
def test_a_run_that_died_in_a_statement_asks_the_catalog(
    app: Client, cluster: Cluster, tmp_path: Path, completed: bool
) -> None:
    run = planned(app, tmp_path).prepare()
    assert run.migrate().message == ""
    cut_after(run, "statement")
    cluster.psql("DROP INDEX app.by_both" + ("" if completed else ", app.by_note"), app.database)
    assert applied(run) == run.artefacts
    assert run.finish().message == ""
    assert indexes(cluster, app) == "by_both true, by_note true"
    assert [event["n"] for event in run.events("statement")] == ([4, 5] if completed else [4, 4, 5])
    assert [event["n"] for event in run.events("statement done")] == [4, 5]


def test_the_gates_are_judged_again_before_a_run_goes_on(app: Client, cluster: Cluster, tmp_path: Path) -> None:
    run = planned(app, tmp_path).prepare()
    run.migrate()
    cut_after(run, "commit")
    cluster.psql("DROP INDEX app.by_note, app.by_both", app.database)
    run.declared = {"database": "another"}
    outcome = run.finish()
    assert outcome.message.startswith("Stopped at G-4 (")
    assert (indexes(cluster, app), outcome.data["outcome"]) == ("", "COMMITTED")


def test_a_run_that_goes_on_was_executed_in_time(
    app: Client, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []

    def early(*arguments: Any) -> list[Gate]:
        judged.append(arguments[2].continued)
        return early_gates(*arguments)

    monkeypatch.setattr(f"{run_migration.__module__}.early_gates", early)
    run = planned(app, tmp_path).prepare()
    run.migrate()
    cut_after(run, "commit")
    cluster.psql("DROP INDEX app.by_note, app.by_both", app.database)
    assert run.finish().message == ""
    assert judged == [False, True]


# --- what the catalog says -------------------------------------------------------------------------------------


def statement(kind: str, about: str) -> dict[str, Any]:
    return {"kinds": [kind], "after_commit": about}


def test_the_catalog_tells_a_drop(app: Client) -> None:
    drop = statement("DROP INDEX CONCURRENTLY", "app.i")
    with app.session() as session:
        assert fetch_statement_state(session, drop) == (StatementState.DONE, "")
        session.execute("CREATE INDEX i ON app.old (id)")
        assert fetch_statement_state(session, drop) == (StatementState.OPEN, "")
        session.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.i'::regclass")
        assert fetch_statement_state(session, drop) == (StatementState.OPEN, "")
        run_alone(session, "DROP INDEX CONCURRENTLY app.i")
        assert fetch_statement_state(session, drop) == (StatementState.DONE, "")


def test_the_catalog_tells_what_reindex_left(app: Client) -> None:
    with app.session() as session:
        session.execute("CREATE INDEX i_ccnew ON app.old (id)")
        for about in ("app.old", "app.old_pkey"):
            assert fetch_statement_state(session, statement("REINDEX CONCURRENTLY", about)) == (StatementState.OPEN, "")
        session.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.i_ccnew'::regclass")
        for about in ("app.old", "app.old_pkey"):
            found = fetch_statement_state(session, statement("REINDEX CONCURRENTLY", about))
            assert found == (StatementState.BROKEN, "invalid index app.i_ccnew")


PARTITIONED = """CREATE SCHEMA app;
CREATE TABLE app.events (id int, kind text) PARTITION BY LIST (id);
CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES IN (1);
CREATE TABLE app."Events.2" PARTITION OF app.events FOR VALUES IN (2);
INSERT INTO app.events SELECT 1 + n % 2, 'k' || n FROM generate_series(1, 100) n;
"""
ATTACHED = """BEGIN;
CREATE INDEX by_kind ON ONLY app.events (kind);
COMMIT;
CREATE INDEX CONCURRENTLY by_kind_1 ON app.events_1 (kind);
ALTER INDEX app.by_kind ATTACH PARTITION app.by_kind_1;
CREATE INDEX CONCURRENTLY "By.2" ON app."Events.2" (kind);
ALTER INDEX app.by_kind ATTACH PARTITION app."By.2";
"""


@pytest.fixture
def partitioned(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a table of two partitions."""
    cluster.psql(PARTITIONED, empty_database)
    return client_of(cluster, empty_database)


def attached(client: Client, tmp_path: Path, ddl: str = ATTACHED) -> Run:
    """Return a run of a phase that gives a partitioned table an index without blocking writes."""
    kinds = ["CREATE INDEX", "CREATE INDEX CONCURRENTLY", "ALTER INDEX ATTACH PARTITION"]
    tags = {"BEGIN": 1, "COMMIT": 1, "CREATE INDEX": ddl.count("CREATE INDEX"), "ALTER INDEX": ddl.count("ALTER INDEX")}
    changes = {"scope": {"schemas": ["app"], "statements": kinds}, "expect": {"tags": tags}}
    valid = "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = 'app.by_kind'::regclass"
    verify = [{"id": "VA-1", "title": "valid", "sql": valid, "expect": 1, "after_commit": True}]
    return planned(client, tmp_path, ddl, **changes, verify=verify, diff={"allow": [{"class": "*"}]})


def parts(cluster: Cluster, client: Client) -> str:
    """Return whether the partitioned index is valid, and how many parts it has."""
    return cluster.psql(
        "SELECT indisvalid, (SELECT count(*) FROM pg_inherits WHERE inhparent = indexrelid)"
        " FROM pg_index WHERE indexrelid = 'app.by_kind'::regclass",
        client.database,
    )


@pytest.mark.fault("attach-interrupted")
def test_an_index_of_partitions_is_built_concurrently_and_attached(
    partitioned: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = attached(partitioned, tmp_path).prepare()
    assert [one["after_commit"] for one in run.plan["ddl"]["statements"][3:]] == [
        "app.by_kind_1",
        "app.by_kind.app.by_kind_1",
        'app."By.2"',
        'app.by_kind.app."By.2"',
    ]
    assert run.migrate().message == ""
    assert [one["n"] for one in run.events("statement done")] == [4, 5, 6, 7]
    assert parts(cluster, partitioned) == "t|2"


@pytest.mark.fault("attach-interrupted")
def test_a_run_that_died_while_it_attached_asks_the_catalog(
    partitioned: Client, cluster: Cluster, tmp_path: Path
) -> None:
    run = attached(partitioned, tmp_path).prepare()
    assert run.migrate().message == ""
    lines = Path(run.artefacts.journal.path).read_bytes().splitlines(keepends=True)
    begun = [n for n, line in enumerate(lines) if b'"event":"statement"' in line.replace(b": ", b":")]
    # the attachment has begun, and nothing tells how it ended
    Path(run.artefacts.journal.path).write_bytes(b"".join(lines[: begun[1] + 1]))
    cluster.psql(
        "DROP INDEX app.by_kind; CREATE INDEX by_kind ON ONLY app.events (kind); CREATE INDEX by_kind_1 ON app.events_1 (kind);"
        " ALTER INDEX app.by_kind ATTACH PARTITION app.by_kind_1",
        partitioned.database,
    )
    assert run.finish().message == ""
    assert parts(cluster, partitioned) == "t|2"
    assert [event["n"] for event in run.events("statement")] == [4, 5, 6, 7]


@pytest.mark.fault("attach-interrupted")
def test_an_index_that_cannot_be_attached_is_named(partitioned: Client, tmp_path: Path) -> None:
    other = ATTACHED.replace('"By.2" ON app."Events.2" (kind)', '"By.2" ON app."Events.2" (id)')
    stopped = attached(partitioned, tmp_path, other).prepare().migrate()
    assert "statement 7 (ALTER INDEX ATTACH PARTITION, line 7) did not complete" in stopped.message
    assert "The index definitions do not match" in stopped.message
    assert stopped.data["outcome"] == "COMMITTED"


def test_an_attachment_that_waits_too_long_for_its_lock_is_ended(
    partitioned: Client, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.psql("CREATE INDEX by_kind_1 ON app.events_1 (kind)", partitioned.database)
    ddl = "BEGIN;\nCREATE INDEX by_kind ON ONLY app.events (kind);\nCOMMIT;\nALTER INDEX app.by_kind ATTACH PARTITION app.by_kind_1;\n"
    run = attached(partitioned, tmp_path, ddl).prepare()
    with partitioned.session() as reader:
        reader.execute("BEGIN")
        reader.value("SELECT count(*) FROM app.events_1 WHERE kind = 'k1'")
        stopped = run.migrate()
        reader.execute("ROLLBACK")
    assert "statement 4 (ALTER INDEX ATTACH PARTITION, line 4) did not complete" in stopped.message
    assert "55P03" in stopped.message
    assert run.finish().message == ""
    assert parts(cluster, partitioned) == "f|1"


@pytest.mark.parametrize("more", ["; DROP TABLE app.events", ", ATTACH PARTITION app.other"])
def test_a_forged_plan_attaches_and_does_nothing_else(
    partitioned: Client, cluster: Cluster, tmp_path: Path, more: str
) -> None:
    text = f"ALTER INDEX app.by_kind ATTACH PARTITION app.by_kind_1{more}"
    run = attached(partitioned, tmp_path).force("SELECT 1;", text)
    about = {"after_commit": "app.by_kind.app.by_kind_1", "kinds": ["ALTER INDEX ATTACH PARTITION"]}
    run.plan["ddl"]["statements"][1].update(about)
    assert "ATTACH PARTITION of an index alone after COMMIT" in run.prepare().migrate().message
    assert cluster.psql("SELECT count(*) FROM app.events", partitioned.database) == "100"


def test_the_catalog_tells_an_attachment(partitioned: Client) -> None:
    attach = statement("ALTER INDEX ATTACH PARTITION", "app.by_kind.app.by_kind_1")
    with partitioned.session() as session:
        assert fetch_statement_state(session, attach) == (StatementState.OPEN, "")
        for name in ("by_kind", "other"):
            session.execute(f"CREATE INDEX {name} ON ONLY app.events (kind)")
        session.execute("CREATE INDEX by_kind_1 ON app.events_1 (kind)")
        assert fetch_statement_state(session, attach) == (StatementState.OPEN, "")
        session.execute("BEGIN; ALTER INDEX app.other ATTACH PARTITION app.by_kind_1")
        # to another one
        assert fetch_statement_state(session, attach) == (StatementState.OPEN, "")
        session.execute("ROLLBACK; ALTER INDEX app.by_kind ATTACH PARTITION app.by_kind_1")
        assert fetch_statement_state(session, attach) == (StatementState.DONE, "")


def test_the_catalog_tells_a_detach(app: Client) -> None:
    detach = statement("ALTER TABLE DETACH PARTITION CONCURRENTLY", "app.p1")
    with app.session() as session:
        session.execute("CREATE TABLE app.p (id int) PARTITION BY LIST (id)")
        session.execute("CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES IN (1)")
        assert fetch_statement_state(session, detach) == (StatementState.OPEN, "")
        session.execute("UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = 'app.p1'::regclass")
        assert fetch_statement_state(session, detach) == (StatementState.BROKEN, "a detach that is not finalized")
        session.execute("ALTER TABLE app.p DETACH PARTITION app.p1 FINALIZE")
        assert fetch_statement_state(session, detach) == (StatementState.DONE, "")
