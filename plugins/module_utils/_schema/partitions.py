# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Partitions that a job adds and drops while a phase waits for its execution, as the phase declares it (``drift``). Pure.

A partition that came is as declared when PostgreSQL derives all of it from its parent, or another partition of the declared
table has the same: nothing of its own. Of one that went, nothing is left.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import split_relation
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Change, Diff, display
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import Fact, decode_fact, object_key
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.severity import ADDED
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

#: Schema and name.
Relation = Tuple[str, str]

_Key = Tuple[Optional[str], ...]
_Cells = Dict[_Key, Dict[str, Set[Optional[str]]]]

_TABLES = ('["table",', '["foreign_table",')

# Their names are chosen by the server, or say nothing.
_NAMED_BY_SERVER = ("index", "constraint", "not_null_constraint")

# What a partition has of its own by its nature.
_OWN = ("parents", "partition_bound", "partition_key")

# What a partition may have as its parent has it, or not at all: CREATE TABLE … PARTITION OF does not copy it.
_OPTIONAL = (
    "comment",
    "security_labels",
    "statistics_target",
    "statistics_targets",
    "options",
    "identity",
    "tablespace",
)

# Of a table, what a new partition has as its parent has it; the rest is not set.
_OF_TABLE = ("owner", "persistence", "of_type", "access_method", "tablespace")

_ROW_METHOD = "heap"


class _Place(NamedTuple):
    parent: Relation
    root: Relation


@dataclass(frozen=True)
class PartitionDrift:
    """What two moments have when declared drift is left out of both.

    ``came`` and ``went`` are the names of the partitions that are left out; ``unexpected`` says what others that came have of their
    own. Those stay in ``after``.
    """

    before: Snapshot
    after: Snapshot
    came: Tuple[str, ...] = ()
    went: Tuple[str, ...] = ()
    unexpected: Tuple[str, ...] = ()

    def text(self) -> str:
        """Return which partitions came and went, '' when none did."""
        parts = [("came", self.came), ("went", self.went)]
        return "; ".join(f"partitions that {what}, as declared: {', '.join(names)}" for what, names in parts if names)


def declared_parents(phase: Mapping[str, Any]) -> List[Relation]:
    """Return the partitioned tables whose partitions a phase declares to come and go."""
    names = phase.get("drift", {}).get("partitions_of", ())
    return [relation for name in names if (relation := split_relation(name))]


def rehearsed_partitions(snapshot: Snapshot, phase: Mapping[str, Any]) -> Optional[List[List[str]]]:
    """Return schema and name of every partition that a phase declares to come and go, sorted; None when it declares none.

    Raises ``PhaseGateError`` for a table that is not partitioned.
    """
    parents = declared_parents(phase)
    for schema, name in parents:
        facts = [decode_fact(line) for line in _lines(snapshot, (schema, name))]
        if not any(fact.kind == "table" and fact.attributes["partition_key"] for fact in facts):
            raise PhaseGateError(
                "drift.partitions_of names what is not a partitioned table.",
                expected="a partitioned table of the target",
                found=f"{schema}.{name}, {'a relation without partitions' if facts else 'which does not exist'}",
                next_step="correct drift.partitions_of in phase.yml",
            )
    return [list(one) for one in sorted(_tree(snapshot, parents))] if parents else None


def require_comparable(
    phase: Mapping[str, Any], partitions: Iterable[Sequence[str]], changes: Sequence[Mapping[str, Any]]
) -> None:
    """Raise ``PhaseGateError`` where a check counts lines of a dump whose number depends on how many partitions there are.

    ``changes`` are those of the rehearsal, and ``partitions`` what ``rehearsed_partitions`` returned for its source.
    """
    known = {(schema, name) for schema, name in partitions}
    touched = sorted(
        {one["name"] for one in changes if _relation(one["kind"], one["identity"]) in known and _has_line(one)}
    )
    for check in phase["verify"] if touched else ():
        if check.get("builtin") == "schema_diff":
            raise PhaseGateError(
                f"The check {check['id']} (schema_diff) counts lines of every partition, and drift.partitions_of lets their number change.",
                expected="a number of lines that does not depend on the partitions",
                found=f"changes of partitions: {', '.join(touched)}",
                next_step="remove the check from phase.yml; the structural diff compares the partitions, and more",
            )


def _has_line(change: Mapping[str, Any]) -> bool:
    """Return whether a change can be a line of its own in a dump: a new column without a default is a part of CREATE TABLE."""
    new = change["kind"] == "column" and change["action"] == ADDED
    return not new or "default=" in str(change["after"])


