# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Show a run while it is at work. An action plugin, because a module shows nothing before it has ended."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import INTERRUPTED, RUNNING
from ansible_collections.incomex.phasegate.plugins.plugin_utils._board_lines import Shown
from ansible_collections.incomex.phasegate.plugins.plugin_utils._journal_follower import RunView

# Between two tasks of a play no step is at work.
_IDLE_SECONDS = 60.0


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module again and again, each time for what the journal has since."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show what the module returns until the run has ended."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        view = RunView(str((task_vars or {}).get("inventory_hostname", "")))
        last = time.monotonic()
        while True:
            told: dict[str, Any] = self._execute_module(module_args=args, task_vars=task_vars)
            entries = told.pop("entries", [])
            if told.get("failed") or not told["run"]:
                told.pop("now", None)
                return {**result, **told}
            if args.get("run") != told["run"]:
                self._show(Shown("message", view.host, told["run"]))
            now, clock = time.monotonic(), datetime.fromisoformat(told.pop("now"))
            for entry in entries:
                age = (clock - datetime.fromisoformat(entry["at"])).total_seconds()
                for shown in view.show(entry, now - age):
                    self._show(shown)
            for shown in view.signs(now) if told["outcome"] == RUNNING else ():
                self._show(shown)
            if entries or told["outcome"] == RUNNING:
                last = now
            if told["outcome"] not in (RUNNING, INTERRUPTED) or now - last > _IDLE_SECONDS:
                return {**result, **told}
            args.update(run=told["run"], after=entries[-1]["seq"] if entries else args.get("after", 0))
            time.sleep(0 if entries or told["outcome"] == RUNNING else 1)

    def _show(self, shown: Shown) -> None:
        self._display.display(shown.as_text())
