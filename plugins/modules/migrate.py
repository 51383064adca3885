#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a phase's DDL (C-07)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: migrate
short_description: Run a phase's DDL in one transaction that commits only what passes verification
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - The only module that changes the database (C-07).
  - Judges the gates itself, from the files of the artefact directory and from the server, whatever a playbook did before.
  - Runs the plan's statements, byte for byte those of the frozen file, in one transaction. Before C(COMMIT), still inside,
    it compares row counts and the trailing C(SELECT) with what the phase declares, runs the verification checks, and
    judges the structural diff. Any miss rolls back.
  - Statements with C(CONCURRENTLY) at the end of the file run after C(COMMIT), one by one; each is journaled before and after, and
    looked at in the catalog. In a run that committed without completing them, the module goes on with what is left.
  - The transaction id is in the journal before C(COMMIT) is sent. When the answer is lost, the outcome is looked up on the
    server with C(pg_xact_status).
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.identity
attributes:
  check_mode:
    support: full
    description: The gates that can be judged without a run are judged and returned; no transaction is opened.
  diff_mode:
    support: full
    description: Shows the structural changes.
  idempotent:
    support: full
    description: In a run that has committed already nothing is done, but for statements after C(COMMIT) that it left.
options:
  artefacts:
    description: The artefact directory of an open run, with C(sql/) frozen and C-01 to C-06 done.
    type: path
  plan:
    description: The plan as M(incomex.phasegate.phase_plan) returns it.
    type: dict
    required: true
  max_backup_age:
    description: How old the backup may be when the migration starts, in seconds by the database server's clock (G-2).
    type: int
    default: 3600
  verify:
    description:
      - Whether C-08 follows in the same process once the DDL has committed, as M(incomex.phasegate.verify) does it with what the
        plan declares.
    type: bool
    default: false
  seal:
    description:
      - Whether the run is sealed in the same process once C-08 has passed, as M(incomex.phasegate.evidence) with V(state=sealed)
        does it. Needs O(verify). A run that failed is left open, for the reason to be sealed with it.
    type: bool
    default: false
  seal_key:
    description: As O(incomex.phasegate.evidence#module:seal_key), for O(seal).
    type: path
  lock_attempts:
    description:
      - How often the transaction is tried in all when a lock is not granted within the phase's C(lock_timeout).
      - Between attempts the module waits 0.5 to 1 s, doubled every time. No other error is tried again.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: C-07 | Migrate
  incomex.phasegate.migrate:
    container: postgres
    database: directus
    user: workflow_admin
    identity:
      container: postgres
      database: directus
    artefacts: "{{ run.artefacts }}"
    plan: "{{ phase.plan }}"
"""

RETURN = r"""
outcome:
  description: V(COMMITTED), V(ROLLED_BACK), V(NOT_STARTED) or V(UNKNOWN).
  returned: except in check mode
  type: str
unchanged:
  description: Whether the schema's fingerprint after the rollback is the one before; the details are in C(logs/C-07.log).
  returned: on failure, when the server could be asked
  type: bool
gates:
  description: The gates that were judged.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: V(G-1) to V(G-11)., type: str}
    title: {description: What the gate is about., type: str}
    status: {description: 'V(PASS), V(FAIL), V(NOT ENFORCED) or V(NOT REACHED).', type: str}
    expected: {description: What had to hold., type: str}
    found: {description: What was found., type: str}
    next_step: {description: What to do about a failed gate., type: str}
gate_table:
  description: The gates as lines for people.
  returned: in check mode
  type: list
  elements: str
