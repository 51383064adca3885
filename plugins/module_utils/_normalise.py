# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a schema and its dumped and restored copy have in common. Pure; private to this collection."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._catalog import QUERIES
from ansible_collections.incomex.phasegate.plugins.module_utils._snapshot import Snapshot, decode

_OF_THE_DATABASE = {query.kind.name for query in QUERIES if query.section != "schema"}


def normalise(snapshot: Snapshot) -> Snapshot:
    """Return what a copy in another database must have too: everything but the settings of the database itself."""
    return snapshot.with_facts({f: at for f, at in snapshot.facts.items() if decode(f).kind not in _OF_THE_DATABASE})
