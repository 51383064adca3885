# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logical backups with pg_dump, hashed and listed while they are written."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
from dataclasses import dataclass
from typing import IO

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import (
    BASEBACKUP,
    CUSTOM,
    DIRECTORY,
    LISTING,
    listing,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.rehearsal_cluster import DeclaredTarget
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    HashingWriter,
    atomic_directory,
    atomic_file,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.container_files import (
    Download,
    staging_application,
    staging_directory,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import NEWEST, compressions

CHUNK = 1 << 20

#: The compressions of the newest server that an operator may ask for.
COMPRESSIONS = tuple(compressions(NEWEST))

PROGRAMS = {CUSTOM: "pg_dump", DIRECTORY: "pg_dump", BASEBACKUP: "pg_basebackup"}

_TOC_ENTRIES = re.compile(r"^;\s+TOC Entries: (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class BackupOptions:
    """The requested backup.

    ``method`` is a key of ``NAMES``; ``compression`` one of ``COMPRESSIONS``, or ``auto``: zstd where this pg_dump and
    the pg_restore that reads it support it, else gzip. ``jobs`` tables of a directory are dumped at once. ``contents``:
    also read the contents of every table, under the dump's snapshot. ``proof``: restore the dump there and compare;
    ``targets`` are what the inventory hosts declare, none of which is that cluster.
    """

    method: str = CUSTOM
    compression: str = "auto"
    jobs: int = 1
    contents: bool = False
    proof: Client | None = None
    targets: tuple[DeclaredTarget, ...] = ()


@dataclass(frozen=True)
class BackupJob:
    """One backup in progress: its directory, its name on the server, the server's major version, and its snapshot."""

    client: Client
    path: str
    token: str
    compression: str
    jobs: int
    major: int
    snapshot: str = ""

    @property
    def name(self) -> str:
        """Return the name in the artefact directory."""
        return os.path.basename(self.path)

    @property
    def connection(self) -> str:
        """Return the connection string; its application name shows a later run that this one is alive."""
        return self.client.connection_string(staging_application(self.token))


@dataclass(frozen=True)
class MadeBackup:
    """The result: total bytes, the SHA-256 of the file or of the listing, and the number of TOC entries."""

    size: int
    sha256: str
    toc_entries: int


class ProgramFailed(PhaseGateError):
    """A PostgreSQL program failed. ``said`` is its output."""

    def __init__(self, program: str, name: str, status: int, said: str) -> None:
        self.said = said
        super().__init__(
            f"C-01: {program} failed; {name} was not created.",
            expected=f"{program} exits with status 0",
            found=f"status {status}: {said}",
            next_step=f"resolve the error that {program} reports, then run again; nothing was changed",
        )


class NotReadable(PhaseGateError):
    """The new backup cannot be read in full. ``said`` is the output of the reader."""

    def __init__(self, program: str, name: str, status: int, said: str) -> None:
        self.said = said
        super().__init__(
            f"G-5: the backup {name} cannot be read in full.",
            expected=f"{program} reads every byte of the new backup without an error",
            found=f"{program} exited with status {status}: {said}",
            next_step="check the versions of the PostgreSQL programs and the free space on both sides, then run again",
        )


def program_words(said: bytes) -> str:
    """Return the output of a program, or say that there is none."""
    return said.decode("utf-8", "replace").strip() or "(no output)"


class ArchiveReader:
    """A program that reads the dump while it is written; if it dies, its exit status decides."""

    def __init__(self, client: Client, *arguments: str) -> None:
        self._process = client.start(
            "pg_restore", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdin is not None
        self._input: IO[bytes] | None = self._process.stdin
        self._streams = [_Collected(stream) for stream in (self._process.stdout, self._process.stderr) if stream]

    def write(self, data: bytes) -> None:
        """Write a piece of the dump to it."""
        if self._input:
            try:
                self._input.write(data)
            except BrokenPipeError:
                self.end()

    def end(self) -> None:
        """Close its input."""
        if self._input:
            with contextlib.suppress(BrokenPipeError):
                self._input.close()
            self._input = None

    def kill(self) -> None:
        """End it and discard its output."""
        self._process.kill()
        self.end()

    def result(self) -> tuple[int, bytes, bytes]:
        """Return its exit status and its output on both streams."""
        output, errors = (stream.text() for stream in self._streams)
        return self._process.wait(), output, errors


class _Collected:
    """A stream that is read to its end in the background."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=lambda: self._parts.append(stream.read()), daemon=True)
        self._thread.start()

    def text(self) -> bytes:
        """Wait for the end and return everything."""
        self._thread.join()
        return b"".join(self._parts)


def copy_stream(source: IO[bytes], out: HashingWriter, readers: list[ArchiveReader]) -> None:
    """Copy a dump to its file and to the programs that read it."""
    for chunk in iter(lambda: source.read(CHUNK), b""):
        out.write(chunk)
        for reader in readers:
            reader.write(chunk)
    for reader in readers:
        reader.end()


def _toc_entries(name: str, status: int, listed: bytes, said: bytes) -> int:
    """Return the number of TOC entries that ``pg_restore --list`` printed."""
    match = _TOC_ENTRIES.search(listed.decode("utf-8", "replace"))
    if status != 0 or match is None:
        raise NotReadable("pg_restore --list", name, status, program_words(said))
    return int(match[1])


def dump_custom(job: BackupJob) -> MadeBackup:
    """Write one custom-format dump, reading it in full on the way."""
    with atomic_file(job.path) as out:
        dump = job.client.start(
            "pg_dump", "--no-password", "--format=custom", f"--compress={compressions(job.major)[job.compression]}",
            f"--snapshot={job.snapshot}", "--dbname", job.connection,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert dump.stdout is not None
        assert dump.stderr is not None
        said = _Collected(dump.stderr)
        full, contents = ArchiveReader(job.client, "--file=/dev/null"), ArchiveReader(job.client, "--list")
        try:
            copy_stream(dump.stdout, out, [full, contents])
        except BaseException:
            dump.kill()
            full.kill()
            contents.kill()
            raise
        finally:
            dump.wait()
            read, listed = full.result(), contents.result()
        if dump.returncode != 0:
            raise ProgramFailed("pg_dump", job.name, dump.returncode, program_words(said.text()))
        if read[0] != 0:
            raise NotReadable("pg_restore", job.name, read[0], program_words(read[2]))
        entries = _toc_entries(job.name, *listed)
    return MadeBackup(out.size, out.sha256, entries)


def list_files(job: BackupJob, digests: dict[str, str], size: int, entries: int) -> MadeBackup:
    """Write the listing of a directory that is complete."""
    with atomic_file(job.path + LISTING) as out:
        out.write(listing({f"{job.name}/{name}": digest for name, digest in digests.items()}))
    return MadeBackup(size, out.sha256, entries)


def read_directory(client: Client, directory: str, name: str) -> int:
    """Read all files of a dump on this host with pg_restore and return the number of its TOC entries."""
    read = client.run_on(directory, "pg_restore", "--file=/dev/null", directory)
    if read.returncode != 0:
        raise NotReadable("pg_restore", name, read.returncode, program_words(read.stderr))
    listed = client.run_on(directory, "pg_restore", "--list", directory)
    return _toc_entries(name, listed.returncode, listed.stdout, listed.stderr)


def dump_directory(job: BackupJob) -> MadeBackup:
    """Write one directory-format dump and read it in full.

    pg_dump cannot stream this format, so in a container it writes to a directory there, which is then copied out.
    """
    arguments = (
        "--no-password", "--format=directory", f"--compress={compressions(job.major)[job.compression]}", f"--jobs={job.jobs}",
        f"--snapshot={job.snapshot}", "--dbname", job.connection,
    )  # fmt: skip

    def dump(directory: str) -> None:
        done = job.client.run("pg_dump", *arguments, "--file", directory)
        if done.returncode != 0:
            raise ProgramFailed("pg_dump", job.name, done.returncode, program_words(done.stderr))

    with atomic_directory(job.path) as partial:
        if job.client.container:
            with staging_directory(job.client, job.token) as place:
                dump(place + "/dump")
                tar = Download(job.client, "tar", "-C", place + "/dump", "-cf", "-", ".")
                digests, size = tar.extract(partial)
        else:
            dump(partial)
            names = os.listdir(partial)
            digests = {name: sha256_file(os.path.join(partial, name)) for name in names}
            size = sum(os.path.getsize(os.path.join(partial, name)) for name in names)
        entries = read_directory(job.client, partial, job.name)
    return list_files(job, digests, size, entries)
