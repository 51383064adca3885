# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence and last lines say what this run did: its kind, how it ended, and nothing that an earlier run did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.playbook import environment, play, write_inventory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

UNVOUCHED = " (approvals were not enforced; not rehearsed)"


@pytest.fixture
def small(tmp_path: Path, target: Target) -> PhaseFiles:
    """A phase that makes one table."""
    target.cluster.psql("CREATE SCHEMA app", target.database)
    directory = tmp_path / "phases" / "small"
    directory.mkdir(parents=True)
    return PhaseFiles(directory).write()


@pytest.fixture
def copies(target: Target) -> Iterator[dict[str, Any]]:
    """What a rehearsal of the target needs, with a cluster for its copy."""
    with running_cluster(rehearsal=True) as other:
        connection = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "user": SUPERUSER}
        yield {
            "phasegate_author": "huyen",
            "phasegate_plans": str(target.directory / "plans"),
            "phasegate_rehearsal": {**connection, "port": other.port, "database": "copy"},
        }


def newest(target: Target, known: set[Path]) -> Bundle:
    """Return the bundle that a run added to those whose paths are known, and make it known."""
    (bundle,) = (one for one in target.bundles() if one.path not in known)
    known.add(bundle.path)
    bundle.assert_sealed()
    return bundle


def titled(bundle: Bundle, title: str) -> None:
    """Check that every form of the report has this title."""
    assert bundle.json("report.json")["title"] == title
    assert bundle.text("report.md").splitlines()[0] == f"# {title}"
    assert bundle.text("SUMMARY.txt").splitlines()[0] == title


def told(run: Play) -> list[str]:
    """Return the last lines of a run."""
    lines: list[str] = run.of("Show the outcome").res["msg"]
    return lines


@pytest.mark.fault("run-named")
def test_each_run_of_a_phase_says_what_it_did(target: Target, small: PhaseFiles) -> None:
    known: set[Path] = set()
    assert target.play_phase(small.directory).rc == 0
    execution = newest(target, known)
    titled(execution, f"Execution of phase small r1 on test: SUCCESS{UNVOUCHED}")
    summary = execution.text("SUMMARY.txt")
    assert "WARNING       approvals were not enforced\nWARNING       not rehearsed\n" in summary

    again = target.play_phase(small.directory)
    assert again.rc == 0, again.stdout
    lines = told(again)
    assert lines[:2] == [
        f"Verification of the applied phase small r1 on test: SUCCESS{UNVOUCHED}",
        "This phase was applied before; it was verified read-only. This run changed nothing.",
    ]
    assert "verification  1/1, of this run" in lines
    assert f"applied by    {execution.path.name}" in lines
    # the gates and the seconds are those of the execution, whose report is named
    assert not [line for line in lines if line.startswith(("G-", "seconds"))]

    target.cluster.psql("INSERT INTO app.t VALUES (1), (2), (3)", target.database)
    undo = {"phasegate_execution": str(execution.path), "phasegate_confirm": execution.path.name}
    refused = target.play("playbooks/rollback.yml", extra_vars=undo)
    assert refused.rc != 0
    bundle = newest(target, known)
    # stopped when it was opened, before its approvals were evaluated
    titled(bundle, "Rollback of phase small r1 on test: STOPPED (not rehearsed)")
    text = bundle.text("report.md")
    assert "ROLLED_BACK" not in bundle.text("SUMMARY.txt")
    assert "table app.t: 3 rows" in bundle.reason
    assert "Lost with it" not in text
    assert target.value("SELECT count(*) FROM app.t") == 3

    undone = target.play("playbooks/rollback.yml", extra_vars={**undo, "phasegate_accept_loss": 3})
    assert undone.rc == 0, undone.stdout
    bundle = newest(target, known)
    titled(bundle, f"Rollback of phase small r1 on test: SUCCESS{UNVOUCHED}")
    text = bundle.text("report.md")
    assert "Lost with it, as accepted: table app.t, 3 rows" in text
    assert "table app.t removed" in text
    assert "no difference" not in text
    requested = {one["id"]: one["status"] for one in bundle.json("report.json")["triggers"]}
    assert requested["T-9"] == "TRIGGERED"
    assert {requested[f"T-{number}"] for number in range(2, 9)} == {"NOT EVALUATED"}


@pytest.mark.fault("run-named")
def test_an_applied_phase_that_does_not_verify_any_more_is_no_failed_execution(
    target: Target, small: PhaseFiles
) -> None:
    known: set[Path] = set()
    verify = [{"id": "VA-1", "title": "no row", "sql": "SELECT count(*) FROM app.t", "expect": 0}]
    small.write({"verify": verify})
    assert target.play_phase(small.directory).rc == 0
    execution = newest(target, known)
    target.cluster.psql("INSERT INTO app.t VALUES (1)", target.database)
    assert target.play_phase(small.directory).rc != 0
    bundle = newest(target, known)
    assert bundle.path.name.startswith("small_test_verification_")
    titled(bundle, "Verification of the applied phase small on test: NOT_VERIFIED")
    assert f"verifies      {execution.path.name}" in bundle.text("SUMMARY.txt")
    assert bundle.gates == {}


@pytest.mark.fault("run-named")
def test_a_rollback_that_cannot_be_opened_is_shown_as_one(target: Target) -> None:
    undo = {"phasegate_execution": str(target.root / "alpha_test_20260101T000000Z"), "phasegate_confirm": "x"}
    assert target.play("playbooks/rollback.yml", extra_vars=undo).rc != 0
    bundle = newest(target, set())
    assert bundle.path.name.startswith("alpha_test_rollback_")
    titled(bundle, "Rollback of phase alpha on test: STOPPED")
    assert "PASS" not in bundle.gates.values()


