# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure snapshot, diff and in-transaction delta on a database of many tables, beside pg_dump of the same.

From the root of the checkout::

    PYTHONPATH=.collections .venv/bin/python -m ansible_collections.incomex.phasegate.tests.bench.bench_snapshot

Every figure is the median of ``--rounds`` alternating runs, so that whatever else the machine does falls on all alike.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import (
    read_changed,
    read_facts,
    take_snapshot,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
from ansible_collections.incomex.phasegate.tests.support.cluster import running_cluster
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

_T = TypeVar("_T")
ROOT = Path(__file__).resolve().parents[2]
PHASE = ROOT / "playbooks" / "phases" / "alpha"
FIXTURE = ROOT / "tests" / "fixtures" / "phase_alpha.sql"

# Per table: eight columns, two keys, a check, a third of them with a foreign key, an index, every tenth a trigger and a
# comment, every twentieth a view. Committed by the hundred: one transaction would need a lock for each relation.
SCHEMA = """
CREATE SCHEMA app;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.updated_at := now(); RETURN NEW; END$$;
CREATE PROCEDURE app.build(tables int) LANGUAGE plpgsql AS $$
BEGIN
  FOR i IN 1..tables LOOP
    EXECUTE format('CREATE TABLE app.t%s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL UNIQUE,'
      ' name varchar(200) NOT NULL, amount numeric(12,2) NOT NULL DEFAULT 0 CHECK (amount >= 0), ref_id bigint %s,'
      ' created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(), note text)',
      i, CASE WHEN i % 3 = 0 THEN format('REFERENCES app.t%s (id)', i - 1) END);
    EXECUTE format('CREATE INDEX ON app.t%s (created_at)', i);
    IF i % 10 = 0 THEN
      EXECUTE format('CREATE TRIGGER touch BEFORE UPDATE ON app.t%s FOR EACH ROW EXECUTE FUNCTION app.touch()', i);
      EXECUTE format('COMMENT ON TABLE app.t%s IS %L', i, 'table ' || i);
    END IF;
    IF i % 20 = 0 THEN
      EXECUTE format('CREATE VIEW app.v%s AS SELECT id, name, amount FROM app.t%s WHERE amount > 0', i, i);
    END IF;
    IF i % 100 = 0 THEN COMMIT; END IF;
  END LOOP;
END $$;
"""


def measure(cluster: Cluster, client: Client, migration: str, times: dict[str, list[float]]) -> int:
    """Run everything once, append the seconds by name to ``times``, and return the number of facts."""

    def note(name: str, run: Callable[[], _T]) -> _T:
        start = time.perf_counter()
        result = run()
        times.setdefault(name, []).append(time.perf_counter() - start)
        return result

    dump = client.argv("pg_dump", "--schema-only", "--dbname", cluster.dsn("bench"))
    note("pg_dump", lambda: subprocess.run(dump, stdout=subprocess.DEVNULL, check=True))
    with client.session("bench") as session:
        base = note("snapshot", lambda: take_snapshot(session))
        note("fingerprint", lambda: base.fingerprint)
        base.rows()
        session.execute("BEGIN")
        session.execute(migration)
        note("delta in the transaction", lambda: read_changed(session, base))
        changed = read_changed(session, base)
        note("fingerprint and diff of the delta", lambda: (changed.fingerprint, diff(base, changed)))
        full = read_facts(session)
        session.execute("ROLLBACK")
    if changed.facts != full.facts:
        raise SystemExit("the delta is not what a full reading gives")
    note("diff of two full snapshots", lambda: diff(base, full).text())
    with tempfile.TemporaryDirectory() as directory:
        paths = [f"{directory}/{name}.jsonl.gz" for name in ("before", "after")]
        note("writing a snapshot", lambda: base.write(paths[0]))
        full.write(paths[1])
        before, after = note("loading two snapshots", lambda: [Snapshot.load(path) for path in paths])
        note("diff of two loaded snapshots", lambda: diff(before, after).text())
        note("their fingerprints", lambda: (before.fingerprint, after.fingerprint))
    return len(base)


def measure_all(tables: int, rounds: int) -> tuple[int, dict[str, list[float]], float]:
    """Build a database and measure; return the number of facts, the seconds by name, and this process's peak memory in MB."""
    with running_cluster({"shared_buffers": "512MB", "max_locks_per_transaction": "20000"}) as cluster:
        cluster.create_database("bench")
        cluster.load(FIXTURE, "bench")
        cluster.psql(SCHEMA, "bench")
        cluster.psql(f"CALL app.build({tables})", "bench")
        cluster.psql("ANALYZE", "bench")
        client = client_of(cluster, "bench")
        migration = (PHASE / "migrate.sql").read_text(encoding="utf-8").replace("BEGIN;", "").replace("COMMIT;", "")
        times: dict[str, list[float]] = {}
        facts = 0
        for _round in range(rounds):
            facts = measure(cluster, client, migration, times)
    return facts, times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure one size, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    facts, times, peak = measure_all(arguments.tables, arguments.rounds)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"{arguments.tables} tables, {facts} facts, median of {arguments.rounds}")
    for name, seconds in medians.items():
        print(f"{name:35} {seconds * 1000:8.0f} ms  {seconds / medians['pg_dump']:5.2f} x pg_dump --schema-only")
    print(f"peak memory of this process, five snapshots in it: {peak:.0f} MB")


if __name__ == "__main__":
    main()
