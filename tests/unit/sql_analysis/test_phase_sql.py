# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements are cut where they end, named as PostgreSQL names them, and refused when no phase can have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pglast
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile, load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError, Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.node_tags import (
    ALTER_WORDS,
    NODE_TAGS,
    OBJECT_WORDS,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import (
    ALL_KINDS,
    cluster_wide,
    kind_allowed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.classification import _SPECIAL, classify
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import (
    analyse_file,
    analyse_phase,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import split_file
from ansible_collections.incomex.phasegate.tests.support.phase_files import SMALL_DDL, PhaseFiles
from hypothesis import given
from hypothesis import strategies as st
from pglast import ast, enums

if TYPE_CHECKING:
    from pathlib import Path

#: Nodes that end in Stmt and are never a statement of a file.
NOT_TOP_LEVEL = {"PLAssignStmt", "RawStmt", "ReplicaIdentityStmt", "ReturnStmt", "SetOperationStmt"}
#: Subcommands that the server makes for itself.
INTERNAL = {
    "AT_AddColumnToView",
    "AT_AddIndex",
    "AT_AddIndexConstraint",
    "AT_CookedColumnDefault",
    "AT_ReAddComment",
    "AT_ReAddConstraint",
    "AT_ReAddDomainConstraint",
    "AT_ReAddIndex",
    "AT_ReAddStatistics",
    "AT_ReplaceRelOptions",
}
SOME_STATEMENTS = [
    'CREATE TABLE app."Tabelle ä" (id int DEFAULT 1, "größe; --" text)',
    "COMMENT ON TABLE app.t IS 'ein; Wort — 日本 🙂 /* x */'",
    "SELECT $$;\n-- ;$$ AS a, E'\\';' AS b, U&'\\0041' AS c",
    "UPDATE app.t SET id = id + 1",
]


def problems_of(files: PhaseFiles) -> list[Problem]:
    with pytest.raises(PhaseFileError) as caught:
        analyse_phase(load_phase(files.path))
    return caught.value.problems


def kinds_of(sql: str) -> list[str]:
    (raw,) = pglast.parse_sql(sql)
    return classify(raw.stmt)[1]


def split(text: str) -> list[dict[str, Any]]:
    problems: list[Problem] = []
    pieces = split_file(SourceFile("x.sql", "x.sql", text.encode("utf-8")), problems)
    assert problems == []
    return [vars(piece) for piece in pieces]


def analyse(sql: bytes) -> tuple[list[Any], list[Problem]]:
    """Return statements and problems of a file whose scope has every kind, and the schemas app and b."""
    problems: list[Problem] = []
    rules = SqlRules(frozenset({"app", "b"}), ALL_KINDS, frozenset(), (), {}, "k", "r")
    statements = analyse_file(SourceFile("x.sql", "x.sql", sql), rules, problems)
    return list(statements), problems


@pytest.fixture
def files(tmp_path: Path) -> PhaseFiles:
    return PhaseFiles(tmp_path)


# --- splitting -------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "\n", "-- é; x\n", "/* ; /* ü */ */ "]), st.sampled_from(SOME_STATEMENTS)),
        min_size=1,
    ),
    st.sampled_from(["", ";", ";\n", "; -- Ende €\n", " /* x */"]),
)
def test_ranges_are_the_file(parts: list[tuple[str, str]], tail: str) -> None:
    text = ";".join(before + statement for before, statement in parts) + tail
    data = text.encode("utf-8")
    pieces = split(text)
    assert [piece["text"].strip() for piece in pieces[:-1]] == [statement for _, statement in parts[:-1]]
    ranges = [{"start": piece["start"], "end": piece["end"], "run": True, "after_commit": ""} for piece in pieces]
    check_cover(ranges, data, sha256_bytes(data))
    for (before, statement), piece in zip(parts, pieces, strict=True):
        assert data[piece["start"] : piece["end"]].decode("utf-8").startswith(before + statement)


def test_lines_are_those_of_the_statement_not_of_its_comment() -> None:
    assert [piece["line"] for piece in split("-- one\n\nSELECT 1;\n/* four\nfive */ SELECT\n2;;\nSELECT 3")] == [
        3,
        5,
        7,
    ]


# --- names -----------------------------------------------------------------------------------------------------


def test_every_statement_node_has_a_name() -> None:
    nodes = {name for name in dir(ast) if name.endswith("Stmt")} - NOT_TOP_LEVEL
    assert nodes - set(NODE_TAGS) - set(_SPECIAL) == set()
    assert set(NODE_TAGS) - nodes == set()


def test_every_subcommand_of_alter_has_a_name() -> None:
    assert {kind.name for kind in enums.AlterTableType} - INTERNAL == set(ALTER_WORDS)


def test_every_object_type_that_can_be_altered_or_dropped_has_a_name() -> None:
    never = {"AMOP", "AMPROC", "DEFACL", "DEFAULT", "PARAMETER_ACL", "PUBLICATION_NAMESPACE", "PUBLICATION_REL"}
    known = {f"OBJECT_{name}" for name in never} | set(OBJECT_WORDS)
    assert {kind.name for kind in enums.ObjectType} == known


@pytest.mark.parametrize(
    "sql",
    [
        "COMMENT ON DATABASE x IS ''",
        "COMMENT ON TABLESPACE x IS ''",
        "ALTER DATABASE x SET work_mem = '1MB'",
        "ALTER DATABASE x OWNER TO y",
        "ALTER DATABASE x RENAME TO y",
        "CREATE ROLE x",
        "CREATE USER x",
        "ALTER ROLE x SUPERUSER",
        "ALTER ROLE x SET search_path = y",
        "ALTER ROLE x RENAME TO y",
        "DROP ROLE x",
        "GRANT x TO y",
        "REVOKE x FROM y CASCADE",
        "GRANT CREATE ON TABLESPACE x TO y",
        "ALTER TABLESPACE x RENAME TO y",
        "ALTER TABLESPACE x SET (seq_page_cost = 1)",
        "REASSIGN OWNED BY x TO y",
        "DROP OWNED BY x CASCADE",
    ],
)
@pytest.mark.fault("cluster-wide")
def test_what_reaches_beyond_the_database_has_kinds_of_its_own(sql: str) -> None:
    kinds = kinds_of(sql)
    assert all(map(cluster_wide, kinds))
    assert set(kinds) <= ALL_KINDS
    # a scope of ordinary statements allows none of them
    ordinary = {kind for kind in ALL_KINDS if not cluster_wide(kind)}
    assert not any(kind_allowed(kind, ordinary) for kind in kinds)


@pytest.mark.parametrize(
    "sql", ["COMMENT ON TABLE a.t IS ''", "GRANT SELECT ON a.t TO x", "ALTER TABLE a.t OWNER TO x"]
)
def test_what_stays_in_the_database_is_not_cluster_wide(sql: str) -> None:
    assert not any(map(cluster_wide, kinds_of(sql)))


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("ALTER TABLE a.t ADD COLUMN x int, DROP COLUMN y", ["ALTER TABLE ADD COLUMN", "ALTER TABLE DROP COLUMN"]),
        (
            "ALTER TABLE a.t ALTER x SET DEFAULT 1, ALTER x DROP DEFAULT",
            ["ALTER TABLE SET DEFAULT", "ALTER TABLE DROP DEFAULT"],
        ),
        ("ALTER TABLE a.t ADD COLUMN x int, ADD COLUMN y int", ["ALTER TABLE ADD COLUMN"]),
        ("ALTER TABLE a.t RENAME x TO y", ["ALTER TABLE RENAME COLUMN"]),
        ("ALTER TABLE a.t RENAME TO u", ["ALTER TABLE RENAME"]),
        ("ALTER VIEW a.v RENAME x TO y", ["ALTER VIEW RENAME COLUMN"]),
        ("ALTER TABLE a.t SET SCHEMA b", ["ALTER TABLE SET SCHEMA"]),
        ("ALTER TABLE a.t OWNER TO x", ["ALTER TABLE OWNER TO"]),
        ("ALTER FUNCTION a.f() OWNER TO x", ["ALTER FUNCTION OWNER TO"]),
        ("ALTER INDEX a.i SET (fillfactor = 50)", ["ALTER INDEX SET PARAMETERS"]),
        ("ALTER TYPE a.t ADD VALUE 'x'", ["ALTER TYPE ADD VALUE"]),
        ("ALTER TYPE a.t ADD ATTRIBUTE x int", ["ALTER TYPE ADD ATTRIBUTE"]),
        ("ALTER DOMAIN a.d DROP DEFAULT", ["ALTER DOMAIN DROP DEFAULT"]),
        ("ALTER DOMAIN a.d VALIDATE CONSTRAINT c", ["ALTER DOMAIN VALIDATE CONSTRAINT"]),
        ("ALTER EXTENSION x UPDATE", ["ALTER EXTENSION UPDATE"]),
        ("DROP TABLE a.t", ["DROP TABLE"]),
        ("DROP TABLE a.t CASCADE", ["DROP TABLE CASCADE"]),
        ("TRUNCATE a.t CASCADE", ["TRUNCATE TABLE CASCADE"]),
        ("REVOKE SELECT ON a.t FROM x CASCADE", ["REVOKE CASCADE"]),
        ("CREATE TABLE a.t AS SELECT 1", ["CREATE TABLE AS"]),
        ("CREATE MATERIALIZED VIEW a.t AS SELECT 1", ["CREATE MATERIALIZED VIEW"]),
        ("CREATE PROCEDURE a.p() LANGUAGE sql AS ''", ["CREATE PROCEDURE"]),
        ("CREATE TEXT SEARCH DICTIONARY a.d (template = simple)", ["CREATE TEXT SEARCH DICTIONARY"]),
        ("COPY a.t FROM '/x'", ["COPY FROM FILE"]),
        ("COPY a.t TO PROGRAM 'x'", ["COPY TO PROGRAM"]),
        ("GRANT a TO b", ["GRANT ROLE"]),
        ("COMMENT ON DATABASE x IS ''", ["COMMENT ON DATABASE"]),
        ("COMMENT ON ROLE x IS ''", ["COMMENT ON ROLE"]),
        ("COMMENT ON TABLE a.t IS ''", ["COMMENT"]),
        ("SECURITY LABEL ON TABLESPACE x IS ''", ["SECURITY LABEL ON TABLESPACE"]),
        ("GRANT CONNECT ON DATABASE x TO y", ["GRANT ON DATABASE"]),
        ("REVOKE SET ON PARAMETER work_mem FROM y CASCADE", ["REVOKE ON PARAMETER CASCADE"]),
        ("GRANT SELECT ON a.t TO y", ["GRANT"]),
        ("ANALYZE a.t", ["ANALYZE"]),
        ("SET LOCAL work_mem = '1MB'", ["SET LOCAL"]),
        ("SET LOCAL app.who = 'x'", ["SET LOCAL"]),
        ("VALUES (1)", ["SELECT"]),
    ],
)
def test_kinds(sql: str, kinds: list[str]) -> None:
    assert kinds_of(sql) == kinds
    assert set(kinds) <= ALL_KINDS


