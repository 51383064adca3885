# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The locks under which measured columns are read before the first statement.

Between that reading and the statements nobody else may write to the table, or its writes would count as the phase's. A phase that
locks the table anyway gets that lock at once: a weaker one, to be made stronger later, could end in a deadlock with a session that
reads the table first and writes to it then.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import MeasuredColumn
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import Member, families
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import array_literal

# The modes that readers wait for, the strongest last, and the one that only writers wait for.
_READERS_WAIT = {"ExclusiveLock": "EXCLUSIVE", "AccessExclusiveLock": "ACCESS EXCLUSIVE"}
_WRITERS_WAIT = "SHARE ROW EXCLUSIVE"

# LOCK TABLE needs one of these; a role without them changes and deletes no row.
_LOCKABLE = """
SELECT name FROM pg_catalog.unnest({names}) name
WHERE pg_catalog.has_table_privilege(name, 'UPDATE') OR pg_catalog.has_table_privilege(name, 'DELETE')
  OR pg_catalog.has_table_privilege(name, 'TRUNCATE')
"""


def lock_measured(session: Session, measures: Sequence[MeasuredColumn], plan: Mapping[str, Any]) -> None:
    """Lock the measured tables that statements of the plan name, with their partitions, in the open transaction.

    Others are not locked: a trigger may change them, but the phase does not say so. Raises ``SqlError``.
    """
    named = {name for one in plan["ddl"]["statements"] if one["run"] for name in one["relations"]}
    known = families(session, sorted({*named, *(one.relation for one in measures)}))
    touched = {member.text for name in named for member in known[name]}
    wanted: dict[str, str] = {}
    for measure in measures:
        members = known[measure.relation]
        if members and members[0].kind in ("r", "p") and any(one.text in touched for one in members):
            wanted[members[0].text] = _mode(members, plan)
    if not wanted:
        return
    for (name,) in session.rows(_LOCKABLE.format(names=array_literal(sorted(wanted)))):
        session.execute(f"LOCK TABLE {name} IN {wanted[name or '']} MODE")


def _mode(members: Sequence[Member], plan: Mapping[str, Any]) -> str:
    """Return the mode that the rehearsal saw on one of these, if readers wait for it."""
    names = {one.text for one in members}
    seen = {one["mode"] for one in (plan.get("rehearsal") or {}).get("locks", ()) if one["relation"] in names}
    return next((words for mode, words in reversed(_READERS_WAIT.items()) if mode in seen), _WRITERS_WAIT)