transaction:
  description: What happened inside the transaction.
  returned: when it was opened
  type: dict
  contains:
    xid: {description: Transaction id., type: str}
    pid: {description: Process id of the server's backend., type: int}
    attempts: {description: Which attempt this is., type: int}
    statements: {description: 'Number, tag, line, rows and milliseconds of every statement.', type: list, elements: dict}
    result: {description: Rows of the trailing C(SELECT)., type: list, elements: dict}
    preflight: {description: Preflight results inside the transaction., type: list, elements: dict}
    checks: {description: Verification results before COMMIT., type: list, elements: dict}
    measured: {description: How the measured columns moved., type: list, elements: dict}
    diff: {description: The structural diff and its verdict., type: dict}
sealed:
  description: The summary, the report and the seal, as M(incomex.phasegate.evidence) returns them.
  returned: with O(seal), success
  type: dict
verification:
  description: What C-08 found, as M(incomex.phasegate.verify) returns it; empty unless O(verify) and committed.
  returned: once the run is known to be open
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _gates
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, run_step
from ansible_collections.incomex.phasegate.plugins.module_utils._execute import (
    Request,
    finish,
    gates_without_run,
    migrate,
    read_frozen,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import IDENTITY_ARGUMENT
from ansible_collections.incomex.phasegate.plugins.module_utils._outcome import COMMITTED
from ansible_collections.incomex.phasegate.plugins.module_utils._report_text import migration_log
from ansible_collections.incomex.phasegate.plugins.module_utils._runs import (
    COMMAND,
    EXECUTE,
    committed_outcome,
    events,
    incomplete,
    not_sealed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._seal import seal_and_sign
from ansible_collections.incomex.phasegate.plugins.module_utils._verify import Verification, told, verify


def require_backup(artefacts: Artefacts) -> None:
    """Wait for a backup that is still on its way. Raises ``PhaseGateError`` with its reason when it failed."""
    with artefacts.busy():
        failed = events(artefacts.journal.entries(), "C-01", "failed")
    if failed:
        raise PhaseGateError(str(failed[-1]["reason"]))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "identity": IDENTITY_ARGUMENT,
            "artefacts": {"type": "path"},
            "plan": {"type": "dict", "required": True},
            "max_backup_age": {"type": "int", "default": 3600},
            "lock_attempts": {"type": "int", "default": 3},
            "verify": {"type": "bool", "default": False},
            "seal": {"type": "bool", "default": False},
            "seal_key": {"type": "path", "no_log": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    client = Client.from_params(params)
    data: dict[str, Any] = {}
    verification: dict[str, Any] = {}
    sealed: dict[str, Any] = {}
    try:
        if module.check_mode:
            gates = gates_without_run(client, params["plan"], params["identity"] or {}, params["artefacts"])
            module.exit_json(
                changed=True, gates=[gate.as_dict() for gate in gates], gate_table=_gates.table(gates).splitlines()
            )
        if params["artefacts"] is None:
            module.fail_json(msg="C-07 needs the artefact directory of an open run: set artefacts.")
        artefacts = Artefacts(params["artefacts"])
        artefacts.require_run()
        before = committed_outcome(client, artefacts, COMMAND[EXECUTE])
        if before is None:
            require_backup(artefacts)
        elif not incomplete(artefacts):
            module.exit_json(changed=False, **before)
        request = Request(
            plan=params["plan"],
            ddl=read_frozen(artefacts, params["plan"]["ddl"]["file"]),
            artefacts=artefacts,
            declared=params["identity"] or {},
            max_backup_age=params["max_backup_age"],
            lock_attempts=max(1, params["lock_attempts"]),
        )
        with run_step(artefacts, "C-07") as step:
            data = step.data
            try:
                (migrate if before is None else finish)(client, request, step)
            finally:
                step.file("logs/C-07.log", migration_log(step.data).encode("utf-8"))
        if params["verify"]:
            with run_step(artefacts, "C-08") as step:
                verification = step.data
                wanted = Verification.of_plan(request.plan, request.declared, request.ddl_sha256)
                verify(client, artefacts, wanted, step)
        if params["verify"] and params["seal"]:
            sealed = seal_and_sign(artefacts, "", params["seal_key"])
    except OSError as error:
        committed = data.get("outcome") == COMMITTED
        module.fail_json(msg=str(not_sealed(params["artefacts"], error)), changed=committed)
    except PhaseGateError as error:
        known = {key: data[key] for key in ("outcome", "unchanged", "fingerprint") if key in data}
        committed = known.get("outcome") == COMMITTED
        # what C-08 and the seal could not write down is in the database all the same
        full = error.__cause__ if committed and isinstance(error.__cause__, OSError) else None
        msg = str(not_sealed(params["artefacts"], full) if full else error)
        module.fail_json(msg=msg, changed=committed, verification=told(verification), **known)
    difference = {"prepared": data["transaction"]["diff"].get("text", "")}
    module.exit_json(changed=True, diff=difference, verification=told(verification), sealed=sealed, **data)


if __name__ == "__main__":
    main()
