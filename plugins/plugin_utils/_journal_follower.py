# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Follow the journal of a run on this machine while its modules work.

This is a view, not a check: the chain of the journal is not verified. A journal that cannot be read is not followed any further.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Callable, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.batch_events import BatchPaused
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import JOURNAL
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    DONE,
    FAILED,
    INTENT,
    LockAwaited,
    LockTimedOut,
    OutcomeResolved,
    Progress,
    RunEvent,
    RunOpened,
    StatementBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import GATE_TITLES
from ansible_collections.incomex.phasegate.plugins.module_utils._report.vocabulary import COMMANDS
from ansible_collections.incomex.phasegate.plugins.plugin_utils import _board_lines as board
from ansible_collections.incomex.phasegate.plugins.plugin_utils._board_lines import Shown

_POLL_SECONDS = 0.2
# A command that takes long is shown as running: first after so many seconds, then every so many.
_FIRST_SECONDS = 10.0
_EVERY_SECONDS = 30.0

_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError)


def name_of_task(task: Any, host: str) -> str:
    """Return what the opening of a run records of the task that opens it on a host, by which its journal is recognised."""
    return hashlib.sha256(f"{task._uuid} {host}".encode()).hexdigest()[:16]  # noqa: SLF001, ansible-core has no public name of it


def gates_shown(host: str, gates: Any, known: dict[str, str]) -> list[Shown]:
    """Return the gates whose status is not in ``known`` yet, which receives it."""
    shown = []
    for gate in gates or ():
        name, status = str(gate["id"]), str(gate["status"])
        # what was evaluated before stays so, when a later command says that it did not come to it
        if name not in known or status not in (known[name], GateStatus.NOT_REACHED.value):
            known[name] = status
            shown.append(Shown("gate", host, name, status, text=GATE_TITLES.get(name, "")))
    return shown


@dataclass
class RunView:
    """What is known of one run of a host from its journal: the commands that began, as entry's time and this machine's clock."""

    host: str
    path: str = ""
    begun: dict[str, tuple[datetime, float]] = field(default_factory=dict)
    next_sign: dict[str, float] = field(default_factory=dict)
    gates: dict[str, str] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)

    def show(self, entry: Mapping[str, Any], now: float) -> list[Shown]:
        """Return what an entry of the journal shows; ``now`` in seconds of the monotonic clock."""
        step, event, data = str(entry["step"]), entry["event"], entry["data"]
        gates = gates_shown(self.host, data.get("gates"), self.gates)
        if step == RunEvent.step:
            return gates
        at = datetime.fromisoformat(entry["at"])
        if event == INTENT:
            self.begun[step] = (at, now)
            self.next_sign[step] = now + _FIRST_SECONDS
            return gates
        began = self.begun.get(step)
        seconds = (at - began[0]).total_seconds() if began else None
        if event in (DONE, FAILED):
            self.begun.pop(step, None)
            self.progress.pop(step, None)
            state = board.DONE if event == DONE else board.FAILED
            text = ", ".join(part for part in (COMMANDS.get(step, ""), str(data.get("outcome") or "")) if part)
        elif event == LockTimedOut.event:
            state, text = board.WAITING, f"attempt {data['attempt']}: {data['found']}"
        elif event == LockAwaited.event:
            state, text = board.WAITING, board.lock_text(data)
        elif event == BatchPaused.event:
            state, text = board.WAITING, f"the next batch waits for replicas: {data['found']}"
        elif event == Progress.event:
            # the next sign of life shows it
            self.progress[step] = Progress(**data)
            return gates
        elif event == StatementBegun.event:
            state, text = (
                board.RUNNING,
                f"statement {data['n']} of line {data['line']}, after COMMIT: {data['tag']} {data['after_commit']}",
            )
        elif event == OutcomeResolved.event:
            state, text = board.RUNNING, f"the server says of transaction {data['xid']}: {data['outcome']}"
        else:
            return gates
        return [*gates, Shown("command", self.host, step, state, seconds, text)]

    def signs(self, now: float) -> list[Shown]:
        """Return a sign of life of each command that has been running for long."""
        shown = []
        for step, (_at, since) in self.begun.items():
            if now >= self.next_sign[step]:
                self.next_sign[step] = now + _EVERY_SECONDS
                known, text = self.progress.get(step), COMMANDS.get(step, "")
                more = {"progress": known.to_entry()} if known else None
                text += f", {board.progress_text(known)}" if known else ""
                shown.append(Shown("command", self.host, step, board.RUNNING, now - since, text, more=more))
        return shown


def _entries(path: str, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Return the complete lines of a journal from an offset in bytes, each with the offset behind it."""
    descriptor = os.open(os.path.join(path, JOURNAL), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield json.loads(line), offset


def _names(root: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(root))
    except OSError:
        return frozenset()


class Follower:
    """Follows the runs of one host, one module at a time: ``begin`` when the module starts, ``end`` when its result is there.

    ``lock`` is that of the output. Ansible forks while it holds it, and some programs call a callback while they do. So a thread works
    and prints only with it, and nobody waits for a thread.
    """

    def __init__(self, host: str, show: Callable[[Shown], None], lock: contextlib.AbstractContextManager[Any]) -> None:
        self.host = host
        self.view = RunView(host)
        self.shown: set[str] = set()
        self._show = show
        self._lock = lock
        self._offset = 0
        self._root = ""
        self._task = ""
        self._before: frozenset[str] = frozenset()
        self._broken = False
        self._ended = threading.Event()
        self._ended.set()

    def expect(self, root: str, task: str) -> None:
        """Follow the run that is opened next: its directory will be new below ``root``, its first entry has this ``name_of_task``."""
        self._root, self._task, self._before = root, task, _names(root)
        self.view, self._offset, self._broken = RunView(self.host), 0, False

    def know(self, path: str) -> None:
        """Follow this run directory from here on, unless it is followed already."""
        self._root = ""
        if path and path != self.view.path:
            self.view, self._broken = RunView(self.host, path), False
            try:
                self._offset = os.stat(os.path.join(path, JOURNAL)).st_size
            except OSError:
                self._broken = True

    def begin(self) -> None:
        """Follow until ``end``."""
        self.shown = set()
        self._ended = threading.Event()
        threading.Thread(target=self._follow, args=(self._ended,), daemon=True).start()

    def end(self) -> None:
        """Show what the journal has by now, and stop."""
        with self._lock:
            if not self._ended.is_set():
                self._ended.set()
                self._look()

    def _follow(self, ended: threading.Event) -> None:
        while not ended.wait(_POLL_SECONDS):
            with self._lock:
                if not ended.is_set():
                    self._look()

    def _look(self) -> None:
        if self._broken:
            return
        try:
            self._read()
        except _UNREADABLE:
            self._broken = True

    def _read(self) -> None:
        if self._root:
            self._find()
        if not self.view.path:
            return
        for entry, offset in _entries(self.view.path, self._offset):
            self._offset = offset
            for one in self.view.show(entry, time.monotonic()):
                if one.event == "command" and one.state in (board.DONE, board.FAILED):
                    self.shown.add(one.name)
                self._show(one)
        for one in self.view.signs(time.monotonic()):
            self._show(one)

    def _find(self) -> None:
        for name in sorted(_names(self._root) - self._before):
            path = os.path.join(self._root, name)
            try:
                opened = next(_entries(path, 0), None)
            except OSError:
                continue  # not a run, or not one yet
            entry = opened[0] if opened else {}
            opening = (entry.get("step"), entry.get("event")) == (RunEvent.step, RunOpened.event)
            if opening and entry["data"].get("task") == self._task:
                self.view.path, self._root = path, ""
                return
