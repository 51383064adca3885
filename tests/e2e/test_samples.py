# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs in README and docs, each compared with that of a run; ``scripts/samples --write`` rewrites them."""

from __future__ import annotations

import os
import pwd
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.tests.support import samples
from ansible_collections.incomex.phasegate.tests.support.bundle import sha256
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, Play, play
from ansible_collections.incomex.phasegate.tests.support.reviewers import Reviewer, register, unregister
from ansible_collections.incomex.phasegate.tests.support.runs import wait_for
from ansible_collections.incomex.phasegate.tests.support.target import Target

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

ERROR = re.compile(r"^\[ERROR\]: .*?(?=\n\n|\nOrigin: |\Z)", re.DOTALL | re.MULTILINE)
AUDITOR = ROOT / "plugins" / "module_utils" / "_audit" / "audit.py"
#: They have plays on localhost, which a limit would leave out.
ON_THE_CONTROLLER = {"playbooks/approve.yml", "playbooks/approvals.yml", "playbooks/audit.yml"}
RECAP = re.compile(r"^local01 +: ok=.*$", re.MULTILINE)
REQUEST = re.compile(r"printf '%s\\n' '(\{[^']*\})'")

OWNER = """
CREATE ROLE directus_owner;
CREATE ROLE phase_role LOGIN;
ALTER TABLE public.tac_logical_unit OWNER TO directus_owner;
ALTER TABLE sandbox_tac.logical_unit OWNER TO directus_owner;
GRANT USAGE, CREATE ON SCHEMA sandbox_tac, cutter_governance TO phase_role;
"""

ORDERS = {
    "phase": "orders",
    "settings": {"after_commit_timeout": "1s"},
    "scope": {"schemas": ["public"], "statements": ["COMMENT", "CREATE INDEX CONCURRENTLY"]},
    "expect": {"tags": {"BEGIN": 1, "COMMENT": 1, "COMMIT": 1, "CREATE INDEX": 1}},
    "verify": [
        {"id": "VA-1", "title": "There", "sql": "SELECT to_regclass('public.orders') IS NOT NULL", "expect": True}
    ],
}
ORDERS_DDL = b"""\
BEGIN;
COMMENT ON COLUMN public.orders.region IS 'Region of the customer';
COMMIT;

CREATE INDEX CONCURRENTLY orders_by_region ON public.orders (region);
"""

CURRENCY = {
    "phase": "currency",
    "settings": {"lock_timeout": "1s"},
    "scope": {"schemas": ["public"], "statements": ["ALTER TABLE ADD COLUMN"]},
    "expect": {"tags": {"ALTER TABLE": 1}},
}
CURRENCY_DDL = b"ALTER TABLE public.orders ADD COLUMN currency text;\n"


@dataclass
class Tour:
    """Runs on one production, one after the other, and what they printed."""

    cluster: Cluster
    rehearsal: Cluster
    directory: Path
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.directory / "artefacts"

    def play(self, playbook: str, arguments: str = "", **extra: Any) -> Play:
        """Run a playbook as the README does, on the inventory host ``local01``."""
        variables = {
            "PHASEGATE_LOCAL_BIN": str(bin_directory()),
            "PHASEGATE_LOCAL_PRODUCTION": str(self.cluster.socket_directory),
            "PHASEGATE_LOCAL_REHEARSAL": str(self.rehearsal.socket_directory),
            "PHASEGATE_LOCAL_ROOT": str(self.root),
        }
        limit = None if playbook in ON_THE_CONTROLLER else "local"
        return play(self.directory, playbook, limit=limit, extra_vars=extra, arguments=arguments, variables=variables)

    def shown(self, text: str) -> str:
        """Return an output with the directories that the pages show."""
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config"
        text = text.replace(str(self.root), samples.DEFAULT_ROOT).replace(str(home), "/etc")
        return text.replace(str(self.directory), "")

    def succeeded(self, name: str, run: Play) -> str:
        """Keep the lines that a run ended with."""
        assert run.rc == 0, run.stdout
        told = [result.res["msg"] for result in run.results if result.status == "ok" and "msg" in result.res]
        lines = told[-1] if isinstance(told[-1], list) else str(told[-1]).splitlines()
        self.outputs[name] = self.shown("\n".join(lines)).rstrip("\n")
        return self.outputs[name]

    def failed(self, name: str, run: Play) -> str:
        """Keep the message that a run stopped with."""
        assert run.rc != 0, run.stdout
        error = ERROR.search(run.stdout)
        assert error, run.stdout
        self.outputs[name] = self.shown(error[0]).rstrip("\n")
        return self.outputs[name]

    def bundles(self, kind: str = "2") -> list[Path]:
        """Return the sealed directories of one kind, oldest first."""
        return sorted(self.root.glob(f"alpha_local_{kind}*"))


