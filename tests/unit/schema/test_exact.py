# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two new objects of one name are the same change only if everything in them is the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import evaluate_policy
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import read_facts, take_snapshot
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from ansible_collections.incomex.phasegate.tests.support.versions import since

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

FIRST = "CREATE TABLE app.n (id int NOT NULL, amount int DEFAULT 0, CHECK (id > 0))"


@pytest.fixture
def session(cluster: Cluster, empty_database: str) -> Iterator[Session]:
    cluster.psql("CREATE SCHEMA app; CREATE TYPE app.k AS (a int); CREATE TABLE app.t (id int, x int)", empty_database)
    with client_of(cluster, empty_database).session() as opened:
        yield opened


def made_by(session: Session, sql: str) -> Diff:
    base = take_snapshot(session)
    session.execute("BEGIN")
    session.execute(sql)
    after = read_facts(session)
    session.execute("ROLLBACK")
    return diff(base.unlocated(), after.unlocated())


@pytest.mark.fault("exact-differs")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FIRST, FIRST.replace("id int", "id bigint")),
        (FIRST, FIRST.replace("DEFAULT 0", "DEFAULT 666")),
        (FIRST, FIRST.replace("id > 0", "id > 1000")),
        (FIRST, FIRST.replace("amount int", "amount numeric")),
        (FIRST, FIRST.replace(" NOT NULL", "")),
        (FIRST, f"{FIRST}; COMMENT ON COLUMN app.n.id IS 'x'"),
        ("CREATE TYPE app.c AS (a int)", "CREATE TYPE app.c AS (a bigint)"),
        ("CREATE DOMAIN app.d AS int CHECK (VALUE > 0)", "CREATE DOMAIN app.d AS int CHECK (VALUE > 9)"),
        pytest.param(
            "CREATE PUBLICATION p FOR TABLE app.t",
            "CREATE PUBLICATION p FOR TABLE app.t WHERE (id > 1)",
            marks=since(15),
        ),
        ("CREATE TABLE app.n (id int PRIMARY KEY)", "CREATE TABLE app.n (id bigint PRIMARY KEY)"),
    ],
)
def test_a_new_object_with_other_parts_is_another_change(session: Session, first: str, second: str) -> None:
    rehearsed = json.loads(json.dumps(made_by(session, first).as_list()))
    policy = {"policy": "exact", "changes": rehearsed}
    assert evaluate_policy(made_by(session, first), policy).ok
    verdict = evaluate_policy(made_by(session, second), policy)
    assert not verdict.ok
    # since 18 a NOT NULL is a part with a name
    if MAJOR < 18 or "NOT NULL" not in first:
        assert "with the same parts: here a column, default or constraint of it differs" in verdict.message
