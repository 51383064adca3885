# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sealed run as it is sent to another machine: its names, and its files in pieces."""

from __future__ import annotations

import base64
import os
from typing import Any

from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import BACKUPS, OUTSIDE, PRUNED, REPORTS
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import SMALL, open_found, read_found
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_file as read_if_found

#: How much of a file one call returns, in bytes.
PIECE = 16 << 20

# How much all small files together may have to come with the list, in bytes.
_TOGETHER = 16 << 20


def bundle_contents(run: RunDirectory, *, whole: bool, backup: bool) -> dict[str, Any]:
    """Return what is to be sent of a sealed run: its report, or with ``whole`` the bundle, whose backup only with ``backup``.

    ``files`` have name and size in bytes; small ones come with it, as ``contents`` in base64. ``left`` is the backup that is not sent, ''
    without one. ``pruned`` is the record beside the bundle of a backup that was deleted. Raises ``PhaseGateError``, ``OSError``.
    """
    directories, names = _tree(run.path)
    left = ""
    if not whole:
        names = [name for name in names if name in (*REPORTS, *OUTSIDE)]
        directories = []
    elif not backup:
        left = next((one for one in BACKUPS if any(_part_of(name, one) for name in (*names, *directories))), "")
        names = [name for name in names if not (left and _part_of(name, left))]
        # the seal names the directories; their files are left
    files: list[dict[str, Any]] = [{"name": name, "size": os.lstat(run.file(name)).st_size} for name in names]
    contents, room = {}, _TOGETHER
    for one in files:
        if one["size"] <= min(SMALL, room):
            data = read_found(run.file(str(one["name"])), SMALL)
            room -= len(data)
            contents[one["name"]] = base64.b64encode(data).decode("ascii")
    pruned = read_if_found(run.path + PRUNED, SMALL) if whole else None
    return {
        "run": os.path.basename(run.path),
        "run_directory": run.path,
        "files": files,
        "directories": directories,
        "contents": contents,
        "left": left,
        "pruned": base64.b64encode(pruned or b"").decode("ascii"),
    }


def read_piece(run: RunDirectory, name: str, offset: int) -> str:
    """Return at most ``PIECE`` bytes of a file of the bundle, in base64. Raises ``PhaseGateError``, ``OSError``."""
    if name not in _tree(run.path)[1]:
        raise PhaseGateError(
            "There is no such file in the bundle.",
            expected=f"a file that {SEAL} lists",
            found=name,
            next_step="run again",
        )
    with open_found(run.file(name)) as stream:
        stream.seek(offset)
        return base64.b64encode(stream.read(PIECE)).decode("ascii")


def _part_of(name: str, backup: str) -> bool:
    return name == backup or name.startswith(f"{backup}/")


def _tree(path: str) -> tuple[list[str], list[str]]:
    """Return the names of directories and regular files below a path, sorted. Raises ``PhaseGateError`` for anything else."""
    directories: list[str] = []
    files: list[str] = []
    for folder, inner, here in os.walk(path, followlinks=False):
        for name in (*inner, *here):
            full = os.path.join(folder, name)
            relative = os.path.relpath(full, path)
            if os.path.islink(full) or not (os.path.isdir(full) or os.path.isfile(full)):
                raise PhaseGateError(
                    "The bundle contains what is neither a file nor a directory.",
                    expected="regular files and directories",
                    found=relative,
                    next_step="audit the bundle on its host: what is in it besides files was not written by a run",
                )
            (directories if os.path.isdir(full) else files).append(relative)
    return sorted(directories), sorted(files)
