# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Audit the sealed bundle of a run of incomex.phasegate, offline.

This is one file on purpose, longer than others: it needs Python 3.8 or newer, its standard library, and nothing else of the
collection, so that an auditor can read it whole and run it anywhere. The collection's own modules use this same file. It never
writes into a bundle, follows no link out of it, and opens regular files only.

exit codes:
  0  intact: everything agrees; warnings are possible
  1  not intact: at least one finding
  2  there is no such bundle, or the command line is wrong
  3  nothing is wrong, but something could not be checked (NOT CHECKED): no ssh-keygen or openssl, a pruned backup, an unreadable file
"""

from __future__ import annotations

import argparse
import base64
import binascii
import datetime
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

SEAL = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"  # an SSH signature over the seal
STATEMENT = "SHA256SUMS.intoto.json"  # an in-toto Statement about the same files, in a signed DSSE envelope
TIMESTAMP = "SHA256SUMS.tsr"  # an RFC 3161 time-stamp of the seal
OUTSIDE = (SEAL, SIGNATURE, STATEMENT, TIMESTAMP)  # what a seal does not list: it is written after it

JOURNAL = "journal.jsonl"
PLAN = "plan.json"
TRIED_PLAN = "phase_plan.json"  # the plan in the bundle of a rehearsal; earlier releases called it plan.json
AUDITOR = "audit.py"
LOG = "logs/driver.log"
SUMMARY = "SUMMARY.txt"
REPORTS = ("report.json", "report.md", "report.html", "junit.xml", SUMMARY)
REGISTER = "register/"  # the register of reviewers as it was at the gate
PRUNED = ".pruned.json"  # after a bundle's name: the record beside it of a backup that was deleted
BACKUPS = ("backup.dump", "backup.dir", "backup.base")

#: The name of a run directory: phase, environment, and when it was opened.
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*_[0-9]{8}T[0-9]{6}Z(\.[0-9]+)?")

SEAL_NAMESPACE = "seal@phasegate.incomex"
STATEMENT_NAMESPACE = "statement@phasegate.incomex"
PLAN_NAMESPACES = ("plan@phasegate.incomex", "notes@phasegate.incomex")
#: The documents that people sign beside plan.json, by their format: their name for people, and the namespaces.
REQUESTS = {
    "phasegate-rollback/1": ("rollback", ("rollback@phasegate.incomex",)),
    "phasegate-review/1": ("review", ("review@phasegate.incomex", "notes@phasegate.incomex")),
}

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://github.com/incomex/phasegate/run/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

#: SHA-256 of this file in former releases, with the release: their copies in old bundles are known.
RELEASED: Dict[str, str] = {}

#: What the first line of a journal carries in place of a predecessor's digest.
GENESIS = "0" * 64

UNSIGNED = "UNSIGNED"

#: Neither PATH nor any other variable of the caller decides which program verifies a signature.
PROGRAM_PATH = "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin:/run/current-system/sw/bin"

INTACT, NOT_INTACT, NO_BUNDLE, NOT_CHECKED = 0, 1, 2, 3

_LIMIT = 256 << 20  # the largest file that is read into memory, in bytes; larger ones are only hashed
_DEPTH = 8  # how deep directories are looked into; a bundle has three levels, a base backup some more
_NAMES = 20  # names of one key that are tried, and
_SIGNATURES = 200  # signatures of a bundle that are verified: each starts ssh-keygen
_PATIENCE = 60  # seconds for one run of ssh-keygen or openssl
_SMALL = 1 << 20
_DIGITS = 200
_THRESHOLD = 2  # approvals where no policy says otherwise, as the register's default
_SUM_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[^\0\n]+)")
_ENTRY = ["seq", "at", "step", "event", "data", "prev"]


def escaped(text: str) -> str:
    r"""Return a text for a terminal: what is not printable (controls, direction marks, lone surrogates) as ``\u202e``."""

    def code(char: str) -> str:
        number = ord(char)
        return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"  # noqa: PLR2004

    return "".join(char if char.isprintable() else {"\n": "\\n", "\t": "\\t"}.get(char) or code(char) for char in text)


class NotCheckedError(Exception):
    """Something cannot be checked here."""


# --- files ---------------------------------------------------------------------------------------------------------


def _open(path: str) -> int:
    """Return a descriptor of a regular file under this very name. Raises ``OSError``, ``NotCheckedError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotCheckedError(f"{path} is not a regular file")
    return descriptor


