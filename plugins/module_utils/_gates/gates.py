# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The eleven safety gates G-1 ... G-11: each a pure evaluation of facts that were gathered elsewhere.

The module that changes the database gathers the facts itself and evaluates all gates in one place; the earlier
checks of a playbook only make a failure early and readable.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._checks.checks import (
    CheckResult,
    check_summary,
    failed_checks,
    named_check,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError, Stopped
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import kind_allowed
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.identity import (
    DECLARABLE,
    Identity,
    Mismatch,
    mismatches,
)

GATE_TITLES = {
    "G-1": "enough reviewers approved this exact plan",
    "G-2": "backup is fresh by the server's clock",
    "G-3": "the SQL to run matches its pinned SHA-256",
    "G-4": "target matches the declared cluster",
    "G-5": "backup is restorable",
    "G-6": "every preflight check passed in this run",
    "G-7": "no other run holds this database",
    "G-8": "every statement is within the declared scope",
    "G-9": "rollback SQL is present, pinned and rehearsed",
    "G-10": "this DDL was rehearsed on production's schema",
    "G-11": "no unexpected step ran; required phases are in place",
}


@dataclass(frozen=True)
class Gate:
    """One evaluated gate. ``status`` is PASS, FAIL, NOT ENFORCED, NOT REACHED or N/A; the texts are for people.

    ``approvals`` are the signatures that G-1 was evaluated from, as ``Approval.as_dict`` returns them; empty for others.
    """

    id: str
    status: GateStatus
    expected: str
    found: str
    next_step: str = ""
    approvals: tuple[Mapping[str, Any], ...] = ()

    @property
    def title(self) -> str:
        """Return the title of the gate."""
        return GATE_TITLES[self.id]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the title as a plain mapping; without ``approvals`` where there are none."""
        fields = asdict(self)
        fields["approvals"] = list(fields["approvals"])
        return {
            **{name: value for name, value in fields.items() if name != "approvals" or value},
            "status": self.status.value,
            "title": self.title,
        }


@dataclass(frozen=True)
class RehearsalRecord:
    """What the sealed bundle of a plan's rehearsal shows on this host.

    ``unusable`` says why it proves nothing: missing, damaged, another one, not signed as required. ``ddl`` and ``rollback`` are how
    it contradicts the plan. ``required``: approvals are required on this cluster, so a plan without this record fails. ``signature``
    is the fingerprint of the key that its seal claims, or UNSIGNED.
    """

    unusable: Sequence[str] = ()
    ddl: Sequence[str] = ()
    rollback: Sequence[str] = ()
    required: bool = False
    signature: str = ""

    def gate(self, passed: Gate, bundle: str, contradictions: Sequence[str], told: str = "") -> Gate:
        """Return ``passed``, or what this record makes of it; ``told`` is a remark that is kept."""
        if passed.status != GateStatus.PASS or not (self.unusable or contradictions):
            found = f"{passed.found}; seal of {bundle} {self.signature}" if self.signature else passed.found
            return replace(passed, found=found) if passed.status == GateStatus.PASS else passed
        status = GateStatus.FAIL if contradictions or self.required else GateStatus.NOT_ENFORCED
        next_step = (
            "copy the untouched bundle of the rehearsal back below the root of this host's runs, or rehearse again"
            if self.unusable
            else "find out who changed the plan or the bundle; do not execute this plan, rehearse again"
        )
        return replace(
            passed,
            status=status,
            expected=f"{passed.expected}, as the sealed bundle {bundle} records it",
            found="; ".join([*self.unusable, *contradictions, *([told] if told else [])]),
            next_step=next_step if status == GateStatus.FAIL else "",
        )


def make_gate(gate: str, holds: bool, expected: str, found: str, next_step: str) -> Gate:
    """Return PASS or, with its next step, FAIL."""
    return Gate(gate, GateStatus.PASS if holds else GateStatus.FAIL, expected, found, "" if holds else next_step)


def never_rehearsed_gate(reviewers: str) -> Gate:
    """G-1 for a plan that comes from phase.yml alone, on a cluster whose reviewers are registered in ``reviewers``."""
    return make_gate(
        "G-1",
        False,
        f"a rehearsed plan with the signatures of enough reviewers of {reviewers}",
        "a phase that was not rehearsed, so it cannot have been approved",
        "rehearse the phase, have plan.json signed, and execute it with phasegate_plan",
    )


def no_reviewers_gate(place: str) -> Gate:
    """G-1 on a cluster without registered reviewers."""
    found = f"no reviewers are registered for this cluster ({place})"
    return Gate("G-1", GateStatus.NOT_ENFORCED, "signatures over the plan's exact bytes", found)


def expired_plan_gate(not_after: str, now: str) -> Gate:
    """G-1 for a plan that was not executed in time, on a cluster without registered reviewers; both are ISO 8601."""
    return make_gate(
        "G-1", False, f"a plan that may still be executed: not_after {not_after}",
        f"the plan expired: it is {now} by the server's clock", "rehearse again, and execute the new plan",
    )  # fmt: skip


def missing_register_gate(place: str, reasons: Sequence[str], records: Sequence[str]) -> Gate:
    """G-1 on a cluster without registered reviewers that requires approvals; ``reasons`` are phrases that say why."""
    forget = f"; if approvals are no longer wanted, root removes {', '.join(records)}" if records else ""
    return make_gate(
        "G-1", False, f"a register of reviewers in {place}",
        f"no reviewers are registered for this cluster, although {'; '.join(reasons)}",
        f"restore the register as root{forget}",
    )  # fmt: skip


def backup_fresh_gate(started_epoch: float | None, now_epoch: float, max_age: int) -> Gate:
    """G-2: ages in seconds, both instants by the database server's clock; a backup from the future fails."""
    expected = f"a backup at most {max_age} s old"
    next_step = "start a new run, which makes a new backup (C-01)"
    if started_epoch is None:
        return make_gate("G-2", False, expected, "no backup in this run", next_step)
    age = now_epoch - started_epoch
    found = f"{age:.1f} s old" if age >= 0 else f"a backup {-age:.1f} s in the future"
    return make_gate("G-2", 0 <= age <= max_age, expected, found, next_step)


def digest_gate(required: str, found: str) -> Gate:
    """G-3: SHA-256 of the buffer to run."""
    return make_gate(
        "G-3", required == found, f"SHA-256 {required}", f"SHA-256 {found}",
        "find out who changed the file; a changed file is a new revision that needs its own rehearsal and review",
    )  # fmt: skip


def target_is_declared(wrong: Sequence[Mismatch], found: str, undeclared: Sequence[str]) -> Gate:
    """G-4: no declared fact is contradicted. Facts that the inventory leaves out are reported, not assumed."""
    expected = "; ".join(f"{m.name} {m.expected}" for m in wrong) or "every declared fact of the target"
    text = "; ".join(f"{m.name} {m.found}" for m in wrong) or found
    if not wrong and undeclared:
        text += f" (not declared in the inventory: {', '.join(undeclared)})"
    inventory = "check the inventory: this cluster, container, database or role differs from the declared target"
    steps = dict.fromkeys(m.next_step or inventory for m in wrong)
    return make_gate("G-4", not wrong, expected, text, "; ".join(steps))


def restorable_gate(problem: PhaseGateError | None, evidence: str | None) -> Gate:
    """G-5: the backup is the one that was read in full when it was made; ``evidence`` is the proof, None without a backup."""
    expected = "a backup of this run that was read in full, unchanged since"
    next_step = "start a new run, which makes a new backup (C-01)"
    if evidence is None:
        return make_gate("G-5", False, expected, "no backup in this run", next_step)
    if problem is not None:
        return make_gate("G-5", False, problem.expected, problem.found, problem.next_step)
    return make_gate("G-5", True, expected, evidence, next_step)


def preflight_gate(results: Sequence[CheckResult]) -> Gate:
    """G-6: all checks passed, at least one of them was run."""
    failed = failed_checks(results)
    found = check_summary(results) + "".join(
        f"; {named_check(r)} found {r.found}, expected {r.expected}" for r in failed
    )
    return make_gate(
        "G-6", bool(results) and not failed, f"{len(results)}/{len(results)} preflight checks", found,
        "resolve the failed checks; if all objects already exist, the phase may already be applied",
    )  # fmt: skip


def run_lock_gate(lock_held: bool, holder: str, others: Sequence[str], next_step: str = "") -> Gate:
    """G-7: the advisory lock is ours. ``holder`` is the session that has it, '' when none does.

    ``next_step`` is that of a holder which is not known to be a run.

    Other sessions of phasegate are named, but the holder of the lock continues: if two runs stopped because of each
    other, neither would run.
    """
    found = "; ".join([holder, *others] if holder else others)
    next_step = next_step or (
        "wait until the other run ends, or ask its operator; never end its session during C-07. The lock of a run"
        " whose controller was killed is released automatically"
    )
    if lock_held:
        found = holder + (f"; others: {'; '.join(others)}" if others else "; no other session")
    elif not found:
        found = "the lock is not held: the session that held it for this run has ended"
        next_step = (
            "start a new run; if systemd kills the processes of users who log out (KillUserProcesses), exempt this user:"
            " loginctl enable-linger"
        )
    return make_gate("G-7", lock_held, "this database's advisory lock, held by this run", found, next_step)


def scope_gate(kinds: Iterable[str], allowed: Sequence[str]) -> Gate:
    """G-8: every kind of statement in the DDL is one that the scope allows."""
    outside = sorted({kind for kind in kinds if not kind_allowed(kind, allowed)})
    return make_gate(
        "G-8", not outside, "only: " + ", ".join(allowed), ", ".join(outside) or "all within scope",
        "remove the statement from the DDL, or widen scope.statements in phase.yml and have it reviewed",
    )  # fmt: skip


def rollback_ready_gate(
    required: str, found: str | None, rehearsed: str | None, record: RehearsalRecord | None = None
) -> Gate:
    """G-9: present, pinned, and rehearsed with success in the rehearsal of that name; None without a rehearsal.

    ``record`` is what the bundle of the rehearsal shows.
    """
    if found != required:
        return make_gate(
            "G-9", False, f"rollback SQL with SHA-256 {required}", f"SHA-256 {found}" if found else "no rollback SQL",
            "restore the reviewed rollback file; without it there is no reviewed way back",
        )  # fmt: skip
    if rehearsed is None:
        return Gate(
            "G-9", GateStatus.NOT_ENFORCED, "present, pinned and rehearsed", "present and pinned; not rehearsed"
        )
    passed = Gate(
        "G-9",
        GateStatus.PASS,
        "present, pinned and rehearsed",
        f"rehearsed in {rehearsed}, where it restored the schema",
    )
    return record.gate(passed, rehearsed, record.rollback) if record else passed


def no_provenance_gate(policy: str) -> Gate:
    """G-10 for a plan without a rehearsal, whose phase has this diff policy."""
    expected, found = "a rehearsal of this DDL on production's schema", "the phase was not rehearsed"
    if policy == "exact":
        found += ", and its diff policy exact has nothing to compare with"
        return make_gate(
            "G-10", False, expected, found, "rehearse the phase and give its plan, or choose another policy"
        )
    return Gate("G-10", GateStatus.NOT_ENFORCED, expected, found)


def provenance_gate(
    required: str,
    found: str,
    bundle: str,
    difference: str = "",
    server: Sequence[Mismatch] = (),
    told: str = "",
    record: RehearsalRecord | None = None,
) -> Gate:
    """G-10: the normalised fingerprint of the schema now is that of the start of the rehearsal in ``bundle``.

    ``difference`` names what differs where that is known, ``server`` the differing server facts; ``told`` is a remark;
    ``record`` is what the bundle shows.
    """
    schema = required == found
    steps = [] if schema else ["the schema changed since the rehearsal: find out who changed it"]
    steps += (
        ["the server differs from the rehearsal (version, extensions, settings): decide which is correct"]
        if server
        else []
    )
    now = f"normalised fingerprint {found}" + (f": {difference}" if difference else "")
    gate = make_gate(
        "G-10",
        schema and not server,
        "; ".join([f"the schema at the start of {bundle}, normalised fingerprint {required}"]
                  + [f"{one.name} {one.expected}" for one in server]),
        "; ".join([now, *(f"{one.name} {one.found}" for one in server), *([told] if told else [])]),
        "; ".join([*steps, "then rehearse again on a new backup"]),
    )  # fmt: skip
    return record.gate(gate, bundle, record.ddl, told) if record else gate


EXPECTED_COMMANDS = tuple(f"C-0{number}" for number in range(1, 9))


def nothing_else_ran_gate(steps: Iterable[str], further: Sequence[str] = ()) -> Gate:
    """G-11: the journal contains only the commands of the phase and the run's own opening and closing.

    ``further`` is C-09 in a run that is a rollback.
    """
    outside = sorted({step for step in steps if step not in (*EXPECTED_COMMANDS, *further, "run")})
    return make_gate(
        "G-11", not outside, "C-01 ... C-08 only", ", ".join(outside) or "nothing else ran",
        "find out what else wrote to this run's journal before you rely on it",
    )  # fmt: skip


def no_evidence_gate(phase: str, root: str, found: str) -> Gate:
    """G-11 of a phase that requires another one, of which there is no sealed evidence on this database."""
    return make_gate(
        "G-11", False, f"sealed evidence below {root} that {phase} is applied to this database", found,
        f"execute {phase} first, or copy its untouched artefact directory back to this host",
    )  # fmt: skip


def combine_gates(gates: Sequence[Gate]) -> Gate:
    """Combine several results of one gate: it fails when one of them fails, and passes when all pass."""
    worst = min(
        gates, key=lambda gate: (GateStatus.FAIL, GateStatus.NOT_ENFORCED, GateStatus.PASS).index(gate.status)
    ).status
    texts = {
        name: "; ".join(filter(None, (getattr(gate, name) for gate in gates)))
        for name in ("expected", "found", "next_step")
    }
    return Gate(gates[0].id, worst, texts["expected"], texts["found"], texts["next_step"])


def not_reached_gates(ids: Iterable[str]) -> list[Gate]:
    """Return gates that were not evaluated."""
    return [Gate(gate, GateStatus.NOT_REACHED, GATE_TITLES[gate], "not reached") for gate in ids]


def gates_without_meaning_for_rollback() -> list[Gate]:
    """Return the gates that do not apply to a rollback."""
    return [
        Gate(
            "G-6",
            GateStatus.NOT_APPLICABLE,
            "no preflight",
            "a rollback has none; before COMMIT the schema is compared instead",
        ),
        Gate(
            "G-10",
            GateStatus.NOT_APPLICABLE,
            "no provenance",
            "a rollback commits only if the schema is as before the execution",
        ),
    ]


def failed_gates(gates: Iterable[Gate]) -> list[Gate]:
    """Return the gates that failed."""
    return [gate for gate in gates if gate.status == GateStatus.FAIL]


def gate_order(gate: Gate) -> int:
    """Return the number of a gate, to sort by."""
    return int(gate.id[2:])


def format_gate_table(gates: Iterable[Gate]) -> str:
    """Return one line a gate: id, status, title."""
    return "".join(f"{gate.id:<5} {gate.status:<13} {gate.title}\n" for gate in gates)


def target_gate(
    declared: Mapping[str, Any], identity: Identity, wrong: Sequence[Mismatch] = (), *, pinned: bool = False
) -> Gate:
    """G-4, with the mismatches ``wrong`` of the target.

    ``pinned``: it was compared with the target that a rehearsed plan, or the execution to undo, records. Otherwise an
    inventory that declares nothing fails, because nothing was compared.
    """
    all_wrong = [*mismatches(declared, identity), *wrong]
    if not pinned and not all_wrong and not any(declared.get(name) for name in DECLARABLE):
        return make_gate(
            "G-4", False, "an identity declared in the inventory: at least one of " + ", ".join(DECLARABLE),
            f"none, so {identity.describe()} cannot be distinguished from any other target",
            "declare phasegate_identity for the target in the inventory, above all its system_identifier",
        )  # fmt: skip
    undeclared = [
        name for name in ("database", "user", "server_version", "system_identifier") if not declared.get(name)
    ]
    return target_is_declared(all_wrong, identity.describe(), undeclared)


def gate_stop(gates: Sequence[Gate]) -> Stopped:
    """Return the error that names these failed gates."""
    return Stopped(
        "Stopped at " + ", ".join(f"{gate.id} ({gate.title})" for gate in gates) + ".",
        expected="; ".join(f"{gate.id} {gate.expected}" for gate in gates),
        found="; ".join(f"{gate.id} {gate.found}" for gate in gates),
        next_step="; ".join(f"{gate.id} {gate.next_step}" for gate in gates),
    )


def stop_at_gates(gates: Sequence[Gate]) -> None:
    """Raise ``Stopped`` naming every failed gate, when one failed."""
    wrong = failed_gates(gates)
    if wrong:
        raise gate_stop(wrong)
