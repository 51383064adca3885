# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rooms of plugins/module_utils: which there are, and which may import which, by the table in docs/architecture.md."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UTILS = ROOT / "plugins" / "module_utils"
PACKAGE = "ansible_collections.incomex.phasegate.plugins.module_utils."
FILES = {path.relative_to(UTILS).with_suffix("").as_posix(): path for path in sorted(UTILS.rglob("*.py"))}
#: What only the controller has: a module that runs on a target must not need it.
CONTROLLER_ONLY = {"_conversion", "_definition", "_sql_analysis", "_review"}

_ROW = re.compile(r"^\| `(?P<room>_\w+)` \|[^|]*\| (?P<imports>[^|]*) \|$", re.MULTILINE)


def declared() -> dict[str, set[str]]:
    """The table: the rooms from the lowest to the highest, each with those that it may import."""
    section = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Rooms\n")[2]
    section = section.partition("\n## ")[0]
    return {row["room"]: set(re.findall(r"`(_\w+)`", row["imports"])) for row in _ROW.finditer(section)}


def imports_of(path: Path) -> set[str]:
    """The files, as ``_room/file``, that a file imports, wherever in it the import is."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            name = (node.module or "").removeprefix(PACKAGE).replace(".", "/")
            # of a room its files are imported
            found |= {name} if "/" in name else {f"{name}/{alias.name}" for alias in node.names}
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.removeprefix(PACKAGE).replace(".", "/") for name in names if name.startswith(PACKAGE)}
    return found


def room(name: str) -> str:
    return name.partition("/")[0]


IMPORTS = {name: imports_of(path) for name, path in FILES.items()}


def test_the_table_names_every_room_and_no_other() -> None:
    assert set(declared()) == {path.name for path in UTILS.iterdir() if any(path.rglob("*.py"))}
    assert not [name for name in FILES if "/" not in name], "a file lies beside the rooms"


def test_rooms_import_only_what_the_table_allows_and_the_table_allows_only_what_they_import() -> None:
    used: dict[str, set[str]] = {name: set() for name in declared()}
    for name, targets in IMPORTS.items():
        used[room(name)] |= {room(target) for target in targets} - {room(name)}
    assert used == declared()


def test_a_room_imports_only_rooms_above_it_in_the_table() -> None:
    rooms = declared()
    order = {name: place for place, name in enumerate(rooms)}
    assert not [(name, other) for name, others in rooms.items() for other in others if order[other] >= order[name]]


def test_no_two_files_import_each_other_by_any_way() -> None:
    done: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(IMPORTS[name]):
                follow(target, (*way, name))
            done.add(name)

    for name in FILES:
        follow(name, ())


def test_every_import_exists() -> None:
    assert not {target for targets in IMPORTS.values() for target in targets} - set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_imports_are_at_the_top_and_for_everybody(name: str) -> None:
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    inside = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node not in tree.body]
    assert not [node.module for node in inside if (node.module or "").startswith(PACKAGE)]


def test_what_runs_on_a_target_needs_nothing_of_the_controller() -> None:
    rooms = declared()
    assert not [name for name in rooms.keys() - CONTROLLER_ONLY if rooms[name] & CONTROLLER_ONLY]


#: An auditor reads and runs it alone: it has to be one file.
ONE_FILE = UTILS / "_audit" / "audit.py"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: path.name)
def test_no_file_is_too_long_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= (1400 if path == ONE_FILE else 500)


def test_the_auditor_needs_only_the_standard_library() -> None:
    tree = ast.parse(ONE_FILE.read_text(encoding="utf-8"), feature_version=(3, 8))
    found = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert {name.partition(".")[0] for name in found} <= sys.stdlib_module_names
