# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build a run's report from its plan and its journal, and from nothing else. Pure; private to this collection.

``build`` gives the facts as one mapping (report.json); ``markdown``, ``summary`` and ``gate_table`` render it. An
auditor who has the bundle can build the same report again.
"""

from __future__ import annotations

import datetime
import shlex
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils import _gates
from ansible_collections.incomex.phasegate.plugins.module_utils._after_commit import REFUSED, left
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_record import BackupRecord
from ansible_collections.incomex.phasegate.plugins.module_utils._checks import text
from ansible_collections.incomex.phasegate.plugins.module_utils._journal import Entry

FORMAT = "phasegate-report/1"

# The event of a run that goes on with an earlier one.
CONTINUE = "continue"

# How a run ended. Only SUCCESS exits with zero.
SUCCESS = "SUCCESS"
STOPPED = "STOPPED"
ROLLED_BACK = "ROLLED_BACK"
COMMITTED_INCOMPLETE = "COMMITTED_INCOMPLETE"
COMMITTED_NOT_VERIFIED = "COMMITTED_NOT_VERIFIED"
UNKNOWN = "UNKNOWN"

SENTENCES = {
    SUCCESS: "The phase was committed and verified.",
    STOPPED: "The run stopped before the migration began. Nothing was changed.",
    ROLLED_BACK: "The migration was rolled back. Nothing was changed.",
    COMMITTED_INCOMPLETE: "The transaction was COMMITTED, but a statement that runs after it was not completed.",
    COMMITTED_NOT_VERIFIED: "The phase was COMMITTED, but its verification did not pass. Nothing is rolled back by itself.",
    UNKNOWN: "It is NOT KNOWN whether the migration committed (T-1). Find out before you do anything else.",
}

ROLLBACK_SENTENCES = {
    SUCCESS: "The phase was rolled back; the schema is as before it.",
    STOPPED: "The rollback stopped before it began. Nothing was changed.",
    ROLLED_BACK: "The rollback was given up before COMMIT. The phase is still there.",
    COMMITTED_INCOMPLETE: "The rollback was COMMITTED, but a statement that runs after it was not completed.",
    COMMITTED_NOT_VERIFIED: "The rollback was COMMITTED, but the schema is not as before the phase.",
    UNKNOWN: "It is NOT KNOWN whether the rollback committed (T-1). Find out before you do anything else.",
}

REHEARSAL_SENTENCES = {
    SUCCESS: "The rehearsal succeeded: migrated, verified, rolled back to the schema of before, and migrated again.",
    STOPPED: "The rehearsal failed. It freezes nothing, and production was only read.",
}

OF_KIND = {"execute": SENTENCES, "rollback": ROLLBACK_SENTENCES, "rehearsal": REHEARSAL_SENTENCES}

COMMANDS = {
    "C-01": "fresh backup",
    "C-02": "digest of the backup and freshness marker",
    "C-03": "schema snapshot before",
    "C-04": "row counts and measured columns before",
    "C-05": "DDL and rollback frozen, digests asserted",
    "C-06": "preflight",
    "C-07": "migration in one transaction",
    "C-08": "verification",
    "C-09": "rollback, explicit only",
    "R-0": "rehearsal cluster judged",
    "R-1": "restore into the rehearsal cluster, contents compared",
    "R-2": "migration of the copy, measured",
    "R-3": "verification of the copy",
    "R-4": "rollback of the copy, schema as before",
    "R-5": "migration and verification again",
}

TRIGGERS = {
    "T-1": "the outcome is unknown after resolution",
    "T-2": "committed, but a verification check failed",
    "T-3": "a row count or measurement moved that the plan does not declare",
    "T-4": "the diff removed or changed something undeclared",
    "T-5": "the diff added something undeclared",
    "T-6": "a constraint or index that must stay is gone or invalid",
    "T-7": "the application's own health check fails",
    "T-8": "the evidence could not be completed after commit",
    "T-9": "an operator asks for it",
}


def _last(entries: Sequence[Entry], step: str, key: str, default: Any = None) -> Any:
    """Return ``key`` of the newest entry of a step that has it."""
    return next((e.data[key] for e in reversed(entries) if e.step == step and key in e.data), default)


def _gate_rows(entries: Sequence[Entry], command: str, requires: Sequence[str]) -> list[dict[str, Any]]:
    """Return all eleven gates: as judged last, or NOT REACHED. G-11 is judged over the whole journal.

    What the phase ``requires`` the report cannot judge: there the judgement of the run stands.
    """
    judged: dict[str, dict[str, Any]] = {gate.id: gate.as_dict() for gate in _gates.not_reached(_gates.TITLES)}
    if command == "C-09":
        judged.update({gate.id: gate.as_dict() for gate in _gates.not_of_a_rollback()})
    for entry in entries:
        judged.update({gate["id"]: gate for gate in entry.data.get("gates", ())})
    last = _gates.nothing_else_ran((entry.step for entry in entries), [command])
    if last.status == _gates.FAIL or not requires:
        judged[last.id] = last.as_dict()
    return [judged[name] for name in _gates.TITLES]


def _outcome(
    plan: Mapping[str, Any] | None, entries: Sequence[Entry], gates: Sequence[Mapping[str, Any]], command: str
) -> str:
    migration = _last(entries, command, "outcome")
    if migration is None and any(e.step == command and e.event == "transaction" for e in entries):
        return UNKNOWN
    if migration in (None, "NOT_STARTED"):
        return STOPPED
    if migration != "COMMITTED":
        return ROLLED_BACK if migration == "ROLLED_BACK" else UNKNOWN
    if plan and left(plan["rollback" if command == "C-09" else "ddl"]["statements"], entries, command):
        return COMMITTED_INCOMPLETE
    verified = _verified(entries) if command == "C-07" else bool(_last(entries, command, "restored"))
    verified = verified and not any(gate["status"] == _gates.FAIL for gate in gates)
    return SUCCESS if verified else COMMITTED_NOT_VERIFIED


def _rehearsed(entries: Sequence[Entry]) -> str:
    """Return SUCCESS when the last step of the rehearsal is done and none failed."""
    failed = any(entry.event == "failed" for entry in entries)
    done = any((entry.step, entry.event) == ("R-5", "done") for entry in entries)
    return SUCCESS if done and not failed else STOPPED


def _verified(entries: Sequence[Entry]) -> bool:
    """Return whether all three parts of C-08 are there and none of them has anything to say.

    A failed part ends C-08, so what follows it is the C-08 of a later run that adopted this one.
    """
    ends = [entry.event for entry in entries if entry.step == "C-08" and entry.event in ("done", "failed")]
    return (
        ends[-1:] == ["done"]
        and bool(_last(entries, "C-08", "checks"))
        and all(check["status"] == "PASS" for check in _last(entries, "C-08", "checks"))
        and bool(_last(entries, "C-08", "diff", {}).get("ok"))
        and _last(entries, "C-08", "deviations") == []
    )


def _triggers(entries: Sequence[Entry], outcome: str) -> list[dict[str, str]]:
    """Return T-1 ... T-9 with what was found. Only a committed or unknown migration can pull one."""
    diff = _last(entries, "C-08", "diff", {})
    offending = diff.get("offending", [])
    failed = [c["id"] for c in _last(entries, "C-08", "checks", []) if c["status"] != "PASS"]
    gone = [c["name"] for c in offending if c["action"] != "added"]
    invalid = [e.data["left"] for e in entries if e.event == REFUSED and e.data["left"]]
    pulled = {
        "T-1": [outcome] if outcome == UNKNOWN else [],
        "T-2": failed,
        "T-3": _last(entries, "C-08", "deviations", []),
        "T-4": gone,
        "T-5": [c["name"] for c in offending if c["action"] == "added"],
        "T-6": [
            *(c["name"] for c in offending if c["action"] != "added" and c["kind"] in ("constraint", "index")),
            *(invalid[-1:] if outcome == COMMITTED_INCOMPLETE else []),
        ],
    }
    concerned = outcome in (SUCCESS, COMMITTED_INCOMPLETE, COMMITTED_NOT_VERIFIED, UNKNOWN)
    rows = []
    for name, title in TRIGGERS.items():
        found = pulled.get(name, [])
        if name in ("T-7", "T-8", "T-9"):
            status, words = "NOT EVALUATED", "not a question that this run can answer"
        elif not concerned:
            status, words = "NOT EVALUATED", "nothing was committed"
        else:
            status, words = ("PULLED" if found else "not pulled"), "; ".join(found)
        rows.append({"id": name, "title": title, "status": status, "found": words})
    return rows


def _commands(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return one row a command with its first intent, its last outcome, and the seconds between."""
    rows = []
    for name, title in COMMANDS.items():
        own = [entry for entry in entries if entry.step == name]
        if not own and name[0] == "R":
            continue
        ends = [entry for entry in own if entry.event in ("done", "failed")]
        rows.append(
            {
                "id": name,
                "title": title,
                "status": ends[-1].event if ends else ("unfinished" if own else "not run"),
                "started": own[0].at if own else "",
                "seconds": _seconds(own[0].at, ends[-1].at) if ends else None,
            }
        )
    return rows


