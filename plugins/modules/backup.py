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
  method:
    description:
      - V(custom) is one file, C(backup.dump).
      - V(directory) is C(backup.dir/) with a file for each table, written by O(jobs) connections at once. Programs in a
        container write it below C(/tmp) there first, because C(pg_dump) cannot stream it.
      - V(basebackup) is C(backup.base/), the files of the whole cluster with the WAL that they need, for databases too large
        to dump. It needs a role with REPLICATION that C(pg_hba.conf) lets replicate, a free replication slot, and a cluster
        without further tablespaces. It holds the other databases and the password hashes, too.
    type: str
    choices: [custom, directory, basebackup]
    default: custom
  jobs:
    description: How many tables are dumped, and restored for O(proof), at once. Only for O(method=directory).
    type: int
    default: 2
  compression:
    description: V(auto) is zstd where C(pg_dump) and C(pg_restore) have it, else gzip. A base backup is not compressed.
    type: str
    choices: [auto, zstd, lz4, gzip, none]
    default: auto
  contents:
    description:
      - Also count and digest the rows of every table, under the dump's own snapshot, into C(backup_contents.json).
      - A rehearsal compares the restored copy with it. All data is read a second time.
    type: bool
    default: false
  proof:
    description:
      - Connection of another cluster. The dump is restored into this scratch database there, every table's rows and contents
        are compared with those that the dump saw, and the database is dropped.
      - A scratch database that is left, by a failure or a killed run, is dropped by the next run; one that has not the comment
        C(phasegate rehearsal) is never touched.
      - The role must be a superuser there, as for M(incomex.phasegate.rehearse).
    type: dict
    suboptions:
      container: {description: As O(container)., type: str}
      container_engine: {description: As O(container_engine)., type: str, default: docker}
      bindir: {description: As O(bindir)., type: path}
      host: {description: As O(host)., type: str}
      port: {description: As O(port)., type: int}
      database: {description: Name of the scratch database., type: str, required: true}
      user: {description: As O(user)., type: str}
      service: {description: As O(service)., type: str}
      passfile: {description: As O(passfile)., type: str}
      sslmode:
        description: As O(sslmode).
        type: str
        choices: [disable, allow, prefer, require, verify-ca, verify-full]
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

import json
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _background
from ansible_collections.incomex.phasegate.plugins.module_utils._backup import (
    COMPRESSIONS,
    Wanted,
    back_up,
    remove_leftovers,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_record import CONTENTS, MARKER, NAMES
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    Artefacts,
    open_directory,
    run_step,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import read_identity


def make(
    client: Client, artefacts: Artefacts, wanted: Wanted, *, started: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Make the backup and its marker file, and journal both. ``started`` is called when nothing can start before it."""
    with artefacts.busy():
        with run_step(artefacts, "C-01") as step:
            started()
            removed = remove_leftovers(artefacts)
            step.data["removed"] = removed
            backup, found = back_up(client, artefacts, wanted)
            step.data["backup"] = backup.as_dict()
            if wanted.contents:
                step.file(CONTENTS, json.dumps(found, indent=1).encode() + b"\n")
        with run_step(artefacts, "C-02") as step:
            step.data.update(sha256=backup.sha256, started_epoch=backup.started_epoch)
            step.file(MARKER, json.dumps(backup.as_dict(), indent=2, sort_keys=True).encode() + b"\n")
    return {"changed": True, "backup": backup.as_dict(), "removed": removed}


def start(client: Client, artefacts: Artefacts, wanted: Wanted) -> dict[str, Any]:
    """Start the backup in a process of its own. Raises ``PhaseGateError`` when it does not come about."""
    artefacts.require_run()
    on_its_way = _background.start(lambda started: make(client, artefacts, wanted, started=started))
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
            "method": {"type": "str", "choices": list(NAMES), "default": "custom"},
            "jobs": {"type": "int", "default": 2},
            "compression": {"type": "str", "choices": ["auto", *COMPRESSIONS], "default": "auto"},
            "contents": {"type": "bool", "default": False},
            "proof": {"type": "dict", "options": CONNECTION_ARGUMENTS},
            "background": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    client = Client.from_params(params)
    wanted = Wanted(
        params["method"],
        params["compression"],
        max(1, params["jobs"]),
        params["contents"],
        Client.from_params(params["proof"]) if params["proof"] else None,
    )
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
