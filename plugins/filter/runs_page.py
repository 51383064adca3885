# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs of all hosts of a play as one page."""

from __future__ import annotations

DOCUMENTATION = r"""
name: runs_page
author: incomex.phasegate contributors (@incomex)
short_description: The runs of all hosts of a play as one page
version_added: 0.1.0
description:
  - Returns what M(incomex.phasegate.runs_info) listed on each host as one self-contained HTML page, and as JSON. The playbook C(status) writes
    both.
positional: _input
options:
  _input:
    description: The names of all hosts of the play, in order.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of the hosts, by the host's name.
    type: dict
    required: true
  variable:
    description: The variable in which each host has the result of M(incomex.phasegate.runs_info).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write the page of all hosts
  ansible.builtin.copy:
    content: "{{ (ansible_play_hosts_all | incomex.phasegate.runs_page(hostvars, 'status_result')).html }}"
    dest: status.html
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: A dictionary with C(html), the page, and C(json), the runs by the host's name; null for a host without a result.
  type: dict
"""

import json
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import utc_now
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import ListedRun
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_page import runs_document


def runs_page(hosts: Sequence[str], hostvars: Mapping[str, Any], variable: str) -> dict[str, str]:
    """Return the page and the JSON. See RETURN."""
    results = {str(host): (hostvars[host].get(variable) or {}).get("runs") for host in hosts}
    # the templating engine's own values are no plain ones
    plain = json.loads(json.dumps(results, default=str))
    runs = {host: None if listed is None else [ListedRun(**one) for one in listed] for host, listed in plain.items()}
    at = utc_now()
    told = json.dumps({"at": at, "hosts": plain}, ensure_ascii=False, indent=2) + "\n"
    return {"html": render_page(runs_document(runs, at)), "json": told}


class FilterModule:
    """The filter ``incomex.phasegate.runs_page``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"runs_page": runs_page}
