#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove old backups."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_prune
short_description: Remove old backups, and no evidence
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Looks at the backups in the directories directly below O(root) and removes those that are neither among the newest
    O(keep) of their database nor young enough. No database is needed.
  - A backup that a sealed bundle names is removed only when O(archive) has a copy of the whole bundle that verifies and has
    the same seal. Everything else of the bundle stays; an audit of what is left then says that the backup is missing.
  - The backup of a run that is not sealed is never removed.
attributes:
  check_mode:
    support: full
    description: Tells what would be removed, and removes nothing.
  diff_mode:
    support: none
    description: The return value names every backup.
  idempotent:
    support: full
    description: What is gone is not found again.
options:
  root:
    description: Directory of all runs and backups on the target host.
    type: path
    required: true
  keep:
    description: How many backups of every database stay, however old they are.
    type: int
    default: 3
  max_age_days:
    description: Backups that are not older than this stay, by the clock of the target host.
    type: int
    default: 30
  archive:
    description: Directory, reachable from the target host, with copies of sealed bundles under their own names.
    type: path
"""

EXAMPLES = r"""
- name: Keep the newest five backups of every database, and those of a quarter
  incomex.phasegate.backup_prune:
    root: /var/lib/phasegate
    keep: 5
    max_age_days: 92
    archive: /mnt/archive/phasegate
"""

RETURN = r"""
backups:
  description: Every backup that was found, the newest first.
  returned: always
  type: list
  elements: dict
  contains:
    bundle: {description: Name of its directory., type: str}
    file: {description: Name of the file or directory., type: str}
    size: {description: Size in bytes., type: int}
    remove: {description: Whether it was removed., type: bool}
    why: {description: The reason., type: str}
lines:
  description: The same for people.
  returned: always
  type: list
  elements: str
"""

import dataclasses
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import file_error
from ansible_collections.incomex.phasegate.plugins.module_utils._retention import Rule, Verdict, judge, remove


def prune(root: str, rule: Rule, *, check_mode: bool) -> list[Verdict]:
    """Judge and remove; return what became of every backup. Raises ``PhaseGateError``."""
    if rule.keep < 1 or rule.max_age_days < 0:
        raise PhaseGateError(
            "This rule would leave no backup.",
            expected="keep of 1 or more, max_age_days of 0 or more",
            found=f"keep {rule.keep}, max_age_days {rule.max_age_days}",
            next_step="choose how many backups of every database shall stay",
        )
    if not os.path.isdir(root):
        return []
    verdicts = judge(root, rule, time.time())
    for number, verdict in enumerate(verdicts):
        if verdict.remove and not check_mode:
            try:
                remove(root, verdict)
            except BlockingIOError:
                verdicts[number] = dataclasses.replace(
                    verdict, remove=False, why="somebody is at work in its directory: run again later"
                )
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
    rule = Rule(params["keep"], params["max_age_days"], params["archive"] or "")
    try:
        verdicts = prune(params["root"], rule, check_mode=module.check_mode)
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(file_error(error)))
    else:
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
