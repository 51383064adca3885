# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data captures around a migration (C-04): row counts and measured columns."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Mapping, Optional, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Progress
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import Member, Tables, families
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_found,
    read_json,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import shortened
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import look


@dataclass(frozen=True)
class MeasuredColumn:
    """A column whose values are recorded for every row, by key, before and after: ``updated_at`` of Phase Alpha."""

    id: str
    relation: str
    key: str
    column: str


@dataclass(frozen=True)
class ColumnStats:
    """The extent of a measured column: number of rows, of distinct values, least and greatest value as text."""

    rows: int
    distinct: int
    minimum: str | None
    maximum: str | None


Values = Mapping[str, str]

Counts = Mapping[str, Optional[int]]

Seen = Callable[[Progress], None]


@dataclass(frozen=True)
class Capture:
    """The data of one moment: rows by relation (None where it does not exist), values and extent by measure id."""

    counts: Counts
    values: Mapping[str, Values]
    extents: Mapping[str, ColumnStats]

    def state(self) -> dict[str, Any]:
        """Return the counts and extents as a plain mapping; the values are kept as CSV."""
        return {
            "row_counts": dict(self.counts),
            "measures": {name: asdict(extent) for name, extent in self.extents.items()},
        }


def _resolve(session: Session, name: str) -> str | None:
    """Return a relation's name as the server quotes it, or None when it does not exist or the role may not see it."""
    return session.value(f"SELECT pg_catalog.to_regclass({literal(name)})::pg_catalog.text")


def _count(session: Session, name: str) -> int | None:
    """Return the number of rows of a relation, None where it does not exist."""
    resolved = _resolve(session, name)
    if resolved is None:
        return None
    return int(look(session, f"SELECT pg_catalog.count(*) FROM {resolved}")[0][0] or 0)


def _columns(measure: MeasuredColumn) -> str:
    return f"{identifier(measure.key)}, {identifier(measure.column)}"


def _read_values(session: Session, measure: MeasuredColumn) -> tuple[dict[str, str], ColumnStats]:
    """Return the measured column by key, both as text ('' for NULL) in the key's order, and its extent.

    Raises ``PhaseGateError`` when the relation does not exist.
    """
    relation = _resolve(session, measure.relation)
    if relation is None:
        raise PhaseGateError(
            f"C-04: the measured relation {measure.relation} does not exist.",
            expected="a schema-qualified table name that exists",
            found="no such relation, or no USAGE privilege on its schema",
            next_step="correct measure in phase.yml, or grant USAGE on the schema",
        )
    key, column = identifier(measure.key), identifier(measure.column)
    # COPY writes each value by its type's output function: a cast could be one that somebody made
    *rows, extent = look(
        session,
        f"SELECT {_columns(measure)} FROM {relation} ORDER BY {key}",
        f"SELECT count(*), count(DISTINCT {column}), min({column}), max({column}) FROM {relation}",
    )
    pairs = [(row[0], row[1] or "") for row in rows]
    values = {name or "": value for name, value in pairs}
    if len(values) != len(pairs) or any(name is None for name, _value in pairs):
        raise PhaseGateError(
            f"C-04: the key {measure.key} of {measure.relation} does not identify a row.",
            expected=f"a value of {measure.key} in every row that no other row has",
            found=f"{len(values)} keys in {len(pairs)} rows",
            next_step="name a primary key or a unique column as the key of this measure in phase.yml",
        )
    count, distinct, minimum, maximum = extent
    # the values as they are have a file of their own
    ends = (None if one is None else shortened(one) for one in (minimum, maximum))
    return values, ColumnStats(int(count or 0), int(distinct or 0), *ends)


# Rows that are visible are committed or the transaction's own; its subtransactions have later ids than itself.
_OWN = """
pg_catalog.age(xmin) <= 0 AND pg_catalog.pg_xact_status(
  (pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8 - pg_catalog.age(xmin))::pg_catalog.text::pg_catalog.xid8) = 'in progress'
"""


def _written_keys(session: Session, measure: MeasuredColumn) -> list[str]:
    """Return the keys of the rows that the open transaction has written."""
    relation, key = _resolve(session, measure.relation), identifier(measure.key)
    return [row[0] or "" for row in look(session, f"SELECT {key} FROM {relation} WHERE {_OWN}")]


