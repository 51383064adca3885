# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fact is, and the SQL expressions that the queries share.

A *fact* is a kind, an identity (names only) and attributes (texts or NULL). No fact contains an OID, an ordinal
position, a statistic or a secret. Two cells go beside each fact and never into it: the OID of its *carrier*, the
object whose change makes the fact worth reading again (a column's carrier is its relation), and a number that is
unique within carrier and kind. Renames are proved and deltas are read with these two.

Every name in the queries is qualified with ``pg_catalog`` or resolved by the session's ``search_path``, which
``client.SESSION_SETTINGS`` fixes to ``pg_catalog, pg_temp``. What differs between major versions is in
``_postgres/server_versions.py``; what the queries do not describe is reported as a fact of kind ``unknown``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import OLDEST, for_major

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
    objects that initdb made, which are only ever read with everything else. ``since`` is the first major version that has such.
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
    since: int = OLDEST

    def sql(self, major: int, only: Sequence[int] | None = None) -> str:
        """Return the query of a server's major version for all facts, or for those of the carriers ``only``."""
        return for_major(f"SELECT {self.carrier}, {self.number}, {', '.join(self.cells)} {self._from(only)}", major)

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


def catalog_class(catalog: str) -> str:
    """Return the OID of a catalog as an SQL expression."""
    return f"'pg_catalog.{catalog}'::pg_catalog.regclass"


def made_by_user(catalog: str, oid: str) -> str:
    """Return the condition: made by a user, and not a member of an extension."""
    return f"{oid} >= {FIRST_USER_OID} AND {not_extension_member(catalog, oid)}"


def not_extension_member(catalog: str, oid: str) -> str:
    """Return the condition: not a member of an extension."""
    return (
        f"{oid} NOT IN (SELECT e.objid FROM pg_catalog.pg_depend e WHERE e.refclassid = {catalog_class('pg_extension')}"
        f" AND e.classid = {catalog_class(catalog)} AND e.deptype = 'e')"
    )


def note_joins(catalog: str, oid: str, number: str = "0", shared: bool = False) -> str:
    """Return the joins that give ``note.description`` and ``label.labels`` for an object."""
    if shared:
        return (
            f" LEFT JOIN pg_catalog.pg_shdescription note ON note.objoid = {oid} AND note.classoid = {catalog_class(catalog)}"
            " LEFT JOIN (SELECT objoid, classoid, pg_catalog.json_object_agg(provider, label ORDER BY provider)::text AS labels"
            f" FROM pg_catalog.pg_shseclabel GROUP BY 1, 2) label ON label.objoid = {oid} AND label.classoid = {catalog_class(catalog)}"
        )
    return (
        f" LEFT JOIN pg_catalog.pg_description note ON note.objoid = {oid} AND note.classoid = {catalog_class(catalog)}"
        f" AND note.objsubid = {number}"
        " LEFT JOIN (SELECT objoid, classoid, objsubid, pg_catalog.json_object_agg(provider, label ORDER BY provider)::text AS labels"
        f" FROM pg_catalog.pg_seclabel GROUP BY 1, 2, 3) label ON label.objoid = {oid} AND label.classoid = {catalog_class(catalog)}"
        f" AND label.objsubid = {number}"
    )


NOTES = {"comment": "note.description", "security_labels": "label.labels"}


def json_list(array: str, ordered: bool = True) -> str:
    """Return an expression for an array as JSON text, sorted unless its order has a meaning; NULL when empty."""
    if ordered:
        return f'(SELECT pg_catalog.json_agg(v ORDER BY v::text COLLATE "C")::text FROM pg_catalog.unnest({array}) v)'
    return (
        f"(SELECT pg_catalog.json_agg(v ORDER BY n)::text FROM pg_catalog.unnest({array}) WITH ORDINALITY AS u (v, n))"
    )


def hidden_options(array: str) -> str:
    """Return foreign-data options as JSON text of ``name=sha256:<hex>``: a value may be a password."""
    return (
        "(SELECT pg_catalog.json_agg(o.option_name || '=sha256:' ||"
        " pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(o.option_value, 'UTF8')), 'hex')"
        f' ORDER BY o.option_name COLLATE "C")::text FROM pg_catalog.pg_options_to_table({array}) o)'
    )


def flag(expression: str) -> str:
    """Return a boolean as ``yes`` or NULL: absence is the ordinary case and costs nothing to carry."""
    return f"CASE WHEN {expression} THEN 'yes' END"


def function_name(oid: str) -> str:
    """Return a function's signature, or NULL for none."""
    return f"CASE WHEN {oid}::pg_catalog.oid <> 0 THEN ({oid}::pg_catalog.oid)::pg_catalog.regprocedure::text END"


def fact_query(
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
    since: int = OLDEST,
) -> FactQuery:
    """Return the query for facts of one kind; ``identity`` and ``attributes`` map each cell's name to its SQL expression."""
    return FactQuery(
        Kind(name, namespace or name, tuple(identity), tuple(attributes), schema_at, parent),
        carrier_class,
        carrier,
        number,
        keyed_by or carrier_class,
        (*identity.values(), *attributes.values()),
        source,
        section,
        shapes,
        since,
    )
