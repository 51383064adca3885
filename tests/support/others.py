# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other ways to run a change: plain psql as its manual recommends it, and Sqitch; each on a small change."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ansible_collections.incomex.phasegate.tests.support.cluster import bin_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

BEFORE = "CREATE SCHEMA app; CREATE TABLE app.old (id int PRIMARY KEY); INSERT INTO app.old VALUES (1), (2), (3)"
#: The change; four things can be there or not.
CHANGE = """CREATE TABLE app.t (id int);
ALTER TABLE app.old ADD COLUMN note text;
UPDATE app.old SET note = 'kept';
COMMENT ON TABLE app.t IS 'new';
"""
# to_jsonb: the column may not be there
_THERE = """
SELECT (to_regclass('app.t') IS NOT NULL)::int
  + (SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.old'::regclass AND attname = 'note' AND NOT attisdropped)
  + (SELECT count(*) FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid = to_regclass('app.t'))
  + (SELECT (count(to_jsonb(o) ->> 'note') = 3)::int FROM app.old o)
"""
PARTS = 4


@dataclass
class Tool:
    """One tool with one database."""

    cluster: Cluster
    database: str
    directory: Path

    name: ClassVar[str]

    def argv(self, sql: str) -> Sequence[str]:
        """Write the change, and return the command that runs it."""
        raise NotImplementedError

    def start(self, sql: str = CHANGE) -> subprocess.Popen[str]:
        """Start to run a change."""
        return subprocess.Popen(
            self.argv(sql),
            cwd=self.directory,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, sql: str = CHANGE) -> str:
        """Run a change and return what is to be said of it."""
        return self.end(self.start(sql))

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for the end, and say exit status and state."""
        process.communicate(timeout=60)
        return f"exit {process.returncode}, {self.state()}"

    def state(self) -> str:
        """Say how much of the change is there."""
        there = int(self.cluster.psql(_THERE, self.database))
        return {0: "nothing changed", PARTS: "all applied"}.get(there, "A PART applied")

    def environment(self) -> dict[str, str]:
        """Return the environment of the program."""
        return {
            **os.environ,
            **self.cluster.environment(self.database),
            "PATH": f"{bin_directory()}{os.pathsep}{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }


@dataclass
class Psql(Tool):
    """``psql`` in one transaction that stops at the first error."""

    name = "psql"

    def argv(self, sql: str) -> Sequence[str]:
        file = self.directory / "migrate.sql"
        file.write_text(sql, encoding="utf-8", newline="")
        return [str(bin_directory() / "psql"), "-Xq1", "-v", "ON_ERROR_STOP=1", "-f", str(file)]


@dataclass
class Sqitch(Tool):
    """``sqitch deploy`` of a change; its script carries BEGIN and COMMIT, as ``sqitch add`` makes it.

    ``cut``: how many bytes of the script are left. A change before it, which does nothing, makes Sqitch's own tables.
    """

    name = "Sqitch"
    cut: int | None = None

    @staticmethod
    def installed() -> bool:
        """Tell whether it can be run here."""
        return shutil.which("sqitch") is not None

    def argv(self, sql: str) -> Sequence[str]:
        moment = "2026-01-01T00:00:00Z A <a@b.example> # one"
        files = {
            "sqitch.conf": f'[core]\n\tengine = pg\n[engine "pg"]\n\tclient = {bin_directory() / "psql"}\n',
            "sqitch.plan": f"%syntax-version=1.0.0\n%project=compared\n\nfirst {moment}\nchange {moment}\n",
            "deploy/first.sql": "SELECT 1;\n",
            "deploy/change.sql": f"BEGIN;\n{sql}COMMIT;\n"[: self.cut],
        }
        for name, text in files.items():
            file = self.directory / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="")
        return ["sqitch", "deploy", f"db:pg:{self.database}"]

    def environment(self) -> dict[str, str]:
        person = {"SQITCH_FULLNAME": "A", "SQITCH_EMAIL": "a@b.example", "SQITCH_USER_CONFIG": os.devnull}
        return {**super().environment(), **person}

    def prepare(self) -> None:
        """Deploy the change that does nothing."""
        argv = [*self.argv(CHANGE), "--to", "first"]
        subprocess.run(argv, cwd=self.directory, env=self.environment(), check=True, capture_output=True)
