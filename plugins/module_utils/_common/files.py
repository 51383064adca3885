# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from typing import IO, Iterator, Optional

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, advice


def read_file(path: str) -> Optional[bytes]:
    """Return a file's bytes, None when there is none. Raises ``OSError``."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def replace_file(path: str, data: Optional[bytes]) -> None:
    """Write a file beside a plan atomically, with the mode of the umask; None removes it. Raises ``OSError``."""
    if data is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with open(path + ".partial", "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".partial", path)


def plan_file_error(error: OSError) -> PhaseGateError:
    """Return the error for a plan, or a file beside it, that cannot be read or written."""
    return PhaseGateError(
        "Cannot read or write a file of the plan.",
        expected="an existing plan.json, and permission to read and write beside it",
        found=str(error),
        next_step=advice(error),
    )


PARTIAL = ".partial"


def sha256_file(path: str) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def fsync_directory(path: str) -> None:
    """Make a rename or a new name in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class HashingWriter:
    """A binary file that is hashed while it is written. ``size`` in bytes; ``sha256`` in hex after the last write."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write and hash ``data``."""
        self._digest.update(data)
        self.size += len(data)
        return self._stream.write(data)

    def flush(self) -> None:
        """Hand everything written to the operating system."""
        self._stream.flush()

    @property
    def sha256(self) -> str:
        """Return the digest of everything written so far."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[HashingWriter]:
    """Write ``path`` through ``path.partial``; it appears under its name complete and on disk, or not at all."""
    partial = path + PARTIAL
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield HashingWriter(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
        fsync_directory(os.path.dirname(path) or ".")
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        # a failed write (no space left) does not name its file
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path
        raise


@contextlib.contextmanager
def atomic_directory(path: str) -> Iterator[str]:
    """Yield the new empty directory ``path.partial``; it becomes ``path`` complete and on disk, or is removed.

    The block makes the files in it durable; an existing directory is replaced.
    """
    partial = path + PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    os.mkdir(partial, 0o700)
    try:
        yield partial
        for folder, _folders, _files in os.walk(partial):
            fsync_directory(folder)
        if os.path.isdir(path):
            shutil.rmtree(path)
        os.rename(partial, path)
        fsync_directory(os.path.dirname(path) or ".")
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path
        raise


def remove_partial(path: str) -> list[str]:
    """Delete the partial files of killed writers in a directory, and return their names, relative and sorted."""
    found = []
    for folder, folders, files in os.walk(path):
        found += [os.path.relpath(os.path.join(folder, name), path) for name in files if name.endswith(PARTIAL)]
        found += [os.path.relpath(os.path.join(folder, name), path) for name in folders if name.endswith(PARTIAL)]
        folders[:] = [name for name in folders if not name.endswith(PARTIAL)]
    for name in found:
        target = os.path.join(path, name)
        if os.path.isdir(target) and not os.path.islink(target):
            shutil.rmtree(target)
        else:
            os.unlink(target)
    return sorted(found)


def file_error(error: OSError) -> PhaseGateError:
    """Return the error for a file of the artefact directory that cannot be read or written."""
    return PhaseGateError(
        "Cannot read or write in the artefact directory.",
        expected="an existing directory with free space, and permission to read and write below it",
        found=str(error),
        next_step=advice(error),
    )


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of ``data``, lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def remove_path(path: str) -> None:
    """Remove a file or a whole directory of this host."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def sync_file(path: str) -> None:
    """Make a file's content durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
