#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Freeze a rehearsed plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_freeze
short_description: Freeze the result of a rehearsal into plan.json
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Writes C(plan.json) with the phase's plan, its target and the result of the rehearsal, in canonical bytes that reviewers sign.
    The SQL files are written beside it.
  - The same inputs give the same bytes, except for the nonce and the times.
  - Run it on the controller.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: No file is written.
  diff_mode:
    support: N/A
    details: The files are always new.
  idempotent:
    support: none
    details: Every plan has a nonce of its own.
options:
  directory:
    description: The directory to create for the plan. If the name is taken, a counter is added to it.
    type: path
    required: true
  plan:
    description: The plan as M(incomex.phasegate.phase_plan) returns it.
    type: dict
    required: true
  source:
    description: >-
      Path of C(phase.yml) as M(incomex.phasegate.phase_plan) returns it. The SQL beside it is copied into the plan's directory;
      it must be the SQL that was rehearsed.
    type: path
    required: true
  rehearsal:
    description: The result of M(incomex.phasegate.rehearse).
    type: dict
    required: true
  seal:
    description: SHA-256 of the C(SHA256SUMS) of the rehearsal's bundle.
    type: str
    required: true
  target:
    description: The identity of the production target as M(incomex.phasegate.run_open) returned it for the rehearsal.
    type: dict
    required: true
  environment:
    description: Short name of the environment that the plan is for.
    type: str
    required: true
  inventory_name:
    description: The target's name in the inventory.
    type: str
    required: true
  author:
    description: Who made the plan.
    type: str
    required: true
  valid_days:
    description: Number of days for which the plan may be executed.
    type: int
    default: 14
seealso:
  - module: incomex.phasegate.rehearse
  - module: incomex.phasegate.plan_review
  - module: incomex.phasegate.plan_approval
"""

EXAMPLES = r"""
- name: Freeze the plan
  incomex.phasegate.plan_freeze:
    directory: plans/alpha_prod_rehearsal_20260516T011200Z
    plan: "{{ phase.plan }}"
    source: "{{ phase.source }}"
    rehearsal: "{{ rehearsed.rehearsal }}"
    seal: "{{ sealed.seal }}"
    target: "{{ run.identity }}"
    environment: prod
    inventory_name: prod01
    author: a.author
  delegate_to: localhost
"""

RETURN = r"""
path:
  description: Path of C(plan.json).
  returned: success
  type: str
plan_sha256:
  description: SHA-256 of C(plan.json), the digest to approve.
  returned: success
  type: str
"""

import contextlib
import datetime
import os
import secrets
import unicodedata
from typing import Any, Mapping

from ansible.module_utils.ansible_release import __version__ as ansible_version
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    plan_file_error,
    read_found,
    replace_file,
    sha256_bytes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.names import name_problem
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import freeze_plan

TARGET = ("container", "database", "user", "server_version", "system_identifier")


def utc(moment: datetime.datetime) -> str:
    """Return a time as the plan has it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def document(params: dict[str, Any]) -> dict[str, Any]:
    """Return the content of plan.json."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return freeze_plan(
        params["plan"],
        target={
            "environment": params["environment"],
            "inventory_name": params["inventory_name"],
            **{name: params["target"][name] for name in TARGET},
        },
        rehearsal={**params["rehearsal"], "seal": params["seal"]},
        tools={"ansible-core": ansible_version},
        author=author_name(params["author"]),
        nonce=secrets.token_hex(16),
        created_at=utc(now),
        not_after=utc(now + datetime.timedelta(days=params["valid_days"])),
    )


def author_name(name: str) -> str:
    """Return the canonical spelling of the author's name. Raises ``PhaseGateError`` for one that looks like another."""
    name = unicodedata.normalize("NFKC", name).strip()
    problem = name_problem(name) or ("it is empty" if not name else "")
    if problem:
        raise PhaseGateError(
            "The author's name cannot be used.",
            expected="a name in letters of one script, without invisible characters",
            found=f"{name!r}: {problem}",
            next_step="give the name as it is in the register of reviewers (phasegate_author)",
        )
    return name


def rehearsed_sql(source: str, plan: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the SQL beside ``source`` by its file's name. Raises ``PhaseGateError`` unless it is the plan's, ``OSError``."""
    found = {}
    for part in ("ddl", "rollback"):
        pinned = plan[part]
        found[pinned["file"]] = read_found(os.path.join(os.path.dirname(source), pinned["file"]))
        check_cover(pinned["statements"], found[pinned["file"]], pinned["sha256"], pinned["file"])
    return found


def make_directory(name: str) -> str:
    """Make a directory of this name, or of the first free one with a counter, and return it. Raises ``PhaseGateError``.

    A plan is never written where another one is: people may have signed that one. Rehearsals of several targets that begin
    in the same second have the same name.
    """
    os.makedirs(os.path.dirname(name) or ".", mode=0o755, exist_ok=True)
    for suffix in ("", *(f".{number}" for number in range(2, 1000))):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name + suffix, 0o755)
            return name + suffix
    raise PhaseGateError(
        "No name is free for the directory of a plan.",
        expected=f"{name}, or {name}.2 to {name}.999",
        found="all of them",
        next_step="move plans that nobody needs away, or name another directory",
    )


def write(directory: str, files: dict[str, bytes]) -> None:
    """Write the files."""
    for name, data in files.items():
        # not as closed as evidence: reviewers read them
        replace_file(os.path.join(directory, name), data)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "plan": {"type": "dict", "required": True},
            "source": {"type": "path", "required": True},
            "rehearsal": {"type": "dict", "required": True},
            "seal": {"type": "str", "required": True},
            "target": {"type": "dict", "required": True},
            "environment": {"type": "str", "required": True},
            "inventory_name": {"type": "str", "required": True},
            "author": {"type": "str", "required": True},
            "valid_days": {"type": "int", "default": 14},
        },
        supports_check_mode=True,
    )
    params = module.params
    directory = params["directory"].rstrip("/")
    with errors_of(module, file_error=plan_file_error):
        data = canonical_json(document(params))
        # last: a directory with a plan is complete
        files = {**rehearsed_sql(params["source"], params["plan"]), "plan.json": data}
        if not module.check_mode:
            directory = make_directory(directory)
            write(directory, files)
        module.exit_json(changed=True, path=os.path.join(directory, "plan.json"), plan_sha256=sha256_bytes(data))


if __name__ == "__main__":
    main()
