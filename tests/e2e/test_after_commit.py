# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements after COMMIT: Phase Beta's index build is cancelled, goes on, is rolled back; what such a statement writes."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for

if TYPE_CHECKING:
    from pathlib import Path

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


# What the functions behind an expression index do, whatever they are declared to be.
WRITES = {
    "delete": "DELETE FROM public.watched",
    "update": "UPDATE public.watched SET id = id + 1",
    "sequence": "PERFORM nextval('public.watched_ids')",
    "nothing": "NULL",
}
BEHIND_AN_INDEX = """
CREATE TABLE public.watched (id int);
INSERT INTO public.watched VALUES (1);
CREATE SEQUENCE public.watched_ids;
CREATE TABLE public.indexed AS SELECT 'note' AS note FROM generate_series(1, 3);
CREATE FUNCTION public.written() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {does}; RETURN 1; END $$;
CREATE FUNCTION public.folded(text) RETURNS text IMMUTABLE LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.written(); RETURN lower($1); END $$;
"""


@pytest.mark.fault("writes-after-commit")
@pytest.mark.parametrize("does", sorted(WRITES))
def test_a_rehearsal_sees_what_a_statement_after_commit_writes(target: Target, tmp_path: Path, does: str) -> None:
    target.cluster.psql(BEHIND_AN_INDEX.format(does=WRITES[does]), target.database)
    (tmp_path / "small").mkdir()
    files = PhaseFiles(tmp_path / "small")
    definition: dict[str, Any] = {
        "scope": {
            "schemas": ["public"],
            "statements": ["COMMENT", "CREATE INDEX CONCURRENTLY"],
            "functions": ["public.folded"],
        },
        "expect": {"tags": {"BEGIN": 1, "COMMENT": 1, "COMMIT": 1, "CREATE INDEX": 1}},
    }
    undo = b"DROP INDEX public.indexed_folded;\nCOMMENT ON TABLE public.indexed IS NULL;\n"
    definition["rollback"] = {
        "file": "rollback.sql",
        "sha256": hashlib.sha256(undo).hexdigest(),
        "statements": ["COMMENT", "DROP INDEX"],
        "cannot_restore": [],
    }
    files.write(
        definition,
        ddl=b"BEGIN;\nCOMMENT ON TABLE public.indexed IS 'folded';\nCOMMIT;\n"
        b"CREATE INDEX CONCURRENTLY indexed_folded ON public.indexed (public.folded(note));\n",
        rollback=undo,
    )
    with running_cluster(rehearsal=True) as other:
        rehearsed = target.rehearse(other, files.path)
    if does == "nothing":
        assert rehearsed.rc == 0, rehearsed.stdout
        return
    assert rehearsed.rc != 0
    assert "C-07: a statement after COMMIT changes data (lines 4)" in rehearsed.messages, rehearsed.stdout
    changed = "public.watched_ids" if does == "sequence" else "public.watched"
    assert f"changed: {changed}\n" in rehearsed.messages
    assert not (tmp_path / "plans").exists() or not list((tmp_path / "plans").glob("*/plan.json"))
