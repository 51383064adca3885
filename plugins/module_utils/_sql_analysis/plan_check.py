# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read a plan.json for use, and derive again what it says about its SQL. Controller only.

What a plan claims about a statement is no evidence for it: tags, kinds, relations and needs are those that PostgreSQL's
parser finds in the bytes beside the plan, and a plan with others is refused. Whoever reads a plan.json, to review, approve,
verify or execute it, does so here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_found, sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import short_json
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import (
    SourceFile,
    phase_of_definition,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan_reader import read_plan
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import derive_statements

#: What the rehearsal measured repeats these of each statement that ran.
_MEASURED = ("n", "tag", "line")

_NEXT_STEP = (
    "do not sign or execute this plan: find out who changed it. If another version of the collection or of pglast made it,"
    " rehearse again"
)


@dataclass(frozen=True)
class CheckedPlan:
    """A plan whose statements are what its bytes contain. ``data`` are the bytes of plan.json, the others those of the SQL."""

    plan: Dict[str, Any]
    data: bytes
    ddl: bytes
    rollback: bytes

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of plan.json, the digest to approve."""
        return sha256_bytes(self.data)


def read_checked_plan(path: str) -> CheckedPlan:
    """Return the plan in a file, after deriving again what it says about the SQL beside it.

    Every file is read once: what was checked is what is returned. Raises ``PhaseGateError`` for a plan that is not intact, and
    for one whose statements, or what depends on the definition, are not what the SQL contains; ``OSError``.
    """
    data = read_found(path)
    plan = read_plan(data, path)
    migrate, rollback = (_sql_beside(path, plan[part]) for part in ("ddl", "rollback"))
    phase = phase_of_definition(plan["phase"], SourceFile(os.path.basename(path), path, data), migrate, rollback)
    statements, problems = derive_statements(phase)
    derived = {"ddl": statements.migrate, "rollback": statements.rollback}
    for part, file in (("ddl", migrate), ("rollback", rollback)):
        _require_same(path, file.name, plan[part]["statements"], derived[part])
    if problems:
        raise PhaseFileError(problems)
    _require_measured(path, migrate.name, plan["rehearsal"], plan["ddl"]["statements"])
    _require_measured(path, rollback.name, plan["rehearsal"]["rollback"], plan["rollback"]["statements"])
    return CheckedPlan(plan, data, migrate.data, rollback.data)


def _sql_beside(path: str, pinned: Mapping[str, Any]) -> SourceFile:
    """Return an SQL file of a plan: beside it, or in ``sql/`` as in a run directory. Raises ``PhaseGateError``, ``OSError``."""
    directory = os.path.dirname(path)
    places = [os.path.join(directory, pinned["file"]), os.path.join(directory, "sql", pinned["file"])]
    place = next((one for one in places if os.path.exists(one)), places[0])
    data = read_found(place)
    check_cover(pinned["statements"], data, pinned["sha256"], pinned["file"])
    if pinned["bytes"] != len(data):
        raise _differs(path, f"the size of {pinned['file']}", str(len(data)), str(pinned["bytes"]))
    return SourceFile(pinned["file"], place, data)


def _require_same(
    path: str, name: str, claimed: Sequence[Mapping[str, Any]], derived: Sequence[Mapping[str, Any]]
) -> None:
    """Raise ``PhaseGateError`` at the first statement that the plan describes otherwise than its bytes do.

    One that was refused is missing in ``derived``; the caller reports why. Both cover the same bytes without a gap, so none of
    the two is longer when all ranges are equal.
    """
    by_number = {one["n"]: one for one in derived}
    for place, statement in enumerate(claimed, start=1):
        if statement["n"] != place:
            raise _differs(path, f"the number of statement {place} of {name}", str(place), str(statement["n"]))
        known = by_number.get(place)
        for key in sorted(known or ()):
            if known is not None and statement.get(key) != known[key]:
                what = f"{key} of statement {place} of {name} (line {known['line']})"
                raise _differs(path, what, short_json(known[key]), short_json(statement.get(key)))
        unknown = sorted(statement.keys() - known.keys()) if known else []
        if unknown:
            raise _differs(path, f"statement {place} of {name}", "no further keys", ", ".join(unknown))


def _require_measured(
    path: str, name: str, measured: Mapping[str, Any], statements: Sequence[Mapping[str, Any]]
) -> None:
    """Raise ``PhaseGateError`` unless what was measured is about the statements that run, in order."""
    ran: List[List[Any]] = [[one[key] for key in _MEASURED] for one in statements if one["run"]]
    found = [[one[key] for key in _MEASURED] for one in measured["statements"]]
    if found != ran:
        wrong = next((pair for pair in zip(ran, found) if pair[0] != pair[1]), (len(ran), len(found)))
        what = f"the rehearsal's measurement (n, tag, line) of the statements of {name}"
        raise _differs(path, what, short_json(wrong[0]), short_json(wrong[1]))
    numbers = {one["n"] for one in statements if one["run"]}
    for lock in measured.get("locks", ()):
        if lock["statement"] not in numbers:
            what = f"the statement of the lock on {lock['relation']}"
            raise _differs(path, what, f"the number of a statement of {name}", str(lock["statement"]))


def _differs(path: str, what: str, derived: str, claimed: str) -> PhaseGateError:
    return PhaseGateError(
        f"{os.path.basename(path)} does not describe its SQL: {what} differs.",
        expected=f"{derived}, as PostgreSQL's parser finds it in the SQL that the plan pins",
        found=f"{claimed} in {path}",
        next_step=_NEXT_STEP,
    )
