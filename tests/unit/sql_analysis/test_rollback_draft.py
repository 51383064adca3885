# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rollback drafted from the parse tree: right, or left to a person."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.rollback_draft import (
    BY_HAND,
    RollbackDraft,
    draft_rollback,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import split_file
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


def drafted(sql: str) -> RollbackDraft:
    problems: list[Any] = []
    pieces = split_file(SourceFile("migrate.sql", "migrate.sql", sql.encode()), problems)
    assert not problems
    return draft_rollback(pieces)


INVERTED = {
    "CREATE INDEX CONCURRENTLY late ON shop.crate (id)": 'DROP INDEX IF EXISTS "shop"."late";',
    "CREATE FUNCTION shop.f(a int, OUT b text, c shop.mood[] DEFAULT '{}') RETURN 'x'": (
        'DROP FUNCTION "shop"."f"(integer, shop.mood[]);'
    ),
    "CREATE PROCEDURE shop.p() BEGIN ATOMIC END": 'DROP PROCEDURE "shop"."p"();',
    "CREATE TRIGGER t BEFORE UPDATE ON shop.crate FOR EACH ROW EXECUTE FUNCTION shop.f()": (
        'DROP TRIGGER "t" ON "shop"."crate";'
    ),
    "CREATE POLICY p ON shop.crate": 'DROP POLICY "p" ON "shop"."crate";',
    "CREATE TABLE shop.crate (id int)": 'DROP TABLE "shop"."crate";',
    "CREATE INDEX crate_by_id ON shop.crate (id)": 'DROP INDEX "shop"."crate_by_id";',
    "CREATE VIEW shop.full_crate AS SELECT 1 AS one": 'DROP VIEW "shop"."full_crate";',
    "CREATE SCHEMA depot": 'DROP SCHEMA "depot";',
    "CREATE TYPE shop.mood AS ENUM ('calm')": 'DROP TYPE "shop"."mood";',
    'ALTER TABLE shop."Order" ADD COLUMN "user" text': 'ALTER TABLE "shop"."Order" DROP COLUMN "user";',
    "ALTER TABLE ONLY shop.crate ADD CONSTRAINT crate_id CHECK (id > 0)": (
        'ALTER TABLE ONLY "shop"."crate" DROP CONSTRAINT "crate_id";'
    ),
    "ALTER TABLE shop.crate ADD COLUMN a int, ADD COLUMN b int": (
        'ALTER TABLE "shop"."crate" DROP COLUMN "b", DROP COLUMN "a";'
    ),
    "CREATE TABLE shop.copy AS SELECT id FROM shop.crate": 'DROP TABLE "shop"."copy";',
    "CREATE MATERIALIZED VIEW shop.sums AS SELECT 1": 'DROP MATERIALIZED VIEW "shop"."sums";',
    "CREATE SEQUENCE shop.numbers": 'DROP SEQUENCE "shop"."numbers";',
    "CREATE DOMAIN shop.code AS text": 'DROP DOMAIN "shop"."code";',
    "CREATE TYPE shop.pair AS (a int)": 'DROP TYPE "shop"."pair";',
    "CREATE TYPE shop.span AS RANGE (subtype = int)": 'DROP TYPE "shop"."span";',
    "CREATE FOREIGN TABLE shop.far (id int) SERVER elsewhere": 'DROP FOREIGN TABLE "shop"."far";',
    # names
    "ALTER TABLE shop.crate RENAME TO box": "ALTER TABLE shop.box RENAME TO crate;",
    'ALTER TABLE shop."Order" RENAME TO "user"': 'ALTER TABLE shop."user" RENAME TO "Order";',
    "ALTER TABLE shop.crate RENAME COLUMN id TO number": "ALTER TABLE shop.crate RENAME COLUMN number TO id;",
    "ALTER TABLE shop.crate RENAME CONSTRAINT a TO b": "ALTER TABLE shop.crate RENAME CONSTRAINT b TO a;",
    "ALTER INDEX shop.i RENAME TO j": "ALTER INDEX shop.j RENAME TO i;",
    "ALTER VIEW shop.v RENAME COLUMN a TO b": "ALTER VIEW shop.v RENAME COLUMN b TO a;",
    "ALTER TYPE shop.mood RENAME TO humour": "ALTER TYPE shop.humour RENAME TO mood;",
    "ALTER TYPE shop.mood RENAME VALUE 'calm' TO 'quiet'": "ALTER TYPE shop.mood RENAME VALUE 'quiet' TO 'calm';",
    "ALTER FUNCTION shop.f(int, text) RENAME TO g": "ALTER FUNCTION shop.g (integer, text) RENAME TO f;",
    "ALTER TRIGGER a ON shop.crate RENAME TO b": "ALTER TRIGGER b ON shop.crate RENAME TO a;",
    "ALTER SCHEMA shop RENAME TO store": "ALTER SCHEMA store RENAME TO shop;",
    "ALTER TABLE shop.crate SET SCHEMA depot": "ALTER TABLE depot.crate SET SCHEMA shop;",
    "ALTER FUNCTION shop.f(int) SET SCHEMA depot": "ALTER FUNCTION depot.f (integer) SET SCHEMA shop;",
}

