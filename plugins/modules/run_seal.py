#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seal a run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_seal
short_description: Seal the directory of a run
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Builds C(report.json) from the journal and the files of the run, renders C(report.md), C(report.html), C(junit.xml) and C(SUMMARY.txt) from
    it, and writes C(SHA256SUMS) last. No database connection is needed.
  - Fails if the run did not end in success, after sealing, with the reason, so that the failure is both in the bundle and on the
    operator's screen. With O(reason) it always fails, in check mode too. The steps before it can therefore return their failure as
    data, by C(failed_when) set to false, as the roles of this collection do. Then the reason is shown once.
  - A run that stopped before it had a directory gets one below O(root), with the reason.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: Nothing is written, and the report of a run that is not sealed is empty.
  diff_mode:
    support: N/A
    details: The files are always new.
  idempotent:
    support: full
    details: >-
      A sealed directory is left as it is. A seal that is not signed yet is signed once O(seal_key) is given, and one without a time-stamp gets it
      once O(timestamp_url) is given.
options:
  run_directory:
    description: The run directory. Required unless O(root) is given.
    type: path
  root:
    description: Directory of all runs on the target host, for a run that has no directory.
    type: path
  environment:
    description: Short name of the environment, for a run that has no directory.
    type: str
  phase:
    description: Slug of the phase, for a run that has no directory.
    type: str
  kind:
    description:
      - What a run was for that has no directory. V(verification) is that of a phase that was applied before.
    type: str
    choices: [execute, rollback, rehearsal, verification]
    default: execute
  execution:
    description: For a run that has no directory, the run directory of the execution that it rolls back or verifies.
    type: path
  inventory_name:
    description: The target's name in the inventory, for the report of a run that has no directory.
    type: str
    default: ''
  reason:
    description: Why the run ended, if a step outside of phasegate's modules stopped it.
    type: str
    default: ''
  seal_key:
    description:
      - Path, on the target host, of an SSH key without a passphrase, or of a key that an SSH agent has. The seal is signed with
        it, in the namespace C(seal@phasegate.incomex), into C(SHA256SUMS.sig).
      - Without it, the seal is V(UNSIGNED).
    type: path
  timestamp_url:
    description:
      - URL, C(http) or C(https), of a time-stamp authority (RFC 3161). Its time-stamp of the seal becomes C(SHA256SUMS.tsr). It is
        asked from the target host, which needs C(openssl) for it.
      - An authority that does not answer, or not with a time-stamp of this seal, is a warning. The run and its seal stay as they are, and the
        module can be run again.
    type: str
seealso:
  - module: incomex.phasegate.run_open
  - module: incomex.phasegate.bundle_info
"""

EXAMPLES = r"""
- name: Seal the run
  incomex.phasegate.run_seal:
    run_directory: "{{ run.run_directory }}"
    seal_key: /etc/phasegate/seal_ed25519

- name: Seal a run that stopped, with the reason
  incomex.phasegate.run_seal:
    run_directory: "{{ run.run_directory }}"
    reason: "{{ ansible_failed_result.msg }}"
"""

RETURN = r"""
run_directory:
  description: The run directory. Empty in check mode for a run that has none.
  returned: once sealed, and in check mode
  type: str
outcome:
  description: The outcome of the run. Empty in check mode for a run that is not sealed.
  returned: once sealed, and in check mode
  type: str
remarks:
  description: What nobody vouched for, as in the report; V(approvals were not enforced) and V(not rehearsed). A play shows it behind the outcome.
  returned: once sealed
  type: list
  elements: str
seconds:
  description: How long the run took, from its opening to its seal.
  returned: once sealed
  type: float
summary:
  description: The lines of C(SUMMARY.txt). On failure the message has the reason, the outcome and the path of the report.
  returned: success
  type: list
  elements: str
report:
  description: Path of C(report.md).
  returned: once sealed, and in check mode
  type: str
next_commands:
  description: What can be done next, as the report has it. On failure the message has the next step.
  returned: success, where the report names a command
  type: list
  elements: dict
  contains:
    title: {description: What the command is for., type: str}
    command: {description: The command., type: str}
seal:
  description: SHA-256 of C(SHA256SUMS).
  returned: once sealed
  type: str
