# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run's report as Markdown (report.md)."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import BackupRecord
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Block,
    Bullets,
    Code,
    Document,
    Facts,
    Heading,
    Listing,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.markdown import render_markdown
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import json_line
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_text import (
    headline,
    passed,
    tag_summary,
)


def markdown(report: Mapping[str, Any], sums: Mapping[str, str]) -> str:
    """Return report.md. ``sums`` are the SHA-256 of the artefacts by name, as far as they are known before the seal."""
    return render_markdown(document(report, sums))


def document(report: Mapping[str, Any], sums: Mapping[str, str]) -> Document:
    """Return the report's facts as a document; ``sums`` as for ``markdown``."""
    blocks = [*_front(report), *_sources(report, sums), *_execution(report), *_comparison(report), *_posture(report)]
    return Document("", report["title"], report["sentence"], "", blocks)


def _text(value: Any) -> str:
    return "" if value is None else json_line(value)


def _code(value: Any) -> Code:
    return Code(_text(value))


def _section(title: str, *blocks: Block) -> List[Block]:
    return [Heading(2, title), *blocks]


def _said(*parts: str) -> Paragraph:
    return Paragraph(parts)


def _fields(records: Iterable[Mapping[str, Any]], names: Sequence[str], codes: Sequence[str] = ()) -> Any:
    """Return the rows of a table from records; the fields in ``codes`` are values to be read letter by letter."""
    return tuple(
        tuple(_code(record[name]) if name in codes else _text(record[name]) for name in names) for record in records
    )


def _digest_table(head: str, digests: Iterable[Sequence[str]]) -> Table:
    return Table((head, "SHA-256"), tuple((name, Code(digest)) for name, digest in digests))


def _bullets(sentences: Sequence[str]) -> List[Block]:
    return [Bullets(tuple((sentence,) for sentence in sentences))] if sentences else []


def _check_blocks(checks: Sequence[Mapping[str, Any]]) -> List[Block]:
    if not checks:
        return [_said("Not run.")]
    head = ("check", "status", "title", "expected", "found")
    rows = _fields(checks, ("id", *head[1:]), codes=("expected", "found"))
    return [_said(f"{passed(checks)} passed."), Table(head, rows)]


def _front(report: Mapping[str, Any]) -> List[Block]:
    """Return the reason of a failure, headline figures, gates."""
    blocks: List[Block] = [Listing(report["reason"], "text")] if report["reason"] else []
    blocks.append(Facts(tuple(headline(report)[1:])))
    if not report["gates"]:  # a rehearsal has none: gates protect production
        return blocks
    rows = _fields(report["gates"], ("id", "status", "title", "expected", "found"))
    return [*blocks, *_section("Gates", Table(("gate", "status", "holds when", "expected", "found"), rows))]


def _sources(report: Mapping[str, Any], sums: Mapping[str, str]) -> List[Block]:
    """Return the target, the conditions before the run, artefacts, DDL source."""
    identity, backup = report["identity"], report["backup"]
    facts = [("inventory host", report["host"])]
    facts += [(key.replace("_", " "), _text(value)) for key, value in identity.items()]
    facts += [("run by", report["operator"])] if report["operator"] else []
    blocks = _section("Target", Table(("fact", "value"), tuple(facts)) if identity else _said("Not read."))
    if report["conditions"]:
        names = ("id", "status", "expected", "found", "next_step")
        head = ("condition", "status", "expected", "found", "next step")
        blocks += _section("Pre-run conditions", Table(head, _fields(report["conditions"], names)))
    period = f", from {report['started']} to {report['ended']}."
    blocks += _section("Artefacts", Paragraph(("Bundle ", Code(report["bundle"]), period)))
    blocks.append(_digest_table("file", sorted(sums.items())))
    if report["closed"]:
        blocks.append(_said(f"Interrupted runs that were sealed first: {', '.join(report['closed'])}."))
    if backup:
        evidence = BackupRecord(**backup).evidence()
        blocks.append(_said(f"Backup: {backup['size']} bytes, compression {backup['compression']}, {evidence}."))
        if backup["not_dumped"]:
            blocks.append(_said(f"Not in the backup: {'; '.join(backup['not_dumped'])}."))
    if report["removed"]:
        blocks.append(_said(f"Leftovers of a killed backup, deleted: {'; '.join(report['removed'])}."))
    return [*blocks, *_section("DDL source", _digest_table("file", report["digests"].items()))]


