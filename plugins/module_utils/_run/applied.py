# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a phase is applied: the record of its runs, compared with the database itself.

The facts of the database can refuse what the record permits: a database that was dropped and created again, restored, or
reverted by hand has not what the record says, and one whose record is gone has more. They never permit what the record forbids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    Identity,
    changes_of_identity,
    is_made_anew,
    is_recorded_database,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import (
    REHEARSE_AGAIN,
    EarlierRun,
    History,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.presence import Presence, presence_of
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

#: Reads the schema as it is now; called only where the answer depends on it.
Live = Callable[[], Snapshot]


@dataclass(frozen=True)
class Applied:
    """The execution that the database has, and ``remarks``: what happened to the database since, in words."""

    run: RunDirectory
    remarks: tuple[str, ...] = ()


def applied_execution(
    session: Session,
    history: History,
    plan: Mapping[str, Any],
    plan_sha256: str,
    identity: Identity,
    live: Live,
) -> Applied | None:
    """Return the execution that applied this plan's DDL to this database, or None when the plan may be executed.

    Raises ``PhaseGateError`` where the record and the database contradict each other, and for a spent plan. A plan that was
    rehearsed since may be executed on a database that has lost the changes: its rehearsal, its approvals and G-10 are about
    the database as it is now.
    """
    recorded = history.in_place(plan["ddl"]["sha256"])
    if recorded:
        changes = recorded_changes(recorded, plan)
        state = presence_of(changes, live()) if changes else Presence((), ())
        told = _since(session, recorded, identity)
        if not _is_lost(session, recorded, identity, state):
            gone = (f"no longer there: {', '.join(state.gone)}",) if state.gone else ()
            return Applied(recorded.run, (*told, *gone))
        if "rehearsal" not in plan or plan_sha256 in {one.start.plan_sha256 for one in history.executions.values()}:
            raise _lost(recorded, state, told, rehearsed="rehearsal" in plan)
    history.require_unspent(plan, plan_sha256)
    # the plan of another target stops at G-4
    if "rehearsal" in plan and is_recorded_database(plan["target"], identity):
        _require_absent(history, plan, live())
    return None


def recorded_changes(execution: EarlierRun, plan: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the structural changes that an execution made; those of its rehearsal, where it was killed before it recorded them."""
    transaction = newest_end(execution.entries, Migrated).transaction or {}
    found: Sequence[Mapping[str, Any]] | None = transaction.get("diff", {}).get("changes")
    return found if found is not None else plan.get("rehearsal", {}).get("changes_before_commit", ())


def require_to_undo(session: Session, history: History, name: str, identity: Identity, live: Live) -> None:
    """Raise ``PhaseGateError`` when the database has none of the changes that a rollback of an execution would undo."""
    execution = next((history.executions[one] for one in history.same(name) if one in history.executions), None)
    changes = recorded_changes(execution, {}) if execution else ()
    if not execution or not changes:
        return
    state = presence_of(changes, live())
    if _is_lost(session, execution, identity, state):
        raise PhaseGateError(
            "C-09: there is nothing to roll back: the changes of the execution are not in this database.",
            expected=f"the changes of {name}: {_some(state.gone + state.there)}",
            found="; ".join([*_since(session, execution, identity), _missing(state)]),
            next_step="find out who reverted or restored the database; to apply the phase again, rehearse it again",
        )


def lost_since(execution: EarlierRun, identity: Identity, live: Snapshot) -> str:
    """Return why a database does not have the changes of an execution, in words; '' when it has."""
    state = presence_of(recorded_changes(execution, {}), live)
    anew = is_made_anew(execution.start.identity, identity)
    lost = state.all_gone or (anew and not state.all_there)
    return "; ".join([*changes_of_identity(execution.start.identity, identity), _missing(state)]) if lost else ""


def is_lost(session: Session, execution: EarlierRun, identity: Identity, live: Live) -> bool:
    """Return whether a database lost the changes of an execution: it was made anew, restored, or they were reverted."""
    return _is_lost(session, execution, identity, presence_of(recorded_changes(execution, {}), live()))


def _since(session: Session, execution: EarlierRun, identity: Identity) -> tuple[str, ...]:
    """Return in words what happened to database and cluster since an execution."""
    told = changes_of_identity(execution.start.identity, identity)
    if before_it(session, execution):
        told.append(
            f"the server has not reached transaction {execution.xid}, which that run committed:"
            " it was restored to an earlier moment, or is a copy from before"
        )
    return tuple(told)


def before_it(session: Session, execution: EarlierRun) -> bool:
    """Return whether the transaction of a run lies in the future of this server: it was restored, or is a copy from before."""
    next_xid = session.value("SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())") or "0"
    return execution.xid.isdigit() and int(execution.xid) >= int(next_xid)


def _is_lost(session: Session, execution: EarlierRun, identity: Identity, state: Presence) -> bool:
    """Return whether the database is not the one that an execution changed, or has none of its changes.

    Of a database that was made anew all changes have to be seen: it may be restored from a backup of any moment.
    """
    anew = is_made_anew(execution.start.identity, identity) or before_it(session, execution)
    return state.all_gone or (anew and not state.all_there)


def _missing(state: Presence) -> str:
    if state.all_gone:
        return f"none of its changes is there: {_some(state.gone)}"
    if state.gone:
        return f"some of its changes are not there: {_some(state.gone)}"
    return "the catalog does not show whether its changes are there"


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") or "none"


def _lost(execution: EarlierRun, state: Presence, told: Sequence[str], *, rehearsed: bool) -> PhaseGateError:
    reasons = [*told, _missing(state)]
    if not told:
        reasons.append(
            "the changes were reverted by hand or by a later phase, or the database was restored from an older backup"
        )
    return PhaseGateError(
        "The phase was executed on this database, and the database no longer has its changes.",
        expected=f"the changes of {execution.name}, which is not rolled back",
        found="; ".join(reasons),
        next_step="find out what happened to the database; to apply the phase again, "
        + (REHEARSE_AGAIN if rehearsed else "rehearse it, and execute the plan of that rehearsal")
        + f"; of a database that no longer exists, archive the run directory {execution.run.path} elsewhere",
    )


def _require_absent(history: History, plan: Mapping[str, Any], live: Snapshot) -> None:
    """Raise ``PhaseGateError`` when the database has all changes of a plan that no run is recorded to have executed."""
    state = presence_of(plan["rehearsal"]["changes_before_commit"], live)
    if not state.all_there:
        return
    known = [
        f"{history.rollback_of(name)} rolled {name} back"
        for name in sorted(history.executions)
        if history.rollback_of(name)
    ]
    raise PhaseGateError(
        "The changes of this plan are in the database already, although no run here has them in place.",
        expected="a database without them, or the run directory of the execution that made them",
        found="; ".join(
            [
                f"in the database: {_some(state.there)}",
                *known,
                *(f"executed elsewhere: {one}" for one in history.elsewhere),
            ]
        ),
        next_step="if the run directories were moved or deleted, or phasegate_root was changed, bring them back; if the database is a copy,"
        " was restored or changed by hand, find out by whom, and write a new revision of the phase for what is left to do",
    )
