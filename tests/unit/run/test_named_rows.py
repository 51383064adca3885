# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A statement declares the rows that it reports, and no more: cascades and triggers of the same table are changes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE SCHEMA app;
CREATE TABLE app.tree (id int PRIMARY KEY, above int REFERENCES app.tree ON DELETE CASCADE, v int);
INSERT INTO app.tree SELECT n, CASE WHEN n > 1 THEN 1 END, 0 FROM generate_series(1, 50) n;
CREATE FUNCTION app.all() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  IF pg_trigger_depth() = 1 THEN UPDATE app.flat SET v = v + 1 WHERE id <> NEW.id; END IF; RETURN NULL; END$$;
CREATE TABLE app.flat (id int PRIMARY KEY, v int);
INSERT INTO app.flat SELECT n, 0 FROM generate_series(1, 50) n;
CREATE TRIGGER all_of_them AFTER UPDATE ON app.flat FOR EACH ROW EXECUTE FUNCTION app.all();
CREATE TABLE app.parts (id int) PARTITION BY LIST (id);
CREATE TABLE app.part_1 PARTITION OF app.parts FOR VALUES IN (1);
CREATE TABLE app.part_2 PARTITION OF app.parts FOR VALUES IN (2);
INSERT INTO app.parts VALUES (1), (2), (2), (2);
CREATE FUNCTION app.other() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM app.part_2; RETURN NULL; END$$;
CREATE TRIGGER other AFTER DELETE ON app.part_1 FOR EACH STATEMENT EXECUTE FUNCTION app.other();
CREATE TABLE app.mixed (id int PRIMARY KEY, v int);
INSERT INTO app.mixed SELECT generate_series(1, 5);
CREATE FUNCTION app.more() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO app.mixed VALUES (NEW.id + 1000, 6); RETURN NULL; END$$;
CREATE TRIGGER more AFTER UPDATE ON app.mixed FOR EACH ROW EXECUTE FUNCTION app.more();
"""


def migrated(cluster: Cluster, database: str, directory: Path, ddl: str, **changes: Any) -> tuple[str, str]:
    """Return outcome and message of a phase of one statement that reports one row."""
    cluster.psql(BEFORE, database)
    tag = ddl.split(maxsplit=1)[0]
    definition = {
        "scope": {"schemas": ["app"], "statements": [tag]},
        "expect": {"tags": {tag: 1}, "rows": {tag: [{"max": 2}]}},
        **changes,
    }
    files = PhaseFiles(directory).write(definition, ddl=f"{ddl};\n".encode())
    outcome = Run.of(client_of(cluster, database), directory / "runs", files.path).prepare().migrate()
    return outcome.data["outcome"], outcome.message


@pytest.mark.fault("rows-beyond")
@pytest.mark.parametrize(
    ("ddl", "relation", "kind", "rows"),
    [
        ("DELETE FROM app.tree WHERE id = 1", "app.tree", "DELETE", 50),
        ("UPDATE app.flat SET v = 1 WHERE id = 1", "app.flat", "UPDATE", 50),
        ("DELETE FROM app.part_1 WHERE id = 1", "app.parts", "DELETE", 4),
    ],
)
def test_rows_beyond_the_reported_ones_are_declared_or_nothing_commits(  # noqa: PLR0917
    cluster: Cluster, empty_database: str, tmp_path: Path, ddl: str, relation: str, kind: str, rows: int
) -> None:
    outcome, message = migrated(cluster, empty_database, tmp_path, ddl)
    assert outcome == "ROLLED_BACK"
    assert f"no undeclared change of data in {relation} beyond the 1 rows that its statements report" in message
    assert f"{kind} in {relation}: {rows} rows" in message
    assert f"  {relation}: {{{kind}: {rows}}}" in message


@pytest.mark.fault("rows-beyond")
def test_declared_they_commit(cluster: Cluster, empty_database: str, tmp_path: Path) -> None:
    data = {"app.tree": {"DELETE": 50}}
    assert migrated(cluster, empty_database, tmp_path, "DELETE FROM app.tree WHERE id = 1", data=data) == (
        "COMMITTED",
        "",
    )


@pytest.mark.parametrize(
    "ddl",
    [
        "INSERT INTO app.tree VALUES (2, NULL, 5) ON CONFLICT (id) DO UPDATE SET v = 5",
        "INSERT INTO app.tree VALUES (99, 1, 5), (2, 1, 5) ON CONFLICT (id) DO UPDATE SET v = 5",
        "MERGE INTO app.tree t USING (VALUES (2), (99)) s (id) ON s.id = t.id"
        " WHEN MATCHED THEN UPDATE SET v = 7 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 1, 7)",
        "INSERT INTO app.parts VALUES (1), (2)",
        "DELETE FROM app.parts WHERE false",
    ],
)
def test_what_a_statement_reports_needs_no_more(
    cluster: Cluster, empty_database: str, tmp_path: Path, ddl: str
) -> None:
    assert migrated(cluster, empty_database, tmp_path, ddl) == ("COMMITTED", "")


@pytest.mark.fault("rows-beyond")
@pytest.mark.parametrize(
    "ddl",
    [
        "INSERT INTO app.mixed SELECT n, 1 FROM generate_series(1, 5) n ON CONFLICT (id) DO UPDATE SET v = 1",
        "MERGE INTO app.mixed b USING generate_series(1, 5) n ON b.id = n"
        " WHEN MATCHED THEN UPDATE SET v = 1 WHEN NOT MATCHED THEN INSERT VALUES (n, 1)",
    ],
)
def test_rows_of_one_kind_leave_no_room_for_another(
    cluster: Cluster, empty_database: str, tmp_path: Path, ddl: str
) -> None:
    # each of the five rows is updated, and a trigger inserts one more for each
    tag = ddl.split(maxsplit=1)[0]
    expect = {"tags": {tag: 1}, "rows": {tag: [5]}}
    outcome, message = migrated(cluster, empty_database, tmp_path, ddl, expect=expect)
    assert outcome == "ROLLED_BACK"
    assert "no undeclared change of data in app.mixed beyond the 5 rows that its statements report" in message
    assert "10 rows inserted, updated and deleted in app.mixed" in message
    assert "  app.mixed: {INSERT: 5, UPDATE: 5}" in message


#: A trigger of the table's owner deletes rows that the server does not count, and leaves nothing that says so.
HIDDEN = """
CREATE TABLE app.audit (id int);
INSERT INTO app.audit SELECT generate_series(1, 10);
CREATE FUNCTION app.hide() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {} RETURN NULL; END$$;
CREATE TRIGGER hide AFTER UPDATE ON app.tree FOR EACH STATEMENT EXECUTE FUNCTION app.hide();
"""


@pytest.mark.fault("rows-uncounted")
@pytest.mark.parametrize(
    "body",
    [
        "CREATE FUNCTION pg_temp.h() RETURNS void LANGUAGE sql SET track_counts = off AS 'DELETE FROM app.audit'; PERFORM pg_temp.h();",
        "PERFORM set_config('track_counts', 'off', true); DELETE FROM app.audit; PERFORM set_config('track_counts', 'on', true);",
        "PERFORM set_config('track_counts', 'off', false); UPDATE app.audit SET id = 0; PERFORM set_config('track_counts', 'on', false);",
    ],
)
def test_a_table_that_was_opened_for_writing_is_told(
    cluster: Cluster, empty_database: str, tmp_path: Path, body: str
) -> None:
    cluster.psql(BEFORE + HIDDEN.format(body), empty_database)
    definition = {
        "scope": {"schemas": ["app"], "statements": ["UPDATE"]},
        "expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": [1]}},
    }
    files = PhaseFiles(tmp_path).write(definition, ddl=b"UPDATE app.tree SET v = 1 WHERE id = 2;\n")
    outcome = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare().migrate()
    told = [*(outcome.data.get("transaction") or {}).get("unproved", ()), outcome.message]
    assert any("app.audit was opened for writing, and no row of it was counted" in one for one in told) or (
        outcome.data["outcome"] == "ROLLED_BACK"
    ), told


#: A function of another role that writes with the counters off; a phase may call it.
WRITER = """
CREATE TABLE app.audit (id int);
CREATE FUNCTION app.quiet() RETURNS int LANGUAGE plpgsql AS $$BEGIN
  CREATE FUNCTION pg_temp.h() RETURNS void LANGUAGE sql SET track_counts = off AS 'UPDATE app.audit SET id = 0';
  PERFORM pg_temp.h(); DROP FUNCTION pg_temp.h(); RETURN 1; END$$;
