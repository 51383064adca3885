# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger: a table of the database with one row for each execution and rollback, written in the phase's own transaction.

So that a plan is executed once is a fact of the database, whatever becomes of the run directories. Rows are only added. The table
is made before the first run that writes to it, so no phase changes the schema by it, and it is a fact of the schema as any table.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import (
    literal,
    qualified,
    readable_literal,
)

EXECUTION = "execution"

ROLLBACK = "rollback"

UNIQUE_VIOLATION = "23505"

# Names that mean the same quoted and unquoted.
_NAME = re.compile(r"([a-z_][a-z0-9_]{0,62})\.([a-z_][a-z0-9_]{0,62})")

# Name, type, and whether it may be empty.
_COLUMNS = (
    ("n", "bigint", False),
    ("kind", "text", False),
    ("run", "text", False),
    ("phase", "text", False),
    ("revision", "text", False),
    ("environment", "text", False),
    ("plan_sha256", "text", False),
    ("repetition", "integer", False),
    ("undoes", "text", True),
    ("approvals_required", "boolean", False),
    ("system_identifier", "text", False),
    ("xid", "text", False),
    ("executor", "text", False),
    ("at", "timestamp with time zone", False),
    ("bundle", "text", False),
)

_MAKE = """
CREATE TABLE {table} (
  {columns},
  PRIMARY KEY (n),
  UNIQUE (run),
  UNIQUE (undoes),
  CHECK (kind IN ('execution', 'rollback') AND (kind = 'rollback') = (undoes IS NOT NULL)),
  EXCLUDE USING btree (plan_sha256 WITH =, repetition WITH =) WHERE (kind = 'execution')
)
"""

# What a constraint is, in the order of their texts.
_CONSTRAINTS = (
    "CHECK (((kind = ANY (ARRAY['execution'::text, 'rollback'::text])) AND ((kind = 'rollback'::text) = (undoes IS NOT NULL))))",
    "EXCLUDE USING btree (plan_sha256 WITH =, repetition WITH =) WHERE ((kind = 'execution'::text))",
    "PRIMARY KEY (n)",
    "UNIQUE (run)",
    "UNIQUE (undoes)",
)

_SHAPE = """
SELECT c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relrowsecurity AND NOT c.relhasrules AND NOT c.relispartition
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent))
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid),
  (SELECT pg_catalog.string_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT pg_catalog.json_agg(pg_catalog.pg_get_constraintdef(k.oid)
    || CASE WHEN k.convalidated AND NOT k.condeferrable THEN '' ELSE ' (not enforced)' END
    ORDER BY pg_catalog.pg_get_constraintdef(k.oid) COLLATE "C") FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'n')::text,
  pg_catalog.pg_get_userbyid(c.relowner),
  pg_catalog.pg_has_role(c.relowner, 'USAGE'),
  n.nspowner = c.relowner OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = n.nspowner),
  (SELECT pg_catalog.string_agg(DISTINCT g.who, ', ') FROM (
    SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END || ' ' || x.privilege_type AS who
    FROM pg_catalog.aclexplode(c.relacl) x WHERE x.grantee <> c.relowner AND x.privilege_type <> 'SELECT'
    UNION ALL
    SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(x.grantee) END || ' ' || x.privilege_type
    FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL pg_catalog.aclexplode(a.attacl) x
    WHERE a.attrelid = c.oid AND x.grantee <> c.relowner AND x.privilege_type <> 'SELECT') g)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema} AND c.relname = {name}
"""