def _csv_field(text: str) -> str:
    # csv.writer leaves a lone carriage return unquoted before Python 3.13, and its own reader then ends the row there
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text


def _to_csv(measure: MeasuredColumn, values: Values) -> bytes:
    rows = [(measure.key, measure.column), *values.items()]
    return "".join(",".join(map(_csv_field, row)) + "\n" for row in rows).encode("utf-8")


def _from_csv(data: bytes) -> dict[str, str]:
    csv.field_size_limit(sys.maxsize)  # a measured value may be as long as PostgreSQL's longest text
    rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline="")))
    return {row[0]: row[1] for row in rows[1:]}


def save_capture(artefacts: RunDirectory, label: str, measures: Sequence[MeasuredColumn], capture: Capture) -> None:
    """Write ``schema/<label>_state.json`` and one ``schema/<label>_<measure>.csv`` a measure."""
    artefacts.write(f"schema/{label}_state.json", json.dumps(capture.state(), indent=2).encode("utf-8") + b"\n")
    for measure in measures:
        artefacts.write(f"schema/{label}_{measure.id}.csv", _to_csv(measure, capture.values[measure.id]))


def load_capture(artefacts: RunDirectory, label: str, measures: Sequence[MeasuredColumn]) -> Capture:
    """Read what ``save`` wrote. Raises ``FileNotFoundError``."""
    state = read_json(artefacts.file(f"schema/{label}_state.json"))
    values = {}
    for measure in measures:
        values[measure.id] = _from_csv(read_found(artefacts.file(f"schema/{label}_{measure.id}.csv")))
    extents = {name: ColumnStats(**extent) for name, extent in state["measures"].items()}
    return Capture(state["row_counts"], values, extents)


def _compare(measure: MeasuredColumn, before: Capture, after: Capture) -> dict[str, Any]:
    """Return how a measured column changed; a new or missing row counts as changed.

    Keys: id, relation, column, rows (after), changed, and distinct, minimum, maximum, each ``_before`` and ``_after``.
    """
    old, new = before.values[measure.id], after.values[measure.id]
    extents = {"before": asdict(before.extents[measure.id]), "after": asdict(after.extents[measure.id])}
    moved = {
        f"{name}_{when}": extent[name]
        for when, extent in extents.items()
        for name in ("distinct", "minimum", "maximum")
    }
    return {
        "id": measure.id,
        "relation": measure.relation,
        "column": measure.column,
        "rows": extents["after"]["rows"],
        "changed": sum(old.get(key) != new.get(key) for key in {**old, **new}),
        **moved,
    }


def _not_as_expected(measured: Mapping[str, Any], expect: Mapping[str, Any]) -> list[str]:
    return [
        f"{measured['id']} of {measured['relation']}: {name} {value} expected, {measured[name]} found"
        for name, value in expect.items()
        if value is not None and measured[name] != value
    ]


def _moved_counts(before: Counts, after: Counts, declared: Mapping[str, int]) -> list[str]:
    """Return undeclared changes of row counts (T-3); a relation that did not exist counts as empty.

    One that exists neither before nor after proves nothing: its name is wrong, or hidden from this role.
    """
    wrong = []
    for name, count in after.items():
        was = before.get(name)
        if count is None and was is None:
            wrong.append(f"{name}: no such relation before or after, or no USAGE privilege on its schema")
        elif (count or 0) - (was or 0) != declared.get(name, 0):
            wrong.append(f"{name}: {was} rows before, {count} after, declared change {declared.get(name, 0):+d}")
    return wrong


