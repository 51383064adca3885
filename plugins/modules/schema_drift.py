#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare a live schema with its baseline."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_drift
short_description: Compare a live schema with its baseline
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Compares the schema with its baseline fact by fact, and fails if a change is not permitted by O(policy) or O(allow). The message
    lists every such change with its value before and after.
  - The baseline is the schema that the first run stored in O(directory), or, with O(baseline), another snapshot or the schema
    that a sealed run of a phase recorded.
  - Each run writes C(drift.txt), C(drift.json) and C(junit.xml) to O(directory). The JUnit document has one test case for each
    schema. A run without a result writes one with an error, so that an earlier result is never taken for today's.
  - A role that may only connect is sufficient. Objects hidden from the role are listed and not compared.
  - The module never modifies the database.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_phasegate
  - incomex.phasegate._connection
attributes:
  check_mode:
    support: full
    details: The schema is compared, and drift is a failure as usual. No file is written.
  diff_mode:
    support: full
    details: Returns the changed objects before and after.
  idempotent:
    support: full
    details: RV(ignore:changed) is true only when a baseline is stored. The report is replaced each time.
options:
  directory:
    description: Directory of the baseline and of the report on the target host. It is created if absent.
    type: path
    required: true
  baseline:
    description:
      - What to compare with instead of the stored baseline. It is only read.
      - Either a snapshot file such as C(schema/before.jsonl.gz) of M(incomex.phasegate.schema_snapshot), or the directory of a
        sealed run, whose C(schema/after.jsonl.gz) is checked against C(SHA256SUMS) and used.
    type: path
  fingerprint:
    description: Required fingerprint of the baseline, recorded where the users of the target host cannot write.
    type: str
  renew:
    description: Whether to store the current schema as the baseline, without comparing.
    type: bool
    default: false
  cluster:
    description: Whether roles, memberships, settings of roles, tablespaces and privileges on parameters are compared, too.
    type: bool
    default: false
  policy:
    description: V(unchanged) permits no change, V(additions_only) permits changes that only add.
    type: str
    choices: [unchanged, additions_only]
    default: unchanged
  allow:
    description: Additional changes to permit, by C(class), C(kind), C(schema) and C(object) pattern.
    type: list
    elements: dict
    default: []
  enforce:
    description: Whether drift is a failure. Otherwise the result is only returned. Ansible shows a diff of it only then.
    type: bool
    default: true
seealso:
  - module: incomex.phasegate.schema_info
  - module: incomex.phasegate.schema_snapshot
  - module: incomex.phasegate.schema_diff_gate
"""

EXAMPLES = r"""
- name: Fail if the schema changed since the first run
  incomex.phasegate.schema_drift:
    container: postgres
    database: directus
    directory: /var/lib/phasegate/drift/directus

- name: Fail if it changed since the last phase, except for new partitions
  incomex.phasegate.schema_drift:
    container: postgres
    database: directus
    directory: /var/lib/phasegate/drift/directus
    baseline: /var/lib/phasegate/alpha_prod_20260516T031200Z
    allow:
      - class: additive
        object: metrics.samples_*
"""

RETURN = r"""
outcome:
  description: V(SUCCESS), or V(DRIFTED) with a change that is not permitted.
  returned: once the schema was read
  type: str
drifted:
  description: Whether there is a change that is not permitted.
  returned: once the schema was read
  type: bool
message:
  description: The result as text; with drift, every change that is not permitted.
  returned: once the schema was read
  type: str
fingerprint:
  description: SHA-256 over all facts of the live schema.
  returned: once the schema was read
  type: str
baseline_fingerprint:
  description: SHA-256 over all facts of the baseline.
  returned: once compared
  type: str
changes:
  description: Every change. C(permitted) is true for those that the policy permits.
  returned: once compared
  type: list
  elements: dict
unseen:
  description: What was hidden from the role, now or when the baseline was taken, and so was not compared.
  returned: once the schema was read
  type: list
  elements: str
database:
  description: Name of the database.
  returned: once the schema was read
  type: str
server_version:
  description: Version of the server.
  returned: once the schema was read
  type: str
