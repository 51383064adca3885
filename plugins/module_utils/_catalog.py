# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The objects of a schema: one set-based catalog query per kind of object.

A *fact* is a kind, an identity (names only) and attributes (texts or NULL). No fact contains an OID, an ordinal
position, a statistic or a secret. Two cells go beside each fact and never into it: the OID of its *carrier*, the
object whose change makes the fact worth reading again (a column's carrier is its relation), and a number that is
unique within carrier and kind. Renames are proved and deltas are read with these two.

Every name in the queries is qualified with ``pg_catalog`` or resolved by the session's ``search_path``, which
``_client.SESSION_SETTINGS`` fixes to ``pg_catalog, pg_temp``. PostgreSQL 16 is the catalog that is described here;
what it does not describe is reported as a fact of kind ``unknown``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, Sequence

# The first OID that no object made by initdb has (FirstNormalObjectId, src/include/access/transam.h).
FIRST_USER_OID = 16384


@dataclass(frozen=True)
class Kind:
    """One kind of fact.

    ``identity`` and ``attributes`` name the cells in order. ``parent`` is the namespace of the object that the fact
    is a part of and the places in the identity of that object's names; None for an object of its own, which then
    belongs to ``namespace``. ``schema_at`` is the place of the schema's name in the identity, None without one.
    """

    name: str
    namespace: str
    identity: tuple[str, ...]
    attributes: tuple[str, ...]
    schema_at: int | None = 0
    parent: tuple[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class FactQuery:
    """The SQL that reads facts of one kind.

    ``carrier`` and ``number`` are SQL expressions of type oid and int8; ``carrier_class`` is the catalog the carrier
    is in, ``keyed_by`` the catalog whose rows the numbers are taken from: a row that vanishes there is a fact that vanishes.
    ``cells`` holds one expression per identity and attribute name. ``section`` is schema, database or cluster. ``shapes``
    are the letters (relkind, typtype, prokind) of the carriers that can have such facts, '' for any; ``-`` is for
    objects that initdb made, which are only ever read with everything else.
    """

    kind: Kind
    carrier_class: str
    carrier: str
    number: str
    keyed_by: str
    cells: tuple[str, ...]
    source: str
    section: str = "schema"
    shapes: str = ""

    def sql(self, only: Sequence[int] | None = None) -> str:
        """Return the query for all facts, or for those of the carriers ``only``."""
        return f"SELECT {self.carrier}, {self.number}, {', '.join(self.cells)} {self._from(only)}"

    def without(self, attribute: str) -> FactQuery:
        """Return the query with NULL for one attribute, for a session that may not read it."""
        cells = list(self.cells)
        cells[len(self.kind.identity) + self.kind.attributes.index(attribute)] = "NULL"
        return replace(self, cells=tuple(cells))

    def _from(self, only: Sequence[int] | None) -> str:
        if only is None:
            return self.source
        oids = ",".join(str(oid) for oid in only)
        return f"{self.source} AND {self.carrier} = ANY ('{{{oids}}}'::oid[])"


KINDS: dict[str, Kind] = {}
QUERIES: list[FactQuery] = []


def _reg(catalog: str) -> str:
    return f"'pg_catalog.{catalog}'::pg_catalog.regclass"


def _own(catalog: str, oid: str) -> str:
    """Return the condition: made by a user, and not a member of an extension."""
    return f"{oid} >= {FIRST_USER_OID} AND {_no_member(catalog, oid)}"


def _no_member(catalog: str, oid: str) -> str:
    return (
        f"{oid} NOT IN (SELECT e.objid FROM pg_catalog.pg_depend e WHERE e.refclassid = {_reg('pg_extension')}"
        f" AND e.classid = {_reg(catalog)} AND e.deptype = 'e')"
    )


def _notes(catalog: str, oid: str, number: str = "0", shared: bool = False) -> str:
    """Return the joins that give ``note.description`` and ``label.labels`` for an object."""
    if shared:
        return (
            f" LEFT JOIN pg_catalog.pg_shdescription note ON note.objoid = {oid} AND note.classoid = {_reg(catalog)}"
            " LEFT JOIN (SELECT objoid, classoid, pg_catalog.json_object_agg(provider, label ORDER BY provider)::text AS labels"
            f" FROM pg_catalog.pg_shseclabel GROUP BY 1, 2) label ON label.objoid = {oid} AND label.classoid = {_reg(catalog)}"
        )
    return (
        f" LEFT JOIN pg_catalog.pg_description note ON note.objoid = {oid} AND note.classoid = {_reg(catalog)}"
        f" AND note.objsubid = {number}"
        " LEFT JOIN (SELECT objoid, classoid, objsubid, pg_catalog.json_object_agg(provider, label ORDER BY provider)::text AS labels"
        f" FROM pg_catalog.pg_seclabel GROUP BY 1, 2, 3) label ON label.objoid = {oid} AND label.classoid = {_reg(catalog)}"
        f" AND label.objsubid = {number}"
    )


_NOTES = {"comment": "note.description", "security_labels": "label.labels"}


def _list(array: str, ordered: bool = True) -> str:
    """Return an expression for an array as JSON text, sorted unless its order has a meaning; NULL when empty."""
    if ordered:
        return f'(SELECT pg_catalog.json_agg(v ORDER BY v::text COLLATE "C")::text FROM pg_catalog.unnest({array}) v)'
    return (
        f"(SELECT pg_catalog.json_agg(v ORDER BY n)::text FROM pg_catalog.unnest({array}) WITH ORDINALITY AS u (v, n))"
    )


def _hidden_options(array: str) -> str:
    """Return foreign-data options as JSON text of ``name=sha256:<hex>``: a value may be a password."""
    return (
        "(SELECT pg_catalog.json_agg(o.option_name || '=sha256:' ||"
        " pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(o.option_value, 'UTF8')), 'hex')"
        f' ORDER BY o.option_name COLLATE "C")::text FROM pg_catalog.pg_options_to_table({array}) o)'
    )


def _flag(expression: str) -> str:
    """Return a boolean as ``yes`` or NULL: absence is the ordinary case and costs nothing to carry."""
    return f"CASE WHEN {expression} THEN 'yes' END"


def _function_name(oid: str) -> str:
    """Return a function's signature, or NULL for none."""
    return f"CASE WHEN {oid}::pg_catalog.oid <> 0 THEN ({oid}::pg_catalog.oid)::pg_catalog.regprocedure::text END"


def _add(
    name: str,
    *,
    carrier_class: str,
    carrier: str,
    number: str,
    identity: Mapping[str, str],
    attributes: Mapping[str, str],
    source: str,
    namespace: str | None = None,
    schema_at: int | None = 0,
    parent: tuple[str, tuple[int, ...]] | None = None,
    keyed_by: str | None = None,
    section: str = "schema",
    shapes: str = "",
) -> None:
    kind = Kind(name, namespace or name, tuple(identity), tuple(attributes), schema_at, parent)
    known = KINDS.setdefault(name, kind)
    assert known == kind, f"two shapes for facts of kind {name}"
    QUERIES.append(
        FactQuery(
            known,
            carrier_class,
            carrier,
            number,
            keyed_by or carrier_class,
            (*identity.values(), *attributes.values()),
            source,
            section,
            shapes,
        )
    )


# Temporary and TOAST schemas are left out. Those of initdb are excluded by OID.
_USER_SCHEMA = (
    f"(n.oid >= {FIRST_USER_OID} OR n.nspname = 'public')"
    " AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp\\_%'"
)

_add(
    "schema",
    carrier_class="pg_namespace",
    carrier="n.oid",
    number="0",
    identity={"schema": "n.nspname"},
    attributes={"owner": "pg_catalog.pg_get_userbyid(n.nspowner)", **_NOTES},
    source=f"FROM pg_catalog.pg_namespace n{_notes('pg_namespace', 'n.oid')}"
    f" WHERE {_USER_SCHEMA} AND {_no_member('pg_namespace', 'n.oid')}",
)

_RELATION = (
    f"c.oid >= {FIRST_USER_OID} AND c.relpersistence <> 't' AND {_no_member('pg_class', 'c.oid')}"
    " AND n.nspname NOT LIKE 'pg\\_toast%'"
)
_FROM_RELATION = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
_PERSISTENCE = "CASE c.relpersistence WHEN 'u' THEN 'unlogged' WHEN 'p' THEN NULL ELSE c.relpersistence::text END"
_PARENTS = (
    " LEFT JOIN (SELECT i.inhrelid, pg_catalog.json_agg(i.inhparent::pg_catalog.regclass::text ORDER BY i.inhseqno)::text AS names,"
    " pg_catalog.bool_or(i.inhdetachpending) AS detaching FROM pg_catalog.pg_inherits i GROUP BY 1) parents ON parents.inhrelid = {}"
)
_TABLESPACE = "(SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace)"
_ACCESS_METHOD = "(SELECT a.amname FROM pg_catalog.pg_am a WHERE a.oid = c.relam)"

_add(
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
        "detach_pending": _flag("parents.detaching"),
        "row_security": _flag("c.relrowsecurity"),
        "force_row_security": _flag("c.relforcerowsecurity"),
        "replica_identity": "CASE c.relreplident WHEN 'd' THEN NULL WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full'"
        " WHEN 'i' THEN 'index' ELSE c.relreplident::text END",
        "access_method": _ACCESS_METHOD,
        "tablespace": _TABLESPACE,
        "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {_list('c.reloptions')} END",
        "toast_options": f"CASE WHEN toast.reloptions IS NOT NULL THEN {_list('toast.reloptions')} END",
        **_NOTES,
    },
    source=f"FROM {_FROM_RELATION}{_PARENTS.format('c.oid')}"
    " LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid AND toast.reloptions IS NOT NULL"
    f"{_notes('pg_class', 'c.oid')} WHERE c.relkind IN ('r', 'p') AND {_RELATION}",
)

_add(
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
        "options": _hidden_options("f.ftoptions"),
        "parents": "parents.names",
        "partition_bound": "CASE WHEN c.relispartition THEN pg_catalog.pg_get_expr(c.relpartbound, c.oid) END",
        "detach_pending": _flag("parents.detaching"),
        **_NOTES,
    },
    source=f"FROM {_FROM_RELATION} JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = c.oid"
    f" JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver{_PARENTS.format('c.oid')}"
    f"{_notes('pg_class', 'c.oid')} WHERE c.relkind = 'f' AND {_RELATION}",
)

