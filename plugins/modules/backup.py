#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a fresh backup (C-01, C-02)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Make a fresh PostgreSQL backup that was read in full
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Dumps one database with C(pg_dump) in custom format into C(backup.dump) of an artefact directory (C-01).
  - While the dump is written it is hashed, and C(pg_restore) reads every byte of it, because C(pg_restore --list)
    notices neither a truncated nor a damaged archive.
  - Writes C(backup.json) beside it with digest, size and the start by the database server's clock (C-02).
  - The file appears under its name when it is complete and on disk, or not at all.
extends_documentation_fragment:
  - incomex.phasegate.connection
attributes:
  check_mode:
    support: full
    description: Connects and says what would be done; makes no backup.
  diff_mode:
    support: none
    description: There is nothing to compare.
  idempotent:
    support: none
    description: Every call makes a new backup; one that exists in the directory is replaced.
options:
  artefacts:
    description: The artefact directory on the target host, of an open run or a plain directory. It is made when absent.
    type: path
    required: true
  compression:
    description: V(auto) is zstd where this C(pg_dump) has it, else gzip.
    type: str
    choices: [auto, zstd, lz4, gzip, none]
    default: auto
  contents:
    description:
      - Also count and digest the rows of every table, under the dump's own snapshot, into C(backup_contents.json).
      - A rehearsal compares the restored copy with it. All data is read a second time.
    type: bool
    default: false
  background:
    description:
      - Return once the backup is on its way in a process of its own. Only in the directory of an open run.
      - What comes of it is in the run's journal. M(incomex.phasegate.migrate) and the seal wait for it.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: C-01 | Back up directus
  incomex.phasegate.backup:
    container: postgres
    database: directus
    user: workflow_admin
    artefacts: /var/lib/phasegate/alpha_prod_20260516T031200Z
"""

RETURN = r"""
backup:
  description: What is known of the backup.
  returned: success, except in check mode and in the background
  type: dict
  contains:
    file: {description: Name of the file in the artefact directory., type: str}
    size: {description: Size in bytes., type: int}
    sha256: {description: SHA-256 of the file., type: str}
    started_epoch: {description: Start of the dump in seconds since 1970 by the server's clock., type: float}
    database: {description: Name of the database., type: str}
    system_identifier: {description: The cluster's system identifier., type: str}
    server_version: {description: Version of the server., type: str}
    pg_dump_version: {description: What C(pg_dump --version) prints., type: str}
    compression: {description: The compression that was used., type: str}
    toc_entries: {description: Number of entries that C(pg_restore --list) reports., type: int}
    read_in_full: {description: Whether C(pg_restore) read the whole archive without an error., type: bool}
"""

import json
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _background
from ansible_collections.incomex.phasegate.plugins.module_utils._backup import COMPRESSIONS, back_up
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    Artefacts,
    open_directory,
    run_step,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import read_identity


def make(
    client: Client,
    artefacts: Artefacts,
    compression: str,
    *,
    contents: bool,
    started: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Make the backup and its marker file, and journal both. ``started`` is called when nothing can start before it."""
    with artefacts.busy():
        with run_step(artefacts, "C-01") as step:
            started()
            path = artefacts.file("backup.dump")
            backup, found = back_up(client, path, compression, contents=contents)
            step.data["backup"] = backup.as_dict()
            if contents:
                step.file("backup_contents.json", json.dumps(found, indent=1).encode() + b"\n")
        with run_step(artefacts, "C-02") as step:
            step.data.update(sha256=backup.sha256, started_epoch=backup.started_epoch)
            step.file("backup.json", json.dumps(backup.as_dict(), indent=2, sort_keys=True).encode() + b"\n")
    return {"changed": True, "backup": backup.as_dict()}


def start(client: Client, artefacts: Artefacts, compression: str, *, contents: bool) -> dict[str, Any]:
    """Start the backup in a process of its own. Raises ``PhaseGateError`` when it does not come about."""
    artefacts.require_run()
    on_its_way = _background.start(
        lambda started: make(client, artefacts, compression, contents=contents, started=started)
    )
    if not on_its_way:
        raise PhaseGateError(
            "C-01: the backup could not be started in the background.",
            expected="a process that journals C-01",
            found="it ended before",
            next_step="run it in the foreground (background: false) to see why",
        )
    return {"changed": True, "msg": "the backup is on its way"}


def pretend(client: Client) -> dict[str, Any]:
    """Connect, and say what would be done."""
    with client.session() as session:
        read_identity(session, client)
    return {"changed": True, "msg": f"would back up {client.database} from {client.place}"}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "artefacts": {"type": "path", "required": True},
            "compression": {"type": "str", "choices": ["auto", *COMPRESSIONS], "default": "auto"},
            "contents": {"type": "bool", "default": False},
            "background": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    client = Client.from_params(module.params)
    try:
        artefacts = open_directory(module.params["artefacts"], check_mode=module.check_mode)
        if artefacts is None:
            result = pretend(client)
        else:
            how = start if module.params["background"] else make
            result = how(client, artefacts, module.params["compression"], contents=module.params["contents"])
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
