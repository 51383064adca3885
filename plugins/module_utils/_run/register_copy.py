# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep the register of reviewers in the bundle as it was when the gates were evaluated."""

from __future__ import annotations

import os

from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import Anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import REGISTER
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import RegisterRead
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import records_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes


def keep_register(artefacts: RunDirectory, anchor: Anchor) -> None:
    """Copy the files of the register into the run directory and journal their digests, unless the newest copy is the same.

    Whoever evaluates G-1 calls this with the register that it evaluates it by, so that it can be seen years later who was
    entitled. Raises ``OSError``.
    """
    files = anchor.files()
    read = RegisterRead(anchor.path, {name: sha256_bytes(data) for name, data in files.items()})
    before = records_of(artefacts.journal.entries(), RegisterRead)
    if not artefacts.has_run or before[-1:] == [read]:
        return
    os.makedirs(artefacts.file(REGISTER), mode=0o750, exist_ok=True)
    for name in os.listdir(artefacts.file(REGISTER)):
        if name not in files:
            os.unlink(artefacts.file(REGISTER + name))
    for name, data in files.items():
        artefacts.write(REGISTER + name, data)
    read.write(artefacts.journal)
