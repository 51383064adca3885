# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of what initdb made: one digest for each system catalog.

A superuser can alter built-in functions, operators, text search objects and the views of ``information_schema``. There are
thousands of such rows, and hardly ever one of them changes, so a fact says which catalog has a row that differs. Owners and
privileges of these objects have facts of their own. Collations are left out: initdb makes those of the host.
"""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import (
    FIRST_USER_OID,
    FactQuery,
    catalog_class,
    fact_query,
)

# Below it are the OIDs that are the same in every cluster of a version (FirstUnpinnedObjectId, src/include/access/transam.h).
_FIRST_UNPINNED_OID = 12000


def _pinned(oid: str) -> str:
    return f"CASE WHEN {oid} < {_FIRST_UNPINNED_OID} THEN {oid} END"


def _row(*cells: str) -> str:
    return f"ROW({', '.join(cells)})"


def _columns(prefix: str, names: str) -> list[str]:
    return [prefix + name for name in names.split()]


_RELATION = "pg_catalog.pg_class c ON c.relkind IN ('r', 'v') AND c.oid"
_VIEW = (
    "CASE WHEN c.relnamespace = 'information_schema'::pg_catalog.regnamespace THEN pg_catalog.pg_get_ruledef(o.oid) END"
)

# Catalog, what is compared of a row ``o``, and SQL after FROM.
_CATALOGS = (
    (
        "pg_proc",
        _row(
            _pinned("o.oid"),
            *_columns(
                "o.pro",
                "name nargs lang cost rows support kind secdef leakproof isstrict"
                " volatile parallel argnames src config",
            ),
        ),
        "{} WHERE o.oid",
    ),
    (
        "pg_type",
        _row(
            _pinned("o.oid"),
            *_columns(
                "o.typ",
                "name type isdefined delim input output receive send modin modout align storage notnull typmod default",
            ),
        ),
        "{} WHERE o.oid",
    ),
    (
        "pg_operator",
        _row(_pinned("o.oid"), *_columns("o.opr", "name code rest join com negate canmerge canhash")),
        "{} WHERE o.oid",
    ),
    ("pg_opfamily", _row(_pinned("o.oid"), *_columns("o.opf", "name method")), "{} WHERE o.oid"),
    (
        "pg_opclass",
        _row(_pinned("o.oid"), *_columns("o.opc", "name method family intype default keytype")),
        "{} WHERE o.oid",
    ),
    (
        "pg_amop",
        _row(*_columns("o.amop", "family lefttype righttype strategy purpose opr method")),
        "{} WHERE o.amopfamily",
    ),
    (
        "pg_amproc",
        _row(*_columns("o.am", "procfamily proclefttype procrighttype procnum proc")),
        "{} WHERE o.amprocfamily",
    ),
    ("pg_cast", _row(*_columns("o.cast", "source target func context method")), "{} WHERE o.oid"),
    (
        "pg_conversion",
        _row(_pinned("o.oid"), *_columns("o.con", "name forencoding toencoding proc default")),
        "{} WHERE o.oid",
    ),
    ("pg_language", _row("o.lanname", "o.lanpltrusted"), "{} WHERE o.oid"),
    ("pg_am", _row("o.amname", "o.amtype", "o.amhandler"), "{} WHERE o.oid"),
    ("pg_ts_parser", _row("o.prsname"), "{} WHERE o.oid"),
    ("pg_ts_template", _row("o.tmplname"), "{} WHERE o.oid"),
    ("pg_ts_dict", _row("o.dictname", "o.dictinitoption"), "{} WHERE o.oid"),
    ("pg_ts_config", _row("o.cfgname"), "{} WHERE o.oid"),
    (
        "pg_ts_config_map",
        _row("f.cfgname", "o.maptokentype", "o.mapseqno", "d.dictname"),
        "{} JOIN pg_catalog.pg_ts_config f ON f.oid = o.mapcfg JOIN pg_catalog.pg_ts_dict d ON d.oid = o.mapdict WHERE o.mapcfg",
    ),
    (
        "pg_class",
        _row("o.relname", "o.relkind", "o.reloptions", "o.relrowsecurity", "o.relforcerowsecurity"),
        "{} WHERE o.relkind IN ('r', 'v') AND o.oid",
    ),
    (
        "pg_attribute",
        _row("c.relname", "o.attname", "o.attnum", _pinned("o.atttypid"), "o.attnotnull", "o.attisdropped"),
        f"{{}} JOIN {_RELATION} = o.attrelid WHERE o.attnum > 0 AND c.oid",
    ),
    (
        "pg_index",
        _row("c.relname", _pinned("o.indexrelid"), "o.indisunique", "o.indkey"),
        f"{{}} JOIN {_RELATION} = o.indrelid WHERE c.oid",
    ),
    (
        "pg_constraint",
        _row("c.relname", "o.conname", "pg_catalog.pg_get_constraintdef(o.oid)"),
        f"{{}} JOIN {_RELATION} = o.conrelid WHERE c.oid",
    ),
    (
        "pg_trigger",
        _row("c.relname", "o.tgenabled", "pg_catalog.pg_get_triggerdef(o.oid)"),
        f"{{}} JOIN {_RELATION} = o.tgrelid WHERE c.oid",
    ),
    (
        "pg_policy",
        _row("c.relname", "o.polname", "o.polcmd", "o.polpermissive", "pg_catalog.pg_get_expr(o.polqual, o.polrelid)"),
        f"{{}} JOIN {_RELATION} = o.polrelid WHERE c.oid",
    ),
    (
        "pg_rewrite",
        _row("c.relname", "o.rulename", "o.ev_enabled", _VIEW),
        f"{{}} JOIN {_RELATION} = o.ev_class WHERE c.oid",
    ),
    # those of schemas, extensions and large objects are facts of these
    (
        "pg_description",
        _row("o.classoid", _pinned("o.objoid"), "o.objsubid", "o.description"),
        f"{{}} WHERE o.classoid NOT IN ({catalog_class('pg_namespace')}, {catalog_class('pg_extension')}, {catalog_class('pg_largeobject')}) AND o.objoid",
    ),
)

INITDB: tuple[FactQuery, ...] = tuple(
    fact_query(
        "initdb_objects",
        shapes="-",
        schema_at=None,
        carrier_class="pg_class",
        carrier=f"{catalog_class(catalog)}::pg_catalog.oid",
        number="0",
        identity={"catalog": f"'{catalog}'"},
        attributes={
            "digest": "pg_catalog.count(*) || ' ' || coalesce(pg_catalog.sum("
            f"pg_catalog.hashtextextended(pg_catalog.textin(pg_catalog.record_out({row})), 0)::pg_catalog.numeric), 0)"
        },
        source=f"FROM {source.format(f'pg_catalog.{catalog} o')} < {FIRST_USER_OID}",
    )
    for catalog, row, source in _CATALOGS
)
