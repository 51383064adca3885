# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A state's text is its value, wherever it is written."""

from __future__ import annotations

import json

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Record
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import (
    CheckStatus,
    ConditionStatus,
    GateStatus,
    RunOutcome,
    State,
    TransactionOutcome,
    TriggerStatus,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import make_gate

EVERY = [
    member
    for kind in (CheckStatus, ConditionStatus, GateStatus, RunOutcome, TransactionOutcome, TriggerStatus)
    for member in kind
]


@pytest.mark.parametrize("state", EVERY, ids=repr)
def test_a_state_is_written_as_its_value(state: State) -> None:
    value = state.value
    assert (str(state), f"{state}", f"{state:<15}", json.dumps(state)) == (value, value, f"{value:<15}", f'"{value}"')
    assert state == value


def test_what_leaves_the_collection_is_plain_text() -> None:
    gate = make_gate("G-6", False, "a", "b", "c").as_dict()
    entry = Migrated(outcome=TransactionOutcome.COMMITTED).to_entry()
    assert {type(value) for value in (*gate.values(), *entry.values())} == {str}


def test_there_is_one_word_for_what_does_not_apply() -> None:
    assert CheckStatus.NOT_APPLICABLE.value == GateStatus.NOT_APPLICABLE.value == "N/A"


def test_a_record_has_no_key_of_another() -> None:
    with pytest.raises(TypeError):
        Migrated(checks=[])  # type: ignore[call-arg]
    assert Record().to_entry() == {}
