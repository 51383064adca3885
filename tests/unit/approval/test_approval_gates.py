# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures by real keys: what counts, and that everything else is rejected with a message of its own."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.approval_gates import (
    Approvals,
    SignatureStatus,
    evaluate_plan_approvals,
    evaluate_rollback_approvals,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.register import (
    Anchor,
    _first_anchor,
    find_anchor,
    read_anchor,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._approval.requests import (
    NOTES_NAMESPACE,
    PLAN_NAMESPACE,
    ROLLBACK_NAMESPACE,
    AcceptedLoss,
    notes_header,
    rollback_request,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import sha256_bytes
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import GateStatus
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import parse_allowed_signers
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature import holds, sign
from ansible_collections.incomex.phasegate.tests.support.reviewers import (
    NOW,
    SYSTEM_IDENTIFIER,
    Reviewer,
    agent,
    asking,
    plan_bytes,
    register,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN = plan_bytes()
OTHER_PLAN = plan_bytes(nonce="ffffffffffffffffffffffffffffffff")
AUTHOR = "huyen"
NOT_AFTER = "2026-05-19T03:12:00Z"


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


@dataclass(frozen=True)
class World:
    """Four reviewers, of whom eve is nobody here, and the register that knows the others."""

    anna: Reviewer
    ben: Reviewer
    huyen: Reviewer
    eve: Reviewer
    anchor: Anchor

    def signed(self, *reviewers: Reviewer, plan: bytes = PLAN) -> dict[str, bytes]:
        return {one.name: one.sign(plan) for one in reviewers}

    def judge(self, signatures: dict[str, bytes], **changes: Any) -> Approvals:
        arguments: dict[str, Any] = {
            "plan_bytes": PLAN,
            "signatures": signatures,
            "notes": {},
            "anchor": self.anchor,
            "author": AUTHOR,
            "not_after": NOT_AFTER,
            "now": at(NOW),
        }
        return evaluate_plan_approvals(**{**arguments, **changes})

    def with_lines(self, *lines: str, **policy: Any) -> Anchor:
        text = "".join(lines).encode()
        return replace(self.anchor, allowed_signers=text, signers=parse_allowed_signers(text), **policy)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    keys = tmp_path_factory.mktemp("keys")
    anna, ben, huyen, eve = (Reviewer.create(keys, name) for name in ("anna", "ben", "huyen", "eve"))
    lines = "# reviewers of the production cluster\n\n" + anna.line() + ben.line() + huyen.line()
    return World(anna, ben, huyen, eve, read_anchor(str(register(keys / "register", lines))))


# --- enough ----------------------------------------------------------------------------------------------------


def test_two_reviewers_are_enough(world: World) -> None:
    judged = world.judge(world.signed(world.anna, world.ben))
    assert [(one.signer, one.status, one.verdict) for one in judged.verdicts] == [
        ("anna", SignatureStatus.VALID, "PASS"),
        ("ben", SignatureStatus.VALID, "PASS"),
    ]
    assert (judged.gate.id, judged.gate.status) == ("G-1", GateStatus.PASS)
    assert sha256_bytes(PLAN) in judged.gate.expected
    assert all(one.fingerprint in judged.gate.found for one in judged.verdicts)


def test_the_fingerprint_is_what_ssh_keygen_prints(world: World) -> None:
    (approval,) = world.judge(world.signed(world.anna)).verdicts
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-f", f"{world.anna.key}.pub"], capture_output=True, check=True, text=True
    )
    assert approval.fingerprint == printed.stdout.split()[1]


def test_one_reviewer_is_not_enough(world: World) -> None:
    gate = world.judge(world.signed(world.anna)).gate
    assert gate.status == GateStatus.FAIL
    assert gate.found.startswith("1 of 2; anna (PASS, SHA256:")
    assert "1 more of the reviewers" in gate.next_step


def test_none_is_not_enough(world: World) -> None:
    gate = world.judge({}).gate
    assert (gate.status, gate.found) == (GateStatus.FAIL, "0 of 2")


def test_a_rejected_signature_does_not_spoil_enough_good_ones(world: World) -> None:
    judged = world.judge(world.signed(world.anna, world.ben, world.eve))
    assert judged.gate.status == GateStatus.PASS
    assert "rejected: eve: the key SHA256:" in judged.gate.found


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_other_kinds_of_keys(world: World, tmp_path: Path, kind: str) -> None:
    carl = Reviewer.create(tmp_path, "carl", kind)
    judged = world.judge(world.signed(carl), anchor=world.with_lines(carl.line(), threshold=1))
    assert judged.gate.status == GateStatus.PASS


def test_the_register_sets_the_threshold(world: World) -> None:
    signatures = world.signed(world.anna)
    assert world.judge(signatures, anchor=replace(world.anchor, threshold=1)).gate.status == GateStatus.PASS
    both = world.signed(world.anna, world.ben)
    assert world.judge(both, anchor=replace(world.anchor, threshold=3)).gate.status == GateStatus.FAIL


def test_the_label_of_a_signature_decides_nothing(world: World) -> None:
    judged = world.judge({"ben": world.anna.sign(PLAN), "zoe": world.ben.sign(PLAN)})
    assert [one.signer for one in judged.verdicts] == ["anna", "ben"]
    assert judged.gate.status == GateStatus.PASS


def test_the_author_may_approve_where_the_register_says_so(world: World) -> None:
    anchor = replace(world.anchor, author_may_approve=True)
    assert world.judge(world.signed(world.anna, world.huyen), anchor=anchor).gate.status == GateStatus.PASS


# --- rejections ------------------------------------------------------------------------------------------------


def damaged(signature: bytes) -> bytes:
    """Change one character in the middle of the armor's last line of Base64."""
    lines = signature.split(b"\n")
    line = bytearray(lines[-4])
    line[10] = ord("A") if line[10] != ord("A") else ord("B")
    return b"\n".join([*lines[:-4], bytes(line), *lines[-3:]])


def changed_plan() -> bytes:
    """Return the plan with one hexadecimal digit of the DDL's digest changed: still canonical, still valid."""
    digit = PLAN.index(b'"ddl":{') + PLAN[PLAN.index(b'"ddl":{') :].index(b'"sha256":"') + 10
    return PLAN[:digit] + (b"0" if PLAN[digit : digit + 1] != b"0" else b"1") + PLAN[digit + 1 :]


def revoked_by_krl(world: World, directory: Path) -> bytes:
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(directory / "krl"), f"{world.anna.key}.pub"], check=True)
    return (directory / "krl").read_bytes()


