# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run work in a process that outlives the module that starts it."""

from __future__ import annotations

import contextlib
import gc
import os
from typing import Callable, Sequence


def start_daemon(work: Callable[[Callable[[], None]], object], keep: Sequence[int] = ()) -> bool:
    """Run ``work`` in a separate process and return once it reports that it has started; False when it ended before.

    ``work`` gets the function to call for that. The process has its own session and none of the module's streams except
    ``keep``, so that neither the connection nor the module's end affects it, and readers of the module's output do not
    wait for it. It reports in the journal.
    """
    said, saying = os.pipe()
    child = os.fork()
    if child == 0:
        # locks of the module's threads are never released here: no finalizer may wait for them
        gc.disable()
        os.close(said)
        os.setsid()
        # the second fork leaves the session without a leader: it can never acquire a terminal
        if os.fork():
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        for stream in [int(name) for name in os.listdir("/dev/fd")]:
            if stream > 2 and stream not in (saying, *keep):  # noqa: PLR2004 - the standard ones are 0 to 2
                with contextlib.suppress(OSError):
                    os.close(stream)
        with contextlib.suppress(BaseException):
            work(lambda: None if os.write(saying, b"1") == 0 else os.close(saying))
        os._exit(0)
    os.close(saying)
    os.waitpid(child, 0)
    with os.fdopen(said, "rb") as answer:
        return bool(answer.read(1) == b"1")