_add(
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
        "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {_list('c.reloptions')} END",
        **_NOTES,
    },
    source=f"FROM {_FROM_RELATION}{_notes('pg_class', 'c.oid')} WHERE c.relkind = 'v' AND {_RELATION}",
)

_add(
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
        "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {_list('c.reloptions')} END",
        "toast_options": f"CASE WHEN toast.reloptions IS NOT NULL THEN {_list('toast.reloptions')} END",
        **_NOTES,
    },
    source=f"FROM {_FROM_RELATION}"
    " LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid AND toast.reloptions IS NOT NULL"
    f"{_notes('pg_class', 'c.oid')} WHERE c.relkind = 'm' AND {_RELATION}",
)

_add(
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
        "cycle": _flag("s.seqcycle"),
        "owned_by": "(SELECT d.refobjid::pg_catalog.regclass::text || '.' || (SELECT pg_catalog.quote_ident(a.attname)"
        " FROM pg_catalog.pg_attribute a WHERE a.attrelid = d.refobjid AND a.attnum = d.refobjsubid)"
        " || CASE d.deptype WHEN 'i' THEN ' as identity' ELSE '' END FROM pg_catalog.pg_depend d"
        f" WHERE d.classid = {_reg('pg_class')} AND d.objid = c.oid AND d.objsubid = 0"
        f" AND d.refclassid = {_reg('pg_class')} AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') LIMIT 1)",
        **_NOTES,
    },
    source=f"FROM {_FROM_RELATION} JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid"
    f"{_notes('pg_class', 'c.oid')} WHERE c.relkind = 'S' AND {_RELATION}",
)

_add(
    "composite_type",
    shapes="c",
    namespace="relation",
    carrier_class="pg_class",
    carrier="c.oid",
    number="0",
    identity={"schema": "n.nspname", "name": "c.relname"},
    attributes={"owner": "pg_catalog.pg_get_userbyid(y.typowner)", **_NOTES},
    source=f"FROM {_FROM_RELATION} JOIN pg_catalog.pg_type y ON y.oid = c.reltype{_notes('pg_type', 'y.oid')}"
    f" WHERE c.relkind = 'c' AND {_RELATION} AND {_no_member('pg_type', 'y.oid')}",
)

