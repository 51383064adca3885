# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of a snapshot that survives pg_dump and pg_restore. Pure.

A database is compared with itself exactly. A restored copy is compared after this, and only after this:

* facts of the cluster are left out: a copy is in another one;
* facts of the database itself (its owner, settings, privileges ...) are left out: pg_dump writes them with ``--create`` only;
* facts of what initdb made are left out: pg_dump writes none of it;
* a materialized view counts as populated: a schema-only dump leaves it empty;
* a subscription counts as switched off: pg_dump writes it so;
* without ``owners``, owners and privileges are left out too: for copies made with ``--no-owner --no-privileges``.

Texts of expressions may be printed otherwise in a copy: see ``equal_texts``. A foreign key that a partition inherits gets the name
that the server chooses: see ``misnamed_keys``.
"""

from __future__ import annotations

from typing import NamedTuple

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Words, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import Fact, decode_fact, encode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import TextServer
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import without_cluster
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

_OF_THE_DATABASE = ("database", "role_setting", "initdb_objects")

# The last: update scripts may leave members otherwise than a fresh installation of the same version makes them.
_RESET = (("materialized_view", "populated"), ("subscription", "enabled"), ("extension_member", "definition"))


def normalise(snapshot: Snapshot, *, owners: bool = True) -> Snapshot:
    """Return the part of a snapshot that a dumped and restored copy must share; see above."""
    snapshot = without_cluster(snapshot)
    facts = {}
    for line in snapshot.facts:
        if line.startswith(_TOUCHED) or not owners:
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
    attributes = dict(fact.attributes)
    for kind, name in _RESET:
        if fact.kind == kind:
            attributes[name] = None
    if not owners and "owner" in attributes:
        attributes["owner"] = None
    return fact._replace(attributes=attributes)


class Misnamed(NamedTuple):
    """A foreign key of a restored partition that has another name in the source."""

    schema: str
    relation: str
    found: str
    wanted: str


def misnamed_keys(source: Snapshot, copy: Snapshot) -> list[Misnamed]:
    """Return the inherited foreign keys of a copy that are the source's under another name.

    pg_dump writes a partition's inherited foreign key with its parent only, so restoring names it anew.
    """
    wanted, found = _inherited_keys(source), _inherited_keys(copy)
    return [
        Misnamed(place[0], place[1], is_named, was_named)
        for place in sorted(wanted.keys() & found.keys())
        for was_named, is_named in zip(wanted[place], found[place])
        if was_named != is_named
    ]


def _inherited_keys(snapshot: Snapshot) -> dict[tuple[str, ...], list[str]]:
    """Return the names of inherited foreign keys by schema, relation and all that tells them apart."""
    keys: dict[tuple[str, ...], list[str]] = {}
    for line in snapshot.lines():
        if line.startswith('["constraint",') and "foreign key" in line:
            fact = decode_fact(line)
            if fact.attributes["type"] == "foreign key" and fact.attributes["inherited"]:
                told = (str(fact.attributes[name]) for name in ("definition", "not_valid", "deferrable"))
                keys.setdefault((*fact.identity[:2], *told), []).append(fact.identity[2])
    return keys


def equal_texts(source: Snapshot, copy: Snapshot, server: TextServer) -> Words:
    """Return which texts of a normalised copy are another print of the source's expressions, each as the source has it."""
    return {
        (change.kind, change.identity, change.attribute or "", change.after): change.before
        for change in diff(source, copy).changes
        if change.action == "changed"
        and server.same(change.kind, change.identity, change.attribute, change.before, change.after)
    }
