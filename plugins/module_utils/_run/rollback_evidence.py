# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The approvals of a rollback in its own bundle: what was signed, the signatures, and whether they suffice, for an auditor."""

from __future__ import annotations

import datetime
import itertools
import os
from dataclasses import replace
from typing import Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import (
    collect_approvals,
    write_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import (
    Approvals,
    evaluate_plan_approvals,
    evaluate_rollback_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import Anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import PLAN_NAMESPACE
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import ROLLBACK, RolledBack
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end, opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import parse_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_found, sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import combine_gates, make_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import PRINCIPAL
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature import holds

#: The text that reviewers sign to permit a rollback, in the rollback's bundle; the signatures are beside it.
REQUEST = "rollback.json"


def keep_approvals(run: RunDirectory, execution: RunDirectory, request: bytes, signatures: Mapping[str, bytes]) -> None:
    """Write what a rollback's G-1 evaluates into its run directory, where ``rollback_approvals`` finds it.

    ``request`` is what reviewers sign, ``signatures`` those that were given; those of the executed plan are copied. Raises
    ``PhaseGateError``, ``OSError``.
    """
    run.write(REQUEST, request)
    plan = read_found(execution.file("plan.json"))
    approved, notes = collect_approvals(execution.file("plan.json"))
    of_plan = {name: one for name, one in signatures.items() if holds(one, PLAN_NAMESPACE, plan)}
    of_rollback = {name: one for name, one in signatures.items() if name not in of_plan}
    # with notes of their own, those of the execution stay under their reviewers' names
    given = {f"given-{name}": one for name, one in _labelled(of_plan).items()}
    write_approvals(run.file("plan.json"), {**approved, **given}, notes)
    write_approvals(run.file(REQUEST), _labelled(of_rollback), {})


def _labelled(signatures: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return signatures by the names of their files as reviewers', or others where those cannot be: the key decides whose one is."""
    found: dict[str, bytes] = {}
    numbers = itertools.count(1)
    for name, signature in signatures.items():
        label = name[: -len(".sig")] if name.endswith(".sig") else name
        while label in found or not PRINCIPAL.fullmatch(label) or label.endswith(".notes.md"):
            label = f"signature-{next(numbers)}"
        found[label] = signature
    return found


def is_rollback(bundle: str) -> bool:
    """Return whether a directory is that of a rollback, by its journal. Raises ``PhaseGateError``."""
    start = opening_of(RunDirectory(bundle).journal.entries())
    return bool(start and start.kind == ROLLBACK)


def rollback_approvals(bundle: str, anchor: Anchor | None, at: datetime.datetime | None) -> tuple[bytes, Approvals]:
    """Return what reviewers signed to permit the rollback of a sealed bundle, and every signature with G-1, evaluated again.

    ``at`` is the moment to evaluate for; None for that of the rollback. Raises ``PhaseGateError`` for a bundle that is not intact,
    or whose request is not about what it did.
    """
    run = RunDirectory(bundle)
    findings = verify_bundle(bundle)
    entries = run.journal.entries()
    start = opening_of(entries)
    done = newest_end(entries, RolledBack)
    begun = next((entry.at for entry in entries if entry.step == RolledBack.step), "")
    if not findings and start and begun:
        lost = sum(loss["rows"] for loss in done.losses or ()) if done.outcome == TransactionOutcome.COMMITTED else 0
        findings = _contradictions(run, start.execution or "", lost)
    elif not findings:
        findings = ["C-09 did not begin in it"]
    if findings:
        raise PhaseGateError(
            "The approvals of this rollback cannot be verified.",
            expected=f"the sealed, untouched bundle of a rollback with {REQUEST}, which names the execution that it undid",
            found="; ".join(findings),
            next_step="give the bundle of a rollback that reached C-09, or a complete copy of it",
        )
    moment = at or parse_time(begun)
    data = read_found(run.file(REQUEST))
    return data, _evaluate(run, data, anchor, moment)


def _evaluate(run: RunDirectory, data: bytes, anchor: Anchor | None, moment: datetime.datetime) -> Approvals:
    """Evaluate G-1 of a rollback as C-09 did: the signatures over the rollback, and those over the executed plan."""
    plan_bytes = read_found(run.file("plan.json"))
    plan = parse_json(plan_bytes)
    author, not_after = str(plan.get("author", "")), plan.get("not_after")
    if anchor is None:
        return Approvals(
            [], make_gate("G-1", False, "registered reviewers", "none on this host", "give their register")
        )
    own = Approvals([], make_gate("G-1", True, f"a typed confirmation, as {anchor.path} requires", "it was given", ""))
    if anchor.rollback == "approval":
        own = evaluate_rollback_approvals(data, collect_approvals(run.file(REQUEST))[0], anchor, author, moment)
    if not_after is None:
        return own
    signatures, notes = collect_approvals(run.file("plan.json"))
    # it was executed in time: what counts is that people approved these bytes
    at = min(moment, parse_time(not_after))
    executed = evaluate_plan_approvals(plan_bytes, signatures, notes, anchor, author, not_after, at)
    gate = executed.gate
    about_it = replace(gate, expected=f"the executed plan: {gate.expected}", found=f"the executed plan: {gate.found}")
    return Approvals([*own.verdicts, *executed.verdicts], combine_gates([own.gate, about_it]))


def _contradictions(run: RunDirectory, execution: str, lost: int) -> list[str]:
    """Return where the request of a rollback says something else than what the rollback did."""
    path = run.file(REQUEST)
    if not os.path.lexists(path):
        return [f"no {REQUEST}: an earlier release made this bundle"]
    said = parse_json(read_found(path))
    found = (
        []
        if said.get("execution") == execution
        else [f"{REQUEST} is about {said.get('execution')}, the rollback undid {execution}"]
    )
    most = said.get("accept_loss_at_most", said.get("accept_loss", 0))
    if lost > most:
        found.append(f"{REQUEST} accepts the loss of {most} rows, the rollback lost {lost}")
    beside = RunDirectory(os.path.join(os.path.dirname(run.path.rstrip("/")), execution))
    if beside.sealed and sha256_file(beside.file(SEAL)) != said.get("seal"):
        found.append(f"{REQUEST} names the seal {said.get('seal')}, and {beside.path} has another one")
    return found
