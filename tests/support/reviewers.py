# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away reviewers with real keys, the register of a cluster, and a frozen plan for them to sign.

``python -m ansible_collections.incomex.phasegate.tests.support.reviewers DIRECTORY`` writes all of it into a directory.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import POLICY, REVOKED_KEYS
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import PLAN_NAMESPACE
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import build_plan, freeze_plan, pinned_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import ALLOWED_SIGNERS
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM_IDENTIFIER = "7384512999999999999"
#: A moment at which the plan of ``frozen_plan`` may be executed.
NOW = "2026-05-16T04:00:00Z"


@dataclass(frozen=True)
class Reviewer:
    """A person with one key: ``key`` is the path of the private one."""

    name: str
    key: Path

    @classmethod
    def create(cls, directory: Path, name: str, kind: str = "ed25519", passphrase: str = "") -> Reviewer:
        """Make a key."""
        key = directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", name, "-f", str(key)], check=True)
        return cls(name, key)

    @property
    def public(self) -> str:
        """Key type and public key, as files of OpenSSH have them."""
        return " ".join(Path(f"{self.key}.pub").read_text(encoding="ascii").split()[:2])

    def line(self, options: str = "", names: str = "") -> str:
        """Return this reviewer's line of allowed_signers."""
        return " ".join(part for part in (names or self.name, options, self.public) if part) + "\n"

    def sign(self, data: bytes, namespace: str = PLAN_NAMESPACE) -> bytes:
        """Return a signature over ``data``."""
        argv = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self.key), "-n", namespace]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout


