# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of a phase. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """What a check consists of."""

    DOCUMENTATION = r"""
options:
  checks:
    description: The checks, in order. A failed check does not stop the following ones.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: Name of the check, such as V(P-3).
        type: str
        required: true
      title:
        description: What is checked.
        type: str
        default: ''
      sql:
        description: One query. Exactly one of O(checks[].sql) and O(checks[].builtin) is given.
        type: str
      builtin:
        description:
          - A built-in check.
          - V(target_identity) compares the server with O(identity).
          - V(ddl_checksum) compares the SHA-256 of the frozen DDL with the one in the plan.
          - V(schema_diff) checks the result of M(incomex.phasegate.schema_diff_gate).
        type: str
        choices: [target_identity, ddl_checksum, schema_diff]
      expect:
        description:
          - The expected answer. A scalar is compared with the only value, a list of scalars with the values of the only
            column, a mapping with the only row, and a list of mappings with all rows.
          - Types count. V(1) is neither V(true) nor the text V('1').
        type: raw
      after_commit:
        description: >-
          Whether the check holds only once statements after C(COMMIT) have run. M(incomex.phasegate.migrate) does not run it
          before C(COMMIT).
        type: bool
"""
