# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names in a statement, checked against the schemas of the scope."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Repair
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.bodies import Body
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.required_privileges import READ_PLACES
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import StatementReporter
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    name_pair,
    string_list,
    walk,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema"})

#: Attributes that hold the name of an object which the statement makes or changes, as a list of texts.
_OBJECT_NAMES = frozenset(
    {
        "cfgname",
        "conversion_name",
        "defnames",
        "dictname",
        "domainname",
        "func_name",
        "opclassname",
        "opfamilyname",
        "typeName",
    }
)

#: Attributes that hold a name which is looked up; without a schema only pg_catalog and the search path are searched.
_LOOKED_UP = frozenset(
    {"collation", "collname", "dicts", "method", "names", "name", "objname", "opclass", "operName", "useOp"}
)

#: Object types whose name is a list of texts with something before or after the relation's or object's own name.
_NAME_PARTS: Dict[str, slice] = {
    **dict.fromkeys(("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT"), slice(None, -1)),
    **dict.fromkeys(("OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY"), slice(None, -1)),
    **dict.fromkeys(("OBJECT_OPCLASS", "OBJECT_OPFAMILY"), slice(1, None)),
}

#: Object types whose name is that of a relation, once cut as above.
_RELATIONS = frozenset(
    {
        "OBJECT_COLUMN",
        "OBJECT_FOREIGN_TABLE",
        "OBJECT_INDEX",
        "OBJECT_MATVIEW",
        "OBJECT_POLICY",
        "OBJECT_RULE",
        "OBJECT_SEQUENCE",
        "OBJECT_TABCONSTRAINT",
        "OBJECT_TABLE",
        "OBJECT_TRIGGER",
        "OBJECT_VIEW",
    }
)


