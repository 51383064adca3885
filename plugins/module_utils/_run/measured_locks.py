# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The locks under which measured columns are read before the first statement.

Between that reading and the statements nobody else may write to the table, or its writes would count as the phase's. A phase that
locks the table anyway gets that lock at once: a weaker one, to be made stronger later, could end in a deadlock with a session that
reads the table first and writes to it then.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import MeasuredColumn
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import families
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import array_literal

#: The lock of a table that the rehearsal saw no stronger one on; only writers wait for it.
WRITERS_WAIT = "ShareRowExclusiveLock"

# The modes that readers wait for, the strongest last.
_READERS_WAIT = ("ExclusiveLock", "AccessExclusiveLock")

_SQL = {
    WRITERS_WAIT: "SHARE ROW EXCLUSIVE",
    "ExclusiveLock": "EXCLUSIVE",
    "AccessExclusiveLock": "ACCESS EXCLUSIVE",
}

# LOCK TABLE needs one of these; a role without them changes and deletes no row.
_LOCKABLE = """
SELECT name FROM pg_catalog.unnest({names}) name
WHERE pg_catalog.has_table_privilege(name, 'UPDATE') OR pg_catalog.has_table_privilege(name, 'DELETE')
  OR pg_catalog.has_table_privilege(name, 'TRUNCATE')
"""


def strongest(seen: Iterable[str]) -> str:
    """Return the mode of ``pg_locks`` in which a table is locked whose statements take these modes."""
    modes = set(seen)
    return next((mode for mode in reversed(_READERS_WAIT) if mode in modes), WRITERS_WAIT)


def lock_measured(session: Session, measures: Sequence[MeasuredColumn], plan: Mapping[str, Any]) -> list[str]:
    """Lock the measured tables that statements of the plan name, with their partitions; return those that are locked.

    Others are not locked: a trigger may change them, but the phase does not say so. Raises ``SqlError``.
    """
    named = {name for one in plan["ddl"]["statements"] if one["run"] for name in one["relations"]}
    known = families(session, sorted({*named, *(one.relation for one in measures)}))
    touched = {member.text for name in named for member in known[name]}
    measured = {one.text for measure in measures for one in known[measure.relation] if one.kind in ("r", "p")}
    wanted = sorted(measured & touched)
    if not wanted:
        return []
    rehearsed = (plan.get("rehearsal") or {}).get("locks", ())
    locked = [name or "" for (name,) in session.rows(_LOCKABLE.format(names=array_literal(wanted)))]
    for name in locked:
        mode = strongest(one["mode"] for one in rehearsed if one["relation"] == name)
        session.execute(f"LOCK TABLE ONLY {name} IN {_SQL[mode]} MODE")
    return locked
