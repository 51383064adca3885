# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-01 and C-02 as steps of a run, in the foreground or beside the steps that follow."""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.backup import back_up, remove_leftovers
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import COMPRESSIONS, BackupOptions
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.progress import TablesRead, backup_progress
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import CONTENTS, MARKER, NAMES
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.rehearsal_cluster import (
    TARGETS_ARGUMENT,
    declared_targets,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import BackupMade, BackupMarked
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.progress import watched
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.daemon import start_daemon
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client

# How a backup is made; documented in doc_fragments/_backup.py.
BACKUP_ARGUMENTS: dict[str, Any] = {
    "format": {"type": "str", "choices": list(NAMES), "default": "custom"},
    "jobs": {"type": "int", "default": 2},
    "compression": {"type": "str", "choices": ["auto", *COMPRESSIONS], "default": "auto"},
    "restore_test": {"type": "dict", "options": CONNECTION_ARGUMENTS},
    "targets": TARGETS_ARGUMENT,
}


def backup_options(params: Mapping[str, Any], *, contents: bool = False) -> BackupOptions:
    """Return the backup that the values of ``BACKUP_ARGUMENTS`` request."""
    proof = Client.from_params(params["restore_test"]) if params["restore_test"] else None
    targets = declared_targets(params["targets"])
    return BackupOptions(params["format"], params["compression"], max(1, params["jobs"]), contents, proof, targets)


def make_backup(
    client: Client, artefacts: RunDirectory, wanted: BackupOptions, *, started: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Make the backup and its marker file, and journal both. ``started`` is called once C-01 has begun."""
    with artefacts.busy():
        with Step(artefacts, BackupMade).running() as step:
            started()
            removed = remove_leftovers(artefacts)
            step.update(removed=removed)
            tables = TablesRead()
            with watched(step, backup_progress(client, artefacts.path, wanted.method, tables)):
                backup, found = back_up(client, artefacts, wanted, tables)
            step.update(backup=backup.as_dict())
            if wanted.contents:
                step.file(CONTENTS, json.dumps(found, indent=1).encode() + b"\n")
        with Step(artefacts, BackupMarked).running() as step:
            step.update(sha256=backup.sha256, started_epoch=backup.started_epoch)
            step.file(MARKER, json.dumps(backup.as_dict(), indent=2, sort_keys=True).encode() + b"\n")
    return {"changed": True, "backup": backup.as_dict(), "removed": removed}


def start_backup(client: Client, artefacts: RunDirectory, wanted: BackupOptions) -> dict[str, Any]:
    """Start the backup in a separate process. Raises ``PhaseGateError`` when it does not start."""
    artefacts.require_run()
    on_its_way = start_daemon(lambda started: make_backup(client, artefacts, wanted, started=started))
    if not on_its_way:
        raise PhaseGateError(
            "C-01: the backup did not start in the background.",
            expected="a process that journals C-01",
            found="the process ended before that",
            next_step="run it in the foreground (background: false) to see why",
        )
    return {"changed": True, "msg": "backup started in the background"}
