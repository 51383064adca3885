# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup of the whole cluster with pg_basebackup."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import (
    BackupJob,
    MadeBackup,
    NotReadable,
    list_files,
    program_words,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import atomic_directory
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.container_files import Download
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

_MAY_REPLICATE = "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = session_user"


def _require_replication(session: Session) -> None:
    """Raise ``PhaseGateError`` unless the role has the privilege that a base backup needs."""
    if session.value(_MAY_REPLICATE) != "t":
        raise PhaseGateError(
            "C-01: the role lacks the REPLICATION attribute, which a base backup needs.",
            expected="the REPLICATION attribute, and a line for database replication in pg_hba.conf",
            found=f"role {session.value('SELECT session_user')} without REPLICATION",
            next_step="ALTER ROLE … REPLICATION as a superuser, or use a dump (phasegate_backup_method: custom)",
        )


def make_base_backup(job: BackupJob, session: Session) -> MadeBackup:
    """Receive a base backup of the whole cluster with the WAL that it needs, and check it with pg_verifybackup.

    Only the tar format can be streamed, and with it no second stream of WAL. A slot that lives as long as ``session``
    keeps the WAL on the server until it is fetched at the end.
    """
    _require_replication(session)
    session.execute(f"SELECT pg_create_physical_replication_slot('phasegate_{job.token}', true, true) \\g /dev/null")
    with atomic_directory(job.path) as partial:
        tar = Download(
            job.client, "pg_basebackup", "--no-password", "--pgdata=-", "--format=tar", "--wal-method=fetch",
            "--checkpoint=fast", "--dbname", job.connection,
        )  # fmt: skip
        digests, size = tar.extract(partial)
        read = job.client.run_on(partial, "pg_verifybackup", partial)
        if read.returncode != 0:
            raise NotReadable("pg_verifybackup", job.name, read.returncode, program_words(read.stderr + read.stdout))
    return list_files(job, digests, size, 0)
