# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures of C-04: what is read comes back from its file unchanged, and every movement is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle import progress
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Progress, RunOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import (
    Capture,
    ColumnStats,
    DataExpectations,
    MeasuredColumn,
    load_capture,
    save_capture,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import record_state_steps
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

MEASURE = {"id": "updated_at", "relation": "public.tac_logical_unit", "key": "unit_id", "column": "updated_at"}
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(texts, texts, max_size=5), minimum=st.one_of(st.none(), texts))
@example(values={"carriage\rreturn": "a\r\nb", "": "", '"': ",", "x": "y" * 200_000}, minimum="")
def test_a_capture_is_read_as_it_was_written(tmp_path: Path, values: dict[str, str], minimum: str | None) -> None:
    artefacts = RunDirectory(str(tmp_path / "run"))
    artefacts.create()
    measures = [MeasuredColumn("m", "public.t", "id", "col")]
    capture = Capture({"public.t": 3, "no.such": None}, {"m": values}, {"m": ColumnStats(1, 2, minimum, "z")})
    save_capture(artefacts, "before", measures, capture)
    assert load_capture(artefacts, "before", measures) == capture


def take(session: Session, *measure: dict[str, Any], counts: tuple[str, ...] = ()) -> Capture:
    session.execute("BEGIN")
    try:
        return DataExpectations.from_definition(measure, [{"relation": name} for name in counts]).take(session)
    finally:
        session.execute("ROLLBACK")


def test_the_figures_of_the_fixture(session: Session) -> None:
    capture = take(session, MEASURE, counts=("public.tac_logical_unit", "sandbox_tac.logical_unit", "no.such"))
    assert capture.counts == {"public.tac_logical_unit": 86, "sandbox_tac.logical_unit": 76, "no.such": None}
    assert capture.extents["updated_at"] == ColumnStats(
        86, 3, "2026-04-29 05:27:37.951703+00", "2026-04-30 03:12:19.569465+00"
    )
    assert len(capture.values["updated_at"]) == 86


def test_a_long_count_is_told_while_it_is_made(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.1)
    with client.session() as session:
        session.execute("CREATE VIEW public.slow AS SELECT 1 AS one FROM pg_sleep(2)")
    artefacts = RunDirectory(str(tmp_path))
    artefacts.create()
    RunOpened().write(artefacts.journal)
    declared = DataExpectations.from_definition([MEASURE], [{"relation": "no.such"}, {"relation": "public.slow"}])
    record_state_steps(client, artefacts, "before", declared, ["relations"])
    assert load_capture(artefacts, "before", declared.measures).counts == {"no.such": None, "public.slow": 1}
    told = [entry.data for entry in artefacts.journal.entries() if entry.event == Progress.event]
    assert told[-1] == {"what": "rows of public.slow are counted", "unit": "tables", "done": 2, "total": 3}


@pytest.mark.parametrize("table", ['with "quotes"', "Upper Case", "semi;colon", "select", "a.b"])
@pytest.mark.fault("hostile-names")
def test_hostile_names_are_measured(client: Client, table: str) -> None:
    quoted = '"' + table.replace('"', '""') + '"'
    measure = {"id": "m", "relation": f"public.{quoted}", "key": 'k"', "column": "select"}
    with client.session() as session:
        session.execute(f'CREATE TABLE public.{quoted} ("k""" int, "select" text)')
        session.execute(f"INSERT INTO public.{quoted} VALUES (2, E'tab\\there'), (1, NULL)")
        capture = take(session, measure, counts=(f"public.{quoted}",))
    assert capture.values["m"] == {"1": "", "2": "tab\there"}
    assert capture.counts == {f"public.{quoted}": 2}


def test_a_relation_that_is_not_there_cannot_be_measured(session: Session) -> None:
    with pytest.raises(PhaseGateError, match=r"measured relation public\.gone does not exist"):
        take(session, {**MEASURE, "relation": "public.gone"})


def captured(rows: dict[str, str], **counts: int | None) -> Capture:
    values = sorted(rows.values())
    extent = ColumnStats(len(rows), len(set(values)), values[0] if values else None, values[-1] if values else None)
    return Capture(counts, {"updated_at": rows}, {"updated_at": extent})


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, 0),
        ({"a": "1", "b": "2"}, {"a": "9", "b": "9"}, 2),
        ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, 2),
        ({"a": "1"}, {"a": "1", "b": "1"}, 1),
        ({"a": "1", "b": "1"}, {"a": "1"}, 1),
        ({"a": "1"}, {"b": "1"}, 2),
        ({}, {}, 0),
    ],
)
def test_changed_rows_are_counted_by_key(before: dict[str, str], after: dict[str, str], changed: int) -> None:
    declared = DataExpectations.from_definition([{**MEASURE, "expect": {"changed": changed}}], [])
    (measured,), wrong = declared.compare(captured(before), captured(after))
    assert (measured["changed"], measured["rows"], wrong) == (changed, len(after), [])


def test_every_figure_that_is_not_as_declared_is_named() -> None:
    expect = {"rows": 2, "changed": 0, "distinct_before": 3, "distinct_after": None}
    declared = DataExpectations.from_definition([{**MEASURE, "expect": expect}], [])
    _measured, wrong = declared.compare(captured({"a": "1", "b": "2"}), captured({"a": "1", "b": "3"}))
    assert wrong == [
        "updated_at of public.tac_logical_unit: changed 0 expected, 1 found",
        "updated_at of public.tac_logical_unit: distinct_before 3 expected, 2 found",
    ]


@pytest.mark.parametrize(
    ("before", "after", "change", "wrong"),
    [
        (3, 3, 0, False), (3, 4, 1, False), (None, 2, 2, False), (None, 0, 0, False),
        (3, None, -3, False), (3, 4, 0, True), (3, 2, 0, True), (3, 3, 1, True), (3, None, 0, True),
    ],
)  # fmt: skip
def test_row_counts_move_as_declared_only(before: int | None, after: int | None, change: int, wrong: bool) -> None:
    declared = DataExpectations.from_definition([], [{"relation": "t", "change": change}])
    _measured, found = declared.compare(Capture({"t": before}, {}, {}), Capture({"t": after}, {}, {}))
    assert found == ([f"t: {before} rows before, {after} after, declared change {change:+d}"] if wrong else [])


@pytest.mark.parametrize("change", [0, 1])
def test_a_relation_that_never_exists_has_no_row_count(change: int) -> None:
    declared = DataExpectations.from_definition([], [{"relation": "app.misspelt", "change": change}])
    nothing = Capture({"app.misspelt": None}, {}, {})
    assert declared.compare(nothing, nothing)[1] == [
        "app.misspelt: no such relation before or after, or no USAGE privilege on its schema"
    ]
