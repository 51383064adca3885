#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a phase's checks (C-06, C-08)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: checks
short_description: Run SQL checks in one read-only transaction and compare every answer
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Runs all checks in one C(READ ONLY), C(REPEATABLE READ) transaction of one session, so that they all see the same state.
  - A check with invalid SQL has the status C(FAIL) with the server's error and does not stop the following ones. The task fails
    if any check fails.
  - The module never modifies the database.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
  - incomex.phasegate._identity
  - incomex.phasegate._checks
attributes:
  check_mode:
    support: full
    details: The checks run. No file is written.
  diff_mode:
    support: N/A
    details: The module only reads the database.
  idempotent:
    support: full
    details: The database is only read, so RV(ignore:changed) is always false. The log in O(run_directory) is replaced.
options:
  non_scope:
    description: Statements about what the phase leaves alone. Those with O(non_scope[].sql) are run like the checks.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Name of the statement, such as V(NS-1).
        type: str
        required: true
      title:
        description: What is left alone.
        type: str
        default: ''
      sql:
        description: One query.
        type: str
      expect:
        description: As O(checks[].expect).
        type: raw
      only_if_exists:
        description: Relations without which the statement is not applicable.
        type: list
        elements: str
        default: []
      not_attempted:
        description: Whether no query can answer the statement; it then records that the run itself did not attempt it.
        type: bool
        default: false
  stage:
    description: When the checks run, V(preflight) before the migration (C-06) or V(verify) after it (C-08).
    type: str
    choices: [preflight, verify]
    default: preflight
  search_path:
    description: Schemas to search between C(pg_catalog) and C(pg_temp).
    type: list
    elements: str
    default: []
  run_directory:
    description: The run directory. Results go to its journal and to C(logs/). Without it nothing is written.
    type: path
  ddl_file:
    description: Path of the frozen DDL on the target host, for the built-in check C(ddl_checksum).
    type: path
  ddl_sha256:
    description: Expected SHA-256 of O(ddl_file).
    type: str
  diff_file:
    description: Result file of M(incomex.phasegate.schema_diff_gate), for the built-in check C(schema_diff).
    type: path
seealso:
  - module: incomex.phasegate.verify
  - module: incomex.phasegate.schema_diff_gate
  - module: incomex.phasegate.sha_gate
"""

EXAMPLES = r"""
- name: C-06 | Check the units before the migration
  incomex.phasegate.checks:
    container: postgres
    database: directus
    stage: preflight
    checks:
      - id: P-1
        title: 86 units
        sql: SELECT count(*) FROM public.tac_logical_unit
        expect: 86
"""

RETURN = r"""
checks:
  description: Every result, in the order of the checks.
  returned: once the checks ran
  type: list
  elements: dict
  contains:
    id: {description: Name of the check., type: str}
    title: {description: What is checked., type: str}
    status: {description: 'V(PASS), V(FAIL), or V(NOT RUN) if there is nothing to check yet.', type: str}
    expected: {description: The expected answer., type: str}
    found: {description: 'The answer, or the error.', type: str}
    milliseconds: {description: Time on the server., type: float}
summary:
  description: Number of passed checks and of all checks, such as V(10/10).
  returned: once the checks ran
  type: str
"""


from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import open_run_directory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import PreflightRun, Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import CHECK_OPTIONS, NON_SCOPE_OPTIONS
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import IDENTITY_ARGUMENT
from ansible_collections.incomex.phasegate.plugins.module_utils._run.check_step import CheckRun, run_check_step

# The command that the checks of each stage belong to.
STAGES = ("preflight", "verify")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "identity": IDENTITY_ARGUMENT,
            "checks": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": CHECK_OPTIONS,
                "mutually_exclusive": [("sql", "builtin")],
                "required_one_of": [("sql", "builtin")],
            },
            "non_scope": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": NON_SCOPE_OPTIONS,
            },
            "stage": {"type": "str", "choices": list(STAGES), "default": "preflight"},
            "search_path": {"type": "list", "elements": "str", "default": []},
            "run_directory": {"type": "path"},
            "ddl_file": {"type": "path"},
            "ddl_sha256": {"type": "str"},
            "diff_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = CheckRun(
        checks=params["checks"],
        non_scope=params["non_scope"],
        identity=params["identity"] or {},
        search_path=params["search_path"],
        ddl_file=params["ddl_file"],
        ddl_sha256=params["ddl_sha256"],
        diff_file=params["diff_file"],
    )
    result: dict[str, Any] = {"checks": [], "summary": ""}
    with errors_of(module, result):
        artefacts = open_run_directory(params["run_directory"], check_mode=module.check_mode)
        step = Step(artefacts, PreflightRun) if params["stage"] == "preflight" else Step(artefacts, Verified)
        with step.running():
            try:
                run_check_step(Client.from_params(params), wanted, step, check_mode=module.check_mode)
            finally:
                known = step.end.to_entry()
                result.update({key: known[key] for key in result if key in known})
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
