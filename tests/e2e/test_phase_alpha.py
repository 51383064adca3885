# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Phase Alpha as an operator runs it: fresh, again, and with --check, by the checkout's own inventory."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._report.rendering import REPORTS, render_report
from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle, sha256, tree
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR, bin_directory
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, Play, environment, names, play

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.target import Target

ALPHA = ROOT / "playbooks" / "phases" / "alpha"
PREFLIGHT = [f"P-{number}" for number in range(1, 11)]
VERIFICATION = sorted([*(f"VA-{number}" for number in range(1, 17)), "VA-13rows"])
GATES = [f"G-{number}" for number in range(1, 12)]
# What this version may declare openly instead of judging it.
MAY_BE_DECLARED = {"G-1", "G-9", "G-10"}
UNITS = "SELECT unit_id::text, updated_at FROM public.tac_logical_unit ORDER BY unit_id"

# Every task, and whether it changes anything.
COMMANDS = [
    ("Validate inputs", False),
    ("Plan | Read and validate the phase", False),
    ("C-01 ... C-06 | Open a run, start the backup, snapshot and check", True),
    ("C-07 | Migrate", True),
    ("Show the outcome", False),
]

LAYOUT = {
    "SHA256SUMS",
    "SUMMARY.txt",
    "audit.py",
    "backup.dump",
    "backup.json",
    "journal.jsonl",
    "junit.xml",
    "logs/C-06.log",
    "logs/C-07.log",
    "logs/C-08.log",
    "logs/driver.log",
    "plan.json",
    "report.html",
    "report.json",
    "report.md",
    "roles.sql",
    "schema/after.jsonl.gz",
    "schema/after.sql",
    "schema/after_state.json",
    "schema/after_updated_at.csv",
    "schema/before.jsonl.gz",
    "schema/before.sql",
    "schema/before_state.json",
    "schema/before_updated_at.csv",
    "schema/diff.json",
    "schema/diff.txt",
    "sql/migrate.sql",
    "sql/rollback.sql",
}

# The sections that phase-alpha's report of 2026-05-16 had, by a heading of ours and a word that must stand under it.
SECTIONS = {
    "Gates": "G-11",
    "Target": "system identifier",
    "Plan and approvals": "run without a rehearsal",
    "Pre-run conditions": "prepared_transactions",
    "Artefacts": "backup.dump",
    "DDL source": "migrate.sql",
    "Commands": "C-08",
    "Preflight": "10/10",
    "Migration": "UPDATE 86",
    "Changed data": "public.tac_logical_unit",
    "Verification": "17/17",
    "Measured columns": "86 of 86",
    "Created and changed objects": "canonical_address_alias",
    "Not in scope": "No Directus collection",
    "Rollback": "not triggered",
    "Final posture": "committed and verified",
    "Next step": "No further phase starts by itself",
    "Cross-references": "BR-4",
}


@dataclass(frozen=True)
class Before:
    """What the database was before the run, by the oracle."""

    schema: bytes
    units: list[tuple[Any, ...]]
    state: str


def variables(target: Target) -> dict[str, str]:
    """Return what the inventory of the checkout reads for its host ``local01``."""
    return {
        "PHASEGATE_LOCAL_BIN": str(bin_directory()),
        "PHASEGATE_LOCAL_PRODUCTION": str(target.cluster.socket_directory),
        "PHASEGATE_LOCAL_ROOT": str(target.root),
    }


@pytest.fixture(scope="module")
def before(shared_target: Target) -> Before:
    return Before(shared_target.dump("--schema-only"), shared_target.rows(UNITS), shared_target.state())


@pytest.fixture(scope="module")
def checked_before(shared_target: Target, before: Before) -> Play:
    """``--check`` on the fresh database."""
    return play(
        shared_target.directory,
        "phase_alpha.yml",
        limit="local",
        arguments="--check",
        variables=variables(shared_target),
    )


@pytest.fixture(scope="module")
def check_left_behind(shared_target: Target, checked_before: Play) -> tuple[str, bool]:
    """The database's state and whether there was a directory of artefacts, right after ``--check``."""
    return shared_target.state(), shared_target.root.exists()


@pytest.fixture(scope="module")
def fresh(shared_target: Target, check_left_behind: object) -> Play:
    """The first run, by the playbook's full name."""
    return play(
        shared_target.directory, "incomex.phasegate.phase_alpha", limit="local", variables=variables(shared_target)
    )


