# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of enums, domains, ranges and base types."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    NOTES,
    FactQuery,
    fact_query,
    flag,
    function_name,
    made_by_user,
    note_joins,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.relations import CONSTRAINT

_TYPE_SOURCE = (
    "FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace"
    f"{{joins}}{note_joins('pg_type', 'y.oid')} WHERE {made_by_user('pg_type', 'y.oid')} AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND {{where}}"
)

_TYPE_IDENTITY = {"schema": "n.nspname", "name": "y.typname"}

_TYPE_OWNER = {"owner": "pg_catalog.pg_get_userbyid(y.typowner)"}

# An array type belongs to its element type; a base type made with an element type of its own does not.
_IS_ARRAY = "EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = y.typelem AND e.typarray = y.oid)"

TYPES: tuple[FactQuery, ...] = (
    fact_query(
        "enum",
        shapes="e",
        namespace="type",
        carrier_class="pg_type",
        carrier="y.oid",
        number="0",
        identity=_TYPE_IDENTITY,
        attributes={
            **_TYPE_OWNER,
            "labels": "coalesce((SELECT pg_catalog.json_agg(v.enumlabel ORDER BY v.enumsortorder)::text"
            " FROM pg_catalog.pg_enum v WHERE v.enumtypid = y.oid), '[]')",
            **NOTES,
        },
        source=_TYPE_SOURCE.format(joins="", where="y.typtype = 'e'"),
    ),
    fact_query(
        "domain",
        shapes="d",
        namespace="type",
        carrier_class="pg_type",
        carrier="y.oid",
        number="0",
        identity=_TYPE_IDENTITY,
        attributes={
            **_TYPE_OWNER,
            "type": "pg_catalog.format_type(y.typbasetype, y.typtypmod)",
            "not_null": flag("y.typnotnull"),
            "default": "coalesce(pg_catalog.pg_get_expr(y.typdefaultbin, 'pg_catalog.pg_type'::pg_catalog.regclass), y.typdefault)",
            "collation": "CASE WHEN y.typcollation <> b.typcollation THEN y.typcollation::pg_catalog.regcollation::text END",
            **NOTES,
        },
        source=_TYPE_SOURCE.format(
            joins=" JOIN pg_catalog.pg_type b ON b.oid = y.typbasetype", where="y.typtype = 'd'"
        ),
    ),
    fact_query(
        "domain_constraint",
        shapes="d",
        namespace="domain_constraint",
        parent=("type", (0, 1)),
        carrier_class="pg_type",
        carrier="y.oid",
        number="k.oid::pg_catalog.int8",
        keyed_by="pg_constraint",
        identity={**_TYPE_IDENTITY, "constraint": "k.conname"},
        attributes={
            "definition": CONSTRAINT,
            "not_valid": flag("NOT k.convalidated"),
            **NOTES,
        },
        source="FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type y ON y.oid = k.contypid"
        f" JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace{note_joins('pg_constraint', 'k.oid')}"
        f" WHERE k.contype = 'c' AND {made_by_user('pg_type', 'y.oid')}",
    ),
    fact_query(
        "domain_not_null_constraint",
        since=17,
        shapes="d",
        namespace="domain_constraint",
        parent=("type", (0, 1)),
        carrier_class="pg_type",
        carrier="y.oid",
        number="k.oid::pg_catalog.int8",
        keyed_by="pg_constraint",
        identity={**_TYPE_IDENTITY, "constraint": "k.conname"},
        attributes={"not_valid": flag("NOT k.convalidated"), **NOTES},
        source="FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type y ON y.oid = k.contypid"
        f" JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace{note_joins('pg_constraint', 'k.oid')}"
        f" WHERE k.contype = 'n' AND {made_by_user('pg_type', 'y.oid')}",
    ),
    fact_query(
        "range",
        shapes="r",
        namespace="type",
        carrier_class="pg_type",
        carrier="y.oid",
        number="0",
        identity=_TYPE_IDENTITY,
        attributes={
            **_TYPE_OWNER,
            "subtype": "pg_catalog.format_type(r.rngsubtype, NULL)",
            "multirange": "pg_catalog.format_type(r.rngmultitypid, NULL)",
            "operator_class": "(SELECT pg_catalog.quote_ident(on_.nspname) || '.' || pg_catalog.quote_ident(o.opcname)"
            " FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_namespace on_ ON on_.oid = o.opcnamespace WHERE o.oid = r.rngsubopc)",
            "collation": "CASE WHEN r.rngcollation <> 0 THEN r.rngcollation::pg_catalog.regcollation::text END",
            "canonical": function_name("r.rngcanonical"),
            "difference": function_name("r.rngsubdiff"),
            **NOTES,
        },
        source=_TYPE_SOURCE.format(joins=" JOIN pg_catalog.pg_range r ON r.rngtypid = y.oid", where="y.typtype = 'r'"),
    ),
    fact_query(
        "base_type",
        shapes="bp",
        namespace="type",
        carrier_class="pg_type",
        carrier="y.oid",
        number="0",
        identity=_TYPE_IDENTITY,
        attributes={
            **_TYPE_OWNER,
            "shell": flag("NOT y.typisdefined"),
            "input": function_name("y.typinput"),
            "output": function_name("y.typoutput"),
            "receive": function_name("y.typreceive"),
            "send": function_name("y.typsend"),
            "modifier_input": function_name("y.typmodin"),
            "modifier_output": function_name("y.typmodout"),
            "analyze": function_name("y.typanalyze"),
            "subscript": function_name("y.typsubscript"),
            "length": "y.typlen",
            "by_value": flag("y.typbyval"),
            "alignment": "y.typalign",
            "storage": "y.typstorage",
            "category": "y.typcategory",
            "preferred": flag("y.typispreferred"),
            "delimiter": "y.typdelim",
            "element": "CASE WHEN y.typelem <> 0 THEN pg_catalog.format_type(y.typelem, NULL) END",
            "collatable": flag("y.typcollation <> 0"),
            "default": "y.typdefault",
            **NOTES,
        },
        source=_TYPE_SOURCE.format(
            joins="", where=f"(y.typtype = 'b' OR y.typtype = 'p' AND NOT y.typisdefined) AND NOT {_IS_ARRAY}"
        ),
    ),
)
