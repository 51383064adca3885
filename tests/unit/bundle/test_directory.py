# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sealed bundle: each damage is found and has a message of its own. And the files of a run are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import NO_BUNDLE, audit
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import PreflightRun, SqlFrozen
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step, evidence_incomplete
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    atomic_file,
    file_error,
    plan_file_error,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A sealed run of two steps, with files in two folders."""
    artefacts = RunDirectory(str(tmp_path / "alpha_test_20260516T031200Z"))
    artefacts.create()
    artefacts.journal.append("run", "open", {"environment": "test"})
    with Step(artefacts, SqlFrozen).running() as step:
        step.file("sql/migrate.sql", b"SELECT 1;\n")
        step.file("sql/rollback.sql", b"SELECT 2;\n")
    seal_run(artefacts, "")
    return tmp_path / "alpha_test_20260516T031200Z"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sum_again(bundle: Path) -> None:
    """Do what somebody does who wants a changed bundle to look right."""
    names = sorted(str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file() and p.name != SEAL)
    (bundle / SEAL).write_text("".join(f"{sha256(bundle / name)}  {name}\n" for name in names), encoding="utf-8")


def edit(bundle: Path) -> None:
    (bundle / "report.md").write_text("All good.\n", encoding="utf-8")


def edit_one_bit(bundle: Path) -> None:
    data = bytearray((bundle / "sql/migrate.sql").read_bytes())
    data[0] ^= 1
    (bundle / "sql/migrate.sql").write_bytes(data)


def append_newline(bundle: Path) -> None:
    with (bundle / "SUMMARY.txt").open("ab") as stream:
        stream.write(b"\n")


def delete(bundle: Path) -> None:
    (bundle / "report.json").unlink()


def delete_the_journal(bundle: Path) -> None:
    (bundle / "journal.jsonl").unlink()


def delete_the_seal(bundle: Path) -> None:
    (bundle / SEAL).unlink()


def add(bundle: Path) -> None:
    (bundle / "logs/C-09.log").write_bytes(b"")


def add_hidden(bundle: Path) -> None:
    (bundle / ".note").write_bytes(b"")


def leave_partial(bundle: Path) -> None:
    (bundle / "backup.dump.partial").write_bytes(b"x")


def link_a_file(bundle: Path) -> None:
    copy = bundle.parent / "outside"
    (bundle / "report.md").rename(copy)
    (bundle / "report.md").symlink_to(copy)


def link_a_folder(bundle: Path) -> None:
    (bundle / "more").symlink_to(bundle / "sql")


def put_a_pipe(bundle: Path) -> None:
    (bundle / "report.md").unlink()
    os.mkfifo(bundle / "report.md")


def link_the_seal(bundle: Path) -> None:
    (bundle / SEAL).rename(bundle.parent / "sums")
    (bundle / SEAL).symlink_to(bundle.parent / "sums")


def pipe_as_seal(bundle: Path) -> None:
    (bundle / SEAL).unlink()
    os.mkfifo(bundle / SEAL)


def swap(bundle: Path) -> None:
    (bundle / "sql/migrate.sql").rename(bundle / "x")
    (bundle / "sql/rollback.sql").rename(bundle / "sql/migrate.sql")
    (bundle / "x").rename(bundle / "sql/rollback.sql")


def rename(bundle: Path) -> None:
    (bundle / "report.md").rename(bundle / "Report.md")


def empty_the_seal(bundle: Path) -> None:
    (bundle / SEAL).write_bytes(b"")


def cut_the_seal(bundle: Path) -> None:
    data = (bundle / SEAL).read_bytes()
    (bundle / SEAL).write_bytes(data[:-1])


def rewrite_seal(bundle: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = (bundle / SEAL).read_text(encoding="utf-8").splitlines(keepends=True)
    (bundle / SEAL).write_text("".join(change(lines)), encoding="utf-8")


def reverse_the_seal(bundle: Path) -> None:
    rewrite_seal(bundle, lambda lines: lines[::-1])


def list_twice(bundle: Path) -> None:
    rewrite_seal(bundle, lambda lines: [lines[0], *lines])


def list_no_more(bundle: Path) -> None:
    rewrite_seal(bundle, lambda lines: lines[:-1])


def list_outside(bundle: Path) -> None:
    (bundle.parent / "outside").write_bytes(b"")
    rewrite_seal(bundle, lambda lines: [f"{hashlib.sha256().hexdigest()}  ../outside\n", *lines])


def list_absolute(bundle: Path) -> None:
    rewrite_seal(bundle, lambda lines: [f"{hashlib.sha256().hexdigest()}  /etc/hostname\n", *lines])


def list_in_upper_case(bundle: Path) -> None:
    rewrite_seal(bundle, lambda lines: [lines[0].upper(), *lines[1:]])


def list_with_crlf(bundle: Path) -> None:
    rewrite_seal(bundle, lambda lines: [line.replace("\n", "\r\n") for line in lines])


def edit_the_journal_and_sum_again(bundle: Path) -> None:
    data = (bundle / "journal.jsonl").read_bytes()
    (bundle / "journal.jsonl").write_bytes(data.replace(b'"environment":"test"', b'"environment":"prod"'))
    sum_again(bundle)


def cut_the_journal_and_sum_again(bundle: Path) -> None:
    lines = (bundle / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (bundle / "journal.jsonl").write_bytes(b"".join(lines[:-1]))
    sum_again(bundle)


def tear_the_journal_and_sum_again(bundle: Path) -> None:
    with (bundle / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"seq":')
    sum_again(bundle)


def empty_the_journal_and_sum_again(bundle: Path) -> None:
    (bundle / "journal.jsonl").write_bytes(b"")
    sum_again(bundle)


def delete_the_journal_and_sum_again(bundle: Path) -> None:
    (bundle / "journal.jsonl").unlink()
    sum_again(bundle)


def journal_after_the_seal_and_sum_again(bundle: Path) -> None:
    RunDirectory(str(bundle)).journal.append("C-09", "done")
    sum_again(bundle)


@dataclass(frozen=True)
class Damage:
    do: Callable[[Path], None]
    said: tuple[str, ...]


UNFINISHED = "journal.jsonl does not end with the run's seal"

DAMAGES = [
    Damage(edit, ("report.md was changed: SHA-256 is",)),
    Damage(edit_one_bit, ("sql/migrate.sql was changed: SHA-256 is",)),
    Damage(append_newline, ("SUMMARY.txt was changed: SHA-256 is",)),
    Damage(delete, ("report.json is listed in SHA256SUMS but missing",)),
    Damage(delete_the_journal, ("journal.jsonl is listed in SHA256SUMS but missing",)),
    Damage(delete_the_seal, ("the bundle is not sealed: SHA256SUMS is missing",)),
    Damage(add, ("logs/C-09.log is not listed in SHA256SUMS",)),
    Damage(add_hidden, (".note is not listed in SHA256SUMS",)),
    Damage(leave_partial, ("backup.dump.partial is not listed in SHA256SUMS",)),
    Damage(link_a_file, ("report.md is not a regular file",)),
    Damage(link_a_folder, ("more is not listed in SHA256SUMS",)),
    Damage(put_a_pipe, ("report.md is not a regular file",)),
    Damage(link_the_seal, ("SHA256SUMS is not a regular file",)),
    Damage(pipe_as_seal, ("SHA256SUMS is not a regular file",)),
    Damage(swap, ("sql/migrate.sql was changed: SHA-256 is", "sql/rollback.sql was changed: SHA-256 is")),
    Damage(rename, ("report.md is listed in SHA256SUMS but missing", "Report.md is not listed in SHA256SUMS")),
    Damage(cut_the_seal, ("SHA256SUMS is cut off", "sql/rollback.sql is not listed in SHA256SUMS")),
    Damage(reverse_the_seal, ("SHA256SUMS is not in the order in which it is written",)),
    Damage(list_twice, ("SHA256SUMS line 2 names SUMMARY.txt again",)),
    Damage(list_no_more, ("sql/rollback.sql is not listed in SHA256SUMS",)),
    Damage(list_outside, ("SHA256SUMS line 1 names a path outside the bundle: ../outside",)),
    Damage(list_absolute, ("SHA256SUMS line 1 names a path outside the bundle: /etc/hostname",)),
    Damage(
        list_in_upper_case, ("SHA256SUMS line 1 is not '<sha256>  <name>'", "SUMMARY.txt is not listed in SHA256SUMS")
    ),
    Damage(edit_the_journal_and_sum_again, ("The journal is not intact at line 2",)),
    Damage(cut_the_journal_and_sum_again, (UNFINISHED,)),
    Damage(tear_the_journal_and_sum_again, (UNFINISHED,)),
    Damage(empty_the_journal_and_sum_again, (UNFINISHED,)),
    Damage(delete_the_journal_and_sum_again, (UNFINISHED,)),
    Damage(journal_after_the_seal_and_sum_again, (UNFINISHED,)),
]


def test_an_untouched_bundle_verifies(bundle: Path) -> None:
    assert verify_bundle(str(bundle)) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.do.__name__))
@pytest.mark.fault("evidence-tampered")
def test_damage_is_found_and_named(bundle: Path, damage: Damage) -> None:
    damage.do(bundle)
    findings = verify_bundle(str(bundle))
    assert len(findings) == len(damage.said), findings
    for finding, said in zip(findings, damage.said, strict=True):
        assert finding.startswith(said)


@pytest.mark.parametrize("damage", [empty_the_seal, list_with_crlf])
def test_a_seal_of_another_form_leaves_every_file_unlisted(bundle: Path, damage: Callable[[Path], None]) -> None:
    files = sum(path.is_file() for path in bundle.rglob("*")) - 1
    damage(bundle)
    assert (
        sum("not listed in SHA256SUMS" in finding or "but missing" in finding for finding in verify_bundle(str(bundle)))
        >= files
    )


def another_runs_bundle(bundle: Path) -> Path:
    place = bundle.with_name("alpha_prod_20270101T000000Z")
    bundle.rename(place)
    return place


def renamed(bundle: Path) -> Path:
    return bundle.rename(bundle.with_name("kept"))


def empty_directory_added(bundle: Path) -> Path:
    (bundle / "logs" / "more").mkdir()
    return bundle


def directory_gone(bundle: Path) -> Path:
    (bundle / "schema").rmdir()
    return bundle


def directory_with_another_name(bundle: Path) -> Path:
    (bundle / "schema").rename(bundle / "Schema")
    return bundle


def name_that_is_not_utf8(bundle: Path) -> Path:
    (bundle / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    return bundle


def directory_that_is_not_utf8(bundle: Path) -> Path:
    (bundle / os.fsdecode(b"caf\xe9")).mkdir()
    return bundle


SEALED_AS = "it was sealed as alpha_test_20260516T031200Z, and is called"
MOVED: dict[Callable[[Path], Path], list[str]] = {
    another_runs_bundle: [f"another run's bundle is under this name: {SEALED_AS} alpha_prod_20270101T000000Z"],
    renamed: [f"the directory was renamed: {SEALED_AS} kept"],
    empty_directory_added: ["directory logs/more was added after the run was sealed"],
    directory_gone: ["directory schema was there when the run was sealed, and is missing"],
    directory_with_another_name: [
        "directory Schema was added after the run was sealed",
        "directory schema was there when the run was sealed, and is missing",
    ],
    name_that_is_not_utf8: ["caf\\udce9 is not listed in SHA256SUMS"],
    directory_that_is_not_utf8: ["directory caf\\udce9 was added after the run was sealed"],
}


@pytest.mark.parametrize("move", MOVED, ids=lambda move: str(move.__name__))
@pytest.mark.fault("evidence-moved")
def test_a_bundle_in_another_place_or_with_other_directories(bundle: Path, move: Callable[[Path], Path]) -> None:
    findings = verify_bundle(str(move(bundle)))
    assert findings == MOVED[move]
    json.dumps(findings).encode("utf-8")


def test_a_copy_under_its_own_name_and_a_link_to_it_verify(bundle: Path) -> None:
    copy = bundle.parent / "archive" / bundle.name
    shutil.copytree(bundle, copy)
    (bundle.parent / "latest").symlink_to(copy)
    assert verify_bundle(str(copy)) == []
    assert verify_bundle(f"{copy}/") == []
    assert verify_bundle(str(bundle.parent / "latest")) == []


@pytest.mark.fault("evidence-open")
def test_a_bundle_that_others_can_change(bundle: Path) -> None:
    assert audit(str(bundle)).warnings == []
    bundle.chmod(0o777)
    (bundle / "sql").chmod(0o770)
    (bundle / "report.md").chmod(0o666)
    (bundle / "plan.link").hardlink_to(bundle / "SUMMARY.txt")
    assert verify_bundle(str(bundle)) == ["plan.link is not listed in SHA256SUMS"]
    (bundle / "plan.link").rename(bundle.parent / "outside")
    assert verify_bundle(str(bundle)) == []
    assert audit(str(bundle)).warnings == [
        "the bundle can be changed by other users: mode 0777",
        "sql can be changed by other users: mode 0770",
        "SUMMARY.txt has 2 names (hard links): it can be changed through another one",
        "report.md can be changed by other users: mode 0666",
    ]


@pytest.mark.parametrize("name", ["alpha_test_20260516T031200", "alpha_test_20260516T031200Z/SUMMARY.txt", "", "empty"])
@pytest.mark.fault("no-bundle")
def test_a_mistyped_path_is_no_tampering(bundle: Path, name: str) -> None:
    (bundle.parent / "empty").mkdir()
    result = audit(str(bundle.parent / name))
    assert (result.code, result.findings) == (NO_BUNDLE, [])
    assert result.verdict.startswith("no such bundle: ")
    assert not audit(str(bundle)).missing
    # a bundle whose seal was taken away is one: that is a finding
    (bundle / SEAL).unlink()
    assert not audit(str(bundle)).missing
    assert audit(str(bundle)).findings == ["the bundle is not sealed: SHA256SUMS is missing"]


@pytest.mark.parametrize(
    "make", [name_that_is_not_utf8, directory_that_is_not_utf8], ids=lambda make: str(make.__name__)
)
@pytest.mark.fault("evidence-moved")
def test_a_name_that_is_not_utf8_is_named_when_a_run_is_sealed(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    artefacts = RunDirectory(str(tmp_path / "run"))
    artefacts.create()
    artefacts.journal.append("run", "open", {"environment": "test"})
    make(tmp_path / "run")
    with pytest.raises(PhaseGateError, match=r"Cannot seal a file[^$]*caf.xe9"):
        seal_run(artefacts, "")
    assert not artefacts.sealed


def test_what_is_no_directory_does_not_verify(tmp_path: Path) -> None:
    assert verify_bundle(str(tmp_path / "none")) == [f"{tmp_path / 'none'} is not a directory"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
@pytest.mark.fault("evidence-tampered")
def test_any_changed_byte_of_any_file_is_found(bundle: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(path for path in bundle.rglob("*") if path.is_file())))
    original = path.read_bytes()
    changed = bytearray(original)
    changed[data.draw(st.integers(0, len(original) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        assert verify_bundle(str(bundle))
    finally:
        path.write_bytes(original)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    sums=st.one_of(st.binary(max_size=300), st.text("0123456789abcdef /.\n\t\u2028\x0c", max_size=200).map(str.encode))
)
def test_no_seal_makes_the_verifier_stumble(bundle: Path, sums: bytes) -> None:
    (bundle / SEAL).write_bytes(sums)
    assert verify_bundle(str(bundle))


@pytest.mark.parametrize("name", ["with space", "ümlaut", "a\u2028b", "a\x0cb", "a\rb", "-n", "'quoted'", "a  b"])
def test_a_file_of_any_name_is_sealed_and_verified(tmp_path: Path, name: str) -> None:
    artefacts = RunDirectory(str(tmp_path / "alpha_test_20260516T031200Z"))
    artefacts.create()
    artefacts.journal.append("run", "open", {"environment": "test"})
    artefacts.write(f"logs/{name}", b"x")
    seal_run(artefacts, "")
    assert verify_bundle(artefacts.path) == []


def test_a_name_that_a_line_cannot_hold_is_not_sealed(bundle: Path) -> None:
    (bundle / "logs" / "two\nlines").write_bytes(b"x")
    (bundle / SEAL).unlink()
    with pytest.raises(PhaseGateError, match="Cannot seal a file"):
        RunDirectory(str(bundle)).seal(RunDirectory(str(bundle)).sums())
    assert not (bundle / SEAL).exists()


def test_sealing_removes_what_a_killed_run_left_unfinished(bundle: Path) -> None:
    (bundle / SEAL).unlink()
    (bundle / "backup.dump.partial").write_bytes(b"half a dump")
    RunDirectory(str(bundle)).seal(RunDirectory(str(bundle)).sums())
    assert verify_bundle(str(bundle)) == []
    assert not (bundle / "backup.dump.partial").exists()


def test_a_sealed_bundle_takes_nothing_more(bundle: Path) -> None:
    artefacts = RunDirectory(str(bundle))
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    with pytest.raises(PhaseGateError, match="This run is sealed"), Step(artefacts, PreflightRun).running():
        pass
    with pytest.raises(PhaseGateError, match="This run is sealed"):
        artefacts.require_run()
    report = seal_run(artefacts, "another reason")
    assert report["reason"] == ""
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


def test_a_plain_directory_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(PhaseGateError, match="No open run in this directory"):
        RunDirectory(str(tmp_path)).require_run()


# --- files and steps -------------------------------------------------------------------------------------------


def test_a_file_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    def write(*, stop: bool) -> str:
        with atomic_file(str(tmp_path / "dump")) as out:
            out.write(b"one")
            assert [path.name for path in tmp_path.iterdir()] == ["dump.partial"]
            if stop:
                raise KeyboardInterrupt
            out.write(b"two")
        assert out.size == len(b"onetwo")
        return out.sha256

    with pytest.raises(KeyboardInterrupt):
        write(stop=True)
    assert list(tmp_path.iterdir()) == []
    assert write(stop=False) == sha256(tmp_path / "dump") == hashlib.sha256(b"onetwo").hexdigest()
    assert (tmp_path / "dump").stat().st_mode & 0o777 == 0o600


def test_a_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "dump.partial").symlink_to(tmp_path / "victim")
    with atomic_file(str(tmp_path / "dump")) as out:
        out.write(b"data")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (tmp_path / "dump").read_bytes() == b"data"
    assert not (tmp_path / "dump").is_symlink()


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, "free space on its file system, or raise the quota"),
        (errno.EDQUOT, "free space on its file system, or raise the quota"),
        (errno.ENOENT, "check the path: it does not exist"),
        (errno.EACCES, "check owner and mode, and whether the file system is read-only"),
        (errno.EPERM, "check owner and mode, and whether the file system is read-only"),
        (errno.EROFS, "check owner and mode, and whether the file system is read-only"),
        (errno.EIO, "resolve the error that the operating system reports"),
        (None, "resolve the error that the operating system reports"),
    ],
)
def test_the_next_step_after_a_file_error_depends_on_its_kind(number: int | None, step: str) -> None:
    error = OSError("damaged") if number is None else OSError(number, os.strerror(number), "/runs/one/report.md")
    assert file_error(error).next_step.startswith(step)
    assert plan_file_error(error).next_step.startswith(step)
    incomplete = evidence_incomplete("C-07 is COMMITTED", error, "/runs/one without a seal: ")
    assert incomplete.next_step.startswith(step)
    assert incomplete.next_step.endswith("run the same command again: it executes nothing twice, verifies, and seals")
    assert incomplete.found == f"/runs/one without a seal: {error}"


def test_a_missing_file_is_reported_without_advice_about_space(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "none" / "plan.json").read_bytes()
    for message in (file_error(missing.value).message(), plan_file_error(missing.value).message()):
        assert f"{tmp_path}/none/plan.json" in message
        assert "next step: check the path: it does not exist" in message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PhaseGateError("Stopped.", expected="a", found="b"), "Stopped.\n  expected: a\n  found: b"),
        (OSError(28, "No space left on device"), "Cannot read or write in the artefact directory."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_step_that_fails_is_journaled_with_its_reason(tmp_path: Path, error: Exception, reason: str) -> None:
    artefacts = RunDirectory(str(tmp_path / "run"))
    artefacts.create()
    artefacts.journal.append("run", "open")
    expected = PhaseGateError if isinstance(error, OSError) else type(error)

    def fail() -> None:
        with Step(artefacts, PreflightRun).running() as step:
            step.update(summary="3 so far")
            raise error

    with pytest.raises(expected):
        fail()
    intent, failed = artefacts.journal.entries()[1:]
    assert (intent.event, intent.data) == ("intent", {})
    assert (failed.event, failed.data["summary"]) == ("failed", "3 so far")
    assert failed.data["reason"].startswith(reason)


def test_without_a_run_a_step_writes_files_and_no_journal(tmp_path: Path) -> None:
    artefacts = RunDirectory(str(tmp_path / "plain"))
    artefacts.create()
    with Step(artefacts, SqlFrozen).running() as step:
        step.file("sql/x.sql", b"")
    assert artefacts.names() == ["sql/x.sql"]


def test_the_plan_of_a_rehearsal_has_a_name_of_its_own_and_an_older_one_is_still_found(tmp_path: Path) -> None:
    artefacts = RunDirectory(str(tmp_path))
    assert artefacts.plan_path == str(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text("{}", encoding="utf-8")
    assert artefacts.plan_path == str(tmp_path / "plan.json")
    (tmp_path / "plan.json").rename(tmp_path / "phase_plan.json")
    assert artefacts.plan_path == str(tmp_path / "phase_plan.json")
