# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The targets that the hosts of the inventory declare."""

from __future__ import annotations

DOCUMENTATION = r"""
name: targets
author: incomex.phasegate contributors (@incomex)
short_description: The targets that the hosts of the inventory declare
version_added: 0.1.0
description:
  - Returns one mapping for each inventory host that has the variable C(phasegate_database), whether the play runs on it or not, in
    the form of the option O(incomex.phasegate.rehearse#module:targets).
  - It has the host's name, the C(system_identifier) of C(phasegate_identity), and the connection by C(phasegate_container),
    C(phasegate_host), C(phasegate_port) and C(phasegate_service).
  - A variable of a host that cannot be templated is an error, because that host's target could not be compared.
"""

EXAMPLES = r"""
- name: Prove a backup in a cluster that is nobody's target
  incomex.phasegate.backup:
    run_directory: "{{ phasegate_root }}/manual_work"
    restore_test: "{{ phasegate_backup_proof }}"
    targets: "{{ query('incomex.phasegate.targets') }}"
"""

RETURN = r"""
_raw:
  description: One mapping for each host with a target.
  type: list
  elements: dict
"""

from typing import Any, Mapping

from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.playbook_inputs import PREFIX

_CONNECTION = ("container", "host", "port", "service")


def targets_of(hosts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what each host declares; ``hosts`` are their variables, templated, without those that are ``omit``."""
    found = []
    for name, variables in hosts.items():
        if f"{PREFIX}database" not in variables:
            continue
        identity = variables.get(f"{PREFIX}identity") or {}
        target = {option: variables.get(f"{PREFIX}{option}") for option in _CONNECTION}
        target["container"] = target["container"] or identity.get("container")
        target["system_identifier"] = str(identity.get("system_identifier") or "")
        found.append({"name": name, **{key: value for key, value in target.items() if value}})
    return found


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core has no types
    """The lookup ``incomex.phasegate.targets``."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return one mapping for each host with a target."""
        self.set_options(var_options=variables, direct=kwargs)
        if terms:
            raise AnsibleLookupError("incomex.phasegate.targets takes no terms")
        hostvars = (variables or {})["hostvars"]
        wanted = [f"{PREFIX}{option}" for option in ("database", "identity", *_CONNECTION)]
        hosts = {}
        for name in hostvars:
            raw = hostvars.raw_get(name)
            templar = self._templar.copy_with_new_env(available_variables=raw)
            try:
                hosts[name] = templar.template({key: raw[key] for key in wanted if key in raw})
            except AnsibleError as error:
                raise AnsibleLookupError(
                    f"The target that inventory host {name} declares is unknown: {error}"
                ) from error
        return targets_of(hosts)
