# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which columns a migration changes, observed on a copy: what a phase may measure, and what its rollback leaves changed.

The rows of before are kept as texts in temporary tables of a session of its own, so this is for copies alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    array_literal,
    identifier,
    literal,
    qualified,
)

# Ordinary tables with a primary key of one column, with the other columns that are there, and whether a trigger may change their rows
# before an update of them (tgtype: row 1, before 2, update 16).
_TABLES = """
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, c.relname, k.attname,
  ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnum <> k.attnum ORDER BY a.attnum),
  EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype::pg_catalog.int4 & 19 = 19))
  ORDER BY n.nspname, c.relname), '[]')
FROM pg_catalog.unnest({names}) name JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(name)
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indnkeyatts = 1
JOIN pg_catalog.pg_attribute k ON k.attrelid = c.oid AND k.attnum = i.indkey[0]
WHERE c.relkind IN ('r', 'p')
"""

_COLUMNS = """
SELECT coalesce(pg_catalog.json_agg(attname), '[]') FROM pg_catalog.pg_attribute
WHERE attnum > 0 AND NOT attisdropped AND attrelid = pg_catalog.to_regclass({relation})
"""


@dataclass(frozen=True)
class KeptTable:
    """A table whose rows were kept: its name, the column of its primary key, its other columns, and whether triggers change its rows."""

    schema: str
    name: str
    key: str
    columns: Sequence[str]
    triggered: bool

    @property
    def text(self) -> str:
        """Return the table's name as phase.yml has it."""
        return quoted_name(self.schema, self.name)

    @property
    def sql(self) -> str:
        """Return the table's name for a statement, where a reserved word has to be quoted."""
        return qualified(self.schema, self.name)


def keep_rows(session: Session, statements: Sequence[Mapping[str, Any]]) -> list[KeptTable]:
    """Keep the rows of the tables that UPDATE and MERGE statements name, in the session's temporary tables."""
    names = sorted({name for one in statements if one["tag"] in ("UPDATE", "MERGE") for name in one["relations"]})
    kept = [KeptTable(*row) for row in session.json(_TABLES.format(names=array_literal(names)))] if names else []
    for number, table in enumerate(kept):
        # no type is held by the temporary table that the migration may drop
        texts = ", ".join(f"{_text('t', one)} AS {identifier(one)}" for one in (table.key, *table.columns))
        session.execute(f"CREATE TEMPORARY TABLE phasegate_kept_{number} AS SELECT {texts} FROM {table.sql} t")
    return kept


def moved_columns(session: Session, kept: Sequence[KeptTable]) -> list[dict[str, Any]]:
    """Return relation, key, column and number of changed rows of each column that is still there and was changed, and ``triggered``."""
    moved = []
    for number, table in enumerate(kept):
        there = session.json(_COLUMNS.format(relation=literal(table.text)))
        columns = [one for one in table.columns if one in there]
        if table.key not in there or not columns:
            continue
        counts = ", ".join(f"count(*) FILTER (WHERE b.{identifier(one)} <> {_text('a', one)})" for one in columns)
        found = session.rows(
            f"SELECT {counts} FROM pg_temp.phasegate_kept_{number} b"
            f" JOIN {table.sql} a ON {_text('a', table.key)} = b.{identifier(table.key)}"
        )[0]
        moved += [
            {
                "relation": table.text,
                "key": table.key,
                "column": column,
                "changed": int(count or 0),
                "triggered": table.triggered,
            }
            for column, count in zip(columns, found)
            if count != "0"
        ]
    return moved


def _text(row: str, column: str) -> str:
    """Return a value as text by its type's output function, NULL included; not every type has an operator for equality."""
    return f"pg_catalog.textin(pg_catalog.record_out(ROW({row}.{identifier(column)})))"
