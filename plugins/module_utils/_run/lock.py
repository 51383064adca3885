# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run per database: a separate session holds a lock from the opening to the seal (G-7).

A separate process on the target host keeps the session's psql, so that it lives from one module to the next. It ends
when the run is sealed, when its directory is missing, when the run cannot continue (``_over``), or when the run is
inactive for a while: then its controller was killed, and must not block others for ever. If that process is killed,
psql reads the end of its input and ends; if its host fails, ``idle_session_timeout`` ends the session.

C-07 and C-09 take a second lock in the session of their transaction: the first lock can be lost, the second cannot.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from typing import Any, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    DONE,
    FAILED,
    INTENT,
    LockTaken,
    RunLeft,
    RunOpened,
    SealBegun,
    record_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import recorded_lock
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_lock import RunLock
from ansible_collections.incomex.phasegate.plugins.module_utils._common.daemon import start_daemon
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, run_lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._run.host_lock import HostLock
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock_holders import (
    HOLDER,
    RUN_LOCK,
    TRANSACTION_LOCK,
    held_lock_gate,
    other_sessions,
)

# How often the holder and a waiting run check, in seconds.
POLL = 0.1

# How long the server waits at least for a query of the holder, in seconds.
SILENCE = 20

# How much longer than the holder's idle limit a run waits for the lock, in seconds.
PATIENCE = 5.0

# How much one check counts at most as observed time, in seconds: more than a busy host delays it.
PIECE = 0.5

_TRY = "pg_catalog.pg_try_advisory_lock({}, {})"


