# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An entry of a journal as a record, without what any kind of entry means; see ``events``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Type, TypeVar

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
        """Return the record of an entry. Raises ``PhaseGateError`` for one with other keys."""
        try:
            return cls(**entry.data)
        except TypeError as error:
            raise PhaseGateError(
                f"The journal's line {entry.seq} ({entry.step} {entry.event}) is not of this release's form.",
                expected=f"no keys but {', '.join(one.name for one in fields(cls)) or 'none'}",
                found=", ".join(entry.data) or str(error),
                next_step="use the release of the collection that wrote this run directory",
            ) from None
