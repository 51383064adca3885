# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run's report as a document, from report.json alone. Pure."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import BackupRecord
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import PLAN, TRIED_PLAN
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import qualified
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Board,
    Bullets,
    Card,
    Check,
    Code,
    Document,
    Facts,
    Heading,
    Inline,
    Listing,
    Paragraph,
    Span,
    Table,
    Timeline,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import json_line
from ansible_collections.incomex.phasegate.plugins.module_utils._report.facts import seconds_between
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_changes import object_tree
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_text import (
    headline,
    passed,
    tag_summary,
)

UNKNOWN = "not known"

_TONES = {
    "SUCCESS": "good", "PASS": "good", "OK": "good", "done": "good", "not triggered": "good", "COMMITTED": "good", "valid": "good",
    "FAIL": "bad", "STOP": "bad", "failed": "bad", "TRIGGERED": "bad", "UNKNOWN": "bad", "unfinished": "bad",
    "COMMITTED_INCOMPLETE": "bad", "COMMITTED_NOT_VERIFIED": "bad", "NOT_VERIFIED": "bad", "ROLLBACK_FAILED": "bad",
    "REPEAT_FAILED": "bad", "FAILED": "bad", "NO_RESULT": "bad", "INTERRUPTED": "bad", "UNREADABLE": "bad", "ABORTED": "watch",
    "WARN": "watch", "NOT ENFORCED": "watch", "STOPPED": "watch", "ROLLED_BACK": "watch", "NOT RUN": "watch", "not checked": "watch",
}  # fmt: skip

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3,6}Z", re.ASCII)

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b|(SHA256:[A-Za-z0-9+/]{12})[A-Za-z0-9+/]{31}")


def report_document(report: Mapping[str, Any]) -> Document:
    """Return the document of a report; ``report`` is the content of report.json."""
    blocks = [
        *_front(report),
        *_origin(report),
        *_sources(report),
        *_execution(report),
        *_comparison(report),
        *_posture(report),
    ]
    verdict = outcome_badge(report["outcome"], report["warnings"])
    return Document("", report["title"], report["sentence"], "", blocks, verdict)


def tone_of(status: str) -> str:
    """Return the tone of a status word."""
    return _TONES.get(status, "plain")


def outcome_badge(outcome: str, warnings: Sequence[str]) -> Badge:
    """Return an outcome with what nobody vouched for; with that it is no more than something to look at."""
    tone = tone_of(outcome)
    return Badge(qualified(outcome, warnings), "watch" if tone == "good" and warnings else tone)


def shortened(text: str) -> str:
    """Return a text with every SHA-256 in it cut to its first twelve digits."""
    return _DIGEST.sub(lambda found: f"{found[1] or found[2]}…", text)


def _text(value: Any) -> str:
    return "" if value is None else json_line(value)


def _code(value: Any) -> Code:
    return Code(_text(value))


def _section(title: str, *blocks: Block) -> List[Block]:
    return [Heading(2, title), *blocks]


def _said(*parts: str) -> Paragraph:
    return Paragraph(parts)


def _digest_table(head: str, digests: Iterable[Sequence[str]]) -> List[Block]:
    rows = tuple((name, Code(digest, copy=True)) for name, digest in digests if digest)
    return [Table((head, "SHA-256"), rows)] if rows else []


def _bullets(sentences: Sequence[str]) -> List[Block]:
    return [Bullets(tuple((sentence,) for sentence in sentences))] if sentences else []


def _status(record: Mapping[str, Any]) -> Badge:
    return Badge(record["status"], tone_of(record["status"]))


def _check(record: Mapping[str, Any], *, code: bool = False, title: str = "title") -> Check:
    """Return a check, gate, condition or trigger; ``code``: its values are to be read letter by letter."""

    def shown(name: str) -> Inline:
        value = record.get(name, "")
        return _code(value) if code else _text(value)

    return Check(record["id"], _status(record), _text(record.get(title, "")), shown("expected"), shown("found"))


def _check_blocks(checks: Sequence[Mapping[str, Any]]) -> List[Block]:
    if not checks:
        return [_said("Not run.")]
    rows = tuple(_check(check, code=True) for check in checks)
    return [_said(f"{passed(checks)} passed."), Board(("check", "title"), rows)]


def _yes(value: Any) -> str:
    return {True: "yes", False: "no", None: UNKNOWN}[value]


