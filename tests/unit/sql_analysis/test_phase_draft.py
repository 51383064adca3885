# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drafted phase and its playbook are read as."""

from __future__ import annotations

import jinja2
import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.advice import advise_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import draft_phase
from ansible_collections.incomex.phasegate.plugins.modules.new_phase import playbook_of


@pytest.mark.parametrize("name", ["null", "true", "no", "orders"])
def test_a_name_is_read_as_a_text(name: str) -> None:
    sql = "CREATE TABLE app.t (id int);\n"
    read = yaml.safe_load(draft_phase(name, SourceFile("migrate.sql", "migrate.sql", sql.encode())).definition)
    assert (read["phase"], read["title"]) == (name, name.capitalize())
    assert yaml.safe_load(playbook_of(name, name.capitalize(), "phases"))[0]["name"] == name.capitalize()


@pytest.mark.parametrize("schema", [" a", "a ", ".inf", ".5", " ", "\U0001f600", "app"])
def test_a_schema_is_read_as_its_name(schema: str) -> None:
    sql = f'CREATE TABLE "{schema}".t (id int);\n'
    definition = draft_phase("one", SourceFile("migrate.sql", "migrate.sql", sql.encode())).definition
    assert yaml.safe_load(definition)["scope"]["schemas"] == [schema]


@pytest.mark.parametrize("folder", ["phases", 'a"b', "a\\nb", "{{ x }}", "{% if %}", "{# c", "\U0001f600 it's"])
def test_a_playbook_points_to_its_phase(folder: str) -> None:
    path = yaml.safe_load(playbook_of("one", "One", folder))[0]["vars"]["phasegate_phase_file"]
    text = jinja2.Environment().from_string(path).render(playbook_dir="/p")  # noqa: S701
    assert text == f"/p/{folder}/one/phase.yml"


def titles(sql: str) -> tuple[list[str], list[str]]:
    """Return the titles of the drafted checks before and after, the built-in ones left out."""
    read = yaml.safe_load(draft_phase("one", SourceFile("migrate.sql", "migrate.sql", sql.encode())).definition)
    return [one["title"] for one in read["preflight"][2:]], [one["title"] for one in read["verify"]]


