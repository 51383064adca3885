# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run's report as plain text: gate table, headline, summary and logs."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import RolledBack, Transacted
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import qualified
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TriggerStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, escaped, indented, json_line


def gate_table(report: Mapping[str, Any]) -> str:
    """Return the eleven gates, one line each."""
    return "".join(_row(gate) + "\n" for gate in report["gates"])


def _row(judged: Mapping[str, Any], rest: str = "") -> str:
    """Return a gate or a trigger in one line."""
    return escaped(f"{judged['id']:<5} {judged['status']:<13} {rest or judged['title']}")


def passed(checks: Sequence[Mapping[str, Any]]) -> str:
    """Return '10/10': how many of the checks passed, or that they did not run."""
    return f"{sum(check['status'] == 'PASS' for check in checks)}/{len(checks)}" if checks else "not run"


def qualified_outcome(report: Mapping[str, Any]) -> str:
    """Return the outcome; one of a run without enforced approvals or without a rehearsal says so."""
    return qualified(report["outcome"], report["warnings"])


def headline(report: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """Return the figures that an operator wants first, as label and value; they are texts still to be escaped."""
    lines = report["diff"].get("lines", {})
    rows = [
        ("outcome", qualified_outcome(report)),
        *(("WARNING", warning) for warning in report["warnings"]),
        ("phase", f"{report['phase']['phase']} {report['phase']['revision']}".strip()),
        *([("undoes" if report["undone"] else "to undo", report["undoes"])] if report["undoes"] else []),
        *([("verifies", report["verifies"])] if report["verifies"] else []),
        ("environment", report["environment"]),
        ("statements", tag_summary(report["migration"]["statements"] or []) or "none"),
    ]
    if report["kind"] != "rollback":
        rows += [
            ("preflight", passed(report["preflight"])),
            ("verification", passed(report["verification"])),
            ("schema diff", f"removed {lines['removed']}, added {lines['added']}" if lines else "not run"),
        ]
    rows += [
        (
            moved["column"],
            f"{moved['changed']} of {moved['rows']} rows changed, "
            f"distinct {moved['distinct_before']} -> {moved['distinct_after']}",
        )
        for moved in report["measured"]
    ]
    rows.append(("seconds", f"{report['seconds']:.1f}"))
    return rows


def tag_summary(statements: Iterable[Mapping[str, Any]]) -> str:
    """Return '5 x ALTER TABLE, UPDATE 86, ...': how often each tag ran, and the rows of the statements that have rows."""
    counts: dict[str, int] = {}
    for statement in statements:
        tag = statement["tag"]
        shown = f"{tag} {statement['rows']}" if tag in ("INSERT", "UPDATE", "DELETE", "MERGE") else tag
        counts[shown] = counts.get(shown, 0) + 1
    return ", ".join(tag if count == 1 else f"{count} x {tag}" for tag, count in counts.items())


def summary(report: Mapping[str, Any]) -> str:
    """Return SUMMARY.txt."""
    lines = [escaped(report["title"]), report["sentence"], ""]
    lines += [escaped(f"{label:<13} {value}") for label, value in headline(report)]
    if report["reason"]:
        lines += ["", "Reason", *indented(report["reason"], "  ")]
    if report["gates"]:
        lines += ["", *gate_table(report).splitlines()]
    lines += [*_to_decide(report), "", f"bundle        {escaped(report['bundle'])}"]
    return "\n".join(lines) + "\n"


def _to_decide(report: Mapping[str, Any]) -> List[str]:
    """Return the triggers that are there, and the command that rolls back, each below an empty line."""
    lines = []
    triggered = [trigger for trigger in report["triggers"] if trigger["status"] == TriggerStatus.TRIGGERED]
    if triggered:
        lines += ["", *(_row(one, f"{one['title']}: {one['found']}") for one in triggered)]
    if report["rollback_command"]:
        lines += ["", "To roll back, which nothing does automatically", escaped(report["rollback_command"])]
    return lines


def stop_lines(report: Mapping[str, Any]) -> List[str]:
    """Return what an operator reads, once, of a run that did not succeed: the reason first, then what it means."""
    reason = escaped(report["reason"], keep=LAYOUT).rstrip().splitlines()
    return [*reason, *([""] if reason else []), escaped(report["title"]), report["sentence"], *_to_decide(report)]


def driver_log(entries: Sequence[Entry]) -> str:
    """Return logs/driver.log: one line per journal entry with its time, and the reasons of failures."""
    lines = []
    for entry in entries:
        lines.append(escaped(f"{entry.at}  {entry.step:<5} {entry.event}"))
        lines += indented(str(entry.data.get("reason", "")), " " * 33)
    return "\n".join(lines) + "\n"


def migration_log(end: Transacted) -> str:
    """Return logs/C-07.log: gates, statements with rows and milliseconds, results, diff."""
    transaction = end.transaction or {}
    out = [f"outcome {end.outcome or ''}", f"transaction {transaction.get('xid') or 'none'}", "", "gates"]
    out += [_row(gate, f"expected {gate['expected']}; found {gate['found']}") for gate in end.gates or ()]
    out += ["", "statements"]
    out += [
        f"{s['n']:>4}  line {s['line']:>4}  {s['tag']} {s['rows']}  {s['milliseconds']} ms"
        for s in transaction.get("statements", [])
    ]
    out += ["", "trailing SELECT"] + [json_line(row) for row in transaction.get("result") or []]
    out += ["", "checks inside the transaction"]
    out += [f"{c['id']}  {c['status']}  {c['found']}" for c in transaction.get("checks", [])]
    against = ", from the schema before the phase" if isinstance(end, RolledBack) else ""
    out += [
        "",
        f"structural diff inside the transaction{against}",
        *transaction.get("diff", {}).get("text", "").split("\n"),
    ]
    return "".join(f"{escaped(line)}\n" for line in out)
