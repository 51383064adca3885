# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts for the pre-run conditions, read from the server and the host before a run changes anything.

Nothing here waits for a lock: sizes are taken from files and from the catalog, never by opening a relation. A role
that may not see something gets None for it, or ``hidden``; nothing is guessed.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import BASEBACKUP, MARKER
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_json,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import array_literal

# A prepared transaction's locks have no pid, and its virtual transaction is the one of the session that prepared it
# until the server is started again: its lock on its own transaction id identifies it.
_SESSIONS = """
WITH wanted AS (
  SELECT CASE WHEN cardinality(parts) > 1 THEN ARRAY[parts[1]] ELSE {path} END AS schemas, parts[cardinality(parts)] AS name
  FROM unnest({names}) given, parse_ident(given) parts),
held AS (
  SELECT l.pid, l.virtualtransaction, array_agg(DISTINCT format('%I.%I', s.nspname, c.relname)) AS relations
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace s ON s.oid = c.relnamespace
  WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND EXISTS (SELECT FROM wanted w WHERE c.relname = w.name AND s.nspname = ANY (w.schemas))
  GROUP BY 1, 2)
SELECT json_build_object(
  'sessions', (
    SELECT coalesce(json_agg(json_build_object(
      'pid', a.pid, 'user', coalesce(a.usename, ''), 'application', coalesce(a.application_name, ''),
      'state', coalesce(a.state, ''), 'kind', coalesce(a.backend_type, ''),
      'age', extract(epoch FROM clock_timestamp() - a.xact_start), 'query', left(coalesce(a.query, ''), 200),
      'hidden', coalesce(a.query = '<insufficient privilege>', false),
      'relations', coalesce((SELECT h.relations FROM held h WHERE h.pid = a.pid LIMIT 1), '{{}}'))
      ORDER BY a.xact_start, a.pid), '[]')
    FROM pg_stat_activity a
    WHERE a.pid <> pg_backend_pid() AND (a.datname = current_database() OR a.application_name = 'pg_basebackup')
      AND (a.xact_start IS NOT NULL OR a.query = '<insufficient privilege>' OR a.application_name = 'pg_basebackup')),
  'prepared', (
    SELECT coalesce(json_agg(json_build_object(
      'gid', p.gid, 'owner', p.owner, 'age', extract(epoch FROM clock_timestamp() - p.prepared),
      'relations', coalesce((
        SELECT h.relations FROM held h JOIN pg_locks own USING (virtualtransaction)
        WHERE h.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid' AND own.transactionid = p.transaction
        LIMIT 1), '{{}}')) ORDER BY p.prepared), '[]')
    FROM pg_prepared_xacts p WHERE p.database = current_database()))
"""

# VERSION_NUM is psql's own version: PostgreSQL's programs are in one place. Without a backup to go by, a dump is at most
# as large as what the database has less its indexes. Their pages as the catalog has them are rather too few, so the
# bound stays one.
_CAPACITY = """
SELECT json_build_object(
  'now', extract(epoch FROM clock_timestamp()),
  'version', current_setting('server_version'),
  'version_num', current_setting('server_version_num')::int,
  'client_num', (:'VERSION_NUM')::int,
  'unix', inet_server_addr() IS NULL,
  'data_directory', CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END,
  'backup_bytes', {backup_bytes},
  'rewritten_bytes', (
    SELECT coalesce(sum(greatest(c.relpages, 0)), 0) * current_setting('block_size')::int8
    FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
    WHERE cardinality({rewrites}) > 0 AND format('%I.%I', s.nspname, c.relname) = ANY ({rewrites})),
  'lock_slots', current_setting('max_locks_per_transaction')::int8
    * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
  'standby_names', current_setting('synchronous_standby_names'),
  'synchronous_commit', current_setting('synchronous_commit'),
  'standbys', ({standbys}),
  'slots', (
    SELECT coalesce(json_agg(json_build_object(
      'name', slot_name, 'active', active, 'wal_status', coalesce(wal_status, '')) ORDER BY slot_name), '[]')
    FROM pg_replication_slots))
"""

