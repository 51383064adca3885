# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rehearsal measures inside its transaction: locks, time, WAL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal

_NOW = "SELECT (1000000 * extract(epoch FROM clock_timestamp()))::int8, pg_current_wal_insert_lsn() - '0/0'"

# Relations of the phase's schemas; the catalogs' own locks are taken by every statement and block others only briefly.
_LOCKS = """
SELECT l.relation::regclass::text, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
  AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)
"""


def held_locks(session: Session) -> list[dict[str, str]]:
    """Return the locks that this transaction holds now, by relation and mode; all of them are held until it ends."""
    held = {(relation or "", mode or "") for relation, mode in session.rows(_LOCKS)}
    return [{"relation": relation, "mode": mode} for relation, mode in sorted(held)]


@dataclass
class Measurement:
    """The measurements of one transaction. Times in microseconds by the server's clock; ``wal_bytes`` of the cluster."""

    started: int = 0
    wal_start: int = 0
    first_seen: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    locks: list[dict[str, Any]] = field(default_factory=list)
    microseconds: int = 0
    wal_bytes: int = 0

    def begin(self, session: Session) -> None:
        """Record the starting point; call it in the transaction, before the first statement."""
        self.started, self.wal_start = _now(session)

    def observe(self, session: Session, statement: Mapping[str, Any]) -> None:
        """Record the locks that this statement took first."""
        now, _wal = _now(session)
        for relation, mode in session.rows(_LOCKS):
            self.first_seen.setdefault((relation or "", mode or ""), (int(statement["n"]), now))

    def end(self, session: Session) -> None:
        """Sum up, right before COMMIT: every lock is held until then."""
        now, wal = _now(session)
        self.microseconds, self.wal_bytes = now - self.started, wal - self.wal_start
        self.locks = [
            {"relation": relation, "mode": mode, "statement": number, "held_microseconds": now - since}
            for (relation, mode), (number, since) in sorted(self.first_seen.items())
        ]


def _now(session: Session) -> tuple[int, int]:
    now, wal = session.rows(_NOW)[0]
    return int(now or 0), int(wal or 0)


_TABLE_FILES = """
SELECT c.oid, c.relfilenode FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.relpersistence <> 't'
"""

# Only rows that this transaction, or one of its subtransactions, has made: nothing else can have a new file under its locks.
_MOVED = """
SELECT c.oid, c.relfilenode, c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND pg_catalog.age(c.xmin) <= pg_catalog.age('{xid}'::pg_catalog.xid)
ORDER BY 3
"""

# With their partitions and children, which a change of the parent rewrites.
_FAMILY = """
WITH RECURSIVE family AS (
  SELECT pg_catalog.to_regclass(name)::pg_catalog.oid AS oid FROM pg_catalog.unnest({names}::text[]) name
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid)
SELECT f.oid FROM family f WHERE f.oid IS NOT NULL
"""


def table_files(session: Session) -> dict[str, str]:
    """Return the file of every table by the table's oid."""
    return {oid or "": file or "" for oid, file in session.copy(_TABLE_FILES)}


def rewritten_tables(session: Session, before: Mapping[str, str], xid: str) -> dict[str, str]:
    """Return the tables, oid to name, whose file differs from ``before``; ``xid`` is this transaction's."""
    return {
        oid or "": name or ""
        for oid, file, name in session.copy(_MOVED.format(xid=int(xid) % 2**32))
        if before.get(oid or "", file) != file
    }


def undeclared_rewrites(
    session: Session, found: Mapping[str, str], declared: Sequence[str], statements: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the names of those in ``found`` that the phase does not declare. ``statements`` are the plan's.

    A table that a TRUNCATE names has a new file by definition.
    """
    emptied = {name for one in statements if one["tag"] == "TRUNCATE TABLE" for name in one["relations"]}
    names = sorted({*declared, *emptied})
    if not found or not names:
        return sorted(found.values())
    array = "ARRAY[" + ", ".join(literal(name) for name in names) + "]"
    permitted = {oid for (oid,) in session.rows(_FAMILY.format(names=array))}
    return sorted(name for oid, name in found.items() if oid not in permitted)
