# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two texts of one expression: the server tells, whatever kind of object has it, and a changed expression stays a change."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import evaluate_policy, judge_changes
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import read_facts, take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter, printed_attributes
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import (
    equal_texts,
    misnamed_keys,
    normalise,
)
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

# Every kind of object that has an expression, each with one that is printed otherwise once it was parsed again.
SCHEMA = """
CREATE SCHEMA "Odd name";
CREATE TABLE "Odd name".parcel (
  id int PRIMARY KEY, "State" varchar(9), weight numeric, width numeric, code text COLLATE "C",
  heavy boolean GENERATED ALWAYS AS (weight BETWEEN 30 AND 90 AND width BETWEEN 10 AND 20) STORED,
  fragile boolean DEFAULT ('a'::varchar IN ('a', 'b')),
  CONSTRAINT measures CHECK (weight BETWEEN 0 AND 99 AND width BETWEEN 1 AND 50),
  CONSTRAINT state CHECK ("State" IN ('new', 'sent')),
  CONSTRAINT codes EXCLUDE USING btree (code WITH =) WHERE ("State" IN ('new', 'x'))
);
CREATE INDEX open_ones ON "Odd name".parcel (id) WHERE "State" IN ('new', 'it''s');
CREATE INDEX by_state ON "Odd name".parcel (("State" IN ('new', 'sent')));
CREATE VIEW "Odd name".open AS SELECT id FROM "Odd name".parcel WHERE "State" NOT IN ('sent', 'lost');
CREATE MATERIALIZED VIEW "Odd name".kept AS SELECT id FROM "Odd name".parcel
  WHERE weight BETWEEN 1 AND 2 AND width BETWEEN 3 AND 4;
CREATE FUNCTION "Odd name".noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER checks BEFORE UPDATE OF weight ON "Odd name".parcel FOR EACH ROW
  WHEN (NEW."State" IN ('new', 'sent')) EXECUTE FUNCTION "Odd name".noop(' ON "Odd name".parcel ');
CREATE RULE quiet AS ON DELETE TO "Odd name".parcel WHERE OLD."State" IN ('new', 'sent') DO INSTEAD NOTHING;
CREATE RULE aside AS ON INSERT TO "Odd name".open DO INSTEAD
  INSERT INTO "Odd name".parcel (id) SELECT NEW.id WHERE 'a'::varchar IN ('a', 'b');
ALTER TABLE "Odd name".parcel ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON "Odd name".parcel USING ("State" IN ('new', 'sent'))
  WITH CHECK (EXISTS (SELECT FROM "Odd name".parcel p WHERE p.id = parcel.id AND p."State" IN ('new', 'sent')));
CREATE STATISTICS "Odd name".told ON ("State" IN ('new', 'sent')), id FROM "Odd name".parcel;
SELECT current_setting('server_version_num')::int >= 150000 AS from15 \\gset
\\if :from15
CREATE PUBLICATION parcels FOR TABLE "Odd name".parcel WHERE (weight BETWEEN 1 AND 2 AND id BETWEEN 3 AND 4) WITH (publish = 'insert');
\\endif
CREATE DOMAIN "Odd name".size AS numeric CHECK (VALUE BETWEEN 0 AND 9 AND (VALUE BETWEEN 1 AND 8));
CREATE DOMAIN "Odd name".flag AS boolean DEFAULT ('a'::varchar IN ('a', 'b'));
CREATE TABLE "Odd name".split (id int, s varchar) PARTITION BY LIST ((s IN ('a', 'b')));
CREATE FUNCTION "Odd name".open_state(s varchar DEFAULT 'x', y boolean DEFAULT ('a'::varchar IN ('a', 'b'))) RETURNS boolean
  LANGUAGE sql RETURN s IN ('new', 'sent');
CREATE PROCEDURE "Odd name".sweep(s varchar) LANGUAGE sql
  BEGIN ATOMIC DELETE FROM "Odd name".parcel WHERE "State" IN ('new', 'sent'); END;
CREATE PROCEDURE "Odd name".later(y boolean DEFAULT ('a'::varchar IN ('a', 'b'))) LANGUAGE plpgsql AS 'BEGIN END';
"""


@contextlib.contextmanager
def copy_of(cluster: Cluster, database: str, times: int = 1) -> Iterator[Session]:
    """Yield a session of a copy that pg_dump and psql made, of the copy's copy for two ``times``."""
    name = database
    made = []
    for number in range(times):
        dump = client_of(cluster, name).run("pg_dump", "--schema-only", "--dbname", cluster.dsn(name)).stdout.decode()
        name = f"{database}_{number}"
        cluster.create_database(name)
        made.append(name)
        cluster.psql("\n".join(x for x in dump.split("\n") if not x.startswith(("\\restrict", "\\unrestrict"))), name)
    try:
        with client_of(cluster, name).session() as session:
            yield session
    finally:
        for one in made:
            cluster.drop_database(one)


