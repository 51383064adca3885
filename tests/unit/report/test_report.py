# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: its facts for every way that a run can end, and that no text in it can pose as anything else."""

from __future__ import annotations

import functools
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, escaped, visible
from ansible_collections.incomex.phasegate.plugins.module_utils._report.build import FORMAT, build_report
from ansible_collections.incomex.phasegate.plugins.module_utils._report.evidence import Evidence
from ansible_collections.incomex.phasegate.plugins.module_utils._report.rendering import (
    REPORTS,
    render_report,
    report_markdown,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_text import (
    driver_log,
    gate_table,
    headline,
    migration_log,
    summary,
    tag_summary,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.vocabulary import TRIGGERS
from ansible_collections.incomex.phasegate.tests.support.markdown import (
    HOSTILE,
    INLINE,
    inline_texts,
    inline_types,
    parse,
    structure,
    texts,
)
from ansible_collections.incomex.phasegate.tests.support.phase_files import BETA
from ansible_collections.incomex.phasegate.tests.support.reviewers import frozen_plan
from hypothesis import given, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PLAN, BETA_PLAN = frozen_plan(), frozen_plan(BETA)
# the runs below have one check
for one in (PLAN, BETA_PLAN):
    one["phase"]["verify"] = one["phase"]["verify"][:1]
NAME = "alpha_prod_20260516T040000Z"
EVIDENCE = Evidence(
    artefacts=[{"name": "backup.dump", "sha256": "1" * 64, "size": 19322, "about": "the backup"}],
    new_columns=[{"schema": "public", "table": "t", "column": "id", "type": "uuid"}],
    rehearsed=[{"id": "updated_at", "changed": 85, "distinct_after": 1, "minimum_after": "m", "maximum_after": "n"}],
)

Events = list[tuple[str, str, dict[str, Any]]]


def gate(name: str, status: str = "PASS") -> dict[str, Any]:
    return {"id": name, "status": status, "title": f"title of {name}", "expected": "e", "found": "f", "next_step": ""}


def check(name: str, status: str = "PASS", found: str = "86") -> dict[str, Any]:
    return {"id": name, "title": f"title of {name}", "status": status, "expected": "86", "found": found}


def change(action: str, kind: str = "column", name: str = "public.t.a") -> dict[str, Any]:
    return {"action": action, "kind": kind, "name": name}


OPEN = {
    "phase": "alpha", "environment": "prod", "host": "db1", "operator": "huyen@desk", "kind": "execute",
    "identity": {"database": "directus", "in_recovery": False}, "plan_sha256": "3" * 64, "closed": ["alpha_prod_1"],
    "earlier": [{"execution": "alpha_prod_0", "at": "2026-05-15T03:12:00Z", "plan_sha256": "4" * 64, "undone_by": "alpha_prod_rollback_0"}],
    "inventory": ["inventory/prod"], "path": f"/srv/{NAME}",
}  # fmt: skip
BACKUP = {
    "method": "custom", "file": "backup.dump", "size": 19322, "sha256": "1" * 64, "started_epoch": 1.0,
    "database": "directus", "system_identifier": "7", "server_version": "16.13", "program_version": "pg_dump 16.13",
    "compression": "gzip", "toc_entries": 37, "read_in_full": True, "not_dumped": ["passwords of roles"], "proof": {},
}  # fmt: skip
STATEMENTS = [
    {"n": 2, "line": 10, "tag": "SET", "rows": 0, "milliseconds": 0.1},
    {"n": 3, "line": 11, "tag": "SET", "rows": 0, "milliseconds": 0.1},
    {"n": 8, "line": 29, "tag": "UPDATE", "rows": 86, "milliseconds": 1.5},
]
TRANSACTION: dict[str, Any] = {
    "xid": "732", "pid": 7, "attempts": 1, "statements": STATEMENTS, "result": [{"draft": 86, "name": "x"}],
    "checks": [check("VA-1")], "preflight": [check("P-1")], "diff": {"text": "no difference"},
    "locks": [{"relation": "public.t", "mode": "AccessExclusiveLock"}, {"relation": "public.t", "mode": "AccessShareLock"}],
}  # fmt: skip
LINES = {"removed": 1, "added": 1, "removed_lines": ["CREATE TABLE a ("], "added_lines": ["CREATE TABLE b ("]}
DIFF = {
    "ok": True,
    "offending": [],
    "text": "1 added (1 additive)\nadditive:\n  column public.t.a added",
    "lines": LINES,
}
MEASURED = {
    "id": "updated_at", "relation": "public.t", "column": "updated_at", "rows": 86, "changed": 86, "distinct_before": 3, "distinct_after": 1,
    "minimum_before": "2026-04-29", "minimum_after": "2026-05-16", "maximum_before": "2026-04-30", "maximum_after": None,
}  # fmt: skip
CONDITION = {"id": "server_space", "status": "OK", "expected": "1 MiB free", "found": "2 MiB free", "next_step": ""}
PREPARED: Events = [
    ("run", "open", OPEN),
    ("run", "conditions", {"conditions": [CONDITION]}),
    ("C-01", "intent", {}),
    ("C-01", "done", {"backup": BACKUP, "removed": ["backup.dump.partial"]}),
    ("C-03", "done", {"fingerprint": "a" * 64}),
    ("C-06", "done", {"checks": [check("P-1"), check("P-2")]}),
]
BEGUN: Events = [*PREPARED, ("C-07", "intent", {}), ("C-07", "transaction", {"xid": "732"})]
DONE: dict[str, Any] = {
    "outcome": "COMMITTED",
    "transaction": TRANSACTION,
    "gates": [gate("G-1"), gate("G-2")],
    "fingerprint": "b" * 64,
}
COMMITTED: Events = [*BEGUN, ("C-07", "commit", {}), ("C-07", "done", DONE)]
VERIFIED = {
    "checks": [check("VA-1")], "diff": DIFF, "deviations": [], "measured": [MEASURED], "fingerprint": "b" * 64,
    "non_scope": [check("NS-1", found="[]"), check("NS-2", "FAIL", "1")],
}  # fmt: skip


def seal(outcome: str, events: Events, reason: str = "") -> Events:
    failed: Events = [("C-07", "failed", {"outcome": outcome, "reason": reason})] if outcome else []
    return [*events, *failed, ("run", "seal", {})]


def verified(event: str = "done", **changes: Any) -> Events:
    return [*COMMITTED, ("C-08", event, {**VERIFIED, **changes}), ("run", "seal", {})]


def entries_of(events: Events) -> list[Entry]:
    return [
        Entry(number, f"2026-05-16T04:00:{number:02}.000Z", step, event, data)
        for number, (step, event, data) in enumerate(events, start=1)
    ]


def report_of(events: Events, plan: dict[str, Any] | None = PLAN) -> dict[str, Any]:
    report = build_report(plan, entries_of(events), NAME, EVIDENCE)
    # report.json is written from it
    assert json.loads(json.dumps(report)) == report
    return report


ROLLED: Events = [
    ("run", "open", {**OPEN, "kind": "rollback", "execution": "alpha_prod_1"}),
    ("C-09", "intent", {}),
    ("C-09", "transaction", {"xid": "733"}),
]
LOSS = {"what": "rows of public.t", "rows": 3}
UNDONE = {"outcome": "COMMITTED", "transaction": TRANSACTION, "restored": True, "losses": [LOSS],
    "changes": "1 removed (1 removal)"}  # fmt: skip
REHEARSED: Events = [
    ("run", "open", {**OPEN, "kind": "rehearsal"}),
    ("R-2", "done", {"transaction": TRANSACTION}),
    ("R-3", "done", VERIFIED),
    ("R-4", "done", {"restored": True}),
    ("R-5", "done", {}),
]
COPY: Events = [REHEARSED[0], ("R-2", "intent", {}), ("R-2", "transaction", {"xid": "5"})]
BETA_DONE: Events = [*COMMITTED, ("C-07", "statement", {"n": 14})]


def not_opened(kind: str, **about: str) -> Events:
    return [
        ("run", "not opened", {"phase": "alpha", "environment": "prod", "kind": kind, **about}),
        ("run", "failed", {"reason": "no file"}),
        ("run", "seal", {}),
    ]


#: outcome → events and plan
RUNS: dict[str, tuple[str, Events, dict[str, Any] | None]] = {
    "success": ("SUCCESS", verified(), PLAN),
    "without a plan": ("STOPPED", [("run", "not opened", {"phase": "alpha"}), ("run", "failed", {"reason": "no file"})], None),
    "stopped by a condition": ("STOPPED", seal("", PREPARED[:2]), PLAN),
    "stopped at a gate": ("STOPPED", seal("NOT_STARTED", PREPARED, "Stopped at G-2."), PLAN),
    "rolled back": ("ROLLED_BACK", seal("ROLLED_BACK", BEGUN, "C-07: a declared count was not met."), PLAN),
    "unknown": ("UNKNOWN", seal("", BEGUN), PLAN),
    "unknown after resolution": ("UNKNOWN", seal("UNKNOWN", BEGUN, "The server did not answer."), PLAN),
    "incomplete": ("COMMITTED_INCOMPLETE", [*BETA_DONE, ("C-07", "statement failed", {"n": 14, "left": "invalid index a.b"})], BETA_PLAN),
    "complete": ("SUCCESS", [*BETA_DONE, ("C-07", "statement done", {"n": 14}), ("C-08", "done", VERIFIED)], BETA_PLAN),
    "never verified": ("COMMITTED_NOT_VERIFIED", COMMITTED, PLAN),
    "a check failed": ("COMMITTED_NOT_VERIFIED", verified("failed", checks=[check("VA-1", "FAIL", "85")]), PLAN),
    "a check less": ("COMMITTED_NOT_VERIFIED", verified(checks=[check("VA-2")]), PLAN),
    "a check without a subject": ("COMMITTED_NOT_VERIFIED", verified(checks=[check("VA-1", "NOT RUN")]), PLAN),
    "no check": ("COMMITTED_NOT_VERIFIED", verified(checks=[]), PLAN),
    "the diff failed": ("COMMITTED_NOT_VERIFIED", verified(diff={**DIFF, "ok": False}), PLAN),
    "a figure deviated": ("COMMITTED_NOT_VERIFIED", verified("failed", reason="C-08: it moved.", deviations=["rows of public.t: 85"]), PLAN),
    "a gate failed": ("COMMITTED_NOT_VERIFIED", [*verified(), ("C-07", "done", {"gates": [gate("G-2", "FAIL")]})], PLAN),
    "something else ran": ("COMMITTED_NOT_VERIFIED", [*verified(), ("X-1", "done", {})], PLAN),
    "undone": ("SUCCESS", [*ROLLED, ("C-09", "done", UNDONE)], PLAN),
    "undone, other schema": ("COMMITTED_NOT_VERIFIED", [*ROLLED, ("C-09", "done", {**UNDONE, "restored": False})], PLAN),
    "undoing stopped": ("STOPPED", ROLLED[:2], PLAN),
    "undoing refused": ("STOPPED", [*ROLLED[:2], ("C-09", "failed", {"outcome": "ROLLED_BACK", "losses": [LOSS]})], PLAN),
    "undoing not opened": ("STOPPED", not_opened("rollback", execution="alpha_prod_1"), None),
    "undoing aborted": ("ABORTED", [*ROLLED, ("C-09", "failed", {"outcome": "ROLLED_BACK"})], PLAN),
    "undoing unknown": ("UNKNOWN", ROLLED, PLAN),
    "rehearsed": ("SUCCESS", REHEARSED, PLAN),
    "rehearsal not opened": ("STOPPED", not_opened("rehearsal"), None),
    "rehearsal stopped": ("STOPPED", [REHEARSED[0], ("R-1", "failed", {"reason": "no space"})], PLAN),
    "rehearsal rolled back": ("ROLLED_BACK", [*COPY, ("R-2", "failed", {"outcome": "ROLLED_BACK", "reason": "C-07: no"})], PLAN),
    "rehearsal unknown": ("UNKNOWN", COPY, PLAN),
    "rehearsal not verified": ("COMMITTED_NOT_VERIFIED", [*REHEARSED[:2], ("R-3", "failed", {"reason": "VA-1"})], PLAN),
    "rehearsal not undone": ("ROLLBACK_FAILED", [*REHEARSED[:3], ("R-4", "failed", {"reason": "C-09: no"})], PLAN),
    "rehearsal unfinished": ("ROLLBACK_FAILED", REHEARSED[:3], PLAN),
    "rehearsal not repeated": ("REPEAT_FAILED", REHEARSED[:4], PLAN),
    "draft observed": ("DRAFTED", [*REHEARSED[:2], ("R-3", "failed", {"reason": "VA-1"}), REHEARSED[3],
                                   ("run", "observed", {"sha256": "0" * 64})], PLAN),
    "rehearsal failed after all": ("FAILED", [*REHEARSED, ("run", "failed", {"reason": "no space"})], PLAN),
    "verified again in vain": ("NOT_VERIFIED", not_opened("verification", execution="alpha_prod_1"), None),
}  # fmt: skip


def report(name: str) -> dict[str, Any]:
    return report_of(*RUNS[name][1:])


# --- its form ----------------------------------------------------------------------------------------------------


SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))


