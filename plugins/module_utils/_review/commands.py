# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a review package: rollback, scope, commands, digests. Pure; controller only; private."""

from __future__ import annotations

import shlex
from typing import Dict, List, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import (
    NOTES_NAMESPACE,
    PLAN_NAMESPACE,
    notes_header,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.commands import extra_var
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Badge,
    Block,
    Bullets,
    Card,
    Code,
    Facts,
    Heading,
    Inline,
    Listing,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.statements import after_commit_badges
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import Subject, bullet_list, duration


def how_to_roll_back(subject: Subject) -> List[Block]:
    """Return the section *How to roll back*."""
    plan, phase, target = subject.plan, subject.phase, subject.plan["target"]
    execution = f"{phase['phase']}_{target['environment']}_STAMP"
    times = {one["n"]: one for one in subject.rehearsal["rollback"]["statements"]}
    cards = [
        Card(
            f"{s['n']} · {s['tag']}",
            (
                Badge(f"line {s['line']}"),
                *([Badge(duration(times[s["n"]]["microseconds"]))] if s["n"] in times else []),
                *([] if s["run"] else [Badge("not sent: phasegate opens and ends the transaction")]),
                *after_commit_badges(s),
            ),
            (Listing(subject.rollback[s["start"] : s["end"]].decode("utf-8"), "sql"),),
            folded=not s["run"],
        )
        for s in plan["rollback"]["statements"]
    ]
    inside = ["docker", "exec", "-i", target["container"]] if target["container"] else []
    restored = f"{target['database']}_restored"
    return [
        Heading(2, "How to roll back"),
        Paragraph(
            (
                "Nothing starts a rollback automatically. It runs these rehearsed statements verbatim, refuses to lose rows that were "
                "written since, and is complete when the schema's fingerprint equals the one from before the phase.",
            )
        ),
        *cards,
        *bullet_list("What it cannot restore", phase["rollback"]["cannot_restore"]),
        Heading(3, "Commands"),
        Paragraph(
            (
                "STAMP is the execution's time, ROOT the directory of all runs on the target host. If a rollback needs approval "
                "too, the first attempt is refused and prints the command that reviewers sign it with.",
            )
        ),
        Listing(
            _command(
                ["ansible-playbook", "incomex.phasegate.rollback", "-l", target["inventory_name"]],
                extra_var("phasegate_execution", f"ROOT/{execution}"),
                extra_var("phasegate_confirm", execution),
            ),
            "sh",
        ),
        Paragraph(("Take old values from the execution's backup, restored beside the database, never over it:",)),
        Listing(
            "\n".join(
                [
                    shlex.join([*inside, "createdb", "--username", target["user"], restored]),
                    shlex.join(
                        [*inside, "pg_restore", "--username", target["user"], "--exit-on-error", "--dbname", restored]
                    )
                    + f" < ROOT/{execution}/backup.dump",
                ]
            ),
            "sh",
        ),
    ]


def _command(*parts: Sequence[str]) -> str:
    """Return a command with each part on a line of its own."""
    return " \\\n    ".join(shlex.join(part) for part in parts)


def out_of_scope(subject: Subject) -> List[Block]:
    """Return the section *What is out of scope*."""
    phase, scope = subject.phase, subject.phase["scope"]
    items = tuple(
        (
            f"{item['title']} ({'not attempted by the run' if item.get('not_attempted') else 'checked'})",
        )
        for item in phase["non_scope"]
    )  # fmt: skip
    blocks: List[Block] = [
        Heading(2, "What is out of scope"),
        Facts(
            (
                ("Schemas that the DDL may name", Code(", ".join(scope["schemas"]))),
                ("Statements that it may contain", ", ".join(scope["statements"])),
                ("Functions with side effects that it may call", _names(scope["functions"])),
                ("Tables that may be rewritten", _names(scope["rewrites"])),
                ("Tables that the rollback may rewrite", _names(phase["rollback"]["rewrites"])),
            )
        ),
    ]
    return (
        [*blocks, Paragraph(("By its own definition, the phase leaves these unchanged:",)), Bullets(items)]
        if items
        else blocks
    )


def _names(names: Sequence[str]) -> Inline:
    return Code(", ".join(names)) if names else "none"


def how_to_approve_and_execute(subject: Subject) -> List[Block]:
    """Return the sections *How to approve* and *How to execute*."""
    target, path = subject.plan["target"], subject.path
    name = path.rpartition("/")[2]
    by_hand = "ssh-keygen -Y sign -f ~/.ssh/id_ed25519 -n {} < {} > {}"
    approve = ["ansible-playbook", "incomex.phasegate.approve"]
    notes = shlex.quote(notes_header(subject.sha256).decode("ascii").strip())
    return [
        Heading(2, "How to approve"),
        Paragraph(("First check that this page describes the file that you sign:",)),
        Listing(
            f"{shlex.join(['cd', path.rpartition('/')[0] or '.'])}\necho '{subject.sha256}  {name}' | sha256sum --check",
            "sh",
        ),
        Paragraph(("Then sign it, with the name that you are registered under in place of NAME:",)),
        Listing(by_hand.format(PLAN_NAMESPACE, name, f"{name}.NAME.sig"), "sh"),
        Paragraph(("With notes (PASS_WITH_NOTES), which are signed too:",)),
        Listing(
            "\n".join(
                [
                    f"{{ echo {notes}; echo; cat my-notes.md; }} > {name}.NAME.notes.md",
                    by_hand.format(NOTES_NAMESPACE, f"{name}.NAME.notes.md", f"{name}.NAME.notes.md.sig"),
                    by_hand.format(NOTES_NAMESPACE, name, f"{name}.NAME.sig"),
                ]
            ),
            "sh",
        ),
        Paragraph(("Or use the playbook:",)),
        Listing(
            _command(
                approve,
                extra_var("phasegate_plan", path),
                ["-e", "phasegate_reviewer=NAME"],
                ["-e", "phasegate_key=~/.ssh/id_ed25519"],
            ),
            "sh",
        ),
        Paragraph(("To see who has approved:",)),
        Listing(_command(["ansible-playbook", "incomex.phasegate.approvals"], extra_var("phasegate_plan", path)), "sh"),
        Heading(2, "How to execute"),
        Paragraph(("Run it once, after approval; a second run finds the phase applied and only verifies it.",)),
        Listing(
            _command(
                ["ansible-playbook", "incomex.phasegate.execute", "-l", target["inventory_name"]],
                extra_var("phasegate_plan", path),
            ),
            "sh",
        ),
    ]


def digests_and_tools(subject: Subject) -> List[Block]:
    """Return the section *Digests and tools*."""
    plan, rehearsal = subject.plan, subject.rehearsal
    digests: List[Tuple[Inline, ...]] = [
        (plan[part]["file"], Code(plan[part]["sha256"])) for part in ("definition", "ddl", "rollback")
    ]
    digests += [
        ("schema before (fingerprint)", Code(rehearsal["base_fingerprint"])),
        ("schema after (fingerprint)", Code(rehearsal["result_fingerprint"])),
        ("seal of the rehearsal", Code(rehearsal["seal"])),
        ("content of the plan", Code(plan["content_sha256"])),
        ("plan.json", Code(subject.sha256)),
    ]
    tools: Dict[str, str] = {**plan["tools"], **({"linter": subject.linter} if subject.linter else {})}
    return [
        Heading(2, "Digests and tools"),
        Table(("What", "SHA-256"), tuple(digests)),
        Facts(tuple((name, version) for name, version in sorted(tools.items()))),
        *bullet_list("See also", [f"{one['title']}: {one['ref']}" for one in subject.phase["cross_references"]]),
    ]
