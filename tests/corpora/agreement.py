# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the structural diff's judgement with what authors and another engine say of the same changes.

The authors' label comes from the text of their migration (``additive``, ``changing``, ``destructive``, ``empty``,
``unparsed``), the other engine's from a diff of its own (``noop``, ``additive``, ``changes``, ``removes``).
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.plugins.module_utils._diff import Diff, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._severity import Severity
from ansible_collections.incomex.phasegate.tests.corpora.corpora import Loader, LoadError, Server, manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._snapshot import Snapshot

WORKERS = 2
EMPTY, ADDITIVE, CHANGING, DESTRUCTIVE = "empty", "additive", "changing", "destructive"
_AUTHORS = {"empty": EMPTY, "additive": ADDITIVE, "changing": CHANGING, "change": CHANGING, "destructive": DESTRUCTIVE}
_ENGINE = {"noop": EMPTY, "additive": ADDITIVE, "changes": CHANGING, "removes": DESTRUCTIVE}
_OURS = {
    Severity.ADDITIVE: ADDITIVE,
    Severity.COSMETIC: ADDITIVE,
    Severity.WIDENING: CHANGING,
    Severity.CHANGING: CHANGING,
    Severity.NARROWING: CHANGING,
    Severity.DESTRUCTIVE: DESTRUCTIVE,
}


def our_class(changes: Diff) -> str:
    """Return a diff's class in the four words of the corpora."""
    return EMPTY if changes.severity is None else _OURS[changes.severity]


@dataclass
class Result:
    """One pair: the three classes ('' where a party says nothing), and what is plainly wrong."""

    corpus: str
    case: str
    ours: str = ""
    author: str = ""
    engine: str = ""
    not_loaded: str = ""
    wrong: list[str] = field(default_factory=list)
    changes: Diff | None = None
    about: dict[str, Any] = field(default_factory=dict)


def _judge(result: Result, old: Snapshot, new: Snapshot) -> None:
    changes = diff(old, new)
    result.changes = changes
    result.ours = our_class(changes)
    if diff(old, old) or diff(new, new):
        result.wrong.append("the diff of a snapshot with itself is not empty")
    if bool(changes) is (old.fingerprint == new.fingerprint):
        result.wrong.append("the diff and the fingerprints disagree about equality")
    if bool(diff(new, old)) is not bool(changes):
        result.wrong.append("the diff has a direction in which it is empty")
    gone = result.about.get("structural", {}).get("rem") or {}
    if gone and result.ours in (EMPTY, ADDITIVE):
        result.wrong.append(f"a removal is missed: {gone}")


def pairs(root: Path, server: Server, only: Callable[[dict[str, Any]], bool] = lambda _entry: True) -> list[Result]:
    """Judge all pairs of old and new schema that load."""
    entries = [entry for entry in manifest(root, "pairs/manifest.json") if only(entry)]
    server.roles(sorted({role for entry in entries for role in entry.get("setup_roles", ())}))
    loader = Loader(server)

    def one(entry: dict[str, Any]) -> Result:
        result = Result(
            entry["corpus"],
            entry["case"],
            author=_AUTHORS.get(entry.get("up_label", ""), ""),
            engine=_ENGINE.get(entry.get("structural", {}).get("cls", ""), ""),
            about=entry,
        )
        setup = ["DROP EXTENSION plpgsql"] if entry.get("setup_drop_plpgsql") else []
        texts = {name: (root / entry["dir"] / f"{name}.sql").read_text(encoding="utf-8") for name in ("old", "new")}
        try:
            old, new = (loader.snapshot(*setup, texts[name]) for name in ("old", "new"))
            _judge(result, old, new)
            if entry.get("up_equals_new") is not None:
                up = (root / entry["dir"] / "expected_up.sql").read_text(encoding="utf-8")
                reached = loader.snapshot(*setup, texts["old"], up).fingerprint == new.fingerprint
                result.about["reached"] = reached
                if reached is not entry["up_equals_new"]:
                    result.wrong.append(f"the author's migration {'reaches' if reached else 'does not reach'} the new schema")
        except LoadError as error:
            result.not_loaded = str(error)
        return result

    with loader:
        return _all(one, entries)


def history(root: Path, server: Server) -> list[Result]:
    """Judge consecutive dumps of one project; what a dump refers to and this server lacks is left out of it."""
    entries = manifest(root, "history/manifest.json")
    loader = Loader(server)

    def one(entry: dict[str, Any]) -> Result:
        result = Result(
            entry["corpus"],
            entry["case"],
            author=_AUTHORS.get(entry["rails_label"], ""),
            engine=_ENGINE.get(entry["structural"]["cls"], ""),
            about=entry,
        )
        old, new = (
            loader.snapshot((root / entry[name]).read_text(encoding="utf-8"), stop=False) for name in ("old", "new")
        )
        _judge(result, old, new)
        return result

    with loader:
        return _all(one, entries)


def _all(one: Callable[[dict[str, Any]], Result], entries: Iterable[dict[str, Any]]) -> list[Result]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, entries))


def table(results: Iterable[Result]) -> str:
    """Return the agreement per corpus, for people."""
    rows = [("corpus", "pairs", "loaded", "wrong", "author agrees", "author differs", "engine agrees", "engine differs")]
    by_corpus: dict[str, list[Result]] = {}
    for result in results:
        by_corpus.setdefault(result.corpus, []).append(result)
    for corpus, of_corpus in sorted(by_corpus.items()):
        loaded = [result for result in of_corpus if not result.not_loaded]
        author = Counter(result.ours == result.author for result in loaded if result.author)
        engine = Counter(result.ours == result.engine for result in loaded if result.engine)
        counts = (len(of_corpus), len(loaded), sum(bool(result.wrong) for result in loaded),
                  author[True], author[False], engine[True], engine[False])  # fmt: skip
        rows.append((corpus, *map(str, counts)))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
