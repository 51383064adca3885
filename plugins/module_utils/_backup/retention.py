# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which old backups may be deleted, and why.

A backup that a sealed bundle refers to is part of that evidence: it is deleted only when an archived copy of the whole
bundle is intact and has the same seal.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import PRUNED
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import (
    CONTENTS,
    LISTING,
    MARKER,
    NAMES,
    ROLES,
    BackupRecord,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import utc_now
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    atomic_file,
    read_json,
    remove_path,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped

DAY = 86400


@dataclass(frozen=True)
class RetentionRule:
    """What is kept: the newest ``keep`` of every database, and whatever is at most ``max_age_days`` old.

    ``archive`` is the directory with copies of sealed bundles under their names, '' for none.
    """

    keep: int
    max_age_days: int
    archive: str = ""


@dataclass(frozen=True)
class RetentionVerdict:
    """The decision on one backup: ``bundle`` is its directory's name, ``size`` in bytes, ``why`` one sentence."""

    bundle: str
    file: str
    size: int
    remove: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return asdict(self)

    def line(self) -> str:
        """Return the verdict for people, for a terminal."""
        return escaped(
            f"{'delete' if self.remove else 'keep':<6}  {self.bundle}/{self.file} ({self.size} bytes): {self.why}"
        )


def _read(artefacts: RunDirectory) -> BackupRecord | None:
    """Return the record of the backup that is in a directory, None when there is none that phasegate wrote."""
    try:
        record = BackupRecord(**read_json(artefacts.file(MARKER)))
    except (PhaseGateError, OSError, TypeError):
        return None
    texts = (record.method, record.file, record.database, record.system_identifier)
    numbers = (record.started_epoch, record.size)
    if not all(isinstance(one, str) for one in texts) or not all(
        type(one) in (int, float) and math.isfinite(one) for one in numbers
    ):
        return None
    # the name becomes a path that is deleted
    ours = record.file == NAMES.get(record.method)
    return record if ours and os.path.lexists(artefacts.file(record.file)) else None


def _not_archived(artefacts: RunDirectory, archive: str) -> str:
    """Return why the sealed bundle's backup has to be kept, '' when an intact copy with the same seal is in the archive."""
    named = "referenced by its sealed bundle"
    if not archive:
        return f"{named}; no archive configured"
    copy = RunDirectory(os.path.join(archive, os.path.basename(artefacts.path)))
    if os.path.realpath(copy.path) == os.path.realpath(artefacts.path):
        return f"{named}; the archive is the bundle itself"
    findings = verify_bundle(copy.path)
    if findings:
        return f"{named}; the archive has no intact copy: {findings[0]}"
    if sha256_file(copy.file(SEAL)) != sha256_file(artefacts.file(SEAL)):
        return f"{named}; the copy in the archive has a different seal"
    return ""


def _evaluate_backup(
    artefacts: RunDirectory, record: BackupRecord, place: int, rule: RetentionRule, now: float
) -> tuple[bool, str]:
    """Return whether a backup is deleted, and why; ``place`` is 0 for the newest of its database."""
    if place < rule.keep:
        return False, f"one of the newest {rule.keep} of database {record.database}"
    days = (now - record.started_epoch) / DAY
    if days <= rule.max_age_days:
        return False, f"{days:.1f} days old, at most {rule.max_age_days}"
    if artefacts.sealed:
        why = _not_archived(artefacts, rule.archive)
        if why:
            return False, why
        return True, f"{days:.1f} days old; an intact copy of its bundle is in {rule.archive}"
    if artefacts.has_run:
        return False, "its run is not sealed; run the phase again to close it"
    return True, f"{days:.1f} days old, and {place} newer of database {record.database}"


def evaluate_retention(root: str, rule: RetentionRule, now: float) -> list[RetentionVerdict]:
    """Return a verdict on every backup in the directories directly below ``root``, the newest first; nothing is changed.

    ``now`` in seconds since 1970 by this host's clock.
    """
    found = []
    for name in os.listdir(root):
        artefacts = RunDirectory(os.path.join(root, name))
        record = None if os.path.islink(artefacts.path) else _read(artefacts)
        if record:
            found.append((artefacts, record))
    found.sort(key=lambda pair: (-pair[1].started_epoch, pair[0].path))
    places: dict[tuple[str, str], int] = {}
    verdicts = []
    for artefacts, record in found:
        database = (record.system_identifier, record.database)
        place = places.get(database, 0)
        places[database] = place + 1
        remove, why = _evaluate_backup(artefacts, record, place, rule, now)
        verdicts.append(RetentionVerdict(os.path.basename(artefacts.path), record.file, record.size, remove, why))
    return verdicts


def delete_backups(root: str, verdict: RetentionVerdict) -> None:
    """Delete the backup of a verdict. Raises ``BlockingIOError`` when its directory is in use.

    Of a bundle only the backup itself is deleted, so that the rest remains evidence; a record beside the bundle, made first, tells
    an auditor that the backup was pruned, and why.
    Of a plain directory everything of the backup is deleted, its marker last: until then it is found again.
    """
    artefacts = RunDirectory(os.path.join(root, verdict.bundle))
    names = (verdict.file,) if artefacts.sealed else (verdict.file, verdict.file + LISTING, ROLES, CONTENTS, MARKER)
    with artefacts.busy(wait=False):
        if artefacts.sealed:
            record = {
                "format": "phasegate-pruned/1",
                "bundle": verdict.bundle,
                "seal": sha256_file(artefacts.file(SEAL)),
            }
            record.update(file=verdict.file, at=utc_now(), why=verdict.why)
            with atomic_file(artefacts.path + PRUNED) as out:
                out.write(json.dumps(record, indent=1).encode("utf-8") + b"\n")
        for path in map(artefacts.file, names):
            if os.path.lexists(path):
                remove_path(path)
