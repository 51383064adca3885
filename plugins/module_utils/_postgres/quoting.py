# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Quoting for SQL that phasegate generates. Pure."""

from __future__ import annotations

import re
import secrets
from typing import Sequence

# What means itself between single quotes, to the server and to psql.
_PLAIN = re.compile(r"[A-Za-z0-9_ ,.]*")


def literal(text: str) -> str:
    """Return ``text`` as a dollar-quoted SQL literal under a random tag that does not occur in it; a plain text in single quotes.

    A dollar-quoted literal has no escape sequence, so the server receives exactly these characters whatever
    ``standard_conforming_strings`` says, and psql neither expands variables nor sees a backslash command in it.
    Raises ``ValueError`` for NUL, which no PostgreSQL text can contain.
    """
    if "\x00" in text:
        raise ValueError("a PostgreSQL text cannot contain NUL")
    if _PLAIN.fullmatch(text):
        return f"'{text}'"
    while True:
        tag = f"$pg{secrets.token_hex(8)}$"
        # a text that ends with a part of the tag could merge with the closing tag: none ends with "$pg" + hex
        if tag not in text + tag[:-1]:
            return f"{tag}{text}{tag}"


def readable_literal(text: str) -> str:
    """Return ``text`` as a literal in single quotes, for SQL that people read; with ``standard_conforming_strings`` it means this text."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return ``name`` as a quoted SQL identifier. Raises ``ValueError`` for an empty name or NUL."""
    if not name or "\x00" in name:
        raise ValueError("an SQL identifier is neither empty nor contains NUL")
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """Return ``schema.name``, both quoted."""
    return f"{identifier(schema)}.{identifier(name)}"


_COPY_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def copy_field(field: str) -> str | None:
    r"""Decode one field of COPY's text format: ``\N`` is NULL, backslash escapes are undone.

    Source of the rule: PostgreSQL 16 documentation, COPY, "Text Format". The server never writes octal or hex
    escapes, so an unknown escaped character means itself.
    """
    if field == "\\N":
        return None
    if "\\" not in field:
        return field
    out: list[str] = []
    parts = iter(field)
    for char in parts:
        if char == "\\":
            escaped = next(parts, "\\")
            out.append(_COPY_ESCAPES.get(escaped, escaped))
        else:
            out.append(char)
    return "".join(out)


def array_literal(texts: Sequence[str]) -> str:
    """Return texts as an SQL array."""
    return "ARRAY[" + ", ".join(literal(text) for text in texts) + "]::text[]"
