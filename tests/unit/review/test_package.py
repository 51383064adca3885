# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The review package: everything a reviewer must see is there, verbatim, and its commands work as they stand."""

from __future__ import annotations

import copy
import datetime as dt
import html
import html.parser
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import collect_approvals
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import evaluate_plan_approvals
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import read_anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Bullets,
    Card,
    Document,
    Heading,
    Listing,
    Notice,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._common.markdown import render_markdown
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._review.changed_data import (
    data_findings,
    what_data_changed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.package import review
from ansible_collections.incomex.phasegate.plugins.module_utils._review.squawk import (
    LintFinding,
    find_squawk,
    run_squawk,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.statements import LOCKS
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import Subject
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.accepted_forms import UnsafeForm
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.advice import Advice
from ansible_collections.incomex.phasegate.tests.support.markdown import INLINE, inline_types, parse, structure
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA, BETA
from ansible_collections.incomex.phasegate.tests.support.reviewers import NOW, Reviewer, frozen_plan, register

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLAN = frozen_plan()
DDL, ROLLBACK = ((ALPHA.parent / name).read_bytes() for name in ("migrate.sql", "rollback.sql"))


def subject(plan: dict[str, Any] = PLAN, **changes: Any) -> Subject:
    parts: dict[str, Any] = {
        "plan": plan,
        "sha256": sha256_bytes(canonical_json(plan)),
        "ddl": DDL,
        "rollback": ROLLBACK,
        "path": "plans/alpha/plan.json",
        "findings": [],
        "linter": "squawk 2.70.0",
    }
    return Subject(**{**parts, **changes})


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    plan = copy.deepcopy(PLAN)
    change(plan)
    return plan


def both(document: Document) -> tuple[str, str]:
    """Return the Markdown, and the page's text as a browser would show it."""
    page = re.sub(r"<style>.*?</style>|<[^>]*>", "", render_page(document), flags=re.DOTALL)
    return render_markdown(document), html.unescape(page)


def cards(document: Document) -> dict[str, Card]:
    """Return the cards by their titles; the DDL's statements come before the rollback's of the same title."""
    return {block.title: block for block in reversed(document.blocks) if isinstance(block, Card)}


def badges(document: Document, title: str) -> dict[str, str]:
    return {badge.text: badge.tone for badge in cards(document)[title].badges}


def weighed(document: Document) -> list[str]:
    (notice,) = [block for block in document.blocks if isinstance(block, Notice)]
    return ["".join(part if isinstance(part, str) else part.text for part in item) for item in notice.items]


# --- what is in it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["ddl", "rollback"])
def test_every_statement_is_there_verbatim(part: str) -> None:
    data = {"ddl": DDL, "rollback": ROLLBACK}[part]
    for text in both(review(subject())):
        position = 0
        for statement in PLAN[part]["statements"]:
            sql = data[statement["start"] : statement["end"]].decode().strip("\n")
            position = text.index(sql, position) + len(sql)


def test_every_check_is_there_with_its_sql_and_expectation() -> None:
    phase = PLAN["phase"]
    for text in both(review(subject())):
        for check in [*phase["preflight"], *phase["verify"]]:
            assert f"{check['id']} · {check['title']}" in text
            assert check.get("sql", "").strip("\n") in text


@pytest.mark.parametrize(
    "words",
    [
        "What will run",
        "What it changes",
        "Before: preflight",
        "Inside the transaction, before COMMIT",
        "After: verification",
        "What the rehearsal measured",
        "How to roll back",
        "What it cannot restore",
        "What is out of scope",
        "How to approve",
        "How to execute",
        "Digests and tools",
        "UPDATE: the server reports 86 rows",
        "public.tac_logical_unit.updated_at from before the backfill",
        "ansible-playbook incomex.phasegate.execute -l db1 \\\n    -e phasegate_plan=plans/alpha/plan.json",
        "docker exec -i postgres pg_restore --username workflow_admin --exit-on-error --dbname directus_restored",
        "7384512999999999999",
        "183.3 kB",
        "2026-05-19 03:12 UTC",
        "tac_authority_draft 86, tac_authority_enacted 0",
    ],
)
def test_what_a_reviewer_must_find(words: str) -> None:
    for text in both(review(subject())):
        assert words in text


@pytest.mark.parametrize(
    "path",
    [
        ("definition", "sha256"),
        ("ddl", "sha256"),
        ("rollback", "sha256"),
        ("content_sha256",),
        ("rehearsal", "seal"),
        ("rehearsal", "base_fingerprint"),
        ("rehearsal", "result_fingerprint"),
        ("rehearsal", "bundle"),
    ],
)
def test_every_digest_is_there(path: tuple[str, ...]) -> None:
    value: Any = PLAN
    for part in path:
        value = value[part]
    for text in both(review(subject())):
        assert value in text


# --- what it says of a statement -------------------------------------------------------------------------------


def test_the_badges_of_statements() -> None:
    document = review(subject())
    assert badges(document, "5 · ALTER TABLE") == {
        "line 15": "plain",
        "2.0 ms": "plain",
        "ACCESS EXCLUSIVE": "watch",
        "no rewrite": "good",
    }
    assert badges(document, "8 · UPDATE")["86 rows"] == "watch"
    assert badges(document, "8 · UPDATE")["ROW EXCLUSIVE"] == "plain"
    assert "no new lock" in badges(document, "6 · ALTER TABLE")
    assert "not sent: phasegate opens and ends the transaction" in badges(document, "1 · BEGIN")


def alias_table(plan: dict[str, Any]) -> None:
    plan["rehearsal"]["changes"].append(
        {
            "kind": "table",
            "schema": "cutter_governance",
            "identity": ["cutter_governance", "canonical_address_alias"],
            "name": "cutter_governance.canonical_address_alias",
            "attribute": None,
            "action": "added",
            "before": None,
            "after": "",
            "severity": "additive",
            "rewrites": False,
            "note": "",
            "parts": ["index canonical_address_alias_pkey"],
        }
    )
    plan["rehearsal"]["locks"].append(
        {
            "relation": "cutter_governance.canonical_address_alias_pkey",
            "mode": "AccessExclusiveLock",
            "statement": 11,
            "held_microseconds": 9000,
        }
    )


def test_a_lock_on_what_is_new_makes_nobody_wait() -> None:
    document = review(subject(changed(alias_table)))
    assert "no lock on existing objects" in badges(document, "11 · CREATE TABLE")
    assert not any("alias" in item for item in weighed(document) if "blocked" in item)
    assert "nothing: it is new" in render_markdown(document)


def test_a_rewrite_is_marked_where_it_happens() -> None:
    plan = changed(lambda p: p["rehearsal"]["rewrites"].append("sandbox_tac.logical_unit"))
    document = review(subject(plan))
    assert badges(document, "7 · ALTER TABLE")["rewrites"] == "bad"
    assert badges(document, "5 · ALTER TABLE")["no rewrite"] == "good"
    assert "sandbox_tac.logical_unit: the whole relation is rewritten." in weighed(document)


def test_a_statement_without_measurement_is_marked() -> None:
    plan = changed(lambda p: p["rehearsal"]["statements"].pop(0))
    assert badges(review(subject(plan)), "2 · SET")["not measured"] == "watch"


def test_a_finding_stands_with_its_statement() -> None:
    found = [LintFinding("rule-one", 16, "Beware.", "Do better."), LintFinding("rule-two", 24, "Look.", "")]
    document = review(subject(findings=found))
    assert badges(document, "5 · ALTER TABLE")["1 lint finding"] == "watch"
    assert badges(document, "7 · ALTER TABLE")["1 lint finding"] == "watch"
    assert sum("lint finding" in badge.text for card in cards(document).values() for badge in card.badges) == 2
    for text in both(document):
        assert "line 16: Beware. Do better." in text
    assert "Squawk reports 2 findings, listed with the statements." in weighed(document)


def test_every_line_of_the_file_belongs_to_one_statement() -> None:
    for line in range(1, DDL.count(b"\n") + 1):
        document = review(subject(findings=[LintFinding("rule", line, "x", "")]))
        marked = [card for card in cards(document).values() if any(isinstance(b, Bullets) for b in card.blocks)]
        assert len(marked) == 1, line


# --- what it asks to weigh -------------------------------------------------------------------------------------


def severe(plan: dict[str, Any]) -> None:
    plan["rehearsal"]["changes"][0].update(severity="destructive", action="removed")


WEIGHED: list[tuple[dict[str, Any], str]] = [
    (
        {},
        "public.tac_logical_unit: reads and writes are blocked for 41.3 ms (ACCESS EXCLUSIVE, from statement 5 to COMMIT).",
    ),
    ({}, "Statement 8, UPDATE: 86 rows of data changed."),
    ({}, "The rollback does not restore: Values written into the new columns"),
    ({"plan": changed(severe)}, "public.tac_logical_unit.authority: destructive, removed column."),
    ({"findings": None, "linter": ""}, "The DDL was not linted"),
    (
        {"plan": changed(lambda p: p["target"].update(server_version="16.10"))},
        "Rehearsed on PostgreSQL 16.13, the target has 16.10.",
    ),
    (
        {"ddl": DDL.replace(b"Must report", "Must\u202e\u200b\u00a0 t".encode())},
        "migrate.sql contains 3 invisible or unsafe characters",
    ),
]


@pytest.mark.parametrize(("changes", "words"), WEIGHED)
def test_what_is_to_be_weighed(changes: dict[str, Any], words: str) -> None:
    assert any(item.startswith(words) for item in weighed(review(subject(**changes))))


def test_nothing_stands_out_of_a_quiet_plan() -> None:
    def quiet(plan: dict[str, Any]) -> None:
        plan["rehearsal"].update(locks=[], statements=[], changes=[])
        plan["phase"]["rollback"]["cannot_restore"] = []

    (notice,) = [block for block in review(subject(changed(quiet))).blocks if isinstance(block, Notice)]
    assert (notice.tone, notice.title) == ("good", "Nothing stands out")


@pytest.mark.parametrize(
    ("reasons", "said"),
    [((), "The phase gives no reason for it (accept)."), (("Few rows.",), "The phase accepts it: Few rows.")],
)
def test_a_form_that_others_wait_for_is_named_first_and_with_its_statement(reasons: tuple[str, ...], said: str) -> None:
    advice = Advice("ShareLock", "builds the index", "CREATE INDEX CONCURRENTLY", "CREATE INDEX")
    document = review(subject(unsafe={5: [UnsafeForm(advice, ["shop.t"], reasons)]}))
    _markdown, page = both(document)
    assert page.count(f"it builds the index under SHARE. Safer: CREATE INDEX CONCURRENTLY. {said}") == 2
    (notice,) = [block for block in document.blocks if isinstance(block, Notice)]
    assert any("Statement 5, CREATE INDEX: " in item for item in notice.items)


def test_every_lock_mode_of_the_manual_is_known() -> None:
    assert len(LOCKS) == 8
    plan = changed(lambda p: p["rehearsal"]["locks"][0].update(mode="FutureLock"))
    assert badges(review(subject(plan)), "5 · ALTER TABLE")["FUTURE"] == "watch"


# --- what it is made of ----------------------------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """The open tags of a page, and what it refers to."""

    VOID = ("meta", "br", "wbr", "hr", "img", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


HOSTILE = "</title><script>alert(1)</script> | `x` ``` [a](http://b) *c* \\ \u202e \x07"


def hostile() -> Document:
    def change(plan: dict[str, Any]) -> None:
        plan["phase"]["title"] = plan["author"] = HOSTILE
        plan["phase"]["preflight"][2]["title"] = plan["phase"]["preflight"][2]["sql"] = HOSTILE
        plan["rehearsal"]["locks"][0]["relation"] = plan["target"]["database"] = HOSTILE

    ddl = DDL.replace(
        b"-- A constant default does not rewrite the table.", b"-- ``` </pre><img src=x onerror=alert(1)> xxxx"
    )
    return review(subject(changed(change), ddl=ddl, findings=[LintFinding(HOSTILE, 20, HOSTILE, "")]))


@pytest.mark.parametrize("document", [review(subject()), hostile()], ids=["alpha", "hostile"])
def test_the_page_is_well_formed_and_needs_nothing_else(document: Document) -> None:
    page = render_page(document)
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    assert not tags.seen & {"img", "link", "iframe", "object"}
    # the page's own, which its policy names by its digest
    assert page.count("<script>") == 1
    assert not [name for name, _ in tags.attributes if name in ("src", "srcset", "onerror", "style")]
    assert all((value or "").startswith("#") for name, value in tags.attributes if name == "href")
    assert "url(" not in page
    assert "@import" not in page


def test_every_link_of_the_page_leads_somewhere() -> None:
    page = render_page(review(subject()))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


@pytest.mark.fault("hostile-text")
def test_hostile_texts_are_only_texts_in_markdown() -> None:
    text = render_markdown(hostile())
    tokens = parse(text)
    plain = parse(render_markdown(review(subject(findings=[LintFinding("rule", 20, "message", "")]))))
    assert structure(tokens) == structure(plain)
    assert inline_types(tokens) <= INLINE
    assert "\u202e" not in text
    assert "⟨U+202E⟩" in text


# --- its commands ----------------------------------------------------------------------------------------------


def listings(document: Document, heading: str) -> list[str]:
    names = [block.text if isinstance(block, Heading) else "" for block in document.blocks]
    first = names.index(heading) + 1
    found = []
    for block in document.blocks[first:]:
        if isinstance(block, Heading):
            break
        if isinstance(block, Listing):
            found.append(block.text)
    return found


@pytest.mark.parametrize(("which", "verdict"), [(1, "PASS"), (2, "PASS_WITH_NOTES")])
def test_signing_by_hand_as_it_says_is_an_approval(tmp_path: Path, which: int, verdict: str) -> None:
    data = canonical_json(PLAN)
    (tmp_path / "plan.json").write_bytes(data)
    (tmp_path / "my-notes.md").write_text("Watch the queue.\n", encoding="utf-8")
    anna = Reviewer.create(tmp_path, "anna")
    commands = listings(review(subject(path=str(tmp_path / "plan.json"))), "How to approve")
    script = f"{commands[0]}\n{commands[which]}".replace("NAME", "anna").replace("~/.ssh/id_ed25519", str(anna.key))
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True)
    signatures, notes = collect_approvals(str(tmp_path / "plan.json"))
    anchor = read_anchor(str(register(tmp_path / "reviewers", anna.line(), {"threshold": 1})))
    judged = evaluate_plan_approvals(
        data, signatures, notes, anchor, PLAN["author"], PLAN["not_after"], dt.datetime.fromisoformat(NOW)
    )
    assert judged.gate.status == "PASS"
    assert [one.verdict for one in judged.verdicts] == [verdict]


def test_the_first_command_notices_another_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(canonical_json(PLAN) + b" ")
    (first, *_) = listings(review(subject(path=str(tmp_path / "plan.json"))), "How to approve")
    assert subprocess.run(["sh", "-ec", first], check=False, capture_output=True).returncode == 1


def test_names_are_quoted_for_the_shell() -> None:
    plan = changed(lambda p: p["target"].update(database="a b; rm -rf x", container="c$(id)"))
    text = render_markdown(review(subject(plan, path="plans/it's/plan.json")))
    assert "docker exec -i 'c$(id)' createdb --username workflow_admin 'a b; rm -rf x_restored'" in text
    assert """-e '{"phasegate_plan": "plans/it'"'"'s/plan.json"}'""" in text


# --- the linter ------------------------------------------------------------------------------------------------


def squawk() -> str:
    program = find_squawk()
    if program is None:
        pytest.skip("squawk is not installed")
    return program


RISKY = b"-- first line\nALTER TABLE public.a ADD COLUMN b text NOT NULL;\n"


def test_the_linter_finds_and_tells_where() -> None:
    (finding,) = run_squawk(squawk(), RISKY, "16.13", wrapped=True)
    assert (finding.rule, finding.line) == ("adding-required-field", 2)
    assert finding.message


@pytest.mark.parametrize("version", ["16", "16.13", "16.13 (Debian 16.13-1)"])
def test_alpha_has_no_finding(version: str) -> None:
    assert run_squawk(squawk(), DDL, version, wrapped=False) == []


def test_nobodys_configuration_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["adding-required-field"]\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run_squawk(squawk(), RISKY, "16.13", wrapped=True)


def test_a_linter_that_does_not_work_is_told(tmp_path: Path) -> None:
    program = tmp_path / "squawk"
    program.write_text("#!/bin/sh\necho no such option >&2\nexit 2\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(PhaseGateError, match="no such option"):
        run_squawk(str(program), RISKY, "16.13", wrapped=True)


@pytest.mark.fault("cluster-wide")
def test_a_statement_that_reaches_beyond_the_database_says_so() -> None:
    plan = frozen_plan()
    assert "cluster-wide" not in both(review(subject(plan)))[0]
    one = next(statement for statement in plan["ddl"]["statements"] if statement["run"])
    one["kinds"] = ["COMMENT ON DATABASE"]
    shown = badges(review(subject(plan)), f"{one['n']} · {one['tag']}")
    assert shown["cluster-wide: reaches beyond this database"] == "bad"


def test_what_runs_after_commit_says_so_everywhere() -> None:
    ddl, rollback = ((BETA.parent / name).read_bytes() for name in ("migrate.sql", "rollback.sql"))
    document = review(subject(frozen_plan(BETA), ddl=ddl, rollback=rollback))
    assert "11 statements in one transaction, 1 statement after it, on db1" in document.lead
    after = {"after COMMIT, outside the transaction": "watch", "SHARE UPDATE EXCLUSIVE": "plain"}
    for title in ("14 · CREATE INDEX", "9 · DROP INDEX"):
        assert after.items() <= badges(document, title).items()
    assert "Statement 14, CREATE INDEX CONCURRENTLY: runs after COMMIT and is not rolled back." in weighed(document)
    assert badges(document, "VA-4 · The index is there, valid and ready") == {"after COMMIT only": "watch"}
    assert "each for at most 10min" in both(document)[0]
    assert "after COMMIT" not in both(review(subject()))[0]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("CREATE INDEX CONCURRENTLY", "its expression or its predicate"),
        ("ALTER TABLE VALIDATE CONSTRAINT", "the constraint"),
    ],
)
def test_what_may_be_called_after_commit_is_said(kind: str, part: str) -> None:
    ddl, rollback = ((BETA.parent / name).read_bytes() for name in ("migrate.sql", "rollback.sql"))
    plan = frozen_plan(BETA)
    plan["phase"]["scope"]["functions"] = ["app.imm"]
    next(one for one in plan["ddl"]["statements"] if one["n"] == 14)["kinds"] = [kind]
    said = weighed(review(subject(plan, ddl=ddl, rollback=rollback)))
    (line,) = [line for line in said if line.startswith("Statement 14")]
    assert line.endswith(
        f" If {part} calls a function of scope.functions (app.imm), only the rehearsal observes what that function writes: on its copy it wrote nothing."
    )
    assert "only the rehearsal observes" not in both(review(subject(frozen_plan(BETA), ddl=ddl, rollback=rollback)))[0]


def of_data(*changes: dict[str, Any]) -> Subject:
    """A plan of three statements whose rehearsal has changed these data."""

    def statement(n: int, tag: str, relation: str, need: str) -> dict[str, Any]:
        return {"n": n, "tag": tag, "relations": [relation], "needs": [f"{need} {relation}"], "run": True}

    statements = [
        statement(1, "ALTER TABLE", "shop.orders", "OWNER"),
        statement(2, "UPDATE", "shop.orders", "UPDATE"),
        statement(3, "INSERT", "shop.lines", "INSERT"),
    ]
    plan = copy.deepcopy(PLAN)
    plan["ddl"]["statements"] = statements
    plan["phase"]["data"] = {"shop.log": {"INSERT": {"min": 1}}}
    plan["rehearsal"].update(data=list(changes), unproved=[], statements=[])
    undone = [{**one, "kind": "DELETE"} for one in changes if one["kind"] == "INSERT"]
    plan["rehearsal"]["rollback"]["data"] = undone
    return subject(plan)


def cells(subject: Subject) -> list[list[str]]:
    (table, *_more) = [block for block in what_data_changed(subject) if isinstance(block, Table)]
    return [[text_of(cell) for cell in row] for row in table.rows]


def text_of(part: Any) -> str:
    return part if isinstance(part, str) else str(part.text)


def test_changed_data_names_the_statements_that_change_it_and_what_declares_it() -> None:
    shown = of_data(
        {"relation": "shop.orders", "kind": "UPDATE", "rows": 7},
        {"relation": "shop.lines", "kind": "INSERT", "rows": 1},
        {"relation": "shop.lines_id_seq", "kind": "MOVE", "rows": None},
        {"relation": "shop.log", "kind": "INSERT", "rows": 7},
    )
    assert [[row[0], *row[3:]] for row in cells(shown)] == [
        ["shop.orders", "by its statements", "2"],
        ["shop.lines", "by its statements", "3"],
        ["shop.lines_id_seq", "by its statements", "an INSERT, by a column's default, or a function"],
        ["shop.log", "at least 1", "none: by a trigger, function or cascade"],
    ]
    # the sequence of a column that an INSERT fills is nothing to look at first
    assert [text_of(item[0]) for item in data_findings(shown)] == ["shop.log"]


@pytest.mark.parametrize(
    ("deleted", "found"), [(1, []), (0, ["shop.lines: 1 row more after the rollback than before the migration."])]
)
def test_rows_that_the_rollback_leaves_are_named_first(deleted: int, found: list[str]) -> None:
    plan: dict[str, Any] = copy.deepcopy(dict(of_data({"relation": "shop.lines", "kind": "INSERT", "rows": 1}).plan))
    plan["rehearsal"]["data"].append({"relation": "shop.new", "kind": "INSERT", "rows": 5})
    plan["rehearsal"]["changes"] = [{"kind": "table", "action": "added", "name": "shop.new"}]
    plan["ddl"]["statements"][0].update(tag="CREATE TABLE AS", relations=["shop.new"])
    undone = [{"relation": "shop.lines", "kind": "DELETE", "rows": deleted}] if deleted else []
    plan["rehearsal"]["rollback"] = {"data": undone}
    assert ["".join(map(text_of, item)) for item in data_findings(subject(plan))] == found


def test_what_batches_change_after_commit_is_shown_too() -> None:
    plan: dict[str, Any] = copy.deepcopy(dict(of_data().plan))
    plan["ddl"]["statements"][1]["batch"] = {"by": "id"}
    plan["rehearsal"]["statements"] = [{"n": 2, "rows": 5000}]
    texts = render_markdown(Document("", "x", "", "", what_data_changed(subject(plan))))
    assert "After COMMIT, in batches: statement 2, UPDATE of shop.orders, 5000 rows." in texts
