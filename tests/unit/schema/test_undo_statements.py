# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollback lacks: the statements bring the schema of before back, on a real server, or say that a person has to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.undo_statements import undo_statements
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE SCHEMA shop;
CREATE TABLE shop.boxes (id int PRIMARY KEY);
CREATE TABLE shop.crates (id int PRIMARY KEY, n int NOT NULL DEFAULT 3, "Size" text,
  CONSTRAINT positive CHECK (n > 0), CONSTRAINT boxed FOREIGN KEY (n) REFERENCES shop.boxes);
COMMENT ON TABLE shop.crates IS 'all the owner''s';
COMMENT ON COLUMN shop.crates."Size" IS 'in cm';
COMMENT ON CONSTRAINT positive ON shop.crates IS 'more than none';
CREATE INDEX by_size ON shop.crates ("Size", lower("Size")) WHERE n > 1;
COMMENT ON INDEX shop.by_size IS 'for the list';
CREATE VIEW shop.heavy AS SELECT id, n FROM shop.crates WHERE n > 5;
COMMENT ON VIEW shop.heavy IS 'the heavy ones';
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON shop.crates FOR EACH ROW WHEN (NEW.n > 1) EXECUTE FUNCTION shop.touch();
CREATE FUNCTION shop.doubled(n int, OUT twice int, OUT text text) LANGUAGE plpgsql IMMUTABLE AS $x$ BEGIN twice := 2 * n; text := '$$'; END $x$;
CREATE FUNCTION shop.atomic() RETURNS SETOF int ROWS 7 BEGIN ATOMIC SELECT 1; SELECT 2; END;
CREATE FUNCTION shop."Odd (name"(VARIADIC a int[] DEFAULT '{}') RETURNS int LANGUAGE sql WINDOW AS 'SELECT 1';
CREATE PROCEDURE shop.tidy(INOUT n int) LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN n := 1; END';
CREATE AGGREGATE shop.total(int) (sfunc = int4pl, stype = int);
CREATE RULE quiet AS ON DELETE TO shop.boxes DO INSTEAD NOTHING;
CREATE STATISTICS shop.both ON n, "Size" FROM shop.crates;
ALTER TABLE shop.boxes ENABLE ROW LEVEL SECURITY;
"""

#: What is left of a migration, and how many changes of it a person has to undo.
LEFT = [
    ("DROP VIEW shop.heavy", 0),
    ("CREATE OR REPLACE VIEW shop.heavy AS SELECT id, n FROM shop.crates WHERE n > 6", 0),
    ("ALTER TABLE shop.crates DROP CONSTRAINT positive, DROP CONSTRAINT boxed", 0),
    ("DROP INDEX shop.by_size", 0),
    ("DROP TRIGGER touch ON shop.crates; DROP RULE quiet ON shop.boxes; DROP STATISTICS shop.both", 0),
    ("ALTER TABLE shop.crates ALTER n DROP NOT NULL, ALTER n DROP DEFAULT, ALTER \"Size\" SET DEFAULT 'x'", 0),
    ("DROP VIEW shop.heavy; ALTER TABLE shop.crates ALTER n SET DEFAULT 4", 0),
    ("ALTER TABLE shop.crates ADD COLUMN more int; CREATE INDEX by_more ON shop.crates (more)", 0),
    ('CREATE TABLE shop."New" (id int); CREATE VIEW shop.new AS SELECT 1 AS one; CREATE SEQUENCE shop.counted', 0),
    ("CREATE POLICY mine ON shop.boxes; ALTER TABLE shop.boxes DISABLE ROW LEVEL SECURITY", 0),
    ("ALTER TABLE shop.crates FORCE ROW LEVEL SECURITY", 0),
    (
        "COMMENT ON TABLE shop.crates IS NULL; COMMENT ON VIEW shop.heavy IS 'light'; COMMENT ON TABLE shop.boxes IS 'new'",
        0,
    ),
    ("COMMENT ON COLUMN shop.crates.\"Size\" IS 'in m'; COMMENT ON CONSTRAINT boxed ON shop.crates IS 'x'", 0),
    ('ALTER TABLE shop.crates ALTER "Size" TYPE varchar(9)', 0),
    ("ALTER TABLE shop.boxes ADD COLUMN more bigserial", 0),
    ('ALTER TABLE shop.crates DROP COLUMN "Size"', 1),
    ("CREATE OR REPLACE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'", 0),
    ("ALTER FUNCTION shop.touch() PARALLEL SAFE STABLE STRICT COST 7 SECURITY DEFINER LEAKPROOF", 0),
    (
        'DROP FUNCTION shop.doubled; DROP FUNCTION shop.atomic; DROP FUNCTION shop."Odd (name"; DROP PROCEDURE shop.tidy',
        0,
    ),
    ("DROP AGGREGATE shop.total(int)", 1),
    ("ALTER FUNCTION shop.doubled SET search_path = shop", 1),
    (
        "CREATE FUNCTION shop.new(a int, b text DEFAULT 'x') RETURNS int RETURN 1; CREATE PROCEDURE shop.more() AS '' LANGUAGE sql",
        0,
    ),
    ("CREATE AGGREGATE shop.product(int) (sfunc = int4mul, stype = int)", 0),
    ("CREATE TYPE shop.mood AS ENUM ('calm'); CREATE TABLE shop.moods (id serial, mood shop.mood)", 0),
    (
        "CREATE DOMAIN shop.code AS text; CREATE TYPE shop.pair AS (a int); ALTER TABLE shop.boxes ADD COLUMN code shop.code",
        0,
    ),
    ("CREATE TYPE shop.pair AS (a int); CREATE FUNCTION shop.paired() RETURNS shop.pair LANGUAGE sql AS 'SELECT 1'", 0),
    ("CREATE TABLE shop.a (id int PRIMARY KEY); CREATE TABLE shop.b (id int REFERENCES shop.a)", 0),
    ("CREATE TABLE shop.b (id int PRIMARY KEY); CREATE TABLE shop.a (id int REFERENCES shop.b)", 0),
    ("CREATE VIEW shop.a AS SELECT 1 AS n; CREATE VIEW shop.b AS SELECT n FROM shop.a", 0),
    ("CREATE TYPE shop.span AS RANGE (subtype = int)", 1),
    (
        "ALTER TABLE shop.crates DROP CONSTRAINT boxed, ADD CONSTRAINT boxed FOREIGN KEY (n) REFERENCES shop.boxes ON DELETE CASCADE",
        0,
    ),
    ("DROP INDEX shop.by_size; CREATE INDEX by_size ON shop.crates (n)", 0),
    ("CREATE OR REPLACE TRIGGER touch AFTER INSERT ON shop.crates FOR EACH ROW EXECUTE FUNCTION shop.touch()", 0),
    ("GRANT SELECT ON shop.boxes TO PUBLIC", 1),
]


@pytest.mark.parametrize(("left", "by_hand"), LEFT)
def test_the_statements_bring_the_schema_back(cluster: Cluster, empty_database: str, left: str, by_hand: int) -> None:
    cluster.psql(BEFORE, empty_database)
    client = client_of(cluster, empty_database)
    with client.session("phasegate:test") as session:
        before = take_snapshot(session)
        cluster.psql(left, empty_database)
        statements = undo_statements(diff(before, take_snapshot(session)).as_list(), before.facts)
        marked = [one for one in statements if one.startswith("-- WRITE BY HAND: ")]
        if by_hand:
            assert marked == statements[-len(marked) :]
            assert len(marked) >= by_hand
            return
        assert not marked, marked
        for statement in statements:
            session.execute(statement.rstrip(";"))
        after = diff(before.unlocated(), take_snapshot(session).unlocated())
        assert not after, after.text()


@pytest.mark.fault("draft-odd-objects")
def test_names_that_are_reserved_words_are_quoted(cluster: Cluster, empty_database: str) -> None:
    cluster.psql('CREATE SCHEMA "order"; CREATE TABLE "order"."user" (id int)', empty_database)
    left = 'ALTER TABLE "order"."user" ADD COLUMN "select" int, ADD CONSTRAINT "check" CHECK (id > 0)'
    with client_of(cluster, empty_database).session("phasegate:test") as session:
        before = take_snapshot(session)
        cluster.psql(left, empty_database)
        for statement in undo_statements(diff(before, take_snapshot(session)).as_list(), before.facts):
            session.execute(statement.rstrip(";"))
        assert not diff(before.unlocated(), take_snapshot(session).unlocated())


@pytest.mark.fault("draft-odd-objects")
def test_what_nobody_sees_is_written_by_hand(cluster: Cluster, empty_database: str) -> None:
    cluster.psql("CREATE TABLE t (); COMMENT ON TABLE t IS U&'one\\001b[2J\\202e two'", empty_database)
    with client_of(cluster, empty_database).session("phasegate:test") as session:
        before = take_snapshot(session)
        cluster.psql("COMMENT ON TABLE t IS NULL", empty_database)
        found = undo_statements(diff(before, take_snapshot(session)).as_list(), before.facts)
    assert found == ["-- WRITE BY HAND: table public.t comment changed, with characters that cannot be seen"]
