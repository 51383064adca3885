# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-06, and C-08 of an applied phase: checks in one read-only transaction as a step of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import PreflightRun, Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.builtin import (
    checksum_check,
    identity_check,
    schema_diff_check,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import (
    answerable_statements,
    check_summary,
    format_check_table,
    require_checks,
    run_read_only,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    resolved,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import preflight_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity


@dataclass(frozen=True)
class CheckRun:
    """``checks`` and ``non_scope`` as in phase.yml, the declared ``identity``, and what the built-in checks compare.

    ``ddl_file`` and ``diff_file`` are paths on the target host, None where there is nothing to check.
    """

    checks: Sequence[Mapping[str, Any]]
    non_scope: Sequence[Mapping[str, Any]]
    identity: Mapping[str, Any]
    search_path: Sequence[str]
    ddl_file: str | None
    ddl_sha256: str | None
    diff_file: str | None = None


def run_check_step(
    client: Client, wanted: CheckRun, step: Step[PreflightRun] | Step[Verified], *, check_mode: bool
) -> None:
    """Run the checks. Raises ``PhaseGateError`` naming those that fail.

    ``step.end`` receives checks and summary, and G-6 in C-06 or the non-scope statements in C-08, also on failure.
    """
    path = wanted.ddl_file
    with client.session() as session:
        builtins = {
            "target_identity": identity_check(wanted.identity, read_identity(session, client)),
            "ddl_checksum": checksum_check(
                wanted.ddl_sha256, sha256_file(resolved(path)) if path and os.path.isfile(path) else None
            ),
            "schema_diff": schema_diff_check(wanted.diff_file),
        }
        everything = [*wanted.checks, *answerable_statements(wanted.non_scope)]
        judged = run_read_only(session, everything, builtins, wanted.search_path)
    results, non_scope = judged[: len(wanted.checks)], judged[len(wanted.checks) :]
    step.update(checks=[result.as_dict() for result in results], summary=check_summary(results))
    if isinstance(step.end, PreflightRun):
        step.update(gates=[preflight_gate(results).as_dict()])
    else:
        step.update(non_scope=[result.as_dict() for result in non_scope])
    step.file(f"logs/{step.name}.log", format_check_table(judged).encode("utf-8"))
    require_checks(step.name, results, non_scope, check_mode=check_mode)
