# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a run's report, built from its plan, its journal and the files beside them. Pure; private.

``build_report`` returns the facts as one mapping (report.json, docs/report.schema.json); ``_report.rendering`` makes the other
forms from that mapping alone.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    DONE,
    EXECUTE,
    FAILED,
    REHEARSAL,
    ROLLBACK,
    VERIFICATION,
    BackupMade,
    ConditionsEvaluated,
    CopyMigrated,
    CopyVerified,
    DataRecorded,
    Migrated,
    PreflightRun,
    RolledBack,
    RunContinued,
    RunFailed,
    RunNotOpened,
    RunOpened,
    SchemaRecorded,
    StatementFailed,
    StepEnd,
    Transacted,
    Verified,
    record_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import (
    Ending,
    ending_of,
    title_of,
    verdict_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    gates_of,
    newest_end,
    opening_of,
    records_of,
    since_continued,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.commands import extra_var, quoted_extra_var
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import (
    CheckStatus,
    GateStatus,
    RunOutcome,
    TriggerStatus,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    GATE_TITLES,
    gates_without_meaning_for_rollback,
    not_reached_gates,
    nothing_else_ran_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.evidence import Evidence
from ansible_collections.incomex.phasegate.plugins.module_utils._report.facts import (
    approvals_of,
    check_rows,
    command_rows,
    commit_time,
    count_rows,
    data_rows,
    lock_rows,
    measured_rows,
    predecessor,
    result_rows,
    seconds_between,
    statement_rows,
    touched,
    without_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.vocabulary import TRIGGERS

FORMAT = "phasegate-report/2"


def _gate_rows(entries: Sequence[Entry], command: str, requires: Sequence[str]) -> list[dict[str, Any]]:
    """Return all eleven gates with their last status, or NOT REACHED. G-11 is evaluated over the whole journal of an opened run.

    The report cannot evaluate what the phase ``requires``: for such a phase the run's own G-11 is kept.
    """
    judged: dict[str, dict[str, Any]] = {gate.id: gate.as_dict() for gate in not_reached_gates(GATE_TITLES)}
    if command == "C-09":
        judged.update({gate.id: gate.as_dict() for gate in gates_without_meaning_for_rollback()})
    judged.update({gate["id"]: dict(gate) for gate in gates_of(entries)})
    if opening_of(entries) is None:
        return [judged[name] for name in GATE_TITLES]
    last = nothing_else_ran_gate((entry.step for entry in entries), [command])
    if last.status == GateStatus.FAIL or not requires:
        judged[last.id] = last.as_dict()
    return [judged[name] for name in GATE_TITLES]


def _checked(
    kind: str, entries: Sequence[Entry], gates: Sequence[Mapping[str, Any]], plan: Mapping[str, Any] | None
) -> bool:
    """Return whether what is checked after COMMIT was checked and passed, gates included."""
    passed = bool(newest_end(entries, RolledBack).restored) if kind == ROLLBACK else _verified(entries, plan)
    return passed and not any(gate["status"] == GateStatus.FAIL for gate in gates)


def _approved(gates: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether approvals were enforced, or not reached."""
    return not any((gate["id"], gate["status"]) == ("G-1", GateStatus.NOT_ENFORCED) for gate in gates)


def _warnings(plan: Mapping[str, Any] | None, gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what nobody vouched for, for the headline of an execution or a rollback."""
    rehearsed = not (plan and gates) or "rehearsal" in plan
    return [
        *([] if _approved(gates) else ["approvals were not enforced"]),
        *([] if rehearsed else ["not rehearsed"]),
    ]


def _verified(entries: Sequence[Entry], plan: Mapping[str, Any] | None) -> bool:
    """Return whether all three parts of C-08 were recorded and passed, with each check of the plan.

    A failed part ends C-08, so what follows it is the C-08 of a later run that adopted this one.
    """
    ends = [entry.event for entry in entries if entry.step == Verified.step and entry.event in (DONE, FAILED)]
    verified = newest_end(entries, Verified)
    return (
        ends[-1:] == [DONE]
        and bool(verified.checks)
        and all(check["status"] == CheckStatus.PASS for check in verified.checks or ())
        and [check["id"] for check in verified.checks or ()] == _required(plan, verified)
        and bool((verified.diff or {}).get("ok"))
        and verified.deviations is not None
        and not verified.deviations
    )


def _required(plan: Mapping[str, Any] | None, verified: Verified) -> list[str]:
    """Return the ids of the checks that have to be there; of a run without a plan those that are."""
    checks = plan["phase"]["verify"] if plan else verified.checks or ()
    return [check["id"] for check in checks]


def _triggers(start: RunOpened, entries: Sequence[Entry], ending: Ending) -> list[dict[str, str]]:
    """Return T-1 ... T-9 with what was found. Only a committed or unknown migration can trigger one."""
    verified = newest_end(entries, Verified)
    offending = (verified.diff or {}).get("offending", [])
    failed = [c["id"] for c in verified.checks or () if c["status"] != CheckStatus.PASS]
    gone = [c["name"] for c in offending if c["action"] != "added"]
    invalid = [one.left for one in records_of(entries, StatementFailed) if one.left]
    found_by = {
        "T-1": [RunOutcome.UNKNOWN.value] if ending == Ending.UNKNOWN else [],
        "T-2": failed,
        "T-3": list(verified.deviations or ()),
        "T-4": gone,
        "T-5": [c["name"] for c in offending if c["action"] == "added"],
        "T-6": [
            *(c["name"] for c in offending if c["action"] != "added" and c["kind"] in ("constraint", "index")),
            *(invalid[-1:] if ending == Ending.INCOMPLETE else []),
        ],
    }
    rows = []
    for name, title in TRIGGERS.items():
        found = found_by.get(name, [])
        why = _not_evaluated(start.kind, ending, name)
        if start.kind == ROLLBACK and name == "T-9":
            status, words = TriggerStatus.TRIGGERED, "an operator started this run"
        elif why:
            status, words = TriggerStatus.NOT_EVALUATED, why
        else:
            status, words = (TriggerStatus.TRIGGERED if found else TriggerStatus.NOT_TRIGGERED), "; ".join(found)
        rows.append({"id": name, "title": title, "status": status.value, "found": words})
    return rows


def _not_evaluated(kind: str, ending: Ending, trigger: str) -> str:
    """Return why this run cannot say whether a trigger is there; '' when it can."""
    if kind == REHEARSAL:
        return "a rehearsal changes nothing that could be rolled back"
    if kind == ROLLBACK and trigger != "T-1":
        return "evaluated by the execution that this run rolls back"
    if trigger in ("T-7", "T-8", "T-9"):
        return "cannot be evaluated by this run"
    committed = (Ending.SUCCESS, Ending.INCOMPLETE, Ending.NOT_VERIFIED, Ending.UNKNOWN)
    return "" if ending in committed else "nothing was committed"


def _reason(entries: Sequence[Entry]) -> str:
    entries = since_continued(entries)
    failed = (record_of(entry) for entry in entries if entry.event == FAILED)
    return next((one.reason for one in failed if isinstance(one, (RunFailed, StepEnd)) and one.reason), "")


def build_report(
    plan: Mapping[str, Any] | None, entries: Sequence[Entry], name: str, evidence: Evidence | None = None
) -> dict[str, Any]:
    """Return the report's facts. ``name`` is the artefact directory's; ``plan`` is None when none could be loaded."""
    evidence = evidence or Evidence()
    phase = plan["phase"] if plan else {}
    start = _start(entries)
    kind = start.kind
    command = COMMAND.get(kind, COMMAND[EXECUTE])
    requires = phase.get("requires", ()) if kind == EXECUTE else ()
    gates = _gate_rows(entries, command, requires) if kind in COMMAND else []
    ending = ending_of(plan, entries, verified=_checked(kind, entries, gates, plan))
    verdict = verdict_of(kind, ending)
    outcome = verdict.outcome
    warnings = _warnings(plan, gates)
    # R-3 of a rehearsal is what C-08 is of an execution; its preflight is inside the transaction
    changed: Transacted = newest_end(entries, {REHEARSAL: CopyMigrated, ROLLBACK: RolledBack}.get(kind, Migrated))
    verified = newest_end(entries, CopyVerified if kind == REHEARSAL else Verified)
    undone = newest_end(entries, RolledBack)
    backup, preflight = newest_end(entries, BackupMade), newest_end(entries, PreflightRun)
    conditions = records_of(entries, ConditionsEvaluated)[-1:]
    transaction = changed.transaction or {}
    changing = CopyMigrated.step if kind == REHEARSAL else command
    part = "rollback" if kind == ROLLBACK else "ddl"
    expect = phase.get("rollback", {}) if kind == ROLLBACK else phase.get("expect", {})
    sent = commit_time(entries, changing)
    statements = statement_rows(
        plan[part] if plan else None, expect.get("rows", {}), entries, changing, transaction, evidence.sql
    )
    rehearsal = (plan or {}).get("rehearsal") or {}
    known_locks = evidence.locks or rehearsal.get("locks", ())
    return {
        "format": FORMAT,
        "bundle": name,
        "title": title_of(
            kind, f"{start.phase} {phase.get('revision', '')}".strip(), start.environment, outcome, warnings
        ),
        "directory": start.path,
        "outcome": outcome.value,
        "kind": kind,
        "approved": _approved(gates),
        "warnings": warnings,
        "undone": kind == ROLLBACK and ending in (Ending.SUCCESS, Ending.NOT_VERIFIED, Ending.INCOMPLETE),
        "sentence": verdict.sentence,
        "next_step": verdict.next_step,
        "undoes": (start.execution or "") if kind == ROLLBACK else "",
        "earlier": start.earlier or [],
        "verifies": (start.execution or "") if kind == VERIFICATION else "",
        "losses": undone.losses or [],
        "reason": "" if outcome in (RunOutcome.SUCCESS, RunOutcome.DRAFTED) else _reason(entries),
        "touched": touched(start, entries, ending, command),
        "phase": {
            "phase": start.phase,
            "title": phase.get("title", ""),
            "revision": phase.get("revision", ""),
        },
        "predecessor": predecessor(plan),
        "approvals": approvals_of(gates),
        "environment": start.environment,
        "host": start.host,
        "operator": start.operator,
        "closed": start.closed or [],
        "started": entries[0].at if entries else "",
        "ended": entries[-1].at if entries else "",
        "seconds": seconds_between(entries[0].at, entries[-1].at) if entries else 0.0,
        "identity": start.identity,
        "digests": _digests(plan, start),
        "conditions": conditions[0].conditions if conditions else [],
        "backup": backup.backup or {},
        "removed": backup.removed or [],
        "artefacts": list(evidence.artefacts),
        "fingerprints": {
            "before": newest_end(entries, SchemaRecorded).fingerprint or "",
            "after": verified.fingerprint or changed.fingerprint or "",
        },
        "unchanged": None if kind == REHEARSAL else changed.unchanged,
        "commands": command_rows(entries),
        "gates": without_approvals(gates),
        "preflight": check_rows(preflight.checks or transaction.get("preflight", [])),
        "migration": {
            "command": changing,
            "xid": transaction.get("xid", ""),
            "pid": transaction.get("pid"),
            "attempts": transaction.get("attempts"),
            "outcome": changed.outcome or "",
            "commit_sent": sent,
            "statements": statements,
            "result": result_rows(expect.get("result"), transaction.get("result")),
            "checks": check_rows(transaction.get("checks") or []),
            "locks": lock_rows(transaction, known_locks if part == "ddl" else (), statements, sent),
            "rewrites": list(transaction.get("rewrites") or ()),
        },
        "data": data_rows(
            transaction, (rehearsal.get("rollback", {}) if part == "rollback" else rehearsal).get("data")
        ),
        "unproved": transaction.get("unproved", []),
        "expected_tags": expect.get("tags", {}),
        "verification": check_rows(verified.checks or []),
        # that of a rollback's transaction compares with the schema before the phase
        "diff": ({"text": undone.changes} if undone.changes else {})
        if kind == ROLLBACK
        else verified.diff or transaction.get("diff", {}),
        "restored": undone.restored if kind == ROLLBACK else None,
        "new_columns": list(evidence.new_columns),
        "objects": {
            "before": newest_end(entries, SchemaRecorded).objects,
            "after": verified.objects,
        },
        "row_counts": count_rows(phase, newest_end(entries, DataRecorded).row_counts or {}, verified.row_counts),
        "measured": measured_rows(phase, verified.measured or [], evidence.rehearsed, backup.backup or {}),
        "notes": [measure["note"] for measure in phase.get("measure", []) if measure.get("note")],
        "deviations": verified.deviations or [],
        "elsewhere": verified.elsewhere or [],
        "non_scope": _non_scope(phase, verified.non_scope or []),
        "triggers": _triggers(start, entries, ending),
        "rollback_command": (
            rollback_command(start, name)
            if kind == EXECUTE and outcome in (RunOutcome.COMMITTED_NOT_VERIFIED, RunOutcome.COMMITTED_INCOMPLETE)
            else ""
        ),
        "next_commands": _next_commands(start, outcome, name),
        "cannot_restore": phase.get("rollback", {}).get("cannot_restore", []),
        "cross_references": phase.get("cross_references", []),
        "plan_source": start.source or "",
    }


def _start(entries: Sequence[Entry]) -> RunOpened:
    """Return the opening of the run, or what is known of one that could not be opened; the path is where it is now."""
    start = opening_of(entries)
    if start is None:
        refused = records_of(entries, RunNotOpened)
        start = RunOpened(**refused[0].to_entry()) if refused else RunOpened()
    here = records_of(entries, RunContinued)[-1:]
    return replace(start, path=here[0].path) if here else start


def _digests(plan: Mapping[str, Any] | None, start: RunOpened) -> dict[str, str]:
    if plan is None:
        return {}
    files = {plan[part]["file"]: plan[part]["sha256"] for part in ("definition", "ddl", "rollback")}
    return {"plan": start.plan_sha256, **files}


def _non_scope(phase: Mapping[str, Any], checked: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    results = {check["id"]: check for check in checked}
    rows = []
    for item in phase.get("non_scope", []):
        result = results.get(item["id"])
        if item.get("not_attempted"):
            status, found = "not attempted", "not attempted by this run"
        elif result is None:
            status, found = "not checked", "the run ended before this check"
        else:
            status, found = result["status"], result["found"]
        rows.append({"id": item["id"], "title": item["title"], "status": status, "found": found})
    return rows


def _playbook(name: str, start: RunOpened, *words: str) -> str:
    """Return the command of a playbook on the inventory that the run was opened with."""
    inventory = [word for source in start.inventory for word in ("-i", source)]
    return " ".join(shlex.quote(word) for word in ("ansible-playbook", f"incomex.phasegate.{name}", *inventory, *words))


def rollback_command(start: RunOpened, name: str) -> str:
    """Return the one command that rolls an execution back, from how its run was opened; '' if that is not recorded."""
    if not start.path:
        return ""
    about = [*extra_var("phasegate_execution", start.path), *extra_var("phasegate_confirm", name)]
    return _playbook("rollback", start, "-l", start.host, *about)


def _next_commands(start: RunOpened, outcome: RunOutcome, name: str) -> list[dict[str, str]]:
    """Return the commands of the next step."""
    commands = []
    if start.path:
        about = [*extra_var("phasegate_hosts", start.host), *extra_var("phasegate_bundle", start.path)]
        audit = _playbook("audit", start, *about)
        commands.append({"title": "Check this bundle", "command": audit})
        if start.kind == EXECUTE and outcome == RunOutcome.SUCCESS:
            # it runs on the controller, where a reviewer has their key
            sign = " ".join(
                [
                    "ansible-playbook incomex.phasegate.approve",
                    quoted_extra_var("phasegate_bundle", f"COPY_OF/{name}"),
                    "-e phasegate_reviewer=NAME -e phasegate_key=KEY",
                ]
            )
            commands.append({"title": "Sign this report, where a later phase requires it", "command": sign})
    return commands
