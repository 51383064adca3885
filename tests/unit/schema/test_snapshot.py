# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots: consistent under concurrent DDL, whole on disk, and honest about what a role cannot see."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import (
    Fact,
    encode_fact,
    object_key,
    schema_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import (
    _help,
    _in_line,
    _line,
    read_changed,
    read_facts,
    take_snapshot,
    unchanged_since,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import (
    equal_texts,
    normalise,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Header, Snapshot
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from ansible_collections.incomex.phasegate.tests.support.versions import since
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


HOSTILE = Path(__file__).parents[2] / "fixtures" / "hostile.sql"


@pytest.fixture(scope="module")
def other(cluster: Cluster, shared_database: str) -> Iterator[Session]:
    """A second session in the same database."""
    with client_of(cluster, shared_database).session("phasegate:other") as opened:
        yield opened


# --- reading ---------------------------------------------------------------------------------------------------


def test_ddl_that_commits_during_a_snapshot_makes_it_be_taken_again(session: Session, other: Session) -> None:
    moments: list[str] = []

    def interfere(_session: Session) -> None:
        moments.append("read")
        if len(moments) == 1:
            other.execute("CREATE TABLE public.interference (id int)")

    try:
        taken = take_snapshot(session, at_the_end=interfere)
        assert moments == ["read", "read"]
        assert any('"interference"' in line for line in taken.facts)
    finally:
        other.execute("DROP TABLE public.interference")


def test_endless_ddl_is_reported(session: Session, other: Session) -> None:
    def interfere(_session: Session) -> None:
        other.execute("COMMENT ON TABLE public.tac_logical_unit IS 'again'")

    try:
        with pytest.raises(PhaseGateError, match="Could not take a consistent schema snapshot") as stopped:
            take_snapshot(session, attempts=3, at_the_end=interfere)
        assert "catalogs changed" in stopped.value.found
    finally:
        other.execute("COMMENT ON TABLE public.tac_logical_unit IS NULL")


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ("CREATE TABLE public.t (id int)", "DROP TABLE public.t"),
        ("ALTER TABLE public.tac_logical_unit ALTER body SET STATISTICS 7", "ALTER TABLE public.tac_logical_unit ALTER body SET STATISTICS -1"),
        ("COMMENT ON TABLE public.tac_logical_unit IS 'x'", "COMMENT ON TABLE public.tac_logical_unit IS NULL"),
        ("GRANT SELECT ON public.tac_logical_unit TO pg_monitor", "REVOKE SELECT ON public.tac_logical_unit FROM pg_monitor"),
        ("CREATE ROLE phasegate_passing", "DROP ROLE phasegate_passing"),
    ],
)  # fmt: skip
def test_a_commit_of_another_session_is_noticed(session: Session, other: Session, there: str, back: str) -> None:
    base = take_snapshot(session)
    assert unchanged_since(session, base)
    other.execute(there)
    try:
        assert not unchanged_since(session, base)
    finally:
        other.execute(back)
    assert take_snapshot(session).fingerprint == base.fingerprint


def test_data_is_no_change(session: Session, other: Session) -> None:
    base = take_snapshot(session)
    other.execute("UPDATE public.tac_logical_unit SET body = 'x'; ANALYZE public.tac_logical_unit")
    assert unchanged_since(session, base)
    assert take_snapshot(session).fingerprint == base.fingerprint


def test_a_second_session_reads_the_same_moment(session: Session, other: Session) -> None:
    alone = take_snapshot(session)
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    exported = session.value("SELECT pg_export_snapshot()") or ""
    other.execute("CREATE TABLE public.later (id int)")
    try:
        waiting = _in_line(session, alone.header)
        assert _help(session.another, exported, "none", waiting) == alone.facts
    finally:
        session.execute("ROLLBACK")
        other.execute("DROP TABLE public.later")