@pytest.fixture(scope="module")
def bundle(shared_target: Target, fresh: Play) -> Bundle:
    assert fresh.rc == 0, fresh.stdout
    return shared_target.bundles()[0]


@dataclass(frozen=True)
class Again:
    """A run on the applied database, with what was there before and after it."""

    run: Play
    database: tuple[str, str]
    files: tuple[object, object]


def again(target: Target, run: Any) -> Again:
    """Run something on the applied database and look at everything before and after."""
    state, files = target.state(), tree(target.root)
    ended = run()
    return Again(ended, (state, target.state()), (files, tree(target.root)))


@pytest.fixture(scope="module")
def second(shared_target: Target, bundle: Bundle) -> Again:
    """The second run, by the bare command of the README."""
    return again(
        shared_target,
        lambda: play(shared_target.directory, "phase_alpha.yml", limit="local", variables=variables(shared_target)),
    )


@pytest.fixture(scope="module")
def checked_after(shared_target: Target, second: Again) -> Again:
    """``--check`` on the applied database, by ansible-runner's own command."""
    private = shared_target.directory / "by_command"
    argv = [str(Path(sys.executable).parent / "ansible-runner"), "run", str(private), "--project-dir", "."]
    argv += ["-p", "incomex.phasegate.phase_alpha", "--limit", "local", "--cmdline=--check", "--ident", "check", "-q"]

    def run() -> Play:
        private.mkdir()
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env={**os.environ, **environment(variables(shared_target))},
            capture_output=True,
            text=True,
            check=False,
        )
        artifacts = private / "artifacts" / "check"
        events = [json.loads(file.read_text(encoding="utf-8")) for file in artifacts.glob("job_events/*.json")]
        events.sort(key=lambda event: int(event["counter"]))
        return Play(done.returncode, events, (artifacts / "stdout").read_text(encoding="utf-8"))

    return again(shared_target, run)


# -- --check on the fresh database ------------------------------------------------------------------------------------


def test_check_on_a_fresh_database_succeeds_and_touches_nothing(
    checked_before: Play, check_left_behind: tuple[str, bool], before: Before
) -> None:
    assert checked_before.rc == 0, checked_before.stdout
    assert check_left_behind == (before.state, False)


def test_check_runs_the_read_only_commands(checked_before: Play) -> None:
    checks = {check["id"]: check["status"] for check in checked_before.of("C-06").res["checks"]}
    # P-2 is about the frozen file, which check mode does not write.
    assert {name: status for name, status in checks.items() if name != "P-2"} == dict.fromkeys(
        [name for name in PREFLIGHT if name != "P-2"], "PASS"
    )
    assert not checked_before.reached("C-08")


def test_check_claims_no_pass_for_what_did_not_run(checked_before: Play) -> None:
    gates = {gate["id"]: gate["status"] for gate in checked_before.of("C-07").res["gates"]}
    assert sorted(gates) == sorted(GATES)
    # Only what can be judged without a backup, a frozen file and a lock may pass.
    assert {name for name, status in gates.items() if status == "PASS"} <= {"G-4", "G-6", "G-8"}
    told = "\n".join(checked_before.of("Show the outcome").res["msg"])
    assert "nothing was changed" in told
    assert "C-07 and C-08 did not run" in told
    # at the end stand the gates as the opening judged them, with frozen files and the observed lock
    for gate in ("G-2", "G-5"):
        assert re.search(rf"^{gate} +NOT REACHED ", told, re.MULTILINE), told
    for gate in ("G-1", "G-9", "G-10"):
        assert re.search(rf"^{gate} +NOT ENFORCED ", told, re.MULTILINE), told
    for gate in ("G-3", "G-4", "G-6", "G-7", "G-8", "G-11"):
        assert re.search(rf"^{gate} +PASS ", told, re.MULTILINE), told
    assert "17/17" not in checked_before.stdout
    assert "COMMITTED" not in checked_before.stdout


# -- the first run ----------------------------------------------------------------------------------------------------


def test_every_command_is_one_task_that_succeeds(fresh: Play) -> None:
    assert fresh.rc == 0, fresh.stdout
    ran = [result for result in fresh.results if result.status != "skipped"]
    assert {result.host for result in ran} == {"local01"}
    # Waiting for the backup is told again and again while it runs.
    told = zip(names(ran), [result.changed for result in ran], strict=True)
    assert list(dict.fromkeys(told)) == COMMANDS
    assert fresh.stats("failures") == {}
    assert fresh.stats("rescued") == {}