def written(tour: Tour, definition: dict[str, Any], ddl: bytes, rollback: bytes, undoing: str) -> Path:
    """Write a phase whose rollback has one kind of statement, and return its directory."""
    files = PhaseFiles(tour.directory / str(definition["phase"]))
    files.directory.mkdir()
    files.write(definition, ddl=ddl, rollback=rollback)
    text = Path(files.path).read_text(encoding="utf-8").replace("- DROP TABLE", f"- {undoing}")
    Path(files.path).write_text(text, encoding="utf-8")
    return files.directory


def wait_for_a_lock(tour: Tour, shop: Target, phase: Path) -> None:
    """A table that another session has locked: for longer than the run waits, then for one attempt."""
    extra: dict[str, Any] = {"phasegate_conditions": {"long_transactions": "ignore"}}
    with psycopg.connect(tour.cluster.dsn(shop.database), application_name="nightly-report") as holder:
        holder.execute("LOCK TABLE public.orders IN SHARE MODE")
        tour.failed("lock-held", shop.play_phase(phase, extra_vars={**extra, "phasegate_lock_attempts": 1}))
        ended = set(shop.root.glob("*/journal.jsonl"))

        def attempted() -> bool:
            running = set(shop.root.glob("*/journal.jsonl")) - ended
            return any('"lock timeout"' in journal.read_text(encoding="utf-8") for journal in running)

        extra |= {"phasegate_lock_attempts": 5, "phasegate_phase_file": str(phase / "phase.yml")}
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("ANSIBLE_STDOUT_CALLBACK", "incomex.phasegate.board")
            with shop.start("playbooks/execute.yml", extra) as run:
                wait_for("an attempt that did not get the lock", attempted)
                holder.rollback()
    shown = (shop.directory / "started.log").read_text(encoding="utf-8")
    assert run.returncode == 0, shown
    # of several lines that differ in their figures alone, the first
    lines: dict[tuple[str, ...], str] = {}
    for line in re.findall(r"^target +C-0[78] +(?:WAITING|DONE) .*", shown, re.MULTILINE):
        lines.setdefault(tuple(re.sub("[0-9.]+", "", line).split()[:5]), line.replace("target ", "local01 ").rstrip())
    tour.outputs["lock-wait"] = "\n".join(lines.values())


def before_the_register(tour: Tour, template: str) -> None:
    """What nobody has to approve: stops by the SQL itself."""
    orders = written(tour, ORDERS, ORDERS_DDL, b"DROP INDEX public.orders_by_region;\n", "DROP INDEX")
    undo = b"ALTER TABLE public.orders DROP COLUMN currency;\n"
    currency = written(tour, CURRENCY, CURRENCY_DDL, undo, "ALTER TABLE DROP COLUMN")
    for name, loaded in (("weak", template), ("shop", None)):
        tour.cluster.create_database(name, loaded)
    tour.cluster.psql(OWNER, "weak")
    tour.cluster.psql("CREATE TABLE public.orders (region text)", "shop")
    try:
        weak = Target(tour.cluster, "weak", tour.directory / "weak")
        weak.directory.mkdir()
        weak.hostvars = {"phasegate_user": "phase_role", "phasegate_identity": weak.identity(user="phase_role")}
        tour.failed("privileges", weak.play())

        shop = Target(tour.cluster, "shop", tour.directory / "shop")
        shop.directory.mkdir()
        wait_for_a_lock(tour, shop, currency)
        with psycopg.connect(tour.cluster.dsn("shop")) as older:
            # a build waits for snapshots that are older than its index
            older.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            older.execute("SELECT pg_current_xact_id()")
            tour.failed("not-completed", shop.play_phase(orders))
    finally:
        for name in ("weak", "shop"):
            tour.cluster.drop_database(name)
        tour.cluster.psql("DROP ROLE phase_role; DROP ROLE directus_owner")
    r1 = ROOT / "tests" / "fixtures" / "phases" / "r1" / "phase.yml"
    tour.failed("count-missed", tour.play("playbooks/execute.yml", phasegate_phase_file=str(r1)))


