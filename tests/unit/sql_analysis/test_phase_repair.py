# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""phase.yml follows its SQL: what the phase would be refused for is repaired, and what nothing needs is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile, load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import draft_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_repair import repair_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase, unwritten

if TYPE_CHECKING:
    from pathlib import Path

SQL = "BEGIN;\nALTER TABLE shop.crates ADD COLUMN note text;\nCOMMIT;\n"


@pytest.fixture
def phase(tmp_path: Path) -> Path:
    draft = draft_phase("crates", SourceFile("migrate.sql", "migrate.sql", SQL.encode()))
    (tmp_path / "migrate.sql").write_text(SQL, encoding="utf-8")
    (tmp_path / "rollback.sql").write_text(draft.rollback, encoding="utf-8")
    (tmp_path / "phase.yml").write_text(draft.definition, encoding="utf-8")
    return tmp_path / "phase.yml"


@pytest.mark.parametrize(
    ("added", "lines"),
    [
        ("CREATE TABLE till.bills (id int);", ["  schemas: [shop, till]", "    CREATE TABLE: 1"]),
        ("INSERT INTO shop.crates VALUES (1);", ["    INSERT: 1", "  rows: {INSERT: {each: {min: 0}}}"]),
        ("SELECT shop.count_all();", ["  functions: [shop.count_all]"]),
        ("SELECT pg_catalog.setval('shop.s', 1);", ["  functions: [pg_catalog.setval]"]),
        ("SELECT OPERATOR(shop.-) 1;", ["  functions: [shop.-]"]),
        ("DO $$BEGIN UPDATE shop.crates SET note = ''; END$$;", ["  statements: [ALTER TABLE ADD COLUMN, DO, UPDATE]"]),
        ("DO $$BEGIN EXECUTE 'SELECT 1'; END$$;", ["  statements: [ALTER TABLE ADD COLUMN, DO, DO EXECUTE]"]),
    ],
)
def test_what_the_sql_needs_is_added(phase: Path, added: str, lines: list[str]) -> None:
    (phase.parent / "migrate.sql").write_text(SQL.replace("COMMIT;", f"{added}\nCOMMIT;"), encoding="utf-8")
    repaired = repair_phase(str(phase))
    assert repaired.problems == []
    phase.write_text(repaired.after, encoding="utf-8")
    analyse_phase(load_phase(str(phase)))
    # in flow style, as written in the draft
    found = [line for line in lines if line not in repaired.after.splitlines()]
    assert not found, repaired.after
    assert repair_phase(str(phase)).after == repaired.after


def test_a_refusal_says_what_can_be_written(phase: Path) -> None:
    rollback = phase.parent / "rollback.sql"
    rollback.write_text(rollback.read_text(encoding="utf-8") + "-- more\n", encoding="utf-8")
    with pytest.raises(PhaseFileError) as caught:
        analyse_phase(load_phase(str(phase)))
    last = str(caught.value).splitlines()[-1]
    assert (
        last
        == "If the SQL is as intended, check_phase.yml with -e phasegate_write=true corrects phase.yml for problem 1."
    )


def test_a_mark_that_a_draft_left_in_the_rollback_is_found(phase: Path) -> None:
    assert unwritten(load_phase(str(phase))) == []
    rollback = phase.parent / "rollback.sql"
    lines = rollback.read_text(encoding="utf-8").splitlines()
    rollback.write_text("\n".join([*lines[:-1], "  -- WRITE BY HAND: line 3: UPDATE", *lines[-1:]]), encoding="utf-8")
    (problem,) = unwritten(load_phase(str(phase)))
    assert (problem.file, problem.line, problem.found) == (
        str(rollback),
        len(lines),
        "-- WRITE BY HAND: line 3: UPDATE",
    )


def test_what_nothing_needs_is_left_out(phase: Path) -> None:
    wide = phase.read_text(encoding="utf-8").replace(
        "  schemas: [shop]", "  schemas: [till, shop]\n  functions: [shop.f]"
    )
    wide = wide.replace(
        "  statements: [ALTER TABLE ADD COLUMN]", "  statements: [DROP TABLE, ALTER TABLE, ALTER TABLE ADD COLUMN]"
    )
    phase.write_text(wide, encoding="utf-8")
    lines = repair_phase(str(phase)).after.splitlines()
    assert "  schemas: [shop]" in lines
    assert "  functions: []" in lines
    # the narrow one allows what is there
    assert "  statements: [ALTER TABLE ADD COLUMN]" in lines
    # a scope has one schema at least, also where nothing needs it
    (phase.parent / "migrate.sql").write_text("SET LOCAL work_mem = '1MB';\n", encoding="utf-8")
    (phase.parent / "rollback.sql").write_text("SET LOCAL work_mem = '1MB';\n", encoding="utf-8")
    assert "  schemas: [shop]" in repair_phase(str(phase)).after.splitlines()


def test_what_a_person_has_to_decide_is_left(phase: Path) -> None:
    (phase.parent / "migrate.sql").write_text(SQL.replace("ALTER", "VACUUM shop.crates;\nALTER"), encoding="utf-8")
    repaired = repair_phase(str(phase))
    assert [problem.what.partition(":")[0] for problem in repaired.problems] == ["VACUUM cannot be in a phase"]
    # the rest is repaired; nothing of the scope is left out while something is refused
    digest = load_phase(str(phase)).migrate.sha256
    assert digest in repaired.after


def test_comments_stay_and_what_is_up_to_date_is_not_touched(phase: Path) -> None:
    text = phase.read_text(encoding="utf-8")
    assert repair_phase(str(phase)).after == text
    phase.write_text(text.replace("expect:\n", "# counted by hand\nexpect:\n"), encoding="utf-8")
    (phase.parent / "migrate.sql").write_text(SQL.replace("text", "int"), encoding="utf-8")
    assert "# counted by hand\nexpect:\n" in repair_phase(str(phase)).after