@pytest.mark.parametrize(
    ("kind", "scope", "allowed"),
    [
        ("ALTER TABLE DROP COLUMN", "ALTER TABLE", True),
        ("ALTER TABLE DROP COLUMN", "ALTER TABLE ADD COLUMN", False),
        ("ALTER TABLE", "ALTER TABLE ADD COLUMN", False),
        ("CREATE TABLE AS", "CREATE TABLE", False),
        ("DROP TABLE CASCADE", "DROP TABLE", False),
        ("ALTER TABLESPACE OWNER TO", "ALTER TABLE", False),
    ],
)
def test_scopes(kind: str, scope: str, allowed: bool) -> None:
    assert kind in ALL_KINDS
    assert kind_allowed(kind, {scope}) is allowed


@pytest.mark.parametrize(
    ("sql", "relations", "rows"),
    [
        ('SELECT * FROM app.t JOIN b."U" ON true', ["app.t", 'b."U"'], True),
        ("WITH t AS (SELECT 1) SELECT * FROM t, app.u", ["app.u"], True),
        ("INSERT INTO app.t SELECT 1 RETURNING *", ["app.t"], True),
        ("DELETE FROM app.t USING b.u", ["app.t", "b.u"], False),
        ("DROP VIEW app.v, app.w", ["app.v", "app.w"], False),
        ("COMMENT ON COLUMN app.t.c IS ''", ["app.t"], False),
        ("DROP TRIGGER x ON app.t", ["app.t"], False),
        ("ALTER TABLE app.t ADD FOREIGN KEY (x) REFERENCES b.u", ["app.t", "b.u"], False),
    ],
)
def test_relations_and_rows(sql: str, relations: list[str], rows: bool) -> None:
    ((statement,), _) = analyse(sql.encode())
    assert (statement["relations"], statement["returns_rows"]) == (relations, rows)


