# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs of a phase on a target: opening one, and the outcome of the earlier ones."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
from typing import Any, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils import _report_build, _report_markdown, _report_text
from ansible_collections.incomex.phasegate.plugins.module_utils._access import read_access
from ansible_collections.incomex.phasegate.plugins.module_utils._after_commit import REFUSED, left
from ansible_collections.incomex.phasegate.plugins.module_utils._backup_record import FOLDERS
from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    JOURNAL,
    PARTIAL,
    SEAL,
    Artefacts,
    evidence_incomplete,
    file_error,
    run_step,
    sha256_file,
    verify,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates import Gate, declared_target, failed, stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import Identity, read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._lock import Held
from ansible_collections.incomex.phasegate.plugins.module_utils._outcome import COMMITTED, UNKNOWN, resolve
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import canonical_json, digest
from ansible_collections.incomex.phasegate.plugins.module_utils._report_vocabulary import CONTINUE
from ansible_collections.incomex.phasegate.plugins.module_utils._server import server_facts
from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session

NOT_STARTED = "NOT_STARTED"


def events(entries: list[Entry], step: str, event: str) -> list[dict[str, Any]]:
    """Return the data of every such entry, oldest first."""
    return [entry.data for entry in entries if (entry.step, entry.event) == (step, event)]


# The kinds of runs, each with the command in which it changes the database.
EXECUTE = "execute"
ROLLBACK = "rollback"
REHEARSAL = "rehearsal"
COMMAND = {EXECUTE: "C-07", ROLLBACK: "C-09"}

REPORTS = ("report.json", "report.md", "SUMMARY.txt")


def opening(entries: list[Entry]) -> Mapping[str, Any]:
    """Return the facts of the run's opening; empty for a run that failed before it could be opened."""
    return next(iter(events(entries, "run", "open")), {})


def journaled_outcome(entries: list[Entry], command: str) -> str | None:
    """Return a command's outcome by the journal: COMMITTED once it is, NOT_STARTED without a transaction.

    None when the outcome of the last transaction is not recorded: it never reported, or reported UNKNOWN. A later
    attempt that stopped before its own transaction has no information about the earlier one.
    """
    outcome: str | None = NOT_STARTED
    for entry in entries:
        if entry.step != command:
            continue
        if entry.event == "transaction":
            outcome = None
        elif entry.event in ("done", "failed", "resolved"):
            told = str(entry.data.get("outcome", NOT_STARTED))
            if told != NOT_STARTED:
                outcome = None if told == UNKNOWN else told
        if outcome == COMMITTED:
            break
    return outcome


def committed_outcome(client: Client, artefacts: Artefacts, command: str) -> dict[str, Any] | None:
    """Return what a command recorded in this run when it committed, else None.

    One that never reported is resolved on the server first. Raises ``PhaseGateError`` when that is impossible.
    """
    entries = artefacts.journal.entries()
    if _outcome(client, artefacts, entries, command) != COMMITTED:
        return None
    return next(
        (data for data in events(entries, command, "done") if data["outcome"] == COMMITTED), {"outcome": COMMITTED}
    )


def incomplete(artefacts: Artefacts) -> bool:
    """Return whether a run that committed has statements after COMMIT that are not done."""
    with open(artefacts.file("plan.json"), "rb") as stream:
        plan = json.load(stream)
    return bool(left(plan["ddl"]["statements"], artefacts.journal.entries(), COMMAND[EXECUTE]))


