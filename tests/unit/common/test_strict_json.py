# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that decides something: a key twice, endless numbers and endless nesting are refused, at once."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import read_anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import parse_journal
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_json
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_reader import read_plan
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, plan_bytes, register
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=VALUES)
def test_what_is_written_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"threshold": 2, "threshold": 1}', 'duplicate key "threshold"'),
        (r'{"threshold": 2, "thr\u0065shold": 1}', 'duplicate key "threshold"'),
        ('{"a": [{"b": 1, "b": 2}]}', 'duplicate key "b"'),
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": -Infinity}', "-Infinity is not a number"),
        ("9" * 5000, "a number of 5000 digits"),
        ("-" + "9" * 1_000_000, "a number of 1000001 digits"),
        ("[" * 10_000, "nested more than"),
        ("[" * 1_000_000 + "]" * 1_000_000, "nested more than"),
        ('{"a":' * 1_000 + "1" + "}" * 1_000, "nested more than"),
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
    ],
)
@pytest.mark.fault("duplicate-keys", "input-bombs")
def test_what_is_refused(text: str, why: str) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=why):
        parse_json(text)
    assert time.monotonic() - began < 5


def test_brackets_in_texts_are_no_nesting() -> None:
    text = "[" * 5000 + '\\"{'
    assert parse_json(json.dumps({"a": text, "b": [text]})) == {"a": text, "b": [text]}


@pytest.mark.fault("duplicate-keys")
def test_a_policy_with_a_key_twice(tmp_path: Path) -> None:
    anna = Reviewer.create(tmp_path, "anna")
    place = register(tmp_path / "register", anna.line())
    (place / "policy.json").write_text('{"threshold": 2, "threshold": 1}', encoding="utf-8")
    (place / "policy.json").chmod(0o644)
    with pytest.raises(PhaseGateError, match='duplicate key "threshold"'):
        read_anchor(str(place))


@pytest.mark.fault("duplicate-keys")
def test_a_plan_a_journal_and_a_marker_with_a_key_twice(tmp_path: Path) -> None:
    data = plan_bytes()
    twice = data.replace(b'"author":', b'"author":"eve","author":')
    with pytest.raises(PhaseGateError, match='duplicate key "author"'):
        read_plan(twice, "plan.json")
    line = b'{"seq":1,"seq":1,"at":"2026-05-16T03:12:00Z","step":"run","event":"open","data":{},"prev":"' + b"0" * 64
    with pytest.raises(PhaseGateError, match="not intact at line 1"):
        parse_journal(line + b'"}\n')
    (tmp_path / "backup.json").write_text('{"size": 1, "size": 2}', encoding="utf-8")
    with pytest.raises(PhaseGateError, match='duplicate key "size"'):
        read_json(str(tmp_path / "backup.json"))
