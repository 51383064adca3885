# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events of a statement in batches: how far it is, written before each COMMIT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Note

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class BatchBegun(Note):
    """COMMIT of a batch is sent next; written before each of them, so the newest one says how far the statement ``n`` is.

    ``number`` counts the batches that committed, and this one; ``turn`` the passes over the table. The rows have keys above ``low`` (None: from
    the first) up to ``high``, as texts; ``end`` is the last key of all, None when the statement's WHERE tells what is left. ``rows`` were changed,
    ``done`` before, of about ``total``; ``seconds_left`` is an estimate; ``data`` is all that changed, by relation and kind.
    """

    event: ClassVar[str] = "batch"
    n: int = 0
    number: int = 0
    turn: int = 1
    xid: str = ""
    low: str | None = None
    high: str = ""
    end: str | None = None
    rows: int = 0
    done: int = 0
    total: int = 0
    milliseconds: float = 0.0
    seconds_left: int | None = None
    data: Rows = ()


@dataclass(frozen=True)
class BatchResolved(Note):
    """The server was asked how a batch ended that had not reported."""

    event: ClassVar[str] = "batch resolved"
    n: int = 0
    number: int = 0
    outcome: str = ""
    xid: str = ""


@dataclass(frozen=True)
class BatchPaused(Note):
    """The next batch waits for replicas: ``found`` says how far behind they are."""

    event: ClassVar[str] = "paused"
    n: int = 0
    number: int = 0
    found: str = ""
