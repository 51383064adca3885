# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data that a transaction changes, as the server observes it, and whether its phase declares it.

Rows are counted by the server's own statistics of the transaction, so triggers, functions and COPY are in them. Only relations
that the transaction holds a lock on can have been changed by it. Not counted are rows that leave with a file: TRUNCATE, a
rewrite and DROP with CREATE are recognised by the relation's file and oid.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from typing import Any, Collection, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import (
    ANY,
    COUNTED,
    UNCOUNTED,
    change_extent,
    count_range,
    within,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    array_literal,
    copy_field,
    identifier,
    qualified,
)

#: What phases can change, a condition on pg_class c: tables and their partitions, materialized views, sequences, foreign tables; large objects.
RELATIONS = """
c.relkind IN ('r', 'p', 'm', 'S', 'f') AND c.relpersistence <> 't'
  AND (c.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace
    OR c.oid IN ('pg_catalog.pg_largeobject'::pg_catalog.regclass, 'pg_catalog.pg_largeobject_metadata'::pg_catalog.regclass))
"""

_COUNTERS = ", ".join(f"pg_catalog.pg_stat_get_xact_tuples_{did}(c.oid)" for did in ("inserted", "updated", "deleted"))

_TRACKING = """
pg_catalog.current_setting('track_counts') || ', from: '
  || (SELECT source FROM pg_catalog.pg_settings WHERE name = 'track_counts')
"""

_BEFORE = f"""
SELECT 0::pg_catalog.oid, NULL::pg_catalog.oid, NULL, {_TRACKING}, '{{}}'::pg_catalog.int8[]
UNION ALL
SELECT c.oid, c.relfilenode, n.nspname, c.relname, ARRAY[{_COUNTERS}]
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {RELATIONS}
"""

# A lock that a subtransaction took is gone when it was rolled back, and with it what was changed under the lock. The server
# keeps none on the catalog of large objects: one row for each, with its owner and privileges.
_AFTER = f"""
WITH held AS (
  SELECT l.relation AS oid, bool_or(l.mode = 'RowExclusiveLock') AS writes,
    bool_or(l.mode IN ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) AS alone
  FROM pg_catalog.pg_locks l
  WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
    AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  GROUP BY l.relation
  UNION ALL SELECT 'pg_catalog.pg_largeobject_metadata'::pg_catalog.regclass, false, false
), found AS (
  SELECT c.oid::pg_catalog.text AS oid, c.relkind AS kind, c.relfilenode::pg_catalog.text AS file, h.writes, h.alone,
    n.nspname AS schema, c.relname AS name, pg_catalog.format('%I.%I', n.nspname, c.relname) AS text,
    pg_catalog.format('%I.%I', tn.nspname, t.relname) AS top, ARRAY[{_COUNTERS}] AS counts,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT') AS readable
  FROM held h JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class t ON t.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
  WHERE {RELATIONS}
)
SELECT pg_catalog.json_build_object('tracking', {_TRACKING},
  'relations', coalesce((SELECT json_agg(f) FROM found f), '[]'),
  'switches', coalesce((SELECT json_agg(p.oid::pg_catalog.regprocedure::pg_catalog.text ORDER BY p.oid)
    FROM pg_catalog.pg_proc p WHERE EXISTS (
      SELECT FROM pg_catalog.unnest(p.proconfig) setting WHERE setting ~* '^track_counts=')), '[]'))
"""

_OPENED = """
SELECT relation FROM pg_catalog.pg_locks
WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation' AND mode = 'RowExclusiveLock'
"""

