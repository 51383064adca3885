# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run integration targets with ansible-test against one embedded cluster.

``python -m tests.support.integration COLLECTION TARGET...``: COLLECTION is a real directory that ends in
``ansible_collections/incomex/phasegate``, as ansible-test wants it. What the targets know of the server stands in
``integration_config.yml`` there; the hidden target ``setup_database`` makes a database of its own for each of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.cluster import SUPERUSER, bin_directory, running_cluster

TEMPLATE = "phase_alpha_template"


def main(collection: Path, targets: list[str]) -> int:
    """Run the targets in one go and return ansible-test's exit code."""
    with running_cluster() as cluster:
        cluster.create_database(TEMPLATE)
        cluster.load(collection / "tests" / "fixtures" / "phase_alpha.sql", TEMPLATE)
        facts = {
            "phasegate_test_bindir": str(bin_directory()),
            "phasegate_test_host": str(cluster.socket_directory),
            "phasegate_test_port": cluster.port,
            "phasegate_test_user": SUPERUSER,
            "phasegate_test_template": TEMPLATE,
        }
        # JSON is YAML.
        config = collection / "tests" / "integration" / "integration_config.yml"
        config.write_text(json.dumps(facts), encoding="utf-8")
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return subprocess.run(
            ["ansible-test", "integration", "--color", "no", "--python", python, *targets],
            cwd=collection,
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
