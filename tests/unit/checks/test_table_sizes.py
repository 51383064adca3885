# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the tables of a migration are, and which columns name a row of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.table_sizes import table_sizes

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client

SETUP = """
CREATE SCHEMA app;
CREATE TABLE app."Parts" (id int PRIMARY KEY, a int, b text, UNIQUE (b, id) INCLUDE (a)) PARTITION BY RANGE (id);
CREATE TABLE app.one PARTITION OF app."Parts" FOR VALUES FROM (0) TO (10);
INSERT INTO app."Parts" SELECT n, n, n FROM generate_series(1, 4) n;
CREATE TABLE app.t (a int, b int);
CREATE UNIQUE INDEX ON app.t (a) WHERE b > 1;
CREATE UNIQUE INDEX ON app.t ((a + b));
CREATE INDEX ON app.t (b);
CREATE SCHEMA "order";
CREATE TABLE "order"."user" (id int);
CREATE VIEW app.v AS SELECT * FROM app.t;
"""


def test_tables_have_their_rows_and_keys(client: Client) -> None:
    with client.session("phasegate:test") as session:
        session.execute(SETUP)
        found = table_sizes(session, ['app."Parts"', "app.missing", "app.t", "app.v", "order.user"])
        assert table_sizes(session, []) == {}
    keys = {frozenset(key) for key in found['app."Parts"'].pop("keys")}
    assert keys == {frozenset({"id"}), frozenset({"b", "id"})}
    assert found == {
        'app."Parts"': {"rows": 4},
        "app.t": {"rows": 0, "keys": []},
        "order.user": {"rows": 0, "keys": []},
    }
