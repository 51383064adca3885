# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal's copy: where it is refused before anything is made, and that it is like its source."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.backup import back_up
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.dump import BackupOptions
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.restore import (
    MARK,
    require_ready,
    restore_backup,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_settings import (
    diff_server_settings,
    server_facts,
)
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.connection import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

#: Stands for the system identifier of a source that is another cluster.
ELSEWHERE = "7000000000000000001"


@pytest.fixture
def copy(cluster: Cluster) -> Iterator[Client]:
    """A client of a database that does not exist yet."""
    yield client_of(cluster, "copy_of_source")
    cluster.psql("DROP DATABASE IF EXISTS copy_of_source")


@pytest.fixture
def source(cluster: Cluster) -> Iterator[Client]:
    """A database with a collation and settings of its own, which a dump does not carry."""
    cluster.psql("CREATE DATABASE source TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'")
    cluster.psql("ALTER DATABASE source SET DateStyle TO 'German'; ALTER DATABASE source SET TimeZone TO 'Asia/Tokyo'")
    cluster.psql("CREATE TABLE public.t (id int PRIMARY KEY); INSERT INTO public.t VALUES (1), (2)", "source")
    yield client_of(cluster, "source")
    cluster.psql("DROP DATABASE source")


def facts(client: Client, **changes: Any) -> dict[str, Any]:
    with client.session() as session:
        return {**server_facts(session), **changes}


def test_a_copy_has_rows_collation_and_settings_of_its_source(source: Client, copy: Client, tmp_path: Path) -> None:
    path = str(tmp_path / "backup.dump")
    _record, contents = back_up(source, RunDirectory(str(tmp_path)), BackupOptions(compression="none", contents=True))
    told = restore_backup(
        copy, path, source=ELSEWHERE, roles=["workflow_admin"], server=facts(source), contents=contents
    )
    assert told["settings_given"] == ["DateStyle", "TimeZone"]
    assert diff_server_settings(facts(source), facts(copy)) == []
    with copy.session() as session:
        assert session.rows("SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()") == [
            ("C", "C.UTF-8")
        ]
        assert session.value("SELECT count(*) FROM public.t") == "2"
    # the mark of a rehearsal lets the next one make the database anew
    restore_backup(copy, path, source=ELSEWHERE, roles=["workflow_admin"], server=facts(source), contents=contents)


def refused(client: Client, source: str = ELSEWHERE, **changes: Any) -> str:
    server = facts(dataclasses.replace(client, database="postgres"), **changes)
    with pytest.raises(PhaseGateError) as caught:
        require_ready(client, source=source, server=server)
    assert caught.value.expected
    assert caught.value.next_step
    return str(caught.value)


def test_the_source_itself_is_refused(cluster: Cluster, copy: Client) -> None:
    identifier = cluster.psql("SELECT system_identifier FROM pg_control_system()")
    assert "The rehearsal cluster is the production cluster." in refused(copy, identifier)


def test_another_major_version_is_refused(copy: Client) -> None:
    assert "expected: PostgreSQL 15\n  found: PostgreSQL 16" in refused(copy, server_version="15.7")


def test_a_missing_extension_is_named(copy: Client) -> None:
    assert "missing: absent_one, absent_two" in refused(
        copy, extensions=[["absent_two", "1"], ["plpgsql", "1"], ["absent_one", "1"]]
    )


def test_a_role_that_is_no_superuser_is_refused(cluster: Cluster, copy: Client) -> None:
    cluster.psql("CREATE ROLE weak LOGIN")
    try:
        assert "role weak without SUPERUSER" in refused(dataclasses.replace(copy, user="weak"))
    finally:
        cluster.psql("DROP ROLE weak")


def test_a_database_that_somebody_else_made_is_left_alone(cluster: Cluster, copy: Client) -> None:
    cluster.psql("CREATE DATABASE copy_of_source")
    assert "has a database 'copy_of_source' that was not created by a rehearsal" in refused(copy)
    cluster.psql(f"COMMENT ON DATABASE copy_of_source IS '{MARK}'")
    require_ready(copy, source=ELSEWHERE, server=facts(copy))


SERVER: dict[str, Any] = {
    "server_version": "16.13 (Debian 16.13-1)",
    "timezone": "UTC",
    "encoding": "UTF8",
    "collation": {"collate": "C", "ctype": "C", "provider": "c", "icu": ""},
    "extensions": [["plpgsql", "1.0"]],
    "settings": {"DateStyle": "ISO, MDY", "bytea_output": "hex"},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_version": "16.14"}, []),
        ({"server_version": "17.1"}, ["PostgreSQL: major version 16 / 17.1"]),
        ({"server_version": "1.16"}, ["PostgreSQL: major version 16 / 1.16"]),
        ({"timezone": "Asia/Tokyo"}, ["TimeZone: UTC / Asia/Tokyo"]),
        ({"encoding": "LATIN1"}, ["encoding: UTF8 / LATIN1"]),
        ({"collation": {**SERVER["collation"], "collate": "de_DE"}}, ["collation collate: 'C' / 'de_DE'"]),
        ({"extensions": [["plpgsql", "1.1"]]}, ["extension plpgsql: '1.0' / '1.1'"]),
        ({"extensions": []}, ["extension plpgsql: '1.0' / 'none'"]),
        ({"extensions": [["a", "1"], ["plpgsql", "1.0"]]}, ["extension a: 'none' / '1'"]),
        (
            {"settings": {"DateStyle": "German", "bytea_output": "escape"}},
            ["DateStyle: 'ISO, MDY' / 'German'", "bytea_output: 'hex' / 'escape'"],
        ),
    ],
)
def test_what_differs_between_servers_is_named(changes: dict[str, Any], words: list[str]) -> None:
    assert [
        f"{one.name}: {one.expected} / {one.found}" for one in diff_server_settings(SERVER, {**SERVER, **changes})
    ] == words
