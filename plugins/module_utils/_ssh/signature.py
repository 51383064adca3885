# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SSH signatures (PROTOCOL.sshsig): read, made and verified by the program ssh-keygen.

OpenSSH alone verifies a signature; the parser here only distinguishes people and reasons. Standard library only.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import struct
import subprocess
import tempfile
from typing import Optional, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import (
    PROGRAM_PATH,
    Signature,
    decoded,
    fingerprint,
    parse_signature,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError

_ENVIRONMENT = {"PATH": PROGRAM_PATH, "LC_ALL": "C", "TZ": "UTC"}

# what reads a signature is the auditor's; its names are here for whoever makes or verifies one
__all__ = [
    "Signature",
    "Verifier",
    "decoded",
    "fingerprint",
    "holds",
    "parse_signature",
    "sign",
    "ssh_keygen",
    "string",
]

_ANY_LINE = re.IGNORECASE | re.MULTILINE

# How long an agent may take, a touch of a security key included, in seconds.
_PATIENCE = 60.0


def string(data: bytes) -> bytes:
    """Return a string as the SSH protocol writes it."""
    return struct.pack(">I", len(data)) + data


class Verifier:
    """ssh-keygen with its input files in a private directory.

    ``signers`` is the content of an allowed_signers file, ``revoked`` that of a file of revoked keys or None; times in the
    first one are compared with ``now``, in UTC.
    """

    def __init__(
        self,
        directory: str,
        signers: bytes = b"",
        revoked: Optional[bytes] = None,
        now: Optional[datetime.datetime] = None,
    ) -> None:
        self._program = ssh_keygen()
        self._directory = directory
        self._signers = self._file("signers", signers)
        self._revoked = None if revoked is None else self._file("revoked", revoked)
        now = now or datetime.datetime.now(datetime.timezone.utc)
        self._at = now.astimezone(datetime.timezone.utc).strftime("%Y%m%d%H%M%S")

    def _file(self, name: str, data: bytes) -> str:
        path = os.path.join(self._directory, name)
        with open(path, "wb") as stream:
            stream.write(data)
        return path

    def _run(self, operation: str, signature: bytes, message: bytes, *arguments: str) -> str:
        """Return an empty text when the program accepts, else its message."""
        path = self._file("signature", signature)
        run = subprocess.run(
            [self._program, "-Y", operation, *arguments, "-s", path],
            input=message,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            check=False,
        )
        said = run.stdout.decode("utf-8", "replace").strip()
        if run.returncode and re.search(r"^usage:|(unknown|illegal) option|unsupported operation", said, _ANY_LINE):
            raise PhaseGateError(
                "ssh-keygen on this host is too old to verify approvals.",
                expected="OpenSSH 8.7 or newer",
                found=said.splitlines()[0],
                next_step="upgrade the OpenSSH client on this host",
            )
        return (said or f"exit code {run.returncode}") if run.returncode else ""

    def over(self, signature: bytes, namespace: str, message: bytes) -> bool:
        """Return whether this is a signature over ``message`` by the key that it names, whoever owns that key."""
        return not self._run("check-novalidate", signature, message, "-n", namespace)

    def unreadable_revocations(self, signature: bytes, namespace: str, message: bytes, names: Sequence[str]) -> str:
        """Return why the file of revoked keys cannot be read, '' when it lists the signing key.

        ssh-keygen rejects a signature the same way in both cases; only its debugging output has the reason.
        """
        arguments = ["-vvv", "-f", self._signers, "-n", namespace, "-Overify-time=" + self._at]
        arguments += ["-r", self._revoked or "", "-I", names[0] if names else ""]
        said = self._run("verify", signature, message, *arguments)
        reason = re.search(r"sshkey_check_revoked: (?P<why>.*)", said)
        why = reason["why"].strip() if reason else ""
        return "" if not why or why.lower() == "key is revoked" else why

    def problem(
        self, signature: bytes, namespace: str, message: bytes, principals: Sequence[str], *, revoked: bool
    ) -> str:
        """Return why none of ``principals`` signed, or an empty text; ``revoked``: with the file of revoked keys."""
        arguments = ["-f", self._signers, "-n", namespace, "-Overify-time=" + self._at]
        if revoked and self._revoked is not None:
            arguments += ["-r", self._revoked]
        said = "no signer is registered"
        for principal in principals:
            said = self._run("verify", signature, message, *arguments, "-I", principal)
            if not said:
                break
        return said


def ssh_keygen() -> str:
    """Return the path of the program. Raises ``PhaseGateError`` when there is none."""
    program = shutil.which("ssh-keygen", path=PROGRAM_PATH)
    if program is None:
        raise PhaseGateError(
            "ssh-keygen is missing on this host; without it, approvals cannot be verified.",
            expected="ssh-keygen of OpenSSH 8.7 or newer in one of " + PROGRAM_PATH,
            found="none",
            next_step="install the OpenSSH client (package openssh-client or openssh)",
        )
    return program


def sign(data: bytes, key: str, namespace: str) -> bytes:
    """Return a signature over ``data``. Raises ``PhaseGateError``.

    ``key`` is the path of a private key without a passphrase, or of any key that an agent holds. No passphrase is
    requested: there is no terminal, and ssh-keygen gets no askpass program.
    """
    environment = {
        **_ENVIRONMENT,
        **{name: os.environ[name] for name in ("SSH_AUTH_SOCK", "HOME") if name in os.environ},
    }
    try:
        run = subprocess.run(
            [ssh_keygen(), "-q", "-Y", "sign", "-f", key, "-n", namespace],
            input=data,
            capture_output=True,
            env=environment,
            start_new_session=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _not_signed(key, f"no answer of the agent or the security key in {_PATIENCE:.0f} s") from None
    if run.returncode or parse_signature(run.stdout) is None:
        said = run.stderr.decode("utf-8", "replace").strip() or f"exit code {run.returncode}"
        # it reports a wrong passphrase, because none was given
        raise _not_signed(key, "a passphrase, and no agent that holds the key" if "passphrase" in said else said)
    return run.stdout


def _not_signed(key: str, found: str) -> PhaseGateError:
    return PhaseGateError(
        "ssh-keygen could not sign.",
        expected=f"a private key in {key} without a passphrase, or a key that an agent holds",
        found=found,
        next_step="load the key with ssh-add into an agent that Ansible reaches, or use a key without a passphrase",
    )


def holds(signature: bytes, namespace: str, data: bytes) -> bool:
    """Return whether this is a signature over ``data`` in a namespace, by any key."""
    parsed = parse_signature(signature)
    if parsed is None or parsed.namespace != namespace:
        return False
    with tempfile.TemporaryDirectory(prefix="phasegate-") as directory:
        return Verifier(directory).over(signature, namespace, data)