def test_nothing_warns(fresh: Play) -> None:
    assert "[WARNING]" not in fresh.stdout
    assert "[DEPRECATION WARNING]" not in fresh.stdout
    assert "[ERROR]" not in fresh.stdout


def test_preflight_has_ten_of_ten(fresh: Play) -> None:
    result = fresh.of("C-06").res
    assert [(check["id"], check["status"]) for check in result["checks"]] == [(name, "PASS") for name in PREFLIGHT]
    assert result["summary"] == "10/10"


def test_migration_has_the_declared_statements(fresh: Play) -> None:
    result = fresh.of("C-07").res
    assert result["outcome"] == "COMMITTED"
    statements = result["transaction"]["statements"]
    assert Counter(statement["tag"] for statement in statements) == {
        "SET": 3,
        "ALTER TABLE": 5,
        "UPDATE": 1,
        "CREATE TABLE": 1,
        "CREATE INDEX": 4,
        "COMMENT": 6,
        "SELECT": 1,
    }
    assert [statement["rows"] for statement in statements if statement["tag"] == "UPDATE"] == [86]
    assert all(statement["milliseconds"] >= 0 for statement in statements)
    lines = (ALPHA / "migrate.sql").read_text(encoding="utf-8").splitlines()
    for statement in statements:
        assert lines[statement["line"] - 1].startswith(statement["tag"]), statement
    assert result["transaction"]["result"] == [
        {
            "tac_authority_draft": 86,
            "tac_authority_enacted": 0,
            "tac_authority_runtime": 0,
            "tac_authority_null": 0,
            "tac_format_v1": 86,
            "sandbox_authority_null": 76,
            "sandbox_format_v1": 76,
            "alias_table_present": 1,
        }
    ]


def test_verification_has_seventeen_of_seventeen(fresh: Play) -> None:
    result = fresh.of("C-07").res["verification"]
    assert sorted(check["id"] for check in result["checks"]) == VERIFICATION
    assert {check["status"] for check in result["checks"]} == {"PASS"}
    assert result["summary"] == "17/17"


def test_diff_removes_nothing_and_adds_six_lines(fresh: Play) -> None:
    result = fresh.of("C-07").res["verification"]
    assert (result["lines"]["removed"], result["lines"]["added"]) == (0, 6)
    words = Counter(" ".join(line.split(" ")[:2]) for line in result["lines"]["added_lines"])
    assert words == {"CREATE TABLE": 1, "ALTER TABLE": 1, "CREATE INDEX": 4}
    # What a line diff cannot see has to be in the structural one.
    for table in ("public.tac_logical_unit", "sandbox_tac.logical_unit"):
        for column in ("authority", "canonical_address_format_version"):
            assert f"{table}.{column}" in result["text"]


def test_every_gate_is_judged(fresh: Play, bundle: Bundle) -> None:
    assert sorted(bundle.gates) == sorted(GATES)
    for gate, status in bundle.gates.items():
        allowed = {"PASS", "NOT ENFORCED"} if gate in MAY_BE_DECLARED else {"PASS"}
        assert status in allowed, f"{gate} {status}"
    told = fresh.of("Show the outcome").res["msg"]
    assert len([line for line in told if line.startswith("G-")]) == 11


def test_updated_at_is_measured(bundle: Bundle, shared_target: Target, before: Before) -> None:
    (measured,) = bundle.json("report.json")["measured"]
    assert (measured["rows"], measured["changed"]) == (86, 86)
    assert (measured["distinct_before"], measured["distinct_after"]) == (3, 1)
    assert measured["minimum_before"] == "2026-04-29 05:27:37.951703+00"
    assert measured["maximum_before"] == "2026-04-30 03:12:19.569465+00"
    for label, expected in (("before", before.units), ("after", shared_target.rows(UNITS))):
        with (bundle.path / "schema" / f"{label}_updated_at.csv").open(encoding="utf-8", newline="") as file:
            head, *found = csv.reader(file)
        assert head == ["unit_id", "updated_at"]
        parsed = [(unit, dt.datetime.fromisoformat(moment)) for unit, moment in found]
        assert sorted(parsed) == sorted(expected)
        assert len(parsed) == 86


