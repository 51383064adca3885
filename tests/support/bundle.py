# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read an artefact directory with plain means: hashlib, json and sha256sum, nothing of the collection's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def tree(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Return mode, inode, time of change in nanoseconds and digest of everything below ``root``, by relative name.

    The time is that of the inode, which nobody can set back; that of a directory moves when a name comes or goes.
    """
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        digest = sha256(path) if path.is_file() and not path.is_symlink() else ""
        found[str(path.relative_to(root))] = (status.st_mode, status.st_ino, status.st_ctime_ns, digest)
    return found


@dataclass(frozen=True)
class Bundle:
    """One artefact directory."""

    path: Path

    def text(self, name: str) -> str:
        """Return an artefact as text."""
        return (self.path / name).read_text(encoding="utf-8")

    def json(self, name: str) -> Any:
        """Return an artefact as JSON."""
        return json.loads(self.text(name))

    @property
    def files(self) -> set[str]:
        """The names of all files."""
        return {str(path.relative_to(self.path)) for path in self.path.rglob("*") if not path.is_dir()}

    def journal(self) -> list[dict[str, Any]]:
        """Return the journal's entries after following its chain of digests."""
        content = (self.path / "journal.jsonl").read_bytes()
        assert content.endswith(b"\n")
        entries = []
        previous = "0" * 64
        for number, line in enumerate(content[:-1].split(b"\n"), start=1):
            entry = json.loads(line)
            assert entry["seq"] == number
            assert entry["prev"] == previous
            previous = hashlib.sha256(line).hexdigest()
            entries.append(entry)
        return entries

    def steps(self) -> list[tuple[str, str]]:
        """Return step and event of every entry of the journal."""
        return [(entry["step"], entry["event"]) for entry in self.journal()]

    @property
    def reason(self) -> str:
        """What SUMMARY.txt gives as the reason of a failure, '' without one."""
        _before, _heading, rest = self.text("SUMMARY.txt").partition("\nReason\n")
        return rest.partition("\n\n")[0]

    @property
    def gates(self) -> dict[str, str]:
        """The status of every gate in SUMMARY.txt's table."""
        lines = [line for line in self.text("SUMMARY.txt").splitlines() if line.startswith("G-")]
        return {line[:5].strip(): line[6:19].strip() for line in lines}

    def assert_sealed(self) -> None:
        """Check the seal with sha256sum, that nothing is outside of it, and the journal's chain."""
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
            cwd=self.path,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        listed = [line[66:] for line in self.text("SHA256SUMS").splitlines()]
        assert len(listed) == len(set(listed))
        assert set(listed) == self.files - {"SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.intoto.json"}
        assert self.journal()[-1]["event"] == "seal"
