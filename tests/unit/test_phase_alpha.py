# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every check of Phase Alpha, each against the state that it is for and the one that it must reject."""

from __future__ import annotations

import hashlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import failed_checks, run_read_only
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase
from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

PHASE = load_phase(str(ALPHA))
MIGRATE = PHASE.migrate.data.decode("utf-8")
ROLLBACK = PHASE.rollback.data.decode("utf-8")
UNIT = "public.tac_logical_unit"
ALIAS = "cutter_governance.canonical_address_alias"


def failed(cluster: Cluster, database: str, section: str) -> list[str]:
    """Return the ids of the SQL checks that do not pass."""
    checks = [check for check in PHASE.definition[section] if "sql" in check]
    with client_of(cluster, database).session() as session:
        results = run_read_only(session, checks, {})
    return [result.id for result in failed_checks(results)]


def schema(cluster: Cluster, database: str) -> str:
    argv = [str(bin_directory() / "pg_dump"), "--schema-only", "--restrict-key=x", "-d", cluster.dsn(database)]
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout


def test_the_state_before(cluster: Cluster, database: str) -> None:
    assert failed(cluster, database, "preflight") == []
    # what holds already without the migration says nothing about it, and must still hold after it
    holds = {"VA-11", "VA-12", "VA-14", "VA-15"}
    every = [check["id"] for check in PHASE.definition["verify"] if "sql" in check]
    assert failed(cluster, database, "verify") == [name for name in every if name not in holds]


def test_the_state_after(cluster: Cluster, database: str) -> None:
    row = cluster.psql(MIGRATE, database)
    assert row.split("|") == [str(value) for value in PHASE.definition["expect"]["result"].values()]
    assert failed(cluster, database, "verify") == []
    assert failed(cluster, database, "non_scope") == []
    assert failed(cluster, database, "preflight") == ["P-5", "P-6", "P-7"]
    assert cluster.psql(f"SELECT count(*), count(DISTINCT updated_at) FROM {UNIT}", database) == "86|1"


def test_the_rollback_restores_the_schema(cluster: Cluster, database: str) -> None:
    before = schema(cluster, database)
    cluster.psql(MIGRATE, database)
    assert schema(cluster, database) != before
    cluster.psql(ROLLBACK, database)
    assert schema(cluster, database) == before


def test_the_rollback_does_not_take_what_depends_on_the_new_objects(cluster: Cluster, database: str) -> None:
    cluster.psql(MIGRATE + f"CREATE VIEW public.v AS SELECT authority FROM {UNIT};", database)
    with pytest.raises(Exception, match="other objects depend on it"):
        cluster.psql(ROLLBACK, database)
    assert failed(cluster, database, "verify") == []


@pytest.mark.parametrize(
    ("damage", "ids"),
    [
        ("DROP TABLE cutter_governance.verify_finding", ["P-4"]),
        ("ALTER SCHEMA cutter_governance RENAME TO other", ["P-3", "P-4"]),
        (f"CREATE TABLE {ALIAS} ()", ["P-5"]),
        (f"ALTER TABLE {UNIT} ADD authority text", ["P-6"]),
        ("ALTER TABLE sandbox_tac.logical_unit ADD canonical_address_format_version text", ["P-7"]),
        (
            f"DELETE FROM {UNIT} WHERE unit_id NOT IN (SELECT parent_id FROM {UNIT} WHERE parent_id IS NOT NULL)",
            ["P-8"],
        ),
        ("TRUNCATE sandbox_tac.logical_unit", ["P-9"]),
        ("UPDATE public.tac_section_type_vocab SET is_active = false WHERE section_type = 'article'", ["P-10"]),
        (f"UPDATE {UNIT} SET parent_id = gen_random_uuid() WHERE parent_id IS NOT NULL", ["P-10"]),
        (f"UPDATE {UNIT} SET canonical_address = canonical_address || 'x'", ["P-10"]),
        (f"UPDATE {UNIT} SET canonical_address = 'x' || canonical_address", ["P-10"]),
    ],
)
def test_preflight_rejects(cluster: Cluster, database: str, damage: str, ids: list[str]) -> None:
    cluster.psql(f"SET session_replication_role = replica; {damage}", database)
    assert failed(cluster, database, "preflight") == ids


@pytest.mark.parametrize(
    ("damage", "verify", "non_scope"),
    [
        (f"ALTER TABLE {UNIT} ALTER authority DROP DEFAULT", ["VA-1"], []),
        (f"ALTER TABLE {UNIT} ALTER authority SET NOT NULL", ["VA-1"], ["NS-3"]),
        ("ALTER TABLE sandbox_tac.logical_unit ALTER authority TYPE varchar", ["VA-2"], []),
        (f"ALTER TABLE {ALIAS} ADD note text", ["VA-4"], []),
        ("DROP INDEX cutter_governance.idx_alias_alias_kind", ["VA-5"], []),
        ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cutter_governance.idx_alias_alias_text'::regclass", ["VA-5"], []),
        (f"UPDATE {UNIT} SET authority = 'runtime'", ["VA-6"], []),
        (f"UPDATE {UNIT} SET canonical_address_format_version = 'v2'", ["VA-7"], []),
        ("UPDATE sandbox_tac.logical_unit SET authority = 'draft'", ["VA-8"], []),
        ("UPDATE sandbox_tac.logical_unit SET canonical_address_format_version = 'v2'", ["VA-9"], []),
        (f"INSERT INTO {ALIAS} (target_unit_id, alias_text, alias_kind) VALUES (gen_random_uuid(), 'x', 'y')", ["VA-10", "VA-13rows"], ["NS-2"]),
        (f"ALTER TABLE {UNIT} ALTER canonical_address SET DEFAULT ''", ["VA-11"], []),
        (f"ALTER TABLE {UNIT} DROP CONSTRAINT tac_logical_unit_canonical_address_key", ["VA-12"], []),
        ("CREATE TABLE cutter_governance.review_queue ()", ["VA-13"], ["NS-1"]),
        ("TRUNCATE sandbox_tac.logical_unit", ["VA-8", "VA-9", "VA-15"], []),
        (f"ALTER TABLE {UNIT} ADD CHECK (authority <> '')", [], ["NS-3"]),
        (f"ALTER TABLE {ALIAS} ADD FOREIGN KEY (target_unit_id) REFERENCES {UNIT}", [], ["NS-4"]),
        (
            "CREATE TABLE public.directus_collections (collection text);"
            "CREATE TABLE public.directus_fields (collection text, field text);"
            "INSERT INTO public.directus_fields VALUES ('tac_logical_unit', 'authority')",
            [],
            ["NS-5"],
        ),
    ],
)  # fmt: skip
def test_verification_rejects(
    cluster: Cluster, database: str, damage: str, verify: list[str], non_scope: list[str]
) -> None:
    cluster.psql(f"{MIGRATE} SET session_replication_role = replica; {damage}", database)
    assert failed(cluster, database, "verify") == verify
    assert failed(cluster, database, "non_scope") == non_scope


def test_the_statements_are_the_file() -> None:
    statements: list[Any] = analyse_phase(PHASE).migrate
    check_cover(statements, PHASE.migrate.data, hashlib.sha256(PHASE.migrate.data).hexdigest())
    assert [statement["run"] for statement in statements].count(False) == 2


@pytest.mark.parametrize("name", ["r1", "hidden_drop_column"])
def test_the_phases_that_must_be_stopped_are_valid_phases(name: str) -> None:
    path = ALPHA.parents[3] / "tests" / "fixtures" / "phases" / name / "phase.yml"
    analyse_phase(load_phase(str(path)))
