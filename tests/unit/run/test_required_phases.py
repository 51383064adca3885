# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase that requires another one: it begins only on that one's intact evidence, reviewed by registered people (G-11)."""

from __future__ import annotations

import datetime as dt
import json
import os
import pwd
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import (
    NOTES_NAMESPACE,
    PLAN_NAMESPACE,
    REVIEW_NAMESPACE,
    AcceptedLoss,
    notes_header,
    review_name,
    review_request,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.retention import (
    RetentionVerdict,
    delete_backups,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes, sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run
from ansible_collections.incomex.phasegate.plugins.module_utils._run.earlier_runs import fetch_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import no_self_advance_gate
from ansible_collections.incomex.phasegate.plugins.module_utils._run.new_run import new_directory
from ansible_collections.incomex.phasegate.plugins.module_utils._run.required_phases import (
    reviewable,
    revocable,
    write_reviews,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister
from ansible_collections.incomex.phasegate.tests.support.runs import Run, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import Gate
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


@pytest.fixture
def app(cluster: Cluster, empty_database: str) -> Client:
    """A client of a database with a schema ``app``."""
    cluster.psql("CREATE SCHEMA app", empty_database)
    return client_of(cluster, empty_database)


def run_of(client: Client, root: Path, **changes: Any) -> Run:
    """Return a run of the small phase, its artefact directory below ``root``."""
    directory = root.parent / f"phase_{len(list(root.parent.iterdir()))}"
    directory.mkdir()
    files = PhaseFiles(directory).write(changes)
    return Run.of(client, root, files.path)


@pytest.fixture
def alpha(app: Client, tmp_path: Path) -> Path:
    """The sealed evidence of a phase ``alpha`` that committed."""
    (tmp_path / "runs").mkdir()
    run = run_of(app, tmp_path / "runs", phase="alpha").prepare()
    assert run.migrate().message == ""
    seal_run(run.artefacts, "")
    return Path(run.artefacts.path)


@pytest.fixture
def beta(app: Client, alpha: Path) -> Run:
    """An open run of a phase that requires it."""
    run = run_of(
        app, alpha.parent, phase="beta", requires=["alpha"], preflight=[PASSES], verify=[{**PASSES, "id": "VA-1"}]
    )
    return run.force("CREATE TABLE app.u (id int)").prepare()


PASSES = {"id": "P-1", "title": "one", "sql": "SELECT 1", "expect": 1}


@pytest.fixture
def people(tmp_path: Path) -> dict[str, Reviewer]:
    """Two reviewers, and a stranger."""
    directory = tmp_path / "keys"
    directory.mkdir()
    return {name: Reviewer.create(directory, name) for name in ("anna", "ben", "eve")}


@pytest.fixture
def reviewers(app: Client, people: dict[str, Reviewer]) -> Iterator[Path]:
    """The register of the cluster: anna and ben."""
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers"
    below = home / fetch_identity(app).system_identifier
    yield register(below, people["anna"].line() + people["ben"].line())
    unregister(below)


def judged(run: Run) -> Gate:
    now = dt.datetime.now(dt.UTC).timestamp()
    with run.client.session() as session:
        live = take_snapshot(session)
    return no_self_advance_gate(run.request(), fetch_identity(run.client), now, live)


def given(run: Run, bundle: Path, *by: Reviewer, request: bytes = b"", notes: str = "") -> Run:
    """Give the run the reviews of a bundle as the opening does."""
    data = request or reviewable(str(bundle))
    text = notes_header(sha256_bytes(data), review_name(str(bundle))) + notes.encode()
    space = NOTES_NAMESPACE if notes else REVIEW_NAMESPACE
    signatures = {one.name: one.sign(data, space) for one in by}
    signed_notes = {one.name: (text, one.sign(text, NOTES_NAMESPACE)) for one in by} if notes else {}
    write_reviews(run.artefacts, {bundle.name: (signatures, signed_notes)})
    return run


def test_reviewed_evidence_lets_the_next_phase_begin(
    alpha: Path, beta: Run, people: dict[str, Reviewer], reviewers: Path
) -> None:
    assert reviewers.exists()
    gate = judged(given(beta, alpha, people["anna"], people["ben"]))
    assert gate.status == "PASS"
    assert "2 of 2; anna (PASS, SHA256:" in gate.found
    # an auditor finds what was signed beside the signatures
    stem = Path(beta.artefacts.path) / "reviews" / f"{alpha.name}.review.json"
    assert json.loads(stem.read_text()) == {
        "format": "phasegate-review/1",
        "bundle": alpha.name,
        "seal": sha256_file(str(alpha / "SHA256SUMS")),
    }


def test_notes_are_part_of_a_review(alpha: Path, beta: Run, people: dict[str, Reviewer], reviewers: Path) -> None:
    assert reviewers.exists()
    gate = judged(given(beta, alpha, people["anna"], people["ben"], notes="Watch the replica."))
    assert (gate.status, "anna (PASS_WITH_NOTES" in gate.found) == ("PASS", True)
    (Path(beta.artefacts.path) / "reviews" / f"{alpha.name}.review.json.anna.notes.md").unlink()
    assert "the notes are missing" in judged(beta).found


def test_without_a_register_it_is_not_enforced(alpha: Path, beta: Run, people: dict[str, Reviewer]) -> None:
    gate = judged(given(beta, alpha, people["anna"], people["ben"]))
    assert gate.status == "NOT ENFORCED"
    assert "no reviewers are registered" in gate.found
    assert beta.migrate().data["outcome"] == "COMMITTED"


def fails(run: Run, *words: str) -> None:
    """Expect that G-11 fails with these words, and that C-07 stops there before a transaction."""
    gate = judged(run)
    assert gate.status == "FAIL"
    assert gate.next_step
    for word in words:
        assert word in gate.found, gate.found
    outcome = run.migrate()
    assert (outcome.gate("G-11")["status"], outcome.data["outcome"]) == ("FAIL", "NOT_STARTED")
    assert run.events("transaction") == []


def test_no_evidence(alpha: Path, beta: Run) -> None:
    shutil.rmtree(alpha)
    fails(beta, "no execution of alpha that committed here")


def test_a_phase_that_was_rolled_back_before_commit_is_no_evidence(app: Client, alpha: Path, beta: Run) -> None:
    shutil.rmtree(alpha)
    beta.sessions.close()
    run = run_of(app, alpha.parent, phase="alpha").prepare()
    assert run.migrate().data["outcome"] == "ROLLED_BACK"
    fails(beta, "no execution of alpha that committed here")


def test_edited_evidence(alpha: Path, beta: Run) -> None:
    (alpha / "report.md").write_text("All is well.", encoding="utf-8")
    fails(beta, alpha.name, "report.md was changed")


def test_evidence_without_a_seal(alpha: Path, beta: Run) -> None:
    (alpha / "SHA256SUMS").unlink()
    fails(beta, alpha.name, "the bundle is not sealed")


def test_a_journal_whose_chain_is_broken(alpha: Path, beta: Run) -> None:
    journal = alpha / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2] + lines[3:]))
    fails(beta, alpha.name, "The journal is not intact at line 3.")


