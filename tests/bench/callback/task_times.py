# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write how long each task took, for the profile of a run."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: aggregate
short_description: Write how long each task took
description: Writes one JSON line a task to the file that PHASEGATE_TASK_TIMES names.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """One line a task: its ``name``, and ``seconds`` until the next one began."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"

    def __init__(self) -> None:
        super().__init__()
        self._running: tuple[str, float] | None = None

    def _next(self, name: str | None) -> None:
        now = time.monotonic()
        if self._running:
            line = json.dumps({"name": self._running[0], "seconds": now - self._running[1]})
            with Path(os.environ["PHASEGATE_TASK_TIMES"]).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        self._running = (name, now) if name else None

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """End the task before, and begin this one."""
        del is_conditional
        self._next(task.get_name())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """End the last task."""
        del stats
        self._next(None)
