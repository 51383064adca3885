#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Approve a plan, an execution, or a rollback, by signing it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_approval
short_description: Approve a plan, an execution, or a rollback, by signing it with an SSH key
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Signs C(plan.json) with C(ssh-keygen -Y sign) and writes C(plan.json.<reviewer>.sig) beside it. Read the review package
    of the plan before you approve it.
  - A review package beside the plan must be what this plan gives. It may have been made on another machine, and without a linter.
  - With O(notes) the verdict is V(PASS_WITH_NOTES). The notes are written to C(plan.json.<reviewer>.notes.md) below a line
    with the plan's SHA-256, and are signed themselves. Deleting them later invalidates the approval.
  - Fails if the plan was changed after it was frozen, does not validate, has expired, or describes the SQL beside it otherwise
    than PostgreSQL's own parser does.
  - With O(bundle) it approves an execution instead, for a phase that requires this one. Read its report first. The signed
    document is C(<bundle>.review.json), a line beside the directory with its name and its seal. Fails if the directory is not
    intact, or is not that of a committed execution.
  - With O(execution) it approves a rollback of this execution, with the loss of O(accept_loss) or O(accept_loss_at_most) rows. The
    signed document is C(<execution>.rollback.json), a line beside the directory with its name, its seal and the loss. Give the
    signatures to the rollback.
  - Run it on the controller. Whether the reviewer may approve is checked on the target host, where the reviewers of a cluster
    are registered.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
  - incomex.phasegate._loss
attributes:
  check_mode:
    support: full
    details: The plan is validated. Nothing is signed or written.
  diff_mode:
    support: N/A
    details: A signature is not readable.
  idempotent:
    support: full
    details: An approval with the same key and the same notes is left as it is.
options:
  plan:
    description: Path of C(plan.json), with the SQL files beside it. Exactly one of O(plan), O(bundle) and O(execution) is given.
    type: path
  bundle:
    description: Path of a sealed run directory, or of a copy of it.
    type: path
  execution:
    description: Path of the sealed run directory of the execution to roll back, or of a copy of it.
    type: path
  reviewer:
    description: The name under which the reviewer is registered.
    type: str
    required: true
  key:
    description: Path of the reviewer's private key without a passphrase, or of a private or public key that an SSH agent has.
    type: path
    required: true
  notes:
    description: Notes on the plan or the execution, in Markdown. Without them, the notes of an earlier approval are deleted. A
      rollback has none.
    type: str
requirements:
  - pglast >= 7
  - jsonschema >= 4
  - ssh-keygen of OpenSSH 8.7 or newer
seealso:
  - module: incomex.phasegate.plan_approvals_info
  - module: incomex.phasegate.plan_review
"""

EXAMPLES = r"""
- name: Approve the plan
  incomex.phasegate.plan_approval:
    plan: /srv/reviews/alpha_rehearsal_20260516T031200Z/plan.json
    reviewer: anna
    key: ~/.ssh/id_ed25519
  delegate_to: localhost

- name: Approve it with notes, by a key of the SSH agent
  incomex.phasegate.plan_approval:
    plan: /srv/reviews/alpha_rehearsal_20260516T031200Z/plan.json
    reviewer: anna
    key: ~/.ssh/id_ed25519.pub
    notes: Watch the replica's lag during the backfill.
  delegate_to: localhost

- name: Approve an execution, so that the next phase may begin
  incomex.phasegate.plan_approval:
    bundle: /srv/reviews/alpha_prod_20260516T031200Z
    reviewer: anna
    key: ~/.ssh/id_ed25519
  delegate_to: localhost

- name: Approve a rollback that may lose 120 rows
  incomex.phasegate.plan_approval:
    execution: /srv/reviews/alpha_prod_20260516T031200Z
    accept_loss_at_most: 120
    reviewer: anna
    key: ~/.ssh/id_ed25519
  delegate_to: localhost
"""

RETURN = r"""
sha256:
  description: SHA-256 of the approved document, C(plan.json), C(<bundle>.review.json) or C(<execution>.rollback.json).
  returned: success
  type: str
verdict:
  description: V(PASS) or V(PASS_WITH_NOTES).
  returned: success
  type: str
fingerprint:
  description: Fingerprint of the key that signed.
  returned: success, except in check mode
  type: str
files:
  description: Paths of the signature and, with O(notes), of the notes and their signature.
  returned: success
  type: list
  elements: str
