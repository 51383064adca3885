# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks: an answer is compared by value and type, a failing query harms nothing, and a check changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import (
    NEXT_STEPS,
    CheckFinding,
    CheckResult,
    answers_equal,
    failed_checks,
    require_checks,
    run_read_only,
    shape_answer,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import CheckStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import json_line
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import Answer
from hypothesis import given
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

# --- comparing -------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@given(value=json_values)
def test_a_value_equals_itself(value: Any) -> None:
    assert answers_equal(value, value)


@given(one=json_values, other=json_values)
def test_equality_has_no_direction_and_is_no_looser_than_pythons(one: Any, other: Any) -> None:
    assert answers_equal(one, other) == answers_equal(other, one)
    assert not answers_equal(one, other) or one == other


@pytest.mark.parametrize(
    ("expect", "found"),
    [
        (1, True), (0, False), (1, "1"), (True, "true"), (True, "t"), (None, 0), (None, ""), (None, False), ("", None),
        ("NULL", None), (0, None), ([], {}), ([], None), ([1], 1), ({"n": 1}, {"n": True}), ([1, 2], [2, 1]),
        ([1], [1, 1]), ({"n": 1}, {"n": 1, "m": 2}), ({"n": 1, "m": 2}, {"n": 1}), ("a", "A"), ("a", "a "), (86, 86.5),
    ],
)  # fmt: skip
def test_what_differs_in_type_or_value_is_not_equal(expect: Any, found: Any) -> None:
    assert not answers_equal(expect, found)
    assert not answers_equal(found, expect)


@pytest.mark.parametrize(("expect", "found"), [(1, 1.0), (0, -0.0), (None, None), ({"a": 1, "b": 2}, {"b": 2, "a": 1})])
def test_numbers_are_equal_by_value_and_mappings_without_order(expect: Any, found: Any) -> None:
    assert answers_equal(expect, found)


def answer(*rows: dict[str, Any]) -> Answer:
    return Answer(rows=len(rows), result=list(rows))


@pytest.mark.parametrize(
    ("given_answer", "expect", "value"),
    [
        (answer({"count": 86}), 86, 86),
        (answer({"count": None}), None, None),
        (answer({"a": 1, "b": 2}), 86, [{"a": 1, "b": 2}]),
        (answer({"n": 1}, {"n": 2}), 86, [{"n": 1}, {"n": 2}]),
        (answer(), 86, []),
        (answer(), None, []),
        (answer({"n": 1}), [1], [1]),
        (answer({"n": 1}, {"n": 2}), [1, 2], [1, 2]),
        (answer(), [], []),
        (answer({"n": 1}), [], [1]),
        (answer({"a": 1, "b": 2}), [1], [{"a": 1, "b": 2}]),
        (answer({"n": 1}), [{"n": 1}], [{"n": 1}]),
        (answer({"a": 1, "b": 2}), {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (answer({"a": 1}, {"a": 1}), {"a": 1}, [{"a": 1}, {"a": 1}]),
        (answer(), {"a": 1}, []),
        # a scalar that is itself a JSON array or object stays one value
        (answer({"j": [1, 2]}), 86, [1, 2]),
        (answer({"j": [1, 2]}), [[1, 2]], [[1, 2]]),
    ],
)
def test_an_answer_takes_the_form_of_its_expectation(given_answer: Answer, expect: Any, value: Any) -> None:
    assert shape_answer(given_answer, expect) == value


# --- on a server -----------------------------------------------------------------------------------------------


@pytest.fixture
def opened(client: Client) -> Iterator[Session]:
    with client.session() as opened:
        yield opened


def run(session: Session, *checks: dict[str, Any], schemas: tuple[str, ...] = ()) -> list[CheckResult]:
    numbered = [{"id": f"P-{number}", **check} for number, check in enumerate(checks, start=1)]
    return run_read_only(session, numbered, {}, schemas)


@pytest.mark.parametrize(
    ("sql", "expect"),
    [
        ("SELECT count(*) FROM public.tac_logical_unit", 86),
        ("SELECT count(*) > 0 FROM public.tac_logical_unit;", True),
        ("SELECT NULL::text", None),
        ("SELECT 'a'::text AS x UNION ALL SELECT 'b' ORDER BY 1", ["a", "b"]),
        ("SELECT 1 WHERE false", []),
        ("SELECT 1 AS a, 'x' AS b", {"a": 1, "b": "x"}),
        ("SELECT n, n * 2 AS m FROM generate_series(1, 2) n", [{"n": 1, "m": 2}, {"n": 2, "m": 4}]),
        ("SELECT 9007199254740993::bigint", 9007199254740993),
        ("SELECT 0.1::numeric", 0.1),
        ("SELECT 'line one\nline two \\ \"quoted\"'", 'line one\nline two \\ "quoted"'),
        ("SELECT '{\"a\": [1, null]}'::jsonb", {"a": [1, None]}),
        ("VALUES (1)", 1),
        ("SHOW server_encoding", "UTF8"),
        ("SELECT n FROM generate_series(1, 200) n", list(range(1, 201))),
        ("-- a comment first\nSELECT 1 -- and last", 1),
    ],
)
def test_a_check_passes_on_the_expected_answer(session: Session, sql: str, expect: Any) -> None:
    if isinstance(expect, dict) and "jsonb" in sql:
        expect = {"jsonb": expect}
    (result,) = run(session, {"sql": sql, "expect": expect})
    assert (result.status, result.found) == (CheckStatus.PASS, json_line(expect))


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT count(*) FROM public.tac_logical_unit", "86"),
        ("SELECT 'true'", "true"),
        ("SELECT * FROM no_such_table", 'error 42P01: relation "no_such_table" does not exist'),
        ("SELECT 1/0", "error 22012: division by zero"),
        ("SELEC 1", 'error 42601: syntax error at or near "SELEC"'),
        ("SELECT 1; SELECT 2", "error 42P11: cannot open multi-query plan as cursor"),
        ("SELECT 1; COMMIT", "error 42P11: cannot open multi-query plan as cursor"),
        ("COMMIT", "error"),
        (
            "DELETE FROM public.tac_logical_unit RETURNING 1",
            "error 25006: cannot execute DELETE in a read-only transaction",
        ),
        ("SELECT nextval('public.s')", "error 42P01"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "error 25001"),
        ("SELECT 'unterminated", "error 42601: unterminated quoted string"),
        ("\\! touch escaped", 'error 42601: syntax error at or near "\\"'),
        ("COPY public.tac_logical_unit TO STDOUT", "error"),
        ("", "error"),
        ("SELECT n FROM generate_series(1, 201) n", '201 rows, more than are compared; the first: [{"n": 1}, '),
    ],
)
def test_a_check_fails_on_any_other_answer_and_says_which(session: Session, sql: str, found: str) -> None:
    first, middle, last = run(
        session, {"sql": "SELECT 1", "expect": 1}, {"sql": sql, "expect": True}, {"sql": "SELECT 2", "expect": 2}
    )
    assert (first.status, middle.status, last.status) == (CheckStatus.PASS, CheckStatus.FAIL, CheckStatus.PASS)
    assert middle.found.startswith(found)