def reopen(sealed: Artefacts, root: str) -> Artefacts:
    """Return an open copy of a sealed run, to continue it: the sealed bundle stays unchanged.

    Raises ``PhaseGateError`` when the bundle is not intact.
    """
    findings = verify(sealed.path)
    if findings:
        raise PhaseGateError(
            "The evidence of the run to continue is not intact.",
            expected=f"a sealed bundle in {sealed.path}",
            found="; ".join(findings),
            next_step="find out who changed it; finish the remaining statements by hand, or roll the phase back",
        )
    start = opening(sealed.journal.entries())
    artefacts = new_directory(root, f"{start['phase']}_{start['environment']}")
    for name in sealed.names():
        if name not in (*REPORTS, JOURNAL):
            os.makedirs(os.path.dirname(artefacts.file(name)), mode=0o750, exist_ok=True)
            shutil.copyfile(sealed.file(name), artefacts.file(name))
    # the journal last: a directory without one is not a run
    shutil.copyfile(sealed.file(JOURNAL), artefacts.file(JOURNAL + PARTIAL))
    os.replace(artefacts.file(JOURNAL + PARTIAL), artefacts.file(JOURNAL))
    about = {"bundle": name_of(sealed), "seal": sha256_file(sealed.file(SEAL)), "path": artefacts.path}
    artefacts.journal.append("run", CONTINUE, about)
    return artefacts


def continued(entries: list[Entry]) -> set[str]:
    """Return the names of the runs that a run continues: they are the same execution."""
    return {str(data["bundle"]) for data in events(entries, "run", CONTINUE)}


def runs_below(root: str, prefix: str) -> Iterator[Artefacts]:
    """Yield the runs whose directory's name begins with ``prefix``, the newest first."""
    names = sorted(os.listdir(root), reverse=True) if os.path.isdir(root) else []
    for name in names:
        artefacts = Artefacts(os.path.join(root, name))
        if name.startswith(prefix) and artefacts.has_run:
            yield artefacts


def was_here(start: Mapping[str, Any], identity: Identity) -> bool:
    """Return whether a run, by its opening, was on this database."""
    there = start.get("identity", {})
    return (there.get("system_identifier"), there.get("database")) == (identity.system_identifier, identity.database)


def _outcome(client: Client, artefacts: Artefacts, entries: list[Entry], command: str) -> str:
    """Return how a run's command ended; one that never reported is resolved on the server and the answer journaled.

    Raises ``PhaseGateError`` when that is impossible.
    """
    outcome = journaled_outcome(entries, command)
    if outcome is not None:
        return outcome
    xid = str(events(entries, command, "transaction")[-1]["xid"])
    outcome = resolve(client, xid)
    if outcome == UNKNOWN:
        raise PhaseGateError(
            "An earlier run of this phase has an unknown outcome (T-1).",
            expected=f"pg_xact_status of transaction {xid} reports committed or aborted",
            found="the server cannot be queried, or no longer has the record",
            next_step=f"find out by hand whether {artefacts.path} committed before you run anything else",
        )
    if not artefacts.sealed:
        artefacts.journal.append(command, "resolved", {"outcome": outcome, "xid": xid})
    return outcome


def find_applied(
    client: Client, root: str, environment: str, plan: Mapping[str, Any], identity: Identity
) -> Artefacts | None:
    """Return the newest run that committed this plan's DDL on this database and was not rolled back since, or None."""
    undone: set[str] = set()
    # newest first; "rollback" sorts after every time stamp, so rollbacks come before the executions that they undid
    for artefacts in runs_below(root, f"{plan['phase']['phase']}_{environment}_"):
        entries = artefacts.journal.entries()
        start = opening(entries)
        if not was_here(start, identity) or start["kind"] == REHEARSAL:
            continue
        kind = start["kind"]
        if kind == EXECUTE and start["ddl_sha256"] != plan["ddl"]["sha256"]:
            continue
        # a rollback of one undoes all
        same = {name_of(artefacts), *continued(entries)}
        if kind == EXECUTE and same & undone:
            undone |= same
            continue
        if _outcome(client, artefacts, entries, COMMAND[kind]) != COMMITTED:
            continue
        if kind == EXECUTE:
            return artefacts
        undone.add(start["execution"])
    return None


