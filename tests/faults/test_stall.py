# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an application waits while a change waits for a lock: with phasegate, with plain psql, with Sqitch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.others import Psql, Sqitch, Tool
from ansible_collections.incomex.phasegate.tests.support.stall import (
    LOCK_TIMEOUT,
    LONG,
    stall_with,
    stall_with_phasegate,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductors


@pytest.mark.fault("lock-held")
def test_no_query_waits_longer_than_the_lock_timeout(
    cluster: Cluster, tmp_path: Path, conductors: Conductors, seen: Seen
) -> None:
    names = {kind: f"stall_{kind}" for kind in ("phasegate", "psql", "sqitch")}
    for name in names.values():
        cluster.create_database(name)
    ours, machine = stall_with_phasegate(cluster, names["phasegate"], tmp_path / "phasegate", conductors)
    # half a timeout and the delays of the machine for what is not the wait for the lock: the change itself
    assert 0.5 * LOCK_TIMEOUT < ours.longest < 1.5 * LOCK_TIMEOUT + machine.longest
    seen(
        f"3 tries, the blocker named, the next run SUCCESS; longest stall of the application {ours.longest:.2f} s"
        f" with lock_timeout {LOCK_TIMEOUT:.0f} s ({machine.longest:.2f} s on a table that is not changed)"
    )
    tools: list[Tool] = [Psql(cluster, names["psql"], tmp_path / "psql")]
    if Sqitch.installed():
        tools.append(Sqitch(cluster, names["sqitch"], tmp_path / "sqitch"))
    for tool in tools:
        theirs, _machine = stall_with(tool)
        assert theirs.longest > LONG
        ratio = theirs.longest / ours.longest
        seen(f"as long as the lock is held: {theirs.longest:.2f} s here, {ratio:.1f} times phasegate's", tool.name)
    for name in names.values():
        cluster.drop_database(name)
