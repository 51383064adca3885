# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan: the reviewed content as bytes that can be signed, and the checks of the target before it runs them.

Standard library only.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, TypedDict

from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import freeze

PLAN_FORMAT = "phasegate-plan/1"


class SearchedNames(TypedDict, total=False):
    """What a statement of a phase with a search_path has besides.

    ``searched`` are the names that the server looks for in its schemas although no call of a function is written: of operators,
    and those after a dot, which are a column's, an attribute's or a function's.
    """

    searched: List[str]


class Batch(TypedDict):
    """How a statement runs in batches of at most ``rows`` rows, in the order of the column ``by``; ``key`` is that as SQL text.

    ``select`` reads the keys of a range of rows, and ``change`` changes them: ``$1`` is the key before the first, ``$2`` the last
    one. ``leaves``: a row that is done matches the statement's WHERE no more.
    """

    by: str
    rows: int
    key: str
    leaves: bool
    select: str
    change: str


class Batched(TypedDict, total=False):
    """What the plan has of a statement in batches, and of no other."""

    batch: Batch


class Statement(SearchedNames, Batched):
    """A statement of an SQL file. ``start`` and ``end`` are byte offsets, ``line`` counts from 1, so does ``n``.

    ``run`` is false for the file's own BEGIN and COMMIT, which phasegate does not send. ``relations`` are the tables,
    views, indexes and sequences that it names, each as SQL text with its schema; ``needs`` the privileges that it needs
    (``_postgres.privileges``). ``after_commit`` is empty for a
    statement of the transaction; for one that cannot run in a transaction it is the index or partition that it creates,
    drops, rebuilds or detaches, as SQL text with its schema, and for one in batches its table.
    """

    n: int
    start: int
    end: int
    line: int
    tag: str
    kinds: List[str]
    relations: List[str]
    needs: List[str]
    returns_rows: bool
    run: bool
    after_commit: str


def pinned_file(name: str, data: bytes) -> Dict[str, Any]:
    """Return the plan's entry of a file: name, SHA-256 and size."""
    return {"file": name, "sha256": sha256_bytes(data), "bytes": len(data)}


def build_plan(
    phase: Mapping[str, Any],
    definition: Mapping[str, Any],
    ddl: Mapping[str, Any],
    rollback: Mapping[str, Any],
) -> Dict[str, Any]:
    """Return the plan of a phase.

    ``phase`` is phase.yml with its defaults; ``definition``, ``ddl`` and ``rollback`` are the ``pinned`` entries of the
    three files, the last two with their ``statements``.
    """
    return {
        "format": PLAN_FORMAT,
        "phase": dict(phase),
        "definition": dict(definition),
        "ddl": dict(ddl),
        "rollback": dict(rollback),
    }


def freeze_plan(
    plan: Mapping[str, Any],
    *,
    target: Mapping[str, Any],
    rehearsal: Mapping[str, Any],
    tools: Mapping[str, str],
    author: str,
    nonce: str,
    created_at: str,
    not_after: str,
) -> Dict[str, Any]:
    """Return the content of plan.json: the plan of a phase, with what its rehearsal proved and measured.

    ``plan`` is what ``build_plan`` returns. ``target`` is the cluster that the plan is for, ``tools`` are versions by
    name, ``nonce`` is hexadecimal, the times are ISO 8601 in UTC. The form of all parts is that of ``_plan.plan_schema``. Same
    arguments, same bytes: ``canonical_json`` of the result is what reviewers sign.
    """
    return freeze(
        {
            **plan,
            "target": dict(target),
            "rehearsal": dict(rehearsal),
            "tools": dict(tools),
            "author": author,
            "nonce": nonce,
            "created_at": created_at,
            "not_after": not_after,
        }
    )
