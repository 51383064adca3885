#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roll a committed phase back (C-09)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback
short_description: Roll a committed phase back, explicitly and provably
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Runs the pinned rollback SQL of a sealed execution in one transaction (C-09). It never happens by itself.
  - Before C(COMMIT) the whole schema must be, fact by fact, as it was before the phase; else the transaction is rolled back.
  - Refuses when objects of the phase hold data that would be lost, unless exactly that number of rows is accepted.
  - What the rollback cannot restore stands in the phase definition and in the report; it comes back from the backup only.
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.identity
attributes:
  check_mode:
    support: full
    description: The execution and the confirmation are judged; no transaction is opened.
  diff_mode:
    support: none
    description: The schema is as it was before the phase.
  idempotent:
    support: full
    description: In a run that has rolled back already nothing is done.
options:
  artefacts:
    description: The artefact directory of an open rollback run, with the rollback SQL frozen, a backup and a snapshot.
    type: path
  execution:
    description: The sealed artefact directory of the execution that is to be undone.
    type: path
    required: true
  confirm:
    description: The name of O(execution)'s directory, typed out by the operator.
    type: str
    default: ''
  accept_loss:
    description: The exact number of rows in objects of the phase that may be lost.
    type: int
    default: 0
  signatures_b64:
    description:
      - The reviewers' signatures over exactly this rollback, Base64, by a name. They are needed when the register of the
        cluster's reviewers says that a rollback needs approval, which is its default.
      - The refusal without them has the command that makes one.
    type: dict
    default: {}
  max_backup_age:
    description: How old the backup may be when the rollback starts, in seconds by the database server's clock (G-2).
    type: int
    default: 3600
  lock_attempts:
    description: How often the transaction is tried in all when a lock is not granted in time.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: C-09 | Roll back
  incomex.phasegate.rollback:
    container: postgres
    database: directus
    user: workflow_admin
    artefacts: "{{ run.artefacts }}"
    execution: /var/lib/phasegate/alpha_prod_20260516T031200Z
    confirm: alpha_prod_20260516T031200Z
"""

RETURN = r"""
outcome:
  description: V(COMMITTED), V(ROLLED_BACK), V(NOT_STARTED) or V(UNKNOWN), of the rollback's own transaction.
  returned: except in check mode
  type: str
restored:
  description: Whether the schema's fingerprint is the one of before the phase.
  returned: success, except in check mode
  type: bool
losses:
  description: What was lost, object by object.
  returned: success, except in check mode
  type: list
  elements: dict
  contains:
    what: {description: The object., type: str}
    rows: {description: Number of rows., type: int}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._approvals import unpacked
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, run_step
from ansible_collections.incomex.phasegate.plugins.module_utils._execute import Request, read_frozen
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import IDENTITY_ARGUMENT
from ansible_collections.incomex.phasegate.plugins.module_utils._report_text import migration_log
from ansible_collections.incomex.phasegate.plugins.module_utils._rollback import Undo, roll_back
from ansible_collections.incomex.phasegate.plugins.module_utils._runs import (
    COMMAND,
    ROLLBACK,
    committed_outcome,
    look,
    plan_of_execution,
    require_confirmation,
)


def told(data: dict[str, Any]) -> dict[str, Any]:
    """Return what the caller learns of a rollback."""
    return {key: data[key] for key in ("outcome", "restored", "losses", "unchanged") if key in data}


def run(client: Client, params: dict[str, Any], artefacts: Artefacts, undo: Undo) -> dict[str, Any]:
    """Run C-09 in an open run."""
    artefacts.require_run()
    before = committed_outcome(client, artefacts, COMMAND[ROLLBACK])
    if before is not None:
        return {"changed": False, **told(before)}
    # the plan of the evidence that is undone, whatever directory the run was opened with
    plan = plan_of_execution(undo.execution, look(client))
    with run_step(artefacts, "C-09") as step:
        request = Request(
            plan=plan,
            ddl=read_frozen(artefacts, plan["rollback"]["file"]),
            artefacts=artefacts,
            declared=params["identity"] or {},
            max_backup_age=params["max_backup_age"],
            lock_attempts=max(1, params["lock_attempts"]),
        )
        try:
            roll_back(client, request, undo, step)
        finally:
            step.file("logs/C-09.log", migration_log(step.data).encode("utf-8"))
    return {"changed": True, **told(step.data)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "identity": IDENTITY_ARGUMENT,
            "artefacts": {"type": "path"},
            "execution": {"type": "path", "required": True},
            "confirm": {"type": "str", "default": ""},
            "accept_loss": {"type": "int", "default": 0},
            "signatures_b64": {"type": "dict", "default": {}},
            "max_backup_age": {"type": "int", "default": 3600},
            "lock_attempts": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    params = module.params
    signatures, _ = unpacked(params["signatures_b64"], {})
    undo = Undo(Artefacts(params["execution"]), params["confirm"], params["accept_loss"], signatures)
    try:
        require_confirmation(undo.execution, undo.confirm)
        if module.check_mode:
            module.exit_json(changed=True, msg=f"would roll back {undo.name}")
        if params["artefacts"] is None:
            module.fail_json(msg="C-09 needs the artefact directory of an open run: set artefacts.")
        result = run(Client.from_params(params), params, Artefacts(params["artefacts"]), undo)
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
