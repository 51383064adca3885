# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A register of reviewers that was there once: approvals stay required when it is removed, or another one is put beside it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval import register as module
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import (
    Anchor,
    find_anchor,
    registered,
    remembered,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common import host_records
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import parse_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import fetch_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import approval_gate
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA
from ansible_collections.incomex.phasegate.tests.support.reviewers import SYSTEM_IDENTIFIER, Reviewer, register
from ansible_collections.incomex.phasegate.tests.support.runs import Run

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client


class Host:
    """The two places of records, moved below a directory of the test."""

    def __init__(self, directory: Path) -> None:
        self.system = directory / "etc" / "phasegate"
        self.home = directory / "home"
        self.user = self.home / ".config" / "phasegate"
        self.anna = Reviewer.create(directory, "anna")

    def register(self, place: Path, cluster: str = SYSTEM_IDENTIFIER) -> Path:
        return register(place / "reviewers" / cluster, self.anna.line(), {"threshold": 1})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host without any record."""
    found = Host(Path(os.path.realpath(tmp_path)))
    found.home.mkdir()
    monkeypatch.setattr(host_records, "SYSTEM", str(found.system))
    monkeypatch.setattr(module, "SYSTEM", str(found.system))
    monkeypatch.setattr(module, "SYSTEM_ANCHORS", str(found.system / "reviewers"))
    for one in (host_records, module):
        monkeypatch.setattr(one, "user_home", lambda: str(found.home))
    return found


def gate(*, required: bool = False) -> Gate:
    found = registered(SYSTEM_IDENTIFIER, required=required)
    assert isinstance(found, Gate)
    return found


def test_a_cluster_that_never_had_a_register_is_not_enforced(host: Host) -> None:
    assert gate().status == GateStatus.NOT_ENFORCED
    assert remembered(SYSTEM_IDENTIFIER) == {}
    assert not host.system.exists()
    assert not host.user.exists()


@pytest.mark.fault("register-removed")
def test_the_inventory_can_require_a_register(host: Host) -> None:
    found = gate(required=True)
    assert found.status == GateStatus.FAIL
    assert "although phasegate_require of the inventory requires approvals" in found.found
    assert f"a register of reviewers in {host.system}/reviewers/{SYSTEM_IDENTIFIER}" == found.expected


@pytest.mark.fault("register-removed")
@pytest.mark.parametrize("place", ["system", "user"])
def test_a_register_that_was_seen_is_missed(host: Host, place: str) -> None:
    below: Path = getattr(host, place)
    path = host.register(below)
    assert isinstance(registered(SYSTEM_IDENTIFIER, required=False, keep=False), Anchor)
    assert remembered(SYSTEM_IDENTIFIER) == {}
    assert isinstance(registered(SYSTEM_IDENTIFIER, required=False), Anchor)
    record = below / "approvals_required" / SYSTEM_IDENTIFIER
    assert remembered(SYSTEM_IDENTIFIER) == {str(record): str(path)}
    shutil.rmtree(path)
    found = gate()
    assert found.status == GateStatus.FAIL
    assert f"although {record} records that {path} was there" in found.found
    assert f"root removes {record}" in found.next_step
    # another cluster of the host is none the worse for it
    other = registered("7000000000000000001", required=False)
    assert isinstance(other, Gate)
    assert other.status == GateStatus.NOT_ENFORCED


@pytest.mark.fault("register-removed")
def test_where_root_had_a_register_that_of_a_user_does_not_count(host: Host) -> None:
    of_user = host.register(host.user)
    found = find_anchor(SYSTEM_IDENTIFIER)
    assert found
    assert found.path == str(of_user)
    path = host.register(host.system)
    registered(SYSTEM_IDENTIFIER, required=False)
    shutil.rmtree(path)
    assert find_anchor(SYSTEM_IDENTIFIER) is None
    assert gate().status == GateStatus.FAIL


@pytest.mark.fault("register-removed")
def test_a_record_that_others_can_write_or_replace_is_no_way_out(host: Host) -> None:
    path = host.register(host.system)
    registered(SYSTEM_IDENTIFIER, required=False)
    shutil.rmtree(path)
    record = host.system / "approvals_required" / SYSTEM_IDENTIFIER
    record.chmod(0o666)
    with pytest.raises(PhaseGateError, match="The record that approvals are required cannot be trusted"):
        gate()
    record.unlink()
    record.symlink_to("/dev/null")
    with pytest.raises(PhaseGateError, match="not a symbolic link"):
        gate()


def test_a_user_who_may_not_write_beside_roots_register_remembers_it_at_home(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = host.register(host.system)
    write = host_records.write_record

    def refused(place: str, data: bytes) -> None:
        if place.startswith(str(host.system)):
            raise PermissionError(13, "Permission denied", place)
        write(place, data)

    monkeypatch.setattr(module, "write_record", refused)
    registered(SYSTEM_IDENTIFIER, required=False)
    assert remembered(SYSTEM_IDENTIFIER) == {str(host.user / "approvals_required" / SYSTEM_IDENTIFIER): str(path)}
    shutil.rmtree(path)
    host.register(host.user)
    assert gate().status == GateStatus.FAIL


@pytest.mark.fault("register-removed")
def test_c07_misses_the_register_of_the_cluster(host: Host, client: Client, tmp_path: Path) -> None:
    run = Run.of(client, tmp_path / "runs", str(ALPHA)).prepare()
    identity = fetch_identity(client)
    assert approval_gate(run.request(), identity, 0).status == GateStatus.NOT_ENFORCED
    path = host.register(host.system, identity.system_identifier)
    assert (
        approval_gate(run.request(), identity, 0).found
        == "a phase that was not rehearsed, so it cannot have been approved"
    )
    shutil.rmtree(path)
    outcome = run.migrate()
    assert outcome.message.startswith("Stopped at G-1 (")
    assert outcome.data["outcome"] == "NOT_STARTED"
    assert "although" in outcome.gate("G-1")["found"]


def test_a_plan_expires_without_reviewers_too(host: Host, client: Client, tmp_path: Path) -> None:
    run = Run.of(client, tmp_path / "runs", str(ALPHA)).prepare()
    identity = fetch_identity(client)
    end = parse_time("2026-05-19T03:12:00Z").timestamp()
    # one that was not rehearsed has no end
    assert approval_gate(run.request(), identity, end + 1).status == GateStatus.NOT_ENFORCED
    run.plan |= {"rehearsal": {}, "not_after": "2026-05-19T03:12:00Z"}
    run.freeze()
    assert approval_gate(run.request(), identity, end).status == GateStatus.NOT_ENFORCED
    late = approval_gate(run.request(), identity, end + 1)
    assert late.status == GateStatus.FAIL
    assert late.expected == "a plan that may still be executed: not_after 2026-05-19T03:12:00Z"
    assert late.found == "the plan expired: it is 2026-05-19T03:12:01.000Z by the server's clock"
    assert late.next_step == "rehearse again, and execute the new plan"
    # what committed was executed in time; what it left to do may be done later
    continued = replace(run.request(), continued=True)
    assert approval_gate(continued, identity, end + 1).status == GateStatus.NOT_ENFORCED
    # what this host remembers comes first: no new plan helps without the register
    path = host.register(host.system, identity.system_identifier)
    registered(identity.system_identifier, required=False)
    shutil.rmtree(path)
    assert "restore the register" in approval_gate(run.request(), identity, end + 1).next_step
