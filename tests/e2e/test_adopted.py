# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that was killed after its COMMIT is verified by what it was executed with, whatever file is given then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = (
    "CREATE SCHEMA app; CREATE TABLE app.old (id int PRIMARY KEY); INSERT INTO app.old SELECT generate_series(1, 10)"
)
STRICT = [
    {"id": "VA-1", "title": "every row is there", "sql": "SELECT pg_catalog.count(*) FROM app.old", "expect": 10},
    {"id": "VA-2", "title": "t is there", "sql": "SELECT pg_catalog.to_regclass('app.t') IS NOT NULL", "expect": True},
]
#: The same SQL with other claims.
WEAK: dict[str, Any] = {
    "another check": {"verify": [{**STRICT[0], "sql": "SELECT 10"}, STRICT[1]]},
    "a check less": {"verify": STRICT[1:]},
    "another policy": {
        "verify": [{**STRICT[0], "expect": 3}, STRICT[1]],
        "diff": {"policy": "additions_only", "allow": [{"class": "*"}]},
    },
}


def killed(target: Target) -> None:
    """Leave the run as a kill right after COMMIT does: C-08, reports and seal are not there."""
    run = target.bundle().path
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    done = [
        number
        for number, line in enumerate(lines)
        if (json.loads(line)["step"], json.loads(line)["event"]) == ("C-07", "done")
    ]
    (run / "journal.jsonl").write_bytes(b"".join(lines[: done[-1] + 1]))
    for name in (
        "SHA256SUMS",
        "SUMMARY.txt",
        "report.json",
        "report.md",
        "report.html",
        "junit.xml",
        "audit.py",
        "logs/driver.log",
    ):
        (run / name).unlink()
    for path in [*(run / "schema").glob("after*"), *(run / "schema").glob("diff.*"), run / "logs/C-08.log"]:
        path.unlink(missing_ok=True)


@pytest.mark.fault("adopted-by-another")
@pytest.mark.parametrize("other", WEAK)
def test_the_checks_of_an_interrupted_run_are_its_own(
    cluster: Cluster, empty_database: str, tmp_path: Path, other: str
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(BEFORE, target.database)
    for name, changes in (("strict", {"verify": STRICT}), ("weak", WEAK[other])):
        (tmp_path / name).mkdir()
        PhaseFiles(tmp_path / name).write({"phase": "small", **changes})
    assert target.play_phase(tmp_path / "strict").rc == 0
    killed(target)
    cluster.psql("DELETE FROM app.old WHERE id > 3", target.database)

    told = target.play_phase(tmp_path / "weak")
    assert told.rc != 0, told.stdout
    assert "C-08: 1/2 checks passed; failed: VA-1" in told.messages
    assert "it is verified by the definition that it was executed with (revision r1)" in " ".join(told.stdout.split())
    assert "SUCCESS" not in target.bundle().text("SUMMARY.txt")
    # sealed now; its checks are read again by the same definition
    again = target.play_phase(tmp_path / "weak")
    assert again.rc != 0
    assert "failed: VA-1" in again.messages
