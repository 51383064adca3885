#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open an execution and do what comes before its DDL (C-01 to C-06)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_prepare
short_description: Open a run, start its backup, take the snapshot and run the preflight checks
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Does in one process what M(incomex.phasegate.run_open), M(incomex.phasegate.backup) in the background,
    M(incomex.phasegate.schema_snapshot) and M(incomex.phasegate.checks) do, with what the plan declares.
  - The run is opened and its SQL frozen first (C-05). The backup (C-01, C-02) takes longest. The snapshot (C-03, C-04) and the
    preflight checks (C-06) run in parallel with it, and M(incomex.phasegate.migrate) waits for it.
  - If the phase is already applied, nothing is done and the run that applied it is returned.
  - Fails before the backup if the role lacks a privilege that the statements of the plan or the dump need. The message has the
    statement that grants it.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
  - incomex.phasegate._identity
  - incomex.phasegate._run
  - incomex.phasegate._backup
  - incomex.phasegate._targets
attributes:
  check_mode:
    support: full
    details: The target is queried and the checks run. Nothing is written and no backup is made.
  diff_mode:
    support: N/A
    details: A new directory has nothing to compare with.
  idempotent:
    support: partial
    details: Creates a new directory and a new backup, unless the phase is already applied.
options:
  root:
    required: true
  environment:
    required: true
  plan:
    required: true
  source:
    required: true
seealso:
  - module: incomex.phasegate.run_open
  - module: incomex.phasegate.migrate
  - module: incomex.phasegate.run_seal
"""

EXAMPLES = r"""
- name: C-01 ... C-06 | Open a run, start the backup, take the snapshot and run the checks
  incomex.phasegate.run_prepare:
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
    source: "{{ phase.source }}"
  register: run
"""

RETURN = r"""
run_directory:
  description: The run directory. Empty in check mode, unless the phase is already applied.
  returned: once the run is open
  type: str
applied:
  description: Whether an earlier run committed the same DDL on this database. RV(run_directory) is then that run's.
  returned: once the run is open
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
  returned: once the run is open
  type: list
  elements: str
incomplete:
  description: >-
    Whether that run did not complete the statements after C(COMMIT). M(incomex.phasegate.migrate) then runs the remaining ones.
  returned: once the run is open
  type: bool
sealed:
  description: Whether the directory is sealed.
  returned: once the run is open
  type: bool
identity:
  description: The identity of the server.
  returned: once the run is open
  type: dict
lock:
  description:
    - In check mode the failed gate G-7 if another session or process holds a lock of this database; the module then fails after
      it evaluated the rest. Otherwise empty.
  returned: success, and failure in check mode
  type: dict
gates:
  description: The gates, as M(incomex.phasegate.run_open) returns them.
  returned: in check mode, for the declared target
  type: list
  elements: dict
conditions:
  description: The pre-run conditions, as M(incomex.phasegate.run_open) returns them.
  returned: once the run is open
  type: list
  elements: dict
fingerprint:
  description: Fingerprint of the schema before the migration.
  returned: once the snapshot is taken
  type: str
checks:
  description: Every preflight result, as M(incomex.phasegate.checks) returns them.
  returned: once the checks ran
  type: list
  elements: dict
summary:
  description: Number of passed checks and of all checks, such as V(10/10).
  returned: once the checks ran
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.steps import (
    BACKUP_ARGUMENTS,
    backup_options,
    start_backup,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import PreflightRun
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import DataExpectations
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import (
    fetch_fingerprint,
    record_state_steps,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import noted, raise_noted
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, fail_with
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._run.check_step import CheckRun, run_check_step
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import NotOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._run.opening import (
    OPENING_ARGUMENTS,
    open_or_adopt,
    stop_at_held_lock,
    warnings,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import sections_for_plan

REQUIRED = ("root", "environment", "plan", "source")


def prepare(client: Client, params: dict[str, Any], result: dict[str, Any], *, check_mode: bool) -> None:
    """Do C-01 to C-06 in the run of ``result``, which receives the results, also on failure."""
    plan = params["plan"]
    phase, sections = plan["phase"], sections_for_plan(plan)
    artefacts = RunDirectory(result["run_directory"]) if result["run_directory"] else None
    if artefacts:
        start_backup(client, artefacts, backup_options(params))
        declared = DataExpectations.from_definition(phase["measure"], phase["row_counts"])
        result.update(record_state_steps(client, artefacts, "before", declared, sections))
    else:
        result.update(fetch_fingerprint(client, sections))
    wanted = CheckRun(
        checks=phase["preflight"],
        non_scope=[],
        identity=params["identity"] or {},
        search_path=phase["settings"]["search_path"],
        # check mode freezes nothing: it checks the file that would be frozen
        ddl_file=artefacts.file("sql/" + plan["ddl"]["file"])
        if artefacts
        else os.path.join(params["files"] or "", plan["ddl"]["file"]),
        ddl_sha256=plan["ddl"]["sha256"],
    )
    with Step(artefacts, PreflightRun).running() as step:
        try:
            run_check_step(client, wanted, step, check_mode=check_mode)
        finally:
            known = step.end.to_entry()
            result.update({key: known[key] for key in ("checks", "summary") if key in known})
            judged = {gate["id"]: gate for gate in known.get("gates", ())}
            if "gates" in result:
                result["gates"] = [judged.get(gate["id"], gate) for gate in result["gates"]]


def main() -> None:
    """Run the module."""
    arguments = {**CONNECTION_ARGUMENTS, **OPENING_ARGUMENTS, **BACKUP_ARGUMENTS}
    arguments.update({name: {**OPENING_ARGUMENTS[name], "required": True} for name in REQUIRED})
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    client = Client.of_module(module)
    result: dict[str, Any] = {}
    with errors_of(module, result):
        try:
            result.update(open_or_adopt(client, module.params, check_mode=module.check_mode))
        except NotOpened as error:
            fail_with(module, error, run_directory=error.artefacts.path)
        problems = result.pop("problems", None)
        for line in warnings(result):
            module.warn(line)
        if not result["applied"]:
            with noted(problems):
                prepare(client, module.params, result, check_mode=module.check_mode)
        with noted(problems):
            stop_at_held_lock(result)
        raise_noted(problems)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
