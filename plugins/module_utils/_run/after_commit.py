# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Statements that cannot run in a transaction: each runs on its own after COMMIT.

They cannot be rolled back. So the journal records each one before it is sent, and its result afterwards. Where that
result is unknown, the catalog decides: an existing valid index is done, an invalid one stops the run.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import Any, Mapping, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    StatementBegun,
    StatementDone,
    StatementFailed,
    Transacted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    statement_events,
    statements_left,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.commit_resolution import RESOLVE_TIMEOUT
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
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import run_alone
from ansible_collections.incomex.phasegate.plugins.module_utils._run.batches import run_batches
from ansible_collections.incomex.phasegate.plugins.module_utils._run.hidden_calls import require_no_later_call
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import (
    AS_A_REVISION,
    MigrationResult,
    Script,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.waiting import watch_statement

T = TypeVar("T", bound=Transacted)


class StatementState(enum.Enum):
    """The state of a statement's effect in the catalog: present, absent, or partial."""

    DONE = "done"
    OPEN = "open"
    BROKEN = "broken"


@dataclass(frozen=True)
class _StatementKind:
    """``catalog`` is a query for at most one row, a state and what is broken; without a row the state is ``otherwise``.

    ``repair`` is the statement that removes a broken object.
    """

    catalog: str
    otherwise: StatementState
    repair: str


_INDEX = """
SELECT CASE WHEN i.indisvalid AND i.indisready AND i.indislive THEN {valid} ELSE {invalid} END,
       format('invalid index %I.%I', n.nspname, c.relname)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indexrelid = to_regclass({{name}})
"""

# REINDEX builds a new index beside the old one and exchanges them; when aborted, it leaves one of the two
_LEFT_BY_REINDEX = """
SELECT 'broken', string_agg(format('invalid index %I.%I', n.nspname, c.relname), ', ' ORDER BY c.relname)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
  AND i.indrelid IN (SELECT to_regclass({name}) UNION SELECT x.indrelid FROM pg_index x WHERE x.indexrelid = to_regclass({name}))
HAVING count(*) > 0
"""

_DETACHING = """
SELECT CASE WHEN inhdetachpending THEN 'broken' ELSE 'open' END, 'a detach that is not finalized'
FROM pg_inherits WHERE inhrelid = to_regclass({name})
"""

# The name has three parts: schema, table, and constraint or column.
_OF_TABLE = """
FROM (SELECT pg_catalog.parse_ident({name}) AS p) named
JOIN pg_catalog.pg_namespace n ON n.nspname = p[1] JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = p[2]
"""

_VALIDATED = f"""
SELECT CASE WHEN c.convalidated THEN 'done' ELSE 'open' END, '' {_OF_TABLE}
JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid AND c.conname = p[3]
"""

_FILLED = f"""
SELECT CASE WHEN a.attnotnull THEN 'done' ELSE 'open' END, '' {_OF_TABLE}
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = p[3] AND NOT a.attisdropped
"""

# Without it the server reads the whole table under a lock that keeps everybody out.
_PROVES_FILLED = f"""
SELECT EXISTS (SELECT {_OF_TABLE}
  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = p[3] AND NOT a.attisdropped
  JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid AND c.contype = 'c' AND c.convalidated
  WHERE pg_catalog.pg_get_expr(c.conbin, c.conrelid) = pg_catalog.format('(%I IS NOT NULL)', a.attname))
"""

# The name has four parts: the partitioned index and the one that becomes a part of it, each with its schema.
_ATTACHED = """
SELECT 'done', '' FROM (SELECT pg_catalog.parse_ident({name}) AS p) named JOIN pg_catalog.pg_inherits i
ON i.inhparent = pg_catalog.to_regclass(pg_catalog.format('%I.%I', p[1], p[2]))
  AND i.inhrelid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', p[3], p[4]))
"""

_KINDS = {
    "CREATE INDEX CONCURRENTLY": _StatementKind(
        _INDEX.format(valid="'done'", invalid="'broken'"), StatementState.OPEN, "DROP INDEX CONCURRENTLY {name}"
    ),
    "DROP INDEX CONCURRENTLY": _StatementKind(
        # an aborted drop leaves an index that can be dropped again
        _INDEX.format(valid="'open'", invalid="'open'"),
        StatementState.DONE,
        "DROP INDEX CONCURRENTLY {name}",
    ),
    "REINDEX CONCURRENTLY": _StatementKind(
        _LEFT_BY_REINDEX,
        StatementState.OPEN,
        "DROP INDEX CONCURRENTLY for each index whose name ends in _ccnew or _ccold",
    ),
    "ALTER TABLE DETACH PARTITION CONCURRENTLY": _StatementKind(
        _DETACHING, StatementState.DONE, "ALTER TABLE … DETACH PARTITION {name} FINALIZE"
    ),
    # none of these leaves anything
    "ALTER TABLE VALIDATE CONSTRAINT": _StatementKind(_VALIDATED, StatementState.OPEN, ""),
    "ALTER TABLE SET NOT NULL": _StatementKind(_FILLED, StatementState.OPEN, ""),
    "ALTER INDEX ATTACH PARTITION": _StatementKind(_ATTACHED, StatementState.OPEN, ""),
}


def fetch_statement_state(session: Session, statement: Mapping[str, Any]) -> tuple[StatementState, str]:
    """Return the state of a statement in the catalog, and what is broken ('' when nothing is)."""
    kind = _KINDS[statement["kinds"][0]]
    rows = session.rows(kind.catalog.format(name=literal(statement["after_commit"])))
    if not rows:
        return kind.otherwise, ""
    state = StatementState(rows[0][0])
    return state, (rows[0][1] or "") if state is StatementState.BROKEN else ""


def run_after_commit(session: Session, client: Client, script: Script, applied: MigrationResult, step: Step[T]) -> None:
    """Run the remaining statements after COMMIT, in file order; ``applied.statements`` receives each.

    Raises ``PhaseGateError`` at the first one that does not complete. A statement that the journal records as done does
    not run again; for one that started without a recorded result, the catalog decides.
    """
    entries = step.artefacts.journal.entries() if step.artefacts else []
    known, todo = statement_events(entries, step.name), statements_left(script.statements, entries, step.name)
    if not todo:
        return
    pid = session.value("SELECT pg_backend_pid()")
    for statement in todo:
        # batches are transactions, which take it for themselves
        if script.role:
            session.set("role", "none" if statement.get("batch") else script.role)
        if statement.get("batch"):
            done = run_batches(session, client, script, statement, step)
            applied.statements.append(done.to_entry())
            step.note(done)
        elif (
            isinstance(known.get(statement["n"]), StatementBegun)
            and fetch_statement_state(session, statement)[0] is StatementState.DONE
        ):
            _ended(step, applied, statement, 0.0)
        else:
            _run_one(session, client, script, statement, applied, step, pid or "")
    if script.role:
        session.set("role", "none")


def _run_one(
    session: Session,
    client: Client,
    script: Script,
    statement: Mapping[str, Any],
    applied: MigrationResult,
    step: Step[T],
    pid: str,
) -> None:
    state, broken = fetch_statement_state(session, statement)
    if state is StatementState.BROKEN:
        raise _stopped(script, statement, f"{broken}, left by an earlier attempt", StatementState.BROKEN)
    if statement["kinds"][0] == "ALTER TABLE SET NOT NULL":
        _require_proof(session, script, statement, state)
    require_no_later_call(session, script, statement)
    text = script.data[statement["start"] : statement["end"]].decode("utf-8")
    # no reads or writes queue behind CREATE, DROP and REINDEX, and a lock_timeout would end their waits for old transactions;
    # ALTER takes a lock that others wait for
    altered = statement["kinds"][0].startswith("ALTER ")
    session.set("lock_timeout", script.settings["lock_timeout"] if altered else "0")
    session.set("statement_timeout", script.settings["after_commit_timeout"])
    step.note(StatementBegun(statement["n"], statement["tag"], statement["line"], statement["after_commit"]))
    started = time.monotonic()
    try:
        with watch_statement(client, step, int(pid or 0)):
            run_alone(session, text, script.settings["search_path"])
    except SqlError as error:
        state, broken = fetch_statement_state(session, statement)
        step.note(StatementFailed(statement["n"], error.words(), broken))
        grant = (
            privilege_advice(session, statement["needs"], error.text, script.settings["search_path"])
            if error.sqlstate == INSUFFICIENT_PRIVILEGE
            else ""
        )
        raise _stopped(script, statement, "; ".join(filter(None, (error.words(), broken))), state, grant) from error
    except ConnectionLost as lost:
        raise _lost(client, script, statement, applied, step, pid, lost) from lost
    state, broken = fetch_statement_state(session, statement)
    if state is StatementState.BROKEN:
        step.note(StatementFailed(statement["n"], "no error", broken))
        raise _stopped(script, statement, broken, state)
    _ended(step, applied, statement, 1000 * (time.monotonic() - started))


def _require_proof(session: Session, script: Script, statement: Mapping[str, Any], state: StatementState) -> None:
    """Raise ``Stopped`` where SET NOT NULL would read the whole table while nobody can use it."""
    name = statement["after_commit"]
    if state is StatementState.OPEN and session.value(_PROVES_FILLED.format(name=literal(name))) != "t":
        raise Stopped(
            f"{_where(script, statement)} would read the whole table under a lock that blocks everybody; the transaction before it is COMMITTED.",
            expected=f"a validated CHECK (… IS NOT NULL) of {name}, by which the server knows without reading",
            found="none",
            next_step=f"add such a constraint NOT VALID in the transaction and VALIDATE it before this statement, and {AS_A_REVISION}",
        )


def _ended(step: Step[T], applied: MigrationResult, statement: Mapping[str, Any], milliseconds: float) -> None:
    done = StatementDone(statement["n"], statement["tag"], statement["line"], 0, round(milliseconds, 3))
    applied.statements.append(done.to_entry())
    step.note(done)


def _where(script: Script, statement: Mapping[str, Any]) -> str:
    return f"{script.command}: statement {statement['n']} ({statement['kinds'][0]}, line {statement['line']})"


def _again(script: Script) -> str:
    if script.command == "C-09":
        return "run the remaining rollback SQL by hand; do not run its transaction again"
    return "run the same command again: it checks the catalog and continues from here; or roll the phase back"


def _stopped(
    script: Script, statement: Mapping[str, Any], found: str, state: StatementState, grant: str = ""
) -> Stopped:
    name = statement["after_commit"]
    repair = _KINDS[statement["kinds"][0]].repair.format(name=name)
    first = f"remove what it left with {repair}" if state is StatementState.BROKEN else grant or "resolve the error"
    return Stopped(
        f"{_where(script, statement)} did not complete; the transaction before it is COMMITTED.",
        expected=f"{name}: {statement['kinds'][0]} ends without error and leaves nothing invalid",
        found=found,
        next_step=f"{first}; then {_again(script)}",
    )


def _lost(
    client: Client,
    script: Script,
    statement: Mapping[str, Any],
    applied: MigrationResult,
    step: Step[T],
    pid: str,
    lost: ConnectionLost,
) -> PhaseGateError:
    """Return the error for a connection lost during a statement, after checking the statement's result on the server."""
    what = f"{_where(script, statement)}: the connection was lost; the transaction before it is COMMITTED."
    state, found = _resolve(client, statement, pid)
    if state is StatementState.BROKEN:
        step.note(StatementFailed(statement["n"], lost.found, found))
        return _stopped(script, statement, f"{lost.found}; {found}", state)
    if state is StatementState.DONE:
        _ended(step, applied, statement, 0.0)
    return Stopped(
        what,
        expected=lost.expected,
        found=f"{lost.found}; {found}",
        next_step=_again(script),
    )


def _resolve(client: Client, statement: Mapping[str, Any], pid: str) -> tuple[StatementState | None, str]:
    """Wait until the backend has ended, then check the catalog; None when that takes too long."""
    deadline = time.monotonic() + RESOLVE_TIMEOUT
    found = "the server cannot be queried"
    while time.monotonic() < deadline:
        try:
            with client.session("phasegate:resolve") as session:
                if session.value(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {int(pid)}") == "0":
                    state, broken = fetch_statement_state(session, statement)
                    return state, broken or f"state in the catalog: {state.value}"
            found = f"its backend {pid} still runs it"
        except PhaseGateError as error:
            found = f"the server cannot be queried: {error.found}"
        time.sleep(0.5)
    return None, found
