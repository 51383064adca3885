# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The section *Data that the rehearsal changed* of a review package. Pure; controller only; private."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import change_extent, count_range
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Block,
    Code,
    Heading,
    Inline,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import Subject, bullet_list

# Changes after which earlier data is gone.
_LOSING = ("DELETE", "TRUNCATE", "RECREATE")


def what_data_changed(subject: Subject) -> List[Block]:
    """Return the section *Data that the rehearsal changed*."""
    rehearsal = subject.rehearsal
    undone = rehearsal["rollback"]["data"]
    return [
        Heading(2, "Data that the rehearsal changed"),
        Paragraph(
            (
                "Counted by the server in the transaction, with triggers, functions and cascades; partitions under their parent. "
                "On production another relation or kind of change rolls back, and another number than a declared one.",
            )
        ),
        _table(rehearsal["data"], subject.plan["ddl"], subject.phase["data"]),
        *bullet_list("", [f"Not proved: {one}." for one in rehearsal["unproved"]]),
        Heading(3, "Data that the rollback changed"),
        Paragraph(("Shown, and not compared when a rollback runs: it undoes what is there by then.",)),
        _table(undone, subject.plan["rollback"], None),
    ]


def _table(
    changes: Sequence[Mapping[str, Any]], part: Mapping[str, Any], declared: Optional[Mapping[str, Any]]
) -> Block:
    """Return the changes of one transaction; ``part`` has its statements, ``declared`` is ``data`` of the phase."""
    if not changes:
        return Paragraph(("No data.",))
    known = {split_relation(name): kinds for name, kinds in (declared or {}).items()}
    rows = tuple(
        (
            Code(one["relation"]),
            one["kind"],
            change_extent(one),
            *(
                [count_range(known.get(split_relation(one["relation"]), {}).get(one["kind"]))]
                if declared is not None
                else []
            ),
            _named_by(part, one["relation"]),
        )
        for one in changes
    )
    return Table(
        ("Relation", "Change", "Rows", *(["Declared"] if declared is not None else []), "Named by statement"), rows
    )


def _named_by(part: Mapping[str, Any], relation: str) -> str:
    """Return the numbers of the statements that name a relation."""
    found = [str(one["n"]) for one in part["statements"] if relation in one["relations"]]
    return ", ".join(found) or "none: by a trigger, function or cascade"


def data_findings(subject: Subject) -> List[Tuple[Inline, ...]]:
    """Return what a reviewer should see first: data that goes, changes that no statement names, what is not proved."""
    items: List[Tuple[Inline, ...]] = []
    for one in subject.rehearsal["data"]:
        unnamed = not any(one["relation"] in statement["relations"] for statement in subject.plan["ddl"]["statements"])
        if one["kind"] in _LOSING or unnamed:
            by = " No statement names it: a trigger, function or cascade does it." if unnamed else ""
            items.append((Code(one["relation"]), f": {one['kind']}, {change_extent(one)}.{by}"))
    return [*items, *((f"Not proved of the changed data: {one}.",) for one in subject.rehearsal["unproved"])]
