# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run waits for on the server, seen from another session while it waits: locks, and how far an index is built."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Callable, ContextManager, Iterator

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import LockAwaited, Progress
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.progress import watched
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Note
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

# How long a lock is waited for before its holders are asked for, in seconds: a shorter wait is not worth a session.
FIRST_SECONDS = 1.0

# The units of a plan's settings, in seconds.
_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}

# How much of a text that somebody else chose is recorded, in characters.
_SHOWN = 100

# pg_blocking_pids stops all lock traffic for a moment: it is called only for a session that waits.
_WAITING = """
WITH me AS MATERIALIZED (
  SELECT pid FROM pg_catalog.pg_stat_activity WHERE pid = {pid} AND wait_event_type = 'Lock')
SELECT coalesce(l.relation::pg_catalog.regclass::text, 'another transaction (' || l.locktype || ')'), l.mode,
  blocker::text, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.xact_start::text, '')
FROM me JOIN pg_catalog.pg_locks l ON l.pid = me.pid AND NOT l.granted
CROSS JOIN LATERAL (SELECT DISTINCT unnest(pg_catalog.pg_blocking_pids(me.pid)) AS blocker) b
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = blocker
ORDER BY a.xact_start, blocker LIMIT 5
"""

_BUILDING = """
SELECT phase, CASE WHEN blocks_total > 0 THEN 'blocks' WHEN tuples_total > 0 THEN 'rows' WHEN lockers_total > 0 THEN 'lock holders' ELSE '' END,
  CASE WHEN blocks_total > 0 THEN blocks_done WHEN tuples_total > 0 THEN tuples_done ELSE coalesce(lockers_done, 0) END::text,
  CASE WHEN blocks_total > 0 THEN blocks_total WHEN tuples_total > 0 THEN tuples_total ELSE coalesce(lockers_total, 0) END::text
FROM pg_catalog.pg_stat_progress_create_index WHERE pid = {pid}
"""


def lock_wait(session: Session, pid: int) -> LockAwaited | None:
    """Return which lock the backend ``pid`` waits for and who is in its way; None when it waits for none."""
    found = session.rows(_WAITING.format(pid=int(pid)))
    if not found:
        return None
    holders = [
        {"pid": int(one or 0), "role": _shown(role), "application": _shown(application), "since": _shown(since)}
        for _what, _mode, one, role, application, since in found
    ]
    return LockAwaited(_shown(found[0][0]), found[0][1] or "", holders)


def index_build(session: Session, pid: int) -> Progress | None:
    """Return how far the backend ``pid`` is with building an index; None when it builds none."""
    found = session.rows(_BUILDING.format(pid=int(pid)))
    if not found:
        return None
    phase, unit, done, total = found[0]
    return Progress(phase or "", unit or "", int(done or 0), int(total or 0))


def watch_locks(client: Client, step: Step[Any], pid: int, timeout: str) -> ContextManager[None]:
    """Journal the locks that the backend ``pid`` waits for while the block runs; ``timeout`` is ``lock_timeout`` (``5s``).

    The line is there before the wait has timed out, unless it is too short to ask who is in the way.
    """
    return _watch(client, step, lambda session: lock_wait(session, pid), min(FIRST_SECONDS, seconds_of(timeout) / 3))


def watch_statement(client: Client, step: Step[Any], pid: int) -> ContextManager[None]:
    """Journal the phase of an index that the backend ``pid`` builds, and the locks that it waits for, while the block runs."""
    return _watch(client, step, lambda session: lock_wait(session, pid) or index_build(session, pid))


@contextlib.contextmanager
def _watch(
    client: Client, step: Step[Any], look: Callable[[Session], Note | None], first: float | None = None
) -> Iterator[None]:
    def once() -> Note | None:
        # a session for each look: none is open while nothing is looked at, and none outlives the run
        with client.session("phasegate:watch") as session:
            return look(session)

    with watched(step, once, first):
        yield


def seconds_of(setting: str) -> float:
    """Return the seconds of a duration as a plan has it, such as ``5s``."""
    found = re.fullmatch(r"(\d+)([a-z]+)", setting)
    return int(found[1]) * _UNITS[found[2]] if found else FIRST_SECONDS


def _shown(text: str | None) -> str:
    text = text or ""
    return escaped(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
