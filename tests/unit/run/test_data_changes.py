# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data that a transaction changes is what its phase declares, or nothing commits: C-07 on a real server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import DataBaseline
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import InBackground, Outcome, Run, client_of, wait_for
from ansible_collections.incomex.phasegate.tests.support.versions import since

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
SELECT lo_create(4711);
CREATE SCHEMA app;
CREATE TABLE app.stock (id int PRIMARY KEY, piece text);
INSERT INTO app.stock SELECT n, 'p' FROM generate_series(1, 20) n;
CREATE TABLE app.audit (line text);
CREATE FUNCTION app.noted() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO app.audit VALUES (TG_OP); RETURN NULL; END $$;
CREATE TABLE app.watched (id int);
INSERT INTO app.watched SELECT generate_series(1, 5);
CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON app.watched FOR EACH ROW EXECUTE FUNCTION app.noted();
CREATE FUNCTION app.purge() RETURNS void LANGUAGE sql AS 'DELETE FROM app.stock WHERE id > 15';
CREATE FUNCTION app.blind() RETURNS void LANGUAGE sql SET track_counts = off AS 'DELETE FROM app.stock';
CREATE TABLE app.parent (id int PRIMARY KEY);
INSERT INTO app.parent VALUES (1), (2);
CREATE TABLE app.child (id int REFERENCES app.parent ON DELETE CASCADE);
INSERT INTO app.child VALUES (1), (1), (2);
CREATE TABLE app.days (day date) PARTITION BY RANGE (day);
CREATE TABLE app.days_old PARTITION OF app.days FOR VALUES FROM ('2020-01-01') TO ('2025-01-01') PARTITION BY RANGE (day);
CREATE TABLE app.days_2024 PARTITION OF app.days_old FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE app.days_2025 PARTITION OF app.days FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO app.days VALUES ('2024-05-05'), ('2025-05-05');
CREATE TABLE app."Odd ""Name" (id int GENERATED ALWAYS AS IDENTITY, v int);
CREATE TABLE app.spare (id int);
CREATE SEQUENCE app.codes;
CREATE MATERIALIZED VIEW app.seen AS SELECT * FROM app.stock;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
CREATE TABLE app.spread (id int) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE app.away PARTITION OF app.spread FOR VALUES FROM (0) TO (9) SERVER far;
"""


@dataclass(frozen=True)
class Change:
    """SQL of a transaction, what the server must observe of it, and what it rewrites."""

    ddl: str
    found: dict[str, dict[str, Any]]
    rewrites: list[str] = field(default_factory=list)

    def run(self, client: Client, directory: Path, **data: Any) -> Run:
        """Return a prepared run of it, whose statements are labelled as harmless; anything but data is permitted."""
        files = PhaseFiles(directory).write(
            {
                "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
                "diff": {"allow": [{"object": "*"}]},
                "scope": {"schemas": ["app"], "statements": ["CREATE TABLE"], "rewrites": self.rewrites},
                "data": data,
            }
        )
        run = Run.of(client, directory / "runs", files.path)
        run.plan["phase"]["expect"].update(tags={}, rows={})
        return run.force(*[one + ";\n" for one in self.ddl.split(";\n")]).prepare()


PLAIN = {
    "nothing": Change("ALTER TABLE app.stock ADD note text DEFAULT 'none'", {}),
    "insert": Change("INSERT INTO app.stock VALUES (100, 'x'), (101, 'y')", {"app.stock": {"INSERT": 2}}),
    "update": Change("UPDATE app.stock SET piece = 'q' WHERE id < 4", {"app.stock": {"UPDATE": 3}}),
    "no row": Change("UPDATE app.stock SET piece = 'q' WHERE id < 0", {}),
    "delete": Change("DELETE FROM app.stock WHERE id < 4", {"app.stock": {"DELETE": 3}}),
    "rewrite": Change("ALTER TABLE app.child ALTER id TYPE bigint", {}, rewrites=["app.child"]),
    "rewrite and insert": Change(
        "ALTER TABLE app.watched ALTER id TYPE bigint;\nINSERT INTO app.watched VALUES (9)",
        {"app.watched": {"INSERT": 1}, "app.audit": {"INSERT": 1}},
        rewrites=["app.watched"],
    ),
    "rewrite of an empty table": Change(
        "ALTER TABLE app.spare ALTER id TYPE bigint;\nINSERT INTO app.spare VALUES (1)",
        {"app.spare": {"INSERT": 1}},
        rewrites=["app.spare"],
    ),
    "a new table": Change("CREATE TABLE app.fresh AS SELECT generate_series(1, 3) AS id", {"app.fresh": {"INSERT": 3}}),
    "a table that goes": Change("CREATE TABLE app.fresh AS SELECT 1 AS id;\nDROP TABLE app.fresh", {}),
    "a temporary table": Change("CREATE TEMP TABLE scratch AS SELECT 1 AS id", {}),
    "partitions": Change("INSERT INTO app.days VALUES ('2024-01-02'), ('2025-01-02')", {"app.days": {"INSERT": 2}}),
    "another partition": Change(
        "UPDATE app.days SET day = '2025-02-02' WHERE day < '2025-01-01'", {"app.days": {"INSERT": 1, "DELETE": 1}}
    ),
}
HIDDEN = {
    "copy": Change("COPY app.audit FROM PROGRAM 'seq 3'", {"app.audit": {"INSERT": 3}}),
    "merge": Change(
        "MERGE INTO app.stock s USING (VALUES (1), (50)) v(id) ON v.id = s.id"
        " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'm')",
        {"app.stock": {"INSERT": 1, "DELETE": 1}},
    ),
    "function": Change("DO $$ BEGIN PERFORM app.purge(); END $$", {"app.stock": {"DELETE": 5}}),
    "writable with": Change(
        "WITH gone AS (DELETE FROM app.stock RETURNING id) INSERT INTO app.audit SELECT id FROM gone",
        {"app.stock": {"DELETE": 20}, "app.audit": {"INSERT": 20}},
    ),
}
BESIDE = {
    "trigger": Change("UPDATE app.watched SET id = id", {"app.watched": {"UPDATE": 5}, "app.audit": {"INSERT": 5}}),
    "cascade": Change("DELETE FROM app.parent WHERE id = 1", {"app.parent": {"DELETE": 1}, "app.child": {"DELETE": 2}}),
    "deferred": Change(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.stock DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION app.noted();\nINSERT INTO app.stock VALUES (100, 'x')",
        {"app.stock": {"INSERT": 1}, "app.audit": {"INSERT": 1}},
    ),
}
TRUNCATED = {
    "truncate": Change(
        "TRUNCATE app.audit, app.stock", {"app.audit": {"TRUNCATE": "any"}, "app.stock": {"TRUNCATE": "any"}}
    ),
    "truncate and insert": Change(
        "TRUNCATE app.stock;\nINSERT INTO app.stock VALUES (7, 'x')", {"app.stock": {"TRUNCATE": "any", "INSERT": 1}}
    ),
    "truncate after delete": Change(
        "DELETE FROM app.stock WHERE id < 3;\nTRUNCATE app.stock", {"app.stock": {"TRUNCATE": "any"}}
    ),
    "truncate of a parent": Change("TRUNCATE app.days", {"app.days": {"TRUNCATE": "any"}}),
    "truncate in a subtransaction": Change(
        "DO $$ BEGIN TRUNCATE app.stock; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
        {"app.stock": {"TRUNCATE": "any"}},
    ),
    "truncate of a table that may be rewritten": Change(
        "ALTER TABLE app.child ALTER id TYPE bigint;\nTRUNCATE app.child;\nINSERT INTO app.child VALUES (1)",
        {"app.child": {"TRUNCATE": "any", "INSERT": 1}},
        rewrites=["app.child"],
    ),
}
RECREATED = {
    "drop and create": Change(
        "DROP TABLE app.audit;\nCREATE TABLE app.audit (line text)", {"app.audit": {"RECREATE": "any"}}
    ),
    "another table's name": Change(
        "ALTER TABLE app.child RENAME TO old;\nCREATE TABLE app.child AS SELECT 1 AS id",
        {"app.child": {"RECREATE": "any", "INSERT": 1}},
    ),
}
WITHOUT_ROWS = {
    "large object": Change(
        "DO $$ BEGIN PERFORM lo_from_bytea(0, 'abc'::bytea); END $$",
        {"pg_catalog.pg_largeobject": {"INSERT": 1}, "pg_catalog.pg_largeobject_metadata": {"INSERT": 1}},
    ),
    "empty large object": Change(
        "DO $$ BEGIN PERFORM lo_create(0); END $$", {"pg_catalog.pg_largeobject_metadata": {"INSERT": 1}}
    ),
    "large object given away": Change(
        "ALTER LARGE OBJECT 4711 OWNER TO pg_monitor", {"pg_catalog.pg_largeobject_metadata": {"UPDATE": 1}}
    ),
    "large object shown": Change(
        "GRANT SELECT ON LARGE OBJECT 4711 TO pg_monitor", {"pg_catalog.pg_largeobject_metadata": {"UPDATE": 1}}
    ),
    "setval": Change("DO $$ BEGIN PERFORM setval('app.codes', 7); END $$", {"app.codes": {"MOVE": "any"}}),
    "restart": Change("ALTER SEQUENCE app.codes RESTART WITH 7", {"app.codes": {"MOVE": "any"}}),
    "sequence anew": Change("DROP SEQUENCE app.codes;\nCREATE SEQUENCE app.codes", {"app.codes": {"MOVE": "any"}}),
    "restart by truncate": Change(
        'TRUNCATE app."Odd ""Name" RESTART IDENTITY',
        {'app."Odd ""Name"': {"TRUNCATE": "any"}, 'app."Odd ""Name_id_seq"': {"MOVE": "any"}},
    ),
    "identity": Change(
        'INSERT INTO app."Odd ""Name" (v) VALUES (1)',
        {'app."Odd ""Name"': {"INSERT": 1}, 'app."Odd ""Name_id_seq"': {"MOVE": "any"}},
    ),
    "materialized view": Change("REFRESH MATERIALIZED VIEW app.seen", {"app.seen": {"REFRESH": "any"}}),
    "foreign table": Change("LOCK TABLE app.spread IN ROW EXCLUSIVE MODE", {"app.spread": {"WRITE": "any"}}),
}
MISLEADING = {
    "rolled back": Change(
        "DO $$ BEGIN DELETE FROM app.stock; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
        {},
    ),
    # attempted rows count where the table was changed besides: the server does not tell them apart
    "partly rolled back": Change(
        "DO $$ BEGIN INSERT INTO app.audit VALUES ('a'); BEGIN INSERT INTO app.audit VALUES ('b'), ('c');"
        " RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END; END $$",
        {"app.audit": {"INSERT": 3}},
    ),
    "counters reset": Change(
        "DELETE FROM app.stock;\nDO $$ BEGIN PERFORM pg_stat_reset(); END $$", {"app.stock": {"DELETE": 20}}
    ),
}


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> str:
    """A database with one table for each way to change data."""
    cluster.psql(BEFORE, empty_database)
    return empty_database


def as_key(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return the observed changes in the form of phase.yml."""
    found: dict[str, dict[str, Any]] = {}
    for one in outcome.data["transaction"]["data"]:
        found.setdefault(one["relation"], {})[one["kind"]] = "any" if one["rows"] is None else one["rows"]
    return found


