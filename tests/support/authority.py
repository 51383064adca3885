# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A time-stamp authority of our own (RFC 3161), by openssl, and over HTTP on the loopback."""

from __future__ import annotations

import contextlib
import http.server
import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CONFIGURATION = """
[tsa]
default_tsa = tsa1
[tsa1]
serial = {0}/serial
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
{1}
[req]
distinguished_name = name
[name]
[usage]
extendedKeyUsage = critical,timeStamping
"""


def openssl(*arguments: str) -> bytes:
    """Run openssl and return its output."""
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


class Authority:
    """An authority with its files in a directory; ``more`` are further lines of its configuration."""

    def __init__(self, place: Path, more: str = "") -> None:
        self.place = place
        place.mkdir(exist_ok=True)
        (place / "tsa.cnf").write_text(_CONFIGURATION.format(place, more), encoding="utf-8")
        (place / "serial").write_text("01", encoding="utf-8")
        made = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{place}/key.pem", "-out", f"{place}/ca.pem"]
        about = ["-subj", "/CN=an authority", "-config", f"{place}/tsa.cnf", "-extensions", "usage", "-days", "9"]
        openssl("req", "-x509", *made, *about)

    @property
    def certificate(self) -> Path:
        """The certificate that an auditor trusts."""
        return self.place / "ca.pem"

    def reply(self, query: bytes) -> bytes:
        """Return the response to a query: one that is none is refused."""
        asked, given = self.place / "query.tsq", self.place / "reply.tsr"
        asked.write_bytes(query)
        by = ["-inkey", f"{self.place}/key.pem", "-signer", f"{self.place}/ca.pem"]
        openssl("ts", "-reply", "-config", f"{self.place}/tsa.cnf", "-queryfile", str(asked), *by, "-out", str(given))
        return given.read_bytes()


@contextlib.contextmanager
def answering(
    answer: Callable[[bytes], bytes], status: int = 200, pause: float = 0.0, **headers: str
) -> Iterator[tuple[str, list[bytes]]]:
    """Answer what is posted, on the loopback; yield the URL and what was asked. ``pause``: seconds before each byte, 0 for all at once."""
    asked: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                data = answer(asked[-1])
                for piece in (data[place : place + 1] for place in range(len(data))) if pause else (data,):
                    time.sleep(pause)
                    self.wfile.write(piece)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/tsa", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
