# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of functions, procedures and aggregates."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    NOTES,
    FactQuery,
    fact_query,
    flag,
    function_name,
    json_list,
    made_by_user,
    note_joins,
)

_ROUTINE_SOURCE = (
    "FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace"
    " JOIN pg_catalog.pg_language l ON l.oid = f.prolang"
    f"{note_joins('pg_proc', 'f.oid')} WHERE {made_by_user('pg_proc', 'f.oid')} AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND f.prokind "
)

ROUTINE_IDENTITY = {
    "schema": "n.nspname",
    "signature": "pg_catalog.quote_ident(f.proname) || '(' || pg_catalog.oidvectortypes(f.proargtypes) || ')'",
}

_ROUTINE_ATTRIBUTES = {
    "owner": "pg_catalog.pg_get_userbyid(f.proowner)",
    "arguments": "pg_catalog.pg_get_function_arguments(f.oid)",
    "result": "pg_catalog.pg_get_function_result(f.oid)",
    "language": "l.lanname",
    "body": "coalesce(pg_catalog.pg_get_function_sqlbody(f.oid), f.prosrc)",
    "library": "f.probin",
    "window": flag("f.prokind = 'w'"),
    "volatility": "CASE f.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' WHEN 'i' THEN 'immutable'"
    " ELSE f.provolatile::text END",
    "parallel": "CASE f.proparallel WHEN 'u' THEN 'unsafe' WHEN 'r' THEN 'restricted' WHEN 's' THEN 'safe'"
    " ELSE f.proparallel::text END",
    "strict": flag("f.proisstrict"),
    "security_definer": flag("f.prosecdef"),
    "leakproof": flag("f.proleakproof"),
    "cost": "f.procost",
    "rows": "CASE WHEN f.proretset THEN f.prorows END",
    "support": function_name("f.prosupport"),
    "settings": f"CASE WHEN f.proconfig IS NOT NULL THEN {json_list('f.proconfig')} END",
    "transforms": "CASE WHEN f.protrftypes IS NOT NULL THEN (SELECT pg_catalog.json_agg(pg_catalog.format_type(y, NULL)"
    ' ORDER BY pg_catalog.format_type(y, NULL) COLLATE "C")::text FROM pg_catalog.unnest(f.protrftypes) y) END',
    **NOTES,
}

ROUTINES: tuple[FactQuery, ...] = (
    *(
        fact_query(
            name,
            shapes=shapes,
            namespace="routine",
            carrier_class="pg_proc",
            carrier="f.oid",
            number="0",
            identity=ROUTINE_IDENTITY,
            attributes=_ROUTINE_ATTRIBUTES,
            source=_ROUTINE_SOURCE + prokinds,
        )
        for name, shapes, prokinds in (("function", "fw", "IN ('f', 'w')"), ("procedure", "p", "= 'p'"))
    ),
    fact_query(
        "aggregate",
        shapes="a",
        namespace="routine",
        carrier_class="pg_proc",
        carrier="f.oid",
        number="0",
        identity=ROUTINE_IDENTITY,
        attributes={
            "owner": "pg_catalog.pg_get_userbyid(f.proowner)",
            "arguments": "pg_catalog.pg_get_function_arguments(f.oid)",
            "result": "pg_catalog.pg_get_function_result(f.oid)",
            "aggregate_kind": "CASE g.aggkind WHEN 'n' THEN 'normal' WHEN 'o' THEN 'ordered-set' WHEN 'h' THEN 'hypothetical-set'"
            " ELSE g.aggkind::text END",
            "direct_arguments": "g.aggnumdirectargs",
            "transition": function_name("g.aggtransfn"),
            "final": function_name("g.aggfinalfn"),
            "final_extra": flag("g.aggfinalextra"),
            "final_modify": "g.aggfinalmodify",
            "combine": function_name("g.aggcombinefn"),
            "serialize": function_name("g.aggserialfn"),
            "deserialize": function_name("g.aggdeserialfn"),
            "state_type": "pg_catalog.format_type(g.aggtranstype, NULL)",
            "state_space": "g.aggtransspace",
            "initial_value": "g.agginitval",
            "moving_transition": function_name("g.aggmtransfn"),
            "moving_inverse": function_name("g.aggminvtransfn"),
            "moving_final": function_name("g.aggmfinalfn"),
            "moving_final_extra": flag("g.aggmfinalextra"),
            "moving_final_modify": "g.aggmfinalmodify",
            "moving_state_type": "CASE WHEN g.aggmtranstype <> 0 THEN pg_catalog.format_type(g.aggmtranstype, NULL) END",
            "moving_state_space": "g.aggmtransspace",
            "moving_initial_value": "g.aggminitval",
            "sort_operator": "CASE WHEN g.aggsortop <> 0 THEN g.aggsortop::pg_catalog.regoperator::text END",
            "parallel": "f.proparallel",
            **NOTES,
        },
        source=_ROUTINE_SOURCE.replace(
            " JOIN pg_catalog.pg_language",
            " JOIN pg_catalog.pg_aggregate g ON g.aggfnoid = f.oid JOIN pg_catalog.pg_language",
            1,
        )
        + "= 'a'",
    ),
)
