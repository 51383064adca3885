# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which old backups go; no evidence ever does."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.record import NAMES, BackupRecord
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.retention import DAY, RetentionRule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.modules.backup_prune import prune

if TYPE_CHECKING:
    from pathlib import Path

RECORD = BackupRecord(
    "custom", "backup.dump", 4, "0" * 64, 0.0, "directus", "7000000000000000001", "16.13", "pg_dump", "gzip", 7, True
)
ONE = RetentionRule(keep=1, max_age_days=10)


def backup(root: Path, name: str, days: float, *, run: bool = False, seal: bool = False, **facts: Any) -> RunDirectory:
    """Make a directory with a backup that is some days old."""
    artefacts = RunDirectory(str(root / name))
    artefacts.create()
    record = dataclasses.replace(RECORD, started_epoch=time.time() - days * DAY, **facts)
    if record.method == "custom":
        artefacts.write(record.file, b"dump")
    else:
        (root / name / record.file).mkdir()
        artefacts.write(record.file + "/toc.dat", b"dump")
        artefacts.write(record.file + ".sha256", b"listing")
    artefacts.write("backup.json", json.dumps(record.as_dict()).encode())
    artefacts.write("roles.sql", b"")
    if run:
        artefacts.journal.append("run", "open")
        artefacts.journal.append("run", "seal")
    if seal:
        artefacts.seal(artefacts.sums())
    return artefacts


def pruned(root: Path, rule: RetentionRule = ONE, *, check_mode: bool = False) -> dict[str, str]:
    """Prune, and return the lines by directory."""
    return {verdict.bundle: verdict.line() for verdict in prune(str(root), rule, check_mode=check_mode)}


def there(root: Path) -> list[str]:
    return sorted(path.parent.name for name in NAMES.values() for path in root.glob(f"*/{name}"))


def test_what_is_neither_new_nor_young_goes(tmp_path: Path) -> None:
    for name, days in (("oldest", 30), ("old", 20), ("young", 5), ("newest", 1)):
        backup(tmp_path, name, days)
    backup(tmp_path, "other", 40, database="analytics")
    backup(tmp_path, "elsewhere", 40, system_identifier="7000000000000000002")
    told = pruned(tmp_path)
    assert list(told) == ["newest", "young", "old", "oldest", *sorted(["other", "elsewhere"], key=list(told).index)]
    assert told["newest"] == "keep    newest/backup.dump (4 bytes): one of the newest 1 of database directus"
    assert told["young"] == "keep    young/backup.dump (4 bytes): 5.0 days old, at most 10"
    assert told["old"] == "delete  old/backup.dump (4 bytes): 20.0 days old, and 2 newer of database directus"
    assert there(tmp_path) == ["elsewhere", "newest", "other", "young"]
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["logs", "schema", "sql"]
    assert set(pruned(tmp_path)) == {"newest", "young", "other", "elsewhere"}


def test_check_mode_tells_the_same_and_removes_nothing(tmp_path: Path) -> None:
    for name, days in (("old", 20), ("newest", 1)):
        backup(tmp_path, name, days)
    told = pruned(tmp_path, check_mode=True)
    assert there(tmp_path) == ["newest", "old"]
    assert told == pruned(tmp_path)
    assert there(tmp_path) == ["newest"]


@pytest.mark.parametrize(
    "facts",
    [
        {"started_epoch": "x"},
        {"started_epoch": None},
        {"started_epoch": float("nan")},
        {"database": []},
        {"method": ["custom"]},
    ],
)
def test_a_record_of_another_form_stops_nothing(tmp_path: Path, facts: dict[str, Any]) -> None:
    for name, days in (("old", 20), ("newest", 1)):
        backup(tmp_path, name, days)
    odd = backup(tmp_path, "odd", 30)
    odd.write("backup.json", json.dumps({**RECORD.as_dict(), **facts}).encode())
    assert set(pruned(tmp_path)) == {"newest", "old"}
    assert there(tmp_path) == ["newest", "odd"]


@pytest.mark.parametrize("method", ["directory", "basebackup"])
def test_a_backup_of_many_files_goes_with_its_listing(tmp_path: Path, method: str) -> None:
    backup(tmp_path, "newest", 1)
    backup(tmp_path, "old", 20, method=method, file=NAMES[method])
    pruned(tmp_path)
    assert sorted(path.name for path in (tmp_path / "old").iterdir()) == ["logs", "schema", "sql"]


