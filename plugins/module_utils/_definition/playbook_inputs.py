# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare the inputs of a playbook with their specification."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, Collection, Dict, Iterator, List, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import short_json

#: What the name of an input begins with.
PREFIX = "phasegate_"

#: What the roles' own variables begin with.
INTERNAL = "__"

# How many hosts a message names.
_NAMED = 5


@dataclass(frozen=True)
class Problem:
    """One input that is wrong: what was expected in its place and what was found."""

    expected: str
    found: str


@dataclass(frozen=True)
class Unresolved:
    """Stands for the value of an input whose template fails."""

    reason: str


def names_read(specifications: Mapping[str, Any], playbook: str) -> Dict[str, Dict[str, Any]]:
    """Return the inputs that a playbook reads, by name."""
    options: Dict[str, Dict[str, Any]] = specifications[playbook]["options"]
    return options


def input_problems(
    specifications: Mapping[str, Any], playbook: str, given: Mapping[str, Any], extra_vars: Collection[str]
) -> List[Problem]:
    """Return everything that is wrong with the inputs of one playbook.

    :param specifications: by playbook, each with ``options`` and perhaps ``required_one_of``, as a module has them.
    :param given: the values by name; of those inputs that the playbook does not read only the names count.
    :param extra_vars: the names that were given on the command line. A variable of the inventory reaches every
        playbook, so one that another playbook reads is an error only there.
    """
    read = names_read(specifications, playbook)
    found = [*_missing(specifications[playbook], given)]
    for name in sorted(given):
        if name in read:
            found += _value_problems(name, read[name], given[name])
        else:
            found += _name_problems(specifications, playbook, name, on_command_line=name in extra_vars)
    # the results of the roles' own tasks: one that is given would stand for what a task found
    internal = sorted(name for name in extra_vars if name.startswith(INTERNAL))
    found += [Problem(f"no variable whose name begins with {INTERNAL}", f"{name} is given by -e") for name in internal]
    return found


def hosts_problem(playbook: str, hosts: Collection[str], *, chosen: bool) -> PhaseGateError | None:
    """Return the error of a play on several hosts that nobody has chosen, None otherwise.

    :param chosen: whether the operator limited the play, by ``-l`` or ``-e phasegate_hosts``.
    """
    if chosen or len(hosts) <= 1:
        return None
    named = sorted(hosts)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return PhaseGateError(
        f"Playbook {playbook} would run on {len(named)} hosts of the inventory.",
        expected="-l or -e phasegate_hosts, with the host or the group to run on",
        found=f"neither, and the hosts {', '.join(named[:_NAMED])}{more}",
        next_step="run again with -l <host or group>; -l all is every host",
    )


def input_error(playbook: str, found: Collection[Problem]) -> PhaseGateError:
    """Return the one message for all problems of a playbook's inputs."""
    return PhaseGateError(
        f"Invalid inputs of playbook {playbook}.",
        expected="; ".join(problem.expected for problem in found),
        found="; ".join(problem.found for problem in found),
        next_step="correct the inventory or the options -e; docs/operations.md describes every input",
    )


def _missing(specification: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[Problem]:
    required = [[name] for name, option in specification["options"].items() if option.get("required")]
    for names in required + specification.get("required_one_of", []):
        if not any(name in given for name in names):
            either = " or ".join(names)
            yield Problem(f"a value for {either}", f"{either} is missing")


def _value_problems(name: str, option: Mapping[str, Any], value: Any) -> Iterator[Problem]:
    blanks = list(_blanks(name, value))
    if blanks:
        yield Problem(f"a value for {', '.join(blanks)}, or no {name} at all", f"{', '.join(blanks)} is empty")
        return
    if isinstance(value, Unresolved):
        yield Problem(f"a value for {name}", f"{name} cannot be resolved: {value.reason}")
        return
    wanted = {key: option[key] for key in ("type", "elements") if key in option}
    result = ArgumentSpecValidator({name: wanted}).validate({name: value})
    if result.error_messages:
        of = f" of {option['elements']}" if "elements" in option else ""
        yield Problem(f"{name} of type {option['type']}{of}", f"{name} is {short_json(value, 60)}")
    elif "choices" in option and result.validated_parameters[name] not in option["choices"]:
        yield Problem(f"{name} is one of {', '.join(option['choices'])}", f"{name} is {short_json(value, 60)}")


def _blanks(name: str, value: Any) -> Iterator[str]:
    """Yield what is empty or only blanks in an input that was given: the input itself, or what is in it.

    A list or mapping without anything in it is not: it says that there is none.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        yield name
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _blanks(f"{name}.{key}", one)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _blanks(f"{name}[{number}]", one)


def _name_problems(
    specifications: Mapping[str, Any], playbook: str, name: str, *, on_command_line: bool
) -> Iterator[Problem]:
    readers = [other for other in specifications if name in names_read(specifications, other)]
    if not readers:
        near = _nearest(specifications, playbook, name)
        yield Problem(f"{near} in place of {name}" if near else f"no {name}", f"unknown variable {name}")
    elif on_command_line:
        yield Problem(f"{name} for {', '.join(readers)} only", f"{name} is given by -e and {playbook} does not read it")


def _nearest(specifications: Mapping[str, Any], playbook: str, name: str) -> str:
    """Return the known name that is most like a mistyped one, the playbook's own before those of others."""
    everywhere = {known for other in specifications for known in names_read(specifications, other)}
    for known in (names_read(specifications, playbook), everywhere):
        # the prefix, which all have, would make everything alike
        short = {one[len(PREFIX) :]: one for one in known}
        near = difflib.get_close_matches(name[len(PREFIX) :], sorted(short), n=1)
        if near:
            return short[near[0]]
    return ""
