#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a fresh backup (C-01, C-02)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Make a PostgreSQL backup and read it in full
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Backs one database up into a directory (C-01), in the format that O(format) selects.
  - The backup is hashed and read in full before it counts, because C(pg_restore --list) detects neither a truncated nor a
    damaged archive. A dump in custom format is hashed and read by C(pg_restore) while it is written. A dump in directory format
    is read by C(pg_restore) once it is complete. A base backup is hashed while it is received and read by C(pg_verifybackup).
  - Writes C(backup.json) beside it with the digest, the size and the start by the database server's clock (C-02), and the
    cluster's roles without their passwords into C(roles.sql).
  - The backup gets its name once it is complete and on disk. What a killed backup left behind, here and in the open runs beside
    this directory, is deleted first.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
  - incomex.phasegate._backup
  - incomex.phasegate._targets
attributes:
  check_mode:
    support: full
    details: Connects and reports what it would do. No backup is made.
  diff_mode:
    support: N/A
    details: A new backup has nothing to compare with.
  idempotent:
    support: none
    details: Every call makes a new backup and replaces the one in the directory.
options:
  run_directory:
    description:
      - Directory on the target host, of an open run or any other. It is created if absent.
      - Required, except in check mode.
    type: path
  contents:
    description:
      - Whether to also count and hash the rows of every table, under the dump's own snapshot, into C(backup_contents.json).
      - A rehearsal compares the restored copy with it. All data is read a second time.
    type: bool
    default: false
  background:
    description:
      - Whether to return once the backup has started in a process of its own. Only in the directory of an open run.
      - Its outcome is recorded in the run's journal. M(incomex.phasegate.migrate) and M(incomex.phasegate.run_seal) wait for it.
    type: bool
    default: false
seealso:
  - module: incomex.phasegate.backup_prune
  - module: incomex.phasegate.run_prepare
  - module: incomex.phasegate.rehearse
"""

EXAMPLES = r"""
- name: C-01 | Back up directus
  incomex.phasegate.backup:
    container: postgres
    database: directus
    user: workflow_admin
    run_directory: /var/lib/phasegate/alpha_prod_20260516T031200Z

- name: Back up through four connections and test the restore in another cluster
  incomex.phasegate.backup:
    container: postgres
    database: directus
    user: workflow_admin
    run_directory: /var/lib/phasegate/weekly
    format: directory
    jobs: 4
    restore_test:
      container: scratch
      database: directus_scratch
      user: postgres
"""

RETURN = r"""
backup:
  description: The record of the backup.
  returned: success, except in check mode and in the background
  type: dict
  contains:
    method: {description: Format of the backup., type: str}
    file: {description: Name of the file or directory in O(run_directory)., type: str}
    size: {description: Size of all files in bytes., type: int}
    sha256:
      description: SHA-256 of the file. For a directory, SHA-256 of its listing, such as C(backup.dir.sha256).
      type: str
    started_epoch: {description: Start of the backup in seconds since 1970 by the server's clock., type: float}
    database: {description: Name of the database., type: str}
    system_identifier: {description: The cluster's system identifier., type: str}
    server_version: {description: Version of the server., type: str}
    program_version: {description: 'Output of C(pg_dump --version), or of C(pg_basebackup --version).', type: str}
    compression: {description: The compression that was used., type: str}
    toc_entries: {description: Number of entries that C(pg_restore --list) reports; 0 for a base backup., type: int}
    read_in_full: {description: Whether the whole backup was read without an error., type: bool}
    not_dumped: {description: What the backup does not contain., type: list, elements: str}
    proof:
      description: Where the dump was restored, and how many tables and rows were compared. Empty without O(restore_test).
      type: dict
removed:
  description: Paths of the deleted remains of killed backups.
  returned: success, except in check mode and in the background
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.steps import (
    BACKUP_ARGUMENTS,
    backup_options,
    make_backup,
    start_backup,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import open_run_directory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, run_directory_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity


def pretend(client: Client) -> dict[str, Any]:
    """Connect, and report what would be done."""
    with client.session() as session:
        read_identity(session, client)
    return {"changed": True}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "run_directory": {"type": "path"},
            **BACKUP_ARGUMENTS,
            "contents": {"type": "bool", "default": False},
            "background": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    client = Client.of_module(module)
    wanted = backup_options(params, contents=params["contents"])
    with errors_of(module):
        path = params["run_directory"] if module.check_mode else run_directory_of(module, "C-01")
        artefacts = open_run_directory(path, check_mode=module.check_mode)
        if artefacts is None:
            result = pretend(client)
        else:
            result = (start_backup if params["background"] else make_backup)(client, artefacts, wanted)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