# Each row: what anna hands in beside ben's good approval, and what the judgement is about.
REJECTIONS: dict[SignatureStatus, tuple[Callable[[World, Path], tuple[dict[str, bytes], dict[str, Any]]], str]] = {
    SignatureStatus.SAME_KEY: (
        lambda w, _: (w.signed(w.anna) | {"carl": w.anna.sign(PLAN)}, {"anchor": replace(w.anchor, threshold=3)}),
        "anna: the key SHA256:… has already approved as anna",
    ),
    SignatureStatus.SAME_PERSON: (
        lambda w, _: (
            w.signed(w.anna, w.eve),
            {"anchor": w.with_lines(w.anna.line(), w.ben.line(), w.eve.line(names="anna"), threshold=3)},
        ),
        "anna: anna is the same person and has already approved with key SHA256:…",
    ),
    SignatureStatus.AUTHOR: (
        lambda w, _: (w.signed(w.huyen), {}),
        "huyen: huyen is the plan's author and cannot approve it",
    ),
    SignatureStatus.PLAN_EXPIRED: (
        lambda w, _: (w.signed(w.anna), {"now": at("2026-05-19T03:12:01Z")}),
        "anna: the approval expired with the plan at 2026-05-19T03:12:00+00:00",
    ),
    SignatureStatus.SIGNER_EXPIRED: (
        lambda w, _: (
            w.signed(w.anna),
            {"anchor": w.with_lines(w.anna.line('valid-before="20260516035959"'), w.ben.line())},
        ),
        "anna: the key expired at 2026-05-16T03:59:59+00:00",
    ),
    SignatureStatus.NOT_YET_VALID: (
        lambda w, _: (
            w.signed(w.anna),
            {"anchor": w.with_lines(w.anna.line('valid-after="202605160401Z"'), w.ben.line())},
        ),
        "anna: the key is not valid before 2026-05-16T04:01:00+00:00",
    ),
    SignatureStatus.NOT_ALLOWED: (
        lambda w, _: (w.signed(w.anna), {"anchor": w.with_lines(w.anna.line('namespaces="git,file"'), w.ben.line())}),
        "anna: the key is registered for git, file but not for plan@phasegate.incomex",
    ),
    SignatureStatus.REVOKED: (
        lambda w, _: (w.signed(w.anna), {"anchor": replace(w.anchor, revoked_keys=w.anna.public.encode())}),
        "anna: the key SHA256:… was revoked in …/revoked_keys",
    ),
    SignatureStatus.OTHER_NAMESPACE: (
        lambda w, _: ({"anna": w.anna.sign(PLAN, "git")}, {}),
        "anna: signed for another purpose: namespace 'git' instead of plan@phasegate.incomex",
    ),
    SignatureStatus.OTHER_PLAN: (
        lambda w, _: (w.signed(w.anna, plan=OTHER_PLAN), {}),
        f"anna: not a signature over this plan, whose SHA-256 is {sha256_bytes(PLAN)}",
    ),
    SignatureStatus.STRANGER: (
        lambda w, _: (w.signed(w.eve), {}),
        "eve: the key SHA256:… is not registered in …",
    ),
    SignatureStatus.PLAN_CHANGED: (
        lambda w, _: (w.signed(w.anna), {"plan_bytes": changed_plan()}),
        "anna: the signature is invalid, and plan.json was changed: its content has SHA-256 … but it was frozen with …",
    ),
    SignatureStatus.MALFORMED: (
        lambda w, _: ({"anna": w.anna.sign(PLAN)[:-60]}, {}),
        "anna: not an SSH signature, or damaged",
    ),
}