def test_directory_has_its_layout(bundle: Bundle) -> None:
    assert re.fullmatch(r"alpha_local_\d{8}T\d{6}Z", bundle.path.name)
    assert bundle.files == LAYOUT
    for path in [bundle.path, *bundle.path.rglob("*")]:
        assert not path.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0, path


def test_directory_is_sealed(bundle: Bundle) -> None:
    bundle.assert_sealed()


def test_journal_tells_what_happened_in_order(bundle: Bundle) -> None:
    steps = bundle.steps()
    assert steps[0] == ("run", "open")
    ended = [step for step, event in steps if event == "done"]
    # the SQL is frozen first; the backup ends when it ends, but before C-07
    order = list(dict.fromkeys(ended))
    assert (order[0], sorted(order[1:-2]), order[-2:]) == (
        "C-05",
        ["C-01", "C-02", "C-03", "C-04", "C-06"],
        ["C-07", "C-08"],
    )
    assert not [event for _step, event in steps if event == "failed"]
    own = [event for step, event in steps if step == "C-07"]
    assert own == ["intent", "transaction", "commit", "done"]
    xid = {entry["data"]["xid"] for entry in bundle.journal() if entry["event"] in ("transaction", "commit")}
    assert len(xid) == 1


def test_transaction_in_the_journal_is_the_one_that_committed(bundle: Bundle, shared_target: Target) -> None:
    (xid,) = {entry["data"]["xid"] for entry in bundle.journal() if entry["event"] == "commit"}
    assert shared_target.value(f"SELECT pg_xact_status('{xid}')") == "committed"
    assert shared_target.rows("SELECT DISTINCT xmin::text FROM public.tac_logical_unit") == [(xid,)]


def test_files_are_frozen_byte_for_byte(bundle: Bundle) -> None:
    plan = bundle.json("plan.json")
    for part, name in (("ddl", "migrate.sql"), ("rollback", "rollback.sql")):
        assert (bundle.path / "sql" / name).read_bytes() == (ALPHA / name).read_bytes()
        assert plan[part]["sha256"] == sha256(ALPHA / name)
    assert plan["definition"]["sha256"] == sha256(ALPHA / "phase.yml")


def test_plan_is_the_one_that_the_run_was_opened_with(bundle: Bundle) -> None:
    (opened,) = [entry["data"] for entry in bundle.journal() if (entry["step"], entry["event"]) == ("run", "open")]
    assert opened["plan_sha256"] == sha256(bundle.path / "plan.json")


def test_backup_gives_the_database_of_before(bundle: Bundle, shared_target: Target, before: Before) -> None:
    record = bundle.json("backup.json")
    file = bundle.path / "backup.dump"
    assert record["sha256"] == sha256(file)
    assert record["size"] == file.stat().st_size > 0
    listed = subprocess.run(
        [bin_directory() / "pg_restore", "--list", file], check=True, capture_output=True, text=True
    )
    entries = [line for line in listed.stdout.splitlines() if not line.startswith(";")]
    counted = re.search(r"TOC Entries: (\d+)", listed.stdout)
    assert counted
    assert record["toc_entries"] == int(counted[1]) >= len(entries) > 0
    cluster = shared_target.cluster
    cluster.create_database("restored")
    try:
        argv = [str(bin_directory() / "pg_restore"), "--exit-on-error", "--dbname", cluster.dsn("restored"), str(file)]
        subprocess.run(argv, check=True, capture_output=True)
        restored = type(shared_target)(cluster, "restored", shared_target.directory)
        assert restored.dump("--schema-only") == before.schema
        assert restored.rows(UNITS) == before.units
        assert restored.value("SELECT count(*) FROM sandbox_tac.logical_unit") == 76
    finally:
        cluster.drop_database("restored")


def test_report_has_every_section(bundle: Bundle) -> None:
    report = bundle.text("report.md")
    assert report.startswith(
        "# Execution of phase alpha r2 on local: SUCCESS (approvals were not enforced; not rehearsed)\n"
    )
    sections = dict(
        zip(
            re.findall(r"^## (.*)$", report, re.MULTILINE),
            re.split(r"^## .*$", report, flags=re.MULTILINE)[1:],
            strict=True,
        )
    )
    assert list(sections) == list(SECTIONS)
    for heading, word in SECTIONS.items():
        assert word in sections[heading], heading


