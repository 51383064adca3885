# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-09: run a phase's rollback SQL, and commit only if the schema is exactly as before the phase."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping, Sequence, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import collect_approvals
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import (
    evaluate_plan_approvals,
    evaluate_rollback_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import find_anchor, registered
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import (
    PLAN_NAMESPACE,
    AcceptedLoss,
    rollback_request,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated, RolledBack
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import parse_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_json,
    sha256_bytes,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    Gate,
    combine_gates,
    digest_gate,
    gate_order,
    make_gate,
    rollback_ready_gate,
    stop_at_gates,
    target_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.sql_lexer import check_statements
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    Identity,
    Mismatch,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import server_time
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import require_confirmation
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import (
    MigrationRequest,
    backup_gates,
    require_recorded_schema,
    statements_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.later_data import (
    later_columns,
    later_tables,
    narrowed_values,
    with_rows,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.ledger_record import LedgerEntry
from ansible_collections.incomex.phasegate.plugins.module_utils._run.lock import lock_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._run.register_copy import keep_register
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rehearsal_record import rehearsal_record
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback_evidence import keep_approvals
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback_losses import (
    DataHolder,
    DataLoss,
    data_holders,
    data_losses,
    recorded_holders,
    require_counted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import (
    MigrationResult,
    Script,
    TransactionChecks,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import run_script
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff, Words, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import (
    NOT_EXPECTED,
    ExpectedPartitions,
    expected_partitions,
    without_expected,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import (
    PolicyVerdict,
    judge_changes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import (
    read_again,
    read_changed,
    take_snapshot,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature import holds

T = TypeVar("T", bound=RolledBack)


@dataclass(frozen=True)
class RollbackRequest:
    """A rollback: the sealed ``execution`` that it undoes, the operator's confirmation, and the accepted loss.

    ``confirm`` must be the name of the execution's directory; ``signatures`` are reviewers' over exactly this rollback, by a label.
    """

    execution: RunDirectory
    confirm: str
    accepted: AcceptedLoss = field(default_factory=AcceptedLoss)
    signatures: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name of the execution's directory."""
        return name_of(self.execution)

    @property
    def request(self) -> bytes:
        """Return the text that reviewers sign to permit it."""
        return rollback_request(self.name, sha256_file(self.execution.file(SEAL)), self.accepted)

    @property
    def changes(self) -> list[Mapping[str, Any]] | None:
        """Return the changes of the schema that the execution made; None when they are not known."""
        transaction = newest_end(self.execution.journal.entries(), Migrated).transaction or {}
        found: list[Mapping[str, Any]] | None = transaction.get("diff", {}).get("changes")
        # a killed execution recorded none
        return found if found is not None else self._plan.get("rehearsal", {}).get("changes_before_commit")

    @property
    def expected(self) -> ExpectedPartitions:
        """Return which partitions may have come and gone since the execution."""
        return expected_partitions(self._plan["phase"], self.changes)

    @property
    def _plan(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = read_json(self.execution.plan_path)
        return found


def require_accepted(undo: RollbackRequest, lost: list[DataLoss]) -> None:
    """Raise ``PhaseGateError`` unless the loss of these rows is accepted."""
    rows = sum(loss.rows for loss in lost)
    if not undo.accepted.permits(rows):
        raise Stopped(
            f"C-09: the rollback would lose {rows} rows.",
            expected=f"the loss of {undo.accepted}, as accepted",
            found="; ".join(f"{loss.what}: {loss.rows} rows" for loss in lost) or "no row would be lost",
            next_step=f"save the data first, or accept the loss with -e phasegate_accept_loss={rows}; if rows are written all the"
            " time, with a bound: -e phasegate_accept_loss_at_most=<rows>",
        )


def rollback_approval_gate(undo: RollbackRequest, request: MigrationRequest, identity: Identity, now: float) -> Gate:
    """G-1 of a rollback: what the register of the cluster's reviewers requires. ``now`` is the database server's clock."""
    anchor = registered(identity.system_identifier, required=request.approvals_required, keep=request.keep)
    if isinstance(anchor, Gate):
        return anchor
    keep_register(request.artefacts, anchor)
    if anchor.rollback == "confirmation":
        return make_gate("G-1", True, f"a typed confirmation, as {anchor.path} requires", undo.confirm, "")
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    return evaluate_rollback_approvals(
        undo.request, undo.signatures, anchor, request.plan.get("author", ""), moment
    ).gate


def executed_plan_gate(undo: RollbackRequest, request: MigrationRequest, identity: Identity, now: float) -> Gate | None:
    """G-1 of the plan whose rollback would run: its own signatures, in the execution's bundle or given with the rollback.

    A bundle can be written anew by whoever writes below the root, so its SQL needs the reviewers who signed the plan. None on a
    cluster without a register. A plan without a rehearsal was never signed: then the reviewers' signatures over the rollback, which
    name the seal of its bundle, are required in their place.
    """
    anchor = find_anchor(identity.system_identifier)
    if anchor is None:
        return None
    path = undo.execution.file("plan.json")
    if "rehearsal" not in request.plan:
        return make_gate(
            "G-1",
            anchor.rollback == "approval",
            f"an executed plan that the reviewers of {anchor.path} signed",
            f"{path} was not rehearsed, so nobody can have signed it",
            f"have the rollback itself approved: set rollback to approval in {anchor.path}/policy.json",
        )
    with open(path, "rb") as stream:
        data = stream.read()
    signatures, notes = collect_approvals(path)
    # given with the rollback: of reviewers who sign the executed plan now, as when a key was revoked since
    given = {f"given {name}": one for name, one in undo.signatures.items() if holds(one, PLAN_NAMESPACE, data)}
    expiry = parse_time(request.plan["not_after"])
    # it was executed in time; what a rollback needs is that people approved these bytes
    moment = min(datetime.datetime.fromtimestamp(now, datetime.timezone.utc), expiry)
    gate = evaluate_plan_approvals(
        data, {**signatures, **given}, notes, anchor, request.plan["author"], request.plan["not_after"], moment
    ).gate
    return replace(
        gate,
        expected=f"the executed plan: {gate.expected}",
        found=f"the executed plan: {gate.found}",
        next_step=f"{gate.next_step}: sign {path} and give the signature with those of the rollback"
        if gate.next_step
        else "",
    )


def gates_before_backup(
    session: Session,
    request: MigrationRequest,
    undo: RollbackRequest,
    identity: Identity,
    foreign: Sequence[Mismatch] = (),
) -> list[Gate]:
    """Evaluate the gates of a rollback that need neither a backup nor the lock; ``request.ddl`` is the rollback SQL.

    ``foreign`` are the mismatches of the backup's cluster.
    """
    rollback = request.plan["rollback"]
    now = server_time(session)
    bundle = request.plan.get("rehearsal", {}).get("bundle")
    record = rehearsal_record(request.plan, request.runs, find_anchor(identity.system_identifier)) if bundle else None
    executed = executed_plan_gate(undo, request, identity, now)
    approval = rollback_approval_gate(undo, request, identity, now)
    return [
        combine_gates([approval, executed]) if executed else approval,
        digest_gate(rollback["sha256"], request.ddl_sha256),
        # the database was compared with the execution's own
        target_gate(request.declared, identity, foreign, pinned=True),
        statements_gate(rollback["statements"], request.phase["rollback"]["statements"]),
        rollback_ready_gate(rollback["sha256"], request.ddl_sha256, bundle, record),
    ]


def _gates_of(session: Session, client: Client, request: MigrationRequest, undo: RollbackRequest) -> list[Gate]:
    """Evaluate the gates of a rollback: all but preflight and provenance, which belong to C-07, and G-11."""
    identity = read_identity(session, client)
    of_backup, foreign = backup_gates(identity, request, server_time(session))
    gates = [
        *gates_before_backup(session, request, undo, identity, foreign),
        *of_backup,
        lock_gate(session, request.artefacts.journal.entries(), request.runs),
    ]
    return sorted(gates, key=gate_order)


def loss_before_backup(session: Session, undo: RollbackRequest, live: Callable[[], Snapshot]) -> list[DataLoss]:
    """Return what the rollback would lose now, before anything is locked for it. ``live`` reads the schema.

    Raises ``PhaseGateError`` when that cannot be counted. C-09 counts again, under its locks.
    """
    known = newest_end(undo.execution.journal.entries(), Migrated).baseline
    original = Snapshot.load(undo.execution.file("schema/before.jsonl.gz"))
    base = live()
    session.execute("BEGIN READ ONLY")
    try:
        lost, _beside = losses_now(session, original, base, known, undo)
    finally:
        session.execute("ROLLBACK")
    require_counted(lost)
    return lost


def rollback_script(plan: Mapping[str, Any], data: bytes) -> Script:
    """Return the phase's rollback SQL as a script.

    Raises ``PhaseGateError`` when ``data`` is not the pinned file, or the plan's statements are not its.
    """
    rollback, phase = plan["rollback"], plan["phase"]
    check_cover(rollback["statements"], data, rollback["sha256"])
    check_statements(rollback["statements"], data, rollback["file"])
    return Script(
        command="C-09",
        data=data,
        statements=rollback["statements"],
        rows=phase["rollback"]["rows"],
        result=None,
        settings=phase["settings"],
        rewrites=sorted({*phase["scope"]["rewrites"], *phase["rollback"]["rewrites"]}),
        functions=phase["scope"]["functions"],
    )


class RestoredSchema(TransactionChecks):
    """Return the hook that allows COMMIT only when the schema is ``original`` again, the one before ``name``.

    ``base`` is the schema right before the rollback. Only the indexes that the script's statements after COMMIT are about may
    differ until then.
    """

    def __init__(
        self,
        original: Snapshot,
        name: str,
        script: Script,
        base: Snapshot,
        words: Words | None = None,
        expected: ExpectedPartitions = NOT_EXPECTED,
    ) -> None:
        #: the partitions that may have come and gone since
        self.expected = expected
        self.original = original
        self.base = base
        self.words = words
        #: what differs after the last statement
        self.judged: tuple[Diff, PolicyVerdict]
        self.name = name
        self.script = script
        self.later = {one["after_commit"].replace('"', "") for one in script.statements if one["after_commit"]}

    def before_read_only(self, session: Session, applied: MigrationResult) -> None:
        """Compare the schema; the server prints again what has to be compared, for which it makes temporary objects."""
        del applied
        reached, server = read_changed(session, self.base), Reprinter(session, inside=True)
        self.judged = self._judge(reached, server)
        if server.wrote:
            again = read_again(session, reached)
            self.judged = self.judged if again is reached else self._judge(again, server)

    def _judge(self, after: Snapshot, server: Reprinter) -> tuple[Diff, PolicyVerdict]:
        drift = without_expected(self.original, after, self.expected)
        difference = diff(drift.before, drift.after, self.words)
        due = [c for c in difference.changes if c.kind != "index" or f"{c.schema}.{c.identity[-1]}" not in self.later]
        judged, verdict = judge_changes(replace(difference, changes=tuple(due)), {"policy": "unchanged"}, server)
        message = "\n".join(filter(None, (verdict.message, drift.text(), *drift.unexpected)))
        return judged, replace(verdict, message=message)

    def before_commit(self, session: Session, applied: MigrationResult) -> None:
        """Compare the schema with the one before the phase."""
        del session
        difference, verdict = self.judged
        applied.diff = {
            "ok": verdict.ok,
            "message": verdict.message,
            "text": difference.text(),
            "changes": difference.as_list(),
        }
        if not verdict.ok:
            raise Stopped(
                "C-09: the schema would differ from the pre-phase snapshot; rolled back before COMMIT.",
                expected=f"the schema before {self.name}, fingerprint {self.original.fingerprint}",
                found=verdict.message,
                next_step="the schema was changed since, or the rollback SQL is incomplete: find out which",
            )


class RollbackChecks(RestoredSchema):
    """What C-09 checks: the rows that are lost are those that were accepted, and the schema is restored.

    ``name`` is what is undone; ``baseline`` the data right after COMMIT, as the execution recorded it, None when it was killed
    before; ``undo`` has the accepted loss, None at a rehearsal, which accepts any.
    """

    def __init__(
        self,
        original: Snapshot,
        name: str,
        script: Script,
        step: Step[T],
        base: Snapshot,
        baseline: Sequence[Mapping[str, Any]] | None,
        undo: RollbackRequest | None = None,
    ) -> None:
        super().__init__(original, name, script, base, expected=undo.expected if undo else NOT_EXPECTED)
        self.undo = undo
        self.step = step
        self.baseline = baseline
        #: tables with rows that came since and are no part of the phase
        self.beside: Sequence[DataHolder] = ()
        #: what writes the row of the ledger
        self.entry: LedgerEntry | None = None

    def before(self, session: Session, applied: MigrationResult) -> None:
        """Lock the tables that hold the phase's data and count the rows that would be lost."""
        del applied
        lost, self.beside = losses_now(session, self.original, self.base, self.baseline, self.undo, lock=True)
        self.step.update(losses=[loss.as_dict() for loss in lost])
        require_counted(lost)
        if self.undo:
            require_accepted(self.undo, lost)

    def begun(self, session: Session, applied: MigrationResult) -> None:
        """Write the row of the ledger."""
        del applied
        if self.entry:
            self.entry.add(session)

    def before_commit(self, session: Session, applied: MigrationResult) -> None:
        """Compare ledger and schema with those before the phase."""
        if self.entry:
            self.entry.require_untouched(session)
        super().before_commit(session, applied)
        gone = [table.name for table in self.beside if not table.exists(session)]
        if gone:
            raise Stopped(
                "C-09: the rollback would drop tables that were made since, and are no part of the phase; rolled back before COMMIT.",
                expected="every table that was made after the execution is still there",
                found=f"it drops, with rows in them: {', '.join(gone)}",
                next_step="save their rows and drop or move them, or correct the rollback SQL by a phase of its own",
            )


def losses_now(
    session: Session,
    original: Snapshot,
    base: Snapshot,
    baseline: Sequence[Mapping[str, Any]] | None,
    undo: RollbackRequest | None,
    *,
    lock: bool = False,
) -> tuple[list[DataLoss], list[DataHolder]]:
    """Return what a rollback would lose now, in the open transaction, and the tables with rows that came since beside the phase.

    With ``lock`` nobody writes to any of them from here on.
    """
    holders = phase_data(session, original, base, baseline, undo)
    inside, beside = later_tables(session, original, base, undo.changes if undo else None)
    holders = [one for one in holders if not one.column or DataHolder(one.schema, one.table) not in inside]
    holders += [one for one in inside if one not in holders]
    beside = [one for one in beside if one not in holders]
    for table in sorted({holder.relation for holder in holders}) if lock else ():
        session.execute(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
    lost = data_losses(session, holders, baseline or ())
    return [*lost, *narrowed_values(session, original, base)], with_rows(session, beside, lock=lock)


def phase_data(
    session: Session,
    original: Snapshot,
    base: Snapshot,
    baseline: Sequence[Mapping[str, Any]] | None,
    undo: RollbackRequest | None,
) -> list[DataHolder]:
    """Return what stores data of the phase: as the execution recorded it, else by what was added since ``original``.

    Partitions that came since the execution have it as well.
    """
    if baseline is not None:
        known = [one for one in recorded_holders(baseline) if one.exists(session)]
    else:
        drift = without_expected(original, base, undo.expected if undo else NOT_EXPECTED)
        known = data_holders(session, diff(drift.before, drift.after).as_list())
    later = later_columns(original, base, undo.changes if undo else None)
    return [*known, *(one for one in later if one not in known)]


def run_rollback(
    client: Client, request: MigrationRequest, undo: RollbackRequest, step: Step[RolledBack]
) -> MigrationResult:
    """Run C-09. Returns after a proven COMMIT; raises ``PhaseGateError`` otherwise. ``request.ddl`` is the rollback SQL."""
    require_confirmation(undo.execution, undo.confirm)
    script = rollback_script(request.plan, request.ddl)
    keep_approvals(request.artefacts, undo.execution, undo.request, undo.signatures)
    step.update(outcome=TransactionOutcome.NOT_STARTED, gates=[])
    original = Snapshot.load(undo.execution.file("schema/before.jsonl.gz"))
    # a statement after COMMIT may have failed, and a run that was killed recorded none of it
    known = newest_end(undo.execution.journal.entries(), Migrated).baseline
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        gates = _gates_of(session, client, request, undo)
        step.update(gates=[gate.as_dict() for gate in gates])
        stop_at_gates(gates)
        base = take_snapshot(session, sections=original.header.sections)
        require_recorded_schema(base, request)
        checks = RollbackChecks(original, undo.name, script, step, base, known, undo)
        plan_sha256 = sha256_bytes(canonical_json(request.plan))
        checks.entry = LedgerEntry(request.artefacts, request.plan, plan_sha256, step, undo.name)
        applied = run_script(session, client, script, checks, base, step, request.lock_attempts)
        after = take_snapshot(session, sections=original.header.sections)
        drift = without_expected(original, after, checks.expected)
        left, verdict = judge_changes(
            diff(drift.before, drift.after), {"policy": "unchanged"}, Reprinter(session, inside=False)
        )
    changes = "\n".join(filter(None, (diff(base, after).text(), drift.text())))
    step.update(changes=changes, fingerprint=after.fingerprint, restored=verdict.ok)
    if not verdict.ok:
        raise PhaseGateError(
            "C-09: after COMMIT the schema no longer matches the pre-phase snapshot, although it did before COMMIT.",
            expected=f"fingerprint {original.fingerprint}",
            found=f"fingerprint {after.fingerprint}: {left.text()}",
            next_step="the schema was changed right after the rollback: find out who changed it",
        )
    return applied
