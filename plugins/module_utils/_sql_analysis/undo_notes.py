# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person needs to undo a statement that has no certain inverse. Controller only."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.made_objects import uncertain
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import is_node

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: Statement → what its inverse needs that the SQL does not tell.
_NEEDED: Dict[str, str] = {
    "AlterOwnerStmt": "the owner from before",
    "AlterSeqStmt": "the options from before",
    "CommentStmt": "the comment from before; IS NULL where there was none",
    "DeleteStmt": "the rows, kept somewhere, or a sentence under rollback.cannot_restore",
    "DropStmt": "the definition from before and, of a table, its rows; else a sentence under rollback.cannot_restore",
    "GrantStmt": "the privileges from before",
    "InsertStmt": "a DELETE of these rows and no others",
    "TruncateStmt": "the rows, kept somewhere, or a sentence under rollback.cannot_restore",
    "UpdateStmt": "the values from before, kept somewhere, or a sentence under rollback.cannot_restore",
}

#: The same by subcommand of ALTER TABLE.
_NEEDED_OF_COMMAND: Dict[str, str] = {
    "AT_AlterColumnType": "the type from before, and values that it can hold",
    "AT_AttachPartition": "DETACH PARTITION, or the table is dropped with its parent; and what attaching it added: indexes, keys",
    "AT_ChangeOwner": "the owner from before",
    "AT_ColumnDefault": "the default from before: SET DEFAULT, or DROP DEFAULT where there was none",
    "AT_DetachPartition": "ATTACH PARTITION with the bounds from before",
    "AT_DropColumn": "the column as it was and its values; else a sentence under rollback.cannot_restore",
    "AT_DropConstraint": "the constraint as it was",
    "AT_ValidateConstraint": "the constraint dropped and added again, NOT VALID",
}


def what_is_needed(node: Any) -> str:
    """Return in words what the inverse of a statement needs, '' where there is nothing to say."""
    if is_node(node, ast.AlterEnumStmt) and not node.oldVal:
        return (
            "a value of an enum cannot be removed: a new type in its place, or a sentence under rollback.cannot_restore"
        )
    if uncertain(node) and not getattr(node, "replace", False):
        return "DROP, if it was not there before"
    if uncertain(node):
        return "the definition from before; DROP where there was none"
    if is_node(node, ast.AlterTableStmt):
        told = (_NEEDED_OF_COMMAND.get(one.subtype.name, "") for one in node.cmds)
        return "; ".join(dict.fromkeys(filter(None, told)))
    return _NEEDED.get(type(node).__name__, "")