"""

import contextlib
import json
import os
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import (
    DRIFT,
    Ending,
    drift_sentence,
    verdict_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import atomic_file, file_error
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import fail_with, given_params
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.drift import (
    BASELINE,
    Drift,
    compare_with_baseline,
    load_baseline,
    require_fingerprint,
    require_sections,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.drift_junit import error_junit, stored_junit
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import take_snapshot
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reprint import Reprinter
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.sections import wanted_sections, without_cluster
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

REPORTS = ("drift.txt", "drift.json", "junit.xml")


class Reports:
    """The directory that the report goes to; in check mode nothing does."""

    def __init__(self, directory: str, *, check_mode: bool) -> None:
        self.baseline = os.path.join(directory, BASELINE)
        self._directory = directory
        self._writes = not check_mode

    def prepare(self) -> None:
        """Make the directory, and remove the last run's report: whatever happens, nobody takes it for this run's."""
        if self._writes:
            os.makedirs(self._directory, mode=0o750, exist_ok=True)
            for name in REPORTS:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._directory, name))

    def store(self, snapshot: Snapshot) -> Ending:
        """Make a snapshot the baseline, and return which ending that is."""
        if not self._writes:
            return Ending.CHECKED
        snapshot.write(self.baseline)
        return Ending.STORED

    def write(self, text: str, junit: str, result: Mapping[str, Any]) -> None:
        """Write the report of one run."""
        contents = (text + "\n", json.dumps(result, indent=2, ensure_ascii=False) + "\n", junit)
        for name, content in zip(REPORTS, contents) if self._writes else ():
            with atomic_file(os.path.join(self._directory, name)) as out:
                out.write(content.encode("utf-8", "backslashreplace"))


def store(reports: Reports, live: Snapshot) -> dict[str, Any]:
    """Store the live schema as the baseline and return the result."""
    ending = reports.store(live)
    header = live.header
    result = {
        "outcome": verdict_of(DRIFT, ending).outcome.value,
        "database": header.database,
        "server_version": header.server_version,
        "fingerprint": live.fingerprint,
        "unseen": list(header.unseen),
        "drifted": False,
    }
    lines = [
        f"{drift_sentence(ending, header.database, reports.baseline)}, "
        f"{len(live)} facts, fingerprint {live.fingerprint}.",
        *(f"    not seen: {what}" for what in header.unseen),
    ]
    message = "\n".join(lines)
    reports.write(message, stored_junit(live), result)
    return {"changed": True, "message": message, **result}


def compare(reports: Reports, drift: Drift, path: str, next_step: str) -> dict[str, Any]:
    """Report a comparison and return the result."""
    result = drift.as_dict()
    message = drift.message(path, next_step)
    reports.write(message, drift.junit(), result)
    return {"changed": False, "message": message, "diff": drift.changes.ansible(), **result}


def run(params: Mapping[str, Any], reports: Reports) -> dict[str, Any]:
    """Store or compare, as asked for, and return the result."""
    client = Client.from_params(params)
    sections = wanted_sections(cluster=params["cluster"])
    given = params["baseline"]
    path = given or reports.baseline
    # before the server is queried: an invalid baseline is no reason to read a schema
    baseline = None if params["renew"] or not (given or os.path.exists(path)) else load_baseline(path)
    if baseline:
        require_fingerprint(params["fingerprint"], baseline, path)
        if given and not params["cluster"]:
            # a phase that can change the cluster was recorded with it
            baseline = without_cluster(baseline)
        require_sections(baseline, sections)
    with client.session("phasegate:drift") as session:
        live = take_snapshot(session, sections=sections)
        if baseline is None:
            require_fingerprint(params["fingerprint"], live, f"the schema that was to be stored as {path}")
            return store(reports, live)
        policy = {"policy": params["policy"], "allow": params["allow"]}
        drift = compare_with_baseline(baseline, live, policy, Reprinter(session, inside=False))
    accept = (
        "name a later run as the baseline"
        if given
        else "store the schema as it is as the new baseline (renew; -e phasegate_drift_renew=true)"
    )
    next_step = f"find out who made the changes; then undo them, permit them with allow, or {accept}"
    return compare(reports, drift, path, next_step)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "directory": {"type": "path", "required": True},
            "baseline": {"type": "path"},
            "fingerprint": {"type": "str"},
            "renew": {"type": "bool", "default": False},
            "cluster": {"type": "bool", "default": False},
            "policy": {"type": "str", "choices": ["unchanged", "additions_only"], "default": "unchanged"},
            "allow": {"type": "list", "elements": "dict", "default": []},
            "enforce": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = given_params(module)
    if params["renew"] and params["baseline"]:
        module.fail_json(msg="renew and baseline are mutually exclusive: renew stores a new baseline in directory.")
    # before a report names the connection
    Client.of_module(module)
    reports = Reports(params["directory"], check_mode=module.check_mode)
    try:
        reports.prepare()
        result = run(params, reports)
    except (PhaseGateError, OSError) as error:
        stopped = error if isinstance(error, PhaseGateError) else file_error(error)
        with contextlib.suppress(OSError):
            failed = {"outcome": verdict_of(DRIFT, Ending.FAILED).outcome.value, "error": str(stopped)}
            reports.write(str(stopped), error_junit(params["database"], stopped), failed)
        fail_with(module, stopped)
    else:
        if params["enforce"] and result["drifted"]:
            fail_with(module, result["message"], **result)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
