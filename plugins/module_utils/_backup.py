# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fresh backup that was read in full before it counts (C-01, C-02, G-2, G-5). Private to this collection.

``pg_restore --list`` reads the table of contents only and notices neither a truncated nor a damaged archive.
So every byte of the dump goes three ways while it is written: into the file, into its SHA-256, and through a
``pg_restore`` that decompresses and parses all of it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import subprocess
import threading
from dataclasses import asdict, dataclass
from typing import IO, Any

from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._contents import Contents, read_contents
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    HashingWriter,
    atomic_file,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import read_identity

CHUNK = 1 << 20
# pg_dump --compress for each choice; levels as measured to be the best trade for a dump
COMPRESSIONS = {"zstd": "zstd:3", "lz4": "lz4", "gzip": "gzip:6", "none": "none"}
_UNSUPPORTED = re.compile(r"does not support compression", re.IGNORECASE)
_TOC_ENTRIES = re.compile(r"^;\s+TOC Entries: (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class BackupRecord:
    """What is known of one backup file.

    ``size`` in bytes; ``started_epoch`` in seconds by the database server's clock, taken before the dump's
    snapshot; ``toc_entries`` as pg_restore counts them; ``compression`` one of ``COMPRESSIONS``.
    """

    file: str
    size: int
    sha256: str
    started_epoch: float
    database: str
    system_identifier: str
    server_version: str
    pg_dump_version: str
    compression: str
    toc_entries: int
    read_in_full: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return asdict(self)


def _collect(stream: IO[bytes]) -> tuple[threading.Thread, list[bytes]]:
    """Read a stream to its end in the background."""
    parts: list[bytes] = []
    thread = threading.Thread(target=lambda: parts.append(stream.read()), daemon=True)
    thread.start()
    return thread, parts


def _copy(source: IO[bytes], out: HashingWriter, reader: IO[bytes]) -> None:
    """Copy a dump to its file and to the program that reads it in full; a reader that died is judged by its status."""
    reading = True
    while True:
        chunk = source.read(CHUNK)
        if not chunk:
            break
        out.write(chunk)
        if reading:
            try:
                reader.write(chunk)
            except BrokenPipeError:
                reading = False
    with contextlib.suppress(BrokenPipeError):
        reader.close()


def _dump(client: Client, path: str, compression: str, snapshot: str) -> HashingWriter:
    """Write one custom-format dump to ``path``, reading it in full on the way. Raises ``PhaseGateError``."""
    connection = client.connection_string("phasegate:backup")
    with atomic_file(path) as out:
        dump = client.start(
            "pg_dump", "--no-password", "--format=custom", f"--compress={COMPRESSIONS[compression]}",
            f"--snapshot={snapshot}",
            "--dbname", connection,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        read = client.start(
            "pg_restore", "--file=/dev/null",
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert dump.stdout is not None
        assert dump.stderr is not None
        assert read.stdin is not None
        assert read.stderr is not None
        dump_thread, dump_said = _collect(dump.stderr)
        read_thread, read_said = _collect(read.stderr)
        try:
            _copy(dump.stdout, out, read.stdin)
        except BaseException:
            dump.kill()
            read.kill()
            raise
        finally:
            dump_status, read_status = dump.wait(), read.wait()
            dump_thread.join()
            read_thread.join()
        if dump_status != 0:
            raise DumpFailed(dump_status, _words(dump_said))
        if read_status != 0:
            raise PhaseGateError(
                "G-5: the backup cannot be read in full.",
                expected="pg_restore reads every byte of the new dump without an error",
                found=f"pg_restore ended with status {read_status}: {_words(read_said)}",
                next_step="check the versions of pg_dump and pg_restore and the space on both sides, then run again",
            )
    return out


class DumpFailed(PhaseGateError):
    """pg_dump ended with an error. ``said`` is what it printed."""

    def __init__(self, status: int, said: str) -> None:
        self.said = said
        super().__init__(
            "C-01: pg_dump failed; there is no backup.",
            expected="pg_dump ends with status 0",
            found=f"status {status}: {said}",
            next_step="resolve what pg_dump names, then run again; nothing was changed",
        )


def _words(parts: list[bytes]) -> str:
    return b"".join(parts).decode("utf-8", "replace").strip() or "(it printed nothing)"


def toc_entries(client: Client, path: str) -> int:
    """Return the number of TOC entries that ``pg_restore --list`` reports for an archive on this host."""
    with open(path, "rb") as archive:
        listed = client.run("pg_restore", "--list", stdin=archive)
    match = _TOC_ENTRIES.search(listed.stdout.decode("utf-8", "replace"))
    if listed.returncode != 0 or match is None:
        raise PhaseGateError(
            "G-5: the backup's table of contents cannot be listed.",
            expected="pg_restore --list prints the number of TOC entries",
            found=_words([listed.stderr]),
            next_step="make a new backup; keep this file for the investigation",
        )
    return int(match[1])


def back_up(client: Client, path: str, compression: str, *, contents: bool = False) -> tuple[BackupRecord, Contents]:
    """Dump the database to ``path`` and return its record, and with ``contents`` what every table has at that moment.

    ``compression`` is a key of ``COMPRESSIONS``, or ``auto``: zstd where this pg_dump has it, else gzip. The contents
    are read under the dump's own snapshot, beside it.
    """
    with client.session("phasegate:backup") as session:
        identity = read_identity(session, client)
        session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        started, snapshot = session.rows("SELECT extract(epoch FROM clock_timestamp()), pg_export_snapshot()")[0]
        version = client.run("pg_dump", "--version").stdout.decode("utf-8", "replace").strip()
        chosen = "zstd" if compression == "auto" else compression
        with concurrent.futures.ThreadPoolExecutor(max_workers=1) as beside:
            reading = beside.submit(read_contents, session) if contents else None
            try:
                out = _dump(client, path, chosen, snapshot or "")
            except DumpFailed as failure:
                if compression != "auto" or not _UNSUPPORTED.search(failure.said):
                    raise
                chosen = "gzip"
                out = _dump(client, path, chosen, snapshot or "")
            found = reading.result() if reading else {}
    record = BackupRecord(
        file=os.path.basename(path),
        size=out.size,
        sha256=out.sha256,
        started_epoch=float(started or 0),
        database=identity.database,
        system_identifier=identity.system_identifier,
        server_version=identity.server_version,
        pg_dump_version=version,
        compression=chosen,
        toc_entries=toc_entries(client, path),
        read_in_full=True,
    )
    return record, found


def unchanged_since(record: BackupRecord, path: str) -> PhaseGateError | None:
    """Return why the file is not the one that was recorded, or None when size and SHA-256 are the same."""
    found = f"no file {path}"
    if os.path.isfile(path):
        size = os.path.getsize(path)
        digest = sha256_file(path) if size == record.size else ""
        if digest == record.sha256:
            return None
        found = f"{size} bytes" + (f", SHA-256 {digest}" if digest else "")
    return PhaseGateError(
        "The backup is not the file that was read in full.",
        expected=f"{record.file}: {record.size} bytes, SHA-256 {record.sha256}",
        found=found,
        next_step="start a new run, which makes a new backup",
    )
