# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A command of a run as a step: its intent and its outcome go to the journal."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, Generic, Iterator, Type, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    DONE,
    FAILED,
    INTENT,
    StepEnd,
    Transacted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Note
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, advice
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import file_error
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome

E = TypeVar("E", bound=StepEnd)


class Step(Generic[E]):
    """One command of a run (``C-06``): ``end`` is what its outcome will be journaled with, filled while it runs.

    Without an artefact directory (a module used without one, or check mode) nothing is written.
    """

    def __init__(self, artefacts: RunDirectory | None, kind: Type[E]) -> None:
        self.artefacts = artefacts
        self.end = kind()

    @property
    def name(self) -> str:
        """Return the command's name."""
        return self.end.step

    def update(self, **known: Any) -> None:
        """Set fields of ``end``. Raises ``TypeError`` for one that it has not."""
        self.end = replace(self.end, **known)

    def note(self, event: Note) -> None:
        """Journal something in the middle of the step; on disk when this returns."""
        self._append(event.event, event.to_entry())

    def file(self, name: str, content: bytes) -> None:
        """Write an artefact, when there is a directory."""
        if self.artefacts:
            self.artefacts.write(name, content)

    @contextlib.contextmanager
    def running(self) -> Iterator[Step[E]]:
        """Journal the intent, run the block, and journal the outcome: ``done``, or ``failed`` with the reason.

        The error is raised to the caller. A directory that has no run, or none at all, gets no journal.
        """
        if self.artefacts:
            self.artefacts.require_unsealed()
        with self.artefacts.at_work() if self.artefacts and self.artefacts.has_run else contextlib.nullcontext():
            try:
                self._append(INTENT, {})
                yield self
            except PhaseGateError as error:
                self._failed(str(error))
                raise
            except OSError as error:
                stopped = self._not_written(error)
                self._failed(str(stopped))
                raise stopped from error
            except Exception as error:
                self._failed(f"{type(error).__name__}: {error}")
                raise
            try:
                self._append(DONE, self.end.to_entry())
            except OSError as error:
                raise self._not_written(error) from error

    def _failed(self, reason: str) -> None:
        """Journal a failure where possible: a full disk must not hide the error itself."""
        self.update(reason=reason)
        with contextlib.suppress(OSError):
            self._append(FAILED, self.end.to_entry())

    def _not_written(self, error: OSError) -> PhaseGateError:
        """Return the error for a step whose evidence could not be written; a COMMIT is reported even then."""
        if isinstance(self.end, Transacted) and self.end.outcome == TransactionOutcome.COMMITTED:
            return evidence_incomplete(f"{self.name} is COMMITTED", error)
        return file_error(error)

    def _append(self, event: str, data: dict[str, Any]) -> None:
        if self.artefacts and self.artefacts.has_run:
            self.artefacts.journal.append(self.name, event, data)


def evidence_incomplete(outcome: str, error: OSError, where: str = "") -> PhaseGateError:
    """Return the error for a change without complete evidence; ``outcome`` is the result of its command."""
    return PhaseGateError(
        f"{outcome}: EVIDENCE_INCOMPLETE (T-8).",
        expected="free space and write permission below the artefact directory",
        found=f"{where}{error}",
        next_step=f"{advice(error)}; then run the same command again: it executes nothing twice, verifies, and seals",
    )
