# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make migrate.sql and rollback.sql of a phase from one change of a migration tool. Controller only.

Only what is mechanical is converted. What a person has to decide is a problem, with its line in the tool's file.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any, List, Optional, Sequence, Set

from ansible_collections.incomex.phasegate.plugins.module_utils._common.sql_tokens import LexError, spans
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.builtin_names import FUNCTIONS, TYPES
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.change import Script
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.dumped import (
    gives_to,
    increments,
    restarted,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.formats import read_change
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.psql_text import without_psql
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.qualification import qualifying_edits
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.settings import searched, setting
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.source_text import (
    Edit,
    SourceText,
    joined,
    whole,
    written,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.statements import (
    Parsed,
    parsed,
    statement_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.bodies import body_of
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.classification import (
    either_subject,
    temporary_relations,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import collect_names, names_inside
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_concurrent,
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


@dataclass
class Conversion:
    """The two files of a phase, and what is left.

    ``problems`` stop the conversion; ``left`` stop the rehearsal; ``notes`` are to be read.
    """

    migrate: Script
    rollback: Optional[Script]
    notes: List[str] = field(default_factory=list)
    problems: List[Problem] = field(default_factory=list)
    left: List[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Given:
    """What a person says of a file.

    Its format, '' to recognise it; the changeset of several; the schema of names without one; the role that runs the phase.
    """

    format: str = ""
    changeset: str = ""
    schema: str = "public"
    role: str = ""


def convert(path: str, data: bytes, given: Given) -> Conversion:
    """Return the files of a phase from a file of a migration tool. Raises ``PhaseGateError``, ``OSError``."""
    change = read_change(path, _lines(data), given.format, given.changeset)
    found = Conversion(change.up, None, list(change.notes), list(change.problems))
    found.migrate = Script(change.up.path, _converted(change.up, given, found))
    if change.down is not None:
        down = Script(change.down.path, SourceText(_lines(change.down.text.data), change.down.text.lines))
        found.rollback = Script(down.path, _converted(down, given, found))
    found.notes = list(dict.fromkeys(found.notes))
    return found


def _lines(data: bytes) -> bytes:
    """Return bytes with LF line ends and without a byte order mark."""
    return data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


def _converted(script: Script, given: Given, found: Conversion) -> SourceText:
    path, schema = script.path, given.schema
    text = without_psql(script, found.problems, found.notes)
    statements = parsed(text, path, found.problems)
    control = _own_control(statements)
    kept = [one for one in statements if one.node is not None and id(one) not in control]
    edits: List[Edit] = [_removal(text.data, one.start, one.end) for one in statements if id(one) in control]
    steps = increments([one.node for one in kept], schema)
    current = schema
    temporary: Set[str] = set()
    stay: List[Parsed] = []
    assumed: Set[str] = set()
    for one in kept:
        path_set = searched(one.node)
        replaced = b"" if path_set is not None or gives_to(one.node, given.role) else setting(one.sql, one.node)
        if replaced is None:
            replaced = restarted(one.node, steps, current)
        if path_set is not None:
            current = path_set[0] if path_set else schema
            if len(path_set) > 1:
                found.notes.append(
                    f"{path}:{text.line(one.start)}: a search_path of several schemas: names without one are of {current}"
                )
        if replaced == b"":
            edits.append(_removal(text.data, one.start, one.end))
            continue
        stay.append(one)
        if replaced is not None:
            edits.append((one.start, one.end, replaced))
            continue
        temporary |= temporary_relations(one.node)
        own = qualifying_edits(one.sql, one.node, current, temporary) if current else []
        node = statement_of(whole(one.sql).edited(own).data) if own else one.node
        if node is None:
            what = "names without a schema that are not recognised"
            found.problems.append(
                Problem(
                    path, text.line(one.start), "", what, found=_shown(one), next_step=f"write {current}. before them"
                )
            )
        else:
            assumed |= {current} if own else set()
            one.node = node
            found.left += _left_in_body(one, current, temporary, Problem(path, text.line(one.start), "", ""))
            edits += [(one.start + start, one.start + end, new) for start, end, new in own]
    found.notes += [f"{path}: names without a schema are taken as of {one}" for one in sorted(assumed)]
    edits += [(one.start, one.end, b"") for one in statements if one.node is None]
    return _in_transaction(text, stay, _behind_commit(statements, control), edits)


def _shown(one: Parsed) -> str:
    return " ".join(one.sql.decode("utf-8", "replace").split())[:160]


def _left_in_body(one: Parsed, schema: str, temporary: Set[str], at: Problem) -> List[Problem]:
    """Return the problem of a body that names something without a schema and is read when the statement runs."""
    if not schema or not _reads_body(one.node):
        return []
    body = body_of(one.node)
    names = names_inside(body)
    inside = [collect_names(node) for node in body.statements + body.expressions]
    known = temporary.union(*(temporary_relations(node) for node in body.statements), *(names.ctes for names in inside))
    alone = {name for names in inside for prefix, name, _read in names.relations if not prefix} - known
    alone = {name for name in alone if not name.startswith("pg_")}
    called = {parts[0] for call in names.calls for parts in [string_list(call.funcname) or ("", "")] if len(parts) == 1}
    found = sorted(alone | (called - FUNCTIONS) | _types_alone(body.statements + body.expressions))
    if not found:
        return []
    step = f"write {schema}. before them in migrate.sql or rollback.sql; a phase searches pg_catalog only"
    return [replace(at, what="a body with names without a schema", found=", ".join(found), next_step=step)]


def _types_alone(nodes: Sequence[Any]) -> Set[str]:
    """Return the types without a schema that are not of pg_catalog."""
    found = (string_list(child.names) or () for one in nodes for _, child in walk(one) if is_node(child, ast.TypeName))
    return {parts[0] for parts in found if len(parts) == 1} - TYPES


def _reads_body(node: Any) -> bool:
    """Return whether the server looks up the names of a body at once: that of DO, and of a function in SQL without a path of its own."""
    if is_node(node, ast.DoStmt):
        return True
    options = {one.defname: one.arg for one in node.options or ()} if is_node(node, ast.CreateFunctionStmt) else {}
    in_sql = is_node(options.get("language"), ast.String) and options["language"].sval.lower() == "sql"
    return in_sql and "as" in options and "set" not in options


def _own_control(statements: Sequence[Parsed]) -> Set[int]:
    """Return the one BEGIN and the one COMMIT of a file; none of a file with further transactions, which the analysis refuses."""
    found = [one for one in statements if is_node(one.node, ast.TransactionStmt)]
    kinds = [one.node.kind.name.replace("TRANS_STMT_", "").replace("START", "BEGIN") for one in found]
    plain = not any(one.node.options or one.node.chain for one in found)
    return {id(one) for one in found} if plain and kinds in (["BEGIN", "COMMIT"], ["COMMIT"], ["BEGIN"]) else set()


def _behind_commit(statements: Sequence[Parsed], control: Set[int]) -> Set[int]:
    """Return the statements behind the file's own COMMIT."""
    ends = [n for n, one in enumerate(statements) if id(one) in control and one.node.kind.name == "TRANS_STMT_COMMIT"]
    return {id(one) for one in statements[ends[0] + 1 :]} if ends else set()


def _removal(data: bytes, start: int, end: int) -> Edit:
    """Return the edit that removes a statement, with the line that it has alone."""
    alone = not data[data.rfind(b"\n", 0, start) + 1 : start].strip()
    rest = data[end : _line_end(data, end) + 1]
    return start, end + (len(rest) if alone and not rest.strip() else 0), b""


def _in_transaction(text: SourceText, stay: Sequence[Parsed], behind: Set[int], edits: List[Edit]) -> SourceText:
    """Return the edited text with BEGIN and COMMIT around what runs in the transaction."""
    last = max((n for n, one in enumerate(stay, start=1) if not _is_late(one.node, id(one) in behind)), default=0)
    if not last:
        return _trimmed(text.edited(edits))
    body = stay[last - 1]
    semicolon = b"" if body.sql.endswith(b";") else b";"
    end = body.end
    if text.data[end : _line_end(text.data, end)].strip().startswith(b"--"):
        end = _line_end(text.data, end)
        edits.append((body.end, body.end, semicolon))
        semicolon = b""
    edits.append((end, end, semicolon))
    inside = [one for one in edits if one[0] < end or one[:2] == (end, end)]
    behind_it = [(one[0] - end, one[1] - end, one[2]) for one in edits if one not in inside]
    first = _trimmed(text.part(0, end).edited(inside))
    rest = _trimmed(text.part(end, len(text.data)).edited(behind_it))
    begin, commit = written(b"BEGIN;\n\n", first.lines[0]), written(b"\nCOMMIT;\n", first.lines[-1])
    return joined([begin, first, commit, *([written(b"\n", first.lines[-1]), rest] if rest.data.strip() else [])])


def _is_late(node: Any, behind: bool) -> bool:
    return is_concurrent(node) or (behind and bool(either_subject(node)))


def _line_end(data: bytes, start: int) -> int:
    found = data.find(b"\n", start)
    return len(data) if found < 0 else found


def _trimmed(text: SourceText) -> SourceText:
    """Return a text without blank lines at its beginning, never two of them, and with one line end at its end."""
    edits: List[Edit] = []
    with contextlib.suppress(LexError):
        edits = [
            (start, end, b"\n\n")
            for start, end, kind, found in spans(text.data)
            if kind == "space" and found.count(b"\n") > 1
        ]
    text = text.edited(edits)
    start = len(text.data) - len(text.data.lstrip())
    end = len(text.data.rstrip())
    return joined([text.part(start, max(start, end)), written(b"\n", text.line(max(start, end)))])
