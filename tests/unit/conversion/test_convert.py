# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of each migration tool becomes the SQL of a phase; what does not is told with its line."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.convert import (
    Conversion,
    Given,
    convert,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.modules.new_phase import Drafted, Source, drafted

if TYPE_CHECKING:
    from pathlib import Path

UP = "CREATE TABLE crates (id int);\n"
DOWN = "DROP TABLE crates;\n"
MIGRATE = "BEGIN;\n\nCREATE TABLE public.crates (id int);\n\nCOMMIT;\n"
ROLLBACK = "BEGIN;\n\nDROP TABLE public.crates;\n\nCOMMIT;\n"


def put(place: Path, files: dict[str, str]) -> Path:
    """Write files, and return the path of the first."""
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    return place / next(iter(files))


def converted(place: Path, files: dict[str, str], name: str = "", changeset: str = "") -> Conversion:
    path = put(place, files)
    return convert(str(path), path.read_bytes(), Given(name, changeset))


def sql(text: str) -> str:
    """Return what a migration of dbmate is converted to, without BEGIN and COMMIT."""
    data = convert("m.sql", f"-- migrate:up\n{text}\n-- migrate:down\n".encode(), Given()).migrate.text.data.decode()
    assert data.startswith("BEGIN;\n\n")
    return data.removeprefix("BEGIN;\n\n").removesuffix("\n\nCOMMIT;\n")


FORMATS = {
    "dbmate": {"1_crates.sql": f"-- migrate:up\n{UP}\n-- migrate:down\n{DOWN}"},
    "dbmate, outside of a transaction": {
        "1_crates.sql": f"-- a comment\n-- migrate:up transaction:false\n{UP}\n-- migrate:down transaction:false\n{DOWN}"
    },
    "node-pg-migrate": {"1_crates.sql": f"-- Up Migration\n{UP}\n-- Down Migration\n{DOWN}"},
    "node-pg-migrate, down first": {"1_crates.sql": f"---- down migration\n{DOWN}\n--up migration\n{UP}"},
    "golang-migrate": {"1_crates.up.sql": UP, "1_crates.down.sql": DOWN},
    "diesel": {"1_crates/up.sql": UP, "1_crates/down.sql": DOWN},
    "flyway": {"V1.2__crates.sql": UP, "U1.2__crates.sql": DOWN},
    "liquibase": {"crates.sql": f"--liquibase formatted sql\n\n--changeset anna:crates\n{UP}--rollback {DOWN}"},
    "sqitch": {
        "deploy/crates.sql": f"-- Deploy depot:crates to pg\n\nBEGIN;\n\n{UP}\nCOMMIT;\n",
        "revert/crates.sql": f"-- Revert depot:crates from pg\n\nBEGIN;\n\n{DOWN}\nCOMMIT;\n",
    },
}


@pytest.mark.parametrize("name", FORMATS)
def test_both_directions_are_converted(tmp_path: Path, name: str) -> None:
    found = converted(tmp_path, FORMATS[name])
    assert found.rollback is not None
    without_head = [
        "".join(line for line in one.text.data.decode().splitlines(keepends=True) if not line.startswith("-- "))
        for one in (found.migrate, found.rollback)
    ]
    assert [one.replace("\n\n\n", "\n\n") for one in without_head] == [MIGRATE, ROLLBACK]
    assert not found.problems
    assert not found.left
    names = [
        path for path in map(str, sorted(tmp_path.rglob("*.sql"))) if path in (found.migrate.path, found.rollback.path)
    ]
    assert len(names) == len(FORMATS[name])


@pytest.mark.parametrize("name", FORMATS)
def test_a_phase_is_drafted_with_it(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, FORMATS[name])
    found = drafted("crates", str(tmp_path / "phases"), Source(tool_file=str(path)))
    assert found.problems == []
    assert found.draft.by_hand == []
    assert "DROP TABLE public.crates;" in found.draft.rollback


def test_what_is_not_recognised_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(PhaseGateError) as refused:
        converted(tmp_path, {"crates.sql": UP})
    assert "is not recognised" in refused.value.what
    assert "dbmate: a line -- migrate:up" in refused.value.expected
    assert "phasegate_from_format" in refused.value.next_step
    # the option names it, and without a down script the rollback is drafted
    found = converted(tmp_path, {"crates.sql": UP}, "golang-migrate")
    assert found.rollback is None
    assert "no down script" in found.notes[0]


def test_a_down_script_without_a_statement_is_none(tmp_path: Path) -> None:
    found = converted(tmp_path, {"1.up.sql": UP, "1.down.sql": "-- nothing;\n/* to do */;\n"})
    assert found.rollback is None
    assert found.notes[0] == "no down script: it has no statement; the rollback is drafted"


