# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a backup is while it is made: the bytes of its files, of an estimated total."""

from __future__ import annotations

import os
from typing import Callable

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import BASEBACKUP, NAMES
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Progress
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import PARTIAL
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client

# What a role may not see counts nothing. A dump leaves indexes out and is compressed, so it is smaller.
_SIZE = """
SELECT coalesce(sum(pg_catalog.pg_database_size(oid)), 0)::pg_catalog.int8::text FROM pg_catalog.pg_database
WHERE pg_catalog.has_database_privilege(oid, 'CONNECT') AND ({cluster} OR datname = pg_catalog.current_database())
"""


class TablesRead:
    """How many tables were read, of the source and then of the restored copy: ``seen`` of each counts them, and ``look`` tells."""

    def __init__(self) -> None:
        self._last: Progress | None = None

    def source(self, done: int, total: int) -> None:
        """Count tables of the source, which are read beside the dump."""
        self._last = Progress("read in the source", "tables", done, total)

    def copy(self, done: int, total: int) -> None:
        """Count tables of the restored copy."""
        self._last = Progress("compared in the restored copy", "tables", done, total)

    def look(self) -> Progress | None:
        """Return the newest count."""
        return self._last


def backup_progress(client: Client, directory: str, method: str, tables: TablesRead) -> Callable[[], Progress | None]:
    """Return what tells how far the backup in an artefact directory is; the first call asks the server for its size.

    Once the dump is written, it is the tables that are still read.
    """
    total: list[int] = []
    most = 0

    def look() -> Progress | None:
        nonlocal most
        if not total:
            total.append(_estimated(client, method))
        written = _size(os.path.join(directory, NAMES[method] + PARTIAL))
        # a file that gets its final name while a base backup's are counted is missed: what was written stays written
        most = max(most, written)
        return Progress("written", "bytes", most, total[0]) if written else tables.look()

    return look


def _estimated(client: Client, method: str) -> int:
    """Return the size of the database in bytes, of all for a base backup; 0 when the server does not say."""
    try:
        with client.session("phasegate:watch") as session:
            return int(session.value(_SIZE.format(cluster=str(method == BASEBACKUP).lower())) or 0)
    except PhaseGateError:
        return 0


def _size(path: str) -> int:
    """Return the bytes below a path; what vanishes meanwhile counts nothing."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            return sum(_size(one.path) for one in os.scandir(path))
        return os.lstat(path).st_size
    except OSError:
        return 0
