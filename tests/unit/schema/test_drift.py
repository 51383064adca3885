# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift: what both sides could see is compared, a baseline is believed only as it was written down, and CI can read it."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.drift import (
    LEFT_BEHIND,
    Drift,
    compare_with_baseline,
    load_baseline,
    require_fingerprint,
    require_sections,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.drift_junit import error_junit, stored_junit
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import wanted_sections
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

GUEST = "phasegate_drift_guest"
UNCHANGED = {"policy": "unchanged"}


def look(client: Client, *, cluster: bool = False) -> Snapshot:
    with client.session("phasegate:test") as session:
        return take_snapshot(session, sections=wanted_sections(cluster=cluster))


def drift_after(client: Client, change: str, policy: Mapping[str, object] | None = None) -> Drift:
    """Return what a change of the schema looks like against the moment before."""
    baseline = look(client)
    with client.session("phasegate:test") as session:
        session.execute(change)
    return compared(client, baseline, policy=policy)


def compared(
    client: Client, baseline: Snapshot, *, cluster: bool = False, policy: Mapping[str, object] | None = None
) -> Drift:
    """Compare what a client sees with a baseline, as the module does."""
    live = look(client, cluster=cluster)
    with client.session("phasegate:test") as session:
        return compare_with_baseline(baseline, live, policy or UNCHANGED, Reprinter(session, inside=False))


def cases(document: str) -> dict[str, ET.Element]:
    """Return the test cases of a JUnit document by name, after checking its figures."""
    root = ET.fromstring(document)
    found = {case.attrib["name"]: case for case in root.iter("testcase")}
    suite = root[0]
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[key]) == len(list(root.iter(tag)))
    assert int(suite.attrib["tests"]) == len(found)
    return found


@pytest.fixture
def guest(cluster: Cluster, database: str) -> Iterator[Client]:
    """A role that may connect, and nothing else, with secrets in the database that it cannot read."""
    cluster.psql(
        "CREATE SCHEMA closed; CREATE TABLE closed.t (c text);"
        " CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        f" CREATE USER MAPPING FOR workflow_admin SERVER s OPTIONS (password 'p'); CREATE ROLE {GUEST} LOGIN",
        database,
    )
    yield client_of(cluster, database, GUEST)
    cluster.psql(f"DROP ROLE {GUEST}", database)


# --- what is compared --------------------------------------------------------------------------------------------


def test_a_secret_that_one_side_could_not_see_is_no_drift_and_is_named(client: Client, guest: Client) -> None:
    for baseline, live in ((client, guest), (guest, client)):
        drift = compared(live, look(baseline))
        assert drift.verdict.ok, drift.changes.text()
        assert len(drift.unseen) == 2
        message = drift.message("/baseline", "")
        assert all(f"not compared: {what}" in message for what in drift.unseen)
        document = cases(drift.junit())
        assert all(document[what].find("skipped") is not None for what in drift.unseen)


def test_a_role_that_may_only_connect_finds_drift_where_it_may_not_look(
    client: Client, guest: Client, session_as_owner: Callable[[str], None]
) -> None:
    baseline = look(guest)
    session_as_owner("ALTER TABLE closed.t ADD COLUMN stray int")
    drift = compared(guest, baseline)
    assert [change.name for change in drift.verdict.offending] == ["closed.t.stray"]
    assert look(client).fingerprint != baseline.fingerprint


@pytest.fixture
def session_as_owner(client: Client) -> Callable[[str], None]:
    """Runs SQL as the owner of the database."""

    def run(sql: str) -> None:
        with client.session("phasegate:test") as session:
            session.execute(sql)

    return run


def test_a_secret_that_both_saw_is_compared(cluster: Cluster, client: Client, guest: Client) -> None:
    drift = drift_after(client, "ALTER USER MAPPING FOR workflow_admin SERVER s OPTIONS (SET password 'q')")
    assert guest.user == GUEST
    assert [(change.kind, change.attribute) for change in drift.verdict.offending] == [("user_mapping", "options")]


