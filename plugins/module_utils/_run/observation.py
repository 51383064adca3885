# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a phase that is a draft on a restored copy, and return what its definition would have to declare.

As a rehearsal, but what differs from the definition stops nothing: it is observed. Nothing is proved by it, no plan is written.
What stops a draft is what no definition could permit: an error of a statement, a failed check of preflight.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._backup.made_databases import MadeDatabases
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.table_digests import (
    TableDigests,
    read_table_digests,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    CopyMigrated,
    CopyRolledBack,
    CopyVerified,
    DraftObserved,
    RolledBack,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import is_whole
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_changes import data_to_declare
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.moved_columns import keep_rows, moved_columns
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.observed_objects import observed_checks
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.table_sizes import table_sizes
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.verification import (
    Verification,
    run_verification,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import (
    quoted_name,
    split_relation,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import cut_short, escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import ROW_TAGS
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import MigrationRequest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.measurements import undeclared_rewrites
from ansible_collections.incomex.phasegate.plugins.module_utils._run.migration import migration_script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rehearsal import (
    MeasuredChecks,
    MeasuredRollback,
    Rehearsal,
    migrate_copy,
    read_copy,
    restore_copy,
    roles_recorded,
    roll_copy_back,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import MigrationResult, Script
from ansible_collections.incomex.phasegate.plugins.module_utils._run.transaction import (
    count_differences,
    trailing_answer,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import entries_to_allow
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.undo_statements import undo_statements

#: A count that any number of rows meets.
_OPEN = {"each": {"min": 0}}

# The most characters of a value in a comment of phase.yml.
_SHOWN = 80


class ObservedChecks(MeasuredChecks):
    """What C-07 checks; what differs from the definition is recorded."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: each as what was expected and what was found
        self.wrong: list[tuple[str, str]] = []
        self.data: Mapping[str, Any] = {}
        self.rewrites: Sequence[str] = ()

    def stop(self, wrong: Sequence[tuple[str, str]], to_declare: Sequence[str]) -> None:
        """Record instead of stopping."""
        del to_declare
        self.wrong += wrong

    def _undeclared_rewrites(self, session: Session, applied: MigrationResult) -> list[tuple[str, str]]:
        phase, statements = self.request.phase, self.request.plan["ddl"]["statements"]
        self.rewrites = undeclared_rewrites(session, applied, phase["scope"]["rewrites"], statements)
        return []

    def _undeclared_data(
        self, session: Session, applied: MigrationResult, data: Sequence[Mapping[str, Any]]
    ) -> list[tuple[str, str]]:
        # of a table that is rewritten while it is empty a TRUNCATE cannot be told; declared as rewritten, it is none
        changed = [one for one in data if not (one["kind"] == "TRUNCATE" and one["relation"] in self.rewrites)]
        wrong = super()._undeclared_data(session, applied, changed)
        if wrong and applied.counted:
            self.data = data_to_declare(self.request.phase["data"], changed)
        return [] if applied.counted else wrong


class ObservedRollback(MeasuredRollback):
    """What C-09 checks; the tables that it rewrites are in the record of its transaction."""

    def stop_at_rewrites(self, unexpected: Sequence[str]) -> None:
        """Go on."""


def observe_phase(rehearsal: Rehearsal, archive: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Run the phase and its rollback on a copy and return what was observed, which ``observed.json`` of the run has as well.

    Arguments as for ``run_rehearsal``. Raises ``PhaseGateError`` for what no definition permits. The result has, of the migration,
    ``rows`` (those of each statement by tag, in file order), ``tables`` (those of ``table_sizes`` when they ran), ``result`` (of the trailing
    SELECT; None without one, a text where there is more than is compared), ``rewrites``,
    ``data``, ``row_counts``, ``allow``, ``checks``, ``moved`` (columns) as phase.yml would have them where it has not;
    ``rollback`` with ``rows``, ``tables``, ``rewrites``, ``restored``, ``reason``, ``missing`` (statements), ``changed`` (the tables
    whose rows stay changed, each with how many ``more`` it has) and ``kept`` (the columns that stay changed); and
    ``differs``: what the definition declares and the copy did not show, as pairs of texts.
    """
    rehearsal, made = restore_copy(rehearsal, archive, about)
    with rehearsal.client.session("phasegate:observe") as beside:
        observed = _observed(rehearsal, made, about, beside)
    text = json.dumps(observed, indent=2, ensure_ascii=False) + "\n"
    artefacts = rehearsal.artefacts
    DraftObserved(artefacts.write("observed.json", text.encode("utf-8"))).write(artefacts.journal)
    return observed


def _observed(rehearsal: Rehearsal, made: MadeDatabases, about: Mapping[str, Any], beside: Session) -> dict[str, Any]:
    """Run the phase and its rollback on the restored copy; ``beside`` keeps the rows of before."""
    client, artefacts, plan = rehearsal.client, rehearsal.artefacts, rehearsal.request.plan
    script = migration_script(rehearsal.request)
    kept = keep_rows(beside, plan["ddl"]["statements"])
    statements = [*plan["ddl"]["statements"], *plan["rollback"]["statements"]]
    changed = {name for one in statements if one["tag"] in ROW_TAGS for name in one["relations"]}
    sizes = table_sizes(beside, changed)
    with Step(artefacts, CopyMigrated).running() as migrated:
        start = read_copy(rehearsal, migrated)
        checks = ObservedChecks(client, _recording(rehearsal.request), migrated, start.live, start.words)
        with roles_recorded(client, made):
            applied = migrate_copy(rehearsal, _opened(script), checks)
    moved = moved_columns(beside, kept)
    sizes_now = table_sizes(beside, changed)
    step = Step(artefacts, CopyVerified)
    # what is not as declared ends this step only: it is in its record
    with contextlib.suppress(PhaseGateError), step.running() as verified:
        wanted = Verification.of_plan(plan, rehearsal.request.declared, rehearsal.request.ddl_sha256)
        run_verification(client, artefacts, wanted, verified, ("rehearsal_before", "rehearsal_after"), start.words)
    found = step.end.diff or {"changes": [], "offending": []}
    beside.execute("BEGIN READ ONLY")
    proposed = observed_checks(beside, found["changes"], applied.diff["changes"], plan["phase"]["batches"])
    beside.execute("ROLLBACK")
    undone = Step(artefacts, CopyRolledBack)
    with contextlib.suppress(PhaseGateError), undone.running() as rolled_back:
        baseline = migrated.end.baseline
        roll_copy_back(rehearsal, rolled_back, start.base.unlocated(), baseline, start.words, ObservedRollback)
    return {
        "rows": _rows_by_tag(applied.statements),
        "tables": {**sizes_now, **sizes},
        "result": _trailing_result(script, applied),
        "rewrites": list(checks.rewrites),
        "data": checks.data,
        "row_counts": _row_counts(applied),
        "allow": [{**entry, "seen": _seen(changes)} for entry, changes in entries_to_allow(found["offending"])],
        "moved": [one for one in moved if one["triggered"]],
        "checks": proposed,
        "rollback": {
            "tables": {**sizes, **sizes_now},
            "kept": moved_columns(beside, kept),
            **_of_rollback(rehearsal, beside, undone.end, about["contents"], start.base),
        },
        "differs": [*count_differences(script, applied), *checks.wrong],
    }


def _seen(changes: Sequence[Mapping[str, Any]]) -> str:
    """Return changes of one object in a line: what it was, and what it is."""
    texts = []
    for one in changes:
        before, after = (cut_short(" ".join((one[side] or "none").split()), _SHOWN) for side in ("before", "after"))
        what = (one["attribute"] or one["action"]).replace("_", " ")
        texts.append(f"{what}: {before} -> {after}" + (f" ({one['note']})" if one["note"] else ""))
    return escaped("; ".join(texts))


def _recording(request: MigrationRequest) -> MigrationRequest:
    """Return the request with a policy that permits any change of the schema; verification judges by the phase's own."""
    phase = {**request.phase, "diff": {"policy": "recorded"}}
    return dataclasses.replace(request, plan={**request.plan, "phase": phase}, capture="rehearsal_before")


def _opened(script: Script) -> Script:
    """Return the script with any number of rows and any result."""
    return dataclasses.replace(script, rows=dict.fromkeys(script.rows, _OPEN), result=None)


def _trailing_result(script: Script, applied: MigrationResult) -> Any:
    """Return the rows of the trailing SELECT, None without one; a text where not all of them were kept."""
    answer = trailing_answer(script, applied)
    return applied.result if is_whole(answer) else f"{answer.rows} rows"


def _rows_by_tag(statements: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for one in statements:
        if one["tag"] in ROW_TAGS:
            rows.setdefault(one["tag"], []).append(one["rows"])
    return rows


def _row_counts(applied: MigrationResult) -> list[dict[str, Any]]:
    """Return by how much the number of rows of each changed table changed, where the server has counted it."""
    net: dict[str, int] = {}
    for one in applied.data:
        if one["kind"] in ("INSERT", "DELETE", "UPDATE"):
            sign = {"INSERT": 1, "DELETE": -1}.get(one["kind"], 0)
            net[one["relation"]] = net.get(one["relation"], 0) + sign * one["rows"]
    return [{"relation": name, "change": change} for name, change in sorted(net.items())]


def _of_rollback(
    rehearsal: Rehearsal, session: Session, end: RolledBack, contents: TableDigests, before: Snapshot
) -> dict[str, Any]:
    """Return what the rollback did, what it lacks, and the tables that have other rows than before the migration."""
    now = read_table_digests(session)
    transaction, phase = end.transaction or {}, rehearsal.request.phase
    declared = {*phase["scope"]["rewrites"], *phase["rollback"]["rewrites"], *transaction.get("emptied", ())}
    restored = bool(end.restored)
    changed = [one for one in contents if restored and one in now and now[one] != list(contents[one])]
    return {
        "rows": _rows_by_tag(transaction.get("statements", ())),
        "rewrites": [one for one in transaction.get("rewrites", ()) if one not in declared],
        "restored": restored,
        "reason": end.reason or "",
        "missing": [] if restored else undo_statements(transaction.get("diff", {}).get("changes", ()), before.facts),
        "changed": [
            {"relation": _as_written(one), "more": int(now[one][0]) - int(contents[one][0])} for one in changed
        ],
    }


def _as_written(table: str) -> str:
    """Return a quoted name as phase.yml has it."""
    names = split_relation(table)
    return quoted_name(*names) if names else table
