# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run per database on this host: a lock that no role of the database can take or release, beside the server's own.

It is a lock of the kernel on ``<root>/locks/<system identifier>_<database>``. The process that holds the run's session holds it,
too: it ends with that process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import urllib.parse
from dataclasses import dataclass

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, run_lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity

DIRECTORY = "locks"

# How long an opening waits for the process of a run that has just ended, in seconds.
PATIENCE = 5.0

_POLL = 0.05

_NOTE = 200


@dataclass(frozen=True)
class HostLock:
    """The lock as this process holds it, or a process that it started; ``descriptor`` is the open file."""

    path: str
    descriptor: int

    def note(self, run: str) -> None:
        """Write into the file which run holds the lock, for people."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"run {run}\n".encode(), 0)

    def leave(self) -> None:
        """Close the file in this process: the lock ends unless another process has the file open."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


def host_lock_path(root: str, identity: Identity) -> str:
    """Return the file whose lock is that of this database."""
    name = f"{identity.system_identifier}_{urllib.parse.quote(identity.database, safe='')}"
    return os.path.join(os.path.abspath(root), DIRECTORY, name)


def acquire_host_lock(root: str, identity: Identity) -> HostLock | Gate:
    """Take the lock of a database on this host, or return the failed gate G-7. Raises ``OSError``."""
    path = host_lock_path(root, identity)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + PATIENCE
    while not _locked(descriptor):
        if time.monotonic() > deadline:
            gate = _held(path, descriptor)
            os.close(descriptor)
            return gate
        time.sleep(_POLL)
    return HostLock(path, descriptor)


def observed_host_lock(root: str, identity: Identity) -> Gate | None:
    """Return the failed gate G-7 when another process holds the lock, without keeping it (check mode)."""
    path = host_lock_path(root, identity)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return None if _locked(descriptor) else _held(path, descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(path: str, descriptor: int) -> Gate:
    note = escaped(os.pread(descriptor, _NOTE, 0).decode("utf-8", "replace").strip())
    return run_lock_gate(
        False,
        f"a process on this host holds {path}" + (f" ({note})" if note else ""),
        [],
        f"wait until that run ends; if it hangs, find its process: fuser -v '{path}'",
    )
