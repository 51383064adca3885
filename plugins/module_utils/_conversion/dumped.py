# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pg_dump writes for sequences and owners, as a phase has it. Controller only."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, Optional, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.statements import statement_of
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    name_pair,
    relation_pair,
    string_list,
    walk,
)

try:
    from pglast import ast, enums
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: Schema and name of a sequence.
Sequence = Tuple[str, str]

_SERIAL = frozenset({"serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"})


def increments(nodes: Iterable[Any], schema: str) -> Dict[Sequence, int]:
    """Return the steps of the sequences that statements make; ``schema`` is that of names alone."""
    return {(name[0] or schema, name[1]): step for node in nodes for name, step in _made(node)}


def _made(node: Any) -> Iterator[Tuple[Sequence, int]]:
    if is_node(node, ast.CreateSeqStmt):
        yield relation_pair(node.sequence), _step(node.options)
    relation = relation_pair(node.relation) if is_node(node, ast.CreateStmt, ast.AlterTableStmt) else ("", "")
    column = ""
    for _place, child in walk(node) if relation[1] else ():
        if is_node(child, ast.ColumnDef) and (string_list(child.typeName.names) or ("",))[-1] in _SERIAL:
            yield (relation[0], f"{relation[1]}_{child.colname}_seq"), 1
        if is_node(child, ast.AlterTableCmd):
            column = child.name or column
        if is_node(child, ast.Constraint) and child.contype == enums.ConstrType.CONSTR_IDENTITY:
            named = [string_list(one.arg) for one in child.options or () if one.defname == "sequence_name"]
            implied = (relation[0], f"{relation[1]}_{column}_seq")
            yield name_pair(named[0]) if named and named[0] else implied, _step(child.options)


def _step(options: Any) -> int:
    """Return the INCREMENT of a sequence."""
    values = [getattr(one.arg, "ival", None) for one in options or () if one.defname == "increment"]
    return values[0] if values and isinstance(values[0], int) else 1


def restarted(node: Any, known: Dict[Sequence, int], schema: str) -> Optional[bytes]:
    """Return ALTER SEQUENCE for a SELECT of setval with constants, None for any other; the sequence is made by the same file."""
    targets: Any = (node.targetList or ()) if is_node(node, ast.SelectStmt) and not node.fromClause else ()
    call: Any = targets[0].val if len(targets) == 1 else None
    if not is_node(call, ast.FuncCall) or name_pair(string_list(call.funcname) or ("",))[1] != "setval":
        return None
    name, value, *called = [getattr(one, "val", None) for one in call.args or ()] or [None]
    text, number = getattr(name, "sval", None), getattr(value, "ival", None)
    altered = statement_of(f"ALTER SEQUENCE {text} RESTART".encode()) if text else None
    if altered is None or number is None or any(getattr(one, "boolval", None) is None for one in called):
        return None
    pair = relation_pair(altered.sequence)
    pair = (pair[0] or schema, pair[1])
    if pair not in known:
        return None
    goes_on = getattr(called[0], "boolval", True) if called else True
    following = number + known[pair] if goes_on else number
    return f"ALTER SEQUENCE {quoted_name(*pair)} RESTART WITH {following};".encode()


def gives_to(node: Any, role: str) -> bool:
    """Return whether a statement does nothing but give an object to ``role``, or to whoever runs it."""
    owner = None
    if is_node(node, ast.AlterOwnerStmt):
        owner = node.newowner
    elif is_node(node, ast.AlterTableStmt) and len(node.cmds) == 1:
        owner = node.cmds[0].newowner if node.cmds[0].subtype == enums.AlterTableType.AT_ChangeOwner else None
    if owner is None:
        return False
    return owner.roletype.name == "ROLESPEC_CURRENT_USER" or (bool(role) and owner.rolename == role)
