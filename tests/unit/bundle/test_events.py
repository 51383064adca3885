# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of a journal: a record for each, read as it was written, and other forms refused in words."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle import events
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    DONE,
    FAILED,
    INTENT,
    Migrated,
    OutcomeResolved,
    RunEvent,
    RunOpened,
    SealBegun,
    StatementBegun,
    StatementDone,
    StatementFailed,
    StepEnd,
    TransactionBegun,
    Verified,
    record_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import FORMAT, Entry, Journal
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Note, Record
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    gates_of,
    journaled_outcome,
    last_outcome,
    newest_end,
    opening_of,
    statements_left,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError

if TYPE_CHECKING:
    from pathlib import Path

EVERY = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type)
    and issubclass(kind, Record)
    and (getattr(kind, "event", False) or getattr(kind, "step", False))
]


def entry(kind: type[Record], data: dict[str, Any], step: str = "C-07") -> Entry:
    """The entry that a record of this kind is written as."""
    if issubclass(kind, RunEvent):
        return Entry(1, "t", "run", kind.event, data) if kind.event else Entry(1, "t", "run", "open", data)
    if issubclass(kind, Note):
        return Entry(1, "t", step, kind.event, data)
    assert issubclass(kind, StepEnd)
    return Entry(1, "t", kind.step, DONE, data)


def journal(*entries: tuple[str, str, dict[str, Any]]) -> list[Entry]:
    return [Entry(n, "t", step, event, data) for n, (step, event, data) in enumerate(entries, start=1)]


def value_of(annotation: str) -> Any:
    """A value of a field's type."""
    form = annotation.partition(" |")[0]
    if form in ("Rows", "Sequence[str]"):
        return [{"a": 1}] if form == "Rows" else ["text"]
    return {"str": "text", "int": 1, "float": 1.5, "bool": True}.get(form, {"a": "text"})


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind is not RunEvent], ids=lambda kind: kind.__name__)
def test_a_record_is_read_as_it_was_written(kind: type[Record]) -> None:
    values = {one.name: value_of(str(one.type)) for one in dataclasses.fields(kind)}
    record = kind(**values)
    written = json.loads(json.dumps(record.to_entry()))
    assert written == values
    assert record_of(entry(kind, written)) == record
    # what is None is not there, and is None again
    assert kind.from_entry(entry(kind, {})) == kind()
    for name, value in values.items():
        for other in (None, [[1]], {"a": [1]}, True, 1, "text"):
            if type(other) is not type(value) and not (type(value) is float and type(other) is int):
                with pytest.raises(PhaseGateError, match="is not of this release's form"):
                    record_of(entry(kind, {**written, name: other}))


@pytest.mark.parametrize("kind", [RunOpened, TransactionBegun, Migrated], ids=lambda kind: kind.__name__)
def test_an_unknown_key_is_refused_in_words(kind: type[Record]) -> None:
    with pytest.raises(PhaseGateError, match=r"line 1 .* is not of this release's form") as caught:
        record_of(entry(kind, {"colour": "red"}))
    assert "colour" in caught.value.found


def test_an_unknown_event_of_a_runs_own_step_is_refused_and_another_step_is_left_to_its_gate() -> None:
    with pytest.raises(PhaseGateError, match="unknown event"):
        record_of(Entry(7, "t", "C-07", "celebrated", {}))
    assert record_of(Entry(7, "t", "C-10", "done", {"anything": 1})) is None
    assert record_of(Entry(7, "t", "C-07", INTENT, {})) is None


def test_a_journal_of_another_form_is_refused_and_one_of_the_first_form_is_read(tmp_path: Path) -> None:
    path = Journal(str(tmp_path / "journal.jsonl"))
    path.append("run", "open", {"phase": "alpha", "format": "phasegate-journal/9"})
    with pytest.raises(PhaseGateError, match="The journal has another form") as caught:
        path.entries()
    assert (FORMAT in caught.value.expected, caught.value.found) == (True, "phasegate-journal/9")
    older = Journal(str(tmp_path / "older.jsonl"))
    older.append("run", "open", {"kind": "execute", "phase": "alpha", "environment": "prod"})
    start = opening_of(older.entries())
    assert start
    assert (start.phase, start.format) == ("alpha", None)


def test_a_command_that_ended_twice_has_the_newest_of_each_field() -> None:
    entries = journal(
        ("C-08", DONE, {"diff": {"ok": True}, "checks": [{"id": "VA-1"}]}),
        ("C-08", FAILED, {"reason": "it broke", "checks": []}),
        ("C-08", DONE, {"deviations": []}),
    )
    end = newest_end(entries, Verified)
    assert (end.diff, end.checks, end.deviations, end.reason) == ({"ok": True}, [], [], "it broke")
    assert newest_end(entries, Verified, done=True).checks == [{"id": "VA-1"}]
    assert newest_end(entries, Migrated) == Migrated()


def test_gates_are_read_wherever_they_were_evaluated() -> None:
    entries = journal(
        ("run", "judged", {"gates": [{"id": "G-4"}]}),
        ("C-06", DONE, {"gates": [{"id": "G-6"}]}),
        ("C-07", "transaction", {"xid": "7", "pid": 1, "gates": [{"id": "G-1"}]}),
        ("C-07", FAILED, {"reason": "", "gates": [{"id": "G-2"}]}),
        ("run", FAILED, {"reason": "", "gates": [{"id": "G-7"}]}),
    )
    assert [gate["id"] for gate in gates_of(entries)] == ["G-4", "G-6", "G-1", "G-2", "G-7"]


@pytest.mark.parametrize(
    ("entries", "outcome", "last"),
    [
        ([], "NOT_STARTED", None),
        ([TransactionBegun("7", 1)], None, None),
        ([TransactionBegun("7", 1), OutcomeResolved("COMMITTED", "7")], "COMMITTED", "COMMITTED"),
        ([TransactionBegun("7", 1), OutcomeResolved("ROLLED_BACK", "7")], "ROLLED_BACK", "ROLLED_BACK"),
    ],
)
def test_the_outcome_of_a_command(entries: list[Note], outcome: str | None, last: str | None) -> None:
    written = journal(*(("C-07", one.event, one.to_entry()) for one in entries))
    assert (journaled_outcome(written, "C-07"), last_outcome(written, "C-07")) == (outcome, last)


def test_what_is_left_after_commit() -> None:
    statements = [{"n": n, "after_commit": f"app.i{n}"} for n in (2, 3, 4)] + [{"n": 1, "after_commit": ""}]
    events_seen: list[Note] = [StatementBegun(2), StatementDone(2), StatementBegun(3), StatementFailed(3, "x", "y")]
    written = journal(*(("C-07", one.event, one.to_entry()) for one in events_seen))
    assert [one["n"] for one in statements_left(statements, written, "C-07")] == [3, 4]
    assert [one["n"] for one in statements_left(statements, written, "C-09")] == [2, 3, 4]


def test_events_of_the_run_write_themselves(tmp_path: Path) -> None:
    path = Journal(str(tmp_path / "journal.jsonl"))
    RunOpened(phase="alpha", format=FORMAT).write(path)
    SealBegun().write(path)
    first, last = path.entries()
    assert (first.step, first.event, last.event, last.data) == ("run", "open", "seal", {})
