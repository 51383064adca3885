# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pre-run conditions, each a pure evaluation of facts that were read before.

A problem has one of three degrees: a finding, whose action the operator's policy decides; a note, which only warns
because it does not affect the phase; and a fact that this role cannot see.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import asdict, dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import ConditionStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.facts import (
    ConditionFacts,
    FreeSpace,
    OtherSession,
    PlanNeeds,
    PreparedTransaction,
    Standby,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._prerun_conditions.security_releases import (
    DAYS_BETWEEN,
    FIXES,
    KNOWN_UNTIL,
    PAGE,
    missing_fixes,
    newest_release,
)

ACTIONS = {"stop": ConditionStatus.STOP, "warn": ConditionStatus.WARN, "ignore": ConditionStatus.IGNORED}

# The limits that an operator may set, with their defaults; documented in docs/operations.md.
LIMITS = {"transaction_age_s": 60, "server_space_mb": 256, "replica_lag_bytes": 64 << 20, "replica_lag_s": 60}

_BACKUPS = ("pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup")

_PHASEGATES = "phasegate:backup:"

_VISIBLE = "GRANT pg_monitor to this role to make this visible"


@dataclass(frozen=True)
class Condition:
    """One evaluated condition; the texts are for people."""

    id: str
    status: ConditionStatus
    expected: str
    found: str
    next_step: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields as a plain mapping."""
        return {**asdict(self), "status": self.status.value}


# How bad a finding is, before the policy.
_GOOD, _NOTE, _BAD, _UNSEEN = range(4)


@dataclass(frozen=True)
class _Finding:
    degree: int
    expected: str
    found: str
    next_step: str = ""


@dataclass(frozen=True)
class ConditionRules:
    """The operator's choices: an action by condition, and the limits."""

    actions: Mapping[str, str]
    limits: Mapping[str, int]

    @classmethod
    def of(cls, actions: Mapping[str, Any], limits: Mapping[str, Any]) -> ConditionRules:
        """Return the defaults with these choices. Raises ``PhaseGateError`` for an invalid one."""
        wrong = [f"conditions: {name}" for name in actions if name not in _EVALUATIONS]
        wrong += [f"conditions: {name}: {value}" for name, value in actions.items() if str(value) not in ACTIONS]
        wrong += [f"limits: {name}" for name in limits if name not in LIMITS]
        wrong += [f"limits: {name}: {value}" for name, value in limits.items() if not re.fullmatch(r"\d+", str(value))]
        if wrong:
            raise PhaseGateError(
                "Invalid phasegate_conditions or phasegate_limits.",
                expected=f"conditions: {', '.join(_EVALUATIONS)}, each {', '.join(ACTIONS)};"
                f" limits: {', '.join(LIMITS)}, each a number",
                found="; ".join(wrong),
                next_step="correct phasegate_conditions or phasegate_limits in the inventory",
            )
        chosen = {name: int(value) for name, value in limits.items()}
        return cls(
            {**{name: default for name, (default, _judge) in _EVALUATIONS.items()}, **actions}, {**LIMITS, **chosen}
        )


def _in_the_way(relations: Sequence[str]) -> str:
    return f", holds a lock on {', '.join(relations)} (in the way)" if relations else ""


def _describe(other: OtherSession) -> str:
    state = "state not visible" if other.hidden else other.state or other.kind
    age = "" if other.age is None else f", open for {other.age:.0f} s"
    return (
        f"pid {other.pid}, user {other.user or 'none'}, application {other.application or 'unnamed'}, {state}{age}"
        + _in_the_way(other.relations)
    )


def _is_backup(other: OtherSession) -> bool:
    return other.application in _BACKUPS or other.application.startswith(_PHASEGATES)


def _of_others(
    expected: str, others: Iterable[OtherSession], unseen: Iterable[OtherSession], next_step: str
) -> _Finding:
    """Evaluate unwanted sessions, and those whose state this role cannot see."""
    there, hidden = list(others), list(unseen)
    told = [_describe(other) for other in there]
    if hidden:
        told.append(f"not visible to this role: {'; '.join(map(_describe, hidden))}")
    degree = _BAD if any(other.relations for other in there) else _NOTE if there else _UNSEEN if hidden else _GOOD
    if degree == _GOOD:
        return _Finding(_GOOD, expected, "none")
    return _Finding(degree, expected, "; ".join(told), next_step if there else _VISIBLE)


def _long_transactions(facts: ConditionFacts, _need: PlanNeeds, limits: Mapping[str, int]) -> _Finding:
    limit = limits["transaction_age_s"]
    ours = [other for other in facts.sessions if other.kind != "autovacuum worker" and not _is_backup(other)]
    return _of_others(
        f"no transaction open for more than {limit} s",
        (other for other in ours if other.age is not None and other.age > limit),
        (other for other in ours if other.hidden and other.user),
        "wait until it ends, or end its session: SELECT pg_terminate_backend(<pid>)",
    )


def _wraparound_vacuum(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    return _of_others(
        "no autovacuum to prevent wraparound, which does not yield to a DDL lock",
        (
            other
            for other in facts.sessions
            if other.kind == "autovacuum worker" and "(to prevent wraparound)" in other.query
        ),
        # a process without a user is one of the server's own workers
        (other for other in facts.sessions if other.hidden and not other.user),
        "let it finish (progress: pg_stat_progress_vacuum); if ended, it starts over",
    )


def _pg_dump(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    return _of_others(
        "no other backup or restore in progress",
        (other for other in facts.sessions if _is_backup(other)),
        (),
        "let it finish; it holds locks on every table until then",
    )


def _prepared_transactions(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    def describe(one: PreparedTransaction) -> str:
        return f"{one.gid!r}, owner {one.owner}, prepared {one.age:.0f} s ago" + _in_the_way(one.relations)

    expected = "no prepared transaction, which holds its locks until it is committed or rolled back"
    if not facts.prepared:
        return _Finding(_GOOD, expected, "none")
    return _Finding(
        _BAD if any(one.relations for one in facts.prepared) else _NOTE,
        expected,
        "; ".join(map(describe, facts.prepared)),
        "check with its application, then COMMIT PREPARED '<gid>' or ROLLBACK PREPARED '<gid>' in this database",
    )


def _size(count: float) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def _of_rooms(rooms: Sequence[FreeSpace], needed: int, what: str, next_step: str) -> _Finding:
    seen = [room for room in rooms if room.free is not None]
    hidden = [room.why for room in rooms if room.free is None]
    found = "; ".join([f"{_size(room.free or 0)} free at {room.path}" for room in seen] + hidden)
    bad = any((room.free or 0) < needed for room in seen)
    expected = f"{_size(needed)} free, {what}"
    if bad:
        return _Finding(_BAD, expected, found, next_step)
    return _Finding(_UNSEEN if hidden else _GOOD, expected, found, "check it yourself" if hidden else "")


def _artefact_space(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    if facts.last_backup is not None:
        needed, what = facts.last_backup * 6 // 5, "120 % of the size of the last backup"
    elif facts.backup_bytes is not None:
        needed, what = facts.backup_bytes, "the upper bound for a first backup"
    else:
        return _Finding(_UNSEEN, "room for the backup", "not every database's size is visible to this role", _VISIBLE)
    return _of_rooms(
        [facts.artefacts], needed, what, "free space there, delete old backups (playbook prune), or set phasegate_root"
    )


def _server_space(facts: ConditionFacts, need: PlanNeeds, limits: Mapping[str, int]) -> _Finding:
    floor = limits["server_space_mb"] << 20
    return _of_rooms(
        facts.server,
        2 * need.wal_bytes + facts.rewritten_bytes + floor,
        f"twice the WAL that the rehearsal measured ({_size(need.wal_bytes)}), the relations that it rewrote"
        f" ({_size(facts.rewritten_bytes)}), and {_size(floor)}",
        "free space on the server before the phase: a full disk stops every session",
    )


def _locks(facts: ConditionFacts, need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    most = facts.lock_slots // 2
    counted = "counted by the rehearsal" if need.measured else "estimated from the relations that it names"
    return _Finding(
        _GOOD if need.locks <= most else _BAD,
        f"at most {most} locks, half of the server's lock table",
        f"{need.locks} locks {counted}",
        "" if need.locks <= most else "raise max_locks_per_transaction, which needs a restart, or split the phase",
    )


def _client_version(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    server, client = facts.server_version_num // 10000, facts.client_version_num // 10000
    return _Finding(
        _GOOD if client >= server else _BAD,
        f"client programs of PostgreSQL {server} or later, for a server of {facts.server_version}",
        f"psql {client}.{facts.client_version_num % 10000}",
        "" if client >= server else "install the client programs of the server's version, or set bindir or container",
    )


def _synchronous_standby(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    expected = "COMMIT waits for no standby, or only for connected ones"
    names, commit = facts.standby_names.strip(), facts.synchronous_commit
    # C-07 changes off to on; only local keeps its COMMIT from waiting
    if not names or commit == "local":
        return _Finding(_GOOD, expected, f"synchronous_standby_names {names!r}, synchronous_commit {commit}")
    count = re.match(r"(?:(?:FIRST|ANY)\s+)?(\d+)\s*\(", names, re.IGNORECASE)
    wanted = int(count[1]) if count else 1
    there = [one.name for one in facts.standbys if one.sync_state in ("sync", "quorum")]
    found = f"synchronous_standby_names {names!r}: {', '.join(there) or 'none'} of {wanted} connected and synchronous"
    if len(there) >= wanted:
        return _Finding(_GOOD, expected, found)
    if any(one.hidden for one in facts.standbys):
        return _Finding(_UNSEEN, expected, f"{found}; the state of standbys is not visible to this role", _VISIBLE)
    return _Finding(
        _BAD,
        expected,
        found,
        "start the standby, or remove it from synchronous_standby_names: COMMIT would wait for ever",
    )


def late_replicas(standbys: Iterable[Standby], limits: Mapping[str, int]) -> list[str]:
    """Return in words which replicas do not stream or are further behind than ``limits`` allow; one that is not visible is none."""

    def late(one: Standby) -> bool:
        behind = one.bytes or 0
        slow = behind > 0 and (one.seconds or 0) > limits["replica_lag_s"]
        return one.state != "streaming" or behind > limits["replica_lag_bytes"] or slow

    return [_replica(one) for one in standbys if not one.hidden and late(one)]


def _replica(one: Standby) -> str:
    if one.hidden:
        return f"{one.name}: not visible to this role"
    delay = "" if one.seconds is None else f" and {one.seconds:.0f} s"
    return f"{one.name}: {one.state}, {'?' if one.bytes is None else one.bytes} bytes{delay} behind"


def _replica_lag(facts: ConditionFacts, _need: PlanNeeds, limits: Mapping[str, int]) -> _Finding:
    most, longest = limits["replica_lag_bytes"], limits["replica_lag_s"]
    expected = f"every replica streams, at most {most} bytes and {longest} s behind"

    seen = [one for one in facts.standbys if not one.hidden]
    found = "; ".join(map(_replica, facts.standbys)) or "no replica is connected"
    if late_replicas(facts.standbys, limits):
        return _Finding(
            _BAD, expected, found, "wait until it catches up, or repair it: the phase's WAL would increase its delay"
        )
    if len(seen) < len(facts.standbys):
        return _Finding(_UNSEEN, expected, found, _VISIBLE)
    return _Finding(_GOOD, expected, found)


def _replication_slots(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    expected = "every replication slot is in use and has its WAL"
    wrong = [slot for slot in facts.slots if not slot.active or slot.wal_status in ("extended", "unreserved", "lost")]
    if not wrong:
        return _Finding(_GOOD, expected, f"{len(facts.slots)} slots")
    return _Finding(
        _BAD,
        expected,
        "; ".join(f"{s.name}: {'active' if s.active else 'inactive'}, WAL {s.wal_status or 'not kept'}" for s in wrong),
        "restart the slot's consumer, or drop the slot: SELECT pg_drop_replication_slot('<name>'); it keeps WAL on the server",
    )


def _minor_version(facts: ConditionFacts, _need: PlanNeeds, _limits: Mapping[str, int]) -> _Finding:
    major, minor = divmod(facts.server_version_num, 10000)
    if major not in FIXES:
        return _Finding(
            _UNSEEN,
            f"the newest minor release of PostgreSQL {major}",
            f"{facts.server_version}; this release of the collection has no table of CVEs of PostgreSQL {major}",
            f"check {PAGE.format(major)} yourself",
        )
    known = datetime.date(*map(int, KNOWN_UNTIL.split("-")))
    days = (datetime.datetime.fromtimestamp(facts.now, datetime.timezone.utc).date() - known).days
    expected = f"{newest_release(major)} or later, which fixes every CVE known on {KNOWN_UNTIL}"
    old = f"the table of CVEs is {days} days old; releases appear at least every {DAYS_BETWEEN} days"
    later = [old] if days > DAYS_BETWEEN else []
    cves = missing_fixes(major, minor)
    if cves:
        found = [f"{facts.server_version}, which has {cves}", *later]
        return _Finding(_BAD, expected, "; ".join(found), "install the newest minor release and restart the server")
    return _Finding(
        _UNSEEN if later else _GOOD,
        expected,
        "; ".join([facts.server_version, *later]),
        "check https://www.postgresql.org/support/security/ yourself" if later else "",
    )


_Evaluation = Callable[[ConditionFacts, PlanNeeds, Mapping[str, int]], _Finding]

# By name: the default action, and the evaluation. Nothing ends a prepared transaction or a vacuum against wraparound
# within a lock_timeout.
_EVALUATIONS: dict[str, tuple[str, _Evaluation]] = {
    "long_transactions": ("warn", _long_transactions),
    "wraparound_vacuum": ("stop", _wraparound_vacuum),
    "pg_dump": ("warn", _pg_dump),
    "prepared_transactions": ("stop", _prepared_transactions),
    "artefact_space": ("stop", _artefact_space),
    "server_space": ("stop", _server_space),
    "locks": ("stop", _locks),
    "client_version": ("stop", _client_version),
    "synchronous_standby": ("stop", _synchronous_standby),
    "replica_lag": ("stop", _replica_lag),
    "replication_slots": ("warn", _replication_slots),
    "minor_version": ("warn", _minor_version),
}


def _evaluated(name: str, finding: _Finding, action: str) -> Condition:
    """Return the condition with the action that the operator's policy sets for a finding."""
    if finding.degree in (_GOOD, _UNSEEN):
        return Condition(
            name,
            ConditionStatus.UNKNOWN if finding.degree else ConditionStatus.OK,
            finding.expected,
            finding.found,
            finding.next_step,
        )
    status = ConditionStatus.WARN if finding.degree == _NOTE and action != "ignore" else ACTIONS[action]
    return Condition(name, status, finding.expected, finding.found, finding.next_step)


def evaluate_conditions(facts: ConditionFacts, need: PlanNeeds, rules: ConditionRules) -> list[Condition]:
    """Evaluate every condition."""
    return [
        _evaluated(name, judgement(facts, need, rules.limits), rules.actions[name])
        for name, (_default, judgement) in _EVALUATIONS.items()
    ]


def stop_at_conditions(conditions: Sequence[Condition]) -> None:
    """Raise ``Stopped`` naming every condition that stops, when one does."""
    wrong = [one for one in conditions if one.status == ConditionStatus.STOP]
    if wrong:
        raise Stopped(
            "Stopped by a pre-run condition: " + ", ".join(one.id for one in wrong) + ".",
            expected="; ".join(f"{one.id}: {one.expected}" for one in wrong),
            found="; ".join(f"{one.id}: {one.found}" for one in wrong),
            next_step="; ".join(f"{one.id}: {one.next_step}" for one in wrong)
            + "; phasegate_conditions in the inventory sets which conditions stop a run",
        )
