# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories in and out of a container: a temporary one inside it, and tar to copy files in and out."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import posixpath
import subprocess
import tarfile
import tempfile
from typing import Iterator

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import HashingWriter, sync_file
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client

# In the container; the token of the run that made it follows.
PREFIX = "phasegate-"

PLACE = "/tmp"  # noqa: S108 - a new directory there, closed to others

_CHUNK = 1 << 20


def staging_application(token: str) -> str:
    """Return the application name of a backup's sessions: while one is there, its directory is in use."""
    return f"phasegate:backup:{token}"


def _run(client: Client, program: str, *arguments: str) -> bytes:
    done = client.run(program, *arguments)
    if done.returncode != 0:
        raise _failed(client, program, done.returncode, done.stderr)
    return done.stdout


def _failed(client: Client, program: str, status: int, said: bytes) -> PhaseGateError:
    return PhaseGateError(
        f"{program} failed ({client.place}).",
        expected=f"{program} exits with status 0",
        found=f"status {status}: {said.decode('utf-8', 'replace').strip()}",
        next_step=f"resolve the error that {program} reports (space, permissions, missing privilege), then run again",
    )


@contextlib.contextmanager
def staging_directory(client: Client, token: str) -> Iterator[str]:
    """Yield the path of an empty directory in the container; it is removed at the end.

    Directories of killed runs are removed first: those without a session of their application name on the server.
    """
    found = _run(client, "ls", "-1", PLACE).decode("utf-8", "replace").split("\n")
    tokens = [name[len(PREFIX) :] for name in found if name.startswith(PREFIX)]
    if tokens:
        with client.session() as session:
            alive = {row[0] for row in session.rows("SELECT application_name FROM pg_stat_activity")}
        for dead in tokens:
            if staging_application(dead) not in alive:
                _run(client, "rm", "-rf", f"{PLACE}/{PREFIX}{dead}")
    path = f"{PLACE}/{PREFIX}{token}"
    _run(client, "mkdir", "-m", "700", path)
    try:
        yield path
    finally:
        client.run("rm", "-rf", path)


class Download:
    """A program that writes a tar stream, in the place of ``client``."""

    def __init__(self, client: Client, program: str, *arguments: str) -> None:
        self._client = client
        self._program = program
        # a file, so that much of it cannot stop the program
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by extract
        self._process = client.start(
            program, *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said
        )

    def extract(self, target: str) -> tuple[dict[str, str], int]:
        """Write the files below ``target``, on disk when this returns; return their SHA-256 by name, and their bytes.

        Raises ``PhaseGateError`` when the program failed or the stream contains anything but files and directories.
        """
        assert self._process.stdout is not None
        problem: tarfile.TarError | None = None
        digests: dict[str, str] = {}
        size = 0
        with self._said, self._process.stdout as stream:
            try:
                with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK) as archive:
                    for member in archive:
                        name = posixpath.normpath(member.name)
                        if name != ".":
                            size += _extract(archive, member, name, target, digests)
                # what pads the last record
                while stream.read(_CHUNK):
                    pass
            except tarfile.TarError as error:
                problem = error
            except BaseException:
                self._process.kill()
                raise
            finally:
                stream.close()
                status = self._process.wait()
            self._said.seek(0)
            said = self._said.read()
        if status != 0 or problem:
            raise _failed(self._client, self._program, status, said or str(problem).encode())
        # many small files: side by side the disk is asked for them together
        with concurrent.futures.ThreadPoolExecutor(max_workers=16) as beside:
            list(beside.map(sync_file, (os.path.join(target, name) for name in digests)))
        return digests, size


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, target: str, digests: dict[str, str]) -> int:
    """Write one member and return its size in bytes."""
    path = os.path.join(target, name)
    if name.startswith(("/", "../")) or name == ".." or not (member.isfile() or member.isdir()):
        raise PhaseGateError(
            "The backup stream contains an unsupported entry type.",
            expected="files and directories below the backup",
            found=f"{member.name} (tar type {member.type!r})",
            next_step="a base backup of a cluster with such a link cannot be received as one stream: use a dump",
        )
    if member.isdir():
        os.makedirs(path, mode=0o700, exist_ok=True)
        return 0
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        out = HashingWriter(stream)
        for chunk in iter(lambda: content.read(_CHUNK), b""):
            out.write(chunk)
    digests[name] = out.sha256
    return out.size


def upload_files(client: Client, source: str, target: str) -> None:
    """Copy a directory of this host to ``target`` in the container, which exists."""
    process = client.start("tar", "-C", target, "-xf", "-", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    # when tar ends early, its exit status shows it
    with contextlib.suppress(BrokenPipeError), process.stdin as stream:  # noqa: SIM117
        with tarfile.open(fileobj=stream, mode="w|", bufsize=_CHUNK) as archive:
            archive.add(source, arcname=".")
    if process.wait() != 0:
        raise _failed(client, "tar", process.returncode, b"it could not write the backup's files")
