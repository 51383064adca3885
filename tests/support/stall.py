# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application under load while a change waits for a lock that a long transaction holds: how long its queries wait."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory
from ansible_collections.incomex.phasegate.tests.support.others import BEFORE, Sqitch, Tool
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductors

CLIENTS = 4
LOCK_TIMEOUT = 1.0
#: How long an application has to wait behind another tool before the long transaction ends, in seconds.
LONG = 5 * LOCK_TIMEOUT

CHANGE = "ALTER TABLE app.old ADD COLUMN note text;\n"
PHASE = {
    "scope": {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN"]},
    "expect": {"tags": {"ALTER TABLE": 1}},
    "settings": {"lock_timeout": f"{LOCK_TIMEOUT:.0f}s"},
}
WAITED = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'app.old' AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '{} s'
"""


@dataclass
class Load:
    """An application that reads and writes one table with some sessions; ``longest`` when it has ended, in seconds."""

    cluster: Cluster
    database: str
    directory: Path
    table: str
    longest: float = 0.0

    def start(self) -> subprocess.Popen[bytes]:
        """Start, and return when every session is there."""
        script = self.directory / f"{self.table}.pgbench"
        script.write_text(
            f"\\set id random(1, 3)\nBEGIN;\nSELECT id FROM {self.table} WHERE id = :id;\n"
            f"UPDATE {self.table} SET id = id WHERE id = :id;\nEND;\n",
            encoding="utf-8",
        )
        options = ["--no-vacuum", f"--client={CLIENTS}", "--rate=100", "--time=600", f"--file={script}"]
        process = subprocess.Popen(
            [bin_directory() / "pgbench", *options, "--log", f"--log-prefix={self.table}", self.database],
            env={**self.cluster.environment(self.database), "PGAPPNAME": self.table},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        there = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{self.table}'"
        wait_for("every session", lambda: self.cluster.psql(there) == str(CLIENTS))
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End as at the end of its time, when each transaction that was begun is logged, and read the log."""
        process.send_signal(signal.SIGALRM)
        assert process.wait(60) == 0
        (log,) = self.directory.glob(f"{self.table}.{process.pid}")
        # client, number, time, script, two of the clock, how late it began; times in microseconds
        lines = [line.split() for line in log.read_text(encoding="ascii").splitlines()]
        assert len(lines) > CLIENTS
        self.longest = max(int(line[2]) - int(line[6]) for line in lines) / 1e6


@contextlib.contextmanager
def under_load(cluster: Cluster, database: str, directory: Path) -> Iterator[tuple[Load, Load]]:
    """Yield the load on the table that is to be changed, and an equal one on another table: what the machine costs."""
    directory.mkdir()
    cluster.psql(f"{BEFORE}; CREATE TABLE app.other AS TABLE app.old", database)
    loads = Load(cluster, database, directory, "app.old"), Load(cluster, database, directory, "app.other")
    processes = [load.start() for load in loads]
    try:
        yield loads
        for load, process in zip(loads, processes, strict=True):
            load.end(process)
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def held(cluster: Cluster, database: str) -> Iterator[int]:
    """Read the table in a transaction that stays open; yield its process id on the server."""
    with psycopg.connect(cluster.dsn(database), application_name="reporting") as holder:
        holder.execute("SELECT * FROM app.old")
        yield holder.info.backend_pid


def stall_with_phasegate(cluster: Cluster, database: str, directory: Path, conductors: Conductors) -> tuple[Load, Load]:
    """Run the phase until it gives up, and again when the long transaction has ended."""
    with under_load(cluster, database, directory) as loads:
        files = PhaseFiles(directory).write(PHASE, ddl=CHANGE.encode())
        order = {
            "connection": {
                "bindir": str(bin_directory()),
                "host": str(cluster.socket_directory),
                "database": database,
                "user": SUPERUSER,
            },
            "identity": {"database": database, "user": SUPERUSER},
            "phase": files.path,
            "root": str(directory / "artefacts"),
            "migrate": {"lock_attempts": 3},
        }
        with held(cluster, database) as pid:
            stopped = conductors.start(directory, **order).wait()
        assert stopped
        assert "C-07: statement 1 (ALTER TABLE, line 1): a lock was not granted in time" in stopped["msg"]
        assert f"pid {pid}, user {SUPERUSER}, application reporting, idle in transaction" in stopped["msg"]
        again = conductors.start(directory, **order).wait()
        assert again
        assert (again["msg"], again["result"]["outcome"]) == ("", "SUCCESS")
    return loads


def stall_with(tool: Tool) -> tuple[Load, Load]:
    """Run the change until a query of the application has waited for long, and let the long transaction end then."""
    with under_load(tool.cluster, tool.database, tool.directory) as loads:
        if isinstance(tool, Sqitch):
            tool.prepare()
        with held(tool.cluster, tool.database):
            change = tool.start(CHANGE)
            wait_for("a query that waited long", lambda: tool.cluster.psql(WAITED.format(LONG)) != "0")
            assert change.poll() is None
        change.communicate(timeout=60)
        assert change.returncode == 0
    return loads
