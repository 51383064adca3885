# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused as an input of a playbook, and that the specification has what the playbooks and roles read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.action.playbook_inputs import specifications
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.playbook_inputs import (
    Unresolved,
    hosts_problem,
    input_error,
    input_problems,
    names_read,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS
from ansible_collections.incomex.phasegate.plugins.modules import playbook_inputs
from jinja2 import Environment, nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
SPECIFICATIONS = specifications()
PLAYBOOKS = sorted(SPECIFICATIONS)
CONNECTION = {f"phasegate_{option}" for option in CONNECTION_ARGUMENTS}

MINI: dict[str, Any] = {
    "cook": {
        "options": {
            "phasegate_dish": {"type": "str", "required": True},
            "phasegate_minutes": {"type": "int"},
            "phasegate_heat": {"type": "str", "choices": ["low", "high"]},
            "phasegate_spices": {"type": "list", "elements": "int"},
            "phasegate_salted": {"type": "bool"},
        },
        "required_one_of": [["phasegate_pot", "phasegate_pan"]],
    },
    "wash": {"options": {"phasegate_water": {"type": "str"}, "phasegate_minute": {"type": "int"}}},
}
MINI["cook"]["options"].update(phasegate_pot={"type": "path"}, phasegate_pan={"type": "path"})
GOOD = {"phasegate_dish": "soup", "phasegate_pan": "/pan"}


def found(given: dict[str, Any], extra_vars: set[str] | None = None) -> list[tuple[str, str]]:
    problems = input_problems(MINI, "cook", given, extra_vars or set())
    return [(problem.expected, problem.found) for problem in problems]


def test_nothing_is_wrong_with_good_inputs() -> None:
    assert found({**GOOD, "phasegate_minutes": "5", "phasegate_heat": "low", "phasegate_salted": "yes"}) == []
    assert found({**GOOD, "phasegate_spices": "1,2"}) == []


def test_no_result_of_a_task_is_given() -> None:
    problems = input_problems(MINI, "cook", GOOD, {*GOOD, "__execute_run", "other"})
    assert [problem.found for problem in problems] == ["__execute_run is given by -e"]


@pytest.mark.parametrize("value", ["", "  ", "\n", None, [""], [1, " "], {"a": ""}, {"a": [{"b": None}]}])
@pytest.mark.parametrize("name", ["phasegate_dish", "phasegate_minutes", "phasegate_spices", "phasegate_pot"])
def test_what_is_given_and_empty_is_refused(name: str, value: Any) -> None:
    ((expected, was),) = found({**GOOD, name: value})
    assert expected.endswith(f", or no {name} at all")
    assert was.startswith(name)
    assert was.endswith(" is empty")


@pytest.mark.parametrize(
    ("hosts", "chosen", "refused"), [("a", False, False), ("ab", True, False), ("ab", False, True)]
)
def test_a_play_on_several_hosts_is_chosen_by_the_operator(hosts: str, chosen: bool, refused: bool) -> None:
    error = hosts_problem("execute", list(hosts), chosen=chosen)
    assert bool(error) == refused


def test_a_few_of_many_hosts_are_named() -> None:
    error = hosts_problem("drift", [f"h{number:02}" for number in range(30)], chosen=False)
    assert "on 30 hosts" in str(error)
    assert "h00, h01, h02, h03, h04 and 25 more" in str(error)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("phasegate_dsh", "phasegate_dish"),
        ("phasegate_minuts", "phasegate_minutes"),  # of this playbook, not phasegate_minute of the other
        ("phasegate_watr", "phasegate_water"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, near: str) -> None:
    assert found({**GOOD, name: None}) == [(f"{near} in place of {name}", f"unknown variable {name}")]


def test_a_name_that_is_like_no_other_is_refused_alone() -> None:
    assert found({**GOOD, "phasegate_xyzzy": None}) == [("no phasegate_xyzzy", "unknown variable phasegate_xyzzy")]


def test_a_name_of_another_playbook_is_refused_on_the_command_line_only() -> None:
    given = {**GOOD, "phasegate_water": None}
    assert found(given) == []
    assert found(given, {"phasegate_water", "phasegate_dish"}) == [
        ("phasegate_water for wash only", "phasegate_water is given by -e and cook does not read it")
    ]


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_an_empty_value_is_refused(empty: str | None) -> None:
    (problem,) = found({**GOOD, "phasegate_heat": empty})
    assert problem == ("a value for phasegate_heat, or no phasegate_heat at all", "phasegate_heat is empty")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("phasegate_minutes", "five", ("phasegate_minutes of type int", 'phasegate_minutes is "five"')),
        ("phasegate_salted", "perhaps", ("phasegate_salted of type bool", 'phasegate_salted is "perhaps"')),
        ("phasegate_spices", ["hot"], ("phasegate_spices of type list of int", 'phasegate_spices is ["hot"]')),
        ("phasegate_heat", "medium", ("phasegate_heat is one of low, high", 'phasegate_heat is "medium"')),
        (
            "phasegate_heat",
            Unresolved("'stove' is undefined"),
            ("a value for phasegate_heat", "phasegate_heat cannot be resolved: 'stove' is undefined"),
        ),
    ],
)
def test_a_value_of_another_kind_is_refused(name: str, value: Any, problem: tuple[str, str]) -> None:
    assert found({**GOOD, name: value}) == [problem]