# --- what cannot be in a file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ddl", "line", "what"),
    [
        (b"\xef\xbb\xbf" + SMALL_DDL, 1, "a byte order mark"),
        (b"\n" + SMALL_DDL.replace(b" (", b"\x00("), 2, "a NUL byte"),
        (b"SELECT 1;\r\n" + SMALL_DDL, 1, "a carriage return"),
        (b"-- \n-- \xff\n" + SMALL_DDL, 2, "not UTF-8"),
        (b"-- \n-- \x1b[8m\n" + SMALL_DDL, 2, "disallowed control character"),
        ("-- \u202e\n".encode() + SMALL_DDL, 1, "disallowed control character"),
        (b"", 1, "no statement"),
        (b"  \n-- nothing\n/* here */;", 1, "no statement"),
        (b";BEGIN;\n" + SMALL_DDL + b"COMMIT;", 1, "the plan's statements do not match x.sql"),
        (b"BEGIN;\nCOMMIT;", 1, "no statement besides BEGIN and COMMIT"),
        (b"\n\n\\! touch x\n" + SMALL_DDL, 3, "a psql command"),
        (SMALL_DDL + b"\\copy app.t FROM x\n", 2, "a psql command"),
        (SMALL_DDL + b"SELECT :who;\n", 2, "psql variable"),
        (SMALL_DDL + b"CREATE TABEL app.u ();\n", 2, 'not SQL: syntax error at or near "TABEL"'),
        (SMALL_DDL + b"COMMENT ON TABLE app.t IS 'x;\n", 2, "not SQL: unterminated quoted string"),
        (b"COPY app.t FROM STDIN;\n1\n\\.\n", 1, "COPY FROM STDIN"),
        (b"COPY app.t FROM STDIN;\n", 1, "COPY FROM STDIN"),
        (b"COPY app.t TO STDOUT;\n", 1, "COPY TO STDOUT"),
        (b"BEGIN;\n" + SMALL_DDL, 1, "BEGIN cannot be in a phase"),
        (SMALL_DDL + b"COMMIT;\n", 2, "COMMIT cannot be in a phase"),
        (b"BEGIN;\n" + SMALL_DDL + b"COMMIT;\n" + SMALL_DDL + b"COMMIT;\n", 3, "COMMIT cannot be in a phase"),
        (b"BEGIN ISOLATION LEVEL SERIALIZABLE;\n" + SMALL_DDL + b"COMMIT;\n", 1, "BEGIN cannot be in a phase"),
        (b"BEGIN;\n" + SMALL_DDL + b"COMMIT AND CHAIN;\n", 1, "BEGIN cannot be in a phase"),
        (SMALL_DDL + b"ROLLBACK;\n", 2, "ROLLBACK cannot be in a phase"),
        (SMALL_DDL + b"SAVEPOINT s;\n", 2, "SAVEPOINT cannot be in a phase"),
        (SMALL_DDL + b"PREPARE TRANSACTION 'x';\n", 2, "PREPARE TRANSACTION cannot be in a phase"),
        (b"SET lock_timeout = 0;\n", 1, "outside SET LOCAL"),
        (b"SET SESSION AUTHORIZATION x;\n", 1, "outside SET LOCAL"),
        (b"SET ROLE x;\n", 1, "outside SET LOCAL"),
        (b"RESET ALL;\n", 1, "outside SET LOCAL"),
        (b"SET TRANSACTION READ ONLY;\n", 1, "outside SET LOCAL"),
        (b"SET LOCAL ROLE x;\n", 1, "SET LOCAL role"),
        (b"SET LOCAL search_path = app;\n", 1, "SET LOCAL search_path"),
        (b"SET LOCAL session_replication_role = replica;\n", 1, "SET LOCAL session_replication_role"),
        (b"SET LOCAL standard_conforming_strings = off;\n", 1, "SET LOCAL standard_conforming_strings"),
        (b"SET LOCAL plpgsql.extra_errors = 'all';\n", 1, "SET LOCAL plpgsql.extra_errors"),
        (b"ALTER SYSTEM SET work_mem = '1GB';\n", 1, "ALTER SYSTEM cannot be in a phase"),
        (
            b"CREATE FUNCTION app.f() RETURNS int LANGUAGE sql SET track_counts = off AS 'SELECT 1'",
            1,
            "CREATE FUNCTION SET track_counts",
        ),
        (
            b"CREATE PROCEDURE app.p() LANGUAGE sql SET \"Track_Counts\" FROM CURRENT AS ''",
            1,
            "CREATE PROCEDURE SET Track_Counts",
        ),
        (b"ALTER FUNCTION app.f() SET work_mem = '1MB' SET track_counts = off", 1, "ALTER FUNCTION SET track_counts"),
        (b"ALTER PROCEDURE app.p() SET track_activities TO DEFAULT", 1, "ALTER PROCEDURE SET track_activities"),
        (
            b"DO $$BEGIN ALTER FUNCTION app.f() SET track_counts = off; END$$",
            1,
            "in the body: ALTER FUNCTION SET track_counts",
        ),
        *(
            (f"{head} SET {setting} = 'off'{tail}".encode(), 1, f"{tag} SET {setting}: not a setting")
            for setting in (
                "role",
                "session_authorization",
                "session_replication_role",
                "standard_conforming_strings",
                "backslash_quote",
                "allow_system_table_mods",
                "log_statement",
                "pgaudit.log",
                "plpgsql.variable_conflict",
            )
            for head, tag, tail in (
                ("CREATE FUNCTION app.f() RETURNS int LANGUAGE sql", "CREATE FUNCTION", " AS 'SELECT 1'"),
                ("ALTER PROCEDURE app.p()", "ALTER PROCEDURE", ""),
            )
        ),
        (b"SET LOCAL pgaudit.log = 'none'", 1, "SET LOCAL pgaudit.log: not a setting that a phase may change"),
        (b"SET LOCAL \"PG_Stat_Statements.track\" = 'none'", 1, "SET LOCAL PG_Stat_Statements.track: not a setting"),
        (b"COPY (DELETE FROM app.t RETURNING id) TO '/x'", 1, "COPY of a statement that changes rows"),
        (b"VACUUM app.t;\n", 1, "VACUUM cannot be in a phase"),
        (b"CREATE DATABASE x;\n", 1, "CREATE DATABASE cannot be in a phase"),
        (b"CREATE INDEX CONCURRENTLY i ON app.t (id);\nSELECT 1", 1, "CONCURRENTLY before the end of the file"),
        (b"BEGIN;\nDROP INDEX CONCURRENTLY app.i;\nCOMMIT;\n", 2, "CONCURRENTLY before the end of the file"),
        (b"CREATE INDEX CONCURRENTLY ON app.t (id);\n", 1, "CONCURRENTLY without one index or partition"),
        (b"CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON app.t (id);\n", 1, "accepts an existing invalid index"),
        (b"DROP INDEX CONCURRENTLY app.i, app.j;\n", 1, "CONCURRENTLY without one index or partition"),
        (b"DROP INDEX CONCURRENTLY i;\n", 1, "CONCURRENTLY without one index or partition"),
        (b"CREATE /* why */ INDEX CONCURRENTLY i ON app.t (id);\n", 1, "the plan's statements do not match"),
        (b"CREATE INDEX CONCURRENTLY i ON app.t (id);\nCOMMIT;\n", 1, "CONCURRENTLY before the end of the file"),
        (b"BEGIN;\nSELECT 1;\nDROP INDEX CONCURRENTLY app.i", 1, "BEGIN cannot be in a phase"),
        (b"REINDEX (CONCURRENTLY) SCHEMA app;\n", 1, "REINDEX of a whole schema"),
        (b"REINDEX SCHEMA app;\n", 1, "REINDEX of a whole schema"),
        (b"ALTER TABLE app.t DETACH PARTITION u CONCURRENTLY;\n", 1, "CONCURRENTLY without one index or partition"),
        (b"ALTER DATABASE x SET TABLESPACE y;\n", 1, "ALTER DATABASE SET TABLESPACE"),
        (b"CLUSTER;\n", 1, "CLUSTER without a table"),
        (b"CREATE SCHEMA app CREATE TABLE t ();\n", 1, "CREATE SCHEMA with statements inside"),
        (b"PREPARE x AS SELECT 1;\n", 1, "PREPARE cannot be in a phase"),
        (b"EXPLAIN ANALYZE DELETE FROM app.t;\n", 1, "EXPLAIN cannot be in a phase"),
        (b"LISTEN x;\n", 1, "LISTEN cannot be in a phase"),
        (b"CREATE TABLE app.t AS EXECUTE x;\n", 1, "CREATE TABLE AS EXECUTE"),
        (b"SELECT 1 INTO app.t;\n", 1, "SELECT INTO"),
        (b"WITH d AS (DELETE FROM app.t RETURNING *) SELECT * FROM d;\n", 1, "inside WITH"),
    ],
)
@pytest.mark.fault("transaction-control", "server-side", "settings-changed")
def test_refused_whatever_the_scope(ddl: bytes, line: int, what: str) -> None:
    problem = analyse(ddl)[1][0]
    assert what in problem.what
    assert (problem.file, problem.line) == ("x.sql", line)


