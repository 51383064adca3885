# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A time-stamp of a seal (RFC 3161), asked for from an authority; ``audit.py --tsa-ca`` verifies it.

It is made after the seal, which leaves it out. An authority that does not answer changes nothing about a run.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from typing import Sequence, Union
from urllib.parse import urlsplit

from ansible_collections.incomex.phasegate.plugins.module_utils._audit.audit import TIMESTAMP
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import SEAL, RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped

#: How long an authority may take, in seconds, and how long its answer may be, in bytes.
TIMEOUT, LONGEST = 15.0, 1 << 16

# What granted is, as a PKIStatusInfo begins with it (RFC 3161, 2.4.2): granted, or granted with modifications.
_GRANTED = ("Status: Granted.", "Status: Granted, with modifications.")

_NEXT_STEP = "correct phasegate_timestamp_url, or leave it out"


def require_authority(url: str) -> None:
    """Raise ``PhaseGateError`` unless a time-stamp can be asked for at this URL: before a run is opened.

    The authority itself is not asked: that it does not answer later is no reason to stop.
    """
    if not _is_authority(url):
        raise PhaseGateError(
            "The URL of the time-stamp authority is invalid.",
            expected="http or https, and a host; no user and no password, which others would see",
            # what it has may be a password
            found="another form of URL",
            next_step=_NEXT_STEP,
        )
    try:
        _openssl("version")
    except (OSError, subprocess.SubprocessError) as error:
        raise PhaseGateError(
            "A time-stamp cannot be asked for on this host.",
            expected="openssl",
            found=str(error),
            next_step=f"install openssl; or {_NEXT_STEP}",
        ) from None


def _is_authority(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def stamp_seal(artefacts: RunDirectory, url: str) -> str:
    """Add the time-stamp of a bundle's seal, once; return why there is none, '' when there is one."""
    if os.path.lexists(artefacts.file(TIMESTAMP)):
        return ""
    if not _is_authority(url):
        return "the URL of the authority is invalid"
    try:
        query = _openssl("ts", "-query", "-data", artefacts.file(SEAL), "-sha256", "-cert")
        answer = _asked(url, query)
        wrong = _problem(answer, sha256_file(artefacts.file(SEAL)))
    except (OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError) as error:
        # an HTTP status has words of the authority's
        return escaped(f"{type(error).__name__}: {error}")
    if not wrong:
        artefacts.write(TIMESTAMP, answer)
    return wrong


def _asked(url: str, query: bytes) -> bytes:
    """Return what an authority answers within ``TIMEOUT``. Raises ``OSError``, ``ValueError``, ``HTTPException``."""
    answers: queue.SimpleQueue[Union[bytes, Exception]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_answer(url, query))
        except (OSError, ValueError, http.client.HTTPException) as error:
            answers.put(error)

    # each byte of a slow answer comes in time: only from beside it can all of them be bounded
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError(f"no complete answer within {TIMEOUT:.0f} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer(url: str, query: bytes) -> bytes:
    # the handlers below know HTTP alone
    request = urllib.request.Request(url, data=query, headers={"Content-Type": "application/timestamp-query"})  # noqa: S310
    opener = urllib.request.OpenerDirector()
    # neither files nor FTP, and no other place than the configured one: nothing here follows a redirect
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    with contextlib.closing(opener.open(request, timeout=TIMEOUT)) as answer:
        data: bytes = answer.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise ValueError(f"an answer of more than {LONGEST} bytes")
    return data


def _problem(answer: bytes, seal: str) -> str:
    """Return why an answer is no time-stamp of a seal, of this SHA-256, '' when it is one. Who made it an audit verifies."""
    with tempfile.NamedTemporaryFile(prefix="phasegate-") as file:
        file.write(answer)
        file.flush()
        try:
            said = _openssl("ts", "-reply", "-in", file.name, "-text").decode("utf-8", "replace")
        except subprocess.CalledProcessError:
            return "the answer is no time-stamp response"
    status = next((line.strip() for line in said.split("\n") if line.startswith("Status: ")), "no status")
    if status not in _GRANTED:
        return f"the authority refuses: {status}"
    # the imprint, as DER has a string of 32 bytes
    return "" if b"\x04\x20" + bytes.fromhex(seal) in answer else "the answer is a time-stamp of something else"


def _openssl(*words: str) -> bytes:
    """Run openssl and return its output. Raises ``OSError``, ``subprocess.SubprocessError``."""
    argv: Sequence[str] = ("openssl", *words)
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=TIMEOUT
    )
    return done.stdout
