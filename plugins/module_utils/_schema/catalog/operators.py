# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of operators, operator classes and families, casts, collations, conversions and text search."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import varying
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    NOTES,
    FactQuery,
    fact_query,
    flag,
    function_name,
    made_by_user,
    not_extension_member,
    note_joins,
)

_FAMILY_MEMBER_IDENTITY = {
    "schema": "n.nspname",
    "family": "o.opfname",
    "access_method": "m.amname",
}

OPERATORS: tuple[FactQuery, ...] = (
    fact_query(
        "operator",
        carrier_class="pg_operator",
        carrier="o.oid",
        number="0",
        identity={
            "schema": "n.nspname",
            "signature": "o.oprname || '(' || CASE WHEN o.oprleft = 0 THEN 'NONE' ELSE pg_catalog.format_type(o.oprleft, NULL) END"
            " || ',' || CASE WHEN o.oprright = 0 THEN 'NONE' ELSE pg_catalog.format_type(o.oprright, NULL) END || ')'",
        },
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(o.oprowner)",
            "function": function_name("o.oprcode"),
            "result": "CASE WHEN o.oprresult <> 0 THEN pg_catalog.format_type(o.oprresult, NULL) END",
            "commutator": "CASE WHEN o.oprcom <> 0 THEN o.oprcom::pg_catalog.regoperator::text END",
            "negator": "CASE WHEN o.oprnegate <> 0 THEN o.oprnegate::pg_catalog.regoperator::text END",
            "restriction": function_name("o.oprrest"),
            "join": function_name("o.oprjoin"),
            "merges": flag("o.oprcanmerge"),
            "hashes": flag("o.oprcanhash"),
            **NOTES,
        },
        source="FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace"
        f"{note_joins('pg_operator', 'o.oid')} WHERE {made_by_user('pg_operator', 'o.oid')}",
    ),
    fact_query(
        "operator_family",
        carrier_class="pg_opfamily",
        carrier="o.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "o.opfname", "access_method": "m.amname"},
        attributes={"owner": "pg_catalog.pg_get_userbyid(o.opfowner)", **NOTES},
        source="FROM pg_catalog.pg_opfamily o JOIN pg_catalog.pg_namespace n ON n.oid = o.opfnamespace"
        f" JOIN pg_catalog.pg_am m ON m.oid = o.opfmethod{note_joins('pg_opfamily', 'o.oid')} WHERE {made_by_user('pg_opfamily', 'o.oid')}",
    ),
    *(
        fact_query(
            "operator_family_member",
            parent=("operator_family", (0, 1, 2)),
            carrier_class="pg_opfamily",
            carrier="o.oid",
            number="e.oid::pg_catalog.int8",
            keyed_by=_entry,
            identity={
                **_FAMILY_MEMBER_IDENTITY,
                "member": _number,
                "left_type": f"pg_catalog.format_type({_left}, NULL)",
                "right_type": f"pg_catalog.format_type({_right}, NULL)",
            },
            attributes={"implementation": _what, "sort_family": _sort},
            source=f"FROM pg_catalog.{_entry} e JOIN pg_catalog.pg_opfamily o ON o.oid = e.{_entry[3:]}family"
            " JOIN pg_catalog.pg_namespace n ON n.oid = o.opfnamespace JOIN pg_catalog.pg_am m ON m.oid = o.opfmethod"
            f" WHERE {made_by_user(_entry, 'e.oid')} AND {not_extension_member('pg_opfamily', 'o.oid')}",
        )
        for _entry, _number, _left, _right, _what, _sort in (
            (
                "pg_amop",
                "'operator ' || e.amopstrategy",
                "e.amoplefttype",
                "e.amoprighttype",
                "e.amopopr::pg_catalog.regoperator::text",
                "(SELECT pg_catalog.quote_ident(sn.nspname) || '.' || pg_catalog.quote_ident(s.opfname) FROM pg_catalog.pg_opfamily s"
                " JOIN pg_catalog.pg_namespace sn ON sn.oid = s.opfnamespace WHERE s.oid = e.amopsortfamily)",
            ),
            (
                "pg_amproc",
                "'function ' || e.amprocnum",
                "e.amproclefttype",
                "e.amprocrighttype",
                "(e.amproc::pg_catalog.oid)::pg_catalog.regprocedure::text",
                "NULL::text",
            ),
        )
    ),
    fact_query(
        "operator_class",
        carrier_class="pg_opclass",
        carrier="o.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "o.opcname", "access_method": "m.amname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(o.opcowner)",
            "family": "pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.opfname)",
            "type": "pg_catalog.format_type(o.opcintype, NULL)",
            "default": flag("o.opcdefault"),
            "storage": "CASE WHEN o.opckeytype <> 0 THEN pg_catalog.format_type(o.opckeytype, NULL) END",
            **NOTES,
        },
        source="FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace"
        " JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod JOIN pg_catalog.pg_opfamily f ON f.oid = o.opcfamily"
        " JOIN pg_catalog.pg_namespace fn ON fn.oid = f.opfnamespace"
        f"{note_joins('pg_opclass', 'o.oid')} WHERE {made_by_user('pg_opclass', 'o.oid')}",
    ),
    fact_query(
        "cast",
        schema_at=None,
        carrier_class="pg_cast",
        carrier="k.oid",
        number="0",
        identity={
            "source": "pg_catalog.format_type(k.castsource, NULL)",
            "target": "pg_catalog.format_type(k.casttarget, NULL)",
        },
        attributes={
            "function": function_name("k.castfunc"),
            "context": "CASE k.castcontext WHEN 'e' THEN 'explicit' WHEN 'a' THEN 'assignment' WHEN 'i' THEN 'implicit'"
            " ELSE k.castcontext::text END",
            "method": "CASE k.castmethod WHEN 'f' THEN 'function' WHEN 'i' THEN 'inout' WHEN 'b' THEN 'binary'"
            " ELSE k.castmethod::text END",
            **NOTES,
        },
        source=f"FROM pg_catalog.pg_cast k{note_joins('pg_cast', 'k.oid')} WHERE {made_by_user('pg_cast', 'k.oid')}",
    ),
    fact_query(
        "collation",
        carrier_class="pg_collation",
        carrier="o.oid",
        number="0",
        identity={
            "schema": "n.nspname",
            "name": "o.collname",
            # -1 is any: a copy of a built-in collation has that, and gets the database's encoding when it is restored
            "encoding": "CASE WHEN o.collencoding IN (-1, pg_catalog.pg_char_to_encoding(pg_catalog.getdatabaseencoding()))"
            " THEN '' ELSE pg_catalog.pg_encoding_to_char(o.collencoding) END",
        },
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(o.collowner)",
            "provider": "CASE o.collprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'd' THEN 'default'"
            " ELSE o.collprovider::text END",
            "nondeterministic": flag("NOT o.collisdeterministic"),
            "lc_collate": "o.collcollate",
            "lc_ctype": "o.collctype",
            "icu_locale": varying("collation_locale", "o"),
            "icu_rules": varying("collation_rules", "o"),
            **NOTES,
        },
        source="FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace"
        f"{note_joins('pg_collation', 'o.oid')} WHERE {made_by_user('pg_collation', 'o.oid')}",
    ),
    fact_query(
        "conversion",
        carrier_class="pg_conversion",
        carrier="o.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "o.conname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(o.conowner)",
            "source": "pg_catalog.pg_encoding_to_char(o.conforencoding)",
            "target": "pg_catalog.pg_encoding_to_char(o.contoencoding)",
            "function": function_name("o.conproc"),
            "default": flag("o.condefault"),
            **NOTES,
        },
        source="FROM pg_catalog.pg_conversion o JOIN pg_catalog.pg_namespace n ON n.oid = o.connamespace"
        f"{note_joins('pg_conversion', 'o.oid')} WHERE {made_by_user('pg_conversion', 'o.oid')}",
    ),
    fact_query(
        "text_search_parser",
        carrier_class="pg_ts_parser",
        carrier="o.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "o.prsname"},
        attributes={
            "start": function_name("o.prsstart"),
            "token": function_name("o.prstoken"),
            "end": function_name("o.prsend"),
            "headline": function_name("o.prsheadline"),
            "token_types": function_name("o.prslextype"),
            **NOTES,
        },
        source="FROM pg_catalog.pg_ts_parser o JOIN pg_catalog.pg_namespace n ON n.oid = o.prsnamespace"
        f"{note_joins('pg_ts_parser', 'o.oid')} WHERE {made_by_user('pg_ts_parser', 'o.oid')}",
    ),
    fact_query(
        "text_search_template",
        carrier_class="pg_ts_template",
        carrier="o.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "o.tmplname"},
        attributes={"init": function_name("o.tmplinit"), "lexize": function_name("o.tmpllexize"), **NOTES},
        source="FROM pg_catalog.pg_ts_template o JOIN pg_catalog.pg_namespace n ON n.oid = o.tmplnamespace"
        f"{note_joins('pg_ts_template', 'o.oid')} WHERE {made_by_user('pg_ts_template', 'o.oid')}",
    ),
    fact_query(
        "text_search_dictionary",
        carrier_class="pg_ts_dict",
        carrier="o.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "o.dictname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(o.dictowner)",
            "template": "pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(t.tmplname)",
            "options": "o.dictinitoption",
            **NOTES,
        },
        source="FROM pg_catalog.pg_ts_dict o JOIN pg_catalog.pg_namespace n ON n.oid = o.dictnamespace"
        " JOIN pg_catalog.pg_ts_template t ON t.oid = o.dicttemplate JOIN pg_catalog.pg_namespace tn ON tn.oid = t.tmplnamespace"
        f"{note_joins('pg_ts_dict', 'o.oid')} WHERE {made_by_user('pg_ts_dict', 'o.oid')}",
    ),
    fact_query(
        "text_search_configuration",
        carrier_class="pg_ts_config",
        carrier="o.oid",
        number="0",
        identity={"schema": "n.nspname", "name": "o.cfgname"},
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(o.cfgowner)",
            "parser": "pg_catalog.quote_ident(pn.nspname) || '.' || pg_catalog.quote_ident(p.prsname)",
            "mappings": "(SELECT pg_catalog.json_agg(tt.alias || '=' || (m.mapdict::pg_catalog.regdictionary)::text"
            ' ORDER BY tt.alias COLLATE "C", m.mapseqno)::text FROM pg_catalog.pg_ts_config_map m'
            " JOIN pg_catalog.ts_token_type(o.cfgparser) tt ON tt.tokid = m.maptokentype WHERE m.mapcfg = o.oid)",
            **NOTES,
        },
        source="FROM pg_catalog.pg_ts_config o JOIN pg_catalog.pg_namespace n ON n.oid = o.cfgnamespace"
        " JOIN pg_catalog.pg_ts_parser p ON p.oid = o.cfgparser JOIN pg_catalog.pg_namespace pn ON pn.oid = p.prsnamespace"
        f"{note_joins('pg_ts_config', 'o.oid')} WHERE {made_by_user('pg_ts_config', 'o.oid')}",
    ),
)
