# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a run, as its journal has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RunLock:
    """The session that holds the run's lock: its backend's process id, and when that began by the server's clock."""

    pid: int
    since: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return asdict(self)
