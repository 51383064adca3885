#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Delete old backups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_prune
short_description: Delete old backups while keeping all evidence
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Lists the backups in the directories directly below O(root) and deletes those that are neither among the newest O(keep) of
    their database nor within O(max_age_days). No database connection is needed.
  - A backup that a sealed bundle refers to is deleted only if O(archive) has a copy of the whole bundle that verifies and has the
    same seal. All other files of the bundle stay. A record beside the bundle
    (C(<bundle>.pruned.json)) has the reason, and an audit reports the backup as pruned.
  - The backup of a run that is not sealed is never deleted.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: Reports what it would delete. Nothing is deleted.
  diff_mode:
    support: none
    details: RV(backups) has every backup with the decision.
  idempotent:
    support: full
    details: Time passes. A later call deletes the backups that have grown too old since.
options:
  root:
    description: Directory of all runs and backups on the target host.
    type: path
    required: true
  keep:
    description: Number of backups of every database to keep, whatever their age.
    type: int
    default: 3
  max_age_days:
    description: Age in days up to which a backup is kept, by the clock of the target host.
    type: int
    default: 30
  archive:
    description: Directory, reachable from the target host, with copies of sealed bundles under their own names.
    type: path
seealso:
  - module: incomex.phasegate.backup
  - module: incomex.phasegate.bundle_info
"""

EXAMPLES = r"""
- name: Keep the newest five backups of every database, and those of the last quarter
  incomex.phasegate.backup_prune:
    root: /var/lib/phasegate
    keep: 5
    max_age_days: 92
    archive: /mnt/archive/phasegate
"""

RETURN = r"""
backups:
  description: Every backup that was found, the newest first.
  returned: success
  type: list
  elements: dict
  contains:
    bundle: {description: Name of its directory., type: str}
    file: {description: Name of the file or directory., type: str}
    size: {description: Size in bytes., type: int}
    remove: {description: Whether it was deleted., type: bool}
    why: {description: The reason., type: str}
lines:
  description: The same as text, one line for each backup.
  returned: success
  type: list
  elements: str
"""

import dataclasses
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.retention import (
    RetentionRule,
    RetentionVerdict,
    delete_backups,
    evaluate_retention,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of


def prune(root: str, rule: RetentionRule, *, check_mode: bool) -> list[RetentionVerdict]:
    """Decide and delete; return the decision for every backup. Raises ``PhaseGateError``."""
    if rule.keep < 1 or rule.max_age_days < 0:
        raise PhaseGateError(
            "Invalid retention rule: it would keep no backup.",
            expected="keep of 1 or more, max_age_days of 0 or more",
            found=f"keep {rule.keep}, max_age_days {rule.max_age_days}",
            next_step="choose how many backups of every database to keep",
        )
    if not os.path.isdir(root):
        return []
    verdicts = evaluate_retention(root, rule, time.time())
    for number, verdict in enumerate(verdicts):
        if verdict.remove and not check_mode:
            try:
                delete_backups(root, verdict)
            except BlockingIOError:
                verdicts[number] = dataclasses.replace(verdict, remove=False, why="directory is in use; retry later")
    return verdicts


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 3},
            "max_age_days": {"type": "int", "default": 30},
            "archive": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    rule = RetentionRule(params["keep"], params["max_age_days"], params["archive"] or "")
    with errors_of(module):
        verdicts = prune(params["root"], rule, check_mode=module.check_mode)
        module.exit_json(
            changed=any(verdict.remove for verdict in verdicts),
            backups=[verdict.as_dict() for verdict in verdicts],
            lines=[
                *(["Check mode: nothing was deleted."] if module.check_mode else []),
                *(verdict.line() for verdict in verdicts),
            ],
        )


if __name__ == "__main__":
    main()
