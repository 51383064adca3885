#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build a plan from a phase's files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: phase_plan
short_description: Validate a phase and build a plan from its files
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Loads C(phase.yml) and the two SQL files beside it, validates all three, and returns the plan that the other modules run.
  - The SQL is split and classified by PostgreSQL's own parser (C(pglast)). A statement that is outside the phase's scope or
    unknown to phasegate is an error.
  - Every problem is reported, each with file, line, path, what was expected, what was found and what to do.
  - Runs on the controller, whatever the host. It neither connects to a database nor writes a file.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.read_only
  - incomex.phasegate._attributes.group_offline
options:
  path:
    description: Path of the phase's C(phase.yml) on the controller. Exactly one of O(path) and O(plan) is given.
    type: path
  plan:
    description:
      - Path of a rehearsed C(plan.json) on the controller, with the SQL files and the reviewers' signatures beside it.
      - It is returned as it was frozen. C(phase.yml) is not read.
      - The SQL is split and classified again by the definition in the plan. A plan that describes its SQL otherwise is refused.
    type: path
  reviews:
    description:
      - Paths of C(<bundle>.review.json) on the controller, with the reviewers' signatures beside them, for a phase that requires
        others.
    type: list
    elements: path
    default: []
  draft:
    description:
      - Whether the phase is a draft. Its digests, tags and scope are then those that its SQL needs, as M(incomex.phasegate.phase_check) would
        write them, whatever C(phase.yml) says, and its rollback may have marks of statements that a person has to write.
      - No effect with O(plan).
    type: bool
    default: false
requirements:
  - pglast >= 7
  - jsonschema >= 4
  - PyYAML
seealso:
  - module: incomex.phasegate.run_prepare
  - module: incomex.phasegate.plan_freeze
"""

EXAMPLES = r"""
- name: Plan | Read and validate phase alpha
  incomex.phasegate.phase_plan:
    path: "{{ playbook_dir }}/phases/alpha/phase.yml"
  register: phase
"""

RETURN = r"""
plan:
  description: The plan.
  returned: success
  type: dict
  contains:
    format: {description: V(phasegate-plan/1)., type: str}
    phase: {description: C(phase.yml) with all defaults., type: dict}
    definition: {description: 'File name, SHA-256 and size of C(phase.yml).', type: dict}
    ddl: {description: 'File name, SHA-256, size and statements of the DDL.', type: dict}
    rollback: {description: 'File name, SHA-256, size and statements of the rollback.', type: dict}
plan_sha256:
  description: SHA-256 of the plan's canonical JSON, which has sorted keys, no spaces, UTF-8 and a newline at the end.
  returned: success
  type: str
source:
  description: The absolute path of O(path) or O(plan), as M(incomex.phasegate.run_prepare) takes it.
  returned: success
  type: str
reviews:
  description: The absolute paths of O(reviews).
  returned: success
  type: list
  elements: str
summary:
  description: The phase in figures.
  returned: success
  type: dict
  contains:
    phase: {description: Slug of the phase., type: str}
    revision: {description: Revision of the phase., type: str}
    title: {description: Title of the phase., type: str}
    tags: {description: Number of statements in the DDL by command tag., type: dict}
    preflight: {description: Number of preflight checks., type: int}
    verify: {description: Number of verification checks., type: int}
problems:
  description: Everything that is wrong with the phase.
  returned: failure
  type: list
  elements: dict
  contains:
    file: {description: Path of the file., type: str}
    line: {description: 'Line, counted from 1; 0 for the file as a whole.', type: int}
    path: {description: 'Place in C(phase.yml), such as V(verify[2].expect).', type: str}
    what: {description: What is wrong., type: str}
    expected: {description: What was expected., type: str}
    found: {description: What was found., type: str}
    next_step: {description: What to do., type: str}
"""