def _seconds(start: str, end: str) -> float:
    first, last = (datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) for at in (start, end))
    return round((last - first).total_seconds(), 3)


def since_continued(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries of the run itself, without those of a run that it goes on with."""
    last = max((n for n, entry in enumerate(entries) if (entry.step, entry.event) == ("run", CONTINUE)), default=0)
    return entries[last:]


def _reason(entries: Sequence[Entry]) -> str:
    entries = since_continued(entries)
    return next((str(e.data["reason"]) for e in entries if e.event == "failed" and e.data.get("reason")), "")


def build(plan: Mapping[str, Any] | None, entries: Sequence[Entry], name: str) -> dict[str, Any]:
    """Return the report's facts. ``name`` is the artefact directory's; ``plan`` is None when none could be loaded."""
    phase = plan["phase"] if plan else {}
    start = next((e.data for e in entries if e.step == "run" and e.event in ("open", "not opened")), {})
    here = [{"path": e.data["path"]} for e in entries if (e.step, e.event) == ("run", CONTINUE)]
    start = {**start, **here[-1]} if here else start
    kind = start.get("kind", "execute")
    command = "C-09" if kind == "rollback" else "C-07"
    requires = phase.get("requires", ()) if kind == "execute" else ()
    gates = [] if kind == "rehearsal" else _gate_rows(entries, command, requires)
    outcome = _rehearsed(entries) if kind == "rehearsal" else _outcome(plan, entries, gates, command)
    # a rehearsal verifies by R-3 what an execution verifies by C-08, and preflight is inside its transaction
    ran, verified = ("R-2", "R-3") if kind == "rehearsal" else (command, "C-08")
    transaction = _last(entries, ran, "transaction", {})
    return {
        "format": FORMAT,
        "bundle": name,
        "outcome": outcome,
        "kind": kind,
        "sentence": OF_KIND[kind][outcome],
        "undoes": start.get("execution", ""),
        "losses": _last(entries, "C-09", "losses", []),
        "reason": "" if outcome == SUCCESS else _reason(entries),
        "phase": {
            "phase": start.get("phase", ""),
            "title": phase.get("title", ""),
            "revision": phase.get("revision", ""),
        },
        "environment": start.get("environment", ""),
        "host": start.get("host", ""),
        "operator": start.get("operator", ""),
        "closed": start.get("closed", []),
        "started": entries[0].at if entries else "",
        "ended": entries[-1].at if entries else "",
        "seconds": _seconds(entries[0].at, entries[-1].at) if entries else 0.0,
        "identity": start.get("identity", {}),
        "digests": _digests(plan, start),
        "conditions": _last(entries, "run", "conditions", []),
        "backup": _last(entries, "C-01", "backup", {}),
        "removed": _last(entries, "C-01", "removed", []),
        "fingerprints": {
            "before": _last(entries, "C-03", "fingerprint", ""),
            "after": _last(entries, verified, "fingerprint", "") or _last(entries, command, "fingerprint", ""),
        },
        "unchanged": _last(entries, command, "unchanged"),
        "commands": _commands(entries),
        "gates": gates,
        "preflight": _last(entries, "C-06", "checks", []) or transaction.get("preflight", []),
        "migration": {
            key: transaction.get(key) for key in ("xid", "pid", "attempts", "statements", "result", "checks")
        },
        "expected_tags": phase.get("expect", {}).get("tags", {}),
        "verification": _last(entries, verified, "checks", []),
        "diff": _last(entries, verified, "diff", {}) or transaction.get("diff", {}),
        "measured": _last(entries, verified, "measured", []),
        "notes": [measure["note"] for measure in phase.get("measure", []) if measure.get("note")],
        "deviations": _last(entries, verified, "deviations", []),
        "non_scope": _non_scope(phase, _last(entries, verified, "non_scope", [])),
        "triggers": _triggers(entries, outcome),
        "rollback_command": (
            rollback_command(start, name)
            if kind == "execute" and outcome in (COMMITTED_NOT_VERIFIED, COMMITTED_INCOMPLETE)
            else ""
        ),
        "cannot_restore": phase.get("rollback", {}).get("cannot_restore", []),
        "cross_references": phase.get("cross_references", []),
    }


def _digests(plan: Mapping[str, Any] | None, start: Mapping[str, Any]) -> dict[str, str]:
    if plan is None:
        return {}
    files = {plan[part]["file"]: plan[part]["sha256"] for part in ("definition", "ddl", "rollback")}
    return {"plan": start.get("plan_sha256", ""), **files}


def _non_scope(phase: Mapping[str, Any], checked: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    results = {check["id"]: check for check in checked}
    rows = []
    for item in phase.get("non_scope", []):
        result = results.get(item["id"])
        if item.get("not_attempted"):
            status, found = "not attempted", "not attempted by this run"
        elif result is None:
            status, found = "not checked", "the run ended before"
        else:
            status, found = result["status"], result["found"]
        rows.append({"id": item["id"], "title": item["title"], "status": status, "found": found})
    return rows


def gate_table(report: Mapping[str, Any]) -> str:
    """Return the eleven gates, one line each."""
    return "".join(f"{g['id']:<5} {g['status']:<13} {g['title']}\n" for g in report["gates"])


def _passed(checks: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(check['status'] == 'PASS' for check in checks)}/{len(checks)}" if checks else "not run"


def headline(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the figures that an operator wants first, as label and value."""
    lines = report["diff"].get("lines", {})
    rows = [
        ("outcome", report["outcome"]),
        ("phase", f"{report['phase']['phase']} {report['phase']['revision']}".strip()),
        *([("undoes", report["undoes"])] if report["undoes"] else []),
        ("environment", report["environment"]),
        ("statements", tag_summary(report["migration"]["statements"] or []) or "none"),
    ]
    if report["kind"] != "rollback":
        rows += [
            ("preflight", _passed(report["preflight"])),
            ("verification", _passed(report["verification"])),
            ("schema diff", f"removed {lines['removed']}, added {lines['added']}" if lines else "not made"),
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
    """Return '5 x ALTER TABLE, UPDATE 86, ...': how often each tag, and the rows of the statements that have rows."""
    counts: dict[str, int] = {}
    for statement in statements:
        tag = statement["tag"]
        shown = f"{tag} {statement['rows']}" if tag in ("INSERT", "UPDATE", "DELETE", "MERGE") else tag
        counts[shown] = counts.get(shown, 0) + 1
    return ", ".join(tag if count == 1 else f"{count} x {tag}" for tag, count in counts.items())


def summary(report: Mapping[str, Any]) -> str:
    """Return SUMMARY.txt."""
    lines = [report["sentence"], ""]
    lines += [f"{label:<13} {value}" for label, value in headline(report)]
    if report["reason"]:
        lines += ["", "Reason", report["reason"]]
    if report["gates"]:
        lines += ["", gate_table(report).rstrip("\n")]
    pulled = [trigger for trigger in report["triggers"] if trigger["status"] == "PULLED"]
    if pulled:
        lines += ["", *(f"{one['id']:<5} {one['status']:<13} {one['title']}: {one['found']}" for one in pulled)]
    if report["rollback_command"]:
        lines += ["", "To roll back, which nothing does by itself", report["rollback_command"]]
    lines += ["", f"bundle        {report['bundle']}"]
    return "\n".join(lines) + "\n"


def driver_log(entries: Sequence[Entry]) -> str:
    """Return logs/driver.log: what the run did when, one line a journal entry, and the reasons of failures."""
    lines = []
    for entry in entries:
        lines.append(f"{entry.at}  {entry.step:<5} {entry.event}")
        lines += [f"{'':<26}       {line}" for line in str(entry.data.get("reason", "")).splitlines()]
    return "\n".join(lines) + "\n"


def migration_log(data: Mapping[str, Any]) -> str:
    """Return logs/C-07.log: gates, statements with rows and milliseconds, results, diff."""
    transaction = data.get("transaction") or {}
    out = [f"outcome {data.get('outcome', '')}", f"transaction {transaction.get('xid') or 'none'}", "", "gates"]
    out += [
        f"{gate['id']:<5} {gate['status']:<13} expected {gate['expected']}; found {gate['found']}"
        for gate in data.get("gates", [])
    ]
    out += ["", "statements"]
    out += [
        f"{s['n']:>4}  line {s['line']:>4}  {s['tag']} {s['rows']}  {s['milliseconds']} ms"
        for s in transaction.get("statements", [])
    ]
    out += ["", "trailing SELECT"] + [text(row) for row in transaction.get("result") or []]
    out += ["", "checks inside the transaction"]
    out += [f"{c['id']}  {c['status']}  {c['found']}" for c in transaction.get("checks", [])]
    out += ["", "structural diff inside the transaction", transaction.get("diff", {}).get("text", "")]
    return "\n".join(out) + "\n"


def _cell(value: Any) -> str:
    """Return a value as the content of a Markdown table cell."""
    shown = "" if value is None else text(value)
    return shown.replace("|", "\\|").replace("\n", " ")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return [*lines, ""]


def _checks_table(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    if not checks:
        return ["Not run.", ""]
    rows = [(c["id"], c["status"], c["title"], c["expected"], c["found"]) for c in checks]
    return [f"{_passed(checks)} passed.", "", *_table(("check", "status", "title", "expected", "found"), rows)]


def markdown(report: Mapping[str, Any], sums: Mapping[str, str]) -> str:
    """Return report.md. ``sums`` are the SHA-256 of the artefacts by name, as far as they are known before the seal."""
    out = [*_front(report), *_sources(report, sums), *_execution(report), *_comparison(report), *_posture(report)]
    return "\n".join(out).rstrip("\n") + "\n"


def _front(report: Mapping[str, Any]) -> list[str]:
    """Status line, headline figures, gates."""
    phase = report["phase"]
    out = [f"# Phase {phase['phase']} {phase['revision']} on {report['environment']}: {report['outcome']}", ""]
    out += [report["sentence"], ""]
    if report["reason"]:
        out += ["```text", report["reason"], "```", ""]
    out += _table(("", ""), headline(report)[1:])
    if not report["gates"]:  # a rehearsal's: they are production's
        return out
    gates = ((g["id"], g["status"], g["title"], g["expected"], g["found"]) for g in report["gates"])
    return [*out, "## Gates", "", *_table(("gate", "status", "holds when", "expected", "found"), gates)]


def _sources(report: Mapping[str, Any], sums: Mapping[str, str]) -> list[str]:
    """Target and what surrounds it, artefacts, DDL source."""
    identity, backup = report["identity"], report["backup"]
    facts = [("inventory host", report["host"]), *((key.replace("_", " "), value) for key, value in identity.items())]
    facts += [("run by", report["operator"])] if report["operator"] else []
    out = ["## Target", "", *(_table(("fact", "value"), facts) if identity else ["Not read.", ""])]
    if report["conditions"]:
        around = ((c["id"], c["status"], c["expected"], c["found"], c["next_step"]) for c in report["conditions"])
        out += ["## Surroundings", "", *_table(("condition", "status", "expected", "found", "next step"), around)]
    out += ["## Artefacts", "", f"Bundle `{report['bundle']}`, from {report['started']} to {report['ended']}.", ""]
    out += _table(("file", "SHA-256"), sorted(sums.items()))
    if report["closed"]:
        out += [f"Sealed first, as broken off: {', '.join(report['closed'])}.", ""]
    if backup:
        out += [
            f"Backup: {backup['size']} bytes, compression {backup['compression']}, {BackupRecord(**backup).evidence()}.",
            "",
        ]
        if backup["not_dumped"]:
            out += [f"Not in it: {'; '.join(backup['not_dumped'])}.", ""]
    if report["removed"]:
        out += [f"Left by a killed backup, and removed: {'; '.join(report['removed'])}.", ""]
    return [*out, "## DDL source", "", *_table(("file", "SHA-256"), report["digests"].items())]


def _execution(report: Mapping[str, Any]) -> list[str]:
    """Commands, preflight, migration."""
    migration = report["migration"]
    commands = ((c["id"], c["status"], c["title"], c["started"], c["seconds"]) for c in report["commands"])
    out = ["## Commands", "", *_table(("command", "status", "what", "started", "seconds"), commands)]
    out += ["## Preflight", "", *_checks_table(report["preflight"]), "## Migration", ""]
    if migration["statements"]:
        tags = tag_summary(migration["statements"])
        out += [f"Transaction {migration['xid']}, attempt {migration['attempts']}: {tags}.", ""]
        rows = ((s["n"], s["line"], s["tag"], s["rows"], s["milliseconds"]) for s in migration["statements"])
        out += _table(("statement", "line", "tag", "rows", "milliseconds"), rows)
        for row in migration["result"] or []:
            out += ["Trailing SELECT:", "", *_table(("column", "value"), row.items())]
    else:
        out += ["No statement was run.", ""]
    if report["unchanged"] is not None:
        out += [f"Schema fingerprint after the rollback equal to the one before: {text(report['unchanged'])}.", ""]
    return out


def _comparison(report: Mapping[str, Any]) -> list[str]:
    """Verification, measured columns, created and changed objects."""
    diff = report["diff"]
    lines = diff.get("lines", {})
    out = ["## Verification", "", *_checks_table(report["verification"])]
    if lines:
        out += [f"DDL lines: removed {lines['removed']}, added {lines['added']}.", ""]
        out += [
            "```diff",
            *(f"-{line}" for line in lines["removed_lines"]),
            *(f"+{line}" for line in lines["added_lines"]),
        ]
        out += ["```", ""]
    out += ["## Measured columns", ""]
    for moved in report["measured"]:
        out += [f"`{moved['relation']}.{moved['column']}`: {moved['changed']} of {moved['rows']} rows changed.", ""]
        names = ("distinct", "minimum", "maximum")
        out += _table(("", "before", "after"), ((n, moved[f"{n}_before"], moved[f"{n}_after"]) for n in names))
    out += [*(report["notes"] if report["measured"] else ["Not measured."]), ""]
    out += [*(f"- {deviation}" for deviation in report["deviations"]), ""] if report["deviations"] else []
    out += ["## Created and changed objects", ""]
    out += ["```diff", *diff.get("text", "").splitlines(), "```", ""] if diff else ["No diff was made.", ""]
    return [*out, *_table(("fingerprint", "SHA-256"), report["fingerprints"].items())]


def _posture(report: Mapping[str, Any]) -> list[str]:
    """Non-scope confirmation, rollback, final posture, next step, cross-references."""
    untouched = ((n["id"], n["status"], n["title"], n["found"]) for n in report["non_scope"])
    out = ["## Not in scope", "", *_table(("id", "status", "what", "found"), untouched)]
    triggers = ((t["id"], t["status"], t["title"], t["found"]) for t in report["triggers"])
    out += ["## Rollback", ""]
    if report["undoes"]:
        out += [f"This run is C-09, started by an operator: it undoes `{report['undoes']}`.", ""]
        out += [*(f"- Lost with it, as accepted: {loss['what']}, {loss['rows']} rows" for loss in report["losses"]), ""]
    else:
        out += ["C-09 was not triggered: a rollback never happens by itself.", ""]
    out += _table(("trigger", "status", "what", "found"), triggers)
    out += [*(f"- A rollback cannot restore: {item}" for item in report["cannot_restore"]), ""]
    out += [
        "## Final posture",
        "",
        report["sentence"],
        "",
        "## Next step",
        "",
        next_step(report["outcome"], rollback=bool(report["undoes"])),
        "",
        *(["```console", f"$ {report['rollback_command']}", "```", ""] if report["rollback_command"] else []),
    ]
    out += ["## Cross-references", ""]
    return [*out, *(f"- {item['title']}: {item['ref']}" for item in report["cross_references"]), ""]


def rollback_command(start: Mapping[str, Any], name: str) -> str:
    """Return the one command that rolls an execution back, by what its run was opened with; '' where that is not known."""
    if not start.get("path"):
        return ""
    words = ["ansible-playbook", "incomex.phasegate.rollback"]
    for source in start.get("inventory", ()):
        words += ["-i", source]
    words += ["-l", start["host"], "-e", f"phasegate_execution={start['path']}", "-e", f"phasegate_confirm={name}"]
    return " ".join(shlex.quote(word) for word in words)


def next_step(outcome: str, *, rollback: bool) -> str:
    """Return what comes after a run that ended so."""
    if rollback and outcome == SUCCESS:
        return "Review this report. What a rollback cannot restore stands above."
    return {
        SUCCESS: "Review this report. No further phase starts by itself.",
        STOPPED: "Resolve the reason above, then start the phase again; it begins with a new backup.",
        ROLLED_BACK: "Resolve the reason above. A change of the DDL is a new revision.",
        COMMITTED_INCOMPLETE: "Do what the reason above says, then run the same command again, or roll back.",
        COMMITTED_NOT_VERIFIED: "Keep everything as it is. Decide whether to roll back; nothing but this command does it.",
        UNKNOWN: "Ask the server for the status of the transaction named above before anything else runs.",
    }[outcome]
