# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of schemas and relations: tables, views, sequences, columns, constraints, indexes, triggers, rules, policies."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    FIRST_USER_OID,
    NOTES,
    FactQuery,
    catalog_class,
    fact_query,
    flag,
    hidden_options,
    json_list,
    made_by_user,
    not_extension_member,
    note_joins,
)

# Temporary and TOAST schemas are left out. Those of initdb are excluded by OID.
_USER_SCHEMA = (
    f"(n.oid >= {FIRST_USER_OID} OR n.nspname = 'public')"
    " AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp\\_%'"
)

_RELATION = (
    f"c.oid >= {FIRST_USER_OID} AND c.relpersistence <> 't' AND {not_extension_member('pg_class', 'c.oid')}"
    " AND n.nspname NOT LIKE 'pg\\_toast%'"
)

FROM_RELATION = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"

_PERSISTENCE = "CASE c.relpersistence WHEN 'u' THEN 'unlogged' WHEN 'p' THEN NULL ELSE c.relpersistence::text END"

_PARENTS = (
    " LEFT JOIN (SELECT i.inhrelid, pg_catalog.json_agg(i.inhparent::pg_catalog.regclass::text ORDER BY i.inhseqno)::text AS names,"
    " pg_catalog.bool_or(i.inhdetachpending) AS detaching FROM pg_catalog.pg_inherits i GROUP BY 1) parents ON parents.inhrelid = {}"
)

_TABLESPACE = "(SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace)"

_ACCESS_METHOD = "(SELECT a.amname FROM pg_catalog.pg_am a WHERE a.oid = c.relam)"

# " NOT VALID" ends the text of one that is not; it is an attribute of its own.
CONSTRAINT = (
    "CASE WHEN k.convalidated THEN pg_catalog.pg_get_constraintdef(k.oid)"
    " ELSE pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), ' NOT VALID$', '') END"
)

