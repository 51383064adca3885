# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collect what the gates need from plan, run directory and server, and evaluate them."""

from __future__ import annotations

import datetime
import functools
import os
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import collect_approvals
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import evaluate_plan_approvals
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import find_anchor, registered
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import BackupRecord, unchanged_since
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import BackupMade, SchemaRecorded
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end, opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import parse_time, utc_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_found,
    sha256_bytes,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    GATE_TITLES,
    Gate,
    RehearsalRecord,
    backup_fresh_gate,
    combine_gates,
    digest_gate,
    expired_plan_gate,
    gate_order,
    never_rehearsed_gate,
    no_provenance_gate,
    not_reached_gates,
    nothing_else_ran_gate,
    provenance_gate,
    restorable_gate,
    rollback_ready_gate,
    run_lock_gate,
    scope_gate,
    stop_at_gates,
    target_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    Identity,
    Mismatch,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import (
    diff_server_settings,
    server_facts,
    server_time,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock import lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock_holders import other_sessions
from ansible_collections.incomex.phasegate.plugins.module_utils._run.register_copy import keep_register
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rehearsal_record import rehearsal_record
from ansible_collections.incomex.phasegate.plugins.module_utils._run.required_phases import (
    required_phase_gate,
    reviews_in,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Words, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import (
    expected_partitions,
    without_expected,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import judge_changes
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import (
    equal_texts,
    normalise,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot


@dataclass(frozen=True)
class MigrationRequest:
    """Everything that C-07 needs, gathered by the module from files and parameters.

    ``ddl`` is the buffer that was read once and is hashed and run; ``declared`` the target's identity by the
    inventory; ``max_backup_age`` in seconds; ``lock_attempts`` the maximum number of attempts after lock timeouts; ``capture`` the label of the data
    before. ``root`` is where all runs are, None where it is the directory
    of ``artefacts``; ``keep`` whether the register of reviewers is remembered on this host: check mode writes nothing there.
    ``continued``: its transaction committed in an earlier process, so it was executed in time; what is left may take place later.
    """

    plan: Mapping[str, Any]
    ddl: bytes
    artefacts: RunDirectory
    declared: Mapping[str, Any]
    max_backup_age: int
    lock_attempts: int
    capture: str = "before"
    root: str | None = None
    keep: bool = True
    continued: bool = False

    @property
    def runs(self) -> str:
        """Return the directory of all runs."""
        return self.root or os.path.dirname(self.artefacts.path.rstrip("/"))

    @property
    def phase(self) -> Mapping[str, Any]:
        """Return the phase definition of the plan."""
        definition: Mapping[str, Any] = self.plan["phase"]
        return definition

    @property
    def approvals_required(self) -> bool:
        """Return whether the run was opened with approvals required by the inventory."""
        start = opening_of(self.artefacts.journal.entries())
        return bool(start and start.approvals_required)

    @functools.cached_property
    def ddl_sha256(self) -> str:
        """Return the SHA-256 of the buffer."""
        return sha256_bytes(self.ddl)


def backup_gates(identity: Identity, request: MigrationRequest, now: float) -> tuple[list[Gate], list[Mismatch]]:
    """Evaluate G-2 and G-5 at ``now`` by the server's clock, and return the mismatches of the backup's cluster."""
    known = newest_end(request.artefacts.journal.entries(), BackupMade, done=True).backup
    backup = BackupRecord(**known) if known else None
    foreign = []
    if backup and backup.system_identifier != identity.system_identifier:
        again = "start a new run, which makes a backup of this cluster (C-01)"
        foreign = [Mismatch("cluster of the backup", identity.system_identifier, backup.system_identifier, again)]
    problem = unchanged_since(backup, request.artefacts.path) if backup else None
    return [
        backup_fresh_gate(backup.started_epoch if backup else None, now, request.max_backup_age),
        restorable_gate(problem, backup.evidence() if backup else None),
    ], foreign


def approval_gate(request: MigrationRequest, identity: Identity, now: float) -> Gate:
    """G-1: evaluate the signatures beside the run's plan.json against the reviewers registered on this host.

    ``now`` is the database server's clock. Raises ``Stopped`` when plan.json differs from the plan to run.
    """
    path = request.artefacts.file("plan.json")
    data = read_found(path)
    if data != canonical_json(request.plan):
        raise Stopped(
            "C-07: the plan differs from the one that this run was opened with.",
            expected=f"the bytes of {path}, SHA-256 {sha256_bytes(data)}",
            found=f"SHA-256 {sha256_bytes(canonical_json(request.plan))}",
            next_step="open a new run with the plan to execute",
        )
    anchor = registered(identity.system_identifier, required=request.approvals_required, keep=request.keep)
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    expiry = parse_time(request.plan["not_after"]) if "rehearsal" in request.plan else None
    if request.continued and expiry:
        moment = min(moment, expiry)
    if isinstance(anchor, Gate):
        # a plan expires whether anybody has to approve it or not
        late = expiry is not None and moment > expiry and anchor.status == GateStatus.NOT_ENFORCED
        return expired_plan_gate(request.plan["not_after"], utc_time(now)) if late else anchor
    keep_register(request.artefacts, anchor)
    if "rehearsal" not in request.plan:
        return never_rehearsed_gate(anchor.path)
    signatures, notes = collect_approvals(path)
    return evaluate_plan_approvals(
        data, signatures, notes, anchor, request.plan["author"], request.plan["not_after"], moment
    ).gate


def foreign_plan(plan: Mapping[str, Any], identity: Identity) -> list[Mismatch]:
    """Return how this target differs from that of a rehearsed plan."""
    target = plan.get("target", {})
    wrong = [
        name
        for name in ("system_identifier", "database", "user", "container")
        if name in target and target[name] != getattr(identity, name)
    ]
    again = "the plan was rehearsed for another target: execute it there, or rehearse again for this one"
    if wrong == ["database"]:
        again += "; a database that was renamed gets its former name back by ALTER DATABASE … RENAME TO …"
    return [Mismatch(f"{name} of the plan", target[name], str(getattr(identity, name)), again) for name in wrong]


def _rehearsed_source(request: MigrationRequest) -> Snapshot | None:
    """Return production's snapshot of the rehearsal, normalised; None when the one that the plan pins is not on this host."""
    rehearsal = request.plan["rehearsal"]
    path = os.path.join(request.runs, rehearsal["bundle"], "schema/before.jsonl.gz")
    if not os.path.isfile(path):
        return None
    source = normalise(Snapshot.load(path))
    return source if source.fingerprint == rehearsal["base_fingerprint"] else None


def rehearsed_words(session: Session, request: MigrationRequest, base: Snapshot) -> Words:
    """Return which texts of the schema are another print of the rehearsed ones, as after a restore of production."""
    rehearsal, now = request.plan.get("rehearsal"), normalise(base)
    if rehearsal is None or now.fingerprint == rehearsal["base_fingerprint"]:
        return {}
    source = _rehearsed_source(request)
    return equal_texts(source, now, Reprinter(session, inside=False)) if source else {}


def rehearsal_gate(
    session: Session, request: MigrationRequest, base: Snapshot, record: RehearsalRecord | None = None
) -> Gate:
    """G-10: compare schema and server with those at the start of the rehearsal; name the differences that are known."""
    rehearsal = request.plan.get("rehearsal")
    if rehearsal is None:
        return no_provenance_gate(request.phase["diff"]["policy"])
    required, now = rehearsal["base_fingerprint"], normalise(base)
    found, difference, told = now.fingerprint, "", []
    # only the snapshot that the plan pins shows the true difference
    rehearsed = _rehearsed_source(request) if found != required else None
    if rehearsed:
        printer = Reprinter(session, inside=False)
        drift = without_expected(rehearsed, now, expected_partitions(request.phase))
        changes, verdict = judge_changes(diff(drift.before, drift.after), {"policy": "unchanged"}, printer)
        found = required if verdict.ok else found
        reasons = ("" if verdict.ok else changes.text(), *drift.unexpected, "" if verdict.ok else printer.explain())
        difference = "\n".join(filter(None, reasons))
        told += [drift.text()] if drift.text() else []
    rehearsed_on, server = rehearsal["server"], server_facts(session)
    before, after = rehearsed_on["server_version"], server["server_version"]
    told += [] if before == after else [f"rehearsed on PostgreSQL {before}, this is {after}"]
    return provenance_gate(
        required,
        found,
        rehearsal["bundle"],
        difference,
        diff_server_settings(rehearsed_on, server),
        "; ".join(told),
        record,
    )


def no_self_advance_gate(request: MigrationRequest, identity: Identity, now: float, live: Snapshot) -> Gate:
    """G-11: no unexpected step ran in this run, and the required phases are in place and reviewed."""
    own = nothing_else_ran_gate(entry.step for entry in request.artefacts.journal.entries())
    reviews = reviews_in(request.artefacts)
    required = [
        required_phase_gate(request.runs, phase, identity, reviews, now, live) for phase in request.phase["requires"]
    ]
    return combine_gates([own, *required])


def plan_gates(
    session: Session, request: MigrationRequest, identity: Identity, base: Snapshot, foreign: Sequence[Mismatch] = ()
) -> list[Gate]:
    """Evaluate the gates that need neither a backup nor the transaction, so that a run can stop before its backup.

    ``foreign`` are the mismatches of the backup's cluster.
    """
    plan, now = request.plan, server_time(session)
    rollback = request.artefacts.file("sql/" + plan["rollback"]["file"])
    rehearsed = plan["rehearsal"]["bundle"] if "rehearsal" in plan else None
    record = rehearsal_record(plan, request.runs, find_anchor(identity.system_identifier)) if rehearsed else None
    return [
        approval_gate(request, identity, now),
        target_gate(request.declared, identity, [*foreign, *foreign_plan(plan, identity)], pinned="target" in plan),
        statements_gate(plan["ddl"]["statements"], plan["phase"]["scope"]["statements"]),
        rollback_ready_gate(
            plan["rollback"]["sha256"], sha256_file(rollback) if os.path.isfile(rollback) else None, rehearsed, record
        ),
        rehearsal_gate(session, request, base, record),
        no_self_advance_gate(request, identity, now, base),
    ]


def early_gates(session: Session, client: Client, request: MigrationRequest, base: Snapshot) -> list[Gate]:
    """Evaluate every gate of C-07 that does not need the transaction: all but G-6."""
    identity = read_identity(session, client)
    of_backup, foreign = backup_gates(identity, request, server_time(session))
    judged = [
        *plan_gates(session, request, identity, base, foreign),
        *of_backup,
        digest_gate(request.plan["ddl"]["sha256"], request.ddl_sha256),
        lock_gate(session, request.artefacts.journal.entries(), os.path.dirname(request.artefacts.path)),
    ]
    return sorted(judged, key=gate_order)


def gates_without_run(
    client: Client, plan: Mapping[str, Any], declared: Mapping[str, Any], own: str | None
) -> list[Gate]:
    """Evaluate the gates that need no run (check mode): the target, the scope, and other runs.

    ``own`` is the artefact directory of the checked run, if there is one.
    """
    with client.session("phasegate:check") as session:
        identity = read_identity(session, client)
        run = os.path.basename((own or "").rstrip("/"))
        root = os.path.dirname((own or "").rstrip("/"))
        others = [other.describe() for other in other_sessions(session, root) if not run or other.run != run]
    judged = [
        target_gate(declared, identity, foreign_plan(plan, identity), pinned="target" in plan),
        statements_gate(plan["ddl"]["statements"], plan["phase"]["scope"]["statements"]),
    ]
    if others:
        judged.append(run_lock_gate(False, "", others))
    stop_at_gates(judged)
    not_judged = not_reached_gates(set(GATE_TITLES) - {gate.id for gate in judged})
    return sorted(judged + not_judged, key=gate_order)


def statements_gate(statements: Sequence[Mapping[str, Any]], allowed: Sequence[str]) -> Gate:
    """G-8 for the statements of a file that will run."""
    kinds = (kind for statement in statements if statement["run"] for kind in statement["kinds"])
    return scope_gate(kinds, allowed)


def require_recorded_schema(base: Snapshot, request: MigrationRequest) -> None:
    """Raise ``PhaseGateError`` unless the schema is the one that C-03 recorded in this run."""
    known = newest_end(request.artefacts.journal.entries(), SchemaRecorded, done=True).fingerprint
    if known != base.fingerprint:
        raise Stopped(
            "The schema differs from the snapshot before the migration (C-03).",
            expected=f"fingerprint {known or 'of a snapshot made in this run'}",
            found=f"fingerprint {base.fingerprint}",
            next_step="the schema was changed during this run: find out who changed it, then start a new run",
        )
