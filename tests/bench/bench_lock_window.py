# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how long Phase Alpha holds its locks, beside psql with the same file on the same database.

From the root of the checkout::

    PYTHONPATH=.collections .venv/bin/python -m ansible_collections.incomex.phasegate.tests.bench.bench_lock_window

The window is from the begin of the first request that takes a lock that others wait for until COMMIT has ended, both read from
the server's own log. The two alternate; every figure is the median of ``--rounds``.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.incomex.phasegate.tests.bench.bench_snapshot import FIXTURE, PHASE, SCHEMA
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.conductor import conducting
from ansible_collections.incomex.phasegate.tests.support.target import Target

PRODUCTION = FIXTURE.with_name("prodlike.sql")

# time in seconds, process, duration in milliseconds, and the text: in a line of its own where log_statement has it logged
_LINE = re.compile(
    r"(?P<at>\d+\.\d+) (?P<pid>\d+) LOG:  (?:duration: (?P<ms>[\d.]+) ms)?(?:\s*statement: (?P<text>.*))?", re.DOTALL
)

# What of C-07's requests belongs to what.
_PARTS = (
    ("COMMIT", re.compile(r"^COMMIT")),
    ("checks", re.compile(r"^DO .*transaction_read_only", re.DOTALL)),
    ("statements", re.compile(r"^DO ", re.DOTALL)),
)


#: What a window is split into, by the server's own time.
PARTS = ("statements", "checks", "rest", "COMMIT")


@dataclass(frozen=True)
class Request:
    """One request that the server has answered: begin and end in seconds, its text."""

    begin: float
    end: float
    text: str


@dataclass(frozen=True)
class Window:
    """From the first statement to COMMIT: ``seconds`` in all, and the server's own of each part."""

    seconds: float
    requests: int
    parts: dict[str, float]


def requests_of(log: str) -> dict[str, list[Request]]:
    """Return the requests by process, in the order in which they ended."""
    found: dict[str, list[Request]] = {}
    lines: list[str] = []
    for line in log.splitlines():
        if line.startswith("\t") and lines:
            lines[-1] += "\n" + line[1:]
        else:
            lines.append(line)
    begun: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if not match:
            continue
        if match["ms"] is None:
            begun[match["pid"]] = match["text"] or ""
            continue
        end = float(match["at"])
        text = match["text"] or begun.get(match["pid"], "")
        found.setdefault(match["pid"], []).append(Request(end - float(match["ms"]) / 1000, end, text))
    return found


def window_of(log: str, first: str) -> tuple[Window, list[Request]]:
    """Return the window of the only process whose transaction runs the statement that has this text."""
    for requests in requests_of(log).values():
        starts = [n for n, one in enumerate(requests) if first in one.text]
        ends = [n for n, one in enumerate(requests) if one.text.startswith("COMMIT")]
        if not starts or not ends:
            continue
        # measured tables are locked before the first statement
        begun = max((n for n in range(starts[0]) if requests[n].text.startswith("BEGIN")), default=starts[0])
        locked = next((n for n in range(begun, starts[0]) if requests[n].text.startswith("LOCK TABLE")), starts[0])
        own = requests[locked : next(n for n in ends if n > starts[0]) + 1]
        parts: dict[str, float] = {}
        for one in own:
            name = next((name for name, pattern in _PARTS if pattern.match(one.text)), "rest")
            parts[name] = parts.get(name, 0.0) + one.end - one.begin
        return Window(own[-1].end - own[0].begin, len(own), parts), own
    raise SystemExit(f"no process of the log commits {first!r}")


def measure(tables: int, rounds: int) -> tuple[dict[str, list[Window]], list[Request]]:
    """Execute Phase Alpha by psql and by phasegate in turns; return the windows by tool, and phasegate's last requests.

    ``tables``: 70 is the fixture, 700 with production's, more are generated.
    """
    settings = {
        "shared_buffers": "512MB",
        # reading pg_locks takes the longer, the more of them there can be
        "max_locks_per_transaction": "20000" if tables > 700 else "64",
        "log_min_duration_statement": "0",
        "log_line_prefix": "%n %p ",
    }
    windows: dict[str, list[Window]] = {"psql": [], "phasegate": []}
    own: list[Request] = []
    with running_cluster(settings) as cluster, conducting() as conductors, tempfile.TemporaryDirectory() as temporary:
        cluster.create_database("before")
        cluster.load(FIXTURE, "before")
        if tables == 700:
            cluster.load(PRODUCTION, "before")
        elif tables > 700:
            cluster.psql(SCHEMA, "before")
            cluster.psql(f"CALL app.build({tables})", "before")
        cluster.psql("ANALYZE", "before")
        log = cluster.root / "server.log"
        for number in range(rounds):
            for tool, measured in windows.items():
                cluster.psql("CREATE DATABASE directus TEMPLATE before")
                cluster.psql("CHECKPOINT")
                at = log.stat().st_size
                if tool == "psql":
                    psql: list[Path | str] = [
                        bin_directory() / "psql",
                        "-Xq",
                        "-v",
                        "ON_ERROR_STOP=1",
                        "-d",
                        cluster.dsn("directus"),
                    ]
                    subprocess.run([*psql, "-o", "/dev/null", "-f", PHASE / "migrate.sql"], check=True)
                else:
                    directory = Path(temporary) / str(number)
                    directory.mkdir()
                    answer = conductors.execute(Target(cluster, "directus", directory)).wait(1200)
                    if not answer or answer["msg"]:
                        raise SystemExit(f"the execution failed: {answer}")
                with log.open("rb") as file:
                    file.seek(at)
                    text = file.read().decode()
                window, own = window_of(text, "ALTER TABLE public.tac_logical_unit")
                measured.append(window)
                cluster.psql("DROP DATABASE directus")
    return windows, own


def main() -> None:
    """Measure one size, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", type=int, default=70, help="70: the fixture; 700: with production's; more: generated"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", action="store_true", help="print the requests of the last window")
    arguments = parser.parse_args()
    windows, own = measure(arguments.tables, arguments.rounds)
    print(
        f"{arguments.tables} tables, median of {arguments.rounds}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    base = statistics.median(one.seconds for one in windows["psql"])
    for tool, found in windows.items():
        seconds = statistics.median(one.seconds for one in found)
        parts = {name: statistics.median(one.parts.get(name, 0.0) for one in found) for name in PARTS}
        of_parts = ", ".join(f"{name} {part * 1000:.0f}" for name, part in parts.items())
        print(
            f"{tool:10} {seconds * 1000:7.1f} ms {seconds / base:6.2f} x psql, {found[-1].requests} requests,"
            f" of the server's time: {of_parts} ms"
        )
    if arguments.requests:
        begin = own[0].begin
        for one in own:
            first = " ".join(one.text.split())
            print(f"{(one.begin - begin) * 1000:8.1f} {(one.end - one.begin) * 1000:8.1f} ms  {first[:150]}")


if __name__ == "__main__":
    main()
