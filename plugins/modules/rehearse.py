#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rehearse a phase on a restored copy of production."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rehearse
short_description: Rehearse a phase on a restored copy of production
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Restores the backup of an open rehearsal run into another cluster, and compares the copy with it table by table.
  - Runs preflight, migration and verification on the copy, then the rollback, which must restore the schema of before, then
    migration and verification again.
  - The statements run as the role that runs them on production, which is created there without login, with its attributes and
    memberships.
  - Measures locks, table rewrites, times and WAL inside the transaction, for the plan.
  - The connection options are those of the rehearsal cluster. It is refused if it is the cluster of the backup, has a register of
    reviewers on this host, is a target of the inventory (O(targets)), is not marked as a rehearsal cluster, has another major
    version, has a connection role without the SUPERUSER attribute, lacks an extension, or has an existing database of this name
    that no rehearsal below the same root created. With O(state=ready) only this is checked, before the backup is made.
  - A rehearsal cluster is marked by the file C(/etc/phasegate/rehearsal_clusters/<system identifier>) on the target host, without
    root C(~/.config/phasegate/rehearsal_clusters/<system identifier>), or, if it is reached by the socket in its container, by the
    label C(phasegate.rehearsal=true) of the container.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_rehearsal
  - incomex.phasegate._connection
  - incomex.phasegate._targets
attributes:
  check_mode:
    support: full
    details: The rehearsal cluster is queried, and refused if it is a target or is not marked. Nothing is restored.
  diff_mode:
    support: none
    details: The report of the rehearsal has the differences.
  idempotent:
    support: full
    details: The database of an earlier rehearsal is dropped and created anew. The result is the same, but for the measurements.
options:
  state:
    description: What to do. V(ready) only checks whether the backup can be restored there.
    type: str
    choices: [ready, rehearsed]
    default: rehearsed
  run_directory:
    description:
      - The directory of an open rehearsal run with backup, snapshot and frozen SQL.
      - Required, except in check mode.
    type: path
  draft:
    description:
      - Whether the phase is a draft. Then migration and rollback run on the copy once, and what differs from C(phase.yml) stops
        nothing but is returned in RV(observed), for M(incomex.phasegate.phase_check) to propose.
      - Nothing is proved, and there is no RV(rehearsal) that a plan could be made of. An error of a statement and a failed check of
        preflight stop it.
    type: bool
    default: false
  plan:
    description: The plan as M(incomex.phasegate.phase_plan) returns it. Required for O(state=rehearsed).
    type: dict
seealso:
  - module: incomex.phasegate.run_open
  - module: incomex.phasegate.backup
  - module: incomex.phasegate.plan_freeze
"""

EXAMPLES = r"""
- name: Rehearse on the copy
  incomex.phasegate.rehearse:
    container: pg-dry-run-phase-alpha
    database: directus
    user: workflow_admin
    run_directory: "{{ run.run_directory }}"
    plan: "{{ phase.plan }}"
"""

RETURN = r"""
cluster:
  description: The identity of the rehearsal cluster.
  returned: for O(state=ready), and in check mode
  type: dict
rehearsal:
  description: What the plan records of the rehearsal.
  returned: for O(state=rehearsed), except with O(draft) and in check mode
  type: dict
observed:
  description: What C(phase.yml) would have to declare, as C(observed.json) of the run has it.
  returned: for O(state=rehearsed) with O(draft), except in check mode
  type: dict
