# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook with --check, in every state of a phase: nothing is written, and it ends as the real run would begin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, write_plan
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play

FRESH, APPLIED, REFUSED, UNDONE = "fresh", "applied", "refused", "rolled back"

DEFINITION = {"preflight": [{"id": "P-1", "title": "calm", "sql": "SELECT count(*) FROM app.alarm", "expect": 0}]}


@dataclass
class World:
    """A target that goes through the states of a phase, in their order."""

    target: Target
    phase: str
    rehearsal: dict[str, Any]
    state: str = FRESH
    execution: Path = field(default_factory=lambda: Path("/nonexistent/small_test_20260101T000000Z"))

    def reach(self, state: str) -> None:
        """Bring the target into a state."""
        cluster, database = self.target.cluster, self.target.database
        if self.state == FRESH != state:
            assert self.play("execute").rc == 0
            self.execution = self.target.bundles()[-1].path
            self.state = APPLIED
        if self.state == APPLIED and state in {REFUSED, UNDONE}:
            cluster.psql("INSERT INTO app.alarm VALUES (1); INSERT INTO app.t VALUES (1), (2)", database)
            self.target.hostvars["phasegate_require"] = {"approvals": "required"}
            self.state = REFUSED
        if self.state == REFUSED and state == UNDONE:
            cluster.psql("TRUNCATE app.alarm, app.t", database)
            del self.target.hostvars["phasegate_require"]
            assert self.play("rollback", **self.undo(confirm=True)).rc == 0
            self.state = UNDONE
        assert self.state == state

    def undo(self, *, confirm: bool) -> dict[str, Any]:
        return {
            "phasegate_execution": str(self.execution),
            **({"phasegate_confirm": self.execution.name} if confirm else {}),
        }

    def play(self, playbook: str, arguments: str = "", **extra: Any) -> Play:
        inputs = {"execute": {"phasegate_phase_file": self.phase}, "rehearse": {"phasegate_phase_file": self.phase}}
        if playbook == "rehearse":
            extra.update(phasegate_author="huyen", phasegate_rehearsal=self.rehearsal)
        return self.target.play(
            f"playbooks/{playbook}.yml", extra_vars={**inputs.get(playbook, {}), **extra}, arguments=arguments
        )

    def files(self) -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in self.target.root.rglob("*")}

    def checked(self, playbook: str, **extra: Any) -> Play:
        """Run a playbook with --check, and require that it left nothing."""
        before = self.target.state(), self.files()
        run = self.play(playbook, "--check", **extra)
        assert (self.target.state(), self.files()) == before
        assert "Traceback" not in run.stdout
        assert "Finalization" not in run.stdout
        return run


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("check")
    (directory / "small").mkdir()
    files = PhaseFiles(directory / "small").write(DEFINITION)
    cluster.create_database("check_mode")
    cluster.psql("CREATE SCHEMA app; CREATE TABLE app.alarm (id int)", "check_mode")
    target = Target(cluster, "check_mode", directory)
    target.root.mkdir()
    with running_cluster(rehearsal=True) as other:
        connection = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "port": other.port}
        yield World(target, files.path, {**connection, "user": SUPERUSER, "database": "check_mode"})
    cluster.drop_database("check_mode")


def statuses(run: Play) -> dict[str, str]:
    """Return the status of each gate in what a run shows at its end."""
    lines = run.of("Show the outcome").res["msg"]
    return {line[:5].strip(): line[5:19].strip() for line in lines if line.startswith("G-")}


