# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase that is executed and rolled back, again and again: nothing is replayed, nothing is stuck, the evidence is true."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, play
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.target import Target

AUTHOR = "huyen"


class Cycle:
    """One phase on one target, with what an operator does to it by the playbooks."""

    def __init__(self, target: Target, other: Cluster, people: list[Reviewer]) -> None:
        self.target = target
        self.people = people
        connection = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "user": SUPERUSER}
        self.rehearsal = {**connection, "port": other.port, "database": "copy"}
        directory = target.directory / "phases" / "gamma"
        directory.mkdir(parents=True)
        target.cluster.psql("CREATE SCHEMA app", target.database)
        self.phase = PhaseFiles(directory).write({"phase": "gamma"}).path

    def rehearse(self) -> Path:
        """Rehearse, have the plan approved where there are reviewers, and return it."""
        plans = self.target.directory / "plans"
        known = set(plans.glob("*/plan.json"))
        run = self.target.play(
            "playbooks/rehearse.yml",
            extra_vars={
                "phasegate_phase_file": self.phase,
                "phasegate_author": AUTHOR,
                "phasegate_plans": str(plans),
                "phasegate_rehearsal": self.rehearsal,
            },
        )
        assert run.rc == 0, run.stdout
        (plan,) = set(plans.glob("*/plan.json")) - known
        for one in self.people:
            plan.with_name(f"plan.json.{one.name}.sig").write_bytes(one.sign(plan.read_bytes()))
        return plan

    def execute(self, plan: Path) -> str:
        """Execute a plan and return what was said."""
        return self.target.play(
            "playbooks/execute.yml", extra_vars={"phasegate_plan": str(plan), "phasegate_phase_file": self.phase}
        ).stdout

    def runs(self, outcome: str, *, rollbacks: bool) -> list[Bundle]:
        """Return the bundles of the executions or rollbacks with this outcome, oldest first."""
        found = [
            one
            for one in self.target.bundles()
            if one.path.name.startswith("gamma_") and ("_rollback_" in one.path.name) == rollbacks
        ]
        return sorted(
            (
                one
                for one in found
                if "_rehearsal_" not in one.path.name and one.json("report.json")["outcome"] == outcome
            ),
            key=lambda one: str(one.json("report.json")["started"]),
        )

    def roll_back(self, execution: Path, *signatures: Path) -> str:
        """Roll an execution back and return what was said."""
        extra = {
            "phasegate_execution": str(execution),
            "phasegate_confirm": execution.name,
            "phasegate_rollback_approvals": [str(one) for one in signatures],
        }
        return self.target.play("playbooks/rollback.yml", extra_vars=extra).stdout

    def sign(self, said: str, number: int) -> list[Path]:
        """Sign what a refused rollback asks for."""
        request = re.search(r"printf '%s\\n' '(\{[^']*\})'", said)
        assert request is not None, said
        signed = []
        for one in self.people:
            signed.append(self.target.directory / f"{one.name}.{number}.sig")
            signed[-1].write_bytes(one.sign(request[1].encode() + b"\n", "rollback@phasegate.incomex"))
        return signed


@pytest.mark.fault("plan-spent", "rollback-again")
@pytest.mark.parametrize("reviewed", [False, True])
@pytest.mark.fault("cycles")
def test_execute_and_roll_back_again_and_again(target: Target, tmp_path: Path, *, reviewed: bool) -> None:
    people = [Reviewer.create(tmp_path, name) for name in ("anna", "ben")] if reviewed else []
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers"
    anchor = home / target.system_identifier
    if reviewed:
        register(anchor, "".join(one.line() for one in people))
    try:
        with running_cluster(rehearsal=True) as other:
            cycles(Cycle(target, other, people), anchor)
    finally:
        if reviewed:
            unregister(anchor)


