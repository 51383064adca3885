#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the ledger of a database, and report its rows."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger
short_description: Make the ledger of a database, and report its rows
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - The ledger is a table with one row for each execution and rollback, written in the transaction of the phase. A plan has one
    execution in it, by a constraint of the table, whatever becomes of the run directories.
  - Makes the table, and its schema if there is none, unless it exists. An existing table is only checked.
  - Fails for a table of another form, with triggers, rules, policies or children, and for one that others can write to.
  - The table is a part of the schema as any other one. Make it before phases are rehearsed, and name it in O(ledger) of
    M(incomex.phasegate.run_open) and M(incomex.phasegate.run_prepare), by C(phasegate_ledger) in the inventory.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
attributes:
  check_mode:
    support: full
    details: Whether the table would be made. Nothing is made.
  diff_mode:
    support: none
    details: There is one form of the table.
  idempotent:
    support: full
    details: An existing ledger is not changed.
options:
  ledger:
    description: The table as C(schema.table), in small letters, digits and C(_). Its owner is the role of the connection.
    type: str
    required: true
seealso:
  - module: incomex.phasegate.run_open
"""

EXAMPLES = r"""
- name: Make the ledger
  incomex.phasegate.ledger:
    container: postgres
    database: directus
    user: workflow_admin
    ledger: phasegate.ledger
"""

RETURN = r"""
ledger:
  description: The table.
  returned: success
  type: str
rows:
  description: The executions and rollbacks, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    n: {description: Number of the row., type: str}
    kind: {description: 'V(execution) or V(rollback).', type: str}
    run: {description: Name of the run directory., type: str}
    phase: {description: The phase., type: str}
    revision: {description: Its revision., type: str}
    environment: {description: Name of the environment., type: str}
    plan_sha256: {description: SHA-256 of the plan., type: str}
    repetition: {description: How often a plan without a rehearsal was executed and rolled back before., type: str}
    undoes: {description: The execution that a rollback undoes., type: str}
    approvals_required: {description: Whether approvals were required., type: str}
    system_identifier: {description: The cluster at that time., type: str}
    xid: {description: Id of the transaction., type: str}
    executor: {description: The role that the server authenticated., type: str}
    at: {description: 'Time in UTC, by the clock of the server.', type: str}
    bundle: {description: Path of the run directory., type: str}
table:
  description: The rows as lines of text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.ledger import Ledger


def made(client: Client, ledger: Ledger, *, check_mode: bool) -> dict[str, Any]:
    """Make the ledger unless it exists, and return the module's result. Raises ``PhaseGateError``."""
    with client.session("phasegate:ledger") as session:
        if check_mode and not ledger.exists(session):
            return {"changed": True, "rows": [], "table": []}
        session.execute("BEGIN")
        changed = ledger.create(session)
        rows = ledger.rows(session)
        session.execute("COMMIT")
    return {"changed": changed, "rows": [row.as_dict() for row in rows], "table": [row.describe() for row in rows]}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**CONNECTION_ARGUMENTS, "ledger": {"type": "str", "required": True}}, supports_check_mode=True
    )
    with errors_of(module):
        ledger = Ledger.of(module.params["ledger"])
        result = made(Client.from_params(module.params), ledger, check_mode=module.check_mode)
        module.exit_json(ledger=ledger.relation, **result)


if __name__ == "__main__":
    main()
