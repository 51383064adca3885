# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-07: evaluate the gates, then run a plan's DDL in a transaction that commits only after a passed verification."""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils import _checks, _gates, _lock, _rewrites
from ansible_collections.incomex.phasegate.plugins.module_utils._approvals import collect, judge
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_record import BackupRecord, unchanged_since
from ansible_collections.incomex.phasegate.plugins.module_utils._builtin_checks import ddl_checksum, target_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._capture import Declared, load
from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, Step, sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import (
    Identity,
    Mismatch,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._new_data import baseline
from ansible_collections.incomex.phasegate.plugins.module_utils._normalise import normalise
from ansible_collections.incomex.phasegate.plugins.module_utils._outcome import COMMITTED
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import canonical_json, check_cover, digest
from ansible_collections.incomex.phasegate.plugins.module_utils._policy import evaluate, of_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._required import require, reviews_in
from ansible_collections.incomex.phasegate.plugins.module_utils._reviewers import anchor_path, find_anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._server import compare, server_facts, server_time
from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._snapshot import Snapshot, read_changed, take
from ansible_collections.incomex.phasegate.plugins.module_utils._transaction import (
    Applied,
    Hooks,
    Script,
    complete,
    transact,
)


@dataclass(frozen=True)
class Request:
    """Everything that C-07 needs, gathered by the module from files and parameters.

    ``ddl`` is the buffer that was read once and is hashed and run; ``declared`` the target's identity by the
    inventory; ``max_backup_age`` in seconds; ``lock_attempts`` the maximum number of attempts after lock timeouts; ``capture`` the label of the data before.
    """

    plan: Mapping[str, Any]
    ddl: bytes
    artefacts: Artefacts
    declared: Mapping[str, Any]
    max_backup_age: int
    lock_attempts: int
    capture: str = "before"

    @property
    def phase(self) -> Mapping[str, Any]:
        """Return the phase definition of the plan."""
        definition: Mapping[str, Any] = self.plan["phase"]
        return definition

    @property
    def ddl_sha256(self) -> str:
        """Return the SHA-256 of the buffer."""
        return hashlib.sha256(self.ddl).hexdigest()


def recorded(artefacts: Artefacts, step: str, key: str) -> Any:
    """Return ``key`` of the last completed ``step`` of this run that has it, or None."""
    done = [entry.data for entry in artefacts.journal.entries() if (entry.step, entry.event) == (step, "done")]
    return next((data[key] for data in reversed(done) if key in data), None)


def backup_gates(identity: Identity, request: Request, now: float) -> tuple[list[_gates.Gate], list[Mismatch]]:
    """Evaluate G-2 and G-5 at ``now`` by the server's clock, and return the mismatches of the backup's cluster."""
    known = recorded(request.artefacts, "C-01", "backup")
    backup = BackupRecord(**known) if known else None
    foreign = []
    if backup and backup.system_identifier != identity.system_identifier:
        foreign = [Mismatch("cluster of the backup", identity.system_identifier, backup.system_identifier)]
    problem = unchanged_since(backup, request.artefacts.path) if backup else None
    return [
        _gates.backup_fresh(backup.started_epoch if backup else None, now, request.max_backup_age),
        _gates.backup_restorable(problem, backup.evidence() if backup else None),
    ], foreign


def approval(request: Request, identity: Identity, now: float) -> _gates.Gate:
    """G-1: evaluate the signatures beside the run's plan.json against the reviewers registered on this host.

    ``now`` is the database server's clock. Raises ``Stopped`` when plan.json differs from the plan to run.
    """
    path = request.artefacts.file("plan.json")
    with open(path, "rb") as stream:
        data = stream.read()
    if data != canonical_json(request.plan):
        raise Stopped(
            "C-07: the plan differs from the one that this run was opened with.",
            expected=f"the bytes of {path}, SHA-256 {digest(data)}",
            found=f"SHA-256 {digest(canonical_json(request.plan))}",
            next_step="open a new run with the plan to execute",
        )
    anchor = find_anchor(identity.system_identifier)
    if anchor is None:
        return _gates.no_reviewers(anchor_path(identity.system_identifier))
    if "rehearsal" not in request.plan:
        return _gates.never_rehearsed(anchor.path)
    signatures, notes = collect(path)
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    return judge(data, signatures, notes, anchor, request.plan["author"], request.plan["not_after"], moment).gate


def foreign_plan(plan: Mapping[str, Any], identity: Identity) -> list[Mismatch]:
    """Return how this target differs from that of a rehearsed plan."""
    target = plan.get("target", {})
    return [
        Mismatch(f"{name} of the plan", target[name], str(getattr(identity, name)))
        for name in ("system_identifier", "database", "user", "container")
        if name in target and target[name] != getattr(identity, name)
    ]


def provenance(session: Session, request: Request, base: Snapshot) -> _gates.Gate:
    """G-10: compare schema and server with those at the start of the rehearsal; name the differences that are known."""
    rehearsal = request.plan.get("rehearsal")
    if rehearsal is None:
        return _gates.no_provenance(request.phase["diff"]["policy"])
    required, now = rehearsal["base_fingerprint"], normalise(base)
    difference = ""
    path = os.path.join(
        os.path.dirname(request.artefacts.path), rehearsal["bundle"], "schema/rehearsal_before.jsonl.gz"
    )
    if now.fingerprint != required and os.path.isfile(path):
        rehearsed = normalise(Snapshot.load(path))
        # only the snapshot that the plan pins shows the true difference
        difference = diff(rehearsed, now).text() if rehearsed.fingerprint == required else ""
    rehearsed_on, server = rehearsal["server"], server_facts(session)
    before, after = rehearsed_on["server_version"], server["server_version"]
    told = "" if before == after else f"rehearsed on PostgreSQL {before}, this is {after}"
    return _gates.provenance(
        required, now.fingerprint, rehearsal["bundle"], difference, compare(rehearsed_on, server), told
    )


def no_self_advance(request: Request, identity: Identity, now: float) -> _gates.Gate:
    """G-11: no unexpected step ran in this run, and the required phases are in place and reviewed."""
    own = _gates.nothing_else_ran(entry.step for entry in request.artefacts.journal.entries())
    root, reviews = os.path.dirname(request.artefacts.path.rstrip("/")), reviews_in(request.artefacts)
    required = [require(root, phase, identity, reviews, now) for phase in request.phase["requires"]]
    return _gates.combined([own, *required])


def plan_gates(
    session: Session, request: Request, identity: Identity, base: Snapshot, foreign: Sequence[Mismatch] = ()
) -> list[_gates.Gate]:
    """Evaluate the gates that need neither a backup nor the transaction, so that a run can stop before its backup.

    ``foreign`` are the mismatches of the backup's cluster.
    """
    plan, now = request.plan, server_time(session)
    rollback = request.artefacts.file("sql/" + plan["rollback"]["file"])
    rehearsed = plan["rehearsal"]["bundle"] if "rehearsal" in plan else None
    return [
        approval(request, identity, now),
        _gates.declared_target(
            request.declared, identity, [*foreign, *foreign_plan(plan, identity)], pinned="target" in plan
        ),
        scope(plan["ddl"]["statements"], plan["phase"]["scope"]["statements"]),
        _gates.rollback_ready(
            plan["rollback"]["sha256"], sha256_file(rollback) if os.path.isfile(rollback) else None, rehearsed
        ),
        provenance(session, request, base),
        no_self_advance(request, identity, now),
    ]


def early_gates(session: Session, client: Client, request: Request, base: Snapshot) -> list[_gates.Gate]:
    """Evaluate every gate of C-07 that does not need the transaction: all but G-6."""
    identity = read_identity(session, client)
    of_backup, foreign = backup_gates(identity, request, server_time(session))
    judged = [
        *plan_gates(session, request, identity, base, foreign),
        *of_backup,
        _gates.digest_matches(request.plan["ddl"]["sha256"], request.ddl_sha256),
        _lock.judge(session, request.artefacts.journal.entries()),
    ]
    return sorted(judged, key=_gates.order)


def _check_before(session: Session, client: Client, request: Request, step: Step, applied: Applied) -> None:
    """Preflight again, in the transaction itself (G-6)."""
    checks = _checks.run_checks(
        session,
        request.phase["preflight"],
        _builtins(session, client, request),
        request.phase["settings"]["search_path"],
    )
    applied.preflight = [result.as_dict() for result in checks]
    gate = _gates.preflight_passed(checks)
    others = [judged for judged in step.data["gates"] if judged["id"] != gate.id]
    step.data["gates"] = [*others, gate.as_dict()]
    _gates.stop_at([gate])


def _builtins(session: Session, client: Client, request: Request) -> _checks.Builtins:
    return {
        "target_identity": target_identity(request.declared, read_identity(session, client)),
        "ddl_checksum": ddl_checksum(request.plan["ddl"]["sha256"], request.ddl_sha256),
    }


def _check_inside(
    session: Session, client: Client, request: Request, applied: Applied, base: Snapshot, files: Mapping[str, str]
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
    checks += _checks.answerable(request.phase["non_scope"])
    path = request.phase["settings"]["search_path"]
    results = _checks.run_checks(session, checks, _builtins(session, client, request), path)
    applied.checks = [result.as_dict() for result in results]
    declared = Declared.from_definition(request.phase["measure"], request.phase["row_counts"])
    before = load(request.artefacts, request.capture, declared.measures)
    applied.measured, moved = declared.judge(before, declared.take(session))
    changes = diff(base, read_changed(session, base))
    policy = of_plan(request.plan, "changes_before_commit")
    verdict = evaluate(changes, policy)
    applied.diff = {"ok": verdict.ok, "message": verdict.message, "text": changes.text(), "changes": changes.as_list()}
    wrong = [(f"{r.id} {r.expected}", f"{r.id} {r.found}") for r in _checks.failures(results)]
    wrong += [("data as declared", text) for text in moved]
    rewrites = _rewrites.rewritten(session, files, applied.xid)
    applied.rewrites = sorted(rewrites.values())
    scope_of_rewrites = request.phase["scope"]["rewrites"]
    unexpected = _rewrites.undeclared(session, rewrites, scope_of_rewrites, request.plan["ddl"]["statements"])
    if unexpected:
        expected = ", ".join(scope_of_rewrites) or "none"
        wrong.append((f"tables that are rewritten (scope.rewrites): {expected}", f"rewritten: {', '.join(unexpected)}"))
    if not verdict.ok:
        wrong.append((f"diff {policy['policy']}", verdict.message))
    if "rehearsal" in request.plan:
        rehearsed = evaluate(
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


def read_frozen(artefacts: Artefacts, name: str) -> bytes:
    """Return a frozen SQL file of the run, read once. Raises ``PhaseGateError`` when it is missing."""
    path = artefacts.file("sql/" + name)
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        raise Stopped(
            f"{name} is not frozen in this run.",
            expected=path,
            found="no such file",
            next_step="freeze it first (C-05)",
        ) from None


def gates_without_run(
    client: Client, plan: Mapping[str, Any], declared: Mapping[str, Any], own: str | None
) -> list[_gates.Gate]:
    """Evaluate the gates that need no run (check mode): the target, the scope, and other runs.

    ``own`` is the artefact directory of the checked run, if there is one.
    """
    with client.session("phasegate:check") as session:
        identity = read_identity(session, client)
        run = os.path.basename((own or "").rstrip("/"))
        others = [other.describe() for other in _lock.others(session) if not run or other.run != run]
    judged = [
        _gates.declared_target(declared, identity, foreign_plan(plan, identity), pinned="target" in plan),
        scope(plan["ddl"]["statements"], plan["phase"]["scope"]["statements"]),
    ]
    if others:
        judged.append(_gates.alone(False, "", others))
    _gates.stop_at(judged)
    not_judged = _gates.not_reached(set(_gates.TITLES) - {gate.id for gate in judged})
    return sorted(judged + not_judged, key=_gates.order)


def scope(statements: Sequence[Mapping[str, Any]], allowed: Sequence[str]) -> _gates.Gate:
    """G-8 for the statements of a file that will run."""
    kinds = (kind for statement in statements if statement["run"] for kind in statement["kinds"])
    return _gates.within_scope(kinds, allowed)


def migration_script(request: Request) -> Script:
    """Return the phase's DDL as a script."""
    return Script(
        command="C-07",
        data=request.ddl,
        statements=request.plan["ddl"]["statements"],
        rows=request.phase["expect"]["rows"],
        result=request.phase["expect"].get("result"),
        settings=request.phase["settings"],
    )


def migration_hooks(client: Client, request: Request, step: Step, base: Snapshot) -> Hooks:
    """Return what C-07 adds to the transaction: preflight before, verification inside."""
    files: dict[str, str] = {}

    def before(session: Session, applied: Applied) -> None:
        _check_before(session, client, request, step, applied)
        files.clear()
        files.update(_rewrites.files(session))

    return Hooks(before, inside=lambda session, applied: _check_inside(session, client, request, applied, base, files))


def migrate(client: Client, request: Request, step: Step) -> Applied:
    """Run C-07. Returns when all of it is done; raises ``PhaseGateError`` otherwise, ``step.data['outcome']`` set.

    ``step.data`` receives ``gates``, ``statements`` and the rest for the journal, complete also on failure.
    """
    check_cover(request.plan["ddl"]["statements"], request.ddl, request.plan["ddl"]["sha256"])
    step.data.update(outcome="NOT_STARTED", gates=[])
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        base = take(session)
        # what the in-transaction diff needs of it is computed here, not while locks are held
        base.rows()
        gates = early_gates(session, client, request, base)
        step.data["gates"] = [gate.as_dict() for gate in gates]
        _gates.stop_at(gates)
        same_as_recorded(base, request)
        hooks = migration_hooks(client, request, step, base)
        script = migration_script(request)
        applied = transact(session, client, script, hooks, base, step, request.lock_attempts)
        step.data["baseline"] = baseline(session, applied.diff["changes"])
        complete(session, client, script, applied, step)
        _require_rehearsed(session, request)
        return applied


def finish(client: Client, request: Request, step: Step) -> Applied:
    """Run what an earlier C-07 of this run left after its COMMIT. Raises ``PhaseGateError`` as ``migrate`` does."""
    check_cover(request.plan["ddl"]["statements"], request.ddl, request.plan["ddl"]["sha256"])
    told = [entry for entry in request.artefacts.journal.entries() if entry.step == "C-07"]
    # a killed run recorded only the id of its transaction
    known = [entry.data for entry in told if "transaction" in entry.data]
    begun = [{key: entry.data[key] for key in ("xid", "pid")} for entry in told if entry.event == "transaction"]
    earlier = known[-1] if known else {"transaction": begun[-1]}
    applied = Applied(**earlier["transaction"])
    step.data.update({key: value for key, value in earlier.items() if key != "reason"})
    step.data.update(outcome=COMMITTED, gates=[], transaction=asdict(applied))
    before = Snapshot.load(request.artefacts.file("schema/before.jsonl.gz"))
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        # the age of the backup was checked when the migration began
        gates = [gate for gate in early_gates(session, client, request, before) if gate.id != "G-2"]
        step.data["gates"] = [gate.as_dict() for gate in gates]
        _gates.stop_at(gates)
        complete(session, client, migration_script(request), applied, step)
        _require_rehearsed(session, request)
        return applied


def _require_rehearsed(session: Session, request: Request) -> None:
    """Compare the complete result with the rehearsal; without statements after COMMIT this was done before COMMIT."""
    if "rehearsal" not in request.plan or not any(one["after_commit"] for one in request.plan["ddl"]["statements"]):
        return
    rehearsed = {"policy": "exact", "changes": request.plan["rehearsal"]["changes"]}
    before = Snapshot.load(request.artefacts.file("schema/before.jsonl.gz"))
    verdict = evaluate(diff(before, take(session)), rehearsed)
    if not verdict.ok:
        raise Stopped(
            "C-07: the schema differs from the rehearsed one; the phase is COMMITTED.",
            expected="the diff of the rehearsal",
            found=verdict.message,
            next_step="find out what else changed the schema; decide whether to roll the phase back",
        )


def same_as_recorded(base: Snapshot, request: Request) -> None:
    known = recorded(request.artefacts, "C-03", "fingerprint")
    if known != base.fingerprint:
        raise Stopped(
            "The schema differs from the snapshot before the migration (C-03).",
            expected=f"fingerprint {known or 'of a snapshot made in this run'}",
            found=f"fingerprint {base.fingerprint}",
            next_step="the schema was changed during this run: find out who changed it, then start a new run",
        )
