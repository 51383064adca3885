# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other ways to run a change: plain psql as its manual recommends it, and the migration tools, each by its own command line.

``scripts/runners`` installs the tools below ``build/runners``; of a tool that is not there nothing is compared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlencode

from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, bin_directory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

RUNNERS = Path(__file__).resolve().parents[2] / "build" / "runners"

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
    #: what it does for a change besides running it
    does: ClassVar[str] = ""

    @classmethod
    def installed(cls) -> bool:
        """Tell whether it can be run here."""
        return True

    def write(self, files: Mapping[str, str]) -> None:
        """Write its files."""
        for name, text in files.items():
            file = self.directory / name
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(text, encoding="utf-8", newline="")

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

    def url(self) -> str:
        """Return the address of the database as a URL."""
        place = {"host": str(self.cluster.socket_directory), "port": str(self.cluster.port), "sslmode": "disable"}
        return f"postgres://{SUPERUSER}@/{self.database}?{urlencode(place)}"

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
    does = "one transaction; no record, no check, no backup"

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
    does = "a record with the script's digest; its verify scripts run after COMMIT"
    cut: int | None = None

    @classmethod
    def installed(cls) -> bool:
        return shutil.which("sqitch") is not None

    def argv(self, sql: str) -> Sequence[str]:
        moment = "2026-01-01T00:00:00Z A <a@b.example> # one"
        files = {
            "sqitch.conf": f'[core]\n\tengine = pg\n[engine "pg"]\n\tclient = {bin_directory() / "psql"}\n',
            "sqitch.plan": f"%syntax-version=1.0.0\n%project=compared\n\nfirst {moment}\nchange {moment}\n",
            "deploy/first.sql": "SELECT 1;\n",
            "deploy/change.sql": f"BEGIN;\n{sql}COMMIT;\n"[: self.cut],
        }
        self.write(files)
        return ["sqitch", "deploy", f"db:pg:{self.database}"]

    def environment(self) -> dict[str, str]:
        person = {"SQITCH_FULLNAME": "A", "SQITCH_EMAIL": "a@b.example", "SQITCH_USER_CONFIG": os.devnull}
        return {**super().environment(), **person}

    def prepare(self) -> None:
        """Deploy the change that does nothing."""
        argv = [*self.argv(CHANGE), "--to", "first"]
        subprocess.run(argv, cwd=self.directory, env=self.environment(), check=True, capture_output=True)


@dataclass
class Dbmate(Tool):
    """``dbmate up`` of one migration."""

    name = "dbmate"
    does = "one transaction; a record of the version"
    program: ClassVar[Path] = RUNNERS / "node_modules/.bin/dbmate"

    @classmethod
    def installed(cls) -> bool:
        return cls.program.exists()

    def argv(self, sql: str) -> Sequence[str]:
        self.write({"db/20260101000000_change.sql": f"-- migrate:up\n{sql}\n-- migrate:down\n"})
        return [str(self.program), "--url", self.url(), "--migrations-dir", "db", "--no-dump-schema", "up"]


@dataclass
class NodePgMigrate(Tool):
    """``node-pg-migrate up`` of one migration in SQL."""

    name = "node-pg-migrate"
    does = "one transaction and an advisory lock; a record of the name"
    program: ClassVar[Path] = RUNNERS / "node_modules/.bin/node-pg-migrate"

    @classmethod
    def installed(cls) -> bool:
        return cls.program.exists()

    def argv(self, sql: str) -> Sequence[str]:
        self.write({"db/1767225600000_change.sql": f"-- Up Migration\n{sql}\n-- Down Migration\n"})
        return [str(self.program), "up", "-m", "db"]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "DATABASE_URL": self.url()}


@dataclass
class PgMigrate(Tool):
    """``pgmigrate migrate`` to one migration."""

    name = "pgmigrate"
    does = "one transaction; a record of the version"
    program: ClassVar[Path] = RUNNERS / "python/bin/pgmigrate"

    @classmethod
    def installed(cls) -> bool:
        return cls.program.exists()

    def argv(self, sql: str) -> Sequence[str]:
        self.write({"migrations/V0001__change.sql": sql, "migrations.yml": "{}\n"})
        return [str(self.program), "-c", f"dbname={self.database}", "-t", "latest", "migrate"]


@dataclass
class Alembic(Tool):
    """``alembic upgrade`` of one revision that runs the SQL."""

    name = "Alembic"
    does = "one transaction; a record of the revision"
    program: ClassVar[Path] = RUNNERS / "python/bin/alembic"

    @classmethod
    def installed(cls) -> bool:
        return cls.program.exists()

    def argv(self, sql: str) -> Sequence[str]:
        self.write(
            {
                "alembic.ini": "[alembic]\nscript_location = %(here)s/scripts\n",
                "scripts/env.py": "from alembic import context\nfrom sqlalchemy import create_engine\n"
                "with create_engine('postgresql+psycopg2://').connect() as connection:\n"
                "    context.configure(connection=connection)\n"
                "    with context.begin_transaction():\n        context.run_migrations()\n",
                "scripts/versions/one.py": "from pathlib import Path\nfrom alembic import op\n"
                "revision, down_revision = 'one', None\ndef upgrade():\n"
                "    text = Path(__file__).with_name('one.sql').read_text(encoding='utf-8')\n"
                "    op.get_bind().connection.cursor().execute(text)\n",
                "scripts/versions/one.sql": sql,
            }
        )
        return [str(self.program), "upgrade", "head"]