def test_evidence_of_another_database(cluster: Cluster, alpha: Path, beta: Run, tmp_path: Path) -> None:
    cluster.create_database("another")
    try:
        cluster.psql("CREATE SCHEMA app", "another")
        shutil.rmtree(alpha)
        run = run_of(client_of(cluster, "another"), tmp_path / "runs", phase="alpha").prepare()
        assert run.migrate().message == ""
        seal_run(run.artefacts, "")
        fails(beta, f"only {Path(run.artefacts.path).name} on another of cluster")
    finally:
        cluster.drop_database("another")


def test_a_phase_that_was_rolled_back_since(alpha: Path, beta: Run) -> None:
    undoing = new_directory(str(alpha.parent), "alpha_test_rollback")
    about = {"kind": "rollback", "phase": "alpha", "execution": alpha.name}
    identity = fetch_identity(beta.client).as_dict()
    undoing.journal.append("run", "open", {**about, "identity": identity})
    fails_not = judged(beta)
    assert fails_not.status == "NOT ENFORCED"
    undoing.journal.append("C-09", "done", {"outcome": "COMMITTED"})
    fails(beta, f"{alpha.name} was rolled back by alpha_test_rollback_")


def test_an_execution_whose_outcome_nobody_knows(alpha: Path, beta: Run) -> None:
    later = new_directory(str(alpha.parent), "alpha_test_later")
    later.journal.append(
        "run", "open", {"kind": "execute", "phase": "alpha", "identity": fetch_identity(beta.client).as_dict()}
    )
    later.journal.append("C-07", "transaction", {"xid": "777"})
    fails(beta, "its outcome is unknown")


@pytest.mark.fault("not-the-recorded")
def test_a_phase_whose_changes_were_reverted_by_hand(cluster: Cluster, alpha: Path, beta: Run) -> None:
    cluster.psql("DROP TABLE app.t", beta.client.database)
    fails(beta, f"{alpha.name}: none of its changes is there: table app.t")


