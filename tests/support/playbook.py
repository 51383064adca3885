# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a playbook of this checkout with ansible-runner and read its job events."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible_runner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS = 180
ENDS = ("runner_on_ok", "runner_on_failed", "runner_on_skipped", "runner_on_unreachable")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_serial = itertools.count(1)


@dataclass(frozen=True)
class TaskResult:
    """What one task gave on one host. ``status`` is ok, failed, skipped or unreachable; ``res`` the module's result."""

    host: str
    task: str
    status: str
    changed: bool
    ignored: bool
    res: Mapping[str, Any]


@dataclass(frozen=True)
class Play:
    """An ended run of ansible-playbook: its exit code, its job events in order, and what it printed."""

    rc: int
    events: Sequence[Mapping[str, Any]]
    stdout: str

    @property
    def results(self) -> list[TaskResult]:
        """Every task that ended on a host, in order; the checks of a role's arguments only when they failed."""
        everything = [
            TaskResult(
                host=event["event_data"]["host"],
                task=event["event_data"]["task"],
                status=event["event"].rpartition("_")[2],
                changed=bool(event["event_data"].get("res", {}).get("changed", False)),
                ignored=bool(event["event_data"].get("ignore_errors", False)),
                res=event["event_data"].get("res", {}),
            )
            for event in self.events
            if event["event"] in ENDS
        ]
        return [one for one in everything if one.status == "failed" or "Validating arguments against" not in one.task]

    def of(self, task: str, host: str | None = None) -> TaskResult:
        """Return the only result of a task, by a part of its name (of one host, where there are several)."""
        found = [r for r in self.results if task in r.task and host in (None, r.host) and r.status != "skipped"]
        assert len(found) == 1, f"{len(found)} results of a task like {task!r}:\n{self.stdout}"
        return found[0]

    def reached(self, task: str) -> bool:
        """Tell whether a task with this in its name ended on a host other than by being skipped."""
        return any(task in result.task and result.status != "skipped" for result in self.results)

    @property
    def failures(self) -> list[TaskResult]:
        """The results of tasks that failed."""
        return [result for result in self.results if result.status in ("failed", "unreachable")]

    @property
    def messages(self) -> str:
        """What the failed tasks told the operator."""
        return "\n".join(str(failure.res.get("msg", "")) for failure in self.failures)

    def stats(self, key: str) -> dict[str, int]:
        """Return one of the play recap's figures (``changed``, ``failures``, ``rescued`` ...) by host."""
        recap = [event for event in self.events if event["event"] == "playbook_on_stats"]
        assert len(recap) == 1, self.stdout
        figures: dict[str, int] = recap[0]["event_data"][key]
        return figures


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return what ansible-playbook needs to know of this checkout and this interpreter, and ``extra``."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
        **extra,
    }


def play(
    directory: Path,
    playbook: str,
    *,
    inventory: Path | None = None,
    limit: str | None = None,
    extra_vars: Mapping[str, Any] | None = None,
    arguments: str = "",
    variables: Mapping[str, str] | None = None,
    verbosity: int | None = None,
) -> Play:
    """Run a playbook, by path in the checkout or by its full name, from the root of the checkout.

    :param directory: gets a directory of ansible-runner's for this run.
    :param inventory: a file; by default what ansible.cfg names.
    :param extra_vars: given by a file, so that large values do not meet the limits of an argument list.
    :param arguments: further words of ansible-playbook's command line.
    :param variables: further environment variables.
    """
    private = directory / f"runner{next(_serial)}"
    private.mkdir(parents=True)
    if extra_vars:
        file = private / "extra_vars.json"
        file.write_text(json.dumps(extra_vars), encoding="utf-8")
        arguments = f"{arguments} -e @{file}"
    ended = ansible_runner.run(
        private_data_dir=str(private),
        project_dir=str(ROOT),
        playbook=playbook,
        inventory=None if inventory is None else str(inventory),
        limit=limit,
        cmdline=arguments.strip() or None,
        envvars=environment(variables or {}),
        verbosity=verbosity,
        settings={"job_timeout": TIMEOUT_SECONDS, "suppress_ansible_output": True},
        quiet=True,
    )
    return Play(ended.rc, list(ended.events), _COLOUR.sub("", Path(ended.stdout.name).read_text(encoding="utf-8")))


def write_inventory(file: Path, hosts: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write an inventory of hosts that are this machine, each with its variables, and return its path."""
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    content = {"all": {"hosts": {name: {**common, **variables} for name, variables in hosts.items()}}}
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")  # JSON is YAML
    return file


def names(results: Iterable[TaskResult]) -> list[str]:
    """Return the tasks' names without the role that they stand in."""
    return [result.task.rpartition(" : ")[2] for result in results]