#: What is undone for certain because of what was there before: the inverse, and what preflight then has to find.
ASSUMING = {
    "ALTER TABLE shop.crate ENABLE ROW LEVEL SECURITY": ("DISABLE ROW LEVEL SECURITY", "relrowsecurity off"),
    "ALTER TABLE shop.crate DISABLE ROW LEVEL SECURITY": ("ENABLE ROW LEVEL SECURITY", "relrowsecurity on"),
    "ALTER TABLE shop.crate FORCE ROW LEVEL SECURITY": ("NO FORCE ROW LEVEL SECURITY", "relforcerowsecurity off"),
    "ALTER TABLE shop.crate NO FORCE ROW LEVEL SECURITY": ("FORCE ROW LEVEL SECURITY", "relforcerowsecurity on"),
    "ALTER TABLE shop.crate ALTER COLUMN id SET NOT NULL": ('ALTER COLUMN "id" DROP NOT NULL', "is nullable"),
    "ALTER TABLE shop.crate ALTER COLUMN id DROP NOT NULL": ('ALTER COLUMN "id" SET NOT NULL', "is NOT NULL"),
}


@pytest.mark.parametrize("sql", ASSUMING)
def test_an_inverse_may_depend_on_what_preflight_finds(cluster: Cluster, empty_database: str, sql: str) -> None:
    found = drafted(f"BEGIN;\n{sql};\nCOMMIT;\n")
    back, words = ASSUMING[sql]
    assert found.text == f'BEGIN;\n\nALTER TABLE "shop"."crate" {back};\n\nCOMMIT;\n'
    ((title, query, answer),) = found.assumed
    assert title.endswith(words)
    wanted = {True: "t", False: "f"}[bool(answer)]
    cluster.psql("CREATE SCHEMA shop; CREATE TABLE shop.crate (id int) PARTITION BY LIST (id)", empty_database)
    cluster.psql("CREATE TABLE shop.one PARTITION OF shop.crate FOR VALUES IN (1)", empty_database)
    # as it is after its inverse, and not after itself
    cluster.psql(f"{sql}; {found.text}", empty_database)
    assert cluster.psql(query, empty_database) == wanted
    cluster.psql(sql, empty_database)
    assert cluster.psql(query, empty_database) != wanted


def test_a_partition_that_was_not_null_is_no_certain_inverse(cluster: Cluster, empty_database: str) -> None:
    ((_title, query, answer),) = drafted("ALTER TABLE shop.crate ALTER COLUMN id SET NOT NULL").assumed
    cluster.psql("CREATE SCHEMA shop; CREATE TABLE shop.crate (id int) PARTITION BY LIST (id)", empty_database)
    cluster.psql("CREATE TABLE shop.one PARTITION OF shop.crate FOR VALUES IN (1)", empty_database)
    assert (cluster.psql(query, empty_database), answer) == ("f", False)
    cluster.psql("ALTER TABLE shop.one ALTER COLUMN id SET NOT NULL", empty_database)
    assert cluster.psql(query, empty_database) == "t"


@pytest.mark.parametrize("sql", INVERTED)
def test_what_has_one_certain_inverse_is_inverted(sql: str) -> None:
    found = drafted(f"BEGIN;\nSET LOCAL lock_timeout = '1s';\n{sql};\nCOMMIT;\n")
    assert found == RollbackDraft(f"BEGIN;\n\n{INVERTED[sql]}\n\nCOMMIT;\n", [])