"""


@pytest.mark.fault("rows-uncounted")
@pytest.mark.parametrize("path", [[], ["app"]])
@pytest.mark.parametrize(
    ("ddl", "told"),
    [
        # only read by the statement that calls it, by another one, and under another lock
        ("SELECT app.quiet() FROM {}audit", True),
        ("UPDATE app.tree SET v = app.quiet() WHERE id = 1 AND EXISTS (SELECT FROM {}audit)", True),
        ("LOCK TABLE {}audit IN SHARE MODE;\nSELECT app.quiet()", True),
        ("COMMENT ON TABLE {}audit IS 'x';\nSELECT app.quiet()", True),
        # what a statement itself opens for writing is no riddle
        ("DELETE FROM {}audit WHERE false", False),
        ("DO $$BEGIN DELETE FROM {}audit WHERE false; END$$", False),
        ("LOCK TABLE {}audit IN ROW EXCLUSIVE MODE", False),
    ],
)
def test_a_table_that_is_only_read_explains_no_writing(  # noqa: PLR0917
    cluster: Cluster, empty_database: str, tmp_path: Path, ddl: str, told: bool, path: list[str]
) -> None:
    cluster.psql(BEFORE + WRITER + "INSERT INTO app.audit VALUES (1);", empty_database)
    tags = [one.split(maxsplit=1)[0] for one in ddl.split(";\n")]
    tags = [{"LOCK": "LOCK TABLE"}.get(tag, tag) for tag in tags]
    definition = {
        "scope": {"schemas": ["app"], "statements": [*tags, "DELETE"], "functions": ["app.quiet"]},
        "settings": {"search_path": path},
        "expect": {
            "tags": {tag: tags.count(tag) for tag in tags},
            "rows": {tag: [{"max": 1}] for tag in tags if tag in ("UPDATE", "DELETE")},
        },
    }
    files = PhaseFiles(tmp_path).write(definition, ddl=ddl.format("" if path else "app.").encode())
    outcome = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare().migrate()
    unproved = (outcome.data.get("transaction") or {}).get("unproved", [])
    expected = "app.audit was opened for writing, and no row of it was counted: whether one was changed is not proved"
    assert unproved == ([expected] if told else []), outcome.message


@pytest.mark.fault("rows-beyond")
@pytest.mark.parametrize("path", [[], ["app"]])
@pytest.mark.parametrize(
    ("ddl", "tag", "changed"),
    [
        ("INSERT INTO {}tree SELECT 98, NULL, id FROM {}flat WHERE id = 1", "INSERT", "INSERT in app.flat: 1 row"),
        (
            "CREATE TABLE app.copy AS SELECT app.fill(id) FROM {}flat WHERE id = 1",
            "CREATE TABLE AS",
            "INSERT in app.flat",
        ),
        (
            "UPDATE {}tree SET v = 1 FROM {}flat f WHERE tree.id = 2 AND f.id = 2",
            "UPDATE",
            "UPDATE in app.flat: 1 row",
        ),
    ],
)
def test_the_rows_of_a_table_that_a_statement_reads_are_not_those_that_it_reports(  # noqa: PLR0917
    cluster: Cluster, empty_database: str, tmp_path: Path, ddl: str, tag: str, changed: str, path: list[str]
) -> None:
    cluster.psql(
        BEFORE
        + """
DROP TRIGGER all_of_them ON app.flat;
CREATE FUNCTION app.fill(int) RETURNS int LANGUAGE sql AS 'INSERT INTO app.flat VALUES (99, 1) RETURNING 1';
CREATE FUNCTION app.mixed() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  IF TG_OP = 'INSERT' THEN INSERT INTO app.flat VALUES (99, 1); ELSE UPDATE app.flat SET v = 9 WHERE id = 1; END IF; RETURN NULL; END$$;
CREATE TRIGGER along AFTER INSERT OR UPDATE ON app.tree FOR EACH ROW EXECUTE FUNCTION app.mixed();
""",
        empty_database,
    )
    definition = {
        "scope": {"schemas": ["app"], "statements": [tag], "functions": ["app.fill"]},
        "settings": {"search_path": path},
        "expect": {"tags": {tag: 1}, "rows": {tag: [1]} if tag in ("INSERT", "UPDATE") else {}},
    }
    files = PhaseFiles(tmp_path).write(definition, ddl=ddl.replace("{}", "" if path else "app.").encode())
    outcome = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare().migrate()
    assert outcome.data["outcome"] == "ROLLED_BACK"
    assert changed in outcome.message
