# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts that all databases of a cluster share: roles, memberships, tablespaces."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import varying
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    FIRST_USER_OID,
    NOTES,
    FactQuery,
    fact_query,
    flag,
    json_list,
    note_joins,
)

CLUSTER: tuple[FactQuery, ...] = (
    fact_query(
        "role",
        schema_at=None,
        section="cluster",
        carrier_class="pg_authid",
        carrier="r.oid",
        number="0",
        identity={"name": "r.rolname"},
        attributes={
            "superuser": flag("r.rolsuper"),
            "inherit": flag("r.rolinherit"),
            "create_role": flag("r.rolcreaterole"),
            "create_database": flag("r.rolcreatedb"),
            "login": flag("r.rolcanlogin"),
            "replication": flag("r.rolreplication"),
            "bypass_row_security": flag("r.rolbypassrls"),
            "connection_limit": "CASE WHEN r.rolconnlimit <> -1 THEN r.rolconnlimit END",
            "valid_until": "r.rolvaliduntil",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_roles r{note_joins('pg_authid', 'r.oid', shared=True)} WHERE r.rolname NOT LIKE 'pg\\_%'",
    ),
    fact_query(
        "role_membership",
        schema_at=None,
        section="cluster",
        parent=("role", (0,)),
        carrier_class="pg_authid",
        carrier="m.roleid",
        number=varying("membership_number", "m"),
        keyed_by="pg_auth_members",
        identity={
            "role": "pg_catalog.pg_get_userbyid(m.roleid)",
            "member": "pg_catalog.pg_get_userbyid(m.member)",
            # what a superuser grants, the bootstrap superuser has granted, whose name differs between clusters
            "grantor": "CASE WHEN m.grantor <> 10 THEN pg_catalog.pg_get_userbyid(m.grantor)::text ELSE '' END",
        },
        attributes={
            "admin": flag("m.admin_option"),
            "inherit": flag(varying("membership_inherit", "m")),
            "set": flag(varying("membership_set", "m")),
        },
        source=f"FROM pg_catalog.pg_auth_members m WHERE {varying('membership_oid', 'm')} >= {FIRST_USER_OID}",
    ),
    fact_query(
        "tablespace",
        schema_at=None,
        section="cluster",
        carrier_class="pg_tablespace",
        carrier="t.oid",
        number="0",
        identity={"name": "t.spcname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(t.spcowner)",
            "location": "pg_catalog.pg_tablespace_location(t.oid)",
            "options": f"CASE WHEN t.spcoptions IS NOT NULL THEN {json_list('t.spcoptions')} END",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_tablespace t{note_joins('pg_tablespace', 't.oid', shared=True)} WHERE true",
    ),
)
