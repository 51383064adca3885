# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs of a phase on a target: opening one, and the outcome of the earlier ones."""

from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, Type, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    DONE,
    EXECUTE,
    REHEARSAL,
    OutcomeResolved,
    RunOpened,
    StatementFailed,
    Transacted,
    TransactionBegun,
    Verified,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    continued_runs,
    journaled_outcome,
    newest_end,
    opening_of,
    records_of,
    statements_left,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import evidence_incomplete
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    file_error,
    read_found,
    read_json,
    sha256_bytes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.commit_resolution import resolve_transaction
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity, read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.role_copy import read_access
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import server_facts
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run

T = TypeVar("T", bound=Transacted)


def committed_outcome(client: Client, artefacts: RunDirectory, kind: Type[T]) -> T | None:
    """Return what a command recorded in this run when it committed, else None.

    One that never reported is resolved on the server first. Raises ``PhaseGateError`` when that is impossible.
    """
    entries = artefacts.journal.entries()
    if resolved_outcome(client, artefacts, entries, kind.step) != TransactionOutcome.COMMITTED:
        return None
    ends = (kind.from_entry(entry) for entry in entries if (entry.step, entry.event) == (kind.step, DONE))
    return next(
        (end for end in ends if end.outcome == TransactionOutcome.COMMITTED), kind(outcome=TransactionOutcome.COMMITTED)
    )


def is_incomplete(artefacts: RunDirectory) -> bool:
    """Return whether a run that committed has statements after COMMIT that are not done."""
    plan = read_json(artefacts.file("plan.json"))
    return bool(statements_left(plan["ddl"]["statements"], artefacts.journal.entries(), COMMAND[EXECUTE]))


def runs_below(root: str, prefix: str) -> Iterator[RunDirectory]:
    """Yield the runs whose directory's name begins with ``prefix``, the newest first."""
    names = sorted(os.listdir(root), reverse=True) if os.path.isdir(root) else []
    for name in names:
        artefacts = RunDirectory(os.path.join(root, name))
        if name.startswith(prefix) and artefacts.has_run:
            yield artefacts


def ran_on(start: RunOpened | None, identity: Identity) -> bool:
    """Return whether a run, by its opening, was on this database."""
    there = start.identity if start else {}
    return (there.get("system_identifier"), there.get("database")) == (identity.system_identifier, identity.database)


def resolved_outcome(client: Client, artefacts: RunDirectory, entries: list[Entry], command: str) -> str:
    """Return how a run's command ended; one that never reported is resolved on the server and the answer journaled.

    Raises ``PhaseGateError`` when that is impossible.
    """
    outcome = journaled_outcome(entries, command)
    if outcome is not None:
        return outcome
    xid = records_of(entries, TransactionBegun, command)[-1].xid
    outcome = resolve_transaction(client, xid)
    if outcome == TransactionOutcome.UNKNOWN:
        raise PhaseGateError(
            "An earlier run of this phase has an unknown outcome (T-1).",
            expected=f"pg_xact_status of transaction {xid} reports committed or aborted",
            found="the server cannot be queried, or no longer has the record",
            next_step=f"find out by hand whether {artefacts.path} committed before you run anything else",
        )
    if not artefacts.sealed:
        resolved = OutcomeResolved(outcome, xid)
        artefacts.journal.append(command, resolved.event, resolved.to_entry())
    return outcome


def find_applied(
    client: Client, root: str, environment: str, plan: Mapping[str, Any], identity: Identity
) -> RunDirectory | None:
    """Return the newest run that committed this plan's DDL on this database and was not rolled back since, or None."""
    undone: set[str] = set()
    # newest first; "rollback" sorts after every time stamp, so rollbacks come before the executions that they undid
    for artefacts in runs_below(root, f"{plan['phase']['phase']}_{environment}_"):
        entries = artefacts.journal.entries()
        start = opening_of(entries)
        if start is None or not ran_on(start, identity) or start.kind == REHEARSAL:
            continue
        kind = start.kind
        if kind == EXECUTE and start.ddl_sha256 != plan["ddl"]["sha256"]:
            continue
        # a rollback of one undoes all
        same = {name_of(artefacts), *continued_runs(entries)}
        if kind == EXECUTE and same & undone:
            undone |= same
            continue
        if resolved_outcome(client, artefacts, entries, COMMAND[kind]) != TransactionOutcome.COMMITTED:
            continue
        if kind == EXECUTE:
            return artefacts
        undone.add(start.execution or "")
    return None


def close_broken(root: str, environment: str, plan: Mapping[str, Any], identity: Identity) -> list[str]:
    """Seal the interrupted earlier runs of this phase on this database, and return their names.

    The caller holds the run's lock: no other run is active on this database. A run that committed is left for adoption.
    """
    names = []
    for artefacts in runs_below(root, f"{plan['phase']['phase']}_{environment}_"):
        if artefacts.sealed or artefacts.working:
            continue
        entries = artefacts.journal.entries()
        start = opening_of(entries)
        command = COMMAND.get(start.kind) if start else None
        if (
            ran_on(start, identity)
            and command
            and journaled_outcome(entries, command) not in (TransactionOutcome.COMMITTED, None)
        ):
            seal_run(artefacts, str(_broken_off(entries[-1])))
            names.append(name_of(artefacts))
    return names


