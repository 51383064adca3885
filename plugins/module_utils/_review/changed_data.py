# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The section *Data that the rehearsal changed* of a review package. Pure; controller only; private."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import (
    COUNTED,
    change_extent,
    count_range,
)
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

# Statements that need a privilege for each kind of change that they make, and those that make rows of what they read.
_CHANGING_ROWS = ("INSERT", "COPY", "UPDATE", "DELETE", "MERGE", "TRUNCATE TABLE")
_MAKING_ROWS = ("CREATE TABLE AS", "SELECT INTO", "DO", "CALL", "SELECT")


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
        *_in_batches(subject),
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
            *([_declared(one, known)] if declared is not None else []),
            _named_by(part, one),
        )
        for one in changes
    )
    return Table(
        ("Relation", "Change", "Rows", *(["Declared"] if declared is not None else []), "Named by statement"), rows
    )


def _declared(change: Mapping[str, Any], known: Mapping[Any, Mapping[str, Any]]) -> str:
    """Return what the phase declares of a change, under ``data`` or by its statements and their row counts."""
    kinds = known.get(split_relation(change["relation"]), {})
    return count_range(kinds[change["kind"]]) if change["kind"] in kinds else "by its statements"


def _namers(part: Mapping[str, Any], change: Mapping[str, Any]) -> List[int]:
    """Return the numbers of the statements that name a relation and may make such a change of it."""
    relation, kind = change["relation"], change["kind"]

    def may(statement: Mapping[str, Any]) -> bool:
        if statement["tag"] in _CHANGING_ROWS:
            return f"{kind} {relation}" in statement["needs"]
        return statement["tag"] in _MAKING_ROWS or kind not in COUNTED

    return [one["n"] for one in part["statements"] if one["run"] and relation in one["relations"] and may(one)]


def _named_by(part: Mapping[str, Any], change: Mapping[str, Any]) -> str:
    found = ", ".join(map(str, _namers(part, change)))
    if change["kind"] == "MOVE":
        return found or "an INSERT, by a column's default, or a function"
    return found or "none: by a trigger, function or cascade"


def _in_batches(subject: Subject) -> List[Block]:
    """Return how many rows the batches after COMMIT changed, which the transaction does not count."""
    rows = {one["n"]: one["rows"] for one in subject.rehearsal["statements"]}
    found = [
        f"After COMMIT, in batches: statement {one['n']}, {one['tag']} of {', '.join(one['relations'])}, {rows.get(one['n'])} rows."
        for one in subject.plan["ddl"]["statements"]
        if one.get("batch")
    ]
    return list(bullet_list("", found)) if found else []


def _left_behind(subject: Subject) -> Iterator[Tuple[Inline, ...]]:
    """Yield the tables that have more or fewer rows after migration and rollback than before; what the phase makes goes with them."""
    rehearsal = subject.rehearsal
    made = {one["name"] for one in rehearsal["changes"] if one["kind"] == "table" and one["action"] == "added"}
    both = [*rehearsal["data"], *rehearsal["rollback"]["data"]]
    uncounted = {one["relation"] for one in both if one["kind"] in ("TRUNCATE", "RECREATE")}
    net: Dict[str, int] = {}
    for one in both:
        if one["kind"] in ("INSERT", "DELETE"):
            net[one["relation"]] = net.get(one["relation"], 0) + one["rows"] * (1 if one["kind"] == "INSERT" else -1)
    for relation, rows in net.items():
        if rows and relation not in made | uncounted:
            count = f"{abs(rows)} {'row' if abs(rows) == 1 else 'rows'} {'more' if rows > 0 else 'fewer'}"
            yield (Code(relation), f": {count} after the rollback than before the migration.")


def data_findings(subject: Subject) -> List[Tuple[Inline, ...]]:
    """Return what a reviewer should see first: data that goes, changes that no statement names, what is not proved."""
    items: List[Tuple[Inline, ...]] = []
    known = {split_relation(name): kinds for name, kinds in subject.phase["data"].items()}
    for one in subject.rehearsal["data"]:
        # a sequence that no statement names and the phase does not declare belongs to a column that an INSERT fills
        kinds = known.get(split_relation(one["relation"]), {})
        unnamed = not _namers(subject.plan["ddl"], one) and (one["kind"] != "MOVE" or "MOVE" in kinds)
        if one["kind"] in _LOSING or unnamed:
            by = " No statement names it: a trigger, function or cascade does it." if unnamed else ""
            items.append((Code(one["relation"]), f": {one['kind']}, {change_extent(one)}.{by}"))
    items += _left_behind(subject)
    return [*items, *((f"Not proved of the changed data: {one}.",) for one in subject.rehearsal["unproved"])]
