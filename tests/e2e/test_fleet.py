# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several targets in one play: each has evidence of its own, and what fails on one is not left open on another."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.playbook import Play, play, write_inventory
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    extra = {"phasegate_rollup": str(directory / "results")}
    return play(directory, "incomex.phasegate.phase_alpha", inventory=inventory, limit="all", extra_vars=extra)


def rolled_up(directory: Path, name: str = "execute_alpha") -> dict[str, dict[str, Any]]:
    """Return the rows of the table beside its other form, by host."""
    made = directory / "results" / f"{name}.json"
    rows = {row["host"]: row for row in json.loads(made.read_text(encoding="utf-8"))["hosts"]}
    text = made.with_suffix(".md").read_text(encoding="utf-8")
    assert all(f"| `{host}` |" in text for host in rows)
    assert made.with_suffix(".html").read_text(encoding="utf-8").startswith("<!doctype html>")
    names = [one.get("name") for one in ET.parse(made.with_suffix(".xml")).iter("testcase")]
    assert names == list(rows)
    return rows


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
    rows = rolled_up(tmp_path)
    assert {name: rows[name]["outcome"] for name in fleet} == dict.fromkeys(fleet, "SUCCESS")
    # once, and not before the last host is through
    shown = ended.of("Show the results of all hosts").res["msg"].splitlines()
    assert [line.split()[0] for line in shown] == ["host", *fleet]
    identifiers = {target.system_identifier for target in fleet.values()}
    assert len(identifiers) == 2
    executed = {name: str(target.bundle().path) for name, target in fleet.items()}
    entries = {
        name: {**target.entry(), "phasegate_execution": executed[name], "phasegate_confirm": Path(executed[name]).name}
        for name, target in fleet.items()
    }
    undo = {"phasegate_rollup": str(tmp_path / "results")}
    inventory = write_inventory(tmp_path / "undo.yml", entries)
    undone = play(tmp_path, "incomex.phasegate.rollback", inventory=inventory, limit="all", extra_vars=undo)
    assert undone.rc == 0, undone.stdout
    rows = rolled_up(tmp_path, "rollback_alpha")
    assert {name: row["outcome"] for name, row in rows.items()} == dict.fromkeys(fleet, "SUCCESS")
    assert not set(executed.values()) & {row["bundle"] for row in rows.values()}


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
    rows = rolled_up(tmp_path)
    assert rows["first"]["outcome"] in bundle.text("SUMMARY.txt")
    assert rows["second"]["outcome"] == "NOT_STARTED"
    assert len(ended.failures) == 1
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
    (failure,) = ended.failures
    assert "Build the report and seal" in failure.task
    rows = rolled_up(tmp_path)
    assert {name: row["outcome"] for name, row in rows.items()} == {"first": "SUCCESS", "second": "ROLLED_BACK"}
    for name, row in rows.items():
        bundle = fleet[name].bundle()
        assert (row["database"], row["bundle"]) == (fleet[name].database, str(bundle.path))
        assert row["seconds"] == bundle.json("report.json")["seconds"]
    assert rows["first"]["reason"] == ""
    assert rows["second"]["reason"] == str(failure.res["msg"]).splitlines()[0]
    (head, *lines) = ended.of("Show the results of all hosts").res["msg"].splitlines()
    assert head.split() == ["host", "database", "outcome", "reason", "seconds", "bundle"]
    assert [line.split()[:3] for line in lines] == [
        [name, row["database"], row["outcome"]] for name, row in rows.items()
    ]
    (recap,) = [event["event_data"] for event in ended.events if event["event"] == "playbook_on_stats"]
    assert recap["artifact_data"]["phasegate_rollup"]["execute alpha"] == rows


def test_a_table_that_cannot_be_written_changes_nothing(fleet: dict[str, Target], tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file", encoding="utf-8")
    ended = run(fleet, tmp_path)
    assert ended.rc == 0, ended.stdout
    assert all(target.migrated for target in fleet.values())
    assert {one.task.rpartition(" : ")[2] for one in ended.failures if one.ignored} == {"Roll-up | Make the directory"}
    assert len(ended.of("Show the results of all hosts").res["msg"].splitlines()) == 3
