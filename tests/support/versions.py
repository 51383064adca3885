# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks of tests that not every major version of PostgreSQL can run; on 16 all of them run."""

from __future__ import annotations

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR


def since(major: int) -> pytest.MarkDecorator:
    """Return the mark of a test whose SQL older versions do not have."""
    return pytest.mark.skipif(major > MAJOR, reason=f"PostgreSQL has this since {major}")


def only(major: int, why: str) -> pytest.MarkDecorator:
    """Return the mark of a test that one version can run."""
    return pytest.mark.skipif(major != MAJOR, reason=f"on PostgreSQL {major} only: {why}")
