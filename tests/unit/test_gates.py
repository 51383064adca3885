# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each gate as a table: the facts that it is judged by, the verdict, and the words for the operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils import _gates
from ansible_collections.incomex.phasegate.plugins.module_utils._checks import CheckResult
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._gates import FAIL, NOT_ENFORCED, PASS, Gate
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import Identity, Mismatch, mismatches
from hypothesis import given
from hypothesis import strategies as st

A, B = "a" * 64, "b" * 64
OK = CheckResult("P-1", "", "PASS", "1", "1")
BAD = CheckResult("P-8", "", "FAIL", "86", "85")
OTHER_FILE = PhaseGateError("", expected="1 byte", found="2 bytes", next_step="start anew")
OPEN = CheckResult("P-2", "", "NOT RUN", "x", "no file")

CASES: list[tuple[Gate, str, str]] = [
    (_gates.backup_fresh(1000.0, 1002.0, 3600), PASS, "2.0 s old"),
    (_gates.backup_fresh(1000.0, 1000.0, 3600), PASS, "0.0 s old"),
    (_gates.backup_fresh(1000.0, 4600.0, 3600), PASS, "3600.0 s old"),
    (_gates.backup_fresh(1000.0, 4600.5, 3600), FAIL, "3600.5 s old"),
    (_gates.backup_fresh(1000.0, 999.0, 3600), FAIL, "a backup 1.0 s in the future"),
    (_gates.backup_fresh(None, 1000.0, 3600), FAIL, "no backup in this run"),
    (_gates.backup_fresh(1000.0, 1000.1, 0), FAIL, "0.1 s old"),
    (_gates.digest_matches(A, A), PASS, f"SHA-256 {A}"),
    (_gates.digest_matches(A, B), FAIL, f"SHA-256 {B}"),
    (_gates.digest_matches(A, A.upper()), FAIL, f"SHA-256 {A.upper()}"),
    (_gates.target_is_declared([], "database d", []), PASS, "database d"),
    (
        _gates.target_is_declared([], "database d", ["user"]),
        PASS,
        "database d (not declared in the inventory: user)",
    ),
    (
        _gates.target_is_declared([Mismatch("user", "one", "two"), Mismatch("database", "d", "e")], "x", ["y"]),
        FAIL,
        "user two; database e",
    ),
    (_gates.backup_restorable(None, "2712 TOC entries, read"), PASS, "2712 TOC entries, read"),
    (_gates.backup_restorable(None, None), FAIL, "no backup in this run"),
    (_gates.backup_restorable(OTHER_FILE, "7 TOC entries"), FAIL, "2 bytes"),
    (_gates.preflight_passed([OK]), PASS, "1/1"),
    (_gates.preflight_passed([]), FAIL, "0/0"),
    (_gates.preflight_passed([OK, BAD]), FAIL, "1/2; P-8 found 85, expected 86"),
    (_gates.preflight_passed([OK, OPEN]), FAIL, "1/2; P-2 found no file, expected x"),
    (_gates.alone(True, "pid 6, user u", []), PASS, "pid 6, user u; no other session"),
    (_gates.alone(True, "pid 6, user u", ["pid 7, user u"]), PASS, "pid 6, user u; others: pid 7, user u"),
    (_gates.alone(False, "pid 6, user u", ["pid 7, user v"]), FAIL, "pid 6, user u; pid 7, user v"),
    (_gates.alone(False, "", []), FAIL, "the lock is not held: the session that held it for this run has ended"),
    (_gates.within_scope(["CREATE TABLE", "COMMENT"], ["COMMENT", "CREATE TABLE"]), PASS, "all within scope"),
    (_gates.within_scope(["ALTER TABLE ADD COLUMN"], ["ALTER TABLE"]), PASS, "all within scope"),
    (_gates.within_scope(["ALTER TABLE DROP COLUMN"], ["ALTER TABLE ADD COLUMN"]), FAIL, "ALTER TABLE DROP COLUMN"),
    (_gates.within_scope(["ALTER TABLESPACE"], ["ALTER TABLE"]), FAIL, "ALTER TABLESPACE"),
    (_gates.within_scope(["DROP TABLE", "CALL", "DROP TABLE"], []), FAIL, "CALL, DROP TABLE"),
    (_gates.rollback_ready(A, None, "r"), FAIL, "no rollback SQL"),
    (_gates.rollback_ready(A, B, "r"), FAIL, f"SHA-256 {B}"),
    (_gates.rollback_ready(A, A, None), NOT_ENFORCED, "present and pinned; not rehearsed"),
    (_gates.rollback_ready(A, A, "alpha_x"), PASS, "rehearsed in alpha_x, where it restored the schema"),
    (_gates.no_reviewers("/p"), NOT_ENFORCED, "no reviewers are registered for this cluster (/p)"),
    (_gates.never_rehearsed("/p"), FAIL, "a phase that was not rehearsed, so it cannot have been approved"),
    (_gates.no_provenance("unchanged"), NOT_ENFORCED, "the phase was not rehearsed"),
    (
        _gates.no_provenance("exact"),
        FAIL,
        "the phase was not rehearsed, and its diff policy exact has nothing to compare with",
    ),
    (_gates.provenance(A, A, "alpha_x", ""), PASS, f"normalised fingerprint {A}"),
    (_gates.provenance(A, B, "alpha_x", "+ column"), FAIL, f"normalised fingerprint {B}: + column"),
    (_gates.provenance(A, A, "alpha_x", told="newer"), PASS, f"normalised fingerprint {A}; newer"),
    (
        _gates.provenance(A, A, "alpha_x", server=[Mismatch("TimeZone", "UTC", "Asia/Tokyo")]),
        FAIL,
        f"normalised fingerprint {A}; TimeZone Asia/Tokyo",
    ),
    (_gates.nothing_else_ran(["run", "C-01", "C-08", "run"]), PASS, "nothing else ran"),
    (_gates.nothing_else_ran(["run", "C-09"]), FAIL, "C-09"),
    (_gates.nothing_else_ran(["run", "C-10", "psql"]), FAIL, "C-10, psql"),
]