# as small as the first word of a message; '' for a run that could begin
CASES: list[tuple[str, str, list[str]]] = [
    (FRESH, "execute", []),
    (FRESH, "rollback", ["C-09: the evidence of the execution is not intact."]),
    (FRESH, "rehearse", []),
    (FRESH, "drift", []),
    (FRESH, "prune", []),
    (APPLIED, "execute", []),
    (APPLIED, "rollback", []),
    (APPLIED, "rehearse", []),
    (APPLIED, "drift", []),
    (APPLIED, "prune", []),
    (
        REFUSED,
        "rollback",
        [
            "Stopped for 3 reasons: ",
            "1. C-09: the rollback is not confirmed.",
            "2. Stopped at G-1 (",
            "3. C-09: the rollback would lose 2 rows.",
        ],
    ),
    (UNDONE, "execute", []),
    (UNDONE, "rollback", ["C-09: the execution was rolled back already."]),
    (UNDONE, "rehearse", []),
    (UNDONE, "drift", []),
    (UNDONE, "prune", []),
]


@pytest.mark.parametrize(("state", "playbook", "reasons"), CASES, ids=[f"{one[0]}-{one[1]}" for one in CASES])
@pytest.mark.fault("check-mode")
def test_it_ends_as_the_run_would_begin(world: World, state: str, playbook: str, reasons: list[str]) -> None:
    world.reach(state)
    extra = world.undo(confirm=state != REFUSED) if playbook == "rollback" else {}
    run = world.checked(playbook, **extra)
    assert (run.rc == 0) == (not reasons), run.stdout
    for reason in reasons:
        assert reason in run.messages
    if (playbook, state) in {("execute", FRESH), ("execute", UNDONE)}:
        known = {
            "G-1": "NOT ENFORCED",
            "G-2": "NOT REACHED",
            "G-3": "PASS",
            "G-4": "PASS",
            "G-5": "NOT REACHED",
            "G-6": "PASS",
        }
        later = {"G-7": "PASS", "G-8": "PASS", "G-9": "NOT ENFORCED", "G-10": "NOT ENFORCED", "G-11": "PASS"}
        assert statuses(run) == {**known, **later}
    if (playbook, state) == ("rollback", APPLIED):
        assert {"G-1": "NOT ENFORCED", "G-3": "PASS", "G-6": "N/A", "G-8": "PASS"}.items() <= statuses(run).items()


@pytest.mark.fault("check-mode")
def test_an_execution_is_judged_to_the_end(world: World) -> None:
    world.reach(UNDONE)
    cluster, database = world.target.cluster, world.target.database
    cluster.psql("INSERT INTO app.alarm VALUES (1)", database)
    world.target.hostvars["phasegate_require"] = {"approvals": "required"}
    run = world.checked("execute")
    assert run.rc != 0
    assert "Stopped for 2 reasons: " in run.messages
    assert "1. Stopped at G-1 (" in run.messages
    assert "calm" in run.messages
    del world.target.hostvars["phasegate_require"]
    cluster.psql("TRUNCATE app.alarm", database)


def test_the_playbooks_without_a_target(world: World, tmp_path: Path) -> None:
    plan = write_plan(tmp_path, created_at="2026-05-16T03:12:00Z", not_after="2099-01-01T00:00:00Z")
    anna = Reviewer.create(tmp_path, "anna")
    signer = {"phasegate_reviewer": "anna", "phasegate_key": str(anna.key)}
    world.reach(UNDONE)
    before = sorted(tmp_path.iterdir())
    plays: dict[str, dict[str, Any]] = {
        "review": {"phasegate_plan": str(plan)},
        "approve": {"phasegate_execution": str(world.execution), "phasegate_accept_loss_at_most": 5, **signer},
        "approvals": {"phasegate_plan": str(plan), "phasegate_reviewers": str(tmp_path)},
        "audit": {"phasegate_bundle": str(world.execution)},
    }
    for playbook in ("review", "approve", "audit"):
        assert world.checked(playbook, **plays[playbook]).rc == 0, playbook
    assert world.checked("audit", phasegate_bundle=str(tmp_path)).rc != 0
    assert world.checked("approvals", **plays["approvals"]).rc != 0  # nobody is registered there
    assert sorted(tmp_path.iterdir()) == before
