#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open, seal and verify the evidence of a run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Open, seal and verify the artefact directory of a run
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - V(open) makes C(<root>/<phase>_<environment>_<UTC stamp>/) with the plan, a hash-chained journal and the frozen SQL (C-05),
    after it made sure that the target is the declared one. When a run of the same DDL has committed on this database
    before, that run is returned.
    Where reviewers are registered, and for a plan that was rehearsed or requires other phases, every gate is judged that
    needs neither the backup nor the transaction; M(incomex.phasegate.migrate) judges them again.
  - It takes this database's lock (G-7), which a process on the target host holds until the run is sealed, and fails when
    another run has it, naming that run and who opened it. A rehearsal changes nothing there and takes no lock.
  - V(sealed) builds C(SUMMARY.txt), C(report.md) and C(report.json) from the journal, and writes C(SHA256SUMS) last. It fails
    when the run did not end in success, after sealing, so that the failure is in the bundle and on the operator's screen.
    With O(reason) it always fails, in check mode too.
  - V(verified) checks a sealed bundle, without a database.
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.identity
  - incomex.phasegate.connection.opening
attributes:
  check_mode:
    support: full
    description:
      - Nothing is written; O(artefacts) is returned empty for V(open). Of the phases that the plan requires only the evidence
        is looked at.
  diff_mode:
    support: none
    description: There is nothing to compare.
  idempotent:
    support: partial
    description: Depends on O(state).
    details: V(open) makes a new directory unless the phase is applied; V(sealed) leaves a sealed directory as it is.
options:
  database:
    description: Name of the database; needed for O(state=open) only.
    required: false
  state:
    description: What the directory shall be.
    type: str
    choices: [open, sealed, verified]
    required: true
  phase:
    description: Slug of the phase, for a failure before there is a plan. With O(plan) it is the plan's.
    type: str
  kind:
    description:
      - What the run is for, for O(state=open). V(rehearsal) never changes the target itself.
      - With O(execution) the run is a rollback.
    type: str
    choices: [execute, rehearsal]
    default: execute
  execution:
    description:
      - The sealed artefact directory of the execution that is to be rolled back, for O(state=open).
      - The plan and the rollback SQL are taken from there, after its seal was checked.
    type: path
  confirm:
    description: The name of the directory in O(execution), as the operator typed it. Without it nothing is opened.
    type: str
    default: ''
  method:
    description: How the run is going to be backed up, as for M(incomex.phasegate.backup), for the room that it needs.
    type: str
    choices: [custom, directory, basebackup]
    default: custom
  artefacts:
    description: The artefact directory, for O(state=sealed) and O(state=verified).
    type: path
  reason:
    description: Why the run ended, when a step outside of phasegate's modules stopped it.
    type: str
    default: ''
  seal_key:
    description:
      - Path, on the target host, of an SSH key without a passphrase, or of one that an agent holds. With O(state=sealed) the
        seal is signed with it, in the namespace C(seal@phasegate.incomex), into C(SHA256SUMS.sig). Without it the seal is
        V(UNSIGNED).
      - With O(state=open) a run that it could not sign is not opened.
    type: path
  allowed_signers:
    description:
      - Path of the auditor's list of those who may sign a seal, in the format of ssh-keygen(1), for O(state=verified). With it
        a seal that is unsigned, or was signed by anybody else, does not verify.
    type: path
"""

EXAMPLES = r"""
- name: Open a run
  incomex.phasegate.evidence:
    state: open
    container: postgres
    database: directus
    root: /var/lib/phasegate
    environment: prod
    plan: "{{ phase.plan }}"
    plan_sha256: "{{ phase.plan_sha256 }}"
    ddl_b64: "{{ phase.ddl_b64 }}"
    rollback_b64: "{{ phase.rollback_b64 }}"
  register: run

- name: Seal it
  incomex.phasegate.evidence:
    state: sealed
    artefacts: "{{ run.artefacts }}"

- name: Audit a bundle
  incomex.phasegate.evidence:
    state: verified
    artefacts: /var/lib/phasegate/alpha_prod_20260516T031200Z
"""

RETURN = r"""
artefacts:
  description: The artefact directory. Empty in check mode when none exists.
  returned: always
  type: str
applied:
  description: Whether an earlier run committed the same DDL on this database; then O(artefacts) is that run's.
  returned: for O(state=open)
  type: bool
conditions:
  description:
    - What was found around the phase, each with C(id), C(status), C(expected), C(found) and C(next_step).
    - C(status) is V(OK), V(WARN), V(IGNORED) by the policy, or V(UNKNOWN), where the role cannot see it. V(STOP) is in the
      journal of the run that it stopped.
  returned: for O(state=open)
  type: list
  elements: dict
incomplete:
  description:
    - Whether that run left statements that run after COMMIT, for M(incomex.phasegate.migrate) to go on with.
    - When it is sealed, O(artefacts) is an open copy of it.
  returned: for O(state=open)
  type: bool
sealed:
  description: Whether the directory is sealed.
  returned: for O(state=open)
  type: bool
plan:
  description: The plan of the execution.
  returned: for O(state=open) with O(execution)
  type: dict
identity:
  description: Who the server is.
  returned: for O(state=open)
  type: dict
