# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of privileges, default privileges and the owners of system objects."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import OLDEST
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    FIRST_USER_OID,
    FactQuery,
    catalog_class,
    fact_query,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.relations import FROM_RELATION
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.routines import ROUTINE_IDENTITY


# Privileges: one fact per object (or column) and grantee whose privileges differ from the defaults. A privilege is
# written "name", with "*" when it may be granted on, with "/grantor" when the grantor is not the owner.
def _privilege_source(acl: str, owner: str, born: str, objects: str) -> str:
    item = (
        "{0}.privilege_type || CASE WHEN {0}.is_grantable THEN '*' ELSE '' END ||"
        " CASE WHEN {0}.grantor <> {1} THEN '/' || pg_catalog.pg_get_userbyid({0}.grantor) ELSE '' END"
    )
    return (
        f"{objects} CROSS JOIN LATERAL (SELECT g.grantee,"
        " coalesce(pg_catalog.json_agg(g.item ORDER BY g.item COLLATE \"C\") FILTER (WHERE g.side = 1), '[]')::text AS has,"
        " coalesce(pg_catalog.json_agg(g.item ORDER BY g.item COLLATE \"C\") FILTER (WHERE g.side = 0), '[]')::text AS born FROM ("
        f"SELECT 1 AS side, e.grantee, {item.format('e', owner)} AS item FROM pg_catalog.aclexplode({acl}) e"
        f" UNION ALL SELECT 0, b.grantee, {item.format('b', owner)} FROM pg_catalog.aclexplode({born}) b) g GROUP BY g.grantee) acl"
    )


_ACL_IDENTITY = ("of", "schema", "name", "column", "grantee")

_GRANTEE = "CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(acl.grantee)::text END"


def _privilege_query(
    catalog: str,
    *,
    of: str,
    schema: str,
    name: str,
    oid: str,
    acl: str,
    owner: str,
    letter: str,
    objects: str,
    where: str,
    column: str = "''",
    number: str = "0",
    shown_by_initdb: str = "",
    section: str = "schema",
    since: int = OLDEST,
) -> FactQuery:
    """Return the query for the privileges on the objects of one catalog.

    Objects of initdb and of extensions start with the privileges in ``pg_init_privs``, others with ``acldefault``.
    """
    born = f"pg_catalog.acldefault({letter}, {owner})"
    if shown_by_initdb:
        # initdb grants this on what it makes in information_schema, after it has filled pg_init_privs
        born = (
            f"CASE WHEN {oid} < {FIRST_USER_OID} AND {schema} <> 'public'"
            f" THEN {born} || pg_catalog.makeaclitem(0, {owner}, '{shown_by_initdb}', false) ELSE {born} END"
        )
    if section == "schema":
        init = (
            f" LEFT JOIN pg_catalog.pg_init_privs init ON init.objoid = {oid} AND init.classoid = {catalog_class(catalog)}"
            f" AND init.objsubid = {number} AND NOT (init.classoid = {catalog_class('pg_namespace')}"
            # a public schema that was dropped and made again has no row there: compare it with the default of any schema
            " AND init.objoid = 'public'::pg_catalog.regnamespace)"
        )
        born = f"coalesce(init.initprivs, {born})"
    else:
        init = ""
    return fact_query(
        "acl",
        namespace="acl",
        schema_at=1,
        parent=("acl", (0, 1, 2)),
        carrier_class=catalog,
        carrier=oid,
        number=f"({number})::pg_catalog.int8 * 4294967296 + acl.grantee::pg_catalog.int8",
        keyed_by=f"{catalog} privileges",
        identity=dict(zip(_ACL_IDENTITY, (of, schema, name, column, _GRANTEE))),
        attributes={"privileges": "acl.has", "born_with": "acl.born"},
        source=_privilege_source(acl, owner, born, f"FROM {objects}{init}")
        + f" WHERE {acl} IS NOT NULL AND acl.has <> acl.born AND {where}",
        section=section,
        since=since,
    )


_RELATION_KIND = (
    "CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized_view'"
    " WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign_table' WHEN 'c' THEN 'composite_type' ELSE c.relkind::text END"
)

_LASTING = "n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp\\_%'"

