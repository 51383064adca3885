# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs below a root, by their journals: what ran, how it ended, what undoes what, and what is in place now.

The journals are read as they are: an audit shows whether somebody changed them.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SIGNATURE, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    COMMAND,
    EXECUTE,
    ROLLBACK,
    RunNotOpened,
    SealBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import qualified
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    UNREADABLE,
    continued_runs,
    journaled_outcome,
    opening_of,
    recorded_name,
    records_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import TransactionOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import UNSIGNED, signature_of

#: The outcome of a run that is not sealed: a step of it is at work, or none is.
RUNNING, INTERRUPTED = "RUNNING", "INTERRUPTED"

#: The columns of a table of runs.
HEAD: tuple[str, ...] = ("opened", "kind", "phase", "database", "outcome", "state", "seal", "operator", "directory")

IN_PLACE, ROLLED_BACK, CONTINUED, COPY = "in place", "rolled back", "continued", "copy"


@dataclass(frozen=True)
class ListedRun:
    """One run: ``opened`` in UTC; ``outcome`` as it was sealed, or how far it is.

    ``warnings`` are those of its report, which are shown behind the outcome.
    ``bundle`` is its directory's name, ``sealed_as`` the name that it was sealed with, if the directory has another one: it was
    renamed or copied. Runs name each other by the sealed one.
    ``state`` is of an execution that committed: in place, rolled back (``undone_by``), or continued by a later run; or that of a
    copy, whose original is listed, too. ``undoes`` is the execution that a rollback was about. ``signer`` is the fingerprint that
    the seal's signature claims, or UNSIGNED; '' without a seal.
    ``unreadable`` is why a journal cannot be read; the rest is empty then.
    """

    bundle: str
    kind: str = ""
    phase: str = ""
    environment: str = ""
    host: str = ""
    database: str = ""
    system_identifier: str = ""
    opened: str = ""
    operator: str = ""
    outcome: str = ""
    warnings: Sequence[str] = ()
    committed: bool = False
    state: str = ""
    undoes: str = ""
    undone_by: str = ""
    continues: Sequence[str] = ()
    sealed: bool = False
    signer: str = ""
    unreadable: str = ""
    sealed_as: str = ""

    @property
    def name(self) -> str:
        """Return the name that other runs have of it."""
        return self.sealed_as or self.bundle

    @property
    def shown_outcome(self) -> str:
        """Return the outcome with what nobody vouched for."""
        return qualified(self.outcome, self.warnings)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {**asdict(self), "continues": list(self.continues), "warnings": list(self.warnings)}


def list_runs(root: str, phase: str = "") -> list[ListedRun]:
    """Return the runs in the directories right below ``root``, oldest first; of one phase, when it is given."""
    names = sorted(os.listdir(root)) if os.path.isdir(root) else []
    found = [_listed(run) for run in (RunDirectory(os.path.join(root, name)) for name in names) if run.has_run]
    chosen = [
        one
        for one in found
        if not phase or one.phase == phase or (one.unreadable and one.bundle.startswith(f"{phase}_"))
    ]
    return _with_states(sorted(chosen, key=lambda one: (one.opened, one.bundle)))


def _listed(run: RunDirectory) -> ListedRun:
    name = os.path.basename(run.path)
    try:
        return _of_journal(run, name, run.journal.entries())
    except PhaseGateError as error:
        why = error.what
    except OSError as error:
        why = str(error)
    except UNREADABLE as error:
        why = f"the journal has another form than this release writes: {type(error).__name__}: {error}"
    return ListedRun(name, unreadable=why, sealed=run.sealed)


def _of_journal(run: RunDirectory, name: str, entries: Sequence[Entry]) -> ListedRun:
    start = opening_of(entries)
    refused = next(iter(records_of(entries, RunNotOpened)), None)
    about = start or refused or RunNotOpened()
    identity: Mapping[str, Any] = start.identity if start else {}
    command = COMMAND.get(about.kind, "")
    return ListedRun(
        bundle=name,
        kind=about.kind,
        phase=about.phase or "",
        environment=about.environment or "",
        host=about.host,
        database=str(identity.get("database", "")),
        system_identifier=str(identity.get("system_identifier", "")),
        opened=entries[0].at if entries else "",
        operator=start.operator if start else "",
        outcome=outcome_of(run, entries),
        warnings=warnings_of(run, entries),
        committed=bool(command) and journaled_outcome(entries, command) == TransactionOutcome.COMMITTED,
        undoes=(about.execution or "") if about.kind == ROLLBACK else "",
        continues=sorted(continued_runs(entries)),
        sealed=run.sealed,
        signer=_signer(run) if run.sealed else "",
        sealed_as=recorded if (recorded := recorded_name(entries)) != name else "",
    )


