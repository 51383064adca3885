# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read, keep and compare the facts of one database.

A snapshot is a set of *lines*, one per fact: a JSON array ``[kind, [identity...], [attribute...]]``, written by one rule
(no spaces, no escaped non-ASCII), so that equal facts are equal texts. The digest of a fact is the SHA-256 of its line;
of an object, of the sorted digests of its facts; of a schema, of its objects; of the database, of its schemas. The last
is the *fingerprint*.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import (
    IO,
    AbstractSet,
    Any,
    Callable,
    Collection,
    ContextManager,
    Iterable,
    Iterator,
    Mapping,
    NamedTuple,
    Sequence,
)

from ansible_collections.incomex.phasegate.plugins.module_utils import _watch
from ansible_collections.incomex.phasegate.plugins.module_utils._catalog import KINDS, QUERIES, FactQuery, Kind
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._sql import copy_field, literal

FORMAT = "incomex.phasegate schema snapshot"
VERSION = 1
SECTIONS = ("schema", "database")
CLUSTER = "cluster"

# Kinds that lose their rows or position when they are dropped and created again under the same name.
HOLDING_DATA = ("table", "column", "sequence")
_HOLDING_DATA = tuple(f'["{kind}",' for kind in HOLDING_DATA)

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_DECODE = json.JSONDecoder().raw_decode


class Fact(NamedTuple):
    """One decoded fact: ``identity`` in the order of its kind, ``attributes`` by name (None for NULL)."""

    kind: str
    identity: tuple[str, ...]
    attributes: dict[str, str | None]


def decode(line: str) -> Fact:
    """Return the fact in a line of a snapshot."""
    kind, identity, attributes = json.loads(line)
    return Fact(kind, tuple(identity), dict(zip(KINDS[kind].attributes, attributes)))


def encode(fact: Fact) -> str:
    """Return the line of a fact."""
    names = KINDS[fact.kind].attributes
    return _ENCODER.encode([fact.kind, list(fact.identity), [fact.attributes.get(name) for name in names]])


def object_key(kind: str, identity: Sequence[str]) -> tuple[str, ...]:
    """Return the object a fact belongs to: its namespace, then its names; equal for a table and all of its parts."""
    if kind == "acl":
        of, schema, name = identity[:3]
        names = (name,) if of == "schema" else (schema, name)
        return (KINDS[of].namespace if of in KINDS else of, *(text for text in names if text))
    shape = KINDS[kind]
    if shape.parent:
        namespace, places = shape.parent
        return (namespace, *(identity[place] for place in places))
    return (shape.namespace, *identity)


def schema_of(kind: str, identity: Sequence[str]) -> str:
    """Return the schema a fact belongs to, '' when it is in none."""
    place = KINDS[kind].schema_at
    return "" if place is None else identity[place]


@dataclass(frozen=True)
class Header:
    """The metadata of a snapshot beside its facts; not part of the fingerprint."""

    server_version: str
    database: str
    settings: Mapping[str, str] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    sections: tuple[str, ...] = SECTIONS

    def line(self) -> str:
        """Return the header as the first line of a file."""
        return _ENCODER.encode(
            {
                "format": FORMAT,
                "version": VERSION,
                "server_version": self.server_version,
                "database": self.database,
                "settings": dict(sorted(self.settings.items())),
                "unseen": list(self.unseen),
                "sections": list(self.sections),
                "kinds": {
                    name: {"identity": kind.identity, "attributes": kind.attributes}
                    for name, kind in sorted(KINDS.items())
                },
            }
        )


