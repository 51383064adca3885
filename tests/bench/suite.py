# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare phasegate with what a careful operator does by hand, on one machine in one run.

``make bench`` prints a table of ratios and writes the raw values to build/bench/results.json; ``scripts/bench --write`` makes
docs/performance.md and its picture anew. A and B alternate, and every figure is the ratio of two medians. The parts:

- ``phase``: the whole of Phase Alpha in a container with a database of production's size, beside a shell driver
- ``window``: how long locks are held, beside psql with the same file
- ``snapshot``: the schema snapshot and what is done with it, beside ``pg_dump --schema-only``
- ``backup``: the backup with its digests, beside ``pg_dump`` alone
- ``fleet``: one database more in a play, beside ``pg_dump`` and psql for it
- ``runners``: a whole run beside other migration tools with the same change; `scripts/runners` installs them
- ``stall``: how long an application waits while a change waits for its lock, beside psql and Sqitch
- ``ssh``: a whole run over SSH, beside the same on one host
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.backup import back_up
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import BackupOptions
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.tests.bench import bench_lock_window, bench_snapshot, bench_tools
from ansible_collections.incomex.phasegate.tests.bench.bench_lock_window import PRODUCTION
from ansible_collections.incomex.phasegate.tests.bench.bench_snapshot import FIXTURE, PHASE
from ansible_collections.incomex.phasegate.tests.bench.figures import Figure, plot, table
from ansible_collections.incomex.phasegate.tests.bench.timing import ROOT, timed
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.playbook import write_inventory
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CONTAINER = "postgres"  # the name that the inventory's production has
USER = "workflow_admin"
FLEET = 10  # databases beside the first
NOISE = 64  # MB of the backup's database


def say(text: str) -> None:
    """Tell how far the work is."""
    sys.stderr.write(f"bench: {text}\n")


# --- the whole phase -------------------------------------------------------------------------------------------


def docker(*words: str | Path, text: str = "") -> str:
    """Run docker and return its output."""
    done = subprocess.run(["docker", *words], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"docker {words[0]}: {done.stderr}")
    return done.stdout


def in_database(sql: str, database: str = "postgres") -> str:
    """Run SQL in the container."""
    psql = ("psql", "-XAtq1" if database == "before" else "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", database)
    return docker("exec", "-i", CONTAINER, *psql, text=f"SET client_min_messages = warning;\n{sql}")


def phase(rounds: int) -> list[Figure]:
    """Measure the whole of Phase Alpha, each time from the same state of one container."""
    subprocess.run([ROOT / "scripts/engine", "start"], check=True)
    image = subprocess.run([ROOT / "scripts/image"], check=True, capture_output=True, text=True).stdout.strip()
    variables = ("-e", f"POSTGRES_USER={USER}", "-e", "POSTGRES_DB=directus", "-e", "POSTGRES_HOST_AUTH_METHOD=trust")
    # a container that is there already is not ours to replace
    container = docker("run", "-d", "--name", CONTAINER, *variables, image).strip()
    try:
        return _phase(rounds)
    finally:
        docker("rm", "-f", container)


