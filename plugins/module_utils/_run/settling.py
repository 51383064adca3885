# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Do before the checks what COMMIT would do after them, so that COMMIT changes nothing that they have read.

``settle`` fires deferred triggers, closes cursors and drops temporary objects, ``make_read_only`` the transaction. From then
on no trigger event can be queued, no temporary object made, no catalog row written. ``settle_session`` undoes what a check
can still do: a cursor WITH HOLD, whose query would run at COMMIT, a LISTEN, a weaker durability.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import ALSO, Session, SqlError
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.untrusted_sql import own_settings
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import CORRECT

_TEMPORARY = r"^pg_(?:toast_)?temp_[0-9]+$"


def _class(catalog: str) -> str:
    return f"'pg_catalog.{catalog}'::pg_catalog.regclass"


def _home(alias: str) -> str:
    """Return SQL: the OID of the schema that the object of a pg_depend row is in, or is a part of something in."""
    own = "".join(
        f" WHEN {_class(catalog)} THEN (SELECT o.{column} FROM pg_catalog.{catalog} o WHERE o.oid = {alias}.objid)"
        for catalog, column in (
            ("pg_class", "relnamespace"),
            ("pg_type", "typnamespace"),
            ("pg_proc", "pronamespace"),
            ("pg_constraint", "connamespace"),
            ("pg_operator", "oprnamespace"),
            ("pg_opclass", "opcnamespace"),
            ("pg_opfamily", "opfnamespace"),
            ("pg_collation", "collnamespace"),
            ("pg_conversion", "connamespace"),
            ("pg_statistic_ext", "stxnamespace"),
            ("pg_ts_config", "cfgnamespace"),
            ("pg_ts_dict", "dictnamespace"),
            ("pg_ts_parser", "prsnamespace"),
            ("pg_ts_template", "tmplnamespace"),
        )
    )
    parts = "".join(
        f" WHEN {_class(catalog)} THEN (SELECT c.relnamespace FROM pg_catalog.{catalog} o"
        f" JOIN pg_catalog.pg_class c ON c.oid = o.{column} WHERE o.oid = {alias}.objid)"
        for catalog, column in (
            ("pg_attrdef", "adrelid"),
            ("pg_trigger", "tgrelid"),
            ("pg_rewrite", "ev_class"),
            ("pg_policy", "polrelid"),
        )
    )
    families = "".join(
        f" WHEN {_class(catalog)} THEN (SELECT f.opfnamespace FROM pg_catalog.{catalog} o"
        f" JOIN pg_catalog.pg_opfamily f ON f.oid = o.{column} WHERE o.oid = {alias}.objid)"
        for catalog, column in (("pg_amop", "amopfamily"), ("pg_amproc", "amprocfamily"))
    )
    return f"CASE {alias}.classid{own}{parts}{families} END"


# Planning the query below takes some milliseconds; mostly no session has a temporary object, or none is in its schema.
_ANYTHING_TEMPORARY = f"""
SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '{_TEMPORARY}' AND EXISTS (SELECT FROM pg_catalog.pg_depend d
  WHERE d.refclassid = {_class("pg_namespace")} AND d.refobjid = n.oid) LIMIT 1
"""

# What hangs on a temporary object and is not temporary itself, by pg_depend rows that this transaction (or one that began
# after it) wrote. An object in no schema, such as a cast, is never temporary; neither is an extension with such a member.
_LEANING = f"""
WITH RECURSIVE homes AS (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname ~ '{_TEMPORARY}'),
temporary (classid, objid) AS (
  SELECT {_class("pg_namespace")}::pg_catalog.oid, oid FROM homes
  UNION
  SELECT d.classid, d.objid FROM temporary t
  JOIN pg_catalog.pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.objid
  WHERE {_home("d")} IN (SELECT oid FROM homes)
)
SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) || ' depends on '
  || pg_catalog.pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
FROM temporary t JOIN pg_catalog.pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.objid
WHERE pg_catalog.age(d.xmin) <= pg_catalog.age(pg_catalog.pg_current_xact_id()::pg_catalog.xid)
  AND NOT coalesce({_home("d")} IN (SELECT oid FROM homes), false)
UNION
SELECT pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0) || ' has the member '
  || pg_catalog.pg_describe_object(d.classid, d.objid, 0)
FROM temporary t JOIN pg_catalog.pg_depend d ON d.classid = t.classid AND d.objid = t.objid AND d.deptype = 'e'
WHERE pg_catalog.age(d.xmin) <= pg_catalog.age(pg_catalog.pg_current_xact_id()::pg_catalog.xid)
"""


