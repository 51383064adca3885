# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verification checks that say what the changed objects of a database are now: proposals for the author of a phase."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Collection, Iterator, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import (
    quoted_name,
    split_relation,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped, steering_character
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    identifier,
    literal,
    qualified,
    readable_literal,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import Answer, run_queries
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity import ADDED, REMOVED

_TABLE = """
SELECT a.attname AS column, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = pg_catalog.to_regclass({relation}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

_COLUMN = """
SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
  pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS "default", pg_catalog.col_description(a.attrelid, a.attnum) AS comment
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = pg_catalog.to_regclass({relation}) AND a.attname = {name} AND NOT a.attisdropped
"""

_INDEX = """
SELECT indisvalid AS valid, pg_catalog.pg_get_indexdef(indexrelid) AS definition
FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({relation})
"""

_CONSTRAINT = """
SELECT convalidated AS valid, pg_catalog.pg_get_constraintdef(oid) AS definition
FROM pg_catalog.pg_constraint WHERE conrelid = pg_catalog.to_regclass({relation}) AND conname = {name}
"""

_TRIGGER = """
SELECT tgenabled AS enabled, pg_catalog.pg_get_triggerdef(oid) AS definition
FROM pg_catalog.pg_trigger WHERE tgrelid = pg_catalog.to_regclass({relation}) AND tgname = {name}
"""

_POLICY = """
SELECT CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END AS command,
  polpermissive AS permissive,
  (SELECT pg_catalog.string_agg(coalesce(r.rolname, 'PUBLIC'), ', ' ORDER BY r.rolname)
    FROM pg_catalog.unnest(polroles) one LEFT JOIN pg_catalog.pg_roles r ON r.oid = one) AS roles,
  pg_catalog.pg_get_expr(polqual, polrelid) AS "using", pg_catalog.pg_get_expr(polwithcheck, polrelid) AS "with check"
FROM pg_catalog.pg_policy WHERE polrelid = pg_catalog.to_regclass({relation}) AND polname = {name}
"""

_ROW_SECURITY = """
SELECT relrowsecurity AS enabled, relforcerowsecurity AS forced
FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({relation})
"""

# The query that counts the NULLs of a column which may have some, and has none, in a table with rows.
_COUNT_NULLS = """
SELECT pg_catalog.format('SELECT pg_catalog.count(*) FROM %I.%I WHERE %I IS NULL', n.nspname, c.relname, a.attname)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE attrelid = pg_catalog.to_regclass({relation}) AND attname = {name} AND c.relkind IN ('r', 'p') AND NOT attnotnull
  AND EXISTS (SELECT FROM {table}) AND NOT EXISTS (SELECT FROM {table} WHERE {column} IS NULL)
