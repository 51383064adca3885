# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that means one thing: no key twice, no number that takes long or has no exact value, no endless nesting."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple, Union

#: The most digits of a number; PostgreSQL's own integers have 19.
DIGITS = 200

#: The deepest nesting of objects and lists.
DEPTH = 200


def parse_json(data: Union[bytes, str]) -> Any:
    """Return the value of one JSON document in UTF-8, whose keys are unique.

    Raises ``ValueError`` with the reason. Floating-point numbers are allowed, NaN and Infinity are not.
    """
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    _require_shallow(text)
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer, parse_constant=_constant)
    except RecursionError:
        raise ValueError("values nested too deeply") from None


def _require_shallow(text: str) -> None:
    """Raise ``ValueError`` for nesting that could exhaust the interpreter's stack; brackets in strings do not count."""
    if text.count("[") + text.count("{") <= DEPTH:
        return
    depth, quoted, skip = 0, False, False
    for character in text:
        if skip:
            skip = False
        elif quoted:
            skip = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            if depth > DEPTH:
                raise ValueError(f"values nested more than {DEPTH} deep")
        elif character in "]}":
            depth -= 1


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"duplicate key {json.dumps(key[:80])}")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")