class Beginning(NamedTuple):
    """What a session has at the start of its transaction: its role and ``synchronous_commit``."""

    role: str
    durability: str

    @classmethod
    def of(cls, session: Session) -> Beginning:
        """Read it."""
        names = ", ".join(f"pg_catalog.current_setting('{name}')" for name in ("role", "synchronous_commit"))
        role, durability = session.rows(f"SELECT {names}")[0]
        return cls(role or "none", durability or "on")


def settle(session: Session, command: str, role: str) -> None:
    """Leave nothing that COMMIT would do later. ``role`` is that of the statements, which the triggers fire with.

    Raises ``Stopped``.
    """
    dropped = f"{command}: the temporary objects could not be dropped; rolled back before COMMIT."
    _execute(
        session,
        (_FIRE, f"{command}: a deferred constraint is violated; rolled back before COMMIT.", _SATISFIED),
        # a cursor keeps its tables from being dropped
        *((sql, dropped, "no temporary object is left when the checks run") for sql in ("CLOSE ALL", "DISCARD TEMP")),
        *_own(command, role),
    )


def make_read_only(session: Session, command: str, beginning: Beginning) -> None:
    """Let nothing be written any more, after ``settle``; the role is that of the beginning. Raises ``Stopped``."""
    again = f"{command}: a deferred trigger defers its work again, until COMMIT; rolled back before COMMIT."
    found = _execute(
        session,
        ("SET LOCAL transaction_read_only = on", again, _SATISFIED),
        # A trigger that fired may have deferred its work again. Here it can only fail, and queue nothing more.
        (_FIRE, again, _SATISFIED),
        *_own(command, beginning.role),
        (f"COPY ({_ANYTHING_TEMPORARY}) TO STDOUT", f"{command}: temporary objects could not be looked for.", ""),
    )
    leaning = [row[0] or "" for row in session.rows(_LEANING)] if found else []
    if leaning:
        raise Stopped(
            f"{command}: a permanent object depends on a temporary one; rolled back before COMMIT.",
            expected="no permanent object depends on an object in a pg_temp schema: it vanishes when that session ends",
            found="; ".join(sorted(leaning)),
            next_step=CORRECT,
        )


def settle_session(session: Session, beginning: Beginning) -> None:
    """Undo what the statements and checks can have left for COMMIT."""
    durability = f"SELECT pg_catalog.set_config('synchronous_commit', {literal(beginning.durability)}, true)"
    session.execute(ALSO.join(("CLOSE ALL", "UNLISTEN *", f"COPY ({durability}) TO STDOUT")))


_FIRE = "SET CONSTRAINTS ALL IMMEDIATE"

_SATISFIED = "every deferred constraint is satisfied after the last statement"


def _own(command: str, role: str) -> Iterator[tuple[str, str, str]]:
    """Yield what restores the role and the settings, any of which a trigger may have changed."""
    what = f"{command}: the role and the settings could not be restored; rolled back before COMMIT."
    for sql in ("SET LOCAL SESSION AUTHORIZATION DEFAULT", f"COPY (SELECT {own_settings(role)}) TO STDOUT"):
        yield sql, what, "the role and the settings of the beginning"


def _execute(session: Session, *requests: tuple[str, str, str]) -> list[str]:
    """Run requests, each with what failed and what is expected, and return the lines of the last one's answer."""
    answer: list[str] | SqlError = []
    for (_sql, what, expected), answer in zip(requests, session.message([sql for sql, _what, _expected in requests])):
        if isinstance(answer, SqlError):
            raise Stopped(what, expected=expected, found=answer.words(), next_step=CORRECT) from answer
    assert isinstance(answer, list)
    return answer
