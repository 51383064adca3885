# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of what this release does not describe, so that it is never overlooked."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    FIRST_USER_OID,
    FactQuery,
    fact_query,
)

# Catalogs whose rows are described above, or which contain data, statistics or what follows from other catalogs.
_KNOWN_CATALOGS = [
    "pg_aggregate",
    "pg_am",
    "pg_amop",
    "pg_amproc",
    "pg_attrdef",
    "pg_attribute",
    "pg_auth_members",
    "pg_authid",
    "pg_cast",
    "pg_class",
    "pg_collation",
    "pg_constraint",
    "pg_conversion",
    "pg_database",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_inherits",
    "pg_init_privs",
    "pg_language",
    "pg_largeobject",
    "pg_largeobject_metadata",
    "pg_namespace",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_range",
    "pg_replication_origin",
    "pg_rewrite",
    "pg_seclabel",
    "pg_sequence",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shseclabel",
    "pg_statistic",
    "pg_statistic_ext",
    "pg_statistic_ext_data",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_tablespace",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_type",
    "pg_user_mapping",
]


def _unknown_query(
    what: str, carrier_class: str, oid: str, name: str, value: str, source: str, shapes: str = ""
) -> FactQuery:
    return fact_query(
        "unknown",
        shapes=shapes,
        schema_at=None,
        carrier_class=carrier_class,
        carrier=oid,
        number="0",
        identity={"what": f"'{what}'", "name": name},
        attributes={"value": value},
        source=source,
    )


UNKNOWN: tuple[FactQuery, ...] = (
    _unknown_query(
        "catalog",
        "pg_class",
        "c.oid",
        "c.relname",
        "'a system catalog unknown to this version'",
        f"FROM pg_catalog.pg_class c WHERE c.oid < {FIRST_USER_OID} AND c.relkind = 'r'"
        " AND c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pg_catalog')"
        f" AND c.relname <> ALL ('{{{','.join(_KNOWN_CATALOGS)}}}'::pg_catalog.name[])",
        shapes="-",
    ),
    _unknown_query(
        "relation kind",
        "pg_class",
        "c.oid",
        "c.oid::pg_catalog.regclass::text",
        "c.relkind",
        f"FROM pg_catalog.pg_class c WHERE c.oid >= {FIRST_USER_OID}"
        " AND c.relkind NOT IN ('r', 'p', 'f', 'v', 'm', 'S', 'i', 'I', 't', 'c')",
    ),
    _unknown_query(
        "type kind",
        "pg_type",
        "y.oid",
        "y.oid::pg_catalog.regtype::text",
        "y.typtype",
        f"FROM pg_catalog.pg_type y WHERE y.oid >= {FIRST_USER_OID} AND (y.typtype NOT IN ('b', 'c', 'd', 'e', 'm', 'p', 'r')"
        " OR y.typtype = 'p' AND y.typisdefined)",
    ),
    _unknown_query(
        "routine kind",
        "pg_proc",
        "f.oid",
        "f.oid::pg_catalog.regprocedure::text",
        "f.prokind",
        f"FROM pg_catalog.pg_proc f WHERE f.oid >= {FIRST_USER_OID} AND f.prokind NOT IN ('f', 'w', 'p', 'a')",
    ),
    _unknown_query(
        "constraint kind",
        "pg_constraint",
        "k.oid",
        "coalesce(nullif(k.conrelid, 0)::pg_catalog.regclass::text, nullif(k.contypid, 0)::pg_catalog.regtype::text, '') || '.' || k.conname",
        "k.contype",
        f"FROM pg_catalog.pg_constraint k WHERE k.oid >= {FIRST_USER_OID}"
        " AND (k.contype NOT IN ('p', 'u', 'f', 'c', 'x', 't', 'n') OR k.contypid <> 0 AND k.contype NOT IN ('c', 'n'))",
    ),
)
