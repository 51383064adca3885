# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of plan.json, and the check of a plan against it. Controller only."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._plan.phase_schema import PHASE_SCHEMA
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import PLAN_FORMAT

Schema = Dict[str, Any]


def _object(description: str, properties: Dict[str, Schema], optional: Sequence[str] = ()) -> Schema:
    """Return the schema of an object that has exactly these keys; all but the ``optional`` ones are required."""
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "required": [key for key in properties if key not in optional],
        "properties": properties,
    }


def _list(description: str, items: Schema) -> Schema:
    return {"description": description, "type": "array", "items": items}


def _text(description: str) -> Schema:
    return {"description": description, "type": "string"}


def _pattern(description: str, pattern: str) -> Schema:
    return {"description": description, "type": "string", "pattern": pattern}


def _count(description: str, minimum: int = 0) -> Schema:
    return {"description": description, "type": "integer", "minimum": minimum}


_SHA256 = _pattern("a SHA-256 in lower-case hexadecimal", "^[0-9a-f]{64}$")

_TIME = _pattern("a time in UTC, ISO 8601", "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{3,6})?Z$")

_SYSTEM = _pattern("the system identifier of a cluster, drawn at initdb", "^[0-9]{1,20}$")

_TEXTS = _list("texts", {"type": "string"})

