# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the structural diff's judgement with what authors and another engine say of the same changes.

The authors' label comes from the text of their migration (``additive``, ``changing``, ``destructive``, ``empty``,
``unparsed``), the other engine's from a diff of its own (``noop``, ``additive``, ``changes``, ``removes``).
"""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Change, Diff, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity_classes import Severity
from ansible_collections.incomex.phasegate.tests.corpora.corpora import Loader, LoadError, Server, manifest
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

WORKERS = 2
_EXTENSION = re.compile(r'^CREATE EXTENSION (?:IF NOT EXISTS )?"?([\w-]+)', re.MULTILINE)
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
    # a comment that goes is cosmetic
    gone = {kind for kind in result.about.get("structural", {}).get("rem") or () if kind != "comment"}
    if gone and result.ours in (EMPTY, ADDITIVE):
        result.wrong.append(f"a removal is missed: {sorted(gone)}")


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
                    result.wrong.append(
                        f"the author's migration {'reaches' if reached else 'does not reach'} the new schema"
                    )
        except LoadError as error:
            result.not_loaded = str(error)
        return result

    with loader:
        return _all(one, entries)


def history(root: Path, server: Server) -> list[Result]:
    """Judge consecutive dumps of one project; what a dump refers to and this server lacks is left out of it."""
    entries = manifest(root, "history/manifest.json")
    available = set(server.psql("postgres", "SELECT name FROM pg_available_extensions").split())
    loader = Loader(server)

    def one(entry: dict[str, Any]) -> Result:
        result = Result(
            entry["corpus"],
            entry["case"],
            author=_AUTHORS.get(entry["rails_label"], ""),
            engine=_ENGINE.get(entry["structural"]["cls"], ""),
            about=entry,
        )
        texts = [(root / entry[name]).read_text(encoding="utf-8") for name in ("old", "new")]
        if any(set(_EXTENSION.findall(text)) - available for text in texts):
            # without its extensions a dump is another schema than the one the engine saw
            result.engine, result.about = "", {}
        old, new = (loader.snapshot(text, stop=False) for text in texts)
        _judge(result, old, new)
        return result

    with loader:
        return _all(one, entries)


def chains(root: Path, server: Server) -> list[Result]:
    """Apply the migrations of each chain one by one: up, down where there is one, up again."""
    found: list[Result] = []
    entries = manifest(root, "chains/manifest.json")
    server.roles(sorted(CHAIN_ROLES))
    for chain in sorted({entry["chain"] for entry in entries}):
        with server.database() as database:
            server.psql(database, CHAIN_SETUP)
            state = server.snapshot(database)
            for entry in (entry for entry in entries if entry["chain"] == chain):
                result, state = _migrate(root, server, database, entry, state)
                found.append(result)
    return found


# What the projects' own set-up makes before the first migration.
CHAIN_ROLES = ("anon", "authenticated", "service_role", "supabase_admin", "supabase_auth_admin", "dashboard_user")
CHAIN_SETUP = "CREATE SCHEMA IF NOT EXISTS auth;"


def _migrate(
    root: Path, server: Server, database: str, entry: dict[str, Any], before: Snapshot
) -> tuple[Result, Snapshot]:
    result = Result(
        entry["chain"],
        entry["m"],
        author=_AUTHORS.get(entry.get("text_label", ""), ""),
        engine=_ENGINE.get(entry.get("cls", ""), ""),
        about={**entry, "structural": {"rem": entry.get("rem")}},
    )
    directory = root / entry["dir"]
    alone = not (directory / "meta.json").read_text(encoding="utf-8").count('"no_txn": true')

    def run(name: str) -> Snapshot:
        script = (directory / f"{name}.sql").read_text(encoding="utf-8")
        server.psql(database, f"BEGIN;\n{script}\n;COMMIT;" if alone else script)
        return server.snapshot(database)

    try:
        after = run("up")
    except LoadError as error:
        result.not_loaded = str(error)
        return result, server.snapshot(database)
    _judge(result, before, after)
    if "down_restores" not in entry:
        return result, after
    try:
        restored = run("down").fingerprint == before.fingerprint
    except LoadError as error:
        result.wrong.append(f"the down migration does not run here: {error}")
        return result, server.snapshot(database)
    if restored is not entry["down_restores"]:
        result.wrong.append(f"the down migration {'restores' if restored else 'does not restore'} the schema")
    try:
        again = run("up")
    except LoadError as error:
        if entry.get("reup_ok"):
            result.wrong.append(f"the migration does not run again here: {error}")
        return result, server.snapshot(database)
    if entry.get("reup_same") is not None and (again.fingerprint == after.fingerprint) is not entry["reup_same"]:
        result.wrong.append("applied again, the migration gives another schema")
    return result, again


def pg_dump_statements(root: Path) -> dict[str, bool]:
    """Run pg_dump's own test statements one after the other; return those it shows, by name, and whether we see them.

    They make roles and databases, so they get a cluster of their own.
    """
    results = {result["name"]: result for result in manifest(root, "pg_dump_tap/results.json")}
    seen: dict[str, bool] = {}
    with running_cluster() as cluster:
        server = Server(str(bin_directory()), str(cluster.socket_directory), cluster.port, SUPERUSER)
        with server.database() as database:
            before = server.snapshot(database)
            methods = server.psql(database, "SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
            has_lz4 = "lz4" in methods
            for entry in manifest(root, "pg_dump_tap/statements.json"):
                result = results.get(entry["name"], {"ok": False, "dump": [0, 0]})
                if entry["db"] != "postgres" or not result["ok"]:
                    continue
                statement = f"{entry['sql'].strip().rstrip(';')};"
                server.psql(database, statement if has_lz4 else statement.replace("lz4", "pglz"))
                after = server.snapshot(database)
                if result["dump"] != [0, 0]:
                    seen[entry["name"]] = after.fingerprint != before.fingerprint and bool(diff(before, after))
                before = after
    return seen


def _all(one: Callable[[dict[str, Any]], Result], entries: Iterable[dict[str, Any]]) -> list[Result]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, entries))


def explain(result: Result, theirs: str) -> str:
    """Return why our class is another than ``theirs``, '' when it is not known.

    A graver class of ours explains itself by its rule. A milder one has to be a known way of speaking of the other's.
    """
    changes = result.changes.changes if result.changes else ()
    if not changes:
        return "the two schemas are equal"
    if result.engine == result.ours:
        return "the author's label goes by the statements, the engine sees what we see"
    gravest = max(changes, key=lambda change: change.severity.rank)
    if _RANK.index(result.ours) > _RANK.index(theirs):
        return f"{gravest.severity.value}: {gravest.kind} {gravest.attribute or gravest.action}"
    return _why_milder(result, changes, gravest.severity, theirs)


def _why_milder(result: Result, changes: Sequence[Change], gravest: Severity, theirs: str) -> str:
    if any(change.severity is Severity.COSMETIC for change in changes) and gravest in _HARMLESS:
        return "comments, statistics targets and clustering are cosmetic"
    kinds = {*result.about.get("up_kinds", ()), *result.about.get("text_kinds", ())}
    if gravest in _HARMLESS and not any("Drop" in kind for kind in kinds):
        return "the statement could change or revoke, but what it names is new"
    if theirs == DESTRUCTIVE and gravest not in _HARMLESS:
        return "dropped and made again under its name: changed, not gone"
    return ""


_RANK = (EMPTY, ADDITIVE, CHANGING, DESTRUCTIVE)
_HARMLESS = (Severity.ADDITIVE, Severity.COSMETIC)


def disagreements(results: Iterable[Result]) -> Iterator[tuple[Result, str, str, str]]:
    """Yield result, whose class it is, that class and the explanation, for each class that is not ours."""
    for result in results:
        if not result.not_loaded:
            for whose, theirs in (("author", result.author), ("engine", result.engine)):
                if theirs and theirs != result.ours:
                    yield result, whose, theirs, explain(result, theirs)


def table(results: Iterable[Result]) -> str:
    """Return the agreement per corpus, for people."""
    rows: list[tuple[str, ...]] = [("corpus", "pairs", "loaded", "wrong", "author agrees", "author differs", "engine agrees", "engine differs",
             "unexplained")]  # fmt: skip
    by_corpus: dict[str, list[Result]] = {}
    for result in results:
        by_corpus.setdefault(result.corpus, []).append(result)
    for corpus, of_corpus in sorted(by_corpus.items()):
        loaded = [result for result in of_corpus if not result.not_loaded]
        author = Counter(result.ours == result.author for result in loaded if result.author)
        engine = Counter(result.ours == result.engine for result in loaded if result.engine)
        counts = (len(of_corpus), len(loaded), sum(bool(result.wrong) for result in loaded),
                  author[True], author[False], engine[True], engine[False],
                  sum(not why for _result, _whose, _theirs, why in disagreements(loaded)))  # fmt: skip
        rows.append((corpus, *map(str, counts)))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def explanations(results: Iterable[Result]) -> str:
    """Return how often which explanation is given for which disagreement, for people."""
    counted = Counter(
        (whose, theirs, result.ours, why or "NOT EXPLAINED") for result, whose, theirs, why in disagreements(results)
    )
    return "\n".join(
        f"{number:5} {whose} says {theirs}, we say {ours}: {why}"
        for (whose, theirs, ours, why), number in sorted(counted.items(), key=lambda item: (*item[0][:3], -item[1]))
    )
