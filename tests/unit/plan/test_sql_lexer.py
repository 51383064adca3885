# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target's lexer ends a statement where PostgreSQL's parser does, and reads its command from its first keywords."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pglast
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import LexError
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.sql_lexer import check_statements, commands
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.classification import (
    RefusedError,
    classify,
)
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA, BETA
from hypothesis import example, given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[2] / "fixtures"
FILES = [
    *sorted(FIXTURES.rglob("*.sql")),
    *(phase.with_name(name) for phase in (ALPHA, BETA) for name in ("migrate.sql", "rollback.sql")),
]

#: A statement of each command that a phase can contain, in the forms that differ at their beginning.
STATEMENTS = r"""
SELECT 1; VALUES (1), (2); TABLE app.t; (SELECT 1) UNION (SELECT 2); WITH a AS (SELECT 1) SELECT * FROM a;
WITH a AS (SELECT ';') TABLE a; WITH a AS (SELECT 1) (SELECT 2); WITH insert AS (SELECT 1) DELETE FROM t;
WITH delete (x, y) AS MATERIALIZED (SELECT 1, 2), b AS (SELECT 1) INSERT INTO t (SELECT 1);
WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY x SET y SELECT * FROM a;
WITH RECURSIVE a AS (SELECT 1) CYCLE delete SET y USING z UPDATE t SET a = 1;
INSERT INTO t VALUES ('a;b'); INSERT INTO t AS x DEFAULT VALUES; UPDATE t SET a = $1; DELETE FROM app.t; DELETE FROM t USING u;
MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DO NOTHING; WITH u AS (SELECT 1) MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE;
COPY t FROM '/tmp/x'; COPY (SELECT 1) TO PROGRAM 'sh'; TRUNCATE t; TRUNCATE TABLE ONLY t CASCADE; LOCK t; LOCK TABLE t IN SHARE MODE;
COMMENT ON TABLE t IS 'it''s; fine'; COMMENT ON COLUMN t.a IS NULL; SECURITY LABEL ON TABLE t IS 'x';
CREATE TABLE t (); CREATE TEMP TABLE t (a int GENERATED ALWAYS AS (1) STORED); CREATE UNLOGGED TABLE IF NOT EXISTS t (a int);
CREATE GLOBAL TEMPORARY TABLE t (a int); CREATE TABLE t PARTITION OF u FOR VALUES IN (1); CREATE TABLE t OF y;
CREATE TABLE t AS SELECT 1; CREATE TABLE t (a) AS TABLE u; CREATE UNLOGGED TABLE app.t AS VALUES (1) WITH NO DATA;
CREATE MATERIALIZED VIEW v AS SELECT 1; CREATE UNLOGGED MATERIALIZED VIEW v AS SELECT 1; REFRESH MATERIALIZED VIEW CONCURRENTLY v;
CREATE VIEW v AS SELECT begin atomic FROM t; CREATE OR REPLACE TEMP VIEW v AS SELECT 1; CREATE RECURSIVE VIEW v (a) AS SELECT 1;
CREATE INDEX ON t (a); CREATE UNIQUE INDEX CONCURRENTLY i ON t (a); REINDEX INDEX i; REINDEX (VERBOSE) TABLE CONCURRENTLY t;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$SELECT 1; SELECT 2$$; CREATE OR REPLACE FUNCTION f() RETURNS int RETURN 1;
CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 1 end; SELECT 2 AS end; END;
CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC END; CREATE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC ; INSERT INTO t VALUES (1);; END;
CREATE FUNCTION begin(atomic int) RETURNS int BEGIN ATOMIC SELECT begin atomic FROM t; END; CREATE FUNCTION app.begin() RETURNS int RETURN 1;
ALTER FUNCTION f() OWNER TO u; ALTER PROCEDURE p() RENAME TO q; ALTER ROUTINE r RESET ALL; DROP ROUTINE r; DROP FUNCTION f(int);
CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; DELETE FROM v;); CREATE OR REPLACE RULE r AS ON UPDATE TO t DO INSTEAD NOTHING;
CREATE TRIGGER g AFTER INSERT ON t EXECUTE FUNCTION f(); CREATE CONSTRAINT TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
CREATE OR REPLACE TRIGGER g AFTER INSERT ON t EXECUTE FUNCTION f(); CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f();
CREATE SEQUENCE s; CREATE TEMP SEQUENCE s; ALTER SEQUENCE s RESTART; CREATE DOMAIN d AS int; ALTER DOMAIN d DROP NOT NULL;
CREATE TYPE y AS (a int); CREATE TYPE y AS ENUM ('a;'); CREATE TYPE y AS RANGE (subtype = int); CREATE TYPE y; ALTER TYPE y ADD VALUE 'b';
ALTER TYPE y ADD ATTRIBUTE b int; ALTER TYPE y RENAME ATTRIBUTE a TO b; ALTER TYPE y SET SCHEMA s; ALTER TYPE y SET (storage = plain);
CREATE CAST (a AS b) WITHOUT FUNCTION; DROP CAST (a AS b); CREATE COLLATION c FROM "C"; CREATE CONVERSION c FOR 'a' TO 'b' FROM f;
CREATE DEFAULT CONVERSION c FOR 'a' TO 'b' FROM f; CREATE OPERATOR + (procedure = f); CREATE OPERATOR class.+ (procedure = f);
CREATE OPERATOR CLASS c FOR TYPE int USING btree AS STORAGE int; CREATE OPERATOR FAMILY f USING btree; ALTER OPERATOR + (int, int) OWNER TO u;
ALTER OPERATOR FAMILY f USING btree DROP OPERATOR 1 (int, int); ALTER OPERATOR CLASS c USING btree RENAME TO d; DROP OPERATOR family.- (int, int);
CREATE AGGREGATE a (int) (sfunc = f, stype = int); CREATE OR REPLACE AGGREGATE a (int) (sfunc = f, stype = int); DROP AGGREGATE a (int);
CREATE TEXT SEARCH CONFIGURATION c (copy = simple); ALTER TEXT SEARCH CONFIGURATION c ADD MAPPING FOR word WITH simple;
ALTER TEXT SEARCH DICTIONARY d (a = 1); CREATE TEXT SEARCH PARSER p (start = f); DROP TEXT SEARCH TEMPLATE t;
CREATE SCHEMA s; CREATE SCHEMA AUTHORIZATION u; ALTER SCHEMA s RENAME TO t; DROP SCHEMA s CASCADE; CREATE EXTENSION e; ALTER EXTENSION e UPDATE;
ALTER EXTENSION e ADD TABLE t; DROP EXTENSION e; CREATE STATISTICS s ON a, b FROM t; ALTER STATISTICS s SET STATISTICS 10; DROP STATISTICS s;
CREATE POLICY p ON t; ALTER POLICY p ON t TO u; DROP POLICY p ON t; CREATE PUBLICATION p FOR ALL TABLES; ALTER PUBLICATION p ADD TABLE t;
CREATE SERVER s FOREIGN DATA WRAPPER w; ALTER SERVER s VERSION '1'; CREATE FOREIGN DATA WRAPPER w; ALTER FOREIGN DATA WRAPPER w NO VALIDATOR;
CREATE FOREIGN TABLE t () SERVER s; ALTER FOREIGN TABLE t ADD COLUMN a int; DROP FOREIGN TABLE t; IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b;
CREATE USER MAPPING FOR u SERVER s; CREATE USER MAPPING IF NOT EXISTS FOR u SERVER s; ALTER USER MAPPING FOR u SERVER s OPTIONS (a '1');
DROP USER MAPPING FOR u SERVER s; DROP USER MAPPING IF EXISTS FOR u SERVER s; CREATE USER mapping; ALTER USER mapping WITH LOGIN; DROP USER mapping, b;
CREATE ROLE u; CREATE GROUP g; ALTER GROUP g ADD USER u; ALTER USER u SET a = 1; ALTER ROLE ALL RESET ALL; DROP GROUP g; DROP ROLE IF EXISTS u;
ALTER GROUP g RENAME TO h; GRANT SELECT ON t TO u; GRANT SELECT (a) ON t TO u WITH GRANT OPTION; GRANT role TO u; GRANT a, b TO c WITH ADMIN OPTION;
REVOKE ALL ON SCHEMA s FROM u CASCADE; REVOKE ADMIN OPTION FOR a FROM b; REVOKE a FROM b; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO u;
CREATE ACCESS METHOD m TYPE INDEX HANDLER f; DROP ACCESS METHOD m; CREATE LANGUAGE l HANDLER f; CREATE OR REPLACE TRUSTED PROCEDURAL LANGUAGE l HANDLER f;
ALTER PROCEDURAL LANGUAGE l RENAME TO k; DROP PROCEDURAL LANGUAGE l; DROP LANGUAGE l; CREATE TRANSFORM FOR int LANGUAGE l (FROM SQL WITH FUNCTION f(internal));
CREATE OR REPLACE TRANSFORM FOR int LANGUAGE l (TO SQL WITH FUNCTION f(internal)); DROP TRANSFORM FOR int LANGUAGE l;
ALTER TABLE t ADD COLUMN a int; ALTER TABLE IF EXISTS ONLY app.t RENAME COLUMN a TO b; ALTER TABLE t RENAME CONSTRAINT a TO b;
ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b; ALTER INDEX i RENAME TO j; ALTER INDEX i SET (fillfactor = 50); ALTER VIEW v RENAME COLUMN a TO b;
ALTER MATERIALIZED VIEW v RENAME TO w; ALTER INDEX i DEPENDS ON EXTENSION e; ALTER TRIGGER g ON t RENAME TO h; ALTER RULE r ON t RENAME TO s;
ALTER EVENT TRIGGER e DISABLE; ALTER COLLATION c REFRESH VERSION; ALTER DATABASE d SET a = 1; ALTER LARGE OBJECT 1 OWNER TO u; ALTER TABLESPACE a RENAME TO b;
DROP TABLE t, app.u CASCADE; DROP VIEW v; DROP MATERIALIZED VIEW v; DROP INDEX CONCURRENTLY i; DROP SEQUENCE s; DROP TYPE y; DROP DOMAIN d; DROP RULE r ON t;
DROP TRIGGER g ON t; DROP EVENT TRIGGER e; DROP COLLATION c; DROP CONVERSION c; DROP OPERATOR CLASS c USING btree; DROP OPERATOR FAMILY f USING btree;
DROP PUBLICATION p; DROP SERVER s; DROP FOREIGN DATA WRAPPER w; DROP OWNED BY u; REASSIGN OWNED BY u TO v; DROP PROCEDURE p; DROP SUBSCRIPTION s;
DO $x$ BEGIN PERFORM 1; END $x$; DO LANGUAGE plpgsql 'BEGIN END'; CALL app.p(1); SET LOCAL work_mem = '1MB'; SET CONSTRAINTS ALL DEFERRED;
ANALYZE t; ANALYSE; CLUSTER t; NOTIFY c; SHOW work_mem; CHECKPOINT; BEGIN; START TRANSACTION; COMMIT; END; ROLLBACK; ABORT
"""

