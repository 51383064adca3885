# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the unit tests: a client of a test's own database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

# how fast a machine is proves nothing
settings.register_profile("ordinary", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# chosen with --hypothesis-profile=long
settings.register_profile("long", settings.get_profile("ordinary"), max_examples=5000)
settings.load_profile("ordinary")


@pytest.fixture
def client(cluster: Cluster, database: str) -> Client:
    """A client of a database in the state before Phase Alpha."""
    # Not at the top, as in the conftest above.
    from ansible_collections.incomex.phasegate.tests.support.runs import client_of  # noqa: PLC0415

    return client_of(cluster, database)


@pytest.fixture(scope="module")
def shared_database(cluster: Cluster, phase_alpha_template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a database in the state before Phase Alpha, for the tests of a file that leave nothing behind."""
    name = request.module.__name__.rpartition(".")[2]
    cluster.create_database(name, phase_alpha_template)
    yield name
    cluster.drop_database(name)


@pytest.fixture(scope="module")
def session(cluster: Cluster, shared_database: str) -> Iterator[Session]:
    """One open session in that database."""
    from ansible_collections.incomex.phasegate.tests.support.runs import client_of  # noqa: PLC0415

    with client_of(cluster, shared_database).session("phasegate:test") as opened:
        yield opened
