# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C-08: compare the state after with the state before, run every check, and report all failures together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Verified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.builtin import (
    checksum_check,
    identity_check,
    line_count_check,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import (
    NEXT_STEPS,
    answerable_statements,
    check_summary,
    format_check_table,
    require_checks,
    run_read_only,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import (
    DataExpectations,
    load_capture,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import (
    describe_snapshot,
    deviations_of,
    read_words,
    record_state,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_found,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff, Words, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.dump_diff import diff_dumps
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import (
    Relation,
    comparable,
    declared_parents,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import (
    evaluate_policy,
    judge_changes,
    policy_for_plan,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot


@dataclass(frozen=True)
class Verification:
    """The required state after a migration.

    ``checks`` and ``non_scope`` as in phase.yml; ``declared`` what is measured and counted; ``policy`` of the diff;
    ``identity`` the declared target; the DDL's ``required_sha256`` and the ``found_sha256`` of the frozen file. ``parents`` are the
    tables whose partitions may come and go.
    """

    checks: Sequence[Mapping[str, Any]]
    non_scope: Sequence[Mapping[str, Any]]
    declared: DataExpectations
    policy: Mapping[str, Any]
    search_path: Sequence[str]
    identity: Mapping[str, Any]
    required_sha256: str | None
    found_sha256: str | None
    parents: Sequence[Relation] = ()

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any], identity: Mapping[str, Any], found_sha256: str) -> Verification:
        """Return the state that a plan's phase requires after its DDL, whose digest is ``found_sha256``."""
        phase = plan["phase"]
        return cls(
            checks=phase["verify"],
            non_scope=phase["non_scope"],
            declared=DataExpectations.from_definition(phase["measure"], phase["row_counts"]),
            policy=policy_for_plan(plan),
            search_path=phase["settings"]["search_path"],
            identity=identity,
            required_sha256=plan["ddl"]["sha256"],
            found_sha256=found_sha256,
            parents=declared_parents(phase),
        )


VERIFICATION_FIELDS = ("fingerprint", "checks", "summary", "non_scope", "measured", "deviations", "elsewhere")


def verification_fields(end: Verified) -> dict[str, Any]:
    """Return the results of C-08 for the caller, as far as available."""
    known = {name: value for name, value in end.to_entry().items() if name in VERIFICATION_FIELDS}
    return {**known, **{name: end.diff[name] for name in ("lines", "text") if end.diff is not None}}


def _text(artefacts: RunDirectory, label: str) -> str:
    return read_found(artefacts.file(f"schema/{label}.sql")).decode("utf-8")


def diff_states(
    artefacts: RunDirectory,
    labels: tuple[str, str],
    moments: tuple[Snapshot, Snapshot],
    policy: Mapping[str, Any],
    session: Session | None = None,
    words: Words | None = None,
) -> tuple[Diff, dict[str, Any]]:
    """Compare two moments of an artefact directory; return the diff and its description (``schema/diff.json``).

    ``labels`` are those of the ``pg_dump`` texts, ``moments`` the facts. Texts that differ are printed again in ``session``;
    ``words`` is what to read for some of them.
    """
    changes = diff(*moments, words)
    verdict = evaluate_policy(changes, policy)
    if session:
        changes, verdict = judge_changes(changes, policy, Reprinter(session, inside=False))
    lines = diff_dumps(*(_text(artefacts, label) for label in labels))
    return changes, {
        "policy": policy["policy"],
        "ok": verdict.ok,
        "message": verdict.message,
        "offending": [change.as_dict() for change in verdict.offending],
        "lines": lines.as_dict(),
        "text": changes.text(),
        "changes": changes.as_list(),
    }


def write_diff(step: Step[Any], changes: Diff, result: Mapping[str, Any]) -> None:
    """Write ``schema/diff.json`` and ``schema/diff.txt``, and journal the result."""
    step.update(diff=result)
    step.file("schema/diff.json", json.dumps(result, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
    step.file("schema/diff.txt", changes.text().encode("utf-8") + b"\n")


def run_verification(
    client: Client,
    artefacts: RunDirectory,
    wanted: Verification,
    step: Step[Any],
    labels: tuple[str, str] = ("before", "after"),
    words: Words | None = None,
) -> Snapshot:
    """Run C-08 and return the facts after. Raises ``PhaseGateError`` naming every failure.

    ``words`` is what to read for texts of a copy that the source prints otherwise.

    ``step.end`` receives fingerprint, diff, measured, deviations, elsewhere, checks and non_scope, complete also on failure.
    """
    before, after = labels
    original = Snapshot.load(artefacts.file(f"schema/{before}.jsonl.gz"))
    taken = record_state(client, artefacts, after, wanted.declared, original.header.sections, step)
    measures = wanted.declared.measures
    now = load_capture(artefacts, after, measures)
    moved, differs = wanted.declared.compare(load_capture(artefacts, before, measures), now)
    differing = deviations_of(differs, artefacts)
    wrong = differing["deviations"]
    with client.session("phasegate:verify") as session:
        moments = comparable(original, taken, wanted.parents)
        changes, result = diff_states(
            artefacts, labels, moments, wanted.policy, session, words or read_words(artefacts)
        )
    write_diff(step, changes, result)
    step.update(**describe_snapshot(taken), **now.state(), measured=moved, **differing)
    lines = result["lines"]
    with client.session("phasegate:verify") as session:
        builtins = {
            "target_identity": identity_check(wanted.identity, read_identity(session, client)),
            "ddl_checksum": checksum_check(wanted.required_sha256, wanted.found_sha256),
            "schema_diff": line_count_check(
                lines["removed"], lines["added"], ok=result["ok"], verdict=result["message"]
            ),
        }
        everything = [*wanted.checks, *answerable_statements(wanted.non_scope)]
        judged = run_read_only(session, everything, builtins, wanted.search_path)
    checks, non_scope = judged[: len(wanted.checks)], judged[len(wanted.checks) :]
    step.update(
        checks=[check.as_dict() for check in checks],
        summary=check_summary(checks),
        non_scope=[statement.as_dict() for statement in non_scope],
    )
    step.file("logs/C-08.log", format_check_table(judged).encode("utf-8"))
    require_checks("C-08", checks, non_scope)
    if wrong or not result["ok"]:
        raise PhaseGateError(
            "C-08: the checks passed, but schema or data differ from the declaration.",
            expected=f"schema diff {result['policy']}, measured columns and row counts as declared",
            found="; ".join([*([] if result["ok"] else [result["message"]]), *wrong]),
            next_step=NEXT_STEPS["C-08"],
        )
    return taken
