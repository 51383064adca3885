#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""List and verify the approvals of a plan, of an execution, or of a rollback."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_approvals_info
short_description: List and verify the approvals of a plan, of an execution, or of a rollback
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Reads C(plan.json) with the SQL, the signatures and notes beside it, verifies each of them, and evaluates gate G-1 as
    M(incomex.phasegate.migrate) does.
  - Fails for a plan that describes its SQL otherwise than PostgreSQL's own parser does, whoever signed it. A plan that was
    changed after it was frozen is reported with the status of each signature.
  - With O(bundle) it verifies the signatures beside the run directory of an execution, as gate G-11 of a phase that requires
    this one does. If it is the run directory of a rollback, it verifies what that bundle has, the signatures over the rollback and
    over the executed plan, as gate G-1 of M(incomex.phasegate.rollback) did.
  - The reviewers are those in O(reviewers), or else those that this host registers for the plan's cluster.
  - It only reports; it does not enforce anything. When a plan is executed, M(incomex.phasegate.migrate) evaluates the gate again,
    on the target host, with the reviewers that are registered there and by the database server's clock.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.read_only
  - incomex.phasegate._attributes.group_offline
options:
  plan:
    description: Path of C(plan.json), with the SQL files beside it or in C(sql/), as in a run directory. Exactly one of O(plan) and O(bundle) is given.
    type: path
  bundle:
    description: Path of the sealed run directory of an execution or a rollback, or of a copy of it.
    type: path
  reviewers:
    description:
      - Directory with C(allowed_signers), and optionally C(revoked_keys) and C(policy.json).
      - By default C(/etc/phasegate/reviewers/<system identifier>), or else C(.config/phasegate/reviewers/<system identifier>) in
        the home directory of the user.
    type: path
  at:
    description:
      - Time at which to verify, ISO 8601 with its zone, such as V(2026-05-16T03:12:00Z). An auditor gives the time of the
        execution.
      - By default now, by this host's clock; for a rollback the time at which it began.
    type: str
requirements:
  - pglast >= 7, with O(plan)
  - jsonschema >= 4, with O(plan)
  - ssh-keygen of OpenSSH 8.7 or newer
seealso:
  - module: incomex.phasegate.plan_approval
"""

EXAMPLES = r"""
- name: Verify the approvals
  incomex.phasegate.plan_approvals_info:
    plan: /srv/reviews/alpha_rehearsal_20260516T031200Z/plan.json
    reviewers: /srv/reviews/reviewers/production
  delegate_to: localhost
  register: approvals

- name: Show them
  ansible.builtin.debug:
    var: approvals.table
"""

RETURN = r"""
sha256:
  description: SHA-256 of the approved document, C(plan.json), C(<bundle>.review.json) or C(rollback.json).
  returned: success
  type: str
approvals:
  description: The signatures, verified.
  returned: success
  type: list
  elements: dict
  contains:
    signer: {description: 'Registered name, or the name in the file name if the key is not registered.', type: str}
    fingerprint: {description: 'Fingerprint of the key, empty if the signature has none.', type: str}
    status: {description: 'V(valid), or the reason for the rejection in two or three words.', type: str}
    message: {description: The same as a sentence., type: str}
    verdict: {description: 'V(PASS) or V(PASS_WITH_NOTES), empty unless valid.', type: str}
    notes: {description: The signed notes of a valid approval., type: str}
gate:
  description: Gate G-1, or gate G-11 with the O(bundle) of an execution.
  returned: success
  type: dict
  contains:
    id: {description: V(G-1) or V(G-11)., type: str}
    title: {description: What the gate requires., type: str}
    status: {description: 'V(PASS), V(FAIL), or V(NOT ENFORCED) if no reviewers are registered for the cluster.', type: str}
    expected: {description: What was expected., type: str}
    found: {description: What was found., type: str}
    next_step: {description: What to do., type: str}
reviewers:
  description: The directory of the reviewers, empty if there is none.
  returned: success
  type: str
threshold:
  description: Number of approvals that are needed, 0 if no reviewers are registered.
  returned: success
  type: int
table:
  description: All of it as lines of text.
  returned: success
  type: list
  elements: str
