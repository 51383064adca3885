# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One declared row count for all statements of a tag, from phase.yml to the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.target import Target

DDL = b"CREATE TABLE sandbox_tac.kind (id int);\n" + b"".join(
    b"INSERT INTO sandbox_tac.kind VALUES (%d);\n" % n for n in range(40)
)


def test_every_insert_has_the_declared_count(target: Target, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    PhaseFiles(tmp_path / "small").write(
        {
            "scope": {"schemas": ["sandbox_tac"], "statements": ["CREATE TABLE", "INSERT"]},
            "expect": {"tags": {"CREATE TABLE": 1, "INSERT": 40}, "rows": {"INSERT": {"each": 1}}},
        },
        ddl=DDL,
        rollback=b"DROP TABLE sandbox_tac.kind;\n",
    )
    run = target.play_phase(tmp_path / "small")
    assert run.rc == 0, run.stdout
    assert target.value("SELECT count(*) FROM sandbox_tac.kind") == 40
    statements = target.bundles()[-1].json("report.json")["migration"]["statements"]
    assert [one["expected_rows"] for one in statements] == [None, *[1] * 40]
