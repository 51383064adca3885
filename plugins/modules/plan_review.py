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
  - The package is not evidence. It is generated from the plan, and reviewers sign the plan.
  - Run it on the controller.
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
  delegate_to: localhost
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

import dataclasses
import os
from typing import Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.incomex.phasegate.plugins.module_utils import _approvals, _document, _lint
from ansible_collections.incomex.phasegate.plugins.module_utils._module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import check_cover, digest
from ansible_collections.incomex.phasegate.plugins.module_utils._plan_schema import HAS_JSONSCHEMA, read_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._review import Subject, review


def sql_of(directory: str, part: Dict[str, Any]) -> bytes:
    """Return the SQL that the plan pins. Raises ``PhaseGateError``, ``OSError``."""
    with open(os.path.join(directory, part["file"]), "rb") as stream:
        data = stream.read()
    check_cover(part["statements"], data, part["sha256"], part["file"])
    return data


def linted(ddl: bytes, plan: Dict[str, Any]) -> Tuple[Optional[List[_lint.Finding]], str]:
    """Return the linter's findings and its name with version; None and nothing where there is no linter."""
    program = _lint.linter()
    if program is None:
        return None, ""
    wrapped = all(statement["run"] for statement in plan["ddl"]["statements"])
    findings = _lint.lint(program, ddl, plan["target"]["server_version"], wrapped=wrapped)
    return findings, f"squawk {_lint.version(program)}"


def package(path: str) -> Tuple[Dict[str, bytes], Dict[str, Any]]:
    """Return the files of the package by their paths, and the module's result. Raises ``PhaseGateError``, ``OSError``."""
    with open(path, "rb") as stream:
        data = stream.read()
    plan = read_plan(data, path)
    directory = os.path.dirname(path)
    ddl, rollback = (sql_of(directory, plan[part]) for part in ("ddl", "rollback"))
    findings, linter = linted(ddl, plan)
    document = review(Subject(plan, digest(data), ddl, rollback, shown(path), findings, linter))
    markdown, html = (os.path.join(directory, name) for name in ("review.md", "review.html"))
    files = {markdown: _document.markdown(document).encode("utf-8"), html: _document.page(document).encode("utf-8")}
    return files, {
        "plan_sha256": digest(data),
        "markdown": markdown,
        "html": html,
        "linted": findings is not None,
        "findings": [dataclasses.asdict(finding) for finding in findings or []],
    }


def shown(path: str) -> str:
    """Return a path as it is typed where Ansible was started, when it is below there."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def write(files: Dict[str, bytes], *, check_mode: bool) -> bool:
    """Write what differs and return whether anything does. Raises ``OSError``."""
    differing = {path: data for path, data in files.items() if _approvals.content(path) != data}
    for path, data in differing.items() if not check_mode else ():
        _approvals.put(path, data)
    return bool(differing)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"plan": {"type": "path", "required": True}}, supports_check_mode=True)
    if not HAS_JSONSCHEMA:
        module.fail_json(msg=missing_required_lib("jsonschema", reason="on the controller"))
    with errors_of(module, file_error=_approvals.file_error):
        files, result = package(os.path.abspath(module.params["plan"]))
        changed = write(files, check_mode=module.check_mode)
        module.exit_json(changed=changed, **result)


if __name__ == "__main__":
    main()
