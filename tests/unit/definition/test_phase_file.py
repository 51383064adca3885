# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which phase.yml can be wrong has its own message, with line, place and next step."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError, Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import load_strict_yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.phase_schema import PHASE_SCHEMA
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA, PhaseFiles
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]
CHECK = {"id": "VA-1", "title": "one", "sql": "SELECT 1", "expect": 1}


def problems_of(path: str) -> list[Problem]:
    with pytest.raises(PhaseFileError) as caught:
        load_phase(path)
    return caught.value.problems


def only_problem(files: PhaseFiles) -> Problem:
    (problem,) = problems_of(files.path)
    return problem


@pytest.fixture
def files(tmp_path: Path) -> PhaseFiles:
    return PhaseFiles(tmp_path)


@pytest.fixture
def alpha(tmp_path: Path) -> Path:
    """A copy of Phase Alpha's directory, to be damaged."""
    shutil.copytree(ALPHA.parent, tmp_path / "alpha")
    return tmp_path / "alpha" / "phase.yml"


def replace(path: Path, old: str, new: str) -> str:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return str(path)


# --- what is valid ---------------------------------------------------------------------------------------------


def test_alpha_is_the_phase_of_the_record() -> None:
    definition = load_phase(str(ALPHA)).definition
    assert [check["id"] for check in definition["preflight"]] == [f"P-{n}" for n in range(1, 11)]
    verify = [check["id"] for check in definition["verify"]]
    assert sorted(verify) == sorted([*(f"VA-{n}" for n in range(1, 17)), "VA-13rows"])
    assert definition["expect"]["tags"] == {
        "BEGIN": 1,
        "SET": 3,
        "ALTER TABLE": 5,
        "UPDATE": 1,
        "CREATE TABLE": 1,
        "CREATE INDEX": 4,
        "COMMENT": 6,
        "SELECT": 1,
        "COMMIT": 1,
    }
    assert definition["expect"]["rows"] == {"UPDATE": [86]}
    assert definition["expect"]["result"] == {
        "tac_authority_draft": 86,
        "tac_authority_enacted": 0,
        "tac_authority_runtime": 0,
        "tac_authority_null": 0,
        "tac_format_v1": 86,
        "sandbox_authority_null": 76,
        "sandbox_format_v1": 76,
        "alias_table_present": 1,
    }


def test_defaults_are_filled_in(files: PhaseFiles) -> None:
    definition = load_phase(files.write().path).definition
    assert definition["requires"] == []
    assert definition["settings"] == {
        "search_path": [],
        "lock_timeout": "5s",
        "statement_timeout": "60s",
        "idle_in_transaction_session_timeout": "60s",
        "after_commit_timeout": "1h",
    }
    assert definition["diff"] == {"policy": "additions_only", "allow": []}
    assert definition["scope"]["functions"] == []
    assert definition["expect"]["rows"] == definition["rollback"]["rows"] == {}
    for section in ("measure", "row_counts", "non_scope", "cross_references"):
        assert definition[section] == []


def test_defaults_are_not_shared_between_phases(files: PhaseFiles) -> None:
    load_phase(files.write().path).definition["settings"]["search_path"].append("app")
    assert load_phase(files.path).definition["settings"]["search_path"] == []


def test_row_counts_take_one_form(files: PhaseFiles) -> None:
    files.write({"row_counts": ["app.t", {"relation": 'app."T"', "change": -3}]})
    counts = load_phase(files.path).definition["row_counts"]
    assert counts == [{"relation": "app.t", "change": 0}, {"relation": 'app."T"', "change": -3}]


@pytest.mark.parametrize("value", [1, "x", True, None, [], [1, "x"], {"a": 1}, [{"a": 1}, {"a": None}]])
def test_forms_of_expectations(files: PhaseFiles, value: Any) -> None:
    files.write({"verify": [{**CHECK, "expect": value}]})
    (check,) = load_phase(files.path).definition["verify"]
    assert check["expect"] == value
    assert type(check["expect"]) is type(value)


