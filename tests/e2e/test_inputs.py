# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mistyped input is refused instead of ignored, and a missing one is named; both before anything is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.playbook import play

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target


def the_message(run: Play) -> str:
    """Return what the only failure of a run says."""
    assert run.rc != 0, run.stdout
    (failure,) = run.failures
    return str(failure.res["msg"])


@pytest.mark.parametrize(
    ("playbook", "inputs", "found"),
    [
        ("phase_alpha", {"phasegate_maxbackup_age": 5}, ["unknown variable phasegate_maxbackup_age"]),
        ("execute", {}, ["phasegate_phase or phasegate_phase_file is missing"]),
        (
            "rehearse",
            {"phasegate_phaze": "alpha"},
            ["phasegate_phase or phasegate_phase_file is missing", "unknown variable phasegate_phaze"],
        ),
        ("rollback", {}, ["phasegate_execution is missing"]),
        ("drift", {"phasegate_drift_polcy": "unchanged"}, ["unknown variable phasegate_drift_polcy"]),
        ("drift", {"phasegate_drift_policy": "none"}, ['phasegate_drift_policy is "none"']),
        ("phase_alpha", {"phasegate_plan": ""}, ["phasegate_plan is empty"]),
        ("phase_alpha", {"phasegate_plan": " \t"}, ["phasegate_plan is empty"]),
        ("phase_alpha", {"phasegate_reviews": [""]}, ["phasegate_reviews[0] is empty"]),
        ("phase_alpha", {"phasegate_identity": {"user": ""}}, ["phasegate_identity.user is empty"]),
        ("prune", {"phasegate_plan": "x"}, ["phasegate_plan is given by -e and prune does not read it"]),
    ],
)
@pytest.mark.fault("input-empty")
def test_on_a_target(target: Target, playbook: str, inputs: dict[str, Any], found: list[str]) -> None:
    message = the_message(target.play(f"playbooks/{playbook}.yml", extra_vars=inputs))
    assert message.startswith(f"Invalid inputs of playbook {'execute' if playbook == 'phase_alpha' else playbook}.\n")
    assert f"\n  found: {'; '.join(found)}\n" in message
    assert "\n  next step: correct the inventory or the options -e; " in message
    assert not target.root.exists()


@pytest.mark.parametrize(
    ("playbook", "inputs", "name"),
    [
        ("phase_alpha", {"execute_plan": ""}, "plan"),
        ("phase_alpha", {"execute_plan": "  "}, "plan"),
        ("phase_alpha", {"execute_reviews": ""}, "reviews[0]"),
        ("phase_alpha_rehearse", {"rehearse_plans": " ", "rehearse_author": "huyen"}, "rehearse_plans"),
    ],
)
@pytest.mark.fault("input-empty")
def test_an_empty_input_of_a_role_is_not_read_as_one_that_was_not_given(
    target: Target, playbook: str, inputs: dict[str, Any], name: str
) -> None:
    message = the_message(target.play(f"playbooks/{playbook}.yml", extra_vars=inputs))
    assert f"found: empty or only blanks: {name}\n" in message
    assert not target.migrated
    assert not list(target.root.glob("*/backup*"))


def test_the_nearest_name_is_shown_alone(target: Target) -> None:
    message = the_message(target.play("playbooks/phase_alpha.yml", extra_vars={"phasegate_maxbackup_age": 5}))
    assert "\n  expected: phasegate_max_backup_age in place of phasegate_maxbackup_age\n" in message


def test_the_inventory_may_have_what_another_playbook_reads_and_what_is_omitted(target: Target) -> None:
    target.hostvars = {
        "phasegate_author": "anna",
        "phasegate_rehearsal": {"database": "{{ only_where_a_rehearsal_is }}"},
        "phasegate_archive": "{{ omit }}",
        "phasegate_keep_days": "{{ 2 * 7 }}",
    }
    assert target.play("playbooks/prune.yml").rc == 0
    target.hostvars["phasegate_keep_days"] = "{{ nowhere }}"
    message = the_message(target.play("playbooks/prune.yml"))
    assert "found: phasegate_keep_days cannot be resolved: 'nowhere' is undefined" in message


def test_a_misspelt_name_of_the_inventory_is_refused_by_every_playbook(target: Target) -> None:
    target.hostvars = {"phasegate_valid_dayz": 3}
    message = the_message(target.play("playbooks/prune.yml"))
    assert "expected: phasegate_valid_days in place of phasegate_valid_dayz" in message


@pytest.mark.parametrize(
    ("playbook", "inputs", "found"),
    [
        (
            "approve",
            {"phasegate_note": "Watch it."},
            "phasegate_reviewer is missing; phasegate_key is missing; phasegate_plan or phasegate_bundle or "
            "phasegate_execution is missing; "
            "unknown variable phasegate_note",
        ),
        ("audit", {}, "phasegate_bundle is missing"),
        ("review", {}, "phasegate_plan is missing"),
        ("review", {"phasegate_plan": ""}, "phasegate_plan is empty"),
        (
            "approvals",
            {"phasegate_plan": "x", "phasegate_plans": "x"},
            "phasegate_plans is given by -e and approvals does not read it",
        ),
    ],
)
@pytest.mark.fault("input-empty")
def test_on_the_controller(tmp_path: Path, playbook: str, inputs: dict[str, Any], found: str) -> None:
    message = the_message(play(tmp_path, f"playbooks/{playbook}.yml", extra_vars=inputs))
    assert f"\n  found: {found}\n" in message


def test_a_value_by_key_and_equals_sign_is_seen_as_given(tmp_path: Path) -> None:
    run = play(tmp_path, "playbooks/review.yml", arguments="-e phasegate_plan= -e phasegate_key=k")
    assert "found: phasegate_key is given by -e and review does not read it; phasegate_plan is empty" in the_message(
        run
    )


@pytest.mark.fault("no-host")
@pytest.mark.parametrize(
    ("playbook", "inputs", "arguments", "expected"),
    [
        (
            "audit",
            {"phasegate_bundle": "/nowhere", "phasegate_hosts": "prdo"},
            "",
            "a host of the inventory that matches 'prdo'",
        ),
        ("drift", {"phasegate_hosts": "prdo"}, "", "a host of the inventory that matches 'prdo'"),
        ("drift", {"phasegate_hosts": " "}, "", "a host or a group in phasegate_hosts, or no phasegate_hosts at all"),
        ("execute", {"phasegate_hosts": "localhost"}, "-l target", "matches 'localhost' within --limit target"),
        ("rollback", {"phasegate_hosts": "target:!target"}, "", "matches 'target:!target'"),
        ("approve", {}, "-l target", "matches 'localhost' within --limit target"),
        ("audit", {"phasegate_bundle": "/nowhere"}, "--tags checks", "no option that chooses some of its tasks"),
        ("drift", {}, "--skip-tags all", "no option that chooses some of its tasks"),
        ("drift", {}, "--start-at-task 'Drift | Fetch the report'", "no option that chooses some of its tasks"),
    ],
)
def test_a_playbook_that_looks_at_nothing_does_not_end_well(
    target: Target, playbook: str, inputs: dict[str, Any], arguments: str, expected: str
) -> None:
    run = target.play(f"playbooks/{playbook}.yml", extra_vars=inputs, arguments=arguments)
    assert run.rc != 0, run.stdout
    assert expected in run.stdout
    assert not target.root.exists()
