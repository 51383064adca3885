#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a phase's DDL (C-07)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: migrate
short_description: Run a phase's DDL in one transaction that commits only if verification passes
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - The only module that runs the DDL of a phase (C-07).
  - Evaluates the gates itself, from the files of the run directory and from the server, whatever the playbook did before.
  - Runs the plan's statements, byte for byte those of the frozen file, in one transaction. Before C(COMMIT), in the same
    transaction, it compares row counts and the trailing C(SELECT) with what the phase declares, runs the verification checks, and
    evaluates the structural diff. Any mismatch rolls the transaction back.
  - Statements with C(CONCURRENTLY) at the end of the file run after C(COMMIT), one by one. Each is recorded in the journal before
    and after, and checked in the catalog. In a run that committed without completing them, the module runs the remaining ones.
  - The transaction id is in the journal before C(COMMIT) is sent. If the answer is lost, C(pg_xact_status) on the server gives
    the outcome.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
  - incomex.phasegate._identity
attributes:
  check_mode:
    support: full
    details: The gates that do not need a run are evaluated and returned. No transaction is opened.
  diff_mode:
    support: full
    details: Returns the structural changes.
  idempotent:
    support: full
    details: In a run that has already committed it runs only the remaining statements after C(COMMIT), if any.
options:
  run_directory:
    description:
      - The directory of an open run, with the SQL frozen in C(sql/) and C-01 to C-06 done.
      - Required, except in check mode.
    type: path
  plan:
    description: The plan as M(incomex.phasegate.phase_plan) returns it.
    type: dict
    required: true
  max_backup_age:
    description: Maximum age of the backup at the start of the migration, in seconds by the database server's clock (G-2).
    type: int
    default: 3600
  verify:
    description:
      - Whether to run C-08 in the same process once the DDL has committed, as M(incomex.phasegate.verify) does, with what the
        plan declares.
    type: bool
    default: false
  seal:
    description:
      - Whether to seal the run in the same process once C-08 has passed, as M(incomex.phasegate.run_seal) does. Needs O(verify).
        A failed run stays open, so that the reason can be sealed with it.
    type: bool
    default: false
  seal_key:
    description: As O(incomex.phasegate.run_seal#module:seal_key), for O(seal).
    type: path
  timestamp_url:
    description: As O(incomex.phasegate.run_seal#module:timestamp_url), for O(seal).
    type: str
  lock_attempts:
    description:
      - Maximum number of attempts when a lock cannot be acquired within the phase's C(lock_timeout).
      - The module waits 0.5 to 1 s before the second attempt, and twice as long before each further one. No other error is
        retried.
    type: int
    default: 3
seealso:
  - module: incomex.phasegate.run_prepare
  - module: incomex.phasegate.verify
  - module: incomex.phasegate.rollback
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
    run_directory: "{{ run.run_directory }}"
    plan: "{{ phase.plan }}"
"""

RETURN = r"""
outcome:
  description: V(COMMITTED), V(ROLLED_BACK), V(NOT_STARTED) or V(UNKNOWN).
  returned: except in check mode
  type: str
unchanged:
  description: Whether the schema has the same fingerprint after the rollback as before. C(logs/C-07.log) has the details.
  returned: failure, if the server could be queried
  type: bool
gates:
  description: The gates that were evaluated.
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: V(G-1) to V(G-11)., type: str}
    title: {description: What the gate requires., type: str}
    status: {description: 'V(PASS), V(FAIL), V(NOT ENFORCED) or V(NOT REACHED).', type: str}
    expected: {description: What was expected., type: str}
    found: {description: What was found., type: str}
    next_step: {description: What to do about a failed gate., type: str}
    approvals: {description: For V(G-1) the signatures that it was evaluated from., type: list, elements: dict}
gate_table:
  description: The gates as lines of text.
  returned: in check mode
  type: list
  elements: str
transaction:
  description: What happened inside the transaction.
  returned: once it was opened
  type: dict
  contains:
    xid: {description: Transaction id., type: str}
    pid: {description: Process id of the server's backend., type: int}
    attempts: {description: Number of attempts., type: int}
    statements:
      description: Number, tag, line, rows and milliseconds of every statement, and when it began.
      type: list
      elements: dict
    locks: {description: 'Relation and mode of the locks held right before C(COMMIT).', type: list, elements: dict}
    result: {description: Rows of the trailing C(SELECT)., type: list, elements: dict}
    preflight: {description: Preflight results inside the transaction., type: list, elements: dict}
    checks: {description: Verification results before C(COMMIT)., type: list, elements: dict}
    measured: {description: How the measured columns changed., type: list, elements: dict}
    diff: {description: The structural diff and its verdict., type: dict}
sealed:
  description: The summary, the report and the seal, as M(incomex.phasegate.run_seal) returns them.
  returned: success, with O(seal)
  type: dict
verification:
  description: What C-08 found, as M(incomex.phasegate.verify) returns it. Empty without O(verify), and unless committed.
  returned: once the directory is known to be that of an open run
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import BackupMade, Migrated, Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.verification import (
    Verification,
    run_verification,
    verification_fields,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import (
    fail_with,
    given_params,
    run_directory_of,
    warn_unstamped,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import format_gate_table
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import IDENTITY_ARGUMENT
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_text import migration_log
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_and_sign
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    committed_outcome,
    is_incomplete,
    not_sealed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import (
    MigrationRequest,
    gates_without_run,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.migration import finish_migration, run_migration
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import read_frozen


def require_backup(artefacts: RunDirectory) -> None:
    """Wait for a backup in the background. Raises ``PhaseGateError`` with its reason when it failed."""
    with artefacts.busy():
        reason = newest_end(artefacts.journal.entries(), BackupMade).reason
    if reason:
        raise PhaseGateError(reason)


def seen(migrated: Step[Migrated] | None) -> dict[str, str | None]:
    """Return the outcome of C-07 as this module saw it: message and result have to agree."""
    return {"C-07": migrated.end.outcome if migrated is not None else None}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "identity": IDENTITY_ARGUMENT,
            "run_directory": {"type": "path"},
            "plan": {"type": "dict", "required": True},
            "max_backup_age": {"type": "int", "default": 3600},
            "lock_attempts": {"type": "int", "default": 3},
            "verify": {"type": "bool", "default": False},
            "seal": {"type": "bool", "default": False},
            "seal_key": {"type": "path", "no_log": False},
            "timestamp_url": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = given_params(module)
    client = Client.of_module(module)
    migrated: Step[Migrated] | None = None
    verified: Step[Verified] | None = None
    sealed: dict[str, Any] = {}
    try:
        if module.check_mode:
            gates = gates_without_run(client, params["plan"], params["identity"] or {}, params["run_directory"])
            module.exit_json(
                changed=True, gates=[gate.as_dict() for gate in gates], gate_table=format_gate_table(gates).splitlines()
            )
        artefacts = RunDirectory(run_directory_of(module, "C-07"))
        artefacts.require_run()
        before = committed_outcome(client, artefacts, Migrated)
        if before is None:
            require_backup(artefacts)
        elif not is_incomplete(artefacts):
            module.exit_json(changed=False, **before.to_entry())
        request = MigrationRequest(
            plan=params["plan"],
            ddl=read_frozen(artefacts, params["plan"]["ddl"]["file"]),
            artefacts=artefacts,
            declared=params["identity"] or {},
            max_backup_age=params["max_backup_age"],
            lock_attempts=max(1, params["lock_attempts"]),
        )
        migrated = Step(artefacts, Migrated)
        with migrated.running():
            try:
                (run_migration if before is None else finish_migration)(client, request, migrated)
            finally:
                migrated.file("logs/C-07.log", migration_log(migrated.end).encode("utf-8"))
        if params["verify"]:
            verified = Step(artefacts, Verified)
            with verified.running():
                wanted = Verification.of_plan(request.plan, request.declared, request.ddl_sha256)
                run_verification(client, artefacts, wanted, verified)
        if params["verify"] and params["seal"]:
            sealed = seal_and_sign(artefacts, "", params["seal_key"], params["timestamp_url"])
            warn_unstamped(module, sealed)
    except OSError as error:
        committed = migrated is not None and migrated.end.outcome == TransactionOutcome.COMMITTED
        fail_with(module, not_sealed(params["run_directory"], error, seen(migrated)), changed=committed)
    except PhaseGateError as error:
        data = migrated.end.to_entry() if migrated is not None else {}
        known = {key: data[key] for key in ("outcome", "unchanged", "fingerprint") if key in data}
        committed = known.get("outcome") == TransactionOutcome.COMMITTED
        # what C-08 and the seal could not write down is in the database all the same
        full = error.__cause__ if committed and isinstance(error.__cause__, OSError) else None
        problem = not_sealed(params["run_directory"], full, seen(migrated)) if full else error
        verification = verification_fields(verified.end) if verified else {}
        fail_with(module, problem, changed=committed, verification=verification, **known)
    assert migrated is not None, "C-07 ran or the module has ended"
    data = migrated.end.to_entry()
    difference = {"prepared": data["transaction"]["diff"].get("text", "")}
    module.exit_json(
        changed=True,
        diff=difference,
        verification=verification_fields(verified.end) if verified else {},
        sealed={key: value for key, value in sealed.items() if key != "stop"},
        **data,
    )


if __name__ == "__main__":
    main()
