# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All kinds of facts and the queries that read them: the tuples of the files beside this one, joined."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.cluster import CLUSTER
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.database import DATABASE
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.initdb import INITDB
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.members import MEMBERS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import FactQuery, Kind
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.operators import OPERATORS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.privileges import PRIVILEGES
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.relations import RELATIONS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.routines import ROUTINES
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.types import TYPES
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.unknown import UNKNOWN

QUERIES: tuple[FactQuery, ...] = (
    *RELATIONS,
    *ROUTINES,
    *TYPES,
    *OPERATORS,
    *DATABASE,
    *MEMBERS,
    *PRIVILEGES,
    *CLUSTER,
    *INITDB,
    *UNKNOWN,
)


def _kinds(queries: tuple[FactQuery, ...]) -> dict[str, Kind]:
    """Return the kinds by name; every query for facts of one kind gives them the same shape."""
    kinds: dict[str, Kind] = {}
    for query in queries:
        known = kinds.setdefault(query.kind.name, query.kind)
        assert known == query.kind, f"two shapes for facts of kind {query.kind.name}"
    return kinds


KINDS = _kinds(QUERIES)
