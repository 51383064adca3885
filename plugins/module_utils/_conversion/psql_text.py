# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What psql itself would read of a file: its commands, and the data of COPY. Controller only."""

from __future__ import annotations

import re
from typing import Iterator, List, Match, Optional, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import LexError, spans
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.change import Script
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import Edit, SourceText
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem

#: The most rows and bytes of COPY that become an INSERT, which people read.
MOST_ROWS = 1000
MOST_BYTES = 100_000

#: psql's commands that change nothing but what psql shows and the variables that it has.
_WITHOUT_EFFECT = frozenset(
    {*("a", "c", "C", "connect", "conninfo", "echo", "errverbose", "f", "H", "p", "pset", "qecho", "restrict")}
    | {*("set", "t", "T", "timing", "unrestrict", "unset", "warn", "x")}
)
_OTHER_DATABASE = ("c", "connect")

_COMMAND = re.compile(rb"\\(?P<name>[A-Za-z]+|.?)[^\n]*")
_UTF8 = re.compile(rb"\\encoding\s+'?utf-?8'?\s*", re.IGNORECASE)
_COPY = re.compile(rb"copy\s+(?P<into>.+?)\s+from\s+stdin\s*(?P<options>.*?)\s*;", re.IGNORECASE | re.DOTALL)
_END_OF_DATA = re.compile(rb"^\\\.[ \t]*$\n?", re.MULTILINE)


def without_psql(script: Script, problems: List[Problem], notes: List[str]) -> SourceText:
    """Return a script as the server reads it; what cannot be converted is left out of it, and in ``problems``."""
    data = script.text.data
    edits: List[Edit] = []
    for start, end, copy in _found(data):
        line = script.text.line(start)
        if copy is None:
            new, what, step = b"", *_command(data[start:end], f"{script.path}:{line}", notes)
        else:
            new, what, step = _insert(copy, data[start + copy.end() : end])
        edits.append((start, end, new))
        if what:
            found = " ".join(data[start:end].partition(b"\n")[0].decode("utf-8", "replace").split())[:160]
            problems.append(Problem(script.path, line, "", what, found=found, next_step=step))
    return script.text.edited(edits)


def _found(data: bytes) -> Iterator[Tuple[int, int, Optional[Match[bytes]]]]:
    """Yield where psql's commands are, and statements COPY … FROM stdin with their data."""
    position: Optional[int] = 0
    while position is not None:
        start, copy = _next(data, position)
        if start is None:
            return
        if copy is None:
            command = _COMMAND.match(data, start)
            end = command.end() if command else start + 1
        else:
            # the data begin on the line after the statement
            last = _END_OF_DATA.search(data, start + copy.end())
            end = last.end() if last else len(data)
        yield start, end, copy
        position = end


def _next(data: bytes, position: int) -> Tuple[Optional[int], Optional[Match[bytes]]]:
    begin = -1
    rest = data[position:]
    try:
        for start, end, kind, _opening in spans(rest):
            if kind in ("space", "comment"):
                continue
            if kind == "other" and b"\\" in rest[start:end]:
                return position + start + rest[start:end].index(b"\\"), None
            begin = start if begin < 0 else begin
            if kind == "end":
                copy = _COPY.fullmatch(rest[begin:end])
                if copy:
                    return position + begin, copy
                begin = -1
    except LexError:
        # where the statements are parsed, it is told
        pass
    return None, None


def _command(command: bytes, at: str, notes: List[str]) -> Tuple[str, str]:
    """Return what is wrong with a psql command that is left out, '' for nothing, and what to do."""
    found = _COMMAND.match(command)
    name = found["name"].decode("utf-8", "replace") if found else ""
    if name in _OTHER_DATABASE:
        notes.append(f"{at}: \\{name} is left out: a phase runs in the database of its target")
    if name in _WITHOUT_EFFECT or _UTF8.fullmatch(command):
        return "", ""
    return f"the psql command \\{name}: psql does not read a phase", _STEPS.get(name, "write what it does as SQL")


_STEPS = {
    "i": "put the file that it names there, or make a phase of that",
    "ir": "put the file that it names there, or make a phase of that",
    "copy": "write INSERT … VALUES, or load the data beside the phase",
    "gexec": "write the statements that it would run",
    "if": "write the branch that is meant",
    "elif": "write the branch that is meant",
    "else": "write the branch that is meant",
    "endif": "write the branch that is meant",
}


def _insert(copy: Match[bytes], data: bytes) -> Tuple[bytes, str, str]:
    """Return the INSERT for the data of a COPY, or what is wrong with it and what to do."""
    rows = _END_OF_DATA.sub(b"", data).partition(b"\n")[2].split(b"\n")[:-1]
    step = "load the data beside the phase, before or after it, or write them as INSERT in several phases"
    if copy["options"]:
        return b"", "COPY FROM STDIN with options: its data are not converted", "write INSERT … VALUES"
    if b"(" not in copy["into"]:
        return b"", "COPY FROM STDIN without its columns: its data are not converted", "write INSERT … VALUES"
    if len(rows) > MOST_ROWS or len(data) > MOST_BYTES:
        what = f"COPY FROM STDIN of {len(rows)} rows, {len(data)} bytes: too much for SQL that people read"
        return b"", f"{what} (at most {MOST_ROWS} rows, {MOST_BYTES} bytes)", step
    if not rows:
        return b"", "", ""
    values = [b"(%s)" % b", ".join(_literal(field) for field in row.split(b"\t")) for row in rows]
    # COPY writes identity columns, whatever they are
    return b"INSERT INTO %s OVERRIDING SYSTEM VALUE VALUES\n    %s;\n" % (copy["into"], b",\n    ".join(values)), "", ""


_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_UNPRINTED = re.compile(rb"[\x00-\x1f\x7f]")


def _literal(field: bytes) -> bytes:
    """Return a field of COPY's text format as SQL."""
    if field == b"\\N":
        return b"NULL"
    value = _ESCAPE.sub(_unescaped, field).replace(b"'", b"''")
    if not _UNPRINTED.search(value):
        return b"'%s'" % value
    return b"E'%s'" % _UNPRINTED.sub(lambda one: b"\\x%02x" % one[0][0], value.replace(b"\\", b"\\\\"))


def _unescaped(found: Match[bytes]) -> bytes:
    text = found[1]
    if text[:1] == b"x" and text[1:]:
        return bytes([int(text[1:], 16)])
    if text.isdigit() and text[0] < ord("8"):
        return bytes([int(text, 8) & 0xFF])
    return _LETTERS.get(text, text)