def test_sqitch_tells_what_a_change_requires_and_verifies(tmp_path: Path) -> None:
    found = converted(
        tmp_path,
        {
            "deploy/b.sql": f"-- Deploy depot:b to pg\n-- requires: crates\n{UP}",
            "verify/b.sql": "SELECT 1;",
            "revert/b.sql": DOWN,
        },
    )
    assert any(
        note.endswith("deploy/b.sql:2: it requires crates: name the phases that were made of it under requires")
        for note in found.notes
    )
    assert any("verify/b.sql is not converted" in note for note in found.notes)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "ALTER TABLE ONLY crates ADD b int REFERENCES boxes (id);",
            "ALTER TABLE ONLY public.crates ADD b int REFERENCES public.boxes (id);",
        ),
        ('DROP TABLE IF EXISTS a, app.b, "C" CASCADE;', 'DROP TABLE IF EXISTS public.a, app.b, public."C" CASCADE;'),
        ("CREATE TYPE mood AS ENUM ('a');", "CREATE TYPE public.mood AS ENUM ('a');"),
        ("ALTER TYPE mood ADD VALUE 'b';", "ALTER TYPE public.mood ADD VALUE 'b';"),
        (
            "CREATE TABLE t (m mood[], c citext, u uuid);",
            "CREATE TABLE public.t (m public.mood[], c public.citext, u uuid);",
        ),
        ("SELECT now(), uuid_generate_v4();", "SELECT now(), public.uuid_generate_v4();"),
        ("COMMENT ON COLUMN t.c IS 't.c';", "COMMENT ON COLUMN public.t.c IS 't.c';"),
        ("COMMENT ON CONSTRAINT t ON t IS 'x';", "COMMENT ON CONSTRAINT t ON public.t IS 'x';"),
        ("DROP TRIGGER IF EXISTS t ON t;", "DROP TRIGGER IF EXISTS t ON public.t;"),
        ("COMMENT ON FUNCTION f(int) IS 'f';", "COMMENT ON FUNCTION public.f(int) IS 'f';"),
        ("DROP FUNCTION f(mood), g();", "DROP FUNCTION public.f(public.mood), public.g();"),
        (
            "CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE PROCEDURE g();",
            "CREATE TRIGGER g AFTER INSERT ON public.t FOR EACH ROW EXECUTE PROCEDURE public.g();",
        ),
        (
            "CREATE INDEX i ON t USING gin (c gin_trgm_ops, d jsonb_ops);",
            "CREATE INDEX i ON public.t USING gin (c public.gin_trgm_ops, d jsonb_ops);",
        ),
        ("ALTER SEQUENCE s OWNED BY t.id;", "ALTER SEQUENCE public.s OWNED BY public.t.id;"),
        ("CREATE TABLE t (i int DEFAULT nextval('s'));", "CREATE TABLE public.t (i int DEFAULT nextval('public.s'));"),
        (
            "CREATE TABLE t (i int DEFAULT nextval('s'::regclass));",
            "CREATE TABLE public.t (i int DEFAULT nextval('public.s'::regclass));",
        ),
        ("CREATE EXTENSION IF NOT EXISTS citext;", "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;"),
        (
            "WITH q AS (SELECT 1) INSERT INTO t SELECT * FROM q;",
            "WITH q AS (SELECT 1) INSERT INTO public.t SELECT * FROM q;",
        ),
        (
            "CREATE TEMP TABLE t (i int);\nINSERT INTO t SELECT 1 FROM u;",
            "CREATE TEMP TABLE t (i int);\nINSERT INTO t SELECT 1 FROM public.u;",
        ),
        ("SELECT 1 FROM pg_class;", "SELECT 1 FROM pg_class;"),
        ("SELECT * FROM t x FOR UPDATE OF x;", "SELECT * FROM public.t x FOR UPDATE OF x;"),
        (
            'UPDATE t SET é = \'é\' FROM "ü" WHERE t.é = "ü".a;',
            'UPDATE public.t SET é = \'é\' FROM public."ü" WHERE t.é = "ü".a;',
        ),
        (
            "CREATE FUNCTION f(t t) RETURNS SETOF t LANGUAGE sql BEGIN ATOMIC SELECT * FROM t; END;",
            "CREATE FUNCTION public.f(t public.t) RETURNS SETOF public.t LANGUAGE sql BEGIN ATOMIC SELECT * FROM public.t; END;",
        ),
    ],
)
def test_names_get_their_schema(given: str, expected: str) -> None:
    assert sql(given) == expected