def assert_declared_or_refused(cluster: Cluster, database: str, directory: Path, change: Change) -> None:
    """Check that it commits with nothing but the declaration that the refusal printed."""
    run = change.run(client_of(cluster, database), directory)
    if change.found:
        refused = run.migrate()
        assert (refused.data["outcome"], as_key(refused)) == ("ROLLED_BACK", change.found), refused.message
        assert "no undeclared change of data in" in refused.message
        run.plan["phase"]["data"] = yaml.safe_load(refused.message.partition("not compared):\n")[2])["data"]
        assert run.plan["phase"]["data"] == change.found
        run.prepare()
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"], as_key(outcome)) == ("", "COMMITTED", change.found)


def each(changes: dict[str, Change]) -> pytest.MarkDecorator:
    """Run a test with each of these changes."""
    return pytest.mark.parametrize(
        "change",
        [pytest.param(one, id=name, marks=since(15) if name == "merge" else ()) for name, one in changes.items()],
    )


NAMED = [
    ("INSERT INTO app.spare VALUES (1), (2)", "INSERT", 2),
    ("UPDATE app.stock SET piece = 'q' WHERE id < 4", "UPDATE", 3),
    ("DELETE FROM app.stock WHERE id < 4", "DELETE", 3),
    ("INSERT INTO app.stock VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET piece = 'x'", "INSERT", 1),
    ("INSERT INTO app.days_2025 VALUES ('2025-07-07')", "INSERT", 1),
    ('INSERT INTO app."Odd ""Name" (v) VALUES (1)', "INSERT", 1),
    ("INSERT INTO app.parent SELECT 9", "INSERT", 1),
]


