# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nightly job: a first run stores, later ones compare, and drift is told on the screen, in files and by the status."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.bundle import tree
from ansible_collections.incomex.phasegate.tests.support.playbook import TaskResult, play, write_inventory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

PLAYBOOK = "incomex.phasegate.drift"
STRAY = "ALTER TABLE public.tac_logical_unit ADD COLUMN stray text"


def drift(target: Target, arguments: str = "", **inputs: Any) -> Play:
    """Run the playbook with some of its inputs."""
    extra = {f"phasegate_drift_{name}": value for name, value in inputs.items()}
    return target.play(PLAYBOOK, extra_vars=extra, arguments=arguments)


def directory(target: Target) -> Path:
    return target.root / "drift" / target.database


def failed_cases(file: Path) -> dict[str, str]:
    """Return what the JUnit document says of each test case that failed."""
    cases = ET.parse(file).getroot().iter("testcase")
    return {case.attrib["name"]: case.findtext("failure") or "" for case in cases if case.find("failure") is not None}


def the_failure(run: Play) -> TaskResult:
    """Return the only failure of a run that must have one."""
    assert run.rc != 0, run.stdout
    (failure,) = run.failures
    return failure


def test_the_life_of_a_baseline(target: Target) -> None:
    state = target.state()
    check = drift(target, "--check")
    assert (check.rc, check.stats("changed")) == (0, {"target": 1})
    assert not target.root.exists()

    first = drift(target)
    assert (first.rc, first.stats("changed")) == (0, {"target": 1})
    second = drift(target)
    assert (second.rc, second.stats("changed")) == (0, {})
    assert failed_cases(directory(target) / "junit.xml") == {}
    assert target.state() == state

    target.cluster.psql(STRAY, target.database)
    baseline = (directory(target) / "baseline.jsonl.gz").read_bytes()
    reports = target.directory / "reports"
    found = drift(target, "--diff", reports=str(reports))
    message = str(the_failure(found).res["msg"])
    for words in (
        "1 change is not permitted",
        "expected: no change since",
        "column public.tac_logical_unit.stray added: type=text",
        "next step: find out who made the changes",
    ):
        assert words in message
    assert "+column public.tac_logical_unit.stray: type=text" in found.stdout
    for place in (directory(target), reports / "target"):
        assert list(failed_cases(place / "junit.xml")) == ["schema public"]
        assert "public.tac_logical_unit.stray" in (place / "drift.txt").read_text(encoding="utf-8")
        result = json.loads((place / "drift.json").read_text(encoding="utf-8"))
        assert [(c["name"], c["permitted"]) for c in result["changes"]] == [("public.tac_logical_unit.stray", False)]
    assert (directory(target) / "baseline.jsonl.gz").read_bytes() == baseline

    assert drift(target, policy="additions_only").rc == 0
    assert drift(target, renew=True).stats("changed") == {"target": 1}
    assert (drift(target).rc, drift(target).stats("changed")) == (0, {})


def test_check_mode_finds_drift_and_writes_nothing(target: Target) -> None:
    drift(target)
    before = tree(target.root)
    assert drift(target, "--check").rc == 0
    target.cluster.psql(STRAY, target.database)
    assert "stray" in str(the_failure(drift(target, "--check")).res["msg"])
    assert tree(target.root) == before


def test_a_run_without_a_result_leaves_no_report_of_the_last_one(target: Target) -> None:
    drift(target)
    target.hostvars = {"phasegate_host": str(target.directory)}
    run = drift(target)
    assert "Cannot connect to database" in str(the_failure(run).res["msg"])
    cases = list(ET.parse(directory(target) / "junit.xml").getroot().iter("testcase"))
    assert ["Cannot connect to database" in (case.findtext("error") or "") for case in cases] == [True]


@pytest.fixture
def guest(target: Target) -> Iterator[Target]:
    """The target by a role that may only connect."""
    role = f"guest_{target.database}"
    target.cluster.psql(
        f"CREATE ROLE {role} LOGIN; REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC", target.database
    )
    target.hostvars = {"phasegate_user": role}
    yield target
    target.cluster.psql(f"DROP ROLE {role}")


def test_a_role_that_may_only_connect_is_enough(guest: Target) -> None:
    first = drift(guest)
    assert first.rc == 0, first.stdout
    assert "not seen: connection strings of subscriptions" in str(first.of("Stop on drift").res["msg"])
    assert drift(guest).rc == 0
    guest.cluster.psql(STRAY, guest.database)
    message = str(the_failure(drift(guest)).res["msg"])
    assert "public.tac_logical_unit.stray" in message
    assert "not compared: options of user mappings that belong to other roles" in message


def test_two_hosts_are_both_looked_at(target: Target) -> None:
    hosts = {name: {**target.entry(), "phasegate_root": str(target.directory / name)} for name in ("one", "two")}
    inventory = write_inventory(target.directory / "both.yml", hosts)
    assert play(target.directory, PLAYBOOK, inventory=inventory, limit="all").rc == 0
    target.cluster.psql(STRAY, target.database)
    run = play(target.directory, PLAYBOOK, inventory=inventory, limit="all")
    assert run.rc != 0
    assert sorted(failure.host for failure in run.failures) == ["one", "two"]


WRONG: dict[str, tuple[dict[str, Any], list[str]]] = {
    "baseline": ({"baseline": "/nonexistent"}, ["The baseline is missing", "/nonexistent"]),
    "policy": ({"policy": "additions"}, ["drift_policy", "additions_only"]),
    "allow": ({"allow": [{"klass": "additive"}]}, ["Invalid entry in the diff policy's allow list", "klass"]),
    "fingerprint": ({"fingerprint": "0" * 64}, ["The baseline differs from the expected one", "0" * 64]),
    "renew": ({"baseline": "/nonexistent", "renew": True}, ["mutually exclusive"]),
    "cluster": ({"cluster": True}, ["different object types", "renew"]),
}


def test_an_input_that_cannot_be_meant_is_refused(target: Target) -> None:
    assert drift(target).rc == 0
    hosts = {
        name: {**target.entry(), **{f"phasegate_drift_{key}": value for key, value in inputs.items()}}
        for name, (inputs, _words) in WRONG.items()
    }
    run = play(
        target.directory, PLAYBOOK, inventory=write_inventory(target.directory / "wrong.yml", hosts), limit="all"
    )
    assert {failure.host for failure in run.failures} == set(WRONG)
    for failure in run.failures:
        for word in WRONG[failure.host][1]:
            assert word in str(failure.res["msg"])


def test_what_happened_since_the_last_phase(target: Target) -> None:
    assert target.play().rc == 0
    bundle = target.bundle()
    run = drift(target, baseline=str(bundle.path))
    assert (run.rc, run.stats("changed")) == (0, {})
    target.cluster.psql("ALTER TABLE public.tac_logical_unit DROP COLUMN authority", target.database)
    message = str(the_failure(drift(target, baseline=str(bundle.path))).res["msg"])
    assert "destructive: column public.tac_logical_unit.authority removed" in message
    assert "renew" not in message
    bundle.assert_sealed()

    snapshot = bundle.path / "schema" / "after.jsonl.gz"
    snapshot.write_bytes((bundle.path / "schema" / "before.jsonl.gz").read_bytes())
    message = str(the_failure(drift(target, baseline=str(bundle.path))).res["msg"])
    assert "schema/after.jsonl.gz was changed" in message
