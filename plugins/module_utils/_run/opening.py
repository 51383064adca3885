# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The opening of a run: the identity of the target, an earlier execution of the phase, the lock, the directory."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import replace
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import (
    collect_approvals,
    write_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import registered
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    EXECUTE,
    REHEARSAL,
    ROLLBACK,
    ConditionsEvaluated,
    GatesEvaluated,
    LockTaken,
    RunLock,
    RunOpened,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, failed_gates, stop_at_gates
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    IDENTITY_ARGUMENT,
    Identity,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import require_privileges
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import server_time
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.evaluation import (
    ConditionRules,
    evaluate_conditions,
    stop_at_conditions,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.facts import (
    PlanNeeds,
    Surroundings,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import require_key
from ansible_collections.incomex.phasegate.plugins.module_utils._run.applied import (
    Applied,
    Live,
    applied_execution,
    require_to_undo,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    is_incomplete,
    plan_of_execution,
    require_confirmation,
    source_facts,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import (
    MigrationRequest,
    plan_gates,
    statements_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import History, runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._run.host_lock import (
    HostLock,
    acquire_host_lock,
    observed_host_lock,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.ledger_record import (
    approvals_were_required,
    judge_ledger,
    opened_ledger,
    require_by_ledger,
    require_newest_by_ledger,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock import (
    acquire_lock,
    free_transaction_lock,
    keep_lock,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock_holders import observed_lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import (
    open_run,
    opening_target_gate,
    reopen_run,
    require_place,
    seal_when_stopped,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.required_phases import (
    required_phase_gate,
    reviews_below,
    write_reviews,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import sections_for_plan

# What the inventory requires whatever the target host has; documented in doc_fragments/_run.py.
REQUIRE_ARGUMENT: dict[str, Any] = {
    "type": "dict",
    "options": {"approvals": {"type": "str", "choices": ["required", "registered"], "default": "registered"}},
}

# Arguments of the opening of a run; documented in doc_fragments/_run.py.
OPENING_ARGUMENTS: dict[str, Any] = {
    "identity": IDENTITY_ARGUMENT,
    "root": {"type": "path"},
    "environment": {"type": "str"},
    "inventory_name": {"type": "str", "default": ""},
    "inventory_sources": {"type": "list", "elements": "str", "default": []},
    "operator": {"type": "str", "default": ""},
    "require": REQUIRE_ARGUMENT,
    "ledger": {"type": "str"},
    "lock_idle": {"type": "int", "default": 60},
    "conditions": {"type": "dict", "default": {}},
    "limits": {"type": "dict", "default": {}},
    "plan": {"type": "dict"},
    "plan_sha256": {"type": "str"},
    "source": {"type": "path"},
    "reviews": {"type": "list", "elements": "path", "default": []},
    "files": {"type": "path"},
    "seal_key": {"type": "path", "no_log": False},
}


def open_or_adopt(client: Client, params: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Open a run, or find the one that already applied this DDL.

    ``params`` has the values of ``OPENING_ARGUMENTS`` and the ``format`` of the run's backup, and may have a ``kind``, and
    the path of an ``execution`` with the operator's ``confirm``.
    """
    require_place(params["root"], params["environment"])
    found = sha256_bytes(canonical_json(params["plan"])) if params["plan"] else ""
    if (params["plan_sha256"] or found) != found:
        raise PhaseGateError(
            "The plan differs from the validated one.",
            expected=f"SHA-256 {params['plan_sha256']}",
            found=f"SHA-256 {found}",
            next_step="give plan and plan_sha256 as one result of phase_plan",
        )
    files = _sql_files(params)
    # the session continues to hold the run's lock, so its psql must not end with this module
    with contextlib.ExitStack() as at_end, client.session("phasegate:open", detached=True) as session:
        identity = read_identity(session, client)
        about = RunOpened(
            kind=EXECUTE,
            environment=params["environment"],
            host=params["inventory_name"],
            inventory=params["inventory_sources"],
            operator=params["operator"],
            approvals_required=_approvals_required(params),
            plan_sha256=found,
            identity=identity.as_dict(),
        )
        result = {
            "changed": True,
            "applied": False,
            "incomplete": False,
            "sealed": False,
            "identity": identity.as_dict(),
            "run_directory": "",
            "conditions": [],
            "remarks": [],
            "lock": {},
        }
        if params.get("kind") == REHEARSAL:
            _require_key(params)
            about = replace(about, kind=REHEARSAL, **source_facts(session))
            if not check_mode:
                declared = params["identity"] or {}
                result["run_directory"] = open_run(params["root"], params["plan"], about, declared, files).path
            return result
        return {
            **result,
            **_opened_alone(session, client, params, about, identity, files, at_end, check_mode=check_mode),
        }


def _sql_files(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of the plan's SQL that was copied to this host, by its part of the plan."""
    names = {part: params["plan"][part]["file"] for part in ("ddl", "rollback")} if params["plan"] else {}
    return {part: os.path.join(params["files"] or "", name) for part, name in names.items()}


def _opened_alone(
    session: Session,
    client: Client,
    params: Mapping[str, Any],
    about: RunOpened,
    identity: Identity,
    files: dict[str, str],
    at_end: contextlib.ExitStack,
    *,
    check_mode: bool,
) -> dict[str, Any]:
    """Open an execution or a rollback under this database's lock, and return what differs from a new run's result."""
    root, declared, plan = params["root"], params["identity"] or {}, params["plan"]
    rules = ConditionRules.of(params["conditions"], params["limits"])
    found: dict[str, Any] = {}
    execution = RunDirectory(params["execution"]) if params.get("execution") else None
    if execution:
        plan = found["plan"] = plan_of_execution(execution, identity)
        require_confirmation(execution, params["confirm"] or "")
        about = replace(about, kind=ROLLBACK, execution=name_of(execution))
    lock: RunLock | Gate | None = None
    host: HostLock | None = None
    declared_one = opening_target_gate(about.kind, plan, declared, identity).status == GateStatus.PASS
    if declared_one and not check_mode:
        lock, host = _locked(session, params, identity, at_end)
    live = functools.lru_cache(maxsize=None)(lambda: take_snapshot(session, sections=sections_for_plan(plan)))
    # of another target nothing is judged but that it is another one (G-4); of one that another run holds, only that (G-7)
    if declared_one and not isinstance(lock, Gate):
        history = runs_of(root, plan["phase"]["phase"], identity, client, keep=not check_mode)
        about = replace(about, closed=history.close_broken() if lock else [])
        about = _by_ledger(session, params["ledger"] or "", history, plan, about, identity, live)
        applied = _applied(session, history, plan, about, identity, live, execution)
        if applied:
            return _adopted(session, params, applied, lock, host)
    if isinstance(lock, RunLock):
        # an interrupted transaction of ours has ended here: its outcome was resolved
        lock = free_transaction_lock(session, root) or lock
    _require_key(params)
    need = PlanNeeds.of_plan(plan, rollback=execution is not None)
    around = Surroundings(session, client, need, root, params["format"], identity)
    statements = plan["rollback" if execution else "ddl"]["statements"]
    if check_mode:
        required = about.approvals_required
        return {
            **found,
            **_checked(session, params, plan, around, identity, declared_one=declared_one, required=required),
        }
    if execution:
        files = {"rollback": execution.file(f"sql/{plan['rollback']['file']}")}
    artefacts = open_run(root, plan, about, declared, files, lock)
    with seal_when_stopped(artefacts):
        if not execution:
            write_approvals(artefacts.file("plan.json"), *collect_approvals(os.path.join(params["files"], "plan.json")))
            write_reviews(artefacts, reviews_below(params["files"]))
            check_before_run(session, params, artefacts, identity, live, required=about.approvals_required)
        judged = evaluate_conditions(around.facts(), need, rules)
        found["conditions"] = [one.as_dict() for one in judged]
        ConditionsEvaluated(found["conditions"]).write(artefacts.journal)
        stop_at_conditions(judged)
        require_privileges(session, statements)
    assert host, "a run that got the lock has that of this host, too"
    keep_lock(session, artefacts, params["lock_idle"], params["operator"], host)
    return {**found, "run_directory": artefacts.path}


def _by_ledger(
    session: Session,
    relation: str,
    history: History,
    plan: Mapping[str, Any],
    about: RunOpened,
    identity: Identity,
    live: Live,
) -> RunOpened:
    """Return the opening with the earlier executions and what the ledger adds to it. Raises ``PhaseGateError`` where it forbids the run."""
    ledger, rows = opened_ledger(session, relation, history, plan)
    if ledger:
        judge_ledger(session, ledger, rows, history, identity, live)
        if about.execution:
            require_newest_by_ledger(ledger, rows, history, about.execution)
        else:
            require_by_ledger(ledger, rows, history, plan, about.plan_sha256)
    required = about.approvals_required or approvals_were_required(rows, identity)
    return replace(about, approvals_required=required, ledger=relation or None, earlier=history.rows())


def _applied(
    session: Session,
    history: History,
    plan: Mapping[str, Any],
    about: RunOpened,
    identity: Identity,
    live: Live,
    execution: RunDirectory | None,
) -> Applied | None:
    """Return the execution that applied the plan, or None when the run may begin. Raises ``PhaseGateError`` when it may not."""
    if execution is None:
        return applied_execution(session, history, plan, about.plan_sha256, identity, live)
    history.require_newest(execution)
    require_to_undo(session, history, name_of(execution), identity, live)
    return None


def _locked(
    session: Session, params: Mapping[str, Any], identity: Identity, at_end: contextlib.ExitStack
) -> tuple[RunLock | Gate, HostLock | None]:
    """Take the run's lock, and this host's beside it, which this process leaves ``at_end``."""
    lock = acquire_lock(session, params["root"], params["lock_idle"])
    if isinstance(lock, Gate):
        return lock, None
    host = acquire_host_lock(params["root"], identity)
    if isinstance(host, Gate):
        return host, None
    at_end.callback(host.leave)
    return lock, host


def _checked(
    session: Session,
    params: Mapping[str, Any],
    plan: Mapping[str, Any],
    around: Surroundings,
    identity: Identity,
    *,
    declared_one: bool,
    required: bool,
) -> dict[str, Any]:
    """Evaluate what can be evaluated without a run (check mode), and return what differs from a new run's result."""
    rollback = bool(params.get("execution"))
    need = PlanNeeds.of_plan(plan, rollback=rollback)
    conditions: list[dict[str, Any]] = []
    # the following checks refuse another target
    if declared_one:
        judged = evaluate_conditions(around.facts(), need, ConditionRules.of(params["conditions"], params["limits"]))
        stop_at_conditions(judged)
        conditions = [one.as_dict() for one in judged]
        _check_without_run(session, params, identity, plan, rollback=rollback, required=required)
    held = observed_lock_gate(session, params["root"]) or observed_host_lock(params["root"], identity)
    return {"conditions": conditions, "lock": held.as_dict() if held else {}}


def _check_without_run(
    session: Session,
    params: Mapping[str, Any],
    identity: Identity,
    plan: Mapping[str, Any],
    *,
    rollback: bool,
    required: bool,
) -> None:
    """Evaluate what the opening of a run evaluates, without a run (check mode). Raises ``PhaseGateError``."""
    statements = plan["rollback" if rollback else "ddl"]["statements"]
    allowed = plan["phase"]["rollback" if rollback else "scope"]["statements"]
    requires = [] if rollback else plan["phase"]["requires"]
    reviews, now = reviews_below(params["files"] or ""), server_time(session)
    phases = [required_phase_gate(params["root"], phase, identity, reviews, now) for phase in requires]
    approvals = registered(identity.system_identifier, required=required, keep=False)
    missing = [approvals] if isinstance(approvals, Gate) else []
    stop_at_gates([*missing, statements_gate(statements, allowed), *phases])
    require_privileges(session, statements)


def _approvals_required(params: Mapping[str, Any]) -> bool:
    return (params.get("require") or {}).get("approvals") == "required"


def _require_key(params: Mapping[str, Any]) -> None:
    if params.get("seal_key"):
        require_key(params["seal_key"])


def _adopted(
    session: Session, params: Mapping[str, Any], found: Applied, lock: RunLock | None, host: HostLock | None
) -> dict[str, Any]:
    """Return what differs from a new run's result when an earlier run committed this DDL; ``lock`` is None in check mode.

    A run that has to be finished continues under this lock; one that is sealed and complete is only read.
    """
    applied = found.run
    incomplete = is_incomplete(applied)
    if incomplete and applied.sealed and lock:
        applied = reopen_run(applied, params["root"])
    if lock and host and not applied.sealed:
        LockTaken(lock.as_dict()).write(applied.journal)
        keep_lock(session, applied, params["lock_idle"], params["operator"], host)
    about_it = {"applied": True, "incomplete": incomplete, "sealed": applied.sealed, "run_directory": applied.path}
    return {"changed": incomplete, "remarks": list(found.remarks), **about_it}


def check_before_run(
    session: Session,
    params: Mapping[str, Any],
    artefacts: RunDirectory,
    identity: Identity,
    live: Live,
    *,
    required: bool,
) -> None:
    """Evaluate the gates that follow from the plan, before a useless backup. C-07 evaluates them again. Raises ``PhaseGateError``.

    None of them fails for a plan that has no rehearsal and needs none, requires no phase, and needs no approval. ``required``:
    by the inventory or the ledger.
    """
    plan, phase = params["plan"], params["plan"]["phase"]
    demands = "rehearsal" in plan or phase["requires"] or phase["diff"]["policy"] == "exact"
    approvals = registered(identity.system_identifier, required=required)
    if not demands and isinstance(approvals, Gate) and not failed_gates([approvals]):
        return
    request = MigrationRequest(plan, b"", artefacts, params["identity"] or {}, max_backup_age=0, lock_attempts=1)
    gates = plan_gates(session, request, identity, live())
    if failed_gates(gates):
        GatesEvaluated([gate.as_dict() for gate in gates]).write(artefacts.journal)
    stop_at_gates(gates)


def stop_at_held_lock(result: Mapping[str, Any]) -> None:
    """Raise ``Stopped`` when the opening found a held lock in check mode, after all else was judged."""
    if result["lock"]:
        gate = dict(result["lock"])
        del gate["title"]
        stop_at_gates([Gate(**{**gate, "status": GateStatus(gate["status"])})])


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each condition of ``opened``'s result that warns, for a held lock, and for each remark."""
    held = result["lock"]
    lines = [f"G-7: {held['found']}; next step: {held['next_step']}"] if held else []
    lines += [f"The phase is applied, but {remark}." for remark in result["remarks"]]
    return lines + [
        f"{one['id']}: {one['found']}; expected: {one['expected']}; next step: {one['next_step']}"
        for one in result["conditions"]
        if one["status"] == "WARN"
    ]
