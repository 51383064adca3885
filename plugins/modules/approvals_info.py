#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""List and verify the approvals of a plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: approvals_info
short_description: List and verify the approvals of a plan
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Reads C(plan.json) with the signatures and notes beside it, and judges every one of them and gate G-1 in the way of the
    module that migrates.
  - The reviewers are those in O(reviewers), or else those that this host registers for the plan's cluster.
  - It tells and does not decide. When a plan is executed, the module that migrates judges again, on the target host, with
    the reviewers that are registered there and by the database server's clock.
attributes:
  check_mode:
    support: full
    description: Nothing is changed; the result is the same.
  diff_mode:
    support: none
    description: Nothing is changed.
  idempotent:
    support: full
    description: Nothing is changed.
options:
  plan:
    description: Path of C(plan.json).
    type: path
    required: true
  reviewers:
    description:
      - Directory with C(allowed_signers), and where wanted C(revoked_keys) and C(policy.json).
      - Without it C(/etc/phasegate/reviewers/<system identifier>) is looked at, then
        C(.config/phasegate/reviewers/<system identifier>) in the home directory of the user.
    type: path
  at:
    description:
      - The moment to judge at, ISO 8601 with its zone, such as V(2026-05-16T03:12:00Z). An auditor gives the moment of the
        execution.
      - Without it, now by this host's clock.
    type: str
seealso:
  - module: incomex.phasegate.approval
"""

EXAMPLES = r"""
- name: Look at the approvals
  incomex.phasegate.approvals_info:
    plan: /srv/reviews/alpha_rehearsal_20260516T031200Z/plan.json
    reviewers: /srv/reviews/reviewers/production
  delegate_to: localhost
  register: approvals

- name: Show them
  ansible.builtin.debug:
    var: approvals.table
"""

RETURN = r"""
plan_sha256:
  description: SHA-256 of C(plan.json).
  returned: success
  type: str
approvals:
  description: The signatures, judged.
  returned: success
  type: list
  elements: dict
  contains:
    signer: {description: 'Registered name, or the name in the file name when the key is not registered.', type: str}
    fingerprint: {description: 'Fingerprint of the key, empty when there is none to tell.', type: str}
    status: {description: 'V(valid), or the reason for the rejection in two or three words.', type: str}
    message: {description: The same as a sentence., type: str}
    verdict: {description: 'V(PASS) or V(PASS_WITH_NOTES), empty unless valid.', type: str}
    notes: {description: The signed notes of a valid approval., type: str}
gate:
  description: Gate G-1.
  returned: success
  type: dict
  contains:
    id: {description: V(G-1)., type: str}
    title: {description: What the gate is about., type: str}
    status: {description: 'V(PASS), V(FAIL), or V(NOT ENFORCED) when no reviewers are registered for the cluster.', type: str}
    expected: {description: What was expected., type: str}
    found: {description: What was found., type: str}
    next_step: {description: What to do., type: str}
reviewers:
  description: The directory of the reviewers, empty when there is none.
  returned: success
  type: str
threshold:
  description: How many approvals are needed, 0 when no reviewers are registered.
  returned: success
  type: int
table:
  description: All of it as lines for a terminal.
  returned: success
  type: list
  elements: str
plan_b64:
  description: The bytes of the plan, Base64, as the module that migrates takes them.
  returned: success
  type: str
signatures_b64:
  description: The signatures, Base64, by the name in their file name.
  returned: success
  type: dict
notes_b64:
  description: The notes by the name in their file name, each as a list of text and signature in Base64.
  returned: success
  type: dict
"""

import base64
import datetime
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _approvals, _reviewers
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import digest, thawed


def anchor_for(plan: Dict[str, Any], reviewers: Optional[str]) -> Optional[_approvals.Anchor]:
    """Return the reviewers to judge by. Raises ``PhaseGateError``."""
    if reviewers:
        return _reviewers.read_anchor(reviewers)
    target = plan.get("target")
    return _approvals.find_anchor(str(target.get("system_identifier", "")) if isinstance(target, dict) else "")


def look(path: str, reviewers: Optional[str], at: Optional[str]) -> Dict[str, Any]:
    """Return the module's result. Raises ``PhaseGateError``, ``OSError``."""
    with open(path, "rb") as stream:
        data = stream.read()
    plan, _ = thawed(data)
    anchor = anchor_for(plan, reviewers)
    signatures, notes = _approvals.collect(path)
    now = _approvals.moment(at) if at else datetime.datetime.now(datetime.timezone.utc)
    judged = _approvals.judge(
        data, signatures, notes, anchor, str(plan.get("author", "")), str(plan.get("not_after", "")), now
    )
    return {
        "plan_sha256": digest(data),
        "approvals": [one.as_dict() for one in judged.verdicts],
        "gate": judged.gate.as_dict(),
        "reviewers": anchor.path if anchor else "",
        "threshold": anchor.threshold if anchor else 0,
        "table": _approvals.table(judged),
        "plan_b64": base64.b64encode(data).decode("ascii"),
        **_approvals.packed(signatures, notes),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "path", "required": True},
            "reviewers": {"type": "path"},
            "at": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        result = look(params["plan"], params["reviewers"], params["at"])
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(_approvals.file_error(error)))
    else:
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
