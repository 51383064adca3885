# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of runs: what undoes what, what is in place, and what somebody has to look at."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    EXECUTE,
    REHEARSAL,
    ROLLBACK,
    Migrated,
    RolledBack,
    RunContinued,
    RunNotOpened,
    RunOpened,
    SealBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import list_runs, run_lines, sealed_run
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_page import runs_document
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_watch import watch

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = {"database": "directus", "system_identifier": "7384512999999999999"}


def a_run(
    root: Path,
    name: str,
    kind: str,
    *,
    committed: bool = False,
    outcome: str | None = None,
    warnings: tuple[str, ...] = (),
    **about: Any,
) -> RunDirectory:
    """Write the journal of a run; it is sealed when an outcome is given."""
    run = RunDirectory(str(root / name))
    run.create()
    phase = about.pop("phase", "alpha")
    RunOpened(
        kind=kind,
        environment="prod",
        host="db1",
        operator="anna@ops",
        phase=phase,
        identity=IDENTITY,
        path=run.path,
        **about,
    ).write(run.journal)
    if committed:
        end = RolledBack(outcome="COMMITTED") if kind == ROLLBACK else Migrated(outcome="COMMITTED")
        run.journal.append(end.step, "done", end.to_entry())
    if outcome:
        SealBegun(name, (), {}, outcome, outcome, warnings).write(run.journal)
        run.write("SHA256SUMS", b"")
    return run


def test_cycles_of_execution_and_rollback(tmp_path: Path) -> None:
    a_run(tmp_path, "a1", EXECUTE, committed=True, outcome="SUCCESS")
    a_run(tmp_path, "a2", ROLLBACK, committed=True, outcome="SUCCESS", execution="a1")
    a_run(tmp_path, "a3", EXECUTE, committed=True, outcome="SUCCESS")
    # refused: it undoes nothing
    a_run(tmp_path, "a4", ROLLBACK, outcome="ABORTED", execution="a3")
    a_run(tmp_path, "a5", REHEARSAL, outcome="SUCCESS")
    found = list_runs(str(tmp_path))
    assert [(one.bundle, one.state, one.undone_by, one.undoes) for one in found] == [
        ("a1", "rolled back", "a2", ""),
        ("a2", "", "", "a1"),
        ("a3", "in place", "", ""),
        ("a4", "", "", "a3"),
        ("a5", "", "", ""),
    ]
    lines = run_lines(found)
    assert "execute    alpha  directus on prod  SUCCESS  rolled back by a2  unsigned  anna@ops  a1" in lines[1]
    assert lines[-1].startswith("in place: alpha on directus since ")
    assert [line for line in lines if line.startswith("look at")] == []


def test_a_run_that_was_continued_and_rolled_back_by_its_last_name(tmp_path: Path) -> None:
    a_run(tmp_path, "b1", EXECUTE, committed=True, outcome="COMMITTED_INCOMPLETE")
    later = a_run(tmp_path, "b2", EXECUTE, committed=True)
    RunContinued("b1", "0" * 64, later.path).write(later.journal)
    before = {one.bundle: one for one in list_runs(str(tmp_path))}
    assert (before["b1"].state, before["b2"].state, before["b2"].outcome) == ("continued", "in place", "INTERRUPTED")
    assert "look at: b2: INTERRUPTED, and its transaction is COMMITTED" in run_lines(list(before.values()))
    a_run(tmp_path, "b3", ROLLBACK, committed=True, outcome="SUCCESS", execution="b2")
    assert [one.undone_by for one in list_runs(str(tmp_path))] == ["b3", "b3", ""]


@pytest.mark.parametrize("renamed", ["e1", "e2", "e3"])
def test_a_renamed_directory_is_known_by_its_sealed_name(tmp_path: Path, renamed: str) -> None:
    a_run(tmp_path, "e1", EXECUTE, committed=True, outcome="COMMITTED_INCOMPLETE")
    later = a_run(tmp_path, "e2", EXECUTE, committed=True)
    RunContinued("e1", "0" * 64, later.path).write(later.journal)
    SealBegun("e2", (), {}, "SUCCESS", "SUCCESS").write(later.journal)
    later.write("SHA256SUMS", b"")
    a_run(tmp_path, "e3", ROLLBACK, committed=True, outcome="SUCCESS", execution="e2")
    (tmp_path / renamed).rename(tmp_path / "moved")
    found = {one.name: one for one in list_runs(str(tmp_path))}
    assert [found[name].undone_by for name in ("e1", "e2", "e3")] == ["e3", "e3", ""]
    assert found[renamed].bundle == "moved"
    lines = run_lines(list(found.values()))
    assert "in place: nothing" in lines
    assert any(line.endswith(f"moved (sealed as {renamed})") for line in lines)


