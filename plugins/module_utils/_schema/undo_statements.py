# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The statements that a rollback lacks: those that bring back what still differs from the schema before. Pure.

They are a draft for its author, from the facts of before: nothing runs them but a rollback that a rehearsal proves.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    identifier,
    qualified,
    readable_literal,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import decode_fact
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity import ADDED, CHANGED, REMOVED

_Facts = Mapping[Tuple[str, Tuple[str, ...]], Mapping[str, Optional[str]]]

# In which order: what depends on something is dropped before it and made after it. By hand comes last.
(
    _DROPS,
    _DROPS_LAST,
    _DROPS_USED,
    _DROPS_TYPES,
    _ROUTINES,
    _COLUMNS,
    _CONSTRAINTS,
    _RELATIONS,
    _BELOW_VIEWS,
    _COMMENTS,
    _BY_HAND,
) = range(11)

# Kinds with a name of their own that are dropped by it.
_DROPPED = {
    "table": "TABLE",
    "view": "VIEW",
    "materialized_view": "MATERIALIZED VIEW",
    "foreign_table": "FOREIGN TABLE",
    "statistics": "STATISTICS",
}

# Kinds that tables and columns use; what is owned by a column has gone with it.
_DROPPED_USED = {
    "sequence": "SEQUENCE IF EXISTS",
    "enum": "TYPE",
    "composite_type": "TYPE",
    "domain": "DOMAIN",
}

_DROPPED_TOGETHER = ("DROP TABLE ", "DROP VIEW ", "DROP MATERIALIZED VIEW ", "DROP TYPE ")

_ROUTINE_KINDS = ("function", "procedure", "aggregate")

# What of a function CREATE OR REPLACE cannot give back, or no text of the facts says for certain.
_NOT_REPLACED = frozenset({"arguments", "result", "settings", "support", "transforms", "library", "owner", "comment"})

# Kinds below a relation that are dropped with its name.
_DROPPED_ON = {"trigger": "TRIGGER", "rule": "RULE", "policy": "POLICY"}

_ROW_SECURITY = {
    ("row_security", True): "ENABLE ROW LEVEL SECURITY",
    ("row_security", False): "DISABLE ROW LEVEL SECURITY",
    ("force_row_security", True): "FORCE ROW LEVEL SECURITY",
    ("force_row_security", False): "NO FORCE ROW LEVEL SECURITY",
}


def undo_statements(changes: Sequence[Mapping[str, Any]], before: Iterable[str]) -> list[str]:
    """Return the statements, and a comment for each change that has no certain one.

    ``changes`` are those of ``Diff.as_list`` from the schema before to the one that a rollback leaves; ``before`` the facts of the former.
    """
    facts = {(fact.kind, fact.identity): fact.attributes for fact in map(decode_fact, before)}
    # several changes of one object may have one statement
    found = dict.fromkeys(one for change in changes for one in _undone(change, facts))
    return _together([text for _order, text in sorted(found, key=lambda one: one[0])])


def _together(statements: Sequence[str]) -> list[str]:
    """Return the statements with one for all tables, views and types that are dropped: they may depend on each other."""
    found: dict[str, list[str]] = {}
    for text in statements:
        verb = next((verb for verb in _DROPPED_TOGETHER if text.startswith(verb)), text)
        found.setdefault(verb, []).append(text[len(verb) : -1])
    return [f"{verb}{', '.join(names)};" if verb in _DROPPED_TOGETHER else verb for verb, names in found.items()]


def _undone(change: Mapping[str, Any], facts: _Facts) -> Iterator[tuple[int, str]]:
    kind, identity, action = change["kind"], tuple(change["identity"]), change["action"]
    found: list[tuple[int, str]] = []
    if action == ADDED:
        found = list(_drop(kind, identity))
    elif action == REMOVED:
        was = facts.get((kind, identity), {})
        found = list(_create(kind, identity, was))
        if found and was.get("comment"):
            found.append(_comment(kind, identity, was["comment"]))
    elif action == CHANGED:
        found = list(_change(kind, identity, change["attribute"], change["before"], facts.get((kind, identity), {})))
    # what nobody sees is not copied either
    hidden = any(escaped(text, keep=LAYOUT) != text for _order, text in found)
    if hidden or not found:
        attribute = f" {change['attribute']}" if change["attribute"] else ""
        found = [
            (
                _BY_HAND,
                f"-- WRITE BY HAND: {escaped(kind.replace('_', ' '))} {escaped(change['name'])}{attribute} {action}"
                + (", with characters that cannot be seen" if hidden else ""),
            )
        ]
    yield from found


