# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sections *What it changes* and *What is checked* of a review package. Pure; controller only; private."""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import counts_of, total_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Bullets,
    Card,
    Code,
    Heading,
    Inline,
    Listing,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import json_line
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import GATE_TITLES
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import (
    Subject,
    bullet_list,
    counted,
    row_count,
)

_BUILTINS = {
    "target_identity": "The server's identity is compared with the one that the inventory declares.",
    "ddl_checksum": "The SQL to run is hashed and compared with the plan.",
    "schema_diff": "Two schema-only dumps, from before and after, are compared line by line.",
}

_POLICIES = {
    "additions_only": "objects may be added; nothing may be removed or changed",
    "exact": "exactly what the rehearsal produced",
    "unchanged": "nothing may be added, removed or changed",
}


def what_changes(subject: Subject) -> List[Block]:
    """Return the section *What it changes*."""
    rows = [
        (
            change.get("action", ""),
            change["kind"].replace("_", " "),
            Code(change["name"] + (f" ({change['attribute'].replace('_', ' ')})" if change.get("attribute") else "")),
            _difference(change),
            f"{change.get('severity', '')}{', rewrites' if change.get('rewrites') else ''}",
        )
        for change in subject.rehearsal["changes"]
    ]
    blocks: List[Block] = [Heading(2, "What it changes")]
    if not rows:
        return [*blocks, Paragraph(("The schema does not change.",))]
    return [
        *blocks,
        Paragraph(("The structural difference that the rehearsal found, in all object kinds, columns included.",)),
        Table(("Action", "Kind", "Name", "Value", "Class"), tuple(rows)),
    ]


def _difference(change: Mapping[str, Any]) -> str:
    before, after = change.get("before"), change.get("after")
    shown = f"{before} → {after}" if before is not None and after is not None else str(after or before or "")
    parts = change.get("parts") or []
    return shown + (f"; with {', '.join(parts)}" if parts else "")


def _counts(declared: Any) -> str:
    """Return the declared row counts of a tag's statements for people."""
    total = total_of(declared)
    if total is not None:
        return f"{_count(total)} for all statements together"
    each = isinstance(declared, Mapping)
    return ", ".join(map(_count, counts_of(declared, 1))) + (" for each statement" if each else "")


def what_is_checked(subject: Subject) -> List[Block]:
    """Return the section *What is checked*."""
    phase = subject.phase
    inside: List[Tuple[Inline, ...]] = [
        (f"{tag}: the server reports {_counts(counts)}.",) for tag, counts in phase["expect"]["rows"].items()
    ]
    if "result" in phase["expect"]:
        inside.append(("The trailing SELECT returns ", Code(_result(phase["expect"]["result"])), "."))
    policy = phase["diff"]["policy"]
    allowed = [", ".join(f"{k} {v}" for k, v in one.items()) for one in phase["diff"]["allow"]]
    inside.append(
        (
            f"The structural diff: {_POLICIES.get(policy, policy)}{'; besides: ' + '; '.join(allowed) if allowed else ''}.",
        )
    )
    inside.append(
        (f"The {counted(phase['verify'], 'verification check')} below, as far as they can be evaluated before COMMIT.",)
    )
    after = [*(f"rows of {c['relation']}: {c['change']:+d}" for c in phase["row_counts"] if c["change"])]
    unchanged = [c["relation"] for c in phase["row_counts"] if not c["change"]]
    after += [f"rows unchanged: {', '.join(unchanged)}"] if unchanged else []
    after += [
        f"{m['relation']}.{m['column']}: " + (", ".join(f"{k.replace('_', ' ')} {v}" for k, v in m["expect"].items()) or "measured")
        + (f" ({m['note']})" if m.get("note") else "")
        for m in phase["measure"]
    ]  # fmt: skip
    return [
        Heading(2, "What is checked"),
        Heading(3, "Before: preflight"),
        Paragraph(("All of these pass, or nothing runs.",)),
        *(_check(check) for check in phase["preflight"]),
        Heading(3, "Inside the transaction, before COMMIT"),
        Paragraph(("Any failure rolls the transaction back, and nothing is changed.",)),
        Bullets(tuple(inside)),
        Heading(3, "After: verification"),
        Paragraph(("A failure stops the run and keeps everything; nothing is rolled back automatically.",)),
        *(_check(check) for check in phase["verify"]),
        *bullet_list("", after),
        Heading(3, "Gates"),
        Paragraph(("The migration module evaluates each gate itself, immediately before the first statement.",)),
        Table(("Gate", "Holds when"), tuple((gate, title) for gate, title in GATE_TITLES.items())),
        *_expected_drift(subject),
    ]


def _expected_drift(subject: Subject) -> Iterator[Block]:
    """Yield what G-10 permits to have changed since the rehearsal."""
    tables = subject.phase["drift"]["partitions_of"]
    if not tables:
        return
    names = [".".join(one) for one in subject.rehearsal.get("partitions", ())]
    yield Paragraph(
        (
            "Since the rehearsal, G-10 permits partitions of ",
            Code(", ".join(tables)),
            " to have been added and dropped. One that was added must have nothing of its own: all of it follows from its parent, or is"
            " as on another partition. Before COMMIT it must have the changes that a rehearsed partition has. At the rehearsal: ",
            *([Code(", ".join(names))] if names else ["no partition"]),
            ".",
        )
    )


def _result(value: Any) -> str:
    return (
        ", ".join(f"{name} {json_line(one)}" for name, one in value.items())
        if isinstance(value, dict)
        else json_line(value)
    )


def _count(value: Any) -> str:
    if isinstance(value, dict):
        return " and ".join(
            f"{'at least' if key == 'min' else 'at most'} {row_count(n)}"
            for key, n in sorted(value.items(), reverse=True)
        )
    return row_count(value)


def _check(check: Mapping[str, Any]) -> Card:
    blocks: List[Block] = []
    if check.get("builtin"):
        blocks.append(Paragraph((_BUILTINS.get(check["builtin"], check["builtin"]),)))
    else:
        blocks.append(Listing(check["sql"], "sql"))
    if "expect" in check:
        blocks.append(Paragraph(("Expected: ", Code(json_line(check["expect"])))))
    badges = (Badge("after COMMIT only", "watch"),) if check.get("after_commit") else ()
    return Card(f"{check['id']} · {check['title']}", badges, tuple(blocks), folded=True)
