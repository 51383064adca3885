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
  - Compares every file of a sealed run directory, or of a copy of it, with C(SHA256SUMS), and checks the hash chain of the
    journal. No database connection is needed.
  - With O(allowed_signers) it also verifies the signature of the seal.
  - The name of the run and the set of its directories are sealed, too. Another run's bundle under this name, a renamed
    directory, an added and a missing directory are findings.
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
      - Path of the auditor's list of those who may sign a seal, in the format of ssh-keygen(1).
      - With it, a seal that is unsigned or signed by anyone else fails verification.
    type: path
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

- name: Audit a copy of it, and who sealed it
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
doubts:
  description:
    - What does not change the bundle but lets other users do so; also shown as warnings. Files and directories that others can
      write, and files with several names (hard links).
  returned: success
  type: list
  elements: str
seal:
  description: SHA-256 of C(SHA256SUMS).
  returned: success
  type: str
signature:
  description: Fingerprint of the key that signed the seal, or V(UNSIGNED). It is verified only with O(allowed_signers).
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import (
    bundle_warnings,
    require_bundle,
    verify_bundle,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import resolved, sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, fail_with
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_findings, signature_of


def findings_of(path: str, allowed_signers: str | None) -> list[str]:
    """Return what is wrong with a bundle, and with its signature when the auditor gives the list of signers.

    Raises ``PhaseGateError``, ``OSError``.
    """
    findings = verify_bundle(path)
    if allowed_signers and not findings:
        findings = list(seal_findings(RunDirectory(path), allowed_signers))[:1]
    return findings


def not_intact(path: str, allowed_signers: str | None, findings: list[str]) -> PhaseGateError:
    """Return the operator's message for a bundle that does not verify."""
    return PhaseGateError(
        f"The bundle {path} does not verify.",
        expected=f"every file as {SEAL} lists it, an unbroken journal"
        + (f", and a signature of the seal by somebody in {allowed_signers}" if allowed_signers else ""),
        found="; ".join(findings),
        next_step="do not rely on this bundle; compare it with another copy and find out who changed it",
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run_directory": {"type": "path", "required": True},
            "allowed_signers": {"type": "path"},
        },
        supports_check_mode=True,
    )
    path, allowed_signers = resolved(module.params["run_directory"]), module.params["allowed_signers"]
    with errors_of(module):
        require_bundle(path)
        findings = findings_of(path, allowed_signers)
        if findings:
            fail_with(module, not_intact(path, allowed_signers, findings), findings=findings)
        artefacts = RunDirectory(path)
        doubts = bundle_warnings(path)
        for doubt in doubts:
            module.warn(doubt)
        module.exit_json(
            changed=False,
            run_directory=path,
            findings=[],
            doubts=doubts,
            seal=sha256_file(artefacts.file(SEAL)),
            signature=signature_of(artefacts),
        )


if __name__ == "__main__":
    main()