def _front(report: Mapping[str, Any]) -> List[Block]:
    """Return the reason of a failure, headline figures, what was touched, gates."""
    blocks: List[Block] = []
    if report["reason"]:
        blocks.append(Listing(report["reason"], "text"))
    touched = report["touched"]
    rows: List[Tuple[str, Inline]] = [*headline(report)[1:]]
    rows += [
        ("date", report["started"][:10]),
        ("run by", report["operator"] or UNKNOWN),
        ("author", (report["predecessor"] or {}).get("author") or UNKNOWN),
        ("target connected", _yes(touched["connected"])),
        ("transaction begun", _yes(touched["transaction"])),
        ("phase's SQL sent", _yes(touched["statements"])),
        ("change committed", _yes(touched["committed"])),
        ("rollback run", _yes(touched["rollback"])),
    ]
    blocks.append(Facts(tuple(rows)))
    if not report["gates"]:  # a rehearsal has none: gates protect production
        return blocks
    gates = tuple(
        Check(gate["id"], _status(gate), gate["title"], shortened(gate["expected"]), shortened(gate["found"]))
        for gate in report["gates"]
    )
    whole = "Digests are cut to 12 digits here; the whole ones are in the tables below and in report.json."
    return [*blocks, *_section("Gates", Board(("gate", "holds when"), gates, brief=True), _said(whole))]


def _origin(report: Mapping[str, Any]) -> List[Block]:
    """Return the target, and what came before this run: its plan, its rehearsal, the approvals."""
    identity, before = report["identity"], report["predecessor"]
    rows: List[Tuple[str, Inline]] = [("inventory host", report["host"])]
    # a server that runs in no container has none
    known = {key: value for key, value in identity.items() if value or key != "container"}
    rows += [(key.replace("_", " "), _text(value) or UNKNOWN) for key, value in known.items()]
    rehearsal = (before or {}).get("rehearsal")
    if identity and rehearsal:
        own, other = identity.get("system_identifier"), rehearsal["cluster"].get("system_identifier")
        rows.append(("rehearsal cluster", f"{other}, {'a different one' if own != other else 'the SAME cluster'}"))
    target = Facts(tuple(rows)) if identity else _said("Not read.")
    blocks = _section("Target", target)
    if before is None or report["kind"] == "rehearsal":  # its plan is written after it
        return blocks
    blocks.append(Heading(2, "Plan and approvals"))
    facts: List[Tuple[str, Inline]] = [
        ("plan", Code(report["digests"].get("plan") or "", copy=True)),
        ("author", before["author"] or UNKNOWN),
        ("rehearsed", before["created_at"] or "no: the phase's files were run without a rehearsal"),
        *([("valid until", before["not_after"])] if before["not_after"] else []),
    ]
    if rehearsal:
        facts += [
            ("rehearsal", Code(rehearsal["bundle"])),
            ("seal of the rehearsal", Code(rehearsal["seal"], copy=True)),
        ]
    blocks.append(Facts(tuple(facts)))
    approvals = report["approvals"]
    if not approvals:
        return [*blocks, _said("No approval was evaluated.")]
    head = ("reviewer", "status", "verdict", "key")
    signed = ((one["signer"], _status(one), one["verdict"], Code(one["fingerprint"], copy=True)) for one in approvals)
    blocks.append(Table(head, tuple(signed)))
    blocks += _bullets([one["message"] for one in approvals if one["status"] != "valid"])
    return [
        *blocks,
        *(Card(f"Notes of {one['signer']}", (), (Listing(one["notes"], "text"),)) for one in approvals if one["notes"]),
    ]


def _sources(report: Mapping[str, Any]) -> List[Block]:
    """Return the conditions before the run, artefacts, DDL source."""
    backup, blocks = report["backup"], []
    if report["conditions"]:
        rows = tuple(
            Check(one["id"], _status(one), "", one["expected"], one["found"], one["next_step"])
            for one in report["conditions"]
        )
        blocks += _section("Pre-run conditions", Board(("condition", ""), rows))
    period = f", from {report['started']} to {report['ended']}."
    blocks += _section("Artefacts", Paragraph(("Bundle ", Code(report["bundle"], copy=True), period)))
    if report["directory"]:
        blocks.append(Paragraph(("Directory ", Code(report["directory"], copy=True), f" on {report['host']}.")))
    if report["closed"]:
        blocks.append(_said(f"Interrupted runs that were sealed first: {', '.join(report['closed'])}."))
    if backup:
        evidence = BackupRecord(**backup).evidence()
        blocks.append(_said(f"Backup: {backup['size']} bytes, compression {backup['compression']}, {evidence}."))
        if backup["not_dumped"]:
            blocks.append(_said(f"Not in the backup: {'; '.join(backup['not_dumped'])}."))
    if report["removed"]:
        blocks.append(_said(f"Leftovers of a killed backup, deleted: {'; '.join(report['removed'])}."))
    files = tuple(
        (one["name"], Code(one["sha256"], copy=True), str(one["size"]), one["about"]) for one in report["artefacts"]
    )
    table = Table(("file", "SHA-256", "bytes", "what it is"), files, (2,))
    blocks.append(Card(f"Files and their checksums ({len(files)})", (), (table,), folded=True))
    digests = _digest_table("file", report["digests"].items()) or [_said("None was read.")]
    return [*blocks, *_section("DDL source", *digests)]


