# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One fact as a line of text, and the object it belongs to."""

from __future__ import annotations

import json
from typing import NamedTuple, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import KINDS

# Kinds that lose their rows or position when they are dropped and created again under the same name.
HOLDING_DATA = ("table", "column", "sequence")

ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Fact(NamedTuple):
    """One decoded fact: ``identity`` in the order of its kind, ``attributes`` by name (None for NULL)."""

    kind: str
    identity: tuple[str, ...]
    attributes: dict[str, str | None]


def decode_fact(line: str) -> Fact:
    """Return the fact in a line of a snapshot."""
    kind, identity, attributes = json.loads(line)
    return Fact(kind, tuple(identity), dict(zip(KINDS[kind].attributes, attributes)))


def encode_fact(fact: Fact) -> str:
    """Return the line of a fact."""
    names = KINDS[fact.kind].attributes
    return ENCODER.encode([fact.kind, list(fact.identity), [fact.attributes.get(name) for name in names]])


def object_key(kind: str, identity: Sequence[str]) -> tuple[str, ...]:
    """Return the object a fact belongs to: its namespace, then its names; equal for a table and all of its parts."""
    if kind == "acl":
        of, schema, name = identity[:3]
        names = (name,) if of == "schema" else (schema, name)
        return (KINDS[of].namespace if of in KINDS else of, *(text for text in names if text))
    shape = KINDS[kind]
    if shape.parent:
        namespace, places = shape.parent
        return (namespace, *(identity[place] for place in places))
    return (shape.namespace, *identity)


def schema_of(kind: str, identity: Sequence[str]) -> str:
    """Return the schema a fact belongs to, '' when it is in none."""
    place = KINDS[kind].schema_at
    return "" if place is None else identity[place]


def kind_of(line: str) -> str:
    """Return the kind of the fact in a line, without decoding it."""
    return line[2 : line.index('"', 2)]
