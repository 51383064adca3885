# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Journal how far a long command is while it works.

This is for whoever watches, and evidence of nothing: what fails here ends the progress and never the run. A command never waits for
a look, only for a line that is being written.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Iterator

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.record import Note
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step

#: Seconds before the first line, and between two of them at least.
SECONDS = 2.0

# A command of hours writes no thousands of lines: the pause grows with its time.
_SHARE = 0.05


@contextlib.contextmanager
def watched(step: Step[Any], look: Callable[[], Note | None], first: float | None = None) -> Iterator[None]:
    """Journal what ``look`` returns while the block runs, when it is something new; nothing is written once the block has ended.

    ``look`` runs in a thread of its own, ``first`` seconds after the start (by default as between two lines) and then every few seconds. It may raise anything.
    """
    if not step.artefacts or not step.artefacts.has_run:
        yield
        return
    ended, writing = threading.Event(), threading.Lock()

    def work() -> None:
        begun, last, pause = time.monotonic(), None, SECONDS if first is None else first
        while not ended.wait(pause):
            found = look()
            if found is not None and found != last:
                with writing:
                    if ended.is_set():
                        return
                    step.note(found)
                last = found
            pause = max(SECONDS, _SHARE * (time.monotonic() - begun))

    def quietly() -> None:
        with contextlib.suppress(Exception):
            work()

    threading.Thread(target=quietly, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        with writing:
            pass
