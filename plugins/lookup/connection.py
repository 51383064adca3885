# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection to a target by the variables of its inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: connection
author: incomex.phasegate contributors (@incomex)
short_description: Connection options of the modules, by the variables of the inventory
version_added: 0.1.0
description:
  - Returns the connection options that all modules of action group C(incomex.phasegate.phasegate) share, each by the variable
    C(phasegate_<option>). An option without a variable, or whose variable is C(omit), is left out.
  - The variables are C(phasegate_container), C(phasegate_container_engine), C(phasegate_bindir), C(phasegate_host),
    C(phasegate_port), C(phasegate_database), C(phasegate_user), C(phasegate_service), C(phasegate_passfile) and
    C(phasegate_sslmode). C(phasegate_database) is required.
  - The roles of this collection use it by themselves. A play that calls the modules directly gives it once, as
    C(module_defaults) of the action group.
"""

EXAMPLES = r"""
- name: Back up without a role
  hosts: all
  gather_facts: false
  module_defaults:
    group/incomex.phasegate.phasegate: "{{ lookup('incomex.phasegate.connection') }}"
  tasks:
    - name: Back up the database
      incomex.phasegate.backup:
        run_directory: "{{ phasegate_root }}/manual_work"
"""

RETURN = r"""
_raw:
  description: One mapping of connection options.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.playbook_inputs import PREFIX
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import (
    CONNECTION_ARGUMENTS,
    require_plain_values,
)


def connection_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of the connection, by the option that each is for. Raises ``PhaseGateError``."""
    found = {
        option: variables[f"{PREFIX}{option}"] for option in CONNECTION_ARGUMENTS if f"{PREFIX}{option}" in variables
    }
    for option, specification in CONNECTION_ARGUMENTS.items():
        if specification.get("required") and option not in found:
            raise PhaseGateError(
                "The connection to PostgreSQL is incomplete.",
                expected=f"a value for {PREFIX}{option}",
                found=f"{PREFIX}{option} is missing",
                next_step="set it in the inventory",
            )
    return found


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core has no types
    """The lookup ``incomex.phasegate.connection``."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return one mapping; an option whose variable is ``omit`` is not in it."""
        self.set_options(var_options=variables, direct=kwargs)
        if terms:
            raise AnsibleLookupError("incomex.phasegate.connection takes no terms")
        try:
            found: dict[str, Any] = self._templar.template(connection_variables(variables or {}))
            require_plain_values(found)
        except PhaseGateError as error:
            raise AnsibleLookupError(str(error)) from error
        return [found]
