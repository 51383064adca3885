# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password that PostgreSQL really asks for stands in its passfile and nowhere else."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.tests.support.target import Target

CANARY = "canary-7f3a9e-must-not-be-seen"
ROLE = "asked_for_a_password"


@pytest.fixture
def guarded(target: Target) -> Iterator[Target]:
    """A target whose role has to give a password."""
    hba = target.cluster.data / "pg_hba.conf"
    original = hba.read_text(encoding="utf-8")
    target.cluster.psql(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD '{CANARY}'")
    hba.write_text(f"local all {ROLE} scram-sha-256\n{original}", encoding="utf-8")
    target.cluster.psql("SELECT pg_reload_conf()")
    target.hostvars = {
        "phasegate_user": ROLE,
        "phasegate_identity": target.identity(user=ROLE),
        "phasegate_passfile": str(target.directory / "passfile"),
    }
    yield target
    hba.write_text(original, encoding="utf-8")
    target.cluster.psql(f"SELECT pg_reload_conf(); DROP OWNED BY {ROLE} CASCADE; DROP ROLE {ROLE}", target.database)


def passfile(target: Target, password: str) -> Path:
    """Write the passfile of a target."""
    file = target.directory / "passfile"
    file.touch(mode=0o600)
    file.write_text(f"*:*:*:{ROLE}:{password}\n", encoding="utf-8")
    return file


@contextlib.contextmanager
def watched_processes(seen: set[str], needle: bytes) -> Iterator[None]:
    """Collect the command lines and environments of all processes that hold ``needle``, from start to end."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.03):
            for place in ("cmdline", "environ"):
                for file in Path("/proc").glob(f"[0-9]*/{place}"):
                    with contextlib.suppress(OSError):
                        if needle in file.read_bytes():
                            seen.add(str(file))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def places_with_canary(target: Target, *, but: Path) -> list[str]:
    """Return every file below the test's directory, of bundles and of ansible-runner, that holds the canary."""
    files = [file for file in target.directory.rglob("*") if file.is_file() and file != but]
    return [str(file) for file in files if CANARY.encode() in file.read_bytes()]


def test_the_canary_is_found_where_it_is(tmp_path: Path) -> None:
    """The search itself finds what there is to find."""
    seen: set[str] = set()
    with watched_processes(seen, Path("/proc/self/cmdline").read_bytes()[:40]):
        threading.Event().wait(0.2)
    assert seen


@pytest.mark.parametrize("phase", ["playbooks/phases/alpha", "tests/fixtures/phases/r1"])
@pytest.mark.fault("canary")
def test_a_password_is_seen_nowhere(guarded: Target, phase: str) -> None:
    """A success and a forced failure, both with all that Ansible can say."""
    file = passfile(guarded, CANARY)
    seen: set[str] = set()
    with watched_processes(seen, CANARY.encode()):
        run = guarded.play_phase(ROOT / phase, verbosity=4)
    assert (run.rc == 0) == phase.endswith("alpha"), run.stdout
    assert run.reached("C-07")
    guarded.bundle().assert_sealed()
    assert seen == set()
    assert CANARY not in run.stdout
    assert CANARY not in json.dumps(run.events)
    assert places_with_canary(guarded, but=file) == []


def test_a_wrong_password_is_told_without_asking(guarded: Target) -> None:
    passfile(guarded, f"{CANARY}-wrong")
    state = guarded.state()
    run = guarded.play(verbosity=4)
    assert run.rc != 0
    assert "password authentication failed" in run.messages
    assert guarded.state() == state
    assert CANARY not in run.stdout
    bundle = guarded.bundle()
    bundle.assert_sealed()
    assert "password authentication failed" in bundle.reason
