# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots in a storm of DDL: each one that is accepted is of one moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import read_facts, take_snapshot

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
    from ansible_collections.incomex.phasegate.tests.corpora.corpora import Server

SNAPSHOTS = 200

# Two states, and a transaction to get from each to the other. Every name that an expression holds changes.
SETUP = """
CREATE TABLE public.bricks (id int PRIMARY KEY, size int NOT NULL DEFAULT 1 CHECK (size > 0));
CREATE FUNCTION public.weight(n int) RETURNS int LANGUAGE sql RETURN n * 2;
CREATE VIEW public.wall AS SELECT id, size, public.weight(size) AS w FROM public.bricks WHERE size > 1;
CREATE INDEX bricks_size ON public.bricks ((size + 1)) WHERE size > 2;
"""
THERE = """BEGIN;
ALTER TABLE public.bricks RENAME TO stones; ALTER TABLE public.stones RENAME COLUMN size TO width;
ALTER FUNCTION public.weight RENAME TO mass; COMMENT ON VIEW public.wall IS 'stones';
COMMIT"""
BACK = """BEGIN;
COMMENT ON VIEW public.wall IS NULL; ALTER FUNCTION public.mass RENAME TO weight;
ALTER TABLE public.stones RENAME COLUMN width TO size; ALTER TABLE public.stones RENAME TO bricks;
COMMIT"""


def test_no_snapshot_is_torn(server: Server, notes: list[str]) -> None:
    with server.database() as database:
        server.psql(database, SETUP)
        one = server.snapshot(database)
        server.psql(database, THERE)
        states = {one.fingerprint, server.snapshot(database).fingerprint}
        server.psql(database, BACK)
        accepted: list[Snapshot] = []
        unguarded: list[Snapshot] = []
        refused = 0
        calm = threading.Event()

        def storm() -> None:
            with server.client(database).session("storm") as session:
                while not calm.is_set():
                    for step in (THERE, BACK):
                        session.execute(step)
                        # a gust: without a lull no undisturbed moment could exist
                        session.execute("SELECT pg_catalog.pg_sleep(pg_catalog.random() * 0.6) \\g /dev/null")

        blowing = threading.Thread(target=storm)
        blowing.start()
        try:
            with server.client(database).session("corpora") as session:
                while len(accepted) < SNAPSHOTS:
                    try:
                        accepted.append(take_snapshot(session))
                    except PhaseGateError:
                        refused += 1
                    if len(unguarded) < SNAPSHOTS // 4:
                        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                        try:
                            unguarded.append(read_facts(session))
                        except PhaseGateError:
                            refused += 1
                        finally:
                            session.execute("ROLLBACK")
        finally:
            calm.set()
            blowing.join()
    torn = sum(snapshot.fingerprint not in states for snapshot in accepted)
    without = sum(snapshot.fingerprint not in states for snapshot in unguarded)
    notes.append(
        f"storm: {torn} of {len(accepted)} guarded snapshots torn, {without} of {len(unguarded)} without the guard"
    )
    assert torn == 0
    # the storm is one: without the guard it does damage
    assert without > 0
