# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs of a phase on a target: opening one, and what the earlier ones say. Private to this collection."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass
from typing import Any, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils import _report
from ansible_collections.incomex.phasegate.plugins.module_utils._client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import Artefacts, sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._execute import declared_target, stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._gates import FAIL
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import Identity, read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._transaction import (
    COMMITTED,
    ROLLED_BACK,
    UNKNOWN,
    resolve,
)

NOT_STARTED = "NOT_STARTED"


def events(entries: list[Entry], step: str, event: str) -> list[dict[str, Any]]:
    """Return the data of every such entry, oldest first."""
    return [entry.data for entry in entries if (entry.step, entry.event) == (step, event)]


def opening(entries: list[Entry]) -> Mapping[str, Any]:
    """Return what the run was opened with."""
    return events(entries, "run", "open")[0]


def journaled_outcome(entries: list[Entry]) -> str | None:
    """Return C-07's outcome by the journal, NOT_STARTED without a C-07, None when it began and never reported."""
    reported = events(entries, "C-07", "done") + events(entries, "C-07", "failed") + events(entries, "C-07", "resolved")
    if reported:
        return str(reported[-1].get("outcome", UNKNOWN))
    return None if events(entries, "C-07", "transaction") else NOT_STARTED


def committed_outcome(artefacts: Artefacts) -> dict[str, Any] | None:
    """Return what C-07 recorded in this run when it committed, else None."""
    for data in events(artefacts.journal.entries(), "C-07", "done"):
        if data.get("outcome") == COMMITTED:
            return data
    return None


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run of the same DDL on the same cluster and database that committed; ``sealed`` or still open."""

    artefacts: Artefacts
    xid: str

    @property
    def sealed(self) -> bool:
        """Return whether its evidence is complete."""
        return self.artefacts.sealed


def _candidates(root: str, slug: str, environment: str) -> Iterator[Artefacts]:
    prefix = f"{slug}_{environment}_"
    names = sorted(os.listdir(root), reverse=True) if os.path.isdir(root) else []
    for name in names:
        artefacts = Artefacts(os.path.join(root, name))
        if name.startswith(prefix) and artefacts.has_run:
            yield artefacts


def find_applied(
    client: Client, root: str, slug: str, environment: str, ddl_sha256: str, identity: Identity
) -> EarlierRun | None:
    """Return the newest run that committed this DDL here, or None.

    A run whose C-07 began and never reported is resolved on the server and the answer journaled. Raises
    ``PhaseGateError`` when that cannot be told.
    """
    for artefacts in _candidates(root, slug, environment):
        entries = artefacts.journal.entries()
        start = opening(entries)
        if start["ddl_sha256"] != ddl_sha256 or start["identity"]["system_identifier"] != identity.system_identifier:
            continue
        if start["identity"]["database"] != identity.database:
            continue
        outcome = journaled_outcome(entries)
        xid = next((str(data["xid"]) for data in reversed(events(entries, "C-07", "transaction"))), "")
        if outcome is None:
            outcome = resolve(client, xid)
            if outcome == UNKNOWN:
                raise PhaseGateError(
                    "An earlier run of this phase has an unknown outcome (T-1).",
                    expected=f"pg_xact_status of transaction {xid} tells committed or aborted",
                    found="the server cannot be asked, or does not remember it",
                    next_step=f"find out by hand whether {artefacts.path} committed before you run anything else",
                )
            if not artefacts.sealed:
                artefacts.journal.append("C-07", "resolved", {"outcome": outcome, "xid": xid})
        if outcome == COMMITTED:
            return EarlierRun(artefacts, xid)
        assert outcome in (ROLLED_BACK, NOT_STARTED, UNKNOWN), outcome
    return None


def look(client: Client, root: str, environment: str, plan: Mapping[str, Any]) -> tuple[EarlierRun | None, Identity]:
    """Ask the server who it is, and whether this plan's DDL was committed here before."""
    with client.session("phasegate:open") as session:
        identity = read_identity(session, client)
    slug, digest = plan["phase"]["phase"], plan["ddl"]["sha256"]
    return find_applied(client, root, slug, environment, digest, identity), identity


def open_run(
    root: str,
    environment: str,
    plan: Mapping[str, Any],
    about: Mapping[str, Any],
    identity: Identity,
    declared: Mapping[str, Any],
) -> Artefacts:
    """Make the directory with ``plan.json`` and a journal. Raises ``PhaseGateError`` when the target is another one (G-4).

    ``about`` are further facts of the opening for the journal and the report.
    """
    artefacts = new_directory(root, plan["phase"]["phase"], environment)
    artefacts.write("plan.json", canonical_json(plan))
    opening_data = {
        **about,
        "environment": environment,
        "phase": plan["phase"]["phase"],
        "ddl_sha256": plan["ddl"]["sha256"],
        "identity": identity.as_dict(),
    }
    artefacts.journal.append("run", "open", opening_data)
    gate = declared_target(declared, identity)
    if gate.status == FAIL:
        error = stopped([gate])
        artefacts.journal.append("run", "failed", {"reason": str(error), "gates": [gate.as_dict()]})
        seal(artefacts, "")
        raise WrongTarget(error, artefacts)
    return artefacts


class WrongTarget(PhaseGateError):
    """G-4 failed when the run was opened; ``artefacts`` is its sealed directory."""

    def __init__(self, error: PhaseGateError, artefacts: Artefacts) -> None:
        self.artefacts = artefacts
        super().__init__(error.what, expected=error.expected, found=error.found, next_step=error.next_step)


def seal(artefacts: Artefacts, reason: str) -> dict[str, Any]:
    """Build the report, seal the directory and return the report; a sealed one is only read.

    ``reason`` is journaled as the run's failure when no step told one.
    """
    path = artefacts.file("plan.json")
    plan = None
    if os.path.isfile(path):
        with open(path, "rb") as stream:
            plan = json.load(stream)
    entries = artefacts.journal.entries()
    if not artefacts.sealed:
        if reason and not any(entry.event == "failed" for entry in entries):
            artefacts.journal.append("run", "failed", {"reason": reason})
        artefacts.journal.append("run", "seal")
        entries = artefacts.journal.entries()
    name = os.path.basename(artefacts.path)
    report = _report.build(plan, entries, name)
    if not artefacts.sealed:
        artefacts.write("logs/driver.log", _report.driver_log(entries).encode("utf-8"))
        sums = {item: sha256_file(artefacts.file(item)) for item in artefacts.names()}
        artefacts.write("report.json", json.dumps(report, indent=2, ensure_ascii=False).encode("utf-8") + b"\n")
        artefacts.write("report.md", _report.markdown(report, sums).encode("utf-8"))
        artefacts.write("SUMMARY.txt", _report.summary(report).encode("utf-8"))
        artefacts.seal()
    return report


def new_directory(root: str, slug: str, environment: str) -> Artefacts:
    """Make ``<root>/<slug>_<environment>_<UTC stamp>`` and return it; a name that is taken gets a counter."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    base = os.path.join(root, f"{slug}_{environment}_{stamp}")
    os.makedirs(root, mode=0o750, exist_ok=True)
    for suffix in ("", *(f".{number}" for number in range(2, 1000))):
        try:
            os.mkdir(base + suffix, 0o750)
        except FileExistsError:
            continue
        artefacts = Artefacts(base + suffix)
        artefacts.create()
        return artefacts
    raise PhaseGateError(f"No name is free for an artefact directory like {base}.")
