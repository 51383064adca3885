# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The statements of a migration tool's file, each parsed by itself: what is wrong with one hides nothing of the others."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Iterator, List, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import LexError, spans
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import SourceText
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.sql_lexer import Command
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.parsing import parse_sql

try:
    import pglast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True


@dataclass
class Parsed:
    """A statement: its bytes from its first token to its semicolon, where they are, and its parse tree, None if it is no SQL."""

    start: int
    end: int
    sql: bytes
    node: Any


def ranges(data: bytes) -> Iterator[Tuple[int, int]]:
    """Yield where statements begin and end. Raises ``LexError``."""
    command, start, end = Command(), -1, 0
    for first, last, kind, opening in spans(data):
        if kind in ("space", "comment"):
            continue
        start = first if start < 0 else start
        end = last
        if command.ends_with(kind, opening):
            if command.size:
                yield start, end
            command, start = Command(), -1
    if start >= 0 and command.size:
        yield start, end


def parsed(text: SourceText, path: str, problems: List[Problem]) -> List[Parsed]:
    """Return the statements of a text; what is no SQL is in ``problems``, with its line in the file."""
    found: List[Tuple[int, int]] = []
    try:
        for one in ranges(text.data):
            found.append(one)  # noqa: PERF402 - what comes before an error stays
    except LexError as error:
        problems.append(
            Problem(path, text.line(error.start), "", f"not SQL: {error.what} is not closed", next_step="close it")
        )
    return [_parsed(text, start, end, path, problems) for start, end in found]


def _parsed(text: SourceText, start: int, end: int, path: str, problems: List[Problem]) -> Parsed:
    sql = text.data[start:end]
    try:
        (raw,) = parse_sql(sql.decode("utf-8"))
    except (pglast.parser.ParseError, ValueError) as error:
        problems.append(_problem(text, start, sql, path, error))
        return Parsed(start, end, sql, None)
    return Parsed(start, end, sql, raw.stmt)


def _problem(text: SourceText, start: int, sql: bytes, path: str, error: Exception) -> Problem:
    place = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else 0
    before = sql.decode("utf-8", "replace")[:place].encode()
    rest = sql[len(before) :]
    what, step = f"not SQL: {error.args[0]}", "correct it; PostgreSQL's own parser rejects the statement"
    if isinstance(error, UnicodeDecodeError):
        what, step = "not UTF-8", "save the file as UTF-8"
    elif rest.startswith(b":"):
        what, step = f"{what} (a psql variable?)", "write the value itself"
    elif rest.startswith((b"{", b"$")):
        what, step = f"{what} (a template?)", "write what the tool puts in its place"
    line = (sql[: len(before)].rpartition(b"\n")[2] + rest.partition(b"\n")[0]).decode("utf-8", "replace").strip()
    return Problem(path, text.line(start + len(before)), "", what, found=line[:160], next_step=step)


def statement_of(sql: bytes) -> Any:
    """Return the parse tree of a text that is one statement, None for any other."""
    with contextlib.suppress(pglast.parser.ParseError, ValueError):
        (raw,) = parse_sql(sql.decode("utf-8"))
        return raw.stmt
    return None
