# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: whoever edits, deletes, inserts or moves a line is found, and a torn last line does no harm."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import GENESIS
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import (
    Entry,
    Journal,
    _line_digest,
    parse_journal,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
steps = st.tuples(
    st.sampled_from(["run", "C-01", "C-07"]),
    st.sampled_from(["intent", "done", "failed"]),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), values, max_size=3),
)


def chain(entries: list[tuple[str, str, dict[str, Any]]]) -> list[bytes]:
    """Return the lines of a journal, each with its newline."""
    lines: list[bytes] = []
    prev = GENESIS
    for number, (step, event, data) in enumerate(entries, start=1):
        line = Entry(number, "2026-05-16T03:12:00.000Z", step, event, data, prev).line()
        prev = _line_digest(line)
        lines.append(line.encode() + b"\n")
    return lines


journals = st.lists(steps, min_size=1, max_size=6).map(chain)


@given(lines=journals)
def test_an_untouched_journal_is_read(lines: list[bytes]) -> None:
    assert [entry.line().encode() + b"\n" for entry in parse_journal(b"".join(lines))] == lines


@given(lines=journals, data=st.data())
def test_a_changed_byte_is_found(lines: list[bytes], data: st.DataObject) -> None:
    journal = bytearray(b"".join(lines))
    # The last line has no successor that knows its digest; the seal's SHA256SUMS does.
    position = data.draw(st.integers(0, len(journal) - len(lines[-1]) - 1)) if len(lines) > 1 else None
    if position is None:
        return
    journal[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PhaseGateError, match="not intact at line"):
        parse_journal(bytes(journal))


@given(lines=journals, data=st.data())
def test_a_deleted_line_is_found(lines: list[bytes], data: st.DataObject) -> None:
    # Without its last line a journal is the shorter journal that it was before; the seal knows better.
    if len(lines) > 1:
        gone = data.draw(st.integers(0, len(lines) - 2))
        with pytest.raises(PhaseGateError, match=f"not intact at line {gone + 1}"):
            parse_journal(b"".join(lines[:gone] + lines[gone + 1 :]))


@given(lines=journals, data=st.data())
def test_an_inserted_line_is_found(lines: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(lines)))
    other = data.draw(journals)
    new = data.draw(st.sampled_from([*lines, *other, b"\n", b"{}\n", b"null\n", b"[]\n", b"\xff\n"]))
    # The first line of another journal is fine in the first place; what follows is not its successor.
    with pytest.raises(PhaseGateError, match=f"not intact at line ({place + 1}|{place + 2})"):
        parse_journal(b"".join([*lines[:place], new, *lines[place:]]))


def test_an_empty_line_is_no_journal() -> None:
    with pytest.raises(PhaseGateError, match="not intact at line 1"):
        parse_journal(b"\n")


@given(lines=journals, data=st.data())
def test_moved_lines_are_found(lines: list[bytes], data: st.DataObject) -> None:
    order = data.draw(st.permutations(lines))
    if order != lines:
        with pytest.raises(PhaseGateError, match="not intact at line"):
            parse_journal(b"".join(order))


@given(lines=journals, data=st.data())
def test_a_torn_last_line_is_as_if_it_had_not_been_written(lines: list[bytes], data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(lines[-1]) - 1))
    assert parse_journal(b"".join(lines[:-1]) + lines[-1][:length]) == parse_journal(b"".join(lines[:-1]))


def test_a_recomputed_entry_of_another_form_is_found() -> None:
    line = json.dumps({"seq": 1, "at": "", "step": "run", "event": "open", "data": {}, "prev": GENESIS})
    with pytest.raises(PhaseGateError, match="not intact at line 1"):
        parse_journal(line.encode() + b"\n")


def test_append_writes_over_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(str(path))
    journal.append("run", "open", {"who": "Zoë"})
    with path.open("ab") as stream:
        stream.write(b'{"seq":2,"at":"20')
    entry = journal.append("C-01", "intent")
    assert (entry.seq, [e.step for e in journal.entries()]) == (2, ["run", "C-01"])


def test_append_refuses_a_damaged_journal_and_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(str(path))
    journal.append("run", "open")
    damaged = path.read_bytes().replace(b'"open"', b'"Open"') + b"\n"
    path.write_bytes(damaged)
    with pytest.raises(PhaseGateError, match="do not continue a run from it"):
        journal.append("C-01", "intent")
    assert path.read_bytes() == damaged


def test_an_absent_journal_has_no_entries(tmp_path: Path) -> None:
    assert Journal(str(tmp_path / "journal.jsonl")).entries() == []


def test_two_writers_cannot_fork_the_chain(tmp_path: Path) -> None:
    # The lock belongs to the open file, so two threads are to each other as two processes.
    path = str(tmp_path / "journal.jsonl")

    def append_many(step: str) -> None:
        for _ in range(25):
            Journal(path).append(step, "intent")

    with ThreadPoolExecutor() as pool:
        list(pool.map(append_many, ["C-01", "C-02"]))
    assert [entry.seq for entry in Journal(path).entries()] == list(range(1, 51))
