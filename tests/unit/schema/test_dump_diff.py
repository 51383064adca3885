# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line diff of two schema dumps: what counts, and what only looks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.dump_diff import diff_dumps
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """\\restrict aaaa
SET lock_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

-- Name: t; Type: TABLE
CREATE TABLE public.t (
    a integer,
    b text
);

CREATE FUNCTION public.f() RETURNS void
    LANGUAGE plpgsql
    AS $_$
BEGIN
-- a comment of the function's
CREATE TEMP TABLE x (c int);
END
$_$;

\\unrestrict aaaa
"""


def test_noise_does_not_count() -> None:
    after = (
        BEFORE.replace("aaaa", "bbbb").replace("lock_timeout = 0", "lock_timeout = 1").replace("-- Name", "--\n-- Name")
    )
    found = diff_dumps(BEFORE, after)
    assert (found.removed, found.added, found.raw) == (0, 0, (0, 0))


def test_a_comma_that_moves_counts_in_the_raw_number_alone() -> None:
    found = diff_dumps(BEFORE, BEFORE.replace("    b text\n", "    b text,\n    c integer\n"))
    assert (found.removed, found.added) == (0, 0)
    assert (found.raw, found.normalised) == ((1, 2), (0, 1))


def test_a_line_of_a_function_is_no_statement_but_counts_as_a_line() -> None:
    found = diff_dumps(BEFORE, BEFORE.replace("CREATE TEMP TABLE x (c int);", "DROP TABLE x;"))
    assert (found.removed, found.added, found.raw) == (0, 0, (1, 1))
    found = diff_dumps(BEFORE, BEFORE.replace("-- a comment of the function's", "-- another"))
    assert found.raw == (1, 1)


def test_statements_count_as_a_multiset() -> None:
    twice = BEFORE + "CREATE INDEX i ON public.t USING btree (a);\n" * 2
    found = diff_dumps(BEFORE, twice)
    assert (found.removed, found.added) == (0, 2)
    assert diff_dumps(twice, BEFORE).removed == 2


def test_quotes_of_every_sort_are_followed() -> None:
    lines = [
        "COMMENT ON TABLE t IS 'it''s $$ not open';",
        'CREATE TABLE "odd$$name" (',
        "    c text DEFAULT '$x$'::text",
        ");",
        "CREATE VIEW v AS SELECT 'two",
        "CREATE lines'::text AS c;",
        "CREATE INDEX after ON t USING btree (c);",
    ]
    found = diff_dumps("", "\n".join(lines))
    assert found.added_lines == (
        "CREATE INDEX after ON t USING btree (c);",
        'CREATE TABLE "odd$$name" (',
        "CREATE VIEW v AS SELECT 'two",
    )


@given(st.text(alphabet="CREATE '\"$x\n,-", max_size=60))
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    found = diff_dumps(text, text)
    assert (found.removed, found.added, found.raw, found.normalised) == (0, 0, (0, 0), (0, 0))


def test_dumps_of_the_server_are_counted(cluster: Cluster, database: str) -> None:
    client = client_of(cluster, database)

    def dump() -> str:
        arguments = (
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            "--no-comments",
            "--dbname",
            cluster.dsn(database),
        )
        return client.run("pg_dump", *arguments).stdout.decode()

    before = dump()
    cluster.psql(
        "CREATE TABLE cutter_governance.new (id uuid PRIMARY KEY, x text); CREATE INDEX ON cutter_governance.new (x);"
        " ALTER TABLE public.tac_logical_unit ADD COLUMN authority text; COMMENT ON TABLE cutter_governance.new IS 'c'",
        database,
    )
    found = diff_dumps(before, dump())
    assert (found.removed, found.added) == (0, 3)
    assert [line.split(" (")[0] for line in found.added_lines] == [
        "ALTER TABLE ONLY cutter_governance.new",
        "CREATE INDEX new_x_idx ON cutter_governance.new USING btree",
        "CREATE TABLE cutter_governance.new",
    ]
