# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup that roles use, and the names of files that actions copy."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.lookup.connection import connection_variables
from ansible_collections.incomex.phasegate.plugins.lookup.targets import targets_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.plugin_utils._files_action import named_once


def test_the_connection_has_the_options_that_the_inventory_gives() -> None:
    given = {"phasegate_database": "directus", "phasegate_port": 5433, "phasegate_root": "/var/lib", "port": 1}
    assert connection_variables(given) == {"database": "directus", "port": 5433}


def test_a_connection_without_a_database_is_refused_by_the_name_of_the_variable() -> None:
    with pytest.raises(PhaseGateError, match="found: phasegate_database is missing"):
        connection_variables({"phasegate_host": "db"})


def test_every_host_with_a_database_declares_a_target() -> None:
    hosts: dict[str, dict[str, Any]] = {
        "db1": {"phasegate_database": "a", "phasegate_host": "db1", "phasegate_identity": {"system_identifier": 7}},
        "db2": {"phasegate_database": "b", "phasegate_identity": {"container": "pg"}},
        "db3": {"phasegate_database": "c", "phasegate_container": "mine", "phasegate_port": 5433},
        "web1": {"phasegate_identity": {"system_identifier": "8"}},
    }
    assert targets_of(hosts) == [
        {"name": "db1", "host": "db1", "system_identifier": "7"},
        {"name": "db2", "container": "pg"},
        {"name": "db3", "container": "mine", "port": 5433},
    ]


def test_files_are_copied_under_their_names() -> None:
    assert named_once(["/a/anna.sig", "/b/ben.sig"]) == {"anna.sig": "/a/anna.sig", "ben.sig": "/b/ben.sig"}
    assert named_once([]) == {}


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(PhaseGateError, match=r"Duplicate file name: anna\.sig"):
        named_once(["/a/anna.sig", "/b/anna.sig"])
