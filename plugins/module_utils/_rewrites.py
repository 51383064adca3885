# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tables a transaction rewrites: those whose file (``relfilenode``) changed."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._sql import literal

_FILES = """
SELECT c.oid, c.relfilenode FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND c.relpersistence <> 't'
"""

# Only rows that this transaction, or one of its subtransactions, has made: nothing else can have a new file under its locks.
_MOVED = """
SELECT c.oid, c.relfilenode, c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND pg_catalog.age(c.xmin) <= pg_catalog.age('{xid}'::pg_catalog.xid)
ORDER BY 3
"""

# With their partitions and children, which a change of the parent rewrites.
_FAMILY = """
WITH RECURSIVE family AS (
  SELECT pg_catalog.to_regclass(name)::pg_catalog.oid AS oid FROM pg_catalog.unnest({names}::text[]) name
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid)
SELECT f.oid FROM family f WHERE f.oid IS NOT NULL
"""


def files(session: Session) -> dict[str, str]:
    """Return the file of every table by the table's oid."""
    return {oid or "": file or "" for oid, file in session.copy(_FILES)}


def rewritten(session: Session, before: Mapping[str, str], xid: str) -> dict[str, str]:
    """Return the tables, oid to name, whose file differs from ``before``; ``xid`` is this transaction's."""
    return {
        oid or "": name or ""
        for oid, file, name in session.copy(_MOVED.format(xid=int(xid) % 2**32))
        if before.get(oid or "", file) != file
    }


def undeclared(
    session: Session, found: Mapping[str, str], declared: Sequence[str], statements: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the names of those in ``found`` that the phase does not declare. ``statements`` are the plan's.

    A table that a TRUNCATE names has a new file by definition.
    """
    emptied = {name for one in statements if one["tag"] == "TRUNCATE TABLE" for name in one["relations"]}
    names = sorted({*declared, *emptied})
    if not found or not names:
        return sorted(found.values())
    array = "ARRAY[" + ", ".join(literal(name) for name in names) + "]"
    permitted = {oid for (oid,) in session.rows(_FAMILY.format(names=array))}
    return sorted(name for oid, name in found.items() if oid not in permitted)
