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
}


@pytest.mark.parametrize("sql", INVERTED)
def test_what_has_one_certain_inverse_is_inverted(sql: str) -> None:
    found = drafted(f"BEGIN;\nSET LOCAL lock_timeout = '1s';\n{sql};\nCOMMIT;\n")
    assert found == RollbackDraft(f"BEGIN;\n\n{INVERTED[sql]}\n\nCOMMIT;\n", [])


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE IF NOT EXISTS shop.crate (id int)",
        "CREATE TABLE crate (id int)",
        "CREATE OR REPLACE VIEW shop.full_crate AS SELECT 1 AS one",
        "CREATE INDEX ON shop.crate (id)",
        "CREATE INDEX IF NOT EXISTS crate_by_id ON shop.crate (id)",
        "ALTER TABLE shop.crate ADD COLUMN IF NOT EXISTS a int",
        "ALTER TABLE IF EXISTS shop.crate ADD COLUMN a int",
        "ALTER TABLE shop.crate ADD CHECK (id > 0)",
        "ALTER TABLE shop.crate ADD COLUMN a int, ALTER COLUMN id SET NOT NULL",
        "ALTER TABLE shop.crate ALTER COLUMN id SET DEFAULT 1",
        "ALTER TYPE shop.mood ADD VALUE 'cross'",
        "ALTER TABLE shop.crate ADD CONSTRAINT crate_pk PRIMARY KEY (id)",
        "ALTER TABLE shop.crate ADD CONSTRAINT crate_uk UNIQUE USING INDEX crate_by_id",
        "CREATE FOREIGN TABLE shop.far (id int) SERVER elsewhere",
        "UPDATE shop.crate SET id = 1",
        "DELETE FROM shop.crate",
        "DROP TABLE shop.crate",
        "SELECT setval('shop.crate_seq', 1)",
        "COMMENT ON TABLE shop.crate IS 'x'",
    ],
)
def test_what_has_none_is_left_to_a_person(sql: str) -> None:
    found = drafted(f"BEGIN;\n{sql};\nCOMMIT;\n")
    assert found == RollbackDraft(f"BEGIN;\n\n{BY_HAND} line 2: {sql}\n\nCOMMIT;\n", [2])


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
    assert alone.by_hand == [2] or "ON" in alone.text or "INDEX" in alone.text or sql.startswith("SELECT")


def test_a_backfill_goes_with_its_column() -> None:
    added = "ALTER TABLE shop.crate ADD COLUMN a int, ADD COLUMN b int;\n"
    assert drafted(added + "UPDATE shop.crate SET a = 1, b = 2;\n").by_hand == []
    assert drafted(added + "UPDATE shop.crate SET a = 1, old = 2;\n").by_hand == [2]
    assert drafted(added + "UPDATE shop.other SET a = 1;\n").by_hand == [2]


BEFORE = """
CREATE SCHEMA shop;
CREATE TABLE shop.crate (id int);
CREATE TABLE shop."Order" (id int PRIMARY KEY);
"""

MIGRATIONS = {
    "column": 'ALTER TABLE shop."Order" ADD COLUMN "user" text, ADD CONSTRAINT short CHECK (length("user") < 9);',
    "table, key, index": """
        CREATE TABLE shop.parcel (id serial PRIMARY KEY, o int CONSTRAINT of_order REFERENCES shop."Order");
        CREATE UNIQUE INDEX parcel_o ON shop.parcel (o);
        ALTER TABLE shop.crate ADD CONSTRAINT crate_parcel FOREIGN KEY (id) REFERENCES shop.parcel;
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
