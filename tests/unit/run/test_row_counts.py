# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declared row counts, compared with what the statements reported."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import MigrationResult, Script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import _check_counts


def check(declared: Any, reported: list[int]) -> None:
    script = Script("C-07", b"", [], {"INSERT": declared}, None, {})
    statements = [{"tag": "INSERT", "line": n, "rows": rows} for n, rows in enumerate(reported, start=1)]
    _check_counts(script, MigrationResult(statements=statements))


@pytest.mark.parametrize(
    ("declared", "reported"),
    [({"each": 1}, [1, 1, 1]), ({"each": {"min": 1, "max": 2}}, [1, 2]), ([1, 2], [1, 2]), ({"total": 3}, [0, 3, 0])],
)
def test_counts_are_met(declared: Any, reported: list[int]) -> None:
    check(declared, reported)


@pytest.mark.parametrize(
    ("declared", "reported", "found"),
    [
        ({"each": 1}, [1, 0, 1], "INSERT of line 2: 0 rows"),
        ({"each": {"max": 1}}, [1, 2], "INSERT of line 2: 2 rows"),
        ({"each": 1}, [], "0 x INSERT"),
        ([1, 1], [1], "1 x INSERT"),
        ({"total": 3}, [1, 1], "all INSERT together: 2 rows"),
        ({"total": {"max": 3}}, [2, 2], "all INSERT together: 4 rows"),
        ({"total": 0}, [], "0 x INSERT"),
    ],
)
def test_a_missed_count_stops(declared: Any, reported: list[int], found: str) -> None:
    with pytest.raises(Stopped) as caught:
        check(declared, reported)
    assert caught.value.found == found
