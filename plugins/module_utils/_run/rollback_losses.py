# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data in objects that a phase added, which a rollback would lose.

Data is what is stored because somebody wrote it: rows of ordinary tables and partitions, and values of their columns. What the
server derives (columns of views and materialized views, generated columns) and what another server stores (foreign tables) is
none. An attribute of a composite type holds data where a stored column uses the type, in an array, a domain, a range or another
type as well.

A new table's rows count as they are. A new column of an older table has values that the migration itself wrote: the *baseline*.
Whoever waited for the migration's locks writes at the moment of COMMIT, so the baseline is what nobody else can have written: where
the transaction wrote rows of the table, a digest that is read in the transaction; else the value that the catalog has for rows from
before. A column whose content differs from that holds new data.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Collection, Iterator, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    array_literal,
    identifier,
    literal,
    qualified,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import look

_LOCK_NOT_AVAILABLE = "55P03"

# The shape of a relation, and whether its column is generated.
_SHAPE = """
SELECT c.relkind, coalesce(a.attgenerated <> '', false)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = {column} AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = {schema} AND c.relname = {relation} AND (a.attname IS NOT NULL OR {column} = '')
"""

# The value that rows from before a column have in it, as its type prints it.
_MISSING = """
SELECT (SELECT (a.attmissingval::text::text[])[1] FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = {schema} AND c.relname = {relation} AND a.attname = {column} AND a.atthasmissing)
"""

# Whether one of these tables has a column of a type that is not the server's own.
_OWN_TYPES = """
SELECT EXISTS (SELECT FROM pg_catalog.unnest({names}) r (name)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = pg_catalog.to_regclass(r.name)
  WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384)
"""

# What tells one row of a table from another: the columns of its primary key.
_KEY = """
SELECT a.attname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indisprimary AND i.indrelid = pg_catalog.to_regclass({table}) ORDER BY a.attnum
"""

# The stored columns whose values contain rows of a relation's type, each with the way that leads there, outermost step first.
_USES = """
WITH RECURSIVE reached (type, way) AS (
  SELECT c.reltype, ARRAY[]::text[] FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = {schema} AND c.relname = {relation} AND c.reltype <> 0
  UNION ALL
  SELECT more.type, more.step || r.way FROM reached r CROSS JOIN LATERAL (
    SELECT y.oid, 'each' FROM pg_catalog.pg_type y
    WHERE y.typelem = r.type AND y.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
    UNION ALL SELECT y.oid, 'same' FROM pg_catalog.pg_type y WHERE y.typtype = 'd' AND y.typbasetype = r.type
    UNION ALL SELECT g.rngtypid, 'ends' FROM pg_catalog.pg_range g WHERE g.rngsubtype = r.type
    UNION ALL SELECT g.rngmultitypid, 'each' FROM pg_catalog.pg_range g WHERE g.rngtypid = r.type
    UNION ALL SELECT c.reltype, 'of ' || (a.attname::text COLLATE "default") FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE a.atttypid = r.type AND a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0) AS more (type, step))
SELECT n.nspname, c.relname, a.attname, pg_catalog.to_json(r.way) FROM reached r
JOIN pg_catalog.pg_attribute a ON a.atttypid = r.type AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind = 'r' AND c.relpersistence <> 't'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2, 3, 4::text
"""


@dataclass(frozen=True)
class DataLoss:
    """Rows of one object that a rollback would lose; for a column, its rows that have a value.

    ``unread`` is why they could not be counted, '' when they were.
    """

    what: str
    rows: int
    unread: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping, without an empty ``unread``."""
        return {name: value for name, value in asdict(self).items() if name != "unread" or value}


@dataclass(frozen=True)
class DataHolder:
    """Something that a phase added and that stores data: a table (``column`` is ''), or a column of an older one.

    For an attribute of a composite type, ``attribute`` is its name for people and ``way`` the steps from the column to it.
    """

    schema: str
    table: str
    column: str = ""
    attribute: str = ""
    way: Sequence[str] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """Return the name for people: the kind of object and its name."""
        if not self.column:
            return f"table {self.schema}.{self.table}"
        column = f"column {self.schema}.{self.table}.{self.column}"
        return f"attribute {self.attribute} in {column}" if self.attribute else column

    @property
    def relation(self) -> str:
        """Return the table's name, quoted."""
        return qualified(self.schema, self.table)

    def exists(self, session: Session) -> bool:
        """Return whether it was not dropped or renamed since."""
        return bool(_shape(session, self.schema, self.table, self.column)[0])

    @property
    def condition(self) -> str:
        """Return SQL: whether a row holds a value here."""
        if not self.column:
            return "true"
        return _holds(f"t.{identifier(self.column)}", [*self.way])


