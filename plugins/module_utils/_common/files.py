# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from typing import IO, Any, Iterator, Optional

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, advice
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json

PARTIAL = ".partial"

#: The largest file that is read into memory, in bytes; larger ones (backups) are only hashed.
LIMIT = 256 << 20

#: The largest signature, and the largest text beside a plan, in bytes.
SMALL = 1 << 20


def open_found(path: str, directory: Optional[int] = None) -> IO[bytes]:
    """Open a file that was found in a directory, below the descriptor ``directory`` where it is given.

    It has to be a regular file under this very name: a link could lead anywhere, and a pipe would block. Raises
    ``PhaseGateError``, ``OSError``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        # a socket, or a device without its driver
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_regular(
                path, "a symbolic link" if error.errno == errno.ELOOP else "a socket or device"
            ) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path, "a directory, pipe, or device")
    return os.fdopen(descriptor, "rb")


def read_open(stream: IO[bytes], path: str, limit: int = LIMIT) -> bytes:
    """Return the bytes of an open file, at most ``limit`` of them. Raises ``PhaseGateError`` for a larger one."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise PhaseGateError(
            f"{path} is too large.",
            expected=f"at most {limit} bytes",
            found=f"{os.fstat(stream.fileno()).st_size} bytes",
            next_step="find out what it is, and remove it or put the right file there",
        )
    return data


def read_found(path: str, limit: int = LIMIT) -> bytes:
    """Return the bytes of a file as ``open_found`` opens it. Raises ``FileNotFoundError`` when there is none."""
    with open_found(path) as stream:
        return read_open(stream, path, limit)


def read_file(path: str, limit: int = LIMIT) -> Optional[bytes]:
    """Return what ``read_found`` does, None when there is no such file."""
    try:
        return read_found(path, limit)
    except FileNotFoundError:
        return None


def read_json(path: str) -> Any:
    """Return the value of a JSON file as ``open_found`` opens it. Raises ``PhaseGateError``, ``OSError``."""
    try:
        return parse_json(read_found(path))
    except ValueError as error:
        raise PhaseGateError(
            f"{path} is not valid JSON.",
            expected="one JSON document in UTF-8 with unique keys",
            found=str(error),
            next_step="restore the file as it was written",
        ) from None


def _not_regular(path: str, found: str) -> PhaseGateError:
    return PhaseGateError(
        f"{path} is not a regular file.",
        expected="a regular file: links are not followed, because they could lead to any file of this host",
        found=found,
        next_step="find out who made it; put the file itself there",
    )


def resolved(path: str) -> str:
    """Return the absolute path behind one that a person typed: its links followed, once, and ``~`` expanded."""
    return os.path.realpath(os.path.expanduser(path))


def _new_file(path: str, mode: int) -> int:
    """Make a file and return its descriptor; whatever is there under its name is removed, never written through."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def replace_file(path: str, data: Optional[bytes]) -> None:
    """Write a file beside a plan atomically, with the mode of the umask; None removes it. Raises ``OSError``."""
    if data is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with os.fdopen(_new_file(path + PARTIAL, 0o666), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + PARTIAL, path)


def plan_file_error(error: OSError) -> PhaseGateError:
    """Return the error for a plan, or a file beside it, that cannot be read or written."""
    return PhaseGateError(
        "Cannot read or write a file of the plan.",
        expected="an existing plan.json, and permission to read and write beside it",
        found=str(error),
        next_step=advice(error),
    )


def sha256_file(path: str) -> str:
    """Return the SHA-256 of a file's content, in hex. The file is opened as ``open_found`` does."""
    digest = hashlib.sha256()
    with open_found(path) as stream:
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
    descriptor = _new_file(partial, 0o600)
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
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
