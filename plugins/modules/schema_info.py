#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Report what a database's schema consists of."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_info
short_description: Report what a database's schema consists of
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Reads the whole schema as facts from the catalogs, in one read-only C(REPEATABLE READ) transaction, and returns its
    fingerprint, a digest for each schema, the number of facts of each kind, and the facts of selected objects.
  - A role that may only connect is sufficient. RV(unseen) lists what is hidden from it.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.read_only
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
options:
  cluster:
    description: Whether the facts include roles, memberships, settings of roles, tablespaces and privileges on parameters.
    type: bool
    default: false
  facts:
    description:
      - Which facts to return, none by default. A fact is returned if it matches one entry. An entry has one or more of the
        following, all of which must match. C(*) and C(?) are wildcards.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of fact, such as V(table), V(column), V(index), V(function) or V(acl).
        type: str
      schema:
        description: Name of the schema; an empty text matches what is in no schema.
        type: str
      object:
        description: The object's name as the diff writes it, such as V(sales.orders) or V(sales.orders.note).
        type: str
seealso:
  - module: incomex.phasegate.schema_drift
  - module: incomex.phasegate.schema_snapshot
"""

EXAMPLES = r"""
- name: Read the schema
  incomex.phasegate.schema_info:
    container: postgres
    database: directus
    facts:
      - kind: column
        object: public.tac_logical_unit.*
      - kind: acl
        schema: public
  register: now

- name: Fail if the schema is not the one that was tested
  ansible.builtin.assert:
    that: now.fingerprint == tested_fingerprint
"""

RETURN = r"""
fingerprint:
  description: SHA-256 over all facts.
  returned: success
  type: str
schemas:
  description: One digest over all facts of each schema, by name; an empty name is for what is in no schema.
  returned: success
  type: dict
  sample: {'': 5d1e…, public: 0a77…}
counts:
  description: Number of facts of each kind.
  returned: success
  type: dict
  sample: {column: 61, table: 9}
objects:
  description: Number of objects; a table with its columns, constraints and indexes is one.
  returned: success
  type: int
database:
  description: Name of the database.
  returned: success
  type: str
server_version:
  description: Version of the server.
  returned: success
  type: str
  sample: '16.13'
unseen:
  description: What was hidden from the role, one sentence each.
  returned: success
  type: list
  elements: str
facts:
  description: The selected facts, in a stable order.
  returned: success
  type: list
  elements: dict
  contains:
    kind: {description: Kind of the fact., type: str}
    schema: {description: Name of its schema. Empty if it is in none., type: str}
    object: {description: Name of the object as the diff writes it., type: str}
    identity: {description: The names that identify the fact., type: dict}
    attributes: {description: 'Its attributes, except those that are not set.', type: dict}
"""

import fnmatch
from collections import Counter
from typing import Any, Iterator, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import display
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import kind_of, schema_of
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import wanted_sections
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot


def selected(snapshot: Snapshot, patterns: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield the facts that match one of the patterns, as JSON types."""
    for fact in snapshot.decoded() if patterns else ():
        about = {
            "kind": fact.kind,
            "schema": schema_of(fact.kind, fact.identity),
            "object": display(fact.kind, fact.identity),
        }
        if any(all(fnmatch.fnmatchcase(about[key], text) for key, text in entry.items()) for entry in patterns):
            identity = dict(zip(KINDS[fact.kind].identity, fact.identity))
            attributes = {name: value for name, value in fact.attributes.items() if value is not None}
            yield {**about, "identity": identity, "attributes": attributes}


def read(client: Client, sections: Sequence[str], patterns: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the module's result. Raises ``PhaseGateError``."""
    with client.session("phasegate:info") as session:
        snapshot = take_snapshot(session, sections=sections)
    counts = Counter(kind_of(line) for line in snapshot.facts)
    return {
        "fingerprint": snapshot.fingerprint,
        "objects": len(snapshot.object_digests()),
        "unseen": list(snapshot.header.unseen),
        "database": snapshot.header.database,
        "server_version": snapshot.header.server_version,
        "schemas": dict(sorted(snapshot.schema_digests().items())),
        "counts": dict(sorted(counts.items())),
        "facts": list(selected(snapshot, patterns)),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "cluster": {"type": "bool", "default": False},
            "facts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"kind": {"type": "str"}, "schema": {"type": "str"}, "object": {"type": "str"}},
                "required_one_of": [("kind", "schema", "object")],
            },
        },
        supports_check_mode=True,
    )
    params = module.params
    patterns = [{key: text for key, text in entry.items() if text is not None} for entry in params["facts"]]
    with errors_of(module):
        result = read(Client.from_params(params), wanted_sections(cluster=params["cluster"]), patterns)
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
