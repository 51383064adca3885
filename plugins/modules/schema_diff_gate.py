#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Judge the difference between two schema snapshots (VA-16)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_diff_gate
short_description: Judge the difference between two schema snapshots
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Compares two snapshots of M(incomex.phasegate.schema_snapshot) fact by fact, gives every change a class, and judges them by
    a policy. The message names every offending change with its value before and after.
  - Beside it counts the lines of the two C(pg_dump --schema-only) texts that begin a C(CREATE), C(ALTER) or C(DROP), as people
    do by hand. The line counts are for the record; the structural verdict decides.
  - Neither connects to a database nor changes one.
attributes:
  check_mode:
    support: full
    description: The snapshots are compared; no file is written.
  diff_mode:
    support: full
    description: Shows the changed objects as they were and as they are.
  idempotent:
    support: full
    description: The same snapshots give the same result.
options:
  artefacts:
    description:
      - Artefact directory with C(schema/before.jsonl.gz), C(schema/after.jsonl.gz) and the C(.sql) texts beside them.
      - C(schema/diff.json) and C(schema/diff.txt) are written there.
    type: path
    required: true
  policy:
    description:
      - V(additions_only) allows what only adds, V(unchanged) nothing.
      - V(exact) needs the schema after to have O(fingerprint).
    type: str
    choices: [additions_only, exact, unchanged]
    default: additions_only
  allow:
    description: Further changes that are allowed, by C(class), C(kind), C(schema) and C(object) pattern.
    type: list
    elements: dict
    default: []
  fingerprint:
    description: The fingerprint that the schema after must have, for O(policy=exact).
    type: str
  enforce:
    description: Whether to fail when the policy is not met. Without it the verdict is only returned.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Only additions
  incomex.phasegate.schema_diff_gate:
    artefacts: /var/lib/phasegate/alpha_prod_20260516T031200Z
    policy: additions_only
"""

RETURN = r"""
ok:
  description: Whether the policy is met.
  returned: always, once compared
  type: bool
message:
  description: The verdict, with every offending change.
  returned: always, once compared
  type: str
lines:
  description: DDL lines of the two C(pg_dump) texts.
  returned: always, once compared
  type: dict
  contains:
    removed: {description: Number of lines that are gone., type: int}
    added: {description: Number of lines that are new., type: int}
    text: {description: The lines., type: str}
changes:
  description: Every change.
  returned: always, once compared
  type: list
  elements: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, run_step
from ansible_collections.incomex.phasegate.plugins.module_utils._snapshot import Snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._verify import compare, write_diff


def load(artefacts: Artefacts, label: str) -> Snapshot:
    """Return the facts of one moment. Raises ``PhaseGateError`` when they were not taken."""
    path = artefacts.file(f"schema/{label}.jsonl.gz")
    if not os.path.isfile(path):
        raise PhaseGateError(
            f"There is no snapshot {label} the change.",
            expected=path,
            found="no such file",
            next_step=f"take it with module schema_snapshot, label: {label}",
        )
    return Snapshot.load(path)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "artefacts": {"type": "path", "required": True},
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
    artefacts = Artefacts(params["artefacts"])
    try:
        with run_step(None if module.check_mode else artefacts, "C-08") as step:
            moments = (load(artefacts, "before"), load(artefacts, "after"))
            changes, result = compare(artefacts, ("before", "after"), moments, policy)
            write_diff(step, changes, result)
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    else:
        if params["enforce"] and not result["ok"]:
            module.fail_json(msg=result["message"], diff=changes.ansible(), **result)
        module.exit_json(changed=False, diff=changes.ansible(), **result)


if __name__ == "__main__":
    main()
