# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that are spelled differently and are one, and names that only look like one."""

from __future__ import annotations

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.names import (
    canonical_name,
    mixed_scripts,
    name_problem,
    skeleton,
    suspicious_words,
)
from ansible_collections.incomex.phasegate.plugins.modules.plan_freeze import author_name
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("name", ["anna ", "\tanna", "ANNA", "Anna\n", "ａｎｎａ", "\u00a0anna\u00a0"])  # noqa: RUF001
def test_spellings_of_one_name(name: str) -> None:
    assert canonical_name(name) == "anna"


@given(name=st.text())
def test_the_canonical_form_has_itself_as_its_form(name: str) -> None:
    assert canonical_name(canonical_name(name)) == canonical_name(name)
    assert skeleton(canonical_name(name)) == skeleton(name)


@pytest.mark.parametrize("name", ["\u0430nna", "an\u200bna", "ann\u0430", "ann\u0101", "\u03b1nna", "anna\u0301"])
def test_names_that_look_alike_have_one_skeleton(name: str) -> None:
    assert skeleton(name) == skeleton("anna")


def test_people_have_names_of_every_script() -> None:
    for name in (
        "Huyền Nguyễn",
        "José-María O'Neill",
        "Ελένη",
        "Анна Каренина",
        "山田太郎",
        "やまだ タロウ",
        "김민수",
        "a.b+c@d",
    ):
        assert name_problem(name) == "", name


@pytest.mark.parametrize("name", ["\u0430nna", "hu\u0443en", "an\u200bna", "an\u202ena", "p\u03b1ul x", "an\nna"])
@pytest.mark.fault("author-alike")
def test_an_author_whose_name_looks_like_another_cannot_freeze_a_plan(name: str) -> None:
    assert name_problem(name)
    with pytest.raises(PhaseGateError, match="The author's name cannot be used"):
        author_name(name)


def test_an_authors_name_is_frozen_without_blanks_around_it() -> None:
    assert author_name("  huyen  ") == "huyen"
    with pytest.raises(PhaseGateError, match="it is empty"):
        author_name(" ")


def test_scripts_that_are_written_together() -> None:
    assert mixed_scripts("東京タワー") == ()
    assert mixed_scripts("p\u0430y") == ("CYRILLIC", "LATIN")


@pytest.mark.fault("names-alike")
def test_words_of_sql_that_a_reviewer_could_take_for_others() -> None:
    sql = 'DROP TABLE p\u0430yments; GRANT ALL ON "\u0441\u043e\u0441\u043e" TO role; SELECT "\ufb01le", größe, 顧客, клиенты FROM coco'
    assert suspicious_words(sql) == [
        ("p\u0430yments", "letters of different scripts (CYRILLIC, LATIN)"),
        ("\u0441\u043e\u0441\u043e", "looks like coco, but is another name"),
        ("\ufb01le", "not in Unicode's normal form: looks like file"),
    ]
    assert suspicious_words("SELECT 1, größe, 'клиенты'") == []
    assert suspicious_words("TABLE \u0441\u043e\u0440\u0443") == [
        ("\u0441\u043e\u0440\u0443", "looks like copy, but is written in CYRILLIC")
    ]