_FILE_KEYS: Dict[str, Schema] = {
    "file": _pattern("the name of a file", "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    "sha256": _SHA256,
    "bytes": _count("size in bytes"),
}

_RANGE: Schema = {
    "description": "a statement: byte range, line, tag, kinds, relations, and whether phasegate runs it",
    "type": "object",
    "required": [
        "n",
        "start",
        "end",
        "line",
        "tag",
        "kinds",
        "relations",
        "needs",
        "returns_rows",
        "run",
        "after_commit",
    ],
    "properties": {
        "n": _count("number in the file", 1),
        "start": _count("offset of its first byte"),
        "end": _count("offset after its last byte", 1),
        "line": _count("line of its first word", 1),
        "tag": _text("command tag"),
        "kinds": _TEXTS,
        "relations": _TEXTS,
        "needs": _TEXTS,
        "returns_rows": {"type": "boolean"},
        "run": {"type": "boolean"},
        "after_commit": _text(
            "what it creates, drops, rebuilds, detaches or changes after COMMIT; empty for a statement of the transaction"
        ),
        "batch": _object(
            "how an UPDATE or DELETE after COMMIT runs in batches",
            {
                "by": _text("the key column"),
                "rows": _count("how many rows a batch has at most", 1),
                "key": _text("the key column as SQL text"),
                "leaves": {"description": "a row that is done matches its WHERE no more", "type": "boolean"},
                "select": _text("the keys of a range of rows: after $1, up to $2"),
                "change": _text("the statement for a range of rows"),
            },
        ),
        "searched": {
            **_TEXTS,
            "description": "with a search_path: names after a dot and of operators, which may be a function of its schemas",
        },
    },
}

_MEASURED = _list(
    "the statements as they ran, in order",
    _object(
        "one statement",
        {
            "n": _count("number in the file", 1),
            "tag": _text("command tag"),
            "line": _count("line of its first word", 1),
            "rows": {"description": "rows that the server reported, null for none", "type": ["integer", "null"]},
            "microseconds": _count("how long it took"),
        },
    ),
)

_PHASE: Schema = {key: value for key, value in PHASE_SCHEMA.items() if key not in ("$schema", "title")}

_TARGET = _object(
    "the cluster and database that the plan is for",
    {
        "environment": _text("short name of the environment"),
        "inventory_name": _text("name of the host in the inventory"),
        "container": _text("container that the server runs in, empty for none"),
        "database": _text("name of the database"),
        "user": _text("role that runs the phase"),
        "server_version": _text("complete version of the server"),
        "system_identifier": _SYSTEM,
    },
)

_CHANGES = _list("the structural diff from base to result", {"type": "object", "required": ["kind", "name"]})

_DATA = _list(
    "the data that the transaction changed, by relation and kind; partitions under their topmost parent",
    _object(
        "one kind of change",
        {
            "relation": _text("relation as SQL text"),
            "kind": _text(
                "INSERT, UPDATE or DELETE, or a change without a count: TRUNCATE, RECREATE, REFRESH, MOVE, WRITE"
            ),
            "rows": {"description": "how many rows, null for a change without a count", "type": ["integer", "null"]},
        },
    ),
)

_REHEARSAL = _object(
    "what the rehearsal proved and measured",
    {
        "bundle": _text("name of the rehearsal's artefact directory"),
        "seal": _SHA256,
        "cluster": _object(
            "where it took place",
            {"system_identifier": _SYSTEM, "server_version": _text("version"), "place": _text("container or host")},
        ),
        "partitions": _list(
            "schema and name of each partition of the tables in drift.partitions_of, where the phase has such",
            {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
        ),
        "base_fingerprint": _SHA256,
        "result_fingerprint": _SHA256,
        "changes": _CHANGES,
        "changes_before_commit": {**_CHANGES, "description": "those of them that exist before COMMIT"},
        "server": _object(
            "settings of the server that a result depends on",
            {
                "server_version": _text("version"),
                "timezone": _text("TimeZone"),
                "encoding": _text("encoding of the database"),
                "collation": _object(
                    "collation of the database",
                    {
                        "collate": _text("LC_COLLATE"),
                        "ctype": _text("LC_CTYPE"),
                        "provider": _text("c or i, as pg_database has it"),
                        "icu": _text("locale of ICU, empty for none"),
                    },
                ),
                "extensions": _list(
                    "name and version of each extension",
                    {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
                ),
                "settings": {
                    "description": "settings that the meaning of SQL depends on, by name",
                    "type": "object",
                    "additionalProperties": {"type": "string"},
                },
            },
        ),
        "role": _object(
            "the role that ran the phase",
            {
                "name": _text("the role that runs it on the target"),
                "refused": _text(
                    "why it had no session of its own, so that a superuser's session took it; empty when it had"
                ),
            },
        ),
        "statements": _MEASURED,
        "locks": _list(
            "locks on relations, each held until COMMIT",
            _object(
                "one lock",
                {
                    "relation": _text("relation as SQL text"),
                    "mode": _text("lock mode, such as AccessExclusiveLock"),
                    "statement": _count("number of the statement that took it", 1),
                    "held_microseconds": _count("from that statement's end until COMMIT"),
                },
            ),
        ),
        "data": _DATA,
        "unproved": _list("what the observation of changed data cannot see", {"type": "string"}),
        "rewrites": _list("tables that were rewritten, by relfilenode", {"type": "string"}),
        "wal_bytes": _count("write-ahead log that the migration made"),
        "backup": {"description": "the backup that was restored, and the proof of its restore", "type": "object"},
        "rollback": _object(
            "the rollback as it ran",
            {
                "statements": _MEASURED,
                "rewrites": _list("tables that it rewrote, by relfilenode", {"type": "string"}),
                "data": _DATA,
                "restored": {"description": "the fingerprint was the base's again", "const": True},
            },
        ),
    },
    optional=("partitions",),
)

PLAN_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "incomex.phasegate plan.json",
    **_object(
        "what a rehearsal froze and reviewers approve",
        {
            "format": {"description": "form of this document", "const": PLAN_FORMAT},
            "phase": _PHASE,
            "definition": _object("phase.yml, pinned", _FILE_KEYS),
            "ddl": _object("the DDL, pinned", {**_FILE_KEYS, "statements": _list("its statements", _RANGE)}),
            "rollback": _object("the rollback, pinned", {**_FILE_KEYS, "statements": _list("its statements", _RANGE)}),
            "target": _TARGET,
            "rehearsal": _REHEARSAL,
            "tools": {
                "description": "versions of the programs and libraries that were used, by name",
                "type": "object",
                "additionalProperties": {"type": "string"},
            },
            "author": _pattern("who made the plan", "\\S"),
            "nonce": _pattern("random, so that no two plans have the same bytes", "^[0-9a-f]{16,}$"),
            "created_at": _TIME,
            "not_after": _TIME,
            "content_sha256": _SHA256,
        },
    ),
}
