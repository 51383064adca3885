# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files whose SHA-256 is asserted, and their frozen copies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.modules import sha_gate
from ansible_collections.incomex.phasegate.plugins.modules.sha_gate import (
    Hashed,
    Pinned,
    freeze,
    gate,
    hashed,
    listing,
    pinned_files,
)

DDL = b"CREATE TABLE app.t (id int);\n"
SHA256 = hashlib.sha256(DDL).hexdigest()
OTHER = hashlib.sha256(b"").hexdigest()


def entry(path: str, sha256: str = SHA256, name: str | None = None) -> dict[str, Any]:
    """Return an entry of the parameter ``files``."""
    return {"path": path, "sha256": sha256, "name": name}


@pytest.fixture
def ddl(tmp_path: Path) -> Pinned:
    """A file that is as it was pinned."""
    (tmp_path / "migrate.sql").write_bytes(DDL)
    return Pinned(str(tmp_path / "migrate.sql"), "migrate.sql", SHA256)


def test_a_copy_has_the_name_of_its_file_unless_another_is_given() -> None:
    files = pinned_files([entry("/a/one.sql"), entry("/b/one.sql", SHA256.upper(), "two.sql")])
    assert files == [Pinned("/a/one.sql", "one.sql", SHA256), Pinned("/b/one.sql", "two.sql", SHA256)]


@pytest.mark.parametrize(
    "sha256", ["", "abc", SHA256[:-1], SHA256 + "0", "g" + SHA256[1:], SHA256 + "\n", f"sha256:{SHA256}"]
)
def test_what_is_no_digest_is_not_compared(sha256: str) -> None:
    with pytest.raises(PhaseGateError, match=r"^Invalid SHA-256 for /a/one\.sql"):
        pinned_files([entry("/a/one.sql", sha256)])


@pytest.mark.parametrize("name", ["../one.sql", "/etc/one.sql", "sub/one.sql", ".", "..", "one\n.sql", "one\0"])
def test_a_copy_stays_in_its_directory(name: str) -> None:
    with pytest.raises(PhaseGateError, match=r"^Invalid name for the copy"):
        pinned_files([entry("/a/one.sql", name=name)])


def test_two_files_cannot_have_one_copy() -> None:
    with pytest.raises(PhaseGateError, match=r"^Duplicate name one\.sql") as caught:
        pinned_files([entry("/a/one.sql"), entry("/b/two.sql"), entry("/b/one.sql")])
    assert caught.value.found == "/a/one.sql, /b/one.sql"


def test_a_file_is_hashed_as_it_is(ddl: Pinned, tmp_path: Path) -> None:
    assert hashed(ddl) == Hashed(ddl, SHA256, len(DDL))
    for name in ("none.sql", "migrate.sql/none.sql", "."):
        missing = Pinned(str(tmp_path / name), "x", SHA256)
        assert hashed(missing) == Hashed(missing, "", 0)
        assert not hashed(missing).ok


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not hashed(Pinned(str(tmp_path / "pipe"), "pipe", SHA256)).ok


def test_the_gate_names_every_file_that_differs(ddl: Pinned) -> None:
    wrong = [Hashed(Pinned("/a", "a", OTHER), SHA256, 1), Hashed(Pinned("/b", "b", SHA256), "", 0)]
    with pytest.raises(PhaseGateError, match=r"^SHA-256 gate failed for 2 of 3 files") as caught:
        gate(None, None, [hashed(ddl), *wrong], check_mode=False)
    assert caught.value.expected == f"/a {OTHER}; /b {SHA256}"
    assert caught.value.found == f"/a {SHA256}; /b missing or not a regular file"


def test_a_frozen_copy_is_left_as_it_is(ddl: Pinned, tmp_path: Path) -> None:
    directory = tmp_path / "frozen"
    assert gate(None, str(directory), [hashed(ddl)], check_mode=True) == ({}, True)
    assert not directory.exists()
    assert gate(None, str(directory), [hashed(ddl)], check_mode=False) == ({}, True)
    before = (directory / "migrate.sql").stat()
    assert gate(None, str(directory), [hashed(ddl)], check_mode=False) == ({"migrate.sql": SHA256}, False)
    assert (directory / "migrate.sql").stat().st_ino == before.st_ino
    assert (directory / "migrate.sql").read_bytes() == DDL


def test_a_file_that_changes_while_it_is_copied_freezes_nothing(ddl: Pinned, tmp_path: Path) -> None:
    (tmp_path / "rollback.sql").write_bytes(b"")
    undo = Pinned(str(tmp_path / "rollback.sql"), "rollback.sql", OTHER)
    asserted = [hashed(undo), hashed(ddl)]
    Path(ddl.path).write_bytes(DDL + b"DROP TABLE app.t;\n")
    (tmp_path / "frozen").mkdir()
    with pytest.raises(PhaseGateError, match="SHA-256 gate failed"):
        freeze(str(tmp_path / "frozen"), asserted)
    assert list((tmp_path / "frozen").iterdir()) == []


def test_a_freeze_is_in_the_journal_of_an_open_run(ddl: Pinned, tmp_path: Path) -> None:
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.journal.append("run", "open", {})
    gate(run, run.file("sql"), [hashed(ddl)], check_mode=True)
    gate(run, run.file("sql"), [hashed(ddl)], check_mode=False)
    gate(run, run.file("sql"), [hashed(ddl)], check_mode=False)
    entries = [(entry.step, entry.event) for entry in run.journal.entries()]
    assert entries == [("run", "open"), ("C-05", "intent"), ("C-05", "done")]
    assert run.journal.entries()[-1].data["files"] == [{"name": "sql/migrate.sql", "sha256": SHA256, "size": len(DDL)}]


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_a_run_has_frozen_stays(ddl: Pinned, tmp_path: Path, check_mode: bool) -> None:
    run = RunDirectory(str(tmp_path / "run"))
    run.create()
    run.write("sql/migrate.sql", b"")
    with pytest.raises(PhaseGateError, match=r"^Another file is frozen") as caught:
        gate(run, run.file("sql"), [hashed(ddl)], check_mode=check_mode)
    assert caught.value.found == f"{OTHER}  migrate.sql"
    Path(run.file("sql/migrate.sql")).unlink()
    run.write(SEAL, b"")
    with pytest.raises(PhaseGateError, match="sealed"):
        gate(run, run.file("sql"), [hashed(ddl)], check_mode=check_mode)


def test_a_listing_is_one_that_sha256sum_reads() -> None:
    assert listing({"b": OTHER, "a": SHA256}) == f"{SHA256}  a\n{OTHER}  b\n"
    assert sha_gate.listing({}) == ""
