# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check that enough registered reviewers approved this exact plan (G-1).

An approval is an SSH signature (``ssh-keygen -Y sign``) over the bytes of plan.json. Standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import enum
import fnmatch
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils import _gates
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError, advice
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import atomic_file
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import canonical_json, digest, thawed
from ansible_collections.incomex.phasegate.plugins.module_utils._reviewers import (
    ALLOWED_SIGNERS,
    PRINCIPAL,
    REVOKED_KEYS,
    SYSTEM_ANCHORS,
    Anchor,
    Signer,
    anchor_path,
    find_anchor,
    fold,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sshsig import (
    Signature,
    Verifier,
    decoded,
    parse_signature,
)

__all__ = [
    "NOTES_NAMESPACE",
    "PASS",
    "PASS_WITH_NOTES",
    "PLAN_NAMESPACE",
    "REVIEW_NAMESPACE",
    "ROLLBACK_NAMESPACE",
    "Anchor",
    "Approval",
    "Approvals",
    "Files",
    "Notes",
    "Status",
    "collect",
    "content",
    "file_error",
    "find_anchor",
    "judge",
    "judge_review",
    "judge_rollback",
    "moment",
    "notes_header",
    "packed",
    "put",
    "review_file",
    "review_of",
    "review_request",
    "rollback_request",
    "table",
    "unpacked",
]

#: Notes by a label, each text with its signature.
Notes = Mapping[str, Tuple[bytes, bytes]]

#: Namespace of a signature over plan.json that approves it without notes.
PLAN_NAMESPACE = "plan@phasegate.incomex"
#: Namespace of a signature over notes, and of one over plan.json given with notes: without its notes, the approval is
#: invalid.
NOTES_NAMESPACE = "notes@phasegate.incomex"

#: Namespace of a signature over the request to roll one execution back.
ROLLBACK_NAMESPACE = "rollback@phasegate.incomex"

#: Namespace of a signature over the review of an execution's sealed evidence.
REVIEW_NAMESPACE = "review@phasegate.incomex"

PASS = "PASS"
PASS_WITH_NOTES = "PASS_WITH_NOTES"


# --- the files beside a plan -----------------------------------------------------------------------------------

_SIGNATURE = ".sig"
_NOTES = ".notes.md"


@dataclass(frozen=True)
class Files:
    """The paths of one reviewer's approval beside a plan: ``plan.json.<reviewer>.sig`` and its notes."""

    signature: str
    notes: str
    notes_signature: str

    @classmethod
    def of(cls, plan: str, reviewer: str) -> Files:
        """Return the paths for a reviewer's name. Raises ``PhaseGateError`` unless it can be registered."""
        if not PRINCIPAL.fullmatch(reviewer) or reviewer.endswith(_NOTES):
            raise PhaseGateError(
                "Invalid reviewer name.",
                expected=f"letters, digits, . _ @ + -, as in {ALLOWED_SIGNERS}",
                found=repr(reviewer),
                next_step="use the name under which the reviewer is registered",
            )
        stem = f"{plan}.{reviewer}"
        return cls(stem + _SIGNATURE, stem + _NOTES, stem + _NOTES + _SIGNATURE)


def collect(plan: str) -> Tuple[Dict[str, bytes], Dict[str, Tuple[bytes, bytes]]]:
    """Return the signatures and the notes (text, signature) beside the plan at this path, by reviewer.

    Notes without a signature get an empty one, which never verifies. Raises ``OSError``.
    """
    signatures: Dict[str, bytes] = {}
    notes: Dict[str, Tuple[bytes, bytes]] = {}
    directory, stem = os.path.dirname(os.path.abspath(plan)), os.path.basename(plan) + "."
    for name in sorted(os.listdir(directory)):
        if not name.startswith(stem) or not name.endswith(_SIGNATURE) or name.endswith(_NOTES + _SIGNATURE):
            continue
        reviewer = name[len(stem) : -len(_SIGNATURE)]
        stem_path = os.path.join(directory, stem + reviewer)
        signatures[reviewer] = content(stem_path + _SIGNATURE) or b""
        text = content(stem_path + _NOTES)
        if text is not None:
            notes[reviewer] = (text, content(stem_path + _NOTES + _SIGNATURE) or b"")
    return signatures, notes


def content(path: str) -> Optional[bytes]:
    """Return a file's bytes, None when there is none. Raises ``OSError``."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def put(path: str, data: Optional[bytes]) -> None:
    """Write a file beside a plan atomically, with the mode of the umask; None removes it. Raises ``OSError``."""
    if data is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with open(path + ".partial", "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(path + ".partial", path)


def file_error(error: OSError) -> PhaseGateError:
    """Return the error for a plan, or a file beside it, that cannot be read or written."""
    return PhaseGateError(
        "Cannot read or write a file of the plan.",
        expected="an existing plan.json, and permission to read and write beside it",
        found=str(error),
        next_step=advice(error),
    )


def packed(signatures: Mapping[str, bytes], notes: Notes) -> Dict[str, Any]:
    """Return both in Base64, as module parameters."""
    return {
        "signatures_b64": {name: _base64(data) for name, data in signatures.items()},
        "notes_b64": {name: [_base64(text), _base64(data)] for name, (text, data) in notes.items()},
    }


def unpacked(
    signatures_b64: Mapping[str, str], notes_b64: Mapping[str, Sequence[str]]
) -> Tuple[Dict[str, bytes], Dict[str, Tuple[bytes, bytes]]]:
    """Return the signatures and notes for ``judge`` from the result of ``packed``. Invalid Base64 becomes empty."""
    signatures = {name: decoded(data) for name, data in signatures_b64.items()}
    return signatures, {name: (decoded(text), decoded(data)) for name, (text, data) in notes_b64.items()}


def write_beside(plan: str, signatures_b64: Mapping[str, str], notes_b64: Mapping[str, Sequence[str]]) -> None:
    """Write the result of ``packed`` beside the plan at this path, where ``collect`` finds it. Raises ``PhaseGateError``."""
    signatures, notes = unpacked(signatures_b64, notes_b64)
    contents: Dict[str, bytes] = {}
    for reviewer, signature in signatures.items():
        files = Files.of(plan, reviewer)
        contents[files.signature] = signature
        if reviewer in notes:
            contents[files.notes], contents[files.notes_signature] = notes[reviewer]
    for path, data in contents.items():
        with atomic_file(path) as out:
            out.write(data)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- evaluation ------------------------------------------------------------------------------------------------


class Status(str, enum.Enum):
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
    status: Status
    message: str
    verdict: str = ""
    notes: str = ""

    @property
    def valid(self) -> bool:
        """Return whether it counts."""
        return self.status is Status.VALID

    def as_dict(self) -> Dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {**asdict(self), "status": self.status.value}


@dataclass(frozen=True)
class Approvals:
    """All signatures of a plan, evaluated, and the resulting gate."""

    verdicts: List[Approval]
    gate: _gates.Gate

    def as_dict(self) -> Dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {"verdicts": [one.as_dict() for one in self.verdicts], "gate": self.gate.as_dict()}


def table(approvals: Approvals) -> List[str]:
    """Return the result as lines for a terminal: one for each signature, then the gate."""
    lines = [f"{one.status.value:<21} {one.message}" for one in approvals.verdicts]
    gate = approvals.gate
    lines.append(f"{gate.id} {gate.status}: expected {gate.expected}; found {gate.found}")
    return lines + ([f"next step: {gate.next_step}"] if gate.next_step else [])


def notes_header(sha256: str, what: str = "plan") -> bytes:
    """Return the first line of notes, which binds them to one plan, or to another signed text."""
    return f"Notes on the {what} with SHA-256 {sha256}\n".encode("ascii")


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
        return digest(self.data)

    def by_author(self, key: bytes) -> bool:
        return fold(self.author) in self.anchor.names_of(key)


def judge(
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
            not_after=moment(not_after),
            now=now,
            next_step=f"have it reviewed and signed by {{missing}} more of the reviewers registered in {_literal(anchor.path)}",
            verifier=verifier,
        )
        return _approvals(case, signatures, notes)


def rollback_request(execution: str, seal: str, accept_loss: int) -> bytes:
    """Return the text that reviewers sign to roll back one execution; it depends on the arguments only.

    ``execution`` is the name of the execution's directory, ``seal`` the SHA-256 of its SHA256SUMS, ``accept_loss`` the
    number of rows that may be lost.
    """
    request = {"format": "phasegate-rollback/1", "execution": execution, "seal": seal, "accept_loss": accept_loss}
    return canonical_json(request)


def judge_rollback(
    request: bytes, signatures: Mapping[str, bytes], anchor: Anchor, author: str, now: datetime.datetime
) -> Approvals:
    """Evaluate every signature over a rollback request, and G-1 of the rollback, by the rules of ``judge``.

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


def review_file(bundle: str) -> str:
    """Return the path of an execution's review: beside its artefact directory, with the signatures beside it."""
    return bundle.rstrip("/") + ".review.json"


def review_of(bundle: str) -> str:
    """Return the name of a review in messages and in the first line of notes."""
    return f"review of {os.path.basename(bundle.rstrip('/'))}"


def review_request(bundle: str, seal: str) -> bytes:
    """Return the text that reviewers sign to accept an execution by its evidence; it depends on the arguments only.

    ``bundle`` is the name of the execution's directory, ``seal`` the SHA-256 of its SHA256SUMS.
    """
    return canonical_json({"format": "phasegate-review/1", "bundle": bundle, "seal": seal})


def judge_review(
    request: bytes,
    signatures: Mapping[str, bytes],
    notes: Notes,
    anchor: Optional[Anchor],
    author: str,
    now: datetime.datetime,
    place: str = SYSTEM_ANCHORS,
) -> Approvals:
    """Evaluate every signature over the review of an execution, and G-11 of a phase that requires it, as ``judge`` does.

    ``author`` is the executed plan's, ``place`` the directory for registered reviewers. Only the signers' keys expire.
    Raises ``PhaseGateError``.
    """
    bundle = str(json.loads(request.decode("utf-8"))["bundle"])
    if anchor is None:
        return _without_anchor(place, signatures, "G-11")
    with _verifier(anchor, now) as verifier:
        case = _Case(
            what=review_of(bundle),
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
    judged = [(data, _judged(case, name, data, notes.get(name))) for name, data in sorted(signatures.items())]
    verdicts = _distinct(judged, case.anchor)
    return Approvals(verdicts, _gate(case, verdicts))


def moment(text: str) -> datetime.datetime:
    """Parse an ISO 8601 timestamp with a time zone. Raises ``PhaseGateError``."""
    try:
        found: Optional[datetime.datetime] = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise PhaseGateError(
            "Invalid timestamp.",
            expected="ISO 8601 with a time zone, such as 2026-05-16T03:12:00Z",
            found=repr(text),
            next_step="correct it; if it is the not_after of a plan, rehearse again to freeze a new plan",
        )
    return found


def _place_of(plan: Mapping[str, Any]) -> str:
    target = plan.get("target")
    cluster = str(target.get("system_identifier", "")) if isinstance(target, dict) else ""
    return anchor_path(cluster) if cluster else SYSTEM_ANCHORS


def _without_anchor(place: str, signatures: Mapping[str, bytes], gate_id: str) -> Approvals:
    why = f"no reviewers are registered for this cluster ({place})"
    verdicts = []
    for name, data in sorted(signatures.items()):
        parsed = parse_signature(data)
        verdicts.append(Approval(name, parsed.fingerprint if parsed else "", Status.NOT_JUDGED, why))
    gate = _gates.Gate(
        gate_id,
        _gates.NOT_ENFORCED,
        "approvals by registered reviewers",
        why,
        "register the reviewers of this cluster on its host, so that nothing commits without them",
    )
    return Approvals(verdicts, gate)


def _judged(case: _Case, name: str, data: bytes, notes: Optional[Tuple[bytes, bytes]]) -> Approval:
    """Evaluate one signature on its own."""
    signature = parse_signature(data)
    if signature is None:
        return Approval(name, "", Status.MALFORMED, f"{name}: not an SSH signature, or damaged")
    lines = [line for line in case.anchor.signers if line.key == signature.key]
    names = _names(lines)
    signer = name if name in names or not names else names[0]
    status, why = next(_rejections(case, data, signature, lines, notes), (Status.VALID, ""))
    if status is not Status.VALID:
        return Approval(signer, signature.fingerprint, status, f"{signer}: {why}")
    if notes is None:
        return Approval(signer, signature.fingerprint, status, f"{signer}: approved", PASS)
    text = notes[0].decode("utf-8")
    return Approval(signer, signature.fingerprint, status, f"{signer}: approved, with notes", PASS_WITH_NOTES, text)


def _names(lines: Sequence[Signer]) -> List[str]:
    return sorted({principal for line in lines for principal in line.principals})


def _rejections(
    case: _Case, data: bytes, signature: Signature, lines: Sequence[Signer], notes: Optional[Tuple[bytes, bytes]]
) -> Iterator[Tuple[Status, str]]:
    """Yield the reasons why this is not an approval, the most specific first; the caller uses only that one."""
    yield from _signature_rejections(case, data, signature, lines)
    if case.not_after is not None and case.now > case.not_after:
        yield Status.PLAN_EXPIRED, f"the approval expired with the plan at {case.not_after.isoformat()}"
    if not case.anchor.author_may_approve and case.by_author(signature.key):
        yield Status.AUTHOR, f"{case.author} is the plan's author and cannot approve it"
    if notes is not None:
        yield from ((Status.NOTES, why) for why in _notes_problems(case, signature, _names(lines), *notes))
    elif signature.namespace == NOTES_NAMESPACE:
        yield Status.NOTES, "approved with notes, but the notes are missing"


def _signature_rejections(
    case: _Case, data: bytes, signature: Signature, lines: Sequence[Signer]
) -> Iterator[Tuple[Status, str]]:
    """Yield the reasons why this is not a valid signature of a registered reviewer over this plan now."""
    space, names = signature.namespace, _names(lines)
    if space not in case.namespaces:
        yield Status.OTHER_NAMESPACE, f"signed for another purpose: namespace {space!r} instead of {case.namespaces[0]}"
    if not lines:
        yield Status.STRANGER, f"the key {signature.fingerprint} is not registered in {case.anchor.path}"
    if not case.verifier.over(data, space, case.data):
        if case.changed:
            yield Status.PLAN_CHANGED, f"the signature is invalid, and plan.json was changed: {case.changed}"
        yield Status.OTHER_PLAN, f"not a signature over this {case.what}, whose SHA-256 is {case.sha256}"
    if case.verifier.problem(data, space, case.data, names, revoked=True):
        said = case.verifier.problem(data, space, case.data, names, revoked=False)
        if not said:
            yield Status.REVOKED, f"the key {signature.fingerprint} was revoked in {case.anchor.path}/{REVOKED_KEYS}"
        yield _limits(case, lines, space, said)


def _limits(case: _Case, lines: Sequence[Signer], space: str, said: str) -> Tuple[Status, str]:
    """Return which limit of its lines the signing key violates."""
    for line in lines:
        if line.valid_before and case.now > line.valid_before:
            return Status.SIGNER_EXPIRED, f"the key expired at {line.valid_before.isoformat()}"
        if line.valid_after and case.now < line.valid_after:
            return Status.NOT_YET_VALID, f"the key is not valid before {line.valid_after.isoformat()}"
        if line.namespaces and not any(fnmatch.fnmatchcase(space, pattern) for pattern in line.namespaces):
            return Status.NOT_ALLOWED, f"the key is registered for {', '.join(line.namespaces)} but not for {space}"
    return Status.NOT_ALLOWED, f"ssh-keygen rejects the signature: {said}"


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
        status, why = Status.SAME_KEY, f"the key {first.fingerprint} has already approved as {first.signer}"
    else:
        status = Status.SAME_PERSON
        why = f"{first.signer} is the same person and has already approved with key {first.fingerprint}"
    return replace(approval, status=status, message=f"{approval.signer}: {why}", verdict="", notes="")


def _gate(case: _Case, verdicts: Sequence[Approval]) -> _gates.Gate:
    """Return the gate: enough people, and an unchanged plan."""
    counted = [one for one in verdicts if one.valid]
    rejected = [one for one in verdicts if not one.valid]
    threshold = case.anchor.threshold
    found = [f"{len(counted)} of {threshold}"]
    found += [f"{one.signer} ({one.verdict}, {one.fingerprint})" for one in counted]
    found += [f"rejected: {one.message}" for one in rejected]
    problems = [f"plan.json was changed: {case.changed}"] if case.changed else []
    if not case.author and case.not_after and not case.anchor.author_may_approve:
        problems.append("the plan does not name its author")
    who = "distinct reviewers" + ("" if case.anchor.author_may_approve else " other than the plan's author")
    return _gates.judge(
        case.gate,
        len(counted) >= threshold and not problems,
        f"{threshold} approvals of the {case.what} with SHA-256 {case.sha256} by {who}",
        "; ".join(problems + found),
        "rehearse again and have the new plan reviewed"
        if problems or any(one.status is Status.PLAN_EXPIRED for one in rejected)
        else case.next_step.format(missing=threshold - len(counted)),
    )