PRIVILEGES: tuple[FactQuery, ...] = (
    # What initdb made belongs to the bootstrap superuser, whose OID is 10 (BOOTSTRAP_SUPERUSERID).
    *(
        fact_query(
            "system_object",
            shapes="-" if catalog in ("pg_class", "pg_proc", "pg_type") else "",
            schema_at=None,
            carrier_class=catalog,
            carrier="o.oid",
            number="0",
            identity={"catalog": f"'{catalog}'", "name": label},
            attributes={"owner": f"pg_catalog.pg_get_userbyid(o.{prefix}owner)"},
            source=f"FROM pg_catalog.{catalog} o WHERE o.oid < {FIRST_USER_OID} AND o.{prefix}owner <> 10"
            + (" AND o.nspname <> 'public'" if catalog == "pg_namespace" else ""),
        )
        for catalog, prefix, label in (
            ("pg_namespace", "nsp", "o.nspname"),
            ("pg_class", "rel", "o.oid::pg_catalog.regclass::text"),
            ("pg_proc", "pro", "o.oid::pg_catalog.regprocedure::text"),
            ("pg_type", "typ", "o.oid::pg_catalog.regtype::text"),
            ("pg_language", "lan", "o.lanname"),
        )
    ),
    _privilege_query(
        "pg_class",
        of=_RELATION_KIND,
        schema="n.nspname",
        name="c.relname",
        oid="c.oid",
        acl="c.relacl",
        owner="c.relowner",
        letter="CASE WHEN c.relkind = 'S' THEN 's'::\"char\" ELSE 'r'::\"char\" END",
        objects=FROM_RELATION,
        where=_LASTING,
        shown_by_initdb="SELECT",
    ),
    _privilege_query(
        "pg_class",
        of=_RELATION_KIND,
        schema="n.nspname",
        name="c.relname",
        column="a.attname",
        number="a.attnum",
        oid="c.oid",
        acl="a.attacl",
        owner="c.relowner",
        letter="'c'",
        objects=f"pg_catalog.pg_attribute a JOIN {FROM_RELATION} ON c.oid = a.attrelid",
        where=f"{_LASTING} AND NOT a.attisdropped",
    ),
    _privilege_query(
        "pg_proc",
        of="CASE f.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END",
        schema="n.nspname",
        name=ROUTINE_IDENTITY["signature"],
        oid="f.oid",
        acl="f.proacl",
        owner="f.proowner",
        letter="'f'",
        objects="pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace",
        where=_LASTING,
    ),
    _privilege_query(
        "pg_type",
        of="CASE y.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' WHEN 'c' THEN 'composite_type' ELSE 'base_type' END",
        schema="n.nspname",
        name="y.typname",
        oid="y.oid",
        acl="y.typacl",
        owner="y.typowner",
        letter="'T'",
        objects="pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace",
        where=_LASTING,
    ),
    *(
        _privilege_query(
            catalog,
            of=f"'{of}'",
            schema=label,
            name=f"{alias}.{prefix}name",
            oid=f"{alias}.oid",
            acl=f"{alias}.{prefix}acl",
            owner=f"{alias}.{prefix}owner",
            letter=f"'{letter}'",
            objects=f"pg_catalog.{catalog} {alias}",
            shown_by_initdb="USAGE" if of == "schema" else "",
            where="true"
            if of != "schema"
            else "o.nspname NOT LIKE 'pg\\_toast%' AND o.nspname NOT LIKE 'pg\\_temp\\_%'",
        )
        for catalog, of, alias, prefix, letter, label in (
            ("pg_namespace", "schema", "o", "nsp", "n", "o.nspname"),
            ("pg_language", "language", "o", "lan", "l", "''"),
            ("pg_foreign_data_wrapper", "foreign_data_wrapper", "o", "fdw", "F", "''"),
            ("pg_foreign_server", "foreign_server", "o", "srv", "S", "''"),
        )
    ),
    # An entry of ALTER DEFAULT PRIVILEGES without a schema replaces the default privileges; one with a schema adds to it.
    fact_query(
        "default_acl",
        schema_at=1,
        carrier_class="pg_default_acl",
        carrier="d.oid",
        number="acl.grantee::pg_catalog.int8",
        keyed_by="pg_default_acl privileges",
        identity={
            "role": "pg_catalog.pg_get_userbyid(d.defaclrole)",
            "schema": "coalesce(n.nspname, '')",
            "objects": "CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'"
            " WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE d.defaclobjtype::text END",
            "grantee": _GRANTEE,
        },
        attributes={"privileges": "acl.has", "born_with": "acl.born"},
        source=_privilege_source(
            "d.defaclacl",
            "d.defaclrole",
            "CASE WHEN d.defaclnamespace = 0 THEN"
            " pg_catalog.acldefault(CASE WHEN d.defaclobjtype = 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)"
            " ELSE NULL END",
            "FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace",
        )
        + " WHERE acl.has <> acl.born",
    ),
    _privilege_query(
        "pg_database",
        of="'database'",
        schema="''",
        name="''",
        oid="d.oid",
        acl="d.datacl",
        owner="d.datdba",
        letter="'d'",
        objects="pg_catalog.pg_database d",
        where="d.datname = pg_catalog.current_database()",
        section="database",
    ),
    _privilege_query(
        "pg_tablespace",
        of="'tablespace'",
        schema="''",
        name="t.spcname",
        oid="t.oid",
        acl="t.spcacl",
        owner="t.spcowner",
        letter="'t'",
        objects="pg_catalog.pg_tablespace t",
        where="true",
        section="cluster",
    ),
    # the bootstrap superuser stands for the owner that a setting does not have
    _privilege_query(
        "pg_parameter_acl",
        of="'parameter'",
        schema="''",
        name="p.parname",
        oid="p.oid",
        acl="p.paracl",
        owner="10::pg_catalog.oid",
        letter="'p'",
        objects="pg_catalog.pg_parameter_acl p",
        where="true",
        section="cluster",
        since=15,
    ),
)
