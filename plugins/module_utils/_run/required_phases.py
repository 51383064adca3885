# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a required phase is applied, sealed, and reviewed (G-11): no phase starts automatically."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import (
    Notes,
    collect_approvals,
    write_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import (
    evaluate_review_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import anchor_path, find_anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import review_file, review_request
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    EXECUTE,
    REHEARSAL,
    ROLLBACK,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    continued_runs,
    journaled_outcome,
    opening_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_json,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus, TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, make_gate, no_evidence_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import (
    is_incomplete,
    ran_on,
    runs_below,
)

_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: Where a run keeps the reviews that it was given.
REVIEWS = "reviews"

#: Signatures and notes by reviewer, of each bundle by its name.
Reviews = Dict[str, Tuple[Mapping[str, bytes], Notes]]


@dataclass
class _EarlierRuns:
    """The runs of one phase: ``executions`` that committed here with their beginning, by name; ``undone`` by which rollback.

    ``origins`` are the runs that one continues, by its name: they are the same execution.

    ``elsewhere`` are names of runs on other databases, ``unclear`` why the outcome of a run is unknown.
    """

    executions: dict[str, tuple[str, RunDirectory]] = field(default_factory=dict)
    undone: dict[str, str] = field(default_factory=dict)
    origins: dict[str, set[str]] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def add(self, run: RunDirectory, phase: str, identity: Identity) -> None:
        """Classify one artefact directory."""
        try:
            entries = run.journal.entries()
        except PhaseGateError as error:
            self.unclear.append(f"{name_of(run)}: {error.what}")
            return
        start = opening_of(entries)
        if start is None or start.phase != phase or start.kind == REHEARSAL:
            return
        if not ran_on(start, identity):
            there = start.identity
            self.elsewhere.append(f"{name_of(run)} on {there['database']} of cluster {there['system_identifier']}")
            return
        outcome = journaled_outcome(entries, COMMAND[start.kind])
        if outcome is None:
            self.unclear.append(f"{name_of(run)}: its outcome is unknown")
        elif outcome == TransactionOutcome.COMMITTED and start.kind == ROLLBACK:
            self.undone[start.execution or ""] = name_of(run)
        elif outcome == TransactionOutcome.COMMITTED and start.kind == EXECUTE:
            self.executions[name_of(run)] = (entries[0].at, run)
            self.origins[name_of(run)] = continued_runs(entries)


def _runs_of(root: str, phase: str, identity: Identity) -> _EarlierRuns:
    runs = _EarlierRuns()
    for artefacts in runs_below(root, f"{phase}_"):
        runs.add(artefacts, phase, identity)
    return runs


def evidence_of(root: str, phase: str, identity: Identity) -> tuple[RunDirectory | None, str]:
    """Return the sealed evidence below ``root`` that a phase is applied to this database; else None with what was found."""
    runs = _runs_of(root, phase, identity)
    if runs.unclear:
        return None, "; ".join(runs.unclear)
    if not runs.executions:
        elsewhere = f"; only {', '.join(runs.elsewhere)}" if runs.elsewhere else ""
        return None, f"no execution of {phase} that committed here{elsewhere}"
    last = runs.executions.keys() - set().union(*runs.origins.values())
    newest = max(last, key=lambda name: runs.executions[name][0])
    undone = [runs.undone[name] for name in sorted({newest, *runs.origins[newest]}) if name in runs.undone]
    if undone:
        return None, f"{newest} was rolled back by {undone[0]}"
    artefacts = runs.executions[newest][1]
    findings = verify_bundle(artefacts.path)
    if not findings and is_incomplete(artefacts):
        return None, f"{newest} has a statement after COMMIT that is not done"
    return (None, f"{newest}: " + "; ".join(findings)) if findings else (artefacts, "")


def reviews_in(run: RunDirectory) -> Reviews:
    """Return the reviews that a run was given."""
    return reviews_below(run.file(REVIEWS))


def reviews_below(directory: str) -> Reviews:
    """Return the reviews in a directory, by the name of the bundle."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    found = {name.partition(review_file(""))[0] for name in names if name.endswith(".sig") and review_file("") in name}
    return {bundle: collect_approvals(review_file(os.path.join(directory, bundle))) for bundle in sorted(found)}


def required_phase_gate(root: str, phase: str, identity: Identity, reviews: Reviews, now: float) -> Gate:
    """Evaluate one required phase: its evidence is below ``root``, and ``reviews`` are what the run was given.

    ``now`` is the database server's clock. Raises ``PhaseGateError`` when reviews cannot be verified at all.
    """
    evidence, found = evidence_of(root, phase, identity)
    if evidence is None:
        return no_evidence_gate(phase, root, found)
    request = review_request(name_of(evidence), sha256_file(evidence.file(SEAL)))
    signatures, notes = reviews.get(name_of(evidence), ({}, {}))
    author = str(read_json(evidence.file("plan.json")).get("author", ""))
    moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    anchor, place = find_anchor(identity.system_identifier), anchor_path(identity.system_identifier)
    gate = evaluate_review_approvals(request, signatures, notes, anchor, author, moment, place).gate
    others = [bundle for bundle in reviews if bundle != name_of(evidence)]
    if gate.status == GateStatus.FAIL and others:
        return make_gate(
            "G-11", False, gate.expected, f"{gate.found}; of other bundles: {', '.join(others)}", gate.next_step
        )
    return gate


def write_reviews(run: RunDirectory, reviews: Reviews) -> None:
    """Write reviews into the directory of a run, where ``reviews_in`` finds them.

    What they have to be over is beside the signatures, so that an auditor can verify them with ssh-keygen. Raises
    ``PhaseGateError``.
    """
    for bundle, (signatures, notes) in reviews.items():
        if not _BUNDLE.fullmatch(bundle):
            raise PhaseGateError(
                "Invalid name of a run directory.",
                expected="<phase>_<environment>_<time>",
                found=repr(bundle),
                next_step="give the review that approve.yml wrote",
            )
        os.makedirs(run.file(REVIEWS), mode=0o750, exist_ok=True)
        path = review_file(run.file(f"{REVIEWS}/{bundle}"))
        reviewed = RunDirectory(os.path.join(os.path.dirname(run.path.rstrip("/")), bundle))
        if reviewed.sealed:
            run.write(review_file(f"{REVIEWS}/{bundle}"), review_request(bundle, sha256_file(reviewed.file(SEAL))))
        write_approvals(path, signatures, notes)


def identity_of(bundle: str) -> dict[str, Any]:
    """Return the identity of an execution's server, from its journal."""
    start = opening_of(RunDirectory(os.path.abspath(bundle)).journal.entries())
    return dict(start.identity) if start else {}


def reviewable(bundle: str) -> bytes:
    """Return the review of an execution that may be signed. Raises ``PhaseGateError`` for any other directory."""
    artefacts = RunDirectory(os.path.abspath(bundle))
    findings = verify_bundle(artefacts.path)
    entries = [] if findings else artefacts.journal.entries()
    start = opening_of(entries)
    found = (start and start.kind, journaled_outcome(entries, COMMAND[EXECUTE]))
    if findings or found != (EXECUTE, TransactionOutcome.COMMITTED):
        raise PhaseGateError(
            "This directory cannot be approved.",
            expected="the sealed, untouched evidence of an execution that committed",
            found="; ".join(findings) or f"a run of kind {found[0]} with outcome {found[1]}",
            next_step="give the artefact directory of the execution, or a complete copy of it",
        )
    return review_request(name_of(artefacts), sha256_file(artefacts.file(SEAL)))
