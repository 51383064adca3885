# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What differs between the supported major versions of PostgreSQL, as data.

SQL that is the same for all of them but for an expression has the token ``@name(alias)`` in that place, made by ``varying``;
``for_major`` puts in what the version has. The release notes and ``src/include/catalog`` of each version are the source.
"""

from __future__ import annotations

import re
from typing import Mapping, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError

T = TypeVar("T")

#: The oldest and the newest major version that servers may have.
OLDEST, NEWEST = 14, 18

# By name, the expression from each major version on; {} is the alias, or what the expression is about.
_VARYING: Mapping[str, Mapping[int, str]] = {
    "database_provider": {14: "'c'", 15: "{}.datlocprovider::text"},
    "database_locale": {14: "NULL", 15: "{}.daticulocale", 17: "{}.datlocale"},
    "database_rules": {14: "NULL", 16: "{}.daticurules"},
    "collation_locale": {14: "NULL", 15: "{}.colliculocale", 17: "{}.colllocale"},
    "collation_rules": {14: "NULL", 16: "{}.collicurules"},
    "publication_generated": {14: "NULL", 18: "nullif({}.pubgencols::text, 'n')"},
    "publication_columns": {14: "NULL::pg_catalog.int2vector", 15: "{}.prattrs"},
    "publication_filter": {14: "NULL", 15: "pg_catalog.pg_get_expr({0}.prqual, {0}.prrelid)"},
    "subscription_two_phase": {14: "NULL", 15: "{}.subtwophasestate"},
    "subscription_disables": {14: "false", 15: "{}.subdisableonerr"},
    "subscription_skipped": {14: "NULL", 15: "nullif({}.subskiplsn::text, '0/0')"},
    "subscription_password": {14: "false", 16: "{}.subpasswordrequired"},
    "subscription_as_owner": {14: "false", 16: "{}.subrunasowner"},
    "subscription_origin": {14: "NULL", 16: "{}.suborigin"},
    "subscription_failover": {14: "false", 17: "{}.subfailover"},
    # a membership has no row number of its own, and its options belong to the member
    "membership_number": {
        14: "{0}.roleid::pg_catalog.int8 * 4294967296 + {0}.member::pg_catalog.int8",
        16: "{}.oid::pg_catalog.int8",
    },
    "membership_oid": {14: "greatest({0}.roleid, {0}.member)", 16: "{}.oid"},
    "membership_inherit": {14: "true", 16: "{}.inherit_option"},
    "membership_set": {14: "true", 16: "{}.set_option"},
    # only superusers set those that concern us
    "may_set": {
        14: "(pg_catalog.current_setting('is_superuser') = 'on')",
        15: "pg_catalog.has_parameter_privilege('{}', 'SET')",
    },
    "becomes": {14: "'MEMBER'", 16: "'SET'"},
    # what a session has counted for the statistics, at the end of the statement: before 15 a collector has it half a second later
    "flush_statistics": {14: "pg_catalog.pg_sleep(0.6)", 15: "pg_catalog.pg_stat_force_next_flush()"},
    # before 16 the server does not tell: then as if it were of the one type of which nothing is known
    "answer_types": {14: "ARRAY['pg_catalog.record'::pg_catalog.regtype]", 16: "{}.result_types"},
}

# pg_dump's --compress for each choice; levels as measured to be the best trade for a dump.
_COMPRESSIONS: Mapping[int, Mapping[str, str]] = {
    14: {"gzip": "6", "none": "0"},
    16: {"zstd": "zstd:3", "lz4": "lz4", "gzip": "gzip:6", "none": "none"},
}

# GRANT of a role.
_GRANT_ROLE: Mapping[int, str] = {
    14: "GRANT {role} TO {member}{with_admin}",
    16: "GRANT {role} TO {member} WITH ADMIN {admin}, INHERIT {inherit}, SET {may_set}",
}

_TOKEN = re.compile(r"@([a-z_]+)\((\w*)\)")


def varying(name: str, about: str = "") -> str:
    """Return the token of an expression that differs between versions; ``about`` is the alias of the row, or a setting."""
    assert name in _VARYING, name
    return f"@{name}({about})"


def _of(by_major: Mapping[int, T], major: int) -> T:
    """Return what holds for a major version: the entry of the newest one that is not newer."""
    return by_major[max(first for first in by_major if first <= major)]


def compressions(major: int) -> Mapping[str, str]:
    """Return pg_dump's ``--compress`` by the names that it has for it in this major version, the best one first."""
    return _of(_COMPRESSIONS, major)


def grant_role(major: int, role: str, member: str, *, admin: bool, inherit: bool, may_set: bool) -> str:
    """Return the GRANT of a membership, of two quoted names; before 16 inheritance is an attribute of the member."""
    options = {"admin": admin, "inherit": inherit, "may_set": may_set}
    with_admin = " WITH ADMIN OPTION" if admin else ""
    return _of(_GRANT_ROLE, major).format(role=role, member=member, with_admin=with_admin, **options)


def for_major(sql: str, major: int) -> str:
    """Return generated SQL with the expressions of a major version in place of the tokens. Never for anybody else's SQL."""

    def expression(token: re.Match[str]) -> str:
        return _of(_VARYING[token[1]], major).format(token[2])

    return _TOKEN.sub(expression, sql)


def major_of(server_version_num: str) -> int:
    """Return the major version of ``server_version_num``, such as 16 of 160004. Raises ``PhaseGateError`` unless it is supported."""
    major = int(server_version_num) // 10000
    if not OLDEST <= major <= NEWEST:
        raise PhaseGateError(
            f"PostgreSQL {major} is not supported.",
            expected=f"a server of PostgreSQL {OLDEST} to {NEWEST}",
            found=f"server_version_num {server_version_num}",
            next_step="use a release of this collection that supports it, or another server",
        )
    return major