def rehearse_and_execute(tour: Tour, anna: Reviewer, ben: Reviewer, known: Path) -> None:
    """The life of a phase, with the stops on its way."""
    plans = str(tour.root / "plans")
    rehearsed = tour.play("playbooks/phase_alpha_rehearse.yml", phasegate_author="carol", phasegate_plans=plans)
    tour.succeeded("rehearsed", rehearsed)
    (plan,) = Path(plans).glob("*/plan.json")

    def approve(reviewer: Reviewer, **more: str) -> None:
        extra = {"phasegate_reviewer": reviewer.name, "phasegate_key": str(reviewer.key), **more}
        run = tour.play("playbooks/approve.yml", phasegate_plan=str(plan), **extra)
        assert run.rc == 0, run.stdout

    def execute(arguments: str = "", **extra: Any) -> Play:
        return tour.play("phase_alpha.yml", arguments, phasegate_plan=str(plan), **extra)

    approve(anna)
    tour.failed("stopped-g1", execute())
    approve(ben, phasegate_notes="Watch the replica during the backfill.")
    listed = tour.play("playbooks/approvals.yml", phasegate_plan=str(plan), phasegate_reviewers=str(known))
    tour.succeeded("approvals", listed)
    tour.succeeded("checked", execute("--check"))
    identity = {"database": "directus", "user": SUPERUSER, "system_identifier": "7384512999999999999"}
    tour.failed("stopped-g4", execute(phasegate_identity=identity))
    tour.cluster.psql("ALTER TABLE public.tac_logical_unit ADD COLUMN surprise integer", "directus")
    tour.failed("stopped-g10", execute())
    tour.cluster.psql("ALTER TABLE public.tac_logical_unit DROP COLUMN surprise", "directus")

    proof = {"host": str(tour.rehearsal.socket_directory), "bindir": str(bin_directory())}
    proof = {**proof, "database": "scratch", "user": SUPERUSER}
    tour.succeeded("executed", execute(phasegate_backup_proof=proof))
    samples.keep_page("review", plan.with_name("review.html"))
    samples.keep_page("report", tour.bundles()[-1] / "report.html")
    again = execute()
    recap = RECAP.search(again.stdout)
    assert recap, again.stdout
    tour.outputs["applied"] = "\n".join([*tour.succeeded("applied", again).split("\n")[:5], "…", recap[0].rstrip()])


def audit(tour: Tour) -> None:
    """A bundle as it is, and damaged."""
    (bundle,) = [path for path in tour.bundles() if '"COMMITTED"' in (path / "journal.jsonl").read_text()]
    tour.succeeded("audited", tour.play("playbooks/audit.yml", phasegate_bundle=str(bundle)))
    kept = tour.directory / "kept"
    shutil.copytree(bundle, kept)
    noted = sha256(bundle / "SHA256SUMS")
    noting = tour.play("playbooks/audit.yml", phasegate_bundle=str(bundle), phasegate_seal=noted)
    tour.succeeded("audited-seal", noting)
    report = bundle / "report.md"
    report.write_text(report.read_text(encoding="utf-8").replace("UPDATE 86", "UPDATE 85"), encoding="utf-8")
    (bundle / "schema" / "diff.txt").unlink()
    (bundle / "logs" / "C-09.log").write_text("rolled back\n", encoding="utf-8")
    tour.failed("audit-damaged", tour.play("playbooks/audit.yml", phasegate_bundle=str(bundle)))
    shutil.rmtree(bundle)
    shutil.copytree(kept, bundle)
    report.write_text(report.read_text(encoding="utf-8").replace("UPDATE 86", "UPDATE 85"), encoding="utf-8")
    sums = bundle / "SHA256SUMS"
    listed = [line[66:] for line in sums.read_text(encoding="utf-8").splitlines()]
    sums.write_text("".join(f"{sha256(bundle / name)}  {name}\n" for name in listed), encoding="utf-8")
    resealed = tour.play("playbooks/audit.yml", phasegate_bundle=str(bundle), phasegate_seal=noted)
    tour.failed("audit-resealed", resealed)
    shutil.rmtree(bundle)
    shutil.copytree(kept, bundle)


def roll_back(tour: Tour, *reviewers: Reviewer) -> None:
    """C-09, refused three times first."""
    (execution,) = [path for path in tour.bundles() if '"COMMITTED"' in (path / "journal.jsonl").read_text()]

    def undo(**extra: Any) -> Play:
        return tour.play("playbooks/rollback.yml", phasegate_execution=str(execution), **extra)

    tour.failed("rollback-unconfirmed", undo())
    request = REQUEST.search(tour.failed("rollback-unapproved", undo(phasegate_confirm=execution.name)))
    assert request
    signatures = []
    for one in reviewers:
        signatures.append(tour.directory / f"{one.name}.sig")
        signatures[-1].write_bytes(one.sign(request[1].encode() + b"\n", "rollback@phasegate.incomex"))
    confirmed = {
        "phasegate_confirm": execution.name,
        "phasegate_rollback_approvals": [str(one) for one in signatures],
    }
    alias = "cutter_governance.canonical_address_alias"
    tour.cluster.psql(
        f"INSERT INTO {alias} (target_unit_id, alias_text, alias_kind)"
        " SELECT unit_id, 'former', 'former' FROM public.tac_logical_unit LIMIT 3",
        "directus",
    )
    tour.failed("rollback-loss", undo(**confirmed))
    tour.cluster.psql(f"DELETE FROM {alias}", "directus")
    tour.succeeded("rolled-back", undo(**confirmed))


