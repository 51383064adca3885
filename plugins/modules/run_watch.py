#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Show a run while it is at work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_watch
short_description: Show a run while it is at work
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Shows each command and gate of a run when the journal has it, as the callback P(incomex.phasegate.board#callback) does, whatever
    callback is used. Meant for a second terminal, or for a remote target, where a callback cannot read the journal.
  - It ends when the run is sealed, or when no step of it has been at work for 60 seconds.
  - The journal is shown as it is. M(incomex.phasegate.bundle_info) shows whether somebody changed it.
  - No database connection is needed.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
  - incomex.phasegate._attributes.read_only
options:
  root:
    description: Directory of all runs on the target host.
    type: path
    required: true
  run:
    description: Name of the run's directory. By default the run that is at work, the newest of several.
    type: str
  after:
    description: How many entries of the journal not to show.
    type: int
    default: 0
  wait:
    description: Maximum seconds to wait for a run to begin, and for each look at its journal.
    type: int
    default: 10
seealso:
  - module: incomex.phasegate.runs_info
  - plugin: incomex.phasegate.board
    plugin_type: callback
"""

EXAMPLES = r"""
- name: Watch the run that is at work
  incomex.phasegate.run_watch:
    root: /var/lib/phasegate
"""

RETURN = r"""
run:
  description: Name of the run's directory; empty if no run is at work.
  returned: success
  type: str
run_directory:
  description: Its path; empty if no run is at work.
  returned: success
  type: str
outcome:
  description: The outcome that was sealed, or V(INTERRUPTED).
  returned: success
  type: str
remarks:
  description: What nobody vouched for, as in the report; V(approvals were not enforced) and V(not rehearsed). A play shows it behind the outcome.
  returned: success
  type: list
  elements: str
report:
  description: Path of C(report.md); empty unless the run is sealed.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, given_params
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_watch import watch


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "run": {"type": "str"},
            "after": {"type": "int", "default": 0},
            "wait": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    params = given_params(module)
    with errors_of(module):
        module.exit_json(changed=False, **watch(params["root"], params["run"] or "", params["after"], params["wait"]))


if __name__ == "__main__":
    main()
