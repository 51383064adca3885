# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare what a plan says about its rehearsal with the sealed bundle of the rehearsal on this host (G-9, G-10).

The plan is written on a controller, the bundle on the target by the code that observed the server. Nobody writes both.
"""

from __future__ import annotations

import json
import os
from typing import Any, List, Mapping, Optional, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import SEAL_SIGNERS, Anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import FOLDERS, NAMES
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    REHEARSAL,
    BackupMade,
    CopyMigrated,
    CopyMigratedAgain,
    CopyRolledBack,
    CopyVerified,
    RunOpened,
    StepEnd,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end, opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import short_json
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import RehearsalRecord
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import signature_of, signer_findings

#: What the rehearsal itself measured; the seal comes after it, and the backup's record is in the journal.
_OUTSIDE = frozenset({"seal", "backup"})

# The bytes of the backup say nothing about the plan, and retention may have deleted it.
_UNREAD = (NAMES["custom"], *FOLDERS)

_OF_DDL = ("format", "phase", "definition", "ddl")


def rehearsal_record(plan: Mapping[str, Any], root: str, anchor: Optional[Anchor]) -> RehearsalRecord:
    """Return what the bundle of a plan's rehearsal below ``root`` shows; ``anchor`` is the register of the target's cluster.

    Raises ``PhaseGateError`` when a signature cannot be verified at all.
    """
    name, required = plan["rehearsal"]["bundle"], anchor is not None
    bundle = RunDirectory(os.path.join(root, name))
    unusable = _unusable(plan, name, bundle, anchor)
    if unusable:
        return RehearsalRecord(unusable=unusable, required=required)
    try:
        entries = bundle.journal.entries()
        start, same = opening_of(entries), _json(bundle, os.path.basename(bundle.plan_path))
        proved = _json(bundle, "rehearsal.json")
        foreign = _foreign(plan, start)
        if foreign:
            return RehearsalRecord(unusable=foreign, required=required)
        return RehearsalRecord(
            ddl=[*_plan_differs(plan, same, _OF_DDL), *_ddl_differs(plan, proved, entries, start)],
            rollback=[*_plan_differs(plan, same, ("rollback",)), *_rollback_differs(plan, proved, entries)],
            required=required,
            signature=signature_of(bundle),
        )
    except (OSError, LookupError, TypeError, ValueError, AttributeError, PhaseGateError) as error:
        found = f"{name} is not the bundle of a complete rehearsal: {error}".replace("\n", "; ")
        return RehearsalRecord(unusable=[found], required=required)


def _json(bundle: RunDirectory, name: str) -> Any:
    with open(bundle.file(name), encoding="utf-8") as stream:
        return json.load(stream)


def _unusable(plan: Mapping[str, Any], name: str, bundle: RunDirectory, anchor: Optional[Anchor]) -> List[str]:
    """Return why a directory is not the intact bundle that the plan names; empty when it is."""
    if os.path.basename(name) != name or name in ("", ".", ".."):
        return [f"{short_json(name)} is not the name of a run directory"]
    if os.path.islink(bundle.path) or not os.path.isdir(bundle.path):
        return [f"{bundle.path} is not a directory on this host"]
    findings = verify_bundle(bundle.path, _UNREAD)
    if findings:
        return [f"{name}: {one}" for one in findings[:3]]
    seal, pinned = sha256_file(bundle.file(SEAL)), plan["rehearsal"].get("seal")
    if seal != pinned:
        return [f"{name} has another seal than the plan: SHA-256 {seal} instead of {pinned}"]
    if anchor is not None and anchor.seal_signers is not None:
        where = os.path.join(anchor.path, SEAL_SIGNERS)
        return [
            f"{name}: {one}"
            for one in list(signer_findings(bundle, anchor.seal_signers, where, anchor.revoked_keys))[:1]
        ]
    return []


def _foreign(plan: Mapping[str, Any], start: Optional[RunOpened]) -> List[str]:
    """Return why a bundle is that of another run than a rehearsal for the plan's target."""
    if start is None or start.kind != REHEARSAL:
        return [
            f"{plan['rehearsal']['bundle']} is not the bundle of a rehearsal, but of: {start.kind if start else 'no run'}"
        ]
    target = plan.get("target", {})
    return [
        f"{plan['rehearsal']['bundle']} was rehearsed for {fact} {start.identity.get(fact)}, the plan's is {target[fact]}"
        for fact in ("system_identifier", "database")
        if fact in target and start.identity.get(fact) != target[fact]
    ]


