# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each gate as a table: the facts that it is judged by, the verdict, and the words for the operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import CheckResult
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import CheckStatus, GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    GATE_TITLES,
    Gate,
    RehearsalRecord,
    backup_fresh_gate,
    digest_gate,
    failed_gates,
    format_gate_table,
    gate_order,
    never_rehearsed_gate,
    no_provenance_gate,
    no_reviewers_gate,
    not_reached_gates,
    nothing_else_ran_gate,
    preflight_gate,
    provenance_gate,
    restorable_gate,
    rollback_ready_gate,
    run_lock_gate,
    scope_gate,
    target_gate,
    target_is_declared,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity, Mismatch, mismatches
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import foreign_plan
from hypothesis import given
from hypothesis import strategies as st

A, B = "a" * 64, "b" * 64
RESTORED = "rehearsed in r, where it restored the schema"
OK = CheckResult("P-1", "", CheckStatus.PASS, "1", "1")
BAD = CheckResult("P-8", "Every unit has " + "an authority, and " * 5, CheckStatus.FAIL, "86", "85")
OTHER_FILE = PhaseGateError("", expected="1 byte", found="2 bytes", next_step="start anew")
OPEN = CheckResult("P-2", "", CheckStatus.NOT_RUN, "x", "no file")

CASES: list[tuple[Gate, str, str]] = [
    (backup_fresh_gate(1000.0, 1002.0, 3600), GateStatus.PASS, "2.0 s old"),
    (backup_fresh_gate(1000.0, 1000.0, 3600), GateStatus.PASS, "0.0 s old"),
    (backup_fresh_gate(1000.0, 4600.0, 3600), GateStatus.PASS, "3600.0 s old"),
    (backup_fresh_gate(1000.0, 4600.5, 3600), GateStatus.FAIL, "3600.5 s old"),
    (backup_fresh_gate(1000.0, 999.0, 3600), GateStatus.FAIL, "a backup 1.0 s in the future"),
    (backup_fresh_gate(None, 1000.0, 3600), GateStatus.FAIL, "no backup in this run"),
    (backup_fresh_gate(1000.0, 1000.1, 0), GateStatus.FAIL, "0.1 s old"),
    (digest_gate(A, A), GateStatus.PASS, f"SHA-256 {A}"),
    (digest_gate(A, B), GateStatus.FAIL, f"SHA-256 {B}"),
    (digest_gate(A, A.upper()), GateStatus.FAIL, f"SHA-256 {A.upper()}"),
    (target_is_declared([], "database d", []), GateStatus.PASS, "database d"),
    (
        target_is_declared([], "database d", ["user"]),
        GateStatus.PASS,
        "database d (not declared in the inventory: user)",
    ),
    (
        target_is_declared([Mismatch("user", "one", "two"), Mismatch("database", "d", "e")], "x", ["y"]),
        GateStatus.FAIL,
        "user two; database e",
    ),
    (restorable_gate(None, "2712 TOC entries, read"), GateStatus.PASS, "2712 TOC entries, read"),
    (restorable_gate(None, None), GateStatus.FAIL, "no backup in this run"),
    (restorable_gate(OTHER_FILE, "7 TOC entries"), GateStatus.FAIL, "2 bytes"),
    (preflight_gate([OK]), GateStatus.PASS, "1/1"),
    (preflight_gate([]), GateStatus.FAIL, "0/0"),
    (preflight_gate([OK, BAD]), GateStatus.FAIL, f"1/2; P-8 ({BAD.title[:79]}…) found 85, expected 86"),
    (preflight_gate([OK, OPEN]), GateStatus.FAIL, "1/2; P-2 found no file, expected x"),
    (run_lock_gate(True, "pid 6, user u", []), GateStatus.PASS, "pid 6, user u; no other session"),
    (run_lock_gate(True, "pid 6, user u", ["pid 7, user u"]), GateStatus.PASS, "pid 6, user u; others: pid 7, user u"),
    (run_lock_gate(False, "pid 6, user u", ["pid 7, user v"]), GateStatus.FAIL, "pid 6, user u; pid 7, user v"),
    (
        run_lock_gate(False, "", []),
        GateStatus.FAIL,
        "the lock is not held: the session that held it for this run has ended",
    ),
    (scope_gate(["CREATE TABLE", "COMMENT"], ["COMMENT", "CREATE TABLE"]), GateStatus.PASS, "all within scope"),
    (scope_gate(["ALTER TABLE ADD COLUMN"], ["ALTER TABLE"]), GateStatus.PASS, "all within scope"),
    (scope_gate(["ALTER TABLE DROP COLUMN"], ["ALTER TABLE ADD COLUMN"]), GateStatus.FAIL, "ALTER TABLE DROP COLUMN"),
    (scope_gate(["ALTER TABLESPACE"], ["ALTER TABLE"]), GateStatus.FAIL, "ALTER TABLESPACE"),
    (scope_gate(["DROP TABLE", "CALL", "DROP TABLE"], []), GateStatus.FAIL, "CALL, DROP TABLE"),
    (rollback_ready_gate(A, None, "r"), GateStatus.FAIL, "no rollback SQL"),
    (rollback_ready_gate(A, B, "r"), GateStatus.FAIL, f"SHA-256 {B}"),
    (rollback_ready_gate(A, A, None), GateStatus.NOT_ENFORCED, "present and pinned; not rehearsed"),
    (rollback_ready_gate(A, A, "alpha_x"), GateStatus.PASS, "rehearsed in alpha_x, where it restored the schema"),
    (no_reviewers_gate("/p"), GateStatus.NOT_ENFORCED, "no reviewers are registered for this cluster (/p)"),
    (never_rehearsed_gate("/p"), GateStatus.FAIL, "a phase that was not rehearsed, so it cannot have been approved"),
    (
        rollback_ready_gate(A, A, "r", RehearsalRecord(signature="UNSIGNED")),
        GateStatus.PASS,
        f"{RESTORED}; seal of r UNSIGNED",
    ),
    (rollback_ready_gate(A, A, "r", RehearsalRecord(unusable=["gone"])), GateStatus.NOT_ENFORCED, "gone"),
    (rollback_ready_gate(A, A, "r", RehearsalRecord(unusable=["gone"], required=True)), GateStatus.FAIL, "gone"),
    (rollback_ready_gate(A, A, "r", RehearsalRecord(rollback=["other"])), GateStatus.FAIL, "other"),
    (rollback_ready_gate(A, A, "r", RehearsalRecord(ddl=["other"])), GateStatus.PASS, RESTORED),
    (rollback_ready_gate(A, B, "r", RehearsalRecord(unusable=["gone"])), GateStatus.FAIL, f"SHA-256 {B}"),
    (provenance_gate(A, A, "r", record=RehearsalRecord(ddl=["other"])), GateStatus.FAIL, "other"),
    (
        provenance_gate(A, A, "r", record=RehearsalRecord(rollback=["other"])),
        GateStatus.PASS,
        f"normalised fingerprint {A}",
    ),
    (
        provenance_gate(A, A, "r", told="newer", record=RehearsalRecord(unusable=["gone"])),
        GateStatus.NOT_ENFORCED,
        "gone; newer",
    ),
    (
        provenance_gate(A, B, "r", record=RehearsalRecord(unusable=["gone"])),
        GateStatus.FAIL,
        f"normalised fingerprint {B}",
    ),
    (no_provenance_gate("unchanged"), GateStatus.NOT_ENFORCED, "the phase was not rehearsed"),
    (
        no_provenance_gate("exact"),
        GateStatus.FAIL,
        "the phase was not rehearsed, and its diff policy exact has nothing to compare with",
    ),
    (provenance_gate(A, A, "alpha_x", ""), GateStatus.PASS, f"normalised fingerprint {A}"),
    (provenance_gate(A, B, "alpha_x", "+ column"), GateStatus.FAIL, f"normalised fingerprint {B}: + column"),
    (provenance_gate(A, A, "alpha_x", told="newer"), GateStatus.PASS, f"normalised fingerprint {A}; newer"),
    (
        provenance_gate(A, A, "alpha_x", server=[Mismatch("TimeZone", "UTC", "Asia/Tokyo")]),
        GateStatus.FAIL,
        f"normalised fingerprint {A}; TimeZone Asia/Tokyo",
    ),
    (nothing_else_ran_gate(["run", "C-01", "C-08", "run"]), GateStatus.PASS, "nothing else ran"),
    (nothing_else_ran_gate(["run", "C-09"]), GateStatus.FAIL, "C-09"),
    (nothing_else_ran_gate(["run", "C-10", "psql"]), GateStatus.FAIL, "C-10, psql"),
]


