# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role may by what it is, read in one cluster and given in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.role_copy import give_access, read_access
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR, running_cluster
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

OWNER = '"Owner; --"'
ROLES = [f"CREATE ROLE {OWNER}", "CREATE ROLE team", "CREATE ROLE stranger"]
SOURCE = [
    *ROLES,
    "CREATE ROLE worker LOGIN BYPASSRLS CREATEDB",
    f"GRANT {OWNER} TO team{' WITH INHERIT FALSE' if MAJOR >= 16 else ''}",
    "GRANT team TO worker WITH ADMIN OPTION",
    "GRANT pg_monitor, pg_read_all_data TO worker",
    "GRANT team TO stranger",
    f"CREATE DATABASE source OWNER {OWNER}",
    "REVOKE ALL ON DATABASE source FROM PUBLIC",
    "GRANT CONNECT ON DATABASE source TO worker WITH GRANT OPTION",
    "GRANT TEMPORARY ON DATABASE source TO PUBLIC",
]
COPY = [*ROLES, "CREATE ROLE worker SUPERUSER", "CREATE DATABASE copy"]


def test_a_role_has_the_same_in_the_copy(cluster: Cluster) -> None:
    with running_cluster() as other:
        for statement in SOURCE:
            cluster.psql(statement)
        for statement in COPY:
            other.psql(statement)
        try:
            with client_of(cluster, "source", "worker").session() as session:
                access = read_access(session)
            assert access["memberships"] == [
                ["Owner; --", "team", False, MAJOR < 16, True],
                ["pg_monitor", "worker", False, True, True],
                ["pg_read_all_data", "worker", False, True, True],
                ["team", "worker", True, True, True],
            ]
            with client_of(other, "postgres").session() as session:
                give_access(session, "copy", access)
                give_access(session, "copy", access)
            # by a session of its own
            with client_of(other, "copy", "worker").session() as session:
                assert read_access(session) == access
            # what an earlier rehearsal left is no more than production's
            other.psql("ALTER ROLE worker SUPERUSER NOLOGIN")
            with client_of(other, "postgres").session() as session:
                give_access(session, "copy", access)
                own = read_access(session)
                give_access(session, "copy", {**own, "attributes": dict.fromkeys(own["attributes"], False)})
                assert read_access(session)["attributes"] == own["attributes"]
            assert other.psql("SELECT rolsuper, rolcanlogin FROM pg_roles WHERE rolname = 'worker'") == "f|t"
        finally:
            cluster.drop_database("source")
            for role in ("worker", "stranger", "team", OWNER):
                cluster.psql(f"DROP ROLE {role}")