"""

import datetime
import os
from dataclasses import dataclass
from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import ApprovalFiles
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import (
    LOSS_ARGUMENTS,
    NOTES_NAMESPACE,
    PASS,
    PASS_WITH_NOTES,
    PLAN_NAMESPACE,
    REVIEW_NAMESPACE,
    ROLLBACK_NAMESPACE,
    AcceptedLoss,
    notes_header,
    review_file,
    review_name,
    rollback_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import parse_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    SMALL,
    plan_file_error,
    read_file,
    replace_file,
    resolved,
    sha256_bytes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_reader import HAS_JSONSCHEMA
from ansible_collections.incomex.phasegate.plugins.module_utils._review.files import require_own_package
from ansible_collections.incomex.phasegate.plugins.module_utils._run.required_phases import reviewable, revocable
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.plan_check import read_checked_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import HAS_PGLAST
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature import holds, parse_signature, sign


@dataclass(frozen=True)
class Document:
    """What is signed: its path, beside which the signature is written, its bytes, what it is, and the namespace for it."""

    path: str
    data: bytes
    what: str = "plan"
    namespace: str = PLAN_NAMESPACE


def plan_to_sign(path: str) -> Document:
    """Return a plan that may be signed. Raises ``PhaseGateError``, ``OSError``."""
    path = resolved(path)
    checked = read_checked_plan(path)
    plan = checked.plan
    now = datetime.datetime.now(datetime.timezone.utc)
    if parse_time(plan["not_after"]) < now:
        raise PhaseGateError(
            "This plan has expired.",
            expected="a plan that may still be executed",
            found=f"not_after {plan['not_after']}",
            next_step="rehearse again, which freezes a new plan",
        )
    require_own_package(path, checked)
    return Document(path, checked.data)


def review_to_sign(bundle: str) -> Document:
    """Return the review of an execution that may be signed. Raises ``PhaseGateError``, ``OSError``."""
    bundle = resolved(bundle)
    return Document(review_file(bundle), reviewable(bundle), review_name(bundle), REVIEW_NAMESPACE)


def rollback_to_sign(execution: str, accepted: AcceptedLoss) -> Document:
    """Return the request for a rollback that may be signed. Raises ``PhaseGateError``, ``OSError``."""
    execution = resolved(execution)
    return Document(rollback_file(execution), revocable(execution, accepted), "rollback request", ROLLBACK_NAMESPACE)


def to_sign(params: Dict[str, Any]) -> Document:
    """Return what the module's options name. Raises ``PhaseGateError``, ``OSError``."""
    accepted = AcceptedLoss.of(params)
    if params["execution"]:
        if (params["notes"] or "").strip():
            raise PhaseGateError(
                "A rollback is approved without notes.",
                expected="no notes",
                found="notes",
                next_step="tell the operator, or do not sign",
            )
        return rollback_to_sign(params["execution"], accepted)
    if accepted != AcceptedLoss():
        raise PhaseGateError(
            "An accepted loss belongs to the approval of a rollback.",
            expected="accept_loss or accept_loss_at_most only with execution",
            found=f"a loss of {accepted}",
            next_step="give the execution to roll back, or leave the loss out",
        )
    return plan_to_sign(params["plan"]) if params["plan"] else review_to_sign(params["bundle"])


def documents(files: ApprovalFiles, document: Document, notes: str) -> Dict[str, bytes]:
    """Return what is signed, by the path of its signature."""
    if not notes:
        return {files.signature: document.data}
    header = notes_header(sha256_bytes(document.data), document.what)
    return {files.signature: document.data, files.notes_signature: header + b"\n" + notes.encode("utf-8") + b"\n"}


def signed_before(path: str, namespace: str, document: bytes, by: Optional[bytes]) -> bool:
    """Tell whether a signature file holds over a document, with ``by``: and is by the key of that signature."""
    found = read_file(path, SMALL) or b""
    if by is not None:
        one, other = parse_signature(found), parse_signature(by)
        if one is None or other is None or one.key != other.key:
            return False
    return holds(found, namespace, document)


def approve(document: Document, reviewer: str, key: str, notes: str, *, check_mode: bool) -> Dict[str, Any]:
    """Sign and write. Returns the module's result. Raises ``PhaseGateError``, ``OSError``."""
    files = ApprovalFiles.of(document.path, reviewer)
    if not os.path.isfile(key):
        raise PhaseGateError("The key is missing.", expected="a file", found=key, next_step="give the path of a key")
    signed = documents(files, document, notes)
    notes_size = len(signed.get(files.notes_signature, b""))
    if notes_size > SMALL:
        raise PhaseGateError(
            "The notes are too long.",
            expected=f"at most {SMALL} bytes, which is as much as is read of them later",
            found=f"{notes_size} bytes",
            next_step="shorten them, and name the document that has the rest",
        )
    namespace = NOTES_NAMESPACE if notes else document.namespace
    new: Dict[str, Optional[bytes]] = {
        signature: None if check_mode else sign(document, key, namespace) for signature, document in signed.items()
    }
    changed = not all(signed_before(name, namespace, signed[name], by) for name, by in new.items())
    wanted = {files.notes: signed.get(files.notes_signature), files.notes_signature: None, **new}
    changed = changed or read_file(files.notes, SMALL) != wanted[files.notes]
    if changed and not check_mode:
        if read_file(document.path) != document.data:
            replace_file(document.path, document.data)
        # its signature comes last: without it there is no approval
        for name in (files.notes, files.notes_signature, files.signature):
            replace_file(name, wanted[name])
    result = {
        "changed": changed,
        "sha256": sha256_bytes(document.data),
        "verdict": PASS_WITH_NOTES if notes else PASS,
        "files": [files.signature, *([files.notes, files.notes_signature] if notes else [])],
    }
    by_key = parse_signature(new[files.signature] or b"")
    return {**result, "fingerprint": by_key.fingerprint} if by_key else result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "path"},
            "bundle": {"type": "path"},
            "execution": {"type": "path"},
            **LOSS_ARGUMENTS,
            "reviewer": {"type": "str", "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
            "notes": {"type": "str"},
        },
        mutually_exclusive=[("plan", "bundle", "execution")],
        required_one_of=[("plan", "bundle", "execution")],
        supports_check_mode=True,
    )
    params = module.params
    for library, present in (("pglast", HAS_PGLAST), ("jsonschema", HAS_JSONSCHEMA)):
        if params["plan"] and not present:
            module.fail_json(msg=missing_required_lib(library, reason="on the controller"))
    with errors_of(module, file_error=plan_file_error):
        document = to_sign(params)
        notes = (params["notes"] or "").strip()
        result = approve(document, params["reviewer"], params["key"], notes, check_mode=module.check_mode)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
