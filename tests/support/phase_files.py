# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small phases on disk, made for one test each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ALPHA = Path(__file__).parents[2] / "playbooks" / "phases" / "alpha" / "phase.yml"
BETA = ALPHA.parents[1] / "beta" / "phase.yml"

#: A phase that is valid, in as few words as one can be.
SMALL: dict[str, Any] = {
    "phase": "small",
    "title": "One table more",
    "revision": "r1",
    "scope": {"schemas": ["app"], "statements": ["CREATE TABLE"]},
    "expect": {"tags": {"CREATE TABLE": 1}},
    "preflight": [{"id": "P-1", "title": "identity", "builtin": "target_identity"}],
    "verify": [{"id": "VA-1", "title": "one", "sql": "SELECT 1", "expect": 1}],
}
SMALL_DDL = b"CREATE TABLE app.t (id int);\n"
SMALL_ROLLBACK = b"DROP TABLE app.t;\n"


@dataclass(frozen=True)
class PhaseFiles:
    """A directory with phase.yml, migrate.sql and rollback.sql; the digests of the two are pinned for the caller."""

    directory: Path

    @property
    def path(self) -> str:
        """Path of phase.yml."""
        return str(self.directory / "phase.yml")

    def write(
        self, changes: dict[str, Any] | None = None, *, ddl: bytes = SMALL_DDL, rollback: bytes = SMALL_ROLLBACK
    ) -> PhaseFiles:
        """Write the small phase with top-level keys replaced by ``changes`` (``None`` removes a key)."""
        definition = {
            **SMALL,
            "migrate": {"file": "migrate.sql", "sha256": hashlib.sha256(ddl).hexdigest()},
            "rollback": {
                "file": "rollback.sql",
                "sha256": hashlib.sha256(rollback).hexdigest(),
                "statements": ["DROP TABLE"],
                "cannot_restore": [],
            },
            **(changes or {}),
        }
        text = yaml.safe_dump({key: value for key, value in definition.items() if value is not None}, sort_keys=False)
        (self.directory / "phase.yml").write_text(text, encoding="utf-8")
        (self.directory / "migrate.sql").write_bytes(ddl)
        (self.directory / "rollback.sql").write_bytes(rollback)
        return self
