# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rehearsal measures inside its transaction: locks, time, WAL; and which rewrites a phase declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import families
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measured_locks import WRITERS_WAIT, strongest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import MigrationResult

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

    def end(self, session: Session, locked: Sequence[str] = ()) -> None:
        """Sum up, right before COMMIT: every lock is held until then.

        ``locked`` are the tables that were locked before the first statement. On production that is the strongest lock which the
        statements take, so it is held from there on.
        """
        for name in locked:
            mode = strongest(mode for relation, mode in self.first_seen if relation == name)
            since = self.first_seen.pop((name, WRITERS_WAIT), None)
            # none of a table whose name the first statement changes
            if since:
                self.first_seen[name, mode] = since
        now, wal = _now(session)
        self.microseconds, self.wal_bytes = now - self.started, wal - self.wal_start
        self.locks = [
            {"relation": relation, "mode": mode, "statement": number, "held_microseconds": now - since}
            for (relation, mode), (number, since) in sorted(self.first_seen.items())
        ]


def _now(session: Session) -> tuple[int, int]:
    now, wal = session.rows(_NOW)[0]
    return int(now or 0), int(wal or 0)


def undeclared_rewrites(
    session: Session, applied: MigrationResult, declared: Sequence[str], statements: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the rewritten tables that the phase does not declare. ``statements`` are the plan's.

    A truncated table has a new file by definition, and so has an empty one that an ALTER TABLE rewrites. Where no statement tells
    them apart, it was truncated: that is a change of data.
    """
    if not applied.rewrites:
        return []
    truncated = _names(session, statements, "TRUNCATE TABLE", declared)
    altered = _names(session, statements, "ALTER TABLE") if applied.emptied else set()
    return [
        name for name in applied.rewrites if name not in truncated and (name not in applied.emptied or name in altered)
    ]


def _names(session: Session, statements: Sequence[Mapping[str, Any]], tag: str, others: Sequence[str] = ()) -> set[str]:
    """Return the relations that statements of this tag name, and others, with their partitions and children."""
    named = sorted({*others, *(name for one in statements if one["tag"] == tag for name in one["relations"])})
    return {one.text for members in families(session, named).values() for one in members}