def _drop(kind: str, identity: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    if kind in _DROPPED:
        yield _DROPS_LAST if kind == "table" else _DROPS, f"DROP {_DROPPED[kind]} {qualified(*identity)};"
    elif kind in _DROPPED_USED:
        order = _DROPS_USED if kind == "sequence" else _DROPS_TYPES
        yield order, f"DROP {_DROPPED_USED[kind]} {qualified(*identity)};"
    elif kind in _ROUTINE_KINDS:
        yield _DROPS_USED, f"DROP {kind.upper()} {identifier(identity[0])}.{identity[1]};"
    elif kind == "index":
        yield _DROPS, f"DROP INDEX {qualified(identity[0], identity[-1])};"
    elif kind in _DROPPED_ON:
        yield _DROPS, f"DROP {_DROPPED_ON[kind]} {identifier(identity[2])} ON {qualified(*identity[:2])};"
    elif kind in ("column", "constraint"):
        yield (
            _DROPS_LAST if kind == "column" else _DROPS,
            f"ALTER TABLE {qualified(*identity[:2])} DROP {kind.upper()} {identifier(identity[2])};",
        )


def _create(kind: str, identity: tuple[str, ...], was: Mapping[str, str | None]) -> Iterator[tuple[int, str]]:
    """Yield the statement that makes an object again; none for one that had rows, and for one whose definition is not a text."""
    if kind in _ROUTINE_KINDS:
        yield from _routine(kind, identity, was)
    definition = was.get("definition")
    if definition is None or was.get("inherited"):
        return
    if kind == "constraint":
        valid = " NOT VALID" if was.get("not_valid") else ""
        table = qualified(*identity[:2])
        yield _CONSTRAINTS, f"ALTER TABLE {table} ADD CONSTRAINT {identifier(identity[2])} {definition}{valid};"
    elif kind in ("view", "materialized_view"):
        yield _RELATIONS, f"CREATE {_DROPPED[kind]} {qualified(*identity)} AS\n{definition.rstrip(';')};"
    elif kind in ("index", "statistics"):
        yield _CONSTRAINTS, f"{definition};"
    elif kind in ("trigger", "rule"):
        yield _BELOW_VIEWS, f"{definition.rstrip(';')};"


def _routine(kind: str, identity: tuple[str, ...], was: Mapping[str, str | None]) -> Iterator[tuple[int, str]]:
    """Yield the function's or procedure's definition; none where a part of it is no text of SQL in the facts."""
    body = was.get("body")
    if (
        kind == "aggregate"
        or body is None
        or any(was.get(name) for name in ("library", "settings", "support", "transforms"))
    ):
        return
    name = identity[1][: identity[1].rindex("(")]
    words = [f"CREATE OR REPLACE {kind.upper()} {identifier(identity[0])}.{name}({was['arguments']})"]
    if kind == "function":
        words.append(f"RETURNS {was['result']}")
    words.append(f"LANGUAGE {identifier(was['language'] or '')}")
    if kind == "function":
        words += ["WINDOW"] if was["window"] else []
        words += [str(was["volatility"]).upper(), f"PARALLEL {str(was['parallel']).upper()}"]
        words += ["STRICT"] if was["strict"] else []
        words += ["LEAKPROOF"] if was["leakproof"] else []
        words += [f"COST {was['cost']}"] + ([f"ROWS {was['rows']}"] if was["rows"] else [])
    words += ["SECURITY DEFINER"] if was["security_definer"] else []
    if was["language"] == "sql" and body.startswith(("BEGIN ATOMIC", "RETURN ")):
        words.append(body)
    else:
        words.append(f"AS {_dollar_quoted(body)}")
    yield _ROUTINES, "\n".join([words[0], " ".join(words[1:-1]), words[-1]]) + ";"


def _dollar_quoted(text: str) -> str:
    tag = next(tag for tag in ("", *(f"body{n}" for n in range(len(text) + 1))) if f"${tag}" not in text)
    return f"${tag}${text}${tag}$"


def _change(
    kind: str, identity: tuple[str, ...], attribute: str, before: str | None, was: Mapping[str, str | None]
) -> Iterator[tuple[int, str]]:
    if attribute == "comment":
        yield _comment(kind, identity, before)
    elif kind in _ROUTINE_KINDS and attribute not in _NOT_REPLACED:
        yield from _routine(kind, identity, was)
    elif attribute == "definition" and kind in ("index", "constraint", "trigger"):
        made = list(_create(kind, identity, was))
        if made:
            yield from _drop(kind, identity)
            yield from made
            if was.get("comment"):
                yield _comment(kind, identity, was["comment"])
    elif kind == "column" and attribute in ("default", "not_null", "type"):
        column = f"ALTER TABLE {qualified(*identity[:2])} ALTER COLUMN {identifier(identity[2])}"
        verb = "DROP" if before is None else "SET"
        value = {"default": f" {before}" if before is not None else "", "not_null": ""}
        if attribute == "type":
            yield _COLUMNS, f"{column} TYPE {before};"
        else:
            yield _COLUMNS, f"{column} {verb} {attribute.replace('_', ' ').upper()}{value[attribute]};"
    elif kind == "table" and (attribute, before is not None) in _ROW_SECURITY:
        yield _COLUMNS, f"ALTER TABLE {qualified(*identity)} {_ROW_SECURITY[attribute, before is not None]};"
    elif kind == "view" and attribute == "definition" and before:
        yield _RELATIONS, f"CREATE OR REPLACE VIEW {qualified(*identity)} AS\n{before.rstrip(';')};"


def _comment(kind: str, identity: tuple[str, ...], text: str | None) -> tuple[int, str]:
    if kind == "index":
        name = qualified(identity[0], identity[-1])
    elif kind == "column":
        name = f"{qualified(*identity[:2])}.{identifier(identity[2])}"
    elif kind == "constraint" or kind in _DROPPED_ON:
        name = f"{identifier(identity[2])} ON {qualified(*identity[:2])}"
    elif kind in _DROPPED:
        name = qualified(*identity)
    else:
        return (
            _BY_HAND,
            f"-- WRITE BY HAND: the comment of {escaped(kind.replace('_', ' '))} {escaped('.'.join(identity))}",
        )
    words = kind.replace("_", " ").upper()
    return _COMMENTS, f"COMMENT ON {words} {name} IS {'NULL' if text is None else readable_literal(text)};"
