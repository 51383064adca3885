# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a transaction ended, and how to find that out when its connection is lost."""

from __future__ import annotations

import time

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal

# How long the server may take to end a transaction whose connection is lost, in seconds.
RESOLVE_TIMEOUT = 120.0


def resolve_transaction(client: Client, xid: str) -> str:
    """Return COMMITTED, ROLLED_BACK or UNKNOWN for a transaction whose connection is lost.

    Waits while the server still has it in progress. UNKNOWN means that the server cannot be queried, or no longer has
    the record: a human decides (trigger T-1).
    """
    deadline = time.monotonic() + RESOLVE_TIMEOUT
    while time.monotonic() < deadline:
        try:
            with client.session("phasegate:resolve") as session:
                status = session.value(f"SELECT pg_xact_status({literal(xid)}::xid8)")
        except SqlError:
            return TransactionOutcome.UNKNOWN  # it answers, but not this query
        except PhaseGateError:
            status = "unreachable"
        if status == "committed":
            return TransactionOutcome.COMMITTED
        if status == "aborted":
            return TransactionOutcome.ROLLED_BACK
        if status is None:
            return TransactionOutcome.UNKNOWN
        time.sleep(0.5)
    return TransactionOutcome.UNKNOWN
