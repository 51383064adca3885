# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a backup. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """How a backup is made."""

    DOCUMENTATION = r"""
options:
  format:
    description:
      - V(custom) is one file, C(backup.dump).
      - V(directory) is C(backup.dir/) with one file for each table, written through O(jobs) connections in parallel. Programs in
        a container write it below C(/tmp) there first, because C(pg_dump) cannot stream it.
      - V(basebackup) is C(backup.base/), the files of the whole cluster with the WAL that they need, for databases too large
        to dump. It needs a role with the REPLICATION attribute, a matching C(replication) entry in C(pg_hba.conf), a free
        replication slot, and a cluster without additional tablespaces. It contains the other databases and the password hashes,
        too.
    type: str
    choices: [custom, directory, basebackup]
    default: custom
  jobs:
    description: Number of tables to dump, and to restore for O(restore_test), in parallel. Only for O(format=directory).
    type: int
    default: 2
  compression:
    description: V(auto) is zstd if C(pg_dump) and C(pg_restore) support it, else gzip. A base backup is not compressed.
    type: str
    choices: [auto, zstd, lz4, gzip, none]
    default: auto
  restore_test:
    description:
      - Connection to another cluster. The dump is restored there into this scratch database, the rows and contents of every table
        are compared with the dump, and the database is dropped.
      - The cluster must be marked as a rehearsal cluster, and the role needs the SUPERUSER attribute there, as for
        M(incomex.phasegate.rehearse).
      - A scratch database that a failed or killed run left behind is dropped by the next run below the same root. No other database
        is ever touched.
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
"""
