# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contents of every table, and of the large objects, as a number of rows and a digest, which a restored copy must match."""

from __future__ import annotations

from typing import Callable, Dict, List

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import qualified

# Of one table, and of the large objects: the number of rows, and a digest of all rows that does not depend on their order.
TableDigests = Dict[str, List[str]]

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""

#: What is told how many tables are read, and of how many.
Seen = Callable[[int, int], None]


def unseen(_done: int, _total: int) -> None:
    """Count nothing."""


#: The name of the large objects among the tables; as SQL it is no name.
LARGE_OBJECTS = "large objects"

# Each with its owner and privileges, those that initdb's rules give included. Content is read as pg_dump reads it, by pieces:
# a large object can be larger than a value.
_LARGE_OBJECTS = """
SELECT count(*), coalesce(sum(hashtextextended(m.oid || ' ' || pg_get_userbyid(m.lomowner) || ' ' || coalesce((
    SELECT string_agg(concat_ws(' ', a.grantee::regrole, a.privilege_type, a.is_grantable), ','
      ORDER BY a.grantee::regrole::text COLLATE "C", a.privilege_type)
    FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) a), '') || ' ' || (
    SELECT coalesce(sum(hashtextextended(n || ' ' || encode(sha256(lo_get(m.oid, n, 1048576)), 'hex'), 0)::numeric), 0)
    FROM generate_series(0, lo_lseek64(lo_open(m.oid, 262144), 0, 2), 1048576) n), 0)::numeric), 0)
FROM pg_largeobject_metadata m
"""


def read_table_digests(session: Session, seen: Seen = unseen) -> TableDigests:
    """Return the contents of all ordinary tables by quoted name, and of the large objects, in the open transaction.

    ``seen`` is told after each table how many are read, of how many.
    """
    tables = [qualified(schema or "", name or "") for schema, name in session.rows(_TABLES)]
    contents: TableDigests = {}
    for number, table in enumerate(tables, start=1):
        # Unlogged tables are dumped too; a partitioned table's rows are those of its partitions. Output functions alone write
        # the text of a row: a cast could be one that the table's owner made.
        row = session.rows(
            "SELECT count(*), coalesce(sum(hashtextextended(textin(record_out(t.*)), 0)::numeric), 0)"
            f" FROM ONLY {table} AS t"
        )[0]
        contents[table] = [field or "" for field in row]
        seen(number, len(tables))
    row = session.rows(_LARGE_OBJECTS)[0]
    if row[0] != "0":
        contents[LARGE_OBJECTS] = [field or "" for field in row]
    return contents


def table_differences(expected: TableDigests, found: TableDigests) -> list[str]:
    """Return one sentence for every table whose rows or content differ."""
    sentences = []
    for table in sorted({**expected, **found}):
        if table == LARGE_OBJECTS:
            counts = [contents.get(table, ["0"])[0] for contents in (found, expected)]
            if counts[0] != counts[1]:
                sentences.append(f"{counts[0]} large objects, the source has {counts[1]}")
            elif expected[table] != found[table]:
                sentences.append("as many large objects, but another content, owner or privilege of one")
        elif table not in found:
            sentences.append(f"{table} is missing")
        elif table not in expected:
            sentences.append(f"{table} is not in the source")
        elif expected[table][0] != found[table][0]:
            sentences.append(f"{table} has {found[table][0]} rows, the source {expected[table][0]}")
        elif expected[table] != found[table]:
            sentences.append(f"{table} has the same number of rows but different content")
    return sentences
