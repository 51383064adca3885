# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for a terminal that have texts of others: names of roles and files, rows of a table, comments of another tool's file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import (
    Approval,
    Approvals,
    SignatureStatus,
    format_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.retention import RetentionVerdict
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import make_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.ledger import LedgerRow
from ansible_collections.incomex.phasegate.plugins.module_utils._run.opening import warnings

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = "a\x1b[2J\u202e\nG-1   PASS"


def of_warnings() -> Sequence[str]:
    condition = {"id": "long_transactions", "status": "WARN", "found": HOSTILE, "expected": "none", "next_step": "wait"}
    return warnings({"lock": {"found": HOSTILE, "next_step": ""}, "remarks": [HOSTILE], "conditions": [condition]})


def of_approvals() -> Sequence[str]:
    verdict = Approval(HOSTILE, "", SignatureStatus.MALFORMED, f"{HOSTILE}: not an SSH signature, or damaged")
    return format_approvals(Approvals([verdict], make_gate("G-1", False, "2 approvals", HOSTILE, HOSTILE)))


def of_ledger() -> Sequence[str]:
    return [LedgerRow(*[HOSTILE] * 15).describe()]


def of_backups() -> Sequence[str]:
    return [RetentionVerdict(HOSTILE, "backup.dump", 1, True, HOSTILE).line()]


@pytest.mark.fault("hostile-text")
@pytest.mark.parametrize("lines_of", [of_warnings, of_approvals, of_ledger, of_backups])
def test_no_text_of_others_steers_a_terminal_or_is_a_line_of_its_own(lines_of: object) -> None:
    assert callable(lines_of)
    lines = lines_of()
    assert lines
    assert not [line for line in lines if {"\x1b", "\u202e", "\n"} & {*line}]
