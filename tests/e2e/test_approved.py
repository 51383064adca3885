# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rehearsed plan on a cluster with registered reviewers: nothing commits, nor is rolled back, without them."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pwd
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import read_anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import SEAL_NAMESPACE
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json, freeze
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rehearsal_record import rehearsal_record
from ansible_collections.incomex.phasegate.tests.support.bundle import sha256
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, play, write_inventory
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.incomex.phasegate.tests.support.playbook import Play
    from ansible_collections.incomex.phasegate.tests.support.target import Target

AUTHOR = "huyen"


@pytest.fixture
def people(tmp_path: Path) -> list[Reviewer]:
    """Two reviewers and the author, with keys."""
    return [Reviewer.create(tmp_path, name) for name in ("anna", "ben", AUTHOR)]


@pytest.fixture
def reviewers(target: Target, people: list[Reviewer]) -> Iterator[Path]:
    """The register of the target's cluster, where this user may write one."""
    below = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers" / target.system_identifier
    yield register(below, "".join(one.line() for one in people))
    unregister(below)


@pytest.fixture
def plan(target: Target, tmp_path: Path) -> Path:
    """A frozen plan of Phase Alpha, rehearsed on another cluster."""
    with running_cluster(rehearsal=True) as other:
        rehearsal = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "user": SUPERUSER}
        run = target.play(
            "playbooks/phase_alpha_rehearse.yml",
            extra_vars={
                "phasegate_author": AUTHOR,
                "phasegate_plans": str(tmp_path / "plans"),
                "phasegate_rehearsal": {**rehearsal, "port": other.port, "database": target.database},
            },
        )
    assert run.rc == 0, run.stdout
    (path,) = (tmp_path / "plans").glob("*/plan.json")
    assert (path.parent / "review.html").exists()
    return path


@pytest.mark.fault("rehearsal-target")
def test_the_target_of_another_inventory_host_is_no_place_for_a_rehearsal(target: Target, tmp_path: Path) -> None:
    """Also where the play does not run on that host."""
    with running_cluster(rehearsal=True) as other:
        connection = {"bindir": str(bin_directory()), "host": str(other.socket_directory), "user": SUPERUSER}
        identifier = other.psql("SELECT system_identifier FROM pg_control_system()")
        hosts = {
            "target": {**target.entry(), "phasegate_rehearsal": {**connection, "port": other.port, "database": "copy"}},
            "db2": {"phasegate_database": "orders", "phasegate_identity": {"system_identifier": identifier}},
            "web1": {"phasegate_like": "{{ nowhere }}"},
        }
        run = play(
            tmp_path,
            "playbooks/phase_alpha_rehearse.yml",
            inventory=write_inventory(tmp_path / "several.yml", hosts),
            limit="target",
            extra_vars={"phasegate_plans": str(tmp_path / "plans"), "phasegate_author": "huyen"},
        )
        assert run.rc == 2
        assert "The rehearsal cluster is the target of inventory host db2." in run.messages
        assert not run.reached("C-01")
        assert other.psql("SELECT count(*) FROM pg_database") == "3"
    assert not (tmp_path / "plans").exists()


def approve(plan: Path, reviewer: Reviewer) -> None:
    extra = {"phasegate_plan": str(plan), "phasegate_reviewer": reviewer.name, "phasegate_key": str(reviewer.key)}
    run = play(plan.parent.parent, "playbooks/approve.yml", inventory=ROOT / "inventory" / "local", extra_vars=extra)
    assert run.rc == 0, run.stdout


def assert_reported(report: dict[str, Any]) -> None:
    """Check that the report has the approvals, and the rehearsal's figures beside its own."""
    signed = {one["signer"]: one["status"] for one in report["approvals"]}
    assert {name: signed[name] for name in ("anna", "ben", "huyen")} == {
        "anna": "valid",
        "ben": "valid",
        "huyen": "author",
    }
    assert report["predecessor"]["author"] == "huyen"
    # the rehearsal's figures are beside this run's, and so is the statement that took a lock first
    assert [one["rehearsed"]["changed"] for one in report["measured"]] == [86]
    taken = {(one["relation"], one["mode"]): one for one in report["migration"]["locks"]}
    lock = taken["public.tac_logical_unit", "AccessExclusiveLock"]
    assert lock["since"] < lock["until"] == report["migration"]["commit_sent"]
    assert lock["seconds"] > 0 < lock["rehearsed_seconds"]


