# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The built-in checks: target_identity, ddl_checksum, schema_diff.

Each factory takes the facts and returns the function that evaluates a check of that name.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import CheckFinding
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_json,
    resolved,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import json_line
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity, mismatches

BuiltinCheck = Callable[[Mapping[str, Any]], CheckFinding]


def identity_check(declared: Mapping[str, Any], found: Identity) -> BuiltinCheck:
    """P-1: the server and the container match the inventory."""

    def judge(_check: Mapping[str, Any]) -> CheckFinding:
        wrong = mismatches(declared, found)
        if wrong:
            return CheckFinding(
                False,
                "; ".join(f"{fact.name} {fact.expected}" for fact in wrong),
                "; ".join(f"{fact.name} {fact.found}" for fact in wrong),
            )
        facts = ", ".join(f"{name} {value}" for name, value in declared.items() if value and isinstance(value, str))
        return CheckFinding(True, facts or "the declared target (nothing is declared)", found.describe())

    return judge


def checksum_check(required: str | None, found: str | None) -> BuiltinCheck:
    """P-2: the SHA-256 of the frozen DDL, None without a file, matches the plan."""

    def judge(_check: Mapping[str, Any]) -> CheckFinding:
        if found is None:
            return CheckFinding(None, required or "a required digest", "no frozen file")
        return CheckFinding(found == required, required or "a required digest", found)

    return judge


def line_count_check(removed: int, added: int, *, ok: bool = True, verdict: str = "") -> BuiltinCheck:
    """VA-16: the DDL-line counts match, and the structural verdict, which decides, is positive."""

    def judge(check: Mapping[str, Any]) -> CheckFinding:
        lines = {"removed": removed, "added": added}
        expect = check.get("expect") or lines
        found = json_line(lines) + ("" if ok else f"; {verdict}")
        return CheckFinding(
            ok and expect == lines, f"{json_line(expect)} DDL lines, and the structural diff within its policy", found
        )

    return judge


def schema_diff_check(path: str | None) -> BuiltinCheck:
    """VA-16 from the result file of the schema diff; without one there is nothing to evaluate."""
    if not path or not os.path.isfile(path):
        return lambda check: CheckFinding(None, json_line(check.get("expect")), "no schema diff was made")
    result = read_json(resolved(path))
    return line_count_check(
        result["lines"]["removed"], result["lines"]["added"], ok=bool(result["ok"]), verdict=result["message"]
    )
