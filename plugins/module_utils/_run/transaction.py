# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a script's statements in one transaction whose outcome is always known.

Order: BEGIN; the checks before; the transaction id to the journal; what is read under locks; the statements; what COMMIT would do later (see
``settling``); the schema that was reached; nothing is written from here on; what data was changed; the declared counts; the
checks before COMMIT; COMMIT. Any failure rolls back. The outcome of a lost COMMIT is looked up with ``pg_xact_status``, never
assumed. Only a lock timeout is tried again, and only because nothing committed.

The statements that cannot run in a transaction, if the script has any, run after it.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from dataclasses import asdict
from typing import Any, Iterator, Mapping, Sequence, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    CommitSent,
    LockTimedOut,
    Transacted,
    TransactionBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import (
    answers_equal,
    is_whole,
    shape_answer,
    shown_answer,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import DataBaseline, opened_by
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import utc_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import (
    count_range,
    counts_of,
    total_of,
    within,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import json_line
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import LOCAL_SETTINGS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import (
    Client,
    restore_settings,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.commit_resolution import resolve_transaction
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import (
    INSUFFICIENT_PRIVILEGE,
    explain_privileges,
    privilege_advice,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import (
    ConnectionLost,
    Session,
    SqlError,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import (
    KEPT_SETTINGS,
    Answer,
    kept_settings,
    run_statements,
    settable,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.after_commit import run_after_commit
from ansible_collections.incomex.phasegate.plugins.module_utils._run.hidden_calls import require_no_hidden_call
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import (
    AS_A_REVISION,
    CORRECT,
    MigrationResult,
    Script,
    TransactionChecks,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.settling import (
    make_read_only,
    settle,
    settle_session,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction_ends import (
    LOCK_NOT_AVAILABLE,
    begin_transaction,
    keep_xid,
    lock_holders,
    look_up,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.waiting import watch_locks
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

T = TypeVar("T", bound=Transacted)


class CommitFailed(Stopped):
    """COMMIT was sent and failed, or its result is unknown: ``outcome`` is which."""

    def __init__(self, script: Script, applied: MigrationResult, outcome: str, reason: str) -> None:
        self.outcome = outcome
        super().__init__(
            f"{script.command}: COMMIT of transaction {applied.xid} did not succeed: {outcome}.",
            expected="COMMIT",
            found=reason,
            next_step=_after_outcome(outcome, applied.xid),
        )


class LockTimeout(Stopped):
    """A lock was not granted in time; nothing committed, so the transaction may be tried again."""


def _no_lock(session: Session, script: Script, where: str, relations: Sequence[str], error: SqlError) -> LockTimeout:
    """Roll back and return the error that names who holds locks on these relations."""
    session.execute("ROLLBACK")
    holders = lock_holders(session, relations)
    return LockTimeout(
        f"{script.command}: {where}: a lock was not granted in time; rolled back.",
        expected=f"the lock within lock_timeout ({script.settings['lock_timeout']})",
        found="held by " + ("; ".join(holders) or f"a session that has ended since ({error.words()})"),
        next_step="wait until the blocking session finishes, or end it: SELECT pg_terminate_backend(<pid>), a prepared transaction"
        " with COMMIT PREPARED or ROLLBACK PREPARED; then run again",
    )


@contextlib.contextmanager
def _preparing(session: Session, script: Script) -> Iterator[None]:
    """Say who holds a lock that is not granted before the first statement, or which privilege is missing."""
    try:
        with explain_privileges(session):
            yield
    except SqlError as error:
        if error.sqlstate == LOCK_NOT_AVAILABLE:
            raise _no_lock(session, script, "before the first statement", _relations(script), error) from error
        raise


def _relations(script: Script) -> list[str]:
    return sorted({name for statement in script.statements for name in statement["relations"]})


def _next_step(session: Session, script: Script, statement: Mapping[str, Any], error: SqlError) -> str:
    """Roll back and return the next step after a failed statement."""
    session.execute("ROLLBACK")
    if error.sqlstate != INSUFFICIENT_PRIVILEGE:
        return CORRECT
    # it is this role that lacks something, and SET LOCAL ended with the transaction
    if script.role:
        session.set("role", script.role)
    found = privilege_advice(session, statement["needs"], error.text, script.settings["search_path"])
    if script.role:
        session.set("role", "none")
    return found


def _named_settings(text: str) -> set[str]:
    """Return which of the kept settings a statement may be about: those that a phase may set and that its text names."""
    words = text.lower()
    return {name for name in KEPT_SETTINGS if name in LOCAL_SETTINGS and name in words}


def _run_statements(
    session: Session,
    script: Script,
    checks: TransactionChecks,
    applied: MigrationResult,
    role: str,
    kept: Mapping[str, str],
) -> None:
    """Run the statements, as many at once as nothing has to be asked in between. ``kept`` are the settings at the beginning."""
    waiting = [one for one in script.statements if one["run"] and not one["after_commit"]]
    texts = {one["n"]: script.data[one["start"] : one["end"]].decode("utf-8") for one in waiting}
    while waiting:
        named = _named_settings(texts[waiting[0]["n"]])
        together = waiting[:1]
        if not checks.observes and not named:
            together = list(itertools.takewhile(lambda one: not _named_settings(texts[one["n"]]), waiting))
        elif not checks.observes and together[0]["tag"] == "SET":
            # nothing of anybody else runs between them
            together = list(itertools.takewhile(lambda one: one["tag"] == "SET", waiting))
            named = set.union(*(_named_settings(texts[one["n"]]) for one in together))
        waiting = waiting[len(together) :]
        at = time.time()
        answers = run_statements(
            session,
            [(texts[one["n"]], one["returns_rows"]) for one in together],
            script.settings["search_path"],
            role=role,
            kept={name: value for name, value in kept.items() if name not in named},
        )
        first = next((answer.begun for answer in answers if isinstance(answer, Answer)), 0.0)
        for statement, answer in zip(together, answers):
            if isinstance(answer, SqlError):
                raise _failed(session, script, statement, answer) from answer
            applied.statements.append(
                {
                    "n": statement["n"],
                    "tag": statement["tag"],
                    "line": statement["line"],
                    "rows": answer.rows,
                    "milliseconds": round(answer.milliseconds, 3),
                    # the server's clock tells how long after the first one
                    "at": utc_time(at + answer.begun - first),
                }
            )
            if statement["returns_rows"]:
                applied.result = answer.result
        if named:
            # of what a trigger has changed besides, nothing is adopted
            now = kept_settings(session)
            kept = {**kept, **{name: now[name] for name in named}}
        if checks.observes:
            checks.after_statement(session, together[0])


def _failed(session: Session, script: Script, statement: Mapping[str, Any], error: SqlError) -> Stopped:
    """Roll back and return the error of a statement."""
    where = f"statement {statement['n']} ({statement['tag']}, line {statement['line']})"
    if error.sqlstate == LOCK_NOT_AVAILABLE:
        return _no_lock(session, script, where, statement["relations"], error)
    return Stopped(
        f"{script.command}: {where} failed; rolled back.",
        expected="every statement succeeds",
        found=error.words(),
        next_step=_next_step(session, script, statement, error),
    )


def trailing_answer(script: Script, applied: MigrationResult) -> Answer:
    """Return the answer of the last statement that returned rows: of many rows, or large ones, only the first are kept."""
    queries = {one["n"] for one in script.statements if one["returns_rows"]}
    rows = next((one["rows"] for one in reversed(applied.statements) if one["n"] in queries), 0)
    return Answer(rows=rows, result=applied.result or [])


def count_differences(script: Script, applied: MigrationResult) -> list[tuple[str, str]]:
    """Return what is expected and what was found, where a row count or the trailing SELECT differs from what the phase declares."""
    wrong: list[tuple[str, str]] = []
    for tag, declared in sorted(script.rows.items()):
        found = [statement for statement in applied.statements if statement["tag"] == tag]
        # the last ones run in batches, after COMMIT
        later = sum(one["tag"] == tag and bool(one["after_commit"]) for one in script.statements)
        counts = counts_of(declared, len(found) + later)
        counts = counts[: len(counts) - later]
        for wanted, statement in zip(counts, found):
            if not within(wanted, statement["rows"]):
                where = f"{tag} of line {statement['line']}"
                wrong.append((f"{where}: {count_range(wanted)} rows", f"{where}: {statement['rows']} rows"))
        total, rows = total_of(declared), sum(statement["rows"] or 0 for statement in found)
        if total is not None and not within(total, rows):
            wrong.append((f"all {tag} together: {count_range(total)} rows", f"all {tag} together: {rows} rows"))
        if len(found) != len(counts):
            wrong.append((f"{len(counts)} x {tag}", f"{len(found)} x {tag}"))
    if script.result is not None:
        answer = trailing_answer(script, applied)
        result = shape_answer(answer, script.result)
        if not is_whole(answer) or not answers_equal(script.result, result):
            shown = shown_answer(answer, result)
            wrong.append((f"trailing SELECT {json_line(script.result)}", f"trailing SELECT {shown}"))
    return wrong


def _check_counts(script: Script, applied: MigrationResult) -> None:
    """Compare row counts and the trailing SELECT with what the phase declares."""
    wrong = count_differences(script, applied)
    if wrong:
        raise Stopped(
            f"{script.command}: a count or result differs from the declared one; rolled back before COMMIT.",
            expected="; ".join(expected for expected, _found in wrong),
            found="; ".join(found for _expected, found in wrong),
            next_step=f"the DDL differs from what its phase declares: correct one of them, then {AS_A_REVISION}",
        )


def _after_outcome(outcome: str, xid: str) -> str:
    if outcome == TransactionOutcome.UNKNOWN:
        return f"T-1: query the server: SELECT pg_xact_status('{xid}'); do not run the phase again before the outcome is known"
    return "nothing persists; find the reason in the server's log, then run again"


def _commit(session: Session, client: Client, script: Script, applied: MigrationResult, step: Step[T]) -> None:
    """COMMIT, with the intent on disk before and the outcome looked up after a lost answer."""
    step.note(CommitSent(applied.xid))
    try:
        session.execute("COMMIT")
        # what the script has set for the session begins with COMMIT
        restore_settings(session)
    except SqlError as error:
        # no proof of a rollback: a server that ends a session which waits for a standby reports an error, too
        outcome, reason = resolve_transaction(client, applied.xid), error.words()
    except ConnectionLost as lost:
        outcome, reason = resolve_transaction(client, applied.xid), lost.found
    else:
        outcome, reason = look_up(session, client, applied.xid)
    if outcome != TransactionOutcome.COMMITTED:
        raise CommitFailed(script, applied, outcome, reason)


def _attempt(
    session: Session, client: Client, script: Script, checks: TransactionChecks, step: Step[T], applied: MigrationResult
) -> None:
    """One transaction from BEGIN to COMMIT."""
    beginning = begin_transaction(session, script.settings)
    # before anything of the database's owners runs: these are what holds between the statements
    kept = kept_settings(session)
    with _preparing(session, script):
        # first of all: what the collection writes itself is no change of the phase, and is not counted as one
        checks.begun(session, applied)
        baseline = DataBaseline.read(session, script.rewrites)
        require_no_hidden_call(session, script)
        checks.before(session, applied)
    xid, pid = session.rows("SELECT pg_current_xact_id()::text, pg_backend_pid()::text")[0]
    applied.xid, applied.pid = xid or "", int(pid or 0)
    with client.session("phasegate:mark") as another:
        keep_xid(another)
    # the gates too: when this process dies, the journal is all that a later run can report from
    step.note(TransactionBegun(applied.xid, applied.pid, step.end.gates or ()))
    with _preparing(session, script):
        checks.before_statements(session, applied)
    if script.role:
        session.set("role", script.role, local=True)
    role, kept = script.role or beginning.role, settable(session, kept)
    _run_statements(session, script, checks, applied, role, kept)
    settle(session, script.command, role)
    with explain_privileges(session):
        checks.before_read_only(session, applied)
    make_read_only(session, script.command, beginning)
    applied.observe(baseline.observe(session, opened_by(script.statements, script.settings["search_path"])))
    _check_counts(script, applied)
    with explain_privileges(session):
        checks.before_commit(session, applied)
    settle_session(session, beginning)
    _commit(session, client, script, applied, step)


def run_script(
    session: Session,
    client: Client,
    script: Script,
    checks: TransactionChecks,
    base: Snapshot,
    step: Step[T],
    attempts: int = 1,
) -> MigrationResult:
    """Run the script to a proven COMMIT, then what of it refuses a transaction, and return what happened.

    ``base`` is the schema before; ``attempts`` the maximum number of attempts when a lock is not granted in time.
    ``step.end`` receives ``outcome`` and ``transaction`` in every case, and after a rollback whether the schema is
    ``unchanged``. Raises ``PhaseGateError`` unless all of the script is done; the outcome is COMMITTED from COMMIT on.
    """
    applied = _transact(session, client, script, checks, base, step, attempts)
    checks.after_commit(session, applied)
    finish_script(session, client, script, applied, step)
    return applied


def _transact(
    session: Session,
    client: Client,
    script: Script,
    checks: TransactionChecks,
    base: Snapshot,
    step: Step[T],
    attempts: int,
) -> MigrationResult:
    attempt = 0
    while True:
        attempt += 1
        applied = MigrationResult(attempts=attempt)
        try:
            pid = int(session.value("SELECT pg_catalog.pg_backend_pid()") or 0)
            with watch_locks(client, step, pid, script.settings["lock_timeout"]):
                _attempt(session, client, script, checks, step, applied)
        except LockTimeout as timeout:
            step.note(LockTimedOut(attempt, timeout.found))
            if attempt >= attempts:
                _leave(session, client, base, step, applied)
                raise
        except ConnectionLost as lost:
            _leave(session, client, base, step, applied)
            raise _connection_lost(script, lost, applied, step.end.outcome or TransactionOutcome.UNKNOWN) from lost
        except CommitFailed as error:
            step.update(outcome=error.outcome)
            with contextlib.suppress(PhaseGateError):
                _compare(session, base, step)
            raise
        except PhaseGateError:
            _leave(session, client, base, step, applied)
            raise
        except Exception:
            # a defect of phasegate: the end of the session ends the transaction, and the server reports how
            session.close()
            step.update(
                outcome=resolve_transaction(client, applied.xid) if applied.xid else TransactionOutcome.ROLLED_BACK
            )
            raise
        else:
            step.update(outcome=TransactionOutcome.COMMITTED)
            return applied
        finally:
            step.update(transaction=asdict(applied))
        time.sleep(random.uniform(0.5, 1.0) * 2 ** (attempt - 1))


def finish_script(session: Session, client: Client, script: Script, applied: MigrationResult, step: Step[T]) -> None:
    """Run the remaining statements after COMMIT; ``applied`` and the journal receive it, complete or not.

    Raises ``PhaseGateError`` at the first statement that does not complete; the outcome stays COMMITTED.
    """
    try:
        run_after_commit(session, client, script, applied, step)
    finally:
        step.update(transaction=asdict(applied))


def _connection_lost(script: Script, error: ConnectionLost, applied: MigrationResult, outcome: str) -> Stopped:
    return Stopped(
        f"{script.command}: the connection was lost before COMMIT was sent: {outcome}.",
        expected=error.expected,
        found=error.found + (f"; transaction {applied.xid}" if applied.xid else "; no transaction was open"),
        next_step=_after_outcome(outcome, applied.xid),
    )


def _leave(session: Session, client: Client, base: Snapshot, step: Step[T], applied: MigrationResult) -> None:
    """After a stop: determine how the transaction ended and whether the schema is as before."""
    try:
        session.execute("ROLLBACK")
        step.update(outcome=TransactionOutcome.ROLLED_BACK)
        _compare(session, base, step)
    except ConnectionLost:
        step.update(outcome=resolve_transaction(client, applied.xid) if applied.xid else TransactionOutcome.ROLLED_BACK)


def _compare(session: Session, base: Snapshot, step: Step[T]) -> None:
    """Record whether the schema is as before."""
    after = take_snapshot(session, sections=base.header.sections)
    step.update(unchanged=after.fingerprint == base.fingerprint, fingerprint=after.fingerprint)
