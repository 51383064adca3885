# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase whose diff policy is exact: its rehearsal records what it does, and production does that and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.target import Target

# a change that additions_only does not permit, and one that depends on the rows
DDL = b"""\
ALTER TABLE sandbox_tac.logical_unit ALTER COLUMN section_type SET DEFAULT 'law';
DO $$ BEGIN
  IF (SELECT count(*) FROM sandbox_tac.logical_unit) > 76 THEN CREATE TABLE sandbox_tac.too_many (id int); END IF;
END $$;
"""
DEFINITION = {
    "scope": {"schemas": ["sandbox_tac"], "statements": ["ALTER TABLE SET DEFAULT", "DO", "CREATE TABLE"]},
    "expect": {"tags": {"ALTER TABLE": 1, "DO": 1}},
    "diff": {"policy": "exact"},
    "verify": [{"id": "VA-1", "title": "DDL lines", "builtin": "schema_diff", "expect": {"removed": 0, "added": 0}}],
}


def test_exact_is_what_the_rehearsal_did(target: Target, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    files = PhaseFiles(tmp_path / "small")
    undo = b"ALTER TABLE sandbox_tac.logical_unit ALTER COLUMN section_type DROP DEFAULT;\n"
    files.write(DEFINITION, ddl=DDL, rollback=undo)
    text = (tmp_path / "small" / "phase.yml").read_text(encoding="utf-8")
    (tmp_path / "small" / "phase.yml").write_text(text.replace("- DROP TABLE", "- ALTER TABLE DROP DEFAULT"))
    schema = target.dump("--schema-only")

    stopped = target.play_phase(tmp_path / "small")
    assert "Stopped at G-10 (" in stopped.messages
    assert "its diff policy exact has nothing to compare with" in stopped.messages
    assert not stopped.reached("C-07")

    with running_cluster(rehearsal=True) as other:
        rehearsed = target.rehearse(other, files.path)
    assert rehearsed.rc == 0, rehearsed.stdout
    report = next(one for one in target.bundles() if "rehearsal" in one.path.name).text("report.md")
    assert "## Commands" in report
    assert "## Gates" not in report
    (plan,) = (tmp_path / "plans").glob("*/plan.json")

    def execute() -> str:
        return target.play_phase(tmp_path / "small", extra_vars={"phasegate_plan": str(plan)}).stdout

    target.cluster.psql(
        "INSERT INTO sandbox_tac.logical_unit (doc_code, section_type, canonical_address) VALUES ('X', 'law', 'X/law/1')",
        target.database,
    )
    said = execute()
    assert "verification failed inside the transaction; rolled back before COMMIT" in said
    assert "additive: table sandbox_tac.too_many added" in said
    assert "section_type" not in said
    target.cluster.psql("DELETE FROM sandbox_tac.logical_unit WHERE doc_code = 'X'", target.database)
    assert target.dump("--schema-only") == schema

    assert "outcome       SUCCESS" in execute()
    assert target.dump("--schema-only") != schema
