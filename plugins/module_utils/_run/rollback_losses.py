# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data in objects that a phase added, which a rollback would lose.

A new table's rows count as they are. A new column of an older table has values that the migration itself wrote; so its
content is digested right after COMMIT (the *baseline*), and only a column whose content differs from that holds new data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, qualified


@dataclass(frozen=True)
class DataLoss:
    """Rows of one object that a rollback would lose; for a column, its rows that have a value."""

    what: str
    rows: int


def _added(changes: Sequence[Mapping[str, Any]], kind: str) -> list[list[str]]:
    """Return the identities of objects of a kind that were added as a whole."""
    return [
        change["identity"]
        for change in changes
        if change["kind"] == kind and change["action"] == "added" and change["attribute"] is None
    ]


def _content(session: Session, schema: str, table: str, column: str) -> tuple[int, str]:
    """Return the number of values of a column and a digest of them that does not depend on the rows' order."""
    name = identifier(column)
    count, digest = session.rows(
        f"SELECT count({name}), coalesce(sum(hashtextextended({name}::text, 0)::numeric), 0) "
        f"FROM {qualified(schema, table)}"
    )[0]
    return int(count or 0), digest or ""


def data_baseline(session: Session, changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the digest of every new column of an older table: schema, table, column, digest."""
    return [
        {"schema": schema, "table": table, "column": column, "digest": _content(session, schema, table, column)[1]}
        for schema, table, column in _added(changes, "column")
    ]


def new_tables(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the tables that were added, quoted."""
    return [qualified(schema, table) for schema, table in _added(changes, "table")]


def data_losses(
    session: Session, changes: Sequence[Mapping[str, Any]], recorded: Sequence[Mapping[str, str]]
) -> list[DataLoss]:
    """Return what a rollback would lose now, in the open transaction.

    ``recorded`` is the ``baseline``; every value of a new column that is not in it counts.
    """
    counted = [
        DataLoss(f"table {schema}.{table}", int(session.value(f"SELECT count(*) FROM {qualified(schema, table)}") or 0))
        for schema, table in _added(changes, "table")
    ]
    digests = {(known["schema"], known["table"], known["column"]): known["digest"] for known in recorded}
    for schema, table, column in _added(changes, "column"):
        values, digest = _content(session, schema, table, column)
        if digest != digests.get((schema, table, column)):
            counted.append(DataLoss(f"column {schema}.{table}.{column}", values))
    return [loss for loss in counted if loss.rows]
