# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command-review package of a plan: what people read before they sign. Pure; controller only; private."""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Block,
    Code,
    Document,
    Facts,
    Inline,
    Notice,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.names import suspicious_words
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import count_unsafe
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import cluster_wide
from ansible_collections.incomex.phasegate.plugins.module_utils._review.changed_data import (
    data_findings,
    what_data_changed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.changes import what_changes, what_is_checked
from ansible_collections.incomex.phasegate.plugins.module_utils._review.commands import (
    digests_and_tools,
    how_to_approve_and_execute,
    how_to_roll_back,
    out_of_scope,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.rehearsal_results import what_was_measured
from ansible_collections.incomex.phasegate.plugins.module_utils._review.statements import (
    BLOCKING,
    blocked,
    lock_mode,
    lock_rank,
    observed_locks,
    unsafe_findings,
    what_runs,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import (
    ROW_TAGS,
    Subject,
    after_commit,
    counted,
    duration,
    in_batches,
    in_transaction,
    row_count,
    target_place,
    utc_minute,
)

_HARMLESS = ("additive", "cosmetic")


def review(subject: Subject) -> Document:
    """Return the review package of a plan."""
    plan, phase, target = subject.plan, subject.phase, subject.plan["target"]
    blocks: List[Block] = [
        Facts(
            (
                ("Target", f"{target['environment']}: {target_place(target)}"),
                ("Cluster", Code(target["system_identifier"])),
                ("Server", f"PostgreSQL {target['server_version']}"),
                ("Role", Code(target["user"])),
                ("Author", plan["author"]),
                ("Rehearsed", utc_minute(plan["created_at"])),
                ("May run until", utc_minute(plan["not_after"])),
                ("Rehearsal", Code(subject.rehearsal["bundle"])),
            )
        ),
        _attention(subject),
        *what_runs(subject),
        *what_changes(subject),
        *what_data_changed(subject),
        *what_is_checked(subject),
        *what_was_measured(subject),
        *how_to_roll_back(subject),
        *out_of_scope(subject),
        *how_to_approve_and_execute(subject),
        *digests_and_tools(subject),
    ]
    after = after_commit(plan["ddl"])
    lead = (
        f"Phase {phase['phase']}, revision {phase['revision']}: {counted(in_transaction(plan['ddl']), 'statement')} in one transaction"
        + (f", {counted(after, 'statement')} after it," if after else "")
        + f" on {target['inventory_name']}, rehearsed on a copy. Reviewers approve it by signing exactly these bytes."
    )
    return Document(
        "Command review",
        phase["title"],
        lead,
        subject.sha256,
        blocks,
        digest_label="SHA-256 of plan.json, the digest to approve",
    )


def _attention(subject: Subject) -> Notice:
    """Return what a reviewer should see first, gathered from all sections."""
    items: List[Tuple[Inline, ...]] = []
    seen = set()
    for lock, new in observed_locks(subject):
        if not new and lock_rank(lock["mode"]) >= BLOCKING and lock["relation"] not in seen:
            seen.add(lock["relation"])
            what = blocked(lock, new=False)
            held = duration(lock["held_microseconds"])
            items.append(
                (
                    Code(lock["relation"]),
                    f": {what} are blocked for {held} ({lock_mode(lock['mode'])}, from statement {lock['statement']} to COMMIT).",
                )
            )
    items += [(Code(relation), ": the whole relation is rewritten.") for relation in subject.rehearsal["rewrites"]]
    items += unsafe_findings(subject)
    undone = subject.rehearsal["rollback"]["rewrites"]
    items += [(Code(relation), ": the whole relation is rewritten by the rollback.") for relation in undone]
    for change in subject.rehearsal["changes"]:
        if change.get("severity") not in _HARMLESS:
            items.append(
                (
                    Code(change["name"]),
                    f": {change.get('severity')}, {change.get('action')} {change['kind'].replace('_', ' ')}.",
                )
            )
    items += [
        (f"Statement {one['n']}, {kind}: reaches beyond this database.",)
        for one in subject.plan["ddl"]["statements"]
        for kind in one["kinds"]
        if cluster_wide(kind)
    ]
    items += [
        (
            f"Statement {one['n']}, {one['kinds'][0]}: runs after COMMIT{in_batches(one)} and is not rolled back.",
            *_unwatched(subject, one),
        )
        for one in after_commit(subject.plan["ddl"])
    ]
    for statement in subject.rehearsal["statements"]:
        if statement["tag"] in ROW_TAGS and statement["rows"]:
            items.append(
                (f"Statement {statement['n']}, {statement['tag']}: {row_count(statement['rows'])} of data changed.",)
            )
    items += [
        (Code(name), ": its partitions may be added and dropped between the rehearsal and the execution.")
        for name in subject.phase["drift"]["partitions_of"]
    ]
    items += data_findings(subject)
    items += [("The rollback does not restore: ", sentence) for sentence in subject.phase["rollback"]["cannot_restore"]]
    items += _doubts(subject)
    if not items:
        return Notice(
            "good",
            "Nothing stands out",
            (("No blocking lock, no rewrite, no finding, and the rollback restores everything.",),),
        )
    return Notice("watch", "Review these first", tuple(items))


def _unwatched(subject: Subject, statement: Mapping[str, Any]) -> Iterator[Inline]:
    """Yield what an index built, or a constraint validated, after COMMIT may call: no check watches its transactions."""
    functions, kind = subject.phase["scope"]["functions"], statement["kinds"][0]
    if functions and kind.startswith(("CREATE INDEX", "ALTER TABLE VALIDATE")):
        part = "its expression or its predicate" if kind.startswith("CREATE INDEX") else "the constraint"
        yield f" If {part} calls a function of scope.functions ("
        yield Code(", ".join(functions))
        yield "), only the rehearsal observes what that function writes: on its copy it wrote nothing."


def _doubts(subject: Subject) -> List[Tuple[Inline, ...]]:
    """Return what makes the review package itself incomplete."""
    items: List[Tuple[Inline, ...]] = []
    role = subject.rehearsal["role"]
    if role["refused"]:
        items.append(
            (
                "Rehearsed in a session of a superuser, which the SQL could use. Role ",
                Code(role["name"]),
                f" has none of its own in the rehearsal cluster: {role['refused']}.",
            )
        )
    if subject.findings is None:
        items.append(("The DDL was not linted: Squawk is not installed where this package was written.",))
    elif subject.findings:
        items.append((f"Squawk reports {counted(subject.findings, 'finding')}, listed with the statements.",))
    for name, data in (
        (subject.plan["ddl"]["file"], subject.ddl),
        (subject.plan["rollback"]["file"], subject.rollback),
    ):
        text = data.decode("utf-8")
        items += [(Code(name), ": ", Code(word), f": {why}.") for word, why in suspicious_words(text)]
        count = count_unsafe(text)
        if count:
            items.append(
                (
                    Code(name),
                    f" contains {counted(range(count), 'invisible or unsafe character')}, shown by code point.",
                )
            )
    here, there = subject.plan["target"]["server_version"], subject.rehearsal["server"]["server_version"]
    if here.split(" ")[0] != there.split(" ")[0]:
        items.append((f"Rehearsed on PostgreSQL {there}, the target has {here}.",))
    return items