#: What separates, hides or opens something for a scanner; each complete, so that many texts of several are SQL.
PIECES = [
    "'a;b'", "'a''b;'", r"E'\';'", r"e'\\'", "U&'d\\0061;'", "'a'\n  ';b'", "'a' --;\n 'b'", "'a' /* ; */ ", "B'01'", "X'1F'", "N'a;'", "b''",
    "$$;$$", "$a$ $$;$$ $a$", "$é$;$é$", "$_1$ $ $_ ; $_1$", '"a;b"', '"a"";b"', 'U&"\\0061;"', "/* ; */", "/* /* ; */ ; */", "/**/", "/***/",
    "-- ;\n", "--\n", "a$b", "a$$", "$1", "1.5e-3", ".5", "0x1F", "1_000", "a.b", "+", "-", "- -1", "*", "/", "<>", "@-", "||", "::text", "(1)", "[1]", ",",
    "é", "\u00a0", "\u2028", "begin", "atomic", "end", "case when true then 1 end", "as end", "as", "on", "with", ";", ";;", "\n", "\t", "\v", "\f",
]  # fmt: skip


def parsed(text: str) -> list[Any] | None:
    """Return the parse trees of a text, None when it is not SQL."""
    try:
        return [raw.stmt for raw in pglast.parse_sql(text)]
    except pglast.parser.ParseError:
        return None


