# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a phase's files to the target, where module run_prepare opens the run: the same as for run_open."""

from __future__ import annotations

from ansible_collections.incomex.phasegate.plugins.action.run_open import ActionModule

__all__ = ["ActionModule"]