_STANDBYS = """
    SELECT coalesce(json_agg(json_build_object(
      'name', coalesce(nullif(r.application_name, ''), 'pid ' || r.pid), 'state', coalesce(r.state, ''),
      'sync_state', coalesce(r.sync_state, ''), 'hidden', r.state IS NULL,
      'bytes', CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn)::int8 END,
      'seconds', extract(epoch FROM r.replay_lag)) ORDER BY r.application_name, r.pid), '[]')
    FROM pg_stat_replication r WHERE r.application_name <> 'pg_basebackup' AND r.state IS DISTINCT FROM 'backup'"""

_DATABASE_BYTES = """pg_database_size(current_database()) - (
    SELECT coalesce(sum(greatest(relpages, 0)), 0) * current_setting('block_size')::int8 FROM pg_class WHERE relkind = 'i')"""

# None when one database is closed to this role
_CLUSTER_BYTES = """(
    SELECT CASE WHEN bool_and(pg_has_role('pg_read_all_stats', 'USAGE') OR has_database_privilege(oid, 'CONNECT'))
      THEN sum(CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE') OR has_database_privilege(oid, 'CONNECT')
               THEN pg_database_size(oid) END) END
    FROM pg_database)"""

_DF = re.compile(r"^.*?\s+\d+\s+\d+\s+(-?\d+)\s+\S+\s+/", re.MULTILINE)


@dataclass(frozen=True)
class OtherSession:
    """A session with a transaction, or one whose transaction this role may not see (``hidden``).

    ``age`` is how many seconds the transaction is open, None where that is not visible; ``relations`` those of the plan
    on which it holds a lock; ``kind`` is pg_stat_activity's backend_type.
    """

    pid: int
    user: str
    application: str
    state: str
    kind: str
    age: float | None
    query: str
    hidden: bool
    relations: list[str]


@dataclass(frozen=True)
class PreparedTransaction:
    """A prepared transaction of this database; ``age`` in seconds since it was prepared."""

    gid: str
    owner: str
    age: float
    relations: list[str]


@dataclass(frozen=True)
class Standby:
    """A replica. ``bytes`` of WAL that it has not replayed and ``seconds`` of delay as last reported, None where unknown."""

    name: str
    state: str
    sync_state: str
    hidden: bool
    bytes: int | None
    seconds: float | None


def read_standbys(session: Session) -> list[Standby]:
    """Return the replicas that are connected now."""
    return [Standby(**one) for one in session.json(f"SELECT {_STANDBYS.strip().join('()')}")]


@dataclass(frozen=True)
class Slot:
    """A replication slot."""

    name: str
    active: bool
    wal_status: str


@dataclass(frozen=True)
class FreeSpace:
    """Free bytes of the file system at ``path``, None where it cannot be seen and ``why`` says the reason."""

    path: str
    free: int | None
    why: str = ""


@dataclass(frozen=True)
class PlanNeeds:
    """What the plan needs.

    ``names`` are the relations that its statements name, ``locks`` how many locks it takes, ``measured`` whether a
    rehearsal counted them; ``wal_bytes`` and ``rewrites`` (relations) are the rehearsal's, 0 and empty without one.
    """

    names: list[str]
    search_path: list[str]
    locks: int
    measured: bool
    wal_bytes: int
    rewrites: list[str]

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any], *, rollback: bool) -> PlanNeeds:
        """Return what the plan's DDL, or its rollback, needs."""
        rehearsal = plan.get("rehearsal", {})
        statements = plan["rollback" if rollback else "ddl"]["statements"]
        names = sorted({name for statement in statements for name in statement["relations"]})
        locks = len(rehearsal.get("locks", ()))
        return cls(
            names=names,
            search_path=list(plan["phase"]["settings"]["search_path"]),
            locks=locks or len(names),
            measured=bool(locks),
            wal_bytes=int(rehearsal.get("wal_bytes", 0)),
            rewrites=list((rehearsal.get("rollback", {}) if rollback else rehearsal).get("rewrites", ())),
        )


@dataclass(frozen=True)
class ConditionFacts:
    """Everything that was read. ``now`` is the server's clock in seconds since 1970.

    ``last_backup`` is the size of the newest one of this database with the same method, None without one;
    ``backup_bytes`` what one can need at most then, None where this role cannot see it.
    """

    now: float
    server_version: str
    server_version_num: int
    client_version_num: int
    sessions: list[OtherSession]
    prepared: list[PreparedTransaction]
    standbys: list[Standby]
    slots: list[Slot]
    standby_names: str
    synchronous_commit: str
    lock_slots: int
    rewritten_bytes: int
    last_backup: int | None
    backup_bytes: int | None
    artefacts: FreeSpace
    server: list[FreeSpace]


