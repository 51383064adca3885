# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""plan.json: same parts, same bytes; every change of them is told, by content and by form."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import (
    canonical_json,
    freeze,
    thawed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_reader import read_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_schema import PLAN_SCHEMA
from ansible_collections.incomex.phasegate.plugins.modules.plan_freeze import make_directory
from ansible_collections.incomex.phasegate.tests.support.reviewers import frozen_plan, plan_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN = frozen_plan()
DATA = plan_bytes()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(PLAN_SCHEMA)


def test_the_same_parts_give_the_same_bytes() -> None:
    assert plan_bytes() == DATA


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "ffffffffffffffff"},
        {"created_at": "2026-05-16T03:12:01Z"},
        {"not_after": "2026-05-19T03:12:01Z"},
        {"author": "anna"},
        {"tools": {}},
    ],
)
def test_other_parts_give_other_bytes(changes: dict[str, Any]) -> None:
    assert plan_bytes(**changes) != DATA


def test_a_frozen_plan_is_read_back() -> None:
    assert thawed(DATA) == (PLAN, "")
    assert read_plan(DATA, "plan.json") == PLAN


def test_the_digest_of_the_content_is_what_it_says() -> None:
    bare = {key: value for key, value in PLAN.items() if key != "content_sha256"}
    assert PLAN["content_sha256"] == sha256_bytes(canonical_json(bare))
    assert freeze(PLAN) == PLAN


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b"{}\n", "frozen with none"),
        (DATA[:-2], "not JSON"),
        (DATA.replace(b'"author":"huyen"', b'"author":"Huyen"'), "its content has SHA-256"),
        (DATA.replace(b'"wal_bytes":183296', b'"wal_bytes":183296.0'), "floating-point"),
        (DATA.replace(b'"wal_bytes":183296', b'"wal_bytes":NaN'), "NaN is not a number"),
        (DATA.replace(b'"author":"huyen"', b'"author":"\\ud800"'), "not JSON in UTF-8"),
        (DATA.replace(b'"author":"huyen"', b'"author":"x","author":"huyen"'), 'duplicate key "author"'),
        (DATA.replace(b'"author":', b'"author": '), "differ from the canonical form"),
        (DATA.rstrip(b"\n"), "differ from the canonical form"),
        (json.dumps(PLAN).encode(), "differ from the canonical form"),
    ],
)
def test_what_was_changed_is_told(data: bytes, words: str) -> None:
    assert data != DATA
    assert words in thawed(data)[1]
    with pytest.raises(PhaseGateError, match=r"plan\.json is not intact"):
        read_plan(data, "plan.json")


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(plan: dict[str, Any]) -> None:
        at: Any = plan
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value

    return change


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(plan: dict[str, Any]) -> None:
        at: Any = plan
        for part in path[:-1]:
            at = at[part]
        del at[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (put("format", value="phasegate-plan/2"), "format"),
        (put("more", value=1), "plan: "),
        (drop("target"), "plan: "),
        (drop("rehearsal", "seal"), "rehearsal: "),
        (put("rehearsal", "rollback", "restored", value=False), "rehearsal.rollback.restored"),
        (put("rehearsal", "base_fingerprint", value="A" * 64), "rehearsal.base_fingerprint"),
        (put("rehearsal", "locks", 0, "statement", value=0), "rehearsal.locks.0.statement"),
        (put("rehearsal", "server", "extensions", value=[["plpgsql"]]), "rehearsal.server.extensions.0"),
        (put("rehearsal", "statements", 0, "rows", value="1"), "rehearsal.statements.0.rows"),
        (put("target", "system_identifier", value="../x"), "target.system_identifier"),
        (put("target", "port", value=5432), "target: "),
        (put("ddl", "statements", 0, "run", value="yes"), "ddl.statements.0.run"),
        (put("rollback", "file", value="../rollback.sql"), "rollback.file"),
        (put("phase", "expect", "tags", value={}), "phase.expect.tags"),
        (put("nonce", value="short"), "nonce"),
        (put("author", value=" "), "author"),
        (put("not_after", value="2026-05-19 03:12:00"), "not_after"),
        (put("tools", "psql", value=16), "tools.psql"),
    ],
)
def test_what_is_not_a_plan(change: Callable[[dict[str, Any]], None], place: str) -> None:
    plan = copy.deepcopy(PLAN)
    change(plan)
    with pytest.raises(PhaseGateError, match="is not a valid plan") as caught:
        read_plan(canonical_json(freeze(plan)), "plan.json")
    assert place in caught.value.found


def test_rehearsals_of_the_same_second_get_a_directory_each(tmp_path: Path) -> None:
    name = str(tmp_path / "plans" / "alpha_prod_rehearsal_20260516T031200Z")
    with ThreadPoolExecutor(8) as together:
        made = list(together.map(lambda _number: make_directory(name), range(8)))
    assert sorted(made) == [name, *(f"{name}.{number}" for number in range(2, 9))]
    assert all(Path(one).is_dir() for one in made)
