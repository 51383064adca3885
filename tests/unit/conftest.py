# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the unit tests: a client of a test's own database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


@pytest.fixture
def client(cluster: Cluster, database: str) -> Client:
    """A client of a database in the state before Phase Alpha."""
    # Not at the top, as in the conftest above.
    from ansible_collections.incomex.phasegate.tests.support.runs import client_of  # noqa: PLC0415

    return client_of(cluster, database)


@pytest.fixture(scope="module")
def session(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Session]:
    """One open session for the tests of a file that leave nothing behind."""
    from ansible_collections.incomex.phasegate.tests.support.runs import client_of  # noqa: PLC0415

    with client_of(cluster, "postgres").session("phasegate:test") as opened:
        yield opened