@pytest.mark.parametrize("times", [1, 2])
def test_every_kind_of_text_is_recognised_after_dump_and_restore(
    cluster: Cluster, empty_database: str, times: int
) -> None:
    cluster.psql(SCHEMA, empty_database)
    with client_of(cluster, empty_database).session() as session:
        source = normalise(take_snapshot(session))
    with copy_of(cluster, empty_database, times) as session:
        copy = normalise(take_snapshot(session))
        catalogs = session.rows("SELECT count(*) FROM pg_class")
        server = Reprinter(session, inside=False)
        words = equal_texts(source, copy, server)
        # nothing is left of the temporary objects
        assert session.rows("SELECT count(*) FROM pg_class") == catalogs
    assert server.explain() == ""
    assert diff(source, copy, words).text() == "no difference"
    differing = {(kind, attribute) for kind, _identity, attribute, _text in words}
    everything = {(kind, attribute) for kind in KINDS for attribute in printed_attributes(kind)}
    if MAJOR < 15:
        everything -= {("publication_table", "where")}
    assert differing == everything


def test_the_original_sql_run_again_is_the_copy_and_the_copys_text_is_the_original(
    cluster: Cluster, empty_database: str
) -> None:
    again = """
      DROP VIEW "Odd name".open; CREATE VIEW "Odd name".open AS SELECT id FROM "Odd name".parcel WHERE "State" NOT IN ('sent', 'lost');
      CREATE RULE aside AS ON INSERT TO "Odd name".open DO INSTEAD
        INSERT INTO "Odd name".parcel (id) SELECT NEW.id WHERE 'a'::varchar IN ('a', 'b');
      ALTER TABLE "Odd name".parcel DROP CONSTRAINT measures;
      ALTER TABLE "Odd name".parcel ADD CONSTRAINT measures CHECK (weight BETWEEN 0 AND 99 AND width BETWEEN 1 AND 50);
    """
    cluster.psql(SCHEMA, empty_database)
    with copy_of(cluster, empty_database) as session:
        before = take_snapshot(session)
        session.execute("BEGIN")
        session.execute(again)
        changes = diff(before, read_facts(session))
        assert not evaluate_policy(changes, {"policy": "unchanged"}).ok
        judged, verdict = judge_changes(changes, {"policy": "unchanged"}, Reprinter(session, inside=True))
        # the transaction goes on as if nothing had been asked
        assert (
            session.value(
                "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema()"
            )
            == "0"
        )
        session.execute("ROLLBACK")
    assert (verdict.ok, judged.text()) == (True, "no difference")


CHANGED = [
    ("constraint", "definition", "CHECK (((a = 1) AND (b = 2)))", "CHECK (((a = 1) AND (b = 3)))"),
    ("constraint", "definition", "CHECK (((a = 1) AND (b = 2)))", "CHECK (((a = 1) OR (b = 2)))"),
    ("constraint", "definition", "CHECK ((a > 1))", "CHECK ((a >= 1))"),
    (
        "constraint",
        "definition",
        "CHECK (((a = 1) AND ((b = 2) OR (b = 3))))",
        "CHECK ((((a = 1) AND (b = 2)) OR (b = 3)))",
    ),
    ("constraint", "definition", "CHECK (((a - b) - a) > 1)", "CHECK ((a - (b - a)) > 1)"),
    ("constraint", "definition", "CHECK ((NOT ((a = 1) AND (b = 2))))", "CHECK (((NOT (a = 1)) AND (b = 2)))"),
    ("constraint", "definition", "CHECK ((c = 'x'::text))", "CHECK ((c = 'X'::text))"),
    ("constraint", "definition", "CHECK ((c = 'x'::text))", "CHECK ((c = ' x'::text))"),
    ("constraint", "definition", "CHECK ((c ~ 'x'::text))", "CHECK ((c ~* 'x'::text))"),
    (
        "constraint",
        "definition",
        "CHECK (((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
        "CHECK (((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying, 'c'::character varying])::text[])))",
    ),
    (
        "constraint",
        "definition",
        "CHECK (((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
        "CHECK (((v)::text <> ALL ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
    ),
    ("constraint", "definition", "CHECK ((a > 1))", "CHECK ((a > 1)) NO INHERIT"),
    ("column", "default", "1", "2"),
    ("column", "default", "now()", "clock_timestamp()"),
    ("column", "generated", "stored (a + b)", "stored (a - b)"),
    ("policy", "using", "(a = 1)", "(a <> 1)"),
    ("policy", "check", "(a = 1)", "true"),
    ("index", "definition", "CREATE INDEX i ON app.t USING btree (a)", "CREATE INDEX i ON app.t USING btree (b)"),
    ("index", "definition", "CREATE INDEX i ON app.t USING btree (a)", "CREATE INDEX i ON app.t USING btree (a DESC)"),
    (
        "index",
        "definition",
        "CREATE INDEX i ON app.t USING btree (a) WHERE (b > 1)",
        "CREATE INDEX i ON app.t USING btree (a) WHERE (b > 2)",
    ),
    (
        "trigger",
        "definition",
        "CREATE TRIGGER i AFTER UPDATE ON app.t FOR EACH ROW WHEN ((new.a > 1)) EXECUTE FUNCTION app.f()",
        "CREATE TRIGGER i AFTER UPDATE ON app.t FOR EACH ROW WHEN ((old.a > 1)) EXECUTE FUNCTION app.f()",
    ),
    (
        "rule",
        "definition",
        "CREATE RULE i AS\n    ON DELETE TO app.t\n   WHERE (old.a > 1) DO INSTEAD NOTHING;",
        "CREATE RULE i AS\n    ON DELETE TO app.t\n   WHERE (old.b > 1) DO INSTEAD NOTHING;",
    ),
    ("view", "definition", " SELECT a FROM app.t;", " SELECT b AS a FROM app.t;"),
    ("view", "definition", " SELECT a FROM app.t;", " SELECT a FROM app.t WHERE (a IS NOT NULL);"),
    ("view", "definition", " SELECT a FROM app.t;", " SELECT a FROM app.t LIMIT 5;"),
    ("view", "definition", " SELECT a FROM app.t;", " SELECT a FROM app.t; DROP TABLE app.t;"),
    ("constraint", "definition", "CHECK ((a > 1))", "CHECK (true), DROP COLUMN b"),
]


