# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls that are not written like calls: ``t.f`` is ``f(t)`` where a function ``f`` takes a row of ``t``; an operator calls its function."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import array_literal
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import Script

# Of the schemas that are searched: functions that can be called with a row alone, and operators, by name. Types such as those of
# extensions cannot be used without their operators in C; but anybody can make one of a function in C that means something else.
_FOUND = """
SELECT pg_catalog.format('%s.%s', n.nspname, f.proname), f.proname FROM pg_catalog.pg_proc f
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE n.nspname = ANY ({schemas}) AND f.proname = ANY ({names})
  AND f.pronargs >= 1 AND f.pronargs - f.pronargdefaults <= 1 AND f.prokind = 'f'
UNION SELECT pg_catalog.format('%s.%s', n.nspname, o.oprname), o.oprname FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc f ON f.oid = o.oprcode JOIN pg_catalog.pg_language l ON l.oid = f.prolang
WHERE n.nspname = ANY ({schemas}) AND o.oprname = ANY ({names}) AND NOT (l.lanname IN ('c', 'internal')
  AND EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.objid = o.oid AND d.deptype = 'e'))
ORDER BY 1
"""


def _hidden(session: Session, script: Script, statements: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the functions that statements may call now without the form of a call, and that the scope does not permit."""
    lines: dict[str, list[str]] = {}
    for statement in statements:
        for name in statement.get("searched", ()) if statement["run"] else ():
            lines.setdefault(name, []).append(str(statement["line"]))
    schemas = script.settings["search_path"]
    if not schemas or not lines:
        return []
    query = _FOUND.format(
        schemas=f"{array_literal(schemas)}::pg_catalog.name[]",
        names=f"{array_literal(sorted(lines))}::pg_catalog.name[]",
    )
    return [
        f"{full} (line {', '.join(lines[name or ''])})"
        for full, name in session.rows(query)
        if full not in script.functions
    ]


def require_no_hidden_call(session: Session, script: Script) -> None:
    """Raise ``Stopped`` where the SQL may call a function of the search_path that only the catalog tells from a column or an operator."""
    hidden = _hidden(session, script, script.statements)
    if hidden:
        raise Stopped(
            f"{script.command}: the SQL may call a function that its scope does not permit.",
            expected="no name after a dot that is also a function of settings.search_path with one argument, and no operator of it",
            found=", ".join(hidden),
            next_step="leave settings.search_path empty, or add what is found to scope.functions if it may be called, "
            "as a new revision",
        )


def require_no_later_call(session: Session, script: Script, statement: Mapping[str, Any]) -> None:
    """Raise ``Stopped`` where a statement after COMMIT may call such a function now: whoever may create one had time since."""
    hidden = _hidden(session, script, [statement])
    if hidden:
        raise Stopped(
            f"{script.command}: statement {statement['n']} ({statement['kinds'][0]}, line {statement['line']}) may call a function that came"
            " after the first statement; the transaction before it is COMMITTED.",
            expected="no function and no operator of settings.search_path that the scope does not permit",
            found=", ".join(hidden),
            next_step="find out who made it, and drop it; then run the same command again",
        )
