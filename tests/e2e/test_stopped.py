# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever stops a run: the database is as before, the operator reads why, and the reason is sealed."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Journal
from ansible_collections.incomex.phasegate.tests.support.bundle import Bundle, sha256
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, environment
from ansible_collections.incomex.phasegate.tests.support.small_disk import mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

PHASES = ROOT / "tests" / "fixtures" / "phases"
# Judged before the transaction opens; G-11 is judged whenever a run is sealed.
EARLY = {"G-2", "G-3", "G-4", "G-5", "G-7", "G-8"}


def assert_told(text: str, words: Collection[str]) -> None:
    """The text names what was expected, found and what to do, and holds every word."""
    for part in ("expected: ", "found: ", "next step: ", *words):
        assert part in text, f"{part!r} is missing in:\n{text}"


def assert_stopped(
    target: Target, run: Play, state: str, *, words: Collection[str], passed: Collection[str] = (), failed: str = ""
) -> Bundle:
    """Check one stopped run and return its bundle.

    :param state: the database's state before.
    :param words: stand in the operator's message, in SUMMARY.txt and in report.md.
    :param passed: gates that may say PASS, beside G-11.
    :param failed: the gate that says FAIL, if it was one.
    """
    assert run.rc != 0, run.stdout
    assert target.state() == state
    assert_told(run.messages, words)
    bundle = target.bundle()
    bundle.assert_sealed()
    assert_told(bundle.reason, words)
    assert_told(bundle.text("report.md"), words)
    gates = bundle.gates
    assert len(gates) == 11
    assert {gate for gate, status in gates.items() if status == "PASS"} <= {*passed, "G-11"}
    assert [gate for gate, status in gates.items() if status == "FAIL"] == ([failed] if failed else [])
    assert "SUCCESS" not in bundle.text("SUMMARY.txt")
    assert str(bundle.path / "report.md") in run.messages
    return bundle


# -- stopped inside the transaction -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "r1", ["a count or result differs from the declared one", "UPDATE of line", "86 rows", "0 rows"], id="r1"
        ),
        pytest.param(
            "hidden_drop_column",
            [
                "verification failed inside the transaction",
                "additions_only",
                "public.tac_logical_unit.identity_profile removed",
            ],
            id="hidden_drop_column",
        ),
    ],
)
def test_a_rejected_revision_rolls_back(target: Target, name: str, words: list[str]) -> None:
    state = target.state()
    run = target.play_phase(PHASES / name)
    bundle = assert_stopped(target, run, state, words=words, passed=EARLY | {"G-6"})
    assert "ROLLED_BACK" in bundle.text("SUMMARY.txt")
    xid = next(entry["data"]["xid"] for entry in bundle.journal() if entry["event"] == "transaction")
    assert target.value(f"SELECT pg_xact_status('{xid}')") == "aborted"
    assert "commit" not in [event for _step, event in bundle.steps()]
    assert not run.reached("C-08")
    assert bundle.json("report.json")["unchanged"] is True
    # The frozen file is evidence of what was tried.
    assert sha256(bundle.path / "sql" / "migrate.sql") == sha256(PHASES / name / "migrate.sql")


def test_a_failed_verification_rolls_back(target: Target, phase: Path) -> None:
    state = target.state()
    edit(phase / "phase.yml", 'expect: "86:86:86"', 'expect: "86:86:85"')
    run = target.play_phase(phase)
    bundle = assert_stopped(target, run, state, words=["VA-14", "86:86:85"], passed=EARLY | {"G-6"})
    assert "ROLLED_BACK" in bundle.text("SUMMARY.txt")


