# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backfill in batches, and what follows it, through the life of a phase: rehearsed, reviewed, executed, rolled back."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles

if TYPE_CHECKING:
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.target import Target

BEFORE = """
CREATE TABLE public.parcels (id bigint PRIMARY KEY, grams int NOT NULL);
INSERT INTO public.parcels SELECT n, n % 5000 FROM generate_series(1, 3000) n;
CREATE TABLE public.touched (id bigint);
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.touched VALUES (NEW.id); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON public.parcels FOR EACH ROW WHEN (NEW.id % 10 = 0) EXECUTE FUNCTION public.touch();
"""
DDL = b"""BEGIN;
ALTER TABLE public.parcels ADD COLUMN kilos numeric;
COMMIT;

UPDATE public.parcels SET kilos = grams / 1000.0 WHERE kilos IS NULL;

CREATE INDEX CONCURRENTLY parcels_kilos ON public.parcels (kilos);
"""
UNDO = b"ALTER TABLE public.parcels DROP COLUMN kilos;\n"
DEFINITION: dict[str, Any] = {
    "scope": {
        "schemas": ["public"],
        "statements": ["ALTER TABLE ADD COLUMN", "UPDATE", "CREATE INDEX CONCURRENTLY"],
    },
    "expect": {
        "tags": {"BEGIN": 1, "ALTER TABLE": 1, "COMMIT": 1, "UPDATE": 1, "CREATE INDEX": 1},
        "rows": {"UPDATE": [3000]},
    },
    "batches": {"public.parcels": {"by": "id", "rows": 400, "data": {"public.touched": {"INSERT": 300}}}},
    "verify": [
        {"id": "VA-1", "title": "nothing left", "after_commit": True, "expect": 0,
         "sql": "SELECT count(*) FROM public.parcels WHERE kilos IS NULL"}
    ],
    "rollback": {
        "file": "rollback.sql",
        "sha256": hashlib.sha256(UNDO).hexdigest(),
        "statements": ["ALTER TABLE DROP COLUMN"],
        "cannot_restore": ["What the trigger has written into public.touched stays."],
    },
}  # fmt: skip


def test_batches_through_the_life_of_a_phase(target: Target, tmp_path: Path) -> None:
    target.cluster.psql(BEFORE, target.database)
    (tmp_path / "small").mkdir()
    files = PhaseFiles(tmp_path / "small").write(DEFINITION, ddl=DDL, rollback=UNDO)
    with running_cluster(rehearsal=True) as other:
        rehearsed = target.rehearse(other, files.path)
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (target.directory / "plans").glob("*/plan.json")
    measured = {one["n"]: one for one in json.loads(plan.read_text())["rehearsal"]["statements"]}
    assert measured[4]["rows"] == 3000
    assert measured[4]["microseconds"] > 0
    review = (plan.parent / "review.md").read_text()
    assert "in batches of 400 rows that each commit" in review
    assert (
        "WHERE (kilos IS NULL\n) AND parcels.id OPERATOR(pg_catalog.>) $1 AND parcels.id OPERATOR(pg_catalog.<=) $2"
        in review
    )

    done = target.play(
        "playbooks/execute.yml", extra_vars={"phasegate_phase_file": files.path, "phasegate_plan": str(plan)}
    )
    bundle = target.bundles()[0].path
    assert done.rc == 0, done.stdout
    statements = json.loads((bundle / "report.json").read_text())["migration"]["statements"]
    assert [(one["tag"], one["rows"], len(one["batches"])) for one in statements] == [
        ("ALTER TABLE", 0, 0),
        ("UPDATE", 3000, 8),
        ("CREATE INDEX", 0, 0),
    ]
    assert "8 batches of 200 to 400 rows" in (bundle / "report.md").read_text()
    assert target.value("SELECT count(*) FROM public.parcels WHERE kilos = grams / 1000.0") == 3000
    assert target.value("SELECT count(*) FROM public.touched") == 300
    undone = target.play(
        "playbooks/rollback.yml",
        extra_vars={
            "phasegate_execution": str(bundle),
            "phasegate_confirm": bundle.name,
            "phasegate_accept_loss": 3000,
        },
    )
    assert undone.rc == 0, undone.stdout
