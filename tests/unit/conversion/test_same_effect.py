# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A converted change does in a phase's session what the tool's own file does in its tool's."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.convert import Given, convert
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE TABLE boxes (id int PRIMARY KEY, label text);
INSERT INTO boxes VALUES (1, 'one'), (2, 'two');
CREATE VIEW old_boxes AS SELECT id FROM boxes;
"""

CHANGES = {
    "names alone": """BEGIN;
SET client_min_messages = warning;
SET lock_timeout = '3s';
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE DOMAIN weight AS int CHECK (VALUE > 0);
CREATE SEQUENCE numbers INCREMENT BY 7;
CREATE TABLE crates (
    id serial PRIMARY KEY, number int DEFAULT nextval('numbers'), mood mood[], weight weight,
    box int REFERENCES boxes (id), made timestamptz DEFAULT now()
);
ALTER SEQUENCE numbers OWNED BY crates.number;
CREATE INDEX crates_mood ON crates USING gin (mood);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.weight := 1; RETURN NEW; END$$;
CREATE FUNCTION heavy(c crates) RETURNS SETOF crates LANGUAGE sql BEGIN ATOMIC SELECT * FROM crates WHERE weight > 10; END;
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE TRIGGER touch BEFORE UPDATE ON crates FOR EACH ROW EXECUTE FUNCTION touch();
CREATE POLICY own ON crates USING (id > 0);
COMMENT ON COLUMN crates.mood IS 'crates.mood';
COMMENT ON TRIGGER touch ON crates IS 'touch';
COMMENT ON TYPE mood IS 'mood';
COMMENT ON FUNCTION touch() IS 'touch';
INSERT INTO crates (weight, mood, box) SELECT 2, '{calm}', id FROM boxes WHERE id IN (SELECT id FROM old_boxes);
WITH one AS (SELECT min(id) AS id FROM boxes) UPDATE crates SET weight = 5 FROM one WHERE crates.box = one.id;
CREATE STATISTICS both_of_them ON id, number FROM crates;
ALTER TYPE mood RENAME VALUE 'cross' TO 'angry';
ALTER TABLE boxes RENAME COLUMN label TO title;
CREATE RULE quiet AS ON DELETE TO crates DO INSTEAD NOTHING;
CREATE MATERIALIZED VIEW totals AS SELECT total(id) FROM crates;
GRANT SELECT ON crates, boxes TO PUBLIC;
REVOKE ALL ON FUNCTION touch() FROM PUBLIC;
DROP VIEW IF EXISTS old_boxes, older_boxes;
COMMIT;
""",
    "a dump": r"""-- PostgreSQL database dump
\set QUIET on
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
CREATE SCHEMA app;
CREATE FUNCTION app.first() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.crates';
CREATE TABLE app.crates (id integer NOT NULL, note text, data bytea);
ALTER TABLE app.crates OWNER TO CURRENT_USER;
ALTER TABLE app.crates ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME app.crates_id_seq INCREMENT BY 5);
CREATE SEQUENCE app.other;
COPY app.crates (id, note, data) FROM stdin;
1	it's	\\x00ff
2	\N	\N
3	a\tb\\c\n\x41\101\b	\\x
4		\\x27
\.
COPY public.boxes (id, label) FROM stdin;
3	\N
\.
SELECT pg_catalog.setval('app.crates_id_seq', 11, true);
SELECT pg_catalog.setval('app.other', 4, false);
\echo done
""",
}


@pytest.fixture
def databases(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Two databases with the same schema: for the tool's file, and for what is made of it."""
    names = ("conversion_given", "conversion_made")
    for name in names:
        cluster.create_database(name)
        cluster.psql(BEFORE, name)
    yield names
    for name in names:
        cluster.drop_database(name)


def dumped(cluster: Cluster, database: str, *options: str) -> str:
    """Return what pg_dump writes, without its token, the time of now() and what the two ways of setting a sequence differ in."""
    argv = [str(bin_directory() / "pg_dump"), *options, cluster.dsn(database)]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    text = re.sub(r"^(\\(un)?restrict|SELECT pg_catalog.setval).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"'\d{4}-\d\d-\d\d [^']*'", "now", text)


@pytest.mark.parametrize("change", CHANGES)
def test_both_do_the_same(cluster: Cluster, databases: tuple[str, str], change: str) -> None:
    given, made = databases
    found = convert("1.sql", CHANGES[change].encode(), Given("dump"))
    assert not found.problems
    cluster.psql(CHANGES[change], given)
    cluster.psql("SET search_path = pg_catalog;\n" + found.migrate.text.data.decode(), made)
    assert dumped(cluster, made, "-s") == dumped(cluster, given, "-s")
    rows = dumped(cluster, given, "-a", "--inserts")
    assert dumped(cluster, made, "-a", "--inserts") == rows
    assert "VALUES (1, " in rows
    sequences = cluster.psql(
        "SELECT string_agg(format('nextval(%L)', oid::regclass), ', ') FROM pg_class WHERE relkind = 'S'", given
    )
    assert len({cluster.psql(f"SELECT {sequences}", name) for name in databases}) == 1