def test_what_is_missing_is_named_and_everything_is_told_at_once() -> None:
    problems = input_problems(MINI, "cook", {"phasegate_dsh": "soup"}, set())
    message = str(input_error("cook", problems)).splitlines()
    assert message[0] == "Invalid inputs of playbook cook."
    assert message[1].startswith("  expected: a value for phasegate_dish; a value for phasegate_pot or phasegate_pan; ")
    assert message[2] == (
        "  found: phasegate_dish is missing; phasegate_pot or phasegate_pan is missing; unknown variable phasegate_dsh"
    )


# --- the specification and what is read ------------------------------------------------------------------------


def load(*parts: str) -> Any:
    file = ROOT.joinpath(*parts)
    return (yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None) or {}


def strings(node: Any) -> Iterator[str]:
    """Yield every text in a YAML document; a bare expression as the template that it is."""
    if isinstance(node, dict):
        for key, value in node.items():
            bare = key in ("when", "that", "changed_when", "failed_when")
            yield from (f"{{{{ {text} }}}}" if bare else text for text in strings(value))
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)
    elif isinstance(node, str):
        yield node


def variables(node: Any) -> set[str]:
    """Return the variables ``phasegate_*`` that the templates in a YAML document read."""
    read: set[str] = set()
    for text in strings(node):
        tree = Environment(autoescape=True).parse(text)
        read |= {name.name for name in tree.find_all(nodes.Name) if name.name.startswith("phasegate_")}
        if any(constant.value == "incomex.phasegate.connection" for constant in tree.find_all(nodes.Const)):
            read |= CONNECTION
    return read


def roles_of(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every role that a YAML document runs, with the options that it gets there."""
    if isinstance(node, dict):
        if "role" in node and "{{" not in str(node["role"]):  # a module may have an option of this name
            yield node["role"], node
        if "ansible.builtin.import_role" in node:
            yield node["ansible.builtin.import_role"]["name"], node.get("vars", {})
        for value in node.values():
            yield from roles_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from roles_of(value)


def read_with_roles(node: Any) -> set[str]:
    """Return the variables that a YAML document reads, and those that its roles read by the options left to them."""
    read = variables(node)
    for full_name, given in roles_of(node):
        role = full_name.rpartition(".")[2]
        read |= variables(
            {key: value for key, value in load("roles", role, "defaults", "main.yml").items() if key not in given}
        )
        read |= read_with_roles(
            [load(*file.relative_to(ROOT).parts) for file in (ROOT / "roles" / role / "tasks").iterdir()]
        )
    return read


def imported(name: str) -> str:
    """Return the playbook that a playbook imports, or itself."""
    other = load("playbooks", f"{name}.yml")[0].get("ansible.builtin.import_playbook")
    return imported(other.removesuffix(".yml")) if other else name


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_the_specification_has_exactly_what_is_read(playbook: str) -> None:
    assert sorted(names_read(SPECIFICATIONS, playbook)) == sorted(read_with_roles(load("playbooks", f"{playbook}.yml")))


@pytest.mark.parametrize("playbook", sorted(file.stem for file in (ROOT / "playbooks").glob("*.yml")))
def test_every_playbook_checks_its_inputs_first(playbook: str) -> None:
    name = imported(playbook)
    (play,) = load("playbooks", f"{name}.yml")
    first = (play.get("pre_tasks") or play["tasks"])[0]
    assert first["incomex.phasegate.playbook_inputs"] == {"playbook": name}


def test_every_specification_is_of_a_playbook_and_documented() -> None:
    choices = yaml.safe_load(playbook_inputs.DOCUMENTATION)["options"]["playbook"]["choices"]
    assert choices == PLAYBOOKS
    assert sorted({imported(file.stem) for file in (ROOT / "playbooks").glob("*.yml")}) == PLAYBOOKS


def option_of(name: str) -> dict[str, Any]:
    """Return how an input is specified, which is the same for every playbook but for whether it is required."""
    options = [specified["options"][name] for specified in SPECIFICATIONS.values() if name in specified["options"]]
    optional = [{key: value for key, value in option.items() if key != "required"} for option in options]
    assert all(option == optional[0] for option in optional)
    return dict(optional[0])


def role_options() -> Iterator[tuple[str, str]]:
    """Yield every option of a role that one variable is the default of, with that variable."""
    for role in sorted((ROOT / "roles").iterdir()):
        for option, default in load("roles", role.name, "defaults", "main.yml").items():
            names = variables(default)
            if len(names) == 1:
                yield option, names.pop()


@pytest.mark.parametrize(("option", "name"), list(role_options()))
def test_an_input_is_of_the_type_of_the_option_that_reads_it(option: str, name: str) -> None:
    role = option.partition("_")[0]
    specified = load("roles", role, "meta", "argument_specs.yml")["argument_specs"]["main"]["options"][option]
    kind = ("type", "elements")
    assert {key: specified.get(key) for key in kind} == {key: option_of(name).get(key) for key in kind}
    assert set(specified.get("choices", [])) <= set(option_of(name).get("choices", []))


def test_the_connection_is_that_of_the_modules() -> None:
    for option, argument in CONNECTION_ARGUMENTS.items():
        wanted = {key: value for key, value in argument.items() if key in ("type", "choices")}
        assert wanted == option_of(f"phasegate_{option}")


def test_every_input_is_documented() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "docs").glob("*.md"))
    documented = set(re.findall(r"phasegate_[a-z_]+", text))
    assert {name for playbook in PLAYBOOKS for name in names_read(SPECIFICATIONS, playbook)} <= documented