BY_A_PERSON = {
    "CREATE TABLE IF NOT EXISTS shop.crate (id int)": "DROP, if it was not there before",
    "CREATE TABLE crate (id int)": "",
    "CREATE OR REPLACE VIEW shop.full_crate AS SELECT 1 AS one": "the definition from before; DROP where there was none",
    "CREATE INDEX ON shop.crate (id)": "",
    "CREATE INDEX IF NOT EXISTS crate_by_id ON shop.crate (id)": "DROP, if it was not there before",
    "ALTER TABLE shop.crate ADD COLUMN IF NOT EXISTS a int": "",
    "ALTER TABLE IF EXISTS shop.crate ADD COLUMN a int": "",
    "ALTER TABLE IF EXISTS shop.crate RENAME TO box": "",
    "ALTER TABLE crate RENAME TO box": "",
    "ALTER TABLE shop.crate ADD CHECK (id > 0)": "",
    "ALTER TABLE shop.crate ADD COLUMN a int, ALTER COLUMN id SET DEFAULT 1": "the default from before",
    "ALTER TABLE shop.crate ALTER COLUMN id SET DEFAULT 1": "the default from before",
    "ALTER TABLE shop.crate ALTER COLUMN id DROP DEFAULT": "the default from before",
    "ALTER TABLE shop.crate ALTER COLUMN id TYPE bigint": "the type from before",
    "ALTER TABLE shop.crate OWNER TO somebody": "the owner from before",
    "ALTER TABLE shop.crate VALIDATE CONSTRAINT c": "the constraint dropped and added again, NOT VALID",
    "ALTER TABLE shop.crate DROP COLUMN id": "the column as it was and its values",
    "ALTER TABLE shop.crate ATTACH PARTITION shop.old DEFAULT": "DETACH PARTITION, or the table is dropped with its parent",
    "ALTER TYPE shop.mood ADD VALUE 'cross'": "a value of an enum cannot be removed",
    "ALTER TABLE shop.crate ADD CONSTRAINT crate_pk PRIMARY KEY (id)": "",
    "ALTER TABLE shop.crate ADD CONSTRAINT crate_uk UNIQUE USING INDEX crate_by_id": "",
    "UPDATE shop.crate SET id = 1": "the values from before",
    "DELETE FROM shop.crate": "the rows, kept somewhere",
    "TRUNCATE shop.crate": "the rows, kept somewhere",
    "INSERT INTO shop.crate VALUES (1)": "a DELETE of these rows and no others",
    "DROP TABLE shop.crate": "the definition from before",
    "SELECT setval('shop.crate_seq', 1)": "",
    "COMMENT ON TABLE shop.crate IS 'x'": "the comment from before; IS NULL where there was none",
    "GRANT SELECT ON shop.crate TO PUBLIC": "the privileges from before",
    "REVOKE ALL ON SCHEMA shop FROM PUBLIC": "the privileges from before",
    "CREATE TABLE shop.copy AS SELECT shop.f(id) FROM shop.crate": "",
}


@pytest.mark.parametrize("sql", BY_A_PERSON)
def test_what_has_none_is_left_to_a_person(sql: str) -> None:
    found = drafted(f"BEGIN;\n{sql};\nCOMMIT;\n")
    needed = f"\n--   needed: {BY_A_PERSON[sql]}" if BY_A_PERSON[sql] else "\n\nCOMMIT;\n"
    assert found.text.startswith(f"BEGIN;\n\n{BY_HAND} line 2: {sql}{needed}")
    assert (found.by_hand, found.assumed) == ([2], [])