# --- the text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("title: Authority", "title: A: Authority", 4, "not valid YAML"),
        ("revision: r2", "revision: r2\nrevision: r3", 6, "a duplicate key"),
        ("revision: r2", "revision: &r r2", 5, "anchor or alias"),
        ("revision: r2", "revision: !!binary cjI=", 5, "a YAML tag"),
        ("revision: r2", "revision: 2026-05-16", 5, "an ambiguous plain value"),
        ("revision: r2", "revision: yes", 5, "an ambiguous plain value"),
        ("revision: r2", "revision: 010", 5, "an ambiguous plain value"),
        ("revision: r2", "revision: 1:30", 5, "an ambiguous plain value"),
        ("revision: r2", "revision: 1.5", 5, "a floating-point number"),
        ("revision: r2", 'revision: "r2\\0"', 5, "a disallowed invisible character"),
        ("revision: r2", 'revision: "r\\u202e2"', 5, "a disallowed invisible character"),
        ("revision: r2", "revision: r2\n5: 6", 6, "a key that is not a string"),
        ("revision: r2", "revision: r2\n[a]: 6", 6, "a key that is not a string"),
        ("revision: r2", "revision: r2\nnull: 6", 6, "reads as null"),
    ],
)
def test_text_that_is_not_plain_yaml(alpha: Path, old: str, new: str, line: int, what: str) -> None:
    problems = problems_of(replace(alpha, old, new))
    assert [what in problem.what and problem.line for problem in problems] == [line]


def test_not_utf8(alpha: Path) -> None:
    alpha.write_bytes(b"phase: \xff\n")
    (problem,) = problems_of(str(alpha))
    assert problem.what == "not UTF-8"
    assert "0xff at offset 7" in problem.found


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_empty(alpha: Path, text: str) -> None:
    alpha.write_text(text, encoding="utf-8")
    problems = problems_of(str(alpha))
    assert len(problems) == 1


def test_nested_without_end(alpha: Path) -> None:
    alpha.write_text("[" * 500 + "]" * 500, encoding="utf-8")
    (problem,) = problems_of(str(alpha))
    assert "nested more than 50 deep" in problem.what


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("abc -_:'\"#\n{}[],é", max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcno", min_size=1), inner, max_size=3),
        max_leaves=8,
    ),
)
def test_what_yaml_writes_is_read_back(value: Any) -> None:
    data = yaml.safe_dump(value, allow_unicode=True).encode("utf-8")
    loaded, _, problems = load_strict_yaml("x.yml", data)
    assert problems == []
    assert loaded == value


# --- the schema ------------------------------------------------------------------------------------------------


def test_schema_is_a_valid_schema_and_the_exported_one() -> None:
    import jsonschema  # noqa: PLC0415

    jsonschema.Draft202012Validator.check_schema(PHASE_SCHEMA)
    exported = json.loads((ROOT / "docs" / "phase.schema.json").read_text(encoding="utf-8"))
    assert exported == PHASE_SCHEMA


def test_every_key_is_described_for_authors() -> None:
    guide = (ROOT / "docs" / "writing-a-phase.md").read_text(encoding="utf-8")

    def keys(schema: Any) -> set[str]:
        if isinstance(schema, dict):
            return set(schema.get("properties", {})).union(*map(keys, schema.values()))
        return set().union(*map(keys, schema)) if isinstance(schema, list) else set()

    assert sorted(key for key in keys(PHASE_SCHEMA) if not re.search(rf"`(\w+\.)?{key}`", guide)) == []


def test_an_unknown_key_has_its_line_and_a_suggestion(alpha: Path) -> None:
    (problem,) = problems_of(
        replace(alpha, "    expect: 86\n\n  - id: P-9", "    expects: 86\n    expect: 86\n\n  - id: P-9")
    )
    line = alpha.read_text(encoding="utf-8").splitlines().index("    expects: 86") + 1
    assert (problem.line, problem.path, problem.what) == (line, "preflight[7].expects", "unknown key")
    assert problem.next_step == "did you mean expect?"
    assert f"{alpha}:{line}: preflight[7].expects: unknown key" in problem.text()


