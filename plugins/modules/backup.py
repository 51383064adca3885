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
  - Backs one database up into an artefact directory (C-01). O(method) says how.
  - Everything is hashed and read in full before it counts, because C(pg_restore --list) notices neither a truncated nor a
    damaged archive. A dump in custom format is hashed and read by C(pg_restore) while it is written; a directory is read by
    C(pg_restore) when it is complete; a base backup is hashed while it is received and read by C(pg_verifybackup).
  - Writes C(backup.json) beside it with digest, size and the start by the database server's clock (C-02), and the cluster's
    roles without their passwords into C(roles.sql).
  - The backup appears under its name when it is complete and on disk, or not at all. What a killed backup left, here and in
    the open runs beside this directory, is removed first.
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.how_to_back_up
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

- name: Back up with four connections, and prove it in another cluster
  incomex.phasegate.backup:
    container: postgres
    database: directus
    user: workflow_admin
    artefacts: /var/lib/phasegate/weekly
    method: directory
    jobs: 4
    proof:
      container: scratch
      database: directus_scratch
      user: postgres
"""

RETURN = r"""
backup:
  description: What is known of the backup.
  returned: success, except in check mode and in the background
  type: dict
  contains:
    method: {description: How it was made., type: str}
    file: {description: Name of the file or directory in the artefact directory., type: str}
    size: {description: Size of all files in bytes., type: int}
    sha256:
      description: SHA-256 of the file. Of a directory it is that of its listing, such as C(backup.dir.sha256).
      type: str
    started_epoch: {description: Start of the backup in seconds since 1970 by the server's clock., type: float}
    database: {description: Name of the database., type: str}
    system_identifier: {description: The cluster's system identifier., type: str}
    server_version: {description: Version of the server., type: str}
    program_version: {description: 'What C(pg_dump --version), or that of C(pg_basebackup), prints.', type: str}
    compression: {description: The compression that was used., type: str}
    toc_entries: {description: Number of entries that C(pg_restore --list) reports; 0 for a base backup., type: int}
    read_in_full: {description: Whether the whole backup was read without an error., type: bool}
    not_dumped: {description: What is not in it., type: list, elements: str}
    proof:
      description: Where it was restored, and how many tables and rows were compared. Empty without O(proof).
      type: dict
removed:
  description: Paths of what killed backups had left.
  returned: success, except in check mode and in the background
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_steps import (
    BACKUP_ARGUMENTS,
    make,
    start,
    wanted_by,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    open_directory,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import read_identity


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
            **BACKUP_ARGUMENTS,
            "contents": {"type": "bool", "default": False},
            "background": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    client = Client.from_params(params)
    wanted = wanted_by(params, contents=params["contents"])
    try:
        artefacts = open_directory(params["artefacts"], check_mode=module.check_mode)
        if artefacts is None:
            result = pretend(client)
        else:
            result = (start if params["background"] else make)(client, artefacts, wanted)
    except PhaseGateError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(**result)


if __name__ == "__main__":
    main()