@pytest.mark.parametrize(
    "ddl",
    [
        b"ALTER FUNCTION app.f() RESET track_counts",
        b"ALTER FUNCTION app.f() RESET ALL",
        b"ALTER FUNCTION app.f() RESET role",
        b"ALTER FUNCTION app.f() SET TIME ZONE 'UTC' SET row_security = off SET enable_seqscan = off SET app.x = 1",
        b"CREATE FUNCTION app.f() RETURNS int LANGUAGE sql SET search_path = pg_catalog SET work_mem = '1MB' AS 'SELECT 1'",
    ],
)
def test_a_function_has_other_settings_of_its_own(ddl: bytes) -> None:
    assert "SET" not in " ".join(problem.what for problem in analyse(ddl)[1])


@pytest.mark.parametrize(
    ("ddl", "what", "next_step"),
    [
        (b"DROP TABLE app.t", "DROP TABLE is not in scope.statements", "add DROP TABLE to scope.statements"),
        (b"CREATE TABLE other.t ()", "other.t is outside of scope.schemas", "add other to scope.schemas"),
        (b"CREATE TABLE t ()", "t without a schema", "write every name with its schema"),
        (b"CREATE TABLE app.t (x other.kind)", "other.kind is outside of scope.schemas", "add other"),
        (b"CREATE TABLE app.t (x int REFERENCES other.u)", "other.u is outside of scope.schemas", "add other"),
        (b"CREATE TABLE app.t (x text DEFAULT app.f())", "the function app.f has effects", "scope.functions"),
        (b"CREATE TABLE app.t (x text DEFAULT pg_read_file('/x'))", "pg_read_file reaches beyond", "scope.functions"),
        (
            b"CREATE TABLE app.t (x text DEFAULT ('/x'::text).pg_read_file)",
            "pg_read_file reaches beyond",
            "scope.functions",
        ),
        (
            b"CREATE TABLE app.t (x bool DEFAULT (7).pg_terminate_backend)",
            "pg_terminate_backend reaches",
            "functions",
        ),
        (b"CREATE TABLE app.t (CHECK ((7::oid).lo_unlink = 1))", "lo_unlink reaches beyond", "scope.functions"),
        (b"CREATE TABLE app.t (x text COLLATE other.c)", "other.c is outside of scope.schemas", "add other"),
        (
            b"CREATE TABLE app.t (CHECK (1 OPERATOR(other.=) 2))",
            "other.= is outside of scope.schemas".replace("=", '"="'),
            "add",
        ),
        (b"CREATE TABLE pg_catalog.t ()", "pg_catalog.t is a system object", "cannot change system catalogs"),
    ],
)
@pytest.mark.fault("server-side")
def test_outside_of_the_scope(files: PhaseFiles, ddl: bytes, what: str, next_step: str) -> None:
    files.write(ddl=ddl)
    problem = problems_of(files)[0]
    assert what in problem.what
    assert next_step in problem.next_step
    assert problem.found == ddl.decode()


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE pg_class SET relname = relname", "pg_catalog.pg_class is a system object"),
        ("WITH t AS (SELECT 1) UPDATE t SET x = 1", "t without a schema"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "f without a schema"),
        ("CREATE TYPE e AS ENUM ()", "e without a schema"),
        ("CREATE DOMAIN other.d AS int", "other.d is outside"),
        ("ALTER TABLE app.t SET SCHEMA other", "other is outside"),
        ("CREATE SCHEMA other", "other is outside"),
        ("DROP SCHEMA other", "other is outside"),
        ("ALTER SCHEMA app RENAME TO other", "other is outside"),
        ("COMMENT ON SCHEMA other IS ''", "other is outside"),
        ("GRANT USAGE ON SCHEMA other TO x", "other is outside"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA other TO x", "other is outside"),
        ("ALTER DEFAULT PRIVILEGES IN SCHEMA other GRANT SELECT ON TABLES TO x", "other is outside"),
        ("CREATE EXTENSION x SCHEMA other", "other is outside"),
        ("DROP FUNCTION other.f(int)", "other.f is outside"),
        ("ALTER FUNCTION other.f() STABLE", "other.f is outside"),
        ("DROP TYPE other.t", "other.t is outside"),
        ("COMMENT ON TYPE other.t IS ''", "other.t is outside"),
        ("COMMENT ON COLUMN other.t.c IS ''", "other.t is outside"),
        ("COMMENT ON CONSTRAINT c ON other.t IS ''", "other.t is outside"),
        ("COMMENT ON OPERATOR CLASS other.o USING btree IS ''", "other.o is outside"),
        ("CREATE TRIGGER x BEFORE INSERT ON app.t EXECUTE FUNCTION other.f()", "other.f is outside"),
        ("CREATE PUBLICATION p FOR TABLES IN SCHEMA other", "other is outside"),
        ("CREATE STATISTICS other.s ON a, b FROM app.t", "other.s is outside"),
        ("CREATE VIEW app.v AS SELECT * FROM other.t", "other.t is outside"),
        ("TRUNCATE app.t, other.t", "other.t is outside"),
        ("SELECT public.dblink('x', 'y')", "public.dblink has effects"),
        ("SELECT lo_import('/x')", "lo_import reaches beyond"),
        ("SELECT pg_catalog.pg_terminate_backend(1)", "pg_terminate_backend reaches beyond"),
        ("SELECT query_to_xml('DELETE', true, true, '')", "query_to_xml reaches beyond"),
        ("SELECT set_config('work_mem', '1MB', false)", "set_config whose last argument is not true"),
        ("SELECT set_config('role', 'x', true)", "set_config of role"),
        ("SELECT set_config('ro' || 'le', 'x', true)", "set_config of a computed name"),
        ("CALL other.p()", "other.p has effects"),
        ("SELECT 1 FROM app.t TABLESAMPLE other.m(1)", "other.m is outside of scope.schemas"),
        (
            "ALTER TEXT SEARCH CONFIGURATION app.c ADD MAPPING FOR word WITH other.d",
            "other.d is outside of scope.schemas",
        ),
        (
            "CREATE OPERATOR app.== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, COMMUTATOR = OPERATOR(other.===))",
            'other."===" is outside of scope.schemas',
        ),
        (
            "CREATE OPERATOR app.== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, NEGATOR = ===)",
            "=== without a schema",
        ),
        ("ALTER SEQUENCE app.s OWNED BY other.t.c", "other.t is outside of scope.schemas"),
        (
            "CREATE TABLE app.t (id int GENERATED ALWAYS AS IDENTITY (SEQUENCE NAME other.s))",
            "other.s is outside of scope.schemas",
        ),
        ("CREATE FUNCTION app.f() RETURNS int SUPPORT other.s RETURN 1", "other.s is outside of scope.schemas"),
    ],
)
def test_names_are_found_wherever_they_stand(sql: str, what: str) -> None:
    assert what in analyse(sql.encode())[1][0].what


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE app.t (id uuid DEFAULT gen_random_uuid(), at timestamptz DEFAULT now(), n numeric(3,1))",
        "CREATE TEMP TABLE x AS SELECT 1; SELECT * FROM x; SELECT * FROM pg_temp.x",
        "WITH RECURSIVE t AS (SELECT 1 AS n) SELECT * FROM t, pg_class, information_schema.tables",
        "CREATE TRIGGER x BEFORE UPDATE ON app.t EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE OPERATOR CLASS app.o FOR TYPE int USING btree AS OPERATOR 1 <, FUNCTION 1 btint4cmp(int, int)",
        "SELECT set_config('app.who', 'x', true), set_config('work_mem', '1MB', true)",
        "CREATE INDEX ON app.t (lower(x) text_pattern_ops)",
        "COMMENT ON ROLE x IS ''; ALTER TABLE app.t OWNER TO x; CREATE SCHEMA app AUTHORIZATION x",
        "SELECT extract(year FROM now()), coalesce(1, 2), x.y.z FROM app.t AS x",
        "DO $$ BEGIN NULL; END $$",
        "SELECT id FROM app.t x FOR UPDATE OF x",
        "CREATE TABLE app.t (LIKE pg_class)",
        "CREATE OPERATOR app.== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq, COMMUTATOR = OPERATOR(app.==))",
        "CREATE SEQUENCE app.s OWNED BY NONE",
        "SELECT 1 FROM app.t TABLESAMPLE bernoulli (1)",
    ],
)
def test_what_is_fine(sql: str) -> None:
    assert analyse(sql.encode())[1] == []