def open_objects(schema: Any, path: str = "") -> Iterator[str]:
    """Yield where a schema describes an object with keys that it does not name."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("additionalProperties") is not False:
            yield path
        for name, value in schema.items():
            yield from open_objects(value, f"{path}/{name}")


def test_the_schema_is_one_and_names_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert list(open_objects(SCHEMA)) == []
    assert SCHEMA["properties"]["format"]["const"] == FORMAT
    assert set(SCHEMA["required"]) == set(SCHEMA["properties"]) == set(report("success"))


def test_the_documentation_says_where_every_key_is() -> None:
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    assert set(SCHEMA["properties"]) - {"format"} <= set(re.findall(r"`([a-z_]+)", page))
    sections = {
        part.strip() for row in re.findall(r"^\| [^|]+ \| ([^|]+) \|", page, re.MULTILINE) for part in row.split(",")
    }
    assert set(SECTIONS) <= sections


@pytest.mark.parametrize("name", RUNS)
def test_every_report_is_valid(name: str) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(report(name))


@pytest.mark.parametrize("name", RUNS)
def test_every_form_is_made_from_report_json_alone(name: str) -> None:
    texts = render_report(report(name))
    assert tuple(texts) == REPORTS
    assert render_report(json.loads(texts["report.json"])) == texts


# --- the facts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_how_a_run_ended(name: str) -> None:
    built = report(name)
    assert built["outcome"] == RUNS[name][0]
    # each form says it
    assert summary(built).startswith(f"{built['title']}\n{built['sentence']}\n\noutcome       {built['outcome']}\n")
    read = inline_texts(parse(report_markdown(built)))
    assert read[0] == built["title"]
    assert read[0].endswith(f" {built['environment']}: {built['outcome']}")
    assert read[1] == built["sentence"]
    assert built["next_step"] in read


def statuses(name: str) -> dict[str, str]:
    return {one["id"]: one["status"] for one in report(name)["triggers"]}


@pytest.mark.parametrize(
    ("events", "triggered"),
    [
        (verified(), {}),
        (verified(checks=[check("VA-1", "FAIL"), check("VA-2")]), {"T-2": "VA-1"}),
        (verified(deviations=["one", "two"]), {"T-3": "one; two"}),
        (verified(diff={**DIFF, "offending": [change("removed")]}), {"T-4": "public.t.a"}),
        (verified(diff={**DIFF, "offending": [change("added")]}), {"T-5": "public.t.a"}),
        (
            verified(diff={**DIFF, "offending": [change("changed", "index", "public.i")]}),
            {"T-4": "public.i", "T-6": "public.i"},
        ),
        (RUNS["incomplete"][1], {"T-6": "invalid index a.b"}),
        (RUNS["unknown"][1], {"T-1": "UNKNOWN"}),
    ],
)
def test_what_is_triggered(events: Events, triggered: dict[str, str]) -> None:
    rows = report_of(events, BETA_PLAN if events == RUNS["incomplete"][1] else PLAN)["triggers"]
    assert {row["id"]: row["found"] for row in rows if row["status"] == "TRIGGERED"} == triggered
    assert [row["id"] for row in rows] == list(TRIGGERS)
    for row in rows[-3:]:
        assert (row["status"], row["found"]) == ("NOT EVALUATED", "cannot be evaluated by this run")


def test_nothing_is_triggered_where_nothing_was_committed() -> None:
    assert set(statuses("rolled back").values()) == {"NOT EVALUATED"}
    assert set(statuses("success").values()) == {"not triggered", "NOT EVALUATED"}


@pytest.mark.parametrize("name", ["undone", "undoing refused", "undoing not opened"])
def test_a_rollback_was_requested_and_evaluates_no_other_trigger_than_its_own(name: str) -> None:
    assert statuses(name) == {
        "T-1": "NOT EVALUATED" if name != "undone" else "not triggered",
        **{f"T-{number}": "NOT EVALUATED" for number in range(2, 9)},
        "T-9": "TRIGGERED",
    }
    assert "T-9   TRIGGERED" in summary(report(name))


def test_a_rehearsal_triggers_nothing() -> None:
    assert {one["found"] for one in report("rehearsed")["triggers"]} == {
        "a rehearsal changes nothing that could be rolled back"
    }


def test_a_refused_rollback_lost_nothing() -> None:
    text = report_markdown(report("undoing refused"))
    assert "- Would have been lost, had it committed: rows of public.t, 3 rows" in text
    assert "Lost with it" not in text
    assert "to undo       alpha_prod_1" in summary(report("undoing refused"))


@pytest.mark.parametrize(
    "name", ["without a plan", "undoing not opened", "rehearsal not opened", "verified again in vain"]
)
def test_a_run_that_was_not_opened_passed_no_gate(name: str) -> None:
    assert {one["status"] for one in report(name)["gates"]} <= {"NOT REACHED", "N/A"}


def test_each_kind_of_run_has_its_own_title() -> None:
    titles = {name: report(name)["title"] for name in ("success", "undone", "rehearsed", "verified again in vain")}
    assert titles == {
        "success": "Execution of phase alpha r2 on prod: SUCCESS",
        "undone": "Rollback of phase alpha r2 on prod: SUCCESS",
        "rehearsed": "Rehearsal of phase alpha r2 for prod: SUCCESS",
        "verified again in vain": "Verification of the applied phase alpha on prod: NOT_VERIFIED",
    }


def test_all_gates_are_there_each_as_judged_last() -> None:
    events = [*COMMITTED, ("C-07", "done", {"gates": [gate("G-2", "FAIL")]})]
    built = {one["id"]: one["status"] for one in report_of(events)["gates"]}
    assert built == {
        "G-1": "PASS", "G-2": "FAIL", **{f"G-{n}": "NOT REACHED" for n in range(3, 11)}, "G-11": "PASS"
    }  # fmt: skip
    assert {one["id"]: one["status"] for one in report("something else ran")["gates"]}["G-11"] == "FAIL"
    assert report("rehearsed")["gates"] == []


def test_the_judgement_of_a_required_phase_stays() -> None:
    plan = {**PLAN, "phase": {**PLAN["phase"], "requires": ["other"]}}
    events = [*COMMITTED, ("C-07", "done", {"gates": [gate("G-11")]})]
    for wanted, title in ((plan, "title of G-11"), (PLAN, report("success")["gates"][-1]["title"])):
        assert report_of(events, wanted)["gates"][-1]["title"] == title


def test_every_non_scope_statement_has_its_status() -> None:
    found = {one["id"]: (one["status"], one["found"]) for one in report("success")["non_scope"]}
    assert found["NS-1"] == ("PASS", "[]")
    assert found["NS-2"] == ("FAIL", "1")
    assert found["NS-3"] == ("not checked", "the run ended before this check")
    assert found["NS-6"] == ("not attempted", "not attempted by this run")


def test_the_commands_have_their_times() -> None:
    rows = {one["id"]: one for one in report("success")["commands"]}
    assert list(rows) == [f"C-0{number}" for number in range(1, 10)]
    assert (rows["C-01"]["status"], rows["C-01"]["started"], rows["C-01"]["seconds"]) == (
        "done", "2026-05-16T04:00:03.000Z", 1.0
    )  # fmt: skip
    assert (rows["C-02"]["status"], rows["C-02"]["seconds"]) == ("not run", None)
    unfinished = {one["id"]: one["status"] for one in report("unknown")["commands"]}
    assert unfinished["C-07"] == "unfinished"
    assert {"R-2", "R-5"} <= {one["id"] for one in report("rehearsed")["commands"]}


def test_the_reason_is_the_first_failure_of_the_run_itself() -> None:
    earlier: Events = [*BEGUN, ("C-07", "failed", {"outcome": "COMMITTED", "reason": "an earlier run's"})]
    go_on: Events = [("run", "continue", {"path": "/srv/second"})]
    mine: Events = [("C-08", "failed", {"reason": "mine"}), ("run", "failed", {"reason": "the last"})]
    built = report_of([*earlier, *go_on, *mine])
    assert built["reason"] == "mine"
    assert "phasegate_execution=/srv/second" in built["rollback_command"]
    assert report("success")["reason"] == ""


@pytest.mark.parametrize("name", RUNS)
def test_only_what_was_committed_unfinished_can_be_rolled_back(name: str) -> None:
    built = report(name)
    wanted = built["kind"] == "execute" and built["outcome"].startswith("COMMITTED_")
    assert bool(built["rollback_command"]) == wanted
    for text in (summary(built), report_markdown(built)):
        assert ("incomex.phasegate.rollback" in text) == wanted


def test_the_command_is_quoted_for_the_shell() -> None:
    events = [("run", "open", {**OPEN, "path": "/srv/it's", "host": "$(id)"}), *COMMITTED[1:]]
    assert shlex.split(report_of(events)["rollback_command"]) == [
        "ansible-playbook", "incomex.phasegate.rollback", "-i", "inventory/prod", "-l", "$(id)",
        "-e", '{"phasegate_execution": "/srv/it\'s"}', "-e", f"phasegate_confirm={NAME}",
    ]  # fmt: skip
    del events[0][2]["path"]
    assert report_of(events)["rollback_command"] == ""


def test_what_else_the_facts_hold() -> None:
    built = report("success")
    assert built["digests"] == {
        "plan": "3" * 64, **{PLAN[part]["file"]: PLAN[part]["sha256"] for part in ("definition", "ddl", "rollback")}
    }  # fmt: skip
    assert built["fingerprints"] == {"before": "a" * 64, "after": "b" * 64}
    assert (built["started"], built["ended"]) == ("2026-05-16T04:00:01.000Z", "2026-05-16T04:00:12.000Z")
    assert built["seconds"] == 11.0
    assert report("without a plan")["digests"] == {}
    assert report("undone")["losses"] == [LOSS]
    # a rehearsal's preflight is inside its transaction
    assert [one["id"] for one in report("rehearsed")["preflight"]] == ["P-1"]


# --- what people read --------------------------------------------------------------------------------------------


@pytest.mark.fault("register-removed")
def test_an_outcome_without_enforced_approvals_says_so_wherever_people_read_it() -> None:
    done = {**DONE, "gates": [gate("G-1", "NOT ENFORCED"), gate("G-2")]}
    events = [*COMMITTED[:-1], ("C-07", "done", done), ("C-08", "done", VERIFIED), ("run", "seal", {})]
    built = report_of(events)
    said = "SUCCESS (approvals were not enforced)"
    assert dict(headline(built))["outcome"] == said
    assert said in report_markdown(built).splitlines()[0]
    assert f"outcome       {said}\n" in summary(built)
    # programs read the plain word, and whether it was approved
    assert (built["outcome"], built["approved"]) == ("SUCCESS", False)
    assert report("success")["approved"] is True


def test_the_headline() -> None:
    assert headline(report("success")) == [
        ("outcome", "SUCCESS"), ("phase", "alpha r2"), ("environment", "prod"), ("statements", "2 x SET, UPDATE 86"),
        ("preflight", "2/2"), ("verification", "1/1"), ("schema diff", "removed 1, added 1"),
        ("updated_at", "86 of 86 rows changed, distinct 3 -> 1"), ("seconds", "11.0"),
    ]  # fmt: skip
    assert ("undoes", "alpha_prod_1") in headline(report("undone"))
    assert "preflight" not in dict(headline(report("undone")))
    assert dict(headline(report("stopped by a condition"))).items() >= {
        "statements": "none", "preflight": "not run", "verification": "not run", "schema diff": "not run"
    }.items()  # fmt: skip


def test_the_tags_are_counted() -> None:
    tags = [("SET", 0), ("UPDATE", 5), ("ALTER TABLE", 0), ("SET", 0), ("UPDATE", 5), ("UPDATE", 6), ("SELECT", 1)]
    counted = tag_summary({"tag": tag, "rows": rows} for tag, rows in tags)
    assert counted == "2 x SET, 2 x UPDATE 5, ALTER TABLE, UPDATE 6, SELECT"


def test_the_summary_of_a_failure() -> None:
    built = report("a check failed")
    built["reason"] = "C-08: 0/1 checks passed.\n  expected: 86\n  found: 85"
    lines = summary(built).splitlines()
    first = lines.index("Reason")
    assert lines[first : first + 5] == ["Reason", "  C-08: 0/1 checks passed.", "    expected: 86", "    found: 85", ""]
    assert [line[:19].split() for line in lines if line.startswith("G-")][:3] == [
        ["G-1", "PASS"], ["G-2", "PASS"], ["G-3", "NOT", "REACHED"]
    ]  # fmt: skip
    assert "T-2   TRIGGERED     committed, but a verification check failed: VA-1" in lines
    assert lines[-1] == f"bundle        {NAME}"


SECTIONS = [
    "Gates", "Target", "Plan and approvals", "Pre-run conditions", "Artefacts", "DDL source", "Commands", "Preflight", "Migration",
    "Changed data", "Verification", "Measured columns", "Created and changed objects", "Not in scope", "Rollback", "Final posture",
    "Next step", "Cross-references",
]  # fmt: skip


def test_the_report_has_its_sections() -> None:
    text = report_markdown(report("success"))
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    bare = report_markdown(report("without a plan"))
    assert [line[3:] for line in bare.splitlines() if line.startswith("## ")] == [
        one for one in SECTIONS if one not in ("Plan and approvals", "Pre-run conditions")
    ]
    rehearsed = report_markdown(report("rehearsed"))
    assert "## Gates" not in rehearsed
    assert "## Plan and approvals" not in rehearsed


def test_a_difference_without_its_list_of_changes_is_shown_as_text() -> None:
    changes = "1 removed (1 destructive)\ndestructive:\n  table app.t removed"
    events = [*ROLLED, ("C-09", "done", {**UNDONE, "changes": changes})]
    assert "  table app.t removed" in report_markdown(report_of(events)).splitlines()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "success",
            [
                "# Execution of phase alpha r2 on prod: SUCCESS",
                "| updated_at | 86 of 86 rows changed, distinct 3 -> 1 |",
                "| G-1 | PASS | title of G-1 | f |",
                "| in recovery | false |",
                "| run by | huyen@desk |",
                "| phase's SQL sent | yes |",
                "| change committed | yes |",
                "| server_space | OK | 1 MiB free | 2 MiB free |",
                "| backup.dump | `" + "1" * 64 + "` | 19322 | the backup |",
                "Interrupted runs that were sealed first: alpha_prod_1.",
                "Backup: 19322 bytes, compression gzip, 37 TOC entries, read in full by pg_restore, SHA-256 unchanged.",
                "Not in the backup: passwords of roles.",
                "Leftovers of a killed backup, deleted: backup.dump.partial.",
                "| P-2 | PASS | title of P-2 | `86` | `86` |",
                "Transaction 732, attempt 1: 2 x SET, UPDATE 86.",
                "| 8 | 29 | UPDATE | 86 | 86 | 1.5 |  |",
                "| `public.t` | AccessExclusiveLock |",
                "| draft | `86` |  |  |",
                "DDL lines: removed 1, added 1.",
                "-CREATE TABLE a (",
                "+CREATE TABLE b (",
                "`public.t.updated_at`: 86 of 86 rows changed.",
                "| rows changed |  | `86` | `86` | MATCH | `85` |",
                "| distinct | `3` | `1` | `1` | MATCH | `1` |",
                "| maximum | `2026-04-30` |  |  |  | `n` |",
                "C-09 did not run: a rollback never happens by itself.",
                "- Backfill rule for authority: `BR-4`",
            ],
        ),
        (
            "undone",
            [
                "# Rollback of phase alpha r2 on prod: SUCCESS",
                "| rollback run | yes |",
                "This run is C-09, started by an operator, for `alpha_prod_1`.",
                "| alpha_prod_0 | 2026-05-15T03:12:00Z | alpha_prod_rollback_0 |",
                "- Lost with it, as accepted: rows of public.t, 3 rows",
                "The schema after C-09 equals the one before the phase, by fingerprint.",
                "1 removed (1 removal)",
                "Review this report. See above for what a rollback cannot restore.",
            ],
        ),
        ("undoing stopped", ["| rollback run | no |"]),
        ("a figure deviated", ["- rows of public.t: 85"]),
        ("stopped at a gate", ["```text", "Stopped at G-2.", "No statement was run.", "Not measured.", "No diff was made."]),
        ("without a plan", ["None was read.", "Not read.", "Nothing was declared.", "None."]),
    ],
)  # fmt: skip
def test_what_the_report_says(name: str, lines: list[str]) -> None:
    written = report_markdown(report(name)).splitlines()
    for line in lines:
        assert line in written


def test_the_logs() -> None:
    reasons = [("C-07", "failed", {"reason": "one\n  two"})]
    assert driver_log(entries_of([*PREPARED[2:4], *reasons])).splitlines() == [
        "2026-05-16T04:00:01.000Z  C-01  intent",
        "2026-05-16T04:00:02.000Z  C-01  done",
        "2026-05-16T04:00:03.000Z  C-07  failed",
        f"{'':33}one",
        f"{'':33}  two",
    ]
    assert migration_log(Migrated(**DONE)).splitlines() == [
        "outcome COMMITTED", "transaction 732", "",
        "gates", "G-1   PASS          expected e; found f", "G-2   PASS          expected e; found f", "",
        "statements", "   2  line   10  SET 0  0.1 ms", "   3  line   11  SET 0  0.1 ms", "   8  line   29  UPDATE 86  1.5 ms", "",
        "trailing SELECT", '{"draft": 86, "name": "x"}', "",
        "checks inside the transaction", "VA-1  PASS  86", "",
        "structural diff inside the transaction", "no difference",
    ]  # fmt: skip
    assert migration_log(Migrated()).splitlines()[:2] == ["outcome ", "transaction none"]


# --- hostile texts -----------------------------------------------------------------------------------------------


OWN = ("outcome", "kind", "status", "sentence", "next_step")


def replaced(value: Any, text: str, key: str = "") -> Any:
    """Return facts with each text in them replaced, except the words that are phasegate's own by construction."""
    if isinstance(value, dict):
        return {name: replaced(one, text, name) for name, one in value.items()}
    if isinstance(value, list):
        return [replaced(one, text, key) for one in value]
    return text if isinstance(value, str) and value and key not in OWN else value


