# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-07: evaluate the gates, then run a plan's DDL in a transaction that commits only after a passed verification."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import Any, Mapping, Sequence, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    Migrated,
    Transacted,
    TransactionBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end, records_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.builtin import checksum_check, identity_check
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import (
    Builtins,
    answerable_statements,
    failed_checks,
    named_check,
    run_checks,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import (
    Capture,
    DataExpectations,
    load_capture,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import (
    data_key,
    judge_data,
    named_by_statements,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import read_words, write_words
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import preflight_gate, stop_at_gates
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.batch_form import planned_batches
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.sql_lexer import check_statements
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import ConnectionLost, Session
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import (
    MigrationRequest,
    early_gates,
    rehearsed_words,
    require_recorded_schema,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.ledger_record import LedgerEntry
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measured_locks import lock_measured
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measurements import (
    held_locks,
    undeclared_rewrites,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback_losses import (
    data_baseline,
    written_content,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import (
    AS_A_REVISION,
    MigrationResult,
    Script,
    TransactionChecks,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import finish_script, run_script
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff, Words, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import (
    comparable,
    declared_parents,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import (
    PolicyVerdict,
    allow_key,
    judge_changes,
    policy_for_plan,
    rehearsed_policy,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import (
    read_again,
    read_changed,
    take_snapshot,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import sections_for_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

T = TypeVar("T", bound=Transacted)


class MigrationChecks(TransactionChecks):
    """What C-07 checks: preflight before the first statement; verification, data and structure before COMMIT."""

    def __init__(
        self, client: Client, request: MigrationRequest, step: Step[T], base: Snapshot, words: Words | None = None
    ) -> None:
        #: what to read for a copy's texts that the source prints otherwise
        self.words = words
        #: the changes after the last statement: by the phase's policy, and by the rehearsal's where there was one
        self.judged: tuple[Diff, PolicyVerdict, PolicyVerdict | None]
        self.client = client
        self.request = request
        self.step = step
        self.base = base
        self.declared = DataExpectations.from_definition(request.phase["measure"], request.phase["row_counts"])
        #: the measured columns right before the first statement, and the tables that are locked from there on
        self.captured: Capture | None = None
        self.locked: Sequence[str] = ()
        #: what the transaction itself wrote into the columns that it added
        self.content: Mapping[tuple[str, ...], Mapping[str, str]] = {}
        self.entry = LedgerEntry(request.artefacts, request.plan, sha256_bytes(canonical_json(request.plan)), step)

    def _builtins(self, session: Session) -> Builtins:
        return {
            "target_identity": identity_check(self.request.declared, read_identity(session, self.client)),
            "ddl_checksum": checksum_check(self.request.plan["ddl"]["sha256"], self.request.ddl_sha256),
        }

    def before(self, session: Session, applied: MigrationResult) -> None:
        """Run preflight again, in the transaction itself (G-6)."""
        checks = run_checks(
            session,
            self.request.phase["preflight"],
            self._builtins(session),
            self.request.phase["settings"]["search_path"],
        )
        applied.preflight = [result.as_dict() for result in checks]
        gate = preflight_gate(checks)
        others = [evaluated for evaluated in self.step.end.gates or () if evaluated["id"] != gate.id]
        self.step.update(gates=[*others, gate.as_dict()])
        stop_at_gates([gate])

    def begun(self, session: Session, applied: MigrationResult) -> None:
        """Write the row of the ledger."""
        del applied
        self.entry.add(session)

    def before_statements(self, session: Session, applied: MigrationResult) -> None:
        """Read the measured columns again: what others have changed since C-04 is not the phase's."""
        del applied
        if self.declared.measures:
            before = load_capture(self.request.artefacts, self.request.capture, ())
            self.locked = lock_measured(session, self.declared.measures, self.request.plan)
            self.captured = self.declared.renewed(session, before)

    def before_read_only(self, session: Session, applied: MigrationResult) -> None:
        """Compare the schema; the server prints again what has to be compared, for which it makes temporary objects."""
        del applied
        reached, server = read_changed(session, self.base), Reprinter(session, inside=True)
        self.judged = self._judge(reached, server)
        if server.wrote:
            again = read_again(session, reached)
            self.judged = self.judged if again is reached else self._judge(again, server)

    def _judge(self, after: Snapshot, server: Reprinter) -> tuple[Diff, PolicyVerdict, PolicyVerdict | None]:
        """Evaluate the diff by the phase's policy, and by the rehearsal's changes if there was one."""
        policy = policy_for_plan(self.request.plan, "changes_before_commit")
        moments = comparable(self.base, after, declared_parents(self.request.phase))
        changes, verdict = judge_changes(diff(*moments, self.words), policy, server)
        if "rehearsal" not in self.request.plan:
            return changes, verdict, None
        recorded = rehearsed_policy(self.request.plan, "changes_before_commit")
        return changes, verdict, judge_changes(changes, recorded, server)[1]

    def before_commit(self, session: Session, applied: MigrationResult) -> None:
        """Check verification, measured data, structural diff and rewritten tables on the uncommitted state."""
        self.entry.require_untouched(session)
        # VA-16 needs pg_dump, which cannot see this transaction; the structural diff below replaces it
        checks = [
            check
            for check in self.request.phase["verify"]
            if check.get("builtin") != "schema_diff" and not check.get("after_commit")
        ]
        checks += answerable_statements(self.request.phase["non_scope"])
        path = self.request.phase["settings"]["search_path"]
        results = run_checks(session, checks, self._builtins(session), path)
        applied.checks = [result.as_dict() for result in results]
        before = self.captured or load_capture(self.request.artefacts, self.request.capture, ())
        applied.measured, moved = self.declared.judge(session, before, applied.tables)
        changes, verdict, rehearsed = self.judged
        applied.diff = {
            "ok": verdict.ok,
            "message": verdict.message,
            "text": changes.text(),
            "changes": changes.as_list(),
        }
        wrong = [(f"{named_check(r)} {r.expected}", f"{r.id} {r.found}") for r in failed_checks(results)]
        wrong += [("data as declared", text) for text in moved]
        applied.locks = held_locks(session)
        rewritten = self._undeclared_rewrites(session, applied)
        # what an undeclared rewrite leaves of an empty table looks like a TRUNCATE
        data = [one for one in applied.data if not (rewritten and one["kind"] == "TRUNCATE")]
        of_data = self._undeclared_data(session, applied, data)
        wrong += [*rewritten, *of_data]
        if not verdict.ok:
            wrong.append((f"diff {self.request.phase['diff']['policy']}", verdict.message))
        if rehearsed and not rehearsed.ok and rehearsed.message != verdict.message:
            wrong.append(("the diff of the rehearsal", rehearsed.message))
        if wrong:
            to_declare = self._data_to_declare(data) if of_data and applied.counted else []
            self.stop(wrong, [*to_declare, *(() if verdict.ok else self._changes_to_permit(verdict))])
        self.content = written_content(session, applied.diff["changes"], applied.tables)

    def stop(self, wrong: Sequence[tuple[str, str]], to_declare: Sequence[str]) -> None:
        """Raise ``Stopped``: each of ``wrong`` is what was expected and what was found; ``to_declare`` are lines for phase.yml."""
        advice = f"the DDL does not produce what its phase declares: correct one of them, then {AS_A_REVISION}"
        raise Stopped(
            "C-07: verification failed inside the transaction; rolled back before COMMIT.",
            expected="; ".join(expected for expected, _found in wrong),
            found="; ".join(found for _expected, found in wrong),
            next_step="\n".join([advice, *to_declare]),
        )

    def _undeclared_rewrites(self, session: Session, applied: MigrationResult) -> list[tuple[str, str]]:
        """Return the expected and the found tables, where another one than the declared was rewritten."""
        declared = self.request.phase["scope"]["rewrites"]
        unexpected = undeclared_rewrites(session, applied, declared, self.request.plan["ddl"]["statements"])
        expected = f"tables that are rewritten (scope.rewrites): {', '.join(declared) or 'none'}"
        return [(expected, f"rewritten: {', '.join(unexpected)}")] if unexpected else []

    def _undeclared_data(
        self, session: Session, applied: MigrationResult, data: Sequence[Mapping[str, Any]]
    ) -> list[tuple[str, str]]:
        """Return what was expected and found of each change of data that is not as declared."""
        if not applied.counted:
            return [("the server counts rows (track_counts is on from BEGIN to COMMIT)", applied.unproved[0])]
        declared = self.request.phase["data"]
        if not judge_data(declared, data):
            return []
        path = self.request.phase["settings"]["search_path"]
        reported = {one["n"]: one["rows"] for one in applied.statements}
        named = named_by_statements(session, self.request.plan["ddl"]["statements"], path, reported)
        return judge_data(declared, data, named)

    def _data_to_declare(self, data: Sequence[Mapping[str, Any]]) -> list[str]:
        key = data_key(self.request.phase["data"], data)
        return [
            "if the change of data is intended, phase.yml declares it so (any instead of a number: not compared):",
            key,
        ]

    def _changes_to_permit(self, verdict: PolicyVerdict) -> list[str]:
        # of a rehearsed plan nobody can change the definition any more
        key = "" if "rehearsal" in self.request.plan else allow_key(self.request.phase["diff"], verdict.offending)
        return ["if these changes are intended, phase.yml permits them so:", key] if key else []

    def after_commit(self, session: Session, applied: MigrationResult) -> None:
        """Record what a rollback would lose of the data that is there now."""
        changes = applied.diff["changes"]
        try:
            baseline = data_baseline(session, changes, self.content, applied.tables)
        except ConnectionLost:
            # the answer to COMMIT was lost with this session, and the outcome was looked up in another
            with self.client.session("phasegate:baseline") as another:
                baseline = data_baseline(another, changes, self.content, applied.tables)
        self.step.update(baseline=baseline)


def migration_script(request: MigrationRequest) -> Script:
    """Return the phase's DDL as a script."""
    return Script(
        command="C-07",
        data=request.ddl,
        statements=request.plan["ddl"]["statements"],
        rows=request.phase["expect"]["rows"],
        result=request.phase["expect"].get("result"),
        settings=request.phase["settings"],
        rewrites=request.phase["scope"]["rewrites"],
        functions=request.phase["scope"]["functions"],
        batches=request.phase.get("batches", {}),
    )


def _check_bytes(request: MigrationRequest) -> None:
    """Raise ``PhaseGateError`` unless the plan's statements are those of the bytes about to run, as far as a lexer sees."""
    ddl = request.plan["ddl"]
    check_cover(ddl["statements"], request.ddl, ddl["sha256"], ddl["file"], request.ddl_sha256)
    check_statements(ddl["statements"], request.ddl, ddl["file"])
    for statement in ddl["statements"]:
        if statement.get("batch"):
            planned_batches(statement, request.ddl, ddl["file"])


def run_migration(client: Client, request: MigrationRequest, step: Step[Migrated]) -> MigrationResult:
    """Run C-07. Returns when all of it is done; raises ``PhaseGateError`` otherwise, ``step.end.outcome`` set.

    ``step.end`` receives ``gates``, ``transaction`` and the rest for the journal, complete also on failure.
    """
    _check_bytes(request)
    step.update(outcome=TransactionOutcome.NOT_STARTED, gates=[])
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        base = take_snapshot(session, sections=sections_for_plan(request.plan))
        # what the in-transaction diff needs of it is computed here, not while locks are held
        base.rows()
        gates = early_gates(session, client, request, base)
        step.update(gates=[gate.as_dict() for gate in gates])
        stop_at_gates(gates)
        require_recorded_schema(base, request)
        words = rehearsed_words(session, request, base)
        if words:
            write_words(request.artefacts, words)
        checks = MigrationChecks(client, request, step, base, words)
        applied = run_script(session, client, migration_script(request), checks, base, step, request.lock_attempts)
        _require_rehearsed(session, request)
        return applied


def finish_migration(client: Client, request: MigrationRequest, step: Step[Migrated]) -> MigrationResult:
    """Run what an earlier C-07 of this run left after its COMMIT. Raises ``PhaseGateError`` as ``run_migration`` does."""
    _check_bytes(request)
    entries = request.artefacts.journal.entries()
    earlier = newest_end(entries, Migrated)
    # a killed run recorded only the id of its transaction
    begun = records_of(entries, TransactionBegun, Migrated.step)[-1]
    applied = MigrationResult(**(earlier.transaction or {"xid": begun.xid, "pid": begun.pid}))
    step.end = replace(
        earlier, reason=None, outcome=TransactionOutcome.COMMITTED, gates=[], transaction=asdict(applied)
    )
    before = Snapshot.load(request.artefacts.file("schema/before.jsonl.gz"))
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        # the age of the backup was checked when the migration began
        continued = replace(request, continued=True)
        gates = [gate for gate in early_gates(session, client, continued, before) if gate.id != "G-2"]
        step.update(gates=[gate.as_dict() for gate in gates])
        stop_at_gates(gates)
        finish_script(session, client, migration_script(request), applied, step)
        _require_rehearsed(session, request)
        return applied


def _require_rehearsed(session: Session, request: MigrationRequest) -> None:
    """Compare the complete result with the rehearsal; without statements after COMMIT this was done before COMMIT."""
    if "rehearsal" not in request.plan or not any(one["after_commit"] for one in request.plan["ddl"]["statements"]):
        return
    before = Snapshot.load(request.artefacts.file("schema/before.jsonl.gz"))
    after = take_snapshot(session, sections=before.header.sections)
    moments = comparable(before, after, declared_parents(request.phase))
    changes = diff(*moments, read_words(request.artefacts))
    _changes, verdict = judge_changes(changes, rehearsed_policy(request.plan), Reprinter(session, inside=False))
    if not verdict.ok:
        raise Stopped(
            "C-07: the schema differs from the rehearsed one; the phase is COMMITTED.",
            expected="the diff of the rehearsal",
            found=verdict.message,
            next_step="find out what else changed the schema; decide whether to roll the phase back",
        )
