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
from dataclasses import replace
from typing import Any

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.base_backup import make_base_backup
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import (
    PROGRAMS,
    BackupJob,
    BackupOptions,
    MadeBackup,
    NotReadable,
    ProgramFailed,
    dump_custom,
    dump_directory,
    program_words,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.progress import TablesRead
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import (
    BASEBACKUP,
    CUSTOM,
    LISTING,
    MARKER,
    NAMES,
    ROLES,
    BackupRecord,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.rehearsal_cluster import CopyRules
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.restore import prove_restorable, restored_source
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.table_digests import (
    TableDigests,
    read_table_digests,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import PARTIAL, atomic_file, remove_path
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.container_files import staging_application
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import dump_privilege_advice
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import compressions

_UNSUPPORTED = re.compile(r"does not support compression", re.IGNORECASE)


def _roles(job: BackupJob) -> list[str]:
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
        _remove(RunDirectory(os.path.dirname(path)), ROLES)
        return [f"roles (pg_dumpall: {program_words(done.stderr)})"]
    with atomic_file(path) as out:
        out.write(done.stdout)
    return ["passwords of roles"]


def _version(client: Client, program: str) -> str:
    return client.run(program, "--version").stdout.decode("utf-8", "replace").strip()


def _require_same_major(version: str, major: int) -> None:
    """Raise ``PhaseGateError`` unless the programs have the server's major version: no other one's dump need restore there."""
    found = re.search(r"\) (\d+)", version)
    if not found or int(found[1]) != major:
        raise PhaseGateError(
            "C-01: the programs of PostgreSQL have another major version than the server.",
            expected=f"PostgreSQL {major}",
            found=version or "no version",
            next_step=f"install the client programs of PostgreSQL {major} and name their directory in phasegate_bindir",
        )


def _run_format(job: BackupJob, method: str, compression: str) -> tuple[MadeBackup, str]:
    """Make the dump with the best compression that both sides support; return it with that compression."""
    make = dump_custom if method == CUSTOM else dump_directory
    known = compressions(job.major)
    first = next(iter(known)) if compression == "auto" else compression
    if first not in known:
        raise PhaseGateError(
            f"C-01: pg_dump of PostgreSQL {job.major} does not compress with {first}.",
            expected=f"auto, or one of {', '.join(known)}",
            found=first,
            next_step="set phasegate_compression to auto; then run again",
        )
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


def back_up(
    client: Client, artefacts: RunDirectory, wanted: BackupOptions, tables: TablesRead | None = None
) -> tuple[BackupRecord, TableDigests]:
    """Make the backup in the artefact directory and return its record, and with ``contents`` those of every table, which ``tables`` counts.

    Raises ``PhaseGateError``; then no part of a backup is left.
    """
    tables = tables or TablesRead()
    if wanted.method == BASEBACKUP and (wanted.contents or wanted.proof or wanted.compression not in ("auto", "none")):
        raise PhaseGateError(
            "C-01: unsupported options for a base backup.",
            expected="neither contents nor proof, compression auto or none",
            found="options of a dump; a base backup has files of the whole cluster, which pg_verifybackup checks",
            next_step="remove these options, or use a dump (custom or directory)",
        )
    name = NAMES[wanted.method]
    token = secrets.token_hex(6)
    with client.session(staging_application(token)) as session, concurrent.futures.ThreadPoolExecutor() as beside:
        version = beside.submit(_version, client, PROGRAMS[wanted.method])
        job = BackupJob(client, artefacts.file(name), token, "none", wanted.jobs, session.major)
        identity = read_identity(session, client)
        _require_same_major(version.result(), session.major)
        clock = "SELECT extract(epoch FROM clock_timestamp())"
        contents: TableDigests = {}
        not_dumped: list[str] = []
        source: dict[str, Any] = {}
        if wanted.method == BASEBACKUP:
            started = session.value(clock)
            made, compression = make_base_backup(job, session), "none"
        else:
            if wanted.proof:
                source = restored_source(session, identity)
            session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            started, snapshot = session.rows(clock + ", pg_export_snapshot()")[0]
            roles = beside.submit(_roles, job)
            reading = (
                beside.submit(read_table_digests, session, tables.source) if wanted.contents or wanted.proof else None
            )
            try:
                made, compression = _run_format(
                    replace(job, snapshot=snapshot or ""), wanted.method, wanted.compression
                )
            except ProgramFailed as failure:
                # the other session is busy
                with client.session() as asking:
                    grants = " ".join(dump_privilege_advice(asking))
                if not grants:
                    raise
                raise PhaseGateError(
                    failure.what, expected=failure.expected, found=failure.found, next_step=grants
                ) from failure
            contents = reading.result() if reading else {}
            not_dumped = roles.result()
    rules = CopyRules(os.path.dirname(os.path.abspath(artefacts.path)), wanted.targets)
    proof = (
        prove_restorable(wanted.proof, job.path, source, contents, wanted.jobs, rules, tables.copy)
        if wanted.proof
        else {}
    )
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


def _remove(artefacts: RunDirectory, *names: str) -> None:
    """Delete the backup of an earlier call by another method from a plain directory: a directory contains one backup."""
    for path in map(artefacts.file, names):
        if os.path.lexists(path):
            remove_path(path)


def remove_leftovers(artefacts: RunDirectory) -> list[str]:
    """Delete the remains of killed backups here and in the open runs beside this one; return the paths, sorted.

    A run whose directory is locked is still making its backup.
    """
    names = [name + PARTIAL for name in (*NAMES.values(), *(n + LISTING for n in NAMES.values()), MARKER, ROLES)]
    root = os.path.dirname(os.path.abspath(artefacts.path))
    removed = []
    for entry in sorted(os.listdir(root)):
        other = RunDirectory(os.path.join(root, entry))
        mine = os.path.abspath(artefacts.path) == other.path
        left = [other.file(name) for name in names if os.path.lexists(other.file(name))]
        if not left or not (mine or (other.has_run and not other.sealed)):
            continue
        with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as held:
            if not mine:
                held.enter_context(other.busy(wait=False))
            for path in left:
                remove_path(path)
                removed.append(path)
    return removed
