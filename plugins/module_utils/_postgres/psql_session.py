# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

r"""One open psql process as a transport for SQL that phasegate generates.

psql never interprets a phase author's text here: everything that comes from a phase is a dollar-quoted literal
(see ``quoting.literal``) inside a statement of our own. psql only carries requests to the server and answers back.

The protocol of one request: the SQL, then ``\echo`` with a random token, SQLSTATE and the row count on standard
output, and ``\warn`` with the same token on standard error. psql flushes both after a backslash command, so
reading up to the token on each stream gives exactly the answer to this request. Whether a statement failed, and with which
SQLSTATE, is read from psql's variables behind the token; the text of the error from ``\errverbose``, framed on its own. What
a notice looks like decides nothing. Several requests may be sent before the first answer is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import secrets
import subprocess
import threading
from dataclasses import dataclass, field, replace
from typing import IO, Any, Callable, ContextManager, Iterator, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import shortened
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import copy_field, literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import NEWEST

# VERBOSITY=verbose puts the SQLSTATE behind the severity, which a server may print in its own language
_MESSAGE = re.compile(r"^(?P<severity>\S+):\s+(?P<sqlstate>[0-9A-Z]{5}): (?P<text>.*)$")

_FIELD = re.compile(
    r"^(?P<name>DETAIL|HINT|CONTEXT|QUERY|LOCATION|STATEMENT|SCHEMA NAME|TABLE NAME|COLUMN NAME|"
    r"CONSTRAINT NAME|DATATYPE NAME):\s+(?P<text>.*)$"
)

HARMLESS = ("DEBUG", "LOG", "INFO", "NOTICE", "WARNING")

# psql prefixes "psql:<stdin>:12: " when it reads a script, and its own messages with their severity
_LOCUS = re.compile(r"^psql:<stdin>:\d+: (?:error: )?")

# What psql's variable SQLSTATE has when no statement set it.
_UNSET = "unset"

# What psql 17 and 18 say is the code of the last error after one of what \gexec ran, and psql 18 after one among a COPY's rows.
_NO_CODE = ""

#: Between the statements of one message: psql sends them together.
ALSO = " \\;\n"

_PIECE = 1 << 16  # bytes: what a pipe holds


@dataclass
class Message:
    """One message of the server: severity (``ERROR``, ``NOTICE`` ...), SQLSTATE, text, and its other fields by name."""

    severity: str
    sqlstate: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def is_error(self) -> bool:
        """Return whether this ended a statement: by SQLSTATE class, unless the severity is a known harmless one."""
        return self.severity not in HARMLESS and self.sqlstate[:2] not in ("", "00", "01", "02")


class SqlError(PhaseGateError):
    """The server rejected a request. ``sqlstate`` has five characters; ``detail``, ``hint`` and ``context`` may be ''."""

    def __init__(self, message: Message) -> None:
        self.sqlstate = message.sqlstate
        self.text = message.text
        self.detail = message.fields.get("DETAIL", "")
        self.hint = message.fields.get("HINT", "")
        self.context = message.fields.get("CONTEXT", "")
        super().__init__(
            "PostgreSQL rejected a statement issued by phasegate.",
            expected="the statement succeeds",
            found=self.words(),
            next_step="if a privilege is missing, grant it to this role; else see the server's log",
        )

    def words(self) -> str:
        """Return the server's message in one line."""
        text, detail, hint = map(shortened, (self.text, self.detail, self.hint))
        parts = (text, f"({detail})" if detail else "", f"Hint: {hint}" if hint else "")
        return f"{self.sqlstate}: " + " ".join(part for part in parts if part)


class ConnectionLost(PhaseGateError):
    """psql or its connection ended during a request: whether the server executed it is unknown."""


@dataclass
class StatementOutcome:
    """The server's answer to one request: rows affected by its last statement, and the notices on the way."""

    row_count: int
    notices: list[Message]


