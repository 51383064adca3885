# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What reviewers sign beside a plan: notes, rollback requests and reviews, each in its own namespace."""

from __future__ import annotations

import os

from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json

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


def notes_header(sha256: str, what: str = "plan") -> bytes:
    """Return the first line of notes, which binds them to one plan, or to another signed text."""
    return f"Notes on the {what} with SHA-256 {sha256}\n".encode("ascii")


def rollback_request(execution: str, seal: str, accept_loss: int) -> bytes:
    """Return the text that reviewers sign to roll back one execution; it depends on the arguments only.

    ``execution`` is the name of the execution's directory, ``seal`` the SHA-256 of its SHA256SUMS, ``accept_loss`` the
    number of rows that may be lost.
    """
    request = {"format": "phasegate-rollback/1", "execution": execution, "seal": seal, "accept_loss": accept_loss}
    return canonical_json(request)


def review_file(bundle: str) -> str:
    """Return the path of an execution's review: beside its artefact directory, with the signatures beside it."""
    return bundle.rstrip("/") + ".review.json"


def review_name(bundle: str) -> str:
    """Return the name of a review in messages and in the first line of notes."""
    return f"review of {os.path.basename(bundle.rstrip('/'))}"


def review_request(bundle: str, seal: str) -> bytes:
    """Return the text that reviewers sign to accept an execution by its evidence; it depends on the arguments only.

    ``bundle`` is the name of the execution's directory, ``seal`` the SHA-256 of its SHA256SUMS.
    """
    return canonical_json({"format": "phasegate-review/1", "bundle": bundle, "seal": seal})
