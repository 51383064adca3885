#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the review package of a plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_review
short_description: Write the review package of a plan
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Writes C(review.md) and C(review.html) from C(plan.json) and the two SQL files beside it. The HTML file is one page without
    any other file, for screens, phones and print.
  - The package has every statement verbatim with its locks, time and rows as rehearsed, whether it rewrites a table, and its lint
    findings; the checks; the measurements of the rehearsal; how to roll back and what the rollback cannot restore; what is out of
    scope; the digest to approve; and the exact commands to approve and to execute.
  - The DDL is linted by Squawk (C(squawk-cli)) if it is installed. Otherwise the package states that it was not linted.
  - Before that, the SQL is split and classified again. A plan that describes its SQL otherwise is refused, so what the package
    says about a statement is what PostgreSQL's parser finds in its bytes.
  - The package is not evidence. It is generated from the plan, and reviewers sign the plan.
  - Runs on the controller, whatever the host.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: Everything is read and checked. No file is written.
  diff_mode:
    support: none
    details: The files are generated as a whole.
  idempotent:
    support: full
    details: The same plan and the same linter give the same files.
options:
  plan:
    description: Path of C(plan.json).
    type: path
    required: true
requirements:
  - pglast >= 7
  - jsonschema >= 4
seealso:
  - module: incomex.phasegate.plan_approval
  - module: incomex.phasegate.plan_freeze
  - name: Squawk
    description: Linter for PostgreSQL migrations.
    link: https://squawkhq.com
"""

EXAMPLES = r"""
- name: Write the review package
  incomex.phasegate.plan_review:
    plan: plans/alpha_prod_rehearsal_20260516T031200Z/plan.json
"""

RETURN = r"""
plan_sha256:
  description: SHA-256 of C(plan.json), the digest to approve.
  returned: success
  type: str
markdown:
  description: Path of C(review.md).
  returned: success
  type: str
html:
  description: Path of C(review.html).
  returned: success
  type: str
linted:
  description: Whether the DDL was linted.
  returned: success
  type: bool
findings:
  description: The linter's findings.
  returned: success
  type: list
  elements: dict
  contains:
    rule: {description: Name of the rule., type: str}
    line: {description: 'Line of the DDL, counted from 1.', type: int}
    message: {description: What was found., type: str}
    help: {description: What to do., type: str}
"""