def test_the_policy_decides(client: Client) -> None:
    more = "CREATE TABLE sandbox_tac.more (id int)"
    drift = drift_after(client, more, {"policy": "additions_only"})
    assert drift.verdict.ok
    assert "has only permitted changes since" in drift.message("/baseline", "")
    assert "sandbox_tac.more" in drift.message("/baseline", "")
    permitted = cases(drift.junit())["schema sandbox_tac"]
    assert permitted.find("failure") is None
    assert "sandbox_tac.more" in (permitted.findtext("system-out") or "")
    drift = drift_after(client, "DROP TABLE sandbox_tac.more", {"policy": "additions_only"})
    assert not drift.verdict.ok
    allow = {"policy": "unchanged", "allow": [{"object": "sandbox_tac.more"}]}
    assert drift_after(client, more, allow).verdict.ok


def test_roles_are_compared_only_where_asked_for(cluster: Cluster, client: Client, guest: Client) -> None:
    without, baseline = look(client), look(client, cluster=True)
    cluster.psql(f"ALTER ROLE {guest.user} CREATEROLE")
    assert compared(client, without).verdict.ok
    drift = compared(client, baseline, cluster=True)
    assert [(c.kind, c.name, c.attribute) for c in drift.verdict.offending] == [("role", GUEST, "create_role")]
    with pytest.raises(PhaseGateError, match="covers different object types") as error:
        require_sections(without, wanted_sections(cluster=True))
    assert "set cluster as it was" in error.value.next_step


# --- what is told ------------------------------------------------------------------------------------------------


def test_the_message_names_every_change_and_a_test_case_fails_for_each_schema(client: Client) -> None:
    drift = drift_after(
        client,
        "ALTER TABLE public.tac_logical_unit DROP COLUMN identity_profile;"
        " COMMENT ON TABLE sandbox_tac.logical_unit IS 'so';"
        ' CREATE SCHEMA fresh; CREATE EXTENSION IF NOT EXISTS plpgsql; CREATE COLLATION fresh.c FROM "C"',
    )
    message = drift.message("/var/lib/baseline", "ask around")
    for words in (
        "4 changes are not permitted",
        "no change since /var/lib/baseline",
        drift.baseline.fingerprint,
        drift.live.fingerprint,
        "destructive: column public.tac_logical_unit.identity_profile removed: type=jsonb",
        "cosmetic: table sandbox_tac.logical_unit comment: none -> so",
        "next step: ask around",
    ):
        assert words in message
    document = cases(drift.junit())
    failed = {name for name, case in document.items() if case.find("failure") is not None}
    assert failed == {"schema public", "schema sandbox_tac", "schema fresh"}
    assert {"objects in no schema", "schema cutter_governance"} <= set(document) - failed
    assert "identity_profile removed: type=jsonb" in document["schema public"].find("failure").attrib["message"]  # type: ignore[union-attr]


def test_a_comment_steers_no_terminal_and_breaks_no_document(client: Client) -> None:
    drift = drift_after(client, "COMMENT ON TABLE public.tac_logical_unit IS E'a\\x1b[2K\\x01\\u202e]]>&<b'")
    shown = drift.message("/baseline", "") + drift.junit() + str(drift.changes.ansible())
    assert not {"\x1b", "\x01", "\u202e"} & set(shown)
    failure = cases(drift.junit())["schema public"].find("failure")
    assert failure is not None
    assert "\\u001b[2K\\u0001\\u202e]]>&<b" in (failure.text or "")


def test_the_document_of_a_run_without_a_comparison(client: Client) -> None:
    assert set(cases(stored_junit(look(client)))) == {"baseline stored"}
    stopped = PhaseGateError("No \x00 connection.", found="nothing", next_step="look")
    error = cases(error_junit("a<b", stopped))["comparison"].find("error")
    assert error is not None
    assert "found: nothing" in (error.text or "")


