# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback board makes of a journal, and its two forms."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    LockAwaited,
    LockTimedOut,
    Progress,
    RunOpened,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Journal
from ansible_collections.incomex.phasegate.plugins.plugin_utils._board_lines import Shown, closing
from ansible_collections.incomex.phasegate.plugins.plugin_utils._journal_follower import Follower, RunView

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "a\x1b[2Jb\x7f\u202e\x9b\rc"


def entry(step: str, event: str, at: str = "2026-05-16T03:12:00.000Z", **data: Any) -> dict[str, Any]:
    return {"seq": 1, "at": at, "step": step, "event": event, "data": data, "prev": ""}


@pytest.mark.fault("hostile-text")
def test_no_text_steers_a_terminal() -> None:
    shown = Shown("failure", HOSTILE, HOSTILE, HOSTILE, 1.0, HOSTILE, [HOSTILE], {"outcome": HOSTILE})
    for text in (shown.as_text(), Shown("command", HOSTILE, HOSTILE, HOSTILE, 1.0, HOSTILE).as_text(), shown.as_json()):
        assert not set(text) & set("\x1b\x7f\u202e\x9b\r")
    assert json.loads(shown.as_json())["lines"] == [HOSTILE]


def test_a_command_has_the_seconds_of_the_journal() -> None:
    view = RunView("db1")
    assert view.show(entry("C-01", "intent"), 0.0) == []
    (shown,) = view.show(entry("C-01", "done", "2026-05-16T03:12:02.500Z"), 99.0)
    assert (shown.name, shown.state, shown.seconds) == ("C-01", "DONE", 2.5)


def test_a_gate_is_shown_when_its_status_changes() -> None:
    view = RunView("db1")
    gates = [{"id": "G-6", "status": "PASS"}]
    assert [one.state for one in view.show(entry("C-06", "transaction", gates=gates), 0.0)] == ["PASS"]
    assert view.show(entry("C-07", "transaction", gates=gates), 0.0) == []
    gates[0]["status"] = "FAIL"
    assert [one.state for one in view.show(entry("C-07", "transaction", gates=gates), 0.0)] == ["FAIL"]
    gates[0]["status"] = "NOT REACHED"
    assert view.show(entry("C-07", "failed", gates=gates), 0.0)[:-1] == []
    gates[0]["id"] = "G-7"
    assert [one.state for one in view.show(entry("C-07", "failed", gates=gates), 0.0)[:-1]] == ["NOT REACHED"]


def test_a_lock_that_is_not_granted_names_its_holder() -> None:
    view = RunView("db1")
    view.show(entry("C-07", "intent"), 0.0)
    event = LockTimedOut(2, "held by pid 7")
    (shown,) = view.show(entry("C-07", event.event, "2026-05-16T03:12:06.000Z", **event.to_entry()), 6.0)
    assert (shown.state, shown.seconds, shown.text) == ("WAITING", 6.0, "attempt 2: held by pid 7")


def test_a_lock_that_is_waited_for_names_who_is_in_its_way() -> None:
    view = RunView("db1")
    view.show(entry("C-07", "intent"), 0.0)
    holders = [
        {"pid": 7, "role": "report", "application": "", "since": "2026-05-16 03:00:00+00"},
        {"pid": 0, "role": "", "application": "", "since": ""},
    ]
    event = LockAwaited("app.orders", "AccessExclusiveLock", holders)
    (shown,) = view.show(entry("C-07", event.event, "2026-05-16T03:12:01.000Z", **event.to_entry()), 1.0)
    assert (shown.state, shown.seconds) == ("WAITING", 1.0)
    assert shown.text == (
        "waits for AccessExclusiveLock on app.orders, held or asked for by pid 7, role report, application unnamed,"
        " transaction since 2026-05-16 03:00:00+00; a prepared transaction"
    )


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (
            Progress("written", "bytes", 2_500_000, 10_000_000),
            "[#####...............] 2.5 MB written of an estimated 10.0 MB",
        ),
        (
            Progress("written", "bytes", 2_500_000, 2_000_000),
            "[####################] 2.5 MB written of an estimated 2.0 MB",
        ),
        (Progress("written", "bytes", 2_500_000), "2.5 MB written"),
        (Progress("building index", "blocks", 5, 10), "[##########..........] building index: 5 of 10 blocks"),
        (Progress("initializing"), "initializing"),
    ],
)
def test_a_long_command_shows_a_sign_of_life_and_how_far_it_is(progress: Progress, text: str) -> None:
    view = RunView("db1")
    view.show(entry("C-01", "intent"), 100.0)
    assert view.show(entry("C-01", "progress", **progress.to_entry()), 102.0) == []
    assert view.signs(109.9) == []
    (shown,) = view.signs(110.0)
    assert (shown.state, shown.seconds, shown.text) == ("RUNNING", 10.0, f"fresh backup, {text}")
    assert view.signs(139.0) == []
    assert len(view.signs(140.0)) == 1
    view.show(entry("C-01", "done"), 141.0)
    assert view.signs(999.0) == []


