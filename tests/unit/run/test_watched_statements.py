# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a function behind an index changes after COMMIT is seen on the copy, also where it switches the server's counters off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Migrated
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._run.watched_statements import WatchedStatements
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = """
CREATE TABLE public.parcels (id int); INSERT INTO public.parcels VALUES (1), (2);
CREATE TABLE public.notes (id int, text text); INSERT INTO public.notes SELECT n, 'x' FROM generate_series(1, 10) n;
CREATE FUNCTION public.inner() RETURNS int VOLATILE LANGUAGE plpgsql AS $$BEGIN {} RETURN 1; END$$;
CREATE FUNCTION public.key(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$BEGIN PERFORM public.inner(); RETURN $1; END$$;
"""
UNCOUNTED = "PERFORM set_config('track_counts', 'off', true); {} PERFORM set_config('track_counts', 'on', true);"


@pytest.mark.fault("writes-after-commit")
@pytest.mark.parametrize(
    "body",
    [
        "DELETE FROM public.notes;",
        UNCOUNTED.format("DELETE FROM public.notes;"),
        UNCOUNTED.format("UPDATE public.notes SET text = 'y' WHERE id = 3;"),
        UNCOUNTED.format("INSERT INTO public.notes VALUES (11, 'z');"),
        UNCOUNTED.format("DELETE FROM public.notes WHERE id = 1; INSERT INTO public.notes VALUES (1, 'x');"),
    ],
)
def test_a_function_that_writes_is_noticed(cluster: Cluster, empty_database: str, body: str) -> None:
    assert watched(cluster, empty_database, body) == "changed: public.notes"


@pytest.mark.parametrize("body", ["PERFORM count(*) FROM public.notes;", UNCOUNTED.format("")])
def test_one_that_reads_is_none(cluster: Cluster, empty_database: str, body: str) -> None:
    assert watched(cluster, empty_database, body) == ""


def watched(cluster: Cluster, database: str, body: str) -> str:
    """Build an index whose function does this, and return what was noticed."""
    cluster.psql(BEFORE.format(body), database)
    client = client_of(cluster, database)
    statements = WatchedStatements(client, Step(None, Migrated), "C-07", [{"after_commit": "public.by_key", "line": 1}])
    with client.session() as session:
        statements.begin(session)
        session.execute("CREATE INDEX CONCURRENTLY by_key ON public.parcels (public.key(id))")
        try:
            statements.require_unchanged(session)
        except Stopped as stop:
            return stop.found
    return ""
