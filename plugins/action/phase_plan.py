# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turn a phase's files into a plan. An action plugin, because the files and the parser are on the controller."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase
from ansible_collections.incomex.phasegate.plugins.action.run_open import files_of_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    plan_file_error,
    resolved,
    sha256_bytes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import blank_error, blank_options
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import (
    HAS_JSONSCHEMA,
    Phase,
    load_phase,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import HAS_YAML
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.canonical_json import canonical_json
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import build_plan, pinned_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_repair import repair_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase, unwritten
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.plan_check import read_checked_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import HAS_PGLAST


def load_draft(path: str) -> Phase:
    """Return the phase with a definition that is up to date with its SQL, whatever phase.yml says. Raises ``PhaseFileError``."""
    repaired = repair_phase(path)
    if repaired.problems:
        raise PhaseFileError(repaired.problems)
    return load_phase(path, repaired.after.encode("utf-8"))


def load_finished(path: str) -> Phase:
    """Return the phase, of whose rollback a draft left nothing to a person. Raises ``PhaseFileError``."""
    phase = load_phase(path)
    left = unwritten(phase)
    if left:
        raise PhaseFileError(left)
    return phase


def plan_of(phase: Phase) -> Dict[str, Any]:
    """Return the plan of a loaded phase. Raises ``PhaseFileError``."""
    statements = analyse_phase(phase)
    return build_plan(
        phase.definition,
        pinned_file(phase.source.name, phase.source.data),
        {**pinned_file(phase.migrate.name, phase.migrate.data), "statements": statements.migrate},
        {**pinned_file(phase.rollback.name, phase.rollback.data), "statements": statements.rollback},
    )


def result_of(plan: Dict[str, Any], source: str) -> Dict[str, Any]:
    """Return the module's result."""
    definition = plan["phase"]
    return {
        "plan": plan,
        "plan_sha256": sha256_bytes(canonical_json(plan)),
        "source": source,
        "summary": {
            **{key: definition[key] for key in ("phase", "revision", "title")},
            "tags": definition["expect"]["tags"],
            "preflight": len(definition["preflight"]),
            "verify": len(definition["verify"]),
        },
    }


ARGUMENTS: Dict[str, Any] = {
    "path": {"type": "path"},
    "plan": {"type": "path"},
    "reviews": {"type": "list", "elements": "path", "default": []},
    "draft": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The action behind ``incomex.phasegate.phase_plan``."""

    _requires_connection = False
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan, or what is wrong with the files."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        for library, present in (("pglast", HAS_PGLAST), ("jsonschema", HAS_JSONSCHEMA), ("PyYAML", HAS_YAML)):
            if not present:
                raise AnsibleActionFail(missing_required_lib(library, reason="on the controller"))
        _validated, params = self.validate_argument_spec(
            ARGUMENTS,
            mutually_exclusive=[("path", "plan")],
            required_one_of=[("path", "plan")],
        )
        blank = blank_error(blank_options(ARGUMENTS, params))
        if blank:
            return {**result, "failed": True, "msg": str(blank)}
        try:
            source = resolved(params["plan"] or params["path"])
            load = load_draft if params["draft"] else load_finished
            plan = read_checked_plan(source).plan if params["plan"] else plan_of(load(source))
            found = result_of(plan, source)
            found["reviews"] = [resolved(path) for path in params["reviews"]]
            # refused here already, before anything is opened
            files_of_phase(found["source"], plan, found["reviews"])
        except PhaseFileError as error:
            problems = [problem.as_dict() for problem in error.problems]
            return {**result, "failed": True, "msg": str(error), "problems": problems}
        except OSError as error:
            return {**result, "failed": True, "msg": str(plan_file_error(error))}
        except PhaseGateError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, **found}