class Snapshot:
    """The facts of one database at one moment.

    ``facts`` maps the line of each fact to its locator, ``class/oid`` of its carrier and of the catalog row that it describes,
    separated by a space; the locator is '' in a snapshot that was loaded from a file. ``watched`` is the state of the catalogs beside it.
    """

    def __init__(self, header: Header, facts: dict[str, str], watched: _watch.Watched | None = None) -> None:
        self.header = header
        self.facts = facts
        self.watched = watched
        self._digests: dict[tuple[str, ...], str] | None = None
        self._schemas: dict[str, str] | None = None
        self._members: dict[tuple[str, ...], list[str]] | None = None
        self._rows: dict[str, list[str]] | None = None
        # the base, the lines removed and added, and the lines read again with the same text
        self._origin: tuple[Snapshot, frozenset[str], frozenset[str], AbstractSet[str]] | None = None

    def __len__(self) -> int:
        return len(self.facts)

    def lines(self) -> list[str]:
        """Return the lines in their canonical order."""
        return sorted(self.facts)

    def decoded(self) -> Iterator[Fact]:
        """Yield the facts in canonical order."""
        return (decode(line) for line in self.lines())

    def rows(self) -> dict[str, list[str]]:
        """Return the lines that were read from each catalog row or hang on it, by ``class/oid``.

        Computed once; a caller that will hold locks calls it before.
        """
        if self._rows is None:
            rows: dict[str, list[str]] = {}
            for line, locator in self.facts.items():
                carrier, _space, row = locator.partition(" ")
                rows.setdefault(carrier, []).append(line)
                if row != carrier:
                    rows.setdefault(row, []).append(line)
            self._rows = rows
        return self._rows

    def members(self) -> dict[tuple[str, ...], list[str]]:
        """Return the lines of each object by ``(schema, namespace, names...)``. Computed once."""
        if self._members is None:
            members: dict[tuple[str, ...], list[str]] = {}
            for line in self.facts:
                members.setdefault(_digest_key(line), []).append(line)
            self._members = members
        return self._members

    def object_digests(self) -> dict[tuple[str, ...], str]:
        """Return the digest of each object by ``(schema, namespace, names...)``. Computed once."""
        if self._digests is None:
            self._digests = {key: _digest_of(lines) for key, lines in self.members().items()}
        return self._digests

    def schema_digests(self) -> dict[str, str]:
        """Return the digest of each schema by name; '' for objects in no schema. Computed once."""
        if self._schemas is None:
            self._schemas = self._digests_of_schemas(None)
        return self._schemas

    def _digests_of_schemas(self, only: set[str] | None) -> dict[str, str]:
        schemas: dict[str, list[str]] = {}
        for key, digest in self.object_digests().items():
            if only is None or key[0] in only:
                schemas.setdefault(key[0], []).append(_ENCODER.encode([key, digest]))
        return {name: _sha256("\n".join(sorted(lines))) for name, lines in schemas.items()}

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hexadecimal digits) over all facts."""
        schemas = sorted(self.schema_digests().items())
        return _sha256("\n".join([f"{FORMAT} {VERSION}", *(_ENCODER.encode(schema) for schema in schemas)]))

    def with_changes(
        self, removed: frozenset[str], added: dict[str, str], watched: _watch.Watched | None = None
    ) -> Snapshot:
        """Return this snapshot without the lines ``removed`` and with those ``added``.

        Digests computed for this one are kept for unchanged objects.
        """
        facts = {**self.facts, **added}
        for line in removed:
            del facts[line]
        other = Snapshot(self.header, facts, watched)
        # a line that was here already may come from another row now
        new = frozenset(added.keys() - self.facts.keys())
        other._origin = (self, removed, new, added.keys() - new)
        if self._members is not None and self._digests is not None:
            members = dict(self._members)
            digests = dict(self._digests)
            keys = {_digest_key(line) for line in (*removed, *new)}
            for key in keys:
                lines = [line for line in members.get(key, ()) if line not in removed]
                lines += [line for line in new if _digest_key(line) == key]
                members[key] = lines
                digests[key] = _digest_of(lines)
                if not lines:
                    del members[key], digests[key]
            other._members, other._digests = members, digests
            if self._schemas is not None:
                touched = {key[0] for key in keys}
                kept = {name: digest for name, digest in self._schemas.items() if name not in touched}
                other._schemas = {**kept, **other._digests_of_schemas(touched)}
        return other

    def only_here(self, other: Snapshot) -> frozenset[str]:
        """Return the lines that ``other`` lacks."""
        if self._origin and self._origin[0] is other:
            return self._origin[2]
        if other._origin and other._origin[0] is self:
            return other._origin[1]
        return frozenset(self.facts.keys() - other.facts.keys())

    def moved(self, base: Snapshot) -> list[str]:
        """Return the lines about what holds data that were read from another catalog row in ``base``.

        Empty where one of the two has no locators.
        """
        known = base.facts
        lines = self._origin[3] if self._origin and self._origin[0] is base else self.facts
        return [
            line
            for line in lines
            if line.startswith(_HOLDING_DATA) and known.get(line) and self.facts[line] not in ("", known[line])
        ]

    def unlocated(self) -> Snapshot:
        """Return the facts alone, as a file has them: a diff with them compares structure only."""
        return Snapshot(self.header, dict.fromkeys(self.facts, ""))

    def relation_kinds(self, names: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
        """Return the kind of each of these relations, named by schema and name, that exists here."""
        found: dict[tuple[str, ...], str] = {}
        for name in names:
            for line in self.members().get((name[0], "relation", *name), ()):
                fact = decode(line)
                if KINDS[fact.kind].namespace == "relation":
                    found[name] = fact.kind
        return found

    def write(self, path: str) -> str:
        """Write the snapshot, compressed when the name ends in ``.gz``, and return the SHA-256 of the file.

        The file appears under its name complete or not at all. Raises ``OSError``.
        """
        partial = f"{path}.partial"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as raw:
            sink = _HashingWriter(raw)
            if path.endswith(".gz"):
                # no name and no time: equal snapshots are equal files
                with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=sink, mtime=0) as packed:
                    self._write_lines(packed)
            else:
                self._write_lines(sink)
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(partial, path)
        _fsync_directory(os.path.dirname(path) or ".")
        return sink.digest.hexdigest()

    def _write_lines(self, sink: Any) -> None:
        sink.write(self.header.line().encode("utf-8") + b"\n")
        lines = self.lines()
        for start in range(0, len(lines), 1000):
            sink.write("".join(f"{line}\n" for line in lines[start : start + 1000]).encode("utf-8"))

    @classmethod
    def load(cls, path: str) -> Snapshot:
        """Read a snapshot that ``write`` made. Raises ``PhaseGateError`` for anything else, ``OSError``."""
        try:
            with open(path, "rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
                lines = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
                header = _header(path, lines.readline())
                facts = {line.rstrip("\n"): "" for line in lines}
        except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, ValueError) as error:
            raise PhaseGateError(
                f"The snapshot {path} cannot be read.",
                expected="a complete file that was written by this collection",
                found=str(error),
                next_step="check the file's SHA-256 against the recorded one; take the snapshot again",
            ) from error
        return cls(header, facts)


def _digest_key(line: str) -> tuple[str, ...]:
    kind = kind_of(line)
    if "\\" in line or kind == "acl":
        _kind, identity, _attributes = json.loads(line)
        return (schema_of(kind, identity), *object_key(kind, identity))
    # Called for every fact, so without a parser: no escape in the line, no quote in a name. An object's names come first.
    namespace, names, schema_at = _SHAPES[kind]
    cells = line.split('"', 2 * names + 3)
    return (cells[2 * schema_at + 3] if schema_at is not None else "", namespace, *cells[3 : 2 * names + 3 : 2])


def _shape(kind: Kind) -> tuple[str, int, int | None]:
    """Return the namespace of the object that a fact is a part of, how many names that has, and the schema's place."""
    namespace, places = kind.parent or (kind.namespace, tuple(range(len(kind.identity))))
    assert places == tuple(range(len(places)))
    assert (kind.schema_at or 0) <= len(places)
    return namespace, len(places), kind.schema_at