"""

import dataclasses
import os
from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.rehearsal_cluster import (
    TARGETS_ARGUMENT,
    CopyRules,
    declared_targets,
    require_rehearsal_cluster,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._backup.restore import require_ready
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    BackupMade,
    ClusterChecked,
    RunOpened,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import newest_end, opening_of
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.step import Step
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    read_json,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of, run_directory_of
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import read_identity
from ansible_collections.incomex.phasegate.plugins.module_utils._run.gate_evaluation import MigrationRequest
from ansible_collections.incomex.phasegate.plugins.module_utils._run.observation import observe_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._run.rehearsal import Rehearsal, run_rehearsal
from ansible_collections.incomex.phasegate.plugins.module_utils._run.script import read_frozen
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot


def source_in(artefacts: RunDirectory) -> RunOpened:
    """Return what the rehearsal was opened with."""
    artefacts.require_run()
    start = opening_of(artefacts.journal.entries())
    assert start, "the first line of a rehearsal's journal is its opening"
    return start


def rules_of(artefacts: RunDirectory, params: Mapping[str, Any]) -> CopyRules:
    """Return what decides whether the cluster may hold the copy."""
    return CopyRules(os.path.dirname(os.path.abspath(artefacts.path)), declared_targets(params["targets"]))


def check(client: Client, artefacts: RunDirectory, rules: CopyRules) -> dict[str, Any]:
    """Check the rehearsal cluster before there is a backup."""
    start = source_in(artefacts)
    with Step(artefacts, ClusterChecked).running() as step:
        source = start.identity["system_identifier"]
        found = require_ready(client, source=source, server=start.server or {}, rules=rules)
        step.update(cluster=found.as_dict())
    return {"changed": False, "cluster": found.as_dict()}


def run(
    client: Client, artefacts: RunDirectory, plan: dict[str, Any], rules: CopyRules, *, draft: bool
) -> dict[str, Any]:
    """Rehearse in an open run, or observe a draft in it."""
    start = source_in(artefacts)
    source = Snapshot.load(artefacts.file("schema/before.jsonl.gz"))
    backup = newest_end(artefacts.journal.entries(), BackupMade, done=True).backup or {}
    access = start.access or {}
    contents = read_json(artefacts.file("backup_contents.json"))
    request = MigrationRequest(
        plan=plan,
        ddl=read_frozen(artefacts, plan["ddl"]["file"]),
        artefacts=artefacts,
        # the copy may have another name than production's database
        declared={"database": client.database},
        max_backup_age=0,
        lock_attempts=1,
    )
    undo = read_frozen(artefacts, plan["rollback"]["file"])
    rehearsal = Rehearsal(client, request, undo, source, access["user"])
    about = {
        "source": start.identity["system_identifier"],
        "roles": start.roles,
        "access": access,
        "server": start.server,
        "contents": contents,
        "rules": rules,
    }
    archive = artefacts.file(backup["file"])
    if draft:
        return {"changed": True, "observed": observe_phase(rehearsal, archive, about)}
    proved = run_rehearsal(rehearsal, archive, about)
    proved["backup"] = {key: backup[key] for key in ("file", "size", "sha256", "toc_entries", "compression")}
    return {"changed": True, "rehearsal": proved}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "state": {"type": "str", "choices": ["ready", "rehearsed"], "default": "rehearsed"},
            "run_directory": {"type": "path"},
            "draft": {"type": "bool", "default": False},
            "plan": {"type": "dict"},
            "targets": TARGETS_ARGUMENT,
        },
        required_if=[("state", "rehearsed", ["plan"])],
        supports_check_mode=True,
    )
    params = module.params
    client = Client.of_module(module)
    with errors_of(module):
        if module.check_mode:
            # there is no run yet to know the source by, and the copy's database may not exist yet
            with dataclasses.replace(client, database="postgres").session() as session:
                found = read_identity(session, client)
                require_rehearsal_cluster(session, client, found, declared_targets(params["targets"]))
                module.exit_json(changed=params["state"] == "rehearsed", cluster=found.as_dict())
        artefacts = RunDirectory(run_directory_of(module, "Rehearsal"))
        rules = rules_of(artefacts, params)
        ready = params["state"] == "ready"
        if ready:
            module.exit_json(**check(client, artefacts, rules))
        module.exit_json(**run(client, artefacts, params["plan"], rules, draft=params["draft"]))


if __name__ == "__main__":
    main()
