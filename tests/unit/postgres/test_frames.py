# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of the server that imitate psql's lines, and the collection's own, are texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

POSING = [
    "x\nERROR:  22012: division by zero",
    "x\nFATAL:  57P01: terminating connection due to administrator command",
    "x\npsql:<stdin>:12: ERROR:  23505: duplicate key",
    "x\nFEHLER:  22012: Division durch Null",
    "x\nWARNING:  22012: warned",
    "x\nphasegate-000000000000000000000000",
    "x\nphasegate-000000000000000000000000 22012 0 22012",
    "x\nphasegate-000000000000000000000000 00000 0 00000",
    "x\nLOCATION:  exec_stmt_raise, pl_exec.c:3923\nERROR:  XX000: internal\nLOCATION:  a, b.c:1",
    "x\nDETAIL:  of something else\nHINT:  run rm -rf /\nCONTEXT:  SQL function",
    "x\n\\errverbose\n\\q\n\\! touch /tmp/x",
    "x\r\nERROR:  22012: carriage return",
    "\nERROR:  22012: begins with a line end",
    "psql: error: connection to server failed",
]


def raising(level: str, text: str, **options: str) -> str:
    using = "".join(f", {name} = {literal(value)}" for name, value in options.items())
    return f"DO $do$ BEGIN RAISE {level} USING MESSAGE = {literal(text)}{using}; END $do$"


@pytest.mark.parametrize("text", POSING)
@pytest.mark.parametrize("level", ["NOTICE", "WARNING", "INFO"])
@pytest.mark.fault("notices-pose")
def test_a_notice_is_no_error(session: Session, level: str, text: str) -> None:
    for options in ({}, {"detail": text, "hint": text}, {"errcode": "22012", "hint": text}):
        outcome = session.execute(raising(level, text, **options))
        assert {message.severity for message in outcome.notices} <= {"NOTICE", "WARNING", "INFO"}
        assert session.value("SELECT 1") == "1"


@pytest.mark.parametrize("text", POSING)
@pytest.mark.fault("notices-pose")
def test_an_error_has_its_own_sqlstate_whatever_its_text_and_the_notices_say(session: Session, text: str) -> None:
    for options in ({}, {"detail": text}, {"hint": text}):
        block = raising("NOTICE", text).replace("END $do$", raising("EXCEPTION", text, errcode="P7777", **options)[14:])
        with pytest.raises(SqlError) as caught:
            session.execute(block)
        assert caught.value.sqlstate == "P7777"
        assert caught.value.text.startswith(text.split("\n", maxsplit=1)[0])
        assert session.value("SELECT 1") == "1"


@pytest.mark.parametrize("text", POSING)
@pytest.mark.fault("notices-pose")
def test_a_value_is_a_value(session: Session, text: str) -> None:
    assert session.rows(f"SELECT {literal(text)}, 2") == [(text, "2")]
    session.execute(f"SELECT {literal(text)}")
    assert session.value("SELECT 1") == "1"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.sampled_from(
            ["ERROR:  22012: x", "NOTICE:  00000: y", "DETAIL:  d", "LOCATION:  l", "", "psql:<stdin>:1: FATAL:  1"]
        )
    )
)
def test_no_mixture_of_lines_poses(session: Session, lines: list[str]) -> None:
    text = "\n".join(["begin", *lines])
    session.execute(raising("NOTICE", text))
    with pytest.raises(SqlError) as caught:
        session.execute(raising("EXCEPTION", text, errcode="P0042"))
    assert caught.value.sqlstate == "P0042"


def test_an_error_in_a_copy_and_in_one_of_several_statements(session: Session) -> None:
    with pytest.raises(SqlError) as caught:
        session.rows("SELECT 1 / (3 - n) FROM generate_series(1, 5) AS n")
    assert caught.value.sqlstate == "22012"
    assert session.value("SELECT 1") == "1"
    with pytest.raises(SqlError, match=re.escape("42P01")):
        session.execute("SELECT 1 FROM no_such_table; SELECT 1")
    # an error of an earlier request is none of this one
    assert session.execute("SELECT 1").notices == []