class ExpectedPartitions(NamedTuple):
    """The tables whose partitions may come and go, and the partitions that the phase itself makes or drops: those are no drift."""

    parents: Sequence[Relation] = ()
    own: FrozenSet[Relation] = frozenset()


#: No partition may come or go.
NOT_EXPECTED = ExpectedPartitions()


def expected_partitions(
    phase: Mapping[str, Any], changes: Optional[Sequence[Mapping[str, Any]]] = ()
) -> ExpectedPartitions:
    """Return what a phase declares; ``changes`` are those that it made itself, None when they are not known: then nothing is expected."""
    if changes is None:
        return NOT_EXPECTED
    own = {_relation(one["kind"], one["identity"]) for one in changes if one["attribute"] is None and _is_table(one)}
    return ExpectedPartitions(declared_parents(phase), frozenset(own))


def _is_table(change: Mapping[str, Any]) -> bool:
    return change["kind"] in ("table", "foreign_table")


def without_expected(before: Snapshot, after: Snapshot, expected: ExpectedPartitions) -> PartitionDrift:
    """Return both moments without the partitions that came and went in between as expected."""
    parents, own = expected
    if not parents:
        return PartitionDrift(before, after)
    before, after = comparable(before, after, parents)
    was, now = _tree(before, parents), _tree(after, parents)
    # one that was attached or detached is a table at both moments
    came = [one for one in now if one not in was and one not in own and not _lines(before, one)]
    went = [one for one in was if one not in now and one not in own and not _lines(after, one)]
    unexpected: List[str] = []
    accepted = []
    for one in sorted(came):
        siblings = [other for other, place in now.items() if other in was and place.root == now[one].root]
        found = _own_things(after, one, now[one].parent, siblings)
        unexpected += found
        accepted += [] if found else [one]
    return PartitionDrift(
        _without(before, went),
        _without(after, accepted),
        tuple(".".join(one) for one in accepted),
        tuple(".".join(one) for one in sorted(went)),
        tuple(unexpected),
    )


def partition_parents(snapshot: Snapshot) -> Dict[Relation, Relation]:
    """Return every partition of a snapshot, with its parent."""
    facts = (decode_fact(line) for line in snapshot.facts if line.startswith(_TABLES))
    return {
        (fact.identity[0], fact.identity[1]): parent
        for fact in facts
        if fact.attributes["partition_bound"]
        for parent in _parents(fact)
    }


def _tree(snapshot: Snapshot, parents: Sequence[Relation]) -> Dict[Relation, _Place]:
    """Return the partitions of these tables, theirs included, each with its parent and the table that was asked for."""
    children: Dict[Relation, List[Relation]] = {}
    for child, parent in partition_parents(snapshot).items():
        children.setdefault(parent, []).append(child)
    found: Dict[Relation, _Place] = {}
    for root in parents:
        below = [root]
        for parent in below:
            for child in children.get(parent, ()):
                if child not in found:
                    found[child] = _Place(parent, root)
                    below.append(child)
    return found


def _parents(fact: Fact) -> List[Relation]:
    names = json.loads(fact.attributes["parents"] or "[]")
    return [relation for name in names if (relation := split_relation(name))]


def _lines(snapshot: Snapshot, relation: Relation) -> Sequence[str]:
    return snapshot.members().get((relation[0], "relation", *relation), ())


def _without(snapshot: Snapshot, relations: Iterable[Relation]) -> Snapshot:
    left = {line for one in relations for line in _lines(snapshot, one)}
    return _less(snapshot, left) if left else snapshot


def _less(snapshot: Snapshot, left: Set[str]) -> Snapshot:
    return Snapshot(
        snapshot.header,
        {line: locator for line, locator in snapshot.facts.items() if line not in left},
        snapshot.watched,
    )


def comparable(before: Snapshot, after: Snapshot, parents: Sequence[Relation]) -> Tuple[Snapshot, Snapshot]:
    """Return both moments without the foreign keys that follow from a key that refers to one of these tables, one for each partition.

    The server numbers their names by the partitions that there are. One with a trigger switched off is kept.
    """
    if not parents:
        return before, after
    # a phase may rename the table
    known = _tree(before, parents)
    facts = (decode_fact(line) for one in known for line in _lines(after, one))
    renamed = {parent for fact in facts if fact.kind in ("table", "foreign_table") for parent in _parents(fact)}
    return _without_derived_keys(before, parents), _without_derived_keys(after, sorted({*parents, *renamed}))