def _broken_off(last: Entry) -> PhaseGateError:
    return PhaseGateError(
        "The run was interrupted: nothing followed its last step, and its lock was released.",
        expected="every step up to the seal",
        found=f"{last.step} {last.event} at {last.at} as the last line of the journal",
        next_step="find out what ended the controller; the next run, which sealed this one, starts from the beginning",
    )


def fetch_identity(client: Client) -> Identity:
    """Query the identity of the server."""
    with client.session("phasegate:open") as session:
        return read_identity(session, client)


def source_facts(session: Session) -> dict[str, Any]:
    """Return what a rehearsal's copy needs of the source: ``roles`` by name, PostgreSQL's own left out, ``access``, ``server``."""
    roles = [row[0] for row in session.rows("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")]
    return {"roles": roles, "access": read_access(session), "server": server_facts(session)}


def unfinished(artefacts: RunDirectory) -> PhaseGateError | None:
    """Return why a run cannot be sealed yet, or None: its outcome is unknown, or it was not verified after COMMIT.

    The next run adopts it: it resolves the outcome, verifies, and seals. In a sealed directory it could do neither.
    """
    entries = artefacts.journal.entries()
    start = opening_of(entries)
    command = COMMAND.get(start.kind) if start else None
    if artefacts.sealed or command != COMMAND[EXECUTE]:
        return None
    outcome = journaled_outcome(entries, command)
    judged = newest_end(entries, Verified).checks is not None
    # a statement after COMMIT that failed was reported; the next run continues in a copy
    judged = judged or bool(records_of(entries, StatementFailed) and is_incomplete(artefacts))
    if outcome not in (TransactionOutcome.COMMITTED, None) or (outcome == TransactionOutcome.COMMITTED and judged):
        return None
    return PhaseGateError(
        f"{command} {'is COMMITTED, but was not verified' if outcome else 'has an UNKNOWN outcome (T-1)'}.",
        expected="C-08 in the same run",
        found=f"{artefacts.path} without it; left without a seal",
        next_step="run the same command again: it resolves the outcome, executes nothing twice, verifies, and seals",
    )


def not_sealed(path: str | None, error: OSError, known: Mapping[str, str | None] | None = None) -> PhaseGateError:
    """Return the error for a run that could not be sealed; ``path`` is None when it has no directory.

    ``known`` are the outcomes by command that the caller saw itself: the journal of a full disk may lack them.
    A change in the database must be reported even where it cannot be recorded (T-8).
    """
    entries = RunDirectory(path).journal.entries() if path else []
    outcomes: dict[str, str | None] = {command: journaled_outcome(entries, command) for command in COMMAND.values()}
    outcomes.update({command: outcome for command, outcome in (known or {}).items() if outcome is not None})
    told = [
        f"{command} is COMMITTED"
        if outcome == TransactionOutcome.COMMITTED
        else f"the journal does not record how {command} ended"
        for command, outcome in outcomes.items()
        if outcome in (TransactionOutcome.COMMITTED, TransactionOutcome.UNKNOWN, None)
    ]
    return evidence_incomplete(", ".join(told), error, f"{path} without a seal: ") if told else file_error(error)


def require_confirmation(execution: RunDirectory, confirm: str) -> None:
    """Raise ``PhaseGateError`` unless the operator typed the name of the execution to undo."""
    name = name_of(execution)
    if confirm != name:
        raise PhaseGateError(
            "C-09: the rollback is not confirmed.",
            expected=f"the name of the execution to undo, typed out: {name}",
            found=repr(confirm),
            next_step=f"read the report of {execution.path}; then run again with -e phasegate_confirm={name}",
        )


def plan_of_execution(execution: RunDirectory, identity: Identity) -> dict[str, Any]:
    """Return the plan of a sealed execution that committed on this database. Raises ``PhaseGateError`` for any other."""
    findings = verify_bundle(execution.path)
    if findings:
        raise PhaseGateError(
            "C-09: the evidence of the execution is not intact.",
            expected=f"a sealed bundle in {execution.path}",
            found="; ".join(findings),
            next_step="use the untouched bundle; copy it back to this host if necessary",
        )
    entries = execution.journal.entries()
    start = opening_of(entries)
    outcome = journaled_outcome(entries, COMMAND[EXECUTE])
    there = start.identity if start else {}
    found = (start and start.kind, outcome, there.get("system_identifier"), there.get("database"))
    expected = (EXECUTE, TransactionOutcome.COMMITTED, identity.system_identifier, identity.database)
    if found != expected:
        raise PhaseGateError(
            "C-09: the bundle does not belong to an execution that committed on this database.",
            expected="kind, outcome, system identifier, database: " + ", ".join(expected),
            found=", ".join(str(fact) for fact in found),
            next_step="give the artefact directory of the execution to undo",
        )
    data = read_found(execution.file("plan.json"))
    opened, found_digest = start.plan_sha256 if start else "", sha256_bytes(data)
    # what the run was opened with is canonical
    if opened != found_digest:
        raise PhaseGateError(
            "C-09: the plan in the bundle is not the one that the execution was opened with.",
            expected=f"the bytes with SHA-256 {opened}",
            found=f"SHA-256 {found_digest} of {execution.file('plan.json')}",
            next_step="give the untouched artefact directory of the execution to undo",
        )
    plan: dict[str, Any] = parse_json(data)
    return plan
