# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a required phase is applied, sealed, and reviewed (G-11): no phase starts automatically."""

from __future__ import annotations

import datetime
import os
import re
from typing import Any, Dict, Iterator, Mapping, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import (
    Notes,
    collect_approvals,
    write_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import (
    evaluate_review_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import anchor_path, find_anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import (
    AcceptedLoss,
    review_file,
    review_request,
    rollback_request,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory, name_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import COMMAND, EXECUTE
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import journaled_outcome, opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_json,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus, TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, make_gate, no_evidence_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.applied import lost_since
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import is_incomplete
from ansible_collections.incomex.phasegate.plugins.module_utils._run.history import runs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: Where a run keeps the reviews that it was given.
REVIEWS = "reviews"

#: Signatures and notes by reviewer, of each bundle by its name.
Reviews = Dict[str, Tuple[Mapping[str, bytes], Notes]]


def evidence_of(
    root: str, phase: str, identity: Identity, live: Snapshot | None = None
) -> tuple[RunDirectory | None, str]:
    """Return the sealed evidence below ``root`` that a phase is applied to this database; else None with what was found.

    With ``live``, the schema as it is now, the database has to have the changes.
    """
    runs = runs_of(root, phase, identity)
    if runs.unclear:
        return None, "; ".join(text for _at, text, _error in runs.unclear)
    if not runs.executions:
        elsewhere = f"; only {', '.join(runs.elsewhere)}" if runs.elsewhere else ""
        return None, f"no execution of {phase} that committed here{elsewhere}"
    newest = runs.newest()
    undone = runs.rollback_of(newest)
    if undone:
        return None, f"{newest} was rolled back by {undone}"
    lost = lost_since(runs.executions[newest], identity, live) if live else ""
    if lost:
        return None, f"{newest}: {lost}"
    artefacts = runs.executions[newest].run
    findings = verify_bundle(artefacts.path, needs_backup=False)
    if not findings and is_incomplete(artefacts):
        return None, f"{newest} has a statement after COMMIT that is not done"
    return (None, f"{newest}: " + "; ".join(findings)) if findings else (artefacts, "")


def require_no_later(root: str, phase: str, identity: Identity) -> None:
    """Raise ``PhaseGateError`` while an execution is in place whose plan requires ``phase``: it builds on what a rollback would undo."""
    standing = []
    for other in sorted({str(plan.get("phase")) for plan in _definitions(root) if phase in plan.get("requires", ())}):
        runs = runs_of(root, other, identity)
        names = [name for name in runs.executions if not runs.rollback_of(name)]
        standing += [name for name in names if phase in _definition(runs.executions[name].run.path).get("requires", ())]
    if standing:
        raise PhaseGateError(
            f"C-09: a later phase that requires {phase} is in place.",
            expected=f"no execution in place whose phase requires {phase}",
            found=", ".join(standing),
            next_step="roll the later phase back first, the last one first",
        )


def _definitions(root: str) -> Iterator[Mapping[str, Any]]:
    """Yield the definitions of the phases whose runs are below ``root``."""
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        yield _definition(os.path.join(root, name))


def _definition(run: str) -> Mapping[str, Any]:
    """Return the definition in a run's plan, an empty one where there is none to read."""
    try:
        found = read_json(os.path.join(run, "plan.json"))["phase"]
    except (OSError, PhaseGateError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("requires"), list) else {}


def reviews_in(run: RunDirectory) -> Reviews:
    """Return the reviews that a run was given."""
    return reviews_below(run.file(REVIEWS))


def reviews_below(directory: str) -> Reviews:
    """Return the reviews in a directory, by the name of the bundle."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    found = {name.partition(review_file(""))[0] for name in names if name.endswith(".sig") and review_file("") in name}
    return {bundle: collect_approvals(review_file(os.path.join(directory, bundle))) for bundle in sorted(found)}


def required_phase_gate(
    root: str, phase: str, identity: Identity, reviews: Reviews, now: float, live: Snapshot | None = None
) -> Gate:
    """Evaluate one required phase: its evidence is below ``root``, and ``reviews`` are what the run was given.

    ``now`` is the database server's clock, ``live`` the schema as it is now. Raises ``PhaseGateError`` when reviews cannot be verified at all.
    """
    evidence, found = evidence_of(root, phase, identity, live)
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
    artefacts = _committed_evidence(bundle, needs_backup=False)
    return review_request(name_of(artefacts), sha256_file(artefacts.file(SEAL)))


def revocable(bundle: str, accepted: AcceptedLoss) -> bytes:
    """Return the request to roll an execution back that may be signed. Raises ``PhaseGateError`` for any other directory."""
    artefacts = _committed_evidence(bundle, needs_backup=True)
    return rollback_request(name_of(artefacts), sha256_file(artefacts.file(SEAL)), accepted)


def _committed_evidence(bundle: str, *, needs_backup: bool) -> RunDirectory:
    artefacts = RunDirectory(os.path.abspath(bundle))
    findings = verify_bundle(artefacts.path, needs_backup=needs_backup)
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
    return artefacts