def test_the_search_path_of_the_file_says_which_schema() -> None:
    text = "CREATE TABLE a (i int);\nSET search_path TO app, public;\nCREATE TABLE b (i int);\nRESET search_path;\nDROP TABLE c;"
    assert sql(text) == "CREATE TABLE public.a (i int);\nCREATE TABLE app.b (i int);\nDROP TABLE public.c;"
    assert sql("SELECT pg_catalog.set_config('search_path', '', false);\nDROP TABLE c;") == "DROP TABLE c;"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("SET lock_timeout = '2s';", "SET LOCAL lock_timeout = '2s';"),
        ("set session statement_timeout to 500;", "set LOCAL statement_timeout to 500;"),
        ("SET statement_timeout = 0;", ""),
        ("SET client_min_messages = warning;", ""),
        ("SET client_encoding = 'UTF8';", ""),
        ("SET client_encoding = 'LATIN1';", "SET client_encoding = 'LATIN1';"),
        ("SET default_tablespace = fast;", "SET LOCAL default_tablespace = fast;"),
        ("SET session_replication_role = replica;", "SET session_replication_role = replica;"),
    ],
)
def test_settings(given: str, expected: str) -> None:
    assert sql(f"{given}\nSELECT 1;") == f"{expected}\nSELECT 1;".lstrip()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("begin;\nSELECT 1;\nend;", "BEGIN;\n\nSELECT 1;\n\nCOMMIT;\n"),
        ("SELECT 1", "BEGIN;\n\nSELECT 1;\n\nCOMMIT;\n"),
        ("SELECT 1 -- a", "BEGIN;\n\nSELECT 1; -- a\n\nCOMMIT;\n"),
        ("COMMIT;\nCREATE INDEX CONCURRENTLY i ON t (a);", "CREATE INDEX CONCURRENTLY i ON public.t (a);\n"),
        (
            "SELECT 1; -- a\n\n-- b\nDROP INDEX CONCURRENTLY i;",
            "BEGIN;\n\nSELECT 1; -- a\n\nCOMMIT;\n\n-- b\nDROP INDEX CONCURRENTLY public.i;\n",
        ),
        (
            "BEGIN;\nSELECT 1;\nCOMMIT;\nALTER TABLE a VALIDATE CONSTRAINT c;",
            "BEGIN;\n\nSELECT 1;\n\nCOMMIT;\n\nALTER TABLE public.a VALIDATE CONSTRAINT c;\n",
        ),
        ("ALTER TABLE app.a VALIDATE CONSTRAINT c;", "BEGIN;\n\nALTER TABLE app.a VALIDATE CONSTRAINT c;\n\nCOMMIT;\n"),
    ],
)
def test_the_transaction_is_that_of_a_phase(given: str, expected: str) -> None:
    assert convert("1.up.sql", given.encode(), Given()).migrate.text.data.decode() == expected


def refusal(place: Path, files: dict[str, str]) -> str:
    """Return the problems that no phase is written for, without the directory."""
    path = put(place, files)
    with pytest.raises(PhaseFileError) as refused:
        drafted("crates", str(place / "phases"), Source(tool_file=str(path)))
    return str(refused.value).replace(f"{place}/", "")


def test_all_problems_are_told_in_one_round_at_the_lines_of_the_tools_file(tmp_path: Path) -> None:
    text = textwrap.dedent("""\
        -- migrate:up
        SET client_min_messages = warning;

        CREATE TABLE crates (id int;
        CREATE TABLE boxes (id int);
        VACUUM boxes;
        BEGIN;
        SET work_mem = '1MB';
        SELECT {{ .Schema }}.f();
        DO $$BEGIN PERFORM count(*) FROM boxes; END$$;
        SAVEPOINT a;

        -- migrate:down
        EXPLAIN SELECT 1;
        """)
    told = refusal(tmp_path, {"1.sql": text})
    assert told.startswith("Invalid phase: 7 problems.")
    for line, what in (
        (4, "not SQL: syntax error"),
        (6, "VACUUM cannot be in a phase"),
        (7, "BEGIN cannot be in a phase"),
        (9, 'not SQL: syntax error at or near "{" (a template?)'),
        (10, "a body with names without a schema"),
        (11, "SAVEPOINT cannot be in a phase"),
        (14, "EXPLAIN cannot be in a phase"),
    ):
        assert f". 1.sql:{line}: {what}" in told, told
    assert not (tmp_path / "phases").exists()


