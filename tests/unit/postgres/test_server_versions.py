# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between major versions of PostgreSQL."""

from __future__ import annotations

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import (
    NEWEST,
    OLDEST,
    compressions,
    for_major,
    grant_role,
    major_of,
    varying,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import QUERIES


@pytest.mark.parametrize(
    ("major", "expected"),
    [(14, "NULL"), (15, "d.daticulocale"), (16, "d.daticulocale"), (17, "d.datlocale"), (18, "d.datlocale")],
)
def test_an_expression_is_that_of_the_newest_version_that_is_not_newer(major: int, expected: str) -> None:
    assert for_major(f"SELECT {varying('database_locale', 'd')} FROM d", major) == f"SELECT {expected} FROM d"


@pytest.mark.parametrize("number", ["0", "90624", "130023", "190000", "200001"])
@pytest.mark.fault("server-unsupported")
def test_another_version_is_refused_in_one_sentence(number: str) -> None:
    with pytest.raises(PhaseGateError, match=rf"^PostgreSQL {int(number) // 10000} is not supported\.\n") as refused:
        major_of(number)
    assert refused.value.expected == f"a server of PostgreSQL {OLDEST} to {NEWEST}"


@pytest.mark.parametrize("number", ["140000", "160014", "180006"])
def test_a_supported_version(number: str) -> None:
    assert major_of(number) == int(number[:2])


def test_no_token_is_left_in_a_query() -> None:
    for major in range(OLDEST, NEWEST + 1):
        assert not [query for query in QUERIES if "@" in query.sql(major)]


def test_a_membership_and_the_compressions_in_the_words_of_each_version() -> None:
    options = {"admin": True, "inherit": False, "may_set": True}
    assert grant_role(15, "a", "b", **options) == "GRANT a TO b WITH ADMIN OPTION"
    assert grant_role(16, "a", "b", **options) == "GRANT a TO b WITH ADMIN True, INHERIT False, SET True"
    assert next(iter(compressions(15).items())) == ("gzip", "6")
    assert next(iter(compressions(18).items())) == ("zstd", "zstd:3")
