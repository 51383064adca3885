# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Propose for a phase.yml what a draft showed on its copy, see ``_run/observation.py``. Controller only.

What the author has declared stays. Filled in is what is open or absent; where the copy contradicts a declaration, a note says so.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import (
    LAYOUT,
    escaped,
    steering_character,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_edit import Noted, edited
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import load_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import load_strict_yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import (
    BY_HAND_COMMENT,
    CANNOT_RESTORE_COMMENT,
    DIFF_COMMENT,
    ROWS_COMMENT,
    VERIFY_COMMENT,
    drafted_checks,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_repair import repair_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.rollback_draft import BY_HAND
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.row_proposal import (
    OPEN_COUNT,
    OPEN_EACH,
    RowProposal,
    propose_rows,
    shortest,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import SqlPiece, split_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    is_node,
    relation_pair,
)

try:
    from pglast import ast
except ImportError:
    HAS_PGLAST = False
else:
    HAS_PGLAST = True

#: More rows of a trailing SELECT than these are no expectation that people read.
_MOST_ROWS = 50

_NUMBERED = re.compile(r"VA-(\d+)")


@dataclass(frozen=True)
class PhaseProposal:
    """The text of phase.yml before and after, and what it does not settle: one text each."""

    before: str
    after: str
    notes: List[str]


def propose_phase(path: str, observed: Mapping[str, Any]) -> PhaseProposal:
    """Return what a definition would be with what was observed. Raises ``PhaseFileError``."""
    repaired = repair_phase(path)
    phase = load_phase(path, repaired.after.encode("utf-8"))
    definition, _lines, _problems = load_strict_yaml(path, phase.source.data)
    problems: List[Problem] = []
    pieces = split_file(phase.migrate, problems)
    proposed = copy.deepcopy(definition)
    undone = observed["rollback"]
    rows = propose_rows(phase, phase.migrate, observed["rows"], observed["tables"])
    rollback_rows = propose_rows(phase, phase.rollback, undone["rows"], undone["tables"])
    told = _proposed(proposed, observed, pieces, rows, rollback_rows)
    notes = [escaped(note, keep=LAYOUT) for note in told]
    answered = _answered(proposed, bool(undone["restored"]), BY_HAND in phase.rollback.data.decode("utf-8"))
    after = edited(_without(repaired.after, answered), proposed, path)
    load_phase(path, after.encode("utf-8"))
    return PhaseProposal(repaired.before, after, notes)


def _answered(definition: Mapping[str, Any], restored: bool, by_hand: bool) -> Iterator[str]:
    """Yield, as patterns, the comments of a drafted phase.yml that ask for what the draft has answered."""
    # a phase has one check of verify at least
    yield re.escape(VERIFY_COMMENT)
    yield re.escape(DIFF_COMMENT)
    rows = [definition[section].get("rows", {}) for section in ("expect", "rollback")]
    if all(OPEN_EACH not in one.values() for one in rows):
        yield re.escape(ROWS_COMMENT)
    if restored:
        yield re.escape(CANNOT_RESTORE_COMMENT)
    if not by_hand:
        yield re.escape(BY_HAND_COMMENT) + r"  # lines? [0-9, ]+\n"


def _without(text: str, patterns: Iterable[str]) -> str:
    for pattern in patterns:
        text = re.sub(pattern, "", text)
    return text


def _proposed(
    definition: Dict[str, Any],
    observed: Mapping[str, Any],
    pieces: Sequence[SqlPiece],
    rows: RowProposal,
    rollback_rows: RowProposal,
) -> Iterator[str]:
    """Fill in what was observed; yield what stays for a person."""
    undone = observed["rollback"]
    batched = definition.get("batches", {})
    _fill_rows(definition["expect"], rows, in_batches=bool(batched))
    if observed["result"] is not None and "result" not in definition["expect"]:
        result = _result(observed["result"])
        if result is _NONE:
            yield "expect.result: the trailing SELECT returned what phase.yml cannot declare; select fewer rows, and texts for other values"
        else:
            definition["expect"]["result"] = result
    _add(definition["scope"], "rewrites", observed["rewrites"])
    _fill_rows(definition["rollback"], rollback_rows, in_batches=False)
    _add(definition["rollback"], "rewrites", undone["rewrites"])
    if definition.get("diff", {}).get("policy") != "exact":
        allowed = definition.setdefault("diff", {})
        entries = [{key: value for key, value in one.items() if key != "seen"} for one in observed["allow"]]
        _add(allowed, "allow", [Noted(entry, one["seen"]) for entry, one in zip(entries, observed["allow"])])
    for relation, kinds in observed["data"].items():
        declared = definition.setdefault("data", {}).get(relation, {})
        found = {kind: rows.data_count(relation, kind, count) for kind, count in kinds.items() if kind not in declared}
        definition["data"][relation] = {**declared, **kinds, **found}
    changed = [one for one in observed["row_counts"] if rows.is_exact_change(one["relation"], one["change"])]
    _add_row_counts(definition, [one for one in changed if one["relation"] not in batched])
    moved = [one for one in observed["moved"] if one["relation"] not in batched]
    _add_measures(definition, moved, pieces, rows.growing)
    _add_checks(definition, observed["checks"], drafted_checks(pieces))
    _add(
        definition["rollback"],
        "cannot_restore",
        [
            escaped(sentence)
            for one in undone["changed"]
            if not any(one["relation"] in sentence for sentence in definition["rollback"]["cannot_restore"])
            for sentence in _left_changed(one["relation"], one["more"], undone["kept"], exact=not rows.growing)
        ],
    )
    for expected, found in observed["differs"]:
        yield f"declared: {expected}; the copy showed: {found}"
    if not undone["restored"]:
        yield f"the rollback does not restore the schema: {undone['reason']}"
        if undone["missing"]:
            yield f"what would restore it, to be read and put into {definition['rollback']['file']}:"
            yield from (line for text in undone["missing"] for line in text.split("\n"))


def _left_changed(relation: str, more: int, kept: Sequence[Mapping[str, Any]], *, exact: bool) -> Iterator[str]:
    """Yield what the rollback leaves changed in a table, in sentences; the number of rows where it is the same wherever it runs."""
    if more:
        number = f"{abs(more)} " if exact else ""
        one = exact and abs(more) == 1
        row = "row" if one else "rows"
        if more > 0:
            yield f"{number}{row} inserted into {relation} {'stays' if one else 'stay'}"
        else:
            yield f"{number}{row} deleted from {relation} {'does' if one else 'do'} not come back"
    columns = [one["column"] for one in kept if one["relation"] == relation]
    if columns:
        values = "keeps its new values" if len(columns) == 1 else "keep their new values"
        yield f"{', '.join(columns)} of {relation} {values}"
    elif not more:
        yield f"the rows of {relation} that the migration changed keep their new values"


_NONE = object()


def _result(rows: Any) -> Any:
    """Return rows in the shortest form that ``expect.result`` can have, ``_NONE`` where it can have none."""
    if not isinstance(rows, list):
        return _NONE
    values = [value for row in rows for value in row.values()]
    if len(rows) > _MOST_ROWS or not all(map(_is_declarable, values)):
        return _NONE
    if rows and len(rows[0]) == 1:
        return values[0] if len(values) == 1 else values
    return rows[0] if len(rows) == 1 else rows


def _is_declarable(value: Any) -> bool:
    return value is None or isinstance(value, int) or (isinstance(value, str) and not steering_character(value))


def _fill_rows(section: Dict[str, Any], found: RowProposal, *, in_batches: bool) -> None:
    """Declare the row counts of statements that are open."""
    for tag, counts in found.counts.items():
        declared = section.get("rows", {}).get(tag)
        if declared is None or declared == OPEN_EACH:
            new: Any = shortest(counts, in_batches=in_batches)
        elif isinstance(declared, list) and len(declared) == len(counts):
            new = [count if one == OPEN_COUNT else one for one, count in zip(declared, counts)]
        else:
            continue
        section.setdefault("rows", {})[tag] = new


def _add(section: Dict[str, Any], key: str, entries: Sequence[Any]) -> None:
    there = section.get(key, [])
    new = [one for number, one in enumerate(entries) if one not in there and one not in entries[:number]]
    if new:
        section[key] = [*there, *new]


def _add_row_counts(definition: Dict[str, Any], found: Sequence[Mapping[str, Any]]) -> None:
    """Declare by how much the number of rows of each changed table changes."""
    there = {one if isinstance(one, str) else one["relation"] for one in definition.get("row_counts", [])}
    new = [one for one in found if one["relation"] not in there]
    _add(definition, "row_counts", [dict(one) if one["change"] else one["relation"] for one in new])


def _add_measures(
    definition: Dict[str, Any], moved: Sequence[Mapping[str, Any]], pieces: Sequence[SqlPiece], growing: Set[str]
) -> None:
    """Measure the columns that a trigger changes: those that no UPDATE sets. How many rows change is not known where they may be more."""
    there = {(one["relation"], one["column"]) for one in definition.get("measure", [])}
    ids = {one["id"] for one in definition.get("measure", [])}
    set_ones = set(_set_columns(pieces))
    for one in moved:
        place = (one["relation"], one["column"])
        if place in there or place in set_ones:
            continue
        name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{one['relation'].split('.')[-1]}.{one['column']}").strip("._-")
        number = next(n for n in range(1, len(ids) + 2) if (name if n == 1 else f"{name}-{n}") not in ids)
        ids.add(name if number == 1 else f"{name}-{number}")
        _add(
            definition,
            "measure",
            [
                {
                    "id": name if number == 1 else f"{name}-{number}",
                    "relation": one["relation"],
                    "key": one["key"],
                    "column": one["column"],
                    **({} if one["relation"] in growing else {"expect": {"changed": one["changed"]}}),
                }
            ],
        )


def _set_columns(pieces: Sequence[SqlPiece]) -> Iterator[Tuple[str, str]]:
    """Yield relation and column of what UPDATE statements set."""
    for piece in pieces:
        if is_node(piece.node, ast.UpdateStmt):
            relation = quoted_name(*relation_pair(piece.node.relation))
            yield from ((relation, target.name) for target in piece.node.targetList)


def _add_checks(definition: Dict[str, Any], checks: Sequence[Mapping[str, Any]], drafted: Set[str]) -> None:
    """Add each check of a changed object; in the place of one that the SQL alone drafted, which says less about that object."""
    verify = definition["verify"]
    numbers = [int(found[1]) for one in verify if (found := _NUMBERED.fullmatch(one["id"]))]
    following = max(numbers, default=0) + 1
    for check in checks:
        new = {key: value for key, value in check.items() if key != "names"}
        if any(one.get("sql") == check["sql"] for one in verify):
            continue
        weaker = next(
            (
                place
                for place, one in enumerate(verify)
                if check["names"] and one.get("sql") in drafted and all(name in one["sql"] for name in check["names"])
            ),
            None,
        )
        if weaker is None:
            verify.append({"id": f"VA-{following}", **new})
            following += 1
        else:
            verify[weaker] = {"id": verify[weaker]["id"], **new}
