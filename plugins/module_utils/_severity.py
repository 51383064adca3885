# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The severity of each kind of change for a reviewer: one table of rules. Pure.

The first rule that fits decides. ``docs/schema-diff.md`` shows the same table; a test compares the two.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Callable, Mapping, NamedTuple, Sequence


class Severity(str, Enum):
    """The class of a change, from harmless to destructive; ``UNKNOWN`` is never allowed."""

    ADDITIVE = "additive"
    COSMETIC = "cosmetic"
    WIDENING = "widening"
    CHANGING = "changing"
    NARROWING = "narrowing"
    DESTRUCTIVE = "destructive"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """Return the place in the order of the declaration."""
        return list(Severity).index(self)


class Judgement(NamedTuple):
    """The result of a rule for one change."""

    severity: Severity
    rewrites: bool = False
    note: str = ""


class Case(NamedTuple):
    """One change as the rules see it: ``attribute`` is '' for a whole object, ``before`` and ``after`` its value.

    ``attributes`` are those of the new fact; ``on`` is the kind of the relation that it is a part of, or its own kind.
    """

    kind: str
    action: str
    attribute: str
    before: str | None
    after: str | None
    attributes: Mapping[str, str | None]
    on: str


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    ``kinds`` and ``attributes`` are alternatives ('*' is any, '' the whole object); ``judge`` is a class, or what decides by value.
    """

    kinds: str
    action: str
    attributes: str
    judge: Severity | Callable[[Case], Judgement]
    outcome: str
    reason: str

    def fits(self, case: Case) -> bool:
        """Return whether this rule is about that change."""
        return (
            self.action in ("*", case.action)
            and (self.kinds == "*" or case.kind in self.kinds.split())
            and (self.attributes == "*" or (case.attribute or "whole") in self.attributes.split())
        )

    def judgement(self, case: Case) -> Judgement:
        """Return the result of this rule for the change."""
        return Judgement(self.judge) if isinstance(self.judge, Severity) else self.judge(case)


A, C, W, X, N, D = (
    Severity.ADDITIVE,
    Severity.COSMETIC,
    Severity.WIDENING,
    Severity.CHANGING,
    Severity.NARROWING,
    Severity.DESTRUCTIVE,
)


def _switch(off: Severity, on: Severity) -> Callable[[Case], Judgement]:
    """Return a function that classifies a flag that is ``yes`` or NULL."""
    return lambda case: Judgement(on if case.after else off)


def _items(text: str | None) -> set[str]:
    return set(json.loads(text)) if text else set()


def _privileges(case: Case) -> Judgement:
    before, after = _items(case.before), _items(case.after)
    # who may grant a privilege on has it
    gone = before - after - {item.replace("*", "") for item in after}
    if gone:
        return Judgement(D, note="revoked: " + ", ".join(sorted(gone)))
    return Judgement(W, note="granted: " + ", ".join(sorted(after - before)))


def _labels(case: Case) -> Judgement:
    before: Sequence[str] = json.loads(case.before or "[]")
    after: Sequence[str] = json.loads(case.after or "[]")
    gone = [label for label in before if label not in after]
    if gone:
        return Judgement(D, note="labels removed: " + ", ".join(gone))
    if [label for label in after if label in before] != before:
        return Judgement(X, note="the order of labels changed")
    return Judgement(W, note="new labels: " + ", ".join(label for label in after if label not in before))


def _parents(case: Case) -> Judgement:
    gone = _items(case.before) - _items(case.after)
    return Judgement(D, note="detached from " + ", ".join(sorted(gone))) if gone else Judgement(X)


# A volatile default is computed for every row. These are not volatile; of other functions the server would have to be asked.
_STABLE = re.compile(
    r"(?:\bnow\(\)|\btransaction_timestamp\(\)|\bstatement_timestamp\(\)|\bCURRENT_\w+|\bLOCALTIME\w*)"
)


def _new_column(case: Case) -> Judgement:
    computed = case.attributes.get("generated") or case.attributes.get("identity")
    default = case.attributes.get("default")
    if case.on == "composite_type":
        return Judgement(X, note="row values of the type change their shape")
    if case.on in ("view", "materialized_view"):
        return Judgement(A)
    if computed:
        return Judgement(A, rewrites=case.on == "table", note="computed for every row")
    if default is not None:
        volatile = re.search(r"\w\(", _STABLE.sub("", re.sub(r"'(?:[^']|'')*'", "", default))) is not None
        return Judgement(A, rewrites=volatile and case.on == "table")
    if case.attributes.get("not_null"):
        return Judgement(N, note="NOT NULL without a default: fails on a table with rows, and writers must name it")
    return Judgement(A)


def _new_index(case: Case) -> Judgement:
    if case.attributes.get("invalid"):
        return Judgement(X, note="the index is invalid: a concurrent build failed or is not done")
    if case.attributes.get("unique"):
        return Judgement(N, note="writes of equal keys fail from now on")
    return Judgement(A)


def _new_policy(case: Case) -> Judgement:
    restrictive = case.attributes.get("permissive") == "restrictive"
    return Judgement(
        N if restrictive else W, note="rows are hidden or rejected" if restrictive else "more rows are accessible"
    )


def _new_conversion(case: Case) -> Judgement:
    if case.attributes["default"]:
        return Judgement(X, note="clients with this encoding get different bytes")
    return Judgement(A)


def _new_cast(case: Case) -> Judgement:
    if case.attributes.get("context") == "explicit":
        return Judgement(A)
    return Judgement(X, note="expressions may resolve to other functions")


@dataclass(frozen=True)
class _Type:
    """A type as ``format_type`` writes it: its name, and its limits (digits and scale, or length), () without."""

    base: str
    size: tuple[int, ...]

    @property
    def whole_digits(self) -> int:
        """Return how many digits a number may have before its point."""
        return self.size[0] - self.scale

    @property
    def scale(self) -> int:
        return self.size[1] if len(self.size) > 1 else 0


_TYPE = re.compile(
    r"^(?P<base>[a-z]+(?: [a-z]+)*?)(?:\((?P<size>[0-9]+(?:,-?[0-9]+)?)\))?(?P<zone> with(?:out)? time zone)?$"
)
_INTEGER_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_INTEGERS = tuple(_INTEGER_DIGITS)
_FLOATS = ("real", "double precision")
_TEXTS = ("character varying", "text")
_ANY_TEXT = (*_TEXTS, "character", "name")
_TIMES = ("time without time zone", "time with time zone")
_TIMESTAMPS = ("timestamp without time zone", "timestamp with time zone")

# From, to, and the judgement when the new type's limits include those of the old type. Source of the rewrites: casts
# that are not binary-coercible in PostgreSQL 16's pg_cast, and length coercions that their support functions do not drop.
_CONVERSIONS: tuple[tuple[tuple[str, ...], tuple[str, ...], Judgement], ...] = (
    (("smallint",), ("integer", "bigint"), Judgement(W, rewrites=True)),
    (("integer",), ("bigint",), Judgement(W, rewrites=True)),
    (("real",), ("double precision",), Judgement(W, rewrites=True)),
    (_INTEGERS, ("numeric",), Judgement(W, rewrites=True)),
    (_TEXTS, _TEXTS, Judgement(W)),
    (("character",), _TEXTS, Judgement(X, rewrites=True, note="trailing blanks are lost")),
    (("bigint", "integer"), ("smallint",), Judgement(D, rewrites=True)),
    (("bigint",), ("integer",), Judgement(D, rewrites=True)),
    (("double precision",), ("real",), Judgement(D, rewrites=True)),
    (("numeric",), (*_INTEGERS, *_FLOATS), Judgement(D, rewrites=True, note="values are rounded or rejected")),
    (_FLOATS, _INTEGERS, Judgement(D, rewrites=True, note="values are rounded or rejected")),
    (_TEXTS, ("character",), Judgement(D, rewrites=True, note="values are cut or padded")),
    (("date",), _TIMESTAMPS, Judgement(W, rewrites=True)),
    (_TIMESTAMPS, ("date", *_TIMES), Judgement(D, rewrites=True, note="a part of the value is lost")),
)


def _parse_type(text: str) -> _Type | None:
    found = _TYPE.match(text)
    if not found:
        return None
    base = found["base"] + (found["zone"] or "")
    size = tuple(int(part) for part in (found["size"] or "").split(",") if part)
    if base in _INTEGER_DIGITS:
        size = (_INTEGER_DIGITS[base],)
    elif base in ("character", "bit") and not size:
        size = (1,)
    return _Type(base, size)


def _holds(new: _Type, old: _Type) -> bool:
    """Return whether every value within ``old``'s limits is within ``new``'s; no limit holds everything."""
    if not new.size:
        return True
    if not old.size:
        return False
    return new.whole_digits >= old.whole_digits and new.scale >= (0 if old.base in _INTEGERS else old.scale)


def compare_types(before: str, after: str) -> Judgement:
    """Classify a change of type between two texts of ``format_type``.

    Widening keeps every value and its meaning, ``rewrites``: the table is rewritten.
    """
    if before.endswith("[]") and after.endswith("[]"):
        return compare_types(before[:-2], after[:-2])._replace(rewrites=True)
    old, new = _parse_type(before), _parse_type(after)
    if old and old.base in _ANY_TEXT and (new is None or new.base not in _ANY_TEXT):
        return Judgement(D, rewrites=True, note="values are rejected")
    if old is None or new is None:
        return Judgement(X, rewrites=True)
    if old.base == new.base:
        return _compare_limits(old, new)
    for sources, targets, judgement in _CONVERSIONS:
        if old.base in sources and new.base in targets:
            limited = new.base not in _INTEGERS and not _holds(new, old)
            return Judgement(D, rewrites=True, note="values may not fit") if limited else judgement
    return Judgement(X, rewrites=True)


def _compare_limits(old: _Type, new: _Type) -> Judgement:
    if not _holds(new, old):
        return Judgement(D, rewrites=True, note="values may not fit")
    # padded to their length, or stored with another scale
    rewrites = old.base in ("character", "bit") or (old.base == "numeric" and bool(new.size) and new.scale != old.scale)
    return Judgement(X if old.base == "bit" else W, rewrites=rewrites)


def _type(case: Case) -> Judgement:
    judged = compare_types(case.before or "", case.after or "")
    return judged if case.on == "table" else judged._replace(rewrites=False)


def _default(case: Case) -> Judgement:
    return (
        Judgement(D, note="rows that do not name it get NULL")
        if case.after is None
        else Judgement(X, note="future rows only")
    )


def _column_identity(case: Case) -> Judgement:
    if case.after is None:
        return Judgement(D, note="rows that do not name it get NULL")
    if case.after == "always":
        return Judgement(N, note="writers may no longer give a value")
    return Judgement(W if case.before else X)


def _unique(case: Case) -> Judgement:
    if case.attributes["constraint"]:
        return Judgement(X, note="now the index of a constraint")
    return Judgement(N if case.after else D)


# Options of a view that keep rows from being seen or written.
_GUARDS = ("security_barrier", "security_invoker", "check_option")
_OFF = ("f", "fa", "fal", "fals", "false", "of", "off", "n", "no", "0")


def _guards(options: str | None) -> set[str]:
    pairs = (item.partition("=") for item in _items(options))
    return {name for name, _equals, value in pairs if name in _GUARDS and value.lower() not in _OFF}


def _view_options(case: Case) -> Judgement:
    off = _guards(case.before) - _guards(case.after)
    return Judgement(D, note="disabled: " + ", ".join(sorted(off))) if off else Judgement(X)


def _routine_settings(case: Case) -> Judgement:
    fixed = any(item.startswith("search_path=") for item in _items(case.before))
    fixes = any(item.startswith("search_path=") for item in _items(case.after))
    if case.attributes["security_definer"] and fixed and not fixes:
        return Judgement(D, note="a caller's search_path decides what runs with the owner's rights")
    return Judgement(X)


def _permissive(case: Case) -> Judgement:
    return Judgement(D if case.after == "permissive" else N)


def _bound(better: Callable[[int, int], bool]) -> Callable[[Case], Judgement]:
    def judge(case: Case) -> Judgement:
        return Judgement(W if better(int(case.after or 0), int(case.before or 0)) else N)

    return judge


def _enabled(case: Case) -> Judgement:
    if case.after in ("disabled", "replica") and case.before in (None, "always", "replica"):
        return Judgement(D, note="disabled in ordinary sessions")
    return Judgement(X)


def _persistence(case: Case) -> Judgement:
    return Judgement(D if case.after else W, rewrites=True, note="lost at a crash" if case.after else "")


def _storage_place(_case: Case) -> Judgement:
    return Judgement(X, rewrites=True)


def _generated(case: Case) -> Judgement:
    return Judgement(X if case.after else D, rewrites=bool(case.after))


def _collation(case: Case) -> Judgement:
    return Judgement(X, rewrites=case.on == "table")


def _partition_bound(case: Case) -> Judgement:
    return Judgement(X if case.after else D)


def _populated(case: Case) -> Judgement:
    return Judgement(D if case.after else A)


ADDED, REMOVED, CHANGED, RENAMED = "added", "removed", "changed", "renamed"

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule("unknown", "*", "*", Severity.UNKNOWN, "unknown",
         "this release cannot classify it"),
    Rule("*", RENAMED, "*", D, "destructive",
         "statements with the old name fail"),
    Rule("acl default_acl", CHANGED, "born_with", X, "changing",
         "the default privileges changed, for example by an extension; the actual ones are the same"),
    Rule("acl default_acl", "*", "*", _privileges, "widening or destructive",
         "a grant widens; a revoke removes a privilege"),
    # removed objects
    Rule("role_setting", "*", "*", X, "changing",
         "later sessions get another value"),
    Rule("*", REMOVED, "whole", D, "destructive",
         "an object or a guarantee is removed"),
    # new objects
    Rule("column", ADDED, "whole", _new_column, "additive, narrowing or changing",
         "additive when rows and writers need nothing new; NOT NULL without a default narrows; a composite type's rows change shape"),
    Rule("constraint domain_constraint", ADDED, "whole", N, "narrowing",
         "writes that were valid may fail"),
    Rule("index", ADDED, "whole", _new_index, "additive, narrowing or changing",
         "a unique index rejects duplicates; an invalid one is unfinished"),
    Rule("trigger rule event_trigger", ADDED, "whole", X, "changing",
         "existing statements behave differently"),
    Rule("policy", ADDED, "whole", _new_policy, "widening or narrowing",
         "a permissive policy lets more rows pass, a restrictive one fewer"),
    Rule("cast", ADDED, "whole", _new_cast, "additive or changing",
         "an implicit or assignment cast affects existing expressions"),
    Rule("conversion", ADDED, "whole", _new_conversion, "additive or changing",
         "a default conversion changes what clients read and write"),
    Rule("publication publication_table publication_schema role_membership user_mapping", ADDED, "whole", W, "widening",
         "more is published, or permitted"),
    Rule("subscription", ADDED, "whole", X, "changing",
         "rows of another server are replicated into this database"),
    Rule("system_object", ADDED, "whole", X, "changing",
         "an object that initdb made has another owner"),
    Rule("*", ADDED, "whole", A, "additive",
         "no existing object changes"),
    # attributes of existing objects
    Rule("*", CHANGED, "comment", C, "cosmetic",
         "no program behaves differently"),
    Rule("*", CHANGED, "statistics_target statistics_targets clustered", C, "cosmetic",
         "affects only the planner or maintenance"),
    Rule("column", CHANGED, "options", C, "cosmetic",
         "overrides of planner statistics"),
    Rule("column domain sequence", CHANGED, "type", _type, "widening, changing or destructive",
         "widening keeps every value; a narrowed type loses or rejects some"),
    Rule("column domain", CHANGED, "not_null", _switch(off=W, on=D), "widening or destructive",
         "NULL is accepted from now on, or rejected"),
    Rule("column domain", CHANGED, "default", _default, "changing or destructive",
         "future rows get another value; without a default, NULL"),
    Rule("column", CHANGED, "generated", _generated, "changing or destructive",
         "the value is computed by another expression, or no longer"),
    Rule("column", CHANGED, "identity", _column_identity, "changing, widening, narrowing or destructive",
         "without an identity no value is generated; ALWAYS rejects given values"),
    Rule("column", CHANGED, "collation", _collation, "changing",
         "order and equality change; indexes are rebuilt"),
    Rule("constraint domain_constraint", CHANGED, "not_valid", _switch(off=A, on=D), "additive or destructive",
         "validated: the guarantee covers old rows too; the other way it is lost"),
    Rule("constraint", CHANGED, "disabled_triggers", _switch(off=X, on=D), "changing or destructive",
         "a foreign key whose triggers are off is not enforced"),
    Rule("index", CHANGED, "invalid", _switch(off=A, on=D), "additive or destructive",
         "an invalid index is not used and guarantees nothing"),
    Rule("index", CHANGED, "unique", _unique, "changing, narrowing or destructive",
         "the guarantee is added or removed, or a constraint provides it"),
    Rule("trigger rule event_trigger", CHANGED, "enabled", _enabled, "changing or destructive",
         "disabled has the same effect as dropped"),
    Rule("subscription", CHANGED, "enabled", _switch(off=D, on=X), "changing or destructive",
         "disabled has the same effect as dropped"),
    Rule("table", CHANGED, "row_security force_row_security", _switch(off=D, on=N), "narrowing or destructive",
         "row security protects rows, or no longer does"),
    Rule("policy", CHANGED, "permissive", _permissive, "narrowing or destructive",
         "a restriction is added or removed"),
    Rule("view", CHANGED, "options", _view_options, "changing or destructive",
         "a view loses its protection"),
    Rule("function procedure", CHANGED, "settings", _routine_settings, "changing or destructive",
         "a fixed search_path guards a function that runs with its owner's rights"),
    Rule("table foreign_table index", CHANGED, "parents", _parents, "changing or destructive",
         "a detached partition's rows leave the parent"),
    Rule("table foreign_table", CHANGED, "detach_pending", D, "destructive",
         "a detached partition's rows leave the parent"),
    Rule("table foreign_table", CHANGED, "partition_bound", _partition_bound, "changing or destructive",
         "detached, or other rows belong here"),
    Rule("table materialized_view sequence", CHANGED, "persistence", _persistence, "widening or destructive",
         "unlogged data is lost at a crash"),
    Rule("table materialized_view index", CHANGED, "access_method tablespace", _storage_place, "changing",
         "the files are rewritten"),
    Rule("materialized_view", CHANGED, "populated", _populated, "additive or destructive",
         "an unpopulated view cannot be read"),
    Rule("sequence", CHANGED, "maximum", _bound(lambda after, before: after >= before), "widening or narrowing",
         "more or fewer values"),
    Rule("sequence", CHANGED, "minimum", _bound(lambda after, before: after <= before), "widening or narrowing",
         "more or fewer values"),
    Rule("enum", CHANGED, "labels", _labels, "widening, changing or destructive",
         "a new label widens; a removed label invalidates the rows that have it"),
    Rule("base_type", CHANGED, "shell", _switch(off=A, on=D), "additive or destructive",
         "a shell type gets its definition"),
    Rule("publication", CHANGED, "all_tables insert update delete truncate", _switch(off=D, on=W), "widening or destructive",
         "subscribers receive more, or less"),
    Rule("role", CHANGED, "superuser inherit create_role create_database login replication bypass_row_security",
         _switch(off=D, on=W), "widening or destructive",
         "the role may do more, or less"),
    Rule("role_membership", CHANGED, "*", _switch(off=D, on=W), "widening or destructive",
         "the member may do more, or less"),
    Rule("*", CHANGED, "*", X, "changing",
         "whatever uses the object may behave differently"),
)
# fmt: on


def judge(case: Case) -> Judgement:
    """Return the result of the first rule that fits. Every change is covered: the last rules fit anything."""
    return next(rule.judgement(case) for rule in RULES if rule.fits(case))