@pytest.mark.parametrize("status", REJECTIONS)
@pytest.mark.fault("approvals")
def test_rejection(world: World, tmp_path: Path, status: SignatureStatus) -> None:
    given, expected = REJECTIONS[status]
    signatures, changes = given(world, tmp_path)
    judged = world.judge({**signatures, "ben": world.ben.sign(PLAN)}, **changes)
    rejected = [one for one in judged.verdicts if one.signer != "ben" and not one.valid]
    assert [one.status for one in rejected] == [status]
    assert rejected[0].verdict == ""
    position = 0
    for part in expected.split("…"):
        position = rejected[0].message.index(part, position) + len(part)
    assert judged.gate.status == GateStatus.FAIL
    assert rejected[0].message in judged.gate.found


def test_every_rejection_has_its_own_words() -> None:
    tested = {*REJECTIONS, SignatureStatus.VALID, SignatureStatus.NOT_JUDGED, SignatureStatus.NOTES}
    assert tested == set(SignatureStatus)
    assert len({words.partition(":")[2] for _, words in REJECTIONS.values()}) == len(REJECTIONS)


def test_a_damaged_signature_does_not_hold(world: World) -> None:
    (approval,) = world.judge({"anna": damaged(world.anna.sign(PLAN))}).verdicts
    assert approval.status is SignatureStatus.OTHER_PLAN


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n",
        b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAv////8=\n-----END SSH SIGNATURE-----\n",
        b"\xff\x00not a signature",
    ],
)
def test_what_is_not_a_signature(world: World, data: bytes) -> None:
    (approval,) = world.judge({"anna": data}).verdicts
    assert (approval.status, approval.fingerprint) == (SignatureStatus.MALFORMED, "")


def test_any_byte_of_the_plan_counts(world: World) -> None:
    signatures = world.signed(world.anna, world.ben)
    for position in range(0, len(PLAN), 997):
        plan = PLAN[:position] + bytes([PLAN[position] ^ 1]) + PLAN[position + 1 :]
        judged = world.judge(signatures, plan_bytes=plan)
        assert judged.gate.status == GateStatus.FAIL
        assert {one.status for one in judged.verdicts} == {SignatureStatus.PLAN_CHANGED}
        assert judged.gate.found.startswith("plan.json was changed: ")


def test_a_plan_that_was_changed_and_then_signed_does_not_pass(world: World) -> None:
    plan = changed_plan()
    judged = world.judge(world.signed(world.anna, world.ben, plan=plan), plan_bytes=plan)
    assert all(one.valid for one in judged.verdicts)
    assert judged.gate.status == GateStatus.FAIL
    assert "it was frozen with" in judged.gate.found


