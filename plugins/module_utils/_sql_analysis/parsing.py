# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL's own parser, for SQL that nobody has checked yet.

Building a deep tree ends the interpreter with a segmentation fault, and no exception tells. So a text that is long enough
for that is measured by another process first, of bounded time and memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Tuple

try:
    import pglast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: The largest SQL text, in characters.
LONGEST = 16 << 20

# A shorter text cannot nest deeply enough to harm the parser: a level takes two characters.
_HARMLESS = 8000

#: The deepest tree, in levels of the JSON form that libpg_query gives it: two for an operator. PostgreSQL's own limit
#: (max_stack_depth) is at some thousand operators.
DEEPEST = 4000

# Of the process that measures.
_SECONDS = 30
_MEMORY = 4 << 30  # bytes of address space

_MEASURE = r"""
import re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
sys.path[:0] = [PLACE]
from pglast import parser
try:
    tree = parser.parse_sql_json(sys.stdin.buffer.read().decode("utf-8"))
except parser.ParseError as error:
    # a syntax error is reported with its line by the parser itself, which stops there as well
    print(-1 if "stack depth" in str(error) else 0)
    sys.exit()
depth = deepest = 0
for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', tree):
    if found[0] in "{[":
        depth += 1
        deepest = max(deepest, depth)
    elif found[0] in "}]":
        depth -= 1
print(deepest)
"""


def parse_sql(text: str) -> Tuple[Any, ...]:
    """Return the statements of an SQL text. Raises ``pglast.parser.ParseError``, also for one that is nested too deeply."""
    if len(text) > LONGEST:
        raise pglast.parser.ParseError(f"a text of {len(text)} characters, more than {LONGEST}", 0)
    if len(text) > _HARMLESS:
        _require_shallow(text)
    found: Tuple[Any, ...] = pglast.parse_sql(text)
    return found


def _require_shallow(text: str) -> None:
    """Raise ``ParseError`` for a text whose tree is too deep, or takes too much time or memory."""
    place = os.path.dirname(os.path.dirname(os.path.abspath(pglast.__file__)))
    limits = f"SECONDS, MEMORY, PLACE = {_SECONDS}, {_MEMORY}, {place!r}\n"
    try:
        run = subprocess.run(
            [sys.executable, "-I", "-c", limits + _MEASURE],
            input=text.encode("utf-8"),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise pglast.parser.ParseError(f"parsing takes longer than {_SECONDS} s", 0) from None
    said = run.stdout.decode("ascii", "replace").strip()
    if run.returncode or not said:
        raise pglast.parser.ParseError(f"the parser ended unexpectedly (status {run.returncode})", 0)
    if not 0 <= int(said) <= DEEPEST:
        raise pglast.parser.ParseError("expressions are nested too deeply, as in 1+1+1+… some thousand times", 0)
