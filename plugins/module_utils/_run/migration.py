# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-07: evaluate the gates, then run a plan's DDL in a transaction that commits only after a passed verification."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.builtin import checksum_check, identity_check
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import (
    Builtins,
    answerable_statements,
    failed_checks,
    run_checks,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import (
    DataExpectations,
    load_capture,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.outcome import COMMITTED
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import preflight_gate, stop_at_gates
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.connection import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_facts import (
    MigrationRequest,
    early_gates,
    require_recorded_schema,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measurements import (
    rewritten_tables,
    table_files,
    undeclared_rewrites,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback_losses import data_baseline
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import Hooks, MigrationResult, Script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import complete, transact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import evaluate_policy, policy_for_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import read_changed, take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot


def _check_before(
    session: Session, client: Client, request: MigrationRequest, step: Step, applied: MigrationResult
) -> None:
    """Preflight again, in the transaction itself (G-6)."""
    checks = run_checks(
        session,
        request.phase["preflight"],
        _builtins(session, client, request),
        request.phase["settings"]["search_path"],
    )
    applied.preflight = [result.as_dict() for result in checks]
    gate = preflight_gate(checks)
    others = [judged for judged in step.data["gates"] if judged["id"] != gate.id]
    step.data["gates"] = [*others, gate.as_dict()]
    stop_at_gates([gate])


def _builtins(session: Session, client: Client, request: MigrationRequest) -> Builtins:
    return {
        "target_identity": identity_check(request.declared, read_identity(session, client)),
        "ddl_checksum": checksum_check(request.plan["ddl"]["sha256"], request.ddl_sha256),
    }


def _check_inside(
    session: Session,
    client: Client,
    request: MigrationRequest,
    applied: MigrationResult,
    base: Snapshot,
    files: Mapping[str, str],
) -> None:
    """Verification, measured data, structural diff and rewritten tables on the uncommitted state.

    ``files`` are those of the tables before the first statement.
    """
    # VA-16 needs pg_dump, which cannot see this transaction; the structural diff below replaces it
    checks = [
        check
        for check in request.phase["verify"]
        if check.get("builtin") != "schema_diff" and not check.get("after_commit")
    ]
    checks += answerable_statements(request.phase["non_scope"])
    path = request.phase["settings"]["search_path"]
    results = run_checks(session, checks, _builtins(session, client, request), path)
    applied.checks = [result.as_dict() for result in results]
    declared = DataExpectations.from_definition(request.phase["measure"], request.phase["row_counts"])
    before = load_capture(request.artefacts, request.capture, declared.measures)
    applied.measured, moved = declared.judge(before, declared.take(session))
    changes = diff(base, read_changed(session, base))
    policy = policy_for_plan(request.plan, "changes_before_commit")
    verdict = evaluate_policy(changes, policy)
    applied.diff = {"ok": verdict.ok, "message": verdict.message, "text": changes.text(), "changes": changes.as_list()}
    wrong = [(f"{r.id} {r.expected}", f"{r.id} {r.found}") for r in failed_checks(results)]
    wrong += [("data as declared", text) for text in moved]
    rewrites = rewritten_tables(session, files, applied.xid)
    applied.rewrites = sorted(rewrites.values())
    scope_of_rewrites = request.phase["scope"]["rewrites"]
    unexpected = undeclared_rewrites(session, rewrites, scope_of_rewrites, request.plan["ddl"]["statements"])
    if unexpected:
        expected = ", ".join(scope_of_rewrites) or "none"
        wrong.append((f"tables that are rewritten (scope.rewrites): {expected}", f"rewritten: {', '.join(unexpected)}"))
    if not verdict.ok:
        wrong.append((f"diff {policy['policy']}", verdict.message))
    if "rehearsal" in request.plan:
        rehearsed = evaluate_policy(
            changes, {"policy": "exact", "changes": request.plan["rehearsal"]["changes_before_commit"]}
        )
        if not rehearsed.ok and rehearsed.message != verdict.message:
            wrong.append(("the diff of the rehearsal", rehearsed.message))
    if wrong:
        raise Stopped(
            "C-07: verification failed inside the transaction; rolled back before COMMIT.",
            expected="; ".join(expected for expected, _found in wrong),
            found="; ".join(found for _expected, found in wrong),
            next_step="the DDL does not produce what its phase declares: correct it as a new revision and rehearse it",
        )


def migration_script(request: MigrationRequest) -> Script:
    """Return the phase's DDL as a script."""
    return Script(
        command="C-07",
        data=request.ddl,
        statements=request.plan["ddl"]["statements"],
        rows=request.phase["expect"]["rows"],
        result=request.phase["expect"].get("result"),
        settings=request.phase["settings"],
    )


def migration_hooks(client: Client, request: MigrationRequest, step: Step, base: Snapshot) -> Hooks:
    """Return what C-07 adds to the transaction: preflight before, verification inside."""
    files: dict[str, str] = {}

    def before(session: Session, applied: MigrationResult) -> None:
        _check_before(session, client, request, step, applied)
        files.clear()
        files.update(table_files(session))

    return Hooks(before, inside=lambda session, applied: _check_inside(session, client, request, applied, base, files))


def run_migration(client: Client, request: MigrationRequest, step: Step) -> MigrationResult:
    """Run C-07. Returns when all of it is done; raises ``PhaseGateError`` otherwise, ``step.data['outcome']`` set.

    ``step.data`` receives ``gates``, ``statements`` and the rest for the journal, complete also on failure.
    """
    check_cover(request.plan["ddl"]["statements"], request.ddl, request.plan["ddl"]["sha256"])
    step.data.update(outcome="NOT_STARTED", gates=[])
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        base = take_snapshot(session)
        # what the in-transaction diff needs of it is computed here, not while locks are held
        base.rows()
        gates = early_gates(session, client, request, base)
        step.data["gates"] = [gate.as_dict() for gate in gates]
        stop_at_gates(gates)
        require_recorded_schema(base, request)
        hooks = migration_hooks(client, request, step, base)
        script = migration_script(request)
        applied = transact(session, client, script, hooks, base, step, request.lock_attempts)
        step.data["baseline"] = data_baseline(session, applied.diff["changes"])
        complete(session, client, script, applied, step)
        _require_rehearsed(session, request)
        return applied


def finish_migration(client: Client, request: MigrationRequest, step: Step) -> MigrationResult:
    """Run what an earlier C-07 of this run left after its COMMIT. Raises ``PhaseGateError`` as ``migrate`` does."""
    check_cover(request.plan["ddl"]["statements"], request.ddl, request.plan["ddl"]["sha256"])
    told = [entry for entry in request.artefacts.journal.entries() if entry.step == "C-07"]
    # a killed run recorded only the id of its transaction
    known = [entry.data for entry in told if "transaction" in entry.data]
    begun = [{key: entry.data[key] for key in ("xid", "pid")} for entry in told if entry.event == "transaction"]
    earlier = known[-1] if known else {"transaction": begun[-1]}
    applied = MigrationResult(**earlier["transaction"])
    step.data.update({key: value for key, value in earlier.items() if key != "reason"})
    step.data.update(outcome=COMMITTED, gates=[], transaction=asdict(applied))
    before = Snapshot.load(request.artefacts.file("schema/before.jsonl.gz"))
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        # the age of the backup was checked when the migration began
        gates = [gate for gate in early_gates(session, client, request, before) if gate.id != "G-2"]
        step.data["gates"] = [gate.as_dict() for gate in gates]
        stop_at_gates(gates)
        complete(session, client, migration_script(request), applied, step)
        _require_rehearsed(session, request)
        return applied


def _require_rehearsed(session: Session, request: MigrationRequest) -> None:
    """Compare the complete result with the rehearsal; without statements after COMMIT this was done before COMMIT."""
    if "rehearsal" not in request.plan or not any(one["after_commit"] for one in request.plan["ddl"]["statements"]):
        return
    rehearsed = {"policy": "exact", "changes": request.plan["rehearsal"]["changes"]}
    before = Snapshot.load(request.artefacts.file("schema/before.jsonl.gz"))
    verdict = evaluate_policy(diff(before, take_snapshot(session)), rehearsed)
    if not verdict.ok:
        raise Stopped(
            "C-07: the schema differs from the rehearsed one; the phase is COMMITTED.",
            expected="the diff of the rehearsal",
            found=verdict.message,
            next_step="find out what else changed the schema; decide whether to roll the phase back",
        )
