# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Partitions of a declared table that come and go: what is left out of a comparison, and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.partitions import (
    PartitionDrift,
    comparable,
    declared_parents,
    expected_partitions,
    rehearsed_partitions,
    require_comparable,
    without_expected,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import (
    PolicyVerdict,
    evaluate_policy,
    rehearsed_policy,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import read_facts, take_snapshot
from ansible_collections.incomex.phasegate.tests.support.runs import client_of
from ansible_collections.incomex.phasegate.tests.support.versions import since

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

SETUP = """
CREATE ROLE drift_other; CREATE ROLE drift_reader; CREATE SCHEMA "Log";
CREATE TABLE "Log".station (id int PRIMARY KEY);
CREATE FUNCTION "Log".touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE "Log".reading (id bigint NOT NULL, day date NOT NULL, station int REFERENCES "Log".station, text text COLLATE "C" DEFAULT 'x',
  PRIMARY KEY (id, day), CONSTRAINT positive CHECK (id > 0)) PARTITION BY RANGE (day);
CREATE INDEX by_text ON "Log".reading (lower(text)) WHERE text <> '';
CREATE TRIGGER touch BEFORE INSERT ON "Log".reading FOR EACH ROW EXECUTE FUNCTION "Log".touch();
CREATE TABLE "Log".reading_1 PARTITION OF "Log".reading FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE "Log"."reading 2" PARTITION OF "Log".reading FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE "Log".reading_3 PARTITION OF "Log".reading FOR VALUES FROM ('2026-03-01') TO ('2026-05-01') PARTITION BY RANGE (day);
CREATE TABLE "Log".reading_3a PARTITION OF "Log".reading_3 FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
CREATE TABLE "Log".alarm (id bigint, day date, FOREIGN KEY (id, day) REFERENCES "Log".reading);
CREATE TABLE "Log".other (day date) PARTITION BY RANGE (day);
"""
NAMES = [["Log", "reading 2"], ["Log", "reading_1"], ["Log", "reading_3"], ["Log", "reading_3a"]]
PHASE: dict[str, Any] = {"drift": {"partitions_of": ['"Log".reading']}, "verify": []}
NEW = """CREATE TABLE "Log".reading_9 PARTITION OF "Log".reading FOR VALUES FROM ('2026-09-01') TO ('2026-10-01')"""
BELOW = (
    """CREATE TABLE "Log".reading_3b PARTITION OF "Log".reading_3 FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')"""
)

LESS = 'ALTER TABLE "Log".reading DETACH PARTITION "Log".reading_1; DROP TABLE "Log".reading_1'
LESS_2 = 'ALTER TABLE "Log".reading DETACH PARTITION "Log"."reading 2"; DROP TABLE "Log"."reading 2"'
LESS_3 = 'ALTER TABLE "Log".reading DETACH PARTITION "Log".reading_3; DROP TABLE "Log".reading_3'


@pytest.fixture
def session(cluster: Cluster, empty_database: str) -> Iterator[Session]:
    cluster.psql(SETUP, empty_database)
    with client_of(cluster, empty_database).session() as opened:
        yield opened
    cluster.psql(
        'DROP SCHEMA "Log" CASCADE; DROP OWNED BY drift_reader, drift_other; DROP ROLE drift_other, drift_reader',
        empty_database,
    )


def drift_after(session: Session, sql: str) -> PartitionDrift:
    before = take_snapshot(session).unlocated()
    session.execute(sql)
    return without_expected(before, take_snapshot(session).unlocated(), expected_partitions(PHASE))


def left(drift: PartitionDrift) -> list[str]:
    return [f"{one.action} {one.name}" for one in diff(drift.before, drift.after).changes]


@pytest.mark.fault("partitions-declared")
@pytest.mark.parametrize(
    ("sql", "came", "went"),
    [
        (NEW, ("Log.reading_9",), ()),
        (BELOW, ("Log.reading_3b",), ()),
        (LESS, (), ("Log.reading_1",)),
        (f"{NEW}; {LESS_2}", ("Log.reading_9",), ("Log.reading 2",)),
        (LESS_3, (), ("Log.reading_3", "Log.reading_3a")),
        ('CREATE TABLE "Log".rest PARTITION OF "Log".reading DEFAULT', ("Log.rest",), ()),
        (
            'CREATE TABLE "Log".reading_9 (LIKE "Log".reading INCLUDING ALL);'
            "ALTER TABLE \"Log\".reading ATTACH PARTITION \"Log\".reading_9 FOR VALUES FROM ('2026-09-01') TO ('2026-10-01')",
            ("Log.reading_9",),
            (),
        ),
        (f"{NEW} PARTITION BY LIST (day)", ("Log.reading_9",), ()),
        # as on its parent
        (
            f'GRANT SELECT ON "Log".reading TO drift_reader; {NEW}; GRANT SELECT ON "Log".reading_9 TO drift_reader;'
            'REVOKE SELECT ON "Log".reading FROM drift_reader; GRANT SELECT ON "Log".reading_1 TO drift_reader',
            ("Log.reading_9",),
            (),
        ),
    ],
)
def test_what_follows_from_the_parent_is_left_out(
    session: Session, sql: str, came: tuple[str, ...], went: tuple[str, ...]
) -> None:
    drift = drift_after(session, sql)
    assert (drift.came, drift.went, drift.unexpected) == (came, went, ())
    assert left(drift) == (["changed Log.reading_1 to drift_reader"] if "GRANT" in sql else [])
    assert all(name in drift.text() for name in (*came, *went))


@pytest.mark.fault("partitions-declared")
@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ('CREATE INDEX own ON "Log".reading_9 (station)', "index Log.reading_9.own: neither from Log.reading nor"),
        ('ALTER TABLE "Log".reading_9 OWNER TO drift_other', "owner drift_other, expected "),
        (
            'CREATE TRIGGER own BEFORE UPDATE ON "Log".reading_9 FOR EACH ROW EXECUTE FUNCTION "Log".touch()',
            "trigger Log.reading_9.own: neither",
        ),
        ('ALTER TABLE "Log".reading_9 ADD CONSTRAINT own CHECK (id < 9)', "constraint Log.reading_9.own: neither"),
        ("ALTER TABLE \"Log\".reading_9 ALTER text SET DEFAULT 'y'", "default 'y'::text, expected 'x'::text"),
        ('ALTER TABLE "Log".reading_9 ENABLE ROW LEVEL SECURITY', "row security yes, expected none"),
        ('CREATE POLICY own ON "Log".reading_9 USING (true)', "policy Log.reading_9.own: neither"),
        ('CREATE RULE own AS ON DELETE TO "Log".reading_9 DO INSTEAD NOTHING', "rule Log.reading_9.own: neither"),
        ('GRANT ALL ON "Log".reading_9 TO drift_reader', "acl Log.reading_9 to drift_reader: neither"),
        ('ALTER TABLE "Log".reading_9 DISABLE TRIGGER touch', "enabled disabled, expected none"),
        ('ALTER TABLE "Log".reading_9 SET (fillfactor = 20)', 'options ["fillfactor=20"], expected none'),
        ('ALTER TABLE "Log".reading_9 REPLICA IDENTITY FULL', "replica identity full, expected none"),
        ('ALTER TABLE "Log".reading_9 ALTER station SET NOT NULL', "not null yes, expected none"),
    ],
)
def test_what_a_new_partition_has_of_its_own_is_drift_and_named(session: Session, sql: str, shown: str) -> None:
    drift = drift_after(session, f"{NEW}; {sql}")
    assert drift.came == ()
    assert shown in "\n".join(drift.unexpected)
    assert "added Log.reading_9" in left(drift)


