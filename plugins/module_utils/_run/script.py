# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An SQL file that is going to run, and what happened to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import DataChanges, Tables
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_found
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

# The next step where the SQL has to be changed. It is read after a first rehearsal, too, which nobody has approved yet.
AS_A_REVISION = "rehearse it again, as a new revision if this one was approved"
CORRECT = f"correct the SQL and {AS_A_REVISION}"


@dataclass(frozen=True)
class Script:
    """An SQL file to run: C-07's DDL or C-09's rollback.

    ``data`` are its verified bytes and ``statements`` the plan's ranges of them; ``rows`` the declared row counts by
    command tag, in file order; ``result`` the expected trailing SELECT, None when none is declared; ``settings`` the
    phase's timeouts and search_path; ``role`` the one whose statements they are, '' for the session's own;
    ``rewrites`` the tables that may be rewritten;
    ``functions`` those that the scope permits; ``batches`` is that key of the phase.
    """

    command: str
    data: bytes
    statements: Sequence[Mapping[str, Any]]
    rows: Mapping[str, Any]
    result: Any
    settings: Mapping[str, Any]
    role: str = ""
    rewrites: Sequence[str] = ()
    functions: Sequence[str] = ()
    batches: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class MigrationResult:
    """The result. ``statements`` in file order, the file's own BEGIN and COMMIT left out; the rest before COMMIT.

    Each has ``at``, when it began by this host's clock. ``locks`` are the relations that were locked right before COMMIT, each
    with its mode; ``data``, ``tables``, ``rewrites``, ``emptied``, ``unproved`` and ``counted`` are those of ``DataChanges``.
    """

    xid: str = ""
    pid: int = 0
    attempts: int = 1
    statements: list[dict[str, Any]] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)
    tables: Tables = field(default_factory=dict)
    rewrites: list[str] = field(default_factory=list)
    locks: list[dict[str, Any]] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    unproved: list[str] = field(default_factory=list)
    counted: bool = True
    result: Any = None
    preflight: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    diff: dict[str, Any] = field(default_factory=dict)

    def observe(self, found: DataChanges) -> None:
        """Record the data that the transaction changed."""
        self.data, self.tables = found.changes, found.tables
        self.rewrites, self.emptied = found.rewrites, found.emptied
        self.unproved, self.counted = found.unproved, found.counted


class TransactionChecks:
    """What a command checks in its transaction. Each method may raise ``PhaseGateError``, which rolls back before COMMIT.

    ``observes``: ``after_statement`` is to be called, so that each statement is waited for.
    """

    observes = False

    def before(self, session: Session, applied: MigrationResult) -> None:
        """Check what has to hold before the first statement."""

    def begun(self, session: Session, applied: MigrationResult) -> None:
        """Write what the collection itself adds in the transaction, right after BEGIN."""

    def before_statements(self, session: Session, applied: MigrationResult) -> None:
        """Read what the statements are compared with; from here on locks are held that others wait for."""

    def after_statement(self, session: Session, statement: Mapping[str, Any]) -> None:
        """Observe a statement that ran."""

    def before_read_only(self, session: Session, applied: MigrationResult) -> None:
        """Do what needs a transaction that may still write: nothing can change the schema after this."""

    def before_commit(self, session: Session, applied: MigrationResult) -> None:
        """Check what has to hold before COMMIT."""

    def after_commit(self, session: Session, applied: MigrationResult) -> None:
        """Record what is known only once the transaction is committed; nothing can be rolled back any more."""


def read_frozen(artefacts: RunDirectory, name: str) -> bytes:
    """Return a frozen SQL file of the run, read once. Raises ``PhaseGateError`` when it is missing."""
    path = artefacts.file("sql/" + name)
    try:
        return read_found(path)
    except FileNotFoundError:
        raise Stopped(
            f"{name} is not frozen in this run.",
            expected=path,
            found="no such file",
            next_step="freeze it first (C-05)",
        ) from None
