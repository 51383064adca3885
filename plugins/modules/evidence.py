#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open, seal and verify the evidence of a run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Open, seal and verify the artefact directory of a run
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - V(open) makes C(<root>/<phase>_<environment>_<UTC stamp>/) with the plan, a hash-chained journal and the frozen SQL (C-05),
    after it made sure that the target is the declared one. When a run of the same DDL has committed on this database
    before, that run is returned.
    Where reviewers are registered, and for a plan that was rehearsed or requires other phases, every gate is judged that
    needs neither the backup nor the transaction; M(incomex.phasegate.migrate) judges them again.
  - It takes this database's lock (G-7), which a process on the target host holds until the run is sealed, and fails when
    another run has it, naming that run and who opened it. A rehearsal changes nothing there and takes no lock.
  - V(sealed) builds C(SUMMARY.txt), C(report.md) and C(report.json) from the journal, and writes C(SHA256SUMS) last. It fails
    when the run did not end in success, after sealing, so that the failure is in the bundle and on the operator's screen.
    With O(reason) it always fails, in check mode too.
  - V(verified) checks a sealed bundle, without a database.
extends_documentation_fragment:
  - incomex.phasegate.connection
  - incomex.phasegate.connection.identity
attributes:
  check_mode:
    support: full
    description:
      - Nothing is written; O(artefacts) is returned empty for V(open). Of the phases that the plan requires only the evidence
        is looked at.
  diff_mode:
    support: none
    description: There is nothing to compare.
  idempotent:
    support: partial
    description: Depends on O(state).
    details: V(open) makes a new directory unless the phase is applied; V(sealed) leaves a sealed directory as it is.
options:
  database:
    description: Name of the database; needed for O(state=open) only.
    required: false
  state:
    description: What the directory shall be.
    type: str
    choices: [open, sealed, verified]
    required: true
  root:
    description: Directory of all runs on the target host; for O(state=open), and O(state=sealed) without O(artefacts).
    type: path
  environment:
    description: Short name of the environment, part of the directory's name.
    type: str
  inventory_name:
    description: The target's name in the inventory, for the report.
    type: str
    default: ''
  inventory_sources:
    description: Where the inventory comes from (C(ansible_inventory_sources)), for the command that would roll back.
    type: list
    elements: str
    default: []
  operator:
    description: Who opens the run and from where, for O(state=open). A second operator is told it, and it stands in the report.
    type: str
    default: ''
  lock_idle:
    description:
      - After how many seconds without a sign of life of the run its lock ends by itself, for O(state=open). A sign of life
        is a step at work or a line in the journal.
      - A run that has the lock and shows none is waited for that long.
    type: int
    default: 60
  phase:
    description: Slug of the phase, for a failure before there is a plan. With O(plan) it is the plan's.
    type: str
  plan:
    description: The plan as M(incomex.phasegate.phase_plan) returns it.
    type: dict
  plan_sha256:
    description: The plan's SHA-256 as M(incomex.phasegate.phase_plan) returns it.
    type: str
    default: ''
  ddl_b64:
    description: The DDL's bytes as M(incomex.phasegate.phase_plan) returns them, frozen below C(sql/) (C-05). Needed with O(plan).
    type: str
  rollback_b64:
    description: The rollback SQL's bytes, likewise.
    type: str
  kind:
    description:
      - What the run is for, for O(state=open). V(rehearsal) never changes the target itself.
      - With O(execution) the run is a rollback.
    type: str
    choices: [execute, rehearsal]
    default: execute
  execution:
    description:
      - The sealed artefact directory of the execution that is to be rolled back, for O(state=open).
      - The plan and the rollback SQL are taken from there, after its seal was checked.
    type: path
  confirm:
    description: The name of the directory in O(execution), as the operator typed it. Without it nothing is opened.
    type: str
    default: ''
  signatures_b64:
    description: The reviewers' signatures over the plan as M(incomex.phasegate.phase_plan) returns them.
    type: dict
    default: {}
  notes_b64:
    description: The reviewers' notes as M(incomex.phasegate.phase_plan) returns them.
    type: dict
    default: {}
  reviews_b64:
    description: The reviews of the phases that this one requires, as M(incomex.phasegate.phase_plan) returns them.
    type: dict
    default: {}
  artefacts:
    description: The artefact directory, for O(state=sealed) and O(state=verified).
    type: path
  reason:
    description: Why the run ended, when a step outside of phasegate's modules stopped it.
    type: str
    default: ''
  seal_key:
    description:
      - Path, on the target host, of an SSH key without a passphrase, for O(state=sealed). The seal is signed with it, in the
        namespace C(seal@phasegate.incomex), into C(SHA256SUMS.sig). Without it the seal is V(UNSIGNED).
    type: path
  allowed_signers:
    description:
      - Path of the auditor's list of those who may sign a seal, in the format of ssh-keygen(1), for O(state=verified). With it
        a seal that is unsigned, or was signed by anybody else, does not verify.
    type: path