def tag_of(node: Any) -> str | None:
    """Return the tag of a statement, None for one that no phase can contain."""
    try:
        return classify(node, outer=True)[0]
    except RefusedError:
        return None


def require_agreement(text: str) -> int:
    """Compare lexer and parser on a text, and return the number of its statements; 0 when it is not SQL."""
    trees = parsed(text)
    if trees is None:
        return 0
    found = commands(text.encode("utf-8"))
    assert len(found) == len(trees), text
    for command, tree in zip(found, trees, strict=True):
        tag = tag_of(tree)
        assert tag is None or command.shows(tag), (command.leading, command.tag, tag)
    return len(trees)


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.name}")
def test_files(file: Path) -> None:
    # without psql's commands
    text = re.sub(r"^.*\\gset$|^\\.*$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert require_agreement(text)


def alone() -> list[str]:
    raws = pglast.parse_sql(STATEMENTS)
    ends = [(raw.stmt_location or 0) + (raw.stmt_len or len(STATEMENTS)) for raw in raws]
    return [STATEMENTS[raw.stmt_location : end].strip() for raw, end in zip(raws, ends, strict=True)]


ALONE = alone()


@pytest.mark.parametrize("text", ALONE)
def test_every_command(text: str) -> None:
    assert require_agreement(text) == 1
    assert require_agreement(f"/* ; */ {text}; -- ;") == 1


def test_many_commands_are_named() -> None:
    named = {tag_of(raw.stmt) for raw in pglast.parse_sql(STATEMENTS)}
    assert require_agreement(STATEMENTS) == len(ALONE)
    assert len(named) > 100


@given(st.lists(st.sampled_from([*PIECES, " "]), max_size=14), st.sampled_from(["SELECT ", "SELECT 'x' ", ""]))
@example(["$1", "$$;$$"], "SELECT ")
@example(["a$$", ";", "a$$"], "SELECT ")
@example(["'a'\n  ';b'", ";"], "SELECT ")
def test_generated_texts(pieces: list[str], first: str) -> None:
    require_agreement(first + "".join(pieces))
    require_agreement(first + " ".join(pieces))


@given(
    st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), min_size=1, max_size=6),
    st.sampled_from([";", ";;", "; -- ;\n", "/* ; */;", ";\n"]),
    st.sampled_from(["", " "]),
)
def test_several_generated_statements(several: list[list[str]], separator: str, space: str) -> None:
    texts = [f"SELECT {space.join(pieces)}" for pieces in several]
    # not one that ends in a comment, which the separator would belong to
    complete = [text for text in texts if require_agreement(text) == 1 and require_agreement(f"{text};SELECT") == 2]
    assert require_agreement(separator.join(complete)) == len(complete)


