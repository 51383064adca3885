# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may approve changes to a cluster, and whether enough of them approved exactly this plan (G-1).

An approval is an SSH signature (``ssh-keygen -Y sign``) over the bytes of plan.json. Who may give one is said by the
*anchor* of a cluster: a directory on the target host that no Ansible variable can move. OpenSSH judges every signature;
what is parsed here serves to tell people and reasons apart. Standard library only; private to this collection.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import enum
import fnmatch
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import struct
import subprocess
import tempfile
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils import _gates
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import digest, thawed

#: Namespace of a signature over plan.json that approves it without notes.
PLAN_NAMESPACE = "plan@phasegate.incomex"
#: Namespace of a signature over notes, and of one over plan.json that is given with notes: taking the notes away then
#: does not turn it into an approval without.
NOTES_NAMESPACE = "notes@phasegate.incomex"

PASS = "PASS"
PASS_WITH_NOTES = "PASS_WITH_NOTES"

SYSTEM_ANCHORS = "/etc/phasegate/reviewers"
USER_ANCHORS = ".config/phasegate/reviewers"
ALLOWED_SIGNERS = "allowed_signers"
REVOKED_KEYS = "revoked_keys"
POLICY = "policy.json"

# Neither PATH nor any other variable of the caller decides which program judges a signature.
_PROGRAM_PATH = "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin:/run/current-system/sw/bin"
_ENVIRONMENT = {"PATH": _PROGRAM_PATH, "LC_ALL": "C", "TZ": "UTC"}
_ANY_LINE = re.IGNORECASE | re.MULTILINE


# --- the anchor ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signer:
    """One line of ``allowed_signers``: names of one person and one key, and what limits them.

    ``key`` is the public key's blob; times are UTC, None where there is no limit; ``namespaces`` are patterns, none
    means any.
    """

    principals: Tuple[str, ...]
    key: bytes
    namespaces: Tuple[str, ...] = ()
    valid_after: Optional[datetime.datetime] = None
    valid_before: Optional[datetime.datetime] = None


@dataclass(frozen=True)
class Anchor:
    """Who may approve changes to one cluster, as read once from the files of ``path``.

    ``allowed_signers`` and ``revoked_keys`` are the files' bytes, ``signers`` the first one's lines. ``rollback`` says
    what a rollback needs: ``approval`` or ``confirmation``.
    """

    path: str
    allowed_signers: bytes
    signers: Tuple[Signer, ...]
    revoked_keys: Optional[bytes] = None
    threshold: int = 2
    author_may_approve: bool = False
    rollback: str = "approval"

    def names_of(self, key: bytes) -> FrozenSet[str]:
        """Return every name of the person whose key this is: keys and names that share a line are one person's."""
        names: Set[str] = set()
        keys = {key}
        found = True
        while found:
            lines = [one for one in self.signers if one.key in keys or names & {_fold(p) for p in one.principals}]
            more = {_fold(principal) for one in lines for principal in one.principals}
            found = not more <= names or not {one.key for one in lines} <= keys
            names |= more
            keys |= {one.key for one in lines}
        return frozenset(names)


def _fold(name: str) -> str:
    return name.casefold()


def anchor_path(system_identifier: str) -> str:
    """Return where the reviewers of a cluster are registered on its host. Raises ``PhaseGateError``."""
    if not re.fullmatch(r"[0-9]{1,20}", system_identifier):
        raise PhaseGateError(
            "The cluster has no usable system identifier.",
            expected="digits, as pg_control_system() gives them",
            found=repr(system_identifier),
            next_step="ask the server: SELECT system_identifier FROM pg_control_system()",
        )
    return os.path.join(SYSTEM_ANCHORS, system_identifier)


