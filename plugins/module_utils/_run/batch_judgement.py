# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a batch is judged by: its key, what it changed, and the declared rows of all batches together."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.batch_events import BatchBegun
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import (
    DataChanges,
    judge_data,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import (
    ANY,
    UNCOUNTED,
    count_range,
    counts_of,
    within,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import AS_A_REVISION, Script

# Types whose text has one meaning, and whose order is that of pg_catalog's operators.
KEY_TYPES = ("int2", "int4", "int8", "numeric", "uuid", "text", "varchar", "date", "timestamp", "timestamptz")

# Also of children, from which NOT NULL can be dropped, and by constraints that are validated: a row without key is in no range.
_FILLED = """
NOT EXISTS (
  WITH RECURSIVE family (oid) AS (
    SELECT c.oid UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid)
  SELECT FROM family JOIN pg_catalog.pg_attribute own ON own.attrelid = family.oid AND own.attname = a.attname
  WHERE NOT own.attnotnull OR EXISTS (SELECT FROM pg_catalog.pg_constraint n
    WHERE n.conrelid = own.attrelid AND n.contype = 'n' AND own.attnum = ANY (n.conkey) AND NOT n.convalidated))
"""

_KEY = """
SELECT c.relkind IN ('r', 'p'), {filled}, CASE WHEN t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN t.typname END,
  pg_catalog.format_type(a.atttypid, a.atttypmod), EXISTS (
    SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]
    JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indnkeyatts = 1
      AND i.indkey[0] = a.attnum AND m.amname = 'btree' AND o.opcdefault AND i.indcollation[0] = a.attcollation),
  pg_catalog.format('%I.%I', n.nspname, r.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_class r ON r.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE c.oid = pg_catalog.to_regclass({relation}) AND a.attname = {column}
"""


def require_key(session: Session, command: str, statement: Mapping[str, Any]) -> str:
    """Raise ``Stopped`` unless the key of a statement's batches finds each row once: unique, never NULL, in an order of its own.

    Returns the table, or the topmost one that it is a partition of.
    """
    relation, column = statement["after_commit"], statement["batch"]["by"]
    rows = session.rows(_KEY.format(filled=_FILLED, relation=literal(relation), column=literal(column)))
    found = "no such column"
    if rows:
        table, filled, name, printed, unique, _root = rows[0]
        wrong = {
            f"{relation} is no table": table != "t",
            "it may be NULL": filled != "t",
            f"its type is {printed}": name not in KEY_TYPES,
            "it has no unique index of its own": unique != "t",
        }
        found = "; ".join(words for words, is_wrong in wrong.items() if is_wrong)
    if found:
        raise Stopped(
            f"{command}: {relation} cannot be changed in batches by {column}.",
            expected=f"a column of a table that is NOT NULL, has a unique index (btree) of its own, and is one of {', '.join(KEY_TYPES)}",
            found=found,
            next_step=f"name another column in batches, such as the primary key, and {AS_A_REVISION}",
        )
    return rows[0][-1] or ""


class BatchJudge:
    """The declared rows and data of a statement, and what its batches have changed so far; ``table`` is that of ``require_key``."""

    def __init__(self, script: Script, statement: Mapping[str, Any], table: str) -> None:
        self._script = script
        self._statement = statement
        alike = [one["n"] for one in script.statements if one["tag"] == statement["tag"]]
        counts = counts_of(script.rows.get(statement["tag"]) or {"each": ANY}, len(alike))
        self._rows = counts[alike.index(statement["n"])]
        self._own = split_relation(table)
        declared = {split_relation(name): entry for name, entry in script.batches.items()}
        self._data = declared.get(split_relation(statement["after_commit"]), {}).get("data", {})
        self._sums: dict[tuple[str, str], int | None] = {}

    def count(self, batch: BatchBegun) -> None:
        """Add what a batch has changed."""
        for one in batch.data:
            place = one["relation"], one["kind"]
            self._sums[place] = None if one["rows"] is None else (self._sums.get(place) or 0) + one["rows"]

    def require_declared(self, where: str, batch: BatchBegun, changes: DataChanges) -> None:
        """Raise ``Stopped`` where a batch changes what is not declared, or more rows than all batches together may."""
        anything = {
            name: {kind: ANY if kind in UNCOUNTED else {"min": 0} for kind in kinds}
            for name, kinds in self._data.items()
        }
        wrong = judge_data(anything, changes.changes, {(self._own, self._statement["tag"]): batch.rows})
        if not changes.counted:
            wrong.append(("the server counts rows (track_counts is on)", changes.unproved[0]))
        so_far = batch.done + batch.rows
        most = self._rows.get("max") if isinstance(self._rows, Mapping) else self._rows
        if most not in (None, ANY) and so_far > most:
            tag = self._statement["tag"]
            wrong.append((f"{tag}: {count_range(self._rows)} rows in all batches", f"{so_far} rows with this one"))
        if wrong:
            raise Stopped(
                f"{where} changes other data than declared; rolled back before COMMIT.",
                expected="; ".join(expected for expected, _found in wrong),
                found="; ".join(found for _expected, found in wrong),
                next_step="correct the SQL, expect.rows or the data of its entry in batches, and " + AS_A_REVISION,
            )

    def require_complete(self, rows: int) -> None:
        """Raise ``Stopped`` where the sum of all batches is not as declared."""
        tag = self._statement["tag"]
        wrong = [] if within(self._rows, rows) else [(f"{tag}: {count_range(self._rows)} rows", f"{rows} rows")]
        found = [
            {"relation": relation, "kind": kind, "rows": total}
            for (relation, kind), total in sorted(self._sums.items())
        ]
        wrong += judge_data(self._data, found, {(self._own, tag): rows})
        if wrong:
            raise Stopped(
                f"{self._script.command}: statement {self._statement['n']} ({tag}, line {self._statement['line']}) is done, and its batches together"
                " differ from the declared data; all of them are COMMITTED.",
                expected="; ".join(expected for expected, _found in wrong),
                found="; ".join(found for _expected, found in wrong),
                next_step="find out why; then decide whether to roll the phase back",
            )