def test_a_key_revoked_by_a_krl(world: World, tmp_path: Path) -> None:
    anchor = replace(world.anchor, revoked_keys=revoked_by_krl(world, tmp_path))
    judged = world.judge(world.signed(world.anna, world.ben), anchor=anchor)
    assert [one.status for one in judged.verdicts] == [SignatureStatus.REVOKED, SignatureStatus.VALID]


def test_an_empty_list_of_revoked_keys(world: World) -> None:
    anchor = replace(world.anchor, revoked_keys=b"")
    assert world.judge(world.signed(world.anna, world.ben), anchor=anchor).gate.status == GateStatus.PASS


@pytest.mark.parametrize("data", [b"SSHKRL\n\0 cut short", b"garbage\n", b"\xff\xfe\0", b"ssh-ed25519 AAAA\n"])
@pytest.mark.fault("revoked-unreadable")
def test_a_list_of_revoked_keys_that_cannot_be_read_lets_nothing_pass(world: World, data: bytes) -> None:
    anchor = replace(world.anchor, revoked_keys=data)
    judged = world.judge(world.signed(world.anna, world.ben), anchor=anchor)
    assert judged.gate.status == GateStatus.FAIL
    assert "is not a list of revoked keys: " in judged.verdicts[0].message
    assert "was revoked" not in judged.gate.found


@pytest.mark.parametrize(
    "author",
    [
        "huyen ",
        " Huyen",
        "HUYEN\t",
        "huy\u0435n",
        "\u04bbuyen",
        "huy\u200ben",
        "hu\uff59en",
        "h\u03c5yen",
        "huy\u00e8n",
    ],
)
@pytest.mark.fault("author-alike")
def test_an_author_does_not_approve_under_another_spelling_of_the_name(world: World, author: str) -> None:
    judged = world.judge(world.signed(world.anna, world.huyen), author=author)
    assert [one.status for one in judged.verdicts] == [SignatureStatus.VALID, SignatureStatus.AUTHOR]
    assert judged.gate.status == GateStatus.FAIL


@pytest.mark.fault("author-alike")
def test_an_author_of_mixed_letters_fails_the_gate_whoever_signs(world: World) -> None:
    judged = world.judge(world.signed(world.anna, world.ben), author="m\u0430x")
    assert judged.gate.status == GateStatus.FAIL
    assert "the author's name is ambiguous: the word" in judged.gate.found


@pytest.mark.fault("author-alike")
def test_a_register_has_no_names_of_other_scripts(world: World) -> None:
    with pytest.raises(PhaseGateError, match="plain names"):
        world.with_lines(world.anna.line(names="\u0430nna"))


def test_the_author_under_another_name_or_key(world: World) -> None:
    second_name = world.with_lines(world.huyen.line(names="huyen,security"), world.anna.line())
    second_key = world.with_lines(world.huyen.line(), world.eve.line(names="huyen"), world.anna.line())
    third = world.with_lines(world.huyen.line(names="Huyen,x"), world.eve.line(names="x"), world.anna.line())
    for anchor, reviewer in ((second_name, world.huyen), (second_key, world.eve), (third, world.eve)):
        (approval,) = world.judge({"security": reviewer.sign(PLAN)}, anchor=anchor).verdicts
        assert approval.status is SignatureStatus.AUTHOR


def test_one_line_with_two_names_is_one_person(world: World) -> None:
    anchor = world.with_lines(world.anna.line(names="anna,anna@work"), world.eve.line(names="anna@work"))
    judged = world.judge({"anna": world.anna.sign(PLAN), "anna@work": world.eve.sign(PLAN)}, anchor=anchor)
    assert [one.status for one in judged.verdicts] == [SignatureStatus.VALID, SignatureStatus.SAME_PERSON]


def test_a_key_on_two_lines_counts_while_one_of_them_holds(world: World) -> None:
    lines = (world.anna.line('valid-before="20260101"', "anna"), world.anna.line('valid-after="20260101"', "anna2"))
    judged = world.judge(world.signed(world.anna), anchor=world.with_lines(*lines, threshold=1))
    assert judged.gate.status == GateStatus.PASS


def test_limits_are_in_utc_on_every_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Ho_Chi_Minh")
    anchor = world.with_lines(world.anna.line('valid-after="202605160359",valid-before="202605160401"'), threshold=1)
    assert world.judge(world.signed(world.anna), anchor=anchor).gate.status == GateStatus.PASS
    assert (
        world.judge(world.signed(world.anna), anchor=anchor, now=at("2026-05-16T04:02:00Z")).gate.status
        == GateStatus.FAIL
    )


