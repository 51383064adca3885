# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of changes of data that a phase declares and a run observes, and their counts. Pure."""

from __future__ import annotations

from typing import Any, List, Mapping

#: Kinds of changes whose rows are counted, in the order of the server's counters.
COUNTED = ("INSERT", "UPDATE", "DELETE")

#: Kinds of changes without a count, and what each says.
UNCOUNTED = {
    "TRUNCATE": "no earlier row is left: truncated, or rewritten while it was empty",
    "RECREATE": "another table has this name now",
    "REFRESH": "the materialized view was filled",
    "MOVE": "the sequence was used (nextval, setval) or restarted",
    "WRITE": "the foreign table was opened for writing, its rows are not counted",
}

#: The declared count of a change that may have any number of rows, or has none to count.
ANY = "any"


def within(declared: Any, rows: int) -> bool:
    """Return whether a number of rows is as declared: any, a number, or a mapping with ``min`` and ``max``."""
    if not isinstance(declared, Mapping):
        return declared == ANY or bool(declared == rows)
    most = declared.get("max")
    return (declared.get("min") or 0) <= rows and (most is None or rows <= most)


def counts_of(declared: Any, found: int) -> List[Any]:
    """Return one declared count for each of ``found`` statements: ``{each: …}`` is written once for all, at least one.

    With ``{total: …}`` each may be any. A list has its own length, which its reader compares with ``found``.
    """
    return [declared.get("each", ANY)] * max(1, found) if isinstance(declared, Mapping) else list(declared)


def total_of(declared: Any) -> Any:
    """Return the declared count of all statements together, None where each is declared."""
    return declared.get("total") if isinstance(declared, Mapping) else None


def count_range(declared: Any) -> str:
    """Return a declared count for people: '86', '1 to 5', 'at least 1', 'any'."""
    if not isinstance(declared, Mapping):
        return str(declared)
    least, most = declared.get("min") or 0, declared.get("max")
    return f"at least {least}" if most is None else f"{least} to {most}"


def change_extent(change: Mapping[str, Any]) -> str:
    """Return how much an observed change is, for people: its rows, or what its kind says."""
    if change["kind"] in UNCOUNTED:
        return UNCOUNTED[change["kind"]]
    return "1 row" if change["rows"] == 1 else f"{change['rows']} rows"