@dataclass(frozen=True)
class SqlRules:
    """What a file's statements may be. ``rows`` are the declared counts per tag, in file order."""

    schemas: FrozenSet[str]
    kinds: FrozenSet[str]
    functions: FrozenSet[str]
    search_path: Tuple[str, ...]
    rows: Mapping[str, Sequence[Any]]
    #: where the kinds and rows are declared, for messages
    kinds_at: str
    rows_at: str
    #: the declared batches by schema and name of the relation
    batches: Mapping[Tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class StatementNames:
    """The names in a statement."""

    #: (schema or "", name, only read)
    relations: Set[Tuple[str, str, bool]] = field(default_factory=set)
    #: (schema or "", name): made or changed
    objects: Set[Tuple[str, str]] = field(default_factory=set)
    #: (schema, name): looked up, with a schema
    references: Set[Tuple[str, str]] = field(default_factory=set)
    schemas: Set[str] = field(default_factory=set)
    calls: List[Any] = field(default_factory=list)
    #: names in attribute notation, ``(x).name``: PostgreSQL calls a function of that name where no column has it
    attributes: Set[str] = field(default_factory=set)
    #: last names of qualified columns, ``x.name``: of a function in FROM that returns one value, that may be a call as well
    columns: Set[str] = field(default_factory=set)
    ctes: Set[str] = field(default_factory=set)
    #: relations without a schema that it makes, temporary ones left out
    made: Set[str] = field(default_factory=set)
    #: what functions get as their own search_path
    paths: List[Tuple[str, ...]] = field(default_factory=list)


def names_inside(body: Body) -> StatementNames:
    """Return the names in a body. A relation without a schema may be a transition table, or is searched by the caller's path."""
    names = StatementNames()
    for node in (*body.statements, *body.expressions):
        here = collect_names(node)
        # pg_catalog is searched first, whatever else is
        names.relations |= {one for one in here.relations if one[0] or (one[1].startswith("pg_") and not one[2])}
        names.objects |= here.objects
        names.references |= here.references
        names.schemas |= here.schemas
        names.calls += here.calls
        names.attributes |= here.attributes
        names.columns |= here.columns
        names.paths += here.paths
    return names


def collect_names(node: Any) -> StatementNames:
    """Return the names in a statement's parse tree."""
    names = StatementNames()
    copied: Set[int] = set()
    for place, child in walk(node):
        if isinstance(child, tuple):
            _list_name(names, place, child)
        elif is_node(child, ast.TableLikeClause):
            copied.add(id(child.relation))
        elif is_node(child, ast.RangeVar):
            names.relations |= _relation(place, child, read=id(child) in copied)
        elif is_node(child, ast.FuncCall):
            names.calls.append(child)
        elif is_node(child, ast.CommonTableExpr):
            names.ctes.add(child.ctename)
        elif is_node(child, ast.DefElem, ast.PublicationObjSpec):
            names.schemas.update(_option_schemas(child))
            _option_names(names, child)
        else:
            _possible_calls(names, child)
    _object_names(names, node)
    names.made.update(_made(node))
    names.paths.extend(_own_paths(node))
    for attribute in ("newschema", "schemaname", "local_schema"):
        value = getattr(node, attribute, None)
        if isinstance(value, str):
            names.schemas.add(value)
    return names


def _relation(place: str, relation: Any, *, read: bool) -> Set[Tuple[str, str, bool]]:
    # FOR UPDATE OF names what FROM calls so
    named = {(relation.schemaname or "", relation.relname, read or place in READ_PLACES)}
    return set() if place == "lockedRels" else named


def _made(node: Any) -> Iterator[str]:
    """Yield the name of a relation that a statement makes without naming its schema; of a temporary one there is no other."""
    made: Any = getattr(node, _MAKING.get(type(node).__name__, ""), None)
    if is_node(made, ast.CreateStmt):
        made = made.relation
    elif is_node(made, ast.IntoClause):
        made = made.rel
    if is_node(made, ast.RangeVar) and not made.schemaname and made.relpersistence != "t":
        yield made.relname


#: Statements that make a relation → the attribute with its name.
_MAKING = {
    "CompositeTypeStmt": "typevar",
    "CreateForeignTableStmt": "base",
    "CreateSeqStmt": "sequence",
    "CreateStmt": "relation",
    "CreateTableAsStmt": "into",
    "ViewStmt": "view",
}


def _own_paths(node: Any) -> Iterator[Tuple[str, ...]]:
    """Yield what CREATE or ALTER FUNCTION sets as the function's own search_path, name by name."""
    if not is_node(node, ast.CreateFunctionStmt, ast.AlterFunctionStmt):
        return
    for option in (node.options if is_node(node, ast.CreateFunctionStmt) else node.actions) or ():
        setting = option.arg
        if is_node(setting, ast.VariableSetStmt) and (setting.name or "").lower() == "search_path":
            # each constant is one name, also one with a comma in it
            yield tuple(getattr(one.val, "sval", None) or "" for one in setting.args or ())


def _possible_calls(names: StatementNames, node: Any) -> None:
    """Collect the names of columns and attributes, which call a function of that name where nothing else has it."""
    if is_node(node, ast.ColumnRef):
        names.columns |= {part.sval for part in node.fields[1:] if is_node(part, ast.String)}
    elif is_node(node, ast.A_Indirection):
        names.attributes |= {part.sval for part in node.indirection if is_node(part, ast.String)}


def _list_name(names: StatementNames, place: str, parts: Tuple[Any, ...]) -> None:
    texts = string_list(parts)
    if texts is None:
        return
    if place in _OBJECT_NAMES:
        names.objects.add(name_pair(texts))
    elif place in _LOOKED_UP and len(texts) > 1:
        names.references.add(name_pair(texts))


def _option_schemas(option: Any) -> Set[str]:
    if is_node(option, ast.PublicationObjSpec):
        return {option.name} if option.name and "SCHEMA" in option.pubobjtype.name else set()
    if option.defname == "schema" and is_node(option.arg, ast.String):
        return {option.arg.sval}
    return set(string_list(option.arg) or ()) if option.defname == "schemas" else set()


def _option_names(names: StatementNames, option: Any) -> None:
    """Collect what an option names: an operator that is made when it does not exist, the column of a sequence, a function."""
    parts = string_list(getattr(option, "arg", None)) or ()
    if not parts or not is_node(option, ast.DefElem):
        return
    if option.defname in ("commutator", "negator"):
        names.objects.add(name_pair(parts))
    elif option.defname == "owned_by" and parts[1:]:
        names.relations.add((*name_pair(parts[:-1]), False))
    elif option.defname == "sequence_name" and parts[1:]:
        names.objects.add(name_pair(parts))
    elif option.defname == "support" and parts[1:]:
        names.references.add(name_pair(parts))


def _object_names(names: StatementNames, node: Any) -> None:
    """Collect names whose kind does not follow from their place: functions, and the object of COMMENT, DROP and the like."""
    if is_node(node, ast.CreateFunctionStmt):
        names.objects.add(name_pair(string_list(node.funcname) or ("",)))
    elif is_node(node, ast.CreateTrigStmt, ast.CreateEventTrigStmt) and len(node.funcname) > 1:
        names.references.add(name_pair(string_list(node.funcname) or ("",)))
    kind = ""
    for attribute in ("objtype", "objectType", "removeType", "renameType"):
        kind = kind or str(getattr(getattr(node, attribute, None), "name", ""))
    if is_node(node, ast.RenameStmt) and kind == "OBJECT_SCHEMA":
        names.schemas.update({node.subname, node.newname})
    if is_node(node, ast.GrantStmt) and node.targtype.name == "ACL_TARGET_ALL_IN_SCHEMA":
        kind = "OBJECT_SCHEMA"
    objects = [getattr(node, attribute, None) for attribute in ("object", "func", "opername")]
    for item in (*objects, *(getattr(node, "objects", None) or ())):
        _object_name(names, kind, item)


def _object_name(names: StatementNames, kind: str, item: Any) -> None:
    """Collect the name of one object of type ``kind``."""
    if kind == "OBJECT_SCHEMA" and is_node(item, ast.String):
        names.schemas.add(item.sval)
    elif is_node(item, ast.TypeName, ast.ObjectWithArgs):
        parts = item.names if is_node(item, ast.TypeName) else item.objname
        names.objects.add(name_pair(string_list(parts) or ("",)))
    else:
        texts = string_list(item)
        # of a trigger, rule or policy the name alone: its relation is a name of its own
        own = texts[_NAME_PARTS.get(kind, slice(None))] if texts else None
        if own:
            pair = name_pair(own)
            if kind in _RELATIONS:
                names.relations.add((*pair, False))
            else:
                names.objects.add(pair)


def check_names(names: StatementNames, rules: SqlRules, temporary: Set[str], report: StatementReporter) -> None:
    """Report names outside of the scope's schemas, and those without a schema that pg_catalog, or nothing, is searched for."""
    for schema, name, read in sorted(names.relations):
        if schema or not (name in temporary or name in names.made or (read and name in names.ctes)):
            actual = schema or ("pg_catalog" if name.startswith("pg_") else "")
            _check_name(actual, name, rules, report, read=read)
    for schema, name in sorted(names.objects | {("", name) for name in names.made}):
        if schema:
            _check_name(schema, name, rules, report, read=False)
        else:
            # pg_catalog is where the server makes it, and where it looks first
            _report_alone(name, "it would be one of pg_catalog" if rules.search_path else _NOT_SEARCHED, rules, report)
    for schema, name in sorted(names.references):
        _check_name(schema, name, rules, report, read=True)
    for schema in sorted(names.schemas - rules.schemas):
        _report_schema(schema, schema, rules, report)
    for schema in sorted({one for path in names.paths for one in path} - rules.schemas - _SEARCHED_BY_ALL):
        _report_schema(schema, f"the schema {schema} of a function's search_path", rules, report)
    if rules.kinds_at == "scope.statements":
        # a rollback may restore what was there
        _check_paths(names.paths, report)


def _check_paths(paths: Sequence[Sequence[str]], report: StatementReporter) -> None:
    """Report a function's own search_path by which another schema's functions and operators replace those of pg_catalog."""
    for path in paths:
        before = list(itertools.takewhile(lambda one: one != "pg_catalog", path)) if "pg_catalog" in path else []
        before = [one for one in before if one not in _SEARCHED_BY_ALL]
        if before:
            report(
                f"a function's search_path with {before[0]} before pg_catalog: what is called like a built-in function or"
                " operator would replace it",
                expected="pg_catalog first, or left out: then it is searched first",
                next_step="remove pg_catalog from it, or write it first",
            )


#: Schemas that a function's search_path may have besides those of the scope.
_SEARCHED_BY_ALL = frozenset({"", "pg_temp", *_SYSTEM_SCHEMAS})

_NOT_SEARCHED = "settings.search_path is empty"


def _check_name(schema: str, name: str, rules: SqlRules, report: StatementReporter, *, read: bool) -> None:
    if not schema and not rules.search_path:
        _report_alone(name, _NOT_SEARCHED, rules, report)
    elif schema in _SYSTEM_SCHEMAS and not read:
        report(f"{quoted_name(schema, name)} is a system object", next_step="a phase cannot change system catalogs")
    elif schema and schema not in rules.schemas and schema not in _SYSTEM_SCHEMAS and schema != "pg_temp":
        _report_schema(schema, quoted_name(schema, name), rules, report)


def _report_alone(name: str, why: str, rules: SqlRules, report: StatementReporter) -> None:
    report(
        f"{name} without a schema, and {why}",
        # a draft of names alone has no schema yet
        expected=f"{min(rules.schemas, default='public')}.{name}, for example",
        next_step="write every name with its schema",
    )


def _report_schema(schema: str, name: str, rules: SqlRules, report: StatementReporter) -> None:
    report(
        f"{name} is outside of scope.schemas",
        expected="one of " + ", ".join(sorted(rules.schemas)),
        next_step=f"add {schema} to scope.schemas if it is intended",
        repair=Repair(("scope", "schemas"), schema, add=True),
    )