"""

EXAMPLES = r"""
- name: Open a run
  incomex.phasegate.evidence:
    state: open
    container: postgres
    database: directus
    root: /var/lib/phasegate
    environment: prod
    plan: "{{ phase.plan }}"
    plan_sha256: "{{ phase.plan_sha256 }}"
    ddl_b64: "{{ phase.ddl_b64 }}"
    rollback_b64: "{{ phase.rollback_b64 }}"
  register: run

- name: Seal it
  incomex.phasegate.evidence:
    state: sealed
    artefacts: "{{ run.artefacts }}"

- name: Audit a bundle
  incomex.phasegate.evidence:
    state: verified
    artefacts: /var/lib/phasegate/alpha_prod_20260516T031200Z
"""

RETURN = r"""
artefacts:
  description: The artefact directory. Empty in check mode when none exists.
  returned: always
  type: str
applied:
  description: Whether an earlier run committed the same DDL on this database; then O(artefacts) is that run's.
  returned: for O(state=open)
  type: bool
incomplete:
  description:
    - Whether that run left statements that run after COMMIT, for M(incomex.phasegate.migrate) to go on with.
    - When it is sealed, O(artefacts) is an open copy of it.
  returned: for O(state=open)
  type: bool
sealed:
  description: Whether the directory is sealed.
  returned: for O(state=open)
  type: bool
plan:
  description: The plan of the execution.
  returned: for O(state=open) with O(execution)
  type: dict
identity:
  description: Who the server is.
  returned: for O(state=open)
  type: dict
outcome:
  description: How the run ended.
  returned: for O(state=sealed)
  type: str
summary:
  description: The lines of C(SUMMARY.txt). On failure they are the message.
  returned: for O(state=sealed), success
  type: list
  elements: str
report:
  description: Path of C(report.md).
  returned: for O(state=sealed)
  type: str
seal:
  description: SHA-256 of C(SHA256SUMS).
  returned: for O(state=sealed) and O(state=verified)
  type: str
signature:
  description: Fingerprint of the key that signed the seal, or V(UNSIGNED). It is verified with O(allowed_signers) only.
  returned: for O(state=sealed) and O(state=verified)
  type: str
findings:
  description: What is wrong with the bundle; empty when it is intact.
  returned: for O(state=verified)
  type: list
  elements: str
"""

import base64
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.incomex.phasegate.plugins.module_utils import _approvals, _lock, _report, _runs, _seal
from ansible_collections.incomex.phasegate.plugins.module_utils._client import CONNECTION_ARGUMENTS, Client
from ansible_collections.incomex.phasegate.plugins.module_utils._errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._evidence import (
    SEAL,
    Artefacts,
    file_error,
    sha256_file,
    verify,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._gates import PASS, Gate, failed, stop_at
from ansible_collections.incomex.phasegate.plugins.module_utils._identity import (
    IDENTITY_ARGUMENT,
    Identity,
    read_identity,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._lock import Held
from ansible_collections.incomex.phasegate.plugins.module_utils._plan import canonical_json, digest
from ansible_collections.incomex.phasegate.plugins.module_utils._required import require_evidence, write_reviews
from ansible_collections.incomex.phasegate.plugins.module_utils._reviewers import find_anchor
from ansible_collections.incomex.phasegate.plugins.module_utils._session import Session


def opened(client: Client, params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Open a run, or find the one that applied this DDL already."""
    _runs.require_place(params["root"], params["environment"])
    found = digest(canonical_json(params["plan"])) if params["plan"] else ""
    if params["plan_sha256"] not in ("", found):
        raise PhaseGateError(
            "This is not the plan that was validated.",
            expected=f"SHA-256 {params['plan_sha256']}",
            found=f"SHA-256 {found}",
            next_step="give plan and plan_sha256 as one result of phase_plan",
        )
    files = {part: base64.b64decode(params[f"{part}_b64"] or "") for part in ("ddl", "rollback")}
    # the session goes on to hold the run's lock, so its psql must not end with this module
    with client.session("phasegate:open", detached=True) as session:
        identity = read_identity(session, client)
        about = {
            "kind": _runs.EXECUTE,
            "environment": params["environment"],
            "host": params["inventory_name"],
            "inventory": params["inventory_sources"],
            "operator": params["operator"],
            "plan_sha256": found,
            "identity": identity.as_dict(),
        }
        result = {
            "changed": True,
            "applied": False,
            "incomplete": False,
            "sealed": False,
            "identity": identity.as_dict(),
            "artefacts": "",
        }
        if params["kind"] == _runs.REHEARSAL:
            about.update(kind=_runs.REHEARSAL, **_runs.source_of(session))
            if not check_mode:
                declared = params["identity"] or {}
                result["artefacts"] = _runs.open_run(params["root"], params["plan"], about, declared, files).path
            return result
        return {**result, **_opened_alone(session, client, params, about, identity, files, check_mode=check_mode)}


