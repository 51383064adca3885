# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example that each role's README names does what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.target import Target

MORE = {
    "scope": {"schemas": ["sandbox_tac"], "statements": ["CREATE TABLE"]},
    "verify": [
        {"id": "VA-1", "title": "empty", "sql": "SELECT count(*) FROM sandbox_tac.more", "expect": 0},
        {"id": "VA-2", "title": "diff", "builtin": "schema_diff", "expect": {"removed": 0, "added": 1}},
    ],
}


@pytest.fixture
def more(tmp_path: Path) -> str:
    """A phase that makes one table."""
    directory = tmp_path / "phase"
    directory.mkdir()
    files = PhaseFiles(directory)
    files.write(MORE, ddl=b"CREATE TABLE sandbox_tac.more ();\n", rollback=b"DROP TABLE sandbox_tac.more;\n")
    return files.path


def has_more(target: Target) -> bool:
    return bool(target.value("SELECT to_regclass('sandbox_tac.more') IS NOT NULL"))


def test_every_example_is_named_and_every_named_one_is_there() -> None:
    roles = sorted((ROOT / "roles").iterdir())
    named = [role.name for role in roles if "(example.yml)" in (role / "README.md").read_text(encoding="utf-8")]
    assert named == [role.name for role in roles if (role / "example.yml").exists()]


def test_backup(target: Target) -> None:
    assert target.play("roles/backup/example.yml").rc == 0
    directory = target.root / "manual_work"
    record = json.loads((directory / "backup.json").read_text(encoding="utf-8"))
    assert (record["database"], record["size"]) == (target.database, (directory / "backup.dump").stat().st_size)


def test_prune(target: Target) -> None:
    assert target.play("roles/backup/example.yml").rc == 0
    (target.root / "manual_work").rename(target.root / "older")
    assert target.play("roles/backup/example.yml").rc == 0
    options = {"phasegate_keep_backups": 1, "phasegate_keep_days": 0}
    look = target.play("roles/prune/example.yml", extra_vars=options, arguments="--check")
    assert (look.rc, look.stats("changed")) == (0, {"target": 1})
    assert "delete  older/backup.dump" in look.stdout
    assert sorted(path.parent.name for path in target.root.glob("*/backup.dump")) == ["manual_work", "older"]
    assert target.play("roles/prune/example.yml", extra_vars=options).rc == 0
    assert [path.parent.name for path in target.root.glob("*/backup.dump")] == ["manual_work"]
    again = target.play("playbooks/prune.yml", extra_vars=options)
    assert (again.rc, again.stats("changed")) == (0, {})


def test_snapshot(target: Target) -> None:
    assert target.play("roles/snapshot/example.yml").rc == 0
    state = json.loads((target.root / "monday" / "schema" / "before_state.json").read_text(encoding="utf-8"))
    assert state["row_counts"] == {"public.tac_logical_unit": 86, "sandbox_tac.logical_unit": 76}
    assert state["measures"]["updated_at"]["distinct"] == 3


def test_preflight(target: Target) -> None:
    before = target.state()
    play = target.play("roles/preflight/example.yml")
    assert (play.rc, play.stats("changed")) == (0, {})
    assert target.state() == before
    assert not target.root.exists()


def test_preflight_fails_on_other_data(target: Target) -> None:
    target.cluster.psql("DELETE FROM sandbox_tac.logical_unit", target.database)
    play = target.play("roles/preflight/example.yml")
    assert play.rc != 0
    assert "failed: P-3" in play.messages


def test_verify(target: Target) -> None:
    assert target.play("roles/verify/example.yml").rc == 0
    log = (target.root / "maintenance" / "logs" / "C-08.log").read_text(encoding="utf-8")
    assert (log.count("PASS"), log.count("FAIL")) == (2, 0)


def test_verify_finds_what_maintenance_must_not_do(target: Target) -> None:
    tasks = target.directory / "maintenance.yml"
    query = {
        "login_unix_socket": str(target.cluster.socket_directory),
        "login_user": SUPERUSER,
        "login_db": target.database,
        "query": "ALTER TABLE public.tac_logical_unit ADD COLUMN oops int",
    }
    tasks.write_text(json.dumps([{"community.postgresql.postgresql_query": query}]), encoding="utf-8")
    play = target.play("roles/verify/example.yml", extra_vars={"maintenance_tasks": str(tasks)})
    assert play.rc != 0
    assert "oops" in play.messages


def test_migrate(target: Target, more: str) -> None:
    assert target.play("roles/migrate/example.yml", extra_vars={"phasegate_phase_file": more}).rc == 0
    assert has_more(target)
    assert not (target.bundle().path / "SHA256SUMS").exists()


def test_rehearse(target: Target, more: str) -> None:
    with running_cluster(rehearsal=True) as rehearsal:
        target.hostvars = {
            "phasegate_plans": str(target.directory / "plans"),
            "phasegate_author": "anna",
            "phasegate_rehearsal": {
                "bindir": str(bin_directory()),
                "host": str(rehearsal.socket_directory),
                "database": target.database,
                "user": SUPERUSER,
            },
        }
        play = target.play("roles/rehearse/example.yml", extra_vars={"phasegate_phase_file": more})
    assert play.rc == 0, play.stdout
    assert not has_more(target)
    (plan,) = (target.directory / "plans").glob("*/plan.json")
    assert json.loads(plan.read_text(encoding="utf-8"))["author"] == "anna"


def test_execute_and_roll_back(target: Target, more: str) -> None:
    options = {"phasegate_phase_file": more}
    assert target.play("roles/execute/example.yml", extra_vars=options).rc == 0
    assert has_more(target)
    bundle = target.bundle().path
    assert verify_bundle(str(bundle)) == []
    assert json.loads((bundle / "report.json").read_text(encoding="utf-8"))["outcome"] == "SUCCESS"
    again = target.play("roles/execute/example.yml", extra_vars=options)
    assert (again.rc, again.stats("changed")) == (0, {})
    assert target.bundle().path == bundle
    # nothing is begun for a name that was not typed out
    options = {"phasegate_execution": str(bundle), "phasegate_confirm": "alpha"}
    refused = target.play("roles/rollback/example.yml", extra_vars=options)
    assert refused.rc != 0
    assert f"expected: the name of the execution to undo, typed out: {bundle.name}" in refused.messages
    assert "found: 'alpha'" in refused.messages
    assert not refused.reached("C-01")
    assert has_more(target)
    (told,) = (made for made in target.bundles() if made.path != bundle)
    told.assert_sealed()
    assert "C-09: the rollback is not confirmed." in told.reason
    options = {"phasegate_execution": str(bundle), "phasegate_confirm": bundle.name}
    assert target.play("roles/rollback/example.yml", extra_vars=options).rc == 0
    assert not has_more(target)
    assert [verify_bundle(str(made.path)) for made in target.bundles()] == [[], [], []]