def test_a_file_that_was_edited_is_told_together_with_its_statements(files: PhaseFiles) -> None:
    files.write()
    (files.directory / "migrate.sql").write_bytes(b"CREATE TABLE app.t (id int);\nDROP TABLE app.old;\nVACUUM app.t;\n")
    told = [problem.what for problem in problems_of(files)]
    assert "migrate.sql differs from the pinned file" in told
    assert any("DROP TABLE" in what for what in told)
    assert any("VACUUM" in what for what in told)


def test_declared_functions_may_be_called(files: PhaseFiles) -> None:
    functions = ["app.f", "pg_catalog.setval"]
    scope = {"schemas": ["app"], "statements": ["SELECT"], "functions": functions}
    expect = {"tags": {"SELECT": 1}, "result": {"f": 1, "setval": 2}}
    files.write({"scope": scope, "expect": expect}, ddl=b"SELECT app.f(), setval('app.s', 2)")
    analyse_phase(load_phase(files.path))


@pytest.mark.parametrize(
    ("ddl", "kind"),
    [
        (b"ALTER TABLE app.t DROP COLUMN c CASCADE", "ALTER TABLE DROP COLUMN"),
        (b"ALTER TABLE app.t DROP CONSTRAINT c CASCADE", "ALTER TABLE DROP CONSTRAINT"),
        (b"ALTER TYPE app.t DROP ATTRIBUTE c CASCADE", "ALTER TYPE DROP ATTRIBUTE"),
        (b"ALTER DOMAIN app.t DROP CONSTRAINT c CASCADE", "ALTER DOMAIN DROP CONSTRAINT"),
    ],
)
def test_to_drop_what_depends_is_a_kind_of_its_own(files: PhaseFiles, ddl: bytes, kind: str) -> None:
    tag = " ".join(kind.split()[:2])
    for allowed, problems in (
        ([kind], [f"{kind} CASCADE is not in scope.statements"]),
        ([tag], [f"{kind} CASCADE is not"]),
    ):
        files.write({"scope": {"schemas": ["app"], "statements": allowed}, "expect": {"tags": {tag: 1}}}, ddl=ddl)
        assert problems_of(files)[0].what.startswith(problems[0])
    files.write(
        {"scope": {"schemas": ["app"], "statements": [f"{kind} CASCADE"]}, "expect": {"tags": {tag: 1}}}, ddl=ddl
    )
    analyse_phase(load_phase(files.path))


@pytest.mark.parametrize(
    ("kind", "ddl", "what"),
    [
        ("CREATE OPERATOR", b"CREATE OPERATOR app.@@@ (RIGHTARG = int, FUNCTION = app.wipe)", "the function app.wipe"),
        ("CREATE CAST", b"CREATE CAST (app.t AS int) WITH FUNCTION app.wipe(app.t)", "the function app.wipe"),
        ("CREATE AGGREGATE", b"CREATE AGGREGATE app.s(int) (SFUNC = app.wipe, STYPE = app.t)", "the function app.wipe"),
        ("CREATE TABLE", b"CREATE TABLE app.t (CHECK (1 OPERATOR(app.@@@) 2 > 0))", "the operator app.@@@"),
        ("SELECT", b"SELECT 1 OPERATOR(app.@@@) ANY (SELECT 1)", "the operator app.@@@"),
        ("SELECT", b"SELECT id FROM app.t ORDER BY id USING OPERATOR(app.<)", "the operator app.<"),
        ("DO", b"DO $$BEGIN PERFORM OPERATOR(app.@@@) 1; END$$", "the operator app.@@@"),
        (
            "CREATE TABLE",
            b"CREATE TABLE app.t (a int, EXCLUDE USING gist (a WITH OPERATOR(app.=)))",
            "the operator app.=",
        ),
        (
            "CREATE OPERATOR CLASS",
            b"CREATE OPERATOR CLASS app.c FOR TYPE int USING btree AS OPERATOR 1 pg_catalog.<, FUNCTION 1 app.cmp(int, int)",
            "the function app.cmp",
        ),
        ("CREATE TYPE", b"CREATE TYPE app.r AS RANGE (subtype = int, canonical = app.wipe)", "the function app.wipe"),
        ("CREATE TYPE", b"CREATE TYPE app.r (input = app.wipe, output = app.wipe)", "the function app.wipe"),
        ("ALTER TYPE", b"ALTER TYPE app.r SET (receive = app.wipe)", "the function app.wipe"),
        ("CREATE LANGUAGE", b"CREATE LANGUAGE l HANDLER app.wipe", "the function app.wipe"),
        (
            "CREATE FOREIGN DATA WRAPPER",
            b"CREATE FOREIGN DATA WRAPPER w VALIDATOR app.wipe",
            "the function app.wipe",
        ),
        (
            "CREATE OPERATOR CLASS",
            b"CREATE OPERATOR CLASS app.c FOR TYPE int USING btree AS OPERATOR 1 app.<",
            "the operator app.<",
        ),
    ],
)
@pytest.mark.fault("attribute-call")
def test_what_calls_a_function_unseen_is_declared(files: PhaseFiles, kind: str, ddl: bytes, what: str) -> None:
    scope = {"schemas": ["app"], "statements": [kind]}
    expect = {"tags": {kind: 1}}
    files.write({"scope": scope, "expect": expect}, ddl=ddl)
    assert f"{what} has effects that cannot be analysed" in [problem.what for problem in problems_of(files)]


