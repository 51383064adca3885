# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the statements after COMMIT change data, on a rehearsal's copy.

They commit transactions of their own, so no check inside a transaction sees what they write. A function behind an expression
index can write, whatever it is declared to be. On the copy nobody else writes: the server's counters of rows and the
positions of sequences show it. What batches changed is known from themselves, and nothing else may have changed there either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import batches_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import RELATIONS
from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import COUNTED, UNCOUNTED
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major, varying
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import AS_A_REVISION

_COUNTERS = ", ".join(f"pg_catalog.pg_stat_get_tuples_{did}(c.oid)" for did in ("inserted", "updated", "deleted"))

_DATA = f"""
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind, pg_catalog.format('%I.%I', tn.nspname, t.relname),
  CASE c.relkind WHEN 'S' THEN ARRAY[pg_catalog.pg_sequence_last_value(c.oid)]
  ELSE ARRAY[c.relfilenode::pg_catalog.int8, {_COUNTERS}] END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid)
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace WHERE {RELATIONS}
"""


# The versions of the rows: where the counters are switched off, these still tell. A frozen row keeps its xmin.
_VERSIONS = """
SELECT {name}, pg_catalog.concat(pg_catalog.count(*), ' ',
  pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.format('%s %s', t.ctid, t.xmin), 0)::pg_catalog.numeric)) FROM ONLY {table} t
"""

# How many tables are read in one request.
_TOGETHER = 100


@dataclass(frozen=True)
class _Relation:
    """A relation's state as text; ``top`` is the table that it is a partition of, and ``counts`` its rows inserted, updated, deleted."""

    kind: str
    top: str
    state: str

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(map(int, self.state.partition("}")[0].strip("{").split(",")[1:]))


class WatchedStatements:
    """The data of the copy before and after the statements after COMMIT of ``statements``; ``client`` may read all of it."""

    def __init__(self, client: Client, step: Step[Any], command: str, statements: Sequence[Mapping[str, Any]]) -> None:
        self._client = client
        self._step = step
        self._command = command
        self._after_commit = [one for one in statements if one["after_commit"]]
        self._before: dict[str, _Relation] = {}

    def begin(self, session: Session) -> None:
        """Remember the data that ``session``, which runs the statements, has committed."""
        if self._after_commit:
            self._before = self._data(session)

    def require_unchanged(self, session: Session) -> None:
        """Raise ``Stopped`` where data differ from those at ``begin``."""
        if not self._after_commit:
            return
        now, batches = self._data(session), self._batches()
        known = {name for name, _kind in batches}
        changed = sorted(
            name
            for name, found in now.items()
            if name in self._before and self._before[name] != found and found.top not in known
        )
        changed += sorted(known - {name for name in known if self._is_explained(name, now, batches)})
        if changed:
            lines = ", ".join(str(one["line"]) for one in self._after_commit)
            raise Stopped(
                f"{self._command}: a statement after COMMIT changes data (lines {lines}).",
                expected="no row and no sequence changes after COMMIT, but what batches declare",
                found=f"changed: {', '.join(changed)}",
                next_step="if nobody else writes to the rehearsal's copy: the function behind an index's expression or predicate"
                f" writes; correct it, or build the index without it, then {AS_A_REVISION}",
            )

    def _batches(self) -> dict[tuple[str, str], int]:
        """Return the rows that batches changed by their own word, by table and kind."""
        entries = self._step.artefacts.journal.entries() if self._step.artefacts else []
        found: dict[tuple[str, str], int] = {}
        for statement in (one for one in self._after_commit if one.get("batch")):
            for batch in batches_of(entries, self._step.name, statement["n"]):
                for one in batch.data:
                    place = one["relation"], one["kind"]
                    found[place] = found.get(place, 0) + (one["rows"] or 0)
        return found

    def _is_explained(self, top: str, now: Mapping[str, _Relation], batches: Mapping[tuple[str, str], int]) -> bool:
        """Return whether a relation changed as its batches say: in rows and partitions; of a sequence that it moved is enough."""
        if any((top, kind) in batches for kind in UNCOUNTED):
            return True
        sums = [0, 0, 0]
        for name, found in now.items():
            if found.top == top and found.kind in "rpm" and name in self._before:
                before = self._before[name].counts
                sums = [total + after - then for total, after, then in zip(sums, found.counts, before)]
        return sums == [batches.get((top, kind), 0) for kind in COUNTED]

    def _data(self, session: Session) -> dict[str, _Relation]:
        flush = f"SELECT {varying('flush_statistics')} IS NULL"
        session.value(for_major(flush, session.major))
        with self._client.session("phasegate:rehearse") as reader:
            reader.value(for_major(flush, reader.major))
            rows = reader.rows(_DATA)
            found = {name or "": _Relation(kind or "", top or "", state or "") for name, kind, top, state in rows}
            tables = [name for name, one in found.items() if one.kind in ("r", "m")]
            for start in range(0, len(tables), _TOGETHER):
                queries = (_VERSIONS.format(name=literal(one), table=one) for one in tables[start : start + _TOGETHER])
                for name, versions in reader.rows(" UNION ALL ".join(queries)):
                    one = found[name or ""]
                    found[name or ""] = replace(one, state=f"{one.state} {versions}")
            return found