def _without_derived_keys(snapshot: Snapshot, parents: Sequence[Relation]) -> Snapshot:
    keys = [line for line in snapshot.facts if line.startswith('["constraint",') and " REFERENCES " in line]
    facts = {line: fact for line in keys if (fact := decode_fact(line)).attributes["type"] == "foreign key"}
    if not facts:
        return snapshot
    known = [(fact.identity[:2], str(fact.attributes["definition"])) for fact in facts.values()]
    left = set()
    for one, place in _tree(snapshot, parents).items():
        named, of_parent = _naming(one), _naming(place.parent)
        above = {(relation, of_parent(text)) for relation, text in known}
        for line, fact in facts.items():
            text = str(fact.attributes["definition"])
            derived = fact.attributes["inherited"] == "yes" and not fact.attributes["disabled_triggers"]
            if derived and named(text) != text and (fact.identity[:2], named(text)) in above:
                left.add(line)
    return _less(snapshot, left) if left else snapshot


def _naming(relation: Relation) -> Callable[[str], str]:
    """Return what replaces the qualified name of a relation in a text by one word."""
    schema, name = (_spelled(part) for part in relation)
    pattern = re.compile(rf'(?<![\w"$.]){schema}\.{name}(?![\w"$])')
    return lambda text: pattern.sub("<table>", text)


def _spelled(name: str) -> str:
    quoted = name.replace('"', '""')
    return rf'(?:{re.escape(name)}|"{re.escape(quoted)}")'


def _own_things(snapshot: Snapshot, partition: Relation, parent: Relation, siblings: Sequence[Relation]) -> List[str]:
    """Return in words what a partition has that neither follows from its parent nor is on one of its siblings."""
    allowed = _derived(snapshot, parent)
    for sibling in siblings:
        for line in _lines(snapshot, sibling):
            key, attributes = _cells(decode_fact(line), sibling)
            for name, value in attributes.items():
                allowed.setdefault(key, {}).setdefault(name, set()).add(value)
    found = []
    for line in sorted(_lines(snapshot, partition)):
        fact = decode_fact(line)
        key, attributes = _cells(fact, partition)
        what = f"{fact.kind.replace('_', ' ')} {display(fact.kind, fact.identity)}"
        if key not in allowed:
            found.append(f"{what}: neither from {'.'.join(parent)} nor on another partition")
            continue
        for name, value in attributes.items():
            values = allowed[key].get(name, {None})
            if value not in values:
                wanted = " or ".join(sorted(_shown(one) for one in values))
                found.append(f"{what}: {name.replace('_', ' ')} {_shown(value)}, expected {wanted}")
    return found


def _shown(value: Optional[str]) -> str:
    return "none" if value is None else value


def _cells(fact: Fact, relation: Relation) -> Tuple[_Key, Dict[str, Optional[str]]]:
    """Return what tells a fact of a relation from the others of it, and its attributes, without the names of this relation."""
    named = _naming(relation)
    own = fact.identity[-1] if fact.kind == "index" else ""
    attributes = {name: value and _unnamed(named(value), own) for name, value in fact.attributes.items()}
    for name in _OWN:
        attributes.pop(name, None)
    if fact.kind in ("table", "foreign_table"):
        return (fact.kind,), attributes
    if fact.kind == "acl":
        return (fact.kind, *fact.identity[3:]), attributes
    if fact.kind == "index":
        attributes["constraint"] = "yes" if attributes["constraint"] else None
        above = _parents(fact)
        return (fact.kind, *(above[0] if above else ("", attributes["definition"]))), attributes
    if fact.kind == "constraint" and fact.attributes["type"] != "check":
        return (fact.kind, attributes["type"], attributes["definition"]), attributes
    if fact.kind == "not_null_constraint":
        return (fact.kind, attributes["column"]), attributes
    return (fact.kind, *fact.identity[2:]), attributes


def _unnamed(text: str, name: str) -> str:
    """Return a text without the name of an index or constraint, and without ONLY."""
    if name:
        text = re.sub(rf'(?<![\w"$]){_spelled(name)}(?![\w"$])', "<name>", text)
    return text.replace(" ON ONLY <table>", " ON <table>")


