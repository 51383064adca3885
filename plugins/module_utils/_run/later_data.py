# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data that a rollback would lose although it is in nothing that the phase added: objects and values that came since the execution.

A partition goes with its parent and a table with its schema or extension, and a narrower type rounds or cuts what was written since.
Once it is done, nothing of it is seen in the schema, which is as before.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal, qualified
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import look
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback_losses import DataHolder, DataLoss
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import Fact, decode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import partition_parents
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

_LOCK_NOT_AVAILABLE = "55P03"

# Tables that an extension made, or that were made a part of it.
_MEMBERS = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid AND d.deptype = 'e'
JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND c.relkind = 'r'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE e.extname = {name} ORDER BY 1, 2
"""

_Relation = Tuple[str, ...]


def later_tables(
    session: Session, original: Snapshot, base: Snapshot, changes: Sequence[Mapping[str, Any]] | None
) -> tuple[list[DataHolder], list[DataHolder]]:
    """Return the tables that ``original`` lacks: those that go with something else that the phase made, and all others.

    The first are partitions of new tables, and tables of new schemas and extensions. ``changes`` are those of the phase; where they
    are not known (None), it made every table that ``original`` lacks.
    """
    made = {(*one["identity"],) for one in changes or () if one["kind"] == "table" and one["action"] == "added"}
    old, new = _tables(original), _tables(base)
    schemas = {name for (name,) in _identities(original, "schema")}
    inside: list[DataHolder] = []
    beside: list[DataHolder] = []
    for name in new:
        if name in old:
            continue
        new_above = any(one not in old and (changes is None or one in made) for one in _above(name, new))
        within_new = new_above or name[0] not in schemas
        (inside if within_new else beside).append(DataHolder(*name))
    for (extension,) in sorted(set(_identities(base, "extension")) - set(_identities(original, "extension"))):
        rows = session.rows(_MEMBERS.format(name=literal(extension)))
        inside += [DataHolder(schema or "", table or "") for schema, table in rows]
    return inside, beside


def _above(name: _Relation, tables: Mapping[_Relation, _Relation]) -> list[_Relation]:
    """Return the tables that a partition is below, the topmost last."""
    found = []
    while tables.get(name):
        name = tables[name]
        found.append(name)
    return found


def later_columns(original: Snapshot, base: Snapshot, changes: Sequence[Mapping[str, Any]] | None) -> list[DataHolder]:
    """Return the columns that the phase added to a partitioned table, of those of its partitions that ``original`` lacks.

    ``changes`` are those of the phase, which tell a new column from a renamed one; None when they are not known.
    """
    later = _later_partitions(original, base)
    had = {fact.identity for fact in _facts(original, "column")} if later else set()
    added = {one["identity"][2] for one in changes or () if one["kind"] == "column" and one["action"] == "added"}
    found = []
    for fact in _facts(base, "column") if later else ():
        name, top = fact.identity[2], later.get(fact.identity[:2])
        new = top is not None and (*top, name) not in had and (changes is None or name in added)
        found += [DataHolder(*fact.identity)] if new and not fact.attributes["generated"] else []
    return sorted(found, key=lambda one: one.name)


def _later_partitions(original: Snapshot, base: Snapshot) -> dict[_Relation, _Relation]:
    """Return the partitions with rows of their own in ``base`` that ``original`` lacks, of a table that it has: each with that table."""
    old, new = _tables(original), _tables(base)
    tops = {name: _above(name, new)[-1] for name, parent in new.items() if name not in old and parent}
    above = set(new.values())
    return {name: top for name, top in tops.items() if top in old and name not in above}


def _identities(snapshot: Snapshot, kind: str) -> list[tuple[str, ...]]:
    return [fact.identity for fact in _facts(snapshot, kind)]


def _facts(snapshot: Snapshot, kind: str) -> Iterator[Fact]:
    head = f'["{kind}",'
    return (decode_fact(line) for line in snapshot.facts if line.startswith(head))


def _tables(snapshot: Snapshot) -> Mapping[_Relation, _Relation]:
    """Return the tables of a snapshot, each with the table that it is a partition of, () for none."""
    parents = partition_parents(snapshot)
    return {fact.identity: parents.get((fact.identity[0], fact.identity[1]), ()) for fact in _facts(snapshot, "table")}


def narrowed_values(session: Session, original: Snapshot, base: Snapshot) -> list[DataLoss]:
    """Return how many values of columns with another type than in ``original`` would not survive that type, in the open transaction."""
    differing = base.only_here(original)
    head = '["column",'
    old = {
        fact.identity: fact
        for line in original.only_here(base)
        if line.startswith(head)
        for fact in [decode_fact(line)]
    }
    losses, later = [], _later_partitions(original, base)
    for line in sorted(differing):
        fact = decode_fact(line) if line.startswith(head) else None
        # a partition that came since had the type of its table
        above = later.get(fact.identity[:2], ()) if fact else ()
        before = old.get((*above, fact.identity[2]) if above else fact.identity) if fact else None
        if (
            not fact
            or not before
            or fact.attributes["generated"]
            or before.attributes["type"] == fact.attributes["type"]
        ):
            continue
        losses.append(
            _not_surviving(session, fact.identity, before.attributes["type"] or "", fact.attributes["type"] or "")
        )
    return [loss for loss in losses if loss.rows or loss.unread]


def _not_surviving(session: Session, column: Sequence[str], old: str, new: str) -> DataLoss:
    schema, relation, name = column
    value, what = f"t.{identifier(name)}", f"values of column {'.'.join(column)} that type {old} does not hold"
    table = qualified(schema, relation)
    # compared as the types print them: no operator, and no cast to text, of somebody else takes part
    survives = f"format('%s', {value}::{old}::{new}) = format('%s', {value})"
    try:
        return DataLoss(what, _count(session, table, f"NOT ({survives}) AND {value} IS DISTINCT FROM NULL"))
    except SqlError as error:
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            raise
    try:
        # no plain cast leads back: every value counts
        return DataLoss(what, _count(session, table, f"{value} IS DISTINCT FROM NULL"))
    except SqlError as error:
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            raise
        return DataLoss(what, 0, error.words())


def _count(session: Session, table: str, condition: str) -> int:
    query = f"SELECT count(*) FROM ONLY {table} AS t WHERE {condition}"
    return int(look(session, query, hidden_rows_fail=True)[0][0] or 0)


def with_rows(session: Session, tables: Sequence[DataHolder], *, lock: bool) -> list[DataHolder]:
    """Return which of these tables have a row, or cannot be read, in the open transaction; with ``lock`` nobody writes to them any more."""
    found = []
    for one in tables:
        session.execute("SAVEPOINT phasegate_lock")
        try:
            if lock:
                session.execute(f"LOCK TABLE ONLY {one.relation} IN SHARE MODE")
            query = f"SELECT EXISTS (SELECT FROM ONLY {one.relation})"
            filled = look(session, query, hidden_rows_fail=True)[0][0] == "t"
        except SqlError as error:
            if error.sqlstate == _LOCK_NOT_AVAILABLE:
                raise
            session.execute("ROLLBACK TO SAVEPOINT phasegate_lock")
            filled = True
        found += [one] if filled else []
    return found
