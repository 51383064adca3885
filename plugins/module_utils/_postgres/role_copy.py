# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role attributes, memberships and database privileges, which no dump contains: read in one cluster, granted in another.

A rehearsal runs the phase as the role that runs it on production: new objects get the same owner, and a missing
privilege fails there first.
"""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major, grant_role

_ATTRIBUTES = ("SUPERUSER", "INHERIT", "BYPASSRLS", "CREATEROLE", "CREATEDB", "REPLICATION")

_ROLE = "SELECT rolname, rolsuper, rolinherit, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = current_user"

_MEMBERSHIPS = """
WITH RECURSIVE above AS (
  SELECT oid FROM pg_roles WHERE rolname = current_user UNION
  SELECT m.roleid FROM pg_auth_members m JOIN above ON m.member = above.oid)
SELECT pg_get_userbyid(m.roleid), pg_get_userbyid(m.member), bool_or(m.admin_option), bool_or(@membership_inherit(m)), bool_or(@membership_set(m))
FROM pg_auth_members m JOIN above ON m.member = above.oid
WHERE pg_get_userbyid(m.member) !~ '^pg_' GROUP BY 1, 2 ORDER BY 1, 2
"""

_OWNER = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"

_PRIVILEGES = """
SELECT CASE a.grantee WHEN 0 THEN '' ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = current_database() ORDER BY 1, 2
"""


def read_access(session: Session) -> dict[str, Any]:
    """Return the attributes, memberships and database privileges of the session's role.

    ``user``; ``attributes`` by name; ``memberships``, also those through other roles, each as role, member, admin, inherit,
    set; ``owner`` of the database, and its ``privileges``, each as grantee ('' is PUBLIC), privilege, grantable.
    """
    user, *attributes = session.rows(_ROLE)[0]
    return {
        "user": user,
        "attributes": {name: has == "t" for name, has in zip(_ATTRIBUTES, attributes)},
        "memberships": [
            [role, member, *(one == "t" for one in how)]
            for role, member, *how in session.rows(for_major(_MEMBERSHIPS, session.major))
        ],
        "owner": session.value(_OWNER),
        "privileges": [[grantee, privilege, how == "t"] for grantee, privilege, how in session.rows(_PRIVILEGES)],
    }


def give_access(session: Session, database: str, access: Mapping[str, Any]) -> None:
    """Grant the role of the same name in this cluster and database what ``read_access`` found; all roles exist already.

    The role may log in then: a session of its own can become no other role. The session's role, and the cluster's bootstrap
    superuser (OID 10), keep their attributes.
    """
    user, name = access["user"], identifier(database)
    attributes = " ".join(word if has else f"NO{word}" for word, has in access["attributes"].items())
    if (
        session.value(f"SELECT oid <> 10 AND rolname <> current_user FROM pg_roles WHERE rolname = {literal(user)}")
        == "t"
    ):
        session.execute(f"ALTER ROLE {identifier(user)} LOGIN {attributes}")
    for role, member, admin, inherit, may_set in access["memberships"]:
        options = {"admin": admin, "inherit": inherit, "may_set": may_set}
        session.execute(grant_role(session.major, identifier(role), identifier(member), **options))
    session.execute(f"ALTER DATABASE {name} OWNER TO {identifier(access['owner'])}")
    session.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    for grantee, privilege, grantable in access["privileges"]:
        to = identifier(grantee) if grantee else "PUBLIC"
        session.execute(f"GRANT {privilege} ON DATABASE {name} TO {to}{' WITH GRANT OPTION' if grantable else ''}")