@pytest.mark.parametrize(("gate", "status", "found"), CASES, ids=lambda value: getattr(value, "id", ""))
def test_gate(gate: Gate, status: str, found: str) -> None:
    assert (gate.status, gate.found) == (status, found)
    assert gate.expected
    # What to do is said exactly when there is something to do.
    assert bool(gate.next_step) == (status == FAIL)


@given(started=st.floats(0, 1e10), age=st.floats(-1e6, 1e6), limit=st.integers(0, 10**6))
def test_a_backup_is_fresh_exactly_within_its_limit(started: float, age: float, limit: int) -> None:
    now = started + age
    assert (_gates.backup_fresh(started, now, limit).status == PASS) == (0 <= now - started <= limit)


def test_there_are_eleven_gates_and_the_table_has_a_line_for_each() -> None:
    gates = sorted(_gates.not_reached(set(_gates.TITLES)), key=_gates.order)
    lines = _gates.table(gates).splitlines()
    assert [line.split()[0] for line in lines] == [f"G-{number}" for number in range(1, 12)]
    assert all("NOT REACHED" in line for line in lines)
    assert _gates.failed([*gates, _gates.alone(lock_held=False, holder="", others=[])])[0].id == "G-7"


@pytest.mark.parametrize(
    ("declared", "pinned", "status"),
    [
        ({}, False, FAIL),
        ({"rehearsal_system_identifiers": ["7777"], "database": ""}, False, FAIL),
        ({}, True, PASS),
        ({"database": "directus"}, False, PASS),
    ],
)
def test_g4_is_no_pass_when_nothing_was_compared(declared: dict[str, Any], status: str, *, pinned: bool) -> None:
    gate = _gates.declared_target(declared, PRODUCTION, pinned=pinned)
    assert gate.status == status
    assert (("declare phasegate_identity" in gate.next_step), "system identifier 7501" in gate.found) == (
        status == FAIL,
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
