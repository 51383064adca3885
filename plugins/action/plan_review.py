# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the review package of a plan. An action plugin, because the plan and the linter are on the controller."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Mapping

from ansible.errors import AnsibleActionFail
from ansible.module_utils.basic import missing_required_lib
from ansible.plugins.action import ActionBase
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    plan_file_error,
    read_file,
    replace_file,
    resolved,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import blank_error, blank_options
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_reader import HAS_JSONSCHEMA
from ansible_collections.incomex.phasegate.plugins.module_utils._review.files import (
    HTML,
    MARKDOWN,
    lint,
    package_files,
    shown,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.plan_check import read_checked_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import HAS_PGLAST


def package(path: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of the package by their paths, and the module's result. Raises ``PhaseGateError``, ``OSError``."""
    checked = read_checked_plan(path)
    found = lint(checked)
    paths = {name: os.path.join(os.path.dirname(path), name) for name in (MARKDOWN, HTML)}
    files = {paths[name]: data for name, data in package_files(checked, shown(path), found).items()}
    return files, {
        "plan_sha256": checked.sha256,
        "markdown": paths[MARKDOWN],
        "html": paths[HTML],
        "linted": found[0] is not None,
        "findings": [dataclasses.asdict(finding) for finding in found[0] or []],
    }


def write(files: dict[str, bytes], *, check_mode: bool) -> bool:
    """Write what differs and return whether anything does. Raises ``OSError``."""
    differing = {path: data for path, data in files.items() if read_file(path) != data}
    for path, data in differing.items() if not check_mode else ():
        replace_file(path, data)
    return bool(differing)


ARGUMENTS = {"plan": {"type": "path", "required": True}}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The action behind ``incomex.phasegate.plan_review``."""

    _requires_connection = False
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return where the package is, or what is wrong with the plan."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        for library, present in (("pglast", HAS_PGLAST), ("jsonschema", HAS_JSONSCHEMA)):
            if not present:
                raise AnsibleActionFail(missing_required_lib(library, reason="on the controller"))
        _validated, params = self.validate_argument_spec(ARGUMENTS)
        error = blank_error(blank_options(ARGUMENTS, params))
        if error:
            return {**result, "failed": True, "msg": str(error)}
        try:
            files, about = package(resolved(params["plan"]))
            changed = write(files, check_mode=self._task.check_mode)
        except PhaseGateError as error:
            return {**result, "failed": True, "msg": str(error)}
        except OSError as error:
            return {**result, "failed": True, "msg": str(plan_file_error(error))}
        return {**result, "changed": changed, **about}
