# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell where the time of one run of Phase Alpha goes: by command, task, process and SQL statement; with a flame graph.

From the root of the checkout: ``make profile``. The database is the fixture, with production's other tables, on an embedded cluster.
py-spy looks at every Python process a hundred times a second; the server logs each statement with its duration. Both slow
the run down, so that the shares are of interest here and not the sums: those are measured by ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from ansible_collections.incomex.phasegate.tests.bench.bench_lock_window import PRODUCTION, requests_of
from ansible_collections.incomex.phasegate.tests.bench.bench_snapshot import FIXTURE
from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster, bin_directory, running_cluster

ROOT = Path(__file__).resolve().parents[2]
RATE = 100  # samples a second
SHOWN = 15  # lines of a table

_PROCESS = re.compile(r'process (?P<pid>\d+):"(?P<command>.*?)"(?:;|$)')
_MODULE = re.compile(r"phasegate/plugins/modules/(\w+)\.py")
_BEFORE_NAME = re.compile(r"^.*(?:site-packages/|incomex/phasegate/plugins/|/lib/python[\d.]+/)")
_TABLE = re.compile(r"^COPY (?:\w+\.)?\w+ \(.*")
_LITERAL = re.compile(r"\$(pg[0-9a-f]{16})\$.*?\$\1\$|'[^']*'|\b\d+\b", re.DOTALL)


def run(cluster: Cluster, work: Path, name: str, form: str) -> tuple[Path, float, float, str]:
    """Execute Phase Alpha under py-spy; return its output, the seconds and CPU seconds of all processes, and the server's log."""
    cluster.psql("CREATE DATABASE directus TEMPLATE before")
    log = cluster.root / "server.log"
    at = log.stat().st_size
    found, root = work / name, work / f"artefacts-{form}"
    environment = {
        **os.environ,
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_times",
        "PHASEGATE_TASK_TIMES": str(work / f"tasks-{form}"),
        "PHASEGATE_LOCAL_BIN": str(bin_directory()),
        "PHASEGATE_LOCAL_PRODUCTION": str(cluster.socket_directory),
        "PHASEGATE_LOCAL_ROOT": str(root),
    }
    spy = [
        "py-spy",
        "record",
        "--subprocesses",
        "--full-filenames",
        "--rate",
        str(RATE),
        "--format",
        form,
        "--output",
        str(found),
    ]
    used, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [*spy, "--", "ansible-playbook", "phase_alpha.yml", "-l", "local"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds, now = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if not found.is_file() or not list(root.glob("*/report.json")):
        raise SystemExit(f"the run failed:\n{done.stdout}")
    with log.open("rb") as file:
        file.seek(at)
        text = file.read().decode()
    cluster.psql("DROP DATABASE directus WITH (FORCE)")
    return found, seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime, text


def table(title: str, unit: str, rows: list[tuple[str, float, str]]) -> str:
    """Return a table in Markdown, the longest first; ``rows`` are a name, its amount and a remark."""
    total = sum(amount for _name, amount, _remark in rows)
    lines = [f"## {title}", "", f"| what | {unit} | share | |", "|---|--:|--:|---|"]
    rows = sorted(rows, key=lambda row: -row[1])
    for name, amount, remark in rows[:SHOWN]:
        lines.append(f"| {name.replace('|', '/')} | {amount:.2f} | {amount / (total or 1):.0%} | {remark} |")
    if len(rows) > SHOWN:
        rest = sum(amount for _name, amount, _remark in rows[SHOWN:])
        lines.append(f"| {len(rows) - SHOWN} others | {rest:.2f} | {rest / (total or 1):.0%} | |")
    return "\n".join([*lines, ""])


def commands(report: Path) -> str:
    """Return the table of the phase's commands, of report.json."""
    found = json.loads(report.read_text(encoding="utf-8"))["commands"]
    return table("Commands", "seconds", [(one["id"], one["seconds"] or 0.0, one["status"]) for one in found])


def tasks(lines: str) -> str:
    """Return the table of Ansible's tasks, as the callback wrote them."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in lines.splitlines():
        task = json.loads(line)
        found[task["name"]].append(task["seconds"])
    return table("Tasks", "seconds", [(name, sum(times), f"{len(times)} times") for name, times in found.items()])


def processes(stacks: str) -> str:
    """Return the tables of Python's processes and modules, of py-spy's stacks."""
    of_process: Counter[str] = Counter()
    of_file: Counter[str] = Counter()
    pids: dict[str, set[str]] = defaultdict(set)
    for line in stacks.splitlines():
        stack, _space, samples = line.rpartition(" ")
        owners = list(_PROCESS.finditer(stack))
        pid, command = (owners[-1]["pid"], owners[-1]["command"]) if owners else ("", "ansible-playbook")
        module = _MODULE.search(stack)
        name = (
            f"module {module[1]}"
            if module
            else "ansible-playbook"
            if "ansible-playbook" in command
            else "start of a module"
        )
        of_process[name] += int(samples)
        pids[name].add(pid)
        frame = stack.rpartition(";")[2]
        place = re.search(r"\((.+?):\d+\)$", frame)
        of_file[_BEFORE_NAME.sub("", place[1]) if place else "outside of Python's frames"] += int(samples)
    return "\n".join(
        [
            table(
                "Python processes",
                "CPU seconds",
                [(name, count / RATE, f"{len(pids[name])} processes") for name, count in of_process.items()],
            ),
            table("Python files", "CPU seconds", [(name, count / RATE, "") for name, count in of_file.items()]),
        ]
    )


def statements(log: str) -> str:
    """Return the table of SQL statements, of the server's log."""
    spent: dict[str, list[float]] = defaultdict(list)
    for requests in requests_of(log).values():
        for one in requests:
            text = " ".join(_LITERAL.sub("?", one.text).split())
            spent[_TABLE.sub("COPY of a table's rows, by pg_dump", text)[:90]].append((one.end - one.begin) * 1000)
    return table(
        "SQL", "milliseconds", [(f"`{text}`", sum(times), f"{len(times)} times") for text, times in spent.items()]
    )


def main() -> None:
    """Run twice, once for the tables and once for the graph, and write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "profile", help="directory, made where missing")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    settings = {"log_min_duration_statement": "0", "log_line_prefix": "%n %p "}
    with running_cluster(settings) as cluster, tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        cluster.create_database("before")
        for fixture in (FIXTURE, PRODUCTION):
            cluster.load(fixture, "before")
        stacks, seconds, cpu, text = run(cluster, work, "stacks", "raw")
        report = next((work / "artefacts-raw").glob("*/report.json"))
        page = "\n".join(
            [
                "# Where the time of a run goes",
                "",
                f"Phase Alpha, 700 tables, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}: {seconds:.1f} s,"
                f" {cpu:.1f} CPU seconds of Ansible, Python and psql, watched {RATE} times a second.",
                "",
                commands(report),
                tasks((work / "tasks-raw").read_text(encoding="utf-8")),
                processes(stacks.read_text(encoding="utf-8")),
                statements(text),
            ]
        )
        graph, _seconds, _cpu, _log = run(cluster, work, "graph.svg", "flamegraph")
        (arguments.output / "flame.svg").write_bytes(graph.read_bytes())
    (arguments.output / "profile.md").write_text(page, encoding="utf-8")
    sys.stdout.write(f"{page}\nflame graph: {arguments.output / 'flame.svg'}\n")


if __name__ == "__main__":
    main()