def _opened_alone(
    session: Session,
    client: Client,
    params: dict[str, Any],
    about: dict[str, Any],
    identity: Identity,
    files: dict[str, bytes],
    *,
    check_mode: bool,
) -> dict[str, Any]:
    """Open an execution or a rollback under this database's lock, and return what differs from a new run's result."""
    root, declared, plan = params["root"], params["identity"] or {}, params["plan"]
    found: dict[str, Any] = {}
    execution = Artefacts(params["execution"]) if params["execution"] else None
    if execution:
        plan = found["plan"] = _runs.plan_of_execution(execution, identity)
        _runs.require_confirmation(execution, params["confirm"])
        about.update(kind=_runs.ROLLBACK, execution=_runs.name_of(execution))
    lock: Held | Gate | None = None
    if not check_mode and _runs.of_target(about["kind"], plan, declared, identity).status == PASS:
        lock = _lock.acquire(session, root, params["lock_idle"])
    if not execution and not isinstance(lock, Gate):
        applied = _runs.find_applied(client, root, params["environment"], plan, identity)
        if applied:
            return _adopted(session, params, applied, lock)
    if check_mode:
        if not execution:
            require_evidence(root, plan["phase"]["requires"], identity)
        return found
    alone = isinstance(lock, Held)
    about["closed"] = _runs.close_broken(root, params["environment"], plan, identity) if alone else []
    if execution:
        with open(execution.file(f"sql/{plan['rollback']['file']}"), "rb") as stream:
            files = {"rollback": stream.read()}
    artefacts = _runs.open_run(root, plan, about, declared, files, lock)
    if not execution:
        with _runs.opening_of(artefacts):
            _approvals.write_beside(artefacts.file("plan.json"), params["signatures_b64"], params["notes_b64"])
            write_reviews(artefacts, params["reviews_b64"])
            judge_early(session, params, artefacts, identity)
    _lock.keep(session, artefacts, params["lock_idle"], params["operator"])
    return {**found, "artefacts": artefacts.path}


def _adopted(session: Session, params: dict[str, Any], applied: Artefacts, lock: Held | None) -> dict[str, Any]:
    """Return what differs from a new run's result when an earlier run committed this DDL; ``lock`` is None in check mode.

    A run that has to be finished goes on under this lock; one that is sealed and complete is only read.
    """
    incomplete = _runs.incomplete(applied)
    if incomplete and applied.sealed and lock:
        applied = _runs.reopen(applied, params["root"])
    if lock and not applied.sealed:
        applied.journal.append("run", "lock", {"lock": lock.as_dict()})
        _lock.keep(session, applied, params["lock_idle"], params["operator"])
    about_it = {"applied": True, "incomplete": incomplete, "sealed": applied.sealed, "artefacts": applied.path}
    return {"changed": incomplete, **about_it}


def judge_early(session: Session, params: dict[str, Any], artefacts: Artefacts, identity: Identity) -> None:
    """Judge what follows from the plan, before a backup is made in vain. C-07 judges it again. Raises ``PhaseGateError``.

    A plan that was not rehearsed, requires nothing and needs no approval has nothing of it that fails.
    """
    plan = params["plan"]
    if "rehearsal" not in plan and not plan["phase"]["requires"] and find_anchor(identity.system_identifier) is None:
        return
    # not at the top: it needs half of the collection, and neither sealing nor verifying needs any of it
    from ansible_collections.incomex.phasegate.plugins.module_utils import _execute, _snapshot  # noqa: PLC0415

    request = _execute.Request(plan, b"", artefacts, params["identity"] or {}, max_backup_age=0, lock_attempts=1)
    gates = _execute.plan_gates(session, request, identity, _snapshot.take(session))
    if failed(gates):
        artefacts.journal.append("run", "judged", {"gates": [gate.as_dict() for gate in gates]})
    stop_at(gates)


