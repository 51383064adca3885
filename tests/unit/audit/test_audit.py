# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The auditor alone: each tampering has its own verdict, on a copy elsewhere, without the collection, on old and new Python."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import Anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import BackupRecord
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import BackupMade, Migrated, RunOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import FORMAT
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_and_sign
from ansible_collections.incomex.phasegate.plugins.module_utils._run.register_copy import keep_register
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import parse_allowed_signers
from ansible_collections.incomex.phasegate.tests.support.authority import Authority, openssl
from ansible_collections.incomex.phasegate.tests.support.bundle import tree
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, frozen_plan, rehearsal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = Path(audit.__file__)
REHEARSAL = "alpha_prod_rehearsal_20260515T010000Z"
EXECUTION = "alpha_prod_20260516T031200Z"
ROLLBACK = "alpha_prod_rollback_20260517T120000Z"


def pythons() -> Iterator[str]:
    """The oldest and the newest Python that are here: of the path, or of pyenv."""
    for version in ("3.8", "3.13"):
        found = [*sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")), shutil.which(f"python{version}")]
        yield from [str(one) for one in found if one][:1]


PYTHONS = sorted({*pythons()}) or [sys.executable]


@dataclass(frozen=True)
class Archive:
    """A rehearsal, an execution and its rollback, with the keys of all who signed; copied for each test."""

    root: Path
    keys: Path
    signers: Path

    @property
    def execution(self) -> Path:
        return self.root / EXECUTION

    def key(self, name: str) -> Reviewer:
        return Reviewer(name, self.keys / name)

    def copy(self, to: Path) -> Archive:
        return Archive(shutil.copytree(self.root, to / "root", symlinks=True), self.keys, self.signers)


def opened(root: Path, name: str, plan: dict[str, Any], **about: Any) -> RunDirectory:
    run = RunDirectory(str(root / name))
    run.create()
    # an earlier release called the plan of a rehearsal plan.json, too
    run.write("phase_plan.json" if name == REHEARSAL else "plan.json", canonical_json(plan))
    digest = hashlib.sha256(canonical_json(plan)).hexdigest()
    RunOpened(environment="prod", phase="alpha", plan_sha256=digest, format=FORMAT, path=run.path, **about).write(
        run.journal
    )
    return run


def g1(run: RunDirectory, command: str, what: str) -> None:
    gate = Gate("G-1", GateStatus.PASS, f"2 approvals of the {what}", "2 of 2")
    run.journal.append(command, "failed", Migrated(reason="the test ends here", gates=[gate.as_dict()]).to_entry())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    directory = tmp_path_factory.mktemp("archive")
    root, keys = directory / "root", directory / "keys"
    root.mkdir()
    keys.mkdir()
    people = {name: Reviewer.create(keys, name) for name in ("anna", "ben", "host", "eve")}
    known = "".join(people[name].line() for name in ("anna", "ben"))
    register = Anchor(
        "/etc/phasegate/reviewers/7384512999999999999",
        known.encode(),
        parse_allowed_signers(known.encode()),
        policy=b'{"threshold": 2}',
    )
    (directory / "signers").write_text(known + people["host"].line(), encoding="utf-8")
    bare = frozen_plan()
    sealed = seal_and_sign(opened(root, REHEARSAL, bare, kind="rehearsal"), "a test", str(people["host"].key))
    plan = {**bare, "rehearsal": {**rehearsal(bare), "bundle": REHEARSAL, "seal": sealed["seal"]}}
    run = opened(root, EXECUTION, plan)
    for name in ("anna", "ben"):
        run.write(f"plan.json.{name}.sig", people[name].sign(canonical_json(plan)))
    keep_register(run, register)
    keep_register(run, register)
    g1(run, "C-07", "plan")
    run.write("logs/C-07.log", b"C-07\n")
    run.write("backup.dump", b"a backup")
    backup = BackupRecord(
        method="custom",
        file="backup.dump",
        size=8,
        sha256=hashlib.sha256(b"a backup").hexdigest(),
        started_epoch=0.0,
        database="app",
        system_identifier="7384512999999999999",
        server_version="16.13",
        program_version="pg_dump (PostgreSQL) 16.13",
        compression="gzip",
        toc_entries=1,
        read_in_full=True,
        not_dumped=[],
        proof={},
    )
    run.journal.append("C-01", "done", BackupMade(backup=backup.as_dict()).to_entry())
    sealed = seal_and_sign(run, "a test", str(people["host"].key))
    undone = opened(root, ROLLBACK, plan, kind="rollback", execution=EXECUTION)
    wanted = {"format": "phasegate-rollback/1", "execution": EXECUTION, "seal": sealed["seal"], "accept_loss": 0}
    undone.write("rollback.json", canonical_json(wanted))
    for name in ("anna", "ben"):
        signature = people[name].sign(canonical_json(wanted), "rollback@phasegate.incomex")
        undone.write(f"rollback.json.{name}.sig", signature)
    keep_register(undone, register)
    g1(undone, "C-09", "rollback request")
    seal_and_sign(undone, "a test", str(people["host"].key))
    return Archive(root, keys, directory / "signers")


@pytest.fixture
def archive(made: Archive, tmp_path: Path) -> Archive:
    return made.copy(tmp_path)


def run_alone(
    archive: Archive, tmp_path: Path, *arguments: str, python: str = PYTHONS[0]
) -> subprocess.CompletedProcess[str]:
    """Run a copy of the auditor's file elsewhere: nothing of the collection or its packages can be imported."""
    place = tmp_path / "elsewhere"
    place.mkdir(exist_ok=True)
    shutil.copyfile(SOURCE, place / "audit.py")
    argv = [python, "-I", "-S", str(place / "audit.py"), *(arguments or [str(archive.execution)])]
    environment = {"PATH": "/nonexistent", "LC_ALL": "C.UTF-8"}
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=environment, cwd=tmp_path)