def prune(tour: Tour) -> None:
    """Backups that are no longer needed."""
    archive = tour.directory / "archive"
    (rehearsed,) = tour.bundles("rehearsal_")
    shutil.copytree(rehearsed, archive / rehearsed.name)
    options = {"phasegate_keep_backups": 1, "phasegate_keep_days": 0, "phasegate_archive": str(archive)}
    told = tour.succeeded("pruned", tour.play("playbooks/prune.yml", "--check", **options))
    tour.outputs["pruned"] = told.replace("/archive", "/mnt/archive/phasegate")


def drift(tour: Tour) -> None:
    """A schema that somebody changed."""
    assert tour.play("playbooks/drift.yml").rc == 0
    change = "ALTER TABLE public.tac_logical_unit DROP COLUMN identity_profile; CREATE SCHEMA x"
    tour.cluster.psql(change, "directus")
    tour.failed("drifted", tour.play("playbooks/drift.yml"))


def consoles(tour: Tour, known: Path) -> None:
    """What an auditor and an operator type in a bundle."""
    (bundle,) = [path for path in tour.bundles() if '"COMMITTED"' in (path / "journal.jsonl").read_text()]
    shutil.copy(known / "allowed_signers", bundle.parent / "allowed_signers")
    environment = {
        **os.environ,
        "PATH": f"{bin_directory()}:{os.environ['PATH']}",
        "PGHOST": str(tour.cluster.socket_directory),
        "LC_ALL": "C.UTF-8",
    }
    first = 'docker() { shift; [ "$1" != -i ] || shift; shift; "$@"; }'
    shown = {
        "cd /var/lib/phasegate/alpha_prod_20260516T031200Z": f"cd {bundle}",
        "python3 audit.py alpha_prod_20260516T031200Z": f"python3 {AUDITOR} {bundle}",
        "cd alpha_prod_20260516T031200Z": f"cd {bundle}",
        "-f allowed_signers": "-f ../allowed_signers",
    }
    for block in samples.documented():
        if block.language == "console":
            made = samples.perform(block, bundle, environment, shown, first)
            tour.outputs.setdefault(block.sample, made)


@pytest.fixture(scope="module")
def outputs(cluster: Cluster, phase_alpha_template: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every output, made by runs on two clusters."""
    directory = tmp_path_factory.mktemp("tour")
    people = directory / "people"
    people.mkdir()
    cluster.create_database("directus", phase_alpha_template)
    identifier = cluster.psql("SELECT system_identifier FROM pg_control_system()", "directus").strip()
    known = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".config" / "phasegate" / "reviewers" / identifier
    with running_cluster(rehearsal=True) as rehearsal:
        tour = Tour(cluster, rehearsal, directory)
        try:
            before_the_register(tour, phase_alpha_template)
            anna, ben = (Reviewer.create(people, name) for name in ("anna", "ben"))
            register(known, anna.line() + ben.line())
            rehearse_and_execute(tour, anna, ben, known)
            audit(tour)
            prune(tour)
            consoles(tour, known)
            roll_back(tour, anna, ben)
            drift(tour)
        finally:
            unregister(known)
            samples.record(tour.outputs)
            for name in ("directus_restored", "directus"):
                cluster.psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    return tour.outputs


@pytest.mark.parametrize("block", samples.documented(), ids=lambda block: f"{block.page}:{block.sample}")
def test_a_sample_is_what_a_run_prints(outputs: dict[str, str], block: samples.Block) -> None:
    assert block.sample in outputs, f"{block.page}:{block.line} has a mark that no run makes an output for"
    assert samples.normalised(block.text) == samples.normalised(outputs[block.sample])


def test_the_pictures_show_the_pages_of_today(outputs: dict[str, str]) -> None:
    assert outputs
    assert samples.photographed() == samples.looks(), "make them anew: scripts/samples --pictures"


def test_every_output_is_shown(outputs: dict[str, str]) -> None:
    assert {block.sample for block in samples.documented()} == set(outputs)
