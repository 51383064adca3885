#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a phase's checks (C-06, C-08)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sql_checks
short_description: Run SQL checks in one read-only transaction and judge every answer
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Runs all checks in one C(READ ONLY), C(REPEATABLE READ) transaction of one session, so that they see one state.
  - A check whose SQL fails is a FAIL with its error and does not stop the others. The task fails when any check fails.
  - The module never modifies the database.
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.identity
  - incomex.phasegate.connection.checks
attributes:
  check_mode:
    support: full
    description: The checks run; no file is written.
  diff_mode:
    support: none
    description: Nothing is changed.
  idempotent:
    support: full
    description: Nothing is changed.
options:
  non_scope:
    description: Statements about what the phase leaves alone. Those with O(non_scope[].sql) are checked like the checks.
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
        description: Relations without which the statement does not apply.
        type: list
        elements: str
        default: []
      not_attempted:
        description: The database cannot tell; the run itself did not attempt it.
        type: bool
        default: false
  step:
    description: The command that these checks are, V(C-06) for preflight and V(C-08) for verification.
    type: str
    choices: [C-06, C-08]
    default: C-06
  search_path:
    description: Schemas to search between C(pg_catalog) and C(pg_temp).
    type: list
    elements: str
    default: []
  artefacts:
    description: The artefact directory; the results go to its journal and to C(logs/). Without it nothing is written.
    type: path
  ddl_file:
    description: Path of the frozen DDL on the target host, for the built-in check C(ddl_checksum).
    type: path
  ddl_sha256:
    description: The SHA-256 that O(ddl_file) must have.
    type: str
  diff_file:
    description: Result file of M(incomex.phasegate.schema_diff_gate), for the built-in check C(schema_diff).
    type: path
"""

EXAMPLES = r"""
- name: C-06 | Check that the orders are in order
  incomex.phasegate.sql_checks:
    container: postgres
    database: directus
    checks:
      - id: P-1
        title: 86 units
        sql: SELECT count(*) FROM public.tac_logical_unit
        expect: 86
"""

RETURN = r"""
checks:
  description: Every result, in the order of the checks.
  returned: always, once the checks ran
  type: list
  elements: dict
  contains:
    id: {description: Name of the check., type: str}
    title: {description: What is checked., type: str}
    status: {description: V(PASS) or V(FAIL)., type: str}
    expected: {description: The expected answer., type: str}
    found: {description: 'The answer, or the error.', type: str}
    milliseconds: {description: Time on the server., type: float}
summary:
  description: Passed and all, such as V(10/10).
  returned: always, once the checks ran
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _checks
from ansible_collections.incomex.phasegate.plugins.module_utils._check_step import Wanted, judge
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import open_directory, run_step
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import IDENTITY_ARGUMENT


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
                "options": _checks.CHECK_OPTIONS,
                "mutually_exclusive": [("sql", "builtin")],
                "required_one_of": [("sql", "builtin")],
            },
            "non_scope": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": _checks.NON_SCOPE_OPTIONS,
            },
            "step": {"type": "str", "choices": ["C-06", "C-08"], "default": "C-06"},
            "search_path": {"type": "list", "elements": "str", "default": []},
            "artefacts": {"type": "path"},
            "ddl_file": {"type": "path"},
            "ddl_sha256": {"type": "str"},
            "diff_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = Wanted(
        checks=params["checks"],
        non_scope=params["non_scope"],
        identity=params["identity"] or {},
        search_path=params["search_path"],
        ddl_file=params["ddl_file"],
        ddl_sha256=params["ddl_sha256"],
        diff_file=params["diff_file"],
    )
    data: dict[str, Any] = {}
    try:
        artefacts = open_directory(params["artefacts"], check_mode=module.check_mode)
        with run_step(artefacts, params["step"]) as step:
            data = step.data
            judge(Client.from_params(params), wanted, step, check_mode=module.check_mode)
    except PhaseGateError as error:
        module.fail_json(msg=str(error), checks=data.get("checks", []), summary=data.get("summary", ""))
    module.exit_json(changed=False, checks=data["checks"], summary=data["summary"])


if __name__ == "__main__":
    main()
