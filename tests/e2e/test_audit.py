# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle of a real run, audited without its database: untouched, damaged in each way, and sealed anew."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.authority import Authority, answering
from ansible_collections.incomex.phasegate.tests.support.bundle import sha256, tree
from ansible_collections.incomex.phasegate.tests.support.playbook import play
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

#: No database answers here.
NOWHERE = {"PGHOST": "/nonexistent"}


@pytest.fixture(scope="module")
def executed(shared_target: Target) -> Path:
    """The bundle of one execution of Phase Alpha. Tests only copy it."""
    run = shared_target.play()
    assert run.rc == 0, run.stdout
    return shared_target.bundle().path


@pytest.fixture
def bundle(executed: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, as an auditor gets it."""
    return shutil.copytree(executed, tmp_path / executed.name, symlinks=True)


def audit(bundle: Path, **extra_vars: str) -> Play:
    """Run the playbook on a bundle; no database can be reached from it."""
    return play(
        bundle.parent / "audit",
        "incomex.phasegate.audit",
        extra_vars={"phasegate_bundle": str(bundle), **extra_vars},
        variables=NOWHERE,
    )


def edit(bundle: Path) -> None:
    """Change one figure of the report."""
    report = bundle / "report.md"
    report.write_text(report.read_text(encoding="utf-8").replace("UPDATE 86", "UPDATE 85"), encoding="utf-8")


def delete(bundle: Path) -> None:
    (bundle / "schema" / "diff.txt").unlink()


def add(bundle: Path) -> None:
    (bundle / "logs" / "C-09.log").write_text("rolled back\n", encoding="utf-8")


def forge_journal(bundle: Path) -> None:
    """Leave a line out of the journal and seal the bundle anew, as somebody with write access can."""
    journal = bundle / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3] + lines[4:]))
    seal_anew(bundle)


def seal_anew(bundle: Path) -> None:
    """Write SHA256SUMS for the files as they are now, in its own form and order."""
    listed = [line[66:] for line in (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()]
    text = "".join(f"{sha256(bundle / name)}  {name}\n" for name in listed)
    (bundle / "SHA256SUMS").write_text(text, encoding="utf-8")


def test_an_untouched_bundle_passes_and_stays_as_it_is(bundle: Path) -> None:
    before = tree(bundle)
    run = audit(bundle, phasegate_seal=sha256(bundle / "SHA256SUMS"))
    assert run.rc == 0, run.stdout
    assert run.stats("changed") == {}
    assert "audit         OK" in run.stdout
    assert "matches the recorded seal" in run.stdout
    assert sha256(bundle / "SHA256SUMS") in run.stdout
    assert tree(bundle) == before


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (edit, r"report\.md was changed: SHA-256 is [0-9a-f]{64}, SHA256SUMS has [0-9a-f]{64}"),
        (delete, r"schema/diff\.txt is listed in SHA256SUMS but missing"),
        (add, r"logs/C-09\.log is not listed in SHA256SUMS"),
        (forge_journal, r"The journal is not intact at line 4: entry 4 missing"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_damaged_bundle_fails_and_says_why(bundle: Path, damage: Callable[[Path], None], finding: str) -> None:
    damage(bundle)
    run = audit(bundle)
    assert run.rc != 0
    assert re.search(finding, run.messages), run.messages
    assert "next step" in run.messages
    assert not run.reached("Show the result")


@pytest.mark.fault("evidence-tampered")
def test_a_bundle_that_was_rewritten_and_sealed_anew_is_told_by_its_noted_seal(bundle: Path) -> None:
    noted = sha256(bundle / "SHA256SUMS")
    edit(bundle)
    seal_anew(bundle)
    # the limit of a seal without a signature, stated in docs/auditing.md
    assert audit(bundle).rc == 0
    run = audit(bundle, phasegate_seal=noted)
    assert run.rc != 0
    assert f"the seal differs from the recorded one, {noted}: the bundle was sealed anew" in run.messages


def seal_key(directory: Path, name: str) -> Reviewer:
    (directory / "keys").mkdir(exist_ok=True)
    return Reviewer.create(directory / "keys", name)


def signed(bundle: Path, by: Reviewer, namespace: str = "seal@phasegate.incomex") -> None:
    """Sign the seal of a bundle without the collection."""
    signature = by.sign((bundle / "SHA256SUMS").read_bytes(), namespace)
    (bundle / "SHA256SUMS.sig").write_bytes(signature)


def test_a_signed_seal_tells_who_sealed(bundle: Path, tmp_path: Path) -> None:
    host, eve = seal_key(tmp_path, "host"), seal_key(tmp_path, "eve")
    known = tmp_path / "allowed_signers"
    known.write_text(host.line(), encoding="utf-8")

    def refused() -> str:
        run = audit(bundle, phasegate_allowed_signers=str(known))
        assert run.rc != 0
        assert "next step" in run.messages
        return run.messages

    assert "the seal is UNSIGNED" in refused()
    signed(bundle, host)
    run = audit(bundle, phasegate_allowed_signers=str(known))
    assert run.rc == 0, run.stdout
    assert "by host, key SHA256:" in run.stdout, run.stdout
    # somebody who can write rewrites, seals anew, and signs with the only key at hand
    edit(bundle)
    seal_anew(bundle)
    assert "the bundle was sealed again" in refused()
    signed(bundle, eve)
    assert "the seal was signed by an unknown key: SHA256:" in refused()
    signed(bundle, host, "plan@phasegate.incomex")
    assert "made for another purpose" in refused()
    (bundle / "SHA256SUMS.sig").write_bytes(b"-----BEGIN SSH SIGNATURE-----\n")
    assert "not an SSH signature" in refused()


def test_a_run_with_a_key_signs_its_seal(target: Target, tmp_path: Path) -> None:
    host = seal_key(tmp_path, "host")
    known = tmp_path / "allowed_signers"
    known.write_text(host.line(), encoding="utf-8")
    # a run that stops is sealed and signed, too
    run = target.play(extra_vars={"phasegate_seal_key": str(host.key), "phasegate_identity": target.identity(user="x")})
    assert run.rc != 0
    bundle = target.bundle().path
    assert audit(bundle, phasegate_allowed_signers=str(known)).rc == 0


def test_a_run_asks_for_a_time_stamp_of_its_seal(target: Target, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    refused = target.play(extra_vars={"phasegate_timestamp_url": "https://me:secret@tsa.example.org"})
    assert refused.rc != 0
    assert "The URL of the time-stamp authority is invalid." in refused.messages
    assert "secret" not in refused.stdout
    assert not target.bundles()[-1].path.joinpath("backup.dump").exists()
    with answering(authority.reply) as (url, _asked):
        run = target.play(extra_vars={"phasegate_timestamp_url": url})
    assert run.rc == 0, run.stdout
    argv = [sys.executable, "audit.py", ".", "--tsa-ca", str(authority.certificate)]
    alone = subprocess.run(argv, cwd=target.bundles()[-1].path, capture_output=True, text=True, check=False)
    assert re.search(r"time-stamp +sealed before \S+Z, verified with your authorities", alone.stdout), alone.stdout
    # the server of above is gone
    unstamped = target.play(
        "playbooks/phase_alpha.yml", extra_vars={"phasegate_timestamp_url": url, "phasegate_root": f"{tmp_path}/other"}
    )
    assert unstamped.rc != 0
    assert "[WARNING]: The seal has no time-stamp: URLError" in unstamped.stdout


def test_the_seal_can_be_checked_without_the_collection(bundle: Path) -> None:
    def check() -> subprocess.CompletedProcess[str]:
        argv = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
        return subprocess.run(argv, cwd=bundle, capture_output=True, text=True, check=False)

    assert check().returncode == 0
    edit(bundle)
    assert "report.md: FAILED" in check().stdout


def test_a_bundle_on_a_target_is_audited_there(shared_target: Target, executed: Path) -> None:
    extra = {"phasegate_bundle": str(executed), "phasegate_hosts": "target"}
    run = shared_target.play("playbooks/audit.yml", extra_vars=extra)
    assert run.rc == 0, run.stdout
    assert run.of("Verify seal").host == "target"