def close_broken(root: str, environment: str, plan: Mapping[str, Any], identity: Identity) -> list[str]:
    """Seal the interrupted earlier runs of this phase on this database, and return their names.

    The caller holds the run's lock: no other run is active on this database. A run that committed is left for adoption.
    """
    names = []
    for artefacts in runs_below(root, f"{plan['phase']['phase']}_{environment}_"):
        if artefacts.sealed or artefacts.working:
            continue
        entries = artefacts.journal.entries()
        start = opening(entries)
        command = COMMAND.get(start.get("kind", ""))
        if was_here(start, identity) and command and journaled_outcome(entries, command) not in (COMMITTED, None):
            seal(artefacts, str(_broken_off(entries[-1])))
            names.append(name_of(artefacts))
    return names


def _broken_off(last: Entry) -> PhaseGateError:
    return PhaseGateError(
        "The run was interrupted: nothing followed its last step, and its lock was released.",
        expected="every step up to the seal",
        found=f"{last.step} {last.event} at {last.at} as the last line of the journal",
        next_step="find out what ended the controller; the next run, which sealed this one, starts from the beginning",
    )


def look(client: Client) -> Identity:
    """Query the identity of the server."""
    with client.session("phasegate:open") as session:
        return read_identity(session, client)


def source_of(session: Session) -> dict[str, Any]:
    """Return what a rehearsal's copy needs of the source: ``roles`` by name, PostgreSQL's own left out, ``access``, ``server``."""
    roles = [row[0] for row in session.rows("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")]
    return {"roles": roles, "access": read_access(session), "server": server_facts(session)}


def of_target(kind: str, plan: Mapping[str, Any], declared: Mapping[str, Any], identity: Identity) -> Gate:
    """G-4 at the opening of a run."""
    # a rehearsal changes nothing here, a rollback was compared with its execution
    return declared_target(declared, identity, pinned="target" in plan or kind != EXECUTE)


# The valid names of an environment: they are part of file names.
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def require_place(root: str, environment: str) -> None:
    """Raise ``PhaseGateError`` unless runs can be kept, and found again, below ``root`` under this environment's name.

    What a relative path means depends on where Ansible happens to run: the next run would not find this one.
    """
    wrong = [] if os.path.isabs(root) else [f"root {root!r}"]
    wrong += [] if _ENVIRONMENT.fullmatch(environment) else [f"environment {environment!r}"]
    if wrong:
        raise PhaseGateError(
            "phasegate_root or phasegate_environment is invalid.",
            expected="root: an absolute path; environment: letters, digits and _ . - only",
            found=", ".join(wrong),
            next_step="correct phasegate_root or phasegate_environment in the inventory",
        )


def open_run(
    root: str,
    plan: Mapping[str, Any],
    about: Mapping[str, Any],
    declared: Mapping[str, Any],
    files: Mapping[str, bytes],
    lock: Held | Gate | None = None,
) -> Artefacts:
    """Make the directory with ``plan.json``, a journal, and the frozen SQL (C-05).

    Raises ``NotOpened`` when the target differs (G-4), another run holds it (G-7), or the SQL differs from the plan.
    ``files`` are the bytes of the plan's ``ddl`` and ``rollback``.
    ``about`` are the facts of the opening for the journal and the report: ``kind``, ``environment``, ``identity`` (as
    ``Identity.as_dict``), ``host``, ``plan_sha256``, ``operator``, and ``execution`` for a rollback. ``lock`` is what
    holds the run's lock, or the failed gate G-7, which ends the run as a wrong target does; None without either.
    """
    identity = Identity(**about["identity"])
    stem = [plan["phase"]["phase"], about["environment"]] + ([] if about["kind"] == EXECUTE else [about["kind"]])
    artefacts = new_directory(root, "_".join(stem))
    artefacts.write("plan.json", canonical_json(plan))
    held = {"lock": lock.as_dict()} if isinstance(lock, Held) else {}
    artefacts.journal.append(
        "run",
        "open",
        {
            **about,
            **held,
            "path": artefacts.path,
            "phase": plan["phase"]["phase"],
            "ddl_sha256": plan["ddl"]["sha256"],
        },
    )
    with opening_of(artefacts):
        gates = [of_target(about["kind"], plan, declared, identity), *([lock] if isinstance(lock, Gate) else [])]
        wrong = failed(gates)
        if wrong:
            error = stopped(wrong)
            artefacts.journal.append(
                "run", "failed", {"reason": str(error), "gates": [gate.as_dict() for gate in gates]}
            )
            raise error
        _freeze(artefacts, plan, files)
    return artefacts