def _execution(report: Mapping[str, Any]) -> List[Block]:
    """Return commands, preflight, migration."""
    migration = report["migration"]
    names = ("id", "status", "title", "started", "seconds")
    head = ("command", "status", "what", "started", "seconds")
    blocks = _section("Commands", Table(head, _fields(report["commands"], names), (4,)))
    blocks += [*_section("Preflight", *_check_blocks(report["preflight"])), Heading(2, "Migration")]
    if migration["statements"]:
        tags = tag_summary(migration["statements"])
        blocks.append(_said(f"Transaction {migration['xid']}, attempt {migration['attempts']}: {tags}."))
        names, head = ("n", "line", "tag", "rows", "milliseconds"), ("statement", "line", "tag", "rows", "milliseconds")
        blocks.append(Table(head, _fields(migration["statements"], names), (0, 1, 3, 4)))
        for row in migration["result"] or []:
            cells = tuple((name, _code(value)) for name, value in row.items())
            blocks += [_said("Trailing SELECT:"), Table(("column", "value"), cells)]
    else:
        blocks.append(_said("No statement was run."))
    if report["unchanged"] is not None:
        equal = "equals" if report["unchanged"] else "differs from"
        blocks.append(
            _said(f"The schema after the transaction was rolled back {equal} the one before it, by fingerprint.")
        )
    if report["restored"] is not None:
        equal = "equals" if report["restored"] else "differs from"
        blocks.append(_said(f"The schema after C-09 {equal} the one before the phase, by fingerprint."))
    return blocks


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
        name = Code(f"{moved['relation']}.{moved['column']}")
        blocks.append(Paragraph((name, f": {moved['changed']} of {moved['rows']} rows changed.")))
        rows = tuple(
            (figure, _code(moved[f"{figure}_before"]), _code(moved[f"{figure}_after"]))
            for figure in ("distinct", "minimum", "maximum")
        )
        blocks.append(Table(("", "before", "after"), rows))
    blocks += [_said(note) for note in (report["notes"] if report["measured"] else ["Not measured."])]
    blocks += _bullets(report["deviations"])
    shown = Listing(diff.get("text", ""), "diff") if diff else _said("No diff was made.")
    blocks += _section("Created and changed objects", shown)
    return [*blocks, _digest_table("fingerprint", report["fingerprints"].items())]


def _posture(report: Mapping[str, Any]) -> List[Block]:
    """Return non-scope confirmation, rollback, final posture, next step, cross-references."""
    head = ("id", "status", "what", "found")
    names = ("id", "status", "title", "found")
    untouched = Table(head, _fields(report["non_scope"], names, codes=("found",)))
    blocks = _section("Not in scope", untouched if report["non_scope"] else _said("Nothing was declared."))
    if report["undoes"]:
        undone = Paragraph(("This run is C-09, started by an operator, for ", Code(report["undoes"]), "."))
        # counted before the first statement; lost only by a COMMIT
        lost = "Lost with it, as accepted" if report["undone"] else "Would have been lost, had it committed"
        losses = [f"{lost}: {loss['what']}, {loss['rows']} rows" for loss in report["losses"]]
        blocks += _section("Rollback", undone, *_bullets(losses))
    else:
        blocks += _section("Rollback", _said("C-09 did not run: a rollback never happens by itself."))
    blocks.append(Table(("trigger", *head[1:]), _fields(report["triggers"], names)))
    blocks += _bullets([f"A rollback cannot restore: {item}" for item in report["cannot_restore"]])
    blocks += _section("Final posture", _said(report["sentence"]))
    blocks += _section("Next step", _said(report["next_step"]))
    if report["rollback_command"]:
        blocks.append(Listing(f"$ {report['rollback_command']}", "console"))
    references = tuple((f"{item['title']}: ", Code(item["ref"])) for item in report["cross_references"])
    return [*blocks, *_section("Cross-references", Bullets(references) if references else _said("None."))]