def test_a_large_schema_is_read_by_two_sessions(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = take_snapshot(session)
    opened: list[Session] = []
    another = session.another

    @contextlib.contextmanager
    def noted() -> Iterator[Session]:
        with another() as helper:
            opened.append(helper)
            yield helper

    monkeypatch.setattr(session, "another", noted)
    assert take_snapshot(session).facts == alone.facts
    assert not opened
    monkeypatch.setattr("ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader._LARGE_SCHEMA", 0)
    assert take_snapshot(session).facts == alone.facts
    assert len(opened) == 1


def test_a_large_schema_is_read_alone_where_no_second_session_can_be_had(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = take_snapshot(session)

    def refused() -> NoReturn:
        raise PhaseGateError("No connection.", expected="one", found="too many clients", next_step="wait")

    monkeypatch.setattr("ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader._LARGE_SCHEMA", 0)
    monkeypatch.setattr(session, "another", refused)
    assert take_snapshot(session).facts == alone.facts


def test_a_reading_leaves_the_sessions_settings_as_they_were(session: Session) -> None:
    before = session.rows("SELECT name, setting FROM pg_settings ORDER BY 1")
    take_snapshot(session)
    assert session.rows("SELECT name, setting FROM pg_settings ORDER BY 1") == before


def test_a_role_that_may_only_connect_sees_all_but_secrets(
    cluster: Cluster, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.psql(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW v AS SELECT id FROM t;"
        " CREATE SCHEMA closed; CREATE TABLE closed.t (c text CHECK (c <> ''));"
        " CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        " CREATE USER MAPPING FOR workflow_admin SERVER s OPTIONS (password 'p');"
        " CREATE ROLE phasegate_guest LOGIN",
        empty_database,
    )
    try:
        everything = cluster_snapshot(cluster, empty_database, None)
        seen = cluster_snapshot(cluster, empty_database, "phasegate_guest")
        monkeypatch.setattr(
            "ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader._LARGE_SCHEMA", 0
        )
        assert cluster_snapshot(cluster, empty_database, "phasegate_guest").facts.keys() == seen.facts.keys()
    finally:
        cluster.psql("DROP ROLE phasegate_guest", empty_database)
    assert everything.header.unseen == ()
    assert len(seen.header.unseen) == 2
    changes = diff(everything, seen).changes
    assert [(change.kind, change.attribute) for change in changes] == [("user_mapping", "options")]


def cluster_snapshot(cluster: Cluster, database: str, role: str | None) -> Snapshot:
    with client_of(cluster, database).session("phasegate:test") as opened:
        if role:
            opened.execute(f"SET ROLE {role}")
        return take_snapshot(opened)


# Statements, each with the one that undoes it; every pair is independent of the others.
PAIRS = [
    ("CREATE TABLE public.h1 (id int PRIMARY KEY, c text)", "DROP TABLE public.h1"),
    ("ALTER TABLE public.tac_logical_unit ADD COLUMN h int DEFAULT 3", "ALTER TABLE public.tac_logical_unit DROP COLUMN h"),
    ("ALTER TABLE cutter_governance.verify_finding RENAME TO h2", "ALTER TABLE cutter_governance.h2 RENAME TO verify_finding"),
    ("CREATE INDEX h3 ON sandbox_tac.logical_unit (doc_code)", "DROP INDEX sandbox_tac.h3"),
    ("ALTER TABLE sandbox_tac.logical_unit ALTER body SET NOT NULL", "ALTER TABLE sandbox_tac.logical_unit ALTER body DROP NOT NULL"),
    ("COMMENT ON TABLE cutter_governance.cut_run IS 'h'", "COMMENT ON TABLE cutter_governance.cut_run IS NULL"),
    ("GRANT SELECT ON cutter_governance.cut_run TO pg_monitor", "REVOKE SELECT ON cutter_governance.cut_run FROM pg_monitor"),
    ("CREATE VIEW public.h4 AS SELECT * FROM sandbox_tac.logical_unit", "DROP VIEW public.h4"),
    ("CREATE FUNCTION public.h5() RETURNS int LANGUAGE sql RETURN 1", "DROP FUNCTION public.h5()"),
    ("ALTER TABLE cutter_governance.verify_run ENABLE ROW LEVEL SECURITY", "ALTER TABLE cutter_governance.verify_run DISABLE ROW LEVEL SECURITY"),
    ("CREATE TYPE public.h6 AS ENUM ('a')", "DROP TYPE public.h6"),
    ("ALTER SCHEMA cutter_governance RENAME TO h7", "ALTER SCHEMA h7 RENAME TO cutter_governance"),
    ("CREATE SEQUENCE public.h8", "DROP SEQUENCE public.h8"),
]  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.sampled_from(range(len(PAIRS))), unique=True, min_size=1))
def test_ddl_and_its_inverse_restore_the_fingerprint(session: Session, chosen: list[int]) -> None:
    base = take_snapshot(session)
    # a schema is renamed last and first renamed back: the others name what is in it
    order = sorted(chosen, key=lambda place: ("SCHEMA" in PAIRS[place][0], chosen.index(place)))
    session.execute("BEGIN")
    try:
        for place in order:
            session.execute(PAIRS[place][0])
        changed = read_changed(session, base)
        assert changed.facts == read_facts(session).facts
        assert changed.fingerprint != base.fingerprint
        assert diff(base, changed)
        for place in reversed(order):
            session.execute(PAIRS[place][1])
        assert read_changed(session, base).fingerprint == base.fingerprint == read_facts(session).fingerprint
    finally:
        session.execute("ROLLBACK")


def test_a_partly_read_change_is_read_whole_where_other_sessions_committed(session: Session, other: Session) -> None:
    base = take_snapshot(session)
    other.execute("ALTER TABLE public.tac_logical_unit ADD COLUMN between_us int")
    try:
        changed = read_changed(session, base)
        assert changed.facts == read_facts(session).facts
        assert [change.name for change in diff(base, changed).changes] == ["public.tac_logical_unit.between_us"]
    finally:
        other.execute("ALTER TABLE public.tac_logical_unit DROP COLUMN between_us")


# --- on disk ---------------------------------------------------------------------------------------------------

cells = st.one_of(st.none(), st.text(max_size=8), st.text('N\\"\n\t\x01a', max_size=5))
names = st.text(min_size=1, max_size=6)


def column(schema: str, name: str, **attributes: str | None) -> str:
    return encode_fact(Fact("column", (schema, "t", name), dict(attributes)))


snapshots = st.builds(
    lambda rows: Snapshot(
        Header("16.0", "d"), {column(s, n, type=t, default=d): "" for (s, n), (t, d) in rows.items()}
    ),
    st.dictionaries(st.tuples(names, names), st.tuples(names, cells), max_size=6),
)


@given(before=snapshots, after=snapshots)
def test_a_diff_is_empty_exactly_when_the_fingerprints_are_equal(before: Snapshot, after: Snapshot) -> None:
    assert bool(diff(before, after)) is (before.fingerprint != after.fingerprint)
    assert not diff(before, before)


@given(values=st.lists(cells, min_size=2, max_size=2), identity=st.lists(st.text(max_size=4), min_size=3, max_size=3))
def test_a_line_is_the_json_of_what_copy_wrote(values: list[str | None], identity: list[str]) -> None:
    kind = KINDS["domain_constraint"]
    attributes = dict(zip(kind.attributes, [*values, None, None], strict=False))
    row = "\t".join(copied(cell) for cell in (*identity, *attributes.values()))
    assert _line(kind, row) == encode_fact(Fact(kind.name, tuple(identity), attributes))


COPY_ESCAPES = {"\\": r"\\", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}


def copied(cell: str | None) -> str:
    """Return a cell as COPY's text format writes it."""
    return r"\N" if cell is None else "".join(COPY_ESCAPES.get(char, char) for char in cell)


@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_the_object_of_a_fact_is_read_off_its_line(kind: str, data: st.DataObject) -> None:
    identity = data.draw(st.tuples(*[names] * len(KINDS[kind].identity)))
    if kind == "acl":
        identity = (data.draw(st.sampled_from(("table", "schema", "function", "database"))), *identity[1:])
    line = encode_fact(Fact(kind, identity, dict.fromkeys(KINDS[kind].attributes, data.draw(cells))))
    of_line = Snapshot(Header("16.0", "d"), {line: ""}).object_digests()
    assert list(of_line) == [(schema_of(kind, identity), *object_key(kind, identity))]


@given(before=snapshots, after=snapshots)
def test_digests_that_are_carried_over_are_right(before: Snapshot, after: Snapshot) -> None:
    assert before.fingerprint
    assert (
        before.with_changes(before.only_here(after), dict.fromkeys(after.only_here(before), "")).fingerprint
        == after.fingerprint
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(snapshot=snapshots)
@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz"])
def test_a_file_says_what_the_snapshot_says(tmp_path: Path, name: str, snapshot: Snapshot) -> None:
    path = tmp_path / name
    digest = snapshot.write(str(path))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = Snapshot.load(str(path))
    assert loaded.fingerprint == snapshot.fingerprint
    assert loaded.header == snapshot.header
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_equal_snapshots_are_equal_files(session: Session, tmp_path: Path) -> None:
    assert take_snapshot(session).write(str(tmp_path / "a.gz")) == take_snapshot(session).write(str(tmp_path / "b.gz"))


@pytest.mark.parametrize("damage", ["cut", "no header", "another version", "no snapshot"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.jsonl.gz"
    Snapshot(Header("16.0", "d"), {column("s", "c", type="text"): ""}).write(str(path))
    whole = gzip.decompress(path.read_bytes())
    header, _newline, facts = whole.partition(b"\n")
    path.write_bytes(
        {
            "cut": path.read_bytes()[:-10],
            "no header": gzip.compress(facts),
            "another version": gzip.compress(header.replace(b'"version":1', b'"version":99') + b"\n" + facts),
            "no snapshot": b"something else",
        }[damage]
    )
    with pytest.raises(PhaseGateError, match=r"cannot be read|unsupported format"):
        Snapshot.load(str(path))


# --- after dump and restore ------------------------------------------------------------------------------------


def test_a_restored_copy_has_the_same_normalised_fingerprint(cluster: Cluster, empty_database: str) -> None:
    cluster.psql(
        """
        CREATE TABLE t (a varchar(10) CHECK (a IN ('x', 'y,]')), n numeric, d date DEFAULT '2020-01-01');
        CREATE VIEW v AS SELECT a FROM t WHERE a NOT IN ('x', 'it''s') AND n BETWEEN 1 AND 2;
        CREATE INDEX ON t (lower(a)) WHERE a IN ('x', 'y');
        CREATE MATERIALIZED VIEW m AS SELECT a FROM t WHERE a IN ('x', 'y');
        CREATE COLLATION plain FROM "C";
        GRANT SELECT ON t TO pg_monitor;
        ALTER DATABASE CURRENT_DATABASE SET work_mem = '5MB';
        """.replace("CURRENT_DATABASE", empty_database),
        empty_database,
    )
    original, restored = cluster_snapshot(cluster, empty_database, None), restored_copy(cluster, empty_database)
    assert diff(original, restored)
    with client_of(cluster, empty_database).session("phasegate:test") as session:
        words = equal_texts(normalise(original), normalise(restored), Reprinter(session, inside=False))
    assert len(words) == 4
    assert diff(normalise(original), normalise(restored), words).text() == "no difference"
    assert not [
        line for line in normalise(original, owners=False).facts if "pg_monitor" in line or "workflow_admin" in line
    ]


@since(15)
def test_a_hostile_schema_is_read_whole_and_survives_a_dump(
    cluster: Cluster, empty_database: str, tmp_path: Path
) -> None:
    cluster.load(HOSTILE, empty_database)
    original = cluster_snapshot(cluster, empty_database, None)
    assert [encode_fact(fact) for fact in original.decoded()] == original.lines()
    named = [(fact.kind, fact.identity) for fact in original.decoded()]
    assert len(set(named)) == len(named) > 1900
    assert "unknown" not in {kind for kind, _identity in named}
    original.write(str(tmp_path / "s.gz"))
    assert Snapshot.load(str(tmp_path / "s.gz")).fingerprint == original.fingerprint
    restored = restored_copy(cluster, empty_database)
    assert diff(normalise(original), normalise(restored)).text() == "no difference"


def restored_copy(cluster: Cluster, database: str) -> Snapshot:
    """Return the snapshot of a copy that a dump of the schema makes."""
    copy = f"{database}_copy"
    cluster.create_database(copy)
    try:
        dump = client_of(cluster, database).run("pg_dump", "--schema-only", "--dbname", cluster.dsn(database))
        text = "\n".join(
            x for x in dump.stdout.decode().split("\n") if not x.startswith(("\\restrict", "\\unrestrict"))
        )
        cluster.psql(text, copy)
        return cluster_snapshot(cluster, copy, None)
    finally:
        cluster.drop_database(copy)
