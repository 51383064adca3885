# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The classes of changes, from harmless to destructive."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Severity(str, Enum):
    """The class of a change, from harmless to destructive; ``UNKNOWN`` is never allowed."""

    ADDITIVE = "additive"
    COSMETIC = "cosmetic"
    WIDENING = "widening"
    CHANGING = "changing"
    NARROWING = "narrowing"
    DESTRUCTIVE = "destructive"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """Return the place in the order of the declaration."""
        return list(Severity).index(self)


class Classification(NamedTuple):
    """The result of a rule for one change."""

    severity: Severity
    rewrites: bool = False
    note: str = ""


A, C, W, X, N, D = (
    Severity.ADDITIVE,
    Severity.COSMETIC,
    Severity.WIDENING,
    Severity.CHANGING,
    Severity.NARROWING,
    Severity.DESTRUCTIVE,
)
