#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the inputs of a playbook."""

from __future__ import annotations

DOCUMENTATION = r"""
module: playbook_inputs
short_description: Check the inputs of a playbook of this collection
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Compares every variable that begins with C(phasegate_) with the specification of the playbook's inputs,
    C(playbooks/vars/inputs.yml), and fails with all problems in one message.
  - A name that no playbook reads is refused with the known name that is nearest to it, wherever it was given. So is a name that
    only other playbooks read when it was given by C(-e); variables of the inventory reach every playbook.
  - A required input must be there; an input that is given must have a value, of the right type and among the choices. One that is
    empty or only blanks, or that contains such a value, is refused.
  - A play on several hosts is refused unless the operator chose them by C(-l) or C(-e phasegate_hosts=PATTERN).
  - Runs on the controller, whatever the host. It neither connects to the host nor writes a file.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.read_only
  - incomex.phasegate._attributes.group_offline
options:
  playbook:
    description: Name of the playbook.
    type: str
    choices: [approvals, approve, audit, check_phase, drift, execute, fetch, ledger, new_phase, prune, rehearse, review, rollback, status, watch]
    required: true
seealso:
  - module: incomex.phasegate.phase_plan
"""

EXAMPLES = r"""
- name: Validate inputs
  incomex.phasegate.playbook_inputs:
    playbook: execute
"""

RETURN = r"""
"""
