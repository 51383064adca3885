# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a draft observes of objects whose names, types and comments are not the usual ones, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.moved_columns import keep_rows, moved_columns
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.observed_objects import observed_checks
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

pytestmark = pytest.mark.fault("draft-odd-objects")


def checks_of(cluster: Cluster, database: str, before: str, change: str) -> dict[str, Any]:
    """Return the answers that are proposed after a change, by title."""
    cluster.psql(before, database)
    with client_of(cluster, database).session("phasegate:test") as session:
        old = take_snapshot(session)
        cluster.psql(change, database)
        changes = diff(old, take_snapshot(session)).as_list()
        session.execute("BEGIN READ ONLY")
        return {one["title"]: one["expect"] for one in observed_checks(session, changes, changes)}


def test_a_name_with_several_blanks_is_asked_for_as_it_is(cluster: Cluster, empty_database: str) -> None:
    change = 'CREATE TABLE public."a  b" (id int); ALTER TABLE public."c\n d" DROP COLUMN id'
    found = checks_of(cluster, empty_database, 'CREATE TABLE public."c\n d" (id int)', change)
    assert found['public."a  b" has its columns'] == {"column": "id", "type": "integer", "required": False}
    assert found[r'public."c\n d" has no column id'] == 0


def test_what_phase_yml_cannot_declare_is_no_check(cluster: Cluster, empty_database: str) -> None:
    change = "COMMENT ON TABLE t IS U&'a \\202E comment'; COMMENT ON TABLE u IS 'plain'; ALTER TABLE v ADD COLUMN U&\"x\\0085\" int"
    found = checks_of(cluster, empty_database, "CREATE TABLE t (); CREATE TABLE u (); CREATE TABLE v ()", change)
    assert found == {"public.u has its comment": "plain"}


def test_columns_are_observed_under_names_that_are_reserved_words(cluster: Cluster, empty_database: str) -> None:
    cluster.psql(
        'CREATE SCHEMA "order"; CREATE TABLE "order"."user" (id text COLLATE "C" PRIMARY KEY, "select" int);'
        " CREATE FUNCTION \"order\".same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        ' CREATE TRIGGER same BEFORE UPDATE ON "order"."user" FOR EACH ROW EXECUTE FUNCTION "order".same();'
        " INSERT INTO \"order\".\"user\" VALUES ('a', 1), ('b', 2)",
        empty_database,
    )
    with client_of(cluster, empty_database).session("phasegate:test") as session:
        kept = keep_rows(session, [{"tag": "UPDATE", "relations": ["order.user"]}])
        cluster.psql('UPDATE "order"."user" SET "select" = 3 WHERE id = \'b\'', empty_database)
        assert moved_columns(session, kept) == [
            {"relation": "order.user", "key": "id", "column": "select", "changed": 1, "triggered": True}
        ]