def _execution(report: Mapping[str, Any]) -> List[Block]:
    """Return commands, preflight, migration."""
    migration, begun = report["migration"], report["started"]
    spans = tuple(
        Span(
            one["id"],
            _offset(begun, one["started"]),
            one["seconds"],
            (_status(one), one["title"], _time_of_day(one["started"]), _text(one["seconds"]), one["result"]),
            tone_of(one["status"]),
        )
        for one in report["commands"]
    )
    head = ("command", "status", "what", "started", "seconds", "result")
    blocks = _section("Commands", Timeline(head, report["seconds"], spans, (3, 4)))
    blocks += [*_section("Preflight", *_check_blocks(report["preflight"])), Heading(2, "Migration")]
    if not migration["statements"]:
        blocks.append(_said("No statement was run."))
    else:
        blocks += _migration(migration)
    if report["unchanged"] is not None:
        equal = "equals" if report["unchanged"] else "differs from"
        blocks.append(
            _said(f"The schema after the transaction was rolled back {equal} the one before it, by fingerprint.")
        )
    if report["restored"] is not None:
        equal = "equals" if report["restored"] else "differs from"
        blocks.append(_said(f"The schema after C-09 {equal} the one before the phase, by fingerprint."))
    return [*blocks, *_section("Changed data", *_data(report))]


def _data(report: Mapping[str, Any]) -> List[Block]:
    """Return what the transaction changed, as the server counted it, beside what the rehearsal did."""
    if report["data"] is None:
        return [_said("Not observed.")]
    rows = tuple((Code(one["relation"]), one["kind"], one["rehearsed"], one["found"]) for one in report["data"])
    table = (
        Table(("relation", "change", "rehearsal", "found"), rows) if rows else _said("The transaction changed no data.")
    )
    return [table, *_bullets([f"Not proved: {one}." for one in report["unproved"]])]


def _offset(begun: str, at: str) -> float | None:
    """Return the seconds from one time of a journal to another; None unless both are times."""
    if not _TIME.fullmatch(begun) or not _TIME.fullmatch(at):
        return None
    try:
        return seconds_between(begun, at)
    except ValueError:
        return None


def _time_of_day(at: str) -> str:
    """Return the time without its date, which is that of the run."""
    return at[11:] if _TIME.fullmatch(at) else at


def _migration(migration: Mapping[str, Any]) -> List[Block]:
    statements = migration["statements"]
    where = f"Transaction {migration['xid']}, attempt {migration['attempts']}: {tag_summary(statements)}."
    blocks: List[Block] = [_said(where)]
    facts: List[Tuple[str, Inline]] = [
        ("outcome", migration["outcome"] or UNKNOWN),
        ("COMMIT sent", migration["commit_sent"] or "no"),
    ]
    facts.append(("tables rewritten", ", ".join(migration["rewrites"]) or "none"))
    blocks.append(Facts(tuple(facts)))
    begun = next((one["started"] for one in statements if one["started"]), "")
    length = _offset(begun, migration["commit_sent"]) or sum(one["milliseconds"] for one in statements) / 1000
    locks: Dict[Any, List[str]] = {}
    for lock in migration["locks"]:
        locks.setdefault(lock["statement"], []).append(f"{lock['mode']} on {lock['relation']}")
    spans = tuple(
        Span(
            str(one["n"]),
            _offset(begun, one["started"]),
            one["milliseconds"] / 1000,
            (
                str(one["line"]),
                one["tag"],
                _text(one["rows"]),
                _rows_declared(one),
                _text(one["milliseconds"]),
                "; ".join(locks.get(one["n"], ())),
            ),
            "plain" if _rows_declared(one) != "no match" else "bad",
        )
        for one in statements
    )
    head = ("statement", "line", "tag", "rows", "expected", "milliseconds", "first lock")
    blocks.append(Timeline(head, length, spans, (1, 3, 4, 5)))
    texts = tuple(
        Card(
            f"Statement {one['n']}: {one['tag']}",
            (Badge(f"line {one['line']}"), *_batches(one["batches"])),
            (Listing(one["sql"], "sql"),),
            folded=True,
        )
        for one in statements
        if one["sql"]
    )
    blocks += [*([Card("SQL, statement by statement", (), texts, folded=True)] if texts else [])]
    blocks += _locks(migration["locks"], begun, length)
    if migration["result"]:
        rows = tuple(
            (
                one["column"],
                _code(one["found"]),
                _code(one["expected"]) if "expected" in one else "",
                _match(one),
            )
            for one in migration["result"]
        )
        blocks += [_said("Trailing SELECT:"), Table(("column", "value", "expected", ""), rows)]
    return blocks


