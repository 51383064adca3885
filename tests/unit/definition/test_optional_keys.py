# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase with any of the optional keys of phase.yml is read, planned, frozen, read again, reviewed, and executed."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from ansible_collections.incomex.phasegate.plugins.action.phase_plan import plan_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import COUNTED, UNCOUNTED
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.markdown import render_markdown
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.phase_schema import PHASE_SCHEMA
from ansible_collections.incomex.phasegate.plugins.module_utils._review.package import review
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import Subject
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.plan_check import read_checked_plan
from ansible_collections.incomex.phasegate.tests.support.phase_files import SMALL, PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.reviewers import frozen_plan, rehearsal
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

DDL = b"CREATE TABLE app.t (id int);\nINSERT INTO app.t VALUES (1), (2);\nSELECT pg_catalog.count(*) AS lines FROM app.t;\n"
ROLLBACK = b"DELETE FROM app.t;\nDROP TABLE app.t;\n"
ONE = {"sql": "SELECT 1", "expect": 1}

#: Every key of phase.yml that a small phase can have; the values of some default to others.
FULL: dict[str, Any] = {
    **SMALL,
    "requires": [],
    "rollback": {
        "statements": ["DELETE", "DROP TABLE"],
        "rows": {"DELETE": [{"min": 0, "max": 2}]},
        "rewrites": ["app.old"],
        "cannot_restore": [],
    },
    "settings": {
        "search_path": ["app"],
        "lock_timeout": "2s",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "30s",
        "after_commit_timeout": "1min",
    },
    "scope": {
        "schemas": ["app"],
        "statements": ["CREATE TABLE", "INSERT", "SELECT"],
        "functions": ["app.next"],
        "rewrites": ["app.old"],
    },
    "expect": {"tags": {"CREATE TABLE": 1, "INSERT": 1, "SELECT": 1}, "rows": {"INSERT": [2]}, "result": {"lines": 2}},
    "preflight": [{"id": "P-1", "title": "one", **ONE}],
    "verify": [{"id": "VA-1", "title": "one", **ONE}],
    "measure": [
        {
            "id": "code",
            "relation": "app.old",
            "key": "id",
            "column": "code",
            "expect": {"rows": 3, "changed": 0, "distinct_before": 3, "distinct_after": 3},
            "note": "It stays.",
        }
    ],
    "data": {"app.t": {"INSERT": {"min": 2, "max": 2}, "DELETE": "any"}, "app.code": {"MOVE": "any"}},
    "row_counts": ["app.old", {"relation": "app.t", "change": 2}],
    "diff": {
        "policy": "additions_only",
        "allow": [{"class": "widening", "kind": "enum", "schema": "app", "object": "*"}],
    },
    "drift": {"partitions_of": ["app.days"]},
    "non_scope": [
        {"id": "NS-1", "title": "one", **ONE, "only_if_exists": ["app.old"]},
        {"id": "NS-2", "title": "the web server", "not_attempted": True},
    ],
    "cross_references": [{"title": "The ticket", "ref": "T-1"}],
}

#: Required by what else is there, not by the schema: counts and data by the SQL, a check is by SQL or built in, an exception names
#: something.
BOUND = {
    "accept",
    "batches",
    "data",
    *COUNTED,
    *UNCOUNTED,
    "rows",
    "sql",
    "expect",
    "builtin",
    "not_attempted",
    "after_commit",
    "class",
    "min",
    "max",
    "each",
    "total",
}


def optional(schema: dict[str, Any], value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every key in ``value`` that its schema does not require."""
    if isinstance(value, dict):
        for key, item in value.items():
            properties = schema.get("properties", {})
            if (
                key in properties
                and key not in schema.get("required", [])
                and (key not in BOUND or path[:1] == ("measure",))
            ):
                yield (*path, key)
            yield from optional(properties.get(key, {}), item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from optional(schema.get("items", {}), item, (*path, number))


KEYS = sorted(optional(PHASE_SCHEMA, FULL), key=str)


def without(places: set[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the full definition without these keys."""
    definition = copy.deepcopy(FULL)
    for place in sorted(places, key=len, reverse=True):
        inner: Any = definition
        for step in place[:-1]:
            inner = inner[step]
        del inner[place[-1]]
    return definition


def write(directory: Path, places: set[tuple[Any, ...]]) -> PhaseFiles:
    definition = without(places)
    undo = definition.pop("rollback")
    pins = {"file": "rollback.sql", "sha256": sha256_bytes(ROLLBACK)}
    return PhaseFiles(directory).write({**definition, "rollback": {**pins, **undo}}, ddl=DDL, rollback=ROLLBACK)


def test_the_full_phase_has_every_optional_key() -> None:
    def names(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(names, schema))
        if not isinstance(schema, dict):
            return set()
        here = set(schema.get("properties", {})) - set(schema.get("required", []))
        return here.union(*map(names, schema.values()))

    assert names(PHASE_SCHEMA) - {str(place[-1]) for place in KEYS} == {*BOUND} - {"expect", "rows"}


def test_every_default_is_valid() -> None:
    def defaults(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            if "default" in schema and "type" in schema:
                yield schema
            for inner in schema.values():
                yield from defaults(inner)

    for schema in defaults(PHASE_SCHEMA):
        assert not list(jsonschema.Draft202012Validator(schema).iter_errors(schema["default"])), schema["description"]


@given(st.sets(st.sampled_from(KEYS)))
@example(set())
@example(set(KEYS))
@example({("measure", 0, "note")})
@settings(max_examples=40)
def test_any_of_them_are_planned_frozen_read_and_reviewed(places: set[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        files = write(directory, places)
        # the locks of that rehearsal are Phase Alpha's
        known = {**rehearsal(plan_of(load_phase(files.path))), "locks": []}
        plan = frozen_plan(Path(files.path), rehearsal=known)
        data = canonical_json(plan)
        (directory / "plan.json").write_bytes(data)
        checked = read_checked_plan(str(directory / "plan.json"))
        assert canonical_json(checked.plan) == data
        subject = Subject(checked.plan, sha256_bytes(data), DDL, ROLLBACK, "plan.json", [], "")
        page = render_markdown(review(subject))
    assert ("app.days" in page) == (not {("drift",), ("drift", "partitions_of")} & places)
    assert ("app.old" in page.partition("Tables that the rollback may rewrite")[2].partition("\n")[0]) == (
        ("rollback", "rewrites") not in places
    )


@pytest.mark.parametrize("places", [set(), set(KEYS), {("measure", 0, "note"), ("settings",), ("diff", "policy")}])
def test_some_of_them_are_executed(
    cluster: Cluster, empty_database: str, tmp_path: Path, places: set[tuple[Any, ...]]
) -> None:
    cluster.psql(
        "CREATE SCHEMA app; CREATE TABLE app.old (id int PRIMARY KEY, code text);"
        "INSERT INTO app.old VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        empty_database,
    )
    files = write(tmp_path, places)
    run = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare()
    outcome = run.migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
