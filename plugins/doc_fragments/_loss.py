# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation of the options with which a loss of data is accepted."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that accept what a rollback loses."""

    DOCUMENTATION = r"""
options:
  accept_loss:
    description: The exact number of rows in objects of the phase that may be lost.
    type: int
    default: 0
  accept_loss_at_most:
    description:
      - Instead of O(accept_loss), the greatest number of rows that may be lost, for an application that writes all the time.
      - V(-1) is no bound but the exact number.
    type: int
    default: -1
"""
