# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An UPDATE or DELETE after COMMIT, in batches that each commit: every row once, whatever interrupts it.

A batch is the rows of the next keys. The journal has its transaction id and its last key before its COMMIT is sent, so after any
interruption the server tells whether it is done (``pg_xact_status``), and the next one begins behind it. Each is judged before it
commits, as the phase's own transaction is: what it changed, and that a row that is done matches the WHERE no more.
"""

from __future__ import annotations

import random
import time
from typing import Any, Mapping, Sequence, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.batch_events import (
    BatchBegun,
    BatchPaused,
    BatchResolved,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    ConditionsEvaluated,
    LockTimedOut,
    Progress,
    StatementBegun,
    StatementDone,
    StatementFailed,
    Transacted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import batches_of, records_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import DataBaseline
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import (
    ConditionStatus,
    TransactionOutcome,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.batch_form import planned_batches
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client, restore_settings
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.commit_resolution import resolve_transaction
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import (
    INSUFFICIENT_PRIVILEGE,
    privilege_advice,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import (
    ConnectionLost,
    Session,
    SqlError,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import (
    kept_settings,
    run_queries,
    run_statement,
    settable,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.evaluation import (
    LIMITS,
    late_replicas,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.facts import read_standbys
from ansible_collections.incomex.phasegate.plugins.module_utils._run.batch_judgement import (
    BatchJudge,
    require_key,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.hidden_calls import require_no_later_call
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import Script
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
from ansible_collections.incomex.phasegate.plugins.module_utils._run.waiting import seconds_of, watch_locks

T = TypeVar("T", bound=Transacted)

# Nothing has committed, and the same may succeed a moment later.
_AGAIN = frozenset({LOCK_NOT_AVAILABLE, "40P01"})

# How often the table is passed over while others keep writing rows that match.
TURNS = 5

# The longest pause between two attempts at a lock, in seconds.
_LONGEST_PAUSE = 30.0

# Seconds between two looks at replicas that are behind.
_REPLICA_SECONDS = 0.5

# Seconds between two notes of how far it is.
_PROGRESS_SECONDS = 2.0

_CONTINUE = "run the same command again: it goes on behind the last batch that committed; or roll the phase back"


def run_batches(
    session: Session, client: Client, script: Script, statement: Mapping[str, Any], step: Step[T]
) -> StatementDone:
    """Run a statement in batches until nothing is left, and return what it did, of all runs that were interrupted too.

    Raises ``Stopped`` at the first batch that cannot commit; those before it are COMMITTED.
    """
    # what makes a batch's transaction id durable must not be in the batch
    with client.session("phasegate:mark") as another:
        batches = _Batches(session, another, client, script, statement, step)
        step.note(StatementBegun(statement["n"], statement["tag"], statement["line"], statement["after_commit"]))
        try:
            batches.resume()
            return batches.run()
        except Stopped as stopped:
            step.note(StatementFailed(statement["n"], stopped.found or stopped.what, ""))
            raise


def _replica_limits(entries: Sequence[Entry]) -> Mapping[str, int] | None:
    """Return the limits that the run was opened with; None where its operator ignores replicas."""
    found = records_of(entries, ConditionsEvaluated)[-1:]
    statuses = {one["id"]: one["status"] for record in found for one in record.conditions}
    if statuses.get("replica_lag") == ConditionStatus.IGNORED.value:
        return None
    return next((record.limits for record in found if record.limits), LIMITS)


class _Batches:
    """The batches of one statement, and how far they are."""

    def __init__(
        self,
        session: Session,
        another: Session,
        client: Client,
        script: Script,
        statement: Mapping[str, Any],
        step: Step[T],
    ) -> None:
        self.session = session
        self.another = another
        self.client = client
        self.script = script
        self.statement = statement
        self.step = step
        self.batch = statement["batch"]
        self.sql = planned_batches(statement, script.data, "the SQL")
        self.path = script.settings["search_path"]
        self.judge = BatchJudge(script, statement, require_key(session, script.command, statement))
        #: the last batch that has committed
        self.last = BatchBegun(n=statement["n"])
        self.total = 0
        self.told = self.started = time.monotonic()
        self.began_with = 0
        self.limits: Mapping[str, int] | None = LIMITS

    @property
    def where(self) -> str:
        """Return which batch it is, for messages."""
        one = self.statement
        return f"{self.script.command}: batch {self.last.number + 1} of statement {one['n']} ({one['tag']}, line {one['line']})"

    def resume(self) -> None:
        """Find the last batch that has committed; one that had not reported is resolved on the server."""
        entries = self.step.artefacts.journal.entries() if self.step.artefacts else []
        known = batches_of(entries, self.step.name, self.statement["n"])
        self.limits = _replica_limits(entries)
        if not known:
            return
        newest = known[-1]
        outcome = resolve_transaction(self.client, newest.xid)
        self.step.note(BatchResolved(newest.n, newest.number, outcome, newest.xid))
        if outcome == TransactionOutcome.UNKNOWN and not self.batch["leaves"]:
            raise self._unknown(newest)
        if outcome != TransactionOutcome.COMMITTED:
            # also where nobody knows, if a row that is done matches no more
            known.pop()
        for one in known:
            self.judge.count(one)
        self.last = known[-1] if known else self.last

    def run(self) -> StatementDone:
        """Run what is left."""
        self.started = time.monotonic()
        end, done = self.last.end, self.last.done + self.last.rows
        if not self.batch["leaves"] and end is None:
            end = self._value(
                f"SELECT {self.sql.key}::text AS value FROM {self.sql.source} ORDER BY {self.sql.key} DESC LIMIT 1"
            )
        self.total = done + self._left(end)
        self.began_with = done
        low, turn, moved = self.last.high if self.last.number else None, self.last.turn, 0
        while True:
            high = self._high(low, end)
            if high is not None:
                moved += self._batch(BatchBegun(low=low, high=high, end=end, turn=turn)).rows
                low = high
            elif not self.batch["leaves"] or not self._left(None):
                break
            elif not moved or turn == TURNS:
                raise self._rest(turn)
            else:
                # rows that were written behind the last key
                low, turn, moved = None, turn + 1, 0
        rows = self.last.done + self.last.rows
        self.judge.require_complete(rows)
        milliseconds = 1000 * (time.monotonic() - self.started)
        one = self.statement
        return StatementDone(one["n"], one["tag"], one["line"], rows, round(milliseconds, 3))

    def _value(self, query: str) -> Any:
        """Return the only value of an author's query; None for no row. Raises ``Stopped``."""
        self.session.execute("BEGIN")
        try:
            require_no_later_call(self.session, self.script, self.statement)
            self.session.set("statement_timeout", self.script.settings["after_commit_timeout"], local=True)
            if self.script.role:
                self.session.set("role", self.script.role, local=True)
            (answer,) = run_queries(self.session, [query], self.path)
        finally:
            self.session.execute("ROLLBACK")
        if answer.error:
            raise Stopped(
                f"{self.where}: its rows could not be read; the batches before it are COMMITTED.",
                expected="a query without error",
                found=answer.error,
                next_step=f"resolve the error; then {_CONTINUE}",
            )
        return next((row["value"] for row in answer.result), None)

    def _left(self, end: str | None) -> int:
        """Return how many rows match from the last key on, or all that match where a row that is done does not."""
        low = None if self.batch["leaves"] or not self.last.number else self.last.high
        return int(self._value(f"SELECT count(*) AS value FROM {self._range(self.sql.source, low, end)}"))

    def _high(self, low: str | None, end: str | None) -> str | None:
        """Return the last key of the next batch, as text; None when no row is left behind ``low``."""
        key = self.sql.key
        source = self._range(self.sql.source, low, end)
        found: str | None = self._value(
            f"SELECT b.k::text AS value FROM (SELECT {key} AS k FROM {source} ORDER BY {key} LIMIT {int(self.batch['rows'])}) b"
            " ORDER BY b.k DESC LIMIT 1"
        )
        return found

    def _range(self, text: str, low: str | None, high: str | None) -> str:
        ends = (None if end is None else literal(end) for end in (low, high))
        return self.sql.ranged(text, *ends)

    def _batch(self, planned: BatchBegun) -> BatchBegun:
        """Run a batch to its COMMIT, trying again while a lock is not granted, and return what it did."""
        attempt, began = 0, time.monotonic()
        limit = seconds_of(self.script.settings["after_commit_timeout"])
        self._wait_for_replicas(began + limit)
        while True:
            attempt += 1
            try:
                with watch_locks(self.client, self.step, self._pid(), self.script.settings["lock_timeout"]):
                    return self._attempt(planned)
            except SqlError as error:
                self.session.execute("ROLLBACK")
                if error.sqlstate not in _AGAIN or time.monotonic() - began >= limit:
                    raise self._failed(error) from error
                holders = "; ".join(lock_holders(self.session, [self.statement["after_commit"]]))
                self.step.note(LockTimedOut(attempt, f"held by {holders}" if holders else error.words()))
            except ConnectionLost as lost:
                raise Stopped(
                    f"{self.where}: the connection was lost before its COMMIT was sent; the batches before it are COMMITTED.",
                    expected=lost.expected,
                    found=lost.found,
                    next_step=_CONTINUE,
                ) from lost
            except Stopped:
                # already after COMMIT, nothing is open any more
                self.session.execute("ROLLBACK")
                raise
            time.sleep(random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, 2.0 ** (attempt - 1)))

    def _wait_for_replicas(self, deadline: float) -> None:
        """Wait while a replica is further behind than the operator's limits; journaled. Raises ``Stopped`` after the deadline."""
        told = ""
        while self.limits:
            late = "; ".join(late_replicas(read_standbys(self.another), self.limits))
            if not late:
                return
            if not told:
                self.step.note(BatchPaused(self.statement["n"], self.last.number + 1, late))
            told = late
            if time.monotonic() >= deadline:
                raise Stopped(
                    f"{self.where}: a replica is too far behind; the batches before it are COMMITTED.",
                    expected=f"at most {self.limits['replica_lag_bytes']} bytes and {self.limits['replica_lag_s']} s behind, within"
                    f" {self.script.settings['after_commit_timeout']}",
                    found=late,
                    next_step=f"wait until it catches up, or repair it; then {_CONTINUE}",
                )
            time.sleep(_REPLICA_SECONDS)

    def _seconds_left(self, rows: int) -> int | None:
        """Return how long the rest takes at the speed so far; None before anything is known."""
        done = self.last.done + self.last.rows + rows
        moved, seconds = done - self.began_with, time.monotonic() - self.started
        return round(max(0, self.total - done) * seconds / moved) if moved else None

    def _pid(self) -> int:
        return int(self.session.value("SELECT pg_catalog.pg_backend_pid()") or 0)

    def _attempt(self, planned: BatchBegun) -> BatchBegun:
        """Run one transaction from BEGIN to COMMIT."""
        session, script, started = self.session, self.script, time.monotonic()
        beginning = begin_transaction(session, script.settings)
        kept = kept_settings(session)
        require_no_later_call(session, script, self.statement)
        baseline = DataBaseline.read(session)
        xid = session.value("SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text") or ""
        if script.role:
            session.set("role", script.role, local=True)
        role, kept = script.role or beginning.role, settable(session, kept)
        change = self._range(self.sql.change, planned.low, planned.high)
        rows = run_statement(session, change, self.path, returns_rows=False, role=role, kept=kept).rows
        settle(session, self.where, role)
        make_read_only(session, self.where, beginning)
        changes = baseline.observe(session, [self.statement["after_commit"]])
        batch = BatchBegun(
            n=self.statement["n"],
            number=self.last.number + 1,
            turn=planned.turn,
            xid=xid,
            low=planned.low,
            high=planned.high,
            end=planned.end,
            rows=rows,
            done=self.last.done + self.last.rows,
            total=max(self.total, self.last.done + self.last.rows + rows),
            milliseconds=round(1000 * (time.monotonic() - started), 3),
            seconds_left=self._seconds_left(rows),
            data=changes.changes,
        )
        self.judge.require_declared(self.where, batch, changes)
        if self.batch["leaves"] and self.statement["tag"] == "UPDATE":
            self._require_left(planned)
        settle_session(session, beginning)
        keep_xid(self.another)
        self.step.note(batch)
        self._commit(batch)
        self.judge.count(batch)
        self.last = batch
        self._tell()
        return batch

    def _require_left(self, planned: BatchBegun) -> None:
        """Raise ``Stopped`` where a row that the batch has written still matches the WHERE."""
        mine = "xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.xid"
        source = self._range(self.sql.source, planned.low, planned.high)
        (answer,) = run_queries(self.session, [f"SELECT count(*) AS value FROM {source} AND {mine}"], self.path)
        still = answer.error or f"{answer.result[0]['value']} rows"
        if still != "0 rows":
            raise Stopped(
                f"{self.where}: rows that it has changed still match its WHERE; rolled back before COMMIT.",
                expected="0 rows: what is left is known by the WHERE",
                found=still,
                next_step="correct the SET or the WHERE, or write WHERE true if each row is to be changed once, as a new revision",
            )

    def _commit(self, batch: BatchBegun) -> None:
        """COMMIT; the outcome after a lost answer is looked up. Raises ``Stopped`` unless the batch has committed and can go on."""
        try:
            self.session.execute("COMMIT")
            restore_settings(self.session)
        except SqlError as error:
            # no proof of a rollback
            outcome, reason = resolve_transaction(self.client, batch.xid), error.words()
        except ConnectionLost as lost:
            outcome, reason = resolve_transaction(self.client, batch.xid), lost.found
        else:
            outcome, reason = look_up(self.session, self.client, batch.xid)
            if outcome == TransactionOutcome.COMMITTED:
                return
        self.step.note(BatchResolved(batch.n, batch.number, outcome, batch.xid))
        if outcome == TransactionOutcome.UNKNOWN:
            raise self._unknown(batch)
        raise Stopped(
            f"{self.where}: its COMMIT did not report; the batch is {outcome}, those before it are COMMITTED.",
            expected="an answer to COMMIT",
            found=reason,
            next_step=_CONTINUE,
        )

    def _tell(self) -> None:
        """Journal how far it is, now and then."""
        now = time.monotonic()
        if now - self.told >= _PROGRESS_SECONDS:
            self.told = now
            done = self.last.done + self.last.rows
            left = "" if self.last.seconds_left is None else f", about {self.last.seconds_left} s left"
            what = f"batches of {self.statement['after_commit']}{left}"
            self.step.note(Progress(what, "rows", done, self.last.total))

    def _failed(self, error: SqlError) -> Stopped:
        grant = ""
        if error.sqlstate == INSUFFICIENT_PRIVILEGE:
            grant = privilege_advice(self.session, self.statement["needs"], error.text, self.path)
        return Stopped(
            f"{self.where} failed and was rolled back; the batches before it are COMMITTED.",
            expected="every batch succeeds",
            found=error.words(),
            next_step=f"{grant or 'resolve the error'}; then {_CONTINUE}",
        )

    def _unknown(self, batch: BatchBegun) -> Stopped:
        return Stopped(
            f"{self.script.command}: a batch of statement {batch.n} has an unknown outcome (T-1).",
            expected=f"pg_xact_status of transaction {batch.xid} reports committed or aborted",
            found="the server cannot be queried, or no longer has the record",
            next_step=f"query the server: SELECT pg_xact_status('{batch.xid}'); find out by hand whether the rows up to key"
            f" {batch.high} are done before you run anything else; then do the rest by hand, or roll the phase back",
        )

    def _rest(self, turn: int) -> Stopped:
        rows = self._left(None)
        return Stopped(
            f"{self.where}: rows are left after {turn} passes over {self.statement['after_commit']}; the batches are COMMITTED.",
            expected="0 rows match the WHERE",
            found=f"{rows} rows",
            next_step=f"find out who keeps writing such rows, or what keeps them from being changed (a trigger, row security); then {_CONTINUE}",
        )