def seal_anew(bundle: Path, new: str = "") -> None:
    if new:
        (bundle / new).write_text("fine", encoding="utf-8")
    names = sorted(
        str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file() and not p.name.startswith("SHA256SUMS")
    )
    sums = "".join(f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (bundle / "SHA256SUMS").write_text(sums, encoding="utf-8")


def unsigned(bundle: Path, new: str = "", gone: str = "") -> None:
    """Seal anew without a key, which is all that somebody who writes there can do; without a directory, with a new file."""
    if gone and (bundle / gone).is_dir():
        shutil.rmtree(bundle / gone)
    elif gone:
        (bundle / gone).unlink()
    seal_anew(bundle, new)
    (bundle / "SHA256SUMS.sig").unlink()
    (bundle / "SHA256SUMS.intoto.json").unlink()


def chained(lines: list[bytes]) -> bytes:
    """Number and chain the lines of a journal again, as a forger with patience does."""
    prev, made_lines = "0" * 64, []
    for number, line in enumerate(lines, start=1):
        entry = {**json.loads(line), "seq": number, "prev": prev}
        made_lines.append(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode())
        prev = hashlib.sha256(made_lines[-1]).hexdigest()
    return b"".join(line + b"\n" for line in made_lines)


def journal(bundle: Path, change: Callable[[list[bytes]], list[bytes]], *, forge: bool = False) -> None:
    lines = change((bundle / "journal.jsonl").read_bytes().splitlines())
    data = chained(lines) if forge else b"".join(line + b"\n" for line in lines)
    (bundle / "journal.jsonl").write_bytes(data)
    unsigned(bundle)


def rename(archive: Archive) -> None:
    """Put the rehearsal's bundle under the execution's name."""
    shutil.rmtree(archive.execution)
    (archive.root / REHEARSAL).rename(archive.execution)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def stranger(archive: Archive) -> None:
    """Edit, seal anew, and sign everything with another key."""
    (archive.execution / "report.md").write_text("All good.\n", encoding="utf-8")
    unsigned(archive.execution)
    seal_and_sign(RunDirectory(str(archive.execution)), "", str(archive.keys / "eve"))


def linked(archive: Archive) -> None:
    """Put a link to another run's bundle under the execution's name."""
    shutil.rmtree(archive.execution)
    archive.execution.symlink_to(archive.root / REHEARSAL)


def backup_replaced(archive: Archive) -> None:
    (archive.execution / "backup.dump").write_bytes(b"x")
    unsigned(archive.execution)


def register_replaced(archive: Archive) -> None:
    known = archive.key("eve").line()
    (archive.execution / "register/allowed_signers").write_text(known, encoding="utf-8")
    unsigned(archive.execution)


def approval_of_a_stranger(archive: Archive) -> None:
    plan = (archive.execution / "plan.json").read_bytes()
    (archive.execution / "plan.json.ben.sig").write_bytes(archive.key("eve").sign(plan))
    unsigned(archive.execution)


def approval_twice(archive: Archive) -> None:
    shutil.copy(archive.execution / "plan.json.anna.sig", archive.execution / "plan.json.ben.sig")
    unsigned(archive.execution)


def approval_of_another_plan(archive: Archive) -> None:
    (archive.execution / "plan.json.ben.sig").write_bytes(archive.key("ben").sign(b"another plan"))
    unsigned(archive.execution)


def plan_replaced(archive: Archive) -> None:
    plan = json.loads((archive.execution / "plan.json").read_bytes())
    (archive.execution / "plan.json").write_bytes(canonical_json({**plan, "author": "nobody"}))
    unsigned(archive.execution)


def rehearsal_resealed(archive: Archive) -> None:
    (archive.root / REHEARSAL / "report.md").write_text("All good.\n", encoding="utf-8")
    unsigned(archive.root / REHEARSAL)


def statement_edited(archive: Archive) -> None:
    """Keep the signature, and the payload that it is over says something else."""
    path = archive.execution / "SHA256SUMS.intoto.json"
    envelope = json.loads(path.read_bytes())
    envelope["payload"] = envelope["payload"][:-8] + "AAAA" + envelope["payload"][-4:]
    path.write_text(json.dumps(envelope), encoding="utf-8")


def statement_of_another(archive: Archive) -> None:
    shutil.copy(archive.root / REHEARSAL / "SHA256SUMS.intoto.json", archive.execution / "SHA256SUMS.intoto.json")


def auditor_replaced(archive: Archive) -> None:
    (archive.execution / "audit.py").write_text("print('audit         OK')\n", encoding="utf-8")
    unsigned(archive.execution)


def report_edited(archive: Archive) -> None:
    report = json.loads((archive.execution / "report.json").read_bytes())
    (archive.execution / "report.json").write_text(json.dumps({**report, "outcome": "SUCCESS"}), encoding="utf-8")
    unsigned(archive.execution)


def report_with_a_key_twice(archive: Archive) -> None:
    text = (archive.execution / "report.json").read_text(encoding="utf-8")
    (archive.execution / "report.json").write_text(text.replace("{", '{"outcome": "SUCCESS",', 1), encoding="utf-8")
    unsigned(archive.execution)


def deep(archive: Archive) -> None:
    """Add directories whose path is longer than any program can open."""
    place = os.open(archive.execution, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=place)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def backup_entry(archive: Archive, **about: Any) -> None:
    """Forge what the journal has of the backup, as somebody does who wants the auditor to stumble."""

    def change(lines: list[bytes]) -> list[bytes]:
        for number, line in enumerate(lines):
            entry = json.loads(line)
            if entry["step"] == "C-01":
                entry["data"]["backup"].update(about)
                lines[number] = json.dumps(entry).encode()
            if entry["event"] == "seal":
                # one in the form of a directory is not among the digests of the seal, but its list is
                entry["data"]["files"].update({f"{about['file']}.sha256": about["sha256"]} if "sha256" in about else {})
                entry["data"]["directories"] += [about["file"]] if "sha256" in about else []
                lines[number] = json.dumps(entry).encode()
        return lines

    journal(archive.execution, change, forge=True)


def backup_directory(archive: Archive, change: Callable[[Path], Any]) -> None:
    """Give the bundle a backup in the form of a directory, and change a file of it."""
    place = archive.execution / "backup.dir"
    place.mkdir()
    (place / "toc.dat").write_bytes(b"toc")
    (place / "1.dat").write_bytes(b"rows")
    listed = "".join(
        f"{hashlib.sha256((place / one).read_bytes()).hexdigest()}  backup.dir/{one}\n" for one in ("1.dat", "toc.dat")
    )
    (archive.execution / "backup.dir.sha256").write_text(listed, encoding="utf-8")
    backup_entry(archive, file="backup.dir", sha256=hashlib.sha256(listed.encode()).hexdigest())
    assert audit.verify(str(archive.execution)).findings == []
    change(place)
    seal_anew(archive.execution)


TAMPERINGS: dict[str, tuple[Callable[[Archive], Any], str]] = {
    "edited": (lambda a: (a.execution / "report.md").write_text("x"), r"report\.md was changed: SHA-256 is [0-9a-f]{64}"),
    "deleted": (lambda a: (a.execution / "logs/C-07.log").unlink(), r"logs/C-07\.log is listed in SHA256SUMS but missing"),
    "added": (lambda a: (a.execution / "logs/C-09.log").touch(), r"logs/C-09\.log is not listed in SHA256SUMS"),
    "emptied": (lambda a: (a.execution / "plan.json").write_bytes(b""), r"plan\.json was emptied: it has no content"),
    "link": (lambda a: link(a.execution / "report.md"), r"report\.md is not a regular file \(a symbolic link"),
    "linked directory": (lambda a: (a.execution / "more").symlink_to("/etc"), r"more is not listed in SHA256SUMS"),
    "pipe": (lambda a: fifo(a.execution / "report.json"), r"report\.json is not a regular file"),
    "pipe as seal": (lambda a: fifo(a.execution / "SHA256SUMS"), r"SHA256SUMS is not a regular file"),
    "pipe as signature": (lambda a: fifo(a.execution / "SHA256SUMS.sig"), r"SHA256SUMS\.sig is not a regular file"),
    "name outside": (
        lambda a: (a.execution / "SHA256SUMS").write_text("0" * 64 + "  ../x\n"),
        r"SHA256SUMS line 1 names a path outside the bundle: \.\./x",
    ),
    "no seal": (lambda a: (a.execution / "SHA256SUMS").unlink(), r"the bundle is not sealed: SHA256SUMS is missing"),
    "empty directory": (lambda a: (a.execution / "more").mkdir(), r"directory more was added after the run was sealed"),
    "odd name": (
        lambda a: (a.execution / os.fsdecode(b"caf\xe9\x1b[31m\n")).touch(),
        r"caf\\udce9\\u001b\[31m\\n is not listed in SHA256SUMS",
    ),
    "another run": (rename, r"another run's bundle is under this name: it was sealed as alpha_prod_rehearsal_"),
    "link to another run": (linked, r"is a link to another run's bundle: it was sealed as alpha_prod_rehearsal_"),
    "backup replaced": (backup_replaced, r"backup\.dump was replaced: SHA-256 is [0-9a-f]{64}, entry \d+ of the journal has"),
    "reordered journal": (
        lambda a: journal(a.execution, lambda lines: [lines[1], lines[0], *lines[2:]]),
        r"journal is not intact at line 1: its lines were reordered: line 1 is entry 2",
    ),
    "journal without a line": (
        lambda a: journal(a.execution, lambda lines: [*lines[:1], *lines[2:]]),
        r"journal is not intact at line 2: entry 2 missing",
    ),
    "journal line twice": (
        lambda a: journal(a.execution, lambda lines: [lines[0], *lines]),
        r"journal is not intact at line 2: entry 1 is there twice",
    ),
    "edited journal": (
        lambda a: journal(a.execution, lambda lines: [lines[0].replace(b'"prod"', b'"dev"'), *lines[1:]]),
        r"journal is not intact at line 2: line 1 was changed after it was written, or line 2 was",
    ),
    "truncated journal": (
        lambda a: journal(a.execution, lambda lines: lines[:-1]),
        r"journal\.jsonl does not end with the run's seal: it was cut off after entry \d",
    ),
    "journal goes on": (
        lambda a: journal(a.execution, lambda lines: [*lines, lines[1]], forge=True),
        r"does not end with the run's seal: entry \d was added after it",
    ),
    "emptied journal": (lambda a: journal(a.execution, lambda _lines: []), r"does not end with the run's seal: it is empty"),
    "journal forged as another run's": (
        lambda a: journal(a.execution, lambda lines: [one.replace(EXECUTION.encode(), b"x_y_20270101T000000Z") for one in lines], forge=True),
        r"it was sealed as x_y_20270101T000000Z, and is called alpha_prod_20260516T031200Z",
    ),
    "plan replaced": (plan_replaced, r"plan\.json was replaced: SHA-256 is [0-9a-f]{64}, entry 1 of the journal has"),
    "report says another outcome": (report_edited, r"report\.json says SUCCESS: the journal has STOPPED"),
    "report is no report": (
        lambda a: unsigned(a.execution, new="report.json"),
        r"report\.json says nothing that can be read: the journal has STOPPED",
    ),
    "summary says another outcome": (
        lambda a: unsigned(a.execution, new="SUMMARY.txt"),
        r"SUMMARY\.txt begins with '.*': the journal has 'Execution of phase alpha r2 on prod: STOPPED'",
    ),
    "log replaced": (
        lambda a: unsigned(a.execution, new="logs/C-07.log"),
        r"logs/C-07\.log was replaced: SHA-256 is [0-9a-f]{64}, entry \d+ of the journal has",
    ),
    "driver's log replaced": (
        lambda a: unsigned(a.execution, new="logs/driver.log"),
        r"logs/driver\.log was replaced: SHA-256 is [0-9a-f]{64}, entry \d+ of the journal has",
    ),
    "auditor removed": (lambda a: unsigned(a.execution, gone="audit.py"), r"audit\.py was removed: entry \d+ of the journal has it"),
    "report removed": (lambda a: unsigned(a.execution, gone="report.html"), r"report\.html was removed: a sealed run has it"),
    "all of the report removed": (lambda a: unsigned(a.execution, gone="report.json"), r"report\.json was removed: a sealed run has it"),
    "report with a key twice": (report_with_a_key_twice, r"report\.json says nothing that can be read: the journal has STOPPED"),
    "file of a backup directory replaced": (
        lambda a: backup_directory(a, lambda place: (place / "1.dat").write_bytes(b"others")),
        r"backup\.dir/1\.dat was changed: SHA-256 is [0-9a-f]{64}, backup\.dir\.sha256 has",
    ),
    "file of a backup directory removed": (
        lambda a: backup_directory(a, lambda place: (place / "toc.dat").unlink()),
        r"backup\.dir/toc\.dat is listed in backup\.dir\.sha256 but missing",
    ),
    "file of a backup directory added": (
        lambda a: backup_directory(a, lambda place: (place / "2.dat").touch()),
        r"backup\.dir/2\.dat is not listed in backup\.dir\.sha256",
    ),
    "log removed": (lambda a: unsigned(a.execution, gone="logs"), r"logs/C-07\.log was removed: entry \d+ of the journal has it"),
    "file added and sealed": (
        lambda a: unsigned(a.execution, new="more.json"),
        r"more\.json was added: the journal does not have it",
    ),
    "register replaced": (
        register_replaced,
        r"register/allowed_signers was replaced: SHA-256 is [0-9a-f]{64}, entry 2 of the journal has",
    ),
    "register removed": (
        lambda a: unsigned(a.execution, gone="register"),
        r"register/allowed_signers was removed: entry 2 of the journal has it",
    ),
    "register with one more file": (
        lambda a: unsigned(a.execution, new="register/revoked_keys"),
        r"register/revoked_keys was added: the journal does not have it",
    ),
    "sealed anew": (
        lambda a: seal_anew(a.execution, new="report.md"),
        r"SHA256SUMS\.sig does not match this SHA256SUMS: the bundle was sealed again",
    ),
    "sealed anew, unsigned": (
        lambda a: unsigned(a.execution, new="report.md"),
        r"the seal is UNSIGNED: SHA256SUMS\.sig is missing",
    ),
    "signed by a stranger": (stranger, r"the seal was signed by an unknown key: SHA256:\S+ is not in"),
    "signature of another purpose": (
        lambda a: (a.execution / "SHA256SUMS.sig").write_bytes(a.key("host").sign((a.execution / "SHA256SUMS").read_bytes())),
        r"SHA256SUMS\.sig was made for another purpose: namespace 'plan@phasegate\.incomex'",
    ),
    "damaged signature": (
        lambda a: (a.execution / "SHA256SUMS.sig").write_bytes(b"-----BEGIN SSH SIGNATURE-----\n"),
        r"SHA256SUMS\.sig is not an SSH signature, or it is damaged",
    ),
    "statement edited": (statement_edited, r"SHA256SUMS\.intoto\.json does not match this statement: it was changed"),
    "statement of another run": (statement_of_another, r"SHA256SUMS\.intoto\.json is about other files"),
    "approved by a stranger": (approval_of_a_stranger, r"G-1 is PASS in the journal, but 1 of 2 approvals of plan\.json count"),
    "approved twice by one": (approval_twice, r"G-1 is PASS in the journal, but 1 of 2 approvals of plan\.json count"),
    "approval of another plan": (approval_of_another_plan, r"but 1 of 2 approvals of plan\.json count"),
    "rehearsal sealed anew": (rehearsal_resealed, rf"plan\.json names {REHEARSAL} with seal [0-9a-f]{{64}}; the bundle of that"),
    "rehearsal edited": (
        lambda a: (a.root / REHEARSAL / "report.md").write_text("x"),
        rf"the bundle that plan\.json names, {REHEARSAL}: report\.md was changed",
    ),
    "auditor replaced": (auditor_replaced, r"audit\.py differs from this auditor and from those of the releases that it knows"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERINGS)
@pytest.mark.fault("evidence-tampered", "auditor-alone")
def test_each_tampering_has_its_own_verdict(archive: Archive, tmp_path: Path, what: str) -> None:
    tamper, said = TAMPERINGS[what]
    tamper(archive)
    before = tree(archive.execution)
    for python in PYTHONS:
        run = run_alone(
            archive, tmp_path, str(archive.execution), "--allowed-signers", str(archive.signers), python=python
        )
        assert run.returncode == 1, run.stdout + run.stderr
        findings = [line for line in run.stdout.splitlines() if line.startswith("FINDING")]
        assert any(re.search(said, line) for line in findings), run.stdout
        assert "NOT INTACT" in run.stdout
        assert run.stderr == ""
        assert "\x1b" not in run.stdout
    assert tree(archive.execution) == before


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.fault("auditor-alone")
def test_untouched_bundles_and_their_links_verify(archive: Archive, tmp_path: Path, python: str) -> None:
    before = tree(archive.root)
    bundles = [str(archive.root / name) for name in (EXECUTION, ROLLBACK, REHEARSAL)]
    seal = hashlib.sha256((archive.execution / "SHA256SUMS").read_bytes()).hexdigest()
    options = ["--allowed-signers", str(archive.signers), "--seal", seal]
    run = run_alone(archive, tmp_path, *bundles, *options, python=python)
    assert run.returncode == 0, run.stdout + run.stderr
    assert tree(archive.root) == before
    for said in (
        "audit         OK",
        "seal check    matches the recorded seal",
        "signature     by host, key SHA256:",
        "statement     by host, key SHA256:",
        "auditor       the bundle's audit.py is this auditor",
        "register      entitled when the gates were evaluated: anna SHA256:",
        "approvals     plan: anna, key SHA256:",
        f"approvals     rollback of {EXECUTION}: ben, key SHA256:",
        f"link          rehearsal {REHEARSAL}: intact, with the seal that plan.json names",
        f"link          rolls back {EXECUTION}: intact",
        f"link          rollback of {EXECUTION}: intact, with the seal that rollback.json names",
        f"link          {ROLLBACK} is a rollback of this run",
    ):
        assert said in run.stdout, run.stdout
    document = json.loads(run_alone(archive, tmp_path, *bundles, "--json", python=python).stdout)
    assert [one["exit_code"] for one in document["bundles"]] == [0, 0, 0]
    assert document["bundles"][0]["seal"] == seal


def test_who_may_approve_may_not_seal_where_the_list_says_so(archive: Archive, tmp_path: Path) -> None:
    """As docs/security-model.md advises: ssh-keygen obeys the namespaces of a line."""
    may_approve = "plan@phasegate.incomex,notes@phasegate.incomex,rollback@phasegate.incomex,review@phasegate.incomex"
    lines = [archive.key(name).line().replace(" ", f' namespaces="{may_approve}" ', 1) for name in ("anna", "ben")]
    may_seal = ' namespaces="seal@phasegate.incomex,statement@phasegate.incomex" '
    known = tmp_path / "known"
    known.write_text("".join([*lines, archive.key("host").line().replace(" ", may_seal, 1)]), encoding="utf-8")
    arguments = (str(archive.execution), "--allowed-signers", str(known))
    assert run_alone(archive, tmp_path, *arguments).returncode == 0
    (archive.execution / "report.md").write_text("All good.\n", encoding="utf-8")
    unsigned(archive.execution)
    seal_and_sign(RunDirectory(str(archive.execution)), "", str(archive.keys / "anna"))
    run = run_alone(archive, tmp_path, *arguments)
    assert run.returncode == 1
    assert "ssh-keygen rejects the signature of the seal" in run.stdout


def test_a_recorded_seal_tells_a_bundle_that_was_sealed_anew(archive: Archive, tmp_path: Path) -> None:
    noted = hashlib.sha256((archive.execution / "SHA256SUMS").read_bytes()).hexdigest()
    (archive.execution / "report.md").write_text("fine", encoding="utf-8")
    unsigned(archive.execution)
    # the limit of a seal without a signature, stated in docs/auditing.md
    assert run_alone(archive, tmp_path).returncode == 0
    run = run_alone(archive, tmp_path, str(archive.execution), "--seal", noted)
    assert run.returncode == 1
    assert f"the seal differs from the recorded one, {noted}: the bundle was sealed anew" in run.stdout


def without_files(lines: list[bytes]) -> list[bytes]:
    """Return a journal as earlier releases wrote it, without the digests of all files."""
    last = json.loads(lines[-1])
    del last["data"]["files"]
    return [*lines[:-1], json.dumps(last).encode()]


@pytest.mark.parametrize("name", ["phase_plan.json", "plan.json"])
def test_the_plan_of_a_rehearsal_by_either_name(archive: Archive, name: str) -> None:
    bundle = archive.root / REHEARSAL
    (bundle / "phase_plan.json").rename(bundle / name)
    journal(bundle, without_files, forge=True)
    assert audit.verify(str(bundle)).findings == []
    (bundle / name).write_text("{}", encoding="utf-8")
    seal_anew(bundle)
    (finding,) = audit.verify(str(bundle)).findings
    assert finding.startswith(f"{name} was replaced: SHA-256 is ")
    (bundle / name).unlink()
    seal_anew(bundle)
    (finding,) = audit.verify(str(bundle)).findings
    assert finding.startswith("phase_plan.json was removed: entry 1 of the journal has it")


@pytest.mark.parametrize(
    "gone", [("rollback.json.ben.sig",), ("rollback.json", "rollback.json.anna.sig", "rollback.json.ben.sig")]
)
def test_a_rollback_without_its_approvals(archive: Archive, tmp_path: Path, gone: tuple[str, ...]) -> None:
    for name in gone:
        (archive.root / ROLLBACK / name).unlink()
    unsigned(archive.root / ROLLBACK)
    run = run_alone(archive, tmp_path, str(archive.root / ROLLBACK))
    assert run.returncode == 1, run.stdout
    assert re.search(r"FINDING +G-1 is PASS in the journal, but [01] of 2 approvals of (the )?rollback", run.stdout), (
        run.stdout
    )


@pytest.mark.fault("auditor-stalled")
def test_a_bundle_cannot_keep_the_auditor_busy(archive: Archive, tmp_path: Path) -> None:
    """Each took hours, or ended in a traceback: the reading is bounded, and further bundles have their verdict."""
    other = shutil.copytree(archive.root, tmp_path / "other") / EXECUTION
    lines = b"".join(b'{"seq":%d}\n' % number for number in range(2, 200_000)) + b'{"seq":7}\n'
    (archive.execution / "journal.jsonl").write_bytes(lines)
    unsigned(archive.execution)
    run = run_alone(archive, tmp_path, str(archive.execution), str(other))
    assert run.returncode == 1
    assert "entry 7 is there twice" in run.stdout
    assert run.stdout.count("\naudit ") == 1
    assert run.stderr == ""

    for name in ("report.json", "SHA256SUMS", "journal.jsonl"):
        again = shutil.copytree(archive.root, tmp_path / f"large {name}") / EXECUTION
        os.truncate(again / name, (256 << 20) + 1)
        run = run_alone(archive, tmp_path, str(again), str(other))
        assert run.returncode in (1, 3), name
        assert "is larger than 268435456 bytes" in run.stdout, name
        assert run.stdout.count("\naudit ") == 1
        assert run.stderr == ""


@pytest.mark.fault("auditor-stalled")
def test_directories_too_deep_to_open_and_entries_of_another_form(archive: Archive, tmp_path: Path) -> None:
    deep(archive)
    run = run_alone(archive, tmp_path)
    assert run.returncode == 1
    assert re.search(r"FINDING +directory d{200} was added after the run was sealed", run.stdout)
    assert "no bundle has directories so deep" in run.stdout
    assert run.stderr == ""
    shutil.rmtree(archive.execution / ("d" * 200))
    backup_entry(archive, file=[])
    run = run_alone(archive, tmp_path)
    assert run.stdout.startswith("audit ")
    assert run.stderr == ""


@pytest.mark.fault("auditor-stalled")
def test_the_signatures_and_names_that_are_tried_are_bounded(archive: Archive, tmp_path: Path) -> None:
    anna = archive.key("anna").line()
    names = ",".join(f"anna{number}@example.com" for number in range(30_000))
    many = tmp_path / "many"
    many.write_text(f"{names} {anna.partition(' ')[2]}", encoding="utf-8")
    run = run_alone(archive, tmp_path, str(archive.execution), "--allowed-signers", str(many))
    assert "has 30000 names in" in run.stdout
    for number in range(300):
        shutil.copy(archive.execution / "plan.json.anna.sig", archive.execution / f"plan.json.n{number}.sig")
    unsigned(archive.execution)
    run = run_alone(archive, tmp_path)
    assert "more than 200 signatures: plan.json.n" in run.stdout
    # people whose keys and names are chained to each other
    chain = "".join(f"a{n},a{n + 1} {anna.partition(' ')[2]}" for n in range(3000))
    assert len(audit.Signers(chain.encode(), "a list").person(audit.decoded(anna.split()[2]))) == 3001


def test_an_option_that_is_given_has_a_value(archive: Archive, tmp_path: Path) -> None:
    for option in ("--seal", "--allowed-signers", "--tsa-ca"):
        for value in ("", "  "):
            run = run_alone(archive, tmp_path, str(archive.execution), option, value)
            assert run.returncode == 2, (option, run.stdout)
            assert f"an empty value for {option[2:]}" in run.stderr
    run = run_alone(archive, tmp_path, str(archive.execution), "--seal", "abc")
    assert run.returncode == 2
    assert "not a SHA-256, 64 hexadecimal digits: abc" in run.stderr


@pytest.mark.fault("no-bundle")
def test_a_mistyped_path_is_no_tampering(archive: Archive, tmp_path: Path) -> None:
    for path in (f"{archive.execution}x", str(archive.execution / "plan.json"), str(archive.keys)):
        run = run_alone(archive, tmp_path, path)
        assert run.returncode == 2, run.stdout
        assert "audit         no such bundle: " in run.stdout
        assert "FINDING" not in run.stdout
    wrong = run_alone(archive, tmp_path, str(archive.execution), "--allowed-signers", f"{archive.signers}x")
    assert wrong.returncode == 2
    assert "the list of signers, or of authorities, cannot be read" in wrong.stderr


@pytest.mark.fault("evidence-open")
def test_modes_and_hard_links_are_warnings(archive: Archive, tmp_path: Path) -> None:
    (archive.execution / "report.md").chmod(0o666)
    (tmp_path / "outside").hardlink_to(archive.execution / "plan.json")
    run = run_alone(archive, tmp_path)
    assert run.returncode == 0, run.stdout
    assert "warning       report.md can be changed by other users: mode 0666" in run.stdout
    assert "warning       plan.json has 2 names (hard links)" in run.stdout


def test_a_pruned_backup_is_named_and_not_checked(archive: Archive, tmp_path: Path) -> None:
    (archive.execution / "backup.dump").unlink()
    assert "backup.dump is listed in SHA256SUMS but missing" in run_alone(archive, tmp_path).stdout
    seal = hashlib.sha256((archive.execution / "SHA256SUMS").read_bytes()).hexdigest()
    record = {
        "bundle": EXECUTION,
        "seal": seal,
        "file": "backup.dump",
        "at": "2026-06-01T00:00:00Z",
        "why": "16 days old",
    }
    (archive.root / f"{EXECUTION}.pruned.json").write_text(json.dumps(record), encoding="utf-8")
    run = run_alone(archive, tmp_path)
    assert run.returncode == 3, run.stdout
    assert f"NOT CHECKED   backup.dump was pruned, named by {EXECUTION}.pruned.json: 2026-06-01" in run.stdout
    # the record is of this bundle, and of a backup, only
    (archive.execution / "logs/C-07.log").unlink()
    assert run_alone(archive, tmp_path).returncode == 1


def test_without_ssh_keygen_signatures_are_not_checked(archive: Archive, tmp_path: Path) -> None:
    shutil.copyfile(SOURCE, tmp_path / "audit.py")
    code = "import sys; sys.path.insert(0, '.'); import audit; audit.PROGRAM_PATH = '/nonexistent'; sys.exit(audit.main(sys.argv[1:]))"
    argv = [PYTHONS[0], "-S", "-c", code, str(archive.execution), "--allowed-signers", str(archive.signers)]
    run = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 3, run.stdout + run.stderr
    assert "NOT CHECKED   ssh-keygen is not on this host" in run.stdout
    assert "verified with" not in run.stdout


def test_the_bundles_own_copy_does_not_vouch_for_itself(archive: Archive, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", "-B", str(archive.execution / "audit.py"), str(archive.execution)]
    run = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 3, run.stdout
    assert "this auditor is the bundle's own audit.py, which vouches for itself" in run.stdout


def test_an_auditor_of_another_release_is_known(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    auditor_replaced(archive)
    digest = hashlib.sha256((archive.execution / "audit.py").read_bytes()).hexdigest()
    own = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    lines = (archive.execution / "journal.jsonl").read_bytes().replace(own.encode(), digest.encode()).splitlines()
    (archive.execution / "journal.jsonl").write_bytes(chained(lines))
    seal_anew(archive.execution)
    monkeypatch.setitem(audit.RELEASED, digest, "0.0.9")
    result = audit.audit(str(archive.execution))
    assert ("auditor", "the bundle's audit.py is that of release 0.0.9") in result.facts
    assert result.code == 0, result.findings


def test_keys_that_expired_since_were_valid_then(archive: Archive, tmp_path: Path) -> None:
    lines = [archive.key(name).line('valid-before="20990101Z"') for name in ("anna", "ben", "host")]
    (tmp_path / "then").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "before").write_text("".join(lines).replace("2099", "2001"), encoding="utf-8")
    assert (
        run_alone(archive, tmp_path, str(archive.execution), "--allowed-signers", str(tmp_path / "then")).returncode
        == 0
    )
    run = run_alone(archive, tmp_path, str(archive.execution), "--allowed-signers", str(tmp_path / "before"))
    assert run.returncode == 1
    assert "ssh-keygen rejects the signature of the seal" in run.stdout


def test_openssh_alone_verifies_the_statement(archive: Archive, tmp_path: Path) -> None:
    """As docs/auditing.md describes it."""
    envelope = json.loads((archive.execution / "SHA256SUMS.intoto.json").read_bytes())
    (signature,) = envelope["signatures"]
    kind, body = (
        envelope["payloadType"],
        subprocess.run(["base64", "-d"], input=envelope["payload"].encode(), capture_output=True, check=True).stdout,
    )
    (tmp_path / "sig").write_text(
        f"-----BEGIN SSH SIGNATURE-----\n{signature['sig']}\n-----END SSH SIGNATURE-----\n", encoding="ascii"
    )
    message = f"DSSEv1 {len(kind)} {kind} {len(body)} ".encode() + body
    argv = ["ssh-keygen", "-Y", "verify", "-n", "statement@phasegate.incomex", "-f", str(archive.signers), "-I", "host"]
    run = subprocess.run([*argv, "-s", str(tmp_path / "sig")], input=message, capture_output=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    statement = json.loads(body)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    listed = {line[66:]: line[:64] for line in (archive.execution / "SHA256SUMS").read_text().splitlines()}
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert {name: digest for name, digest in subjects.items() if name != "SHA256SUMS"} == listed
    assert statement["predicate"]["plan_sha256"] == listed["plan.json"]
    assert statement["predicate"]["gates"]["G-1"] == "PASS"


def stamp(bundle: Path, place: Path) -> Path:
    """Time-stamp a seal as docs/auditing.md describes it, by an authority of our own; return its certificate."""
    authority = Authority(place)
    query = openssl("ts", "-query", "-data", str(bundle / "SHA256SUMS"), "-sha256", "-cert")
    (bundle / "SHA256SUMS.tsr").write_bytes(authority.reply(query))
    return authority.certificate


def test_a_time_stamp_of_the_seal(archive: Archive, tmp_path: Path) -> None:
    authority, stranger_too = (
        stamp(archive.execution, tmp_path / "one"),
        stamp(archive.root / REHEARSAL, tmp_path / "two"),
    )
    run = run_alone(archive, tmp_path)
    assert run.returncode == 0, run.stdout
    assert "time-stamp    of this seal, compared with no authority" in run.stdout
    run = run_alone(archive, tmp_path, str(archive.execution), "--tsa-ca", str(authority))
    assert run.returncode == 0, run.stdout
    assert re.search(r"time-stamp +sealed before \S+Z, verified with your authorities", run.stdout)
    run = run_alone(archive, tmp_path, str(archive.execution), "--tsa-ca", str(stranger_too))
    assert run.returncode == 1
    assert "openssl rejects SHA256SUMS.tsr" in run.stdout
    shutil.copy(archive.root / REHEARSAL / "SHA256SUMS.tsr", archive.execution / "SHA256SUMS.tsr")
    run = run_alone(archive, tmp_path)
    assert run.returncode == 1
    assert "SHA256SUMS.tsr is no time-stamp of this SHA256SUMS" in run.stdout


def der(tag: int, content: bytes) -> bytes:
    """Return a value in DER."""
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82, size >> 8, size & 0xFF])
    return bytes([tag]) + length + content


def with_status_text(stamp_file: Path, text: bytes) -> None:
    """Put a text into the status of a time-stamp's response, which no signature covers."""

    def parts(data: bytes) -> tuple[bytes, bytes]:
        """Return the content of the first value, and what follows it."""
        more = data[1] & 0x7F if data[1] & 0x80 else 0
        size = int.from_bytes(data[2 : 2 + more], "big") if more else data[1]
        return data[2 + more : 2 + more + size], data[2 + more + size :]

    body, _rest = parts(stamp_file.read_bytes())
    _status, token = parts(body)
    stamp_file.write_bytes(der(0x30, der(0x30, der(2, b"\0") + der(0x30, der(0x0C, text))) + token))


@pytest.mark.fault("stamp-backdated")
@pytest.mark.parametrize(
    "text",
    [
        b"\nTime stamp: Jan  2 03:04:05 2021 GMT",
        b"x\nTST info:\nVersion: 1\nTime stamp: Jan  2 03:04:05 2021 GMT\ny",
        b"\nTime stamp: Jan  2 03:04:05 2031 GMT\n\nTST info:\n",
    ],
)
def test_a_time_stamp_tells_the_time_that_is_signed(archive: Archive, tmp_path: Path, text: bytes) -> None:
    authority = stamp(archive.execution, tmp_path / "one")
    with_status_text(archive.execution / "SHA256SUMS.tsr", text)
    run = run_alone(archive, tmp_path, str(archive.execution), "--tsa-ca", str(authority))
    assert re.search(
        rf"time-stamp +sealed before {time.strftime('%Y')}-\S+Z, verified with your authorities", run.stdout
    ), run.stdout


def mutated(value: Any, data: st.DataObject) -> Any:
    """Replace something in a JSON value by something else."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: mutated(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], mutated(value[place], data), *value[place + 1 :]]
    odd: list[Any] = [
        None,
        [],
        {},
        [[]],
        [None],
        -1,
        10**100,
        "",
        "{0}",
        "\x1b[2J",
        "../..",
        "\u202e",
        True,
        {"gates": [1]},
    ]
    return data.draw(st.sampled_from(odd))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_content_makes_the_auditor_stumble(
    made: Archive, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    archive = made.copy(tmp_path_factory.mktemp("mutated"))
    names = ["plan.json", "report.json", "SHA256SUMS.intoto.json", "register/policy.json", "journal.jsonl"]
    name = data.draw(st.sampled_from(names))
    path = archive.execution / name
    if name == "journal.jsonl":
        lines = path.read_bytes().splitlines()
        place = data.draw(st.integers(0, len(lines) - 1))
        entry = json.loads(lines[place])
        lines[place] = json.dumps({**entry, "data": mutated(entry["data"], data)}).encode()
        path.write_bytes(chained(lines))
    else:
        path.write_text(json.dumps(mutated(json.loads(path.read_bytes()), data)), encoding="utf-8")
    seal_anew(archive.execution)
    result = audit.audit(str(archive.execution))
    assert result.code in (0, 1)
    assert "\x1b" not in "".join(result.lines())
