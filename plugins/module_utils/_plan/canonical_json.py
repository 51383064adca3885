# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON with one spelling, so that equal values are equal bytes."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json


def canonical_json(value: Any) -> bytes:
    """Return the one UTF-8 form of ``value``: keys sorted, no spaces, a newline at the end. Floats are an error."""
    _refuse_floats(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError("a plan contains no floating-point numbers: their text is not unique")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_floats(item)


def freeze(document: Mapping[str, Any]) -> Dict[str, Any]:
    """Return ``document`` with ``content_sha256``, the SHA-256 of its canonical JSON without that key.

    It detects a change to a document after it was frozen; it proves nothing, signatures do.
    """
    bare = {key: value for key, value in document.items() if key != "content_sha256"}
    return {**bare, "content_sha256": sha256_bytes(canonical_json(bare))}


def thawed(data: bytes) -> Tuple[Dict[str, Any], str]:
    """Return the frozen document whose canonical JSON is ``data``, and what is wrong with it, empty when nothing is."""
    try:
        document = parse_json(data)
        frozen = freeze(document) if isinstance(document, dict) else {}
        canonical = canonical_json(document)
    except (ValueError, TypeError) as error:
        return {}, f"not JSON in UTF-8 ({error})"
    if not isinstance(document, dict):
        return {}, "not a JSON object"
    found, expected = frozen["content_sha256"], document.get("content_sha256")
    if found != expected:
        return document, f"its content has SHA-256 {found}, but it was frozen with {expected or 'none'}"
    return document, "" if canonical == data else "its bytes differ from the canonical form of its content"
