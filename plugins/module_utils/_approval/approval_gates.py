# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that enough registered reviewers approved this exact plan (G-1).

An approval is an SSH signature (``ssh-keygen -Y sign``) over the bytes of plan.json. Standard library only.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import fnmatch
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import Notes
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import (
    REVOKED_KEYS,
    SYSTEM_ANCHORS,
    Anchor,
    anchor_path,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import (
    NOTES_NAMESPACE,
    PASS,
    PASS_WITH_NOTES,
    PLAN_NAMESPACE,
    REVIEW_NAMESPACE,
    ROLLBACK_NAMESPACE,
    notes_header,
    review_file,
    review_name,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import parse_time
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.names import (
    canonical_name,
    name_problem,
    skeleton,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate, make_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import thawed
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import Signer, fold
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature import (
    Signature,
    Verifier,
    parse_signature,
)


class SignatureStatus(str, enum.Enum):
    """The status of a signature; all but VALID are rejections, each with its own message."""

    VALID = "valid"
    NOT_JUDGED = "not judged"
    MALFORMED = "malformed"
    OTHER_NAMESPACE = "other namespace"
    STRANGER = "stranger"
    PLAN_CHANGED = "plan changed"
    OTHER_PLAN = "other plan"
    REVOKED = "revoked"
    NOT_YET_VALID = "signer not yet valid"
    SIGNER_EXPIRED = "signer expired"
    NOT_ALLOWED = "not allowed"
    PLAN_EXPIRED = "plan expired"
    AUTHOR = "author"
    NOTES = "notes do not verify"
    SAME_KEY = "same key twice"
    SAME_PERSON = "same person twice"


@dataclass(frozen=True)
class Approval:
    """One evaluated signature. ``signer`` is the registered name, or the file's label when the key is not registered.

    ``fingerprint`` is empty when no key can be read; ``verdict`` is PASS or PASS_WITH_NOTES, empty unless valid;
    ``notes`` are the signed notes of a valid approval.
    """

    signer: str
    fingerprint: str
    status: SignatureStatus
    message: str
    verdict: str = ""
    notes: str = ""

    @property
    def valid(self) -> bool:
        """Return whether it counts."""
        return self.status is SignatureStatus.VALID

    def as_dict(self) -> Dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {**asdict(self), "status": self.status.value}


@dataclass(frozen=True)
class Approvals:
    """All signatures of a plan, evaluated, and the resulting gate."""

    verdicts: List[Approval]
    gate: Gate

    def as_dict(self) -> Dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {"verdicts": [one.as_dict() for one in self.verdicts], "gate": self.gate.as_dict()}


def format_approvals(approvals: Approvals) -> List[str]:
    """Return the result as lines for a terminal: one for each signature, then the gate."""
    lines = [f"{one.status.value:<21} {one.message}" for one in approvals.verdicts]
    gate = approvals.gate
    lines.append(f"{gate.id} {gate.status}: expected {gate.expected}; found {gate.found}")
    # a label is the name of a file that anybody put beside the plan
    return [escaped(line) for line in (*lines, *([f"next step: {gate.next_step}"] if gate.next_step else []))]


@dataclass(frozen=True)
class _Case:
    """The common facts of all signatures in one evaluation.

    ``what`` is signed: the plan or the rollback request, in one of ``namespaces``. ``changed`` describes a change
    to its bytes. ``next_step`` is used when approvals are missing.
    """

    what: str
    data: bytes
    namespaces: Tuple[str, ...]
    changed: str
    anchor: Anchor
    author: str
    not_after: Optional[datetime.datetime]
    now: datetime.datetime
    next_step: str
    verifier: Verifier
    gate: str = "G-1"

    @property
    def sha256(self) -> str:
        return sha256_bytes(self.data)

    def by_author(self, key: bytes) -> bool:
        """Tell whether a key is the author's, by a name that is or looks like the author's."""
        alike = {skeleton(name) for name in self.anchor.names_of(key)}
        return fold(self.author) in self.anchor.names_of(key) or skeleton(self.author) in alike


def evaluate_plan_approvals(
    plan_bytes: bytes,
    signatures: Mapping[str, bytes],
    notes: Notes,
    anchor: Optional[Anchor],
    author: str,
    not_after: str,
    now: datetime.datetime,
) -> Approvals:
    """Evaluate every signature over the bytes of plan.json, and G-1.

    ``signatures`` and ``notes`` (text, signature) are by a label such as the reviewer's name; the label decides nothing,
    the key does. ``author`` and ``not_after`` (ISO 8601, UTC) are the plan's, ``now`` has a time zone. Raises
    ``PhaseGateError`` when signatures cannot be verified at all.
    """
    plan, changed = thawed(plan_bytes)
    if anchor is None:
        return _without_anchor(_place_of(plan), signatures, "G-1")
    with _verifier(anchor, now) as verifier:
        case = _Case(
            what="plan",
            data=plan_bytes,
            namespaces=(PLAN_NAMESPACE, NOTES_NAMESPACE),
            changed=changed,
            anchor=anchor,
            author=author,
            not_after=parse_time(not_after),
            now=now,
            next_step=f"have it reviewed and signed by {{missing}} more of the reviewers registered in {_literal(anchor.path)}",
            verifier=verifier,
        )
        return _approvals(case, signatures, notes)


def evaluate_rollback_approvals(
    request: bytes, signatures: Mapping[str, bytes], anchor: Anchor, author: str, now: datetime.datetime
) -> Approvals:
    """Evaluate every signature over a rollback request, and G-1 of the rollback, by the rules of a plan's approval.

    ``author`` is the executed plan's. There are no notes, and only the signers' keys expire. Raises ``PhaseGateError``.
    """
    text = request.decode("utf-8").rstrip("\n")
    command = f"printf '%s\\n' '{text}' | ssh-keygen -Y sign -f KEY -n {ROLLBACK_NAMESPACE} > NAME.sig"
    with _verifier(anchor, now) as verifier:
        case = _Case(
            what="rollback request",
            data=request,
            namespaces=(ROLLBACK_NAMESPACE,),
            changed="",
            anchor=anchor,
            author=author,
            not_after=None,
            now=now,
            next_step=f"have {{missing}} more of the reviewers registered in {_literal(anchor.path)} sign it: {_literal(command)}",
            verifier=verifier,
        )
        return _approvals(case, signatures, {})


def evaluate_review_approvals(
    request: bytes,
    signatures: Mapping[str, bytes],
    notes: Notes,
    anchor: Optional[Anchor],
    author: str,
    now: datetime.datetime,
    place: str = SYSTEM_ANCHORS,
) -> Approvals:
    """Evaluate every signature over the review of an execution, and G-11 of a phase that requires it, by the same rules.

    ``author`` is the executed plan's, ``place`` the directory for registered reviewers. Only the signers' keys expire.
    Raises ``PhaseGateError``.
    """
    bundle = str(parse_json(request)["bundle"])
    if anchor is None:
        return _without_anchor(place, signatures, "G-11")
    with _verifier(anchor, now) as verifier:
        case = _Case(
            what=review_name(bundle),
            data=request,
            namespaces=(REVIEW_NAMESPACE, NOTES_NAMESPACE),
            changed="",
            anchor=anchor,
            author=author,
            not_after=None,
            now=now,
            next_step=f"have {{missing}} more of the reviewers registered in {_literal(anchor.path)} read the report of {bundle} "
            f"and sign it (approve.yml with phasegate_bundle); then add {review_file(bundle)} to phasegate_reviews",
            verifier=verifier,
            gate="G-11",
        )
        return _approvals(case, signatures, notes)


def _literal(text: str) -> str:
    """Escape a text for ``str.format``."""
    return text.replace("{", "{{").replace("}", "}}")


@contextlib.contextmanager
def _verifier(anchor: Anchor, now: datetime.datetime) -> Iterator[Verifier]:
    with tempfile.TemporaryDirectory(prefix="phasegate-") as directory:
        yield Verifier(directory, anchor.allowed_signers, anchor.revoked_keys, now)


def _approvals(case: _Case, signatures: Mapping[str, bytes], notes: Notes) -> Approvals:
    judged = [
        (data, _evaluate_signature(case, name, data, notes.get(name))) for name, data in sorted(signatures.items())
    ]
    verdicts = _distinct(judged, case.anchor)
    return Approvals(verdicts, _gate(case, verdicts))


def _place_of(plan: Mapping[str, Any]) -> str:
    target = plan.get("target")
    cluster = str(target.get("system_identifier", "")) if isinstance(target, dict) else ""
    return anchor_path(cluster) if cluster else SYSTEM_ANCHORS


def _without_anchor(place: str, signatures: Mapping[str, bytes], gate_id: str) -> Approvals:
    why = f"no reviewers are registered for this cluster ({place})"
    verdicts = []
    for name, data in sorted(signatures.items()):
        parsed = parse_signature(data)
        verdicts.append(Approval(name, parsed.fingerprint if parsed else "", SignatureStatus.NOT_JUDGED, why))
    gate = Gate(
        gate_id,
        GateStatus.NOT_ENFORCED,
        "approvals by registered reviewers",
        why,
        "register the reviewers of this cluster on its host, so that nothing commits without them",
        tuple(one.as_dict() for one in verdicts),
    )
    return Approvals(verdicts, gate)


def _evaluate_signature(case: _Case, name: str, data: bytes, notes: Optional[Tuple[bytes, bytes]]) -> Approval:
    """Evaluate one signature on its own."""
    signature = parse_signature(data)
    if signature is None:
        return Approval(name, "", SignatureStatus.MALFORMED, f"{name}: not an SSH signature, or damaged")
    lines = [line for line in case.anchor.signers if line.key == signature.key]
    names = _names(lines)
    signer = name if name in names or not names else names[0]
    status, why = next(_rejections(case, data, signature, lines, notes), (SignatureStatus.VALID, ""))
    if status is not SignatureStatus.VALID:
        return Approval(signer, signature.fingerprint, status, f"{signer}: {why}")
    if notes is None:
        return Approval(signer, signature.fingerprint, status, f"{signer}: approved", PASS)
    text = notes[0].decode("utf-8")
    return Approval(signer, signature.fingerprint, status, f"{signer}: approved, with notes", PASS_WITH_NOTES, text)


def _names(lines: Sequence[Signer]) -> List[str]:
    return sorted({principal for line in lines for principal in line.principals})


def _rejections(
    case: _Case, data: bytes, signature: Signature, lines: Sequence[Signer], notes: Optional[Tuple[bytes, bytes]]
) -> Iterator[Tuple[SignatureStatus, str]]:
    """Yield the reasons why this is not an approval, the most specific first; the caller uses only that one."""
    yield from _signature_rejections(case, data, signature, lines)
    if case.not_after is not None and case.now > case.not_after:
        yield SignatureStatus.PLAN_EXPIRED, f"the approval expired with the plan at {case.not_after.isoformat()}"
    if not case.anchor.author_may_approve and case.by_author(signature.key):
        yield SignatureStatus.AUTHOR, f"{case.author} is the plan's author and cannot approve it"
    if notes is not None:
        yield from ((SignatureStatus.NOTES, why) for why in _notes_problems(case, signature, _names(lines), *notes))
    elif signature.namespace == NOTES_NAMESPACE:
        yield SignatureStatus.NOTES, "approved with notes, but the notes are missing"


def _signature_rejections(
    case: _Case, data: bytes, signature: Signature, lines: Sequence[Signer]
) -> Iterator[Tuple[SignatureStatus, str]]:
    """Yield the reasons why this is not a valid signature of a registered reviewer over this plan now."""
    space, names = signature.namespace, _names(lines)
    if space not in case.namespaces:
        yield (
            SignatureStatus.OTHER_NAMESPACE,
            f"signed for another purpose: namespace {space!r} instead of {case.namespaces[0]}",
        )
    if not lines:
        yield SignatureStatus.STRANGER, f"the key {signature.fingerprint} is not registered in {case.anchor.path}"
    if not case.verifier.over(data, space, case.data):
        if case.changed:
            yield SignatureStatus.PLAN_CHANGED, f"the signature is invalid, and plan.json was changed: {case.changed}"
        yield SignatureStatus.OTHER_PLAN, f"not a signature over this {case.what}, whose SHA-256 is {case.sha256}"
    if case.verifier.problem(data, space, case.data, names, revoked=True):
        said = case.verifier.problem(data, space, case.data, names, revoked=False)
        if not said:
            unreadable = case.verifier.unreadable_revocations(data, space, case.data, names)
            if unreadable:
                yield (
                    SignatureStatus.NOT_ALLOWED,
                    f"{case.anchor.path}/{REVOKED_KEYS} is not a list of revoked keys: {unreadable}",
                )
            yield (
                SignatureStatus.REVOKED,
                f"the key {signature.fingerprint} was revoked in {case.anchor.path}/{REVOKED_KEYS}",
            )
        yield _limits(case, lines, space, said)


def _limits(case: _Case, lines: Sequence[Signer], space: str, said: str) -> Tuple[SignatureStatus, str]:
    """Return which limit of its lines the signing key violates."""
    for line in lines:
        if line.valid_before and case.now > line.valid_before:
            return SignatureStatus.SIGNER_EXPIRED, f"the key expired at {line.valid_before.isoformat()}"
        if line.valid_after and case.now < line.valid_after:
            return SignatureStatus.NOT_YET_VALID, f"the key is not valid before {line.valid_after.isoformat()}"
        if line.namespaces and not any(fnmatch.fnmatchcase(space, pattern) for pattern in line.namespaces):
            return (
                SignatureStatus.NOT_ALLOWED,
                f"the key is registered for {', '.join(line.namespaces)} but not for {space}",
            )
    return SignatureStatus.NOT_ALLOWED, f"ssh-keygen rejects the signature: {said}"


def _notes_problems(case: _Case, signature: Signature, names: Sequence[str], text: bytes, data: bytes) -> Iterator[str]:
    """Yield the problems of the notes beside a signature."""
    signed = parse_signature(data)
    if signed is None:
        yield "the signature of the notes is not an SSH signature, or it is damaged"
        return
    if signed.namespace != NOTES_NAMESPACE:
        yield f"the notes are signed in namespace {signed.namespace!r} instead of {NOTES_NAMESPACE}"
    if signed.key != signature.key:
        yield f"the notes are signed by another key, {signed.fingerprint}"
    if case.verifier.problem(data, NOTES_NAMESPACE, text, names, revoked=True):
        yield "the notes were changed after they were signed, or the key is not registered for notes"
    if not text.startswith(notes_header(case.sha256, case.what)):
        yield f"the notes are for another plan: their first line does not contain SHA-256 {case.sha256}"
    if not _is_utf8(text):
        yield "the notes are not UTF-8"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _distinct(judged: Sequence[Tuple[bytes, Approval]], anchor: Anchor) -> List[Approval]:
    """Count every key and every person once: the first one in order of the labels."""
    people: Dict[FrozenSet[str], Approval] = {}
    verdicts = []
    for data, approval in judged:
        signature = parse_signature(data)
        if approval.valid and signature is not None:
            first = people.setdefault(anchor.names_of(signature.key), approval)
            verdicts.append(approval if first is approval else _again(approval, first))
        else:
            verdicts.append(approval)
    return verdicts


def _again(approval: Approval, first: Approval) -> Approval:
    """Return the rejection of a second approval by the same key or person."""
    if approval.fingerprint == first.fingerprint:
        status, why = SignatureStatus.SAME_KEY, f"the key {first.fingerprint} has already approved as {first.signer}"
    else:
        status = SignatureStatus.SAME_PERSON
        why = f"{first.signer} is the same person and has already approved with key {first.fingerprint}"
    return replace(approval, status=status, message=f"{approval.signer}: {why}", verdict="", notes="")


def _gate(case: _Case, verdicts: Sequence[Approval]) -> Gate:
    """Return the gate: enough people, and an unchanged plan."""
    counted = [one for one in verdicts if one.valid]
    rejected = [one for one in verdicts if not one.valid]
    threshold = case.anchor.threshold
    found = [f"{len(counted)} of {threshold}"]
    found += [f"{one.signer} ({one.verdict}, {one.fingerprint})" for one in counted]
    found += [f"rejected: {one.message}" for one in rejected]
    problems = [f"plan.json was changed: {case.changed}"] if case.changed else []
    if not canonical_name(case.author) and case.not_after and not case.anchor.author_may_approve:
        problems.append("the plan does not name its author")
    unclear = name_problem(case.author)
    if unclear and not case.anchor.author_may_approve:
        problems.append(f"the author's name is ambiguous: {unclear}")
    who = "distinct reviewers" + ("" if case.anchor.author_may_approve else " other than the plan's author")
    gate = make_gate(
        case.gate,
        len(counted) >= threshold and not problems,
        f"{threshold} approvals of the {case.what} with SHA-256 {case.sha256} by {who}",
        "; ".join(problems + found),
        "rehearse again and have the new plan reviewed"
        if problems or any(one.status is SignatureStatus.PLAN_EXPIRED for one in rejected)
        else case.next_step.format(missing=threshold - len(counted)),
    )
    return replace(gate, approvals=tuple(one.as_dict() for one in verdicts))
