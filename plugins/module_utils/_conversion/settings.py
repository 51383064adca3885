# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of a migration tool's file: what has no effect on a phase goes, what a phase may set is set for its transaction."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import spans
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import may_be_set
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    name_pair,
    string_list,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: Settings that change nothing of what a phase does, with the values for which that holds; of none for every value.
_WITHOUT_EFFECT: Dict[str, Tuple[str, ...]] = {
    "application_name": (),
    "client_encoding": ("utf8", "utf-8", "unicode"),
    "client_min_messages": (),
    "default_table_access_method": ("heap",),
    "default_tablespace": ("",),
    "default_with_oids": ("off", "false", "no", "0"),
    "escape_string_warning": (),
    "idle_in_transaction_session_timeout": ("0",),
    "lock_timeout": ("0",),
    "row_security": (),
    "standard_conforming_strings": ("on", "true", "yes", "1"),
    "statement_timeout": ("0",),
    "synchronous_commit": (),
    "transaction_timeout": ("0",),
    "xmloption": ("content",),
}

#: Entries of a search path that no object of a migration is made in.
_NOT_SEARCHED = ("", "$user", "pg_catalog", "pg_temp")


def searched(node: Any) -> Optional[List[str]]:
    """Return the search path that a statement sets, [] for the usual one, [''] for none; None if it sets another thing or nothing."""
    if is_node(node, ast.VariableSetStmt) and (node.name or "").lower() == "search_path":
        if node.kind.name != "VAR_SET_VALUE":
            return []
        values = [_value(one) for one in node.args or ()]
        return [""] if values == [""] else [one for one in values if one not in _NOT_SEARCHED]
    arguments = _set_config(node)
    if not arguments or arguments[0].lower() != "search_path":
        return None
    names = [one.strip().strip('"') for one in arguments[1].split(",")]
    return [""] if names == [""] else [one for one in names if one not in _NOT_SEARCHED]


def _set_config(node: Any) -> List[str]:
    """Return name and value of a SELECT that does nothing but call set_config with constants."""
    targets: Sequence[Any] = (node.targetList or ()) if is_node(node, ast.SelectStmt) and not node.fromClause else ()
    call: Any = targets[0].val if len(targets) == 1 else None
    if not is_node(call, ast.FuncCall) or name_pair(string_list(call.funcname) or ("",))[1] != "set_config":
        return []
    arguments = [_value(one) for one in call.args or ()]
    return arguments[:2] if arguments[2:] else []


def _value(node: Any) -> str:
    value = getattr(node, "val", None)
    for attribute in ("sval", "ival", "fval", "boolval"):
        if getattr(value, attribute, None) is not None:
            return str(getattr(value, attribute))
    return ""


def setting(sql: bytes, node: Any) -> Optional[bytes]:
    """Return what takes the place of a SET: b"" for nothing; None for a statement that stays as it is."""
    if not is_node(node, ast.VariableSetStmt) or node.kind.name != "VAR_SET_VALUE":
        return None
    name = (node.name or "").lower()
    values = [_value(one).lower() for one in node.args or ()]
    if name in _WITHOUT_EFFECT and (not _WITHOUT_EFFECT[name] or {*values} <= {*_WITHOUT_EFFECT[name]}):
        return b""
    if node.is_local or not may_be_set(name):
        return None
    words = [(start, end, sql[start:end].upper()) for start, end, kind, _text in spans(sql) if kind == "word"]
    after = words[1] if words[1][2] == b"SESSION" else words[0]
    return sql[: words[0][1]] + b" LOCAL" + sql[after[1] :]
