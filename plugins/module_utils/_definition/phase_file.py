# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Load and validate phase.yml and the files it names. Controller only."""

from __future__ import annotations

import difflib
import hashlib
import os
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_found,
    resolved,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import short_json
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import (
    PhaseFileError,
    Problem,
    Repair,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import (
    Lines,
    Path,
    dotted,
    line_of,
    load_strict_yaml,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.phase_schema import PHASE_SCHEMA, Schema
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import (
    ALL_KINDS,
    ALL_TAGS,
    REFUSED_TAGS,
    ROW_TAGS,
)

try:
    import jsonschema
except ImportError:
    HAS_JSONSCHEMA = False
else:
    HAS_JSONSCHEMA = True

_WORDS = {
    dict: "a mapping",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    type(None): "null",
}

_TYPE_WORDS = {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number"}

_BUILTINS = {"target_identity": "preflight", "ddl_checksum": "preflight", "schema_diff": "verify"}

_DIFF_LINES = ("added", "removed")


@dataclass(frozen=True)
class SourceFile:
    """A file of the phase. ``name`` is as phase.yml has it, ``path`` where it was read, ``data`` its bytes."""

    name: str
    path: str
    data: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes, lower-case hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Places:
    """Creates problems with their line in phase.yml."""

    file: str
    lines: Lines

    def problem(self, path: Path, what: str, **parts: Any) -> Problem:
        """Return a problem at ``path``, which is keys and indexes from the root."""
        return Problem(self.file, line_of(self.lines, path), dotted(path), what, **parts)


@dataclass(frozen=True)
class Phase:
    """A phase as loaded. ``definition`` is phase.yml with every default filled in.

    ``source`` is phase.yml itself; ``at`` creates problems with their line in it. ``unpinned`` are the SQL files that differ from
    their digests: problems that are told together with those of the SQL.
    """

    definition: Dict[str, Any]
    source: SourceFile
    migrate: SourceFile
    rollback: SourceFile
    at: Places = field(repr=False)
    unpinned: List[Problem] = field(default_factory=list)


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``did you mean …?`` for the nearest of ``words``, or an empty text."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""


def load_phase(path: str, text: Optional[bytes] = None) -> Phase:
    """Load the phase that the file ``path`` defines, with its two SQL files. Does not parse SQL.

    ``text``: the definition, if it is not that of the file.

    Raises ``PhaseFileError`` with every problem but those of ``unpinned``. Bytes are read once: what is hashed is what is returned.
    """
    path = resolved(path)
    try:
        source = SourceFile(os.path.basename(path), path, _read(path) if text is None else text)
    except OSError as error:
        found = error.strerror or str(error)
        step = "give the path of a phase's phase.yml on the controller"
        problem = Problem(path, 0, "", "cannot be read", expected="a readable file", found=found, next_step=step)
        raise PhaseFileError([problem]) from error
    raw, lines, problems = load_strict_yaml(path, source.data)
    if problems:
        raise PhaseFileError(problems)
    at = Places(path, lines)
    problems = list(_schema_problems(raw, at))
    if problems:
        raise PhaseFileError(problems)
    definition = _with_defaults(PHASE_SCHEMA, raw)
    problems = [*_semantic_problems(definition, at)]
    unpinned: List[Problem] = []
    migrate, rollback = (_sql_file(definition, key, at, problems, unpinned) for key in ("migrate", "rollback"))
    if problems or not migrate or not rollback:
        raise PhaseFileError([*problems, *unpinned])
    return Phase(_normalised(definition), source, migrate, rollback, at, unpinned)


def phase_of_definition(
    definition: Dict[str, Any], source: SourceFile, migrate: SourceFile, rollback: SourceFile
) -> Phase:
    """Return the phase with a complete definition, such as a plan has it, and these two SQL files.

    Raises ``PhaseFileError`` with every problem, for a definition that ``load_phase`` does not return, too.
    """
    at = Places(source.path, {})
    problems = list(_schema_problems(definition, at))
    if not problems:
        complete = _normalised(_with_defaults(PHASE_SCHEMA, definition))
        problems = [
            at.problem(
                (key,), "not complete", expected=short_json(complete[key]), found=short_json(definition.get(key))
            )
            for key in sorted(complete)
            if complete[key] != definition.get(key)
        ]
    problems = problems or list(_semantic_problems(definition, at))
    for key, file in (("migrate", migrate), ("rollback", rollback)):
        if not problems and (definition[key]["file"], definition[key]["sha256"]) != (file.name, file.sha256):
            problems.append(
                at.problem(
                    (key,),
                    "the definition pins another file",
                    expected=f"{file.name} with SHA-256 {file.sha256}",
                    found=f"{definition[key]['file']} with SHA-256 {definition[key]['sha256']}",
                )
            )
    if problems:
        raise PhaseFileError(problems)
    return Phase(definition, source, migrate, rollback, at)


def _read(path: str) -> bytes:
    return read_found(path)


def _sql_file(
    definition: Mapping[str, Any], key: str, at: Places, problems: List[Problem], unpinned: List[Problem]
) -> Optional[SourceFile]:
    """Read the SQL file under ``key``; adds to ``problems``, or to ``unpinned`` when its digest is another one."""
    name, pinned = definition[key]["file"], definition[key]["sha256"]
    path = os.path.join(os.path.dirname(at.file), name)
    try:
        source = SourceFile(name, path, _read(path))
    except OSError as error:
        problems.append(
            at.problem(
                (key, "file"),
                "the file cannot be read",
                expected=f"a readable file {path}",
                found=error.strerror or str(error),
                next_step="create the file, or correct the name",
            )
        )
        return None
    if source.sha256 != pinned:
        unpinned.append(
            at.problem(
                (key, "sha256"),
                f"{name} differs from the pinned file",
                expected=pinned,
                found=source.sha256,
                next_step=f"if the change to {name} is intended, review it and pin the digest that was found",
                repair=Repair((key, "sha256"), source.sha256),
            )
        )
    return source


def _schema_problems(raw: Any, at: Places) -> Iterator[Problem]:
    validator = jsonschema.Draft202012Validator(PHASE_SCHEMA)
    for error in validator.iter_errors(raw):
        yield from _from_schema_error(error, at)


def _from_schema_error(error: Any, at: Places) -> Iterator[Problem]:
    path: Path = tuple(error.absolute_path)
    schema: Schema = error.schema
    value = error.instance
    if error.validator == "additionalProperties":
        known = schema["properties"]
        for key in value:
            if key not in known:
                yield at.problem(
                    (*path, key),
                    "unknown key",
                    expected="one of " + ", ".join(known),
                    found=key,
                    next_step=nearest(key, known) or "remove it",
                )
    elif error.validator == "required":
        missing = error.message.split("'")[1]
        yield at.problem(
            path,
            f"the key {missing} is missing",
            expected=f"{missing}: {schema['properties'][missing].get('description', '')}",
            next_step="add it",
        )
    else:
        expected = schema.get("description") or _TYPE_WORDS.get(schema.get("type", ""), "") or error.message
        choices = schema.get("enum", ())
        yield at.problem(
            path,
            "invalid value",
            expected=expected,
            found=short_json(value)
            if isinstance(value, (str, int, type(None)))
            else f"{_WORDS[type(value)]} {short_json(value)}",
            next_step=nearest(str(value), choices),
        )


def _with_defaults(schema: Schema, value: Any) -> Any:
    """Return a copy of ``value`` in which every absent key that has a default in the schema has it."""
    if isinstance(value, dict):
        properties: Dict[str, Schema] = schema.get("properties", {})
        others = schema.get("additionalProperties") or {}
        result = {key: _with_defaults(properties.get(key, others), item) for key, item in value.items()}
        for key, sub in properties.items():
            if key not in result and "default" in sub:
                result[key] = _with_defaults(sub, sub["default"])
        return result
    if isinstance(value, list):
        return [_with_defaults(schema.get("items", {}), item) for item in value]
    return value


def _semantic_problems(definition: Dict[str, Any], at: Places) -> Iterator[Problem]:
    yield from _id_problems(definition, at)
    for stage in ("preflight", "verify"):
        for index, check in enumerate(definition[stage]):
            yield from _check_problems(check, stage, (stage, index), at)
    for index, entry in enumerate(definition["non_scope"]):
        yield from _non_scope_problems(entry, ("non_scope", index), at)
    yield from _kind_problems(definition, at)
    yield from _count_problems(definition, at)
    yield from _relation_problems(definition, at)
    yield from _result_problems(definition, at)
    if definition["phase"] in definition["requires"]:
        yield at.problem(("requires",), "a phase cannot require itself", found=definition["phase"])
    for index, schema in enumerate(definition["settings"]["search_path"]):
        if schema not in definition["scope"]["schemas"]:
            yield at.problem(
                ("settings", "search_path", index),
                "a schema outside scope.schemas",
                expected="one of " + ", ".join(definition["scope"]["schemas"]),
                found=schema,
                next_step="add it to scope.schemas, or write names with their schema and leave search_path empty",
            )


def _id_problems(definition: Dict[str, Any], at: Places) -> Iterator[Problem]:
    seen: Dict[str, str] = {}
    for section in ("preflight", "verify", "measure", "non_scope"):
        for index, entry in enumerate(definition[section]):
            path = (section, index, "id")
            first = seen.setdefault(entry["id"], dotted(path))
            if first != dotted(path):
                yield at.problem(path, "duplicate id", found=f"{entry['id']}, first at {first}", next_step="rename one")


def _check_problems(check: Dict[str, Any], stage: str, path: Path, at: Places) -> Iterator[Problem]:
    builtin = check.get("builtin")
    if "after_commit" in check and (stage != "verify" or builtin):
        yield at.problem(
            (*path, "after_commit"),
            "allowed only in a check with sql under verify",
            next_step="remove it, or move the check",
        )
    if (builtin is None) == ("sql" not in check):
        yield at.problem(path, "a check needs either sql or builtin", found="both" if builtin else "neither")
    elif builtin is None:
        yield from _sql_expect_problems(check, path, at)
    elif _BUILTINS[builtin] != stage:
        yield at.problem(
            (*path, "builtin"),
            "a builtin check in the wrong list",
            expected=f"{builtin} under {_BUILTINS[builtin]}",
            found=f"{builtin} under {stage}",
            next_step="move the check",
        )
    elif builtin == "schema_diff":
        expect = check.get("expect")
        if not isinstance(expect, dict) or sorted(expect) != list(_DIFF_LINES) or not _all_integers(expect.values()):
            yield at.problem(
                (*path, "expect"), "invalid value", expected="{removed: N, added: N}", found=short_json(expect)
            )
    elif "expect" in check:
        yield at.problem(
            (*path, "expect"), f"the builtin check {builtin} does not accept expect", next_step="remove it"
        )


def _all_integers(values: Iterable[Any]) -> bool:
    return all(type(value) is int for value in values)


def _sql_expect_problems(entry: Dict[str, Any], path: Path, at: Places) -> Iterator[Problem]:
    if "expect" not in entry:
        yield at.problem(path, "the key expect is missing", expected="expect beside sql", next_step="add it")
    else:
        problem = expectation_problem(entry["expect"])
        if problem:
            yield at.problem(
                (*path, "expect"), "invalid expectation", expected=problem, found=short_json(entry["expect"])
            )


def _non_scope_problems(entry: Dict[str, Any], path: Path, at: Places) -> Iterator[Problem]:
    if ("sql" in entry) == ("not_attempted" in entry):
        found = "both" if "sql" in entry else "neither"
        yield at.problem(path, "the entry needs either sql or not_attempted", found=found)
    elif "sql" in entry:
        yield from _sql_expect_problems(entry, path, at)
    elif "expect" in entry or entry["only_if_exists"]:
        yield at.problem(path, "expect and only_if_exists are allowed only with sql", found="not_attempted: true")


def expectation_problem(value: Any) -> str:
    """Return the valid forms of an ``expect`` value when ``value`` has none of them, else an empty text."""
    items = value if isinstance(value, list) else [value]
    scalars = _flat(items)
    rows = all(isinstance(item, dict) and item and _flat(item.values()) for item in items)
    return (
        "" if scalars or rows else "a scalar, a list of scalars, a mapping of scalars, a list of such mappings, or []"
    )


def _flat(values: Iterable[Any]) -> bool:
    return not any(isinstance(value, (dict, list)) for value in values)


def _kind_problems(definition: Dict[str, Any], at: Places) -> Iterator[Problem]:
    for path, kinds in (
        (("scope", "statements"), definition["scope"]["statements"]),
        (("rollback", "statements"), definition["rollback"]["statements"]),
    ):
        for index, kind in enumerate(kinds):
            if kind not in ALL_KINDS:
                reason = REFUSED_TAGS.get(kind)
                yield at.problem(
                    (*path, index),
                    "a kind of statement that is not allowed in a phase" if reason else "unknown kind of statement",
                    expected=f"another way: {reason}" if reason else "a command tag, or an ALTER with its subcommand",
                    found=kind,
                    next_step="" if reason else nearest(kind.upper(), ALL_KINDS),
                )
    for tag in definition["expect"]["tags"]:
        if tag not in ALL_TAGS:
            yield at.problem(
                ("expect", "tags", tag),
                "unknown command tag",
                expected="the tag that psql prints for the statement",
                found=tag,
                next_step=nearest(tag.upper(), ALL_TAGS),
            )


def _count_problems(definition: Dict[str, Any], at: Places) -> Iterator[Problem]:
    counts: List[Tuple[Path, Any]] = []
    for path, rows in (
        (("expect", "rows"), definition["expect"]["rows"]),
        (("rollback", "rows"), definition["rollback"]["rows"]),
    ):
        for tag, values in rows.items():
            if tag not in ROW_TAGS:
                yield at.problem(
                    (*path, tag),
                    "a tag without a row count",
                    expected="one of " + ", ".join(sorted(ROW_TAGS)),
                    found=tag,
                    next_step=nearest(tag.upper(), ROW_TAGS),
                )
            places = values.items() if isinstance(values, dict) else enumerate(values)
            counts.extend(((*path, tag, place), value) for place, value in places)
    for path, data in _data(definition):
        counts.extend(((*path, name, kind), value) for name, kinds in data.items() for kind, value in kinds.items())
    for place, value in counts:
        if isinstance(value, dict) and value.get("min", 0) > value.get("max", value.get("min", 0)):
            yield at.problem(place, "min is above max", found=short_json(value))


def _data(definition: Dict[str, Any]) -> Iterator[Tuple[Path, Dict[str, Any]]]:
    """Yield each declaration of changed data, with its place."""
    yield ("data",), definition["data"]
    for name, entry in definition["batches"].items():
        yield ("batches", name, "data"), entry["data"]


def _relation_problems(definition: Dict[str, Any], at: Places) -> Iterator[Problem]:
    names: List[Tuple[Path, str]] = [
        (("measure", n, "relation"), e["relation"]) for n, e in _entries(definition, "measure")
    ]
    for part in ("scope", "rollback"):
        names += [((part, "rewrites", n), name) for n, name in enumerate(definition[part]["rewrites"])]
    for index, entry in _entries(definition, "non_scope"):
        names += [(("non_scope", index, "only_if_exists", n), name) for n, name in enumerate(entry["only_if_exists"])]
    for once in (
        [
            (("row_counts", index), entry if isinstance(entry, str) else entry["relation"])
            for index, entry in _entries(definition, "row_counts")
        ],
        *([((*path, name), name) for name in data] for path, data in _data(definition)),
        [(("batches", name), name) for name in definition["batches"]],
        [(("drift", "partitions_of", n), name) for n, name in enumerate(definition["drift"]["partitions_of"])],
    ):
        yield from _repeated(once, at)
        names += once
    for place, name in names:
        if split_relation(name) is None:
            yield at.problem(
                place,
                "invalid name of a relation with its schema",
                expected='schema.relation, each in lower case or in double quotes, such as public."Orders"',
                found=name,
            )


def _repeated(names: Iterable[Tuple[Path, str]], at: Places) -> Iterator[Problem]:
    """Yield a problem for each relation that stands earlier in the list, also in another spelling."""
    seen: Set[Tuple[str, str]] = set()
    for path, name in names:
        relation = split_relation(name)
        if relation in seen:
            yield at.problem(path, "duplicate relation", found=name, next_step="keep one of the two")
        if relation:
            seen.add(relation)


def _entries(definition: Dict[str, Any], section: str) -> Iterator[Tuple[int, Any]]:
    return enumerate(definition[section])


def _result_problems(definition: Dict[str, Any], at: Places) -> Iterator[Problem]:
    if "result" in definition["expect"]:
        problem = expectation_problem(definition["expect"]["result"])
        if problem:
            found = short_json(definition["expect"]["result"])
            yield at.problem(("expect", "result"), "invalid expectation", expected=problem, found=found)


def _normalised(definition: Dict[str, Any]) -> Dict[str, Any]:
    """Return the definition with every entry of ``row_counts`` as ``{relation, change}``."""
    counts = [
        {"relation": entry, "change": 0} if isinstance(entry, str) else entry for entry in definition["row_counts"]
    ]
    return {**definition, "row_counts": counts}
