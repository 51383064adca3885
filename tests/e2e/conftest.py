# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets of whole playbooks, and a phase to spoil."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.target import Target


@pytest.fixture
def target(cluster: Cluster, database: str, tmp_path: Path) -> Target:
    """A database in the state that Phase Alpha starts from, of this test alone."""
    from ansible_collections.incomex.phasegate.tests.support.target import Target  # noqa: PLC0415 - see tests/conftest.py

    return Target(cluster, database, tmp_path)


@pytest.fixture(scope="module")
def shared_target(
    cluster: Cluster, phase_alpha_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """As ``target``, for all tests of a file; under the name that the inventory of the checkout declares."""
    from ansible_collections.incomex.phasegate.tests.support.target import Target  # noqa: PLC0415 - see tests/conftest.py

    cluster.create_database("directus", phase_alpha_template)
    yield Target(cluster, "directus", tmp_path_factory.mktemp("shared"))
    cluster.drop_database("directus")


@pytest.fixture
def phase(tmp_path: Path, pytestconfig: pytest.Config) -> Path:
    """A copy of Phase Alpha's directory, to be spoilt."""
    alpha = pytestconfig.rootpath / "playbooks" / "phases" / "alpha"
    return shutil.copytree(alpha, tmp_path / "phases" / "alpha")