def _batches(batches: Sequence[Mapping[str, Any]]) -> List[Badge]:
    """Return in few words how a statement ran in batches; each of them is in report.json."""
    if not batches:
        return []
    rows, times = [one["rows"] for one in batches], [one["milliseconds"] for one in batches]
    words = f"{len(batches)} batches of {min(rows)} to {max(rows)} rows, {min(times):.0f} to {max(times):.0f} ms each"
    return [Badge(words)]


def _rows_declared(statement: Mapping[str, Any]) -> str:
    wanted = statement["expected_rows"]
    if not isinstance(wanted, Mapping):
        return _text(wanted)
    least, most = wanted.get("min"), wanted.get("max")
    return f"at least {least}" if most is None else f"{least or 0} to {most}"


def _match(one: Mapping[str, Any]) -> str:
    if "expected" not in one:
        return ""
    return "MATCH" if one["expected"] == one["found"] else "DIFFERS"


def _locks(locks: Sequence[Mapping[str, Any]], begun: str, length: float) -> List[Block]:
    if not locks:
        return []
    if all(lock["statement"] is None for lock in locks):
        modes: Dict[str, List[str]] = {}
        for lock in locks:
            modes.setdefault(lock["relation"], []).append(lock["mode"])
        rows = tuple((Code(relation), ", ".join(found)) for relation, found in modes.items())
        words = "Observed right before COMMIT, and held until then. Which statements took them is not known: only a rehearsal shows that."
        return [Heading(3, "Locks"), _said(words), Table(("relation", "locks"), rows)]
    spans = tuple(
        Span(
            Code(lock["relation"]),
            _offset(begun, lock["since"]),
            lock["seconds"],
            (
                lock["mode"],
                _text(lock["statement"]) or UNKNOWN,
                _time_of_day(lock["since"]) or UNKNOWN,
                _text(lock["seconds"]) or UNKNOWN,
                _text(lock["rehearsed_seconds"]) or UNKNOWN,
            ),
            "watch"
            if lock["mode"] in ("AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock")
            else "plain",
        )
        for lock in locks
    )
    words = (
        "Observed right before COMMIT, and held until then; which statement took a lock first is known from the rehearsal. A table with a"
        " measured column is locked before the first one."
    )
    head = ("relation", "lock", "statement", "since", "seconds", "rehearsed")
    return [Heading(3, "Locks"), _said(words), Timeline(head, length, spans, (2, 3, 4, 5))]


def _comparison(report: Mapping[str, Any]) -> List[Block]:
    """Return verification, measured columns, created and changed objects."""
    diff = report["diff"]
    lines = diff.get("lines", {})
    blocks = _section("Verification", *_check_blocks(report["verification"]))
    if lines:
        blocks.append(_said(f"DDL lines: removed {lines['removed']}, added {lines['added']}."))
        changed = [*(f"-{line}" for line in lines["removed_lines"]), *(f"+{line}" for line in lines["added_lines"])]
        blocks += [Listing("\n".join(changed), "diff")] if changed else []
    blocks.append(Heading(2, "Measured columns"))
    for moved in report["measured"]:
        blocks += _measured(moved)
    blocks += [_said(note) for note in (report["notes"] if report["measured"] else ["Not measured."])]
    blocks += _bullets(report["deviations"])
    blocks += _bullets([f"Whole table, other sessions' changes included: {one}." for one in report["elsewhere"]])
    shown = object_tree(report) if diff else [_said("No diff was made.")]
    blocks += _section("Created and changed objects", *shown)
    return [*blocks, *_digest_table("fingerprint", report["fingerprints"].items())]