def cycles(cycle: Cycle, anchor: Path) -> None:
    """Go round twice, and look at the evidence of both rounds; where there are reviewers, with a ledger."""
    if cycle.people:
        cycle.target.hostvars["phasegate_ledger"] = "phasegate.ledger"
        assert "changed=1" in cycle.target.play("playbooks/ledger.yml").stdout
    before = None
    old_plans: list[Path] = []
    old_signatures: list[Path] = []
    for number in (1, 2):
        plan = cycle.rehearse()
        before = before or cycle.target.dump("--schema-only")
        assert "SUCCESS" in cycle.execute(plan)
        execution = cycle.runs("SUCCESS", rollbacks=False)[-1]
        assert len(cycle.runs("SUCCESS", rollbacks=False)) == number
        # nothing runs again, whichever plan of this SQL is given
        assert "This phase was applied before" in cycle.execute(old_plans[0] if old_plans else plan)
        signatures: list[Path] = []
        if cycle.people:
            said = cycle.roll_back(execution.path, *old_signatures)
            assert "0 of 2" in said
            signatures = cycle.sign(said, number)
        assert "SUCCESS" in cycle.roll_back(execution.path, *signatures)
        undoing = cycle.runs("SUCCESS", rollbacks=True)[-1]
        assert undoing.json("report.json")["undoes"] == execution.path.name
        assert cycle.target.dump("--schema-only") == before
        old_plans.append(plan)
        old_signatures = signatures
        assert "The plan is spent: it was executed on this database, and rolled back." in cycle.execute(old_plans[0])
        assert "was rolled back already" in cycle.roll_back(execution.path, *signatures)
        assert cycle.target.dump("--schema-only") == before
        audited(cycle, undoing.path, anchor)
    told(cycle)
    listed(cycle)
    if cycle.people:
        in_ledger(cycle)


def listed(cycle: Cycle) -> None:
    """The status has each run with what undid it, and says that nothing is in place."""
    executions = [one.path.name for one in cycle.runs("SUCCESS", rollbacks=False)]
    rollbacks = [one.path.name for one in cycle.runs("SUCCESS", rollbacks=True)]
    run = cycle.target.play("playbooks/status.yml", extra_vars={"phasegate_phase": "gamma"})
    assert run.rc == 0, run.stdout
    said = " ".join(run.stdout.split())
    for execution, rollback in zip(executions, rollbacks, strict=True):
        assert f"rolled back by {rollback}" in said
        assert f"undoes {execution}" in said
    assert "in place: nothing" in said
    assert "look at:" not in said


def in_ledger(cycle: Cycle) -> None:
    """The ledger has every execution and rollback, and what undoes what; it refuses a plan whose directories are gone."""
    executions = [one.path for one in cycle.runs("SUCCESS", rollbacks=False)]
    rollbacks = [one.path for one in cycle.runs("SUCCESS", rollbacks=True)]
    assert cycle.target.rows("SELECT run, undoes, approvals_required FROM phasegate.ledger ORDER BY n") == [
        (executions[0].name, None, True),
        (rollbacks[0].name, executions[0].name, True),
        (executions[1].name, None, True),
        (rollbacks[1].name, executions[1].name, True),
    ]
    listed = " ".join(cycle.target.play("playbooks/ledger.yml").stdout.split())
    assert f"rollback {rollbacks[1].name} undoes {executions[1].name}" in listed
    plan = next(cycle.target.directory.glob("plans/*/plan.json"))
    for path in (*executions, *rollbacks):
        shutil.rmtree(path)
    said = cycle.execute(plan)
    assert "The ledger of this database has an execution of this plan that no run directory accounts for." in said


def told(cycle: Cycle) -> None:
    """The journals of later runs name what was undone by which rollback."""
    executions = [one.path.name for one in cycle.runs("SUCCESS", rollbacks=False)]
    rollbacks = [one.path.name for one in cycle.runs("SUCCESS", rollbacks=True)]
    assert (len(executions), len(rollbacks)) == (2, 2)
    for bundle, expected in (
        (executions[1], {executions[0]: rollbacks[0]}),
        (rollbacks[1], {executions[0]: rollbacks[0], executions[1]: ""}),
    ):
        opened = json.loads((cycle.target.root / bundle / "journal.jsonl").read_text(encoding="utf-8").splitlines()[0])
        assert {one["execution"]: one["undone_by"] for one in opened["data"]["earlier"]} == expected


def audited(cycle: Cycle, bundle: Path, anchor: Path) -> None:
    """Verify the approvals of a rollback from its bundle alone, as an auditor with a copy of it does."""
    copy = cycle.target.directory / "archive" / bundle.name
    shutil.copytree(bundle, copy)
    extra = {"phasegate_bundle": str(copy)}
    if cycle.people:
        extra["phasegate_reviewers"] = str(anchor)
    run = play(
        cycle.target.directory, "playbooks/approvals.yml", inventory=ROOT / "inventory" / "local", extra_vars=extra
    )
    if not cycle.people:
        assert "found none on this host" in run.stdout
        return
    assert "G-1 PASS: expected 2 approvals of the rollback request" in run.stdout
    assert "the executed plan: 2 of 2" in run.stdout
    # one signature less
    next(copy.glob("rollback.json.anna.*.sig")).unlink()
    assert (
        "is listed in SHA256SUMS but missing"
        in play(
            cycle.target.directory, "playbooks/approvals.yml", inventory=ROOT / "inventory" / "local", extra_vars=extra
        ).stdout
    )
