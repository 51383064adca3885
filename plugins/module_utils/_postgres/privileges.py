# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The privileges that this session's role lacks, and the statements that grant them.

The server's message names an object, never the privilege, and in its own language. So the catalogs are queried: for the
privileges that the statements of a plan need (``needs``), and for the object at the end of a message.

A need is ``SELECT``, ``INSERT``, ``UPDATE``, ``DELETE``, ``TRUNCATE``, ``REFERENCES``, ``TRIGGER``, ``OWNER`` or ``DROP`` of
a relation, ``EXECUTE`` of a function, ``CREATE`` in a schema, ``ROLE`` for SET ROLE to that role, each with the name
as SQL text, or ``DATABASE`` for creating schemas. ``LOCK`` of a relation, as a statement that writes does, is no privilege of its own.
A relation without a schema is the first one in the search path.
"""

from __future__ import annotations

import contextlib
from typing import Any, Iterable, Iterator, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import array_literal, literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import for_major

INSUFFICIENT_PRIVILEGE = "42501"

# The catalogs are read by name: to_regclass() itself needs USAGE on the schema.
_LACKING = """
WITH need AS (
  SELECT split_part(n, ' ', 1) AS what, CASE WHEN n LIKE '% %' THEN parse_ident(substr(n, strpos(n, ' ') + 1)) END AS name
  FROM unnest({needs}::text[]) n),
named AS (
  SELECT what, coalesce(name[2], name[1]) AS name, CASE WHEN name[2] IS NULL THEN NULL ELSE name[1] END AS schema
  FROM need WHERE what NOT IN ('CREATE', 'EXECUTE', 'ROLE', 'DATABASE')),
relation AS (
  SELECT what, c.oid, c.relkind, c.relowner, n.nspname, n.nspowner, format('%I.%I', n.nspname, c.relname) AS label
  FROM named JOIN pg_class c ON c.relname = name JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = coalesce(schema, (
    SELECT s.nspname FROM unnest('{{pg_catalog}}' || {path}::name[]) WITH ORDINALITY p (schema, place)
    JOIN pg_namespace s ON s.nspname = p.schema JOIN pg_class o ON o.relnamespace = s.oid AND o.relname = named.name
    ORDER BY has_schema_privilege(s.oid, 'USAGE') DESC, place LIMIT 1))),
lacking AS (
  SELECT 1 AS place, relowner, label AS about, '' AS privilege, '' AS target FROM relation
  WHERE (what = 'OWNER' OR what = 'DROP' AND NOT pg_has_role(nspowner, 'USAGE')) AND NOT pg_has_role(relowner, 'USAGE')
  UNION SELECT 2, NULL, NULL, 'USAGE', format('SCHEMA %I', n.nspname) FROM pg_namespace n
  WHERE n.nspname IN (SELECT name[1] FROM need WHERE what IN ('CREATE', 'EXECUTE') UNION ALL SELECT schema FROM named
    UNION ALL SELECT nspname FROM relation) AND NOT has_schema_privilege(n.oid, 'USAGE')
  UNION SELECT 2, NULL, NULL, 'CREATE', format('SCHEMA %I', n.nspname) FROM need JOIN pg_namespace n ON n.nspname = name[1]
  WHERE what = 'CREATE' AND NOT has_schema_privilege(n.oid, 'CREATE')
  UNION SELECT 3, NULL, NULL, what, format('%s %s', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, label) FROM relation
  WHERE CASE WHEN what IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES') AND relkind <> 'S' THEN NOT has_any_column_privilege(oid, what)
             WHEN what = 'SELECT' THEN NOT has_sequence_privilege(oid, what)
             WHEN what IN ('DELETE', 'TRUNCATE', 'TRIGGER') THEN NOT has_table_privilege(oid, what) END
    AND NOT oid IN (SELECT oid FROM relation WHERE what = 'OWNER')
  UNION SELECT 4, NULL, NULL, 'EXECUTE', format('ROUTINE %s', p.oid::regprocedure) FROM need
  JOIN pg_namespace n ON n.nspname = name[1] JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = name[2]
  WHERE what = 'EXECUTE' AND NOT has_function_privilege(p.oid, 'EXECUTE')
  UNION SELECT 5, NULL, NULL, 'CREATE', format('DATABASE %I', current_database()) FROM need
  WHERE what = 'DATABASE' AND NOT has_database_privilege(current_database(), 'CREATE')
  UNION SELECT 6, r.oid, 'what becomes its', '', '' FROM need JOIN pg_roles r ON r.rolname = name[1]
  WHERE what = 'ROLE' AND NOT pg_has_role(r.oid, @becomes()))
SELECT text FROM (
  SELECT place, relowner::text AS key, format('to own %s, run as role %I, or: GRANT %2$I TO %I;',
    string_agg(about, ', ' ORDER BY about), pg_get_userbyid(relowner), current_user) AS text
  FROM lacking WHERE relowner IS NOT NULL GROUP BY place, relowner
  UNION ALL SELECT place, target, format('GRANT %s ON %s TO %I;', string_agg(privilege, ', ' ORDER BY privilege), target, current_user)
  FROM lacking WHERE relowner IS NULL GROUP BY place, target) found ORDER BY place, key
