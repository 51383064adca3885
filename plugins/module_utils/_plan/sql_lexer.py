# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small lexer of SQL for the target, which has no parser: one statement in each range, and its leading keywords.

It is a tripwire, not a proof of kind. It proves where a statement ends, and it compares the keywords that a command begins with
with the plan's tag and first kind. It does not see what an ALTER TABLE alters, which objects a statement names, or what
a function does; the controller's parser does (``_sql_analysis.plan_check``), and reviewers sign that.

Standard library only, Python 3.8.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import LexError, tokens
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import ALL_TAGS

_NOISE = {
    "CREATE": frozenset(
        [
            "OR",
            "REPLACE",
            "TEMP",
            "TEMPORARY",
            "LOCAL",
            "GLOBAL",
            "UNLOGGED",
            "RECURSIVE",
            "UNIQUE",
            "CONSTRAINT",
            "TRUSTED",
            "PROCEDURAL",
            "DEFAULT",
        ]
    ),
    "ALTER": frozenset({"PROCEDURAL"}),
    "DROP": frozenset({"PROCEDURAL"}),
}

_VERBS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE"})

_FURTHER_TAGS = frozenset({"CREATE TABLE AS", "GRANT ROLE", "REVOKE ROLE"})

#: Leading keywords → tag, where they are other words than the tag.
_OTHER_WORDS: Dict[Tuple[str, ...], str] = {
    ("ABORT",): "ROLLBACK",
    ("ANALYSE",): "ANALYZE",
    ("CLOSE",): "CLOSE CURSOR",
    ("DECLARE",): "DECLARE CURSOR",
    ("END",): "COMMIT",
    ("LOCK",): "LOCK TABLE",
    ("TABLE",): "SELECT",
    ("TRUNCATE",): "TRUNCATE TABLE",
    ("VALUES",): "SELECT",
}

_TAGS: Dict[Tuple[str, ...], str] = {
    **{tuple(tag.split()): tag for tag in ALL_TAGS - _FURTHER_TAGS},
    **_OTHER_WORDS,
}

_LONGEST = max(map(len, _TAGS))

_KEPT = 12


# Tokens that are nothing to the structure of a statement once its keywords are known.
_PLAIN = frozenset({"other", "number", "escape", "bits", "string", "quoted", "dollar", "dot", "sign"})


class Command:
    """One statement of a text, read token by token: what its keywords outside of parentheses say."""

    def __init__(self) -> None:
        self.leading: List[str] = []
        self.size = 0
        self._reading = True
        self._depth = 0
        self._atomic = False
        self._previous: Tuple[str, str] = ("", "")
        self._seen: Set[str] = set()
        self._verb = ""
        self._loose: Optional[Set[str]] = None

    def ends_with(self, kind: str, text: bytes) -> bool:
        """Take a token, and return whether it is the semicolon that ends the statement."""
        if kind in _PLAIN and not self._reading:
            self._previous = (kind, "")
            return False
        word = text.upper().decode("latin-1") if kind == "word" else ""
        if kind == "end" and not self._keeps_semicolon():
            return True
        self._lead(kind, word)
        if kind == "open":
            if self._depth == 0 and self._previous[0] == "close" and not self._verb:
                self._verb = "SELECT"
            self._depth += 1
        elif kind == "close":
            self._depth = max(0, self._depth - 1)
        elif word and self._depth == 0:
            self._outside(word)
        self._previous = (kind, word)
        self.size += 1
        return False

    def _lead(self, kind: str, word: str) -> None:
        if not self._reading:
            return
        if kind == "dot" and self.leading:
            # it was the schema of a name
            self.leading.pop()
        if kind != "word" or len(self.leading) == _KEPT:
            self._reading = False
        else:
            self.leading.append(word)

    def _outside(self, word: str) -> None:
        """Take a word outside of parentheses."""
        self._seen.add(word)
        after = self._previous
        if self._atomic:
            if word == "END" and (after[0] == "end" or after[1] == "ATOMIC"):
                self._atomic = False
            return
        if word == "ATOMIC" and after[1] == "BEGIN" and self._routine():
            self._atomic = True
        if after[0] == "close" and word in ("SEARCH", "CYCLE"):
            self._loose = set()
        elif self._loose is not None:
            self._loose |= {word} & _VERBS
        if after[0] == "close" and word in _VERBS and not self._verb:
            self._verb = word

    def _routine(self) -> bool:
        words = _without_noise(self.leading)
        return words[:1] == ["CREATE"] and words[1:2] in (["FUNCTION"], ["PROCEDURE"])

    def _keeps_semicolon(self) -> bool:
        """Return whether a semicolon is part of the statement: in a rule's list of actions, or in a body of BEGIN ATOMIC."""
        return self._atomic or (self._depth > 0 and _without_noise(self.leading)[:2] == ["CREATE", "RULE"])

    def shows(self, tag: str) -> bool:
        """Return whether the leading keywords are those of a statement with this command tag."""
        if self.leading[:1] == ["WITH"] and self._loose is not None:
            # names of columns stand between the WITH clause and its statement
            return tag in {*(_OTHER_WORDS.get((verb,), verb) for verb in self._loose), self.tag}
        return bool(tag) and self.tag == tag

    @property
    def tag(self) -> str:
        """Return the command tag that the leading keywords show, '' when they show none."""
        words = _without_noise(self.leading)
        if not words:
            return "SELECT" if self.size else ""
        if words[0] == "WITH":
            return _OTHER_WORDS.get((self._verb,), self._verb)
        if words[0] in _NOISE and words[1:2] in (["USER"], ["GROUP"]) and not _of_mapping(words):
            words[1] = "ROLE"
        tag = next(
            (_TAGS[tuple(words[:n])] for n in range(min(_LONGEST, len(words)), 0, -1) if tuple(words[:n]) in _TAGS), ""
        )
        if tag == "CREATE TABLE" and "AS" in self._seen:
            return "CREATE TABLE AS"
        if tag in ("GRANT", "REVOKE") and "ON" not in self._seen:
            return f"{tag} ROLE"
        return tag


