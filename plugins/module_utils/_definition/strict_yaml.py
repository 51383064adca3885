# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""YAML without ambiguity, with the line of every value. Controller only.

phase.yml decides what runs on production, so nothing in it may depend on how a YAML version reads a word: duplicate
keys, anchors, tags, and plain scalars that YAML 1.1 and 1.2 read differently (``yes``, ``1:30``, ``010``, dates) are
refused, and so are floating-point numbers, which do not compare exactly.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import steering_character
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem

try:
    import yaml
except ImportError:
    HAS_YAML = False
else:
    HAS_YAML = True

#: Keys and indexes from the root to a value.
Path = Tuple[Any, ...]

#: Path → line, counted from 1.
Lines = Dict[Path, int]

#: The largest file, in bytes, the deepest nesting, and the most digits of a number.
LARGEST = 1 << 20
DEPTH = 50
DIGITS = 100

_CORE = "tag:yaml.org,2002:"

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")

#: Numbers of YAML 1.2 (Core Schema) that YAML 1.1 reads as strings are among these.
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+")

#: Kinds of plain scalars that YAML 1.1 tells apart by their text.
_SCALARS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "merge", "value"})

_CONSTANTS: Dict[str, Dict[str, Any]] = {
    "bool": {"true": True, "false": False},
    "null": {"null": None, "~": None, "": None},
}


def dotted(path: Path) -> str:
    """Return a path as people write it: ``verify[2].expect``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def line_of(lines: Lines, path: Path) -> int:
    """Return the line of ``path``, or of its nearest parent that has one; 0 if there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


class _Reader:
    """Turns a node graph into plain values, keeping lines and problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: Lines = {}
        self.problems: List[Problem] = []

    def problem(self, node: yaml.Node, path: Path, what: str, **parts: Any) -> None:
        self.problems.append(Problem(self.file, node.start_mark.line + 1, dotted(path), what, **parts))

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        self.problem(node, path, "a YAML tag", found=node.tag, next_step="remove it")
        return None

    def mapping(self, node: yaml.MappingNode, path: Path) -> Dict[str, Any]:
        result: Dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key_node.tag not in (f"{_CORE}str", f"{_CORE}null"):
                found = key if key is not None else "a list or mapping as key"
                self.problem(
                    key_node,
                    path,
                    "a key that is not a string",
                    found=found,
                    next_step=f'write "{found}" in quotes if this is the name',
                )
                continue
            here = (*path, key)
            if key_node.tag == f"{_CORE}null":
                self.problem(key_node, here, "a key that YAML reads as null", next_step='write "null" in quotes')
            if key in result:
                self.problem(
                    key_node,
                    here,
                    "a duplicate key",
                    found=f"first on line {self.lines[here]}",
                    next_step="keep one of the two",
                )
                continue
            self.lines[here] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, here)
        return result

    def scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        kind, text = node.tag.replace(_CORE, ""), node.value
        if kind not in _SCALARS:
            self.problem(node, path, "a YAML tag", found=node.tag, next_step="remove it")
            return None
        if kind == "str":
            unsafe = steering_character(text)
            if unsafe:
                self.problem(node, path, "a disallowed invisible character", found=unsafe, next_step="remove it")
            if not _plain_number(node):
                return text
        if kind == "int" and _INTEGER.fullmatch(text):
            if len(text) > DIGITS:
                found = f"{len(text)} digits"
                self.problem(node, path, "a number that is too long", found=found, next_step="quote it as a string")
                return text
            return int(text)
        if text in _CONSTANTS.get(kind, {}):
            return _CONSTANTS[kind][text]
        if kind == "float":
            step = "compare texts or whole numbers: cast the column to text in the SQL, and quote the value"
            self.problem(node, path, "a floating-point number", found=text, next_step=step)
        else:
            self.problem(
                node,
                path,
                "an ambiguous plain value",
                expected="a whole number, true, false, null, or a string in quotes",
                found=text,
                next_step=f'write "{text}" in quotes if a string is meant',
            )
        return text


def _plain_number(node: yaml.ScalarNode) -> bool:
    """Return whether a scalar without quotes is a number in YAML 1.2, whatever YAML 1.1 makes of it."""
    return node.style is None and bool(_NUMBER.fullmatch(node.value))


def load_strict_yaml(file: str, data: bytes) -> Tuple[Any, Lines, List[Problem]]:
    """Parse one YAML document. Returns (value, lines, problems); with problems the value may be incomplete.

    ``file`` is only for messages. A value consists of dict, list, str, int, bool and None. Never raises for bad input.
    """
    reader = _Reader(file)
    value = None
    if len(data) > LARGEST:
        found = f"{len(data)} bytes"
        reader.problems.append(Problem(file, 0, "", "the file is too large", expected=f"{LARGEST} bytes", found=found))
        return None, reader.lines, reader.problems
    try:
        value = _parse(reader, data.decode("utf-8"))
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        reader.problems.append(Problem(file, 0, "", "not UTF-8", found=found, next_step="save the file as UTF-8"))
    except yaml.MarkedYAMLError as error:
        line = max((mark.line + 1 for mark in (error.context_mark, error.problem_mark) if mark is not None), default=0)
        what = "not valid YAML: " + " ".join(filter(None, (error.context, error.problem)))
        reader.problems.append(Problem(file, line, "", what))
    except yaml.YAMLError as error:
        reader.problems.append(Problem(file, 0, "", "not valid YAML", found=" ".join(str(error).split())))
    except RecursionError:
        reader.problems.append(Problem(file, 0, "", "not valid YAML", found="values nested too deeply"))
    return value, reader.lines, reader.problems


def _parse(reader: _Reader, text: str) -> Any:
    event: Any
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        # before anything is built of it: the time for that grows with the square of the depth
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            line = event.start_mark.line + 1
            reader.problems.append(Problem(reader.file, line, "", f"values nested more than {DEPTH} deep"))
            return None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            line = event.start_mark.line + 1
            reader.problems.append(
                Problem(reader.file, line, "", "a YAML anchor or alias", next_step="write the value out")
            )
            return None
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        reader.problems.append(Problem(reader.file, 0, "", "an empty file", expected="the definition of a phase"))
        return None
    return reader.value(node, ())
