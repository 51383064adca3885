# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Detect cheaply whether, and where, the system catalogs changed.

Every change to a catalog makes a row with the changing transaction's id in ``xmin``, or takes a row away. So the state
of a catalog relative to a *reference* transaction id is: how many rows are older than it, and which are not. Rows that
are older can only become fewer. Two reads with one reference are equal exactly when no row was inserted, updated or
deleted between them; the comparison costs one scan without output. Transaction ids are compared by ``age()``, which
follows their wrap-around.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Iterable, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import (
    OLDEST,
    for_major,
    varying,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import FIRST_USER_OID


@dataclass(frozen=True)
class _Catalog:
    """How one catalog is watched.

    ``item`` is an SQL expression over alias ``c`` for ``class/oid/row``: the object that the row is about and the row's own
    number. ``whole`` lists all rows and not only the newer ones (small catalogs, and those whose rows nothing else covers);
    of those that initdb made, which ``made`` leaves out, the newer ones only. ``where`` leaves out what no fact is made of;
    ``since`` is the first major version that has the catalog.
    """

    name: str
    item: str
    whole: bool = False
    made: str = "true"
    where: str = "true"
    since: int = OLDEST


def _about(catalog: str, oid: str, row: str = "c.oid") -> str:
    return f"'{catalog}/' || {oid} || '/' || {row}"


def _by_class(class_column: str, object_column: str, row: str) -> str:
    return f"{class_column}::pg_catalog.regclass::text || '/' || {object_column} || '/' || {row}"


_USER = f"c.{{}} >= {FIRST_USER_OID}"

_CATALOGS = (
    _Catalog("pg_class", _about("pg_class", "c.oid")),
    # a default never changes without its column's row, so pg_attrdef is left out
    _Catalog("pg_attribute", _about("pg_class", "c.attrelid", "c.attnum")),
    _Catalog(
        "pg_constraint",
        "CASE WHEN c.conrelid <> 0 THEN 'pg_class/' || c.conrelid ELSE 'pg_type/' || c.contypid END || '/' || c.oid",
    ),
    _Catalog("pg_index", _about("pg_class", "c.indrelid", "c.indexrelid")),
    _Catalog("pg_trigger", _about("pg_class", "c.tgrelid")),
    _Catalog("pg_rewrite", _about("pg_class", "c.ev_class")),
    _Catalog("pg_policy", _about("pg_class", "c.polrelid")),
    _Catalog("pg_sequence", _about("pg_class", "c.seqrelid", "c.seqrelid")),
    _Catalog("pg_inherits", _about("pg_class", "c.inhrelid", "c.inhparent"), whole=True),
    _Catalog("pg_partitioned_table", _about("pg_class", "c.partrelid", "c.partrelid"), whole=True),
    _Catalog("pg_foreign_table", _about("pg_class", "c.ftrelid", "c.ftrelid"), whole=True),
    _Catalog("pg_statistic_ext", _about("pg_statistic_ext", "c.oid"), whole=True),
    _Catalog("pg_proc", _about("pg_proc", "c.oid")),
    _Catalog("pg_aggregate", _about("pg_proc", "c.aggfnoid::pg_catalog.oid", "c.aggfnoid::pg_catalog.oid")),
    _Catalog("pg_type", _about("pg_type", "c.oid")),
    _Catalog("pg_enum", _about("pg_type", "c.enumtypid"), whole=True),
    _Catalog("pg_range", _about("pg_type", "c.rngtypid", "c.rngtypid"), whole=True),
    _Catalog("pg_namespace", _about("pg_namespace", "c.oid"), whole=True),
    _Catalog("pg_operator", _about("pg_operator", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_opfamily", _about("pg_opfamily", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_opclass", _about("pg_opclass", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_amop", _about("pg_opfamily", "c.amopfamily"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_amproc", _about("pg_opfamily", "c.amprocfamily"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_cast", _about("pg_cast", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_collation", _about("pg_collation", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_conversion", _about("pg_conversion", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_ts_parser", _about("pg_ts_parser", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_ts_template", _about("pg_ts_template", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_ts_dict", _about("pg_ts_dict", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog("pg_ts_config", _about("pg_ts_config", "c.oid"), whole=True, made=_USER.format("oid")),
    _Catalog(
        "pg_ts_config_map",
        _about("pg_ts_config", "c.mapcfg", "c.maptokentype || '.' || c.mapseqno"),
        whole=True,
        made=_USER.format("mapcfg"),
    ),
    _Catalog("pg_extension", _about("pg_extension", "c.oid"), whole=True),
    _Catalog("pg_language", _about("pg_language", "c.oid"), whole=True),
    _Catalog("pg_am", _about("pg_am", "c.oid"), whole=True),
    _Catalog("pg_transform", _about("pg_transform", "c.oid"), whole=True),
    _Catalog("pg_event_trigger", _about("pg_event_trigger", "c.oid"), whole=True),
    _Catalog("pg_publication", _about("pg_publication", "c.oid"), whole=True),
    _Catalog("pg_publication_rel", _about("pg_publication", "c.prpubid"), whole=True),
    _Catalog("pg_publication_namespace", _about("pg_publication", "c.pnpubid"), whole=True, since=15),
    _Catalog("pg_foreign_data_wrapper", _about("pg_foreign_data_wrapper", "c.oid"), whole=True),
    _Catalog("pg_foreign_server", _about("pg_foreign_server", "c.oid"), whole=True),
    _Catalog("pg_default_acl", _about("pg_default_acl", "c.oid"), whole=True),
    _Catalog(
        "pg_database", _about("pg_database", "c.oid"), whole=True, where="c.datname = pg_catalog.current_database()"
    ),
    _Catalog("pg_db_role_setting", _about("pg_db_role_setting", "c.setrole", "c.setdatabase"), whole=True),
    _Catalog("pg_tablespace", _about("pg_tablespace", "c.oid"), whole=True),
    _Catalog("pg_parameter_acl", _about("pg_parameter_acl", "c.oid"), whole=True, since=15),
    _Catalog("pg_auth_members", _about("pg_authid", "c.roleid", varying("membership_number", "c")), whole=True),
    _Catalog("pg_init_privs", _by_class("c.classoid", "c.objoid", "c.objsubid"), whole=True),
    _Catalog(
        "pg_description",
        _by_class("c.classoid", "c.objoid", "c.objsubid"),
        whole=True,
        made=f"(c.objoid >= {FIRST_USER_OID} OR c.classoid IN ('pg_catalog.pg_namespace'::pg_catalog.regclass,"
        " 'pg_catalog.pg_extension'::pg_catalog.regclass, 'pg_catalog.pg_largeobject'::pg_catalog.regclass))",
    ),
    _Catalog("pg_shdescription", _by_class("c.classoid", "c.objoid", "0"), whole=True),
    _Catalog("pg_seclabel", _by_class("c.classoid", "c.objoid", "c.objsubid"), whole=True),
    _Catalog("pg_shseclabel", _by_class("c.classoid", "c.objoid", "0"), whole=True),
    # which objects are members of an extension, or depend on one
    _Catalog(
        "pg_depend",
        _by_class("c.classid", "c.objid", "c.refobjid || c.deptype::text"),
        whole=True,
        where="c.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
        " AND c.refobjid = ANY (ARRAY(SELECT x.oid FROM pg_catalog.pg_extension x))",
    ),
)

_SUBSCRIPTION = ("two_phase", "disables", "skipped", "password", "as_owner", "origin", "failover")

# Without an xmin that every role may read: compared by content.
_VIEWS = (
    _Catalog(
        "pg_subscription",
        "'pg_subscription/' || c.oid || '/' || pg_catalog.hashtextextended(ROW(c.subname, c.subowner,"
        " c.subenabled, c.subbinary, c.substream, c.subslotname, c.subsynccommit, c.subpublications,"
        + ", ".join(varying(f"subscription_{name}", "c") for name in _SUBSCRIPTION)
        + "{conninfo})::text, 0)",
        whole=True,
    ),
    _Catalog("pg_roles", "'pg_authid/' || c.oid || '/' || pg_catalog.hashtextextended(c::text, 0)", whole=True),
    _Catalog(
        "pg_user_mappings",
        "'pg_foreign_server/' || c.srvid || '/' || pg_catalog.hashtextextended(c::text, 0)",
        whole=True,
    ),
)

_WHOLE = frozenset(item.name for item in (*_CATALOGS, *_VIEWS) if item.whole)

# Where a vanished row is searched for by comparing the facts with what is left. The other catalogs that are not listed
# whole lose rows only together with a row of these.
_COUNTED = frozenset({"pg_class", "pg_constraint", "pg_trigger", "pg_rewrite", "pg_policy", "pg_proc", "pg_type"})

# Of these there are facts of what initdb made.
_MADE_BY_INITDB = frozenset(
    {
        *("pg_class", "pg_proc", "pg_type", "pg_operator", "pg_opfamily", "pg_opclass", "pg_cast", "pg_conversion"),
        *("pg_language", "pg_am", "pg_ts_parser", "pg_ts_template", "pg_ts_dict", "pg_ts_config", "pg_tablespace"),
    }
)

# What depends on these does so by name only, and a changed name is seen in their own facts.
_WITHOUT_DEPENDENTS = ("pg_namespace/", "pg_database/", "pg_authid/", "pg_db_role_setting/")

# A change to one of these can change how objects that do not depend on it are written, or what names mean.
_UNSETTLING = frozenset(
    {
        "pg_roles",
        "pg_opclass",
        "pg_extension",
        "pg_depend",
        "pg_am",
        "pg_language",
        "pg_collation",
        "pg_init_privs",
        "pg_tablespace",
    }
)


@dataclass(frozen=True)
class CatalogState:
    """The state of the catalogs: rows counted, and rows listed as ``class/oid/row xmin``, by catalog."""

    reference: int
    counts: dict[str, int]
    rows: dict[str, frozenset[str]]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the state; only comparable under one reference."""
        state = hashlib.sha256(str(self.reference).encode())
        for catalog in sorted(self.counts):
            state.update(f"{catalog} {self.counts[catalog]} {','.join(sorted(self.rows[catalog]))}\n".encode())
        return state.hexdigest()


def fetch_catalog_state(session: Session, reference: int | None = None) -> CatalogState:
    """Return the catalogs' state as this session's transaction sees it.

    ``reference`` is a transaction id modulo 2**32; by default the oldest that is still running. Raises ``SqlError``.
    """
    current, sees_conninfo = session.rows(
        "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text,"
        " pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subconninfo', 'SELECT')"
    )[0]
    if reference is None:
        reference = int(current or 0) % 2**32
    conninfo = ", c.subconninfo" if sees_conninfo == "t" else ""
    recent = f"pg_catalog.age(c.xmin) <= (SELECT pg_catalog.age('{reference}'::pg_catalog.xid))"
    parts = []
    for catalog in (one for one in _CATALOGS if one.since <= session.major):
        if catalog.whole or catalog.name in _COUNTED:
            listed = f" FILTER (WHERE {catalog.made} OR {recent})" if catalog.whole else f" FILTER (WHERE {recent})"
            where = catalog.where
        else:
            # rows of these vanish only together with one that is counted
            listed, where = "", f"{catalog.where} AND {recent}"
        parts.append(
            f"SELECT '{catalog.name}', pg_catalog.count(*), pg_catalog.string_agg({catalog.item} || ' ' || c.xmin, ','){listed}"
            f" FROM pg_catalog.{catalog.name} c WHERE {where}"
        )
    parts += [
        f"SELECT '{view.name}', pg_catalog.count(*), pg_catalog.string_agg({view.item.format(conninfo=conninfo)}, ',')"
        f" FROM pg_catalog.{view.name} c"
        for view in _VIEWS
    ]
    counts: dict[str, int] = {}
    rows: dict[str, frozenset[str]] = {}
    for name, count, listed_rows in session.copy(for_major(" UNION ALL ".join(parts), session.major)):
        assert name is not None
        assert count is not None
        listed_set = frozenset(listed_rows.split(",")) if listed_rows else frozenset()
        # rows that are listed are compared as such: what remains to count are those that are not
        counts[name] = int(count) - len(listed_set)
        rows[name] = listed_set
    return CatalogState(reference, counts, rows)


@dataclass(frozen=True)
class Delta:
    """What to do to the facts, by ``class/oid``.

    Read the carriers ``touched`` again (with the letter of their shape, '' without one) and forget the rows that are
    ``gone``; or, when that would not be safe, read ``everything``.
    """

    everything: bool
    touched: Mapping[str, str] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()


# From an object that is no carrier to the one that its facts hang on: class -> SQL giving class/oid of the carrier.
_CARRIER_OF = {
    "pg_class": "SELECT 'pg_class/' || i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = ANY ({})",
    "pg_constraint": "SELECT CASE WHEN k.conrelid <> 0 THEN 'pg_class/' || k.conrelid ELSE 'pg_type/' || k.contypid END"
    " FROM pg_catalog.pg_constraint k WHERE k.oid = ANY ({})",
    "pg_rewrite": "SELECT 'pg_class/' || r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.oid = ANY ({})",
    "pg_trigger": "SELECT 'pg_class/' || t.tgrelid FROM pg_catalog.pg_trigger t WHERE t.oid = ANY ({})",
    "pg_policy": "SELECT 'pg_class/' || p.polrelid FROM pg_catalog.pg_policy p WHERE p.oid = ANY ({})",
    "pg_attrdef": "SELECT 'pg_class/' || d.adrelid FROM pg_catalog.pg_attrdef d WHERE d.oid = ANY ({})",
    "pg_type": "SELECT 'pg_class/' || y.typrelid FROM pg_catalog.pg_type y WHERE y.oid = ANY ({}) AND y.typrelid <> 0",
    "pg_publication_rel": "SELECT 'pg_publication/' || r.prpubid FROM pg_catalog.pg_publication_rel r WHERE r.oid = ANY ({})",
}


_MEMBER_OF = (
    "SELECT 'pg_extension/' || d.refobjid FROM pg_catalog.pg_depend d WHERE d.deptype = 'e'"
    " AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass"
    " AND d.classid = 'pg_catalog.{}'::pg_catalog.regclass AND d.objid = ANY ({})"
)


def catalog_delta(session: Session, before: CatalogState, now: CatalogState, known: Iterable[str]) -> Delta:
    """Return what changed between two reads under one reference.

    ``known`` holds ``class/oid`` of all catalog rows that the facts of ``before`` were read from; it is a dictionary or a
    set. Raises ``SqlError``.
    """
    assert before.reference == now.reference
    changed: set[str] = set()
    vanished_in: list[str] = []
    for name, rows in now.rows.items():
        if rows == before.rows[name] and now.counts[name] == before.counts[name]:
            continue
        if name in _UNSETTLING:
            return Delta(everything=True)
        newer = {row.partition(" ")[0] for row in rows - before.rows[name]}
        changed |= newer
        if name in _WHOLE:
            if now.counts[name] != before.counts[name]:
                # of what initdb made
                return Delta(everything=True)
            changed |= {row.partition(" ")[0] for row in before.rows[name] - rows}
        elif name in _COUNTED:
            # A row that no fact was read from counts as inserted. Never fewer were inserted, so nothing vanished when the sum is right.
            inserted = sum(1 for row in newer if f"{name}/{row.rpartition('/')[2]}" not in known)
            if now.counts[name] + len(rows) != before.counts[name] + len(before.rows[name]) + inserted:
                vanished_in.append(name)
    objects = {row.rpartition("/")[0] for row in changed}
    if any(_is_system(item) for item in objects):
        # nothing records what depends on an object of initdb
        return Delta(everything=True)
    gone: set[str] = set()
    for name in vanished_in:
        left = {f"{name}/{oid}" for (oid,) in session.copy(f"SELECT c.oid FROM pg_catalog.{name} c")}
        gone |= {row for row in known if row.startswith(f"{name}/") and row not in left}
    return Delta(False, _shaped(session, _with_dependents(session, objects)) if objects else {}, frozenset(gone))


def _is_system(item: str) -> bool:
    catalog, _slash, oid = item.partition("/")
    return int(oid) < FIRST_USER_OID and catalog in _MADE_BY_INITDB


def _with_dependents(session: Session, objects: set[str]) -> set[str]:
    """Return ``objects`` (``class/oid``), those that depend on them, and the carriers of both."""
    classes = _by_classes(item for item in objects if not item.startswith(_WITHOUT_DEPENDENTS))
    found = set(objects)
    if classes:
        found |= {
            item or ""
            for (item,) in session.copy(
                " UNION ".join(
                    "SELECT d.classid::pg_catalog.regclass::text || '/' || d.objid FROM pg_catalog.pg_depend d"
                    f" WHERE d.refclassid = 'pg_catalog.{name}'::pg_catalog.regclass AND d.refobjid = ANY ({_array(oids)})"
                    for name, oids in classes.items()
                )
            )
        }
    parts = [_CARRIER_OF[name].format(_array(oids)) for name, oids in _by_classes(found).items() if name in _CARRIER_OF]
    if parts:
        found |= {item or "" for (item,) in session.copy(" UNION ".join(parts))}
    # an extension's facts have the definitions of its members
    members = [
        _MEMBER_OF.format(name, _array(oids))
        for name, oids in _by_classes(item for item in found if not item.startswith(_WITHOUT_DEPENDENTS)).items()
    ]
    if members:
        found |= {item or "" for (item,) in session.copy(" UNION ".join(members))}
    return found


# An array type and a table's row type come and go with what they belong to, and have no facts.
_SHAPE_OF = {
    "pg_class": "SELECT 'pg_class/' || c.oid, c.relkind::text FROM pg_catalog.pg_class c WHERE c.oid = ANY ({})"
    " AND c.relkind NOT IN ('i', 'I', 't')",
    "pg_type": "SELECT 'pg_type/' || y.oid, y.typtype::text FROM pg_catalog.pg_type y WHERE y.oid = ANY ({}) AND NOT EXISTS"
    " (SELECT FROM pg_catalog.pg_type e WHERE e.oid = y.typelem AND e.typarray = y.oid) AND NOT EXISTS"
    " (SELECT FROM pg_catalog.pg_class c WHERE c.oid = y.typrelid AND c.relkind <> 'c')",
    "pg_proc": "SELECT 'pg_proc/' || f.oid, f.prokind::text FROM pg_catalog.pg_proc f WHERE f.oid = ANY ({})",
}


def _shaped(session: Session, objects: set[str]) -> dict[str, str]:
    """Return the objects that can have facts, each with its shape."""
    classes = _by_classes(objects)
    shaped = {item: "" for item in objects if item.partition("/")[0] not in _SHAPE_OF}
    queries = [sql.format(_array(classes[name])) for name, sql in _SHAPE_OF.items() if name in classes]
    if queries:
        shaped.update((item or "", shape or "") for item, shape in session.copy(" UNION ALL ".join(queries)))
    return shaped


def _by_classes(items: Iterable[str]) -> dict[str, list[int]]:
    classes: dict[str, list[int]] = {}
    for item in items:
        name, _slash, oid = item.partition("/")
        classes.setdefault(name, []).append(int(oid))
    return {name: sorted(oids) for name, oids in sorted(classes.items())}


def _array(oids: Iterable[int]) -> str:
    return f"'{{{','.join(map(str, oids))}}}'::pg_catalog.oid[]"
