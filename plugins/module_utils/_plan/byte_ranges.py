# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that a plan's statement ranges, put together, are the file."""

from __future__ import annotations

import re
from typing import Any, Mapping, Pattern, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import EITHER_KINDS

_SPACE = re.compile(rb"[ \t\n\r\f\v]+|--[^\n]*(?:\n|\Z)")

_BEGIN = re.compile(rb"(?:begin(?:\s+(?:work|transaction))?|start\s+transaction)\s*;?", re.IGNORECASE)

_COMMIT = re.compile(rb"(?:commit|end)(?:\s+(?:work|transaction))?\s*;?", re.IGNORECASE)

_NAME = rb'(?:"(?:[^"]|"")+"|[\w$\x80-\xff]+)'

_QUALIFIED = rb"(?:" + _NAME + rb"\s*\.\s*)?" + _NAME

# Statements that may run outside a transaction. The server rejects each of them in a text of several statements.
_AFTER_COMMIT = re.compile(
    rb"(?:create\s+(?:unique\s+)?index|drop\s+index|reindex\s*(?:\([^()]*\)\s*)?(?:index|table)"
    rb"|alter\s+table\s+" + _QUALIFIED + rb"\s+detach\s+partition\s+" + _QUALIFIED + rb")\s+concurrently\b",
    re.IGNORECASE,
)


# Statements that may stand in either place. The server accepts more than one action: nothing else may be in their text.
_EITHER = re.compile(
    rb"alter\s+(?:table\s+(?:only\s+)?"
    + _QUALIFIED
    + rb"\s+(?:validate\s+constraint\s+"
    + _NAME
    + rb"|alter\s+(?:column\s+)?"
    + _NAME
    + rb"\s+set\s+not\s+null)|index\s+"
    + _QUALIFIED
    + rb"\s+attach\s+partition\s+"
    + _QUALIFIED
    + rb")\s*;?",
    re.IGNORECASE,
)

# Statements that run in batches.
_BATCHED = re.compile(rb"(?:update|delete\s+from)\b", re.IGNORECASE)


def _after_space(data: bytes, position: int) -> int:
    """Return the offset of the first byte at or after ``position`` that is neither space nor comment."""
    while True:
        match = _SPACE.match(data, position)
        if match and match.end() > position:
            position = match.end()
        elif data.startswith(b"/*", position):
            position = _after_block(data, position)
        else:
            return position


def _after_block(data: bytes, position: int) -> int:
    """Return the offset after the (possibly nested) block comment that starts at ``position``."""
    depth = 0
    while position < len(data):
        if data.startswith(b"/*", position):
            depth += 1
            position += 2
        elif data.startswith(b"*/", position):
            depth -= 1
            position += 2
            if depth == 0:
                break
        else:
            position += 1
    return position


def _is_only(data: bytes, pattern: Pattern[bytes]) -> bool:
    """Return whether ``data`` is only comments and the one statement that ``pattern`` matches."""
    match = pattern.match(data, _after_space(data, 0))
    return match is not None and _after_space(data, match.end()) == len(data)


def check_cover(
    statements: Sequence[Mapping[str, Any]], data: bytes, sha256: str, name: str = "the file", found: str = ""
) -> None:
    """Check, without a parser, that ``statements`` are exactly the file whose bytes are ``data``.

    The digest is the required one, the ranges are contiguous from the first byte to the last, none is empty, only a
    BEGIN as the first and a COMMIT as the last statement of the transaction, both together, are left out of the run, and
    what runs after COMMIT is at the end and begins as such a statement does. ``found`` is the digest of ``data`` where it
    is known. Raises ``PhaseGateError``.
    """
    found = found or sha256_bytes(data)
    if found != sha256:
        raise PhaseGateError(
            f"{name} differs from the file of the plan",
            expected=f"SHA-256 {sha256}",
            found=f"SHA-256 {found}",
            next_step="restore the reviewed file, or plan and review the changed one",
        )
    position = 0
    for statement in statements:
        start, end = statement["start"], statement["end"]
        if start != position or end <= start:
            raise _not_covered(name, f"a range from byte {position}", f"{start} to {end}")
        position = end
    if position != len(data):
        raise _not_covered(name, f"ranges up to byte {len(data)}", f"the last one ends at {position}")
    transaction = [statement for statement in statements if not statement["after_commit"]]
    _check_after_commit(statements, len(transaction), data, name)
    _check_left_out(transaction, data, name)


def _check_after_commit(statements: Sequence[Mapping[str, Any]], first: int, data: bytes, name: str) -> None:
    for index, statement in enumerate(statements):
        if not statement["after_commit"]:
            continue
        text = data[statement["start"] : statement["end"]]
        if index < first:
            raise _not_covered(name, "statements after COMMIT at the end only", repr(text[:80]))
        begin = _after_space(text, 0)
        if statement.get("batch"):
            there, words = bool(_BATCHED.match(text, begin)), "an UPDATE or DELETE in batches"
        elif statement["kinds"][0] in EITHER_KINDS:
            there, words = (
                _is_only(text, _EITHER),
                "VALIDATE CONSTRAINT, SET NOT NULL or ATTACH PARTITION of an index alone",
            )
        else:
            there, words = bool(_AFTER_COMMIT.match(text, begin)), "a statement with CONCURRENTLY"
        if not there:
            raise _not_covered(name, f"{words} after COMMIT", repr(text[:80]))


def _check_left_out(statements: Sequence[Mapping[str, Any]], data: bytes, name: str) -> None:
    left_out = [index for index, statement in enumerate(statements) if not statement["run"]]
    if not left_out:
        return
    if left_out != [0, len(statements) - 1] or len(statements) < 3:  # noqa: PLR2004 - BEGIN, one statement, COMMIT
        raise _not_covered(name, "only the first and the last statement left out", f"left out: {left_out}")
    for index, pattern, word in ((0, _BEGIN, "BEGIN"), (-1, _COMMIT, "COMMIT")):
        text = data[statements[index]["start"] : statements[index]["end"]]
        if not _is_only(text, pattern):
            raise _not_covered(name, f"a plain {word} where the plan leaves one out", repr(text[:80]))


def _not_covered(name: str, expected: str, found: str) -> PhaseGateError:
    return PhaseGateError(
        f"the plan's statements do not match {name}", expected=expected, found=found, next_step="plan the phase again"
    )
