# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structural diff on schemas, migrations and histories of other projects."""

from __future__ import annotations

import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import (
    Reprinter,
    printable,
    printed_attributes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import (
    equal_texts,
    normalise,
)
from ansible_collections.incomex.phasegate.tests.corpora import agreement, corpora, rollbacks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

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


def test_no_drafted_rollback_of_a_real_migration_is_wrong(root: Path, server: corpora.Server, notes: list[str]) -> None:
    found = rollbacks.drafts(root, server)
    notes.append(
        f"rollbacks of {len(found)} migrations, of which a person's restores {sum(one.human for one in found)}:"
    )
    for outcome, count in Counter(one.outcome for one in found).most_common():
        notes.append(f"  {count} {outcome}")
        notes.extend(f"    {one.name}: {one.reason}" for one in found if one.outcome == outcome and one.reason)
    assert found
    assert not [(one.name, one.reason) for one in found if one.outcome == rollbacks.WRONG]


def test_every_statement_that_pg_dump_shows_moves_the_fingerprint(root: Path, notes: list[str]) -> None:
    seen = agreement.pg_dump_statements(root)
    notes.append(f"pg_dump's own statements: {sum(seen.values())} of {len(seen)} that pg_dump shows are seen")
    assert seen
    assert not [name for name, moved in seen.items() if not moved]


def restored(server: corpora.Server, source: str, copy: str) -> None:
    """Restore the schema of one database into an empty one."""
    client = server.client(source)
    argv = client.argv("pg_dump", "--schema-only", "--dbname", client.connection_string("corpora"))
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    # a schema of which a part could not be loaded may not restore whole either
    server.psql(copy, text, stop=False)


def texts_in(snapshot: Snapshot) -> Counter[tuple[str, str]]:
    """Return how many texts that the server prints a snapshot has, by kind and attribute."""
    return Counter(
        (fact.kind, name)
        for fact in snapshot.decoded()
        for name in printed_attributes(fact.kind)
        if fact.attributes[name] is not None
    )


def schemas(root: Path) -> list[Path]:
    """Return every schema of the corpora: whole ones, the newest dump of each history, and the new side of each pair."""
    histories = {entry["corpus"]: root / entry["new"] for entry in corpora.manifest(root, "history/manifest.json")}
    pairs = [root / entry["dir"] / "new.sql" for entry in corpora.manifest(root, "pairs/manifest.json")]
    return [*sorted((root / "schemas").glob("*.sql")), *histories.values(), *pairs]


@dataclass
class Texts:
    """The texts of one schema: how many there are, how many a copy prints otherwise, and those that are not recognised."""

    seen: Counter[tuple[str, str]]
    otherwise: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def restored_twice(server: corpora.Server, script: str) -> Texts:
    """Load a schema, restore it, restore the copy, and compare the texts of the three."""
    with server.database() as original, server.database() as first, server.database() as second:
        # what a schema refers to and this server lacks is left out of it
        server.psql(original, script, stop=False)
        source = normalise(server.snapshot(original))
        found = Texts(texts_in(source))
        if not found.seen:
            return found
        restored(server, original, first)
        restored(server, first, second)
        once, twice = (normalise(server.snapshot(name)) for name in (first, second))
        for database, copy in ((first, once), (second, twice)):
            with server.client(database).session("corpora") as session:
                words = equal_texts(source, copy, Reprinter(session, inside=False))
            found.otherwise.update((kind, attribute or "") for kind, _identity, attribute, _text in words)
            found.wrong += _printed_otherwise(diff(source, copy, words))
        # one pass is enough: what a copy prints is what its own copy prints
        found.wrong += _printed_otherwise(diff(once, twice))
        return found


def _printed_otherwise(changes: Diff) -> list[str]:
    return [one.text() for one in changes.changes if one.action == "changed" and printable(one.kind, one.attribute)]


def test_every_text_is_recognised_after_one_and_after_two_restores(
    root: Path, server: corpora.Server, notes: list[str]
) -> None:
    scripts = dict.fromkeys(path.read_text(encoding="utf-8") for path in schemas(root))
    with ThreadPoolExecutor(agreement.WORKERS) as pool:
        results = list(pool.map(partial(restored_twice, server), scripts))
    seen: Counter[tuple[str, str]] = sum((one.seen for one in results), Counter())
    otherwise: Counter[tuple[str, str]] = sum((one.otherwise for one in results), Counter())
    notes.append(f"texts restored once and twice: {seen.total()}, printed otherwise: {otherwise.total()}")
    notes.extend(f"  {' '.join(place)}: {seen[place]}, otherwise {otherwise[place]}" for place in sorted(seen))
    assert seen
    assert not [one.wrong for one in results if one.wrong]


@pytest.mark.parametrize("name", ["pagila-schema", "chinook", "danbooru-structure"])
def test_a_restored_copy_has_the_same_schema(root: Path, server: corpora.Server, name: str) -> None:
    script = (root / "schemas" / f"{name}.sql").read_text(encoding="utf-8")
    with server.database() as original, server.database() as copy:
        # what a schema refers to and this server lacks is left out of it
        server.psql(original, script, stop=False)
        restored(server, original, copy)
        before, after = normalise(server.snapshot(original)), normalise(server.snapshot(copy))
        with server.client(copy).session("corpora") as session:
            words = equal_texts(before, after, Reprinter(session, inside=False))
    assert len(before) > 100
    assert diff(before, after, words).text() == "no difference"
