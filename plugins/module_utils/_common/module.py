# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The boundary between the collection's errors and Ansible's ``fail_json``."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, Mapping, NoReturn

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import file_error


def fail_with(module: Any, error: object, **result: Any) -> NoReturn:
    """End an ``AnsibleModule`` as failed, with the error's text as the message and ``result`` beside it."""
    module.fail_json(msg=str(error), **result)
    raise AssertionError("fail_json returned")


@contextlib.contextmanager
def errors_of(
    module: Any,
    result: Mapping[str, Any] | None = None,
    *,
    file_error: Callable[[OSError], PhaseGateError] = file_error,
) -> Iterator[None]:
    """End an ``AnsibleModule`` as failed when the block raises ``PhaseGateError`` or ``OSError``.

    ``result`` is returned beside the message as it is when the error occurs: the block may fill it.
    ``file_error`` gives the message for an ``OSError``.
    """
    try:
        yield
    except PhaseGateError as error:
        fail_with(module, error, **(result or {}))
    except OSError as error:
        fail_with(module, file_error(error), **(result or {}))


def run_directory_of(module: Any, what: str) -> str:
    """Return the parameter ``run_directory``, or end the module as failed: only check mode goes without.

    ``what`` is the command that needs it, as a message begins.
    """
    path: str | None = module.params["run_directory"]
    if path is None:
        error = PhaseGateError(
            f"{what}: run_directory is missing.",
            expected="the run directory of an open run",
            found="no value",
            next_step="open a run (module run_open or run_prepare) and pass the run_directory that it returns",
        )
        fail_with(module, error)
    return path
