# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's ways past a task do not lead past a gate: tags, --start-at-task, and extra-vars over everything internal."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.tests.support.bundle import sha256
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, environment
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play

R1 = ROOT / "tests" / "fixtures" / "phases" / "r1"
HIDDEN = ROOT / "tests" / "fixtures" / "phases" / "hidden_drop_column"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What phase_plan returns for Phase Alpha, r1 and the hidden DROP COLUMN."""
    files = {"alpha": ROOT / "playbooks" / "phases" / "alpha", "r1": R1, "hidden": HIDDEN}
    found = {}
    for name, phase in files.items():
        argv = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-i", "localhost,", "-c", "local"]
        argv += ["-m", "incomex.phasegate.phase_plan", "-a", f"path={phase}/phase.yml", "--tree"]
        tree = tmp_path_factory.mktemp(name)
        subprocess.run([*argv, str(tree)], cwd=ROOT, env=environment({}), check=True, capture_output=True)
        found[name] = json.loads((tree / "localhost").read_text(encoding="utf-8"))
    return found


def assert_nothing_committed(target: Target, run: Play, state: str) -> None:
    """The database is as before, and no bundle and no output claims otherwise."""
    assert target.state() == state, run.stdout
    assert "SUCCESS" not in run.stdout
    for bundle in target.bundles():
        if (bundle.path / "SUMMARY.txt").exists():
            assert "SUCCESS" not in bundle.text("SUMMARY.txt")


# -- tags -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["--tags x", "--tags c07,migrate", "--skip-tags always,all"])
@pytest.mark.fault("no-bypass")
def test_tags_skip_everything_or_nothing(target: Target, arguments: str) -> None:
    state = target.state()
    run = target.play_phase(R1, arguments=arguments)
    assert_nothing_committed(target, run, state)
    assert not run.reached("C-07")


@pytest.mark.parametrize("arguments", ["--skip-tags backup,preflight,gates,verify"])
def test_tags_that_nothing_has_skip_no_gate(target: Target, arguments: str) -> None:
    state = target.state()
    run = target.play_phase(R1, arguments=arguments)
    assert run.rc != 0
    assert_nothing_committed(target, run, state)
    assert run.reached("C-01")
    assert run.reached("C-06")


# -- --start-at-task --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    ["C-01 ... C-06 | Open a run, start the backup, snapshot and check", "C-07 | Migrate", "C-08 | Verify"],
)
@pytest.mark.fault("no-bypass")
def test_starting_in_the_middle_commits_nothing(target: Target, task: str) -> None:
    state = target.state()
    run = target.play(arguments=f'--start-at-task "{task}"')
    assert run.rc != 0 or not run.results
    assert_nothing_committed(target, run, state)


def test_starting_at_c07_with_a_run_from_extra_vars_stops_at_the_missing_backup(
    target: Target, planned: dict[str, dict[str, Any]]
) -> None:
    state = target.state()
    run_directory = forge(target, planned["alpha"])
    run = target.play(
        arguments='--start-at-task "C-07 | Migrate"',
        extra_vars={
            "__execute_phase": planned["alpha"],
            "__execute_run": {"applied": False, "sealed": False, "run_directory": str(run_directory)},
        },
    )
    assert run.rc != 0
    assert run.reached("C-07")
    assert_nothing_committed(target, run, state)
    assert "G-2" in run.messages
    assert "no backup in this run" in run.messages


def forge(target: Target, plan: dict[str, Any]) -> Path:
    """Make a directory as an open run has it, with everything but a backup."""
    directory = target.root / "alpha_test_20260516T031200Z"
    for folder in ("schema", "sql", "logs"):
        (directory / folder).mkdir(parents=True)
    for name in ("migrate.sql", "rollback.sql"):
        shutil.copy(ROOT / "playbooks" / "phases" / "alpha" / name, directory / "sql")
    content = json.dumps(plan["plan"], sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    (directory / "plan.json").write_text(content, encoding="utf-8")
    assert sha256(directory / "plan.json") == plan["plan_sha256"]
    opening = {
        "kind": "execute",
        "plan_sha256": plan["plan_sha256"],
        "host": "target",
        "environment": "test",
        "phase": "alpha",
        "ddl_sha256": plan["plan"]["ddl"]["sha256"],
        "identity": {"database": target.database, "system_identifier": target.system_identifier},
    }
    previous = "0" * 64
    lines = []
    for number, (step, event, data) in enumerate((("run", "open", opening), ("C-05", "done", {})), start=1):
        entry = {"seq": number, "at": "2026-05-16T03:12:00.000Z", "step": step, "event": event, "data": data}
        lines.append(json.dumps({**entry, "prev": previous}, ensure_ascii=False, separators=(",", ":")))
        previous = hashlib.sha256(lines[-1].encode()).hexdigest()
    (directory / "journal.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return directory


# -- extra-vars -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra_vars",
    [
        pytest.param({"preflight_checks": []}, id="preflight_checks"),
        pytest.param({"preflight_identity": {}, "migrate_identity": {}, "preflight_checks": []}, id="identities"),
    ],
)
def test_preflight_is_judged_again_by_the_one_who_mutates(target: Target, extra_vars: dict[str, Any]) -> None:
    target.cluster.psql("DELETE FROM sandbox_tac.logical_unit WHERE ctid = '(0,1)'", target.database)
    state = target.state()
    run = target.play(extra_vars=extra_vars)
    assert run.rc != 0
    assert_nothing_committed(target, run, state)
    assert "P-9" in run.messages
    target.bundle().assert_sealed()


@pytest.mark.parametrize(
    "extra_vars",
    [
        pytest.param({"__migrate_result": {"outcome": "COMMITTED"}, "ansible_check_mode": True}, id="__migrate_result"),
        pytest.param(
            {
                "verify_checks": [],
                "verify_diff": {"policy": "additions_only", "allow": [{"action": "any"}]},
                "__verify_diff": {"ok": True},
                "__verify_snapshot": {"deviations": []},
                "__verify_checks": {"failed": False},
            },
            id="verify",
        ),
        pytest.param({"backup_compression": "none", "snapshot_measure": [], "snapshot_row_counts": []}, id="snapshot"),
        pytest.param(
            {"__execute_seal": {"summary": [], "report": ""}, "__execute_outcome": "fine"}, id="__execute_seal"
        ),
        pytest.param({"__execute_run": {"applied": True, "sealed": True, "run_directory": "/"}}, id="applied"),
        pytest.param({"__execute_run": {"applied": False, "sealed": False, "run_directory": ""}}, id="no directory"),
    ],
)
@pytest.mark.fault("no-bypass")
def test_r1_does_not_commit_whatever_is_given(target: Target, extra_vars: dict[str, Any]) -> None:
    state = target.state()
    run = target.play_phase(R1, extra_vars=extra_vars)
    assert run.rc != 0, run.stdout
    assert_nothing_committed(target, run, state)


def relaxed(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a plan of the same DDL that declares next to nothing and permits every change."""
    changed: dict[str, Any] = json.loads(json.dumps(plan))
    changed["phase"].update(non_scope=[], measure=[], row_counts=[])
    changed["phase"]["verify"] = [{"id": "VA-1", "title": "True", "sql": "SELECT true", "expect": True}]
    changed["phase"]["expect"].update(rows={}, result=None)
    changed["phase"]["diff"] = {"policy": "additions_only", "allow": [{"object": "*"}]}
    return changed