def of_file(client: Client, directory: Path, statement: tuple[str, str, int], path: tuple[str, ...] = ()) -> Run:
    """Return a run of a phase file that declares a statement (SQL, tag, rows) and no data."""
    ddl, tag, rows = statement
    changes = {
        "scope": {"schemas": ["app"], "statements": [tag]},
        "settings": {"search_path": list(path)},
        "expect": {"tags": {tag: 1}, "rows": {tag: [rows]}},
    }
    files = PhaseFiles(directory).write(changes, ddl=f"{ddl};\n".encode())
    (directory / "runs").mkdir()
    return Run.of(client, directory / "runs", files.path).prepare()


@pytest.mark.parametrize("statement", NAMED)
def test_what_a_statement_names_needs_no_declaration(
    cluster: Cluster, app: str, tmp_path: Path, statement: tuple[str, str, int]
) -> None:
    assert of_file(client_of(cluster, app), tmp_path, statement).migrate().message == ""


def test_what_a_statement_names_by_the_search_path_needs_none_either(
    cluster: Cluster, app: str, tmp_path: Path
) -> None:
    run = of_file(client_of(cluster, app), tmp_path, ("INSERT INTO spare VALUES (1)", "INSERT", 1), ("app",))
    assert run.migrate().message == ""


@pytest.mark.fault("data-beside")
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (("INSERT INTO app.watched VALUES (7)", "INSERT", 1), "INSERT in app.audit: 1 row"),
        (("DELETE FROM app.parent WHERE id = 1", "DELETE", 1), "DELETE in app.child: 2 rows"),
    ],
)
def test_what_follows_from_a_statement_needs_one(
    cluster: Cluster, app: str, tmp_path: Path, statement: tuple[str, str, int], found: str
) -> None:
    refused = of_file(client_of(cluster, app), tmp_path, statement).migrate()
    assert refused.data["outcome"] == "ROLLED_BACK"
    assert f"found: {found}" in refused.message