# Tables of a ledger's columns that nobody else can have made.
_LIKE = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND (r.rolsuper OR pg_catalog.pg_has_role(c.relowner, 'USAGE'))
  AND c.oid IN (SELECT a.attrelid FROM pg_catalog.pg_attribute a WHERE a.attname = 'plan_sha256')
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
  AND {columns} = (SELECT pg_catalog.string_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
ORDER BY 1, 2
"""


_UTC = "pg_catalog.to_char(l.at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"


@dataclass(frozen=True)
class LedgerRow:
    """One execution or rollback that committed, each field as the server prints it.

    ``n`` counts the rows from 1 without a gap. ``repetition`` is 0, or of a plan without a rehearsal how often it was executed and
    rolled back before: a rehearsed plan is executed once. ``undoes`` is the run that a rollback undoes, '' for an execution.
    """

    n: str
    kind: str
    run: str
    phase: str
    revision: str
    environment: str
    plan_sha256: str
    repetition: str
    undoes: str
    approvals_required: str
    system_identifier: str
    xid: str
    executor: str
    at: str
    bundle: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields as a plain mapping."""
        return asdict(self)

    def describe(self) -> str:
        """Return the row in one line, for a terminal."""
        undoes = f" undoes {self.undoes}" if self.undoes else ""
        return escaped(f"{self.n:>4}  {self.at}  {self.kind} {self.run}{undoes}, by {self.executor}")


@dataclass(frozen=True)
class Ledger:
    """The table by its names."""

    schema: str
    name: str

    @classmethod
    def of(cls, relation: str) -> Ledger:
        """Return the ledger of ``schema.table``. Raises ``PhaseGateError``."""
        found = _NAME.fullmatch(relation)
        if not found or found[1].startswith("pg_") or found[1] == "information_schema":
            raise PhaseGateError(
                "phasegate_ledger is invalid.",
                expected="schema.table in small letters, digits and _, not in a schema of the server",
                found=repr(relation),
                next_step="correct phasegate_ledger in the inventory",
            )
        return cls(found[1], found[2])

    @property
    def relation(self) -> str:
        """Return the name as the inventory has it."""
        return f"{self.schema}.{self.name}"

    @property
    def _table(self) -> str:
        return qualified(self.schema, self.name)

    def create(self, session: Session) -> bool:
        """Make the table, and its schema, in the open transaction unless it exists; return whether it was made.

        Raises ``PhaseGateError`` unless it is then a ledger that nobody else can write.
        """
        made = not self.exists(session)
        if made:
            columns = ",\n  ".join(f"{name} {kind}{'' if empty else ' NOT NULL'}" for name, kind, empty in _COLUMNS)
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
            session.execute(_MAKE.format(table=self._table, columns=columns))
            session.execute(f"REVOKE ALL ON TABLE {self._table} FROM PUBLIC")
        self.require(session)
        return made

    def restoring(self, row: LedgerRow) -> str:
        """Return the statement by which an operator adds a row again that somebody deleted."""
        values = [_quoted(value) for value in list(row.as_dict().values())[1:]]
        return f"INSERT INTO {self.relation} VALUES ({', '.join([f'(SELECT count(*) + 1 FROM {self.relation})', *values])})"

    @property
    def _schema(self) -> str:
        return self._table.partition(".")[0]

    def exists(self, session: Session) -> bool:
        """Return whether there is any relation of its name."""
        return bool(session.rows(_SHAPE.format(schema=literal(self.schema), name=literal(self.name))))

    def require(self, session: Session) -> None:
        """Raise ``PhaseGateError`` unless the table is a ledger, this role may write to it, and no other one can."""
        rows = session.rows(_SHAPE.format(schema=literal(self.schema), name=literal(self.name)))
        if not rows:
            raise PhaseGateError(
                "The ledger does not exist in this database.",
                expected=f"the table {self.relation}, as phasegate_ledger names it",
                found="no such table: it was never created, or the database was created anew or restored from before",
                next_step="create it with playbook ledger.yml, and rehearse the phases that are not executed yet again",
            )
        plain, columns, constraints, owner, mine, held, others = rows[0]
        wanted = ", ".join(f"{name} {kind}{'' if empty else ' NOT NULL'}" for name, kind, empty in _COLUMNS)
        found = []
        if plain != "t" or columns != wanted or json.loads(constraints or "[]") != list(_CONSTRAINTS):
            found.append("a relation of another form, or with triggers, rules, policies, defaults or children")
        if mine != "t":
            found.append(f"it belongs to {owner}, which this role is not a member of")
        if held != "t":
            found.append(f"its schema belongs to another role than {owner}, which could drop the table")
        if others:
            found.append(f"others have privileges on it: {others}")
        if found:
            raise PhaseGateError(
                f"The table {self.relation} is no ledger that can be trusted.",
                expected="the table that playbook ledger.yml makes, of this role, and privileges of others to SELECT only",
                found="; ".join(found),
                next_step=f"find out who changed it; revoke what others have (also by ALTER DEFAULT PRIVILEGES) with REVOKE … ON {self.relation}",
            )

    def rows(self, session: Session) -> list[LedgerRow]:
        """Return all rows, oldest first. Raises ``PhaseGateError`` when one is missing in the count."""
        columns = ", ".join(_UTC if name == "at" else f"l.{name}::text" for name, _kind, _empty in _COLUMNS)
        found = [
            LedgerRow(*(field or "" for field in row))
            for row in session.rows(f"SELECT {columns} FROM ONLY {self._table} AS l ORDER BY l.n")
        ]
        missing = sorted({str(n) for n in range(1, len(found) + 1)} - {row.n for row in found})
        if missing:
            raise PhaseGateError(
                f"Rows are missing in the ledger {self.relation}.",
                expected="rows numbered from 1 without a gap",
                found=f"{len(found)} rows, the last one is {found[-1].n}",
                next_step="find out who deleted rows: nothing of the collection does; restore them from a backup or the run directories",
            )
        return found

    def add(self, session: Session, row: Mapping[str, Any]) -> LedgerRow:
        """Add a row in the open transaction and return it; ``n``, ``xid``, ``executor`` and ``at`` are the server's.

        Raises ``Stopped`` when the same plan has an execution already, or the execution a rollback.
        """
        values = {
            "n": f"(SELECT pg_catalog.count(*) + 1 FROM ONLY {self._table})",
            "xid": "pg_catalog.pg_current_xact_id()::text",
            "executor": "session_user",
            "at": "pg_catalog.clock_timestamp()",
            **{name: "NULL" if value is None else literal(str(value)) for name, value in row.items()},
        }
        names = [name for name, _kind, _empty in _COLUMNS]
        casts = {"repetition": "::integer", "approvals_required": "::boolean"}
        try:
            session.execute(
                f"INSERT INTO {self._table} ({', '.join(names)})"
                f" SELECT {', '.join(values[name] + casts.get(name, '') for name in names)}"
            )
        except SqlError as error:
            if error.sqlstate in (UNIQUE_VIOLATION, "23P01"):
                raise Stopped(
                    f"The ledger {self.relation} has this already; rolled back before the first statement.",
                    expected="a plan that was not executed on this database, or an execution that was not rolled back",
                    found=error.words(),
                    next_step=f"read the ledger (SELECT * FROM {self.relation}) and the bundle that its row names",
                ) from error
            raise
        return self.rows(session)[-1]


def written_ledgers(session: Session) -> list[Ledger]:
    """Return every table of the database that is a ledger with rows, whatever the inventory names."""
    columns = literal(", ".join(f"{name} {kind}" for name, kind, _empty in _COLUMNS))
    found = [Ledger(schema or "", name or "") for schema, name in session.rows(_LIKE.format(columns=columns))]
    return [one for one in found if session.rows(f"SELECT 1 FROM ONLY {qualified(one.schema, one.name)} LIMIT 1")]


def _quoted(value: str) -> str:
    """Return a value as a literal for people to read, NULL for an empty one."""
    return readable_literal(value) if value else "NULL"


def same_plan(rows: Sequence[LedgerRow], plan_sha256: str) -> list[LedgerRow]:
    """Return the executions of a plan, oldest first."""
    return [row for row in rows if row.kind == EXECUTION and row.plan_sha256 == plan_sha256]


def undone(rows: Sequence[LedgerRow]) -> dict[str, str]:
    """Return the rollback of each execution that was rolled back, by name."""
    return {row.undoes: row.run for row in rows if row.kind == ROLLBACK}