@pytest.mark.parametrize("author", ["", " ", "\u2003\u00a0"])
def test_a_plan_without_an_author_passes_nowhere(world: World, author: str) -> None:
    gate = world.judge(world.signed(world.anna, world.ben), author=author).gate
    assert gate.status == GateStatus.FAIL
    assert "does not name its author" in gate.found


@pytest.mark.parametrize("not_after", ["", "tomorrow", "2026-05-19T03:12:00"])
def test_a_plan_without_a_usable_end(world: World, not_after: str) -> None:
    with pytest.raises(PhaseGateError, match="Invalid timestamp"):
        world.judge(world.signed(world.anna, world.ben), not_after=not_after)


# --- notes -----------------------------------------------------------------------------------------------------


def noted(reviewer: Reviewer, text: bytes = b"\nWatch the queue.\n", plan: bytes = PLAN) -> tuple[bytes, bytes]:
    notes = notes_header(sha256_bytes(plan)) + text
    return notes, reviewer.sign(notes, NOTES_NAMESPACE)


@pytest.mark.parametrize("namespace", [PLAN_NAMESPACE, NOTES_NAMESPACE])
def test_pass_with_notes(world: World, namespace: str) -> None:
    notes = noted(world.anna)
    judged = world.judge({"anna": world.anna.sign(PLAN, namespace), **world.signed(world.ben)}, notes={"anna": notes})
    assert judged.gate.status == GateStatus.PASS
    assert (judged.verdicts[0].verdict, judged.verdicts[0].notes) == ("PASS_WITH_NOTES", notes[0].decode())
    assert judged.verdicts[1].verdict == "PASS"
    assert "anna (PASS_WITH_NOTES, " in judged.gate.found


NOTES: dict[str, tuple[Callable[[World], tuple[bytes, bytes] | None], str]] = {
    "taken away": (lambda _: None, "approved with notes, but the notes are missing"),
    "changed": (lambda w: (noted(w.anna)[0] + b"!", noted(w.anna)[1]), "changed after they were signed"),
    "of another reviewer": (lambda w: noted(w.ben), "signed by another key"),
    "on another plan": (lambda w: noted(w.anna, plan=OTHER_PLAN), "for another plan"),
    "in the plan's namespace": (lambda w: (noted(w.anna)[0], w.anna.sign(noted(w.anna)[0])), "signed in namespace"),
    "unsigned": (lambda w: (noted(w.anna)[0], b""), "not an SSH signature"),
    "not UTF-8": (lambda w: noted(w.anna, b"\xff"), "not UTF-8"),
}


@pytest.mark.parametrize("case", NOTES)
def test_notes_that_do_not_verify(world: World, case: str) -> None:
    given, words = NOTES[case]
    notes = given(world)
    signature = world.anna.sign(PLAN, NOTES_NAMESPACE)
    (approval,) = world.judge({"anna": signature}, notes={"anna": notes} if notes else {}).verdicts
    assert approval.status is SignatureStatus.NOTES
    assert words in approval.message


def test_signed_notes_are_no_approval(world: World) -> None:
    (approval,) = world.judge({"anna": noted(world.anna)[1]}).verdicts
    assert approval.status is SignatureStatus.OTHER_PLAN


# --- a rollback ------------------------------------------------------------------------------------------------

REQUEST = rollback_request("alpha_prod_20260516T031200Z", "5" * 64, AcceptedLoss(3))


def judge_rollback(world: World, signatures: dict[str, bytes], **policy: Any) -> Approvals:
    anchor = replace(world.anchor, **policy)
    return evaluate_rollback_approvals(REQUEST, signatures, anchor, AUTHOR, at(NOW))


def signed_rollback(*reviewers: Reviewer, request: bytes = REQUEST) -> dict[str, bytes]:
    return {one.name: one.sign(request, ROLLBACK_NAMESPACE) for one in reviewers}


def test_two_reviewers_may_have_an_execution_rolled_back(world: World) -> None:
    judged = judge_rollback(world, signed_rollback(world.anna, world.ben))
    assert judged.gate.status == GateStatus.PASS
    assert sha256_bytes(REQUEST) in judged.gate.expected


