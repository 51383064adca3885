# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report and the bundle of a real run, brought to the controller: as sealed, and never over something else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.bundle import sha256
from ansible_collections.incomex.phasegate.tests.support.playbook import play, write_inventory

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

NOT_CHECKED = 3


@pytest.fixture(scope="module")
def executed(shared_target: Target) -> Path:
    """The bundle of one execution of Phase Alpha. Tests only copy it."""
    run = shared_target.play()
    assert run.rc == 0, run.stdout
    return shared_target.bundle().path


@pytest.fixture
def host(executed: Path, tmp_path: Path) -> Path:
    """The bundle on a host, below the root of its runs."""
    return shutil.copytree(executed, tmp_path / "root" / executed.name, symlinks=True)


def fetch(host: Path, arguments: str = "", **extra_vars: Any) -> Play:
    directory = host.parent.parent
    inventory = write_inventory(directory / "hosts.yml", {"db1": {"phasegate_root": str(host.parent)}})
    return play(
        directory,
        "playbooks/fetch.yml",
        inventory=inventory,
        extra_vars=extra_vars,
        arguments=arguments,
        variables={"PGHOST": "/nonexistent"},
    )


def tree(path: Path) -> dict[str, str]:
    """Return the digests of all files below a path, and its directories."""
    return {str(one.relative_to(path)): sha256(one) if one.is_file() else "" for one in path.rglob("*")}


def modes(path: Path) -> set[str]:
    return {f"{'d' if one.is_dir() else 'f'}{one.stat().st_mode & 0o777:o}" for one in (path, *path.rglob("*"))}


def test_the_report_comes_beside_the_inventory_and_a_second_time_changes_nothing(host: Path, tmp_path: Path) -> None:
    place = tmp_path / "fetched" / "db1" / f"{host.name}.report"
    checked = fetch(host, "--check")
    assert checked.rc == 0, checked.stdout
    assert f"would be copied: {place}" in checked.stdout
    assert not (tmp_path / "fetched").exists()
    run = fetch(host)
    assert run.rc == 0, run.stdout
    assert f"copied to {place}" in run.stdout
    for name in ("report.json", "report.md", "report.html", "junit.xml", "SUMMARY.txt", "SHA256SUMS"):
        assert (place / name).read_bytes() == (host / name).read_bytes()
    assert modes(place) == {"d750", "f600"}
    again = fetch(host)
    assert (again.rc, again.stats("changed")) == (0, {}), again.stdout
    assert [one.name for one in place.parent.iterdir()] == [place.name]
    # another one of this name is not overwritten
    (place / "report.md").write_text("mine\n")
    refused = fetch(host)
    assert refused.rc != 0
    assert "is there already, and is not what would be copied" in refused.messages
    assert (place / "report.md").read_text() == "mine\n"


def test_a_bundle_comes_whole_with_its_backup_on_request(host: Path, tmp_path: Path) -> None:
    run = fetch(host, phasegate_whole=True, phasegate_with_backup=True, phasegate_fetched=str(tmp_path / "evidence"))
    assert run.rc == 0, run.stdout
    place = tmp_path / "evidence" / "db1" / host.name
    assert tree(place) == tree(host)
    assert modes(place) == {"d750", "f600"}
    assert "audit         OK" in run.stdout


def test_a_backup_that_stays_is_documented_and_the_copys_own_auditor_says_so(host: Path, tmp_path: Path) -> None:
    run = fetch(host, phasegate_whole=True, phasegate_run=host.name)
    assert run.rc == 0, run.stdout
    assert "backup.dump is left on the host" in run.stdout
    place = tmp_path / "fetched" / "db1" / host.name
    assert not (place / "backup.dump").exists()
    assert set(tree(host)) - set(tree(place)) == {"backup.dump"}
    told = subprocess.run(
        [sys.executable, str(place / "audit.py"), "--json", str(place)], capture_output=True, text=True, check=False
    )
    (bundle,) = json.loads(told.stdout)["bundles"]
    assert (told.returncode, bundle["findings"]) == (NOT_CHECKED, [])
    assert f"left on db1, in {host}" in " ".join(bundle["unchecked"])
    assert "backup.dump was left on its host" in " ".join(bundle["unchecked"])
    again = fetch(host, phasegate_whole=True)
    assert (again.rc, again.stats("changed")) == (0, {}), again.stdout


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_bundle_leaves_no_copy(host: Path, tmp_path: Path, *, whole: bool) -> None:
    (host / "report.md").write_text("better\n")
    run = fetch(host, phasegate_whole=whole)
    assert run.rc != 0
    assert "The copy does not verify, and was deleted." in run.messages
    assert "report.md" in run.messages
    assert list((tmp_path / "fetched" / "db1").iterdir()) == []


def test_a_link_on_the_host_is_not_followed(host: Path, tmp_path: Path) -> None:
    (host / "report.md").unlink()
    (host / "report.md").symlink_to("/etc/hostname")
    run = fetch(host)
    assert run.rc != 0
    assert "neither a file nor a directory" in run.messages
    assert not (tmp_path / "fetched").exists()


def test_a_run_that_is_not_there_or_not_sealed_is_refused(host: Path) -> None:
    assert "There is no such run" in fetch(host, phasegate_run="other").messages
    (host / "SHA256SUMS").unlink()
    assert "There is no sealed run" in fetch(host).messages


def test_the_status_is_a_page_too(host: Path, tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path / "hosts.yml", {"db1": {"phasegate_root": str(host.parent)}})
    run = play(tmp_path, "playbooks/status.yml", inventory=inventory, extra_vars={"phasegate_status": str(tmp_path)})
    assert run.rc == 0, run.stdout
    (listed,) = json.loads((tmp_path / "status.json").read_text(encoding="utf-8"))["hosts"]["db1"]
    assert (listed["bundle"], listed["state"]) == (host.name, "in place")
    page = (tmp_path / "status.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert host.name in page