def _phase(rounds: int) -> list[Figure]:
    ready = ("docker", "exec", CONTAINER, "pg_isready", "-q", "-h", "127.0.0.1")
    for _try in range(240):
        if subprocess.run(ready, check=False).returncode == 0:
            break
        time.sleep(0.25)
    in_database("ALTER DATABASE directus RENAME TO before")
    in_database("\n".join(path.read_text(encoding="utf-8") for path in (FIXTURE, PRODUCTION)), "before")
    gzip = Figure("whole phase, gzip as the driver", "shell driver, gzip 6", "s")
    default = Figure("whole phase, default compression", "shell driver, gzip 6", "s")
    with tempfile.TemporaryDirectory() as work:

        def measure(values: list[float], cpu: list[float], *argv: str | Path) -> None:
            for statement in (
                "DROP DATABASE IF EXISTS directus WITH (FORCE)",
                "CREATE DATABASE directus TEMPLATE before",
            ):
                in_database(statement)
            in_database("CHECKPOINT")
            seconds, used = timed(argv)
            drafts = "SELECT count(*) FROM public.tac_logical_unit WHERE authority = 'draft'"
            if in_database(drafts, "directus").strip() != "86":
                raise SystemExit(f"{argv[0]} did not migrate")
            values.append(seconds)
            cpu.append(used)

        def ours(figure: Figure, *more: str) -> None:
            # with a root of its own: in the evidence of an earlier run the phase would stand as applied already
            root = tempfile.mkdtemp(dir=work)
            playbook = ("ansible-playbook", "phase_alpha.yml", "-l", "prod", "-e", f"phasegate_root={root}")
            measure(figure.ours, figure.ours_cpu, *playbook, *more)

        driver = ROOT / "tests/bench/shell_driver"
        for number in range(rounds):
            measure(
                gzip.theirs,
                gzip.theirs_cpu,
                "bash",
                driver,
                CONTAINER,
                PHASE / "migrate.sql",
                f"{work}/by-hand-{number}",
            )
            ours(gzip, "-e", "phasegate_compression=gzip")
            ours(default)
    default.theirs, default.theirs_cpu = gzip.theirs, gzip.theirs_cpu
    gzip.note = "CPU seconds are those outside of the container, phasegate / driver"
    return [gzip, default]


# --- parts of it -----------------------------------------------------------------------------------------------


def window(rounds: int) -> list[Figure]:
    """Measure how long locks are held."""
    figures = []
    for tables in (70, 700, 10_000):
        figure = Figure(f"locks held, {tables} tables", "psql, same file", "ms")
        found, _own = bench_lock_window.measure(tables, max(rounds, 5))
        figure.ours = [one.seconds * 1000 for one in found["phasegate"]]
        figure.theirs = [one.seconds * 1000 for one in found["psql"]]
        parts = {
            name: statistics.median(one.parts.get(name, 0.0) for one in found["phasegate"]) * 1000
            for name in bench_lock_window.PARTS
        }
        rest = statistics.median(figure.ours) - sum(parts.values())
        figure.note = (
            f"{found['phasegate'][-1].requests} requests; "
            + ", ".join(f"{name} {part:.0f} ms" for name, part in parts.items())
            + f", between the requests {rest:.0f} ms"
        )
        figures.append(figure)
    return figures


def snapshot(rounds: int) -> list[Figure]:
    """Measure the snapshot of 10,000 tables and what is done with it."""
    facts, times, peak = bench_snapshot.measure_all(10_000, rounds)
    names = ("snapshot", "delta in the transaction", "diff of two loaded snapshots")
    figures = [
        Figure(f"{name}, 10,000 tables", "pg_dump --schema-only", "s", times[name], times["pg_dump"]) for name in names
    ]
    figures[0].note = f"{facts} facts; peak memory of the process, with five snapshots in it, {peak:.0f} MB"
    return figures


def backup(rounds: int) -> list[Figure]:
    """Measure a backup, with the digests of its tables, of a database that does not compress well."""
    figure = Figure(f"backup, {NOISE} MB", "pg_dump, same compression", "s")
    with running_cluster() as cluster, tempfile.TemporaryDirectory() as work:
        cluster.create_database("bench")
        rows = NOISE * 2**20 // 64
        cluster.psql(f"CREATE TABLE noise AS SELECT n, md5(n::text) AS text FROM generate_series(1, {rows}) n", "bench")
        client = client_of(cluster, "bench")
        for number in range(rounds):
            dump = client.argv(
                "pg_dump", "-Fc", "-Z", "gzip:6", "-f", f"{work}/{number}.dump", "-d", cluster.dsn("bench")
            )
            seconds, used = timed(dump)
            figure.theirs.append(seconds)
            figure.theirs_cpu.append(used)
            artefacts = RunDirectory(f"{work}/run-{number}")
            artefacts.create()
            begin = time.monotonic()
            back_up(client, artefacts, BackupOptions(compression="gzip"))
            figure.ours.append(time.monotonic() - begin)
    return [figure]