_add(
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
        " (CASE a.attgenerated WHEN 's' THEN 'stored ' ELSE a.attgenerated::text || ' ' END)"
        " || pg_catalog.pg_get_expr(d.adbin, d.adrelid) END",
        "identity": "CASE a.attidentity WHEN '' THEN NULL WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default'"
        " ELSE a.attidentity::text END",
        "collation": "CASE WHEN a.attcollation <> y.typcollation THEN a.attcollation::pg_catalog.regcollation::text END",
        "storage": "CASE WHEN a.attstorage <> y.typstorage THEN CASE a.attstorage WHEN 'p' THEN 'plain'"
        " WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' WHEN 'x' THEN 'extended' ELSE a.attstorage::text END END",
        "compression": "CASE a.attcompression WHEN '' THEN NULL WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4'"
        " ELSE a.attcompression::text END",
        "statistics_target": "CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::text END",
        "options": f"CASE WHEN a.attoptions IS NOT NULL THEN {_list('a.attoptions')} END",
        "foreign_options": f"CASE WHEN a.attfdwoptions IS NOT NULL THEN {_hidden_options('a.attfdwoptions')} END",
        "inherited": "CASE WHEN a.attinhcount > 0 THEN CASE WHEN a.attislocal THEN 'and local' ELSE 'yes' END END",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_attribute a JOIN {_FROM_RELATION} ON c.oid = a.attrelid"
    " JOIN pg_catalog.pg_type y ON y.oid = a.atttypid"
    " LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef"
    f"{_notes('pg_class', 'a.attrelid', 'a.attnum')}"
    f" WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND {_RELATION}",
)

# " NOT VALID" ends the text of one that is not; it is an attribute of its own.
_CONSTRAINT = (
    "CASE WHEN k.convalidated THEN pg_catalog.pg_get_constraintdef(k.oid)"
    " ELSE pg_catalog.left(pg_catalog.pg_get_constraintdef(k.oid), -10) END"
)

_add(
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
        "definition": _CONSTRAINT,
        "not_valid": _flag("NOT k.convalidated"),
        "deferrable": "CASE WHEN k.condeferred THEN 'initially deferred' WHEN k.condeferrable THEN 'yes' END",
        "no_inherit": _flag("k.connoinherit AND k.contype = 'c'"),
        "inherited": "CASE WHEN k.coninhcount > 0 THEN CASE WHEN k.conislocal THEN 'and local' ELSE 'yes' END END",
        "disabled_triggers": "off.states",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_constraint k JOIN {_FROM_RELATION} ON c.oid = k.conrelid"
    " LEFT JOIN (SELECT t.tgconstraint, pg_catalog.string_agg(t.tgenabled::text, '' ORDER BY t.tgtype, t.tgrelid) AS states"
    " FROM pg_catalog.pg_trigger t WHERE t.tgisinternal AND t.tgconstraint <> 0 AND t.tgenabled <> 'O' GROUP BY 1) off"
    " ON off.tgconstraint = k.oid"
    f"{_notes('pg_constraint', 'k.oid')} WHERE k.contype IN ('p', 'u', 'f', 'c', 'x') AND {_RELATION}",
)

_add(
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
        "invalid": _flag("NOT (i.indisvalid AND i.indisready AND i.indislive)"),
        "unique": _flag("i.indisunique AND k.contype IS NULL"),
        "replica_identity": _flag("i.indisreplident"),
        "clustered": _flag("i.indisclustered"),
        "parents": "parents.names",
        "tablespace": _TABLESPACE,
        "options": f"CASE WHEN c.reloptions IS NOT NULL THEN {_list('c.reloptions')} END",
        # only an expression has a target of its own
        "statistics_targets": "CASE WHEN i.indexprs IS NOT NULL THEN"
        " (SELECT pg_catalog.string_agg(a.attnum || '=' || a.attstattarget, ',' ORDER BY a.attnum)"
        " FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attstattarget >= 0) END",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_index i JOIN {_FROM_RELATION} ON c.oid = i.indexrelid"
    " JOIN pg_catalog.pg_class t ON t.oid = i.indrelid"
    " LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = i.indrelid AND k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')"
    f"{_PARENTS.format('c.oid')}"
    f"{_notes('pg_class', 'c.oid')} WHERE {_RELATION} AND {_no_member('pg_class', 't.oid')}",
)

_add(
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
        "inherited": _flag("t.tgparentid <> 0"),
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_trigger t JOIN {_FROM_RELATION} ON c.oid = t.tgrelid"
    f"{_notes('pg_trigger', 't.oid')} WHERE NOT t.tgisinternal AND {_RELATION}",
)

_add(
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
        **_NOTES,
    },
    # a view's own rule is its definition
    source=f"FROM pg_catalog.pg_rewrite r JOIN {_FROM_RELATION} ON c.oid = r.ev_class"
    f"{_notes('pg_rewrite', 'r.oid')} WHERE NOT (r.ev_type = '1' AND r.is_instead AND c.relkind IN ('v', 'm')) AND {_RELATION}",
)

_add(
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
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_policy p JOIN {_FROM_RELATION} ON c.oid = p.polrelid"
    f"{_notes('pg_policy', 'p.oid')} WHERE {_RELATION}",
)

_add(
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
        **_NOTES,
    },
    source="FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace"
    f"{_notes('pg_statistic_ext', 's.oid')} WHERE {_own('pg_statistic_ext', 's.oid')}",
)

_ROUTINE_SOURCE = (
    "FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace"
    " JOIN pg_catalog.pg_language l ON l.oid = f.prolang"
    f"{_notes('pg_proc', 'f.oid')} WHERE {_own('pg_proc', 'f.oid')} AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND f.prokind "
)
_ROUTINE_IDENTITY = {
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
    "window": _flag("f.prokind = 'w'"),
    "volatility": "CASE f.provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' WHEN 'i' THEN 'immutable'"
    " ELSE f.provolatile::text END",
    "parallel": "CASE f.proparallel WHEN 'u' THEN 'unsafe' WHEN 'r' THEN 'restricted' WHEN 's' THEN 'safe'"
    " ELSE f.proparallel::text END",
    "strict": _flag("f.proisstrict"),
    "security_definer": _flag("f.prosecdef"),
    "leakproof": _flag("f.proleakproof"),
    "cost": "f.procost",
    "rows": "CASE WHEN f.proretset THEN f.prorows END",
    "support": _function_name("f.prosupport"),
    "settings": f"CASE WHEN f.proconfig IS NOT NULL THEN {_list('f.proconfig')} END",
    "transforms": "CASE WHEN f.protrftypes IS NOT NULL THEN (SELECT pg_catalog.json_agg(pg_catalog.format_type(y, NULL)"
    ' ORDER BY pg_catalog.format_type(y, NULL) COLLATE "C")::text FROM pg_catalog.unnest(f.protrftypes) y) END',
    **_NOTES,
}
for _name, _shapes, _prokinds in (("function", "fw", "IN ('f', 'w')"), ("procedure", "p", "= 'p'")):
    _add(
        _name,
        shapes=_shapes,
        namespace="routine",
        carrier_class="pg_proc",
        carrier="f.oid",
        number="0",
        identity=_ROUTINE_IDENTITY,
        attributes=_ROUTINE_ATTRIBUTES,
        source=_ROUTINE_SOURCE + _prokinds,
    )

