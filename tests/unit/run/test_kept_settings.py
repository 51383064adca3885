# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trigger's function sets holds for no later statement, whatever words stand in the statement that fires it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE SCHEMA yard;
CREATE TABLE yard.kinds (id int PRIMARY KEY);
CREATE TABLE yard.trucks (id int, kind int REFERENCES yard.kinds, words tsvector, n numeric);
INSERT INTO yard.trucks VALUES (1);
CREATE FUNCTION yard.turned() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM {}; RETURN NEW; END$$;
CREATE TRIGGER turned BEFORE UPDATE ON yard.trucks FOR EACH ROW EXECUTE FUNCTION yard.turned();
"""
REPLICA = "set_config('session_replication_role', 'replica', true)"
ORPHAN = "INSERT INTO yard.trucks VALUES (2, 99)"
WORDS = "INSERT INTO yard.trucks (id, words) VALUES (2, pg_catalog.to_tsvector('the running cats'))"


@pytest.mark.fault("settings-of-triggers")
@pytest.mark.parametrize(
    ("tried", "update", "then", "found"),
    [
        (REPLICA, "UPDATE yard.trucks SET n = 1", ORPHAN, None),
        (REPLICA, "UPDATE yard.trucks SET n = 1 /* no set_config here */", ORPHAN, None),
        (REPLICA, "UPDATE yard.trucks SET n = length('session_replication_role row_security')", ORPHAN, None),
        # a statement that is about one setting lets no other through
        (REPLICA, "UPDATE yard.trucks SET n = length(pg_catalog.set_config('lock_timeout', '3s', true))", ORPHAN, None),
        (
            "set_config('default_text_search_config', 'pg_catalog.simple', true)",
            "UPDATE yard.trucks SET n = 1",
            WORDS,
            "'cat':3 'run':2",
        ),
        (
            "set_config('default_text_search_config', 'pg_catalog.simple', false)",
            "UPDATE yard.trucks SET n = 1 /* set_config */",
            WORDS,
            "'cat':3 'run':2",
        ),
    ],
)
def test_no_setting_of_a_trigger_reaches_the_next_statement(  # noqa: PLR0917
    cluster: Cluster, empty_database: str, tmp_path: Path, tried: str, update: str, then: str, found: str | None
) -> None:
    cluster.psql(
        BEFORE.format(tried) + f"ALTER DATABASE {empty_database} SET default_text_search_config = 'english'",
        empty_database,
    )
    definition = {
        "scope": {"schemas": ["app", "yard"], "statements": ["UPDATE", "INSERT"]},
        "expect": {"tags": {"UPDATE": 1, "INSERT": 1}, "rows": {"UPDATE": [1], "INSERT": [1]}},
    }
    files = PhaseFiles(tmp_path).write(definition, ddl=f"{update};\n{then};\n".encode())
    outcome = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare().migrate()
    if found is None:
        assert outcome.data["outcome"] == "ROLLED_BACK"
        assert "violates foreign key constraint" in outcome.message
    else:
        assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
        assert cluster.psql("SELECT words FROM yard.trucks WHERE id = 2", empty_database) == found


def test_what_the_phase_sets_itself_holds(cluster: Cluster, empty_database: str, tmp_path: Path) -> None:
    cluster.psql(BEFORE.format("set_config('work_mem', '64kB', true)"), empty_database)
    ddl = (
        "SET LOCAL lock_timeout = '7s';\nUPDATE yard.trucks SET n = 1;\n"
        "SELECT pg_catalog.current_setting('lock_timeout') AS waits;\n"
    )
    definition = {
        "scope": {"schemas": ["app", "yard"], "statements": ["SET LOCAL", "UPDATE", "SELECT"]},
        "expect": {"tags": {"SET": 1, "UPDATE": 1, "SELECT": 1}, "rows": {"UPDATE": [1]}, "result": {"waits": "7s"}},
    }
    files = PhaseFiles(tmp_path).write(definition, ddl=ddl.encode())
    outcome = Run.of(client_of(cluster, empty_database), tmp_path / "runs", files.path).prepare().migrate()
    assert (outcome.message, outcome.data["outcome"]) == ("", "COMMITTED")
