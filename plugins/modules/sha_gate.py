#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assert the SHA-256 of files and freeze them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sha_gate
short_description: Assert the SHA-256 of files and freeze copies of them
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Compares the SHA-256 of each file with the expected one, and fails if any file is missing or differs. The message lists every
    such file with the expected and the found digest.
  - With O(destination) or O(run_directory) it then copies the files there. The bytes that are copied are hashed once more while
    they are written, so that a copy never has another content than the one that was asserted. Either all files are right, or
    none is copied.
  - It needs neither a phase nor a database. Use it in front of anything that runs a reviewed file, such as C(psql -f).
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: The files are hashed, and a difference is a failure as usual. No file is written.
  diff_mode:
    support: full
    details: Returns the digests of the frozen copies before and after, in the format of sha256sum(1).
  idempotent:
    support: full
    details: A copy that has the expected digest is left as it is.
options:
  files:
    description: The files, on the target host.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Path of the file.
        type: path
        required: true
      sha256:
        description: Expected SHA-256, 64 hexadecimal digits.
        type: str
        required: true
      name:
        description: File name of the copy. By default that of O(files[].path).
        type: str
  destination:
    description:
      - Directory to copy the files to. It is created if absent.
      - A copy with another digest is replaced.
    type: path
  run_directory:
    description:
      - Run directory to freeze the files in, below C(sql/). Results go to its journal as C-05.
      - A frozen file with another digest is an error, and so is a sealed run.
    type: path
seealso:
  - module: incomex.phasegate.run_open
  - module: incomex.phasegate.schema_diff_gate
  - module: ansible.builtin.copy
"""

EXAMPLES = r"""
- name: Assert that the release has the reviewed SQL
  incomex.phasegate.sha_gate:
    files:
      - path: /srv/release/migrate.sql
        sha256: 9b0c6a3cba8b0fd5c1a3c1d8d4c5b8a4a0e5f0f5d2a5c1e39e7c3e6f1f9d4b27

- name: Freeze it where nobody else can write, and run the copy
  incomex.phasegate.sha_gate:
    destination: /var/lib/release/frozen
    files:
      - path: /srv/release/migrate.sql
        sha256: 9b0c6a3cba8b0fd5c1a3c1d8d4c5b8a4a0e5f0f5d2a5c1e39e7c3e6f1f9d4b27
  register: frozen

- name: Run the frozen copy
  ansible.builtin.command:
    argv: [psql, --no-psqlrc, --set=ON_ERROR_STOP=1, --single-transaction, --file, "{{ frozen.files[0].frozen }}"]
"""

RETURN = r"""
files:
  description: Every file, in the order of O(files).
  returned: once the files were hashed
  type: list
  elements: dict
  contains:
    path: {description: Path of the file., type: str}
    name: {description: File name of the copy., type: str}
    expected: {description: Expected SHA-256., type: str}
    found: {description: 'SHA-256 of the file, empty if it is missing or not a regular file.', type: str}
    ok: {description: Whether the two are the same., type: bool}
    size: {description: Size in bytes., type: int}
    frozen: {description: 'Path of the copy, empty without O(destination) and O(run_directory).', type: str}
"""

import contextlib
import dataclasses
import os
import re
import stat
from typing import Any, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import SqlFrozen
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    HashingWriter,
    atomic_file,
    open_found,
    resolved,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of

DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclasses.dataclass(frozen=True)
class Pinned:
    """A file with its expected SHA-256, and the file name of its copy."""

    path: str
    name: str
    expected: str


@dataclasses.dataclass(frozen=True)
class Hashed:
    """What was found of a pinned file; ``found`` is empty when it is missing or not a regular file."""

    file: Pinned
    found: str
    size: int

    @property
    def ok(self) -> bool:
        """Whether the file has the expected SHA-256."""
        return self.found == self.file.expected

    def as_dict(self, directory: str | None) -> dict[str, Any]:
        """Return the module's result for the file."""
        frozen = os.path.join(directory, self.file.name) if directory else ""
        about = {"found": self.found, "ok": self.ok, "size": self.size, "frozen": frozen}
        return {**dataclasses.asdict(self.file), **about}


def pinned_files(entries: Sequence[Mapping[str, Any]]) -> list[Pinned]:
    """Return the files that the parameter ``files`` names. Raises ``PhaseGateError`` for what cannot be pinned."""
    files: list[Pinned] = []
    for entry in entries:
        name, expected = entry["name"] or os.path.basename(entry["path"]), entry["sha256"].lower()
        if not DIGEST.match(expected):
            raise PhaseGateError(
                f"Invalid SHA-256 for {entry['path']}.",
                expected="64 hexadecimal digits",
                found=repr(entry["sha256"]),
                next_step="correct sha256; sha256sum(1) prints it",
            )
        if os.path.basename(name) != name or name in ("", ".", "..") or any(character in name for character in "\0\n"):
            raise PhaseGateError(
                f"Invalid name for the copy of {entry['path']}.",
                expected="a file name of one line, without a directory",
                found=repr(name),
                next_step="correct name",
            )
        if name in [file.name for file in files]:
            raise PhaseGateError(
                f"Duplicate name {name}.",
                expected="a different name for the copy of every file",
                found=", ".join([*(file.path for file in files if file.name == name), entry["path"]]),
                next_step="give name for one of these files",
            )
        files.append(Pinned(entry["path"], name, expected))
    return files