@pytest.mark.parametrize("name", ["r1", "hidden"])
@pytest.mark.fault("no-bypass")
def test_a_plan_that_is_given_to_another_role_is_not_read(
    target: Target, planned: dict[str, dict[str, Any]], name: str
) -> None:
    state = target.state()
    phase = {"r1": R1, "hidden": HIDDEN}[name]
    run = target.play_phase(phase, extra_vars={"migrate_plan": relaxed(planned[name]["plan"])})
    assert run.rc != 0, run.stdout
    assert_nothing_committed(target, run, state)
    bundle = target.bundle()
    bundle.assert_sealed()
    assert "rolled back before COMMIT" in bundle.reason


def test_a_plan_does_not_pass_for_another_by_its_digest(target: Target, planned: dict[str, dict[str, Any]]) -> None:
    state = target.state()
    forged = {**planned["r1"], "plan": relaxed(planned["r1"]["plan"])}
    run = target.play_phase(R1, extra_vars={"__execute_phase": forged})
    assert run.rc != 0, run.stdout
    assert_nothing_committed(target, run, state)
    assert "__execute_phase is given by -e" in run.messages
    assert not run.reached("C-07")


def test_another_runs_directory_is_not_this_ones(target: Target, planned: dict[str, dict[str, Any]]) -> None:
    """The directory of a run that is sealed already takes nothing more."""
    state = target.state()
    first = target.play_phase(R1)
    assert first.rc != 0
    old = target.bundle().path
    sums = (old / "SHA256SUMS").read_bytes()
    run = target.play_phase(R1, extra_vars={"__execute_directory": str(old)})
    assert run.rc != 0
    assert_nothing_committed(target, run, state)
    assert (old / "SHA256SUMS").read_bytes() == sums
    assert "__execute_directory is given by -e" in run.messages


# -- every variable there is ------------------------------------------------------------------------------------------

#: The roles that an execution is made of.
ROLES = ("execute", "backup", "snapshot", "preflight", "migrate", "verify")


def internals(role: str) -> set[str]:
    """Every register and every variable of a role's own that its tasks name."""
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "roles" / role / "tasks").glob("*.yml")]
    return {name for text in texts for name in re.findall(r"\b__[a-z_]+\b", text)}