def test_a_rehearsal_that_cannot_be_opened_is_shown_as_one(target: Target, small: PhaseFiles, tmp_path: Path) -> None:
    (small.directory / "phase.yml").write_text("phase: small\n", encoding="utf-8")
    extra = {
        "phasegate_phase_file": small.path,
        "phasegate_author": "huyen",
        "phasegate_plans": str(tmp_path / "plans"),
    }
    assert target.play("playbooks/rehearse.yml", extra_vars=extra).rc != 0
    bundle = newest(target, set())
    assert bundle.path.name.startswith("small_test_rehearsal_")
    titled(bundle, "Rehearsal of phase small for test: STOPPED")
    # no gate table of an execution, and no gate that passed
    assert bundle.gates == {}
    assert "G-11" not in bundle.text("report.md")


@pytest.mark.fault("run-named")
def test_a_first_rehearsal_that_rolls_back_says_so_and_demands_no_review(
    target: Target, small: PhaseFiles, copies: dict[str, Any]
) -> None:
    small.write(ddl=b"CREATE TABLE app.t (id int CHECK (id > 'x'));\n")
    run = target.play("playbooks/rehearse.yml", extra_vars={**copies, "phasegate_phase_file": small.path})
    assert run.rc != 0
    bundle = newest(target, set())
    titled(bundle, "Rehearsal of phase small r1 for test: ROLLED_BACK")
    for text in (run.messages, bundle.text("report.md"), bundle.text("SUMMARY.txt")):
        assert "review" not in text
        assert "stopped before" not in text
    assert "The migration of the copy was rolled back before COMMIT." in bundle.text("SUMMARY.txt")
    assert not Path(copies["phasegate_plans"]).exists()


@pytest.mark.fault("rehearsals-together")
def test_two_rehearsals_of_one_play_are_apart(target: Target, small: PhaseFiles, copies: dict[str, Any]) -> None:
    """They name the same cluster and the same database for the copy; one of them fails."""
    target.cluster.psql("CREATE TABLE app.t (id int)", target.database)
    with running_cluster() as second:
        second.psql("CREATE DATABASE second")
        second.psql("CREATE SCHEMA app", "second")
        other = {
            **target.entry(),
            "phasegate_host": str(second.socket_directory),
            "phasegate_port": second.port,
            "phasegate_database": "second",
            "phasegate_root": str(target.directory / "second"),
            "phasegate_identity": {"database": "second"},
        }
        # nothing listens there
        lost = {**other, "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        inventory = write_inventory(
            target.directory / "three.yml", {"lost": lost, "target": target.entry(), "other": other}
        )
        extra = {**copies, "phasegate_phase_file": small.path, "phasegate_rollup": copies["phasegate_plans"]}
        unlimited = play(target.directory, "playbooks/rehearse.yml", inventory=inventory, extra_vars=extra)
        assert unlimited.rc != 0
        assert "Playbook rehearse would run on 3 hosts of the inventory." in unlimited.messages
        assert not target.root.exists()
        run = play(target.directory, "playbooks/rehearse.yml", inventory=inventory, limit="all", extra_vars=extra)
    assert run.rc != 0
    assert [(one.host, one.task.rpartition(" : ")[2]) for one in run.failures] == [
        ("lost", "Open | Inspect the source and open a run"),
        ("target", "Seal | Build the report and seal the evidence"),
    ]
    table = json.loads((Path(copies["phasegate_plans"]) / "rehearsal_small.json").read_text(encoding="utf-8"))
    assert [(row["host"], row["database"], row["outcome"]) for row in table["hosts"]] == [
        ("lost", "second", "NO_RESULT"),
        ("target", target.database, "ROLLED_BACK"),
        ("other", "second", "SUCCESS"),
    ]
    assert len(run.of("Show the results of all hosts").res["msg"].splitlines()) == 4
    failed = target.bundle()
    assert '42P07: relation "t" already exists' in failed.reason
    titled(failed, "Rehearsal of phase small r1 for test: ROLLED_BACK")
    # the other one ended as it would have alone, and its plan is there
    assert told_by(run, "other")[0] == "Rehearsal of phase small r1 for test: SUCCESS"
    (plan,) = Path(copies["phasegate_plans"]).glob("*/plan.json")
    assert f"plan          {plan}" in told_by(run, "other")


def told_by(run: Play, host: str) -> list[str]:
    """Return the last lines of a run on one host."""
    lines: list[str] = run.of("Show the outcome", host).res["msg"]
    return lines


def test_plans_are_below_the_directory_that_the_playbook_was_started_in(
    target: Target, small: PhaseFiles, copies: dict[str, Any], tmp_path: Path
) -> None:
    here = tmp_path / "desk"
    here.mkdir()
    inventory = write_inventory(tmp_path / "here.yml", {"target": target.entry()})
    extra = {**copies, "phasegate_phase_file": small.path}
    del extra["phasegate_plans"]
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "incomex.phasegate.rehearse"]
    done = subprocess.run(
        [*argv, "-e", json.dumps(extra)],
        cwd=here,
        env={**os.environ, **environment({})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (plan,) = (here / "plans").glob("*/plan.json")
    assert f"plan          {plan}" in done.stdout
    # the bundle's own has another name: it is not what people approve
    bundle = target.bundle()
    assert "phase_plan.json" in bundle.files
    assert "plan.json" not in bundle.files