def parse_messages(lines: list[str]) -> list[Message]:
    """Turn psql's verbose standard error lines into messages; lines that start nothing continue the field before."""
    messages: list[Message] = []
    current_field: str | None = None
    for line in lines:
        text = _LOCUS.sub("", line)
        start = _MESSAGE.match(text)
        if start:
            messages.append(Message(start["severity"], start["sqlstate"], start["text"]))
            current_field = None
            continue
        more = _FIELD.match(text)
        if more and messages:
            current_field = more["name"]
            messages[-1].fields[current_field] = more["text"]
        elif messages and current_field:
            messages[-1].fields[current_field] += "\n" + text
        elif messages:
            messages[-1].text += "\n" + text
        else:
            messages.append(Message("LOG", "", text))
    return messages


def parse_notices(lines: list[str]) -> list[Message]:
    """Return the messages of a request that are no errors; a line that looks like an error is a part of a notice's text."""
    notices: list[Message] = []
    for message in parse_messages(lines):
        if message.severity in HARMLESS or not notices:
            notices.append(message if message.severity in HARMLESS else replace(message, severity="NOTICE"))
        else:
            notices[-1].text += f"\n{message.severity}:  {message.sqlstate}: {message.text}"
    return notices


def single_message(lines: list[str], sqlstate: str) -> Message:
    """Return the one message that lines are, whatever they look like: its first line begins it, and its fields follow.

    psql prints the fields in one order, each once; the text ends at the first line that begins a field.
    """
    first = _MESSAGE.match(lines[0]) if lines else None
    message = Message("ERROR", sqlstate, first["text"] if first else (lines or [""])[0])
    current_field: str | None = None
    for line in lines[1:]:
        more = _FIELD.match(line)
        if more and more["name"] not in message.fields:
            current_field = more["name"]
            message.fields[current_field] = more["text"]
        elif current_field:
            message.fields[current_field] += "\n" + line
        else:
            message.text += "\n" + line
    return message


def _broken_copy(lines: list[str]) -> tuple[Message | None, list[str]]:
    """Return the error of a COPY that ended among its rows, and its lines: psql sets no variable then.

    It is the last of the request's messages. None for a request without any statement.
    """
    found = [_MESSAGE.match(_LOCUS.sub("", line)) for line in lines]
    starts = [number for number, one in enumerate(found) if one and one["severity"] not in HARMLESS]
    if not starts:
        return None, []
    own = lines[starts[-1] :]
    own[0] = _LOCUS.sub("", own[0])
    start = _MESSAGE.match(own[0])
    return single_message(own, start["sqlstate"] if start else ""), own


def _repeated(lines: list[str], sqlstate: str) -> tuple[Message, list[str]]:
    r"""Return the error that psql has repeated by \errverbose, and its lines."""
    lines = [_LOCUS.sub("", line) for line in lines[:1]] + lines[1:]
    return single_message(lines, sqlstate), lines


def _without_code(lines: list[str], last: list[str]) -> tuple[Message, list[str]]:
    """Return the error of a request for which psql tells no code, and its lines.

    It is the one that psql repeats, ``last``, where this request had it, else the last that its ``lines`` have.
    """
    error, own = _repeated(last, _NO_CODE)
    if not own or _without(lines, own) == lines:
        found, own = _broken_copy(lines)
        return found or Message("ERROR", "XX000", "psql reports an error without its message"), own
    start = _MESSAGE.match(own[0])
    error.sqlstate = start["sqlstate"] if start else ""
    return error, own


def _without(lines: list[str], own: list[str]) -> list[str]:
    """Return the lines of a request without those of its error: the last ones that are equal, the first by its end."""
    for start in range(len(lines) - len(own), -1, -1):
        here = lines[start : start + len(own)]
        if [_LOCUS.sub("", line) for line in here[:1]] + here[1:] == own:
            return lines[:start] + lines[start + len(own) :]
    return lines


def _framed(sql: str, token: str) -> str:
    """Return a request with what makes its answer readable."""
    return (
        # psql sets it at an error of any statement of the request
        f"\\set LAST_ERROR_SQLSTATE 00000\n\\set SQLSTATE {_UNSET}\n\\set ROW_COUNT 0\n"
        f"{sql}\n;\n\\echo {token} :SQLSTATE :ROW_COUNT :LAST_ERROR_SQLSTATE\n\\warn {token}\n"
        # where there was no error yet, psql says so on standard output
        f"\\errverbose\n\\echo {token}-end\n\\warn {token}-end\n"
    )