def test_an_answer_that_is_too_long_to_keep_never_passes(session: Session) -> None:
    (result,) = run(session, {"sql": "SELECT n FROM generate_series(1, 201) n", "expect": list(range(1, 201))})
    assert result.status == CheckStatus.FAIL


def test_a_timeout_is_the_checks_own_failure(opened: Session) -> None:
    opened.set("statement_timeout", "100ms")
    slow, quick = run(opened, {"sql": "SELECT pg_sleep(60)", "expect": ""}, {"sql": "SELECT 1", "expect": 1})
    assert (slow.status, quick.status) == (CheckStatus.FAIL, CheckStatus.PASS)
    assert slow.found == "error 57014: canceling statement due to statement timeout"


@pytest.mark.fault("name-shadowed")
def test_a_function_of_the_public_schema_does_not_stand_in_for_a_built_in_one(opened: Session) -> None:
    opened.execute("CREATE FUNCTION public.count(anyelement) RETURNS int LANGUAGE sql AS 'SELECT 999'")
    opened.execute("CREATE FUNCTION public.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'fooled'$$")
    opened.execute("CREATE TEMP TABLE pg_class (x int)")
    checks: list[dict[str, Any]] = [
        {"sql": "SELECT lower('A')", "expect": "a"},
        {"sql": "SELECT count(*) > 100 FROM pg_class", "expect": True},
    ]
    assert [result.status for result in run(opened, *checks, schemas=("public",))] == [
        CheckStatus.PASS,
        CheckStatus.PASS,
    ]


def test_the_search_path_of_a_phase_ends_with_its_checks(session: Session) -> None:
    check = {"sql": "SELECT count(*) FROM tac_logical_unit", "expect": 86}
    assert [result.status for result in run(session, check, schemas=("public",))] == [CheckStatus.PASS]
    assert [result.status for result in run(session, check)] == [CheckStatus.FAIL]


@pytest.mark.parametrize("schema", ['with "quotes"', "a, public", "x y", "$user", "'"])
@pytest.mark.fault("hostile-names")
def test_a_hostile_schema_name_is_one_name(session: Session, schema: str) -> None:
    check = {"sql": "SELECT count(*) FROM tac_logical_unit", "expect": 86}
    (result,) = run(session, check, schemas=(schema,))
    assert result.status == CheckStatus.FAIL
    assert "does not exist" in result.found


def test_a_check_without_its_relations_does_not_apply(session: Session) -> None:
    check = {"only_if_exists": ["public.tac_logical_unit", "no.such", 'a b "'], "sql": "SELECT 1/0", "expect": 1}
    (result,) = run(session, check)
    assert (result.status, result.found) == (CheckStatus.NOT_APPLICABLE, "no.such does not exist in this database")
    assert failed_checks([result]) == []


