# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times as texts: UTC, ISO 8601."""

from __future__ import annotations

import datetime
import time
from typing import Optional

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError


def parse_time(text: str) -> datetime.datetime:
    """Parse an ISO 8601 timestamp with a time zone. Raises ``PhaseGateError``."""
    try:
        found: Optional[datetime.datetime] = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise PhaseGateError(
            "Invalid timestamp.",
            expected="ISO 8601 with a time zone, such as 2026-05-16T03:12:00Z",
            found=repr(text),
            next_step="correct it; if it is the not_after of a plan, rehearse again to freeze a new plan",
        )
    return found


def utc_now() -> str:
    """Return the current time of this host as ISO 8601 in UTC with milliseconds."""
    return utc_time(time.time())


def utc_time(seconds: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601 in UTC with milliseconds."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