@pytest.mark.fault("approvals", "rollback-refused", "plan-spent", "rollback-again", "rollback-early")
def test_the_chain(  # noqa: PLR0915 - each step needs those before it
    target: Target, people: list[Reviewer], reviewers: Path, plan: Path, tmp_path: Path
) -> None:
    anna, ben, author = people
    state, schema = target.state(), target.dump("--schema-only")

    def execute(**extra: object) -> str:
        return target.play(extra_vars={"phasegate_plan": str(plan), **extra}).stdout

    # nobody, then one and the author, whatever else is said
    assert "0 of 2" in execute()
    approve(plan, anna)
    approve(plan, author)
    mine = register(tmp_path / "mine", anna.line(), {"threshold": 1})
    # inputs of other playbooks are refused on the command line, and in the inventory they change nothing
    said = execute(phasegate_reviewers=str(mine), phasegate_author="anna")
    assert "phasegate_reviewers is given by -e and execute does not read it" in said
    target.hostvars |= {"phasegate_reviewers": str(mine), "phasegate_author": "anna"}
    said = execute(threshold=1, reviewers=str(mine))
    assert "1 of 2" in said
    assert "huyen is the plan's author" in said
    assert target.state() == state

    # one byte of the plan, which the controller notices before the target has to
    data = plan.read_bytes()
    plan.write_bytes(data.replace(b'"wal_bytes":', b'"wal_bytes":1'))
    assert "is not intact" in execute()
    assert target.state() == state
    plan.write_bytes(data)

    approve(plan, ben)
    # a column that came after the rehearsal is named, before a backup is made
    target.cluster.psql("CREATE TABLE public.later (since int)", target.database)
    drifted = target.play(extra_vars={"phasegate_plan": str(plan)})
    assert "Stopped at G-10 (" in drifted.messages
    assert "public.later" in drifted.messages
    assert not drifted.reached("C-07")
    target.cluster.psql("DROP TABLE public.later", target.database)
    assert target.state() == state

    said = execute()
    assert "SUCCESS" in said
    assert target.migrated
    execution = next(one for one in target.bundles() if '"COMMITTED"' in one.text("journal.jsonl"))
    assert_reported(execution.json("report.json"))

    # the rollback needs signatures of its own, and tells how they are made
    def roll_back(*signatures: Path, **loss: int) -> Play:
        extra = {
            "phasegate_execution": str(execution.path),
            "phasegate_confirm": execution.path.name,
            "phasegate_rollback_approvals": [str(one) for one in signatures],
            **loss,
        }
        return target.play("playbooks/rollback.yml", extra_vars=extra)

    def write(rows: int) -> None:
        target.cluster.psql(
            "INSERT INTO cutter_governance.canonical_address_alias (target_unit_id, alias_text, alias_kind)"
            f" SELECT unit_id, 'former', 'former' FROM public.tac_logical_unit LIMIT {rows}",
            target.database,
        )

    # both are told at once, before a backup
    write(3)
    refused = roll_back(plan.with_name("plan.json.anna.sig"), plan.with_name("plan.json.ben.sig"))
    assert "Stopped for 2 reasons: 1. Stopped at G-1 (" in refused.messages
    assert "2. C-09: the rollback would lose 3 rows." in refused.messages
    assert "signed for another purpose" in refused.messages
    assert not refused.reached("C-01")
    assert target.migrated

    # an application goes on writing: a bound is signed, once by hand and once by the playbook
    most = {"phasegate_accept_loss_at_most": 5}
    refused = roll_back(**most)
    assert "Stopped at G-1 (" in refused.messages
    assert not refused.reached("C-01")
    request = re.search(r"printf '%s\\n' '(\{[^']*\})'", refused.messages)
    assert request is not None, refused.messages
    assert json.loads(request[1])["accept_loss_at_most"] == 5
    by_hand = tmp_path / "anna.sig"
    by_hand.write_bytes(anna.sign(request[1].encode() + b"\n", "rollback@phasegate.incomex"))
    copy_of_it = shutil.copytree(execution.path, tmp_path / "copies" / execution.path.name)
    signing = {
        "phasegate_execution": str(copy_of_it),
        "phasegate_reviewer": "ben",
        "phasegate_key": str(ben.key),
        **most,
    }
    run = play(tmp_path, "playbooks/approve.yml", inventory=ROOT / "inventory" / "local", extra_vars=signing)
    assert run.rc == 0, run.stdout
    assert copy_of_it.with_name(f"{copy_of_it.name}.rollback.json").read_text(encoding="utf-8") == request[1] + "\n"
    signatures = [by_hand, copy_of_it.with_name(f"{copy_of_it.name}.rollback.json.ben.sig")]
    # another bound was not signed
    assert "0 of 2" in roll_back(*signatures, phasegate_accept_loss_at_most=6).messages
    write(1)
    done = roll_back(*signatures, **most)
    assert done.rc == 0, done.stdout
    assert "table cutter_governance.canonical_address_alias, 4 rows" in target.bundles()[-1].text("report.md")
    assert target.dump("--schema-only") == schema

    # the same signatures permit nothing a second time
    undone = target.state()
    assert "The plan is spent: it was executed on this database, and rolled back." in execute()
    target.hostvars["phasegate_environment"] = "elsewhere"
    assert "The plan is spent" in execute()
    assert "C-09: the execution was rolled back already." in roll_back(*signatures, **most).messages
    assert target.state() == undone