outcome:
  description: How the run ended.
  returned: for O(state=sealed)
  type: str
summary:
  description: The lines of C(SUMMARY.txt). On failure they are the message.
  returned: for O(state=sealed), success
  type: list
  elements: str
report:
  description: Path of C(report.md).
  returned: for O(state=sealed)
  type: str
seal:
  description: SHA-256 of C(SHA256SUMS).
  returned: for O(state=sealed) and O(state=verified)
  type: str
signature:
  description: Fingerprint of the key that signed the seal, or V(UNSIGNED). It is verified with O(allowed_signers) only.
  returned: for O(state=sealed) and O(state=verified)
  type: str
findings:
  description: What is wrong with the bundle; empty when it is intact.
  returned: for O(state=verified)
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _lock, _runs, _seal
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_record import NAMES
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    SEAL,
    Artefacts,
    file_error,
    sha256_file,
    verify,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._opening import OPENING_ARGUMENTS, opened, warnings
from ansible_collections.incomex.phasegate.plugins.module_utils._report_vocabulary import SUCCESS


def sealed(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Seal a run; a run that never got a directory gets one that holds its reason."""
    artefacts = Artefacts(params["artefacts"]) if params["artefacts"] else None
    changed = artefacts is None or not artefacts.sealed
    if check_mode and changed:
        return {
            "changed": True,
            "artefacts": params["artefacts"] or "",
            "outcome": "",
            "summary": [],
            "report": "",
            "signature": "",
        }
    if artefacts is None:
        _runs.require_place(params["root"], params["environment"] or "")
        artefacts = _runs.new_directory(params["root"], f"{params['phase']}_{params['environment']}")
        about = {"phase": params["phase"], "environment": params["environment"], "host": params["inventory_name"]}
        artefacts.journal.append("run", "not opened", about)
    waiting = _runs.unfinished(artefacts) if params["reason"] else None
    if waiting:
        artefacts.journal.append("run", _lock.LEFT, {"reason": params["reason"]})
        raise waiting
    return _seal.seal_and_sign(artefacts, params["reason"], params.get("seal_key"), check_mode=check_mode)


def findings_of(path: str, allowed_signers: str | None) -> list[str]:
    """Return what is wrong with a bundle, and with its signature when the auditor says whose it may be."""
    findings = verify(path)
    if allowed_signers and not findings:
        findings = list(_seal.judge_seal(Artefacts(path), allowed_signers))[:1]
    return findings


def verified(path: str, allowed_signers: str | None) -> dict[str, Any]:
    """Check a bundle. Raises ``PhaseGateError`` naming every finding."""
    findings = findings_of(path, allowed_signers)
    if findings:
        raise PhaseGateError(
            f"The bundle {path} does not verify.",
            expected=f"every file as {SEAL} lists it, an unbroken journal"
            + (f", and a signature of the seal by somebody in {allowed_signers}" if allowed_signers else ""),
            found="; ".join(findings),
            next_step="do not rely on this bundle; compare it with another copy and find out who changed it",
        )
    artefacts = Artefacts(path)
    return {
        "changed": False,
        "artefacts": path,
        "findings": [],
        "seal": sha256_file(artefacts.file(SEAL)),
        "signature": _seal.signature_of(artefacts),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "database": {"type": "str"},
            **OPENING_ARGUMENTS,
            "state": {"type": "str", "choices": ["open", "sealed", "verified"], "required": True},
            "phase": {"type": "str"},
            "kind": {"type": "str", "choices": [_runs.EXECUTE, _runs.REHEARSAL], "default": _runs.EXECUTE},
            "execution": {"type": "path"},
            "confirm": {"type": "str", "default": ""},
            "method": {"type": "str", "choices": list(NAMES), "default": "custom"},
            "artefacts": {"type": "path"},
            "reason": {"type": "str", "default": ""},
            "allowed_signers": {"type": "path"},
        },
        required_if=[
            ("state", "open", ["database", "root", "environment"]),
            ("state", "open", ["plan", "execution"], True),
            ("state", "verified", ["artefacts"]),
            ("state", "sealed", ["artefacts", "root"], True),
        ],
        required_together=[("plan", "ddl_b64", "rollback_b64")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "open":
            result = opened(Client.from_params(params), params, check_mode=module.check_mode)
            for line in warnings(result):
                module.warn(line)
        elif params["state"] == "sealed":
            result = sealed(params, check_mode=module.check_mode)
        else:
            result = verified(params["artefacts"], params["allowed_signers"])
    except OSError as error:
        problem = _runs.not_sealed(params["artefacts"], error) if params["state"] == "sealed" else file_error(error)
        module.fail_json(msg=str(problem))
    except _runs.NotOpened as error:
        module.fail_json(msg=str(error), artefacts=error.artefacts.path)
    except PhaseGateError as error:
        verifying = params["state"] == "verified"
        findings = findings_of(params["artefacts"], params["allowed_signers"]) if verifying else []
        module.fail_json(msg=str(error), findings=findings)
    else:
        if params["state"] == "sealed" and (params["reason"] or result["outcome"] not in ("", SUCCESS)):
            lines = (
                [*result.pop("summary"), f"report        {result['report']}"]
                if result["report"]
                else [params["reason"]]
            )
            module.fail_json(msg="\n".join(lines), **result)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