def test_with_a_search_path_an_attribute_may_be_a_function_of_it(files: PhaseFiles) -> None:
    settings = {"search_path": ["app"]}
    files.write({"settings": settings}, ddl=b"CREATE TABLE app.t (x home, CHECK ((x).wipe > 0))")
    (statement,) = analyse_phase(load_phase(files.path)).migrate
    assert statement["searched"] == [">", "wipe"]


def test_with_a_search_path_relations_may_stand_alone_and_functions_not(files: PhaseFiles) -> None:
    files.write({"settings": {"search_path": ["app"]}}, ddl=b"CREATE TABLE app.t (LIKE u)")
    analyse_phase(load_phase(files.path))
    files.write({"settings": {"search_path": ["app"]}}, ddl=b"CREATE TABLE app.t (at timestamptz DEFAULT now())")
    assert "the function now without a schema" in problems_of(files)[0].what


@pytest.mark.parametrize(
    ("sql", "relations", "needs"),
    [
        ("DELETE FROM t", ["app.t", "b.t"], ["DELETE t"]),
        ("UPDATE app.t SET x = 1 FROM u", ["app.t", "app.u", "b.u"], ["SELECT u", "UPDATE app.t"]),
        ('TRUNCATE "T", b.u', ['app."T"', 'b."T"', "b.u"], ['TRUNCATE "T"', "TRUNCATE b.u"]),
        ("DO $$BEGIN WITH c AS (SELECT 1) DELETE FROM t USING c; END$$", ["app.t", "b.t"], ["DELETE t"]),
        ("WITH t AS (SELECT * FROM u) SELECT * FROM t", ["app.u", "b.u"], ["SELECT u"]),
        (
            "DO $$BEGIN PERFORM 1; WITH d AS (DELETE FROM app.t RETURNING 1) UPDATE app.u SET x = 1 FROM d; END$$",
            ["app.t", "app.u"],
            ["DELETE app.t", "UPDATE app.u"],
        ),
        ("CREATE RULE r AS ON INSERT TO app.t DO ALSO DELETE FROM app.u", ["app.t", "app.u"], ["OWNER app.t"]),
        ("LOCK TABLE t IN ROW EXCLUSIVE MODE", ["app.t", "b.t"], ["LOCK t"]),
        ("LOCK TABLE t IN SHARE MODE", ["app.t", "b.t"], []),
        ("SELECT 1 FROM pg_class", ["pg_class"], ["SELECT pg_class"]),
        # a table of that name in a schema is found first
        ("CREATE TEMP TABLE t (x int); DELETE FROM t", ["app.t", "b.t", "t"], ["DELETE t"]),
    ],
)
def test_a_name_alone_is_one_of_every_searched_schema(sql: str, relations: list[str], needs: list[str]) -> None:
    problems: list[Problem] = []
    rows = {"DELETE": [1], "UPDATE": [1]}
    rules = SqlRules(frozenset({"app", "b"}), ALL_KINDS, frozenset(), ("app", "b"), rows, "k", "r")
    last = analyse_file(SourceFile("x.sql", "x.sql", sql.encode()), rules, problems)[-1]
    assert (last["relations"], [one for one in last["needs"] if "SELECT t" not in one]) == (relations, needs)


def searched(sql: str) -> list[str]:
    """Return what is wrong with a file whose scope has every kind and the schema app, which is searched."""
    problems: list[Problem] = []
    rules = SqlRules(frozenset({"app"}), ALL_KINDS, frozenset(), ("app",), {}, "scope.statements", "r")
    analyse_file(SourceFile("x.sql", "x.sql", sql.encode()), rules, problems)
    return [problem.what for problem in problems]


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        # made there
        ("CREATE TABLE t (id int)", "t"),
        ("CREATE VIEW v AS SELECT 1", "v"),
        ("CREATE TABLE t AS SELECT 1", "t"),
        ("CREATE SEQUENCE s", "s"),
        ("CREATE TYPE t AS (id int)", "t"),
        ("CREATE TYPE t AS ENUM ()", "t"),
        ("CREATE DOMAIN d AS int", "d"),
        ("CREATE FUNCTION f() RETURNS int RETURN 1", "f"),
        ("CREATE AGGREGATE a (int) (sfunc = pg_catalog.int4pl, stype = int)", "a"),
        ("DO $$BEGIN CREATE FUNCTION f() RETURNS int RETURN 1; END$$", "f"),
        # found there
        ("ALTER FUNCTION lower(text) COST 1", "lower"),
        ("GRANT EXECUTE ON FUNCTION lower(text) TO x", "lower"),
        ("REVOKE USAGE ON TYPE int8 FROM x", "int8"),
        ("COMMENT ON FUNCTION lower(text) IS ''", "lower"),
        ("ALTER AGGREGATE sum(int) OWNER TO x", "sum"),
        ("DO $$BEGIN GRANT EXECUTE ON FUNCTION lower(text) TO x; END$$", "lower"),
        ("CREATE FUNCTION app.f() RETURNS void AS 'ALTER FUNCTION lower(text) COST 1' LANGUAGE sql", "lower"),
    ],
)
@pytest.mark.fault("pg-catalog-by-name")
def test_what_has_no_schema_is_never_one_of_pg_catalog(sql: str, name: str) -> None:
    assert searched(sql) == [f"{name} without a schema, and it would be one of pg_catalog"]
    assert [one.what for one in analyse(sql.encode())[1]] == [
        f"{name} without a schema, and settings.search_path is empty"
    ]


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("DO $$BEGIN UPDATE pg_proc SET prosrc = ''; END$$", "pg_catalog.pg_proc is a system object"),
        ("DO $$BEGIN DELETE FROM pg_depend; END$$", "pg_catalog.pg_depend is a system object"),
        ("CREATE FUNCTION app.f() RETURNS void AS 'TRUNCATE pg_class' LANGUAGE sql", "pg_catalog.pg_class is a system"),
        ("UPDATE pg_proc SET prosrc = ''", "pg_catalog.pg_proc is a system object"),
    ],
)
@pytest.mark.fault("pg-catalog-by-name")
def test_no_system_catalog_is_written_without_its_schema(sql: str, what: str) -> None:
    for found in (searched(sql), [one.what for one in analyse(sql.encode())[1]]):
        assert found[0].startswith(what)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t SELECT * FROM u",
        "CREATE TEMP TABLE x AS SELECT 1",
        "CREATE INDEX i ON t (id)",
        "DROP TABLE t",
        "COMMENT ON TABLE t IS 'x'",
        "DO $$BEGIN PERFORM 1 FROM pg_class; INSERT INTO t VALUES (1); END$$",
        "CREATE FUNCTION app.f() RETURNS void SET search_path = app, pg_temp AS 'CREATE TABLE t (id int)' LANGUAGE sql",
    ],
)
def test_what_the_search_path_is_for(sql: str) -> None:
    assert searched(sql) == [one for one in searched(sql) if "r does not match" in one]


