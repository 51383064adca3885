# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Timeouts that are set on the database or the role are those of applications: the collection's own sessions set theirs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

TIMEOUTS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")


# one millisecond of the last one ends a session before its first statement: the message says so
@pytest.mark.parametrize(("name", "value"), [*((one, "1ms") for one in TIMEOUTS[:3]), (TIMEOUTS[3], "400ms")])
@pytest.mark.fault("timeouts-set")
def test_a_timeout_of_the_database_ends_no_session_of_a_run(
    client: Client, cluster: Cluster, name: str, value: str
) -> None:
    cluster.psql(f"ALTER DATABASE \"{client.database}\" SET {name} = '{value}'")
    for _ in range(5):
        with client.session() as session:
            time.sleep(0.5 if name == TIMEOUTS[3] else 0)
            session.execute("BEGIN")
            session.execute("SELECT pg_sleep(0.05) \\g /dev/null")
            session.execute("COMMIT")
            take_snapshot(session)
            assert [session.value(f"SELECT current_setting('{one}')") for one in TIMEOUTS] == ["0"] * 4
