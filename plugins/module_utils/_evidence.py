# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The artefact directory of a run: atomic files, the seal, and the check of a sealed bundle.

A directory is *sealed* when it has ``SHA256SUMS``, which is written last. Nothing may change after that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
from dataclasses import dataclass
from typing import IO, Any, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError, advice
from ansible_collections.incomex.phasegate.plugins.module_utils._journal import Journal

SEAL = "SHA256SUMS"
# An SSH signature over the seal, where there is a key for it.
SIGNATURE = "SHA256SUMS.sig"
JOURNAL = "journal.jsonl"
PARTIAL = ".partial"
FOLDERS = ("schema", "sql", "logs")
_SUM_LINE = re.compile(r"^(?P<digest>[0-9a-f]{64})  (?P<name>[^\0\n]+)$")


def sha256_file(path: str) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def fsync_directory(path: str) -> None:
    """Make a rename or a new name in this directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class HashingWriter:
    """A binary file that is hashed while it is written. ``size`` in bytes; ``sha256`` in hex after the last write."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write and hash ``data``."""
        self._digest.update(data)
        self.size += len(data)
        return self._stream.write(data)

    @property
    def sha256(self) -> str:
        """Return the digest of everything written so far."""
        return self._digest.hexdigest()


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[HashingWriter]:
    """Write ``path`` through ``path.partial``; it appears under its name complete and on disk, or not at all."""
    partial = path + PARTIAL
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield HashingWriter(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
        fsync_directory(os.path.dirname(path) or ".")
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        # a failed write (no space left) does not name its file
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path
        raise


@contextlib.contextmanager
def atomic_directory(path: str) -> Iterator[str]:
    """Yield the new empty directory ``path.partial``; it becomes ``path`` complete and on disk, or is removed.

    The block makes the files in it durable; an existing directory is replaced.
    """
    partial = path + PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    os.mkdir(partial, 0o700)
    try:
        yield partial
        for folder, _folders, _files in os.walk(partial):
            fsync_directory(folder)
        if os.path.isdir(path):
            shutil.rmtree(path)
        os.rename(partial, path)
        fsync_directory(os.path.dirname(path) or ".")
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path
        raise


def remove_partial(path: str) -> list[str]:
    """Delete the partial files of killed writers in a directory, and return their names, relative and sorted."""
    found = []
    for folder, folders, files in os.walk(path):
        found += [os.path.relpath(os.path.join(folder, name), path) for name in files if name.endswith(PARTIAL)]
        found += [os.path.relpath(os.path.join(folder, name), path) for name in folders if name.endswith(PARTIAL)]
        folders[:] = [name for name in folders if not name.endswith(PARTIAL)]
    for name in found:
        target = os.path.join(path, name)
        if os.path.isdir(target) and not os.path.islink(target):
            shutil.rmtree(target)
        else:
            os.unlink(target)
    return sorted(found)


@dataclass(frozen=True)
class Artefacts:
    """An artefact directory by its path."""

    path: str

    @property
    def journal(self) -> Journal:
        """Return the run's journal."""
        return Journal(os.path.join(self.path, JOURNAL))

    @property
    def sealed(self) -> bool:
        """Return whether the seal was set."""
        return os.path.lexists(os.path.join(self.path, SEAL))

    def create(self) -> None:
        """Make the directory and its folders, closed to other users. Existing ones are left unchanged."""
        for folder in FOLDERS:
            os.makedirs(self.file(folder), mode=0o750, exist_ok=True)
        fsync_directory(os.path.dirname(self.path))

    @property
    def has_run(self) -> bool:
        """Return whether this is the directory of a run, not a plain one of a module that is used on its own."""
        return os.path.isfile(self.file(JOURNAL))

    def require_run(self) -> None:
        """Raise ``PhaseGateError`` unless this is the directory of a run that is not sealed yet."""
        if not self.has_run:
            raise PhaseGateError(
                "No open run in this directory.",
                expected=f"an artefact directory with {JOURNAL}",
                found=f"{self.path} without one",
                next_step="open a run first (module run_open or run_prepare)",
            )
        self.require_unsealed()

    def require_unsealed(self) -> None:
        """Raise ``PhaseGateError`` when the seal was set."""
        if self.sealed:
            raise PhaseGateError(
                "This run is sealed; it cannot be changed.",
                expected="an open run",
                found=f"{SEAL} in {self.path}",
                next_step="open a new run",
            )

    @contextlib.contextmanager
    def busy(self, *, wait: bool = True) -> Iterator[None]:
        """Lock the directory while the backup is written into it beside the run's other steps.

        Waits for the current holder, or raises ``BlockingIOError``. The kernel releases the lock when the holder ends.
        """
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark the run as alive during the block; several steps may do so at the same time."""
        descriptor = os.open(self.file("logs"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    @property
    def working(self) -> bool:
        """Return whether a step is running."""
        try:
            descriptor = os.open(self.file("logs"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def sign_of_life(self) -> tuple[int, ...]:
        """Return a value that changes with every line of the journal; an empty tuple without a journal."""
        try:
            status = os.stat(self.file(JOURNAL))
        except FileNotFoundError:
            return ()
        return status.st_mtime_ns, status.st_size

    def file(self, name: str) -> str:
        """Return the path of an artefact by its name relative to the directory."""
        return os.path.join(self.path, name)

    def write(self, name: str, content: bytes) -> str:
        """Write one artefact atomically and return its SHA-256."""
        with atomic_file(self.file(name)) as out:
            out.write(content)
        return out.sha256

    def names(self) -> list[str]:
        """Return the names of all files below the directory, sorted, the seal and its signature left out."""
        return sorted(name for name in _walk(self.path) if name not in (SEAL, SIGNATURE))

    def sums(self) -> dict[str, str]:
        """Return the SHA-256 of every file by name. Leftover partial files are removed first."""
        remove_partial(self.path)
        return {name: sha256_file(self.file(name)) for name in self.names()}

    def seal(self, sums: Mapping[str, str]) -> str:
        """Write SHA256SUMS over every file, ``sums`` as the method of that name returns them; return its own SHA-256."""
        for name in sums:
            if "\n" in name:
                raise PhaseGateError(
                    "Cannot seal a file of the artefact directory.",
                    expected="file names without a line break",
                    found=repr(name),
                    next_step="phasegate writes no such file: find out who did, and rename or remove it",
                )
        return self.write(SEAL, os.fsencode("".join(f"{sums[name]}  {name}\n" for name in sorted(sums))))


def _walk(root: str) -> Iterator[str]:
    for folder, _folders, files in os.walk(root, followlinks=False):
        for name in files:
            yield os.path.relpath(os.path.join(folder, name), root)
        for name in _folders:
            if os.path.islink(os.path.join(folder, name)):
                yield os.path.relpath(os.path.join(folder, name), root)


def require_as_sealed(artefacts: Artefacts, name: str) -> None:
    """Raise ``PhaseGateError`` unless one file of a sealed bundle is as the seal lists it; ``verify`` checks all of them."""
    findings = _unusable_seal(artefacts)
    if not findings:
        listed, findings = _read_sums(artefacts)
        if name in listed:
            findings += compare(artefacts, {name: listed[name]}, {name} & set(artefacts.names()), SEAL)
        elif not findings:
            findings = [f"{SEAL} does not list {name}"]
    if findings:
        raise PhaseGateError(
            f"{artefacts.path} is not a sealed bundle with an intact {name}.",
            expected=f"{name} with the digest that {SEAL} lists",
            found="; ".join(findings),
            next_step="give the bundle of a run that has ended, and audit it (playbook audit) before you rely on it",
        )


def _unusable_seal(artefacts: Artefacts) -> list[str]:
    """Return why SHA256SUMS, or its signature, cannot be read; empty when it can."""
    if not artefacts.sealed:
        return [f"the bundle is not sealed: {SEAL} is missing"]
    # before it is opened: reading a pipe would wait for ever
    for name in (SEAL, SIGNATURE):
        if os.path.lexists(artefacts.file(name)) and not stat.S_ISREG(os.lstat(artefacts.file(name)).st_mode):
            return [f"{name} is not a regular file"]
    return []


def _read_sums(artefacts: Artefacts) -> tuple[dict[str, str], list[str]]:
    """Return the digests by name of a sealed bundle, and what is wrong with its SHA256SUMS."""
    with open(artefacts.file(SEAL), encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return _parse_sums(stream.read())


def verify(path: str) -> list[str]:
    """Return what is wrong with a sealed bundle, one sentence a finding; an empty list when it is intact.

    Checks that the seal exists and is well-formed, that every listed file is a regular file inside the bundle
    with the listed digest, that no file is missing or extra, that the journal's chain holds, and that the journal
    is complete: its last line is the run's seal.
    """
    artefacts = Artefacts(path)
    if not os.path.isdir(path):
        return [f"{path} is not a directory"]
    unusable = _unusable_seal(artefacts)
    if unusable:
        return unusable
    listed, findings = _read_sums(artefacts)
    present = set(artefacts.names())
    findings += compare(artefacts, listed, present, SEAL)
    return findings or _check_journal(artefacts)


def _check_journal(artefacts: Artefacts) -> list[str]:
    """Return what is wrong with a sealed run's journal, also when it is cut after a line, where its chain still holds."""
    try:
        entries = artefacts.journal.entries()
    except PhaseGateError as error:
        return [str(error).replace("\n", "; ")]
    data = b""
    if artefacts.has_run:
        with open(artefacts.file(JOURNAL), "rb") as stream:
            data = stream.read()
    if not data.endswith(b"\n") or (entries[-1].step, entries[-1].event) != ("run", "seal"):
        return [f"{JOURNAL} does not end with the run's seal"]
    return []


def _parse_sums(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the digests by name of a SHA256SUMS text, and what is wrong with it."""
    listed: dict[str, str] = {}
    findings: list[str] = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        match = _SUM_LINE.match(line)
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
    if not text.endswith("\n"):
        findings.append(f"{SEAL} is cut off: its last line has no end")
    return listed, findings


def compare(artefacts: Artefacts, listed: dict[str, str], present: set[str], listing: str) -> list[str]:
    """Return what is wrong with files by the digests that ``listing`` has of them, one sentence a file.

    Names are relative to the directory; ``present`` are those that exist.
    """
    findings = []
    for name in sorted(listed):
        if name not in present:
            findings.append(f"{name} is listed in {listing} but missing")
        elif not stat.S_ISREG(os.lstat(artefacts.file(name)).st_mode):
            findings.append(f"{name} is not a regular file (a symbolic link or a device)")
        else:
            found = sha256_file(artefacts.file(name))
            if found != listed[name]:
                findings.append(f"{name} was changed: SHA-256 is {found}, {listing} has {listed[name]}")
    return findings + [f"{name} is not listed in {listing}" for name in sorted(present - set(listed))]


def open_directory(path: str | None, *, check_mode: bool) -> Artefacts | None:
    """Return the artefact directory at ``path``, made when absent; None without a path and in check mode."""
    if path is None or check_mode:
        return None
    artefacts = Artefacts(path)
    artefacts.create()
    return artefacts


class Step:
    """One command of a run (``C-06``): its data goes to the journal with its outcome.

    Without an artefact directory (a module used without one, or check mode) nothing is written.
    """

    def __init__(self, artefacts: Artefacts | None, name: str) -> None:
        self.artefacts = artefacts
        self.name = name
        self.data: dict[str, Any] = {}

    def note(self, event: str, data: dict[str, Any]) -> None:
        """Journal something in the middle of the step; on disk when this returns."""
        if self.artefacts and self.artefacts.has_run:
            self.artefacts.journal.append(self.name, event, data)

    def file(self, name: str, content: bytes) -> None:
        """Write an artefact, when there is a directory."""
        if self.artefacts:
            self.artefacts.write(name, content)


@contextlib.contextmanager
def run_step(artefacts: Artefacts | None, name: str, intent: dict[str, Any] | None = None) -> Iterator[Step]:
    """Journal the intent of a step, run the block, and journal its outcome: ``done``, or ``failed`` with the reason.

    The error is raised to the caller. A directory that has no run, or none at all, gets no journal.
    """
    step = Step(artefacts, name)
    if step.artefacts:
        step.artefacts.require_unsealed()
    with artefacts.at_work() if artefacts and artefacts.has_run else contextlib.nullcontext():
        yield from _journaled(step, intent or {})


def _journaled(step: Step, intent: dict[str, Any]) -> Iterator[Step]:
    try:
        step.note("intent", intent)
        yield step
    except PhaseGateError as error:
        _note_failure(step, str(error))
        raise
    except OSError as error:
        stopped = _not_written(step, error)
        _note_failure(step, str(stopped))
        raise stopped from error
    except Exception as error:
        _note_failure(step, f"{type(error).__name__}: {error}")
        raise
    try:
        step.note("done", step.data)
    except OSError as error:
        raise _not_written(step, error) from error


def _note_failure(step: Step, reason: str) -> None:
    """Journal a failure where possible: a full disk must not hide the error itself."""
    with contextlib.suppress(OSError):
        step.note("failed", {"reason": reason, **step.data})


def _not_written(step: Step, error: OSError) -> PhaseGateError:
    """Return the error for a step whose evidence could not be written; a COMMIT is reported even then."""
    if step.data.get("outcome") == "COMMITTED":
        return evidence_incomplete(f"{step.name} is COMMITTED", error)
    return file_error(error)


def evidence_incomplete(outcome: str, error: OSError, where: str = "") -> PhaseGateError:
    """Return the error for a change without complete evidence; ``outcome`` is the result of its command."""
    return PhaseGateError(
        f"{outcome}: EVIDENCE_INCOMPLETE (T-8).",
        expected="free space and write permission below the artefact directory",
        found=f"{where}{error}",
        next_step=f"{advice(error)}; then run the same command again: it executes nothing twice, verifies, and seals",
    )


def file_error(error: OSError) -> PhaseGateError:
    """Return the error for a file of the artefact directory that cannot be read or written."""
    return PhaseGateError(
        "Cannot read or write in the artefact directory.",
        expected="an existing directory with free space, and permission to read and write below it",
        found=str(error),
        next_step=advice(error),
    )
