# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a journal tells of the runs before: the outcome of the last transaction, however often C-07 was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import journaled_outcome
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import require_below
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import new_directory

if TYPE_CHECKING:
    from pathlib import Path

TRANSACTION = ("transaction", {"xid": "7"})
COMMIT = ("commit", {"xid": "7"})
COMMITTED = ("done", {"outcome": "COMMITTED"})
ROLLED_BACK = ("failed", {"outcome": "ROLLED_BACK"})
STOPPED = ("failed", {"outcome": "NOT_STARTED"})
BROKEN = ("failed", {"reason": "no outcome yet"})
UNKNOWN = ("failed", {"outcome": "UNKNOWN"})
RESOLVED = ("resolved", {"outcome": "COMMITTED"})


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([], "NOT_STARTED"),
        ([STOPPED], "NOT_STARTED"),
        ([BROKEN], "NOT_STARTED"),
        ([TRANSACTION], None),
        ([TRANSACTION, COMMIT], None),
        ([TRANSACTION, COMMIT, COMMITTED], "COMMITTED"),
        ([TRANSACTION, ROLLED_BACK], "ROLLED_BACK"),
        ([TRANSACTION, UNKNOWN], None),
        ([TRANSACTION, UNKNOWN, RESOLVED], "COMMITTED"),
        ([TRANSACTION, COMMIT, RESOLVED], "COMMITTED"),
        ([STOPPED, TRANSACTION, COMMIT, COMMITTED], "COMMITTED"),
        ([TRANSACTION, ROLLED_BACK, TRANSACTION, COMMIT, COMMITTED], "COMMITTED"),
        ([TRANSACTION, COMMIT, COMMITTED, STOPPED], "COMMITTED"),
        ([TRANSACTION, COMMIT, COMMITTED, TRANSACTION, ROLLED_BACK], "COMMITTED"),
        ([TRANSACTION, COMMIT, STOPPED], None),
        ([TRANSACTION, COMMIT, BROKEN], None),
        ([TRANSACTION, ROLLED_BACK, TRANSACTION], None),
    ],
)
def test_the_outcome_is_that_of_the_last_transaction(
    events: list[tuple[str, dict[str, Any]]], outcome: str | None
) -> None:
    entries = [Entry(n, "", "C-07", event, data) for n, (event, data) in enumerate(events, start=1)]
    assert journaled_outcome(entries, "C-07") == outcome
    assert journaled_outcome(entries, "C-09") == "NOT_STARTED"


def test_two_runs_of_one_second_get_directories_of_their_own(tmp_path: Path) -> None:
    made = {new_directory(str(tmp_path / "runs"), "alpha_test").path for _ in range(5)}
    assert len(made) == 5


def test_a_run_that_never_got_a_plan_is_sealed_with_its_reason(tmp_path: Path) -> None:
    artefacts = new_directory(str(tmp_path), "alpha_test")
    report = seal_run(artefacts, "phase.yml cannot be read")
    assert (report["outcome"], report["reason"]) == ("STOPPED", "phase.yml cannot be read")
    assert "phase.yml cannot be read" in (tmp_path / artefacts.path / "SUMMARY.txt").read_text(encoding="utf-8")
    assert RunDirectory(artefacts.path).sealed


@pytest.mark.fault("rollback-again")
def test_an_execution_is_undone_below_its_own_root_only(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "alpha_prod_20260516T031200Z"
    run.mkdir(parents=True)
    (tmp_path / "alias").symlink_to(tmp_path / "runs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / run.name).symlink_to(run)
    require_below(RunDirectory(str(run)), str(tmp_path / "runs"))
    require_below(RunDirectory(str(tmp_path / "alias" / run.name)), str(tmp_path / "runs"))
    for root, path in (
        (tmp_path / "other", run),
        (tmp_path, run),
        (tmp_path / "other", tmp_path / "other" / run.name),
    ):
        with pytest.raises(PhaseGateError, match="the execution is not below phasegate_root"):
            require_below(RunDirectory(str(path)), str(root))
