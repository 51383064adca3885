#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verify the sealed bundle of a run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_info
short_description: Verify the sealed bundle of a run
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Audits a sealed run directory, or a copy of it, without a database connection. The same file does it that is in every bundle
    as C(audit.py), and that can be run alone.
  - Every file is compared with C(SHA256SUMS), the hash chain of the journal is followed, and the digests that the journal
    recorded are compared with the files.
  - The name of the run and the set of its directories are sealed, too. Another run's bundle under this name, a renamed
    directory, an added and a missing directory are findings.
  - Signatures of the seal, of its statement, and of the approvals are verified; with O(allowed_signers) also who made them.
  - The bundles that this one names, such as that of the plan's rehearsal, are compared if they are in the same directory.
  - Modes that let other users change the bundle, and hard links, are warnings (RV(doubts)).
  - A path without a bundle is reported as such, and not as tampering.
  - Fails if the bundle is not intact. RV(findings) then has the reasons.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.read_only
  - incomex.phasegate._attributes.group_offline
options:
  run_directory:
    description: The sealed run directory, or a copy of it.
    type: path
    required: true
  allowed_signers:
    description:
      - Path of the auditor's list of those who may sign a seal and approve plans, in the format of ssh-keygen(1).
      - With it, a seal that is unsigned or signed by anyone else fails verification, and so do approvals of which too few
        are by people on the list.
    type: path
  seal:
    description:
      - The SHA-256 of C(SHA256SUMS) as it was recorded elsewhere when the run ended.
      - With it, a bundle that was sealed anew fails verification.
    type: str
    default: ''
seealso:
  - module: incomex.phasegate.run_seal
  - module: incomex.phasegate.plan_approvals_info
  - name: ssh-keygen(1)
    description: Section ALLOWED SIGNERS describes the format of the list.
    link: https://man.openbsd.org/ssh-keygen.1#ALLOWED_SIGNERS
"""

EXAMPLES = r"""
- name: Audit a bundle
  incomex.phasegate.bundle_info:
    run_directory: /var/lib/phasegate/alpha_prod_20260516T031200Z

- name: Audit a copy of it, who sealed it, and who approved
  incomex.phasegate.bundle_info:
    run_directory: /mnt/archive/phasegate/alpha_prod_20260516T031200Z
    allowed_signers: /etc/auditors/allowed_signers
"""

RETURN = r"""
run_directory:
  description: The bundle's path.
  returned: success
  type: str
findings:
  description: What is wrong with the bundle, one sentence each. Empty if it is intact.
  returned: always
  type: list
  elements: str
unchecked:
  description:
    - What could not be checked, one sentence each; also shown as warnings. A pruned backup, a file that cannot be read, or
      signatures on a host without ssh-keygen.
  returned: success
  type: list
  elements: str
doubts:
  description:
    - What does not change the bundle but lets other users do so; also shown as warnings. Files and directories that others can
      write, and files with several names (hard links).
  returned: success
  type: list
  elements: str
facts:
  description: What was verified, or is known, by subject, such as the people who were entitled to approve and those who did.
  returned: success
  type: list
  elements: dict
  contains:
    about:
      description: The subject, such as V(signature), V(register), V(approvals), or V(link).
      type: str
    text:
      description: One sentence.
      type: str
lines:
  description: The result for people, as C(audit.py) prints it.
  returned: success
  type: list
  elements: str
seal:
  description: SHA-256 of C(SHA256SUMS).
  returned: success
  type: str
signature:
  description: Fingerprint of the key that signed the seal, or V(UNSIGNED). Who owns it is verified only with O(allowed_signers).
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import SMALL, read_found, resolved
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, fail_with
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import parse_allowed_signers


def signers_of(path: str | None) -> audit.Signers | None:
    """Return the auditor's list. Raises ``PhaseGateError``, ``OSError``."""
    if not path:
        return None
    known = read_found(resolved(path), SMALL)
    # a list that ssh-keygen would read in part must stop here
    parse_allowed_signers(known, path)
    return audit.Signers(known, path)


def no_such_bundle(path: str, found: str) -> PhaseGateError:
    """Return the operator's message for a path without a bundle: a mistake, not tampering."""
    return PhaseGateError(
        f"No such bundle: {path}",
        expected="the path of a run directory, or of a complete copy of it",
        found=found,
        next_step="correct the path; if it is right, the bundle was removed or emptied",
    )


def not_intact(path: str, allowed_signers: str | None, findings: list[str]) -> PhaseGateError:
    """Return the operator's message for a bundle that does not verify."""
    return PhaseGateError(
        f"The bundle {path} does not verify.",
        expected=f"every file as {SEAL} lists it, an unbroken journal"
        + (f", and signatures by people in {allowed_signers}" if allowed_signers else ""),
        found="; ".join(findings),
        next_step="do not rely on this bundle; compare it with another copy and find out who changed it",
    )


def not_checked(allowed_signers: str, unchecked: list[str]) -> PhaseGateError:
    """Return the operator's message for a seal whose signature could not be verified although a list was given."""
    return PhaseGateError(
        "The signature of the seal could not be verified on this host.",
        expected=f"ssh-keygen of OpenSSH 8.7 or newer, to compare it with {allowed_signers}",
        found="; ".join(unchecked),
        next_step="install the OpenSSH client (package openssh-client or openssh), or audit on another host",
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run_directory": {"type": "path", "required": True},
            "allowed_signers": {"type": "path"},
            "seal": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    path, allowed_signers = resolved(module.params["run_directory"]), module.params["allowed_signers"]
    with errors_of(module):
        result = audit.audit(path, signers_of(allowed_signers), module.params["seal"])
        if result.missing:
            raise no_such_bundle(path, result.missing)
        known = result.as_dict()
        if result.findings:
            fail_with(module, not_intact(path, allowed_signers, known["findings"]), findings=known["findings"])
        if allowed_signers and not result.sealed_by:
            raise not_checked(allowed_signers, known["unchecked"])
        for text in known["warnings"]:
            module.warn(text)
        for text in known["unchecked"]:
            module.warn(f"NOT CHECKED: {text}")
        module.exit_json(
            changed=False,
            run_directory=path,
            findings=[],
            unchecked=known["unchecked"],
            doubts=known["warnings"],
            facts=known["facts"],
            lines=result.lines(),
            seal=result.seal,
            signature=result.signature,
        )


if __name__ == "__main__":
    main()
