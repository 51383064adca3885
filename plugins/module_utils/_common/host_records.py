# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records on the target host that only root, or the user of the run, can have written; each is named after a cluster.

A record is found below ``/etc/phasegate``, or below ``.config/phasegate`` of the home directory that the user database gives
for the effective user. No Ansible variable and no SQL of a phase moves or writes one. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
from typing import Iterator, List, Optional, Sequence, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import SMALL, atomic_file, read_open

SYSTEM = "/etc/phasegate"

USER = ".config/phasegate"

# What is recorded, by the name of its directory.
REVIEWERS = "reviewers"
REHEARSAL_CLUSTERS = "rehearsal_clusters"
APPROVALS_REQUIRED = "approvals_required"

_SUBJECTS = {
    REVIEWERS: "list of reviewers",
    REHEARSAL_CLUSTERS: "record of a rehearsal cluster",
    APPROVALS_REQUIRED: "record that approvals are required",
}


def record_name(system_identifier: str) -> str:
    """Return the name of a cluster's records. Raises ``PhaseGateError`` for what is no system identifier."""
    if not re.fullmatch(r"[0-9]{1,20}", system_identifier):
        raise PhaseGateError(
            "The system identifier of the cluster is invalid.",
            expected="digits, as pg_control_system() returns them",
            found=repr(system_identifier),
            next_step="query the server: SELECT system_identifier FROM pg_control_system()",
        )
    return system_identifier


def user_home() -> str:
    """Return the home directory that the user database gives for the effective user."""
    return os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)


def record_places(kind: str, system_identifier: str) -> List[str]:
    """Return where a record of a cluster may be: the system's place, then the user's."""
    name = record_name(system_identifier)
    return [os.path.join(SYSTEM, kind, name), os.path.join(user_home(), USER, kind, name)]


def find_record(kind: str, system_identifier: str) -> str:
    """Return the path of a cluster's record, '' without one, whatever it is and whoever wrote it.

    Only a name that does not exist counts as absent. Raises ``PhaseGateError`` when it is unknown whether there is one.
    """
    for path in record_places(kind, system_identifier):
        try:
            os.lstat(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise untrusted(path, "a path that can be read, or none", str(error), subject=_SUBJECTS[kind]) from None
        return path
    return ""


def find_trusted_record(kind: str, system_identifier: str) -> str:
    """Return the path of a cluster's record, a regular file that nobody else could have written; '' without one.

    Raises ``PhaseGateError`` for one that cannot be trusted.
    """
    return next((path for path, _data in read_records(kind, system_identifier)), "")


def read_records(kind: str, system_identifier: str) -> List[Tuple[str, bytes]]:
    """Return path and bytes of a cluster's records that nobody else could have written, the system's first.

    Raises ``PhaseGateError`` for one that cannot be trusted.
    """
    found = []
    name, subject = record_name(system_identifier), _SUBJECTS[kind]
    for base, below in (("/", SYSTEM[1:]), (user_home(), USER)):
        path = os.path.join(base, below, kind, name)
        with contextlib.suppress(FileNotFoundError), trusted_directory(
            base, [*below.split("/"), kind], subject=subject
        ) as directory:
            data = read_trusted(directory, name, path, subject=subject)
            if data is not None:
                found.append((path, data))
    return found


def write_record(path: str, data: bytes) -> None:
    """Write a record that everybody may read. Raises ``OSError``."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with atomic_file(path) as stream:
        stream.write(data)
    os.chmod(path, 0o644)


@contextlib.contextmanager
def trusted_directory(
    base: str, parts: Sequence[str], *, subject: str = _SUBJECTS[REVIEWERS], base_too: bool = True
) -> Iterator[int]:
    """Open ``base``, then each of ``parts`` below it, refusing links and what others can write; yield a descriptor.

    Raises ``FileNotFoundError`` when it does not exist, ``PhaseGateError`` when it cannot be trusted or read.
    """
    path = base
    try:
        descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise untrusted(path, "a directory that can be read", str(error), subject=subject) from None
    try:
        if base_too:
            _check_owner(path, os.fstat(descriptor), subject)
        for part in parts:
            path = os.path.join(path, part)
            below = _open_below(descriptor, part, path, os.O_DIRECTORY, subject)
            os.close(descriptor)
            descriptor = below
            _check_owner(path, os.fstat(descriptor), subject)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_below(directory: int, name: str, path: str, flags: int, subject: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError as error:
        wanted = "a directory" if flags else "a regular file"
        link = os.path.islink(path)
        found = "a symbolic link" if link else str(error)
        raise untrusted(path, f"{wanted}, not a symbolic link", found, subject=subject) from None


def _check_owner(path: str, status: os.stat_result, subject: str) -> None:
    if status.st_uid not in (0, os.geteuid()):
        expected = f"owned by root or by the user of this run ({os.geteuid()})"
        raise untrusted(path, expected, f"owner {status.st_uid}", subject=subject)
    writable = stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    # In a sticky directory (/tmp) users cannot replace the files of others.
    if writable and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        mode = f"mode {stat.S_IMODE(status.st_mode):04o}"
        raise untrusted(path, "writable by its owner only", mode, f"chmod go-w {path}", subject=subject)


def untrusted(path: str, expected: str, found: str, next_step: str = "", *, subject: str) -> PhaseGateError:
    """Return the error for a path that another user can write, or that is of another type than required."""
    return PhaseGateError(
        f"The {subject} cannot be trusted: {path}",
        expected=expected,
        found=found,
        next_step=next_step or "find out who made it; put a real directory there that only root can write",
    )


def read_trusted(directory: int, name: str, path: str, *, subject: str = _SUBJECTS[REVIEWERS]) -> Optional[bytes]:
    """Return the bytes of a regular file in an open directory, None without one; ``path`` is for messages.

    Raises ``PhaseGateError`` when it cannot be trusted or read.
    """
    try:
        descriptor = _open_below(directory, name, path, 0, subject)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise untrusted(path, "a regular file", "something else", subject=subject)
        _check_owner(path, status, subject)
        return read_open(stream, path, SMALL)
