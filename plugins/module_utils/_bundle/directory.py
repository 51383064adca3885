# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The artefact directory of a run: atomic files, the seal, and the check of a sealed bundle.

A directory is *sealed* when it has ``SHA256SUMS``, which is written last. Nothing may change after that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from typing import Iterable, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Journal
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    atomic_file,
    fsync_directory,
    remove_partial,
    sha256_file,
)

SEAL = audit.SEAL

# An SSH signature over the seal, where there is a key for it.
SIGNATURE = audit.SIGNATURE

JOURNAL = audit.JOURNAL

# The plan that a run carries out, and the one that a rehearsal tries: what people review and approve is made from that, has the
# rehearsal's result in it, and is called plan.json as well. Rehearsals of earlier releases have it under that name, too.
PLAN = "plan.json"
TRIED_PLAN = "phase_plan.json"

FOLDERS = ("schema", "sql", "logs")


@dataclass(frozen=True)
class RunDirectory:
    """An artefact directory by its path."""

    path: str

    @property
    def journal(self) -> Journal:
        """Return the run's journal."""
        return Journal(os.path.join(self.path, JOURNAL))

    @property
    def sealed(self) -> bool:
        """Return whether the seal was set."""
        return os.path.lexists(os.path.join(self.path, SEAL))

    def create(self) -> None:
        """Make the directory and its folders, closed to other users. Existing ones are left unchanged."""
        for folder in FOLDERS:
            os.makedirs(self.file(folder), mode=0o750, exist_ok=True)
        fsync_directory(os.path.dirname(self.path))

    @property
    def has_run(self) -> bool:
        """Return whether this is the directory of a run, not a plain one of a module that is used on its own."""
        return os.path.isfile(self.file(JOURNAL))

    def require_run(self) -> None:
        """Raise ``PhaseGateError`` unless this is the directory of a run that is not sealed yet."""
        if not self.has_run:
            raise PhaseGateError(
                "No open run in this directory.",
                expected=f"an artefact directory with {JOURNAL}",
                found=f"{self.path} without one",
                next_step="open a run first (module run_open or run_prepare)",
            )
        self.require_unsealed()

    def require_unsealed(self) -> None:
        """Raise ``PhaseGateError`` when the seal was set."""
        if self.sealed:
            raise PhaseGateError(
                "This run is sealed; it cannot be changed.",
                expected="an open run",
                found=f"{SEAL} in {self.path}",
                next_step="open a new run",
            )

    @contextlib.contextmanager
    def busy(self, *, wait: bool = True) -> Iterator[None]:
        """Lock the directory while the backup is written into it beside the run's other steps.

        Waits for the current holder, or raises ``BlockingIOError``. The kernel releases the lock when the holder ends.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark the run as alive during the block; several steps may do so at the same time."""
        descriptor = os.open(self.file("logs"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    @property
    def working(self) -> bool:
        """Return whether a step is running."""
        try:
            descriptor = os.open(self.file("logs"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @property
    def plan_path(self) -> str:
        """Return the path of the run's plan, that of ``PLAN`` when it has none."""
        tried = self.file(TRIED_PLAN)
        return tried if os.path.lexists(tried) else self.file(PLAN)

    def sign_of_life(self) -> tuple[int, ...]:
        """Return a value that changes with every line of the journal; an empty tuple without a journal."""
        try:
            status = os.stat(self.file(JOURNAL))
        except FileNotFoundError:
            return ()
        return status.st_mtime_ns, status.st_size

    def file(self, name: str) -> str:
        """Return the path of an artefact by its name relative to the directory."""
        return os.path.join(self.path, name)

    def write(self, name: str, content: bytes) -> str:
        """Write one artefact atomically and return its SHA-256."""
        with atomic_file(self.file(name)) as out:
            out.write(content)
        return out.sha256

    def names(self) -> list[str]:
        """Return the names of all files below the directory, sorted, without the seal and what is written after it."""
        return sorted(name for name in _walk(self.path) if name not in audit.OUTSIDE)

    def directories_found(self) -> list[str]:
        """Return the names of all directories below the directory, sorted; links to one are among ``names``."""
        return sorted(name for name in _walk(self.path, folders=True) if not os.path.islink(self.file(name)))

    def directories(self) -> list[str]:
        """Return what ``directories_found`` does, for the seal. Leftovers of killed writers are removed first."""
        remove_partial(self.path)
        found = self.directories_found()
        _require_writable(found)
        return found

    def sums(self) -> dict[str, str]:
        """Return the SHA-256 of every file by name. Leftover partial files are removed first."""
        remove_partial(self.path)
        names = self.names()
        _require_writable(names)
        return {name: sha256_file(self.file(name)) for name in names}

    def seal(self, sums: Mapping[str, str]) -> str:
        """Write SHA256SUMS over every file, ``sums`` as the method of that name returns them; return its own SHA-256."""
        _require_writable(sums)
        return self.write(SEAL, os.fsencode("".join(f"{sums[name]}  {name}\n" for name in sorted(sums))))


def _require_writable(names: Iterable[str]) -> None:
    """Raise ``PhaseGateError`` for a name that no line of a seal, and no entry of a journal, can hold."""
    for name in names:
        try:
            whole = bool(name.encode("utf-8")) and "\n" not in name
        except UnicodeEncodeError:
            whole = False
        if not whole:
            raise PhaseGateError(
                "Cannot seal a file of the artefact directory.",
                expected="file names in UTF-8 without a line break",
                found=repr(os.fsencode(name)),
                next_step="phasegate writes no such file: find out who did, and rename or remove it; then run again",
            )


def _walk(root: str, *, folders: bool = False) -> Iterator[str]:
    """Yield the names of the files below ``root``, links to directories among them; or those of the directories."""
    for folder, below, files in os.walk(root, followlinks=False, onerror=_raise):
        links = [name for name in below if os.path.islink(os.path.join(folder, name))]
        for name in below if folders else [*files, *links]:
            yield os.path.relpath(os.path.join(folder, name), root)


def _raise(error: OSError) -> None:
    raise error


def open_run_directory(path: str | None, *, check_mode: bool) -> RunDirectory | None:
    """Return the artefact directory at ``path``, made when absent; None without a path and in check mode."""
    if path is None or check_mode:
        return None
    artefacts = RunDirectory(path)
    artefacts.create()
    return artefacts


def name_of(artefacts: RunDirectory) -> str:
    """Return the name of an artefact directory."""
    return os.path.basename(artefacts.path.rstrip("/"))
