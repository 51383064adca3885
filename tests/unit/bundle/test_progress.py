# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress in the journal: evidence of nothing, and in nobody's way."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle import progress
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import BackupMade, Progress, RunOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.progress import watched
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step[BackupMade]:
    monkeypatch.setattr(progress, "SECONDS", 0.02)
    directory = RunDirectory(str(tmp_path))
    RunOpened().write(directory.journal)
    return Step(directory, BackupMade)


def written(step: Step[BackupMade]) -> list[int]:
    assert step.artefacts
    return [entry.data["done"] for entry in step.artefacts.journal.entries() if entry.event == Progress.event]


def test_what_is_new_is_written_once_and_the_chain_holds(step: Step[BackupMade]) -> None:
    seen = iter([1, 1, None, 1, 2])
    after = threading.Event()

    def look() -> Progress | None:
        done = next(seen, 0)
        if done == 0:
            after.set()
            return None
        return None if done is None else Progress("written", "bytes", done, 9)

    with watched(step, look, 0.01):
        assert after.wait(10)
    assert written(step) == [1, 2]


def test_a_short_step_writes_nothing(step: Step[BackupMade]) -> None:
    with watched(step, lambda: Progress(done=1), 5):
        pass
    assert written(step) == []


def test_nothing_is_written_after_the_end_by_a_look_that_hangs(step: Step[BackupMade]) -> None:
    looking, go = threading.Event(), threading.Event()

    def look() -> Progress:
        looking.set()
        go.wait(10)
        return Progress(done=1)

    begun = time.monotonic()
    with watched(step, look, 0.01):
        assert looking.wait(10)
    assert time.monotonic() - begun < 5
    go.set()
    time.sleep(0.2)
    assert written(step) == []


def test_a_look_or_a_line_that_fails_breaks_nothing(step: Step[BackupMade], tmp_path: Path) -> None:
    tried = threading.Event()

    def look() -> Progress:
        tried.set()
        raise OSError

    with watched(step, look, 0.01):
        assert tried.wait(10)
    tried.clear()

    def once() -> Progress:
        (tmp_path / "journal.jsonl").write_text("torn\n")
        tried.set()
        return Progress(done=1)

    with watched(step, once, 0.01):
        assert tried.wait(10)
        time.sleep(0.1)
    assert (tmp_path / "journal.jsonl").read_text() == "torn\n"
