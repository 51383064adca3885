# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutated DDL and mutated bundles: what is run is what PostgreSQL's parser sees, and no changed bundle verifies.

Longer: ``pytest tests/unit/test_fuzz.py --hypothesis-profile=long``. What was found once stands here as an example.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pglast
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import ALL_KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import run_statement
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import new_directory
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import SqlRules
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import split_file
from ansible_collections.incomex.phasegate.tests.support.bundle import sha256
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

DDL = ALPHA.with_name("migrate.sql").read_text(encoding="utf-8")

#: What separates, hides or opens something for one of the readers: the parser, psql, the server.
TOKENS = [
    ";", "'", '"', "$$", "$a$", "--", "/*", "*/", "E'\\''", "\\", "\n", "\\;", "\\g", "\\! true", ":x", ":'x'", "COMMIT;",
    "BEGIN;", "BEGIN ATOMIC", "END;", "$1", "U&'\\0041'", "\u00a0", "\u2028", "ü", "€", "x'41'", "/* /* */ ; */", "'; '",
    "$a$ ; $a$", "-- ; \n", "SELECT 1;", "()", "CASE", "END",
]  # fmt: skip

#: One change of a text: delete or repeat ``length`` characters at ``place``, or put a token there.
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "repeat", "insert"]),
        st.integers(0, len(DDL)),
        st.integers(1, 40),
        st.sampled_from(TOKENS),
    ),
    min_size=1,
    max_size=4,
)
Edits = list[tuple[str, int, int, str]]


def edited(edits: Edits) -> str:
    """Return Phase Alpha's DDL after these changes."""
    text = DDL
    for what, place, length, token in edits:
        piece = text[place : place + length]
        new = {"delete": "", "repeat": piece + piece, "insert": token + piece}[what]
        text = text[:place] + new + text[place + length :]
    return text


def shape(text: str) -> list[str]:
    """Return the statements of a text as PostgreSQL's parser sees them, wherever they stand."""
    return [_without_places(raw.stmt) for raw in pglast.parse_sql(text)]


def _without_places(node: Any) -> str:
    tree = node(skip_none=True) if callable(node) else node
    return repr(_bare(tree))


def _bare(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {
            key: _bare(value) for key, value in tree.items() if key not in ("location", "stmt_location", "stmt_len")
        }
    return [_bare(one) for one in tree] if isinstance(tree, (list, tuple)) else tree


@given(EDITS)
@example([("insert", 900, 1, "-- ; \n")])
@example([("insert", 900, 1, "$a$ ; $a$")])
@example([("insert", 0, 1, "\u00a0")])
@example([("insert", len(DDL), 1, "/*")])
@example([("delete", len(DDL) - 9, 9, "")])
@settings(deadline=None)
def test_what_is_split_is_what_the_parser_sees(edits: Edits) -> None:
    text = edited(edits)
    problems: list[Problem] = []
    source = SourceFile("x.sql", "x.sql", text.encode("utf-8"))
    pieces = split_file(source, problems)
    if problems:
        return
    data = source.data
    ranges = [{"start": piece.start, "end": piece.end, "run": True, "after_commit": ""} for piece in pieces]
    check_cover(ranges, data, sha256_bytes(data))
    alone = [shape(data[piece.start : piece.end].decode("utf-8")) for piece in pieces]
    assert [one for piece in alone for one in piece] == shape(text)
    assert all(len(piece) == 1 for piece in alone)


# --- the server's view -----------------------------------------------------------------------------------------


SMALL = """CREATE TABLE app.t (id int, note text DEFAULT 'a;b');
COMMENT ON TABLE app.t IS $q$it; is -- not /* over $q$;
-- between; them
ALTER TABLE app.old ADD COLUMN new text DEFAULT E'\\';';
/* and; */ CREATE INDEX i ON app.old (new);
"""
SMALL_EDITS = st.lists(
    st.tuples(st.integers(0, len(SMALL)), st.sampled_from([*TOKENS, "\\echo x", "\\q\n", "\\i /dev/null\n"])),
    max_size=2,
)


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Two names of databases, and a template for them."""
    cluster.create_database("fuzz")
    cluster.psql("CREATE SCHEMA app; CREATE TABLE app.old (id int)", "fuzz")
    yield "fuzz_ours", "fuzz_psql"
    for name in ("fuzz_ours", "fuzz_psql", "fuzz"):
        cluster.drop_database(name)


@given(SMALL_EDITS)
@example([])
@example([(0, "\\echo x")])
@example([(20, ":'x'")])
@example([(53, "-- ; \n")])
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
def test_what_runs_is_what_psql_would_run(
    cluster: Cluster, pair: tuple[str, str], edits: list[tuple[int, str]]
) -> None:
    text = SMALL
    for place, token in edits:
        text = text[:place] + token + text[place:]
    problems: list[Problem] = []
    rules = SqlRules(frozenset({"app"}), ALL_KINDS, frozenset(), (), {}, "k", "r")
    planned = analyse_file(SourceFile("x.sql", "x.sql", text.encode()), rules, problems)
    assume(not problems)
    ours, theirs = pair
    for name in pair:
        cluster.drop_database(name)
        cluster.create_database(name, "fuzz")
    data = text.encode("utf-8")
    with client_of(cluster, ours).session() as session:
        session.execute("BEGIN")
        try:
            for statement in planned:
                if statement["run"]:
                    piece = data[statement["start"] : statement["end"]].decode("utf-8")
                    run_statement(session, piece, returns_rows=statement["returns_rows"])
        except SqlError:
            session.execute("ROLLBACK")
        else:
            session.execute("COMMIT")
    argv = [str(bin_directory() / "psql"), "-Xq1", "-v", "ON_ERROR_STOP=1", "-d", cluster.dsn(theirs)]
    subprocess.run(argv, input=data, capture_output=True, check=False)
    dumps = []
    for name in pair:
        dump = [str(bin_directory() / "pg_dump"), "--schema-only", "-d", cluster.dsn(name)]
        lines = subprocess.run(dump, capture_output=True, check=True).stdout.splitlines()
        dumps.append([line for line in lines if b"restrict" not in line])
    assert dumps[0] == dumps[1]


# --- bundles ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sealed run."""
    artefacts = new_directory(str(tmp_path_factory.mktemp("runs")), "fuzz_test")
    artefacts.write("sql/migrate.sql", DDL.encode())
    artefacts.write("logs/C-08.log", b"PASS\n")
    artefacts.journal.append("run", "open", {"phase": "fuzz"})
    artefacts.journal.append("run", "seal")
    artefacts.seal(artefacts.sums())
    assert verify_bundle(artefacts.path) == []
    return Path(artefacts.path)


NAMES = ["SHA256SUMS", "journal.jsonl", "sql/migrate.sql", "logs/C-08.log", "logs/new", "new/../new", ".hidden", "sql"]
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["write", "append", "cut", "delete", "link", "rename", "list", "unlist", "sum again"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.binary(max_size=20),
    ),
    min_size=1,
    max_size=5,
)


