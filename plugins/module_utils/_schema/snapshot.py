# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read, keep and compare the facts of one database.

A snapshot is a set of *lines*, one per fact: a JSON array ``[kind, [identity...], [attribute...]]``, written by one rule
(no spaces, no escaped non-ASCII), so that equal facts are equal texts. The digest of a fact is the SHA-256 of its line;
of an object, of the sorted digests of its facts; of a schema, of its objects; of the database, of its schemas. The last
is the *fingerprint*.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import AbstractSet, Any, Collection, Iterable, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    atomic_file,
    open_found,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import KINDS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.model import Kind
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.change_detection import CatalogState
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import (
    ENCODER,
    HOLDING_DATA,
    Fact,
    decode_fact,
    kind_of,
    object_key,
    schema_of,
)

SNAPSHOT_FORMAT = "incomex.phasegate schema snapshot"

SNAPSHOT_VERSION = 1

SECTIONS = ("schema", "database")

CLUSTER = "cluster"

_HOLDING_DATA = tuple(f'["{kind}",' for kind in HOLDING_DATA)


@dataclass(frozen=True)
class Header:
    """The metadata of a snapshot beside its facts; not part of the fingerprint."""

    server_version: str
    database: str
    settings: Mapping[str, str] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    sections: tuple[str, ...] = SECTIONS

    def line(self) -> str:
        """Return the header as the first line of a file."""
        return ENCODER.encode(
            {
                "format": SNAPSHOT_FORMAT,
                "version": SNAPSHOT_VERSION,
                "server_version": self.server_version,
                "database": self.database,
                "settings": dict(sorted(self.settings.items())),
                "unseen": list(self.unseen),
                "sections": list(self.sections),
                "kinds": {
                    name: {"identity": kind.identity, "attributes": kind.attributes}
                    for name, kind in sorted(KINDS.items())
                },
            }
        )