def _derived(snapshot: Snapshot, parent: Relation) -> _Cells:
    """Return what PostgreSQL gives a new partition of a table: by key, the possible values of each attribute."""
    derived: _Cells = {}
    for line in _lines(snapshot, parent):
        fact = decode_fact(line)
        key, attributes = _cells(fact, parent)
        values: Dict[str, Set[Optional[str]]] = {
            name: {value, None} if name in _OPTIONAL else {value} for name, value in attributes.items()
        }
        if fact.kind == "table":
            values = {name: values[name] if name in _OF_TABLE else {None} for name in values}
            values["access_method"] |= {_ROW_METHOD}
        elif fact.kind == "index":
            key = (fact.kind, fact.identity[0], fact.identity[2])
            values.update(invalid={None}, replica_identity={None}, clustered={None})
        elif fact.kind in ("rule", "policy"):
            continue
        if "inherited" in values:
            values["inherited"] = {"yes"}
        if "disabled_triggers" in values:
            values["disabled_triggers"] |= {None}
        derived[key] = values
    return derived


def settle_changes(
    diff: Diff, declared: Sequence[Mapping[str, Any]], parents: Sequence[Relation], rehearsed: Iterable[Relation]
) -> Tuple[Tuple[Change, ...], List[Mapping[str, Any]], Tuple[str, ...]]:
    """Return the changes to compare with the rehearsed ones, those of them to expect, and what is missing, in words.

    A partition that ``rehearsed`` lacks needs the changes of one that both databases have, under its own names; then they are left
    out. Of one that is no longer there, no change is expected.
    """
    if not parents:
        return diff.changes, list(declared), ()
    now, known = _tree(diff.before, parents), set(rehearsed)
    gone = {one for one in known if one not in now}
    of: Dict[Relation, List[Change]] = {one: [] for one in now}
    for change in diff.changes:
        of.get(_relation(change.kind, change.identity), []).append(change)
    patterns = {one: _pattern(diff, one, changes) for one, changes in of.items()}
    as_rehearsed, missing = set(), []
    for one in sorted(set(now) - known):
        siblings = sorted(other for other in now if other in known and now[other].root == now[one].root)
        if patterns[one] in ([patterns[other] for other in siblings] or [[]]):
            as_rehearsed.add(one)
        elif not patterns[one]:
            missing.append(f"the changes of {'.'.join(siblings[0])} on {'.'.join(one)}, which came since the rehearsal")
    return (
        tuple(change for change in diff.changes if _relation(change.kind, change.identity) not in as_rehearsed),
        [change for change in declared if _relation(change["kind"], change["identity"]) not in gone],
        tuple(missing),
    )


def _relation(kind: str, identity: Sequence[str]) -> Relation:
    """Return the relation that a fact is a part of; empty names for other facts."""
    namespace, *names = object_key(kind, identity)
    return (names[0], names[1]) if namespace == "relation" else ("", "")


def _pattern(diff: Diff, partition: Relation, changes: Sequence[Change]) -> List[str]:
    """Return the changes of a partition without what tells it from others, in an order that does not depend on names."""
    named = _naming(partition)
    facts = [decode_fact(line) for line in _lines(diff.before, partition)]
    bounds = [bound for fact in facts if (bound := fact.attributes.get("partition_bound"))]

    def words(text: Optional[str], name: str) -> Optional[str]:
        for bound in bounds if text else ():
            text = str(text).replace(bound, "<bound>")
        return text and _unnamed(named(text), name)

    found = []
    for change in changes:
        by_server = change.kind in _NAMED_BY_SERVER
        own = change.identity[-1] if by_server else ""
        rest = [] if by_server or change.kind.endswith("table") else list(change.identity)[2:]
        if change.kind == "acl":
            rest = list(change.identity)[3:]
        parts = sorted(_part(text) for text in change.parts)
        index = _index_of(diff, partition, own) if change.action == ADDED and change.content else None
        cells = [
            change.kind,
            rest,
            change.attribute,
            change.action,
            words(change.before, own),
            words(change.after, own),
        ]
        found.append(json.dumps([*cells, parts, index], ensure_ascii=False))
    return sorted(found)


def _part(text: str) -> str:
    kind = next((kind for kind in _NAMED_BY_SERVER if text.startswith(f"{kind.replace('_', ' ')} ")), "")
    return kind or text


def _index_of(diff: Diff, partition: Relation, constraint: str) -> Any:
    """Return the index of a new constraint, without names."""
    for line in _lines(diff.after, partition):
        fact = decode_fact(line)
        if fact.kind == "index" and fact.attributes["constraint"] == constraint:
            key, attributes = _cells(fact, partition)
            return [list(key), attributes]
    return None
