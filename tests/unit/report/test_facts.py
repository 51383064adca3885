# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report puts side by side, and what it has from the files of the run directory."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import JOURNAL, SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    REHEARSAL,
    CopyVerified,
    RunOpened,
    SealBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._report.evidence import (
    SQL_LIMIT,
    describe_artefact,
    read_evidence,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.facts import (
    in_order,
    lock_rows,
    result_rows,
    statement_rows,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.rendering import report_junit
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_document import shortened
from ansible_collections.incomex.phasegate.tests.unit.report.test_report import RUNS, report

DDL = b"SET a = 1;\nUPDATE t SET b = 2;\n"
PLAN: dict[str, Any] = {
    "ddl": {"file": "migrate.sql", "sha256": hashlib.sha256(DDL).hexdigest()},
    "rehearsal": {"bundle": "alpha_prod_rehearsal_20260515T000000Z", "seal": ""},
}
MEASURED = [{"id": "updated_at", "changed": 86}]


# --- side by side ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "found", "shown"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 3}', '{"b": 2, "a": 1}'),
        ('{"a": 1}', '{"b": 2, "a": 3}', '{"a": 1}'),
        ("[1, 2]", "[2, 1]", "[1, 2]"),
        ("database directus", '{"a": 1}', "database directus"),
    ],
)
def test_what_was_expected_is_in_the_order_of_what_was_found(expected: str, found: str, shown: str) -> None:
    assert in_order(expected, found) == shown


def test_the_trailing_select_is_beside_what_is_declared() -> None:
    row = {"draft": 86, "format": 85, "new": 1}
    assert result_rows({"format": 86, "draft": 86}, [row]) == [
        {"row": 1, "column": "draft", "found": 86, "expected": 86},
        {"row": 1, "column": "format", "found": 85, "expected": 86},
        {"row": 1, "column": "new", "found": 1},
    ]
    assert result_rows(86, [{"count": 85}]) == [{"row": 1, "column": "count", "found": 85, "expected": 86}]
    assert [cell["expected"] for cell in result_rows([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}])] == [1, 2]
    assert result_rows(None, None) == []


def test_a_statement_has_its_declared_rows_in_file_order_and_its_text() -> None:
    part = {
        "statements": [
            {"n": 1, "start": 0, "end": 11, "kinds": ["SET"], "relations": [], "after_commit": ""},
            {"n": 2, "start": 11, "end": 31, "kinds": ["UPDATE"], "relations": ["t"], "after_commit": ""},
        ]
    }
    ran = [
        {"n": 1, "line": 1, "tag": "SET", "rows": 0, "milliseconds": 0.1, "at": "2026-05-16T04:00:01.000Z"},
        {"n": 2, "line": 2, "tag": "UPDATE", "rows": 3, "milliseconds": 0.2},
        {"n": 3, "line": 3, "tag": "UPDATE", "rows": 4, "milliseconds": 0.3},
    ]
    rows = statement_rows(part, {"UPDATE": [3, {"min": 1}]}, [], "C-07", {"statements": ran}, DDL)
    assert [one["expected_rows"] for one in rows] == [None, 3, {"min": 1}]
    # one count for every statement of the tag
    rows = statement_rows(part, {"UPDATE": {"each": 3}}, [], "C-07", {"statements": ran}, DDL)
    assert [one["expected_rows"] for one in rows] == [None, 3, 3]
    assert [one["sql"] for one in rows] == ["SET a = 1;", "UPDATE t SET b = 2;", ""]
    assert [one["started"] for one in rows] == ["2026-05-16T04:00:01.000Z", "", ""]
    assert rows[1]["relations"] == ["t"]


def test_a_lock_is_held_from_the_statement_that_took_it_in_the_rehearsal_until_commit() -> None:
    held = [{"relation": "t", "mode": mode} for mode in ("AccessExclusiveLock", "AccessShareLock", "RowExclusiveLock")]
    rehearsed = [{"relation": "t", "mode": "AccessExclusiveLock", "statement": 2, "held_microseconds": 5000}]
    statements = [{"n": 2, "started": "2026-05-16T04:00:01.000Z"}]
    rows = lock_rows({"locks": held}, rehearsed, statements, "2026-05-16T04:00:03.500Z")
    assert {row["mode"]: (row["statement"], row["seconds"], row["rehearsed_seconds"]) for row in rows} == {
        "AccessExclusiveLock": (2, 2.5, 0.005),
        "RowExclusiveLock": (None, None, None),
    }


def test_digests_are_cut_and_nothing_else_is() -> None:
    key = "SHA256:ErMNSiUjr4Hf15IW/frECsu8CwNh6Jx0Ee/VluMP3LA"
    assert shortened(f"SHA-256 {'ab' * 32}; key {key}, 7384512000000000001") == (
        "SHA-256 abababababab…; key SHA256:ErMNSiUjr4Hf…, 7384512000000000001"
    )


