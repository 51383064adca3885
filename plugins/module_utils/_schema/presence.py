# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the changes that a phase made are in a schema, by the recorded changes and the facts of now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import (
    Fact,
    decode_fact,
    object_key,
    schema_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import of_cluster
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity import CHANGED, REMOVED
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import CLUSTER, Snapshot

# How a fact has no privileges.
_NONE = "[]"


@dataclass(frozen=True)
class Presence:
    """What became of recorded changes: the names of those that are ``there``, and of those that are ``gone``.

    A change that can no longer be told from another one, such as an attribute with a third value, is in neither.
    """

    there: tuple[str, ...]
    gone: tuple[str, ...]

    @property
    def all_gone(self) -> bool:
        """Return whether the schema has none of the changes, and there were some."""
        return bool(self.gone) and not self.there

    @property
    def all_there(self) -> bool:
        """Return whether the schema has all of the changes, and there were some."""
        return bool(self.there) and not self.gone


def presence_of(changes: Sequence[Mapping[str, Any]], live: Snapshot) -> Presence:
    """Return which of recorded changes (``Change.as_dict``) the schema has."""
    there: list[str] = []
    gone: list[str] = []
    for change in changes:
        kind, identity = change["kind"], tuple(change["identity"])
        unread = CLUSTER not in live.header.sections and kind in KINDS and of_cluster(Fact(kind, identity, {}))
        if kind not in KINDS or unread:
            continue
        found = _has(change, _fact(live, kind, identity))
        if found is not None:
            (there if found else gone).append(f"{kind.replace('_', ' ')} {change['name']}")
    return Presence(tuple(there), tuple(gone))


def _fact(live: Snapshot, kind: str, identity: tuple[str, ...]) -> Fact | None:
    lines = live.members().get((schema_of(kind, identity), *object_key(kind, identity)), ())
    facts = (decode_fact(line) for line in lines if line.startswith(f'["{kind}",'))
    return next((fact for fact in facts if fact.identity == identity), None)


def _has(change: Mapping[str, Any], fact: Fact | None) -> bool | None:
    """Return whether the change is there; None when that cannot be said."""
    if change["action"] == REMOVED:
        return fact is None
    if change["action"] != CHANGED:
        return fact is not None
    if fact is None and change["kind"] != "acl":
        # the object itself is gone
        return False
    # privileges that are as an object is born with are no fact; of other roles than the owner that is mostly none
    value = fact.attributes.get(change["attribute"]) if fact else _NONE
    known = {change["after"]: True, change["before"]: False}
    return known.get(value)
