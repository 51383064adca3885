# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operator's view of a run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: board
type: stdout
author: incomex.phasegate contributors (@incomex)
short_description: An operator's view of a run
version_added: 0.1.0
description:
  - Shows one line for each command of a run (C-01 to C-09, R-0 to R-5) with its seconds, the gates as they are evaluated, the reason of a
    failure once, and what a play shows at its end with the next commands. Other tasks that succeed, and skipped ones, are not shown.
  - Ansible shows nothing of a module before it has ended. When the connection is V(local) and the user of this process may read the run
    directory, this callback follows its journal meanwhile. Then each command and gate is shown when it is recorded, a command that takes
    long every 30 seconds, a backup with the size that it has so far, and a lock that was not granted in time with the sessions that hold it.
  - On a remote target, or with C(become) to another user, only results are shown, so that commands of one module are one line.
  - The journal is shown as it is. Only an audit checks its chain.
  - The output is lines of text. Nothing moves the cursor. Only a terminal gets colours, as for every output of Ansible.
    Characters that steer a terminal are escaped.
  - To read a task that fails for another reason in full, use the default callback.
options:
  format:
    description: V(text) for people; V(json) for one JSON object a line, which other programs can read. What Ansible itself writes stays text.
    type: str
    choices: [text, json]
    default: text
    env:
      - name: PHASEGATE_BOARD_FORMAT
    ini:
      - section: callback_phasegate_board
        key: format
requirements:
  - set as C(stdout_callback) in the configuration
