# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The beginning and the end of a transaction whose outcome is always known, and who keeps it from a lock."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.commit_resolution import resolve_transaction
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import (
    ConnectionLost,
    Session,
    SqlError,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major, varying
from ansible_collections.incomex.phasegate.plugins.module_utils._run.settling import Beginning

LOCK_NOT_AVAILABLE = "55P03"

# The locks of a prepared transaction have no pid; its lock on its own transaction id identifies it.
_BLOCKERS = """
WITH held AS (
  SELECT DISTINCT l.pid, l.virtualtransaction FROM pg_locks l
  WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.relation IN (SELECT to_regclass(name) FROM unnest({names}::text[]) name))
SELECT DISTINCT format('pid %s, user %s, application %s, %s, transaction open for %s s, query: %s', a.pid, a.usename,
  coalesce(nullif(a.application_name, ''), 'unnamed'), coalesce(a.state, 'state not visible to this role'),
  coalesce(round(extract(epoch FROM clock_timestamp() - a.xact_start))::text, '?'),
  coalesce(left(regexp_replace(a.query, '[[:space:]]+', ' ', 'g'), 120), '?'))
FROM held h JOIN pg_stat_activity a USING (pid)
UNION ALL
SELECT format('prepared transaction %L, owner %s, prepared %s s ago', p.gid, p.owner,
  round(extract(epoch FROM clock_timestamp() - p.prepared)))
FROM held h JOIN pg_locks own USING (virtualtransaction) JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
WHERE h.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid'
"""


def lock_holders(session: Session, relations: Sequence[str]) -> list[str]:
    """Return who holds locks on these relations (schema-qualified, quoted where needed).

    One text a session or prepared transaction.
    """
    names = "ARRAY[" + ", ".join(literal(name) for name in relations) + "]"
    return [row[0] or "" for row in session.rows(_BLOCKERS.format(names=names))]


def begin_transaction(session: Session, settings: Mapping[str, Any]) -> Beginning:
    """Begin, with the timeouts of ``settings`` and what is observed and durable whatever the role's own settings are."""
    session.execute("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
    for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        session.set(name, settings[name], local=True)
    # a crash of the server must not undo a COMMIT; stronger settings stay
    session.execute(
        "SELECT pg_catalog.set_config('synchronous_commit', 'on', true)"
        " WHERE pg_catalog.current_setting('synchronous_commit') = 'off'"
    )
    # log_statement = ddl does not see what EXECUTE runs; 'all' logs the literal, where the role may set it
    session.execute(
        for_major(
            f"SELECT pg_catalog.set_config('log_statement', 'all', true) WHERE {varying('may_set', 'log_statement')}",
            session.major,
        )
    )
    # what the transaction changes is read from the server's counters
    session.execute(
        for_major(
            "SELECT pg_catalog.set_config('track_counts', 'on', true)"
            f" WHERE pg_catalog.current_setting('track_counts') = 'off' AND {varying('may_set', 'track_counts')}",
            session.major,
        )
    )
    return Beginning.of(session)


def keep_xid(another: Session) -> None:
    """Write a later transaction to the server's log and wait until it is on disk.

    Else a crash could take back that the transaction's id was ever given out: the server would have no record of it,
    or would give it to another transaction, whose outcome ``pg_xact_status`` would then report for ours.
    """
    another.set("synchronous_commit", "local")
    another.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'phasegate', '')")


def look_up(session: Session, client: Client, xid: str) -> tuple[str, str]:
    """Return how a transaction ended whose COMMIT raised no error, and the status on the server.

    COMMIT of a transaction that had failed rolls back without an error.
    """
    try:
        status = session.value(f"SELECT pg_xact_status({literal(xid)}::xid8)")
    except SqlError as error:
        return TransactionOutcome.UNKNOWN, error.words()
    except ConnectionLost as lost:
        return resolve_transaction(client, xid), lost.found
    return (
        TransactionOutcome.COMMITTED if status == "committed" else TransactionOutcome.ROLLED_BACK,
        f"the server reports {status}",
    )
