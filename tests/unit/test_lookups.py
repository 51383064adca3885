# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookups that roles use: the connection by the inventory's variables, and signatures in files."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.lookup.connection import connection_variables
from ansible_collections.incomex.phasegate.plugins.lookup.signatures import read_signatures
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_connection_has_the_options_that_the_inventory_gives() -> None:
    given = {"phasegate_database": "directus", "phasegate_port": 5433, "phasegate_root": "/var/lib", "port": 1}
    assert connection_variables(given) == {"database": "directus", "port": 5433}


def test_a_connection_without_a_database_is_refused_by_the_name_of_the_variable() -> None:
    with pytest.raises(PhaseGateError, match="found: phasegate_database is missing"):
        connection_variables({"phasegate_host": "db"})


def test_signatures_are_read_byte_by_byte(tmp_path: Path) -> None:
    (tmp_path / "anna.sig").write_bytes(b"\n\xff\n")
    (tmp_path / "ben.sig").write_bytes(b"")
    read = read_signatures(str(tmp_path / name) for name in ("anna.sig", "ben.sig"))
    assert {name: base64.b64decode(data) for name, data in read.items()} == {"anna.sig": b"\n\xff\n", "ben.sig": b""}


def test_no_signatures_are_an_empty_mapping() -> None:
    assert read_signatures([]) == {}


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    paths = [tmp_path / "anna.sig", tmp_path / "more" / "anna.sig"]
    for path in paths:
        path.write_bytes(b"x")
    with pytest.raises(PhaseGateError, match=r"Duplicate file name of a signature: anna\.sig"):
        read_signatures(map(str, paths))
