# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The boundary between the collection's errors and Ansible's ``fail_json``."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, Mapping, NoReturn, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import file_error


def fail_with(module: Any, error: object, **result: Any) -> NoReturn:
    """End an ``AnsibleModule`` as failed, with the error's text as the message and ``result`` beside it."""
    module.fail_json(msg=str(error), **result)
    raise AssertionError("fail_json returned")


def blank_options(specification: Mapping[str, Any], params: Mapping[str, Any], within: str = "") -> list[str]:
    """Return the options that were given and are empty or only blanks, such as a shell variable that is not set.

    None of them is read as "not given". ``specification`` and ``params`` are those of a module, or of the suboptions of
    the option ``within``; a value that is the option's own default was not given.
    """
    found = []
    for name, option in specification.items():
        value, path = params.get(name), within + name
        if isinstance(value, str):
            found += [path] if not value.strip() and value != option.get("default") else []
        elif isinstance(value, Mapping) and option.get("options"):
            found += blank_options(option["options"], value, f"{path}.")
        elif isinstance(value, Sequence):
            for number, one in enumerate(value):
                if isinstance(one, str):
                    found += [f"{path}[{number}]"] if not one.strip() else []
                elif isinstance(one, Mapping) and option.get("options"):
                    found += blank_options(option["options"], one, f"{path}[{number}].")
    return found


def blank_error(names: Sequence[str]) -> PhaseGateError | None:
    """Return the error for options that were given and are empty, None without any."""
    if not names:
        return None
    return PhaseGateError(
        "An empty value was given.",
        expected=f"a value for {', '.join(names)}, or none of them given at all",
        found=f"empty or only blanks: {', '.join(names)}",
        next_step="find out which variable is not set; leave the option out if it is not meant",
    )


def given_params(module: Any) -> dict[str, Any]:
    """Return the parameters of an ``AnsibleModule``, or end it as failed when one was given and is empty or only blanks."""
    # in check mode a run has no directory, and the module that opened it returned an empty text
    own = {name: value for name, value in module.params.items() if not (module.check_mode and name == "run_directory")}
    error = blank_error(blank_options(module.argument_spec, own))
    if error:
        fail_with(module, error)
    params: dict[str, Any] = module.params
    return params


@contextlib.contextmanager
def errors_of(
    module: Any,
    result: Mapping[str, Any] | None = None,
    *,
    file_error: Callable[[OSError], PhaseGateError] = file_error,
) -> Iterator[None]:
    """End an ``AnsibleModule`` as failed when the block raises ``PhaseGateError`` or ``OSError``.

    ``result`` is returned beside the message as it is when the error occurs: the block may fill it.
    ``file_error`` gives the message for an ``OSError``. An option that was given and is empty is refused first.
    """
    given_params(module)
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


def warn_unstamped(module: Any, sealed: Mapping[str, Any]) -> None:
    """Warn where a seal has no time-stamp although one was asked for; ``sealed`` is the result of the seal."""
    if sealed.get("unstamped"):
        module.warn(f"The seal has no time-stamp: {sealed['unstamped']}")
