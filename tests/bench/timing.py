# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time of a program, with its CPU seconds."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.tests.support.playbook import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]


def timed(argv: Sequence[str | Path], directory: Path = ROOT, **variables: str) -> tuple[float, float]:
    """Run a program; return its seconds, and the CPU seconds of it and its children here. It has to succeed."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        argv,
        cwd=directory,
        env={**os.environ, **environment(variables)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{argv[0]} ended with {done.returncode}:\n{done.stdout[-5000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
