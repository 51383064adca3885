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
  - Reads the whole schema as facts from the catalogs in one C(REPEATABLE READ) transaction and returns one digest over them, the
    fingerprint.
  - Takes the C(pg_dump --schema-only) text, row counts and the values of measured columns under the same exported snapshot.
  - With O(label=after) the data is compared with that of O(label=before) in the same directory.
  - The module never modifies the database.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
attributes:
  check_mode:
    support: full
    details: The fingerprint is returned. No file is written.
  diff_mode:
    support: none
    details: M(incomex.phasegate.schema_diff_gate) returns differences.
  idempotent:
    support: partial
    details: >-
      An unchanged schema has the same fingerprint. With O(run_directory) the files are replaced, so RV(ignore:changed) is always
      true.
options:
  label:
    description: When the snapshot is taken. V(before) is C-03 and C-04 of a phase, V(after) belongs to C-08.
    type: str
    choices: [before, after]
    default: before
  run_directory:
    description: The run directory. Files go to C(schema/). Without it, only the fingerprint is returned.
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
seealso:
  - module: incomex.phasegate.schema_info
  - module: incomex.phasegate.schema_diff_gate
  - module: incomex.phasegate.schema_drift
"""

EXAMPLES = r"""
- name: C-03, C-04 | Take the snapshot before the migration
  incomex.phasegate.schema_snapshot:
    container: postgres
    database: directus
    run_directory: /var/lib/phasegate/alpha_prod_20260516T031200Z
    measure:
      - id: updated_at
        relation: public.tac_logical_unit
        key: unit_id
        column: updated_at

- name: Return the fingerprint, to compare it with yesterday's
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
  description: What was hidden from the role, one sentence each.
  returned: success
  type: list
  elements: str
measured:
  description: How the measured columns changed between before and after.
  returned: success, for O(label=after)
  type: list
  elements: dict
deviations:
  description: Measurements and row counts that differ from the declared ones, in a run directory without a migration.
  returned: success, for O(label=after)
  type: list
  elements: str
elsewhere:
  description:
    - Measurements and row counts that differ from the declared ones after a migration in this run directory.
    - Its own changes were compared before COMMIT; these are reported, because other sessions' changes are in them.
  returned: success, for O(label=after)
  type: list
  elements: str
"""

import json
import os
from typing import Any, Dict, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import open_run_directory
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import DataExpectations
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import (
    STEPS,
    fetch_fingerprint,
    record_state_steps,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import sections_for_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import SECTIONS


def _plan_of(path: str) -> Dict[str, Any]:
    with open(path, encoding="utf-8") as stream:
        return dict(json.load(stream))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "label": {"type": "str", "choices": list(STEPS), "default": "before"},
            "run_directory": {"type": "path"},
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
    client = Client.of_module(module)
    with errors_of(module):
        artefacts = open_run_directory(params["run_directory"], check_mode=module.check_mode)
        if artefacts is None:
            result = {"changed": False, **fetch_fingerprint(client, SECTIONS)}
        else:
            declared = DataExpectations.from_definition(params["measure"], params["row_counts"])
            sections: Tuple[str, ...] = SECTIONS
            if os.path.isfile(artefacts.plan_path):
                sections = sections_for_plan(_plan_of(artefacts.plan_path))
            result = {"changed": True, **record_state_steps(client, artefacts, params["label"], declared, sections)}
        module.exit_json(**result)


if __name__ == "__main__":
    main()
