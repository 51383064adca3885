# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a phase's SQL, its approvals and reviews to the target, where module run_open opens the run."""

from __future__ import annotations

import os
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_files import approval_files
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import review_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    resolved,
)
from ansible_collections.incomex.phasegate.plugins.plugin_utils._files_action import FilesAction, named_once
from ansible_collections.incomex.phasegate.plugins.plugin_utils._journal_follower import name_of_task


def files_of_phase(source: str, plan: Mapping[str, Any], reviews: list[str]) -> dict[str, str]:
    """Return the files that a run is opened with, by name: SQL, approvals of the plan, reviews of the required phases.

    ``source`` is the path of phase.yml or plan.json on the controller, whose SQL is beside it. Raises ``PhaseGateError``,
    ``OSError``.
    """
    source = resolved(source)
    directory, name = os.path.split(source)
    found = {plan[part]["file"]: os.path.join(directory, plan[part]["file"]) for part in ("ddl", "rollback")}
    if name != plan["definition"]["file"]:
        # on the target the plan is called plan.json
        approvals = approval_files(source)
        found.update({"plan.json" + one[len(name) :]: os.path.join(directory, one) for one in approvals})
    for review in map(resolved, reviews):
        require_review(review)
        found.update({name: os.path.join(os.path.dirname(review), name) for name in approval_files(review)})
    return found


def require_review(path: str) -> None:
    """Raise ``PhaseGateError`` unless a path has the name of a review."""
    bundle = os.path.basename(path)[: -len(review_file(""))]
    if review_file(bundle) != os.path.basename(path):
        raise PhaseGateError(
            "Invalid file name of a review.",
            expected=review_file("<name of the run directory>"),
            found=path,
            next_step="give the file that approve.yml with phasegate_bundle wrote, with the signatures beside it",
        )


class ActionModule(FilesAction):
    """The action behind ``incomex.phasegate.run_open`` and ``incomex.phasegate.run_prepare``."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Open the run with the name of this task, by which the callback recognises it."""
        self._task.args["task"] = name_of_task(self._task, str((task_vars or {}).get("inventory_hostname", "")))
        return super().run(tmp, task_vars)

    def files_for(self, args: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the files of the phase; for a rollback, whose SQL is in the bundle, the reviewers' signatures."""
        if not args.get("plan"):
            return named_once(list(args.get("signatures") or []))
        if not args.get("source"):
            raise PhaseGateError(
                "The source of the plan is missing.",
                expected="source: the path of phase.yml or plan.json on the controller",
                found="plan without source",
                next_step="give plan, plan_sha256 and source as one result of phase_plan",
            )
        return files_of_phase(args["source"], args["plan"], args.get("reviews") or [])
