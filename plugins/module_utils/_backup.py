# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fresh backup that was read in full before it counts (C-01, C-02).

``pg_restore --list`` reads the table of contents only and notices neither a truncated nor a damaged archive. So every
byte of a dump goes through a ``pg_restore`` that decompresses and parses all of it: for the custom format while it is
written, together with the file and its SHA-256; for the directory format from its files. A base backup is hashed while it
is received and then read by ``pg_verifybackup``.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import secrets
import subprocess
import threading
from dataclasses import dataclass, replace
from typing import IO, Any

from ansible_collections.incomex.phasegate.plugins.module_utils import _restore, _staging
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_record import (
    BASEBACKUP,
    CUSTOM,
    DIRECTORY,
    LISTING,
    MARKER,
    NAMES,
    ROLES,
    BackupRecord,
    listing,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._contents import Contents, read_contents
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    PARTIAL,
    Artefacts,
    HashingWriter,
    atomic_directory,
    atomic_file,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._privileges import for_dump
from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session

CHUNK = 1 << 20
# pg_dump --compress for each choice; levels as measured to be the best trade for a dump
COMPRESSIONS = {"zstd": "zstd:3", "lz4": "lz4", "gzip": "gzip:6", "none": "none"}
PROGRAMS = {CUSTOM: "pg_dump", DIRECTORY: "pg_dump", BASEBACKUP: "pg_basebackup"}
_UNSUPPORTED = re.compile(r"does not support compression", re.IGNORECASE)
_TOC_ENTRIES = re.compile(r"^;\s+TOC Entries: (\d+)$", re.MULTILINE)
_MAY_REPLICATE = "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = session_user"


@dataclass(frozen=True)
class Wanted:
    """The requested backup.

    ``method`` is a key of ``NAMES``; ``compression`` one of ``COMPRESSIONS``, or ``auto``: zstd where this pg_dump and
    the pg_restore that reads it support it, else gzip. ``jobs`` tables of a directory are dumped at once. ``contents``:
    also read the contents of every table, under the dump's snapshot. ``proof``: restore the dump there and compare.
    """

    method: str = CUSTOM
    compression: str = "auto"
    jobs: int = 1
    contents: bool = False
    proof: Client | None = None


@dataclass(frozen=True)
class _Job:
    """One backup in progress: its directory, its name on the server, and its snapshot."""

    client: Client
    path: str
    token: str
    compression: str
    jobs: int
    snapshot: str = ""

    @property
    def name(self) -> str:
        """Return the name in the artefact directory."""
        return os.path.basename(self.path)

    @property
    def connection(self) -> str:
        """Return the connection string; its application name shows a later run that this one is alive."""
        return self.client.connection_string(_staging.application(self.token))


@dataclass(frozen=True)
class _Made:
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


def _words(said: bytes) -> str:
    return said.decode("utf-8", "replace").strip() or "(no output)"


class _Reader:
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


def _copy(source: IO[bytes], out: HashingWriter, readers: list[_Reader]) -> None:
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
        raise NotReadable("pg_restore --list", name, status, _words(said))
    return int(match[1])


def _custom(job: _Job) -> _Made:
    """Write one custom-format dump, reading it in full on the way."""
    with atomic_file(job.path) as out:
        dump = job.client.start(
            "pg_dump", "--no-password", "--format=custom", f"--compress={COMPRESSIONS[job.compression]}",
            f"--snapshot={job.snapshot}", "--dbname", job.connection,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert dump.stdout is not None
        assert dump.stderr is not None
        said = _Collected(dump.stderr)
        full, contents = _Reader(job.client, "--file=/dev/null"), _Reader(job.client, "--list")
        try:
            _copy(dump.stdout, out, [full, contents])
        except BaseException:
            dump.kill()
            full.kill()
            contents.kill()
            raise
        finally:
            dump.wait()
            read, listed = full.result(), contents.result()
        if dump.returncode != 0:
            raise ProgramFailed("pg_dump", job.name, dump.returncode, _words(said.text()))
        if read[0] != 0:
            raise NotReadable("pg_restore", job.name, read[0], _words(read[2]))
        entries = _toc_entries(job.name, *listed)
    return _Made(out.size, out.sha256, entries)


def _list_files(job: _Job, digests: dict[str, str], size: int, entries: int) -> _Made:
    """Write the listing of a directory that is complete."""
    with atomic_file(job.path + LISTING) as out:
        out.write(listing({f"{job.name}/{name}": digest for name, digest in digests.items()}))
    return _Made(size, out.sha256, entries)


def _read_directory(client: Client, directory: str, name: str) -> int:
    """Read all files of a dump on this host with pg_restore and return the number of its TOC entries."""
    read = client.run_on(directory, "pg_restore", "--file=/dev/null", directory)
    if read.returncode != 0:
        raise NotReadable("pg_restore", name, read.returncode, _words(read.stderr))
    listed = client.run_on(directory, "pg_restore", "--list", directory)
    return _toc_entries(name, listed.returncode, listed.stdout, listed.stderr)


def _directory(job: _Job) -> _Made:
    """Write one directory-format dump and read it in full.

    pg_dump cannot stream this format, so in a container it writes to a directory there, which is then copied out.
    """
    arguments = (
        "--no-password", "--format=directory", f"--compress={COMPRESSIONS[job.compression]}", f"--jobs={job.jobs}",
        f"--snapshot={job.snapshot}", "--dbname", job.connection,
    )  # fmt: skip

    def dump(directory: str) -> None:
        done = job.client.run("pg_dump", *arguments, "--file", directory)
        if done.returncode != 0:
            raise ProgramFailed("pg_dump", job.name, done.returncode, _words(done.stderr))

    with atomic_directory(job.path) as partial:
        if job.client.container:
            with _staging.directory(job.client, job.token) as place:
                dump(place + "/dump")
                tar = _staging.Download(job.client, "tar", "-C", place + "/dump", "-cf", "-", ".")
                digests, size = tar.extract(partial)
        else:
            dump(partial)
            names = os.listdir(partial)
            digests = {name: sha256_file(os.path.join(partial, name)) for name in names}
            size = sum(os.path.getsize(os.path.join(partial, name)) for name in names)
        entries = _read_directory(job.client, partial, job.name)
    return _list_files(job, digests, size, entries)


def _require_replication(session: Session) -> None:
    """Raise ``PhaseGateError`` unless the role has the privilege that a base backup needs."""
    if session.value(_MAY_REPLICATE) != "t":
        raise PhaseGateError(
            "C-01: the role lacks the REPLICATION attribute, which a base backup needs.",
            expected="the REPLICATION attribute, and a line for database replication in pg_hba.conf",
            found=f"role {session.value('SELECT session_user')} without REPLICATION",
            next_step="ALTER ROLE … REPLICATION as a superuser, or use a dump (phasegate_backup_method: custom)",
        )


def _basebackup(job: _Job, session: Session) -> _Made:
    """Receive a base backup of the whole cluster with the WAL that it needs, and check it with pg_verifybackup.

    Only the tar format can be streamed, and with it no second stream of WAL. A slot that lives as long as ``session``
    keeps the WAL on the server until it is fetched at the end.
    """
    _require_replication(session)
    session.execute(f"SELECT pg_create_physical_replication_slot('phasegate_{job.token}', true, true) \\g /dev/null")
    with atomic_directory(job.path) as partial:
        tar = _staging.Download(
            job.client, "pg_basebackup", "--no-password", "--pgdata=-", "--format=tar", "--wal-method=fetch",
            "--checkpoint=fast", "--dbname", job.connection,
        )  # fmt: skip
        digests, size = tar.extract(partial)
        read = job.client.run_on(partial, "pg_verifybackup", partial)
        if read.returncode != 0:
            raise NotReadable("pg_verifybackup", job.name, read.returncode, _words(read.stderr + read.stdout))
    return _list_files(job, digests, size, 0)


def _roles(job: _Job) -> list[str]:
    """Dump the cluster's roles beside the dump, and return what it lacks, one phrase each.

    Password hashes are left out: more people read a bundle than may test passwords against them.
    """
    done = job.client.run(
        "pg_dumpall", "--roles-only", "--no-role-passwords", "--no-password",
        "--dbname", job.connection, "--database", job.client.database,
    )  # fmt: skip
    path = os.path.join(os.path.dirname(job.path), ROLES)
    if done.returncode != 0:
        # the dump itself is complete without them
        _remove(Artefacts(os.path.dirname(path)), ROLES)
        return [f"roles (pg_dumpall: {_words(done.stderr)})"]
    with atomic_file(path) as out:
        out.write(done.stdout)
    return ["passwords of roles"]


def _version(client: Client, program: str) -> str:
    return client.run(program, "--version").stdout.decode("utf-8", "replace").strip()


def _dump(job: _Job, method: str, compression: str) -> tuple[_Made, str]:
    """Make the dump with the best compression that both sides support; return it with that compression."""
    make = _custom if method == CUSTOM else _directory
    first = "zstd" if compression == "auto" else compression
    try:
        return make(replace(job, compression=first)), first
    except (ProgramFailed, NotReadable) as failure:
        if not _UNSUPPORTED.search(failure.said):
            raise
        if compression != "auto":
            raise PhaseGateError(
                f"C-01: the backup cannot be compressed with {compression}.",
                expected=f"support for {compression} in pg_dump and in the pg_restore that reads the dump",
                found=failure.found,
                next_step="set phasegate_compression to auto, which uses what both support, or to gzip; then run again",
            ) from None
    return make(replace(job, compression="gzip")), "gzip"


def back_up(client: Client, artefacts: Artefacts, wanted: Wanted) -> tuple[BackupRecord, Contents]:
    """Make the backup in the artefact directory and return its record, and with ``contents`` those of every table.

    Raises ``PhaseGateError``; then no part of a backup is left.
    """
    if wanted.method == BASEBACKUP and (wanted.contents or wanted.proof or wanted.compression not in ("auto", "none")):
        raise PhaseGateError(
            "C-01: unsupported options for a base backup.",
            expected="neither contents nor proof, compression auto or none",
            found="options of a dump; a base backup has files of the whole cluster, which pg_verifybackup checks",
            next_step="remove these options, or use a dump (custom or directory)",
        )
    name = NAMES[wanted.method]
    job = _Job(client, artefacts.file(name), secrets.token_hex(6), "none", wanted.jobs)
    with client.session(_staging.application(job.token)) as session, concurrent.futures.ThreadPoolExecutor() as beside:
        identity = read_identity(session, client)
        version = beside.submit(_version, client, PROGRAMS[wanted.method])
        clock = "SELECT extract(epoch FROM clock_timestamp())"
        contents: Contents = {}
        not_dumped: list[str] = []
        source: dict[str, Any] = {}
        if wanted.method == BASEBACKUP:
            started = session.value(clock)
            made, compression = _basebackup(job, session), "none"
        else:
            if wanted.proof:
                source = _restore.source_of(session, identity)
            session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            started, snapshot = session.rows(clock + ", pg_export_snapshot()")[0]
            roles = beside.submit(_roles, job)
            reading = beside.submit(read_contents, session) if wanted.contents or wanted.proof else None
            try:
                made, compression = _dump(replace(job, snapshot=snapshot or ""), wanted.method, wanted.compression)
            except ProgramFailed as failure:
                # the other session is busy
                with client.session() as asking:
                    grants = " ".join(for_dump(asking))
                if not grants:
                    raise
                raise PhaseGateError(
                    failure.what, expected=failure.expected, found=failure.found, next_step=grants
                ) from failure
            contents = reading.result() if reading else {}
            not_dumped = roles.result()
    proof = _restore.prove(wanted.proof, job.path, source, contents, wanted.jobs) if wanted.proof else {}
    for other in set(NAMES.values()) - {name}:
        _remove(artefacts, other, other + LISTING)
    record = BackupRecord(
        method=wanted.method,
        file=name,
        size=made.size,
        sha256=made.sha256,
        started_epoch=float(started or 0),
        database=identity.database,
        system_identifier=identity.system_identifier,
        server_version=identity.server_version,
        program_version=version.result(),
        compression=compression,
        toc_entries=made.toc_entries,
        read_in_full=True,
        not_dumped=not_dumped,
        proof=proof,
    )
    return record, contents


def _remove(artefacts: Artefacts, *names: str) -> None:
    """Delete the backup of an earlier call by another method from a plain directory: a directory contains one backup."""
    for path in map(artefacts.file, names):
        if os.path.lexists(path):
            _staging.remove(path)


def remove_leftovers(artefacts: Artefacts) -> list[str]:
    """Delete the remains of killed backups here and in the open runs beside this one; return the paths, sorted.

    A run whose directory is locked is still making its backup.
    """
    names = [name + PARTIAL for name in (*NAMES.values(), *(n + LISTING for n in NAMES.values()), MARKER, ROLES)]
    root = os.path.dirname(os.path.abspath(artefacts.path))
    removed = []
    for entry in sorted(os.listdir(root)):
        other = Artefacts(os.path.join(root, entry))
        mine = os.path.abspath(artefacts.path) == other.path
        left = [other.file(name) for name in names if os.path.lexists(other.file(name))]
        if not left or not (mine or (other.has_run and not other.sealed)):
            continue
        with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as held:
            if not mine:
                held.enter_context(other.busy(wait=False))
            for path in left:
                _staging.remove(path)
                removed.append(path)
    return removed
