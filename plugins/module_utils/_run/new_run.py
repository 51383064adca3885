# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open a run: its directory, its frozen SQL (C-05) and its first gates."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
from dataclasses import replace
from typing import Any, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import (
    JOURNAL,
    PLAN,
    SEAL,
    TRIED_PLAN,
    RunDirectory,
    name_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    EXECUTE,
    REHEARSAL,
    RunContinued,
    RunFailed,
    RunOpened,
    SqlFrozen,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import FORMAT
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_lock import RunLock
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    PARTIAL,
    read_file,
    sha256_bytes,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    Gate,
    failed_gates,
    gate_stop,
    target_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity
from ansible_collections.incomex.phasegate.plugins.module_utils._report.rendering import REPORTS
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_run


def reopen_run(sealed: RunDirectory, root: str) -> RunDirectory:
    """Return an open copy of a sealed run, to continue it: the sealed bundle stays unchanged.

    Raises ``PhaseGateError`` when the bundle is not intact.
    """
    findings = verify_bundle(sealed.path)
    if findings:
        raise PhaseGateError(
            "The evidence of the run to continue is not intact.",
            expected=f"a sealed bundle in {sealed.path}",
            found="; ".join(findings),
            next_step="find out who changed it; finish the remaining statements by hand, or roll the phase back",
        )
    start = opening_of(sealed.journal.entries()) or RunOpened()
    artefacts = new_directory(root, f"{start.phase}_{start.environment}")
    for name in sealed.names():
        if name not in (*REPORTS, JOURNAL):
            os.makedirs(os.path.dirname(artefacts.file(name)), mode=0o750, exist_ok=True)
            shutil.copyfile(sealed.file(name), artefacts.file(name))
    # the journal last: a directory without one is not a run
    shutil.copyfile(sealed.file(JOURNAL), artefacts.file(JOURNAL + PARTIAL))
    os.replace(artefacts.file(JOURNAL + PARTIAL), artefacts.file(JOURNAL))
    RunContinued(name_of(sealed), sha256_file(sealed.file(SEAL)), artefacts.path).write(artefacts.journal)
    return artefacts


def opening_target_gate(kind: str, plan: Mapping[str, Any], declared: Mapping[str, Any], identity: Identity) -> Gate:
    """G-4 at the opening of a run."""
    # a rehearsal changes nothing here, a rollback was compared with its execution
    return target_gate(declared, identity, pinned="target" in plan or kind != EXECUTE)


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
    about: RunOpened,
    declared: Mapping[str, Any],
    files: Mapping[str, str],
    lock: RunLock | Gate | None = None,
) -> RunDirectory:
    """Make the directory with the plan, a journal, and the frozen SQL (C-05).

    Raises ``NotOpened`` when the target differs (G-4), another run holds it (G-7), or the SQL differs from the plan.
    ``files`` are the paths of the plan's ``ddl`` and ``rollback`` on this host.
    ``about`` is the opening without what follows from the rest. ``lock`` is what holds the run's lock, or the failed gate
    G-7, which ends the run as a wrong target does; None without either.
    """
    identity = Identity(**about.identity)
    stem = [plan["phase"]["phase"], about.environment] + ([] if about.kind == EXECUTE else [about.kind])
    artefacts = new_directory(root, "_".join(stem))
    artefacts.write(TRIED_PLAN if about.kind == REHEARSAL else PLAN, canonical_json(plan))
    replace(
        about,
        lock=lock.as_dict() if isinstance(lock, RunLock) else None,
        path=artefacts.path,
        phase=plan["phase"]["phase"],
        ddl_sha256=plan["ddl"]["sha256"],
        format=FORMAT,
    ).write(artefacts.journal)
    with seal_when_stopped(artefacts):
        gates = [
            opening_target_gate(about.kind, plan, declared, identity),
            *([lock] if isinstance(lock, Gate) else []),
        ]
        wrong = failed_gates(gates)
        if wrong:
            error = gate_stop(wrong)
            RunFailed(str(error), [gate.as_dict() for gate in gates]).write(artefacts.journal)
            raise error
        _freeze_sql(artefacts, plan, files)
    return artefacts


@contextlib.contextmanager
def seal_when_stopped(artefacts: RunDirectory) -> Iterator[None]:
    """Seal a run that is stopped while it is opened. Raises ``NotOpened`` then."""
    try:
        yield
    except PhaseGateError as error:
        seal_run(artefacts, str(error))
        raise NotOpened(error, artefacts) from error


def _freeze_sql(artefacts: RunDirectory, plan: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """C-05: copy the SQL to ``sql/<name>``. Raises ``PhaseGateError`` for bytes that the plan does not pin."""
    with Step(artefacts, SqlFrozen).running() as step:
        frozen: list[dict[str, Any]] = []
        step.update(files=frozen)
        for part, path in files.items():
            data = read_file(path)
            if data is None:
                raise PhaseGateError(
                    f"C-05: {plan[part]['file']} was not copied to the target.",
                    expected="the SQL of the plan beside its plan.json or phase.yml on the controller",
                    found=f"no {path}",
                    next_step="run the module by Ansible, whose action of the same name copies the files",
                )
            name, pinned, found = plan[part]["file"], plan[part]["sha256"], sha256_bytes(data)
            if found != pinned or os.path.basename(name) != name:
                raise PhaseGateError(
                    f"C-05: {name} differs from the pinned file.",
                    expected=f"SHA-256 {pinned}, and a name without a directory",
                    found=f"SHA-256 {found}",
                    next_step="find out who changed the file; a changed file is a new revision that needs its own review",
                )
            artefacts.write(f"sql/{name}", data)
            frozen.append({"name": f"sql/{name}", "sha256": found, "size": len(data)})


class NotOpened(PhaseGateError):
    """A gate or C-05 failed when the run was opened; ``artefacts`` is its sealed directory."""

    def __init__(self, error: PhaseGateError, artefacts: RunDirectory) -> None:
        self.artefacts = artefacts
        super().__init__(error.what, expected=error.expected, found=error.found, next_step=error.next_step)


def new_directory(root: str, stem: str) -> RunDirectory:
    """Make ``<root>/<stem>_<UTC stamp>`` and return it; a name that is taken gets a counter."""
    stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    base = os.path.join(root, f"{stem}_{stamp}")
    os.makedirs(root, mode=0o750, exist_ok=True)
    for suffix in ("", *(f".{number}" for number in range(2, 1000))):
        try:
            os.mkdir(base + suffix, 0o750)
        except FileExistsError:
            continue
        artefacts = RunDirectory(base + suffix)
        artefacts.create()
        return artefacts
    raise PhaseGateError(f"No free name for an artefact directory like {base}.")
