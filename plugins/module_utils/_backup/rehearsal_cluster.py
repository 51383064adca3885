# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which cluster may hold a restored copy: one that is marked for it, and that is nobody's target.

The connection in the inventory is a claim. It is compared with what the server reports and with records that neither the
inventory nor the SQL of a phase writes: a file on the target host, or a label of the container.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.host_records import (
    REHEARSAL_CLUSTERS,
    REVIEWERS,
    find_record,
    find_trusted_record,
    record_places,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import Identity
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session

# The label of a container that may hold copies; its value is "true".
LABEL = "phasegate.rehearsal"

# What the inventory hosts declare as their targets; documented in doc_fragments/_targets.py.
TARGETS_ARGUMENT: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "system_identifier": {"type": "str"},
        "container": {"type": "str"},
        "host": {"type": "str"},
        "port": {"type": "int"},
        "service": {"type": "str"},
    },
}

_LOCAL = ("", "localhost", "127.0.0.1", "::1")

_PORT = 5432


@dataclass(frozen=True)
class DeclaredTarget:
    """What one inventory host declares as its target; ``name`` is the host's."""

    name: str
    system_identifier: str | None = None
    container: str | None = None
    host: str | None = None
    port: int | None = None
    service: str | None = None

    def is_cluster(self, client: Client, found: Identity) -> bool:
        """Return whether this is the cluster that ``client`` reached: by the system identifier where it is declared."""
        if self.system_identifier:
            return self.system_identifier == found.system_identifier
        return _place(self.container, self.service, self.host, self.port) == _place(
            client.container, client.service, client.host, client.port
        )


@dataclass(frozen=True)
class CopyRules:
    """What decides whether a cluster may hold a copy, and which databases there may be dropped.

    ``root`` is the directory of all runs on this host, ``targets`` what the inventory hosts declare.
    """

    root: str
    targets: tuple[DeclaredTarget, ...] = ()


def declared_targets(params: Sequence[Mapping[str, Any]]) -> tuple[DeclaredTarget, ...]:
    """Return the values of ``TARGETS_ARGUMENT``."""
    return tuple(DeclaredTarget(**one) for one in params)


def _place(container: str | None, service: str | None, host: str | None, port: int | None) -> tuple[str, ...]:
    """Return what two connections to one server have in common, as far as their options show it."""
    where = "" if (host or "") in _LOCAL else (host or "").lower()
    if where and not where.startswith("/") and not service:
        # by TCP: where the programs run makes no difference
        container = None
    return (container or "", service or "", where, str(port or _PORT))


def require_rehearsal_cluster(
    session: Session, client: Client, found: Identity, targets: Sequence[DeclaredTarget]
) -> None:
    """Raise ``PhaseGateError`` unless the cluster may hold a copy. ``targets`` are those of all inventory hosts."""
    register = find_record(REVIEWERS, found.system_identifier)
    if register:
        raise PhaseGateError(
            "The rehearsal cluster has a register of reviewers: its changes need approvals.",
            expected="a cluster without a register of reviewers on this host",
            found=f"{register}, for {found.describe()}",
            next_step="correct the connection of the rehearsal cluster in the inventory",
        )
    declared = [target.name for target in targets if target.is_cluster(client, found)]
    if declared:
        raise PhaseGateError(
            f"The rehearsal cluster is the target of inventory host {', '.join(declared)}.",
            expected="a cluster that no host of the inventory declares as its target",
            found=found.describe(),
            next_step="correct the connection of the rehearsal cluster in the inventory; if that target is another cluster,"
            " declare its system_identifier in phasegate_identity of that host",
        )
    if not (_labelled(session, client) or find_trusted_record(REHEARSAL_CLUSTERS, found.system_identifier)):
        place, own_place = record_places(REHEARSAL_CLUSTERS, found.system_identifier)
        raise PhaseGateError(
            "The cluster is not marked as a rehearsal cluster.",
            expected=f"the file {place} on the target host (without root: {own_place}), or a container with the label {LABEL}=true",
            found=f"neither, for {found.describe()}",
            next_step="check that nobody needs this cluster; then create that file on the target host, as root:"
            f" install -D -m 0644 /dev/null {place}",
        )


def _labelled(session: Session, client: Client) -> bool:
    """Return whether the server runs in a container with the label: it was reached by the socket there, not by a network."""
    if (
        not client.container
        or client.service
        or client.host
        or session.value("SELECT inet_server_addr() IS NULL") != "t"
    ):
        return False
    form = f'--format={{{{index .Config.Labels "{LABEL}"}}}}'
    argv = [client.engine(), "inspect", "--type=container", form, client.container]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == b"true"
