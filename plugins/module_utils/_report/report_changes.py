# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The section *Created and changed objects* of a report: the structural difference as a tree, and what stayed. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Bullets,
    Code,
    Heading,
    Inline,
    Listing,
    Node,
    Paragraph,
    Table,
    Tree,
)

# As many changes are shown at once; more are folded by schema.
SHOWN = 60

_SEVERITIES = {"additive": "good", "cosmetic": "plain"}


def object_tree(report: Mapping[str, Any]) -> List[Block]:
    """Return the difference as a tree by schema and object, row counts, backfilled rows, and what stayed unchanged."""
    diff = report["diff"]
    changes: Sequence[Mapping[str, Any]] = diff.get("changes") or ()
    text = diff.get("text") or "no difference"
    blocks: List[Block] = [] if changes else [Listing(text, "diff")]
    if changes:
        blocks.append(Paragraph((text.partition("\n")[0],)))
        blocks.append(Tree(_schemas(changes), folded=len(changes) > SHOWN))
    filled = [
        (f"Statement {one['n']}, {one['tag']}: {one['rows']} rows written of", *_names(one["relations"]))
        for one in report["migration"]["statements"]
        if one["tag"] in ("INSERT", "UPDATE", "DELETE", "MERGE", "COPY") and one["rows"] is not None
    ]
    blocks += [Bullets(tuple(filled))] if filled else []
    return [*blocks, *_counts(report["row_counts"]), *_unchanged(report, changes)]


def _names(relations: Sequence[str]) -> Tuple[Inline, ...]:
    return tuple(part for name in relations for part in (" ", Code(name)))


def _schemas(changes: Sequence[Mapping[str, Any]]) -> Tuple[Node, ...]:
    """Return a node for each schema, with one for each object below it; a column is below its table."""
    schemas: Dict[str, Dict[str, List[Mapping[str, Any]]]] = {}
    for change in changes:
        objects = schemas.setdefault(change.get("schema") or "", {})
        objects.setdefault(_owner(change), []).append(change)
    nodes = []
    for schema, objects in sorted(schemas.items()):
        below = tuple(_object(name, own, brief=len(changes) > SHOWN) for name, own in objects.items())
        count = sum(len(own) for own in objects.values())
        label: Tuple[Inline, ...] = ("schema ", Code(schema)) if schema else ("outside of a schema",)
        nodes.append(Node(label, (Badge(f"{count} change{'' if count == 1 else 's'}"),), below))
    return tuple(nodes)


def _owner(change: Mapping[str, Any]) -> str:
    """Return the name of the object that a change is in; its own for an object."""
    identity = change.get("identity") or ()
    if len(identity) > 2:  # noqa: PLR2004
        return ".".join(str(part) for part in identity[:2])
    return str(change["name"])


def _object(name: str, changes: Sequence[Mapping[str, Any]], *, brief: bool) -> Node:
    if len(changes) == 1 and changes[0]["name"] == name:
        return _change(changes[0], brief=brief)
    return Node((Code(name),), (), tuple(_change(change, brief=brief) for change in changes))


def _change(change: Mapping[str, Any], *, brief: bool) -> Node:
    """Return a change; ``brief``: one of so many that its parts are only named."""
    attribute = change.get("attribute")
    parts: List[Inline] = [f"{change['kind'].replace('_', ' ')} ", Code(str(change["name"]))]
    parts += [f" {attribute.replace('_', ' ')}"] if attribute else []
    rest: List[Inline] = []
    values = [Code(str(one)) for one in (change.get("before"), change.get("after")) if one is not None]
    for sign, value in zip(("", " → "), values):
        rest += [sign, value]
    if change.get("note"):
        rest.append(f" ({change['note']})")
    severity = str(change.get("severity", ""))
    badges = [Badge(str(change["action"]))]
    badges += [Badge(severity, _SEVERITIES.get(severity, "watch"))] if severity else []
    badges += [Badge("rewrites", "bad")] if change.get("rewrites") else []
    below = tuple(Node((str(part),)) for part in change.get("parts") or ())
    if brief and below:
        rest.append(f"; with {', '.join(str(part) for part in change['parts'])}")
        below = ()
    return Node(tuple(parts), tuple(badges), below, tuple(rest))


def _counts(rows: Sequence[Mapping[str, Any]]) -> List[Block]:
    if not rows:
        return []

    def shown(count: Any) -> str:
        return "does not exist" if count is None else str(count)

    cells = tuple(
        (
            Code(one["relation"]),
            shown(one["before"]),
            shown(one["after"]) if one["counted_after"] else "not counted",
            f"{one['expected_change']:+d}",
        )
        for one in rows
    )
    return [Heading(3, "Rows"), Table(("relation", "before", "after", "declared change"), cells, (1, 2, 3))]


def _unchanged(report: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> List[Block]:
    same = [one["relation"] for one in report["row_counts"] if one["counted_after"] and one["before"] == one["after"]]
    items: List[Tuple[Inline, ...]] = []
    objects = report["objects"]["before"]
    if objects is not None:
        # a new object is not one that was there before; a change within one has a longer identity than its object
        touched = {
            _owner(change)
            for change in changes
            if change["action"] != "added" or len(change.get("identity") or ()) > len(("schema", "object"))
        }
        items.append((f"{max(objects - len(touched), 0)} of the {objects} objects that were there before",))
    if same:
        names = tuple(part for name in same for part in (Code(name), " "))
        items.append(("The number of rows of ", *names[:-1]))
    return [Heading(3, "Unchanged"), Bullets(tuple(items))] if items else []
