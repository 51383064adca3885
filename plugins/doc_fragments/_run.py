# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The opening of a run. Private to this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """What a run is opened with."""

    DOCUMENTATION = r"""
options:
  root:
    description: Directory of all runs on the target host.
    type: path
  environment:
    description: Short name of the environment, part of the run directory's name.
    type: str
  inventory_name:
    description: The target's name in the inventory, for the report.
    type: str
    default: ''
  inventory_sources:
    description: The inventory sources (C(ansible_inventory_sources)), for the rollback command in the report.
    type: list
    elements: str
    default: []
  require:
    description:
      - What is required whatever the target host has.
      - It is recorded when the run is opened, and is evaluated again before the transaction.
    type: dict
    suboptions:
      approvals:
        description:
          - V(required) fails G-1 on a cluster without registered reviewers.
          - V(registered) requires approvals if reviewers are registered, or ever were on this host.
        type: str
        choices: [required, registered]
        default: registered
  ledger:
    description:
      - The table that M(incomex.phasegate.ledger) made, C(schema.table), to which every execution and rollback adds a row in its own
        transaction. Without it there is none.
      - A plan that the ledger has an execution of, without a run directory here, is refused, and so is a row that is missing or
        was changed. Once approvals were required for a row of this cluster, they stay required.
    type: str
  operator:
    description: Who opens the run and from where. Shown to a second operator and recorded in the report.
    type: str
    default: ''
  lock_idle:
    description:
      - Seconds of inactivity after which the run's lock is released. A step in progress and a new line in the journal count as
        activity. The lock is released at once when a step was killed, or when the controller ended without sealing the run.
      - A run that holds the lock without activity is waited for that long.
    type: int
    default: 60
  conditions:
    description:
      - What to do about a pre-run condition that is not met, by its name, V(stop), V(warn) or V(ignore). The conditions are
        checked when the run is opened, before the backup. A rehearsal does not check them.
      - V(stop) by default are C(wraparound_vacuum), C(prepared_transactions), C(artefact_space), C(server_space), C(locks),
        C(client_version), C(synchronous_standby) and C(replica_lag).
      - V(warn) by default are C(long_transactions), C(pg_dump), C(replication_slots) and C(minor_version).
      - A session or a prepared transaction stops a run only if it holds a lock on a relation in the plan. Any other one is a
        warning.
      - A condition that the role is not allowed to read has the status C(UNKNOWN) and stops nothing.
    type: dict
    default: {}
  limits:
    description:
      - Limits of the conditions.
      - C(transaction_age_s) is the maximum age of an open transaction in seconds, 60 by default.
      - C(server_space_mb) is the free space in MiB that the server must have in addition to what the plan needs, 256 by default.
      - C(replica_lag_bytes) is the maximum lag of a replica in bytes of WAL, 67108864 by default.
      - C(replica_lag_s) is the maximum lag of a replica in seconds, 60 by default.
    type: dict
    default: {}
  plan:
    description: The plan as M(incomex.phasegate.phase_plan) returns it.
    type: dict
  plan_sha256:
    description: The plan's SHA-256 as M(incomex.phasegate.phase_plan) returns it.
    type: str
  source:
    description:
      - Path of C(phase.yml) or C(plan.json) on the controller as M(incomex.phasegate.phase_plan) returns it. Required with
        O(plan).
      - The action copies the SQL beside it to the target, where it is frozen in the run directory below C(sql/) (C-05), and
        the reviewers' signatures and notes beside C(plan.json).
    type: path
  reviews:
    description: >-
      Paths of the reviews of the required phases on the controller, as M(incomex.phasegate.phase_plan) returns them. The action
      copies the signatures and notes beside them.
    type: list
    elements: path
    default: []
  files:
    description: The directory on the target with the copied files. Set by the action; a value given here is ignored.
    type: path
  task:
    description:
      - What the journal records of the task that opens the run, so that the callback P(incomex.phasegate.board#callback) shows this
        run and no other one. Set by the action; a value given here is ignored.
    type: str
  seal_key:
    description: >-
      Path of the key that will sign the seal, as in O(incomex.phasegate.run_seal#module:seal_key). The run is not opened if this
      key cannot sign.
    type: path
  timestamp_url:
    description: >-
      URL of the time-stamp authority of the seal, as in O(incomex.phasegate.run_seal#module:timestamp_url). The run is not opened if it is no such
      URL, or without C(openssl) on this host. The authority is not asked yet.
    type: str
"""
