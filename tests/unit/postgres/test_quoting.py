# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quoting: whatever text goes in, the server gets exactly that text, and nothing else is run."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import identifier, literal, qualified
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

ONE_SERVER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150
)

#: What psql, a shell, Jinja and SQL give a meaning to.
PIECES = (
    *("\\", "\\\\", "\\!", "\\!touch x", "\n\\q\n", "\n\\echo x\n", "\\.", ":", ":'x'", ':"x"', ":x", "`id`", "$(id)"),
    *("$", "$$", "$pg", "$pg0$", "'", "''", '"', ";", "--", "/*", "*/", "{{ x }}", "\t", "\n", "\r\n", "\ufeff"),
    *("PGDMP", "\nCOPY x FROM STDIN;\n", "\x01", "\x7f", "\u2028", "😀", "é", "E'\\x'", "COMMIT;", "phasegate-"),
)
texts = st.lists(
    st.one_of(st.sampled_from(PIECES), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
    max_size=6,
).map("".join)


@ONE_SERVER
@given(text=texts)
@example("")
@example("$pg")
@example("\\")
@example("\\N")
def test_a_literal_is_the_text_on_the_server(session: Session, text: str) -> None:
    assert session.value(f"SELECT {literal(text)}") == text


@ONE_SERVER
@given(fields=st.lists(st.one_of(st.none(), texts), min_size=1, max_size=5))
def test_fields_come_back_as_they_were_sent(session: Session, fields: list[str | None]) -> None:
    columns = ", ".join("NULL::text" if text is None else literal(text) for text in fields)
    assert session.rows(f"SELECT {columns}") == [tuple(fields)]


def test_every_ascii_character_comes_back(session: Session) -> None:
    text = "".join(map(chr, range(1, 128)))
    assert session.rows(f"SELECT {literal(text)}, {literal(text[::-1])}") == [(text, text[::-1])]


@ONE_SERVER
@given(name=texts.filter(lambda text: 0 < len(text.encode()) <= 63))
@example("x" * 63)
@example("a.b")
@example("SELECT")
@pytest.mark.fault("hostile-names")
def test_an_identifier_names_one_object(session: Session, name: str) -> None:
    session.execute("BEGIN")
    try:
        session.execute(f"CREATE SCHEMA {identifier('s' + name[1:])}")
        session.execute(f"CREATE TABLE {qualified('s' + name[1:], name)} ()")
        row = session.rows(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " ORDER BY c.oid DESC LIMIT 1"
        )
    finally:
        session.execute("ROLLBACK")
    assert row == [("s" + name[1:], name)]


def test_a_tag_that_occurs_in_the_text_is_not_used(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("x $pgdead$ y", "ends with $pgdead", "$pgdead$", "$pgdead$pgdead"):
        tags = iter(["dead", "dead", "beef"])
        monkeypatch.setattr(secrets, "token_hex", lambda _bytes, tags=tags: next(tags))
        quoted = literal(text)
        monkeypatch.undo()
        assert quoted.startswith("$pgbeef$")
        assert session.value(f"SELECT {quoted}") == text


@pytest.mark.parametrize("quote", [literal, identifier])
def test_nul_is_refused(quote: object) -> None:
    assert callable(quote)
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_an_empty_identifier_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        identifier("")
