# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An entry of a journal as a record, without what any kind of entry means; see ``events``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Type, TypeVar

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import State

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Record:
    """What one entry of a journal says."""

    def to_entry(self) -> dict[str, Any]:
        """Return the entry's data; a field that is None is left out."""
        values = ((one.name, getattr(self, one.name)) for one in fields(self))
        return {name: value.value if isinstance(value, State) else value for name, value in values if value is not None}

    @classmethod
    def from_entry(cls: Type[R], entry: Entry) -> R:
        """Return the record of an entry. Raises ``PhaseGateError`` for one with other keys, or values of other types."""
        wrong = [
            f"{one.name} of another type"
            for one in fields(cls)
            if one.name in entry.data and not _fits(entry.data[one.name], str(one.type))
        ]
        try:
            if not wrong:
                return cls(**entry.data)
        except TypeError:
            wrong = list(entry.data)
        raise PhaseGateError(
            f"The journal's line {entry.seq} ({entry.step} {entry.event}) is not of this release's form.",
            expected=f"no keys but {', '.join(one.name for one in fields(cls)) or 'none'}, each of its type",
            found=", ".join(wrong),
            next_step="use the release of the collection that wrote this run directory",
        )


@dataclass(frozen=True)
class Note(Record):
    """An event in the middle of a command."""

    event: ClassVar[str] = ""


# What JSON has for a field's annotation, by the annotation's first word; then that of the members, where they are of one type.
_FORMS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "Mapping": (dict,),
    "Sequence": (list, tuple),
    "Rows": (list, tuple),
}
_MEMBERS: dict[str, type] = {"Sequence[str]": str, "Mapping[str, str]": str, "Rows": dict}


def _fits(value: Any, annotation: str) -> bool:
    """Return whether a value is of the type that a field is annotated with; None never is in an entry."""
    form = annotation.partition(" |")[0]
    expected = _FORMS.get(form.partition("[")[0])
    if expected is None:
        return True
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        return False
    member = _MEMBERS.get(form)
    members: Any = value.values() if isinstance(value, dict) else value
    return member is None or all(isinstance(one, member) for one in members)
