# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Classify a change of a column's type: widening, changing or destructive, with or without a rewrite."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity_classes import Classification, D, W, X


@dataclass(frozen=True)
class _Type:
    """A type as ``format_type`` writes it: its name, and its limits (digits and scale, or length), () without."""

    base: str
    size: tuple[int, ...]

    @property
    def whole_digits(self) -> int:
        """Return how many digits a number may have before its point."""
        return self.size[0] - self.scale

    @property
    def scale(self) -> int:
        return self.size[1] if len(self.size) > 1 else 0


_TYPE = re.compile(
    r"^(?P<base>[a-z]+(?: [a-z]+)*?)(?:\((?P<size>[0-9]+(?:,-?[0-9]+)?)\))?(?P<zone> with(?:out)? time zone)?$"
)

_INTEGER_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}

_INTEGERS = tuple(_INTEGER_DIGITS)

_FLOATS = ("real", "double precision")

_TEXTS = ("character varying", "text")

_ANY_TEXT = (*_TEXTS, "character", "name")

_TIMES = ("time without time zone", "time with time zone")

_TIMESTAMPS = ("timestamp without time zone", "timestamp with time zone")

# From, to, and the judgement when the new type's limits include those of the old type. Source of the rewrites: casts
# that are not binary-coercible in PostgreSQL 16's pg_cast, and length coercions that their support functions do not drop.
_CONVERSIONS: tuple[tuple[tuple[str, ...], tuple[str, ...], Classification], ...] = (
    (("smallint",), ("integer", "bigint"), Classification(W, rewrites=True)),
    (("integer",), ("bigint",), Classification(W, rewrites=True)),
    (("real",), ("double precision",), Classification(W, rewrites=True)),
    (_INTEGERS, ("numeric",), Classification(W, rewrites=True)),
    (_TEXTS, _TEXTS, Classification(W)),
    (("character",), _TEXTS, Classification(X, rewrites=True, note="trailing blanks are lost")),
    (("bigint", "integer"), ("smallint",), Classification(D, rewrites=True)),
    (("bigint",), ("integer",), Classification(D, rewrites=True)),
    (("double precision",), ("real",), Classification(D, rewrites=True)),
    (("numeric",), (*_INTEGERS, *_FLOATS), Classification(D, rewrites=True, note="values are rounded or rejected")),
    (_FLOATS, _INTEGERS, Classification(D, rewrites=True, note="values are rounded or rejected")),
    (_TEXTS, ("character",), Classification(D, rewrites=True, note="values are cut or padded")),
    (("date",), _TIMESTAMPS, Classification(W, rewrites=True)),
    (_TIMESTAMPS, ("date", *_TIMES), Classification(D, rewrites=True, note="a part of the value is lost")),
)


def _parse_type(text: str) -> _Type | None:
    found = _TYPE.match(text)
    if not found:
        return None
    base = found["base"] + (found["zone"] or "")
    size = tuple(int(part) for part in (found["size"] or "").split(",") if part)
    if base in _INTEGER_DIGITS:
        size = (_INTEGER_DIGITS[base],)
    elif base in ("character", "bit") and not size:
        size = (1,)
    return _Type(base, size)


def _holds(new: _Type, old: _Type) -> bool:
    """Return whether every value within ``old``'s limits is within ``new``'s; no limit holds everything."""
    if not new.size:
        return True
    if not old.size:
        return False
    return new.whole_digits >= old.whole_digits and new.scale >= (0 if old.base in _INTEGERS else old.scale)


def compare_types(before: str, after: str) -> Classification:
    """Classify a change of type between two texts of ``format_type``.

    Widening keeps every value and its meaning, ``rewrites``: the table is rewritten.
    """
    if before.endswith("[]") and after.endswith("[]"):
        return compare_types(before[:-2], after[:-2])._replace(rewrites=True)
    old, new = _parse_type(before), _parse_type(after)
    if old and old.base in _ANY_TEXT and (new is None or new.base not in _ANY_TEXT):
        return Classification(D, rewrites=True, note="values are rejected")
    if old is None or new is None:
        return Classification(X, rewrites=True)
    if old.base == new.base:
        return _compare_limits(old, new)
    for sources, targets, judgement in _CONVERSIONS:
        if old.base in sources and new.base in targets:
            limited = new.base not in _INTEGERS and not _holds(new, old)
            return Classification(D, rewrites=True, note="values may not fit") if limited else judgement
    return Classification(X, rewrites=True)


def _compare_limits(old: _Type, new: _Type) -> Classification:
    if not _holds(new, old):
        return Classification(D, rewrites=True, note="values may not fit")
    # padded to their length, or stored with another scale
    rewrites = old.base in ("character", "bit") or (old.base == "numeric" and bool(new.size) and new.scale != old.scale)
    return Classification(X if old.base == "bit" else W, rewrites=rewrites)