def test_several_problems_are_listed_at_once(alpha: Path) -> None:
    replace(alpha, "phase: alpha", "phase: Alpha")
    replace(alpha, "policy: additions_only", "policy: addition_only")
    problems = problems_of(replace(alpha, "revision: r2\n", ""))
    assert [problem.path for problem in problems] == ["", "phase", "diff.policy"]
    assert "revision is missing" in problems[0].what
    assert problems[2].next_step == "did you mean additions_only?"


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"phase": "Ünder"}, "phase", "a slug"),
        ({"title": " "}, "title", "a title"),
        ({"title": 5}, "title", "a title"),
        ({"requires": "beta"}, "requires", "slugs of phases"),
        ({"settings": {"lock_timeout": "0s"}}, "settings.lock_timeout", "above 0 with its unit"),
        ({"settings": {"statement_timeout": 60}}, "settings.statement_timeout", "with its unit"),
        ({"settings": {"search_path": ["pg_temp"]}}, "settings.search_path[0]", "not a system schema"),
        (
            {"scope": {"schemas": [], "statements": ["SELECT"]}},
            "scope.schemas",
            "schemas that the phase's SQL may name",
        ),
        ({"expect": {"tags": {"CREATE TABLE": True}}}, "expect.tags.CREATE TABLE", "a whole number of at least 1"),
        ({"expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": [-1]}}}, "expect.rows.UPDATE[0]", "at least 0"),
        ({"expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": [{}]}}}, "expect.rows.UPDATE[0]", "one or both"),
        ({"expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": 5}}}, "expect.rows.UPDATE", "a list of counts"),
        (
            {"expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": {"each": -1}}}},
            "expect.rows.UPDATE.each",
            "at least 0",
        ),
        (
            {"expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": {"each": 1, "total": 2}}}},
            "expect.rows.UPDATE",
            "{total: a count} for their sum",
        ),
        ({"diff": {"allow": [{}]}}, "diff.allow[0]", "one or more of class, kind, schema, object"),
        ({"non_scope": [{"id": "NS", "title": "x", "not_attempted": False}]}, "non_scope[0].not_attempted", "true"),
        ({"verify": []}, "verify", "checks before COMMIT"),
        ({"verify": [{**CHECK, "builtin": "magic"}]}, "verify[0].builtin", "target_identity or ddl_checksum"),
        ({"row_counts": [5]}, "row_counts[0]", "a relation"),
        ({"migrate": {"file": "../x.sql", "sha256": "0" * 64}}, "migrate.file", "beside phase.yml"),
        ({"migrate": {"file": "x.sql", "sha256": "A" * 64}}, "migrate.sha256", "64 lower-case"),
    ],
)
def test_values_of_the_wrong_kind(files: PhaseFiles, changes: dict[str, Any], path: str, expected: str) -> None:
    problem = only_problem(files.write(changes))
    assert problem.path == path
    assert expected in problem.expected
    assert problem.line > 0
    assert problem.found


@pytest.mark.parametrize("key", ["phase", "title", "revision", "migrate", "rollback", "scope", "expect", "verify"])
def test_missing_keys(files: PhaseFiles, key: str) -> None:
    problem = only_problem(files.write({key: None}))
    assert problem.what == f"the key {key} is missing"


