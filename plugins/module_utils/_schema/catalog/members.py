# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of what belongs to an extension: each member with a digest of its definition, and what is to be dropped with it.

``CREATE EXTENSION`` of one version makes the same members everywhere, and pg_dump writes nothing else of an extension: a
member that was replaced, added or dropped by hand is lost in a restored copy, and has to be seen as a change.
"""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    FactQuery,
    catalog_class,
    fact_query,
)


def _names(expression: str, source: str) -> str:
    """Return SQL: the values of a query as a JSON array, in their order."""
    return f"(SELECT pg_catalog.json_agg({expression}) {source})"


def _row(*cells: str) -> str:
    return f"pg_catalog.json_build_array({', '.join(cells)})"


_ROUTINE = _row(
    "f.prokind",
    "f.prosrc",
    "f.probin",
    "(SELECT l.lanname FROM pg_catalog.pg_language l WHERE l.oid = f.prolang)",
    "pg_catalog.pg_get_function_sqlbody(f.oid)",
    "pg_catalog.pg_get_function_arguments(f.oid)",
    "pg_catalog.pg_get_function_result(f.oid)",
    *(f"f.{flag}" for flag in ("provolatile", "proparallel", "proisstrict", "prosecdef", "proleakproof")),
    *("f.procost", "f.prorows", "f.proconfig", "f.prosupport::pg_catalog.regproc::text"),
    "(SELECT pg_catalog.json_build_array(g.aggkind, g.aggtransfn::text, g.aggfinalfn::text, g.aggcombinefn::text,"
    " g.aggserialfn::text, g.aggdeserialfn::text, g.aggmtransfn::text, g.aggminvtransfn::text, g.aggmfinalfn::text,"
    " g.aggsortop::pg_catalog.regoperator::text, pg_catalog.format_type(g.aggtranstype, NULL), g.agginitval,"
    " pg_catalog.format_type(g.aggmtranstype, NULL), g.aggminitval)"
    " FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = f.oid)",
)

_COLUMNS = _names(
    "pg_catalog.json_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,"
    " a.attidentity, a.attgenerated, pg_catalog.pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attname",
    "FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped",
)

_RELATION = _row(
    *(f"c.{cell}" for cell in ("relkind", "relpersistence", "reloptions", "relrowsecurity", "relforcerowsecurity")),
    "c.relreplident",
    "CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END",
    _COLUMNS.format(oid="c.oid"),
    _names(
        "pg_catalog.json_build_array(k.conname, pg_catalog.pg_get_constraintdef(k.oid)) ORDER BY k.conname",
        "FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid",
    ),
    _names(
        "pg_catalog.pg_get_indexdef(i.indexrelid) ORDER BY r.relname",
        "FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid WHERE i.indrelid = c.oid",
    ),
    _names(
        "pg_catalog.json_build_array(t.tgenabled, pg_catalog.pg_get_triggerdef(t.oid)) ORDER BY t.tgname",
        "FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal",
    ),
    _names(
        "pg_catalog.json_build_array(r.ev_enabled, pg_catalog.pg_get_ruledef(r.oid)) ORDER BY r.rulename",
        "FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN'",
    ),
    _names(
        "pg_catalog.json_build_array(p.polname, p.polcmd, p.polpermissive, p.polroles::pg_catalog.regrole[]::text,"
        " pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) ORDER BY p.polname",
        "FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid",
    ),
    "(SELECT pg_catalog.json_build_array(s.seqtypid::pg_catalog.regtype::text, s.seqstart, s.seqincrement, s.seqmax, s.seqmin,"
    " s.seqcache, s.seqcycle) FROM pg_catalog.pg_sequence s WHERE s.seqrelid = c.oid)",
)

_TYPE = _row(
    "y.typtype",
    "y.typnotnull",
    "y.typdefault",
    "y.typstorage",
    "pg_catalog.format_type(y.typbasetype, y.typtypmod)",
    *(
        f"y.typ{name}::text"
        for name in ("input", "output", "receive", "send", "modin", "modout", "analyze", "subscript")
    ),
    _names("v.enumlabel ORDER BY v.enumsortorder", "FROM pg_catalog.pg_enum v WHERE v.enumtypid = y.oid"),
    _names(
        "pg_catalog.json_build_array(k.conname, pg_catalog.pg_get_constraintdef(k.oid)) ORDER BY k.conname",
        "FROM pg_catalog.pg_constraint k WHERE k.contypid = y.oid",
    ),
    _COLUMNS.format(oid="nullif(y.typrelid, 0)"),
)

_OPERATOR = _row(
    *(f"o.{name}::text" for name in ("oprcode", "oprrest", "oprjoin")),
    "o.oprcom::pg_catalog.regoperator::text",
    "o.oprnegate::pg_catalog.regoperator::text",
    "o.oprcanmerge",
    "o.oprcanhash",
)

_FAMILY = _row(
    _names(
        "pg_catalog.json_build_array(s.amopstrategy, s.amoppurpose, s.amopopr::pg_catalog.regoperator::text)"
        ' ORDER BY s.amopstrategy, s.amoppurpose, s.amopopr::pg_catalog.regoperator::text COLLATE "C"',
        "FROM pg_catalog.pg_amop s WHERE s.amopfamily = o.oid",
    ),
    _names(
        "pg_catalog.json_build_array(s.amprocnum, s.amproc::pg_catalog.regprocedure::text,"
        " s.amproclefttype::pg_catalog.regtype::text, s.amprocrighttype::pg_catalog.regtype::text)"
        ' ORDER BY s.amprocnum, s.amproclefttype::pg_catalog.regtype::text COLLATE "C",'
        ' s.amprocrighttype::pg_catalog.regtype::text COLLATE "C"',
        "FROM pg_catalog.pg_amproc s WHERE s.amprocfamily = o.oid",
    ),
)

# Catalog, alias and definition of the members that can be altered under their names.
_DEFINITIONS = (
    ("pg_proc", "f", _ROUTINE),
    ("pg_class", "c", _RELATION),
    ("pg_type", "y", _TYPE),
    ("pg_operator", "o", _OPERATOR),
    ("pg_opfamily", "o", _FAMILY),
    ("pg_cast", "o", _row("o.castcontext", "o.castmethod", "o.castfunc::pg_catalog.regprocedure::text")),
    (
        "pg_language",
        "o",
        _row(
            "o.lanpltrusted",
            *(f"o.{name}::pg_catalog.regproc::text" for name in ("lanplcallfoid", "laninline", "lanvalidator")),
        ),
    ),
    ("pg_am", "o", _row("o.amtype", "o.amhandler::text")),
    ("pg_event_trigger", "o", _row("o.evtevent", "o.evtenabled", "o.evttags", "o.evtfoid::pg_catalog.regproc::text")),
    (
        "pg_foreign_data_wrapper",
        "o",
        _row("o.fdwhandler::pg_catalog.regproc::text", "o.fdwvalidator::pg_catalog.regproc::text", "o.fdwoptions"),
    ),
    ("pg_foreign_server", "o", _row("o.srvtype", "o.srvversion", "o.srvoptions")),
    ("pg_ts_dict", "o", _row("o.dictinitoption")),
    (
        "pg_ts_config",
        "o",
        _names(
            "pg_catalog.json_build_array(m.maptokentype, m.mapseqno, m.mapdict::pg_catalog.regdictionary::text)"
            " ORDER BY m.maptokentype, m.mapseqno",
            "FROM pg_catalog.pg_ts_config_map m WHERE m.mapcfg = o.oid",
        ),
    ),
)

_DEFINITION = (
    "CASE e.classid"
    + "".join(
        f" WHEN {catalog_class(catalog)} THEN (SELECT ({definition})::text FROM pg_catalog.{catalog} {alias} WHERE {alias}.oid = e.objid)"
        for catalog, alias, definition in _DEFINITIONS
    )
    + " END"
)

_OWNER = (
    "CASE e.classid"
    + "".join(
        f" WHEN {catalog_class(catalog)} THEN (SELECT o.{column} FROM pg_catalog.{catalog} o WHERE o.oid = e.objid)"
        for catalog, column in (
            ("pg_proc", "proowner"),
            ("pg_class", "relowner"),
            ("pg_type", "typowner"),
            ("pg_namespace", "nspowner"),
            ("pg_operator", "oprowner"),
            ("pg_opfamily", "opfowner"),
            ("pg_opclass", "opcowner"),
            ("pg_collation", "collowner"),
            ("pg_language", "lanowner"),
            ("pg_event_trigger", "evtowner"),
            ("pg_foreign_data_wrapper", "fdwowner"),
            ("pg_foreign_server", "srvowner"),
            ("pg_ts_dict", "dictowner"),
            ("pg_ts_config", "cfgowner"),
        )
    )
    + " END"
)

MEMBERS: tuple[FactQuery, ...] = (
    fact_query(
        "extension_member",
        schema_at=None,
        parent=("extension", (0,)),
        carrier_class="pg_extension",
        carrier="e.refobjid",
        number="e.classid::pg_catalog.int8 * 4294967296 + e.objid::pg_catalog.int8",
        keyed_by="pg_depend members",
        identity={"extension": "x.extname", "type": "i.type", "name": "i.identity"},
        attributes={
            # the role that installs a trusted extension owns some of its members, and the bootstrap superuser the others
            "owner": f"(SELECT pg_catalog.pg_get_userbyid(owner) FROM (SELECT {_OWNER} AS owner) own"
            " WHERE owner NOT IN (x.extowner, 10))",
            "definition": "'sha256:' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to("
            f"{_DEFINITION}, 'UTF8')), 'hex')",
        },
        source="FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_extension x ON x.oid = e.refobjid"
        " CROSS JOIN LATERAL pg_catalog.pg_identify_object(e.classid, e.objid, 0) i"
        f" WHERE e.refclassid = {catalog_class('pg_extension')} AND e.deptype = 'e' AND i.identity IS NOT NULL",
    ),
    fact_query(
        "extension_dependency",
        schema_at=None,
        parent=("extension", (0,)),
        carrier_class="pg_extension",
        carrier="e.refobjid",
        number="e.classid::pg_catalog.int8 * 4294967296 + e.objid::pg_catalog.int8",
        keyed_by="pg_depend members",
        identity={"extension": "x.extname", "type": "i.type", "name": "i.identity"},
        attributes={},
        source="FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_extension x ON x.oid = e.refobjid"
        " CROSS JOIN LATERAL pg_catalog.pg_identify_object(e.classid, e.objid, 0) i"
        f" WHERE e.refclassid = {catalog_class('pg_extension')} AND e.deptype = 'x' AND i.identity IS NOT NULL",
    ),
)