def find_anchor(system_identifier: str) -> Optional[Anchor]:
    """Return who may approve changes to the cluster, or None when this host registers nobody for it.

    ``/etc/phasegate/reviewers/<system identifier>`` decides; only when it does not exist, the same below the home
    directory that the user database gives for the effective user. Raises ``PhaseGateError`` for files that others could
    have written, and for faulty ones.
    """
    anchor_path(system_identifier)
    home = os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)
    return _first_anchor(system_identifier, [("/", SYSTEM_ANCHORS[1:]), (home, USER_ANCHORS)])


def _first_anchor(system_identifier: str, places: Sequence[Tuple[str, str]]) -> Optional[Anchor]:
    anchors = (_anchor_below(base, [*below.split("/"), system_identifier]) for base, below in places)
    return next((anchor for anchor in anchors if anchor is not None), None)


def _anchor_below(base: str, parts: Sequence[str]) -> Optional[Anchor]:
    try:
        with _trusted_directory(base, parts) as descriptor:
            return _read(os.path.join(base, *parts), descriptor)
    except FileNotFoundError:
        return None


def read_anchor(path: str) -> Anchor:
    """Return the anchor in the directory ``path``, for reviewers who look at one explicitly. Raises ``PhaseGateError``."""
    base, name = os.path.split(os.path.abspath(path))
    try:
        with _trusted_directory(base, [name], base_too=False) as descriptor:
            return _read(os.path.join(base, name), descriptor)
    except FileNotFoundError:
        raise PhaseGateError(
            "No reviewers are registered here.",
            expected=f"a directory with {ALLOWED_SIGNERS}",
            found=f"{path} does not exist",
            next_step="register reviewers there, or name the right directory",
        ) from None