def test_no_review(beta: Run, reviewers: Path) -> None:
    assert reviewers.exists()
    fails(beta, "0 of 2")


def test_one_review_is_not_two(alpha: Path, beta: Run, people: dict[str, Reviewer], reviewers: Path) -> None:
    assert reviewers.exists()
    fails(given(beta, alpha, people["anna"]), "1 of 2")


def test_a_strangers_review(alpha: Path, beta: Run, people: dict[str, Reviewer], reviewers: Path) -> None:
    fails(given(beta, alpha, people["anna"], people["eve"]), "1 of 2", f"is not registered in {reviewers}")


def test_the_review_of_another_bundle(alpha: Path, beta: Run, people: dict[str, Reviewer], reviewers: Path) -> None:
    assert reviewers.exists()
    both = (people["anna"], people["ben"])
    other = review_request("alpha_test_20200101T000000Z", "0" * 64)
    fails(
        given(beta, alpha.with_name("alpha_test_20200101T000000Z"), *both, request=other), "0 of 2", "of other bundles"
    )
    # under the right name it is still the other one's
    fails(given(beta, alpha, *both, request=other), "0 of 2", f"not a signature over this review of {alpha.name}")


def test_a_plans_approval_is_no_review(alpha: Path, beta: Run, people: dict[str, Reviewer], reviewers: Path) -> None:
    assert reviewers.exists()
    data = reviewable(str(alpha))
    signed = {"anna": people["anna"].sign(data, PLAN_NAMESPACE)}
    write_reviews(beta.artefacts, {alpha.name: (signed, {})})
    fails(beta, "signed for another purpose")


def test_only_intact_evidence_of_a_commit_can_be_reviewed(alpha: Path, beta: Run) -> None:
    with pytest.raises(PhaseGateError, match="cannot be approved") as caught:
        reviewable(beta.artefacts.path)
    assert "not sealed" in caught.value.found
    seal_run(beta.artefacts, "given up")
    with pytest.raises(PhaseGateError, match="a run of kind execute with outcome NOT_STARTED"):
        reviewable(beta.artefacts.path)
    (alpha / "report.md").write_text("All is well.", encoding="utf-8")
    with pytest.raises(PhaseGateError, match=r"report\.md was changed"):
        reviewable(str(alpha))


def prune(bundle: Path) -> Path:
    """Delete the backup of a bundle as prune.yml does; return the record beside it."""
    delete_backups(str(bundle.parent), RetentionVerdict(bundle.name, "backup.dump", 0, remove=True, why="31 days old"))
    assert not (bundle / "backup.dump").exists()
    return bundle.parent / f"{bundle.name}.pruned.json"


def test_evidence_without_its_pruned_backup_is_evidence(
    alpha: Path, beta: Run, people: dict[str, Reviewer], reviewers: Path
) -> None:
    assert reviewers.exists()
    before = reviewable(str(alpha))
    prune(alpha)
    assert reviewable(str(alpha)) == before
    assert judged(given(beta, alpha, people["anna"], people["ben"])).status == "PASS"
    # a rollback is another matter: it needs the backup
    with pytest.raises(PhaseGateError, match=r"backup\.dump was pruned"):
        revocable(str(alpha), AcceptedLoss())
    # the record accounts for the backup only
    (alpha / "sql" / "migrate.sql").unlink()
    fails(beta, "sql/migrate.sql", "missing")
    with pytest.raises(PhaseGateError, match=r"sql/migrate\.sql"):
        reviewable(str(alpha))


@pytest.mark.parametrize("seal", [None, "0" * 64])
def test_a_backup_that_no_record_accounts_for_is_missing(alpha: Path, beta: Run, seal: str | None) -> None:
    record = prune(alpha)
    if seal is None:
        record.unlink()
    else:
        record.write_text(
            json.dumps({**json.loads(record.read_text(encoding="utf-8")), "seal": seal}), encoding="utf-8"
        )
    fails(beta, "backup.dump")
    with pytest.raises(PhaseGateError, match=r"backup\.dump"):
        reviewable(str(alpha))


@pytest.mark.parametrize("name", ["../alpha", "a/b", "", ".hidden"])
def test_reviews_stay_in_their_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhaseGateError, match="Invalid name of a run directory"):
        write_reviews(RunDirectory(str(tmp_path)), {name: ({"a": b"x"}, {})})