@pytest.mark.parametrize(("gate", "status", "found"), CASES, ids=lambda value: getattr(value, "id", ""))
def test_gate(gate: Gate, status: str, found: str) -> None:
    assert (gate.status, gate.found) == (status, found)
    assert gate.expected
    # What to do is said exactly when there is something to do.
    assert bool(gate.next_step) == (status == GateStatus.FAIL)


@given(started=st.floats(0, 1e10), age=st.floats(-1e6, 1e6), limit=st.integers(0, 10**6))
def test_a_backup_is_fresh_exactly_within_its_limit(started: float, age: float, limit: int) -> None:
    now = started + age
    assert (backup_fresh_gate(started, now, limit).status == GateStatus.PASS) == (0 <= now - started <= limit)


def test_there_are_eleven_gates_and_the_table_has_a_line_for_each() -> None:
    gates = sorted(not_reached_gates(set(GATE_TITLES)), key=gate_order)
    lines = format_gate_table(gates).splitlines()
    assert [line.split()[0] for line in lines] == [f"G-{number}" for number in range(1, 12)]
    assert all("NOT REACHED" in line for line in lines)
    assert failed_gates([*gates, run_lock_gate(lock_held=False, holder="", others=[])])[0].id == "G-7"


@pytest.mark.parametrize(
    ("declared", "pinned", "status"),
    [
        ({}, False, GateStatus.FAIL),
        ({"rehearsal_system_identifiers": ["7777"], "database": ""}, False, GateStatus.FAIL),
        ({}, True, GateStatus.PASS),
        ({"database": "directus"}, False, GateStatus.PASS),
    ],
)
def test_g4_is_no_pass_when_nothing_was_compared(declared: dict[str, Any], status: str, *, pinned: bool) -> None:
    gate = target_gate(declared, PRODUCTION, pinned=pinned)
    assert gate.status == status
    assert (("declare phasegate_identity" in gate.next_step), "system identifier 7501" in gate.found) == (
        status == GateStatus.FAIL,
        True,
    )