"""

import contextlib
import re
import sys
import time
from typing import Any, Mapping

from ansible import constants as C  # noqa: N812, as all of ansible-core calls it
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar
from ansible_collections.incomex.phasegate.plugins.plugin_utils import _board_lines as board
from ansible_collections.incomex.phasegate.plugins.plugin_utils._board_lines import Shown, closing
from ansible_collections.incomex.phasegate.plugins.plugin_utils._journal_follower import (
    Follower,
    gates_shown,
    name_of_task,
)

_COLLECTION = "incomex.phasegate."
_OPENING = (f"{_COLLECTION}run_open", f"{_COLLECTION}run_prepare")
_SEALING = f"{_COLLECTION}run_seal"
_DEBUG = ("debug", "ansible.builtin.debug", "ansible.legacy.debug")
_LOCAL = ("local", "ansible.builtin.local")
# A task that is a command, or several: "C-01 ... C-06 | Open a run, start the backup, snapshot and check"
_COMMAND = re.compile(r"([CR]-\d[^|]*?) \| (.*)")
_COLOURS = {
    "FAILED": C.COLOR_ERROR,
    "FAIL": C.COLOR_ERROR,
    "UNREACHABLE": C.COLOR_UNREACHABLE,
    "WARNING": C.COLOR_WARN,
    "WAITING": C.COLOR_WARN,
    "NOT ENFORCED": C.COLOR_WARN,
}


def _action(task: Any) -> str:
    return str(getattr(task, "resolved_action", None) or task.action)


def _reason(result: Mapping[str, Any]) -> list[str]:
    """Return why a task failed, as lines; of a loop, why its items did."""
    items = [one for one in result.get("results") or () if isinstance(one, Mapping) and one.get("failed")]
    if items:
        return [line for one in items for line in _reason(one)]
    told = [str(result.get(key) or "") for key in ("msg", "stderr", "module_stderr", "censored")]
    return [line for text in told for line in text.rstrip().split("\n") if text] or ["the task gave no reason"]


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    """The callback ``incomex.phasegate.board``."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "incomex.phasegate.board"

    def __init__(self) -> None:
        super().__init__()
        # and not get_option: ansible-runner, and so AWX, makes a subclass with options of its own
        self._format = C.config.get_config_value("format", plugin_type="callback", plugin_name=__name__)
        self._play: Any = None
        self._followers: dict[str, Follower] = {}
        self._begun: dict[str, float] = {}
        self._sealed: dict[str, Mapping[str, Any]] = {}
        self._warned: set[str] = set()

    def _show(self, shown: Shown) -> None:
        """Print one thing; also called by the threads that follow journals."""
        line = shown.as_json() if self._format == board.JSON else shown.as_text()
        self._display.display(line, color=_COLOURS.get(shown.state))
        # a pipe would keep what is shown until the module has ended; when its reader has gone, the run goes on
        with self._display._lock, contextlib.suppress(BrokenPipeError):  # noqa: SLF001, as forks use it
            sys.stdout.flush()

    # -- plays --------------------------------------------------------------------------------------------------------

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Show that a play begins."""
        self._play = play
        self._show(Shown("play", name=play.get_name().strip(), text="check mode" if play.check_mode else ""))

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Show that a play has no hosts."""
        self._show(Shown("failure", state=board.WARNING, text="no host matched the play"))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Show how each host ended."""
        for follower in self._followers.values():
            follower.end()
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        ended = {host: "failed" if one["failures"] or one["unreachable"] else "ok" for host, one in hosts.items()}
        words = [" ".join(one) for one in ended.items()]
        self._show(Shown("ended", text=", ".join(words) or "no host", more={"hosts": ended}))

    # -- a task begins ------------------------------------------------------------------------------------------------

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Follow the journal of a module of this collection that begins on a host, where it can be read."""
        name, action = host.get_name(), _action(task)
        self._begun[name] = time.monotonic()
        if not action.startswith(_COLLECTION) or task.delegate_to:
            return
        follower = self._followers.setdefault(name, Follower(name, self._show, self._display._lock))  # noqa: SLF001, as forks use it
        follower.shown = set()
        opens = action in _OPENING
        if not opens and not follower.view.path:
            return
        try:
            local, root = self._place(host, task)
        except AnsibleError:
            return  # the task fails with the same error, and shows it
        if opens and root:
            follower.expect(root, name_of_task(task, name))
        if local:
            follower.begin()

    def _place(self, host: Any, task: Any) -> tuple[bool, str]:
        """Return whether a task runs on this machine, and its option ``root``. Raises ``AnsibleError``."""
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, task=task)
        templar = Templar(loader=self._play.get_loader(), variables=variables)
        connection = templar.template(variables.get("ansible_connection", task.connection))
        local = connection in _LOCAL
        root = templar.template(task.args.get("root", "")) if local else ""
        return local, root if isinstance(root, str) else ""

    # -- a task ends --------------------------------------------------------------------------------------------------

    def v2_runner_on_ok(self, result: Any) -> None:
        """Show what a task that did not fail tells; it may have returned a failure as data."""
        host, told = self._ended(result)
        if _action(result.task) in _DEBUG:
            self._message(host, result.task, told)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Show why a task failed."""
        host, told = self._ended(result)
        lines, more = closing(self._sealed.pop(host, {}))
        state = board.WARNING if ignore_errors else board.FAILED
        self._show(
            Shown(
                "failure",
                host,
                result.task.name or _action(result.task),
                state,
                lines=[*_reason(told), *lines],
                more=more,
            )
        )

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Show that a host could not be reached."""
        host = self._stop(result)
        self._show(
            Shown(
                "failure", host, result.task.name or _action(result.task), "UNREACHABLE", lines=_reason(result.result)
            )
        )

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Show nothing of a skipped task."""
        self._stop(result)

    def _stop(self, result: Any) -> str:
        """Show what the journal has by now; return the host."""
        host: str = result.host.get_name()
        if host in self._followers:
            self._followers[host].end()
        return host

    def _ended(self, result: Any) -> tuple[str, Mapping[str, Any]]:
        """Show what a module's result tells beyond its journal; return the host and the result."""
        host, task, told = self._stop(result), result.task, result.result
        follower = self._followers.get(host)
        for warning in map(str, told.get("warnings") or ()):
            if warning not in self._warned:
                self._warned.add(warning)
                self._show(Shown("warning", host, state=board.WARNING, text=warning))
        action = _action(task)
        if not follower or not action.startswith(_COLLECTION) or task.delegate_to:
            return host, told
        if action in _OPENING:
            follower.know(str(told.get("run_directory") or ""))
        sealed = told if action == _SEALING else told.get("sealed")
        if isinstance(sealed, Mapping) and sealed.get("seal"):
            self._sealed[host] = sealed
        gates = told.get("gates")
        for one in gates_shown(host, gates if isinstance(gates, list) else (), follower.view.gates):
            self._show(one)
        command = _COMMAND.match(task.name or "")
        if command and not follower.shown:
            # a module of this collection returns `msg` only when it fails
            failed = result.is_failed() or told.get("msg")
            state = board.FAILED if failed else board.CHECKED if task.check_mode else board.DONE
            self._show(Shown("command", host, command[1], state, time.monotonic() - self._begun[host], command[2]))
        return host, told

    def _message(self, host: str, task: Any, told: Mapping[str, Any]) -> None:
        """Show what a play says; the end of a run with what can be done next."""
        message = told.get("msg", "")
        lines = [str(line) for line in message] if isinstance(message, list) else str(message).split("\n")
        after, more = closing(self._sealed.pop(host, {}))
        self._show(Shown("message", host, task.name or _action(task), lines=[*lines, *after], more=more))
