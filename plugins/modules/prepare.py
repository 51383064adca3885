#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open an execution and do what comes before its DDL (C-01 to C-06)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prepare
short_description: Open an execution, start its backup, snapshot the target and check it
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Does what M(incomex.phasegate.evidence) with V(state=open), M(incomex.phasegate.backup) in the background,
    M(incomex.phasegate.schema_snapshot) and M(incomex.phasegate.sql_checks) do, with what the plan declares, in one process.
  - The run is opened and its SQL frozen first (C-05). The backup (C-01, C-02) takes longest; the snapshot (C-03, C-04) and the
    preflight checks (C-06) go on beside it, and M(incomex.phasegate.migrate) waits for it.
  - A target that has the phase already is left alone; the run that applied it is returned.
  - A role that lacks a privilege which the statements of the plan or the dump need is refused before the backup, with the
    statement that grants it.
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.identity
  - incomex.phasegate.connection.opening
  - incomex.phasegate.connection.how_to_back_up
attributes:
  check_mode:
    support: full
    description: The target is looked at and the checks run; nothing is written and no backup is made.
  diff_mode:
    support: none
    description: There is nothing to compare.
  idempotent:
    support: partial
    description: Makes a new directory and a new backup unless the phase is applied.
options:
  root:
    required: true
  environment:
    required: true
  plan:
    required: true
  ddl_b64:
    required: true
  rollback_b64:
    required: true
"""

EXAMPLES = r"""
- name: C-01 ... C-06 | Open a run, start the backup, snapshot and check
  incomex.phasegate.prepare:
    container: postgres
    database: directus
    user: workflow_admin
    root: /var/lib/phasegate
    environment: prod
    identity:
      container: postgres
      database: directus
    plan: "{{ phase.plan }}"
    plan_sha256: "{{ phase.plan_sha256 }}"
    ddl_b64: "{{ phase.ddl_b64 }}"
    rollback_b64: "{{ phase.rollback_b64 }}"
  register: run
"""

RETURN = r"""
artefacts:
  description: The artefact directory. Empty in check mode when none exists.
  returned: once the run is open
  type: str
applied:
  description: Whether an earlier run committed the same DDL on this database; then O(ignore:artefacts) is that run's.
  returned: once the run is open
  type: bool
incomplete:
  description: Whether that run left a statement after its COMMIT, which M(incomex.phasegate.migrate) goes on with.
  returned: once the run is open
  type: bool
sealed:
  description: Whether the directory is sealed.
  returned: once the run is open
  type: bool
identity:
  description: Who the server is.
  returned: once the run is open
  type: dict
conditions:
  description: What was found around the phase, as M(incomex.phasegate.evidence) returns it.
  returned: once the run is open
  type: list
  elements: dict
fingerprint:
  description: Fingerprint of the schema before.
  returned: once the snapshot is taken
  type: str
checks:
  description: Every preflight result, as M(incomex.phasegate.sql_checks) returns them.
  returned: once the checks ran
  type: list
  elements: dict
summary:
  description: Passed and all, such as V(10/10).
  returned: once the checks ran
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _check_step
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_steps import BACKUP_ARGUMENTS, start, wanted_by
from ansible_collections.incomex.phasegate.plugins.module_utils._capture import Declared
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, file_error, run_step
from ansible_collections.incomex.phasegate.plugins.module_utils._moment import look, record_steps
from ansible_collections.incomex.phasegate.plugins.module_utils._opening import OPENING_ARGUMENTS, opened, warnings
from ansible_collections.incomex.phasegate.plugins.module_utils._runs import NotOpened

REQUIRED = ("root", "environment", "plan", "ddl_b64", "rollback_b64")


def prepare(client: Client, params: dict[str, Any], result: dict[str, Any], *, check_mode: bool) -> None:
    """Do C-01 to C-06 in the run of ``result``, which receives what there is to tell, also on failure."""
    plan = params["plan"]
    phase = plan["phase"]
    artefacts = Artefacts(result["artefacts"]) if result["artefacts"] else None
    if artefacts:
        start(client, artefacts, wanted_by(params))
        declared = Declared.from_definition(phase["measure"], phase["row_counts"])
        result.update(record_steps(client, artefacts, "before", declared))
    else:
        result.update(look(client))
    wanted = _check_step.Wanted(
        checks=phase["preflight"],
        non_scope=[],
        identity=params["identity"] or {},
        search_path=phase["settings"]["search_path"],
        ddl_file=artefacts.file("sql/" + plan["ddl"]["file"]) if artefacts else None,
        ddl_sha256=plan["ddl"]["sha256"],
    )
    with run_step(artefacts, "C-06") as step:
        try:
            _check_step.judge(client, wanted, step, check_mode=check_mode)
        finally:
            result.update({key: step.data[key] for key in ("checks", "summary") if key in step.data})


def main() -> None:
    """Run the module."""
    arguments = {**CONNECTION_ARGUMENTS, **OPENING_ARGUMENTS, **BACKUP_ARGUMENTS}
    arguments.update({name: {**OPENING_ARGUMENTS[name], "required": True} for name in REQUIRED})
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    client = Client.from_params(module.params)
    result: dict[str, Any] = {}
    try:
        result = opened(client, module.params, check_mode=module.check_mode)
        for line in warnings(result):
            module.warn(line)
        if not result["applied"]:
            prepare(client, module.params, result, check_mode=module.check_mode)
    except NotOpened as error:
        module.fail_json(msg=str(error), artefacts=error.artefacts.path)
    except OSError as error:
        module.fail_json(msg=str(file_error(error)), **result)
    except PhaseGateError as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
