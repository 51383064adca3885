# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which minor release fixed which CVEs: a dated table by major version. It says nothing about a version that it does not have.

Source: the CVE records of the PostgreSQL project itself, as https://www.postgresql.org/support/security/ lists them. A CVE
is listed where its record has "before <major>.<minor>"; one that does not affect a version is not listed there.
"""

from __future__ import annotations

from typing import Mapping

# The last release in the table, and how often at least one comes: on the second Thursday of the second month of
# each quarter (https://www.postgresql.org/developer/roadmap/).
KNOWN_UNTIL = "2026-08-13"

DAYS_BETWEEN = 98

FIXES: Mapping[int, tuple[tuple[int, tuple[str, ...]], ...]] = {
    16: (
        (1, ("2023-5868", "2023-5869", "2023-5870")),
        (2, ("2024-0985",)),
        (3, ("2024-4317",)),
        (4, ("2024-7348",)),
        (5, ("2024-10976", "2024-10977", "2024-10978", "2024-10979")),
        (7, ("2025-1094",)),
        (9, ("2025-4207",)),
        (10, ("2025-8713", "2025-8714", "2025-8715")),
        (11, ("2025-12817", "2025-12818")),
        (12, ("2026-2003", "2026-2004", "2026-2005", "2026-2006")),
        (
            14,
            (
                "2026-6472", "2026-6473", "2026-6474", "2026-6475", "2026-6477", "2026-6478", "2026-6479", "2026-6637",
                "2026-6638",
            ),
        ),
        (
            15,
            (
                "2026-6464", "2026-6469", "2026-6470", "2026-6471", "2026-14662", "2026-14663", "2026-14664", "2026-14666",
                "2026-14668", "2026-14669", "2026-14670", "2026-14671", "2026-14672", "2026-14673", "2026-14677", "2026-14678",
                "2026-14679", "2026-14680", "2026-15741", "2026-15742", "2026-16239", "2026-16241", "2026-18024", "2026-18408",
                "2026-19385",
            ),
        ),
    ),
}  # fmt: skip


# How many CVEs a message names; the page has all of them.
_NAMED = 3

PAGE = "https://www.postgresql.org/support/security/{}/"


def missing_fixes(major: int, minor: int) -> str:
    """Return the CVEs that a release still has and a later one fixed, '' when the table lists none.

    They are many, so the first ones are named, and where the rest is: ``CVE-2026-6472, CVE-2026-6473 and 7 more: <page>``.
    """
    numbers = [number for fixed, all_of_it in FIXES[major] if fixed > minor for number in all_of_it]
    named, more = ", ".join(f"CVE-{number}" for number in numbers[:_NAMED]), len(numbers[_NAMED:])
    return f"{named} and {more} more: {PAGE.format(major)}" if more else named


def newest_release(major: int) -> str:
    """Return the release that fixes all of them, such as ``16.15``."""
    return f"{major}.{FIXES[major][-1][0]}"
