# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One earlier run: its outcome, its plan, and whether it can be sealed."""

from __future__ import annotations

import os
from typing import Any, Mapping, Sequence, Type, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    DONE,
    EXECUTE,
    OutcomeResolved,
    StatementFailed,
    Transacted,
    TransactionBegun,
    Verified,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    journaled_outcome,
    newest_end,
    opening_of,
    records_of,
    statements_left,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import evidence_incomplete
from ansible_collections.incomex.phasegate.plugins.module_utils._common.commands import quoted_extra_var
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
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    Identity,
    changes_of_identity,
    is_recorded_database,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.role_copy import read_access
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import server_facts

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


class UnknownOutcome(PhaseGateError):
    """Nothing tells how the transaction of an earlier run ended (T-1)."""


def resolved_outcome(
    client: Client, artefacts: RunDirectory, entries: Sequence[Entry], command: str, *, keep: bool = True
) -> str:
    """Return how a run's command ended; one that never reported is resolved on the server, and the answer journaled with ``keep``.

    Raises ``UnknownOutcome`` when that is impossible.
    """
    outcome = journaled_outcome(entries, command)
    if outcome is not None:
        return outcome
    xid = records_of(entries, TransactionBegun, command)[-1].xid
    outcome = resolve_transaction(client, xid)
    if outcome == TransactionOutcome.UNKNOWN:
        raise UnknownOutcome(
            "An earlier run of this phase has an unknown outcome (T-1).",
            expected=f"pg_xact_status of transaction {xid} reports committed or aborted",
            found="the server cannot be queried, or no longer has the record",
            next_step=f"find out by hand whether {artefacts.path} committed before you run anything else;"
            " if it did not, move this directory elsewhere",
        )
    if keep and not artefacts.sealed:
        resolved = OutcomeResolved(outcome, xid)
        artefacts.journal.append(command, resolved.event, resolved.to_entry())
    return outcome


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
            next_step=f"read the report of {execution.path}; then run again with {quoted_extra_var('phasegate_confirm', name)}",
        )


def require_below(execution: RunDirectory, root: str) -> None:
    """Raise ``PhaseGateError`` unless an execution is directly below the root whose runs say what undid it."""
    there = os.path.dirname(os.path.realpath(execution.path))
    if there != os.path.realpath(root):
        raise PhaseGateError(
            "C-09: the execution is not below phasegate_root, so the runs there do not tell whether it may be undone.",
            expected=f"a directory directly below {root}",
            found=f"{os.path.realpath(execution.path)}",
            next_step=f"run again with {quoted_extra_var('phasegate_root', there)}, or copy the bundle back to where it was",
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
        since = changes_of_identity(there, identity) if is_recorded_database(there, identity) else []
        raise PhaseGateError(
            "C-09: the bundle does not belong to an execution that committed on this database.",
            expected="kind, outcome, system identifier, database: " + ", ".join(expected),
            found="; ".join([", ".join(str(fact) for fact in found), *since]),
            next_step="give the database its former name for the rollback: ALTER DATABASE … RENAME TO …"
            if since
            else "give the artefact directory of the execution to undo",
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
