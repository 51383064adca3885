#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshot the schema and the measured data (C-03, C-04, C-08)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_snapshot
short_description: Snapshot a database's schema and the data that a phase measures
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Reads the whole schema as facts from the catalogs in one C(REPEATABLE READ) transaction and reports one digest
    over them, the fingerprint.
  - Under the same exported snapshot takes the C(pg_dump --schema-only) text, row counts and the values of measured columns.
  - With O(label=after) the data is compared with that of O(label=before) in the same directory.
  - The module never modifies the database.
extends_documentation_fragment:
  - incomex.phasegate.connection
attributes:
  check_mode:
    support: full
    description: The fingerprint is taken; no file is written.
  diff_mode:
    support: none
    description: M(incomex.phasegate.schema_diff_gate) shows differences.
  idempotent:
    support: full
    description: An unchanged schema gives the same fingerprint; the files in the directory are replaced.
options:
  label:
    description: Which moment this is. V(before) is C-03 and C-04 of a phase, V(after) belongs to C-08.
    type: str
    choices: [before, after]
    default: before
  artefacts:
    description: The artefact directory; files go to C(schema/). Without it only the fingerprint is returned.
    type: path
  measure:
    description: Columns whose values are recorded for every row.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Name of the measurement, used in file names.
        type: str
        required: true
      relation:
        description: Schema-qualified table, quoted as in SQL.
        type: str
        required: true
      key:
        description: Name of the column that identifies a row.
        type: str
        required: true
      column:
        description: Name of the measured column.
        type: str
        required: true
      expect:
        description: Expected figures by name (C(rows), C(changed), C(distinct_before), C(distinct_after)).
        type: dict
        default: {}
      note:
        description: A sentence for the report.
        type: str
        default: ''
  row_counts:
    description: Tables whose rows are counted.
    type: list
    elements: dict
    default: []
    suboptions:
      relation:
        description: Schema-qualified table, quoted as in SQL. It may be absent.
        type: str
        required: true
      change:
        description: By how many rows the phase changes the table.
        type: int
        default: 0
"""

EXAMPLES = r"""
- name: C-03, C-04 | Snapshot before
  incomex.phasegate.schema_snapshot:
    container: postgres
    database: directus
    artefacts: /var/lib/phasegate/alpha_prod_20260516T031200Z
    measure:
      - id: updated_at
        relation: public.tac_logical_unit
        key: unit_id
        column: updated_at

- name: Tell whether the schema changed since yesterday
  incomex.phasegate.schema_snapshot:
    database: directus
  register: today
"""

RETURN = r"""
fingerprint:
  description: SHA-256 over all facts of the schema.
  returned: success
  type: str
objects:
  description: Number of objects in the snapshot.
  returned: success
  type: int
unseen:
  description: What this role could not see, one sentence each.
  returned: success
  type: list
  elements: str
measured:
  description: How the measured columns moved between before and after.
  returned: with O(label=after)
  type: list
  elements: dict
deviations:
  description: Measurements and row counts that are not as declared.
  returned: with O(label=after)
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _capture
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import open_directory
from ansible_collections.incomex.phasegate.plugins.module_utils._moment import STEPS, look, record_steps


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "label": {"type": "str", "choices": list(STEPS), "default": "before"},
            "artefacts": {"type": "path"},
            "measure": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "id": {"type": "str", "required": True},
                    "relation": {"type": "str", "required": True},
                    "key": {"type": "str", "required": True, "no_log": False},
                    "column": {"type": "str", "required": True},
                    "expect": {"type": "dict", "default": {}},
                    "note": {"type": "str", "default": ""},
                },
            },
            "row_counts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"relation": {"type": "str", "required": True}, "change": {"type": "int", "default": 0}},
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    client = Client.from_params(params)
    try:
        artefacts = open_directory(params["artefacts"], check_mode=module.check_mode)
        if artefacts is None:
            result = {"changed": False, **look(client)}
        else:
            declared = _capture.Declared.from_definition(params["measure"], params["row_counts"])
            result = {"changed": True, **record_steps(client, artefacts, params["label"], declared)}
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