"""

import datetime
import os
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import (
    collect_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import (
    Approvals,
    evaluate_plan_approvals,
    evaluate_review_approvals,
    format_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import (
    Anchor,
    find_anchor,
    read_anchor,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import review_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import parse_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    plan_file_error,
    read_found,
    read_json,
    resolved,
    sha256_bytes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import thawed
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_reader import HAS_JSONSCHEMA
from ansible_collections.incomex.phasegate.plugins.module_utils._run.required_phases import identity_of, reviewable
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback_evidence import (
    is_rollback,
    rollback_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.plan_check import read_checked_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import HAS_PGLAST


def anchor_for(plan: Dict[str, Any], reviewers: Optional[str]) -> Optional[Anchor]:
    """Return the reviewers to verify by. Raises ``PhaseGateError``."""
    if reviewers:
        return read_anchor(reviewers)
    target = plan.get("target")
    return find_anchor(str(target.get("system_identifier", "")) if isinstance(target, dict) else "")


def approvals_of_plan(path: str, reviewers: Optional[str], at: Optional[datetime.datetime]) -> Dict[str, Any]:
    """Return the module's result for a plan. Raises ``PhaseGateError``, ``OSError``."""
    path = resolved(path)
    data = read_found(path)
    plan, changed = thawed(data)
    if not changed:
        # of a changed one no signature is valid, and the gate fails
        checked = read_checked_plan(path)
        plan, data = checked.plan, checked.data
    anchor = anchor_for(plan, reviewers)
    signatures, notes = collect_approvals(path)
    now = at or datetime.datetime.now(datetime.timezone.utc)
    judged = evaluate_plan_approvals(
        data, signatures, notes, anchor, str(plan.get("author", "")), str(plan.get("not_after", "")), now
    )
    return result_of(data, anchor, judged)


def approvals_of_bundle(bundle: str, reviewers: Optional[str], at: Optional[datetime.datetime]) -> Dict[str, Any]:
    """Return the module's result for an execution or a rollback. Raises ``PhaseGateError``, ``OSError``."""
    bundle = resolved(bundle)
    if is_rollback(bundle):
        anchor = read_anchor(reviewers) if reviewers else find_anchor(identity_of(bundle)["system_identifier"])
        data, judged = rollback_approvals(bundle, anchor, at)
        return result_of(data, anchor, judged)
    data = reviewable(bundle)
    author = str(read_json(os.path.join(bundle, "plan.json")).get("author", ""))
    system_identifier = identity_of(bundle)["system_identifier"]
    anchor = read_anchor(reviewers) if reviewers else find_anchor(system_identifier)
    signatures, notes = collect_approvals(review_file(bundle))
    now = at or datetime.datetime.now(datetime.timezone.utc)
    judged = evaluate_review_approvals(data, signatures, notes, anchor, author, now)
    return result_of(data, anchor, judged)


def result_of(data: bytes, anchor: Optional[Anchor], judged: Approvals) -> Dict[str, Any]:
    """Return the module's result."""
    return {
        "sha256": sha256_bytes(data),
        "approvals": [one.as_dict() for one in judged.verdicts],
        "gate": judged.gate.as_dict(),
        "reviewers": anchor.path if anchor else "",
        "threshold": anchor.threshold if anchor else 0,
        "table": format_approvals(judged),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "path"},
            "bundle": {"type": "path"},
            "reviewers": {"type": "path"},
            "at": {"type": "str"},
        },
        mutually_exclusive=[("plan", "bundle")],
        required_one_of=[("plan", "bundle")],
        supports_check_mode=True,
    )
    params = module.params
    for library, present in (("pglast", HAS_PGLAST), ("jsonschema", HAS_JSONSCHEMA)):
        if params["plan"] and not present:
            module.fail_json(msg=missing_required_lib(library, reason="on the controller"))
    approvals_of = approvals_of_plan if params["plan"] else approvals_of_bundle
    with errors_of(module, file_error=plan_file_error):
        at = parse_time(params["at"]) if params["at"] else None
        result = approvals_of(params["plan"] or params["bundle"], params["reviewers"], at)
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
