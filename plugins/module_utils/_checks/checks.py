# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a phase (preflight P-*, verification VA-*, non-scope): run, judge, render."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import CheckStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import (
    cut_short,
    escaped,
    json_line,
    shortened,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.privileges import (
    INSUFFICIENT_PRIVILEGE,
    named_privileges,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import (
    Answer,
    run_queries,
)

NEXT_STEPS = {
    "C-06": "nothing was changed; resolve the failed checks, or find out whether the phase is already applied",
    "C-08": "change nothing; read the report, then decide whether to roll back: that is never automatic",
}

# A check as phase.yml writes it and modules take it.
CHECK_OPTIONS: dict[str, Any] = {
    "id": {"type": "str", "required": True},
    "title": {"type": "str", "default": ""},
    "sql": {"type": "str"},
    "builtin": {"type": "str", "choices": ["target_identity", "ddl_checksum", "schema_diff"]},
    "expect": {"type": "raw"},
    "after_commit": {"type": "bool"},
}

# A non-scope statement of phase.yml: a check, or a fact that only the run itself can report.
NON_SCOPE_OPTIONS: dict[str, Any] = {
    "id": {"type": "str", "required": True},
    "title": {"type": "str", "default": ""},
    "sql": {"type": "str"},
    "expect": {"type": "raw"},
    "only_if_exists": {"type": "list", "elements": "str", "default": []},
    "not_attempted": {"type": "bool", "default": False},
}


# The most characters of a title in a message.
_TITLE = 80


@dataclass(frozen=True)
class CheckFinding:
    """The result of a built-in check, and whether it passed; None when there is nothing to check."""

    passed: bool | None
    expected: str
    found: str


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; ``expected`` and ``found`` are texts for people."""

    id: str
    title: str
    status: CheckStatus
    expected: str
    found: str
    milliseconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {**asdict(self), "status": self.status.value}


Builtins = Mapping[str, Callable[[Mapping[str, Any]], CheckFinding]]


def shape_answer(answer: Answer, expect: Any) -> Any:
    """Return the answer in the form that ``expect`` has, to compare and to show.

    A mapping is the only row, a list of mappings all rows, another list the values of the only
    column, and anything else the only value. An answer that does not fit that form is returned as all rows.
    """
    rows = answer.result
    if isinstance(expect, dict):
        return rows[0] if answer.rows == len(rows) == 1 else rows
    if isinstance(expect, list):
        if (expect and isinstance(expect[0], dict)) or any(len(row) != 1 for row in rows):
            return rows
        return [value for row in rows for value in row.values()]
    if answer.rows == len(rows) == 1 and len(rows[0]) == 1:
        return next(iter(rows[0].values()))
    return rows


def shown_answer(answer: Answer, value: Any) -> str:
    """Return an answer, in the form that was expected, for people."""
    text = shortened(json_line(value))
    return text if is_whole(answer) else f"{answer.rows} rows, more than are compared; the first: {text}"


def is_whole(answer: Answer) -> bool:
    """Return whether an answer has all rows that the server returned: some of them prove nothing."""
    return answer.rows <= len(answer.result)


def answers_equal(expect: Any, found: Any) -> bool:
    """Compare by value and by type: 1 equals 1.0, but neither true nor '1'."""
    if isinstance(expect, bool) or isinstance(found, bool):
        return expect is found
    if isinstance(expect, dict) and isinstance(found, dict):
        return expect.keys() == found.keys() and all(answers_equal(expect[key], found[key]) for key in expect)
    if isinstance(expect, list) and isinstance(found, list):
        return len(expect) == len(found) and all(map(answers_equal, expect, found))
    return type(expect) in _comparable(found) and bool(expect == found)


def _comparable(value: Any) -> tuple[type, ...]:
    return (int, float) if isinstance(value, (int, float)) else (type(value),)


def _absent(session: Session, checks: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return for each check the first of its ``only_if_exists`` that does not exist, or None."""
    names = sorted({name for check in checks for name in check.get("only_if_exists") or ()})
    if not names:
        return [None] * len(checks)
    found = session.rows("SELECT " + ", ".join(f"pg_catalog.to_regclass({literal(name)})" for name in names))[0]
    absent = {name for name, relation in zip(names, found) if relation is None}
    return [next((name for name in check.get("only_if_exists") or () if name in absent), None) for check in checks]


def _finding(check: Mapping[str, Any], builtins: Builtins) -> CheckResult:
    finding = builtins[check["builtin"]](check)
    status = CheckStatus.NOT_RUN if finding.passed is None else CheckStatus.PASS if finding.passed else CheckStatus.FAIL
    return CheckResult(check["id"], check.get("title") or "", status, finding.expected, finding.found)


def _judge(session: Session, check: Mapping[str, Any], answer: Answer) -> CheckResult:
    expect = check.get("expect")
    if answer.error:
        denied = answer.error.startswith(f"{INSUFFICIENT_PRIVILEGE}:")
        grants = named_privileges(session, answer.error) if denied else []
        status, found = CheckStatus.FAIL, " ".join([f"error {shortened(answer.error)}", *grants])
    else:
        value = shape_answer(answer, expect)
        status = CheckStatus.PASS if is_whole(answer) and answers_equal(expect, value) else CheckStatus.FAIL
        found = shown_answer(answer, value)
    return CheckResult(
        check["id"], check.get("title") or "", status, json_line(expect), found, round(answer.milliseconds, 3)
    )


def run_checks(
    session: Session, checks: Sequence[Mapping[str, Any]], builtins: Builtins, schemas: Sequence[str] = ()
) -> list[CheckResult]:
    """Run the checks in the open transaction, in order and sent at once; none stops the others.

    ``schemas`` is the search_path between pg_catalog and pg_temp. ``builtins`` must have every built-in check
    that ``checks`` names.
    """
    absent = _absent(session, checks)
    asked = [check for check, missing in zip(checks, absent) if not check.get("builtin") and missing is None]
    answers = iter(run_queries(session, [check["sql"] for check in asked], schemas))
    results = []
    for check, missing in zip(checks, absent):
        if check.get("builtin"):
            results.append(_finding(check, builtins))
        elif missing is None:
            results.append(_judge(session, check, next(answers)))
        else:
            found = f"{missing} does not exist in this database"
            expected = json_line(check.get("expect"))
            results.append(
                CheckResult(check["id"], check.get("title") or "", CheckStatus.NOT_APPLICABLE, expected, found)
            )
    return results


def run_read_only(
    session: Session, checks: Sequence[Mapping[str, Any]], builtins: Builtins, schemas: Sequence[str] = ()
) -> list[CheckResult]:
    """Run the checks in a READ ONLY REPEATABLE READ transaction of their own."""
    session.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        return run_checks(session, checks, builtins, schemas)
    finally:
        session.execute("ROLLBACK")


def failed_checks(results: Sequence[CheckResult]) -> list[CheckResult]:
    """Return the results that did not pass; a non-scope statement that does not apply is not one of them."""
    return [result for result in results if result.status not in (CheckStatus.PASS, CheckStatus.NOT_APPLICABLE)]


def answerable_statements(non_scope: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the non-scope statements that the database can answer."""
    return [item for item in non_scope if item.get("sql")]


def check_summary(results: Sequence[CheckResult]) -> str:
    """Return '10/10'."""
    return f"{len(results) - len(failed_checks(results))}/{len(results)}"


def require_checks(
    step: str, results: Sequence[CheckResult], non_scope: Sequence[CheckResult] = (), *, check_mode: bool = False
) -> None:
    """Raise ``PhaseGateError`` naming every check and non-scope statement that failed, when one did.

    In check mode a check without a subject is not a failure: nothing was frozen or compared.
    """
    failed = [r for r in failed_checks([*results, *non_scope]) if not (check_mode and r.status == CheckStatus.NOT_RUN)]
    if failed:
        raise PhaseGateError(
            f"{step}: {check_summary(results)} checks passed; failed: {', '.join(result.id for result in failed)}.",
            expected="; ".join(f"{named_check(result)} {result.expected}" for result in failed),
            found="; ".join(f"{result.id} {result.found}" for result in failed),
            next_step=NEXT_STEPS[step],
        )


def named_check(result: CheckResult) -> str:
    """Return a check's id, with its title, cut short, where it has one."""
    return f"{result.id} ({cut_short(result.title, _TITLE)})" if result.title else result.id


def format_check_table(results: Sequence[CheckResult]) -> str:
    """Return the results as a text table: each check with its title, what was expected and what was found."""
    width = max((len(result.id) for result in results), default=0)
    lines = (
        line
        for result in results
        for line in (
            f"{result.id:<{width}}  {result.status}  {result.title}",
            f"{'':<{width}}        expected {result.expected}",
            f"{'':<{width}}        found    {result.found}",
        )
    )
    return "".join(f"{escaped(line)}\n" for line in lines)
