# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the inputs of a playbook. An action plugin, because only the controller has all variables."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.playbook_inputs import (
    PREFIX,
    Unresolved,
    hosts_problem,
    input_error,
    input_problems,
    names_read,
)

HOSTS = f"{PREFIX}hosts"

SPECIFICATIONS = os.path.normpath(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "playbooks", "vars", "inputs.yml")
)


def specifications() -> Dict[str, Any]:
    """Return the specification of every playbook's inputs, by the playbook's name."""
    with open(SPECIFICATIONS, encoding="utf-8") as stream:
        playbooks: Dict[str, Any] = yaml.safe_load(stream)["playbooks"]
    return playbooks


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The action behind ``incomex.phasegate.playbook_inputs``."""

    _requires_connection = False
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return nothing but success, or every problem of the inputs."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        specified = specifications()
        _validated, params = self.validate_argument_spec(
            {"playbook": {"type": "str", "required": True, "choices": sorted(specified)}}
        )
        playbook = params["playbook"]
        read = names_read(specified, playbook)
        given: dict[str, Any] = {}
        for name in task_vars:
            if name in read:
                try:
                    # nothing for a value that is `omit`
                    given.update(self._templar.template({name: task_vars[name]}))
                except AnsibleError as error:
                    given[name] = Unresolved(str(error))
            elif name.startswith(PREFIX):
                given[name] = None
        extra = load_extra_vars(self._loader)
        found = input_problems(specified, playbook, given, extra)
        if found:
            return {**result, "failed": True, "msg": str(input_error(playbook, found))}
        # a variable of the inventory does not choose the hosts of a play
        chosen = bool(task_vars.get("ansible_limit")) or HOSTS in extra
        unchosen = hosts_problem(playbook, task_vars.get("ansible_play_hosts_all", ()), chosen=chosen)
        if unchosen and HOSTS in read:
            return {**result, "failed": True, "msg": str(unchosen)}
        return {**result, "changed": False}