def test_report_shows_the_added_lines(bundle: Bundle) -> None:
    verification = bundle.text("report.md").partition("\n## Verification\n")[2].partition("\n## ")[0]
    added = [line for line in verification.splitlines() if line.startswith("+")]
    assert len(added) == 6
    assert sum(line.startswith("+CREATE INDEX idx_alias_") for line in added) == 4


def test_report_names_artefacts_with_their_digests(bundle: Bundle) -> None:
    report = bundle.text("report.md")
    # The report cannot hold its own digest, nor those of what is written after it.
    for name in LAYOUT - {"SHA256SUMS", *REPORTS}:
        assert f"| {name} | `{sha256(bundle.path / name)}` |" in report


def test_report_is_valid_and_every_form_is_made_from_it_alone(bundle: Bundle) -> None:
    report = bundle.json("report.json")
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(report)
    for name, text in render_report(report).items():
        assert (bundle.path / name).read_bytes() == text.encode("utf-8"), name


def test_report_has_what_was_observed_in_the_transaction(bundle: Bundle) -> None:
    report = bundle.json("report.json")
    migration = report["migration"]
    assert migration["outcome"] == "COMMITTED"
    sent = [one["started"] for one in migration["statements"]]
    assert sent == sorted(sent)
    assert report["started"] < sent[0] <= sent[-1] <= migration["commit_sent"] < report["ended"]
    (update,) = (one for one in migration["statements"] if one["tag"] == "UPDATE")
    assert (update["rows"], update["expected_rows"], update["relations"]) == (86, 86, ["public.tac_logical_unit"])
    assert update["sql"].startswith("-- 3.") or "UPDATE public.tac_logical_unit" in update["sql"]
    assert all(one["found"] == one["expected"] for one in migration["result"])
    modes = {(one["relation"], one["mode"]) for one in migration["locks"]}
    assert ("public.tac_logical_unit", "AccessExclusiveLock") in modes
    assert "AccessShareLock" not in {mode for _relation, mode in modes}
    counted = {one["relation"]: (one["before"], one["after"]) for one in report["row_counts"]}
    assert counted["public.tac_logical_unit"] == (86, 86)
    assert counted["cutter_governance.canonical_address_alias"] == (None, 0)
    (moved,) = report["measured"]
    assert (moved["matches"], moved["expected"]["changed"]) == (True, 86)
    assert moved["old_values"]["sha256"] == sha256(bundle.path / "backup.dump")
    assert report["touched"] == {
        "connected": True, "transaction": True, "statements": True, "committed": True, "rollback": False
    }  # fmt: skip
    made = {one["column"]: one["type"] for one in report["new_columns"]}
    assert len(made) == 9
    assert (made["alias_id"], made["valid_from"]) == ("uuid", "timestamp with time zone")
    assert report["identity"]["superuser"] is not None
    assert report["identity"]["build"].startswith(f"PostgreSQL {MAJOR}")


def test_report_confirms_the_non_scope(bundle: Bundle) -> None:
    found = {item["id"]: item["status"] for item in bundle.json("report.json")["non_scope"]}
    assert {name: found[name] for name in ("NS-1", "NS-2", "NS-3", "NS-4")} == dict.fromkeys(
        ["NS-1", "NS-2", "NS-3", "NS-4"], "PASS"
    )
    # The fixture has no Directus tables, and no database knows its container.
    assert found["NS-5"] != "FAIL"
    assert found["NS-6"] == found["NS-7"] == "not attempted"


def test_nothing_is_triggered(bundle: Bundle) -> None:
    triggers = {trigger["id"]: trigger["status"] for trigger in bundle.json("report.json")["triggers"]}
    assert sorted(triggers) == [f"T-{number}" for number in range(1, 10)]
    assert "TRIGGERED" not in triggers.values()


