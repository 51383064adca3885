# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection to PostgreSQL. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Where PostgreSQL's client programs run, and how they connect."""

    DOCUMENTATION = r"""
options:
  container:
    description:
      - Name of the container that has PostgreSQL's client programs. They run there by C(docker exec).
      - Without it they run on the target host.
    type: str
  container_engine:
    description: The container engine's client program on the target host, C(docker) or C(podman).
    type: str
    default: docker
  bindir:
    description: Directory of PostgreSQL's client programs on the target host. By default they are found through E(PATH).
    type: path
  host:
    description: Host name or socket directory, as in libpq's C(host). By default the local socket.
    type: str
  port:
    description: TCP port or socket number, as in libpq's C(port).
    type: int
  database:
    description: Name of the database.
    type: str
    required: true
  user:
    description: Role to connect as. By default libpq's own default.
    type: str
  service:
    description: Name of a connection service in libpq's service file.
    type: str
  passfile:
    description:
      - Path of a libpq password file in the place where the programs run.
      - There is no option for a password itself, so none can reach a command line, a log or a run directory.
    type: str
  sslmode:
    description: As in libpq's C(sslmode).
    type: str
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
notes:
  - The target host needs nothing but Python; C(psql), C(pg_dump), C(pg_dumpall) and C(pg_restore) may be those in a container.
requirements:
  - A server of PostgreSQL 14 to 18, and client programs of its major version
"""
