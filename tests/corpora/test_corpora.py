# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structural diff on schemas, migrations and histories of other projects."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import normalise
from ansible_collections.incomex.phasegate.tests.corpora import agreement, corpora

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOURCES: dict[str, Callable[[Path, corpora.Server], list[agreement.Result]]] = {
    "pairs": agreement.pairs,
    "history": agreement.history,
    "chains": agreement.chains,
}


@pytest.mark.parametrize("source", SOURCES)
def test_no_change_is_missed_or_taken_for_harmless(
    root: Path, server: corpora.Server, results: list[agreement.Result], source: str
) -> None:
    judged = SOURCES[source](root, server)
    results.extend(judged)
    loaded = [result for result in judged if not result.not_loaded]
    assert loaded
    assert not [(result.corpus, result.case, result.wrong) for result in loaded if result.wrong]
    unexplained = [
        (result.corpus, result.case, whose, theirs, result.ours)
        for result, whose, theirs, why in agreement.disagreements(judged)
        if not why
    ]
    assert not unexplained


def test_every_statement_that_pg_dump_shows_moves_the_fingerprint(root: Path, notes: list[str]) -> None:
    seen = agreement.pg_dump_statements(root)
    notes.append(f"pg_dump's own statements: {sum(seen.values())} of {len(seen)} that pg_dump shows are seen")
    assert seen
    assert not [name for name, moved in seen.items() if not moved]


@pytest.mark.parametrize("name", ["pagila-schema", "chinook", "danbooru-structure"])
def test_a_restored_copy_has_the_same_normalised_fingerprint(root: Path, server: corpora.Server, name: str) -> None:
    script = (root / "schemas" / f"{name}.sql").read_text(encoding="utf-8")
    with server.database() as original, server.database() as copy:
        # what a schema refers to and this server lacks is left out of it
        server.psql(original, script, stop=False)
        dumped = subprocess.run(
            server.client(original).argv("pg_dump", "--dbname", server.client(original).connection_string("corpora")),
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        server.psql(copy, dumped)
        before, after = normalise(server.snapshot(original)), normalise(server.snapshot(copy))
    assert len(before) > 100
    assert diff(before, after).text() == "no difference"
    assert before.fingerprint == after.fingerprint
