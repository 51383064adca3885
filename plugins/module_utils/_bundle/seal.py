# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check a sealed run directory against its seal, offline."""

from __future__ import annotations

import os
import stat

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import (
    JOURNAL,
    RUN_NAME,
    SEAL,
    SIGNATURE,
    SUM_LINE,
    RunDirectory,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import SealBegun
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_found,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped


def require_as_sealed(artefacts: RunDirectory, name: str) -> None:
    """Raise ``PhaseGateError`` unless one file of a sealed bundle is as the seal lists it; ``verify_bundle`` checks all of them."""
    findings = _unusable_seal(artefacts)
    if not findings:
        listed, findings = _read_sums(artefacts)
        if name in listed:
            findings += compare_with_sums(artefacts, {name: listed[name]}, {name} & set(artefacts.names()), SEAL)
        elif not findings:
            findings = [f"{SEAL} does not list {name}"]
    if findings:
        raise PhaseGateError(
            f"{artefacts.path} is not a sealed bundle with an intact {name}.",
            expected=f"{name} with the digest that {SEAL} lists",
            found="; ".join(findings),
            next_step="give the bundle of a run that has ended, and audit it (playbook audit) before you rely on it",
        )


def _unusable_seal(artefacts: RunDirectory) -> list[str]:
    """Return why SHA256SUMS, or its signature, cannot be read; empty when it can."""
    if not artefacts.sealed:
        return [f"the bundle is not sealed: {SEAL} is missing"]
    # before it is opened: reading a pipe would wait for ever
    for name in (SEAL, SIGNATURE):
        if os.path.lexists(artefacts.file(name)) and not stat.S_ISREG(os.lstat(artefacts.file(name)).st_mode):
            return [f"{name} is not a regular file"]
    return []


def _read_sums(artefacts: RunDirectory) -> tuple[dict[str, str], list[str]]:
    """Return the digests by name of a sealed bundle, and what is wrong with its SHA256SUMS."""
    return _parse_sums(read_found(artefacts.file(SEAL)).decode("utf-8", "surrogateescape"))


def verify_bundle(path: str, unread: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong with a sealed bundle, one sentence a finding; an empty list when it is intact.

    Checks that the seal exists and is well-formed, that every listed file is a regular file inside the bundle
    with the listed digest, that no file is missing or extra, that the journal's chain holds, and that the journal
    is complete: its last line is the run's seal. What the seal lists below names that begin as one of ``unread`` is not
    read, and may be gone.
    """
    artefacts = RunDirectory(path)
    if not os.path.isdir(path):
        return [f"{path} is not a directory"]
    unusable = _unusable_seal(artefacts)
    if unusable:
        return unusable
    listed, findings = _read_sums(artefacts)
    left_out = {name for name in listed if unread and name.startswith(unread)}
    read = {name: digest for name, digest in listed.items() if name not in left_out}
    findings += compare_with_sums(artefacts, read, set(artefacts.names()) - left_out, SEAL)
    # a name that is not UTF-8 has to be shown, too
    return [escaped(finding) for finding in findings] or _check_journal(artefacts)


def require_bundle(path: str) -> None:
    """Raise ``PhaseGateError`` when a path that a person gave has no bundle at all: a mistake, not tampering."""
    artefacts = RunDirectory(path)
    found = ""
    if not os.path.lexists(path):
        found = f"{path} does not exist"
    elif not os.path.isdir(path):
        found = f"{path} is not a directory"
    elif not os.path.lexists(artefacts.file(JOURNAL)) and not artefacts.sealed:
        found = f"neither {SEAL} nor {JOURNAL} in {path}"
    if found:
        raise PhaseGateError(
            f"No such bundle: {path}",
            expected="the path of a run directory, or of a complete copy of it",
            found=found,
            next_step="correct the path; if it is right, the bundle was removed or emptied",
        )


def bundle_warnings(path: str) -> list[str]:
    """Return what does not change a bundle but lets others do so: modes and hard links, one sentence each."""
    artefacts = RunDirectory(path)
    warnings = []
    for name in (".", *artefacts.directories_found(), *artefacts.names(), SEAL, SIGNATURE):
        if not os.path.lexists(artefacts.file(name)):
            continue
        status = os.lstat(artefacts.file(name))
        mode = stat.S_IMODE(status.st_mode)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            warnings.append(f"{'the bundle' if name == '.' else name} can be changed by other users: mode {mode:04o}")
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            warnings.append(f"{name} has {status.st_nlink} names (hard links): it can be changed through another one")
    return [escaped(warning) for warning in warnings]


def _check_journal(artefacts: RunDirectory) -> list[str]:
    """Return what is wrong with a sealed run's journal, also when it is cut after a line, where its chain still holds."""
    try:
        entries = artefacts.journal.entries()
    except PhaseGateError as error:
        return [str(error).replace("\n", "; ")]
    data = b""
    if artefacts.has_run:
        data = read_found(artefacts.file(JOURNAL))
    if not data.endswith(b"\n") or (entries[-1].step, entries[-1].event) != ("run", "seal"):
        return [f"{JOURNAL} does not end with the run's seal"]
    return _check_place(artefacts, SealBegun.from_entry(entries[-1]))


def _check_place(artefacts: RunDirectory, sealed: SealBegun) -> list[str]:
    """Return how the directory's name, and the directories in it, differ from those that were sealed."""
    findings = []
    name = os.path.basename(os.path.realpath(artefacts.path))
    if sealed.name is not None and sealed.name != name:
        what = "another run's bundle is under this name" if RUN_NAME.fullmatch(name) else "the directory was renamed"
        findings.append(f"{what}: it was sealed as {sealed.name}, and is called {name}")
    if sealed.directories is not None:
        expected, present = set(sealed.directories), set(artefacts.directories_found())
        findings += [f"directory {one} was there when the run was sealed, and is missing" for one in expected - present]
        findings += [f"directory {one} was added after the run was sealed" for one in present - expected]
    return [escaped(finding) for finding in sorted(findings)]


def _parse_sums(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the digests by name of a SHA256SUMS text, and what is wrong with it."""
    listed: dict[str, str] = {}
    findings: list[str] = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        match = SUM_LINE.match(line)
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


def compare_with_sums(artefacts: RunDirectory, listed: dict[str, str], present: set[str], listing: str) -> list[str]:
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
