# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server can do to an execution: forget a transaction, run out of space, be a standby."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import InBackground, Run, client_of, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.faults.conftest import Seen


@pytest.mark.fault("xid-taken-back")
def test_a_crash_does_not_take_a_transaction_id_back(tmp_path: Path, seen: Seen) -> None:
    # the server's own writer would put the id on disk within 0.2 s
    with running_cluster({"wal_writer_delay": "10s"}) as cluster:
        cluster.psql("CREATE SCHEMA app; CREATE TABLE app.old (id int)")
        ddl = b"ALTER TABLE app.old ADD COLUMN new int;\n"
        scope = {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUMN"]}
        files = PhaseFiles(tmp_path).write({"scope": scope, "expect": {"tags": {"ALTER TABLE": 1}}}, ddl=ddl)
        run = Run.of(client_of(cluster, "postgres"), tmp_path / "runs", files.path).prepare()
        with run.client.session() as reader:
            reader.execute("BEGIN; SELECT FROM app.old")
            migration = InBackground(run)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            wait_for("the statement waits", lambda: cluster.psql(waiting) == "1")
            cluster.crash()
        cluster.start()
        outcome = migration.join()
        xid = int(run.events("transaction")[0]["xid"])
        assert outcome.data["outcome"] == "ROLLED_BACK", outcome.message
        # as other sessions do in the meantime
        while int(cluster.psql("SELECT pg_current_xact_id()")) <= xid:
            pass
        assert cluster.psql(f"SELECT pg_xact_status('{xid}')") == "aborted"
        seen("ROLLED_BACK, and the id stays with this transaction")
