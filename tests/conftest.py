# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that every test directory shares: a real server per session, a database of its own per test."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

FIXTURES = Path(__file__).parent / "fixtures"
TEMPLATE = "phase_alpha_template"

_serial = itertools.count(1)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running PostgreSQL 16 cluster; its databases are the tests' to create and drop."""
    # Not at the top: this file is read before pytest-ansible makes collections importable, and a collection that was
    # imported without its help cannot be imported with it.
    from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster  # noqa: PLC0415

    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def rehearsal_cluster() -> Iterator[Cluster]:
    """A running cluster that rehearsals make their copies in."""
    from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster  # noqa: PLC0415 - see above

    with running_cluster(rehearsal=True) as running:
        yield running


@pytest.fixture
def empty_database(cluster: Cluster) -> Iterator[str]:
    """The name of an empty database of this test alone."""
    yield from _database(cluster, None)


@pytest.fixture
def database(cluster: Cluster, phase_alpha_template: str) -> Iterator[str]:
    """The name of a database of this test alone, in the state that Phase Alpha starts from."""
    yield from _database(cluster, phase_alpha_template)


@pytest.fixture(scope="session")
def phase_alpha_template(cluster: Cluster) -> str:
    """The name of a database that is only ever copied."""
    cluster.create_database(TEMPLATE)
    cluster.load(FIXTURES / "phase_alpha.sql", TEMPLATE)
    return TEMPLATE


def _database(cluster: Cluster, template: str | None) -> Iterator[str]:
    name = f"test_{next(_serial)}"
    cluster.create_database(name, template)
    yield name
    cluster.drop_database(name)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    root = tmp_path / "small"
    root.mkdir()
    from ansible_collections.incomex.phasegate.tests.support.small_disk import mounted  # noqa: PLC0415 - as above

    with mounted(root, "size=1m"):
        yield root