@contextlib.contextmanager
def asking(passphrase: str) -> Iterator[dict[str, str]]:
    """Yield the variables by which programs of OpenSSH ask a program of the user's; that they did is in ``asked`` beside it."""
    directory = Path(tempfile.mkdtemp(prefix="phasegate-ask-", dir="/tmp"))
    program = directory / "askpass"
    program.write_text(f"#!/bin/sh\ntouch {directory}/asked\necho '{passphrase}'\n", encoding="utf-8")
    program.chmod(0o700)
    yield {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    shutil.rmtree(directory)


@contextlib.contextmanager
def agent(reviewer: Reviewer, passphrase: str) -> Iterator[dict[str, str]]:
    """Give a reviewer's key to an agent that ends with the block; yield the variable that leads to it."""
    with asking(passphrase) as variables:
        # the path of a socket may have 107 bytes only
        place = {"SSH_AUTH_SOCK": str(Path(variables["SSH_ASKPASS"]).with_name("agent"))}
        serving = ["ssh-agent", "-D", "-a", place["SSH_AUTH_SOCK"]]
        with subprocess.Popen(serving, stdout=subprocess.DEVNULL) as process:
            try:
                wait_for("the agent", Path(place["SSH_AUTH_SOCK"]).exists)
                adding = ["ssh-add", "-q", str(reviewer.key)]
                given = {**os.environ, **variables, **place}
                subprocess.run(adding, env=given, stdin=subprocess.DEVNULL, check=True, capture_output=True)
                yield place
            finally:
                process.terminate()


def register(directory: Path, lines: str, policy: dict[str, Any] | None = None, revoked: str | None = None) -> Path:
    """Write the register of a cluster, closed to other users' writing whatever the umask is."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {ALLOWED_SIGNERS: lines, REVOKED_KEYS: revoked}
    files[POLICY] = None if policy is None else json.dumps(policy)
    for name, text in files.items():
        if text is not None:
            (directory / name).write_text(text, encoding="utf-8")
            (directory / name).chmod(0o644)
    directory.chmod(0o755)
    return directory


def unregister(directory: Path) -> None:
    """Remove the register of a throw-away cluster, and what this host remembers of it."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory.parents[1] / "approvals_required" / directory.name).unlink(missing_ok=True)


def plan_of(phase_file: Path) -> dict[str, Any]:
    """Return the plan of a phase as phase_plan returns it."""
    phase = load_phase(str(phase_file))
    statements = analyse_phase(phase)
    return build_plan(
        phase.definition,
        pinned_file(phase.source.name, phase.source.data),
        {**pinned_file(phase.migrate.name, phase.migrate.data), "statements": statements.migrate},
        {**pinned_file(phase.rollback.name, phase.rollback.data), "statements": statements.rollback},
    )


def rehearsal(plan: dict[str, Any]) -> dict[str, Any]:
    """Return a rehearsal's figures in the form that plan.json has them."""

    def measured(part: str) -> list[dict[str, Any]]:
        return [
            {
                "n": s["n"],
                "tag": s["tag"],
                "line": s["line"],
                "rows": 86 if s["tag"] == "UPDATE" else None,
                "microseconds": 400 * s["n"],
            }
            for s in plan[part]["statements"]
            if s["run"]
        ]

    unit, sandbox, alias = (
        "public.tac_logical_unit",
        "sandbox_tac.logical_unit",
        "cutter_governance.canonical_address_alias",
    )
    changes = [
        {
            "kind": "column",
            "schema": "public",
            "identity": ["public", "tac_logical_unit", "authority"],
            "name": f"{unit}.authority",
            "attribute": None,
            "action": "added",
            "before": None,
            "after": "text DEFAULT 'draft'::text",
            "severity": "additive",
            "rewrites": False,
            "note": "",
            "parts": [],
        },
    ]
    return {
        "bundle": "alpha_rehearsal_20260516T031200Z",
        "seal": "5" * 64,
        "cluster": {
            "system_identifier": "7384512000000000001",
            "server_version": "16.13",
            "place": "container pg-dry-run-alpha-2026-05-16",
        },
        "base_fingerprint": "a" * 64,
        "result_fingerprint": "b" * 64,
        "changes": changes,
        "changes_before_commit": changes,
        "server": {
            "server_version": "16.13",
            "timezone": "UTC",
            "encoding": "UTF8",
            "collation": {"collate": "C.UTF-8", "ctype": "C.UTF-8", "provider": "c", "icu": ""},
            "extensions": [["plpgsql", "1.0"]],
            "settings": {"DateStyle": "ISO, MDY"},
        },
        "statements": measured("ddl"),
        "locks": [
            {"relation": unit, "mode": "AccessExclusiveLock", "statement": 5, "held_microseconds": 41_300},
            {"relation": unit, "mode": "RowExclusiveLock", "statement": 8, "held_microseconds": 22_000},
            {"relation": sandbox, "mode": "AccessExclusiveLock", "statement": 7, "held_microseconds": 38_100},
            {"relation": alias, "mode": "AccessExclusiveLock", "statement": 11, "held_microseconds": 9_100},
        ],
        "data": [{"relation": unit, "kind": "UPDATE", "rows": 86}],
        "unproved": [],
        "rewrites": [],
        "role": {"name": "workflow_admin", "refused": ""},
        "wal_bytes": 183_296,
        "backup": {"sha256": "c" * 64, "size": 64_587_082, "toc_entries": 2712, "tables": 700, "rows": 1_204_331},
        "rollback": {"statements": measured("rollback"), "data": [], "rewrites": [], "restored": True},
    }


def frozen_plan(phase_file: Path = ALPHA, **changes: Any) -> dict[str, Any]:
    """Return the content of plan.json for a phase; ``changes`` replace what the caller of freeze_plan gives.

    The figures of the rehearsal are those of Phase Alpha.
    """
    plan = plan_of(phase_file)
    parts: dict[str, Any] = {
        "target": {
            "environment": "prod",
            "inventory_name": "db1",
            "container": "postgres",
            "database": "directus",
            "user": "workflow_admin",
            "server_version": "16.13",
            "system_identifier": SYSTEM_IDENTIFIER,
        },
        "rehearsal": rehearsal(plan),
        "tools": {"incomex.phasegate": "0.1.0", "pg_dump": "16.13", "pglast": "8.8"},
        "author": "huyen",
        "nonce": "00112233445566778899aabbccddeeff",
        "created_at": "2026-05-16T03:12:00Z",
        "not_after": "2026-05-19T03:12:00Z",
    }
    return freeze_plan(plan, **{**parts, **changes})


def plan_bytes(**changes: Any) -> bytes:
    """Return the bytes of plan.json."""
    return canonical_json(frozen_plan(**changes))


def write_plan(directory: Path, **changes: Any) -> Path:
    """Write plan.json with its SQL into a directory, and return its path."""
    for name in ("migrate.sql", "rollback.sql"):
        (directory / name).write_bytes((ALPHA.parent / name).read_bytes())
    path = directory / "plan.json"
    path.write_bytes(plan_bytes(**changes))
    return path


def main(directory: Path) -> None:
    """Write a plan that may be executed from now on, its SQL, four keys, and a register that knows three of them."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0, tzinfo=None)
    write_plan(directory, created_at=f"{now.isoformat()}Z", not_after=f"{(now + dt.timedelta(days=3)).isoformat()}Z")
    people = [Reviewer.create(directory, name) for name in ("anna", "ben", "huyen", "eve")]
    register(directory / "reviewers", "".join(one.line() for one in people[:3]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
