# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other tools with the same change, how long an application waits behind each, and what a connection by SSH costs."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.tests.bench.bench_snapshot import FIXTURE, PHASE
from ansible_collections.incomex.phasegate.tests.bench.figures import Figure
from ansible_collections.incomex.phasegate.tests.bench.timing import timed
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.conductor import conducting
from ansible_collections.incomex.phasegate.tests.support.others import (
    Alembic,
    Dbmate,
    NodePgMigrate,
    PgMigrate,
    Psql,
    Sqitch,
    Tool,
)
from ansible_collections.incomex.phasegate.tests.support.playbook import write_inventory
from ansible_collections.incomex.phasegate.tests.support.ssh_server import SSHD, running_sshd
from ansible_collections.incomex.phasegate.tests.support.stall import (
    LOCK_TIMEOUT,
    LONG,
    stall_with,
    stall_with_phasegate,
)
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

TOOLS: tuple[type[Tool], ...] = (Psql, Sqitch, Dbmate, NodePgMigrate, PgMigrate, Alembic)
CHANGED = "SELECT count(*) FROM public.tac_logical_unit WHERE authority = 'draft'"
DOES = "a backup read in full, snapshots, preflight, checks in the transaction and after COMMIT, an exact diff, a sealed report"


def installed() -> list[type[Tool]]:
    """Return the tools that are here."""
    return [one for one in TOOLS if one.installed()]


def _plays(cluster: Cluster, directory: Path, hostvars: Mapping[str, Any]) -> tuple[float, float]:
    """Execute Phase Alpha once by its playbook; return its seconds and CPU seconds."""
    directory.mkdir(parents=True)
    cluster.psql("CREATE DATABASE directus TEMPLATE before")
    target = Target(cluster, "directus", directory, dict(hostvars))
    inventory = write_inventory(directory / "hosts.yml", {"target": target.entry()})
    found = timed(("ansible-playbook", "-i", inventory, "incomex.phasegate.phase_alpha"))
    _finish(cluster, "phasegate")
    return found


def _finish(cluster: Cluster, name: str) -> None:
    if cluster.psql(CHANGED, "directus") != "86":
        raise SystemExit(f"{name} did not migrate")
    cluster.psql("DROP DATABASE directus WITH (FORCE)")


def runners(rounds: int) -> list[Figure]:
    """Measure the whole of a run beside the whole of each other tool's, for the change of Phase Alpha."""
    sql = (PHASE / "migrate.sql").read_text(encoding="utf-8")
    # each tool opens the transaction itself
    sql = re.sub(r"^(BEGIN|COMMIT);\n", "", sql, flags=re.MULTILINE)
    figures = {
        tool: Figure(f"whole run beside {tool.name}", f"{tool.name}, same change", "s", plotted=False)
        for tool in installed()
    }
    ours: list[float] = []
    cpu: list[float] = []
    with running_cluster() as cluster, tempfile.TemporaryDirectory() as temporary:
        cluster.create_database("before")
        cluster.load(FIXTURE, "before")
        for number in range(rounds):
            seconds, used = _plays(cluster, Path(temporary) / f"ours-{number}", {})
            ours.append(seconds)
            cpu.append(used)
            for tool, figure in figures.items():
                cluster.psql("CREATE DATABASE directus TEMPLATE before")
                directory = Path(temporary) / f"{tool.name}-{number}"
                directory.mkdir()
                one = tool(cluster, "directus", directory)
                argv = one.argv(sql)
                seconds, used = timed(argv, directory, **one.environment())
                figure.theirs.append(seconds)
                figure.theirs_cpu.append(used)
                _finish(cluster, tool.name)
    for tool, figure in figures.items():
        figure.ours, figure.ours_cpu, figure.note = ours, cpu, f"{tool.name} does: {tool.does}. phasegate does: {DOES}"
    return [*figures.values()]


def stall(rounds: int) -> list[Figure]:
    """Measure the longest wait of an application's query while a long transaction holds the lock that the change needs."""
    tools = [tool for tool in installed() if tool in (Psql, Sqitch)]
    figures = {tool: Figure(f"longest stall of an application, beside {tool.name}", tool.name, "s") for tool in tools}
    with running_cluster() as cluster, conducting() as conductors, tempfile.TemporaryDirectory() as temporary:
        for number in range(rounds):
            for name in ("phasegate", *(tool.name for tool in tools)):
                cluster.create_database(f"{name.lower()}_{number}")
            here = Path(temporary) / str(number)
            here.mkdir()
            ours, _machine = stall_with_phasegate(cluster, f"phasegate_{number}", here / "phasegate", conductors)
            for tool, figure in figures.items():
                theirs, _machine = stall_with(tool(cluster, f"{tool.name.lower()}_{number}", here / tool.name))
                figure.ours.append(ours.longest)
                figure.theirs.append(theirs.longest)
    for figure in figures.values():
        figure.note = f"lock_timeout {LOCK_TIMEOUT:.0f} s with 3 tries; the long transaction ended when a query behind the other tool had waited {LONG:.0f} s"
    return [*figures.values()]


def ssh(rounds: int) -> list[Figure]:
    """Measure the whole of a run over SSH, with and without pipelining, beside the same on this host itself."""
    if not SSHD.exists():
        return []
    figures = {
        pipelining: Figure(
            f"a whole run over SSH, pipelining {'on' if pipelining else 'off'}", "the same without SSH", "s"
        )
        for pipelining in (True, False)
    }
    with running_cluster() as cluster, tempfile.TemporaryDirectory() as temporary:
        cluster.create_database("before")
        cluster.load(FIXTURE, "before")
        place = Path(temporary)
        (place / "ssh").mkdir()
        with running_sshd(place / "ssh") as reached:
            del reached["pid"]
            # one connection for all tasks, as Ansible has it by default
            reached["ansible_ssh_args"] = reached["ansible_ssh_args"].replace(
                "-o ControlMaster=no -o ControlPath=none",
                f"-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={place}/ssh/%C",
            )
            for number in range(rounds):
                local, local_cpu = _plays(cluster, place / f"local-{number}", {})
                for pipelining, figure in figures.items():
                    hostvars = {**reached, "ansible_ssh_pipelining": pipelining}
                    seconds, used = _plays(cluster, place / f"ssh-{pipelining}-{number}", hostvars)
                    figure.ours.append(seconds)
                    figure.ours_cpu.append(used)
                    figure.theirs.append(local)
                    figure.theirs_cpu.append(local_cpu)
    return [*figures.values()]
