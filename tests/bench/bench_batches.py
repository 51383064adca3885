# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change a large table in batches while pgbench writes to it, and kill the run again and again: each row once, nobody waits for long.

From the root of the checkout::

    PYTHONPATH=.collections .venv/bin/python -m ansible_collections.incomex.phasegate.tests.bench.bench_batches

Every row of pgbench's accounts is counted up by one: one that was changed twice, or not at all, shows. The latencies are pgbench's own, of a
time without the batches and of the time with them; ``stall`` is the longest transaction.
"""

from __future__ import annotations

import argparse
import functools
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import committed_batches
from ansible_collections.incomex.phasegate.tests.support.batches import in_process
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of, wait_for

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

DDL = b"""BEGIN;
ALTER TABLE public.pgbench_accounts ADD COLUMN times int NOT NULL DEFAULT 0;
COMMIT;
UPDATE public.pgbench_accounts SET times = times + 1 WHERE true;
"""
DATABASE = "postgres"
# of a line of pgbench's log with --rate
FIELDS = 7


@dataclass(frozen=True)
class Load:
    """What pgbench saw: transactions, those a second, and latencies in milliseconds."""

    transactions: int
    rate: float
    median: float
    p99: float
    stall: float

    @classmethod
    def read(cls, directory: Path, seconds: float) -> Load:
        """Read it from the logs of pgbench's clients."""
        lines = [line.split() for log in directory.glob("log.*") for line in log.read_text().splitlines()]
        # client, transaction, latency in microseconds, and four more; the last line is cut off where it was ended
        found = sorted(int(line[2]) / 1000 for line in lines if len(line) == FIELDS and line[2].isdigit())
        return cls(len(found), len(found) / seconds, found[len(found) // 2], found[int(len(found) * 0.99)], found[-1])

    def __str__(self) -> str:
        """Return a line for people."""
        return (
            f"{self.transactions} transactions, {self.rate:.0f} a second; latency: median {self.median:.1f} ms,"
            f" 99 % {self.p99:.0f} ms, stall {self.stall:.0f} ms"
        )


def pgbench(cluster: Cluster, *arguments: str) -> subprocess.Popen[bytes]:
    """Start pgbench."""
    argv = [str(bin_directory() / "pgbench"), "-h", str(cluster.socket_directory), "-p", str(cluster.port)]
    return subprocess.Popen(
        [*argv, "-U", cluster.psql("SELECT current_user"), *arguments, DATABASE],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def load(cluster: Cluster, directory: Path, rate: int) -> subprocess.Popen[bytes]:
    """Start the load; its latencies are in ``directory``."""
    directory.mkdir()
    prefix = f"--log-prefix={directory / 'log'}"
    return pgbench(cluster, "-n", "-c", "4", "-j", "1", "-R", str(rate), "-T", "3600", "--log", prefix)


def planned(cluster: Cluster, directory: Path, rows: int, lock_timeout: str) -> Run:
    """Return the prepared run."""
    (directory / "phase").mkdir()
    definition = {
        "scope": {"schemas": ["public"], "statements": ["ALTER TABLE ADD COLUMN", "UPDATE"]},
        "expect": {
            "tags": {"BEGIN": 1, "ALTER TABLE": 1, "COMMIT": 1, "UPDATE": 1},
            "rows": {"UPDATE": [int(cluster.psql("SELECT count(*) FROM pgbench_accounts"))]},
        },
        "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
        "batches": {"public.pgbench_accounts": {"by": "aid", "rows": rows}},
        "settings": {"lock_timeout": lock_timeout},
    }
    PhaseFiles(directory / "phase").write(definition, ddl=DDL, rollback=b"DROP TABLE public.t;\n")
    phase_file = str(directory / "phase" / "phase.yml")
    return Run.of(client_of(cluster, DATABASE), directory / "runs", phase_file).prepare()


def more(run: Run, before: int) -> bool:
    """Return whether a batch has been journaled since."""
    return len(run.events("batch")) > before


def measure(cluster: Cluster, directory: Path, options: argparse.Namespace) -> None:
    """Run everything and print the figures."""
    wait_for("pgbench's tables", lambda: pgbench(cluster, "-i", "-s", str(options.scale)).wait() == 0, 600)
    alone = load(cluster, directory / "alone", options.rate)
    time.sleep(options.quiet)
    alone.send_signal(signal.SIGINT)
    alone.wait()
    print("load alone:       ", Load.read(directory / "alone", options.quiet), flush=True)

    run = planned(cluster, directory, options.rows, options.lock_timeout)
    beside, started, kills = load(cluster, directory / "beside", options.rate), time.monotonic(), 0
    while kills < options.kills:
        process = in_process(run, finish=kills > 0)
        before = len(run.events("batch"))
        wait_for("a batch", functools.partial(more, run, before), 300)
        time.sleep(random.uniform(0, options.pause))  # noqa: S311 - no secret
        if not process.is_alive():
            break
        process.kill()
        process.join()
        kills += 1
        print(f"  kill {kills:2}: {len(run.events('batch'))} batches journaled", flush=True)
    outcome = run.finish()
    seconds = time.monotonic() - started
    beside.send_signal(signal.SIGINT)
    beside.wait()
    entries = run.artefacts.journal.entries()
    batches = committed_batches(entries, "C-07", 4)
    times = sorted(one.milliseconds for one in batches)
    resolved = [one["outcome"] for one in run.events("batch resolved")]
    print("beside batches:   ", Load.read(directory / "beside", seconds))
    print("message:          ", outcome.message or "none: COMMITTED, nothing left")
    print(
        "changed, rows of it:",
        cluster.psql("SELECT times, count(*) FROM pgbench_accounts GROUP BY 1 ORDER BY 1", DATABASE),
    )
    print("pgbench's balances:", cluster.psql(
        "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)", DATABASE
    ))  # fmt: skip
    print(
        f"killed {kills} times, last batch {resolved.count('COMMITTED')} x COMMITTED, {resolved.count('ROLLED_BACK')} x ROLLED_BACK;"
        f" lock timeouts {len(run.events('lock timeout'))}"
    )
    print(
        f"{len(batches)} batches of {options.rows} rows in {seconds:.0f} s;"
        f" each median {times[len(times) // 2]:.0f} ms, longest {times[-1]:.0f} ms"
    )


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=int, default=10, help="100 000 rows each")
    parser.add_argument("--rows", type=int, default=5000, help="rows of a batch")
    parser.add_argument("--rate", type=int, default=100, help="transactions of pgbench a second")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument(
        "--pause", type=float, default=4.0, help="seconds, at most, from the first batch of a process to its kill"
    )
    parser.add_argument("--quiet", type=float, default=15.0, help="seconds of the load alone")
    parser.add_argument("--lock-timeout", default="2s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_cluster({"max_wal_size": "4GB"}) as cluster:
        measure(cluster, Path(name), options)


if __name__ == "__main__":
    main()
