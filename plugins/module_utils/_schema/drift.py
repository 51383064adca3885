# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compare a schema with its recorded baseline, and report the result to people and CI systems.

A *baseline* is a snapshot file, or the schema at the end of a sealed run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import (
    DRIFT,
    Ending,
    drift_sentence,
    verdict_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.seal import require_as_sealed
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Diff, diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.drift_junit import JUnitSuite, count_changes
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.facts import decode_fact, encode_fact, kind_of
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.policy import (
    POLICY_RULES,
    PolicyVerdict,
    TextServer,
    judge_changes,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import SECRETS
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

BASELINE = "baseline.jsonl.gz"

LEFT_BEHIND = "schema/after.jsonl.gz"


def load_baseline(path: str) -> Snapshot:
    """Return the facts of a snapshot file, or of a sealed bundle's moment after. Raises ``PhaseGateError``, ``OSError``."""
    if os.path.isdir(path):
        require_as_sealed(RunDirectory(path), LEFT_BEHIND)
        return Snapshot.load(os.path.join(path, LEFT_BEHIND))
    if not os.path.isfile(path):
        raise PhaseGateError(
            "The baseline is missing.",
            expected=f"{path}: a snapshot file, or the directory of a sealed run",
            found="no such file or directory",
            next_step="correct the path, or omit baseline: then the first run stores one",
        )
    return Snapshot.load(path)


def require_fingerprint(wanted: str | None, found: Snapshot, whose: str) -> None:
    """Raise ``PhaseGateError`` unless a baseline has the fingerprint that was recorded elsewhere, if one was."""
    if wanted and wanted != found.fingerprint:
        raise PhaseGateError(
            "The baseline differs from the expected one.",
            expected=f"fingerprint {wanted}",
            found=f"fingerprint {found.fingerprint} of {whose}",
            next_step="find out who stored another baseline, or correct the expected fingerprint",
        )


def require_sections(baseline: Snapshot, wanted: Sequence[str]) -> None:
    """Raise ``PhaseGateError`` unless a baseline covers exactly the facts to compare."""
    if set(baseline.header.sections) != set(wanted):
        raise PhaseGateError(
            "The baseline covers different object types (option cluster).",
            expected=f"facts of {', '.join(wanted)}",
            found=f"facts of {', '.join(baseline.header.sections)}",
            next_step="set cluster as it was when the baseline was stored, or store it again (renew)",
        )


@dataclass(frozen=True)
class Drift:
    """A live schema against its baseline.

    ``unseen`` lists what one of the two could not read, and so was not compared; ``remark`` says why the server could not
    compare texts.
    """

    baseline: Snapshot
    live: Snapshot
    changes: Diff
    verdict: PolicyVerdict
    rule: str
    unseen: tuple[str, ...]
    remark: str = ""

    @property
    def ending(self) -> Ending:
        """Return how the comparison ended."""
        if self.verdict.ok:
            return Ending.PERMITTED if self.changes else Ending.SUCCESS
        return Ending.DRIFTED

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {
            "outcome": verdict_of(DRIFT, self.ending).outcome.value,
            "database": self.live.header.database,
            "server_version": self.live.header.server_version,
            "baseline_fingerprint": self.baseline.fingerprint,
            "fingerprint": self.live.fingerprint,
            "drifted": not self.verdict.ok,
            "changes": [
                {**change.as_dict(), "permitted": change not in self.verdict.offending}
                for change in self.changes.changes
            ],
            "unseen": list(self.unseen),
        }

    def message(self, baseline: str, next_step: str) -> str:
        """Return the result for people; ``baseline`` is its path. Drift lists every offending change and a next step."""
        was, now = self.baseline.header, self.live.header
        compared = f"{baseline}{'' if was.database == now.database else f' of database {was.database}'}"
        secrets = [f"    not compared: {what}" for what in self.unseen]
        said = drift_sentence(self.ending, now.database, compared)
        if self.verdict.ok:
            lines = [f"{said}, fingerprint {self.live.fingerprint}."]
            return "\n".join([*lines, *(f"    {change.text()}" for change in self.changes.changes), *secrets])
        offending = [f"    {change.severity.value}: {change.text()}" for change in self.verdict.offending]
        return str(
            PhaseGateError(
                f"{said}: {count_changes(len(offending))} not permitted.",
                expected=f"{self.rule} since {compared}, fingerprint {self.baseline.fingerprint}",
                found="\n".join(
                    [
                        f"fingerprint {self.live.fingerprint}",
                        *offending,
                        *secrets,
                        *([self.remark] if self.remark else []),
                    ]
                ),
                next_step=next_step,
            )
        )

    def junit(self) -> str:
        """Return a JUnit document: one test case a schema, one for what is in no schema; what was not compared is skipped."""
        names = sorted({*self.baseline.schema_digests(), *self.live.schema_digests(), ""})
        suite = JUnitSuite(self.live.header.database)
        for name in names:
            wrong = [change for change in self.verdict.offending if change.schema == name]
            permitted = [c for c in self.changes.changes if c.schema == name and c not in self.verdict.offending]
            suite.case(f"schema {name}" if name else "objects in no schema", wrong, permitted)
        for what in self.unseen:
            suite.skipped(what)
        return suite.document(
            {
                "outcome": verdict_of(DRIFT, self.ending).outcome.value,
                "server_version": self.live.header.server_version,
                "baseline_fingerprint": self.baseline.fingerprint,
                "fingerprint": self.live.fingerprint,
            }
        )


def compare_with_baseline(baseline: Snapshot, live: Snapshot, policy: Mapping[str, Any], server: TextServer) -> Drift:
    """Compare what both could read, and evaluate it by a policy (see ``_schema.policy``).

    Where it does not pass, ``server`` prints differing texts again: one expression may be printed in two ways.
    """
    unseen = tuple(s.what for s in SECRETS if s.what in (*baseline.header.unseen, *live.header.unseen))
    before, after = _without(baseline, unseen), _without(live, unseen)
    changes, verdict = judge_changes(diff(before, after), policy, server)
    return Drift(baseline, live, changes, verdict, POLICY_RULES[policy["policy"]], unseen, server.explain())


def _without(snapshot: Snapshot, unseen: Iterable[str]) -> Snapshot:
    """Return a snapshot without the values of these secrets; itself when it has none of their kinds."""
    hidden = {secret.kind: secret.attribute for secret in SECRETS if secret.what in unseen}
    concerned = [line for line in snapshot.facts if kind_of(line) in hidden]
    if not concerned:
        return snapshot
    facts = {line: locator for line, locator in snapshot.facts.items() if kind_of(line) not in hidden}
    for line in concerned:
        fact = decode_fact(line)
        facts[encode_fact(fact._replace(attributes={**fact.attributes, hidden[fact.kind]: None}))] = snapshot.facts[
            line
        ]
    return Snapshot(snapshot.header, facts)
