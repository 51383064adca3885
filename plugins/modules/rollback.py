#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roll a committed phase back (C-09)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback
short_description: Roll a committed phase back
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Runs the pinned rollback SQL of a sealed execution in one transaction (C-09). Nothing else starts it.
  - Before C(COMMIT) the whole schema must have the same facts as before the phase; otherwise the transaction is rolled back.
  - Fails if objects of the phase contain data that would be lost, unless that number of rows is accepted.
  - The phase definition and the report list what the rollback cannot restore. It can be restored from the backup only.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
  - incomex.phasegate._identity
  - incomex.phasegate._loss
attributes:
  check_mode:
    support: full
    details: The confirmation is checked. No transaction is opened.
  diff_mode:
    support: none
    details: The schema is the one of before the phase, whose execution recorded the differences.
  idempotent:
    support: full
    details: In a run that has already rolled back, nothing is done.
options:
  run_directory:
    description:
      - The directory of an open rollback run, with the rollback SQL frozen, a backup and a snapshot.
      - Required, except in check mode.
    type: path
  execution:
    description: The sealed run directory of the execution to roll back.
    type: path
    required: true
  confirm:
    description: The name of O(execution)'s directory, typed by the operator.
    type: str
  signatures:
    description:
      - Paths of the files with the reviewers' signatures over exactly this rollback, on the controller. They are required if the register of the
        cluster's reviewers requires approval of a rollback, which is its default.
      - Without them, the error message has the command that makes one.
      - Signatures over the C(plan.json) of the execution are accepted, too. They take the place of those in its bundle that count no
        longer, such as by a key that was revoked since.
    type: list
    elements: path
    default: []
  files:
    description: The directory on the target with the copied signatures. Set by the action; a value given here is ignored.
    type: path
  max_backup_age:
    description: Maximum age of the backup at the start of the rollback, in seconds by the database server's clock (G-2).
    type: int
    default: 3600
  lock_attempts:
    description: Maximum number of attempts when a lock cannot be acquired in time.
    type: int
    default: 3
seealso:
  - module: incomex.phasegate.migrate
  - module: incomex.phasegate.run_open
"""

EXAMPLES = r"""
- name: C-09 | Roll back
  incomex.phasegate.rollback:
    container: postgres
    database: directus
    user: workflow_admin
    run_directory: "{{ run.run_directory }}"
    execution: /var/lib/phasegate/alpha_prod_20260516T031200Z
    confirm: alpha_prod_20260516T031200Z
"""

RETURN = r"""
outcome:
  description: V(COMMITTED), V(ROLLED_BACK), V(NOT_STARTED) or V(UNKNOWN), of the rollback's own transaction.
  returned: success, except in check mode
  type: str
restored:
  description: Whether the schema has the same fingerprint as before the phase.
  returned: success, except in check mode
  type: bool
losses:
  description: Rows that were lost, by object.
  returned: success, except in check mode
  type: list
  elements: dict
  contains:
    what: {description: The object., type: str}
    rows: {description: Number of rows., type: int}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import signatures_in
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import LOSS_ARGUMENTS, AcceptedLoss
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import RolledBack
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import resolved
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, run_directory_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import IDENTITY_ARGUMENT
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_text import migration_log
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    committed_outcome,
    fetch_identity,
    plan_of_execution,
    require_confirmation,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import MigrationRequest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import RollbackRequest, run_rollback
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import read_frozen


def result_of(end: RolledBack) -> dict[str, Any]:
    """Return the module's result for a rollback."""
    known = end.to_entry()
    return {key: known[key] for key in ("outcome", "restored", "losses", "unchanged") if key in known}


def run(client: Client, params: dict[str, Any], artefacts: RunDirectory, undo: RollbackRequest) -> dict[str, Any]:
    """Run C-09 in an open run."""
    artefacts.require_run()
    before = committed_outcome(client, artefacts, RolledBack)
    if before is not None:
        return {"changed": False, **result_of(before)}
    # the plan of the evidence that is undone, whatever directory the run was opened with
    plan = plan_of_execution(undo.execution, fetch_identity(client))
    with Step(artefacts, RolledBack).running() as step:
        request = MigrationRequest(
            plan=plan,
            ddl=read_frozen(artefacts, plan["rollback"]["file"]),
            artefacts=artefacts,
            declared=params["identity"] or {},
            max_backup_age=params["max_backup_age"],
            lock_attempts=max(1, params["lock_attempts"]),
        )
        try:
            run_rollback(client, request, undo, step)
        finally:
            step.file("logs/C-09.log", migration_log(step.end).encode("utf-8"))
    return {"changed": True, **result_of(step.end)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "identity": IDENTITY_ARGUMENT,
            "run_directory": {"type": "path"},
            "execution": {"type": "path", "required": True},
            "confirm": {"type": "str"},
            **LOSS_ARGUMENTS,
            "signatures": {"type": "list", "elements": "path", "default": []},
            "files": {"type": "path"},
            "max_backup_age": {"type": "int", "default": 3600},
            "lock_attempts": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    params = module.params
    signatures = signatures_in(params["files"])
    with errors_of(module):
        accepted = AcceptedLoss.of(params)
        undo = RollbackRequest(
            RunDirectory(resolved(params["execution"])), params["confirm"] or "", accepted, signatures
        )
        require_confirmation(undo.execution, undo.confirm)
        if module.check_mode:
            module.exit_json(changed=True)
        artefacts = RunDirectory(run_directory_of(module, "C-09"))
        module.exit_json(**run(Client.from_params(params), params, artefacts, undo))


if __name__ == "__main__":
    main()