_SHAPES = {name: _shape(kind) for name, kind in KINDS.items()}


def _digest_of(lines: Iterable[str]) -> str:
    digests = sorted(hashlib.sha256(line.encode("utf-8")).digest() for line in lines)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class _HashingWriter:
    """A binary sink that computes the SHA-256 of its data."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._raw.write(data)

    def flush(self) -> None:
        self._raw.flush()


def _fsync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(path: str, line: str) -> Header:
    found = json.loads(line)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("its first line is not the header of a schema snapshot")
    shapes = {
        name: {"identity": list(kind.identity), "attributes": list(kind.attributes)} for name, kind in KINDS.items()
    }
    if found.get("version") != VERSION or found.get("kinds") != shapes:
        raise PhaseGateError(
            f"The snapshot {path} has an unsupported format.",
            expected=f"version {VERSION} with the kinds of facts that this release of the collection supports",
            found=f"version {found.get('version')}",
            next_step="take the snapshot again with this release, or compare it with the release that wrote it",
        )
    return Header(
        server_version=found["server_version"],
        database=found["database"],
        settings=found["settings"],
        unseen=tuple(found["unseen"]),
        sections=tuple(found["sections"]),
    )


def _line(kind: Kind, cells: str) -> str:
    """Return the line of one fact from the tab-separated cells of a COPY row."""
    names = len(kind.identity)
    *identity, rest = cells.split("\t", names) if kind.attributes else [*cells.split("\t"), ""]
    joined = '","'.join(identity)
    quoted = f'"{joined}"' if identity else ""
    attributes = ('"' + rest.replace("\t", '","') + '"').replace('"\\N"', "null") if kind.attributes else ""
    line = f'["{kind.name}",[{quoted}],[{attributes}]]'
    # That was JSON when no cell holds a quote, a control character or a backslash. COPY doubles a backslash of the data,
    # so one before N is a NULL's.
    if '"' in cells or cells.count("\\") != cells.count("\\N") or not line.isprintable():
        values = [copy_field(cell) for cell in cells.split("\t")]
        return _ENCODER.encode([kind.name, values[:names], values[names:]])
    return line


def _read(session: Session, query: FactQuery, only: Sequence[int] | None = None) -> Iterator[tuple[str, str]]:
    """Yield line and locator of each fact of one query."""
    own, part = f"{query.carrier_class}/", f" {query.keyed_by}/"
    for row in session.copy_lines(query.sql(only)):
        carrier, number, cells = row.split("\t", 2)
        yield (
            _line(query.kind, cells),
            f"{own}{carrier}{part}{number}" if number != "0" else f"{own}{carrier} {own}{carrier}",
        )


class Secret(NamedTuple):
    """An attribute with restricted access: its name for people, and the SQL that checks whether this session may read it."""

    what: str
    kind: str
    attribute: str
    sight: str


# Everything else is readable by every role that can connect.
SECRETS = (
    Secret(
        "connection strings of subscriptions",
        "subscription",
        "connection",
        "pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subconninfo', 'SELECT')",
    ),
    Secret(
        "options of user mappings that belong to other roles",
        "user_mapping",
        "options",
        "pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')",
    ),
)


def _header_of(session: Session, sections: Sequence[str]) -> Header:
    settings = (
        "search_path",
        "TimeZone",
        "DateStyle",
        "IntervalStyle",
        "extra_float_digits",
        "quote_all_identifiers",
        "bytea_output",
        "lc_monetary",
    )
    columns = ["pg_catalog.current_setting('server_version')", "pg_catalog.current_database()"]
    columns += [secret.sight for secret in SECRETS]
    columns += [f"pg_catalog.current_setting('{name}')" for name in settings]
    row = session.rows(f"SELECT {', '.join(columns)}")[0]
    sights = row[2 : 2 + len(SECRETS)]
    return Header(
        server_version=row[0] or "",
        database=row[1] or "",
        settings={name: value or "" for name, value in zip(settings, row[2 + len(SECRETS) :])},
        unseen=tuple(secret.what for secret, sees in zip(SECRETS, sights) if sees != "t"),
        sections=tuple(sections),
    )


def _queries(header: Header) -> list[FactQuery]:
    queries = [query for query in QUERIES if query.section in header.sections]
    if SECRETS[0].what in header.unseen:
        queries = [query.without("connection") if query.kind.name == "subscription" else query for query in queries]
    return queries


def wanted_sections(*, cluster: bool) -> tuple[str, ...]:
    """Return the sections of a snapshot with or without the facts of the cluster."""
    return (*SECTIONS, CLUSTER) if cluster else SECTIONS


def read_facts(session: Session, *, sections: Sequence[str] = SECTIONS) -> Snapshot:
    """Read all facts in whatever transaction is open (each query in its own when none is).

    ``pg_get_*def`` sees what other sessions commit meanwhile: use ``take`` where that can happen. Raises ``SqlError``.
    """
    header = _header_of(session, sections)
    return Snapshot(header, _read_waiting(session, _in_line(header)), _watch.look(session))


# A second session saves 0.1 s at 700 tables of eight columns (pg_attribute: 4.5 MB), and takes as long to start where it
# has to be started in a container. Bytes of pg_attribute.
_LARGE_SCHEMA = 8 * 2**20


def _read_shared(session: Session, sections: Sequence[str]) -> Snapshot:
    """Read all facts in the open REPEATABLE READ transaction; on a large schema with a second session under its snapshot."""
    size, role = session.rows(
        "SELECT pg_catalog.pg_relation_size('pg_catalog.pg_attribute'), pg_catalog.current_setting('role')"
    )[0]
    if int(size or 0) < _LARGE_SCHEMA:
        return read_facts(session, sections=sections)
    header = _header_of(session, sections)
    waiting = _in_line(header)
    exported = session.value("SELECT pg_catalog.pg_export_snapshot()")
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(_help, session.another, exported or "", role or "none", waiting)
        watched = _watch.look(session)
        facts = _read_waiting(session, waiting)
        facts.update(others.result())
    return Snapshot(header, facts, watched)


def _help(
    another: Callable[[], ContextManager[Session]], exported: str, role: str, waiting: queue.SimpleQueue[FactQuery]
) -> dict[str, str]:
    """Run waiting queries in another session under an exported snapshot; none when no session can be opened."""
    with contextlib.ExitStack() as stack:
        try:
            helper = stack.enter_context(another())
            helper.set("role", role)
            helper.execute(
                f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {literal(exported)}"
            )
        except PhaseGateError:
            # no free connection, for example: the first session continues alone
            return {}
        return _read_waiting(helper, waiting)


def _in_line(header: Header) -> queue.SimpleQueue[FactQuery]:
    """Return the queries, those that take longest first, so that two sessions end at about the same time."""
    waiting: queue.SimpleQueue[FactQuery] = queue.SimpleQueue()
    for query in sorted(_queries(header), key=lambda query: query.kind.name not in _LARGE):
        waiting.put(query)
    return waiting


_LARGE = ("column", "index", "constraint", "sequence", "table")


def _read_waiting(session: Session, waiting: queue.SimpleQueue[FactQuery]) -> dict[str, str]:
    """Run queries until none is waiting and return their facts."""
    facts: dict[str, str] = {}
    with _planning(session):
        while True:
            try:
                query = waiting.get_nowait()
            except queue.Empty:
                return facts
            facts.update(_read(session, query))


# The planner cannot know how many catalog rows a condition on OIDs leaves, guesses one, and takes nested loops for
# ten thousands. For reading everything, hash joins are right; parallel workers cost more to start than they save.
_PLANNING = {
    "enable_nestloop": "off",
    "enable_mergejoin": "off",
    "max_parallel_workers_per_gather": "0",
    "work_mem": "64MB",
}


@contextlib.contextmanager
def _planning(session: Session) -> Iterator[None]:
    """Plan for full reads within the block. After an error the server takes the settings back with the transaction."""
    were = session.rows(f"SELECT {', '.join(f'pg_catalog.current_setting({literal(name)})' for name in _PLANNING)}")[0]
    session.execute("; ".join(f"SET {name} = '{value}'" for name, value in _PLANNING.items()))
    yield
    session.execute("; ".join(f"SET {name} = '{value}'" for name, value in zip(_PLANNING, were)))


def take(
    session: Session,
    *,
    sections: Sequence[str] = SECTIONS,
    attempts: int = 20,
    beside: Callable[[Session], None] = lambda _session: None,
    at_the_end: Callable[[Session], None] = lambda _session: None,
) -> Snapshot:
    """Take a consistent snapshot in a transaction of its own.

    ``beside`` and ``at_the_end`` are called in that transaction, once an attempt, before and after the facts are read:
    what they read is of the same moment, and so is what another session reads under the exported snapshot meanwhile.

    The catalogs' rows are compared with what they are after the transaction: when other DDL committed in between,
    the facts may mix two states and are read again. Raises ``PhaseGateError`` when every attempt was disturbed.
    """
    reason = ""
    for _attempt in range(attempts):
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            beside(session)
            snapshot = _read_shared(session, sections)
            at_the_end(session)
        except SqlError as error:
            # an object that vanished between the catalog's row and its description
            if error.sqlstate not in ("XX000", "42P01", "42704", "42883", "3F000", "42703"):
                raise
            reason = str(error)
            continue
        finally:
            session.execute("ROLLBACK")
        assert snapshot.watched
        if _watch.look(session, reference=snapshot.watched.reference).digest == snapshot.watched.digest:
            return snapshot
        reason = "the catalogs changed while they were read"
    raise PhaseGateError(
        "Could not take a consistent schema snapshot.",
        expected=f"one of {attempts} attempts during which no other session commits DDL",
        found=reason,
        next_step="wait until the other sessions' DDL is done, or stop it, then run again",
    )


def unchanged_since(session: Session, base: Snapshot) -> bool:
    """Return whether no catalog row has changed since ``base`` was read; far cheaper than reading the facts again."""
    assert base.watched, "only a snapshot taken by a session has the catalogs' state"
    return _watch.look(session, reference=base.watched.reference).digest == base.watched.digest


def read_changed(session: Session, base: Snapshot) -> Snapshot:
    """Return the facts as they are now, reading only what changed since ``base``; for use inside our own transaction.

    Re-read are the carriers of all catalog rows that are newer than ``base``, those of the objects that depend on them,
    and vanished ones are removed. Where that may not be enough (a rename, a change to what the deparser looks up by
    name) everything is read again, so the result always equals ``read_facts``. Raises ``SqlError``.
    """
    if base.watched is None:
        return read_facts(session, sections=base.header.sections)
    watched = _watch.look(session, reference=base.watched.reference)
    rows = base.rows()
    delta = _watch.compare(session, base.watched, watched, rows)
    if delta.everything:
        return read_facts(session, sections=base.header.sections)
    before: dict[str, str] = {}
    for row in (*delta.touched, *delta.gone):
        for line in rows.get(row, ()):
            before[f"{kind_of(line)} {base.facts[line]}"] = line
    now: dict[str, str] = {}
    for query in _queries(base.header):
        prefix = f"{query.carrier_class}/"
        only = [
            int(row[len(prefix) :])
            for row, shape in delta.touched.items()
            if row.startswith(prefix) and (not query.shapes or shape in query.shapes)
        ]
        if not only:
            continue
        # the whole answer first: it cannot be left half read
        for line, locator in list(_read(session, query, sorted(only))):
            old = before.get(f"{query.kind.name} {locator}")
            if (old is not None and _identity_text(old) != _identity_text(line)) or '"pg_catalog"' in _identity_text(
                line
            ):
                # A name changed, or a new object is found without its schema: texts elsewhere may change.
                return read_facts(session, sections=base.header.sections)
            now[line] = locator
    was = frozenset(before.values())
    return base.with_changes(was.difference(now), now, watched)


def kind_of(line: str) -> str:
    """Return the kind of the fact in a line, without decoding it."""
    return line[2 : line.index('"', 2)]


def _identity_text(line: str) -> str:
    start = line.index("[", 1)
    _identity, end = _DECODE(line, start)
    return line[start:end]