@given(
    st.lists(st.sampled_from(ALONE), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from([*PIECES, "'", '"', "$$", "/*", "*/", "(", ")", "\\"])), max_size=3),
)  # fmt: skip
@example(["SELECT 1"], [(8, 0, ";;")])
def test_changed_statements(several: list[str], edits: list[tuple[int, int, str]]) -> None:
    text = ";\n".join(several)
    for place, length, piece in edits:
        text = text[:place] + piece + text[place + length :]
    require_agreement(text)


@given(st.text(st.sampled_from(";'\"$aE&u\\/*-(\n1_. eé"), max_size=30))
def test_soups_of_characters(text: str) -> None:
    require_agreement(text)
    require_agreement("SELECT " + text)


# --- what it refuses -----------------------------------------------------------------------------------------------


def planned(text: str, tag: str, *kinds: str) -> list[dict[str, Any]]:
    return [{"n": 1, "start": 0, "end": len(text.encode()), "line": 1, "tag": tag, "kinds": list(kinds or (tag,))}]


@pytest.mark.fault("range-smuggles")
@pytest.mark.parametrize(
    ("text", "tag", "words"),
    [
        ("COMMENT ON TABLE t IS 'x'; DELETE FROM t", "COMMENT", "2 statements: COMMENT; DELETE"),
        ("COMMENT ON TABLE t IS 'x' /* ; */ ; -- \n DELETE FROM t;", "COMMENT", "2 statements"),
        ("COMMENT ON TABLE t IS $a$ $$ $a$; COPY t TO PROGRAM 'sh'; --$$", "COMMENT", "2 statements: COMMENT; COPY"),
        (r"COMMENT ON TABLE t IS '\'; DELETE FROM t; --'", "COMMENT", "2 statements"),
        ("CREATE VIEW v AS SELECT begin atomic FROM t; DROP TABLE t; END", "CREATE VIEW", "3 statements"),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); DROP TABLE t", "CREATE RULE", "2 statements"),
        ("CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1; END; DROP TABLE t; END", "CREATE PROCEDURE", "3 statements"),
        ("COMMENT ON TABLE t IS (; DELETE FROM t; )", "COMMENT", "3 statements"),
        ("DELETE FROM t", "COMMENT", "found: DELETE"),
        ("COPY t TO PROGRAM 'sh'", "COMMENT", "found: COPY"),
        ("WITH comment AS (SELECT 1) DELETE FROM t", "SELECT", "found: DELETE"),
        ("/* SELECT */ DROP TABLE t", "SELECT", "found: DROP TABLE"),
        ("GRANT admin TO u", "GRANT", "found: GRANT ROLE"),
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE", "found: CREATE TABLE AS"),
        ("", "COMMENT", "0 statements"),
        (" ; ; -- x", "COMMENT", "0 statements"),
        ("COMMENT ON TABLE t IS 'x", "COMMENT", "a string from byte 22 on is not closed"),
        ("COMMENT /* x", "COMMENT", "a comment from byte 8 on is not closed"),
        ("COMMENT ON TABLE \"t IS 'x'", "COMMENT", "a quoted identifier"),
        ("COMMENT ON TABLE t IS $a$x$b$", "COMMENT", "a dollar-quoted string"),
    ],
)
def test_what_a_range_must_not_contain(text: str, tag: str, words: str) -> None:
    with pytest.raises(PhaseGateError) as caught:
        check_statements(planned(text, tag), text.encode(), "migrate.sql")
    assert "does not describe statement 1 of migrate.sql (line 1)" in caught.value.what
    assert words in str(caught.value)


@pytest.mark.fault("range-smuggles")
@pytest.mark.parametrize("kinds", [[], ["COMMENT"], ["DELETED"], ["COMMENT", "DELETE"]])
def test_the_first_kind_is_one_of_the_tag(kinds: list[str]) -> None:
    statements = planned("DELETE FROM t", "DELETE")
    statements[0]["kinds"] = kinds
    with pytest.raises(PhaseGateError, match="a kind of DELETE first among its kinds"):
        check_statements(statements, b"DELETE FROM t")


@pytest.mark.parametrize("line", [b"-" * 5000, b"\t " * 5000 + b"x", b"-- " * 5000, b"--\n" * 5000 + b";"])
def test_a_comment_after_a_string_is_read_in_one_way(line: bytes) -> None:
    assert [one.leading[0] for one in commands(b"SELECT 'a' " + line)] == ["SELECT"]


def test_a_cut_text_has_an_end_that_is_told() -> None:
    for text in ("SELECT 'a", 'SELECT "a', "SELECT $$a", "SELECT /* a", "SELECT E'a\\'", "SELECT 'a'\n'b"):
        with pytest.raises(LexError):
            commands(text.encode())