def test_the_last_statement_is_undone_first() -> None:
    found = drafted("CREATE TABLE shop.crate (id int);\nCREATE VIEW shop.full_crate AS SELECT id FROM shop.crate;\n")
    assert found.text.index("DROP VIEW") < found.text.index("DROP TABLE")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX i ON shop.crate (id)",
        "COMMENT ON TABLE shop.crate IS 'x'",
        "COMMENT ON COLUMN shop.crate.id IS 'x'",
        "ALTER TABLE shop.crate ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON shop.crate",
        "GRANT SELECT ON shop.crate TO PUBLIC",
        "INSERT INTO shop.crate VALUES (1)",
        "CREATE TRIGGER t BEFORE UPDATE ON shop.crate FOR EACH ROW EXECUTE FUNCTION shop.f()",
        "SELECT pg_catalog.count(*) FROM shop.crate",
    ],
)
def test_what_goes_with_a_table_that_is_created_needs_no_line(sql: str) -> None:
    found = drafted(f"CREATE TABLE shop.crate (id int);\n{sql};\n")
    assert (found.by_hand, found.text) == ([], 'BEGIN;\n\nDROP TABLE "shop"."crate";\n\nCOMMIT;\n')
    # and by itself it does not go with anything
    alone = drafted(f"ALTER TABLE shop.other ADD COLUMN id int;\n{sql};\n")
    assert (
        alone.by_hand == [2] or alone.assumed or "ON" in alone.text or "INDEX" in alone.text or sql.startswith("SELECT")
    )


def test_a_backfill_goes_with_its_column() -> None:
    added = "ALTER TABLE shop.crate ADD COLUMN a int, ADD COLUMN b int;\n"
    assert drafted(added + "UPDATE shop.crate SET a = 1, b = 2;\n").by_hand == []
    assert drafted(added + "UPDATE shop.crate SET a = 1, old = 2;\n").by_hand == [2]
    assert drafted(added + "UPDATE shop.other SET a = 1;\n").by_hand == [2]


OLDER = {
    # what was done to an older table of that name does not go with the newer one
    "ALTER TABLE shop.crate ADD COLUMN a int;\nUPDATE shop.crate SET id = 2;\nDROP TABLE shop.crate;\nCREATE TABLE shop.crate (id int)": (
        [2, 3],
        ['DROP TABLE "shop"."crate";', 'ALTER TABLE "shop"."crate" DROP COLUMN "a";'],
    ),
    "INSERT INTO shop.crate VALUES (1);\nALTER TABLE shop.crate RENAME TO old;\nCREATE TABLE shop.crate (id int);\n"
    "INSERT INTO shop.crate SELECT id FROM shop.old;\nDELETE FROM shop.old": (
        [1, 5],
        ['DROP TABLE "shop"."crate";', "ALTER TABLE shop.old RENAME TO crate;"],
    ),
    "ALTER TABLE shop.crate SET SCHEMA old;\nCREATE TABLE shop.crate (id int);\nUPDATE old.crate SET id = 1": (
        [3],
        ['DROP TABLE "shop"."crate";', "ALTER TABLE old.crate SET SCHEMA shop;"],
    ),
    # nor what a newer one leaves to an older one
    "CREATE TABLE shop.fresh (id int);\nALTER TABLE shop.fresh RENAME TO used;\nALTER TABLE shop.crate RENAME TO fresh;\n"
    "UPDATE shop.fresh SET id = 1;\nUPDATE shop.used SET id = 1": (
        [4],
        [
            "ALTER TABLE shop.fresh RENAME TO crate;",
            "ALTER TABLE shop.used RENAME TO fresh;",
            'DROP TABLE "shop"."fresh";',
        ],
    ),
    "CREATE TABLE shop.fresh (id int);\nDROP TABLE shop.fresh CASCADE;\nUPDATE shop.fresh SET id = 1": (
        [2, 3],
        ['DROP TABLE "shop"."fresh";'],
    ),
    "CREATE TABLE IF NOT EXISTS shop.crate (id int);\nUPDATE shop.crate SET id = 1;\nCOMMENT ON TABLE shop.crate IS 'x'": (
        [1, 2, 3],
        [],
    ),
    # a schema that is made may receive older tables
    "CREATE SCHEMA depot;\nALTER TABLE shop.crate SET SCHEMA depot;\nUPDATE depot.crate SET id = 1": (
        [3],
        ["ALTER TABLE depot.crate SET SCHEMA shop;", 'DROP SCHEMA "depot";'],
    ),
    # a partition that was there before would be dropped with its new parent
    "CREATE TABLE shop.whole (id int) PARTITION BY LIST (id);\nALTER TABLE shop.whole ATTACH PARTITION shop.crate DEFAULT": (
        [2],
        ['DROP TABLE "shop"."whole";'],
    ),
    "CREATE TABLE shop.whole (id int) PARTITION BY LIST (id);\nCREATE TABLE shop.part PARTITION OF shop.whole DEFAULT;\n"
    "ALTER TABLE shop.whole DETACH PARTITION shop.part": (
        [3],
        ['DROP TABLE "shop"."part";', 'DROP TABLE "shop"."whole";'],
    ),
    # preflight finds another table, or column, under the name
    "ALTER TABLE shop.crate RENAME TO old;\nALTER TABLE shop.box RENAME TO crate;\n"
    "ALTER TABLE shop.crate ALTER COLUMN id SET NOT NULL": (
        [3],
        ["ALTER TABLE shop.crate RENAME TO box;", "ALTER TABLE shop.old RENAME TO crate;"],
    ),
    "ALTER TABLE shop.crate RENAME COLUMN a TO b;\nALTER TABLE shop.crate ALTER COLUMN b DROP NOT NULL": (
        [2],
        ["ALTER TABLE shop.crate RENAME COLUMN b TO a;"],
    ),
    "DROP TABLE shop.crate;\nALTER TABLE other.crate SET SCHEMA shop;\nALTER TABLE shop.crate ENABLE ROW LEVEL SECURITY": (
        [1, 3],
        ["ALTER TABLE shop.crate SET SCHEMA other;"],
    ),
    # a column and a constraint of that name
    "UPDATE shop.crate SET a = 1;\nALTER TABLE shop.crate DROP COLUMN a;\nALTER TABLE shop.crate ADD COLUMN a text;\n"
    "UPDATE shop.crate SET a = 'x';\nALTER TABLE shop.crate RENAME COLUMN a TO b;\nUPDATE shop.crate SET b = 'x'": (
        [1, 2],
        ["ALTER TABLE shop.crate RENAME COLUMN b TO a;", 'ALTER TABLE "shop"."crate" DROP COLUMN "a";'],
    ),
    # what a function writes is somewhere else
    "CREATE TABLE shop.fresh (id int);\nINSERT INTO shop.fresh SELECT shop.next()": (
        [2],
        ['DROP TABLE "shop"."fresh";'],
    ),
    "CREATE FUNCTION shop.fresh() RETURNS int RETURN 1;\nDROP TABLE shop.fresh;\nCOMMENT ON FUNCTION shop.fresh() IS 'x'": (
        [2],
        ['DROP FUNCTION "shop"."fresh"();'],
    ),
}