@pytest.mark.parametrize(("kind", "attribute", "one", "other"), CHANGED)
@pytest.mark.fault("text-reprinted")
def test_a_changed_expression_is_a_change(  # noqa: PLR0917 - pytest passes by name
    cluster: Cluster, empty_database: str, kind: str, attribute: str, one: str, other: str
) -> None:
    cluster.psql(
        "CREATE SCHEMA app; CREATE TABLE app.t (a int, b int, c text, v varchar, i int);"
        "CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        empty_database,
    )
    identity = ("app", "t", "i") if kind != "view" else ("app", "v")
    with client_of(cluster, empty_database).session() as session:
        server = Reprinter(session, inside=False)
        assert server.same(kind, identity, attribute, one, one)
        assert not server.same(kind, identity, attribute, one, other)
        assert not server.same(kind, identity, attribute, other, one)
        assert (
            session.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.t'::regclass AND attnum > 0") == "5"
        )


def test_what_the_server_cannot_print_is_different_and_the_message_says_why(
    cluster: Cluster, empty_database: str
) -> None:
    cluster.psql(
        f"CREATE TABLE public.t (a int, CONSTRAINT c CHECK (a BETWEEN 1 AND 9 AND (a BETWEEN 2 AND 8)));"
        f"REVOKE TEMPORARY ON DATABASE {empty_database} FROM PUBLIC; DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN",
        empty_database,
    )
    try:
        with client_of(cluster, empty_database).session() as session:
            text = read_facts(session)
        with copy_of(cluster, empty_database) as session:
            other = read_facts(session)
        with client_of(cluster, empty_database, "reader").session() as session:
            server = Reprinter(session, inside=False)
            changes, verdict = judge_changes(diff(normalise(text), normalise(other)), {"policy": "unchanged"}, server)
        assert [change.name for change in changes.changes] == ["public.t.c"]
        assert "permission denied to create temporary tables" in verdict.message
        assert "(a >= 2)" in verdict.message
    finally:
        cluster.psql("DROP ROLE reader")


def test_inherited_keys_get_the_names_of_the_source(cluster: Cluster, empty_database: str) -> None:
    cluster.psql(
        """
        CREATE TABLE customer (id int PRIMARY KEY);
        CREATE TABLE region (id int PRIMARY KEY) PARTITION BY LIST (id);
        CREATE TABLE sales (id int, customer int, region int,
          CONSTRAINT to_customer FOREIGN KEY (customer) REFERENCES customer,
          CONSTRAINT to_region FOREIGN KEY (region) REFERENCES region) PARTITION BY LIST (id);
        CREATE TABLE region_2 PARTITION OF region FOR VALUES IN (2);
        CREATE TABLE region_1 PARTITION OF region FOR VALUES IN (1);
        CREATE TABLE sales_1 (id int, customer int, region int,
          CONSTRAINT own_name FOREIGN KEY (customer) REFERENCES customer);
        ALTER TABLE sales ATTACH PARTITION sales_1 FOR VALUES IN (1);
        CREATE TABLE sales_2 (id int, customer int, region int,
          CONSTRAINT one FOREIGN KEY (customer) REFERENCES customer,
          CONSTRAINT two FOREIGN KEY (region) REFERENCES region);
        ALTER TABLE sales ATTACH PARTITION sales_2 FOR VALUES IN (2);
        """,
        empty_database,
    )
    with client_of(cluster, empty_database).session() as session:
        source = normalise(take_snapshot(session))
    with copy_of(cluster, empty_database) as session:
        keys = misnamed_keys(source, take_snapshot(session))
        assert ("public", "sales_1", "to_customer", "own_name") in keys
        for one in keys:
            session.execute(f"ALTER TABLE {one.schema}.{one.relation} RENAME CONSTRAINT {one.found} TO x_{one.wanted}")
        for one in keys:
            session.execute(f"ALTER TABLE {one.schema}.{one.relation} RENAME CONSTRAINT x_{one.wanted} TO {one.wanted}")
        assert diff(source, normalise(take_snapshot(session))).text() == "no difference"