def test_an_approval_of_the_plan_is_none_of_its_rollback(world: World) -> None:
    judged = judge_rollback(world, world.signed(world.anna, world.ben))
    assert {one.status for one in judged.verdicts} == {SignatureStatus.OTHER_NAMESPACE}
    assert judged.gate.status == GateStatus.FAIL
    (other_way,) = world.judge({"anna": world.anna.sign(PLAN, ROLLBACK_NAMESPACE)}).verdicts
    assert other_way.status is SignatureStatus.OTHER_NAMESPACE


@pytest.mark.parametrize(
    "arguments",
    [
        ("alpha_prod_20260516T031201Z", "5" * 64, AcceptedLoss(3)),
        ("alpha_prod_20260516T031200Z", "6" * 64, AcceptedLoss(3)),
        ("alpha_prod_20260516T031200Z", "5" * 64, AcceptedLoss(4)),
        ("alpha_prod_20260516T031200Z", "5" * 64, AcceptedLoss(at_most=3)),
    ],
)
@pytest.mark.fault("rollback-refused")
def test_a_rollback_of_something_else_is_not_approved(world: World, arguments: tuple[str, str, AcceptedLoss]) -> None:
    other = rollback_request(*arguments)
    judged = judge_rollback(world, signed_rollback(world.anna, world.ben, request=other))
    assert {one.status for one in judged.verdicts} == {SignatureStatus.OTHER_PLAN}
    assert "not a signature over this rollback request" in judged.gate.found


def test_the_rules_of_a_rollback_are_those_of_a_plan(world: World) -> None:
    judged = judge_rollback(
        world, signed_rollback(world.anna, world.huyen, world.eve) | {"x": signed_rollback(world.anna)["anna"]}
    )
    assert [one.status for one in judged.verdicts] == [
        SignatureStatus.VALID,
        SignatureStatus.STRANGER,
        SignatureStatus.AUTHOR,
        SignatureStatus.SAME_KEY,
    ]
    assert judged.gate.status == GateStatus.FAIL


def test_the_refused_rollback_tells_the_command_that_approves_it(world: World, tmp_path: Path) -> None:
    gate = judge_rollback(world, {}).gate
    assert "have 2 more of the reviewers" in gate.next_step
    command = gate.next_step.partition("sign it: ")[2].replace("KEY", str(world.anna.key)).replace("NAME", "anna")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, capture_output=True)
    signature = (tmp_path / "anna.sig").read_bytes()
    assert judge_rollback(world, {"anna": signature}, threshold=1).gate.status == GateStatus.PASS


# --- the register ----------------------------------------------------------------------------------------------


def test_without_a_register_nothing_is_enforced_and_nothing_passes(world: World) -> None:
    judged = world.judge(world.signed(world.anna, world.ben), anchor=None)
    path = f"/etc/phasegate/reviewers/{SYSTEM_IDENTIFIER}"
    assert judged.gate.status == GateStatus.NOT_ENFORCED
    assert judged.gate.found == f"no reviewers are registered for this cluster ({path})"
    assert {one.status for one in judged.verdicts} == {SignatureStatus.NOT_JUDGED}
    assert all(one.fingerprint and not one.verdict for one in judged.verdicts)


def places(*directories: Path) -> list[tuple[str, str]]:
    return [(str(one), "phasegate/reviewers") for one in directories]


def find(*directories: Path) -> Anchor | None:
    return _first_anchor(SYSTEM_IDENTIFIER, places(*directories))


@pytest.fixture
def bases(tmp_path: Path) -> tuple[Path, Path]:
    system, user = tmp_path / "etc", tmp_path / "home"
    for one in (system, user):
        one.mkdir(mode=0o755)
    return system, user


def registered(base: Path, lines: str, **files: Any) -> Path:
    directory = register(base / "phasegate" / "reviewers" / SYSTEM_IDENTIFIER, lines, **files)
    for one in (directory.parent, directory.parent.parent):
        one.chmod(0o755)
    return directory


def test_the_system_decides_before_the_user(world: World, bases: tuple[Path, Path]) -> None:
    system, user = bases
    assert find(system, user) is None
    registered(user, world.eve.line(), policy={"threshold": 1})
    found = find(system, user)
    assert found is not None
    assert (found.threshold, found.author_may_approve, found.rollback) == (1, False, "approval")
    expected = registered(system, world.anna.line())
    found = find(system, user)
    assert found is not None
    assert (found.path, found.threshold) == (str(expected), 2)


