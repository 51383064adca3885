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
from typing import Callable, Mapping, NamedTuple, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity_classes import (
    A,
    C,
    Classification,
    D,
    N,
    Severity,
    W,
    X,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.type_changes import compare_types


class ChangeCase(NamedTuple):
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
class SeverityRule:
    """One row of the table.

    ``kinds`` and ``attributes`` are alternatives ('*' is any, '' the whole object); ``judge`` is a class, or what decides by value.
    """

    kinds: str
    action: str
    attributes: str
    judge: Severity | Callable[[ChangeCase], Classification]
    outcome: str
    reason: str

    def fits(self, case: ChangeCase) -> bool:
        """Return whether this rule is about that change."""
        return (
            self.action in ("*", case.action)
            and (self.kinds == "*" or case.kind in self.kinds.split())
            and (self.attributes == "*" or (case.attribute or "whole") in self.attributes.split())
        )

    def judgement(self, case: ChangeCase) -> Classification:
        """Return the result of this rule for the change."""
        return Classification(self.judge) if isinstance(self.judge, Severity) else self.judge(case)


def _switch(off: Severity, on: Severity) -> Callable[[ChangeCase], Classification]:
    """Return a function that classifies a flag that is ``yes`` or NULL."""
    return lambda case: Classification(on if case.after else off)


def _items(text: str | None) -> set[str]:
    return set(json.loads(text)) if text else set()


def _privileges(case: ChangeCase) -> Classification:
    before, after = _items(case.before), _items(case.after)
    # who may grant a privilege on has it
    gone = before - after - {item.replace("*", "") for item in after}
    if gone:
        return Classification(D, note="revoked: " + ", ".join(sorted(gone)))
    return Classification(W, note="granted: " + ", ".join(sorted(after - before)))


def _labels(case: ChangeCase) -> Classification:
    before: Sequence[str] = json.loads(case.before or "[]")
    after: Sequence[str] = json.loads(case.after or "[]")
    gone = [label for label in before if label not in after]
    if gone:
        return Classification(D, note="labels removed: " + ", ".join(gone))
    if [label for label in after if label in before] != before:
        return Classification(X, note="the order of labels changed")
    return Classification(W, note="new labels: " + ", ".join(label for label in after if label not in before))


def _parents(case: ChangeCase) -> Classification:
    gone = _items(case.before) - _items(case.after)
    return Classification(D, note="detached from " + ", ".join(sorted(gone))) if gone else Classification(X)


# A volatile default is computed for every row. These are not volatile; of other functions the server would have to be asked.
_STABLE = re.compile(
    r"(?:\bnow\(\)|\btransaction_timestamp\(\)|\bstatement_timestamp\(\)|\bCURRENT_\w+|\bLOCALTIME\w*)"
)


def _new_column(case: ChangeCase) -> Classification:
    computed = case.attributes.get("generated") or case.attributes.get("identity")
    default = case.attributes.get("default")
    if case.on == "composite_type":
        return Classification(X, note="row values of the type change their shape")
    if case.on in ("view", "materialized_view"):
        return Classification(A)
    if computed:
        return Classification(A, rewrites=case.on == "table", note="computed for every row")
    if default is not None:
        volatile = re.search(r"\w\(", _STABLE.sub("", re.sub(r"'(?:[^']|'')*'", "", default))) is not None
        return Classification(A, rewrites=volatile and case.on == "table")
    if case.attributes.get("not_null"):
        return Classification(
            N, note="NOT NULL without a default: fails on a table with rows, and writers must name it"
        )
    return Classification(A)


def _new_index(case: ChangeCase) -> Classification:
    if case.attributes.get("invalid") and " ON ONLY " in (case.attributes.get("definition") or ""):
        return Classification(X, note="the index waits for its partitions: attach an index of each")
    if case.attributes.get("invalid"):
        return Classification(X, note="the index is invalid: a concurrent build failed or is not done")
    if case.attributes.get("unique"):
        return Classification(N, note="writes of equal keys fail from now on")
    return Classification(A)


def _new_policy(case: ChangeCase) -> Classification:
    restrictive = case.attributes.get("permissive") == "restrictive"
    return Classification(
        N if restrictive else W, note="rows are hidden or rejected" if restrictive else "more rows are accessible"
    )


def _new_conversion(case: ChangeCase) -> Classification:
    if case.attributes["default"]:
        return Classification(X, note="clients with this encoding get different bytes")
    return Classification(A)


_POWERS = ("superuser", "create_role", "create_database", "replication", "bypass_row_security")


def _new_role(case: ChangeCase) -> Classification:
    powers = [power.replace("_", " ") for power in _POWERS if case.attributes.get(power)]
    if powers:
        return Classification(W, note="may bypass what protects the data: " + ", ".join(powers))
    return Classification(W, note="may connect") if case.attributes.get("login") else Classification(A)


def _new_cast(case: ChangeCase) -> Classification:
    if case.attributes.get("context") == "explicit":
        return Classification(A)
    return Classification(X, note="expressions may resolve to other functions")


def _type(case: ChangeCase) -> Classification:
    judged = compare_types(case.before or "", case.after or "")
    return judged if case.on == "table" else judged._replace(rewrites=False)


def _default(case: ChangeCase) -> Classification:
    return (
        Classification(D, note="rows that do not name it get NULL")
        if case.after is None
        else Classification(X, note="future rows only")
    )


def _column_identity(case: ChangeCase) -> Classification:
    if case.after is None:
        return Classification(D, note="rows that do not name it get NULL")
    if case.after == "always":
        return Classification(N, note="writers may no longer give a value")
    return Classification(W if case.before else X)


def _unique(case: ChangeCase) -> Classification:
    if case.attributes["constraint"]:
        return Classification(X, note="now the index of a constraint")
    return Classification(N if case.after else D)


# Options of a view that keep rows from being seen or written.
_GUARDS = ("security_barrier", "security_invoker", "check_option")

_OFF = ("f", "fa", "fal", "fals", "false", "of", "off", "n", "no", "0")


def _guards(options: str | None) -> set[str]:
    pairs = (item.partition("=") for item in _items(options))
    return {name for name, _equals, value in pairs if name in _GUARDS and value.lower() not in _OFF}


def _view_options(case: ChangeCase) -> Classification:
    off = _guards(case.before) - _guards(case.after)
    return Classification(D, note="disabled: " + ", ".join(sorted(off))) if off else Classification(X)


def _routine_settings(case: ChangeCase) -> Classification:
    fixed = any(item.startswith("search_path=") for item in _items(case.before))
    fixes = any(item.startswith("search_path=") for item in _items(case.after))
    if case.attributes["security_definer"] and fixed and not fixes:
        return Classification(D, note="a caller's search_path decides what runs with the owner's rights")
    return Classification(X)


def _permissive(case: ChangeCase) -> Classification:
    return Classification(D if case.after == "permissive" else N)


def _bound(better: Callable[[int, int], bool]) -> Callable[[ChangeCase], Classification]:
    def judge(case: ChangeCase) -> Classification:
        return Classification(W if better(int(case.after or 0), int(case.before or 0)) else N)

    return judge


def _enabled(case: ChangeCase) -> Classification:
    if case.after in ("disabled", "replica") and case.before in (None, "always", "replica"):
        return Classification(D, note="disabled in ordinary sessions")
    return Classification(X)


def _persistence(case: ChangeCase) -> Classification:
    return Classification(D if case.after else W, rewrites=True, note="lost at a crash" if case.after else "")


def _storage_place(_case: ChangeCase) -> Classification:
    return Classification(X, rewrites=True)


def _generated(case: ChangeCase) -> Classification:
    return Classification(X if case.after else D, rewrites=bool(case.after))


def _collation(case: ChangeCase) -> Classification:
    return Classification(X, rewrites=case.on == "table")


def _partition_bound(case: ChangeCase) -> Classification:
    return Classification(X if case.after else D)


def _populated(case: ChangeCase) -> Classification:
    return Classification(D if case.after else A)


ADDED, REMOVED, CHANGED, RENAMED = "added", "removed", "changed", "renamed"

# fmt: off
SEVERITY_RULES: tuple[SeverityRule, ...] = (
    SeverityRule("unknown", "*", "*", Severity.UNKNOWN, "unknown",
                 "this release cannot classify it"),
    SeverityRule("*", RENAMED, "*", D, "destructive",
                 "statements with the old name fail"),
    SeverityRule("acl default_acl", CHANGED, "born_with", X, "changing",
                 "the default privileges changed, for example by an extension; the actual ones are the same"),
    SeverityRule("acl default_acl", "*", "*", _privileges, "widening or destructive",
                 "a grant widens; a revoke removes a privilege"),
    # removed objects
    SeverityRule("role_setting", "*", "*", X, "changing",
                 "later sessions get another value"),
    SeverityRule("not_null_constraint domain_not_null_constraint", REMOVED, "whole", W, "widening",
                 "the column's or domain's not_null shows the same"),
    SeverityRule("extension_dependency", REMOVED, "whole", X, "changing",
                 "dropping the extension no longer drops the object"),
    SeverityRule("*", REMOVED, "whole", D, "destructive",
                 "an object or a guarantee is removed"),
    # new objects
    SeverityRule("column", ADDED, "whole", _new_column, "additive, narrowing or changing",
                 "additive when rows and writers need nothing new; NOT NULL without a default narrows; a composite type's rows change shape"),
    SeverityRule("constraint domain_constraint", ADDED, "whole", N, "narrowing",
                 "writes that were valid may fail"),
    SeverityRule("index", ADDED, "whole", _new_index, "additive, narrowing or changing",
                 "a unique index rejects duplicates; an invalid one is unfinished"),
    SeverityRule("trigger rule event_trigger", ADDED, "whole", X, "changing",
                 "existing statements behave differently"),
    SeverityRule("policy", ADDED, "whole", _new_policy, "widening or narrowing",
                 "a permissive policy lets more rows pass, a restrictive one fewer"),
    SeverityRule("cast", ADDED, "whole", _new_cast, "additive or changing",
                 "an implicit or assignment cast affects existing expressions"),
    SeverityRule("conversion", ADDED, "whole", _new_conversion, "additive or changing",
                 "a default conversion changes what clients read and write"),
    SeverityRule("publication publication_table publication_schema role_membership user_mapping", ADDED, "whole", W, "widening",
                 "more is published, or permitted"),
    SeverityRule("role", ADDED, "whole", _new_role, "additive or widening",
                 "a role that may connect, or has a power of its own, is one more way in"),
    SeverityRule("subscription", ADDED, "whole", X, "changing",
                 "rows of another server are replicated into this database"),
    SeverityRule("extension_member", ADDED, "whole", X, "changing",
                 "a dump leaves members out, and they go with their extension"),
    SeverityRule("system_object", ADDED, "whole", X, "changing",
                 "an object that initdb made has another owner"),
    SeverityRule("extension_dependency", ADDED, "whole", X, "changing",
                 "dropping the extension drops the object, without CASCADE"),
    SeverityRule("*", ADDED, "whole", A, "additive",
                 "no existing object changes"),
    # attributes of existing objects
    SeverityRule("*", CHANGED, "comment", C, "cosmetic",
                 "no program behaves differently"),
    SeverityRule("*", CHANGED, "statistics_target statistics_targets clustered", C, "cosmetic",
                 "affects only the planner or maintenance"),
    SeverityRule("column", CHANGED, "options", C, "cosmetic",
                 "overrides of planner statistics"),
    SeverityRule("column domain sequence", CHANGED, "type", _type, "widening, changing or destructive",
                 "widening keeps every value; a narrowed type loses or rejects some"),
    SeverityRule("column domain", CHANGED, "not_null", _switch(off=W, on=D), "widening or destructive",
                 "NULL is accepted from now on, or rejected"),
    SeverityRule("column domain", CHANGED, "default", _default, "changing or destructive",
                 "future rows get another value; without a default, NULL"),
    SeverityRule("column", CHANGED, "generated", _generated, "changing or destructive",
                 "the value is computed by another expression, or no longer"),
    SeverityRule("column", CHANGED, "identity", _column_identity, "changing, widening, narrowing or destructive",
                 "without an identity no value is generated; ALWAYS rejects given values"),
    SeverityRule("column", CHANGED, "collation", _collation, "changing",
                 "order and equality change; indexes are rebuilt"),
    SeverityRule("constraint domain_constraint not_null_constraint", CHANGED, "not_valid", _switch(off=A, on=D), "additive or destructive",
                 "validated: the guarantee covers old rows too; the other way it is lost"),
    SeverityRule("constraint", CHANGED, "disabled_triggers", _switch(off=X, on=D), "changing or destructive",
                 "a foreign key whose triggers are off is not enforced"),
    SeverityRule("index", CHANGED, "invalid", _switch(off=A, on=D), "additive or destructive",
                 "an invalid index is not used and guarantees nothing"),
    SeverityRule("index", CHANGED, "unique", _unique, "changing, narrowing or destructive",
                 "the guarantee is added or removed, or a constraint provides it"),
    SeverityRule("trigger rule event_trigger", CHANGED, "enabled", _enabled, "changing or destructive",
                 "disabled has the same effect as dropped"),
    SeverityRule("subscription", CHANGED, "enabled", _switch(off=D, on=X), "changing or destructive",
                 "disabled has the same effect as dropped"),
    SeverityRule("table", CHANGED, "row_security force_row_security", _switch(off=D, on=N), "narrowing or destructive",
                 "row security protects rows, or no longer does"),
    SeverityRule("policy", CHANGED, "permissive", _permissive, "narrowing or destructive",
                 "a restriction is added or removed"),
    SeverityRule("view", CHANGED, "options", _view_options, "changing or destructive",
                 "a view loses its protection"),
    SeverityRule("function procedure", CHANGED, "settings", _routine_settings, "changing or destructive",
                 "a fixed search_path guards a function that runs with its owner's rights"),
    SeverityRule("table foreign_table index", CHANGED, "parents", _parents, "changing or destructive",
                 "a detached partition's rows leave the parent"),
    SeverityRule("table foreign_table", CHANGED, "detach_pending", D, "destructive",
                 "a detached partition's rows leave the parent"),
    SeverityRule("table foreign_table", CHANGED, "partition_bound", _partition_bound, "changing or destructive",
                 "detached, or other rows belong here"),
    SeverityRule("table materialized_view sequence", CHANGED, "persistence", _persistence, "widening or destructive",
                 "unlogged data is lost at a crash"),
    SeverityRule("table materialized_view index", CHANGED, "access_method tablespace", _storage_place, "changing",
                 "the files are rewritten"),
    SeverityRule("materialized_view", CHANGED, "populated", _populated, "additive or destructive",
                 "an unpopulated view cannot be read"),
    SeverityRule("sequence", CHANGED, "maximum", _bound(lambda after, before: after >= before), "widening or narrowing",
                 "more or fewer values"),
    SeverityRule("sequence", CHANGED, "minimum", _bound(lambda after, before: after <= before), "widening or narrowing",
                 "more or fewer values"),
    SeverityRule("enum", CHANGED, "labels", _labels, "widening, changing or destructive",
                 "a new label widens; a removed label invalidates the rows that have it"),
    SeverityRule("base_type", CHANGED, "shell", _switch(off=A, on=D), "additive or destructive",
                 "a shell type gets its definition"),
    SeverityRule("publication", CHANGED, "all_tables insert update delete truncate", _switch(off=D, on=W), "widening or destructive",
                 "subscribers receive more, or less"),
    SeverityRule("role", CHANGED, "superuser inherit create_role create_database login replication bypass_row_security",
                 _switch(off=D, on=W), "widening or destructive",
                 "the role may do more, or less"),
    SeverityRule("role_membership", CHANGED, "*", _switch(off=D, on=W), "widening or destructive",
                 "the member may do more, or less"),
    SeverityRule("*", CHANGED, "*", X, "changing",
                 "whatever uses the object may behave differently"),
)

# fmt: on


def classify_change(case: ChangeCase) -> Classification:
    """Return the result of the first rule that fits. Every change is covered: the last rules fit anything."""
    return next(rule.judgement(case) for rule in SEVERITY_RULES if rule.fits(case))