@pytest.mark.parametrize("function", ["CREATE FUNCTION app.f() RETURNS int {} RETURN 1", "ALTER FUNCTION app.f() {}"])
@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("SET search_path = app, other", "the schema other of a function's search_path is outside of scope.schemas"),
        ("SET \"SEARCH_PATH\" TO 'other'", "the schema other of a function's search_path is outside of scope.schemas"),
        ('SET search_path = "$user"', "the schema $user of a function's search_path is outside of scope.schemas"),
        ("SET search_path = app, pg_catalog", "a function's search_path with app before pg_catalog"),
    ],
)
@pytest.mark.fault("name-shadowed")
def test_a_functions_own_search_path_is_in_the_scope(function: str, setting: str, what: str) -> None:
    ours, inside = searched(function.format(setting)), searched(f"DO $$BEGIN {function.format(setting)}; END$$")
    assert [one.startswith(what) for one in (*ours, *inside)] == [True, True]


@pytest.mark.parametrize("setting", ["''", "pg_catalog, app", "app, pg_temp", "DEFAULT", "information_schema, app"])
def test_a_search_path_of_the_scope_is_a_functions_own(setting: str) -> None:
    assert searched(f"ALTER FUNCTION app.f() SET search_path TO {setting}") == []


def test_a_rollback_may_restore_a_search_path_that_was_there() -> None:
    problems: list[Problem] = []
    rules = SqlRules(frozenset({"app"}), ALL_KINDS, frozenset(), (), {}, "rollback.statements", "r")
    sql = b"ALTER FUNCTION app.f() SET search_path TO app, pg_catalog"
    analyse_file(SourceFile("x.sql", "x.sql", sql), rules, problems)
    assert problems == []


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE OPERATOR app.@@@ (RIGHTARG = int, FUNCTION = wipe)",
        "CREATE AGGREGATE app.s(int) (SFUNC = wipe, STYPE = int)",
        "CREATE CAST (app.t AS int) WITH FUNCTION wipe(app.t)",
        "CREATE OPERATOR CLASS app.c FOR TYPE int USING btree AS FUNCTION 1 wipe(int, int)",
        "CREATE TYPE app.r AS RANGE (subtype = int, subtype_diff = wipe)",
        "CREATE FOREIGN DATA WRAPPER w VALIDATOR wipe",
    ],
)
@pytest.mark.fault("attribute-call")
def test_with_a_search_path_a_function_is_handed_over_with_its_schema(sql: str) -> None:
    assert "the function wipe without a schema" in searched(sql)


@pytest.mark.parametrize(
    ("sql", "path", "what"),
    [
        ("SELECT wiped(1) = 1", ["app"], "the function wiped without a schema"),
        ("SELECT (o).wiped FROM app.orders o", ["app"], ""),
        ("SELECT count(*) = pg_catalog.count(id) FROM app.orders o", ["app"], ""),
        ("SELECT count(id) FROM app.orders o", ["app"], "the function count without a schema"),
        ("SELECT wiped(1) = 1", [], ""),
    ],
)
@pytest.mark.fault("attribute-call")
def test_a_check_calls_by_schema_where_one_is_searched(files: PhaseFiles, sql: str, path: list[str], what: str) -> None:
    check = {"id": "VA-1", "title": "x", "sql": sql, "expect": True}
    files.write({"settings": {"search_path": path}, "verify": [check]})
    assert [one.what for one in (problems_of(files) if what else ())] == ([what] if what else [])
    if not what:
        analyse_phase(load_phase(files.path))


# --- expectations ----------------------------------------------------------------------------------------------


def test_tags_are_compared_before_anything_runs(files: PhaseFiles) -> None:
    (problem,) = problems_of(files.write({"expect": {"tags": {"CREATE TABLE": 2}}}))
    assert (problem.path, problem.expected, problem.found) == ("expect.tags", "CREATE TABLE: 2", "CREATE TABLE: 1")


@pytest.mark.parametrize(
    ("ddl", "tags", "rows"),
    [
        (b"CREATE TABLE app.t ();\nDO $$BEGIN COMMIT; END$$", {"CREATE TABLE": 1, "DO": 1}, {}),
        (b"CREATE TABLE app.t ();\nVACUUM app.t;\nVACUUM app.t", {"CREATE TABLE": 1, "VACUUM": 2}, {}),
        (b"CREATE TABLE app.t ();\nCOPY app.t FROM stdin", {"CREATE TABLE": 1, "COPY": 1}, {}),
        (b"CREATE TABLE app.t ();\nLISTEN x", {"CREATE TABLE": 1, "LISTEN": 1}, {}),
    ],
)
def test_what_was_refused_is_not_missing_as_well(
    files: PhaseFiles, ddl: bytes, tags: dict[str, int], rows: dict[str, Any]
) -> None:
    kinds = [tag for tag in tags if tag in ALL_KINDS]
    files.write({"scope": {"schemas": ["app"], "statements": kinds}, "expect": {"tags": tags, "rows": rows}}, ddl=ddl)
    assert {problem.path for problem in problems_of(files)} == {""}
    files.write(
        {"scope": {"schemas": ["app"], "statements": kinds}, "expect": {"tags": {**tags, "COMMENT": 1}, "rows": rows}},
        ddl=ddl,
    )
    assert {problem.path for problem in problems_of(files)} == {"", "expect.tags"}


@pytest.mark.parametrize("rows", [{}, {"UPDATE": [1, 2]}])
def test_every_row_count_is_declared(files: PhaseFiles, rows: dict[str, Any]) -> None:
    scope = {"schemas": ["app"], "statements": ["UPDATE"]}
    files.write({"scope": scope, "expect": {"tags": {"UPDATE": 1}, "rows": rows}}, ddl=b"UPDATE app.t SET id = 1")
    (problem,) = problems_of(files)
    assert problem.what == "expect.rows does not match the UPDATE statements"
    assert problem.expected == "1 row counts, one for each UPDATE"