# --- junit.xml ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_junit_fails_where_the_run_did(name: str) -> None:
    root = ET.fromstring(report_junit(report(name)))
    built = report(name)
    outcome = root.find(".//testcase[@name='outcome']")
    assert outcome is not None
    assert (outcome.find("failure") is None) == (built["outcome"] in ("SUCCESS", "DRAFTED"))
    failed = {
        case.get("name", "").partition(" ")[0] for case in root.iter("testcase") if case.find("failure") is not None
    }
    assert {gate["id"] for gate in built["gates"] if gate["status"] == "FAIL"} <= failed
    # a rollback that an operator asked for is no failure
    assert "T-9" not in failed
    assert len(list(root.iter("testcase"))) == int(root.attrib["tests"])


# --- from the files ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    artefacts = RunDirectory(str(tmp_path / "alpha_prod_20260516T000000Z"))
    (tmp_path / "alpha_prod_20260516T000000Z").mkdir()
    artefacts.create()
    artefacts.write("sql/migrate.sql", DDL)
    artefacts.write("plan.json", json.dumps(PLAN).encode())
    return artefacts


@pytest.fixture
def rehearsal(tmp_path: Path) -> RunDirectory:
    """The sealed bundle of the rehearsal, beside the run's directory."""
    bundle = RunDirectory(str(tmp_path / PLAN["rehearsal"]["bundle"]))
    (tmp_path / PLAN["rehearsal"]["bundle"]).mkdir()
    bundle.create()
    RunOpened(kind=REHEARSAL).write(bundle.journal)
    with Step(bundle, CopyVerified).running() as step:
        step.update(measured=MEASURED)
    SealBegun().write(bundle.journal)
    bundle.seal(bundle.sums())
    return bundle


def plan_of(bundle: RunDirectory) -> dict[str, Any]:
    """Return a plan that names the bundle by its seal now."""
    seal = hashlib.sha256(Path(bundle.file(SEAL)).read_bytes()).hexdigest()
    return {**PLAN, "rehearsal": {**PLAN["rehearsal"], "seal": seal}}


def test_every_file_has_its_digest_size_and_description(run: RunDirectory) -> None:
    rows = {row["name"]: row for row in read_evidence(run, PLAN, [], run.sums()).artefacts}
    assert rows["sql/migrate.sql"]["sha256"] == PLAN["ddl"]["sha256"]
    assert rows["sql/migrate.sql"]["size"] == len(DDL)
    assert all(row["about"] for row in rows.values())
    assert (
        describe_artefact("schema/rehearsal_after.jsonl.gz")
        == "the facts of the schema after the migration of the copy"
    )
    assert describe_artefact("schema/before_updated_at.csv") == "a measured column, every row by key, before"
    assert describe_artefact("mine.txt") == ""


def test_a_rehearsal_has_the_locks_that_it_measured_itself(rehearsal: RunDirectory) -> None:
    locks = [{"relation": "t", "mode": "ShareLock", "statement": 1, "held_microseconds": 5}]
    rehearsal.write("rehearsal.json", json.dumps({"locks": locks}).encode())
    entries = rehearsal.journal.entries()
    assert read_evidence(rehearsal, PLAN, entries, rehearsal.sums()).locks == locks
    assert read_evidence(rehearsal, PLAN, [], rehearsal.sums()).locks == ()


def test_the_sql_is_that_of_the_plan_or_none(run: RunDirectory) -> None:
    assert read_evidence(run, PLAN, [], run.sums()).sql == DDL
    run.write("sql/migrate.sql", DDL + b"-- more\n")
    assert read_evidence(run, PLAN, [], run.sums()).sql == b""
    large = b"-- " + b"x" * SQL_LIMIT
    run.write("sql/migrate.sql", large)
    pinned = {**PLAN, "ddl": {"file": "migrate.sql", "sha256": hashlib.sha256(large).hexdigest()}}
    assert read_evidence(run, pinned, [], run.sums()).sql == b""


def test_the_rehearsals_figures_are_those_of_the_bundle_that_the_plan_names(
    run: RunDirectory, rehearsal: RunDirectory
) -> None:
    assert read_evidence(run, plan_of(rehearsal), [], run.sums()).rehearsed == MEASURED


def changed_journal(bundle: RunDirectory) -> None:
    bundle.write(JOURNAL, Path(bundle.file(JOURNAL)).read_bytes().replace(b"86", b"87"))


def sealed_again(bundle: RunDirectory) -> None:
    changed_journal(bundle)
    bundle.seal(bundle.sums())


def renamed_away(bundle: RunDirectory) -> None:
    Path(bundle.path).rename(bundle.path + ".away")


def unsealed(bundle: RunDirectory) -> None:
    Path(bundle.file(SEAL)).unlink()


@pytest.mark.parametrize("damage", [changed_journal, sealed_again, renamed_away, unsealed])
def test_figures_that_are_not_proved_are_not_known(run: RunDirectory, rehearsal: RunDirectory, damage: Any) -> None:
    plan = plan_of(rehearsal)
    damage(rehearsal)
    assert read_evidence(run, plan, [], run.sums()).rehearsed is None