def test_a_verification_that_fails_after_commit_is_no_success(target: Target, phase: Path) -> None:
    # True in the migration's own transaction only.
    edit(
        phase / "phase.yml",
        "\ndata:\n",
        "\n  - {id: VA-17, title: Inside, sql: SELECT pg_current_xact_id_if_assigned() IS NOT NULL, expect: true}\n"
        "\ndata:\n",
    )
    run = target.play_phase(phase)
    assert run.rc != 0
    assert target.migrated, run.messages
    bundle = target.bundle()
    bundle.assert_sealed()
    summary = bundle.text("SUMMARY.txt")
    assert "COMMITTED_NOT_VERIFIED" in summary
    assert "VA-17" in bundle.reason
    assert "VA-17" in run.messages
    assert "17/18" in summary
    triggers = {trigger["id"]: trigger["status"] for trigger in bundle.json("report.json")["triggers"]}
    assert triggers["T-2"] == "TRIGGERED"
    assert [name for name, status in triggers.items() if status == "TRIGGERED"] == ["T-2"]
    assert "\nT-2   TRIGGERED     committed, but a verification check failed: VA-17\n" in summary

    # exactly one command, which works as it is printed
    (command,) = [line for line in summary.splitlines() if "incomex.phasegate.rollback" in line]
    assert command in run.messages
    assert command in bundle.text("report.md")
    done = subprocess.run(
        shlex.split(command), cwd=ROOT, env=environment({}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert target.rows("SELECT FROM pg_attribute WHERE attname = 'authority' AND NOT attisdropped") == []
    gates = next(one for one in target.bundles() if "_rollback_" in one.path.name).gates
    assert (gates["G-6"], gates["G-10"], gates["G-9"], gates["G-11"]) == ("N/A", "N/A", "NOT ENFORCED", "PASS")


# -- stopped by a gate ------------------------------------------------------------------------------------------------


def wrong_user(target: Target) -> dict[str, Any]:
    return {"phasegate_identity": target.identity(user="somebody_else")}


def wrong_database(target: Target) -> dict[str, Any]:
    return {"phasegate_identity": target.identity(database="directus")}


def wrong_cluster(target: Target) -> dict[str, Any]:
    return {"phasegate_identity": target.identity(system_identifier="7000000000000000001")}


def wrong_version(target: Target) -> dict[str, Any]:
    return {"phasegate_identity": target.identity(server_version="15")}


def wrong_container(target: Target) -> dict[str, Any]:
    return {"phasegate_identity": target.identity(container="postgres")}


def no_room(_target: Target) -> dict[str, Any]:
    return {"phasegate_limits": {"server_space_mb": 10**9}}


def rehearsal(target: Target) -> dict[str, Any]:
    identity = target.identity(rehearsal_system_identifiers=[target.system_identifier])
    del identity["system_identifier"]
    return {"phasegate_identity": identity}


@pytest.mark.parametrize(
    ("hostvars", "words"),
    [
        (wrong_user, ["user somebody_else", "user workflow_admin"]),
        (wrong_database, ["database directus", "database test_"]),
        (wrong_cluster, ["system_identifier 7000000000000000001"]),
        (wrong_version, ["server_version 15", "server_version 16."]),
        (wrong_container, ["container postgres", "container none"]),
        (rehearsal, ["not a rehearsal cluster"]),
    ],
)
@pytest.mark.fault("swapped-target")
def test_another_target_is_refused_before_anything_runs(
    target: Target, hostvars: Callable[[Target], dict[str, Any]], words: list[str]
) -> None:
    state = target.state()
    target.hostvars = hostvars(target)
    run = target.play()
    bundle = assert_stopped(target, run, state, words=["G-4", *words], failed="G-4")
    assert {step for step, _event in bundle.steps()} == {"run"}


@pytest.mark.parametrize(
    ("hostvars", "spoil", "words"),
    [
        pytest.param(wrong_cluster, "", ["system_identifier"], id="target"),
        pytest.param(no_room, "", ["server_space", "MiB free at "], id="surroundings"),
        pytest.param(None, "DELETE FROM sandbox_tac.logical_unit WHERE ctid = '(0,1)'", ["P-9"], id="preflight"),
    ],
)
def test_check_mode_fails_where_the_run_would(
    target: Target, hostvars: Callable[[Target], dict[str, Any]] | None, spoil: str, words: list[str]
) -> None:
    target.cluster.psql(spoil, target.database)
    state = target.state()
    target.hostvars = hostvars(target) if hostvars else {}
    run = target.play(arguments="--check")
    assert run.rc != 0, run.stdout
    assert_told(run.messages, words)
    assert target.state() == state
    assert not target.root.exists()


# -- how much an operator reads -----------------------------------------------------------------------------------------


def assert_short(run: Play, reason: str, bundle: Bundle) -> None:
    """Exactly one task fails, with the reason; Ansible's default callback prints it as the error and in the task's result."""
    (failure,) = run.failures
    assert failure.task.endswith("Seal | Build the report and seal the evidence")
    assert reason in failure.res["msg"]
    assert run.stdout.count(reason) == 2, run.stdout
    assert run.stdout.count("next step: ") == 2 * failure.res["msg"].count("next step: ")
    for part in ("  expected: ", "  found: ", f"report        {bundle.path}/report.md"):
        assert failure.res["msg"].count(part) == 1
    assert "next_commands" not in failure.res
    assert len([line for line in run.stdout.splitlines() if line.strip()]) <= 46, run.stdout


def test_a_stop_shows_one_reason_in_a_few_lines(target: Target, phase: Path) -> None:
    """In preflight, inside the transaction, and of a rollback that is refused."""
    target.hostvars = {"phasegate_conditions": {"minor_version": "ignore"}}
    target.cluster.psql("ALTER TABLE public.tac_section_type_vocab RENAME TO gone", target.database)
    assert_short(target.play(), "checks passed; failed: P-10.", target.bundles()[-1])
    target.cluster.psql("ALTER TABLE public.gone RENAME TO tac_section_type_vocab", target.database)

    edit(phase / "phase.yml", 'expect: "86:86:86"', 'expect: "86:86:85"')
    inside = "C-07: verification failed inside the transaction; rolled back before COMMIT."
    run = target.play_phase(phase)
    assert_short(run, inside, target.bundles()[-1])

    assert target.play().rc == 0
    execution = target.bundles()[-1].path
    undo = {"phasegate_execution": str(execution), "phasegate_confirm": "another"}
    run = target.play("playbooks/rollback.yml", extra_vars=undo)
    (refused,) = (one for one in target.bundles() if "_rollback_" in one.path.name)
    assert_short(run, "C-09: the rollback is not confirmed.", refused)


# -- what surrounds the phase -----------------------------------------------------------------------------------------


def test_a_condition_stops_an_execution_and_a_rollback(target: Target) -> None:
    state = target.state()
    target.hostvars = no_room(target)
    words = [
        "Stopped by a pre-run condition: server_space.",
        "MiB free at ",
        "free space on the server",
        "phasegate_conditions",
    ]
    bundle = assert_stopped(target, target.play(), state, words=words)
    assert "C-01" not in {step for step, _event in bundle.steps()}
    assert "| server_space | STOP | " in bundle.text("report.md")

    target.hostvars = {}
    assert target.play().rc == 0
    state, execution = target.state(), target.bundles()[-1].path
    target.hostvars = no_room(target)
    undo = {"phasegate_execution": str(execution), "phasegate_confirm": execution.name}
    run = target.play("playbooks/rollback.yml", extra_vars=undo)
    assert run.rc != 0
    assert_told(run.messages, words)
    assert target.state() == state
    (bundle,) = (one for one in target.bundles() if "_rollback_" in one.path.name)
    bundle.assert_sealed()
    assert_told(bundle.reason, words)


def test_a_condition_warns(target: Target) -> None:
    target.hostvars = {"phasegate_limits": {"transaction_age_s": 0}}
    with psycopg.connect(target.cluster.dsn(target.database), application_name="web") as idle:
        idle.execute("SELECT 1")
        pid = idle.info.backend_pid
        run = target.play()
    assert run.rc == 0, run.stdout
    # ansible-playbook wraps its lines
    told = " ".join(run.stdout.split())
    assert f"[WARNING]: long_transactions: pid {pid}, user workflow_admin, application web, idle in transaction" in told
    bundle = target.bundle()
    (found,) = (one for one in bundle.json("report.json")["conditions"] if one["id"] == "long_transactions")
    assert (found["status"], found["next_step"] != "") == ("WARN", True)
    assert "| long_transactions | WARN | " in bundle.text("report.md")


def test_a_condition_that_does_not_exist_is_refused(target: Target) -> None:
    target.hostvars = {"phasegate_conditions": {"replica_lagg": "warn"}, "phasegate_limits": {"replica_lag_s": "1h"}}
    run = target.play()
    assert run.rc != 0
    assert_told(run.messages, ["conditions: replica_lagg", "limits: replica_lag_s: 1h", "phasegate_conditions"])
    assert "C-01" not in {step for step, _event in target.bundle().steps()}


@pytest.mark.fault("backup-foreign")
def test_a_stale_backup_stops_the_migration(target: Target) -> None:
    state = target.state()
    target.hostvars = {"phasegate_max_backup_age": 0}
    run = target.play()
    words = ["G-2", "a backup at most 0 s old", "s old", "C-01"]
    assert_stopped(target, run, state, words=words, passed=(EARLY | {"G-6"}) - {"G-2"}, failed="G-2")


def test_a_missing_row_stops_at_preflight(target: Target) -> None:
    target.cluster.psql("DELETE FROM public.tac_logical_unit WHERE ctid = '(0,1)'", target.database)
    state = target.state()
    run = target.play()
    bundle = assert_stopped(target, run, state, words=["C-06", "P-8", "86", "85"], failed="G-6")
    assert not run.reached("C-07")
    checks = {check["id"]: check["status"] for check in bundle.json("report.json")["preflight"]}
    assert checks["P-8"] == "FAIL"
    assert checks["P-9"] == "PASS"
    assert "P-8 " in bundle.text("logs/C-06.log")


def test_a_check_that_the_server_refuses_is_a_fail_with_its_error(target: Target) -> None:
    target.cluster.psql("ALTER TABLE public.tac_section_type_vocab RENAME TO gone", target.database)
    state = target.state()
    run = target.play()
    words = ["C-06", "P-10", 'relation "public.tac_section_type_vocab" does not exist']
    bundle = assert_stopped(target, run, state, words=words, failed="G-6")
    checks = {check["id"]: check["status"] for check in bundle.json("report.json")["preflight"]}
    assert [name for name, status in checks.items() if status == "FAIL"] == ["P-10"]


@pytest.mark.fault("file-changed")
def test_an_edited_file_is_not_the_pinned_one(target: Target, phase: Path) -> None:
    state = target.state()
    pinned = sha256(phase / "migrate.sql")
    edit(phase / "migrate.sql", "'canonical-address-v1'", "'canonical-address-v2'")
    run = target.play_phase(phase)
    words = [pinned, sha256(phase / "migrate.sql"), "migrate.sql"]
    assert_stopped(target, run, state, words=words)
    assert not run.reached("Open")


def test_another_run_is_named_and_stops_this_one(target: Target) -> None:
    holder = subprocess.Popen(
        [str(target.entry()["phasegate_bindir"]) + "/psql", "-XAtq", "-d", target.cluster.dsn(target.database)],
        env={**os.environ, "PGAPPNAME": "phasegate:run:other"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin
    assert holder.stdout
    try:
        holder.stdin.write("SELECT pg_try_advisory_lock(1885888883, 1701273972), 'held';\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "t|held\n"
        state = target.state()
        run = target.play()
        assert_stopped(
            target, run, state, words=["G-7", "phasegate:run:other"], passed=(EARLY | {"G-6"}) - {"G-7"}, failed="G-7"
        )
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


# -- stopped by the world ---------------------------------------------------------------------------------------------


@pytest.mark.fault("weak-role", "dump-damaged")
def test_what_a_role_lacks_is_told_before_and_in_the_backup(target: Target) -> None:
    role = f"weak_{target.database}"
    target.cluster.psql(f"CREATE ROLE {role} LOGIN")
    try:
        state = target.state()
        target.hostvars = {"phasegate_user": role, "phasegate_identity": target.identity(user=role)}
        run = target.play()
        owns = (
            f"to own public.tac_logical_unit, sandbox_tac.logical_unit, run as role {SUPERUSER}, or: GRANT {SUPERUSER}"
        )
        usage = [
            f"GRANT USAGE ON SCHEMA sandbox_tac TO {role};",
            f"GRANT CREATE, USAGE ON SCHEMA cutter_governance TO {role};",
        ]
        assert_stopped(target, run, state, words=["The role lacks required privileges.", owns, *usage])
        shutil.rmtree(target.root)
        assert owns in target.play(arguments="--check").messages

        target.cluster.psql(
            f"ALTER TABLE public.tac_logical_unit OWNER TO {role}; ALTER TABLE sandbox_tac.logical_unit OWNER TO {role};"
            f"GRANT USAGE, CREATE ON SCHEMA sandbox_tac, cutter_governance TO {role};"
            "CREATE TABLE public.hidden (id int); ALTER TABLE public.hidden ENABLE ROW LEVEL SECURITY",
            target.database,
        )
        state = target.state()
        assert f"GRANT pg_read_all_data TO {role};" in target.play(arguments="--check").messages
        target.cluster.psql(f"GRANT pg_read_all_data TO {role};")
        bundle = assert_stopped(
            target,
            target.play(),
            state,
            words=["C-01: pg_dump failed", f"next step: ALTER ROLE {role} BYPASSRLS;"],
            passed=["G-6"],
        )
        assert "backup.dump" not in bundle.files
        assert not [name for name in bundle.files if name.endswith(".partial")]
        assert '"transaction"' not in bundle.text("journal.jsonl")
    finally:
        target.cluster.psql(f"REASSIGN OWNED BY {role} TO {SUPERUSER}; DROP OWNED BY {role}", target.database)
        target.cluster.psql(f"DROP ROLE {role}")


def test_an_unreachable_server_is_told(target: Target) -> None:
    state = target.state()
    identity = target.identity()
    target.hostvars = {"phasegate_host": str(target.directory), "phasegate_identity": identity}
    run = target.play()
    assert_stopped(target, run, state, words=["Cannot connect to database", str(target.directory)])


def test_a_missing_program_is_told(target: Target) -> None:
    state = target.state()
    target.hostvars = {"phasegate_bindir": str(target.directory)}
    run = target.play()
    assert_stopped(target, run, state, words=["program psql is missing", str(target.directory)])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system of its own as the directory of all runs."""
    root = tmp_path / "artefacts"
    with contextlib.ExitStack() as mounts:

        def mount(options: str) -> Path:
            root.mkdir()
            return mounts.enter_context(mounted(root, options))

        yield mount


@pytest.mark.parametrize(
    ("hostvars", "found"),
    [
        ({"phasegate_root": "artefacts"}, "root 'artefacts'"),
        ({"phasegate_environment": "../prod"}, "environment '../prod'"),
        ({"phasegate_environment": "two words"}, "environment 'two words'"),
    ],
)
@pytest.mark.parametrize("arguments", ["", "--check"])
def test_a_place_where_no_later_run_would_look_is_refused(
    target: Target, hostvars: dict[str, Any], found: str, arguments: str
) -> None:
    target.hostvars = hostvars
    run = target.play(arguments=arguments)
    assert run.rc != 0
    assert_told(run.messages, ["phasegate_root or phasegate_environment is invalid", found])
    assert not run.reached("C-07")
    assert not target.root.exists()
    assert not target.migrated


def test_a_root_that_cannot_be_written_is_told(target: Target, small: Callable[[str], Path]) -> None:
    state = target.state()
    small("ro,size=64k")
    run = target.play()
    assert run.rc != 0
    assert target.state() == state
    assert_told(run.messages, ["Read-only file system", str(target.root)])
    assert not run.reached("C-07")


@contextlib.contextmanager
def full_after(
    root: Path, step: str, *, whole: bool = False, then: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Fill the file system as soon as the journal of the run says that a step is done, and ``then`` do this.

    ``whole``: also what is left of the journal's own last page.
    """
    ended = threading.Event()
    reached = threading.Event()
    filler = root / "filler"

    def watch() -> None:
        while not ended.wait(0.005):
            for journal in root.glob("*/journal.jsonl"):
                if f'"step":"{step}","event":"done"'.encode() in journal.read_bytes():
                    fill(filler)
                    if whole:
                        fill_last_page(journal)
                    then()
                    reached.set()
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    assert reached.is_set(), f"the run never came to the end of {step}"


# The file system is to become full later.
NO_ROOM_NEEDED = {"phasegate_conditions": {"artefact_space": "ignore"}}


def fill_last_page(path: Path) -> None:
    """Fill what is left of a journal's own last page by lines of its form: a torn one would be taken away again."""
    journal = Journal(str(path))
    with contextlib.suppress(OSError):
        while (room := -path.stat().st_size % 4096) > LINE:
            journal.append("C-02", "done", {"sha256": "0" * (room - LINE)})


# The length of a line of that form without its padding, at most.
LINE = 220


def fill(filler: Path) -> None:
    """Write until nothing more fits."""
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_root_stops_the_run_at_once(target: Target, small: Callable[[str], Path]) -> None:
    state = target.state()
    fill(small("size=64k") / "filler")
    run = target.play()
    assert run.rc != 0
    assert target.state() == state
    assert_told(run.messages, ["No space left on device"])
    assert not run.reached("C-07")


@pytest.mark.parametrize("step", ["C-02", "C-05"])
@pytest.mark.fault("disk-full-before")
def test_a_root_that_becomes_full_stops_the_run_before_commit(
    target: Target, small: Callable[[str], Path], step: str
) -> None:
    state = target.state()
    target.hostvars = NO_ROOM_NEEDED
    with psycopg.connect(target.cluster.dsn(target.database)) as holder:
        # C-07 comes right after C-02: it is not to be done before there is no room
        holder.execute("LOCK TABLE public.tac_logical_unit IN ACCESS SHARE MODE")
        with full_after(small("size=1m"), step, whole=True, then=holder.rollback):
            run = target.play()
    assert run.rc != 0
    assert target.state() == state
    assert_told(run.messages, ["No space left on device"])
    assert "COMMITTED" not in run.stdout
    # What the full disk left is not sealed, so nobody can take it for evidence.
    assert not list(target.root.glob("*/SHA256SUMS"))


@pytest.mark.fault("disk-full-after")
def test_a_root_that_becomes_full_after_commit_is_told_and_completed_by_the_next_run(
    target: Target, small: Callable[[str], Path]
) -> None:
    root = small("size=1m")
    target.hostvars = NO_ROOM_NEEDED
    with full_after(root, "C-07"):
        run = target.play()
    assert run.rc != 0
    assert target.migrated
    assert_told(run.messages, ["No space left on device", "COMMITTED", "T-8"])
    assert not list(root.glob("*/SHA256SUMS"))
    (root / "filler").unlink()
    state = target.state()
    again = target.play()
    assert again.rc == 0, again.stdout
    assert target.state() == state
    assert not again.reached("C-07")
    bundle = target.bundle()
    bundle.assert_sealed()
    assert "SUCCESS" in bundle.text("SUMMARY.txt")
    assert "17/17" in bundle.text("SUMMARY.txt")


def edit(file: Path, old: str, new: str) -> None:
    """Replace the first place of a text in a file that must have it."""
    content = file.read_text(encoding="utf-8")
    assert old in content
    file.write_text(content.replace(old, new, 1), encoding="utf-8")