def test_a_backup_of_a_run_that_is_not_sealed_stays(tmp_path: Path) -> None:
    backup(tmp_path, "newest", 1)
    backup(tmp_path, "open", 20, run=True)
    assert "its run is not sealed" in pruned(tmp_path)["open"]
    assert there(tmp_path) == ["newest", "open"]


def test_a_backup_that_a_sealed_bundle_names_stays_without_an_archive(tmp_path: Path) -> None:
    backup(tmp_path, "newest", 1)
    sealed = backup(tmp_path, "sealed", 20, run=True, seal=True)
    assert "referenced by its sealed bundle; no archive configured" in pruned(tmp_path)["sealed"]
    assert verify_bundle(sealed.path) == []


def test_a_backup_goes_when_its_bundle_is_archived(tmp_path: Path) -> None:
    root, archive = tmp_path / "root", tmp_path / "archive"
    backup(root, "newest", 1)
    sealed = backup(root, "sealed", 20, run=True, seal=True)
    shutil.copytree(root, archive)
    rule = dataclasses.replace(ONE, archive=str(archive))
    assert "an intact copy of its bundle is in" in pruned(root, rule)["sealed"]
    assert there(root) == ["newest"]
    (finding,) = verify_bundle(sealed.path)
    assert finding.startswith("backup.dump was pruned, named by sealed.pruned.json: ")
    assert "an intact copy of its bundle is in" in finding
    # whoever does not need the backup is not told
    assert verify_bundle(sealed.path, ("backup.dump",)) == []
    assert verify_bundle(str(archive / "sealed")) == []


@pytest.mark.parametrize("damage", ["missing", "changed", "other seal", "itself"])
def test_an_archive_without_an_intact_copy_does_not_count(tmp_path: Path, damage: str) -> None:
    root, archive = tmp_path / "root", tmp_path / "archive"
    backup(root, "newest", 1)
    sealed = backup(root, "sealed", 20, run=True, seal=True)
    if damage == "itself":
        archive.symlink_to(root)
    elif damage == "other seal":
        backup(archive, "sealed", 21, run=True, seal=True)
    else:
        shutil.copytree(root, archive)
        copy = archive / "sealed" / "backup.dump"
        copy.write_bytes(b"dumq") if damage == "changed" else copy.unlink()
    words = {
        "missing": "no intact copy: backup.dump is listed in SHA256SUMS but missing",
        "changed": "no intact copy: backup.dump was changed",
        "other seal": "the copy in the archive has a different seal",
        "itself": "the archive is the bundle itself",
    }
    assert words[damage] in pruned(root, dataclasses.replace(ONE, archive=str(archive)))["sealed"]
    assert verify_bundle(sealed.path) == []


def test_a_directory_that_somebody_holds_is_left(tmp_path: Path) -> None:
    backup(tmp_path, "newest", 1)
    old = backup(tmp_path, "old", 20)
    with old.busy():
        assert "directory is in use" in pruned(tmp_path)["old"]
    assert there(tmp_path) == ["newest", "old"]


def test_what_is_not_a_backup_of_ours_is_not_looked_at(tmp_path: Path) -> None:
    backup(tmp_path, "newest", 1)
    for name, marker in (("words", "{"), ("more", "{"), ("other", '{"file": "backup.dump"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "backup.json").write_text(marker, encoding="utf-8")
        (tmp_path / name / "backup.dump").touch()
    backup(tmp_path / "elsewhere", "old", 20)
    marker = json.dumps({**RECORD.as_dict(), "file": "../elsewhere/old/backup.dump"})
    (tmp_path / "words" / "backup.json").write_text(marker, encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "old")
    assert set(pruned(tmp_path)) == {"newest"}
    assert (tmp_path / "elsewhere" / "old" / "backup.dump").exists()


@pytest.mark.parametrize("rule", [RetentionRule(keep=0, max_age_days=1), RetentionRule(keep=1, max_age_days=-1)])
def test_a_rule_that_leaves_nothing_is_refused(tmp_path: Path, rule: RetentionRule) -> None:
    with pytest.raises(PhaseGateError, match="would keep no backup"):
        prune(str(tmp_path), rule, check_mode=False)


def test_a_root_that_is_not_there_has_no_backups(tmp_path: Path) -> None:
    assert prune(str(tmp_path / "none"), ONE, check_mode=False) == []