def fleet(rounds: int) -> list[Figure]:
    """Measure one database more in a play."""
    figure = Figure(f"each of {FLEET} databases more, forks 4", "pg_dump and psql", "s")
    with running_cluster() as cluster, tempfile.TemporaryDirectory() as temporary:
        cluster.create_database("before")
        cluster.load(FIXTURE, "before")

        def play(number: int, count: int) -> tuple[float, float]:
            work = Path(temporary) / f"{number}-{count}"
            names = [f"db{one}" for one in range(count)]
            for name in names:
                cluster.psql(f"CREATE DATABASE {name} TEMPLATE before")
            hosts = {name: Target(cluster, name, work / name).entry() for name in names}
            work.mkdir()
            inventory = write_inventory(work / "hosts.yml", hosts)
            words = ("ansible-playbook", "-i", inventory, "-l", "all", "-f", "4", "incomex.phasegate.phase_alpha")
            found = timed(words)
            for name in names:
                cluster.psql(f"DROP DATABASE {name} WITH (FORCE)")
            return found

        for number in range(rounds):
            (one, one_cpu), (many, many_cpu) = play(number, 1), play(number, 1 + FLEET)
            figure.ours.append((many - one) / FLEET)
            figure.ours_cpu.append((many_cpu - one_cpu) / FLEET)
            cluster.psql("CREATE DATABASE plain TEMPLATE before")
            dsn = cluster.dsn("plain")
            dump = timed([bin_directory() / "pg_dump", "-Fc", "-f", f"{temporary}/plain.dump", "-d", dsn])
            psql = timed(
                [bin_directory() / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", PHASE / "migrate.sql"]
            )
            figure.theirs.append(dump[0] + psql[0])
            figure.theirs_cpu.append(dump[1] + psql[1])
            cluster.psql("DROP DATABASE plain")
    figure.note = "the yardstick neither checks nor proves anything"
    return [figure]


PARTS: dict[str, Callable[[int], list[Figure]]] = {
    "phase": phase,
    "window": window,
    "snapshot": snapshot,
    "backup": backup,
    "fleet": fleet,
    "runners": bench_tools.runners,
    "stall": bench_tools.stall,
    "ssh": bench_tools.ssh,
}


def page(figures: Sequence[Figure]) -> str:
    """Return docs/performance.md."""
    return f"""# Performance

Ratios of medians, measured in one run by `make bench` on {machine()}. Below 1 phasegate is the faster one. The machine's load
stands beside each figure: a server, an application and the tools share its cores.

![The ratios as bars](performance.svg)

{table(figures)}
`make profile` shows where the time of a run goes. While locks are held, phasegate reads the schema again, what the
transaction changed, and runs every check of the phase before it commits; psql runs the statements and commits.

This page is written by `scripts/bench --write`.
"""


def machine() -> str:
    """Return the machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, PostgreSQL 16"


def write(figures: Iterable[Figure], output: Path) -> None:
    """Write the raw values."""
    output.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine(), "figures": [one.as_dict() for one in figures]}
    (output / "results.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure the parts, print the table, and write what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "3")))
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), help="the parts to measure")
    parser.add_argument(
        "--write", action="store_true", help="write docs/performance.md and its picture; needs all parts"
    )
    arguments = parser.parse_args()
    if arguments.write and set(arguments.only) != set(PARTS):
        parser.error("--write: the page has all parts")
    figures: list[Figure] = []
    for name in arguments.only:
        say(f"measuring {name}, {arguments.rounds} rounds")
        figures += PARTS[name](arguments.rounds)
        write(figures, ROOT / "build" / "bench")
    sys.stdout.write(f"{machine()}\n\n{table(figures)}")
    if arguments.write:
        (ROOT / "docs/performance.md").write_text(page(figures), encoding="utf-8")
        (ROOT / "docs/performance.svg").write_text(plot(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