# --- what a schema cannot say ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "path", "what"),
    [
        ({"requires": ["small"]}, "requires", "cannot require itself"),
        ({"verify": [CHECK, dict(CHECK)]}, "verify[1].id", "duplicate id"),
        ({"verify": [{**CHECK, "id": "P-1"}]}, "verify[0].id", "duplicate id"),
        ({"verify": [{"id": "V", "title": "t"}]}, "verify[0]", "either sql or builtin"),
        ({"verify": [{**CHECK, "builtin": "schema_diff"}]}, "verify[0]", "either sql or builtin"),
        ({"verify": [{"id": "V", "title": "t", "sql": "SELECT 1"}]}, "verify[0]", "the key expect is missing"),
        ({"verify": [{**CHECK, "expect": {}}]}, "verify[0].expect", "invalid expectation"),
        ({"verify": [{**CHECK, "expect": {"a": [1]}}]}, "verify[0].expect", "invalid expectation"),
        ({"verify": [{**CHECK, "expect": [1, {"a": 1}]}]}, "verify[0].expect", "invalid expectation"),
        (
            {"verify": [{"id": "V", "title": "t", "builtin": "schema_diff", "expect": {"added": 6}}]},
            "verify[0].expect",
            "invalid value",
        ),
        ({"verify": [{"id": "V", "title": "t", "builtin": "ddl_checksum"}]}, "verify[0].builtin", "in the wrong list"),
        (
            {"preflight": [{"id": "P", "title": "t", "builtin": "ddl_checksum", "expect": 1}]},
            "preflight[0].expect",
            "does not accept expect",
        ),
        ({"non_scope": [{"id": "N", "title": "t"}]}, "non_scope[0]", "either sql or not_attempted"),
        (
            {"non_scope": [{"id": "N", "title": "t", "not_attempted": True, "expect": 1}]},
            "non_scope[0]",
            "allowed only with sql",
        ),
        (
            {"non_scope": [{**CHECK, "id": "N", "only_if_exists": ["t"]}]},
            "non_scope[0].only_if_exists[0]",
            "invalid name of a relation with its schema",
        ),
        ({"row_counts": ["App.t"]}, "row_counts[0]", "invalid name of a relation with its schema"),
        ({"row_counts": ["app.t", 'app."t"']}, "row_counts[1]", "duplicate relation"),
        (
            {"measure": [{"id": "m", "relation": "t", "key": "a", "column": "b"}]},
            "measure[0].relation",
            "invalid name of a relation with its schema",
        ),
        ({"expect": {"tags": {"SELEKT": 1}}}, "expect.tags.SELEKT", "unknown command tag"),
        ({"expect": {"tags": {"SELECT": 1}, "rows": {"SELECT": [1]}}}, "expect.rows.SELECT", "without a row count"),
        (
            {"expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": [{"min": 2, "max": 1}]}}},
            "expect.rows.UPDATE[0]",
            "min is above max",
        ),
        (
            {"expect": {"tags": {"UPDATE": 1}, "rows": {"UPDATE": {"each": {"min": 2, "max": 1}}}}},
            "expect.rows.UPDATE.each",
            "min is above max",
        ),
        ({"expect": {"tags": {"SELECT": 1}, "result": [[1]]}}, "expect.result", "invalid expectation"),
        ({"settings": {"search_path": ["other"]}}, "settings.search_path[0]", "outside scope.schemas"),
        (
            {"preflight": [{**CHECK, "id": "P-1", "after_commit": True}]},
            "preflight[0].after_commit",
            "allowed only in a check with sql under verify",
        ),
        (
            {
                "verify": [
                    {
                        "id": "V",
                        "title": "t",
                        "builtin": "schema_diff",
                        "expect": {"removed": 0, "added": 0},
                        "after_commit": True,
                    }
                ]
            },
            "verify[0].after_commit",
            "allowed only in a check with sql under verify",
        ),
        (
            {"scope": {"schemas": ["app"], "statements": ["VACUUM"]}},
            "scope.statements[0]",
            "that is not allowed in a phase",
        ),
    ],
)
def test_what_does_not_fit_together(files: PhaseFiles, changes: dict[str, Any], path: str, what: str) -> None:
    problem = only_problem(files.write(changes))
    assert problem.path == path
    assert what in problem.what


def test_an_unknown_kind_has_a_suggestion(files: PhaseFiles) -> None:
    problem = only_problem(files.write({"scope": {"schemas": ["app"], "statements": ["ALTER TABLE ADD COLUM"]}}))
    assert problem.next_step == "did you mean ALTER TABLE ADD COLUMN?"


def test_a_changed_file_shows_both_digests(files: PhaseFiles) -> None:
    files.write()
    (files.directory / "migrate.sql").write_bytes(b"CREATE TABLE app.t (id int) ;\n")
    (problem,) = load_phase(files.path).unpinned
    assert problem.path == "migrate.sha256"
    assert len(problem.expected) == len(problem.found) == 64
    assert problem.expected != problem.found


def test_missing_files(files: PhaseFiles) -> None:
    files.write()
    (files.directory / "migrate.sql").unlink()
    (files.directory / "rollback.sql").unlink()
    assert [problem.path for problem in problems_of(files.path)] == ["migrate.file", "rollback.file"]


def test_missing_phase(tmp_path: Path) -> None:
    (problem,) = problems_of(str(tmp_path / "phase.yml"))
    assert problem.what == "cannot be read"
    assert "No such file" in problem.found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b", ("a", "b")),
        ('"A b"."c.d"', ("A b", "c.d")),
        ('a."say ""hi"""', ("a", 'say "hi"')),
        ("b", None),
        ("a.b.c", None),
        ("A.b", None),
        ("a.b; drop", None),
        ('a.""', None),
        ("a.b\n", None),
    ],
)
def test_relations_are_read_as_sql_reads_them(text: str, expected: tuple[str, str] | None) -> None:
    assert split_relation(text) == expected
