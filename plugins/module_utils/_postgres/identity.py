# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity of the server, and whether it matches the declared target (P-1, G-4)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

_QUERY = """
SELECT current_database(), current_user, current_setting('server_version'),
       (current_setting('server_version_num')::int / 10000)::text,
       (SELECT system_identifier::text FROM pg_control_system()),
       pg_is_in_recovery()::text, current_setting('server_encoding'),
       (SELECT oid::text FROM pg_database WHERE datname = current_database()),
       (SELECT timeline_id::text FROM pg_control_checkpoint()),
       (SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user), version(),
       coalesce(host(inet_server_addr()) || ' port ' || inet_server_port(), 'local socket')
"""

# What an inventory may declare of its target; documented in doc_fragments/_identity.py.
IDENTITY_ARGUMENT: dict[str, Any] = {
    "type": "dict",
    "options": {
        "container": {"type": "str"},
        "database": {"type": "str"},
        "user": {"type": "str"},
        "server_version": {"type": "str"},
        "system_identifier": {"type": "str"},
        "rehearsal_system_identifiers": {"type": "list", "elements": "str", "default": []},
    },
}

# Facts that distinguish one target from another.
DECLARABLE = ("container", "database", "user", "system_identifier", "server_version")


@dataclass(frozen=True)
class Identity:
    """One database of one cluster as the server itself reports it, and the container it was reached in ('' if none).

    ``server_version`` is complete (``16.13``), ``server_major`` its first part, ``build`` all that ``version()`` returns;
    ``system_identifier`` was drawn at initdb and distinguishes clusters. ``database_oid`` is the database's own number, which one
    that is dropped and created again does not get back; ``timeline`` is the cluster's, which a restore to an earlier moment and a
    failover change. ``superuser`` says whether the role is one, ``address`` is the server's side of the connection. These five have
    no value where an earlier release recorded the identity.
    """

    container: str
    database: str
    user: str
    server_version: str
    server_major: str
    system_identifier: str
    in_recovery: bool
    encoding: str
    database_oid: str = ""
    timeline: str = ""
    superuser: bool | None = None
    build: str = ""
    address: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return asdict(self)

    def describe(self) -> str:
        """Return the target in one line."""
        place = f"container {self.container}, " if self.container else ""
        return (
            f"{place}database {self.database}, role {self.user}, PostgreSQL {self.server_version}, "
            f"system identifier {self.system_identifier}"
        )


def read_identity(session: Session, client: Client) -> Identity:
    """Query the identity of the server."""
    database, user, version, major, system_identifier, recovery, encoding, oid, timeline, superuser, build, address = (
        field or "" for field in session.rows(_QUERY)[0]
    )
    return Identity(
        container=client.container or "",
        database=database,
        user=user,
        server_version=version,
        server_major=major,
        system_identifier=system_identifier,
        in_recovery=recovery == "true",
        encoding=encoding,
        database_oid=oid,
        timeline=timeline,
        superuser=superuser == "true",
        build=build,
        address=address,
    )


def is_recorded_database(recorded: Mapping[str, Any], found: Identity) -> bool:
    """Return whether a recorded identity is of this database, by its name or by its OID, in this cluster."""
    if recorded.get("system_identifier") != found.system_identifier:
        return False
    same_oid = bool(found.database_oid) and recorded.get("database_oid") == found.database_oid
    return same_oid or recorded.get("database") == found.database


def is_made_anew(recorded: Mapping[str, Any], found: Identity) -> bool:
    """Return whether the database that was recorded is not the one that has its name now."""
    known = recorded.get("database_oid")
    return bool(known and found.database_oid) and known != found.database_oid


def changes_of_identity(recorded: Mapping[str, Any], found: Identity) -> list[str]:
    """Return in words what happened to database and cluster since an identity was recorded, as far as it shows."""
    told = []
    name, oid, timeline = (str(recorded.get(key) or "") for key in ("database", "database_oid", "timeline"))
    if is_made_anew(recorded, found):
        told.append(
            f"database {name} was dropped and created again since, or another one got its name"
            f" (its OID was {oid}, now {found.database_oid})"
        )
    elif name != found.database:
        told.append(f"the database was renamed since, from {name} to {found.database}")
    if timeline and found.timeline and timeline != found.timeline:
        told.append(
            f"the cluster was restored to an earlier moment or failed over since (timeline {timeline}, now {found.timeline})"
        )
    return told


@dataclass(frozen=True)
class Mismatch:
    """One fact of the target that differs from its declaration, and what to do where that is not to check the inventory."""

    name: str
    expected: str
    found: str
    next_step: str = ""


def mismatches(declared: Mapping[str, Any], found: Identity) -> list[Mismatch]:
    """Return every declared fact that the server contradicts; facts that are not declared are not compared.

    ``server_version`` may be a major version (``16``) or a complete one (``16.13``). A standby is never the target,
    and neither is a cluster that is declared to be a rehearsal's.
    """
    result = [
        Mismatch(name, declared[name], getattr(found, name) or "none")
        for name in DECLARABLE
        if name != "server_version" and declared.get(name) and declared[name] != getattr(found, name)
    ]
    version = declared.get("server_version")
    if version and version not in (found.server_major, found.server_version.split(" ")[0]):
        result.append(Mismatch("server_version", version, found.server_version))
    if found.system_identifier in (declared.get("rehearsal_system_identifiers") or []):
        result.append(
            Mismatch(
                "cluster",
                "not a rehearsal cluster",
                f"a rehearsal cluster, system identifier {found.system_identifier}",
            )
        )
    if found.in_recovery:
        result.append(Mismatch("cluster", "a primary", "a standby (in recovery)"))
    return result