def test_flyway_placeholders_are_told(tmp_path: Path) -> None:
    told = refusal(tmp_path, {"V1__a.sql": "CREATE TABLE app.a (id int,\n  owner text DEFAULT '${owner}');\n"})
    assert "V1__a.sql:2: a placeholder\n   found: ${owner}" in told


def test_more_problems_than_usual_are_all_told(tmp_path: Path) -> None:
    told = refusal(tmp_path, {"1.up.sql": "VACUUM a;\n" * 30})
    assert "\n30. 1.up.sql:30: VACUUM cannot be in a phase" in told


def test_what_stops_the_rehearsal_only_is_left_to_the_author(tmp_path: Path) -> None:
    text = (
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM boxes WHERE id::mood IS NOT NULL';\n"
    )
    path = put(
        tmp_path, {"1.up.sql": UP + text + text.replace("f()", "g()").replace(" AS", " SET search_path = public AS")}
    )
    found: Drafted = drafted("crates", str(tmp_path / "phases"), Source(tool_file=str(path)))
    assert [one.replace(f"{tmp_path}/", "").splitlines()[:2] for one in found.problems] == [
        ["1.up.sql:2: a body with names without a schema", "   found: boxes, mood"]
    ]


def test_other_line_ends_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "1.up.sql"
    path.write_bytes(b"\xef\xbb\xbf" + UP.replace("\n", "\r\n").encode())
    assert convert(str(path), path.read_bytes(), Given()).migrate.text.data.decode() == MIGRATE


def test_another_schema_than_public() -> None:
    assert b"CREATE TABLE app.crates" in convert("1.up.sql", UP.encode(), Given(schema="app")).migrate.text.data


CHANGELOG = """-- liquibase formatted sql

-- changeset anna:1 context:test runInTransaction:false
-- comment: the first
CREATE TABLE crates (
  id int
);
-- rollback DROP TABLE
--rollback crates;

--changeset "anna b":"2 b" dbms:postgresql,h2
--preconditions onFail:MARK_RAN
--precondition-sql-check expectedResult:0 SELECT count(*) FROM boxes
--ignoreLines:1
NOT SQL;
--ignoreLines:start
NOR THIS;
--ignoreLines:end
CREATE TABLE boxes (id int);
/* liquibase rollback
DROP TABLE boxes;
DROP TABLE IF EXISTS old;
*/
--changeset anna:3
DROP TABLE shelves;
--rollback not required
--changeset anna:4 endDelimiter:/ dbms:oracle
DROP TABLE racks
/
--rollback changesetId:1 changesetAuthor:anna
--changeset bert:1
DROP TABLE bins;
"""


def test_one_changeset_of_several_is_chosen(tmp_path: Path) -> None:
    one = converted(tmp_path, {"log.sql": CHANGELOG}, changeset="anna:1")
    assert one.migrate.text.data.decode() == (
        "BEGIN;\n\n-- comment: the first\nCREATE TABLE public.crates (\n  id int\n);\n\nCOMMIT;\n"
    )
    assert one.rollback is not None
    assert one.rollback.text.data.decode() == "BEGIN;\n\nDROP TABLE\npublic.crates;\n\nCOMMIT;\n"
    assert one.rollback.text.line(one.rollback.text.data.index(b"public.")) == 9
    assert any("log.sql:3: context:test is not converted" in note for note in one.notes)

    two = converted(tmp_path, {"log.sql": CHANGELOG}, changeset="2 b")
    assert two.migrate.text.data.decode() == "BEGIN;\n\nCREATE TABLE public.boxes (id int);\n\nCOMMIT;\n"
    assert two.rollback is not None
    assert b"DROP TABLE public.boxes;\nDROP TABLE IF EXISTS public.old;\n" in two.rollback.text.data
    assert [note.rpartition("log.sql:")[2][:17] for note in two.notes if "precondition" in note] == [
        "12: a preconditio",
        "13: a preconditio",
    ]

    three = converted(tmp_path, {"log.sql": CHANGELOG}, changeset="3")
    assert three.rollback is None
    assert "says that it needs no rollback" in three.notes[0]

    four = converted(tmp_path, {"log.sql": CHANGELOG}, changeset="4")
    assert [(one.line, one.what) for one in four.problems[:3]] == [
        (30, "a rollback by another changeset"),
        (27, "statements that do not end with ;"),
        (27, "a changeset of another database"),
    ]


@pytest.mark.parametrize(
    ("changeset", "found"),
    [("", "anna:1, anna b:2 b, anna:3, anna:4, bert:1"), ("1", "anna:1, bert:1"), ("9", "anna:1, ")],
)
def test_which_changesets_there_are_is_told(tmp_path: Path, changeset: str, found: str) -> None:
    with pytest.raises(PhaseGateError) as refused:
        converted(tmp_path, {"log.sql": CHANGELOG}, changeset=changeset)
    assert refused.value.found.startswith(found)


