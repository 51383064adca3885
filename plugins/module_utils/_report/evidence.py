# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report has from the files of its run directory, besides the plan and the journal."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import FOLDERS
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import JOURNAL, SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    REHEARSAL,
    ROLLBACK,
    CopyVerified,
    Verified,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import kind_of_run
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import require_as_sealed
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_file,
    read_json,
    sha256_bytes,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import decode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

# An SQL file above this size, in bytes, is not repeated in the report.
SQL_LIMIT = 256 * 1024

# What a rehearsal measured, written at its end.
MEASUREMENTS = "rehearsal.json"

_ABOUT = (
    (r"backup\.dump", "the backup of this run (pg_dump, custom format)"),
    (r"backup\.(dir|base)\.sha256", "the digests of the backup's files"),
    (r"backup\.json", "the backup's record: size, digest, when it began, how it was checked"),
    (r"observed\.json", "what the draft did on its copy, as phase.yml would declare it"),
    (r"backup_contents\.json", "what the backup contained when it was made, to compare a restored copy with"),
    (r"roles\.sql", "the cluster's roles, without passwords"),
    (r"plan\.json", "the plan of this run, which approvals are signatures of"),
    (r"phase_plan\.json", "the plan of the phase that was tried, without the rehearsal's result"),
    (r"plan\.json\..*\.notes\.md", "a reviewer's notes"),
    (r"plan\.json\..*\.notes\.md\.sig", "the signature of a reviewer's notes"),
    (r"plan\.json\..*\.sig", "a reviewer's signature over plan.json"),
    (r"rollback\.json", "the request to roll the execution back, which reviewers sign"),
    (r"rollback\.json\..*\.sig", "a reviewer's signature over rollback.json"),
    (r"register/.*", "the register of reviewers as it was when G-1 was evaluated"),
    (r"audit\.py", "the auditor that checks this bundle; use a released one"),
    (r"reviews/.*", "the review of a required phase"),
    (r"journal\.jsonl", "every step's intent and outcome, each line chained to the one before"),
    (r"rehearsal\.json", "what the rehearsal measured"),
    (r"logs/driver\.log", "one line per entry of the journal"),
    (r"logs/C-06\.log", "preflight, check by check"),
    (r"logs/C-07\.log", "the migration: gates, statements, checks, difference"),
    (r"logs/C-08\.log", "verification, check by check"),
    (r"logs/C-09\.log", "the rollback: gates, statements, checks, difference"),
    (r"schema/diff\.(json|txt)", "the structural difference of the schema, before to after"),
    (r"schema/\w*\.jsonl\.gz", "the facts of the schema {moment}"),
    (r"schema/\w*_state\.json", "row counts and measured extents {moment}"),
    (r"schema/\w*\.sql", "pg_dump --schema-only {moment}"),
    (r"schema/.*\.csv", "a measured column, every row by key, {moment}"),
    (r"sql/.*", "an SQL file as it was frozen before the run"),
)


@dataclass(frozen=True)
class Evidence:
    """``artefacts`` are name, SHA-256, size in bytes and description of each file before the reports are written.

    ``sql`` are the bytes of the file that ran, empty where they are not those that the plan pins, or too many. ``rehearsed`` are
    the measured columns of the plan's rehearsal, None where its sealed bundle is not on this host. ``new_columns`` are schema, table,
    column and type of each column of a new table; ``locks`` what a rehearsal measured itself, empty for another run.
    """

    artefacts: Sequence[Mapping[str, Any]] = ()
    sql: bytes = b""
    rehearsed: Sequence[Mapping[str, Any]] | None = None
    new_columns: Sequence[Mapping[str, str]] = ()
    locks: Sequence[Mapping[str, Any]] = ()


def describe_artefact(name: str) -> str:
    """Return what a file of a run directory is; '' for one that phasegate does not write."""
    moment = "after" if "after" in name else "before"
    if "rehearsal" in name or "again" in name:
        moment += " the migration of the copy"
    found = (about for pattern, about in _ABOUT if re.fullmatch(pattern, name))
    return next(found, "").format(moment=moment)


def read_evidence(
    artefacts: RunDirectory, plan: Mapping[str, Any] | None, entries: Sequence[Entry], sums: Mapping[str, str]
) -> Evidence:
    """Return the evidence of a run; ``sums`` are the SHA-256 of its files by name, without those of the reports.

    Raises ``OSError``.
    """
    rows = [
        {
            "name": name,
            "sha256": sums[name],
            "size": os.path.getsize(artefacts.file(name)),
            "about": describe_artefact(name),
        }
        for name in sorted(sums)
        # a backup of many files is represented by its listing; that of a sealed run may have been pruned
        if not name.startswith(FOLDERS) and os.path.lexists(artefacts.file(name))
    ]
    if plan is None:
        return Evidence(rows)
    kind = kind_of_run(entries)
    sql = _frozen(artefacts, plan["rollback" if kind == ROLLBACK else "ddl"], sums)
    columns = _new_columns(artefacts, kind, entries, sums)
    measured = kind == REHEARSAL and os.path.isfile(artefacts.file(MEASUREMENTS))
    locks = read_json(artefacts.file(MEASUREMENTS))["locks"] if measured else ()
    return Evidence(rows, sql, _rehearsed(artefacts, plan.get("rehearsal")), columns, locks)


def _new_columns(
    artefacts: RunDirectory, kind: str, entries: Sequence[Entry], sums: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return the columns of the tables that the phase made, by the facts of the schema after it."""
    name = "schema/rehearsal_after.jsonl.gz" if kind == REHEARSAL else "schema/after.jsonl.gz"
    end = newest_end(entries, CopyVerified if kind == REHEARSAL else Verified)
    changes = (end.diff or {}).get("changes") or ()
    new = {tuple(one["identity"]) for one in changes if one["action"] == "added" and one["kind"] == "table"}
    if not new or name not in sums:
        return []
    try:
        facts = Snapshot.load(artefacts.file(name)).facts
    except (PhaseGateError, FileNotFoundError):
        return []
    columns = (decode_fact(line) for line in facts if line.startswith('["column",'))
    found = [
        {**dict(zip(("schema", "table", "column"), one.identity)), "type": str(one.attributes["type"])}
        for one in columns
        if one.identity[:2] in new
    ]
    return sorted(found, key=lambda one: (one["schema"], one["table"], one["column"]))


def _frozen(artefacts: RunDirectory, pinned: Mapping[str, Any], sums: Mapping[str, str]) -> bytes:
    name = "sql/" + str(pinned["file"])
    if (
        name not in sums
        or not os.path.isfile(artefacts.file(name))
        or os.path.getsize(artefacts.file(name)) > SQL_LIMIT
    ):
        return b""
    data = read_file(artefacts.file(name)) or b""
    return data if sha256_bytes(data) == pinned["sha256"] else b""


def _rehearsed(artefacts: RunDirectory, rehearsal: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]] | None:
    """Return what the rehearsal measured, when its bundle is beside this run's and is the one that the plan names."""
    name = str((rehearsal or {}).get("bundle", ""))
    if not name or os.path.basename(name) != name:
        return None
    bundle = RunDirectory(os.path.join(os.path.dirname(artefacts.path.rstrip("/")), name))
    try:
        if not bundle.sealed or sha256_file(bundle.file(SEAL)) != (rehearsal or {}).get("seal"):
            return None
        require_as_sealed(bundle, JOURNAL)
        return newest_end(bundle.journal.entries(), CopyVerified).measured
    except (PhaseGateError, OSError):
        return None
