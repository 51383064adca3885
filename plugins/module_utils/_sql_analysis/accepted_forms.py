# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Forms of statements for which a safer one is known. Controller only.

The review package names those that reads or writes wait for, with the reason that the phase gives under ``accept``, or that it gives
none; of the others those that have a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import Phase, SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import Statement
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.advice import Advice, advise_file


@dataclass(frozen=True)
class UnsafeForm:
    """One form of one statement; ``reasons`` are those that the phase gives, empty for none."""

    advice: Advice
    relations: Sequence[str]
    reasons: Sequence[str]


def unsafe_forms(
    migrate: bytes, statements: Sequence[Statement], accept: Sequence[Mapping[str, Any]]
) -> Dict[int, List[UnsafeForm]]:
    """Return the forms of a migration by the number of the statement; ``accept`` is that key of the phase."""
    advice = advise_file(SourceFile("migrate.sql", "migrate.sql", migrate))
    return {
        one["n"]: [
            UnsafeForm(form, one["relations"], _reasons(accept, one, form))
            for form in dict.fromkeys(advice.get(one["n"], ()))
            if form.unsafe or (form.safer and _reasons(accept, one, form))
        ]
        for one in statements
    }


def _reasons(accept: Sequence[Mapping[str, Any]], statement: Statement, form: Advice) -> List[str]:
    names = {split_relation(name) for name in statement["relations"]}
    return [
        one["reason"] for one in accept if one["statement"] == form.kind and split_relation(one["relation"]) in names
    ]


def acceptance_problems(phase: Phase, statements: Sequence[Statement]) -> Iterator[Problem]:
    """Yield each reason for a form that is not there: it would be read as one for what is."""
    advice = advise_file(SourceFile("migrate.sql", "migrate.sql", phase.migrate.data))
    there = {
        (form.kind, split_relation(name))
        for one in statements
        for form in advice.get(one["n"], ())
        if form.safer
        for name in one["relations"]
    }
    for index, one in enumerate(phase.definition["accept"]):
        if (one["statement"], split_relation(one["relation"])) not in there:
            known = "; ".join(sorted(f"{kind} of {'.'.join(name or ())}" for kind, name in there))
            yield phase.at.problem(
                ("accept", index),
                "a reason for what no statement does",
                expected=f"one of those that a safer form is known of: {known}"
                if known
                else "no reason: of no statement a safer form is known",
                found=f"{one['statement']} of {one['relation']}",
                next_step="remove it, or correct statement or relation",
            )
