# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks that say what changed objects are now: row level security, policies, and columns without NULL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.observed_objects import observed_checks
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client

BEFORE = """
CREATE SCHEMA app;
CREATE TABLE app."Orders" (id int PRIMARY KEY);
INSERT INTO app."Orders" VALUES (1), (2);
CREATE TABLE app.empty (id int);
"""

CHANGE = """
ALTER TABLE app."Orders" ADD COLUMN "Tenant" text, ADD COLUMN part text, ADD COLUMN given text NOT NULL DEFAULT 'x';
UPDATE app."Orders" SET "Tenant" = 'a', part = CASE WHEN id = 1 THEN 'one' END;
ALTER TABLE app."Orders" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON app."Orders" AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (id > 0) WITH CHECK (id > 1);
ALTER TABLE app.empty ADD COLUMN late text;
CREATE TABLE app.secret (id int);
ALTER TABLE app.secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON app.secret USING (true);
CREATE TABLE app.open (id int);
CREATE VIEW app.seen AS SELECT "Tenant" FROM app."Orders";
"""


def checks_of(client: Client, batched: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    with client.session("phasegate:test") as session:
        session.execute(BEFORE)
        before = take_snapshot(session)
        session.execute(CHANGE)
        changes = diff(before, take_snapshot(session)).as_list()
        session.execute("BEGIN READ ONLY")
        found = observed_checks(session, changes, changes, batched)
        session.execute("ROLLBACK")
    return {one["title"]: one for one in found}


def test_row_level_security_and_its_policies_are_checked(client: Client) -> None:
    checks = checks_of(client)
    # it takes the place of no other check of its table
    assert checks["app.secret has row level security as defined"]["names"] == []
    found = {title: one["expect"] for title, one in checks.items()}
    assert found['app."Orders" has row level security as defined'] == {"enabled": True, "forced": True}
    assert found["app.secret has row level security as defined"] == {"enabled": True, "forced": False}
    assert found['app."Orders" has policy own as defined'] == {
        "command": "UPDATE",
        "permissive": False,
        "roles": "PUBLIC",
        "using": "(id > 0)",
        "with check": "(id > 1)",
    }
    readers = {"command": "ALL", "permissive": True, "roles": "PUBLIC", "using": "true", "with check": None}
    assert found["app.secret has policy readers as defined"] == readers
    assert "app.open has row level security as defined" not in found


def test_a_new_column_that_is_filled_has_no_null(client: Client) -> None:
    found = {title: one for title, one in checks_of(client).items() if "NULL in" in title}
    assert found == {
        'no row of app."Orders" has NULL in Tenant': {
            "title": 'no row of app."Orders" has NULL in Tenant',
            "sql": 'SELECT pg_catalog.count(*) FROM app."Orders" WHERE "Tenant" IS NULL',
            "expect": 0,
            "names": [],
        }
    }


def test_a_column_that_batches_fill_is_checked_after_them(client: Client) -> None:
    assert checks_of(client, ('app."Orders"',))['no row of app."Orders" has NULL in Tenant']["after_commit"] is True