@each(PLAIN)
def test_data_is_declared(cluster: Cluster, app: str, tmp_path: Path, change: Change) -> None:
    assert_declared_or_refused(cluster, app, tmp_path, change)


@each(HIDDEN)
@pytest.mark.fault("data-hidden")
def test_no_label_hides_it(cluster: Cluster, app: str, tmp_path: Path, change: Change) -> None:
    assert_declared_or_refused(cluster, app, tmp_path, change)


@each(BESIDE)
@pytest.mark.fault("data-beside")
def test_side_effects_are_seen(cluster: Cluster, app: str, tmp_path: Path, change: Change) -> None:
    assert_declared_or_refused(cluster, app, tmp_path, change)


@each(TRUNCATED)
@pytest.mark.fault("data-truncated")
def test_a_truncate_is_seen(cluster: Cluster, app: str, tmp_path: Path, change: Change) -> None:
    assert_declared_or_refused(cluster, app, tmp_path, change)


@each(RECREATED)
@pytest.mark.fault("data-recreated")
def test_another_table_of_the_name_is_seen(cluster: Cluster, app: str, tmp_path: Path, change: Change) -> None:
    assert_declared_or_refused(cluster, app, tmp_path, change)


@each(WITHOUT_ROWS)
@pytest.mark.fault("data-without-rows")
def test_what_is_not_in_tables_is_seen(cluster: Cluster, app: str, tmp_path: Path, change: Change) -> None:
    assert_declared_or_refused(cluster, app, tmp_path, change)


@each(MISLEADING)
@pytest.mark.fault("data-miscounted")
def test_counters_do_not_mislead(cluster: Cluster, app: str, tmp_path: Path, change: Change) -> None:
    assert_declared_or_refused(cluster, app, tmp_path, change)


