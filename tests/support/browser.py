# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium, for the tests of the HTML pages and for the pictures of them in docs."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
#: Started by root for a local file; it calls nobody by itself.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
)


class NoBrowserError(Exception):
    """There is no Chromium, and none can be installed."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser that ``scripts/browser`` names; raise ``NoBrowserError`` where there is none."""
    found = subprocess.run([ROOT / "scripts" / "browser"], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise NoBrowserError(found.stderr.strip())
    with sync_playwright() as started, started.chromium.launch(executable_path=found.stdout.strip(), args=FLAGS) as one:
        yield one
