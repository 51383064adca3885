# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a difference is permitted. Pure.

A policy is a mapping::

    policy: additions_only | exact | unchanged
    allow:                      # exceptions, for every policy; each gives one or more of the keys, * is a wildcard
      - {class: widening, kind: acl, schema: sales, object: "sales.*"}
    fingerprint: <hex>          # exact: the fingerprint that the rehearsal left, or
    changes: [...]              # exact: the rehearsed diff's changes (``Diff.as_list``)
    partitions: {...}           # exact: the tables whose partitions may have come and gone, and those at the rehearsal

A phase declares ``exact`` alone: ``of_plan`` adds the changes of its rehearsal, and ``of_rehearsal`` replaces it in the
rehearsal itself, which records them.
"""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Callable, Collection, Mapping, Protocol, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Change, Diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import (
    declared_parents,
    settle_changes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity_classes import Severity


@dataclass(frozen=True)
class PolicyVerdict:
    """``ok`` or not; ``offending`` are the changes that are not permitted, ``missing`` declared changes that did not occur.

    ``message`` names every one of them, with before and after.
    """

    ok: bool
    offending: tuple[Change, ...]
    missing: tuple[str, ...]
    message: str


class TextServer(Protocol):
    """What decides whether two texts of one object are the same expression: ``_schema.reprint.Reprinter``."""

    def same(
        self, kind: str, identity: Sequence[str], attribute: str | None, one: str | None, other: str | None
    ) -> bool:
        """Return whether two texts of one attribute are the same expression."""

    def explain(self) -> str:
        """Return why texts could not be compared, '' when all could."""


def judge_changes(diff: Diff, policy: Mapping[str, Any], server: TextServer) -> tuple[Diff, PolicyVerdict]:
    """Evaluate a diff by a policy; where it does not pass, without the changes that are another print of the same expression.

    Returns the diff that was judged, and the verdict. The server is asked only about what does not pass.
    """
    verdict = evaluate_policy(diff, policy)
    if verdict.ok:
        return diff, verdict
    diff = without_reprints(diff, server)
    verdict = evaluate_policy(diff, policy)
    if verdict.ok:
        return diff, verdict
    if policy.get("policy") == "exact" and "changes" in policy:
        verdict = evaluate_policy(diff, {**policy, "changes": _in_our_words(diff, policy["changes"], server)})
    if not verdict.ok and server.explain():
        verdict = replace(verdict, message=f"{verdict.message}\n  {server.explain()}")
    return diff, verdict


def without_reprints(diff: Diff, server: TextServer) -> Diff:
    """Return a diff without the changes whose two texts are the same expression."""
    kept = tuple(
        c
        for c in diff.changes
        if c.action != "changed" or not server.same(c.kind, c.identity, c.attribute, c.before, c.after)
    )
    return replace(diff, changes=kept)


def _in_our_words(diff: Diff, declared: Sequence[Mapping[str, Any]], server: TextServer) -> list[Mapping[str, Any]]:
    """Return the declared changes, each text as this database prints it where both are the same expression."""
    found = {_place(change.as_dict()): change for change in diff.changes}
    return [
        {**one, **{side: _ours(ours, one, side, server) for side in ("before", "after")}}
        if (ours := found.get(_place(one)))
        else one
        for one in declared
    ]


def _place(change: Mapping[str, Any]) -> str:
    return json.dumps([change[key] for key in ("kind", "identity", "attribute", "action")])


def _ours(ours: Change, declared: Mapping[str, Any], side: str, server: TextServer) -> Any:
    mine, theirs = getattr(ours, side), declared[side]
    if mine == theirs or mine is None or theirs is None:
        return theirs
    if ours.attribute is not None:
        return mine if server.same(ours.kind, ours.identity, ours.attribute, mine, theirs) else theirs
    # the description of a whole object: one of its attributes may be printed otherwise
    for name, text in ours.attributes.items():
        head, given, tail = mine.partition(f"{name}={text}")
        if given and theirs.startswith(f"{head}{name}=") and theirs.endswith(tail):
            other = theirs[len(head) + len(name) + 1 : len(theirs) - len(tail)]
            if text is not None and server.same(ours.kind, ours.identity, name, text, other):
                return mine
    return theirs


def evaluate_policy(diff: Diff, policy: Mapping[str, Any]) -> PolicyVerdict:
    """Evaluate a diff by a policy. Raises ``PhaseGateError`` for an invalid policy."""
    name = policy.get("policy", "additions_only")
    if name not in _POLICIES:
        raise PhaseGateError(
            "The diff policy is unknown.",
            expected=", ".join(sorted(_POLICIES)),
            found=str(name),
            next_step="correct the policy",
        )
    exceptions = [_exception(entry) for entry in policy.get("allow") or ()]
    offending, missing = _POLICIES[name](diff, policy)
    kept = tuple(
        change for change in offending if change.severity is Severity.UNKNOWN or not any(e(change) for e in exceptions)
    )
    return PolicyVerdict(not kept and not missing, kept, missing, _message(name, diff, kept, missing))


def allow_key(policy: Mapping[str, Any], offending: Sequence[Change]) -> str:
    """Return the key ``diff`` of phase.yml that permits these changes, '' where none of them can be permitted.

    What is allowed already stays as it is.
    """
    entries = [{key: value for key, value in entry.items() if value is not None} for entry in policy.get("allow") or ()]
    new = [
        entry
        for entry, _changes in entries_to_allow([change.as_dict() for change in offending])
        if entry not in entries
    ]
    if not new:
        return ""
    entries += new
    lines = ["diff:", f"  policy: {policy.get('policy', 'additions_only')}", "  allow:"]
    return "\n".join([*lines, *(f"    - {json.dumps(entry, ensure_ascii=False)}" for entry in entries)])


def entries_to_allow(
    offending: Sequence[Mapping[str, Any]],
) -> list[tuple[dict[str, str], list[Mapping[str, Any]]]]:
    """Return the entries of ``allow`` that permit these changes (of ``Diff.as_list``), each with its changes; an unknown one has none."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for change in offending:
        if change["severity"] != Severity.UNKNOWN.value:
            entry = (change["severity"], change["kind"], re.sub(r"[*?\[]", "?", change["name"]))
            found.setdefault(entry, []).append(change)
    return [(dict(zip(("class", "kind", "object"), entry)), changes) for entry, changes in found.items()]


