# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's bytes are unique, and the target notices any byte and any range that is not as planned."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import build_plan, pinned_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA
from hypothesis import given
from hypothesis import strategies as st

PHASE = load_phase(str(ALPHA))
STATEMENTS: list[dict[str, Any]] = [dict(one) for one in analyse_phase(PHASE).migrate]
DDL = PHASE.migrate.data
SHA256 = PHASE.migrate.sha256

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def make(data: bytes, *cuts: int, left_out: bool = True) -> list[dict[str, Any]]:
    """Ranges of ``data`` between ``cuts``, the first and the last left out of the run."""
    edges = [0, *cuts, len(data)]
    ranges = [{"start": start, "end": end, "run": True, "after_commit": ""} for start, end in itertools.pairwise(edges)]
    if left_out:
        ranges[0]["run"] = ranges[-1]["run"] = False
    return ranges


@given(JSON)
def test_canonical_json_is_json_and_stable(value: Any) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data
    assert data.endswith(b"\n")


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_canonical_json_does_not_depend_on_order(value: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_canonical_json_is_utf8_without_spaces() -> None:
    assert canonical_json({"b": ["é", 1], "a": None}) == '{"a":null,"b":["é",1]}\n'.encode()


@pytest.mark.parametrize("value", [1.5, [1.0], {"a": {"b": float("nan")}}])
def test_floats_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="floating-point"):
        canonical_json(value)


def test_plan_has_the_digest_of_every_file() -> None:
    migrate = {**pinned_file("migrate.sql", DDL), "statements": STATEMENTS}
    rollback = {**pinned_file("rollback.sql", PHASE.rollback.data), "statements": []}
    plan = build_plan(PHASE.definition, pinned_file("phase.yml", PHASE.source.data), migrate, rollback)
    assert plan["format"] == "phasegate-plan/1"
    assert plan["ddl"]["sha256"] == PHASE.definition["migrate"]["sha256"] == SHA256
    assert plan["rollback"]["sha256"] == PHASE.definition["rollback"]["sha256"]
    assert plan["definition"] == {
        "file": "phase.yml",
        "sha256": PHASE.source.sha256,
        "bytes": Path(ALPHA).stat().st_size,
    }
    assert sha256_bytes(canonical_json(plan)) == sha256_bytes(canonical_json(json.loads(json.dumps(plan))))


def test_alpha_is_covered() -> None:
    check_cover(STATEMENTS, DDL, SHA256)


@given(st.integers(0, len(DDL) - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    data = bytearray(DDL)
    data[position] ^= change
    with pytest.raises(PhaseGateError, match="differs from the file of the plan"):
        check_cover(STATEMENTS, bytes(data), SHA256)


@given(st.integers(0, len(DDL) - 1))
def test_any_cut_is_noticed(length: int) -> None:
    with pytest.raises(PhaseGateError, match="differs from the file of the plan"):
        check_cover(STATEMENTS, DDL[:length], SHA256)


@given(st.integers(0, len(STATEMENTS) - 1), st.sampled_from(["start", "end"]), st.integers(-3, 3).filter(bool))
def test_any_moved_range_is_noticed(index: int, edge: str, by: int) -> None:
    moved = [dict(one) for one in STATEMENTS]
    moved[index][edge] += by
    with pytest.raises(PhaseGateError, match="the plan's statements do not match"):
        check_cover(moved, DDL, SHA256)


@given(st.integers(0, len(STATEMENTS) - 1))
def test_any_missing_range_is_noticed(index: int) -> None:
    with pytest.raises(PhaseGateError, match="the plan's statements do not match"):
        check_cover(STATEMENTS[:index] + STATEMENTS[index + 1 :], DDL, SHA256)


@given(st.integers(1, len(STATEMENTS) - 2))
def test_no_other_statement_can_be_left_out(index: int) -> None:
    left_out = [dict(one) for one in STATEMENTS]
    left_out[index]["run"] = False
    with pytest.raises(PhaseGateError, match="the plan's statements do not match"):
        check_cover(left_out, DDL, SHA256)


@pytest.mark.parametrize(
    ("begin", "commit", "fine"),
    [
        (b"BEGIN;", b"COMMIT;", True),
        (b" /* a /* b */ ; */ -- c\nbegin work ;", b"\n-- x\nEnd Transaction; -- tail\n/* done */", True),
        (b"START TRANSACTION;", b"commit", True),
        (b"BEGIN; DROP TABLE a.t;", b"COMMIT;", False),
        (b"BEGIN ISOLATION LEVEL SERIALIZABLE;", b"COMMIT;", False),
        (b"DROP TABLE a.t;", b"COMMIT;", False),
        (b"BEGIN;", b"ROLLBACK;", False),
        (b"BEGIN;", b"COMMIT AND CHAIN;", False),
        (b"BEGIN;", b"COMMIT; DROP TABLE a.t;", False),
        (b"BEGIN;", b"COMMIT PREPARED 'x';", False),
        (b"-- BEGIN;\n", b"COMMIT;", False),
        (b"/* BEGIN;", b"COMMIT;", False),
    ],
)
def test_only_a_plain_begin_and_commit_are_left_out(begin: bytes, commit: bytes, fine: bool) -> None:
    body = b" SELECT 1;"
    data = begin + body + commit
    ranges = make(data, len(begin), len(begin + body))
    if fine:
        check_cover(ranges, data, sha256_bytes(data))
    else:
        with pytest.raises(PhaseGateError, match="the plan's statements do not match"):
            check_cover(ranges, data, sha256_bytes(data))


def test_no_range_is_empty() -> None:
    data = b"SELECT 1;SELECT 2;"
    with pytest.raises(PhaseGateError, match="the plan's statements do not match"):
        check_cover(make(data, 9, 9, left_out=False), data, sha256_bytes(data))


def test_a_begin_alone_cannot_be_left_out() -> None:
    data = b"BEGIN;SELECT 1;"
    ranges = make(data, 6)
    ranges[1]["run"] = True
    with pytest.raises(PhaseGateError, match="the plan's statements do not match"):
        check_cover(ranges, data, sha256_bytes(data))


def test_nothing_to_run_is_not_a_cover() -> None:
    data = b"BEGIN;COMMIT;"
    with pytest.raises(PhaseGateError):
        check_cover(make(data, 6), data, sha256_bytes(data))