DELETION = Change("DELETE FROM app.stock WHERE id < 4", {"app.stock": {"DELETE": 3}})


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({"app.stock": {"DELETE": 3}}, ""),
        ({'app."stock"': {"DELETE": {"max": 3}}}, ""),
        ({"app.stock": {"DELETE": {"min": 1, "max": 10}, "INSERT": "any"}}, ""),
        ({"app.stock": {"DELETE": "any"}, "app.audit": {"TRUNCATE": "any", "UPDATE": {"max": 7}}}, ""),
        ({"app.stock": {"DELETE": 2}}, "DELETE in app.stock: 3 rows"),
        ({"app.stock": {"DELETE": {"min": 4}}}, "DELETE in app.stock: 3 rows"),
        ({"app.stock": {"INSERT": "any"}}, "DELETE in app.stock: 3 rows"),
        ({"app.stock": {"DELETE": 3, "INSERT": 1}}, "INSERT in app.stock: 0 rows"),
        ({"app.stock": {"DELETE": 3}, "app.audit": {"INSERT": {"min": 1}}}, "INSERT in app.audit: 0 rows"),
    ],
)
@pytest.mark.fault("data-hidden")
def test_a_declared_count_is_met(
    cluster: Cluster, app: str, tmp_path: Path, declared: dict[str, Any], found: str
) -> None:
    run = DELETION.run(client_of(cluster, app), tmp_path, **declared)
    outcome = run.migrate()
    assert (outcome.data["outcome"], f"  found: {found}" in outcome.message) == (
        ("ROLLED_BACK", True) if found else ("COMMITTED", False)
    )
    assert cluster.psql("SELECT count(*) FROM app.stock", app) == ("20" if found else "17")


@pytest.mark.fault("data-miscounted")
def test_an_attempt_that_ended_at_a_lock_is_not_counted(cluster: Cluster, app: str, tmp_path: Path) -> None:
    change = Change("INSERT INTO app.audit VALUES ('x'), ('y');\nALTER TABLE app.stock ADD note text", {})
    run = change.run(client_of(cluster, app), tmp_path, **{"app.audit": {"INSERT": 2}})
    run.plan["phase"]["settings"]["lock_timeout"] = "200ms"
    run.lock_attempts = 5
    run.prepare()
    with client_of(cluster, app).session() as blocker:
        blocker.execute("BEGIN")
        blocker.execute("SELECT count(*) FROM app.stock")
        migration = InBackground(run)
        wait_for("the first timeout", lambda: run.events("lock timeout"))
        blocker.execute("ROLLBACK")
    outcome = migration.join()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
    assert outcome.data["transaction"]["attempts"] > 1
    assert as_key(outcome) == {"app.audit": {"INSERT": 2}}


@pytest.mark.fault("data-miscounted")
def test_other_sessions_changes_are_theirs(cluster: Cluster, app: str) -> None:
    with client_of(cluster, app).session() as session:
        session.execute("INSERT INTO app.audit VALUES ('earlier')")
        session.execute("BEGIN")
        baseline = DataBaseline.read(session)
        session.execute("SELECT pg_current_xact_id()")
        session.execute("UPDATE app.watched SET id = id WHERE id = 1")
        cluster.psql(
            "INSERT INTO app.watched VALUES (8), (9); TRUNCATE app.child; DROP TABLE app.spare; CREATE TABLE app.spare (id int);"
            "SELECT nextval('app.codes'); REFRESH MATERIALIZED VIEW app.seen; CREATE TABLE app.fresh AS SELECT 1 AS id",
            app,
        )
        found = baseline.observe(session)
        session.execute("ROLLBACK")
    assert [(one["relation"], one["kind"], one["rows"]) for one in found.changes] == [
        ("app.audit", "INSERT", 1),
        ("app.watched", "UPDATE", 1),
    ]
    assert (found.rewrites, found.counted) == ([], True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_catalog.set_config('track_counts', 'off', true)",
        "SELECT pg_catalog.set_config('track_counts', 'off', true);\nDELETE FROM app.stock;\n"
        "SELECT pg_catalog.set_config('track_counts', 'on', true)",
    ],
    ids=["off", "off and on"],
)
@pytest.mark.fault("data-miscounted")
def test_rows_that_are_not_counted_do_not_commit(cluster: Cluster, app: str, tmp_path: Path, sql: str) -> None:
    outcome = Change(sql, {}).run(client_of(cluster, app), tmp_path).migrate()
    assert outcome.data["outcome"] == "ROLLED_BACK"
    assert "the server counts rows (track_counts is on from BEGIN to COMMIT)" in outcome.message
    assert cluster.psql("SELECT count(*) FROM app.stock", app) == "20"


@pytest.mark.fault("data-miscounted")
def test_a_database_that_does_not_count_is_made_to(cluster: Cluster, app: str, tmp_path: Path) -> None:
    cluster.psql(f"ALTER DATABASE {app} SET track_counts = off", app)
    outcome = DELETION.run(client_of(cluster, app), tmp_path, **DELETION.found).migrate()
    assert (outcome.message, as_key(outcome)) == ("", DELETION.found)
    # what a function may do unseen is named
    assert outcome.data["transaction"]["unproved"] == [
        "app.blind() switches track_counts: rows that it changes may not be counted"
    ]
