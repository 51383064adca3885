# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members of extensions: what is done to them by hand is seen, and a fresh installation has equal facts everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import (
    read_changed,
    read_facts,
    take_snapshot,
    unchanged_since,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.restore_normalisation import normalise
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from ansible_collections.incomex.phasegate.tests.support.versions import only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

# of an extension with functions, operators and types of its own, which only one package of programs has
pytestmark = only(16, "pgvector is in its package")

SETUP = """
CREATE EXTENSION vector;
CREATE SCHEMA app;
CREATE TABLE app.settings (id int PRIMARY KEY);
CREATE VIEW app.seen AS SELECT id FROM app.settings;
CREATE TYPE app.colour AS ENUM ('red');
CREATE SEQUENCE app.numbers;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE DOMAIN app.small AS int;
CREATE TEXT SEARCH DICTIONARY app.plain (TEMPLATE = pg_catalog.simple);
CREATE TABLE app.own (id int);
ALTER EXTENSION vector ADD TABLE app.settings;
ALTER EXTENSION vector ADD VIEW app.seen;
ALTER EXTENSION vector ADD TYPE app.colour;
ALTER EXTENSION vector ADD SEQUENCE app.numbers;
ALTER EXTENSION vector ADD DOMAIN app.small;
ALTER EXTENSION vector ADD TEXT SEARCH DICTIONARY app.plain;
"""

REPLACED = (
    "CREATE OR REPLACE FUNCTION public.l2_distance(public.vector, public.vector) RETURNS float8 LANGUAGE sql"
    " IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT 0::float8'"
)

DEFINITION = "extension_member definition"


@pytest.fixture(scope="module")
def session(cluster: Cluster) -> Iterator[Session]:
    name = "extension_members"
    cluster.create_database(name)
    cluster.psql(SETUP, name)
    with client_of(cluster, name).session("phasegate:test") as opened:
        yield opened
    cluster.drop_database(name)


@pytest.fixture(scope="module")
def base(session: Session) -> Snapshot:
    return take_snapshot(session)


@pytest.mark.parametrize(
    ("sql", "change"),
    [
        (REPLACED, DEFINITION),
        ("ALTER FUNCTION public.l2_distance(public.vector, public.vector) SECURITY DEFINER", DEFINITION),
        ("ALTER FUNCTION public.l2_distance(public.vector, public.vector) SET search_path = app", DEFINITION),
        (
            "ALTER FUNCTION public.l2_distance(public.vector, public.vector) OWNER TO pg_monitor",
            "extension_member owner",
        ),
        ("ALTER FUNCTION public.vector_norm(public.vector) RENAME TO other_norm", "extension_member renamed"),
        ("ALTER OPERATOR public.= (public.vector, public.vector) SET (RESTRICT = NONE)", DEFINITION),
        ("ALTER TYPE public.vector SET (RECEIVE = NONE)", DEFINITION),
        ("ALTER EXTENSION vector DROP FUNCTION public.vector_norm(public.vector)", "extension_member removed"),
        ("ALTER EXTENSION vector DROP TABLE app.settings", "extension_member removed"),
        ("ALTER EXTENSION vector ADD TABLE app.own", "extension_member added"),
        ("ALTER EXTENSION plpgsql ADD FUNCTION app.touch()", "extension_member added"),
        ("ALTER TABLE app.settings ADD COLUMN more int", DEFINITION),
        ("ALTER TABLE app.settings ALTER id SET DEFAULT 7", DEFINITION),
        ("ALTER TABLE app.settings ADD CHECK (id > 0)", DEFINITION),
        ("ALTER TABLE app.settings ENABLE ROW LEVEL SECURITY", DEFINITION),
        ("CREATE POLICY p ON app.settings USING (false)", DEFINITION),
        ("CREATE INDEX more ON app.settings (id)", DEFINITION),
        ("CREATE TRIGGER t AFTER INSERT ON app.settings FOR EACH ROW EXECUTE FUNCTION app.touch()", DEFINITION),
        ("CREATE RULE r AS ON DELETE TO app.settings DO INSTEAD NOTHING", DEFINITION),
        ("CREATE OR REPLACE VIEW app.seen AS SELECT id + 1 - 1 AS id FROM app.settings", DEFINITION),
        ("ALTER TYPE app.colour ADD VALUE 'blue'", DEFINITION),
        ("ALTER SEQUENCE app.numbers CYCLE", DEFINITION),
        ("ALTER DOMAIN app.small ADD CHECK (VALUE < 9)", DEFINITION),
        ("ALTER TEXT SEARCH DICTIONARY app.plain (accept = false)", DEFINITION),
        (
            "ALTER OPERATOR FAMILY public.vector_ops USING btree ADD FUNCTION 4 (public.vector, public.vector) btequalimage(oid)",
            DEFINITION,
        ),
    ],
    ids=lambda text: text[:60],
)
@pytest.mark.fault("extension-members")
def test_what_is_done_to_a_member_is_seen(session: Session, base: Snapshot, sql: str, change: str) -> None:
    session.execute("BEGIN")
    try:
        session.execute(sql)
        delta = read_changed(session, base)
        full = read_facts(session)
    finally:
        session.execute("ROLLBACK")
    assert delta.facts == full.facts
    changes = diff(base, full)
    assert diff(base, delta).changes == changes.changes
    found = [f"{one.kind} {one.attribute or one.action}" for one in changes.changes]
    assert change in found, changes.text()
    assert {one.severity.value for one in changes.changes} & {"changing", "destructive"}
    assert unchanged_since(session, base)


@pytest.mark.fault("extension-members")
def test_a_fresh_installation_has_equal_facts_and_a_replaced_member_has_not(
    cluster: Cluster, empty_database: str
) -> None:
    copy = f"{empty_database}_copy"
    cluster.create_database(copy)
    try:
        # other OIDs, and another order
        cluster.psql("CREATE EXTENSION vector", empty_database)
        cluster.psql("CREATE TABLE t (); CREATE EXTENSION vector; DROP TABLE t", copy)
        one, other = snapshot(cluster, empty_database), snapshot(cluster, copy)
        assert len([line for line in one.facts if line.startswith('["extension_member"')]) > 100
        assert diff(normalise(one), normalise(other)).text() == "no difference"
        cluster.psql(REPLACED, copy)
        replaced = snapshot(cluster, copy)
        (change,) = [found for found in diff(other, replaced).changes if found.kind == "extension_member"]
        assert change.identity[:2] == ("vector", "function")
        # an update may leave a member otherwise than a fresh installation makes it: no reason to refuse a rehearsal
        assert diff(normalise(one), normalise(replaced)).text() == "no difference"
    finally:
        cluster.drop_database(copy)


@pytest.mark.fault("extension-members")
def test_a_new_extension_is_one_change_with_its_members(
    session: Session, cluster: Cluster, empty_database: str
) -> None:
    del session
    before = snapshot(cluster, empty_database)
    cluster.psql("CREATE EXTENSION vector", empty_database)
    (change,) = [one for one in diff(before, snapshot(cluster, empty_database)).changes if one.kind != "acl"]
    assert (change.kind, change.severity.value) == ("extension", "additive")
    assert len(change.parts) > 100


def snapshot(cluster: Cluster, database: str) -> Snapshot:
    """Return a snapshot of a database."""
    with client_of(cluster, database).session("phasegate:test") as opened:
        return take_snapshot(opened)
