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
positional: _input
options:
  _input:
    description: What sealing the run returned. Empty for an execution in check mode, which seals nothing.
    type: dict
    required: true
  run:
    description: What opening an execution returned, to tell a phase that was applied before.
    type: dict
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

from typing import Any, Callable, Mapping, Sequence

CHECK_MODE = "Check mode: nothing was changed, and C-07 and C-08 did not run."
INCOMPLETE = "This phase was committed before; what it had left to run after COMMIT ran now."
APPLIED = "This phase was applied before; it was verified read-only."


def outcome_lines(
    sealed: Mapping[str, Any],
    run: Mapping[str, Any] | None = None,
    gates: Sequence[str] = (),
    plan: Mapping[str, Any] | None = None,
    review: Mapping[str, Any] | None = None,
    kept: str = "",
) -> list[str]:
    """Return what an operator reads at the end of an execution, a rehearsal or a rollback."""
    if not sealed:
        return [CHECK_MODE, *gates]
    lines = [*_before(run or {}), *sealed["summary"], _line("report", sealed["report"])]
    if plan is None:
        lines += [_line("seal", sealed["seal"]), _line("signature", sealed["signature"])]
    else:
        lines.append(_line("plan", plan["path"]))
        lines += [_line("to review", review["html"])] if review else []
        lines.append(_line("to approve", plan["plan_sha256"]))
    return [*lines, *([_line("kept", f"container {kept}")] if kept else [])]


def _before(run: Mapping[str, Any]) -> list[str]:
    """Return the line about an earlier run of the same phase."""
    if run.get("incomplete"):
        return [INCOMPLETE]
    return [APPLIED] if run.get("applied") else []


def _line(label: str, value: str) -> str:
    return f"{label:<14}{value}"


class FilterModule:
    """The filter ``incomex.phasegate.outcome_lines``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"outcome_lines": outcome_lines}
