# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all modules have in common: documentation, an action group, an integration target, and how they fail."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ansible.parsing.plugin_docs import read_docstring
from ansible.plugins.loader import fragment_loader
from ansible.utils.plugin_docs import add_fragments
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import (
    errors_of,
    fail_with,
    run_directory_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
FRAGMENTS = "incomex.phasegate._attributes"


@cache
def documentation(name: str) -> dict[str, Any]:
    """Return a module's documentation with its fragments merged."""
    path = str(ROOT / "plugins" / "modules" / f"{name}.py")
    found: dict[str, Any] = read_docstring(path, verbose=False)["doc"]
    add_fragments(found, path, fragment_loader=fragment_loader, is_module=True)
    return found


def groups() -> Mapping[str, list[str]]:
    """Return the modules of each action group."""
    read: Mapping[str, list[str]] = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))[
        "action_groups"
    ]
    return read


def test_there_are_modules() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_an_integration_target(name: str) -> None:
    assert (ROOT / "tests" / "integration" / "targets" / f"module_{name}" / "tasks" / "main.yml").is_file()


def test_every_target_is_that_of_a_module_or_sets_something_up() -> None:
    targets = {path.name for path in (ROOT / "tests" / "integration" / "targets").iterdir()}
    assert {name for name in targets if not name.startswith("setup_")} == {f"module_{name}" for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_documents_the_same_attributes(name: str) -> None:
    attributes = documentation(name)["attributes"]
    assert set(attributes) == {"check_mode", "diff_mode", "idempotent", "action_group"}
    for attribute, about in attributes.items():
        assert about["description"], attribute
        assert about["support"] in ("full", "partial", "none", "N/A"), attribute
        assert attribute == "action_group" or about["details"], attribute


@pytest.mark.parametrize("name", MODULES)
def test_every_module_names_others(name: str) -> None:
    others = [entry["module"] for entry in documentation(name)["seealso"] if "module" in entry]
    assert others
    own = [other.rpartition(".")[2] for other in others if other.startswith("incomex.phasegate.")]
    assert set(own) <= set(MODULES) - {name}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_in_the_action_group_that_it_documents(name: str) -> None:
    (group,) = [group for group, members in groups().items() if name in members]
    assert documentation(name)["attributes"]["action_group"]["membership"] == [f"incomex.phasegate.{group}"]


def test_no_action_group_has_a_module_that_does_not_exist() -> None:
    assert {name for members in groups().values() for name in members} == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_the_connection_of_its_group_or_none(name: str) -> None:
    options = set(documentation(name)["options"])
    if name in groups()["offline"]:
        assert not options & set(CONNECTION_ARGUMENTS)
    else:
        assert options >= set(CONNECTION_ARGUMENTS)


class EndedError(Exception):
    """The module ended; what it returned is ``result``."""

    def __init__(self, **result: Any) -> None:
        self.result = json.loads(json.dumps(result))
        super().__init__(result.get("msg"))


class Module:
    """What these helpers use of an ``AnsibleModule``."""

    def __init__(self, **params: Any) -> None:
        self.params = params
        self.argument_spec: dict[str, Any] = {name: {"type": "str"} for name in params}
        self.check_mode = False

    def fail_json(self, **result: Any) -> None:
        raise EndedError(**result)


def test_an_error_fails_the_module_with_its_message() -> None:
    error = PhaseGateError("It failed.", expected="one", found="two", next_step="count")
    with pytest.raises(EndedError) as ended, errors_of(Module()):
        raise error
    assert ended.value.result == {"msg": str(error)}


def test_what_the_block_found_is_returned_with_the_error() -> None:
    found: dict[str, Any] = {}

    def block() -> None:
        with errors_of(Module(), found):
            found["checks"] = [1]
            raise PhaseGateError("It failed.")

    with pytest.raises(EndedError) as ended:
        block()
    assert ended.value.result == {"msg": "It failed.", "checks": [1]}


def test_an_error_of_a_file_has_the_message_of_what_the_file_is_for() -> None:
    with pytest.raises(EndedError, match="No space left"), errors_of(Module()):
        raise OSError(28, "No space left on device")
    with (
        pytest.raises(EndedError, match=r"^The plan: "),
        errors_of(Module(), file_error=lambda e: PhaseGateError(f"The plan: {e}")),
    ):
        raise FileNotFoundError(2, "No such file or directory", "plan.json")


def test_an_option_that_was_given_and_is_empty_is_refused_before_the_block() -> None:
    with pytest.raises(EndedError, match="empty or only blanks: plan"), errors_of(Module(plan=" ", name=None)):
        raise AssertionError("the block ran")


def test_another_error_is_a_bug_and_goes_on() -> None:
    with pytest.raises(ZeroDivisionError), errors_of(Module()):
        raise ZeroDivisionError


def test_a_module_ends_where_it_fails() -> None:
    with pytest.raises(EndedError) as ended:
        fail_with(Module(), "It failed.", outcome="UNKNOWN")
    assert ended.value.result == {"msg": "It failed.", "outcome": "UNKNOWN"}


def test_a_run_directory_is_asked_for_by_its_option() -> None:
    assert run_directory_of(Module(run_directory="/run"), "C-07") == "/run"
    with pytest.raises(EndedError, match=r"^C-07: run_directory is missing\.") as ended:
        run_directory_of(Module(run_directory=None), "C-07")
    assert "run_open" in ended.value.result["msg"]
