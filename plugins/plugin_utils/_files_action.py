# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An action that copies files of the controller to the target before its module runs there."""

from __future__ import annotations

import os
from typing import Any, Mapping

from ansible.plugins.action import ActionBase
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    plan_file_error,
    read_found,
    resolved,
)


class FilesAction(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Copies what ``files_for`` names into a temporary directory on the target and gives it to the module as ``files``.

    The directory is removed when the module has ended. What the module does with the files is up to it: a copy proves
    nothing, so it compares every file with what the plan pins or the reviewers signed.
    """

    def files_for(self, args: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the paths on the controller by the file's name on the target. Raises ``PhaseGateError``, ``OSError``."""
        raise NotImplementedError  # each action of this kind names its own files

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Copy the files and run the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        args.pop("files", None)
        try:
            files = self.files_for(args)
            # read once: what is copied was a regular file beside the plan, and not what a link leads to
            contents = {name: read_found(path) for name, path in files.items()}
        except PhaseGateError as error:
            return {**result, "failed": True, "msg": str(error)}
        except OSError as error:
            return {**result, "failed": True, "msg": str(plan_file_error(error))}
        shell = self._connection._shell  # noqa: SLF001, as the actions of ansible-core do
        if contents:
            if shell.tmpdir is None:
                self._make_tmp_path()
            copies = {shell.join_path(shell.tmpdir, name): data for name, data in contents.items()}
            for copy, data in copies.items():
                self._transfer_data(copy, data)
            self._fixup_perms2((shell.tmpdir, *copies))
            args["files"] = shell.tmpdir
        try:
            result.update(self._execute_module(module_args=args, task_vars=task_vars))
        finally:
            self._remove_tmp_path(shell.tmpdir)
        return result


def named_once(paths: list[str]) -> dict[str, str]:
    """Return files by their own names. Raises ``PhaseGateError`` when two have the same."""
    found: dict[str, str] = {}
    for path in map(resolved, paths):
        name = os.path.basename(path)
        if name in found:
            raise PhaseGateError(
                f"Duplicate file name: {name}.",
                expected="files with different names",
                found=f"{found[name]}, {path}",
                next_step="give each file once",
            )
        found[name] = path
    return found
