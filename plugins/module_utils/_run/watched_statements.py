# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the statements after COMMIT change data, on a rehearsal's copy.

They commit transactions of their own, so no check inside a transaction sees what they write. A function behind an expression
index can write, whatever it is declared to be. On the copy nobody else writes: the server's counters of rows and the
positions of sequences show it.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import RELATIONS
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major, varying
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import AS_A_REVISION

_COUNTERS = ", ".join(f"pg_catalog.pg_stat_get_tuples_{did}(c.oid)" for did in ("inserted", "updated", "deleted"))

_DATA = f"""
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind, CASE c.relkind
  WHEN 'S' THEN ARRAY[pg_catalog.pg_sequence_last_value(c.oid)]
  ELSE ARRAY[c.relfilenode::pg_catalog.int8, {_COUNTERS}] END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {RELATIONS}
"""


# The versions of the rows: where the counters are switched off, these still tell. A frozen row keeps its xmin.
_VERSIONS = """
SELECT {name}, pg_catalog.concat(pg_catalog.count(*), ' ',
  pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.format('%s %s', t.ctid, t.xmin), 0)::pg_catalog.numeric)) FROM ONLY {table} t
"""

# How many tables are read in one request.
_TOGETHER = 100


class WatchedStatements:
    """The data of the copy before and after the statements after COMMIT of ``statements``; ``client`` may read all of it."""

    def __init__(self, client: Client, command: str, statements: Sequence[Mapping[str, Any]]) -> None:
        self._client = client
        self._command = command
        self._after_commit = [one for one in statements if one["after_commit"]]
        self._before: dict[str, str] = {}

    def begin(self, session: Session) -> None:
        """Remember the data that ``session``, which runs the statements, has committed."""
        if self._after_commit:
            self._before = self._data(session)

    def require_unchanged(self, session: Session) -> None:
        """Raise ``Stopped`` where data differ from those at ``begin``."""
        if not self._after_commit:
            return
        now = self._data(session)
        changed = sorted(name for name, found in now.items() if name in self._before and self._before[name] != found)
        if changed:
            lines = ", ".join(str(one["line"]) for one in self._after_commit)
            raise Stopped(
                f"{self._command}: a statement after COMMIT changes data (lines {lines}).",
                expected="no row and no sequence changes after COMMIT",
                found=f"changed: {', '.join(changed)}",
                next_step="if nobody else writes to the rehearsal's copy: the function behind an index's expression or predicate"
                f" writes; correct it, or build the index without it, then {AS_A_REVISION}",
            )

    def _data(self, session: Session) -> dict[str, str]:
        flush = f"SELECT {varying('flush_statistics')} IS NULL"
        session.value(for_major(flush, session.major))
        with self._client.session("phasegate:rehearse") as reader:
            reader.value(for_major(flush, reader.major))
            rows = [(name or "", kind or "", state or "") for name, kind, state in reader.rows(_DATA)]
            found = {name: state for name, _kind, state in rows}
            tables = [name for name, kind, _state in rows if kind in ("r", "m")]
            for start in range(0, len(tables), _TOGETHER):
                queries = (_VERSIONS.format(name=literal(one), table=one) for one in tables[start : start + _TOGETHER])
                for name, versions in reader.rows(" UNION ALL ".join(queries)):
                    found[name or ""] += f" {versions}"
            return found
