# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase that requires Alpha, by whole playbooks: refused before Alpha is there and reviewed, and before a backup is made."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, play
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

DDL = b"CREATE TABLE sandbox_tac.next_phase (id int);\n"


def test_no_phase_starts_by_itself(target: Target, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    definition = {
        "phase": "next",
        "requires": ["alpha"],
        "scope": {"schemas": ["sandbox_tac"], "statements": ["CREATE TABLE"]},
    }
    PhaseFiles(tmp_path / "next").write(definition, ddl=DDL, rollback=b"DROP TABLE sandbox_tac.next_phase;\n")
    anna = Reviewer.create(tmp_path, "anna")

    def execute(*reviews: Path, arguments: str = "") -> Play:
        extra = {"phasegate_reviews": [str(one) for one in reviews]}
        return target.play_phase(tmp_path / "next", extra_vars=extra, arguments=arguments)

    checked = target.play_phase(tmp_path / "next", arguments="--check")
    assert checked.rc != 0
    assert "no execution of alpha that committed here" in checked.messages
    assert target.bundles() == []

    refused = execute()
    assert refused.rc != 0
    assert "no execution of alpha that committed here" in refused.messages
    assert not refused.reached("C-07")
    assert target.bundle().gates["G-11"] == "FAIL"
    target.bundle().assert_sealed()

    assert target.play().rc == 0
    (executed,) = target.root.glob("alpha_*")
    # a reviewer reads a copy
    alpha = Bundle(shutil.copytree(executed, tmp_path / "copies" / executed.name))
    extra = {"phasegate_bundle": str(alpha.path), "phasegate_reviewer": "anna", "phasegate_key": str(anna.key)}
    local = ROOT / "inventory" / "local"
    assert play(tmp_path, "playbooks/approve.yml", inventory=local, extra_vars=extra).rc == 0
    review = alpha.path.with_name(f"{alpha.path.name}.review.json")
    mine = register(tmp_path / "mine", anna.line(), {"threshold": 1})
    extra = {"phasegate_bundle": str(alpha.path), "phasegate_reviewers": str(mine)}
    told = play(tmp_path, "playbooks/approvals.yml", inventory=local, extra_vars=extra).stdout
    assert "G-11 PASS" in told
    assert "anna: approved" in told

    # check mode judges the reviews as well
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    below = home / ".config" / "phasegate" / "reviewers" / target.system_identifier
    register(below, anna.line(), {"threshold": 1})
    try:
        both = [execute(arguments="--check"), execute(review, arguments="--check")]
    finally:
        unregister(below)
    assert "; 0 of 1" in both[0].messages, both[0].stdout
    # the plan itself was not rehearsed, so nobody can have approved it: that alone is left
    assert "Stopped at G-1 (" in both[1].messages, both[1].stdout
    assert "G-11" not in both[1].messages
    assert len(target.bundles()) == 2

    # nobody is registered for the cluster: said, never a PASS
    run = execute(review)
    assert run.rc == 0, run.stdout
    last = next(
        one
        for one in target.bundles()
        if "next_phase" in one.text("plan.json") and '"COMMITTED"' in one.text("journal.jsonl")
    )
    assert last.gates["G-11"] == "NOT ENFORCED"
    assert {f"reviews/{review.name}", f"reviews/{review.name}.anna.sig"} <= last.files
    assert json.loads(last.text(f"reviews/{review.name}"))["bundle"] == alpha.path.name
    last.assert_sealed()


def test_an_unapproved_plan_stops_before_the_backup(target: Target, tmp_path: Path) -> None:
    anna = Reviewer.create(tmp_path, "anna")
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    below = home / ".config" / "phasegate" / "reviewers" / target.system_identifier
    register(below, anna.line(), {"threshold": 1})
    try:
        run = target.play()
    finally:
        unregister(below)
    assert run.rc != 0
    assert "Stopped at G-1" in run.messages
    assert not run.reached("C-07")
    assert target.bundle().gates["G-1"] == "FAIL"
