# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mistyped input is refused instead of ignored, and a missing one is named; both before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, play

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))


def the_message(run: Play) -> str:
    """Return what the only failure of a run says."""
    assert run.rc != 0, run.stdout
    (failure,) = run.failures
    return str(failure.res["msg"])


@pytest.mark.parametrize(
    ("playbook", "inputs", "found"),
    [
        ("phase_alpha", {"phasegate_maxbackup_age": 5}, "phasegate_maxbackup_age is read by nothing"),
        ("execute", {}, "phasegate_phase is missing"),
        ("rehearse", {"phasegate_phases": "alpha"}, "phasegate_phase is missing; phasegate_phases is read by nothing"),
        ("rollback", {}, "phasegate_execution is missing"),
        ("drift", {"phasegate_drift_polcy": "unchanged"}, "phasegate_drift_polcy is read by nothing"),
    ],
)
def test_on_a_target(target: Target, playbook: str, inputs: dict[str, Any], found: str) -> None:
    run = target.play(f"playbooks/{playbook}.yml", extra_vars=inputs)
    message = the_message(run)
    assert f"found: {found}\n" in message
    assert "next step: correct the name" in message
    if "missing" not in found:
        assert "phasegate_max_backup_age" in message
    assert not target.root.exists()


@pytest.mark.parametrize(
    ("playbook", "inputs", "found"),
    [
        ("approve", {"phasegate_note": "Watch it."}, "phasegate_note is read by nothing"),
        ("audit", {}, "phasegate_bundle is missing"),
        ("review", {}, "phasegate_plan is missing"),
        ("approvals", {"phasegate_plans_": "x"}, "phasegate_plans_ is read by nothing"),
    ],
)
def test_on_the_controller(tmp_path: Path, playbook: str, inputs: dict[str, Any], found: str) -> None:
    assert found in the_message(play(tmp_path, f"playbooks/{playbook}.yml", extra_vars=inputs))


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_playbook_looks_at_its_inputs(name: str) -> None:
    text = (ROOT / "playbooks" / f"{name}.yml").read_text(encoding="utf-8")
    assert "tasks/inputs.yml" in text or "import_playbook: " in text
