# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds a phase makes it stop when it is opened: nothing is backed up, nothing is changed, all of it is told."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster, running_cluster
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for
from ansible_collections.incomex.phasegate.tests.support.small_disk import mounted
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductors

FIXTURE = ROOT / "tests" / "fixtures" / "phase_alpha.sql"
PREPARING = {"max_prepared_transactions": "2"}


def with_state(cluster: Cluster, directory: Path) -> Target:
    """Load the state before Phase Alpha and return the target."""
    cluster.create_database("directus")
    cluster.load(FIXTURE, "directus")
    return Target(cluster, "directus", directory)


def stopped(conductors: Conductors, target: Target, name: str) -> str:
    """Execute, and return what the stop found of the condition; the evidence is sealed, without a backup."""
    answer = conductors.execute(target).wait()
    assert answer
    assert answer["msg"].startswith(f"Stopped by a pre-run condition: {name}."), answer
    for part in ("expected: ", "found: ", "next step: "):
        assert f"  {part}{name}: " in answer["msg"]
    bundle = target.bundles()[0]  # the second is of the conductor, which does not know it
    bundle.assert_sealed()
    assert {step for step, _event in bundle.steps()} == {"run", "C-05"}
    assert not list(bundle.path.glob("backup*"))
    (condition,) = (one for one in bundle.json("report.json")["conditions"] if one["status"] == "STOP")
    assert condition["id"] == name
    assert condition["found"] in re.sub(r"\\(\W)", r"\1", bundle.text("report.md"))
    return str(condition["found"])


@pytest.mark.fault("prepared-transaction")
def test_a_prepared_transaction_in_the_way(conductors: Conductors, tmp_path: Path, seen: Seen) -> None:
    with running_cluster(PREPARING) as cluster:
        target = with_state(cluster, tmp_path)
        cluster.psql(
            "BEGIN; LOCK TABLE public.tac_logical_unit IN ACCESS SHARE MODE; PREPARE TRANSACTION 'order 7'", "directus"
        )
        found = stopped(conductors, target, "prepared_transactions")
        assert found.startswith("'order 7', owner workflow_admin, prepared ")
        assert found.endswith("holds a lock on public.tac_logical_unit (in the way)")
        assert not target.migrated
        cluster.psql("ROLLBACK PREPARED 'order 7'", "directus")
        answer = conductors.execute(target).wait()
        assert answer
        assert answer["msg"] == ""
    seen(
        f"stopped when opened: {found.split(' s ago')[0].rpartition(', ')[0]}; rolled back by hand, the next run commits"
    )


@pytest.mark.fault("replica-lag")
def test_a_replica_that_lags(conductors: Conductors, tmp_path: Path, seen: Seen) -> None:
    with running_cluster() as cluster:
        target = with_state(cluster, tmp_path)
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        with running_cluster({"cluster_name": "second"}, primary=cluster) as standby:
            wait_for("the replica", lambda: cluster.psql(streaming) == "1")
            standby.psql("SELECT pg_wal_replay_pause()")
            wait_for("the pause", lambda: standby.psql("SELECT pg_get_wal_replay_pause_state()") == "paused")
            # more than the limit
            cluster.psql("CREATE TABLE filler AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 120000) i")
            found = stopped(conductors, target, "replica_lag")
            assert found.startswith("second: streaming, ")
            assert not target.migrated
    seen("stopped when opened: the replica named, with the bytes that it is behind")


@pytest.fixture
def small_cluster() -> Iterator[Cluster]:
    """A cluster on a file system with less room than has to be free."""
    place = Path(tempfile.mkdtemp(prefix="phasegate-disk-", dir="/tmp"))
    place.chmod(0o755)
    try:
        with mounted(place, "size=200m"):
            cluster = Cluster.create(place / "pg")
            try:
                cluster.start()
                yield cluster
            finally:
                cluster.remove()
    finally:
        place.rmdir()


@pytest.mark.fault("no-room")
def test_the_server_has_no_room(small_cluster: Cluster, conductors: Conductors, tmp_path: Path, seen: Seen) -> None:
    target = with_state(small_cluster, tmp_path)
    found = stopped(conductors, target, "server_space")
    assert found.count(f" MiB free at {small_cluster.data}") == 2
    assert not target.migrated
    seen("on the server: stopped when opened, both file systems named")


@pytest.mark.fault("no-room")
def test_the_artefacts_have_no_room(target: Target, conductors: Conductors, small_disk: Path, seen: Seen) -> None:
    small = Target(target.cluster, target.database, small_disk)
    found = stopped(conductors, small, "artefact_space")
    assert found.endswith(f"free at {small.root}")
    assert not target.migrated
    seen("for the artefacts: stopped when opened, the directory named")
