# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsed plan on a cluster with registered reviewers: nothing commits, nor is rolled back, without them."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, play, write_inventory
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.target import Target

AUTHOR = "huyen"


@pytest.fixture
def people(tmp_path: Path) -> list[Reviewer]:
    """Two reviewers and the author, with keys."""
    return [Reviewer.create(tmp_path, name) for name in ("anna", "ben", AUTHOR)]


@pytest.fixture
def reviewers(target: Target, people: list[Reviewer]) -> Iterator[Path]:
    """The register of the target's cluster, where this user may write one."""
    below = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers" / target.system_identifier
    yield register(below, "".join(one.line() for one in people))
    unregister(below)


@pytest.fixture
def plan(target: Target, tmp_path: Path) -> Path:
    """A frozen plan of Phase Alpha, rehearsed on another cluster."""
    with running_cluster(rehearsal=True) as other:
        rehearsal = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "user": SUPERUSER}
        run = target.play(
            "playbooks/phase_alpha_rehearse.yml",
            extra_vars={
                "phasegate_author": AUTHOR,
                "phasegate_plans": str(tmp_path / "plans"),
                "phasegate_rehearsal": {**rehearsal, "port": other.port, "database": target.database},
            },
        )
    assert run.rc == 0, run.stdout
    (path,) = (tmp_path / "plans").glob("*/plan.json")
    assert (path.parent / "review.html").exists()
    return path


@pytest.mark.fault("rehearsal-target")
def test_the_target_of_another_inventory_host_is_no_place_for_a_rehearsal(target: Target, tmp_path: Path) -> None:
    """Also where the play does not run on that host."""
    with running_cluster(rehearsal=True) as other:
        connection = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "user": SUPERUSER}
        identifier = other.psql("SELECT system_identifier FROM pg_control_system()")
        hosts = {
            "target": {**target.entry(), "phasegate_rehearsal": {**connection, "port": other.port, "database": "copy"}},
            "db2": {"phasegate_database": "orders", "phasegate_identity": {"system_identifier": identifier}},
            "web1": {"phasegate_like": "{{ nowhere }}"},
        }
        run = play(
            tmp_path,
            "playbooks/phase_alpha_rehearse.yml",
            inventory=write_inventory(tmp_path / "several.yml", hosts),
            limit="target",
            extra_vars={"phasegate_plans": str(tmp_path / "plans")},
        )
        assert run.rc == 2
        assert "The rehearsal cluster is the target of inventory host db2." in run.messages
        assert not run.reached("C-01")
        assert other.psql("SELECT count(*) FROM pg_database") == "3"
    assert not (tmp_path / "plans").exists()


def approve(plan: Path, reviewer: Reviewer) -> None:
    extra = {"phasegate_plan": str(plan), "phasegate_reviewer": reviewer.name, "phasegate_key": str(reviewer.key)}
    run = play(plan.parent.parent, "playbooks/approve.yml", inventory=ROOT / "inventory" / "local", extra_vars=extra)
    assert run.rc == 0, run.stdout


@pytest.mark.fault("approvals", "rollback-refused")
def test_the_chain(target: Target, people: list[Reviewer], reviewers: Path, plan: Path, tmp_path: Path) -> None:
    anna, ben, author = people
    state, schema = target.state(), target.dump("--schema-only")

    def execute(**extra: object) -> str:
        return target.play(extra_vars={"phasegate_plan": str(plan), **extra}).stdout

    # nobody, then one and the author, whatever else is said
    assert "0 of 2" in execute()
    approve(plan, anna)
    approve(plan, author)
    mine = register(tmp_path / "mine", anna.line(), {"threshold": 1})
    assert "phasegate_reviewers is given by -e and execute does not read it" in execute(phasegate_reviewers=str(mine))
    said = execute(threshold=1, reviewers=str(mine), author="anna")
    assert "1 of 2" in said
    assert "huyen is the plan's author" in said
    assert target.state() == state

    # one byte of the plan, which the controller notices before the target has to
    data = plan.read_bytes()
    plan.write_bytes(data.replace(b'"wal_bytes":', b'"wal_bytes":1'))
    assert "is not intact" in execute()
    assert target.state() == state
    plan.write_bytes(data)

    approve(plan, ben)
    # a column that came after the rehearsal is named, before a backup is made
    target.cluster.psql("CREATE TABLE public.later (since int)", target.database)
    drifted = target.play(extra_vars={"phasegate_plan": str(plan)})
    assert "Stopped at G-10 (" in drifted.messages
    assert "public.later" in drifted.messages
    assert not drifted.reached("C-07")
    target.cluster.psql("DROP TABLE public.later", target.database)
    assert target.state() == state

    said = execute()
    assert "SUCCESS" in said
    assert target.migrated
    execution = next(one for one in target.bundles() if '"COMMITTED"' in one.text("journal.jsonl"))

    # the rollback needs signatures of its own, and tells how they are made
    def roll_back(*signatures: Path) -> str:
        extra = {
            "phasegate_execution": str(execution.path),
            "phasegate_confirm": execution.path.name,
            "phasegate_rollback_approvals": [str(one) for one in signatures],
        }
        return target.play("playbooks/rollback.yml", extra_vars=extra).stdout

    said = roll_back(plan.with_name("plan.json.anna.sig"), plan.with_name("plan.json.ben.sig"))
    assert "signed for another purpose" in said
    assert target.migrated
    request = re.search(r"printf '%s\\n' '(\{[^']*\})'", said)
    assert request is not None, said
    assert json.loads(request[1])["execution"] == execution.path.name
    signatures = []
    for one in (anna, ben):
        signatures.append(tmp_path / f"{one.name}.sig")
        signatures[-1].write_bytes(one.sign(request[1].encode() + b"\n", "rollback@phasegate.incomex"))
    said = roll_back(*signatures)
    assert "SUCCESS" in said
    assert target.dump("--schema-only") == schema