# --- the target ------------------------------------------------------------------------------------------------

PRODUCTION = Identity("postgres", "directus", "workflow_admin", "16.13 (Debian)", "16", "7501", False, "UTF8")
DECLARED: dict[str, Any] = {
    "container": "postgres",
    "database": "directus",
    "user": "workflow_admin",
    "server_version": "16",
    "system_identifier": "7501",
    "rehearsal_system_identifiers": ["7777"],
}


@pytest.mark.parametrize("version", ["16", "16.13", None])
def test_the_declared_target_is_accepted(version: str | None) -> None:
    assert mismatches({**DECLARED, "server_version": version}, PRODUCTION) == []


def test_g4_says_of_each_mismatch_what_to_do_and_nothing_twice() -> None:
    inventory = "check the inventory: this cluster, container, database or role differs from the declared target"
    other = Mismatch("database of the plan", "d", "e", "rehearse again")
    assert target_is_declared([other], "x", []).next_step == "rehearse again"
    assert target_is_declared([Mismatch("user", "a", "b")], "x", []).next_step == inventory
    both = [Mismatch("user", "a", "b"), other, Mismatch("database", "d", "e"), other]
    assert target_is_declared(both, "x", []).next_step == f"{inventory}; rehearse again"


def test_a_plan_of_another_target_is_not_the_inventorys_fault() -> None:
    plan = {"target": {"system_identifier": "7", "database": "directus", "user": "u", "container": ""}}
    found = replace(PRODUCTION, database="directus", user="u", container="", system_identifier="7")
    assert foreign_plan(plan, found) == []
    (renamed,) = foreign_plan(plan, replace(found, database="old"))
    assert (renamed.name, renamed.expected, renamed.found) == ("database of the plan", "directus", "old")
    assert "rehearse again for this one" in renamed.next_step
    assert "ALTER DATABASE … RENAME TO …" in renamed.next_step
    # another cluster has another database, not a renamed one
    wrong = foreign_plan(plan, replace(found, database="old", system_identifier="8"))
    assert len({one.next_step for one in wrong}) == 1
    assert "rehearse again for this one" in wrong[0].next_step
    assert "RENAME" not in wrong[0].next_step


def test_what_is_not_declared_is_not_judged() -> None:
    assert mismatches({}, PRODUCTION) == []
    assert mismatches(dict.fromkeys(DECLARED), PRODUCTION) == []


@pytest.mark.parametrize(
    ("change", "mismatch"),
    [
        ({"container": ""}, Mismatch("container", "postgres", "none")),
        ({"database": "directus2"}, Mismatch("database", "directus", "directus2")),
        ({"user": "postgres"}, Mismatch("user", "workflow_admin", "postgres")),
        ({"server_version": "15.6", "server_major": "15"}, Mismatch("server_version", "16", "15.6")),
        ({"system_identifier": "7502"}, Mismatch("system_identifier", "7501", "7502")),
        ({"in_recovery": True}, Mismatch("cluster", "a primary", "a standby (in recovery)")),
    ],
)
def test_each_other_fact_is_a_mismatch(change: dict[str, Any], mismatch: Mismatch) -> None:
    assert mismatches(DECLARED, replace(PRODUCTION, **change)) == [mismatch]


@pytest.mark.parametrize(
    ("declared", "found"), [("1", "16.13"), ("16.1", "16.13"), ("16.13.1", "16.13"), ("6", "16.13")]
)
def test_a_version_is_not_compared_as_a_prefix(declared: str, found: str) -> None:
    assert mismatches({"server_version": declared}, replace(PRODUCTION, server_version=found))


def test_the_rehearsal_cluster_is_never_the_target() -> None:
    declared = {**DECLARED, "system_identifier": None}
    (mismatch,) = mismatches(declared, replace(PRODUCTION, system_identifier="7777"))
    assert mismatch.expected == "not a rehearsal cluster"
