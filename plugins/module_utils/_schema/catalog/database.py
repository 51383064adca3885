# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of what belongs to the database as a whole: extensions, publications, foreign servers, settings."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import varying
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    NOTES,
    FactQuery,
    fact_query,
    flag,
    function_name,
    hidden_options,
    json_list,
    made_by_user,
    note_joins,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.relations import FROM_RELATION

_SUBSCRIPTION_ATTRIBUTES = {
    "owner": "pg_catalog.pg_get_userbyid(s.subowner)",
    "enabled": flag("s.subenabled"),
    "publications": json_list("s.subpublications"),
    "slot": "s.subslotname",
    "binary": flag("s.subbinary"),
    "streaming": "s.substream",
    "two_phase": varying("subscription_two_phase", "s"),
    "disable_on_error": flag(varying("subscription_disables", "s")),
    "password_required": flag(varying("subscription_password", "s")),
    "run_as_owner": flag(varying("subscription_as_owner", "s")),
    "synchronous_commit": "s.subsynccommit",
    "origin": varying("subscription_origin", "s"),
    "skipped_transaction": varying("subscription_skipped", "s"),
    "failover": flag(varying("subscription_failover", "s")),
}

_COLUMNS = varying("publication_columns", "r")

_SUBSCRIPTION_CONNECTION = (
    "'sha256:' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(s.subconninfo, 'UTF8')), 'hex')"
)

