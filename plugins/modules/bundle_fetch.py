#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring the report or the bundle of a run to the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_fetch
short_description: Bring the report or the bundle of a run to the controller
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Copies the report of a sealed run, or its whole bundle, from the target to a directory of the controller, and verifies the copy there
    with the code of the auditor. A copy that does not verify is deleted, and the task fails.
  - The report is in C(HOST/BUNDLE.report), a bundle in C(HOST/BUNDLE). Nothing is overwritten. If the same is there already, it is verified
    again and nothing changes; another of that name is an error.
  - Directories get mode 0750 and files 0600.
  - Without O(backup) the backup stays on the host. A record beside the copy (C(BUNDLE.pruned.json)) says so, and an audit reports the
    backup as not checked.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: The run is looked for. Nothing is copied.
  diff_mode:
    support: none
    details: A copy has no earlier version to compare with.
  idempotent:
    support: full
    details: A copy that is there already is verified again.
options:
  root:
    description: Directory of all runs on the target host.
    type: path
    required: true
  directory:
    description: Directory on the controller; created if missing.
    type: path
    required: true
  run:
    description: Name of the run's directory. By default the newest sealed run.
    type: str
  whole:
    description: Whether to bring the bundle instead of the report.
    type: bool
    default: false
  backup:
    description: Whether a bundle comes with its backup, which is the database.
    type: bool
    default: false
  file:
    description: One file of the bundle, of which a piece is returned. The action sets it.
    type: str
  offset:
    description: Where that piece begins, in bytes.
    type: int
    default: 0
seealso:
  - module: incomex.phasegate.bundle_info
  - module: incomex.phasegate.runs_info
"""

EXAMPLES = r"""
- name: Bring the newest report
  incomex.phasegate.bundle_fetch:
    root: /var/lib/phasegate
    directory: /srv/evidence

- name: Bring one bundle with its backup
  incomex.phasegate.bundle_fetch:
    root: /var/lib/phasegate
    directory: /srv/evidence
    run: alpha_prod_20260516T031200Z
    whole: true
    backup: true
"""

RETURN = r"""
run:
  description: Name of the run's directory.
  returned: success
  type: str
run_directory:
  description: Its path on the target.
  returned: success
  type: str
path:
  description: Path of the copy on the controller.
  returned: success
  type: str
left:
  description: The backup that stays on the host; empty if there is none, or if it was copied.
  returned: success
  type: str
seal:
  description: SHA-256 of C(SHA256SUMS); empty in check mode.
  returned: success
  type: str
lines:
  description: Where the copy is and what its verification says, for people.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.export import bundle_contents, read_piece
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import sealed_run


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "run": {"type": "str"},
            "whole": {"type": "bool", "default": False},
            "backup": {"type": "bool", "default": False},
            "file": {"type": "str"},
            "offset": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    with errors_of(module):
        run = sealed_run(params["root"], params["run"] or "")
        if params["file"]:
            module.exit_json(changed=False, piece=read_piece(run, params["file"], params["offset"]))
        module.exit_json(changed=False, **bundle_contents(run, whole=params["whole"], backup=params["backup"]))


if __name__ == "__main__":
    main()
