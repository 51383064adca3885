# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a backup, and the check that its files are unchanged."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import compare_with_sums
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_found,
    sha256_file,
)

CUSTOM = "custom"

DIRECTORY = "directory"

BASEBACKUP = "basebackup"

# The name in the artefact directory: of a file, or of a directory with a listing beside it.
NAMES = {CUSTOM: "backup.dump", DIRECTORY: "backup.dir", BASEBACKUP: "backup.base"}

FOLDERS = (NAMES[DIRECTORY] + "/", NAMES[BASEBACKUP] + "/")

# The listing's lines are those of sha256sum: ``sha256sum --check backup.dir.sha256``.
LISTING = ".sha256"

MARKER = "backup.json"

CONTENTS = "backup_contents.json"

ROLES = "roles.sql"

# how many changed files a message lists
NAMED = 10

NEW_RUN = "start a new run, which makes a new backup (C-01)"


@dataclass(frozen=True)
class BackupRecord:
    """The record of one backup.

    ``method`` is a key of ``NAMES``, ``file`` its name. ``size`` in bytes, of all files. ``sha256`` is the file's, or for
    a directory the listing's. ``started_epoch`` in seconds by the database server's clock, taken before the backup's
    snapshot; ``program_version`` as the program prints it; ``toc_entries`` as pg_restore counts them, 0 for a base
    backup. ``not_dumped`` lists what it lacks, one phrase each. ``proof`` is the result of a scratch restore, empty
    without one.
    """

    method: str
    file: str
    size: int
    sha256: str
    started_epoch: float
    database: str
    system_identifier: str
    server_version: str
    program_version: str
    compression: str
    toc_entries: int
    read_in_full: bool
    not_dumped: list[str] = field(default_factory=list)
    proof: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return asdict(self)

    def evidence(self) -> str:
        """Return the proof that it can be restored, for people."""
        shown = (
            "base backup, read by pg_verifybackup"
            if self.method == BASEBACKUP
            else f"{self.toc_entries} TOC entries, read in full by pg_restore"
        )
        if self.proof:
            shown += f", restored and compared ({self.proof['tables']} tables, {self.proof['rows']} rows)"
        return f"{shown}, SHA-256 unchanged"


def listing(digests: Mapping[str, str]) -> bytes:
    """Return ``sha256sum``'s lines for digests by name, sorted by name."""
    return os.fsencode("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)))


def _changed(record: BackupRecord, expected: str, found: str) -> PhaseGateError:
    return PhaseGateError(
        f"The backup {record.file} changed since it was read in full.",
        expected=expected,
        found=found,
        next_step=NEW_RUN,
    )


def unchanged_since(record: BackupRecord, directory: str) -> PhaseGateError | None:
    """Return how the backup in the artefact directory differs from its record, by file; None when it does not."""
    path = os.path.join(directory, record.file)
    if record.method != CUSTOM:
        return _directory_unchanged(record, directory)
    found = f"no file {path}"
    if os.path.isfile(path):
        size = os.path.getsize(path)
        digest = sha256_file(path) if size == record.size else ""
        if digest == record.sha256:
            return None
        found = f"{size} bytes" + (f", SHA-256 {digest}" if digest else "")
    return _changed(record, f"{record.file}: {record.size} bytes, SHA-256 {record.sha256}", found)


def _directory_unchanged(record: BackupRecord, directory: str) -> PhaseGateError | None:
    name = record.file + LISTING
    try:
        lines = read_found(os.path.join(directory, name))
    except FileNotFoundError:
        lines = b""
    digest = hashlib.sha256(lines).hexdigest()
    if digest != record.sha256:
        return _changed(record, f"{name}: SHA-256 {record.sha256}", f"SHA-256 {digest}" if lines else f"no file {name}")
    listed = {line[66:]: line[:64] for line in os.fsdecode(lines).split("\n")[:-1]}
    artefacts = RunDirectory(directory)
    present = {file for file in artefacts.names() if file.startswith(record.file + "/")}
    wrong = compare_with_sums(artefacts, listed, present, name)
    if not wrong:
        return None
    more = [f"and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
    return _changed(record, f"the {len(listed)} files that {name} lists", "; ".join(wrong[:NAMED] + more))