@pytest.mark.parametrize("copy", ["a0", "f1.copy"])
def test_a_copy_of_a_run_is_not_a_second_one(tmp_path: Path, copy: str) -> None:
    a_run(tmp_path, "f1", EXECUTE, committed=True, outcome="SUCCESS")
    shutil.copytree(tmp_path / "f1", tmp_path / copy)
    assert {one.bundle: one.state for one in list_runs(str(tmp_path))} == {"f1": "in place", copy: "copy"}
    a_run(tmp_path, "f2", ROLLBACK, committed=True, outcome="SUCCESS", execution="f1")
    assert {one.bundle: one.state for one in list_runs(str(tmp_path))} == {"f1": "rolled back", copy: "copy", "f2": ""}
    # of two copies without the original, one is the run
    (tmp_path / "f1").rename(tmp_path / "z")
    states = {one.bundle: one.state for one in list_runs(str(tmp_path))}
    assert sorted(states[name] for name in (copy, "z")) == ["copy", "rolled back"]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ("open", {"kind": ["execute"]}),
        ("open", {"phase": 1}),
        ("open", {"operator": {"a": 1}}),
        ("open", {"identity": []}),
        ("open", {"inventory": [1]}),
        ("open", {"key_of_a_later_release": 1}),
        ("continue", {"bundle": ["x"]}),
        ("seal", {"outcome": ["x"]}),
    ],
)
def test_a_directory_of_another_form_hides_no_other(tmp_path: Path, line: str, data: dict[str, Any]) -> None:
    a_run(tmp_path, "g1", EXECUTE, committed=True, outcome="SUCCESS")
    odd = RunDirectory(str(tmp_path / "g2"))
    odd.create()
    if line != "open":
        odd.journal.append("run", "open", {"kind": EXECUTE, "phase": "alpha"})
    odd.journal.append("run", line, data)
    odd.write("SHA256SUMS", b"")
    found = {one.bundle: one for one in list_runs(str(tmp_path))}
    assert (found["g1"].state, found["g1"].unreadable) == ("in place", "")
    assert "is not of this release's form" in found["g2"].unreadable


@pytest.mark.parametrize("at", [5, None, ["a"]])
def test_a_time_that_is_no_text(tmp_path: Path, at: Any) -> None:
    a_run(tmp_path, "h1", EXECUTE, committed=True, outcome="SUCCESS")
    odd = RunDirectory(str(tmp_path / "h2"))
    odd.create()
    odd.write("journal.jsonl", (Entry(1, at, "run", "open", {}).line() + "\n").encode())
    found = {one.bundle: one for one in list_runs(str(tmp_path))}
    assert found["h1"].state == "in place"
    assert "not intact at line 1" in found["h2"].unreadable


def test_what_needs_attention(tmp_path: Path) -> None:
    a_run(tmp_path, "c1", EXECUTE, committed=True, outcome="COMMITTED_NOT_VERIFIED")
    (tmp_path / "alpha_prod_x").mkdir()
    (tmp_path / "alpha_prod_x" / "journal.jsonl").write_text("{}\n\x1b[2J", encoding="utf-8")
    not_opened = RunDirectory(str(tmp_path / "c3"))
    not_opened.create()
    RunNotOpened(EXECUTE, None, "alpha", "prod", "db1").write(not_opened.journal)
    working = a_run(tmp_path, "c4", EXECUTE)
    (tmp_path / "drift").mkdir()
    with working.at_work():
        found = {one.bundle: one for one in list_runs(str(tmp_path), "alpha")}
        lines = run_lines(list(found.values()))
    assert set(found) == {"c1", "alpha_prod_x", "c3", "c4"}
    assert (found["c3"].outcome, found["c4"].outcome) == ("INTERRUPTED", "RUNNING")
    looked = [line for line in lines if line.startswith("look at: ")]
    assert "look at: c1: COMMITTED_NOT_VERIFIED" in looked
    assert len(looked) == 3
    assert "\x1b" not in "".join(lines)


@pytest.mark.fault("bare-success")
@pytest.mark.parametrize(
    ("warnings", "shown", "more"),
    [
        (("approvals were not enforced",), "SUCCESS (approvals were not enforced)", "; approvals were not enforced"),
        (("not rehearsed",), "SUCCESS (not rehearsed)", "; not rehearsed"),
        (
            ("approvals were not enforced", "not rehearsed"),
            "SUCCESS (approvals were not enforced; not rehearsed)",
            "; approvals were not enforced; not rehearsed",
        ),
        ((), "SUCCESS", ""),
    ],
)
def test_what_nobody_vouched_for_is_behind_the_outcome(
    tmp_path: Path, warnings: tuple[str, ...], shown: str, more: str
) -> None:
    a_run(tmp_path, "g1", EXECUTE, committed=True, outcome="SUCCESS", warnings=warnings)
    (found,) = list_runs(str(tmp_path))
    assert (found.outcome, found.shown_outcome) == ("SUCCESS", shown)
    assert found.as_dict()["warnings"] == list(warnings)
    lines = run_lines([found])
    assert f"  {shown}  " in lines[1]
    assert lines[-1] == f"in place: alpha on directus since {found.opened[:19]}Z (g1){more}"
    badge = f'<td data-label="outcome"><span class="badge {"watch" if warnings else "good"}">{shown}</span></td>'
    assert badge in render_page(runs_document({"db1": [found]}, found.opened))
    watched = watch(str(tmp_path), "g1", 0, 0)
    assert (watched["outcome"], watched["remarks"]) == ("SUCCESS", list(warnings))


def test_other_phases_and_nothing(tmp_path: Path) -> None:
    a_run(tmp_path, "d1", EXECUTE, phase="beta", committed=True, outcome="SUCCESS")
    assert list_runs(str(tmp_path), "alpha") == []
    assert run_lines([]) == ["No run."]
    assert list_runs(str(tmp_path / "absent")) == []


@pytest.mark.parametrize("copy", ["a0", "f1.copy"])
def test_the_newest_sealed_run_is_no_copy(tmp_path: Path, copy: str) -> None:
    with pytest.raises(PhaseGateError, match="There is no sealed run"):
        sealed_run(str(tmp_path), "")
    a_run(tmp_path, "f1", EXECUTE, committed=True, outcome="SUCCESS")
    shutil.copytree(tmp_path / "f1", tmp_path / copy)
    a_run(tmp_path, "f2", ROLLBACK, execution="f1")
    assert sealed_run(str(tmp_path), "").path == str(tmp_path / "f1")
    assert sealed_run(str(tmp_path), copy).path == str(tmp_path / copy)
    with pytest.raises(PhaseGateError, match="There is no such run"):
        sealed_run(str(tmp_path), "f2")
