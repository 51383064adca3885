# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A target: one database, one directory for artefacts, and the inventory entry that leads there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR, SUPERUSER, bin_directory
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, environment, play, write_inventory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.playbook import Play

# The token that pg_dump draws for every plain dump.
_RESTRICT = re.compile(rb"^\\(un)?restrict .*\n", re.MULTILINE)


@dataclass
class Target:
    """A database with the directory of its runs. ``hostvars`` are changed by a test before it runs a playbook."""

    cluster: Cluster
    database: str
    directory: Path
    hostvars: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """The directory of all runs."""
        return self.directory / "artefacts"

    def entry(self) -> dict[str, Any]:
        """Return the host's variables, as an operator's inventory would have them."""
        return {
            "phasegate_environment": "test",
            "phasegate_bindir": str(bin_directory()),
            "phasegate_host": str(self.cluster.socket_directory),
            "phasegate_database": self.database,
            "phasegate_user": SUPERUSER,
            "phasegate_identity": {
                "database": self.database,
                "user": SUPERUSER,
                "server_version": str(MAJOR),
                "system_identifier": self.system_identifier,
            },
            "phasegate_root": str(self.root),
            **self.hostvars,
        }

    @property
    def system_identifier(self) -> str:
        """The cluster's system identifier."""
        return str(self.value("SELECT system_identifier FROM pg_control_system()"))

    def identity(self, **facts: Any) -> dict[str, Any]:
        """Return the declared identity with some facts replaced."""
        return {**self.entry()["phasegate_identity"], **facts}

    def play(self, playbook: str = "playbooks/phase_alpha.yml", **options: Any) -> Play:
        """Run a playbook on this target alone."""
        inventory = write_inventory(self.directory / "hosts.yml", {"target": self.entry()})
        return play(self.directory, playbook, inventory=inventory, **options)

    def start(self, playbook: str, extra_vars: Mapping[str, Any] | None = None) -> subprocess.Popen[bytes]:
        """Start ansible-playbook on this target alone, to be killed; its output goes to ``started.log``."""
        inventory = write_inventory(self.directory / "started.yml", {"target": self.entry()})
        argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), playbook]
        with (self.directory / "started.log").open("wb") as log:
            return subprocess.Popen(
                [*argv, "-e", json.dumps(extra_vars or {})],
                cwd=ROOT,
                env={**os.environ, **environment({})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def play_phase(self, phase: Path, **options: Any) -> Play:
        """Run the phase in a directory on this target alone."""
        extra = {"phasegate_phase_file": str(phase / "phase.yml"), **options.pop("extra_vars", {})}
        return self.play("playbooks/execute.yml", extra_vars=extra, **options)

    def rehearse(self, other: Cluster, phase_file: str = "", user: str = SUPERUSER, **inputs: Any) -> Play:
        """Rehearse a phase, Alpha by default, in another cluster as one of its superusers; its plan is below ``plans``.

        ``inputs`` are further variables of the playbook.
        """
        connection = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "port": other.port}
        extra = {
            "phasegate_author": "huyen",
            "phasegate_plans": str(self.directory / "plans"),
            "phasegate_rehearsal": {**connection, "user": user, "database": self.database},
            **({"phasegate_phase_file": phase_file} if phase_file else {}),
            **inputs,
        }
        return self.play(f"playbooks/{'rehearse' if phase_file else 'phase_alpha_rehearse'}.yml", extra_vars=extra)

    def bundles(self) -> list[Bundle]:
        """Return the artefact directories of all runs, oldest first."""
        others = {"rehearsals", "locks"}
        found = sorted(self.root.iterdir()) if self.root.exists() else []
        return [Bundle(path) for path in found if path.name not in others]

    def bundle(self) -> Bundle:
        """Return the only artefact directory."""
        bundles = self.bundles()
        assert len(bundles) == 1, bundles
        return bundles[0]

    # -- the oracle: psycopg and pg_dump ------------------------------------------------------------------------------

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with psycopg.connect(self.cluster.dsn(self.database)) as connection:
            return connection.execute(query.encode()).fetchall()

    def value(self, query: str) -> Any:
        """Return the only value of a query."""
        rows = self.rows(query)
        assert len(rows) == 1
        return rows[0][0]

    def dump(self, *arguments: str) -> bytes:
        """Return what pg_dump writes of this database, less its random token."""
        argv = [str(bin_directory() / "pg_dump"), *arguments, "--dbname", self.cluster.dsn(self.database)]
        return _RESTRICT.sub(b"", subprocess.run(argv, check=True, capture_output=True).stdout)

    def state(self) -> str:
        """Return a digest of everything in the database, schema and data."""
        return hashlib.sha256(self.dump()).hexdigest()

    @property
    def migrated(self) -> bool:
        """Whether anything that Phase Alpha, r1 or the hidden DROP COLUMN makes is there."""
        return bool(self.value("SELECT count(*) FROM pg_attribute WHERE attname = 'authority' AND NOT attisdropped"))
