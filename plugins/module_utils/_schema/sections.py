# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which facts a phase is compared by: those of the database, and those of the cluster when the phase can change them. Pure.

C-03, the comparison inside the transaction, C-08, the rollback and the rehearsal all take what this decides from the plan.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import cluster_wide
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import Fact, decode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import CLUSTER, SECTIONS, Snapshot

#: What the kind of a statement ends with whose SQL is computed when it runs.
COMPUTED = " EXECUTE"


def touches_cluster(plan: Mapping[str, Any]) -> bool:
    """Return whether a plan's statements can change what all databases share."""
    statements = [*plan["ddl"]["statements"], *plan["rollback"]["statements"]]
    kinds = {kind for statement in statements if statement["run"] for kind in statement["kinds"]}
    return bool(plan["phase"]["scope"].get("functions")) or any(
        cluster_wide(kind) or kind.endswith(COMPUTED) or kind.partition(" ")[0] == "CALL" for kind in kinds
    )


def wanted_sections(*, cluster: bool) -> tuple[str, ...]:
    """Return the sections of a snapshot with or without the facts of the cluster."""
    return (*SECTIONS, CLUSTER) if cluster else SECTIONS


def sections_for_plan(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the sections of every snapshot that is taken for a plan."""
    return wanted_sections(cluster=touches_cluster(plan))


def of_cluster(fact: Fact) -> bool:
    """Return whether a fact is about the cluster, not about one database."""
    if fact.kind == "role_setting":
        return fact.identity[0] != "database"
    if fact.kind == "acl":
        return fact.identity[0] in ("tablespace", "parameter")
    return fact.kind in _CLUSTER_KINDS


_CLUSTER_KINDS = ("role", "role_membership", "tablespace")

_LINES = tuple(f'["{kind}",' for kind in (*_CLUSTER_KINDS, "role_setting", "acl"))


def without_cluster(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot without the facts of the cluster."""
    if CLUSTER not in snapshot.header.sections:
        return snapshot
    kept = {
        line: locator
        for line, locator in snapshot.facts.items()
        if not (line.startswith(_LINES) and of_cluster(decode_fact(line)))
    }
    return Snapshot(replace(snapshot.header, sections=SECTIONS), kept)