RELATIONS: tuple[FactQuery, ...] = (
    fact_query(
        "schema",
        carrier_class="pg_namespace",
        carrier="n.oid",
        number="0",
        identity={"schema": "n.nspname"},
        attributes={"owner": "pg_catalog.pg_get_userbyid(n.nspowner)", **NOTES},
        source=f"FROM pg_catalog.pg_namespace n{note_joins('pg_namespace', 'n.oid')}"
        f" WHERE {_USER_SCHEMA} AND {not_extension_member('pg_namespace', 'n.oid')}",
    ),
    fact_query(
        "table",
        shapes="rp",
        namespace="relation",
        carrier_class="pg_class",
        carrier="c.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "c.relname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(c.relowner)",
            "persistence": _PERSISTENCE,
            "of_type": "CASE WHEN c.reloftype <> 0 THEN pg_catalog.format_type(c.reloftype, NULL) END",
            "partition_key": "CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END",
            "parents": "parents.names",
            "partition_bound": "CASE WHEN c.relispartition THEN pg_catalog.pg_get_expr(c.relpartbound, c.oid) END",
            "detach_pending": flag("parents.detaching"),
            "row_security": flag("c.relrowsecurity"),
            "force_row_security": flag("c.relforcerowsecurity"),
            "replica_identity": "CASE c.relreplident WHEN 'd' THEN NULL WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full'"
            " WHEN 'i' THEN 'index' ELSE c.relreplident::text END",
            "access_method": _ACCESS_METHOD,
            "tablespace": _TABLESPACE,
            "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {json_list('c.reloptions')} END",
            "toast_options": f"CASE WHEN toast.reloptions IS NOT NULL THEN {json_list('toast.reloptions')} END",
            **NOTES,
        },
        source=f"FROM {FROM_RELATION}{_PARENTS.format('c.oid')}"
        " LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid AND toast.reloptions IS NOT NULL"
        f"{note_joins('pg_class', 'c.oid')} WHERE c.relkind IN ('r', 'p') AND {_RELATION}",
    ),
    fact_query(
        "foreign_table",
        shapes="f",
        namespace="relation",
        carrier_class="pg_class",
        carrier="c.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "c.relname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(c.relowner)",
            "server": "s.srvname",
            "options": hidden_options("f.ftoptions"),
            "parents": "parents.names",
            "partition_bound": "CASE WHEN c.relispartition THEN pg_catalog.pg_get_expr(c.relpartbound, c.oid) END",
            "detach_pending": flag("parents.detaching"),
            **NOTES,
        },
        source=f"FROM {FROM_RELATION} JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = c.oid"
        f" JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver{_PARENTS.format('c.oid')}"
        f"{note_joins('pg_class', 'c.oid')} WHERE c.relkind = 'f' AND {_RELATION}",
    ),
    fact_query(
        "view",
        shapes="v",
        namespace="relation",
        carrier_class="pg_class",
        carrier="c.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "c.relname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(c.relowner)",
            "definition": "pg_catalog.pg_get_viewdef(c.oid)",
            "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {json_list('c.reloptions')} END",
            **NOTES,
        },
        source=f"FROM {FROM_RELATION}{note_joins('pg_class', 'c.oid')} WHERE c.relkind = 'v' AND {_RELATION}",
    ),
    fact_query(
        "materialized_view",
        shapes="m",
        namespace="relation",
        carrier_class="pg_class",
        carrier="c.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "c.relname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(c.relowner)",
            "definition": "pg_catalog.pg_get_viewdef(c.oid)",
            "populated": "CASE WHEN NOT c.relispopulated THEN 'no' END",
            "persistence": _PERSISTENCE,
            "access_method": _ACCESS_METHOD,
            "tablespace": _TABLESPACE,
            "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {json_list('c.reloptions')} END",
            "toast_options": f"CASE WHEN toast.reloptions IS NOT NULL THEN {json_list('toast.reloptions')} END",
            **NOTES,
        },
        source=f"FROM {FROM_RELATION}"
        " LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid AND toast.reloptions IS NOT NULL"
        f"{note_joins('pg_class', 'c.oid')} WHERE c.relkind = 'm' AND {_RELATION}",
    ),
    fact_query(
        "sequence",
        shapes="S",
        namespace="relation",
        carrier_class="pg_class",
        carrier="c.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "c.relname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(c.relowner)",
            "persistence": _PERSISTENCE,
            "type": "pg_catalog.format_type(s.seqtypid, NULL)",
            "start": "s.seqstart",
            "increment": "s.seqincrement",
            "minimum": "s.seqmin",
            "maximum": "s.seqmax",
            "cache": "s.seqcache",
            "cycle": flag("s.seqcycle"),
            "owned_by": "(SELECT d.refobjid::pg_catalog.regclass::text || '.' || (SELECT pg_catalog.quote_ident(a.attname)"
            " FROM pg_catalog.pg_attribute a WHERE a.attrelid = d.refobjid AND a.attnum = d.refobjsubid)"
            " || CASE d.deptype WHEN 'i' THEN ' as identity' ELSE '' END FROM pg_catalog.pg_depend d"
            f" WHERE d.classid = {catalog_class('pg_class')} AND d.objid = c.oid AND d.objsubid = 0"
            f" AND d.refclassid = {catalog_class('pg_class')} AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') LIMIT 1)",
            **NOTES,
        },
        source=f"FROM {FROM_RELATION} JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid"
        f"{note_joins('pg_class', 'c.oid')} WHERE c.relkind = 'S' AND {_RELATION}",
    ),
    fact_query(
        "composite_type",
        shapes="c",
        namespace="relation",
        carrier_class="pg_class",
        carrier="c.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "c.relname"},
        attributes={"owner": "pg_catalog.pg_get_userbyid(y.typowner)", **NOTES},
        source=f"FROM {FROM_RELATION} JOIN pg_catalog.pg_type y ON y.oid = c.reltype{note_joins('pg_type', 'y.oid')}"
        f" WHERE c.relkind = 'c' AND {_RELATION} AND {not_extension_member('pg_type', 'y.oid')}",
    ),
    fact_query(
        "column",
        shapes="rpfvmc",
        namespace="column",
        parent=("relation", (0, 1)),
        carrier_class="pg_class",
        carrier="c.oid",
        number="a.attnum",
        keyed_by="pg_attribute",
        identity={"schema": "n.nspname", "relation": "c.relname", "name": "a.attname"},
        attributes={
            "type": "pg_catalog.format_type(a.atttypid, a.atttypmod)",
            "not_null": "CASE WHEN a.attnotnull THEN 'yes' WHEN y.typnotnull THEN 'by its domain' END",
            # without a relation to look up: a default names no column
            "default": "CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, 0) END",
            "generated": "CASE WHEN a.attgenerated <> '' THEN"
            " (CASE a.attgenerated WHEN 's' THEN 'stored ' WHEN 'v' THEN 'virtual ' ELSE a.attgenerated::text || ' ' END)"
            " || pg_catalog.pg_get_expr(d.adbin, d.adrelid) END",
            "identity": "CASE a.attidentity WHEN '' THEN NULL WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default'"
            " ELSE a.attidentity::text END",
            "collation": "CASE WHEN a.attcollation <> y.typcollation THEN a.attcollation::pg_catalog.regcollation::text END",
            "storage": "CASE WHEN a.attstorage <> y.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'plain'"
            " WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' WHEN 'x' THEN 'extended' ELSE a.attstorage::text END END",
            "compression": "CASE a.attcompression WHEN '' THEN NULL WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4'"
            " ELSE a.attcompression::text END",
            "statistics_target": "CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::text END",
            "options": f"CASE WHEN a.attoptions IS NOT NULL THEN {json_list('a.attoptions')} END",
            "foreign_options": f"CASE WHEN a.attfdwoptions IS NOT NULL THEN {hidden_options('a.attfdwoptions')} END",
            "inherited": "CASE WHEN a.attinhcount > 0 THEN CASE WHEN a.attislocal THEN 'and local' ELSE 'yes' END END",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_attribute a JOIN {FROM_RELATION} ON c.oid = a.attrelid"
        " JOIN pg_catalog.pg_type y ON y.oid = a.atttypid"
        " LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef"
        f"{note_joins('pg_class', 'a.attrelid', 'a.attnum')}"
        f" WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND {_RELATION}",
    ),
    fact_query(
        "constraint",
        shapes="rpf",
        namespace="constraint",
        parent=("relation", (0, 1)),
        carrier_class="pg_class",
        carrier="c.oid",
        number="k.oid::pg_catalog.int8",
        keyed_by="pg_constraint",
        identity={"schema": "n.nspname", "relation": "c.relname", "name": "k.conname"},
        attributes={
            "type": "CASE k.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique' WHEN 'f' THEN 'foreign key'"
            " WHEN 'c' THEN 'check' WHEN 'x' THEN 'exclude' ELSE k.contype::text END",
            "definition": CONSTRAINT,
            "not_valid": flag("NOT k.convalidated"),
            "deferrable": "CASE WHEN k.condeferred THEN 'initially deferred' WHEN k.condeferrable THEN 'yes' END",
            "no_inherit": flag("k.connoinherit AND k.contype = 'c'"),
            "inherited": "CASE WHEN k.coninhcount > 0 THEN CASE WHEN k.conislocal THEN 'and local' ELSE 'yes' END END",
            "disabled_triggers": "off.states",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_constraint k JOIN {FROM_RELATION} ON c.oid = k.conrelid"
        " LEFT JOIN (SELECT t.tgconstraint, pg_catalog.string_agg(t.tgenabled::text, '' ORDER BY t.tgtype, t.tgrelid) AS states"
        " FROM pg_catalog.pg_trigger t WHERE t.tgisinternal AND t.tgconstraint <> 0 AND t.tgenabled <> 'O' GROUP BY 1) off"
        " ON off.tgconstraint = k.oid"
        f"{note_joins('pg_constraint', 'k.oid')} WHERE k.contype IN ('p', 'u', 'f', 'c', 'x') AND {_RELATION}",
    ),
    fact_query(
        "not_null_constraint",
        since=18,
        shapes="rpf",
        namespace="constraint",
        parent=("relation", (0, 1)),
        carrier_class="pg_class",
        carrier="c.oid",
        number="k.oid::pg_catalog.int8",
        keyed_by="pg_constraint",
        identity={"schema": "n.nspname", "relation": "c.relname", "name": "k.conname"},
        attributes={
            "column": "(SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = k.conkey[1])",
            "not_valid": flag("NOT k.convalidated"),
            "no_inherit": flag("k.connoinherit"),
            "inherited": "CASE WHEN k.coninhcount > 0 THEN CASE WHEN k.conislocal THEN 'and local' ELSE 'yes' END END",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_constraint k JOIN {FROM_RELATION} ON c.oid = k.conrelid"
        f"{note_joins('pg_constraint', 'k.oid')} WHERE k.contype = 'n' AND {_RELATION}",
    ),
    fact_query(
        "index",
        shapes="rpm",
        namespace="index",
        parent=("relation", (0, 1)),
        carrier_class="pg_class",
        carrier="t.oid",
        number="i.indexrelid::pg_catalog.int8",
        keyed_by="pg_class",
        identity={"schema": "n.nspname", "relation": "t.relname", "name": "c.relname"},
        attributes={
            # A primary key's or unique constraint's index adds nothing to the constraint: ADD CONSTRAINT
            # USING INDEX refuses expressions, predicates and every non-default sort order, operator class and collation.
            "definition": "CASE WHEN k.contype IS NULL OR k.contype = 'x' THEN pg_catalog.pg_get_indexdef(c.oid) END",
            "constraint": "k.conname",
            "invalid": flag("NOT (i.indisvalid AND i.indisready AND i.indislive)"),
            "unique": flag("i.indisunique AND k.contype IS NULL"),
            "replica_identity": flag("i.indisreplident"),
            "clustered": flag("i.indisclustered"),
            "parents": "parents.names",
            "tablespace": _TABLESPACE,
            "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {json_list('c.reloptions')} END",
            # only an expression has a target of its own
            "statistics_targets": "CASE WHEN i.indexprs IS NOT NULL THEN"
            " (SELECT pg_catalog.string_agg(a.attnum || '=' || a.attstattarget, ',' ORDER BY a.attnum)"
            " FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attstattarget >= 0) END",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_index i JOIN {FROM_RELATION} ON c.oid = i.indexrelid"
        " JOIN pg_catalog.pg_class t ON t.oid = i.indrelid"
        " LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = i.indrelid AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')"
        f"{_PARENTS.format('c.oid')}"
        f"{note_joins('pg_class', 'c.oid')} WHERE {_RELATION} AND {not_extension_member('pg_class', 't.oid')}",
    ),
    fact_query(
        "trigger",
        shapes="rpvf",
        namespace="trigger",
        parent=("relation", (0, 1)),
        carrier_class="pg_class",
        carrier="c.oid",
        number="t.oid::pg_catalog.int8",
        keyed_by="pg_trigger",
        identity={"schema": "n.nspname", "relation": "c.relname", "name": "t.tgname"},
        attributes={
            "definition": "pg_catalog.pg_get_triggerdef(t.oid)",
            "enabled": "CASE t.tgenabled WHEN 'O' THEN NULL WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica'"
            " WHEN 'A' THEN 'always' ELSE t.tgenabled::text END",
            "inherited": flag("t.tgparentid <> 0"),
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_trigger t JOIN {FROM_RELATION} ON c.oid = t.tgrelid"
        f"{note_joins('pg_trigger', 't.oid')} WHERE NOT t.tgisinternal AND {_RELATION}",
    ),
    fact_query(
        "rule",
        shapes="rpvmf",
        namespace="rule",
        parent=("relation", (0, 1)),
        carrier_class="pg_class",
        carrier="c.oid",
        number="r.oid::pg_catalog.int8",
        keyed_by="pg_rewrite",
        identity={"schema": "n.nspname", "relation": "c.relname", "name": "r.rulename"},
        attributes={
            "definition": "pg_catalog.pg_get_ruledef(r.oid)",
            "enabled": "CASE r.ev_enabled WHEN 'O' THEN NULL WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica'"
            " WHEN 'A' THEN 'always' ELSE r.ev_enabled::text END",
            **NOTES,
        },
        # a view's own rule is its definition
        source=f"FROM pg_catalog.pg_rewrite r JOIN {FROM_RELATION} ON c.oid = r.ev_class"
        f"{note_joins('pg_rewrite', 'r.oid')} WHERE NOT (r.ev_type = '1' AND r.is_instead AND c.relkind IN ('v', 'm')) AND {_RELATION}",
    ),
    fact_query(
        "policy",
        shapes="rp",
        namespace="policy",
        parent=("relation", (0, 1)),
        carrier_class="pg_class",
        carrier="c.oid",
        number="p.oid::pg_catalog.int8",
        keyed_by="pg_policy",
        identity={"schema": "n.nspname", "relation": "c.relname", "name": "p.polname"},
        attributes={
            "permissive": "CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END",
            "command": "CASE p.polcmd WHEN '*' THEN 'all' WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update'"
            " WHEN 'd' THEN 'delete' ELSE p.polcmd::text END",
            "roles": "(SELECT pg_catalog.json_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(r)::text END"
            " ORDER BY CASE WHEN r = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(r)::text END COLLATE \"C\")::text"
            " FROM pg_catalog.unnest(p.polroles) r)",
            "using": "pg_catalog.pg_get_expr(p.polqual, p.polrelid)",
            "check": "pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_policy p JOIN {FROM_RELATION} ON c.oid = p.polrelid"
        f"{note_joins('pg_policy', 'p.oid')} WHERE {_RELATION}",
    ),
    fact_query(
        "statistics",
        carrier_class="pg_statistic_ext",
        carrier="s.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "s.stxname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(s.stxowner)",
            "relation": "s.stxrelid::pg_catalog.regclass::text",
            "definition": "pg_catalog.pg_get_statisticsobjdef(s.oid)",
            "statistics_target": "CASE WHEN s.stxstattarget >= 0 THEN s.stxstattarget::text END",
            **NOTES,
        },
        source="FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace"
        f"{note_joins('pg_statistic_ext', 's.oid')} WHERE {made_by_user('pg_statistic_ext', 's.oid')}",
    ),
)
