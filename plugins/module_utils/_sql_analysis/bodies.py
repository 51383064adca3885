# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SQL inside DO and inside functions, parsed with PostgreSQL's own parser of PL/pgSQL. Controller only.

Parsed SQL is checked like a statement of the file. Dynamic SQL, and bodies in other languages, cannot be analysed; a
scope allows them by a kind of its own.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.parsing import parse_sql

try:
    import pglast
    from pglast import ast
    from pglast.stream import RawStream
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: Nodes and keys of PL/pgSQL's statements that run dynamic SQL.
_COMPUTED = frozenset({"PLpgSQL_stmt_dynexecute", "PLpgSQL_stmt_dynfors", "dynquery"})

_ENDS = {"PLpgSQL_stmt_commit": "COMMIT", "PLpgSQL_stmt_rollback": "ROLLBACK"}

#: RawParseMode of a text that is a whole statement, and of one that is an expression (src/include/parser/parser.h).
_STATEMENT, _EXPRESSION = 0, 2


@dataclass
class Body:
    """The SQL that a body runs: ``statements`` and, as SELECTs, ``expressions``, both as parse trees.

    ``computed`` is the reason why the body cannot be analysed completely, ``ends`` its commands that end a transaction.
    """

    statements: List[Any] = field(default_factory=list)
    expressions: List[Any] = field(default_factory=list)
    computed: str = ""
    ends: List[str] = field(default_factory=list)


def body_of(node: Any) -> Body:
    """Return the SQL in the body of DO, CREATE FUNCTION or CREATE PROCEDURE, and in the bodies inside it; none for any other statement."""
    body = _own_body(node)
    for inside in list(body.statements):
        inner = body_of(inside)
        body.statements += inner.statements
        body.expressions += inner.expressions
        body.computed = body.computed or inner.computed
        # the transaction that a procedure ends is not that of the body that makes it
        body.ends += inner.ends if isinstance(inside, ast.DoStmt) else []
    return body


def _own_body(node: Any) -> Body:
    body, do = Body(), isinstance(node, ast.DoStmt)
    if not do and not isinstance(node, ast.CreateFunctionStmt):
        return body
    options: Dict[str, Any] = {option.defname: option.arg for option in (node.args if do else node.options) or ()}
    language = options["language"].sval.lower() if "language" in options else "plpgsql" if do else "sql"
    if language == "plpgsql":
        _plpgsql(node, body)
    elif do or language != "sql":
        # the server refuses DO in SQL
        body.computed = f"written in {language}"
    elif "as" in options:
        _parse("".join(part.sval for part in options["as"]), _STATEMENT, body)
    else:
        # RETURN, or BEGIN ATOMIC … END: the grammar nests the statements in lists
        body.statements = [one for one in _flat(node.sql_body) if not isinstance(one, ast.ReturnStmt)]
        body.expressions = [one for one in _flat(node.sql_body) if isinstance(one, ast.ReturnStmt)]
    return body


def _flat(tree: Any) -> Iterator[Any]:
    if isinstance(tree, tuple):
        for item in tree:
            yield from _flat(item)
    elif tree is not None:
        yield tree


def _plpgsql(node: Any, body: Body) -> None:
    try:
        tree = pglast.parse_plpgsql(RawStream()(_with_known_types(node)))
    except pglast.parser.ParseError as error:
        body.computed = f"PL/pgSQL syntax error: {error.args[0]}"
        return
    _collect(tree, body)


def _with_known_types(node: Any) -> Any:
    """Return a copy of the statement whose signature has record in place of types of schemas: the parser has no catalog."""
    (raw,) = parse_sql(RawStream()(node))
    copy = raw.stmt
    if isinstance(copy, ast.CreateFunctionStmt):
        for parameter in copy.parameters or ():
            _make_known(parameter.argType)
            parameter.defexpr = None
        _make_known(copy.returnType)
    return copy


def _make_known(of: Any) -> None:
    if of is not None and len(of.names) > 1 and of.names[0].sval not in ("pg_catalog", "public"):
        of.names, of.arrayBounds, of.pct_type, of.typmods = (ast.String("record"),), None, False, None


def _collect(tree: Any, body: Body) -> None:
    if isinstance(tree, list):
        for item in tree:
            _collect(item, body)
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            if key == "PLpgSQL_expr":
                _parse(value["query"], value["parseMode"], body)
            elif key in _ENDS:
                body.ends.append(_ENDS[key])
            elif key in _COMPUTED:
                body.computed = "dynamic SQL via EXECUTE"
            _collect(value, body)


def _parse(text: str, mode: int, body: Body) -> None:
    """Parse one SQL text of a body into ``body``; after a syntax error the body counts as not analysable."""
    try:
        if mode == _STATEMENT:
            body.statements += [raw.stmt for raw in parse_sql(text)]
        elif mode == _EXPRESSION:
            body.expressions.append(_expression(text))
        else:
            body.expressions += _assignment(text)
    except pglast.parser.ParseError as error:
        body.computed = f"syntax error in {' '.join(text.split())[:80]!r}: {error.args[0]}"


def _expression(text: str) -> Any:
    (raw,) = parse_sql(f"SELECT {text}")
    return raw.stmt


def _assignment(text: str) -> Tuple[Any, Any]:
    """Return target and value of ``target := value`` as expressions: both may call functions."""
    for match in re.finditer(":=|=", text):
        with contextlib.suppress(pglast.parser.ParseError):
            return _expression(text[: match.start()]), _expression(text[match.end() :])
    raise pglast.parser.ParseError("no assignment")
