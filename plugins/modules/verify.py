#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verify a committed phase (C-08)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Verify a committed phase
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Takes the snapshot after the migration, compares it with the one before, compares the measured data with what is declared, and
    runs every check (C-08). All of it is done before the first failure is reported.
  - It combines M(incomex.phasegate.schema_snapshot), M(incomex.phasegate.schema_diff_gate) and M(incomex.phasegate.checks) in one
    call.
  - The module never modifies the database, and a failure rolls nothing back.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
  - incomex.phasegate._identity
  - incomex.phasegate._checks
attributes:
  check_mode:
    support: full
    details: Skipped; nothing was migrated, so there is nothing to verify.
  diff_mode:
    support: full
    details: Returns the structural changes.
  idempotent:
    support: partial
    details: >-
      The same state gives the same result. The files in O(run_directory) are replaced, so RV(ignore:changed) is always true.
options:
  run_directory:
    description:
      - The directory with the snapshot before, of a run or any other.
      - In that of a run, the checks and everything else that decides must be those of its C(plan.json).
    type: path
    required: true
  non_scope:
    description: Statements about what the phase leaves alone, as in M(incomex.phasegate.checks).
    type: list
    elements: dict
    default: []
  measure:
    description: Measured columns, as in M(incomex.phasegate.schema_snapshot).
    type: list
    elements: dict
    default: []
  row_counts:
    description: Counted tables, as in M(incomex.phasegate.schema_snapshot).
    type: list
    elements: dict
    default: []
  diff:
    description: >-
      Policy of the schema diff by C(policy) and C(allow), as in M(incomex.phasegate.schema_diff_gate). V(exact) compares
      with the rehearsal of the plan in O(run_directory).
    type: dict
    default: {policy: additions_only}
  search_path:
    description: Schemas to search between C(pg_catalog) and C(pg_temp).
    type: list
    elements: str
    default: []
  ddl_file:
    description: Path of the frozen DDL on the target host, for the built-in check C(ddl_checksum).
    type: path
  ddl_sha256:
    description: Expected SHA-256 of O(ddl_file).
    type: str
seealso:
  - module: incomex.phasegate.migrate
  - module: incomex.phasegate.checks
  - module: incomex.phasegate.schema_diff_gate
"""

EXAMPLES = r"""
- name: C-08 | Verify
  incomex.phasegate.verify:
    container: postgres
    database: directus
    run_directory: "{{ run.run_directory }}"
    checks: "{{ phase.plan.phase.verify }}"
    measure: "{{ phase.plan.phase.measure }}"
    diff: "{{ phase.plan.phase.diff }}"
"""

RETURN = r"""
fingerprint:
  description: SHA-256 over all facts of the schema.
  returned: once the snapshot is taken
  type: str
checks:
  description: Every result, as M(incomex.phasegate.checks) returns them.
  returned: once the checks ran
  type: list
  elements: dict
summary:
  description: Number of passed checks and of all checks, such as V(17/17).
  returned: once the checks ran
  type: str
non_scope:
  description: The results of the non-scope statements with a query.
  returned: once the checks ran
  type: list
  elements: dict
measured:
  description: How the measured columns changed.
  returned: once the snapshot is taken
  type: list
  elements: dict
deviations:
  description: Measurements and row counts that differ from the declared ones, in a run directory without a migration.
  returned: once the snapshot is taken
  type: list
  elements: str
elsewhere:
  description:
    - Measurements and row counts that differ from the declared ones after a migration in this run directory.
    - Its own changes were compared before COMMIT; these are reported, because other sessions' changes are in them.
  returned: once the snapshot is taken
  type: list
  elements: str
text:
  description: The structural diff as text.
  returned: success
  type: str
lines:
  description: DDL lines of the two C(pg_dump) texts, as M(incomex.phasegate.schema_diff_gate) returns them.
  returned: success
  type: dict
