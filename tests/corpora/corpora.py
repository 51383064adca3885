# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schema pairs, histories and migration chains of other projects, and a server to load them on.

The corpora are not a part of this repository. They are looked for in the directory that ``PHASEGATE_CORPORA`` names
(unpacked), else in ``../shared/corpora/diff-corpora.tar.zst`` beside the checkout.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import SESSION_SETTINGS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import read_facts, take_snapshot
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

ARCHIVE = Path(__file__).resolve().parents[2].parent / "shared" / "corpora" / "diff-corpora.tar.zst"
_serial = itertools.count(1)


class MissingCorporaError(Exception):
    """The corpora are not here; the message says where they were looked for."""


class LoadError(Exception):
    """psql refused a script; the message is its first error."""


@contextlib.contextmanager
def unpacked() -> Iterator[Path]:
    """Yield the directory of the corpora. Raises ``MissingCorporaError``."""
    named = os.environ.get("PHASEGATE_CORPORA")
    if named:
        if not (Path(named) / "pairs" / "manifest.json").exists():
            raise MissingCorporaError(f"PHASEGATE_CORPORA names {named}, which holds no pairs/manifest.json")
        yield Path(named)
        return
    if not ARCHIVE.exists():
        raise MissingCorporaError(
            "no PHASEGATE_CORPORA in the environment and no ../shared/corpora/diff-corpora.tar.zst"
        )
    with tempfile.TemporaryDirectory(prefix="phasegate-corpora-") as directory:
        subprocess.run(["tar", "--zstd", "-xf", ARCHIVE, "-C", directory], check=True)
        yield Path(directory)


def manifest(root: Path, name: str) -> list[dict[str, Any]]:
    """Return the entries of one manifest, ``[]`` where this corpus is missing."""
    path = root / name
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return entries


@dataclass(frozen=True)
class Server:
    """A server to create databases on; ``bindir`` holds its client programs."""

    bindir: str
    host: str
    port: int
    user: str

    def client(self, database: str) -> Client:
        """Return the collection's own client for one database."""
        return Client(database=database, bindir=self.bindir, host=self.host, port=self.port, user=self.user)

    def psql(self, database: str, script: str, *, stop: bool = True) -> str:
        """Run a script and return its output; raises ``LoadError`` at the first error, without ``stop`` never."""
        argv = [f"{self.bindir}/psql", "-XAtq", "-h", self.host, "-p", str(self.port), "-U", self.user, "-d", database]
        done = subprocess.run(
            [*argv, "-v", f"ON_ERROR_STOP={int(stop)}", "-f", "-"],
            input=script, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if stop and done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "FATAL" in line]
            raise LoadError((errors or [done.stderr.strip()])[0])
        return done.stdout

    def roles(self, names: Sequence[str]) -> None:
        """Create the roles that scripts take for granted."""
        for name in names:
            quoted = '"' + name.replace('"', '""') + '"'
            self.psql("postgres", f"CREATE ROLE {quoted}", stop=False)

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Yield the name of a new database."""
        name = f"corpora_{os.getpid()}_{next(_serial)}"
        self.psql("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield name
        finally:
            # a database with a subscription cannot be dropped; it goes with its cluster
            self.psql("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", stop=False)

    def snapshot(self, database: str) -> Snapshot:
        """Take a snapshot with the code under test."""
        with self.client(database).session("corpora") as session:
            return take_snapshot(session)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Yield the server that ``PHASEGATE_CORPORA_SERVER`` describes (``bindir,host,port,user``), else a throw-away one."""
    described = os.environ.get("PHASEGATE_CORPORA_SERVER")
    if described:
        bindir, host, port, user = described.split(",")
        yield Server(bindir, host, int(port), user)
        return
    # no server setting changes what a schema is; these only keep the disk out of it
    with running_cluster({"max_locks_per_transaction": "1000", "autovacuum": "off"}) as cluster:
        yield Server(str(bin_directory()), str(cluster.socket_directory), cluster.port, SUPERUSER)


# What cannot be rolled back, or says itself when it commits; a function's body has words like these.
_BODY = re.compile(r"(\$\w*\$).*?\1", re.DOTALL)
_NOT_IN_A_TRANSACTION = re.compile(
    r"^\s*((BEGIN|COMMIT|ROLLBACK|START|END)( WORK| TRANSACTION)?\s*;|(VACUUM|REINDEX|(CREATE|DROP|ALTER) (DATABASE|SUBSCRIPTION|TABLESPACE))\b)"
    r"|\bCONCURRENTLY\b|\bADD VALUE\b|^\\",
    re.IGNORECASE | re.MULTILINE,
)
_LOADS_PER_DATABASE = 100


class Loader:
    """Loads scripts into empty databases and takes their snapshots; one that was loaded before is not loaded again.

    A script is loaded in a transaction, read in it and rolled back, which takes a fifth of the time that a database of
    its own needs; a script that will not have that gets one.
    """

    def __init__(self, on: Server) -> None:
        self._server = on
        self._known: dict[str, Snapshot | LoadError] = {}
        self._mine = threading.local()
        self._benches = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._benches.close()

    def snapshot(self, *scripts: str, stop: bool = True) -> Snapshot:
        """Return the snapshot of an empty database after these scripts. Raises ``LoadError``."""
        key = hashlib.sha256("\0".join(scripts).encode()).hexdigest() + str(stop)
        if key not in self._known:
            try:
                self._known[key] = self._load(scripts, stop)
            except LoadError as error:
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, LoadError):
            raise known
        return known

    def _load(self, scripts: Sequence[str], stop: bool) -> Snapshot:
        if not any(_NOT_IN_A_TRANSACTION.search(_BODY.sub("", script)) for script in scripts):
            with contextlib.suppress(SqlError):
                return self._rolled_back(scripts, stop)
        with self._server.database() as name:
            for script in scripts:
                self._server.psql(name, script, stop=stop)
            return self._server.snapshot(name)

    def _rolled_back(self, scripts: Sequence[str], stop: bool) -> Snapshot:
        session = self._session()
        # psql's own savepoints let a transaction go on after an error
        session.execute(f"\\set ON_ERROR_ROLLBACK {'off' if stop else 'on'}")
        session.execute("BEGIN")
        try:
            for script in scripts:
                with contextlib.nullcontext() if stop else contextlib.suppress(SqlError):
                    session.execute(f"RESET ALL;\n{script}")
            session.execute("\\set ON_ERROR_ROLLBACK off")
            for name, value in SESSION_SETTINGS.items():
                session.set(name, value)
            # another load into this database continues nothing
            return read_facts(session).unlocated()
        finally:
            session.execute("ROLLBACK")

    def _session(self) -> Session:
        """Return this thread's session; rolled-back rows make catalogs slow, so its database is a new one now and then."""
        loads = getattr(self._mine, "loads", _LOADS_PER_DATABASE)
        if loads >= _LOADS_PER_DATABASE:
            if hasattr(self._mine, "bench"):
                self._mine.bench.close()
            bench = contextlib.ExitStack()
            self._benches.push(bench)
            database = bench.enter_context(self._server.database())
            self._mine.session = bench.enter_context(self._server.client(database).session("corpora"))
            self._mine.bench = bench
            loads = 0
        self._mine.loads = loads + 1
        session: Session = self._mine.session
        return session
