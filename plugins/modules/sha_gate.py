#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Freeze a file and assert its digest (C-05)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sha_gate
short_description: Freeze files into an artefact directory and assert their SHA-256
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Writes the given bytes into C(sql/) of an artefact directory and reads them back (C-05).
  - Fails unless the SHA-256 of what is on disk is the required one; then nothing of a failing file is left there.
attributes:
  check_mode:
    support: full
    description: The digests are asserted; no file is written.
  diff_mode:
    support: none
    description: The files are new.
  idempotent:
    support: full
    description: A file that is there with the required digest is left as it is.
options:
  artefacts:
    description: The artefact directory on the target host, of an open run or a plain directory. It is made when absent.
    type: path
  files:
    description: The files to freeze.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Plain file name without a directory.
        type: str
        required: true
      content_b64:
        description: The exact bytes, in base64.
        type: str
        required: true
      sha256:
        description: The SHA-256 that the bytes must have, in hex.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: C-05 | Freeze the DDL
  incomex.phasegate.sha_gate:
    artefacts: /var/lib/phasegate/alpha_prod_20260516T031200Z
    files:
      - name: migrate.sql
        content_b64: "{{ lookup('ansible.builtin.file', 'migrate.sql', rstrip=false) | b64encode }}"
        sha256: 8b7df143d91c716ecfa5fc1730022f6b421b05cedee8fd52b1fc65a96030ad52
"""

RETURN = r"""
files:
  description: The frozen files.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Name below C(sql/)., type: str}
    sha256: {description: SHA-256 of the file., type: str}
    size: {description: Size in bytes., type: int}
"""

import base64
import binascii
import hashlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import open_directory, run_step, sha256_file


def content(name: str, content_b64: str, sha256: str) -> bytes:
    """Return the decoded bytes. Raises ``PhaseGateError`` for a bad name, bad base64, or another digest."""
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise PhaseGateError(
            f"C-05: {name!r} is not a plain file name.",
            expected="a name without a directory",
            found=name,
            next_step="name the file only; it is frozen into sql/ of the artefact directory",
        )
    try:
        data = base64.b64decode(content_b64, validate=True)
    except binascii.Error as error:
        raise PhaseGateError(
            f"C-05: the content of {name} is not base64.",
            expected="base64",
            found=str(error),
            next_step="pass the file's bytes through the filter b64encode",
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise PhaseGateError(
            f"C-05: {name} is not the pinned file.",
            expected=f"SHA-256 {sha256.lower()}",
            found=f"SHA-256 {found}",
            next_step="find out who changed the file; a changed file is a new revision that needs its own review",
        )
    return data


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "artefacts": {"type": "path"},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "content_b64": {"type": "str", "required": True},
                    "sha256": {"type": "str", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    changed = False
    frozen = []
    try:
        artefacts = open_directory(module.params["artefacts"], check_mode=module.check_mode)
        with run_step(artefacts, "C-05") as step:
            for item in module.params["files"]:
                data = content(**item)
                name = os.path.join("sql", item["name"])
                if artefacts and not (
                    os.path.isfile(artefacts.file(name)) and sha256_file(artefacts.file(name)) == item["sha256"].lower()
                ):
                    step.file(name, data)
                    changed = True
                frozen.append({"name": name, "sha256": item["sha256"].lower(), "size": len(data)})
            step.data["files"] = frozen
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed or module.check_mode, files=frozen)


if __name__ == "__main__":
    main()
