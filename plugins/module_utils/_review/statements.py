# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The section *What will run* of a review package: statements with their locks. Pure; controller only; private."""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Bullets,
    Card,
    Code,
    Heading,
    Inline,
    Listing,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import (
    AFTER_COMMIT_KINDS,
    EITHER_KINDS,
    cluster_wide,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.squawk import LintFinding
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import (
    ROW_TAGS,
    Subject,
    after_commit,
    counted,
    duration,
    row_count,
    unquoted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.accepted_forms import UnsafeForm

# Table-level lock modes, weakest first, and what waits for a holder (PostgreSQL manual, 13.3.1).
LOCKS = {
    "AccessShareLock": "nothing but another ACCESS EXCLUSIVE",
    "RowShareLock": "nothing that an application does",
    "RowExclusiveLock": "index builds and most schema changes",
    "ShareUpdateExclusiveLock": "VACUUM and schema changes",
    "ShareLock": "writes",
    "ShareRowExclusiveLock": "writes",
    "ExclusiveLock": "writes and row locks",
    "AccessExclusiveLock": "reads and writes",
}

_RANK = {mode: rank for rank, mode in enumerate(LOCKS)}

# The strongest lock that a statement takes which only reads; checks take it, too.
READING = _RANK["RowShareLock"]

# The weakest lock that blocks an application's writes.
BLOCKING = _RANK["ShareLock"]


def lock_rank(mode: str) -> int:
    """Return the strength of a lock mode; a mode of a later PostgreSQL is stronger than all known ones."""
    return _RANK.get(mode, len(_RANK))


def lock_mode(mode: str) -> str:
    """Return a lock mode as SQL writes it: ACCESS EXCLUSIVE."""
    words = mode[:-4] if mode.endswith("Lock") else mode
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words).upper()


def blocked(lock: Mapping[str, Any], *, new: bool) -> str:
    """Return what a lock blocks; ``new``: its relation is created by the migration."""
    return "nothing: it is new" if new else LOCKS.get(lock["mode"], "unknown operations")


def _new_relations(subject: Subject) -> Set[str]:
    """Return the relations that the migration itself creates: a lock on them blocks nobody."""
    names = set()
    for change in subject.rehearsal["changes"]:
        if change.get("action") == "added" and change.get("attribute") is None:
            identity = change.get("identity") or [change["name"]]
            parts = [part.partition(" ")[2] for part in change.get("parts") or () if part.startswith("index ")]
            names |= {unquoted(change["name"]), *(f"{identity[0]}.{name}" for name in (identity[-1], *parts))}
    return names


def observed_locks(subject: Subject) -> List[Tuple[Mapping[str, Any], bool]]:
    """Return the locks, strongest and longest first, each with whether its relation is new."""
    new = _new_relations(subject)
    locks = [(lock, unquoted(lock["relation"]) in new) for lock in subject.rehearsal["locks"]]
    return sorted(locks, key=lambda one: (one[1], -lock_rank(one[0]["mode"]), -one[0]["held_microseconds"]))


def what_runs(subject: Subject) -> List[Block]:
    """Return the section *What will run*."""
    settings = subject.phase["settings"]
    sent = {
        "lock_timeout": settings["lock_timeout"],
        "statement_timeout": settings["statement_timeout"],
        "idle_in_transaction_session_timeout": settings["idle_in_transaction_session_timeout"],
        "search_path": ", ".join(settings["search_path"]) or "empty",
        "TimeZone": "UTC",
    }
    after = after_commit(subject.plan["ddl"])
    return [
        Heading(2, "What will run"),
        Paragraph(
            (
                "The bytes of ",
                Code(subject.plan["ddl"]["file"]),
                ", statement by statement, in one transaction. Locks, times and rows are those of the rehearsal; every lock is "
                "held until COMMIT.",
                " A table with a measured column is locked before the first statement, in the strongest mode of its statements: "
                "that lock is listed under the first one."
                if subject.phase["measure"]
                else "",
                f" After COMMIT, outside the transaction: {counted(after, 'statement')}, each for at most "
                f"{settings['after_commit_timeout']}, with the lock that PostgreSQL's manual states."
                if after
                else "",
            )
        ),
        Paragraph(("Session settings: ", Code("; ".join(f"{name} = {value}" for name, value in sent.items())), ".")),
        *(_statement(subject, statement) for statement in subject.plan["ddl"]["statements"]),
    ]


def _statement(subject: Subject, statement: Mapping[str, Any]) -> Card:
    """Return one statement of the DDL with its locks, times, rows and findings."""
    measured = next((one for one in subject.rehearsal["statements"] if one["n"] == statement["n"]), None)
    locks = [
        (lock, new)
        for lock, new in observed_locks(subject)
        if lock["statement"] == statement["n"] and lock_rank(lock["mode"]) > READING
    ]
    findings = _findings_of(subject, statement)
    blocks: List[Block] = [Listing(subject.ddl[statement["start"] : statement["end"]].decode("utf-8"), "sql")]
    if statement.get("batch"):
        blocks += [
            Paragraph(("Each batch runs as its own transaction, from the key of the last one to the next:",)),
            Listing(statement["batch"]["change"], "sql"),
        ]
    existing = [lock for lock, new in locks if not new]
    if existing:
        rows = tuple(
            (
                Code(lock["relation"]),
                lock_mode(lock["mode"]),
                blocked(lock, new=False),
                duration(lock["held_microseconds"]),
            )
            for lock in existing
        )
        blocks.append(Table(("Locks", "Mode", "Blocks", "Held"), rows, (3,)))
    forms = subject.unsafe.get(statement["n"], ())
    if forms:
        blocks.append(Bullets(tuple(tuple(_of_form(form)) for form in forms)))
    if findings:
        blocks.append(
            Bullets(tuple((Code(f.rule), f", line {f.line}: {f.message} {f.help}".rstrip()) for f in findings)),
        )
    badges = [Badge(f"line {statement['line']}")]
    if not statement["run"]:
        badges.append(Badge("not sent: phasegate opens and ends the transaction"))
        return Card(f"{statement['n']} · {statement['tag']}", tuple(badges), tuple(blocks), folded=True)
    return Card(
        f"{statement['n']} · {statement['tag']}",
        (*badges, *_badges(subject, statement, measured, locks), *_lint_badge(findings)),
        tuple(blocks),
    )


def _badges(
    subject: Subject,
    statement: Mapping[str, Any],
    measured: Optional[Mapping[str, Any]],
    locks: Sequence[Tuple[Mapping[str, Any], bool]],
) -> List[Badge]:
    badges = []
    if measured is None:
        badges.append(Badge("not measured", "watch"))
    else:
        if statement["tag"] in ROW_TAGS and measured["rows"] is not None:
            badges.append(Badge(row_count(measured["rows"]), "watch" if measured["rows"] else "plain"))
        badges.append(Badge(duration(measured["microseconds"])))
    if any(cluster_wide(kind) for kind in statement["kinds"]):
        badges.append(Badge("cluster-wide: reaches beyond this database", "bad"))
    if statement["after_commit"]:
        return [*badges, *after_commit_badges(statement)]
    existing = [lock for lock, new in locks if not new]
    if existing:
        badges.append(lock_badge(existing[0]["mode"]))
    else:
        badges.append(Badge("no lock on existing objects" if locks else "no new lock"))
    rewritten = {unquoted(name) for name in subject.rehearsal["rewrites"]}
    if statement["tag"].startswith(("ALTER", "REFRESH", "CLUSTER", "TRUNCATE", "VACUUM")):
        touched = rewritten & {unquoted(name) for name in statement["relations"]}
        badges.append(Badge("rewrites", "bad") if touched else Badge("no rewrite", "good"))
    return badges


def after_commit_badges(statement: Mapping[str, Any]) -> List[Badge]:
    """Return the badges of a statement that runs after COMMIT; none for any other."""
    if not statement["after_commit"]:
        return []
    batch = statement.get("batch")
    return [
        Badge("after COMMIT, outside the transaction", "watch"),
        *([Badge(f"in batches of {batch['rows']} rows by {batch['by']}")] if batch else []),
        lock_badge("RowExclusiveLock" if batch else {**AFTER_COMMIT_KINDS, **EITHER_KINDS}[statement["kinds"][0]]),
    ]


def lock_badge(mode: str) -> Badge:
    """Return the badge of a lock mode."""
    return Badge(lock_mode(mode), "watch" if lock_rank(mode) >= BLOCKING else "plain")


def _findings_of(subject: Subject, statement: Mapping[str, Any]) -> List[LintFinding]:
    """Return the findings on lines that begin within the statement."""
    lines = subject.ddl.splitlines(keepends=True)

    def begins(number: int) -> int:
        before = sum(map(len, lines[: number - 1]))
        line = b"".join(lines[number - 1 : number])
        return before + len(line) - len(line.lstrip())

    return [f for f in subject.findings or () if statement["start"] <= begins(f.line) < statement["end"]]


def unsafe_findings(subject: Subject) -> List[Tuple[Inline, ...]]:
    """Return each form of ``unsafe_forms``, with its reason or that there is none."""
    return [
        (f"Statement {number}, {form.advice.kind}: ", *_of_form(form))
        for number, several in sorted(subject.unsafe.items())
        for form in several
    ]


def _of_form(form: UnsafeForm) -> Iterator[Inline]:
    work = f"it {form.advice.work}" if form.advice.work else "it runs"
    yield f"{work} under {lock_mode(form.advice.lock)}. Safer: {form.advice.safer}. "
    if form.reasons:
        yield "The phase accepts it: " + " ".join(form.reasons)
    else:
        yield "The phase gives no reason for it ("
        yield Code("accept")
        yield ")."


def _lint_badge(findings: Sequence[LintFinding]) -> List[Badge]:
    return [Badge(counted(findings, "lint finding"), "watch")] if findings else []