_add(
    "aggregate",
    shapes="a",
    namespace="routine",
    carrier_class="pg_proc",
    carrier="f.oid",
    number="0",
    identity=_ROUTINE_IDENTITY,
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(f.proowner)",
        "arguments": "pg_catalog.pg_get_function_arguments(f.oid)",
        "result": "pg_catalog.pg_get_function_result(f.oid)",
        "aggregate_kind": "CASE g.aggkind WHEN 'n' THEN 'normal' WHEN 'o' THEN 'ordered-set' WHEN 'h' THEN 'hypothetical-set'"
        " ELSE g.aggkind::text END",
        "direct_arguments": "g.aggnumdirectargs",
        "transition": _function_name("g.aggtransfn"),
        "final": _function_name("g.aggfinalfn"),
        "final_extra": _flag("g.aggfinalextra"),
        "final_modify": "g.aggfinalmodify",
        "combine": _function_name("g.aggcombinefn"),
        "serialize": _function_name("g.aggserialfn"),
        "deserialize": _function_name("g.aggdeserialfn"),
        "state_type": "pg_catalog.format_type(g.aggtranstype, NULL)",
        "state_space": "g.aggtransspace",
        "initial_value": "g.agginitval",
        "moving_transition": _function_name("g.aggmtransfn"),
        "moving_inverse": _function_name("g.aggminvtransfn"),
        "moving_final": _function_name("g.aggmfinalfn"),
        "moving_final_extra": _flag("g.aggmfinalextra"),
        "moving_final_modify": "g.aggmfinalmodify",
        "moving_state_type": "CASE WHEN g.aggmtranstype <> 0 THEN pg_catalog.format_type(g.aggmtranstype, NULL) END",
        "moving_state_space": "g.aggmtransspace",
        "moving_initial_value": "g.aggminitval",
        "sort_operator": "CASE WHEN g.aggsortop <> 0 THEN g.aggsortop::pg_catalog.regoperator::text END",
        "parallel": "f.proparallel",
        **_NOTES,
    },
    source=_ROUTINE_SOURCE.replace(
        " JOIN pg_catalog.pg_language",
        " JOIN pg_catalog.pg_aggregate g ON g.aggfnoid = f.oid JOIN pg_catalog.pg_language",
        1,
    )
    + "= 'a'",
)

_TYPE_SOURCE = (
    "FROM pg_catalog.pg_type y JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace"
    f"{{joins}}{_notes('pg_type', 'y.oid')} WHERE {_own('pg_type', 'y.oid')} AND n.nspname NOT LIKE 'pg\\_temp\\_%' AND {{where}}"
)
_TYPE_IDENTITY = {"schema": "n.nspname", "name": "y.typname"}
_TYPE_OWNER = {"owner": "pg_catalog.pg_get_userbyid(y.typowner)"}

_add(
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
        **_NOTES,
    },
    source=_TYPE_SOURCE.format(joins="", where="y.typtype = 'e'"),
)

_add(
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
        "not_null": _flag("y.typnotnull"),
        "default": "coalesce(pg_catalog.pg_get_expr(y.typdefaultbin, 'pg_catalog.pg_type'::pg_catalog.regclass), y.typdefault)",
        "collation": "CASE WHEN y.typcollation <> b.typcollation THEN y.typcollation::pg_catalog.regcollation::text END",
        **_NOTES,
    },
    source=_TYPE_SOURCE.format(joins=" JOIN pg_catalog.pg_type b ON b.oid = y.typbasetype", where="y.typtype = 'd'"),
)

_add(
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
        "definition": _CONSTRAINT,
        "not_valid": _flag("NOT k.convalidated"),
        **_NOTES,
    },
    source="FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_type y ON y.oid = k.contypid"
    f" JOIN pg_catalog.pg_namespace n ON n.oid = y.typnamespace{_notes('pg_constraint', 'k.oid')}"
    f" WHERE k.contype = 'c' AND {_own('pg_type', 'y.oid')}",
)

_add(
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
        "canonical": _function_name("r.rngcanonical"),
        "difference": _function_name("r.rngsubdiff"),
        **_NOTES,
    },
    source=_TYPE_SOURCE.format(joins=" JOIN pg_catalog.pg_range r ON r.rngtypid = y.oid", where="y.typtype = 'r'"),
)

# An array type belongs to its element type; a base type made with an element type of its own does not.
_IS_ARRAY = "EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.oid = y.typelem AND e.typarray = y.oid)"

_add(
    "base_type",
    shapes="bp",
    namespace="type",
    carrier_class="pg_type",
    carrier="y.oid",
    number="0",
    identity=_TYPE_IDENTITY,
    attributes={
        **_TYPE_OWNER,
        "shell": _flag("NOT y.typisdefined"),
        "input": _function_name("y.typinput"),
        "output": _function_name("y.typoutput"),
        "receive": _function_name("y.typreceive"),
        "send": _function_name("y.typsend"),
        "modifier_input": _function_name("y.typmodin"),
        "modifier_output": _function_name("y.typmodout"),
        "analyze": _function_name("y.typanalyze"),
        "subscript": _function_name("y.typsubscript"),
        "length": "y.typlen",
        "by_value": _flag("y.typbyval"),
        "alignment": "y.typalign",
        "storage": "y.typstorage",
        "category": "y.typcategory",
        "preferred": _flag("y.typispreferred"),
        "delimiter": "y.typdelim",
        "element": "CASE WHEN y.typelem <> 0 THEN pg_catalog.format_type(y.typelem, NULL) END",
        "collatable": _flag("y.typcollation <> 0"),
        "default": "y.typdefault",
        **_NOTES,
    },
    source=_TYPE_SOURCE.format(
        joins="", where=f"(y.typtype = 'b' OR y.typtype = 'p' AND NOT y.typisdefined) AND NOT {_IS_ARRAY}"
    ),
)

