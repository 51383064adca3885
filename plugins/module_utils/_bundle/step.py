# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command of a run as a step: its intent and its outcome go to the journal."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, advice
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import file_error


class Step:
    """One command of a run (``C-06``): its data goes to the journal with its outcome.

    Without an artefact directory (a module used without one, or check mode) nothing is written.
    """

    def __init__(self, artefacts: RunDirectory | None, name: str) -> None:
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
def run_step(artefacts: RunDirectory | None, name: str, intent: dict[str, Any] | None = None) -> Iterator[Step]:
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
