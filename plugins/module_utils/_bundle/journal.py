# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal of a run: one JSON object a line, each carrying the SHA-256 of the line before.

A line is on disk before the step that it announces begins, and before the step that it reports counts as done.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import utc_now
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_found,
)

# The form of a journal whose first entry names none is 1: the keys are the same.
FORMAT = "phasegate-journal/2"
FORMATS = (None, FORMAT)


@dataclass(frozen=True)
class Entry:
    """One line: its number from 1, UTC time, the step (``C-07``), the event, and the event's own data."""

    seq: int
    at: str
    step: str
    event: str
    data: dict[str, Any] = field(default_factory=dict)
    prev: str = audit.GENESIS

    def line(self) -> str:
        """Return the line without its newline; keys stay in their order, so that a result's columns do."""
        return audit.journal_line(self.__dict__)


def _line_digest(line: str) -> str:
    return hashlib.sha256(line.encode("utf-8")).hexdigest()


def parse_journal(data: bytes) -> list[Entry]:
    """Return the entries of a journal's bytes after checking the chain.

    A last line without its newline was never acknowledged and is left out. Raises ``PhaseGateError`` naming the
    first line that is not JSON, is out of sequence, or does not carry its predecessor's digest.
    """
    try:
        return [Entry(**entry) for entry in audit.journal_entries(data)]
    except audit.BrokenJournalError as broken:
        raise PhaseGateError(
            f"The journal is not intact at line {broken.number}.",
            expected=broken.expected,
            found=broken.found,
            next_step="treat this artefact directory as evidence of tampering or damage; do not continue a run from it",
        ) from None


def _require_format(entries: list[Entry]) -> None:
    found = entries[0].data.get("format") if entries else None
    if found not in FORMATS:
        raise PhaseGateError(
            "The journal has another form.",
            expected=f"form {FORMAT}, or one without a name of its form",
            found=str(found),
            next_step="use the release of the collection that wrote this run directory",
        )


class Journal:
    """The file ``journal.jsonl`` of one run. Appending takes a lock, so two processes cannot fork the chain."""

    def __init__(self, path: str) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """Return all entries, the chain checked; an absent file has none."""
        try:
            entries = parse_journal(read_found(self.path))
        except FileNotFoundError:
            return []
        _require_format(entries)
        return entries

    def append(self, step: str, event: str, data: dict[str, Any] | None = None) -> Entry:
        """Add one line and return its entry once it is on disk (fsync)."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            content = stream.read()
            entries = parse_journal(content)
            prev = _line_digest(entries[-1].line()) if entries else audit.GENESIS
            entry = Entry(len(entries) + 1, utc_now(), step, event, data or {}, prev)
            # a torn last line is overwritten: it was never acknowledged
            stream.seek(content.rfind(b"\n") + 1)
            stream.truncate()
            stream.write(entry.line().encode("utf-8") + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        return entry