def hashed(file: Pinned) -> Hashed:
    """Return what is found of a file. Raises ``OSError`` for one that cannot be read."""
    try:
        status = os.stat(file.path)
    except (FileNotFoundError, NotADirectoryError):
        return Hashed(file, "", 0)
    if not stat.S_ISREG(status.st_mode):
        return Hashed(file, "", 0)
    return Hashed(file, sha256_file(resolved(file.path)), status.st_size)


def require_all(files: Sequence[Hashed]) -> None:
    """Raise ``PhaseGateError`` naming every file that is missing or differs."""
    wrong = [one for one in files if not one.ok]
    if wrong:
        raise PhaseGateError(
            f"SHA-256 gate failed for {len(wrong)} of {len(files)} files.",
            expected="; ".join(f"{one.file.path} {one.file.expected}" for one in wrong),
            found="; ".join(f"{one.file.path} {one.found or 'missing or not a regular file'}" for one in wrong),
            next_step="find out who changed the file, or pin the SHA-256 of the file that was reviewed",
        )


def copies(directory: str, files: Sequence[Hashed]) -> dict[str, str]:
    """Return the SHA-256 of the copies that exist, by name."""
    paths = {one.file.name: os.path.join(directory, one.file.name) for one in files}
    return {name: sha256_file(path) for name, path in paths.items() if os.path.lexists(path)}


def listing(digests: Mapping[str, str]) -> str:
    """Return digests by name as sha256sum(1) prints them."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def require_same(existing: Mapping[str, str], files: Sequence[Hashed]) -> None:
    """Raise ``PhaseGateError`` when a copy exists with another digest: what a run has frozen stays."""
    differing = [one for one in files if existing.get(one.file.name, one.file.expected) != one.file.expected]
    if differing:
        raise PhaseGateError(
            "Another file is frozen under this name.",
            expected=listing({one.file.name: one.file.expected for one in differing}).strip().replace("\n", "; "),
            found=listing({one.file.name: existing[one.file.name] for one in differing}).strip().replace("\n", "; "),
            next_step="open a new run for the new revision of the file",
        )


def freeze(directory: str, files: Sequence[Hashed]) -> None:
    """Copy files; all of them appear, or none. Raises ``PhaseGateError`` when one changed since it was hashed."""
    with contextlib.ExitStack() as stack:
        for one in files:
            out = stack.enter_context(atomic_file(os.path.join(directory, one.file.name)))
            copy(one.file, out)


def copy(file: Pinned, out: HashingWriter) -> None:
    """Copy the bytes of one file. Raises ``PhaseGateError`` when they are not the expected ones."""
    with open_found(resolved(file.path)) as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            out.write(chunk)
    require_all([Hashed(file, out.sha256, out.size)])


def gate(
    artefacts: RunDirectory | None, directory: str | None, files: Sequence[Hashed], *, check_mode: bool
) -> tuple[dict[str, str], bool]:
    """Assert the digests of all files, then freeze those that are not in ``directory`` yet, as C-05 of an open run.

    Returns the digests of the copies that existed, by name, and whether there is a new one. Raises ``PhaseGateError``.
    """
    existing = copies(directory, files) if directory else {}
    new = [one for one in files if directory and existing.get(one.file.name) != one.file.expected]
    if not new:
        require_all(files)
        return existing, False
    journaled = artefacts if artefacts and not artefacts.sealed and not check_mode else None
    with Step(journaled, SqlFrozen).running() as step:
        frozen = [{"name": f"sql/{one.file.name}", "sha256": one.found, "size": one.size} for one in files if one.found]
        step.update(files=frozen)
        require_all(files)
        if artefacts:
            artefacts.require_unsealed()
            require_same(existing, files)
        if directory and not check_mode:
            if artefacts:
                artefacts.create()
            os.makedirs(directory, exist_ok=True)
            freeze(directory, new)
    return existing, True


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "sha256": {"type": "str", "required": True},
                    "name": {"type": "str"},
                },
            },
            "destination": {"type": "path"},
            "run_directory": {"type": "path"},
        },
        mutually_exclusive=[("destination", "run_directory")],
        supports_check_mode=True,
    )
    destination, run_directory = module.params["destination"], module.params["run_directory"]
    artefacts = RunDirectory(run_directory) if run_directory else None
    directory = artefacts.file("sql") if artefacts else destination
    result: dict[str, Any] = {}
    with errors_of(module, result):
        files = [hashed(file) for file in pinned_files(module.params["files"])]
        result["files"] = [one.as_dict(directory) for one in files]
        existing, changed = gate(artefacts, directory, files, check_mode=module.check_mode)
        if directory:
            after = {**existing, **{one.file.name: one.file.expected for one in files}}
            result["diff"] = {
                "before_header": directory,
                "after_header": directory,
                "before": listing(existing),
                "after": listing(after),
            }
        module.exit_json(changed=changed, **result)


if __name__ == "__main__":
    main()