"""

# The object at the end of a message, in any language that puts it there, with the quotes of that language.
_NAMED = """
WITH message AS (SELECT rtrim({message}, U&' "''\\00AB\\00BB\\201C\\201D') AS text),
object AS (
  SELECT c.relname AS name, c.relowner AS owner, format('%s %I.%I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    n.nspname, c.relname) AS target, CASE c.relkind WHEN 'S' THEN 'USAGE' ELSE 'SELECT' END AS privilege,
    CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'USAGE') ELSE has_table_privilege(c.oid, 'SELECT') END AS has
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL SELECT nspname, nspowner, format('SCHEMA %I', nspname), what, has_schema_privilege(oid, what)
  FROM pg_namespace, unnest(ARRAY['USAGE', 'CREATE']) what
  UNION ALL SELECT proname, proowner, format('ROUTINE %s', oid::regprocedure), 'EXECUTE', has_function_privilege(oid, 'EXECUTE') FROM pg_proc
  UNION ALL SELECT typname, typowner, format('TYPE %s', oid::regtype), 'USAGE', has_type_privilege(oid, 'USAGE')
  FROM pg_type WHERE typtype <> 'p' AND typelem = 0
  UNION ALL SELECT srvname, srvowner, format('FOREIGN SERVER %I', srvname), 'USAGE', has_server_privilege(oid, 'USAGE') FROM pg_foreign_server
  UNION ALL SELECT datname, datdba, format('DATABASE %I', datname), 'CREATE', has_database_privilege(oid, 'CREATE')
  FROM pg_database WHERE datname = current_database())
SELECT DISTINCT CASE WHEN text ~ '^must be owner of '
  THEN format('to own %s, run as role %I, or: GRANT %2$I TO %I;', target, pg_get_userbyid(owner), current_user)
  ELSE format('GRANT %s ON %s TO %I;', privilege, target, current_user) END
FROM object, message
WHERE right(text, length(name)) = name AND left(right(text, length(name) + 1), 1) !~ '[[:alnum:]_]'
  AND CASE WHEN text ~ '^must be owner of ' THEN NOT pg_has_role(owner, 'USAGE') ELSE NOT has END ORDER BY 1
"""

# Objects that pg_dump has to read and may not; it leaves out those of extensions.
_UNREADABLE = """
SELECT quote_ident(current_user),
  EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))),
  EXISTS (SELECT FROM pg_class c WHERE c.relrowsecurity AND row_security_active(c.oid))
"""

EXPECTED = "every privilege that the phase needs"

UNKNOWN = (
    "run as the role that owns the object, or have its owner grant the privilege that the server reports as missing"
)


def _texts(session: Session, query: str) -> list[str]:
    return [row[0] or "" for row in session.rows(query)]


def lacking_privileges(session: Session, needs: Iterable[str], search_path: Sequence[str]) -> list[str]:
    """Return the statements that grant what the role lacks of these needs. Objects that do not exist need nothing.

    ``search_path`` is that of the statements between pg_catalog and pg_temp.
    """
    query = for_major(_LACKING, session.major)
    return _texts(session, query.format(needs=array_literal(sorted(set(needs))), path=array_literal(search_path)))


def named_privileges(session: Session, message: str) -> list[str]:
    """Return the statements that grant what the role lacks on the object at the end of a server's message."""
    return _texts(session, _NAMED.format(message=literal(message)))


def privilege_advice(session: Session, needs: Iterable[str], message: str, search_path: Sequence[str] = ()) -> str:
    """Return the next step after a permission error; the transaction must not be in a failed state."""
    return " ".join(lacking_privileges(session, needs, search_path) or named_privileges(session, message)) or UNKNOWN


def dump_privilege_advice(session: Session, *, rows: bool = True) -> list[str]:
    """Return the grants with which the role can read everything that pg_dump does, with or without rows."""
    role, unreadable, hidden = session.rows(_UNREADABLE)[0]
    grants = [f"GRANT pg_read_all_data TO {role};"] if unreadable == "t" else []
    return [*grants, *([f"ALTER ROLE {role} BYPASSRLS;"] if rows and hidden == "t" else [])]


def require_privileges(session: Session, statements: Iterable[Mapping[str, Any]], search_path: Sequence[str]) -> None:
    """Raise ``Stopped`` unless the role may run these statements of a plan, as far as their objects exist now.

    A backup and a snapshot need to read every table.
    """
    needs = [need for one in statements if one["run"] for need in one["needs"]]
    grants = lacking_privileges(session, needs, search_path)
    grants += dump_privilege_advice(session, rows=False)
    if grants:
        raise Stopped(
            "The role lacks required privileges.",
            expected=EXPECTED,
            found=f"role {session.value('SELECT current_user')} lacks some of them",
            next_step=" ".join(grants),
        )


@contextlib.contextmanager
def explain_privileges(session: Session) -> Iterator[None]:
    """Name the missing privilege when the server rejects a statement of phasegate for lack of one."""
    try:
        yield
    except SqlError as error:
        if error.sqlstate != INSUFFICIENT_PRIVILEGE:
            raise
        session.execute("ROLLBACK")
        raise PhaseGateError(
            "The role lacks a required privilege.",
            expected=EXPECTED,
            found=error.words(),
            next_step=privilege_advice(session, (), error.text),
        ) from error
