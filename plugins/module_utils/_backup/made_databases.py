# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which databases of a rehearsal cluster phasegate created, and which roles its rehearsals left: only these are ever dropped.

``<root>/rehearsals/<system identifier>.json`` on the target host lists them, each with its OID. A database is created under
a random name that is recorded first; its OID is recorded before it gets its own name. So whatever is killed in between, what
was created is in the file, and nothing else is. A role that a phase made in the copy is recorded with its OID as well, and dropped
before the next copy, so that the same phase can be rehearsed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import atomic_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.host_records import (
    read_trusted,
    record_name,
    trusted_directory,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal

DIRECTORY = "rehearsals"

FORMAT = "phasegate-rehearsals/1"

_SUBJECT = "record of the databases of rehearsals"

_OID = "SELECT coalesce((SELECT oid::text FROM pg_database WHERE datname = {}), '')"


def role_oids(session: Session) -> dict[str, str]:
    """Return the OIDs of a cluster's roles by name."""
    return {name or "": oid or "" for name, oid in session.rows("SELECT rolname, oid FROM pg_roles")}


@dataclasses.dataclass(frozen=True)
class MadeDatabase:
    """A database that is being created as ``created_as``, or was, with this OID; ``name`` is its name in the end."""

    name: str
    created_as: str
    oid: int | None = None


class MadeDatabases:
    """The databases that phasegate created in one cluster. ``root`` is the directory of all runs on this host."""

    def __init__(self, root: str, system_identifier: str) -> None:
        self._root = os.path.abspath(root)
        self._name = record_name(system_identifier) + ".json"
        self.path = os.path.join(self._root, DIRECTORY, self._name)

    def require_free(self, session: Session, name: str) -> None:
        """Raise ``PhaseGateError`` when a database of this name exists that phasegate cannot prove to have created."""
        oid = session.value(_OID.format(literal(name)))
        if not oid or any(one.oid == int(oid) for one in self._read() if name in (one.name, one.created_as)):
            return
        raise PhaseGateError(
            f"The rehearsal cluster has a database {name!r} that was not created by a rehearsal.",
            expected=f"no such database, or one that {self.path} lists with its OID",
            found=f"a database with OID {oid}, which is not listed",
            next_step="use another cluster or another name; or, if nobody needs that database, drop it yourself:"
            f" DROP DATABASE {identifier(name)}",
        )

    def create(self, session: Session, name: str, options: str) -> None:
        """Create an empty database; one of this name that phasegate created is dropped. ``options`` are those of the statement.

        Raises ``PhaseGateError`` when there is another one of this name.
        """
        with self._held():
            self._drop(session, name)
            self.require_free(session, name)
            if self._roles():
                self._drop_roles(session)
            made = MadeDatabase(name, f"phasegate_{secrets.token_hex(8)}")
            others = self._read()
            self._write([*others, made])
            session.execute(f"CREATE DATABASE {identifier(made.created_as)} TEMPLATE template0 {options}")
            made = dataclasses.replace(made, oid=int(session.value(_OID.format(literal(made.created_as))) or 0))
            self._write([*others, made])
            session.execute(f"ALTER DATABASE {identifier(made.created_as)} RENAME TO {identifier(name)}")

    def note_roles(self, session: Session, before: Mapping[str, str]) -> None:
        """Record the roles that were not there ``before``, as ``role_oids`` has them: a phase has made them in the copy."""
        made = [(name, int(oid)) for name, oid in role_oids(session).items() if before.get(name) != oid]
        if made:
            with self._held():
                self._write(self._read(), sorted({*self._roles(), *made}))

    def _drop_roles(self, session: Session) -> None:
        """Drop the recorded roles that are still the same; one that something else depends on stays, and stays recorded."""
        now = role_oids(session)
        left = []
        for name, oid in self._roles():
            if now.get(name) != str(oid):
                continue
            try:
                session.execute(f"DROP OWNED BY {identifier(name)}")
                session.execute(f"DROP ROLE {identifier(name)}")
            except SqlError:
                left.append((name, oid))
        self._write(self._read(), left)

    def drop(self, session: Session, name: str) -> None:
        """Drop the database of this name if phasegate created it."""
        with self._held():
            self._drop(session, name)

    def _drop(self, session: Session, name: str) -> None:
        listed = self._read()
        for one in listed:
            if one.name != name:
                continue
            for current in (one.created_as, one.name) if one.oid else (one.created_as,):
                oid = session.value(_OID.format(literal(current)))
                # a random name that was recorded before its database existed is as good as the OID
                if oid and one.oid in (None, int(oid)):
                    session.execute(f"DROP DATABASE {identifier(current)} WITH (FORCE)")
        left = [one for one in listed if one.name != name]
        if left != listed:
            self._write(left)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Keep other rehearsals on this host from changing the record meanwhile."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        with trusted_directory(self._root, [DIRECTORY], subject=_SUBJECT, base_too=False) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield

    def _read(self) -> list[MadeDatabase]:
        return [MadeDatabase(**one) for one in self._document().get("databases") or []]

    def _roles(self) -> list[tuple[str, int]]:
        return [(name, oid) for name, oid in self._document().get("roles") or []]

    def _document(self) -> dict[str, Any]:
        """Return the record, empty when there is none. Raises ``PhaseGateError`` for one that is not phasegate's."""
        try:
            with trusted_directory(self._root, [DIRECTORY], subject=_SUBJECT, base_too=False) as directory:
                data = read_trusted(directory, self._name, self.path, subject=_SUBJECT)
        except FileNotFoundError:
            data = None
        if data is None:
            return {}
        try:
            document: dict[str, Any] = json.loads(data.decode("utf-8"))
            is_own = document["format"] == FORMAT and document["system_identifier"] + ".json" == self._name
            for one in document["databases"]:
                MadeDatabase(**one)
            for name, oid in document.get("roles") or []:
                identifier(name), int(oid)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._invalid(str(error)) from None
        if not is_own:
            raise self._invalid(f"format {document['format']}, of cluster {document['system_identifier']}")
        return document

    def _invalid(self, found: str) -> PhaseGateError:
        return PhaseGateError(
            f"The {_SUBJECT} is invalid: {self.path}",
            expected=f"a file of format {FORMAT} that phasegate wrote for this cluster",
            found=found,
            next_step="find out who changed it; move it away, and drop the databases of rehearsals yourself",
        )

    def _write(self, databases: list[MadeDatabase], roles: Sequence[tuple[str, int]] | None = None) -> None:
        """Write the record; without ``roles``, with those that it has."""
        kept = self._roles() if roles is None else roles
        document = {
            "format": FORMAT,
            "system_identifier": self._name[: -len(".json")],
            "databases": [dataclasses.asdict(one) for one in databases],
            "roles": [list(one) for one in kept],
        }
        with atomic_file(self.path) as stream:
            stream.write(json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
