# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan that describes its SQL otherwise than PostgreSQL's parser does is refused, whoever summed and signed it."""

from __future__ import annotations

import copy
import datetime as dt
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.action import plan_review
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json, freeze
from ansible_collections.incomex.phasegate.plugins.module_utils._review import files
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.plan_check import read_checked_plan
from ansible_collections.incomex.phasegate.plugins.modules.plan_approval import plan_to_sign
from ansible_collections.incomex.phasegate.plugins.modules.plan_approvals_info import approvals_of_plan
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, play
from ansible_collections.incomex.phasegate.tests.support.reviewers import NOW, Reviewer, frozen_plan, register

if TYPE_CHECKING:
    from collections.abc import Callable

#: For as long as tests will run.
PLAN = frozen_plan(not_after="2099-01-01T00:00:00Z")
MOMENT = dt.datetime.fromisoformat(NOW)


def write(directory: Path, plan: dict[str, Any], **files: bytes) -> str:
    """Write a plan with a right inner digest, and its SQL; return the path of plan.json."""
    for name in ("migrate.sql", "rollback.sql"):
        shutil.copyfile(ALPHA.with_name(name), directory / name)
    for name, data in files.items():
        (directory / f"{name}.sql").write_bytes(data)
    (directory / "plan.json").write_bytes(canonical_json(freeze(plan)))
    return str(directory / "plan.json")


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    plan = copy.deepcopy(PLAN)
    change(plan)
    return plan


def relabelled() -> tuple[dict[str, Any], bytes]:
    """Return a plan whose two first statements are a DELETE and a COPY TO PROGRAM by their bytes, COMMENT by their labels."""
    ddl = b"DELETE FROM public.tac_logical_unit;\nCOPY public.tac_logical_unit TO PROGRAM 'sh';\n"
    plan = copy.deepcopy(PLAN)
    template = next(one for one in plan["ddl"]["statements"] if one["tag"] == "COMMENT")
    statements, position = [], 0
    for number, text in enumerate(ddl.splitlines(keepends=True), start=1):
        statements.append({**template, "n": number, "start": position, "end": position + len(text), "line": number})
        position += len(text)
    digest = sha256_bytes(ddl)
    plan["ddl"].update(sha256=digest, bytes=len(ddl), statements=statements)
    plan["phase"]["migrate"]["sha256"] = digest
    plan["phase"]["scope"]["statements"] = ["COMMENT"]
    plan["phase"]["expect"].update(tags={"COMMENT": 2}, rows={})
    plan["phase"]["expect"].pop("result", None)
    plan["rehearsal"]["statements"] = [
        {"n": one["n"], "tag": "COMMENT", "line": one["line"], "rows": None, "microseconds": 1} for one in statements
    ]
    plan["rehearsal"]["locks"] = []
    return plan, ddl


READERS: dict[str, Callable[[str], object]] = {
    "review": plan_review.package,
    "approve": plan_to_sign,
    "approvals": lambda path: approvals_of_plan(path, None, MOMENT),
    "execute": read_checked_plan,
}


@pytest.mark.parametrize("reader", READERS)
def test_an_honest_plan_is_read(tmp_path: Path, reader: str) -> None:
    assert READERS[reader](write(tmp_path, PLAN))


@pytest.mark.fault("plan-relabelled")
@pytest.mark.parametrize("reader", READERS)
def test_relabelled_statements_are_refused_by_everybody(tmp_path: Path, reader: str) -> None:
    plan, ddl = relabelled()
    with pytest.raises(PhaseGateError) as caught:
        READERS[reader](write(tmp_path, plan, migrate=ddl))
    assert "statement 1 of migrate.sql (line 1) differs" in caught.value.what
    assert "do not sign or execute this plan" in caught.value.next_step
    assert not (tmp_path / "review.md").exists()


@pytest.mark.fault("plan-relabelled")
def test_the_playbooks_refuse_it_too(tmp_path: Path) -> None:
    anna, ben = (Reviewer.create(tmp_path, name) for name in ("anna", "ben"))
    mine = register(tmp_path / "reviewers", anna.line() + ben.line())
    plan, ddl = relabelled()
    path = Path(write(tmp_path, plan, migrate=ddl))
    # as somebody does who talked two reviewers into signing the bytes by hand
    for one in (anna, ben):
        path.with_name(f"plan.json.{one.name}.sig").write_bytes(one.sign(path.read_bytes()))
    extra = {"phasegate_plan": str(path)}
    variables: dict[str, dict[str, str]] = {
        "review": {},
        "approve": {"phasegate_reviewer": "anna", "phasegate_key": str(anna.key)},
        "approvals": {"phasegate_reviewers": str(mine)},
    }
    for name, more in variables.items():
        run = play(
            tmp_path, f"playbooks/{name}.yml", inventory=ROOT / "inventory" / "local", extra_vars={**extra, **more}
        )
        assert run.rc != 0, run.stdout
        assert "plan.json does not describe its SQL" in run.messages


