# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the schema of names alone into a statement: a phase searches pg_catalog and nothing else. Controller only."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import spans
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.builtin_names import (
    FUNCTIONS,
    OPERATOR_CLASSES,
    TYPES,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import Edit
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.made_objects import RELATION_TYPES
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import collect_names
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.required_privileges import READ_PLACES
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    string_list,
    walk,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: Functions whose first argument is the name of a relation, as a text.
_BY_TEXT = frozenset({"nextval", "currval", "setval", "pg_get_serial_sequence", "to_regclass"})

#: Words that a statement may begin with before the name that it is about.
_LEADING = frozenset(
    [
        "AGGREGATE",
        "ALL",
        "ALTER",
        "COLLATION",
        "COLUMN",
        "COMMENT",
        "CONCURRENTLY",
        "CONFIGURATION",
        "CONSTRAINT",
        "CREATE",
        "DICTIONARY",
        "DOMAIN",
        "DROP",
        "EXECUTE",
        "EXISTS",
        "FOREIGN",
        "FUNCTION",
        "GRANT",
        "IF",
        "INDEX",
        "MATERIALIZED",
        "NOT",
        "ON",
        "OR",
        "PARSER",
        "POLICY",
        "PROCEDURE",
        "REPLACE",
        "REVOKE",
        "ROUTINE",
        "RULE",
        "SEARCH",
        "SEQUENCE",
        "STATISTICS",
        "TABLE",
        "TEMPLATE",
        "TEXT",
        "TRIGGER",
        "TYPE",
        "VIEW",
    ]
)

#: Object types whose last name is of something that belongs to a relation, written as ``name ON relation``.
_ON_RELATION = frozenset({"OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"})

_NAMED_ALONE = RELATION_TYPES | {
    f"OBJECT_{kind}"
    for kind in (
        "TYPE",
        "DOMAIN",
        "STATISTIC_EXT",
        "COLLATION",
        "TSCONFIGURATION",
        "TSDICTIONARY",
        "TSPARSER",
        "TSTEMPLATE",
    )
}

#: Statements → the attribute that has the name of what they make or change.
_OWN_NAMES = {
    "AlterDomainStmt": "typeName",
    "AlterEnumStmt": "typeName",
    "AlterTypeStmt": "typeName",
    "CreateDomainStmt": "domainname",
    "CreateEnumStmt": "typeName",
    "CreateFunctionStmt": "funcname",
    "CreateRangeStmt": "typeName",
    "CreateStatsStmt": "defnames",
    "DefineStmt": "defnames",
}

#: How many parts a name has that begins with its relation and has no schema.
_WITH_RELATION = 2

#: What has to come before a name, '' where nothing has to, and the name itself, part by part.
_Sought = Tuple[str, Tuple[str, ...]]


def qualifying_edits(sql: bytes, node: Any, schema: str, temporary: Set[str]) -> List[Edit]:
    """Return what to insert into a statement so that each name alone has a schema; temporary relations have none."""
    prefix = f"{quoted_name('', schema)}.".encode()
    text = sql.decode("utf-8")
    # the parse tree counts characters
    inserted = {len(text[:place].encode()) for place in _placed(text, node, temporary)} | set(_found_by_text(sql, node))
    edits = [(place, place, prefix) for place in sorted(inserted)]
    if _lacks_schema(node):
        end = len(sql.rstrip(b"; \t\n"))
        edits.append((end, end, f" SCHEMA {quoted_name('', schema)}".encode()))
    return edits


def _lacks_schema(node: Any) -> bool:
    """Return whether a statement makes an extension in the first schema of the search path."""
    if not is_node(node, ast.CreateExtensionStmt) or node.extname == "plpgsql":
        return False
    return not any(option.defname == "schema" for option in node.options or ())


def _placed(sql: str, node: Any, temporary: Set[str]) -> Iterator[int]:
    """Yield where names are that the parse tree has a place of."""
    names = collect_names(node)
    for place, child in walk(node):
        if is_node(child, ast.RangeVar):
            alone = not child.schemaname and child.relpersistence != "t" and child.relname not in temporary
            in_with = place in READ_PLACES and child.relname in names.ctes
            if alone and place != "lockedRels" and not in_with and not child.relname.startswith("pg_"):
                yield child.location
        elif is_node(child, ast.TypeName):
            yield from _type_place(place, child)
        elif is_node(child, ast.FuncCall):
            parts = string_list(child.funcname) or ()
            if len(parts) == 1 and parts[0] not in FUNCTIONS:
                yield child.location
            if parts and parts[-1] in _BY_TEXT and child.args:
                opening = sql.find("(", child.location) + 1
                blank = len(sql[opening:]) - len(sql[opening:].lstrip())
                yield from _text_place(sql, child.args[0], opening + blank)
        elif is_node(child, ast.TypeCast) and (string_list(child.typeName.names) or ("",))[-1] == "regclass":
            # the place of a cast is that of its ::
            end = len(sql[: child.location].rstrip())
            yield from _text_place(sql, child.arg, end - len(_literal(child.arg)))


def _type_place(place: str, node: Any) -> Iterator[int]:
    parts = string_list(node.names) or ()
    # an option such as provider = icu looks like a type to the grammar; a type by %TYPE is a column
    alone = len(parts) == _WITH_RELATION if node.pct_type else len(parts) == 1 and parts[0] not in TYPES
    if alone and place != "arg" and node.location:
        yield node.location


def _text_place(sql: str, node: Any, start: int) -> Iterator[int]:
    """Yield the place of a relation's name in a string that begins at ``start``."""
    literal = _literal(node)
    alone = literal and "." not in literal and not literal.startswith("'pg_")
    if alone and sql[start : start + len(literal)] == literal:
        yield start + 1


def _literal(node: Any) -> str:
    """Return a constant text as it is usually written, '' for any other expression."""
    text = getattr(getattr(node, "val", None), "sval", None) if is_node(node, ast.A_Const) else None
    return "'" + text.replace("'", "''") + "'" if text else ""


def _found_by_text(sql: bytes, node: Any) -> Iterator[int]:
    """Yield where names are that the parse tree has no place of; they are looked for in their order."""
    sought = list(_sought(node))
    if not sought:
        return
    tokens = [(start, _value(kind, sql[start:end])) for start, end, kind, _text in spans(sql) if kind not in _NO_TOKENS]
    position = 0
    while position < len(tokens) and tokens[position][1].isupper() and tokens[position][1] in _LEADING:
        position += 1
    for after, parts in sought:
        found = _position(tokens, position, after, parts)
        if found is not None:
            yield tokens[found][0]
            position = found + 1


_NO_TOKENS = ("space", "comment")


def _value(kind: str, token: bytes) -> str:
    """Return a token so that words are in upper case, unless they cannot be keywords."""
    text = token.decode("utf-8", "replace")
    return text.upper() if kind == "word" else text


def _is_name(token: str, name: str) -> bool:
    if token.startswith('"'):
        return token[1:-1].replace('""', '"') == name
    return token.lower() == name


def _position(tokens: Sequence[Tuple[int, str]], position: int, after: str, parts: Sequence[str]) -> Optional[int]:
    values = [value for _start, value in tokens]
    for word in after.split():
        while position < len(values) and values[position] != word:
            position += 1
        position += 1
    pattern: List[str] = [parts[0]]
    for part in parts[1:]:
        pattern += [".", part]
    for first in range(position, len(values) - len(pattern) + 1):
        here = values[first : first + len(pattern)]
        around = (values[first - 1 : first], values[first + len(pattern) : first + len(pattern) + 1])
        if ["."] not in around and all(map(_is_name, here, pattern)):
            return first
    return None


def _sought(node: Any) -> Iterator[_Sought]:
    """Yield the names alone that a statement has no place of, in the order of its text."""
    own = string_list(getattr(node, _OWN_NAMES.get(type(node).__name__, ""), None)) or ()
    operator = is_node(node, ast.DefineStmt) and node.kind.name == "OBJECT_OPERATOR"
    if len(own) == 1 and not operator:
        yield "", own
    special: Optional[Callable[[Any], Iterator[_Sought]]] = _SPECIAL.get(type(node).__name__)
    if special:
        yield from special(node)
        return
    kind = ""
    for attribute in ("objtype", "objectType", "removeType", "renameType"):
        kind = kind or str(getattr(getattr(node, attribute, None), "name", ""))
    single = [getattr(node, attribute, None) for attribute in ("object", "func")]
    for item in (*single, *(getattr(node, "objects", None) or ())):
        yield from _object(kind, item)


def _object(kind: str, item: Any) -> Iterator[_Sought]:
    if is_node(item, ast.ObjectWithArgs):
        parts = string_list(item.objname) or ()
        if len(parts) == 1 and kind != "OBJECT_OPERATOR":
            yield "", parts
        return
    parts = string_list(item) or ()
    if kind in _ON_RELATION and len(parts) == _WITH_RELATION:
        yield "ON", parts[:1]
    elif (kind == "OBJECT_COLUMN" and len(parts) == _WITH_RELATION) or (kind in _NAMED_ALONE and len(parts) == 1):
        yield "", parts


def _trigger(node: Any) -> Iterator[_Sought]:
    parts = string_list(node.funcname) or ()
    if len(parts) == 1 and parts[0] not in FUNCTIONS:
        yield "EXECUTE", parts


def _index(node: Any) -> Iterator[_Sought]:
    for element in node.indexParams or ():
        parts = string_list(element.opclass) or ()
        if len(parts) == 1 and parts[0] not in OPERATOR_CLASSES:
            yield "", parts


def _sequence(node: Any) -> Iterator[_Sought]:
    for option in node.options or ():
        parts = string_list(option.arg) if option.defname == "owned_by" else None
        if parts and len(parts) == _WITH_RELATION:
            yield "OWNED BY", parts


_SPECIAL: Dict[str, Callable[[Any], Iterator[_Sought]]] = {
    "AlterSeqStmt": _sequence,
    "CreateSeqStmt": _sequence,
    "CreateTrigStmt": _trigger,
    "IndexStmt": _index,
}
