# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase that makes a role: its rehearsal records it, reviewers see it first, and production makes that role and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.target import Target

DEFINITION = {
    "scope": {"schemas": ["sandbox_tac"], "statements": ["CREATE ROLE", "GRANT ROLE"]},
    "expect": {"tags": {"CREATE ROLE": 2, "GRANT ROLE": 1}},
    "diff": {"policy": "exact"},
}


@pytest.mark.fault("cluster-changed")
def test_a_role_is_rehearsed_reviewed_and_made(target: Target, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    files = PhaseFiles(tmp_path / "small")
    files.write(
        DEFINITION,
        ddl=b"CREATE ROLE e2e_readers;\nCREATE ROLE e2e_boss SUPERUSER LOGIN;\nGRANT e2e_readers TO e2e_boss;\n",
        rollback=b"DROP ROLE e2e_boss;\nDROP ROLE e2e_readers;\n",
    )
    text = (tmp_path / "small" / "phase.yml").read_text(encoding="utf-8")
    (tmp_path / "small" / "phase.yml").write_text(text.replace("- DROP TABLE", "- DROP ROLE"))
    with running_cluster(rehearsal=True) as other:
        rehearsed = target.rehearse(other, files.path)
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    review = plan.with_name("review.md").read_text(encoding="utf-8")
    first = review[review.index("Review these first") :]
    assert "`e2e_boss`: widening, added role." in first
    assert "superuser=yes" in review
    assert (
        "outcome       SUCCESS"
        in target.play_phase(tmp_path / "small", extra_vars={"phasegate_plan": str(plan)}).stdout
    )
    assert target.cluster.psql("SELECT rolsuper FROM pg_roles WHERE rolname = 'e2e_boss'", target.database) == "t"
    target.cluster.psql("DROP ROLE e2e_boss; DROP ROLE e2e_readers", target.database)