def policy_for_plan(plan: Mapping[str, Any], changes: str = "changes") -> Mapping[str, Any]:
    """Return the policy of a plan's phase. ``changes``: which changes of the rehearsal ``exact`` compares with."""
    policy: Mapping[str, Any] = plan["phase"]["diff"]
    if policy["policy"] != "exact" or "rehearsal" not in plan:
        return policy
    return {**policy, **_rehearsed(plan, changes)}


def rehearsed_policy(plan: Mapping[str, Any], changes: str = "changes") -> Mapping[str, Any]:
    """Return the policy that permits exactly what a plan's rehearsal produced, ``changes`` as for ``policy_for_plan``."""
    return {"policy": "exact", **_rehearsed(plan, changes)}


def _rehearsed(plan: Mapping[str, Any], changes: str) -> Mapping[str, Any]:
    rehearsal = plan["rehearsal"]
    parents = declared_parents(plan["phase"])
    partitions = {"of": parents, "rehearsed": [tuple(one) for one in rehearsal.get("partitions", ())]}
    return {"changes": rehearsal[changes], **({"partitions": partitions} if parents else {})}


def recording_policy(policy: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the policy by which a rehearsal evaluates a phase that has ``policy``."""
    return {"policy": "recorded"} if policy["policy"] == "exact" else policy


def _additions_only(diff: Diff, _policy: Mapping[str, Any]) -> tuple[list[Change], tuple[str, ...]]:
    return [change for change in diff.changes if not _is_addition(change)], ()


def _is_addition(change: Change) -> bool:
    """Additive changes, and a comment or planner setting where none was: nothing that existed is altered."""
    return change.severity is Severity.ADDITIVE or (change.severity is Severity.COSMETIC and change.before is None)


def _unchanged(diff: Diff, _policy: Mapping[str, Any]) -> tuple[list[Change], tuple[str, ...]]:
    return list(diff.changes), ()


def _recorded(_diff: Diff, _policy: Mapping[str, Any]) -> tuple[list[Change], tuple[str, ...]]:
    return [], ()


def _exact(diff: Diff, policy: Mapping[str, Any]) -> tuple[list[Change], tuple[str, ...]]:
    if "changes" in policy:
        partitions = policy.get("partitions", {"of": (), "rehearsed": ()})
        changes, expected, missing = settle_changes(diff, policy["changes"], partitions["of"], partitions["rehearsed"])
        declared = {_canonical(change): change for change in expected}
        found = {_canonical(change.as_dict()): change for change in changes}
        named = {_canonical(change.as_dict(), content=False) for change in changes}
        return (
            [change for text, change in found.items() if text not in declared],
            (*missing, *(_declared_text(change, named) for text, change in declared.items() if text not in found)),
        )
    if "fingerprint" in policy:
        if diff.after.fingerprint == policy["fingerprint"]:
            return [], ()
        return list(diff.changes), (f"the fingerprint {policy['fingerprint']} (found {diff.after.fingerprint})",)
    raise PhaseGateError(
        "The diff policy exact has nothing to compare with.",
        expected="fingerprint or changes of the rehearsal",
        found="neither",
        next_step="rehearse the phase, or choose another policy",
    )


_POLICIES: dict[str, Callable[[Diff, Mapping[str, Any]], tuple[list[Change], tuple[str, ...]]]] = {
    "additions_only": _additions_only,
    "exact": _exact,
    "recorded": _recorded,
    "unchanged": _unchanged,
}


def _canonical(change: Mapping[str, Any], *, content: bool = True) -> str:
    cells = [change[key] for key in ("kind", "identity", "attribute", "action", "before", "after", "parts")]
    return json.dumps([*cells, change.get("content", "")] if content else cells)


def _declared_text(change: Mapping[str, Any], named: Collection[str]) -> str:
    """Return a declared change that did not occur; ``named`` are those that occurred, without the content of their parts."""
    attribute = f" {change['attribute']}" if change["attribute"] else ""
    text = f"{change['kind']} {change['name']}{attribute} {change['action']}"
    if _canonical(change, content=False) in named:
        return f"{text} with the same parts: here a column, default or constraint of it differs"
    return text


def _exception(entry: Mapping[str, Any]) -> Callable[[Change], bool]:
    unknown = sorted(set(entry) - {"class", "kind", "schema", "object"})
    given = {key: str(value) for key, value in entry.items() if value is not None}
    if unknown or not given:
        raise PhaseGateError(
            "Invalid entry in the diff policy's allow list.",
            expected="one or more of class, kind, schema, object",
            found=json.dumps(dict(entry)),
            next_step="correct the entry",
        )

    def permits(change: Change) -> bool:
        values = {"class": change.severity.value, "kind": change.kind, "schema": change.schema, "object": change.name}
        return all(fnmatch.fnmatchcase(values[key], pattern) for key, pattern in given.items())

    return permits


# What each policy permits, for people.
POLICY_RULES = {
    "additions_only": "additions only",
    "exact": "exactly the rehearsed changes",
    "recorded": "recorded for an exact comparison",
    "unchanged": "no change",
}


def _message(name: str, diff: Diff, offending: tuple[Change, ...], missing: tuple[str, ...]) -> str:
    if not offending and not missing:
        found = "no difference" if not diff else f"{len(diff.changes)} changes, all permitted"
        return f"{POLICY_RULES[name]}: {found}"
    lines = [f"{POLICY_RULES[name]} expected, but {len(offending)} changes are not permitted"]
    lines[0] += f" and {len(missing)} are missing" if missing else ""
    lines.extend(f"  {change.severity.value}: {change.text()}" for change in offending)
    lines.extend(f"  missing: {text}" for text in missing)
    return "\n".join(lines)