@contextlib.contextmanager
def opening_of(artefacts: Artefacts) -> Iterator[None]:
    """Seal a run that is stopped while it is opened. Raises ``NotOpened`` then."""
    try:
        yield
    except PhaseGateError as error:
        seal(artefacts, str(error))
        raise NotOpened(error, artefacts) from error


def _freeze(artefacts: Artefacts, plan: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """C-05: write the SQL as ``sql/<name>``. Raises ``PhaseGateError`` for bytes that the plan does not pin."""
    with run_step(artefacts, "C-05") as step:
        step.data["files"] = []
        for part, data in files.items():
            name, pinned, found = plan[part]["file"], plan[part]["sha256"], digest(data)
            if found != pinned or os.path.basename(name) != name:
                raise PhaseGateError(
                    f"C-05: {name} differs from the pinned file.",
                    expected=f"SHA-256 {pinned}, and a name without a directory",
                    found=f"SHA-256 {found}",
                    next_step="find out who changed the file; a changed file is a new revision that needs its own review",
                )
            artefacts.write(f"sql/{name}", data)
            step.data["files"].append({"name": f"sql/{name}", "sha256": found, "size": len(data)})


class NotOpened(PhaseGateError):
    """A gate or C-05 failed when the run was opened; ``artefacts`` is its sealed directory."""

    def __init__(self, error: PhaseGateError, artefacts: Artefacts) -> None:
        self.artefacts = artefacts
        super().__init__(error.what, expected=error.expected, found=error.found, next_step=error.next_step)


def seal(artefacts: Artefacts, reason: str) -> dict[str, Any]:
    """Build the report, seal the directory and return the report; a sealed one is only read.

    ``reason`` is journaled as the run's failure when no step recorded one.
    """
    # a backup in the background has to end first: nothing may come into a sealed directory
    with artefacts.busy(), artefacts.at_work():
        return _seal(artefacts, reason)


def _seal(artefacts: Artefacts, reason: str) -> dict[str, Any]:
    path = artefacts.file("plan.json")
    plan = None
    if os.path.isfile(path):
        with open(path, "rb") as stream:
            plan = json.load(stream)
    entries = artefacts.journal.entries()
    if not artefacts.sealed:
        if reason and not any(entry.event == "failed" for entry in _report_build.since_continued(entries)):
            artefacts.journal.append("run", "failed", {"reason": reason})
        artefacts.journal.append("run", "seal")
        entries = artefacts.journal.entries()
    name = os.path.basename(artefacts.path)
    report = _report_build.build(plan, entries, name)
    if not artefacts.sealed:
        artefacts.write("logs/driver.log", _report_text.driver_log(entries).encode("utf-8"))
        sums = artefacts.sums()
        # those of a seal that was interrupted
        sums = {item: digest for item, digest in sums.items() if item not in REPORTS}
        texts = (
            json.dumps(report, indent=2, ensure_ascii=False) + "\n",
            # a backup of many files is represented by its listing
            _report_markdown.markdown(report, {item: sums[item] for item in sums if not item.startswith(FOLDERS)}),
            _report_text.summary(report),
        )
        for item, text in zip(REPORTS, texts):
            sums[item] = artefacts.write(item, text.encode("utf-8"))
        artefacts.seal(sums)
    return report


def unfinished(artefacts: Artefacts) -> PhaseGateError | None:
    """Return why a run cannot be sealed yet, or None: its outcome is unknown, or it was not verified after COMMIT.

    The next run adopts it: it resolves the outcome, verifies, and seals. In a sealed directory it could do neither.
    """
    entries = artefacts.journal.entries()
    command = COMMAND.get(opening(entries).get("kind", ""))
    if artefacts.sealed or command != COMMAND[EXECUTE]:
        return None
    outcome = journaled_outcome(entries, command)
    judged = any(entry.step == "C-08" and "checks" in entry.data for entry in entries)
    # a statement after COMMIT that failed was reported; the next run continues in a copy
    judged = judged or (any(entry.event == REFUSED for entry in entries) and incomplete(artefacts))
    if outcome not in (COMMITTED, None) or (outcome == COMMITTED and judged):
        return None
    return PhaseGateError(
        f"{command} {'is COMMITTED, but was not verified' if outcome else 'has an UNKNOWN outcome (T-1)'}.",
        expected="C-08 in the same run",
        found=f"{artefacts.path} without it; left without a seal",
        next_step="run the same command again: it resolves the outcome, executes nothing twice, verifies, and seals",
    )


def not_sealed(path: str | None, error: OSError) -> PhaseGateError:
    """Return the error for a run that could not be sealed; ``path`` is None when it has no directory.

    A change in the database must be reported even where it cannot be recorded (T-8).
    """
    entries = Artefacts(path).journal.entries() if path else []
    outcomes = {command: journaled_outcome(entries, command) for command in COMMAND.values()}
    told = [
        f"{command} is COMMITTED" if outcome == COMMITTED else f"the journal does not record how {command} ended"
        for command, outcome in outcomes.items()
        if outcome in (COMMITTED, UNKNOWN, None)
    ]
    return evidence_incomplete(", ".join(told), error, f"{path} without a seal: ") if told else file_error(error)


def name_of(artefacts: Artefacts) -> str:
    """Return the name of an artefact directory."""
    return os.path.basename(artefacts.path.rstrip("/"))


def require_confirmation(execution: Artefacts, confirm: str) -> None:
    """Raise ``PhaseGateError`` unless the operator typed the name of the execution to undo."""
    name = name_of(execution)
    if confirm != name:
        raise PhaseGateError(
            "C-09: the rollback is not confirmed.",
            expected=f"the name of the execution to undo, typed out: {name}",
            found=repr(confirm),
            next_step=f"read the report of {execution.path}; then run again with -e phasegate_confirm={name}",
        )


def plan_of_execution(execution: Artefacts, identity: Identity) -> dict[str, Any]:
    """Return the plan of a sealed execution that committed on this database. Raises ``PhaseGateError`` for any other."""
    findings = verify(execution.path)
    if findings:
        raise PhaseGateError(
            "C-09: the evidence of the execution is not intact.",
            expected=f"a sealed bundle in {execution.path}",
            found="; ".join(findings),
            next_step="use the untouched bundle; copy it back to this host if necessary",
        )
    entries = execution.journal.entries()
    start = opening(entries)
    outcome = journaled_outcome(entries, COMMAND[EXECUTE])
    there = start.get("identity", {})
    found = (start.get("kind"), outcome, there.get("system_identifier"), there.get("database"))
    expected = (EXECUTE, COMMITTED, identity.system_identifier, identity.database)
    if found != expected:
        raise PhaseGateError(
            "C-09: the bundle does not belong to an execution that committed on this database.",
            expected="kind, outcome, system identifier, database: " + ", ".join(expected),
            found=", ".join(str(fact) for fact in found),
            next_step="give the artefact directory of the execution to undo",
        )
    with open(execution.file("plan.json"), "rb") as stream:
        plan: dict[str, Any] = json.load(stream)
    return plan


def new_directory(root: str, stem: str) -> Artefacts:
    """Make ``<root>/<stem>_<UTC stamp>`` and return it; a name that is taken gets a counter."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    base = os.path.join(root, f"{stem}_{stamp}")
    os.makedirs(root, mode=0o750, exist_ok=True)
    for suffix in ("", *(f".{number}" for number in range(2, 1000))):
        try:
            os.mkdir(base + suffix, 0o750)
        except FileExistsError:
            continue
        artefacts = Artefacts(base + suffix)
        artefacts.create()
        return artefacts
    raise PhaseGateError(f"No free name for an artefact directory like {base}.")
