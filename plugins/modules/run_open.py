#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open a run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_open
short_description: Open a run of a phase and create its run directory
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Creates C(<root>/<phase>_<environment>_<UTC stamp>/) with the plan, a hash-chained journal and the frozen SQL (C-05), after it
    checked the identity of the target. If an earlier run of the same DDL has committed on this database, that run is returned.
  - A rollback is refused before its backup if a gate fails that needs none, or if it would lose rows that are not accepted.
    M(incomex.phasegate.rollback) evaluates both again.
  - If reviewers are registered, and for a plan that was rehearsed or requires other phases, every gate that needs neither
    the backup nor the transaction is evaluated. M(incomex.phasegate.migrate) evaluates them again.
  - Refuses a rehearsed plan whose execution was rolled back on this database, the rollback of an execution that was rolled back
    already, and that of one that a later execution of its phase follows. So no approval is used twice.
  - Acquires this database's lock (G-7), which a process on the target host holds until the run is sealed. Fails if another
    session holds it or the lock of the transaction, with the role of that session, and with the run's name and who opened it if a
    run on this host recorded that session. That process also locks a file below C(<root>/locks) on the target host. A rehearsal
    modifies nothing there and acquires no lock.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
  - incomex.phasegate._identity
  - incomex.phasegate._run
  - incomex.phasegate._loss
attributes:
  check_mode:
    support: full
    details: Nothing is written and RV(run_directory) is empty. All that would stop the run is evaluated, also after a failure, and
      reported as one error.
  diff_mode:
    support: N/A
    details: A new directory has nothing to compare with.
  idempotent:
    support: partial
    details: A new directory is created, unless the phase is already applied.
options:
  root:
    required: true
  environment:
    required: true
  kind:
    description:
      - The purpose of the run. V(rehearsal) never modifies the target itself.
      - With O(execution) the run is a rollback.
    type: str
    choices: [execute, rehearsal]
    default: execute
  execution:
    description:
      - The sealed run directory of the execution to roll back. Required unless O(plan) is given.
      - The plan and the rollback SQL are taken from there, after its seal was checked.
    type: path
  confirm:
    description: The name of the directory in O(execution), typed by the operator. Without it no rollback is opened.
    type: str
  signatures:
    description: Paths of the files with the reviewers' signatures over exactly this rollback, as in M(incomex.phasegate.rollback).
    type: list
    elements: path
    default: []
  format:
    description: The format in which the run will be backed up, as in M(incomex.phasegate.backup), to check the free space.
    type: str
    choices: [custom, directory, basebackup]
    default: custom
seealso:
  - module: incomex.phasegate.run_prepare
  - module: incomex.phasegate.run_seal
  - module: incomex.phasegate.migrate
"""

EXAMPLES = r"""
- name: Open a run
  incomex.phasegate.run_open:
    container: postgres
    database: directus
    root: /var/lib/phasegate
    environment: prod
    plan: "{{ phase.plan }}"
    plan_sha256: "{{ phase.plan_sha256 }}"
    source: "{{ phase.source }}"
  register: run

- name: Open the rollback of an execution
  incomex.phasegate.run_open:
    container: postgres
    database: directus
    root: /var/lib/phasegate
    environment: prod
    execution: /var/lib/phasegate/alpha_prod_20260516T031200Z
    confirm: alpha_prod_20260516T031200Z
"""

RETURN = r"""
run_directory:
  description: The run directory. Empty in check mode, unless the phase is already applied.
  returned: success, and failure if a directory was created
  type: str
applied:
  description: Whether an earlier run committed the same DDL on this database. RV(run_directory) is then that run's.
  returned: success
  type: bool
executed:
  description: >-
    Where RV(applied) is true, the definition that the phase was executed with, as C(phase), and file and SHA-256 of its DDL, as C(ddl).
    The phase is verified by it, whatever is given now.
  returned: if the phase is applied
  type: dict
remarks:
  description:
    - What happened to the database since that run, such as V(the database was renamed since, from a to b), or what of its changes is
      missing; also shown as warnings.
  returned: success
  type: list
  elements: str
incomplete:
  description:
    - Whether that run did not complete the statements after C(COMMIT). M(incomex.phasegate.migrate) then runs the remaining ones.
    - If that run is sealed, RV(run_directory) is an open copy of it.
  returned: success
  type: bool
sealed:
  description: Whether the directory is sealed.
  returned: success
  type: bool
lock:
  description:
    - In check mode the failed gate G-7 if another session or process holds a lock of this database; the module then fails after
      it evaluated the rest. Otherwise empty.
  returned: success, and failure in check mode
  type: dict
gates:
  description: The gates, each with C(id), C(status), C(title), C(expected), C(found) and C(next_step).
  returned: in check mode, for the declared target
  type: list
  elements: dict
conditions:
  description:
    - The pre-run conditions, each with C(id), C(status), C(expected), C(found) and C(next_step).
    - C(status) is V(OK), V(WARN), V(IGNORED) by the policy, or V(UNKNOWN) if the role is not allowed to read it. A V(STOP) is
      recorded in the journal of the run that it stopped.
  returned: success
  type: list
  elements: dict
plan:
  description: The plan of the execution.
  returned: success, with O(execution)
  type: dict
identity:
  description: The identity of the server.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import LOSS_ARGUMENTS
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import NAMES
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import EXECUTE, REHEARSAL
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import noted, raise_noted
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, fail_with
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import NotOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._run.opening import (
    OPENING_ARGUMENTS,
    open_or_adopt,
    stop_at_held_lock,
    warnings,
)


def main() -> None:
    """Run the module."""
    arguments: dict[str, Any] = {
        **CONNECTION_ARGUMENTS,
        **OPENING_ARGUMENTS,
        "kind": {"type": "str", "choices": [EXECUTE, REHEARSAL], "default": EXECUTE},
        "execution": {"type": "path"},
        "confirm": {"type": "str"},
        **LOSS_ARGUMENTS,
        "signatures": {"type": "list", "elements": "path", "default": []},
        "format": {"type": "str", "choices": list(NAMES), "default": "custom"},
    }
    arguments.update({name: {**arguments[name], "required": True} for name in ("root", "environment")})
    module = AnsibleModule(
        argument_spec=arguments,
        required_one_of=[("plan", "execution")],
        required_together=[("plan", "source")],
        supports_check_mode=True,
    )
    result: dict[str, Any] = {}
    with errors_of(module, result):
        try:
            result.update(open_or_adopt(Client.from_params(module.params), module.params, check_mode=module.check_mode))
        except NotOpened as error:
            fail_with(module, error, run_directory=error.artefacts.path)
        problems = result.pop("problems", None)
        for line in warnings(result):
            module.warn(line)
        with noted(problems):
            stop_at_held_lock(result)
        raise_noted(problems)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