DATABASE: tuple[FactQuery, ...] = (
    fact_query(
        "extension",
        schema_at=None,
        carrier_class="pg_extension",
        carrier="x.oid",
        number="0",
        identity={"name": "x.extname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(x.extowner)",
            "schema": "n.nspname",
            "version": "x.extversion",
            **NOTES,
        },
        source="FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_namespace n ON n.oid = x.extnamespace"
        f"{note_joins('pg_extension', 'x.oid')} WHERE true",
    ),
    fact_query(
        "language",
        schema_at=None,
        carrier_class="pg_language",
        carrier="l.oid",
        number="0",
        identity={"name": "l.lanname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(l.lanowner)",
            "trusted": flag("l.lanpltrusted"),
            "handler": function_name("l.lanplcallfoid"),
            "inline": function_name("l.laninline"),
            "validator": function_name("l.lanvalidator"),
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_language l{note_joins('pg_language', 'l.oid')} WHERE {made_by_user('pg_language', 'l.oid')}",
    ),
    fact_query(
        "access_method",
        schema_at=None,
        carrier_class="pg_am",
        carrier="m.oid",
        number="0",
        identity={"name": "m.amname"},
        attributes={
            "type": "CASE m.amtype WHEN 't' THEN 'table' WHEN 'i' THEN 'index' ELSE m.amtype::text END",
            "handler": function_name("m.amhandler"),
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_am m{note_joins('pg_am', 'm.oid')} WHERE {made_by_user('pg_am', 'm.oid')}",
    ),
    fact_query(
        "transform",
        schema_at=None,
        carrier_class="pg_transform",
        carrier="t.oid",
        number="0",
        identity={"type": "pg_catalog.format_type(t.trftype, NULL)", "language": "l.lanname"},
        attributes={"from_sql": function_name("t.trffromsql"), "to_sql": function_name("t.trftosql"), **NOTES},
        source="FROM pg_catalog.pg_transform t JOIN pg_catalog.pg_language l ON l.oid = t.trflang"
        f"{note_joins('pg_transform', 't.oid')} WHERE {made_by_user('pg_transform', 't.oid')}",
    ),
    fact_query(
        "event_trigger",
        schema_at=None,
        carrier_class="pg_event_trigger",
        carrier="t.oid",
        number="0",
        identity={"name": "t.evtname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(t.evtowner)",
            "event": "t.evtevent",
            "function": function_name("t.evtfoid"),
            "tags": f"CASE WHEN t.evttags IS NOT NULL THEN {json_list('t.evttags')} END",
            "enabled": "CASE t.evtenabled WHEN 'O' THEN NULL WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica'"
            " WHEN 'A' THEN 'always' ELSE t.evtenabled::text END",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_event_trigger t{note_joins('pg_event_trigger', 't.oid')}"
        f" WHERE {made_by_user('pg_event_trigger', 't.oid')}",
    ),
    fact_query(
        "publication",
        schema_at=None,
        carrier_class="pg_publication",
        carrier="p.oid",
        number="0",
        identity={"name": "p.pubname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(p.pubowner)",
            "all_tables": flag("p.puballtables"),
            "insert": flag("p.pubinsert"),
            "update": flag("p.pubupdate"),
            "delete": flag("p.pubdelete"),
            "truncate": flag("p.pubtruncate"),
            "via_partition_root": flag("p.pubviaroot"),
            "generated_columns": varying("publication_generated", "p"),
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_publication p{note_joins('pg_publication', 'p.oid')} WHERE {made_by_user('pg_publication', 'p.oid')}",
    ),
    fact_query(
        "publication_table",
        schema_at=None,
        parent=("publication", (0,)),
        carrier_class="pg_publication",
        carrier="r.prpubid",
        number="r.oid::pg_catalog.int8",
        keyed_by="pg_publication_rel",
        identity={"publication": "p.pubname", "schema": "n.nspname", "name": "c.relname"},
        attributes={
            "columns": f"CASE WHEN {_COLUMNS} IS NOT NULL THEN (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attname)::text"
            f" FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY ({_COLUMNS})) END",
            "where": varying("publication_filter", "r"),
        },
        source="FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
        f" JOIN {FROM_RELATION} ON c.oid = r.prrelid WHERE {made_by_user('pg_publication', 'p.oid')}",
    ),
    fact_query(
        "publication_schema",
        since=15,
        schema_at=None,
        parent=("publication", (0,)),
        carrier_class="pg_publication",
        carrier="r.pnpubid",
        number="r.oid::pg_catalog.int8",
        keyed_by="pg_publication_namespace",
        identity={"publication": "p.pubname", "schema": "n.nspname"},
        attributes={},
        source="FROM pg_catalog.pg_publication_namespace r JOIN pg_catalog.pg_publication p ON p.oid = r.pnpubid"
        f" JOIN pg_catalog.pg_namespace n ON n.oid = r.pnnspid WHERE {made_by_user('pg_publication', 'p.oid')}",
    ),
    fact_query(
        "subscription",
        schema_at=None,
        carrier_class="pg_subscription",
        carrier="s.oid",
        number="0",
        identity={"name": "s.subname"},
        attributes={"connection": _SUBSCRIPTION_CONNECTION, **_SUBSCRIPTION_ATTRIBUTES, **NOTES},
        source=f"FROM pg_catalog.pg_subscription s{note_joins('pg_subscription', 's.oid')}"
        " WHERE s.subdbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())",
    ),
    fact_query(
        "foreign_data_wrapper",
        schema_at=None,
        carrier_class="pg_foreign_data_wrapper",
        carrier="w.oid",
        number="0",
        identity={"name": "w.fdwname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(w.fdwowner)",
            "handler": function_name("w.fdwhandler"),
            "validator": function_name("w.fdwvalidator"),
            "options": hidden_options("w.fdwoptions"),
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_foreign_data_wrapper w{note_joins('pg_foreign_data_wrapper', 'w.oid')}"
        f" WHERE {made_by_user('pg_foreign_data_wrapper', 'w.oid')}",
    ),
    fact_query(
        "foreign_server",
        schema_at=None,
        carrier_class="pg_foreign_server",
        carrier="s.oid",
        number="0",
        identity={"name": "s.srvname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(s.srvowner)",
            "wrapper": "w.fdwname",
            "type": "s.srvtype",
            "version": "s.srvversion",
            "options": hidden_options("s.srvoptions"),
            **NOTES,
        },
        source="FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw"
        f"{note_joins('pg_foreign_server', 's.oid')} WHERE {made_by_user('pg_foreign_server', 's.oid')}",
    ),
    fact_query(
        "user_mapping",
        schema_at=None,
        parent=("foreign_server", (0,)),
        carrier_class="pg_foreign_server",
        carrier="m.srvid",
        number="m.umid::pg_catalog.int8",
        keyed_by="pg_user_mappings",
        identity={"server": "m.srvname", "user": "CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE m.usename END"},
        attributes={"options": hidden_options("m.umoptions")},
        source="FROM pg_catalog.pg_user_mappings m WHERE true",
    ),
    fact_query(
        "database",
        schema_at=None,
        section="database",
        carrier_class="pg_database",
        carrier="d.oid",
        number="0",
        identity={},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(d.datdba)",
            "encoding": "pg_catalog.pg_encoding_to_char(d.encoding)",
            "locale_provider": varying("database_provider", "d"),
            "lc_collate": "d.datcollate",
            "lc_ctype": "d.datctype",
            "icu_locale": varying("database_locale", "d"),
            "icu_rules": varying("database_rules", "d"),
            "template": flag("d.datistemplate"),
            "connections_refused": flag("NOT d.datallowconn"),
            "connection_limit": "CASE WHEN d.datconnlimit <> -1 THEN d.datconnlimit END",
            "tablespace": "(SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace)",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_database d{note_joins('pg_database', 'd.oid', shared=True)}"
        " WHERE d.datname = pg_catalog.current_database()",
    ),
    # owners and privileges of large objects come and go with them, as data
    fact_query(
        "large_object",
        schema_at=None,
        carrier_class="pg_largeobject",
        carrier="m.oid",
        number="0",
        identity={"number": "m.oid"},
        attributes=NOTES,
        source=f"FROM pg_catalog.pg_largeobject_metadata m{note_joins('pg_largeobject', 'm.oid')}"
        " WHERE (note.description IS NOT NULL OR label.labels IS NOT NULL)",
    ),
    *(
        fact_query(
            "role_setting",
            schema_at=None,
            section=section,
            carrier_class="pg_db_role_setting",
            carrier="s.setrole",
            number="0",
            identity={
                "scope": scope,
                "role": "CASE WHEN s.setrole = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(s.setrole)::text END",
                "name": "pg_catalog.split_part(v.setting, '=', 1)",
            },
            attributes={"value": "pg_catalog.substr(v.setting, pg_catalog.strpos(v.setting, '=') + 1)"},
            source=f"FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) v (setting) WHERE s.setdatabase {database}",
        )
        for section, scope, database in (
            (
                "database",
                "'database'",
                "= (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())",
            ),
            # of all databases, or of another one
            (
                "cluster",
                "coalesce('database ' || (SELECT d.datname FROM pg_catalog.pg_database d WHERE d.oid = s.setdatabase), 'cluster')",
                "<> (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())",
            ),
        )
    ),
)
