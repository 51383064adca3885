# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that PostgreSQL itself writes into a dump, and those that an inventory writes into a connection's values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import SchemaRecorded
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.data_capture import DataExpectations
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.state_capture import record_state
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import (
    CONNECTION_ARGUMENTS,
    Client,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.dump_secrets import WITHHELD, without_secrets
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import SECTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

SECRET = "canary-7f3a"

SETUP = f"""
CREATE FOREIGN DATA WRAPPER plain;
CREATE SERVER "odd; server" FOREIGN DATA WRAPPER plain OPTIONS (host 'db1', api_token '{SECRET}');
CREATE USER MAPPING FOR CURRENT_USER SERVER "odd; server"
    OPTIONS ("user" 'u{SECRET}', password 'it''s;\n{SECRET}', "back\\slash" 'a\\{SECRET}');
CREATE USER MAPPING FOR PUBLIC SERVER "odd; server" OPTIONS (x '{SECRET}');
CREATE FOREIGN TABLE public.far (id int) SERVER "odd; server" OPTIONS (secret_access_key '{SECRET}', path '/data');
CREATE SUBSCRIPTION "sub'; x" CONNECTION 'host=db1 password={SECRET}' PUBLICATION p
    WITH (connect = false, slot_name = 'slot');
"""


@pytest.mark.fault("dumped-secrets")
def test_no_secret_of_a_dump_is_in_the_artefacts(client: Client, cluster: Cluster, tmp_path: Path) -> None:
    with client.session() as session:
        for statement in SETUP.split(";\nCREATE "):
            text = statement.strip().rstrip(";")
            session.execute(text if text.startswith("CREATE") else f"CREATE {text}")
    artefacts = RunDirectory(str(tmp_path / "run"))
    artefacts.create()
    try:
        nothing = DataExpectations.from_definition([], [])
        record_state(client, artefacts, "before", nothing, SECTIONS, Step(artefacts, SchemaRecorded))
    finally:
        cluster.psql('ALTER SUBSCRIPTION "sub\'; x" SET (slot_name = NONE)', client.database)
        cluster.psql('DROP SUBSCRIPTION "sub\'; x"', client.database)
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
    dump = (tmp_path / "run" / "schema" / "before.sql").read_bytes()
    assert dump.count(WITHHELD) == 7
    for kept in (b"host 'db1'", b"path '/data'", b"slot_name = 'slot'", b"CREATE TABLE public."):
        assert kept in dump


@pytest.mark.parametrize(
    "text",
    [
        b"CREATE TABLE a (b text DEFAULT 'password');\n",
        b"-- CREATE USER MAPPING\nSELECT 'x';\n",
        b"CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (\n    host 'h'\n);\n\nSELECT 'x';\n",
        b"",
    ],
)
def test_other_text_stays_as_it_is(text: bytes) -> None:
    assert without_secrets(text) == text


@pytest.mark.fault("dumped-secrets")
@pytest.mark.parametrize(
    "before",
    [
        b"CREATE FUNCTION app.f() RETURNS void LANGUAGE plpgsql AS $_$BEGIN\n/*\nCREATE SERVER '\n*/ END$_$;\n",
        b"CREATE FUNCTION app.f() RETURNS text LANGUAGE sql AS '\nCREATE SERVER ''\n';\n",
        b"CREATE FUNCTION app.f() RETURNS text LANGUAGE sql AS E'\\\\\nCREATE SERVER \\';\n';\n",
        b'CREATE TABLE app."\nCREATE SERVER \' (id int);\n";\n',
        b"-- Name: it's\nCREATE TABLE app.a$b$ (x$b$ int);\n",
    ],
)
def test_no_text_before_a_statement_hides_its_secret(before: bytes) -> None:
    mapping = f"CREATE USER MAPPING FOR a SERVER s OPTIONS (password '{SECRET}');\n".encode()
    assert without_secrets(before + mapping) == before + mapping.replace(f"'{SECRET}'".encode(), WITHHELD)


@pytest.mark.parametrize(
    "text", [b"CREATE USER MAPPING FOR a SERVER s OPTIONS (x 'cut", b"CREATE SUBSCRIPTION s CONNECTION 'a"]
)
def test_a_text_that_is_cut_ends(text: bytes) -> None:
    assert without_secrets(text).startswith(b"CREATE ")


@pytest.mark.parametrize(
    "value",
    [
        f"dbname=app password={SECRET}",
        f"postgresql://u:{SECRET}@db1/app",
        f"POSTGRES://u:{SECRET}@db1/app",
        f"password = '{SECRET}'",
        f"app?password={SECRET}",
        f"app sslpassword={SECRET}",
    ],
)
@pytest.mark.parametrize("option", ["database", "host", "user", "service", "passfile"])
@pytest.mark.fault("connection-strings")
def test_a_connection_string_is_refused_and_not_repeated(option: str, value: str) -> None:
    with pytest.raises(PhaseGateError) as refused:
        Client.from_params({**dict.fromkeys(CONNECTION_ARGUMENTS), "database": "app", option: value})
    assert f"The connection's {option} is a connection string or URL." in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", ["a=b", "user data", "it's = odd", "hosts=1", "/run/x=y"])
def test_odd_names_are_names(name: str) -> None:
    assert Client(database=name, host=name).database == name