def _measured(moved: Mapping[str, Any]) -> List[Block]:
    name = Code(f"{moved['relation']}.{moved['column']}")
    blocks: List[Block] = [Paragraph((name, f": {moved['changed']} of {moved['rows']} rows changed."))]
    rehearsed = moved["rehearsed"] or {}
    figures = (("rows changed", "", "changed"), ("distinct", "distinct_before", "distinct_after"),
               ("minimum", "minimum_before", "minimum_after"), ("maximum", "maximum_before", "maximum_after"))  # fmt: skip
    rows = []
    for label, before, after in figures:
        wanted = moved["expected"].get(after)
        verdict = "" if wanted is None else ("MATCH" if wanted == moved[after] else "DIFFERS")
        cells = (_code(moved[before]) if before else "", _code(moved[after]), _code(wanted), verdict)
        rows.append((label, *cells, _code(rehearsed[after]) if rehearsed else UNKNOWN))
    blocks.append(Table(("", "before", "after", "expected", "", "rehearsal, after"), tuple(rows)))
    if moved["old_values"]:
        held = moved["old_values"]
        blocks.append(
            Paragraph(
                ("The values before are in ", Code(held["file"]), ", SHA-256 ", Code(held["sha256"], copy=True), ".")
            )
        )
    return blocks


def _posture(report: Mapping[str, Any]) -> List[Block]:
    """Return non-scope confirmation, rollback, final posture, next step, cross-references."""
    rows = tuple(_check(one, code=True) for one in report["non_scope"])
    untouched = Board(("id", "what"), rows, brief=True) if rows else _said("Nothing was declared.")
    blocks = _section("Not in scope", untouched)
    if report["undoes"]:
        undone = Paragraph(("This run is C-09, started by an operator, for ", Code(report["undoes"]), "."))
        # counted before the first statement; lost only by a COMMIT
        lost = "Lost with it, as accepted" if report["undone"] else "Would have been lost, had it committed"
        losses = [f"{lost}: {loss['what']}, {loss['rows']} rows" for loss in report["losses"]]
        blocks += _section("Rollback", undone, *_bullets(losses))
    else:
        blocks += _section("Rollback", _said("C-09 did not run: a rollback never happens by itself."))
    if report["earlier"]:
        runs = tuple((one["execution"], one["at"], one["undone_by"] or "no") for one in report["earlier"])
        blocks += [
            _said("Earlier executions of the phase on this database:"),
            Table(("execution", "opened", "undone by"), runs),
        ]
    blocks.append(Board(("trigger", "what"), tuple(_check(one) for one in report["triggers"]), brief=True))
    blocks += _bullets([f"A rollback cannot restore: {item}" for item in report["cannot_restore"]])
    blocks += _section("Final posture", _said(report["sentence"]))
    blocks += _section("Next step", _said(report["next_step"]))
    if report["rollback_command"]:
        blocks.append(Listing(f"$ {report['rollback_command']}", "console"))
    for one in report["next_commands"]:
        blocks += [_said(f"{one['title']}:"), Listing(one["command"], "sh")]
    return [*blocks, *_section("Cross-references", _references(report))]


def _references(report: Mapping[str, Any]) -> Block:
    rehearsal = (report["predecessor"] or {}).get("rehearsal")
    items: List[Tuple[Inline, ...]] = [(f"{item['title']}: ", Code(item["ref"])) for item in report["cross_references"]]
    if report["digests"].get("plan"):
        name = TRIED_PLAN if TRIED_PLAN in {one["name"] for one in report["artefacts"]} else PLAN
        items.append(("Plan: ", Code(name), " in this bundle, SHA-256 ", Code(report["digests"]["plan"], copy=True)))
    if report["plan_source"]:
        items.append(("Read on the controller from ", Code(report["plan_source"])))
    if rehearsal:
        items.append(("Rehearsal: ", Code(rehearsal["bundle"]), ", seal ", Code(rehearsal["seal"], copy=True)))
        place = os.path.join(os.path.dirname(report["plan_source"]), "review.html")
        words = "beside the plan on the controller; it can be written again from the plan (playbook review)"
        items.append(("Review package: ", Code(place), f", {words}"))
    return Bullets(tuple(items)) if items else _said("None.")