def _holds(value: str, way: Sequence[str], depth: int = 0) -> str:
    """Return SQL: whether a value, or what the way leads to in it, is there."""
    if not way:
        # of a composite value, IS NOT NULL would ask whether all its attributes are
        return f"{value} IS DISTINCT FROM NULL"
    step, rest = way[0], way[1:]
    if step == "each":
        element = f"phasegate_e{depth}"  # no attribute has this name: it would hide the value
        inner = _holds(element, rest, depth + 1)
        return f"EXISTS (SELECT FROM pg_catalog.unnest({value}) AS {element} WHERE {inner})"
    if step == "ends":
        ends = (_holds(f"pg_catalog.{end}({value})", rest, depth) for end in ("lower", "upper"))
        return f"({' OR '.join(ends)})"
    if step == "same":
        return _holds(value, rest, depth)
    return _holds(f"({value}).{identifier(step.partition(' ')[2])}", rest, depth)


def _added(changes: Sequence[Mapping[str, Any]], kind: str) -> list[list[str]]:
    """Return the identities of objects of a kind that were added as a whole."""
    return [
        change["identity"]
        for change in changes
        if change["kind"] == kind and change["action"] == "added" and change["attribute"] is None
    ]


def data_holders(session: Session, changes: Sequence[Mapping[str, Any]]) -> list[DataHolder]:
    """Return what of the added objects stores data now."""
    return list(_holders(session, changes))


def _holders(session: Session, changes: Sequence[Mapping[str, Any]]) -> Iterator[DataHolder]:
    for schema, table in _added(changes, "table"):
        # the rows of a partitioned table are those of its partitions
        if _shape(session, schema, table) == ("r", False):
            yield DataHolder(schema, table)
    for schema, relation, column in _added(changes, "column"):
        if _shape(session, schema, relation, column) == ("r", False):
            yield DataHolder(schema, relation, column)
        for use_schema, use_table, use, way in session.rows(
            _USES.format(schema=literal(schema), relation=literal(relation))
        ):
            steps = (*json.loads(way or "[]"), f"of {column}")
            yield DataHolder(use_schema or "", use_table or "", use or "", f"{schema}.{relation}.{column}", steps)


def _shape(session: Session, schema: str, relation: str, column: str = "") -> tuple[str, bool]:
    """Return the relkind of a relation, '' when there is none, and whether its column is generated."""
    names = {"schema": literal(schema), "relation": literal(relation), "column": literal(column)}
    rows = session.rows(_SHAPE.format(**names))
    return (rows[0][0] or "", rows[0][1] == "t") if rows else ("", False)


def _content(session: Session, holder: DataHolder, but: str | None = None) -> tuple[int, str]:
    """Return the number of rows with a value, and a digest of the values, each with its row's primary key.

    ``but``: a value that does not count, as its type prints it. The rows' order does not matter. Without a primary key a row is
    digested as a whole: a change of another column counts as one of
    this. A new table has no digest. A transaction is open, and goes on whatever happens. Raises ``SqlError``, also where a
    policy would hide rows.
    """
    digest = "''"
    if holder.column:
        # by the types' output functions: a cast could be one that the owner of a type made
        key = [f"t.{identifier(name or '')}" for (name,) in session.rows(_KEY.format(table=literal(holder.relation)))]
        row = f"ROW({', '.join([*key, f't.{identifier(holder.column)}'])})" if key else "t.*"
        text = f"textin(record_out({row}))"
        digest = f"coalesce(sum(hashtextextended({text}, 0)::numeric), 0)"
    condition = holder.condition
    if but is not None:
        condition += f" AND format('%s', t.{identifier(holder.column)}) <> {literal(but)}"
    query = f"SELECT count(*), {digest} FROM ONLY {holder.relation} AS t WHERE {condition}"
    count, found = look(session, query, hidden_rows_fail=True)[0]
    return int(count or 0), found or ""