# --- the rehearsal's bundle on the target ----------------------------------------------------------------------------


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(plan: dict[str, Any]) -> None:
        at: Any = plan
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value

    return change


#: What a plan may claim of a rehearsal, and what is said when its bundle has something else.
CONTRADICTIONS: list[tuple[Callable[[dict[str, Any]], None], str, str]] = [
    (put("rehearsal", "rewrites", value=["public.tac_logical_unit"]), "ddl", "tables rewritten in R-2"),
    (lambda plan: plan["rehearsal"]["data"].pop(), "ddl", "data changed in R-2"),
    (put("rehearsal", "rollback", "data", value=[{}]), "rollback", "data changed in R-4"),
    (lambda plan: plan["rehearsal"]["locks"].pop(), "ddl", "locks was measured otherwise"),
    (lambda plan: plan["rehearsal"]["changes"].pop(), "ddl", "changes in R-3"),
    (lambda plan: plan["rehearsal"]["changes_before_commit"].pop(), "ddl", "changes before COMMIT in R-2"),
    (put("rehearsal", "base_fingerprint", value="0" * 64), "ddl", "base_fingerprint was measured otherwise"),
    (put("rehearsal", "result_fingerprint", value="0" * 64), "ddl", "result_fingerprint was measured otherwise"),
    (put("rehearsal", "server", "timezone", value="Mars"), "ddl", "server was measured otherwise"),
    (put("rehearsal", "statements", 0, "rows", value=7), "ddl", "statements was measured otherwise"),
    (put("rehearsal", "wal_bytes", value=1), "ddl", "wal_bytes was measured otherwise"),
    (put("rehearsal", "cluster", "place", value="elsewhere"), "ddl", "cluster was measured otherwise"),
    (put("rehearsal", "backup", "sha256", value="0" * 64), "ddl", "backup: the bundle has"),
    (put("rehearsal", "more", value=1), "ddl", "more was measured otherwise"),
    (put("ddl", "sha256", value="0" * 64), "ddl", "ddl was rehearsed with SHA-256"),
    (put("ddl", "statements", 1, "kinds", value=["SELECT"]), "ddl", "ddl is described otherwise than at the rehearsal"),
    (put("phase", "diff", "policy", value="unchanged"), "ddl", "phase is described otherwise"),
    (put("rollback", "sha256", value="0" * 64), "rollback", "rollback was rehearsed with SHA-256"),
    (put("rollback", "statements", 1, "tag", value="SELECT"), "rollback", "rollback is described otherwise"),
    (put("rehearsal", "rollback", "statements", value=[]), "rollback", "the rollback was measured otherwise"),
    (put("target", "system_identifier", value="1"), "unusable", "was rehearsed for system_identifier"),
    (put("target", "database", value="other"), "unusable", "was rehearsed for database"),
    (put("rehearsal", "seal", value="0" * 64), "unusable", "has another seal than the plan"),
    (put("rehearsal", "bundle", value="../x"), "unusable", "is not the name of a run directory"),
    (put("rehearsal", "bundle", value="none"), "unusable", "is not a directory on this host"),
]


def every_claim_is_compared(content: dict[str, Any], root: Path, reviewers: Path) -> None:
    """Compare a plan with changed claims with the bundle, by the function that the gates use."""
    anchor = read_anchor(str(reviewers))
    record = rehearsal_record(content, str(root), anchor)
    assert (record.unusable, record.ddl, record.rollback) == ((), [], [])
    for change, where, words in CONTRADICTIONS:
        forged = copy.deepcopy(content)
        change(forged)
        found = getattr(rehearsal_record(forged, str(root), anchor), where)
        assert words in "; ".join(found), (words, found)


