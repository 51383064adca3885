# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rehearse a phase on a restored copy: migrate, verify, roll back, compare, migrate again.

Every transaction runs by the same code, with the same needs, as on production. The plan pins what the rehearsal
measures and the schema at its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any, ContextManager, Iterator, Mapping, Sequence, Type, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.made_databases import (
    MadeDatabases,
    role_oids,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.progress import TablesRead
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.restore import restore_backup
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    CopyMigrated,
    CopyMigratedAgain,
    CopyRestored,
    CopyRolledBack,
    CopyVerified,
    Transacted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.progress import watched
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import DataExpectations
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import record_state
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.verification import (
    Verification,
    run_verification,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, qualified
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import server_facts
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import MigrationRequest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measurements import (
    Measurement,
    undeclared_rewrites,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.migration import MigrationChecks, migration_script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rollback import (
    RollbackChecks,
    rollback_script,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import (
    AS_A_REVISION,
    MigrationResult,
    Script,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import run_script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.watched_statements import WatchedStatements
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Words, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import (
    rehearsed_partitions,
    require_comparable,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import judge_changes, recording_policy
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter, printable
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import (
    equal_texts,
    misnamed_keys,
    normalise,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import sections_for_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

T = TypeVar("T", bound=Transacted)


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """The inputs of a rehearsal: the request as C-07 has it, on the rehearsal's client, and the rollback's bytes.

    ``role`` is the one that runs the phase on the source; ``refused`` why a session of its own is none, '' when it is.
    """

    client: Client
    request: MigrationRequest
    rollback: bytes
    source: Snapshot
    role: str
    refused: str = ""

    @property
    def artefacts(self) -> RunDirectory:
        """Return the rehearsal's artefact directory."""
        return self.request.artefacts

    @property
    def declared(self) -> DataExpectations:
        """Return what the phase measures and counts."""
        return DataExpectations.from_definition(self.request.phase["measure"], self.request.phase["row_counts"])

    def session(self) -> ContextManager[Session]:
        """Open the session of the phase's SQL: nobody has reviewed it, so its role logs in itself and can become no other."""
        client = self.client if self.refused else dataclasses.replace(self.client, user=self.role)
        return client.session("phasegate:rehearse")

    def as_role(self, script: Script) -> Script:
        """Return the script with the role that the session of a superuser has to take for it."""
        return dataclasses.replace(script, role=self.role) if self.refused else script


def _tried(rehearsal: Rehearsal, access: Mapping[str, Any]) -> Rehearsal:
    """Return the rehearsal with the reason why its role has no session that is like production's."""
    try:
        with rehearsal.session() as session:
            there = session.value("SELECT pg_catalog.current_setting('is_superuser')") == "on"
    except PhaseGateError as error:
        return dataclasses.replace(rehearsal, refused=f"it cannot log in: {error.found or error.what}")
    refused = "it is a superuser there and not on the target" if there and not access["attributes"]["SUPERUSER"] else ""
    return dataclasses.replace(rehearsal, refused=refused)


def _name_keys_as_source(client: Client, source: Snapshot) -> None:
    """Give the copy's inherited foreign keys the names that they have in the source."""
    with client.session("phasegate:rehearse") as session:
        keys = misnamed_keys(source, take_snapshot(session)) if _has_inherited_keys(source) else []
        # by way of names that none of them has: two of one table may have exchanged theirs
        steps = [(one, one.found, f"phasegate_{n}") for n, one in enumerate(keys)]
        steps += [(one, f"phasegate_{n}", one.wanted) for n, one in enumerate(keys)]
        for one, old, new in steps:
            table = qualified(one.schema, one.relation)
            session.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {identifier(old)} TO {identifier(new)}")


def _has_inherited_keys(source: Snapshot) -> bool:
    return any(line.startswith('["constraint",') and '["foreign key",' in line for line in source.facts)


def _same_schema(client: Client, source: Snapshot, copy: Snapshot) -> Words:
    """Require that the copy has the source's schema; return its texts that are another print of the source's expressions."""
    expected, found = normalise(source), normalise(copy)
    with client.session("phasegate:rehearse") as session:
        server = Reprinter(session, inside=False)
        words = equal_texts(expected, found, server)
        differences = diff(expected, found, words)
    if differences:
        texts = [one for one in differences.changes if one.action == "changed" and printable(one.kind, one.attribute)]
        next_step = "add what the rehearsal cluster lacks (roles, extensions, settings), then run again"
        if texts:
            next_step = (
                f"create {texts[0].kind.replace('_', ' ')} {texts[0].name} on the source anew from the text that the copy has"
                " (pg_dump writes the other one, which the server reads otherwise), then run again"
            )
        raise PhaseGateError(
            "The restored schema differs from the source.",
            expected=f"normalised fingerprint {expected.fingerprint}",
            found="\n".join(filter(None, (differences.text(), server.explain()))),
            next_step=next_step,
        )
    return words


class MeasuredChecks(MigrationChecks):
    """What C-07 checks, measured."""

    observes = True

    def __init__(self, client: Client, request: MigrationRequest, step: Step[T], base: Snapshot, words: Words) -> None:
        super().__init__(client, request, step, base, words)
        self.measurement = Measurement()
        self.watched = WatchedStatements(client, step, "C-07", request.plan["ddl"]["statements"])

    def before(self, session: Session, applied: MigrationResult) -> None:
        """Check, then measure from here."""
        super().before(session, applied)
        self.measurement.begin(session)

    def after_statement(self, session: Session, statement: Mapping[str, Any]) -> None:
        """Record the locks that the statement took."""
        self.measurement.observe(session, statement)

    def before_commit(self, session: Session, applied: MigrationResult) -> None:
        """Check, then measure up to here."""
        super().before_commit(session, applied)
        self.measurement.end(session, self.locked)

    def after_commit(self, session: Session, applied: MigrationResult) -> None:
        """Record, then watch the data from here."""
        super().after_commit(session, applied)
        self.watched.begin(session)


def _migrate(
    rehearsal: Rehearsal, step: Step[T], base: Snapshot, capture: str, words: Words
) -> tuple[MigrationResult, Measurement]:
    """Run C-07 on the copy, measured."""
    request = dataclasses.replace(rehearsal.request, capture=capture)
    checks = MeasuredChecks(rehearsal.client, request, step, base, words)
    return migrate_copy(rehearsal, migration_script(request), checks), checks.measurement


def migrate_copy(rehearsal: Rehearsal, script: Script, checks: MeasuredChecks) -> MigrationResult:
    """Run C-07 on the copy with these checks."""
    with rehearsal.session() as session:
        applied = run_script(session, rehearsal.client, rehearsal.as_role(script), checks, checks.base, checks.step)
        checks.watched.require_unchanged(session)
    # the gates are production's; here they would only confuse the report
    checks.step.update(gates=None)
    return applied


class MeasuredRollback(RollbackChecks):
    """What C-09 checks, and that the phase declares what the rollback rewrites.

    Production only records it: there, nobody could change the rollback's SQL any more. ``client`` may read all of the copy; the
    rest is as for ``RollbackChecks``.
    """

    def __init__(self, client: Client, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: what runs after COMMIT
        self.watched = WatchedStatements(client, self.step, self.script.command, self.script.statements)

    def before_commit(self, session: Session, applied: MigrationResult) -> None:
        """Check, then compare the rewritten tables with the declared ones."""
        super().before_commit(session, applied)
        unexpected = undeclared_rewrites(session, applied, self.script.rewrites, self.script.statements)
        if unexpected:
            self.stop_at_rewrites(unexpected)

    def stop_at_rewrites(self, unexpected: Sequence[str]) -> None:
        """Raise ``Stopped`` for tables that the rollback rewrites and the phase does not declare."""
        raise Stopped(
            "C-09: the rollback rewrites a table that the phase does not declare; rolled back before COMMIT.",
            expected=f"tables that are rewritten (scope.rewrites, rollback.rewrites): {', '.join(self.script.rewrites) or 'none'}",
            found=f"rewritten: {', '.join(unexpected)}",
            next_step="declare them in rollback.rewrites, or correct the rollback SQL, as a new revision",
        )

    def after_commit(self, session: Session, applied: MigrationResult) -> None:
        """Watch the data from here."""
        super().after_commit(session, applied)
        self.watched.begin(session)


def roll_copy_back(
    rehearsal: Rehearsal,
    step: Step[CopyRolledBack],
    original: Snapshot,
    baseline: Sequence[Mapping[str, Any]] | None,
    words: Words,
    checking: Type[MeasuredRollback] = MeasuredRollback,
) -> MigrationResult:
    """Run C-09 on the copy and require that the schema is as before. ``baseline`` is what the migration recorded."""
    script = rehearsal.as_role(rollback_script(rehearsal.request.plan, rehearsal.rollback))
    with rehearsal.session() as session:
        base = take_snapshot(session, sections=original.header.sections)
        checks = checking(rehearsal.client, original, "the rehearsal", script, step, base, baseline)
        checks.words = words
        applied = run_script(session, rehearsal.client, script, checks, base, step)
        checks.watched.require_unchanged(session)
        after = take_snapshot(session, sections=original.header.sections)
        left, verdict = judge_changes(
            diff(original, after, words), {"policy": "unchanged"}, Reprinter(session, inside=False)
        )
    step.update(restored=verdict.ok)
    if not verdict.ok:
        raise PhaseGateError(
            "C-09: the rollback does not restore the schema.",
            expected=f"fingerprint {original.fingerprint}",
            found=left.text(),
            next_step=f"correct the rollback SQL, then {AS_A_REVISION}",
        )
    return applied


def _statements(applied: MigrationResult) -> list[dict[str, Any]]:
    """Return the statements as the plan has them: times as whole microseconds."""
    return [
        {**{key: s[key] for key in ("n", "tag", "line", "rows")}, "microseconds": round(1000 * s["milliseconds"])}
        for s in applied.statements
    ]


@contextlib.contextmanager
def roles_recorded(client: Client, made: MadeDatabases) -> Iterator[None]:
    """Record the roles that the phase makes within the block: the next rehearsal drops them before it makes its copy."""
    with client.session("phasegate:rehearse") as session:
        before = role_oids(session)
    try:
        yield
    finally:
        with client.session("phasegate:rehearse") as session:
            made.note_roles(session, before)


@dataclasses.dataclass(frozen=True)
class CopyStart:
    """The copy before its migration.

    As it was recorded, as the session of the phase sees it, its texts that the source prints otherwise, and the server's facts,
    which the phase may change.
    """

    base: Snapshot
    live: Snapshot
    words: Words
    server: Mapping[str, Any]


def restore_copy(rehearsal: Rehearsal, archive: str, about: Mapping[str, Any]) -> tuple[Rehearsal, MadeDatabases]:
    """R-1: restore the copy; return the rehearsal with what is known of its role there. Arguments as for ``run_rehearsal``."""
    with Step(rehearsal.artefacts, CopyRestored).running() as restored:
        tables = TablesRead()
        with watched(restored, tables.look):
            restored.update(restore=restore_backup(rehearsal.client, archive, seen=tables.copy, **about))
    made = MadeDatabases(about["rules"].root, (restored.end.restore or {})["cluster"]["system_identifier"])
    return _tried(rehearsal, about["access"]), made


def read_copy(rehearsal: Rehearsal, step: Step[CopyMigrated]) -> CopyStart:
    """Record the restored copy, and require that it has the source's schema."""
    client, sections = rehearsal.client, sections_for_plan(rehearsal.request.plan)
    _name_keys_as_source(client, rehearsal.source)
    base = record_state(client, rehearsal.artefacts, "rehearsal_before", rehearsal.declared, sections, step)
    step.update(fingerprint=base.fingerprint)
    words = _same_schema(client, rehearsal.source, base)
    with client.session("phasegate:rehearse") as session:
        live = take_snapshot(session, sections=sections)
        # as production has them when the phase begins: the phase may change an extension or a setting
        server = server_facts(session)
    return CopyStart(base, live, words, server)


def run_rehearsal(rehearsal: Rehearsal, archive: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Rehearse and return what the plan pins of it. Raises ``PhaseGateError`` at the first failure.

    ``archive`` is the backup's path. ``about`` has ``source`` (system identifier), ``roles``, ``access``, ``server`` and
    ``contents`` of the source.
    """
    client, artefacts = rehearsal.client, rehearsal.artefacts
    phase = {**rehearsal.request.phase, "diff": recording_policy(rehearsal.request.phase["diff"])}
    request = dataclasses.replace(rehearsal.request, plan={**rehearsal.request.plan, "phase": phase})
    rehearsal = dataclasses.replace(rehearsal, request=request)
    sections = sections_for_plan(request.plan)
    wanted = Verification.of_plan(request.plan, request.declared, request.ddl_sha256)
    partitions = rehearsed_partitions(rehearsal.source, request.phase)
    rehearsal, made = restore_copy(rehearsal, archive, about)
    with Step(artefacts, CopyMigrated).running() as migrated:
        start = read_copy(rehearsal, migrated)
        base, words, live = start.base, start.words, start.live
        with roles_recorded(client, made):
            applied, measurement = _migrate(rehearsal, migrated, live, "rehearsal_before", words)
    with Step(artefacts, CopyVerified).running() as verified:
        result = run_verification(client, artefacts, wanted, verified, ("rehearsal_before", "rehearsal_after"), words)
        changes = (verified.end.diff or {})["changes"]
        require_comparable(request.phase, partitions or (), changes)
    with Step(artefacts, CopyRolledBack).running() as rolled_back:
        # as for C-09, which reads it from a file: without the locators of catalog rows
        undone = roll_copy_back(rehearsal, rolled_back, base.unlocated(), migrated.end.baseline, words)
    with Step(artefacts, CopyMigratedAgain).running() as repeated:
        record_state(client, artefacts, "rehearsal_again", rehearsal.declared, sections, repeated)
        with client.session("phasegate:rehearse") as session:
            live = take_snapshot(session, sections=sections)
        with roles_recorded(client, made):
            _migrate(rehearsal, repeated, live, "rehearsal_again", words)
        labels = ("rehearsal_again", "rehearsal_after_again")
        again = run_verification(client, artefacts, wanted, repeated, labels, words)
        with client.session("phasegate:rehearse") as session:
            differences, verdict = judge_changes(
                diff(result.unlocated(), again, words), {"policy": "unchanged"}, Reprinter(session, inside=False)
            )
        if not verdict.ok:
            raise PhaseGateError(
                "The second migration, after the rollback, resulted in a different schema.",
                expected=f"fingerprint {result.fingerprint}",
                found=differences.text(),
                next_step=f"correct the DDL or the rollback SQL, then {AS_A_REVISION}",
            )
        with client.session("phasegate:rehearse") as session:
            identity = read_identity(session, client)
    proved = {
        "bundle": artefacts.path.rstrip("/").rpartition("/")[2],
        "cluster": {
            "system_identifier": identity.system_identifier,
            "server_version": identity.server_version,
            "place": client.place,
        },
        "role": {"name": rehearsal.role, "refused": rehearsal.refused},
        **({} if partitions is None else {"partitions": partitions}),
        "base_fingerprint": normalise(rehearsal.source).fingerprint,
        "result_fingerprint": normalise(result).fingerprint,
        "changes": changes,
        "changes_before_commit": applied.diff["changes"],
        "server": start.server,
        "statements": _statements(applied),
        "locks": measurement.locks,
        "data": applied.data,
        "unproved": applied.unproved,
        "rewrites": applied.rewrites,
        "wal_bytes": measurement.wal_bytes,
        "rollback": {
            "statements": _statements(undone),
            "data": undone.data,
            "rewrites": undone.rewrites,
            "restored": True,
        },
    }
    artefacts.write("rehearsal.json", json.dumps(proved, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
    return proved