def test_the_home_directory_is_not_what_a_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    directory = tmp_path / ".config" / "phasegate" / "reviewers" / SYSTEM_IDENTIFIER
    register(directory, world.eve.line(), policy={"threshold": 1})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_anchor(SYSTEM_IDENTIFIER) is None


@pytest.mark.parametrize("text", ["", "../7384512999999999999", "73845129/..", "x", "7384512999999999999\n"])
def test_only_a_system_identifier_finds_a_register(text: str) -> None:
    with pytest.raises(PhaseGateError, match="system identifier of the cluster is invalid"):
        find_anchor(text)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_directory_that_others_can_write(world: World, bases: tuple[Path, Path], level: int, mode: int) -> None:
    directory = registered(bases[0], world.anna.line())
    [directory, *directory.parents][level].chmod(mode)
    registered(bases[1], world.anna.line())
    with pytest.raises(PhaseGateError, match=f"writable by its owner only\n  found: mode {mode:04o}"):
        find(*bases)


@pytest.mark.parametrize("name", ["allowed_signers", "revoked_keys", "policy.json"])
def test_a_file_that_others_can_write(world: World, bases: tuple[Path, Path], name: str) -> None:
    directory = registered(bases[0], world.anna.line(), policy={}, revoked="")
    (directory / name).chmod(0o664)
    with pytest.raises(PhaseGateError, match=f"{name}\n.*writable by its owner only"):
        find(*bases)


@pytest.mark.parametrize("name", ["allowed_signers", "revoked_keys", "policy.json"])
def test_a_file_that_is_a_link(world: World, bases: tuple[Path, Path], name: str) -> None:
    directory = registered(bases[0], world.anna.line(), policy={}, revoked="")
    (directory / name).rename(directory / "elsewhere")
    (directory / name).symlink_to("elsewhere")
    with pytest.raises(PhaseGateError, match="a symbolic link"):
        find(*bases)


def test_a_file_that_is_none(world: World, bases: tuple[Path, Path]) -> None:
    directory = registered(bases[0], world.anna.line())
    os.mkfifo(directory / "policy.json", 0o644)
    with pytest.raises(PhaseGateError, match="a regular file"):
        find(*bases)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_directory_that_is_a_link(world: World, bases: tuple[Path, Path], level: int) -> None:
    directory = registered(bases[0], world.anna.line())
    link = [directory, *directory.parents][level]
    link.rename(link.with_name("elsewhere"))
    link.symlink_to("elsewhere")
    with pytest.raises(PhaseGateError, match="a symbolic link"):
        find(*bases)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", ["", "allowed_signers", "revoked_keys", "policy.json"])
def test_another_owner(world: World, bases: tuple[Path, Path], name: str) -> None:
    directory = registered(bases[0], world.anna.line(), policy={}, revoked="")
    os.chown(directory / name, 65534, -1)
    with pytest.raises(PhaseGateError, match="owned by root or by the user of this run"):
        find(*bases)


def test_a_register_without_reviewers_is_not_no_register(world: World, bases: tuple[Path, Path]) -> None:
    directory = registered(bases[0], world.anna.line())
    (directory / "allowed_signers").unlink()
    with pytest.raises(PhaseGateError, match="although their directory exists"):
        find(*bases)


def test_a_register_by_its_path(world: World, tmp_path: Path) -> None:
    anchor = read_anchor(str(register(tmp_path / "here", world.anna.line())))
    assert [one.principals for one in anchor.signers] == [("anna",)]
    with pytest.raises(PhaseGateError, match="does not exist"):
        read_anchor(str(tmp_path / "there"))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ([], "a mapping"),
        ({"treshold": 1}, "only the keys"),
        ({"threshold": 0}, "at least 1"),
        ({"threshold": True}, "at least 1"),
        ({"threshold": "2"}, "at least 1"),
        ({"author_may_approve": "no"}, "true or false"),
        ({"rollback": "never"}, "approval or confirmation"),
    ],
)
def test_a_faulty_policy(world: World, tmp_path: Path, policy: Any, words: str) -> None:
    with pytest.raises(PhaseGateError, match=words):
        read_anchor(str(register(tmp_path, world.anna.line(), policy)))


