# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the facts of a database in one consistent snapshot, or only what changed since one."""

from __future__ import annotations

import contextlib
import json
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, ContextManager, Iterable, Iterator, NamedTuple, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import copy_field, literal
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import QUERIES
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import FactQuery, Kind
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.change_detection import (
    Delta,
    catalog_delta,
    fetch_catalog_state,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import ENCODER, kind_of
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import (
    SECTIONS,
    Header,
    Snapshot,
)

_DECODE = json.JSONDecoder().raw_decode


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
        return ENCODER.encode([kind.name, values[:names], values[names:]])
    return line


def _facts(query: FactQuery, rows: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield line and locator of each fact of one query's answer."""
    own, part = f"{query.carrier_class}/", f" {query.keyed_by}/"
    for row in rows:
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


def _queries(session: Session, header: Header) -> list[FactQuery]:
    queries = [query for query in QUERIES if query.section in header.sections and query.since <= session.major]
    if SECRETS[0].what in header.unseen:
        queries = [query.without("connection") if query.kind.name == "subscription" else query for query in queries]
    return queries


def read_facts(session: Session, *, sections: Sequence[str] = SECTIONS) -> Snapshot:
    """Read all facts in whatever transaction is open (each query in its own when none is).

    ``pg_get_*def`` sees what other sessions commit meanwhile: use ``take`` where that can happen. Raises ``SqlError``.
    """
    header = _header_of(session, sections)
    return Snapshot(header, _read_waiting(session, _in_line(session, header)), fetch_catalog_state(session))


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
    waiting = _in_line(session, header)
    exported = session.value("SELECT pg_catalog.pg_export_snapshot()")
    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(_help, session.another, exported or "", role or "none", waiting)
        watched = fetch_catalog_state(session)
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


def _in_line(session: Session, header: Header) -> queue.SimpleQueue[FactQuery]:
    """Return the queries, those that take longest first, so that two sessions end at about the same time."""
    waiting: queue.SimpleQueue[FactQuery] = queue.SimpleQueue()
    for query in sorted(_queries(session, header), key=lambda query: query.kind.name not in _LARGE):
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
            facts.update(_facts(query, session.copy_lines(query.sql(session.major))))


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


def take_snapshot(
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
        if fetch_catalog_state(session, reference=snapshot.watched.reference).digest == snapshot.watched.digest:
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
    return fetch_catalog_state(session, reference=base.watched.reference).digest == base.watched.digest


def read_changed(session: Session, base: Snapshot) -> Snapshot:
    """Return the facts as they are now, reading only what changed since ``base``; for use inside our own transaction.

    Re-read are the carriers of all catalog rows that are newer than ``base``, those of the objects that depend on them,
    and vanished ones are removed. Where that may not be enough (a rename, a change to what the deparser looks up by
    name) everything is read again, so the result always equals ``read_facts``. Raises ``SqlError``.
    """
    if base.watched is None:
        return read_facts(session, sections=base.header.sections)
    watched = fetch_catalog_state(session, reference=base.watched.reference)
    rows = base.rows()
    delta = catalog_delta(session, base.watched, watched, rows)
    if delta.everything:
        return read_facts(session, sections=base.header.sections)
    before: dict[str, str] = {}
    for row in (*delta.touched, *delta.gone):
        for line in rows.get(row, ()):
            before[f"{kind_of(line)} {base.facts[line]}"] = line
    now: dict[str, str] = {}
    wanted = [(query, _only(query, delta)) for query in _queries(session, base.header)]
    wanted = [(query, only) for query, only in wanted if only]
    answers = session.message([f"COPY ({query.sql(session.major, only)}) TO STDOUT" for query, only in wanted])
    for (query, _only_these), answer in zip(wanted, answers):
        if isinstance(answer, SqlError):
            raise answer
        for line, locator in _facts(query, answer):
            old = before.get(f"{query.kind.name} {locator}")
            if (old is not None and _identity_text(old) != _identity_text(line)) or '"pg_catalog"' in _identity_text(
                line
            ):
                # A name changed, or a new object is found without its schema: texts elsewhere may change.
                return read_facts(session, sections=base.header.sections)
            now[line] = locator
    was = frozenset(before.values())
    return base.with_changes(was.difference(now), now, watched)


def _only(query: FactQuery, delta: Delta) -> list[int]:
    """Return the OIDs of the touched carriers that a query is about."""
    prefix = f"{query.carrier_class}/"
    return sorted(
        int(row[len(prefix) :])
        for row, shape in delta.touched.items()
        if row.startswith(prefix) and (not query.shapes or shape in query.shapes)
    )


def read_again(session: Session, known: Snapshot) -> Snapshot:
    """Return the facts as they are now: ``known`` itself, with what is known of its base, when nothing changed since.

    For use where something was written since, if only to be rolled back.
    """
    now = read_changed(session, known)
    same = not (now.only_here(known) or known.only_here(now) or now.moved(known))
    return known if same else now


def _identity_text(line: str) -> str:
    start = line.index("[", 1)
    _identity, end = _DECODE(line, start)
    return line[start:end]