def sealed(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Seal a run; a run that never got a directory gets one that holds its reason."""
    artefacts = Artefacts(params["artefacts"]) if params["artefacts"] else None
    changed = artefacts is None or not artefacts.sealed
    if check_mode and changed:
        return {
            "changed": True,
            "artefacts": params["artefacts"] or "",
            "outcome": "",
            "summary": [],
            "report": "",
            "signature": "",
        }
    if artefacts is None:
        _runs.require_place(params["root"], params["environment"] or "")
        artefacts = _runs.new_directory(params["root"], f"{params['phase']}_{params['environment']}")
        about = {"phase": params["phase"], "environment": params["environment"], "host": params["inventory_name"]}
        artefacts.journal.append("run", "not opened", about)
    waiting = _runs.unfinished(artefacts) if params["reason"] else None
    if waiting:
        raise waiting
    report = _runs.seal(artefacts, params["reason"])
    # a bundle that somebody changed since is not made to look right
    if params.get("seal_key") and (changed or not verify(artefacts.path)):
        changed = changed or _seal.signature_of(artefacts) == _seal.UNSIGNED
        if not check_mode:
            _seal.sign_seal(artefacts, params["seal_key"])
    return {
        "changed": changed,
        "artefacts": artefacts.path,
        "outcome": report["outcome"],
        "summary": _report.summary(report).splitlines(),
        "report": artefacts.file("report.md"),
        "seal": sha256_file(artefacts.file(SEAL)),
        "signature": _seal.signature_of(artefacts),
    }


def findings_of(path: str, allowed_signers: str | None) -> list[str]:
    """Return what is wrong with a bundle, and with its signature when the auditor says whose it may be."""
    findings = verify(path)
    if allowed_signers and not findings:
        findings = list(_seal.judge_seal(Artefacts(path), allowed_signers))[:1]
    return findings


def verified(path: str, allowed_signers: str | None) -> dict[str, Any]:
    """Check a bundle. Raises ``PhaseGateError`` naming every finding."""
    findings = findings_of(path, allowed_signers)
    if findings:
        raise PhaseGateError(
            f"The bundle {path} does not verify.",
            expected=f"every file as {SEAL} lists it, an unbroken journal"
            + (f", and a signature of the seal by somebody in {allowed_signers}" if allowed_signers else ""),
            found="; ".join(findings),
            next_step="do not rely on this bundle; compare it with another copy and find out who changed it",
        )
    artefacts = Artefacts(path)
    return {
        "changed": False,
        "artefacts": path,
        "findings": [],
        "seal": sha256_file(artefacts.file(SEAL)),
        "signature": _seal.signature_of(artefacts),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "database": {"type": "str"},
            "identity": IDENTITY_ARGUMENT,
            "state": {"type": "str", "choices": ["open", "sealed", "verified"], "required": True},
            "root": {"type": "path"},
            "environment": {"type": "str"},
            "inventory_name": {"type": "str", "default": ""},
            "inventory_sources": {"type": "list", "elements": "str", "default": []},
            "operator": {"type": "str", "default": ""},
            "lock_idle": {"type": "int", "default": 60},
            "phase": {"type": "str"},
            "plan": {"type": "dict"},
            "plan_sha256": {"type": "str", "default": ""},
            "ddl_b64": {"type": "str"},
            "rollback_b64": {"type": "str"},
            "signatures_b64": {"type": "dict", "default": {}},
            "notes_b64": {"type": "dict", "default": {}},
            "reviews_b64": {"type": "dict", "default": {}},
            "kind": {"type": "str", "choices": [_runs.EXECUTE, _runs.REHEARSAL], "default": _runs.EXECUTE},
            "execution": {"type": "path"},
            "confirm": {"type": "str", "default": ""},
            "artefacts": {"type": "path"},
            "reason": {"type": "str", "default": ""},
            "seal_key": {"type": "path", "no_log": False},
            "allowed_signers": {"type": "path"},
        },
        required_if=[
            ("state", "open", ["database", "root", "environment"]),
            ("state", "open", ["plan", "execution"], True),
            ("state", "verified", ["artefacts"]),
            ("state", "sealed", ["artefacts", "root"], True),
        ],
        required_together=[("plan", "ddl_b64", "rollback_b64")],
        supports_check_mode=True,
    )
    params = module.params
    try:
        if params["state"] == "open":
            result = opened(Client.from_params(params), params, check_mode=module.check_mode)
        elif params["state"] == "sealed":
            result = sealed(params, check_mode=module.check_mode)
        else:
            result = verified(params["artefacts"], params["allowed_signers"])
    except OSError as error:
        problem = _runs.not_sealed(params["artefacts"], error) if params["state"] == "sealed" else file_error(error)
        module.fail_json(msg=str(problem))
    except _runs.NotOpened as error:
        module.fail_json(msg=str(error), artefacts=error.artefacts.path)
    except PhaseGateError as error:
        verifying = params["state"] == "verified"
        findings = findings_of(params["artefacts"], params["allowed_signers"]) if verifying else []
        module.fail_json(msg=str(error), findings=findings)
    else:
        if params["state"] == "sealed" and (params["reason"] or result["outcome"] not in ("", _report.SUCCESS)):
            lines = (
                [*result.pop("summary"), f"report        {result['report']}"]
                if result["report"]
                else [params["reason"]]
            )
            module.fail_json(msg="\n".join(lines), **result)
        module.exit_json(**result)


if __name__ == "__main__":
    main()
