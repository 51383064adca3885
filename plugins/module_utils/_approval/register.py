# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may approve changes to a cluster: its *anchor*, a directory on the target host that no Ansible variable can move.

Standard library only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, Optional, Sequence, Set, Tuple, Union

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.host_records import (
    APPROVALS_REQUIRED,
    REVIEWERS,
    SYSTEM,
    USER,
    read_records,
    read_trusted,
    record_name,
    record_places,
    trusted_directory,
    user_home,
    write_record,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json
from ansible_collections.incomex.phasegate.plugins.module_utils._gates.gates import (
    Gate,
    missing_register_gate,
    no_reviewers_gate,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import (
    ALLOWED_SIGNERS,
    Signer,
    faulty_register,
    fold,
    parse_allowed_signers,
)

SYSTEM_ANCHORS = f"{SYSTEM}/{REVIEWERS}"

USER_ANCHORS = f"{USER}/{REVIEWERS}"

REVOKED_KEYS = "revoked_keys"

POLICY = "policy.json"

# Who may sign the seal of a rehearsal: the format is that of the list of reviewers.
SEAL_SIGNERS = "seal_signers"


@dataclass(frozen=True)
class Anchor:
    """Who may approve changes to one cluster, as read once from the files of ``path``.

    ``allowed_signers`` and ``revoked_keys`` are the files' bytes, ``signers`` the first one's lines. ``rollback`` is
    the requirement for a rollback: ``approval`` or ``confirmation``. ``seal_signers`` are the bytes of the list of keys of which
    one has to have signed the seal of a rehearsal, None when its seal needs no signature. ``policy`` are the bytes of policy.json.
    """

    path: str
    allowed_signers: bytes
    signers: Tuple[Signer, ...]
    revoked_keys: Optional[bytes] = None
    seal_signers: Optional[bytes] = None
    threshold: int = 2
    author_may_approve: bool = False
    rollback: str = "approval"
    policy: Optional[bytes] = None

    def files(self) -> Dict[str, bytes]:
        """Return the files of the register as they were read, by name."""
        files = {
            ALLOWED_SIGNERS: self.allowed_signers,
            REVOKED_KEYS: self.revoked_keys,
            SEAL_SIGNERS: self.seal_signers,
            POLICY: self.policy,
        }
        return {name: data for name, data in files.items() if data is not None}

    def names_of(self, key: bytes) -> FrozenSet[str]:
        """Return every name of the person whose key this is: keys and names that share a line are one person's."""
        names: Set[str] = set()
        keys = {key}
        found = True
        while found:
            lines = [one for one in self.signers if one.key in keys or names & {fold(p) for p in one.principals}]
            more = {fold(principal) for one in lines for principal in one.principals}
            found = not more <= names or not {one.key for one in lines} <= keys
            names |= more
            keys |= {one.key for one in lines}
        return frozenset(names)


def anchor_path(system_identifier: str) -> str:
    """Return where the reviewers of a cluster are registered on its host. Raises ``PhaseGateError``."""
    return os.path.join(SYSTEM_ANCHORS, record_name(system_identifier))


def find_anchor(system_identifier: str) -> Optional[Anchor]:
    """Return who may approve changes to the cluster, or None when this host has no register for it.

    ``/etc/phasegate/reviewers/<system identifier>`` decides; only when it does not exist, and never did as far as this host
    remembers, the same below the home directory that the user database gives for the effective user. Raises
    ``PhaseGateError`` for files that others could have written, and for invalid ones.
    """
    anchor_path(system_identifier)
    if any(place.startswith(f"{SYSTEM}/") for place in remembered(system_identifier).values()):
        return _first_anchor(system_identifier, [("/", SYSTEM_ANCHORS[1:])])
    return _first_anchor(system_identifier, [("/", SYSTEM_ANCHORS[1:]), (user_home(), USER_ANCHORS)])


def remembered(system_identifier: str) -> Dict[str, str]:
    """Return the registers of a cluster that this host has ever seen, by the path of the record that says so.

    Raises ``PhaseGateError`` for a record that cannot be trusted.
    """
    records = read_records(APPROVALS_REQUIRED, system_identifier)
    return {path: data.decode("utf-8", "replace").strip() for path, data in records}


def remember(anchor: Anchor, system_identifier: str) -> None:
    """Record that a register of the cluster was seen, so that approvals stay required when it is removed.

    The record is beside the register: below ``/etc/phasegate`` when this user may write there, else below the home
    directory. Where neither can be written nothing is remembered; the inventory can require approvals.
    """
    if anchor.path in remembered(system_identifier).values():
        return
    places = record_places(APPROVALS_REQUIRED, system_identifier)
    for place in places if anchor.path.startswith(f"{SYSTEM}/") else places[1:]:
        try:
            write_record(place, f"{anchor.path}\n".encode())
        except OSError:
            continue
        return


def registered(system_identifier: str, *, required: bool, keep: bool = True) -> Union[Anchor, Gate]:
    """Return who may approve changes to the cluster; without a register G-1, which fails where approvals are required.

    ``required``: by the inventory, or as the ledger remembers. A register that was ever seen on this host requires them, too; ``keep``: remember this one.
    """
    anchor = find_anchor(system_identifier)
    if anchor is not None:
        if keep:
            remember(anchor, system_identifier)
        return anchor
    known = remembered(system_identifier)
    reasons = [f"{path} records that {register} was there" for path, register in known.items()]
    reasons += (
        [
            "phasegate_require of the inventory requires approvals, or the ledger of the database records that they were required"
        ]
        if required
        else []
    )
    place = anchor_path(system_identifier)
    return missing_register_gate(place, reasons, list(known)) if reasons else no_reviewers_gate(place)


def _first_anchor(system_identifier: str, places: Sequence[Tuple[str, str]]) -> Optional[Anchor]:
    anchors = (_anchor_below(base, [*below.split("/"), system_identifier]) for base, below in places)
    return next((anchor for anchor in anchors if anchor is not None), None)


def _anchor_below(base: str, parts: Sequence[str]) -> Optional[Anchor]:
    try:
        with trusted_directory(base, parts) as descriptor:
            return _read(os.path.join(base, *parts), descriptor)
    except FileNotFoundError:
        return None


def read_anchor(path: str) -> Anchor:
    """Return the anchor in the directory ``path``, for an explicitly given one. Raises ``PhaseGateError``."""
    base, name = os.path.split(os.path.abspath(path))
    try:
        with trusted_directory(base, [name], base_too=False) as descriptor:
            return _read(os.path.join(base, name), descriptor)
    except FileNotFoundError:
        raise PhaseGateError(
            "No reviewers are registered in this directory.",
            expected=f"a directory with {ALLOWED_SIGNERS}",
            found=f"{path} does not exist",
            next_step="register reviewers there, or give the right directory",
        ) from None


def _read(path: str, directory: int) -> Anchor:
    signers, revoked, policy, sealers = (
        read_trusted(directory, name, os.path.join(path, name))
        for name in (ALLOWED_SIGNERS, REVOKED_KEYS, POLICY, SEAL_SIGNERS)
    )
    if signers is None:
        raise PhaseGateError(
            "No reviewers are registered for this cluster, although their directory exists.",
            expected=f"a file {ALLOWED_SIGNERS}",
            found=f"none in {path}",
            next_step=f"write {os.path.join(path, ALLOWED_SIGNERS)}: one line for each reviewer, name and public key",
        )
    lines = parse_allowed_signers(signers, os.path.join(path, ALLOWED_SIGNERS))
    if sealers is not None:
        # a list that cannot be read must stop here, not let everything through
        parse_allowed_signers(sealers, os.path.join(path, SEAL_SIGNERS))
    return Anchor(path, signers, lines, revoked, sealers, policy=policy, **_policy(policy, os.path.join(path, POLICY)))


def _policy(data: Optional[bytes], path: str) -> Dict[str, Any]:
    """Return the checked content of policy.json; nothing when there is none."""
    if data is None:
        return {}
    try:
        policy = parse_json(data)
    except ValueError as error:
        raise faulty_register(path, "JSON", str(error)) from None
    if not isinstance(policy, dict):
        raise faulty_register(path, "a mapping", type(policy).__name__)
    rules: Dict[str, Tuple[str, Callable[[Any], bool]]] = {
        "threshold": ("a whole number of at least 1", lambda v: type(v) is int and v >= 1),
        "author_may_approve": ("true or false", lambda v: isinstance(v, bool)),
        "rollback": ("approval or confirmation", lambda v: v in ("approval", "confirmation")),
    }
    for key, value in policy.items():
        if key not in rules:
            raise faulty_register(path, "only the keys " + ", ".join(rules), repr(key))
        if not rules[key][1](value):
            raise faulty_register(path, f"{key}: {rules[key][0]}", json.dumps(value))
    return policy
