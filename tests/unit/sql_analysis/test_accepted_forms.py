# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Forms that reads or writes wait for are known by the parser, whatever a phase says; a reason for another one is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile, load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.accepted_forms import unsafe_forms
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import draft_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import (
    analyse_phase,
    derive_statements,
)

if TYPE_CHECKING:
    from pathlib import Path

UNSAFE = [
    ("CREATE INDEX i ON shop.crates (n)", "CREATE INDEX"),
    ("CREATE UNIQUE INDEX i ON shop.crates (n)", "CREATE INDEX"),
    ("ALTER TABLE shop.crates ADD CONSTRAINT c CHECK (n > 0)", "ALTER TABLE ADD CONSTRAINT"),
    ("ALTER TABLE shop.crates ADD CONSTRAINT c FOREIGN KEY (n) REFERENCES shop.boxes", "ALTER TABLE ADD CONSTRAINT"),
    ("ALTER TABLE shop.crates ADD CONSTRAINT c UNIQUE (n)", "ALTER TABLE ADD CONSTRAINT"),
    ("ALTER TABLE shop.crates ALTER COLUMN n SET NOT NULL", "ALTER TABLE SET NOT NULL"),
    ("ALTER TABLE shop.crates ALTER COLUMN n TYPE bigint", "ALTER TABLE ALTER COLUMN TYPE"),
    ("ALTER TABLE shop.crates ADD COLUMN c uuid DEFAULT pg_catalog.gen_random_uuid()", "ALTER TABLE ADD COLUMN"),
    ("REFRESH MATERIALIZED VIEW shop.sums", "REFRESH MATERIALIZED VIEW"),
]
SAFE = [
    "CREATE INDEX i ON ONLY shop.crates (n)",
    "CREATE TABLE shop.new (n int); CREATE INDEX i ON shop.new (n); ALTER TABLE shop.new ALTER COLUMN n SET NOT NULL",
    "ALTER TABLE shop.crates ADD CONSTRAINT c CHECK (n > 0) NOT VALID",
    "ALTER TABLE shop.crates ADD COLUMN c int DEFAULT 1",
    "UPDATE shop.crates SET n = 1",
    "ALTER TABLE shop.crates DROP COLUMN n",
]


def phase_of(directory: Path, sql: str, accept: list[dict[str, Any]] | None = None) -> Path:
    sql = f"BEGIN;\n{sql};\nCOMMIT;\n"
    draft = draft_phase("crates", SourceFile("migrate.sql", "migrate.sql", sql.encode()))
    (directory / "migrate.sql").write_text(sql, encoding="utf-8")
    (directory / "rollback.sql").write_text(draft.rollback, encoding="utf-8")
    (directory / "phase.yml").write_text(f"{draft.definition}\naccept: {accept or []}\n", encoding="utf-8")
    return directory / "phase.yml"


def forms(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    phase = load_phase(str(path))
    found = unsafe_forms(phase.migrate.data, derive_statements(phase)[0].migrate, phase.definition["accept"])
    return [(form.advice.kind, tuple(form.reasons)) for several in found.values() for form in several]


@pytest.mark.parametrize(("sql", "kind"), UNSAFE)
def test_an_unsafe_form_is_known_with_its_reason_or_without(tmp_path: Path, sql: str, kind: str) -> None:
    assert forms(phase_of(tmp_path, sql)) == [(kind, ())]
    relation = "shop.sums" if "sums" in sql else "shop.crates"
    accept = [{"statement": kind, "relation": relation, "reason": "few rows"}]
    assert forms(phase_of(tmp_path, sql, accept)) == [(kind, ("few rows",))]


@pytest.mark.parametrize("sql", SAFE)
def test_a_safe_one_needs_none(tmp_path: Path, sql: str) -> None:
    assert forms(phase_of(tmp_path, sql)) == []


@pytest.mark.parametrize(
    "entry",
    [
        {"statement": "CREATE INDEX", "relation": "shop.boxes"},
        {"statement": "CREATE TABLE", "relation": "shop.crates"},
        {"statement": "CREATE INDEX", "relation": "crates"},
    ],
)
def test_a_reason_for_another_form_is_refused(tmp_path: Path, entry: dict[str, str]) -> None:
    path = phase_of(tmp_path, UNSAFE[0][0], [{**entry, "reason": "few rows"}])
    with pytest.raises(PhaseFileError) as caught:
        analyse_phase(load_phase(str(path)))
    (problem,) = caught.value.problems
    expected = "one of those that a safer form is known of: CREATE INDEX of shop.crates"
    assert (problem.path, problem.expected) == ("accept[0]", expected)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("ALTER TABLE shop.crates ADD COLUMN m int; UPDATE shop.crates SET m = 1", "UPDATE"),
        ("ALTER TABLE shop.crates RENAME TO boxes", "ALTER TABLE RENAME"),
    ],
)
def test_a_reason_may_be_given_wherever_a_safer_form_is_named(tmp_path: Path, sql: str, kind: str) -> None:
    path = phase_of(tmp_path, sql, [{"statement": kind, "relation": "shop.crates", "reason": "few rows"}])
    analyse_phase(load_phase(str(path)))
    assert forms(path) == [(kind, ("few rows",))]
