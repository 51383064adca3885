# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies: what passes, what does not, and that the message names it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import Fact, encode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import allow_key, evaluate_policy
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Header, Snapshot


def state(*facts: Fact) -> Snapshot:
    return Snapshot(Header("16.0", "d"), {encode_fact(fact): "" for fact in facts})


TABLE = Fact("table", ("shop", "orders"), {"owner": "o"})
OLD = Fact("column", ("shop", "orders", "old"), {"type": "text"})
NEW = Fact("column", ("shop", "orders", "new"), {"type": "text"})
NAMED = Fact("table", ("shop", "orders"), {"owner": "o", "comment": "named"})
RENAMED = Fact("table", ("shop", "orders"), {"owner": "o", "comment": "named otherwise"})
GRANT = Fact("acl", ("table", "shop", "orders", "", "app"), {"privileges": '["SELECT"]', "born_with": "[]"})
UNKNOWN = Fact("unknown", ("catalog", "pg_novelty"), {"value": "?"})

ADDED = diff(state(TABLE), state(TABLE, NEW))
DROPPED = diff(state(TABLE, OLD), state(TABLE, NEW))
NOTHING = diff(state(TABLE), state(TABLE))
COMMENTED = diff(state(TABLE), state(NAMED))
RECOMMENTED = diff(state(NAMED), state(RENAMED))
UNCOMMENTED = diff(state(NAMED), state(TABLE))
GRANTED = diff(state(TABLE), state(TABLE, GRANT))
STRANGE = diff(state(TABLE), state(TABLE, UNKNOWN))


@pytest.mark.parametrize(
    ("changes", "policy", "ok"),
    [
        (NOTHING, {"policy": "additions_only"}, True),
        (ADDED, {"policy": "additions_only"}, True),
        (ADDED, {}, True),
        (DROPPED, {"policy": "additions_only"}, False),
        (COMMENTED, {"policy": "additions_only"}, True),
        (RECOMMENTED, {"policy": "additions_only"}, False),
        (UNCOMMENTED, {"policy": "additions_only"}, False),
        (GRANTED, {"policy": "additions_only"}, False),
        (GRANTED, {"policy": "additions_only", "allow": [{"class": "widening"}]}, True),
        (GRANTED, {"policy": "additions_only", "allow": [{"class": "widening", "schema": "other"}]}, False),
        (GRANTED, {"policy": "additions_only", "allow": [{"kind": "acl", "object": "shop.* to app"}]}, True),
        (DROPPED, {"policy": "additions_only", "allow": [{"kind": "column", "object": "shop.orders.old"}]}, True),
        (DROPPED, {"policy": "additions_only", "allow": [{"object": "shop.orders.other"}]}, False),
        (STRANGE, {"policy": "additions_only", "allow": [{"object": "*"}]}, False),
        (STRANGE, {"policy": "unchanged", "allow": [{"class": "unknown"}]}, False),
        (NOTHING, {"policy": "unchanged"}, True),
        (ADDED, {"policy": "unchanged"}, False),
        (ADDED, {"policy": "unchanged", "allow": [{"class": "additive"}]}, True),
        (ADDED, {"policy": "exact", "fingerprint": ADDED.after.fingerprint}, True),
        (ADDED, {"policy": "exact", "fingerprint": "0" * 64}, False),
        (ADDED, {"policy": "exact", "fingerprint": "0" * 64, "allow": [{"class": "additive"}]}, False),
        (ADDED, {"policy": "exact", "changes": ADDED.as_list()}, True),
        (DROPPED, {"policy": "exact", "changes": ADDED.as_list()}, False),
        (ADDED, {"policy": "exact", "changes": DROPPED.as_list()}, False),
        (NOTHING, {"policy": "exact", "changes": ADDED.as_list()}, False),
        (DROPPED, {"policy": "recorded"}, True),
    ],
)
def test_a_policy_decides(changes: Diff, policy: dict[str, Any], *, ok: bool) -> None:
    verdict = evaluate_policy(changes, policy)
    assert verdict.ok is ok
    assert verdict.ok is not bool(verdict.offending or verdict.missing)


def test_the_message_names_every_offending_change_with_before_and_after() -> None:
    verdict = evaluate_policy(
        diff(state(TABLE, OLD), state(NAMED._replace(attributes={"owner": "p"}), GRANT)), {"policy": "additions_only"}
    )
    assert verdict.message.splitlines() == [
        "additions only expected, but 3 changes are not permitted",
        "  destructive: column shop.orders.old removed: type=text",
        '  widening: acl shop.orders to app privileges: [] -> ["SELECT"] [granted: SELECT]',
        "  changing: table shop.orders owner: o -> p",
    ]


def test_what_was_rehearsed_and_did_not_come_is_named() -> None:
    verdict = evaluate_policy(NOTHING, {"policy": "exact", "changes": ADDED.as_list()})
    assert verdict.missing == ("column shop.orders.new added",)
    assert "missing: column shop.orders.new added" in verdict.message


@pytest.mark.parametrize(
    "policy",
    [
        {"policy": "anything"},
        {"policy": "exact"},
        {"allow": [{}]},
        {"allow": [{"klass": "widening"}]},
    ],
)
def test_a_policy_that_says_nothing_definite_is_refused(policy: dict[str, Any]) -> None:
    with pytest.raises(PhaseGateError):
        evaluate_policy(ADDED, policy)


ODD = diff(
    state(TABLE),
    state(
        TABLE, Fact("acl", ("table", "shop", "or*d[e]r?s", "", "app"), {"privileges": '["SELECT"]', "born_with": "[]"})
    ),
)


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        (DROPPED, {"policy": "additions_only"}),
        (RECOMMENTED, {"policy": "additions_only", "allow": [{"class": "widening", "kind": None}]}),
        (GRANTED, {}),
        (ADDED, {"policy": "unchanged"}),
        (ODD, {"policy": "additions_only"}),
    ],
)
def test_the_key_that_is_advised_permits_what_was_not_permitted(changes: Diff, policy: dict[str, Any]) -> None:
    refused = evaluate_policy(changes, policy)
    assert not refused.ok
    advised = yaml.safe_load(allow_key(policy, refused.offending))["diff"]
    assert advised["policy"] == policy.get("policy", "additions_only")
    assert evaluate_policy(changes, advised).ok
    # and nothing that is allowed already is lost
    assert advised["allow"][: len(policy.get("allow", ()))] == [{"class": "widening"}][: len(policy.get("allow", ()))]


def test_what_cannot_be_permitted_is_not_advised() -> None:
    policy = {"policy": "additions_only"}
    assert allow_key(policy, evaluate_policy(STRANGE, policy).offending) == ""