"""

import os
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import CHECK_OPTIONS
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import DataExpectations
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.verification import (
    Verification,
    run_verification,
    verification_fields,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_json,
    resolved,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import IDENTITY_ARGUMENT
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import declared_parents
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import policy_for_plan


def plan_of(params: dict[str, Any]) -> dict[str, Any] | None:
    """Return the plan of the run, None when it has none."""
    path = RunDirectory(params["run_directory"]).plan_path
    return read_json(path) if os.path.isfile(path) else None


def policy_of(params: dict[str, Any]) -> Mapping[str, Any]:
    """Return the diff's policy; what ``exact`` compares with is in the plan of the run."""
    policy: Mapping[str, Any] = params["diff"]
    plan = plan_of(params)
    if policy.get("policy") != "exact" or plan is None:
        return policy
    return policy_for_plan({**plan, "phase": {**plan["phase"], "diff": policy}})


#: What of a phase decides whether its result is right, by the option's name.
_DECIDES = ("checks", "non_scope", "measure", "row_counts", "diff", "search_path")


def require_own(params: dict[str, Any]) -> None:
    """Raise ``PhaseGateError`` where a run's plan requires something else than what is given: it was reviewed, and this was not."""
    plan = plan_of(params)
    if plan is None:
        return
    phase = plan["phase"]
    own = {**phase, "checks": phase["verify"], "search_path": phase["settings"]["search_path"]}
    other = [name for name in _DECIDES if _given(params[name]) != _given(own[name])]
    if other:
        raise PhaseGateError(
            "C-08: this run has to meet what its own plan requires.",
            expected=f"{', '.join(other)} as in {RunDirectory(params['run_directory']).plan_path}",
            found="other values",
            next_step="give those of the run's plan",
        )


def _given(value: Any) -> Any:
    """Return a value without what is not given in it."""
    if isinstance(value, Mapping):
        return {name: _given(one) for name, one in value.items() if one is not None and one not in ([], {}, "")}
    return [_given(one) for one in value] if isinstance(value, (list, tuple)) else value


def wanted(params: dict[str, Any]) -> Verification:
    """Return what has to hold, from the module's parameters. Raises ``PhaseGateError``."""
    require_own(params)
    path, plan = params["ddl_file"], plan_of(params)
    return Verification(
        checks=params["checks"],
        non_scope=params["non_scope"],
        declared=DataExpectations.from_definition(params["measure"], params["row_counts"]),
        policy=policy_of(params),
        search_path=params["search_path"],
        identity=params["identity"] or {},
        required_sha256=params["ddl_sha256"],
        found_sha256=sha256_file(resolved(path)) if path and os.path.isfile(path) else None,
        parents=declared_parents(plan["phase"]) if plan else (),
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "identity": IDENTITY_ARGUMENT,
            "run_directory": {"type": "path", "required": True},
            "checks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": CHECK_OPTIONS,
                "mutually_exclusive": [("sql", "builtin")],
                "required_one_of": [("sql", "builtin")],
            },
            "non_scope": {"type": "list", "elements": "dict", "default": []},
            "measure": {"type": "list", "elements": "dict", "default": []},
            "row_counts": {"type": "list", "elements": "dict", "default": []},
            "diff": {"type": "dict", "default": {"policy": "additions_only"}},
            "search_path": {"type": "list", "elements": "str", "default": []},
            "ddl_file": {"type": "path"},
            "ddl_sha256": {"type": "str"},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False)
    artefacts = RunDirectory(module.params["run_directory"])
    result: dict[str, Any] = {}
    with errors_of(module, result):
        with Step(artefacts, Verified).running() as step:
            try:
                run_verification(Client.from_params(module.params), artefacts, wanted(module.params), step)
            finally:
                result.update(verification_fields(step.end))
        module.exit_json(changed=True, diff={"prepared": (step.end.diff or {})["text"] + "\n"}, **result)


if __name__ == "__main__":
    main()
