# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Relation names as phase.yml writes them."""

from __future__ import annotations

import re
from typing import Optional, Tuple

_BARE = r"[a-z_\u0080-\uffff][a-z0-9_$\u0080-\uffff]*"

_PART = rf'(?:({_BARE})|"((?:[^"]|"")+)")'

_QUALIFIED = re.compile(rf"{_PART}\.{_PART}")


def split_relation(text: str) -> Optional[Tuple[str, str]]:
    """Split ``schema.relation``, written as in SQL, into the two names; ``None`` if it is invalid."""
    match = _QUALIFIED.fullmatch(text)
    if not match:
        return None
    schema, quoted_schema, name, quoted_name = match.groups()
    return schema or quoted_schema.replace('""', '"'), name or quoted_name.replace('""', '"')


def quoted_name(schema: str, name: str) -> str:
    """Return ``schema.name`` as SQL text, quoted only where it must be."""
    parts = [part for part in (schema, name) if part]
    return ".".join(p if re.fullmatch(_BARE, p) else '"' + p.replace('"', '""') + '"' for p in parts)