_add(
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
        "function": _function_name("o.oprcode"),
        "result": "CASE WHEN o.oprresult <> 0 THEN pg_catalog.format_type(o.oprresult, NULL) END",
        "commutator": "CASE WHEN o.oprcom <> 0 THEN o.oprcom::pg_catalog.regoperator::text END",
        "negator": "CASE WHEN o.oprnegate <> 0 THEN o.oprnegate::pg_catalog.regoperator::text END",
        "restriction": _function_name("o.oprrest"),
        "join": _function_name("o.oprjoin"),
        "merges": _flag("o.oprcanmerge"),
        "hashes": _flag("o.oprcanhash"),
        **_NOTES,
    },
    source="FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace"
    f"{_notes('pg_operator', 'o.oid')} WHERE {_own('pg_operator', 'o.oid')}",
)

_add(
    "operator_family",
    carrier_class="pg_opfamily",
    carrier="o.oid",
    number="0",
    identity={"schema": "n.nspname", "name": "o.opfname", "access_method": "m.amname"},
    attributes={"owner": "pg_catalog.pg_get_userbyid(o.opfowner)", **_NOTES},
    source="FROM pg_catalog.pg_opfamily o JOIN pg_catalog.pg_namespace n ON n.oid = o.opfnamespace"
    f" JOIN pg_catalog.pg_am m ON m.oid = o.opfmethod{_notes('pg_opfamily', 'o.oid')} WHERE {_own('pg_opfamily', 'o.oid')}",
)

_FAMILY_MEMBER_IDENTITY = {
    "schema": "n.nspname",
    "family": "o.opfname",
    "access_method": "m.amname",
}
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
):
    _add(
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
        f" WHERE {_own(_entry, 'e.oid')} AND {_no_member('pg_opfamily', 'o.oid')}",
    )

_add(
    "operator_class",
    carrier_class="pg_opclass",
    carrier="o.oid",
    number="0",
    identity={"schema": "n.nspname", "name": "o.opcname", "access_method": "m.amname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(o.opcowner)",
        "family": "pg_catalog.quote_ident(fn.nspname) || '.' || pg_catalog.quote_ident(f.opfname)",
        "type": "pg_catalog.format_type(o.opcintype, NULL)",
        "default": _flag("o.opcdefault"),
        "storage": "CASE WHEN o.opckeytype <> 0 THEN pg_catalog.format_type(o.opckeytype, NULL) END",
        **_NOTES,
    },
    source="FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace"
    " JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod JOIN pg_catalog.pg_opfamily f ON f.oid = o.opcfamily"
    " JOIN pg_catalog.pg_namespace fn ON fn.oid = f.opfnamespace"
    f"{_notes('pg_opclass', 'o.oid')} WHERE {_own('pg_opclass', 'o.oid')}",
)

_add(
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
        "function": _function_name("k.castfunc"),
        "context": "CASE k.castcontext WHEN 'e' THEN 'explicit' WHEN 'a' THEN 'assignment' WHEN 'i' THEN 'implicit'"
        " ELSE k.castcontext::text END",
        "method": "CASE k.castmethod WHEN 'f' THEN 'function' WHEN 'i' THEN 'inout' WHEN 'b' THEN 'binary'"
        " ELSE k.castmethod::text END",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_cast k{_notes('pg_cast', 'k.oid')} WHERE {_own('pg_cast', 'k.oid')}",
)

_add(
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
        "nondeterministic": _flag("NOT o.collisdeterministic"),
        "lc_collate": "o.collcollate",
        "lc_ctype": "o.collctype",
        "icu_locale": "o.colliculocale",
        "icu_rules": "o.collicurules",
        **_NOTES,
    },
    source="FROM pg_catalog.pg_collation o JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace"
    f"{_notes('pg_collation', 'o.oid')} WHERE {_own('pg_collation', 'o.oid')}",
)

_add(
    "conversion",
    carrier_class="pg_conversion",
    carrier="o.oid",
    number="0",
    identity={"schema": "n.nspname", "name": "o.conname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(o.conowner)",
        "source": "pg_catalog.pg_encoding_to_char(o.conforencoding)",
        "target": "pg_catalog.pg_encoding_to_char(o.contoencoding)",
        "function": _function_name("o.conproc"),
        "default": _flag("o.condefault"),
        **_NOTES,
    },
    source="FROM pg_catalog.pg_conversion o JOIN pg_catalog.pg_namespace n ON n.oid = o.connamespace"
    f"{_notes('pg_conversion', 'o.oid')} WHERE {_own('pg_conversion', 'o.oid')}",
)

_add(
    "text_search_parser",
    carrier_class="pg_ts_parser",
    carrier="o.oid",
    number="0",
    identity={"schema": "n.nspname", "name": "o.prsname"},
    attributes={
        "start": _function_name("o.prsstart"),
        "token": _function_name("o.prstoken"),
        "end": _function_name("o.prsend"),
        "headline": _function_name("o.prsheadline"),
        "token_types": _function_name("o.prslextype"),
        **_NOTES,
    },
    source="FROM pg_catalog.pg_ts_parser o JOIN pg_catalog.pg_namespace n ON n.oid = o.prsnamespace"
    f"{_notes('pg_ts_parser', 'o.oid')} WHERE {_own('pg_ts_parser', 'o.oid')}",
)

_add(
    "text_search_template",
    carrier_class="pg_ts_template",
    carrier="o.oid",
    number="0",
    identity={"schema": "n.nspname", "name": "o.tmplname"},
    attributes={"init": _function_name("o.tmplinit"), "lexize": _function_name("o.tmpllexize"), **_NOTES},
    source="FROM pg_catalog.pg_ts_template o JOIN pg_catalog.pg_namespace n ON n.oid = o.tmplnamespace"
    f"{_notes('pg_ts_template', 'o.oid')} WHERE {_own('pg_ts_template', 'o.oid')}",
)