def edit(part: str, index: int, **values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda plan: plan[part]["statements"][index].update(values)


def move_range(plan: dict[str, Any]) -> None:
    """Let two neighbouring statements share a range's border one byte further."""
    first, second = plan["ddl"]["statements"][2:4]
    first["end"] += 1
    second["start"] += 1


@pytest.mark.fault("plan-relabelled")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit("ddl", 2, tag="SELECT"), "tag of statement 3 of migrate.sql"),
        (edit("ddl", 2, kinds=[]), "kinds of statement 3 of migrate.sql"),
        (edit("ddl", 3, relations=["public.other"]), "relations of statement 4 of migrate.sql"),
        (edit("ddl", 3, needs=["nothing"]), "needs of statement 4 of migrate.sql"),
        (edit("ddl", 3, returns_rows=True), "returns_rows of statement 4 of migrate.sql"),
        (edit("ddl", 3, line=1), "line of statement 4 of migrate.sql"),
        (edit("ddl", 3, n=3), "the number of statement 4 of migrate.sql"),
        (edit("ddl", 3, more=1), "statement 4 of migrate.sql"),
        (edit("rollback", 1, kinds=["SELECT"]), "kinds of statement 2 of rollback.sql"),
        (edit("rollback", 1, relations=["a.b"]), "relations of statement 2 of rollback.sql"),
        (
            lambda plan: plan["phase"]["settings"].update(search_path=["public"]),
            "searched of statement 1 of migrate.sql",
        ),
        (move_range, "end of statement 3 of migrate.sql"),
        (lambda plan: plan["ddl"].update(bytes=1), "the size of migrate.sql"),
        (lambda plan: plan["rehearsal"]["statements"].pop(), "measurement"),
        (lambda plan: plan["rehearsal"]["statements"][0].update(tag="COMMENT"), "measurement"),
        (lambda plan: plan["rehearsal"]["rollback"]["statements"][0].update(line=99), "measurement"),
        (lambda plan: plan["rehearsal"]["locks"][0].update(statement=99), "the statement of the lock"),
    ],
)
def test_every_fact_of_a_statement_is_derived_again(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    with pytest.raises(PhaseGateError) as caught:
        read_checked_plan(write(tmp_path, changed(change)))
    assert words in caught.value.what


@pytest.mark.fault("plan-relabelled")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: plan["phase"]["scope"]["statements"].remove("COMMENT"), "COMMENT is not in scope.statements"),
        (lambda plan: plan["phase"]["expect"]["tags"].update(COMMENT=1), "differ from the declared ones"),
        (lambda plan: plan["phase"]["rollback"].update(statements=["SELECT"]), "is not in rollback.statements"),
        (lambda plan: plan["phase"]["scope"].pop("rewrites"), "scope: not complete"),
        (lambda plan: plan["phase"]["migrate"].update(sha256="0" * 64), "the definition pins another file"),
        (lambda plan: plan["phase"]["rollback"].update(file="other.sql"), "the definition pins another file"),
        (lambda plan: plan["phase"]["scope"]["statements"].append("EVERYTHING"), "unknown kind of statement"),
        (
            lambda plan: plan["phase"]["verify"].append(
                {"id": "X-1", "title": "x", "sql": "DELETE FROM a", "expect": 1}
            ),
            "verify[",
        ),
    ],
)
def test_what_depends_on_the_definition_is_derived_again(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    with pytest.raises(PhaseGateError) as caught:
        read_checked_plan(write(tmp_path, changed(change)))
    assert words in str(caught.value)


def test_the_plan_of_a_run_directory_has_its_sql_below(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN)
    (tmp_path / "sql").mkdir()
    for name in ("migrate.sql", "rollback.sql"):
        (tmp_path / name).rename(tmp_path / "sql" / name)
    assert json.loads(read_checked_plan(path).data)["nonce"] == PLAN["nonce"]


def test_signatures_of_a_plan_that_was_changed_are_listed(tmp_path: Path) -> None:
    path = Path(write(tmp_path, PLAN))
    anna = Reviewer.create(tmp_path, "anna")
    mine = register(tmp_path / "reviewers", anna.line())
    path.with_name("plan.json.anna.sig").write_bytes(anna.sign(path.read_bytes()))
    path.write_bytes(path.read_bytes().replace(b'"author":"huyen"', b'"author":"Huyen"'))
    result = approvals_of_plan(str(path), str(mine), MOMENT)
    assert [one["status"] for one in result["approvals"]] == ["plan changed"]
    assert result["gate"]["status"] == "FAIL"


# --- the review package beside it -----------------------------------------------------------------------------


def packaged(directory: Path) -> str:
    """Write a plan and its review package, as the rehearsal does; return the path of plan.json."""
    directory.mkdir(exist_ok=True)
    path = write(directory, PLAN)
    plan_review.write(plan_review.package(path)[0], check_mode=False)
    return path


@pytest.mark.parametrize("linted", [True, False])
def test_a_package_that_was_made_elsewhere_is_the_plans_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linted: bool
) -> None:
    with monkeypatch.context() as there:
        if not linted:
            there.setattr(files, "find_squawk", lambda: None)
        there.chdir(tmp_path)
        packaged(tmp_path / "rehearsed here")
    copied = shutil.copytree(tmp_path / "rehearsed here", tmp_path / "it's a copy" / "rehearsed here")
    assert plan_to_sign(str(copied / "plan.json")).what == "plan"
    # the directory that it was copied from is gone, or has the same plan
    shutil.rmtree(tmp_path / "rehearsed here")
    assert plan_to_sign(str(copied / "plan.json")).what == "plan"


