#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare two schema snapshots and enforce a policy (VA-16)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_diff_gate
short_description: Compare two schema snapshots and enforce a policy
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Compares two snapshots of M(incomex.phasegate.schema_snapshot) fact by fact, classifies every change, and fails if a change
    violates the policy. The message lists every such change with its value before and after.
  - Also counts the lines of the two C(pg_dump --schema-only) texts that begin with C(CREATE), C(ALTER) or C(DROP), as people do
    by hand. The counts are only recorded; the structural comparison decides.
  - The module neither connects to a database nor modifies one.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: The snapshots are compared. No file is written.
  diff_mode:
    support: full
    details: Returns the changed objects before and after.
  idempotent:
    support: full
    details: The same snapshots give the same result. RV(ignore:changed) is always false, and the files of the result are replaced.
options:
  run_directory:
    description:
      - Directory with C(schema/before.jsonl.gz), C(schema/after.jsonl.gz) and the C(.sql) texts beside them.
      - C(schema/diff.json) and C(schema/diff.txt) are written there.
    type: path
    required: true
  policy:
    description:
      - V(additions_only) permits changes that only add. V(unchanged) permits none.
      - V(exact) requires the fingerprint of the schema after to be O(fingerprint).
    type: str
    choices: [additions_only, exact, unchanged]
    default: additions_only
  allow:
    description: Additional changes to permit, by C(class), C(kind), C(schema) and C(object) pattern.
    type: list
    elements: dict
    default: []
  fingerprint:
    description: Required fingerprint of the schema after, for O(policy=exact).
    type: str
  enforce:
    description: Whether to fail if the policy is violated. Otherwise the verdict is only returned.
    type: bool
    default: true
seealso:
  - module: incomex.phasegate.schema_snapshot
  - module: incomex.phasegate.schema_drift
  - module: incomex.phasegate.sha_gate
"""

EXAMPLES = r"""
- name: Permit additions only
  incomex.phasegate.schema_diff_gate:
    run_directory: /var/lib/phasegate/alpha_prod_20260516T031200Z
    policy: additions_only
"""

RETURN = r"""
ok:
  description: Whether all changes are permitted.
  returned: once compared
  type: bool
message:
  description: The verdict, with every change that is not permitted.
  returned: once compared
  type: str
lines:
  description: DDL lines of the two C(pg_dump) texts.
  returned: once compared
  type: dict
  contains:
    removed: {description: Number of removed lines., type: int}
    added: {description: Number of added lines., type: int}
    text: {description: The lines., type: str}
changes:
  description: Every change.
  returned: once compared
  type: list
  elements: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.verification import diff_states, write_diff
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, fail_with
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot


def load(artefacts: RunDirectory, label: str) -> Snapshot:
    """Return a snapshot. Raises ``PhaseGateError`` when it was not taken."""
    path = artefacts.file(f"schema/{label}.jsonl.gz")
    if not os.path.isfile(path):
        raise PhaseGateError(
            f"The snapshot {label} is missing.",
            expected=path,
            found="no such file",
            next_step=f"take it with module schema_snapshot, label: {label}",
        )
    return Snapshot.load(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run_directory": {"type": "path", "required": True},
            "policy": {"type": "str", "choices": ["additions_only", "exact", "unchanged"], "default": "additions_only"},
            "allow": {"type": "list", "elements": "dict", "default": []},
            "fingerprint": {"type": "str"},
            "enforce": {"type": "bool", "default": True},
        },
        required_if=[("policy", "exact", ["fingerprint"])],
        supports_check_mode=True,
    )
    params = module.params
    policy = {name: params[name] for name in ("policy", "allow", "fingerprint") if params[name] is not None}
    artefacts = RunDirectory(params["run_directory"])
    with errors_of(module):
        with Step(None if module.check_mode else artefacts, Verified).running() as step:
            moments = (load(artefacts, "before"), load(artefacts, "after"))
            changes, result = diff_states(artefacts, ("before", "after"), moments, policy)
            write_diff(step, changes, result)
        if params["enforce"] and not result["ok"]:
            fail_with(module, result["message"], diff=changes.ansible(), **result)
        module.exit_json(changed=False, diff=changes.ansible(), **result)


if __name__ == "__main__":
    main()