def damage(root: Path, what: str, name: str, other: str, data: bytes) -> None:
    """Do one thing to a bundle that whoever may write there can do."""
    file, seal = root / name, root / "SHA256SUMS"
    if what == "write":
        file.write_bytes(data)
    elif what == "append":
        file.write_bytes(file.read_bytes() + data)
    elif what == "cut":
        file.write_bytes(file.read_bytes()[: -len(data) or None])
    elif what == "delete":
        file.unlink()
    elif what == "link":
        file.unlink(missing_ok=True)
        file.symlink_to(root / other)
    elif what == "rename":
        file.rename(root / other)
    elif what == "list":
        seal.write_bytes(seal.read_bytes() + f"{sha256(file)}  {name}\n".encode())
    elif what == "unlist":
        lines = seal.read_bytes().splitlines(keepends=True)
        seal.write_bytes(b"".join(line for line in lines if not line.endswith(f"  {name}\n".encode())))
    else:  # one line of the seal follows its file; all of it is another seal, which its own digest tells
        text = seal.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
        new = [f"{sha256(file)}  {name}\n" if line.endswith(f"  {name}\n") else line for line in text]
        seal.write_text("".join(new), encoding="utf-8", errors="surrogateescape")


def content(root: Path) -> dict[str, object]:
    """Return what is in a bundle, links as such."""
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in root.rglob("*")
    }


@given(DAMAGES)
@example([("link", "logs/new", "sql/migrate.sql", b""), ("list", "logs/new", "logs/new", b"")])
@example(
    [
        ("rename", "logs/C-08.log", "logs/new", b""),
        ("unlist", "logs/C-08.log", "sql", b""),
        ("list", "logs/new", "sql", b""),
    ]
)
@example([("delete", "journal.jsonl", "sql", b""), ("unlist", "journal.jsonl", "sql", b"")])
@example([("append", "journal.jsonl", "sql", b"\n"), ("sum again", "journal.jsonl", "sql", b"")])
@example([("link", "SHA256SUMS", "SHA256SUMS", b"")])
@settings(deadline=None)
def test_no_changed_bundle_verifies_under_its_seal(
    sealed: Path, tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[str, str, str, bytes]]
) -> None:
    root = tmp_path_factory.mktemp("damaged") / sealed.name
    shutil.copytree(sealed, root)
    seal = sha256(root / "SHA256SUMS")
    for what, name, other, data in damages:
        try:
            damage(root, what, name, other, data)
        except OSError:  # a link to itself, a file that is gone, a folder
            continue
    same = content(root) == content(sealed)
    findings = verify_bundle(str(root))
    kept = (
        not (root / "SHA256SUMS").is_symlink()
        and RunDirectory(str(root)).sealed
        and sha256(root / "SHA256SUMS") == seal
    )
    # a seal that was written anew is another one: its digest, noted elsewhere, tells
    assert findings or same or not kept
    assert not (findings and same)
    shutil.rmtree(root.parent)
