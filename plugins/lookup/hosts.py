# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts that a play runs on, of which there has to be one."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hosts
author: incomex.phasegate contributors (@incomex)
short_description: A pattern of hosts that at least one host matches
version_added: 0.1.0
description:
  - Returns the pattern. When no host of the inventory matches it, or none of those that C(--limit) leaves, it is an error. Ansible itself
    skips such a play and ends with status 0, as if it had run.
options:
  _terms:
    description: One pattern of hosts.
    required: true
  whole:
    description:
      - Whether the play must run as a whole, so that C(--tags), C(--skip-tags) and C(--start-at-task) are errors. For plays whose
        status is their result.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check the schema of every host
  hosts: "{{ lookup('incomex.phasegate.hosts', phasegate_hosts | default('all'), whole=true) }}"
  gather_facts: false
  roles:
    - role: incomex.phasegate.drift
"""

RETURN = r"""
_raw:
  description: The pattern.
  type: list
  elements: str
"""

from typing import Any, Mapping

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.plugins.lookup import LookupBase
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError


def _chosen_parts() -> list[str]:
    """Return the options of the command line that choose a part of a play."""
    given = {
        "--tags": [tag for tag in context.CLIARGS.get("tags") or () if tag != "all"],
        "--skip-tags": context.CLIARGS.get("skip_tags"),
        "--start-at-task": context.CLIARGS.get("start_at_task"),
    }
    return [option for option, value in given.items() if value]


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core has no types
    """The lookup ``incomex.phasegate.hosts``."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the pattern."""
        self.set_options(var_options=variables, direct=kwargs)
        if len(terms) != 1:
            raise AnsibleLookupError("incomex.phasegate.hosts takes one pattern of hosts")
        pattern = terms[0].strip()
        try:
            self._require(pattern, variables or {})
        except PhaseGateError as error:
            raise AnsibleLookupError(str(error)) from error
        return [pattern]

    def _require(self, pattern: str, variables: Mapping[str, Any]) -> None:
        parts = _chosen_parts() if self.get_option("whole") else []
        if parts:
            raise PhaseGateError(
                "This playbook runs as a whole: its status is the result of a check.",
                expected="no option that chooses some of its tasks",
                found=", ".join(parts),
                next_step="run again without it",
            )
        if not pattern:
            raise PhaseGateError(
                "An empty value was given.",
                expected="a host or a group in phasegate_hosts, or no phasegate_hosts at all",
                found="phasegate_hosts is empty or only blanks",
                next_step="find out which variable is not set; leave the input out if it is not meant",
            )
        inventory = InventoryManager(self._loader, parse=False)
        for group, hosts in variables["groups"].items():
            inventory.add_group(group)
            for host in hosts:
                inventory.add_host(host, group)
        limit = variables.get("ansible_limit")
        inventory.subset(limit)
        if not inventory.get_hosts(pattern):
            raise PhaseGateError(
                "No host to run on.",
                expected=f"a host of the inventory that matches {pattern!r}"
                + (f" within --limit {limit}" if limit else ""),
                found=f"none of the {len(inventory.hosts)} hosts of the inventory",
                next_step="correct phasegate_hosts, the limit (-l) or the inventory (-i); ansible-inventory --graph shows the names",
            )