def _plan_differs(plan: Mapping[str, Any], same: Mapping[str, Any], keys: Sequence[str]) -> List[str]:
    """Return which parts of the plan are not those of the plan that was rehearsed."""
    found = []
    for key in keys:
        mine, rehearsed = plan.get(key), same.get(key)
        if mine == rehearsed:
            continue
        digests = [one.get("sha256") for one in (mine, rehearsed) if isinstance(one, dict)]
        if len(set(digests)) > 1:
            found.append(f"{key} was rehearsed with SHA-256 {digests[1]}, the plan has {digests[0]}")
        else:
            found.append(f"{key} is described otherwise than at the rehearsal: {_first_difference(mine, rehearsed)}")
    return found


def _first_difference(mine: Any, other: Any, at: str = "") -> str:
    """Return where two documents differ first, and both values there."""
    if isinstance(mine, dict) and isinstance(other, dict):
        key = next((key for key in sorted({*mine, *other}) if mine.get(key) != other.get(key)), "")
        return _first_difference(mine.get(key), other.get(key), f"{at}.{key}" if at else str(key))
    if isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        number = next((n for n, pair in enumerate(zip(mine, other)) if pair[0] != pair[1]), 0)
        return _first_difference(mine[number], other[number], f"{at}[{number}]")
    return f"{at} {short_json(other, 60)}, the plan has {short_json(mine, 60)}".strip()


def _compare(what: str, recorded: Any, claimed: Any) -> List[str]:
    if recorded == claimed:
        return []
    return [f"{what}: the bundle has {short_json(recorded, 80)}, the plan {short_json(claimed, 80)}"]


def _committed(end: StepEnd) -> List[str]:
    outcome = getattr(end, "outcome", None)
    return (
        [] if outcome == TransactionOutcome.COMMITTED and end.reason is None else [f"{end.step} did not commit there"]
    )


def _ddl_differs(
    plan: Mapping[str, Any], proved: Mapping[str, Any], entries: List[Entry], start: Optional[RunOpened]
) -> List[str]:
    """Return how the bundle contradicts what the plan says about the migration."""
    claimed = plan["rehearsal"]
    migrated, verified = newest_end(entries, CopyMigrated), newest_end(entries, CopyVerified)
    transaction, backup = migrated.transaction or {}, newest_end(entries, BackupMade, done=True).backup or {}
    mine = {key: value for key, value in claimed.items() if key not in _OUTSIDE}
    found = [
        f"{key} was measured otherwise: {_first_difference(mine.get(key), proved.get(key), key)}"
        for key in sorted({*mine, *proved} - {"rollback"})
        if mine.get(key) != proved.get(key)
    ]
    return [
        *found,
        *_compare("DDL at the opening", start.ddl_sha256 if start else "", plan["ddl"]["sha256"]),
        *_committed(migrated),
        *_committed(newest_end(entries, CopyMigratedAgain)),
        *_compare("data changed in R-2", transaction.get("data"), claimed["data"]),
        *_compare("tables rewritten in R-2", transaction.get("rewrites"), claimed["rewrites"]),
        *_compare("changes before COMMIT in R-2", _changes(transaction.get("diff")), claimed["changes_before_commit"]),
        *_compare("changes in R-3", _changes(verified.diff), claimed["changes"]),
        *_compare("backup", {key: backup.get(key) for key in claimed["backup"]}, claimed["backup"]),
    ]


def _changes(difference: Optional[Mapping[str, Any]]) -> Any:
    return (difference or {}).get("changes")


def _rollback_differs(plan: Mapping[str, Any], proved: Mapping[str, Any], entries: List[Entry]) -> List[str]:
    """Return how the bundle contradicts what the plan says about the rollback."""
    undone = newest_end(entries, CopyRolledBack)
    mine, other = plan["rehearsal"]["rollback"], proved.get("rollback")
    transaction = undone.transaction or {}
    return [
        *(
            [f"the rollback was measured otherwise: {_first_difference(mine, other, 'rollback')}"]
            if mine != other
            else []
        ),
        *_committed(undone),
        *_compare("tables rewritten in R-4", transaction.get("rewrites"), mine["rewrites"]),
        *_compare("data changed in R-4", transaction.get("data"), mine["data"]),
        *_compare("schema restored in R-4", undone.restored, True),
    ]
