# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draft the rollbacks of real migrations, run them, and compare what they leave with the schema before.

The migrations of a chain are applied one after the other. Each draft is tried twice on a copy of the database, as a draft rehearsal does:
as it is made from the SQL alone, and with the statements that the schema before shows it to lack. Nobody edits it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.undo_statements import undo_statements
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.rollback_draft import (
    BY_HAND,
    draft_rollback,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import split_file
from ansible_collections.incomex.phasegate.tests.corpora.agreement import CHAIN_ROLES, CHAIN_SETUP
from ansible_collections.incomex.phasegate.tests.corpora.corpora import LoadError, Server, manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

#: What came of a draft.
FROM_SQL, COMPLETED, PERSON, WRONG = (
    "from the SQL alone",
    "with what a draft rehearsal adds",
    "a person has to write a part of it",
    "says nothing and does not restore the schema",
)


@dataclass(frozen=True)
class Drafted:
    """One migration: what came of its draft, why, and whether the rollback that a person wrote restores the schema."""

    name: str
    outcome: str
    reason: str
    human: bool


def drafts(root: Path, server: Server) -> list[Drafted]:
    """Return what came of the draft of every migration that has a rollback written by a person."""
    found = []
    entries = manifest(root, "chains/manifest.json")
    server.roles(sorted(CHAIN_ROLES))
    for chain in dict.fromkeys(entry["chain"] for entry in entries):
        with server.database() as database:
            server.psql(database, CHAIN_SETUP)
            for entry in (entry for entry in entries if entry["chain"] == chain):
                directory = root / entry["dir"]
                up = (directory / "up.sql").read_text(encoding="utf-8")
                alone = '"no_txn": true' in (directory / "meta.json").read_text(encoding="utf-8")
                before = server.snapshot(database)
                try:
                    server.psql(database, up if alone else f"BEGIN;\n{up}\n;COMMIT;")
                except LoadError:
                    continue  # an extension that this server lacks
                if (directory / "down.sql").exists():
                    outcome, reason = _tried(server, database, before, up if alone else f"BEGIN;\n{up}\n;COMMIT;")
                    found.append(Drafted(entry["m"], outcome, reason, bool(entry.get("down_restores"))))
    return found


def _tried(server: Server, database: str, before: Snapshot, up: str) -> tuple[str, str]:
    problems: list[Problem] = []
    pieces = split_file(SourceFile("migrate.sql", "migrate.sql", up.encode()), problems)
    if problems:
        return PERSON, problems[0].found
    draft = draft_rollback(pieces)
    undo = [line for line in draft.text.splitlines() if line not in ("BEGIN;", "COMMIT;")]
    marked = [line for line in undo if line.startswith(BY_HAND)]
    lacks, reason = _left(server, database, before, undo)
    if not reason and not lacks:
        return FROM_SQL, ""
    if reason:
        return (PERSON if marked else WRONG), reason
    unknown = [line for line in lacks if line.startswith(BY_HAND)]
    if unknown:
        return PERSON, unknown[0]
    again, reason = _left(server, database, before, [*undo, *lacks])
    return (COMPLETED, "") if not again and not reason else (WRONG, reason or again[0])


def _left(server: Server, database: str, before: Snapshot, statements: Sequence[str]) -> tuple[list[str], str]:
    """Run statements on a copy; return the statements that then lack, or the error."""
    with server.database(database) as copy:
        try:
            server.psql(copy, "BEGIN;\n" + "\n".join(statements) + "\nCOMMIT;\n")
        except LoadError as error:
            return [], str(error)
        after = server.snapshot(copy)
        changes = diff(before.unlocated(), after.unlocated())
        return undo_statements(changes.as_list(), before.facts), ""
