# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command-review package of a plan: what people read before they sign. Pure; controller only; private."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils import _gates, _kinds
from ansible_collections.incomex.phasegate.plugins.module_utils._approvals import (
    NOTES_NAMESPACE,
    PLAN_NAMESPACE,
    notes_header,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks import text
from ansible_collections.incomex.phasegate.plugins.module_utils._document import (
    Badge,
    Block,
    Bullets,
    Card,
    Code,
    Document,
    Facts,
    Heading,
    Inline,
    Listing,
    Notice,
    Paragraph,
    Table,
    hidden,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._lint import Finding

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
# What a statement that only reads takes, the checks' own statements too.
_READING = _RANK["RowShareLock"]
# From here on an application's writes wait.
_BLOCKING = _RANK["ShareLock"]

_ROW_TAGS = ("INSERT", "UPDATE", "DELETE", "MERGE", "COPY")
_HARMLESS = ("additive", "cosmetic")
_BUILTINS = {
    "target_identity": "The server is asked who it is, and compared with what the inventory declares.",
    "ddl_checksum": "The bytes about to run are hashed, and compared with the plan.",
    "schema_diff": "Two schema-only dumps, from before and after, are compared line by line.",
}
_POLICIES = {
    "additions_only": "objects may be added; nothing may be removed or changed",
    "exact": "exactly what the rehearsal produced",
    "unchanged": "nothing may be added, removed or changed",
}


@dataclass(frozen=True)
class Subject:
    """What is reviewed. ``path`` is where plan.json stands, as a reviewer types it.

    ``findings`` are the linter's, None when there is no linter; ``linter`` is its name and version.
    """

    plan: Mapping[str, Any]
    sha256: str
    ddl: bytes
    rollback: bytes
    path: str
    findings: Optional[Sequence[Finding]]
    linter: str

    @property
    def phase(self) -> Mapping[str, Any]:
        """Return phase.yml as the plan has it."""
        phase: Mapping[str, Any] = self.plan["phase"]
        return phase

    @property
    def rehearsal(self) -> Mapping[str, Any]:
        """Return what the rehearsal proved and measured."""
        rehearsal: Mapping[str, Any] = self.plan["rehearsal"]
        return rehearsal


def review(subject: Subject) -> Document:
    """Return the review package of a plan."""
    plan, phase, target = subject.plan, subject.phase, subject.plan["target"]
    blocks: List[Block] = [
        Facts(
            (
                ("Target", f"{target['environment']}: {_place(target)}"),
                ("Cluster", Code(target["system_identifier"])),
                ("Server", f"PostgreSQL {target['server_version']}"),
                ("Role", Code(target["user"])),
                ("Author", plan["author"]),
                ("Rehearsed", _minute(plan["created_at"])),
                ("May run until", _minute(plan["not_after"])),
                ("Rehearsal", Code(subject.rehearsal["bundle"])),
            )
        ),
        _attention(subject),
        *_what_runs(subject),
        *_what_changes(subject),
        *_what_is_checked(subject),
        *_what_was_measured(subject),
        *_way_back(subject),
        *_out_of_scope(subject),
        *_commands(subject),
        *_origins(subject),
    ]
    after = _after_commit(plan["ddl"])
    lead = (
        f"Phase {phase['phase']}, revision {phase['revision']}: {_number(_sent(plan['ddl']), 'statement')} in one transaction"
        + (f", {_number(after, 'statement')} after it," if after else "")
        + f" on {target['inventory_name']}, rehearsed on a copy. Reviewers approve it by signing exactly these bytes."
    )
    return Document("Command review", phase["title"], lead, subject.sha256, blocks)


def _place(target: Mapping[str, Any]) -> str:
    container = f", container {target['container']}" if target["container"] else ""
    return f"{target['inventory_name']}{container}, database {target['database']}"


def _minute(moment: str) -> str:
    return f"{moment[:10]} {moment[11:16]} UTC"


def _number(items: Iterable[Any], noun: str) -> str:
    count = len(list(items))
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


_MILLISECOND, _SECOND = 1_000, 1_000_000
# A mode of a later PostgreSQL ranks above all that are known.
_UNKNOWN = len(_RANK)


def _time(microseconds: int) -> str:
    if microseconds < _MILLISECOND:
        return f"{microseconds} µs"
    if microseconds < _SECOND:
        return f"{microseconds / _MILLISECOND:.1f} ms"
    return f"{microseconds / _SECOND:.1f} s"


def _size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


def _mode(mode: str) -> str:
    """Return a lock mode as SQL writes it: ACCESS EXCLUSIVE."""
    words = mode[:-4] if mode.endswith("Lock") else mode
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words).upper()


def _sent(part: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    return [statement for statement in part["statements"] if statement["run"] and not statement["after_commit"]]


def _after_commit(part: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    return [statement for statement in part["statements"] if statement["after_commit"]]


def _bare(relation: str) -> str:
    return relation.replace('"', "")


def _new_relations(subject: Subject) -> Set[str]:
    """Return the relations that the migration itself makes: nobody can wait for a lock on them."""
    names = set()
    for change in subject.rehearsal["changes"]:
        if change.get("action") == "added" and change.get("attribute") is None:
            identity = change.get("identity") or [change["name"]]
            parts = [part.partition(" ")[2] for part in change.get("parts") or () if part.startswith("index ")]
            names |= {_bare(change["name"]), *(f"{identity[0]}.{name}" for name in (identity[-1], *parts))}
    return names


def _locks(subject: Subject) -> List[Tuple[Mapping[str, Any], bool]]:
    """Return the locks, strongest and longest first, each with whether its relation is new."""
    new = _new_relations(subject)
    locks = [(lock, _bare(lock["relation"]) in new) for lock in subject.rehearsal["locks"]]
    return sorted(locks, key=lambda one: (one[1], -_RANK.get(one[0]["mode"], _UNKNOWN), -one[0]["held_microseconds"]))


# --- what to look at first -------------------------------------------------------------------------------------


def _attention(subject: Subject) -> Notice:
    """Return what a reviewer should weigh, gathered from all the sections."""
    items: List[Tuple[Inline, ...]] = []
    seen = set()
    for lock, new in _locks(subject):
        if not new and _RANK.get(lock["mode"], _UNKNOWN) >= _BLOCKING and lock["relation"] not in seen:
            seen.add(lock["relation"])
            waits = _makes_wait(lock, new=False)
            held = _time(lock["held_microseconds"])
            items.append(
                (
                    Code(lock["relation"]),
                    f": {waits} wait for {held} ({_mode(lock['mode'])}, from statement {lock['statement']} to COMMIT).",
                )
            )
    items += [(Code(relation), ": the whole relation is rewritten.") for relation in subject.rehearsal["rewrites"]]
    for change in subject.rehearsal["changes"]:
        if change.get("severity") not in _HARMLESS:
            items.append(
                (
                    Code(change["name"]),
                    f": {change.get('severity')}, {change.get('action')} {change['kind'].replace('_', ' ')}.",
                )
            )
    items += [
        (f"Statement {one['n']}, {one['kinds'][0]}: it runs after COMMIT, and nothing rolls it back.",)
        for one in _after_commit(subject.plan["ddl"])
    ]
    for statement in subject.rehearsal["statements"]:
        if statement["tag"] in _ROW_TAGS and statement["rows"]:
            items.append(
                (f"Statement {statement['n']}, {statement['tag']}: {_rows(statement['rows'])} of data changed.",)
            )
    items += [
        ("The rollback does not bring back: ", sentence) for sentence in subject.phase["rollback"]["cannot_restore"]
    ]
    items += _doubts(subject)
    if not items:
        return Notice(
            "good",
            "Nothing stands out",
            (("No blocking lock, no rewrite, no finding, and the rollback brings everything back.",),),
        )
    return Notice("watch", "Weigh these first", tuple(items))


def _doubts(subject: Subject) -> List[Tuple[Inline, ...]]:
    """Return what makes the package itself less than complete."""
    items: List[Tuple[Inline, ...]] = []
    if subject.findings is None:
        items.append(("The DDL was not linted: Squawk is not installed where this package was made.",))
    elif subject.findings:
        items.append((f"Squawk has {_number(subject.findings, 'finding')}; each stands with its statement.",))
    for name, data in (
        (subject.plan["ddl"]["file"], subject.ddl),
        (subject.plan["rollback"]["file"], subject.rollback),
    ):
        count = hidden(data.decode("utf-8"))
        if count:
            items.append(
                (
                    Code(name),
                    f" has {_number(range(count), 'character')} that cannot be seen; they are shown by their code point.",
                )
            )
    here, there = subject.plan["target"]["server_version"], subject.rehearsal["server"]["server_version"]
    if here.split(" ")[0] != there.split(" ")[0]:
        items.append((f"Rehearsed on PostgreSQL {there}, the target has {here}.",))
    return items


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


# --- what will run ---------------------------------------------------------------------------------------------


def _what_runs(subject: Subject) -> List[Block]:
    settings = subject.phase["settings"]
    sent = {
        "lock_timeout": settings["lock_timeout"],
        "statement_timeout": settings["statement_timeout"],
        "idle_in_transaction_session_timeout": settings["idle_in_transaction_session_timeout"],
        "search_path": ", ".join(settings["search_path"]) or "empty",
        "TimeZone": "UTC",
    }
    after = _after_commit(subject.plan["ddl"])
    return [
        Heading(2, "What will run"),
        Paragraph(
            (
                "The bytes of ",
                Code(subject.plan["ddl"]["file"]),
                ", statement by statement, in one transaction. Locks, times and rows are those of the rehearsal; every lock is "
                "held until COMMIT.",
                f" After COMMIT comes what refuses a transaction, {_number(after, 'statement')}: each runs by itself, for at most "
                f"{settings['after_commit_timeout']}, and its lock is the one that PostgreSQL's manual names."
                if after
                else "",
            )
        ),
        Paragraph(
            ("The session is set to ", Code("; ".join(f"{name} = {value}" for name, value in sent.items())), ".")
        ),
        *(_statement(subject, statement) for statement in subject.plan["ddl"]["statements"]),
    ]


def _statement(subject: Subject, statement: Mapping[str, Any]) -> Card:
    """Return one statement of the DDL with what is known about it."""
    measured = next((one for one in subject.rehearsal["statements"] if one["n"] == statement["n"]), None)
    locks = [
        (lock, new)
        for lock, new in _locks(subject)
        if lock["statement"] == statement["n"] and _RANK.get(lock["mode"], _UNKNOWN) > _READING
    ]
    findings = _findings_of(subject, statement)
    blocks: List[Block] = [Listing(subject.ddl[statement["start"] : statement["end"]].decode("utf-8"), "sql")]
    existing = [lock for lock, new in locks if not new]
    if existing:
        rows = tuple(
            (
                Code(lock["relation"]),
                _mode(lock["mode"]),
                _makes_wait(lock, new=False),
                _time(lock["held_microseconds"]),
            )
            for lock in existing
        )
        blocks.append(Table(("Locks", "Mode", "Makes wait", "Held"), rows, (3,)))
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
        if statement["tag"] in _ROW_TAGS and measured["rows"] is not None:
            badges.append(Badge(_rows(measured["rows"]), "watch" if measured["rows"] else "plain"))
        badges.append(Badge(_time(measured["microseconds"])))
    if statement["after_commit"]:
        return [*badges, *_after_commit_badges(statement)]
    existing = [lock for lock, new in locks if not new]
    if existing:
        badges.append(_lock_badge(existing[0]["mode"]))
    else:
        badges.append(Badge("no lock on what exists" if locks else "no new lock"))
    rewritten = {_bare(name) for name in subject.rehearsal["rewrites"]}
    if statement["tag"].startswith(("ALTER", "REFRESH", "CLUSTER", "TRUNCATE", "VACUUM")):
        touched = rewritten & {_bare(name) for name in statement["relations"]}
        badges.append(Badge("rewrites", "bad") if touched else Badge("no rewrite", "good"))
    return badges


def _after_commit_badges(statement: Mapping[str, Any]) -> List[Badge]:
    if not statement["after_commit"]:
        return []
    return [Badge("after COMMIT, by itself", "watch"), _lock_badge(_kinds.AFTER_COMMIT[statement["kinds"][0]])]


def _lock_badge(mode: str) -> Badge:
    return Badge(_mode(mode), "watch" if _RANK.get(mode, _UNKNOWN) >= _BLOCKING else "plain")


def _findings_of(subject: Subject, statement: Mapping[str, Any]) -> List[Finding]:
    """Return the findings on lines that begin within the statement."""
    lines = subject.ddl.splitlines(keepends=True)

    def begins(number: int) -> int:
        before = sum(map(len, lines[: number - 1]))
        line = b"".join(lines[number - 1 : number])
        return before + len(line) - len(line.lstrip())

    return [f for f in subject.findings or () if statement["start"] <= begins(f.line) < statement["end"]]


def _lint_badge(findings: Sequence[Finding]) -> List[Badge]:
    return [Badge(_number(findings, "lint finding"), "watch")] if findings else []


# --- what it changes, and what is checked ----------------------------------------------------------------------


def _what_changes(subject: Subject) -> List[Block]:
    rows = [
        (
            change.get("action", ""),
            change["kind"].replace("_", " "),
            Code(change["name"] + (f" ({change['attribute'].replace('_', ' ')})" if change.get("attribute") else "")),
            _difference(change),
            f"{change.get('severity', '')}{', rewrites' if change.get('rewrites') else ''}",
        )
        for change in subject.rehearsal["changes"]
    ]
    blocks: List[Block] = [Heading(2, "What it changes")]
    if not rows:
        return [*blocks, Paragraph(("The schema stays as it is.",))]
    return [
        *blocks,
        Paragraph(("The structural difference that the rehearsal found, every object kind, columns included.",)),
        Table(("Action", "Kind", "Name", "Is", "Class"), tuple(rows)),
    ]


def _difference(change: Mapping[str, Any]) -> str:
    before, after = change.get("before"), change.get("after")
    shown = f"{before} → {after}" if before is not None and after is not None else str(after or before or "")
    parts = change.get("parts") or []
    return shown + (f"; with {', '.join(parts)}" if parts else "")


def _what_is_checked(subject: Subject) -> List[Block]:
    phase = subject.phase
    inside: List[Tuple[Inline, ...]] = [
        (f"{tag}: the server reports {', '.join(map(_count, counts))}.",)
        for tag, counts in phase["expect"]["rows"].items()
    ]
    if "result" in phase["expect"]:
        inside.append(("The trailing SELECT gives ", Code(_result(phase["expect"]["result"])), "."))
    policy = phase["diff"]["policy"]
    allowed = [", ".join(f"{k} {v}" for k, v in one.items()) for one in phase["diff"]["allow"]]
    inside.append(
        (
            f"The structural diff: {_POLICIES.get(policy, policy)}{'; besides: ' + '; '.join(allowed) if allowed else ''}.",
        )
    )
    inside.append(
        (f"The {_number(phase['verify'], 'verification check')} below, as far as one can see them before COMMIT.",)
    )
    after = [*(f"rows of {c['relation']}: {c['change']:+d}" for c in phase["row_counts"] if c["change"])]
    unchanged = [c["relation"] for c in phase["row_counts"] if not c["change"]]
    after += [f"rows unchanged: {', '.join(unchanged)}"] if unchanged else []
    after += [
        f"{m['relation']}.{m['column']}: " + (", ".join(f"{k.replace('_', ' ')} {v}" for k, v in m["expect"].items()) or "measured")
        + (f" ({m['note']})" if m.get("note") else "")
        for m in phase["measure"]
    ]  # fmt: skip
    return [
        Heading(2, "What is checked"),
        Heading(3, "Before: preflight"),
        Paragraph(("All of these pass, or nothing runs.",)),
        *(_check(check) for check in phase["preflight"]),
        Heading(3, "Inside the transaction, before COMMIT"),
        Paragraph(("Any miss rolls the transaction back; nothing has changed then.",)),
        Bullets(tuple(inside)),
        Heading(3, "After: verification"),
        Paragraph(("A miss stops the run, keeps everything, and rolls nothing back by itself.",)),
        *(_check(check) for check in phase["verify"]),
        *_bullets("", after),
        Heading(3, "Gates"),
        Paragraph(("The module that migrates judges each of these itself, right before the first statement.",)),
        Table(("Gate", "Holds when"), tuple((gate, title) for gate, title in _gates.TITLES.items())),
    ]


def _result(value: Any) -> str:
    return ", ".join(f"{name} {text(one)}" for name, one in value.items()) if isinstance(value, dict) else text(value)


def _count(value: Any) -> str:
    if isinstance(value, dict):
        return " and ".join(
            f"{'at least' if key == 'min' else 'at most'} {_rows(n)}" for key, n in sorted(value.items(), reverse=True)
        )
    return _rows(value)


def _check(check: Mapping[str, Any]) -> Card:
    blocks: List[Block] = []
    if check.get("builtin"):
        blocks.append(Paragraph((_BUILTINS.get(check["builtin"], check["builtin"]),)))
    else:
        blocks.append(Listing(check["sql"], "sql"))
    if "expect" in check:
        blocks.append(Paragraph(("Expected: ", Code(text(check["expect"])))))
    badges = (Badge("after COMMIT only", "watch"),) if check.get("after_commit") else ()
    return Card(f"{check['id']} · {check['title']}", badges, tuple(blocks), folded=True)


# --- what was measured -----------------------------------------------------------------------------------------


def _what_was_measured(subject: Subject) -> List[Block]:
    rehearsal = subject.rehearsal
    cluster, server, backup = rehearsal["cluster"], rehearsal["server"], rehearsal["backup"]
    total = sum(one["microseconds"] for one in rehearsal["statements"])
    extensions = ", ".join(f"{name} {version}" for name, version in server["extensions"]) or "none"
    rewrites = ", ".join(rehearsal["rewrites"]) or "none"
    return [
        Heading(2, "What the rehearsal measured"),
        Paragraph(
            (
                "The backup of the target was restored into another cluster. There the phase was migrated, verified, rolled back, "
                "compared with the base, and migrated and verified again.",
            )
        ),
        Facts(
            (
                ("Where", f"{cluster['place']}, PostgreSQL {cluster['server_version']}"),
                ("Cluster", Code(cluster["system_identifier"])),
                ("Statements took", _time(total)),
                ("Write-ahead log", _size(rehearsal["wal_bytes"])),
                ("Rewritten", rewrites),
                ("Rollback", "rehearsed; the schema was the base's again"),
                ("TimeZone, encoding", f"{server['timezone']}, {server['encoding']}"),
                ("Collation", f"{server['collation']['collate']}, {server['collation']['ctype']}"),
                ("Extensions", extensions),
                ("Settings", ", ".join(f"{name} {value!r}" for name, value in server["settings"].items())),
            )
        ),
        Heading(3, "Locks"),
        *_lock_table(subject),
        Heading(3, "Statements"),
        Table(
            ("No", "Statement", "Line", "Rows", "Time"),
            tuple(
                (
                    str(one["n"]),
                    one["tag"],
                    str(one["line"]),
                    str(one["rows"]) if one["tag"] in _ROW_TAGS and one["rows"] is not None else "",
                    _time(one["microseconds"]),
                )
                for one in rehearsal["statements"]
            ),
            (2, 3, 4),
        ),
        Heading(3, "Backup that was restored"),
        Facts(tuple((key.replace("_", " "), Code(text(value))) for key, value in backup.items())),
    ]


def _makes_wait(lock: Mapping[str, Any], *, new: bool) -> str:
    return "nobody: it is new" if new else LOCKS.get(lock["mode"], "unknown")


def _lock_table(subject: Subject) -> List[Block]:
    locks = _locks(subject)
    rows = tuple(
        (
            Code(lock["relation"]),
            _mode(lock["mode"]),
            _makes_wait(lock, new=new),
            str(lock["statement"]),
            _time(lock["held_microseconds"]),
        )
        for lock, new in locks
        if _RANK.get(lock["mode"], _UNKNOWN) > _READING
    )
    reading = len(locks) - len(rows)
    besides = f" {_number(range(reading), 'lock')} of the kind that readers take are left out." if reading else ""
    if not rows:
        return [Paragraph((f"None that keeps anybody waiting.{besides}",))]
    return [
        Paragraph((f"Held from the end of the statement until COMMIT, the checks before COMMIT included.{besides}",)),
        Table(("Relation", "Mode", "Makes wait", "From statement", "Held"), rows, (3, 4)),
    ]


# --- the way back, and the rest --------------------------------------------------------------------------------


def _way_back(subject: Subject) -> List[Block]:
    plan, phase, target = subject.plan, subject.phase, subject.plan["target"]
    execution = f"{phase['phase']}_{target['environment']}_STAMP"
    times = {one["n"]: one for one in subject.rehearsal["rollback"]["statements"]}
    cards = [
        Card(
            f"{s['n']} · {s['tag']}",
            (
                Badge(f"line {s['line']}"),
                *([Badge(_time(times[s["n"]]["microseconds"]))] if s["n"] in times else []),
                *([] if s["run"] else [Badge("not sent: phasegate opens and ends the transaction")]),
                *_after_commit_badges(s),
            ),
            (Listing(subject.rollback[s["start"] : s["end"]].decode("utf-8"), "sql"),),
            folded=not s["run"],
        )
        for s in plan["rollback"]["statements"]
    ]
    inside = ["docker", "exec", "-i", target["container"]] if target["container"] else []
    restored = f"{target['database']}_restored"
    return [
        Heading(2, "How to roll back"),
        Paragraph(
            (
                "Never by itself. The rollback is these rehearsed statements, verbatim; it refuses while it would lose rows that were "
                "written since, and it is over when the schema's fingerprint is the one of before.",
            )
        ),
        *cards,
        *_bullets("What it cannot bring back", phase["rollback"]["cannot_restore"]),
        Heading(3, "Commands"),
        Paragraph(
            (
                "STAMP is the execution's time, ROOT the directory of all runs on the target host. Where reviewers have to approve a "
                "rollback too, it is refused at first, and prints the command that they sign it with.",
            )
        ),
        Listing(
            _command(
                ["ansible-playbook", "incomex.phasegate.rollback", "-l", target["inventory_name"]],
                ["-e", f"phasegate_execution=ROOT/{execution}"],
                ["-e", f"phasegate_confirm={execution}"],
            ),
            "sh",
        ),
        Paragraph(("Old values come back from the execution's backup, restored beside the database, never over it:",)),
        Listing(
            "\n".join(
                [
                    shlex.join([*inside, "createdb", "--username", target["user"], restored]),
                    shlex.join(
                        [*inside, "pg_restore", "--username", target["user"], "--exit-on-error", "--dbname", restored]
                    )
                    + f" < ROOT/{execution}/backup.dump",
                ]
            ),
            "sh",
        ),
    ]


def _bullets(heading: str, sentences: Sequence[str]) -> List[Block]:
    """Return a list under a heading, or nothing when there is nothing to list."""
    blocks: List[Block] = [Heading(3, heading)] if heading else []
    return [*blocks, Bullets(tuple((sentence,) for sentence in sentences))] if sentences else []


def _command(*parts: Sequence[str]) -> str:
    """Return a command with each part on a line of its own."""
    return " \\\n    ".join(shlex.join(part) for part in parts)


def _out_of_scope(subject: Subject) -> List[Block]:
    phase, scope = subject.phase, subject.phase["scope"]
    items = tuple(
        (
            f"{item['title']} ({'not attempted by the run' if item.get('not_attempted') else 'checked'})",
        )
        for item in phase["non_scope"]
    )  # fmt: skip
    blocks: List[Block] = [
        Heading(2, "What is out of scope"),
        Facts(
            (
                ("Schemas that the DDL may name", Code(", ".join(scope["schemas"]))),
                ("Statements that it may have", ", ".join(scope["statements"])),
                (
                    "Functions with effects that it may call",
                    Code(", ".join(scope["functions"])) if scope["functions"] else "none",
                ),
                ("Tables that may be rewritten", Code(", ".join(scope["rewrites"])) if scope["rewrites"] else "none"),
            )
        ),
    ]
    return [*blocks, Paragraph(("And it leaves alone, by its own definition:",)), Bullets(items)] if items else blocks


def _commands(subject: Subject) -> List[Block]:
    target, path = subject.plan["target"], subject.path
    name = path.rpartition("/")[2]
    by_hand = "ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n {} < {} > {}"
    approve = ["ansible-playbook", "incomex.phasegate.approve"]
    notes = shlex.quote(notes_header(subject.sha256).decode("ascii").strip())
    return [
        Heading(2, "How to approve"),
        Paragraph(("First make sure that this page is about the file that you sign:",)),
        Listing(
            f"{shlex.join(['cd', path.rpartition('/')[0] or '.'])}\necho '{subject.sha256}  {name}' | sha256sum --check",
            "sh",
        ),
        Paragraph(("Then sign it under the name by which you are registered, here NAME:",)),
        Listing(by_hand.format(PLAN_NAMESPACE, name, f"{name}.NAME.sig"), "sh"),
        Paragraph(("With notes (PASS_WITH_NOTES), which are signed too:",)),
        Listing(
            "\n".join(
                [
                    f"{{ echo {notes}; echo; cat my-notes.md; }} > {name}.NAME.notes.md",
                    by_hand.format(NOTES_NAMESPACE, f"{name}.NAME.notes.md", f"{name}.NAME.notes.md.sig"),
                    by_hand.format(NOTES_NAMESPACE, name, f"{name}.NAME.sig"),
                ]
            ),
            "sh",
        ),
        Paragraph(("Or let the collection do either:",)),
        Listing(
            _command(
                approve,
                ["-e", f"phasegate_plan={path}"],
                ["-e", "phasegate_reviewer=NAME"],
                ["-e", "phasegate_key=~/.ssh/id_ed25519"],
            ),
            "sh",
        ),
        Paragraph(("To see who has approved:",)),
        Listing(_command(["ansible-playbook", "incomex.phasegate.approvals"], ["-e", f"phasegate_plan={path}"]), "sh"),
        Heading(2, "How to execute"),
        Paragraph(("After approval, once; a second run finds the phase applied and only verifies it.",)),
        Listing(
            _command(
                ["ansible-playbook", "incomex.phasegate.execute", "-l", target["inventory_name"]],
                ["-e", f"phasegate_plan={path}"],
            ),
            "sh",
        ),
    ]


def _origins(subject: Subject) -> List[Block]:
    plan, rehearsal = subject.plan, subject.rehearsal
    digests: List[Tuple[Inline, ...]] = [
        (plan[part]["file"], Code(plan[part]["sha256"])) for part in ("definition", "ddl", "rollback")
    ]
    digests += [
        ("schema before (fingerprint)", Code(rehearsal["base_fingerprint"])),
        ("schema after (fingerprint)", Code(rehearsal["result_fingerprint"])),
        ("seal of the rehearsal", Code(rehearsal["seal"])),
        ("content of the plan", Code(plan["content_sha256"])),
        ("plan.json", Code(subject.sha256)),
    ]
    tools: Dict[str, str] = {**plan["tools"], **({"linter": subject.linter} if subject.linter else {})}
    return [
        Heading(2, "Digests and tools"),
        Table(("What", "SHA-256"), tuple(digests)),
        Facts(tuple((name, version) for name, version in sorted(tools.items()))),
        *_bullets("See also", [f"{one['title']}: {one['ref']}" for one in subject.phase["cross_references"]]),
    ]