def inputs(role: str) -> dict[str, str]:
    """The type of every input of a role by its name."""
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options: dict[str, dict[str, Any]] = specs["argument_specs"]["main"]["options"]
    return {name: str(option["type"]) for name, option in options.items()}


#: What says the least about what has to hold, by type.
NOTHING: dict[str, Any] = {"list": [], "dict": {}, "bool": True, "int": 10**6}
EMPTY = [{name: NOTHING[kind] for role in ROLES for name, kind in inputs(role).items() if kind in NOTHING}]
ELSEWHERE = [{name: "/" for name, kind in inputs(role).items() if kind in ("path", "str")} for role in ROLES]
PRETENDED: dict[str, Any] = {
    "changed": True, "failed": False, "skipped": False, "outcome": "COMMITTED", "ok": True, "checks": [], "deviations": [],
    "summary": [], "report": "", "seal": "", "signature": "", "gate_table": [], "run_directory": "/", "applied": True, "sealed": True,
}  # fmt: skip
INTERNALS = sorted(set().union(*map(internals, ROLES)))


def test_the_list_of_variables_is_complete() -> None:
    assert {"__execute_phase", "__execute_run", "__execute_seal", "__migrate_result", "__backup_result"} <= set(
        INTERNALS
    )
    assert {"migrate_plan", "migrate_identity", "preflight_checks", "verify_diff"} <= set().union(*EMPTY, *ELSEWHERE)
    # an option of another type would be missing in both
    assert sum(map(len, EMPTY + ELSEWHERE)) == sum(len(inputs(role)) for role in ROLES)
    # the module that mutates is run by one task, whose every option comes from these
    text = (ROOT / "roles" / "migrate" / "tasks" / "main.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\bmigrate_[a-z_]+\b", text)) <= set(inputs("migrate"))


@pytest.fixture
def unapproved(target: Target, tmp_path: Path) -> Iterator[Target]:
    """A target whose cluster has a registered reviewer, who approved nothing."""
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    below = home / ".config" / "phasegate" / "reviewers" / target.system_identifier
    register(below, Reviewer.create(tmp_path, "anna").line(), {"threshold": 1})
    yield target
    unregister(below)


@pytest.mark.parametrize("values", [*EMPTY, *ELSEWHERE], ids=["empty", *(f"elsewhere-{role}" for role in ROLES)])
def test_no_input_of_a_role_stands_for_an_approval(
    unapproved: Target, planned: dict[str, dict[str, Any]], values: dict[str, Any]
) -> None:
    state = unapproved.state()
    run_directory = forge(unapproved, planned["alpha"])
    forged = {"applied": False, "sealed": False, "run_directory": str(run_directory)}
    run = unapproved.play(extra_vars={**values, "__execute_run": forged})
    assert run.rc != 0, run.stdout
    assert_nothing_committed(unapproved, run, state)


@pytest.mark.parametrize("name", INTERNALS)
def test_no_internal_variable_stands_for_an_approval(unapproved: Target, name: str) -> None:
    state = unapproved.state()
    run = unapproved.play(extra_vars={name: PRETENDED})
    assert run.rc != 0, run.stdout
    assert_nothing_committed(unapproved, run, state)


def test_all_internal_variables_of_a_good_run_do_not_stand_for_an_approval(unapproved: Target, tmp_path: Path) -> None:
    """Replay of every result of a run that committed, on a database where nobody approved anything."""
    good = Target(unapproved.cluster, f"{unapproved.database}_good", tmp_path / "good")
    good.cluster.create_database(good.database, unapproved.database)
    (tmp_path / "good").mkdir()
    aside = tmp_path / "aside"
    below = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers" / good.system_identifier
    try:
        shutil.move(below, aside)
        committed = good.play()
        shutil.move(aside, below)
        assert committed.rc == 0, committed.stdout
        results = {result.task.rpartition(" : ")[2]: dict(result.res) for result in committed.results}
        replayed = {name: results[task] for name, task in registers().items() if task in results}
        assert {"__execute_phase", "__execute_run", "__execute_migrated"} <= set(replayed)
        state = unapproved.state()
        run = unapproved.play(extra_vars=replayed)
        assert run.rc != 0, run.stdout
        assert unapproved.state() == state, run.stdout
    finally:
        good.cluster.drop_database(good.database)


def registers() -> dict[str, str]:
    """The task of every register of the roles."""
    found = {}
    for role in ROLES:
        for file in (ROOT / "roles" / role / "tasks").glob("*.yml"):
            for task in tasks_of(yaml.safe_load(file.read_text(encoding="utf-8"))):
                if "register" in task:
                    found[task["register"]] = task["name"]
    return found


def tasks_of(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give every task, those in blocks as well."""
    for task in tasks:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_of(task.get(part, []))
