# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the reviewers' signatures over a rollback to the target, where module rollback verifies them."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.incomex.phasegate.plugins.plugin_utils._files_action import FilesAction, named_once


class ActionModule(FilesAction):
    """The action behind ``incomex.phasegate.rollback``."""

    def files_for(self, args: Mapping[str, Any]) -> Mapping[str, str]:
        """Return the signature files."""
        return named_once(list(args.get("signatures") or []))
