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
