# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run integration targets with ansible-test against an embedded cluster, with another one to rehearse in."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.cluster import SUPERUSER, bin_directory, running_cluster

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

TEMPLATE = "phase_alpha_template"


def run_targets(collection: Path, targets: Iterable[str], environment: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Yield each target with the exit code of its run; one that fails does not keep the others from running.

    What the targets know of the server stands in ``integration_config.yml``; the hidden target ``setup_database``
    makes a database of its own for each of them.

    :param collection: a real directory that ends in ``ansible_collections/incomex/phasegate``; it is written to.
    """
    with running_cluster() as cluster, running_cluster(rehearsal=True) as rehearsal:
        cluster.create_database(TEMPLATE)
        cluster.load(collection / "tests" / "fixtures" / "phase_alpha.sql", TEMPLATE)
        facts = {
            "integration_bindir": str(bin_directory()),
            "integration_host": str(cluster.socket_directory),
            "integration_port": cluster.port,
            "integration_user": SUPERUSER,
            "integration_template": TEMPLATE,
            "integration_rehearsal_host": str(rehearsal.socket_directory),
            "integration_rehearsal_port": rehearsal.port,
        }
        # JSON is YAML.
        config = collection / "tests" / "integration" / "integration_config.yml"
        config.write_text(json.dumps(facts), encoding="utf-8")
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        argv = ["ansible-test", "integration", "--color", "no", "--python", python]
        for target in targets:
            done = subprocess.run(
                [*argv, target],
                cwd=collection,
                env=environment,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            yield target, done.returncode
