# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore a backup into a rehearsal cluster and prove that the copy has what the source had. Private."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._contents import Contents, differences, read_contents
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import Identity, read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._sql import identifier, literal

# The comment of a database that a rehearsal made: only such a database is ever dropped.
MARK = "phasegate rehearsal"

_STATE = """
SELECT d.oid IS NOT NULL, coalesce(shobj_description(d.oid, 'pg_database'), '')
FROM (SELECT) one LEFT JOIN pg_database d ON d.datname = {name}
"""

_ROLES = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"


def require_other_cluster(source: str, found: Identity) -> None:
    """Raise ``PhaseGateError`` when the rehearsal cluster is the source's cluster. ``source`` is a system identifier."""
    if found.system_identifier == source:
        raise PhaseGateError(
            "The rehearsal cluster is the production cluster.",
            expected=f"another cluster than system identifier {source}",
            found=found.describe(),
            next_step="correct the connection of the rehearsal cluster in the inventory",
        )


def _prepare_database(session: Session, name: str) -> None:
    """Make an empty database of this name; one that a rehearsal made before is dropped, any other is left alone."""
    exists, comment = session.rows(_STATE.format(name=literal(name)))[0]
    if exists == "t" and comment != MARK:
        raise PhaseGateError(
            f"The rehearsal cluster has a database {name!r} that no rehearsal made.",
            expected=f"no such database, or one with the comment {MARK!r}",
            found=f"comment {comment!r}",
            next_step="use another cluster, or drop that database yourself when nobody needs it",
        )
    session.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")
    session.execute(f"CREATE DATABASE {identifier(name)} TEMPLATE template0")
    session.execute(f"COMMENT ON DATABASE {identifier(name)} IS {literal(MARK)}")


def _prepare_roles(session: Session, roles: Sequence[str]) -> list[str]:
    """Make every role that is missing, without login, and return their names."""
    present = {row[0] for row in session.rows(_ROLES)}
    missing = [role for role in roles if role not in present]
    for role in missing:
        session.execute(f"CREATE ROLE {identifier(role)} NOLOGIN")
    return missing


def _require_extensions(session: Session, extensions: Sequence[str]) -> None:
    available = {row[0] for row in session.rows("SELECT name FROM pg_available_extensions")}
    missing = sorted(set(extensions) - available)
    if missing:
        raise PhaseGateError(
            "The rehearsal cluster lacks extensions that the backup needs.",
            expected=", ".join(sorted(extensions)),
            found="missing: " + ", ".join(missing),
            next_step="install them in the rehearsal cluster, or use an image that has them",
        )


def _pg_restore(client: Client, archive: str) -> None:
    connection = client.connection_string("phasegate:restore")
    with open(archive, "rb") as stream:
        done = subprocess.run(
            client.argv("pg_restore", "--exit-on-error", "--no-password", "--dbname", connection),
            stdin=stream,
            capture_output=True,
            check=False,
        )
    if done.returncode != 0:
        raise PhaseGateError(
            "G-5: the backup does not restore.",
            expected="pg_restore ends with status 0",
            found=done.stderr.decode("utf-8", "replace").strip(),
            next_step="resolve what pg_restore names; a backup that does not restore is none",
        )


def restore(
    client: Client, archive: str, *, source: str, roles: Sequence[str], extensions: Sequence[str], contents: Contents
) -> dict[str, object]:
    """Restore ``archive`` into a fresh database of the rehearsal cluster and return what there is to say of it.

    ``source`` is the system identifier of the cluster that the backup is of; ``contents`` what its tables had under
    the dump's snapshot. Raises ``PhaseGateError`` naming every table that differs.
    """
    with dataclasses.replace(client, database="postgres").session("phasegate:restore") as session:
        found = read_identity(session, client)
        require_other_cluster(source, found)
        _prepare_database(session, client.database)
        created = _prepare_roles(session, roles)
        _require_extensions(session, extensions)
    _pg_restore(client, archive)
    with client.session("phasegate:restore") as session:
        wrong = differences(contents, read_contents(session))
        session.execute("ANALYZE")
    if wrong:
        raise PhaseGateError(
            "G-5: the restored copy differs from the source.",
            expected="the same rows in every table",
            found="; ".join(wrong),
            next_step="find out why the backup does not hold the data; do not rely on it",
        )
    return {"cluster": found.as_dict(), "roles_created": created, "tables": len(contents)}