def test_report_names_the_target_by_the_servers_words(bundle: Bundle, shared_target: Target) -> None:
    identity = bundle.json("report.json")["identity"]
    assert identity["system_identifier"] == shared_target.system_identifier
    assert identity["database"] == "directus"
    assert identity["user"] == shared_target.value("SELECT current_user::text")
    assert identity["server_version"] == shared_target.value("SHOW server_version")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT authority, count(*) FROM public.tac_logical_unit GROUP BY 1", [("draft", 86)]),
        ("SELECT authority, count(*) FROM sandbox_tac.logical_unit GROUP BY 1", [(None, 76)]),
        (
            "SELECT canonical_address_format_version, count(*) FROM public.tac_logical_unit GROUP BY 1"
            " UNION ALL SELECT canonical_address_format_version, count(*) FROM sandbox_tac.logical_unit GROUP BY 1"
            " ORDER BY 2",
            [("canonical-address-v1", 76), ("canonical-address-v1", 86)],
        ),
        (
            "SELECT table_schema::text, column_name::text, is_nullable::text, column_default::text"
            " FROM information_schema.columns WHERE column_name IN ('authority', 'canonical_address_format_version')"
            " ORDER BY 1, 2",
            [
                ("public", "authority", "YES", "'draft'::text"),
                ("public", "canonical_address_format_version", "NO", "'canonical-address-v1'::text"),
                ("sandbox_tac", "authority", "YES", "'draft'::text"),
                ("sandbox_tac", "canonical_address_format_version", "NO", "'canonical-address-v1'::text"),
            ],
        ),
        ("SELECT count(*) FROM cutter_governance.canonical_address_alias", [(0,)]),
        (
            "SELECT indexname::text FROM pg_indexes WHERE tablename = 'canonical_address_alias' ORDER BY 1",
            [
                ("canonical_address_alias_pkey",),
                ("idx_alias_alias_kind",),
                ("idx_alias_alias_text",),
                ("idx_alias_target_unit_id",),
                ("idx_alias_validity_window",),
            ],
        ),
        ("SELECT count(DISTINCT updated_at) FROM public.tac_logical_unit", [(1,)]),
        (
            "SELECT count(*) FROM pg_description d JOIN pg_class c ON c.oid = d.objoid WHERE c.relname IN"
            " ('tac_logical_unit', 'logical_unit', 'canonical_address_alias')",
            [(6,)],
        ),
        # Nothing of ours stays on the server.
        ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", [(0,)]),
        ("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'phasegate%'", [(0,)]),
        (
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname LIKE 'pg_temp%'",
            [(0,)],
        ),
    ],
)
def test_database_is_as_the_phase_says(
    fresh: Play, shared_target: Target, query: str, expected: list[tuple[Any, ...]]
) -> None:
    assert shared_target.rows(query) == expected


# -- the second run, and --check, on the applied database -------------------------------------------------------------


@pytest.fixture(params=["second", "checked_after"])
def repeated(request: pytest.FixtureRequest) -> Again:
    """Each kind of run on the applied database."""
    found: Again = request.getfixturevalue(request.param)
    return found


@pytest.mark.fault("same-again")
def test_a_run_on_the_applied_database_changes_nothing(repeated: Again) -> None:
    assert repeated.run.rc == 0, repeated.run.stdout
    assert repeated.run.stats("changed") == {}
    assert repeated.run.stats("failures") == {}
    assert repeated.database[0] == repeated.database[1]
    assert repeated.files[0] == repeated.files[1]


def test_a_run_on_the_applied_database_verifies_and_says_so(repeated: Again) -> None:
    assert repeated.run.of("C-08 | Run the verification checks of an applied phase").res["summary"] == "17/17"
    assert not repeated.run.reached("C-07")
    told = "\n".join(repeated.run.of("Show the outcome").res["msg"])
    assert "was applied before" in told
    assert "verified read-only" in told


def test_a_run_on_the_applied_database_notices_that_it_is_not_as_it_was(
    shared_target: Target, checked_after: Again
) -> None:
    files = tree(shared_target.root)
    shared_target.cluster.psql("DELETE FROM sandbox_tac.logical_unit WHERE ctid = '(0,1)'", "directus")
    state = shared_target.state()
    run = play(shared_target.directory, "phase_alpha.yml", limit="local", variables=variables(shared_target))
    assert run.rc != 0
    assert "VA-15" in run.messages
    assert shared_target.state() == state
    # The sealed evidence of the run that committed stays as it is.
    kept = {name: facts for name, facts in tree(shared_target.root).items() if name in files and name != "."}
    assert kept == {name: facts for name, facts in files.items() if name != "."}


def test_digests_in_events_are_whole(fresh: Play) -> None:
    text = json.dumps([event["event_data"] for event in fresh.events])
    assert hashlib.sha256((ALPHA / "migrate.sql").read_bytes()).hexdigest() in text
