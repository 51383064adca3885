#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""List the runs of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runs_info
short_description: List the runs of a host, what undoes what, and what is in place
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Lists the run directories right below O(root) by their journals. What ran when, by whom, on which database, how it ended, which rollback
    undid which execution, which phases are in place now, which run is not finished, and whether it is sealed and signed.
    No database connection is needed.
  - The journals are read as they are. M(incomex.phasegate.bundle_info) shows whether somebody changed them.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
  - incomex.phasegate._attributes.read_only
options:
  root:
    description: Directory of all runs on the target host.
    type: path
    required: true
  phase:
    description: Only runs of this phase.
    type: str
seealso:
  - module: incomex.phasegate.bundle_info
  - module: incomex.phasegate.ledger
"""

EXAMPLES = r"""
- name: List the runs of phase alpha
  incomex.phasegate.runs_info:
    root: /var/lib/phasegate
    phase: alpha
"""

RETURN = r"""
runs:
  description: Every run, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    bundle: {description: Name of its directory., type: str}
    kind: {description: "V(execute), V(rehearsal), V(rollback) or V(verification).", type: str}
    phase: {description: The phase., type: str}
    environment: {description: The environment., type: str}
    host: {description: The inventory's name of the host., type: str}
    database: {description: The database; empty for a run that was not opened., type: str}
    system_identifier: {description: Its cluster., type: str}
    opened: {description: "When it began, in UTC.", type: str}
    operator: {description: Who started it., type: str}
    outcome: {description: "The outcome that was sealed; V(RUNNING) or V(INTERRUPTED) without a seal.", type: str}
    warnings: {description: "What nobody vouched for, as in its report, such as V(approvals were not enforced).", type: list}
    committed: {description: "Whether the transaction of an execution or rollback committed, by its journal.", type: bool}
    state: {description: "Of an execution that committed: V(in place), V(rolled back) or V(continued); V(copy) for the copy of a listed run.", type: str}
    undoes: {description: The execution that a rollback was about., type: str}
    undone_by: {description: The rollback that undid an execution., type: str}
    continues: {description: The runs that it goes on with., type: list}
    sealed: {description: Whether it has a seal., type: bool}
    signer: {description: "Fingerprint that the seal's signature claims, or V(UNSIGNED).", type: str}
    unreadable: {description: Why its journal cannot be read., type: str}
    sealed_as: {description: "The name that it was sealed with, if its directory was renamed or copied; else empty.", type: str}
lines:
  description: The same as a table of text, and what is in place or needs attention.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import list_runs, run_lines


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "required": True}, "phase": {"type": "str"}},
        supports_check_mode=True,
    )
    with errors_of(module):
        runs = list_runs(module.params["root"], module.params["phase"] or "")
        module.exit_json(changed=False, runs=[one.as_dict() for one in runs], lines=run_lines(runs))


if __name__ == "__main__":
    main()
