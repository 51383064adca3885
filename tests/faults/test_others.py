# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same faults with plain psql and with Sqitch: what an operator sees there, for the table.

What is expected stands beside each fault: the table must not claim of them what they do not do.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.conductor import descendants, gone, kill
from ansible_collections.incomex.phasegate.tests.support.others import BEFORE, CHANGE, Psql, Sqitch, Tool
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

TEMPLATE = "others_template"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock' AND NOT application_name = 'seen'"

_serial = itertools.count(1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster({"synchronous_commit": "local"}) as cluster:
        for kind in (Psql, Sqitch):
            cluster.create_database(TEMPLATE + kind.name)
            cluster.psql(BEFORE, TEMPLATE + kind.name)
        if Sqitch.installed():
            Sqitch(cluster, TEMPLATE + Sqitch.name, tmp_path_factory.mktemp("sqitch")).prepare()
        yield cluster


@pytest.fixture(params=[Psql, Sqitch], ids=["psql", "sqitch"])
def tool(request: pytest.FixtureRequest, shared: Cluster, tmp_path: Path) -> Tool:
    """A tool with a database of its own, in the state before the change."""
    if request.param is Sqitch and not Sqitch.installed():
        pytest.skip("sqitch is not installed here")
    name = f"others{next(_serial)}"
    shared.create_database(name, TEMPLATE + request.param.name)
    made = request.param(shared, name, tmp_path)
    assert isinstance(made, Tool)
    return made


@contextlib.contextmanager
def reading(tool: Tool) -> Iterator[psycopg.Connection]:
    """Read ``app.old`` in a transaction, so that the change has to wait."""
    with psycopg.connect(tool.cluster.dsn(tool.database)) as reader:
        reader.execute("SELECT * FROM app.old")
        yield reader


def waits(tool: Tool) -> None:
    wait_for("the change waits", lambda: tool.cluster.psql(WAITING.format(tool.database)) != "0")


def client(process: subprocess.Popen[str]) -> int:
    """Return the psql that runs the change: the process itself, or a child of it."""
    return (descendants(process.pid) or [process.pid])[-1]


def expect(seen: Seen, tool: Tool, found: str, psql: str, sqitch: str) -> None:
    """Require what is known of the tool, and note it."""
    assert found == {"psql": psql, "Sqitch": sqitch}[tool.name]
    seen(found, tool.name)


# --- changes that should not run as they are -------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A change that phasegate stops. ``more``: what else is looked at afterwards, as SQL that gives true."""

    fault: str
    sql: str
    found: str
    more: str = "SELECT true"
    by_sqitch: str = ""


BAD = [
    Bad("counts-missed", CHANGE.replace("SET note = 'kept'", "SET note = 'kept' WHERE id > 3"), "exit 0, A PART applied"),
    Bad("diff-undeclared", CHANGE + "ALTER TABLE app.old DROP CONSTRAINT old_pkey;\n", "exit 0, all applied",
        "SELECT count(*) = 0 FROM pg_constraint WHERE conrelid = 'app.old'::regclass"),
    Bad("file-changed", CHANGE + "DELETE FROM app.old WHERE id = 99;\n", "exit 0, all applied"),
    Bad("transaction-control", CHANGE.replace("UPDATE", "COMMIT;\nUPDATE no.table SET x = 1;\nUPDATE"),
        "exit 3, A PART applied", by_sqitch="exit 2, A PART applied"),
    Bad("meta-commands", "\\! touch escaped\n" + CHANGE, "exit 0, all applied; the shell command ran"),
    Bad("server-side", "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null';\n" + CHANGE, "exit 0, all applied"),
    Bad("bytes-refused", CHANGE.replace("\n", "\r\n"), "exit 0, all applied"),
    Bad("settings-changed", "SET search_path = app;\nSET statement_timeout = 0;\n" + CHANGE, "exit 0, all applied"),
    Bad("rewrite", CHANGE + "ALTER TABLE app.old ALTER id TYPE bigint;\n", "exit 0, all applied"),
    Bad("drift", CHANGE, "exit 0, all applied"),
]  # fmt: skip


@pytest.mark.parametrize("bad", [pytest.param(one, marks=pytest.mark.compared(one.fault), id=one.fault) for one in BAD])
def test_a_bad_change(tool: Tool, bad: Bad, seen: Seen) -> None:
    if bad.fault == "drift":
        tool.cluster.psql("ALTER TABLE app.old ADD COLUMN surprise int", tool.database)
    found = tool.run(bad.sql)
    if (tool.directory / "escaped").exists():
        found += "; the shell command ran"
    assert tool.cluster.psql(bad.more, tool.database) == "t"
    expect(seen, tool, found, bad.found, bad.by_sqitch or bad.found)


def run_cut(tool: Tool, cluster: Cluster, length: int) -> str:
    """Run the change cut after so many bytes, in a fresh database."""
    name = f"{tool.database}_{length}"
    cluster.create_database(name, TEMPLATE + tool.name)
    if isinstance(tool, Sqitch):
        found = Sqitch(cluster, name, tool.directory, cut=length).run()
    else:
        found = Psql(cluster, name, tool.directory).run(CHANGE[:length])
    cluster.drop_database(name)
    return found


@pytest.mark.compared("cut-anywhere")
def test_a_file_that_was_cut(tool: Tool, shared: Cluster, tmp_path: Path, seen: Seen) -> None:
    """Psql at every byte; Sqitch, which takes long, at the end of every statement."""
    if isinstance(tool, Psql):
        cuts = list(range(1, len(CHANGE) - 1))
    else:
        script = f"BEGIN;\n{CHANGE}"
        cuts = [place + 1 for place, letter in enumerate(script) if letter == ";"]
    found = [run_cut(tool, shared, length) for length in cuts]
    part = sum(one == "exit 0, A PART applied" for one in found)
    nothing = sum(one == "exit 0, nothing changed" for one in found)
    if tool.name == "psql":
        assert part > 0
        seen(f"exit 0 with A PART applied at {part} of {len(found)} cuts", "psql")
    else:
        assert nothing == len(found)
        seen(f"exit 0 and recorded as deployed with nothing changed at {nothing} of {len(found)} cuts", "Sqitch")


# --- the wrong place, again, two at once -----------------------------------------------------------------------


@pytest.mark.compared("same-again")
def test_the_same_change_again(tool: Tool, seen: Seen) -> None:
    assert tool.run() == "exit 0, all applied"
    expect(seen, tool, f"again: {tool.run()}", "again: exit 3, all applied", "again: exit 0, all applied")


@pytest.mark.compared("swapped-target")
def test_another_cluster_under_the_same_name(tool: Tool, seen: Seen) -> None:
    with running_cluster() as other:
        other.create_database(tool.database)
        other.psql(BEFORE, tool.database)
        elsewhere = type(tool)(other, tool.database, tool.directory)
        expect(seen, tool, elsewhere.run(), "exit 0, all applied", "exit 0, all applied")


@pytest.mark.compared("two-operators")
def test_two_at_once(tool: Tool, seen: Seen) -> None:
    with reading(tool) as reader:
        first = tool.start()
        waits(tool)
        second = tool.start()
        wait_for("the second waits", lambda: int(tool.cluster.psql(WAITING.format(tool.database))) > 1)
        reader.rollback()
    found = f"one: {tool.end(first)}; the other: {tool.end(second)}"
    text = "one: exit 0, all applied; the other: exit {}, all applied"
    expect(seen, tool, found, text.format(3), text.format(0))


# --- something is killed ---------------------------------------------------------------------------------------


@pytest.mark.compared("client-killed")
def test_the_client_is_killed(tool: Tool, seen: Seen) -> None:
    with reading(tool):
        change = tool.start()
        waits(tool)
        kill(client(change))
        change.wait(60)
    wait_for("the end of the backend", lambda: tool.cluster.psql(BACKENDS.format(tool.database)) == "0")
    found = tool.end(change)
    assert found in (
        "exit -9, nothing changed",
        "exit -9, all applied",
        "exit 2, nothing changed",
        "exit 2, all applied",
    )
    seen(f"{found}; nothing tells which", tool.name)


@pytest.mark.compared("controller-c07")
def test_sqitch_is_killed(tool: Tool, seen: Seen) -> None:
    if isinstance(tool, Psql):
        seen("does not apply: psql is the controller", tool.name)
        return
    with reading(tool) as reader:
        change = tool.start()
        waits(tool)
        below = descendants(change.pid)
        kill(change.pid)
        reader.rollback()
    change.wait(60)
    assert all(gone(pid, 60) for pid in below)
    state = tool.state()
    assert state == "all applied"
    again = tool.run()
    assert again.startswith("exit 2")
    seen(f"{state}, not recorded; every next deploy fails ({again.partition(',')[0]}: already exists)", tool.name)


BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'"


@pytest.mark.compared("server-killed")
def test_the_backend_is_terminated(tool: Tool, seen: Seen) -> None:
    with reading(tool):
        change = tool.start()
        waits(tool)
        tool.cluster.psql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{tool.database}'"
            " AND wait_event_type = 'Lock'"
        )
        change.wait(60)
    expect(seen, tool, tool.end(change), "exit 2, nothing changed", "exit 2, nothing changed")


@pytest.mark.compared("commit-unknown")
def test_the_connection_ends_while_commit_waits(tool: Tool, seen: Seen) -> None:
    cluster = tool.cluster
    cluster.psql(f"ALTER DATABASE {tool.database} SET synchronous_commit = on")
    ghost(cluster, "ghost")
    try:
        change = tool.start()
        waiting = (
            f"SELECT max(pid) FROM pg_stat_activity WHERE datname = '{tool.database}' AND wait_event = 'SyncRep'"
            " AND to_regclass('app.t') IS NULL"
        )
        pid = wait_for("COMMIT waits", lambda: cluster.psql(waiting, tool.database))
        cluster.psql(f"SELECT pg_terminate_backend({pid})")
        ghost(cluster, "")
        change.wait(60)
    finally:
        ghost(cluster, "")
    found = tool.end(change)
    again = tool.run()
    seen(f"{found}; again: {again}", tool.name)
    assert found == "exit 2, all applied"


def ghost(cluster: Cluster, name: str) -> None:
    """Let COMMIT wait for a standby that does not exist, in databases that ask for it."""
    cluster.psql(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    cluster.psql("SELECT pg_reload_conf()")
