# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The targets of an inventory, none of which may hold a copy. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """What the inventory hosts declare as their targets."""

    DOCUMENTATION = r"""
options:
  targets:
    description:
      - What the hosts of the inventory declare as their targets. A cluster among them never holds a restored copy.
      - The lookup P(incomex.phasegate.targets#lookup) returns it.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the inventory host., type: str, required: true}
      system_identifier:
        description: The declared system identifier. If it is given, it alone is compared; otherwise the connection.
        type: str
      container: {description: The container of the target's connection., type: str}
      host: {description: The host of the target's connection., type: str}
      port: {description: The port of the target's connection., type: int}
      service: {description: The service of the target's connection., type: str}
"""
