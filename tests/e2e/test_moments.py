# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Phases that change what a rehearsal compares or depends on: extensions, settings of the database, functions that a restore calls."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

#: One that the binaries of this version have.
EXTENSION = "vector" if MAJOR == 16 else "hstore"

#: Of each phase: the setup, the SQL with its only kind, the rollback with its own, and what the diff policy has to allow.
PHASES: dict[str, tuple[str, str, str, str, str, str]] = {
    "an extension less": (
        f"CREATE EXTENSION {EXTENSION}",
        "DROP EXTENSION",
        f"DROP EXTENSION {EXTENSION}",
        "CREATE EXTENSION",
        f"CREATE EXTENSION {EXTENSION} WITH SCHEMA public",
        "extension",
    ),
    "an extension more": (
        "",
        "CREATE EXTENSION",
        f"CREATE EXTENSION {EXTENSION} WITH SCHEMA public",
        "DROP EXTENSION",
        f"DROP EXTENSION {EXTENSION}",
        "extension",
    ),
    "a setting of the database": (
        "",
        "ALTER DATABASE",
        "ALTER DATABASE {database} SET work_mem = '8MB'",
        "ALTER DATABASE",
        "ALTER DATABASE {database} RESET work_mem",
        "role_setting",
    ),
}

# A function that an index calls, and a generated column's: each calls another one by its bare name.
BARE_NAMES = {
    "index": "CREATE INDEX ON public.boxes (depot.quarter(width));",
    "generated column": "ALTER TABLE public.boxes ADD q int GENERATED ALWAYS AS (depot.quarter(width)) STORED;",
}
UNRESTORABLE = """
CREATE SCHEMA depot;
CREATE FUNCTION depot.half(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';
CREATE FUNCTION depot.quarter(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN half(half($1)); END';
CREATE TABLE public.boxes (id int PRIMARY KEY, width int);
INSERT INTO public.boxes VALUES (1, 8);
SET search_path = depot, public;
"""


def phase_files(directory: Path, kind: str, ddl: str, undo_kind: str, undo: str, **keys: Any) -> PhaseFiles:
    """Write a phase of one statement."""
    directory.mkdir()
    rollback = f"{undo};\n".encode()
    definition = {
        "phase": directory.name,
        "scope": {"schemas": ["public", "depot"], "statements": [kind]},
        "expect": {"tags": {" ".join(kind.split()[:2]): 1}},
        "rollback": {
            "file": "rollback.sql",
            "sha256": hashlib.sha256(rollback).hexdigest(),
            "statements": [undo_kind],
            "cannot_restore": [],
        },
    }
    return PhaseFiles(directory).write({**definition, **keys}, ddl=f"{ddl};\n".encode(), rollback=rollback)


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.fault("facts-changed")
def test_what_a_rehearsal_compares_may_be_what_the_phase_changes(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster, name: str
) -> None:
    setup, kind, ddl, undo_kind, undo, changed = PHASES[name]
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(f"{setup}; CREATE TABLE public.boxes (id int)", target.database)
    before = target.dump("--schema-only", "--create")
    ddl, undo = (text.format(database=target.database) for text in (ddl, undo))
    files = phase_files(tmp_path / "small", kind, ddl, undo_kind, undo, diff={"allow": [{"kind": changed}]})
    rehearsed = target.rehearse(rehearsal_cluster, files.path)
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    executed = target.play(
        "playbooks/execute.yml", extra_vars={"phasegate_phase_file": files.path, "phasegate_plan": str(plan)}
    )
    assert executed.rc == 0, executed.stdout
    assert target.dump("--schema-only", "--create") != before
    execution = next(one for one in target.bundles() if "rehearsal" not in one.path.name)
    assert execution.gates["G-10"] == "PASS"
    confirmed = {"phasegate_execution": str(execution.path), "phasegate_confirm": execution.path.name}
    undone = target.play("playbooks/rollback.yml", extra_vars=confirmed)
    assert undone.rc == 0, undone.stdout
    assert target.dump("--schema-only", "--create") == before


@pytest.mark.parametrize("name", BARE_NAMES)
@pytest.mark.fault("dump-unrestorable")
def test_a_database_that_no_dump_restores_is_repaired_as_documented(
    cluster: Cluster, empty_database: str, tmp_path: Path, rehearsal_cluster: Cluster, name: str
) -> None:
    target = Target(cluster, empty_database, tmp_path)
    cluster.psql(UNRESTORABLE + BARE_NAMES[name], target.database)
    later = phase_files(
        tmp_path / "later",
        "ALTER TABLE ADD COLUMN",
        "ALTER TABLE public.boxes ADD COLUMN note text",
        "ALTER TABLE DROP COLUMN",
        "ALTER TABLE public.boxes DROP COLUMN note",
    )
    refused = target.rehearse(rehearsal_cluster, later.path)
    assert refused.rc != 0
    assert "G-5: the backup cannot be restored" in refused.messages
    assert "half was looked up without its schema" in refused.messages

    repair = phase_files(
        tmp_path / "repair",
        "ALTER FUNCTION",
        "ALTER FUNCTION depot.quarter(int) SET search_path = depot, pg_temp",
        "ALTER FUNCTION",
        "ALTER FUNCTION depot.quarter(int) RESET search_path",
        diff={"allow": [{"kind": "function", "object": "depot.quarter*"}]},
    )
    repaired = target.play("playbooks/execute.yml", extra_vars={"phasegate_phase_file": repair.path})
    assert repaired.rc == 0, repaired.stdout
    execution = next(one for one in target.bundles() if one.path.name.startswith("repair_"))
    assert execution.gates["G-9"] == execution.gates["G-10"] == "NOT ENFORCED"

    rehearsed = target.rehearse(rehearsal_cluster, later.path)
    assert rehearsed.rc == 0, rehearsed.stdout
