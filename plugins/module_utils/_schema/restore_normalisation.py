# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of a snapshot that survives pg_dump and pg_restore. Pure.

A database is compared with itself exactly. A restored copy is compared after this, and only after this:

* facts of the cluster are left out: a copy is in another one;
* facts of the database itself (its owner, settings, privileges ...) are left out: pg_dump writes them with ``--create`` only;
* a materialized view counts as populated: a schema-only dump leaves it empty;
* a subscription counts as switched off: pg_dump writes it so;
* a cast of an array is written as casts of its elements: the server prints ``(ARRAY['a'::character varying])::text[]`` for
  ``x IN ('a')`` as typed, and ``ARRAY[('a'::character varying)::text]`` after it has parsed its own text again;
* without ``owners``, owners and privileges are left out too: for copies made with ``--no-owner --no-privileges``.
"""

from __future__ import annotations

import re

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import Fact, decode_fact, encode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import without_cluster
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

_OF_THE_DATABASE = ("database", "role_setting")

# The last: update scripts may leave members otherwise than a fresh installation of the same version makes them.
_RESET = (("materialized_view", "populated"), ("subscription", "enabled"), ("extension_member", "definition"))

_ARRAY_CAST = re.compile(r'\]\)::(?P<element>[a-z_"][\w ."]*(?:\(\d+(?:,\d+)?\))?(?: with(?:out)? time zone)?)\[\]')


def normalise(snapshot: Snapshot, *, owners: bool = True) -> Snapshot:
    """Return the part of a snapshot that a dumped and restored copy must share; see above."""
    snapshot = without_cluster(snapshot)
    facts = {}
    for line in snapshot.facts:
        if "::" in line or line.startswith(_TOUCHED) or not owners:
            kept = _normal(decode_fact(line), owners=owners)
            if kept is not None:
                facts[encode_fact(kept)] = ""
        else:
            facts[line] = ""
    return Snapshot(snapshot.header, facts)


_TOUCHED = tuple(f'["{kind}",' for kind in (*_OF_THE_DATABASE, "acl", *(kind for kind, _name in _RESET)))


def _normal(fact: Fact, *, owners: bool) -> Fact | None:
    if fact.kind in _OF_THE_DATABASE or (fact.kind == "acl" and fact.identity[0] == "database"):
        return None
    if not owners and fact.kind in ("acl", "default_acl", "system_object"):
        return None
    attributes = {name: value and push_array_casts(value) for name, value in fact.attributes.items()}
    for kind, name in _RESET:
        if fact.kind == kind:
            attributes[name] = None
    if not owners and "owner" in attributes:
        attributes["owner"] = None
    return fact._replace(attributes=attributes)


def push_array_casts(text: str) -> str:
    """Return an expression of the server's with each ``(ARRAY[x, y])::t[]`` as ``ARRAY[(x)::t, (y)::t]``."""
    position = 0
    while True:
        start = text.find("(ARRAY[", position)
        if start < 0:
            return text
        elements, end = _elements(text, start + len("(ARRAY["))
        cast = _ARRAY_CAST.match(text, end)
        if cast:
            pushed = ", ".join(f"({element})::{cast['element']}" for element in elements)
            text = f"{text[:start]}ARRAY[{pushed}]{text[cast.end() :]}"
        position = start + 1


def _elements(text: str, start: int) -> tuple[list[str], int]:
    """Return the elements of the array that begins at ``start`` and the place of its closing bracket."""
    depth, quote, element_start = 0, "", start
    elements = []
    for place in range(start, len(text)):
        char = text[place]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([":
            depth += 1
        elif char in ")]" and depth:
            depth -= 1
        elif char == "]" or (char == "," and depth == 0):
            elements.append(text[element_start:place].strip())
            element_start = place + 1
            if char == "]":
                return elements, place
    return elements, len(text)
