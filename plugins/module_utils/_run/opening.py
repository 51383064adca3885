# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The opening of a run: the identity of the target, an earlier execution of the phase, the lock, the directory."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.files import (
    collect_approvals,
    write_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import find_anchor
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
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_file,
    read_found,
    sha256_bytes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._conditions.evaluation import (
    ConditionRules,
    evaluate_conditions,
    stop_at_conditions,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._conditions.reading import (
    PlanRequirements,
    Surroundings,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, failed_gates, stop_at_gates
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.connection import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    IDENTITY_ARGUMENT,
    Identity,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import require_privileges
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import server_time
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._report.seal import require_key
from ansible_collections.incomex.phasegate.plugins.module_utils._run.directory import (
    open_run,
    opening_target_gate,
    reopen_run,
    require_place,
    seal_when_stopped,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_facts import MigrationRequest, plan_gates
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import (
    close_broken,
    find_applied,
    is_incomplete,
    plan_of_execution,
    require_confirmation,
    source_facts,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock import acquire_lock, keep_lock
from ansible_collections.incomex.phasegate.plugins.module_utils._run.requirements import (
    required_phase_gate,
    reviews_below,
    write_reviews,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot

# Arguments of the opening of a run; documented in doc_fragments/_run.py.
OPENING_ARGUMENTS: dict[str, Any] = {
    "identity": IDENTITY_ARGUMENT,
    "root": {"type": "path"},
    "environment": {"type": "str"},
    "inventory_name": {"type": "str", "default": ""},
    "inventory_sources": {"type": "list", "elements": "str", "default": []},
    "operator": {"type": "str", "default": ""},
    "lock_idle": {"type": "int", "default": 60},
    "conditions": {"type": "dict", "default": {}},
    "limits": {"type": "dict", "default": {}},
    "plan": {"type": "dict"},
    "plan_sha256": {"type": "str", "default": ""},
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
    if params["plan_sha256"] not in ("", found):
        raise PhaseGateError(
            "The plan differs from the validated one.",
            expected=f"SHA-256 {params['plan_sha256']}",
            found=f"SHA-256 {found}",
            next_step="give plan and plan_sha256 as one result of phase_plan",
        )
    files = _sql_files(params)
    # the session continues to hold the run's lock, so its psql must not end with this module
    with client.session("phasegate:open", detached=True) as session:
        identity = read_identity(session, client)
        about = RunOpened(
            kind=EXECUTE,
            environment=params["environment"],
            host=params["inventory_name"],
            inventory=params["inventory_sources"],
            operator=params["operator"],
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
        }
        if params.get("kind") == REHEARSAL:
            _require_key(params)
            about = replace(about, kind=REHEARSAL, **source_facts(session))
            if not check_mode:
                declared = params["identity"] or {}
                result["run_directory"] = open_run(params["root"], params["plan"], about, declared, files).path
            return result
        return {**result, **_opened_alone(session, client, params, about, identity, files, check_mode=check_mode)}


def _sql_files(params: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the SQL of the plan that was copied to this host, by its part of the plan. Raises ``PhaseGateError``."""
    found = {}
    for part in ("ddl", "rollback") if params["plan"] else ():
        data = read_file(os.path.join(params["files"] or "", os.path.basename(params["plan"][part]["file"])))
        if data is None:
            raise PhaseGateError(
                f"{params['plan'][part]['file']} was not copied to the target.",
                expected="the SQL of the plan in the directory of option files",
                found=params["files"] or "no directory",
                next_step="run the module by Ansible, whose action of the same name copies the files",
            )
        found[part] = data
    return found


def _opened_alone(
    session: Session,
    client: Client,
    params: Mapping[str, Any],
    about: RunOpened,
    identity: Identity,
    files: dict[str, bytes],
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
        require_confirmation(execution, params["confirm"])
        about = replace(about, kind=ROLLBACK, execution=name_of(execution))
    lock: RunLock | Gate | None = None
    declared_one = opening_target_gate(about.kind, plan, declared, identity).status == GateStatus.PASS
    if declared_one and not check_mode:
        lock = acquire_lock(session, root, params["lock_idle"])
    if not execution and not isinstance(lock, Gate):
        applied = find_applied(client, root, params["environment"], plan, identity)
        if applied:
            return _adopted(session, params, applied, lock)
    _require_key(params)
    need = PlanRequirements.of_plan(plan, rollback=execution is not None)
    around = Surroundings(session, client, need, root, params["format"], identity)
    statements = plan["rollback" if execution else "ddl"]["statements"]
    if check_mode:
        # the following checks refuse another target
        judged = evaluate_conditions(around.facts(), need, rules) if declared_one else []
        stop_at_conditions(judged)
        if declared_one:
            _judge_without_run(session, params, identity, [] if execution else plan["phase"]["requires"], statements)
        return {**found, "conditions": [one.as_dict() for one in judged]}
    alone = isinstance(lock, RunLock)
    closed = close_broken(root, params["environment"], plan, identity) if alone else []
    if execution:
        files = {"rollback": read_found(execution.file(f"sql/{plan['rollback']['file']}"))}
    artefacts = open_run(root, plan, replace(about, closed=closed), declared, files, lock)
    with seal_when_stopped(artefacts):
        if not execution:
            write_approvals(artefacts.file("plan.json"), *collect_approvals(os.path.join(params["files"], "plan.json")))
            write_reviews(artefacts, reviews_below(params["files"]))
            judge_early(session, params, artefacts, identity)
        judged = evaluate_conditions(around.facts(), need, rules)
        found["conditions"] = [one.as_dict() for one in judged]
        ConditionsEvaluated(found["conditions"]).write(artefacts.journal)
        stop_at_conditions(judged)
        require_privileges(session, statements)
    keep_lock(session, artefacts, params["lock_idle"], params["operator"])
    return {**found, "run_directory": artefacts.path}


def _judge_without_run(
    session: Session,
    params: Mapping[str, Any],
    identity: Identity,
    requires: Sequence[str],
    statements: Sequence[Mapping[str, Any]],
) -> None:
    """Evaluate what the opening of a run evaluates, without a run (check mode). Raises ``PhaseGateError``."""
    reviews, now = reviews_below(params["files"] or ""), server_time(session)
    stop_at_gates([required_phase_gate(params["root"], phase, identity, reviews, now) for phase in requires])
    require_privileges(session, statements)


def _require_key(params: Mapping[str, Any]) -> None:
    if params.get("seal_key"):
        require_key(params["seal_key"])


def _adopted(
    session: Session, params: Mapping[str, Any], applied: RunDirectory, lock: RunLock | None
) -> dict[str, Any]:
    """Return what differs from a new run's result when an earlier run committed this DDL; ``lock`` is None in check mode.

    A run that has to be finished continues under this lock; one that is sealed and complete is only read.
    """
    incomplete = is_incomplete(applied)
    if incomplete and applied.sealed and lock:
        applied = reopen_run(applied, params["root"])
    if lock and not applied.sealed:
        LockTaken(lock.as_dict()).write(applied.journal)
        keep_lock(session, applied, params["lock_idle"], params["operator"])
    about_it = {"applied": True, "incomplete": incomplete, "sealed": applied.sealed, "run_directory": applied.path}
    return {"changed": incomplete, **about_it}


def judge_early(session: Session, params: Mapping[str, Any], artefacts: RunDirectory, identity: Identity) -> None:
    """Evaluate the gates that follow from the plan, before a useless backup. C-07 evaluates them again. Raises ``PhaseGateError``.

    None of them fails for a plan that has no rehearsal and needs none, requires no phase, and needs no approval.
    """
    plan, phase = params["plan"], params["plan"]["phase"]
    demands = "rehearsal" in plan or phase["requires"] or phase["diff"]["policy"] == "exact"
    if not demands and find_anchor(identity.system_identifier) is None:
        return
    request = MigrationRequest(plan, b"", artefacts, params["identity"] or {}, max_backup_age=0, lock_attempts=1)
    gates = plan_gates(session, request, identity, take_snapshot(session))
    if failed_gates(gates):
        GatesEvaluated([gate.as_dict() for gate in gates]).write(artefacts.journal)
    stop_at_gates(gates)


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Return a line for each condition of ``opened``'s result that warns."""
    return [
        f"{one['id']}: {one['found']}; expected: {one['expected']}; next step: {one['next_step']}"
        for one in result["conditions"]
        if one["status"] == "WARN"
    ]