@pytest.mark.parametrize(
    ("passed", "status"), [(True, CheckStatus.PASS), (False, CheckStatus.FAIL), (None, CheckStatus.NOT_RUN)]
)
def test_a_built_in_check_is_judged_by_its_function(session: Session, passed: bool | None, status: str) -> None:
    builtins = {"target_identity": lambda _check: CheckFinding(passed, "e", "f")}
    (result,) = run_read_only(session, [{"id": "P-1", "builtin": "target_identity"}], builtins)
    assert (result.status, result.expected, result.found) == (status, "e", "f")
    assert (not failed_checks([result])) == (passed is True)


def test_all_checks_see_one_state(client: Client, opened: Session) -> None:
    def insert(_check: Any) -> CheckFinding:
        with client.session() as other:
            other.execute("DELETE FROM sandbox_tac.logical_unit")
        return CheckFinding(passed=True, expected="", found="")

    count = {"sql": "SELECT count(*) FROM sandbox_tac.logical_unit", "expect": 76}
    checks: list[dict[str, Any]] = [{"id": "1", **count}, {"id": "2", "builtin": "x"}, {"id": "3", **count}]
    assert [r.found for r in run_read_only(opened, checks, {"x": insert})] == ["76", "", "76"]


def test_a_lost_check_transaction_is_not_left_open(opened: Session) -> None:
    with pytest.raises(KeyError):
        run_read_only(opened, [{"id": "P-1", "builtin": "unknown"}], {})
    with pytest.raises(SqlError, match="25P01"):
        opened.execute("SAVEPOINT none_is_open")


# --- summing up ------------------------------------------------------------------------------------------------


def result(name: str, status: CheckStatus) -> CheckResult:
    return CheckResult(name, f"title of {name}", status, "1", "2")


def test_the_message_names_every_failed_check_and_the_next_step() -> None:
    results = [result("P-1", CheckStatus.PASS), result("P-2", CheckStatus.FAIL), result("P-3", CheckStatus.NOT_RUN)]
    with pytest.raises(PhaseGateError) as caught:
        require_checks("C-06", results, [result("NS-1", CheckStatus.FAIL), result("NS-2", CheckStatus.NOT_APPLICABLE)])
    assert str(caught.value) == (
        "C-06: 1/3 checks passed; failed: P-2, P-3, NS-1.\n"
        "  expected: P-2 (title of P-2) 1; P-3 (title of P-3) 1; NS-1 (title of NS-1) 1\n"
        "  found: P-2 2; P-3 2; NS-1 2\n"
        "  next step: " + NEXT_STEPS["C-06"]
    )


def test_a_failed_check_without_a_title_has_no_brackets() -> None:
    with pytest.raises(PhaseGateError) as caught:
        require_checks("C-06", [CheckResult("P-1", "", CheckStatus.FAIL, "1", "2")])
    assert caught.value.expected == "P-1 1"


def test_in_check_mode_only_a_check_without_a_subject_is_excused() -> None:
    require_checks("C-06", [result("P-2", CheckStatus.NOT_RUN)], check_mode=True)
    with pytest.raises(PhaseGateError, match="failed: P-3"):
        require_checks("C-06", [result("P-2", CheckStatus.NOT_RUN), result("P-3", CheckStatus.FAIL)], check_mode=True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT repeat('9', 5000)::numeric",
        "SELECT -(repeat('9', 100000)::numeric)",
        "SELECT repeat('[', 20000)",
        "SELECT (repeat('[', 5000) || repeat(']', 5000))::jsonb",
    ],
)
@pytest.mark.fault("input-bombs")
def test_an_answer_of_endless_digits_or_depth_fails_its_check_only(session: Session, sql: str) -> None:
    checks = [
        {"id": "V-1", "title": "bomb", "sql": sql, "expect": 1},
        {"id": "V-2", "title": "one", "sql": "SELECT 1", "expect": 1},
    ]
    assert [one.status.value for one in run_read_only(session, checks, {}, [])] == ["FAIL", "PASS"]


@pytest.mark.fault("answer-in-part")
@pytest.mark.parametrize(
    ("sql", "expect", "found"),
    [
        ("SELECT repeat('x', 30000000)", 1, "1 rows, more than are compared; the first: []"),
        ("SELECT repeat('x', 30000000)", [], "1 rows, more than are compared; the first: []"),
        ("SELECT repeat('x', 30000000)", {}, "1 rows, more than are compared; the first: []"),
        ("SELECT 1 UNION ALL SELECT 1 FROM generate_series(1, 200)", [1] * 200, "201 rows, more than are compared"),
        ("SELECT repeat('x', 500000)", 1, "x" * 10_000 + "… (500000 characters)"),
        ("SELECT (repeat('x', 30000000))::int", 1, "error 22P02: invalid input syntax for type integer: "),
    ],
)
def test_a_huge_answer_is_no_huge_message(session: Session, sql: str, expect: Any, found: str) -> None:
    (one,) = run(session, {"sql": sql, "expect": expect})
    assert one.status is CheckStatus.FAIL
    assert one.found.startswith(found)
    assert len(one.found) < 11_000