"""

_VIEW = "SELECT pg_catalog.pg_get_viewdef(pg_catalog.to_regclass({relation}))"

_COMMENT = "SELECT pg_catalog.obj_description(pg_catalog.to_regclass({relation}), 'pg_class')"

_PRIVILEGES = """
SELECT p.privilege_type FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) p
LEFT JOIN pg_catalog.pg_roles r ON r.oid = p.grantee
WHERE c.oid = pg_catalog.to_regclass({relation}) AND coalesce(r.rolname, 'PUBLIC') = {name} ORDER BY 1
"""

_GONE = "SELECT pg_catalog.to_regclass({relation}) IS NULL"

_RELATIONS = ("table", "view", "materialized_view", "sequence", "foreign_table")

# By kind: what has a name of its own below a relation.
_BELOW = {"column": _COLUMN, "constraint": _CONSTRAINT, "policy": _POLICY, "trigger": _TRIGGER}

# Of a new table, beside its columns.
_PARTS = ("constraint", "policy", "trigger")

_SWITCHES = ("row_security", "force_row_security")

#: An answer of more rows is no check that people read.
_MOST_ROWS = 200


@dataclass(frozen=True)
class ObjectQuery:
    """A query about one object: its title, and the literals that name the object in it."""

    title: str
    sql: str
    names: tuple[str, ...]


def object_queries(change: Mapping[str, Any]) -> Iterator[ObjectQuery]:
    """Yield the queries about what a change of the schema leaves; none for a kind of object that has none.

    ``change`` is that of ``Diff.as_list``; of a new relation, its constraints, indexes and privileges are asked for as well.
    """
    kind, identity, gone = change["kind"], change["identity"], change["action"] == REMOVED
    if kind == "acl":
        yield from _of_privileges(*identity)
    elif kind in _BELOW:
        schema, relation, name = identity
        yield _of_part(kind, quoted_name(schema, relation), name, gone=gone)
    elif kind == "index":
        yield _of_index(quoted_name(identity[0], identity[-1]), gone=gone)
    elif kind in _RELATIONS:
        name = quoted_name(*identity)
        sql, holds = (_GONE, "does not exist") if gone else _of_relation(kind, change)
        if sql:
            yield _query(f"{name} {holds}", sql, name)
        if change["attribute"] in _SWITCHES or (
            change["action"] == ADDED and "row_security=" in (change["after"] or "")
        ):
            # no other check says less about the same
            yield replace(_query(f"{name} has row level security as defined", _ROW_SECURITY, name), names=())
        if change["action"] == ADDED:
            yield from _of_parts(identity[0], identity[1], change["parts"])


def _of_parts(schema: str, relation: str, parts: Sequence[str]) -> Iterator[ObjectQuery]:
    named = [part.partition(" ") for part in parts]
    constraints = {name for kind, _blank, name in named if kind == "constraint"}
    for kind, _blank, name in named:
        if kind in _PARTS:
            yield _of_part(kind, quoted_name(schema, relation), name, gone=False)
        elif kind == "index" and name not in constraints:
            yield _of_index(quoted_name(schema, name), gone=False)
        elif kind == "privileges":
            grantee, _on, column = name[len("of ") :].partition(" on ")
            yield from _of_privileges("table", schema, relation, column, grantee)


def _of_index(name: str, *, gone: bool) -> ObjectQuery:
    return _query(f"{name} does not exist", _GONE, name) if gone else _query(f"{name} is as defined", _INDEX, name)


def _of_relation(kind: str, change: Mapping[str, Any]) -> tuple[str, str]:
    """Return the query about a relation that is there, '' for none, and what its check says."""
    if change["attribute"] == "comment":
        return _COMMENT, "has its comment"
    if kind == "view" and (change["action"] == ADDED or change["attribute"] == "definition"):
        return _VIEW, "is as defined"
    return (_TABLE, "has its columns") if kind == "table" and change["action"] == ADDED else ("", "")


def _query(title: str, sql: str, relation: str, name: str = "") -> ObjectQuery:
    names = tuple(readable_literal(one) for one in (relation, name) if one)
    # a name may have several blanks
    text = " ".join(sql.split()).format(relation=names[0], name=names[-1])
    return ObjectQuery(escaped(title), text, names)


def _of_part(kind: str, relation: str, name: str, *, gone: bool) -> ObjectQuery:
    if gone:
        return _query(
            f"{relation} has no {kind} {name}",
            f"SELECT pg_catalog.count(*) FROM ({_BELOW[kind]}) found",
            relation,
            name,
        )
    return _query(f"{relation} has {kind} {name} as defined", _BELOW[kind], relation, name)


def _of_privileges(of: str, schema: str, name: str, column: str, grantee: str) -> Iterator[ObjectQuery]:
    if of != "schema" and name and not column:
        relation = quoted_name(schema, name)
        yield _query(f"{grantee} has these privileges on {relation}", _PRIVILEGES, relation, grantee)


def observed_checks(
    session: Session,
    changes: Sequence[Mapping[str, Any]],
    before_commit: Sequence[Mapping[str, Any]],
    batched: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Return a check for each changed object, in the open transaction: title, sql, expect, names, and after_commit where it applies.

    ``changes`` are those after the last statement, ``before_commit`` those that were there before COMMIT; ``batched`` are the tables
    whose rows change after it. ``names`` are the literals by which a check names its object.
    """
    found: dict[ObjectQuery, bool] = {}
    for change in changes:
        for query in object_queries(change):
            found[query] = found.get(query, False) or change not in before_commit
        if change["kind"] == "column" and change["action"] == ADDED:
            late = split_relation(quoted_name(*change["identity"][:2])) in map(split_relation, batched)
            found.update(dict.fromkeys(_without_null(session, *change["identity"]), late))
    answers = run_queries(session, [query.sql for query in found])
    return [
        {
            "title": query.title,
            "sql": query.sql,
            "expect": answer_as_expected(answer),
            "names": list(query.names),
            **({"after_commit": True} if late else {}),
        }
        for (query, late), answer in zip(found.items(), answers)
        if not answer.error and is_declarable(answer) and not steering_character(query.sql)
    ]


def _without_null(session: Session, schema: str, relation: str, column: str) -> Iterator[ObjectQuery]:
    """Yield the query that a column has no NULL, where a backfill left none in one that may have some."""
    table = qualified(schema, relation)
    names = {"relation": literal(table), "name": literal(column), "table": table, "column": identifier(column)}
    (answer,) = run_queries(session, [_COUNT_NULLS.format(**names)])
    for row in answer.result:
        yield ObjectQuery(escaped(f"no row of {quoted_name(schema, relation)} has NULL in {column}"), row["format"], ())


def is_declarable(answer: Answer) -> bool:
    """Return whether phase.yml can declare an answer: rows as whole numbers, texts that steer nothing, true, false and null."""
    values = [value for row in answer.result for value in row.values()]
    return answer.rows == len(answer.result) <= _MOST_ROWS and all(
        value is None or isinstance(value, int) or (isinstance(value, str) and not steering_character(value))
        for value in values
    )


def answer_as_expected(answer: Answer) -> Any:
    """Return an answer in the shortest form that ``expect`` can have."""
    rows = answer.result
    if not rows:
        return []
    if len(rows[0]) == 1:
        values = [next(iter(row.values())) for row in rows]
        return values[0] if len(values) == 1 else values
    return rows[0] if len(rows) == 1 else rows
