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

# The type of a column of a new table, by schema, table, and the column's name as a part.
Types = Mapping[Tuple[str, ...], str]

_SEVERITIES = {"additive": "good", "cosmetic": "plain"}


def object_tree(report: Mapping[str, Any]) -> List[Block]:
    """Return the difference as a tree by schema and object, row counts, backfilled rows, and what stayed unchanged."""
    diff = report["diff"]
    changes: Sequence[Mapping[str, Any]] = diff.get("changes") or ()
    text = diff.get("text") or "no difference"
    blocks: List[Block] = [Listing(text, "diff")]
    if changes:
        types: Dict[Tuple[str, ...], str] = {
            (one["schema"], one["table"], f"column {one['column']}"): one["type"] for one in report["new_columns"]
        }
        tree = Tree(_schemas(changes, types), folded=len(changes) > SHOWN)
        blocks = [Paragraph((text.partition("\n")[0],)), tree]
    filled = [
        (f"Statement {one['n']}, {one['tag']}: {one['rows']} rows written of", *_names(one["relations"]))
        for one in report["migration"]["statements"]
        if one["tag"] in ("INSERT", "UPDATE", "DELETE", "MERGE", "COPY") and one["rows"] is not None
    ]
    blocks += [Bullets(tuple(filled))] if filled else []
    return [*blocks, *_counts(report["row_counts"]), *_unchanged(report, changes)]


def _names(relations: Sequence[str]) -> Tuple[Inline, ...]:
    return tuple(part for name in relations for part in (" ", Code(name)))


def _schemas(changes: Sequence[Mapping[str, Any]], types: Types) -> Tuple[Node, ...]:
    """Return a node for each schema, with one for each object below it; a column is below its table."""
    brief = len(changes) > SHOWN
    schemas: Dict[str, Dict[str, List[Mapping[str, Any]]]] = {}
    for change in changes:
        objects = schemas.setdefault(change.get("schema") or "", {})
        objects.setdefault(_owner(change), []).append(change)
    nodes = []
    for schema, objects in sorted(schemas.items()):
        below = []
        for name, own in objects.items():
            found = tuple(_change(change, types, brief=brief) for change in own)
            single = len(own) == 1 and own[0]["name"] == name
            below.append(found[0] if single else Node((Code(name),), (), found))
        count = sum(len(own) for own in objects.values())
        label: Tuple[Inline, ...] = ("schema ", Code(schema)) if schema else ("outside of a schema",)
        nodes.append(Node(label, (Badge(f"{count} change{'' if count == 1 else 's'}"),), tuple(below)))
    return tuple(nodes)


def _owner(change: Mapping[str, Any]) -> str:
    """Return the name of the object that a change is in; its own for an object."""
    identity = change.get("identity") or ()
    if len(identity) > len(("schema", "object")):
        return ".".join(str(part) for part in identity[:2])
    return str(change["name"])


def _change(change: Mapping[str, Any], types: Types, *, brief: bool) -> Node:
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
    names = [str(part) for part in change.get("parts") or ()]
    if brief and names:
        rest.append(f"; with {', '.join(names)}")
        names = []
    within = tuple((change.get("identity") or ())[:2])
    known = [(name, types.get((*within, name), "")) for name in names]
    below = tuple(Node((name,), (), (), (Code(kind),) if kind else ()) for name, kind in known)
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