_add(
    "text_search_dictionary",
    carrier_class="pg_ts_dict",
    carrier="o.oid",
    number="0",
    identity={"schema": "n.nspname", "name": "o.dictname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(o.dictowner)",
        "template": "pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(t.tmplname)",
        "options": "o.dictinitoption",
        **_NOTES,
    },
    source="FROM pg_catalog.pg_ts_dict o JOIN pg_catalog.pg_namespace n ON n.oid = o.dictnamespace"
    " JOIN pg_catalog.pg_ts_template t ON t.oid = o.dicttemplate JOIN pg_catalog.pg_namespace tn ON tn.oid = t.tmplnamespace"
    f"{_notes('pg_ts_dict', 'o.oid')} WHERE {_own('pg_ts_dict', 'o.oid')}",
)

_add(
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
        **_NOTES,
    },
    source="FROM pg_catalog.pg_ts_config o JOIN pg_catalog.pg_namespace n ON n.oid = o.cfgnamespace"
    " JOIN pg_catalog.pg_ts_parser p ON p.oid = o.cfgparser JOIN pg_catalog.pg_namespace pn ON pn.oid = p.prsnamespace"
    f"{_notes('pg_ts_config', 'o.oid')} WHERE {_own('pg_ts_config', 'o.oid')}",
)

_add(
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
        **_NOTES,
    },
    source="FROM pg_catalog.pg_extension x JOIN pg_catalog.pg_namespace n ON n.oid = x.extnamespace"
    f"{_notes('pg_extension', 'x.oid')} WHERE true",
)