def commanding(path: str, place: str) -> None:
    """Write the package of a plan as if it lay in another place."""
    checked = read_checked_plan(path)
    for name, data in files.package_files(checked, place, files.lint(checked)).items():
        Path(path).with_name(name).write_bytes(data)


@pytest.mark.parametrize("folder", ["a b", "it's", "a=b", 'say "yes"', "tree #1", "{{ 1 }}", "a\\b", "đ"])
def test_a_package_names_its_plan_whatever_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = packaged(tmp_path / folder)
    commanding(path, f"{tmp_path}/elsewhere/{folder}/plan.json")
    assert plan_to_sign(path).what == "plan"
    assert plan_to_sign(f"{folder}/../{folder}/plan.json").what == "plan"


@pytest.mark.parametrize(
    "place",
    ["other/plan.json", "mine/../mine/plan.json", "./mine/plan.json", "link/plan.json", "here/mine/plan.json", "x/mine/../plan.json", "/nowhere/plan.json",
     "same/mine/plan.json"],
)  # fmt: skip
@pytest.mark.fault("review-exchanged")
def test_a_package_whose_commands_are_for_another_plan_is_not_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = packaged(tmp_path / "mine")
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "here").symlink_to(".")
    (tmp_path / "same" / "mine").mkdir(parents=True)
    (tmp_path / "same" / "mine" / "plan.json").write_text("{}", encoding="utf-8")
    commanding(path, place)
    with pytest.raises(PhaseGateError) as caught:
        plan_to_sign(path)
    assert caught.value.what == "The review package beside the plan is not what this plan gives."
    assert caught.value.found.endswith(f"; a command for {place}")
    commanding(path, "mine/plan.json")
    assert plan_to_sign(path).what == "plan"


@pytest.mark.parametrize("name", ["review.md", "review.html"])
@pytest.mark.parametrize("change", ["left out", "of another plan", "added", "empty"])
@pytest.mark.fault("review-exchanged")
def test_a_package_that_says_something_else_is_not_signed(tmp_path: Path, name: str, change: str) -> None:
    path = packaged(tmp_path)
    package = tmp_path / name
    right = package.read_bytes()
    digest = sha256_bytes(Path(path).read_bytes()).encode("ascii")
    forged = {
        "left out": right.replace(b"tac_logical_unit", b"tac_other_unit"),
        "of another plan": right.replace(digest, sha256_bytes(b"").encode("ascii")),
        "added": right + b"\n",
        "empty": b"",
    }[change]
    assert forged != right
    package.write_bytes(forged)
    with pytest.raises(PhaseGateError) as caught:
        plan_to_sign(path)
    assert caught.value.what == "The review package beside the plan is not what this plan gives."
    assert caught.value.found.startswith(f"{name} with another text")
    # and the next step leads on
    assert caught.value.next_step.endswith(f"incomex.phasegate.review -e phasegate_plan={path}")
    plan_review.write(plan_review.package(path)[0], check_mode=False)
    assert plan_to_sign(path).what == "plan"
    assert package.read_bytes() == right
