# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a run: its seal, and the seal's signature: SSH, over SHA256SUMS, in a file beside it."""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import (
    SEAL,
    SIGNATURE,
    RunDirectory,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import FAILED, RunFailed, SealBegun
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import since_continued
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import verify_bundle
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    SMALL,
    read_file,
    read_found,
    read_json,
    sha256_bytes,
    sha256_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.build import build_report
from ansible_collections.incomex.phasegate.plugins.module_utils._report.evidence import read_evidence
from ansible_collections.incomex.phasegate.plugins.module_utils._report.rendering import REPORTS, render_report
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_text import (
    driver_log,
    stop_lines,
    summary,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.time_stamp import stamp_seal
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.allowed_signers import parse_allowed_signers
from ansible_collections.incomex.phasegate.plugins.module_utils._ssh.signature import parse_signature, sign


def seal_run(artefacts: RunDirectory, reason: str) -> dict[str, Any]:
    """Build the report, seal the directory and return the report; a sealed one is only read.

    ``reason`` is journaled as the run's failure when no step recorded one.
    """
    # a backup in the background has to end first: nothing may come into a sealed directory
    with artefacts.busy(), artefacts.at_work():
        return _write_reports(artefacts, reason)


def _write_reports(artefacts: RunDirectory, reason: str) -> dict[str, Any]:
    path = artefacts.plan_path
    plan = None
    if os.path.lexists(path):
        plan = read_json(path)
    entries = artefacts.journal.entries()
    if artefacts.sealed:
        return _report(artefacts, plan, entries, audit.parse_sums(read_found(artefacts.file(SEAL)))[0])
    if reason and not any(entry.event == FAILED for entry in since_continued(entries)):
        RunFailed(reason).write(artefacts.journal)
        entries = artefacts.journal.entries()
    # before the sums, which the journal records: of a file that is written later it has no digest
    artefacts.write(audit.LOG, driver_log(entries).encode("utf-8"))
    artefacts.write(audit.AUDITOR, audit.source())
    sums = artefacts.sums()
    reported = _report(artefacts, plan, entries, sums)
    SealBegun(
        os.path.basename(os.path.realpath(artefacts.path)),
        artefacts.directories(),
        {
            item: digest
            for item, digest in sums.items()
            if not audit.written_last(item) or item in (audit.LOG, audit.AUDITOR)
        },
        reported["outcome"],
        reported["title"],
        reported["warnings"],
    ).write(artefacts.journal)
    entries = artefacts.journal.entries()
    sums[audit.JOURNAL] = sha256_file(artefacts.file(audit.JOURNAL))
    report = _report(artefacts, plan, entries, sums)
    for item, text in render_report(report).items():
        sums[item] = artefacts.write(item, text.encode("utf-8"))
    artefacts.seal(sums)
    return report


def _report(
    artefacts: RunDirectory, plan: Mapping[str, Any] | None, entries: Sequence[Entry], sums: Mapping[str, str]
) -> dict[str, Any]:
    """Build the report. Those of a seal that was interrupted are written again, so they are not in it."""
    sums = {item: digest for item, digest in sums.items() if item not in REPORTS}
    return build_report(plan, entries, os.path.basename(artefacts.path), read_evidence(artefacts, plan, entries, sums))


#: Namespace of the signature that shows that a key can sign; it is valid for nothing else.
TRIAL_NAMESPACE = "trial@phasegate.incomex"

UNSIGNED = audit.UNSIGNED


def signature_of(artefacts: RunDirectory) -> str:
    """Return the fingerprint of the key that a seal claims as its signer, unverified, or UNSIGNED."""
    signature = parse_signature(read_file(artefacts.file(SIGNATURE), SMALL) or b"")
    return signature.fingerprint if signature else UNSIGNED


def require_key(key: str) -> None:
    """Raise ``PhaseGateError`` unless a key can sign: better now than when a change is committed and cannot be sealed."""
    try:
        sign(b"", key, TRIAL_NAMESPACE)
    except PhaseGateError as error:
        raise PhaseGateError(
            f"The seal key cannot sign, so the run was not opened: {error.what}",
            expected=error.expected,
            found=error.found,
            next_step=error.next_step + " (phasegate_seal_key), then run again; nothing was changed",
        ) from None


def sign_seal(artefacts: RunDirectory, key: str) -> None:
    """Sign the seal of a bundle, and a statement about it, once. ``key`` is a path on this host. Raises ``PhaseGateError``."""
    if os.path.lexists(artefacts.file(SIGNATURE)):
        return
    try:
        statement = _statement(artefacts, key)
        signature = sign(read_file(artefacts.file(SEAL)) or b"", key, audit.SEAL_NAMESPACE)
    except PhaseGateError as error:
        raise PhaseGateError(
            f"{artefacts.path} is sealed, but its seal is {UNSIGNED}: {error.what}",
            expected=error.expected,
            found=error.found,
            next_step="correct the key; then run module run_seal on this directory again, which signs it",
        ) from None
    artefacts.write(audit.STATEMENT, statement)
    artefacts.write(SIGNATURE, signature)


def _statement(artefacts: RunDirectory, key: str) -> bytes:
    """Return the in-toto Statement about a sealed bundle in a DSSE envelope. Raises ``PhaseGateError``."""
    seal = read_found(artefacts.file(SEAL))
    sums, _findings = audit.parse_sums(seal)
    about = audit.statement_of(sums, sha256_bytes(seal), read_json(artefacts.file("report.json")))
    body = json.dumps(about, ensure_ascii=False, indent=1).encode("utf-8")
    signature = sign(audit.pae(audit.PAYLOAD_TYPE, body), key, audit.STATEMENT_NAMESPACE)
    parsed = parse_signature(signature)
    envelope = {
        "payloadType": audit.PAYLOAD_TYPE,
        "payload": base64.b64encode(body).decode("ascii"),
        "signatures": [
            {
                "keyid": parsed.fingerprint if parsed else "",
                "sig": base64.b64encode(audit.unarmored(signature)).decode("ascii"),
            }
        ],
    }
    return json.dumps(envelope, indent=1).encode("ascii") + b"\n"


def seal_and_sign(
    artefacts: RunDirectory, reason: str, key: str | None, authority: str | None = None, *, check_mode: bool = False
) -> dict[str, Any]:
    """Seal a run, sign its seal when there is a ``key``, and return the result; ``reason`` as for ``sealing.seal_run``.

    With ``authority``, the URL of one, its time-stamp is asked for. In check mode the directory is sealed already, and neither
    signed nor stamped.
    """
    changed = not artefacts.sealed
    report = seal_run(artefacts, reason)
    unstamped = ""
    # a bundle that was changed since the seal gets neither
    if (key or authority) and (changed or not verify_bundle(artefacts.path)):
        changed = changed or bool(key and signature_of(artefacts) == UNSIGNED)
        changed = changed or bool(authority and not os.path.lexists(artefacts.file(audit.TIMESTAMP)))
        if key and not check_mode:
            sign_seal(artefacts, key)
        if authority and not check_mode:
            unstamped = stamp_seal(artefacts, authority)
    return {
        "changed": changed,
        "run_directory": artefacts.path,
        "outcome": report["outcome"],
        # Ansible shows a result's `warnings` by itself
        "remarks": report["warnings"],
        "seconds": report["seconds"],
        "summary": summary(report).splitlines(),
        "stop": stop_lines(report),
        "report": artefacts.file("report.md"),
        **({"next_commands": report["next_commands"]} if report.get("next_commands") else {}),
        "seal": sha256_file(artefacts.file(SEAL)),
        "signature": signature_of(artefacts),
        **({"unstamped": unstamped} if unstamped else {}),
    }


def signer_findings(
    artefacts: RunDirectory, known: bytes, allowed_signers: str, revoked: bytes | None = None
) -> Iterator[str]:
    """Yield the reasons why the seal is not signed by a signer in a list, the most specific first.

    ``known`` is the list, in the format of ssh-keygen(1), ``allowed_signers`` its path; ``revoked`` are keys. Raises
    ``PhaseGateError``, ``OSError``.
    """
    parse_allowed_signers(known, allowed_signers)
    try:
        yield from audit.seal_signature_findings(
            audit.Tree(artefacts.path), audit.Signers(known, allowed_signers, revoked=revoked)
        )
    except audit.NotCheckedError as error:
        raise PhaseGateError(
            "The signature of a seal cannot be verified on this host.",
            expected="ssh-keygen of OpenSSH 8.7 or newer",
            found=str(error),
            next_step="install the OpenSSH client (package openssh-client or openssh)",
        ) from None
