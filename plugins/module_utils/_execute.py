# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-07: run a plan's statements in one transaction that commits only what passes verification. Private.

Order: gates; BEGIN; preflight again; the transaction id to the journal; the statements; then, still before
COMMIT, the declared counts, the verification checks and the structural diff. Any miss rolls back. The outcome of
a lost COMMIT is looked up with ``pg_xact_status``, never assumed.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils import _checks, _gates
from ansible_collections.incomex.phasegate.plugins.module_utils._author_sql import (
    Answer,
    run_statement,
    search_path,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup import BackupRecord, unchanged_since
from ansible_collections.incomex.phasegate.plugins.module_utils._builtin_checks import ddl_checksum, target_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._capture import Declared, load
from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, Step, sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import (
    Identity,
    Mismatch,
    mismatches,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._policy import evaluate
from ansible_collections.incomex.phasegate.plugins.module_utils._session import ConnectionLost, Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._snapshot import Snapshot, read_facts, take
from ansible_collections.incomex.phasegate.plugins.module_utils._sql import literal

COMMITTED = "COMMITTED"
ROLLED_BACK = "ROLLED_BACK"
UNKNOWN = "UNKNOWN"

# One lock per database for everything that phasegate runs there: the ASCII of "phas" and "egat" as two integers.
ADVISORY_LOCK = (0x70686173, 0x65676174)
LOCK_NOT_AVAILABLE = "55P03"
# How long the server may take to end a transaction whose connection is gone, in seconds.
RESOLVE_TIMEOUT = 120.0

_HOLDERS = f"""
SELECT format('pid %s, user %s, %s, since %s', a.pid, a.usename, a.application_name,
              date_trunc('second', a.backend_start))
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (a.application_name LIKE 'phasegate:run:%' OR EXISTS (
    SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid = {ADVISORY_LOCK[0]} AND l.objid = {ADVISORY_LOCK[1]}))
"""

_BLOCKERS = """
SELECT DISTINCT format('pid %s, user %s, application %s, %s, transaction open for %s s, query: %s', a.pid, a.usename,
  coalesce(nullif(a.application_name, ''), 'unnamed'), coalesce(a.state, 'state not visible to this role'),
  coalesce(round(extract(epoch FROM clock_timestamp() - a.xact_start))::text, '?'),
  coalesce(left(regexp_replace(a.query, '[[:space:]]+', ' ', 'g'), 120), '?'))
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.granted AND l.pid <> pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT to_regclass(name) FROM unnest({names}::text[]) name)
"""


@dataclass(frozen=True)
class Request:
    """Everything that C-07 needs, gathered by the module from files and parameters.

    ``ddl`` is the buffer that was read once and is hashed and run; ``declared`` the target's identity by the
    inventory; ``max_backup_age`` in seconds; ``lock_attempts`` how often a lock timeout is tried in all.
    """

    plan: Mapping[str, Any]
    ddl: bytes
    artefacts: Artefacts
    declared: Mapping[str, Any]
    max_backup_age: int
    lock_attempts: int

    @property
    def phase(self) -> Mapping[str, Any]:
        """Return the phase definition of the plan."""
        definition: Mapping[str, Any] = self.plan["phase"]
        return definition

    @property
    def ddl_sha256(self) -> str:
        """Return the SHA-256 of the buffer."""
        return hashlib.sha256(self.ddl).hexdigest()


@dataclass
class Applied:
    """What happened inside the transaction. ``statements`` in file order, the file's own BEGIN and COMMIT left out."""

    xid: str = ""
    pid: int = 0
    attempts: int = 1
    statements: list[dict[str, Any]] = field(default_factory=list)
    result: Any = None
    preflight: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)


class Stopped(PhaseGateError):
    """The migration must not go on; raised before COMMIT, so nothing persists."""


class LockTimeout(Stopped):
    """A lock was not granted in time; nothing committed, so the transaction may be tried again."""


def blockers(session: Session, relations: Sequence[str]) -> list[str]:
    """Return who holds locks on these relations (schema-qualified, quoted where needed), one text a session."""
    names = "ARRAY[" + ", ".join(literal(name) for name in relations) + "]"
    return [row[0] or "" for row in session.rows(_BLOCKERS.format(names=names))]


def _recorded(artefacts: Artefacts, step: str, key: str) -> Any:
    """Return ``key`` of the last time that ``step`` was done with it in this run, or None."""
    done = [entry.data for entry in artefacts.journal.entries() if (entry.step, entry.event) == (step, "done")]
    return next((data[key] for data in reversed(done) if key in data), None)


def early_gates(session: Session, client: Client, request: Request) -> list[_gates.Gate]:
    """Judge every gate that does not need the transaction: all but G-6 and, at the end of the run, G-11."""
    plan, artefacts = request.plan, request.artefacts
    lock = session.value(f"SELECT pg_try_advisory_lock({ADVISORY_LOCK[0]}, {ADVISORY_LOCK[1]})") == "t"
    others = [row[0] or "" for row in session.rows(_HOLDERS)]
    now = float(session.value("SELECT extract(epoch FROM clock_timestamp())") or 0)
    identity = read_identity(session, client)
    recorded = _recorded(artefacts, "C-01", "backup")
    backup = BackupRecord(**recorded) if recorded else None
    foreign = []
    if backup and backup.system_identifier != identity.system_identifier:
        foreign = [Mismatch("cluster of the backup", identity.system_identifier, backup.system_identifier)]
    problem = unchanged_since(backup, artefacts.file(backup.file)) if backup else None
    rollback = artefacts.file("sql/" + plan["rollback"]["file"])
    return [
        _gates.approval(),
        _gates.backup_fresh(backup.started_epoch if backup else None, now, request.max_backup_age),
        _gates.digest_matches(plan["ddl"]["sha256"], request.ddl_sha256),
        declared_target(request.declared, identity, foreign),
        _gates.backup_restorable(problem, backup is not None, backup.toc_entries if backup else 0),
        _gates.alone(lock, others),
        _scope(plan),
        _gates.rollback_ready(plan["rollback"]["sha256"], sha256_file(rollback) if os.path.isfile(rollback) else None),
        _gates.provenance(),
        _gates.nothing_else_ran(entry.step for entry in artefacts.journal.entries()),
    ]


def stopped(gates: Sequence[_gates.Gate]) -> Stopped:
    """Return the error that names these failed gates."""
    return Stopped(
        "Stopped at " + ", ".join(f"{gate.id} ({gate.title})" for gate in gates) + ".",
        expected="; ".join(f"{gate.id} {gate.expected}" for gate in gates),
        found="; ".join(f"{gate.id} {gate.found}" for gate in gates),
        next_step="; ".join(f"{gate.id} {gate.next_step}" for gate in gates),
    )


def stop_at(gates: Sequence[_gates.Gate]) -> None:
    """Raise ``Stopped`` naming every failed gate, when one failed."""
    failed = _gates.failed(gates)
    if failed:
        raise stopped(failed)


def _begin(session: Session, request: Request) -> None:
    settings = request.phase["settings"]
    session.execute("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
    for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        session.set(name, settings[name], local=True)
    # log_statement = ddl does not see what EXECUTE runs; 'all' logs the literal, where the role may set it
    session.execute(
        "SELECT pg_catalog.set_config('log_statement', 'all', true)"
        " WHERE pg_catalog.has_parameter_privilege('log_statement', 'SET')"
    )


def _run_statements(session: Session, request: Request, applied: Applied) -> None:
    session.set("search_path", search_path(request.phase["settings"]["search_path"]), local=True)
    for statement in request.plan["ddl"]["statements"]:
        if not statement["run"]:
            continue
        text = request.ddl[statement["start"] : statement["end"]].decode("utf-8")
        where = f"statement {statement['n']} ({statement['tag']}, line {statement['line']})"
        try:
            answer = run_statement(session, text, returns_rows=statement["returns_rows"])
        except SqlError as error:
            if error.sqlstate == LOCK_NOT_AVAILABLE:
                session.execute("ROLLBACK")
                holders = blockers(session, statement["relations"])
                raise LockTimeout(
                    f"C-07: {where} did not get its lock in time; rolled back.",
                    expected="the lock within lock_timeout",
                    found="held by " + ("; ".join(holders) or "a session that has ended since"),
                    next_step="let the blocking session finish or end it, then run again",
                ) from error
            raise Stopped(
                f"C-07: {where} was refused; rolled back.",
                expected="every statement succeeds",
                found=error.words(),
                next_step="correct the DDL as a new revision, rehearse it, and have it reviewed",
            ) from error
        applied.statements.append(
            {
                "n": statement["n"],
                "tag": statement["tag"],
                "line": statement["line"],
                "rows": answer.rows,
                "milliseconds": round(answer.milliseconds, 3),
            }
        )
        if statement["returns_rows"]:
            applied.result = answer.result
    session.set("search_path", search_path(()), local=True)


def _check_counts(request: Request, applied: Applied) -> None:
    """Compare tags, row counts and the trailing SELECT with what the phase declares."""
    expect = request.phase["expect"]
    wrong: list[tuple[str, str]] = []
    for tag, declared in sorted(expect["rows"].items()):
        found = [statement for statement in applied.statements if statement["tag"] == tag]
        for wanted, statement in zip(declared, found):
            if not _within(wanted, statement["rows"]):
                where = f"{tag} of line {statement['line']}"
                wrong.append((f"{where}: {_range(wanted)} rows", f"{where}: {statement['rows']} rows"))
        if len(found) != len(declared):
            wrong.append((f"{len(declared)} x {tag}", f"{len(found)} x {tag}"))
    if expect.get("result") is not None:
        result = _checks.shape(Answer(rows=len(applied.result or []), result=applied.result or []), expect["result"])
        if not _checks.equal(expect["result"], result):
            wrong.append((f"trailing SELECT {_checks.text(expect['result'])}", f"trailing SELECT {_checks.text(result)}"))
    if wrong:
        raise Stopped(
            "C-07: a declared count was not met; rolled back before COMMIT.",
            expected="; ".join(expected for expected, _found in wrong),
            found="; ".join(found for _expected, found in wrong),
            next_step="the DDL does not do what its phase declares: correct one of them as a new revision and rehearse it",
        )


def _within(declared: Any, rows: int) -> bool:
    if not isinstance(declared, Mapping):
        return bool(declared == rows)
    most = declared.get("max")
    return (declared.get("min") or 0) <= rows and (most is None or rows <= most)


def _range(declared: Any) -> str:
    if not isinstance(declared, Mapping):
        return str(declared)
    least, most = declared.get("min") or 0, declared.get("max")
    return f"at least {least}" if most is None else f"{least} to {most}"


def _check_inside(session: Session, request: Request, applied: Applied, base: Snapshot) -> None:
    """Verification and structural diff on the uncommitted state."""
    session.execute("SET CONSTRAINTS ALL IMMEDIATE")
    session.set("transaction_read_only", "on", local=True)
    # a diff of committed states; pg_dump cannot see this transaction
    checks = [check for check in request.phase["verify"] if check.get("builtin") != "schema_diff"]
    checks += _checks.answerable(request.phase["non_scope"])
    results = _checks.run_checks(session, checks, {}, request.phase["settings"]["search_path"])
    applied.checks = [result.as_dict() for result in results]
    declared = Declared.from_definition(request.phase["measure"], request.phase["row_counts"])
    before = load(request.artefacts, "before", declared.measures)
    applied.measured, moved = declared.judge(before, declared.take(session))
    changes = diff(base, read_facts(session))
    verdict = evaluate(changes, request.phase["diff"])
    applied.diff = {"ok": verdict.ok, "message": verdict.message, "text": changes.text(), "changes": changes.as_list()}
    wrong = [(f"{r.id} {r.expected}", f"{r.id} {r.found}") for r in _checks.failures(results)]
    wrong += [("data as declared", text) for text in moved]
    if not verdict.ok:
        wrong.append((f"diff {request.phase['diff']['policy']}", verdict.message))
    if wrong:
        raise Stopped(
            "C-07: verification failed inside the transaction; rolled back before COMMIT.",
            expected="; ".join(expected for expected, _found in wrong),
            found="; ".join(found for _expected, found in wrong),
            next_step="the DDL does not give what its phase declares: correct it as a new revision and rehearse it",
        )


def _attempt(
    session: Session, client: Client, request: Request, base: Snapshot, step: Step, applied: Applied
) -> None:
    """Run everything up to the moment before COMMIT; the transaction is open on return."""
    _begin(session, request)
    identity = read_identity(session, client)
    checks = _checks.run_checks(
        session,
        request.phase["preflight"],
        {
            "target_identity": target_identity(request.declared, identity),
            "ddl_checksum": ddl_checksum(request.plan["ddl"]["sha256"], request.ddl_sha256),
        },
        request.phase["settings"]["search_path"],
    )
    applied.preflight = [result.as_dict() for result in checks]
    gate = _gates.preflight_passed(checks)
    others = [judged for judged in step.data["gates"] if judged["id"] != gate.id]
    step.data["gates"] = [*others, gate.as_dict()]
    stop_at([gate])
    xid, pid = session.rows("SELECT pg_current_xact_id()::text, pg_backend_pid()::text")[0]
    applied.xid, applied.pid = xid or "", int(pid or 0)
    step.note("transaction", {"xid": applied.xid, "pid": applied.pid})
    _run_statements(session, request, applied)
    _check_counts(request, applied)
    _check_inside(session, request, applied, base)


def resolve(client: Client, xid: str) -> str:
    """Return COMMITTED, ROLLED_BACK or UNKNOWN for a transaction whose connection is gone.

    Waits while the server still has it in progress. UNKNOWN means that the server cannot be asked, or has
    forgotten: a human decides (trigger T-1).
    """
    deadline = time.monotonic() + RESOLVE_TIMEOUT
    while time.monotonic() < deadline:
        try:
            with client.session("phasegate:resolve") as session:
                status = session.value(f"SELECT pg_xact_status({literal(xid)}::xid8)")
        except PhaseGateError:
            status = "unreachable"
        if status == "committed":
            return COMMITTED
        if status == "aborted":
            return ROLLED_BACK
        if status is None:
            return UNKNOWN
        time.sleep(0.5)
    return UNKNOWN


def _commit(session: Session, client: Client, applied: Applied, step: Step) -> None:
    """COMMIT, with the intent on disk before and the outcome looked up after a lost answer."""
    step.note("commit", {"xid": applied.xid})
    try:
        session.execute("COMMIT")
        status = session.value(f"SELECT pg_xact_status({literal(applied.xid)}::xid8)")
        outcome = COMMITTED if status == "committed" else ROLLED_BACK
        reason = f"the server says {status}"
    except SqlError as error:
        outcome, reason = ROLLED_BACK, error.words()
    except ConnectionLost as lost:
        outcome, reason = resolve(client, applied.xid), lost.found
    if outcome != COMMITTED:
        raise Stopped(
            f"C-07: COMMIT of transaction {applied.xid} did not succeed: {outcome}.",
            expected="COMMIT",
            found=reason,
            next_step=_after(outcome, applied.xid),
        )


def read_ddl(artefacts: Artefacts, plan: Mapping[str, Any]) -> bytes:
    """Return the frozen DDL, read once. Raises ``PhaseGateError`` when it is not there."""
    path = artefacts.file("sql/" + plan["ddl"]["file"])
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        raise Stopped(
            "C-07: the DDL is not frozen in this run.",
            expected=path,
            found="no such file",
            next_step="freeze it first (C-05, module sha_gate)",
        ) from None


def gates_without_run(client: Client, plan: Mapping[str, Any], declared: Mapping[str, Any]) -> list[_gates.Gate]:
    """Judge what can be judged without a run (check mode): the target, the scope, and who else is there."""
    with client.session("phasegate:check") as session:
        identity = read_identity(session, client)
        others = [row[0] or "" for row in session.rows(_HOLDERS)]
    judged = [declared_target(declared, identity), _scope(plan)]
    if others:
        judged.append(_gates.alone(False, others))
    stop_at(judged)
    not_judged = _gates.not_reached(set(_gates.TITLES) - {gate.id for gate in judged})
    return sorted(judged + not_judged, key=_gates.order)


def declared_target(declared: Mapping[str, Any], identity: Identity, wrong: Sequence[Mismatch] = ()) -> _gates.Gate:
    """G-4, with what else is ``wrong`` about the target."""
    undeclared = [name for name in ("database", "user", "server_version", "system_identifier") if not declared.get(name)]
    return _gates.target_is_declared([*mismatches(declared, identity), *wrong], identity.describe(), undeclared)


def _scope(plan: Mapping[str, Any]) -> _gates.Gate:
    kinds = (kind for statement in plan["ddl"]["statements"] if statement["run"] for kind in statement["kinds"])
    return _gates.within_scope(kinds, plan["phase"]["scope"]["statements"])


def _after(outcome: str, xid: str) -> str:
    if outcome == UNKNOWN:
        return f"T-1: ask the server yourself: SELECT pg_xact_status('{xid}'); do not run the phase again before you know"
    return "nothing persists; find the reason in the server's log, then run again"


def migrate(client: Client, request: Request, step: Step) -> Applied:
    """Run C-07. Returns after a proven COMMIT; raises ``PhaseGateError`` otherwise, ``step.data['outcome']`` set.

    ``step.data`` receives ``gates``, ``statements`` and the rest for the journal, complete also on failure.
    """
    check_cover(request.plan["ddl"]["statements"], request.ddl, request.plan["ddl"]["sha256"])
    step.data.update(outcome="NOT_STARTED", gates=[])
    with client.session(f"phasegate:run:{os.path.basename(request.artefacts.path)}") as session:
        gates = early_gates(session, client, request)
        step.data["gates"] = [gate.as_dict() for gate in gates]
        stop_at(gates)
        base = take(session)
        _same_as_recorded(base, request)
        for attempt in range(1, request.lock_attempts + 1):
            applied = Applied(attempts=attempt)
            try:
                _attempt(session, client, request, base, step, applied)
                _commit(session, client, applied, step)
                step.data["outcome"] = COMMITTED
                return applied
            except LockTimeout as timeout:
                step.note("lock timeout", {"attempt": attempt, "found": timeout.found})
                if attempt == request.lock_attempts:
                    _leave(session, client, base, step, applied)
                    raise
                time.sleep(random.uniform(0.5, 1.0) * 2 ** (attempt - 1))
            except PhaseGateError as error:
                _leave(session, client, base, step, applied)
                if isinstance(error, ConnectionLost):
                    raise _lost(error, applied, step.data["outcome"]) from error
                raise
            finally:
                step.data["transaction"] = asdict(applied)
    raise AssertionError("lock_attempts is at least 1")


def _lost(error: ConnectionLost, applied: Applied, outcome: str) -> Stopped:
    return Stopped(
        f"C-07: the connection was lost before COMMIT was sent: {outcome}.",
        expected=error.expected,
        found=error.found + (f"; transaction {applied.xid}" if applied.xid else "; no transaction was open"),
        next_step=_after(outcome, applied.xid),
    )


def _same_as_recorded(base: Snapshot, request: Request) -> None:
    recorded = _recorded(request.artefacts, "C-03", "fingerprint")
    if recorded != base.fingerprint:
        raise Stopped(
            "C-07: the schema is not the one of the snapshot before (C-03).",
            expected=f"fingerprint {recorded or 'of a snapshot made in this run'}",
            found=f"fingerprint {base.fingerprint}",
            next_step="somebody changed the schema during this run: find out who, then start a new run",
        )


def _leave(session: Session, client: Client, base: Snapshot, step: Step, applied: Applied) -> None:
    """After a stop: make sure how the transaction ended and whether the schema is as before."""
    try:
        session.execute("ROLLBACK")
        step.data["outcome"] = ROLLED_BACK
        after = take(session)
    except ConnectionLost:
        step.data["outcome"] = resolve(client, applied.xid) if applied.xid else ROLLED_BACK
        return
    step.data["unchanged"] = after.fingerprint == base.fingerprint
    step.data["fingerprint"] = after.fingerprint
