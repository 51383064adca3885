# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password that PostgreSQL really asks for stands in its passfile and nowhere else; so does a key's passphrase in an agent."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, play
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, agent, asking, write_plan

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


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory for temporary files; Ansible puts sockets there, whose paths may have 107 bytes only."""
    place = Path(tempfile.mkdtemp(prefix="phasegate-tmp-", dir="/tmp"))
    yield place
    shutil.rmtree(place)


def kept(place: Path) -> dict[str, str]:
    """Return the variables that put temporary files into a directory, where what Ansible sends to a target stays."""
    names = ("TMPDIR", "ANSIBLE_LOCAL_TEMP", "ANSIBLE_REMOTE_TEMP", "ANSIBLE_REMOTE_TMP")
    return {"ANSIBLE_KEEP_REMOTE_FILES": "1", **dict.fromkeys(names, str(place))}


def places_with(needle: str, *directories: Path, but: Path | None = None) -> list[str]:
    """Return every file below these directories that holds a text."""
    files = [file for place in directories for file in place.rglob("*") if file.is_file() and file != but]
    return [str(file) for file in files if needle.encode() in file.read_bytes()]


def test_the_canary_is_found_where_it_is(tmp_path: Path) -> None:
    """The search itself finds what there is to find."""
    seen: set[str] = set()
    with watched_processes(seen, Path("/proc/self/cmdline").read_bytes()[:40]):
        threading.Event().wait(0.2)
    assert seen


@pytest.mark.parametrize("phase", ["playbooks/phases/alpha", "tests/fixtures/phases/r1"])
@pytest.mark.fault("canary")
def test_a_password_is_seen_nowhere(guarded: Target, temporary: Path, phase: str) -> None:
    """A success and a forced failure, both with all that Ansible can say."""
    file = passfile(guarded, CANARY)
    seen: set[str] = set()
    with watched_processes(seen, CANARY.encode()):
        run = guarded.play_phase(ROOT / phase, verbosity=4, variables=kept(temporary))
    assert (run.rc == 0) == phase.endswith("alpha"), run.stdout
    assert run.reached("C-07")
    guarded.bundle().assert_sealed()
    assert seen == set()
    assert CANARY not in run.stdout
    assert CANARY not in json.dumps(run.events)
    assert places_with(CANARY, guarded.directory, temporary, but=file) == []
    # where the passfile is stands there
    assert places_with(str(file), temporary)


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


@pytest.fixture
def passphrase() -> str:
    """The passphrase of a key of this test alone: ssh-keygen, which makes the key, has it in its arguments."""
    return f"canary-passphrase-{secrets.token_hex(8)}"


@pytest.mark.parametrize("phase", ["playbooks/phases/alpha", "tests/fixtures/phases/r1"])
@pytest.mark.fault("canary")
def test_the_passphrase_of_the_seal_key_is_seen_nowhere(
    target: Target, temporary: Path, passphrase: str, phase: str
) -> None:
    """The key is in an agent, which got the passphrase from a program that asks; a success and a forced failure."""
    host = Reviewer.create(target.directory, "host", passphrase=passphrase)
    seen: set[str] = set()
    with agent(host, passphrase) as variables, watched_processes(seen, passphrase.encode()):
        run = target.play_phase(
            ROOT / phase,
            verbosity=4,
            extra_vars={"phasegate_seal_key": str(host.key)},
            variables={**kept(temporary), **variables},
        )
    assert (run.rc == 0) == phase.endswith("alpha"), run.stdout
    assert run.reached("C-07")
    bundle = target.bundle()
    bundle.assert_sealed()
    assert (bundle.path / "SHA256SUMS.sig").exists()
    assert seen == set()
    assert passphrase not in run.stdout
    assert passphrase not in json.dumps(run.events)
    assert places_with(passphrase, target.directory, temporary) == []


@pytest.mark.fault("canary")
def test_a_seal_key_that_would_ask_stops_the_run_before_its_backup(
    target: Target, temporary: Path, passphrase: str
) -> None:
    host = Reviewer.create(target.directory, "host", passphrase=passphrase)
    state = target.state()
    with asking(passphrase) as variables:
        run = target.play(
            verbosity=4,
            extra_vars={"phasegate_seal_key": str(host.key)},
            variables={**kept(temporary), **variables},
        )
        assert not Path(variables["SSH_ASKPASS"]).with_name("asked").exists()
    assert run.rc != 0
    assert "The seal key cannot sign, so the run was not opened" in target.bundle().reason
    assert "a passphrase, and no agent that holds the key" in run.messages
    assert not run.reached("C-07")
    assert target.state() == state
    assert not list(target.bundle().path.glob("backup*"))
    assert passphrase not in run.stdout
    assert places_with(passphrase, target.directory, temporary) == []


@pytest.mark.parametrize("held", [True, False], ids=["agent", "no agent"])
@pytest.mark.fault("canary")
def test_the_passphrase_of_a_reviewer_is_seen_nowhere(
    tmp_path: Path, temporary: Path, passphrase: str, *, held: bool
) -> None:
    anna = Reviewer.create(tmp_path, "anna", passphrase=passphrase)
    plan = write_plan(tmp_path, not_after="2099-01-01T00:00:00Z")
    seen: set[str] = set()
    extra = {"phasegate_plan": str(plan), "phasegate_reviewer": "anna", "phasegate_key": str(anna.key)}
    with (
        agent(anna, passphrase) if held else asking(passphrase) as variables,
        watched_processes(seen, passphrase.encode()),
    ):
        told = {**kept(temporary), **variables}
        run = play(tmp_path, "playbooks/approve.yml", extra_vars=extra, verbosity=4, variables=told)
        asked = not held and Path(variables["SSH_ASKPASS"]).with_name("asked").exists()
    assert (run.rc == 0, asked) == (held, False), run.stdout
    assert held or "a passphrase, and no agent that holds the key" in run.messages
    assert plan.with_name("plan.json.anna.sig").exists() == held
    assert seen == set()
    assert passphrase not in run.stdout
    assert passphrase not in json.dumps(run.events)
    assert places_with(passphrase, tmp_path, temporary) == []
