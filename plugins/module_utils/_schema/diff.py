# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The structural difference between two snapshots, each change classified. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, LONGEST, escaped, shortened
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import (
    ENCODER,
    HOLDING_DATA,
    Fact,
    decode_fact,
    object_key,
    schema_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity import (
    ADDED,
    CHANGED,
    REMOVED,
    RENAMED,
    ChangeCase,
    classify_change,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity_classes import Severity
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

_Key = Tuple[str, Tuple[str, ...]]  # kind and identity: the name of a fact

#: What to read for a text, by kind and identity of its fact and the attribute's name: one object's texts that were proved equal.
Words = Mapping[Tuple[str, Tuple[str, ...], str, Optional[str]], Optional[str]]

_PRIVILEGES = ("acl", "default_acl")

# Not ``\s``: a no-break space is a difference that people have to see.
_SPACE = re.compile(r"[ \t\n\r\f\v]+")

_ACTIONS = (REMOVED, RENAMED, CHANGED, ADDED)


class _Found(NamedTuple):
    fact: Fact
    locator: str


@dataclass(frozen=True)
class Change:
    """One change of one object.

    ``identity`` are the object's names; ``attribute`` is None when the whole object was added, removed or renamed.
    ``before`` and ``after`` are the attribute's values, the object's description, or for a rename its two names.
    ``parts`` are what came or went with the object (the columns of a new table ...), as texts, and ``content`` is the SHA-256
    (64 hexadecimal digits) over all facts of the parts of a new object, '' without one: two new tables of one name are equal only by it.
    """

    kind: str
    schema: str
    identity: tuple[str, ...]
    attribute: str | None
    action: str
    before: str | None
    after: str | None
    severity: Severity
    rewrites: bool = False
    note: str = ""
    parts: tuple[str, ...] = ()
    content: str = ""
    #: the attributes of an object that came or went, which its description joins; no part of the record
    attributes: Mapping[str, str | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Return the object's name for people and for patterns: ``schema.relation.column``."""
        return display(self.kind, self.identity)

    def as_dict(self) -> dict[str, Any]:
        """Return the change as JSON types."""
        return {
            "kind": self.kind,
            "schema": self.schema,
            "identity": list(self.identity),
            "name": self.name,
            "attribute": self.attribute,
            "action": self.action,
            "before": self.before,
            "after": self.after,
            "severity": self.severity.value,
            "rewrites": self.rewrites,
            "note": self.note,
            "parts": list(self.parts),
            "content": self.content,
        }

    def text(self) -> str:
        """Return the change in one line, values in full unless they are very long."""
        subject = f"{self.kind.replace('_', ' ')} {self.name}"
        if self.action == RENAMED:
            what = f"renamed from {self.before} to {self.after}"
        elif self.attribute is None:
            what = f"{self.action}: {shortened(_shown(self.after if self.action == ADDED else self.before))}"
        else:
            before, after = _sides(self.before, self.after)
            what = f"{self.attribute.replace('_', ' ')}: {before} -> {after}"
        extras = [self.note] if self.note else []
        if self.rewrites:
            extras.append("rewrites")
        if self.parts:
            extras.append(f"with {len(self.parts)} parts: {', '.join(self.parts)}")
        return escaped(f"{subject} {what}" + (f" [{'; '.join(extras)}]" if extras else ""))


def _sides(before: str | None, after: str | None) -> tuple[str, str]:
    """Return two values in one line each, of long ones the part from where they differ."""
    texts = _shown(before), _shown(after)
    if texts[0] == texts[1]:
        # only white space differs
        texts = json.dumps(before), json.dumps(after)
    start = 0
    if max(map(len, texts)) > LONGEST:
        differs = next((place for place, pair in enumerate(zip(*texts)) if pair[0] != pair[1]), min(map(len, texts)))
        start = max(0, differs - 100)
    return _from(texts[0], start), _from(texts[1], start)


def _from(text: str, start: int) -> str:
    return f"{'…' if start else ''}{shortened(text[start:])}"


def _shown(value: str | None) -> str:
    """Return a value in one line."""
    return "none" if value is None else _SPACE.sub(" ", value).strip(" ")


def display(kind: str, identity: Sequence[str]) -> str:
    """Return an object's name for people: its names with dots, without the empty ones."""
    if kind == "acl":
        of, schema, name, column, grantee = identity
        path = [name] if of == "schema" else [schema, name, column]
        return f"{'.'.join(part for part in path if part) or of} to {grantee}"
    return ".".join(part for part in identity if part)


def _describe(fact: Fact) -> str:
    """Return the attributes of a fact that are set, in one line."""
    values = [f"{name}={value}" for name, value in fact.attributes.items() if value is not None]
    return ", ".join(values) or "exists"


@dataclass(frozen=True)
class Diff:
    """All changes between two snapshots, in a stable order: removals first, then by kind and name."""

    changes: tuple[Change, ...]
    before: Snapshot = field(repr=False, compare=False)
    after: Snapshot = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        """Return whether anything differs."""
        return bool(self.changes)

    def counts(self) -> dict[str, int]:
        """Return the number of changes by action, parts included."""
        counted = dict.fromkeys(_ACTIONS, 0)
        for change in self.changes:
            counted[change.action] += 1 + len(change.parts)
        return counted

    def severities(self) -> dict[str, int]:
        """Return the number of changes by class; classes without a change are left out."""
        counted: dict[str, int] = {}
        for severity in sorted(Severity, key=lambda item: -item.rank):
            number = sum(1 for change in self.changes if change.severity is severity)
            if number:
                counted[severity.value] = number
        return counted

    @property
    def severity(self) -> Severity | None:
        """Return the gravest class of all changes, None without a change."""
        return max((change.severity for change in self.changes), key=lambda item: item.rank, default=None)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the changes as JSON types."""
        return [change.as_dict() for change in self.changes]

    def as_dict(self) -> dict[str, Any]:
        """Return the whole diff as JSON types."""
        return {
            "before": self.before.fingerprint,
            "after": self.after.fingerprint,
            "counts": self.counts(),
            "severities": self.severities(),
            "changes": self.as_list(),
        }

    def json(self) -> str:
        """Return ``as_dict`` as a JSON text."""
        return json.dumps(self.as_dict(), ensure_ascii=False, indent=2)

    def text(self) -> str:
        """Return the diff for people: a summary, then one line per change under its class, the gravest first."""
        if not self.changes:
            return "no difference"
        counts = ", ".join(f"{number} {action}" for action, number in self.counts().items() if number)
        classes = ", ".join(f"{number} {severity}" for severity, number in self.severities().items())
        lines = [f"{counts} ({classes})"]
        for severity in sorted(Severity, key=lambda item: -item.rank):
            of_class = [change for change in self.changes if change.severity is severity]
            if of_class:
                lines.append(f"{severity.value}:")
                lines.extend(f"  {change.text()}" for change in of_class)
        return "\n".join(lines)

    def ansible(self) -> dict[str, str]:
        """Return the diff for Ansible's ``--diff``: the changed objects as they were and as they are."""
        sides: dict[str, str] = {}
        for side, snapshot in (("before", self.before), ("after", self.after)):
            lines = []
            for change in self.changes:
                value = getattr(change, side)
                if value is not None:
                    attribute = f" {change.attribute}" if change.attribute else ""
                    lines.append(escaped(f"{change.kind} {change.name}{attribute}: {value}\n", keep=LAYOUT))
            sides[side] = "".join(lines)
            sides[f"{side}_header"] = f"schema of {snapshot.header.database} {snapshot.fingerprint}"
        return sides


def diff(before: Snapshot, after: Snapshot, words: Words | None = None) -> Diff:
    """Return what has to happen to ``before`` to become ``after``.

    Empty when the fingerprints are equal, unless the catalog proves that something with data was made anew; never
    empty when they are not, unless ``words`` make them equal.
    """
    return Diff(tuple(_Comparison(before, after, words or {}).changes()), before, after)


class _Comparison:
    """The working state of one comparison: only facts that differ are decoded."""

    def __init__(self, before: Snapshot, after: Snapshot, words: Words) -> None:
        self._after = after
        self._old = _differing(before, after, words)
        self._new = _differing(after, before, words)
        for key in _read_equal(self._old, self._new) if words else ():
            del self._old[key], self._new[key]
        self._relation_kinds: dict[tuple[str, ...], str] | None = None
        # An OID names the same object only within one database.
        located = before.header.database == after.header.database
        self._anew = self._made_anew(before, after) if located else set()
        gone = [key for key in self._old if key not in self._new or key in self._anew]
        new = [key for key in self._new if key not in self._old or key in self._anew]
        self._renamed = self._same_rows(gone, new) if located else {}
        renamed = set(self._renamed.values())
        self._removed = [key for key in gone if key not in self._renamed]
        self._added = [key for key in new if key not in renamed]

    def changes(self) -> list[Change]:
        """Return all changes in their stable order."""
        found = [
            *self._whole(self._removed, self._old, REMOVED),
            *self._whole(self._added, self._new, ADDED),
            *self._renames(),
        ]
        kept = [(key, key) for key in self._old if key in self._new and key not in self._anew]
        pairs = kept + list(self._renamed.items())
        for old, new in pairs:
            found.extend(self._attributes(self._old[old].fact, self._new[new].fact))
        found.sort(
            key=lambda change: (_ACTIONS.index(change.action), change.kind, change.identity, change.attribute or "")
        )
        return found

    def _made_anew(self, before: Snapshot, after: Snapshot) -> set[_Key]:
        """Return what is not what had its name before: dropped and made again, or another that was renamed to it.

        Only of what holds data: a view that is made again is the same. Facts whose text is the same join those that differ.
        """
        for line in after.moved(before):
            fact = decode_fact(line)
            self._old[(fact.kind, fact.identity)] = _Found(fact, before.facts[line])
            self._new[(fact.kind, fact.identity)] = _Found(fact, after.facts[line])
        moved = {
            key: (old.locator, new.locator)
            for key, new in self._new.items()
            if key[0] in HOLDING_DATA and (old := self._old.get(key)) and _other_row(old.locator, new.locator)
        }
        objects = {object_key(*key) for key in moved if KINDS[key[0]].parent is None}
        return {
            key
            for key, (old, new) in moved.items()
            # a column of a view that was made again has another carrier too
            if object_key(*key) in objects or old.partition(" ")[0] == new.partition(" ")[0]
        }

    def _same_rows(self, gone: Sequence[_Key], new: Sequence[_Key]) -> dict[_Key, _Key]:
        """Return which fact's catalog row now has another name: old key to new key."""
        rows = {(key[0], self._old[key].locator): key for key in gone if self._old[key].locator}
        return {rows[row]: key for key in new if (row := (key[0], self._new[key].locator)) in rows}

    def _renames(self) -> Iterator[Change]:
        owners = {
            object_key(*old): object_key(*new) for old, new in self._renamed.items() if KINDS[old[0]].parent is None
        }
        schemas = {old[1][0]: new[1][0] for old, new in self._renamed.items() if old[0] == "schema"}
        for old, new in self._renamed.items():
            if not _follows(old, new, owners, schemas):
                yield self._judged(
                    ChangeCase(new[0], RENAMED, "", display(*old), display(*new), {}, ""),
                    self._new[new].fact,
                    attribute=None,
                )

    def _whole(self, keys: Sequence[_Key], side: Mapping[_Key, _Found], action: str) -> Iterator[Change]:
        """Yield one change per object that came or went, with its parts; privileges of others as changes of their own."""
        own = {object_key(*key): key for key in keys if KINDS[key[0]].parent is None}
        parts: dict[_Key, list[_Key]] = {}
        alone = []
        present = set(keys)
        for key in keys:
            owner = own.get(object_key(*key))
            constraint = ("constraint", key[1])
            if owner is not None and owner != key:
                parts.setdefault(owner, []).append(key)
            elif key[0] == "index" and constraint in present and side[key].fact.attributes["constraint"] == key[1][-1]:
                parts.setdefault(constraint, []).append(key)
            else:
                alone.append(key)
        for key in alone:
            fact = side[key].fact
            if key[0] in _PRIVILEGES:
                has, born = fact.attributes["privileges"], fact.attributes["born_with"]
                before, after = (has, born) if action == REMOVED else (born, has)
                yield self._judged(
                    ChangeCase(key[0], CHANGED, "privileges", before, after, {}, ""), fact, attribute="privileges"
                )
                continue
            text = _describe(fact)
            before, after = (text, None) if action == REMOVED else (None, text)
            case = ChangeCase(key[0], action, "", before, after, fact.attributes, self._on(key))
            yield self._judged(case, fact, attribute=None, parts=[side[part].fact for part in parts.get(key, ())])

    def _attributes(self, old: Fact, new: Fact) -> Iterator[Change]:
        for name, after in new.attributes.items():
            before = old.attributes[name]
            if before == after:
                continue
            if name == "born_with" and old.attributes["privileges"] != new.attributes["privileges"]:
                # the privileges at creation matter only if the privileges themselves are equal
                continue
            on = self._on((new.kind, new.identity))
            yield self._judged(
                ChangeCase(new.kind, CHANGED, name, before, after, new.attributes, on), new, attribute=name
            )

    def _on(self, key: _Key) -> str:
        """Return the kind of the relation that a column, constraint ... is a part of; the kind itself for other facts."""
        parent = KINDS[key[0]].parent
        if parent is None or parent[0] != "relation":
            return key[0]
        if self._relation_kinds is None:
            names = {key[1][:2] for key in (*self._old, *self._new) if KINDS[key[0]].parent == ("relation", (0, 1))}
            self._relation_kinds = self._after.relation_kinds(names)
        return self._relation_kinds.get(key[1][:2], "")

    @staticmethod
    def _judged(case: ChangeCase, fact: Fact, *, attribute: str | None, parts: Sequence[Fact] = ()) -> Change:
        judgement = classify_change(case)
        return Change(
            kind=fact.kind,
            schema=schema_of(fact.kind, fact.identity),
            identity=fact.identity,
            attribute=attribute,
            action=case.action,
            before=case.before,
            after=case.after,
            severity=judgement.severity,
            rewrites=judgement.rewrites,
            note=judgement.note,
            parts=tuple(sorted(_part_name((part.kind, part.identity)) for part in parts)),
            # what is removed was compared with what it was at the rehearsal before
            content=_content(parts) if case.action == ADDED else "",
            attributes=fact.attributes if attribute is None else {},
        )


def _content(parts: Sequence[Fact]) -> str:
    """Return the digest of the facts of parts, in whatever order they come; '' for none."""
    lines = sorted(ENCODER.encode([part.kind, part.identity, part.attributes]) for part in parts)
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest() if lines else ""


def _other_row(old: str, new: str) -> bool:
    return bool(old and new) and old != new


def _differing(one: Snapshot, other: Snapshot, words: Words) -> dict[_Key, _Found]:
    found = {}
    for line in sorted(one.only_here(other)):
        fact = decode_fact(line)
        if words:
            read = {name: words.get((*fact[:2], name, text), text) for name, text in fact.attributes.items()}
            fact = fact._replace(attributes=read)
        found[(fact.kind, fact.identity)] = _Found(fact, one.facts[line])
    return found


def _read_equal(old: Mapping[_Key, _Found], new: Mapping[_Key, _Found]) -> list[_Key]:
    """Return the facts that differ in nothing but texts that mean the same, and are of the same row."""
    return [
        key
        for key, found in old.items()
        if key in new
        and found.fact == new[key].fact
        and not (key[0] in HOLDING_DATA and _other_row(found.locator, new[key].locator))
    ]


def _follows(
    old: _Key, new: _Key, owners: Mapping[tuple[str, ...], tuple[str, ...]], schemas: Mapping[str, str]
) -> bool:
    """Return whether a fact has another name only because its object or its schema has."""
    kind, identity = old
    if kind != "schema":
        place = KINDS[kind].schema_at
        moved = list(identity)
        if place is not None:
            moved[place] = schemas.get(moved[place], moved[place])
        if tuple(moved) == new[1]:
            return True
    if kind == "acl" or KINDS[kind].parent:
        owner = object_key(*old)
        rest = len(identity) - len(owner) + 1
        return (
            owners.get(owner) == object_key(*new) and identity[len(identity) - rest :] == new[1][len(identity) - rest :]
        )
    return False


def _part_name(key: _Key) -> str:
    kind, identity = key
    if kind == "acl":
        return f"privileges of {identity[4]}" + (f" on {identity[3]}" if identity[3] else "")
    parent = KINDS[kind].parent
    own = identity[len(parent[1]) :] if parent else identity
    return f"{kind.replace('_', ' ')} {'.'.join(part for part in own if part)}"