def read(path: str, limit: int = _LIMIT) -> bytes:
    """Return the content of a regular file. Raises ``OSError``, ``NotCheckedError`` for a larger one."""
    with os.fdopen(_open(path), "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise NotCheckedError(f"{path} is larger than {limit} bytes")
    return data


def sha256(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


class Tree:
    """What is below a bundle's directory, found without following a link: ``files`` are whatever is not a directory.

    ``deep`` are directories that were not looked into, because no bundle has any so deep. Raises ``OSError`` for a directory that
    cannot be listed.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.deep: List[str] = []
        self.files: Dict[str, os.stat_result] = {}
        self.folders: Dict[str, os.stat_result] = {}
        self._digests: Dict[str, str] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        self.folders[name] = entry.stat(follow_symlinks=False)
                        (waiting if name.count("/") < _DEPTH else self.deep).append(name)
                    else:
                        self.files[name] = entry.stat(follow_symlinks=False)

    def regular(self, name: str) -> bool:
        """Return whether a file is there, and is a regular one."""
        return name in self.files and stat.S_ISREG(self.files[name].st_mode)

    def path(self, name: str) -> str:
        """Return the path of a file."""
        return os.path.join(self.root, name)

    def read(self, name: str, limit: int = _LIMIT) -> bytes:
        """Return the content of a regular file; empty when there is none. Raises ``OSError``, ``NotCheckedError``."""
        return read(self.path(name), limit) if self.regular(name) else b""

    def json(self, name: str) -> Dict[str, Any]:
        """Return a JSON object; empty when there is no such file, or it is something else."""
        try:
            value = parse_json(self.read(name))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a regular file. Raises ``OSError``, ``NotCheckedError``."""
        if name not in self._digests:
            digest = hashlib.sha256()
            with os.fdopen(_open(self.path(name)), "rb") as stream:
                for chunk in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(chunk)
            self._digests[name] = digest.hexdigest()
        return self._digests[name]


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """Return an object whose keys are all different: readers do not agree which one counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON document in UTF-8. Raises ``ValueError``."""
    try:
        return json.loads(data.decode("utf-8"), parse_int=_integer, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("values nested too deeply") from None


# --- the seal ------------------------------------------------------------------------------------------------------


def no_bundle(path: str) -> str:
    """Return why a path that a person gave has no bundle at all, '' when it has one: a mistake, not tampering."""
    if not os.path.lexists(path):
        return f"{path} does not exist"
    if not os.path.isdir(path):
        return f"{path} is not a directory"
    if not any(os.path.lexists(os.path.join(path, name)) for name in (SEAL, JOURNAL)):
        return f"neither {SEAL} nor {JOURNAL} in {path}"
    return ""


def unusable_seal(tree: Tree) -> List[str]:
    """Return why SHA256SUMS, or what is beside it, cannot be read; empty when it can."""
    if SEAL not in tree.files and SEAL not in tree.folders:
        return [f"the bundle is not sealed: {SEAL} is missing"]
    return [
        f"{name} is not a regular file"
        for name in OUTSIDE
        if name in {*tree.files, *tree.folders} and not tree.regular(name)
    ]


def parse_sums(data: bytes) -> Tuple[Dict[str, str], List[str]]:
    """Return the digests by name of a SHA256SUMS, and what is wrong with it."""
    text = data.decode("utf-8", "surrogateescape")
    listed: Dict[str, str] = {}
    findings: List[str] = [] if text else [f"{SEAL} is empty"]
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        match = _SUM_LINE.fullmatch(line)
        if match is None:
            findings.append(f"{SEAL} line {number} is not '<sha256>  <name>'")
        elif match["name"].startswith("/") or ".." in match["name"].split("/"):
            findings.append(f"{SEAL} line {number} names a path outside the bundle: {match['name']}")
        elif match["name"] in listed:
            findings.append(f"{SEAL} line {number} names {match['name']} again")
        else:
            listed[match["name"]] = match["digest"]
    if list(listed) != sorted(listed):
        findings.append(f"{SEAL} is not in the order in which it is written")
    if text and not text.endswith("\n"):
        findings.append(f"{SEAL} is cut off: its last line has no end")
    return listed, findings


def compare_with_sums(
    tree: Tree, listed: Mapping[str, str], present: Set[str], listing: str = SEAL
) -> Tuple[List[str], List[str]]:
    """Return what is wrong with files by the digests that ``listing`` has of them, and which cannot be read.

    Names are relative to the directory; ``present`` are those that exist.
    """
    findings, unread = [], []
    for name in sorted(listed):
        if name not in present:
            findings.append(f"{name} is listed in {listing} but missing")
        elif not tree.regular(name):
            findings.append(f"{name} is not a regular file (a symbolic link or a device)")
        else:
            try:
                found = tree.sha256(name)
            except (OSError, NotCheckedError) as error:
                unread.append(f"{name} cannot be read: {error}")
                continue
            if found != listed[name] and not tree.files[name].st_size:
                findings.append(f"{name} was emptied: it has no content, {listing} has {listed[name]}")
            elif found != listed[name]:
                findings.append(f"{name} was changed: SHA-256 is {found}, {listing} has {listed[name]}")
    return findings + [f"{name} is not listed in {listing}" for name in sorted(present - set(listed))], unread


# --- the journal ---------------------------------------------------------------------------------------------------


def written_last(name: str) -> bool:
    """Return whether a file of a bundle is written after the journal's last entry, or is a part of a backup in a directory."""
    return name in (JOURNAL, LOG, AUDITOR, *REPORTS) or name.startswith(tuple(f"{backup}/" for backup in BACKUPS))


class BrokenJournalError(ValueError):
    """A line of a journal is not what the chain requires. ``number`` counts from 1."""

    def __init__(self, number: int, expected: str, found: str) -> None:
        super().__init__(f"line {number}: expected {expected}; found {found}")
        self.number, self.expected, self.found = number, expected, found


def journal_line(entry: Mapping[str, Any]) -> str:
    """Return the line of an entry, without its newline."""
    return json.dumps(dict(entry), ensure_ascii=False, separators=(",", ":"))


def journal_entries(data: bytes) -> List[Dict[str, Any]]:
    """Return the entries of a journal after following its chain. Raises ``BrokenJournalError``.

    A last line without its newline was never acknowledged and is left out.
    """
    entries: List[Dict[str, Any]] = []
    prev = GENESIS
    for number, raw in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            entry = parse_json(raw)
            whole = isinstance(entry, dict) and list(entry) == _ENTRY and isinstance(entry["data"], dict)
            whole = whole and all(isinstance(entry[name], str) for name in ("at", "step", "event"))
            same = whole and journal_line(entry).encode("utf-8") == raw
        except (ValueError, RecursionError):
            entry, whole, same = {}, False, False
        if not whole:
            raise BrokenJournalError(number, "a JSON object of the journal's form", "something else")
        if entry["seq"] != number or not same:
            raise BrokenJournalError(
                number, f"entry {number} as the collection writes it", f"entry {entry['seq']} or other bytes"
            )
        if entry["prev"] != prev:
            raise BrokenJournalError(number, f"the digest of line {number - 1}, {prev}", str(entry["prev"]))
        entries.append(entry)
        prev = sha256(raw)
    return entries


def journal_damage(data: bytes, number: int) -> str:
    """Return in words what happened to a journal whose chain is broken at line ``number``."""
    numbers: List[Any] = []
    for raw in data.split(b"\n")[:-1]:
        try:
            numbers.append(dict(parse_json(raw)).get("seq"))
        except (ValueError, TypeError, RecursionError):  # noqa: PERF203
            numbers.append(None)
    if any(type(one) is not int for one in numbers):
        return f"line {numbers.index(next(one for one in numbers if type(one) is not int)) + 1} is not an entry"
    whole = list(range(1, len(numbers) + 1))
    if numbers == whole:
        return (
            f"line {number - 1} was changed after it was written, or line {number} was"
            if number > 1
            else "line 1 was changed"
        )
    if sorted(numbers) == whole:
        return f"its lines were reordered: line {number} is entry {numbers[number - 1]}"
    if len(set(numbers)) < len(numbers):
        return f"entry {next(number for number, times in Counter(numbers).items() if times > 1)} is there twice"
    if min(numbers) < 1 or max(numbers) > 2 * len(numbers) + 1000:
        return f"line {number} has a number that it cannot have"
    missing = sorted(set(range(1, max(numbers) + 1)) - set(numbers))
    return f"{'entries' if len(missing) > 1 else 'entry'} {', '.join(map(str, missing[:10]))} missing"


def _unfinished(data: bytes, entries: Sequence[Mapping[str, Any]]) -> str:
    """Return why a journal does not end with the run's seal, '' when it does."""
    at = [number for number, one in enumerate(entries, start=1) if (one["step"], one["event"]) == ("run", "seal")]
    if data.endswith(b"\n") and at and at[-1] == len(entries):
        return ""
    if not entries:
        why = "it is empty"
    elif not data.endswith(b"\n"):
        why = "its last line has no end"
    elif at:
        why = f"entry {at[-1] + 1} was added after it"
    else:
        why = f"it was cut off after entry {len(entries)}"
    return f"{JOURNAL} does not end with the run's seal: {why}"


# --- SSH signatures ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """The claims in an SSH signature (PROTOCOL.sshsig); none of them is verified yet."""

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


def decoded(text: str) -> bytes:
    """Return the bytes of a Base64 text; what is not Base64 becomes empty."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def unarmored(data: bytes) -> bytes:
    """Return the blob of a signature file; empty when it is none."""
    match = _ARMOR.fullmatch(data)
    return decoded(b"".join(match[1].split()).decode("ascii", "replace")) if match else b""


def armored(blob: bytes) -> bytes:
    """Return the signature file of a blob."""
    text = base64.b64encode(blob)
    lines = [text[place : place + 70] for place in range(0, len(text), 70)]
    return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----", b""])


def parse_signature(data: bytes) -> Optional[Signature]:
    """Return the claims in a signature file, or None when it is not a signature."""
    blob = unarmored(data)
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


def _output(program: str, arguments: Sequence[str], message: bytes, files: Mapping[str, bytes]) -> Tuple[int, str]:
    """Run a program and return its exit code and what it said; an argument that is a key of ``files`` becomes its path.

    Raises ``NotCheckedError`` where the program is missing.
    """
    found = shutil.which(program, path=PROGRAM_PATH)
    if found is None:
        raise NotCheckedError(f"{program} is not on this host (looked in {PROGRAM_PATH})")
    with tempfile.TemporaryDirectory(prefix="phasegate-audit-") as directory:
        paths = {name: os.path.join(directory, name[1:]) for name in files}
        for name, data in files.items():
            with open(paths[name], "wb") as stream:
                stream.write(data)
        try:
            run = subprocess.run(
                [found, *(paths.get(argument, argument) for argument in arguments)],
                input=message,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"PATH": PROGRAM_PATH, "LC_ALL": "C", "TZ": "UTC"},
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotCheckedError(f"{program} did not end within {_PATIENCE} s") from None
    return run.returncode, run.stdout.decode("utf-8", "replace").strip()


def _run(program: str, arguments: Sequence[str], message: bytes, files: Mapping[str, bytes]) -> str:
    """Run a program and return '' when it accepts, else its message; as ``_output``."""
    code, said = _output(program, arguments, message, files)
    if code and re.search(r"(?im)^usage:|(unknown|illegal) option|unsupported operation", said):
        raise NotCheckedError(f"{program} on this host is too old: {said.splitlines()[0]}")
    return (said or f"exit code {code}") if code else ""


_KEY = re.compile(r"(?<!\S)(?:ssh|ecdsa|sk)-\S+\s+(?P<key>[A-Za-z0-9+/]+=*)(?!\S)")


@dataclass(frozen=True)
class Signers:
    """A list of those who may sign, in the format of ssh-keygen(1), and where it is from; ``at`` is when they signed, in UTC."""

    data: bytes
    source: str
    at: str = ""
    revoked: Optional[bytes] = None

    def lines(self) -> List[Tuple[List[str], bytes]]:
        """Return names and key of each line."""
        found = []
        for line in self.data.decode("utf-8", "replace").split("\n"):
            match = _KEY.search(line)
            if match and not line.lstrip().startswith("#"):
                found.append((line.split()[0].split(","), decoded(match["key"])))
        return found

    def names(self, key: bytes) -> List[str]:
        """Return the names of a key, sorted."""
        return sorted({name for names, other in self.lines() if other == key for name in names})

    def person(self, key: bytes) -> FrozenSet[str]:
        """Return every name of the person whose key this is: keys and names that share a line are one person's."""
        lines = [({fold(name) for name in names}, other) for names, other in self.lines()]
        having: Dict[Any, Set[int]] = {}
        for number, (names, other) in enumerate(lines):
            for one in (*names, other):
                having.setdefault(one, set()).add(number)
        found: Set[str] = set()
        seen: Set[int] = set()
        waiting: List[Any] = [key]
        while waiting:
            for number in having.pop(waiting.pop(), set()) - seen:
                seen.add(number)
                found |= lines[number][0]
                waiting += [*lines[number][0], lines[number][1]]
        return frozenset(found or {fingerprint(key)})


def fold(name: str) -> str:
    """Return the form in which two spellings of a name are equal."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def signature_findings(
    name: str,
    data: bytes,
    namespaces: Sequence[str],
    what: str,
    document: bytes,
    changed: str,
    signers: Optional[Signers],
) -> Iterator[str]:
    """Yield why the signature ``data`` in the file ``name`` does not count, the most specific reason first.

    ``what`` is signed, ``document`` are its bytes, ``changed`` what it means that they are others. Without ``signers`` any key
    may have signed. Raises ``NotCheckedError`` when ssh-keygen is needed and missing.
    """
    signature = parse_signature(data)
    if signature is None:
        yield f"{name} is not an SSH signature, or it is damaged"
        return
    space = signature.namespace
    if space not in namespaces:
        yield f"{name} was made for another purpose: namespace {space!r} instead of {namespaces[0]}"
        return
    names = signers.names(signature.key) if signers else []
    if signers and not 0 < len(names) <= _NAMES:
        known = f"has {len(names)} names in" if names else "is not in"
        why = "a key with too many names" if names else "an unknown key"
        yield f"{what} was signed by {why}: {signature.fingerprint} {known} {signers.source}"
    if _run("ssh-keygen", ["-Y", "check-novalidate", "-n", space, "-s", "@signature"], document, {"@signature": data}):
        yield f"{name} does not match this {changed}"
    if not signers or len(names) > _NAMES:
        return
    files = {"@signature": data, "@signers": signers.data}
    arguments = ["-Y", "verify", "-n", space, "-s", "@signature", "-f", "@signers"]
    if signers.at:
        arguments.append(f"-Overify-time={signers.at}")
    if signers.revoked is not None:
        files["@revoked"] = signers.revoked
        arguments += ["-r", "@revoked"]
    said = "no signer is registered"
    for one in names:
        said = _run("ssh-keygen", [*arguments, "-I", one], document, files)
        if not said:
            return
    yield f"ssh-keygen rejects the signature of {what}: {said}"


def seal_signature_findings(tree: Tree, signers: Optional[Signers]) -> Iterator[str]:
    """Yield why the seal is not signed, or not by one of ``signers``; as ``signature_findings``."""
    if not tree.regular(SIGNATURE):
        yield f"the seal is {UNSIGNED}: {SIGNATURE} is missing"
        return
    again = f"{SEAL}: the bundle was sealed again"
    yield from signature_findings(
        SIGNATURE, tree.read(SIGNATURE, _SMALL), (SEAL_NAMESPACE,), "the seal", tree.read(SEAL), again, signers
    )


# --- the audit of one bundle ---------------------------------------------------------------------------------------


def pae(kind: str, body: bytes) -> bytes:
    """Return what a DSSE signature is over: the envelope's pre-authentication encoding."""
    name = kind.encode("utf-8", "surrogatepass")
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(body), body)


def _mappings(value: Any) -> List[Dict[str, Any]]:
    """Return the mappings in a list, nothing when it is none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def statement_of(sums: Mapping[str, str], seal: str, report: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the in-toto Statement about a bundle: its files, and what its report says of outcome, plan and gates."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest}} for name, digest in sorted({**sums, SEAL: seal}.items())
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "outcome": report.get("outcome"),
            "plan_sha256": sums.get(PLAN, sums.get(TRIED_PLAN)),
            "gates": {str(gate.get("id")): gate.get("status") for gate in _mappings(report.get("gates"))},
        },
    }


@dataclass
class Audit:
    """What was found about one bundle: ``findings`` are tampering or damage, ``unchecked`` what could not be checked.

    ``warnings`` change nothing and allow it; ``signature`` is the fingerprint of the key that the seal's signature claims, and
    ``sealed_by`` the names of its owner on the auditor's list, once verified. ``facts`` are what was verified, by subject. All texts are one line each and
    harmless on a terminal.
    """

    path: str
    findings: List[str] = field(default_factory=list)
    unchecked: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    facts: List[Tuple[str, str]] = field(default_factory=list)
    seal: str = ""
    signature: str = UNSIGNED
    sealed_by: Tuple[str, ...] = ()
    missing: str = ""
    pruned: str = ""  # the one of ``unchecked`` that accounts for a backup that was deleted

    @property
    def code(self) -> int:
        """Return the exit code."""
        if self.missing:
            return NO_BUNDLE
        return NOT_INTACT if self.findings else NOT_CHECKED if self.unchecked else INTACT

    @property
    def verdict(self) -> str:
        """Return the result in a few words."""
        if self.missing:
            return f"no such bundle: {self.missing}"
        words = {
            NOT_INTACT: "NOT INTACT: do not rely on this bundle",
            NOT_CHECKED: "nothing wrong was found, but NOT everything was CHECKED",
        }
        return words.get(self.code, "OK, all files as sealed, none missing or added, journal unbroken")

    def as_dict(self) -> Dict[str, Any]:
        """Return the result as a plain mapping."""
        lists = {name: [escaped(one) for one in getattr(self, name)] for name in ("findings", "unchecked", "warnings")}
        facts = [{"about": about, "text": escaped(text)} for about, text in self.facts]
        top = {
            "bundle": escaped(self.path),
            "verdict": escaped(self.verdict),
            "exit_code": self.code,
            "seal": self.seal,
            "signature": self.signature,
            "sealed_by": list(self.sealed_by),
        }
        return {**top, **lists, "facts": facts}

    def lines(self) -> List[str]:
        """Return the result for a terminal."""
        rows = [
            ("audit", self.verdict),
            ("bundle", self.path),
            *([("seal", self.seal)] if self.seal else []),
            *self.facts,
        ]
        for word, texts in (("warning", self.warnings), ("NOT CHECKED", self.unchecked), ("FINDING", self.findings)):
            rows += [(word, text) for text in texts]
        return [f"{word:<13} {escaped(text)}" for word, text in rows]


def verify(path: str, unread: Tuple[str, ...] = ()) -> Audit:
    """Check the files of a bundle against its seal, and its journal; neither signatures nor other bundles.

    What the seal lists below names that begin as one of ``unread`` is not read, and may be gone. Raises ``OSError``.
    """
    return _Auditor(path, unread=unread).audit


def audit(
    path: str,
    signers: Optional[Signers] = None,
    seal: str = "",
    others: Sequence[str] = (),
    authorities: bytes = b"",
) -> Audit:
    """Audit a bundle: seal, journal, signatures, approvals, register, and the bundles that it names.

    ``signers`` is the auditor's list, ``seal`` the recorded SHA-256 of SHA256SUMS, ``others`` are paths of further bundles; those
    beside the bundle are found, too. ``authorities`` are certificates (PEM) of time-stamp authorities. Raises ``OSError``.
    """
    if no_bundle(path):
        return Audit(path, missing=no_bundle(path))
    auditor = _Auditor(path, signers, others)
    auditor.authorities = authorities
    auditor.everything(seal)
    return auditor.audit


class _Auditor:
    """One bundle under audit. The constructor compares files, seal and journal."""

    def __init__(
        self, path: str, signers: Optional[Signers] = None, others: Sequence[str] = (), unread: Tuple[str, ...] = ()
    ) -> None:
        self.path = os.path.realpath(path)
        self.asked = os.path.basename(os.path.abspath(path))
        self.audit = Audit(path)
        self.signers = signers
        self.others = {os.path.basename(os.path.realpath(one)): os.path.realpath(one) for one in others}
        self.listed: Dict[str, str] = {}
        self.entries: List[Dict[str, Any]] = []
        if not os.path.isdir(path):
            self.audit.findings.append(f"{path} is not a directory")
            return
        self.tree = Tree(self.path)
        self.find(
            f"{name}: no bundle has directories so deep; what is in it was not looked at" for name in self.tree.deep
        )
        unusable = unusable_seal(self.tree)
        self.find(unusable)
        if not unusable:
            self._try(lambda: self._files(unread))
            self._try(lambda: self._journal(unread))

    def _try(self, check: Callable[[], None]) -> None:
        """Make one check; one that cannot be made must not hide the others."""
        try:
            check()
        except (NotCheckedError, OSError, RecursionError) as error:
            if f"{error}" not in self.audit.unchecked:
                self.audit.unchecked.append(f"{error}")
        except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
            self.find(
                [
                    f"something in the bundle has another form than the collection writes: {type(error).__name__}: {error}"
                ]
            )

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    def find(self, texts: Iterable[str]) -> None:
        """Note findings."""
        self.audit.findings += texts

    def fact(self, about: str, text: str) -> None:
        """Note what was verified, or is known."""
        self.audit.facts.append((about, text))

    # what every bundle has

    def _files(self, unread: Tuple[str, ...]) -> None:
        data = self.tree.read(SEAL)
        self.audit.seal = sha256(data)
        self.listed, findings = parse_sums(data)
        self.find(findings)
        gone = {name for name in self.listed if unread and name.startswith(unread)}
        gone |= self._pruned(gone)
        kept = {name: digest for name, digest in self.listed.items() if name not in gone}
        found, unreadable = compare_with_sums(self.tree, kept, set(self.tree.files) - set(OUTSIDE) - gone)
        self.find(found)
        self.audit.unchecked += unreadable

    def _pruned(self, unread: Set[str]) -> Set[str]:
        """Return the files of a backup that is gone and that a record beside the bundle names as pruned; ``unread`` are others'."""
        try:
            record = parse_json(read(f"{self.path}{PRUNED}", _SMALL))
        except (OSError, ValueError, NotCheckedError):
            return set()
        backup = record.get("file") if isinstance(record, dict) else None
        if backup not in BACKUPS or record.get("bundle") != self.name or record.get("seal") != self.audit.seal:
            return set()
        files = {name for name in self.listed if name == backup or name.startswith(f"{backup}/")} - unread
        if not files or files & set(self.tree.files):
            return set()
        what = "left on its host" if record.get("left") is True else "pruned"
        self.audit.pruned = (
            f"{backup} was {what}, named by {self.name}{PRUNED}: {record.get('at')}, {record.get('why')}"
        )
        self.audit.unchecked.append(self.audit.pruned)
        self.pruned = str(backup)
        return files

    pruned = recorded = ""
    verified = 0
    authorities = b""

    def _journal(self, unread: Tuple[str, ...]) -> None:
        if JOURNAL in self.tree.files and not self.tree.regular(JOURNAL):
            return
        if JOURNAL not in self.tree.files and JOURNAL in self.listed:
            return
        data = b""
        try:
            data = self.tree.read(JOURNAL)
            self.entries = journal_entries(data)
        except BrokenJournalError as broken:
            why = journal_damage(data, broken.number)
            self.find(
                [
                    f"The journal is not intact at line {broken.number}: {why}; expected {broken.expected}; found {broken.found}"
                ]
            )
            return
        except (OSError, NotCheckedError) as error:
            self.audit.unchecked.append(f"{JOURNAL} cannot be read: {error}")
            return
        unfinished = _unfinished(data, self.entries)
        if unfinished:
            self.find([unfinished])
            return
        self._place(self.entries[-1]["data"], unread)
        self._recorded(unread)

    def _place(self, sealed: Mapping[str, Any], unread: Tuple[str, ...]) -> None:
        """Compare the directory's name, and the directories in it, with those that were sealed."""
        name, findings = sealed.get("name"), []
        if name is not None and name != self.name:
            what = (
                "another run's bundle is under this name"
                if RUN_NAME.fullmatch(self.name)
                else "the directory was renamed"
            )
            findings.append(f"{what}: it was sealed as {name}, and is called {self.name}")
        elif name is not None and name != self.asked and RUN_NAME.fullmatch(self.asked):
            findings.append(f"{self.asked} is a link to another run's bundle: it was sealed as {name}")
        folders = sealed.get("directories")
        if isinstance(folders, list):
            gone = tuple(one for one in (*unread, self.pruned and f"{self.pruned}/") if one)
            expected, present = {str(one) for one in folders}, set(self.tree.folders)
            lost = {one for one in expected - present if not f"{one}/".startswith(gone)} if gone else expected - present
            findings += [f"directory {one} was there when the run was sealed, and is missing" for one in lost]
            findings += [f"directory {one} was added after the run was sealed" for one in present - expected]
        self.find(sorted(findings))

    def _told(self, entry: Mapping[str, Any]) -> Dict[str, str]:
        """Return the digests of files that an entry of the journal records, by name."""
        data, at = entry["data"], (entry["step"], entry["event"])
        files = data.get("files")
        if at == ("run", "register") and isinstance(files, dict):
            return {f"{REGISTER}{name}": str(digest) for name, digest in files.items()}
        if at == ("run", "seal") and isinstance(files, dict):
            return {str(name): str(digest) for name, digest in files.items()}
        if at == ("C-05", "done") and isinstance(files, list):
            return {str(one.get("name")): str(one.get("sha256")) for one in files if isinstance(one, dict)}
        if at == ("run", "open") and data.get("plan_sha256"):
            tried = data.get("kind") == "rehearsal" and PLAN not in self.listed
            return {TRIED_PLAN if tried else PLAN: str(data["plan_sha256"])}
        backup = data.get("backup")
        if at == ("C-01", "done") and isinstance(backup, dict):
            # one in the form of a directory has no file of its name, but a list of its files
            name = next(
                (one for one in (str(backup.get("file")), f"{backup.get('file')}.sha256") if one in self.listed), ""
            )
            return {name: str(backup.get("sha256"))} if name else {}
        return {}

    def _recorded(self, unread: Tuple[str, ...]) -> None:
        """Compare the digests that the journal recorded with those of the seal; a later entry about a file replaces earlier ones."""
        recorded: Dict[str, Tuple[str, int]] = {}
        seals = [entry["seq"] for entry in self.entries if entry["event"] == "seal"]
        for entry in self.entries:
            told = self._told(entry)
            if entry["seq"] in seals:
                # an earlier seal is that of the bundle that this run continued
                recorded = {name: one for name, one in recorded.items() if one[1] not in seals}
                told = {name: digest for name, digest in told.items() if name not in recorded}
            elif any(name.startswith(REGISTER) for name in told):
                recorded = {name: one for name, one in recorded.items() if not name.startswith(REGISTER)}
            recorded.update({name: (digest, entry["seq"]) for name, digest in told.items()})
        for name, (digest, seq) in sorted(recorded.items()):
            if name in self.tree.files and self.listed.get(name) not in (digest, None):
                self.find(
                    [f"{name} was replaced: SHA-256 is {self.listed[name]}, entry {seq} of the journal has {digest}"]
                )
            elif name not in self.listed and name not in self.tree.files:
                self.find([f"{name} was removed: entry {seq} of the journal has it with SHA-256 {digest}"])
        self._complete(set(recorded), unread)

    def _complete(self, recorded: Set[str], unread: Tuple[str, ...]) -> None:
        """Find what was added or removed, and compare what the journal has no digest of. ``recorded`` are the names that it has."""
        sealed = self.entries[-1]["data"]
        if (whole := isinstance(sealed.get("files"), dict)) or recorded:
            known = {name for name in self.listed if name.startswith(REGISTER) or (whole and not written_last(name))}
            self.find(f"{name} was added: the journal does not have it" for name in sorted(known - recorded))
        if whole:
            self._try(lambda: self._reported(str(sealed.get("outcome")), str(sealed.get("title"))))
        if LOG in recorded:
            # earlier releases did not record it, and may have written fewer reports
            gone = [name for name in REPORTS if name not in self.listed and name not in self.tree.files]
            self.find(f"{name} was removed: a sealed run has it" for name in gone)
        for backup in BACKUPS:
            if self.pruned != backup and not f"{backup}/".startswith(unread or ("/",)):
                self._listed(backup)

    def _listed(self, backup: str) -> None:
        """Compare the files of a backup in a directory with its list, whose digest the journal has."""
        listing = f"{backup}.sha256"
        if not self.tree.regular(listing):
            return
        listed, findings = parse_sums(self.tree.read(listing))
        present = {name for name in self.tree.files if name.startswith(f"{backup}/")}
        found, unread = compare_with_sums(self.tree, listed, present, listing)
        self.find([*findings, *found])
        self.audit.unchecked += unread

    def _reported(self, outcome: str, title: str) -> None:
        """Compare the reports, which are written after the journal's last entry, with what that has of them."""
        # one that is not as sealed has a finding already
        as_sealed = [
            name for name in REPORTS if self.tree.regular(name) and self.tree.sha256(name) == self.listed.get(name)
        ]
        if REPORTS[0] in as_sealed:
            found = self.tree.json(REPORTS[0]).get("outcome")
            if found != outcome:
                self.find([f"{REPORTS[0]} says {found or 'nothing that can be read'}: the journal has {outcome}"])
        if SUMMARY in as_sealed:
            first = self.tree.read(SUMMARY).decode("utf-8", "replace").partition("\n")[0]
            if first != escaped(title):
                self.find([f"{SUMMARY} begins with {escaped(first)!r}: the journal has {escaped(title)!r}"])

    # what an auditor asks for

    def everything(self, seal: str) -> None:
        """Check what the constructor did not."""
        if not self.listed:
            return
        self.recorded = seal.strip().lower()
        if self.recorded and self.recorded != self.audit.seal:
            self.find([f"the seal differs from the recorded one, {seal}: the bundle was sealed anew"])
        else:
            self.fact(
                "seal check", "matches the recorded seal" if self.recorded else "skipped: no recorded seal was given"
            )
        opening: Dict[str, Any] = self.opening
        report: Dict[str, Any] = {}
        self._try(lambda: report.update(self.tree.json(REPORTS[0])))
        self.fact(
            "run",
            f"{opening.get('kind') or 'not opened'} of {opening.get('phase') or '-'}, {report.get('outcome')} by its report",
        )
        for check in (
            self._warn, self._seal_signature, lambda: self._statement(report), self._timestamp, self._own_copy, self._register,
            self._approvals, self._requests, self._links,
        ):  # fmt: skip
            self._try(check)

    @property
    def opening(self) -> Dict[str, Any]:
        """Return what the run was opened with."""
        return next((one["data"] for one in self.entries if (one["step"], one["event"]) == ("run", "open")), {})

    def _warn(self) -> None:
        for name, status in [
            (".", os.lstat(self.path)),
            *sorted(self.tree.folders.items()),
            *sorted(self.tree.files.items()),
        ]:
            mode = stat.S_IMODE(status.st_mode)
            if mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISLNK(status.st_mode):
                self.audit.warnings.append(
                    f"{'the bundle' if name == '.' else name} can be changed by other users: mode {mode:04o}"
                )
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                self.audit.warnings.append(
                    f"{name} has {status.st_nlink} names (hard links): it can be changed through another one"
                )

    def _at(self, *, gate: str = "") -> str:
        """Return when the run was sealed, or last evaluated a gate, by its journal, as ssh-keygen takes it; '' if unknown."""
        chosen = [one for one in self.entries if not gate or any(of.get("id") == gate for of in _gates(one))]
        digits = re.sub(r"\D", "", str(chosen[-1]["at"]))[:14] if chosen else ""
        return digits if len(digits) == 14 else ""  # noqa: PLR2004

    def _list(self, at: str) -> Optional[Signers]:
        return Signers(self.signers.data, self.signers.source, at) if self.signers else None

    def _seal_signature(self) -> None:
        if not self.tree.regular(SIGNATURE) and not self.signers:
            doubt = (
                "" if self.recorded else ": whoever could write here could also seal it again, compare a recorded seal"
            )
            self.fact("signature", UNSIGNED + doubt)
            return
        signature = parse_signature(self.tree.read(SIGNATURE, _SMALL))
        self.audit.signature = signature.fingerprint if signature else UNSIGNED
        findings = list(seal_signature_findings(self.tree, self._list(self._at())))
        self.find(findings[:1])
        if signature and not findings:
            self.audit.sealed_by = tuple(self.signers.names(signature.key)) if self.signers else ()
            self.fact("signature", self._who(signature.key))

    def _who(self, key: bytes) -> str:
        if not self.signers:
            return f"by key {fingerprint(key)}, which was compared with no list (--allowed-signers)"
        return f"by {', '.join(self.signers.names(key))}, key {fingerprint(key)}, verified with {self.signers.source}"

    def _statement(self, report: Mapping[str, Any]) -> None:
        if not self.tree.regular(STATEMENT):
            return
        envelope = self.tree.json(STATEMENT)
        body, signatures = decoded(str(envelope.get("payload", ""))), envelope.get("signatures")
        one = (
            signatures[0]
            if isinstance(signatures, list) and len(signatures) == 1 and isinstance(signatures[0], dict)
            else {}
        )
        data = armored(decoded(str(one.get("sig", ""))))
        message = pae(str(envelope.get("payloadType")), body)
        findings = list(
            signature_findings(
                STATEMENT,
                data,
                (STATEMENT_NAMESPACE,),
                "the statement",
                message,
                "statement: it was changed",
                self._list(self._at()),
            )
        )
        try:
            statement = parse_json(body)
        except ValueError:
            statement = None
        if not findings and statement != statement_of(self.listed, self.audit.seal, report):
            findings = [
                f"{STATEMENT} is about other files, or says something else of the run than {SEAL} and report.json"
            ]
        self.find(findings[:1])
        signature = parse_signature(data)
        if signature and not findings:
            self.fact("statement", self._who(signature.key))

    def _timestamp(self) -> None:
        """Verify the RFC 3161 time-stamp of the seal; who made it only with the auditor's authorities."""
        if not self.tree.regular(TIMESTAMP):
            return
        data = self.tree.read(TIMESTAMP, _SMALL)
        # the imprint, as DER has a string of 32 bytes
        if b"\x04\x20" + bytes.fromhex(self.audit.seal) not in data:
            self.find(
                [f"{TIMESTAMP} is no time-stamp of this {SEAL}: the bundle was sealed again, or it is another one's"]
            )
            return
        if not self.authorities:
            self.fact("time-stamp", "of this seal, compared with no authority (--tsa-ca)")
            return
        files = {"@stamp": data, "@seal": self.tree.read(SEAL), "@ca": self.authorities}
        _code, text = _output("openssl", ["ts", "-reply", "-in", "@stamp", "-text"], b"", files)
        # what stands before the token is signed by nobody, and can imitate it
        signed = text.rpartition("TST info:\n")[2]
        # many authorities stamp fractions of a second
        stamped = re.search(r"(?m)^Time stamp: (.*:\d\d)(\.\d+)?( \d+) GMT$", signed)
        try:
            moment = datetime.datetime.strptime(
                f"{stamped[1]}{stamped[3]} +0000" if stamped else "", "%b %d %H:%M:%S %Y %z"
            )
        except ValueError:
            self.find([f"{TIMESTAMP} is not a time-stamp that openssl can read"])
            return
        # a certificate that expired since was valid when it stamped
        at = str(int(moment.timestamp()))
        verify = ["ts", "-verify", "-in", "@stamp", "-data", "@seal", "-CAfile", "@ca", "-attime", at]
        said = _run("openssl", verify, b"", files)
        if said:
            self.find([f"openssl rejects {TIMESTAMP}: {said.splitlines()[-1]}"])
            return
        # the whole second that was not over yet
        when = (moment + datetime.timedelta(seconds=bool(stamped and stamped[2]))).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.fact("time-stamp", f"sealed before {when}, verified with your authorities")

    def _own_copy(self) -> None:
        if AUDITOR not in self.listed:
            self.fact("auditor", f"the bundle has no {AUDITOR}: it was sealed by a release that wrote none")
            return
        own, digest = sha256(source()), self.listed[AUDITOR]
        if os.path.realpath(__file__) == self.tree.path(AUDITOR):
            self.audit.unchecked.append(
                f"this auditor is the bundle's own {AUDITOR}, which vouches for itself: use one from elsewhere"
            )
        elif digest == own:
            self.fact("auditor", f"the bundle's {AUDITOR} is this auditor")
        elif digest in RELEASED:
            self.fact("auditor", f"the bundle's {AUDITOR} is that of release {RELEASED[digest]}")
        else:
            self.find(
                [
                    f"{AUDITOR} differs from this auditor and from those of the releases that it knows: SHA-256 is {digest}, this one's is"
                    f" {own}; either a newer release sealed the bundle (audit it with that one), or {AUDITOR} was replaced"
                ]
            )

    # approvals

    def _snapshot(self) -> Optional[Signers]:
        """Return the register's list of reviewers as it is in the bundle."""
        name = f"{REGISTER}allowed_signers"
        if name not in self.listed or not self.tree.regular(name):
            return None
        revoked = (
            self.tree.read(f"{REGISTER}revoked_keys", _SMALL) if self.tree.regular(f"{REGISTER}revoked_keys") else None
        )
        return Signers(self.tree.read(name, _SMALL), f"the bundle's {name}", self._at(gate="G-1"), revoked)

    def _register(self) -> None:
        snapshot = self._snapshot()
        if snapshot is None:
            self.fact("register", "the bundle has no register of reviewers")
            return
        entitled = [f"{', '.join(names)} {fingerprint(key)}" for names, key in snapshot.lines()]
        self.fact(
            "register",
            f"entitled when the gates were evaluated: {'; '.join(entitled)}; {self._threshold()} have to approve",
        )
        if self.signers:
            known = {key for _names, key in self.signers.lines()}
            strange = [f"{', '.join(names)} {fingerprint(key)}" for names, key in snapshot.lines() if key not in known]
            self.audit.warnings += [f"the register had {one}, who is not in {self.signers.source}" for one in strange]

    def _policy(self) -> Dict[str, Any]:
        return self.tree.json(f"{REGISTER}policy.json")

    def _threshold(self) -> int:
        found = self._policy().get("threshold")
        texts = [str(gate.get("expected")) for gate in self._evaluated()]
        asked = [int(match[1]) for match in (re.search(r"\b(\d{1,4}) approvals of", text) for text in texts) if match]
        return found if type(found) is int and found > 0 else asked[0] if asked else _THRESHOLD

    def _approvals(self) -> None:
        """Verify the signatures of plan.json; where G-1 passed, as many as were required have to be valid."""
        if PLAN not in self.listed or not self.tree.regular(PLAN):
            return
        gate = next(iter(self._evaluated()), {}).get("status")
        if gate not in ("PASS", "FAIL"):
            self.fact("approvals", f"G-1 is {gate}: nobody had to approve" if gate else "G-1 was not evaluated")
            return
        valid = self._signed(PLAN, PLAN_NAMESPACES, "plan", sha256(self.tree.read(PLAN)))
        if self.opening.get("kind") != "rollback":
            self._enough(PLAN, valid)

    def _evaluated(self) -> Iterator[Dict[str, Any]]:
        """Yield G-1 as the journal has it, the newest evaluation first."""
        for entry in reversed(self.entries):
            yield from (one for one in _gates(entry) if one.get("id") == "G-1")

    def _enough(self, document: str, valid: Sequence[FrozenSet[str]]) -> None:
        """Require as many approvals of a document as were required, where G-1 passed."""
        if next(iter(self._evaluated()), {}).get("status") == "PASS" and len(valid) < self._threshold():
            self.find(
                [f"G-1 is PASS in the journal, but {len(valid)} of {self._threshold()} approvals of {document} count"]
            )

    def _requests(self) -> None:
        """Verify the signatures of the other documents that people sign: of a rollback, and of reviews."""
        signed = {name.rpartition(".")[0].rpartition(".")[0] for name in self.listed if name.endswith(".sig")}
        kinds: Set[str] = set()
        typed = self._policy().get("rollback") == "confirmation"
        for name in sorted((signed | {one for one in self.listed if one.endswith(".json")}) - {PLAN}):
            request = self.tree.json(name) if self.tree.regular(name) and self.tree.files[name].st_size < _SMALL else {}
            kind, namespaces = REQUESTS.get(str(request.get("format")), ("", ()))
            if not kind:
                continue
            kinds.add(kind)
            named = str(request.get("execution" if kind == "rollback" else "bundle"))
            valid = self._signed(name, namespaces, f"{kind} of {named}", sha256(self.tree.read(name, _SMALL)))
            self._linked(f"{kind} of", named, str(request.get("seal")), name)
            if kind == "rollback" and named != self.opening.get("execution"):
                self.find(
                    [f"{name} permits the rollback of {named}; this run rolled back {self.opening.get('execution')}"]
                )
            if kind == "rollback" and not typed:
                self._enough(name, valid)
        rolls_back = self.opening.get("kind") == "rollback" and any(_gates(entry) for entry in self.entries)
        if rolls_back and "rollback" not in kinds and not typed and self._snapshot():
            self._enough("the rollback, whose request is missing", [])

    def _signed(self, document: str, namespaces: Sequence[str], about: str, digest: str) -> List[FrozenSet[str]]:
        """Return the people who validly signed a document; what is said about each signature goes to the facts."""
        at = self._at(gate="G-1")
        signers = self._list(at) or self._snapshot()
        author = fold(str(self.tree.json(PLAN).get("author", "")))
        people: List[FrozenSet[str]] = []
        for name in sorted(one for one in self.listed if one.startswith(f"{document}.") and one.endswith(".sig")):
            self.verified += 1
            if self.verified > _SIGNATURES:
                self.find([f"more than {_SIGNATURES} signatures: {name} was not verified"])
                break
            label = name[len(document) + 1 : -len(".sig")]
            if name.endswith(".notes.md.sig"):
                continue
            data, content = self.tree.read(name, _SMALL), self.tree.read(document)
            wrong = list(
                signature_findings(
                    name, data, namespaces, document, content, f"{document}: one of them is another one's", signers
                )
            )[:1]
            signature = parse_signature(data)
            notes = f"{document}.{label}.notes.md"
            if not wrong and signature and (notes in self.listed or signature.namespace.startswith("notes@")):
                wrong = list(self._notes(notes, signature, digest, signers))[:1]
            person = signers.person(signature.key) if signers and signature else frozenset({label})
            if not wrong and author in person and not self._policy().get("author_may_approve"):
                wrong = [f"{author} is the plan's author, who cannot approve it"]
            if not wrong and any(person & other for other in people):
                wrong = ["the same person approved before"]
            if wrong or not signature:
                self.fact("approvals", f"{about}: {label} does NOT count: {''.join(wrong)}")
                continue
            people.append(person)
            by = f"verified with {signers.source}" if signers else "which was compared with no list (--allowed-signers)"
            self.fact("approvals", f"{about}: {label}, key {signature.fingerprint}, {by}")
        return people

    def _notes(self, name: str, signature: Signature, digest: str, signers: Optional[Signers]) -> Iterator[str]:
        """Yield why the notes beside a signature do not count."""
        if not self.tree.regular(name) or not self.tree.regular(f"{name}.sig"):
            yield f"it was given with notes, and {name} or its signature is missing"
            return
        text, data = self.tree.read(name, _SMALL), self.tree.read(f"{name}.sig", _SMALL)
        yield from signature_findings(
            f"{name}.sig", data, PLAN_NAMESPACES[1:], name, text, f"{name}: it was changed", signers
        )
        signed = parse_signature(data)
        if signed and signed.key != signature.key:
            yield f"{name} was signed by another key, {signed.fingerprint}"
        if digest.encode() not in text.split(b"\n", 1)[0]:
            yield f"{name} is about another document: its first line does not have SHA-256 {digest}"

    # other bundles

    def _links(self) -> None:
        """Compare what the bundle says about its rehearsal, the run that it continues or rolls back, with those bundles."""
        rehearsal = self.tree.json(PLAN).get("rehearsal") if self.tree.regular(PLAN) else None
        if isinstance(rehearsal, dict):
            self._linked("rehearsal", str(rehearsal.get("bundle")), str(rehearsal.get("seal")), PLAN, kind="rehearsal")
        for one in self.entries:
            if (one["step"], one["event"]) == ("run", "continue"):
                self._linked("continues", str(one["data"].get("bundle")), str(one["data"].get("seal")), JOURNAL)
        execution = self.opening.get("execution")
        if execution:
            self._linked("rolls back", str(execution), "", JOURNAL, kind="execute", same_plan=True)
        if self.opening.get("kind") == "execute":
            for name, path in sorted({**self._beside(), **self.others}.items()):
                if "_rollback_" in name and _opening(path).get("execution") == self.name:
                    self.fact("link", f"{name} is a rollback of this run; audit it, too")

    def _beside(self) -> Dict[str, str]:
        """Return the bundles beside this one."""
        parent = os.path.dirname(self.path)
        try:
            names = [name for name in os.listdir(parent) if RUN_NAME.fullmatch(name) and name != self.name]
        except OSError:
            return {}
        paths = {name: os.path.join(parent, name) for name in names}
        return {name: path for name, path in paths.items() if os.path.isdir(path) and not os.path.islink(path)}

    def _linked(self, what: str, name: str, seal: str, where: str, kind: str = "", *, same_plan: bool = False) -> None:
        """Compare one bundle that this one names in the file ``where`` with what is known of it."""
        path = {**self._beside(), **self.others}.get(name)
        if path is None:
            self.fact(
                "link", f"{what} {name}{f', seal {seal}' if seal else ''}: not here, give its path to have it checked"
            )
            return
        other = _Auditor(path)
        if seal and other.audit.seal != seal:
            self.find(
                [f"{where} names {name} with seal {seal}; the bundle of that name has {other.audit.seal or 'none'}"]
            )
            return
        wrong = other.audit.findings[:3]
        if not wrong and kind and other.opening.get("kind") != kind:
            wrong = [f"it is the bundle of another kind of run: {other.opening.get('kind')}"]
        if not wrong and same_plan and other.listed.get(PLAN) != self.listed.get(PLAN):
            wrong = [f"its {PLAN} is another one than this run's"]
        self.find(f"the bundle that {where} names, {name}: {one}" for one in wrong)
        self.audit.unchecked += [f"{name}: {one}" for one in other.audit.unchecked]
        if not wrong:
            self.fact("link", f"{what} {name}: intact{', with the seal that ' + where + ' names' if seal else ''}")


def _gates(entry: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return the gates that an entry of a journal has."""
    return _mappings(entry["data"].get("gates"))


def _opening(path: str) -> Dict[str, Any]:
    """Return what the run in a directory was opened with, without checking anything; empty when that is unknown."""
    try:
        entries = journal_entries(read(os.path.join(path, JOURNAL)))
    except (OSError, NotCheckedError, BrokenJournalError):
        return {}
    return next((one["data"] for one in entries if (one["step"], one["event"]) == ("run", "open")), {})


def source() -> bytes:
    """Return the bytes of this very file, wherever it was loaded from."""
    loader: Any = globals()["__loader__"]
    data = loader.get_data(__file__)
    return bytes(data)


# --- the command line ----------------------------------------------------------------------------------------------


def _require_values(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error where an option was given without a value, such as that of an unset variable."""
    for name in ("bundle", "allowed_signers", "seal", "tsa_ca"):
        given = getattr(options, name)
        if given is not None and not all(one.strip() for one in (given if isinstance(given, list) else [given])):
            parser.error(
                f"an empty value for {name.replace('_', '-')}: find out which variable is not set, or leave it out"
            )
    if options.seal and not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", options.seal):
        parser.error(escaped(f"not a SHA-256, 64 hexadecimal digits: {options.seal}"))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Audit the bundles that the command line names and return the exit code."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=AUDITOR,
        description="Audit sealed bundles.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=form,
    )
    parser.add_argument(
        "bundle",
        nargs="+",
        help="the directory of a bundle; further ones are audited and searched for what the others name",
    )
    parser.add_argument(
        "--allowed-signers", metavar="FILE", help="your list of those who may seal and approve, as of ssh-keygen(1)"
    )
    parser.add_argument("--seal", metavar="SHA256", help="the seal of the first bundle as it was recorded elsewhere")
    parser.add_argument(
        "--tsa-ca", metavar="FILE", help="certificates (PEM) of the authorities whose time-stamps you trust"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    _require_values(parser, options)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    signers, authorities = None, b""
    try:
        if options.tsa_ca:
            authorities = read(os.path.realpath(options.tsa_ca), _SMALL)
        if options.allowed_signers:
            signers = Signers(read(os.path.realpath(options.allowed_signers), _SMALL), options.allowed_signers)
    except (OSError, NotCheckedError) as error:
        parser.error(escaped(f"the list of signers, or of authorities, cannot be read: {error}"))
    results = []
    for number, path in enumerate(options.bundle):
        try:
            result = audit(path, signers, (options.seal or "") if number == 0 else "", options.bundle, authorities)
        except OSError as error:
            result = Audit(path, unchecked=[f"{path} cannot be read: {error}"])
        results.append(result)
    codes = {result.code for result in results}
    code = next((one for one in (NOT_INTACT, NO_BUNDLE, NOT_CHECKED) if one in codes), INTACT)
    if options.json:
        made = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {
            "auditor": sha256(source()),
            "at": made,
            "exit_code": code,
            "bundles": [one.as_dict() for one in results],
        }
        print(json.dumps(document, indent=2))
    else:
        print("\n\n".join("\n".join(result.lines()) for result in results))
    return code


if __name__ == "__main__":
    sys.exit(main())
