# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DDL cut after every one of its bytes: planned as a phase of its own, and forced into the executor."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.action.phase_plan import plan_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._run.migration import MigrationChecks, migration_script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import run_script
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.tests.support.others import BEFORE, CHANGE
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

PHASE: dict[str, Any] = {
    "scope": {
        "schemas": ["app"],
        "statements": ["CREATE TABLE", "ALTER TABLE ADD COLUMN", "UPDATE", "COMMENT"],
    },
    "expect": {"tags": {"CREATE TABLE": 1, "ALTER TABLE": 1, "UPDATE": 1, "COMMENT": 1}, "rows": {"UPDATE": [3]}},
    "preflight": [{"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
    "verify": [
        {"id": "VA-1", "title": "told", "sql": "SELECT obj_description('app.t'::regclass, 'pg_class')", "expect": "new"}
    ],
}
DDL = CHANGE.encode()


@pytest.mark.fault("cut-anywhere")
def test_no_cut_can_be_planned(tmp_path: Path, seen: Seen) -> None:
    whole = DDL.rstrip()
    for length in range(len(whole) - 1):  # without its last semicolon it is the same SQL
        files = PhaseFiles(tmp_path).write(PHASE, ddl=whole[:length])
        with pytest.raises(PhaseFileError):
            plan_of(load_phase(files.path))
    seen(f"refused at planning {len(whole) - 1} of {len(whole) - 1} times")


@pytest.mark.fault("cut-anywhere")
def test_no_cut_persists_when_it_is_forced(cluster: Cluster, empty_database: str, tmp_path: Path, seen: Seen) -> None:
    """The plan, its digest and its ranges are changed to fit the cut file, as who could write all of them would."""
    cluster.psql(BEFORE, empty_database)
    client = client_of(cluster, empty_database)
    run = Run.of(client, tmp_path / "runs", PhaseFiles(tmp_path).write(PHASE, ddl=DDL).path).prepare()
    planned = copy.deepcopy(run.plan["ddl"]["statements"])
    ends = {statement["end"] for statement in planned}
    forced = 0
    with client.session("phasegate:run:cut") as session, Step(run.artefacts, Migrated).running() as step:
        base = take_snapshot(session)
        base.rows()
        for length in range(len(DDL.rstrip()) - 1):
            ddl = DDL[:length]
            statements = [
                {**statement, "end": min(statement["end"], length)}
                for statement in planned
                if statement["start"] < length
            ]
            run.plan["ddl"].update(sha256=hashlib.sha256(ddl).hexdigest(), bytes=length, statements=statements)
            run.ddl = ddl
            run.freeze()
            request = run.request()
            checks = MigrationChecks(client, request, step, base)
            step.update(gates=[])
            with pytest.raises(PhaseGateError):
                run_script(session, client, migration_script(request), checks, base, step)
            assert step.end.outcome == "ROLLED_BACK"
            assert step.end.unchanged is True
            forced += 1
    assert len(ends) == 4
    assert cluster.psql("SELECT to_regclass('app.t') IS NULL", empty_database) == "t"
    seen(f"forced {forced} times: rolled back {forced} times")