_add(
    "language",
    schema_at=None,
    carrier_class="pg_language",
    carrier="l.oid",
    number="0",
    identity={"name": "l.lanname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(l.lanowner)",
        "trusted": _flag("l.lanpltrusted"),
        "handler": _function_name("l.lanplcallfoid"),
        "inline": _function_name("l.laninline"),
        "validator": _function_name("l.lanvalidator"),
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_language l{_notes('pg_language', 'l.oid')} WHERE {_own('pg_language', 'l.oid')}",
)

_add(
    "access_method",
    schema_at=None,
    carrier_class="pg_am",
    carrier="m.oid",
    number="0",
    identity={"name": "m.amname"},
    attributes={
        "type": "CASE m.amtype WHEN 't' THEN 'table' WHEN 'i' THEN 'index' ELSE m.amtype::text END",
        "handler": _function_name("m.amhandler"),
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_am m{_notes('pg_am', 'm.oid')} WHERE {_own('pg_am', 'm.oid')}",
)

_add(
    "transform",
    schema_at=None,
    carrier_class="pg_transform",
    carrier="t.oid",
    number="0",
    identity={"type": "pg_catalog.format_type(t.trftype, NULL)", "language": "l.lanname"},
    attributes={"from_sql": _function_name("t.trffromsql"), "to_sql": _function_name("t.trftosql"), **_NOTES},
    source="FROM pg_catalog.pg_transform t JOIN pg_catalog.pg_language l ON l.oid = t.trflang"
    f"{_notes('pg_transform', 't.oid')} WHERE {_own('pg_transform', 't.oid')}",
)

_add(
    "event_trigger",
    schema_at=None,
    carrier_class="pg_event_trigger",
    carrier="t.oid",
    number="0",
    identity={"name": "t.evtname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(t.evtowner)",
        "event": "t.evtevent",
        "function": _function_name("t.evtfoid"),
        "tags": f"CASE WHEN t.evttags IS NOT NULL THEN {_list('t.evttags')} END",
        "enabled": "CASE t.evtenabled WHEN 'O' THEN NULL WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'replica'"
        " WHEN 'A' THEN 'always' ELSE t.evtenabled::text END",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_event_trigger t{_notes('pg_event_trigger', 't.oid')}"
    f" WHERE {_own('pg_event_trigger', 't.oid')}",
)

_add(
    "publication",
    schema_at=None,
    carrier_class="pg_publication",
    carrier="p.oid",
    number="0",
    identity={"name": "p.pubname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(p.pubowner)",
        "all_tables": _flag("p.puballtables"),
        "insert": _flag("p.pubinsert"),
        "update": _flag("p.pubupdate"),
        "delete": _flag("p.pubdelete"),
        "truncate": _flag("p.pubtruncate"),
        "via_partition_root": _flag("p.pubviaroot"),
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_publication p{_notes('pg_publication', 'p.oid')} WHERE {_own('pg_publication', 'p.oid')}",
)

_add(
    "publication_table",
    schema_at=None,
    parent=("publication", (0,)),
    carrier_class="pg_publication",
    carrier="r.prpubid",
    number="r.oid::pg_catalog.int8",
    keyed_by="pg_publication_rel",
    identity={"publication": "p.pubname", "schema": "n.nspname", "name": "c.relname"},
    attributes={
        "columns": "CASE WHEN r.prattrs IS NOT NULL THEN (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attname)::text"
        " FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) END",
        "where": "pg_catalog.pg_get_expr(r.prqual, r.prrelid)",
    },
    source="FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid"
    f" JOIN {_FROM_RELATION} ON c.oid = r.prrelid WHERE {_own('pg_publication', 'p.oid')}",
)

_add(
    "publication_schema",
    schema_at=None,
    parent=("publication", (0,)),
    carrier_class="pg_publication",
    carrier="r.pnpubid",
    number="r.oid::pg_catalog.int8",
    keyed_by="pg_publication_namespace",
    identity={"publication": "p.pubname", "schema": "n.nspname"},
    attributes={},
    source="FROM pg_catalog.pg_publication_namespace r JOIN pg_catalog.pg_publication p ON p.oid = r.pnpubid"
    f" JOIN pg_catalog.pg_namespace n ON n.oid = r.pnnspid WHERE {_own('pg_publication', 'p.oid')}",
)

_SUBSCRIPTION_ATTRIBUTES = {
    "owner": "pg_catalog.pg_get_userbyid(s.subowner)",
    "enabled": _flag("s.subenabled"),
    "publications": _list("s.subpublications"),
    "slot": "s.subslotname",
    "binary": _flag("s.subbinary"),
    "streaming": "s.substream",
    "two_phase": "s.subtwophasestate",
    "disable_on_error": _flag("s.subdisableonerr"),
    "password_required": _flag("s.subpasswordrequired"),
    "run_as_owner": _flag("s.subrunasowner"),
    "synchronous_commit": "s.subsynccommit",
    "origin": "s.suborigin",
}
_SUBSCRIPTION_CONNECTION = (
    "'sha256:' || pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(s.subconninfo, 'UTF8')), 'hex')"
)
_add(
    "subscription",
    schema_at=None,
    carrier_class="pg_subscription",
    carrier="s.oid",
    number="0",
    identity={"name": "s.subname"},
    attributes={"connection": _SUBSCRIPTION_CONNECTION, **_SUBSCRIPTION_ATTRIBUTES, **_NOTES},
    source=f"FROM pg_catalog.pg_subscription s{_notes('pg_subscription', 's.oid')}"
    " WHERE s.subdbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())",
)

_add(
    "foreign_data_wrapper",
    schema_at=None,
    carrier_class="pg_foreign_data_wrapper",
    carrier="w.oid",
    number="0",
    identity={"name": "w.fdwname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(w.fdwowner)",
        "handler": _function_name("w.fdwhandler"),
        "validator": _function_name("w.fdwvalidator"),
        "options": _hidden_options("w.fdwoptions"),
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_foreign_data_wrapper w{_notes('pg_foreign_data_wrapper', 'w.oid')}"
    f" WHERE {_own('pg_foreign_data_wrapper', 'w.oid')}",
)

_add(
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
        "options": _hidden_options("s.srvoptions"),
        **_NOTES,
    },
    source="FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw"
    f"{_notes('pg_foreign_server', 's.oid')} WHERE {_own('pg_foreign_server', 's.oid')}",
)

_add(
    "user_mapping",
    schema_at=None,
    parent=("foreign_server", (0,)),
    carrier_class="pg_foreign_server",
    carrier="m.srvid",
    number="m.umid::pg_catalog.int8",
    keyed_by="pg_user_mappings",
    identity={"server": "m.srvname", "user": "CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE m.usename END"},
    attributes={"options": _hidden_options("m.umoptions")},
    source="FROM pg_catalog.pg_user_mappings m WHERE true",
)


# What initdb made belongs to the bootstrap superuser, whose OID is 10 (BOOTSTRAP_SUPERUSERID).
for _catalog, _prefix, _label in (
    ("pg_namespace", "nsp", "o.nspname"),
    ("pg_class", "rel", "o.oid::pg_catalog.regclass::text"),
    ("pg_proc", "pro", "o.oid::pg_catalog.regprocedure::text"),
    ("pg_type", "typ", "o.oid::pg_catalog.regtype::text"),
    ("pg_language", "lan", "o.lanname"),
):
    _add(
        "system_object",
        shapes="-" if _catalog in ("pg_class", "pg_proc", "pg_type") else "",
        schema_at=None,
        carrier_class=_catalog,
        carrier="o.oid",
        number="0",
        identity={"catalog": f"'{_catalog}'", "name": _label},
        attributes={"owner": f"pg_catalog.pg_get_userbyid(o.{_prefix}owner)"},
        source=f"FROM pg_catalog.{_catalog} o WHERE o.oid < {FIRST_USER_OID} AND o.{_prefix}owner <> 10"
        + (" AND o.nspname <> 'public'" if _catalog == "pg_namespace" else ""),
    )


# Privileges: one fact per object (or column) and grantee whose privileges differ from the defaults. A privilege is
# written "name", with "*" when it may be granted on, with "/grantor" when the grantor is not the owner.
def _privileges(acl: str, owner: str, born: str, objects: str) -> str:
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


def _add_privileges(
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
) -> None:
    """Add the query for the privileges on the objects of one catalog.

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
            f" LEFT JOIN pg_catalog.pg_init_privs init ON init.objoid = {oid} AND init.classoid = {_reg(catalog)}"
            f" AND init.objsubid = {number} AND NOT (init.classoid = {_reg('pg_namespace')}"
            # a public schema that was dropped and made again has no row there: compare it with the default of any schema
            " AND init.objoid = 'public'::pg_catalog.regnamespace)"
        )
        born = f"coalesce(init.initprivs, {born})"
    else:
        init = ""
    _add(
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
        source=_privileges(acl, owner, born, f"FROM {objects}{init}")
        + f" WHERE {acl} IS NOT NULL AND acl.has <> acl.born AND {where}",
        section=section,
    )


_RELATION_KIND = (
    "CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized_view'"
    " WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign_table' WHEN 'c' THEN 'composite_type' ELSE c.relkind::text END"
)
_LASTING = "n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp\\_%'"
_add_privileges(
    "pg_class",
    of=_RELATION_KIND,
    schema="n.nspname",
    name="c.relname",
    oid="c.oid",
    acl="c.relacl",
    owner="c.relowner",
    letter="CASE WHEN c.relkind = 'S' THEN 's'::\"char\" ELSE 'r'::\"char\" END",
    objects=_FROM_RELATION,
    where=_LASTING,
    shown_by_initdb="SELECT",
)
_add_privileges(
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
    objects=f"pg_catalog.pg_attribute a JOIN {_FROM_RELATION} ON c.oid = a.attrelid",
    where=f"{_LASTING} AND NOT a.attisdropped",
)
_add_privileges(
    "pg_proc",
    of="CASE f.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END",
    schema="n.nspname",
    name=_ROUTINE_IDENTITY["signature"],
    oid="f.oid",
    acl="f.proacl",
    owner="f.proowner",
    letter="'f'",
    objects="pg_catalog.pg_proc f JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace",
    where=_LASTING,
)
_add_privileges(
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
)
for _catalog, _of, _alias, _prefix, _letter, _label in (
    ("pg_namespace", "schema", "o", "nsp", "n", "o.nspname"),
    ("pg_language", "language", "o", "lan", "l", "''"),
    ("pg_foreign_data_wrapper", "foreign_data_wrapper", "o", "fdw", "F", "''"),
    ("pg_foreign_server", "foreign_server", "o", "srv", "S", "''"),
):
    _add_privileges(
        _catalog,
        of=f"'{_of}'",
        schema=_label,
        name=f"{_alias}.{_prefix}name",
        oid=f"{_alias}.oid",
        acl=f"{_alias}.{_prefix}acl",
        owner=f"{_alias}.{_prefix}owner",
        letter=f"'{_letter}'",
        objects=f"pg_catalog.{_catalog} {_alias}",
        shown_by_initdb="USAGE" if _of == "schema" else "",
        where="true" if _of != "schema" else "o.nspname NOT LIKE 'pg\\_toast%' AND o.nspname NOT LIKE 'pg\\_temp\\_%'",
    )

# An entry of ALTER DEFAULT PRIVILEGES without a schema replaces the default privileges; one with a schema adds to it.
_add(
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
    source=_privileges(
        "d.defaclacl",
        "d.defaclrole",
        "CASE WHEN d.defaclnamespace = 0 THEN"
        " pg_catalog.acldefault(CASE WHEN d.defaclobjtype = 'S' THEN 's' ELSE d.defaclobjtype END, d.defaclrole)"
        " ELSE NULL END",
        "FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace",
    )
    + " WHERE acl.has <> acl.born",
)

_add(
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
        "locale_provider": "d.datlocprovider",
        "lc_collate": "d.datcollate",
        "lc_ctype": "d.datctype",
        "icu_locale": "d.daticulocale",
        "icu_rules": "d.daticurules",
        "template": _flag("d.datistemplate"),
        "connections_refused": _flag("NOT d.datallowconn"),
        "connection_limit": "CASE WHEN d.datconnlimit <> -1 THEN d.datconnlimit END",
        "tablespace": "(SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace)",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_database d{_notes('pg_database', 'd.oid', shared=True)}"
    " WHERE d.datname = pg_catalog.current_database()",
)
_add_privileges(
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
)
for _section, _database in (
    ("database", "= (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())"),
    ("cluster", "= 0"),
):
    _add(
        "role_setting",
        schema_at=None,
        section=_section,
        carrier_class="pg_db_role_setting",
        carrier="s.setrole",
        number="0",
        identity={
            "scope": f"'{_section}'",
            "role": "CASE WHEN s.setrole = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(s.setrole)::text END",
            "name": "pg_catalog.split_part(v.setting, '=', 1)",
        },
        attributes={"value": "pg_catalog.substr(v.setting, pg_catalog.strpos(v.setting, '=') + 1)"},
        source=f"FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) v (setting) WHERE s.setdatabase {_database}",
    )

_add(
    "role",
    schema_at=None,
    section="cluster",
    carrier_class="pg_authid",
    carrier="r.oid",
    number="0",
    identity={"name": "r.rolname"},
    attributes={
        "superuser": _flag("r.rolsuper"),
        "inherit": _flag("r.rolinherit"),
        "create_role": _flag("r.rolcreaterole"),
        "create_database": _flag("r.rolcreatedb"),
        "login": _flag("r.rolcanlogin"),
        "replication": _flag("r.rolreplication"),
        "bypass_row_security": _flag("r.rolbypassrls"),
        "connection_limit": "CASE WHEN r.rolconnlimit <> -1 THEN r.rolconnlimit END",
        "valid_until": "r.rolvaliduntil",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_roles r{_notes('pg_authid', 'r.oid', shared=True)} WHERE r.rolname NOT LIKE 'pg\\_%'",
)
_add(
    "role_membership",
    schema_at=None,
    section="cluster",
    parent=("role", (0,)),
    carrier_class="pg_authid",
    carrier="m.roleid",
    number="m.oid::pg_catalog.int8",
    keyed_by="pg_auth_members",
    identity={
        "role": "pg_catalog.pg_get_userbyid(m.roleid)",
        "member": "pg_catalog.pg_get_userbyid(m.member)",
        "grantor": "pg_catalog.pg_get_userbyid(m.grantor)",
    },
    attributes={"admin": _flag("m.admin_option"), "inherit": _flag("m.inherit_option"), "set": _flag("m.set_option")},
    source=f"FROM pg_catalog.pg_auth_members m WHERE m.oid >= {FIRST_USER_OID}",
)
_add(
    "tablespace",
    schema_at=None,
    section="cluster",
    carrier_class="pg_tablespace",
    carrier="t.oid",
    number="0",
    identity={"name": "t.spcname"},
    attributes={
        "owner": "pg_catalog.pg_get_userbyid(t.spcowner)",
        "location": "pg_catalog.pg_tablespace_location(t.oid)",
        "options": f"CASE WHEN t.spcoptions IS NOT NULL THEN {_list('t.spcoptions')} END",
        **_NOTES,
    },
    source=f"FROM pg_catalog.pg_tablespace t{_notes('pg_tablespace', 't.oid', shared=True)} WHERE t.oid >= {FIRST_USER_OID}",
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


def _add_unknown(what: str, carrier_class: str, oid: str, name: str, value: str, source: str, shapes: str = "") -> None:
    _add(
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


_add_unknown(
    "catalog",
    "pg_class",
    "c.oid",
    "c.relname",
    "'a system catalog unknown to this version'",
    f"FROM pg_catalog.pg_class c WHERE c.oid < {FIRST_USER_OID} AND c.relkind = 'r'"
    " AND c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pg_catalog')"
    f" AND c.relname <> ALL ('{{{','.join(_KNOWN_CATALOGS)}}}'::pg_catalog.name[])",
    shapes="-",
)
_add_unknown(
    "relation kind",
    "pg_class",
    "c.oid",
    "c.oid::pg_catalog.regclass::text",
    "c.relkind",
    f"FROM pg_catalog.pg_class c WHERE c.oid >= {FIRST_USER_OID}"
    " AND c.relkind NOT IN ('r', 'p', 'f', 'v', 'm', 'S', 'i', 'I', 't', 'c')",
)
_add_unknown(
    "type kind",
    "pg_type",
    "y.oid",
    "y.oid::pg_catalog.regtype::text",
    "y.typtype",
    f"FROM pg_catalog.pg_type y WHERE y.oid >= {FIRST_USER_OID} AND (y.typtype NOT IN ('b', 'c', 'd', 'e', 'm', 'p', 'r')"
    " OR y.typtype = 'p' AND y.typisdefined)",
)
_add_unknown(
    "routine kind",
    "pg_proc",
    "f.oid",
    "f.oid::pg_catalog.regprocedure::text",
    "f.prokind",
    f"FROM pg_catalog.pg_proc f WHERE f.oid >= {FIRST_USER_OID} AND f.prokind NOT IN ('f', 'w', 'p', 'a')",
)
_add_unknown(
    "constraint kind",
    "pg_constraint",
    "k.oid",
    "coalesce(nullif(k.conrelid, 0)::pg_catalog.regclass::text, nullif(k.contypid, 0)::pg_catalog.regtype::text, '') || '.' || k.conname",
    "k.contype",
    f"FROM pg_catalog.pg_constraint k WHERE k.oid >= {FIRST_USER_OID}"
    " AND (k.contype NOT IN ('p', 'u', 'f', 'c', 'x', 't') OR k.contypid <> 0 AND k.contype <> 'c')",
)
