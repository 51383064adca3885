# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The approval files beside a plan: signatures and notes by reviewer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    SMALL,
    atomic_file,
    read_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import ALLOWED_SIGNERS, PRINCIPAL

#: Notes by a label, each text with its signature.
Notes = Mapping[str, Tuple[bytes, bytes]]

_SIGNATURE = ".sig"

_NOTES = ".notes.md"


@dataclass(frozen=True)
class ApprovalFiles:
    """The paths of one reviewer's approval beside a plan: ``plan.json.<reviewer>.sig`` and its notes."""

    signature: str
    notes: str
    notes_signature: str

    @classmethod
    def of(cls, plan: str, reviewer: str) -> ApprovalFiles:
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


def collect_approvals(plan: str) -> Tuple[Dict[str, bytes], Dict[str, Tuple[bytes, bytes]]]:
    """Return the signatures and the notes (text, signature) beside the plan at this path, by reviewer.

    Notes without a signature get an empty one, which never verifies. Raises ``PhaseGateError``, ``OSError``.
    """
    signatures: Dict[str, bytes] = {}
    notes: Dict[str, Tuple[bytes, bytes]] = {}
    directory, stem = os.path.dirname(os.path.abspath(plan)), os.path.basename(plan) + "."
    for name in sorted(os.listdir(directory)):
        if not name.startswith(stem) or not name.endswith(_SIGNATURE) or name.endswith(_NOTES + _SIGNATURE):
            continue
        reviewer = name[len(stem) : -len(_SIGNATURE)]
        stem_path = os.path.join(directory, stem + reviewer)
        signatures[reviewer] = read_file(stem_path + _SIGNATURE, SMALL) or b""
        text = read_file(stem_path + _NOTES, SMALL)
        if text is not None:
            notes[reviewer] = (text, read_file(stem_path + _NOTES + _SIGNATURE, SMALL) or b"")
    return signatures, notes


def approval_files(plan: str) -> List[str]:
    """Return the names of the approval files beside the plan at this path. Raises ``PhaseGateError``, ``OSError``."""
    signatures, notes = collect_approvals(plan)
    names: List[str] = []
    for reviewer in signatures:
        files = ApprovalFiles.of(os.path.basename(plan), reviewer)
        names += [files.signature, *([files.notes, files.notes_signature] if reviewer in notes else [])]
    directory = os.path.dirname(os.path.abspath(plan))
    return [name for name in names if os.path.lexists(os.path.join(directory, name))]


def write_approvals(plan: str, signatures: Mapping[str, bytes], notes: Notes) -> None:
    """Write approvals beside the plan at this path, where ``collect_approvals`` finds them. Raises ``PhaseGateError``."""
    contents: Dict[str, bytes] = {}
    for reviewer, signature in signatures.items():
        files = ApprovalFiles.of(plan, reviewer)
        contents[files.signature] = signature
        if reviewer in notes:
            contents[files.notes], contents[files.notes_signature] = notes[reviewer]
    for path, data in contents.items():
        with atomic_file(path) as out:
            out.write(data)


def signatures_in(directory: Optional[str]) -> Dict[str, bytes]:
    """Return the signatures that were copied to the target, by file name."""
    names = sorted(os.listdir(directory)) if directory else []
    return {
        name: read_file(os.path.join(directory or "", name), SMALL) or b""
        for name in names
        if name.endswith(_SIGNATURE)
    }
