# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several targets in one play: each has evidence of its own, and what fails on one is not left open on another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.playbook import Play, play, write_inventory
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def elsewhere(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A target in a cluster of its own."""
    with running_cluster() as cluster:
        cluster.create_database("template")
        cluster.load(pytestconfig.rootpath / "tests" / "fixtures" / "phase_alpha.sql", "template")
        yield Target(cluster, "template", tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def fleet(target: Target, elsewhere: Target, tmp_path: Path) -> dict[str, Target]:
    """Two targets in two clusters; their runs stand in two directories."""
    elsewhere.cluster.drop_database("copy")
    elsewhere.cluster.create_database("copy", "template")
    return {
        "first": replace(target, directory=tmp_path / "first"),
        "second": replace(elsewhere, database="copy", directory=tmp_path / "second"),
    }


def run(fleet: dict[str, Target], directory: Path) -> Play:
    inventory = write_inventory(directory / "hosts.yml", {name: target.entry() for name, target in fleet.items()})
    return play(directory, "incomex.phasegate.phase_alpha", inventory=inventory, limit="all")


def test_two_targets_are_migrated_by_one_play(fleet: dict[str, Target], tmp_path: Path) -> None:
    ended = run(fleet, tmp_path)
    assert ended.rc == 0, ended.stdout
    for name, target in fleet.items():
        assert target.migrated
        bundle = target.bundle()
        bundle.assert_sealed()
        assert "SUCCESS" in bundle.text("SUMMARY.txt")
        report = bundle.json("report.json")
        assert report["host"] == name
        assert report["identity"]["system_identifier"] == target.system_identifier
    identifiers = {target.system_identifier for target in fleet.values()}
    assert len(identifiers) == 2


BEFORE_C07 = "DELETE FROM sandbox_tac.logical_unit WHERE ctid = '(0,1)'"
IN_C07 = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not today'; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON public.tac_logical_unit EXECUTE FUNCTION public.refuse();
"""


@pytest.mark.parametrize(
    ("spoil", "words"), [pytest.param(BEFORE_C07, "P-9", id="C-06"), pytest.param(IN_C07, "not today", id="C-07")]
)
def test_a_failure_keeps_the_next_target_from_beginning(
    fleet: dict[str, Target], tmp_path: Path, spoil: str, words: str
) -> None:
    fleet["first"].cluster.psql(spoil, fleet["first"].database)
    before = {name: target.state() for name, target in fleet.items()}
    ended = run(fleet, tmp_path)
    assert ended.rc != 0
    assert {name: target.state() for name, target in fleet.items()} == before
    bundle = fleet["first"].bundle()
    bundle.assert_sealed()
    assert words in bundle.reason
    assert fleet["second"].bundles() == []
    assert not [result for result in ended.results if result.host == "second" and result.status == "ok"]


def test_a_failure_does_not_interrupt_a_target_that_committed(fleet: dict[str, Target], tmp_path: Path) -> None:
    fleet["second"].cluster.psql(IN_C07, fleet["second"].database)
    before = fleet["second"].state()
    ended = run(fleet, tmp_path)
    assert ended.rc != 0
    assert fleet["first"].migrated
    assert fleet["second"].state() == before
    for name, word in (("first", "SUCCESS"), ("second", "ROLLED_BACK")):
        bundle = fleet[name].bundle()
        bundle.assert_sealed()
        assert word in bundle.text("SUMMARY.txt")