# --- what a baseline may be --------------------------------------------------------------------------------------


@pytest.fixture
def bundle(session: Session, tmp_path: Path) -> Path:
    """A sealed directory with the schema that a run left behind."""
    (tmp_path / "schema").mkdir()
    take_snapshot(session).write(str(tmp_path / LEFT_BEHIND))
    (tmp_path / "report.md").write_text("All good.\n", encoding="utf-8")
    seal(tmp_path, "report.md", LEFT_BEHIND)
    return tmp_path


def seal(bundle: Path, *names: str) -> None:
    lines = [f"{hashlib.sha256((bundle / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (bundle / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


def test_the_schema_that_a_sealed_run_left_is_a_baseline(session: Session, bundle: Path) -> None:
    assert load_baseline(str(bundle)).fingerprint == take_snapshot(session).fingerprint
    assert load_baseline(str(bundle / LEFT_BEHIND)).fingerprint == take_snapshot(session).fingerprint


def test_a_bundle_without_a_snapshot_or_a_seal_is_none(bundle: Path) -> None:
    seal(bundle, "report.md")
    with pytest.raises(PhaseGateError, match="SHA256SUMS does not list schema/after"):
        load_baseline(str(bundle))
    (bundle / "SHA256SUMS").unlink()
    with pytest.raises(PhaseGateError, match="SHA256SUMS is missing"):
        load_baseline(str(bundle))


def test_a_snapshot_that_was_changed_after_the_seal_is_refused(bundle: Path) -> None:
    file = bundle / LEFT_BEHIND
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(PhaseGateError, match=r"after\.jsonl\.gz was changed"):
        load_baseline(str(bundle))
    file.unlink()
    file.symlink_to("/dev/null")
    with pytest.raises(PhaseGateError, match="not a regular file"):
        load_baseline(str(bundle))


def test_a_path_that_leads_nowhere_is_no_first_run(tmp_path: Path) -> None:
    with pytest.raises(PhaseGateError, match="no such file"):
        load_baseline(str(tmp_path / "none"))


def test_a_baseline_must_have_the_fingerprint_that_was_noted(session: Session) -> None:
    taken = take_snapshot(session)
    require_fingerprint(taken.fingerprint, taken, "here")
    require_fingerprint(None, taken, "here")
    with pytest.raises(PhaseGateError, match=taken.fingerprint):
        require_fingerprint("0" * 64, taken, "here")


def test_a_database_that_was_restored_is_no_drift_and_a_changed_check_is(cluster: Cluster, empty_database: str) -> None:
    cluster.psql(
        "CREATE TABLE t (a int, s varchar, CONSTRAINT c CHECK (a BETWEEN 1 AND 2 AND (a BETWEEN 3 AND 4)));"
        "CREATE VIEW v AS SELECT a FROM t WHERE s IN ('x', 'y')",
        empty_database,
    )
    baseline = look(client_of(cluster, empty_database))
    copy = f"{empty_database}_restored"
    cluster.create_database(copy)
    try:
        client = client_of(cluster, copy)
        dump = (
            client_of(cluster, empty_database).run("pg_dump", "--dbname", cluster.dsn(empty_database)).stdout.decode()
        )
        cluster.psql("\n".join(line for line in dump.split("\n") if "restrict" not in line), copy)
        assert look(client).fingerprint != baseline.fingerprint
        drift = compared(client, baseline)
        assert drift.verdict.ok, drift.message("/baseline", "")
        cluster.psql(
            "ALTER TABLE t DROP CONSTRAINT c; ALTER TABLE t ADD CONSTRAINT c CHECK (a BETWEEN 1 AND 2 AND (a BETWEEN 3 AND 5))",
            copy,
        )
        changed = compared(client, baseline)
        assert [change.name for change in changed.verdict.offending] == ["public.t.c"]
    finally:
        cluster.drop_database(copy)