def run(root: Path, name: str, task: str) -> Journal:
    (root / name).mkdir()
    journal = Journal(str(root / name / "journal.jsonl"))
    RunOpened(host="db1", task=task).write(journal)
    return journal


def test_only_the_run_that_the_task_opened_is_followed(tmp_path: Path) -> None:
    shown: list[Shown] = []
    old = run(tmp_path, "0", "mine")
    follower = Follower("db1", shown.append, threading.RLock())
    follower.expect(str(tmp_path), "mine")
    other, own = run(tmp_path, "a", "theirs"), run(tmp_path, "b", "mine")
    (tmp_path / "1").mkdir()
    for journal in (old, other, own):
        journal.append("C-05", "intent")
    own.append("C-05", "done")
    old.append("C-05", "failed")
    other.append("C-05", "failed")
    follower.begin()
    follower.end()
    assert [(one.name, one.state) for one in shown] == [("C-05", "DONE")]
    # the next module goes on where this one ended, in the same directory
    follower.know(str(tmp_path / "b"))
    own.append("C-07", "intent")
    own.append("C-07", "failed", {"reason": "shown elsewhere"})
    follower.begin()
    follower.end()
    assert [(one.name, one.state) for one in shown] == [("C-05", "DONE"), ("C-07", "FAILED")]


def test_a_run_that_was_there_before_is_followed_from_its_end(tmp_path: Path) -> None:
    shown: list[Shown] = []
    journal = run(tmp_path, "applied", "mine")
    journal.append("C-07", "done")
    follower = Follower("db1", shown.append, threading.RLock())
    follower.know(str(tmp_path / "applied"))
    journal.append("C-08", "done")
    follower.begin()
    follower.end()
    assert [one.name for one in shown] == ["C-08"]


def test_a_torn_line_waits_and_a_journal_that_cannot_be_read_ends(tmp_path: Path) -> None:
    shown: list[Shown] = []
    follower = Follower("db1", shown.append, threading.RLock())
    follower.expect(str(tmp_path), "mine")
    journal = run(tmp_path, "own", "mine")
    journal.append("C-05", "done")
    file = tmp_path / "own" / "journal.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    follower.begin()
    follower.end()
    assert shown == []
    file.write_bytes(whole + b'{"step": 1}\n[]\n' + b"no JSON\n")
    follower.begin()
    follower.end()
    assert [one.name for one in shown] == ["C-05"]
    journal = Journal(str(tmp_path / "own" / "journal.jsonl"))
    file.write_bytes(whole)
    journal.append("C-06", "done")
    follower.begin()
    follower.end()
    assert [one.name for one in shown] == ["C-05"]


def test_the_end_waits_for_no_thread_that_waits_for_the_output(tmp_path: Path) -> None:
    # ansible-runner calls a callback with the lock of the output held
    shown: list[Shown] = []
    lock = threading.RLock()
    follower = Follower("db1", shown.append, lock)

    def work() -> None:
        with lock:
            follower.expect(str(tmp_path), "mine")
            follower.begin()
            run(tmp_path, "own", "mine").append("C-05", "done")
            time.sleep(0.5)  # the thread waits by now
            follower.end()

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(10)
    assert not worker.is_alive()
    time.sleep(0.5)
    assert [one.name for one in shown] == ["C-05"]


def test_the_end_of_a_run_has_the_next_commands() -> None:
    commands = [{"title": "Check this bundle", "command": "ansible-playbook x"}]
    lines, known = closing(
        {"outcome": "SUCCESS", "report": "/r", "seal": "1", "next_commands": commands, "summary": []}
    )
    assert lines == ["next          Check this bundle: ansible-playbook x"]
    assert known == {"outcome": "SUCCESS", "report": "/r", "seal": "1", "next_commands": commands}
    assert closing({}) == ([], {})


def test_what_nobody_vouched_for_is_told_to_programs_too() -> None:
    remarks = ["approvals were not enforced"]
    assert closing({"outcome": "SUCCESS", "remarks": remarks})[1] == {"outcome": "SUCCESS", "remarks": remarks}
