# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real SSH server on the loopback, with keys of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.incomex.phasegate.tests.support.runs import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SSHD = Path("/usr/sbin/sshd")


@contextlib.contextmanager
def running_sshd(directory: Path) -> Iterator[dict[str, Any]]:
    """Run a server; yield what an inventory says to reach it, and ``pid``. Every task connects anew."""
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/client.pub\n"
        f"PidFile {directory}/sshd.pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n",
        encoding="utf-8",
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself up before a login
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=subprocess.DEVNULL)
    try:
        wait_for("sshd", (directory / "sshd.pid").exists)
        yield {
            "pid": server.pid,
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": port,
            "ansible_user": pwd.getpwuid(os.geteuid()).pw_name,
            "ansible_ssh_private_key_file": str(directory / "client"),
            "ansible_ssh_args": "-F none -o ControlMaster=no -o ControlPath=none -o UserKnownHostsFile=/dev/null"
            " -o StrictHostKeyChecking=no -o IdentitiesOnly=yes",
            "ansible_python_interpreter": sys.executable,
        }
    finally:
        server.terminate()
        server.wait()
