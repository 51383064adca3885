# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan: the reviewed content as bytes that can be signed, and the checks of the target before it runs them.

Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Dict, List, Mapping, Pattern, Sequence, Tuple, TypedDict

from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError

FORMAT = "phasegate-plan/1"


class Statement(TypedDict):
    """A statement of an SQL file. ``start`` and ``end`` are byte offsets, ``line`` counts from 1, so does ``n``.

    ``run`` is false for the file's own BEGIN and COMMIT, which phasegate does not send. ``relations`` are the tables,
    views, indexes and sequences that it names, each as SQL text with its schema; ``needs`` the privileges that it needs
    (``_privileges``). ``after_commit`` is empty for a
    statement of the transaction; for one that cannot run in a transaction it is the index or partition that it creates,
    drops, rebuilds or detaches, as SQL text with its schema.
    """

    n: int
    start: int
    end: int
    line: int
    tag: str
    kinds: List[str]
    relations: List[str]
    needs: List[str]
    returns_rows: bool
    run: bool
    after_commit: str


def canonical_json(value: Any) -> bytes:
    """Return the one UTF-8 form of ``value``: keys sorted, no spaces, a newline at the end. Floats are an error."""
    _refuse_floats(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("a plan contains no floating-point numbers: their text is not unique")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_floats(item)


def digest(data: bytes) -> str:
    """Return the SHA-256 of ``data``, lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def pinned(name: str, data: bytes) -> Dict[str, Any]:
    """Return the plan's entry of a file: name, SHA-256 and size."""
    return {"file": name, "sha256": digest(data), "bytes": len(data)}


def build_plan(
    phase: Mapping[str, Any],
    definition: Mapping[str, Any],
    ddl: Mapping[str, Any],
    rollback: Mapping[str, Any],
) -> Dict[str, Any]:
    """Return the plan of a phase.

    ``phase`` is phase.yml with its defaults; ``definition``, ``ddl`` and ``rollback`` are the ``pinned`` entries of the
    three files, the last two with their ``statements``.
    """
    return {
        "format": FORMAT,
        "phase": dict(phase),
        "definition": dict(definition),
        "ddl": dict(ddl),
        "rollback": dict(rollback),
    }


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


def check_cover(statements: Sequence[Mapping[str, Any]], data: bytes, sha256: str, name: str = "the file") -> None:
    """Check, without a parser, that ``statements`` are exactly the file whose bytes are ``data``.

    The digest is the required one, the ranges are contiguous from the first byte to the last, none is empty, only a
    BEGIN as the first and a COMMIT as the last statement of the transaction, both together, are left out of the run, and
    what runs after COMMIT is at the end and begins as such a statement does.
    Raises ``PhaseGateError``.
    """
    found = digest(data)
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
        text = data[statement["start"] : statement["end"]]
        if statement["after_commit"] and index < first:
            raise _not_covered(name, "statements after COMMIT at the end only", repr(text[:80]))
        if statement["after_commit"] and not _AFTER_COMMIT.match(text, _after_space(text, 0)):
            raise _not_covered(name, "a statement with CONCURRENTLY after COMMIT", repr(text[:80]))


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


def freeze(document: Mapping[str, Any]) -> Dict[str, Any]:
    """Return ``document`` with ``content_sha256``, the SHA-256 of its canonical JSON without that key.

    It detects a change to a document after it was frozen; it proves nothing, signatures do.
    """
    bare = {key: value for key, value in document.items() if key != "content_sha256"}
    return {**bare, "content_sha256": digest(canonical_json(bare))}


def thawed(data: bytes) -> Tuple[Dict[str, Any], str]:
    """Return the frozen document whose canonical JSON is ``data``, and what is wrong with it, empty when nothing is."""
    try:
        document = json.loads(data.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float)
        frozen = freeze(document) if isinstance(document, dict) else {}
        canonical = canonical_json(document)
    except ValueError as error:
        return {}, f"not JSON in UTF-8 ({error})"
    if not isinstance(document, dict):
        return {}, "not a JSON object"
    found, expected = frozen["content_sha256"], document.get("content_sha256")
    if found != expected:
        return document, f"its content has SHA-256 {found}, but it was frozen with {expected or 'none'}"
    return document, "" if canonical == data else "its bytes differ from the canonical form of its content"


def _no_float(text: str) -> None:
    raise ValueError(f"a floating-point number: {text}")


def freeze_plan(
    plan: Mapping[str, Any],
    *,
    target: Mapping[str, Any],
    rehearsal: Mapping[str, Any],
    tools: Mapping[str, str],
    author: str,
    nonce: str,
    created_at: str,
    not_after: str,
) -> Dict[str, Any]:
    """Return the content of plan.json: the plan of a phase, with what its rehearsal proved and measured.

    ``plan`` is what ``build_plan`` returns. ``target`` is the cluster that the plan is for, ``tools`` are versions by
    name, ``nonce`` is hexadecimal, the times are ISO 8601 in UTC. The form of all parts is that of ``_plan_schema``. Same
    arguments, same bytes: ``canonical_json`` of the result is what reviewers sign.
    """
    return freeze(
        {
            **plan,
            "target": dict(target),
            "rehearsal": dict(rehearsal),
            "tools": dict(tools),
            "author": author,
            "nonce": nonce,
            "created_at": created_at,
            "not_after": not_after,
        }
    )