@pytest.mark.parametrize("sql", OLDER)
def test_an_older_object_of_the_same_name_is_not_taken_for_the_new_one(sql: str) -> None:
    found = drafted(sql)
    by_hand, inverses = OLDER[sql]
    assert found.by_hand == by_hand
    assert [line for line in found.text.splitlines()[2:-2] if not line.startswith("--")] == inverses


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE shop.scratch (id int); INSERT INTO shop.scratch VALUES (1); DROP TABLE shop.scratch",
        "CREATE TEMP TABLE scratch AS SELECT 1; INSERT INTO scratch VALUES (1); DROP TABLE scratch",
        "ALTER TABLE shop.crate ADD CONSTRAINT c CHECK (id > 0) NOT VALID; ALTER TABLE shop.crate VALIDATE CONSTRAINT c;"
        " ALTER TABLE shop.crate DROP CONSTRAINT c",
        "CREATE INDEX i ON shop.crate (id); DROP INDEX shop.i",
        "ANALYZE shop.crate; LOCK TABLE shop.crate; REINDEX TABLE shop.crate",
    ],
)
def test_what_the_migration_drops_again_needs_no_line(sql: str) -> None:
    assert drafted(sql) == RollbackDraft("BEGIN;\n\n\nCOMMIT;\n", [])


BEFORE = """
CREATE SCHEMA shop;
CREATE TABLE shop.crate (id int);
CREATE TABLE shop."Order" (id int PRIMARY KEY);
CREATE TABLE shop.split (id int) PARTITION BY LIST (id);
"""