def test_a_changeset_is_of_liquibase_only(tmp_path: Path) -> None:
    with pytest.raises(PhaseGateError, match="Only a changelog of Liquibase has changesets"):
        converted(tmp_path, {"1.up.sql": UP}, changeset="1")


DUMP = r"""--
-- PostgreSQL database dump
--

\restrict kP2

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET default_table_access_method = heap;

CREATE TABLE app.crates (id integer NOT NULL, note text);

ALTER TABLE app.crates OWNER TO anna;

ALTER TABLE app.crates ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME app.crates_id_seq INCREMENT BY 5
);

CREATE SEQUENCE app.other START WITH 1;

COPY app.crates (id, note) FROM stdin;
1	it's
2	\N
3	a\tb\\c
\.

COPY app.boxes (id) FROM stdin;
\.

SELECT pg_catalog.setval('app.crates_id_seq', 11, true);
SELECT pg_catalog.setval('app.other', 1, false);
SELECT pg_catalog.setval('app.elsewhere', 1, false);

\unrestrict kP2
"""


def test_a_dump_is_converted(tmp_path: Path) -> None:
    path = put(tmp_path, {"dump.sql": DUMP})
    found = convert(str(path), path.read_bytes(), Given(role="anna"))
    assert (
        found.migrate.text.data.decode()
        == r"""BEGIN;

--
-- PostgreSQL database dump
--

SET LOCAL check_function_bodies = false;

CREATE TABLE app.crates (id integer NOT NULL, note text);

ALTER TABLE app.crates ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME app.crates_id_seq INCREMENT BY 5
);

CREATE SEQUENCE app.other START WITH 1;

INSERT INTO app.crates (id, note) OVERRIDING SYSTEM VALUE VALUES
    ('1', 'it''s'),
    ('2', NULL),
    ('3', E'a\x09b\\c');

ALTER SEQUENCE app.crates_id_seq RESTART WITH 16;
ALTER SEQUENCE app.other RESTART WITH 1;
SELECT pg_catalog.setval('app.elsewhere', 1, false);

COMMIT;
"""
    )
    assert not found.problems
    assert found.rollback is None
    # an owner that is another role than that of the phase stays
    assert b"OWNER TO anna" in convert(str(path), path.read_bytes(), Given()).migrate.text.data


def test_what_psql_would_do_is_told(tmp_path: Path) -> None:
    rows = "".join(f"{n}\n" for n in range(1001))
    text = (
        f"-- PostgreSQL database dump\nCREATE TABLE app.a (i int);\nCOPY app.a (i) FROM stdin;\n{rows}\\.\n"
        "COPY app.a (i) FROM stdin WITH (FORMAT csv);\n1\n\\.\n\\i other.sql\n\\connect shop\n\\echo 'it''s'\nVACUUM app.a;\n"
    )
    told = refusal(tmp_path, {"dump.sql": text})
    assert told.startswith("Invalid phase: 4 problems.")
    for line, what in (
        (3, "COPY FROM STDIN of 1001 rows"),
        (1006, "COPY FROM STDIN with options"),
        (1009, "the psql command \\i: psql does not read a phase"),
        (1012, "VACUUM cannot be in a phase"),
    ):
        assert f". dump.sql:{line}: {what}" in told, told


def test_a_structure_of_rails_is_a_dump(tmp_path: Path) -> None:
    text = (
        'CREATE TABLE public.crates (id int);\nSET search_path TO "$user", public;\n\n'
        "INSERT INTO \"schema_migrations\" (version) VALUES\n('20260516');\n"
    )
    found = converted(tmp_path, {"db/structure.sql": text})
    assert b'INSERT INTO public."schema_migrations" (version)' in found.migrate.text.data


def test_an_invalid_index_that_would_be_accepted_is_left_to_the_author(tmp_path: Path) -> None:
    path = put(tmp_path, {"1.up.sql": f"{UP}CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON crates (id);\n"})
    found = drafted("crates", str(tmp_path / "phases"), Source(tool_file=str(path)))
    assert any("CREATE INDEX CONCURRENTLY IF NOT EXISTS" in one for one in found.problems)


def test_other_encodings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "1.up.sql"
    path.write_bytes(UP.encode() + "COMMENT ON TABLE crates IS '\xe9';\n".encode("latin-1"))
    found = convert(str(path), path.read_bytes(), Given())
    assert [(one.line, one.what) for one in found.problems] == [(2, "not UTF-8")]