def _try(session: Session) -> RunLock | None:
    taken, pid, since = session.rows(
        f"SELECT {_TRY.format(*RUN_LOCK)}, pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    )[0]
    return RunLock(int(pid or 0), since or "") if taken == "t" else None


class _Observed:
    """A clock of what this process observed: holder and waiter measure inactivity with it, so that both mean the same time.

    It sums small pieces: a process that was stopped for a minute has not observed an inactive minute.
    """

    def __init__(self) -> None:
        self._last = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the last call, at most ``PIECE``."""
        last, self._last = self._last, time.monotonic()
        return min(self._last - last, PIECE)


def acquire_lock(session: Session, root: str, idle: int) -> RunLock | Gate:
    """Take the run's lock for the session, or return the failed gate G-7 that names its holder.

    A holder whose run, a directory below ``root``, is inactive may be about to end: this waits for it a little longer
    than ``idle`` seconds.
    """
    seen: tuple[int, ...] = ()
    observed, waited = _Observed(), 0.0
    while True:
        held = _try(session)
        if held:
            return held
        found = other_sessions(session, root)
        holder = next((other for other in found if other.lock == "run"), None)
        waited += observed.seconds()
        if holder:
            run = holder.directory if holder.confirmed else None
            sign = run.sign_of_life() if run else ()
            # what no run confirms does not end by itself; a sealed one is about to release its lock
            alive = not run or not sign or (not run.sealed and (run.working or seen not in ((), sign)))
            if alive or waited > idle + PATIENCE:
                return held_lock_gate(session, found)
            seen = sign
        elif waited > PATIENCE:
            # no session has it: a prepared transaction does
            return held_lock_gate(session, found)
        time.sleep(POLL)


def free_transaction_lock(session: Session, root: str) -> Gate | None:
    """Return the failed gate G-7 when somebody else holds the transaction's lock: C-07 could not take it."""
    begin = time.monotonic()
    while session.value(f"SELECT {_TRY.format(*TRANSACTION_LOCK)}") != "t":
        if time.monotonic() - begin > PATIENCE:
            return held_lock_gate(session, other_sessions(session, root), "transaction")
        time.sleep(POLL)
    session.value("SELECT pg_catalog.pg_advisory_unlock({}, {})".format(*TRANSACTION_LOCK))
    return None


def keep_lock(session: Session, artefacts: RunDirectory, idle: int, operator: str, host: HostLock) -> None:
    """Hand the session to a separate process, which holds its locks until the run ends; see above.

    ``idle`` is after how many inactive seconds it ends. ``operator`` is who opened the run, a claim that operators on other
    hosts see. ``host`` is the lock of this host, which that process holds as well.
    """
    host.note(os.path.basename(artefacts.path))
    words = re.sub(r"[^\w@.:+ -]", "_", f"run by {operator or 'unknown'} through {socket.gethostname()}")
    settings = {
        "application_name": HOLDER + os.path.basename(artefacts.path),
        # the server ends the session itself if this host fails or the process is stopped
        "idle_session_timeout": f"{max(2 * idle, SILENCE)}s",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }
    session.execute(
        "SELECT "
        + ", ".join(
            f"pg_catalog.set_config({literal(name)}, {literal(text)}, false)" for name, text in settings.items()
        )
    )
    to_psql, from_psql = session.descriptors

    def work(started: Any) -> None:
        started()
        _hold(to_psql, from_psql, artefacts, idle, f"SELECT '{words}';\n".encode())

    if not start_daemon(work, keep=(to_psql, from_psql, host.descriptor)):
        raise PhaseGateError(
            "The process that holds the run's lock did not start.",
            expected="a process in the background on the target host",
            found="it ended at once",
            next_step="find out what keeps this user from starting processes there (limits, memory), then run again",
        )
    session.leave()


def _hold(to_psql: int, from_psql: int, artefacts: RunDirectory, idle: float, beat: bytes) -> None:
    """Hold until the run is sealed or over, its directory or psql is missing, or it was inactive for ``idle`` seconds."""
    sign = artefacts.sign_of_life()
    looked: tuple[int, ...] = ()
    quiet, beating = 0.0, 0.0
    os.write(to_psql, beat)
    observed = _Observed()
    while artefacts.has_run and not artefacts.sealed and quiet <= idle:
        if select.select([from_psql], [], [], POLL)[0] and not os.read(from_psql, 65536):
            return
        passed = observed.seconds()
        now = artefacts.sign_of_life()
        alive = now != sign or artefacts.working
        quiet, sign = (0.0 if alive else quiet + passed), now
        if not alive and looked != now:
            looked = now
            if _over(artefacts):
                return
        beating += passed
        if beating >= min(5.0, idle):
            beating = 0.0
            os.write(to_psql, beat)


def _over(artefacts: RunDirectory) -> bool:
    """Return whether an unsealed run cannot continue: a step or the seal was interrupted, or its controller left it.

    A process that does a step holds the directory from before the intent until after the outcome: if the intent is the
    last entry and the directory is not held, that process is dead.
    """
    sign = artefacts.sign_of_life()
    try:
        entries = artefacts.journal.entries()
    except PhaseGateError:
        return False
    if artefacts.working or sign != artefacts.sign_of_life():
        return False
    begun: set[str] = set()
    for entry in entries:
        if isinstance(record_of(entry), (RunOpened, LockTaken)):
            # whoever continues a run knows what was interrupted before
            begun.clear()
        elif entry.event == INTENT:
            begun.add(entry.step)
        elif entry.event in (DONE, FAILED):
            begun.discard(entry.step)
    return bool(begun) or isinstance(record_of(entries[-1]) if entries else None, (SealBegun, RunLeft))


def lock_gate(session: Session, entries: Sequence[Entry], root: str) -> Gate:
    """G-7 right before a transaction: the run's holder has its lock, and this session gets the transaction's.

    ``entries`` are those of the run's journal: whoever opened it last recorded which session has the lock. ``root`` is the
    directory of all runs.
    """
    taken = session.value(f"SELECT {_TRY.format(*TRANSACTION_LOCK)}") == "t"
    found = other_sessions(session, root)
    holder = next((other for other in found if other.lock == "run"), None)
    own = holder is not None and holder.held == recorded_lock(entries)
    if own and not taken:
        return held_lock_gate(session, [other for other in found if other != holder], "transaction")
    if holder and not own:
        return held_lock_gate(session, found)
    others_found = [other.describe() for other in found if other != holder]
    return run_lock_gate(own and taken, holder.describe() if holder else "", others_found)