def hostile(name: str, text: str) -> dict[str, Any]:
    built = report(name)
    facts: dict[str, Any] = replaced(built, text)
    facts["identity"] = {text: text, "other": text}
    facts["digests"] = {text: text}
    return facts


# between them these have every section and every sentence
BOTH = ["a figure deviated", "undone"]


@functools.cache
def plain(name: str, form: str) -> list[Any]:
    built = hostile(name, "plain")
    return structure(parse(report_markdown(built))) if form == "report" else summary(built).splitlines()


def assert_only_texts(name: str, text: str) -> None:
    source = report_markdown(hostile(name, text))
    tokens = parse(source)
    assert structure(tokens) == plain(name, "report")
    assert inline_types(tokens) <= INLINE
    assert visible(source, keep=LAYOUT) == source


@pytest.mark.fault("hostile-text")
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_no_markup_in_the_report(name: str, text: str) -> None:
    assert_only_texts(name, text)


@given(texts())
@settings(max_examples=30)
def test_no_text_is_markup_in_the_report(text: str) -> None:
    assert_only_texts("a figure deviated", text)


@pytest.mark.fault("hostile-text")
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_no_line_of_the_summary(name: str, text: str) -> None:
    built = hostile(name, text.lstrip(" "))
    written = summary(built)
    assert escaped(written, keep=LAYOUT) == written
    # a reason has as many lines as it has, all of them indented; no other line is
    lines = [line for line in written.splitlines() if not line.startswith("  ")]
    assert len(lines) == len([line for line in plain(name, "summary") if not line.startswith("  ")])
    assert not [line for line in lines if line.startswith("G-1")]
    assert len(gate_table(built).splitlines()) == 11


