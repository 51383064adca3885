# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines that a role shows at its end."""

from __future__ import annotations

DOCUMENTATION = r"""
name: outcome_lines
author: incomex.phasegate contributors (@incomex)
short_description: The lines that a role shows at its end
version_added: 0.1.0
description:
  - Returns the summary of a sealed run with the paths and digests that an operator needs next, line by line. The roles execute,
    rehearse and rollback show it.
  - For a phase that an earlier run applied, it is about the verification of this run, not about the earlier run.
positional: _input
options:
  _input:
    description: What sealing the run returned. Empty in check mode, which seals nothing.
    type: dict
    required: true
  run:
    description: What opening an execution returned, to tell a phase that was applied before.
    type: dict
  kind:
    description: What the run is for.
    type: str
    choices: [execute, rollback, rehearsal]
    default: execute
  phase:
    description: The phase of an execution, C(plan.phase) of the result of M(incomex.phasegate.phase_plan).
    type: dict
  environment:
    description: Short name of the environment of an execution.
    type: str
    default: ''
  verification:
    description: How many checks of an applied phase passed, as M(incomex.phasegate.checks) returns it in C(summary).
    type: str
    default: ''
  gates:
    description: The gate table of an execution in check mode.
    type: list
    elements: str
    default: []
  plan:
    description: What freezing the plan of a rehearsal returned.
    type: dict
  review:
    description: What writing the review package of a rehearsal returned.
    type: dict
  kept:
    description: Name of the container that a rehearsal keeps.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show the outcome
  ansible.builtin.debug:
    msg: "{{ sealed | incomex.phasegate.outcome_lines }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

import os
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import EXECUTE, VERIFICATION
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import (
    Ending,
    qualified,
    title_of,
    verdict_of,
)


def outcome_lines(
    sealed: Mapping[str, Any],
    run: Mapping[str, Any] | None = None,
    gates: Sequence[str] = (),
    plan: Mapping[str, Any] | None = None,
    review: Mapping[str, Any] | None = None,
    kept: str = "",
    kind: str = EXECUTE,
    phase: Mapping[str, Any] | None = None,
    environment: str = "",
    verification: str = "",
) -> list[str]:
    """Return what an operator reads at the end of an execution, a rehearsal or a rollback."""
    if not sealed or not sealed.get("seal"):
        judged = [f"{one['id']:<5} {one['status']:<13} {one['title']}" for one in (run or {}).get("gates", ())]
        return [verdict_of(kind, Ending.CHECKED).sentence, *(judged or gates)]
    run = run or {}
    if run.get("applied") and run.get("sealed") and not run.get("incomplete"):
        return _verified_again(sealed, phase or {}, environment, verification)
    lines = [*_before(run), *sealed["summary"], _line("report", sealed["report"])]
    if plan is None:
        lines += _seal(sealed)
    else:
        lines.append(_line("plan", plan["path"]))
        lines += [_line("to review", review["html"])] if review else []
        lines.append(_line("to approve", plan["plan_sha256"]))
    return [*lines, *([_line("kept", f"container {kept}")] if kept else [])]


def _verified_again(
    sealed: Mapping[str, Any], phase: Mapping[str, Any], environment: str, verification: str
) -> list[str]:
    """Return the lines of a run that found its phase applied: what ran now, and where the evidence of the execution is."""
    verdict = verdict_of(VERIFICATION, Ending.SUCCESS)
    warnings = sealed.get("remarks") or ()
    name = f"{phase.get('phase', '')} {phase.get('revision', '')}".strip()
    return [
        title_of(VERIFICATION, name, environment, verdict.outcome, warnings),
        verdict.sentence,
        "",
        _line("outcome", qualified(verdict.outcome.value, warnings)),
        _line("phase", name),
        _line("environment", environment),
        _line("verification", f"{verification}, of this run"),
        "",
        _line("applied by", os.path.basename(str(sealed["run_directory"]).rstrip("/"))),
        _line("report", sealed["report"]),
        *_seal(sealed),
    ]


def _seal(sealed: Mapping[str, Any]) -> list[str]:
    return [_line("seal", sealed["seal"]), _line("signature", sealed["signature"])]


def _before(run: Mapping[str, Any]) -> list[str]:
    """Return the line about an earlier run of the same phase, which this one went on with."""
    if run.get("incomplete"):
        return [verdict_of(VERIFICATION, Ending.COMPLETED).sentence]
    return [verdict_of(VERIFICATION, Ending.ADOPTED).sentence] if run.get("applied") else []


def _line(label: str, value: str) -> str:
    return f"{label:<14}{value}"


class FilterModule:
    """The filter ``incomex.phasegate.outcome_lines``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"outcome_lines": outcome_lines}