def test_one_count_for_each_statement(files: PhaseFiles) -> None:
    scope = {"schemas": ["app"], "statements": ["UPDATE"]}
    expect = {"tags": {"UPDATE": 2}, "rows": {"UPDATE": {"each": 1}}}
    files.write({"scope": scope, "expect": expect}, ddl=b"UPDATE app.t SET id = 1; UPDATE app.t SET id = 2")
    assert [one["tag"] for one in analyse_phase(load_phase(files.path)).migrate] == ["UPDATE", "UPDATE"]


def test_one_count_for_each_needs_a_statement(files: PhaseFiles) -> None:
    scope = {"schemas": ["app"], "statements": ["UPDATE"]}
    expect = {"tags": {"UPDATE": 1}, "rows": {"UPDATE": {"each": 1}, "DELETE": {"each": 1}}}
    files.write({"scope": scope, "expect": expect}, ddl=b"UPDATE app.t SET id = 1")
    (problem,) = problems_of(files)
    assert problem.what == "expect.rows does not match the DELETE statements"


def test_a_result_needs_a_trailing_select(files: PhaseFiles) -> None:
    (problem,) = problems_of(files.write({"expect": {"tags": {"CREATE TABLE": 1}, "result": {"n": 1}}}))
    assert problem.path == "expect.result"


def test_the_rollback_has_a_scope_of_its_own(files: PhaseFiles) -> None:
    (problem,) = problems_of(files.write(rollback=b"DROP TABLE app.t CASCADE;\n"))
    assert problem.file.endswith("rollback.sql")
    assert problem.what == "DROP TABLE CASCADE is not in rollback.statements"


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SELEC 1", "not SQL"),
        ("SELECT 1; SELECT 2", "not one SELECT"),
        ("DELETE FROM app.t", "not one SELECT"),
        ("-- nothing", "not one SELECT"),
        ("SELECT 1;", "a semicolon after the query"),
        ("SELECT * FROM app.t FOR UPDATE", "FOR UPDATE"),
        ("SELECT 1 INTO app.t", "INTO in a check"),
        ("WITH d AS (DELETE FROM app.t RETURNING 1) SELECT * FROM d", "changes rows inside WITH"),
        ("SELECT * FROM t", "t without a schema"),
        ("SELECT app.f()", "app.f has effects"),
        ("SELECT pg_terminate_backend(1)", "reaches beyond"),
    ],
)
def test_checks_only_read(files: PhaseFiles, sql: str, what: str) -> None:
    files.write({"verify": [{"id": "V", "title": "t", "sql": sql, "expect": 1}]})
    (problem,) = problems_of(files)
    assert problem.path == "verify[0].sql"
    assert problem.line > 0
    assert what in problem.what


# --- a dump, and what stands after COMMIT ----------------------------------------------------------------------


def told_of(path: Path, ddl: bytes, kinds: list[str], tags: dict[str, int]) -> list[Problem]:
    files = PhaseFiles(path).write(
        {"scope": {"schemas": ["app"], "statements": kinds}, "expect": {"tags": tags}}, ddl=ddl
    )
    return problems_of(files)


@pytest.mark.parametrize("end", ["\\.\n", ""], ids=["ended", "cut off"])
def test_what_psql_would_read_hides_nothing_else(tmp_path: Path, end: str) -> None:
    ddl = (
        "\\restrict x\nSET client_encoding = 'UTF8';\nSELECT pg_catalog.set_config('search_path', '', false);\n"
        "\\set who 'anna'\nCREATE TABLE app.t (id int);\nGRANT SELECT ON app.t TO PUBLIC;\n\\unrestrict x\n"
        "COPY app.t (id) FROM stdin;\n1\n2\t;'\n" + end
    ).encode()
    found = told_of(tmp_path, ddl, ["CREATE TABLE"], {"CREATE TABLE": 1, "GRANT": 1, "SELECT": 1, "COPY": 1})
    assert sorted((one.line, one.what.partition(":")[0].partition(";")[0]) for one in found) == [
        (1, "a psql command"),
        (2, "a setting changed outside SET LOCAL"),
        (3, "SELECT is not in scope.statements"),
        (3, "set_config whose last argument is not true"),
        (4, "a psql command"),
        (6, "GRANT is not in scope.statements"),
        (7, "a psql command"),
        (8, "COPY FROM STDIN"),
    ]
    # what cannot be set with SET LOCAL either is not what is advised
    steps = {one.line: one.next_step for one in found if "set" in one.what}
    assert steps == {2: "remove it", 3: "use settings.search_path in phase.yml"}


def test_a_file_of_psql_commands_alone_ends(tmp_path: Path) -> None:
    found = told_of(tmp_path, b"\\q\n" * 1000, ["CREATE TABLE"], {"CREATE TABLE": 1})
    assert {one.what.partition(";")[0] for one in found} == {"a psql command"}


@pytest.mark.parametrize(
    ("after", "lines"),
    [
        (b"CREATE INDEX CONCURRENTLY i ON app.t (id);\nSELECT 1;\nALTER INDEX app.p ATTACH PARTITION app.i;\n", [5]),
        (b"REINDEX TABLE app.t;\nSELECT 1;\n", [4, 5]),
        (b"DROP INDEX CONCURRENTLY app.o;\nREINDEX TABLE app.t;\nDROP INDEX CONCURRENTLY app.q;\n", [5]),
    ],
    ids=["select", "both", "reindex"],
)
def test_what_may_not_be_after_commit_is_one_problem(tmp_path: Path, after: bytes, lines: list[int]) -> None:
    ddl = b"BEGIN;\n" + SMALL_DDL + b"COMMIT;\n" + after
    kinds = ["CREATE TABLE", "CREATE INDEX CONCURRENTLY", "DROP INDEX CONCURRENTLY", "ALTER INDEX ATTACH PARTITION"]
    tags = {"BEGIN": 1, "CREATE TABLE": 1, "COMMIT": 1}
    for tag, word in (
        ("CREATE INDEX", b"CREATE INDEX"),
        ("ALTER INDEX", b"ALTER INDEX"),
        ("SELECT", b"SELECT"),
        ("REINDEX", b"REINDEX"),
    ):
        tags |= {tag: after.count(word)} if word in after else {}
    tags |= {"DROP INDEX": 2} if b"DROP" in after else {}
    found = told_of(tmp_path, ddl, [*kinds, "SELECT", "REINDEX"], tags)
    assert [one.what for one in found] == [
        "only statements that cannot run in a transaction, batches and what follows them, may be after COMMIT"
    ]
    assert [int(part.split(":")[0].split()[1]) for part in found[0].found.split("; ")] == lines
    assert "a phase of its own" in found[0].next_step
