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
    signatures_in,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import AcceptedLoss
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    EXECUTE,
    REHEARSAL,
    ROLLBACK,
    ConditionsEvaluated,
    LockTaken,
    RunOpened,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_lock import RunLock
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, noted
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_json, resolved, sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    Gate,
    stop_at_gates,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    IDENTITY_ARGUMENT,
    Identity,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import require_privileges
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.evaluation import (
    ConditionRules,
    evaluate_conditions,
    stop_at_conditions,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.facts import (
    Surroundings,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import require_key
from ansible_collections.incomex.phasegate.plugins.module_utils._report.time_stamp import require_authority
from ansible_collections.incomex.phasegate.plugins.module_utils._run.applied import (
    Applied,
    Live,
    applied_execution,
    require_to_undo,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.before_backup import (
    Case,
    judge_without_run,
    keep_approvals,
    stop_before_backup,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    is_incomplete,
    plan_of_execution,
    require_below,
    require_confirmation,
    source_facts,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import History, runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._run.host_lock import (
    HostLock,
    acquire_host_lock,
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
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import (
    open_run,
    opening_target_gate,
    reopen_run,
    require_place,
    seal_when_stopped,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.required_phases import require_no_later
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import (
    RollbackRequest,
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
    "task": {"type": "str"},
    "seal_key": {"type": "path", "no_log": False},
    "timestamp_url": {"type": "str"},
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
            source=params.get("source"),
            task=params.get("task"),
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
    # check mode goes on after what would stop the run
    problems: list[PhaseGateError] | None = [] if check_mode else None
    undo = _undo(params)
    if undo:
        plan = plan_of_execution(undo.execution, identity)
        require_below(undo.execution, root)
        files = {"rollback": undo.execution.file(f"sql/{plan['rollback']['file']}")}
        about = replace(about, kind=ROLLBACK, execution=undo.name)
        with noted(problems):
            require_confirmation(undo.execution, undo.confirm)
    found: dict[str, Any] = {"plan": plan} if undo else {}
    lock: RunLock | Gate | None = None
    host: HostLock | None = None
    declared_one = opening_target_gate(about.kind, plan, declared, identity).status == GateStatus.PASS
    if declared_one and not check_mode:
        lock, host = _locked(session, params, identity, at_end)
    live = functools.lru_cache(maxsize=None)(lambda: take_snapshot(session, sections=sections_for_plan(plan)))
    case = Case(plan, about, identity, files, undo, live, root, declared)
    # of another target nothing is judged but that it is another one (G-4); of one that another run holds, only that (G-7)
    if declared_one and not isinstance(lock, Gate):
        applied: Applied | None = None
        with noted(problems):
            history = runs_of(root, plan["phase"]["phase"], identity, client, keep=not check_mode)
            about = replace(about, closed=history.close_broken() if lock else [])
            case = replace(
                case, about=_by_ledger(session, params["ledger"] or "", history, plan, about, identity, live)
            )
            applied = _applied(session, history, case, root)
        if applied:
            return _adopted(session, params, applied, lock, host)
    if isinstance(lock, RunLock):
        # an interrupted transaction of ours has ended here: its outcome was resolved
        lock = free_transaction_lock(session, root) or lock
    with noted(problems):
        _require_key(params)
    around = Surroundings(session, client, case.need, root, params["format"], identity)
    if problems is not None:
        return {
            **found,
            **judge_without_run(session, case, params["files"], around, rules, problems),
            "problems": problems,
        }
    artefacts = open_run(root, plan, case.about, declared, files, lock)
    with seal_when_stopped(artefacts):
        if not undo:
            keep_approvals(artefacts, params["files"])
        stop_before_backup(session, case, artefacts)
        judged = evaluate_conditions(around.facts(), case.need, rules)
        found["conditions"] = [one.as_dict() for one in judged]
        ConditionsEvaluated(found["conditions"], rules.limits).write(artefacts.journal)
        stop_at_conditions(judged)
        require_privileges(session, case.statements, case.plan["phase"]["settings"]["search_path"])
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
    ledger, rows = opened_ledger(session, relation, plan)
    if ledger:
        judge_ledger(session, ledger, rows, history, identity, live)
        if about.execution:
            require_newest_by_ledger(ledger, rows, history, about.execution)
        else:
            require_by_ledger(ledger, rows, history, plan, about.plan_sha256)
    required = about.approvals_required or approvals_were_required(rows, identity)
    return replace(about, approvals_required=required, ledger=relation or None, earlier=history.rows())


def _undo(params: Mapping[str, Any]) -> RollbackRequest | None:
    """Return the rollback that a run is opened for, None for an execution."""
    if not params.get("execution"):
        return None
    execution, signatures = RunDirectory(resolved(params["execution"])), signatures_in(params["files"])
    return RollbackRequest(execution, params["confirm"] or "", AcceptedLoss.of(params), signatures)


def _applied(session: Session, history: History, case: Case, root: str) -> Applied | None:
    """Return the execution that applied the plan, or None when the run may begin. Raises ``PhaseGateError`` when it may not."""
    if case.undo is None:
        return applied_execution(session, history, case.plan, case.about.plan_sha256, case.identity, case.live)
    history.require_newest(case.undo.execution)
    require_no_later(root, history.phase, case.identity)
    require_to_undo(session, history, case.undo.name, case.identity, case.live)
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


def _approvals_required(params: Mapping[str, Any]) -> bool:
    return (params.get("require") or {}).get("approvals") == "required"


def _require_key(params: Mapping[str, Any]) -> None:
    if params.get("seal_key"):
        require_key(params["seal_key"])
    if params.get("timestamp_url"):
        require_authority(params["timestamp_url"])


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
    # what it has to meet was decided when it was executed, not by the file that is given now
    own, given = read_json(applied.plan_path), params["plan"]
    remarks = list(found.remarks)
    if own["phase"] != given["phase"]:
        remarks.append(
            f"it is verified by the definition that it was executed with (revision {own['phase']['revision']}), which is another one than"
            " that of the file given now"
        )
    executed = {"phase": own["phase"], "ddl": {name: own["ddl"][name] for name in ("file", "sha256")}}
    return {"changed": incomplete, "remarks": remarks, "executed": executed, **about_it}


def stop_at_held_lock(result: Mapping[str, Any]) -> None:
    """Raise ``Stopped`` when the opening found a held lock in check mode, after all else was judged."""
    if result["lock"]:
        gate = dict(result["lock"])
        del gate["title"]
        stop_at_gates([Gate(**{**gate, "status": GateStatus(gate["status"])})])


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Return a line for a terminal for each condition of ``opened``'s result that warns, for a held lock, and for each remark."""
    held = result["lock"]
    lines = [f"G-7: {held['found']}; next step: {held['next_step']}"] if held else []
    lines += [f"The phase is applied, but {remark}." for remark in result["remarks"]]
    lines += [
        f"{one['id']}: {one['found']}; expected: {one['expected']}; next step: {one['next_step']}"
        for one in result["conditions"]
        if one["status"] == "WARN"
    ]
    # names of roles, tables and prepared transactions are in them
    return list(map(escaped, lines))
