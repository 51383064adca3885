# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write values of phase.yml: in a new text, or into the text of an author, whose comments and layout stay. Controller only. Pure.

A value consists of dict, list, str, int, bool and None, as ``strict_yaml`` reads it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError, Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import load_strict_yaml

try:
    import yaml
except ImportError:
    HAS_YAML = False
else:
    HAS_YAML = True

#: The longest line, in characters, that a list or mapping is written on.
WIDTH = 120

# Texts that every YAML version reads as this text, and that need no quotes inside brackets either.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*( [A-Za-z0-9_.-]+)*")

_OTHER_MEANING = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


class Noted(Dict[str, Any]):
    """A mapping in a list, with a comment on the line above it."""

    def __init__(self, value: Mapping[str, Any], note: str) -> None:
        super().__init__(value)
        self.note = note


# start and end in the text, and what to write there
_Change = Tuple[int, int, str]


def scalar(value: Any) -> str:
    """Return a scalar as YAML, with quotes where a YAML version could read another value."""
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _OTHER_MEANING
    # what JSON leaves as it is and YAML refuses, takes for the end of a line, or nobody sees, both escape alike
    return str(value) if plain else escaped(json.dumps(value, ensure_ascii=False))


def flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def block(value: Any, indent: int, room: int = 0) -> str:
    """Return a value as it follows its key or dash: on the same line if it fits, else on lines of its own, ``indent`` deep.

    ``room``: how many characters the line has already. It begins with a blank, or with a new line.
    """
    text = flow(value)
    if not isinstance(value, (Mapping, list)) or not value or (room + len(text) < WIDTH and not _has_note(value)):
        return f" {text}"
    return "".join(f"\n{' ' * indent}{line}" for line in _lines(value, indent))


def _has_note(value: Any) -> bool:
    """Return whether a mapping or list has lists with comments in them."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any((isinstance(one, Noted) and isinstance(value, list)) or _has_note(one) for one in inside)


def _lines(value: Any, indent: int) -> Iterator[str]:
    """Yield each entry of a mapping or list as its lines, without the indentation of the first one."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            head = f"{scalar(key)}:"
            yield head + block(one, indent + 2, indent + len(head))
    else:
        for one in value:
            if isinstance(one, Noted):
                yield f"# {one.note}"
            if isinstance(one, Mapping) and one and indent + 2 + len(flow(one)) >= WIDTH:
                first, *rest = _lines(one, indent + 2)
                yield f"- {first}" + "".join(f"\n{' ' * (indent + 2)}{line}" for line in rest)
            else:
                yield f"-{block(one, indent + 2, indent + 1)}"


def edited(text: str, new: Mapping[str, Any], file: str = "phase.yml") -> str:
    """Return the text of a mapping with ``new`` as its value; what does not change keeps its bytes.

    Raises ``PhaseFileError`` for a text that is not in the strict subset of YAML.
    """
    old = _value(text, file)
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    # from the end; of two that add at one place, the inner one is found first and stands first
    found = enumerate(_changes(text, node, old, new))
    for _number, (start, end, replacement) in sorted(found, key=lambda one: (one[1][0], one[0]), reverse=True):
        text = text[:start] + replacement + text[end:]
    if _value(text, file) != new:
        raise AssertionError(f"the edited {file} has not the value that was meant")
    return text


def _value(text: str, file: str) -> Any:
    value, _lines_of, problems = load_strict_yaml(file, text.encode("utf-8"))
    if not problems and not isinstance(value, dict):
        problems = [Problem(file, 0, "", "not a mapping")]
    if problems:
        raise PhaseFileError(problems)
    return value


def _changes(text: str, node: Any, old: Any, new: Any) -> Iterator[_Change]:
    if old == new and type(old) is type(new):
        return
    apart = bool(old and new) and not getattr(node, "flow_style", True)
    if apart and isinstance(old, dict) and isinstance(new, Mapping):
        yield from _entries_changed(text, node, old, new)
    elif apart and isinstance(old, list) and isinstance(new, list) and len(new) >= len(old):
        for child, before, after in zip(node.value, old, new):
            yield from _changes(text, child, before, after)
        indent = node.start_mark.column
        added = "".join(f"\n{' ' * indent}{one}" for one in _lines(new[len(old) :], indent))
        yield _after(text, node, added)
    else:
        # on a line of its own if it is one now, else behind its key
        before = text.rfind("\n", 0, node.start_mark.index) + 1
        line = text[before : node.start_mark.index]
        depth = len(line) - len(line.lstrip(" -"))
        written = block(new, depth + 2, len(line))
        start = node.start_mark.index - (len(line) - len(line.rstrip()) if line.strip() else 0)
        yield start, _end(node), written if line.strip() else block(new, depth, depth).lstrip(" ")


def _entries_changed(text: str, node: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[_Change]:
    indent = node.start_mark.column
    for key, child in node.value:
        name = key.value
        if name in new:
            yield from _changes(text, child, old[name], new[name])
        else:
            first = text.rfind("\n", 0, key.start_mark.index)
            yield max(first, 0), _line_end(text, _end(child)), ""
    added = {name: value for name, value in new.items() if name not in old}
    # keys of the whole file have a line of their own between them
    between = "\n\n" if indent == 0 else "\n"
    texts: List[str] = [f"{between}{' ' * indent}{line}" for line in _lines(added, indent)]
    yield _after(text, node, "".join(texts))


def _after(text: str, node: Any, added: str) -> _Change:
    place = _line_end(text, _end(node))
    return place, place, added


def _line_end(text: str, place: int) -> int:
    """Return the end of the line, so that a comment behind a value stays with it."""
    found = text.find("\n", place)
    return len(text) if found < 0 else found


def _end(node: Any) -> int:
    """Return where a value ends; a node in block style ends for the parser where the next one begins."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _end(node.value[-1])
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        buffer: str = node.end_mark.buffer or ""
        end: int = node.end_mark.index
        return end - 1 if end else len(buffer)
    found: int = node.end_mark.index
    return found
