# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings of the linter Squawk on a DDL file, where it is installed. Controller only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import List, Optional

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError

# Before the first statement phasegate sets the session's timeouts, from the settings of the phase. What fails part of the way is
# rolled back, and what runs after COMMIT must not have the IF NOT EXISTS that this rule asks for.
_EXCLUDED = "prefer-robust-stmts,require-lock-timeout,require-statement-timeout"


@dataclass(frozen=True)
class LintFinding:
    """One finding. ``line`` counts from 1 in the file; ``help`` may be empty."""

    rule: str
    line: int
    message: str
    help: str


def find_squawk() -> Optional[str]:
    """Return the path of the program, beside Python or on the PATH; None when it is not installed."""
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    return shutil.which("squawk", path=os.pathsep.join(places))


def run_squawk(program: str, ddl: bytes, server_version: str, *, wrapped: bool) -> List[LintFinding]:
    """Return what Squawk finds in the file, in its order. Raises ``PhaseGateError`` if Squawk fails.

    ``wrapped``: the file has no BEGIN of its own and runs inside a transaction that phasegate opens.
    """
    with tempfile.TemporaryDirectory(prefix="phasegate-") as directory:
        # alone in a directory, so that Squawk finds no configuration file
        with open(os.path.join(directory, "migrate.sql"), "wb") as stream:
            stream.write(ddl)
        version = server_version.partition(" ")[0]
        arguments = ["--reporter=json", f"--exclude={_EXCLUDED}"]
        arguments.append(f"--pg-version={version if '.' in version else version + '.0'}")
        arguments += ["--assume-in-transaction"] if wrapped else ["--no-assume-in-transaction"]
        run = subprocess.run([program, *arguments, "migrate.sql"], cwd=directory, capture_output=True, check=False)
    try:
        # its lines count from 0
        return [
            LintFinding(f["rule_name"], f["line"] + 1, f["message"], f["help"] or "") for f in json.loads(run.stdout)
        ]
    except (ValueError, TypeError, KeyError):
        raise PhaseGateError(
            "squawk failed.",
            expected=f"findings of {program} as JSON",
            found=run.stderr.decode("utf-8", "replace").strip()[:500] or f"exit code {run.returncode}",
            next_step="install the squawk-cli version in requirements.txt, or uninstall it: it is optional",
        ) from None


def squawk_version(program: str) -> str:
    """Return the linter's version."""
    run = subprocess.run([program, "--version"], capture_output=True, check=False)
    return run.stdout.decode("utf-8", "replace").strip().rpartition(" ")[2]
