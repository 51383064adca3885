# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the journal of a run that is at work says since one looked last."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import utc_now
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import (
    INTERRUPTED,
    RUNNING,
    outcome_of,
    warnings_of,
)

_POLL_SECONDS = 0.3

# What is shown of an entry. The rest may be large, and is in the report.
_KEYS = (
    "outcome", "attempt", "found", "n", "line", "tag", "after_commit", "xid", "what", "mode", "holders", "unit", "done", "total",
)  # fmt: skip


def watch(root: str, name: str, after: int, seconds: float) -> dict[str, Any]:
    """Return the entries of a run's journal behind the ``after``-th, as soon as there is one, and how far the run is.

    ``name`` is the run's directory below ``root``; '' for the one that is at work, the newest of several. Returns after ``seconds`` at the
    latest, without entries when nothing was written, and without a run when none is at work. Raises ``PhaseGateError``, ``OSError``.
    """
    end = time.monotonic() + seconds
    while True:
        run = _named(root, name) if name else _at_work(root)
        entries = run.journal.entries() if run else []
        outcome = outcome_of(run, entries) if run else ""
        new = entries[after:]
        if new or outcome not in ("", RUNNING, INTERRUPTED) or time.monotonic() >= end:
            return {
                "run": os.path.basename(run.path) if run else "",
                "run_directory": run.path if run else "",
                "outcome": outcome,
                "remarks": list(warnings_of(run, entries)) if run else [],
                "report": run.file("report.md") if run and run.sealed else "",
                "entries": [_shown(one) for one in new],
                "now": utc_now(),
            }
        time.sleep(_POLL_SECONDS)


def _named(root: str, name: str) -> RunDirectory:
    run = RunDirectory(os.path.join(root, name))
    if os.path.basename(name) != name or not run.has_run:
        raise PhaseGateError(
            "There is no such run.",
            expected=f"the name of a run directory below {root}",
            found=name,
            next_step="list the runs with playbook status",
        )
    return run


def _at_work(root: str) -> RunDirectory | None:
    runs = (RunDirectory(os.path.join(root, name)) for name in (os.listdir(root) if os.path.isdir(root) else ()))
    working = [run for run in runs if run.has_run and not run.sealed and run.working]
    return max(working, key=lambda run: os.stat(run.journal.path).st_mtime, default=None)


def _shown(entry: Entry) -> dict[str, Any]:
    data = {key: entry.data[key] for key in _KEYS if key in entry.data}
    gates = entry.data.get("gates")
    if gates and isinstance(gates, list):
        known = [one for one in gates if isinstance(one, dict) and {"id", "status"} <= one.keys()]
        data["gates"] = [{"id": one["id"], "status": one["status"]} for one in known]
    return {"seq": entry.seq, "at": entry.at, "step": entry.step, "event": entry.event, "data": data}