class Session:
    """An open psql connection. Use ``Client.session()``; not thread-safe.

    ``process`` reads SQL on its standard input. Every method sends one request and waits for its whole answer.
    ``another`` opens a second session like this one; ``major`` is the server's major version.
    """

    def __init__(self, process: subprocess.Popen[bytes], another: Callable[[], ContextManager[Session]]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.another = another
        #: The server's major version.
        self.major = NEWEST
        self._process = process
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        self._errors: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._left = False
        # what psql has answered beyond the answer that was read
        self._ahead = b""
        threading.Thread(target=self._drain, args=(process.stderr,), daemon=True).start()

    def _drain(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._errors.put(line.decode("utf-8", "replace").rstrip("\n"))
        self._errors.put(None)

    def _send(self, *requests: str) -> list[str]:
        """Send requests and return their tokens, in order."""
        tokens = [f"phasegate-{secrets.token_hex(12)}" for _request in requests]
        text = "".join(map(_framed, requests, tokens))
        if len(text) < _PIECE:
            self._write(text)
        else:
            # psql answers meanwhile, and somebody has to read it
            threading.Thread(target=self._write_all, args=(text,), daemon=True).start()
        return tokens

    def _write_all(self, text: str) -> None:
        # the reader notices it, too
        with contextlib.suppress(ConnectionLost, OSError, ValueError):
            self._write(text)

    def _write(self, request: str) -> None:
        try:
            self._stdin.write(request.encode("utf-8"))
            self._stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._lost() from None

    def _lost(self) -> ConnectionLost:
        messages = []
        while True:
            try:
                line = self._errors.get(timeout=5)
            except queue.Empty:
                break
            if line is None:
                self._errors.put(None)  # for the next request, which is lost as well
                break
            messages.append(line)
        self._process.wait()
        said = "; ".join(line for line in messages if line) or f"psql ended with status {self._process.returncode}"
        return ConnectionLost(
            "Lost the connection to PostgreSQL.",
            expected="an open session for the whole step",
            found=said,
            next_step="check that the server and its container run and that the connection settings are right, then run again",
        )

    def _lines(self, token: str) -> list[str]:
        """Return the lines on standard error up to the token."""
        lines: list[str] = []
        while True:
            line = self._errors.get()
            if line is None:
                self._errors.put(None)
                raise self._lost()
            if line == token:
                return lines
            lines.append(line)

    def _answer(self, token: str) -> Iterator[str]:
        """Yield the answer's lines; return after its token, raising ``SqlError`` when the server rejected it."""
        mark, close = f"\n{token} ".encode(), f"\n{token}-end\n".encode()
        data, self._ahead, fresh = bytearray(b"\n" + self._ahead), b"", 0
        while True:
            # what was there before has no mark, but may have its beginning: a line can have hundreds of megabytes
            begin = data.find(mark, max(0, fresh - len(mark)))
            end = data.find(close, begin) if begin >= 0 else -1
            if end >= 0:
                break
            # in pieces as they come: a large schema has some hundred thousand lines
            known = begin if begin >= 0 else data.rfind(b"\n", fresh)
            if known > 0:
                yield from data[1:known].decode("utf-8").split("\n")
                del data[:known]
            fresh = 0 if begin >= 0 else len(data)
            piece = os.read(self._stdout.fileno(), _PIECE)
            if not piece:
                raise self._lost()
            data += piece
        if begin > 0:
            yield from data[1:begin].decode("utf-8").split("\n")
        # what follows belongs to the next answer
        self._ahead = bytes(data[end + len(close) :])
        told = data[begin + 1 : end].partition(b"\n")[0]
        _token, sqlstate, row_count, failed = told.decode("utf-8").split(" ")
        lines = self._lines(token)
        # the last error of the session, which psql repeats on its own: this request's, or an older one
        last = self._lines(f"{token}-end")
        # psql says whether there was an error: no text decides that
        error: Message | None = None
        own: list[str] = []
        if failed not in ("00000", _NO_CODE):
            error, own = _repeated(last, failed)
        elif failed == _NO_CODE:
            error, own = _without_code(lines, last)
        elif sqlstate == _UNSET:
            error, own = _broken_copy(lines)
        self._last = StatementOutcome(int(row_count), parse_notices(_without(lines, own)))
        if error:
            raise SqlError(error)

    def execute(self, sql: str) -> StatementOutcome:
        """Run generated SQL and return its outcome. Raises ``SqlError`` or ``ConnectionLost``."""
        for _line in self._answer(self._send(sql)[0]):
            pass
        return self._last

    def batch(self, requests: Sequence[str]) -> list[list[str] | SqlError]:
        """Send all requests at once; return the lines of each one's answer, or the server's error, in order.

        For an open transaction: what follows a request that failed fails as well. Raises ``ConnectionLost``.
        """
        return [self._lines_or_error(token) for token in self._send(*requests)]

    def message(self, requests: Sequence[str], *, one_line: bool = False) -> list[list[str] | SqlError]:
        """Send all requests in one message to the server and return the lines of each one's answer, in order.

        The server takes the next request without waiting for psql. At the first error it leaves the rest: that error is the last
        item then. A request is one statement, or several with ``ALSO`` between; what is no COPY must not return rows.
        ``one_line`` says that the answer to each request is exactly one line. Otherwise a row ends each answer, whose text a
        function behind a view could find out and return as a row of its own: only catalogs may be read so.
        ``statement_timeout`` holds for each statement. Raises ``ConnectionLost``.
        """
        end = "" if one_line else f"phasegate-{secrets.token_hex(12)}"
        last = f"{ALSO}COPY (SELECT '{end}') TO STDOUT" if end else ""
        answers: list[list[str] | SqlError] = []
        lines: list[str] = []
        try:
            for line in self._answer(self._send(ALSO.join(request + last for request in requests))[0]):
                if line != end:
                    lines.append(line)
                if one_line or line == end:
                    answers.append(lines)
                    lines = []
        except SqlError as error:
            answers.append(error)
        return answers

    def _lines_or_error(self, token: str) -> list[str] | SqlError:
        try:
            return list(self._answer(token))
        except SqlError as error:
            return error

    def copy(self, query: str) -> Iterator[tuple[str | None, ...]]:
        """Stream the rows of ``query`` as tuples of text fields (None is NULL). The caller must read to the end."""
        return self.copied(f"COPY ({query}) TO STDOUT")

    def copied(self, sql: str) -> Iterator[tuple[str | None, ...]]:
        """Run generated SQL and stream the rows of its COPY statements; see ``copy``."""
        for line in self._answer(self._send(sql)[0]):
            yield tuple(copy_field(part) for part in line.split("\t"))

    def copy_lines(self, query: str) -> Iterator[str]:
        """Stream the rows of ``query`` as COPY's text format writes them, undecoded; otherwise as ``copy``."""
        return self._answer(self._send(f"COPY ({query}) TO STDOUT")[0])

    def rows(self, query: str) -> list[tuple[str | None, ...]]:
        """Return all rows of ``query``; see ``copy``."""
        return list(self.copy(query))

    def value(self, query: str) -> str | None:
        """Return the first field of the only row of ``query``. Raises ``LookupError`` when there is not exactly one row."""
        rows = self.rows(query)
        if len(rows) != 1:
            raise LookupError(f"one row expected, {len(rows)} found: {query}")
        return rows[0][0]

    def json(self, query: str) -> Any:
        """Return the decoded JSON in the first field of the only row of ``query``."""
        text = self.value(query)
        return None if text is None else json.loads(text)

    def set(self, name: str, value: str, *, local: bool = False) -> None:
        """Set a run-time parameter for the session, or with ``local`` for the transaction."""
        scope = "true" if local else "false"
        self.execute(f"COPY (SELECT pg_catalog.set_config({literal(name)}, {literal(value)}, {scope})) TO STDOUT")

    @property
    def descriptors(self) -> tuple[int, int]:
        """Return the file descriptors that lead to psql and from it, for a process that keeps it open."""
        return self._stdin.fileno(), self._stdout.fileno()

    def leave(self) -> None:
        """Release psql without ending it: a process that has inherited its pipes continues to use it."""
        self._stdin.close()
        self._left = True

    def close(self) -> None:
        """End psql, unless it was left; a transaction that is still open is rolled back by the server."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        if not self._left:
            self._process.wait()
