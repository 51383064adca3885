# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many rows the tables of a migration have, and which columns identify one: what a draft judges its row counts by."""

from __future__ import annotations

from typing import Any, Collection

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import array_literal, qualified

# Of the names that are tables: the columns of each unique index of all rows.
_KEYS = """
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_array(name, n.nspname, c.relname, ARRAY(
  SELECT pg_catalog.array_to_json(ARRAY(SELECT a.attname FROM pg_catalog.unnest(i.indkey[0:i.indnkeyatts - 1]) k (attnum)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum))
  FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL))), '[]')
FROM pg_catalog.unnest({names}) name JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(name)
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm')
"""


def table_sizes(session: Session, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return ``rows`` and ``keys`` (the columns of each) of the relations of these names that are tables."""
    found = session.json(_KEYS.format(names=array_literal(sorted(names)))) if names else ()
    return {
        name: {
            "rows": int(session.value(f"SELECT pg_catalog.count(*) FROM {qualified(schema, table)}") or 0),
            "keys": keys,
        }
        for name, schema, table, keys in found
    }