@pytest.mark.fault("partitions-declared")
def test_what_another_partition_has_too_is_as_expected(session: Session) -> None:
    everywhere = (
        'CREATE INDEX own_{n} ON "Log".reading_{n} (station); GRANT SELECT ON "Log".reading_{n} TO drift_reader;'
        'ALTER TABLE "Log".reading_{n} OWNER TO drift_other; CREATE POLICY p ON "Log".reading_{n} USING (true);'
        'ALTER TABLE "Log".reading_{n} ADD CONSTRAINT only_{n} UNIQUE (id)'
    )
    session.execute(everywhere.format(n=1))
    drift = drift_after(session, f"{NEW}; {everywhere.format(n=9)}")
    assert (drift.came, left(drift)) == (("Log.reading_9",), [])


@pytest.mark.fault("partitions-declared")
@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ('CREATE TABLE "Log".beside (id int)', ["added Log.beside"]),
        ('CREATE TABLE "Log".other_1 PARTITION OF "Log".other DEFAULT', ["added Log.other_1"]),
        ('CREATE TABLE "Log".child () INHERITS ("Log".station)', ["added Log.child"]),
        ('DROP TABLE "Log".other', ["removed Log.other"]),
        (f'{NEW}; CREATE VIEW "Log".v AS SELECT * FROM "Log".reading_9', ["added Log.v"]),
        (f'{NEW}; CREATE STATISTICS "Log".s ON id, day FROM "Log".reading_9', ["added Log.s"]),
        (f'{NEW}; ALTER TABLE "Log".reading ADD COLUMN late int', [
            "added Log.reading.late", "added Log.reading 2.late", "added Log.reading_1.late", "added Log.reading_3.late",
            "added Log.reading_3a.late",
        ]),
    ],
)  # fmt: skip
def test_nothing_else_is_left_out(session: Session, sql: str, shown: list[str]) -> None:
    assert left(drift_after(session, sql)) == shown