@pytest.mark.parametrize(
    ("sql", "before", "after"),
    [
        ("DROP TABLE app.t; CREATE TABLE app.t (id int)", ["app.t exists"], ["app.t exists"]),
        ("CREATE TABLE app.t (id int); DROP TABLE app.t", ["app.t does not exist"], []),
        ("DROP TABLE IF EXISTS app.t; CREATE TABLE app.t (id int)", [], ["app.t exists"]),
        ("DROP TABLE IF EXISTS app.t, app.u", [], ["app.t does not exist", "app.u does not exist"]),
        ("DROP INDEX app.i; ALTER INDEX app.j RENAME TO i", ["app.i exists", "app.j exists"], []),
        (
            "CREATE TABLE IF NOT EXISTS app.t (id int); CREATE INDEX IF NOT EXISTS i ON app.t (id)",
            ["app.t exists"],
            ["app.t exists", "app.i exists"],
        ),
        ("CREATE TABLE IF NOT EXISTS app.t (id int); DROP TABLE app.t", ["app.t exists"], ["app.t does not exist"]),
        (
            "ALTER TABLE app.t ADD COLUMN IF NOT EXISTS a int, DROP COLUMN b, DROP CONSTRAINT c",
            ["app.t exists"],
            ["app.t has no column b", "app.t has no constraint c", "app.t has column a"],
        ),
        (
            "ALTER TABLE app.t DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (a > 0)",
            ["app.t exists"],
            ["app.t has constraint c"],
        ),
        (
            "ALTER TABLE app.t ALTER a SET NOT NULL; ALTER TABLE app.t ALTER a DROP NOT NULL",
            ["app.t exists", "app.t.a is nullable"],
            [],
        ),
        ("ALTER TABLE app.t DROP COLUMN b; DROP TABLE app.t", ["app.t exists"], ["app.t does not exist"]),
        (
            "ALTER TABLE app.t RENAME TO old; CREATE TABLE app.t (id int); ALTER TABLE app.old ADD COLUMN a int",
            ["app.t exists"],
            ["app.t exists", "app.old has column a"],
        ),
        (
            "ALTER TABLE app.t ADD COLUMN a int; ALTER TABLE app.t RENAME COLUMN a TO b",
            ["app.t exists", "app.t has no column a"],
            [],
        ),
        (
            "ALTER TABLE app.t ALTER COLUMN a SET NOT NULL, ENABLE ROW LEVEL SECURITY",
            ["app.t exists", "app.t.a is nullable", "app.t has relrowsecurity off"],
            ["app.t.a is NOT NULL"],
        ),
        ("ALTER TABLE app.t ADD CONSTRAINT c CHECK (a > 0); ALTER TABLE app.t DROP CONSTRAINT c", ["app.t exists"], []),
        # what the migration itself makes was not there before, and is judged by what becomes of it
        (
            "ALTER TABLE app.t ADD COLUMN a int; ALTER TABLE app.t ALTER COLUMN a SET NOT NULL",
            ["app.t exists", "app.t has no column a"],
            ["app.t has column a", "app.t.a is NOT NULL"],
        ),
        (
            "ALTER TABLE app.t ADD COLUMN a int, ALTER COLUMN a SET NOT NULL",
            ["app.t exists", "app.t has no column a"],
            ["app.t has column a", "app.t.a is NOT NULL"],
        ),
        (
            "CREATE TABLE app.t (a int); ALTER TABLE app.t ALTER COLUMN a SET NOT NULL, ENABLE ROW LEVEL SECURITY",
            ["app.t does not exist"],
            ["app.t exists", "app.t.a is NOT NULL"],
        ),
        (
            "ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t DISABLE ROW LEVEL SECURITY",
            ["app.t exists", "app.t has relrowsecurity off"],
            [],
        ),
        (
            "ALTER TABLE app.t ALTER a DROP NOT NULL; ALTER TABLE app.t ALTER a SET NOT NULL",
            ["app.t exists", "app.t.a is NOT NULL"],
            ["app.t.a is NOT NULL"],
        ),
        (
            "ALTER TABLE app.t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; ALTER TABLE app.t VALIDATE CONSTRAINT c",
            ["app.t exists"],
            ["app.t has constraint c"],
        ),
        (
            "ALTER TABLE app.t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
            ["app.t exists"],
            ["app.t has constraint c, not valid yet"],
        ),
        (
            "ALTER TABLE app.t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; ALTER TABLE app.t RENAME CONSTRAINT c TO d;"
            "ALTER TABLE app.t VALIDATE CONSTRAINT d",
            ["app.t exists"],
            [],
        ),
    ],
)
def test_a_check_is_of_the_object_that_has_the_name_then(sql: str, before: list[str], after: list[str]) -> None:
    # a phase has one check at least
    assert titles(sql) == (before, after or ["schema app exists"])


def test_a_constraint_that_is_validated_after_commit_is_checked_after_it() -> None:
    sql = (
        "BEGIN; ALTER TABLE app.t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; COMMIT;"
        " ALTER TABLE app.t VALIDATE CONSTRAINT c;"
    )
    read = yaml.safe_load(draft_phase("one", SourceFile("migrate.sql", "migrate.sql", sql.encode())).definition)
    (check,) = read["verify"]
    assert (check["title"], check["expect"], check["after_commit"]) == ("app.t has constraint c", True, True)


@pytest.mark.parametrize(
    ("statements", "told"),
    [("UPDATE app.t SET a = 1;\n", "# line 1"), ("UPDATE app.t SET a = 1;\n" * 2, "# lines 1, 2")],
)
def test_the_lines_to_undo_by_hand_are_named(statements: str, told: str) -> None:
    definition = draft_phase("one", SourceFile("migrate.sql", "migrate.sql", statements.encode())).definition
    assert told in [line.strip() for line in definition.splitlines()]


def test_an_older_table_of_the_same_name_is_locked() -> None:
    sql = b"ALTER TABLE app.t ADD x int; DROP TABLE app.t; CREATE TABLE app.t (id int); ALTER TABLE app.t ADD y int"
    found = advise_file(SourceFile("migrate.sql", "migrate.sql", sql))
    assert [[one.lock for one in found[number]] for number in (1, 4)] == [["AccessExclusiveLock"], []]


@pytest.mark.fault("sql-no-draft")
@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY ON shop.crates (id)",
        "DROP INDEX CONCURRENTLY shop.one, shop.two",
        "ALTER AGGREGATE shop.total(*) RENAME TO sum_of_all",
        "ALTER FUNCTION f RENAME TO g",
        "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
        "ALTER SEQUENCE s OWNED BY t.id",
    ],
)
def test_what_has_no_inverse_is_undone_by_hand_or_refused(sql: str) -> None:
    try:
        assert draft_phase("p", SourceFile("migrate.sql", "migrate.sql", sql.encode())).by_hand == [1]
    except PhaseFileError as error:
        assert error.problems  # noqa: PT017 - each of the two is an answer
