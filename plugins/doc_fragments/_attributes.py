# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The attributes of modules. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """How modules behave in check mode and diff mode, whether they are idempotent, and their action group."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Whether the module runs in check mode, predicts RV(ignore:changed) and modifies nothing.
  diff_mode:
    description: Whether the module returns the differences in diff mode.
  idempotent:
    description: Whether a second call with the same arguments, outside of check mode, reports no change.
"""

    # Modules that only read
    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: The module modifies nothing, so the result is the same.
  diff_mode:
    support: N/A
    details: The module modifies nothing.
  idempotent:
    support: full
    details: The module modifies nothing.
"""

    # Modules that connect to the target database
    GROUP_PHASEGATE = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/incomex.phasegate.phasegate) in C(module_defaults) to give the connection once per play.
    support: full
    membership:
      - incomex.phasegate.phasegate
"""

    # Modules that connect to the rehearsal cluster
    GROUP_REHEARSAL = r"""
options: {}
attributes:
  action_group:
    description: >-
      Use C(group/incomex.phasegate.rehearsal) in C(module_defaults) to give the connection to the rehearsal cluster once per
      play. It is not the group of the target database, so that neither connection is taken for the other.
    support: full
    membership:
      - incomex.phasegate.rehearsal
"""

    # Modules that work on files
    GROUP_OFFLINE = r"""
options: {}
attributes:
  action_group:
    description: >-
      C(group/incomex.phasegate.offline) holds the modules that work on files alone. They have no connection options, so they are
      not in C(group/incomex.phasegate.phasegate).
    support: full
    membership:
      - incomex.phasegate.offline
"""