def test_a_policy_that_is_not_json(world: World, tmp_path: Path) -> None:
    register(tmp_path, world.anna.line(), {})
    (tmp_path / "policy.json").write_text("threshold: 1", encoding="utf-8")
    with pytest.raises(PhaseGateError, match="JSON"):
        read_anchor(str(tmp_path))


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJEO0Wa/UNzPgBS9o27/qKdMTczwAwnLAUswUGFxSUEO"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "no reviewer"),
        ("# anna", "no reviewer"),
        (KEY, "name .options. key-type public-key"),
        ("anna ssh-ed25519 AAAA", "name .options. key-type public-key"),
        (f"anna ssh-rsa {KEY.split()[1]}", "name .options. key-type public-key"),
        (f"* {KEY}", "no pattern"),
        (f"*@example.com {KEY}", "no pattern"),
        (f"anna,!ben {KEY}", "no pattern"),
        (f"ann\u0430 {KEY}", "plain names"),
        (f"anna cert-authority {KEY}", "options:"),
        (f'anna valid-after="20260101",verify-required="x" {KEY}', "options:"),
        (f"anna namespaces=git {KEY}", "options:"),
        (f'anna valid-before="2026-01-01" {KEY}', "a time as"),
        (f'anna valid-before="20261301" {KEY}', "a time as"),
    ],
)
def test_a_line_that_is_not_accepted(line: str, words: str) -> None:
    with pytest.raises(PhaseGateError, match=words):
        parse_allowed_signers(line.encode())


def test_the_options_of_a_line() -> None:
    (signer,) = parse_allowed_signers(
        f'anna,a@b.c namespaces="plan@phasegate.incomex,git",valid-after="20260101",VALID-BEFORE="202701012359Z" {KEY} ssh-key of anna\n'.encode()
    )
    assert signer.principals == ("anna", "a@b.c")
    assert signer.namespaces == ("plan@phasegate.incomex", "git")
    assert (signer.valid_after, signer.valid_before) == (at("2026-01-01T00:00:00Z"), at("2027-01-01T23:59:00Z"))


# --- the program -----------------------------------------------------------------------------------------------


def test_without_ssh_keygen(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature.PROGRAM_PATH", str(tmp_path)
    )
    with pytest.raises(PhaseGateError, match="ssh-keygen is missing"):
        world.judge(world.signed(world.anna))


def test_an_ssh_keygen_of_before_signatures(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh-keygen"
    program.write_text(
        "#!/bin/sh\necho 'unknown option -- Y' >&2\necho 'usage: ssh-keygen' >&2\nexit 1\n", encoding="utf-8"
    )
    program.chmod(0o755)
    signatures = world.signed(world.anna)
    monkeypatch.setattr(
        "ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature.PROGRAM_PATH", str(tmp_path)
    )
    with pytest.raises(PhaseGateError, match="too old"):
        world.judge(signatures)


def test_a_program_of_that_name_on_the_path_is_not_asked(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signatures = world.signed(world.anna, world.eve)
    program = tmp_path / "ssh-keygen"
    program.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert world.judge(signatures).gate.status == GateStatus.FAIL


def test_a_key_with_a_passphrase_signs_by_an_agent_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = Reviewer.create(tmp_path, "locked", passphrase="open sesame")
    with asking("open sesame") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(PhaseGateError, match="found: a passphrase, and no agent that holds the key"):
            sign(b"data", str(locked.key), "namespace")
        assert not Path(variables["SSH_ASKPASS"]).with_name("asked").exists()
    with agent(locked, "open sesame") as variables:
        monkeypatch.setenv("SSH_AUTH_SOCK", variables["SSH_AUTH_SOCK"])
        for path in (locked.key, f"{locked.key}.pub"):
            assert holds(sign(b"data", str(path), "namespace"), "namespace", b"data")


def test_an_agent_that_does_not_answer_is_told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature._PATIENCE", 0.3)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind("agent")
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", "agent")
        with pytest.raises(PhaseGateError, match="found: no answer of the agent"):
            sign(b"data", str(world.anna.key), "namespace")


def test_the_judgement_as_json(world: World) -> None:
    judged = world.judge(world.signed(world.anna, world.eve)).as_dict()
    assert json.loads(json.dumps(judged)) == judged
    assert [one["status"] for one in judged["verdicts"]] == ["valid", "stranger"]
