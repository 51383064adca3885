# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check a sealed run directory against its seal, offline: what the auditor finds, for the code of a run."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError


def require_as_sealed(artefacts: RunDirectory, name: str) -> None:
    """Raise ``PhaseGateError`` unless one file of a sealed bundle is as the seal lists it; ``verify_bundle`` checks all of them."""
    tree = audit.Tree(artefacts.path)
    findings = audit.unusable_seal(tree)
    if not findings:
        listed, findings = audit.parse_sums(tree.read(SEAL))
        if name in listed:
            findings += compare_with_sums(artefacts, {name: listed[name]}, {name} & set(tree.files), SEAL)
        elif not findings:
            findings = [f"{SEAL} does not list {name}"]
    if findings:
        raise PhaseGateError(
            f"{artefacts.path} is not a sealed bundle with an intact {name}.",
            expected=f"{name} with the digest that {SEAL} lists",
            found="; ".join(findings),
            next_step="give the bundle of a run that has ended, and audit it (playbook audit) before you rely on it",
        )


def verify_bundle(path: str, unread: tuple[str, ...] = (), *, needs_backup: bool = True) -> list[str]:
    """Return what is wrong with a sealed bundle, one sentence a finding; an empty list when it is intact.

    What cannot be read is wrong, too. ``unread`` as for ``audit.verify``, which checks files, seal and journal. Without
    ``needs_backup`` the backup may have been deleted, if the record beside the bundle (``.pruned.json``) accounts for it.
    """
    result = audit.verify(path, unread)
    unchecked = [one for one in result.unchecked if needs_backup or one != result.pruned]
    return [audit.escaped(finding) for finding in (*result.findings, *unchecked)]


def compare_with_sums(artefacts: RunDirectory, listed: dict[str, str], present: set[str], listing: str) -> list[str]:
    """Return what is wrong with files by the digests that ``listing`` has of them, one sentence a file.

    Names are relative to the directory; ``present`` are those that exist.
    """
    findings, unread = audit.compare_with_sums(audit.Tree(artefacts.path), listed, present, listing)
    return findings + unread
