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
  - Takes the snapshot after, compares it with the one before, judges the measured data, and runs every check (C-08). All of it
    is done before the first failure is reported.
  - It is the composition of M(incomex.phasegate.schema_snapshot), M(incomex.phasegate.schema_diff_gate) and
    M(incomex.phasegate.sql_checks) in one call.
  - The module never modifies the database, and a failure rolls nothing back.
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.identity
  - incomex.phasegate.connection.checks
attributes:
  check_mode:
    support: full
    description: Nothing is done, since nothing was migrated.
  diff_mode:
    support: full
    description: Shows the structural changes.
  idempotent:
    support: full
    description: The database is only read; the files in the directory are replaced.
options:
  artefacts:
    description: The artefact directory with the snapshot before.
    type: path
    required: true
  non_scope:
    description: Statements about what the phase leaves alone, as M(incomex.phasegate.sql_checks) has them.
    type: list
    elements: dict
    default: []
  measure:
    description: Measured columns, as M(incomex.phasegate.schema_snapshot) has them.
    type: list
    elements: dict
    default: []
  row_counts:
    description: Counted tables, as M(incomex.phasegate.schema_snapshot) has them.
    type: list
    elements: dict
    default: []
  diff:
    description: >-
      Policy of the schema diff by C(policy) and C(allow), as M(incomex.phasegate.schema_diff_gate) has them. V(exact) compares
      with the rehearsal of the plan that stands in O(artefacts).
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
    description: The SHA-256 that O(ddl_file) must have.
    type: str
"""

EXAMPLES = r"""
- name: C-08 | Verify
  incomex.phasegate.verify:
    container: postgres
    database: directus
    artefacts: "{{ run.artefacts }}"
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
  description: Every result, as M(incomex.phasegate.sql_checks) returns them.
  returned: once the checks ran
  type: list
  elements: dict
summary:
  description: Passed and all, such as V(17/17).
  returned: once the checks ran
  type: str
non_scope:
  description: The non-scope statements that the database can answer.
  returned: once the checks ran
  type: list
  elements: dict
measured:
  description: How the measured columns moved.
  returned: once the snapshot is taken
  type: list
  elements: dict
deviations:
  description: Measurements and row counts that are not as declared.
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

import json
import os
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _checks
from ansible_collections.incomex.phasegate.plugins.module_utils._capture import Declared
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, run_step, sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import IDENTITY_ARGUMENT
from ansible_collections.incomex.phasegate.plugins.module_utils._policy import of_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._verify import Verification, told, verify


def policy_of(params: dict[str, Any]) -> Mapping[str, Any]:
    """Return the diff's policy; what ``exact`` compares with stands in the plan of the run."""
    policy: Mapping[str, Any] = params["diff"]
    path = os.path.join(params["artefacts"], "plan.json")
    if policy.get("policy") != "exact" or not os.path.isfile(path):
        return policy
    with open(path, encoding="utf-8") as stream:
        plan = json.load(stream)
    return of_plan({**plan, "phase": {"diff": policy}})


def wanted(params: dict[str, Any]) -> Verification:
    """Return what has to hold, from the module's parameters."""
    path = params["ddl_file"]
    return Verification(
        checks=params["checks"],
        non_scope=params["non_scope"],
        declared=Declared.from_definition(params["measure"], params["row_counts"]),
        policy=policy_of(params),
        search_path=params["search_path"],
        identity=params["identity"] or {},
        required_sha256=params["ddl_sha256"],
        found_sha256=sha256_file(path) if path and os.path.isfile(path) else None,
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "identity": IDENTITY_ARGUMENT,
            "artefacts": {"type": "path", "required": True},
            "checks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": _checks.CHECK_OPTIONS,
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
        module.exit_json(changed=False, msg="check mode: nothing was migrated, so nothing is verified")
    artefacts = Artefacts(module.params["artefacts"])
    data: dict[str, Any] = {}
    try:
        with run_step(artefacts, "C-08") as step:
            data = step.data
            verify(Client.from_params(module.params), artefacts, wanted(module.params), step)
    except PhaseGateError as error:
        module.fail_json(msg=str(error), **told(data))
    module.exit_json(changed=True, diff={"prepared": data["diff"]["text"] + "\n"}, **told(data))


if __name__ == "__main__":
    main()
