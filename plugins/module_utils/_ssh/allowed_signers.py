# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parse the allowed_signers format of ssh-keygen(1)."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.names import canonical_name
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature import decoded, string

ALLOWED_SIGNERS = "allowed_signers"


@dataclass(frozen=True)
class Signer:
    """One line of ``allowed_signers``: names of one person and one key, and what limits them.

    ``key`` is the public key's blob; times are UTC, None where there is no limit; ``namespaces`` are patterns, none
    means any.
    """

    principals: Tuple[str, ...]
    key: bytes
    namespaces: Tuple[str, ...] = ()
    valid_after: Optional[datetime.datetime] = None
    valid_before: Optional[datetime.datetime] = None


def fold(name: str) -> str:
    """Return the form of a name in which two spellings of it are equal."""
    return canonical_name(name)


def faulty_register(path: str, expected: str, found: str) -> PhaseGateError:
    """Return the error for a file of the register that cannot be used."""
    return PhaseGateError(
        f"Invalid register of reviewers: {path}", expected=expected, found=found, next_step="correct the file"
    )


_LINE = re.compile(
    r'(?P<principals>\S+)\s+(?:(?P<options>(?:[^\s"]|"[^"]*")+)\s+)?'
    r"(?P<type>(?:ssh|ecdsa|sk)-\S+)\s+(?P<key>[A-Za-z0-9+/]+=*)(?:\s.*)?"
)

_OPTION = re.compile(r'(?P<name>[A-Za-z-]+)(?:="(?P<value>[^"]*)")?(?:,|\Z)')

PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")

_TIME = re.compile(r"[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?Z?")


def parse_allowed_signers(data: bytes, path: str = ALLOWED_SIGNERS) -> Tuple[Signer, ...]:
    """Return the lines of an ``allowed_signers`` file (ssh-keygen(1)) that this collection accepts.

    Stricter than OpenSSH, which skips lines that it cannot read: a line is an error here unless it has plain names, one
    key, and no other options than ``namespaces``, ``valid-after`` and ``valid-before``. A name pattern or a certificate
    authority would match any number of people. Times without ``Z`` are UTC. Raises ``PhaseGateError``.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise faulty_register(path, "UTF-8", str(error)) from None
    signers = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            signers.append(_signer(line.strip(), f"{path}, line {number}"))
    if not signers:
        raise faulty_register(path, "one line for each reviewer: name and public key", "no reviewer")
    return tuple(signers)


def _signer(line: str, place: str) -> Signer:
    match = _LINE.fullmatch(line)
    key = decoded(match["key"]) if match else b""
    if match is None or not key.startswith(string(match["type"].encode("ascii", "replace"))):
        raise faulty_register(place, "name [options] key-type public-key", line[:80])
    principals = tuple(match["principals"].split(","))
    for principal in principals:
        if not PRINCIPAL.fullmatch(principal):
            raise faulty_register(place, "plain names (letters, digits, . _ @ + -), no pattern", principal)
    options = _options(match["options"] or "", place)
    return Signer(
        principals,
        key,
        tuple(filter(None, options.get("namespaces", "").split(","))),
        _time(options.get("valid-after"), place),
        _time(options.get("valid-before"), place),
    )


def _options(text: str, place: str) -> Dict[str, str]:
    options: Dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        name = match["name"].lower() if match else ""
        if match is None or match["value"] is None or name not in ("namespaces", "valid-after", "valid-before"):
            raise faulty_register(place, 'options: namespaces="…", valid-after="…", valid-before="…"', text[position:])
        options[name] = match["value"]
        position = match.end()
    return options


def _time(text: Optional[str], place: str) -> Optional[datetime.datetime]:
    if text is None:
        return None
    digits = text.rstrip("Z").ljust(14, "0") if _TIME.fullmatch(text) else ""
    try:
        return datetime.datetime.strptime(f"{digits} +0000", "%Y%m%d%H%M%S %z")
    except ValueError:
        raise faulty_register(place, "a time as YYYYMMDD[HHMM[SS]][Z]", text) from None
