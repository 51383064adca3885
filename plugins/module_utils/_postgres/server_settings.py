# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a server and its database that the meaning of SQL depends on, and how two of them differ."""

from __future__ import annotations

import re
from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Mismatch
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major

# Settings that change the result of the same SQL: the meaning of literals, the text of values, the defaults of new
# objects, which rows and triggers apply. Those that phasegate sets itself, and those of performance, are left out.
SETTINGS = (
    "DateStyle",
    "IntervalStyle",
    "array_nulls",
    "backslash_quote",
    "bytea_output",
    "check_function_bodies",
    "default_table_access_method",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "quote_all_identifiers",
    "row_security",
    "session_replication_role",
    "standard_conforming_strings",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmlbinary",
    "xmloption",
)

_SERVER = """
SELECT current_setting('server_version'), (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'),
       pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, @database_provider(d), coalesce(@database_locale(d), '')
FROM pg_database d WHERE d.datname = current_database()
"""

_EXTENSIONS = "SELECT extname, extversion FROM pg_extension ORDER BY 1"

_SETTINGS = f"SELECT name, reset_val FROM pg_settings WHERE name IN ({', '.join(map(literal, SETTINGS))}) ORDER BY 1"


def server_facts(session: Session) -> dict[str, Any]:
    """Return the facts of the server and its database that the plan pins.

    ``server_version`` complete, ``timezone``, ``encoding``, ``collation`` (``collate``, ``ctype``, ``provider``, ``icu``),
    ``extensions`` as pairs of name and version, and ``settings`` by name, each as a session of this role begins with it.
    """
    version, timezone, encoding, collate, ctype, provider, icu = session.rows(for_major(_SERVER, session.major))[0]
    return {
        "server_version": version,
        "timezone": timezone,
        "encoding": encoding,
        "collation": {"collate": collate, "ctype": ctype, "provider": provider, "icu": icu},
        "extensions": [list(row) for row in session.rows(_EXTENSIONS)],
        "settings": {name or "": value or "" for name, value in session.rows(_SETTINGS)},
    }


def server_time(session: Session) -> float:
    """Return the database server's clock, in seconds since 1970."""
    return float(session.value("SELECT extract(epoch FROM clock_timestamp())") or 0)


def major_version(version: str) -> str:
    """Return the major version of a complete one: ``16`` of ``16.13 (Debian …)``."""
    return re.split(r"[^0-9]", version, maxsplit=1)[0]


def diff_server_settings(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[Mismatch]:
    """Return what differs between the facts of two servers, by name. Minor versions of one major version do not count."""
    wrong = []
    if major_version(expected["server_version"]) != major_version(found["server_version"]):
        wrong.append(
            Mismatch(
                "PostgreSQL", f"major version {major_version(expected['server_version'])}", str(found["server_version"])
            )
        )
    for name, title in (("timezone", "TimeZone"), ("encoding", "encoding")):
        if expected[name] != found[name]:
            wrong.append(Mismatch(title, str(expected[name]), str(found[name])))
    for kind, word in (("collation", "collation "), ("settings", "")):
        wrong += _differences(word, expected[kind], found[kind])
    return wrong + _differences("extension ", dict(expected["extensions"]), dict(found["extensions"]))


def _differences(word: str, expected: Mapping[str, str], found: Mapping[str, str]) -> list[Mismatch]:
    return [
        Mismatch(f"{word}{name}", repr(expected.get(name, "none")), repr(found.get(name, "none")))
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
