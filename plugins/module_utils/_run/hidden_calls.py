# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls of functions that are written like columns: ``t.f`` is ``f(t)`` where a function ``f`` takes a row of ``t``."""

from __future__ import annotations

import re

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import Script

# Functions that can be called with a row alone, by the schemas that are searched.
_OF_A_ROW = """
SELECT pg_catalog.format('%s.%s', n.nspname, f.proname), f.proname FROM pg_catalog.pg_proc f
JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace
WHERE n.nspname = ANY ({schemas}) AND f.pronargs >= 1 AND f.pronargs - f.pronargdefaults <= 1 AND f.prokind = 'f'
"""


def require_no_hidden_call(session: Session, script: Script) -> None:
    """Raise ``Stopped`` where the SQL may call a function of the search_path as ``t.f``, which its parser cannot tell from a column."""
    schemas = script.settings["search_path"]
    if not schemas:
        return
    text = script.data.decode("utf-8", "replace")
    # of a name in escapes nobody knows here which one it is
    escaped_names = ['a name written U&"…"'] if re.search(r'\bU&"', text, re.IGNORECASE) else []
    listed = f"ARRAY[{', '.join(map(literal, schemas))}]::pg_catalog.name[]"
    hidden = sorted(
        {
            full or ""
            for full, name in session.rows(_OF_A_ROW.format(schemas=listed))
            if full not in script.functions and _may_be_called(text, name or "")
        }
    )
    hidden += escaped_names
    if hidden:
        raise Stopped(
            f"{script.command}: the SQL may call a function that its scope does not permit.",
            expected="no name after a dot that is also a function of settings.search_path with one argument",
            found=", ".join(hidden),
            next_step="leave settings.search_path empty, or add the function to scope.functions if it may be called, "
            "as a new revision",
        )


def _may_be_called(text: str, name: str) -> bool:
    """Return whether a name stands behind a dot, or behind a comment that may hide one, and is not called as a function is."""
    for match in re.finditer(rf"\"?(?<![\w$]){re.escape(name)}(?![\w$])(?!\"?\s*\()", text, re.IGNORECASE):
        before = text[: match.start()].rstrip()
        if before.endswith((".", "*/")) or "--" in before.rpartition("\n")[2]:
            return True
    return False
