# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a transaction can have ended."""

from __future__ import annotations

COMMITTED = "COMMITTED"

ROLLED_BACK = "ROLLED_BACK"

UNKNOWN = "UNKNOWN"

NOT_STARTED = "NOT_STARTED"
