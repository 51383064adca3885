# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore a backup into a rehearsal cluster and prove that the copy matches the source."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from typing import Any, ContextManager, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.made_databases import MadeDatabases
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.rehearsal_cluster import (
    CopyRules,
    require_rehearsal_cluster,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.table_digests import (
    Seen,
    TableDigests,
    read_table_digests,
    table_differences,
    unseen,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    open_found,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.container_files import (
    staging_application,
    staging_directory,
    upload_files,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity, read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.role_copy import give_access
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import (
    diff_server_settings,
    major_version,
    server_facts,
)

MAINTENANCE = "postgres"

# A name without a schema that was not found: a qualified one has a dot in it.
_UNQUALIFIED = re.compile(r'(?:function ([^\s.(]+)\([^\n]*\)|relation "([^"\n.]+)"|type "([^"\n.]+)") does not exist')

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


def _database_options(server: Mapping[str, Any]) -> str:
    """Return the options of CREATE DATABASE for the source's encoding and collation."""
    collation = server["collation"]
    options = {"ENCODING": server["encoding"], "LC_COLLATE": collation["collate"], "LC_CTYPE": collation["ctype"]}
    if collation["icu"]:
        options.update(LOCALE_PROVIDER="icu", ICU_LOCALE=collation["icu"])
    return " ".join(f"{key} {literal(value)}" for key, value in options.items())


def _same_settings(client: Client, server: Mapping[str, Any]) -> list[str]:
    """Set the source's settings, which a dump does not contain, on the copy, and return the names of those that differed.

    Raises ``PhaseGateError`` naming the facts of the server that still differ.
    """
    name = identifier(client.database)
    with client.session("phasegate:restore") as session:
        wanted, found = (
            {"TimeZone": facts["timezone"], **facts["settings"]} for facts in (server, server_facts(session))
        )
        given = sorted(key for key, value in wanted.items() if found.get(key) != value)
        for key in given:
            session.execute(f"ALTER DATABASE {name} SET {identifier(key)} TO {literal(wanted[key])}")
    with client.session("phasegate:restore") as session:
        wrong = diff_server_settings(server, server_facts(session))
    if wrong:
        raise PhaseGateError(
            "The rehearsal server differs from the source in facts that change the meaning of SQL.",
            expected="; ".join(f"{one.name} {one.expected}" for one in wrong),
            found="; ".join(f"{one.name} {one.found}" for one in wrong),
            next_step="rehearse in a cluster of the same major version, with the same extensions and settings",
        )
    return given


def _prepare_roles(session: Session, roles: Sequence[str]) -> list[str]:
    """Create every role that is missing, without login, and return their names."""
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
            next_step="install them in the rehearsal cluster, or use an image that contains them",
        )


def _maintenance(client: Client) -> ContextManager[Session]:
    return dataclasses.replace(client, database=MAINTENANCE).session("phasegate:restore")


def require_ready(client: Client, *, source: str, server: Mapping[str, Any], rules: CopyRules) -> Identity:
    """Return the identity of the rehearsal cluster. Raises ``PhaseGateError`` when a backup of the source cannot be restored there.

    ``source`` is the system identifier of the source's cluster, ``server`` its facts.
    """
    with _maintenance(client) as session:
        found = read_identity(session, client)
        require_other_cluster(source, found)
        require_rehearsal_cluster(session, client, found, rules.targets)
        if found.server_major != major_version(server["server_version"]):
            raise PhaseGateError(
                "The major version of the rehearsal cluster differs from the source.",
                expected=f"PostgreSQL {major_version(server['server_version'])}",
                found=f"PostgreSQL {found.server_version}",
                next_step="rehearse in a cluster of the same major version",
            )
        if session.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") != "t":
            raise PhaseGateError(
                "The role of the rehearsal cluster lacks the SUPERUSER attribute.",
                expected="a superuser, who can create the rehearsal's database and roles and set owners",
                found=f"role {found.user} without SUPERUSER",
                next_step="connect to the rehearsal cluster, and only there, as a superuser",
            )
        MadeDatabases(rules.root, found.system_identifier).require_free(session, client.database)
        _require_extensions(session, [name for name, _version in server["extensions"]])
    return found


def _restore_advice(said: str) -> str:
    """Return what to do about an error of pg_restore."""
    unnamed = _UNQUALIFIED.search(said)
    if unnamed:
        return (
            f"{unnamed.group(1) or unnamed.group(2) or unnamed.group(3)} was looked up without its schema: pg_restore runs with"
            " an empty search_path. Write the name with its schema in"
            " the function that CONTEXT names, or give that function its own (ALTER FUNCTION … SET search_path = …, pg_temp) on the"
            " source, then run again; do not rely on this backup"
        )
    if "compress" in said:
        return "choose a compression that this pg_restore supports (gzip); do not rely on this backup"
    return "resolve the error that pg_restore reports; do not rely on this backup"


def _pg_restore(client: Client, archive: str, jobs: int) -> None:
    arguments = ["--exit-on-error", "--no-password", "--dbname", client.connection_string("phasegate:restore")]
    if not os.path.isdir(archive):
        with open_found(archive) as stream:
            done = client.run("pg_restore", *arguments, stdin=stream)
    elif client.container:
        token = secrets.token_hex(6)
        # its session shows that the directory there is in use
        maintenance = dataclasses.replace(client, database=MAINTENANCE)
        with maintenance.session(staging_application(token)), staging_directory(maintenance, token) as place:
            upload_files(client, archive, place)
            done = client.run("pg_restore", *arguments, f"--jobs={jobs}", place)
    else:
        done = client.run("pg_restore", *arguments, f"--jobs={jobs}", archive)
    if done.returncode != 0:
        raise PhaseGateError(
            "G-5: the backup cannot be restored.",
            expected="pg_restore exits with status 0",
            found=done.stderr.decode("utf-8", "replace").strip(),
            next_step=_restore_advice(done.stderr.decode("utf-8", "replace")),
        )


def restore_backup(
    client: Client,
    archive: str,
    *,
    source: str,
    roles: Sequence[str],
    server: Mapping[str, Any],
    contents: TableDigests,
    rules: CopyRules,
    access: Mapping[str, Any] | None = None,
    jobs: int = 2,
    seen: Seen = unseen,
) -> dict[str, Any]:
    """Restore ``archive`` into a fresh database of the rehearsal cluster and return the facts about it.

    ``source`` is the system identifier of the cluster that the backup is of, ``server`` its facts; ``contents`` what its
    tables had under the dump's snapshot; ``rules`` which cluster may hold it; ``access`` what its role may, to be given here as
    well; ``jobs`` how many tables of a directory are restored at once; ``seen`` counts the tables that are compared.
    Raises ``PhaseGateError`` naming every table that differs.
    """
    found = require_ready(client, source=source, server=server, rules=rules)
    with _maintenance(client) as session:
        made = MadeDatabases(rules.root, found.system_identifier)
        made.create(session, client.database, _database_options(server))
        created = _prepare_roles(session, roles)
    _pg_restore(client, archive, jobs)
    if access:
        with _maintenance(client) as session:
            give_access(session, client.database, access)
    settings = _same_settings(client, server)
    with client.session("phasegate:restore") as session:
        wrong = table_differences(contents, read_table_digests(session, seen))
        session.execute("ANALYZE")
    if wrong:
        raise PhaseGateError(
            "G-5: the restored copy differs from the source.",
            expected="the same rows in every table",
            found="; ".join(wrong),
            next_step="find out why the backup does not contain the data; do not rely on it",
        )
    return {
        "cluster": found.as_dict(),
        "roles_created": created,
        "settings_given": settings,
        "tables": len(contents),
    }


def restored_source(session: Session, identity: Identity) -> dict[str, Any]:
    """Return the facts of the source that a restore needs: ``source`` (system identifier), ``roles`` and ``server``."""
    return {
        "source": identity.system_identifier,
        "roles": [row[0] or "" for row in session.rows(_ROLES)],
        "server": server_facts(session),
    }


def prove_restorable(
    client: Client,
    archive: str,
    source: dict[str, Any],
    contents: TableDigests,
    jobs: int,
    rules: CopyRules,
    seen: Seen,
) -> dict[str, Any]:
    """Restore ``archive`` into a scratch database, compare every table, drop it, and return what was compared.

    One that a killed run left is dropped by the next.
    """
    restored = restore_backup(client, archive, contents=contents, jobs=jobs, rules=rules, seen=seen, **source)
    with _maintenance(client) as session:
        MadeDatabases(rules.root, restored["cluster"]["system_identifier"]).drop(session, client.database)
    return {
        "system_identifier": restored["cluster"]["system_identifier"],
        "database": client.database,
        "tables": len(contents),
        "rows": sum(int(rows) for rows, _digest in contents.values()),
    }