# With their partitions and children, which a change of the parent changes as well.
_FAMILY = """
WITH RECURSIVE family AS (
  SELECT name, pg_catalog.to_regclass(name)::pg_catalog.oid AS oid FROM pg_catalog.unnest({names}) name
  UNION SELECT f.name, i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid)
SELECT f.name, c.oid, c.relkind, pg_catalog.format('%I.%I', n.nspname, c.relname),
  pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
FROM family f JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""

_PLAIN_KEY = re.compile(r'[a-z_][a-z0-9_."$]*')


#: Rows inserted, updated and deleted by table; None for one that was truncated or replaced.
Tables = Mapping[str, Optional[Sequence[int]]]


@dataclass(frozen=True)
class DataChanges:
    """What a transaction changed.

    ``changes`` are mappings of ``relation``, ``kind`` and ``rows`` (None where rows are not counted), sorted; partitions under
    their topmost parent. ``tables`` has of each changed or rewritten table and partition the rows inserted, updated and deleted; None for one that
    was truncated or replaced. ``rewrites`` are the tables with a new file, ``emptied`` those of them without an earlier row.
    ``unproved`` says what the observation cannot see, and
    ``counted`` is false when the server did not count rows all the time.
    """

    changes: List[Dict[str, Any]] = field(default_factory=list)
    tables: Tables = field(default_factory=dict)
    rewrites: List[str] = field(default_factory=list)
    emptied: List[str] = field(default_factory=list)
    unproved: List[str] = field(default_factory=list)
    counted: bool = True


@dataclass(frozen=True)
class _Relation:
    """A relation at the beginning: its name, its file, and the rows that the session's earlier transactions have counted."""

    name: Tuple[str, str]
    file: str
    counts: Tuple[int, ...]

    @classmethod
    def of(cls, line: str) -> _Relation:
        """Read it from a line of the query, less the oid."""
        file, schema, name, counts = line.split("\t")
        known = (0, 0, 0) if counts == "{0,0,0}" else tuple(int(one) for one in counts.strip("{}").split(","))
        return cls((copy_field(schema) or "", copy_field(name) or ""), file, known)


class DataBaseline:
    """What the counters, files and names are at the beginning of a transaction, and which tables are empty.

    ``lines`` are the relations by oid, as the server sent them: few of so many are looked at later.
    """

    def __init__(
        self, tracking: str, lines: Mapping[str, str], empty: FrozenSet[str], opened: FrozenSet[str] = frozenset()
    ) -> None:
        self._tracking = tracking
        #: the oids of what the collection itself has opened for writing
        self._opened = opened
        self._lines = lines
        self._empty = empty

    @functools.cached_property
    def _oids(self) -> Mapping[Tuple[str, str], str]:
        """Return the oid of each relation by its name."""
        return {_Relation.of(line).name: oid for oid, line in self._lines.items()}

    @classmethod
    def read(cls, session: Session, rewrites: Sequence[str] = ()) -> DataBaseline:
        """Read it, right after BEGIN: earlier transactions of the session are in the counters.

        ``rewrites`` are tables that may be rewritten: only of these, and of their partitions and children, is it known whether
        they are empty.
        """
        lines = {}
        for line in session.copy_lines(_BEFORE):
            oid, _tab, rest = line.partition("\t")
            lines[oid] = rest
        tracking = copy_field(lines.pop("0").split("\t")[2]) or ""
        opened = frozenset(oid or "" for (oid,) in session.rows(_OPENED))
        return cls(tracking, lines, _empty(session, rewrites) if rewrites else frozenset(), opened)

    def observe(self, session: Session, opened: Collection[Tuple[str, str]] = ()) -> DataChanges:
        """Return what the transaction has changed since, when no statement of its author can follow any more.

        ``opened`` are those of ``opened_by``: that their statements change no row of one is no riddle.
        """
        found = session.json(_AFTER)
        sums: Dict[Tuple[str, str], int] = {}
        rewrites, emptied = [], []
        tables: Dict[str, Optional[List[int]]] = {}
        for relation in found["relations"]:
            line = self._lines.get(relation["oid"])
            before = _Relation.of(line) if line else None
            if before and relation["kind"] == "r" and relation["alone"] and before.file != relation["file"]:
                rewrites.append(relation["text"])
                tables[relation["text"]] = [0, 0, 0]
            for kind, rows in self._changes_of(session, relation, before):
                emptied += [relation["text"]] if kind == "TRUNCATE" else []
                if kind not in COUNTED:
                    tables[relation["text"]] = None
                elif tables.setdefault(relation["text"], [0, 0, 0]) is not None:
                    (tables[relation["text"]] or [])[COUNTED.index(kind)] = rows
                sums[relation["top"], kind] = sums.get((relation["top"], kind), 0) + rows
        changes = [
            {"relation": relation, "kind": kind, "rows": rows if kind in COUNTED else None}
            for (relation, kind), rows in sorted(sums.items(), key=_in_order)
        ]
        unproved = [
            f"{name} switches track_counts: rows that it changes may not be counted" for name in found["switches"]
        ]
        unproved += self._uncounted(found["relations"], opened)
        counted = found["tracking"].startswith("on") and found["tracking"] == self._tracking
        if not counted:
            unproved.insert(0, f"track_counts was {self._tracking} at BEGIN, and {found['tracking']} before COMMIT")
        return DataChanges(changes, tables, sorted(rewrites), sorted(emptied), unproved, counted)

    def _uncounted(self, relations: Sequence[Mapping[str, Any]], opened: Collection[Tuple[str, str]]) -> List[str]:
        """Return in words which tables were opened for writing although no row of them was counted."""
        return [
            f"{one['text']} was opened for writing, and no row of it was counted: whether one was changed is not proved"
            for one in relations
            if one["kind"] == "r" and one["writes"] and one["oid"] not in self._opened
            if (one["schema"], one["name"]) not in opened and split_relation(one["top"]) not in opened
            if list(one["counts"])
            == list(_Relation.of(self._lines[one["oid"]]).counts if one["oid"] in self._lines else (0, 0, 0))
        ]

    def _changes_of(
        self, session: Session, found: Mapping[str, Any], before: _Relation | None
    ) -> Iterator[Tuple[str, int]]:
        """Yield the kinds of changes of one relation, with their rows."""
        new_file = before is not None and found["alone"] and before.file != found["file"]
        counts = [now - then for now, then in zip(found["counts"], before.counts if before else (0, 0, 0))]
        name = (found["schema"], found["name"])
        recreated = (before is None or before.name != name) and name in self._oids
        kind = found["kind"]
        if kind == "S":
            if found["writes"] or new_file or recreated:
                yield "MOVE", 0
        elif kind == "f":
            if found["writes"] or (before and found["alone"]):
                yield "WRITE", 0
        elif kind == "m":
            if new_file or any(counts):
                yield "REFRESH", 0
        else:
            if recreated:
                yield "RECREATE", 0
            if new_file and found["oid"] not in self._empty and not _has_earlier_row(session, found, counts[0]):
                yield "TRUNCATE", 0
            yield from ((name, rows) for name, rows in zip(COUNTED, counts) if rows)


