# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split an SQL file into statements whose byte ranges, put together, are the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, FrozenSet, List, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem, Repair
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.parsing import parse_sql
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import is_concurrent, is_node

try:
    import pglast
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: Why a byte or character is not accepted, in the order in which it is looked for.
_CHARACTERS: Tuple[Tuple[str, str, str], ...] = (
    ("\ufeff", "a byte order mark", "save the file as UTF-8 without one"),
    ("\x00", "a NUL byte", "save the file as UTF-8 text"),
    ("\r", "a carriage return", "save the file with LF line ends"),
)

_CONTROL = re.compile("[\x01-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_COPY_STDIN = re.compile(r"\bcopy\b[^;]*\bfrom\s+stdin\b", re.IGNORECASE)

# The line that ends the data of a COPY.
_END_OF_DATA = re.compile(r"^\\\.$", re.MULTILINE)

_END_OF_LINE = re.compile(r"$", re.MULTILINE)

# How many psql commands and COPY statements of a file are looked past.
_MOST_LEFT_OUT = 200


@dataclass
class SqlPiece:
    """A statement of a file: its byte range, its line and text, and its parse tree."""

    start: int
    end: int
    line: int
    text: str
    node: Any


class StatementReporter:
    """Adds problems of one statement."""

    def __init__(self, file: str, piece: SqlPiece, problems: List[Problem]) -> None:
        self.file = file
        self.piece = piece
        self.problems = problems

    def __call__(self, what: str, expected: str = "", next_step: str = "", repair: Optional[Repair] = None) -> None:
        """Add a problem."""
        text = " ".join(self.piece.text.split())
        self.problems.append(
            Problem(
                self.file, self.piece.line, "", what, expected, found=text[:160], next_step=next_step, repair=repair
            )
        )


def split_file(source: SourceFile, problems: List[Problem]) -> List[SqlPiece]:
    """Split a file into statements whose byte ranges, put together, are the file.

    Comments before a statement belong to it, what follows the last statement belongs to that. Returns [] if the file
    cannot be split; the reason is then in ``problems``.
    """
    try:
        text = source.data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = source.data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{source.data[error.start]:02x} at offset {error.start}"
        problems.append(Problem(source.path, line, "", "not UTF-8", found=found, next_step="save the file as UTF-8"))
        return []
    problem = _character_problem(source, text)
    if problem:
        problems.append(problem)
        return []
    parsed = _parsed(source, text, problems)
    if parsed is None:
        return []
    text, raw = parsed
    if not raw:
        problems.append(
            Problem(
                source.path, 1, "", "no statement", found="an empty file, or only comments", next_step="add the SQL"
            )
        )
        return []
    return _pieces(text, raw)


def _parsed(source: SourceFile, text: str, problems: List[Problem]) -> Optional[Tuple[str, Tuple[Any, ...]]]:
    """Return the text and its statements, or None; what is no SQL is in ``problems``.

    What psql would read itself is replaced by blanks, so that everything else in the file is looked at in the same round.
    """
    for _left_out in range(_MOST_LEFT_OUT):
        try:
            return text, parse_sql(text)
        except pglast.parser.ParseError as error:  # noqa: PERF203 - each is another text
            problems.append(_syntax_problem(source, text, error))
            rest = _without_psql(text, _location(text, error))
            if rest is None:
                break
            text = rest
    return None


def _location(text: str, error: Any) -> int:
    """Return where in the text the parser stopped."""
    location = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else len(text)
    return min(location, len(text))


def _without_psql(text: str, location: int) -> Optional[str]:
    """Return the text without the psql command or the COPY data that the parser stopped at, None when it is neither."""
    copy = _COPY_STDIN.search(text, 0, location)
    if text[location : location + 1] == "\\":
        start, end = location, _END_OF_LINE.search(text, location).start()  # type: ignore[union-attr]  # $ matches
    elif copy:
        last = _END_OF_DATA.search(text, copy.end())
        start, end = copy.start(), last.end() if last else len(text)
    else:
        return None
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def _pieces(text: str, raw: Sequence[Any]) -> List[SqlPiece]:
    pieces: List[SqlPiece] = []
    start = position = scanned = 0
    line = 1
    for statement in raw:
        # pglast counts characters; the plan counts bytes of the UTF-8 file
        first = statement.stmt_location
        last = first + statement.stmt_len if statement.stmt_len else len(text)
        until = len(text) if statement is raw[-1] else last + 1
        end = start + len(text[position:until].encode("utf-8"))
        line += text.count("\n", scanned, first)
        pieces.append(SqlPiece(start, end, line, text[first:last], statement.stmt))
        start, position, scanned = end, until, first
    return pieces


def _character_problem(source: SourceFile, text: str) -> Optional[Problem]:
    for character, what, step in _CHARACTERS:
        if character in text:
            line = text.count("\n", 0, text.index(character)) + 1
            return Problem(source.path, line, "", what, next_step=step)
    match = _CONTROL.search(text)
    if match:
        line = text.count("\n", 0, match.start()) + 1
        found = f"U+{ord(match.group()):04X}"
        step = "remove it, or write it as an escape such as E'\\u000B'"
        return Problem(source.path, line, "", "disallowed control character", found=found, next_step=step)
    return None


def _syntax_problem(source: SourceFile, text: str, error: Any) -> Problem:
    message, location = error.args[0], _location(text, error)
    line = text.count("\n", 0, location) + 1
    found = text.splitlines()[line - 1].strip()[:160] if line <= len(text.splitlines()) else ""
    copy = _COPY_STDIN.search(text, 0, location)
    what, step = f"not SQL: {message}", "correct the statement; PostgreSQL's own parser rejects it"
    if text[location : location + 1] == "\\":
        what = "a psql command; a phase is plain SQL, which psql does not interpret"
        step = "remove it"
    elif text[location : location + 1] == ":":
        what, step = f"{what} (a psql variable?)", "write the value itself; psql does not interpret the file"
    elif copy:
        line = text.count("\n", 0, copy.start()) + 1
        found = " ".join(copy.group().split())[:160]
        what, step = "COPY FROM STDIN: a phase cannot carry COPY data", "write INSERT … VALUES"
    return Problem(source.path, line, "", what, found=found, next_step=step)


def transaction_pieces(pieces: Sequence[SqlPiece], late: Callable[[Any], bool] = is_concurrent) -> Sequence[SqlPiece]:
    """Return the statements of the transaction: to the only COMMIT of a file that begins with BEGIN.

    In any other file, all but those at the end that run after it, as ``late`` tells by their parse tree.
    """
    control = [n for n, piece in enumerate(pieces, start=1) if is_node(piece.node, ast.TransactionStmt)]
    if control[1:] and not control[2:] and outer_pieces(pieces[: control[1]]):
        return pieces[: control[1]]
    last = max((n for n, piece in enumerate(pieces, start=1) if not late(piece.node)), default=0)
    return pieces[:last]


def outer_pieces(pieces: Sequence[SqlPiece]) -> FrozenSet[int]:
    """Return the numbers of the file's own BEGIN and COMMIT, if it has both, first and last."""
    if not pieces:
        return frozenset()
    kinds = [piece.node.kind.name if is_node(piece.node, ast.TransactionStmt) else "" for piece in pieces]
    opens = kinds[0] in ("TRANS_STMT_BEGIN", "TRANS_STMT_START") and not pieces[0].node.options
    closes = kinds[-1] == "TRANS_STMT_COMMIT" and not pieces[-1].node.chain
    return frozenset({1, len(pieces)}) if opens and closes else frozenset()
