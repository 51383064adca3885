# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Phase Beta, whose index is built after COMMIT: the build is cancelled, the run goes on, and it is rolled back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

BETA = "playbooks/phase_beta.yml"
INDEX = "public.idx_tac_logical_unit_authority"
VALID = f"SELECT coalesce((SELECT indisvalid::text FROM pg_index WHERE indexrelid = to_regclass('{INDEX}')), 'absent')"
BUILDING = "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for %'"


def cancelled(target: Target) -> Play:
    """Run Beta, and cancel the build of its index while it waits for a transaction that is older."""
    ended: list[Play] = []
    running = threading.Thread(target=lambda: ended.append(target.play(BETA)), daemon=True)
    with psycopg.connect(target.cluster.dsn(target.database)) as older:
        # a build waits for snapshots that are older than its index
        older.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        older.execute("SELECT pg_current_xact_id()")
        running.start()
        wait_for("the build waits", lambda: target.rows(BUILDING), seconds=120)
        running.join(120)
    return ended[0]


@pytest.mark.fault("build-cancelled")
def test_a_cancelled_build_is_named_and_the_run_goes_on_and_can_be_rolled_back(target: Target) -> None:
    assert target.play().rc == 0
    before = target.dump("--schema-only")

    stopped = cancelled(target)
    assert stopped.rc != 0
    assert "did not complete; the transaction before it is COMMITTED" in stopped.messages
    assert f"invalid index {INDEX}" in stopped.messages
    assert f"remove what it left with DROP INDEX CONCURRENTLY {INDEX}; then run the same command" in stopped.messages
    assert target.value(VALID) == "false"
    first = target.bundles()[-1]
    assert "COMMITTED_INCOMPLETE" in (first.path / "SUMMARY.txt").read_text()

    # nothing is dropped by itself
    again = target.play(BETA)
    assert again.rc != 0
    assert f"invalid index {INDEX}, left by an earlier attempt" in again.messages
    assert target.value(VALID) == "false"

    with psycopg.connect(target.cluster.dsn(target.database), autocommit=True) as person:
        person.execute(f"DROP INDEX CONCURRENTLY {INDEX}".encode())
    checked = target.play(BETA, arguments="--check")
    assert target.value(VALID) == "absent", checked.stdout

    done = target.play(BETA)
    assert done.rc == 0, done.stdout
    assert "what it had left to run after COMMIT ran now" in done.stdout
    assert target.value(VALID) == "true"
    # the transaction ran once
    assert (
        target.value("SELECT count(*) FROM pg_constraint WHERE conname LIKE '%authority_check' AND convalidated") == 2
    )

    unchanged = target.play(BETA)
    assert unchanged.rc == 0, unchanged.stdout
    assert "This phase was applied before; it was verified read-only." in unchanged.stdout
    assert unchanged.stats("changed") == {}

    execution = target.bundles()[-1].path
    undone = target.play(
        "playbooks/rollback.yml",
        extra_vars={"phasegate_execution": str(execution), "phasegate_confirm": execution.name},
    )
    assert undone.rc == 0, undone.stdout
    assert target.dump("--schema-only") == before
