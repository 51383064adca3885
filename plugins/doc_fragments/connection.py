# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that several modules share. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Where PostgreSQL's programs run, how they connect, and what the target declares to be."""

    # The connection itself (action group C(phasegate))
    DOCUMENTATION = r"""
options:
  container:
    description:
      - Name of the container that has PostgreSQL's client programs; they are run there by C(docker exec).
      - Without it they run on the target host.
    type: str
  container_engine:
    description: The container engine's client program on the target host, C(docker) or C(podman).
    type: str
    default: docker
  bindir:
    description: Directory of PostgreSQL's client programs on the target host; by default they are looked up in E(PATH).
    type: path
  host:
    description: Host name or socket directory, as libpq's C(host). By default the local socket.
    type: str
  port:
    description: TCP port or socket number, as libpq's C(port).
    type: int
  database:
    description: Name of the database.
    type: str
    required: true
  user:
    description: Role to connect as; by default libpq's own default.
    type: str
  service:
    description: Name of a connection service in libpq's service file.
    type: str
  passfile:
    description:
      - Path of a libpq password file in the place where the programs run.
      - There is no option for a password itself, so none can reach a command line, a log or an artefact.
    type: str
  sslmode:
    description: As libpq's C(sslmode).
    type: str
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
notes:
  - Connection options are best given once per play, as C(module_defaults) of the action group C(incomex.phasegate.phasegate).
  - The target host needs nothing but Python; C(psql), C(pg_dump), C(pg_dumpall) and C(pg_restore) may be those in a container.
requirements:
  - PostgreSQL 16 server and client programs
"""

    IDENTITY = r"""
options:
  identity:
    description:
      - What the target is declared to be. Every fact that is given must be true, or the target is refused.
      - Facts that are left out are not judged.
    type: dict
    suboptions:
      container:
        description: Name of the container.
        type: str
      database:
        description: Name of the database.
        type: str
      user:
        description: Role of the session.
        type: str
      server_version:
        description: Major version (V(16)) or complete version (V(16.13)).
        type: str
      system_identifier:
        description:
          - The cluster's system identifier, drawn at C(initdb).
          - C(SELECT system_identifier FROM pg_control_system()) prints it.
        type: str
      rehearsal_system_identifiers:
        description: System identifiers of rehearsal clusters; none of them may be the target.
        type: list
        elements: str
        default: []
"""

    CHECKS = r"""
options:
  checks:
    description: The checks, in order; none stops the others.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: Name of the check, such as V(P-3).
        type: str
        required: true
      title:
        description: What is checked.
        type: str
        default: ''
      sql:
        description: One query. Exactly one of O(checks[].sql) and O(checks[].builtin) is given.
        type: str
      builtin:
        description:
          - A check that phasegate itself has.
          - V(target_identity) compares the server with O(identity).
          - V(ddl_checksum) compares the frozen DDL with the digest that the plan requires.
          - V(schema_diff) judges the result of M(incomex.phasegate.schema_diff_gate).
        type: str
        choices: [target_identity, ddl_checksum, schema_diff]
      expect:
        description:
          - The expected answer. A scalar stands for the only value, a list of scalars for the values of the only
            column, a mapping for the only row, and a list of mappings for all rows.
          - Types count. V(1) is neither V(true) nor the text V('1').
        type: raw
      after_commit:
        description: The check holds only once statements after C(COMMIT) have run; M(incomex.phasegate.migrate) leaves it out before.
        type: bool
"""

    OPENING = r"""
options:
  root:
    description: Directory of all runs on the target host.
    type: path
  environment:
    description: Short name of the environment, part of the directory's name.
    type: str
  inventory_name:
    description: The target's name in the inventory, for the report.
    type: str
    default: ''
  inventory_sources:
    description: Where the inventory comes from (C(ansible_inventory_sources)), for the command that would roll back.
    type: list
    elements: str
    default: []
  operator:
    description: Who opens the run and from where. A second operator is told it, and it stands in the report.
    type: str
    default: ''
  lock_idle:
    description:
      - After how many seconds without a sign of life of the run its lock ends by itself. A sign of life
        is a step at work or a line in the journal. A run of which a step was killed, or which its controller left unsealed, loses
        it at once.
      - A run that has the lock and shows none is waited for that long.
    type: int
    default: 60
  conditions:
    description:
      - What is done about a condition around the phase that is not as it should be, by its name, V(stop), V(warn) or
        V(ignore). They are judged when the run is opened, before anything is backed up; a rehearsal has none.
      - V(stop) by default are C(wraparound_vacuum), C(prepared_transactions), C(artefact_space), C(server_space), C(locks),
        C(client_version), C(synchronous_standby) and C(replica_lag).
      - V(warn) by default are C(long_transactions), C(pg_dump), C(replication_slots) and C(minor_version).
      - A session or a prepared transaction stops a run only when it holds a lock on a relation that the plan names; another
        one warns.
      - What the role may not see has the status C(UNKNOWN), and stops nothing.
    type: dict
    default: {}
  limits:
    description:
      - Limits of the conditions.
      - C(transaction_age_s) is how many seconds a transaction may be open, 60 by default.
      - C(server_space_mb) is how many MiB are to be free on the server beside what the plan needs, 256 by default.
      - C(replica_lag_bytes) is how many bytes of WAL a replica may be behind, 67108864 by default.
      - C(replica_lag_s) is how many seconds a replica may be behind that is behind at all, 60 by default.
    type: dict
    default: {}
  plan:
    description: The plan as M(incomex.phasegate.phase_plan) returns it.
    type: dict
  plan_sha256:
    description: The plan's SHA-256 as M(incomex.phasegate.phase_plan) returns it.
    type: str
    default: ''
  ddl_b64:
    description: The DDL's bytes as M(incomex.phasegate.phase_plan) returns them, frozen below C(sql/) (C-05). Needed with O(plan).
    type: str
  rollback_b64:
    description: The rollback SQL's bytes, likewise.
    type: str
  signatures_b64:
    description: The reviewers' signatures over the plan as M(incomex.phasegate.phase_plan) returns them.
    type: dict
    default: {}
  notes_b64:
    description: The reviewers' notes as M(incomex.phasegate.phase_plan) returns them.
    type: dict
    default: {}
  reviews_b64:
    description: The reviews of the phases that this one requires, as M(incomex.phasegate.phase_plan) returns them.
    type: dict
    default: {}
  seal_key:
    description: As O(incomex.phasegate.evidence#module:seal_key). A run whose seal it could not sign is not opened.
    type: path
"""

    HOW_TO_BACK_UP = r"""
options:
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
"""
