# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One moment of a database: its facts, its schema text and its measured data, all under one snapshot."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from typing import Any, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    DataRecorded,
    Progress,
    SchemaRecorded,
    TransactionBegun,
    Verified,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.progress import watched
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import (
    Capture,
    DataExpectations,
    load_capture,
    save_capture,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_found
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.dump_secrets import without_secrets
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import (
    dump_privilege_advice,
    explain_privileges,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Words
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

# The commands that capture a moment: its schema, and its data.
STEPS: dict[str, tuple[type[SchemaRecorded | Verified], type[DataRecorded | Verified]]] = {
    "before": (SchemaRecorded, DataRecorded),
    "after": (Verified, Verified),
}


class SchemaText:
    """A running ``pg_dump --schema-only`` under the snapshot that ``session`` exports; its output is read while it comes.

    Values of user mappings, connection strings of subscriptions, and options named like a secret are left out of it.
    Owners, privileges and comments are left out: the DDL-line diff (VA-16) counts none of them.
    """

    def __init__(self, client: Client, session: Session) -> None:
        self._session = session
        snapshot_id = session.value("SELECT pg_export_snapshot()")
        self._process = client.start(
            "pg_dump", "--no-password", "--schema-only", "--no-owner", "--no-privileges", "--no-comments",
            f"--snapshot={snapshot_id}", "--dbname", client.connection_string("phasegate:snapshot"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._said: list[tuple[bytes, bytes]] = []
        self._reader = threading.Thread(target=lambda: self._said.append(self._process.communicate()), daemon=True)
        self._reader.start()

    def finish(self) -> bytes:
        """Return the text when it is complete. Raises ``PhaseGateError`` with pg_dump's message when it failed."""
        self._reader.join()
        text, said = self._said[0]
        if self._process.returncode != 0:
            raise PhaseGateError(
                "pg_dump --schema-only failed.",
                expected="pg_dump exits with status 0",
                found=said.decode("utf-8", "replace").strip(),
                next_step=" ".join(dump_privilege_advice(self._session, rows=False))
                or "resolve the error that pg_dump reports; nothing was changed",
            )
        return without_secrets(text)

    def abandon(self) -> None:
        """End pg_dump; no effect when it has ended."""
        self._process.kill()
        self._reader.join()


def record_state(
    client: Client,
    artefacts: RunDirectory,
    label: str,
    declared: DataExpectations,
    sections: Sequence[str],
    step: Step[Any],
) -> Snapshot:
    """Write ``schema/<label>.jsonl.gz``, ``.sql``, ``_state.json`` and the CSV files of one moment; return the facts.

    ``step`` journals which table is read, when that takes long.
    """
    reading: list[Progress] = []
    captured: list[Capture] = []
    texts: list[bytes] = []
    running: list[SchemaText] = []

    def beside(session: Session) -> None:
        running.append(SchemaText(client, session))
        captured.append(declared.take(session, reading.append))

    def at_the_end(_session: Session) -> None:
        texts.append(running[-1].finish())

    with client.session("phasegate:snapshot") as session:
        try:
            with explain_privileges(session), watched(step, lambda: reading[-1] if reading else None):
                taken = take_snapshot(session, sections=sections, beside=beside, at_the_end=at_the_end)
        finally:
            for text in running:
                text.abandon()
    taken.write(artefacts.file(f"schema/{label}.jsonl.gz"))
    artefacts.write(f"schema/{label}.sql", texts[-1])
    save_capture(artefacts, label, declared.measures, captured[-1])
    return taken


def describe_snapshot(facts: Snapshot) -> dict[str, object]:
    """Return the facts of a snapshot for the journal and the caller."""
    return {
        "fingerprint": facts.fingerprint,
        "objects": len(facts.object_digests()),
        "unseen": list(facts.header.unseen),
    }


def deviations_of(differs: Sequence[str], artefacts: RunDirectory) -> dict[str, list[str]]:
    """Return how whole tables differ from the declaration: ``deviations``, or ``elsewhere`` where a transaction of the run is known.

    The transaction was judged by its own changes before COMMIT; what differs after it, other sessions have changed.
    """
    judged = any(entry.event == TransactionBegun.event for entry in artefacts.journal.entries())
    return {"deviations": [] if judged else list(differs), "elsewhere": list(differs) if judged else []}


def record_state_steps(
    client: Client, artefacts: RunDirectory, label: str, declared: DataExpectations, sections: Sequence[str]
) -> dict[str, object]:
    """Record a moment as steps of a run, ``after`` compared with ``before``; return its facts for the caller."""
    schema_step, data_step = STEPS[label]
    with Step(artefacts, schema_step).running() as step:
        result = describe_snapshot(record_state(client, artefacts, label, declared, sections, step))
        step.update(**result)
    with Step(artefacts, data_step).running() as step:
        now = load_capture(artefacts, label, declared.measures)
        step.update(**now.state())
        if label == "after":
            before = load_capture(artefacts, "before", declared.measures)
            measured, differs = declared.compare(before, now)
            result.update(measured=measured, **deviations_of(differs, artefacts))
            step.update(measured=measured, **deviations_of(differs, artefacts))
    return result


_WORDS = "schema/texts.json"


def write_words(artefacts: RunDirectory, words: Words) -> None:
    """Keep which texts of the schema before are another print of the rehearsed ones."""
    entries = [[*place, read] for place, read in words.items()]
    artefacts.write(_WORDS, json.dumps(entries, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")


def read_words(artefacts: RunDirectory) -> Words:
    """Return what ``write_words`` kept, nothing when there was nothing to keep."""
    path = artefacts.file(_WORDS)
    if not os.path.isfile(path):
        return {}
    entries = json.loads(read_found(path).decode("utf-8"))
    return {(kind, tuple(identity), name, text): read for kind, identity, name, text, read in entries}


def fetch_fingerprint(client: Client, sections: Sequence[str]) -> dict[str, object]:
    """Take a snapshot without keeping it, and return what ``describe`` does."""
    with client.session("phasegate:snapshot") as session:
        return describe_snapshot(take_snapshot(session, sections=sections))
