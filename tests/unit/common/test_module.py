# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a module that were given and are empty."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import blank_error, blank_options

SPECIFICATION: dict[str, Any] = {
    "plan": {"type": "path"},
    "title": {"type": "str", "default": ""},
    "files": {"type": "list", "elements": "path", "default": []},
    "free": {"type": "dict"},
    "identity": {"type": "dict", "options": {"database": {"type": "str"}}},
    "checks": {"type": "list", "elements": "dict", "options": {"id": {"type": "str"}, "title": {"type": "str", "default": ""}}},
    "age": {"type": "int"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"plan": None, "title": "", "files": [], "free": {}, "identity": None, "checks": None, "age": None}, []),
        ({"plan": ""}, ["plan"]),
        ({"plan": " \t"}, ["plan"]),
        # the default of an option is what it is when it was not given; blanks are not
        ({"title": " "}, ["title"]),
        ({"files": ["a", ""]}, ["files[1]"]),
        ({"identity": {"database": ""}}, ["identity.database"]),
        ({"checks": [{"id": "P-1", "title": ""}, {"id": " ", "title": "x"}]}, ["checks[1].id"]),
        # a document, whose own rules apply
        ({"free": {"note": ""}}, []),
    ],
)
def test_what_was_given_and_is_empty(params: dict[str, Any], names: list[str]) -> None:
    assert blank_options(SPECIFICATION, params) == names
    error = blank_error(names)
    assert (error is None) == (not names)
    assert all(name in str(error) for name in names)