def test_a_partition_that_is_detached_or_attached_is_a_table_that_changed(session: Session) -> None:
    drift = drift_after(session, 'ALTER TABLE "Log".reading DETACH PARTITION "Log".reading_1')
    assert (drift.came, drift.went) == ((), ())
    assert "changed Log.reading_1" in left(drift)


def test_what_the_phase_itself_makes_or_drops_is_no_drift(session: Session) -> None:
    before = take_snapshot(session).unlocated()
    session.execute(f"{NEW}; {BELOW}; {LESS}")
    after = take_snapshot(session).unlocated()
    made = [one for one in diff(before, after).as_list() if "reading_3b" not in one["name"]]
    drift = without_expected(before, after, expected_partitions(PHASE, made))
    assert (drift.came, drift.went) == (("Log.reading_3b",), ())
    unknown = without_expected(before, after, expected_partitions(PHASE, None))
    assert (unknown.came, unknown.went) == ((), ())


def made_by(session: Session, sql: str) -> Diff:
    base = take_snapshot(session)
    session.execute("BEGIN")
    session.execute(sql)
    after = read_facts(session)
    session.execute("ROLLBACK")
    return diff(*comparable(base, after, declared_parents(PHASE)))


def compared(session: Session, sql: str, night: str) -> PolicyVerdict:
    """Rehearse SQL, let a night pass, and compare."""
    rehearsal = {
        "partitions": rehearsed_partitions(take_snapshot(session), PHASE),
        "changes": json.loads(json.dumps(made_by(session, sql).as_list())),
    }
    session.execute(night)
    return evaluate_policy(made_by(session, sql), rehearsed_policy({"phase": PHASE, "rehearsal": rehearsal}))


LOOP = """DO $$ DECLARE p regclass; BEGIN FOR p IN SELECT relid FROM pg_catalog.pg_partition_tree('"Log".reading') LOOP
EXECUTE pg_catalog.format('{}', p); END LOOP; END $$"""
NIGHT = f"{NEW}; {BELOW}; {LESS_2}"
EACH = 'ALTER TABLE "Log".reading_1 {0}; ALTER TABLE "Log".reading_3 {0}; ALTER TABLE "Log".reading_3a {0}'


@pytest.mark.fault("partitions-declared")
@pytest.mark.parametrize("night", [NEW, LESS, NIGHT])
@pytest.mark.parametrize(
    "sql",
    [
        'CREATE TABLE "Log".kinds (kind text)',
        'CREATE TABLE "Log".note (id bigint, day date, FOREIGN KEY (id, day) REFERENCES "Log".reading)',
        'ALTER TABLE "Log".alarm ADD CONSTRAINT again FOREIGN KEY (id, day) REFERENCES "Log".reading',
        'ALTER TABLE "Log".reading ADD COLUMN note text DEFAULT \'n\' NOT NULL; CREATE INDEX ON "Log".reading (note)',
        "ALTER TABLE \"Log\".reading ADD CONSTRAINT short CHECK (text < 'z'), ADD UNIQUE (day, station)",
        'ALTER TABLE "Log".reading ADD COLUMN of int REFERENCES "Log".station',
        'CREATE TRIGGER late AFTER UPDATE ON "Log".reading FOR EACH ROW EXECUTE FUNCTION "Log".touch()',
        'CREATE POLICY p ON "Log".reading USING (true); GRANT SELECT ON "Log".reading TO drift_reader',
        'ALTER TABLE "Log".reading RENAME text TO words; DROP TRIGGER touch ON "Log".reading',
        'DROP INDEX "Log".by_text; ALTER TABLE "Log".reading ALTER text SET NOT NULL',
        'ALTER TABLE "Log".reading RENAME TO measured; ALTER TABLE "Log".measured ALTER id TYPE numeric',
        'DROP TABLE "Log".alarm; ALTER TABLE "Log".reading DROP CONSTRAINT reading_pkey',
        LOOP.format("ALTER TABLE %s ENABLE ROW LEVEL SECURITY"),
        LOOP.format("GRANT SELECT ON %s TO drift_reader"),
    ],
)
def test_a_new_partition_has_the_changes_of_the_rehearsed_ones(session: Session, sql: str, night: str) -> None:
    verdict = compared(session, sql, night)
    assert verdict.ok, verdict.message