def _without_noise(leading: Sequence[str]) -> List[str]:
    """Return the leading words without those between CREATE and the kind of object."""
    words = list(leading)
    noise = _NOISE.get(words[0], frozenset()) if words else frozenset()
    while len(words) > 1 and words[1] in noise:
        del words[1]
    return words


def _of_mapping(words: Sequence[str]) -> bool:
    return words[1:3] == ["USER", "MAPPING"] and words[3:4] in (["FOR"], ["IF"])


def commands(data: bytes) -> List[Command]:
    """Return the statements of a text; what is between two semicolons and empty is none. Raises ``LexError``."""
    found: List[Command] = []
    command = Command()
    for kind, text in tokens(data):
        if command.ends_with(kind, text):
            found.append(command)
            command = Command()
    return [one for one in [*found, command] if one.size]


def check_statements(statements: Sequence[Mapping[str, Any]], data: bytes, name: str = "the file") -> None:
    """Check that each range is one statement that begins as its tag and its first kind say; ``check_cover`` checks the ranges.

    Raises ``PhaseGateError``.
    """
    for statement in statements:
        text = data[statement["start"] : statement["end"]]
        tag, kinds = statement["tag"], statement["kinds"]
        try:
            found = commands(text)
        except LexError as error:
            raise _refused(statement, name, "one complete statement", str(error)) from None
        if len(found) != 1:
            shown = "; ".join(one.tag or " ".join(one.leading[:3]) or "?" for one in found[:5])
            raise _refused(statement, name, "one statement", f"{len(found)} statements: {shown}")
        if not found[0].shows(tag):
            begins = found[0].tag or " ".join(found[0].leading[:3]) or "no keyword"
            raise _refused(statement, name, f"a statement that begins as {tag} does", begins)
        first = kinds[0] if kinds else ""
        if first != tag and not first.startswith(f"{tag} "):
            raise _refused(statement, name, f"a kind of {tag} first among its kinds", first or "no kind")


def _refused(statement: Mapping[str, Any], name: str, expected: str, found: str) -> PhaseGateError:
    return PhaseGateError(
        f"The plan does not describe statement {statement['n']} of {name} (line {statement['line']}).",
        expected=expected,
        found=escaped(found),
        next_step="find out who changed the plan; do not execute it. Plan, rehearse and review the phase again",
    )