def written_content(
    session: Session, changes: Sequence[Mapping[str, Any]], written: Collection[str]
) -> dict[tuple[str, ...], dict[str, str]]:
    """Return what the added columns of tables that the open transaction has written hold, by their place: ``digest``, or ``unread``.

    ``written`` are the tables, as SQL. Nobody else can have written a column that is not committed.
    """
    columns, tables = [change for change in changes if change["kind"] == "column"], set(map(split_relation, written))
    holders = [DataHolder(*one) for one in _added(columns, "column") if tuple(one[:2]) in tables]
    if tables and columns and session.value(_OWN_TYPES.format(names=array_literal(sorted(written)))) == "t":
        # one of them may hold an attribute of a composite type
        holders = data_holders(session, columns)
    found = {}
    for holder in holders:
        if (holder.schema, holder.table) in tables:
            try:
                found[_place(asdict(holder))] = {"digest": _content(session, holder)[1]}
            except SqlError as error:
                found[_place(asdict(holder))] = {"unread": error.words()}
    return found


def data_baseline(
    session: Session,
    changes: Sequence[Mapping[str, Any]],
    content: Mapping[tuple[str, ...], Mapping[str, str]],
    written: Collection[str],
) -> list[dict[str, Any]]:
    """Return what the added objects held at COMMIT: the fields of each ``DataHolder``, and its ``digest`` or ``value``.

    ``content`` is ``written_content`` of the transaction that wrote the tables ``written``. ``value`` is the one of all rows, as its
    type prints it, None for none. Nothing may fail here any more, nor wait. No transaction is open.
    """
    known, tables = [], set(map(split_relation, written))
    for holder in data_holders(session, changes):
        entry: dict[str, Any] = {**asdict(holder), "way": list(holder.way)}
        if holder.column and (holder.schema, holder.table) in tables:
            entry.update(content.get(_place(entry), {}))
        elif holder.column:
            names = {
                "schema": literal(holder.schema),
                "relation": literal(holder.table),
                "column": literal(holder.column),
            }
            entry["value"] = None if holder.way else session.value(_MISSING.format(**names))
        known.append(entry)
    return known


def recorded_holders(recorded: Sequence[Mapping[str, Any]]) -> list[DataHolder]:
    """Return the holders of a ``data_baseline``."""
    return [
        DataHolder(one["schema"], one["table"], one["column"], one["attribute"], tuple(one["way"])) for one in recorded
    ]


def data_losses(
    session: Session, holders: Sequence[DataHolder], recorded: Sequence[Mapping[str, Any]]
) -> list[DataLoss]:
    """Return what a rollback would lose now, in the open transaction.

    ``recorded`` is the ``data_baseline``; every value of a column that is not in it counts.
    """
    known = {_place(one): one for one in recorded}
    losses = []
    for holder in holders:
        at_commit = known.get(_place(asdict(holder)), {})
        try:
            rows, digest = _content(session, holder, at_commit.get("value"))
        except SqlError as error:
            if error.sqlstate == _LOCK_NOT_AVAILABLE:
                raise
            losses.append(DataLoss(holder.name, 0, error.words()))
            continue
        if not holder.column or digest != at_commit.get("digest"):
            losses.append(DataLoss(holder.name, rows))
    return [loss for loss in losses if loss.rows or loss.unread]


def _place(one: Mapping[str, Any]) -> tuple[str, ...]:
    return one["schema"], one["table"], one["column"], *one["way"]


def require_counted(losses: Sequence[DataLoss]) -> None:
    """Raise ``PhaseGateError`` when something that would be lost cannot be counted."""
    unread = [loss for loss in losses if loss.unread]
    if unread:
        raise PhaseGateError(
            "C-09: it is not known what the rollback would lose.",
            expected="a role that can count the rows of every table and column that the phase added",
            found="; ".join(f"{loss.what}: {loss.unread}" for loss in unread),
            next_step="give this role what it lacks (SELECT, BYPASSRLS, a longer statement_timeout), then run again",
        )