@pytest.mark.fault("partitions-declared")
@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        (EACH.format("ENABLE ROW LEVEL SECURITY"), "missing: the changes of Log.reading_1 on Log.reading_9, which came since"),
        (LOOP.format("CREATE INDEX ON %s (station)").replace("LOOP\n", "LOOP IF p::text NOT LIKE '%9' THEN CONTINUE; END IF; "), "additive: index"),
        (LOOP.format("GRANT SELECT ON %s TO drift_reader").replace("LOOP\n", "LOOP IF p::text LIKE '%9' THEN CONTINUE; END IF; "), "missing: the changes of"),
        (
            'ALTER TABLE "Log".reading ADD COLUMN note text;'
            + LOOP.format("ALTER TABLE %s ADD CONSTRAINT c CHECK (note <> ''9'')").replace("LOOP\n", "LOOP IF p::text NOT LIKE '%9' THEN CONTINUE; END IF; "),
            "Log.reading_9.note",
        ),
        # a table that is no partition of the declared one
        (LOOP.format("ALTER TABLE %s ENABLE ROW LEVEL SECURITY").replace('"Log".reading', '"Log".other'), "Log.other_1"),
    ],
)  # fmt: skip
def test_other_changes_than_those_of_the_rehearsed_partitions_are_named(session: Session, sql: str, shown: str) -> None:
    night = f'{LESS_2}; {NEW}; CREATE TABLE "Log".other_1 PARTITION OF "Log".other DEFAULT'
    verdict = compared(session, sql, night)
    assert not verdict.ok
    assert shown in verdict.message


@since(15)
def test_a_partition_without_a_rehearsed_one_beside_it_must_not_change(session: Session) -> None:
    phase = {**PHASE, "drift": {"partitions_of": ['"Log".other']}}
    for sql, ok in (
        ('CREATE TABLE "Log".kinds (kind text)', True),
        ('ALTER TABLE "Log".other ADD COLUMN n int', False),
    ):
        session.execute('DROP TABLE IF EXISTS "Log".other_1')
        rehearsal = {
            "partitions": rehearsed_partitions(take_snapshot(session), phase),
            "changes": made_by(session, sql).as_list(),
        }
        session.execute('CREATE TABLE "Log".other_1 PARTITION OF "Log".other DEFAULT')
        verdict = evaluate_policy(made_by(session, sql), rehearsed_policy({"phase": phase, "rehearsal": rehearsal}))
        assert verdict.ok is ok


def test_only_a_partitioned_table_can_be_declared(session: Session) -> None:
    facts = take_snapshot(session)
    assert rehearsed_partitions(facts, PHASE) == NAMES
    assert rehearsed_partitions(facts, {"drift": {"partitions_of": []}}) is None
    for name, found in (
        ('"Log".station', "Log.station, a relation without partitions"),
        ("app.gone", "app.gone, which does not exist"),
    ):
        with pytest.raises(PhaseGateError) as caught:
            rehearsed_partitions(facts, {"drift": {"partitions_of": [name]}})
        assert caught.value.found == found


@pytest.mark.parametrize(
    ("sql", "refused"),
    [
        ('ALTER TABLE "Log".reading ADD COLUMN note text', False),
        ('CREATE TABLE "Log".kinds (kind text)', False),
        ('CREATE INDEX ON "Log".reading (station)', True),
        ("ALTER TABLE \"Log\".reading ADD COLUMN note text DEFAULT 'a'", True),
    ],
)
def test_lines_of_a_dump_are_not_counted_where_partitions_have_them(
    session: Session, sql: str, *, refused: bool
) -> None:
    changes = made_by(session, sql).as_list()
    phase = {
        **PHASE,
        "verify": [{"id": "VA-7", "title": "lines", "builtin": "schema_diff", "expect": {"added": 1, "removed": 0}}],
    }
    require_comparable(PHASE, NAMES, changes)
    if not refused:
        require_comparable(phase, NAMES, changes)
        return
    with pytest.raises(PhaseGateError, match="VA-7"):
        require_comparable(phase, NAMES, changes)
