# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who holds the locks of a database (G-7), and whether it can be a run.

Any role that may connect can take an advisory lock, choose its application name and send any query. So these are claims. The
role is what the server authenticated; a run is confirmed by its journal below the root of this host, which records the
session that holds its lock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import COMMAND, TransactionBegun
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    opening_of,
    recorded_lock,
    records_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_lock import RunLock
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, run_lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

# Two locks of each database, as two integers: the ASCII of "phas" and "hold", of "phas" and "egat".
RUN_LOCK = (0x70686173, 0x686F6C64)

TRANSACTION_LOCK = (0x70686173, 0x65676174)

HOLDER = "phasegate:hold:"

RUNNER = "phasegate:run:"

# How much of a text that somebody else chose is shown, in characters.
_SHOWN = 100

_HELD = f"""
  SELECT l.pid, min(l.virtualtransaction) AS owner, min(CASE WHEN l.objid = {RUN_LOCK[1]} THEN 'run' ELSE 'transaction' END) AS lock
  FROM pg_locks l
  WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = {RUN_LOCK[0]}
    AND l.objid IN ({RUN_LOCK[1]}, {TRANSACTION_LOCK[1]})
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# A role that may not see others' sessions sees their pid, role and application_name only.
_SESSIONS = f"""
SELECT a.pid::text, coalesce(a.usename, 'OID ' || a.usesysid, ''), coalesce(a.application_name, ''),
       coalesce(a.backend_start::text, ''), coalesce(substring(a.query FROM '^SELECT ''(run by [^'']*)'''), ''),
       coalesce(h.lock, ''), session_user
FROM pg_stat_activity a
LEFT JOIN ({_HELD} GROUP BY 1) h USING (pid)
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (h.pid IS NOT NULL OR a.application_name LIKE '{RUNNER}%')
ORDER BY h.lock NULLS LAST, a.backend_start
"""

# A lock that a prepared transaction holds belongs to no session.
_PREPARED = f"""
SELECT p.gid, p.owner, p.prepared::text
FROM ({_HELD} AND l.pid IS NULL GROUP BY l.pid, l.virtualtransaction) h
JOIN pg_locks t ON t.locktype = 'transactionid' AND t.pid IS NULL AND t.virtualtransaction = h.owner
JOIN pg_prepared_xacts p ON p.transaction = t.transactionid
"""


@dataclass(frozen=True)
class PhasegateSession:
    """Another session that holds a lock of this database, or that calls itself a run of phasegate.

    ``user`` is the role that the server authenticated, ``own_user`` that of this session. ``application`` and ``said`` are what
    the session claims. ``lock`` is ``run``, ``transaction`` or ''. ``said`` and ``since`` are '' to a role that may not see
    them. ``root`` is the directory of all runs on this host, '' if it is unknown.
    """

    pid: int
    user: str
    application: str
    since: str
    said: str
    lock: str
    own_user: str = ""
    root: str = ""

    @property
    def run(self) -> str:
        """Return the name of the run's artefact directory, as the session claims; '' for one that claims none."""
        prefix = next((prefix for prefix in (HOLDER, RUNNER) if self.application.startswith(prefix)), None)
        return "" if prefix is None else os.path.basename(self.application[len(prefix) :])

    @property
    def directory(self) -> RunDirectory | None:
        """Return the directory of the run that the session claims to be, None if this host has none of that name."""
        found = RunDirectory(os.path.join(self.root, self.run)) if self.root and self.run else None
        return found if found and found.has_run else None

    @property
    def held(self) -> RunLock:
        """Return what identifies this session."""
        return RunLock(self.pid, self.since)

    @property
    def confirmed(self) -> bool:
        """Return whether the run that the session claims to be recorded this session: that of its lock, or of its transaction."""
        directory = self.directory
        try:
            entries = directory.journal.entries() if directory else []
        except PhaseGateError:
            return False
        known = recorded_lock(entries)
        if known is not None and known.pid == self.pid and self.since in ("", known.since):
            return True
        begun = [one.pid for command in COMMAND.values() for one in records_of(entries, TransactionBegun, command)]
        return bool(directory and directory.working and begun and begun[-1] == self.pid)

    def describe(self) -> str:
        """Return the session in one line for the second operator: what is known, then what it claims."""
        since = f", since {self.since.split('.')[0]}" if self.since else ""
        known = f"pid {self.pid}, role {_shown(self.user)}{since}"
        if self.own_user and self.user != self.own_user:
            known += f" (not the role of this run, {_shown(self.own_user)})"
        if self.confirmed and self.directory:
            start = opening_of(self.directory.journal.entries())
            operator = f" of {_shown(start.operator)}" if start and start.operator else ""
            return f"run {self.run}{operator}, recorded in {self.directory.path}: {known}"
        claims = [f'application_name "{_shown(self.application)}"'] if self.application else []
        claims += [f'"{_shown(self.said)}"'] if self.said else []
        if not claims:
            return f"{known}; it does not call itself a run"
        if not self.root:
            unproved = "unproved"
        elif self.directory:
            unproved = f"unproved: the run of that name below {self.root} did not record this session"
        else:
            unproved = f"unproved: no run of that name below {self.root} on this host"
        return f"{known}; it claims {', '.join(claims)}, {unproved}"


def _shown(text: str) -> str:
    return escaped(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def other_sessions(session: Session, root: str = "") -> list[PhasegateSession]:
    """Return the other sessions of phasegate on this database, those that hold a lock first."""
    return [
        PhasegateSession(
            int(pid or 0), user or "", application or "", since or "", said or "", lock or "", own or "", root
        )
        for pid, user, application, since, said, lock, own in session.rows(_SESSIONS)
    ]


def _prepared(session: Session) -> list[str]:
    """Return the prepared transactions that hold a lock of this database, for people."""
    return [
        f'prepared transaction "{_shown(gid or "")}" of role {_shown(owner or "")}, since {(since or "").split(".")[0]};'
        " no run prepares a transaction"
        for gid, owner, since in session.rows(_PREPARED)
    ]


def held_lock_gate(session: Session, others: Sequence[PhasegateSession], lock: str = "run") -> Gate:
    """Return the failed G-7 that names who holds a lock of this database; ``others`` are the sessions found."""
    holder = next((other for other in others if other.lock == lock), None)
    rest = [other.describe() for other in others if other != holder]
    if holder:
        return run_lock_gate(False, holder.describe(), rest, "" if holder.confirmed else _unproved(holder))
    prepared = _prepared(session)
    next_step = "find out who prepared it; then, connected to this database: ROLLBACK PREPARED" if prepared else ""
    return run_lock_gate(False, "; ".join(prepared) or "a session that has ended meanwhile", rest, next_step)


def _unproved(holder: PhasegateSession) -> str:
    return (
        f"find out who uses role {_shown(holder.user)}: a run of another host, or of another root, must end by itself; any other"
        f" session has no reason to hold this lock: end it with SELECT pg_terminate_backend({holder.pid}) and revoke that"
        " role's CONNECT privilege"
    )


def observed_lock_gate(session: Session, root: str) -> Gate | None:
    """Return the failed G-7 when somebody else holds a lock of this database, without taking one (check mode)."""
    found = other_sessions(session, root)
    for lock in ("run", "transaction"):
        if any(other.lock == lock for other in found):
            return held_lock_gate(session, found, lock)
    return held_lock_gate(session, found) if _prepared(session) else None