def seal_again(bundle: Path, original: Path, name: str, content: str = "") -> None:
    """Write the seal of the original with the digest that a file has now, or with this content."""
    if content:
        (bundle / name).write_text(content, encoding="utf-8")
    sums = (original / "SHA256SUMS").read_text(encoding="utf-8")
    (bundle / "SHA256SUMS").write_text(sums.replace(sha256(original / name), sha256(bundle / name)), encoding="utf-8")


@pytest.mark.fault("rehearsal-forged")
def test_the_rehearsals_bundle_is_what_the_plan_is_compared_with(
    target: Target, people: list[Reviewer], reviewers: Path, plan: Path, tmp_path: Path
) -> None:
    state, data = target.state(), plan.read_bytes()
    content = json.loads(data)
    bundle = target.root / content["rehearsal"]["bundle"]

    def sign(document: bytes) -> None:
        plan.write_bytes(document)
        for one in people[:2]:
            plan.with_name(f"plan.json.{one.name}.sig").write_bytes(one.sign(document))

    def execute() -> str:
        run = target.play(extra_vars={"phasegate_plan": str(plan)})
        return run.messages or run.stdout

    every_claim_is_compared(content, target.root, reviewers)

    # a forged measurement, signed by everybody who has to
    forged = copy.deepcopy(content)
    forged["rehearsal"]["rewrites"] = ["public.tac_logical_unit"]
    sign(canonical_json(freeze(forged)))
    said = execute()
    assert "Stopped at G-10 (" in said
    assert "tables rewritten in R-2: the bundle has []" in said
    forged = copy.deepcopy(content)
    forged["rehearsal"]["rollback"]["statements"][0]["microseconds"] += 1
    sign(canonical_json(freeze(forged)))
    assert "Stopped at G-9 (" in execute()

    # the honest plan, and a bundle that is not there, changed, sealed again
    sign(data)
    away = bundle.rename(tmp_path / "away")
    said = execute()
    assert "Stopped at G-9 (rollback SQL is present, pinned and rehearsed), G-10 (" in said
    assert "is not a directory on this host" in said
    bundle.symlink_to(away)
    assert "is not a directory on this host" in execute()
    bundle.unlink()
    shutil.copytree(away, bundle)
    proved = bundle / "rehearsal.json"
    proved.write_text(proved.read_text(encoding="utf-8").replace('"rewrites": []', '"rewrites": ["x.y"]'))
    assert "rehearsal.json was changed" in execute()
    seal_again(bundle, away, "rehearsal.json")
    assert "rehearsal.json was replaced" in execute()
    # of a report the journal has no digest
    shutil.copy(away / "rehearsal.json", proved)
    seal_again(bundle, away, "report.md", "All good.\n")
    assert "has another seal than the plan" in execute()
    shutil.copytree(away, bundle, dirs_exist_ok=True)

    # the register names who signs seals: nobody did, a stranger, the right key
    sealer, stranger = (Reviewer.create(tmp_path, name) for name in ("sealer", "stranger"))
    (reviewers / "seal_signers").write_text(sealer.line(), encoding="utf-8")
    (reviewers / "seal_signers").chmod(0o644)
    assert "the seal is UNSIGNED" in execute()
    seal = (bundle / "SHA256SUMS").read_bytes()
    (bundle / "SHA256SUMS.sig").write_bytes(stranger.sign(seal, SEAL_NAMESPACE))
    assert "signed by an unknown key" in execute()
    assert target.state() == state
    (bundle / "SHA256SUMS.sig").write_bytes(sealer.sign(seal, SEAL_NAMESPACE))
    # what retention deletes is not needed
    (bundle / "backup.dump").unlink()
    assert "SUCCESS" in execute()
    execution = next(one for one in target.bundles() if '"COMMITTED"' in one.text("journal.jsonl"))
    assert execution.gates["G-9"] == execution.gates["G-10"] == "PASS"


@pytest.mark.fault("rehearsal-forged")
def test_without_a_register_a_missing_bundle_is_not_called_a_pass(target: Target, plan: Path, tmp_path: Path) -> None:
    bundle = json.loads(plan.read_bytes())["rehearsal"]["bundle"]
    (target.root / bundle).rename(tmp_path / "away")
    run = target.play(extra_vars={"phasegate_plan": str(plan)})
    assert run.rc == 0, run.stdout
    gates = target.bundles()[-1].gates
    assert (gates["G-1"], gates["G-9"], gates["G-10"]) == ("NOT ENFORCED", "NOT ENFORCED", "NOT ENFORCED")


# --- a rollback by confirmation --------------------------------------------------------------------------------------


