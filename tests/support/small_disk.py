# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small file system of its own, mounted for a test."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What a run left in the background ends by itself within this time, but for the process that keeps the lock of a run that could
# not be sealed: that one ends with the test's server.
SECONDS = 5


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs with these mount options at an existing directory; skip the test where that is not permitted."""
    done = _run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)])
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        _unmount(place)


def _unmount(place: Path) -> None:
    """Unmount; what is still open there goes when the last process closes it."""
    until = time.monotonic() + SECONDS
    while _run(["umount", str(place)]).returncode != 0:
        if time.monotonic() > until:
            done = _run(["umount", "--lazy", str(place)])
            assert done.returncode == 0, done.stderr
            return
        time.sleep(0.1)


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False)