def sealed_run(root: str, name: str) -> RunDirectory:
    """Return the run of a name below ``root``, or the newest for '', if it is sealed. Raises ``PhaseGateError``."""
    runs = [one.bundle for one in list_runs(root) if one.sealed and (one.bundle == name if name else one.state != COPY)]
    if not runs:
        raise PhaseGateError(
            "There is no such run." if name else "There is no sealed run.",
            expected=f"{'the name of a' if name else 'a'} sealed run directory below {root}",
            found=name or "none",
            next_step="list the runs with playbook status",
        )
    return RunDirectory(os.path.join(root, runs[-1]))


def outcome_of(run: RunDirectory, entries: Sequence[Entry]) -> str:
    """Return the outcome that a run was sealed with, RUNNING while a step of it is at work, else INTERRUPTED."""
    if run.sealed:
        sealed = records_of(entries, SealBegun)
        return (sealed[-1].outcome if sealed else None) or ""
    return RUNNING if run.working else INTERRUPTED


def warnings_of(run: RunDirectory, entries: Sequence[Entry]) -> Sequence[str]:
    """Return the warnings of the report that a run was sealed with."""
    sealed = records_of(entries, SealBegun) if run.sealed else []
    return (sealed[-1].warnings if sealed else None) or ()


def _signer(run: RunDirectory) -> str:
    return signature_of(run) if os.path.lexists(run.file(SIGNATURE)) else UNSIGNED


def _with_states(runs: Sequence[ListedRun]) -> list[ListedRun]:
    """Return the runs, each execution that committed with what became of it."""
    undone = {one.undoes: one.name for one in runs if one.kind == ROLLBACK and one.committed}
    continued = {origin: one.name for one in runs for origin in one.continues}
    # of several directories with one run, the one with its own name is the run, else the first
    originals: dict[str, str] = {}
    for one in sorted((run for run in runs if not run.unreadable), key=lambda one: bool(one.sealed_as)):
        originals.setdefault(one.name, one.bundle)

    def state(one: ListedRun) -> ListedRun:
        if not one.unreadable and originals[one.name] != one.bundle:
            return replace(one, state=COPY)
        if one.kind != EXECUTE or not one.committed:
            return one
        family = {one.name, *one.continues} | ({continued[one.name]} if one.name in continued else set())
        by = next((undone[name] for name in sorted(family) if name in undone), "")
        if by:
            return replace(one, state=ROLLED_BACK, undone_by=by)
        return replace(one, state=CONTINUED if one.name in continued else IN_PLACE)

    return [state(one) for one in runs]


def run_lines(runs: Sequence[ListedRun]) -> list[str]:
    """Return the runs as a table of text, then what is in place, and what needs attention."""
    if not runs:
        return ["No run."]
    rows = [HEAD, *(tuple(map(escaped, row_of(one))) for one in runs)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [*table, "", *_conclusions(runs)]


def row_of(one: ListedRun) -> tuple[str, ...]:
    """Return the cells of a run in the order of ``HEAD``."""
    if one.unreadable:
        sealed = "sealed" if one.sealed else ""
        return ("", "", "", "", "UNREADABLE", "", sealed, "", f"{one.bundle}: {one.unreadable}")
    state = (
        f"{one.state} by {one.undone_by}"
        if one.undone_by
        else one.state or (f"undoes {one.undoes}" if one.undoes else "")
    )
    seal = ("signed" if one.signer != UNSIGNED else UNSIGNED.lower()) if one.sealed else "not sealed"
    database = f"{one.database} on {one.environment}" if one.database else one.environment
    at = f"{one.opened[:19]}Z" if one.opened else ""
    directory = f"{one.bundle} (sealed as {one.sealed_as})" if one.sealed_as else one.bundle
    return (at, one.kind, one.phase, database, one.shown_outcome, state, seal, one.operator, directory)


def _conclusions(runs: Sequence[ListedRun]) -> list[str]:
    """Return one line for each execution in place and for each run that somebody has to look at."""
    placed = [escaped(f"in place: {line}") for line in in_place(runs)]
    return [*(placed or ["in place: nothing"]), *(escaped(f"look at: {line}") for line in need_attention(runs))]


def in_place(runs: Sequence[ListedRun]) -> list[str]:
    """Return one line for each execution in place."""
    return [
        f"{one.phase} on {one.database} since {one.opened[:19]}Z ({one.bundle})"
        + "".join(f"; {warning}" for warning in one.warnings)
        for one in runs
        if one.state == IN_PLACE
    ]


def need_attention(runs: Sequence[ListedRun]) -> list[str]:
    """Return one line for each run that somebody has to look at."""
    return [
        f"{one.bundle}: {one.unreadable or one.shown_outcome}"
        + (", and its transaction is COMMITTED" if one.committed and one.outcome == INTERRUPTED else "")
        for one in runs
        if one.unreadable
        or one.outcome == INTERRUPTED
        or (one.state == IN_PLACE and not one.outcome.startswith("SUCCESS"))
    ]