@dataclass(frozen=True)
class DataExpectations:
    """The columns and rows that a phase declares to measure and count, with the expected changes."""

    measures: Sequence[MeasuredColumn]
    expects: Mapping[str, Mapping[str, Any]]
    row_changes: Mapping[str, int]

    @classmethod
    def from_definition(
        cls, measure: Sequence[Mapping[str, Any]], row_counts: Sequence[Mapping[str, Any]]
    ) -> DataExpectations:
        """Build from the lists ``measure`` and ``row_counts`` of a phase definition."""
        return cls(
            measures=[MeasuredColumn(m["id"], m["relation"], m["key"], m["column"]) for m in measure],
            expects={m["id"]: m.get("expect") or {} for m in measure},
            row_changes={count["relation"]: count.get("change") or 0 for count in row_counts},
        )

    def take(self, session: Session, seen: Seen | None = None) -> Capture:
        """Capture everything declared, in the open transaction; ``seen`` receives what is read next."""
        tell = seen or (lambda _next: None)
        total = len(self.measures) + len(self.row_changes)
        read, counts = {}, {}
        for done, measure in enumerate(self.measures):
            tell(Progress(f"{measure.relation}.{measure.column} is read", "tables", done, total))
            read[measure.id] = _read_values(session, measure)
        for done, name in enumerate(self.row_changes, len(self.measures)):
            tell(Progress(f"rows of {name} are counted", "tables", done, total))
            counts[name] = _count(session, name)
        return Capture(
            counts=counts,
            values={name: values for name, (values, _extent) in read.items()},
            extents={name: extent for name, (_values, extent) in read.items()},
        )

    def renewed(self, session: Session, before: Capture) -> Capture:
        """Return a capture with the measured columns as they are now: others may have changed them since."""
        read = {measure.id: _read_values(session, measure) for measure in self.measures}
        return replace(
            before,
            values={name: values for name, (values, _extent) in read.items()},
            extents={name: extent for name, (_values, extent) in read.items()},
        )

    def compare(self, before: Capture, after: Capture) -> tuple[list[dict[str, Any]], list[str]]:
        """Return how every measured column changed, and how whole tables differ from the declaration.

        What other sessions changed meanwhile is in both.
        """
        measured = [_compare(measure, before, after) for measure in self.measures]
        wrong = [text for moved in measured for text in _not_as_expected(moved, self.expects[moved["id"]])]
        return measured, wrong + _moved_counts(before.counts, after.counts, self.row_changes)

    def judge(self, session: Session, before: Capture, own: Tables) -> tuple[list[dict[str, Any]], list[str]]:
        """Return how the open transaction changed every measured column, and every deviation from the declaration.

        ``own`` are the rows that the transaction has changed. A table is read only when it has changed what is measured in it, or when its
        rows cannot be told from the counters: it was truncated or replaced, or is no table.
        """
        known = families(session, [*self.row_changes, *(measure.relation for measure in self.measures)])
        measured = [self._measure(session, measure, before, known[measure.relation], own) for measure in self.measures]
        wrong = [text for moved in measured for text in _not_as_expected(moved, self.expects[moved["id"]])]
        for name, declared in self.row_changes.items():
            changed = [own[one.text] for one in known[name] if one.text in own]
            if not known[name] or known[name][0].kind not in ("r", "p") or None in changed:
                wrong += _moved_counts(before.counts, {name: _count(session, name)}, self.row_changes)
                continue
            net = sum(one[0] - one[2] for one in changed if one)
            if net != declared:
                wrong.append(
                    f"{name}: this transaction changed its number of rows by {net:+d}, declared change {declared:+d}"
                )
        return measured, wrong

    @staticmethod
    def _measure(
        session: Session, measure: MeasuredColumn, before: Capture, members: Sequence[Member], own: Tables
    ) -> dict[str, Any]:
        """Return how the transaction changed one column: only rows that it has written itself count as changed."""
        touched = [own[one.text] for one in members if one.text in own]
        if members and members[0].kind in ("r", "p") and not touched:
            # both columns must still be there after COMMIT
            session.execute(f"SELECT {_columns(measure)} FROM {_resolve(session, measure.relation)} LIMIT 0")
            return _compare(measure, before, before)
        values, extent = _read_values(session, measure)
        moved = _compare(measure, before, Capture({}, {measure.id: values}, {measure.id: extent}))
        if members and members[0].kind in ("r", "p"):
            old, written = before.values[measure.id], _written_keys(session, measure)
            gone = old.keys() - values.keys() if any(one is None or one[2] for one in touched) else ()
            moved["changed"] = len(gone) + sum(old.get(key) != values.get(key) for key in written)
        return moved