MIGRATIONS = {
    "column": 'ALTER TABLE shop."Order" ADD COLUMN "user" text, ADD CONSTRAINT short CHECK (length("user") < 9);',
    "table, key, index": """
        CREATE TABLE shop.parcel (id serial PRIMARY KEY, o int CONSTRAINT of_order REFERENCES shop."Order");
        CREATE UNIQUE INDEX parcel_o ON shop.parcel (o);
        ALTER TABLE shop.crate ADD CONSTRAINT crate_parcel FOREIGN KEY (id) REFERENCES shop.parcel;
    """,
    "names, columns, constraints": """
        ALTER TABLE shop."Order" RENAME TO purchase;
        ALTER TABLE shop.purchase RENAME COLUMN id TO number;
        ALTER TABLE shop.crate ADD COLUMN a int;
        UPDATE shop.crate SET a = 1;
        ALTER TABLE shop.crate ALTER COLUMN a SET NOT NULL, ALTER COLUMN id SET NOT NULL, ADD CONSTRAINT c CHECK (a > 0) NOT VALID;
        ALTER TABLE shop.crate VALIDATE CONSTRAINT c;
        COMMENT ON COLUMN shop.crate.a IS 'x';
        COMMENT ON CONSTRAINT c ON shop.crate IS 'x';
        ALTER TABLE shop.crate ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    """,
    "sequence, function, privileges": """
        CREATE SEQUENCE shop.numbers;
        CREATE TABLE shop.parcel (id int DEFAULT nextval('shop.numbers'));
        ALTER SEQUENCE shop.numbers OWNED BY shop.parcel.id;
        GRANT USAGE ON SEQUENCE shop.numbers TO PUBLIC;
        CREATE FUNCTION shop.f(a int) RETURNS int RETURN a;
        REVOKE ALL ON FUNCTION shop.f(int) FROM PUBLIC;
        COMMENT ON FUNCTION shop.f(int) IS 'x';
        CREATE TABLE shop.parts (id int) PARTITION BY LIST (id);
        CREATE TABLE shop.one (id int);
        ALTER TABLE shop.parts ATTACH PARTITION shop.one FOR VALUES IN (1);
    """,
    "partitions, of which one is made before its parent": """
        CREATE TABLE shop.one (id int);
        CREATE TABLE shop.parts (id int) PARTITION BY LIST (id);
        ALTER TABLE shop.parts ATTACH PARTITION shop.one FOR VALUES IN (1);
        CREATE TABLE shop.two PARTITION OF shop.parts FOR VALUES IN (2);
        CREATE INDEX whole ON ONLY shop.parts (id);
        CREATE INDEX part ON shop.one (id);
        ALTER INDEX shop.whole ATTACH PARTITION shop.part;
    """,
    "a partition of an older table": """
        CREATE TABLE shop.third (LIKE shop.split);
        ALTER TABLE shop.split ATTACH PARTITION shop.third FOR VALUES IN (3);
        INSERT INTO shop.third VALUES (3);
    """,
    "schema, enum, view": """
        CREATE SCHEMA depot;
        CREATE TYPE depot.mood AS ENUM ('calm', 'cross');
        ALTER TABLE shop.crate ADD COLUMN mood depot.mood NOT NULL DEFAULT 'calm';
        CREATE VIEW depot.crate AS SELECT id, mood FROM shop.crate;
    """,
}


@pytest.mark.parametrize("sql", MIGRATIONS.values(), ids=MIGRATIONS)
def test_a_drafted_rollback_restores_the_schema(cluster: Cluster, empty_database: str, sql: str) -> None:
    def dump() -> list[str]:
        argv: list[str | Path] = [bin_directory() / "pg_dump", "--schema-only", "-d", cluster.dsn(empty_database)]
        text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return [line for line in text.splitlines() if "restrict" not in line]

    cluster.psql(BEFORE, empty_database)
    before = dump()
    found = drafted(sql)
    assert not found.by_hand
    cluster.psql(sql, empty_database)
    assert dump() != before
    cluster.psql(found.text, empty_database)
    assert dump() == before


def test_a_primary_key_leaves_not_null_behind(cluster: Cluster, empty_database: str) -> None:
    # why it has no certain inverse
    cluster.psql(BEFORE, empty_database)
    cluster.psql("ALTER TABLE shop.crate ADD CONSTRAINT pk PRIMARY KEY (id)", empty_database)
    cluster.psql("ALTER TABLE shop.crate DROP CONSTRAINT pk", empty_database)
    query = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'shop.crate'::regclass AND attname = 'id'"
    assert cluster.psql(query, empty_database) == "t"