signature:
  description: Fingerprint of the key that signed the seal, or V(UNSIGNED). M(incomex.phasegate.bundle_info) verifies it.
  returned: once sealed, and in check mode
  type: str
unstamped:
  description: Why there is no time-stamp of the seal.
  returned: once sealed with O(timestamp_url), if there is none
  type: str
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import JOURNAL, RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    EXECUTE,
    REHEARSAL,
    ROLLBACK,
    VERIFICATION,
    RunLeft,
    RunNotOpened,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import FORMAT
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import Ending, verdict_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import resolved
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import (
    errors_of,
    fail_with,
    warn_unstamped,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import RunOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_and_sign
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import not_sealed, unfinished
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import new_directory, require_place

# What a file's name may have besides the name of a phase or an environment.
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def sealed(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Seal a run; a run that never got a directory gets one that holds its reason."""
    artefacts = RunDirectory(resolved(params["run_directory"])) if params["run_directory"] else None
    if artefacts and not artefacts.has_run:
        raise PhaseGateError(
            "There is no run to seal here.",
            expected=f"a run directory with {JOURNAL}",
            found=f"{artefacts.path} without one",
            next_step="correct run_directory; run_open and run_prepare return it",
        )
    changed = artefacts is None or not artefacts.sealed
    if check_mode and changed:
        return {
            "changed": True,
            "run_directory": artefacts.path if artefacts else "",
            "outcome": "",
            "summary": [],
            "report": "",
            "signature": "",
        }
    if artefacts is None:
        artefacts = _not_opened(params)
    waiting = unfinished(artefacts) if params["reason"] else None
    if waiting:
        RunLeft(params["reason"]).write(artefacts.journal)
        raise waiting
    return seal_and_sign(
        artefacts, params["reason"], params.get("seal_key"), params.get("timestamp_url"), check_mode=check_mode
    )


def _not_opened(params: dict[str, Any]) -> RunDirectory:
    """Return a new directory, named as one of its kind is, with a journal that says what it was meant for."""
    require_place(params["root"], params["environment"] or "")
    kind, execution = params["kind"], params["execution"]
    # a path that was given by mistake is no reason to have no evidence
    phase = _NOT_IN_A_NAME.sub("-", params["phase"] or "").strip("-._") or "unknown"
    stem = [phase, params["environment"], *([] if kind == EXECUTE else [kind])]
    artefacts = new_directory(params["root"], "_".join(stem))
    about = RunNotOpened(
        kind=kind,
        execution=name_of(RunDirectory(execution)) if execution else None,
        phase=phase,
        environment=params["environment"],
        host=params["inventory_name"],
        format=FORMAT,
    )
    about.write(artefacts.journal)
    return artefacts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "run_directory": {"type": "path"},
            "root": {"type": "path"},
            "environment": {"type": "str"},
            "phase": {"type": "str"},
            "kind": {"type": "str", "choices": [EXECUTE, ROLLBACK, REHEARSAL, VERIFICATION], "default": EXECUTE},
            "execution": {"type": "path"},
            "inventory_name": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "seal_key": {"type": "path", "no_log": False},
            "timestamp_url": {"type": "str"},
        },
        required_one_of=[("run_directory", "root")],
        supports_check_mode=True,
    )
    params = module.params
    with errors_of(module, file_error=lambda error: not_sealed(params["run_directory"], error)):
        try:
            result = sealed(params, check_mode=module.check_mode)
        except (PhaseGateError, OSError) as error:
            if not params["reason"]:
                raise
            # why the run stopped comes first: nothing else shows it
            told = error if isinstance(error, PhaseGateError) else not_sealed(params["run_directory"], error)
            fail_with(module, f"{params['reason']}\n\n{told}")
        warn_unstamped(module, result)
        if params["reason"] or result["outcome"] not in ("", RunOutcome.SUCCESS, RunOutcome.DRAFTED):
            # the next step of a failure is in its reason
            del result["summary"]
            result.pop("next_commands", None)
            if result["report"]:
                lines = [*result.pop("stop"), f"report        {result['report']}"]
            else:
                lines = [params["reason"], "", verdict_of(params["kind"], Ending.CHECK_STOPPED).sentence]
            module.fail_json(msg="\n".join(lines), **result)
        result.pop("stop", None)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
