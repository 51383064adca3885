# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON Schema of phase.yml (draft 2020-12). Pure data.

docs/phase.schema.json has the same schema for editors. An error message shows a ``description`` as "expected", so each
one describes a valid value. What a schema cannot express (unique ids, files and their digests, kinds of statements) is
checked in _definition/phase_file.py.
"""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import ANY, COUNTED, UNCOUNTED

Schema = Dict[str, Any]


def _mapping(description: str, properties: Dict[str, Schema], required: List[str]) -> Schema:
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


def _list(description: str, items: Schema) -> Schema:
    return {"description": description, "type": "array", "items": items}


def _text(description: str) -> Schema:
    return {"description": description, "type": "string", "pattern": "\\S"}


def _duration(description: str, default: str) -> Schema:
    return {
        "description": f"{description}: a whole number above 0 with its unit ms, s, min or h",
        "type": "string",
        "pattern": "^[1-9][0-9]*(ms|s|min|h)$",
        "default": default,
    }


_SLUG: Schema = {
    "description": "a slug: lower-case letters, digits, - and _, at most 63, first a letter or digit",
    "type": "string",
    "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$",
}

_ID: Schema = {
    "description": "an id: letters, digits, '.', - and _, first a letter or digit",
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
}

_TITLE = _text("a title, what an operator reads in the report")

_SCHEMA_NAME: Schema = {
    "description": "the name of a schema, without quotes; not a system schema",
    "type": "string",
    "pattern": '^(?!pg_|information_schema$)[^"\\s][^"]*$',
    "maxLength": 63,
}

_RELATION: Schema = {
    "description": 'a relation with its schema, as in SQL: public.orders or public."Orders"',
    "type": "string",
}

_REWRITES: Schema = {
    **_list("tables that the server may rewrite, under a lock that blocks readers", _RELATION),
    "default": [],
}

_FILE: Schema = {
    "description": "the name of a file beside phase.yml",
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
}

_SHA256: Schema = {
    "description": "the SHA-256 of the file: 64 lower-case hexadecimal digits",
    "type": "string",
    "pattern": "^[0-9a-f]{64}$",
}

_WHOLE: Schema = {"description": "a whole number of at least 0", "type": "integer", "minimum": 0}

_COUNT: Schema = {
    "description": "a count: a whole number of at least 0, or {min: …, max: …} with one or both",
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {"min": {"type": "integer", "minimum": 0}, "max": {"type": "integer", "minimum": 0}},
        },
    ],
}

_ROWS: Schema = {
    "description": "for each of INSERT, UPDATE, DELETE, MERGE, COPY: the row counts of its statements in file order",
    "type": "object",
    "additionalProperties": {
        "description": "a list of counts, one for each statement, {each: a count} for all of them, or {total: a count} for their sum",
        "type": ["array", "object"],
        "items": _COUNT,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {"each": _COUNT, "total": _COUNT},
    },
    "default": {},
}

_COUNT_OR_ANY: Schema = {
    "description": f"{_COUNT['description']}, or any",
    "anyOf": [*_COUNT["anyOf"], {"const": ANY}],
}

_ANY: Schema = {"description": "any: such a change has no count", "const": ANY}

_DATA: Schema = {
    "description": "for each relation whose data the DDL changes, triggers and functions included: "
    "the kinds of changes, such as public.orders: {UPDATE: 86}",
    "type": "object",
    "additionalProperties": {
        **_mapping(
            "a mapping of kinds of changes to counts",
            {
                **dict.fromkeys(COUNTED, _COUNT_OR_ANY),
                **dict.fromkeys(UNCOUNTED, _ANY),
            },
            [],
        ),
        "minProperties": 1,
    },
    "default": {},
}

_SQL = _text("one SELECT; every relation with its schema")

_EXPECT: Schema = {
    "description": "a scalar (one row, one column), a list of scalars (one column), a mapping (one row), "
    "a list of mappings (rows), or [] (no row); a scalar is a whole number, a text, true, false or null",
}

_STATEMENTS = _list("kinds of statements, such as ALTER TABLE ADD COLUMN", {"type": "string"})

_CHECK: Schema = _mapping(
    "a check: id, title, and either sql with expect or builtin",
    {
        "id": _ID,
        "title": _TITLE,
        "sql": _SQL,
        "expect": _EXPECT,
        "builtin": {
            "description": "target_identity or ddl_checksum (preflight), schema_diff (verify)",
            "enum": ["target_identity", "ddl_checksum", "schema_diff"],
        },
        "after_commit": {
            "description": "true: a check of verify that passes only after the statements after COMMIT have run",
            "const": True,
        },
    },
    ["id", "title"],
)

PHASE_SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "incomex.phasegate phase.yml",
    **_mapping(
        "the definition of a phase",
        {
            "phase": _SLUG,
            "title": _TITLE,
            "revision": _text("the revision of this phase, such as r2"),
            "requires": {**_list("slugs of phases that must have been applied before", _SLUG), "default": []},
            "migrate": _mapping("the DDL of the phase", {"file": _FILE, "sha256": _SHA256}, ["file", "sha256"]),
            "rollback": _mapping(
                "the SQL that removes what the phase added",
                {
                    "file": _FILE,
                    "sha256": _SHA256,
                    "statements": _STATEMENTS,
                    "rows": _ROWS,
                    "rewrites": {
                        **_REWRITES,
                        "description": "tables that the server may rewrite in a rollback, besides those of scope.rewrites",
                    },
                    "cannot_restore": {
                        **_list(
                            "what the rollback does not restore, one sentence each; [] if it restores everything",
                            _text("a sentence"),
                        ),
                    },
                },
                ["file", "sha256", "statements", "cannot_restore"],
            ),
            "settings": {
                **_mapping(
                    "settings of the session in which the phase runs (TimeZone is always UTC)",
                    {
                        "search_path": {
                            **_list("schemas searched after pg_catalog; each also in scope.schemas", _SCHEMA_NAME),
                            "default": [],
                        },
                        "lock_timeout": _duration("longest wait for a lock", "5s"),
                        "statement_timeout": _duration("longest time for a statement", "60s"),
                        "idle_in_transaction_session_timeout": _duration("longest pause between statements", "60s"),
                        "after_commit_timeout": _duration(
                            "longest time for a statement or batch after COMMIT, waits included", "1h"
                        ),
                    },
                    [],
                ),
                "default": {},
            },
            "scope": _mapping(
                "what the DDL is allowed to do",
                {
                    "schemas": {**_list("schemas that the phase's SQL may name", _SCHEMA_NAME), "minItems": 1},
                    "statements": {**_STATEMENTS, "minItems": 1},
                    "functions": {
                        **_list(
                            "functions with effects of their own that the SQL may call, and operators outside of pg_catalog",
                            {
                                "description": "a function or operator with its schema, such as public.next_code",
                                "type": "string",
                                "pattern": '^[^."\\s]+\\.[^."\\s]+$',
                            },
                        ),
                        "default": [],
                    },
                    "rewrites": _REWRITES,
                },
                ["schemas", "statements"],
            ),
            "expect": _mapping(
                "the expected statements and results of the DDL",
                {
                    "tags": {
                        "description": "for each command tag in the DDL, BEGIN and COMMIT included: how often",
                        "type": "object",
                        "minProperties": 1,
                        "additionalProperties": {
                            "description": "a whole number of at least 1",
                            "type": "integer",
                            "minimum": 1,
                        },
                    },
                    "rows": _ROWS,
                    "result": _EXPECT,
                },
                ["tags"],
            ),
            "preflight": {**_list("checks before the migration", _CHECK), "minItems": 1},
            "verify": {**_list("checks before COMMIT and again after it", _CHECK), "minItems": 1},
            "measure": {
                **_list(
                    "columns that are captured before and after, and compared row by row",
                    _mapping(
                        "a measured column",
                        {
                            "id": _ID,
                            "relation": _RELATION,
                            "key": _text("the name of a column that identifies a row"),
                            "column": _text("the name of the measured column"),
                            "expect": {
                                **_mapping(
                                    "expected figures of the comparison",
                                    dict.fromkeys(("rows", "changed", "distinct_before", "distinct_after"), _WHOLE),
                                    [],
                                ),
                                "default": {},
                            },
                            "note": {"description": "a sentence for the report", "type": "string", "default": ""},
                        },
                        ["id", "relation", "key", "column"],
                    ),
                ),
                "default": [],
            },
            "row_counts": {
                **_list(
                    "relations whose rows are counted before and after; "
                    "{relation: …, change: N} where the phase adds or removes rows",
                    {
                        "description": "a relation, or {relation: …, change: N}",
                        "anyOf": [
                            {"type": "string"},
                            _mapping(
                                "a relation and by how much its number of rows changes",
                                {"relation": _RELATION, "change": {"type": "integer"}},
                                ["relation", "change"],
                            ),
                        ],
                    },
                ),
                "default": [],
            },
            "data": _DATA,
            "batches": {
                "description": "for each table whose UPDATE or DELETE runs after COMMIT in committed batches: "
                "how, such as public.orders: {by: id, rows: 5000}",
                "type": "object",
                "additionalProperties": _mapping(
                    "the batches of a table",
                    {
                        "by": _text("the key: a column that is NOT NULL and has a unique index of its own"),
                        "rows": {
                            "description": "how many rows a batch has at most: a whole number of at least 1",
                            "type": "integer",
                            "minimum": 1,
                        },
                        "data": {
                            **_DATA,
                            "description": "what the batches change besides, by triggers, functions and cascades, all batches together",
                        },
                    },
                    ["by", "rows"],
                ),
                "default": {},
            },
            "diff": {
                **_mapping(
                    "the rule for the structural diff",
                    {
                        "policy": {
                            "description": "additions_only, exact (as rehearsed) or unchanged",
                            "enum": ["additions_only", "exact", "unchanged"],
                            "default": "additions_only",
                        },
                        "allow": {
                            **_list(
                                "changes that are permitted in addition to the policy",
                                {
                                    **_mapping(
                                        "an exception: one or more of class, kind, schema, object; * is a wildcard",
                                        {
                                            key: _text("a name, * is a wildcard")
                                            for key in ("class", "kind", "schema", "object")
                                        },
                                        [],
                                    ),
                                    "minProperties": 1,
                                },
                            ),
                            "default": [],
                        },
                    },
                    [],
                ),
                "default": {},
            },
            "accept": {
                **_list(
                    "forms of statements that reads or writes wait for, though a safer one is known, and why that does no harm here",
                    _mapping(
                        "a form: statement, relation and reason",
                        {
                            "statement": {"description": "its kind, as in scope.statements", "type": "string"},
                            "relation": _RELATION,
                            "reason": _text("a sentence"),
                        },
                        ["statement", "relation", "reason"],
                    ),
                ),
                "default": [],
            },
            "drift": {
                **_mapping(
                    "what a job changes between rehearsal and execution, and what the phase does not have to be rehearsed again for",
                    {
                        "partitions_of": {
                            **_list("partitioned tables whose partitions come and go", _RELATION),
                            "default": [],
                        },
                    },
                    [],
                ),
                "default": {},
            },
            "non_scope": {
                **_list(
                    "statements about what the phase leaves unchanged",
                    _mapping(
                        "a statement: id, title, and either sql with expect or not_attempted: true",
                        {
                            "id": _ID,
                            "title": _TITLE,
                            "sql": _SQL,
                            "expect": _EXPECT,
                            "only_if_exists": {
                                **_list("relations without which the check does not apply", _RELATION),
                                "default": [],
                            },
                            "not_attempted": {
                                "description": "true: the database cannot answer it, and the report records it as not attempted",
                                "const": True,
                            },
                        },
                        ["id", "title"],
                    ),
                ),
                "default": [],
            },
            "cross_references": {
                **_list(
                    "references for further reading",
                    _mapping("a reference", {"title": _TITLE, "ref": _text("a reference")}, ["title", "ref"]),
                ),
                "default": [],
            },
        },
        ["phase", "title", "revision", "migrate", "rollback", "scope", "expect", "preflight", "verify"],
    ),
}