@pytest.mark.fault("hostile-text")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_no_line_of_a_log(text: str) -> None:
    entries = [Entry(1, text, text, text, {"reason": text}), Entry(2, "at", "C-07", "done", {})]
    log = driver_log(entries)
    assert escaped(log, keep=LAYOUT) == log
    assert len([line for line in log.splitlines() if not line.startswith(" " * 33)]) == 2
    data = replaced({**DONE, "transaction": {**TRANSACTION, "diff": {}}}, text)
    log = migration_log(Migrated(**data))
    assert escaped(log) == log.replace("\n", "\\n")
    assert len(log.splitlines()) == len(
        migration_log(Migrated(**{**DONE, "transaction": {**TRANSACTION, "diff": {}}})).splitlines()
    )


def test_the_auditor_knows_every_report() -> None:
    assert sorted(audit.REPORTS) == sorted(REPORTS)


def test_the_plan_and_its_review_package_are_named_by_their_paths_on_the_controller() -> None:
    path = "/home/anna/plans/alpha_1/plan.json"
    rehearsed = {
        **PLAN,
        "rehearsal": {"bundle": "alpha_prod_rehearsal_1", "seal": "0" * 64, "cluster": {"system_identifier": "1"}},
    }
    events = [("run", "open", {**OPEN, "source": path}), *RUNS["success"][1][1:]]
    text = report_markdown(report_of(events, rehearsed))
    assert f"Read on the controller from `{path}`" in text
    assert "Review package: `/home/anna/plans/alpha_1/review.html`" in text
    # a journal of an earlier release has no path
    assert "Read on the controller" not in report_markdown(report("success"))
