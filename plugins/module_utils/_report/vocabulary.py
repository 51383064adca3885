# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the commands and triggers of a run are called."""

from __future__ import annotations

COMMANDS = {
    "C-01": "fresh backup",
    "C-02": "digest of the backup and freshness marker",
    "C-03": "schema snapshot before",
    "C-04": "row counts and measured columns before",
    "C-05": "DDL and rollback frozen, digests checked",
    "C-06": "preflight",
    "C-07": "migration in one transaction",
    "C-08": "verification",
    "C-09": "rollback, only on an operator's request",
    "R-0": "rehearsal cluster checked",
    "R-1": "restore into the rehearsal cluster, contents compared",
    "R-2": "migration of the copy, measured",
    "R-3": "verification of the copy",
    "R-4": "rollback of the copy, schema compared with the one before",
    "R-5": "migration and verification again",
}


TRIGGERS = {
    "T-1": "the outcome is still unknown after resolution",
    "T-2": "committed, but a verification check failed",
    "T-3": "a row count or measurement changed in a way that the plan does not declare",
    "T-4": "the diff removed or changed something undeclared",
    "T-5": "the diff added something undeclared",
    "T-6": "a constraint or index that must remain is missing or invalid",
    "T-7": "the application's own health check fails",
    "T-8": "the evidence could not be completed after commit",
    "T-9": "an operator requests it",
}
