# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may approve changes to a cluster: its *anchor*, a directory on the target host that no Ansible variable can move.

Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import stat
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, Iterator, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    SMALL,
    read_open,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.strict_json import parse_json
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import (
    ALLOWED_SIGNERS,
    Signer,
    faulty_register,
    fold,
    parse_allowed_signers,
)

SYSTEM_ANCHORS = "/etc/phasegate/reviewers"

USER_ANCHORS = ".config/phasegate/reviewers"

REVOKED_KEYS = "revoked_keys"

POLICY = "policy.json"


@dataclass(frozen=True)
class Anchor:
    """Who may approve changes to one cluster, as read once from the files of ``path``.

    ``allowed_signers`` and ``revoked_keys`` are the files' bytes, ``signers`` the first one's lines. ``rollback`` is
    the requirement for a rollback: ``approval`` or ``confirmation``.
    """

    path: str
    allowed_signers: bytes
    signers: Tuple[Signer, ...]
    revoked_keys: Optional[bytes] = None
    threshold: int = 2
    author_may_approve: bool = False
    rollback: str = "approval"

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
    if not re.fullmatch(r"[0-9]{1,20}", system_identifier):
        raise PhaseGateError(
            "The system identifier of the cluster is invalid.",
            expected="digits, as pg_control_system() returns them",
            found=repr(system_identifier),
            next_step="query the server: SELECT system_identifier FROM pg_control_system()",
        )
    return os.path.join(SYSTEM_ANCHORS, system_identifier)


def find_anchor(system_identifier: str) -> Optional[Anchor]:
    """Return who may approve changes to the cluster, or None when this host has no register for it.

    ``/etc/phasegate/reviewers/<system identifier>`` decides; only when it does not exist, the same below the home
    directory that the user database gives for the effective user. Raises ``PhaseGateError`` for files that others could
    have written, and for invalid ones.
    """
    anchor_path(system_identifier)
    home = os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)
    return _first_anchor(system_identifier, [("/", SYSTEM_ANCHORS[1:]), (home, USER_ANCHORS)])


def _first_anchor(system_identifier: str, places: Sequence[Tuple[str, str]]) -> Optional[Anchor]:
    anchors = (_anchor_below(base, [*below.split("/"), system_identifier]) for base, below in places)
    return next((anchor for anchor in anchors if anchor is not None), None)


def _anchor_below(base: str, parts: Sequence[str]) -> Optional[Anchor]:
    try:
        with _trusted_directory(base, parts) as descriptor:
            return _read(os.path.join(base, *parts), descriptor)
    except FileNotFoundError:
        return None


def read_anchor(path: str) -> Anchor:
    """Return the anchor in the directory ``path``, for an explicitly given one. Raises ``PhaseGateError``."""
    base, name = os.path.split(os.path.abspath(path))
    try:
        with _trusted_directory(base, [name], base_too=False) as descriptor:
            return _read(os.path.join(base, name), descriptor)
    except FileNotFoundError:
        raise PhaseGateError(
            "No reviewers are registered in this directory.",
            expected=f"a directory with {ALLOWED_SIGNERS}",
            found=f"{path} does not exist",
            next_step="register reviewers there, or give the right directory",
        ) from None


@contextlib.contextmanager
def _trusted_directory(base: str, parts: Sequence[str], *, base_too: bool = True) -> Iterator[int]:
    """Open ``base``, then each of ``parts`` below it, refusing links and what others can write; yield a descriptor.

    Raises ``FileNotFoundError`` when it does not exist, ``PhaseGateError`` when it cannot be trusted or read.
    """
    path = base
    try:
        descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _untrusted(path, "a directory that can be read", str(error)) from None
    try:
        if base_too:
            _check_owner(path, os.fstat(descriptor))
        for part in parts:
            path = os.path.join(path, part)
            below = _open_below(descriptor, part, path, os.O_DIRECTORY)
            os.close(descriptor)
            descriptor = below
            _check_owner(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _open_below(directory: int, name: str, path: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        wanted = "a directory" if flags else "a regular file"
        link = os.path.islink(path)
        raise _untrusted(path, f"{wanted}, not a symbolic link", "a symbolic link" if link else str(error)) from None


def _check_owner(path: str, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise _untrusted(path, f"owned by root or by the user of this run ({os.geteuid()})", f"owner {status.st_uid}")
    writable = stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    # In a sticky directory (/tmp) users cannot replace the files of others.
    if writable and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise _untrusted(path, "writable by its owner only", mode, f"chmod go-w {path}")


def _untrusted(path: str, expected: str, found: str, next_step: str = "") -> PhaseGateError:
    return PhaseGateError(
        f"The list of reviewers cannot be trusted: {path}",
        expected=expected,
        found=found,
        next_step=next_step or "find out who made it; put a real directory there that only root can write",
    )


def _read_file(directory: int, name: str, path: str) -> Optional[bytes]:
    try:
        descriptor = _open_below(directory, name, path, 0)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _untrusted(path, "a regular file", "something else")
        _check_owner(path, status)
        return read_open(stream, path, SMALL)


def _read(path: str, directory: int) -> Anchor:
    signers, revoked, policy = (
        _read_file(directory, name, os.path.join(path, name)) for name in (ALLOWED_SIGNERS, REVOKED_KEYS, POLICY)
    )
    if signers is None:
        raise PhaseGateError(
            "No reviewers are registered for this cluster, although their directory exists.",
            expected=f"a file {ALLOWED_SIGNERS}",
            found=f"none in {path}",
            next_step=f"write {os.path.join(path, ALLOWED_SIGNERS)}: one line for each reviewer, name and public key",
        )
    lines = parse_allowed_signers(signers, os.path.join(path, ALLOWED_SIGNERS))
    return Anchor(path, signers, lines, revoked, **_policy(policy, os.path.join(path, POLICY)))


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
