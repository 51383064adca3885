# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Execute a phase as the role ``execute`` does, and rehearse and roll it back, without Ansible's start-up: for tests that execute hundreds of times.

A *conductor* stands for ansible-playbook: one process, and below it one process for each module, one after the other,
with the modules' own ``main``. So it can be killed where ansible-playbook and its modules can. What it does not have
are YAML, templates and connections; whole playbooks are killed beside it.

``Conductors`` keeps one process that has imported everything and forks a conductor on demand: a fork of the test's own
process would carry its threads' locks.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory
from ansible_collections.incomex.phasegate.tests.support.phase_files import ALPHA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ansible_collections.incomex.phasegate.tests.support.target import Target

ROOT = Path(__file__).resolve().parents[2]
MODULES = "ansible_collections.incomex.phasegate.plugins.modules"
PLANNER = "ansible_collections.incomex.phasegate.plugins.action.phase_plan"
LOCK_IDLE = 2
ORDER = ("run_open", "backup", "schema_snapshot", "checks", "migrate", "verify", "run_seal")


class ModuleError(Exception):
    """A module ended with ``failed``, or without any result; the text is what Ansible would show."""


# --- the conductor, in its own process -------------------------------------------------------------------------


def run_module(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run a module in a process of its own and return its result. Raises ``ModuleError``."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        _be_the_module(name, arguments)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    try:
        result: dict[str, Any] = json.loads(said)
    except ValueError:
        raise ModuleError(f"MODULE FAILURE: {name} gave no result") from None
    if result.get("failed"):
        raise ModuleError(result["msg"])
    return result


def _be_the_module(name: str, arguments: dict[str, Any]) -> NoReturn:
    from ansible.module_utils.testing import patch_module_args  # noqa: PLC0415 - in the conductor's process alone

    module = importlib.import_module(f"{MODULES}.{name}")
    with contextlib.suppress(BaseException), patch_module_args(arguments):
        module.main()
    sys.stdout.flush()
    os._exit(0)


def conduct(order: dict[str, Any]) -> dict[str, Any]:
    """Execute the phase as ``roles/execute`` does. ``order`` has ``connection``, ``phase``, ``root`` and ``identity``.

    ``migrate`` in it are further arguments of C-07, ``conditions`` what is done about those around the phase.

    With ``undo``, the directory of an execution, it is rolled back as ``roles/rollback`` does, with the signatures in the directory
    ``signatures``. With ``rehearsal``, the connection of another cluster, it is rehearsed as ``roles/rehearse`` does, and its plan,
    frozen below ``plans`` for ``valid_days``, is in the result. With ``plan`` that plan.json is executed.

    Returns ``applied`` (by an earlier run), ``msg`` (why it stopped, '' on success) and the last ``result``.
    """
    if "undo" in order:
        return _roll_back(order)
    if "rehearsal" in order:
        return _rehearse(order)
    connection, root, identity = order["connection"], order["root"], order["identity"]
    opened: dict[str, Any] = {}
    try:
        plan, told = _planned(order)
        phase = plan["phase"]
        place = {"root": root, "environment": "test", "identity": identity}
        # there is no Ansible between two modules here, so a run that does nothing for this long is dead
        told["lock_idle"] = LOCK_IDLE
        told["conditions"] = order.get("conditions", {})
        opened = run_module("run_open", {**connection, **place, "inventory_name": "target", **told})
        directory = {"run_directory": opened["run_directory"]}
        data = {"measure": phase["measure"], "row_counts": phase["row_counts"]}
        frozen = {
            "ddl_file": f"{opened['run_directory']}/sql/{plan['ddl']['file']}",
            "ddl_sha256": plan["ddl"]["sha256"],
        }
        about = {**connection, **frozen, "identity": identity, "search_path": phase["settings"]["search_path"]}
        after = {"checks": phase["verify"], "non_scope": phase["non_scope"]}
        if not opened["applied"]:
            run_module("backup", {**connection, **directory, "background": True})
            run_module("schema_snapshot", {**connection, **directory, "label": "before", **data})
            run_module("checks", {**about, **directory, "stage": "preflight", "checks": phase["preflight"]})
            judged = {"identity": identity, "plan": plan, "verify": True, **order.get("migrate", {})}
            run_module("migrate", {**connection, **directory, **judged})
        elif opened["sealed"]:
            diff = f"{opened['run_directory']}/schema/diff.json"
            run_module("checks", {**about, **after, "stage": "verify", "diff_file": diff})
        else:
            run_module("verify", {**about, **directory, **after, **data, "diff": phase["diff"]})
        sealed = run_module("run_seal", directory)
    except ModuleError as failure:
        return _rescue(order, opened, str(failure))
    return {"applied": opened["applied"], "msg": "", "result": sealed}


def _planned(order: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plan, and what the module that opens a run is told of it."""
    # in the controller's own process, as the action plugin does
    planner = importlib.import_module(PLANNER)
    source = order.get("plan") or order["phase"]
    try:
        plan = (
            planner.read_checked_plan(source).plan if "plan" in order else planner.plan_of(planner.load_phase(source))
        )
    except planner.PhaseGateError as error:
        raise ModuleError(str(error)) from None
    told = {key: value for key, value in planner.result_of(plan, source).items() if key != "summary"}
    # the action copies the SQL and the approvals to the target; here they are there already
    told["files"] = str(Path(source).parent)
    return plan, told


def _rehearse(order: dict[str, Any]) -> dict[str, Any]:
    connection = order["connection"]
    place = {"root": order["root"], "environment": "test", "inventory_name": "target"}
    opened: dict[str, Any] = {}
    try:
        plan, told = _planned(order)
        opened = run_module(
            "run_open", {**connection, **place, "kind": "rehearsal", "identity": order["identity"], **told}
        )
        directory, phase = {"run_directory": opened["run_directory"]}, plan["phase"]
        run_module("rehearse", {**order["rehearsal"], **directory, "state": "ready"})
        data = {"measure": phase["measure"], "row_counts": phase["row_counts"]}
        run_module("schema_snapshot", {**connection, **directory, "label": "before", **data})
        run_module("backup", {**connection, **directory, "contents": True})
        proved = run_module("rehearse", {**order["rehearsal"], **directory, "plan": plan})
        sealed = run_module("run_seal", directory)
        about = {key: place[key] for key in ("environment", "inventory_name")}
        frozen = run_module(
            "plan_freeze",
            {
                **about,
                "directory": f"{order['plans']}/{Path(opened['run_directory']).name}",
                "plan": plan,
                "source": told["source"],
                "rehearsal": proved["rehearsal"],
                "seal": sealed["seal"],
                "target": opened["identity"],
                "author": "huyen",
                "valid_days": order["valid_days"],
            },
        )
    except ModuleError as failure:
        return _rescue(order, {**opened, "sealed": False, "applied": False} if opened else {}, str(failure))
    return {"applied": False, "msg": "", "result": {**sealed, "plan": frozen["path"]}}


def _roll_back(order: dict[str, Any]) -> dict[str, Any]:
    connection, undo = order["connection"], order["undo"]
    request = {
        "execution": undo,
        "confirm": Path(undo).name,
        "accept_loss_at_most": order["accept_loss_at_most"],
    }
    if "signatures" in order:
        # the action copies them to the target; here they are there already
        given = sorted(str(one) for one in Path(order["signatures"]).iterdir())
        request |= {"signatures": given, "files": order["signatures"]}
    place = {"root": order["root"], "environment": "test", "identity": order["identity"]}
    opened: dict[str, Any] = {}
    try:
        told = {"lock_idle": LOCK_IDLE, "conditions": order.get("conditions", {}), "inventory_name": "target"}
        opened = run_module("run_open", {**connection, **place, **request, **told})
        directory, phase = {"run_directory": opened["run_directory"]}, opened["plan"]["phase"]
        run_module("backup", {**connection, **directory})
        data = {"measure": phase["measure"], "row_counts": phase["row_counts"]}
        run_module("schema_snapshot", {**connection, **directory, "label": "before", **data})
        run_module("rollback", {**connection, **directory, **request, "identity": order["identity"]})
        sealed = run_module("run_seal", directory)
    except ModuleError as failure:
        return _rescue(order, {**opened, "sealed": False, "applied": False} if opened else {}, str(failure))
    return {"applied": False, "msg": "", "result": sealed}


def _rescue(order: dict[str, Any], opened: dict[str, Any], reason: str) -> dict[str, Any]:
    where = {"run_directory": opened["run_directory"]} if opened and not opened["sealed"] else {}
    about = {"root": order["root"], "environment": "test", "phase": "alpha", "reason": reason}
    if "undo" in order:
        about |= {"kind": "rollback", "execution": order["undo"]}
    if "rehearsal" in order:
        about |= {"kind": "rehearsal"}
    try:
        run_module("run_seal", {**where, **about})
    except ModuleError as failure:
        told = str(failure)
    else:
        told = ""
    return {"applied": bool(opened and opened["applied"]), "msg": reason, "told": told}


# --- the process that forks conductors -------------------------------------------------------------------------


def serve() -> None:
    """Fork a conductor for each line of standard input, and answer with its process id."""
    for name in (PLANNER, *(f"{MODULES}.{module}" for module in (*ORDER, "rollback", "rehearse", "plan_freeze"))):
        importlib.import_module(name)
    # nobody waits for a conductor here: the test watches it by its process id
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _be_the_conductor(json.loads(line))
        print(child, flush=True)


def _be_the_conductor(order: dict[str, Any]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    try:
        answer = conduct(order)
    except BaseException:  # noqa: BLE001 - told to the test
        answer = {"applied": False, "msg": "the conductor itself failed", "told": traceback.format_exc()}
    file = Path(order["answer"])
    file.with_suffix(".partial").write_text(json.dumps(answer), encoding="utf-8")
    file.with_suffix(".partial").rename(file)
    os._exit(0)


# --- in the test -----------------------------------------------------------------------------------------------


def kill(pid: int) -> None:
    """Kill a process with SIGKILL; one that has ended is left in peace."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the process ids of the children of a process, oldest first."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
    return found


def descendants(pid: int) -> list[int]:
    """Return the process ids of everything below a process."""
    below = children(pid)
    return below + [one for child in below for one in descendants(child)]


def gone(pid: int, seconds: float) -> bool:
    """Wait until a process has ended; tell whether it did in time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Conductor:
    """A running or ended conductor."""

    pid: int
    file: Path

    def wait(self, seconds: float = 120.0) -> dict[str, Any] | None:
        """Return what it told at its end; None when it was killed before."""
        assert gone(self.pid, seconds), f"the conductor {self.pid} still runs after {seconds:.0f} s"
        if not self.file.exists():
            return None
        answer: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return answer

    @property
    def module(self) -> int | None:
        """The process of the module that runs now."""
        below = children(self.pid)
        return below[0] if below else None

    @property
    def client(self) -> int | None:
        """The process of PostgreSQL's client program that the module runs now."""
        below = children(self.module) if self.module else []
        return below[-1] if below else None


class Conductors:
    """Starts conductors."""

    def __init__(self, prefix: Sequence[str], variables: Mapping[str, str]) -> None:
        self._serial = 0
        self._server = subprocess.Popen(
            [*prefix, sys.executable, "-c", f"from {__name__} import serve; serve()"],
            env={**os.environ, **variables, "PYTHONPATH": str(ROOT / ".collections")},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._say() == "ready"

    def _say(self) -> str:
        assert self._server.stdout
        return self._server.stdout.readline().strip()

    def execute(self, target: Target, **order: Any) -> Conductor:
        """Start an execution of Phase Alpha on a target; ``order`` replaces what ``conduct`` wants."""
        connection = {
            "bindir": str(bin_directory()),
            "host": str(target.cluster.socket_directory),
            "database": target.database,
            "user": SUPERUSER,
        }
        identity = {"database": target.database, "user": SUPERUSER}
        return self.start(
            target.directory,
            **{"connection": connection, "phase": str(ALPHA), "root": str(target.root), "identity": identity, **order},
        )

    def start(self, directory: Path, **order: Any) -> Conductor:
        """Start one; ``order`` as ``conduct`` wants it."""
        self._serial += 1
        file = directory / f"answer{self._serial}.json"
        assert self._server.stdin
        self._server.stdin.write(json.dumps({**order, "answer": str(file)}) + "\n")
        self._server.stdin.flush()
        return Conductor(int(self._say()), file)

    def close(self) -> None:
        """End the process that forks."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


@contextlib.contextmanager
def conducting(prefix: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> Iterator[Conductors]:
    """Yield a source of conductors; ``prefix`` are words before Python's, ``variables`` more of the environment."""
    conductors = Conductors(prefix, variables or {})
    try:
        yield conductors
    finally:
        conductors.close()