@dataclass(frozen=True)
class Member:
    """A relation, or a partition or child of it: ``kind`` as in pg_class, ``text`` its name as SQL."""

    oid: str
    kind: str
    text: str
    readable: bool


def families(session: Session, names: Sequence[str]) -> Dict[str, List[Member]]:
    """Return the relations of these names, each with its partitions and children; none for a name that does not exist."""
    found: Dict[str, List[Member]] = {name: [] for name in names}
    for name, oid, kind, text, readable in session.rows(_FAMILY.format(names=array_literal(names))) if names else ():
        found[name or ""].append(Member(oid or "", kind or "", text or "", readable == "t"))
    return found


def _empty(session: Session, names: Sequence[str]) -> FrozenSet[str]:
    """Return the oids of those tables that have no row."""
    members = [one for members in families(session, names).values() for one in members]
    tables = {one.oid: one.text for one in members if one.kind == "r" and one.readable}
    if not tables:
        return frozenset()
    # no lock stays that the statements would have to make a stronger one
    session.execute("SAVEPOINT looked")
    queries = (f"SELECT {int(oid)} WHERE NOT EXISTS (SELECT FROM ONLY {text})" for oid, text in tables.items())
    found = frozenset(oid or "" for (oid,) in session.rows(" UNION ALL ".join(queries)))
    session.execute("ROLLBACK TO SAVEPOINT looked")
    session.execute("RELEASE SAVEPOINT looked")
    return found


def _in_order(entry: Tuple[Tuple[str, str], int]) -> Tuple[str, int]:
    (relation, kind), _rows = entry
    return relation, [*COUNTED, *UNCOUNTED].index(kind)


def _has_earlier_row(session: Session, found: Mapping[str, Any], inserted: int) -> bool:
    """Return whether a table with a new file has more rows than the transaction inserted."""
    if not found["readable"]:
        return False
    table = qualified(found["schema"], found["name"])
    return bool(session.rows(f"SELECT 1 FROM ONLY {table} OFFSET {int(inserted)} LIMIT 1"))