class Surroundings:
    """The facts for a run that is about to be opened: slow queries start at once, ``facts`` reads everything.

    ``root`` is the directory of all runs, ``method`` the backup method of the run.
    """

    def __init__(
        self, session: Session, client: Client, need: PlanNeeds, root: str, method: str, identity: Identity
    ) -> None:
        self._session, self._need, self._root = session, need, root
        self._last = _last_backup(root, method, identity)
        bound = _CLUSTER_BYTES if method == BASEBACKUP else _DATABASE_BYTES
        self._capacity = session.json(
            _CAPACITY.format(
                backup_bytes="NULL::int8" if self._last is not None else bound,
                rewrites=array_literal(need.rewrites),
                standbys=_STANDBYS,
            )
        )
        self._space = _Space(client, self._capacity)

    def facts(self) -> ConditionFacts:
        """Read the rest."""
        capacity, need = self._capacity, self._need
        names, path = array_literal(need.names), array_literal(need.search_path)
        activity = self._session.json(_SESSIONS.format(names=names, path=path))
        return ConditionFacts(
            now=capacity["now"],
            server_version=capacity["version"],
            server_version_num=capacity["version_num"],
            client_version_num=capacity["client_num"],
            sessions=[OtherSession(**one) for one in activity["sessions"]],
            prepared=[PreparedTransaction(**one) for one in activity["prepared"]],
            standbys=[Standby(**one) for one in capacity["standbys"]],
            slots=[Slot(**one) for one in capacity["slots"]],
            standby_names=capacity["standby_names"],
            synchronous_commit=capacity["synchronous_commit"],
            lock_slots=capacity["lock_slots"],
            rewritten_bytes=capacity["rewritten_bytes"],
            last_backup=self._last,
            backup_bytes=capacity["backup_bytes"],
            artefacts=_room(_existing(self._root)),
            server=self._space.rooms(),
        )


def _last_backup(root: str, method: str, identity: Identity) -> int | None:
    """Return the bytes of the newest backup of this database below ``root`` that was made by the same method."""
    names = os.listdir(root) if os.path.isdir(root) else []
    for name in sorted(names, key=lambda name: name.rpartition("_")[2], reverse=True):
        with contextlib.suppress(PhaseGateError, OSError, ValueError, KeyError, TypeError):
            known = read_json(os.path.join(root, name, MARKER))
            here = (known["system_identifier"], known["database"], known["method"])
            if here == (identity.system_identifier, identity.database, method):
                return int(known["size"])
    return None


def _existing(path: str) -> str:
    """Return the nearest directory of the path that exists."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _room(path: str) -> FreeSpace:
    try:
        found = os.statvfs(path)
    except OSError as error:
        return FreeSpace(path, None, f"{path}: {error.strerror}")
    return FreeSpace(path, found.f_bavail * found.f_frsize)


class _Space:
    """The file systems of the server's data and of its WAL. A program in a container takes longer to start than a query."""

    def __init__(self, client: Client, capacity: Mapping[str, Any]) -> None:
        directory = capacity["data_directory"]
        self._paths = [directory, f"{directory}/pg_wal"]
        self._why = ""
        self._df: subprocess.Popen[bytes] | None = None
        if directory is None:
            self._why = "the server's data directory is not shown to this role (GRANT pg_read_all_settings)"
        elif not capacity["unix"]:
            self._why = "the server is reached by TCP, so it may run on another host"
        elif client.container:
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            self._df = client.start("df", "-Pk", *self._paths, **streams)

    def rooms(self) -> list[FreeSpace]:
        """Return both, in that order; one that cannot be seen when neither can."""
        if self._why:
            return [FreeSpace("", None, self._why)]
        if self._df is None:
            return [_room(path) for path in self._paths]
        said = self._df.communicate()[0].decode("utf-8", "replace").strip()
        free = _DF.findall(said)
        if len(free) != len(self._paths):
            return [FreeSpace("", None, f"df in the container printed: {said}")]
        return [FreeSpace(path, 1024 * int(blocks)) for path, blocks in zip(self._paths, free)]
