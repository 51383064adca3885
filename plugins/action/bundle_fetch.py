# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the files of a run to the controller and verify them there. The target's answers are checked like any other input."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from typing import Any, Mapping

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import utc_now
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import file_error, resolved
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped

_DIRECTORY_MODE, _FILE_MODE = 0o750, 0o600


class _FailedOnTarget(Exception):
    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """The action behind ``incomex.phasegate.bundle_fetch``."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Copy, verify, and give the copy its name."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        try:
            result.update(self._fetch(str(self._vars.get("inventory_hostname", ""))))
        except _FailedOnTarget as failed:
            result.update(failed.result)
        except PhaseGateError as error:
            result.update(failed=True, msg=str(error))
        except OSError as error:
            result.update(failed=True, msg=str(file_error(error)))
        return result

    def _ask(self, **more: Any) -> dict[str, Any]:
        args = {key: value for key, value in self._task.args.items() if key not in ("file", "offset")}
        told: dict[str, Any] = self._execute_module(module_args={**args, **more}, task_vars=self._vars)
        if told.get("failed"):
            raise _FailedOnTarget(told)
        return told

    def _fetch(self, host: str) -> dict[str, Any]:
        told = self._ask()
        name, whole = _plain(told["run"]), boolean(self._task.args.get("whole", False))
        place = os.path.join(resolved(str(self._task.args["directory"])), _plain(host))
        path = os.path.join(place, name if whole else f"{name}.report")
        known = {"run": name, "run_directory": told["run_directory"], "path": path, "left": told["left"], "seal": ""}
        if self._task.check_mode:
            there = os.path.lexists(path)
            line = f"{escaped(name)}: {'is there already' if there else 'would be copied'}: {path}"
            return {**known, "changed": not there, "lines": [line]}
        os.makedirs(place, mode=_DIRECTORY_MODE, exist_ok=True)
        work = tempfile.mkdtemp(prefix=".fetch-", dir=place)
        try:
            copy = os.path.join(work, name)
            self._copy(told, copy, host)
            seal, lines = _verified(copy, whole)
            if os.path.lexists(path):
                _require_same(copy, path)
                changed = False
            else:
                if os.path.lexists(copy + audit.PRUNED):
                    os.rename(copy + audit.PRUNED, path + audit.PRUNED)
                os.rename(copy, path)
                changed = True
        finally:
            shutil.rmtree(work)
        word = "copied to" if changed else "is there already, as on the host:"
        left = [f"{told['left']} is left on the host"] if told["left"] else []
        return {**known, "seal": seal, "changed": changed, "lines": [f"{escaped(name)} {word} {path}", *left, *lines]}

    def _copy(self, told: Mapping[str, Any], copy: str, host: str) -> None:
        os.mkdir(copy, _DIRECTORY_MODE)
        for name in told["directories"]:
            os.makedirs(_below(copy, name), mode=_DIRECTORY_MODE, exist_ok=True)
        for one in told["files"]:
            name = str(one["name"])
            data = told["contents"].get(name)
            with _new(_below(copy, name)) as stream:
                if data is not None:
                    stream.write(base64.b64decode(data))
                    continue
                size = 0
                while size < int(one["size"]):
                    piece = base64.b64decode(self._ask(run=told["run"], file=name, offset=size)["piece"])
                    if not piece:
                        break  # the digest shows that it is not whole
                    size += stream.write(piece)
        record = base64.b64decode(told["pruned"])
        if told["left"]:
            with open(os.path.join(copy, audit.SEAL), "rb") as sums:
                seal = audit.sha256(sums.read())
            why = f"not fetched: it is left on {host}, in {told['run_directory']}"
            about = {
                "bundle": told["run"],
                "file": told["left"],
                "seal": seal,
                "at": utc_now(),
                "why": why,
                "left": True,
            }
            record = json.dumps(about, indent=2).encode() + b"\n"
        if record:
            with _new(copy + audit.PRUNED) as stream:
                stream.write(record)


def _plain(name: Any) -> str:
    """Return a name that is no path. Raises ``PhaseGateError``."""
    if not isinstance(name, str) or os.path.basename(name) != name or name.startswith(".") or not name or "\0" in name:
        raise _odd(name)
    return name


def _below(directory: str, name: Any) -> str:
    """Return the path of a name below a directory. Raises ``PhaseGateError`` for one that leads elsewhere."""
    if not isinstance(name, str) or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise _odd(name)
    return os.path.join(directory, *name.split("/"))


def _odd(name: Any) -> PhaseGateError:
    return PhaseGateError(
        "The target names a file that cannot be copied.",
        expected="a name below the bundle",
        found=escaped(str(name)),
        next_step="audit the bundle on its host, and find out who changed it",
    )


def _new(path: str) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _FILE_MODE), "wb")


def _verified(copy: str, whole: bool) -> tuple[str, list[str]]:
    """Return the seal of a copy and what the auditor says of it. Raises ``PhaseGateError`` when it does not verify."""
    if whole:
        result = audit.audit(copy)
        seal, lines, findings = (
            result.seal,
            result.lines(),
            [*result.findings, *([result.missing] if result.missing else [])],
        )
    else:
        data = audit.read(os.path.join(copy, audit.SEAL))
        seal = audit.sha256(data)
        listed, findings = audit.parse_sums(data)
        present = [name for name in audit.REPORTS if os.path.lexists(os.path.join(copy, name))]
        findings += [
            f"{name} is not as it was sealed"
            for name in present
            if audit.sha256(audit.read(os.path.join(copy, name))) != listed.get(name)
        ]
        findings += [f"{name} is missing" for name in audit.REPORTS if name in listed and name not in present]
        lines = [f"report        as sealed: {', '.join(present)}", f"seal          {seal}"]
        lines += ["not checked   the rest of the bundle, which is on the host"]
    if findings:
        raise PhaseGateError(
            "The copy does not verify, and was deleted.",
            expected="every file as it was sealed",
            found="; ".join(map(escaped, findings)),
            next_step="audit the bundle on its host; if it verifies there, run again",
        )
    return seal, [line for line in lines if copy not in line]


def _require_same(copy: str, path: str) -> None:
    """Raise ``PhaseGateError`` unless both have the same files with the same content."""
    differs = sorted(set(_digests(copy).items()) ^ set(_digests(path).items()))
    if differs:
        raise PhaseGateError(
            f"{path} is there already, and is not what would be copied.",
            expected="nothing of this name, or the same files",
            found=", ".join(sorted({escaped(name) for name, _digest in differs})),
            next_step="move it away, or choose another directory; nothing was overwritten",
        )


def _digests(directory: str) -> dict[str, str]:
    found = {}
    for folder, _inner, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, directory)] = _digest(path)
    return found


def _digest(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