# The statements that declare by themselves what they change: by what they need, or what they make.
_CHANGING = frozenset({"INSERT", "COPY", "UPDATE", "DELETE", "MERGE", "TRUNCATE TABLE"})
_MAKING = {
    "CREATE TABLE AS": "INSERT",
    "CREATE MATERIALIZED VIEW": "REFRESH",
    "REFRESH MATERIALIZED VIEW": "REFRESH",
}

# Of relations by name: the topmost partitioned table, and the sequences that belong to a column of it or are in a default.
_ROOTS = """
SELECT r.name, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.unnest({names}) r (name)
JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(pg_catalog.to_regclass(r.name)), pg_catalog.to_regclass(r.name))
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""

_SEQUENCES = """
SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, s.relname) FROM pg_catalog.unnest({names}) r (name) JOIN (
  SELECT d.refobjid AS owner, d.objid AS sequence FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND d.deptype IN ('a', 'i')
  UNION ALL SELECT a.adrelid, d.refobjid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef a ON a.oid = d.objid
  WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
) used ON used.owner = pg_catalog.to_regclass(r.name)
JOIN pg_catalog.pg_class s ON s.oid = used.sequence AND s.relkind = 'S' JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
"""


# The kind under which a limit is that of all counted kinds together.
_TOGETHER = ""

#: The changes that statements declare, by relation (schema and name) and kind, with the most rows of each; None for any number.
Named = Mapping[Tuple[Any, str], Optional[int]]


def _searched(name: str, search_path: Sequence[str]) -> Sequence[str]:
    """Return a name with its schema: as it is, or, of one without, in each schema that is searched."""
    return [name] if split_relation(name) else [f"{identifier(schema)}.{name}" for schema in search_path]


def _needed(
    statement: Mapping[str, Any], search_path: Sequence[str], kinds: Collection[str]
) -> Iterator[Tuple[str, str]]:
    """Yield the name and the kind of each need of these kinds."""
    for need in statement["needs"]:
        kind, _space, name = need.partition(" ")
        if kind in kinds:
            yield from ((full, kind) for full in _searched(name, search_path))


def opened_by(statements: Sequence[Mapping[str, Any]], search_path: Sequence[str]) -> FrozenSet[Tuple[str, str]]:
    """Return the relations that statements themselves open for writing, whether they change a row or not."""
    kinds = (*COUNTED, "TRUNCATE", "LOCK")
    names = [name for one in statements if one["run"] for name, _kind in _needed(one, search_path, kinds)]
    return frozenset(pair for pair in map(split_relation, names) if pair)


def _named_by(statement: Mapping[str, Any], search_path: Sequence[str]) -> Iterator[Tuple[str, str]]:
    """Yield the name and the kind of each change that a statement declares; what it only reads it does not change."""
    if statement["tag"] in _MAKING:
        read = {split_relation(name) for name, _kind in _needed(statement, search_path, ("SELECT",))}
        made = (name for name in statement["relations"] if split_relation(name) not in read)
        yield from ((name, _MAKING[statement["tag"]]) for name in made)
    elif statement["tag"] in _CHANGING:
        yield from _needed(statement, search_path, (*COUNTED, "TRUNCATE"))


def named_by_statements(
    session: Session,
    statements: Sequence[Mapping[str, Any]],
    search_path: Sequence[str],
    reported: Mapping[int, Optional[int]],
) -> Named:
    """Return the changes that statements declare by themselves, and of how many rows at most: those that they have reported.

    An INSERT, UPDATE, DELETE, MERGE, COPY or TRUNCATE names the table that it changes; its sequences move with an INSERT. What triggers,
    functions, cascades and ``DO`` change is not among them. ``statements`` are the plan's, ``reported`` the rows by their number.
    """
    limits: Dict[str, Dict[str, Optional[int]]] = {}
    for one in statements:
        named_by = set(_named_by(one, search_path)) if one["run"] else set()
        # a row that a statement reports is inserted, updated or deleted, and not two of it
        named_by |= {(name, _TOGETHER) for name, kind in named_by if kind in COUNTED}
        for name, kind in named_by:
            kinds = limits.setdefault(name, {})
            counted = kind in (*COUNTED, _TOGETHER)
            kinds[kind] = _sum(kinds.get(kind, 0), reported.get(one["n"], 0) if counted else None)
    if not limits:
        return {}
    roots = {
        below or "": root or "" for below, root in session.rows(_ROOTS.format(names=array_literal(sorted(limits))))
    }
    named: Dict[Tuple[Any, str], Optional[int]] = {}
    for name, kinds in limits.items():
        # what is counted has the name of the topmost parent
        relation = split_relation(roots.get(name, name))
        for kind, rows in kinds.items():
            named[relation, kind] = _sum(named.get((relation, kind), 0), rows)
    filled = sorted(name for name, kinds in limits.items() if "INSERT" in kinds)
    if filled:
        sequences = session.rows(_SEQUENCES.format(names=array_literal(filled)))
        named.update({(split_relation(name or ""), "MOVE"): None for (name,) in sequences})
    return named


def _sum(one: Optional[int], other: Optional[int]) -> Optional[int]:
    """Return the sum of two limits; None is no limit."""
    return None if one is None or other is None else one + other


def judge_data(
    declared: Mapping[str, Mapping[str, Any]], found: Sequence[Mapping[str, Any]], named: Optional[Named] = None
) -> List[Tuple[str, str]]:
    """Return each deviation as what was expected and what was found.

    ``declared`` is ``data`` of a phase. Every change needs a declaration of its relation and kind, there or among ``named``, those
    of ``named_by_statements``; a declared count must be met, and a named one not be exceeded.
    """
    wanted = {split_relation(name): (name, kinds) for name, kinds in declared.items()}
    seen: Dict[Any, Dict[str, Any]] = {}
    together: Dict[str, int] = {}
    wrong = []
    for change in found:
        relation, kind, rows = split_relation(change["relation"]), change["kind"], change["rows"]
        seen.setdefault(relation, {})[kind] = rows
        _name, kinds = wanted.get(relation, ("", {}))
        limit = (named or {}).get((relation, kind), 0)
        if kind in kinds or limit is None:
            continue
        if rows is not None and 0 < rows <= limit:
            together[change["relation"]] = together.get(change["relation"], 0) + rows
            continue
        beyond = f" beyond the {limit} rows that its statements report" if limit else ""
        wrong.append(
            (
                f"no undeclared change of data in {change['relation']}{beyond}",
                f"{kind} in {change['relation']}: {change_extent(change)}",
            )
        )
    for name, rows in together.items():
        most = (named or {}).get((split_relation(name), _TOGETHER))
        if most is not None and rows > most:
            wrong.append(
                (
                    f"no undeclared change of data in {name} beyond the {most} rows that its statements report",
                    f"{rows} rows inserted, updated and deleted in {name}",
                )
            )
    for relation, (name, kinds) in wanted.items():
        for kind, count in kinds.items():
            rows = seen.get(relation, {}).get(kind, 0) or 0
            if not within(count, rows):
                wrong.append((f"{kind} in {name}: {count_range(count)} rows", f"{kind} in {name}: {rows} rows"))
    return wrong


def data_to_declare(
    declared: Mapping[str, Mapping[str, Any]], found: Sequence[Mapping[str, Any]]
) -> Dict[str, Dict[str, Any]]:
    """Return the key ``data`` of phase.yml that these changes need; what is declared and met stays as it is."""
    known = {split_relation(name): (name, kinds) for name, kinds in declared.items()}
    needed: Dict[str, Dict[str, Any]] = {}
    for change in found:
        name, kinds = known.get(split_relation(change["relation"]), (change["relation"], {}))
        count, rows = kinds.get(change["kind"]), change["rows"]
        kept = count is not None and within(count, rows or 0)
        needed.setdefault(name, {})[change["kind"]] = count if kept else (ANY if rows is None else rows)
    return needed


def data_key(declared: Mapping[str, Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> str:
    """Return what ``data_to_declare`` returns as the lines of phase.yml."""
    lines = ["data:"]
    for name, kinds in data_to_declare(declared, found).items():
        values = ", ".join(f"{kind}: {_flow(value)}" for kind, value in kinds.items())
        key = name if _PLAIN_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)
        lines.append(f"  {key}: {{{values}}}")
    return "\n".join(lines)


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {one}" for key, one in value.items()) + "}"
    return str(value)