class Snapshot:
    """The facts of one database at one moment.

    ``facts`` maps the line of each fact to its locator, ``class/oid`` of its carrier and of the catalog row that it describes,
    separated by a space; the locator is '' in a snapshot that was loaded from a file. ``watched`` is the state of the catalogs beside it.
    """

    def __init__(self, header: Header, facts: dict[str, str], watched: CatalogState | None = None) -> None:
        self.header = header
        self.facts = facts
        self.watched = watched
        self._digests: dict[tuple[str, ...], str] | None = None
        self._schemas: dict[str, str] | None = None
        self._members: dict[tuple[str, ...], list[str]] | None = None
        self._rows: dict[str, list[str]] | None = None
        # the base, the lines removed and added, and the lines read again with the same text
        self._origin: tuple[Snapshot, frozenset[str], frozenset[str], AbstractSet[str]] | None = None

    def __len__(self) -> int:
        """Return the number of facts."""
        return len(self.facts)

    def lines(self) -> list[str]:
        """Return the lines in their canonical order."""
        return sorted(self.facts)

    def decoded(self) -> Iterator[Fact]:
        """Yield the facts in canonical order."""
        return (decode_fact(line) for line in self.lines())

    def rows(self) -> dict[str, list[str]]:
        """Return the lines that were read from each catalog row or hang on it, by ``class/oid``.

        Computed once; a caller that will hold locks calls it before.
        """
        if self._rows is None:
            rows: dict[str, list[str]] = {}
            for line, locator in self.facts.items():
                carrier, _space, row = locator.partition(" ")
                rows.setdefault(carrier, []).append(line)
                if row != carrier:
                    rows.setdefault(row, []).append(line)
            self._rows = rows
        return self._rows

    def members(self) -> dict[tuple[str, ...], list[str]]:
        """Return the lines of each object by ``(schema, namespace, names...)``. Computed once."""
        if self._members is None:
            members: dict[tuple[str, ...], list[str]] = {}
            for line in self.facts:
                members.setdefault(_digest_key(line), []).append(line)
            self._members = members
        return self._members

    def object_digests(self) -> dict[tuple[str, ...], str]:
        """Return the digest of each object by ``(schema, namespace, names...)``. Computed once."""
        if self._digests is None:
            self._digests = {key: _digest_of(lines) for key, lines in self.members().items()}
        return self._digests

    def schema_digests(self) -> dict[str, str]:
        """Return the digest of each schema by name; '' for objects in no schema. Computed once."""
        if self._schemas is None:
            self._schemas = self._digests_of_schemas(None)
        return self._schemas

    def _digests_of_schemas(self, only: set[str] | None) -> dict[str, str]:
        schemas: dict[str, list[str]] = {}
        for key, digest in self.object_digests().items():
            if only is None or key[0] in only:
                schemas.setdefault(key[0], []).append(ENCODER.encode([key, digest]))
        return {name: _sha256("\n".join(sorted(lines))) for name, lines in schemas.items()}

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (64 hexadecimal digits) over all facts."""
        schemas = sorted(self.schema_digests().items())
        return _sha256(
            "\n".join([f"{SNAPSHOT_FORMAT} {SNAPSHOT_VERSION}", *(ENCODER.encode(schema) for schema in schemas)])
        )

    def with_changes(
        self, removed: frozenset[str], added: dict[str, str], watched: CatalogState | None = None
    ) -> Snapshot:
        """Return this snapshot without the lines ``removed`` and with those ``added``.

        Digests computed for this one are kept for unchanged objects.
        """
        facts = {**self.facts, **added}
        for line in removed:
            del facts[line]
        other = Snapshot(self.header, facts, watched)
        # a line that was here already may come from another row now
        new = frozenset(added.keys() - self.facts.keys())
        other._origin = (self, removed, new, added.keys() - new)
        if self._members is not None and self._digests is not None:
            members = dict(self._members)
            digests = dict(self._digests)
            keys = {_digest_key(line) for line in (*removed, *new)}
            for key in keys:
                lines = [line for line in members.get(key, ()) if line not in removed]
                lines += [line for line in new if _digest_key(line) == key]
                members[key] = lines
                digests[key] = _digest_of(lines)
                if not lines:
                    del members[key], digests[key]
            other._members, other._digests = members, digests
            if self._schemas is not None:
                touched = {key[0] for key in keys}
                kept = {name: digest for name, digest in self._schemas.items() if name not in touched}
                other._schemas = {**kept, **other._digests_of_schemas(touched)}
        return other

    def only_here(self, other: Snapshot) -> frozenset[str]:
        """Return the lines that ``other`` lacks."""
        if self._origin and self._origin[0] is other:
            return self._origin[2]
        if other._origin and other._origin[0] is self:
            return other._origin[1]
        return frozenset(self.facts.keys() - other.facts.keys())

    def moved(self, base: Snapshot) -> list[str]:
        """Return the lines about what holds data that were read from another catalog row in ``base``.

        Empty where one of the two has no locators.
        """
        known = base.facts
        lines = self._origin[3] if self._origin and self._origin[0] is base else self.facts
        return [
            line
            for line in lines
            if line.startswith(_HOLDING_DATA) and known.get(line) and self.facts[line] not in ("", known[line])
        ]

    def unlocated(self) -> Snapshot:
        """Return the facts alone, as a file has them: a diff with them compares structure only."""
        return Snapshot(self.header, dict.fromkeys(self.facts, ""))

    def relation_kinds(self, names: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
        """Return the kind of each of these relations, named by schema and name, that exists here."""
        found: dict[tuple[str, ...], str] = {}
        for name in names:
            for line in self.members().get((name[0], "relation", *name), ()):
                fact = decode_fact(line)
                if KINDS[fact.kind].namespace == "relation":
                    found[name] = fact.kind
        return found

    def write(self, path: str) -> str:
        """Write the snapshot, compressed when the name ends in ``.gz``, and return the SHA-256 of the file.

        The file appears under its name complete or not at all. Raises ``OSError``.
        """
        with atomic_file(path) as out:
            if path.endswith(".gz"):
                # no name and no time: equal snapshots are equal files
                with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=out, mtime=0) as packed:
                    self._write_lines(packed)
            else:
                self._write_lines(out)
        return out.sha256

    def _write_lines(self, sink: Any) -> None:
        sink.write(self.header.line().encode("utf-8") + b"\n")
        lines = self.lines()
        for start in range(0, len(lines), 1000):
            sink.write("".join(f"{line}\n" for line in lines[start : start + 1000]).encode("utf-8"))

    @classmethod
    def load(cls, path: str) -> Snapshot:
        """Read a snapshot that ``write`` made. Raises ``PhaseGateError`` for anything else, ``OSError``."""
        try:
            with open_found(path) as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                stream: Any = gzip.GzipFile(fileobj=raw) if packed else raw
                lines = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
                header = _header(path, lines.readline())
                facts = {line.rstrip("\n"): "" for line in lines}
        except (EOFError, gzip.BadGzipFile, UnicodeDecodeError, ValueError) as error:
            raise PhaseGateError(
                f"The snapshot {path} cannot be read.",
                expected="a complete file that was written by this collection",
                found=str(error),
                next_step="check the file's SHA-256 against the recorded one; take the snapshot again",
            ) from error
        return cls(header, facts)


def _digest_key(line: str) -> tuple[str, ...]:
    kind = kind_of(line)
    if "\\" in line or kind == "acl":
        _kind, identity, _attributes = json.loads(line)
        return (schema_of(kind, identity), *object_key(kind, identity))
    # Called for every fact, so without a parser: no escape in the line, no quote in a name. An object's names come first.
    namespace, names, schema_at = _SHAPES[kind]
    cells = line.split('"', 2 * names + 3)
    return (cells[2 * schema_at + 3] if schema_at is not None else "", namespace, *cells[3 : 2 * names + 3 : 2])


def _shape(kind: Kind) -> tuple[str, int, int | None]:
    """Return the namespace of the object that a fact is a part of, how many names that has, and the schema's place."""
    namespace, places = kind.parent or (kind.namespace, tuple(range(len(kind.identity))))
    assert places == tuple(range(len(places)))
    assert (kind.schema_at or 0) <= len(places)
    return namespace, len(places), kind.schema_at


_SHAPES = {name: _shape(kind) for name, kind in KINDS.items()}


def _digest_of(lines: Iterable[str]) -> str:
    digests = sorted(hashlib.sha256(line.encode("utf-8")).digest() for line in lines)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _header(path: str, line: str) -> Header:
    found = json.loads(line)
    if not isinstance(found, dict) or found.get("format") != SNAPSHOT_FORMAT:
        raise ValueError("its first line is not the header of a schema snapshot")
    shapes = {
        name: {"identity": list(kind.identity), "attributes": list(kind.attributes)} for name, kind in KINDS.items()
    }
    if found.get("version") != SNAPSHOT_VERSION or found.get("kinds") != shapes:
        raise PhaseGateError(
            f"The snapshot {path} has an unsupported format.",
            expected=f"version {SNAPSHOT_VERSION} with the kinds of facts that this release of the collection supports",
            found=f"version {found.get('version')}",
            next_step="take the snapshot again with this release, or compare it with the release that wrote it",
        )
    return Header(
        server_version=found["server_version"],
        database=found["database"],
        settings=found["settings"],
        unseen=tuple(found["unseen"]),
        sections=tuple(found["sections"]),
    )
