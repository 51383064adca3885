# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are found in a directory: whatever somebody put there, nothing is read or written through it, nothing waits."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.action.run_open import files_of_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import (
    approval_files,
    collect_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    SMALL,
    atomic_file,
    read_file,
    read_json,
    replace_file,
    resolved,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.modules.plan_approval import Document, approve
from ansible_collections.incomex.phasegate.plugins.plugin_utils._files_action import named_once
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, plan_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = b"root:secret\n"


def link(path: Path) -> None:
    (path.parent / "private").write_bytes(SECRET)
    path.symlink_to(path.parent / "private")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # the path of a socket may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)
    os.fchdir(here)
    os.close(here)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, SMALL + 1)


PLANTED: dict[Callable[[Path], None], str] = {
    link: "a symbolic link",
    pipe: "a directory, pipe, or device",
    folder: "a directory, pipe, or device",
    unix_socket: "a socket or device",
    huge: f"{SMALL + 1} bytes",
}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    path.write_bytes(plan_bytes())
    return path


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: str(plant.__name__))
@pytest.mark.parametrize("suffix", ["anna.sig", "anna.notes.md", "anna.notes.md.sig"])
@pytest.mark.fault("found-links")
def test_what_is_planted_beside_a_plan_is_refused(plan: Path, plant: Callable[[Path], None], suffix: str) -> None:
    for name in {"anna.sig", "anna.notes.md", "anna.notes.md.sig"} - {suffix}:
        (plan.parent / f"plan.json.{name}").write_bytes(b"x")
    plant(plan.parent / f"plan.json.{suffix}")
    for read in (collect_approvals, approval_files):
        with pytest.raises(PhaseGateError) as refused:
            read(str(plan))
        assert f"plan.json.{suffix}" in refused.value.what
        assert refused.value.found == PLANTED[plant]


@pytest.mark.parametrize("plant", [link, pipe, folder, unix_socket], ids=lambda plant: str(plant.__name__))
@pytest.mark.fault("found-links")
def test_what_is_planted_in_a_bundle_is_refused(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    artefacts = RunDirectory(str(tmp_path / "run"))
    artefacts.create()
    plant(tmp_path / "run" / "plan.json")
    plant(tmp_path / "run" / "journal.jsonl")
    with pytest.raises(PhaseGateError, match="not a regular file"):
        read_json(artefacts.file("plan.json"))
    with pytest.raises(PhaseGateError, match="not a regular file"):
        artefacts.journal.entries()
    with pytest.raises(PhaseGateError, match="not a regular file"):
        sha256_file(artefacts.file("plan.json"))


@pytest.mark.parametrize("name", ["plan.json.anna.sig.partial", "plan.json.anna.notes.md.partial"])
@pytest.mark.fault("found-links")
def test_approving_overwrites_nothing_through_a_planted_link(plan: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(SECRET)
    (tmp_path / name).symlink_to(victim)
    anna = Reviewer.create(tmp_path, "anna")
    approve(Document(str(plan), plan.read_bytes()), "anna", str(anna.key), "Looks good.", check_mode=False)
    assert victim.read_bytes() == SECRET
    signature = tmp_path / "plan.json.anna.sig"
    assert signature.read_bytes().startswith(b"-----BEGIN SSH SIGNATURE-----")
    assert not signature.is_symlink()


def test_a_large_plan_is_approved_and_notes_have_a_limit(tmp_path: Path) -> None:
    """What is signed can be read again: a plan by the limit of plans, notes by that of notes."""
    plan = tmp_path / "plan.json"
    plan.write_bytes(b"{" + b" " * (2 << 20) + b"}")
    anna = Reviewer.create(tmp_path, "anna")
    document = Document(str(plan), plan.read_bytes())
    assert approve(document, "anna", str(anna.key), "", check_mode=False)["changed"]
    assert not approve(document, "anna", str(anna.key), "", check_mode=False)["changed"]
    with pytest.raises(PhaseGateError, match=r"The notes are too long\."):
        approve(document, "anna", str(anna.key), "x" * (1 << 20), check_mode=False)
    assert not (tmp_path / "plan.json.anna.notes.md").exists()


@pytest.mark.fault("found-links")
def test_a_hard_link_as_a_partial_file_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(SECRET)
    for name in ("one", "two"):
        os.link(tmp_path / "victim", tmp_path / f"{name}.partial")
    replace_file(str(tmp_path / "one"), b"1")
    with atomic_file(str(tmp_path / "two")) as out:
        out.write(b"2")
    assert (tmp_path / "victim").read_bytes() == SECRET
    assert [(tmp_path / name).read_bytes() for name in ("one", "two")] == [b"1", b"2"]


@pytest.mark.fault("found-links")
def test_a_planted_partial_directory_stops_the_writer(tmp_path: Path) -> None:
    (tmp_path / "one.partial").mkdir()
    with pytest.raises(OSError, match=r"one\.partial"):
        replace_file(str(tmp_path / "one"), b"1")


def test_a_file_appears_with_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        replace_file(str(tmp_path / "plan.json"), b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o640


def test_no_file_is_none_and_a_typed_path_is_resolved(tmp_path: Path, plan: Path) -> None:
    assert read_file(str(tmp_path / "none")) is None
    (tmp_path / "latest").symlink_to(plan)
    assert resolved(str(tmp_path / "latest")) == str(plan.resolve())
    assert named_once([str(tmp_path / "latest")]) == {"plan.json": str(plan.resolve())}


@pytest.mark.fault("found-links")
def test_the_files_of_a_phase_are_those_beside_the_real_plan(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "real" / "plan.json"
    real.write_bytes(plan_bytes())
    (tmp_path / "elsewhere" / "plan.json").symlink_to(real)
    # a signature beside the link is not one beside the plan
    (tmp_path / "elsewhere" / "plan.json.eve.sig").write_bytes(b"x")
    (tmp_path / "real" / "plan.json.anna.sig").write_bytes(b"x")
    plan = {"ddl": {"file": "a.sql"}, "rollback": {"file": "b.sql"}, "definition": {"file": "phase.yml"}}
    found = files_of_phase(str(tmp_path / "elsewhere" / "plan.json"), plan, [])
    assert found["plan.json.anna.sig"] == str(real) + ".anna.sig"
    assert set(found) == {"a.sql", "b.sql", "plan.json.anna.sig"}
