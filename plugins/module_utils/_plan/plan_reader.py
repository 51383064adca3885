# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a plan and refuse one of another form."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import thawed
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import PLAN_FORMAT
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_schema import PLAN_SCHEMA

try:
    import jsonschema
except ImportError:
    HAS_JSONSCHEMA = False
else:
    HAS_JSONSCHEMA = True


def read_plan(data: bytes, name: str) -> Dict[str, Any]:
    """Return the plan whose bytes are ``data``. Raises ``PhaseGateError`` unless it is intact and of this form."""
    plan, changed = thawed(data)
    if changed:
        raise PhaseGateError(
            f"{name} is not intact.",
            expected="the canonical bytes that a rehearsal wrote",
            found=changed,
            next_step="copy the plan from the rehearsal's artefact directory again, or rehearse again",
        )
    problems = sorted(
        jsonschema.Draft202012Validator(PLAN_SCHEMA).iter_errors(plan), key=lambda one: list(map(str, one.path))
    )
    if problems:
        shown = [f"{'.'.join(map(str, one.path)) or 'plan'}: {one.message[:200]}" for one in problems[:10]]
        raise PhaseGateError(
            f"{name} is not a valid plan.",
            expected=f"a document of the form {PLAN_FORMAT}",
            found="; ".join(shown),
            next_step="rehearse again with this version of the collection",
        )
    return plan