def forge_rollback(honest: Path, forged: Path, sql: bytes) -> None:
    """Copy an execution's bundle with another rollback: plan, journal and seal are right again, only the signatures are not."""
    shutil.copytree(honest, forged)
    plan = json.loads((forged / "plan.json").read_bytes())
    statement = {**plan["rollback"]["statements"][0], "n": 1, "start": 0, "end": len(sql), "line": 1, "run": True}
    statement.update(tag="DELETE", kinds=["DELETE"], relations=[], needs=[], after_commit="", returns_rows=False)
    digest = hashlib.sha256(sql).hexdigest()
    plan["rollback"].update(sha256=digest, bytes=len(sql), statements=[statement])
    plan["phase"]["rollback"].update(sha256=digest, statements=["DELETE"], rows={})
    data = canonical_json(freeze(plan))
    (forged / "plan.json").write_bytes(data)
    (forged / "sql" / "rollback.sql").write_bytes(sql)
    lines, previous = [], "0" * 64
    for line in (forged / "journal.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if (entry["step"], entry["event"]) == ("run", "open"):
            entry["data"]["plan_sha256"] = hashlib.sha256(data).hexdigest()
        if (entry["step"], entry["event"]) == ("C-05", "done"):
            for one in entry["data"]["files"]:
                one["sha256"] = sha256(forged / one["name"])
        if (entry["step"], entry["event"]) == ("run", "seal"):
            entry["data"]["name"] = forged.name
        lines.append(json.dumps({**entry, "prev": previous}, ensure_ascii=False, separators=(",", ":")))
        previous = hashlib.sha256(lines[-1].encode()).hexdigest()
    (forged / "journal.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = [line[66:] for line in (forged / "SHA256SUMS").read_text(encoding="utf-8").splitlines()]
    (forged / "SHA256SUMS").write_text(
        "".join(f"{sha256(forged / name)}  {name}\n" for name in names), encoding="utf-8"
    )
    assert verify_bundle(str(forged)) == []


@pytest.mark.fault("rollback-forged")
def test_a_rollback_by_confirmation_runs_what_was_signed_and_rehearsed(
    target: Target, people: list[Reviewer], reviewers: Path, plan: Path, tmp_path: Path
) -> None:
    schema = target.dump("--schema-only")
    register(reviewers, "".join(one.line() for one in people), {"rollback": "confirmation"})
    for one in people[:2]:
        plan.with_name(f"plan.json.{one.name}.sig").write_bytes(one.sign(plan.read_bytes()))
    executed = target.play(extra_vars={"phasegate_plan": str(plan)})
    assert executed.rc == 0, executed.stdout
    execution = next(one.path for one in target.bundles() if '"COMMITTED"' in one.text("journal.jsonl"))
    state = target.state()

    def roll_back(bundle: Path, *signatures: Path) -> str:
        given = [str(one) for one in signatures]
        extra = {"phasegate_execution": str(bundle), "phasegate_confirm": bundle.name}
        run = target.play("playbooks/rollback.yml", extra_vars={**extra, "phasegate_rollback_approvals": given})
        return run.messages or run.stdout

    # any SQL, in a bundle that verifies
    forged = execution.with_name(execution.name.replace("alpha_test_", "alpha_test_2"))
    forge_rollback(execution, forged, b"DELETE FROM public.tac_logical_unit;\n")
    said = roll_back(forged)
    assert "G-1 (" in said
    assert "the executed plan: 0 of 2" in said
    assert "rollback was rehearsed with SHA-256" in said
    assert target.state() == state
    shutil.rmtree(forged)

    # the rehearsal's record is gone
    rehearsed = target.root / json.loads(plan.read_bytes())["rehearsal"]["bundle"]
    away = rehearsed.rename(tmp_path / "away")
    said = roll_back(execution)
    assert "Stopped at G-9 (" in said
    assert "is not a directory on this host" in said
    shutil.move(away, rehearsed)

    # a reviewer left since: the signature counts no longer, and another one's takes its place
    anna, ben, author = people
    carl = Reviewer.create(tmp_path, "carl")
    lines = "".join(one.line() for one in (anna, ben, author, carl))
    register(reviewers, lines, {"rollback": "confirmation"}, revoked=ben.public + "\n")
    assert "the executed plan: 1 of 2" in roll_back(execution)
    assert target.state() == state
    signature = tmp_path / "carl.plan.sig"
    signature.write_bytes(carl.sign((execution / "plan.json").read_bytes()))
    assert "SUCCESS" in roll_back(execution, signature)
    assert target.dump("--schema-only") == schema