@contextlib.contextmanager
def _trusted_directory(base: str, parts: Sequence[str], *, base_too: bool = True) -> Iterator[int]:
    """Open ``base``, then each of ``parts`` below it, refusing links and what others can write; yield a descriptor.

    Raises ``FileNotFoundError`` when it does not exist, ``PhaseGateError`` when it cannot be trusted or read.
    """
    path = base
    try:
        descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _untrusted(path, "a directory that can be read", str(error)) from None
    try:
        if base_too:
            _check_owner(path, os.fstat(descriptor))
        for part in parts:
            path = os.path.join(path, part)
            below = _open_below(descriptor, part, path, os.O_DIRECTORY)
            os.close(descriptor)
            descriptor = below
            _check_owner(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _open_below(directory: int, name: str, path: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        wanted = "a directory" if flags else "a regular file"
        link = os.path.islink(path)
        raise _untrusted(path, f"{wanted}, no symbolic link", "a symbolic link" if link else str(error)) from None


def _check_owner(path: str, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise _untrusted(path, f"owned by root or by the user of this run ({os.geteuid()})", f"owner {status.st_uid}")
    writable = stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    # A sticky directory (/tmp) lets nobody replace what belongs to somebody else.
    if writable and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise _untrusted(path, "writable by its owner only", mode, f"chmod go-w {path}")


def _untrusted(path: str, expected: str, found: str, next_step: str = "") -> PhaseGateError:
    return PhaseGateError(
        f"The list of reviewers cannot be trusted: {path}",
        expected=expected,
        found=found,
        next_step=next_step or "find out who made it; put a real directory there that only root can write",
    )


def _read_file(directory: int, name: str, path: str) -> Optional[bytes]:
    try:
        descriptor = _open_below(directory, name, path, 0)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _untrusted(path, "a regular file", "something else")
        _check_owner(path, status)
        return stream.read()


def _read(path: str, directory: int) -> Anchor:
    signers, revoked, policy = (
        _read_file(directory, name, os.path.join(path, name)) for name in (ALLOWED_SIGNERS, REVOKED_KEYS, POLICY)
    )
    if signers is None:
        raise PhaseGateError(
            "No reviewers are registered for this cluster, although it has a directory for them.",
            expected=f"a file {ALLOWED_SIGNERS}",
            found=f"none in {path}",
            next_step=f"write {os.path.join(path, ALLOWED_SIGNERS)}: one line for each reviewer, name and public key",
        )
    lines = parse_allowed_signers(signers, os.path.join(path, ALLOWED_SIGNERS))
    return Anchor(path, signers, lines, revoked, **_policy(policy, os.path.join(path, POLICY)))


def _policy(data: Optional[bytes], path: str) -> Dict[str, Any]:
    """Return the checked content of policy.json; nothing when there is none."""
    if data is None:
        return {}
    try:
        policy = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise _faulty(path, "JSON", str(error)) from None
    if not isinstance(policy, dict):
        raise _faulty(path, "a mapping", type(policy).__name__)
    rules: Dict[str, Tuple[str, Callable[[Any], bool]]] = {
        "threshold": ("a whole number of at least 1", lambda v: type(v) is int and v >= 1),
        "author_may_approve": ("true or false", lambda v: isinstance(v, bool)),
        "rollback": ("approval or confirmation", lambda v: v in ("approval", "confirmation")),
    }
    for key, value in policy.items():
        if key not in rules:
            raise _faulty(path, "only the keys " + ", ".join(rules), repr(key))
        if not rules[key][1](value):
            raise _faulty(path, f"{key}: {rules[key][0]}", json.dumps(value))
    return policy


def _faulty(path: str, expected: str, found: str) -> PhaseGateError:
    return PhaseGateError(
        f"The register of reviewers is faulty: {path}", expected=expected, found=found, next_step="correct the file"
    )


_LINE = re.compile(
    r'(?P<principals>\S+)\s+(?:(?P<options>(?:[^\s"]|"[^"]*")+)\s+)?'
    r"(?P<type>(?:ssh|ecdsa|sk)-\S+)\s+(?P<key>[A-Za-z0-9+/]+=*)(?:\s.*)?"
)
_OPTION = re.compile(r'(?P<name>[A-Za-z-]+)(?:="(?P<value>[^"]*)")?(?:,|\Z)')
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")
_TIME = re.compile(r"[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?Z?")


def parse_allowed_signers(data: bytes, path: str = ALLOWED_SIGNERS) -> Tuple[Signer, ...]:
    """Return the lines of an ``allowed_signers`` file (ssh-keygen(1)) that this collection accepts.

    Stricter than OpenSSH, which skips lines that it cannot read: a line is an error here unless it has plain names, one
    key, and no other options than ``namespaces``, ``valid-after`` and ``valid-before``. A name pattern or a certificate
    authority would stand for any number of people. Times without ``Z`` are UTC. Raises ``PhaseGateError``.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _faulty(path, "UTF-8", str(error)) from None
    signers = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            signers.append(_signer(line.strip(), f"{path}, line {number}"))
    if not signers:
        raise _faulty(path, "one line for each reviewer: name and public key", "no reviewer")
    return tuple(signers)


def _signer(line: str, place: str) -> Signer:
    match = _LINE.fullmatch(line)
    key = _decoded(match["key"]) if match else b""
    if match is None or not key.startswith(_string(match["type"].encode("ascii", "replace"))):
        raise _faulty(place, "name [options] key-type public-key", line[:80])
    principals = tuple(match["principals"].split(","))
    for principal in principals:
        if not _PRINCIPAL.fullmatch(principal):
            raise _faulty(place, "plain names (letters, digits, . _ @ + -), no pattern", principal)
    options = _options(match["options"] or "", place)
    return Signer(
        principals,
        key,
        tuple(filter(None, options.get("namespaces", "").split(","))),
        _time(options.get("valid-after"), place),
        _time(options.get("valid-before"), place),
    )


def _options(text: str, place: str) -> Dict[str, str]:
    options: Dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        name = match["name"].lower() if match else ""
        if match is None or match["value"] is None or name not in ("namespaces", "valid-after", "valid-before"):
            raise _faulty(place, 'options: namespaces="…", valid-after="…", valid-before="…"', text[position:])
        options[name] = match["value"]
        position = match.end()
    return options


def _time(text: Optional[str], place: str) -> Optional[datetime.datetime]:
    if text is None:
        return None
    digits = text.rstrip("Z").ljust(14, "0") if _TIME.fullmatch(text) else ""
    try:
        return datetime.datetime.strptime(f"{digits} +0000", "%Y%m%d%H%M%S %z")
    except ValueError:
        raise _faulty(place, "a time as YYYYMMDD[HHMM[SS]][Z]", text) from None


# --- a signature -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """What an SSH signature says of itself (PROTOCOL.sshsig); nothing of it is verified yet."""

    key: bytes
    namespace: str

    @property
    def fingerprint(self) -> str:
        """Return the key's fingerprint as ssh-keygen prints it."""
        return fingerprint(self.key)


def fingerprint(key: bytes) -> str:
    """Return the SHA-256 fingerprint of a public key's blob as ssh-keygen prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode("ascii").rstrip("=")


_ARMOR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\r?\n(.+?)-----END SSH SIGNATURE-----\s*", re.DOTALL)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _string(data: bytes) -> bytes:
    """Return a string as the SSH protocol writes it."""
    return struct.pack(">I", len(data)) + data


def parse_signature(data: bytes) -> Optional[Signature]:
    """Return what a signature file says of itself, or None when it is none."""
    match = _ARMOR.fullmatch(data)
    blob = _decoded(b"".join(match[1].split()).decode("ascii", "replace")) if match else b""
    if not blob.startswith(b"SSHSIG" + struct.pack(">I", 1)):
        return None
    fields: List[bytes] = []
    position = 10
    while position + 4 <= len(blob):
        (length,) = struct.unpack_from(">I", blob, position)
        fields.append(blob[position + 4 : position + 4 + length])
        position += 4 + length
    # public key, namespace, reserved, hash algorithm, signature
    if position != len(blob) or len(fields) != 5 or not fields[0] or not fields[4]:  # noqa: PLR2004
        return None
    try:
        return Signature(fields[0], fields[1].decode("utf-8"))
    except UnicodeDecodeError:
        return None


class _Verifier:
    """ssh-keygen with the files of one anchor in a private directory."""

    def __init__(self, anchor: Anchor, directory: str, now: datetime.datetime) -> None:
        self._program = ssh_keygen()
        self._directory = directory
        self._now = now
        self._signers = self._file("signers", anchor.allowed_signers)
        self._revoked = None if anchor.revoked_keys is None else self._file("revoked", anchor.revoked_keys)

    def _file(self, name: str, data: bytes) -> str:
        path = os.path.join(self._directory, name)
        with open(path, "wb") as stream:
            stream.write(data)
        return path

    def _run(self, operation: str, signature: bytes, message: bytes, *arguments: str) -> str:
        """Return an empty text when the program agrees, else what it says."""
        path = self._file("signature", signature)
        run = subprocess.run(
            [self._program, "-Y", operation, *arguments, "-s", path],
            input=message,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            check=False,
        )
        said = run.stdout.decode("utf-8", "replace").strip()
        if run.returncode and re.search(r"^usage:|(unknown|illegal) option|unsupported operation", said, _ANY_LINE):
            raise PhaseGateError(
                "The program ssh-keygen on this host is too old to verify approvals.",
                expected="OpenSSH 8.7 or newer",
                found=said.splitlines()[0],
                next_step="upgrade the OpenSSH client on this host",
            )
        return (said or f"exit code {run.returncode}") if run.returncode else ""

    def over(self, signature: bytes, namespace: str, message: bytes) -> bool:
        """Tell whether this is a signature over ``message`` by the key that it names, whoever that is."""
        return not self._run("check-novalidate", signature, message, "-n", namespace)

    def problem(
        self, signature: bytes, namespace: str, message: bytes, lines: Sequence[Signer], *, revoked: bool
    ) -> str:
        """Return why no name in ``lines`` signed, or an empty text; ``revoked``: with the list of revoked keys."""
        arguments = ["-f", self._signers, "-n", namespace, "-Overify-time=" + self._now.strftime("%Y%m%d%H%M%S")]
        if revoked and self._revoked is not None:
            arguments += ["-r", self._revoked]
        said = ""
        for principal in sorted({principal for line in lines for principal in line.principals}):
            said = self._run("verify", signature, message, *arguments, "-I", principal)
            if not said:
                break
        return said


def ssh_keygen() -> str:
    """Return the path of the program. Raises ``PhaseGateError`` when there is none."""
    program = shutil.which("ssh-keygen", path=_PROGRAM_PATH)
    if program is None:
        raise PhaseGateError(
            "The program ssh-keygen is missing on this host, and approvals cannot be verified without it.",
            expected="ssh-keygen of OpenSSH 8.7 or newer in one of " + _PROGRAM_PATH,
            found="none",
            next_step="install the OpenSSH client (package openssh-client or openssh)",
        )
    return program


# --- the judgement ---------------------------------------------------------------------------------------------


class Status(str, enum.Enum):
    """What became of a signature; all but VALID are rejections, each with its own message."""

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
    """One judged signature. ``signer`` is the registered name, or the file's label when the key is not registered.

    ``fingerprint`` is empty when there is no key to tell; ``verdict`` is PASS or PASS_WITH_NOTES, empty unless valid;
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
    """All signatures of a plan, judged, and the gate that follows."""

    verdicts: List[Approval]
    gate: _gates.Gate

    def as_dict(self) -> Dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {"verdicts": [one.as_dict() for one in self.verdicts], "gate": self.gate.as_dict()}


def notes_header(plan_sha256: str) -> bytes:
    """Return the first line of notes, which binds them to one plan."""
    return f"Notes on the plan with SHA-256 {plan_sha256}\n".encode("ascii")


Notes = Mapping[str, Tuple[bytes, bytes]]


@dataclass(frozen=True)
class _Case:
    """What all signatures of a judgement have in common. ``changed`` says what is wrong with plan.json itself."""

    plan_bytes: bytes
    sha256: str
    changed: str
    anchor: Anchor
    author: str
    not_after: datetime.datetime
    now: datetime.datetime
    verifier: _Verifier

    def by_author(self, key: bytes) -> bool:
        return _fold(self.author) in self.anchor.names_of(key)


def judge(
    plan_bytes: bytes,
    signatures: Mapping[str, bytes],
    notes: Notes,
    anchor: Optional[Anchor],
    author: str,
    not_after: str,
    now: datetime.datetime,
) -> Approvals:
    """Judge every signature over the bytes of plan.json, and G-1.

    ``signatures`` and ``notes`` (text, signature) are by a label such as the reviewer's name; the label decides nothing,
    the key does. ``author`` and ``not_after`` (ISO 8601, UTC) are the plan's, ``now`` has a time zone. Raises
    ``PhaseGateError`` when signatures cannot be judged at all.
    """
    sha256 = digest(plan_bytes)
    plan, changed = thawed(plan_bytes)
    if anchor is None:
        return _without_anchor(plan, signatures)
    with tempfile.TemporaryDirectory(prefix="phasegate-") as directory:
        now = now.astimezone(datetime.timezone.utc)
        verifier = _Verifier(anchor, directory, now)
        case = _Case(plan_bytes, sha256, changed, anchor, author, _moment(not_after), now, verifier)
        verdicts = _distinct(
            [(data, _judged(case, name, data, notes.get(name))) for name, data in sorted(signatures.items())], anchor
        )
    return Approvals(verdicts, _gate(case, verdicts))


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PhaseGateError(
            "The plan does not say until when it may be executed.",
            expected="not_after as ISO 8601 with its zone, such as 2026-05-16T03:12:00Z",
            found=repr(text),
            next_step="rehearse again, which freezes a new plan",
        )
    return moment


def _without_anchor(plan: Mapping[str, Any], signatures: Mapping[str, bytes]) -> Approvals:
    target = plan.get("target")
    cluster = str(target.get("system_identifier", "")) if isinstance(target, dict) else ""
    place = anchor_path(cluster) if cluster else SYSTEM_ANCHORS
    why = f"no reviewers are registered for this cluster ({place})"
    verdicts = []
    for name, data in sorted(signatures.items()):
        parsed = parse_signature(data)
        verdicts.append(Approval(name, parsed.fingerprint if parsed else "", Status.NOT_JUDGED, why))
    gate = _gates.Gate(
        "G-1",
        _gates.NOT_ENFORCED,
        "approvals by registered reviewers",
        why,
        "register the reviewers of this cluster on its host, so that nothing commits without them",
    )
    return Approvals(verdicts, gate)


def _judged(case: _Case, name: str, data: bytes, notes: Optional[Tuple[bytes, bytes]]) -> Approval:
    """Judge one signature by itself."""
    signature = parse_signature(data)
    if signature is None:
        return Approval(name, "", Status.MALFORMED, f"{name}: this is not an SSH signature, or it is damaged")
    lines = [line for line in case.anchor.signers if line.key == signature.key]
    names = [principal for line in lines for principal in line.principals]
    signer = name if name in names or not names else names[0]
    status, why = next(_rejections(case, data, signature, lines, notes), (Status.VALID, ""))
    if status is not Status.VALID:
        return Approval(signer, signature.fingerprint, status, f"{signer}: {why}")
    if notes is None:
        return Approval(signer, signature.fingerprint, status, f"{signer}: approved", PASS)
    text = notes[0].decode("utf-8")
    return Approval(signer, signature.fingerprint, status, f"{signer}: approved, with notes", PASS_WITH_NOTES, text)


def _rejections(
    case: _Case, data: bytes, signature: Signature, lines: Sequence[Signer], notes: Optional[Tuple[bytes, bytes]]
) -> Iterator[Tuple[Status, str]]:
    """Give what keeps this from being an approval, the most telling reason first; the caller wants only that one."""
    yield from _signature_rejections(case, data, signature, lines)
    if case.now > case.not_after:
        yield Status.PLAN_EXPIRED, f"the approval ended with the plan at {case.not_after.isoformat()}"
    if not case.anchor.author_may_approve and case.by_author(signature.key):
        yield Status.AUTHOR, f"{case.author} is the plan's author and cannot approve it"
    if notes is not None:
        yield from ((Status.NOTES, why) for why in _notes_problems(case, signature, lines, *notes))
    elif signature.namespace == NOTES_NAMESPACE:
        yield Status.NOTES, "this approval was given with notes, and the notes are missing"


def _signature_rejections(
    case: _Case, data: bytes, signature: Signature, lines: Sequence[Signer]
) -> Iterator[Tuple[Status, str]]:
    """Give what keeps this from being a registered reviewer's signature over this plan, now."""
    space = signature.namespace
    if space not in (PLAN_NAMESPACE, NOTES_NAMESPACE):
        yield Status.OTHER_NAMESPACE, f"signed for another purpose, in namespace {space!r} and not {PLAN_NAMESPACE}"
    if not lines:
        yield Status.STRANGER, f"the key {signature.fingerprint} is not registered in {case.anchor.path}"
    if not case.verifier.over(data, space, case.plan_bytes):
        if case.changed:
            yield Status.PLAN_CHANGED, f"the signature does not hold, and plan.json was changed: {case.changed}"
        yield Status.OTHER_PLAN, f"not a signature over this plan, whose SHA-256 is {case.sha256}"
    if case.verifier.problem(data, space, case.plan_bytes, lines, revoked=True):
        said = case.verifier.problem(data, space, case.plan_bytes, lines, revoked=False)
        if not said:
            yield Status.REVOKED, f"the key {signature.fingerprint} was revoked in {case.anchor.path}/{REVOKED_KEYS}"
        yield _limits(case, lines, space, said)


def _limits(case: _Case, lines: Sequence[Signer], space: str, said: str) -> Tuple[Status, str]:
    """Tell which limit of its lines a key that signed is outside of."""
    for line in lines:
        if line.valid_before and case.now > line.valid_before:
            return Status.SIGNER_EXPIRED, f"the key was valid before {line.valid_before.isoformat()} only"
        if line.valid_after and case.now < line.valid_after:
            return Status.NOT_YET_VALID, f"the key is valid after {line.valid_after.isoformat()} only"
        if line.namespaces and not any(fnmatch.fnmatchcase(space, pattern) for pattern in line.namespaces):
            return Status.NOT_ALLOWED, f"the key is registered for {', '.join(line.namespaces)} and not for {space}"
    return Status.NOT_ALLOWED, f"ssh-keygen does not accept the signature: {said}"


def _notes_problems(
    case: _Case, signature: Signature, lines: Sequence[Signer], text: bytes, data: bytes
) -> Iterator[str]:
    """Give what is wrong with the notes beside a signature."""
    signed = parse_signature(data)
    if signed is None:
        yield "the signature of the notes is not an SSH signature, or it is damaged"
        return
    if signed.namespace != NOTES_NAMESPACE:
        yield f"the notes are signed in namespace {signed.namespace!r} and not {NOTES_NAMESPACE}"
    if signed.key != signature.key:
        yield f"the notes are signed by another key, {signed.fingerprint}"
    if case.verifier.problem(data, NOTES_NAMESPACE, text, lines, revoked=True):
        yield "the notes were changed after they were signed, or the key is not registered for notes"
    if not text.startswith(notes_header(case.sha256)):
        yield f"the notes are on another plan: their first line does not name SHA-256 {case.sha256}"
    if not _is_utf8(text):
        yield "the notes are not UTF-8"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _distinct(judged: Sequence[Tuple[bytes, Approval]], anchor: Anchor) -> List[Approval]:
    """Let every key and every person count once; the first one in order of the labels does."""
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
        status, why = Status.SAME_KEY, f"the key {first.fingerprint} has approved already, as {first.signer}"
    else:
        status = Status.SAME_PERSON
        why = f"{first.signer} is the same person and has approved already, with key {first.fingerprint}"
    return replace(approval, status=status, message=f"{approval.signer}: {why}", verdict="", notes="")


def _gate(case: _Case, verdicts: Sequence[Approval]) -> _gates.Gate:
    """Return G-1: enough people, and a plan that is what was frozen."""
    counted = [one for one in verdicts if one.valid]
    rejected = [one for one in verdicts if not one.valid]
    threshold = case.anchor.threshold
    found = [f"{len(counted)} of {threshold}"]
    found += [f"{one.signer} ({one.verdict}, {one.fingerprint})" for one in counted]
    found += [f"rejected: {one.message}" for one in rejected]
    problems = [f"plan.json was changed: {case.changed}"] if case.changed else []
    if not case.author and not case.anchor.author_may_approve:
        problems.append("the plan does not name its author")
    who = "distinct reviewers" if case.anchor.author_may_approve else "distinct reviewers, its author not among them"
    return _gates.judge(
        "G-1",
        len(counted) >= threshold and not problems,
        f"{threshold} approvals of the plan with SHA-256 {case.sha256} by {who}",
        "; ".join(problems + found),
        "rehearse again and have the new plan reviewed"
        if problems or any(one.status is Status.PLAN_EXPIRED for one in rejected)
        else f"have it reviewed and signed by {threshold - len(counted)} more of the reviewers registered in {case.anchor.path}",
    )
