# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What reviewers sign beside a plan: notes, rollback requests and reviews, each in its own namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Mapping, Optional

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
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


# Arguments of whatever accepts a loss; documented in doc_fragments/_loss.py.
LOSS_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "accept_loss": {"type": "int", "default": 0},
    "accept_loss_at_most": {"type": "int", "default": -1},
}


@dataclass(frozen=True)
class AcceptedLoss:
    """The loss that is accepted for a rollback: exactly ``rows``, or any number of rows up to ``at_most``.

    An exact number tells whether anything was written since it was counted; where an application writes all the time, only a
    bound can be kept.
    """

    rows: int = 0
    at_most: Optional[int] = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> AcceptedLoss:
        """Return what the values of ``LOSS_ARGUMENTS`` accept. Raises ``PhaseGateError`` for both, or a number below 0."""
        at_most = params["accept_loss_at_most"]
        accepted = cls(params["accept_loss"], None if at_most == -1 else at_most)
        if min(accepted.rows, accepted.at_most or 0) < 0 or (accepted.rows and accepted.at_most is not None):
            raise PhaseGateError(
                "Invalid accepted loss.",
                expected="accept_loss, an exact number of rows, or accept_loss_at_most, a bound; at least 0",
                found=f"accept_loss {accepted.rows}, accept_loss_at_most {accepted.at_most}",
                next_step="give one of the two",
            )
        return accepted

    def permits(self, rows: int) -> bool:
        """Return whether the loss of this number of rows is accepted."""
        return rows == self.rows if self.at_most is None else rows <= self.at_most

    def as_dict(self) -> dict[str, int]:
        """Return what is accepted, as it is signed."""
        return {"accept_loss": self.rows} if self.at_most is None else {"accept_loss_at_most": self.at_most}

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.rows} rows" if self.at_most is None else f"at most {self.at_most} rows"


def rollback_request(execution: str, seal: str, accepted: AcceptedLoss) -> bytes:
    """Return the text that reviewers sign to roll back one execution; it depends on the arguments only.

    ``execution`` is the name of the execution's directory, ``seal`` the SHA-256 of its SHA256SUMS.
    """
    request = {"format": "phasegate-rollback/1", "execution": execution, "seal": seal, **accepted.as_dict()}
    return canonical_json(request)


def rollback_file(bundle: str) -> str:
    """Return the path of the request to roll an execution back: beside its artefact directory, with the signatures beside it."""
    return bundle.rstrip("/") + ".rollback.json"


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
